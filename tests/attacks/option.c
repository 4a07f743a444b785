/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Options of sockets and of single messages: where a packet leaves, what source it shows, what its header carries.
 *
 * option_data_*: given an allowed address as well. What must not arrive there is the option, data that no rule speaks
 * of; the plain datagram may.
 */
#include "technique.h"

#include <linux/seg6.h>
#include <netinet/ip.h>

enum { IP_UNICAST_INTERFACE = 50, IPV6_UNICAST_INTERFACE = 76, IPV6_FREE_BIND = 78 };

static int datagram_socket(const struct target *target)
{
        return open_socket(target->family, SOCK_DGRAM, 0);
}

static void send_payload(int fd, const struct sockaddr *address, socklen_t size)
{
        if (sendto(fd, payload, sizeof(payload), MSG_NOSIGNAL, address, size) < 0)
                perror("sendto");
        close(fd);
}

static void send_with(const struct target *target, const struct sockaddr *to, int level, int type, const void *value,
                      size_t size)
{
        char control[CMSG_SPACE(128)] = {0};
        struct iovec part = {(void *)payload, sizeof(payload)};
        struct msghdr message = {(void *)to, target->size, &part, 1, control, CMSG_SPACE(size), 0};
        struct cmsghdr *ancillary = CMSG_FIRSTHDR(&message);
        int fd = datagram_socket(target);

        ancillary->cmsg_level = level;
        ancillary->cmsg_type = type;
        ancillary->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(ancillary), value, size);
        if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0)
                perror("sendmsg");
        close(fd);
}

static void send_after(const struct target *target, const struct sockaddr *to, int level, int name, const void *value,
                       socklen_t size)
{
        int fd = datagram_socket(target);

        if (setsockopt(fd, level, name, value, size))
                perror("setsockopt");
        send_payload(fd, to, target->size);
}

static void packet_info(const struct target *target)
{
        if (target->family == AF_INET) {
                struct in_pktinfo info = {.ipi_ifindex = (int)if_nametoindex("eth0")};

                send_with(target, forbidden_of(target), SOL_IP, IP_PKTINFO, &info, sizeof(info));
        } else {
                struct in6_pktinfo info = {.ipi6_ifindex = if_nametoindex("eth0")};

                send_with(target, forbidden_of(target), SOL_IPV6, IPV6_PKTINFO, &info, sizeof(info));
        }
}

static void bound_to_device(const struct target *target)
{
        send_after(target, forbidden_of(target), SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5);
}

static void unicast_interface(const struct target *target)
{
        uint32_t index = htonl(if_nametoindex("eth0"));

        if (target->family == AF_INET)
                send_after(target, forbidden_of(target), SOL_IP, IP_UNICAST_INTERFACE, &index, sizeof(index));
        else
                send_after(target, forbidden_of(target), SOL_IPV6, IPV6_UNICAST_INTERFACE, &index, sizeof(index));
}

