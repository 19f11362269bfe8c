// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Tunnels over IPv4: MPLS in UDP (RFC 7510), MPLS in GRE (RFC 4023) and VXLAN
 * (RFC 7348).
 */
#pragma once

#include "maps.h"
#include "parse.h"
#include "parse6.h"

#define MPLS_UDP_PORT 6635
#define VXLAN_PORT 4789
#define GRE_MPLS 0x8847
#define MPLS_BOTTOM 0x100U
#define MPLS_TTL 64
#define MPLS_LABEL_SHIFT 12
#define VXLAN_HAS_VNI 0x08000000U
#define VXLAN_VNI_SHIFT 8
#define OUTER_TTL 64
#define UDP_SPORT_FIRST 0xc000 /* 49152..65535 (RFC 7510 section 3) */

#define ERR_ALREADY -114

/*
 * What the programs have made for a tunnel has this mark until it has left, which
 * packets from the wire, from other namespaces and from sockets without privileges
 * never have: see underlay_tx.
 *
 * A copy comes in by the underlay once more, to be sent on: only the last of
 * several can be sent to a neighbour that the kernel has to find, and the kernel
 * takes it for IP only then.
 */
#define TUNNEL_MARK 0x62726467U

static __always_inline int is_copy(const struct __sk_buff *skb)
{
	return skb->mark == TUNNEL_MARK;
}

/* Sends a tunnel's packet to its next neighbour on the underlay. */
static __always_inline int into_tunnel(struct __sk_buff *skb)
{
	skb->mark = TUNNEL_MARK;
	return bpf_redirect_neigh(underlay_ifindex, 0, 0, 0);
}

/* The same of a packet that the kernel does not take for IP as it is. */
static __always_inline int into_tunnel_again(struct __sk_buff *skb)
{
	skb->mark = TUNNEL_MARK;
	return bpf_redirect(underlay_ifindex, BPF_F_INGRESS);
}

/* What comes between the frame's Ethernet header and the inner IP header. */
struct outer_udp {
	struct iphdr ip;
	struct udphdr udp;
	__be32 mpls;
};

struct outer_gre {
	struct iphdr ip;
	__be16 flags;
	__be16 protocol;
	__be32 mpls;
};

struct outer_vxlan {
	struct iphdr ip;
	struct udphdr udp;
	__be32 flags;
	__be32 vni;
	struct ethhdr eth;
} __attribute__((packed));

_Static_assert(sizeof(struct outer_udp) == 32, "outer_udp");
_Static_assert(sizeof(struct outer_gre) == 28, "outer_gre");
_Static_assert(sizeof(struct outer_vxlan) == 50, "outer_vxlan");

static __always_inline __u32 outer_size(__u32 encap)
{
	switch (encap) {
	case ENCAP_VXLAN:
		return sizeof(struct outer_vxlan);
	case ENCAP_MPLS_GRE:
		return sizeof(struct outer_gre);
	}
	return sizeof(struct outer_udp);
}

/* The outer source port carries the entropy of the inner flow. */
static __always_inline __be16 spread_port(__u32 hash)
{
	return bpf_htons(UDP_SPORT_FIRST | ((hash ^ (hash >> 16)) & 0x3fff));
}

static __always_inline __be16 entropy_port(struct __sk_buff *skb)
{
	return spread_port(bpf_get_hash_recalc(skb));
}

