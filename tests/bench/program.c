/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whole programs by BPF_PROG_TEST_RUN, over an empty one: nanoseconds that depend on nothing but the program.
 *
 * A test run lends a zeroed line for its cgroup storage, which names no agent: entry 0 of `agents` is given the policy.
 * The line lives as long as the call, so the first repetition is judged and all others meet the cache.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <stdio.h>
#include <string.h>

#include "agentd/datapath/internal.h"
#include "agentd/datapath/ledger_map.h"
#include "tests/bench/bench.h"

enum { REPEAT = 30000, TCP_SYN = 0x02, TCP_ACK = 0x10 };

struct packet {
        __u8 bytes[128];
        __u32 length;
};

/* A host among n entries: the look-ups go as deep as they get. IPv6 has one prefix only. */
static __be32 host_of(unsigned n)
{
        struct bpf_rule *rules = bench_rules(n, BENCH_MIXED);
        struct prefix prefix = {};

        if (rules && prefix_parse(rules[n / 2 | 1].prefix, &prefix) == 0)
                prefix.address.bytes[15] |= 3;
        bench_rules_free(rules, n);
        return prefix.address.words[3];
}

/* One packet to that host or to 2001:db8::1, port 443. SYN: it is judged each time. */
static struct packet packet_of(int family, __be32 remote, __u8 ip_protocol, __u8 tcp_flags)
{
        struct packet packet = {};
        __u8 *ip = packet.bytes + ETH_HLEN;

        if (family == AF_INET) {
                packet.bytes[12] = 0x08;
                ip[0] = 0x45;
                ip[3] = 60;
                ip[8] = 64;
                ip[9] = ip_protocol;
                inet_pton(AF_INET, "10.0.0.1", ip + 12);
                memcpy(ip + 16, &remote, sizeof(remote));
                ip += 20;
        } else {
                packet.bytes[12] = 0x86;
                packet.bytes[13] = 0xdd;
                ip[0] = 0x60;
                ip[6] = ip_protocol;
                inet_pton(AF_INET6, "2001:db8:1::1", ip + 8);
                inet_pton(AF_INET6, "2001:db8::1", ip + 24);
                ip += 40;
        }
        ip[0] = 40000 >> 8;
        ip[1] = 40000 & 255;
        ip[2] = 443 >> 8;
        ip[3] = 443 & 255;
        if (ip_protocol == IPPROTO_TCP) {
                ip[12] = 0x50;
                ip[13] = tcp_flags;
        }
        packet.length = (__u32)(ip - packet.bytes) + 40;
        return packet;
}

/* fd: the program; context: the packet. By our clock: the kernel's own has whole nanoseconds only. */
static __u64 turn(struct contender *contender, unsigned n)
{
        struct packet *packet = contender->context;
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet->bytes, .data_size_in = packet->length,
                    .repeat = (int)n);
        __u64 start = bench_now_ns();

        if (bpf_prog_test_run_opts(contender->fd, &options) < 0 || options.retval != 1)
                return UINT64_MAX / 2;
        return bench_now_ns() - start;
}

static const struct {
        unsigned n;
        const char *name;
} sizes[] = {{10, "10"}, {1000, "1k"}, {100000, "100k"}, {1000000, "1M"}};

static const char section[] = "Whole egress program, one packet (BPF_PROG_TEST_RUN)";

static char labels[64][64];

static const char *label(const char *format, const char *size)
{
        static size_t used;
        char *text = labels[used++ % ARRAY_SIZE(labels)];

        (void)snprintf(text, sizeof(labels[0]), format, size);
        return text;
}

static void one_size(struct bench *bench, unsigned n, const char *size, bool last)
{
        __be32 host = host_of(n), udp_host = inet_addr(BENCH_FAR);
        struct packet tcp4 = packet_of(AF_INET, host, IPPROTO_TCP, TCP_ACK),
                      tcp6 = packet_of(AF_INET6, 0, IPPROTO_TCP, TCP_ACK),
                      udp4 = packet_of(AF_INET, udp_host, IPPROTO_UDP, 0),
                      judged = packet_of(AF_INET, host, IPPROTO_TCP, TCP_SYN);
        int empty = bpf_program__fd(bench->programs->progs.empty_egress),
            agentd = bpf_program__fd(bench->world->datapath->skeleton->progs.agentd_egress),
            list = bpf_program__fd(bench->programs->progs.list_egress);
        struct contender c[] = {
                {"empty", turn, empty, &tcp4},        {"empty again", turn, empty, &tcp4},
                {"agentd tcp4", turn, agentd, &tcp4}, {"agentd tcp6", turn, agentd, &tcp6},
                {"agentd udp4", turn, agentd, &udp4}, {"agentd judged", turn, agentd, &judged},
                {"list tcp4", turn, list, &tcp4},
        };

        bench_series(c, ARRAY_SIZE(c), REPEAT, 2 * NSEC_PER_SEC);
        if (last)
                bench_noise(section, "empty program", c[0].best, c[1].best, "ns");
        bench_report((struct bench_row){section, label("established TCP over IPv4, %s entries", size), "empty program",
                                        "ns", c[2].best, c[0].best, BENCH_PLUS, true, false, 15});
        bench_report((struct bench_row){section, label("established TCP over IPv6, %s entries", size), "empty program",
                                        "ns", c[3].best, c[0].best, BENCH_PLUS, true, false, 15});
        bench_report((struct bench_row){section, label("UDP over IPv4, %s entries", size), "empty program", "ns",
                                        c[4].best, c[0].best, BENCH_PLUS, true, false, 15});
        bench_report((struct bench_row){section, label("a SYN, judged and not cached, %s entries", size),
                                        "empty program", "ns", c[5].best, c[0].best, BENCH_PLUS});
        bench_report((struct bench_row){section, label("systemd shape, %s entries", size), "empty program", "ns",
                                        c[6].best, c[0].best, BENCH_PLUS});
}

