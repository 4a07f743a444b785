/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The budget engine under a scheduler of our own: the very lines that the kernel runs (agentd/budget_charge.h), with
 * each access to shared memory a point where any other CPU, or a softirq on the same CPU, may go on instead.
 *
 * Contexts are coroutines. A softirq's context shuts its CPU's process context out until it is done. Orders are tried
 * two ways: every one with at most two changes of context before a context ends (depth first, by replay), and random
 * ones from a printed seed. What must hold is checked at each step, and again when all is quiet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <cmocka.h>

static void step(void);

#define BUDGET_READ(pointer)         (step(), *(volatile __typeof__(*(pointer)) *)(pointer))
#define BUDGET_WRITE(pointer, value) (step(), *(volatile __typeof__(*(pointer)) *)(pointer) = (value))
#define BUDGET_CAS(pointer, old, new)                              \
        ({                                                         \
                __typeof__(*(pointer)) old_ = (old), new_ = (new); \
                step();                                            \
                __sync_val_compare_and_swap(pointer, old_, new_);  \
        })
#define BUDGET_XCHG(pointer, value) (step(), __sync_lock_test_and_set(pointer, value))

#include <linux/types.h>
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#include "agentd/budget_charge.h"
#include "agentd/util/macro.h"

enum { CPUS = 2, SETS = 3, LEDGERS = 3, CONTEXTS_MAX = 6, STACK = 256 * 1024, WINDOWS = 4 };

#define SECOND 1000000000ull

struct context {
        ucontext_t context;
        char *stack;
        int cpu;      /* -1: no CPU of ours (the daemon, the clock) */
        bool softirq; /* shuts out the process context of its CPU once it has begun */
        bool begun, done;
        void (*run)(struct context *context);
        __u32 set;
        __u32 bytes;
        unsigned packets;
};

static struct {
        struct ledger ledgers[LEDGERS];
        struct limit_set sets[SETS];
        struct lease leases[CPUS][SETS];
        __u64 now_ns, jiffies;
        __u64 sent[LEDGERS][WINDOWS]; /* by packets that began and ended in that window */
        __u64 sent_all[LEDGERS];
        bool violated;
        struct context contexts[CONTEXTS_MAX];
        unsigned n_contexts;
        ucontext_t scheduler;
        struct context *current;
} world;

static bool quiet; /* no scheduling: plain calls */

static void step(void)
{
        if (!quiet && world.current)
                swapcontext(&world.current->context, &world.scheduler);
}

static struct ledger *budget_ledger(const void *tables, __u32 id)
{
        return id < LEDGERS ? &world.ledgers[id] : NULL;
}

static const struct limit_set *budget_set(const void *tables, __u32 id)
{
        return id < SETS ? &world.sets[id] : NULL;
}

static struct lease *budget_lease(const void *tables, __u32 cpu, __u32 set)
{
        return cpu < CPUS && set < SETS ? &world.leases[cpu][set] : NULL;
}

static __u64 budget_look(const void *tables, __u32 id, __u64 now_ns)
{
        return budget_ledger_look(NULL, id, now_ns);
}

static int budget_take(const void *tables, __u32 id, __u64 bytes, __u64 now_ns, __u32 flags)
{
        return budget_ledger_take(NULL, id, bytes, now_ns, flags);
}

static void budget_give(const void *tables, __u32 id, __u32 bytes, __u32 window)
{
        budget_ledger_give(NULL, id, bytes, window);
}

static __u64 budget_utc(const void *tables, __u64 now_ns)
{
        return now_ns / SECOND;
}

static void budget_tell(const void *tables, __u32 id, struct ledger *ledger, __u32 percent, __u64 word, __u64 now_ns)
{
}

static bool budget_sweep(const void *tables, __u32 id, __u64 jiffies)
{
        struct ledger *ledger = budget_ledger(NULL, id);

        if (!ledger || !budget_sweep_claim(ledger, jiffies))
                return false;
        for (__u32 set = ledger->first_set; set < ledger->end_set; set++) {
                for (__u32 cpu = 0; cpu < CPUS; cpu++)
                        budget_sweep_step(NULL, id, cpu, set);
        }
        return true;
}

static __u64 limit_of(__u32 id)
{
        return world.ledgers[id].limit;
}

static void invariants(void)
{
        for (__u32 id = 1; id < LEDGERS; id++) {
                for (size_t w = 0; w < WINDOWS; w++)
                        world.violated |= world.sent[id][w] > limit_of(id);
                world.violated |= LEDGER_BYTES(world.ledgers[id].word) > limit_of(id);
        }
}

