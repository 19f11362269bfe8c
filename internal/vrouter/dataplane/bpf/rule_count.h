// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * How many connections each rule has decided. The counters of a set follow each
 * other, one for each of its rules and one for what none matches; its head says
 * where they begin, 0 for nowhere. What is established pays nothing: only what
 * begins is counted, and each packet that is refused, as it makes no entry.
 */
#pragma once

#include "policy_set.h"

/* The first is of no rule. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 262144);
	__type(key, __u32);
	__type(value, __u64);
} rule_count_v1 SEC(".maps");

/* Counts the rules that q->counters name. */
static __noinline int count_rules(struct policy_query *q)
{
	if (!q)
		return 0;
	for (__u32 i = 0; i < POLICY_ASKED; i++) {
		if (i >= q->asked)
			break;
		__u32 at = q->counters[i];
		__u64 *count = bpf_map_lookup_elem(&rule_count_v1, &at);

		if (count)
			__sync_fetch_and_add(count, 1);
	}
	return 0;
}
