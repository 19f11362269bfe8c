// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The structures that the programs share with user space. Their layout is the
 * contract of the pinned maps: a change here needs a new LAYOUT version in
 * maps.h. bpf2go derives the Go types from these definitions, and a test
 * checks sizes and offsets on both sides.
 */
#pragma once

#include <linux/types.h>

/* An IP address in network order; IPv4 is mapped (::ffff:a.b.c.d, RFC 4291
 * section 2.5.5.2), so that both families share one key layout. */
struct addr {
	__be32 w[4];
};

enum next_hop_kind {
	NEXT_HOP_DISCARD = 0,
	NEXT_HOP_LOCAL = 1,  /* deliver to the container behind ifindex */
	NEXT_HOP_TUNNEL = 2, /* to remote, by encap with label */
	NEXT_HOP_ECMP = 3,   /* a member of the group, by flow */
	NEXT_HOP_FABRIC = 4, /* only of flows: to remote without a tunnel */
	NEXT_HOP_BRIDGED = 5, /* of flows from a tunnel: the container, as a frame */
};

enum encap {
	ENCAP_MPLS_UDP = 0,
	ENCAP_MPLS_GRE = 1,
	ENCAP_VXLAN = 2, /* the label is the VNI */
};

/* What a route leads to: a next hop by its id, so that all routes to a node
 * share one, and the label of the port there. The ids below NEXT_HOP_ID_FIRST
 * need no entry; the port of a local label is found by it, wherever it is. */
struct route {
	__u32 next_hop;
	__u32 label;
	__u8 bits;   /* of the prefix, IPv4 being mapped; 0 for members of groups */
	__u8 behind; /* a local port is the way to the prefix and may send from it */
	__u16 pad;
	__u32 identity; /* who is there, for policy; 0 is nobody known */
};

#define NEXT_HOP_ID_DISCARD 0
#define NEXT_HOP_ID_LOCAL 1
#define NEXT_HOP_ID_FIRST 2

/* Next hops that share the traffic of their routes. A flow takes the member in
 * the slot of its hash; members have slots by their weight. */
#define ECMP_MEMBERS 64
#define ECMP_SLOTS 256

struct ecmp {
	__u32 count;
	__u8 slot[ECMP_SLOTS]; /* index of a member */
	struct route member[ECMP_MEMBERS];
	__u32 weight[ECMP_MEMBERS]; /* what the slots were made from */
};

struct next_hop {
	__u8 kind;
	__u8 encap;         /* TUNNEL: enum encap */
	__u16 pad;
	__u32 ifindex;      /* LOCAL: host-side interface of the container */
	__u32 label;        /* TUNNEL: label of the remote port */
	__u32 identity;     /* who is there, for policy; 0 is nobody known */
	struct addr remote; /* TUNNEL: underlay address of the remote node */
};

/* The receiver of VXLAN behind a next hop that leads to it alone. */
struct receiver_mac {
	__u8 mac[6];
	__u16 pad;
};

/* A member of a group by where it leads: to a label of a remote node, or of this
 * one where remote is 0. With label 0, one of those of a node. */
struct ecmp_member_key {
	__u32 group;
	__u32 label;
	struct addr remote;
};

/* One plugged container, by the index of its host-side interface. */
struct vif {
	__u32 vrf;
	__u32 label;
	__u32 slot; /* index into the per-port arrays (counters, flow counts) */
	__u8 mac[6];
	__u8 blocked;
	__u8 foreign; /* it has addresses of other networks */
	struct addr primary; /* one of port_addrs, at hand without a lookup */
	char name[16];
};

struct port_addr_key {
	__u32 ifindex;
	struct addr addr;
};

/*
 * The addresses that a port has in other networks. What comes for addr is
 * delivered to fixed, one of the port's own, and what leaves from fixed into
 * that network is from addr. An alias is used by the port itself: both are one.
 */
#define FOREIGN_ADDRS 16
#define FOREIGN_BEGINS 1 /* the port may begin by it, not only answer */

