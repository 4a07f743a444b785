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
        header_included(target, "10.200.1.99");
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
        inet_pton(AF_INET6, "2001:db8:200:1::20", &packet.ip.ip6_src);
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

static const struct technique techniques[] = {
        {"raw_header", header},
        {"raw_spoofed", spoofed},
        {"raw_header6", header6},
        {"raw_icmp", icmp},
        {"raw_udp", udp},
        {"raw_tcp", tcp},
        {"raw_experimental", experimental},
        {"raw_encapsulated", encapsulated},
        {NULL, NULL},
};

int main(int argc, char **argv)
{
        return technique_main(argc, argv, techniques);
}
