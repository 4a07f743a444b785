/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A thousand agents: what attaching one costs, and what a packet costs when they take turns, so that nobody's state is
 * warm.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/datapath/internal.h"
#include "tests/bench/bench.h"

enum { AGENTS = 1000, FIRST_ID = 100, ENTRIES = 100000, PORT = 9 };

struct crowd {
        struct bench *bench;
        int cgroups[AGENTS];
        __u64 ids[AGENTS];
        int sockets[AGENTS];
};

static const char section[] = "1000 agents, policy of 100k entries";

static int crowd_new(struct bench *bench, const char *name, struct crowd **ret)
{
        struct crowd *crowd = calloc(1, sizeof(*crowd));
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
        int r = 0;

        if (!crowd)
                return -ENOMEM;
        crowd->bench = bench;
        inet_pton(AF_INET, BENCH_FAR, &to.sin_addr);
        for (int i = 0; r == 0 && i < AGENTS; i++) {
                char path[64];

                (void)snprintf(path, sizeof(path), "%s/%d", name, i);
                r = bpf_world_cgroup(bench->world, path, &crowd->cgroups[i], &crowd->ids[i]);
                if (r == 0)
                        r = bpf_world_socket(bench->world, crowd->cgroups[i], AF_INET, SOCK_DGRAM, 0,
                                             &crowd->sockets[i]);
                if (r == 0 && connect(crowd->sockets[i], (struct sockaddr *)&to, sizeof(to)) < 0)
                        r = -errno;
        }
        *ret = crowd;
        return r;
}

static void crowd_free(struct crowd *crowd)
{
        for (int i = 0; crowd && i < AGENTS; i++) {
                if (crowd->sockets[i] > 0)
                        close(crowd->sockets[i]);
                if (crowd->cgroups[i] > 0)
                        close(crowd->cgroups[i]);
        }
        free(crowd);
}

static __u64 turn(struct contender *contender, unsigned n)
{
        const struct crowd *crowd = contender->context;
        __u64 start = bench_now_ns();

        for (unsigned i = 0; i < n; i++)
                (void)send(crowd->sockets[i % AGENTS], "datagram", 8, 0);
        return bench_now_ns() - start;
}

static int empty_attach(struct crowd *crowd)
{
        const struct bench_bpf *programs = crowd->bench->programs;

        for (int i = 0; i < AGENTS; i++) {
                int fd = bpf_link_create(bpf_program__fd(programs->progs.empty_egress), crowd->cgroups[i],
                                         BPF_CGROUP_INET_EGRESS, NULL);

                if (fd < 0)
                        return fd;
        }
        return 0;
}

static int agents_attach(struct crowd *crowd, const struct bpf_policy *policy)
{
        struct datapath *datapath = crowd->bench->world->datapath;
        __u64 start = bench_now_ns();

        for (__u32 i = 0; i < AGENTS; i++) {
                int r = datapath_attach(datapath, FIRST_ID + i, crowd->cgroups[i], crowd->ids[i], "bench");

                if (r < 0)
                        return r;
        }
        bench_report((struct bench_row){section, "attach, an agent", NULL, "ms",
                                        (double)(bench_now_ns() - start) / 1e6 / AGENTS, 0, BENCH_VALUE, true, false,
                                        0.2});
        start = bench_now_ns();
        for (__u32 i = 0; i < AGENTS; i++)
                datapath_agent_publish(datapath, FIRST_ID + i, policy->version, WORD_LOOPBACK_ALLOW);
        bench_report((struct bench_row){section, "publish a policy to an agent", NULL, "ns",
                                        (double)(bench_now_ns() - start) / AGENTS, 0, BENCH_VALUE});
        return 0;
}

static void agents_detach(struct crowd *crowd)
{
        __u64 start = bench_now_ns();

        for (__u32 i = 0; i < AGENTS; i++)
                (void)datapath_detach(crowd->bench->world->datapath, FIRST_ID + i);
        bench_report((struct bench_row){section, "detach, an agent", NULL, "ms",
                                        (double)(bench_now_ns() - start) / 1e6 / AGENTS, 0, BENCH_VALUE});
}

static void measure(struct crowd **crowds)
{
        struct contender c[] = {
                {"no hook", turn, -1, crowds[0]},
                {"no hook again", turn, -1, crowds[0]},
                {"empty program", turn, -1, crowds[1]},
                {"agentd", turn, -1, crowds[2]},
        };

        bench_series(c, ARRAY_SIZE(c), AGENTS, 6 * NSEC_PER_SEC);
        bench_noise(section, "UDP packet, agents in turn", c[0].best, c[1].best, "ns");
        bench_report((struct bench_row){section, "UDP packet, agents in turn: agentd", c[0].name, "ns", c[3].best,
                                        c[0].best, BENCH_PLUS});
        bench_report((struct bench_row){section, "UDP packet, agents in turn: agentd", c[2].name, "ns", c[3].best,
                                        c[2].best, BENCH_PLUS});
}

/* Takes what comes, to a queue that is always full. */
static int server_open(void)
{
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(PORT)};
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        inet_pton(AF_INET, BENCH_FAR, &at.sin_addr);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){1}, sizeof(int));
        return fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 ? fd : -errno;
}

int bench_many(struct bench *bench)
{
        static const char *const names[] = {"none", "empty", "agents"};
        struct crowd *crowds[3] = {};
        struct bpf_policy *policy = NULL;
        int server_fd = server_open(), r = server_fd;

        if (r >= 0)
                r = bench_policy(bench, ENTRIES, &policy);
        for (int i = 0; r == 0 && i < 3; i++)
                r = crowd_new(bench, names[i], &crowds[i]);
        if (r == 0)
                r = empty_attach(crowds[1]);
        if (r == 0)
                r = agents_attach(crowds[2], policy);
        if (r == 0)
                measure(crowds);
        if (crowds[2])
                agents_detach(crowds[2]);
        for (int i = 0; i < 3; i++)
                crowd_free(crowds[i]);
        close_fd(&server_fd);
        if (policy) {
                (void)datapath_policy_remove(bench->world->datapath, policy->version);
                bpf_policy_free(policy);
        }
        return r;
}
