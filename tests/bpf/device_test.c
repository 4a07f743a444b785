/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the device program makes of frames: BPF_PROG_TEST_RUN over frames built here. A test run's interface is lo, so
 * the device that the program knows is lo, and its packets have a socket of no family: they are charged here.
 *
 * Each forbidden frame is an allowed one with one thing changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/abi_device.h"
#include "agentd/datapath/device.h"
#include "agentd/datapath/internal.h"
#include "tests/lib/bpf_world.h"

enum { AGENT = 5, IFINDEX = 1, PASSES = (__u32)-1, DROPS = 2, FRAME_MAX = 2048 };

static const __u8 own_mac[6] = {2, 0, 0, 0, 0, 2}, gateway_mac[6] = {2, 0, 0, 0, 0, 1},
                  other_mac[6] = {2, 0, 0, 0, 0, 9};
static const __u8 broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

#define OWN4     "10.7.0.2"
#define GATEWAY4 "10.7.0.1"
#define OWN6     "2001:db8:7::2"
#define OWN_LL   "fe80::2"
#define GATEWAY6 "2001:db8:7::1"
#define ALLOWED4 "203.0.113.9"
#define ALLOWED6 "2001:db8:1::9"

static const struct bpf_rule rules[] = {
        {"203.0.113.0/24", false, PROTOCOL_TCP | PROTOCOL_UDP, 443, 443},
        {"203.0.114.0/24", false, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMP, 0, 65535},
        {"2001:db8:1::/48", false, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMP, 0, 65535},
        {"203.0.113.66/32", true, PROTOCOL_TCP | PROTOCOL_UDP, 0, 65535},
        {"169.254.169.254/32", false, PROTOCOL_TCP, 0, 65535},
        {"198.18.5.0/24", false, PROTOCOL_TCP | PROTOCOL_UDP, 22, 22, .ingress = true},
        {"198.18.5.0/24", false, PROTOCOL_ICMP, 0, 65535, .ingress = true},
};

struct world {
        struct bpf_world *bpf;
        struct bpf_policy *policy;
        int cgroup_fd;
};

static struct address address(const char *text)
{
        struct address value;

        assert_int_equal(address_parse(text, &value), 0);
        return value;
}

static struct device device_make(void)
{
        struct device device = {.ifindex = IFINDEX, .agent_id = AGENT, .n_addresses = 3, .n_gateways = 2};

        memcpy(device.mac, own_mac, 6);
        memcpy(device.gateway_mac, gateway_mac, 6);
        device.addresses[0] = address(OWN4);
        device.addresses[1] = address(OWN6);
        device.addresses[2] = address(OWN_LL);
        device.gateways[0] = address(GATEWAY4);
        device.gateways[1] = address(GATEWAY6);
        return device;
}

static int set_up(void **state)
{
        struct world *world;
        struct device device = device_make();
        __u64 id;

        *state = NULL;
        if (!bpf_world_possible())
                return 0;
        world = calloc(1, sizeof(*world));
        if (!world || bpf_world_new("agdev", &world->bpf) < 0 ||
            bpf_world_cgroup(world->bpf, "agent", &world->cgroup_fd, &id) < 0 ||
            datapath_attach(world->bpf->datapath, AGENT, world->cgroup_fd, id, "test") < 0 ||
            bpf_policy_new(world->bpf, rules, ARRAY_SIZE(rules), &world->policy) < 0 ||
            datapath_device_set(world->bpf->datapath, &device) < 0)
                return -1;
        datapath_agent_publish(world->bpf->datapath, AGENT, world->policy->version, 0);
        *state = world;
        return 0;
}

static int tear_down(void **state)
{
        struct world *world = *state;

        if (!world)
                return 0;
        bpf_policy_free(world->policy);
        (void)datapath_detach(world->bpf->datapath, AGENT);
        close(world->cgroup_fd);
        bpf_world_free(world->bpf);
        free(world);
        return 0;
}

static struct world *world_of(void **state)
{
        if (!*state)
                skip();
        return *state;
}

/* --- frames --------------------------------------------------------------------------------------------------------
 */

struct frame {
        __u8 bytes[FRAME_MAX];
        size_t n;
};

static void put(struct frame *frame, const void *bytes, size_t n)
{
        assert_true(frame->n + n <= FRAME_MAX);
        memcpy(frame->bytes + frame->n, bytes, n);
        frame->n += n;
}

