/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Classes of addresses that the verdict depends on: loopback, cloud metadata, IPv4 embedded in IPv6.
 *
 * Read by both compilers; constants are in network order through ADDRESS_WORD().
 */
#pragma once

#include <stdbool.h>

#include "agentd/abi.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ADDRESS_WORD(x) __builtin_bswap32((__u32)(x))
#else
#define ADDRESS_WORD(x) ((__u32)(x))
#endif
#define ADDRESS_IPV4(a, b, c, d) ADDRESS_WORD((__u32)(a) << 24 | (b) << 16 | (c) << 8 | (d))

static __always_inline void address_from_ipv4(struct address *ret, __be32 ipv4)
{
        ret->halves[0] = 0;
        ret->words[2] = ADDRESS_WORD(0xffff);
        ret->words[3] = ipv4;
}

static __always_inline bool address_is_ipv4(const struct address *address)
{
        return address->halves[0] == 0 && address->words[2] == ADDRESS_WORD(0xffff);
}

/*
 * The listeners of all agents, of the daemon's and of every `agentd run`, stand on these loopback ports, and a
 * namespace may hold several of them. Who asks another's listener would look names up under another's policy: so no
 * agent opens a flow to any of these ports; its own are let through before the engine is asked. Judged for each packet,
 * because a UDP socket may have been connected before the listener was there. Above the ephemeral range that Linux
 * starts with.
 */
enum { LISTENER_PORT_FIRST = 61000, LISTENER_PORT_COUNT = 1024 };

/* 127.0.0.0/8, ::1, and the unspecified addresses, which connect() takes for loopback (net/ipv4/route.c,
 * net/ipv6/tcp_ipv6.c). */
static __always_inline bool address_is_loopback(const struct address *address)
{
        if (address_is_ipv4(address))
                return address->bytes[12] == 127 || address->words[3] == 0;
        return address->halves[0] == 0 && address->words[2] == 0 &&
               (address->words[3] == 0 || address->words[3] == ADDRESS_WORD(1));
}

/*
 * Cloud metadata services: the link-local 169.254.169.254 of AWS, GCP, Azure, Oracle and OpenStack; 169.254.169.253 and
 * .123 are AWS's DNS and NTP, 169.254.170.2 and .23 its container credentials; 100.100.100.200 Alibaba; 168.63.129.16
 * Azure's wire server; 192.0.0.192 Oracle; 169.254.42.42 and fd00:42::42 Scaleway; 169.254.0.23 Tencent; fd00:ec2::/32
 * AWS over IPv6; fd20:ce::254 GCP; fe80::a9fe:a9fe OpenStack over IPv6; fd00:a9fe:a9fe::/48 others.
 */
static __always_inline bool address_is_metadata(const struct address *address)
{
        if (address_is_ipv4(address)) {
                __be32 ipv4 = address->words[3];

                return (ipv4 & ADDRESS_IPV4(255, 255, 254, 0)) == ADDRESS_IPV4(169, 254, 168, 0) ||
                       (ipv4 & ADDRESS_IPV4(255, 255, 255, 0)) == ADDRESS_IPV4(169, 254, 170, 0) ||
                       ipv4 == ADDRESS_IPV4(100, 100, 100, 200) || ipv4 == ADDRESS_IPV4(168, 63, 129, 16) ||
                       ipv4 == ADDRESS_IPV4(192, 0, 0, 192) || ipv4 == ADDRESS_IPV4(169, 254, 42, 42) ||
                       ipv4 == ADDRESS_IPV4(169, 254, 0, 23);
        }
        return address->words[0] == ADDRESS_WORD(0xfd000ec2) ||
               (address->words[0] == ADDRESS_WORD(0xfd2000ce) && address->words[1] == 0 && address->words[2] == 0 &&
                address->words[3] == ADDRESS_WORD(0x254)) ||
               (address->words[0] == ADDRESS_WORD(0xfe800000) && address->words[1] == 0 && address->words[2] == 0 &&
                address->words[3] == ADDRESS_WORD(0xa9fea9fe)) ||
               (address->words[0] == ADDRESS_WORD(0xfd000042) && address->words[1] == 0 && address->words[2] == 0 &&
                address->words[3] == ADDRESS_WORD(0x42)) ||
               (address->words[0] == ADDRESS_WORD(0xfd00a9fe) &&
                (address->words[1] & ADDRESS_WORD(0xffff0000)) == ADDRESS_WORD(0xa9fe0000));
}

/*
 * The IPv4 address inside an IPv6 one that a translator or a tunnel would send on: NAT64 (RFC 6052 well-known prefix
 * and RFC 8215 local-use prefix, last 32 bits), 6to4 (RFC 3056), Teredo (RFC 4380, inverted), IPv4-compatible (RFC
 * 4291).
 */
static __always_inline bool address_embedded(const struct address *address, struct address *ret)
{
        __be32 first = address->words[0];

        if (first == ADDRESS_WORD(0x0064ff9b)) {
                address_from_ipv4(ret, address->words[3]);
                return true;
        }
        if ((first & ADDRESS_WORD(0xffff0000)) == ADDRESS_WORD(0x20020000)) {
                __u32 ipv4;

                __builtin_memcpy(&ipv4, address->bytes + 2, sizeof(ipv4));
                address_from_ipv4(ret, ipv4);
                return true;
        }
        if (first == ADDRESS_WORD(0x20010000)) {
                address_from_ipv4(ret, ~address->words[3]);
                return true;
        }
        if (address->halves[0] == 0 && address->words[2] == 0 && !address_is_loopback(address)) {
                address_from_ipv4(ret, address->words[3]);
                return true;
        }
        return false;
}
