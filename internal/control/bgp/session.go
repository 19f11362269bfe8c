package bgp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// session is an established connection. Its reader parses and applies, its
// writer asks the group for messages.
type session struct {
	*conn
	n       *negotiated
	decoder decoder
	sources [numFam]*source
	member  *member
	since   time.Time
	local   netip.Addr
	// known are the attribute blocks that came last, decoded; by their bytes.
	known map[string]known
	key   []byte
	u     update
	route nlri
	// after is done when the lock is free.
	after []func()
	// warned is how far the warnings of the limit went.
	warned int
	count  counters
	done   chan struct{}
	// refreshed are the sources before a refresh that is going on (RFC 7313).
	refreshed [numFam]*source
	// missed are families in which there were more paths of a route than are taken;
	// asking is set while one that went is about to be asked for. The table's lock
	// protects both.
	missed familySet
	asking bool
}

type known struct {
	attrs    *Attrs
	withdraw error
	rejected bool
}

// maxKnown bounds known.
const maxKnown = 512

type counters struct {
	messagesIn, messagesOut, updatesIn, updatesOut atomic.Uint64
	routesIn, withdrawnIn, routesOut, bytesOut     atomic.Uint64
	malformed, rejected, discarded, excess         atomic.Uint64
}

const (
	readBuffer = 64 << 10
	// sendHold is how long a peer may take nothing (RFC 9687).
	sendHold = 8 * time.Minute
)

// read takes messages until the connection ends. The hold time is one between
// messages: bytes alone do not keep a session.
func (s *session) read() error {
	buf := make([]byte, readBuffer)
	have, used := 0, 1
	for {
		if used > 0 && s.n.hold > 0 {
			if err := s.c.SetReadDeadline(time.Now().Add(s.n.hold)); err != nil {
				return err
			}
		}
		n, err := s.c.Read(buf[have:])
		have += n
		var bad error
		used, bad = s.handle(buf[:have])
		if bad != nil {
			return bad
		}
		have = copy(buf, buf[used:have])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return &Notification{Code: codeHold}
		}
		if err != nil {
			return err
		}
		if pace := s.peer.config.Pace; pace > 0 {
			time.Sleep(s.peer.words.read(n, pace, time.Now()))
		}
	}
}

// handle takes all whole messages of buf, under one hold of the lock as far as
// they are updates, and returns how much that was.
func (s *session) handle(buf []byte) (used int, err error) {
	rib := s.peer.speaker.rib
	locked := false
	unlock := func() {
		if locked {
			rib.wake()
			rib.mu.Unlock()
			locked = false
		}
		for _, f := range s.after {
			f()
		}
		s.after = s.after[:0]
	}
	defer unlock()
	for len(buf)-used >= headerSize {
		size, kind, bad := checkHeader(buf[used:])
		if bad != nil {
			return used, bad
		}
		if len(buf)-used < size {
			break
		}
		body := buf[used+headerSize : used+size]
		used += size
		s.count.messagesIn.Add(1)
		if kind == msgUpdate {
			if !locked {
				rib.mu.Lock()
				locked = true
			}
			s.count.updatesIn.Add(1)
			if err := s.update(body); err != nil {
				return used, err
			}
			continue
		}
		unlock()
		if err := s.other(kind, body); err != nil {
			return used, err
		}
	}
	return used, nil
}

// other takes a message that is no UPDATE.
func (s *session) other(kind uint8, body []byte) error {
	switch kind {
	case msgAlive:
		return nil
	case msgNotify:
		return peerError{&Notification{body[0], body[1], slices.Clone(body[2:])}}
	case msgRefresh:
		f := Family(uint32(body[0])<<24 | uint32(body[1])<<16 | uint32(body[3]))
		if s.n.families.has(f) {
			s.refreshing(f, body[2])
		}
		return nil
	}
	return &Notification{Code: codeFSM, Subcode: 3} // RFC 6608: unexpected in Established
}

