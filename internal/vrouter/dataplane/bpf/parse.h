// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* Reading and rewriting packets at a known offset in the buffer; of IPv6 what is
 * its own is in parse6.h. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "drop_reasons.h"
#include "types.h"

/* RFC 792; linux/icmp.h needs libc headers. */
#define ICMP_ECHOREPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER 12
#define ICMP_TIMESTAMP 13
#define ICMP_TIMESTAMPREPLY 14
#define ICMP_HEADER 8

#define TCP_SYN 0x02
#define TCP_ACK 0x10

/* RFC 4443; linux/icmpv6.h needs libc headers. */
#define ICMP6_UNREACHABLE 1
#define ICMP6_TOO_BIG 2
#define ICMP6_TIME_EXCEEDED 3
#define ICMP6_PARAMETER 4
#define ICMP6_ECHO 128
#define ICMP6_ECHOREPLY 129

#define IP_FRAGMENT_OFFSET 0x1fff
#define IP_MORE_FRAGMENTS 0x2000
#define IP_DONT_FRAGMENT 0x4000

/* The MAC of the router in every network. */
#define VR_MAC { 0x00, 0x00, 0x5e, 0x00, 0x01, 0x00 }
/* How that of a node begins, as routers outside know it; its address follows. */
#define NODE_MAC 0x0e00

enum fragment_kind {
	FRAGMENT_NONE,
	FRAGMENT_FIRST,
	FRAGMENT_LATER,
	FRAGMENT_LOST, /* a later one whose first has not been seen */
};

struct packet {
	struct flow_key key;
	__u32 offset;     /* of the IP header */
	__u16 header_len; /* IP and transport header together */
	__u8 ttl;
	__u8 tos;
	__be32 id;     /* of the datagram that it is a fragment of */
	__u8 fragment; /* enum fragment_kind */
	__u8 icmp_code;
	__u8 v6;
	__u8 tcp_flags;
};

static __always_inline void map_v4(struct addr *a, __be32 v4)
{
	a->w[0] = 0;
	a->w[1] = 0;
	a->w[2] = bpf_htonl(0xffff);
	a->w[3] = v4;
}

/* The addresses that stand for those of IPv4. */
#define MAPPED_BITS 96

static __always_inline int is_mapped(const struct addr *a)
{
	return !a->w[0] && !a->w[1] && a->w[2] == bpf_htonl(0xffff);
}

static __always_inline int same_addr(const struct addr *a, const struct addr *b)
{
	return a->w[3] == b->w[3] && a->w[2] == b->w[2] && a->w[1] == b->w[1] &&
	       a->w[0] == b->w[0];
}

static __always_inline int same_mac(const __u8 *a, const __u8 *b)
{
	return *(const __u16 *)a == *(const __u16 *)b &&
	       *(const __u16 *)(a + 2) == *(const __u16 *)(b + 2) &&
	       *(const __u16 *)(a + 4) == *(const __u16 *)(b + 4);
}

static __always_inline void copy_mac(__u8 *to, const __u8 *from)
{
	*(__u16 *)to = *(const __u16 *)from;
	*(__u16 *)(to + 2) = *(const __u16 *)(from + 2);
	*(__u16 *)(to + 4) = *(const __u16 *)(from + 4);
}

static __always_inline void *packet_at(struct __sk_buff *skb, __u32 offset)
{
	return (void *)(long)skb->data + offset;
}

static __always_inline int in_packet(struct __sk_buff *skb, const void *end)
{
	return end <= (void *)(long)skb->data_end;
}

