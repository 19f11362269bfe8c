// Package vrouterapi is what a vRouter agent tells of its data plane: JSON over
// HTTP, on the agent's unix socket and at its introspect address.
//
//	GET /vif /rt /nh /mpls /vxlan /flow /rules /drops /vrf /stats /fabric /objects -> 200 list | portapi.Error
//	GET /trace /trace/arrival -> 200 Trace | portapi.Error
//
// The tables have the names of OpenContrail's utilities, and are read from the
// BPF maps when somebody asks: they are what packets meet. What is not there as
// the agent wants it, and why, is in /objects; its other tables have all objects.
package vrouterapi

import "github.com/contrail-mesos/contrail/api/portapi"

// Paths of the tables.
const (
	PathVifs     = "/vif"
	PathRoutes   = "/rt"
	PathNextHops = "/nh"
	PathLabels   = "/mpls"
	PathVNIs     = "/vxlan"
	PathFlows    = "/flow"
	PathRules    = "/rules"
	PathDrops    = "/drops"
	PathVRFs     = "/vrf"
	PathStats    = "/stats"
	PathFabric   = "/fabric"
	PathObjects  = "/objects"
	// PathTrace tells what becomes of a packet of a port, PathTraceArrival of one
	// that comes by tunnel.
	PathTrace        = "/trace"
	PathTraceArrival = "/trace/arrival"
)

// Parameters of requests. A table takes those that it has something of.
const (
	// ParamVRF is the number of a VRF, or a network by its name or the end of it.
	ParamVRF = "vrf"
	// ParamVif is a port: interface index, device, UUID, address, id of the
	// container, UUID of the virtual machine, or name.
	ParamVif = "vif"
	// ParamPrefix of routes is an address, for the route that it takes, a prefix,
	// for it and those within, or a MAC.
	ParamPrefix = "prefix"
	// ParamFamily of routes is inet, inet6 or bridge.
	ParamFamily = "family"
	// ParamID is that of a next hop, a label or a VXLAN network identifier.
	ParamID = "id"
	// ParamEnd of flows, at most twice, is an address, a prefix, or an address
	// and a port, which one of their ends has to have.
	ParamEnd = "end"
	// ParamProtocol of flows is tcp, udp, icmp or a number.
	ParamProtocol = "protocol"
	// ParamLimit bounds the list.
	ParamLimit = "limit"
)

// Bounds of ParamLimit.
const (
	DefaultLimit = 1000
	MaxLimit     = 100000
)

