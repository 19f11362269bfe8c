// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What a port may send and be sent in a second. A token bucket for each direction,
 * kept as the time until which what has passed is paid for: it may lie behind now by
 * the burst, and what comes while it is ahead is dropped. So a packet passes whole as
 * soon as anything is left, a super-packet too, and the next ones wait for it: over
 * time no more passes than may.
 *
 * Bytes are those of the container's frame.
 */
#pragma once

#include "flow.h"

/* Buckets by LIMIT_OF; user space writes an entry whole where a limit changes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct limit);
} limit_v1 SEC(".maps");

static __always_inline struct limit *limit_of(__u32 slot, __u32 dir)
{
	__u32 at = LIMIT_OF(slot, dir);
	struct limit *l = bpf_map_lookup_elem(&limit_v1, &at);

	return l && l->cost ? l : 0;
}

/* The limits that hold for a flow, for its packets to find without a look into the
 * table. dir is that of its key. */
static __always_inline __u8 limits_of(const struct flow *f, __u8 dir)
{
	__u8 limits = 0;

	if (dir == FLOW_FROM_PORT && limit_of(f->slot, LIMIT_FROM))
		limits |= LIMITED_FROM;
	if (f->out_slot != NO_SLOT && limit_of(f->out_slot, LIMIT_TO))
		limits |= LIMITED_TO;
	return limits;
}

/* Whether what a port has left is enough for a frame, which is taken from it. CPUs
 * that ask at the same time may all be told so, and all have paid. */
static __always_inline int affords(struct limit *l, __u32 bytes)
{
	__u64 now = bpf_ktime_get_ns();
	__u64 paid = *(volatile __u64 *)&l->paid_until;

	if (paid > now)
		return 0;
	/* Whichever CPU is first: none has more than the burst. */
	if (paid + l->burst < now)
		__sync_val_compare_and_swap(&l->paid_until, paid, now - l->burst);
	__sync_fetch_and_add(&l->paid_until, bytes * l->cost >> LIMIT_SHIFT);
	return 1;
}

/* Drops a frame that is more than the port that sends it may, or the one here that
 * it is for; returns 0 for one that may pass. */
static __noinline int exceeds(struct __sk_buff *skb, const struct flow *f, __u32 bytes)
{
	if (!f)
		return 1;
	if (f->limits & LIMITED_FROM) {
		struct limit *l = limit_of(f->slot, LIMIT_FROM);

		if (l && !affords(l, bytes)) {
			count_drop(skb, DROP_EGRESS_RATE, f->ifindex);
			return 1;
		}
	}
	if (f->limits & LIMITED_TO) {
		struct limit *l = limit_of(f->out_slot, LIMIT_TO);

		if (l && !affords(l, bytes)) {
			count_drop(skb, DROP_INGRESS_RATE, f->nh.ifindex);
			return 1;
		}
	}
	return 0;
}

/* The same of what a port sends that is of no flow: frames, and what the node
 * answers. */
static __noinline int exceeds_egress(struct __sk_buff *skb, __u32 slot, __u32 ifindex)
{
	struct limit *l = limit_of(slot, LIMIT_FROM);

	if (!l || affords(l, skb->len))
		return 0;
	count_drop(skb, DROP_EGRESS_RATE, ifindex);
	return 1;
}

/* And of a frame for a port. */
static __noinline int exceeds_ingress(struct __sk_buff *skb, __u32 slot, __u32 ifindex)
{
	struct limit *l = limit_of(slot, LIMIT_TO);

	if (!l || affords(l, skb->len))
		return 0;
	count_drop(skb, DROP_INGRESS_RATE, ifindex);
	return 1;
}

/* Sends a container the node's answer to what it has just sent. That is taken from
 * what it may be sent, and not refused: else others could keep it from its
 * neighbours by a flood. It has no more answers than questions. */
static __always_inline int answer(struct __sk_buff *skb, __u32 slot, __u32 ifindex)
{
	struct limit *l = limit_of(slot, LIMIT_TO);

	if (l)
		affords(l, skb->len);
	return bpf_redirect(ifindex, 0);
}
