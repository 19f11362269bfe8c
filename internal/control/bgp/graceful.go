package bgp

import (
	"errors"
	"time"
)

// stalePath is how long routes of before a restart may wait for the peer's
// end-of-RIB mark after it came back.
const stalePath = 360 * time.Second

// lost takes a session's routes away, or keeps them as stale where both sides
// said that they can restart gracefully: RFC 4724 §4.2, with RFC 8538 also
// after a NOTIFICATION, but not after a hard reset.
func (p *peer) lost(s *session, final bool) {
	var n *Notification
	notified := errors.As(s.reason, &n)
	keep := s.n.graceful && !final &&
		(!notified || s.n.notify && (n.Code != codeCease || n.Subcode != ceaseHardReset))
	rib := p.speaker.rib
	for i, src := range s.sources {
		f := families[i]
		if before := s.refreshed[i]; before != nil {
			rib.purge(f, before)
		}
		switch {
		case src == nil:
		case keep && f != RTC && s.n.keep.has(f) && s.n.restart+s.n.longLived[i] > 0:
			p.purgeOld(f) // of a restart that was not over yet
			rib.age(f, src, stale)
			p.keepOld(f, src, s.n.restart, s.n.longLived[i])
		default:
			rib.purge(f, src)
		}
	}
}

// keepOld waits for the peer: for the restart time, then as long as its routes
// may be a last resort (RFC 9494).
func (p *peer) keepOld(f Family, src *source, restart, long time.Duration) {
	i := f.index()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.old[i] = src
	p.timers[i] = time.AfterFunc(restart, func() {
		if !p.isOld(i, src) {
			return
		}
		if long == 0 {
			p.log.Warn("peer did not come back, its routes go", "family", f.String(), "after", restart)
			p.purgeOld(f)
			return
		}
		p.log.Warn("peer did not come back, its routes are a last resort", "family", f.String(), "for", long)
		p.speaker.rib.age(f, src, longStale)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.old[i] == src {
			p.timers[i] = time.AfterFunc(long, func() { p.purgeIf(f, src) })
		}
	})
}

func (p *peer) isOld(i int, src *source) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.old[i] == src
}

// returned decides on routes of before a restart when the peer is there again:
// they wait for the end-of-RIB mark where its forwarding went on, else they go.
func (p *peer) returned(s *session) {
	for i, f := range families {
		p.mu.Lock()
		src := p.old[i]
		keep := src != nil && s.n.preserved.has(f) && s.n.families.has(f)
		if keep {
			p.timers[i].Stop()
			p.timers[i] = time.AfterFunc(stalePath, func() { p.purgeIf(f, src) })
		}
		p.mu.Unlock()
		if !keep {
			p.purgeOld(f)
		}
	}
}

func (p *peer) purgeIf(f Family, src *source) {
	if p.isOld(f.index(), src) {
		p.purgeOld(f)
	}
}

// purgeOld removes what is left of an earlier session's routes.
func (p *peer) purgeOld(f Family) {
	i := f.index()
	p.mu.Lock()
	src := p.old[i]
	p.old[i] = nil
	if p.timers[i] != nil {
		p.timers[i].Stop()
		p.timers[i] = nil
	}
	p.mu.Unlock()
	if src != nil {
		p.speaker.rib.purge(f, src)
	}
}
