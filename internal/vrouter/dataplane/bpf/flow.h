// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Counters and the flow table. */
#pragma once

#include "maps.h"
#include "parse.h"

static __always_inline __u32 packets_of(const struct __sk_buff *skb)
{
	return skb->gso_segs ? skb->gso_segs : 1;
}

/* Counts a drop; not inlined, as it is off the path that must be fast. When the
 * table of reasons is full the drop is counted under interface 0, whose entries
 * user space makes in advance. */
static __noinline int count_drop(struct __sk_buff *skb, __u32 reason, __u32 ifindex)
{
	struct drop_key key = { .reason = reason, .ifindex = ifindex };
	struct drop_count *c = bpf_map_lookup_elem(&drop_v1, &key);

	if (!c) {
		struct drop_count zero = {};

		bpf_map_update_elem(&drop_v1, &key, &zero, BPF_NOEXIST);
		c = bpf_map_lookup_elem(&drop_v1, &key);
	}
	if (!c) {
		key.ifindex = 0;
		c = bpf_map_lookup_elem(&drop_v1, &key);
	}
	if (c) {
		c->packets += packets_of(skb);
		c->bytes += skb->len;
	}
	return 0;
}

static __always_inline void count_from(__u32 slot, __u32 packets, __u32 bytes)
{
	struct counters *c = bpf_map_lookup_elem(&counter_v1, &slot);

	if (c) {
		c->from_packets += packets;
		c->from_bytes += bytes;
	}
}

static __always_inline void count_to(struct __sk_buff *skb, __u32 slot)
{
	struct counters *c = bpf_map_lookup_elem(&counter_v1, &slot);

	if (c) {
		c->to_packets += packets_of(skb);
		c->to_bytes += skb->len;
	}
}

static __always_inline __u32 current_generation(void)
{
	__u32 zero = 0;
	struct node *n = bpf_map_lookup_elem(&node_v1, &zero);

	return n ? *(volatile __u32 *)&n->generation : 0;
}

/* Counts the packet on the entry; bytes are those of the container's frame. */
static __always_inline void touch(struct __sk_buff *skb, struct flow *f, __u32 bytes)
{
	__u64 now = bpf_ktime_get_coarse_ns();

	__sync_fetch_and_add(&f->packets, packets_of(skb));
	__sync_fetch_and_add(&f->bytes, bytes);
	if (f->last_seen != now)
		f->last_seen = now;
}

/* The key of the entry that answers have: those of a neighbour on this
 * node come from its port, all others by tunnel. label is the port's own. Who
 * answers does so from the address that the packet was delivered to, to the one
 * that it came from. */
static __always_inline void reverse_key(const struct flow_key *key, const struct flow *f,
					__u32 label, struct flow_key *r)
{
	/* Field by field: a copy would take its place on the stack. */
	r->src = key->dst;
	r->dst = key->src;
	r->sport = key->dport;
	r->dport = key->sport;
	r->proto = key->proto;
	r->pad = 0;
	if (key->proto == IPPROTO_ICMP) {
		r->sport = key->sport;
		r->dport = bpf_htons(icmp_reverse(bpf_ntohs(key->dport)));
	}
	if (f->nat_dst)
		map_v4(&r->src, f->nat_dst);
	if (f->nat_src)
		map_v4(&r->dst, f->nat_src);
	if (key->dir == FLOW_FROM_TUNNEL) {
		r->scope = f->ifindex;
		r->dir = FLOW_FROM_PORT;
	} else if (f->nh.kind == NEXT_HOP_LOCAL) {
		r->scope = f->nh.ifindex;
		r->dir = FLOW_FROM_PORT;
	} else {
		/* To an address of another network they come by the label. */
		r->scope = f->nh.encap == ENCAP_VXLAN && !f->foreign ? FLOW_SCOPE_VRF | f->vrf : label;
		r->dir = FLOW_FROM_TUNNEL;
	}
}

/* The entry of a flow's other direction, or null. The far end may send in another
 * encapsulation than it takes. *r is the key of the entry. */
static __always_inline struct flow *find_reverse(const struct flow_key *key, const struct flow *f,
						 __u32 label, struct flow_key *r)
{
	reverse_key(key, f, label, r);
	struct flow *back = bpf_map_lookup_elem(&flow_v2, r);

	if (back || r->dir != FLOW_FROM_TUNNEL)
		return back;
	r->scope = f->nh.encap == ENCAP_VXLAN ? label : FLOW_SCOPE_VRF | f->vrf;
	return bpf_map_lookup_elem(&flow_v2, r);
}

/*
 * Enters a new decision, or replaces an outdated one: whole and in one step, as
 * two CPUs may be deciding the same flow by different generations. *f is filled
 * in but for times and counts. Returns a drop reason or DROP_NONE.
 *
 * A port has one quota for the flows it starts and one for those that others
 * start towards it, so that a flood cannot keep it from starting its own.
 * Answers to what is in the table are let in beyond it. An entry without bytes
 * is for a packet that may come.
 */
static __always_inline int enter_flow(struct __sk_buff *skb, const struct flow_key *key,
				      const struct flow *old, struct flow *f,
				      __u32 bytes, __u32 label)
{
	__u64 now = bpf_ktime_get_coarse_ns();

	f->packets = bytes ? packets_of(skb) : 0;
	f->bytes = bytes;
	f->last_seen = now;
	f->created = now;
	if (old) {
		f->packets += old->packets;
		f->bytes += old->bytes;
		f->created = old->created;
		/* Another port now has the address: the count stays with the
		 * slot until the next sweep sets it right. */
		bpf_map_update_elem(&flow_v2, key, f, BPF_EXIST);
		return DROP_NONE;
	}

	__u32 account = FLOW_ACCOUNT(f->slot, key->dir);
	__u32 *made = bpf_map_lookup_elem(&flow_made_v1, &account);
	__u32 *gone = bpf_map_lookup_elem(&flow_gone_v1, &account);
	if (!made || !gone)
		return DROP_NO_PORT;
	/* Counts wrap around; their difference does not. */
	if (__sync_fetch_and_add(made, 1) - *gone >= port_flows) {
		struct flow_key reverse;

		if (!find_reverse(key, f, label, &reverse)) {
			__sync_fetch_and_add(made, -1);
			return DROP_FLOW_QUOTA;
		}
	}
	long err = bpf_map_update_elem(&flow_v2, key, f, BPF_NOEXIST);
	if (!err)
		return DROP_NONE;
	__sync_fetch_and_add(made, -1);
	/* The other CPU was faster and decided the same. */
	return err == -17 /* EEXIST */ ? DROP_NONE : DROP_FLOW_TABLE_FULL;
}