// Vif is an interface that packets pass: a container's port, or the underlay.
type Vif struct {
	Vif    int    `json:"vif"` // interface index
	Device string `json:"device"`
	Type   string `json:"type"` // virtual or physical
	// Port is the UUID of the interface in the configuration, and Name what
	// people call it.
	Port      string   `json:"port,omitempty"`
	Name      string   `json:"name,omitempty"`
	VRF       uint32   `json:"vrf,omitempty"`
	Network   string   `json:"network,omitempty"`
	Label     uint32   `json:"label,omitempty"`
	MAC       string   `json:"mac,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	// Gateways are addresses that the router has for the port.
	Gateways []string         `json:"gateways,omitempty"`
	Foreign  []ForeignAddress `json:"foreign,omitempty"`
	Blocked  bool             `json:"blocked,omitempty"`
	// Egress bounds what the container sends, Ingress what it is sent; nil for no
	// limit. What is more is dropped, as egress-rate and ingress-rate.
	Egress  *Limit `json:"egress,omitempty"`
	Ingress *Limit `json:"ingress,omitempty"`
	// Policy is nil for a port that is closed until its policy comes.
	Policy *Policy `json:"policy,omitempty"`
	// Flows are those that it began, and OthersFlows those that others began
	// towards it by tunnel; each has a quota.
	Flows       *FlowCount `json:"flows,omitempty"`
	OthersFlows *FlowCount `json:"others_flows,omitempty"`
	Counters
	// Status is that of the port on its way to the data plane.
	Status *portapi.State `json:"status,omitempty"`
}

// Limit is how much may pass: Rate in bits in a second, Burst in bits at once.
type Limit struct {
	Rate  uint64 `json:"rate"`
	Burst uint64 `json:"burst"`
}

// ForeignAddress is a floating or alias address of a port.
type ForeignAddress struct {
	Address string `json:"address"`
	VRF     uint32 `json:"vrf"`
	Network string `json:"network,omitempty"`
	Fixed   string `json:"fixed"`
}

// Policy is what a port is to policy, and the sets that its connections pass.
type Policy struct {
	Identity
	// Sets are ids by what they are asked about.
	Sets map[string]string `json:"sets"`
	// Generation grows with each change; flows that were decided by an older one
	// are decided anew.
	Generation uint32 `json:"generation"`
}

// Identity is who somebody is to policy, in numbers.
type Identity struct {
	Network        uint32   `json:"network_id,omitempty"`
	SecurityGroups []uint32 `json:"security_groups,omitempty"`
	Tags           []uint32 `json:"tags,omitempty"`
}

// FlowCount is how many flows count against a quota.
type FlowCount struct {
	Flows      int `json:"flows"`
	Unanswered int `json:"unanswered"`
}

// Counters of packets and bytes. Bytes include the Ethernet header.
type Counters struct {
	// Passed is nil where it is not counted: of the underlay.
	*Passed
	DropsPackets uint64 `json:"drops_packets"`
	DropsBytes   uint64 `json:"drops_bytes"`
}

// Passed counts what passed a port. From are those that the container sent and
// that went on, To those that it got.
type Passed struct {
	FromPackets uint64 `json:"from_packets"`
	FromBytes   uint64 `json:"from_bytes"`
	ToPackets   uint64 `json:"to_packets"`
	ToBytes     uint64 `json:"to_bytes"`
}

// NextHop is where packets are sent, resolved as far as the node knows.
type NextHop struct {
	// ID is the next hop's in the maps; 0 discards, and 1 is any port of the node.
	ID   uint32 `json:"nh"`
	Type string `json:"type"` // discard, local, tunnel, ecmp, fabric or bridged
	// Vif, Device and Port are of a port of this node. A label that leads to none
	// drops.
	Vif    int    `json:"vif,omitempty"`
	Device string `json:"device,omitempty"`
	Port   string `json:"port,omitempty"`
	// Behind: the route leads to what is behind the port.
	Behind        bool   `json:"behind,omitempty"`
	Remote        string `json:"remote,omitempty"`
	Encapsulation string `json:"encapsulation,omitempty"`
	Label         uint32 `json:"label,omitempty"`
	VNI           uint32 `json:"vni,omitempty"`
	MAC           string `json:"mac,omitempty"`
	// Identity is who is there.
	Identity *Identity `json:"identity,omitempty"`
	// Members share the flows by their weights.
	Members []NextHop `json:"members,omitempty"`
	Weight  uint32    `json:"weight,omitempty"`
	// Routes and MACs that lead to it; in the table of next hops only.
	Routes *int `json:"routes,omitempty"`
}

// Route is the way to a prefix or a MAC.
type Route struct {
	VRF         uint32  `json:"vrf"`
	Network     string  `json:"network,omitempty"`
	Family      string  `json:"family"` // inet, inet6 or bridge
	Destination string  `json:"destination"`
	NextHop     NextHop `json:"next_hop"`
	// Status is that of the route on its way to the data plane; nil for one that
	// no control node wants any more.
	Status *portapi.State `json:"status,omitempty"`
}

// Label is an MPLS label that leads to a port.
type Label struct {
	Label   uint32 `json:"label"`
	Vif     int    `json:"vif"`
	Device  string `json:"device,omitempty"`
	Port    string `json:"port,omitempty"`
	VRF     uint32 `json:"vrf,omitempty"`
	Network string `json:"network,omitempty"`
}

// VNI is a VXLAN network identifier that leads to a VRF.
type VNI struct {
	VNI     uint32  `json:"vni"`
	VRF     uint32  `json:"vrf"`
	Network string  `json:"network,omitempty"`
	Bridge  *Bridge `json:"bridge,omitempty"`
}

// Bridge is what a VRF does with frames.
type Bridge struct {
	// Routes: IP is routed, not bridged.
	Routes        bool     `json:"routes"`
	FloodsUnknown bool     `json:"floods_unknown"`
	Remotes       []Remote `json:"remotes"`
	LeftOut       int      `json:"left_out,omitempty"`
}

// Remote gets a VRF's broadcasts by VXLAN.
type Remote struct {
	Address string `json:"address"`
	VNI     uint32 `json:"vni"`
}

// VRF is a forwarding table.
type VRF struct {
	VRF     uint32   `json:"vrf"`
	Network string   `json:"network,omitempty"`
	VNIs    []uint32 `json:"vnis,omitempty"`
	Ports   int      `json:"ports"`
	Inet    int      `json:"inet_routes"`
	Inet6   int      `json:"inet6_routes"`
	MACs    int      `json:"macs"`
	Bridge  *Bridge  `json:"bridge,omitempty"`
	// Counters are the sums of its ports'.
	Counters
}

// Flow is a conversation. Either direction may be missing: what has no answer
// yet, or what answers a flow that is forgotten already.
type Flow struct {
	// State is established once there has been an answer, else unanswered.
	State    string     `json:"state"`
	Protocol string     `json:"protocol"`
	Forward  *Direction `json:"forward,omitempty"`
	Reverse  *Direction `json:"reverse,omitempty"`
}

// Direction is one of a flow's.
type Direction struct {
	// From is "port" or "tunnel": where packets come in.
	From        string `json:"from"`
	Source      string `json:"source"`
	SourcePort  uint16 `json:"source_port"`
	Destination string `json:"destination"`
	// DestinationPort of ICMP is its type.
	DestinationPort uint16 `json:"destination_port"`
	VRF             uint32 `json:"vrf"`
	Network         string `json:"network,omitempty"`
	// Vif is the port whose quota it counts against.
	Vif    int    `json:"vif"`
	Device string `json:"device,omitempty"`
	Port   string `json:"port,omitempty"`
	// Label, and the only node that packets are taken from, of those by tunnel.
	Label       uint32  `json:"label,omitempty"`
	OuterSource string  `json:"outer_source,omitempty"`
	NextHop     NextHop `json:"next_hop"`
	NAT         *NAT    `json:"nat,omitempty"`
	Packets     uint64  `json:"packets"`
	Bytes       uint64  `json:"bytes"`
	// AgeSeconds since the first packet, and IdleSeconds since the last.
	AgeSeconds  float64 `json:"age_seconds"`
	IdleSeconds float64 `json:"idle_seconds"`
	// Current: the decision holds; else the next packet makes it anew.
	Current          bool   `json:"current"`
	Generation       uint32 `json:"generation"`
	PolicyGeneration uint32 `json:"policy_generation"`
	// PolicySets are those of the ports that it passes, by port and then by what
	// they are asked about.
	PolicySets map[int]map[string]string `json:"policy_sets,omitempty"`
}

// NAT is what addresses and ports are made to be; what is empty stays.
type NAT struct {
	Source          string `json:"source,omitempty"`
	SourcePort      uint16 `json:"source_port,omitempty"`
	Destination     string `json:"destination,omitempty"`
	DestinationPort uint16 `json:"destination_port,omitempty"`
}

// Drop counts what was dropped for a reason at an interface.
type Drop struct {
	Reason      string `json:"reason"`
	Description string `json:"description"`
	// Advice is what to do about it.
	Advice string `json:"advice"`
	// Vif is 0 for former ports.
	Vif     int    `json:"vif"`
	Device  string `json:"device,omitempty"`
	Port    string `json:"port,omitempty"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Rule is one of a policy set, or what becomes of connections that none of its rules
// matches. Ports that have the set share its count.
type Rule struct {
	// Vifs have the set, those that were asked for.
	Vifs []int `json:"vifs"`
	TraceRule
	// Match is what connections it is about, in numbers of networks, groups and
	// tags; empty for what none matches.
	Match string `json:"match,omitempty"`
	// Count of connections that it decided, and of packets where it refused them;
	// nil where it is not counted.
	Count *uint64 `json:"count,omitempty"`
	// Error says why the set refuses everything, or why its rules are not known.
	Error string `json:"error,omitempty"`
}

// Stat is what passed a port; of the underlay drops alone are counted.
type Stat struct {
	Vif     int    `json:"vif"`
	Device  string `json:"device"`
	Port    string `json:"port,omitempty"`
	Network string `json:"network,omitempty"`
	Counters
}

// Object is one that the agent puts into the data plane, and that is not as it
// should be.
type Object struct {
	// Table is the agent's, which has the object whole.
	Table  string `json:"table"`
	Object string `json:"object"`
	// Wanted: it is to be there. Else it is to go, or may not yet.
	Wanted bool          `json:"wanted"`
	Status portapi.State `json:"status"`
}

// The answers. Left counts what is beyond the limit.
type (
	Vifs struct {
		Vifs []Vif `json:"vifs"`
	}
	Routes struct {
		Routes []Route `json:"routes"`
		Left   int     `json:"left,omitempty"`
	}
	NextHops struct {
		NextHops []NextHop `json:"next_hops"`
	}
	Labels struct {
		Labels []Label `json:"labels"`
	}
	VNIs struct {
		VNIs []VNI `json:"vnis"`
	}
	Flows struct {
		Flows []Flow `json:"flows"`
		Left  int    `json:"left,omitempty"`
	}
	Rules struct {
		Rules []Rule `json:"rules"`
		Left  int    `json:"left,omitempty"`
	}
	Objects struct {
		Objects []Object `json:"objects"`
		Left    int      `json:"left,omitempty"`
	}
	Drops struct {
		Drops []Drop `json:"drops"`
	}
	VRFs struct {
		VRFs []VRF `json:"vrfs"`
	}
	Stats struct {
		Stats []Stat `json:"stats"`
		// Totals are of all that is listed, and the drops of former ports where all
		// is asked for.
		Totals Counters `json:"totals"`
	}
)

// First is the direction that began, or the only one that there is.
func (f Flow) First() *Direction {
	if f.Forward != nil {
		return f.Forward
	}
	return f.Reverse
}

// HeaderNode of an answer is the name of the node.
const HeaderNode = "Contrail-Node"

// Fabric is what leaves the node by the underlay without a tunnel, as the node's own.
type Fabric struct {
	// Address is the node's, Ports are those that flows get one of.
	Address string `json:"address"`
	Ports   string `json:"ports"`
	// Problem is why there are none.
	Problem  string             `json:"problem,omitempty"`
	Services []LinkLocalService `json:"services"`
	SNAT     []SNATPort         `json:"snat"`
	// Refused are addresses that nothing reaches by it: nodes and controllers.
	Refused []string `json:"refused"`
}

// LinkLocalService is found by the tasks of all networks at Address and Port.
type LinkLocalService struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Port    uint16 `json:"port"`
	// To are the addresses where it is; none says that no task reaches it.
	To      []string `json:"to"`
	ToPort  uint16   `json:"to_port"`
	DNSName string   `json:"dns_name,omitempty"`
	// Problem is why it is not where the configuration says, or not everywhere.
	Problem string `json:"problem,omitempty"`
}

// SNATPort is a port that reaches what is outside of the overlay.
type SNATPort struct {
	Vif  int    `json:"vif"`
	Port string `json:"port,omitempty"`
	// Network is the number of the one that all outside is in, for policy.
	Network uint32 `json:"network"`
}
