package compile

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/contrail-mesos/contrail/internal/model"
)

// instance makes a routing instance of a network, as a client does.
func (w *town) instance(vn *model.VirtualNetwork, name string) *model.RoutingInstance {
	o := &model.RoutingInstance{Meta: meta(model.KindRoutingInstance, vn.Name()+":"+name)}
	o.FQName = append(slices.Clone(vn.FQName), name)
	o.ParentType, o.ParentUUID = string(model.KindVirtualNetwork), vn.UUID
	w.put(o)
	return o
}

// view is a network's own instance, to refer to.
func viewOf(vn *model.VirtualNetwork) *model.RoutingInstance {
	return &model.RoutingInstance{Meta: model.Meta{UUID: InstanceUUID(vn.UUID), FQName: append(slices.Clone(vn.FQName), vn.Name())}}
}

func (w *town) target(name string) *model.RouteTarget {
	o := &model.RouteTarget{Meta: model.Meta{UUID: TargetUUID(Target(name)), FQName: []string{name}}}
	w.put(o)
	return o
}

// TestClientInstances: what references of instances make, of those that clients
// made and of the views that follow from networks.
func TestClientInstances(t *testing.T) {
	blue, red, far := "target:64512:8000001", "target:64512:8000002", "target:64512:8000003"
	text := func(i *Instance) string {
		if i == nil {
			return "nil"
		}
		return fmt.Sprintf("import %v, export %v", i.Import, i.Export)
	}
	for _, c := range []struct {
		name  string
		build func(w *town, blue, red, far *model.VirtualNetwork, own *model.RoutingInstance)
		// own is the client's instance of blue; OWN stands for its target.
		blue, red, far, own string
		problems            []string
	}{
		{
			"nothing but its own", func(*town, *model.VirtualNetwork, *model.VirtualNetwork, *model.VirtualNetwork, *model.RoutingInstance) {
			},
			fmt.Sprintf("import [%s], export [%s]", blue, blue), fmt.Sprintf("import [%s], export [%s]", red, red), fmt.Sprintf("import [%s], export [%s]", far, far),
			"import [OWN], export [OWN]", nil,
		},
		{
			"targets",
			func(w *town, _, _, _ *model.VirtualNetwork, own *model.RoutingInstance) {
				w.refer(own, w.target("target:1:1"), `{"import_export": "import"}`)
				w.refer(own, w.target("target:1:2"), `{"import_export": "export"}`)
				w.refer(own, w.target("target:1:3"), `{}`)
				w.refer(own, w.target("target:1:4"), "")
				w.refer(own, w.target(blue), `{"import_export": "import"}`)
				w.refer(own, w.target(red), "")
			},
			"", "", "",
			"import [target:1:1 target:1:3 target:1:4 OWN " + blue + "], export [target:1:2 target:1:3 target:1:4 OWN]",
			[]string{"routing-instance d:p:blue:own: route target " + red + " is one that networks get for their own, and is left out; refer to the routing-instance of that network instead"},
		},
		{
			"targets of a view",
			func(w *town, b, _, _ *model.VirtualNetwork, _ *model.RoutingInstance) {
				w.refer(viewOf(b), w.target("target:1:1"), `{"import_export": "import"}`)
				w.refer(viewOf(b), w.target("target:1:2"), "")
			},
			fmt.Sprintf("import [target:1:1 target:1:2 %s], export [target:1:2 %s]", blue, blue), "", "", "", nil,
		},
		{
			"connected, whoever refers",
			func(w *town, b, r, _ *model.VirtualNetwork, own *model.RoutingInstance) {
				w.refer(own, viewOf(r), `{"destination_instance": "d:p:red:red"}`)
				w.refer(viewOf(b), own, "")
			},
			fmt.Sprintf("import [OWN %s], export [%s]", blue, blue), fmt.Sprintf("import [OWN %s], export [%s]", red, red), "",
			fmt.Sprintf("import [OWN %s %s], export [OWN]", blue, red), nil,
		},
		{
			"not connected with another project that does not want it",
			func(w *town, _, _, f *model.VirtualNetwork, own *model.RoutingInstance) { w.refer(own, viewOf(f), "") },
			"", "", "", "",
			[]string{"routing-instance d:p:blue:own: it is not connected with d:other:far:far, which is of another project, until that refers to it as well"},
		},
		{
			"connected with another project that wants it",
			func(w *town, _, _, f *model.VirtualNetwork, own *model.RoutingInstance) {
				w.refer(own, viewOf(f), "")
				w.refer(viewOf(f), own, "")
			},
			"", "", fmt.Sprintf("import [OWN %s], export [%s]", far, far), fmt.Sprintf("import [OWN %s], export [OWN]", far), nil,
		},
		{
			"without a target that can be written", func(w *town, _, r, _ *model.VirtualNetwork, own *model.RoutingInstance) {
				w.put(&model.GlobalSystemConfig{Meta: model.Meta{UUID: model.DerivedUUID("system"), FQName: []string{globalSystemConfig}}, AutonomousSystem: new(int64(70000))})
				w.refer(own, viewOf(r), "")
			},
			"import [target:70000:8001], export [target:70000:8001]", "import [target:70000:8002], export [target:70000:8002]",
			"import [target:70000:8003], export [target:70000:8003]", "import [target:70000:8002], export []",
			nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &town{}
			b, r, f := w.network("blue", 1), w.network("red", 2), w.network("far", 3)
			f.FQName, f.ParentUUID = []string{"d", "other", "far"}, model.DerivedUUID("another project")
			own := w.instance(b, "own")
			c.build(w, b, r, f, own)
			w.view(func(v *model.View) {
				mine := fmt.Sprintf("target:64512:%d", 8_000_000+InstanceNumber(own.UUID))
				i := ClientInstanceOf(v, own.UUID)
				for _, x := range []struct {
					what string
					have *Instance
					want string
				}{{"blue", InstanceOf(v, b.UUID), c.blue}, {"red", InstanceOf(v, r.UUID), c.red}, {"far", InstanceOf(v, f.UUID), c.far}, {"own", i, c.own}} {
					if got := strings.ReplaceAll(text(x.have), mine, "OWN"); got != x.want && x.want != "" {
						t.Errorf("%s: %s, want %s", x.what, got, x.want)
					}
				}
				if i.Number != InstanceNumber(own.UUID) || i.Name != "d:p:blue:own" || i.Network != b.UUID || i.Owner() != own.UUID || i.Layer2 {
					t.Errorf("the instance is %+v", i)
				}
				e := Explain(v, b.UUID)
				if diff := cmp.Diff(c.problems, problemTexts(e.Problems)); diff != "" {
					t.Error(diff)
				}
				if len(e.Instances) != 1 || !slices.Equal(e.Instances[0].Import, i.Import) || !slices.Equal(e.Instances[0].Export, i.Export) {
					t.Errorf("explained as %+v", e.Instances)
				}
			})
		})
	}
}