int bench_list_fill(struct bench *bench, unsigned n)
{
        struct bpf_rule *rules = bench_rules(n, BENCH_MIXED);
        int allow = bpf_map__fd(bench->programs->maps.allow4), deny = bpf_map__fd(bench->programs->maps.deny4), r = 0;
        struct {
                __u32 length;
                __be32 address;
        } all = {0, 0};
        __u64 one = 1;

        if (!rules)
                return -ENOMEM;
        for (unsigned i = 0; r == 0 && i < n + 1; i++) {
                struct prefix prefix;

                r = prefix_parse(rules[i].prefix, &prefix);
                all.length = prefix.length - 96u;
                all.address = prefix.address.words[3];
                if (r == 0)
                        r = bpf_map_update_elem(allow, &all, &one, BPF_ANY);
        }
        all.length = 0;
        all.address = 0;
        if (r == 0)
                r = bpf_map_update_elem(deny, &all, &one, BPF_ANY);
        bench_rules_free(rules, n);
        return r;
}

int bench_program(struct bench *bench)
{
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                struct bpf_policy *policy = NULL;
                int r = bench_policy(bench, sizes[i].n, &policy);

                if (r == 0)
                        r = bench_list_fill(bench, sizes[i].n);
                if (r < 0) {
                        bpf_policy_free(policy);
                        return r;
                }
                datapath_agent_publish(bench->world->datapath, 0, policy->version, WORD_LOOPBACK_ALLOW);
                one_size(bench, sizes[i].n, sizes[i].name, i + 1 == ARRAY_SIZE(sizes));
                datapath_agent_publish(bench->world->datapath, 0, 0, 0);
                (void)datapath_policy_remove(bench->world->datapath, policy->version);
                bpf_policy_free(policy);
        }
        return 0;
}

/* A flow with so many ledgers: the same program and packet, published with that set of limits. */
struct budgeted {
        struct bench *bench;
        struct packet packet;
        __u32 version;
        struct datapath_limits limits;
};

static __u64 budgeted_turn(struct contender *contender, unsigned n)
{
        struct budgeted *budgeted = contender->context;
        struct contender inner = {.fd = contender->fd, .context = &budgeted->packet};

        datapath_agent_publish_limits(budgeted->bench->world->datapath, 0, budgeted->version, WORD_LOOPBACK_ALLOW,
                                      budgeted->limits);
        return turn(&inner, n);
}

int bench_budget(struct bench *bench)
{
        static const char part[] = "Byte budgets, whole egress program, one packet (BPF_PROG_TEST_RUN)";
        static const unsigned counts[] = {0, 0, 1, 2, 4, 8};
        static const enum budget_period periods[] = {PERIOD_HOUR,  PERIOD_DAY,  PERIOD_WEEK, PERIOD_MONTH,
                                                     PERIOD_TOTAL, PERIOD_HOUR, PERIOD_DAY,  PERIOD_MONTH};
        struct datapath *datapath = bench->world->datapath;
        struct budgeted budgeted[ARRAY_SIZE(counts)] = {};
        struct contender c[ARRAY_SIZE(counts)] = {};
        struct bpf_policy *policy = NULL;
        __u32 ids[LEDGERS_PER_FLOW] = {};
        int r = bench_policy(bench, 10, &policy);

        for (unsigned i = 0; r == 0 && i < ARRAY_SIZE(ids); i++) {
                char key[32];
                bool made;

                (void)snprintf(key, sizeof(key), "bench/%u", i);
                r = datapath_ledger_get(datapath, key, periods[i], 1, 1ull << 46, &ids[i], &made);
        }
        for (unsigned i = 0; r == 0 && i < ARRAY_SIZE(counts); i++) {
                struct limit_set set = {};

                for (unsigned k = 0; k < counts[i]; k++)
                        set.ledgers[DIRECTION_EGRESS][k] = (__u16)ids[k];
                budgeted[i] = (struct budgeted){.bench = bench,
                                                .packet = packet_of(AF_INET, host_of(10), IPPROTO_TCP, TCP_ACK),
                                                .version = policy->version,
                                                .limits = {.count = 1}};
                if (counts[i])
                        r = datapath_limits_make(datapath, &set, 1, &budgeted[i].limits);
                c[i] = (struct contender){"budgets", budgeted_turn,
                                          bpf_program__fd(datapath->skeleton->progs.agentd_egress), &budgeted[i]};
        }
        if (r == 0) {
                bench_series(c, ARRAY_SIZE(c), REPEAT, 3 * NSEC_PER_SEC);
                bench_noise(part, "no budget", c[0].best, c[1].best, "ns");
                for (unsigned i = 2; i < ARRAY_SIZE(counts); i++) {
                        char count[8];

                        (void)snprintf(count, sizeof(count), "%u", counts[i]);
                        bench_report((struct bench_row){part, label("established TCP over IPv4, %s ledgers", count),
                                                        "no budget", "ns", c[i].best, c[0].best, BENCH_PLUS, true,
                                                        false, 4});
                }
        }
        datapath_agent_publish(datapath, 0, 0, 0);
        for (unsigned i = 0; i < ARRAY_SIZE(counts); i++)
                if (budgeted[i].limits.first)
                        datapath_limits_free(datapath, budgeted[i].limits);
        for (unsigned i = 0; i < ARRAY_SIZE(ids); i++)
                if (ids[i])
                        datapath_ledger_put(datapath, ids[i]);
        if (policy)
                (void)datapath_policy_remove(datapath, policy->version);
        bpf_policy_free(policy);
        return r;
}
