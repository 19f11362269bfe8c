package compile

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/contrail-mesos/contrail/internal/model"
)

func network(name string, number int64) *model.VirtualNetwork {
	return &model.VirtualNetwork{
		Meta: model.Meta{
			UUID: model.DerivedUUID("network", name), FQName: []string{"default-domain", "p", name},
			ParentType: "project", ParentUUID: model.DerivedUUID("project"), DisplayName: name,
			Perms2: model.NewPerms2(""),
		},
		VirtualNetworkNetworkID: &number,
	}
}

func targets(list ...string) *model.RouteTargetList { return &model.RouteTargetList{RouteTarget: list} }

func configuration(objects ...model.Object) *model.Graph {
	g := model.NewGraph()
	g.Reset(model.Batch{Position: model.Position{Epoch: 1, Revision: 1}, Objects: objects})
	return g
}

func TestInstance(t *testing.T) {
	plain := network("plain", 1)
	shared := network("shared", 2)
	shared.RouteTargetList = targets("target:1:2", "target:64512:8000002")
	shared.ImportRouteTargetList = targets("target:1:3", "target:1:2")
	shared.ExportRouteTargetList = targets("target:1:4")
	without := network("without", 0)
	system := &model.GlobalSystemConfig{Meta: model.Meta{UUID: model.NewUUID(), FQName: []string{"default-global-system-config"}}}
	for name, c := range map[string]struct {
		asn            *int64
		network        *model.VirtualNetwork
		number         uint32
		imports, exprt []Target
	}{
		"own target":       {nil, plain, 1, []Target{"target:64512:8000001"}, []Target{"target:64512:8000001"}},
		"other system":     {new(int64(65000)), plain, 1, []Target{"target:65000:8000001"}, []Target{"target:65000:8000001"}},
		"lists of targets": {nil, shared, 2, []Target{"target:1:2", "target:1:3", "target:64512:8000002"}, []Target{"target:1:2", "target:1:4", "target:64512:8000002"}},
		"no number":        {nil, without, 0, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := *system
			s.AutonomousSystem = c.asn
			configuration(plain, shared, without, &s).View(func(v *model.View) {
				got := InstanceOf(v, c.network.UUID)
				if (got != nil) != (c.number != 0) {
					t.Fatalf("found %v", got)
				}
				if got != nil && (got.Number != c.number || !slices.Equal(got.Import, c.imports) || !slices.Equal(got.Export, c.exprt)) {
					t.Errorf("got %+v", got)
				}
			})
		})
	}
}

func TestDerive(t *testing.T) {
	vn := network("blue", 7)
	vn.ImportRouteTargetList = targets("target:1:3")
	vn.ExportRouteTargetList = targets("target:1:4")
	stored := &model.RouteTarget{Meta: model.Meta{UUID: model.NewUUID(), FQName: []string{"target:1:3"}}}
	configuration(vn, stored).View(func(v *model.View) {
		d, ok := ViewsOf(v).Of(vn.UUID)
		if !ok {
			t.Fatal("nothing derived")
		}
		if want := []string{"default-domain", "p", "blue", "blue"}; !slices.Equal(d.Instance.FQName, want) || d.Instance.ParentUUID != vn.UUID {
			t.Errorf("instance %v under %s", d.Instance.FQName, d.Instance.ParentUUID)
		}
		attrs := map[string]string{}
		for _, r := range d.References {
			if r.From != model.EntityOf(d.Instance) {
				t.Errorf("reference from %s", r.From)
			}
			attrs[r.To.UUID] = string(r.Attr)
		}
		want := map[string]string{
			stored.UUID:                        `{"import_export":"import"}`,
			TargetUUID("target:1:4"):           `{"import_export":"export"}`,
			TargetUUID("target:64512:8000007"): `{}`,
		}
		if diff := cmp.Diff(want, attrs); diff != "" {
			t.Error(diff)
		}
		if len(d.Targets) != 2 {
			t.Errorf("%d derived targets, want the two that are not stored", len(d.Targets))
		}
	})
}

