// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Addresses of other networks: floating ones, which are translated to and from
 * an address of the port, and aliases, which the port uses as they are.
 *
 *   to a floating address -> its port: destination becomes the port's own
 *   from the port -> own network, or that of a floating address with a more
 *                    specific route: source becomes the floating address
 *
 * Which one an answer has to come from is known by the entry of its flow: who is
 * sent something to a floating address gets an entry for his answers, too.
 */
#pragma once

#include "flow.h"
#include "maps.h"
#include "nexthop.h"
#include "parse.h"

/* The address that the port has in another network, if it has it. */
static __always_inline const struct foreign_addr *
find_foreign(const struct vif *vif, __u32 ifindex, const struct addr *a)
{
	if (!vif || !vif->foreign)
		return 0;
	struct port_addr_key key = { .ifindex = ifindex, .addr = *a };
	return bpf_map_lookup_elem(&foreign_addr_v1, &key);
}

static __always_inline int is_alias(const struct foreign_addr *a)
{
	return a && a->addr == a->fixed;
}

/* Whether the port may send from the address as it is. */
static __always_inline int may_send_from(const struct vif *vif, __u32 ifindex,
					 const struct addr *a)
{
	return may_have(vif, ifindex, a) || is_alias(find_foreign(vif, ifindex, a));
}

/* Whether a flow went that way before. */
static __always_inline int went(const struct flow *old, const struct foreign_addr *a)
{
	return old && old->vrf == a->vrf && old->nat_src == (is_alias(a) ? 0 : a->addr);
}

#define SAME_WAY 256

/* How well a packet may leave from an address of the port: 0 for not at all, one
 * more than the length of the prefix to its destination, SAME_WAY for what went
 * there before. Not static, so that it is verified once, and not in each turn. */
__noinline int rate_way(struct foreign_addr *a, struct flow_key *key, struct flow *old)
{
	if (!a || !key || a->fixed != key->src.w[3])
		return 0;
	int same = went(old, a);
	if (!same && !(a->flags & FOREIGN_BEGINS))
		return 0;
	struct route *r = find_route(a->vrf, &key->dst);
	if (!r)
		return 0;
	return same ? SAME_WAY : r->bits + 1;
}

/*
 * Finds the network that a packet of a port leaves by and the source that it has
 * there. A flow that has a way stays with it. Else the network with the longest
 * prefix to the destination is taken, the port's own before others; what the
 * port has only in another network leaves by that.
 */
__noinline int find_way(struct vif *vif, struct flow_key *key, struct flow *old, struct flow *f)
{
	if (!vif || !key || !f)
		return DROP_MALFORMED;
	__u32 ifindex = key->scope;
	struct foreign *list = bpf_map_lookup_elem(&foreign_v1, &ifindex);
	struct route *r = 0;

	if (may_have(vif, ifindex, &key->src))
		r = find_route(vif->vrf, &key->dst);
	f->vrf = vif->vrf;
	if (!list || (r && old && old->vrf == vif->vrf && !old->nat_src))
		return DROP_NONE;
	int longest = r ? r->bits + 1 : 0;
	for (__u32 i = 0; i < FOREIGN_ADDRS && i < list->count; i++) {
		struct foreign_addr *a = &list->addr[i];
		int length = rate_way(a, key, old);

		if (length > longest) {
			longest = length;
			f->vrf = a->vrf;
			f->nat_src = is_alias(a) ? 0 : a->addr;
			f->foreign = 1;
		}
	}
	return longest ? DROP_NONE : DROP_NO_ROUTE;
}

/* Makes the address at an offset from the frame's start another one. l4 is the
 * offset of the checksum that covers it, 0 for none. */
static __always_inline int set_address(struct __sk_buff *skb, __u32 at, __u32 l4, __u64 flags,
				       __be32 old, __be32 now)
{
	const __u32 check = sizeof(struct ethhdr) + __builtin_offsetof(struct iphdr, check);

	if (l4 && bpf_l4_csum_replace(skb, l4, old, now, flags | BPF_F_PSEUDO_HDR | sizeof(now)))
		return -1;
	if (bpf_l3_csum_replace(skb, check, old, now, sizeof(now)))
		return -1;
	return bpf_skb_store_bytes(skb, at, &now, sizeof(now), 0) ? -1 : 0;
}

/*
 * An error message quotes the packet that it is about, which went the other way
 * and had the addresses of that side. The quoted header's checksum is set right,
 * so the sum over the whole message stays.
 */