/* Which of the test's hours a moment is in; the total has one window only. */
static size_t window_of(__u32 id, __u64 now_ns)
{
        return world.ledgers[id].period == PERIOD_TOTAL ? 0 : now_ns / SECOND / WINDOW_HOUR_S % WINDOWS;
}

static void send_packet(int cpu, __u32 set, __u32 bytes)
{
        __u64 began = world.now_ns;

        if (!budget_charge(NULL, set, DIRECTION_EGRESS, bytes, began, 0, cpu, CPUS, world.jiffies))
                return;
        for (size_t i = 0; i < LEDGERS_PER_FLOW && world.sets[set].ledgers[0][i]; i++) {
                __u32 id = world.sets[set].ledgers[0][i];

                if (window_of(id, began) == window_of(id, world.now_ns))
                        world.sent[id][window_of(id, began)] += bytes;
                world.sent_all[id] += bytes;
        }
}

static void run_packets(struct context *context)
{
        for (unsigned i = 0; i < context->packets; i++)
                send_packet(context->cpu, context->set, context->bytes);
}

/* Time goes on, and with it an hour ends. A jiffy is 4 ms. */
static void run_clock(struct context *context)
{
        step();
        world.now_ns += context->packets * (SECOND / 1000);
        world.jiffies += context->packets / 4;
        step();
}

/* The daemon collects all leases, as when a limit is lowered. */
static void run_daemon(struct context *context)
{
        for (__u32 set = 1; set < SETS; set++) {
                for (__u32 cpu = 0; cpu < CPUS; cpu++)
                        budget_lease_return(NULL, &world.sets[set], &world.leases[cpu][set], DIRECTION_EGRESS);
        }
}

static void entry(void)
{
        world.current->run(world.current);
        world.current->done = true;
        swapcontext(&world.current->context, &world.scheduler);
}

static char *stacks[CONTEXTS_MAX];

static void context_add(void (*run)(struct context *), int cpu, bool softirq, __u32 set, __u32 bytes, unsigned packets)
{
        struct context *context = &world.contexts[world.n_contexts];

        if (!stacks[world.n_contexts])
                stacks[world.n_contexts] = malloc(STACK);
        *context = (struct context){.stack = stacks[world.n_contexts],
                                    .cpu = cpu,
                                    .softirq = softirq,
                                    .run = run,
                                    .set = set,
                                    .bytes = bytes,
                                    .packets = packets};
        getcontext(&context->context);
        context->context.uc_stack.ss_sp = context->stack;
        context->context.uc_stack.ss_size = STACK;
        makecontext(&context->context, entry, 0);
        world.n_contexts++;
}

static bool may_run(const struct context *context)
{
        if (context->done)
                return false;
        if (context->cpu < 0 || context->softirq)
                return true;
        for (unsigned i = 0; i < world.n_contexts; i++) {
                const struct context *other = &world.contexts[i];

                if (other->softirq && other->cpu == context->cpu && other->begun && !other->done)
                        return false;
        }
        return true;
}

struct scenario {
        const char *name;
        void (*build)(void);
        bool rolls; /* an hour ends meanwhile: leases of the one before are lost to it */
};

static void world_reset(void)
{
        memset(&world, 0, sizeof(world));
        world.now_ns = 100ull * WINDOW_HOUR_S * SECOND;
        world.jiffies = 1000;
        for (__u32 id = 1; id < LEDGERS; id++) {
                world.ledgers[id].period = id == 1 ? PERIOD_HOUR : PERIOD_TOTAL;
                world.ledgers[id].limit = 300000;
                world.ledgers[id].first_set = 1;
                world.ledgers[id].end_set = SETS;
                world.ledgers[id].word = LEDGER_WORD(window_number(world.ledgers[id].period, world.now_ns / SECOND), 0);
        }
        world.sets[1].ledgers[0][0] = 1;
        world.sets[2].ledgers[0][0] = 2;
        world.sets[2].ledgers[0][1] = 1;
}

/* Two CPUs and a softirq on the first want more than there is. */
static void build_contention(void)
{
        world.ledgers[1].limit = 250000;
        context_add(run_packets, 0, false, 1, 60000, 3);
        context_add(run_packets, 1, false, 1, 60000, 3);
        context_add(run_packets, 0, true, 1, 60000, 2);
}

