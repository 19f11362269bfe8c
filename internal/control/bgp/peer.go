package bgp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// peer keeps the session with a peer up: it connects, takes the peer's
// connections, and keeps its routes over a graceful restart.
type peer struct {
	speaker *Speaker
	name    string
	config  PeerConfig
	log     *slog.Logger

	cancel context.CancelFunc
	wg     sync.WaitGroup
	kick   chan struct{} // connect now

	mu      sync.Mutex
	closed  error // why no connection is taken any more
	conns   []*conn
	session *session
	dialing bool
	until   time.Time // down until then, after too many prefixes; far is for ever
	since   time.Time // of the present state
	lastErr string
	flaps   int // how often the session was lost
	// arrivals are the connections that the peer may begin now.
	arrivals arrivals
	// words are what is read of the peer's session; for its reader alone.
	words words
	// old are the sources of an earlier session, by family, as long as graceful
	// restart keeps its routes.
	old    [numFam]*source
	timers [numFam]*time.Timer
	// setBytes is how large the attributes are that the peer has to account for;
	// the table's lock protects it.
	setBytes int
}

var far = time.Unix(1<<40, 0)

func newPeer(s *Speaker, name string, c PeerConfig) *peer {
	return &peer{
		speaker: s, name: name, config: c, kick: make(chan struct{}, 1), since: time.Now(),
		log: s.config.Log.With("peer", name, "address", c.Addr.String()),
	}
}

func (p *peer) localAS() uint32 {
	if p.config.LocalAS != 0 {
		return p.config.LocalAS
	}
	return p.speaker.config.AS
}

func (p *peer) ebgp() bool { return p.config.AS != p.localAS() }

// start begins to connect and to take connections.
func (p *peer) start(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(ctx)
	if p.config.Disabled {
		p.closed = cease(ceaseShutdown, p.config.Message)
		return
	}
	if !p.config.Passive {
		p.wg.Go(func() { p.connect(ctx) })
	}
}

// stop ends the session, tells the peer why, and waits until nothing is left.
// With keep the routes stay with the peer: this process restarts.
func (p *peer) stop(reason error, keep bool) {
	p.mu.Lock()
	p.closed = reason
	conns := slices.Clone(p.conns)
	p.mu.Unlock()
	if p.cancel != nil { // else it was never started: the speaker does not run yet
		p.cancel()
	}
	for _, k := range conns {
		k.end(p.endReason(k, reason, keep), true)
	}
	p.wg.Wait()
	for _, f := range families {
		p.purgeOld(f)
	}
}

// endReason says an end so that the peer keeps our routes if it shall, and else
// does not (RFC 8538 §3.1).
func (p *peer) endReason(k *conn, reason error, keep bool) error {
	if keep {
		return errors.New("this speaker restarts")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var n *Notification
	if p.session != nil && p.session.conn == k && p.session.n.graceful && p.session.n.notify && errors.As(reason, &n) {
		return &Notification{Code: codeCease, Subcode: ceaseHardReset, Data: append([]byte{n.Code, n.Subcode}, n.Data...)}
	}
	return reason
}

// firstRetry is the time between the first attempts to connect after a loss. A
// router that has just lost a session may refuse the next one for some seconds.
const firstRetry = time.Second

// pause is the time before the next attempt to connect: short at first, then
// longer up to the configured one, three quarters to all of it (RFC 4271 §10).
func (p *peer) pause(attempts int) time.Duration {
	wait := min(firstRetry<<min(attempts/quickRetries, 10), p.config.Retry)
	return wait - rand.N(wait/4+1)
}

// quickRetries is how many attempts there are before the time between them is
// twice as long.
const quickRetries = 4

// connect is the active side: attempts, with time and jitter between them.
func (p *peer) connect(ctx context.Context) {
	wait := rand.N(min(firstRetry, p.config.Retry))
	for attempts := 0; ; attempts++ {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-p.kick:
			timer.Stop()
			attempts = 0
		}
		wait = p.pause(attempts)
		if !p.wantsDial() {
			continue
		}
		c, err := p.dial(ctx)
		p.mu.Lock()
		p.dialing = false
		p.mu.Unlock()
		if err != nil {
			if ctx.Err() == nil {
				p.failed(fmt.Errorf("connect: %w", err))
			}
			continue
		}
		p.serve(c, true)
	}
}

