// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What the router of a network says itself: neighbour advertisements (RFC 4861),
 * answers to echo requests at gateways, and ICMPv6 errors (RFC 4443). It has one
 * link-local address in every network, made from its MAC.
 */
#pragma once

#include "budget.h"
#include "encap.h"
#include "flow.h"
#include "limit.h"
#include "nat.h"
#include "nexthop.h"
#include "parse6.h"
#include "service.h"

#define ROUTER_TTL 64
#define ND_TTL 255 /* RFC 4861 section 7.1 */

/* Flags of advertisements. */
#define ND_ROUTER 0x80000000U
#define ND_SOLICITED 0x40000000U
#define ND_OVERRIDE 0x20000000U
#define ND_TARGET_LINK 2 /* option: link-layer address of the target */

/* A neighbour solicitation or advertisement with its one option. */
struct nd_message {
	__u8 type;
	__u8 code;
	__sum16 check;
	__be32 flags;
	struct addr target;
	__u8 option;
	__u8 units; /* length of the option in 8 bytes */
	__u8 mac[6];
};

struct advert {
	struct ipv6hdr ip;
	struct nd_message nd;
};

_Static_assert(sizeof(struct advert) == 72, "advert");

/* As much of a packet as its error quotes; bpf_csum_diff takes 512 bytes. */
#define ERROR_QUOTE 448

struct error6 {
	struct ipv6hdr ip;
	__u8 type;
	__u8 code;
	__sum16 check;
	__be32 info;
	__u8 quote[ERROR_QUOTE];
};

_Static_assert(sizeof(struct error6) == 48 + ERROR_QUOTE, "error6");

/* What the router says, struct advert or error6: too much for the stack. */
struct message {
	__u32 words[sizeof(struct error6) / 4];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct message);
} scratch_message SEC(".maps");

/* A message that is all zero. */
static __always_inline void *new_message(void)
{
	__u32 zero = 0;
	struct message *m = bpf_map_lookup_elem(&scratch_message, &zero);

	if (m)
		__builtin_memset(m, 0, sizeof(*m));
	return m;
}

/* What errors a port gets: one in a millisecond, and so many ahead. */
#define ERROR_SCOPE 0x40000000U
#define ERROR_INTERVAL 1000000ULL
#define ERROR_BURST 64

/* fe80::200:5eff:fe00:100, of VR_MAC (RFC 4291 appendix A). */
static __always_inline void link_local_of_router(struct addr *a)
{
	a->w[0] = bpf_htonl(0xfe800000);
	a->w[1] = 0;
	a->w[2] = bpf_htonl(0x02005eff);
	a->w[3] = bpf_htonl(0xfe000100);
}

/* Whether the address is the router's as far as the port is concerned. */
static __noinline int is_gateway(__u32 ifindex, const struct addr *a)
{
	struct addr own;

	if (!a)
		return 0;
	link_local_of_router(&own);
	if (same_addr(a, &own))
		return 1;
	struct gateways *g = bpf_map_lookup_elem(&gateway_v1, &ifindex);
	if (!g)
		return 0;
	for (int i = 0; i < PORT_GATEWAYS; i++) {
		if (i < g->count && same_addr(a, &g->addr[i]))
			return 1;
	}
	return 0;
}

/* The address that the router has for errors: the port's first gateway of IPv6,
 * as what is behind the port hears nothing from a link-local one. */
static __noinline int router_of(__u32 ifindex, struct addr *a)
{
	struct gateways *g = bpf_map_lookup_elem(&gateway_v1, &ifindex);

	if (!a)
		return 0;
	link_local_of_router(a);
	for (int i = 0; g && i < PORT_GATEWAYS; i++) {
		if (i < g->count && !is_mapped(&g->addr[i])) {
			*a = g->addr[i];
			return 1;
		}
	}
	return 0;
}

/*
 * The checksum of an ICMPv6 message of len bytes that follows its IP header (RFC
 * 8200 section 8.1). size is a constant, and what it has beyond len is zero.
 */
static __always_inline __sum16 icmp6_checksum(struct ipv6hdr *ip, __u32 size, __u32 len)
{
	const __u32 addresses = sizeof(ip->saddr) + sizeof(ip->daddr);
	__u32 sum = bpf_csum_diff(0, 0, (__be32 *)&ip->saddr, addresses + size,
				  bpf_htonl(len + IPPROTO_ICMPV6));

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__sum16)~sum;
}

static __always_inline void begin_ipv6(struct ipv6hdr *ip, __u32 len, __u8 ttl)
{
	ip->version = 6;
	ip->payload_len = bpf_htons(len);
	ip->nexthdr = IPPROTO_ICMPV6;
	ip->hop_limit = ttl;
}

