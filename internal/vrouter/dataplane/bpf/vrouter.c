// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The data plane of a node: vif_rx at the host side of each container's veth,
 * underlay_rx at the device towards the other nodes, with underlay_tx at what leaves
 * by it, probe_rx at the agent's own.
 *
 *   container -> vif_rx: ARP, ND, echo to the gateway | source check -> flow, else route, policy -> flow
 *                        -> next hop {local port, tunnel, discard}
 *                        | BGP to a service, a link-local service, SNAT
 *                          -> translated, to the underlay
 *   wire -> underlay_rx: tunnel to us? label or VNI -> flow, else checks, policy -> flow
 *                        -> local port
 *                        a service's answer? -> translated, to the port
 *                        everything else goes to the stack
 *
 * A flow entry of the current generations is a complete decision: nothing else
 * is looked up. Refusals are not cached.
 */
#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "arp.h"
#include "arrive.h"
#include "await.h"
#include "drop_reasons.h"
#include "encap.h"
#include "fabric.h"
#include "flow.h"
#include "limit.h"
#include "maps.h"
#include "nat.h"
#include "nexthop.h"
#include "parse.h"
#include "policy.h"
#include "bridge.h"
#include "probe.h"
#include "router.h"
#include "service.h"
#include "types.h"

/* "Not mine": the value is the same for tcx (TCX_NEXT) and clsact filters. */
#define VERDICT_NEXT TC_ACT_UNSPEC

/*
 * Answers a request with the router's MAC, whatever the address: every other
 * address of a network is behind the router. Probes (RFC 5227) and
 * announcements get no answer, else each container would see a conflict.
 */
static __always_inline int answer_arp(struct __sk_buff *skb, const struct vif *vif,
				      __u32 ifindex)
{
	const __u8 vr_mac[6] = VR_MAC;
	struct addr sender, target;

	if (need(skb, sizeof(struct ethhdr) + sizeof(struct arp_ipv4)))
		return drop(skb, DROP_MALFORMED, ifindex);
	struct ethhdr *eth = packet_at(skb, 0);
	struct arp_ipv4 *arp = (void *)(eth + 1);
	if (!in_packet(skb, arp + 1))
		return drop(skb, DROP_MALFORMED, ifindex);
	if (!is_arp_ipv4(arp))
		return drop(skb, DROP_MALFORMED, ifindex);
	if (arp->operation != bpf_htons(ARP_REQUEST) || !arp->sender_ip)
		return drop(skb, DROP_ARP, ifindex);

	if (!same_mac(arp->sender_mac, vif->mac))
		return drop(skb, DROP_SOURCE_MAC, ifindex);
	map_v4(&sender, arp->sender_ip);
	/* A container asks from the address that it is about to send from. */
	if (!may_send_from(vif, ifindex, &sender))
		return drop(skb, DROP_SOURCE_ADDRESS, ifindex);
	map_v4(&target, arp->target_ip);
	if (owns(vif, ifindex, &target) || is_alias(find_foreign(vif, ifindex, &target)))
		return drop(skb, DROP_ARP, ifindex);

	copy_mac(eth->h_dest, vif->mac);
	copy_mac(eth->h_source, vr_mac);
	turn_arp(arp, vr_mac);
	return answer(skb, vif->slot, ifindex);
}

/* Hands the packet to the container behind ifindex. */
static __always_inline int deliver(struct __sk_buff *skb, const __u8 *dmac, __u32 ifindex,
				   __u32 slot)
{
	const __u8 vr_mac[6] = VR_MAC;

	if (set_macs(skb, dmac, vr_mac))
		return drop(skb, DROP_MALFORMED, ifindex);
	/* The router's MAC is no MAC of the host: what came from a container
	 * counts as somebody else's until told otherwise. */
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
	count_to(skb, slot);
	return bpf_redirect_peer(ifindex, 0);
}

