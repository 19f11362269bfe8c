package control

import (
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/control/rib"
	"github.com/contrail-mesos/contrail/internal/serve"
)

// border exchanges routes with routers by BGP, while the graph has a bgp-router
// with this control node's name.
//
//	peers --Subscription--> enter: route targets that users set --> rib
//	rib --Observe--> dirty --> leave: networks marked for export --> Speaker.Put
//
// Nothing comes in by accident: a route gets into the networks that import one
// of its targets, but for the targets that the system gave to networks; what has
// no label gets into the table of the fabric, which no network has. Out go
// the routes of networks that are router_external, or that export a target
// which a user set, and single routes to which a routing policy gives one.
type border struct {
	log    *slog.Logger
	tables *tables
	// net is where the speaker's sockets are; nil for the host's.
	net bgp.Network
	// wake has an element when peers, targets or routes may be different.
	wake chan struct{}

	// What follows is under the tables' lock.
	peering *peering
	// returning: since this process began, what routers say has not all come
	// yet. Agents are not told that a table ends, so that they keep what they
	// have of an earlier process.
	returning bool
	// wanted are the targets under which routes come in.
	wanted map[rib.Target]struct{}
	// dirty are routes that may have to go out, or no more.
	dirty map[place]struct{}
	// sent is what peers have been told.
	sent           map[place][]bgp.NLRI
	out            int // routes in sent
	distinguishers *distinguishers
	// takesAt is the address, with port, at which tasks' sessions are taken; empty
	// while there is no speaker.
	takesAt string
	tasks   *tasks
	// troubles bounds the lines of the log that tenants' routes can cause.
	troubles serve.Limiter
	state    struct {
		speaker *bgp.Speaker
		refused map[string]error
		failure string
	}
}

// place is a route of a VRF.
type place struct {
	vrf uint32
	key rib.Key
}

// borderBatch is how many routes are taken in or given out under one lock.
const borderBatch = 512

func newBorder(t *tables) *border {
	b := &border{
		log: t.log, tables: t, wake: make(chan struct{}, 1), returning: true,
		wanted: map[rib.Target]struct{}{}, dirty: map[place]struct{}{}, sent: map[place][]bgp.NLRI{},
		distinguishers: newDistinguishers(),
	}
	b.tasks = newTasks(b)
	t.rib.Observe(b.note)
	t.rib.ObserveHops(firstShared, b.distinguishers.note)
	return b
}

// returnsWithin bounds how long agents keep what routers may not say any more.
const returnsWithin = time.Minute

func (b *border) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// note hears of a route whose paths are others than before.
func (b *border) note(vrf uint32, key rib.Key) {
	b.tasks.note(vrf, key)
	at := place{vrf, key}
	w := b.tables.networks[vrf]
	exported := w != nil && w.exports() && b.state.speaker != nil
	if _, was := b.sent[at]; exported || was {
		b.dirty[at] = struct{}{}
		b.poke()
	}
}

// noteAll has all routes of a VRF looked at, while the RIB has it configured.
// What peers were told and is no route any more has been noted when it went.
func (b *border) noteAll(vrf uint32) {
	keys, _ := b.tables.rib.Keys(vrf)
	for _, key := range keys {
		b.note(vrf, key)
	}
}

// settle ends a change: what has another route distinguisher now goes out anew.
func (b *border) settle() { b.distinguishers.settle(b.noteAll) }

// setPeering takes in what the graph says.
func (b *border) setPeering(p *peering) {
	if !reflect.DeepEqual(b.peering, p) {
		b.peering = p
		b.poke()
	}
	if p == nil || len(p.peers) == 0 {
		b.back()
	}
	if p == nil || p.config == (peeringConfig{}) {
		b.tasks.arriveAll()
	}
}

// isReturning tells whether what routers and tasks say has not all come back yet
// since this process began.
func (b *border) isReturning() bool { return b.returning || len(b.tasks.awaited) > 0 }

// back says that what routers say is all there, or not waited for any longer.
func (b *border) back() {
	if b.returning {
		b.returning = false
		b.tables.touchAll()
		b.tables.sharing = true
	}
}

// retarget computes anew which targets let routes in.
func (b *border) retarget() {
	wanted := map[rib.Target]struct{}{}
	for _, w := range b.tables.networks {
		if w.instance != nil {
			for _, t := range w.instance.external {
				wanted[t] = struct{}{}
			}
		}
	}
	if !reflect.DeepEqual(wanted, b.wanted) {
		b.wanted = wanted
		b.poke()
	}
}

