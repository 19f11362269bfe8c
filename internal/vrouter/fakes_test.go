package vrouter

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/contrail-mesos/contrail/api/portapi"
	ctls "github.com/contrail-mesos/contrail/internal/tls"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// fakePlane keeps ports and routes in memory.
type fakePlane struct {
	setRules map[dataplane.SetID]dataplane.SetRules
	// trace is what traces answer; traced are the questions.
	trace   dataplane.Trace
	traced  []any
	mu      sync.Mutex
	ports   map[int]dataplane.Port
	guarded map[int]bool
	routes  map[dataplane.RouteKey]dataplane.NextHop
	policy  map[int]dataplane.Policy
	vnis    map[uint32]uint32
	service map[dataplane.ServiceKey]dataplane.Service
	probes  map[netip.Addr]dataplane.Probe
	macs    map[dataplane.MACKey]dataplane.NextHop
	bridges map[uint32]dataplane.Bridge
	fabric  dataplane.FabricServices
	snats   map[int]uint32
	refuse  error
	flows   []dataplane.FlowPair
	unread  error // of counters and fills
	drops   []dataplane.Drop
	// listing holds up Ports until it is closed; nil does not.
	listing chan struct{}
}

func newFakePlane() *fakePlane {
	return &fakePlane{ports: map[int]dataplane.Port{}, guarded: map[int]bool{}, routes: map[dataplane.RouteKey]dataplane.NextHop{}, policy: map[int]dataplane.Policy{}, vnis: map[uint32]uint32{}, service: map[dataplane.ServiceKey]dataplane.Service{}, probes: map[netip.Addr]dataplane.Probe{}, macs: map[dataplane.MACKey]dataplane.NextHop{}, bridges: map[uint32]dataplane.Bridge{}, snats: map[int]uint32{}}
}

func (f *fakePlane) Guard(index int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.guarded[index] = true
	return nil
}

func (f *fakePlane) Ports() (map[int]dataplane.Port, error) {
	if f.listing != nil {
		<-f.listing
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.ports), nil
}

func (f *fakePlane) PutPort(p dataplane.Port) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	f.ports[p.IfIndex] = p
	return nil
}

func (f *fakePlane) DeletePort(index int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.ports, index)
	delete(f.guarded, index)
	return nil
}

func (f *fakePlane) KnownPolicies() (map[int]dataplane.Policy, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.policy), nil
}

func (f *fakePlane) PutPolicies(all map[int]dataplane.Policy, _ map[dataplane.SetID]*dataplane.Set) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.policy, all)
	return nil
}

func (f *fakePlane) DeletePolicy(index int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.policy, index)
	return nil
}

func (f *fakePlane) Routes() (map[dataplane.RouteKey]dataplane.NextHop, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.routes), nil
}

func (f *fakePlane) PutRoute(k dataplane.RouteKey, n dataplane.NextHop) error {
	return f.PutRoutes(map[dataplane.RouteKey]dataplane.NextHop{k: n})
}

func (f *fakePlane) PutRoutes(routes map[dataplane.RouteKey]dataplane.NextHop) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.routes, routes)
	return nil
}

func (f *fakePlane) DeleteRoute(k dataplane.RouteKey) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.routes, k)
	return nil
}

func (f *fakePlane) SweepNextHops() error { return nil }

func (f *fakePlane) SetsWithRules(ids []dataplane.SetID) (map[dataplane.SetID]dataplane.SetRules, error) {
	sets := map[dataplane.SetID]dataplane.SetRules{}
	for _, id := range ids {
		if s, ok := f.setRules[id]; ok {
			sets[id] = s
		}
	}
	return sets, nil
}

func (f *fakePlane) Trace(q dataplane.TraceQuery) (dataplane.Trace, error) {
	f.traced = append(f.traced, q)
	return f.trace, nil
}

func (f *fakePlane) TraceArrival(q dataplane.ArrivalQuery) (dataplane.Trace, error) {
	f.traced = append(f.traced, q)
	return f.trace, nil
}

func (f *fakePlane) VNIs() (map[uint32]uint32, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.vnis), nil
}

func (f *fakePlane) PutVNI(vni, vrf uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.vnis[vni] = vrf
	return nil
}

func (f *fakePlane) DeleteVNI(vni uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.vnis, vni)
	return nil
}

func (f *fakePlane) Services() (map[dataplane.ServiceKey]dataplane.Service, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.service), nil
}

