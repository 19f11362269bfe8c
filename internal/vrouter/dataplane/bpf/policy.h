// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Policy of flows. What begins a connection is asked against the sets of the
 * ports at its ends, as far as they are here: those of the port that it leaves
 * or arrives at, and on a node that has both, of both. What answers passes as a
 * part of the connection: it is decided by asking about its beginning.
 *
 * A flow entry holds as long as nothing has changed in the policy of its ports,
 * which is one comparison. Who is refused has no entry.
 */
#pragma once

#include "flow.h"
#include "flow_events.h"
#include "parse6.h"
#include "policy_set.h"
#include "rule_count.h"

/* Functions that are not static are verified once, for any arguments, and not
 * once for each way that leads to their calls. What such a function is given is
 * no key or value of a map: Linux 6.1 takes only the function's own memory for
 * that, and a map's. */

/* Sets of a port by what they are asked about; 0 is no set, which passes. */
enum policy_kind {
	POLICY_NETWORK,
	POLICY_FIREWALL,
	POLICY_ARRIVING, /* security groups */
	POLICY_LEAVING,
	POLICY_KINDS
};

/* What a port is to policy. A port without is closed. */
struct port_policy {
	__u32 identity;
	__u32 sets[POLICY_KINDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct port_policy);
} port_policy_v1 SEC(".maps");

/* Changes of the policy of the port that has the slot. Never goes back. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} policy_generation_v1 SEC(".maps");

#define IDENTITY_VALUES 126

/* Who is at the end of routes and behind ports; the programs need no more than
 * the network of it. */
struct identity {
	__u32 network;
	__u16 groups; /* how many values are groups, those first */
	__u16 tags;
	__u32 values[IDENTITY_VALUES];
};

_Static_assert(sizeof(struct port_policy) == 20, "port_policy");
_Static_assert(sizeof(struct identity) == 512, "identity");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct identity);
} identity_v1 SEC(".maps");

/* The first fragment of a datagram tells the ports of the others. An LRU: who
 * floods it costs others a datagram, no connection. */
struct fragment_key {
	struct addr src;
	struct addr dst;
	__u32 scope;
	__be16 id;
	__u8 proto;
	__u8 dir;
};

struct fragment {
	__be16 sport;
	__be16 dport;
	__u32 icmp;
};

_Static_assert(sizeof(struct fragment_key) == 40, "fragment_key");
_Static_assert(sizeof(struct fragment) == 8, "fragment");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
} fragment_v1 SEC(".maps");

/* The same of IPv6, whose datagrams have longer numbers. What protocol they are of
 * only the first fragment says. */
struct fragment6_key {
	struct addr src;
	struct addr dst;
	__u32 scope;
	__be32 id;
	__u8 dir;
	__u8 pad[3];
};

struct fragment6 {
	__be16 sport;
	__be16 dport;
	__u8 icmp;
	__u8 proto;
	__u16 pad;
};

_Static_assert(sizeof(struct fragment6_key) == 44, "fragment6_key");
_Static_assert(sizeof(struct fragment6) == 8, "fragment6");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct fragment6_key);
	__type(value, struct fragment6);
} fragment6_v1 SEC(".maps");

static __noinline int follow_fragment6(struct packet *p)
{
	if (!p)
		return 0;
	struct fragment6_key key = {
		.src = p->key.src, .dst = p->key.dst, .scope = p->key.scope,
		.id = p->id, .dir = p->key.dir,
	};
	if (p->fragment == FRAGMENT_FIRST) {
		struct fragment6 f = {
			.sport = p->key.sport, .dport = p->key.dport,
			.icmp = p->icmp_code, .proto = p->key.proto,
		};
		bpf_map_update_elem(&fragment6_v1, &key, &f, BPF_ANY);
		return 0;
	}
	struct fragment6 *f = bpf_map_lookup_elem(&fragment6_v1, &key);
	if (!f) {
		p->fragment = FRAGMENT_LOST;
		return 0;
	}
	p->key.proto = f->proto;
	p->key.sport = f->sport;
	p->key.dport = f->dport;
	p->icmp_code = f->icmp;
	return 0;
}

/* Gives a fragment other than the first the ports of its datagram. The key of
 * p is complete but for these. */