static void put16(struct frame *frame, __u16 value)
{
        put(frame, &(__u16){htons(value)}, 2);
}

static void put_address(struct frame *frame, const char *text)
{
        struct address value = address(text);
        bool ipv4 = strchr(text, '.') && !strchr(text, ':');

        put(frame, value.bytes + (ipv4 ? 12 : 0), ipv4 ? 4 : 16);
}

static void ethernet(struct frame *frame, const __u8 *destination, __u16 type)
{
        frame->n = 0;
        put(frame, destination, 6);
        put(frame, own_mac, 6);
        put16(frame, type);
}

static void ipv4(struct frame *frame, __u8 protocol, const char *destination, size_t payload)
{
        __u8 header[12] = {0x45, [8] = 64, [9] = protocol};

        ethernet(frame, gateway_mac, ETH_P_IP);
        put(frame, header, 12);
        put_address(frame, OWN4);
        put_address(frame, destination);
        frame->bytes[16] = (__u8)((20 + payload) >> 8);
        frame->bytes[17] = (__u8)(20 + payload);
}

static void ipv6(struct frame *frame, __u8 next, const char *source, const char *destination, size_t payload)
{
        __u8 header[8] = {0x60, [4] = (__u8)(payload >> 8), (__u8)payload, next, 64};

        ethernet(frame, gateway_mac, ETH_P_IPV6);
        put(frame, header, 8);
        put_address(frame, source);
        put_address(frame, destination);
}

static const __u8 zeros[FRAME_MAX];

static struct frame tcp(const char *destination, __u16 port, __u8 flags)
{
        bool six = strchr(destination, ':') != NULL;
        struct frame frame = {};
        __u8 rest[16] = {[8] = 0x50, flags};

        if (six)
                ipv6(&frame, IPPROTO_TCP, OWN6, destination, 20);
        else
                ipv4(&frame, IPPROTO_TCP, destination, 20);
        put16(&frame, 40000);
        put16(&frame, port);
        put(&frame, rest, 16);
        return frame;
}

static struct frame udp(const char *destination, __u16 port, size_t payload)
{
        bool six = strchr(destination, ':') != NULL;
        struct frame frame = {};

        if (six)
                ipv6(&frame, IPPROTO_UDP, OWN6, destination, 8 + payload);
        else
                ipv4(&frame, IPPROTO_UDP, destination, 8 + payload);
        put16(&frame, 40000);
        put16(&frame, port);
        put16(&frame, (__u16)(8 + payload));
        put16(&frame, 0);
        put(&frame, zeros, payload);
        return frame;
}

static struct frame arp(__u16 operation, const char *sender, const char *target)
{
        bool request = operation == 1;
        struct frame frame = {};

        ethernet(&frame, request ? broadcast : gateway_mac, ETH_P_ARP);
        put16(&frame, 1);
        put16(&frame, ETH_P_IP);
        put(&frame, "\x06\x04", 2);
        put16(&frame, operation);
        put(&frame, own_mac, 6);
        put_address(&frame, sender);
        put(&frame, request ? zeros : gateway_mac, 6);
        put_address(&frame, target);
        return frame;
}

static __u16 checksum(const struct frame *frame)
{
        size_t length = frame->n - 54;
        __u32 sum = (__u32)length + IPPROTO_ICMPV6;

        for (size_t i = 22; i < 54; i += 2)
                sum += (__u32)(frame->bytes[i] << 8 | frame->bytes[i + 1]);
        for (size_t i = 0; i < length; i += 2)
                if (i != 2)
                        sum += (__u32)(frame->bytes[54 + i] << 8 | frame->bytes[55 + i]);
        while (sum >> 16)
                sum = (sum & 0xffff) + (sum >> 16);
        return (__u16)~sum;
}

static void sum_up(struct frame *frame)
{
        __u16 sum = htons(checksum(frame));

        memcpy(frame->bytes + 56, &sum, 2);
}

/* option: 0: none; else its type, with the agent's MAC. */
static struct frame discovery(__u8 type, const char *source, const char *destination, const char *target, __u8 option)
{
        size_t length = (target ? 24 : 8) + (option ? 8 : 0);
        struct frame frame = {};
        struct address group = address(destination);

