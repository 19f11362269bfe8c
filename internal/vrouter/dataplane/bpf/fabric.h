// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * NAT to the fabric: what a port sends to a link-local service, or to outside of
 * the overlay where its network may go there (SNAT), leaves by the underlay as the
 * node's.
 *
 *   from the port:     A:x -> L:y   becomes  node:S -> F:z    (a service)
 *                      A:x -> D:y   becomes  node:S -> D:y    (SNAT)
 *   from the underlay: F:z -> node:S, D:y -> node:S  become what answers A
 *
 * S is a port of the node that none of its own programs uses. The entry of the
 * answers takes it: entered as one that must not be there yet, so that no two
 * flows with the same far end have the same one. It stays taken for as long as
 * either direction has its entry, see SweepFlows. Echo requests have an
 * identifier in place of a port.
 *
 * Nothing of this gets to a node or a controller, nor to the ports of tunnels:
 * else a container could make what looks like another node's packet.
 */
#pragma once

#include "drop_reasons.h"
#include "encap.h"
#include "flow.h"
#include "limit.h"
#include "maps.h"
#include "nat.h"
#include "parse.h"
#include "policy.h"

/* The node's ports for this, first and how many; none without. */
volatile const __u32 nat_first;
volatile const __u32 nat_ports;

/* A port gets one of this many of them with each far end. So it takes no more than
 * so much of another's, which has others. */
#define NAT_SHARE 4
#define NAT_TRIES 16

#define LINK_LOCAL_NET 0xa9fe0000U /* 169.254.0.0/16 (RFC 3927) */
#define LINK_LOCAL_MASK 0xffff0000U

/* Where a link-local service is that tasks find at an address and port, by TCP and
 * UDP. */
#define LINK_LOCAL_TARGETS 8

struct link_local_key {
	__be32 addr;
	__be16 port;
	__u16 pad;
};

struct link_local {
	__u32 count;
	__be32 addr[LINK_LOCAL_TARGETS];
	__be16 port;
	__u16 pad;
};

/* Prefixes of IPv4 to which nothing of this goes. */
struct refused_key {
	__u32 prefix_len;
	__be32 addr;
};

_Static_assert(sizeof(struct link_local_key) == 8, "link_local_key");
_Static_assert(sizeof(struct link_local) == 40, "link_local");
_Static_assert(sizeof(struct refused_key) == 8, "refused_key");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct link_local_key);
	__type(value, struct link_local);
} link_local_v1 SEC(".maps");

/* Ports that have SNAT, and who all outside is for their policy. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} snat_v1 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct refused_key);
	__type(value, __u32);
} fabric_refused_v1 SEC(".maps");

/* The programs of fabric_rx.h. Pinned, as the kernel empties one that no process has. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} fabric_programs_v1 SEC(".maps");

#define FABRIC_PORT 0
#define FABRIC_UNDERLAY 1

/* The packet that an error message of the underlay quotes, from its IP header on. */
struct quoted {
	__be32 ip[5]; /* struct iphdr, of which Go could not have the type */
	__be16 head[4]; /* ports; of ICMP its type, and the identifier */
	__u32 at;       /* of what follows the header */
};

/* The packet in hand, the other direction of it, and what it quotes: too much for the
 * stack. */
struct fabric_work {
	struct packet p;
	struct packet begun;
	struct flow_key answer;
	struct quoted quoted;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fabric_work);
} fabric_work SEC(".maps");

static __always_inline struct fabric_work *new_fabric_work(void)
{
	__u32 zero = 0;
	struct fabric_work *w = bpf_map_lookup_elem(&fabric_work, &zero);

	if (w)
		__builtin_memset(w, 0, sizeof(*w));
	return w;
}

static __always_inline struct link_local *find_link_local(const struct packet *p)
{
	struct link_local_key key = { .addr = p->key.dst.w[3], .port = p->key.dport };

	if (p->key.proto != IPPROTO_TCP && p->key.proto != IPPROTO_UDP)
		return 0;
	return bpf_map_lookup_elem(&link_local_v1, &key);
}

/* Whether a packet is for a link-local service. */
static __noinline int asks_link_local(const struct packet *p)
{
	if (!p || p->v6 || (p->key.dst.w[3] & bpf_htonl(LINK_LOCAL_MASK)) != bpf_htonl(LINK_LOCAL_NET))
		return 0;
	return find_link_local(p) != 0;
}

