// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The programs for NAT to the fabric: fabric_port_rx goes on where vif_rx has found
 * no route, or a link-local service, fabric_underlay_rx where underlay_rx has an
 * answer whose decision is outdated, or an error about a packet of ours. What has a
 * current entry is forwarded without them.
 */
#pragma once

#include "fabric.h"

static __always_inline int has_options(struct __sk_buff *skb)
{
	__u8 first;

	return bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &first, 1) || (first & 0xf) != 5;
}

SEC("tc")
int fabric_port_rx(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	__u32 generation = current_generation();
	struct fabric_work *w = new_fabric_work();

	if (!w)
		return drop(skb, DROP_MALFORMED, ifindex);
	struct packet *p = &w->p;
	int reason = parse_ipv4(skb, sizeof(struct ethhdr), p);
	if (reason)
		return drop(skb, reason, ifindex);
	p->key.scope = ifindex;
	p->key.dir = FLOW_FROM_PORT;
	if (p->fragment)
		follow_fragment(p);
	/* vif_rx has asked the same; but this is another generation, perhaps. */
	struct vif *vif = bpf_map_lookup_elem(&vif_v1, &ifindex);
	if (!vif)
		return drop(skb, DROP_NO_PORT, ifindex);
	if (vif->blocked)
		return drop(skb, DROP_BLOCKED, ifindex);
	if (!may_send_from(vif, ifindex, &p->key.src))
		return drop(skb, DROP_SOURCE_ADDRESS, ifindex);
	struct flow *old = bpf_map_lookup_elem(&flow_v3, &p->key);
	struct flow *fresh = new_flow(SCRATCH_DECISION, generation);
	if (!fresh)
		return drop(skb, DROP_MALFORMED, ifindex);
	reason = decide_fabric(skb, p, vif, fresh, old);
	/* Options, such as a route of the sender's own, do not leave as the node's. */
	if (reason == DROP_NONE && has_options(skb))
		reason = DROP_NAT_PROTOCOL;
	if (reason == DROP_NONE && p->ttl <= 1)
		reason = DROP_TTL;
	fresh->limits = limits_of(fresh, FLOW_FROM_PORT);
	if (reason == DROP_NONE && fresh->limits && exceeds(skb, fresh, skb->len))
		return TC_ACT_SHOT;
	if (reason == DROP_NONE)
		reason = enter_fabric(skb, w, fresh, old);
	if (reason)
		return drop(skb, reason > 0 ? reason : DROP_NAT_PROTOCOL, ifindex);
	return to_fabric(skb, p, fresh, ifindex);
}

/*
 * Decides anew the answers to a flow, whose key is that of w->p, and enters that.
 * Returns DROP_NONE, why the port gets nothing, or -1 where there is no such flow
 * any more: then the answer is the host's.
 */
static __noinline int renew_fabric(struct __sk_buff *skb, struct fabric_work *w, struct flow *f,
				   __u32 generation)
{
	struct addr own;

	if (!w || !f)
		return -1;
	struct packet *begun = &w->begun;
	reverse_key(&w->p.key, f, 0, &begun->key);
	begun->offset = sizeof(struct ethhdr);
	__u32 ifindex = f->ifindex;
	struct flow *old = bpf_map_lookup_elem(&flow_v3, &begun->key);
	struct vif *vif = bpf_map_lookup_elem(&vif_v1, &ifindex);
	map_v4(&own, f->nat_dst);
	if (!old || !is_nat(old) || !vif || !may_send_from(vif, ifindex, &own))
		return -1;
	if (vif->blocked)
		return DROP_BLOCKED;
	struct flow *fresh = new_flow(SCRATCH_DECISION, generation);
	if (!fresh)
		return -1;
	int reason = decide_fabric(skb, begun, vif, fresh, old);
	if (reason == DROP_NO_ROUTE || (!reason && (fresh->nat_dst != old->nat_dst || fresh->nat_dport != old->nat_dport)))
		return -1;
	if (reason)
		return reason > 0 ? reason : DROP_NAT_PROTOCOL;
	fresh->nat_sport = old->nat_sport;
	struct flow *a = new_flow(SCRATCH_ANSWER, generation);
	if (!a)
		return -1;
	fill_answer(a, &begun->key, fresh);
	a->packets = f->packets;
	a->bytes = f->bytes;
	a->created = f->created;
	bpf_map_update_elem(&flow_v3, &w->p.key, a, BPF_EXIST);
	return DROP_NONE;
}

/* Reads what an error quotes, and makes the key of w->p that of the answers to it.
 * Returns 0 if it is no packet of a port. */
