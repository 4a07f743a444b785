/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A container's only program: static, and the first thing it does is to send. One that is let go a moment before
 * enforcement holds is seen at the far end.
 *
 *     first udp|frame ADDRESS PORT     prints "sent" or the error; frame: an IP packet through a packet socket on eth0
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <netpacket/packet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Of the bridge that oci.bash makes: what the first instruction would have to ask for. */
static const unsigned char gateway[6] = {0x02, 0, 0, 0, 0x58, 0x01};

static int send_datagram(const struct in_addr *address, unsigned short port)
{
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = *address, .sin_port = htons(port)};
        int fd = socket(AF_INET, SOCK_DGRAM, 0);

        return fd < 0 || sendto(fd, "first", 5, 0, (struct sockaddr *)&to, sizeof(to)) < 0 ? -errno : 0;
}

static unsigned short ip_sum(const void *header)
{
        const unsigned short *words = header;
        unsigned sum = 0;

        for (int i = 0; i < 10; i++)
                sum += words[i];
        sum = (sum & 0xffff) + (sum >> 16);
        return (unsigned short)~((sum & 0xffff) + (sum >> 16));
}

static int send_frame(const struct in_addr *address, unsigned short port)
{
        struct {
                struct iphdr ip;
                struct udphdr udp;
                char text[6];
        } packet = {
                .ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .tot_len = htons(33)},
                .udp = {.uh_sport = htons(1024), .uh_dport = htons(port), .uh_ulen = htons(13)},
                .text = "first",
        };
        struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_halen = 6};
        int fd = socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP));

        memcpy(to.sll_addr, gateway, sizeof(gateway));
        to.sll_ifindex = (int)if_nametoindex("eth0");
        packet.ip.saddr = inet_addr(getenv("FROM") ? getenv("FROM") : "10.88.0.2");
        packet.ip.daddr = address->s_addr;
        packet.ip.check = ip_sum(&packet.ip);
        return fd < 0 || sendto(fd, &packet, 33, 0, (struct sockaddr *)&to, sizeof(to)) < 0 ? -errno : 0;
}

int main(int argc, char *argv[])
{
        struct in_addr address;
        int r;

        if (argc != 4 || inet_pton(AF_INET, argv[2], &address) != 1)
                return 2;
        r = (strcmp(argv[1], "frame") == 0 ? send_frame : send_datagram)(&address, (unsigned short)atoi(argv[3]));
        puts(r == 0 ? "sent" : strerror(-r));
        return r != 0;
}
