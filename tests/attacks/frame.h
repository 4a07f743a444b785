/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ethernet frames written by hand: what a packet socket, an AF_XDP socket or a tap device sends.
 *
 * eth0 is the agent's link; ATTACK_GATEWAY_MAC in the environment is whom frames go to (a host of the link).
 */
#pragma once

#include "technique.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <sys/ioctl.h>

struct frame {
        size_t size;
        uint8_t bytes[2000];
};

struct link {
        int ifindex;
        uint8_t mac[6];
        uint8_t gateway[6];
        struct in_addr four;
        struct in6_addr six;
};

static inline void link_read(struct link *link)
{
        const char *gateway = getenv("ATTACK_GATEWAY_MAC");
        struct ifreq request = {.ifr_name = "eth0"};
        int fd = socket(AF_INET, SOCK_DGRAM, 0);

        memset(link, 0, sizeof(*link));
        link->ifindex = (int)if_nametoindex("eth0");
        if (!gateway || sscanf(gateway, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &link->gateway[0], &link->gateway[1],
                               &link->gateway[2], &link->gateway[3], &link->gateway[4], &link->gateway[5]) != 6)
                fprintf(stderr, "ATTACK_GATEWAY_MAC is missing\n");
        if (ioctl(fd, SIOCGIFHWADDR, &request) == 0)
                memcpy(link->mac, request.ifr_hwaddr.sa_data, 6);
        if (ioctl(fd, SIOCGIFADDR, &request) == 0)
                link->four = ((struct sockaddr_in *)&request.ifr_addr)->sin_addr;
        close(fd);
        inet_pton(AF_INET6, OWN6, &link->six);
}

static inline void *frame_add(struct frame *frame, const void *data, size_t size)
{
        void *at = frame->bytes + frame->size;

        if (data)
                memcpy(at, data, size);
        else
                memset(at, 0, size);
        frame->size += size;
        return at;
}

static inline uint32_t sum_of(const void *data, size_t size, uint32_t sum)
{
        const uint8_t *bytes = data;

        for (size_t i = 0; i < size; i++)
                sum += (uint32_t)bytes[i] << (i & 1 ? 0 : 8);
        return sum;
}

static inline uint16_t sum_fold(uint32_t sum)
{
        while (sum >> 16)
                sum = (sum & 0xffff) + (sum >> 16);
        return htons((uint16_t)~sum);
}

static inline void frame_ethernet(struct frame *frame, const uint8_t *to, const uint8_t *from, uint16_t type)
{
        uint16_t number = htons(type);

        frame->size = 0;
        frame_add(frame, to, 6);
        frame_add(frame, from, 6);
        frame_add(frame, &number, 2);
}

/* An IP packet to address, of this protocol; the payload follows. */
static inline void frame_ip(struct frame *frame, const struct link *link, const struct sockaddr *address,
                            uint8_t protocol, const void *data, size_t size)
{
        if (address->sa_family == AF_INET) {
                struct iphdr ip = {.version = 4,
                                   .ihl = 5,
                                   .ttl = 64,
                                   .id = htons(4711),
                                   .protocol = protocol,
                                   .tot_len = htons((uint16_t)(sizeof(ip) + size)),
                                   .saddr = link->four.s_addr,
                                   .daddr = ((const struct sockaddr_in *)address)->sin_addr.s_addr};

                ip.check = sum_fold(sum_of(&ip, sizeof(ip), 0));
                frame_add(frame, &ip, sizeof(ip));
        } else {
                struct ip6_hdr ip = {.ip6_src = link->six,
                                     .ip6_dst = ((const struct sockaddr_in6 *)address)->sin6_addr};

                ip.ip6_flow = htonl(6u << 28);
                ip.ip6_plen = htons((uint16_t)size);
                ip.ip6_nxt = protocol;
                ip.ip6_hlim = 64;
                frame_add(frame, &ip, sizeof(ip));
        }
        frame_add(frame, data, size);
}

/* UDP with the payload, to this address. IPv6 wants a checksum. */
static inline void frame_udp(struct frame *frame, const struct link *link, const struct sockaddr *address)
{
        struct {
                struct udphdr header;
                char data[sizeof(payload)];
        } __attribute__((packed)) udp = {
                .header = {.source = htons(4000), .len = htons(sizeof(udp))},
        };
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
        uint32_t sum;

        udp.header.dest = ((const struct sockaddr_in *)address)->sin_port;
        memcpy(udp.data, payload, sizeof(payload));
        if (address->sa_family == AF_INET6) {
                sum = sum_of(&link->six, 16, sum_of(&six->sin6_addr, 16, sizeof(udp) + IPPROTO_UDP));
                udp.header.check = sum_fold(sum_of(&udp, sizeof(udp), sum));
        }
        frame_ip(frame, link, address, IPPROTO_UDP, &udp, sizeof(udp));
}

static inline uint16_t type_of(const struct target *target)
{
        return target->family == AF_INET ? ETH_P_IP : ETH_P_IPV6;
}

static inline void frame_send_by(int fd, const struct link *link, const struct frame *frame)
{
        struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = link->ifindex, .sll_halen = 6};

        memcpy(address.sll_addr, frame->bytes, 6);
        memcpy(&address.sll_protocol, frame->bytes + 12, 2);
        if (sendto(fd, frame->bytes, frame->size, 0, (struct sockaddr *)&address, sizeof(address)) < 0)
                perror("sendto");
}

static inline void frame_send(const struct link *link, const struct frame *frame)
{
        int fd = open_socket(AF_PACKET, SOCK_RAW, 0);

        if (fd < 0)
                return;
        frame_send_by(fd, link, frame);
        close(fd);
}
