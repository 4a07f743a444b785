/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The budget engine in the kernel, from many threads at once: by BPF_PROG_TEST_RUN of the engine alone, where time is
 * the question's, and of the whole egress program.
 *
 * What was sent never exceeds a limit, and when the threads have come to an end one CPU can send the rest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/if_ether.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agentd/abi_test.h"
#include "agentd/datapath/internal.h"
#include "agentd/datapath/ledger_map.h"
#include "tests/lib/bpf_scene.h"

enum { THREADS = 8, HOUR_S = 3600 };

struct fixture {
        struct datapath *datapath;
        __u32 ids[3];
        struct datapath_limits limits;
};

/* So many bytes by charge_question; how many were paid. */
static __u64 charge(struct datapath *datapath, __u32 set, __u32 direction, __u32 bytes, unsigned repeat, __u64 now_ns,
                    __u32 flags)
{
        __u8 frame[VERDICT_QUESTION_OFFSET + sizeof(struct charge_question)] = {0};
        struct charge_question question = {
                .now_ns = now_ns, .set = set, .direction = direction, .bytes = bytes, .flags = flags, .fast = 1};
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = sizeof(frame), .data_out = frame,
                    .data_size_out = sizeof(frame), .repeat = (int)repeat);

        memcpy(frame + VERDICT_QUESTION_OFFSET, &question, sizeof(question));
        if (bpf_prog_test_run_opts(bpf_program__fd(datapath->skeleton->progs.agentd_charge), &options) < 0)
                return UINT64_MAX / 4;
        memcpy(&question, frame + VERDICT_QUESTION_OFFSET, sizeof(question));
        return question.paid;
}

static __u64 boot_now(void)
{
        struct timespec now;

        clock_gettime(CLOCK_BOOTTIME, &now);
        return (__u64)now.tv_sec * NSEC_PER_SEC + (__u64)now.tv_nsec;
}

/* The first thousandth of an hour, seven hours after now: leases are given, and no test outlasts it. */
static __u64 moment(struct datapath *datapath)
{
        __u64 now = boot_now(), hour = HOUR_S * NSEC_PER_SEC;
        __u64 utc = now + (__u64)datapath_clock(datapath);

        return now + 7 * hour + (hour - utc % hour) + 3 * NSEC_PER_SEC;
}

static int ledgers_up(struct bpf_world *world, struct fixture *fixture, __u64 limit, const struct limit_set *sets,
                      __u16 n)
{
        struct limit_set made[4] = {};
        bool new;
        int r = 0;

        fixture->datapath = world->datapath;
        for (unsigned i = 0; r == 0 && i < ARRAY_SIZE(fixture->ids); i++) {
                char key[32];

                (void)snprintf(key, sizeof(key), "test/%u", i);
                r = datapath_ledger_get(world->datapath, key, i == 0 ? PERIOD_HOUR : PERIOD_TOTAL, 0, limit * (i + 1),
                                        &fixture->ids[i], &new);
        }
        for (__u16 i = 0; i < n; i++) {
                for (unsigned d = 0; d < 2; d++)
                        for (unsigned k = 0; k < LEDGERS_PER_FLOW; k++)
                                if (sets[i].ledgers[d][k])
                                        made[i].ledgers[d][k] = (__u16)fixture->ids[sets[i].ledgers[d][k] - 1];
                memcpy(made[i].buckets, sets[i].buckets, sizeof(made[i].buckets));
        }
        return r < 0 ? r : datapath_limits_make(world->datapath, made, n, &fixture->limits);
}

static void ledgers_down(struct fixture *fixture)
{
        datapath_limits_free(fixture->datapath, fixture->limits);
        for (unsigned i = 0; i < ARRAY_SIZE(fixture->ids); i++)
                datapath_ledger_put(fixture->datapath, fixture->ids[i]);
}

struct sender {
        struct fixture *fixture;
        __u32 set, direction, bytes;
        unsigned rounds, repeat, cpu;
        __u64 now_ns, step_ns, paid;
        pthread_t thread;
};

static void *send_packets(void *context)
{
        struct sender *sender = context;
        cpu_set_t cpus;

        CPU_ZERO(&cpus);
        CPU_SET(sender->cpu, &cpus);
        (void)sched_setaffinity(0, sizeof(cpus), &cpus);
        for (unsigned i = 0; i < sender->rounds; i++) {
                sender->paid += charge(sender->fixture->datapath, sender->set, sender->direction, sender->bytes,
                                       sender->repeat, sender->now_ns, 0);
                sender->now_ns += sender->step_ns;
        }
        return NULL;
}

