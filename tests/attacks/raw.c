/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Raw IP sockets: whoever holds CAP_NET_RAW writes his own headers. */
#include "technique.h"

#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>

struct udp_packet {
        struct iphdr ip;
        struct udphdr udp;
        char data[sizeof(payload)];
} __attribute__((packed));

static void header_included(const struct target *target, const char *source)
{
        const struct sockaddr_in *to = (const struct sockaddr_in *)forbidden_of(target);
        struct udp_packet packet = {
                .ip = {.version = 4,
                       .ihl = 5,
                       .ttl = 64,
                       .protocol = IPPROTO_UDP,
                       .daddr = to->sin_addr.s_addr,
                       .saddr = source ? inet_addr(source) : 0},
                .udp = {.source = htons(4000), .dest = to->sin_port, .len = htons(8 + sizeof(payload))},
        };
        int fd = open_socket(AF_INET, SOCK_RAW, IPPROTO_RAW);

        memcpy(packet.data, payload, sizeof(payload));
        if (sendto(fd, &packet, sizeof(packet), 0, forbidden_of(target), target->size) < 0)
                perror("sendto");
        close(fd);
}

static void header(const struct target *target)
{
        header_included(target, NULL);
}

static void spoofed(const struct target *target)
{
        header_included(target, OTHER4);
}

static void header6(const struct target *target)
{
        const struct sockaddr_in6 *to = (const struct sockaddr_in6 *)forbidden_of(target);
        struct sockaddr_in6 address = *to;
        struct {
                struct ip6_hdr ip;
                struct udphdr udp;
                char data[sizeof(payload)];
        } __attribute__((packed)) packet = {
                .ip = {.ip6_ctlun.ip6_un1 = {htonl(6u << 28), htons(8 + sizeof(payload)), IPPROTO_UDP, 64}},
                .udp = {.source = htons(4000), .dest = to->sin6_port, .len = htons(8 + sizeof(payload))},
        };
        int fd = open_socket(AF_INET6, SOCK_RAW, IPPROTO_RAW);

        address.sin6_port = 0;
        packet.ip.ip6_dst = to->sin6_addr;
        inet_pton(AF_INET6, OWN6, &packet.ip.ip6_src);
        memcpy(packet.data, payload, sizeof(payload));
        if (sendto(fd, &packet, sizeof(packet), 0, (struct sockaddr *)&address, sizeof(address)) < 0)
                perror("sendto");
        close(fd);
}

static void of_protocol(const struct target *target, int protocol)
{
        uint8_t data[16] = {protocol == IPPROTO_ICMP ? 8 : 128};
        struct sockaddr_storage address = target->forbidden;
        int fd = open_socket(target->family, SOCK_RAW, protocol);

        if (target->family == AF_INET6)
                ((struct sockaddr_in6 *)&address)->sin6_port = 0;
        if (sendto(fd, data, sizeof(data), 0, (struct sockaddr *)&address, target->size) < 0)
                perror("sendto");
        connect(fd, (struct sockaddr *)&address, target->size);
        send(fd, data, sizeof(data), 0);
        close(fd);
}

