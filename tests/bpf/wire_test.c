/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What an agent is charged is what arrives: every length of datagram around the borders, every way of cutting, counted
 * frame by frame at the far end of a veth. To the byte, after each datagram.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agentd/datapath/internal.h"
#include "tests/lib/bpf_scene.h"
#include "tests/lib/bpf_wire.h"

enum { ALL = PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMP, PORT = 7100, DATAGRAM_MAX = 65507 };

static const struct bpf_rule allow_far[] = {{"192.0.2.0/24", false, ALL, 0, 65535},
                                            {"2001:db8:9::/64", false, ALL, 0, 65535}};

/* An agent at the near end and its cable. */
struct line {
        struct scene scene;
        struct bpf_policy *policy;
        struct wire wire;
};

static char zeroes[1 << 16];
static struct wire standing = {-1, -1, -1}; /* what a failed test leaves behind */

static int clear(void **state)
{
        wire_down(&standing);
        return scene_clear(state);
}

static bool line_up(struct bpf_world *world, struct line *line)
{
        *line = (struct line){};
        if (!world || !wire_up(&line->wire)) {
                printf("wire_test: needs root and veth\n");
                return false;
        }
        standing = line->wire;
        line->scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&line->scene);
        line->policy = scene_publish(&line->scene, allow_far, ARRAY_SIZE(allow_far));
        return true;
}

static void line_down(struct line *line)
{
        scene_withdraw(&line->scene, line->policy);
        scene_leave(&line->scene);
        wire_down(&line->wire);
        standing = line->wire;
}

static int line_socket(struct line *line, int family, int type, int protocol)
{
        int fd = -1;

        assert_int_equal(bpf_world_socket(line->scene.world, line->scene.cgroup_fd, family, type, protocol, &fd), 0);
        return fd;
}

/* over: what may be charged beyond what has left. */
static void assert_charged_within(struct line *line, __u64 over, const char *what, size_t size)
{
        __u64 packets[2], bytes[2], before[2] = {};

        for (;;) { /* TCP: until nothing moves any more */
                assert_int_equal(datapath_traffic(line->scene.world->datapath, line->scene.id, packets, bytes), 0);
                if (memcmp(bytes, before, sizeof(bytes)) == 0)
                        break;
                memcpy(before, bytes, sizeof(bytes));
                wire_wait(&line->wire, bytes[DIRECTION_EGRESS], bytes[DIRECTION_INGRESS]);
        }
        if (bytes[DIRECTION_EGRESS] >= line->wire.left && bytes[DIRECTION_EGRESS] <= line->wire.left + over &&
            bytes[DIRECTION_INGRESS] == line->wire.entered) {
                line->wire.left = bytes[DIRECTION_EGRESS];
                return;
        }
        fail_msg("%s, %zu bytes: charged %llu out and %llu in, there were %llu and %llu", what, size,
                 (unsigned long long)bytes[DIRECTION_EGRESS], (unsigned long long)bytes[DIRECTION_INGRESS],
                 (unsigned long long)line->wire.left, (unsigned long long)line->wire.entered);
}

static void assert_charged(struct line *line, const char *what, size_t size)
{
        assert_charged_within(line, 0, what, size);
}

/* Every length up to a few fragments of the MTU, and some long ones. Lengths that the socket refuses are not sent. */
static void send_lengths(struct line *line, int fd, int family, unsigned mtu, const char *what)
{
        static const size_t longer[] = {8192, 9001, 16384, 20000, 32769, 50000, 65000, 65487, DATAGRAM_MAX};
        socklen_t length;
        union wire_address to = wire_address(family, true, PORT, &length);
        size_t end = 3 * (size_t)mtu + 60, sent = 0;

        for (size_t i = 1; i < end + ARRAY_SIZE(longer); i++) {
                size_t size = i < end ? i : longer[i - end];
                ssize_t n;

                if (size > 300 * (size_t)mtu) /* more frames at once than a device's backlog takes */
                        continue;
                n = sendto(fd, zeroes, size, 0, &to.any, length);

                if (n < 0) {
                        if (errno != EMSGSIZE)
                                fail_msg("%s, %zu bytes: %s", what, size, strerror(errno));
                        continue;
                }
                sent++;
                assert_charged(line, what, size);
        }
        assert_true(sent >= mtu - 60);
}

