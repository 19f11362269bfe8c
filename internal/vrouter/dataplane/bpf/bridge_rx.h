// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The programs for frames: bridge_port_rx goes on where vif_rx has checked port,
 * source MAC and source address, bridge_tunnel_rx where underlay_rx has found
 * VXLAN for a network of this node.
 *
 *   MAC that is known -> IP: flow, else policy -> flow; other: policy
 *                     -> the port, or the node by VXLAN
 *   MAC of many, or of nobody where that is flooded -> flood.h
 *
 * MACs and TTL stay as they are.
 */
#pragma once

#include "arp.h"
#include "flood.h"
#include "limit.h"
#include "nat.h"

/* What the programs know of a frame. */
struct frame {
	struct ethhdr eth;
	__u16 pad;
	__u32 vrf;
	__be32 source; /* outer source address; 0 from a port */
	__u32 far;     /* identity of a sender behind a tunnel */
};

/* Where a frame goes that is for a MAC of the network. */
struct frame_way {
	__u32 ifindex; /* of a port here, or 0 */
	__u32 slot;
	__be32 remote;
	__u32 vni;
	__u32 identity;
};

/* What is known of the frame in hand: too much for the stack. */
struct frame_work {
	struct frame frame;
	struct packet p;
	struct frame_way w;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct frame_work);
} frame_work SEC(".maps");

static __always_inline struct frame_work *new_work(void)
{
	__u32 zero = 0;
	struct frame_work *work = bpf_map_lookup_elem(&frame_work, &zero);

	if (work)
		__builtin_memset(work, 0, sizeof(*work));
	return work;
}

static __always_inline int is_for_many(const struct frame *f)
{
	return f->eth.h_dest[0] & 1;
}

/* ARP that a port sends has its MAC, and an address of its own or none: probes
 * and announcements are for all to hear. */
static __always_inline int check_arp(struct __sk_buff *skb, const struct vif *vif, __u32 ifindex)
{
	struct arp_ipv4 arp;
	struct addr sender;

	if (bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &arp, sizeof(arp)) || !is_arp_ipv4(&arp))
		return DROP_MALFORMED;
	if (!same_mac(arp.sender_mac, vif->mac))
		return DROP_SOURCE_MAC;
	map_v4(&sender, arp.sender_ip);
	if (arp.sender_ip && !may_have(vif, ifindex, &sender))
		return DROP_SOURCE_ADDRESS;
	return DROP_NONE;
}

/* Sends a frame for many on its way. */
static __noinline int flood_from_port(struct __sk_buff *skb, struct frame *frame, struct packet *p,
				      __u32 ifindex)
{
	__u32 zero = 0;

	if (!frame || !p)
		return DROP_MALFORMED;
	struct flooding f = { .skb = skb, .vrf = frame->vrf, .from = ifindex, .tos = p->tos };
	struct port_policy *own = bpf_map_lookup_elem(&port_policy_v1, &ifindex);

	f.bridge = bpf_map_lookup_elem(&bridge_v1, &f.vrf);
	if (!f.bridge)
		return DROP_PROTOCOL;
	if (is_for_one(f.vrf, p))
		return DROP_DESTINATION_MAC;
	if (!fits_underlay(skb, p, outer_size(ENCAP_VXLAN)))
		return DROP_TOO_BIG;
	if (!pays_for(ifindex, copies_of(f.vrf, f.bridge)))
		return DROP_FLOOD_RATE;
	if (frame->eth.h_proto != bpf_htons(ETH_P_ARP)) {
		if (p->fragment == FRAGMENT_LOST)
			return DROP_FRAGMENT;
		f.query = bpf_map_lookup_elem(&policy_query, &zero);
		if (!f.query || !own)
			return DROP_POLICY_PENDING;
		f.far = own->identity;
		describe_frame(f.query, p);
		int reason = ask_frame(f.query, ifindex, 0, 1);

		if (reason)
			return reason;
	}
	flood_ports(&f);
	return f.bridge->count ? flood_remotes(&f) : DROP_NONE;
}

