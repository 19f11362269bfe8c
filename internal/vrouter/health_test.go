package vrouter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/contrail-mesos/contrail/internal/model"
	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
	"github.com/contrail-mesos/contrail/internal/vrouter/health"
)

// fakeProber answers pings as the test says.
type fakeProber struct {
	mu   sync.Mutex
	fail error
	to   map[netip.Addr]bool
	// closed: the network was given back.
	closed bool
	// lost: its device has gone.
	lost bool
}

func (f *fakeProber) Dial(context.Context, netip.AddrPort) (net.Conn, error) {
	return nil, unix.ECONNREFUSED
}

func (f *fakeProber) Ping(_ context.Context, to netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to[to] = true
	return f.fail
}

func (f *fakeProber) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
}

func (f *fakeProber) Lost() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost
}

func (f *fakeProber) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

// TestHealthOfPort: an agent asks the ports that the graph has checks for, and
// what it finds takes their routes away at other nodes and brings them back. A
// restart changes nothing, whatever it can find out.
func TestHealthOfPort(t *testing.T) {
	c := newControlNode(t)
	own, other := model.DerivedUUID("own"), model.DerivedUUID("other")
	c.apply(model.Batch{Nodes: []model.Node{
		{UUID: own, Name: "own", Address: ownAddress, FabricMTU: 1500, BootID: "b"},
		{UUID: other, Name: "other", Address: "172.31.0.12", FabricMTU: 1500, BootID: "b"},
	}})
	c.attach(own, "web", "10.0.0.3", 23)
	c.attach(other, "elsewhere", "10.0.0.5", 16)
	check := &model.ServiceHealthCheck{
		Meta: model.Meta{UUID: model.DerivedUUID("alive"), FQName: []string{"d", "p", "alive"}},
		ServiceHealthCheckProperties: &model.ServiceHealthCheckType{
			MonitorType: "PING", DelayUsecs: new(int64(100_000)), Timeout: new(int64(1)), MaxRetries: new(int64(2)),
		},
	}
	c.apply(model.Batch{Objects: []model.Object{check}, References: []model.Reference{{
		From: model.Entity{Kind: model.KindVirtualMachineInterface, UUID: "web"}, To: model.EntityOf(check),
	}}})
	said := c.routesAt(other, "elsewhere", "later")

	dir := t.TempDir()
	start := c.agents(own, dir, &fakeLinks{links: map[int]string{2: "eth0", 3: "tap3"}})
	prober := &fakeProber{to: map[netip.Addr]bool{}}
	var opened atomic.Int64
	with := func(a *Agent) {
		a.health.open = func() (probeNetwork, error) {
			opened.Add(1)
			prober.mu.Lock()
			defer prober.mu.Unlock()
			prober.fail, prober.lost = nil, false
			return prober, nil
		}
	}
	plane := newFakePlane()
	first, stop := start(plane, with)
	r := portRecord("web", "web", "tap3", 3, first.bootID)
	port, _, err := r.port()
	if err := errors.Join(err, (portFiles{filepath.Join(dir, "state", portsName)}).write(r)); err != nil {
		t.Fatal(err)
	}
	first.registry.put(r)
	first.ports.Set(3, port)
	await(t, said, "10.0.0.3/32")
	eventually(t, "the port is asked", func() error {
		states := first.health.States()
		if len(states) != 1 || states[0].Asked == 0 || states[0].Name != "d:p:alive" {
			return fmt.Errorf("checks are %+v", states)
		}
		return nil
	})
	ways, _ := plane.Probes()
	for alias, way := range ways {
		if want := (dataplane.Probe{IfIndex: 3, Address: netip.MustParseAddr("10.0.0.3"), Source: netip.MustParseAddr("169.254.169.254")}); way != want || !prober.to[alias] {
			t.Errorf("the way by %s is %v, want %v; asked are %v", alias, way, want, prober.to)
		}
	}
	prober.set(errors.New("nothing"))
	await(t, said, "-10.0.0.3/32")
	prober.set(nil)
	await(t, said, "10.0.0.3/32")
	prober.mu.Lock()
	prober.fail, prober.lost = fmt.Errorf("%w: no device", health.ErrNotSent), true
	prober.mu.Unlock()
	eventually(t, "the device is made anew", func() error {
		if n := opened.Load(); n != 2 {
			return fmt.Errorf("it was made %d times", n)
		}
		return nil
	})
	prober.set(errors.New("nothing"))
	await(t, said, "-10.0.0.3/32")
	stop()

	// The next one cannot ask: as before.
	var broken error = errors.New("no network")
	var lock sync.Mutex
	second, stop := start(plane, func(a *Agent) {
		a.health.open = func() (probeNetwork, error) {
			lock.Lock()
			defer lock.Unlock()
			return prober, broken
		}
	})
	eventually(t, "the check is known", func() error {
		if s := second.health.States(); len(s) != 1 || s[0].Left != "no network" || !s[0].Failing {
			return fmt.Errorf("checks are %+v", s)
		}
		if words, _ := second.portWords(); len(words["web"].failing) != 1 || second.status().FailingChecks != 1 {
			return fmt.Errorf("told is %+v", words)
		}
		return nil
	})
	c.attach(other, "later", "10.0.0.6", 17)
	if before := await(t, said, "10.0.0.6/32"); slices.Contains(before, "10.0.0.3/32") {
		t.Error("a restart brought the route of a port back that does not answer")
	}
	stop()
	prober.set(nil)
	prober.closed = false
	third, _ := start(plane, with)
	await(t, said, "10.0.0.3/32")
	// Without the check there is no way to the port either.
	c.apply(model.Batch{DeleteReferences: []model.Edge{{From: model.Entity{Kind: model.KindVirtualMachineInterface, UUID: "web"}, To: model.EntityOf(check)}}})
	eventually(t, "nothing is left of the check", func() error {
		ways, _ := plane.Probes()
		prober.mu.Lock()
		defer prober.mu.Unlock()
		if s := third.health.States(); len(s)+len(ways) != 0 || !prober.closed {
			return fmt.Errorf("checks are %+v, ways %v, the network is closed: %t", s, ways, prober.closed)
		}
		return nil
	})
}

// TestAliases: each way has its own, and one that was given back rests.
func TestAliases(t *testing.T) {
	a := testAgent(t, t.TempDir(), newFakePlane(), &fakeLinks{})
	defer a.health.Close()
	h := a.health
	seen := map[netip.Addr]bool{}
	for i := range 300 {
		alias := h.aliasFor(dataplane.Probe{IfIndex: i + 1})
		if !alias.IsValid() || seen[alias] || alias != h.aliasFor(dataplane.Probe{IfIndex: i + 1}) {
			t.Fatalf("the alias of way %d is %s", i, alias)
		}
		seen[alias] = true
	}
	clear(h.aliases)
	if alias := h.aliasFor(dataplane.Probe{IfIndex: 1}); seen[alias] {
		t.Errorf("%s is given again at once", alias)
	}
	h.last = netip.MustParseAddr("169.254.255.253")
	for range 3 {
		alias := h.aliasFor(dataplane.Probe{IfIndex: len(h.aliases) + 10})
		if alias == netip.MustParseAddr("169.254.255.255") || alias == netip.MustParseAddr("169.254.0.1") || alias == netip.MustParseAddr("169.254.0.0") {
			t.Errorf("%s is given as an alias", alias)
		}
	}
}