/* Whether a packet is the first of a TCP connection and no answer to one. */
static __always_inline int is_syn(const struct packet *p)
{
	return (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* The type of message that answers one, and the other way round. Others have no
 * answer: they are their own. */
static __always_inline __u16 icmp_reverse(__u16 type)
{
	switch (type) {
	case ICMP_ECHO:
		return ICMP_ECHOREPLY;
	case ICMP_ECHOREPLY:
		return ICMP_ECHO;
	case ICMP_TIMESTAMP:
		return ICMP_TIMESTAMPREPLY;
	case ICMP_TIMESTAMPREPLY:
		return ICMP_TIMESTAMP;
	}
	return type;
}

static __always_inline int is_icmp(__u8 proto)
{
	return proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

/* The type of message that answers one of a protocol. */
static __always_inline __u16 icmp_answer(__u8 proto, __u16 type)
{
	if (proto == IPPROTO_ICMP)
		return icmp_reverse(type);
	switch (type) {
	case ICMP6_ECHO:
		return ICMP6_ECHOREPLY;
	case ICMP6_ECHOREPLY:
		return ICMP6_ECHO;
	}
	return type;
}

/* Makes the first len bytes directly readable; 0 when the packet has them. */
static __always_inline int need(struct __sk_buff *skb, __u32 len)
{
	if (in_packet(skb, packet_at(skb, len)))
		return 0;
	if (skb->len < len)
		return -1;
	return bpf_skb_pull_data(skb, len);
}

/* Fills in the ports. The first fragment must hold the whole transport header,
 * else a later one could overwrite it (RFC 1858 section 4). */
static __always_inline int parse_transport(struct __sk_buff *skb, struct packet *p,
					   __u32 ip_len, __u32 space)
{
	__u32 at = p->offset + ip_len;

	switch (p->key.proto) {
	case IPPROTO_TCP: {
		__u8 head[20];

		if (space < sizeof(head) ||
		    bpf_skb_load_bytes(skb, at, head, sizeof(head)))
			return DROP_MALFORMED;
		p->key.sport = *(__be16 *)head;
		p->key.dport = *(__be16 *)(head + 2);
		p->header_len = ip_len + (head[12] >> 4) * 4;
		p->tcp_flags = head[13];
		return DROP_NONE;
	}
	case IPPROTO_UDP:
	case IPPROTO_SCTP: {
		__be16 ports[2];

		if (space < 8 || bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
			return DROP_MALFORMED;
		p->key.sport = ports[0];
		p->key.dport = ports[1];
		p->header_len = ip_len + 8;
		return DROP_NONE;
	}
	case IPPROTO_ICMP: {
		__be16 head[4];

		if (space < 8 || bpf_skb_load_bytes(skb, at, head, sizeof(head)))
			return DROP_MALFORMED;
		/* Requests and their replies are told apart by identifier. */
		__u8 type = *(__u8 *)head;
		p->key.sport = icmp_reverse(type) != type ? head[2] : 0;
		p->key.dport = bpf_htons(type);
		p->icmp_code = *((__u8 *)head + 1);
		return DROP_NONE;
	}
	}
	return DROP_NONE;
}

/*
 * Parses the IPv4 packet at offset into *p, all of its key but scope and dir.
 * The offset is a constant, so that the verifier sees fixed bounds. Returns a
 * drop reason or DROP_NONE.
 */
static __always_inline int parse_ipv4(struct __sk_buff *skb, __u32 offset,
				      struct packet *p)
{
	if (need(skb, offset + sizeof(struct iphdr)))
		return DROP_MALFORMED;
	struct iphdr *ip = packet_at(skb, offset);
	if (!in_packet(skb, ip + 1))
		return DROP_MALFORMED;

	__u32 ip_len = ip->ihl * 4;
	__u32 total = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || ip_len < sizeof(*ip) || total < ip_len ||
	    total > skb->len - offset)
		return DROP_MALFORMED;

	p->offset = offset;
	p->header_len = ip_len;
	p->ttl = ip->ttl;
	p->tos = ip->tos;
	map_v4(&p->key.src, ip->saddr);
	map_v4(&p->key.dst, ip->daddr);
	p->key.proto = ip->protocol;
	p->id = ip->id;
	/* Only the first fragment has ports, see follow_fragment. */
	if (ip->frag_off & bpf_htons(IP_FRAGMENT_OFFSET)) {
		p->fragment = FRAGMENT_LATER;
		/* It must not overwrite the header that was judged (RFC 1858
		 * section 3.2); others have 8 bytes, which none can reach. */
		if (p->key.proto == IPPROTO_TCP &&
		    (bpf_ntohs(ip->frag_off) & IP_FRAGMENT_OFFSET) * 8 < 20)
			return DROP_MALFORMED;
		return DROP_NONE;
	}
	if (ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS))
		p->fragment = FRAGMENT_FIRST;
	return parse_transport(skb, p, ip_len, total - ip_len);
}

/* Decrements the TTL with the checksum update of RFC 1141; the caller has
 * checked that it is above 1. */
static __always_inline int decrement_ttl(struct __sk_buff *skb, __u32 offset)
{
	struct iphdr *ip = packet_at(skb, offset);
	if (!in_packet(skb, ip + 1))
		return -1;
	__u32 sum = (__u32)ip->check + bpf_htons(0x0100);
	ip->check = (__u16)(sum + (sum >= 0xffff));
	ip->ttl--;
	return 0;
}

static __always_inline int set_hop_limit(struct __sk_buff *skb, __u8 hops)
{
	const __u32 at = sizeof(struct ethhdr) + 7; /* of struct ipv6hdr */

	return bpf_skb_store_bytes(skb, at, &hops, sizeof(hops), 0) ? -1 : 0;
}

static __always_inline int set_macs(struct __sk_buff *skb, const __u8 *dst,
				    const __u8 *src)
{
	struct ethhdr *eth = packet_at(skb, 0);
	if (!in_packet(skb, eth + 1))
		return -1;
	copy_mac(eth->h_dest, dst);
	copy_mac(eth->h_source, src);
	return 0;
}