/* Sends what a container sent to the fabric out by the underlay, as the node's. */
static __noinline int to_fabric(struct __sk_buff *skb, const struct packet *p,
				const struct flow *f, __u32 ifindex)
{
	if (!p || !f)
		return TC_ACT_SHOT;
	__u32 packets = packets_of(skb), bytes = skb->len, slot = f->slot;

	if (!fits_underlay(skb, p, 0))
		return drop(skb, DROP_TOO_BIG, ifindex);
	if (is_nat(f) && p->ttl <= 1)
		return drop(skb, DROP_TTL, ifindex);
	if (translate(skb, f->nat_src, f->nat_dst, f->nat_sport, f->nat_dport) ||
	    set_ttl(skb, is_nat(f) ? p->ttl - 1 : BGP_TTL))
		return drop(skb, DROP_MALFORMED, ifindex);
	count_from(slot, packets, bytes);
	return bpf_redirect_neigh(underlay_ifindex, 0, 0, 0);
}

/* Forwards what a container sent, by a decision. */
static __always_inline int forward(struct __sk_buff *skb, const struct packet *p,
				   const struct flow *f, __u32 ifindex)
{
	__u32 kind = f->nh.kind, to = f->nh.ifindex;
	__u32 packets = packets_of(skb), bytes = skb->len, slot = f->slot;

	if (kind == NEXT_HOP_FABRIC)
		return to_fabric(skb, p, f, ifindex);
	if (kind == NEXT_HOP_TUNNEL && !fits_underlay(skb, p, outer_size(f->nh.encap)))
		return p->v6 ? refuse6(skb, p, ifindex, DROP_TOO_BIG, outer_size(f->nh.encap))
			     : drop(skb, DROP_TOO_BIG, ifindex);
	if ((f->nat_src || f->nat_dst) && translate(skb, f->nat_src, f->nat_dst, 0, 0))
		return drop(skb, DROP_MALFORMED, ifindex);
	if (p->v6 ? set_hop_limit(skb, p->ttl - 1) : decrement_ttl(skb, sizeof(struct ethhdr)))
		return drop(skb, DROP_MALFORMED, ifindex);
	if (kind == NEXT_HOP_LOCAL) {
		count_from(slot, packets, bytes);
		return deliver(skb, f->dmac, to, f->out_slot);
	}
	if (encapsulate(skb, f, p))
		return drop(skb, DROP_ENCAPSULATE, ifindex);
	count_from(slot, packets, bytes);
	return to_underlay(skb, p);
}

/* Decides a flow that a container starts or whose decision is outdated. */
static __noinline int decide_from_port(struct __sk_buff *skb, struct packet *p,
				       struct vif *vif, struct flow *f,
				       struct flow *old)
{
	if (!p || !vif || !f)
		return DROP_MALFORMED;
	int wrong = p->v6 ? check_ipv6(p) : DROP_NONE;
	if (wrong)
		return wrong;
	/* 224.0.0.0/3 holds multicast, reserved space and the broadcast. */
	if (!p->v6 && (bpf_ntohl(p->key.dst.w[3]) >> 29) == 7)
		return DROP_MULTICAST;
	f->vrf = vif->vrf;
	if (vif->foreign && !p->v6) {
		int reason = find_way(vif, &p->key, old, f);

		if (reason)
			return reason;
	}
	struct route *r = find_route(f->vrf, &p->key.dst);
	if (!r)
		return DROP_NO_ROUTE;
	int reason = resolve(r, &p->key, old, &f->nh, f->dmac);
	if (reason)
		return reason;
	f->ifindex = p->key.scope;
	f->slot = vif->slot;
	f->out_slot = NO_SLOT;
	copy_mac(f->smac, vif->mac);
	switch (f->nh.kind) {
	case NEXT_HOP_TUNNEL:
		f->udp_sport = old && old->udp_sport ? old->udp_sport : entropy_port(skb);
		return DROP_NONE;
	case NEXT_HOP_LOCAL: {
		struct vif *to = bpf_map_lookup_elem(&vif_v1, &f->nh.ifindex);

		if (!to)
			return DROP_NEXT_HOP;
		if (to->blocked)
			return DROP_BLOCKED;
		/* A route that is outdated must not lead to whoever has the
		 * label now. */
		if (!may_have(to, f->nh.ifindex, &p->key.dst)) {
			const struct foreign_addr *a = find_foreign(to, f->nh.ifindex, &p->key.dst);

			if (!a)
				return DROP_DESTINATION_ADDRESS;
			if (!is_alias(a))
				f->nat_dst = a->fixed;
		}
		copy_mac(f->dmac, to->mac);
		f->out_slot = to->slot;
		return DROP_NONE;
	}
	}
	return DROP_DISCARD;
}

