/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The device program (tier 3) over an empty tc program, by BPF_PROG_TEST_RUN: a frame of no socket, which is judged,
 * charged to no budget, and counted. A frame of the agent's own sockets costs the look for its cgroup and no counting.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <stdio.h>
#include <string.h>

#include "agentd/datapath/device.h"
#include "agentd/datapath/internal.h"
#include "tests/bench/bench.h"

enum { REPEAT = 30000, AGENT = 7, LO = 1 };

struct frame {
        __u8 bytes[ETH_HLEN + 60];
        __u32 length;
        int result;
};

static const char section[] = "Whole device program, one frame (BPF_PROG_TEST_RUN)";

static struct frame frame_of(const char *remote, __u8 tcp_flags)
{
        struct frame frame = {.length = ETH_HLEN + 60, .result = -1};
        __u8 *ip = frame.bytes + ETH_HLEN;

        memcpy(frame.bytes, "\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x08\0", ETH_HLEN);
        ip[0] = 0x45;
        ip[3] = 60;
        ip[8] = 64;
        ip[9] = IPPROTO_TCP;
        inet_pton(AF_INET, "10.7.0.2", ip + 12);
        inet_pton(AF_INET, remote, ip + 16);
        ip[20] = 40000 >> 8;
        ip[21] = 40000 & 255;
        ip[22] = 443 >> 8;
        ip[23] = 443 & 255;
        ip[32] = 0xa0;
        ip[33] = tcp_flags;
        return frame;
}

static __u64 turn(struct contender *contender, unsigned n)
{
        struct frame *frame = contender->context;
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame->bytes, .data_size_in = frame->length,
                    .repeat = (int)n);
        __u64 start = bench_now_ns();

        if (bpf_prog_test_run_opts(contender->fd, &options) < 0 || (int)options.retval != frame->result)
                return UINT64_MAX / 2;
        return bench_now_ns() - start;
}

static int device_set(struct bench *bench, __u64 cgroup_id)
{
        struct device device = {.ifindex = LO, .agent_id = AGENT, .cgroup_id = cgroup_id, .n_addresses = 2, .level = 1};

        memcpy(device.gateway_mac, "\x02\0\0\0\0\x01", 6);
        memcpy(device.mac, "\x02\0\0\0\0\x02", 6);
        inet_pton(AF_INET6, "2001:db8:7::2", &device.addresses[0]);
        inet_pton(AF_INET6, "::ffff:10.7.0.2", &device.addresses[1]);
        return datapath_device_set(bench->world->datapath, &device);
}

int bench_device(struct bench *bench)
{
        struct frame ack = frame_of(BENCH_FAR, 0x10), syn = frame_of(BENCH_FAR, 0x02);
        int empty = bpf_program__fd(bench->programs->progs.empty_tc),
            agentd = bpf_program__fd(bench->world->datapath->skeleton->progs.agentd_device), cgroup_fd = -1, r;
        struct contender c[] = {
                {"empty", turn, empty, &ack},
                {"empty again", turn, empty, &ack},
                {"agentd ack", turn, agentd, &ack},
                {"agentd syn", turn, agentd, &syn},
        };
        struct bpf_policy *policy = NULL;
        __u64 id = 0;

        r = bpf_world_cgroup(bench->world, "device", &cgroup_fd, &id);
        if (r == 0)
                r = datapath_attach(bench->world->datapath, AGENT, cgroup_fd, id, "bench");
        if (r == 0)
                r = device_set(bench, id);
        if (r == 0)
                r = bench_policy(bench, 100000, &policy);
        if (r == 0) {
                datapath_agent_publish(bench->world->datapath, AGENT, policy->version, 0);
                bench_series(c, ARRAY_SIZE(c), REPEAT, 2 * NSEC_PER_SEC);
                bench_noise(section, "empty program", c[0].best, c[1].best, "ns");
                bench_report((struct bench_row){section, "established TCP over IPv4, 100k entries", "empty program",
                                                "ns", c[2].best, c[0].best, BENCH_PLUS, true, false, 45});
                bench_report((struct bench_row){section, "a SYN, judged and not cached, 100k entries", "empty program",
                                                "ns", c[3].best, c[0].best, BENCH_PLUS});
                datapath_agent_publish(bench->world->datapath, AGENT, 0, 0);
                (void)datapath_policy_remove(bench->world->datapath, policy->version);
                bpf_policy_free(policy);
        }
        (void)datapath_detach(bench->world->datapath, AGENT);
        close_fd(&cgroup_fd);
        (void)bpf_world_cgroup_remove(bench->world, "device");
        return r;
}