static __always_inline int translate_quote(struct __sk_buff *skb, __u32 icmp, __be32 old_src,
					   __be32 src, __be32 old_dst, __be32 dst)
{
	__u8 type;
	struct iphdr quoted;
	__u32 at = icmp + 8;

	if (bpf_skb_load_bytes(skb, icmp, &type, sizeof(type)))
		return -1;
	if (type != ICMP_UNREACHABLE && type != ICMP_TIME_EXCEEDED && type != ICMP_PARAMETER)
		return 0;
	if (bpf_skb_load_bytes(skb, at, &quoted, sizeof(quoted)))
		return 0; /* it quotes less than a header */
	if (dst && quoted.saddr == old_dst &&
	    (bpf_l3_csum_replace(skb, at + __builtin_offsetof(struct iphdr, check), old_dst, dst, 4) ||
	     bpf_skb_store_bytes(skb, at + __builtin_offsetof(struct iphdr, saddr), &dst, 4, 0)))
		return -1;
	if (src && quoted.daddr == old_src &&
	    (bpf_l3_csum_replace(skb, at + __builtin_offsetof(struct iphdr, check), old_src, src, 4) ||
	     bpf_skb_store_bytes(skb, at + __builtin_offsetof(struct iphdr, daddr), &src, 4, 0)))
		return -1;
	return 0;
}

static __always_inline int set_port(struct __sk_buff *skb, __u32 at, __u32 l4, __u64 flags, __be16 now)
{
	__be16 old;

	if (bpf_skb_load_bytes(skb, at, &old, sizeof(old)) ||
	    bpf_l4_csum_replace(skb, l4, old, now, flags | sizeof(now)))
		return -1;
	return bpf_skb_store_bytes(skb, at, &now, sizeof(now), 0) ? -1 : 0;
}

/* Gives the packet behind the Ethernet header the addresses and ports that its
 * flow says; 0 is left. */
__noinline int translate(struct __sk_buff *skb, __be32 src, __be32 dst, __be16 sport, __be16 dport)
{
	const __u32 at = sizeof(struct ethhdr);

	if (need(skb, at + sizeof(struct iphdr)))
		return -1;
	struct iphdr *ip = packet_at(skb, at);
	if (!in_packet(skb, ip + 1))
		return -1;
	__be32 old_src = ip->saddr, old_dst = ip->daddr;
	__u8 proto = ip->protocol;
	__u32 l4 = at + ip->ihl * 4, check = 0;
	__u64 flags = 0;

	/* Only the first fragment has the header behind. */
	if (ip->frag_off & bpf_htons(IP_FRAGMENT_OFFSET)) {
		proto = 0;
	} else if (proto == IPPROTO_TCP) {
		check = l4 + 16;
	} else if (proto == IPPROTO_UDP) {
		check = l4 + 6;
		flags = BPF_F_MARK_MANGLED_0;
	}
	if (src && set_address(skb, at + __builtin_offsetof(struct iphdr, saddr), check, flags, old_src, src))
		return -1;
	if (dst && set_address(skb, at + __builtin_offsetof(struct iphdr, daddr), check, flags, old_dst, dst))
		return -1;
	if (check && sport && set_port(skb, l4, check, flags, sport))
		return -1;
	if (check && dport && set_port(skb, l4 + sizeof(sport), check, flags, dport))
		return -1;
	if (proto == IPPROTO_ICMP && (sport | dport)) /* the identifier */
		return set_port(skb, l4 + 4, l4 + 2, 0, sport | dport);
	if (proto == IPPROTO_ICMP)
		return translate_quote(skb, l4, old_src, src, old_dst, dst);
	return 0;
}

/*
 * Enters what the port that gets a translated packet has to know for its answer:
 * an entry that is outdated, so that it is decided when there is one. The flow
 * is what was decided of the packet.
 */
__noinline int enter_answer(struct __sk_buff *skb, struct flow_key *key, struct flow *f,
			    __u32 label)
{
	struct flow_key reverse;

	if (!key || !f)
		return 0;
	__u32 ifindex = f->nh.ifindex;
	struct vif *vif = bpf_map_lookup_elem(&vif_v1, &ifindex);
	const struct foreign_addr *a = find_foreign(vif, ifindex, &key->dst);

	if (!vif || !a)
		return 0;
	reverse_key(key, f, label, &reverse);
	if (bpf_map_lookup_elem(&flow_v3, &reverse))
		return 0;
	struct flow *answer = new_flow(SCRATCH_ANSWER, 0);
	if (!answer)
		return 0;
	answer->vrf = a->vrf;
	answer->ifindex = ifindex;
	answer->slot = vif->slot;
	answer->out_slot = NO_SLOT;
	answer->nat_src = is_alias(a) ? 0 : a->addr;
	answer->role = f->role == FLOW_BEGINS ? FLOW_ANSWERS : FLOW_BEGINS;
	return enter_flow(skb, &reverse, 0, answer, 0, vif->label);
}
