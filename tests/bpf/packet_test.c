/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the packet programs make of bytes: BPF_PROG_TEST_RUN of egress and ingress over packets built here.
 *
 * A test run lends the program a zeroed line for its cgroup storage, which names no agent: entry 0 of `agents` decides.
 * It denies in production for ever; here it gets a policy. The line lives for one call, so that a second repetition of
 * the same call meets what the first one cached.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/address_class.h"
#include "agentd/datapath/internal.h"
#include "tests/lib/bpf_world.h"

enum { FRAME_MAX = 512, SYN = 0x02, ACK = 0x10, FIN = 0x01, RST = 0x04 };

static const struct {
        const char *prefix;
        __u8 protocols;
        __u16 low, high;
} rules[] = {
        {"203.0.113.0/24", PROTOCOL_TCP | PROTOCOL_UDP, 0, 65535},
        {"198.51.100.0/24", PROTOCOL_TCP, 443, 443},
        {"2001:db8::/32", PROTOCOL_TCP | PROTOCOL_UDP, 0, 65535},
        {"2001:db9::/32", PROTOCOL_TCP, 443, 443},
        {"192.0.2.7", PROTOCOL_ICMP, 0, 65535},
        {"2001:dba::7", PROTOCOL_ICMP, 0, 65535},
};

static struct rule model_rules[ARRAY_SIZE(rules)];
static struct port_range model_ports[ARRAY_SIZE(rules)];
static struct policy model = {.rules = model_rules, .n_rules = ARRAY_SIZE(rules)};

static int set_up(void **state)
{
        struct compiled_policy *compiled = NULL;
        struct bpf_world *world = NULL;
        __u32 version;

        *state = NULL;
        if (!bpf_world_possible())
                return 0;
        if (bpf_world_new("agbpf", &world) < 0)
                return -1;
        for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
                model_ports[i] = (struct port_range){rules[i].low, rules[i].high, rules[i].protocols};
                model_rules[i].ports = &model_ports[i];
                model_rules[i].n_ports = 1;
                if (prefix_parse(rules[i].prefix, &model_rules[i].cidr) < 0)
                        return -1;
        }
        if (policy_compile(&model, NULL, &compiled) < 0 || datapath_policy_add(world->datapath, compiled, &version) < 0)
                return -1;
        compiled_policy_free(compiled);
        datapath_agent_publish(world->datapath, 0, version, WORD_LOOPBACK_ALLOW);
        *state = world;
        return 0;
}

static int tear_down(void **state)
{
        bpf_world_free(*state);
        return 0;
}

/* --- packets ------------------------------------------------------------------------------------------------------ */

struct packet_case {
        const char *label;
        int reason; /* REASON_NONE: passes */
        __u32 direction;
        const char *remote;
        __u8 ip_protocol;
        __u16 port;
        __u8 tcp_flags;
        /* IPv4: words of the header, 0: five; its fragment field. IPv6: extension headers, one letter each. */
        __u8 ihl;
        __u16 fragment;
        const char *extensions;
        int length; /* of the IP packet, 0: as built */
        __u8 version;
        __u16 ether_type;
        const char *local; /* NULL: an address of the agent's link */
};

struct frame {
        __u8 bytes[FRAME_MAX];
        size_t length;
};

static void put(struct frame *frame, const void *bytes, size_t n)
{
        assert_true(frame->length + n <= FRAME_MAX);
        memcpy(frame->bytes + frame->length, bytes, n);
        frame->length += n;
}

static __u8 extension_number(char letter)
{
        switch (letter) {
        case 'f': /* the first fragment */
        case 'F': /* a later one */
        case 'a': /* atomic: a fragment header, no fragment */
                return IPPROTO_FRAGMENT;
        case 'D':
        case 'L': /* options that claim to be longer than the packet */
                return IPPROTO_DSTOPTS;
        case 'R':
                return IPPROTO_ROUTING;
        case 'H':
                return IPPROTO_HOPOPTS;
        case 'A':
                return IPPROTO_AH;
        case 'E':
                return IPPROTO_ESP;
        case 'N':
                return IPPROTO_NONE;
        case 'M':
                return IPPROTO_MH;
        default:
                return (__u8)letter;
        }
}