SEC("tc")
int vif_rx(struct __sk_buff *skb)
{
	const __u8 vr_mac[6] = VR_MAC;
	__u32 ifindex = skb->ifindex;
	/* Before the tables are read: what changes meanwhile outdates us. */
	__u32 generation = current_generation();

	if (need(skb, sizeof(struct ethhdr)))
		return drop(skb, DROP_MALFORMED, ifindex);
	struct ethhdr *eth = packet_at(skb, 0);
	if (!in_packet(skb, eth + 1))
		return drop(skb, DROP_MALFORMED, ifindex);
	__u8 smac[6], dmac[6];
	copy_mac(smac, eth->h_source);
	copy_mac(dmac, eth->h_dest);
	/* The kernel has taken the tag out of the frame, and would put it in again
	 * where the frame leaves: around a tunnel's packet, too. */
	if (skb->vlan_present)
		return drop(skb, DROP_PROTOCOL, ifindex);

	struct packet p = {};
	struct flow *old = 0;
	__be16 proto = eth->h_proto;
	int is_ip = proto == bpf_htons(ETH_P_IP) || proto == bpf_htons(ETH_P_IPV6);
	if (is_ip) {
		int reason = proto == bpf_htons(ETH_P_IP) ? parse_ipv4(skb, sizeof(struct ethhdr), &p)
							  : parse_ipv6(skb, sizeof(struct ethhdr), &p);

		if (reason)
			return drop(skb, reason, ifindex);
		p.key.scope = ifindex;
		p.key.dir = FLOW_FROM_PORT;
		if (p.fragment)
			follow_fragment(&p);
		old = bpf_map_lookup_elem(&flow_v3, &p.key);
		/* The key says that the port had the source address in this
		 * generation. The interface guards against an entry that is
		 * given to another port's flow while we hold it. */
		if (old && old->generation == generation && old->ifindex == ifindex &&
		    same_mac(old->smac, smac) && same_mac(vr_mac, dmac) &&
		    (p.ttl > 1 || old->nh.kind == NEXT_HOP_FABRIC) &&
		    old->policy == policy_of_flow(old)) {
			if (old->limits && exceeds(skb, old, skb->len))
				return TC_ACT_SHOT;
			if (!old->packets)
				meet_answer(&p.key, old);
			touch(skb, old, skb->len);
			return forward(skb, &p, old, ifindex);
		}
	}

	struct vif *vif = bpf_map_lookup_elem(&vif_v1, &ifindex);
	if (!vif)
		return drop(skb, DROP_NO_PORT, ifindex);
	if (vif->blocked)
		return drop(skb, DROP_BLOCKED, ifindex);
	if (!same_mac(smac, vif->mac))
		return drop(skb, DROP_SOURCE_MAC, ifindex);
	int nd = is_nd(&p);
	if (is_ip && !nd && !may_send_from(vif, ifindex, &p.key.src))
		return drop(skb, is_of_link(&p) ? DROP_MULTICAST : DROP_SOURCE_ADDRESS, ifindex);
	int way = way_of(vif->vrf, dmac, proto);
	if (way == WAY_BRIDGE) {
		bpf_tail_call(skb, &bridge_programs_v1, BRIDGE_PORT);
		return drop(skb, DROP_PROTOCOL, ifindex);
	}
	if (proto == bpf_htons(ETH_P_ARP))
		return exceeds_egress(skb, vif->slot, ifindex) ? TC_ACT_SHOT : answer_arp(skb, vif, ifindex);
	if (!is_ip)
		return drop(skb, DROP_PROTOCOL, ifindex);
	if (nd)
		return exceeds_egress(skb, vif->slot, ifindex) ? TC_ACT_SHOT : answer_nd(skb, &p, vif, ifindex);
	if (way == WAY_NONE && !same_mac(vr_mac, dmac))
		return drop(skb, dmac[0] & 1 ? DROP_MULTICAST : DROP_DESTINATION_MAC, ifindex);
	if (asks_echo(&p) && is_gateway(ifindex, &p.key.dst))
		return exceeds_egress(skb, vif->slot, ifindex) ? TC_ACT_SHOT : answer_echo(skb, &p, vif, ifindex);
	int prober = is_syn(&p) ? 0 : answer_probe(skb, &p, ifindex);
	if (prober)
		return prober < 0 ? drop(skb, DROP_MALFORMED, ifindex) : bpf_redirect(prober, 0);

	if (asks_link_local(&p)) {
		bpf_tail_call(skb, &fabric_programs_v1, FABRIC_PORT);
		return drop(skb, DROP_NO_ROUTE, ifindex);
	}
	struct flow *fresh = new_flow(SCRATCH_DECISION, generation);
	if (!fresh)
		return drop(skb, DROP_MALFORMED, ifindex);
	int reason;
	if (asked_service(&p)) {
		reason = decide_service(skb, &p, vif, fresh, old);
	} else {
		if (p.ttl <= 1)
			return p.v6 ? refuse6(skb, &p, ifindex, DROP_TTL, 0) : drop(skb, DROP_TTL, ifindex);
		reason = decide_from_port(skb, &p, vif, fresh, old);
		if (reason == DROP_NO_ROUTE && !p.v6) /* SNAT, if the port has it */
			bpf_tail_call(skb, &fabric_programs_v1, FABRIC_PORT);
		if (reason)
			return drop(skb, reason, ifindex);
		reason = judge(skb, &p, old, fresh, vif->label);
	}
	if (reason > DROP_NONE)
		return drop(skb, reason, ifindex);
	fresh->limits = limits_of(fresh, FLOW_FROM_PORT);
	if (fresh->limits && exceeds(skb, fresh, skb->len))
		return TC_ACT_SHOT;
	if (reason == DROP_NONE)
		reason = enter_flow(skb, &p.key, old, fresh, skb->len, vif->label);
	if (reason > DROP_NONE)
		return drop(skb, reason, ifindex);
	int verdict = forward(skb, &p, fresh, ifindex);
	if (!old && awaits_answer(&p, fresh))
		fresh->nh.kind == NEXT_HOP_LOCAL ? await_from_port(&p.key, fresh)
						 : await_from_tunnel(&p.key, fresh, vif);
	else if (fresh->nh.kind == NEXT_HOP_FABRIC)
		enter_service_answer(&p.key, fresh);
	else if (fresh->nat_dst && reason != PASS_ONCE)
		enter_answer(skb, &p.key, fresh, vif->label);
	return verdict;
}