static __noinline int find_frame_way(const struct route *r, __u32 vrf, struct frame_way *w)
{
	if (!r || !w)
		return DROP_UNKNOWN_MAC;
	w->identity = r->identity;
	if (r->next_hop == NEXT_HOP_ID_LOCAL) {
		__u32 *ifindex = bpf_map_lookup_elem(&label_v1, &r->label);
		struct vif *vif = ifindex ? bpf_map_lookup_elem(&vif_v1, ifindex) : 0;

		if (!vif || vif->vrf != vrf)
			return DROP_NEXT_HOP;
		if (vif->blocked)
			return DROP_BLOCKED;
		w->ifindex = *ifindex;
		w->slot = vif->slot;
		return DROP_NONE;
	}
	struct next_hop *n = bpf_map_lookup_elem(&next_hop_v1, &r->next_hop);

	if (!n || n->kind != NEXT_HOP_TUNNEL || n->encap != ENCAP_VXLAN)
		return DROP_NEXT_HOP;
	w->remote = n->remote.w[3];
	w->vni = r->label;
	return DROP_NONE;
}

/* Decides IP that a port sends to a MAC. */
static __always_inline int decide_bridged(struct __sk_buff *skb, struct packet *p, const struct vif *vif,
				    const struct frame *frame, const struct frame_way *w, struct flow *f)
{
	f->vrf = vif->vrf;
	f->ifindex = p->key.scope;
	f->slot = vif->slot;
	f->out_slot = NO_SLOT;
	copy_mac(f->smac, vif->mac);
	copy_mac(f->dmac, frame->eth.h_dest);
	f->nh.identity = w->identity;
	if (!w->ifindex) {
		f->nh.kind = NEXT_HOP_TUNNEL;
		f->nh.encap = ENCAP_VXLAN;
		f->nh.label = w->vni;
		map_v4(&f->nh.remote, w->remote);
		f->udp_sport = entropy_port(skb);
		return DROP_NONE;
	}
	__u32 ifindex = w->ifindex;
	struct vif *to = bpf_map_lookup_elem(&vif_v1, &ifindex);

	if (!to)
		return DROP_NEXT_HOP;
	if (!may_have(to, ifindex, &p->key.dst))
		return DROP_DESTINATION_ADDRESS;
	f->nh.kind = NEXT_HOP_LOCAL;
	f->nh.ifindex = ifindex;
	f->out_slot = to->slot;
	return DROP_NONE;
}

/* Whether policy lets IP of a port through; enters the flow. */
static __noinline int judge_bridged(struct __sk_buff *skb, struct frame *frame, struct packet *p,
				    struct frame_way *w, struct vif *vif)
{
	if (!frame || !p || !w || !vif)
		return DROP_MALFORMED;
	__u32 generation = current_generation();
	struct flow *old = bpf_map_lookup_elem(&flow_v3, &p->key);

	if (old && old->generation == generation && old->ifindex == p->key.scope &&
	    same_mac(old->smac, frame->eth.h_source) && same_mac(old->dmac, frame->eth.h_dest) &&
	    old->policy == policy_of_flow(old)) {
		touch(skb, old, skb->len);
		return DROP_NONE;
	}
	struct flow *f = new_flow(SCRATCH_DECISION, generation);
	if (!f)
		return DROP_MALFORMED;
	int reason = decide_bridged(skb, p, vif, frame, w, f);
	if (reason)
		return reason;
	reason = judge(skb, p, old, f, vif->label);
	/* For its packets that are routed. */
	f->limits = limits_of(f, FLOW_FROM_PORT);
	if (reason == DROP_NONE)
		reason = enter_flow(skb, &p->key, old, f, skb->len, vif->label);
	return reason > DROP_NONE ? reason : DROP_NONE;
}

/* Whether policy lets a frame that is not IP through to a MAC. */
static __noinline int judge_frame(struct packet *p, struct frame_way *w, __u32 ifindex)
{
	__u32 zero = 0;
	struct policy_query *q = bpf_map_lookup_elem(&policy_query, &zero);
	struct port_policy *own = bpf_map_lookup_elem(&port_policy_v1, &ifindex);

	if (!p || !w || !q || !own)
		return DROP_POLICY_PENDING;
	describe_frame(q, p);
	int reason = ask_frame(q, ifindex, w->identity, 1);
	if (!reason && w->ifindex)
		reason = ask_frame(q, w->ifindex, own->identity, 0);
	return reason;
}

