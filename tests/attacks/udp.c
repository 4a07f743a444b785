/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Datagrams: changing peers, ancillary data, options that route, segments and fragments, UDP-Lite and ping sockets. */
#include "technique.h"

#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/seg6.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

static void send_to(int fd, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length)
{
        if (sendto(fd, data, size, flags | MSG_NOSIGNAL, address, length) < 0)
                perror("sendto");
}

static void plain(const struct target *target)
{
        int fd = open_socket(target->family, SOCK_DGRAM, 0);

        send_to(fd, payload, sizeof(payload), 0, forbidden_of(target), target->size);
        close(fd);
}

static void connected(const struct target *target)
{
        int fd = open_socket(target->family, SOCK_DGRAM, 0);

        if (connect(fd, forbidden_of(target), target->size))
                perror("connect");
        if (write(fd, payload, sizeof(payload)) < 0)
                perror("write");
        close(fd);
}

static void message(const struct target *target)
{
        struct iovec part = {(void *)payload, sizeof(payload)};
        struct msghdr header = {.msg_name = (void *)forbidden_of(target),
                                .msg_namelen = target->size,
                                .msg_iov = &part,
                                .msg_iovlen = 1};
        int fd = open_socket(target->family, SOCK_DGRAM, 0);

        if (sendmsg(fd, &header, 0) < 0)
                perror("sendmsg");
        close(fd);
}

/* One system call, two peers: what was judged for the first must not hold for the second. */
static void messages(const struct target *target)
{
        struct iovec part = {(void *)payload, sizeof(payload)};
        struct mmsghdr headers[2] = {
                {.msg_hdr = {(void *)allowed_of(target), target->size, &part, 1, NULL, 0, 0}},
                {.msg_hdr = {(void *)forbidden_of(target), target->size, &part, 1, NULL, 0, 0}},
        };
        int fd = open_socket(target->family, SOCK_DGRAM, 0);

        if (sendmmsg(fd, headers, 2, 0) < 2)
                perror("sendmmsg");
        close(fd);
}

/* Many allowed packets first, so that every cache is warm. */
static void changing_peer(const struct target *target)
{
        int fd = open_socket(target->family, SOCK_DGRAM, 0);

        for (int i = 0; i < 20; i++)
                send_to(fd, payload, sizeof(payload), 0, allowed_of(target), target->size);
        send_to(fd, payload, sizeof(payload), 0, forbidden_of(target), target->size);
        close(fd);
}

static void connected_elsewhere(const struct target *target)
{
        int fd = open_socket(target->family, SOCK_DGRAM, 0);

        connect(fd, allowed_of(target), target->size);
        send(fd, payload, sizeof(payload), 0);
        /* Twice: the first call may only fetch an ICMP error of the allowed peer. */
        send_to(fd, payload, sizeof(payload), 0, forbidden_of(target), target->size);
        send_to(fd, payload, sizeof(payload), 0, forbidden_of(target), target->size);
        close(fd);
}

static void reconnected(const struct target *target)
{
        struct sockaddr unspecified = {.sa_family = AF_UNSPEC};
        int fd = open_socket(target->family, SOCK_DGRAM, 0);

        connect(fd, allowed_of(target), target->size);
        send(fd, payload, sizeof(payload), 0);
        connect(fd, &unspecified, sizeof(unspecified));
        connect(fd, forbidden_of(target), target->size);
        send(fd, payload, sizeof(payload), 0);
        close(fd);
}

/* The family of the address says AF_UNSPEC, which the kernel reads as IPv4. */
static void unspecified_family(const struct target *target)
{
        struct sockaddr_storage address = target->forbidden;
        int fd = open_socket(target->family, SOCK_DGRAM, 0);

        address.ss_family = AF_UNSPEC;
        send_to(fd, payload, sizeof(payload), 0, (struct sockaddr *)&address, target->size);
        close(fd);
}

static void mapped(const struct target *target)
{
        const struct sockaddr_in *four = (const struct sockaddr_in *)forbidden_of(target);
        struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = four->sin_port};
        int fd = open_socket(AF_INET6, SOCK_DGRAM, 0);

        memset(&six.sin6_addr.s6_addr[10], 0xff, 2);
        memcpy(&six.sin6_addr.s6_addr[12], &four->sin_addr, 4);
        send_to(fd, payload, sizeof(payload), 0, (struct sockaddr *)&six, sizeof(six));
        close(fd);
}