/*
 * Decides a flow that arrives by tunnel. The underlay is not trusted: the inner
 * destination must belong to the port or be behind it, and the outer source must
 * be where the port's VRF would send an answer.
 */
static __noinline int decide_from_tunnel(struct packet *p, const struct arrival *a,
					 struct flow *f)
{
	struct vif *vif = 0;

	if (!p || !a || !f)
		return DROP_MALFORMED;
	int reason = p->v6 ? check_ipv6(p) : DROP_NONE;
	if (!reason)
		reason = receiver(&p->key, &f->ifindex, &vif);
	if (reason)
		return reason;
	if (!vif)
		return DROP_LABEL;
	if (vif->blocked)
		return DROP_BLOCKED;
	f->vrf = vif->vrf;
	if (!may_have(vif, f->ifindex, &p->key.dst)) {
		const struct foreign_addr *own = find_foreign(vif, f->ifindex, &p->key.dst);

		if (!own)
			return DROP_DESTINATION_ADDRESS;
		f->vrf = own->vrf;
		if (!is_alias(own))
			f->nat_dst = own->fixed;
	}
	if (!for_mac(a, vif->mac))
		return DROP_DESTINATION_MAC;
	struct route *back = find_route(f->vrf, &p->key.src);
	if (!back)
		return DROP_NO_SOURCE_ROUTE;
	struct addr outer;
	map_v4(&outer, a->source);
	const struct route *far = leads_to_node(back, &outer);
	if (!far)
		return DROP_TUNNEL_SOURCE;

	f->nh.kind = NEXT_HOP_LOCAL;
	f->nh.ifindex = f->ifindex;
	f->nh.label = p->key.scope;
	f->nh.remote = outer;
	f->nh.identity = far->identity;
	f->slot = vif->slot;
	f->out_slot = vif->slot;
	copy_mac(f->dmac, vif->mac);
	return DROP_NONE;
}

