package control

import (
	"bytes"
	"net"
	"net/netip"
	"slices"

	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/control/feed"
	"github.com/contrail-mesos/contrail/internal/control/rib"
)

// port is an attachment, and what its node's agent says of it.
type port struct {
	*attachment
	// bound is the revision at which it came to its node.
	bound uint64
	// waiting: bound during the agent's session, which has not said that it is up.
	waiting bool
	// down: the agent said so.
	down bool
	// failing are its health checks that have failed, by the agent's word.
	failing []failure
	// offered are the routes that lead to it.
	offered []offer
	// counted: it is one of the ports of its node that its network has up.
	counted bool
}

func (p *port) usable() bool { return !p.waiting && !p.down && len(p.failing) == 0 }

// offer is where a port has a path.
type offer struct {
	vrf    uint32
	key    rib.Key
	source rib.Source
}

// portRow is a port as its node's agent is told of it.
type portRow struct {
	node       *node
	attachment *attachment
	// held is the policy of which the agent is told the sets.
	held *compile.Port
	row  feed.Row
}

// Message implements feed.Item.
func (r *portRow) Message(gone bool) []byte {
	if gone {
		return portGoneMessage(r.attachment.Interface)
	}
	return portMessage(r.attachment)
}

// Forgotten implements feed.Item.
func (r *portRow) Forgotten() { delete(r.node.rows, r.attachment.Interface) }

// tell has the agent of the port's node told of it, if that is news.
func (n *node) tell(a *attachment) {
	r, ok := n.rows[a.Interface]
	if !ok {
		r = &portRow{node: n}
		n.rows[a.Interface] = r
	}
	if r.row.Present() && bytes.Equal(portMessage(r.attachment), portMessage(a)) {
		r.attachment = a
		return
	}
	r.attachment = a
	before := r.held
	n.hold(a.policy)
	r.held = a.policy
	n.feed.Put(&r.row, r)
	n.release(before)
}

// withdraw has the agent told that the port is gone.
func (n *node) withdraw(iface string) {
	if r, ok := n.rows[iface]; ok {
		n.feed.Remove(&r.row)
		n.release(r.held)
		r.held = nil
	}
}

// announce brings the paths to a port to what is known of it.
func (t *tables) announce(p *port) {
	before := p.offered
	p.offered = make([]offer, 0, max(len(before), len(p.addresses)+len(p.foreign)))
	put := func(vrf uint32, key rib.Key, s rib.Spec) {
		p.offered = append(p.offered, offer{vrf, key, s.Source})
		t.rib.Put(vrf, key, s)
	}
	t.offerAddresses(p, put)
	if t.bridges(t.network(p.vrf)) {
		t.offerMACs(p, put)
	}
	if !slices.Equal(before, p.offered) {
		t.withdrawOffers(before, p.offered)
	}
	t.offerAllSpoken(p)
	t.count(p, p.usable())
}

// withdrawOffers takes away those that are not among the present ones.
func (t *tables) withdrawOffers(before, now []offer) {
	stays := make(map[offer]struct{}, len(now))
	for _, o := range now {
		stays[o] = struct{}{}
	}
	for _, o := range before {
		if _, ok := stays[o]; !ok {
			t.rib.Remove(o.vrf, o.key, o.source)
		}
	}
}

// count keeps the number of the ports that a node has up in a network.
func (t *tables) count(p *port, up bool) {
	w := t.network(p.vrf)
	switch {
	case up && !p.counted:
		w.up[p.Node]++
	case !up && p.counted:
		if w.up[p.Node]--; w.up[p.Node] == 0 {
			delete(w.up, p.Node)
		}
	}
	p.counted = up
	t.announceNode(w, t.node(p.Node))
}