__noinline int follow_fragment(struct packet *p)
{
	if (!p)
		return 0;
	if (p->v6)
		return follow_fragment6(p);
	struct fragment_key key = {
		.src = p->key.src, .dst = p->key.dst, .scope = p->key.scope,
		.id = p->id, .proto = p->key.proto, .dir = p->key.dir,
	};
	if (p->fragment == FRAGMENT_FIRST) {
		struct fragment f = {
			.sport = p->key.sport, .dport = p->key.dport, .icmp = p->icmp_code,
		};
		bpf_map_update_elem(&fragment_v1, &key, &f, BPF_ANY);
		return 0;
	}
	struct fragment *f = bpf_map_lookup_elem(&fragment_v1, &key);
	if (!f) {
		p->fragment = FRAGMENT_LOST;
		return 0;
	}
	p->key.sport = f->sport;
	p->key.dport = f->dport;
	p->icmp_code = f->icmp;
	return 0;
}

static __always_inline __u32 policy_generation(__u32 slot)
{
	__u32 *g = bpf_map_lookup_elem(&policy_generation_v1, &slot);

	return g ? *(volatile __u32 *)g : 0;
}

/* Changes of policy that a flow's decision depends on. Each count only grows,
 * so the sum is the same as long as neither has changed. */
static __always_inline __u32 policy_of_flow(const struct flow *f)
{
	__u32 sum = policy_generation(f->slot);

	if (f->out_slot != NO_SLOT && f->out_slot != f->slot)
		sum += policy_generation(f->out_slot);
	return sum;
}

static __always_inline int asks(const struct port_policy *p)
{
	return p && (p->sets[POLICY_NETWORK] | p->sets[POLICY_FIREWALL] |
		     p->sets[POLICY_ARRIVING] | p->sets[POLICY_LEAVING]);
}

static __always_inline __u32 network_of(__u32 identity)
{
	struct identity *i = bpf_map_lookup_elem(&identity_v1, &identity);

	return i ? i->network : 0;
}

static __always_inline int ask(struct policy_query *q, __u32 set, int refused)
{
	if (!set)
		return DROP_NONE;
	q->number = set;
	int verdict = ask_set(q);
	if (verdict == POLICY_PASSED)
		return DROP_NONE;
	return verdict == POLICY_UNKNOWN ? DROP_POLICY_PENDING : refused;
}

/* Asks the sets of a port about a connection that leaves or arrives there. */
__noinline int ask_port(struct policy_query *q, struct port_policy *policy,
			       __u32 network, int leaves)
{
	if (!q || !policy)
		return DROP_POLICY_PENDING;
	q->own = network;
	int reason = ask(q, policy->sets[POLICY_NETWORK], DROP_POLICY_NETWORK);
	if (reason)
		return reason;
	reason = ask(q, policy->sets[POLICY_FIREWALL], DROP_POLICY_FIREWALL);
	if (reason)
		return reason;
	return ask(q, leaves ? policy->sets[POLICY_LEAVING] : policy->sets[POLICY_ARRIVING],
		   DROP_POLICY_GROUP);
}

/* Fills in what a connection is by the key of one of its directions. A port with
 * a translated address is known by that, as it is at the other end; but not by the
 * node's, which all share. */
static __always_inline void describe(struct policy_query *q, const struct packet *p,
				     const struct flow *f, int answer)
{
	const struct flow_key *k = &p->key;

	q->src.addr = answer ? k->dst : k->src;
	q->dst.addr = answer ? k->src : k->dst;
	if (f->nat_src && f->nh.kind != NEXT_HOP_FABRIC)
		map_v4(answer ? &q->dst.addr : &q->src.addr, f->nat_src);
	q->service = (p->v6 ? 6 : 4) << 8 | k->proto;
	if (is_icmp(k->proto)) {
		__u16 type = bpf_ntohs(k->dport);

		q->sport = answer ? icmp_answer(k->proto, type) : type;
		q->dport = answer ? 0 : p->icmp_code;
		return;
	}
	q->sport = bpf_ntohs(answer ? k->dport : k->sport);
	q->dport = bpf_ntohs(answer ? k->sport : k->dport);
}

/* The same as is_about_flow for IPv6. The quoted packet is as its sender made it,
 * with its extension headers, and may be cut off behind them. */