static void icmp(const struct target *target)
{
        of_protocol(target, target->family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

static void udp(const struct target *target)
{
        of_protocol(target, IPPROTO_UDP);
}

static void tcp(const struct target *target)
{
        of_protocol(target, IPPROTO_TCP);
}

static void experimental(const struct target *target)
{
        of_protocol(target, 253);
}

static void encapsulated(const struct target *target)
{
        of_protocol(target, IPPROTO_IPIP);
}

/* --- headers of one's own --------------------------------------------------------------------------------------------
 */

/* An IPv4 packet with any header: length of options and payload, fragment field. The kernel fills in the checksum. */
static void send_ipv4(const struct target *target, int fd, const uint8_t *options, size_t n_options, uint16_t fragment,
                      uint8_t protocol, const void *data, size_t size)
{
        uint8_t packet[1500] = {0};
        struct iphdr *ip = (struct iphdr *)packet;

        *ip = (struct iphdr){.version = 4,
                             .ihl = (5 + n_options / 4) & 15,
                             .ttl = 64,
                             .id = htons(4711),
                             .frag_off = htons(fragment),
                             .protocol = protocol,
                             .tot_len = htons((uint16_t)(sizeof(*ip) + n_options + size)),
                             .daddr = ((const struct sockaddr_in *)forbidden_of(target))->sin_addr.s_addr};
        memcpy(packet + sizeof(*ip), options, n_options);
        memcpy(packet + sizeof(*ip) + n_options, data, size);
        if (sendto(fd, packet, sizeof(*ip) + n_options + size, 0, forbidden_of(target), target->size) < 0)
                perror("sendto");
}

static struct udphdr udp_header(const struct target *target, size_t size)
{
        return (struct udphdr){.source = htons(4000),
                               .dest = ((const struct sockaddr_in *)forbidden_of(target))->sin_port,
                               .len = htons((uint16_t)(8 + size))};
}

static void header_options(const struct target *target)
{
        uint8_t route[12] = {1, 131, 11, 4};
        struct udphdr udp_data[4] = {udp_header(target, 24)};
        int fd = open_socket(AF_INET, SOCK_RAW, IPPROTO_RAW);

        memcpy(route + 4, &((const struct sockaddr_in *)allowed_of(target))->sin_addr, 4);
        memcpy(route + 8, &((const struct sockaddr_in *)allowed_of(target))->sin_addr, 4);
        send_ipv4(target, fd, route, sizeof(route), 0, IPPROTO_UDP, udp_data, sizeof(udp_data));
        close(fd);
}

/* The first fragment ends within the header of the transport, or there is none, or the second overwrites it. */
static void fragments(const struct target *target, const uint16_t *offsets, const size_t *sizes, size_t n)
{
        struct udphdr udp_data[8] = {udp_header(target, 56)};
        int fd = open_socket(AF_INET, SOCK_RAW, IPPROTO_RAW);

        for (size_t i = 0; i < n; i++)
                send_ipv4(target, fd, NULL, 0, (uint16_t)(offsets[i] | (i + 1 < n ? 0x2000 : 0)), IPPROTO_UDP, udp_data,
                          sizes[i]);
        close(fd);
}

static void fragment_tiny(const struct target *target)
{
        fragments(target, (uint16_t[]){0, 1}, (size_t[]){8, 56}, 2);
}

static void fragment_late(const struct target *target)
{
        fragments(target, (uint16_t[]){100}, (size_t[]){64}, 1);
}

static void fragment_overlapping(const struct target *target)
{
        fragments(target, (uint16_t[]){0, 0}, (size_t[]){64, 64}, 2);
}

static void fragment_backwards(const struct target *target)
{
        fragments(target, (uint16_t[]){4, 0}, (size_t[]){32, 32}, 2);
}

/* An IPv6 packet with extension headers of one's own in front of UDP. */
static void send_ipv6(const struct target *target, uint8_t next, const void *data, size_t size)
{
        struct sockaddr_in6 address = *(const struct sockaddr_in6 *)forbidden_of(target);
        uint8_t packet[1500] = {0};
        struct ip6_hdr *ip = (struct ip6_hdr *)packet;
        int fd = open_socket(AF_INET6, SOCK_RAW, IPPROTO_RAW);

        ip->ip6_ctlun.ip6_un1 = (struct ip6_hdrctl){.ip6_un1_flow = htonl(6u << 28),
                                                    .ip6_un1_plen = htons((uint16_t)size),
                                                    .ip6_un1_nxt = next,
                                                    .ip6_un1_hlim = 64};
        ip->ip6_dst = address.sin6_addr;
        inet_pton(AF_INET6, OWN6, &ip->ip6_src);
        memcpy(packet + sizeof(*ip), data, size);
        address.sin6_port = 0;
        if (sendto(fd, packet, sizeof(*ip) + size, 0, (struct sockaddr *)&address, sizeof(address)) < 0)
                perror("sendto");
        close(fd);
}

static void extension(const struct target *target, uint8_t next, const uint8_t header_bytes[8])
{
        struct udphdr udp_data[4];

        memset(udp_data, 0, sizeof(udp_data));
        memcpy(udp_data, header_bytes, 8);
        udp_data[1] = udp_header(target, 16);
        send_ipv6(target, next, udp_data, sizeof(udp_data));
}

static void extension_hop(const struct target *target)
{
        extension(target, 0, (uint8_t[]){IPPROTO_UDP, 0, 0x1e, 4, 'o', 'u', 't', '!'});
}

static void extension_destination(const struct target *target)
{
        extension(target, 60, (uint8_t[]){IPPROTO_UDP, 0, 0x1e, 4, 'o', 'u', 't', '!'});
}

static void extension_routing(const struct target *target)
{
        extension(target, 43, (uint8_t[]){IPPROTO_UDP, 0, 0xfd, 0, 'o', 'u', 't', '!'});
}

/* A fragment that is whole, and one of which nothing but the end exists. */
static void extension_atomic(const struct target *target)
{
        extension(target, 44, (uint8_t[]){IPPROTO_UDP, 0, 0, 0, 0, 0, 0, 1});
}

static void extension_late(const struct target *target)
{
        extension(target, 44, (uint8_t[]){IPPROTO_UDP, 0, 3, 0x20, 0, 0, 0, 2});
}

static void no_next_header(const struct target *target)
{
        send_ipv6(target, 59, payload, sizeof(payload));
}

static void gre(const struct target *target)
{
        of_protocol(target, IPPROTO_GRE);
}

static void igmp(const struct target *target)
{
        of_protocol(target, IPPROTO_IGMP);
}

static void security(const struct target *target)
{
        of_protocol(target, IPPROTO_ESP);
}

static const struct technique techniques[] = {
        {"raw_header", header},
        {"raw_spoofed", spoofed},
        {"raw_header6", header6},
        {"raw_icmp", icmp},
        {"raw_udp", udp},
        {"raw_tcp", tcp},
        {"raw_experimental", experimental},
        {"raw_encapsulated", encapsulated},
        {"raw_header_options", header_options},
        {"raw_fragment_tiny", fragment_tiny},
        {"raw_fragment_late", fragment_late},
        {"raw_fragment_overlapping", fragment_overlapping},
        {"raw_fragment_backwards", fragment_backwards},
        {"raw_extension_hop", extension_hop},
        {"raw_extension_destination", extension_destination},
        {"raw_extension_routing", extension_routing},
        {"raw_extension_atomic", extension_atomic},
        {"raw_extension_late", extension_late},
        {"raw_no_next_header", no_next_header},
        {"raw_gre", gre},
        {"raw_igmp", igmp},
        {"raw_security", security},
        {NULL, NULL},
};

int main(int argc, char **argv)
{
        return technique_main(argc, argv, techniques);
}