/* Sends a frame the way to its MAC: a verdict, or a drop reason below 0. */
static __noinline int send_frame(struct __sk_buff *skb, struct frame_way *w, struct packet *p, __u32 slot)
{
	__u32 packets = packets_of(skb), bytes = skb->len;

	if (!w || !p)
		return -DROP_MALFORMED;
	if (w->ifindex) {
		if (exceeds_ingress(skb, w->slot, w->ifindex))
			return TC_ACT_SHOT;
		count_from(slot, packets, bytes);
		count_to(skb, w->slot);
		return bpf_redirect(w->ifindex, 0);
	}
	if (!fits_underlay(skb, p, outer_size(ENCAP_VXLAN)))
		return -DROP_TOO_BIG;
	if (encapsulate_frame(skb, w->remote, w->vni, p->tos))
		return -DROP_ENCAPSULATE;
	count_from(slot, packets, bytes);
	return p->offset ? into_tunnel(skb) : into_tunnel_again(skb);
}

SEC("tc")
int bridge_port_rx(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct frame_work *work = new_work();
	struct vif *vif = bpf_map_lookup_elem(&vif_v1, &ifindex);

	if (!vif || !work)
		return drop(skb, DROP_NO_PORT, ifindex);
	struct frame *frame = &work->frame;
	struct packet *p = &work->p;
	struct frame_way *w = &work->w;

	if (bpf_skb_load_bytes(skb, 0, &frame->eth, sizeof(frame->eth)))
		return drop(skb, DROP_MALFORMED, ifindex);
	frame->vrf = vif->vrf;
	int reason = may_bridge(&frame->eth);
	if (!reason && frame->eth.h_proto == bpf_htons(ETH_P_ARP))
		reason = check_arp(skb, vif, ifindex);
	if (!reason && frame->eth.h_proto == bpf_htons(ETH_P_IP)) {
		reason = parse_ipv4(skb, sizeof(struct ethhdr), p);
		p->key.scope = ifindex;
		p->key.dir = FLOW_FROM_PORT;
		if (!reason && p->fragment)
			follow_fragment(p);
	}
	if (reason)
		return drop(skb, reason, ifindex);
	if (exceeds_egress(skb, vif->slot, ifindex))
		return TC_ACT_SHOT;

	const struct route *to = is_for_many(frame) ? 0 : find_mac(frame->vrf, frame->eth.h_dest);
	if (!to) {
		struct bridge *b = bpf_map_lookup_elem(&bridge_v1, &frame->vrf);
		__u32 packets = packets_of(skb), bytes = skb->len;

		if (!is_for_many(frame) && !(b && b->flags & BRIDGE_FLOODS_UNKNOWN))
			return drop(skb, DROP_UNKNOWN_MAC, ifindex);
		reason = flood_from_port(skb, frame, p, ifindex);
		if (reason)
			return drop(skb, reason, ifindex);
		count_from(vif->slot, packets, bytes);
		return TC_ACT_SHOT; /* of which there are copies */
	}
	reason = find_frame_way(to, frame->vrf, w);
	if (!reason && w->ifindex == ifindex)
		reason = DROP_DESTINATION_MAC;
	if (!reason && p->offset)
		reason = judge_bridged(skb, frame, p, w, vif);
	else if (!reason && frame->eth.h_proto != bpf_htons(ETH_P_ARP))
		reason = judge_frame(p, w, ifindex);
	if (reason)
		return drop(skb, reason, ifindex);
	int verdict = send_frame(skb, w, p, vif->slot);
	return verdict < 0 ? drop(skb, -verdict, ifindex) : verdict;
}

/*
 * Whether a frame may come from where it does: a node or router that the network
 * replicates to, as what it sends would get there too; and its MAC and address,
 * where they are known, have to be behind that one. For one receiver the MAC has
 * to be known.
 */
static __noinline int check_source(struct frame *f, const struct addr *src)
{
	if (!f || !src)
		return DROP_MALFORMED;
	struct bridge_member member = { .vrf = f->vrf, .addr = f->source };
	struct addr outer;

	map_v4(&outer, f->source);
	if (!bpf_map_lookup_elem(&bridge_member_v1, &member))
		return DROP_TUNNEL_SOURCE;
	const struct route *r = find_mac(f->vrf, f->eth.h_source);
	if (!r && !is_for_many(f))
		return DROP_NO_SOURCE_ROUTE;
	if (r && !leads_to_node(r, &outer))
		return DROP_TUNNEL_SOURCE;
	if (r)
		f->far = r->identity;
	if (!src->w[3])
		return DROP_NONE;
	r = find_route(f->vrf, src);
	if (!r)
		return DROP_NONE;
	r = leads_to_node(r, &outer);
	if (!r)
		return DROP_TUNNEL_SOURCE;
	f->far = r->identity;
	return DROP_NONE;
}