static void corked(const struct target *target)
{
        int fd = open_socket(target->family, SOCK_DGRAM, 0);

        send_to(fd, payload, sizeof(payload), MSG_MORE, forbidden_of(target), target->size);
        send_to(fd, payload, sizeof(payload), 0, allowed_of(target), target->size);
        close(fd);
}

static void segmented(const struct target *target)
{
        char data[4000] = {0};
        int size = 1000, fd = open_socket(target->family, SOCK_DGRAM, 0);

        setsockopt(fd, IPPROTO_UDP, 103 /* UDP_SEGMENT */, &size, sizeof(size));
        send_to(fd, data, sizeof(data), 0, forbidden_of(target), target->size);
        close(fd);
}

static void fragmented(const struct target *target)
{
        char data[8000] = {0};
        int fd = open_socket(target->family, SOCK_DGRAM, 0);

        send_to(fd, data, sizeof(data), 0, forbidden_of(target), target->size);
        close(fd);
}

static void zero_copy(const struct target *target)
{
        int one = 1, fd = open_socket(target->family, SOCK_DGRAM, 0);

        setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one));
        send_to(fd, payload, sizeof(payload), MSG_ZEROCOPY, forbidden_of(target), target->size);
        close(fd);
}

/* splice() and sendfile() into a socket that was connected: connect() is where these can be refused early. */
static void spliced(const struct target *target)
{
        int pipe_fds[2], fd = open_socket(target->family, SOCK_DGRAM, 0);

        if (pipe(pipe_fds) || write(pipe_fds[1], payload, sizeof(payload)) < 0)
                return;
        connect(fd, forbidden_of(target), target->size);
        if (splice(pipe_fds[0], NULL, fd, NULL, sizeof(payload), 0) < 0)
                perror("splice");
        close(fd);
}

static void sent_file(const struct target *target)
{
        int file = open("/proc/self/exe", O_RDONLY), fd = open_socket(target->family, SOCK_DGRAM, 0);
        off_t offset = 0;

        connect(fd, forbidden_of(target), target->size);
        if (sendfile(fd, file, &offset, 100) < 0)
                perror("sendfile");
        close(fd);
}

static void broadcast(const struct target *target)
{
        int one = 1, fd = open_socket(target->family, SOCK_DGRAM, 0);

        setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof(one));
        send_to(fd, payload, sizeof(payload), 0, forbidden_of(target), target->size);
        close(fd);
}

/* A loose source route: the call names the allowed address, the packet goes to the first hop. */
static size_t source_route(const struct target *target, uint8_t *ret_options)
{
        const struct sockaddr_in *hop = (const struct sockaddr_in *)forbidden_of(target);
        const struct sockaddr_in *end = (const struct sockaddr_in *)allowed_of(target);

        memcpy(ret_options, (uint8_t[]){1, 131, 11, 4}, 4);
        memcpy(ret_options + 4, &hop->sin_addr, 4);
        memcpy(ret_options + 8, &end->sin_addr, 4);
        return 12;
}

static void option_route(const struct target *target)
{
        uint8_t options[12];
        size_t size = source_route(target, options);
        int fd = open_socket(AF_INET, SOCK_DGRAM, 0);

        if (setsockopt(fd, SOL_IP, IP_OPTIONS, options, size))
                perror("IP_OPTIONS");
        send_to(fd, payload, sizeof(payload), 0, allowed_of(target), target->size);
        close(fd);
}

static void option_route_ancillary(const struct target *target)
{
        uint8_t options[12];
        char control[CMSG_SPACE(sizeof(options))] = {0};
        struct iovec part = {(void *)payload, sizeof(payload)};
        struct msghdr header = {(void *)allowed_of(target), target->size, &part, 1, control, sizeof(control), 0};
        struct cmsghdr *ancillary = CMSG_FIRSTHDR(&header);
        int fd = open_socket(AF_INET, SOCK_DGRAM, 0);

        ancillary->cmsg_level = SOL_IP;
        ancillary->cmsg_type = IP_RETOPTS;
        ancillary->cmsg_len = CMSG_LEN(source_route(target, options));
        memcpy(CMSG_DATA(ancillary), options, sizeof(options));
        if (sendmsg(fd, &header, 0) < 0)
                perror("sendmsg");
        close(fd);
}

