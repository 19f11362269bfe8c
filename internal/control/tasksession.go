package control

import (
	"context"
	"errors"
	"reflect"
	"sync"

	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/control/rib"
)

// taskPeer is the name of the one peer of a task's speaker.
const taskPeer = "task"

// taskSession is what this control node exchanges with one task.
type taskSession struct {
	tasks   *tasks
	key     taskKey
	speaker *bgp.Speaker
	ctx     context.Context
	cancel  context.CancelCauseFunc
	wake    chan struct{}

	// What follows is under the tables' lock.
	wish *wish
	// dirty are routes that the task may have to be told, or not any more; told
	// are those that it was.
	dirty, told map[rib.Key]struct{}
	// error is why the session cannot be.
	error string
}

// begin makes a session, under the tables' lock.
func (k *tasks) begin(parent context.Context, key taskKey, w *wish, c peeringConfig, restarting bool) (*taskSession, error) {
	speaker, err := bgp.New(bgp.Config{
		AS: c.AS, RouterID: c.RouterID, RestartTime: c.RestartTime, LongLived: c.LongLived, Restarting: restarting,
		Log: k.border.log.With("service", w.service.Name, "interface", key.iface), Network: k.border.net,
	})
	if err != nil {
		return nil, err
	}
	s := &taskSession{
		tasks: k, key: key, speaker: speaker, wake: make(chan struct{}, 1), wish: w,
		dirty: map[rib.Key]struct{}{}, told: map[rib.Key]struct{}{},
	}
	s.ctx, s.cancel = context.WithCancelCause(parent)
	k.running[key], k.byPlace[w.place] = s, s
	if k.byVRF[w.vrf] == nil {
		k.byVRF[w.vrf] = map[*taskSession]struct{}{}
	}
	k.byVRF[w.vrf][s] = struct{}{}
	s.noteAll()
	return s, nil
}

// errUnwanted ends a session that shall not be any more. Without it the process
// ends: agents keep what they have, as forwarding goes on.
var errUnwanted = errors.New("the session is not wanted any more")

// end takes a session out, and what it brought unless the process ends.
func (s *taskSession) end() {
	t, k := s.tasks.border.tables, s.tasks
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(k.running, s.key)
	delete(k.byPlace, s.wish.place)
	if delete(k.byVRF[s.wish.vrf], s); len(k.byVRF[s.wish.vrf]) == 0 {
		delete(k.byVRF, s.wish.vrf)
	}
	if errors.Is(context.Cause(s.ctx), errUnwanted) {
		t.forgetTask(s.speech())
		t.flush()
	}
	k.poke()
}

func (s *taskSession) speech() speech { return speech{iface: s.key.iface, service: s.key.service} }

func (s *taskSession) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *taskSession) note(key rib.Key) {
	if key.Kind() == rib.Unicast {
		s.dirty[key] = struct{}{}
		s.poke()
	}
}

// noteAll has all routes of the network looked at, and all that the task was told.
func (s *taskSession) noteAll() {
	keys, _ := s.tasks.border.tables.rib.Keys(s.wish.vrf)
	for _, key := range keys {
		s.note(key)
	}
	for key := range s.told {
		s.note(key)
	}
}

