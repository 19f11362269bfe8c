package control

import (
	"net/netip"
	"slices"

	controlv1 "github.com/contrail-mesos/contrail/api/contrail/control/v1"
	"github.com/contrail-mesos/contrail/internal/compile"
	"github.com/contrail-mesos/contrail/internal/model"
)

// fabric is what agents are told of what leaves nodes without a tunnel.
type fabric struct {
	services []compile.LinkLocalService
	machines []netip.Addr
	refused  []netip.Addr // sorted
	// message is it, encoded, and version which one; without anything in it while
	// nothing has needed it.
	message []byte
	version uint64
	needed  bool
}

// noFabric is said as long as nothing needs it: an agent keeps what it has where a
// control node, of an earlier version, says nothing.
func noFabric() fabric { return fabric{message: fabricMessage(nil, nil), version: 1} }

// setFabric has agents be told of link-local services, and of the addresses of nodes
// and controllers, which nothing may reach that leaves a port as a node's. As long as
// there is nothing that could leave, nobody is told of each node that comes.
func (t *tables) setFabric(u *update) {
	services := t.fabric.services
	if u.linkLocal != nil {
		services = u.linkLocal
	}
	if u.machines != nil {
		t.fabric.machines = u.machines
	}
	if len(services) == 0 && !t.anySNAT() && !t.fabric.needed {
		t.fabric.services = services
		return
	}
	refused := t.underlayAddresses()
	if t.fabric.needed && slices.Equal(services, t.fabric.services) && slices.Equal(refused, t.fabric.refused) {
		return
	}
	t.fabric = fabric{
		services: services, machines: t.fabric.machines, refused: refused,
		message: fabricMessage(services, refused), version: t.fabric.version + 1, needed: true,
	}
	t.touchAll()
}

// anySNAT tells whether any network reaches the fabric by SNAT.
func (t *tables) anySNAT() bool {
	for _, w := range t.networks {
		if w.instance != nil && w.instance.FabricSNAT {
			return true
		}
	}
	return false
}

// underlayAddresses are those of IPv4 of all nodes, of the control nodes that are known,
// and of the other machines of the cluster that have an object, sorted.
func (t *tables) underlayAddresses() []netip.Addr {
	var list []netip.Addr
	add := func(a netip.Addr) {
		if a = a.Unmap(); a.Is4() {
			list = append(list, a)
		}
	}
	for _, n := range t.nodes {
		add(n.fabricAddress())
	}
	for _, a := range t.fabric.machines {
		add(a)
	}
	for _, text := range t.colleagues.all {
		if at, err := netip.ParseAddrPort(text); err == nil {
			add(at.Addr())
		}
	}
	if at, err := netip.ParseAddrPort(t.border.takesAt); err == nil {
		add(at.Addr())
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

func fabricMessage(services []compile.LinkLocalService, refused []netip.Addr) []byte {
	m := &controlv1.Fabric{}
	for _, s := range services {
		to := ""
		if s.To.IsValid() {
			to = s.To.String()
		}
		m.Services = append(m.Services, &controlv1.LinkLocalService{
			Name: s.Name, Address: s.At.Addr().String(), Port: uint32(s.At.Port()), To: to, DnsName: s.DNSName, ToPort: uint32(s.Port),
		})
	}
	for _, a := range refused {
		m.Refused = append(m.Refused, a.AsSlice()...)
	}
	return encode(&controlv1.ControlMessage{Body: &controlv1.ControlMessage_Fabric{Fabric: m}})
}

// fabricNumber is the number of the network that all outside is in.
func (f *facts) fabricNumber(v *model.View) uint32 {
	if i := f.compiler.Instance(compile.FabricNetwork(v)); i != nil {
		return i.Number
	}
	return 0
}

// isOfMachine tells whether an object of a machine of the cluster has changed.
func isOfMachine(changes model.Changes) bool {
	for e := range changes.Objects {
		if compile.IsMachine(e.Kind) {
			return true
		}
	}
	return false
}