static void set(int fd, int level, int name, int value)
{
        assert_int_equal(setsockopt(fd, level, name, &value, sizeof(value)), 0);
}

static void charges_datagrams_as_their_fragments(void **state)
{
        static const struct {
                int family;
                unsigned mtu;
        } cases[] = {{AF_INET, 1500}, {AF_INET, 1400},  {AF_INET, 1492},  {AF_INET, 576},   {AF_INET, 68},
                     {AF_INET, 9000}, {AF_INET6, 1500}, {AF_INET6, 1400}, {AF_INET6, 1280}, {AF_INET6, 1284}};
        struct line line;

        if (!line_up(*state, &line))
                skip();
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                int sink = -1, fd = -1;
                char what[64];

                snprintf(what, sizeof(what), "IPv%d, MTU %u", cases[i].family == AF_INET ? 4 : 6, cases[i].mtu);
                wire_mtu(&line.wire, cases[i].mtu);
                sink = wire_far_socket(&line.wire, cases[i].family, SOCK_DGRAM, 0, PORT);
                fd = line_socket(&line, cases[i].family, SOCK_DGRAM, 0);
                send_lengths(&line, fd, cases[i].family, cases[i].mtu, what);
                close(fd);
                close(sink);
        }
        line_down(&line);
}

/* Which MTU holds is the socket's choice: the route's, what was learned of the path, or the device's. */
static void charges_by_the_mtu_that_the_socket_goes_by(void **state)
{
        static const struct {
                int family, level, name, value;
        } cases[] = {{AF_INET, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT},
                     {AF_INET, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_WANT},
                     {AF_INET, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO},
                     {AF_INET, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE},
                     {AF_INET, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_INTERFACE},
                     {AF_INET, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT},
                     {AF_INET6, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT},
                     {AF_INET6, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_WANT},
                     {AF_INET6, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO},
                     {AF_INET6, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE},
                     {AF_INET6, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_INTERFACE},
                     {AF_INET6, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_OMIT},
                     {AF_INET6, IPPROTO_IPV6, IPV6_MTU, 1280}};
        struct line line;
        int sinks[2];

        if (!line_up(*state, &line))
                skip();
        wire_near("ip route add 192.0.2.2/32 dev near mtu 1000 && ip route add 2001:db8:9::2/128 dev near mtu 1300");
        sinks[0] = wire_far_socket(&line.wire, AF_INET, SOCK_DGRAM, 0, PORT);
        sinks[1] = wire_far_socket(&line.wire, AF_INET6, SOCK_DGRAM, 0, PORT);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                int fd = line_socket(&line, cases[i].family, SOCK_DGRAM, 0);
                char what[64];

                snprintf(what, sizeof(what), "IPv%d, option %d: %d", cases[i].family == AF_INET ? 4 : 6, cases[i].name,
                         cases[i].value);
                set(fd, cases[i].level, cases[i].name, cases[i].value);
                send_lengths(&line, fd, cases[i].family, 1000, what);
                close(fd);
        }
        close(sinks[0]);
        close(sinks[1]);
        line_down(&line);
}

