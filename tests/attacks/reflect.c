/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel as a messenger: a packet whose source is forged goes to the agent's own loopback, and the kernel answers
 * that source, with an ICMP error that holds the data, an echo reply or a reset. No socket of the agent's sends the
 * answer.
 */
#include "frame.h"

enum { CLOSED_PORT = 9, FREE_BIND6 = 78, TRANSPARENT4 = 19, FREE_BIND4 = 15 };

/* The kernel lets nothing out that comes from 127/8, but it does let ::1. */
static struct sockaddr_storage loopback(int family, socklen_t *ret_size)
{
        struct sockaddr_storage address;

        parse(family == AF_INET ? OWN4 : "::1", "9", &address, ret_size);
        return address;
}

/* From the forbidden address, which no interface has, to a port of one's own where nobody listens. */
static void forged_by(const struct target *target, int type, int protocol, int level, int option, bool compat)
{
        uint8_t data[64] = {target->family == AF_INET ? 8 : 128};
        socklen_t size;
        struct sockaddr_storage own = loopback(target->family, &size);
        int one = 1, fd = open_socket(target->family, type, protocol);

        if (compat)
                setsockopt_compat(fd, level, option, &one, sizeof(one));
        else if (setsockopt(fd, level, option, &one, sizeof(one)))
                perror("setsockopt");
        if (bind(fd, forbidden_of(target), target->size))
                perror("bind");
        if (sendto(fd, data, sizeof(data), 0, (struct sockaddr *)&own, size) < 0)
                perror("sendto");
        close(fd);
}

static void forged(const struct target *target, int type, int protocol, int level, int option)
{
        forged_by(target, type, protocol, level, option, false);
}

static void error_compat(const struct target *target)
{
        forged_by(target, SOCK_DGRAM, 0, SOL_IPV6, FREE_BIND6, true);
}

static void echo_compat(const struct target *target)
{
        forged_by(target, SOCK_DGRAM, IPPROTO_ICMPV6, SOL_IPV6, FREE_BIND6, true);
}

static void error(const struct target *target)
{
        forged(target, SOCK_DGRAM, 0, SOL_IPV6, FREE_BIND6);
}

/* The same option by its other level. */
static void error_mapped_level(const struct target *target)
{
        forged(target, SOCK_DGRAM, 0, SOL_IP, FREE_BIND4);
}

static void echo(const struct target *target)
{
        forged(target, SOCK_DGRAM, IPPROTO_ICMPV6, SOL_IPV6, FREE_BIND6);
}

static void error_transparent(const struct target *target)
{
        if (target->family == AF_INET)
                forged(target, SOCK_DGRAM, 0, SOL_IP, TRANSPARENT4);
        else
                forged(target, SOCK_DGRAM, 0, SOL_IPV6, 75);
}

static void error_ancillary(const struct target *target)
{
        struct in6_pktinfo info = {.ipi6_addr = ((const struct sockaddr_in6 *)forbidden_of(target))->sin6_addr};
        char control[CMSG_SPACE(sizeof(info))] = {0};
        socklen_t size;
        struct sockaddr_storage own = loopback(AF_INET6, &size);
        struct iovec part = {(void *)payload, sizeof(payload)};
        struct msghdr message = {&own, size, &part, 1, control, sizeof(control), 0};
        struct cmsghdr *ancillary = CMSG_FIRSTHDR(&message);
        int one = 1, fd = open_socket(AF_INET6, SOCK_DGRAM, 0);

        ancillary->cmsg_level = SOL_IPV6;
        ancillary->cmsg_type = IPV6_PKTINFO;
        ancillary->cmsg_len = CMSG_LEN(sizeof(info));
        memcpy(CMSG_DATA(ancillary), &info, sizeof(info));
        if (setsockopt(fd, SOL_IPV6, FREE_BIND6, &one, sizeof(one)))
                perror("setsockopt");
        if (sendmsg(fd, &message, 0) < 0)
                perror("sendmsg");
        close(fd);
}

static void reset_by(const struct target *target, bool compat)
{
        struct sockaddr_storage source = target->forbidden;
        socklen_t size;
        struct sockaddr_storage own = loopback(AF_INET6, &size);
        int one = 1, fd = open_socket(AF_INET6, SOCK_STREAM, 0);

        if (compat)
                setsockopt_compat(fd, SOL_IPV6, FREE_BIND6, &one, sizeof(one));
        else if (setsockopt(fd, SOL_IPV6, FREE_BIND6, &one, sizeof(one)))
                perror("setsockopt");
        if (bind(fd, (struct sockaddr *)&source, target->size))
                perror("bind");
        if (connect(fd, (struct sockaddr *)&own, size))
                perror("connect");
        close(fd);
}

