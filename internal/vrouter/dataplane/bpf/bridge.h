// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Layer 2 of networks: which frames are bridged, where a MAC is, and who gets
 * what is replicated. The programs for frames are called by the others, so that
 * what is routed pays nothing for them.
 */
#pragma once

#include "drop_reasons.h"
#include "encap.h"
#include "flow.h"
#include "maps.h"
#include "nexthop.h"
#include "parse.h"
#include "policy.h"

#define BRIDGE_ROUTES 1         /* IP of unicast is routed, ARP answered */
#define BRIDGE_FLOODS_UNKNOWN 2 /* as broadcasts, what is for unknown MACs */
#define BRIDGE_REMOTES 512
#define BRIDGE_PORTS 1024

/* A node or router that gets what is replicated. */
struct bridge_remote {
	__be32 addr;
	__u32 vni;
};

struct bridge {
	__u32 flags;
	__u32 count;
	__u32 left_out; /* remotes beyond those, for user space */
	struct bridge_remote remote[BRIDGE_REMOTES];
};

/* The ports of the VRF on this node. */
struct bridge_ports {
	__u32 count;
	__u32 ifindex[BRIDGE_PORTS];
};

/* Presence says that the node is one of the VRF's remotes. */
struct bridge_member {
	__u32 vrf;
	__be32 addr;
};

struct mac_key {
	__u32 vrf;
	__u8 mac[6];
	__u16 pad;
};

_Static_assert(sizeof(struct bridge) == 12 + 8 * BRIDGE_REMOTES, "bridge");
_Static_assert(sizeof(struct bridge_ports) == 4 + 4 * BRIDGE_PORTS, "bridge_ports");
_Static_assert(sizeof(struct bridge_member) == 8, "bridge_member");
_Static_assert(sizeof(struct mac_key) == 12, "mac_key");

/* VRFs that bridge. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct bridge);
} bridge_v1 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct bridge_ports);
} bridge_ports_v1 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, struct bridge_member);
	__type(value, __u32);
} bridge_member_v1 SEC(".maps");

/* Where MACs are: a route as to an address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, struct mac_key);
	__type(value, struct route);
} mac_v1 SEC(".maps");

/* The programs for frames. Pinned, as the kernel empties one that no process has. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} bridge_programs_v1 SEC(".maps");

#define BRIDGE_PORT 0
#define BRIDGE_TUNNEL 1

static __always_inline const struct route *find_mac(__u32 vrf, const __u8 *mac)
{
	struct mac_key key = { .vrf = vrf };

	copy_mac(key.mac, mac);
	return bpf_map_lookup_elem(&mac_v1, &key);
}

/* What becomes of what a container sends. */
enum way {
	WAY_NONE,   /* nothing is bridged here: it is for the router, or for nobody */
	WAY_ROUTE,  /* the router takes it */
	WAY_BRIDGE, /* it goes as a frame */
};

static __noinline int way_of(__u32 vrf, const __u8 *dmac, __be16 proto)
{
	const __u8 vr_mac[6] = VR_MAC;
	struct bridge *b = bpf_map_lookup_elem(&bridge_v1, &vrf);

	if (!b || !dmac)
		return WAY_NONE;
	if (!(b->flags & BRIDGE_ROUTES))
		return WAY_BRIDGE;
	if (proto == bpf_htons(ETH_P_ARP))
		return WAY_ROUTE;
	if ((proto != bpf_htons(ETH_P_IP) && proto != bpf_htons(ETH_P_IPV6)) ||
	    (proto == bpf_htons(ETH_P_IP) && dmac[0] & 1))
		return WAY_BRIDGE;
	if (same_mac(dmac, vr_mac) || find_mac(vrf, dmac))
		return WAY_ROUTE;
	/* IPv6 is not bridged, see may_bridge. */
	return proto == bpf_htons(ETH_P_IPV6) ? WAY_NONE : WAY_BRIDGE;
}

/* Whether what came by VXLAN goes as a frame; IP of unicast that is routed is
 * not asked about, but only once it has no flow. */
static __noinline int bridges_from_tunnel(__u32 vrf, __be16 proto, __u8 group)
{
	struct bridge *b = bpf_map_lookup_elem(&bridge_v1, &vrf);

	if (!b)
		return 0;
	if (!(b->flags & BRIDGE_ROUTES))
		return 1;
	if (proto == bpf_htons(ETH_P_ARP) || proto == bpf_htons(ETH_P_IPV6))
		return 0;
	return proto != bpf_htons(ETH_P_IP) || group;
}

/* Link protocols that a bridge does not pass on: tags, behind which addresses
 * would be that nobody has checked, IPv6, which is routed only, and what is for the bridge at the
 * other end of the wire (IEEE 802.1Q 8.6.3). */
