/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What an agent may say on its link below IP: ARP and IPv6 neighbour discovery, as far as each byte is determined.
 *
 * The policy does not speak of these frames, and some of them are seen by everybody on the link: so nothing in them may
 * be free to carry data, and nobody else's address may be claimed.
 */
#pragma once

#include <linux/if_ether.h>

#include "bpf/packet.h"

enum { DEVICE_NEIGHBOUR = -1 }; /* device_check(): ARP or discovery in good form, which no policy speaks of */

static __always_inline bool device_has(const struct address *list, int room, __u8 n, const struct address *address)
{
        for (int i = 0; i < room; i++) {
                if (i >= n)
                        return false;
                if (((list[i].halves[1] ^ address->halves[1]) | (list[i].halves[0] ^ address->halves[0])) == 0)
                        return true;
        }
        return false;
}

__noinline int device_is_address(const struct device *device, const struct address *address)
{
        return device && address && device_has(device->addresses, DEVICE_ADDRESSES_MAX, device->n_addresses, address);
}

__noinline int device_is_gateway(const struct device *device, const struct address *address)
{
        return device && address && device_has(device->gateways, DEVICE_GATEWAYS_MAX, device->n_gateways, address);
}

static __always_inline bool mac_equal(const __u8 *a, const __u8 *b)
{
        /* Without a branch for each byte: the verifier would walk all of them, again and again. */
        return ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) | (a[5] ^ b[5])) == 0;
}

static __always_inline bool mac_is_zero(const __u8 *mac)
{
        return (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]) == 0;
}

static __always_inline bool mac_is_broadcast(const __u8 *mac)
{
        return (mac[0] & mac[1] & mac[2] & mac[3] & mac[4] & mac[5]) == 0xff;
}

/* linux/if_arp.h includes what no BPF program can. */
enum { ARP_ETHERNET = 1, ARP_REQUEST = 1, ARP_REPLY = 2 };

struct device_arp {
        __be16 hardware, protocol;
        __u8 hardware_bytes, protocol_bytes;
        __be16 operation;
        __u8 sender_mac[6];
        __u8 sender[4];
        __u8 target_mac[6];
        __u8 target[4];
} __attribute__((packed));
_Static_assert(sizeof(struct device_arp) == 28, "as on the wire");

/*
 * A question for the gateway's address (or an announcement of one's own), or an answer to the gateway; each byte is
 * determined.
 */
__noinline int device_arp_check(struct __sk_buff *skb, struct packet *packet, const struct device *device)
{
        struct device_arp arp;
        struct ethhdr ethernet;
        __be32 sender, target;

        if (!packet || !device)
                return REASON_MALFORMED;
        if (bpf_skb_load_bytes(skb, 0, &ethernet, sizeof(ethernet)) < 0 ||
            bpf_skb_load_bytes(skb, sizeof(ethernet), &arp, sizeof(arp)) < 0)
                return REASON_PACKET_SOCKET;
        __builtin_memcpy(&sender, arp.sender, sizeof(sender));
        __builtin_memcpy(&target, arp.target, sizeof(target));
        address_from_ipv4(&packet->local, sender);
        address_from_ipv4(&packet->flow.remote, target);

        if (skb->len != sizeof(ethernet) + sizeof(arp) || arp.hardware != bpf_htons(ARP_ETHERNET) ||
            arp.protocol != bpf_htons(ETH_P_IP) || arp.hardware_bytes != 6 || arp.protocol_bytes != 4 ||
            !mac_equal(ethernet.h_source, device->mac) || !mac_equal(arp.sender_mac, device->mac) ||
            !device_is_address(device, &packet->local))
                return REASON_PACKET_SOCKET;

        if (arp.operation == bpf_htons(ARP_REQUEST)) {
                if (!mac_is_zero(arp.target_mac) ||
                    (!mac_is_broadcast(ethernet.h_dest) && !mac_equal(ethernet.h_dest, device->gateway_mac)))
                        return REASON_PACKET_SOCKET;
                return sender == target || device_is_gateway(device, &packet->flow.remote) ? DEVICE_NEIGHBOUR
                                                                                           : REASON_NO_RULE;
        }
        if (arp.operation != bpf_htons(ARP_REPLY) || !mac_equal(ethernet.h_dest, device->gateway_mac) ||
            !mac_equal(arp.target_mac, device->gateway_mac) || !device_is_gateway(device, &packet->flow.remote))
                return REASON_PACKET_SOCKET;
        return DEVICE_NEIGHBOUR;
}