struct foreign_addr {
	__u32 vrf;
	__be32 addr;
	__be32 fixed;
	__u32 flags;
};

struct foreign {
	__u32 count;
	struct foreign_addr addr[FOREIGN_ADDRS];
};

/* The gateways of a port's subnets: addresses that the router has for it. */
#define PORT_GATEWAYS 8

struct gateways {
	__u32 count;
	struct addr addr[PORT_GATEWAYS];
};

/* BGP of a control node, which a port reaches from one of its addresses at one of
 * its network. To the control node it is the node with this source port. */
struct bgp_service_key {
	__u32 ifindex;
	__be32 client;
	__be32 server;
};

struct bgp_service {
	__be32 control;
	__be16 sport;
	__u16 pad;
};

struct host_route_key {
	__u32 vrf;
	struct addr addr;
};

/* vrf is in network order: a trie compares bits from the first byte on. */
struct route_key {
	__u32 prefix_len; /* 32 bits of vrf + bits of addr */
	__be32 vrf;
	struct addr addr;
};

enum flow_dir {
	FLOW_FROM_PORT = 0,   /* scope is the interface index */
	FLOW_FROM_TUNNEL = 1, /* scope is the label; of VXLAN see below */
};

/* A logical router with a VNI has a VRF of this number and the VNI. No port is in
 * it: its routes say for which network's port is what comes by the VNI. */
#define VRF_OF_ROUTER 0x20000000U
#define LAST_VNI 0xffffffU

/* With this bit a scope is the number of a VRF. Labels have 20 bits. */
#define FLOW_SCOPE_VRF 0x80000000U
/* What comes from the underlay by no tunnel; of VRFs it is none, of labels too. */
#define FLOW_SCOPE_FABRIC 0x40000000U

/* Which side of a connection a direction is; it stays for the entry's life. */
enum flow_role {
	FLOW_BEGINS = 0,
	FLOW_ANSWERS = 1,
};

/* What becomes of packets that leave by the underlay as they are, or come so. */
enum fabric_kind {
	FABRIC_BGP = 0, /* a BGP service, see service.h */
	FABRIC_NAT = 1, /* with a port of the node, see fabric.h */
};

struct flow_key {
	struct addr src;
	struct addr dst;
	__u32 scope;
	__be16 sport; /* 0 in fragments other than the first */
	__be16 dport;
	__u8 proto;
	__u8 dir;
	__u16 pad;
};

/*
 * One direction of a conversation with its cached decision. The decision holds
 * while generation is the current one, and policy what policy_of_flow says; an
 * older one is decided anew.
 * One without packets waits for the first.
 */
struct flow {
	__u64 packets;
	__u64 bytes;
	__u64 last_seen; /* CLOCK_MONOTONIC_COARSE, ns */
	__u64 created;
	__u32 generation;
	__u32 vrf;
	__u32 ifindex;  /* the port that the entry is held for */
	__u32 slot;     /* of that port */
	__u32 out_slot; /* of the local port that receives, or NO_SLOT */
	__u8 smac[6];   /* FROM_PORT: the only source MAC allowed */
	__u8 dmac[6];   /* MAC of the receiver: local delivery and VXLAN */
	__be16 udp_sport; /* tunnel: outer source port (RFC 7510 section 3) */
	__u8 role;        /* enum flow_role */
	__u8 foreign;     /* the port has an address of another network for it */
	/* FROM_TUNNEL: remote is the only outer source allowed. */
	struct next_hop nh;
	__u32 policy;
	/* What the addresses of the packet are made to be; 0 is left. */
	__be32 nat_src;
	__be32 nat_dst;
	__u8 answered; /* FLOW_BEGINS: there has been an answer */
	__u8 limits;   /* that hold for its packets: LIMITED_* */
	__u8 fabric;   /* to or from the fabric: enum fabric_kind */
	__u8 pad;
	/* The same of its ports; only of what goes to the fabric. Of ICMP one of them
	 * is the identifier. */
	__be16 nat_sport;
	__be16 nat_dport;
};

#define NO_SLOT 0xffffffffU