static __always_inline __u16 ip_checksum(const struct iphdr *ip)
{
	const __u16 *w = (const __u16 *)ip;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += w[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum;
}

/*
 * Whether the packet fits the underlay with outer headers. A small packet
 * always does; the device is asked only about the others. A super-packet is
 * judged by the segments it will be cut into.
 */
static __always_inline int fits_underlay(struct __sk_buff *skb, const struct packet *p,
					 __u32 outer)
{
	__u32 mtu = 0;
	__u32 len = skb->gso_size ? skb->gso_size + p->header_len
				  : skb->len - sizeof(struct ethhdr);

	if (len <= 1024)
		return 1;
	if (bpf_check_mtu(skb, underlay_ifindex, &mtu, 0, 0) < 0)
		return 1;
	return len + outer <= mtu;
}

/*
 * Makes room for outer headers. FIXED_GSO keeps the segment size of
 * super-packets and is what lets UDP segmentation through at all.
 */
static __always_inline int make_room(struct __sk_buff *skb, __u32 size, __u64 flags)
{
	flags |= BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4;
	long err = bpf_skb_adjust_room(skb, size, BPF_ADJ_ROOM_MAC, flags);
	/* A packet that a container forwards came out of a tunnel, and
	 * decapsulation leaves skb->encapsulation set. Its inner offsets are
	 * right as they are: plain room is all it needs. */
	if (err == ERR_ALREADY)
		err = bpf_skb_adjust_room(skb, size, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
	return err ? -1 : 0;
}

static __always_inline void outer_ip(struct iphdr *ip, __u32 len, __u8 proto, __u8 tos,
				     __be32 remote)
{
	*ip = (struct iphdr){
		.version = 4,
		.ihl = 5,
		/* The class of service is the inner one's; ECN stays off
		 * (compatibility mode of RFC 6040 section 4.1). */
		.tos = tos & 0xfc,
		.tot_len = bpf_htons(len),
		.frag_off = bpf_htons(IP_DONT_FRAGMENT),
		.ttl = OUTER_TTL,
		.protocol = proto,
		.saddr = local_ip,
		.daddr = remote,
	};
	ip->check = ip_checksum(ip);
}

/* No checksum: RFC 7510 section 3 over IPv4, RFC 7348 section 5. */
static __always_inline struct udphdr outer_port(__be16 sport, __u16 dport, __u32 len)
{
	return (struct udphdr){
		.source = sport,
		.dest = bpf_htons(dport),
		.len = bpf_htons(len - sizeof(struct iphdr)),
	};
}

static __always_inline __be32 label_entry(__u32 label)
{
	return bpf_htonl(label << MPLS_LABEL_SHIFT | MPLS_BOTTOM | MPLS_TTL);
}

static __always_inline int encapsulate_udp(struct __sk_buff *skb, const struct next_hop *nh,
					   __u8 tos, __be16 sport)
{
	struct outer_udp o;
	__u32 len = skb->len - sizeof(struct ethhdr) + sizeof(o);

	outer_ip(&o.ip, len, IPPROTO_UDP, tos, nh->remote.w[3]);
	o.udp = outer_port(sport, MPLS_UDP_PORT, len);
	o.mpls = label_entry(nh->label);
	if (make_room(skb, sizeof(o),
		      BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(sizeof(o.mpls))))
		return -1;
	return bpf_skb_store_bytes(skb, sizeof(struct ethhdr), &o, sizeof(o), 0) ? -1 : 0;
}

static __always_inline int encapsulate_gre(struct __sk_buff *skb, const struct next_hop *nh,
					   __u8 tos)
{
	struct outer_gre o = { .protocol = bpf_htons(GRE_MPLS) };

	outer_ip(&o.ip, skb->len - sizeof(struct ethhdr) + sizeof(o), IPPROTO_GRE, tos,
		 nh->remote.w[3]);
	o.mpls = label_entry(nh->label);
	if (make_room(skb, sizeof(o),
		      BPF_F_ADJ_ROOM_ENCAP_L4_GRE | BPF_F_ADJ_ROOM_ENCAP_L2(sizeof(o.mpls))))
		return -1;
	return bpf_skb_store_bytes(skb, sizeof(struct ethhdr), &o, sizeof(o), 0) ? -1 : 0;
}

/* *o has the inner Ethernet header; the rest is filled in here. */
static __always_inline int encapsulate_vxlan(struct __sk_buff *skb, struct outer_vxlan *o,
					     const struct next_hop *nh, __u8 tos, __be16 sport)
{
	__u32 len = skb->len - sizeof(struct ethhdr) + sizeof(*o);
	struct iphdr ip;

	outer_ip(&ip, len, IPPROTO_UDP, tos, nh->remote.w[3]);
	o->ip = ip;
	o->udp = outer_port(sport, VXLAN_PORT, len);
	o->flags = bpf_htonl(VXLAN_HAS_VNI);
	o->vni = bpf_htonl(nh->label << VXLAN_VNI_SHIFT);
	if (make_room(skb, sizeof(*o),
		      BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH |
			      BPF_F_ADJ_ROOM_ENCAP_L2(sizeof(struct ethhdr))))
		return -1;
	return bpf_skb_store_bytes(skb, sizeof(struct ethhdr), o, sizeof(*o), 0) ? -1 : 0;
}

/* Says in front of a packet what is in it now, where that has become another. */
static __always_inline int set_protocol(struct __sk_buff *skb, __u16 protocol)
{
	__be16 now = bpf_htons(protocol);

	return bpf_skb_store_bytes(skb, __builtin_offsetof(struct ethhdr, h_proto), &now, sizeof(now), 0) ? -1 : 0;
}

static __noinline int encapsulate_ipv4(struct __sk_buff *skb, const struct flow *f, __u8 tos,
				       __u16 protocol)
{
	if (!f)
		return -1;
	struct next_hop nh = f->nh;
	__be16 sport = f->udp_sport;

	switch (nh.encap) {
	case ENCAP_VXLAN: {
		struct outer_vxlan o = { .eth.h_proto = bpf_htons(protocol) };

		__builtin_memcpy(o.eth.h_dest, f->dmac, 6);
		__builtin_memcpy(o.eth.h_source, f->smac, 6);
		return encapsulate_vxlan(skb, &o, &nh, tos, sport);
	}
	case ENCAP_MPLS_GRE:
		return encapsulate_gre(skb, &nh, tos);
	}
	return encapsulate_udp(skb, &nh, tos, sport);
}

/* Sends a packet of a container into the tunnel of its flow. */
static __always_inline int encapsulate(struct __sk_buff *skb, const struct flow *f,
				       const struct packet *p)
{
	if (!p->v6)
		return encapsulate_ipv4(skb, f, p->tos, ETH_P_IP);
	return encapsulate_ipv4(skb, f, p->tos, ETH_P_IPV6) || set_protocol(skb, ETH_P_IP) ? -1 : 0;
}

static __always_inline int decapsulate(struct __sk_buff *skb, __u32 size)
{
	return bpf_skb_adjust_room(skb, -(__s32)size, BPF_ADJ_ROOM_MAC,
				   BPF_F_ADJ_ROOM_FIXED_GSO) ? -1 : 0;
}

#define ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8) /* since Linux 6.3 */
#define ERR_INVALID -22

/*
 * Removes outer headers of IPv4 around IPv6. A kernel that cannot be told so is
 * asked to make the outer packet one of IPv6 first, which puts a larger header in
 * front of it: so what is in front of the inner packet is removed all the same.
 */
static __noinline int decapsulate_ipv6(struct __sk_buff *skb, __u32 size)
{
	long err = bpf_skb_adjust_room(skb, -(__s32)size, BPF_ADJ_ROOM_MAC,
				       BPF_F_ADJ_ROOM_FIXED_GSO | ADJ_ROOM_DECAP_L3_IPV6);

	if (err == ERR_INVALID) {
		err = bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0);
		if (!err)
			err = decapsulate(skb, size + sizeof(struct ipv6hdr) - sizeof(struct iphdr));
	}
	return err || set_protocol(skb, ETH_P_IPV6) ? -1 : 0;
}

/* Sends what is ready for the underlay to its next neighbour there. A packet that
 * a container forwards has got plain room, by which the kernel still takes it for
 * IPv6: so it comes in once more, see is_copy. */
static __always_inline int to_underlay(struct __sk_buff *skb, const struct packet *p)
{
	if (p->v6 && skb->protocol != bpf_htons(ETH_P_IP))
		return into_tunnel_again(skb);
	return into_tunnel(skb);
}
