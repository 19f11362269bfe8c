// Package dataplane is the vRouter's forwarding: the eBPF programs, their
// pinned maps, and a typed Go view of both.
//
//	container -> vif_rx -----> flow | route -> next hop | one of a group by flow
//	                                  policy -> local container (redirect_peer)
//	                                         -> tunnel -> underlay (redirect_neigh)
//	underlay -> underlay_rx -> flow | label or VNI, checks, policy -> local container
//
//	the node's own tasks -> underlay_tx -> not into tunnels -> underlay
//
// Maps and the links of the underlay are pinned below one directory of a bpffs,
// and the filters of containers' devices live with these, so that forwarding
// goes on while no process runs; Open adopts what it finds. On a kernel without
// tcx the underlay has filters, too.
// The vRouter agent tells it ports (which container is behind an interface),
// routes (VRF, prefix, next hop, who is there) and the policies of ports (sets of
// rules), and reads flows, counters and drops. What rules and networks are to
// their users is no business of the package.
//
// # Policy
//
// A port has up to four sets, which the first packet of a connection must pass
// at each end of it. A set is an array that is never changed: each part of the
// packet is looked up in it, which gives bitmaps of rules, and the first rule in
// all of them decides (bpf/policy_set.h). It is made anew and put in the place of
// the old one by one write. Networks, groups and tags are no part of packets: each
// combination of them is an identity with a number, which routes and ports have,
// and a set has a row for each identity that some rule is about. A number is
// given once, and a set refuses who came after it was made: so the order of
// things is to have the sets know an identity, and then to write what leads to
// it.
//
// # Invariants
//
//   - A packet leaves a container only with the MAC of its port, and an address
//     of it or one that the routes of its network have behind it. From a tunnel
//     it enters one only if its destination is such an address, and if it comes
//     from the node to which an answer would go.
//   - A label leads to one port. A VXLAN network identifier (VNI) leads to a VRF,
//     where the inner destination has to be a port of this node; what comes with
//     another than those that the node was given is dropped.
//   - A device that is up carries the program: PutPort attaches before it
//     brings the device up, DeletePort takes it down before it detaches.
//   - A flow entry holds while its generation is the current one, and those of
//     its ports' policies are. Every change of ports or routes is written to the
//     maps first and then bumps the generation, and every change of a port's
//     policy that port's: so no decision outlives the tables it was made from.
//   - A port without a policy is closed: nothing new begins there. What was
//     established when an agent stopped goes on.
//   - What answers passes by the decision on what it answers, and is decided
//     anew with that.
//   - An address of another network is translated at its port's node, and only
//     there; an answer comes from the address that was asked.
//   - A flow stays with its member of a group of next hops for as long as that is
//     one; a next hop is there before and after all routes that lead to it.
//   - A full flow table or a used-up quota refuses new flows and leaves the
//     established ones alone. What others begin takes nothing from what a port
//     may begin, and no port, nor who sends to it, takes another's share of the
//     table.
//   - Every dropped packet is counted by reason and interface.
//   - The layout of pinned maps is versioned in their names.
//
// # Tunnels
//
// A next hop says how it is sent to: MPLS over UDP or GRE with a label, or VXLAN
// with a VNI and the receiver's MAC. All three are taken, whatever the next hop
// of the way back says. MPLS over GRE with a key, sequence or checksum is none of
// ours; UDP port 4789 of the node's address is, all of it: a VXLAN device of the
// host cannot have the same port there.
//
// A far end of VXLAN that bridges, such as a switch, asks for the MAC of a port
// by ARP. The node answers it as it would take a packet from it: where the port
// is here, and the question comes from where the answer would go.
//
// # IPv6
//
// Both families are in the same tables, IPv4 as mapped addresses, and go the same
// way. The router answers neighbour solicitations (bpf/router.h), echo requests at
// the gateways of a port, and what is too big or has used up its hop limit by an
// ICMPv6 error. Extension headers are walked through up to six (bpf/parse6.h).
// Foreign addresses, services, probes and bridges are of IPv4.
//
//   - A packet of IPv6 has no mapped address; a prefix of IPv6 leads no IPv4.
//   - Nothing with a link-local address is forwarded, and no neighbour discovery.
//
// # Layer 2
//
// A VRF with a bridge (PutBridge) forwards frames: by MAC (PutMACs) to a port or
// by VXLAN to a node, and what is for many to its ports and remotes. vif_rx and
// underlay_rx hand them to bridge_port_rx and bridge_tunnel_rx by tail calls.
//
//		container -> vif_rx -> bridge_port_rx -> flow | policy -> port, or VXLAN
//		                                      -> for many: ports, and copies in VXLAN
//		                                         -> underlay_rx (marked) -> underlay
//		underlay -> underlay_rx -> bridge_tunnel_rx -> source, flow | policy -> ports
//
//	  - What came by tunnel never leaves by one.
//	  - A frame from a tunnel is of a remote of the bridge, and its MAC and address
//	    are not known to be elsewhere.
//	  - Each copy is paid for, out of what its port, or the network's tunnels, may
//	    have in a second.
//	  - Where IP is routed it is routed whatever MAC of the network it is for; where
//	    it is bridged, as the frame is, by flows as any other.
//
// # Limits
//
// A port may have a limit of what it sends and one of what it is sent (bpf/limit.h): a
// token bucket each, which drops what is too much. There is no queue: packets for a
// container go past its device's, and those of one have none. Flows carry a flag for
// each limit that their packets come under, so that a port without limits does not
// pay for those of others. How TCP lives with that is at LeastBurst.
//
// # Offloads
//
// Encapsulation keeps super-packets whole (GSO). The kernel does not clear the
// tunnel bits of such a packet when the program removes the outer header, so
// a UDP super-packet (UDP_SEGMENT) that arrives whole, over a veth underlay but
// never from a physical wire, is lost at a socket without UDP_GRO. Where that
// matters, `ethtool -K UNDERLAY tx-udp_tnl-segmentation off` makes the sender
// cut it up; the package does not change offloads, as TCP gains much from them.
// Likewise a container that routes cannot pass on by UDP, MPLS's or VXLAN's, a
// super-packet that has come whole by MPLSoGRE (tx-gre-segmentation).
//
// # Inspecting
//
// Tables (OpenTables) reads the pinned maps without touching the programs;
// bpftool map dump pinned PINDIR/maps/NAME shows the same raw.
//
// # Testing
//
// go test for what needs no privileges; go test -tags net as root runs the
// programs on built packets (BPF_PROG_TEST_RUN) and in namespaces. test/kernel does
// so on Linux 6.1, whose verifier refuses more: run it after a change in bpf/.
package dataplane
