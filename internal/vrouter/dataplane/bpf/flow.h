// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Counters and the flow table. */
#pragma once

#include <linux/pkt_cls.h>

#include "maps.h"
#include "parse.h"

/* Flows that are being decided, for which the stack has no room: Linux 6.1 allows
 * 512 bytes of it for all functions that call each other. */
enum scratch {
	SCRATCH_DECISION,
	SCRATCH_ANSWER, /* of the other direction */
	SCRATCHES
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SCRATCHES);
	__type(key, __u32);
	__type(value, struct flow);
} scratch_flow SEC(".maps");

/* An empty decision; never null, which the verifier does not know. */
static __always_inline struct flow *new_flow(__u32 which, __u32 generation)
{
	struct flow *f = bpf_map_lookup_elem(&scratch_flow, &which);

	if (f) {
		__builtin_memset(f, 0, sizeof(*f));
		f->generation = generation;
	}
	return f;
}

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

static __always_inline int drop(struct __sk_buff *skb, __u32 reason, __u32 ifindex)
{
	count_drop(skb, reason, ifindex);
	return TC_ACT_SHOT;
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
	if (is_icmp(key->proto)) {
		r->sport = key->sport;
		r->dport = bpf_htons(icmp_answer(key->proto, bpf_ntohs(key->dport)));
	}
	if (f->nat_dst)
		map_v4(&r->src, f->nat_dst);
	if (f->nat_src)
		map_v4(&r->dst, f->nat_src);
	if (is_icmp(key->proto)) { /* a flow has one of them */
		if (f->nat_sport | f->nat_dport)
			r->sport = f->nat_sport | f->nat_dport;
	} else {
		if (f->nat_dport)
			r->sport = f->nat_dport;
		if (f->nat_sport)
			r->dport = f->nat_sport;
	}
	if (key->dir == FLOW_FROM_TUNNEL) {
		r->scope = f->ifindex;
		r->dir = FLOW_FROM_PORT;
	} else if (f->nh.kind == NEXT_HOP_LOCAL) {
		r->scope = f->nh.ifindex;
		r->dir = FLOW_FROM_PORT;
	} else if (f->nh.kind == NEXT_HOP_FABRIC) {
		r->scope = FLOW_SCOPE_FABRIC;
		r->dir = FLOW_FROM_TUNNEL;
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
	struct flow *back = bpf_map_lookup_elem(&flow_v3, r);

	if (back || r->dir != FLOW_FROM_TUNNEL)
		return back;
	r->scope = f->nh.encap == ENCAP_VXLAN ? label : FLOW_SCOPE_VRF | f->vrf;
	return bpf_map_lookup_elem(&flow_v3, r);
}

static __always_inline void count_begun(struct flow_count *of_port, struct flow_count *all,
					int answered, __s32 n)
{
	__sync_fetch_and_add(&of_port->flows, n);
	if (!answered)
		__sync_fetch_and_add(&of_port->unanswered, n);
	__sync_fetch_and_add(&all->flows, n);
}

/*
 * Counts a flow that begins, if there may be another. A port has one account for
 * what it begins and one for what others begin towards it by tunnel, so that a
 * flood cannot keep it from beginning its own. Each may have no more than so
 * many, and fewer without an answer. When the table is half full of them, each
 * may only have its share of the other half: so there is room for everybody's,
 * whatever others do. Returns a drop reason or DROP_NONE.
 */
static __noinline int charge(__u32 slot, __u32 dir, int answered)
{
	__u32 account = FLOW_ACCOUNT(slot, dir), total = FLOW_TOTAL, zero = 0;
	struct flow_count *made = bpf_map_lookup_elem(&flow_made_v2, &account);
	struct flow_count *gone = bpf_map_lookup_elem(&flow_gone_v2, &account);
	struct flow_count *all_made = bpf_map_lookup_elem(&flow_made_v2, &total);
	struct flow_count *all_gone = bpf_map_lookup_elem(&flow_gone_v2, &total);
	struct node *n = bpf_map_lookup_elem(&node_v1, &zero);

	if (!made || !gone || !all_made || !all_gone || !n)
		return DROP_NO_PORT;
	/* Counts wrap around; their differences do not. */
	__s32 flows = made->flows - gone->flows;
	if (flows >= port_flows)
		return DROP_FLOW_QUOTA;
	if (!answered && (__s32)(made->unanswered - gone->unanswered) >= port_unanswered)
		return DROP_FLOW_UNANSWERED;
	if ((__s32)(all_made->flows - all_gone->flows) >= crowded_flows && flows >= (__s32)n->flow_share)
		return DROP_FLOW_TABLE_FULL;
	count_begun(made, all_made, answered, 1);
	return DROP_NONE;
}

/* Takes back what charge counted. */
static __noinline int uncharge(__u32 slot, __u32 dir, int answered)
{
	__u32 account = FLOW_ACCOUNT(slot, dir), total = FLOW_TOTAL;
	struct flow_count *made = bpf_map_lookup_elem(&flow_made_v2, &account);
	struct flow_count *all = bpf_map_lookup_elem(&flow_made_v2, &total);

	if (made && all)
		count_begun(made, all, answered, -1);
	return 0;
}

/* Notes at a flow that it has an answer. */
static __always_inline void note_answered(struct flow *begun, __u32 dir)
{
	if (!begun || begun->role != FLOW_BEGINS || begun->answered)
		return;
	begun->answered = 1;
	__u32 account = FLOW_ACCOUNT(begun->slot, dir);
	struct flow_count *made = bpf_map_lookup_elem(&flow_made_v2, &account);
	if (made)
		__sync_fetch_and_add(&made->unanswered, -1);
}

/* Notes it at the one whose answer has this key. */
static __noinline int note_answer(const struct flow_key *key, const struct flow *f, __u32 label)
{
	struct flow_key reverse;

	if (!key || !f)
		return 0;
	struct flow *begun = find_reverse(key, f, label, &reverse);
	note_answered(begun, reverse.dir);
	return 0;
}

/*
 * Enters a new decision, or replaces an outdated one: whole and in one step, as
 * two CPUs may be deciding the same flow by different generations. *f is filled
 * in but for times and counts. Returns a drop reason or DROP_NONE.
 *
 * What begins is counted. Answers are not: each needs what it answers in the
 * table, and there is no more than one for it. An entry without bytes is for a
 * packet that may come.
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
		if (old->packets) /* else it was waiting for the first */
			f->created = old->created;
		f->answered = old->answered;
		/* Another port now has the address: the count stays with the
		 * slot until the next sweep sets it right. */
		bpf_map_update_elem(&flow_v3, key, f, BPF_EXIST);
	} else {
		int begins = f->role == FLOW_BEGINS;
		int reason = begins ? charge(f->slot, key->dir, f->answered) : DROP_NONE;

		if (reason)
			return reason;
		long err = bpf_map_update_elem(&flow_v3, key, f, BPF_NOEXIST);
		if (err && begins)
			uncharge(f->slot, key->dir, f->answered);
		/* Else the other CPU was faster and decided the same. */
		if (err && err != -17 /* EEXIST */)
			return DROP_FLOW_TABLE_FULL;
	}
	if (bytes && f->role == FLOW_ANSWERS)
		note_answer(key, f, label);
	return DROP_NONE;
}
