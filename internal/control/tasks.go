package control

import (
	"context"
	"net"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/control/rib"
)

// tasks keeps the BGP sessions of tasks, each with a speaker of its own: what one
// task says no other is told but by way of the network's table, and none can hold
// up another.
//
//	graph: bgp-as-a-service, interface, node --look--> wanted
//	Speaker.Claim: (node's address, port) --> session --> bgp.Speaker of one peer
//	                                                        |  ^
//	  hearTask <-- what the task announces <----------------+  | routes of the VRF
//	     |                                                     |
//	     +--> allowed? --> rib --Observe--> dirty --leave------+
type tasks struct {
	border *border
	// wake has an element when other sessions are wanted.
	wake chan struct{}

	// What follows is under the tables' lock.
	wanted  map[taskKey]*wish
	running map[taskKey]*taskSession
	byPlace map[netip.AddrPort]*taskSession
	byVRF   map[uint32]map[*taskSession]struct{}
	// awaited are sessions of before this process began whose routes have not come
	// back yet: agents keep them so long.
	awaited map[taskKey]struct{}
}

// taskKey is a bgp-as-a-service at an interface.
type taskKey struct{ iface, service string }

// wish is a session as the graph wants it. It is never changed.
type wish struct {
	service compile.BGPService
	// place is where the session comes from, invalid while the node has no address.
	place netip.AddrPort
	vrf   uint32
}

func newTasks(b *border) *tasks {
	return &tasks{
		border: b, wake: make(chan struct{}, 1), wanted: map[taskKey]*wish{}, running: map[taskKey]*taskSession{},
		byPlace: map[netip.AddrPort]*taskSession{}, byVRF: map[uint32]map[*taskSession]struct{}{}, awaited: map[taskKey]struct{}{},
	}
}

func (k *tasks) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// look takes in which sessions an interface has: before is the port as it was,
// now as it is; either may be nil.
func (k *tasks) look(before, now *port) {
	if before != nil {
		for _, s := range before.services {
			if now == nil || now.bgpService(s.UUID) == nil {
				key := taskKey{before.Interface, s.UUID}
				delete(k.wanted, key)
				k.arrived(key)
				k.poke()
			}
		}
	}
	if now == nil {
		return
	}
	t := k.border.tables
	for _, s := range now.services {
		if now.bgpService(s.UUID) == nil {
			continue
		}
		key, w := taskKey{now.Interface, s.UUID}, &wish{service: s, vrf: now.vrf}
		if a := t.node(now.Node).fabricAddress(); a.IsValid() {
			w.place = netip.AddrPortFrom(a, s.Port)
		}
		if old := k.wanted[key]; old != nil && reflect.DeepEqual(old, w) {
			continue
		}
		k.wanted[key] = w
		if t.position.Epoch == 0 {
			k.awaited[key] = struct{}{}
		}
		k.poke()
	}
}

// arrived says that a session's routes have come, or are not waited for any longer.
func (k *tasks) arrived(key taskKey) {
	if _, ok := k.awaited[key]; ok {
		delete(k.awaited, key)
		k.border.tables.touchAll()
		k.border.tables.sharing = true
	}
}

// arriveAll waits for nobody any longer.
func (k *tasks) arriveAll() {
	for key := range k.awaited {
		k.arrived(key)
	}
}

// note hears of a route whose paths are others than before.
func (k *tasks) note(vrf uint32, key rib.Key) {
	for s := range k.byVRF[vrf] {
		s.note(key)
	}
}

// claim takes a connection of a task over. It is known by where it comes from.
func (k *tasks) claim(c net.Conn) bool {
	from, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return false
	}
	a := from.AddrPort()
	t := k.border.tables
	t.mu.Lock()
	s := k.byPlace[netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())]
	t.mu.Unlock()
	return s != nil && s.speaker.Take(taskPeer, c)
}

// run keeps the sessions that are wanted, for as long as the router is the same,
// until ctx ends. restarting is as that of border.speak.
func (k *tasks) run(ctx context.Context, c peeringConfig, restarting bool) {
	var running sync.WaitGroup
	defer running.Wait()
	t := k.border.tables
	for {
		t.mu.Lock()
		for key, s := range k.running {
			if w := k.wanted[key]; w == nil || w.place != s.wish.place || w.vrf != s.wish.vrf {
				s.cancel(errUnwanted) // it goes, and pokes; then a new one begins
			} else if w != s.wish {
				s.wish = w
				s.poke()
			}
		}
		for key, w := range k.wanted {
			if k.running[key] != nil || !w.place.IsValid() || k.byPlace[w.place] != nil {
				continue
			}
			_, awaited := k.awaited[key] // who comes later knows of no earlier process
			s, err := k.begin(ctx, key, w, c, restarting && awaited)
			if err != nil {
				k.border.log.Warn("a task cannot speak BGP", "service", w.service.Name, "interface", key.iface, "error", err)
				continue
			}
			running.Go(s.run)
		}
		t.mu.Unlock()
		select {
		case <-k.wake:
		case <-ctx.Done():
			return
		}
	}
}

// Bounds of a task, the first two where its service names none.
const (
	taskPrefixes = 1000
	taskPause    = time.Minute
	taskPace     = 64 << 10 // bytes a second, some ten thousand routes
)

// peerConfig is the session as the speaker has it. The task connects, by way of
// its node's translation; its address stands for it in messages only.
func (w *wish) peerConfig() bgp.PeerConfig {
	s := &w.service
	c := bgp.PeerConfig{
		Addr: s.Peers[0].Client, AS: s.AS, LocalAS: s.LocalAS, Passive: true, Hold: time.Duration(s.Hold) * time.Second,
		Multihop: 255, AllowOwnAS: s.LoopCount, ASOverride: s.ASOverride,
		NextHopSelf: true, Self4: s.Gateway4, Self6: s.Gateway6,
		PrivateAS: privateAS[s.PrivateAS], Origin: originOf(s.Origin),
		MaxPrefixes: s.MaxPrefixes, RestartAfter: time.Duration(s.IdleTimeout) * time.Second, Pace: taskPace,
	}
	if c.MaxPrefixes == 0 {
		c.MaxPrefixes, c.RestartAfter = taskPrefixes, taskPause
	}
	for _, name := range s.Families {
		if f, err := bgp.ParseFamily(name); err == nil {
			c.Families = append(c.Families, f)
		}
	}
	return c
}