// wantsDial says whether there is no session and may be one.
func (p *peer) wantsDial() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed != nil || p.session != nil || time.Now().Before(p.until) {
		return false
	}
	p.dialing = true
	return true
}

const dialWait = 20 * time.Second

func (p *peer) dial(ctx context.Context) (net.Conn, error) {
	d := &net.Dialer{Timeout: dialWait, KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) error {
		return p.options(raw)
	}}
	if p.config.LocalAddr.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.config.LocalAddr, 0))
	}
	return p.speaker.config.Network.Dial(ctx, d, network(p.config.Addr), netip.AddrPortFrom(p.config.Addr, p.config.Port).String())
}

func network(a netip.Addr) string {
	if a.Is4() {
		return "tcp4"
	}
	return "tcp6"
}

// options sets what the peer's sockets need before they connect.
func (p *peer) options(raw syscall.RawConn) error {
	if p.config.Password != "" {
		if err := md5Key(raw, p.config.Addr, p.config.Password); err != nil {
			return err
		}
	}
	return p.config.hops(p.ebgp()).set(raw, p.config.Addr.Is6())
}

// take runs a connection that the peer began.
func (p *peer) take(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.arrivals.admit(time.Now()):
		c.Close()
	case p.closed == nil:
		p.wg.Go(func() { p.accept(c) })
	default:
		k := &conn{peer: p, c: c}
		go k.end(p.closed, true) // a second at most
	}
}

// arrivals bounds how often a peer may connect: some times in a row, then once
// a second. Each time costs a handshake, and all routes from the beginning.
type arrivals struct {
	used int
	at   time.Time // of the last one
}

const mostArrivals = 10

func (a *arrivals) admit(now time.Time) bool {
	a.used = max(a.used-int(now.Sub(a.at)/time.Second), 0)
	if a.used == mostArrivals {
		return false
	}
	a.used++
	a.at = now
	return true
}

// words bounds how fast a peer is read: one that changes its mind without end costs
// this process no more than the pace allows, whatever it sends.
type words struct {
	ahead int // bytes read before their time
	at    time.Time
}

// mostAhead is more than a session needs to begin: a thousand routes have less.
const mostAhead = 1 << 20

// read says how long to read nothing after n bytes.
func (w *words) read(n, pace int, now time.Time) time.Duration {
	w.ahead = max(w.ahead-int(now.Sub(w.at).Seconds()*float64(pace)), 0) + n
	w.at = now
	return time.Duration(max(w.ahead-mostAhead, 0)) * time.Second / time.Duration(pace)
}

func (p *peer) accept(c net.Conn) {
	if raw, err := c.(syscall.Conn).SyscallConn(); err == nil {
		if err := p.config.hops(p.ebgp()).set(raw, p.config.Addr.Is6()); err != nil {
			p.failed(err)
			c.Close()
			return
		}
	}
	p.serve(c, false)
}

// serve runs a connection until it ends.
func (p *peer) serve(c net.Conn, outgoing bool) {
	k := &conn{peer: p, c: c, outgoing: outgoing, state: Connect, ended: make(chan struct{})}
	if err := p.admit(k); err != nil {
		k.end(err, true)
		return
	}
	n, err := k.handshake()
	var s *session
	if err == nil {
		s, err = p.establish(k, n)
	}
	if err == nil {
		err = s.run()
	}
	k.end(err, false)
	p.leave(k, s)
	close(k.ended)
}

// admit takes a connection in, unless the peer is to be down. A second one from
// the same side takes the place of the first, whose other end is gone.
func (p *peer) admit(k *conn) error {
	p.mu.Lock()
	var before *conn
	err := p.closed
	if err == nil && time.Now().Before(p.until) {
		err = cease(ceaseRejected, "")
	}
	if err == nil {
		for _, o := range p.conns {
			if o.outgoing == k.outgoing && o.state != Established {
				before = o
			}
		}
		p.conns = append(p.conns, k)
	}
	p.mu.Unlock()
	if before != nil {
		before.end(errors.New("the peer connected again"), false)
	}
	return err
}

func (p *peer) setState(k *conn, s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k.state = s
}

