// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What leaves the node by the underlay. Other nodes take a tunnel's packet for what
 * this node's programs made, by its source: a task in the node's own network
 * namespace needs no privilege to send the same from a socket, nor does one behind
 * a bridge of the host. So only what has the programs' mark leaves as one.
 *
 * Later fragments have no port to look at; whoever receives them drops tunnel
 * packets in fragments.
 */
#pragma once

#include "drop_reasons.h"
#include "encap.h"
#include "flow.h"

/* Whether it would be taken for a tunnel's packet, by whatever options it has. */
static __noinline int is_like_tunnel(struct __sk_buff *skb)
{
	struct iphdr ip;
	__be16 head[2];

	if (skb->protocol != bpf_htons(ETH_P_IP) ||
	    bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &ip, sizeof(ip)) || ip.version != 4 ||
	    ip.frag_off & bpf_htons(IP_FRAGMENT_OFFSET))
		return 0;
	if (ip.protocol != IPPROTO_UDP && ip.protocol != IPPROTO_GRE)
		return 0;
	/* UDP: the ports. GRE: flags, and what is in it. */
	if (bpf_skb_load_bytes(skb, sizeof(struct ethhdr) + ip.ihl * 4, head, sizeof(head)))
		return 0;
	if (ip.protocol == IPPROTO_GRE)
		return head[1] == bpf_htons(GRE_MPLS);
	return head[1] == bpf_htons(MPLS_UDP_PORT) || head[1] == bpf_htons(VXLAN_PORT);
}

SEC("tc")
int underlay_tx(struct __sk_buff *skb)
{
	if (skb->mark == TUNNEL_MARK) {
		skb->mark = 0;
		return VERDICT_NEXT;
	}
	return is_like_tunnel(skb) ? drop(skb, DROP_FORGED_TUNNEL, skb->ifindex) : VERDICT_NEXT;
}
