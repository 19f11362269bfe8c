// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* What user space is told of flows that it cannot read in the table: that policy
 * refused one, and what one had counted that policy ended. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "budget.h"
#include "drop_reasons.h"
#include "maps.h"

/* Whether anybody reads; set by user space before loading. */
volatile const __u32 flow_events;

/* Not pinned: who loads the programs reads what they tell. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} flow_event_ring SEC(".maps");

/* A ring has no type of its own: this has user space know the structure. */
const struct flow_event *flow_event_type __attribute__((unused));

/* Events that were not told. */
enum flow_event_loss {
	LOST_NO_ROOM, /* in the ring */
	LOST_RATE,    /* refusals of a port beyond its rate */
	LOST_END
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LOST_END);
	__type(key, __u32);
	__type(value, __u64);
} flow_event_lost SEC(".maps");

/* Refusals of a port that are told in a second, and how many at once. */
#define REFUSAL_SCOPE 0x20000000U
#define REFUSAL_RATE 100
#define REFUSAL_INTERVAL (1000000000ULL / REFUSAL_RATE)

static __always_inline void lose_event(__u32 why)
{
	__u64 *lost = bpf_map_lookup_elem(&flow_event_lost, &why);

	if (lost)
		__sync_fetch_and_add(lost, 1);
}

static __noinline int tell(const struct flow_key *key, const struct flow *f, __u32 reason)
{
	if (!key || !f)
		return 0;
	struct flow_event *e = bpf_ringbuf_reserve(&flow_event_ring, sizeof(*e), 0);
	if (!e) {
		lose_event(LOST_NO_ROOM);
		return 0;
	}
	e->reason = reason;
	e->pad = 0;
	e->flow = *f;
	e->key = *key;
	e->pad2 = 0;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* Tells that policy refused a flow's packet of so many bytes; f is what was
 * decided about it. */
static __noinline int tell_refusal(const struct flow_key *key, struct flow *f, __u32 packets,
				   __u32 bytes, __u32 reason)
{
	if (!key || !f || !flow_events || reason < DROP_POLICY_PENDING || reason > DROP_POLICY_GROUP)
		return 0;
	if (!pays(REFUSAL_SCOPE | f->ifindex, REFUSAL_INTERVAL, REFUSAL_RATE * REFUSAL_INTERVAL)) {
		lose_event(LOST_RATE);
		return 0;
	}
	f->packets = packets;
	f->bytes = bytes;
	f->created = bpf_ktime_get_coarse_ns();
	f->last_seen = f->created;
	return tell(key, f, reason);
}

/* Removes an entry, and tells what it had counted; one that waits for a first
 * packet is no flow yet. */
static __noinline int end_flow(const struct flow_key *key)
{
	if (!key)
		return 0;
	struct flow *f = flow_events ? bpf_map_lookup_elem(&flow_v3, key) : 0;

	if (f && f->packets)
		tell(key, f, DROP_NONE);
	bpf_map_delete_elem(&flow_v3, key);
	return 0;
}