static __always_inline int may_bridge(const struct ethhdr *eth)
{
	const __u8 *d = eth->h_dest;

	if (eth->h_proto == bpf_htons(ETH_P_8021Q) || eth->h_proto == bpf_htons(ETH_P_8021AD) ||
	    eth->h_proto == bpf_htons(ETH_P_IPV6))
		return DROP_PROTOCOL;
	if (d[0] == 0x01 && d[1] == 0x80 && d[2] == 0xc2 && !d[3] && !d[4] && d[5] < 16)
		return DROP_MULTICAST;
	return DROP_NONE;
}

/* What is not IP is judged as this protocol, which is reserved, between the
 * addresses 0.0.0.0: by rules for everything. */
#define PROTOCOL_OF_FRAMES 255

/*
 * Fills in what a frame is to policy; p without an offset is not of IP. The ends
 * are the caller's. Frames begin, each by itself: they are no answers.
 */
static __noinline int describe_frame(struct policy_query *q, const struct packet *p)
{
	if (!q || !p)
		return 0;
	if (!p->offset) {
		map_v4(&q->src.addr, 0);
		map_v4(&q->dst.addr, 0);
		q->service = 4 << 8 | PROTOCOL_OF_FRAMES;
		q->sport = 0;
		q->dport = 0;
		return 0;
	}
	q->src.addr = p->key.src;
	q->dst.addr = p->key.dst;
	q->service = 4 << 8 | p->key.proto;
	q->sport = bpf_ntohs(p->key.proto == IPPROTO_ICMP ? p->key.dport : p->key.sport);
	q->dport = p->key.proto == IPPROTO_ICMP ? p->icmp_code : bpf_ntohs(p->key.dport);
	return 0;
}

/* Asks the policy of a port about a frame that leaves or arrives there; far is
 * who is at the other end, 0 for many of the port's own network. */
__noinline int ask_frame(struct policy_query *q, __u32 ifindex, __u32 far, int leaves)
{
	struct port_policy *policy = bpf_map_lookup_elem(&port_policy_v1, &ifindex);

	if (!q || !policy)
		return DROP_POLICY_PENDING;
	if (!asks(policy))
		return DROP_NONE;
	__u32 network = network_of(policy->identity);
	__u32 far_network = far ? network_of(far) : network;

	q->src.identity = leaves ? policy->identity : far;
	q->src.network = leaves ? network : far_network;
	q->dst.identity = leaves ? far : policy->identity;
	q->dst.network = leaves ? far_network : network;
	return ask_port(q, policy, network, leaves);
}

/* Encapsulates a frame in VXLAN to a remote; the MACs in front are zeros, as the
 * kernel resolves none for what is for many. What it knows as IP is made so that
 * its super-packets stay whole. */
static __noinline int encapsulate_frame(struct __sk_buff *skb, __be32 remote, __u32 vni, __u8 tos)
{
	struct outer_vxlan o;
	struct next_hop nh = { .label = vni };
	__be16 sport = entropy_port(skb);

	nh.remote.w[3] = remote;
	if (bpf_skb_load_bytes(skb, 0, &o.eth, sizeof(o.eth)))
		return -1;
	if (o.eth.h_proto == bpf_htons(ETH_P_IP)) {
		const __u8 none[2 * ETH_ALEN] = {};

		if (encapsulate_vxlan(skb, &o, &nh, tos, sport))
			return -1;
		return bpf_skb_store_bytes(skb, 0, none, sizeof(none), 0) ? -1 : 0;
	}
	/* The end of a wire pads; the far end may be one. */
	if (skb->len < ETH_ZLEN && bpf_skb_change_tail(skb, ETH_ZLEN, 0))
		return -1;
	__u32 len = skb->len - sizeof(struct ethhdr) + sizeof(o);
	struct iphdr ip;

	outer_ip(&ip, len, IPPROTO_UDP, tos, remote);
	o.ip = ip;
	o.udp = outer_port(sport, VXLAN_PORT, len);
	o.flags = bpf_htonl(VXLAN_HAS_VNI);
	o.vni = bpf_htonl(vni << VXLAN_VNI_SHIFT);
	__be16 proto = bpf_htons(ETH_P_IP);

	if (bpf_skb_change_head(skb, sizeof(o), 0) ||
	    bpf_skb_store_bytes(skb, 2 * ETH_ALEN, &proto, sizeof(proto), 0))
		return -1;
	return bpf_skb_store_bytes(skb, sizeof(struct ethhdr), &o, sizeof(o) - sizeof(o.eth), 0) ? -1 : 0;
}
