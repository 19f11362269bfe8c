// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What comes from the underlay: which packets are tunnels' to this node, what
 * their outer headers say, and the answer to ARP that comes by VXLAN.
 */
#pragma once

#include "arp.h"
#include "bridge.h"
#include "encap.h"
#include "flow.h"
#include "nexthop.h"
#include "parse.h"
#include "router.h"

/* The outer headers of a packet that came by a tunnel. */
struct arrival {
	__be32 source; /* outer source address */
	__u32 encap;
	__u32 size;    /* of the outer headers */
	__u32 vrf;     /* VXLAN */
	__be16 proto;  /* VXLAN: of the inner frame */
	__u8 dmac[6];  /* VXLAN: of the inner frame */
	__u32 bridged; /* VXLAN: the inner frame goes as it is */
};

/* Whether the packet is of a VLAN on the device, which has a device of its own
 * and comes from others than the underlay's. A tag without a VLAN has only a
 * priority (IEEE 802.1Q 6.9). */
static __always_inline int is_of_vlan(const struct __sk_buff *skb)
{
	return skb->vlan_present && skb->vlan_tci & 0xfff;
}

/*
 * Whether the packet is a tunnel's to this node; then it is ours, to deliver or
 * to drop. Other GRE than plain MPLS is the host's. *fragments says that it is
 * the first fragment of several; the others are the host's, who gets no first.
 */
static __always_inline int arrives(struct __sk_buff *skb, struct arrival *a, int *fragments)
{
	const __u32 least = sizeof(struct ethhdr) + sizeof(struct iphdr) + sizeof(struct udphdr);

	if (skb->protocol != bpf_htons(ETH_P_IP) || need(skb, least))
		return 0;
	struct iphdr *ip = packet_at(skb, sizeof(struct ethhdr));
	struct udphdr *udp = (void *)(ip + 1);
	if (!in_packet(skb, udp + 1) || ip->version != 4 || ip->ihl != 5 ||
	    ip->daddr != local_ip || ip->frag_off & bpf_htons(IP_FRAGMENT_OFFSET))
		return 0;
	if (ip->protocol == IPPROTO_UDP && udp->dest == bpf_htons(MPLS_UDP_PORT))
		a->encap = ENCAP_MPLS_UDP;
	else if (ip->protocol == IPPROTO_UDP && udp->dest == bpf_htons(VXLAN_PORT))
		a->encap = ENCAP_VXLAN;
	else if (ip->protocol == IPPROTO_GRE && *(__be32 *)(ip + 1) == bpf_htonl(GRE_MPLS))
		a->encap = ENCAP_MPLS_GRE;
	else
		return 0;
	a->source = ip->saddr;
	a->size = outer_size(a->encap);
	*fragments = (ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS)) != 0;
	return 1;
}

/* Reads a label and the packet behind it; size is a constant, see parse_ipv4. */
static __always_inline int parse_mpls(struct __sk_buff *skb, __u32 size, struct packet *p)
{
	const __u32 head = sizeof(struct ethhdr) + size;

	if (need(skb, head + sizeof(struct iphdr)))
		return DROP_MALFORMED;
	__be32 *mpls = packet_at(skb, head - sizeof(__be32));
	struct iphdr *ip = (void *)(mpls + 1);
	if (!in_packet(skb, ip + 1))
		return DROP_MALFORMED;
	__u32 entry = bpf_ntohl(*mpls);
	if (!(entry & MPLS_BOTTOM))
		return DROP_LABEL_STACK;
	p->key.scope = entry >> MPLS_LABEL_SHIFT;
	/* The label says nothing of what is behind it (RFC 3032 section 2.2). */
	return ip->version == 6 ? parse_ipv6(skb, head, p) : parse_ipv4(skb, head, p);
}

/* Reads a VXLAN header, whose network has to have a port here, and the frame
 * behind it: only IP and what asks for a neighbour, which the caller answers. What
 * is bridged is the caller's, too, which is said in a->bridged. */
static __always_inline int parse_vxlan(struct __sk_buff *skb, struct arrival *a,
				       struct packet *p)
{
	const __u32 head = sizeof(struct ethhdr) + sizeof(struct outer_vxlan);

	if (need(skb, head))
		return DROP_MALFORMED;
	struct outer_vxlan *o = packet_at(skb, sizeof(struct ethhdr));
	if (!in_packet(skb, o + 1) || !(o->flags & bpf_htonl(VXLAN_HAS_VNI)))
		return DROP_MALFORMED;
	__u32 vni = bpf_ntohl(o->vni) >> VXLAN_VNI_SHIFT;
	a->proto = o->eth.h_proto;
	__builtin_memcpy(a->dmac, o->eth.h_dest, 6);

