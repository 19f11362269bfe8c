// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * BGP as a service: a port reaches a control node, which is on the underlay, at
 * an address of its own network, by TCP to the port of BGP alone.
 *
 *   from the port:     A:x -> G:179      becomes  node:S -> control:179
 *   from the underlay: control:179 -> node:S  becomes  G:179 -> A:x
 *
 * The control node knows the port by the node and S, which no other port of the
 * node has. So a port has one connection with a control node: the one that began
 * last, as a peer that was restarted begins anew while the other end still has
 * what was before.
 *
 * To both ends the other one is next to it, as BGP likes it (RFC 5082, and
 * external peers that send with a TTL of 1): the router begins a new TTL.
 */
#pragma once

#include "fabric.h"
#include "flow.h"
#include "limit.h"
#include "maps.h"
#include "nat.h"
#include "parse.h"
#include "policy.h"

#define BGP_PORT 179
#define BGP_TTL 255

static __always_inline const struct bgp_service *find_service(__u32 ifindex, __be32 client,
							      __be32 server)
{
	struct bgp_service_key key = { .ifindex = ifindex, .client = client, .server = server };

	return bpf_map_lookup_elem(&bgp_service_v1, &key);
}

/* The service that a port sends to, or null. */
static __always_inline const struct bgp_service *asked_service(const struct packet *p)
{
	if (p->v6 || p->key.proto != IPPROTO_TCP || p->key.dport != bpf_htons(BGP_PORT))
		return 0;
	return find_service(p->key.scope, p->key.src.w[3], p->key.dst.w[3]);
}