/* ICMP's word that a router's MTU is smaller, as the far end of a connected socket would pass it on. */
static void tell_mtu(struct line *line, int fd, int family, unsigned mtu)
{
        int raw = wire_far_socket(&line->wire, family, SOCK_RAW, family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6, 0);
        union wire_address near = {}, to;
        socklen_t length = sizeof(near);

        assert_int_equal(getsockname(fd, &near.any, &length), 0);
        if (family == AF_INET) {
                struct {
                        struct icmphdr icmp;
                        struct iphdr ip;
                        struct udphdr udp;
                } message = {.icmp = {.type = ICMP_DEST_UNREACH, .code = ICMP_FRAG_NEEDED},
                             .ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP},
                             .udp = {.source = near.ipv4.sin_port, .dest = htons(PORT)}};
                const __u16 *words = (const void *)&message;
                __u32 sum = 0;

                to = wire_address(family, true, 0, &length);
                message.icmp.un.frag.mtu = htons((__u16)mtu);
                message.ip.tot_len = htons(1400);
                message.ip.saddr = near.ipv4.sin_addr.s_addr;
                message.ip.daddr = to.ipv4.sin_addr.s_addr;
                for (size_t i = 0; i < sizeof(message) / 2; i++)
                        sum += words[i];
                message.icmp.checksum = (__u16) ~((sum & 0xffff) + (sum >> 16));
                to = wire_address(family, false, 0, &length);
                assert_int_equal(sendto(raw, &message, sizeof(message), 0, &to.any, length), sizeof(message));
        } else {
                struct {
                        struct icmp6_hdr icmp;
                        struct ip6_hdr ip;
                        struct udphdr udp;
                } message = {.icmp = {.icmp6_type = ICMP6_PACKET_TOO_BIG}};

                to = wire_address(family, true, 0, &length);
                message.icmp.icmp6_mtu = htonl(mtu);
                message.ip.ip6_vfc = 0x60;
                message.ip.ip6_plen = htons(1360);
                message.ip.ip6_nxt = IPPROTO_UDP;
                message.ip.ip6_src = near.ipv6.sin6_addr;
                message.ip.ip6_dst = to.ipv6.sin6_addr;
                message.udp.source = near.ipv6.sin6_port;
                message.udp.dest = htons(PORT);
                to = wire_address(family, false, 0, &length);
                assert_int_equal(sendto(raw, &message, sizeof(message), 0, &to.any, length), sizeof(message));
        }
        close(raw);
}

static void charges_by_an_mtu_that_was_learned(void **state)
{
        static const struct {
                int family;
                unsigned told, believed; /* net.ipv4.route.min_pmtu */
        } cases[] = {{AF_INET, 1290, 1290}, {AF_INET, 300, 552}, {AF_INET6, 1290, 1290}};
        struct line line;

        if (!line_up(*state, &line))
                skip();
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                int sink = wire_far_socket(&line.wire, cases[i].family, SOCK_DGRAM, 0, PORT);
                int fd = line_socket(&line, cases[i].family, SOCK_DGRAM, 0);
                int level = cases[i].family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
                int name = cases[i].family == AF_INET ? IP_MTU : IPV6_MTU, mtu = 0;
                socklen_t length, size;
                union wire_address near = {}, to = wire_address(cases[i].family, true, PORT, &length);
                __u64 packets[2], bytes[2];

                assert_int_equal(connect(fd, &to.any, length), 0);
                tell_mtu(&line, fd, cases[i].family, cases[i].told);
                /* What is sent after it arrives after it. */
                size = sizeof(near);
                assert_int_equal(getsockname(fd, &near.any, &size), 0);
                assert_int_equal(sendto(sink, "marker", 6, 0, &near.any, size), 6);
                while (recv(fd, zeroes, sizeof(zeroes), 0) < 0)
                        assert_int_equal(errno, EMSGSIZE);
                size = sizeof(mtu);
                assert_int_equal(getsockopt(fd, level, name, &mtu, &size), 0);
                assert_int_equal(mtu, cases[i].believed);
                /* The message is the kernel's to the kernel: it entered, and nobody was charged for it. */
                assert_int_equal(datapath_traffic(line.scene.world->datapath, line.scene.id, packets, bytes), 0);
                wire_wait(&line.wire, 0, 0);
                line.wire.entered = bytes[DIRECTION_INGRESS];
                send_lengths(&line, fd, cases[i].family, cases[i].believed,
                             cases[i].family == AF_INET ? "learned, IPv4" : "learned, IPv6");
                close(fd);
                close(sink);
        }
        line_down(&line);
}

