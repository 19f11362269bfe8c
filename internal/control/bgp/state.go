package bgp

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// PeerState is a peer as operators see it.
type PeerState struct {
	Name     string
	Addr     netip.Addr
	AS       uint32
	State    State
	Since    time.Time // of up or down
	Flaps    int       // how often the session was lost
	LastErr  string    // the last reason that there was no session
	EBGP     bool
	Passive  bool
	Disabled bool

	// The rest is of the session, if there is one.
	RouterID netip.Addr
	Local    netip.Addr
	Outgoing bool // this side connected
	Hold     time.Duration
	Families []FamilyState
	Graceful bool
	Counters Counters
}

// FamilyState is what a session has of a family.
type FamilyState struct {
	Family Family
	Routes int // that the peer has announced and that count
	Stale  int // of an earlier session, kept by graceful restart
}

// Counters are of one session; `contrail control peers -o json` shows them.
type Counters struct {
	MessagesIn  uint64 `json:"messages_in"`
	MessagesOut uint64 `json:"messages_out"`
	UpdatesIn   uint64 `json:"updates_in"`
	UpdatesOut  uint64 `json:"updates_out"`
	RoutesIn    uint64 `json:"routes_in"`
	WithdrawnIn uint64 `json:"withdrawn_in"`
	RoutesOut   uint64 `json:"routes_out"`
	BytesOut    uint64 `json:"bytes_out"`
	// Malformed updates were taken as withdrawals, Discarded attributes left
	// out (RFC 7606); Rejected ones were loops or led back here.
	Malformed uint64 `json:"malformed"`
	Rejected  uint64 `json:"rejected"`
	Discarded uint64 `json:"discarded"`
	// Excess paths were more of a route than are taken of this peer.
	Excess uint64 `json:"excess"`
}

// Peers returns all peers by name.
func (s *Speaker) Peers() []PeerState {
	s.mu.Lock()
	peers := make([]*peer, 0, len(s.peers))
	for _, p := range s.peers {
		peers = append(peers, p)
	}
	s.mu.Unlock()
	all := make([]PeerState, 0, len(peers))
	for _, p := range peers {
		all = append(all, p.snapshot())
	}
	slices.SortFunc(all, func(a, b PeerState) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (p *peer) snapshot() PeerState {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.config
	st := PeerState{
		Name: p.name, Addr: c.Addr, AS: c.AS, State: p.state(), Since: p.since, Flaps: p.flaps, LastErr: p.lastErr,
		EBGP: p.ebgp(), Passive: c.Passive, Disabled: c.Disabled,
	}
	r := p.speaker.rib
	r.mu.Lock()
	defer r.mu.Unlock()
	s := p.session
	for i, f := range families {
		fs := FamilyState{Family: f}
		if p.old[i] != nil {
			fs.Stale = p.old[i].count
		}
		if s != nil && s.sources[i] != nil {
			fs.Routes = s.sources[i].count
		}
		if fs.Stale > 0 || s != nil && s.n.families.has(f) {
			st.Families = append(st.Families, fs)
		}
	}
	if s == nil {
		return st
	}
	n := &s.count
	st.RouterID, st.Local, st.Outgoing, st.Hold, st.Graceful = s.n.id, s.local, s.outgoing, s.n.hold, s.n.graceful
	st.Counters = Counters{
		n.messagesIn.Load(), n.messagesOut.Load(), n.updatesIn.Load(), n.updatesOut.Load(),
		n.routesIn.Load(), n.withdrawnIn.Load(), n.routesOut.Load(), n.bytesOut.Load(),
		n.malformed.Load(), n.rejected.Load(), n.discarded.Load(), n.excess.Load(),
	}
	return st
}

// state is the furthest of the peer's connections.
func (p *peer) state() State {
	if p.session != nil {
		return Established
	}
	st := Active
	if p.closed != nil || time.Now().Before(p.until) {
		st = Idle
	} else if p.dialing {
		st = Connect
	}
	for _, k := range p.conns {
		st = max(st, k.state)
	}
	return st
}
