// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Probes: the agent asks ports whether they work. It does so from a network
 * namespace of its own, the prober, where each port that is asked has an alias,
 * an address that is nothing anywhere else.
 *
 *   prober -> probe_rx: to an alias? -> to the port's own address, from an
 *             address of its network -> port
 *   port -> vif_rx: answers a probe? -> from the alias, to the prober's own
 *             address -> prober
 *
 * Of what ports send, only the exact other direction of a probe gets there, and
 * it comes from the alias of the very port: no port reaches the prober by
 * itself, or in another's name. Policy is not asked.
 */
#pragma once

#include "maps.h"
#include "nat.h"
#include "parse.h"

/* A port that is asked, and who asks as far as it sees. */
struct probe {
	__u32 ifindex;
	__be32 addr;
	__be32 source;
};

/* What answers a probe, as the port sends it. */
struct probe_key {
	__u32 ifindex;
	__be32 addr;
	__be32 source;
	__be16 sport; /* ICMP: the identifier */
	__be16 dport;
	__u8 proto;
	__u8 pad[3];
};

/* Where the answer goes. */
struct prober {
	__u32 ifindex;
	__be32 alias;
	__be32 addr;
	__u8 mac[6];
	__u16 pad;
};

_Static_assert(sizeof(struct probe) == 12, "probe");
_Static_assert(sizeof(struct probe_key) == 20, "probe_key");
_Static_assert(sizeof(struct prober) == 20, "prober");

/* By alias. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __be32);
	__type(value, struct probe);
} probe_v1 SEC(".maps");

/* Probes that were sent. Only the agent makes them, so that they are few; an old
 * one goes when there are too many. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct probe_key);
	__type(value, struct prober);
} probe_answer_v1 SEC(".maps");

/* Fills in what answers the packet, or with answers, what the packet would
 * answer as. Returns 0 if nothing could. */
static __always_inline int key_of_answer(const struct packet *p, int answers, struct probe_key *key)
{
	const struct flow_key *k = &p->key;

	if (p->fragment || p->v6)
		return 0;
	key->proto = k->proto;
	key->addr = answers ? k->src.w[3] : k->dst.w[3];
	key->source = answers ? k->dst.w[3] : k->src.w[3];
	key->sport = answers ? k->sport : k->dport;
	key->dport = answers ? k->dport : k->sport;
	switch (k->proto) {
	case IPPROTO_TCP:
		return 1;
	case IPPROTO_ICMP:
		key->sport = k->sport;
		key->dport = 0;
		return k->dport == bpf_htons(answers ? ICMP_ECHOREPLY : ICMP_ECHO);
	}
	return 0;
}

/* Makes the answer to a probe one for the prober. Returns the interface that it
 * goes to, 0 for what is none, and less for what cannot be. */
__noinline int answer_probe(struct __sk_buff *skb, struct packet *p, __u32 ifindex)
{
	struct probe_key key = { .ifindex = ifindex };

	if (!p || !key_of_answer(p, 1, &key))
		return 0;
	struct prober *to = bpf_map_lookup_elem(&probe_answer_v1, &key);
	if (!to)
		return 0;
	if (translate(skb, to->alias, to->addr, 0, 0) || set_macs(skb, to->mac, to->mac))
		return -1;
	return to->ifindex;
}

/* Makes what comes from the prober a packet for the port, and remembers what
 * will answer it. Returns a drop reason or DROP_NONE. */
__noinline int enter_probe(struct __sk_buff *skb, struct packet *p, struct probe *to)
{
	struct probe_key key = {};
	struct prober from = { .ifindex = skb->ifindex };

	if (!p || !to || !key_of_answer(p, 0, &key))
		return DROP_PROTOCOL;
	struct ethhdr *eth = packet_at(skb, 0);
	if (!in_packet(skb, eth + 1))
		return DROP_MALFORMED;
	copy_mac(from.mac, eth->h_source);
	from.alias = p->key.dst.w[3];
	from.addr = p->key.src.w[3];
	key.ifindex = to->ifindex;
	key.addr = to->addr;
	key.source = to->source;
	if (bpf_map_update_elem(&probe_answer_v1, &key, &from, BPF_ANY))
		return DROP_NO_PORT;
	return translate(skb, to->source, to->addr, 0, 0) ? DROP_MALFORMED : DROP_NONE;
}
