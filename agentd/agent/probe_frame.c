/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See the header.
 */
#include "agentd/agent/probe_frame.h"

#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <string.h>

#include "agentd/address_class.h"

enum { HOP_LIMIT = 1, ECHO_BYTES = 8 };

static __u16 checksum(const void *data, size_t size, __u32 sum)
{
        const __u8 *bytes = data;

        for (size_t i = 0; i + 1 < size; i += 2)
                sum += (__u32)bytes[i] << 8 | bytes[i + 1];
        while (sum >> 16)
                sum = (sum & 0xffff) + (sum >> 16);
        return htons((__u16)~sum);
}

bool probe_frame_is_ipv4(const struct device *device)
{
        return device->n_addresses == 0 || address_is_ipv4(&device->addresses[0]);
}

static size_t ipv4_make(const struct device *device, const struct address *destination, __u8 *at)
{
        struct ip header = {
                .ip_v = 4,
                .ip_hl = 5,
                .ip_len = htons(sizeof(header) + ECHO_BYTES),
                .ip_ttl = HOP_LIMIT,
                .ip_p = IPPROTO_ICMP,
        };
        struct icmphdr echo = {.type = ICMP_ECHO};

        _Static_assert(sizeof(echo) == ECHO_BYTES, "an echo request without data");
        memcpy(&header.ip_src, device->addresses[0].bytes + 12, 4);
        memcpy(&header.ip_dst, destination->bytes + 12, 4);
        header.ip_sum = checksum(&header, sizeof(header), 0);
        echo.checksum = checksum(&echo, sizeof(echo), 0);
        memcpy(at, &header, sizeof(header));
        memcpy(at + sizeof(header), &echo, sizeof(echo));
        return sizeof(header) + sizeof(echo);
}

static size_t ipv6_make(const struct device *device, const struct address *destination, __u8 *at)
{
        struct ip6_hdr header = {.ip6_flow = htonl(6u << 28), .ip6_plen = htons(ECHO_BYTES)};
        struct icmp6_hdr echo = {.icmp6_type = ICMP6_ECHO_REQUEST};

        header.ip6_nxt = IPPROTO_ICMPV6;
        header.ip6_hlim = HOP_LIMIT;
        memcpy(&header.ip6_src, &device->addresses[0], 16);
        memcpy(&header.ip6_dst, destination, 16);
        /* Of a pseudo header: both addresses, the length, the protocol. */
        echo.icmp6_cksum = checksum(&echo, sizeof(echo),
                                    (__u16)~ntohs(checksum(&header.ip6_src, 32, ECHO_BYTES + IPPROTO_ICMPV6)));
        memcpy(at, &header, sizeof(header));
        memcpy(at + sizeof(header), &echo, sizeof(echo));
        return sizeof(header) + sizeof(echo);
}

size_t probe_frame_make(const struct device *device, const struct address *destination, __u8 *frame)
{
        bool ipv4 = probe_frame_is_ipv4(device);
        struct ether_header ethernet = {.ether_type = htons(ipv4 ? ETHERTYPE_IP : ETHERTYPE_IPV6)};

        memcpy(ethernet.ether_dhost, device->gateway_mac, sizeof(ethernet.ether_dhost));
        memcpy(ethernet.ether_shost, device->mac, sizeof(ethernet.ether_shost));
        memcpy(frame, &ethernet, sizeof(ethernet));
        return sizeof(ethernet) + (ipv4 ? ipv4_make(device, destination, frame + sizeof(ethernet))
                                        : ipv6_make(device, destination, frame + sizeof(ethernet)));
}
