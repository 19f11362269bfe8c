package bgp

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Speaker is a BGP speaker. Its methods may be called by several goroutines.
type Speaker struct {
	config    Config
	clusterID uint32
	rib       *rib
	local     [numFam]*source
	began     time.Time

	mu        sync.Mutex
	ctx       context.Context // while Run runs
	peers     map[string]*peer
	byAddr    map[netip.Addr]*peer
	listeners []net.Listener
	imports   map[RouteTarget]struct{}

	restart restart
}

// New returns a speaker that does nothing until Run.
func New(c Config) (*Speaker, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("BGP speaker: %w", err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Network == nil {
		c.Network = hostNetwork{}
	}
	cluster := c.ClusterID
	if !cluster.IsValid() {
		cluster = c.RouterID
	}
	ip := cluster.As4()
	s := &Speaker{
		config: c, clusterID: binary.BigEndian.Uint32(ip[:]), rib: newRIB(), peers: map[string]*peer{},
		byAddr: map[netip.Addr]*peer{}, imports: map[RouteTarget]struct{}{}, began: time.Now(),
		restart: restart{awaited: map[string]familySet{}, whole: make(chan struct{})},
	}
	s.rib.alwaysMED = c.AlwaysCompareMED
	s.rib.held = c.Restarting && c.RestartTime > 0
	if !c.Restarting {
		close(s.restart.whole)
	}
	for i := range s.local {
		s.local[i] = &source{routerID: c.RouterID}
	}
	return s, nil
}

// Run listens and keeps the sessions until ctx ends. Peers are then told that
// the speaker shuts down, or, with graceful restart, nothing: they keep our
// routes for the restart time.
func (s *Speaker) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var listening sync.WaitGroup
	defer listening.Wait()
	defer s.closeListeners()
	for _, addr := range s.config.Listen {
		if err := s.listen(ctx, addr); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.ctx = ctx
	for _, p := range s.peers {
		p.start(ctx)
	}
	for _, l := range s.listeners {
		listening.Go(func() { s.accept(l) })
	}
	s.mu.Unlock()
	if s.config.Restarting {
		defer s.boundWait()()
	}
	<-ctx.Done()
	s.mu.Lock()
	s.ctx = nil
	peers := s.peers
	s.peers, s.byAddr = map[string]*peer{}, map[netip.Addr]*peer{}
	s.mu.Unlock()
	s.stopAll(peers, cease(ceaseShutdown, ""), s.config.RestartTime > 0)
	return nil
}

func (s *Speaker) stopAll(peers map[string]*peer, reason error, keep bool) {
	var wg sync.WaitGroup
	for _, p := range peers {
		wg.Go(func() { p.stop(reason, keep) })
	}
	wg.Wait()
}

func (s *Speaker) listen(ctx context.Context, addr netip.AddrPort) error {
	v6 := addr.Addr().Is6()
	lc := &net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, raw syscall.RawConn) error {
		return hops{send: 255}.set(raw, v6) // for peers that check it
	}}
	l, err := s.config.Network.Listen(ctx, lc, network(addr.Addr()), addr.String())
	if err != nil {
		return fmt.Errorf("listen for BGP peers on %s: %w", addr, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, l)
	for _, p := range s.peers {
		s.setKey(l, p.config.Addr, p.config.Password, p.log)
	}
	return nil
}

func (s *Speaker) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		l.Close()
	}
	s.listeners = nil
}

// setKey makes a listener check a peer's connections.
func (s *Speaker) setKey(l net.Listener, addr netip.Addr, password string, log *slog.Logger) {
	at := l.Addr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	if at.Is4() != addr.Is4() {
		return
	}
	raw, err := l.(syscall.Conn).SyscallConn()
	if err == nil {
		err = md5Key(raw, addr, password)
	}
	if err != nil && password != "" {
		log.Warn("peer's connections are not checked", "error", err)
	}
}

func (s *Speaker) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of files, perhaps: others will be closed
			s.config.Log.Warn("accept BGP connection", "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if s.config.Claim != nil && s.config.Claim(c) {
			continue
		}
		from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")
		s.mu.Lock()
		p := s.byAddr[from]
		if s.ctx == nil {
			p = nil
		}
		s.mu.Unlock()
		if p == nil {
			c.Close()
			continue
		}
		p.take(c)
	}
}