/* What a port may send, or be sent, in a second. */
enum limit_dir {
	LIMIT_FROM = 0, /* egress of the container */
	LIMIT_TO = 1,   /* ingress */
	LIMIT_DIRS
};

#define LIMITED_FROM (1 << LIMIT_FROM)
#define LIMITED_TO (1 << LIMIT_TO)
#define LIMIT_OF(slot, dir) ((slot) * LIMIT_DIRS + (dir))
#define LIMIT_SHIFT 20

struct limit {
	__u64 paid_until; /* CLOCK_MONOTONIC, ns; the programs alone */
	__u64 cost;       /* of a byte: ns, times 2^LIMIT_SHIFT; 0 for no limit */
	__u64 burst;      /* ns that it may be behind */
	__u64 rate;       /* bits in a second and bits at once, for user space */
	__u64 burst_bits;
};

/* What user space is told of a flow. */
struct flow_event {
	__u32 reason; /* why it was refused; 0 for an entry that policy ended */
	__u32 pad;
	struct flow flow; /* refused: the packet's counts, and what is decided */
	struct flow_key key;
	__u32 pad2;
};

/* Flows are counted where they begin: by the port's slot and the direction that
 * they come from, and all together. */
#define FLOW_DIRS 2
#define FLOW_TOTAL 0
#define FLOW_ACCOUNT(slot, dir) (1 + (slot) * FLOW_DIRS + (dir))

struct flow_count {
	__u32 flows;
	__u32 unanswered; /* those without an answer; not in the total */
};

/* What belongs to the whole node; user space alone writes it. */
struct node {
	__u32 generation; /* of ports and routes: outdates all older decisions */
	__u32 flow_share; /* what a port may begin however many there are */
	__u64 netns;      /* cookie of the network namespace of the interfaces */
};

struct counters {
	__u64 from_packets; /* sent by the container */
	__u64 from_bytes;
	__u64 to_packets;   /* delivered to the container */
	__u64 to_bytes;
};

struct drop_key {
	__u32 reason;
	__u32 ifindex;
};

struct drop_count {
	__u64 packets;
	__u64 bytes;
};

_Static_assert(sizeof(struct addr) == 16, "addr");
_Static_assert(sizeof(struct next_hop) == 32, "next_hop");
_Static_assert(sizeof(struct route) == 16, "route");
_Static_assert(sizeof(struct receiver_mac) == 8, "receiver_mac");
_Static_assert(sizeof(struct ecmp) == 1540, "ecmp");
_Static_assert(sizeof(struct ecmp_member_key) == 24, "ecmp_member_key");
_Static_assert(sizeof(struct vif) == 52, "vif");
_Static_assert(sizeof(struct foreign) == 260, "foreign");
_Static_assert(sizeof(struct port_addr_key) == 20, "port_addr_key");
_Static_assert(sizeof(struct gateways) == 132, "gateways");
_Static_assert(sizeof(struct bgp_service_key) == 12, "bgp_service_key");
_Static_assert(sizeof(struct bgp_service) == 8, "bgp_service");
_Static_assert(sizeof(struct host_route_key) == 20, "host_route_key");
_Static_assert(sizeof(struct route_key) == 24, "route_key");
_Static_assert(sizeof(struct route_key) - __builtin_offsetof(struct route_key, vrf) ==
		       sizeof(struct host_route_key), "tail of route_key");
_Static_assert(sizeof(struct flow_key) == 44, "flow_key");
_Static_assert(sizeof(struct flow) == 120, "flow");
_Static_assert(sizeof(struct flow_event) == 176, "flow_event");
_Static_assert(sizeof(struct limit) == 40, "limit");
_Static_assert(sizeof(struct flow_count) == 8, "flow_count");
_Static_assert(sizeof(struct node) == 16, "node");
_Static_assert(sizeof(struct counters) == 32, "counters");
_Static_assert(sizeof(struct drop_key) == 8, "drop_key");
_Static_assert(sizeof(struct drop_count) == 16, "drop_count");
