// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Reading IPv6 packets (RFC 8200). What comes behind the header is looked for
 * through so many extension headers and not further: who sends more is refused,
 * as policy could not know what it passes.
 */
#pragma once

#include <linux/ipv6.h>

#include "parse.h"

#define IPV6_EXTENSIONS 6

/* Next headers that are extensions (IANA's list; ESP hides what is behind it). */
#define IPV6_HOP_BY_HOP 0
#define IPV6_ROUTING 43
#define IPV6_FRAGMENT 44
#define IPV6_AUTHENTICATION 51
#define IPV6_DESTINATION 60
#define IPV6_MOBILITY 135
#define IPV6_HIP 139
#define IPV6_SHIM6 140

/* Neighbour discovery (RFC 4861). */
#define ND_FIRST 133
#define ND_SOLICIT 135
#define ND_ADVERT 136
#define ND_LAST 137

/* The first 8 bytes of an extension, which all of them have. */
struct extension {
	__u8 next;
	__u8 len;  /* not of fragments */
	__u8 type; /* ROUTING; FRAGMENT: with left offset and flag */
	__u8 left;
	__be32 id; /* FRAGMENT */
};

/* What comes behind the headers of IPv6. */
struct upper {
	__be32 id;   /* as in struct packet */
	__u16 at;    /* from the start of the IP header */
	__u16 skips; /* later fragments: bytes of the datagram before it */
	__u8 proto;
	__u8 fragment;
	__u8 split; /* there is a fragment header */
	__u8 pad;
};

/* What an ICMPv6 error quotes. */
struct quoted6 {
	__u8 ip[40]; /* struct ipv6hdr, which Go has no type for */
	struct upper upper;
	__be16 head[4]; /* of what is behind */
};

_Static_assert(sizeof(struct ipv6hdr) == 40, "ipv6hdr");
_Static_assert(sizeof(struct extension) == 8, "extension");

static __always_inline int is_extension(__u8 proto)
{
	switch (proto) {
	case IPV6_HOP_BY_HOP:
	case IPV6_ROUTING:
	case IPV6_FRAGMENT:
	case IPV6_AUTHENTICATION:
	case IPV6_DESTINATION:
	case IPV6_MOBILITY:
	case IPV6_HIP:
	case IPV6_SHIM6:
		return 1;
	}
	return 0;
}

/* Takes in a fragment header. One with all of a datagram is none (RFC 6946). */
static __always_inline int take_fragment(struct upper *u, const struct extension *e)
{
	__u16 where = (__u16)e->type << 8 | e->left;

	if (u->split)
		return DROP_MALFORMED; /* a second one */
	u->split = 1;
	u->id = e->id;
	u->skips = where & 0xfff8;
	if (u->skips)
		u->fragment = FRAGMENT_LATER;
	else if (where & 1)
		u->fragment = FRAGMENT_FIRST;
	return DROP_NONE;
}

/*
 * Walks through the extensions of the IPv6 packet at an offset, of size bytes
 * with its header, from u->proto and u->at on. The first fragment has to have
 * all headers (RFC 7112), and none between the fragment's and that of the
 * transport. A routing header that is not used up names another
 * destination than the one that is judged. Returns a drop reason or DROP_NONE.
 */
__noinline int walk_extensions(struct __sk_buff *skb, __u32 offset, __u32 size, struct upper *u)
{
	if (!u)
		return DROP_MALFORMED;
	for (int i = 0; i < IPV6_EXTENSIONS; i++) {
		struct extension e;
		__u8 kind = u->proto;
		__u32 at = u->at;

		if (!is_extension(kind))
			return DROP_NONE;
		if (at + sizeof(e) > size || bpf_skb_load_bytes(skb, offset + at, &e, sizeof(e)))
			return DROP_MALFORMED;
		if (kind == IPV6_HOP_BY_HOP && i)
			return DROP_MALFORMED;
		if (kind == IPV6_ROUTING && e.left)
			return DROP_EXTENSION_HEADER;
		u->proto = e.next;
		if (kind == IPV6_FRAGMENT) {
			int reason = take_fragment(u, &e);

			if (reason)
				return reason;
			e.len = 0;
		}
		at += kind == IPV6_AUTHENTICATION ? (e.len + 2) * 4 : (e.len + 1) * 8;
		if (at > size)
			return DROP_MALFORMED;
		u->at = at;
		if (u->fragment == FRAGMENT_LATER)
			return DROP_NONE; /* what is behind is data */
		/* A later fragment could overwrite what is behind this. */
		if (u->fragment && kind != IPV6_FRAGMENT)
			return DROP_EXTENSION_HEADER;
	}
	return is_extension(u->proto) ? DROP_EXTENSION_HEADER : DROP_NONE;
}