/* The same lease is taken, lent, interrupted and collected. */
static void build_collected(void)
{
        context_add(run_packets, 0, false, 1, 1000, 2);
        context_add(run_packets, 0, true, 1, 1000, 2);
        context_add(run_daemon, -1, false, 0, 0, 0);
}

/* Two sets share one ledger; one of them has a second. */
static void build_two_ledgers(void)
{
        world.ledgers[1].limit = 160000;
        world.ledgers[2].limit = 120000;
        context_add(run_packets, 0, false, 2, 50000, 3);
        context_add(run_packets, 1, false, 1, 50000, 4);
        context_add(run_packets, 1, true, 2, 50000, 1);
}

/* The hour ends while leases of it are held, used and collected. */
static void build_roll(void)
{
        world.now_ns += (WINDOW_HOUR_S - 1) * SECOND; /* a second before the end: leases are still given */
        context_add(run_packets, 0, false, 1, 1000, 2);
        context_add(run_daemon, -1, false, 0, 0, 0);
        context_add(run_clock, -1, false, 0, 0, 1000);
}

/* The same on two CPUs and two sets, with packets that no lease covers. */
static void build_roll_wide(void)
{
        world.now_ns += (WINDOW_HOUR_S - 1) * SECOND;
        context_add(run_packets, 0, false, 2, 60000, 3);
        context_add(run_packets, 1, false, 1, 60000, 3);
        context_add(run_packets, 0, true, 1, 20000, 2);
        context_add(run_clock, -1, false, 0, 0, 1000);
}

/* So near to the end that a lease would outlive it. */
static void build_edge(void)
{
        world.now_ns += WINDOW_HOUR_S * SECOND - SECOND / 10;
        context_add(run_packets, 0, false, 1, 1000, 2);
        context_add(run_clock, -1, false, 0, 0, 100);
}

/* A CPU has taken a lease and sends no more. */
static void build_idle(void)
{
        context_add(run_packets, 1, false, 1, 1000, 1);
        context_add(run_packets, 1, true, 2, 1000, 1);
        context_add(run_packets, 0, false, 1, 1000, 2);
}

/* The lease's last bytes are wanted by both contexts of one CPU while the other one sweeps. */
static void build_last_bytes(void)
{
        world.ledgers[1].limit = 150000;
        world.leases[0][1].word[0] = LEASE_WORD(world.jiffies, 20000);
        world.leases[0][1].windows[0][0] = LEDGER_WINDOW(world.ledgers[1].word);
        world.ledgers[1].word += 148000;
        world.sent[1][window_of(1, world.now_ns)] = 128000;
        world.sent_all[1] = 128000;
        context_add(run_packets, 0, false, 1, 9000, 2);
        context_add(run_packets, 0, true, 1, 9000, 1);
        context_add(run_packets, 1, false, 1, 9000, 1);
}

static const struct scenario scenarios[] = {
        {"contention", build_contention, false},
        {"collected", build_collected, false},
        {"two ledgers", build_two_ledgers, false},
        {"roll", build_roll, true},
        {"roll, wide", build_roll_wide, true},
        {"edge", build_edge, true},
        {"idle", build_idle, false},
        {"last bytes", build_last_bytes, false},
};

/* When all is quiet: nothing is lost, and one CPU can use up what is left. */
static const char *check_quiet(const struct scenario *scenario)
{
        __u64 leased[LEDGERS] = {0};

        if (world.violated)
                return "more was sent, or charged, than the limit";
        for (__u32 cpu = 0; cpu < CPUS; cpu++) {
                for (__u32 set = 1; set < SETS; set++) {
                        for (size_t i = 0; i < LEDGERS_PER_FLOW; i++)
                                leased[world.sets[set].ledgers[0][i]] += LEASE_BYTES(world.leases[cpu][set].word[0]);
                }
        }
        for (__u32 id = 1; id < LEDGERS && !scenario->rolls; id++) {
                if (LEDGER_BYTES(world.ledgers[id].word) != world.sent_all[id] + leased[id])
                        return "charged is not sent and leased";
        }

        /* One CPU uses up what is left: at once, then with time between the packets. */
        quiet = true;
        for (unsigned refused = 0; refused < 3;) {
                __u64 before = world.sent_all[1];

                world.jiffies += refused ? 40 : 0;
                send_packet(0, 1, 100);
                refused = world.sent_all[1] == before ? refused + 1 : 0;
        }
        quiet = false;
        invariants();
        if (world.violated)
                return "more was sent, or charged, than the limit, at the end";
        if (!scenario->rolls && world.sent_all[1] + 100 <= limit_of(1))
                return "bytes are stranded";
        return NULL;
}