struct route_header {
        struct ipv6_sr_hdr header;
        struct in6_addr segments[2];
} __attribute__((packed));

/* A segment routing header: the last segment is the allowed address, the first hop the forbidden one. */
static struct route_header segment_route(const struct target *target)
{
        struct route_header route = {.header = {.hdrlen = 4, .type = 4, .segments_left = 1, .first_segment = 1}};

        route.segments[0] = ((const struct sockaddr_in6 *)allowed_of(target))->sin6_addr;
        route.segments[1] = ((const struct sockaddr_in6 *)forbidden_of(target))->sin6_addr;
        return route;
}

static void routing_header(const struct target *target)
{
        struct route_header route = segment_route(target);
        int fd = open_socket(AF_INET6, SOCK_DGRAM, 0);

        if (setsockopt(fd, SOL_IPV6, IPV6_RTHDR, &route, sizeof(route)))
                perror("IPV6_RTHDR");
        send_to(fd, payload, sizeof(payload), 0, allowed_of(target), target->size);
        close(fd);
}

static void routing_header_compat(const struct target *target)
{
        struct route_header route = segment_route(target);
        int fd = open_socket(AF_INET6, SOCK_DGRAM, 0);

        setsockopt_compat(fd, SOL_IPV6, IPV6_RTHDR, &route, sizeof(route));
        send_to(fd, payload, sizeof(payload), 0, allowed_of(target), target->size);
        close(fd);
}

static void option_route_compat(const struct target *target)
{
        uint8_t options[12];
        size_t size = source_route(target, options);
        int fd = open_socket(AF_INET, SOCK_DGRAM, 0);

        setsockopt_compat(fd, SOL_IP, IP_OPTIONS, options, (uint32_t)size);
        send_to(fd, payload, sizeof(payload), 0, allowed_of(target), target->size);
        close(fd);
}

static void light(const struct target *target)
{
        int fd = open_socket(target->family, SOCK_DGRAM, IPPROTO_UDPLITE);

        send_to(fd, payload, sizeof(payload), 0, forbidden_of(target), target->size);
        close(fd);
}

static void light_connected(const struct target *target)
{
        int fd = open_socket(target->family, SOCK_DGRAM, IPPROTO_UDPLITE);

        connect(fd, forbidden_of(target), target->size);
        send(fd, payload, sizeof(payload), 0);
        close(fd);
}