/* Makes the advertisement that the target has this MAC; *a is all zero. */
static __always_inline void advertise(struct advert *a, const struct addr *target,
				      const struct addr *to, const __u8 *mac, __u32 flags)
{
	begin_ipv6(&a->ip, sizeof(a->nd), ND_TTL);
	__builtin_memcpy(&a->ip.saddr, target, sizeof(*target));
	__builtin_memcpy(&a->ip.daddr, to, sizeof(*to));
	a->nd.type = ND_ADVERT;
	a->nd.flags = bpf_htonl(ND_SOLICITED | ND_OVERRIDE | flags);
	a->nd.target = *target;
	a->nd.option = ND_TARGET_LINK;
	a->nd.units = 1;
	__builtin_memcpy(a->nd.mac, mac, 6);
	a->nd.check = icmp6_checksum(&a->ip, sizeof(a->nd), sizeof(a->nd));
}

/*
 * Reads what a neighbour solicitation asks for. The checksum is not looked at:
 * nothing of what it covers but the addresses is used, and who asks with wrong
 * ones gets an answer about these. Returns a drop reason or DROP_NONE.
 */
static __noinline int read_solicit(struct __sk_buff *skb, const struct packet *p, struct addr *target)
{
	if (!p || !target)
		return DROP_MALFORMED;
	if (p->key.dport != bpf_htons(ND_SOLICIT))
		return DROP_ND;
	if (p->ttl != ND_TTL || p->icmp_code || p->header_len != sizeof(struct ipv6hdr) ||
	    bpf_skb_load_bytes(skb, p->offset + sizeof(struct ipv6hdr) + __builtin_offsetof(struct nd_message, target),
			       target, sizeof(*target)))
		return DROP_MALFORMED;
	if (is_multicast6(target) || is_mapped(target) || is_unspecified(target))
		return DROP_MALFORMED;
	/* Who looks whether he is alone (RFC 4862) is: each address is one port's. */
	return is_unspecified(&p->key.src) ? DROP_ND : DROP_NONE;
}

/*
 * Answers a container's solicitation with the router's MAC, whatever the address:
 * as answer_arp does. Of link-local addresses there is only the router's. Returns
 * a verdict.
 */
static __noinline int answer_nd(struct __sk_buff *skb, const struct packet *p, const struct vif *vif,
				__u32 ifindex)
{
	const __u8 vr_mac[6] = VR_MAC;
	struct advert *a = new_message();
	struct addr target;

	if (!p || !vif || !a)
		return TC_ACT_SHOT;
	int reason = read_solicit(skb, p, &target);
	if (reason)
		return drop(skb, reason, ifindex);
	if (!is_link_local(&p->key.src) && !may_send_from(vif, ifindex, &p->key.src))
		return drop(skb, DROP_SOURCE_ADDRESS, ifindex);
	int gateway = is_gateway(ifindex, &target);
	if (owns(vif, ifindex, &target) || (is_link_local(&target) && !gateway))
		return drop(skb, DROP_ND, ifindex);

	advertise(a, &target, &p->key.src, vr_mac, gateway ? ND_ROUTER : 0);
	if (bpf_skb_change_tail(skb, sizeof(struct ethhdr) + sizeof(*a), 0) ||
	    bpf_skb_store_bytes(skb, sizeof(struct ethhdr), a, sizeof(*a), 0) ||
	    set_macs(skb, vif->mac, vr_mac))
		return drop(skb, DROP_MALFORMED, ifindex);
	return answer(skb, vif->slot, ifindex);
}

static __always_inline int asks_echo(const struct packet *p)
{
	if (p->fragment == FRAGMENT_LOST)
		return 0;
	return p->v6 ? p->key.proto == IPPROTO_ICMPV6 && p->key.dport == bpf_htons(ICMP6_ECHO)
		     : p->key.proto == IPPROTO_ICMP && p->key.dport == bpf_htons(ICMP_ECHO);
}

/* Makes an echo request to the router, or a fragment of one, its reply: both have
 * the same content and sum of addresses. Returns a verdict. */