// refreshing takes a ROUTE-REFRESH: a request, or the marks around an answer,
// after which is gone what was not in it (RFC 7313).
func (s *session) refreshing(f Family, subtype uint8) {
	i := f.index()
	switch {
	case subtype == refreshRequest:
		s.member.refresh(f, s.n.enhanced)
	case subtype == refreshBegin && s.n.enhanced && s.refreshed[i] == nil:
		s.refreshed[i] = s.sources[i]
		again := *s.sources[i]
		again.count = 0
		s.setSource(i, &again)
	case subtype == refreshEnd && s.refreshed[i] != nil:
		s.peer.speaker.rib.purge(f, s.refreshed[i])
		s.refreshed[i] = nil
	}
}

// update applies an UPDATE, under the table's lock.
func (s *session) update(body []byte) error {
	u := &s.u
	if bad := u.parse(body); bad != nil {
		return bad
	}
	if len(body) == 4 {
		s.marked(Inet)
		return nil
	}
	if u.unreach.present && len(u.unreach.routes) == 0 && len(u.attrs) == 0 && !u.reach.present {
		s.marked(u.unreach.family)
		return nil
	}
	if err := s.withdraw(Inet, u.withdrawn); err != nil {
		return err
	}
	if u.unreach.present {
		if err := s.withdraw(u.unreach.family, u.unreach.routes); err != nil {
			return err
		}
	}
	if u.reach.present {
		if err := s.reach(u.reach.family, u.reach.nextHop, u.reach.routes); err != nil {
			return err
		}
	}
	if len(u.routes) > 0 {
		if err := s.reach(Inet, netip.Addr{}, u.routes); err != nil {
			return err
		}
	}
	return s.checkLimit()
}

// withdraw removes routes.
func (s *session) withdraw(f Family, b []byte) error {
	if !s.n.families.has(f) {
		return nil // RFC 4760 §6: not negotiated
	}
	i := f.index()
	t, src := s.peer.speaker.rib.tables[i], s.sources[i]
	for len(b) > 0 {
		rest, err := s.route.next(f, b, s.n.addPath.has(f), true)
		if err != nil {
			return badNetwork(f, err)
		}
		if b = rest; !s.route.ignored {
			s.remove(f, t, src)
			s.count.withdrawnIn.Add(1)
		}
	}
	return nil
}

// badNetwork ends the session: where a route ends is not known (RFC 7606 §5.3).
func badNetwork(f Family, err error) error {
	if f == Inet {
		return fmt.Errorf("%w: %w", &Notification{Code: codeUpdate, Subcode: updateNetwork}, err)
	}
	return fmt.Errorf("%w: %w", &Notification{Code: codeUpdate, Subcode: updateOptional}, err)
}

// reach adds routes, or takes them as withdrawn if their attributes are wrong.
func (s *session) reach(f Family, hop netip.Addr, b []byte) error {
	if !s.n.families.has(f) {
		return nil
	}
	k, err := s.attributes(hop)
	if err != nil {
		return err
	}
	if k.withdraw != nil {
		s.refuse(f, k)
		return s.withdrawReached(f, b)
	}
	i := f.index()
	rib := s.peer.speaker.rib
	t, src := rib.tables[i], s.sources[i]
	attrs := rib.pool.take(k.attrs)
	defer rib.pool.release(attrs)
	attrs.charge(s.peer)
	n := uint64(0)
	for len(b) > 0 {
		rest, err := s.route.next(f, b, s.n.addPath.has(f), false)
		if err != nil {
			return badNetwork(f, err)
		}
		if b = rest; !s.route.ignored {
			n++
			if !t.put(src, &s.route, attrs) {
				s.missed.add(f)
				s.count.excess.Add(1)
			}
		}
	}
	s.count.routesIn.Add(n)
	return nil
}

// withdrawReached removes routes that were announced with wrong attributes.
func (s *session) withdrawReached(f Family, b []byte) error {
	i := f.index()
	t, src := s.peer.speaker.rib.tables[i], s.sources[i]
	for len(b) > 0 {
		rest, err := s.route.next(f, b, s.n.addPath.has(f), false)
		if err != nil {
			return badNetwork(f, err)
		}
		if b = rest; !s.route.ignored {
			s.remove(f, t, src)
		}
	}
	return nil
}