static __always_inline int read_quoted(struct __sk_buff *skb, struct fabric_work *w, struct quoted *q)
{
	struct iphdr *ip = (void *)q->ip;
	__u32 at = w->p.offset + w->p.header_len + ICMP_HEADER;

	if (bpf_skb_load_bytes(skb, at, ip, sizeof(*ip)) || ip->version != 4 || ip->ihl < 5 ||
	    ip->saddr != local_ip || ip->frag_off & bpf_htons(IP_FRAGMENT_OFFSET))
		return 0;
	q->at = at + ip->ihl * 4;
	if (bpf_skb_load_bytes(skb, q->at, q->head, sizeof(q->head)))
		return 0;
	struct flow_key *key = &w->p.key;

	key->proto = ip->protocol;
	key->sport = q->head[1];
	key->dport = q->head[0];
	map_v4(&key->src, ip->daddr);
	map_v4(&key->dst, local_ip);
	if (key->proto == IPPROTO_ICMP) {
		if (*(__u8 *)q->head != ICMP_ECHO)
			return 0;
		key->sport = q->head[2];
		key->dport = bpf_htons(ICMP_ECHOREPLY);
	}
	return 1;
}

/* Gives the quoted packet the ports that it had, and the address of the service. */
static __noinline int restore_quoted(struct __sk_buff *skb, const struct flow *f, struct quoted *q)
{
	const __u32 icmp = sizeof(struct ethhdr) + sizeof(struct iphdr) + 2; /* checksum */

	if (!f || !q)
		return -1;
	const struct iphdr *head = (void *)q->ip;
	__u32 ip = q->at - head->ihl * 4;
	if (head->protocol == IPPROTO_ICMP)
		return set_port(skb, q->at + 4, q->at + 2, 0, f->nat_dport);
	/* The header's own sum is set right, so that over the message stays. */
	__be32 to = f->nat_src, had;
	const __u32 daddr = ip + __builtin_offsetof(struct iphdr, daddr);
	if (bpf_skb_load_bytes(skb, daddr, &had, sizeof(had)))
		return -1;
	if (had != to &&
	    (bpf_l3_csum_replace(skb, ip + __builtin_offsetof(struct iphdr, check), had, to, sizeof(to)) ||
	     bpf_skb_store_bytes(skb, daddr, &to, sizeof(to), 0)))
		return -1;
	if (set_port(skb, q->at, icmp, 0, f->nat_dport))
		return -1;
	return f->nat_sport ? set_port(skb, q->at + 2, icmp, 0, f->nat_sport) : 0;
}

/* Hands the port an error about what it sent to the fabric: "too big", mostly. It
 * comes from whatever router, but for a service, of which the port knows one
 * address. */
static __noinline int hand_error(struct __sk_buff *skb, struct fabric_work *w, const struct flow *f)
{
	if (!w || !f)
		return TC_ACT_SHOT;
	__be32 from = f->nat_src != w->p.key.src.w[3] ? f->nat_src : 0;
	__u32 ifindex = f->ifindex, slot = f->out_slot;
	__u8 mac[6];

	copy_mac(mac, f->dmac);
	if (w->p.ttl <= 1)
		return drop(skb, DROP_TTL, ifindex);
	if (exceeds_ingress(skb, slot, ifindex))
		return TC_ACT_SHOT;
	if (restore_quoted(skb, f, &w->quoted) || translate(skb, from, f->nat_dst, 0, 0) ||
	    set_ttl(skb, w->p.ttl - 1))
		return drop(skb, DROP_MALFORMED, ifindex);
	return deliver(skb, mac, ifindex, slot);
}

SEC("tc")
int fabric_underlay_rx(struct __sk_buff *skb)
{
	__u32 generation = current_generation();
	struct fabric_work *w = new_fabric_work();

	if (!w)
		return VERDICT_NEXT;
	struct packet *p = &w->p;
	if (parse_ipv4(skb, sizeof(struct ethhdr), p))
		return VERDICT_NEXT;
	p->key.scope = FLOW_SCOPE_FABRIC;
	p->key.dir = FLOW_FROM_TUNNEL;
	int error = p->key.proto == IPPROTO_ICMP && !p->fragment && is_icmp_error(bpf_ntohs(p->key.dport));
	if (error && !read_quoted(skb, w, &w->quoted))
		return VERDICT_NEXT;
	if (p->fragment == FRAGMENT_LATER)
		follow_fragment(p);
	struct flow *f = bpf_map_lookup_elem(&flow_v3, &p->key);
	if (!f || !is_nat(f))
		return VERDICT_NEXT;
	__u32 ifindex = f->ifindex;
	int reason = renew_fabric(skb, w, f, generation);
	if (reason < 0)
		return VERDICT_NEXT;
	if (reason)
		return drop(skb, reason, ifindex);
	f = bpf_map_lookup_elem(&flow_v3, &p->key);
	if (!f)
		return VERDICT_NEXT;
	return error ? hand_error(skb, w, f) : hand_answer(skb, p, f);
}