// Take gives a peer a connection that it began and somebody else accepted, whatever
// address it comes from. It reports whether there is such a peer; if not, the
// connection is the caller's still.
func (s *Speaker) Take(name string, c net.Conn) bool {
	s.mu.Lock()
	p := s.peers[name]
	running := s.ctx != nil
	s.mu.Unlock()
	if p == nil || !running {
		return false
	}
	p.take(c)
	return true
}

// SetPeers makes the peers these. A peer whose configuration is another than
// before begins anew, the others notice nothing. A configuration that cannot
// work is refused: its peer is not there, or no longer, and the error is in the
// result, by name.
func (s *Speaker) SetPeers(wanted map[string]PeerConfig) map[string]error {
	good, bad := s.checkPeers(wanted)
	s.mu.Lock()
	var started []*peer
	stopped := map[string]*peer{}
	for name, p := range s.peers {
		if c, ok := good[name]; !ok || !c.equal(&p.config) {
			stopped[name] = p
			delete(s.peers, name)
			delete(s.byAddr, p.config.Addr)
		}
	}
	s.mu.Unlock()
	var stopping sync.WaitGroup // each may take a second, if it reads nothing
	for name, p := range stopped {
		reason := cease(ceaseDeconfigured, "")
		if c, ok := good[name]; ok {
			reason = cease(ceaseConfigChange, "")
			if c.Disabled {
				reason = cease(ceaseShutdown, c.Message)
			}
		}
		stopping.Go(func() { p.stop(reason, false) })
	}
	stopping.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range stopped {
		for _, l := range s.listeners {
			s.setKey(l, p.config.Addr, "", p.log)
		}
	}
	for name, c := range good {
		if _, ok := s.peers[name]; ok {
			continue
		}
		p := newPeer(s, name, c)
		s.peers[name], s.byAddr[c.Addr] = p, p
		for _, l := range s.listeners {
			s.setKey(l, c.Addr, c.Password, p.log)
		}
		started = append(started, p)
	}
	s.await(good)
	if s.ctx != nil {
		for _, p := range started {
			p.start(s.ctx)
		}
	}
	return bad
}

// checkPeers tells those that can work from those that cannot. Of two with one
// address the one stays that has it already, else the first by name.
func (s *Speaker) checkPeers(wanted map[string]PeerConfig) (good map[string]PeerConfig, bad map[string]error) {
	good, bad = map[string]PeerConfig{}, map[string]error{}
	s.mu.Lock()
	has := func(name string) bool {
		p := s.peers[name]
		return p != nil && p.config.Addr == wanted[name].Addr.Unmap()
	}
	names := slices.SortedFunc(maps.Keys(wanted), func(a, b string) int {
		return cmp.Or(cmp.Compare(boolRank(has(a)), boolRank(has(b))), cmp.Compare(a, b))
	})
	s.mu.Unlock()
	owners := map[netip.Addr]string{}
	for _, name := range names {
		c := wanted[name].normal()
		err := c.check(&s.config)
		if other, ok := owners[c.Addr]; ok && err == nil {
			err = fmt.Errorf("address %s is that of peer %s; set another one", c.Addr, other)
		}
		if err != nil {
			bad[name] = fmt.Errorf("peer %s: %w", name, err)
			continue
		}
		owners[c.Addr] = name
		good[name] = c
	}
	return good, bad
}

// Reset ends a peer's session, or its pause after too many prefixes, so that it
// begins anew. It reports whether there is such a peer.
func (s *Speaker) Reset(name, words string) bool {
	p := s.peer(name)
	if p == nil {
		return false
	}
	p.mu.Lock()
	p.until = time.Time{}
	session := p.session
	p.mu.Unlock()
	if session != nil {
		session.end(p.endReason(session.conn, cease(ceaseReset, words), false), true)
	}
	p.again()
	return true
}

// Refresh asks a peer for all its routes again (RFC 2918). It reports whether
// the peer could be asked.
func (s *Speaker) Refresh(name string) bool {
	p := s.peer(name)
	if p == nil {
		return false
	}
	p.mu.Lock()
	session := p.session
	p.mu.Unlock()
	if session == nil || !session.n.refresh {
		return false
	}
	for _, f := range session.n.families.list() {
		if session.send(routeRefresh(f, refreshRequest)) != nil {
			return false
		}
	}
	return true
}

func (s *Speaker) peer(name string) *peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peers[name]
}