static void reset(const struct target *target)
{
        reset_by(target, false);
}

static void reset_compat(const struct target *target)
{
        reset_by(target, true);
}

/* --- by hand ------------------------------------------------------------------------------------------------------ */

/* An IPv4 packet from the forbidden address to the agent's own one, given to the loopback device as if it had been
 * sent. */
static void inject(const struct target *target, uint8_t protocol, void *data, size_t size)
{
        struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_halen = 6};
        static const uint8_t nobody[6];
        struct sockaddr_in own = {.sin_family = AF_INET};
        struct frame frame;
        struct link link;
        int fd;

        link_read(&link);
        own.sin_addr = link.four;
        link.four = ((const struct sockaddr_in *)forbidden_of(target))->sin_addr;
        frame_ethernet(&frame, nobody, nobody, ETH_P_IP);
        frame_ip(&frame, &link, (struct sockaddr *)&own, protocol, data, size);
        address.sll_ifindex = (int)if_nametoindex("lo");
        fd = open_socket(AF_PACKET, SOCK_RAW, 0);
        if (fd < 0)
                return;
        if (sendto(fd, frame.bytes, frame.size, 0, (struct sockaddr *)&address, sizeof(address)) < 0)
                perror("sendto");
        close(fd);
}

static void inject_echo(const struct target *target)
{
        uint8_t data[24] = {8, 0, 0, 0, 0, 1, 0, 1, 'o', 'u', 't'};
        uint16_t sum = sum_fold(sum_of(data, sizeof(data), 0));

        memcpy(data + 2, &sum, 2);
        inject(target, IPPROTO_ICMP, data, sizeof(data));
}

static void inject_error(const struct target *target)
{
        struct {
                struct udphdr header;
                char data[sizeof(payload)];
        } __attribute__((packed))
        udp = {.header = {.source = htons(4000), .dest = htons(CLOSED_PORT), .len = htons(sizeof(udp))}};

        memcpy(udp.data, payload, sizeof(payload));
        inject(target, IPPROTO_UDP, &udp, sizeof(udp));
}

static void inject_reset(const struct target *target)
{
        uint8_t segment[20] = {0x10, 0, 0, CLOSED_PORT, 1, 2, 3, 4, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff};
        struct in_addr from = ((const struct sockaddr_in *)forbidden_of(target))->sin_addr;
        struct link link;
        uint16_t sum;

        link_read(&link);
        sum = sum_fold(sum_of(segment, sizeof(segment),
                              sum_of(&from, 4, sum_of(&link.four, 4, sizeof(segment) + IPPROTO_TCP))));
        memcpy(segment + 16, &sum, 2);
        inject(target, IPPROTO_TCP, segment, sizeof(segment));
}

/* A raw socket's header says who is to be answered. */
static void raw_error(const struct target *target)
{
        struct {
                struct iphdr ip;
                struct udphdr udp;
                char data[sizeof(payload)];
        } __attribute__((packed)) packet = {
                .ip = {.version = 4,
                       .ihl = 5,
                       .ttl = 64,
                       .protocol = IPPROTO_UDP,
                       .saddr = ((const struct sockaddr_in *)forbidden_of(target))->sin_addr.s_addr,
                       .daddr = inet_addr(OWN4)},
                .udp = {.source = htons(4000), .dest = htons(CLOSED_PORT), .len = htons(8 + sizeof(payload))},
        };
        struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(OWN4)};
        int fd = open_socket(AF_INET, SOCK_RAW, IPPROTO_RAW);

        memcpy(packet.data, payload, sizeof(payload));
        if (sendto(fd, &packet, sizeof(packet), 0, (struct sockaddr *)&own, sizeof(own)) < 0)
                perror("sendto");
        close(fd);
}

static const struct technique techniques[] = {
        {"reflect_error", error},
        {"reflect_error_compat", error_compat},
        {"reflect_echo_compat", echo_compat},
        {"reflect_reset_compat", reset_compat},
        {"reflect_error_other_level", error_mapped_level},
        {"reflect_error_transparent", error_transparent},
        {"reflect_error_ancillary", error_ancillary},
        {"reflect_echo", echo},
        {"reflect_reset", reset},
        {"reflect_raw_error", raw_error},
        {"reflect_packet_echo", inject_echo},
        {"reflect_packet_error", inject_error},
        {"reflect_packet_reset", inject_reset},
        {NULL, NULL},
};

int main(int argc, char **argv)
{
        return technique_main(argc, argv, techniques);
}