static void marked(const struct target *target)
{
        int mark = 0x1234;

        send_after(target, forbidden_of(target), SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
}

static void marked_message(const struct target *target)
{
        int mark = 0x1234;

        send_with(target, forbidden_of(target), SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
}

static void no_route(const struct target *target)
{
        int one = 1;

        send_after(target, forbidden_of(target), SOL_SOCKET, SO_DONTROUTE, &one, sizeof(one));
}

static void transparent(const struct target *target)
{
        int one = 1;

        send_after(target, forbidden_of(target), target->family == AF_INET ? SOL_IP : SOL_IPV6,
                   target->family == AF_INET ? 19 /* IP_TRANSPARENT */ : 75, &one, sizeof(one));
}

/* A source that is not the agent's. */
static void foreign_source(const struct target *target)
{
        struct sockaddr_storage own;
        socklen_t size = 0;
        int one = 1, fd = datagram_socket(target);

        parse(target->family == AF_INET ? "192.0.2.99" : "2001:db8:2::99", "0", &own, &size);
        if (target->family == AF_INET)
                setsockopt(fd, SOL_IP, IP_TRANSPARENT, &one, sizeof(one));
        else
                setsockopt(fd, SOL_IPV6, IPV6_FREE_BIND, &one, sizeof(one));
        if (bind(fd, (struct sockaddr *)&own, size))
                perror("bind");
        send_payload(fd, forbidden_of(target), target->size);
}

/* From port 53, as if a name server answered. */
static void name_server_source(const struct target *target)
{
        struct sockaddr_storage own = {.ss_family = (sa_family_t)target->family};
        int one = 1, fd = datagram_socket(target);

        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
        ((struct sockaddr_in *)&own)->sin_port = htons(53);
        if (bind(fd, (struct sockaddr *)&own, target->size))
                perror("bind");
        send_payload(fd, forbidden_of(target), target->size);
}

struct route_header {
        struct ipv6_sr_hdr header;
        struct in6_addr segments[2];
} __attribute__((packed));

static void routing_header_ancillary(const struct target *target)
{
        struct route_header route = {.header = {.hdrlen = 4, .type = 4, .segments_left = 1, .first_segment = 1}};

        route.segments[0] = ((const struct sockaddr_in6 *)allowed_of(target))->sin6_addr;
        route.segments[1] = ((const struct sockaddr_in6 *)forbidden_of(target))->sin6_addr;
        send_with(target, allowed_of(target), SOL_IPV6, IPV6_RTHDR, &route, sizeof(route));
}

/* Type 2 (mobile IPv6): the home address is the real end. */
static void routing_header_mobile(const struct target *target)
{
        uint8_t route[24] = {0, 2, 2, 1};

        memcpy(route + 8, &((const struct sockaddr_in6 *)forbidden_of(target))->sin6_addr, 16);
        send_after(target, allowed_of(target), SOL_IPV6, IPV6_RTHDR, route, sizeof(route));
}

/* Sixteen bytes of an option that nobody knows and that all skip (type 0x1e, experimental). */
static const uint8_t unknown_option[16] = {0, 1, 0x1e, 12, 'o', 'u', 't', ' ', 'o', 'f', ' ', 'h', 'e', 'r', 'e'};

static void data_hop(const struct target *target)
{
        send_after(target, forbidden_of(target), SOL_IPV6, IPV6_HOPOPTS, unknown_option, sizeof(unknown_option));
}

static void data_hop_ancillary(const struct target *target)
{
        send_with(target, forbidden_of(target), SOL_IPV6, IPV6_HOPOPTS, unknown_option, sizeof(unknown_option));
}

static void data_destination(const struct target *target)
{
        send_after(target, forbidden_of(target), SOL_IPV6, IPV6_DSTOPTS, unknown_option, sizeof(unknown_option));
}

static void data_destination_ancillary(const struct target *target)
{
        send_with(target, forbidden_of(target), SOL_IPV6, IPV6_DSTOPTS, unknown_option, sizeof(unknown_option));
}

static void data_destination_old(const struct target *target)
{
        send_after(target, forbidden_of(target), SOL_IPV6, IPV6_2292DSTOPTS, unknown_option, sizeof(unknown_option));
}

/* A list of ancillary data as one option: the old way to set them all. */
static void data_packet_options(const struct target *target)
{
        char control[CMSG_SPACE(sizeof(unknown_option))] = {0};
        struct cmsghdr *ancillary = (struct cmsghdr *)control;

        ancillary->cmsg_level = SOL_IPV6;
        ancillary->cmsg_type = IPV6_2292DSTOPTS;
        ancillary->cmsg_len = CMSG_LEN(sizeof(unknown_option));
        memcpy(CMSG_DATA(ancillary), unknown_option, sizeof(unknown_option));
        send_after(target, forbidden_of(target), SOL_IPV6, 6 /* IPV6_2292PKTOPTIONS */, control, sizeof(control));
}

/* Room for four timestamps, filled by the sender. */
static const uint8_t timestamp_option[20] = {68, 20, 17, 0, 'o', 'u', 't', ' ', 'o', 'f', ' ', 'h', 'e', 'r', 'e', '!'};

static void data_timestamp(const struct target *target)
{
        send_after(target, forbidden_of(target), SOL_IP, IP_OPTIONS, timestamp_option, sizeof(timestamp_option));
}

static void data_timestamp_ancillary(const struct target *target)
{
        send_with(target, forbidden_of(target), SOL_IP, IP_RETOPTS, timestamp_option, sizeof(timestamp_option));
}

static const struct technique techniques[] = {
        {"option_packet_info", packet_info},
        {"option_bound_to_device", bound_to_device},
        {"option_unicast_interface", unicast_interface},
        {"option_marked", marked},
        {"option_marked_message", marked_message},
        {"option_no_route", no_route},
        {"option_transparent", transparent},
        {"option_foreign_source", foreign_source},
        {"option_name_server_source", name_server_source},
        {"option_routing_header_ancillary", routing_header_ancillary},
        {"option_routing_header_mobile", routing_header_mobile},
        {"option_data_hop", data_hop},
        {"option_data_hop_ancillary", data_hop_ancillary},
        {"option_data_destination", data_destination},
        {"option_data_destination_ancillary", data_destination_ancillary},
        {"option_data_destination_old", data_destination_old},
        {"option_data_packet_options", data_packet_options},
        {"option_data_timestamp", data_timestamp},
        {"option_data_timestamp_ancillary", data_timestamp_ancillary},
        {NULL, NULL},
};

int main(int argc, char **argv)
{
        return technique_main(argc, argv, techniques);
}