// pathTo is what all paths to a port have alike.
func (t *tables) pathTo(p *port) rib.Spec {
	n := t.nodes[p.Node]
	s := rib.Spec{
		Source: rib.Source{Kind: rib.Attachment, Name: p.Interface},
		Attributes: rib.Attributes{
			NextHop: n.fabricAddress(), Encapsulations: encapsulationSet(t.encapsulations), OriginNetwork: p.number,
			SecurityGroups: p.securityGroups, Tags: p.tags, LocalPreference: p.localPreference,
		},
		Label: p.Label, VNI: p.vni, Sequence: p.Revision,
	}
	if p.vni == 0 {
		s.Encapsulations &^= rib.VXLAN
	}
	if mac, err := net.ParseMAC(p.mac); err == nil && len(mac) == len(s.MAC) {
		s.MAC = [6]byte(mac)
	}
	switch {
	case p.waiting:
		s.Flags |= rib.Waiting
	case p.down:
		s.Flags |= rib.Down
	case len(p.failing) > 0:
		s.Flags |= rib.Unhealthy
	}
	if n.lost {
		s.Flags |= rib.Stale
	}
	if p.service {
		s.Flags |= rib.Service
	}
	return s
}

func (t *tables) offerAddresses(p *port, put func(uint32, rib.Key, rib.Spec)) {
	for _, a := range p.addresses {
		s := t.pathTo(p)
		if a.shared { // which was bound last tells nothing
			s.Flags |= rib.Multipath
			s.Sequence = 0
		}
		put(p.vrf, rib.HostKey(a.Addr), s)
	}
	for _, r := range p.routes {
		s := t.pathTo(p)
		s.Kind, s.Sequence, s.Communities = rib.InterfaceRoute, 0, r.Communities
		s.Flags |= rib.Multipath
		put(p.vrf, rib.UnicastKey(r.Prefix), s)
	}
	for _, a := range p.foreign {
		s := t.pathTo(p)
		s.Kind, s.Sequence, s.OriginNetwork = a.kind, 0, a.vrf
		s.Flags |= rib.Foreign | rib.Multipath
		// It is by the label that the node knows which port has the address.
		s.Encapsulations, s.VNI = s.Encapsulations&^rib.VXLAN, 0
		put(a.vrf, rib.HostKey(a.Addr), s)
	}
}

// bridges tells whether MACs of a network have routes: that is by VXLAN.
func (t *tables) bridges(w *network) bool {
	return w.instance != nil && w.instance.Layer2 && slices.Contains(t.encapsulations, compile.VXLAN)
}

// offerMACs offers the port's MAC, alone and with each address.
func (t *tables) offerMACs(p *port, put func(uint32, rib.Key, rib.Spec)) {
	s := t.pathTo(p)
	if s.MAC == [6]byte{} {
		return
	}
	// The label is how the node itself knows the port.
	s.Encapsulations = rib.VXLAN
	put(p.vrf, rib.MACKey(0, s.MAC, netip.Addr{}), s)
	for _, a := range p.addresses {
		put(p.vrf, rib.MACKey(0, s.MAC, a.Addr), s)
	}
}

// announceNode brings a node's wish for the broadcasts of a network to what is
// known: it wants them as long as a port of its is up.
func (t *tables) announceNode(w *network, n *node) {
	source := rib.Source{Kind: rib.NodeInNetwork, Name: n.id}
	var key rib.Key
	address := n.fabricAddress()
	wants := w.up[n.id] > 0 && address.IsValid() && t.bridges(w)
	if wants {
		key = rib.MulticastKey(0, address)
		s := rib.Spec{Source: source, VNI: w.instance.VXLAN, Attributes: rib.Attributes{
			NextHop: address, Encapsulations: rib.VXLAN, OriginNetwork: w.number, LocalPreference: defaultPreference,
		}}
		if n.lost {
			s.Flags |= rib.Stale
		}
		t.rib.Put(w.number, key, s)
	}
	old, had := w.floods[n.id]
	if had && (!wants || old != key) {
		t.rib.Remove(w.number, old, source)
		delete(w.floods, n.id)
	}
	if wants {
		w.floods[n.id] = key
	}
}

// retract takes away everything that leads to a port.
func (t *tables) retract(p *port) {
	for _, o := range p.offered {
		t.rib.Remove(o.vrf, o.key, o.source)
	}
	p.offered = nil
	t.retractAllSpoken(p.Interface)
	t.count(p, false)
}