        ipv6(&frame, IPPROTO_ICMPV6, source, destination, length);
        frame.bytes[21] = 255;
        if (group.bytes[0] == 0xff) {
                frame.bytes[0] = frame.bytes[1] = 0x33;
                memcpy(frame.bytes + 2, group.bytes + 12, 4);
        }
        put(&frame, &type, 1);
        put(&frame, zeros, 7);
        if (target)
                put_address(&frame, target);
        if (option) {
                put(&frame, (__u8[]){option, 1}, 2);
                put(&frame, own_mac, 6);
        }
        sum_up(&frame);
        return frame;
}

/* 0, or what the kernel says who has not run it. */
static int try_with(const struct world *world, const struct frame *frame, struct __sk_buff *context, __u32 *ret)
{
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame->bytes, .data_size_in = (__u32)frame->n,
                    .ctx_in = context, .ctx_size_in = context ? sizeof(*context) : 0);
        int r = bpf_prog_test_run_opts(bpf_program__fd(world->bpf->datapath->skeleton->progs.agentd_device), &options);

        *ret = options.retval;
        return r;
}

static __u32 run_with(const struct world *world, const struct frame *frame, struct __sk_buff *context)
{
        __u32 action;

        assert_int_equal(try_with(world, frame, context, &action), 0);
        return action;
}

static __u32 run(const struct world *world, const struct frame *frame)
{
        return run_with(world, frame, NULL);
}

static struct agent_counters counters(const struct world *world)
{
        struct agent_counters value;

        assert_int_equal(datapath_counters(world->bpf->datapath, AGENT, &value), 0);
        return value;
}

static void assert_passes(const struct world *world, struct frame frame, const char *label)
{
        __u32 action = run(world, &frame);

        if (action != PASSES)
                fail_msg("%s: %d, should pass", label, (int)action);
}

static void assert_drops(const struct world *world, struct frame frame, enum verdict_reason reason, const char *label)
{
        struct agent_counters before = counters(world), after;
        __u32 action = run(world, &frame);

        after = counters(world);
        if (action != DROPS)
                fail_msg("%s: %d, should be dropped", label, (int)action);
        for (size_t i = 0; i < REASON_MAX; i++)
                if (after.denied[i] - before.denied[i] != (i == reason))
                        fail_msg("%s: the reason is not '%s' but '%s'", label, verdict_reason_to_string(reason),
                                 verdict_reason_to_string((enum verdict_reason)i));
}

static struct frame changed(struct frame frame, size_t offset, __u8 value)
{
        assert_true(offset < frame.n);
        assert_int_not_equal(frame.bytes[offset], value);
        frame.bytes[offset] = value;
        return frame;
}

/* The same, with a right checksum: discovery. */
static struct frame changed_nd(struct frame frame, size_t offset, __u8 value)
{
        frame = changed(frame, offset, value);
        sum_up(&frame);
        return frame;
}

static struct frame longer(struct frame frame, size_t n)
{
        put(&frame, "data behind the packet, and more", n);
        return frame;
}

static struct frame shorter(struct frame frame, size_t n)
{
        frame.n -= n;
        return frame;
}

/* --- tests ---------------------------------------------------------------------------------------------------------
 */

static void the_policy_decides_on_packets_in_good_form(void **state)
{
        const struct world *world = world_of(state);

        assert_passes(world, tcp(ALLOWED4, 443, 0x02), "SYN to an allowed port");
        assert_passes(world, tcp(ALLOWED4, 443, 0x10), "ACK");
        assert_passes(world, udp(ALLOWED4, 443, 100), "UDP");
        assert_passes(world, udp(ALLOWED6, 9999, 100), "UDP over IPv6");
        assert_passes(world, tcp(ALLOWED6, 22, 0x02), "TCP over IPv6");
        assert_drops(world, tcp(ALLOWED4, 80, 0x02), REASON_NO_RULE, "another port");
        assert_drops(world, tcp(ALLOWED4, 80, 0x10), REASON_NO_RULE, "another port, no SYN");
        assert_drops(world, udp("198.51.100.1", 443, 10), REASON_NO_RULE, "another address");
        assert_drops(world, tcp("203.0.113.66", 443, 0x02), REASON_DENY_RULE, "a denied address");
        assert_drops(world, tcp("169.254.169.254", 80, 0x02), REASON_METADATA, "metadata");
        assert_drops(world, udp("203.0.114.9", 53, 30), REASON_NO_RULE, "name servers are agentd's business");
        assert_drops(world, udp(ALLOWED6, 53, 30), REASON_NO_RULE, "over IPv6 as well");
        assert_drops(world, tcp(GATEWAY4, 443, 0x02), REASON_NO_RULE, "the gateway itself is like any other");
        assert_drops(world, changed(udp(ALLOWED4, 443, 10), 23, 132), REASON_PROTOCOL, "SCTP");
}

