// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Answers that are waited for. What is decided of a connection's first packet says
 * all that is to decide of its answer, too: where that comes from or goes to, and
 * that policy lets it pass. So the entry of the answer is made at once, current and
 * without a packet, and the answer is a hit.
 *
 * What is entered is what the answer's own decision would be. Where that is not
 * certain nothing is entered, and the answer is decided when it comes; so it is if
 * it comes from another node than expected.
 */
#pragma once

#include "bridge.h"
#include "flow.h"
#include "limit.h"
#include "maps.h"
#include "nexthop.h"
#include "parse.h"
#include "parse6.h"
#include "policy.h"

/* Whether a flow that has just been entered, with f, will have an answer that is
 * decided by that. TCP alone: others often have none. */
static __always_inline int awaits_answer(const struct packet *p, const struct flow *f)
{
	return p->key.proto == IPPROTO_TCP && p->fragment == FRAGMENT_NONE &&
	       f->role == FLOW_BEGINS && f->packets && !f->foreign && !f->nat_src && !f->nat_dst;
}

/* Whether an address is none of a single host: nothing is sent there. */
static __always_inline int is_of_many(const struct addr *a)
{
	return is_mapped(a) ? (bpf_ntohl(a->w[3]) >> 29) == 7 : is_multicast6(a);
}

/* The answer's entry, to be entered under q->reverse, with what it has from the flow that begins. */
static __always_inline struct flow *answer_of(const struct flow *f)
{
	__u32 which = SCRATCH_ANSWER;
	struct flow *r = bpf_map_lookup_elem(&scratch_flow, &which);

	if (!r)
		return 0;
	*r = *f;
	r->packets = 0;
	r->bytes = 0;
	r->role = FLOW_ANSWERS;
	r->answered = 0;
	return r;
}

/* Waits for the answer to what a port has sent into a tunnel: by the port's label,
 * from the node that it was sent to. What comes by VXLAN would be for whom the
 * routes say. */
static __noinline int await_from_tunnel(const struct flow_key *key, const struct flow *f,
					const struct vif *vif)
{
	__u32 zero = 0;
	struct policy_query *q = bpf_map_lookup_elem(&policy_query, &zero);

	if (!q || !key || !f || !vif || vif->foreign || f->nh.kind != NEXT_HOP_TUNNEL ||
	    f->nh.encap == ENCAP_VXLAN)
		return 0;
	struct flow *r = answer_of(f);
	if (!r)
		return 0;
	reverse_key(key, f, vif->label, &q->reverse);
	r->out_slot = r->slot;
	__builtin_memset(r->smac, 0, sizeof(r->smac));
	copy_mac(r->dmac, vif->mac);
	r->udp_sport = 0;
	r->nh.kind = NEXT_HOP_LOCAL;
	r->nh.encap = 0;
	r->nh.ifindex = f->ifindex;
	r->nh.label = q->reverse.scope;
	r->limits = limits_of(r, FLOW_FROM_TUNNEL);
	/* If there is one, it is the answer of before the flow was forgotten. */
	bpf_map_update_elem(&flow_v3, &q->reverse, r, BPF_NOEXIST);
	return 0;
}

/* Waits for the answer of the port that has got a packet: it goes where the route to
 * who sent that leads, into a tunnel or to the very port that the packet is from. */
static __noinline int await_from_port(const struct flow_key *key, const struct flow *f)
{
	__u32 zero = 0;
	struct policy_query *q = bpf_map_lookup_elem(&policy_query, &zero);

	if (!q || !key || !f)
		return 0;
	int local = key->dir == FLOW_FROM_PORT;
	__u32 ifindex = f->nh.ifindex;
	struct vif *vif = bpf_map_lookup_elem(&vif_v1, &ifindex);
	if (!vif || vif->foreign || (!local && vif->vrf != f->vrf) || is_of_many(&key->src) ||
	    bridges_from_tunnel(vif->vrf, bpf_htons(ETH_P_IP), 0))
		return 0;
	struct route *back = find_route(vif->vrf, &key->src);
	struct flow *r = answer_of(f);
	if (!back || !r)
		return 0;
	reverse_key(key, f, vif->label, &q->reverse);
	__builtin_memset(&r->nh, 0, sizeof(r->nh));
	__builtin_memset(r->dmac, 0, sizeof(r->dmac));
	if (resolve(back, &q->reverse, 0, &r->nh, r->dmac))
		return 0;
	if (local ? r->nh.kind != NEXT_HOP_LOCAL || r->nh.ifindex != f->ifindex
		  : r->nh.kind != NEXT_HOP_TUNNEL)
		return 0;
	r->vrf = vif->vrf;
	r->ifindex = ifindex;
	r->slot = vif->slot;
	r->out_slot = local ? f->slot : NO_SLOT;
	r->limits = limits_of(r, FLOW_FROM_PORT);
	copy_mac(r->smac, vif->mac);
	if (local)
		copy_mac(r->dmac, f->smac);
	else
		r->udp_sport = spread_port(flow_hash(&q->reverse));
	bpf_map_update_elem(&flow_v3, &q->reverse, r, BPF_NOEXIST);
	return 0;
}

/* The first packet of an answer that was waited for. */
static __noinline int meet_answer(const struct flow_key *key, struct flow *f)
{
	__u32 zero = 0;
	struct policy_query *q = bpf_map_lookup_elem(&policy_query, &zero);

	if (!key || !f || !q)
		return 0;
	__u32 ifindex = f->ifindex;
	struct vif *vif = bpf_map_lookup_elem(&vif_v1, &ifindex);
	f->created = bpf_ktime_get_coarse_ns();
	if (vif)
		note_answered(find_reverse(key, f, vif->label, &q->reverse), q->reverse.dir);
	return 0;
}
