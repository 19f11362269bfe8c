package vrouter

import (
	"context"
	"math"
	"net/netip"
	"slices"
	"sync"

	"github.com/contrail-mesos/contrail/internal/vrouter/dataplane"
)

// bgpPort is where control nodes take BGP sessions, those of tasks too.
const bgpPort = 179

// bgpServices are the BGP services of the node's ports: what they see as the
// other end, and which control node that is.
type bgpServices struct {
	mu sync.Mutex
	// places are the control nodes that peers are for, by their number.
	places [wanted]netip.Addr
	// settled: each place has had one.
	settled bool
	// known are all peers of the ports that there are, also those of a place that
	// no control node has; nil as long as the graph has not told of all ports.
	known map[dataplane.ServiceKey]bool
}

// assign gives the places to control nodes that the agent has sessions with: the
// first and the second, in the node's order. From then on a place stays with its
// control node for as long as that has a session, and when it has none, until
// there is another: who is connected has no use for a change of order.
func (b *bgpServices) assign(live []netip.Addr) {
	if !b.settled {
		b.places = [wanted]netip.Addr{}
		b.settled = copy(b.places[:], live) == len(b.places)
		return
	}
	for i, at := range b.places {
		if slices.Contains(live, at) {
			continue
		}
		for _, other := range live {
			if !slices.Contains(b.places[:], other) {
				b.places[i] = other
				break
			}
		}
	}
}

// followServices desires the services that the graph gives to ports. One of a port that
// the graph does not tell of, or for a place that nobody has, stays as it is.
func (a *Agent) followServices(records []*record) {
	b := &a.bgp
	complete := a.routing.allPortsKnown() // asked first: a port told of meanwhile may be missing below
	known := map[dataplane.ServiceKey]bool{}
	b.mu.Lock()
	b.assign(a.sessions.bgpNodes())
	all := map[dataplane.ServiceKey]dataplane.Service{}
	for _, r := range records {
		graph, _ := a.routing.graphPort(r)
		if r.HostIndex == 0 || graph == nil {
			continue
		}
		for _, s := range graph.GetBgpServices() {
			for _, p := range s.GetPeers() {
				client, err1 := netip.ParseAddr(p.GetClient())
				server, err2 := netip.ParseAddr(p.GetServer())
				if err1 != nil || err2 != nil || !client.Is4() || !server.Is4() || s.GetSourcePort() > math.MaxUint16 {
					continue
				}
				key := dataplane.ServiceKey{IfIndex: r.HostIndex, Client: client, Server: server}
				known[key] = true
				if place := p.GetControlNode(); place < wanted && b.places[place].IsValid() {
					all[key] = dataplane.Service{Control: b.places[place], Source: uint16(s.GetSourcePort())}
				}
			}
		}
	}
	b.known = nil
	if complete {
		b.known = known
	}
	b.mu.Unlock()
	a.services.Replace(all)
}

// mayDeleteService tells whether a service that nobody desires may go: when the graph
// is known and has no such peer.
func (a *Agent) mayDeleteService(k dataplane.ServiceKey) bool {
	a.bgp.mu.Lock()
	defer a.bgp.mu.Unlock()
	return a.routing.allPortsKnown() && a.bgp.known != nil && !a.bgp.known[k]
}

// bgpNodes are the addresses at which control nodes with a session take BGP, in
// the node's order.
func (s *sessions) bgpNodes() []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var live []netip.Addr
	for _, p := range s.peers {
		if p.state.Connected && p.bgp.IsValid() && !slices.Contains(live, p.bgp) {
			live = append(live, p.bgp)
		}
	}
	return live
}

// learnBGP takes in where a control node takes BGP, and tells whether it is news.
func (s *sessions) learnBGP(from *controlPeer, hostPort string) (changed bool) {
	before := from.bgp
	from.bgp = netip.Addr{}
	if hostPort == "" {
		return before.IsValid()
	}
	at, err := netip.ParseAddrPort(hostPort)
	if err != nil || !at.Addr().Is4() || at.Port() != bgpPort {
		s.log.Warn("BGP services do not use a control node: they need an IPv4 address and port 179", "peer", from.address, "bgp", hostPort)
		return before.IsValid()
	}
	from.bgp = at.Addr()
	return from.bgp != before
}

// serviceTarget makes BGP services real.
type serviceTarget struct{ plane Dataplane }

func (t serviceTarget) List(context.Context) (map[dataplane.ServiceKey]dataplane.Service, error) {
	return t.plane.Services()
}

func (t serviceTarget) Put(_ context.Context, k dataplane.ServiceKey, s dataplane.Service) error {
	return t.plane.PutService(k, s)
}

func (t serviceTarget) Delete(_ context.Context, k dataplane.ServiceKey) error {
	return t.plane.DeleteService(k)
}
