/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a frame can say, each by a packet socket: hosts of the link, tags, types, address resolution, what stands behind
 * the packet. Whoever judges IP addresses alone lets most of these through.
 *
 * to_*: given an allowed address, which is in the IP header; what must not arrive is the rest of the frame.
 */
#include "frame.h"

#include <net/if_arp.h>

static const uint8_t broadcast_mac[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t other_mac[6] = {2, 0, 0, 0, 0, 0x99};

static void send_udp(const struct target *target, const uint8_t *to, const uint8_t *from)
{
        struct frame frame;
        struct link link;

        link_read(&link);
        frame_ethernet(&frame, to ? to : link.gateway, from ? from : link.mac, type_of(target));
        frame_udp(&frame, &link, forbidden_of(target));
        frame_send(&link, &frame);
}

static void to_other_host(const struct target *target)
{
        send_udp(target, other_mac, NULL);
}

static void to_all_hosts(const struct target *target)
{
        send_udp(target, broadcast_mac, NULL);
}

static void to_group(const struct target *target)
{
        send_udp(target, (const uint8_t[]){1, 0, 0x5e, 1, 2, 3}, NULL);
}

static void to_forged_source(const struct target *target)
{
        send_udp(target, NULL, other_mac);
}

/* Under the name of another host of the link, whose budget or rules these would be. */
static void spoofed(const struct target *target)
{
        struct frame frame;
        struct link link;

        link_read(&link);
        link.four.s_addr ^= htonl(1);
        link.six.s6_addr[15] ^= 1;
        frame_ethernet(&frame, link.gateway, link.mac, type_of(target));
        frame_udp(&frame, &link, forbidden_of(target));
        frame_send(&link, &frame);
}

/* n tags of this type, one in the other. */
static void tagged_with(const struct target *target, uint16_t outer, size_t n)
{
        uint16_t tag[2] = {htons(7), htons(ETH_P_8021Q)};
        struct frame frame;
        struct link link;

        link_read(&link);
        frame_ethernet(&frame, link.gateway, link.mac, outer);
        for (size_t i = 0; i < n; i++) {
                tag[1] = htons(i + 1 < n ? ETH_P_8021Q : type_of(target));
                frame_add(&frame, tag, sizeof(tag));
        }
        frame_udp(&frame, &link, forbidden_of(target));
        frame_send(&link, &frame);
}

static void to_tagged(const struct target *target)
{
        tagged_with(target, ETH_P_8021Q, 1);
}

static void to_tagged_twice(const struct target *target)
{
        tagged_with(target, ETH_P_8021AD, 2);
}

static void to_priority_tagged(const struct target *target)
{
        uint16_t tag[2] = {htons(5 << 13), htons(type_of(target))};
        struct frame frame;
        struct link link;

        link_read(&link);
        frame_ethernet(&frame, link.gateway, link.mac, ETH_P_8021Q);
        frame_add(&frame, tag, sizeof(tag));
        frame_udp(&frame, &link, forbidden_of(target));
        frame_send(&link, &frame);
}

static void of_type(const struct target *target, uint16_t type, const void *head, size_t size)
{
        struct frame frame;
        struct link link;

        link_read(&link);
        frame_ethernet(&frame, link.gateway, link.mac, type);
        frame_add(&frame, head, size);
        frame_udp(&frame, &link, forbidden_of(target));
        frame_send(&link, &frame);
}

static void to_unknown_type(const struct target *target)
{
        of_type(target, 0x88b5, NULL, 0);
}

static void to_tunnel_type(const struct target *target)
{
        /* MPLS with the bottom of the stack. */
        of_type(target, 0x8847, (const uint8_t[]){0, 1, 1, 64}, 4);
}

/* The older form: a length instead of a type, and three bytes of LLC. */
static void to_length(const struct target *target)
{
        of_type(target, target->family == AF_INET ? 0x2f : 0x43, (const uint8_t[]){0xaa, 0xaa, 3}, 3);
}

/* The other family's type on this packet. */
static void to_wrong_type(const struct target *target)
{
        of_type(target, target->family == AF_INET ? ETH_P_IPV6 : ETH_P_IP, NULL, 0);
}

static void to_trailer(const struct target *target)
{
        struct frame frame;
        struct link link;

        link_read(&link);
        frame_ethernet(&frame, link.gateway, link.mac, type_of(target));
        frame_udp(&frame, &link, forbidden_of(target));
        frame_add(&frame, "behind the packet", 17);
        frame_send(&link, &frame);
}

/* --- IPv4 and IPv6 headers of one's own
 * ------------------------------------------------------------------------------- */

static void send_ip(const struct target *target, uint8_t protocol, const void *data, size_t size)
{
        struct frame frame;
        struct link link;

        link_read(&link);
        frame_ethernet(&frame, link.gateway, link.mac, type_of(target));
        frame_ip(&frame, &link, forbidden_of(target), protocol, data, size);
        frame_send(&link, &frame);
}

static void experimental(const struct target *target)
{
        send_ip(target, 253, payload, sizeof(payload));
}

static void encapsulated(const struct target *target)
{
        send_ip(target, target->family == AF_INET ? IPPROTO_IPIP : IPPROTO_IPV6, payload, sizeof(payload));
}

static void icmp(const struct target *target)
{
        uint8_t echo[24] = {target->family == AF_INET ? 8 : 128, 0, 0, 0, 0, 0, 0, 0, 'o', 'u', 't'};

        send_ip(target, target->family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6, echo, sizeof(echo));
}

static void syn(const struct target *target)
{
        uint8_t segment[32] = {0x10, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0, 'o', 'u', 't'};

        memcpy(segment + 2, &((const struct sockaddr_in *)forbidden_of(target))->sin_port, 2);
        send_ip(target, IPPROTO_TCP, segment, sizeof(segment));
}

/* A later fragment only; the first one may be anybody's. */
static void fragment(const struct target *target)
{
        struct frame frame;
        struct link link;
        struct iphdr *ip;

        link_read(&link);
        frame_ethernet(&frame, link.gateway, link.mac, ETH_P_IP);
        ip = (struct iphdr *)(frame.bytes + 14);
        frame_udp(&frame, &link, forbidden_of(target));
        ip->frag_off = htons(64);
        ip->check = 0;
        ip->check = sum_fold(sum_of(ip, sizeof(*ip), 0));
        frame_send(&link, &frame);
}

/* A first fragment that ends within the transport's header. */
static void fragment_tiny(const struct target *target)
{
        struct frame frame;
        struct link link;
        struct iphdr *ip;

        link_read(&link);
        frame_ethernet(&frame, link.gateway, link.mac, ETH_P_IP);
        ip = (struct iphdr *)(frame.bytes + 14);
        frame_ip(&frame, &link, forbidden_of(target), IPPROTO_UDP, "\x0f\xa0\x23\x28", 4);
        ip->frag_off = htons(0x2000);
        ip->check = 0;
        ip->check = sum_fold(sum_of(ip, sizeof(*ip), 0));
        frame_send(&link, &frame);
}

static void extension(const struct target *target, uint8_t next, const uint8_t first[8])
{
        uint8_t data[32] = {0};

        memcpy(data, first, 8);
        memcpy(data + 8, "\x0f\xa0\x23\x28\x00\x18\x00\x00out of here", 19);
        send_ip(target, next, data, sizeof(data));
}

static void extension_hop(const struct target *target)
{
        extension(target, 0, (const uint8_t[]){IPPROTO_UDP, 0, 0x1e, 4, 'o', 'u', 't', '!'});
}

static void extension_destination(const struct target *target)
{
        extension(target, 60, (const uint8_t[]){IPPROTO_UDP, 0, 0x1e, 4, 'o', 'u', 't', '!'});
}

static void extension_fragment(const struct target *target)
{
        extension(target, 44, (const uint8_t[]){IPPROTO_UDP, 0, 3, 0x20, 0, 0, 0, 2});
}

static void extension_routing(const struct target *target)
{
        extension(target, 43, (const uint8_t[]){IPPROTO_UDP, 0, 0xfd, 0, 'o', 'u', 't', '!'});
}

/* --- address resolution
 * ----------------------------------------------------------------------------------------------- */

struct arp_packet {
        struct arphdr header;
        uint8_t sender_mac[6];
        struct in_addr sender;
        uint8_t target_mac[6];
        struct in_addr target;
} __attribute__((packed));

static void arp_with(const struct target *target, uint16_t operation, const uint8_t *target_mac, size_t trailer)
{
        struct arp_packet arp = {.header = {htons(ARPHRD_ETHER), htons(ETH_P_IP), 6, 4, htons(operation)}};
        struct frame frame;
        struct link link;

        link_read(&link);
        memcpy(arp.sender_mac, link.mac, 6);
        arp.sender = link.four;
        memcpy(arp.target_mac, target_mac, 6);
        arp.target = ((const struct sockaddr_in *)forbidden_of(target))->sin_addr;
        frame_ethernet(&frame, operation == ARPOP_REQUEST ? broadcast_mac : link.gateway, link.mac, ETH_P_ARP);
        frame_add(&frame, &arp, sizeof(arp));
        frame_add(&frame, NULL, trailer);
        frame_send(&link, &frame);
}

/* Who has this address? The question is the message. */
static void arp_request(const struct target *target)
{
        arp_with(target, ARPOP_REQUEST, (const uint8_t[6]){0}, 0);
}

static void arp_reply(const struct target *target)
{
        arp_with(target, ARPOP_REPLY, (const uint8_t[6]){'o', 'u', 't', ' ', 'o', 'f'}, 0);
}

static void arp_reverse(const struct target *target)
{
        arp_with(target, 3 /* RARP */, (const uint8_t[6]){'o', 'u', 't', ' ', 'o', 'f'}, 0);
}

/* to_arp_*: given the gateway's address, for which one may ask. */
static void to_arp_data(const struct target *target)
{
        arp_with(target, ARPOP_REQUEST, (const uint8_t[6]){'o', 'u', 't', ' ', 'o', 'f'}, 0);
}

static void to_arp_trailer(const struct target *target)
{
        arp_with(target, ARPOP_REQUEST, (const uint8_t[6]){0}, 18);
}

/* Neighbour discovery of this type: the target is the message. */
static void discovery(const struct target *target, uint8_t type, const uint8_t *option, size_t n_option)
{
        uint8_t message[64] = {type};
        struct sockaddr_in6 group = {.sin6_family = AF_INET6};
        const struct in6_addr *asked = &((const struct sockaddr_in6 *)forbidden_of(target))->sin6_addr;
        uint8_t group_mac[6] = {0x33, 0x33, 0xff};
        size_t size = 24 + n_option;
        struct frame frame;
        struct link link;
        uint16_t sum;

        link_read(&link);
        inet_pton(AF_INET6, "ff02::1:ff00:0", &group.sin6_addr);
        memcpy(&group.sin6_addr.s6_addr[13], &asked->s6_addr[13], 3);
        memcpy(group_mac + 3, &asked->s6_addr[13], 3);
        memcpy(message + 8, asked, 16);
        memcpy(message + 24, option, n_option);
        sum = sum_fold(sum_of(message, size,
                              sum_of(&group.sin6_addr, 16, sum_of(&link.six, 16, (uint32_t)size + IPPROTO_ICMPV6))));
        memcpy(message + 2, &sum, 2);
        frame_ethernet(&frame, group_mac, link.mac, ETH_P_IPV6);
        frame_ip(&frame, &link, (struct sockaddr *)&group, IPPROTO_ICMPV6, message, size);
        frame.bytes[14 + 7] = 255; /* the hop limit that discovery has */
        frame_send(&link, &frame);
}

static void solicitation(const struct target *target)
{
        discovery(target, 135, NULL, 0);
}

static void advertisement(const struct target *target)
{
        discovery(target, 136, NULL, 0);
}

static void router_advertisement(const struct target *target)
{
        discovery(target, 134, NULL, 0);
}

static void redirect(const struct target *target)
{
        discovery(target, 137, NULL, 0);
}

/* to_solicitation_*: for the gateway, for which one may ask; the option is the message. */
static void to_solicitation_data(const struct target *target)
{
        discovery(target, 135, (const uint8_t[]){1, 1, 'o', 'u', 't', ' ', 'o', 'f'}, 8);
}

static void to_solicitation_nonce(const struct target *target)
{
        discovery(target, 135, (const uint8_t[]){14, 1, 'o', 'u', 't', ' ', 'o', 'f'}, 8);
}

static const struct technique techniques[] = {
        {"frame_spoofed", spoofed},
        {"frame_experimental", experimental},
        {"frame_encapsulated", encapsulated},
        {"frame_icmp", icmp},
        {"frame_syn", syn},
        {"frame_fragment", fragment},
        {"frame_fragment_tiny", fragment_tiny},
        {"frame_extension_hop", extension_hop},
        {"frame_extension_destination", extension_destination},
        {"frame_extension_fragment", extension_fragment},
        {"frame_extension_routing", extension_routing},
        {"frame_to_other_host", to_other_host},
        {"frame_to_all_hosts", to_all_hosts},
        {"frame_to_group", to_group},
        {"frame_to_forged_source", to_forged_source},
        {"frame_to_tagged", to_tagged},
        {"frame_to_tagged_twice", to_tagged_twice},
        {"frame_to_priority_tagged", to_priority_tagged},
        {"frame_to_unknown_type", to_unknown_type},
        {"frame_to_tunnel_type", to_tunnel_type},
        {"frame_to_length", to_length},
        {"frame_to_wrong_type", to_wrong_type},
        {"frame_to_trailer", to_trailer},
        {"frame_arp_request", arp_request},
        {"frame_arp_reply", arp_reply},
        {"frame_arp_reverse", arp_reverse},
        {"frame_to_arp_data", to_arp_data},
        {"frame_to_arp_trailer", to_arp_trailer},
        {"frame_solicitation", solicitation},
        {"frame_advertisement", advertisement},
        {"frame_router_advertisement", router_advertisement},
        {"frame_redirect", redirect},
        {"frame_to_solicitation_data", to_solicitation_data},
        {"frame_to_solicitation_nonce", to_solicitation_nonce},
        {NULL, NULL},
};

int main(int argc, char **argv)
{
        return technique_main(argc, argv, techniques);
}