static __u64 send_all(struct sender *senders, unsigned n)
{
        __u64 paid = 0;
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);

        for (unsigned i = 0; i < n; i++) {
                senders[i].cpu = i % (unsigned)cpus;
                assert_int_equal(pthread_create(&senders[i].thread, NULL, send_packets, &senders[i]), 0);
        }
        for (unsigned i = 0; i < n; i++) {
                pthread_join(senders[i].thread, NULL);
                paid += senders[i].paid;
        }
        return paid;
}

/* One CPU sends what the others have left: a few tries, in jiffies of their own. */
static __u64 send_rest(struct fixture *fixture, __u32 set, __u32 direction, __u32 bytes, __u64 now_ns)
{
        __u64 paid = 0, last;
        unsigned idle = 0;

        do {
                __u64 before = boot_now();

                last = charge(fixture->datapath, set, direction, bytes, 50000, now_ns, 0);
                paid += last;
                idle = last ? 0 : idle + 1;
                while (boot_now() - before < 12 * NSEC_PER_MSEC) /* the next sweep is another jiffy's */
                        sched_yield();
        } while (idle < 3);
        return paid;
}

static void never_exceeds_the_limit_on_many_threads_and_leaves_nothing_behind(void **state)
{
        static const struct {
                __u64 limit;
                __u32 bytes;
                unsigned repeat;
        } cases[] = {
                {100 << 20, 1500, 40000}, {100 << 20, 65000, 1000}, {300000, 1500, 400}, {1000, 60, 400}, {59, 60, 10},
        };
        struct bpf_world *world = *state;
        const struct limit_set sets[] = {{.ledgers = {{1}}}, {.ledgers = {{2, 1}}}, {.ledgers = {{1, 3, 2}}}};

        if (!world)
                skip();
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct fixture fixture;
                struct sender senders[THREADS];
                struct ledger_reading readings[3];
                __u64 paid, now;

                assert_int_equal(ledgers_up(world, &fixture, cases[i].limit, sets, 3), 0);
                now = moment(world->datapath);
                for (unsigned t = 0; t < THREADS; t++)
                        senders[t] = (struct sender){.fixture = &fixture,
                                                     .set = fixture.limits.first + t % 3,
                                                     .bytes = cases[i].bytes,
                                                     .rounds = 4,
                                                     .repeat = cases[i].repeat,
                                                     .now_ns = now};
                paid = send_all(senders, THREADS);
                assert_true(paid <= cases[i].limit);
                paid += send_rest(&fixture, fixture.limits.first, DIRECTION_EGRESS, cases[i].bytes, now);
                assert_true(paid <= cases[i].limit);
                assert_true(paid + cases[i].bytes > cases[i].limit);

                datapath_ledgers_read(world->datapath, fixture.ids, 3, readings);
                /* The hour of the test is not the hour of now. */
                assert_int_equal(LEDGER_BYTES(world->datapath->limits.ledgers[fixture.ids[0]].word), paid);
                ledgers_down(&fixture);
        }
}

static void charges_all_ledgers_of_a_packet_or_none(void **state)
{
        struct bpf_world *world = *state;
        const struct limit_set sets[] = {{.ledgers = {{2, 1}}}, {.ledgers = {{3, 1}}}};
        struct fixture fixture;
        struct sender senders[THREADS];
        __u64 now, words[3], first = 0, second = 0;

        if (!world)
                skip();
        /* The hour's ledger is the scarce one: charged by both sets. */
        assert_int_equal(ledgers_up(world, &fixture, 64 << 20, sets, 2), 0);
        now = moment(world->datapath);
        for (unsigned t = 0; t < THREADS; t++)
                senders[t] = (struct sender){.fixture = &fixture,
                                             .set = fixture.limits.first + t % 2,
                                             .bytes = 1400,
                                             .rounds = 4,
                                             .repeat = 8000,
                                             .now_ns = now};
        (void)send_all(senders, THREADS);
        for (unsigned t = 0; t < THREADS; t++)
                *(t % 2 ? &second : &first) += senders[t].paid;
        first += send_rest(&fixture, fixture.limits.first, DIRECTION_EGRESS, 1400, now);
        for (unsigned i = 0; i < 3; i++)
                words[i] = LEDGER_BYTES(world->datapath->limits.ledgers[fixture.ids[i]].word);
        datapath_limits_free(world->datapath, fixture.limits); /* leases of the second set go back */
        for (unsigned i = 0; i < 3; i++)
                words[i] = LEDGER_BYTES(world->datapath->limits.ledgers[fixture.ids[i]].word);
        assert_int_equal(words[0], first + second);
        assert_int_equal(words[1], first);
        assert_int_equal(words[2], second);
        assert_true(first && second);
        for (unsigned i = 0; i < 3; i++)
                datapath_ledger_put(world->datapath, fixture.ids[i]);
}