static __noinline int answer_echo(struct __sk_buff *skb, const struct packet *p, const struct vif *vif,
				  __u32 ifindex)
{
	const __u32 ip = sizeof(struct ethhdr);
	const __u8 vr_mac[6] = VR_MAC;
	const __u8 ttl = ROUTER_TTL;
	long err;

	if (!p || !vif)
		return TC_ACT_SHOT;
	__u32 icmp = ip + p->header_len;
	__u8 type = p->v6 ? ICMP6_ECHO : ICMP_ECHO, reply = p->v6 ? ICMP6_ECHOREPLY : ICMP_ECHOREPLY;
	if (p->v6) {
		err = bpf_skb_store_bytes(skb, ip + __builtin_offsetof(struct ipv6hdr, saddr), &p->key.dst, 16, 0) ||
		      bpf_skb_store_bytes(skb, ip + __builtin_offsetof(struct ipv6hdr, daddr), &p->key.src, 16, 0) ||
		      bpf_skb_store_bytes(skb, ip + __builtin_offsetof(struct ipv6hdr, hop_limit), &ttl, 1, 0);
	} else {
		err = bpf_skb_store_bytes(skb, ip + __builtin_offsetof(struct iphdr, saddr), &p->key.dst.w[3], 4, 0) ||
		      bpf_skb_store_bytes(skb, ip + __builtin_offsetof(struct iphdr, daddr), &p->key.src.w[3], 4, 0) ||
		      set_ttl(skb, ttl);
	}
	if (!err && p->fragment != FRAGMENT_LATER)
		err = bpf_l4_csum_replace(skb, icmp + 2, bpf_htons(type << 8), bpf_htons(reply << 8), 2) ||
		      bpf_skb_store_bytes(skb, icmp, &reply, 1, 0);
	if (err || set_macs(skb, vif->mac, vr_mac))
		return drop(skb, DROP_MALFORMED, ifindex);
	return answer(skb, vif->slot, ifindex);
}

/* Whether a packet may be answered by an error (RFC 4443 section 2.4 e). */
static __always_inline int may_be_refused(const struct packet *p)
{
	return p->fragment != FRAGMENT_LATER && p->fragment != FRAGMENT_LOST &&
	       !is_multicast6(&p->key.dst) &&
	       (p->key.proto != IPPROTO_ICMPV6 || bpf_ntohs(p->key.dport) >= ICMP6_ECHO);
}

/* Fills in the error to a packet; returns its length, or 0. */
static __always_inline __u32 fill_error(struct __sk_buff *skb, const struct packet *p, __u32 ifindex,
					struct error6 *e)
{
	__u32 quoted = skb->len - sizeof(struct ethhdr);
	struct addr router;

	if (quoted > ERROR_QUOTE)
		quoted = ERROR_QUOTE;
	if (quoted < sizeof(struct ipv6hdr) ||
	    bpf_skb_load_bytes(skb, sizeof(struct ethhdr), e->quote, quoted))
		return 0;
	router_of(ifindex, &router);
	__u32 len = sizeof(*e) - ERROR_QUOTE - sizeof(e->ip) + quoted;
	begin_ipv6(&e->ip, len, ROUTER_TTL);
	__builtin_memcpy(&e->ip.saddr, &router, sizeof(router));
	__builtin_memcpy(&e->ip.daddr, &p->key.src, sizeof(p->key.src));
	e->check = icmp6_checksum(&e->ip, sizeof(*e) - sizeof(e->ip), len);
	return sizeof(e->ip) + len;
}

/* What is taken off once more when a packet becomes its error, so that the kernel
 * forgets a checksum in it that it has put off computing. */
#define ERROR_SPARE 64

/*
 * Drops a packet of a container and says so to who sent it: that it is too big,
 * where outer is what its tunnel adds, or that its hop limit is used up. Returns
 * a verdict.
 */
static __noinline int refuse6(struct __sk_buff *skb, const struct packet *p, __u32 ifindex,
			      __u32 reason, __u32 outer)
{
	const __u8 vr_mac[6] = VR_MAC;
	__u32 mtu = 0;
	struct error6 *e = new_message();
	struct vif *vif = bpf_map_lookup_elem(&vif_v1, &ifindex);

	count_drop(skb, reason, ifindex);
	if (!p || !e || !vif || !may_be_refused(p) ||
	    !pays(ERROR_SCOPE | ifindex, ERROR_INTERVAL, ERROR_BURST * ERROR_INTERVAL))
		return TC_ACT_SHOT;
	e->type = ICMP6_TIME_EXCEEDED;
	if (reason == DROP_TOO_BIG) {
		bpf_check_mtu(skb, underlay_ifindex, &mtu, 0, 0);
		e->type = ICMP6_TOO_BIG;
		e->info = bpf_htonl(mtu - outer);
	}
	__u32 size = fill_error(skb, p, ifindex, e);
	if (!size || size > sizeof(*e) ||
	    bpf_skb_change_tail(skb, sizeof(struct ethhdr) + size + ERROR_SPARE, 0) ||
	    bpf_skb_adjust_room(skb, -ERROR_SPARE, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO) ||
	    bpf_skb_store_bytes(skb, sizeof(struct ethhdr), e, size, 0) ||
	    set_macs(skb, vif->mac, vr_mac))
		return TC_ACT_SHOT;
	return answer(skb, vif->slot, ifindex);
}