/* Choices: which of those that may run goes on. choose() is asked only where there is more than one. */
static const char *run_schedule(const struct scenario *scenario, unsigned (*choose)(void *, unsigned, bool), void *data)
{
        struct context *last = NULL;

        world_reset();
        scenario->build();
        for (;;) {
                struct context *ready[CONTEXTS_MAX];
                unsigned n = 0, first = 0;

                for (unsigned i = 0; i < world.n_contexts; i++) {
                        if (!may_run(&world.contexts[i]))
                                continue;
                        if (&world.contexts[i] == last) /* going on is choice 0 */
                                first = n;
                        ready[n++] = &world.contexts[i];
                }
                if (n == 0)
                        break;
                if (first != 0) {
                        struct context *swap = ready[0];

                        ready[0] = ready[first];
                        ready[first] = swap;
                }
                last = ready[n > 1 ? choose(data, n, ready[0] == last && !last->done) : 0];
                last->begun = true;
                world.current = last;
                swapcontext(&world.scheduler, &last->context);
                world.current = NULL;
                invariants();
        }
        return check_quiet(scenario);
}

struct random_choice {
        unsigned seed;
        unsigned stay; /* of 100: how often the same one goes on */
};

static unsigned choose_random(void *data, unsigned n, bool going_on)
{
        struct random_choice *choice = data;

        if (going_on && (unsigned)rand_r(&choice->seed) % 100 < choice->stay)
                return 0;
        return (unsigned)rand_r(&choice->seed) % n;
}

enum { DEPTH_MAX = 4096, PREEMPTIONS = 2 };

/* The choices of one run, and how to get to the next: the last that can be raised is, what follows it is forgotten. */
struct depth_first {
        __u8 choice[DEPTH_MAX], options[DEPTH_MAX];
        unsigned length, at, preemptions;
};

static unsigned choose_depth_first(void *data, unsigned n, bool going_on)
{
        struct depth_first *search = data;
        unsigned i = search->at++, choice;

        assert_true(i < DEPTH_MAX);
        if (i >= search->length) {
                search->choice[i] = 0;
                search->length = i + 1;
        }
        search->options[i] = going_on && search->preemptions == PREEMPTIONS ? 1 : n;
        choice = search->choice[i];
        if (going_on && choice != 0)
                search->preemptions++;
        return choice;
}

static bool next_schedule(struct depth_first *search)
{
        while (search->length > 0) {
                unsigned i = search->length - 1;

                if (search->choice[i] + 1u < search->options[i]) {
                        search->choice[i]++;
                        return true;
                }
                search->length--;
        }
        return false;
}

static void never_exceeds_and_strands_nothing_in_random_orders(void **state)
{
        const char *text = getenv("AGENTD_TEST_SEED");
        unsigned seed = text ? (unsigned)strtoul(text, NULL, 0) : 20261123;

        for (size_t s = 0; s < ARRAY_SIZE(scenarios); s++) {
                for (unsigned i = 0; i < 2500; i++) {
                        struct random_choice choice = {.seed = seed + i, .stay = i % 3 * 45};
                        const char *wrong = run_schedule(&scenarios[s], choose_random, &choice);

                        if (wrong)
                                fail_msg("%s, seed %u: %s", scenarios[s].name, seed + i, wrong);
                }
        }
}

static void never_exceeds_in_any_order_with_two_preemptions(void **state)
{
        static struct depth_first search;

        for (size_t s = 0; s < ARRAY_SIZE(scenarios); s++) {
                unsigned long runs = 0;
                bool whole = true;

                search = (struct depth_first){0};
                do {
                        const char *wrong;

                        search.at = search.preemptions = 0;
                        wrong = run_schedule(&scenarios[s], choose_depth_first, &search);
                        if (wrong)
                                fail_msg("%s, schedule %lu: %s", scenarios[s].name, runs, wrong);
                        if (++runs == 8000) {
                                whole = false;
                                break;
                        }
                } while (next_schedule(&search));
                print_message("%s: %lu orders%s\n", scenarios[s].name, runs, whole ? ", all of them" : "");
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(never_exceeds_and_strands_nothing_in_random_orders),
                cmocka_unit_test(never_exceeds_in_any_order_with_two_preemptions),
        };
        int r = cmocka_run_group_tests(tests, NULL, NULL);

        for (size_t i = 0; i < ARRAY_SIZE(stacks); i++)
                free(stacks[i]);
        return r;
}
