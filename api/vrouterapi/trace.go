package vrouterapi

// Parameters of PathTrace, beside ParamVif and ParamProtocol, and of
// PathTraceArrival.
const (
	// ParamSource and ParamDestination are addresses. The source may be left out of
	// PathTrace: then it is the port's first of the destination's family.
	ParamSource      = "source"
	ParamDestination = "destination"
	// ParamSourcePort and ParamPort are those of TCP, UDP and SCTP; of ICMP the
	// identifier and the type.
	ParamSourcePort = "source_port"
	ParamPort       = "port"
	// ParamSize is that of the IP packet, in bytes.
	ParamSize = "size"
	// ParamAsked is for answers: the address that was asked.
	ParamAsked = "asked"
	// ParamNode is the underlay address of the node that is asked about.
	ParamNode = "node"
	// ParamOuter is the underlay address of the node that it comes from.
	ParamOuter = "outer"
	// ParamEncapsulation is MPLSoUDP, MPLSoGRE or VXLAN, the first with ParamLabel,
	// the last with ParamVNI and perhaps ParamMAC.
	ParamEncapsulation = "encapsulation"
	ParamLabel         = "label"
	ParamVNI           = "vni"
	ParamMAC           = "mac"
)

// What becomes of a packet.
const (
	VerdictDelivered = "delivered" // to a port of the node
	VerdictTunnel    = "tunnel"    // it leaves for another node
	VerdictRouter    = "router"    // the router answers it
	VerdictFabric    = "fabric"    // it goes out as the node's
	VerdictDropped   = "dropped"
	VerdictUnknown   = "unknown" // the last step says why
)

// Trace is what a node does with a packet for which there is no flow yet, as its
// tables say. Nothing is sent.
type Trace struct {
	Node string `json:"node"`
	// NodeAddress is the end of its tunnels.
	NodeAddress string `json:"node_address"`
	Protocol    string `json:"protocol"`
	Source      string `json:"source"`
	SourcePort  uint16 `json:"source_port"`
	Destination string `json:"destination"`
	// DestinationPort of ICMP is the type.
	DestinationPort uint16      `json:"destination_port"`
	Steps           []TraceStep `json:"steps"`
	Verdict         string      `json:"verdict"`
	// Reason of a drop, as it is counted; Description and Advice are for people.
	Reason      string `json:"reason,omitempty"`
	Description string `json:"description,omitempty"`
	Advice      string `json:"advice,omitempty"`
	// NextHop is where it goes, with the addresses that it has there.
	NextHop       *NextHop `json:"next_hop,omitempty"`
	Translated    bool     `json:"translated,omitempty"`
	SourceAs      string   `json:"source_as"`
	DestinationAs string   `json:"destination_as"`
}

// TraceStep is one of a trace. Text says it all.
type TraceStep struct {
	// Step is port, source, nat, route, member, check, policy, answer, tunnel, mtu,
	// deliver, router, fabric, drop or unknown.
	Step    string     `json:"step"`
	Text    string     `json:"text"`
	Vif     int        `json:"vif,omitempty"`
	Device  string     `json:"device,omitempty"`
	Port    string     `json:"port,omitempty"`
	VRF     uint32     `json:"vrf,omitempty"`
	Network string     `json:"network,omitempty"`
	Route   *Route     `json:"route,omitempty"`
	NextHop *NextHop   `json:"next_hop,omitempty"`
	NAT     *NAT       `json:"nat,omitempty"`
	Rule    *TraceRule `json:"rule,omitempty"`
	Reason  string     `json:"reason,omitempty"`
}

// TraceRule is the rule of a policy set that decided.
type TraceRule struct {
	// Kind is what the set is asked about: network, firewall, arriving or leaving.
	Kind string `json:"kind"`
	Set  string `json:"set"`
	Pass bool   `json:"pass"`
	// UUID, Owner and OwnerPlace name the rule as it was written: its owner is the
	// object that it is in or follows from. Without them no rule matched.
	UUID       string `json:"uuid,omitempty"`
	Owner      string `json:"owner,omitempty"`
	OwnerPlace int    `json:"owner_place,omitempty"`
	// Place is the rule's in the set, from 1.
	Place int `json:"place,omitempty"`
}