/* A corked datagram is cut when it is written and leaves when it is uncorked; the MTU may have changed between. */
static void charges_what_was_cut_for_another_mtu(void **state)
{
        static const struct {
                int family;
                unsigned before, after;
                int part;
                int late; /* IPV6_MTU, set when it has been written */
        } cases[] = {{AF_INET, 1500, 576, 0},     {AF_INET, 576, 1500, 0},         {AF_INET, 1500, 1400, 0},
                     {AF_INET, 1500, 68, 0},      {AF_INET6, 1500, 1280, 0},       {AF_INET6, 1280, 1500, 0},
                     {AF_INET, 1500, 1400, 1400}, {AF_INET, 1500, 576, 1000},      {AF_INET6, 1500, 1280, 1400},
                     {AF_INET, 1500, 1500, 1400}, {AF_INET6, 1500, 1500, 1400},    {AF_INET, 1500, 1500, 1},
                     {AF_INET, 1500, 68, 100},    {AF_INET6, 1500, 1500, 0, 1280}, {AF_INET6, 1500, 1400, 1400, 1300}};
        struct line line;
        int sinks[2];

        if (!line_up(*state, &line))
                skip();
        sinks[0] = wire_far_socket(&line.wire, AF_INET, SOCK_DGRAM, 0, PORT);
        sinks[1] = wire_far_socket(&line.wire, AF_INET6, SOCK_DGRAM, 0, PORT);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                socklen_t length;
                union wire_address to = wire_address(cases[i].family, true, PORT, &length);
                size_t end = cases[i].part == 1 ? 60 : 9000;
                char what[96];
                int fd;

                snprintf(what, sizeof(what), "IPv%d, written at MTU %u, sent at %u, parts of %d",
                         cases[i].family == AF_INET ? 4 : 6, cases[i].before, cases[i].after, cases[i].part);
                fd = line_socket(&line, cases[i].family, SOCK_DGRAM, 0);
                assert_int_equal(connect(fd, &to.any, length), 0);
                if (cases[i].part)
                        set(fd, IPPROTO_UDP, UDP_SEGMENT, cases[i].part);
                for (size_t size = 2; size < end; size += size < 100 ? 1 : 31) {
                        wire_near_mtu(cases[i].before);
                        if (cases[i].late)
                                set(fd, IPPROTO_IPV6, IPV6_MTU, 0);
                        set(fd, IPPROTO_UDP, UDP_CORK, 1);
                        assert_int_equal(send(fd, zeroes, size, 0), size);
                        wire_near_mtu(cases[i].after);
                        if (cases[i].late)
                                set(fd, IPPROTO_IPV6, IPV6_MTU, cases[i].late);
                        set(fd, IPPROTO_UDP, UDP_CORK, 0);
                        /* As many pieces as were made then; whether the last was the longer one is not looked at. */
                        assert_charged_within(&line, cases[i].after > cases[i].before ? 20 : 0, what, size);
                }
                close(fd);
                wire_mtu(&line.wire, 1500);
        }
        close(sinks[0]);
        close(sinks[1]);
        line_down(&line);
}

/* Options before the fragment header are repeated in each fragment. */
static void charges_repeated_extension_headers(void **state)
{
        union {
                struct cmsghdr header;
                char bytes[CMSG_SPACE(24)];
        } control = {};
        static const __u8 lengths[] = {8, 16, 24};
        struct line line;
        int fd, sink;

        if (!line_up(*state, &line))
                skip();
        sink = wire_far_socket(&line.wire, AF_INET6, SOCK_DGRAM, 0, PORT);
        fd = line_socket(&line, AF_INET6, SOCK_DGRAM, 0);
        for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
                for (size_t size = 1; size < 4500; size++) {
                        socklen_t length;
                        union wire_address to = wire_address(AF_INET6, true, PORT, &length);
                        struct iovec part = {zeroes, size};
                        struct msghdr message = {.msg_name = &to,
                                                 .msg_namelen = length,
                                                 .msg_iov = &part,
                                                 .msg_iovlen = 1,
                                                 .msg_control = &control,
                                                 .msg_controllen = CMSG_SPACE(lengths[i])};
                        __u8 *options = CMSG_DATA(&control.header);

                        control.header = (struct cmsghdr){.cmsg_level = IPPROTO_IPV6,
                                                          .cmsg_type = IPV6_DSTOPTS,
                                                          .cmsg_len = CMSG_LEN(lengths[i])};
                        memset(options, 0, lengths[i]);
                        options[1] = (__u8)(lengths[i] / 8 - 1);
                        options[2] = 0x1e; /* an experiment's, to be skipped by those who do not know it */
                        options[3] = (__u8)(lengths[i] - 4);
                        assert_int_equal(sendmsg(fd, &message, 0), size);
                        assert_charged(&line, "destination options", size);
                }
        }
        close(fd);
        close(sink);
        line_down(&line);
}

