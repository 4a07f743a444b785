/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See bpf_wire.h. The namespace lives by its descriptor: nothing of it is left when the process is gone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"
#include "tests/lib/bpf_wire.h"

static void enter(int fd)
{
        assert_int_equal(setns(fd, CLONE_NEWNET), 0);
}

void wire_near(const char *command)
{
        assert_int_equal(system(command), 0);
}

void wire_far(struct wire *wire, const char *command)
{
        enter(wire->far_fd);
        wire_near(command);
        enter(wire->near_fd);
}

/* TSO and its kin: without them a frame is a packet as it would be on a cable. Whatever is not there is off. */
static void offloads_off(const char *device)
{
        static const char *const names[] = {"tx-tcp-segmentation", "tx-tcp-ecn-segmentation",
                                            "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation",
                                            "tx-udp-segmentation"};
        struct {
                struct ethtool_sset_info info;
                __u32 length;
        } set = {.info = {.cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1ULL << ETH_SS_FEATURES}};
        _cleanup_free_ struct ethtool_gstrings *strings = NULL;
        _cleanup_free_ struct ethtool_sfeatures *features = NULL;
        struct ifreq request = {.ifr_data = (void *)&set};
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        size_t blocks;

        assert_true(fd >= 0);
        snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", device);
        assert_int_equal(ioctl(fd, SIOCETHTOOL, &request), 0);
        strings = calloc(1, sizeof(*strings) + (size_t)set.length * ETH_GSTRING_LEN);
        blocks = (set.length + 31) / 32;
        features = calloc(1, sizeof(*features) + blocks * sizeof(features->features[0]));
        assert_true(strings && features);

        strings->cmd = ETHTOOL_GSTRINGS;
        strings->string_set = ETH_SS_FEATURES;
        strings->len = set.length;
        request.ifr_data = (void *)strings;
        assert_int_equal(ioctl(fd, SIOCETHTOOL, &request), 0);

        features->cmd = ETHTOOL_SFEATURES;
        features->size = (__u32)blocks;
        for (size_t i = 0; i < set.length; i++)
                for (size_t j = 0; j < ARRAY_SIZE(names); j++)
                        if (strcmp((char *)strings->data + i * ETH_GSTRING_LEN, names[j]) == 0)
                                features->features[i / 32].valid |= 1U << i % 32;
        request.ifr_data = (void *)features;
        assert_true(ioctl(fd, SIOCETHTOOL, &request) >= 0);
        close(fd);
}

static int capture(void)
{
        int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), room = 1 << 28;
        struct sockaddr_ll from = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};

        assert_true(fd >= 0);
        from.sll_ifindex = (int)if_nametoindex("far");
        assert_int_not_equal(from.sll_ifindex, 0);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)), 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
        return fd;
}

static const char near_addresses[] = "ip address replace 192.0.2.1/24 dev near"
                                     " && ip neighbour replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev near",
                  near_addresses6[] = "ip address replace 2001:db8:9::1/64 dev near nodad"
                                      " && ip neighbour replace 2001:db8:9::2 lladdr 02:00:00:00:00:02 dev near",
                  far_addresses[] = "ip address replace 192.0.2.2/24 dev far"
                                    " && ip neighbour replace 192.0.2.1 lladdr 02:00:00:00:00:01 dev far",
                  far_addresses6[] = "ip address replace 2001:db8:9::2/64 dev far nodad"
                                     " && ip neighbour replace 2001:db8:9::1 lladdr 02:00:00:00:00:01 dev far";

bool wire_up(struct wire *wire)
{
        char command[256];

        *wire = (struct wire){.near_fd = -1, .far_fd = -1, .capture_fd = -1};
        wire->near_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        assert_true(wire->near_fd >= 0);
        assert_int_equal(unshare(CLONE_NEWNET), 0);
        wire->far_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        assert_true(wire->far_fd >= 0);
        enter(wire->near_fd);

        snprintf(command, sizeof(command),
                 "ip link add near address 02:00:00:00:00:01 type veth"
                 " peer name far address 02:00:00:00:00:02 netns /proc/%d/fd/%d",
                 getpid(), wire->far_fd);
        if (system(command) != 0) {
                wire_down(wire);
                return false;
        }
        wire_near("ip link set near addrgenmode none && ip link set near up && echo '0 0' > "
                  "/proc/sys/net/ipv4/ping_group_range");
        wire_far(wire, "ip link set far addrgenmode none && ip link set lo up && ip link set far up");
        offloads_off("near");
        enter(wire->far_fd);
        offloads_off("far");
        wire->capture_fd = capture();
        enter(wire->near_fd);
        wire_mtu(wire, 1500);
        return true;
}