static int ping_socket(const struct target *target)
{
        return open_socket(target->family, SOCK_DGRAM, target->family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

static void ping(const struct target *target)
{
        uint8_t echo[16] = {target->family == AF_INET ? 8 : 128};
        int fd = ping_socket(target);

        send_to(fd, echo, sizeof(echo), 0, forbidden_of(target), target->size);
        close(fd);
}

static void ping_connected(const struct target *target)
{
        uint8_t echo[16] = {target->family == AF_INET ? 8 : 128};
        int fd = ping_socket(target);

        connect(fd, forbidden_of(target), target->size);
        send(fd, echo, sizeof(echo), 0);
        close(fd);
}

/* The kernel itself reports the join, and the group's address is the message. It does so within a moment. */
static void join_with(const struct target *target, int level, int name, const void *request, socklen_t size)
{
        int fd = open_socket(target->family, SOCK_DGRAM, 0);

        if (setsockopt(fd, level, name, request, size))
                perror("join");
        poll(NULL, 0, 300);
        close(fd);
}

static void join(const struct target *target)
{
        if (target->family == AF_INET) {
                struct ip_mreqn request = {.imr_multiaddr =
                                                   ((const struct sockaddr_in *)forbidden_of(target))->sin_addr,
                                           .imr_ifindex = (int)if_nametoindex("eth0")};

                join_with(target, SOL_IP, IP_ADD_MEMBERSHIP, &request, sizeof(request));
        } else {
                struct ipv6_mreq request = {.ipv6mr_multiaddr =
                                                    ((const struct sockaddr_in6 *)forbidden_of(target))->sin6_addr,
                                            .ipv6mr_interface = if_nametoindex("eth0")};

                join_with(target, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &request, sizeof(request));
        }
}

static void join_group(const struct target *target)
{
        struct group_req request = {.gr_interface = if_nametoindex("eth0"), .gr_group = target->forbidden};

        join_with(target, target->family == AF_INET ? SOL_IP : SOL_IPV6, MCAST_JOIN_GROUP, &request, sizeof(request));
}

static void join_source(const struct target *target)
{
        if (target->family == AF_INET) {
                struct ip_mreq_source request = {.imr_multiaddr =
                                                         ((const struct sockaddr_in *)forbidden_of(target))->sin_addr,
                                                 .imr_interface.s_addr = inet_addr(OWN4),
                                                 .imr_sourceaddr.s_addr = inet_addr(OTHER4)};

                join_with(target, SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, &request, sizeof(request));
        } else {
                struct group_source_req request = {.gsr_interface = if_nametoindex("eth0"),
                                                   .gsr_group = target->forbidden,
                                                   .gsr_source = target->allowed};

                join_with(target, SOL_IPV6, MCAST_JOIN_SOURCE_GROUP, &request, sizeof(request));
        }
}

static void join_compat(const struct target *target)
{
        struct ip_mreqn request = {.imr_multiaddr = ((const struct sockaddr_in *)forbidden_of(target))->sin_addr,
                                   .imr_ifindex = (int)if_nametoindex("eth0")};
        struct ipv6_mreq request6 = {.ipv6mr_multiaddr = ((const struct sockaddr_in6 *)forbidden_of(target))->sin6_addr,
                                     .ipv6mr_interface = if_nametoindex("eth0")};
        int fd = open_socket(target->family, SOCK_DGRAM, 0);

        if (target->family == AF_INET)
                setsockopt_compat(fd, SOL_IP, IP_ADD_MEMBERSHIP, &request, sizeof(request));
        else
                setsockopt_compat(fd, SOL_IPV6, IPV6_ADD_MEMBERSHIP, &request6, sizeof(request6));
        poll(NULL, 0, 300);
        close(fd);
}

/* A network of one's own addresses, any of them: the solicited-node group is joined. */
static void join_anycast(const struct target *target)
{
        struct ipv6_mreq request = {.ipv6mr_multiaddr = ((const struct sockaddr_in6 *)forbidden_of(target))->sin6_addr,
                                    .ipv6mr_interface = if_nametoindex("eth0")};

        join_with(target, SOL_IPV6, 27 /* IPV6_JOIN_ANYCAST */, &request, sizeof(request));
}

static const struct technique techniques[] = {
        {"udp", plain},
        {"udp_connected", connected},
        {"udp_message", message},
        {"udp_messages", messages},
        {"udp_changing_peer", changing_peer},
        {"udp_connected_elsewhere", connected_elsewhere},
        {"udp_reconnected", reconnected},
        {"udp_unspecified_family", unspecified_family},
        {"udp_mapped", mapped},
        {"udp_corked", corked},
        {"udp_segmented", segmented},
        {"udp_fragmented", fragmented},
        {"udp_zero_copy", zero_copy},
        {"udp_spliced", spliced},
        {"udp_sent_file", sent_file},
        {"udp_broadcast", broadcast},
        {"udp_join", join},
        {"udp_join_group", join_group},
        {"udp_join_source", join_source},
        {"udp_join_compat", join_compat},
        {"udp_join_anycast", join_anycast},
        {"udp_option_route", option_route},
        {"udp_option_route_ancillary", option_route_ancillary},
        {"udp_routing_header", routing_header},
        {"udp_routing_header_compat", routing_header_compat},
        {"udp_option_route_compat", option_route_compat},
        {"udplite", light},
        {"udplite_connected", light_connected},
        {"ping", ping},
        {"ping_connected", ping_connected},
        {NULL, NULL},
};

int main(int argc, char **argv)
{
        return technique_main(argc, argv, techniques);
}