// run keeps a speaker while there is a router to be, until ctx ends.
func (b *border) run(ctx context.Context) error {
	bound := time.AfterFunc(returnsWithin, b.giveUp)
	defer bound.Stop()
	first := true
	for {
		b.tables.mu.Lock()
		p := b.peering
		b.tables.mu.Unlock()
		if p == nil || p.config == (peeringConfig{}) {
			select {
			case <-b.wake:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		err := b.speak(ctx, p.config, first)
		first = false
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			b.log.Warn("BGP does not run; it is tried again", "error", err)
			select {
			case <-time.After(5 * time.Second):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// returned is back for those who do not have the tables' lock.
func (b *border) returned() {
	b.tables.mu.Lock()
	defer b.tables.mu.Unlock()
	b.back()
	b.tables.flush()
}

// giveUp waits for nobody any longer.
func (b *border) giveUp() {
	b.tables.mu.Lock()
	clear(b.tables.expected)
	b.tasks.arriveAll()
	b.tables.touchAll()
	b.tables.mu.Unlock()
	b.returned()
}

// speak runs a speaker for as long as it is to have this configuration.
// restarting says that an earlier process may have had its sessions.
func (b *border) speak(parent context.Context, c peeringConfig, restarting bool) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(errUnwanted)
	speaker, err := bgp.New(bgp.Config{
		AS: c.AS, RouterID: c.RouterID, ClusterID: c.ClusterID, RestartTime: c.RestartTime, LongLived: c.LongLived,
		AlwaysCompareMED: c.AlwaysCompareMED, Restarting: restarting,
		Log: b.log, Network: b.net, Listen: []netip.AddrPort{c.Listen}, Claim: b.tasks.claim,
	})
	if err != nil {
		b.fail(err)
		return err
	}
	b.begin(speaker, c.Listen)
	ended := make(chan error, 1)
	var running sync.WaitGroup
	running.Go(func() { ended <- speaker.Run(ctx) })
	running.Go(func() { b.tasks.run(ctx, c, restarting) })
	err = b.exchange(ctx, speaker, c, ended)
	cancel(errUnwanted)
	running.Wait()
	if parent.Err() != nil {
		return nil // the process ends: agents keep what they have
	}
	b.end()
	if err != nil {
		b.fail(err)
	}
	return err
}

func (b *border) fail(err error) {
	b.tables.mu.Lock()
	defer b.tables.mu.Unlock()
	b.state.failure = err.Error()
}

func (b *border) begin(speaker *bgp.Speaker, listen netip.AddrPort) {
	b.tables.mu.Lock()
	defer b.tables.mu.Unlock()
	b.state.speaker, b.state.failure, b.takesAt = speaker, "", listen.String()
	b.tables.touchAll()
	defer b.tables.flush()
	clear(b.sent)
	b.out = 0
	for number, w := range b.tables.networks {
		if w.exports() {
			b.noteAll(number)
		}
	}
}

func (b *border) end() {
	b.tables.mu.Lock()
	defer b.tables.mu.Unlock()
	b.state.speaker, b.state.refused, b.takesAt = nil, nil, ""
	b.tables.touchAll()
	clear(b.sent)
	clear(b.dirty)
	b.out = 0
	b.tables.clearLearned()
	b.tables.flush()
}

// exchange moves routes between peers and tables until ctx ends, the speaker
// does, or is to be another.
func (b *border) exchange(ctx context.Context, speaker *bgp.Speaker, c peeringConfig, ended <-chan error) error {
	var peers map[string]bgp.PeerConfig
	var wanted map[rib.Target]struct{}
	received := subscribe(speaker)
	defer func() { received.Close() }()
	complete, told, whole := false, false, speaker.Whole()
	for {
		b.tables.mu.Lock()
		p, now := b.peering, b.wanted
		b.tables.mu.Unlock()
		if p == nil || p.config != c {
			return nil
		}
		if !reflect.DeepEqual(peers, p.peers) {
			peers = p.peers
			b.setPeers(speaker, peers)
		}
		if !reflect.DeepEqual(wanted, now) {
			wanted = now
			speaker.SetImports(targetsFor(wanted))
			received = b.again(ctx, speaker, received, wanted)
		}
		more := b.enter(ctx, received, wanted)
		if told && !more {
			told = false
			b.returned()
		}
		left := b.leave(speaker, borderBatch)
		if !left && !complete {
			complete = true
			speaker.Release()
		}
		if more || left {
			continue
		}
		select {
		case <-received.Ready():
		case <-whole:
			told, whole = true, nil
		case <-b.wake:
		case err := <-ended:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// again has all routes of peers looked at once more: what was passed over before
// may be wanted now, or the other way. A new subscription is not told what was
// withdrawn before it began, so the old one is read to its end.
func (b *border) again(ctx context.Context, speaker *bgp.Speaker, old *bgp.Subscription, wanted map[rib.Target]struct{}) *bgp.Subscription {
	received := subscribe(speaker)
	for b.enter(ctx, old, wanted) {
	}
	old.Close()
	return received
}

func subscribe(s *bgp.Speaker) *bgp.Subscription {
	return s.Subscribe(bgp.VPNv4, bgp.VPNv6, bgp.EVPN, bgp.Inet, bgp.Inet6)
}

func targetsFor(wanted map[rib.Target]struct{}) []bgp.RouteTarget {
	targets := make([]bgp.RouteTarget, 0, len(wanted))
	for t := range wanted {
		targets = append(targets, bgp.RouteTarget(t))
	}
	slices.Sort(targets)
	return targets
}

// setPeers logs why a peer is refused once, not again with each change of another.
func (b *border) setPeers(speaker *bgp.Speaker, peers map[string]bgp.PeerConfig) {
	refused := speaker.SetPeers(peers)
	b.tables.mu.Lock()
	before := b.state.refused
	b.state.refused = refused
	b.tables.mu.Unlock()
	for name, err := range refused {
		if was := before[name]; was == nil || was.Error() != err.Error() {
			b.log.Warn("BGP peer is refused", "peer", name, "error", err)
		}
	}
}

// enter takes in what peers said, and reports whether there may be more. A speaker
// that ends takes away what its peers said: that they did not say.
func (b *border) enter(ctx context.Context, from *bgp.Subscription, wanted map[rib.Target]struct{}) (more bool) {
	changes := from.Next(borderBatch)
	if len(changes) == 0 || ctx.Err() != nil {
		return false
	}
	t := b.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range changes {
		c := &changes[i]
		keys, rd := keysOf(c.NLRI)
		var specs []rib.Spec
		for j := range c.Paths {
			if s, ok := specOf(c.NLRI.Family, &c.Paths[j], wanted, b.shortAS()); ok {
				specs = append(specs, s)
			}
		}
		for _, key := range keys {
			t.setLearned(outside{rd, key}, specs)
		}
	}
	t.flush()
	return true
}

// announcer is the speaker, for what goes out.
type announcer interface {
	Put(...bgp.Route) error
	Withdraw(...bgp.NLRI)
}

// leave gives out what is different, up to a number of routes, and reports
// whether there may be more.
func (b *border) leave(to announcer, limit int) (more bool) {
	t := b.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	var put []bgp.Route
	var withdrawn []bgp.NLRI
	n := 0
	for at := range b.dirty {
		if n++; n > limit {
			more = true
			break
		}
		delete(b.dirty, at)
		routes := b.routesOf(at)
		now := make([]bgp.NLRI, len(routes))
		for i := range routes {
			now[i] = routes[i].NLRI
		}
		for _, old := range b.sent[at] {
			if !slices.Contains(now, old) && !b.passedOn(at, old) {
				withdrawn = append(withdrawn, old)
			}
		}
		b.out += len(now) - len(b.sent[at])
		if b.sent[at] = now; len(now) == 0 {
			delete(b.sent, at)
		}
		put = append(put, routes...)
	}
	// Under the lock, so that what is told later is also what was found later.
	to.Withdraw(withdrawn...)
	if to.Put(put...) != nil {
		b.putEach(to, put)
	}
	return more
}

// passedOn tells whether what peers were told of a place is told of another now,
// whose VRF has come by the route distinguisher.
func (b *border) passedOn(at place, old bgp.NLRI) bool {
	rd, _ := old.RD()
	vrf, ok := b.distinguishers.holder(rd)
	return ok && vrf != at.vrf && slices.Contains(b.sent[place{vrf, at.key}], old)
}

// putEach gives out what can be, so that a network with routes that cannot, for
// it has too many route targets, does not keep in those of others.
func (b *border) putEach(to announcer, routes []bgp.Route) {
	for _, r := range routes {
		if err := to.Put(r); err != nil {
			if silent, ok := b.troubles.Admit(time.Now()); ok {
				b.log.Warn("route is not told to BGP peers", "error", err, "not_logged", silent)
			}
			to.Withdraw(r.NLRI)
		}
	}
}