static void answers_to_who_may_come_in_pass(void **state)
{
        const struct world *world = world_of(state);
        struct frame frame = tcp("198.18.5.9", 50000, 0x12);

        frame.bytes[34] = 0;
        frame.bytes[35] = 22;
        assert_passes(world, frame, "SYN and ACK of the port that it may come to");
        assert_drops(world, changed(frame, 35, 23), REASON_NO_RULE, "of another port");
        assert_drops(world, changed(frame, 32, 6), REASON_NO_RULE, "to another network");
        assert_drops(world, changed(frame, 47, 0x02), REASON_NO_RULE, "a SYN: it would be the agent who begins");
        assert_passes(world, changed(frame, 47, 0x10), "ACK");
        assert_passes(world, changed(frame, 47, 0x04), "RST");

        frame = udp("198.18.5.9", 50000, 10);
        assert_drops(world, frame, REASON_NO_RULE, "UDP of another port");
        frame.bytes[34] = 0;
        frame.bytes[35] = 22;
        assert_passes(world, frame, "UDP");

        frame = changed(udp("198.18.5.9", 0, 10), 23, IPPROTO_ICMP);
        frame.bytes[34] = 0;
        assert_passes(world, frame, "an echo's answer");
        assert_drops(world, changed(frame, 34, 8), REASON_NO_RULE, "an echo of its own");
}

static void only_frames_of_the_link_pass(void **state)
{
        const struct world *world = world_of(state);
        const struct frame good = udp(ALLOWED4, 443, 32), six = udp(ALLOWED6, 443, 32);
        struct frame frame;

        for (size_t i = 0; i < 6; i++) {
                assert_drops(world, changed(good, i, good.bytes[i] ^ 2), REASON_PACKET_SOCKET, "destination MAC");
                assert_drops(world, changed(good, 6 + i, good.bytes[6 + i] ^ 2), REASON_PACKET_SOCKET, "source MAC");
        }
        frame = good;
        memcpy(frame.bytes, broadcast, 6);
        assert_drops(world, frame, REASON_PROTOCOL, "broadcast");
        memcpy(frame.bytes, other_mac, 6);
        assert_drops(world, frame, REASON_PACKET_SOCKET, "a neighbour");
        memcpy(frame.bytes, own_mac, 6);
        assert_drops(world, frame, REASON_PACKET_SOCKET, "oneself");

        assert_drops(world, changed(good, 12, 0x88), REASON_PACKET_SOCKET, "another ether type");
        assert_drops(world, changed(good, 12, 0x00), REASON_PACKET_SOCKET, "802.3");
        assert_drops(world, changed(six, 13, 0x00), REASON_PACKET_SOCKET, "IPv6 as something else");
        assert_drops(world, changed(good, 14, 0x65), REASON_MALFORMED, "version 6 in a frame of IPv4");
        assert_drops(world, changed(six, 14, 0x45), REASON_MALFORMED, "version 4 in a frame of IPv6");

        assert_drops(world, longer(good, 1), REASON_PACKET_SOCKET, "one byte behind the packet");
        assert_drops(world, longer(good, 20), REASON_PACKET_SOCKET, "a trailer");
        assert_drops(world, longer(six, 1), REASON_PACKET_SOCKET, "one byte behind an IPv6 packet");
        assert_drops(world, shorter(good, 1), REASON_PACKET_SOCKET, "cut off");
        assert_drops(world, shorter(six, 1), REASON_PACKET_SOCKET, "IPv6 cut off");
}

static void sources_that_are_not_its_own_are_refused(void **state)
{
        const struct world *world = world_of(state);
        const struct frame good = udp(ALLOWED4, 443, 8), six = udp(ALLOWED6, 443, 8);

        for (size_t i = 26; i < 30; i++)
                assert_drops(world, changed(good, i, good.bytes[i] ^ 4), REASON_MALFORMED, "IPv4 source");
        for (size_t i = 22; i < 38; i++)
                assert_drops(world, changed(six, i, six.bytes[i] ^ 4), REASON_MALFORMED, "IPv6 source");
}

