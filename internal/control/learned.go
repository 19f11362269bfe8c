package control

import (
	"fmt"
	"net/netip"
	"slices"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/control/feed"
	"github.com/contrail-mesos/contrail/internal/control/rib"
)

// outside is a route of other routers, whoever of us they told.
type outside struct {
	rd  rib.RD
	key rib.Key
}

// learned is a route that routers told this control node, as it tells the other
// ones: each has in its tables what routers told any of them, so all choose
// alike.
type learned struct {
	tables *tables
	at     outside
	row    feed.Row
}

// Message implements feed.Item.
func (l *learned) Message(gone bool) []byte {
	m := learnedMessage(l.at)
	if !gone {
		for p := range l.tables.rib.External(l.at.rd, l.at.key) {
			if p.Via == here {
				m.Paths = append(m.Paths, learnedPath(p))
			}
		}
	}
	return encode(&controlv1.ExchangeMessage{Body: &controlv1.ExchangeMessage_Learned{Learned: m}})
}

// Forgotten implements feed.Item.
func (l *learned) Forgotten() { delete(l.tables.learned, l.at) }

// setLearned takes in what routers told this control node of a route.
func (t *tables) setLearned(at outside, specs []rib.Spec) {
	if !t.rib.SetExternal(here, at.rd, at.key, specs) {
		return
	}
	l := t.learned[at]
	switch {
	case len(specs) > 0:
		if l == nil {
			l = &learned{tables: t, at: at}
			t.learned[at] = l
		}
		t.learnedFeed.Put(&l.row, l)
	case l != nil:
		t.learnedFeed.Remove(&l.row)
	}
	t.sharing = true
}

// clearLearned takes away what routers told this control node.
func (t *tables) clearLearned() {
	for at := range t.learned {
		t.setLearned(at, nil)
	}
}