static void put_transport(struct frame *frame, const struct packet_case *c)
{
        __be16 remote = htons(c->port), local = htons(40000);
        __u8 tcp[16] = {[8] = 0x50, [9] = c->tcp_flags}, udp[4] = {0, 12, 0, 0}, payload[4] = {'d', 'a', 't', 'a'};

        put(frame, c->direction == DIRECTION_EGRESS ? &local : &remote, 2);
        put(frame, c->direction == DIRECTION_EGRESS ? &remote : &local, 2);
        if (c->ip_protocol == IPPROTO_TCP)
                put(frame, tcp, sizeof(tcp));
        else
                put(frame, udp, sizeof(udp));
        put(frame, payload, sizeof(payload));
}

static void build(struct frame *frame, const struct packet_case *c)
{
        struct address remote, local;
        __u8 ether[ETH_HLEN] = {0};

        memset(frame, 0, sizeof(*frame));
        assert_int_equal(address_parse(c->remote, &remote), 0);

        if (address_is_ipv4(&remote)) {
                __u8 ihl = c->ihl ? c->ihl : 5, header[60] = {0};

                assert_int_equal(address_parse(c->local ? c->local : "10.0.0.1", &local), 0);
                *(__be16 *)(ether + 12) = htons(c->ether_type ? c->ether_type : ETH_P_IP);
                put(frame, ether, sizeof(ether));
                header[0] = (__u8)((c->version ? c->version : 4) << 4 | ihl);
                header[3] = 44;
                header[6] = (__u8)(c->fragment >> 8);
                header[7] = (__u8)c->fragment;
                header[8] = 64;
                header[9] = c->ip_protocol;
                memcpy(header + 12, c->direction == DIRECTION_EGRESS ? &local.words[3] : &remote.words[3], 4);
                memcpy(header + 16, c->direction == DIRECTION_EGRESS ? &remote.words[3] : &local.words[3], 4);
                put(frame, header, ihl < 5 ? 20 : ihl * 4u);
        } else {
                const char *extensions = c->extensions ? c->extensions : "";
                __u8 header[40] = {(__u8)((c->version ? c->version : 6) << 4)};

                assert_int_equal(address_parse(c->local ? c->local : "2001:db8:ffff::1", &local), 0);
                *(__be16 *)(ether + 12) = htons(c->ether_type ? c->ether_type : ETH_P_IPV6);
                put(frame, ether, sizeof(ether));
                header[6] = extensions[0] ? extension_number(extensions[0]) : c->ip_protocol;
                header[7] = 64;
                memcpy(header + 8, c->direction == DIRECTION_EGRESS ? &local : &remote, 16);
                memcpy(header + 24, c->direction == DIRECTION_EGRESS ? &remote : &local, 16);
                put(frame, header, sizeof(header));
                for (const char *e = extensions; *e; e++) {
                        __u8 extension[8] = {e[1] ? extension_number(e[1]) : c->ip_protocol};

                        if (*e == 'f')
                                extension[3] = 1;
                        else if (*e == 'F')
                                extension[3] = 8;
                        else if (*e == 'L')
                                extension[1] = 255;
                        put(frame, extension, sizeof(extension));
                }
        }
        put_transport(frame, c);
        if (c->length)
                frame->length = ETH_HLEN + (size_t)c->length;
}

static int run(struct bpf_world *world, __u32 direction, const struct frame *frame, int repeat)
{
        struct agentd_bpf *skeleton = world->datapath->skeleton;
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame->bytes, .data_size_in = (__u32)frame->length,
                    .repeat = repeat);
        int r = bpf_prog_test_run_opts(bpf_program__fd(direction == DIRECTION_EGRESS ? skeleton->progs.agentd_egress
                                                                                     : skeleton->progs.agentd_ingress),
                                       &options);

        return r < 0 ? r : (int)options.retval;
}

/* The reason of what was dropped, by the exact counters; REASON_NONE: it passed. */
static int judged(struct bpf_world *world, __u32 direction, const struct frame *frame, int *ret_passed)
{
        struct agent_counters before, after;
        int reason = REASON_NONE;

        assert_int_equal(datapath_counters(world->datapath, 0, &before), 0);
        *ret_passed = run(world, direction, frame, 1);
        assert_int_equal(datapath_counters(world->datapath, 0, &after), 0);
        for (int i = 0; i < REASON_MAX; i++) {
                if (after.denied[i] != before.denied[i]) {
                        assert_int_equal(reason, REASON_NONE);
                        assert_int_equal(after.denied[i], before.denied[i] + 1);
                        reason = i;
                }
        }
        return reason;
}

#define OUT  DIRECTION_EGRESS
#define IN   DIRECTION_INGRESS
#define TCP  IPPROTO_TCP
#define UDP  IPPROTO_UDP
#define ICMP IPPROTO_ICMP