/* Whether a port, or an identifier of echo requests, is one for NAT. */
static __always_inline int is_nat_port(__be16 port)
{
	return bpf_ntohs(port) - nat_first < nat_ports;
}

/* Whether a packet of the underlay is an error about another. */
static __always_inline int is_icmp_error(__u8 type)
{
	return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER;
}

/* Whether nothing may go to an address: where no host outside is, and to what the
 * agent knows as nodes and controllers. */
static __noinline int is_refused(__be32 to)
{
	struct refused_key key = { .prefix_len = 32, .addr = to };
	__u32 a = bpf_ntohl(to);

	if (to == local_ip || a >> 24 == 0 || a >> 24 == 127 || a >> 29 == 7 ||
	    (a & LINK_LOCAL_MASK) == LINK_LOCAL_NET)
		return 1;
	return bpf_map_lookup_elem(&fabric_refused_v1, &key) != 0;
}

/* Whether a packet of a port can get a port of the node, and is no tunnel's. */
static __always_inline int can_leave(const struct packet *p)
{
	switch (p->key.proto) {
	case IPPROTO_TCP:
		return 1;
	case IPPROTO_UDP:
		return p->key.dport != bpf_htons(MPLS_UDP_PORT) && p->key.dport != bpf_htons(VXLAN_PORT);
	case IPPROTO_ICMP:
		return p->key.dport == bpf_htons(ICMP_ECHO);
	}
	return 0;
}

/* Whether the entry is of a flow that gets a port of the node. */
static __always_inline int is_nat(const struct flow *f)
{
	return f->fabric == FABRIC_NAT;
}

/* The place of a service that a flow goes to: the one that it had, as long as that
 * is one. */
static __always_inline __be32 choose_target(const struct link_local *s, const struct flow_key *key,
					    const struct flow *old)
{
	if (old && is_nat(old)) {
		for (__u32 i = 0; i < LINK_LOCAL_TARGETS; i++) {
			if (i < s->count && s->addr[i] == old->nat_dst)
				return old->nat_dst;
		}
	}
	if (!s->count)
		return 0;
	__u32 at = flow_hash(key) % s->count;

	asm volatile("" : "+r"(at)); /* else the bound that the verifier wants is left out */
	return s->addr[at & (LINK_LOCAL_TARGETS - 1)];
}

/*
 * Decides a flow from a port to the fabric, but for the port of the node. Who
 * configures a link-local service allows it, for all; what goes by SNAT is asked
 * about like any other flow, to the network that all outside is in.
 */
static __noinline int decide_fabric(struct __sk_buff *skb, struct packet *p, struct vif *vif,
				    struct flow *f, struct flow *old)
{
	if (!p || !vif || !f)
		return DROP_MALFORMED;
	__u32 ifindex = p->key.scope;

	f->vrf = vif->vrf;
	f->ifindex = ifindex;
	f->slot = vif->slot;
	f->out_slot = NO_SLOT;
	copy_mac(f->smac, vif->mac);
	f->nh.kind = NEXT_HOP_FABRIC;
	f->fabric = FABRIC_NAT;
	f->nat_src = local_ip;
	/* An entry of other times, as of a route that is gone, says nothing: neither
	 * whether this answers, nor whose the answers are, which a refusal ends. */
	if (old && !is_nat(old))
		old = 0;
	if (old)
		f->nat_sport = old->nat_sport;
	__be32 far = p->key.dst.w[3];
	struct link_local *s = find_link_local(p);
	if (s) {
		f->policy = policy_of_flow(f);
		if (!old && !bpf_map_lookup_elem(&port_policy_v1, &ifindex))
			return DROP_POLICY_PENDING;
		far = choose_target(s, &p->key, old);
		f->nat_dst = far;
		f->nat_dport = s->port;
	} else {
		__u32 *outside = bpf_map_lookup_elem(&snat_v1, &ifindex);

		if (!outside)
			return DROP_NO_ROUTE;
		if (p->fragment == FRAGMENT_LOST)
			return DROP_FRAGMENT;
		f->nh.identity = *outside;
		if (!can_leave(p))
			return DROP_NAT_PROTOCOL;
	}
	map_v4(&f->nh.remote, far);
	if (is_refused(far))
		return DROP_NAT_DESTINATION;
	return s ? DROP_NONE : judge(skb, p, old, f, vif->label);
}

/* Fills in the entry of the answers to a flow; what it was translated to is in the
 * key. */
