package dataplane

// Advice says what to do about drops for the reason.
func (r DropReason) Advice() string {
	if text, ok := dropAdvice[r]; ok {
		return text
	}
	return "look at the release notes of the newer data plane"
}

// dropAdvice is for operators: what a reason comes from, and what helps. A test
// wants an entry for every reason.
var dropAdvice = map[DropReason]string{
	DropMalformed:          "Capture at the interface: something sends packets that are cut off or contradict themselves, such as a broken program with raw sockets, or damage on the underlay.",
	DropProtocol:           "Nothing, where containers send other link protocols than IPv4, IPv6 and ARP (LLDP, spanning tree): routed networks do not carry them. Where frames are to pass, use the forwarding mode `l2` or `l2_l3`.",
	DropNoPort:             "The interface was just plugged or removed. If it goes on, look at `contrail vrouter vif` and at `/ports` of the agent: the port is not in the data plane, and its error says why.",
	DropBlocked:            "The port was disabled, or its release is on the way. `contrail vrouter vif` shows it as blocked; enable it with `PUT /enable-port/UUID`.",
	DropSourceMAC:          "The container sends with another MAC than its interface has in the configuration: somebody changed it, or bridges others behind it.",
	DropSourceAddress:      "The container sends from an address that it has not: left over from another network, spoofed, or of a network behind it. Give the interface what it needs: an `instance-ip`, an allowed address pair, or an interface route table.",
	DropDestinationMAC:     "A routed network takes only frames for the router, 00:00:5e:00:01:00: the container has a wrong or an old ARP entry, or the network was bridged before.",
	DropARP:                "Mostly nothing: ARP for the container's own addresses, which it sends when it sets them, is not to be answered.",
	DropMulticast:          "Routed networks have no broadcasts and multicast. Where programs need them, use the forwarding mode `l2` or `l2_l3`.",
	DropNoRoute:            "`contrail vrouter rt ADDRESS --vif VIF` shows that there is none here, `contrail control explain ADDRESS NETWORK` why not: the other network is not connected by a policy, or the address is not in use.",
	DropDiscard:            "The route is there and says so: a static route or an aggregate without a next hop that is up, or only paths with encapsulations that this node does not take. `contrail control explain ADDRESS NETWORK` tells.",
	DropNextHop:            "The label of the route is of a port that is not plugged here: on its way in or out. If it goes on, compare `contrail vrouter mpls` with `/ports` of the agent.",
	DropTTL:                "Packets go in a circle, or somebody traces a route. Look for static routes and service chains that lead back.",
	DropTooBig:             "The sender was told (ICMP, fragmentation needed) where the packet may not be fragmented. If it goes on, compare the MTU of the container and of the underlay, and see whether the container drops ICMP.",
	DropFlowQuota:          "A container begins, or is sent, more connections at a time than one may have: a flood, or too small a table. `contrail vrouter flow --vif VIF` shows them; more room comes with `--flow-entries` of the agent.",
	DropFlowTableFull:      "All ports together have more connections than the node has room for. Established ones go on. Give the agent more `--flow-entries`.",
	DropEncapsulate:        "The kernel could not make room for the outer header, mostly for lack of memory. If it goes on, look at the memory of the node and at the MTU of the underlay.",
	DropDecapsulate:        "The kernel could not take the outer header off: the packet on the underlay is damaged or odd. Capture there.",
	DropLabel:              "Another node or a router sends with a label that no port here has: for moments after a port has gone, else from routes that are out of date. Compare `contrail control routes NETWORK` with `contrail vrouter mpls`.",
	DropLabelStack:         "A router sends more than one MPLS label. Have it send the label of the route alone.",
	DropOuterFragment:      "Packets of the tunnel are fragmented on the way: the MTU of the underlay is smaller somewhere than at the nodes.",
	DropDestinationAddress: "What came by tunnel is for an address that the port of the label has not, or that no port here has: for moments after a change, else from routes that are out of date, or forged.",
	DropNoSourceRoute:      "What came by tunnel is from an address that nobody in the network has, as far as this node knows. Compare `contrail control explain ADDRESS NETWORK`; without such a route it is forged.",
	DropTunnelSource:       "What came by tunnel is from another node than the one where its inner address is: for moments while an address moves, else it is forged. The outer source is the one to look at.",
	DropPolicyPending:      "The policy of the port has not come yet: for moments after it was plugged. If it goes on, see whether the agent has sessions (`/sessions`) and `/policies` of the agent for the error.",
	DropPolicyNetwork:      "Network policies do not allow it. `contrail control policy INTERFACE` shows the rules of either end.",
	DropPolicyFirewall:     "A firewall policy does not allow it. `contrail control policy INTERFACE` shows the rules of either end.",
	DropPolicyGroup:        "No security group of one of the ends allows it. `contrail control policy INTERFACE` shows the rules of either end.",
	DropFragment:           "The first fragment was lost or refused, or came after the others. Look at the other reasons, and at the MTU on the way.",
	DropVNI:                "Another node or a router sends by VXLAN with an identifier that is of no network with a port here. `contrail vrouter vxlan` shows those that are.",
	DropFlowUnanswered:     "A container begins, or is sent, more connections at a time that nobody answers than one may have: a scan or a flood of TCP SYN, or its server is down. `contrail vrouter flow --vif VIF` shows them.",
	DropBgpConnection:      "A task has begun its BGP connection anew, and this is what is left of the one before. If it goes on, two programs of the task connect to the same control node.",
	DropUnknownMAC:         "The network does not flood what is for MACs that nobody has. Set `flood_unknown_unicast` of the network where it is to.",
	DropFloodRate:          "A container, or a network's tunnels, has more copies of broadcasts than `--flood-rate` of the agent allows in a second: mostly a loop behind a container.",
	DropND:                 "Mostly nothing: a container that looks whether an address of its own is free, or asks for what nobody has, is not answered. Router solicitations and redirects are not either: the address and the route of a container are set when it starts.",
	DropLinkLocal:          "Mostly nothing: link-local addresses reach the router and nobody else in routed networks. Where containers are to reach each other by them, use the forwarding mode `l2`.",
	DropEgressRate:         "The container has a limit (CNI `bandwidth`, `contrail vrouter vif` shows it) and tries to send more: TCP finds the limit by such drops, and gets all of it. Where the limit is too small, set another one and start the container anew.",
	DropIngressRate:        "The same of what a container is sent: others send it more than its limit.",
	DropExtensionHeader:    "A program sends IPv6 with more than six extension headers, or with a routing header that names another destination. No ordinary one does: look at who it is.",
	DropNatProtocol:        "A task sends to outside of the overlay, by the SNAT of its network, what has no port that the node could give it, or to the ports of tunnels (UDP 4789 and 6635). TCP, UDP and echo requests leave; SCTP, GRE and the like do not.",
	DropNatDestination:     "A task wants to reach a node or a controller itself, or an address that is no host's, by SNAT or a link-local service. Nothing from a network gets there; `contrail vrouter fabric` shows what is refused. Have the service on another machine.",
	DropForgedTunnel:       "A task in the node's own network namespace, or a container on a bridge of the host, sends what other nodes would take for a tunnel's packet: UDP to port 6635 or 4789, or MPLS in GRE. That is an attack, or another overlay on the same device, which needs other ports.",
	DropNatPorts:           "So many flows go to one address and port outside that the ports of the node are used up, or the port's part of them; or the node could reserve none, see `contrail vrouter fabric`. Give the agent more by `--nat-ports`.",
}