	__u32 *vrf = bpf_map_lookup_elem(&vni_v1, &vni);
	if (!vrf)
		return DROP_VNI;
	a->vrf = *vrf;
	a->bridged = (a->proto != bpf_htons(ETH_P_IP) || a->dmac[0] & 1) &&
		     bridges_from_tunnel(a->vrf, a->proto, a->dmac[0] & 1);
	if (a->bridged || a->proto == bpf_htons(ETH_P_ARP))
		return DROP_NONE;
	if (a->proto == bpf_htons(ETH_P_IPV6)) {
		p->key.scope = FLOW_SCOPE_VRF | a->vrf;
		int reason = parse_ipv6(skb, head, p);

		return !reason && a->dmac[0] & 1 && !is_nd(p) ? DROP_MULTICAST : reason;
	}
	if (a->proto != bpf_htons(ETH_P_IP))
		return DROP_PROTOCOL;
	if (a->dmac[0] & 1)
		return DROP_MULTICAST;
	p->key.scope = FLOW_SCOPE_VRF | a->vrf;
	return parse_ipv4(skb, head, p);
}

/* Whether a MAC is that of this node as a router, which others know by EVPN. */
static __always_inline int is_node_mac(const __u8 *mac)
{
	const __be32 node = local_ip;
	const __u16 *m = (const __u16 *)mac, *n = (const __u16 *)&node;

	return m[0] == bpf_htons(NODE_MAC) && m[1] == n[0] && m[2] == n[1];
}

/* Whether a VXLAN frame is for the port, or for the router on its behalf. */
static __always_inline int for_mac(const struct arrival *a, const __u8 *mac)
{
	const __u8 vr_mac[6] = VR_MAC;

	return a->encap != ENCAP_VXLAN || same_mac(a->dmac, mac) || same_mac(a->dmac, vr_mac) ||
	       is_node_mac(a->dmac);
}

/* Whether the VRF is that of a logical router. */
static __always_inline int is_of_router(__u32 vrf)
{
	return (vrf & ~LAST_VNI) == VRF_OF_ROUTER;
}

/*
 * The port that a packet is for: that of its label, or of a route of the VRF to
 * the destination, whose own network this has to be.
 */
static __always_inline int receiver(const struct flow_key *key, __u32 *ifindex,
				    struct vif **vif)
{
	__u32 label = key->scope;

	if (key->scope & FLOW_SCOPE_VRF) {
		const struct addr here = {};
		const struct route *r = find_route(key->scope & ~FLOW_SCOPE_VRF, &key->dst);

		/* Of several ports here any has the address. */
		if (r && r->next_hop >= NEXT_HOP_ID_FIRST)
			r = find_member(r->next_hop, 0, &here);
		if (!r || r->next_hop != NEXT_HOP_ID_LOCAL)
			return DROP_DESTINATION_ADDRESS;
		label = r->label;
	}
	__u32 *at = bpf_map_lookup_elem(&label_v1, &label);
	if (!at)
		return DROP_LABEL;
	*ifindex = *at;
	*vif = bpf_map_lookup_elem(&vif_v1, ifindex);
	if (!*vif)
		return DROP_LABEL;
	if (key->scope & FLOW_SCOPE_VRF && (*vif)->vrf != (key->scope & ~FLOW_SCOPE_VRF) &&
	    !is_of_router(key->scope & ~FLOW_SCOPE_VRF))
		return DROP_DESTINATION_ADDRESS;
	return DROP_NONE;
}

/* Has a packet that came for a logical router go on as if it had come for the
 * network of the port that the router's routes lead to. */
static __noinline int enter_network(struct arrival *a, struct flow_key *key)
{
	struct vif *vif = 0;
	__u32 ifindex;

	if (!a || !key)
		return DROP_MALFORMED;
	int reason = receiver(key, &ifindex, &vif);
	if (reason)
		return reason;
	if (!vif)
		return DROP_LABEL;
	a->vrf = vif->vrf;
	key->scope = FLOW_SCOPE_VRF | vif->vrf;
	return DROP_NONE;
}

/*
 * Finds the port that a VXLAN neighbour asks for (key->dst), and the way back to
 * who asks (key->src). The same holds as for packets: the port is one of the network's
 * here, and the question comes from where the answer would go.
 */