func problemTexts(problems []Problem) []string {
	var list []string
	for _, p := range problems {
		list = append(list, fmt.Sprintf("%s %s: %s", p.About.Kind, p.About.Name, p.Text))
	}
	return list
}

// TestFabricInstance: it is a forwarding table, without a route target.
func TestFabricInstance(t *testing.T) {
	w := &town{}
	vn := w.network("ip-fabric", 1)
	vn.FQName = []string{"default-domain", "default-project", "ip-fabric"}
	fabric := w.instance(vn, "__default__")
	red := w.network("red", 2)
	w.refer(viewOf(red), fabric, "")
	w.view(func(v *model.View) {
		if i := ClientInstanceOf(v, fabric.UUID); i == nil || i.Name != fabricInstance || len(i.Export) != 0 || len(i.Import) != 0 || !i.Fabric {
			t.Errorf("the instance of the fabric is %+v", i)
		}
		if i := InstanceOf(v, red.UUID); !slices.Equal(i.Import, []Target{"target:64512:8000002"}) {
			t.Errorf("red is %+v", i)
		}
		want := "routing-instance d:p:red:red: it is not connected with " + fabricInstance + ": the table of the fabric has the routes that routers tell without labels, and no others"
		if e := Explain(v, red.UUID); !slices.Contains(problemTexts(e.Problems), want) {
			t.Errorf("problems are %v, want %s", problemTexts(e.Problems), want)
		}
	})
}