/* Removes what is around a frame. The kernel goes on taking it for IP, which the
 * container's end of the wire sets right. */
static __noinline int take_out(struct __sk_buff *skb, struct ethhdr *eth)
{
	const __u32 least = sizeof(struct outer_vxlan) + ETH_ZLEN;

	if (!eth)
		return DROP_DECAPSULATE;
	/* Not all pad; and what is too short for IP cannot be taken out. */
	if (eth->h_proto != bpf_htons(ETH_P_IP) && skb->len < least &&
	    bpf_skb_change_tail(skb, least, 0))
		return DROP_DECAPSULATE;
	if (decapsulate(skb, sizeof(struct outer_vxlan)))
		return DROP_DECAPSULATE;
	return bpf_skb_store_bytes(skb, 0, eth, sizeof(*eth), 0) ? DROP_DECAPSULATE : DROP_NONE;
}

/* Decides IP that comes by tunnel for a MAC of a port here. */
static __noinline int judge_arrival(struct __sk_buff *skb, struct frame *frame, struct packet *p,
				    struct frame_way *w)
{
	if (!frame || !p || !w)
		return DROP_MALFORMED;
	__u32 ifindex = w->ifindex;
	struct vif *vif = bpf_map_lookup_elem(&vif_v1, &ifindex);
	struct flow *old = bpf_map_lookup_elem(&flow_v3, &p->key);
	__u32 generation = current_generation();
	__u32 bytes = skb->len - sizeof(struct outer_vxlan);

	if (!vif)
		return DROP_NEXT_HOP;
	if (old && old->generation == generation && old->nh.kind == NEXT_HOP_BRIDGED &&
	    old->ifindex == ifindex && old->nh.remote.w[3] == frame->source &&
	    same_mac(old->smac, frame->eth.h_source) && old->policy == policy_of_flow(old)) {
		touch(skb, old, bytes);
		return DROP_NONE;
	}
	if (!may_have(vif, ifindex, &p->key.dst))
		return DROP_DESTINATION_ADDRESS;
	struct flow *f = new_flow(SCRATCH_DECISION, generation);
	if (!f)
		return DROP_MALFORMED;
	f->vrf = frame->vrf;
	f->ifindex = ifindex;
	f->slot = vif->slot;
	f->out_slot = vif->slot;
	copy_mac(f->smac, frame->eth.h_source);
	copy_mac(f->dmac, vif->mac);
	f->nh.kind = NEXT_HOP_BRIDGED;
	f->nh.ifindex = ifindex;
	f->nh.label = p->key.scope;
	f->nh.identity = frame->far;
	map_v4(&f->nh.remote, frame->source);
	int reason = judge(skb, p, old, f, p->key.scope);
	if (reason == DROP_NONE)
		reason = enter_flow(skb, &p->key, old, f, bytes, p->key.scope);
	return reason > DROP_NONE ? reason : DROP_NONE;
}

/* Gives a frame that came by tunnel to the ports of its network, and to nobody
 * else. */
static __noinline int flood_from_tunnel(struct __sk_buff *skb, struct frame *frame, struct packet *p)
{
	__u32 zero = 0;

	if (!frame || !p)
		return DROP_MALFORMED;
	struct flooding f = { .skb = skb, .vrf = frame->vrf, .far = frame->far };

	if (is_for_one(f.vrf, p))
		return DROP_DESTINATION_MAC;
	if (!pays_for(FLOOD_SCOPE_VRF | f.vrf, copies_of(f.vrf, 0)))
		return DROP_FLOOD_RATE;
	if (frame->eth.h_proto != bpf_htons(ETH_P_ARP)) {
		if (p->fragment == FRAGMENT_LOST)
			return DROP_FRAGMENT;
		f.query = bpf_map_lookup_elem(&policy_query, &zero);
		if (!f.query)
			return DROP_POLICY_PENDING;
		describe_frame(f.query, p);
	}
	int reason = take_out(skb, &frame->eth);
	if (reason)
		return reason;
	flood_ports(&f);
	return DROP_NONE;
}