static void options_extensions_and_fragments(void **state)
{
        const struct world *world = world_of(state);
        const struct frame any = udp("203.0.114.9", 443, 40), ported = udp(ALLOWED4, 443, 40);

        assert_drops(world, changed(any, 14, 0x46), REASON_MALFORMED, "IP options");
        assert_passes(world, changed(any, 20, 0x20), "a first fragment");
        assert_passes(world, changed(any, 21, 0x08), "a later one, where the rule has no ports");
        assert_passes(world, changed(ported, 20, 0x20), "a first one to an allowed port");
        assert_drops(world, changed(ported, 21, 0x08), REASON_FRAGMENT, "a later one, where it has");
        for (__u8 next = 0; next < 140; next++)
                if (next == 0 || next == 43 || next == 50 || next == 51 || next == 59 || next == 135)
                        assert_drops(world, changed(udp(ALLOWED6, 443, 40), 20, next), REASON_MALFORMED,
                                     "an extension header");
        assert_drops(world, changed(any, 23, 58), REASON_PROTOCOL, "ICMPv6 over IPv4");
        assert_drops(world, changed(any, 23, 2), REASON_PROTOCOL, "IGMP");
}

static void arp_asks_for_the_gateway_and_answers_it(void **state)
{
        const struct world *world = world_of(state);
        const struct frame request = arp(1, OWN4, GATEWAY4), reply = arp(2, OWN4, GATEWAY4);
        struct frame unicast = request;

        assert_passes(world, request, "request");
        assert_passes(world, reply, "reply");
        assert_passes(world, arp(1, OWN4, OWN4), "announcement");
        memcpy(unicast.bytes, gateway_mac, 6);
        assert_passes(world, unicast, "a probe of the gateway");
        memcpy(unicast.bytes, other_mac, 6);
        assert_drops(world, unicast, REASON_PACKET_SOCKET, "a probe of somebody else");

        assert_drops(world, arp(1, OWN4, "10.7.0.77"), REASON_NO_RULE, "who is somebody else");
        assert_drops(world, arp(2, OWN4, "10.7.0.77"), REASON_PACKET_SOCKET, "an answer to somebody else");
        assert_drops(world, arp(1, "10.7.0.77", GATEWAY4), REASON_PACKET_SOCKET, "I am somebody else");
        assert_drops(world, arp(1, GATEWAY4, GATEWAY4), REASON_PACKET_SOCKET, "I am the gateway");
        assert_drops(world, arp(3, OWN4, GATEWAY4), REASON_PACKET_SOCKET, "RARP");
        assert_drops(world, longer(request, 1), REASON_PACKET_SOCKET, "43 bytes");
        assert_drops(world, longer(request, 18), REASON_PACKET_SOCKET, "60 bytes");
        assert_drops(world, shorter(request, 1), REASON_PACKET_SOCKET, "41 bytes");
        /* Every byte but the broadcast address is determined; the target is its own matter. */
        for (size_t i = 0; i < 38; i++)
                assert_drops(world, changed(request, i, request.bytes[i] ^ 0x10), REASON_PACKET_SOCKET, "a request");
        for (size_t i = 0; i < 38; i++)
                assert_drops(world, changed(reply, i, reply.bytes[i] ^ 0x10), REASON_PACKET_SOCKET, "a reply");
}

#define GROUP_GATEWAY "ff02::1:ff00:1"
#define GROUP_OWN     "ff02::1:ff00:2"