// remove takes away the path that is being read. There may be one in its place that
// was too many before.
func (s *session) remove(f Family, t *table, src *source) {
	if t.remove(src, s.route.key, s.route.id) && s.missed.has(f) {
		s.askAgain()
	}
}

// askPause is how long the peer is not asked for what was too many before: more may
// go meanwhile, and it tells all its routes again each time.
const askPause = 5 * time.Second

// askAgain has the peer asked, in a while, for all routes of the families in which
// there were too many paths.
func (s *session) askAgain() {
	if s.asking || !s.n.refresh {
		return
	}
	s.asking = true
	time.AfterFunc(askPause, func() {
		rib := s.peer.speaker.rib
		rib.mu.Lock()
		missed := s.missed
		s.missed, s.asking = 0, false
		rib.mu.Unlock()
		for _, f := range missed.list() {
			select {
			case <-s.done:
				return
			default:
				_ = s.send(routeRefresh(f, refreshRequest)) // an error ends the session
			}
		}
	})
}

func (s *session) refuse(f Family, k known) {
	if k.rejected {
		s.count.rejected.Add(1)
		return
	}
	if s.count.malformed.Add(1) == 1 {
		s.peer.log.Warn("malformed update, its routes are taken as withdrawn", "family", f.String(), "reason", k.withdraw)
	}
}

// attributes returns the set of the update's attributes.
func (s *session) attributes(hop netip.Addr) (known, error) {
	if s.u.withdraw != nil {
		return known{withdraw: s.u.withdraw}, nil
	}
	s.key = append(append(s.key[:0], byte(hop.BitLen())), hop.AsSlice()...)
	s.key = append(s.key, s.u.attrs...)
	if k, ok := s.known[string(s.key)]; ok {
		return k, nil
	}
	before := s.decoder.discarded
	attrs, bad, withdraw := s.decoder.decode(s.u.attrs, hop)
	s.count.discarded.Add(s.decoder.discarded - before)
	if bad != nil {
		return known{}, bad
	}
	k := known{attrs: attrs, withdraw: withdraw}
	if withdraw == nil {
		k.withdraw = s.reject(attrs)
		k.rejected = k.withdraw != nil
	}
	if len(s.known) >= maxKnown {
		clear(s.known)
	}
	s.known[string(s.key)] = k
	return k, nil
}

// reject says why routes are not for this speaker: loops, and next hops that
// are itself.
func (s *session) reject(a *Attrs) error {
	own := &s.peer.speaker.config
	allowed := int(s.peer.config.AllowOwnAS)
	if n := max(a.ASPath.count(own.AS), a.ASPath.count(s.peer.localAS())); n > allowed {
		return errors.New("the own AS is in the AS path")
	}
	if s.decoder.ebgp && a.ASPath.First() != s.peer.config.AS {
		return errors.New("the AS path does not begin with the peer's AS")
	}
	if a.OriginatorID == own.RouterID {
		return errors.New("the route was reflected from here")
	}
	if slices.Contains(a.ClusterList, s.peer.speaker.clusterID) {
		return errors.New("the own cluster is in the cluster list")
	}
	if a.NextHop == s.local {
		return errors.New("the next hop is this speaker")
	}
	return nil
}

// checkLimit ends a session that brings more routes than it may.
func (s *session) checkLimit() error {
	c := &s.peer.config
	total := 0
	for _, src := range s.sources {
		if src != nil {
			total += src.count
		}
	}
	switch {
	case total > c.MaxPrefixes && !c.WarnOnly:
		return errTooMany
	case s.peer.setBytes > c.maxSetBytes():
		return errTooLarge
	case total > c.MaxPrefixes && s.warned < 2:
		s.warned = 2
		s.peer.log.Warn("peer is over its maximum of prefixes", "maximum", c.MaxPrefixes)
	case total > c.MaxPrefixes/4*3 && s.warned < 1:
		s.warned = 1
		s.peer.log.Warn("peer comes near its maximum of prefixes", "prefixes", total, "maximum", c.MaxPrefixes)
	}
	return nil
}