static __always_inline void fill_answer(struct flow *a, const struct flow_key *key, const struct flow *f)
{
	__u64 now = bpf_ktime_get_coarse_ns();

	a->vrf = f->vrf;
	a->ifindex = f->ifindex;
	a->slot = f->slot;
	a->out_slot = f->slot;
	copy_mac(a->dmac, f->smac);
	a->role = FLOW_ANSWERS;
	a->fabric = FABRIC_NAT;
	a->nh.kind = NEXT_HOP_LOCAL;
	a->nh.ifindex = f->ifindex;
	a->nh.identity = f->nh.identity;
	a->policy = policy_of_flow(a);
	a->limits = limits_of(a, FLOW_FROM_TUNNEL);
	a->nat_src = key->dst.w[3];
	a->nat_dst = key->src.w[3];
	a->nat_dport = key->sport;
	if (f->nat_dport)
		a->nat_sport = key->dport;
	a->created = now;
	a->last_seen = now;
}

static __always_inline int answers_to(const struct flow *a, const struct flow_key *key)
{
	return is_nat(a) && a->ifindex == key->scope && a->nat_dst == key->src.w[3] && a->nat_src == key->dst.w[3] &&
	       a->nat_dport == key->sport && (!a->nat_sport || a->nat_sport == key->dport);
}

/* One of the ports that a slot may have. */
static __always_inline __be16 pick_port(__u32 slot)
{
	__u32 at = bpf_get_prandom_u32() % (nat_ports / NAT_SHARE);

	return bpf_htons(nat_first + at * NAT_SHARE + (mix(slot, at) >> 16) % NAT_SHARE);
}

/*
 * Takes a port of the node for a flow, by the entry of its answers, whose key is
 * then in *w: the one that it had, as long as nobody else has. Returns a drop reason
 * or DROP_NONE.
 */
static __noinline int take_port(struct fabric_work *w, struct flow *f, struct flow *old)
{
	struct flow *a = w && f ? new_flow(SCRATCH_ANSWER, f->generation) : 0;

	if (!a)
		return DROP_MALFORMED;
	fill_answer(a, &w->p.key, f);
	if (old && is_nat(old) && old->nat_dst == f->nat_dst && old->nat_dport == f->nat_dport) {
		f->nat_sport = old->nat_sport;
		reverse_key(&w->p.key, f, 0, &w->answer);
		struct flow *now = bpf_map_lookup_elem(&flow_v3, &w->answer);

		if (now && answers_to(now, &w->p.key)) {
			a->packets = now->packets;
			a->bytes = now->bytes;
			a->created = now->created;
			bpf_map_update_elem(&flow_v3, &w->answer, a, BPF_EXIST);
			return DROP_NONE;
		}
		if (!now && !bpf_map_update_elem(&flow_v3, &w->answer, a, BPF_NOEXIST))
			return DROP_NONE;
	}
	if (nat_ports < NAT_SHARE)
		return DROP_NAT_PORTS;
	for (int i = 0; i < NAT_TRIES; i++) {
		f->nat_sport = pick_port(f->slot);
		reverse_key(&w->p.key, f, 0, &w->answer);
		long err = bpf_map_update_elem(&flow_v3, &w->answer, a, BPF_NOEXIST);

		if (!err)
			return DROP_NONE;
		if (err != -17 /* EEXIST */)
			return DROP_FLOW_TABLE_FULL;
	}
	return DROP_NAT_PORTS;
}

/* Enters a flow and its answers. Returns a drop reason or DROP_NONE. */
static __noinline int enter_fabric(struct __sk_buff *skb, struct fabric_work *w, struct flow *f,
				   struct flow *old)
{
	if (!w || !f)
		return DROP_MALFORMED;
	int reason = take_port(w, f, old);
	if (reason)
		return reason;
	reason = enter_flow(skb, &w->p.key, old, f, skb->len, 0);
	if (old)
		return reason;
	if (reason) {
		bpf_map_delete_elem(&flow_v3, &w->answer);
		return reason;
	}
	/* Another CPU may have been faster with the same flow: then it has that port. */
	struct flow *now = bpf_map_lookup_elem(&flow_v3, &w->p.key);
	if (now && now->nat_sport != f->nat_sport) {
		bpf_map_delete_elem(&flow_v3, &w->answer);
		f->nat_sport = now->nat_sport;
	}
	return DROP_NONE;
}