static void neighbour_discovery_is_about_the_gateway_and_oneself(void **state)
{
        const struct world *world = world_of(state);
        static const struct {
                const char *label, *source, *destination, *target;
                __u8 type, option;
                bool passes;
        } cases[] = {
                {"NS for the gateway", OWN6, GROUP_GATEWAY, GATEWAY6, 135, 1, true},
                {"NS for the gateway from the link", OWN_LL, GROUP_GATEWAY, GATEWAY6, 135, 1, true},
                {"NS without the option", OWN6, GROUP_GATEWAY, GATEWAY6, 135, 0, true},
                {"NS to the gateway itself", OWN6, GATEWAY6, GATEWAY6, 135, 1, true},
                {"DAD", "::", GROUP_OWN, OWN6, 135, 0, true},
                {"NA to the gateway", OWN6, GATEWAY6, OWN6, 136, 2, true},
                {"NA without the option", OWN6, GATEWAY6, OWN6, 136, 0, true},
                {"NA to all", OWN6, "ff02::1", OWN6, 136, 2, true},
                {"RS", OWN_LL, "ff02::2", NULL, 133, 1, true},
                {"RS from nobody", "::", "ff02::2", NULL, 133, 0, true},

                {"NS for somebody else", OWN6, "ff02::1:ff00:77", "2001:db8:7::77", 135, 1, false},
                {"NS to another group", OWN6, "ff02::1:ff00:77", GATEWAY6, 135, 1, false},
                {"NS to all", OWN6, "ff02::1", GATEWAY6, 135, 1, false},
                {"NS from somebody else", "2001:db8:7::77", GROUP_GATEWAY, GATEWAY6, 135, 1, false},
                {"NS with the other option", OWN6, GROUP_GATEWAY, GATEWAY6, 135, 2, false},
                {"NS with a nonce", OWN6, GROUP_GATEWAY, GATEWAY6, 135, 14, false},
                {"DAD for somebody else", "::", "ff02::1:ff00:77", "2001:db8:7::77", 135, 0, false},
                {"DAD for the gateway", "::", GROUP_GATEWAY, GATEWAY6, 135, 0, false},
                {"DAD with a MAC", "::", GROUP_OWN, OWN6, 135, 1, false},
                {"NA for somebody else", OWN6, GATEWAY6, "2001:db8:7::77", 136, 2, false},
                {"NA for the gateway", OWN6, "ff02::1", GATEWAY6, 136, 2, false},
                {"NA from nobody", "::", "ff02::1", OWN6, 136, 2, false},
                {"NA with the other option", OWN6, GATEWAY6, OWN6, 136, 1, false},
                {"NA to another group", OWN6, "ff02::2", OWN6, 136, 2, false},
                {"RS to all", OWN_LL, "ff02::1", NULL, 133, 1, false},
                {"RS from nobody with a MAC", "::", "ff02::2", NULL, 133, 1, false},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct frame frame = discovery(cases[i].type, cases[i].source, cases[i].destination, cases[i].target,
                                               cases[i].option);

                if (cases[i].passes)
                        assert_passes(world, frame, cases[i].label);
                else
                        assert_drops(world, frame, REASON_MALFORMED, cases[i].label);
        }
        assert_drops(world, discovery(134, OWN_LL, "ff02::1", NULL, 0), REASON_PROTOCOL, "I am a router");
        assert_drops(world, discovery(137, OWN_LL, GATEWAY6, GATEWAY6, 0), REASON_PROTOCOL, "a redirect");
}

static void neighbour_discovery_has_no_room_for_data(void **state)
{
        const struct world *world = world_of(state);
        const struct frame ns = discovery(135, OWN6, GROUP_GATEWAY, GATEWAY6, 1);
        const struct frame na = discovery(136, OWN6, GATEWAY6, OWN6, 2);
        struct frame frame;

        assert_passes(world, ns, "NS");
        assert_passes(world, na, "NA");
        assert_drops(world, changed(ns, 14, 0x61), REASON_MALFORMED, "traffic class");
        assert_drops(world, changed(ns, 17, 0x01), REASON_MALFORMED, "flow label");
        assert_drops(world, changed(ns, 21, 254), REASON_MALFORMED, "hop limit");
        assert_drops(world, changed(ns, 56, ns.bytes[56] ^ 1), REASON_MALFORMED, "checksum");
        assert_drops(world, changed(ns, 57, ns.bytes[57] ^ 1), REASON_MALFORMED, "checksum");
        assert_drops(world, changed_nd(ns, 55, 1), REASON_MALFORMED, "code");
        for (size_t i = 58; i < 62; i++)
                assert_drops(world, changed_nd(ns, i, 0x08), REASON_MALFORMED, "reserved bytes of an NS");
        for (size_t i = 59; i < 62; i++)
                assert_drops(world, changed_nd(na, i, 0x08), REASON_MALFORMED, "reserved bytes of an NA");
        assert_drops(world, changed_nd(na, 58, 0x80), REASON_MALFORMED, "the router's flag");
        assert_passes(world, changed_nd(na, 58, 0x60), "solicited, override");
        assert_drops(world, changed_nd(discovery(136, OWN6, "ff02::1", OWN6, 2), 58, 0x40), REASON_MALFORMED,
                     "solicited by all");
        for (size_t i = 78; i < 86; i++)
                assert_drops(world, changed_nd(ns, i, ns.bytes[i] ^ 0x10), REASON_MALFORMED, "the option");

        frame = discovery(133, OWN_LL, "ff02::2", NULL, 1);
        for (size_t i = 58; i < 62; i++)
                assert_drops(world, changed_nd(frame, i, 0x08), REASON_MALFORMED, "reserved bytes of an RS");
        frame = ns;
        frame.bytes[19] -= 8;
        assert_drops(world, frame, REASON_MALFORMED, "an option behind the packet");
        frame = longer(ns, 8);
        frame.bytes[19] += 8;
        sum_up(&frame);
        assert_drops(world, frame, REASON_MALFORMED, "two options");
        assert_drops(world, longer(ns, 4), REASON_MALFORMED, "a trailer");
        frame = ns;
        memcpy(frame.bytes, gateway_mac, 6);
        assert_drops(world, frame, REASON_PACKET_SOCKET, "to a group by the gateway's MAC");
        assert_drops(world, changed(ns, 5, 0x77), REASON_PACKET_SOCKET, "to a group by another group's MAC");
        assert_drops(world, changed(ns, 11, 0x77), REASON_MALFORMED, "from another MAC");
        frame = na;
        memcpy(frame.bytes, other_mac, 6);
        assert_drops(world, frame, REASON_PACKET_SOCKET, "to the gateway by another MAC");
}