var (
	errTooMany  = fmt.Errorf("%w", &Notification{Code: codeCease, Subcode: ceaseMaxPrefixes})
	errTooLarge = fmt.Errorf("the attributes of the peer's routes are too large: %w", &Notification{Code: codeCease, Subcode: ceaseResources})
	errBehind   = fmt.Errorf("the peer is too far behind in reading: %w", &Notification{Code: codeCease, Subcode: ceaseResources})
)

// marked takes an end-of-RIB mark.
func (s *session) marked(f Family) {
	if !s.n.families.has(f) {
		return
	}
	s.after = append(s.after, func() {
		if f == RTC {
			s.member.ready()
		}
		s.peer.purgeOld(f)
		s.peer.speaker.gotEnd(s.peer, f)
	})
}

// write sends what the group has, and keepalives, until the connection ends.
func (s *session) write() {
	var tick <-chan time.Time
	if s.n.hold > 0 {
		ticker := time.NewTicker(s.n.hold / 3)
		defer ticker.Stop()
		tick = ticker.C
	}
	wait := time.NewTimer(rtcWait)
	defer wait.Stop()
	due := func() bool { // a keepalive, also among many updates
		select {
		case <-tick:
			return s.send(keepalive) == nil
		default:
			return true
		}
	}
	for {
		for b := s.member.next(); b != nil; b = s.member.next() {
			if s.sendBatch(b) != nil || !due() {
				return
			}
		}
		select {
		case <-s.done:
			return
		case <-s.member.wake:
		case <-wait.C:
			s.member.ready()
		case <-tick:
			if s.send(keepalive) != nil {
				return
			}
		}
	}
}

// rtcWait is how long routes wait for the end of the peer's membership (RFC 4684
// §6), if it marks that.
const rtcWait = 60 * time.Second

var keepalive = appendHeader(nil, headerSize, msgAlive)

// sendBatch writes the parts of a batch that are for the peer, in as few calls
// as they allow.
func (s *session) sendBatch(b *batch) error {
	var pieces net.Buffers
	messages, routes := uint64(0), uint64(0)
	start, end := 0, 0
	for i := range b.parts {
		p := &b.parts[i]
		if !b.isFor(p, s.peer, s.member.wants) {
			continue
		}
		messages++
		routes += uint64(p.routes)
		if p.start != end {
			if end > start {
				pieces = append(pieces, b.data[start:end])
			}
			start = p.start
		}
		end = p.end
	}
	if end > start {
		pieces = append(pieces, b.data[start:end])
	}
	if len(pieces) == 0 {
		return nil
	}
	s.count.updatesOut.Add(messages)
	s.count.routesOut.Add(routes)
	s.count.messagesOut.Add(messages)
	if err := s.deadline(); err != nil {
		return err
	}
	n, err := pieces.WriteTo(s.c)
	s.count.bytesOut.Add(uint64(n))
	return s.sent(err)
}

func (s *session) send(message []byte) error {
	s.count.messagesOut.Add(1)
	if err := s.deadline(); err != nil {
		return err
	}
	_, err := s.c.Write(message)
	return s.sent(err)
}

func (s *session) deadline() error {
	return s.c.SetWriteDeadline(time.Now().Add(max(sendHold, 2*s.n.hold)))
}

// sent ends the connection if writing to it failed.
func (s *session) sent(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.end(&Notification{Code: codeSendHold}, true)
	} else if err != nil {
		s.end(err, false)
	}
	return err
}

// setSource replaces where the session's paths of a family come from.
func (s *session) setSource(i int, src *source) {
	rib := s.peer.speaker.rib
	rib.mu.Lock()
	defer rib.mu.Unlock()
	s.sources[i] = src
}