func (f *fakePlane) PutService(k dataplane.ServiceKey, s dataplane.Service) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.service[k] = s
	return nil
}

func (f *fakePlane) DeleteService(k dataplane.ServiceKey) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.service, k)
	return nil
}

func (f *fakePlane) Probes() (map[netip.Addr]dataplane.Probe, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.probes), nil
}

func (f *fakePlane) PutProbe(alias netip.Addr, p dataplane.Probe) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.probes[alias] = p
	return nil
}

func (f *fakePlane) DeleteProbe(alias netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.probes, alias)
	return nil
}

func (f *fakePlane) FabricServices() (dataplane.FabricServices, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fabric, nil
}

func (f *fakePlane) SetFabricServices(s dataplane.FabricServices) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fabric = s
	return nil
}

func (f *fakePlane) SNATs() (map[int]uint32, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.snats), nil
}

func (f *fakePlane) PutSNAT(ifindex int, network uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.snats[ifindex] = network
	return nil
}

func (f *fakePlane) DeleteSNAT(ifindex int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.snats, ifindex)
	return nil
}

func (f *fakePlane) NATPorts() dataplane.NATPorts { return dataplane.DefaultNATPorts }
func (f *fakePlane) NATProblem() error            { return nil }

func (f *fakePlane) AttachProber(int) error { return nil }

func (f *fakePlane) Changed(dataplane.Changes) iter.Seq2[dataplane.Conversation, error] {
	return func(func(dataplane.Conversation, error) bool) {}
}

func (f *fakePlane) OnFlowEnd(func(dataplane.Conversation)) {}

func (f *fakePlane) FlowEvents(ctx context.Context, _ func(dataplane.FlowEvent)) error {
	<-ctx.Done()
	return ctx.Err()
}

func (f *fakePlane) FlowEventsLost() (noRoom, overRate uint64, err error) { return 0, 0, nil }

func (f *fakePlane) MACs() (map[dataplane.MACKey]dataplane.NextHop, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.macs), nil
}

func (f *fakePlane) PutMACs(all map[dataplane.MACKey]dataplane.NextHop) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.macs, all)
	return nil
}

func (f *fakePlane) DeleteMAC(k dataplane.MACKey) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.macs, k)
	return nil
}

func (f *fakePlane) Bridges() (map[uint32]dataplane.Bridge, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.bridges), nil
}

func (f *fakePlane) PutBridge(vrf uint32, b dataplane.Bridge) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bridges[vrf] = b
	return nil
}

func (f *fakePlane) DeleteBridge(vrf uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.bridges, vrf)
	return nil
}

func (f *fakePlane) SweepFlows(time.Duration, dataplane.Ages) (removed, live int, err error) {
	return 0, 0, nil
}
func (f *fakePlane) Drops() ([]dataplane.Drop, error) { return f.drops, nil }
func (f *fakePlane) Counters(ifindex int) (dataplane.Counters, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.ports[ifindex]; !ok {
		return dataplane.Counters{}, dataplane.ErrNoPort
	}
	return dataplane.Counters{FromPackets: 6, ToPackets: 7}, f.unread
}

// What a look reads beside: the tests of packages dataplane and e2e have real ones.
func (f *fakePlane) Policies() (map[int]dataplane.Policy, error)  { return f.KnownPolicies() }
func (f *fakePlane) Generations() (uint32, map[int]uint32, error) { return 1, nil, nil }
func (f *fakePlane) Labels() (map[uint32]int, error) {
	ports, err := f.Ports()
	labels := map[uint32]int{}
	for index, p := range ports {
		labels[p.Label] = index
	}
	return labels, err
}

func (f *fakePlane) RouteEntries(match func(dataplane.RouteKey) bool, limit int) (list []dataplane.RouteEntry, left int, err error) {
	routes, err := f.Routes()
	for k, n := range routes {
		if match(k) {
			list = append(list, dataplane.RouteEntry{RouteKey: k, Hop: 2, NextHop: n})
		}
	}
	slices.SortFunc(list, func(a, b dataplane.RouteEntry) int { return a.RouteKey.Compare(b.RouteKey) })
	left = max(len(list)-limit, 0)
	return list[:len(list)-left], left, err
}