static void what_no_tier_2_has_counted_is_counted_and_charged_here(void **state)
{
        const struct world *world = world_of(state);
        struct agent_counters before = counters(world), after;
        struct frame frame = udp(ALLOWED4, 443, 100);
        struct __sk_buff gso = {.gso_size = 100};

        assert_passes(world, frame, "UDP");
        after = counters(world);
        assert_int_equal(after.device_packets - before.device_packets, 1);
        assert_int_equal(after.device_bytes - before.device_bytes, 128);

        /* 1000 bytes of payload in segments of 100: ten headers. A packet socket may say so, and leave gso_segs 0. */
        frame = udp(ALLOWED4, 443, 1000);
        before = counters(world);
        assert_int_equal((int)run_with(world, &frame, &gso), (int)PASSES);
        after = counters(world);
        assert_int_equal(after.device_bytes - before.device_bytes, 1000 + 10 * 28);

        before = after;
        assert_passes(world, arp(1, OWN4, GATEWAY4), "ARP");
        after = counters(world);
        assert_int_equal(after.device_packets, before.device_packets);
}

static void audit_lets_through_and_tells_but_for_quarantine(void **state)
{
        const struct world *world = world_of(state);
        struct datapath *datapath = world->bpf->datapath;
        struct agent_counters before, after;

        datapath_agent_publish(datapath, AGENT, world->policy->version, WORD_AUDIT);
        before = counters(world);
        assert_passes(world, udp("198.51.100.1", 443, 10), "no rule");
        assert_passes(world, longer(udp(ALLOWED4, 443, 10), 4), "a trailer");
        after = counters(world);
        assert_int_equal(after.would_deny[REASON_NO_RULE] - before.would_deny[REASON_NO_RULE], 1);
        assert_int_equal(after.would_deny[REASON_PACKET_SOCKET] - before.would_deny[REASON_PACKET_SOCKET], 1);

        datapath_agent_publish(datapath, AGENT, world->policy->version, WORD_AUDIT | WORD_QUARANTINE);
        assert_drops(world, udp(ALLOWED4, 443, 10), REASON_QUARANTINE, "quarantine");
        assert_drops(world, longer(udp(ALLOWED4, 443, 10), 4), REASON_QUARANTINE, "quarantine, a trailer");
        assert_passes(world, arp(1, OWN4, GATEWAY4), "ARP tells nothing");
        datapath_agent_publish(datapath, AGENT, 0, 0);
        assert_drops(world, udp(ALLOWED4, 443, 10), REASON_NO_POLICY, "no policy");
        datapath_agent_publish(datapath, AGENT, world->policy->version, 0);
}