// TestStoredInstance: an instance that is stored under the derived one's name
// stands for it.
func TestStoredInstance(t *testing.T) {
	vn := network("blue", 1)
	stored := &model.RoutingInstance{Meta: model.Meta{UUID: model.NewUUID(), FQName: append(slices.Clone(vn.FQName), "blue")}}
	configuration(vn).View(func(v *model.View) {
		if d, ok := ViewsOf(v).Of(vn.UUID); !ok || d.Instance.Name() != "blue" {
			t.Errorf("derived %v, %t", d.Instance, ok)
		}
	})
	configuration(vn, stored).View(func(v *model.View) {
		if len(views(v)) != 0 {
			t.Error("derived beside the stored one")
		}
	})
}

// views are the objects of all networks, sorted by the networks' UUIDs.
func views(v *model.View) []Derived {
	var all []Derived
	w := ViewsOf(v)
	for _, id := range networkIDs(v) {
		if d, ok := w.Of(id); ok {
			all = append(all, d)
		}
	}
	return all
}

func networkIDs(v *model.View) []string {
	var list []string
	for s := range v.AllStored(model.KindVirtualNetwork) {
		list = append(list, s.UUID)
	}
	slices.Sort(list)
	return list
}

// drawNetworks draws networks with numbers of their own and targets from a
// small set, so that some are shared.
func drawNetworks(t *rapid.T) []*model.VirtualNetwork {
	list := rapid.SliceOfN(rapid.StringMatching(`target:1:[1-5]`), 0, 3)
	var networks []*model.VirtualNetwork
	for i := range rapid.IntRange(1, 8).Draw(t, "networks") {
		vn := network(fmt.Sprintf("n%d", i), int64(i+1))
		vn.RouteTargetList = targets(list.Draw(t, "both")...)
		vn.ImportRouteTargetList = targets(list.Draw(t, "import")...)
		vn.ExportRouteTargetList = targets(list.Draw(t, "export")...)
		networks = append(networks, vn)
	}
	return networks
}

func objects(networks []*model.VirtualNetwork) []model.Object {
	var list []model.Object
	for _, n := range networks {
		list = append(list, n)
	}
	return list
}

// TestOnlyTheGraphMatters: whatever way the graph came to be, equal graphs
// have equal results.
func TestOnlyTheGraphMatters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		networks := drawNetworks(t)
		at := func(n uint64) model.Position { return model.Position{Epoch: 1, Revision: n} }
		g := configuration(network("gone", 99), network("n0", 50))
		shuffled := rapid.Permutation(objects(networks)).Draw(t, "order")
		for i, o := range shuffled {
			g.Apply(model.Batch{Position: at(uint64(i + 2)), Objects: []model.Object{o}})
		}
		g.Apply(model.Batch{Position: at(100), DeleteObjects: []model.Entity{model.EntityOf(network("gone", 0))}})
		var want, got []Derived
		configuration(objects(networks)...).View(func(v *model.View) { want = views(v) })
		g.View(func(v *model.View) { got = views(v) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestNothingSharedWithoutCommonTarget: a network reaches into another only by
// a target that a user named in both.
func TestNothingSharedWithoutCommonTarget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		networks := drawNetworks(t)
		configuration(objects(networks)...).View(func(v *model.View) {
			for _, a := range networks {
				for _, b := range networks {
					if a == b {
						continue
					}
					from := InstanceOf(v, a.UUID)
					to := InstanceOf(v, b.UUID)
					for _, target := range from.Export {
						if _, imported := slices.BinarySearch(to.Import, target); !imported {
							continue
						}
						inExport := slices.Contains(slices.Concat(listed(a.RouteTargetList), listed(a.ExportRouteTargetList)), target)
						inImport := slices.Contains(slices.Concat(listed(b.RouteTargetList), listed(b.ImportRouteTargetList)), target)
						if !inExport || !inImport {
							t.Fatalf("%s exports %s to %s, which no user asked for", from.Name, target, to.Name)
						}
					}
				}
			}
		})
	})
}

func TestIDsAreDistinct(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seen := map[string]bool{}
		configuration(objects(drawNetworks(t))...).View(func(v *model.View) {
			for _, d := range views(v) {
				if seen[d.Instance.UUID] {
					t.Fatalf("two instances have the id %s", d.Instance.UUID)
				}
				seen[d.Instance.UUID] = true
			}
		})
	})
}
