// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* What costs more than the packet that asks for it is paid for, out of so much a
 * second. */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "types.h"

/* Until when what was made is paid for: copies by port, or VRF with
 * FLOOD_SCOPE_VRF, errors by port with ERROR_SCOPE, what is told of refusals by port
 * with REFUSAL_SCOPE. An LRU: an entry that is lost is one that owes nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, __u64);
} flood_paid_v1 SEC(".maps");

/* Whether something may be made that takes so many nanoseconds of what there is,
 * where so many may be ahead. CPUs that ask at the same time may pay only once:
 * the bound is one for each of them. */
static __noinline int pays(__u32 scope, __u64 cost, __u64 ahead)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	__u64 *paid = bpf_map_lookup_elem(&flood_paid_v1, &scope);

	if (!paid) {
		bpf_map_update_elem(&flood_paid_v1, &scope, &now, BPF_NOEXIST);
		paid = bpf_map_lookup_elem(&flood_paid_v1, &scope);
	}
	if (!paid)
		return 0;
	__u64 from = *paid > now ? *paid : now;

	if (from - now > ahead)
		return 0;
	*paid = from + cost;
	return 1;
}