static __always_inline int receive(struct __sk_buff *skb, const struct packet *p,
				   const struct flow *f, __u32 size, __u32 underlay)
{
	__u8 dmac[6];
	__u32 ifindex = f->nh.ifindex;
	__u32 slot = f->out_slot;
	__be32 nat_dst = f->nat_dst;

	copy_mac(dmac, f->dmac);
	if (p->v6 ? decapsulate_ipv6(skb, size) : decapsulate(skb, size))
		return drop(skb, DROP_DECAPSULATE, underlay);
	if (nat_dst && translate(skb, 0, nat_dst, 0, 0))
		return drop(skb, DROP_MALFORMED, ifindex);
	return deliver(skb, dmac, ifindex, slot);
}

/* Hands a port what answers it from the fabric. */
static __noinline int hand_answer(struct __sk_buff *skb, const struct packet *p, struct flow *f)
{
	if (!p || !f)
		return TC_ACT_SHOT;
	__u8 dmac[6];
	__u32 ifindex = f->nh.ifindex, slot = f->out_slot;
	__u8 nat = is_nat(f);

	if (nat && p->ttl <= 1)
		return drop(skb, DROP_TTL, ifindex);
	if (f->limits && exceeds(skb, f, skb->len))
		return TC_ACT_SHOT;
	if (nat && !f->packets)
		note_answer(&p->key, f, 0);
	touch(skb, f, skb->len);
	copy_mac(dmac, f->dmac);
	if (translate(skb, f->nat_src, f->nat_dst, f->nat_sport, f->nat_dport) ||
	    set_ttl(skb, nat ? p->ttl - 1 : BGP_TTL))
		return drop(skb, DROP_MALFORMED, ifindex);
	return deliver(skb, dmac, ifindex, slot);
}

#define TO_FABRIC_PROGRAM -2

/* Hands what came from the fabric to the port that it answers. What another program
 * has to look at is TO_FABRIC_PROGRAM. */
static __noinline int from_fabric(struct __sk_buff *skb, struct packet *p, __u32 generation)
{
	struct flow *f = p ? find_answer(skb, p) : 0;

	if (!f && p && p->key.proto == IPPROTO_ICMP && !p->fragment && is_icmp_error(bpf_ntohs(p->key.dport)))
		return TO_FABRIC_PROGRAM;
	if (!f)
		return VERDICT_NEXT;
	if (f->generation != generation || f->policy != policy_of_flow(f)) {
		if (is_nat(f))
			return TO_FABRIC_PROGRAM;
		int reason = renew_answer(&p->key, f, generation);

		if (reason < 0)
			return VERDICT_NEXT;
		if (reason)
			return drop(skb, reason, f->ifindex);
		f = bpf_map_lookup_elem(&flow_v3, &p->key);
		if (!f)
			return VERDICT_NEXT;
	}
	return hand_answer(skb, p, f);
}

