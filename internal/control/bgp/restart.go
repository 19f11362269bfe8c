package bgp

import (
	"sync"
	"time"
)

const (
	// comeBack is how long peers without a session are waited for after a
	// restart. A router that is not there by then is down, and holds up nobody.
	comeBack = 30 * time.Second
	// telling is how long a peer that marks no end takes to tell its routes.
	telling = 5 * time.Second
)

// restart is what a speaker that follows an earlier process waits for: the
// owner's word that its own routes are complete, and the routes of the peers.
type restart struct {
	mu       sync.Mutex
	released bool
	// peersSet: it is known who the peers are. awaited is what is still to come
	// of them, by name.
	peersSet bool
	awaited  map[string]familySet
	whole    chan struct{}
}

// restarting says whether peers are told that the speaker has just restarted.
func (s *Speaker) restarting() bool {
	return s.config.Restarting && time.Since(s.began) < s.config.RestartTime
}

// Release says that the speaker's own routes are complete after a restart.
// They go out when the peers' are there, too, or are not waited for any longer,
// so that nobody drops in between what is to come (RFC 4724 §4.1).
func (s *Speaker) Release() {
	s.restart.mu.Lock()
	defer s.restart.mu.Unlock()
	s.restart.released = true
	s.goOn()
}

// Whole is closed when the peers' routes are here after a restart, or are not
// waited for any longer: then what is missing is gone.
func (s *Speaker) Whole() <-chan struct{} { return s.restart.whole }

// await waits for the peers' end-of-RIB marks.
func (s *Speaker) await(peers map[string]PeerConfig) {
	r := &s.restart
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.isWhole() {
		return
	}
	for name, c := range peers {
		if _, ok := r.awaited[name]; !ok && !c.Disabled && !r.peersSet {
			var set familySet
			for _, f := range c.Families {
				set.add(f)
			}
			r.awaited[name] = set
		}
	}
	for name := range r.awaited {
		if c, ok := peers[name]; !ok || c.Disabled {
			delete(r.awaited, name)
		}
	}
	r.peersSet = true
	s.goOn()
}

func (r *restart) isWhole() bool {
	select {
	case <-r.whole:
		return true
	default:
		return false
	}
}

// meet notes what a peer with a new session will tell the end of: nothing, if
// it knows no such marks or waits for ours itself (RFC 4724 §4.1).
func (s *Speaker) meet(p *peer, n *negotiated) {
	r := &s.restart
	r.mu.Lock()
	defer r.mu.Unlock()
	set, ok := r.awaited[p.name]
	switch {
	case !ok:
	case n.graceful && !n.restarts:
		r.awaited[p.name] = set & n.families
		s.goOn()
	default:
		time.AfterFunc(telling, func() { s.forgo(func(name string) bool { return name == p.name }) })
	}
}

func (s *Speaker) gotEnd(p *peer, f Family) {
	r := &s.restart
	r.mu.Lock()
	defer r.mu.Unlock()
	if set, ok := r.awaited[p.name]; ok {
		set.remove(f)
		r.awaited[p.name] = set
		s.goOn()
	}
}

// boundWait gives up peers that are down, and after the restart time all. It
// returns what ends that.
func (s *Speaker) boundWait() (stop func()) {
	absent := time.AfterFunc(comeBack, func() {
		up := s.up()
		s.forgo(func(name string) bool { return !up[name] })
	})
	all := time.AfterFunc(max(s.config.RestartTime, comeBack+telling), func() {
		s.forgo(func(string) bool { return true })
	})
	return func() {
		absent.Stop()
		all.Stop()
	}
}

// up are the peers that have a session.
func (s *Speaker) up() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	up := map[string]bool{}
	for name, p := range s.peers {
		p.mu.Lock()
		up[name] = p.session != nil
		p.mu.Unlock()
	}
	return up
}

// forgo does not wait any longer for those that match.
func (s *Speaker) forgo(match func(name string) bool) {
	r := &s.restart
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.awaited {
		if match(name) {
			delete(r.awaited, name)
		}
	}
	s.goOn()
}

// goOn ends the wait when nothing is to come. Under the lock.
func (s *Speaker) goOn() {
	r := &s.restart
	if !r.peersSet {
		return
	}
	for _, set := range r.awaited {
		if set != 0 {
			return
		}
	}
	if !r.isWhole() {
		close(r.whole)
	}
	if !r.released {
		return
	}
	s.rib.mu.Lock()
	defer s.rib.mu.Unlock()
	s.rib.held = false
	s.rib.wake()
}
