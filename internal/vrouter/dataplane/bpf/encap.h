// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* MPLS in UDP over IPv4 (RFC 7510). */
#pragma once

#include "maps.h"
#include "parse.h"

#define MPLS_UDP_PORT 6635
#define MPLS_BOTTOM 0x100U
#define MPLS_TTL 64
#define MPLS_LABEL_SHIFT 12
#define OUTER_TTL 64
#define UDP_SPORT_FIRST 0xc000 /* 49152..65535 (RFC 7510 section 3) */

#define ERR_ALREADY -114

struct outer {
	struct iphdr ip;
	struct udphdr udp;
	__be32 mpls;
};

_Static_assert(sizeof(struct outer) == 32, "outer");

/* The outer source port carries the entropy of the inner flow. */
static __always_inline __be16 entropy_port(struct __sk_buff *skb)
{
	__u32 hash = bpf_get_hash_recalc(skb);

	return bpf_htons(UDP_SPORT_FIRST | ((hash ^ (hash >> 16)) & 0x3fff));
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
 * Whether the packet fits the underlay after encapsulation. A small packet
 * always does; the device is asked only about the others. A super-packet is
 * judged by the segments it will be cut into.
 */
static __always_inline int fits_underlay(struct __sk_buff *skb, const struct packet *p)
{
	__u32 mtu = 0;
	__u32 len = skb->gso_size ? skb->gso_size + p->header_len
				  : skb->len - sizeof(struct ethhdr);

	if (len <= 1024)
		return 1;
	if (bpf_check_mtu(skb, underlay_ifindex, &mtu, 0, 0) < 0)
		return 1;
	return len + sizeof(struct outer) <= mtu;
}

/*
 * Adds the outer headers. FIXED_GSO keeps the segment size of super-packets
 * and is what lets UDP segmentation through at all.
 */
static __always_inline int make_room(struct __sk_buff *skb)
{
	long err = bpf_skb_adjust_room(
		skb, sizeof(struct outer), BPF_ADJ_ROOM_MAC,
		BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 |
			BPF_F_ADJ_ROOM_ENCAP_L4_UDP |
			BPF_F_ADJ_ROOM_ENCAP_L2(sizeof(__be32)));
	/* A packet that a container forwards came out of a tunnel of the same
	 * kind, and decapsulation leaves skb->encapsulation set. Its inner
	 * offsets are right as they are: plain room is all it needs. */
	if (err == ERR_ALREADY)
		err = bpf_skb_adjust_room(skb, sizeof(struct outer), BPF_ADJ_ROOM_MAC,
					  BPF_F_ADJ_ROOM_FIXED_GSO);
	return err ? -1 : 0;
}

static __always_inline int encapsulate(struct __sk_buff *skb, const struct packet *p,
				       const struct next_hop *nh, __be16 sport)
{
	__u32 len = skb->len - sizeof(struct ethhdr) + sizeof(struct outer);
	struct outer o = {
		.ip = {
			.version = 4,
			.ihl = 5,
			/* The class of service is the inner one's; ECN stays
			 * off (compatibility mode of RFC 6040 section 4.1). */
			.tos = p->tos & 0xfc,
			.tot_len = bpf_htons(len),
			.frag_off = bpf_htons(IP_DONT_FRAGMENT),
			.ttl = OUTER_TTL,
			.protocol = IPPROTO_UDP,
			.saddr = local_ip,
			.daddr = nh->remote.w[3],
		},
		/* No checksum: RFC 7510 section 3 over IPv4. */
		.udp = {
			.source = sport,
			.dest = bpf_htons(MPLS_UDP_PORT),
			.len = bpf_htons(len - sizeof(struct iphdr)),
		},
		.mpls = bpf_htonl(nh->label << MPLS_LABEL_SHIFT | MPLS_BOTTOM | MPLS_TTL),
	};

	o.ip.check = ip_checksum(&o.ip);
	if (make_room(skb))
		return -1;
	return bpf_skb_store_bytes(skb, sizeof(struct ethhdr), &o, sizeof(o), 0) ? -1 : 0;
}

static __always_inline int decapsulate(struct __sk_buff *skb)
{
	return bpf_skb_adjust_room(skb, -(__s32)sizeof(struct outer), BPF_ADJ_ROOM_MAC,
				   BPF_F_ADJ_ROOM_FIXED_GSO) ? -1 : 0;
}