func (f *fakePlane) RouteTo(vrf uint32, address netip.Addr) (found dataplane.RouteEntry, ok bool, err error) {
	routes, err := f.Routes()
	for k, n := range routes {
		if k.VRF == vrf && k.Prefix.Contains(address) && (!ok || k.Prefix.Bits() > found.Prefix.Bits()) {
			found, ok = dataplane.RouteEntry{RouteKey: k, Hop: 2, NextHop: n}, true
		}
	}
	return found, ok, err
}

func (f *fakePlane) MACEntries(match func(dataplane.MACKey) bool, limit int) (list []dataplane.MACEntry, left int, err error) {
	macs, err := f.MACs()
	for k, n := range macs {
		if match(k) {
			list = append(list, dataplane.MACEntry{MACKey: k, Hop: 1, NextHop: n})
		}
	}
	slices.SortFunc(list, func(a, b dataplane.MACEntry) int { return a.MACKey.Compare(b.MACKey) })
	left = max(len(list)-limit, 0)
	return list[:len(list)-left], left, err
}

func (f *fakePlane) RouteCounts() (map[uint32]dataplane.RouteCount, error) {
	routes, err := f.Routes()
	counts := map[uint32]dataplane.RouteCount{}
	for k := range routes {
		counts[k.VRF] = dataplane.RouteCount{IPv4: counts[k.VRF].IPv4 + 1}
	}
	return counts, err
}

func (f *fakePlane) Hops() ([]dataplane.Hop, error) {
	return []dataplane.Hop{{}, {ID: 1, NextHop: dataplane.NextHop{Kind: dataplane.Local}, Routes: 3}}, nil
}

func (f *fakePlane) FlowPairs(match func(*dataplane.Flow) bool, limit int) (pairs []dataplane.FlowPair, left int, err error) {
	for _, p := range f.flows {
		if match(p.Begins) {
			pairs = append(pairs, p)
		}
	}
	left = max(len(pairs)-limit, 0)
	return pairs[:len(pairs)-left], left, nil
}

func (f *fakePlane) PortFlowCount(int) (own, others dataplane.FlowCount, err error) {
	return dataplane.FlowCount{Flows: 2, Unanswered: 1}, others, nil
}

func (f *fakePlane) MapFills() ([]dataplane.MapFill, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unread != nil {
		return nil, f.unread
	}
	return []dataplane.MapFill{{Map: "vif", Used: len(f.ports), Max: 4096}}, nil
}

func (f *fakePlane) holds(index int) (p dataplane.Port, had bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, had = f.ports[index]
	return p, had
}

// fakeLinks are interfaces by index.
type fakeLinks struct {
	mu    sync.Mutex
	links map[int]string
}

func (f *fakeLinks) find(name string) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for index, n := range f.links {
		if n == name {
			return index, nil
		}
	}
	return 0, nil
}

func (f *fakeLinks) all() (map[int]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.links), nil
}

func (f *fakeLinks) prepare(int, string, uint32) error { return nil }

func (f *fakeLinks) remove(index int, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.links[index] == name {
		delete(f.links, index)
	}
	return nil
}

func (f *fakeLinks) mtu(string) (uint32, error) { return 1500, nil }

func (f *fakeLinks) watch(ctx context.Context, changed func()) error {
	changed()
	<-ctx.Done()
	return ctx.Err()
}

// testAgent is an agent over fakes whose manager cannot be reached.
func testAgent(t testing.TB, dir string, plane *fakePlane, links *fakeLinks) *Agent {
	t.Helper()
	authority, err := ctls.OpenAuthority(filepath.Join(dir, "ca"))
	if err != nil {
		t.Fatal(err)
	}
	if err := authority.Issue(filepath.Join(dir, "tls"), ctls.RoleNode, uuid.NewString()); err != nil {
		t.Fatal(err)
	}
	credentials, err := ctls.LoadCredentials(filepath.Join(dir, "tls"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := newAgent(quiet(), Config{
		Name: "n", RunDir: filepath.Join(dir, "run"), StateDir: filepath.Join(dir, "state"), Underlay: "eth0",
		Address: netip.MustParseAddr(ownAddress), Manager: "127.0.0.1:1", Credentials: credentials,
	}, plane, links)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func runAgent(t *testing.T, a *Agent) { t.Cleanup(startAgent(t, a)) }

// startAgent returns what ends the agent.
func startAgent(t *testing.T, a *Agent) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("agent ended with %v", err)
		}
	}
}