static const struct packet_case cases[] = {
        {"TCP SYN", REASON_NONE, OUT, "203.0.113.1", TCP, 443, SYN},
        {"TCP SYN by port", REASON_NONE, OUT, "198.51.100.1", TCP, 443, SYN},
        {"TCP SYN to another port", REASON_NO_RULE, OUT, "198.51.100.1", TCP, 444, SYN},
        {"TCP established", REASON_NONE, OUT, "198.51.100.1", TCP, 443, ACK},
        {"TCP established without a rule", REASON_NO_RULE, OUT, "192.0.2.1", TCP, 443, ACK},
        {"TCP reset without a rule", REASON_NO_RULE, OUT, "192.0.2.1", TCP, 443, RST},
        {"UDP", REASON_NONE, OUT, "203.0.113.1", UDP, 4500},
        {"UDP without a rule", REASON_NO_RULE, OUT, "198.51.100.1", UDP, 443},
        {"a look-up that evaded the redirect", REASON_NO_RULE, OUT, "203.0.113.1", UDP, 53},
        {"ping", REASON_NONE, OUT, "192.0.2.7", ICMP},
        {"ping without a rule", REASON_NO_RULE, OUT, "203.0.113.1", ICMP},
        {"metadata", REASON_METADATA, OUT, "169.254.169.254", TCP, 80, SYN},
        {"loopback on the loopback device", REASON_NONE, OUT, "127.0.0.1", TCP, 80, SYN},
        {"IGMP", REASON_PROTOCOL, OUT, "203.0.113.1", IPPROTO_IGMP},
        {"GRE", REASON_PROTOCOL, OUT, "203.0.113.1", IPPROTO_GRE},
        {"ESP", REASON_PROTOCOL, OUT, "203.0.113.1", IPPROTO_ESP},
        {"SCTP", REASON_PROTOCOL, OUT, "203.0.113.1", IPPROTO_SCTP},
        {"IPv4 in IPv4", REASON_PROTOCOL, OUT, "203.0.113.1", IPPROTO_IPIP},
        {"IPv6 in IPv4", REASON_PROTOCOL, OUT, "203.0.113.1", IPPROTO_IPV6},
        {"protocol 0 of IPv4", REASON_PROTOCOL, OUT, "203.0.113.1", 0},
        {"protocol 255", REASON_PROTOCOL, OUT, "203.0.113.1", 255},
        {"ICMPv6 in IPv4", REASON_PROTOCOL, OUT, "192.0.2.7", IPPROTO_ICMPV6},
        {"ICMP in IPv6", REASON_PROTOCOL, OUT, "2001:dba::7", ICMP},
        {"options", REASON_MALFORMED, OUT, "203.0.113.1", TCP, 443, SYN, 6},
        {"the most options", REASON_MALFORMED, OUT, "203.0.113.1", TCP, 443, ACK, 15},
        {"a header too short", REASON_MALFORMED, OUT, "203.0.113.1", TCP, 443, ACK, 4},
        {"no header length", REASON_MALFORMED, OUT, "203.0.113.1", UDP, 443, 0, 1},
        {"version 5", REASON_MALFORMED, OUT, "203.0.113.1", TCP, 443, ACK, .version = 5},
        {"version 6 under IPv4's type", REASON_MALFORMED, OUT, "203.0.113.1", TCP, 443, ACK, .version = 6},
        {"version 4 under IPv6's type", REASON_MALFORMED, OUT, "2001:db8::1", TCP, 443, ACK, .version = 4},
        {"IPv4 under IPv6's type", REASON_MALFORMED, OUT, "203.0.113.1", TCP, 443, ACK, .ether_type = ETH_P_IPV6},
        {"IPv6 under IPv4's type", REASON_MALFORMED, OUT, "2001:db8::1", TCP, 443, ACK, .ether_type = ETH_P_IP},
        {"neither of both", REASON_PROTOCOL, OUT, "203.0.113.1", TCP, 443, ACK, .version = 7, .ether_type = 0x88b5},
        {"first fragment", REASON_NONE, OUT, "203.0.113.1", UDP, 443, .fragment = 0x2000},
        {"first fragment shows its ports", REASON_NONE, OUT, "198.51.100.1", TCP, 443, SYN, .fragment = 0x2000},
        {"first fragment to another port", REASON_NO_RULE, OUT, "198.51.100.1", TCP, 22, SYN, .fragment = 0x2000},
        {"later fragment", REASON_NONE, OUT, "203.0.113.1", UDP, 443, .fragment = 0x2001},
        {"last fragment", REASON_NONE, OUT, "203.0.113.1", UDP, 443, .fragment = 0x00ff},
        {"later fragment, rule with ports", REASON_FRAGMENT, OUT, "198.51.100.1", TCP, 443, ACK, .fragment = 0x0001},
        {"later fragment without a rule", REASON_NO_RULE, OUT, "192.0.2.1", TCP, 443, ACK, .fragment = 0x1fff},
        {"later fragment of a ping", REASON_NONE, OUT, "192.0.2.7", ICMP, .fragment = 0x0001},
        {"later fragment of GRE", REASON_PROTOCOL, OUT, "203.0.113.1", IPPROTO_GRE, .fragment = 0x0001},
        {"don't fragment", REASON_NONE, OUT, "203.0.113.1", UDP, 443, .fragment = 0x4000},
        {"reserved bit", REASON_NONE, OUT, "203.0.113.1", UDP, 443, .fragment = 0x8000},
        {"no transport header", REASON_MALFORMED, OUT, "203.0.113.1", TCP, 443, ACK, .length = 20},
        {"half the ports", REASON_MALFORMED, OUT, "203.0.113.1", TCP, 443, ACK, .length = 22},
        {"ports without flags", REASON_MALFORMED, OUT, "203.0.113.1", TCP, 443, ACK, .length = 24},
        {"flags cut off", REASON_MALFORMED, OUT, "203.0.113.1", TCP, 443, ACK, .length = 33},
        {"UDP header cut off", REASON_MALFORMED, OUT, "203.0.113.1", UDP, 443, .length = 27},
        {"UDP without payload", REASON_NONE, OUT, "203.0.113.1", UDP, 443, .length = 28},
        {"later fragment without payload", REASON_NONE, OUT, "203.0.113.1", UDP, 443, .fragment = 1, .length = 20},

        {"IPv6 TCP SYN", REASON_NONE, OUT, "2001:db8::1", TCP, 443, SYN},
        {"IPv6 TCP SYN without a rule", REASON_NO_RULE, OUT, "2001:db9::1", TCP, 444, SYN},
        {"IPv6 TCP established", REASON_NONE, OUT, "2001:db9::1", TCP, 443, ACK},
        {"IPv6 UDP", REASON_NONE, OUT, "2001:db8::1", UDP, 443},
        {"IPv6 ping", REASON_NONE, OUT, "2001:dba::7", IPPROTO_ICMPV6},
        {"IPv6 loopback", REASON_NONE, OUT, "::1", UDP, 80, .local = "::1"},
        {"IPv6 loopback whose answer would go elsewhere", REASON_MALFORMED, OUT, "::1", UDP, 80,
         .local = "2001:db8::9"},
        {"IPv6 ping of loopback whose answer would go elsewhere", REASON_MALFORMED, OUT, "::1", IPPROTO_ICMPV6,
         .local = "2001:db8::9"},
        {"IPv6 loopback has sent it", REASON_NONE, IN, "::1", UDP, 80},
        {"IPv6 multicast listener report", REASON_NO_RULE, OUT, "ff02::16", IPPROTO_ICMPV6},
        {"destination options", REASON_NONE, OUT, "2001:db8::1", TCP, 443, SYN, .extensions = "D"},
        {"destination options hide no port", REASON_NO_RULE, OUT, "2001:db9::1", TCP, 22, SYN, .extensions = "DD"},
        {"four extension headers", REASON_NONE, OUT, "2001:db8::1", TCP, 443, SYN, .extensions = "DDDD"},
        {"five extension headers", REASON_MALFORMED, OUT, "2001:db8::1", TCP, 443, SYN, .extensions = "DDDDD"},
        {"IPv6 first fragment", REASON_NONE, OUT, "2001:db9::1", TCP, 443, SYN, .extensions = "f"},
        {"IPv6 first fragment, another port", REASON_NO_RULE, OUT, "2001:db9::1", TCP, 22, SYN, .extensions = "f"},
        {"IPv6 first fragment with options", REASON_NO_RULE, OUT, "2001:db9::1", TCP, 22, SYN, .extensions = "fD"},
        {"IPv6 atomic fragment", REASON_NONE, OUT, "2001:db9::1", TCP, 443, SYN, .extensions = "a"},
        {"IPv6 later fragment", REASON_NONE, OUT, "2001:db8::1", UDP, 443, .extensions = "F"},
        {"IPv6 later fragment, rule with ports", REASON_FRAGMENT, OUT, "2001:db9::1", TCP, 443, .extensions = "F"},
        {"IPv6 later fragment with options", REASON_FRAGMENT, OUT, "2001:db8::1", UDP, 443, .extensions = "FD"},
        {"IPv6 fragment of a fragment", REASON_FRAGMENT, OUT, "2001:db9::1", TCP, 443, .extensions = "Ff"},
        {"routing header", REASON_MALFORMED, OUT, "2001:db8::1", TCP, 443, SYN, .extensions = "R"},
        {"routing header behind options", REASON_MALFORMED, OUT, "2001:db8::1", TCP, 443, SYN, .extensions = "DR"},
        {"routing header in a fragment", REASON_MALFORMED, OUT, "2001:db8::1", TCP, 443, SYN, .extensions = "fR"},
        {"routing header in a later fragment", REASON_MALFORMED, OUT, "2001:db8::1", TCP, 443, SYN, .extensions = "FR"},
        {"hop-by-hop options", REASON_MALFORMED, OUT, "2001:db8::1", UDP, 443, .extensions = "H"},
        {"authentication header", REASON_MALFORMED, OUT, "2001:db8::1", UDP, 443, .extensions = "A"},
        {"encrypted payload", REASON_MALFORMED, OUT, "2001:db8::1", UDP, 443, .extensions = "E"},
        {"no next header", REASON_MALFORMED, OUT, "2001:db8::1", UDP, 443, .extensions = "N"},
        {"mobility header", REASON_MALFORMED, OUT, "2001:db8::1", UDP, 443, .extensions = "M"},
        {"unknown next header", REASON_PROTOCOL, OUT, "2001:db8::1", 200},
        {"IPv4 in IPv6", REASON_PROTOCOL, OUT, "2001:db8::1", IPPROTO_IPIP},
        {"options longer than the packet", REASON_MALFORMED, OUT, "2001:db8::1", TCP, 443, SYN, .extensions = "L"},
        {"options cut off", REASON_MALFORMED, OUT, "2001:db8::1", TCP, 443, SYN, .extensions = "D", .length = 41},
        {"fragment header cut off", REASON_MALFORMED, OUT, "2001:db8::1", UDP, 443, .extensions = "f", .length = 47},
        {"IPv6 without transport header", REASON_MALFORMED, OUT, "2001:db8::1", UDP, 443, .length = 40},
        {"IPv6 UDP header cut off", REASON_MALFORMED, OUT, "2001:db8::1", UDP, 443, .length = 47},

        {"TCP SYN from outside", REASON_INGRESS, IN, "203.0.113.1", TCP, 443, SYN},
        {"TCP SYN from outside with odd flags", REASON_INGRESS, IN, "203.0.113.1", TCP, 443, SYN | FIN},
        {"the answer to our SYN", REASON_NONE, IN, "203.0.113.1", TCP, 443, SYN | ACK},
        {"that of a stranger", REASON_INGRESS, IN, "192.0.2.1", TCP, 443, SYN | ACK},
        {"TCP data", REASON_NONE, IN, "198.51.100.1", TCP, 443, ACK},
        {"TCP data from another port", REASON_INGRESS, IN, "198.51.100.1", TCP, 80, ACK},
        {"UDP that no socket has asked for", REASON_INGRESS, IN, "203.0.113.1", UDP, 443},
        {"UDP of a stranger", REASON_INGRESS, IN, "192.0.2.1", UDP, 443},
        {"an echo reply", REASON_NONE, IN, "192.0.2.7", ICMP},
        {"a stranger's ping", REASON_INGRESS, IN, "192.0.2.1", ICMP},
        {"GRE from outside", REASON_PROTOCOL, IN, "203.0.113.1", IPPROTO_GRE},
        {"options from outside", REASON_MALFORMED, IN, "203.0.113.1", TCP, 443, ACK, 6},
        {"loopback SYN", REASON_NONE, IN, "127.0.0.1", TCP, 80, SYN},
        {"IPv6 SYN from outside", REASON_INGRESS, IN, "2001:db8::1", TCP, 443, SYN},
        {"IPv6 data", REASON_NONE, IN, "2001:db8::1", TCP, 443, ACK},
        {"IPv6 routing header from outside", REASON_MALFORMED, IN, "2001:db8::1", TCP, 443, ACK, .extensions = "R"},
};

