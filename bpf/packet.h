/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From the bytes of an IP packet to a struct flow. Bounded; what is odd is malformed.
 *
 * The data of a cgroup_skb program begins at the network header (net/core/filter.c, bpf_prog_run_save_cb pushes it
 * there), that of a tc program at the Ethernet header: `base` says where the IP header is. Headers that are not in the
 * linear part are read by bpf_skb_load_bytes.
 */
#pragma once

#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "agentd/address_class.h"
#include "agentd/flow.h"
#include "bpf/maps.h"

enum {
        PACKET_IPV4_OFFSET = 0x1fff,
        PACKET_IPV4_MORE = 0x2000,
        PACKET_EXTENSIONS_MAX = 4,
        PACKET_LOOPBACK_IFINDEX = 1, /* include/net/flow.h, LOOPBACK_IFINDEX: in every namespace */
        PACKET_TCP_SYN = 0x02,
        PACKET_ANSWERS = 1, /* in packet->inbound, as far as headers can tell */
};

struct packet {
        struct flow flow;
        struct address local;
        __u16 local_port;
        __u8 ip_protocol;
        __u8 inbound;         /* enum inbound */
        __u32 header_bytes;   /* network and transport headers, as every segment of a GSO packet repeats them */
        __u32 payload_offset; /* behind the UDP header; 0: none */
        __u32 bytes;          /* of a packet that passes: what it weighs on the wire */
        __s32 set;            /* and what it is charged to; below 0: there is no such set, which refuses */
};

/* 0, or the reason why it cannot be judged. offset: in the data; header_bytes are without what stands before the IP
 * header, at base. */
static __always_inline int packet_ports(struct __sk_buff *skb, struct packet *packet, __u32 base, __u32 offset,
                                        __u32 ip_protocol, __u32 direction)
{
        __be16 ports[2];
        __u8 tcp[2]; /* data offset, flags */

        packet->ip_protocol = ip_protocol;
        if (ip_protocol == IPPROTO_ICMP || ip_protocol == IPPROTO_ICMPV6) {
                packet->flow.protocol = PROTOCOL_ICMP;
                packet->header_bytes = offset - base;
                return 0;
        }
        if (ip_protocol != IPPROTO_TCP && ip_protocol != IPPROTO_UDP) {
                packet->flow.protocol = PROTOCOL_OTHER;
                packet->header_bytes = offset - base;
                return 0;
        }
        if (packet->flow.flags & FLOW_FRAGMENT) {
                packet->flow.protocol = ip_protocol == IPPROTO_TCP ? PROTOCOL_TCP : PROTOCOL_UDP;
                packet->header_bytes = offset - base;
                return 0;
        }

        if (bpf_skb_load_bytes(skb, offset, ports, sizeof(ports)) < 0)
                return REASON_MALFORMED;
        if (direction == DIRECTION_EGRESS) {
                packet->local_port = bpf_ntohs(ports[0]);
                packet->flow.port = bpf_ntohs(ports[1]);
        } else {
                packet->local_port = bpf_ntohs(ports[1]);
                packet->flow.port = bpf_ntohs(ports[0]);
        }

        if (ip_protocol == IPPROTO_UDP) {
                packet->flow.protocol = PROTOCOL_UDP;
                packet->header_bytes = offset - base + 8;
                packet->payload_offset = offset + 8;
                return packet->payload_offset <= skb->len ? 0 : REASON_MALFORMED;
        }

        if (bpf_skb_load_bytes(skb, offset + 12, tcp, sizeof(tcp)) < 0)
                return REASON_MALFORMED;
        packet->flow.protocol = PROTOCOL_TCP;
        packet->header_bytes = offset - base + (tcp[0] >> 4) * 4;
        if (!(tcp[1] & PACKET_TCP_SYN))
                packet->flow.flags |= FLOW_ESTABLISHED;
        else if (direction == DIRECTION_INGRESS && (tcp[1] & 0x10))
                packet->flow.flags |= FLOW_ESTABLISHED; /* SYN and ACK: the answer to our SYN, judged when it left */
        else if (tcp[1] & 0x10)
                packet->inbound = PACKET_ANSWERS; /* theirs */
        return 0;
}

static __always_inline int packet_parse_ipv4(struct __sk_buff *skb, struct packet *packet, __u32 base, __u32 direction)
{
        struct iphdr header;
        __u16 fragment;

        if (bpf_skb_load_bytes(skb, base, &header, sizeof(header)) < 0)
                return REASON_MALFORMED;
        address_from_ipv4(&packet->flow.remote, direction == DIRECTION_EGRESS ? header.daddr : header.saddr);
        address_from_ipv4(&packet->local, direction == DIRECTION_EGRESS ? header.saddr : header.daddr);
        packet->ip_protocol = header.protocol;
        /* Options can route (LSRR, SSRR); none is needed. */
        if (header.version != 4 || header.ihl != 5)
                return REASON_MALFORMED;

        fragment = bpf_ntohs(header.frag_off);
        if (fragment & PACKET_IPV4_OFFSET)
                packet->flow.flags |= FLOW_FRAGMENT;
        if (header.protocol == IPPROTO_ICMPV6)
                return REASON_PROTOCOL;
        return packet_ports(skb, packet, base, base + sizeof(header), header.protocol, direction);
}

static __always_inline int packet_parse_ipv6(struct __sk_buff *skb, struct packet *packet, __u32 base, __u32 direction)
{
        struct ipv6hdr header;
        __u32 offset = base + sizeof(header);
        __u8 next;

        if (bpf_skb_load_bytes(skb, base, &header, sizeof(header)) < 0 || header.version != 6)
                return REASON_MALFORMED;
        __builtin_memcpy(&packet->flow.remote, direction == DIRECTION_EGRESS ? &header.daddr : &header.saddr,
                         sizeof(packet->flow.remote));
        __builtin_memcpy(&packet->local, direction == DIRECTION_EGRESS ? &header.saddr : &header.daddr,
                         sizeof(packet->local));
        next = header.nexthdr;
        packet->ip_protocol = next;

        for (int i = 0; i < PACKET_EXTENSIONS_MAX; i++) {
                __u8 extension[8];

                if (next == IPPROTO_FRAGMENT) {
                        if (bpf_skb_load_bytes(skb, offset, extension, sizeof(extension)) < 0)
                                return REASON_MALFORMED;
                        if (extension[2] || (extension[3] & 0xf8))
                                packet->flow.flags |= FLOW_FRAGMENT;
                        next = extension[0];
                        offset += sizeof(extension);
                } else if (next == IPPROTO_DSTOPTS) {
                        if (packet->flow.flags & FLOW_FRAGMENT)
                                return REASON_FRAGMENT;
                        if (bpf_skb_load_bytes(skb, offset, extension, 2) < 0)
                                return REASON_MALFORMED;
                        next = extension[0];
                        offset += ((__u32)extension[1] + 1) * 8;
                } else {
                        break;
                }
        }

        packet->ip_protocol = next;
        /* Routing headers change the destination, hop-by-hop options speak to routers, the rest is unknown. */
        if (next == IPPROTO_ROUTING || next == IPPROTO_HOPOPTS || next == IPPROTO_FRAGMENT || next == IPPROTO_DSTOPTS ||
            next == IPPROTO_NONE || next == IPPROTO_MH || next == IPPROTO_AH || next == IPPROTO_ESP)
                return REASON_MALFORMED;
        if (next == IPPROTO_ICMP)
                return REASON_PROTOCOL;
        return packet_ports(skb, packet, base, offset, next, direction);
}