static void rolls_over_with_the_hour_while_threads_send(void **state)
{
        struct bpf_world *world = *state;
        const struct limit_set sets[] = {{.ledgers = {{1}}}};
        struct fixture fixture;
        struct sender senders[THREADS];
        __u64 paid, now, hours = 16;

        if (!world)
                skip();
        assert_int_equal(ledgers_up(world, &fixture, 1 << 20, sets, 1), 0);
        now = moment(world->datapath);
        /* Each thread goes through 16 hours at its own pace: a straggler's old hour is charged to the current one. */
        for (unsigned t = 0; t < THREADS; t++)
                senders[t] = (struct sender){.fixture = &fixture,
                                             .set = fixture.limits.first,
                                             .bytes = 1000,
                                             .rounds = (unsigned)hours,
                                             .repeat = 2000,
                                             .now_ns = now,
                                             .step_ns = HOUR_S * NSEC_PER_SEC};
        paid = send_all(senders, THREADS);
        assert_true(paid <= hours << 20);
        assert_true(paid > (hours - 1) << 19);
        ledgers_down(&fixture);
}

static void uses_the_last_bytes_and_counts_beyond_in_audit_mode(void **state)
{
        struct bpf_world *world = *state;
        struct fixture fixture;
        struct limit_set sets[] = {{.ledgers = {{1}}}};
        __u64 now;

        if (!world)
                skip();
        assert_int_equal(ledgers_up(world, &fixture, 10000, sets, 1), 0);
        now = moment(world->datapath);
        assert_int_equal(charge(world->datapath, fixture.limits.first, DIRECTION_EGRESS, 3000, 4, now, 0), 9000);
        /* 1000 bytes are left: they can be used. */
        assert_int_equal(charge(world->datapath, fixture.limits.first, DIRECTION_EGRESS, 1000, 1, now, 0), 1000);
        assert_int_equal(charge(world->datapath, fixture.limits.first, DIRECTION_EGRESS, 1, 1, now, 0), 0);
        /* Another direction has no ledger. */
        assert_int_equal(charge(world->datapath, fixture.limits.first, DIRECTION_INGRESS, 3000, 4, now, 0), 12000);
        /* In audit mode what is over the limit is counted. */
        assert_int_equal(charge(world->datapath, fixture.limits.first, DIRECTION_EGRESS, 500, 2, now, BUDGET_FORCE),
                         1000);
        assert_int_equal(LEDGER_BYTES(world->datapath->limits.ledgers[fixture.ids[0]].word), 11000);
        ledgers_down(&fixture);
}

static void an_idle_cpu_strands_nothing(void **state)
{
        struct bpf_world *world = *state;
        const struct limit_set sets[] = {{.ledgers = {{1}}}, {.ledgers = {{2, 1}}}};
        struct fixture fixture;
        struct sender idle;
        cpu_set_t first;
        __u64 now, paid;

        if (!world || sysconf(_SC_NPROCESSORS_ONLN) < 2)
                skip();
        assert_int_equal(ledgers_up(world, &fixture, 10 << 20, sets, 2), 0);
        now = moment(world->datapath);
        idle = (struct sender){.fixture = &fixture,
                               .cpu = 1,
                               .set = fixture.limits.first + 1,
                               .bytes = 100,
                               .rounds = 1,
                               .repeat = 1,
                               .now_ns = now};
        assert_int_equal(pthread_create(&idle.thread, NULL, send_packets, &idle), 0);
        pthread_join(idle.thread, NULL);
        assert_int_equal(idle.paid, 100);
        assert_true(LEDGER_BYTES(world->datapath->limits.ledgers[fixture.ids[0]].word) > 100); /* it holds a lease */

        CPU_ZERO(&first);
        CPU_SET(0, &first);
        assert_int_equal(sched_setaffinity(0, sizeof(first), &first), 0);
        paid = 100 + send_rest(&fixture, fixture.limits.first, DIRECTION_EGRESS, 100, now);
        assert_true(paid <= 10 << 20);
        assert_true(paid + 100 > 10 << 20);
        ledgers_down(&fixture);
}

/* A number beyond the map. */
static void refuses_what_has_no_set(void **state)
{
        struct bpf_world *world = *state;

        if (!world)
                skip();
        assert_int_equal(charge(world->datapath, LIMIT_SETS_MAX, DIRECTION_EGRESS, 100, 1, boot_now(), 0), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(never_exceeds_the_limit_on_many_threads_and_leaves_nothing_behind),
                cmocka_unit_test(charges_all_ledgers_of_a_packet_or_none),
                cmocka_unit_test(rolls_over_with_the_hour_while_threads_send),
                cmocka_unit_test(uses_the_last_bytes_and_counts_beyond_in_audit_mode),
                cmocka_unit_test(an_idle_cpu_strands_nothing),
                cmocka_unit_test(refuses_what_has_no_set),
        };

        return cmocka_run_group_tests(tests, scene_world_up, scene_world_down);
}