__noinline int is_about_flow6(struct __sk_buff *skb, struct packet *p, struct flow *f,
			      __u32 label)
{
	__u32 zero = 0;
	struct policy_query *q = bpf_map_lookup_elem(&policy_query, &zero);

	if (!p || !f || !q)
		return 0;
	__u16 type = bpf_ntohs(p->key.dport);
	if (p->key.proto != IPPROTO_ICMPV6 || p->fragment || type < ICMP6_UNREACHABLE ||
	    type > ICMP6_PARAMETER)
		return 0;

	struct ipv6hdr *ip = (void *)q->quoted.ip;
	struct upper *u = &q->quoted.upper;
	__be16 *head = q->quoted.head;
	__u32 at = p->offset + p->header_len + ICMP_HEADER;
	if (bpf_skb_load_bytes(skb, at, ip, sizeof(*ip)) || ip->version != 6)
		return 0;
	__builtin_memset(u, 0, sizeof(*u));
	u->at = sizeof(*ip);
	u->proto = ip->nexthdr;
	if (is_extension(u->proto) &&
	    (walk_extensions(skb, at, skb->len - at, u) || u->fragment == FRAGMENT_LATER))
		return 0;
	if (bpf_skb_load_bytes(skb, at + u->at, head, sizeof(q->quoted.head)))
		return 0;
	struct flow_key *key = &q->about;

	key->scope = p->key.scope;
	key->dir = p->key.dir;
	key->pad = 0;
	key->proto = u->proto;
	key->sport = head[1];
	key->dport = head[0];
	copy_addr(&key->src, &ip->daddr);
	copy_addr(&key->dst, &ip->saddr);
	if (is_mapped(&key->src) || !same_addr(&key->dst, &p->key.dst))
		return 0;
	if (u->proto == IPPROTO_ICMPV6) {
		type = *(__u8 *)head;
		key->sport = icmp_answer(u->proto, type) != type ? head[2] : 0;
		key->dport = bpf_htons(icmp_answer(u->proto, type));
	} else if (u->proto != IPPROTO_TCP && u->proto != IPPROTO_UDP && u->proto != IPPROTO_SCTP) {
		key->sport = 0;
		key->dport = 0;
	}
	if (bpf_map_lookup_elem(&flow_v3, key))
		return 1;
	return find_reverse(key, f, label, &q->reverse) != 0;
}

/* Whether an ICMP error is about a packet of a flow that there is. Its sender
 * may be any router on the way. */
__noinline int is_about_flow(struct __sk_buff *skb, struct packet *p, struct flow *f,
				    __u32 label)
{
	__u32 zero = 0;
	struct policy_query *q = bpf_map_lookup_elem(&policy_query, &zero);

	if (!p || !f || !q)
		return 0;
	__u16 type = bpf_ntohs(p->key.dport);
	if (p->key.proto != IPPROTO_ICMP || (type != ICMP_UNREACHABLE && type != ICMP_TIME_EXCEEDED && type != ICMP_PARAMETER))
		return 0;

	struct iphdr ip;
	__u32 at = p->offset + p->header_len + ICMP_HEADER;
	if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5 ||
	    ip.frag_off & bpf_htons(IP_FRAGMENT_OFFSET))
		return 0;
	__be16 head[4];
	if (bpf_skb_load_bytes(skb, at + ip.ihl * 4, head, sizeof(head)))
		return 0;
	/* As if it were an answer to that packet. */
	struct flow_key *key = &q->about;

	key->scope = p->key.scope;
	key->dir = p->key.dir;
	key->pad = 0;
	key->proto = ip.protocol;
	key->sport = head[1];
	key->dport = head[0];
	map_v4(&key->src, ip.daddr);
	map_v4(&key->dst, ip.saddr);
	if (!same_addr(&key->dst, &p->key.dst))
		return 0;
	if (ip.protocol == IPPROTO_ICMP) {
		type = *(__u8 *)head;
		key->sport = icmp_reverse(type) != type ? head[2] : 0;
		key->dport = bpf_htons(icmp_reverse(type));
	} else if (ip.protocol != IPPROTO_TCP && ip.protocol != IPPROTO_UDP &&
		   ip.protocol != IPPROTO_SCTP) {
		key->sport = 0;
		key->dport = 0;
	}
	if (bpf_map_lookup_elem(&flow_v3, key))
		return 1;
	return find_reverse(key, f, label, &q->reverse) != 0;
}

/* Whether a decision is about the same ports as an earlier one: an address may be
 * another port's since then. */