void wire_down(struct wire *wire)
{
        (void)!system("ip link del near 2>/dev/null");
        close_fd(&wire->capture_fd);
        close_fd(&wire->far_fd);
        close_fd(&wire->near_fd);
}

void wire_mtu(struct wire *wire, unsigned mtu)
{
        char command[128];

        snprintf(command, sizeof(command), "ip link set far mtu %u", mtu);
        wire_far(wire, command);
        snprintf(command, sizeof(command), "ip link set near mtu %u", mtu);
        wire_near(command);
        wire_near(near_addresses);
        wire_far(wire, far_addresses);
        if (mtu >= 1280) {
                wire_near(near_addresses6);
                wire_far(wire, far_addresses6);
        }
}

void wire_near_mtu(unsigned mtu)
{
        struct ifreq request = {.ifr_name = "near", .ifr_mtu = (int)mtu};
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(ioctl(fd, SIOCSIFMTU, &request), 0);
        close(fd);
}

union wire_address wire_address(int family, bool far, __u16 port, socklen_t *ret_length)
{
        union wire_address address = {};

        if (family == AF_INET) {
                address.ipv4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
                assert_int_equal(inet_pton(family, far ? WIRE_FAR4 : "192.0.2.1", &address.ipv4.sin_addr), 1);
                *ret_length = sizeof(address.ipv4);
        } else {
                address.ipv6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
                assert_int_equal(inet_pton(family, far ? WIRE_FAR6 : "2001:db8:9::1", &address.ipv6.sin6_addr), 1);
                *ret_length = sizeof(address.ipv6);
        }
        return address;
}

int wire_far_socket(struct wire *wire, int family, int type, int protocol, __u16 port)
{
        socklen_t length;
        union wire_address address = wire_address(family, true, port, &length);
        int fd;

        enter(wire->far_fd);
        fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
        enter(wire->near_fd);
        assert_true(fd >= 0);
        if (port)
                assert_int_equal(bind(fd, &address.any, length), 0);
        return fd;
}

/* One frame's weight; 0: nobody's traffic. A frame that is longer than its header says would be a segment uncut. */
static __u64 frame_weight(const __u8 *frame, size_t length, __u16 protocol)
{
        const struct iphdr *ipv4 = (const void *)frame;
        const struct ip6_hdr *ipv6 = (const void *)frame;

        if (protocol == ETHERTYPE_IP && length >= sizeof(*ipv4)) {
                assert_int_equal(ntohs(ipv4->tot_len), length);
                return length;
        }
        if (protocol == ETHERTYPE_IPV6 && length >= sizeof(*ipv6)) {
                if (ipv6->ip6_nxt == IPPROTO_HOPOPTS ||
                    (ipv6->ip6_nxt == IPPROTO_ICMPV6 && frame[sizeof(*ipv6)] >= MLD_LISTENER_QUERY))
                        return 0;
                assert_int_equal(ntohs(ipv6->ip6_plen) + sizeof(*ipv6), length);
                return length;
        }
        return 0;
}

void wire_wait(struct wire *wire, __u64 left, __u64 entered)
{
        for (;;) {
                struct pollfd ready = {.fd = wire->capture_fd, .events = POLLIN};
                struct sockaddr_ll from;
                socklen_t size = sizeof(from);
                __u8 frame[128];
                ssize_t n =
                        recvfrom(wire->capture_fd, frame, sizeof(frame), MSG_TRUNC, (struct sockaddr *)&from, &size);
                __u64 weight;

                if (n < 0) {
                        assert_int_equal(errno, EAGAIN);
                        if ((wire->left >= left && wire->entered >= entered) || poll(&ready, 1, 2000) <= 0)
                                break;
                        continue;
                }
                weight = frame_weight(frame, (size_t)n, ntohs(from.sll_protocol));
                if (from.sll_pkttype == PACKET_OUTGOING) {
                        wire->entered += weight;
                } else {
                        wire->left += weight;
                        wire->frames_left += weight != 0;
                }
        }
}