func portRecord(id, container, host string, index int, boot string) *record {
	return &record{
		ID: id, ContainerID: container, Interface: "eth0", Namespace: "4:1", BootID: boot, HostInterface: host, HostIndex: index,
		VRF: 1, Label: uint32(20 + index), MAC: "02:00:00:00:00:01", Addresses: []portapi.Address{{Address: "10.0.0.3", PrefixLength: 24}}, Revision: 5,
	}
}

// TestPortsOfAnotherBootAreReleased: after a reboot the index of a port may be
// that of any device, which must not be touched.
func TestPortsOfAnotherBootAreReleased(t *testing.T) {
	dir := t.TempDir()
	links := &fakeLinks{links: map[int]string{2: "eth0", 3: "tap-here", 4: "docker0", 5: "tap-old"}}
	boot := testAgent(t, dir, newFakePlane(), links).bootID
	files := portFiles{filepath.Join(dir, "state", portsName)}
	for _, r := range []*record{
		portRecord("here", "c1", "tap-here", 3, boot),
		portRecord("renumbered", "c2", "tap-x", 4, boot),
		portRecord("rebooted", "c3", "tap-old", 5, "another boot"),
	} {
		if err := files.write(r); err != nil {
			t.Fatal(err)
		}
	}
	plane := newFakePlane()
	a := testAgent(t, dir, plane, links)
	runAgent(t, a)
	eventually(t, "the ports of interfaces that are gone are released", func() error {
		if len(a.queue.pending()) != 2 || a.registry.get("renumbered") != nil || a.registry.get("rebooted") != nil {
			return fmt.Errorf("queue %v", a.queue.pending())
		}
		if _, here := plane.holds(3); !here {
			return errors.New("the port that is here is not plugged")
		}
		return nil
	})
	if _, plugged := plane.holds(4); plugged {
		t.Error("a device that is no port was plugged")
	}
	if now, _ := links.all(); now[4] != "docker0" {
		t.Error("a device that is no port was removed")
	}
	for _, q := range a.queue.pending() {
		if q.ContainerID == "c3" && q.BootID != "another boot" {
			t.Errorf("released with boot id %q", q.BootID)
		}
	}
}

func TestAttachWithoutManagerLeavesNothing(t *testing.T) {
	plane, links := newFakePlane(), &fakeLinks{links: map[int]string{3: "tap0"}}
	a := testAgent(t, t.TempDir(), plane, links)
	runAgent(t, a)
	request := portapi.AttachRequest{ContainerID: "c", Interface: "eth0", Namespace: "4:1", NetworkConfiguration: []byte("{}")}
	_, err := a.attach(t.Context(), request, func() (string, error) { return "tap0", nil })
	var refusal *portapi.Error
	if !errors.As(err, &refusal) || refusal.Kind != portapi.KindUnavailable {
		t.Errorf("error %v, want that the manager is away", err)
	}
	if len(a.queue.pending()) != 0 {
		t.Errorf("a release is queued although nothing was asked: %v", a.queue.pending())
	}
	plane.mu.Lock()
	defer plane.mu.Unlock()
	if len(plane.guarded) != 0 || len(plane.ports) != 0 {
		t.Errorf("left: %v %v", plane.guarded, plane.ports)
	}
}

func TestAttachNamesWhatIsMissing(t *testing.T) {
	a := testAgent(t, t.TempDir(), newFakePlane(), &fakeLinks{links: map[int]string{}})
	full := portapi.AttachRequest{ContainerID: "c", Interface: "eth0", Namespace: "4:1"}
	for field, change := range map[string]func(*portapi.AttachRequest){
		"container_id": func(r *portapi.AttachRequest) { r.ContainerID = "" },
		"interface":    func(r *portapi.AttachRequest) { r.Interface = "" },
		"namespace":    func(r *portapi.AttachRequest) { r.Namespace = "" },
	} {
		r := full
		change(&r)
		_, err := a.attach(t.Context(), r, func() (string, error) { return "tap0", nil })
		var refusal *portapi.Error
		if !errors.As(err, &refusal) || refusal.Kind != portapi.KindInvalid || !strings.Contains(refusal.Message, field+" is missing") {
			t.Errorf("%s: error %v", field, err)
		}
	}
	for name, want := range map[string]string{"": "host_interface is missing", "tap0": `host_interface "tap0" does not exist`} {
		_, err := a.findPair(func() (string, error) { return name, nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("interface %q: error %v, want %q", name, err, want)
		}
	}
}

// eventually tries until check passes, and fails with its last error.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-ticker.C:
		}
	}
}