// run moves routes between the task and the network until the session is not
// wanted any more.
func (s *taskSession) run() {
	defer s.end()
	var speaking sync.WaitGroup
	defer speaking.Wait()
	defer s.cancel(errUnwanted)
	speaking.Go(func() { _ = s.speaker.Run(s.ctx) }) // it listens nowhere: it ends with ctx
	received := s.speaker.Subscribe(bgp.Inet, bgp.Inet6)
	defer received.Close()
	var now *wish
	complete, whole, came := false, s.speaker.Whole(), false
	for {
		now = s.configure(now)
		more := s.enter(received)
		if came && !more {
			came = false
			s.arrived()
		}
		left := s.leave()
		if !left && !complete {
			complete = true
			s.speaker.Release()
		}
		if more || left {
			if s.ctx.Err() != nil {
				return
			}
			continue
		}
		select {
		case <-received.Ready():
		case <-whole:
			came, whole = true, nil
		case <-s.wake:
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *taskSession) arrived() {
	t := s.tasks.border.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	s.tasks.arrived(s.key)
	t.flush()
}

// configure makes the speaker's peer what is wanted, which may be what it is.
func (s *taskSession) configure(before *wish) *wish {
	t := s.tasks.border.tables
	t.mu.Lock()
	now := s.wish
	if before != nil && now != before {
		s.noteAll()
	}
	t.mu.Unlock()
	if now == before {
		return now
	}
	c := now.peerConfig()
	if before != nil && reflect.DeepEqual(before.peerConfig(), c) {
		return now
	}
	refused := s.speaker.SetPeers(map[string]bgp.PeerConfig{taskPeer: c})[taskPeer]
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.error = ""; refused != nil {
		s.error = refused.Error()
		t.log.Warn("BGP with a task is refused", "service", now.service.Name, "interface", s.key.iface, "error", refused)
	}
	return now
}

// enter takes in what the task said, and reports whether there may be more.
func (s *taskSession) enter(from *bgp.Subscription) (more bool) {
	changes := from.Next(borderBatch)
	if len(changes) == 0 || s.ctx.Err() != nil { // a speaker that ends takes away what the task said
		return false
	}
	routes := make([]said, 0, len(changes))
	for i := range changes {
		if r, ok := saidBy(&changes[i]); ok {
			routes = append(routes, r)
		}
	}
	t := s.tasks.border.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hearTask(s.speech(), routes)
	t.flush()
	return true
}

// leave tells the task what is different, and reports whether there may be more.
func (s *taskSession) leave() (more bool) {
	t := s.tasks.border.tables
	t.mu.Lock()
	defer t.mu.Unlock()
	var put []bgp.Route
	var withdrawn []bgp.NLRI
	n := 0
	for key := range s.dirty {
		if n++; n > borderBatch {
			more = true
			break
		}
		delete(s.dirty, key)
		if attrs := s.attributes(t.rib.Chosen(s.wish.vrf, key), key); attrs != nil {
			put = append(put, bgp.Route{NLRI: bgp.PrefixNLRI(key.Prefix()), Attrs: attrs})
			s.told[key] = struct{}{}
		} else if _, was := s.told[key]; was {
			withdrawn = append(withdrawn, bgp.PrefixNLRI(key.Prefix()))
			delete(s.told, key)
		}
	}
	// Under the lock, so that what is told later is also what was found later.
	s.speaker.Withdraw(withdrawn...)
	if s.speaker.Put(put...) != nil {
		for _, r := range put {
			if err := s.speaker.Put(r); err != nil {
				s.speaker.Withdraw(r.NLRI)
			}
		}
	}
	return more
}

// attributes are those with which the task is told a route; nil when it is not.
// The gateway is the way to everything, and it needs no telling what leads to
// itself.
func (s *taskSession) attributes(paths []*rib.Path, key rib.Key) *bgp.Attrs {
	service := &s.wish.service
	hop := service.Gateway6
	if key.Prefix().Addr().Is4() {
		hop = service.Gateway4
	}
	if len(paths) == 0 || service.Suppressed || !hop.IsValid() {
		return nil
	}
	for _, p := range paths {
		if p.InterfaceID() == s.key.iface {
			return nil
		}
	}
	p := paths[0]
	a := &bgp.Attrs{
		NextHop: hop, Origin: p.Origin, ASPath: bgp.NewASPath(p.ASPath...), LocalPref: bgp.Some(p.LocalPreference),
		Communities: p.Communities,
	}
	if p.MED != 0 {
		a.MED = bgp.Some(p.MED)
	}
	return a
}