/* Reads what is around a frame and its source, for which a network has to be
 * here. */
static __noinline int read_arrival(struct __sk_buff *skb, struct frame *frame, struct addr *src)
{
	struct outer_vxlan o;
	const __u32 inner = sizeof(struct ethhdr) + sizeof(o);
	__be32 sender = 0;

	if (!frame || !src || bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &o, sizeof(o)))
		return DROP_MALFORMED;
	__u32 vni = bpf_ntohl(o.vni) >> VXLAN_VNI_SHIFT;
	__u32 *vrf = bpf_map_lookup_elem(&vni_v1, &vni);

	if (!vrf)
		return DROP_VNI;
	frame->vrf = *vrf;
	frame->source = o.ip.saddr;
	frame->eth = o.eth;
	if (o.eth.h_proto == bpf_htons(ETH_P_ARP)) {
		struct arp_ipv4 arp;

		if (bpf_skb_load_bytes(skb, inner, &arp, sizeof(arp)) || !is_arp_ipv4(&arp))
			return DROP_MALFORMED;
		if (!same_mac(arp.sender_mac, o.eth.h_source))
			return DROP_SOURCE_MAC;
		sender = arp.sender_ip;
	} else if (o.eth.h_proto == bpf_htons(ETH_P_IP) &&
		   bpf_skb_load_bytes(skb, inner + __builtin_offsetof(struct iphdr, saddr), &sender, sizeof(sender))) {
		return DROP_MALFORMED;
	}
	map_v4(src, sender);
	return DROP_NONE;
}

SEC("tc")
int bridge_tunnel_rx(struct __sk_buff *skb)
{
	__u32 underlay = skb->ifindex;
	struct frame_work *work = new_work();
	struct addr src;

	if (!work)
		return drop(skb, DROP_MALFORMED, underlay);
	struct frame *frame = &work->frame;
	struct packet *p = &work->p;
	struct frame_way *w = &work->w;
	int reason = read_arrival(skb, frame, &src);

	if (!reason)
		reason = may_bridge(&frame->eth);
	if (!reason)
		reason = check_source(frame, &src);
	if (!reason && frame->eth.h_proto == bpf_htons(ETH_P_IP)) {
		reason = parse_ipv4(skb, sizeof(struct ethhdr) + sizeof(struct outer_vxlan), p);
		p->key.scope = FLOW_SCOPE_VRF | frame->vrf;
		p->key.dir = FLOW_FROM_TUNNEL;
		if (!reason && p->fragment)
			follow_fragment(p);
	}
	if (reason)
		return drop(skb, reason, underlay);

	const struct route *to = is_for_many(frame) ? 0 : find_mac(frame->vrf, frame->eth.h_dest);
	if (!to) {
		struct bridge *b = bpf_map_lookup_elem(&bridge_v1, &frame->vrf);

		reason = DROP_UNKNOWN_MAC;
		if (is_for_many(frame) || (b && b->flags & BRIDGE_FLOODS_UNKNOWN))
			reason = flood_from_tunnel(skb, frame, p);
		if (reason)
			return drop(skb, reason, underlay);
		return TC_ACT_SHOT; /* of which there are copies */
	}
	reason = find_frame_way(to, frame->vrf, w);
	if (!reason && !w->ifindex)
		reason = DROP_DESTINATION_MAC; /* it is behind another node */
	if (reason)
		return drop(skb, reason, underlay);
	if (p->offset) {
		reason = judge_arrival(skb, frame, p, w);
	} else if (frame->eth.h_proto != bpf_htons(ETH_P_ARP)) {
		__u32 zero = 0;
		struct policy_query *q = bpf_map_lookup_elem(&policy_query, &zero);

		reason = DROP_POLICY_PENDING;
		if (q) {
			describe_frame(q, p);
			reason = ask_frame(q, w->ifindex, frame->far, 0);
		}
	}
	if (reason)
		return drop(skb, reason, w->ifindex);
	reason = take_out(skb, &frame->eth);
	if (reason)
		return drop(skb, reason, underlay);
	if (exceeds_ingress(skb, w->slot, w->ifindex))
		return TC_ACT_SHOT;
	count_to(skb, w->slot);
	return bpf_redirect(w->ifindex, 0);
}