/* Whether a TCP packet begins a connection. */
static __always_inline int begins_connection(struct __sk_buff *skb, const struct packet *p)
{
	__u8 first, flags;

	if (p->fragment == FRAGMENT_LATER || bpf_skb_load_bytes(skb, p->offset, &first, 1) ||
	    bpf_skb_load_bytes(skb, p->offset + (first & 0xf) * 4 + 13, &flags, 1))
		return 0;
	return (flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/*
 * Decides a flow from a port to a service. It needs no policy: who configures
 * the service allows it, for this port. But a port that is closed begins nothing.
 * What is established stays with its control node when the service comes to be
 * that of another. The connection that had the place before is forgotten.
 */
static __noinline int decide_service(struct __sk_buff *skb, struct packet *p, struct vif *vif,
				     struct flow *f, struct flow *old)
{
	struct flow_key answer;

	if (!p || !vif || !f)
		return DROP_MALFORMED;
	__u32 ifindex = p->key.scope;
	const struct bgp_service *s = find_service(ifindex, p->key.src.w[3], p->key.dst.w[3]);
	if (!s)
		return DROP_NO_ROUTE;
	f->vrf = vif->vrf;
	f->ifindex = ifindex;
	f->slot = vif->slot;
	f->out_slot = NO_SLOT;
	f->policy = policy_of_flow(f);
	if (!old && !bpf_map_lookup_elem(&port_policy_v1, &ifindex))
		return DROP_POLICY_PENDING;
	copy_mac(f->smac, vif->mac);
	f->nh.kind = NEXT_HOP_FABRIC;
	f->nat_src = local_ip;
	f->nat_sport = s->sport;
	f->nat_dst = s->control;
	int begins = begins_connection(skb, p);
	if (old && old->nh.kind == NEXT_HOP_FABRIC && old->nat_sport == s->sport && !begins)
		f->nat_dst = old->nat_dst;
	map_v4(&f->nh.remote, f->nat_dst);
	/* There is one: it needs no bound for those without an answer. */
	f->answered = 1;

	reverse_key(&p->key, f, 0, &answer);
	struct flow *other = bpf_map_lookup_elem(&flow_v3, &answer);
	if (!other || (other->ifindex == ifindex && other->nat_dport == p->key.sport &&
		       other->nat_dst == p->key.src.w[3] && other->nat_src == p->key.dst.w[3]))
		return DROP_NONE;
	if (!begins)
		return DROP_BGP_CONNECTION;
	struct flow_key begun;
	reverse_key(&answer, other, 0, &begun);
	end_flow(&begun);
	return DROP_NONE;
}

/* Enters what takes the answers to the port: whole, in place of another one's.
 * The flow is what was decided of the packet; it is used up, for the stack is
 * small. */
static __noinline int enter_service_answer(const struct flow_key *key, struct flow *f)
{
	struct flow_key answer;

	if (!key || !f)
		return 0;
	reverse_key(key, f, 0, &answer);
	copy_mac(f->dmac, f->smac);
	__builtin_memset(f->smac, 0, sizeof(f->smac));
	f->packets = 0;
	f->bytes = 0;
	f->out_slot = f->slot;
	f->limits = limits_of(f, FLOW_FROM_TUNNEL);
	f->role = FLOW_ANSWERS;
	f->nh.kind = NEXT_HOP_LOCAL;
	f->nh.ifindex = f->ifindex;
	f->nat_src = key->dst.w[3];
	f->nat_dst = key->src.w[3];
	f->nat_sport = 0;
	f->nat_dport = key->sport;
	f->policy = policy_of_flow(f);
	/* Without it the flow leads nowhere: then the next packet tries again. */
	if (bpf_map_update_elem(&flow_v3, &answer, f, BPF_ANY))
		bpf_map_delete_elem(&flow_v3, key);
	return 0;
}

/* Makes the time to live another one. */
static __always_inline int set_ttl(struct __sk_buff *skb, __u8 ttl)
{
	const __u32 check = sizeof(struct ethhdr) + __builtin_offsetof(struct iphdr, check);
	const __u32 at = sizeof(struct ethhdr) + __builtin_offsetof(struct iphdr, ttl);
	__u16 old, now;

	if (bpf_skb_load_bytes(skb, at, &old, sizeof(old)))
		return -1;
	now = old;
	*(__u8 *)&now = ttl;
	if (bpf_l3_csum_replace(skb, check, old, now, sizeof(now)))
		return -1;
	return bpf_skb_store_bytes(skb, at, &now, sizeof(now), 0) ? -1 : 0;
}

/*
 * Decides anew the answers of a control node, and enters that. Returns
 * DROP_NONE, why the port gets nothing, or -1 where the port has the service or
 * the address no more: then the answers are the host's, which says that there is
 * no such connection.
 */
static __noinline int renew_answer(const struct flow_key *key, const struct flow *old, __u32 generation)
{
	struct flow *f = new_flow(SCRATCH_ANSWER, generation);
	struct addr own;

	if (!key || !old || !f)
		return -1;
	*f = *old;
	struct vif *vif = bpf_map_lookup_elem(&vif_v1, &f->ifindex);
	map_v4(&own, f->nat_dst);
	const struct bgp_service *s = find_service(f->ifindex, f->nat_dst, f->nat_src);
	if (!vif || !s || s->sport != key->dport ||
	    !may_send_from(vif, f->ifindex, &own))
		return -1;
	if (vif->blocked)
		return DROP_BLOCKED;
	f->generation = generation;
	f->vrf = vif->vrf;
	f->slot = vif->slot;
	f->out_slot = vif->slot;
	f->limits = limits_of(f, FLOW_FROM_TUNNEL);
	f->policy = policy_of_flow(f);
	copy_mac(f->dmac, vif->mac);
	bpf_map_update_elem(&flow_v3, key, f, BPF_EXIST);
	return DROP_NONE;
}

/* Whether a packet of the underlay may be for a port: from BGP of a control node, to
 * a port of NAT, an error about such a packet, or any later fragment. */
static __always_inline int may_be_answer(struct __sk_buff *skb)
{
	const __u32 least = sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr);

	if (skb->protocol != bpf_htons(ETH_P_IP) || need(skb, least))
		return 0;
	struct iphdr *ip = packet_at(skb, sizeof(struct ethhdr));
	__be16 *head = (void *)(ip + 1);
	if (!in_packet(skb, head + 4) || ip->version != 4 || ip->ihl != 5 || ip->daddr != local_ip)
		return 0;
	__u8 proto = ip->protocol;
	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP && proto != IPPROTO_ICMP)
		return 0;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT_OFFSET))
		return 1;
	if (proto != IPPROTO_ICMP)
		return is_nat_port(head[1]) || (proto == IPPROTO_TCP && head[0] == bpf_htons(BGP_PORT));
	__u8 type = *(__u8 *)head;
	return type == ICMP_ECHOREPLY ? is_nat_port(head[2]) : is_icmp_error(type);
}

/* Reads a packet of the underlay that may be for a port, and finds the flow of it;
 * null if it is the host's. */
static __always_inline struct flow *find_answer(struct __sk_buff *skb, struct packet *p)
{
	if (parse_ipv4(skb, sizeof(struct ethhdr), p))
		return 0;
	p->key.scope = FLOW_SCOPE_FABRIC;
	p->key.dir = FLOW_FROM_TUNNEL;
	if (p->fragment == FRAGMENT_LATER)
		follow_fragment(p);
	struct flow *f = bpf_map_lookup_elem(&flow_v3, &p->key);
	if (f && p->fragment == FRAGMENT_FIRST)
		follow_fragment(p);
	return f;
}