// hearLearned takes in what routers told another control node of a route.
func (t *tables) hearLearned(from string, m *controlv1.Learned) (outside, error) {
	key, err := learnedKey(m)
	if err != nil {
		return outside{}, fmt.Errorf("route of routers: %w", err)
	}
	at := outside{rib.RD(m.GetRouteDistinguisher()), key}
	specs := make([]rib.Spec, len(m.GetPaths()))
	for i, p := range m.GetPaths() {
		if specs[i], err = learnedSpec(p); err != nil {
			return outside{}, fmt.Errorf("route of routers to %s: %w", key, err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rib.SetExternal(from, at.rd, at.key, specs)
	t.flush()
	return at, nil
}

// unlearn is for the end of what routers told another control node: what it did
// not name does not exist.
func (t *tables) unlearn(from string, told *named) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rib.KeepExternal(from, func(rd rib.RD, key rib.Key) bool {
		_, ok := told.routes[outside{rd, key}]
		return ok
	})
	t.keepSpoken(from, func(r *spoken) bool {
		_, ok := told.spoken[spokenAt{r.speech, r.prefix}]
		return ok
	})
	t.arrived(from)
	t.flush()
}

// expect has agents told of no end of a table before another control node has
// told what routers say.
func (t *tables) expect(from string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.position.Epoch == 0 { // when it runs, agents have what there is
		t.expected[from] = struct{}{}
	}
}

// without does not wait for a control node that cannot be reached.
func (t *tables) without(from string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.arrived(from)
	t.flush()
}

// arrived says that another control node has told what routers say, or is not
// waited for any longer.
func (t *tables) arrived(from string) {
	if _, ok := t.expected[from]; ok {
		delete(t.expected, from)
		t.touchAll()
	}
}

// returning tells whether what routers say has not all come yet since this
// process began: what agents have of it must not go.
func (t *tables) returning() bool { return t.border.isReturning() || len(t.expected) > 0 }

// learnedMessage says of which route a message is.
func learnedMessage(at outside) *controlv1.Learned {
	m := &controlv1.Learned{RouteDistinguisher: uint64(at.rd), Tag: at.key.Tag()}
	if at.key.Address().IsValid() {
		m.Prefix = at.key.Prefix().String()
	}
	mac := at.key.HardwareAddress()
	switch at.key.Kind() {
	case rib.MAC:
		m.Kind, m.Mac = controlv1.Learned_KIND_MAC, mac[:]
	case rib.Multicast:
		m.Kind = controlv1.Learned_KIND_MULTICAST
	case rib.Prefix:
		m.Kind = controlv1.Learned_KIND_PREFIX
	case rib.Neighbour:
		m.Kind, m.Mac = controlv1.Learned_KIND_NEIGHBOUR, mac[:]
	}
	return m
}

// learnedKey is the key of the route that a message is of.
func learnedKey(m *controlv1.Learned) (rib.Key, error) {
	var prefix netip.Prefix
	if m.GetPrefix() != "" || m.GetKind() != controlv1.Learned_KIND_MAC {
		var err error
		if prefix, err = netip.ParsePrefix(m.GetPrefix()); err != nil {
			return rib.Key{}, err
		}
	}
	mac, err := learnedMAC(m.GetMac())
	if err != nil {
		return rib.Key{}, err
	}
	switch m.GetKind() {
	case controlv1.Learned_KIND_UNICAST:
		return rib.UnicastKey(prefix.Masked()), nil
	case controlv1.Learned_KIND_MAC:
		return rib.MACKey(m.GetTag(), mac, prefix.Addr()), nil
	case controlv1.Learned_KIND_MULTICAST:
		return rib.MulticastKey(m.GetTag(), prefix.Addr()), nil
	case controlv1.Learned_KIND_PREFIX:
		return rib.PrefixKey(m.GetTag(), prefix.Masked()), nil
	case controlv1.Learned_KIND_NEIGHBOUR:
		return rib.NeighbourKey(m.GetTag(), mac, prefix.Addr()), nil
	}
	return rib.Key{}, fmt.Errorf("kind %d is not known", m.GetKind())
}

// learnedMAC is all zero where there is none.
func learnedMAC(b []byte) (mac [6]byte, err error) {
	if len(b) != 0 && len(b) != len(mac) {
		return mac, fmt.Errorf("mac has %d bytes, want 6", len(b))
	}
	copy(mac[:], b)
	return mac, nil
}

func learnedPath(p *rib.Path) *controlv1.LearnedPath {
	m := &controlv1.LearnedPath{
		Peer: p.Name, NextHop: p.NextHop.String(), Label: p.Label, Encapsulations: encapsulationNumbers(p.Encapsulations),
		Communities: p.Communities, AsPath: p.ASPath, Origin: uint32(p.Origin), Med: p.MED, LocalPreference: p.LocalPreference,
		External: p.Attributes.External, Stale: p.Flags&rib.Stale != 0, OriginNetwork: p.OriginNetwork,
		SecurityGroups: p.SecurityGroups, Tags: p.Tags, Vni: p.VNI, Sequence: p.Sequence, ExtCommunities: p.ExtCommunities,
	}
	if p.MAC != [6]byte{} {
		m.Mac = p.MAC[:]
	}
	if p.RouterID.IsValid() {
		m.RouterId = p.RouterID.String()
	}
	for _, target := range p.Attributes.Targets {
		m.RouteTargets = append(m.RouteTargets, uint64(target))
	}
	return m
}

func learnedSpec(m *controlv1.LearnedPath) (rib.Spec, error) {
	s := rib.Spec{
		Source: rib.Source{Kind: rib.BGP, Name: m.GetPeer()}, Label: m.GetLabel(), VNI: m.GetVni(), Sequence: m.GetSequence(), Flags: rib.Multipath,
		Attributes: rib.Attributes{
			Communities: m.GetCommunities(), ASPath: m.GetAsPath(), Origin: uint8(m.GetOrigin()), MED: m.GetMed(),
			LocalPreference: m.GetLocalPreference(), External: m.GetExternal(), OriginNetwork: m.GetOriginNetwork(),
			SecurityGroups: m.GetSecurityGroups(), Tags: m.GetTags(), ExtCommunities: m.GetExtCommunities(),
		},
	}
	var err error
	if s.MAC, err = learnedMAC(m.GetMac()); err != nil {
		return s, err
	}
	if s.NextHop, err = netip.ParseAddr(m.GetNextHop()); err != nil {
		return s, fmt.Errorf("next hop: %w", err)
	}
	if m.GetRouterId() != "" {
		if s.RouterID, err = netip.ParseAddr(m.GetRouterId()); err != nil {
			return s, fmt.Errorf("router id: %w", err)
		}
	}
	if m.GetStale() {
		s.Flags |= rib.Stale
	}
	s.Encapsulations = encapsulationsOf(m.GetEncapsulations())
	for _, target := range m.GetRouteTargets() {
		s.Targets = append(s.Targets, rib.Target(target))
	}
	slices.Sort(s.Targets)
	return s, nil
}
