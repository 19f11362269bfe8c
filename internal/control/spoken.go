package control

import (
	"fmt"
	"net/netip"
	"slices"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/bgp"
	"github.com/contrail-mesos/contrail/internal/control/feed"
	"github.com/contrail-mesos/contrail/internal/control/rib"
)

// speech is what a task tells a control node by a BGP service of its interface.
type speech struct {
	iface, service string
	// via is the control node that it told; empty for this one.
	via string
}

// spoken is a route as a task announced it. Whether it counts is decided when it
// comes, and again whenever the interface becomes another.
type spoken struct {
	tables *tables
	speech
	prefix netip.Prefix
	said   rib.Attributes // of the task's words: its own next hop, AS path, …
	stale  bool
	// refused says why it does not count; empty while it does.
	refused string
	// vrf and source are where it is offered, vrf 0 while it is not.
	vrf    uint32
	source rib.Source
	// row has it for the other control nodes, if this one was told.
	row feed.Row
}

// words are the routes of a task.
type words map[speech]map[netip.Prefix]*spoken

// said is a route as it is announced now; nil attributes withdraw it.
type said struct {
	prefix     netip.Prefix
	attributes *rib.Attributes
	stale      bool
}

// hearTask takes in what a task says.
func (t *tables) hearTask(who speech, routes []said) {
	p := t.ports[who.iface]
	for _, s := range routes {
		if s.attributes == nil {
			t.forget(t.spoken[who.iface][who][s.prefix])
			continue
		}
		r := t.spokenRoute(who, s.prefix)
		r.said, r.stale = *s.attributes, s.stale
		if t.offerSpoken(p, r); r.refused != "" {
			t.metrics.refusedRoutes.Inc()
		}
		if who.via == here {
			t.learnedFeed.Put(&r.row, r)
			t.sharing = true
		}
	}
}

// spokenRoute is that of a prefix, made if need be.
func (t *tables) spokenRoute(who speech, prefix netip.Prefix) *spoken {
	of := t.spoken[who.iface]
	if of == nil {
		of = words{}
		t.spoken[who.iface] = of
	}
	if of[who] == nil {
		of[who] = map[netip.Prefix]*spoken{}
	}
	r := of[who][prefix]
	if r == nil {
		r = &spoken{tables: t, speech: who, prefix: prefix}
		of[who][prefix] = r
	}
	return r
}

// forget is for a route that is withdrawn; nil is none.
func (t *tables) forget(r *spoken) {
	if r == nil {
		return
	}
	t.retractSpoken(r)
	if r.row.Held() {
		t.learnedFeed.Remove(&r.row)
		t.sharing = true
	}
	of := t.spoken[r.iface]
	delete(of[r.speech], r.prefix)
	if len(of[r.speech]) == 0 {
		delete(of, r.speech)
	}
	if len(of) == 0 {
		delete(t.spoken, r.iface)
	}
}

// forgetTask takes away all that a task told a control node.
func (t *tables) forgetTask(who speech) {
	for _, r := range t.spoken[who.iface][who] {
		t.forget(r)
	}
}

// keepSpoken takes away the routes that tasks told another control node, but for
// those that keep knows.
func (t *tables) keepSpoken(via string, keep func(*spoken) bool) {
	for _, of := range t.spoken {
		for who, routes := range of {
			for _, r := range routes {
				if who.via == via && !keep(r) {
					t.forget(r)
				}
			}
		}
	}
}

// ageSpoken makes stale what tasks told a control node that is cut off.
func (t *tables) ageSpoken(via string) {
	for iface, of := range t.spoken {
		for who, routes := range of {
			for _, r := range routes {
				if who.via == via && !r.stale {
					r.stale = true
					t.offerSpoken(t.ports[iface], r)
				}
			}
		}
	}
}

// offerAllSpoken looks anew at all that the task of a port says.
func (t *tables) offerAllSpoken(p *port) {
	for _, routes := range t.spoken[p.Interface] {
		for _, r := range routes {
			t.offerSpoken(p, r)
		}
	}
}

// retractAllSpoken is for a port that goes. What its task said is kept: it is
// forgotten by those whom it told.
func (t *tables) retractAllSpoken(iface string) {
	for _, routes := range t.spoken[iface] {
		for _, r := range routes {
			t.retractSpoken(r)
			r.refused = noPort
		}
	}
}

const noPort = "the interface is not bound to a node"