enum {
        ND_ROUTER_SOLICITATION = 133,
        ND_ROUTER_ADVERTISEMENT = 134,
        ND_SOLICITATION = 135,
        ND_ADVERTISEMENT = 136,
        ND_REDIRECT = 137,
        ND_OPTION_SOURCE = 1,
        ND_OPTION_TARGET = 2,
        ND_HOP_LIMIT = 255,
        ND_FLAGS_SOLICITED = 0x40000000,
        ND_FLAGS_OVERRIDE = 0x20000000,
};

/* What the checksum covers (RFC 8200, 8.1), with the message behind it, and zeros, which do not change a sum. */
struct device_discovery {
        struct address source, destination;
        __be32 length, next;
        __u8 type, code;
        __u16 checksum;
        __be32 flags;
        __u8 body[24]; /* target and one option; or the option alone */
};
_Static_assert(sizeof(struct device_discovery) == 72, "bpf_csum_diff() takes words");

/* ::ffff:0:0/96 means IPv4 everywhere else in here; in a header it would be no address at all. */
static __always_inline bool address_is_unspecified(const struct address *address)
{
        return (address->halves[0] | address->halves[1]) == 0;
}

static __always_inline bool option_is_good(const __u8 *option, __u8 type, const __u8 *mac)
{
        return option[0] == type && option[1] == 1 && mac_equal(option + 2, mac);
}

/* Solicitations for the gateway and for one's own address, advertisements of one's own; nothing that is not
 * determined: no flow label, no nonce, no other option, a right checksum. */
