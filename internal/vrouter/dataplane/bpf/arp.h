// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* RFC 826 for IPv4 over Ethernet. (linux/if_arp.h needs libc headers.) */
#pragma once

#include "parse.h"

#define ARP_ETHERNET 1
#define ARP_REQUEST 1
#define ARP_REPLY 2

struct arp_ipv4 {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 operation;
	__u8 sender_mac[6];
	__be32 sender_ip;
	__u8 target_mac[6];
	__be32 target_ip;
} __attribute__((packed));

_Static_assert(sizeof(struct arp_ipv4) == 28, "arp_ipv4");

static __always_inline int is_arp_ipv4(const struct arp_ipv4 *arp)
{
	return arp->hardware == bpf_htons(ARP_ETHERNET) &&
	       arp->protocol == bpf_htons(ETH_P_IP) && arp->hardware_len == 6 &&
	       arp->protocol_len == 4;
}

/* Makes a request the reply that the target has this MAC. */
static __always_inline void turn_arp(struct arp_ipv4 *arp, const __u8 *mac)
{
	__be32 target = arp->target_ip;

	arp->operation = bpf_htons(ARP_REPLY);
	__builtin_memcpy(arp->target_mac, arp->sender_mac, 6);
	__builtin_memcpy(arp->sender_mac, mac, 6);
	arp->target_ip = arp->sender_ip;
	arp->sender_ip = target;
}
