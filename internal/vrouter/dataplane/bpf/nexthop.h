// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * From an address to a next hop:
 *
 *   VRF, address -> host route, else longest prefix -> route {next hop, label}
 *     -> local: the port that has the label
 *     -> a node: tunnel with the label
 *     -> a group: the member of the flow's last decision while it is one, else
 *        the one in the slot of the flow's hash
 */
#pragma once

#include "drop_reasons.h"
#include "maps.h"
#include "parse.h"

static __always_inline struct route *find_route(__u32 vrf, const struct addr *a)
{
	/* The tail of the one key is the other: the stack is small. */
	struct route_key key = { .prefix_len = 32 + 128, .vrf = vrf, .addr = *a };
	struct route *r = bpf_map_lookup_elem(&host_route_v2, (struct host_route_key *)&key.vrf);

	if (r)
		return r;
	key.vrf = bpf_htonl(vrf);
	r = bpf_map_lookup_elem(&route_v2, &key);
	/* A prefix of IPv6 that is short enough has the addresses of IPv4 in it. */
	return r && r->bits < MAPPED_BITS && is_mapped(a) ? 0 : r;
}

static __always_inline const struct route *find_member(__u32 group, __u32 label,
						       const struct addr *remote)
{
	struct ecmp_member_key key = { .group = group, .label = label, .remote = *remote };

	return bpf_map_lookup_elem(&ecmp_member_v1, &key);
}

static __always_inline __u32 mix(__u32 h, __u32 w)
{
	w *= 0xcc9e2d51;
	w = w << 15 | w >> 17;
	h ^= w * 0x1b873593;
	h = h << 13 | h >> 19;
	return h * 5 + 0xe6546b64;
}

/* MurmurHash3 of a flow's addresses, protocol and ports. */
static __always_inline __u32 flow_hash(const struct flow_key *key)
{
	__u32 h = key->proto;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		h = mix(h, key->src.w[i]);
		h = mix(h, key->dst.w[i]);
	}
	h = mix(h, (__u32)key->sport << 16 | key->dport);
	h ^= h >> 16;
	h *= 0x85ebca6b;
	h ^= h >> 13;
	h *= 0xc2b2ae35;
	return h ^ h >> 16;
}

/*
 * The member of a group that a flow takes. old is its last decision, or null: a
 * flow stays with its member for as long as that is one, whoever comes and goes.
 */
static __always_inline const struct route *choose_member(__u32 id, const struct ecmp *group,
							 const struct flow_key *key,
							 const struct flow *old)
{
	if (old) {
		const struct route *m = find_member(id, old->nh.label, &old->nh.remote);

		if (m)
			return m;
	}
	__u32 i = group->slot[flow_hash(key) % ECMP_SLOTS] % ECMP_MEMBERS;
	return &group->member[i];
}

/* The inner destination of what goes to a next hop by VXLAN. */
static __always_inline void vxlan_mac(__u32 next_hop, __u8 *mac)
{
	const __u8 vr_mac[6] = VR_MAC;
	struct receiver_mac *m = bpf_map_lookup_elem(&next_hop_mac_v1, &next_hop);

	copy_mac(mac, m ? m->mac : vr_mac);
}

/* Fills in where a route leads a flow, and for VXLAN the receiver's MAC. Returns
 * a drop reason or DROP_NONE. */
static __always_inline int resolve(const struct route *r, const struct flow_key *key,
				   const struct flow *old, struct next_hop *nh, __u8 *dmac)
{
	struct next_hop *n = bpf_map_lookup_elem(&next_hop_v1, &r->next_hop);

	if (n && n->kind == NEXT_HOP_ECMP) {
		struct ecmp *group = bpf_map_lookup_elem(&ecmp_v1, &r->next_hop);

		if (!group)
			return DROP_NEXT_HOP;
		r = choose_member(r->next_hop, group, key, old);
		n = bpf_map_lookup_elem(&next_hop_v1, &r->next_hop);
	}
	nh->label = r->label;
	nh->identity = r->identity;
	if (r->next_hop == NEXT_HOP_ID_LOCAL) {
		__u32 *ifindex = bpf_map_lookup_elem(&label_v1, &r->label);

		if (!ifindex)
			return DROP_NEXT_HOP;
		nh->kind = NEXT_HOP_LOCAL;
		nh->ifindex = *ifindex;
		return DROP_NONE;
	}
	if (r->next_hop == NEXT_HOP_ID_DISCARD)
		return DROP_DISCARD;
	if (!n || n->kind != NEXT_HOP_TUNNEL)
		return DROP_NEXT_HOP;
	nh->kind = NEXT_HOP_TUNNEL;
	nh->encap = n->encap;
	nh->remote = n->remote;
	if (n->encap == ENCAP_VXLAN)
		vxlan_mac(r->next_hop, dmac);
	return DROP_NONE;
}

/* What a route says of another node if it leads there, perhaps among others;
 * else null. */
static __always_inline const struct route *leads_to_node(const struct route *r,
							 const struct addr *node)
{
	struct next_hop *n = bpf_map_lookup_elem(&next_hop_v1, &r->next_hop);

	if (!n)
		return 0;
	if (n->kind == NEXT_HOP_ECMP)
		return find_member(r->next_hop, 0, node);
	return n->kind == NEXT_HOP_TUNNEL && same_addr(&n->remote, node) ? r : 0;
}

/* Whether what a route leads to is behind a port of this node, perhaps among
 * others. */
static __always_inline int is_behind(const struct route *r, __u32 label)
{
	if (r->next_hop >= NEXT_HOP_ID_FIRST) {
		struct ecmp_member_key key = { .group = r->next_hop, .label = label };

		r = bpf_map_lookup_elem(&ecmp_member_v1, &key);
	}
	return r && r->next_hop == NEXT_HOP_ID_LOCAL && r->label == label && r->behind;
}

/* Whether the port has the address itself. */
static __always_inline int owns(const struct vif *vif, __u32 ifindex, const struct addr *a)
{
	if (same_addr(&vif->primary, a))
		return 1;
	struct port_addr_key key = { .ifindex = ifindex, .addr = *a };
	return bpf_map_lookup_elem(&port_addr_v1, &key) != 0;
}

/* Whether the port has the address, or it is behind the port: where a route of
 * its network says so, and none that is more specific leads elsewhere. A route
 * to an address of a port does not say so: it may be outdated. */
static __noinline int may_have(const struct vif *vif, __u32 ifindex, const struct addr *a)
{
	if (!vif || !a)
		return 0;
	if (owns(vif, ifindex, a))
		return 1;
	struct route *r = find_route(vif->vrf, a);

	return r && is_behind(r, vif->label);
}