static __always_inline int same_ports(const struct flow *f, const struct flow *old)
{
	return old->ifindex == f->ifindex &&
	       (f->nh.kind != NEXT_HOP_LOCAL ||
		(old->nh.kind == NEXT_HOP_LOCAL && old->nh.ifindex == f->nh.ifindex));
}

/* Whether a flow answers the one that its reverse key leads to: at the address
 * that this one came from, if the port has several. */
static __always_inline int is_answer(const struct flow_key *key, const struct flow *f,
				     const struct flow *begun)
{
	return begun && begun->role == FLOW_BEGINS &&
	       begun->nat_src == (f->nat_dst ? key->dst.w[3] : 0);
}

/* Has user space know of a refusal, if it is one. */
static __noinline int refused(struct __sk_buff *skb, struct packet *p, struct flow *f, int reason)
{
	if (reason > DROP_NONE && p && f)
		tell_refusal(&p->key, f, packets_of(skb), skb->len - p->offset + sizeof(struct ethhdr), reason);
	return reason;
}

/* The packet passes and has no entry. */
#define PASS_ONCE -1

/*
 * Decides by policy a flow that everything else lets pass. old is its entry,
 * which something has outdated, or null; f has the decision but for role and
 * policy; label is that of the port f->ifindex. Returns a drop reason,
 * DROP_NONE or PASS_ONCE.
 */
__noinline int judge(struct __sk_buff *skb, struct packet *p, struct flow *old,
			    struct flow *f, __u32 label)
{
	if (!p || !f)
		return DROP_MALFORMED;
	/* Before the policies are read: what changes meanwhile outdates us. */
	f->policy = policy_of_flow(f);
	__u32 ifindex = f->ifindex, peer = f->nh.ifindex;
	struct port_policy *own = bpf_map_lookup_elem(&port_policy_v1, &ifindex), *other = 0;
	int from_port = p->key.dir == FLOW_FROM_PORT;
	int local = from_port && f->nh.kind == NEXT_HOP_LOCAL;
	if (local)
		other = bpf_map_lookup_elem(&port_policy_v1, &peer);
	int established = old && same_ports(f, old);
	if (!own || (local && !other)) {
		/* Of an earlier agent, or the control nodes are away: what is
		 * established stays, and nothing new begins. */
		if (!established)
			return refused(skb, p, f, DROP_POLICY_PENDING);
		f->role = old->role;
		return DROP_NONE;
	}

	__u32 zero = 0;
	struct policy_query *q = bpf_map_lookup_elem(&policy_query, &zero);
	if (!q)
		return DROP_POLICY_PENDING;
	if (old) {
		f->role = old->role;
	} else {
		struct flow *back = find_reverse(&p->key, f, label, &q->reverse);

		f->role = is_answer(&p->key, f, back) ? FLOW_ANSWERS : FLOW_BEGINS;
		/* It was forgotten, and its answers were not. */
		f->answered = back && back->role == FLOW_ANSWERS && back->packets;
	}
	if (!asks(own) && !asks(other))
		return DROP_NONE;
	if (p->fragment == FRAGMENT_LOST)
		return DROP_FRAGMENT;
	if (!old && (p->v6 ? is_about_flow6(skb, p, f, label) : is_about_flow(skb, p, f, label)))
		return PASS_ONCE;

	int answer = f->role == FLOW_ANSWERS;
	int leaves = from_port != answer;
	__u32 network = network_of(own->identity);
	__u32 far = local ? other->identity : f->nh.identity;
	__u32 far_network = network_of(far);

	describe(q, p, f, answer);
	q->src.identity = leaves ? own->identity : far;
	q->src.network = leaves ? network : far_network;
	q->dst.identity = leaves ? far : own->identity;
	q->dst.network = leaves ? far_network : network;
	q->asked = 0;
	int reason = ask_port(q, own, network, leaves);
	if (!reason && local)
		reason = ask_port(q, other, far_network, !leaves);
	if (!old && !answer)
		count_rules(q);
	/* What is only not known yet does not end what is established. */
	if (reason == DROP_POLICY_PENDING && established)
		return DROP_NONE;
	if (reason && (old || answer)) { /* both directions begin anew */
		reverse_key(&p->key, f, label, &q->reverse);
		q->about = p->key;
		end_flow(&q->about);
		end_flow(&q->reverse);
	}
	return refused(skb, p, f, reason);
}