/* Echo requests and what comes back, which has been put together again before it is charged. */
static void charges_pings_both_ways(void **state)
{
        static const struct {
                int family;
                unsigned mtu;
        } cases[] = {{AF_INET, 1500}, {AF_INET, 1400}, {AF_INET, 576}, {AF_INET6, 1500}, {AF_INET6, 1284}};
        struct line line;

        if (!line_up(*state, &line))
                skip();
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                socklen_t length;
                union wire_address to = wire_address(cases[i].family, true, 0, &length);
                int fd = line_socket(&line, cases[i].family, SOCK_DGRAM,
                                     cases[i].family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
                char what[64];

                snprintf(what, sizeof(what), "ping, IPv%d, MTU %u", cases[i].family == AF_INET ? 4 : 6, cases[i].mtu);
                wire_mtu(&line.wire, cases[i].mtu);
                for (size_t size = 8; size <= 65000; size += size < 4600 ? 1 : 5003) {
                        char echo[1 << 16] = {};
                        struct pollfd ready = {.fd = fd, .events = POLLIN};

                        echo[0] = (char)(cases[i].family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST);
                        assert_int_equal(sendto(fd, echo, size, 0, &to.any, length), size);
                        assert_int_equal(poll(&ready, 1, 5000), 1);
                        assert_int_equal(recv(fd, echo, sizeof(echo), 0), size);
                        assert_charged(&line, what, size);
                }
                close(fd);
        }
        line_down(&line);
}

static void charges_datagrams_that_came_in_fragments(void **state)
{
        static const struct {
                int family;
                unsigned mtu;
        } cases[] = {{AF_INET, 1500}, {AF_INET, 1400}, {AF_INET, 576}, {AF_INET6, 1500}, {AF_INET6, 1284}};
        struct line line;

        if (!line_up(*state, &line))
                skip();
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                socklen_t length;
                union wire_address near = wire_address(cases[i].family, false, PORT, &length),
                                   from = wire_address(cases[i].family, true, PORT, &length);
                int far, fd = line_socket(&line, cases[i].family, SOCK_DGRAM, 0);
                char what[64];

                snprintf(what, sizeof(what), "inbound, IPv%d, MTU %u", cases[i].family == AF_INET ? 4 : 6,
                         cases[i].mtu);
                wire_mtu(&line.wire, cases[i].mtu);
                far = wire_far_socket(&line.wire, cases[i].family, SOCK_DGRAM, 0, PORT);
                assert_int_equal(bind(fd, &near.any, length), 0);
                assert_int_equal(connect(fd, &from.any, length), 0);
                for (size_t size = 1; size <= 65000; size += size < 4600 ? 1 : 5003) {
                        assert_int_equal(sendto(far, zeroes, size, 0, &near.any, length), size);
                        assert_int_equal(recv(fd, zeroes, sizeof(zeroes), 0), size);
                        assert_charged(&line, what, size);
                }
                close(fd);
                close(far);
        }
        line_down(&line);
}