// TestOverlaidView: a reference that a client put on a view is not one of the
// view's own as well, and is found from its other end.
func TestOverlaidView(t *testing.T) {
	w := &town{}
	blue, red := w.network("blue", 1), w.network("red", 2)
	target := w.target("target:1:1")
	w.refer(viewOf(blue), target, `{"import_export": "import"}`)
	w.refer(viewOf(red), viewOf(blue), "")
	w.view(func(v *model.View) {
		d, _ := ViewsOf(v).Of(blue.UUID)
		var to []string
		for _, r := range d.References {
			to = append(to, r.To.UUID)
		}
		slices.Sort(to)
		want := []string{TargetUUID("target:64512:8000001"), TargetUUID("target:64512:8000002")}
		slices.Sort(want)
		if !slices.Equal(to, want) {
			t.Errorf("the view refers by itself to %v, want %v", to, want)
		}
		networks := []string{blue.UUID, red.UUID}
		slices.Sort(networks)
		for target, want := range map[Target][]string{"target:1:1": {blue.UUID}, "target:64512:8000001": networks, "target:64512:8000002": networks} {
			if got := Holders(v, target); !slices.Equal(got, want) {
				t.Errorf("%s is had by %v, want %v", target, got, want)
			}
		}
	})
}

// TestInterfacesOfClientInstance: which interfaces are in it, and why others are
// not.
func TestInterfacesOfClientInstance(t *testing.T) {
	w := &town{}
	blue, red := w.network("blue", 1), w.network("red", 2)
	own := w.instance(blue, "own")
	for name, c := range map[string]struct {
		in   *model.VirtualNetwork
		attr string
	}{
		"a": {blue, ""}, "b": {blue, `{"direction": "both", "vlan_tag": 0}`}, "c": {blue, `{"direction": "ingress"}`},
		"d": {blue, `{"direction": "both", "mpls_label": 16}`}, "e": {red, `{"direction": "both"}`},
	} {
		w.refer(w.port(name, c.in), own, c.attr)
	}
	w.view(func(v *model.View) {
		e := Explain(v, blue.UUID)
		if len(e.Instances) != 1 || e.Instances[0].Interfaces != 2 || len(e.Problems) != 3 {
			t.Errorf("explained as %+v, problems %v", e.Instances, problemTexts(e.Problems))
		}
		e.ShowOnly(false, func(o Origin) bool {
			return o.UUID != model.DerivedUUID(string(model.KindVirtualMachineInterface), "a")
		})
		if got := e.Instances[0].Interfaces; got != 1 {
			t.Errorf("who may not see one of two interfaces is told of %d", got)
		}
	})
}

// TestStaticRoutesOfInstances: static routes of an instance are its own, whether a
// client made it or it stands for that of the network; what cannot be is told.
func TestStaticRoutesOfInstances(t *testing.T) {
	blue := network("blue", 1)
	instance := func(name string, routes ...model.StaticRouteType) *model.RoutingInstance {
		return &model.RoutingInstance{
			Meta:               model.Meta{UUID: model.DerivedUUID("ri", name), FQName: append(slices.Clone(blue.FQName), name), ParentType: "virtual-network", ParentUUID: blue.UUID},
			StaticRouteEntries: &model.StaticRouteEntriesType{Route: routes},
		}
	}
	x := instance("x",
		model.StaticRouteType{Prefix: "192.0.2.1/24", NextHop: "10.0.0.9", Community: []string{"no-export"}, RouteTarget: []string{"target:1:2", "target:64512:8000007", "target:1:1"}},
		model.StaticRouteType{Prefix: "192.0.3.0/24", NextHop: "2001:db8::1"},
	)
	own := instance(blue.Name(), model.StaticRouteType{Prefix: "198.51.100.0/24", NextHop: "10.0.0.8"})
	g := configuration(blue, x, own)
	g.View(func(v *model.View) {
		i := ClientInstanceOf(v, x.UUID)
		want := []StaticRoute{{
			Prefix: netip.MustParsePrefix("192.0.2.0/24"), NextHop: netip.MustParseAddr("10.0.0.9"),
			Communities: []uint32{0xffffff01}, Targets: []Target{"target:1:1", "target:1:2"},
		}}
		if diff := cmp.Diff(want, i.Routes, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("routes of the client's instance: %s", diff)
		}
		if got := InstanceOf(v, blue.UUID).Routes; len(got) != 1 || got[0].Prefix.String() != "198.51.100.0/24" {
			t.Errorf("routes of the network's own are %+v", got)
		}
		e := Explain(v, blue.UUID)
		if len(e.Routes) != 2 {
			t.Errorf("explained are %+v", e.Routes)
		}
		var told []string
		for _, p := range e.Problems {
			told = append(told, p.Text)
		}
		if len(told) != 2 || !strings.Contains(told[0], "target:64512:8000007") || !strings.Contains(told[1], `next_hop "2001:db8::1"`) {
			t.Errorf("problems are %q", told)
		}
	})
}
