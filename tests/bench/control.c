/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is not a packet's: compiling and publishing policies, and the way of events from a denied packet to the reader.
 */
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "agentd/datapath/internal.h"
#include "tests/bench/bench.h"

static const char publish_section[] = "Compile and publish";
static const char event_section[] = "Events";

static const struct {
        const char *compile, *publish;
        unsigned n;
        enum bench_mix mix;
} measured[] = {
        {"compile 100k rules, half hosts, half prefixes", "  publish", 100000, BENCH_MIXED},
        {"compile 100k hosts", "  publish", 100000, BENCH_HOSTS},
        {"compile 100k prefixes", "  publish", 100000, BENCH_PREFIXES},
        {"compile 1M rules, half hosts, half prefixes", "  publish", 1000000, BENCH_MIXED},
};

static int policies(struct bench *bench)
{
        for (size_t m = 0; m < ARRAY_SIZE(measured); m++) {
                double compile = 0, publish = 0, n = measured[m].n;

                for (int i = 0; i < (n > 100000 ? 1 : 4); i++) {
                        struct bpf_policy *policy = NULL;
                        __u64 compile_ns, publish_ns;
                        int r;

                        r = bench_policy_timed(bench, measured[m].n, measured[m].mix, &policy, &compile_ns,
                                               &publish_ns);
                        if (r < 0)
                                return r;
                        compile = MAX(compile, n * 1e9 / (double)compile_ns);
                        publish = MAX(publish, n * 1e9 / (double)publish_ns);
                        r = datapath_policy_remove(bench->world->datapath, policy->version);
                        bpf_policy_free(policy);
                        if (r < 0)
                                return r;
                }
                bench_report((struct bench_row){publish_section, measured[m].compile, NULL, "entries/s", compile, 0,
                                                BENCH_VALUE});
                bench_report((struct bench_row){publish_section, measured[m].publish, NULL, "entries/s", publish, 0,
                                                BENCH_VALUE, true, true, 2e6});
        }
        return 0;
}

/* --- events --------------------------------------------------------------------------------------------------------
 */

struct reader {
        struct datapath *datapath;
        atomic_bool stop;
        _Atomic __u64 seen;
        pthread_t thread;
};

static void on_record(void *context, const void *record, size_t size)
{
        struct reader *reader = context;

        atomic_fetch_add_explicit(&reader->seen, 1, memory_order_relaxed);
}

/* As the daemon: woken by the ring's threshold, else by a short timer. */
static void *read_events(void *context)
{
        struct reader *reader = context;
        struct pollfd item = {.fd = datapath_events_fd(reader->datapath), .events = POLLIN};

        bench_pin(true);
        while (!atomic_load(&reader->stop)) {
                (void)poll(&item, 1, 10);
                (void)datapath_events_consume(reader->datapath, on_record, on_record, reader);
        }
        while (datapath_events_consume(reader->datapath, on_record, on_record, reader) > 0)
                ;
        return NULL;
}

/* An UDP packet to where no rule leads: entry 0 of `agents` has a policy that allows nothing near. */
static const __u8 denied_packet[ETH_HLEN + 48] = {
        [12] = 0x08, [14] = 0x45, [17] = 48, [22] = 64, [23] = IPPROTO_UDP, [26] = 10, [29] = 1,
        [30] = 9,    [31] = 9,    [32] = 9,  [33] = 9,  [34] = 1,           [36] = 1,  [37] = 187};

static __u64 turn(struct contender *contender, unsigned n)
{
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = denied_packet, .data_size_in = sizeof(denied_packet),
                    .repeat = (int)n);
        __u64 start, taken;

        start = bench_now_ns();
        if (bpf_prog_test_run_opts(contender->fd, &options) < 0)
                return UINT64_MAX / 2;
        taken = bench_now_ns() - start;
        if (contender->context)
                while (datapath_events_consume(contender->context, on_record, on_record, &(struct reader){}) > 0)
                        ;
        return taken;
}

/* Packets at the rate, in bursts of a millisecond; rate 0: as many as go. Returns how many were denied. */
static __u64 flood(int program_fd, __u64 rate, __u64 duration_ns)
{
        __u64 start = bench_now_ns(), sent = 0, now = start;
        struct contender contender = {.fd = program_fd};

        while (now - start < duration_ns) {
                __u64 due = rate ? (now - start) * rate / NSEC_PER_SEC : sent + 1000;

                if (due > sent) {
                        unsigned n = (unsigned)MIN(due - sent, (__u64)2000);

                        (void)turn(&contender, n);
                        sent += n;
                }
                now = bench_now_ns();
        }
        return sent;
}

static int stream(struct bench *bench, const char *what, const char *what_lost, __u64 rate, bool goal)
{
        struct reader reader = {.datapath = bench->world->datapath};
        int fd = bpf_program__fd(bench->world->datapath->skeleton->progs.agentd_egress);
        struct agent_counters before, after;
        __u64 sent, start;
        double seconds;

        (void)datapath_counters(bench->world->datapath, 0, &before);
        if (pthread_create(&reader.thread, NULL, read_events, &reader) != 0)
                return -EAGAIN;
        start = bench_now_ns();
        sent = flood(fd, rate, 1500 * NSEC_PER_MSEC);
        seconds = (double)(bench_now_ns() - start) / 1e9;
        atomic_store(&reader.stop, true);
        pthread_join(reader.thread, NULL);
        (void)datapath_counters(bench->world->datapath, 0, &after);

        bench_report(
                (struct bench_row){event_section, what, NULL, "/s", (double)reader.seen / seconds, 0, BENCH_VALUE});
        bench_report((struct bench_row){event_section, what_lost, NULL, "%",
                                        (double)(after.events_lost - before.events_lost) * 100 / (double)sent, 0,
                                        BENCH_VALUE, goal, false, 0});
        if (reader.seen + after.events_lost - before.events_lost != sent)
                bench_note("%s: %llu denied, %llu read, %llu counted as lost: they do not add up", what, sent,
                           reader.seen, after.events_lost - before.events_lost);
        return 0;
}

int bench_control(struct bench *bench)
{
        struct contender c[] = {
                {"empty", turn, bpf_program__fd(bench->programs->progs.empty_egress), NULL},
                {"deny", turn, bpf_program__fd(bench->world->datapath->skeleton->progs.agentd_egress),
                 bench->world->datapath},
        };
        struct bpf_policy *policy = NULL;
        int r = policies(bench);

        if (r == 0)
                r = bench_policy(bench, 1000, &policy);
        if (r < 0)
                return r;

        datapath_agent_publish(bench->world->datapath, 0, policy->version, 0);
        bench_series(c, ARRAY_SIZE(c), 400, 2 * NSEC_PER_SEC);
        bench_report((struct bench_row){event_section, "a denied packet and its event", "empty program", "ns",
                                        c[1].best, c[0].best, BENCH_PLUS, true, false, 250});
        r = stream(bench, "events read, 1M/s offered", "  of these lost", 1000000, true);
        if (r == 0)
                r = stream(bench, "events read, flood", "  of these lost", 0, false);
        datapath_agent_publish(bench->world->datapath, 0, 0, 0);
        (void)datapath_policy_remove(bench->world->datapath, policy->version);
        bpf_policy_free(policy);
        return r;
}