static void packets_are_parsed_with_care(void **state)
{
        struct bpf_world *world = *state;
        unsigned failed = 0;

        if (!world)
                skip();
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                const struct packet_case *c = &cases[i];
                struct frame frame;
                int reason, passed;

                build(&frame, c);
                reason = judged(world, c->direction, &frame, &passed);
                if (reason == c->reason && passed == (c->reason == REASON_NONE))
                        continue;
                failed++;
                print_error("%s: %s %d; meant %s\n", c->label, verdict_reason_to_string((enum verdict_reason)reason),
                            passed, verdict_reason_to_string((enum verdict_reason)c->reason));
        }
        assert_int_equal(failed, 0);
}

static void the_short_way_agrees_with_the_long_way(void **state)
{
        struct bpf_world *world = *state;
        unsigned passes = 0, drops = 0;
        const char *seed = getenv("AGENTD_TEST_SEED");

        if (!world)
                skip();
        srand(seed ? (unsigned)atoi(seed) : 7);
        for (unsigned round = 0; round < 6000; round++) {
                const struct packet_case *c = &cases[(size_t)rand() % ARRAY_SIZE(cases)];
                __u32 direction = rand() % 8 == 0 ? !c->direction : c->direction;
                struct frame frame;
                size_t minimum;
                int once, thrice;

                build(&frame, c);
                /* A test run itself refuses what is shorter than a network header (-EINVAL). */
                minimum = ETH_HLEN + (frame.bytes[12] == 0x08 ? 20 : 40);
                /* a few bytes changed, mostly in the headers; the end cut off now and then */
                for (int n = rand() % 4; n > 0; n--)
                        frame.bytes[ETH_HLEN + (size_t)rand() % (frame.length - ETH_HLEN)] = (__u8)rand();
                if (rand() % 8 == 0)
                        frame.length = minimum + (size_t)rand() % (frame.length - minimum + 1);

                once = run(world, direction, &frame, 1);
                thrice = run(world, direction, &frame, 3);
                if (once != thrice)
                        fail_msg("round %u (%s): %d when judged, %d when cached", round, c->label, once, thrice);
                assert_true(once >= 0);
                passes += once == 1;
                drops += once == 0;
        }
        assert_true(passes > 500 && drops > 500);
}