static __always_inline int find_asked(const struct flow_key *key, const struct arrival *a,
				      struct outer_vxlan *o, struct next_hop *back)
{
	struct vif *vif = 0;
	__u32 ifindex = 0;

	map_v4(&back->remote, a->source);
	/* A broadcast comes to all nodes of the network: it is for one of them. */
	if (receiver(key, &ifindex, &vif) || !vif || vif->blocked ||
	    !may_have(vif, ifindex, &key->dst))
		return a->proto == bpf_htons(ETH_P_ARP) ? DROP_ARP : DROP_ND;
	const struct route *r = find_route(a->vrf, &key->src);
	if (!r)
		return DROP_NO_SOURCE_ROUTE;
	r = leads_to_node(r, &back->remote);
	struct next_hop *n = r ? bpf_map_lookup_elem(&next_hop_v1, &r->next_hop) : 0;
	if (!n || n->encap != ENCAP_VXLAN)
		return DROP_TUNNEL_SOURCE;
	back->label = r->label;
	__builtin_memcpy(o->eth.h_source, vif->mac, 6);
	return DROP_NONE;
}

/* Puts an answer to who asked by VXLAN in place of the question. */
static __always_inline int turn_question(struct __sk_buff *skb, struct outer_vxlan *o,
					 const struct next_hop *back, const void *answer, __u32 size)
{
	__be16 sport = entropy_port(skb);

	/* Both steps, so that the kernel forgets a checksum of the outer packet
	 * that it has put off computing. */
	if (decapsulate(skb, sizeof(*o)))
		return DROP_DECAPSULATE;
	if (encapsulate_vxlan(skb, o, back, 0, sport) ||
	    bpf_skb_store_bytes(skb, sizeof(struct ethhdr) + sizeof(*o), answer, size, 0))
		return DROP_ENCAPSULATE;
	return DROP_NONE;
}

/* Answers ARP that came by VXLAN, with the MAC of the port that has the
 * address. Returns a drop reason or DROP_NONE. */
static __noinline int answer_neighbour(struct __sk_buff *skb, struct arrival *a)
{
	struct outer_vxlan o = { .eth.h_proto = bpf_htons(ETH_P_ARP) };
	const __u32 at = sizeof(struct ethhdr) + sizeof(o);
	struct arp_ipv4 arp;
	struct next_hop back = {};

	if (!a || bpf_skb_load_bytes(skb, at, &arp, sizeof(arp)) || !is_arp_ipv4(&arp))
		return DROP_MALFORMED;
	if (arp.operation != bpf_htons(ARP_REQUEST) || !arp.sender_ip)
		return DROP_ARP;
	struct flow_key key = { .scope = FLOW_SCOPE_VRF | a->vrf };
	map_v4(&key.dst, arp.target_ip);
	map_v4(&key.src, arp.sender_ip);
	int reason = find_asked(&key, a, &o, &back);
	if (reason)
		return reason;
	__builtin_memcpy(o.eth.h_dest, arp.sender_mac, 6);
	turn_arp(&arp, o.eth.h_source);
	return turn_question(skb, &o, &back, &arp, sizeof(arp));
}

/* The same for a neighbour solicitation, which comes from an address of the
 * network: by a link-local one nobody knows where the answer goes. */
static __noinline int answer_neighbour6(struct __sk_buff *skb, struct arrival *a, const struct packet *p)
{
	struct outer_vxlan o = { .eth.h_proto = bpf_htons(ETH_P_IPV6) };
	const __u32 inner = sizeof(struct ethhdr) + sizeof(o);
	struct advert *advert = new_message();
	struct next_hop back = {};
	struct flow_key key = {};

	if (!a || !p || !advert)
		return DROP_MALFORMED;
	int reason = read_solicit(skb, p, &key.dst);
	if (reason)
		return reason;
	key.scope = FLOW_SCOPE_VRF | a->vrf;
	key.src = p->key.src;
	if (is_link_local(&key.src) || is_link_local(&key.dst))
		return DROP_LINK_LOCAL;
	reason = find_asked(&key, a, &o, &back);
	if (reason)
		return reason;
	if (bpf_skb_load_bytes(skb, inner - sizeof(struct ethhdr) + __builtin_offsetof(struct ethhdr, h_source), o.eth.h_dest, 6) ||
	    bpf_skb_change_tail(skb, inner + sizeof(*advert), 0))
		return DROP_MALFORMED;
	advertise(advert, &key.dst, &key.src, o.eth.h_source, 0);
	return turn_question(skb, &o, &back, advert, sizeof(*advert));
}