// establish makes a connection the session.
func (p *peer) establish(k *conn, n *negotiated) (*session, error) {
	s := &session{
		conn: k, n: n, since: time.Now(), known: map[string]known{}, done: make(chan struct{}),
		decoder: decoder{as4: n.as4, ebgp: p.ebgp(), trusted: p.config.Trusted, origin: p.config.Origin},
		local:   k.c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(),
	}
	var wants *membership
	for _, f := range n.families.list() {
		src := &source{peer: p, addr: p.config.Addr, routerID: n.id, ebgp: p.ebgp(), client: p.config.Client, most: p.config.AddPaths}
		if f == RTC {
			// Without graceful restart nothing depends on our own mark, which
			// must not come before all that is wanted, and nobody owes one.
			wants = newMembership()
			wants.marked = n.graceful
			src.wants = wants
		}
		s.sources[f.index()] = src
	}
	p.mu.Lock()
	if p.session != nil || p.closed != nil {
		defer p.mu.Unlock()
		if p.closed != nil {
			return nil, p.closed
		}
		return nil, cease(ceaseCollision, "")
	}
	k.state = Established
	p.session = s
	p.since = s.since
	p.lastErr = ""
	p.mu.Unlock()
	s.member = p.speaker.rib.join(p.exporter(s), p, wants, func() { s.end(errBehind, false) })
	p.returned(s)
	p.speaker.meet(p, n)
	p.log.Info("BGP session is up", "families", n.families.String(), "hold", n.hold, "router-id", n.id.String(),
		"graceful", n.graceful, "outgoing", k.outgoing)
	return s, nil
}

// exporter is what the peer's group depends on.
func (p *peer) exporter(s *session) exporter {
	own, c := &p.speaker.config, &p.config
	e := exporter{
		families: s.n.families, ebgp: p.ebgp(), client: c.Client, as4: s.n.as4, llgr: s.n.llgr,
		localAS: p.localAS(), prepend: c.Prepend, nextHopSelf: c.NextHopSelf, unchanged: c.NextHopUnchanged,
		routerID: own.RouterID, clusterID: p.speaker.clusterID,
	}
	if s.local.Is4() {
		e.self4 = s.local
	} else {
		e.self6 = s.local.WithZone("")
	}
	if c.Self4.IsValid() {
		e.self4 = c.Self4
	}
	if c.Self6.IsValid() {
		e.self6 = c.Self6
	}
	if c.ASOverride {
		e.override = c.AS
	}
	if c.PrivateAS != KeepPrivate {
		e.private, e.peerAS = c.PrivateAS, c.AS
	}
	return e
}

// run reads and writes until the connection ends.
func (s *session) run() error {
	var writer sync.WaitGroup
	writer.Go(s.write)
	err := s.read()
	s.end(err, false)
	close(s.done)
	writer.Wait()
	s.member.leave()
	return err
}

// leave takes a connection out, and what its session brought unless the peer
// is expected to come back.
func (p *peer) leave(k *conn, s *session) {
	reason := k.reason
	if errors.Is(reason, io.EOF) {
		reason = errors.New("the peer closed the connection")
	}
	tooMany := errors.Is(reason, errTooMany) || errors.Is(reason, errTooLarge)
	if s != nil {
		p.lost(s, k.final || tooMany)
	}
	p.mu.Lock()
	p.conns = slices.DeleteFunc(p.conns, func(o *conn) bool { return o == k })
	if s != nil {
		p.session = nil
		p.flaps++
		p.since = time.Now()
	}
	if tooMany {
		p.until = far
		if p.config.RestartAfter > 0 {
			p.until = time.Now().Add(p.config.RestartAfter)
		}
	}
	p.mu.Unlock()
	p.failed(reason)
	if s != nil {
		p.log.Warn("BGP session is down", "reason", reason, "after", time.Since(s.since).Round(time.Second))
		if time.Since(s.since) > steady {
			p.again()
		}
	}
}

// steady is how long a session must have lasted for the next attempt to come at
// once: one that ends again and again shall not do so without pause.
const steady = 30 * time.Second

// again connects now.
func (p *peer) again() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// failed keeps the last error, and logs it when it is another one.
func (p *peer) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if text := err.Error(); text != p.lastErr {
		p.lastErr = text
		if p.session == nil {
			p.log.Info("BGP connection failed", "reason", text)
		}
	}
}
