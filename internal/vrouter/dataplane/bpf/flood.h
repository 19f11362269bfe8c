// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Replication: broadcasts, multicasts and perhaps what is for unknown MACs go to
 * the ports of the network on this node, and from a port to all its remotes by
 * ingress replication. What came by tunnel goes to ports only, so nothing goes
 * round (split horizon).
 *
 * Each copy is paid for: who sends so much that more copies would be made than a
 * port may have in a second has his frames dropped, whole.
 */
#pragma once

#include "bridge.h"
#include "budget.h"
#include "limit.h"

/* Nanoseconds that a copy takes of what there is, and what may be ahead. */
volatile const __u64 flood_interval;
#define FLOOD_BURST BRIDGE_REMOTES

#define FLOOD_SCOPE_VRF 0x80000000U

/* Whether so many copies may be made. */
static __always_inline int pays_for(__u32 scope, __u32 copies)
{
	return pays(scope, copies * flood_interval, FLOOD_BURST * flood_interval);
}

/* What the loops over receivers work on. */
struct flooding {
	struct __sk_buff *skb;
	struct policy_query *query; /* null: policy is not asked */
	struct bridge_ports *ports;
	struct bridge *bridge;
	__u32 vrf;
	__u32 from; /* the port that sent it, or 0 */
	__u32 far;  /* who that is */
	__u32 tos;
};

static long flood_port(__u32 i, struct flooding *f)
{
	struct bridge_ports *ports = f->ports;

	if (i >= BRIDGE_PORTS || i >= ports->count)
		return 1;
	__u32 ifindex = ports->ifindex[i];
	if (ifindex == f->from)
		return 0;
	struct vif *vif = bpf_map_lookup_elem(&vif_v1, &ifindex);
	if (!vif || vif->blocked || vif->vrf != f->vrf)
		return 0;
	if (f->query) {
		int reason = ask_frame(f->query, ifindex, f->far, 0);

		if (reason) {
			count_drop(f->skb, reason, ifindex);
			return 0;
		}
	}
	if (exceeds_ingress(f->skb, vif->slot, ifindex))
		return 0;
	count_to(f->skb, vif->slot);
	bpf_clone_redirect(f->skb, ifindex, 0);
	return 0;
}

static long flood_remote(__u32 i, struct flooding *f)
{
	const __u32 vni_at = sizeof(struct ethhdr) + __builtin_offsetof(struct outer_vxlan, vni);
	struct bridge *b = f->bridge;
	struct iphdr ip;

	if (i >= BRIDGE_REMOTES || i >= b->count)
		return 1;
	__be32 vni = bpf_htonl(b->remote[i].vni << VXLAN_VNI_SHIFT);

	outer_ip(&ip, f->skb->len - sizeof(struct ethhdr), IPPROTO_UDP, f->tos, b->remote[i].addr);
	if (bpf_skb_store_bytes(f->skb, sizeof(struct ethhdr), &ip, sizeof(ip), 0) ||
	    bpf_skb_store_bytes(f->skb, vni_at, &vni, sizeof(vni), 0))
		return 1;
	bpf_clone_redirect(f->skb, underlay_ifindex, BPF_F_INGRESS);
	return 0;
}

/* Gives the ports of the VRF their copies. */
static __noinline int flood_ports(struct flooding *f)
{
	if (!f)
		return 0;
	f->ports = bpf_map_lookup_elem(&bridge_ports_v1, &f->vrf);
	if (f->ports)
		bpf_loop(BRIDGE_PORTS, flood_port, f, 0);
	return 0;
}

/* Gives all remotes theirs. The packet is used up. */
static __noinline int flood_remotes(struct flooding *f)
{
	if (!f || !f->bridge)
		return DROP_MALFORMED;
	if (encapsulate_frame(f->skb, 0, 0, f->tos))
		return DROP_ENCAPSULATE;
	f->skb->mark = TUNNEL_MARK;
	bpf_loop(BRIDGE_REMOTES, flood_remote, f, 0);
	return DROP_NONE;
}

/* The copies that a frame makes, at most. */
static __always_inline __u32 copies_of(__u32 vrf, const struct bridge *b)
{
	struct bridge_ports *ports = bpf_map_lookup_elem(&bridge_ports_v1, &vrf);

	return 1 + (ports ? ports->count : 0) + (b ? b->count : 0);
}

/* Whether the IP destination of a frame for many is somebody's own: by that the
 * frame would get round what policy says of the two. */
static __always_inline int is_for_one(__u32 vrf, const struct packet *p)
{
	const struct route *r = p->offset ? find_route(vrf, &p->key.dst) : 0;

	return r && r->bits == 128;
}