__noinline int device_discovery_check(struct __sk_buff *skb, struct packet *packet, const struct device *device)
{
        struct device_discovery nd = {};
        struct ethhdr ethernet;
        struct address target;
        __u32 start, length, n;
        __u8 option_type;
        __u8 *option;
        __s64 sum;

        if (!packet || !device)
                return REASON_MALFORMED;
        nd.source = packet->local;
        nd.destination = packet->flow.remote;
        if (bpf_skb_load_bytes(skb, 0, &ethernet, sizeof(ethernet)) < 0 ||
            bpf_skb_load_bytes(skb, sizeof(ethernet), &start, sizeof(start)) < 0 || skb->len < 14 + 40 + 8)
                return REASON_MALFORMED;
        length = skb->len - 14 - 40;
        if (length == 8)
                n = bpf_skb_load_bytes(skb, 14 + 40, &nd.type, 8);
        else if (length == 16)
                n = bpf_skb_load_bytes(skb, 14 + 40, &nd.type, 16);
        else if (length == 24)
                n = bpf_skb_load_bytes(skb, 14 + 40, &nd.type, 24);
        else if (length == 32)
                n = bpf_skb_load_bytes(skb, 14 + 40, &nd.type, 32);
        else
                return REASON_MALFORMED;
        nd.length = bpf_htonl(length);
        nd.next = bpf_htonl(IPPROTO_ICMPV6);
        if (nd.type == ND_ROUTER_ADVERTISEMENT || nd.type == ND_REDIRECT)
                return REASON_PROTOCOL; /* routers and redirects are not the agent's business */
        if (n != 0 || start != bpf_htonl(0x60000000) || nd.code != 0 || !mac_equal(ethernet.h_source, device->mac))
                return REASON_MALFORMED;
        sum = bpf_csum_diff(NULL, 0, (__be32 *)&nd, sizeof(nd), 0);
        sum = (sum & 0xffff) + (sum >> 16 & 0xffff);
        sum = (sum & 0xffff) + (sum >> 16);
        if (sum != 0xffff)
                return REASON_MALFORMED;

        __builtin_memcpy(&target, nd.body, sizeof(target));
        option = nd.type == ND_ROUTER_SOLICITATION ? nd.body : nd.body + 16;
        option_type = nd.type == ND_ADVERTISEMENT ? ND_OPTION_TARGET : ND_OPTION_SOURCE;
        n = nd.type == ND_ROUTER_SOLICITATION ? 8 : 24;
        if (length != n && (length != n + 8 || !option_is_good(option, option_type, device->mac)))
                return REASON_MALFORMED;

        /* The frame goes to the group of the address, or to the gateway. */
        if (nd.destination.bytes[0] == 0xff) {
                if (ethernet.h_dest[0] != 0x33 || ethernet.h_dest[1] != 0x33 ||
                    ethernet.h_dest[2] != nd.destination.bytes[12] || ethernet.h_dest[3] != nd.destination.bytes[13] ||
                    ethernet.h_dest[4] != nd.destination.bytes[14] || ethernet.h_dest[5] != nd.destination.bytes[15])
                        return REASON_PACKET_SOCKET;
        } else if (!mac_equal(ethernet.h_dest, device->gateway_mac)) {
                return REASON_PACKET_SOCKET;
        }

        if (address_is_unspecified(&nd.source)) {
                /* Is my own address free? Where are routers? Without a MAC (RFC 4861, 4.1 and 4.3). */
                if (length != n || nd.type == ND_ADVERTISEMENT ||
                    (nd.type == ND_SOLICITATION && !device_is_address(device, &target)))
                        return REASON_MALFORMED;
        } else if (!device_is_address(device, &nd.source)) {
                return REASON_MALFORMED;
        }

        if (nd.type == ND_ROUTER_SOLICITATION) /* to ff02::2 */
                return nd.flags == 0 && nd.destination.words[0] == bpf_htonl(0xff020000) &&
                                       nd.destination.words[1] == 0 && nd.destination.words[2] == 0 &&
                                       nd.destination.words[3] == bpf_htonl(2)
                               ? DEVICE_NEIGHBOUR
                               : REASON_MALFORMED;
        if (nd.type == ND_SOLICITATION) { /* to ff02::1:ffXX:XXXX, or to the target itself */
                if (nd.flags != 0 || (!device_is_gateway(device, &target) && !device_is_address(device, &target)))
                        return REASON_MALFORMED;
                if (nd.destination.bytes[0] != 0xff)
                        return device_is_gateway(device, &nd.destination) ? DEVICE_NEIGHBOUR : REASON_MALFORMED;
                return nd.destination.words[0] == bpf_htonl(0xff020000) && nd.destination.words[1] == 0 &&
                                       nd.destination.words[2] == bpf_htonl(1) &&
                                       nd.destination.words[3] == (target.words[3] | bpf_htonl(0xff000000))
                               ? DEVICE_NEIGHBOUR
                               : REASON_MALFORMED;
        }
        if (nd.type == ND_ADVERTISEMENT) { /* to ff02::1, or to who has asked */
                if ((nd.flags & bpf_htonl(~(ND_FLAGS_SOLICITED | ND_FLAGS_OVERRIDE))) ||
                    !device_is_address(device, &target))
                        return REASON_MALFORMED;
                if (nd.destination.bytes[0] != 0xff)
                        return device_is_gateway(device, &nd.destination) ? DEVICE_NEIGHBOUR : REASON_MALFORMED;
                return !(nd.flags & bpf_htonl(ND_FLAGS_SOLICITED)) &&
                                       nd.destination.words[0] == bpf_htonl(0xff020000) &&
                                       nd.destination.words[1] == 0 && nd.destination.words[2] == 0 &&
                                       nd.destination.words[3] == bpf_htonl(1)
                               ? DEVICE_NEIGHBOUR
                               : REASON_MALFORMED;
        }
        return REASON_MALFORMED;
}