static __always_inline void copy_addr(struct addr *to, const struct in6_addr *from)
{
	__builtin_memcpy(to, from, sizeof(*to));
}

static __always_inline int is_multicast6(const struct addr *a)
{
	return *(const __u8 *)a == 0xff;
}

static __always_inline int is_link_local(const struct addr *a)
{
	return (a->w[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* The unspecified address and the loopback one: both are of no wire. */
static __always_inline int is_of_host(const struct addr *a)
{
	return !a->w[0] && !a->w[1] && !a->w[2] && bpf_ntohl(a->w[3]) <= 1;
}

static __always_inline int is_unspecified(const struct addr *a)
{
	return !a->w[0] && !a->w[1] && !a->w[2] && !a->w[3];
}

static __always_inline int parse_icmp6(struct __sk_buff *skb, struct packet *p, __u32 len,
				       __u32 space)
{
	__be16 head[4];

	if (space < 8 || bpf_skb_load_bytes(skb, p->offset + len, head, sizeof(head)))
		return DROP_MALFORMED;
	__u8 type = *(__u8 *)head;
	p->key.sport = icmp_answer(IPPROTO_ICMPV6, type) != type ? head[2] : 0;
	p->key.dport = bpf_htons(type);
	p->icmp_code = *((__u8 *)head + 1);
	return DROP_NONE;
}

/*
 * Parses the IPv6 packet at offset into *p, all of its key but scope and dir.
 * Addresses that stand for IPv4's are on no wire: here they would be taken for
 * these. Returns a drop reason or DROP_NONE.
 */
__noinline int parse_ipv6(struct __sk_buff *skb, __u32 offset, struct packet *p)
{
	struct ipv6hdr ip;

	if (!p || bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)))
		return DROP_MALFORMED;
	__u32 size = sizeof(ip) + bpf_ntohs(ip.payload_len);
	if (ip.version != 6 || size > skb->len - offset)
		return DROP_MALFORMED;
	p->v6 = 1;
	p->offset = offset;
	p->ttl = ip.hop_limit;
	p->tos = ip.priority << 4 | ip.flow_lbl[0] >> 4;
	copy_addr(&p->key.src, &ip.saddr);
	copy_addr(&p->key.dst, &ip.daddr);
	if (is_mapped(&p->key.src) || is_mapped(&p->key.dst) || is_multicast6(&p->key.src))
		return DROP_MALFORMED;

	struct upper u = { .at = sizeof(ip), .proto = ip.nexthdr };
	if (is_extension(u.proto)) {
		int reason = walk_extensions(skb, offset, size, &u);

		if (reason)
			return reason;
		p->id = u.id;
		p->fragment = u.fragment;
	}
	p->key.proto = u.proto;
	p->header_len = u.at;
	/* It must not overwrite what was judged, see parse_ipv4; which protocol it is
	 * of only the first one says. */
	if (u.fragment == FRAGMENT_LATER)
		return u.skips < 24 ? DROP_MALFORMED : DROP_NONE;
	if (u.proto == IPPROTO_ICMP)
		return DROP_MALFORMED;
	if (u.proto == IPPROTO_ICMPV6)
		return parse_icmp6(skb, p, u.at, size - u.at);
	return parse_transport(skb, p, u.at, size - u.at);
}

/* Neighbour discovery; a fragment is none (RFC 6980). */
static __always_inline int is_nd(const struct packet *p)
{
	__u16 type = bpf_ntohs(p->key.dport);

	return p->v6 && p->key.proto == IPPROTO_ICMPV6 && !p->fragment && type >= ND_FIRST &&
	       type <= ND_LAST;
}

/* What a host says on its link before and beside its own address, such as the
 * groups that it is in (RFC 3590): nobody's address is forged by that. */
static __always_inline int is_of_link(const struct packet *p)
{
	return p->v6 && is_multicast6(&p->key.dst) &&
	       (is_link_local(&p->key.src) || is_unspecified(&p->key.src));
}

/* What is not forwarded, whatever routes say. */
static __noinline int check_ipv6(const struct packet *p)
{
	if (!p)
		return DROP_MALFORMED;
	const struct addr *src = &p->key.src, *dst = &p->key.dst;
	__u16 type = bpf_ntohs(p->key.dport);

	if (is_multicast6(dst))
		return DROP_MULTICAST;
	if (is_link_local(src) || is_link_local(dst))
		return DROP_LINK_LOCAL;
	if (is_of_host(src) || is_of_host(dst))
		return DROP_MALFORMED;
	if (p->key.proto == IPPROTO_ICMPV6 && type >= ND_FIRST && type <= ND_LAST)
		return DROP_ND;
	return DROP_NONE;
}
