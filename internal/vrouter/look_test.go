package vrouter

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/contrail-mesos/contrail/api/portapi"
	"github.com/contrail-mesos/contrail/api/vrouterapi"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// lookAgent is an agent with a port of blue, one that is in the maps alone, and
// routes; ask asks its introspection.
func lookAgent(t *testing.T) (a *Agent, plane *fakePlane, ask func(path string) (int, string)) {
	t.Helper()
	dir := t.TempDir()
	links := &fakeLinks{links: map[int]string{2: "eth0", 3: "tap-here", 4: "tap-lost"}}
	rec := portRecord("11111111-1111-4111-8111-111111111111", "c1", "tap-here", 3, testAgent(t, dir, newFakePlane(), links).bootID)
	rec.NetworkName, rec.DisplayName = []string{"default-domain", "demo", "blue"}, "web.1"
	if err := (portFiles{filepath.Join(dir, "state", portsName)}).write(rec); err != nil {
		t.Fatal(err)
	}
	plane = newFakePlane()
	plane.policy[3] = dataplane.Policy{Identity: dataplane.NewIdentity(1, []uint32{8000001}, nil), Sets: [4]dataplane.SetID{{0xab}}}
	for prefix, hop := range map[string]dataplane.NextHop{
		"10.0.0.3/32": {Kind: dataplane.Local, Label: 23},
		"10.0.0.9/32": {Kind: dataplane.Local, Label: 99},
		"10.0.0.5/32": {Kind: dataplane.Tunnel, Remote: netip.MustParseAddr("172.31.0.12"), Label: 17},
		"10.0.0.7/32": dataplane.Share([]dataplane.Member{
			{NextHop: dataplane.NextHop{Kind: dataplane.Local, Label: 23}, Weight: 3},
			{NextHop: dataplane.NextHop{Kind: dataplane.Tunnel, Remote: netip.MustParseAddr("172.31.0.13"), Encapsulation: dataplane.VXLAN, VNI: 5}},
		}),
	} {
		plane.routes[dataplane.RouteKey{VRF: 1, Prefix: netip.MustParsePrefix(prefix)}] = hop
	}
	plane.routes[dataplane.RouteKey{VRF: 9, Prefix: netip.MustParsePrefix("10.0.0.0/8")}] = dataplane.NextHop{}
	plane.vnis[5] = 1
	plane.drops = []dataplane.Drop{
		{Reason: dataplane.DropNoRoute, IfIndex: 3, Packets: 7, Bytes: 700},
		{Reason: dataplane.DropTTL, IfIndex: 3, Packets: 1, Bytes: 60},
		{Reason: dataplane.DropLabel, IfIndex: 2, Packets: 2, Bytes: 200},
		{Reason: dataplane.DropARP, Packets: 3, Bytes: 126},
	}
	flow := dataplane.Flow{
		IfIndex: 3, VRF: 1, Src: netip.MustParseAddr("10.0.0.3"), Dst: netip.MustParseAddr("10.0.0.5"), Protocol: 6, SrcPort: 40000, DstPort: 80,
		NextHop: dataplane.NextHop{Kind: dataplane.Tunnel, Remote: netip.MustParseAddr("172.31.0.12"), Label: 17}, Packets: 5, Bytes: 500, Current: true, Answered: true,
		NATSrc: netip.MustParseAddr("198.51.100.3"),
	}
	back := dataplane.Flow{Direction: dataplane.FromTunnel, Answers: true, IfIndex: 3, VRF: 1, Src: flow.Dst, Dst: flow.NATSrc, Protocol: 6, SrcPort: 80, DstPort: 40000}
	plane.flows = []dataplane.FlowPair{{Begins: &flow, Answers: &back}}
	a = testAgent(t, dir, plane, links)
	runAgent(t, a)
	handler := a.introspectHandler()
	ask = func(path string) (int, string) {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	eventually(t, "the port is applied", func() error {
		if p, had := plane.holds(3); !had {
			return fmt.Errorf("it is %+v", p)
		}
		return nil
	})
	plane.mu.Lock()
	defer plane.mu.Unlock()
	plane.ports[4] = dataplane.Port{IfIndex: 4, Name: "tap-lost", VRF: 9, Label: 30, MAC: dataplane.MAC{2}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.4")}}
	return a, plane, ask
}

// decoded is an answer.
func decoded[T any](t *testing.T, ask func(string) (int, string), path string) (answer T) {
	t.Helper()
	code, body := ask(path)
	if err := json.Unmarshal([]byte(body), &answer); code != http.StatusOK || err != nil {
		t.Fatalf("%s: %d %s: %v", path, code, body, err)
	}
	return answer
}

func TestLookAtInterfaces(t *testing.T) {
	_, plane, ask := lookAgent(t)
	vifs := decoded[vrouterapi.Vifs](t, ask, "/vif").Vifs
	if len(vifs) != 3 || vifs[0].Type != "physical" || vifs[0].Device != "eth0" || vifs[0].DropsPackets != 2 {
		t.Fatalf("interfaces are %+v", vifs)
	}
	v := vifs[1]
	if v.Vif != 3 || v.Network != "default-domain:demo:blue" || v.Name != "web.1" || v.Label != 23 || v.DropsPackets != 8 || v.Flows.Flows != 2 ||
		v.Status.State != "applied" || v.Policy == nil || v.Policy.Network != 1 || !strings.HasPrefix(v.Policy.Sets["network"], "ab00") {
		t.Errorf("port is %+v, policy %+v", v, v.Policy)
	}
	if lost := vifs[2]; lost.Port != "" || lost.Status.State != "pending" || lost.Policy != nil {
		t.Errorf("a port that nobody wants is %+v", lost)
	}
	plane.mu.Lock()
	lost := plane.ports[4]
	lost.Foreign = []dataplane.ForeignAddress{{Address: netip.MustParseAddr("198.51.100.4"), VRF: 8, Fixed: lost.Addresses[0]}}
	plane.ports[4] = lost
	plane.mu.Unlock()
	for name, want := range map[string]int{"198.51.100.4": 4, vifs[0].Addresses[0]: 2} {
		if got := decoded[vrouterapi.Vifs](t, ask, "/vif?vif="+name).Vifs; len(got) != 1 || got[0].Vif != want {
			t.Errorf("interface %s is %+v", name, got)
		}
	}
	for _, name := range []string{"3", "tap-here", "11111111-1111-4111-8111-111111111111", "10.0.0.3"} {
		if got := decoded[vrouterapi.Vifs](t, ask, "/vif?vif="+name).Vifs; len(got) != 1 || got[0].Vif != 3 {
			t.Errorf("interface %s is %+v", name, got)
		}
	}
	if got := decoded[vrouterapi.Vifs](t, ask, "/vif?vrf=blue").Vifs; len(got) != 1 || got[0].Vif != 3 {
		t.Errorf("interfaces of blue are %+v", got)
	}
	stats := decoded[vrouterapi.Stats](t, ask, "/stats")
	if vifs[0].Passed != nil || v.Passed == nil || v.FromPackets != 6 || stats.Stats[0].Passed != nil || stats.Totals.ToPackets != 14 {
		t.Errorf("of the underlay %+v and %+v passed, of all %+v", vifs[0].Passed, stats.Stats[0].Passed, stats.Totals.Passed)
	}
	if len(stats.Stats) != 3 || stats.Stats[0].DropsPackets != 2 || stats.Totals.DropsPackets != 13 || stats.Totals.DropsBytes != 1086 {
		t.Errorf("stats are %+v", stats)
	}
	drops := decoded[vrouterapi.Drops](t, ask, "/drops?vif=3").Drops
	if len(drops) != 2 || drops[0].Reason != "no-route" || drops[0].Packets != 7 || drops[0].Device != "tap-here" || drops[0].Description == "" || drops[0].Advice == "" {
		t.Errorf("drops are %+v", drops)
	}
	vrfs := decoded[vrouterapi.VRFs](t, ask, "/vrf").VRFs
	if len(vrfs) != 2 || vrfs[0].VRF != 1 || vrfs[0].Inet != 4 || vrfs[0].Ports != 1 || vrfs[0].VNIs[0] != 5 || vrfs[1].Network != "" || vrfs[0].ToPackets != 7 {
		t.Errorf("VRFs are %+v", vrfs)
	}
	plane.mu.Lock()
	plane.unread = errors.New("map is gone")
	plane.mu.Unlock()
	for _, path := range []string{"/vif", "/stats", "/vrf"} {
		if code, body := ask(path); code != http.StatusInternalServerError || !strings.Contains(body, "map is gone") {
			t.Errorf("%s without counters: %d %s", path, code, body)
		}
	}
}

func TestLookAtRoutes(t *testing.T) {
	_, _, ask := lookAgent(t)
	routes := func(query string) (all []string) {
		t.Helper()
		for _, r := range decoded[vrouterapi.Routes](t, ask, "/rt"+query).Routes {
			all = append(all, fmt.Sprintf("%d %s %s", r.VRF, r.Destination, r.NextHop.Type))
		}
		return all
	}
	for query, want := range map[string]string{
		"":                             "[1 10.0.0.3/32 local 1 10.0.0.5/32 tunnel 1 10.0.0.7/32 ecmp 1 10.0.0.9/32 local 9 10.0.0.0/8 discard]",
		"?vrf=9":                       "[9 10.0.0.0/8 discard]",
		"?vrf=demo:blue&limit=1":       "[1 10.0.0.3/32 local]",
		"?prefix=10.0.0.5":             "[1 10.0.0.5/32 tunnel 9 10.0.0.0/8 discard]",
		"?prefix=10.0.0.5&vif=3":       "[1 10.0.0.5/32 tunnel]",
		"?prefix=10.0.0.0/29":          "[1 10.0.0.3/32 local 1 10.0.0.5/32 tunnel 1 10.0.0.7/32 ecmp]",
		"?prefix=10.0.0.0/7":           "[1 10.0.0.3/32 local 1 10.0.0.5/32 tunnel 1 10.0.0.7/32 ecmp 1 10.0.0.9/32 local 9 10.0.0.0/8 discard]",
		"?vif=3&vrf=1":                 "[1 10.0.0.3/32 local 1 10.0.0.5/32 tunnel 1 10.0.0.7/32 ecmp 1 10.0.0.9/32 local]",
		"?vif=3&vrf=9":                 "[]",
		"?vif=4&vrf=blue":              "[]",
		"?vif=eth0&vrf=9":              "[]",
		"?vif=eth0":                    "[]",
		"?prefix=10.0.0.5&vif=3&vrf=9": "[]",
		"?family=inet6":                "[]",
		"?prefix=02:00:00:00:00:09":    "[]",
		"?prefix=192.0.2.1":            "[]",
		"?prefix=10.0.0.3&family=inet": "[1 10.0.0.3/32 local 9 10.0.0.0/8 discard]",
	} {
		if got := fmt.Sprint(routes(query)); got != want {
			t.Errorf("/rt%s shows %s, want %s", query, got, want)
		}
	}
	all := decoded[vrouterapi.Routes](t, ask, "/rt?vrf=1&limit=3")
	if all.Left != 1 {
		t.Errorf("%d are left out of one", all.Left)
	}
	if hop := all.Routes[0].NextHop; hop.Vif != 3 || hop.Device != "tap-here" || hop.Port == "" {
		t.Errorf("a label of this node leads to %+v", hop)
	}
	ecmp := all.Routes[2].NextHop
	if len(ecmp.Members) != 2 || ecmp.Members[0].Vif != 3 || ecmp.Members[0].Weight != 3 || ecmp.Members[1].Remote != "172.31.0.13" || ecmp.Members[1].VNI != 5 {
		t.Errorf("members are %+v", ecmp.Members)
	}
	if hop := decoded[vrouterapi.Routes](t, ask, "/rt?prefix=10.0.0.9&vrf=1").Routes[0].NextHop; hop.Vif != 0 || hop.Label != 99 {
		t.Errorf("a label without a port leads to %+v", hop)
	}
	if labels := decoded[vrouterapi.Labels](t, ask, "/mpls").Labels; len(labels) != 2 || labels[0].Label != 23 || labels[0].Vif != 3 {
		t.Errorf("labels are %+v", labels)
	}
	if vnis := decoded[vrouterapi.VNIs](t, ask, "/vxlan?id=5").VNIs; len(vnis) != 1 || vnis[0].Network != "default-domain:demo:blue" {
		t.Errorf("VNIs are %+v", vnis)
	}
}

func TestLookAtFlows(t *testing.T) {
	_, _, ask := lookAgent(t)
	for query, want := range map[string]int{
		"": 1, "?end=10.0.0.3": 1, "?end=10.0.0.5:80": 1, "?end=10.0.0.5:81": 0, "?end=10.0.0.5&end=10.0.0.3:40000": 1, "?end=10.0.0.3&end=10.0.0.3": 0,
		"?end=198.51.100.0/24": 1, "?end=198.51.100.3:40000": 1, "?protocol=tcp": 1, "?protocol=17": 0, "?vif=3": 1, "?vif=4": 0, "?vrf=9": 0,
	} {
		if got := decoded[vrouterapi.Flows](t, ask, "/flow"+query).Flows; len(got) != want {
			t.Errorf("/flow%s shows %+v, want %d", query, got, want)
		}
	}
	f := decoded[vrouterapi.Flows](t, ask, "/flow").Flows[0]
	if f.State != "established" || f.Protocol != "tcp" || f.Forward.From != "port" || f.Reverse.From != "tunnel" || f.Forward.NAT.Source != "198.51.100.3" ||
		f.Forward.NextHop.Label != 17 || f.Forward.Device != "tap-here" || !strings.HasPrefix(f.Forward.PolicySets[3]["network"], "ab00") || f.Reverse.Current {
		t.Errorf("flow is %+v, %+v, %+v", f, f.Forward, f.Reverse)
	}
}

// TestLookRefuses: questions that cannot be answered name what is wrong.
func TestLookRefuses(t *testing.T) {
	_, plane, ask := lookAgent(t)
	plane.mu.Lock()
	twin := plane.ports[4]
	twin.IfIndex, twin.Name, twin.Label, twin.Addresses = 5, "tap-twin", 31, []netip.Addr{netip.MustParseAddr("10.0.0.4")}
	plane.ports[5] = twin
	plane.mu.Unlock()
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"/vif?vif=nothing":                         {404, `no interface \"nothing\"`},
		"/vif?vif=10.0.0.4":                        {400, "the interfaces [4 5] are all called 10.0.0.4"},
		"/rt?vrf=green":                            {404, `no network \"green\" on this node`},
		"/rt?prefix=x":                             {400, `\"x\": want an address, a prefix or a MAC`},
		"/rt?family=ipx":                           {400, `family \"ipx\": want inet, inet6 or bridge`},
		"/rt?prefix=10.0.0.3&family=bridge":        {400, "family bridge: 10.0.0.3 is of inet"},
		"/rt?prefix=10.0.0.0/8&family=inet6":       {400, "family inet6: 10.0.0.0/8 is of inet"},
		"/rt?prefix=02:00:00:00:00:09&family=inet": {400, "family inet: 02:00:00:00:00:09 is of bridge"},
		"/rt?limit=0":                              {400, `limit \"0\": want a number from 1 to 100000`},
		"/rt?limit=100001":                         {400, "want a number from 1 to 100000"},
		"/nh?id=77":                                {404, "no next hop 77"},
		"/nh?id=x":                                 {400, `next hop \"x\": want a number`},
		"/mpls?id=16":                              {404, "no port of this node has the label 16"},
		"/vxlan?id=1":                              {404, "VXLAN network identifier 1"},
		"/flow?end=x":                              {400, `\"x\": want an address, a prefix, or ADDRESS:PORT`},
		"/flow?end=1.2.3.4:x":                      {400, "want an address"},
		"/flow?protocol=ipx":                       {400, `protocol \"ipx\"`},
		"/flow?end=1::&end=2::&end=3::":            {400, "3 ends; a flow has two"},
		"/nothing":                                 {404, ""},
	} {
		if code, body := ask(path); code != want.code || !strings.Contains(body, want.text) {
			t.Errorf("%s: %d %s, want %d %s", path, code, body, want.code, want.text)
		}
	}
}

// TestObjectsTellTheirStatus: what is wanted and what is there of each object, and
// why they differ.
func TestObjectsTellTheirStatus(t *testing.T) {
	a, plane, ask := lookAgent(t)
	key := dataplane.RouteKey{VRF: 1, Prefix: netip.MustParsePrefix("10.0.0.8/32")}
	a.routes.Set(key, dataplane.NextHop{Kind: dataplane.Local, Label: 23})
	type route struct {
		Key           dataplane.RouteKey
		Wanted, There json.RawMessage
		Status        portapi.State
	}
	find := func() (mine, other *route) {
		for _, r := range decoded[map[string][]route](t, ask, "/routes")["routes"] {
			switch r.Key {
			case key:
				mine = &r
			case dataplane.RouteKey{VRF: 9, Prefix: netip.MustParsePrefix("10.0.0.0/8")}:
				other = &r
			}
		}
		return mine, other
	}
	eventually(t, "the route is wanted, there and applied", func() error {
		mine, other := find()
		if mine == nil || mine.Wanted == nil || string(mine.Wanted) != string(mine.There) || mine.Status.State != "applied" {
			return fmt.Errorf("%+v", mine)
		}
		// Nobody wants the other any more, and no control node has said that it may go.
		if other == nil || other.Wanted != nil || other.There == nil || other.Status.State != "pending" {
			return fmt.Errorf("%+v", other)
		}
		return nil
	})
	plane.mu.Lock()
	plane.refuse = errors.New("table of 64 ports is full")
	plane.mu.Unlock()
	p := dataplane.Port{IfIndex: 6, Name: "tap6", VRF: 1, Label: 40, MAC: dataplane.MAC{2}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.6")}}
	a.ports.Set(6, p)
	type port struct {
		Index         int `json:"host_index"`
		ID            string
		Wanted, There json.RawMessage
		Status        portapi.State
	}
	eventually(t, "a port that cannot be plugged says why", func() error {
		ports := decoded[map[string][]port](t, ask, "/ports")["ports"]
		last := ports[len(ports)-1]
		if last.Index != 6 || last.Wanted == nil || last.There != nil || last.Status.State != "failed" || last.Status.Error != "table of 64 ports is full" {
			return fmt.Errorf("%s %s %+v", last.Wanted, last.There, last.Status)
		}
		if first := ports[0]; first.ID == "" || first.There == nil || first.Status.State != "applied" {
			return fmt.Errorf("%+v", first)
		}
		return nil
	})
	objects := decoded[vrouterapi.Objects](t, ask, "/objects").Objects
	last := vrouterapi.Object{}
	for _, o := range objects {
		if o.Table == "routes" && o.Object == "9:10.0.0.0/8" {
			last = o
		}
	}
	if len(objects) == 0 || objects[0].Table != "ports" || objects[0].Object != "interface 6" || !objects[0].Wanted || objects[0].Status.Error == "" || last.Wanted || last.Status.State != "pending" {
		t.Errorf("what is not as it should be is %+v", objects)
	}
	if some := decoded[vrouterapi.Objects](t, ask, "/objects?limit=1"); len(some.Objects) != 1 || some.Left != len(objects)-1 {
		t.Errorf("one of %d is %+v", len(objects), some)
	}
	_, body := ask("/metrics")
	for _, want := range []string{
		`contrail_vrouter_objects{state="failed",table="ports"} 1`, `contrail_vrouter_apply_failures_total{table="ports"} `, `contrail_vrouter_apply_failures_total{table="routes"} 0`,
		`contrail_vrouter_map_entries{map="vif"} `, `contrail_vrouter_map_max_entries{map="vif"} 4096`, `contrail_vrouter_drops_total{interface="3",reason="no-route"} 7`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	code, index := ask("/")
	if code != http.StatusOK {
		t.Fatalf("index: %d", code)
	}
	var tables struct{ Tables []string }
	if err := json.Unmarshal([]byte(index), &tables); err != nil || len(tables.Tables) < 20 {
		t.Fatalf("index is %s, %v", index, err)
	}
	for _, path := range tables.Tables {
		if code, body := ask(path); code != http.StatusOK {
			t.Errorf("%s of the index: %d %s", path, code, body)
		}
	}
}

// FuzzQuestions: whatever is asked, there is an answer in JSON.
func FuzzQuestions(f *testing.F) {
	paths := []string{
		vrouterapi.PathVifs, vrouterapi.PathRoutes, vrouterapi.PathNextHops, vrouterapi.PathLabels, vrouterapi.PathVNIs,
		vrouterapi.PathFlows, vrouterapi.PathDrops, vrouterapi.PathVRFs, vrouterapi.PathStats, vrouterapi.PathObjects,
	}
	for i := range paths {
		f.Add(uint8(i), "vif", "10.0.0.3", "vrf", "blue")
	}
	f.Add(uint8(1), "prefix", "10.0.0.0/8", "limit", "7")
	f.Add(uint8(1), "prefix", "::ffff:10.0.0.3", "family", "inet")
	f.Add(uint8(5), "end", "[fd00::1]:80", "end", "10.0.0.0/0")
	plane := newFakePlane()
	plane.ports[4] = dataplane.Port{IfIndex: 4, Name: "tap4", VRF: 9, Label: 30, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.3")}}
	plane.routes[dataplane.RouteKey{VRF: 9, Prefix: netip.MustParsePrefix("10.0.0.0/8")}] = dataplane.NextHop{Kind: dataplane.Local, Label: 30}
	flow := &dataplane.Flow{IfIndex: 4, VRF: 9, Src: netip.MustParseAddr("10.0.0.3"), Dst: netip.MustParseAddr("10.0.0.4"), SrcPort: 1, DstPort: 80}
	plane.flows = []dataplane.FlowPair{{Begins: flow}}
	handler := testAgent(f, f.TempDir(), plane, &fakeLinks{links: map[int]string{2: "eth0"}}).introspectHandler()
	f.Fuzz(func(t *testing.T, path uint8, name, value, name2, value2 string) {
		q := url.Values{}
		q.Add(name, value)
		q.Add(name2, value2)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, paths[int(path)%len(paths)]+"?"+q.Encode(), nil))
		if !json.Valid(w.Body.Bytes()) {
			t.Errorf("%d: %s", w.Code, w.Body.String())
		}
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest && w.Code != http.StatusNotFound {
			t.Errorf("%s=%q %s=%q: %d %s", name, value, name2, value2, w.Code, w.Body.String())
		}
	})
}

// TestMapFillsStay: a count of the maps that fails leaves what was counted before.
func TestMapFillsStay(t *testing.T) {
	a, plane, _ := lookAgent(t)
	var f mapFills
	first := f.get(a)
	plane.mu.Lock()
	plane.unread = errors.New("map is gone")
	plane.mu.Unlock()
	f.counted = f.counted.Add(-recount)
	if again := f.get(a); len(first) == 0 || len(again) != len(first) {
		t.Errorf("fills are %v, and %v when they cannot be counted", first, again)
	}
}