static void without_a_policy_not_one_packet_passes(void **state)
{
        struct bpf_world *world = *state;
        __u64 word;

        if (!world)
                skip();
        word = datapath_agent(world->datapath, 0)->word;
        for (__u32 flags = 0; flags < 16; flags++) {
                datapath_agent_publish(world->datapath, 0, flags & WORD_QUARANTINE ? WORD_VERSION(word) : 0, flags);
                for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                        int passed, reason;
                        struct frame frame;

                        build(&frame, &cases[i]);
                        reason = judged(world, cases[i].direction, &frame, &passed);
                        assert_int_equal(passed, 0);
                        assert_int_equal(reason, flags & WORD_QUARANTINE ? REASON_QUARANTINE : REASON_NO_POLICY);
                }
        }
        datapath_agent_publish(world->datapath, 0, WORD_VERSION(word), WORD_FLAGS(word));
}

/* Audit lets through what would be denied, and counts it apart. */
static void audit_counts_what_it_lets_through(void **state)
{
        struct bpf_world *world = *state;
        __u64 word;

        if (!world)
                skip();
        word = datapath_agent(world->datapath, 0)->word;
        datapath_agent_publish(world->datapath, 0, WORD_VERSION(word), WORD_FLAGS(word) | WORD_AUDIT);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct agent_counters before, after;
                struct frame frame;

                build(&frame, &cases[i]);
                assert_int_equal(datapath_counters(world->datapath, 0, &before), 0);
                assert_int_equal(run(world, cases[i].direction, &frame, 1), 1);
                assert_int_equal(datapath_counters(world->datapath, 0, &after), 0);
                assert_memory_equal(before.denied, after.denied, sizeof(before.denied));
                if (cases[i].reason != REASON_NONE)
                        assert_int_equal(after.would_deny[cases[i].reason], before.would_deny[cases[i].reason] + 1);
                else
                        assert_memory_equal(before.would_deny, after.would_deny, sizeof(before.would_deny));
        }
        datapath_agent_publish(world->datapath, 0, WORD_VERSION(word), WORD_FLAGS(word));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(packets_are_parsed_with_care),
                cmocka_unit_test(the_short_way_agrees_with_the_long_way),
                cmocka_unit_test(without_a_policy_not_one_packet_passes),
                cmocka_unit_test(audit_counts_what_it_lets_through),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
