// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The maps, pinned by name. The suffix is the layout version: whoever changes
 * a key or value structure gives the map a new one and user space a migration.
 * Sizes that the operator chooses are set by user space before loading.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "types.h"

/* Configuration of the node, constants for the verifier. */
volatile const __be32 local_ip;
volatile const __u32 underlay_ifindex;
/* Bounds of what a port may begin, and others towards it, each for itself: flows,
 * those among them without an answer. From crowded_flows on there is only the
 * share of node_v1 for each. */
volatile const __s32 port_flows;
volatile const __s32 port_unanswered;
volatile const __s32 crowded_flows;

/* Plugged containers by host-side interface index. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct vif);
} vif_v1 SEC(".maps");

/* The addresses a port may use; presence is the fact. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct port_addr_key);
	__type(value, __u32);
} port_addr_v1 SEC(".maps");

/* The addresses that ports have in other networks, by address, and as lists. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct port_addr_key);
	__type(value, struct foreign_addr);
} foreign_addr_v1 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct foreign);
} foreign_v1 SEC(".maps");

/* Gateways by the interface index of the port. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct gateways);
} gateway_v1 SEC(".maps");

/* Services by the port that may use them, and the ends that it sees. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct bgp_service_key);
	__type(value, struct bgp_service);
} bgp_service_v1 SEC(".maps");

/* MPLS label to interface index. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} label_v1 SEC(".maps");

/* VXLAN network identifier to VRF. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} vni_v1 SEC(".maps");

/* Host routes: a hash, as a trie of many /32 costs a cache miss a level. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1048576);
	__type(key, struct host_route_key);
	__type(value, struct route);
} host_route_v2 SEC(".maps");

/* All shorter prefixes of all VRFs. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct route_key);
	__type(value, struct route);
} route_v2 SEC(".maps");

/* Next hops by id: the nodes that there are routes to, and groups. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct next_hop);
} next_hop_v1 SEC(".maps");

/* The MACs that VXLAN goes to, where that is not the router's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct receiver_mac);
} next_hop_mac_v1 SEC(".maps");

/* The groups among them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct ecmp);
} ecmp_v1 SEC(".maps");

/* Their members, to find one without a walk through all. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 262144);
	__type(key, struct ecmp_member_key);
	__type(value, struct route);
} ecmp_member_v1 SEC(".maps");

/* Preallocated and no LRU: a full table refuses new flows and keeps the old. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 524288);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flow_v3 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct node);
} node_v1 SEC(".maps");

/* Flows ever begun, by FLOW_ACCOUNT; only the programs write it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8193);
	__type(key, __u32);
	__type(value, struct flow_count);
} flow_made_v2 SEC(".maps");

/* Flows ever removed, likewise; only user space writes it: one writer each, so
 * that neither needs an atomic operation on the other's count. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8193);
	__type(key, __u32);
	__type(value, struct flow_count);
} flow_gone_v2 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct counters);
} counter_v1 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct drop_key);
	__type(value, struct drop_count);
} drop_v1 SEC(".maps");