SEC("tc")
int underlay_rx(struct __sk_buff *skb)
{
	__u32 underlay = skb->ifindex;
	__u32 generation = current_generation();
	struct arrival a = {};
	struct packet p = {};
	int fragments = 0;
	int reason;

	if (is_copy(skb))
		return into_tunnel(skb);
	if (is_of_vlan(skb))
		return VERDICT_NEXT;
	if (!arrives(skb, &a, &fragments)) {
		int verdict = may_be_answer(skb) ? from_fabric(skb, &p, generation) : VERDICT_NEXT;

		if (verdict != TO_FABRIC_PROGRAM)
			return verdict;
		bpf_tail_call(skb, &fabric_programs_v1, FABRIC_UNDERLAY);
		return VERDICT_NEXT;
	}
	if (fragments)
		return drop(skb, DROP_OUTER_FRAGMENT, underlay);
	switch (a.encap) {
	case ENCAP_VXLAN:
		reason = parse_vxlan(skb, &a, &p);
		if (!reason && a.bridged)
			goto bridged;
		if (!reason && a.proto == bpf_htons(ETH_P_ARP)) {
			reason = answer_neighbour(skb, &a);
			if (!reason)
				return into_tunnel(skb);
		} else if (!reason && is_nd(&p)) {
			reason = answer_neighbour6(skb, &a, &p);
			if (!reason)
				return into_tunnel(skb);
		} else if (!reason && is_of_router(a.vrf)) {
			reason = enter_network(&a, &p.key);
		}
		break;
	case ENCAP_MPLS_GRE:
		reason = parse_mpls(skb, sizeof(struct outer_gre), &p);
		break;
	default:
		reason = parse_mpls(skb, sizeof(struct outer_udp), &p);
	}
	if (reason)
		return drop(skb, reason, underlay);

	p.key.dir = FLOW_FROM_TUNNEL;
	if (p.fragment)
		follow_fragment(&p);
	struct flow *old = bpf_map_lookup_elem(&flow_v3, &p.key);
	if (old && old->generation == generation && old->nh.kind == NEXT_HOP_LOCAL &&
	    old->nh.label == p.key.scope && old->nh.remote.w[3] == a.source &&
	    for_mac(&a, old->dmac) && old->policy == policy_of_flow(old)) {
		if (old->limits && exceeds(skb, old, skb->len - a.size))
			return TC_ACT_SHOT;
		if (!old->packets)
			meet_answer(&p.key, old);
		touch(skb, old, skb->len - a.size);
		return receive(skb, &p, old, a.size, underlay);
	}

	if (a.encap == ENCAP_VXLAN && bridges_from_tunnel(a.vrf, a.proto, 0))
		goto bridged;
	struct flow *fresh = new_flow(SCRATCH_DECISION, generation);
	if (!fresh)
		return drop(skb, DROP_MALFORMED, underlay);
	reason = decide_from_tunnel(&p, &a, fresh);
	if (reason)
		return drop(skb, reason, fresh->ifindex ? fresh->ifindex : underlay);
	reason = judge(skb, &p, old, fresh, p.key.scope);
	if (reason > DROP_NONE)
		return drop(skb, reason, fresh->ifindex);
	fresh->limits = limits_of(fresh, FLOW_FROM_TUNNEL);
	if (fresh->limits && exceeds(skb, fresh, skb->len - a.size))
		return TC_ACT_SHOT;
	if (reason == DROP_NONE)
		reason = enter_flow(skb, &p.key, old, fresh, skb->len - a.size, p.key.scope);
	if (reason > DROP_NONE)
		return drop(skb, reason, fresh->ifindex);
	int verdict = receive(skb, &p, fresh, a.size, underlay);
	if (!old && awaits_answer(&p, fresh))
		await_from_port(&p.key, fresh);
	else if (fresh->nat_dst && reason != PASS_ONCE)
		enter_answer(skb, &p.key, fresh, p.key.scope);
	return verdict;
bridged:
	bpf_tail_call(skb, &bridge_programs_v1, BRIDGE_TUNNEL);
	return drop(skb, DROP_PROTOCOL, underlay);
}

/* Takes what the agent sends from its prober, to a port and to nowhere else. */
SEC("tc")
int probe_rx(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct packet p = {};

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return drop(skb, DROP_PROTOCOL, ifindex);
	int reason = parse_ipv4(skb, sizeof(struct ethhdr), &p);
	if (reason)
		return drop(skb, reason, ifindex);
	struct probe *to = bpf_map_lookup_elem(&probe_v1, &p.key.dst.w[3]);
	if (!to)
		return drop(skb, DROP_NO_PORT, ifindex);
	__u32 port = to->ifindex;
	struct vif *vif = bpf_map_lookup_elem(&vif_v1, &port);
	if (!vif)
		return drop(skb, DROP_NO_PORT, ifindex);
	if (vif->blocked)
		return drop(skb, DROP_BLOCKED, port);
	struct addr own;
	map_v4(&own, to->addr);
	if (!owns(vif, port, &own))
		return drop(skb, DROP_DESTINATION_ADDRESS, port);
	reason = enter_probe(skb, &p, to);
	if (reason)
		return drop(skb, reason, ifindex);
	return deliver(skb, vif->mac, port, vif->slot);
}

#include "bridge_rx.h"
#include "fabric_rx.h"
#include "guard.h"

char __license[] SEC("license") = "Dual MIT/GPL";