/* Sends so many bytes and closes, the far end first: what the kernel says for a socket in TIME_WAIT is nobody's. */
static void transfer(struct line *line, int family, size_t total, int discovery, const unsigned *mtus, size_t n_mtus)
{
        socklen_t length;
        union wire_address to = wire_address(family, true, PORT, &length);
        int listener = wire_far_socket(&line->wire, family, SOCK_STREAM, 0, 0), peer,
            fd = line_socket(line, family, SOCK_STREAM | SOCK_NONBLOCK, 0);
        size_t sent = 0, got = 0, step = total / (n_mtus + 1), changed = 0;
        struct pollfd ready;
        char buffer[1 << 16];

        set(listener, SOL_SOCKET, SO_REUSEADDR, 1);
        assert_int_equal(bind(listener, &to.any, length), 0);
        assert_int_equal(listen(listener, 1), 0);
        if (discovery >= 0)
                set(fd, IPPROTO_IP, IP_MTU_DISCOVER, discovery);
        assert_true(connect(fd, &to.any, length) == 0 || errno == EINPROGRESS);
        ready = (struct pollfd){.fd = listener, .events = POLLIN};
        assert_int_equal(poll(&ready, 1, 5000), 1);
        peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        assert_true(peer >= 0);
        while (got < total) {
                struct pollfd both[] = {{.fd = fd, .events = sent < total ? POLLOUT : 0},
                                        {.fd = peer, .events = POLLIN}};
                ssize_t n;

                assert_true(poll(both, 2, 10000) > 0);
                n = sent < total ? send(fd, zeroes, total - sent < sizeof(zeroes) ? total - sent : sizeof(zeroes), 0)
                                 : 0;
                sent += n > 0 ? (size_t)n : 0;
                n = recv(peer, buffer, sizeof(buffer), 0);
                got += n > 0 ? (size_t)n : 0;
                while (changed < n_mtus && got > (changed + 1) * step)
                        wire_near_mtu(mtus[changed++]);
        }
        close(peer);
        ready = (struct pollfd){.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&ready, 1, 5000), 1);
        assert_int_equal(recv(fd, buffer, sizeof(buffer), 0), 0);
        close(fd);
        close(listener);
}

static void charges_tcp_as_its_segments(void **state)
{
        static const struct {
                int family;
                unsigned mtu;
        } cases[] = {{AF_INET, 1500}, {AF_INET, 1400}, {AF_INET, 576}, {AF_INET6, 1500}, {AF_INET6, 1280}};
        struct line line;

        if (!line_up(*state, &line))
                skip();
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char what[64];

                snprintf(what, sizeof(what), "TCP, IPv%d, MTU %u", cases[i].family == AF_INET ? 4 : 6, cases[i].mtu);
                wire_mtu(&line.wire, cases[i].mtu);
                transfer(&line, cases[i].family, 3000000, -1, NULL, 0);
                assert_charged(&line, what, 3000000);
        }
        line_down(&line);
}

/* The MTU falls and rises in mid-flow. Without DF the segments that are on their way are cut. */
static void charges_tcp_that_meets_another_mtu(void **state)
{
        static const unsigned mtus[] = {1400, 1000, 576, 1500, 600, 1200};
        struct line line;

        if (!line_up(*state, &line))
                skip();
        for (size_t i = 0; i < 5; i++) {
                transfer(&line, AF_INET, 3000000, IP_PMTUDISC_DONT, mtus, ARRAY_SIZE(mtus));
                assert_charged(&line, "TCP without DF", i);
                wire_mtu(&line.wire, 1500);
                transfer(&line, AF_INET, 3000000, IP_PMTUDISC_WANT, mtus, ARRAY_SIZE(mtus));
                assert_charged(&line, "TCP with DF", i);
                wire_mtu(&line.wire, 1500);
        }
        line_down(&line);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(charges_datagrams_as_their_fragments, clear),
                cmocka_unit_test_teardown(charges_by_the_mtu_that_the_socket_goes_by, clear),
                cmocka_unit_test_teardown(charges_by_an_mtu_that_was_learned, clear),
                cmocka_unit_test_teardown(charges_what_was_cut_for_another_mtu, clear),
                cmocka_unit_test_teardown(charges_repeated_extension_headers, clear),
                cmocka_unit_test_teardown(charges_pings_both_ways, clear),
                cmocka_unit_test_teardown(charges_datagrams_that_came_in_fragments, clear),
                cmocka_unit_test_teardown(charges_tcp_as_its_segments, clear),
                cmocka_unit_test_teardown(charges_tcp_that_meets_another_mtu, clear),
        };

        return cmocka_run_group_tests(tests, scene_world_up, scene_world_down);
}