static void an_unknown_device_drops_everything(void **state)
{
        const struct world *world = world_of(state);
        struct datapath *datapath = world->bpf->datapath;
        struct device device = device_make();
        struct frame good = udp(ALLOWED4, 443, 10), request = arp(1, OWN4, GATEWAY4);
        __typeof__(datapath->skeleton->maps) *maps = &datapath->skeleton->maps;
        __u32 ifindex = IFINDEX, slot;

        /* One whose description is another's. */
        assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(maps->devices), &ifindex, &slot), 0);
        device.ifindex = 77;
        assert_int_equal(bpf_map_update_elem(bpf_map__fd(maps->device_slots), &slot, &device, BPF_ANY), 0);
        assert_int_equal(run(world, &good), DROPS);
        assert_int_equal(datapath_device_verify(datapath, IFINDEX), -ENOENT);
        device.ifindex = IFINDEX;
        assert_int_equal(datapath_device_set(datapath, &device), 0);
        assert_passes(world, good, "its own again");
        /* Found by the hash, when another interface has its place. */
        slot = 0;
        assert_int_equal(bpf_map_update_elem(bpf_map__fd(maps->device_places), &ifindex, &slot, BPF_ANY), 0);
        assert_passes(world, good, "by the hash");

        datapath_device_remove(datapath, IFINDEX);
        assert_int_equal(run(world, &good), DROPS);
        assert_int_equal(run(world, &request), DROPS);
        assert_int_equal(datapath_device_set(datapath, &device), 0);
        assert_passes(world, good, "known again");
}

static void a_frame_of_any_length_is_read_within_its_bounds(void **state)
{
        const struct world *world = world_of(state);
        const struct frame frames[] = {udp(ALLOWED4, 443, 40), tcp(ALLOWED6, 443, 2), arp(1, OWN4, GATEWAY4),
                                       discovery(135, OWN6, GROUP_GATEWAY, GATEWAY6, 1)};

        size_t n_run = 0;

        for (size_t i = 0; i < ARRAY_SIZE(frames); i++)
                for (size_t n = ETH_HLEN; n < frames[i].n; n++) {
                        struct frame frame = frames[i];
                        __u32 action = PASSES;
                        int r;

                        frame.n = n;
                        r = try_with(world, &frame, NULL, &action);
                        /* Newer kernels run no frame that is shorter than its IP header. */
                        if (r == -EINVAL)
                                continue;
                        assert_int_equal(r, 0);
                        assert_int_equal(action, DROPS);
                        n_run++;
                }
        assert_true(n_run > 100);
}

static void another_agent_cannot_take_a_device_and_its_description_is_checked(void **state)
{
        const struct world *world = world_of(state);
        struct datapath *datapath = world->bpf->datapath;
        struct device device = device_make();
        __u32 ifindexes[4];

        device.agent_id = AGENT + 1;
        assert_int_equal(datapath_device_set(datapath, &device), -EEXIST);
        device = device_make();
        device.n_addresses = DEVICE_ADDRESSES_MAX + 1;
        assert_int_equal(datapath_device_set(datapath, &device), -EINVAL);
        device = device_make();
        device.agent_id = 0;
        assert_int_equal(datapath_device_set(datapath, &device), -EINVAL);
        assert_int_equal(datapath_devices_of(datapath, AGENT, ifindexes, ARRAY_SIZE(ifindexes)), 1);
        assert_int_equal(ifindexes[0], IFINDEX);
        assert_int_equal(datapath_devices_of(datapath, AGENT + 1, ifindexes, ARRAY_SIZE(ifindexes)), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_policy_decides_on_packets_in_good_form),
                cmocka_unit_test(answers_to_who_may_come_in_pass),
                cmocka_unit_test(only_frames_of_the_link_pass),
                cmocka_unit_test(sources_that_are_not_its_own_are_refused),
                cmocka_unit_test(options_extensions_and_fragments),
                cmocka_unit_test(arp_asks_for_the_gateway_and_answers_it),
                cmocka_unit_test(neighbour_discovery_is_about_the_gateway_and_oneself),
                cmocka_unit_test(neighbour_discovery_has_no_room_for_data),
                cmocka_unit_test(what_no_tier_2_has_counted_is_counted_and_charged_here),
                cmocka_unit_test(audit_lets_through_and_tells_but_for_quarantine),
                cmocka_unit_test(an_unknown_device_drops_everything),
                cmocka_unit_test(a_frame_of_any_length_is_read_within_its_bounds),
                cmocka_unit_test(another_agent_cannot_take_a_device_and_its_description_is_checked),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
