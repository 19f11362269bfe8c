// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Why a packet was dropped. The one list of reasons: the C enum is made from
 * it here and the Go names by go generate. Append only: the numbers are keys
 * of a pinned map.
 */
#pragma once

#define DROP_REASONS(X)                                                        \
	X(MALFORMED, "malformed", "truncated or inconsistent headers")         \
	X(PROTOCOL, "protocol", "link protocol that is not forwarded")         \
	X(NO_PORT, "no-port", "interface carries no port")                     \
	X(BLOCKED, "blocked", "port is blocked")                               \
	X(SOURCE_MAC, "source-mac", "source MAC is not the port's")            \
	X(SOURCE_ADDRESS, "source-address",                                    \
	  "source address is neither the port's nor behind it")                \
	X(DESTINATION_MAC, "destination-mac", "frame is not for the router")   \
	X(ARP, "arp", "ARP that is not to be answered")                        \
	X(MULTICAST, "multicast", "multicast or broadcast destination")        \
	X(NO_ROUTE, "no-route", "no route to the destination")                 \
	X(DISCARD, "discard", "route says discard")                            \
	X(NEXT_HOP, "next-hop", "next hop leads to no port")                   \
	X(TTL, "ttl", "time to live exceeded")                                 \
	X(TOO_BIG, "too-big", "packet exceeds the underlay MTU")               \
	X(FLOW_QUOTA, "flow-quota", "port has used up its flows")              \
	X(FLOW_TABLE_FULL, "flow-table-full", "flow table is full")            \
	X(ENCAPSULATE, "encapsulate", "outer header could not be added")       \
	X(DECAPSULATE, "decapsulate", "outer header could not be removed")     \
	X(LABEL, "label", "label belongs to no port")                          \
	X(LABEL_STACK, "label-stack", "label is not the bottom of the stack")  \
	X(OUTER_FRAGMENT, "outer-fragment", "tunnel packet is fragmented")     \
	X(DESTINATION_ADDRESS, "destination-address",                          \
	  "inner destination is neither the labelled port's nor behind it")    \
	X(NO_SOURCE_ROUTE, "no-source-route", "no route to the inner source")  \
	X(TUNNEL_SOURCE, "tunnel-source",                                      \
	  "outer source is not the next hop of the inner source")        \
	X(POLICY_PENDING, "policy-pending", "policy of a port is not here yet") \
	X(POLICY_NETWORK, "policy-network", "policies of the network refuse it") \
	X(POLICY_FIREWALL, "policy-firewall", "firewall rules refuse it")       \
	X(POLICY_GROUP, "policy-group", "security groups do not allow it")      \
	X(FRAGMENT, "fragment", "fragment of a datagram that was not seen to begin") \
	X(VNI, "vni", "VXLAN network identifier is of no network here") \
	X(FLOW_UNANSWERED, "flow-unanswered",                                  \
	  "port has used up its flows without an answer") \
	X(BGP_CONNECTION, "bgp-connection",                                    \
	  "another connection of the port to the control node came later") \
	X(UNKNOWN_MAC, "unknown-mac", "nobody in the network has the destination MAC") \
	X(FLOOD_RATE, "flood-rate", "more copies of broadcasts than a port, or a network's tunnels, may have") \
	X(ND, "nd", "neighbour discovery that is not to be answered")          \
	X(LINK_LOCAL, "link-local", "link-local address outside neighbour discovery") \
	X(EXTENSION_HEADER, "extension-header",                                \
	  "more IPv6 extension headers than are looked through, or a route in one") \
	X(EGRESS_RATE, "egress-rate", "container sends more than its egress rate") \
	X(INGRESS_RATE, "ingress-rate", "more is sent to a container than its ingress rate") \
	X(NAT_PROTOCOL, "nat-protocol",                                        \
	  "protocol that cannot leave as the node's, or a tunnel's port")      \
	X(NAT_DESTINATION, "nat-destination",                                  \
	  "a node, a controller or no host outside: nothing goes there as the node's") \
	X(NAT_PORTS, "nat-ports", "the node has no port left for the flow")    \
	X(FORGED_TUNNEL, "forged-tunnel",                                      \
	  "tunnel packet from the node itself that the data plane has not made")

#define DROP_ENUM(name, text, help) DROP_##name,
enum drop_reason {
	DROP_NONE = 0,
	DROP_REASONS(DROP_ENUM)
	DROP_REASON_END
};
#undef DROP_ENUM