// offerSpoken has a route lead to the port whose task announced it, if it may.
func (t *tables) offerSpoken(p *port, r *spoken) {
	if p == nil {
		r.refused = noPort
		return
	}
	s, service := t.pathTo(p), p.bgpService(r.service)
	if r.refused = p.refusal(service, r); r.refused != "" {
		t.retractSpoken(r)
		return
	}
	s.Source = rib.Source{Kind: rib.Task, Name: service.Name + " of " + p.Interface, Via: r.via}
	if r.vrf != 0 && (r.vrf != p.vrf || r.source != s.Source) {
		t.retractSpoken(r)
	}
	s.Interface, s.Sequence = p.Interface, 0
	s.ASPath, s.Origin, s.MED, s.Communities = r.said.ASPath, r.said.Origin, r.said.MED, r.said.Communities
	s.External, s.RouterID = r.said.External, r.said.RouterID
	if s.Flags |= rib.Multipath; r.stale {
		s.Flags |= rib.Stale
	}
	r.vrf, r.source = p.vrf, s.Source
	t.rib.Put(r.vrf, rib.UnicastKey(r.prefix), s)
}

func (t *tables) retractSpoken(r *spoken) {
	if r.vrf != 0 {
		t.rib.Remove(r.vrf, rib.UnicastKey(r.prefix), r.source)
		r.vrf = 0
	}
}

// bgpService is the port's BGP service with a UUID; nil where it has none that works.
func (p *port) bgpService(id string) *compile.BGPService {
	for i := range p.services {
		if s := &p.services[i]; s.UUID == id && s.Problem == "" && !s.Disabled {
			return s
		}
	}
	return nil
}

// refusal says why a task may not announce a route: the prefix has to be its own,
// and it itself the next hop. Who could name another one would lead that one's
// traffic, or have it led, where nobody asked for it.
func (p *port) refusal(s *compile.BGPService, r *spoken) string {
	own := func(a address) bool { return a.Addr == r.said.NextHop }
	switch {
	case s == nil:
		return "the interface has no such service"
	case !p.mayAnnounce(r.prefix):
		return "it is in no address, allowed address pair or route table of the interface; pairs count in networks of its own project"
	case !slices.ContainsFunc(p.addresses, own) && !slices.Contains(s.Clients(), r.said.NextHop):
		return fmt.Sprintf("its next hop %s is not the task", r.said.NextHop)
	}
	return ""
}

// Message implements feed.Item.
func (r *spoken) Message(gone bool) []byte {
	m := &controlv1.Learned{Prefix: r.prefix.String(), InterfaceId: r.iface, ServiceId: r.service}
	if !gone {
		p := &controlv1.LearnedPath{
			NextHop: r.said.NextHop.String(), Communities: r.said.Communities, AsPath: r.said.ASPath, Origin: uint32(r.said.Origin),
			Med: r.said.MED, External: r.said.External, Stale: r.stale,
		}
		if r.said.RouterID.IsValid() {
			p.RouterId = r.said.RouterID.String()
		}
		m.Paths = append(m.Paths, p)
	}
	return encode(&controlv1.ExchangeMessage{Body: &controlv1.ExchangeMessage_Learned{Learned: m}})
}

// Forgotten implements feed.Item.
func (r *spoken) Forgotten() {}

// hearSpoken takes in what a task told another control node.
func (t *tables) hearSpoken(from string, m *controlv1.Learned) (place spokenAt, err error) {
	prefix, err := netip.ParsePrefix(m.GetPrefix())
	if err != nil {
		return spokenAt{}, fmt.Errorf("route of a task: %w", err)
	}
	at := spokenAt{speech{m.GetInterfaceId(), m.GetServiceId(), from}, prefix.Masked()}
	route := said{prefix: at.prefix}
	if len(m.GetPaths()) > 0 {
		s, err := learnedSpec(m.GetPaths()[0])
		if err != nil {
			return at, fmt.Errorf("route of a task to %s: %w", prefix, err)
		}
		route.attributes, route.stale = &s.Attributes, s.Flags&rib.Stale != 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hearTask(at.speech, []said{route})
	t.flush()
	return at, nil
}

// spokenAt is a route of a task.
type spokenAt struct {
	speech
	prefix netip.Prefix
}

// saidBy is a route as a session tells of it.
func saidBy(c *bgp.Change) (said, bool) {
	prefix, ok := c.NLRI.Prefix()
	s := said{prefix: prefix}
	if len(c.Paths) == 0 || !ok {
		return s, ok
	}
	p := &c.Paths[0]
	s.attributes = &rib.Attributes{
		NextHop: p.Attrs.NextHop, ASPath: p.Attrs.ASPath.Numbers(), Origin: p.Attrs.Origin, MED: p.Attrs.MED.Value,
		Communities: slices.Sorted(slices.Values(p.Attrs.Communities)), External: p.EBGP, RouterID: p.RouterID,
	}
	s.stale = p.Stale || p.Attrs.HasCommunity(bgp.CommunityLLGRStale)
	return s, true
}
