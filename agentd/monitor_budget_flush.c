/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What budgets need while nobody asks: the wall clock in the kernel, readings, what is remembered, and the end of
 * sockets whose budget is spent.
 *
 * The store is written every few seconds, at thresholds and at the end; the kernel's pinned ledgers lose nothing when
 * this process is killed, so that interval is what a crash of the whole host may lose, no more.
 */
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>

#include "agentd/abi_test.h"
#include "agentd/address_class.h"
#include "agentd/event/decode.h"
#include "agentd/ledger/window.h"
#include "agentd/monitor_budget.h"
#include "agentd/net/sock_diag.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"
#include "agentd/util/parse.h"

enum {
        FLUSH_MS = 5000,
        FLUSH_MS_MIN = 10,
        CLOCK_STEP_NS = 1000000,
        PRUNE_AFTER_S = 3600, /* a host without a clock of its own has asked the network by then */
        PRUNE_EVERY_S = 86400,
        PRUNE_OLDER_S = 90 * 86400,
};

static __s64 clock_offset(void)
{
        struct timespec real, before, after;
        __s64 boot_ns;

        (void)clock_gettime(CLOCK_BOOTTIME, &before);
        (void)clock_gettime(CLOCK_REALTIME, &real);
        (void)clock_gettime(CLOCK_BOOTTIME, &after);
        boot_ns = ((__s64)before.tv_sec + (__s64)after.tv_sec) * (__s64)NSEC_PER_SEC / 2 +
                  ((__s64)before.tv_nsec + (__s64)after.tv_nsec) / 2;
        return (__s64)real.tv_sec * (__s64)NSEC_PER_SEC + (__s64)real.tv_nsec - boot_ns;
}

__u64 monitor_budget_utc(struct monitor *monitor)
{
        __s64 now_ns = (__s64)monitor_now() + datapath_clock(monitor->datapath);

        return now_ns > 0 ? (__u64)now_ns / NSEC_PER_SEC : 0;
}

/*
 * Does what was used move to the window of now? Only when the clock itself has gone back: a ledger that is ahead for
 * another reason (a host that booted with an old clock, and remembers) waits for the clock to be set right. A step
 * forwards that is longer than a ledger's word can tell (3.7 years of hours: a host without a clock of its own) looks
 * to the kernel like one back.
 */
static bool step_carries(enum budget_period period, __u64 before_s, __u64 now_s)
{
        __s64 ahead = (__s64)window_number(period, before_s) - (__s64)window_number(period, now_s);

        return ahead >= 2 || ahead < INT16_MIN + 1;
}

static void ledger_read(struct monitor *monitor, struct monitor_ledger *ledger)
{
        datapath_ledgers_read(monitor->datapath, &ledger->id, 1, &ledger->reading);
}

/* What was used before in the window of now: not the last that was stored when the clock has gone back and forth. */
static int window_restore(struct monitor *monitor, struct monitor_ledger *ledger)
{
        __u32 now = window_number(ledger->period, monitor_budget_utc(monitor));
        struct stored_ledger stored;
        int r = ledger_keeper_get_window(monitor->budgets->keeper, ledger->key, now, &stored);

        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (stored.period == ledger->period)
                datapath_ledger_restore(monitor->datapath, ledger->id, now, stored.used, stored.granted);
        return 0;
}

int monitor_budget_restore(struct monitor *monitor, struct monitor_ledger *ledger)
{
        struct monitor_budgets *budgets = monitor->budgets;
        __u64 now_s = monitor_budget_utc(monitor);
        struct stored_ledger stored;
        int r;

        if (step_carries(ledger->period, MAX((__s64)now_s - budgets->start_step_ns / (__s64)NSEC_PER_SEC, 0ll), now_s))
                (void)datapath_ledger_carry(monitor->datapath, ledger->id);
        if (budgets->keeper) {
                r = ledger_keeper_get(budgets->keeper, ledger->key, &stored);
                if (r < 0 && r != -ENOENT)
                        return r;
                if (r == 0 && stored.period == ledger->period)
                        datapath_ledger_restore(monitor->datapath, ledger->id, stored.window, stored.used,
                                                stored.granted);
                r = window_restore(monitor, ledger);
                if (r < 0)
                        return r;
        }
        ledger_read(monitor, ledger);
        return 0;
}

void monitor_budget_note(struct monitor *monitor, struct monitor_ledger *ledger, bool exact)
{
        const struct ledger_reading *reading = &ledger->reading;
        struct stored_ledger note = {
                .period = ledger->period,
                .window = reading->window,
                .used = reading->used,
                .granted = reading->granted,
        };

        if (!monitor->budgets->keeper || (!exact && note.window == ledger->noted.window &&
                                          note.used == ledger->noted.used && note.granted == ledger->noted.granted))
                return;
        memcpy(note.key, ledger->key, sizeof(note.key));
        if (ledger_keeper_note(monitor->budgets->keeper, &note, exact) == 0)
                ledger->noted = note;
}

void monitor_budgets_note(struct monitor *monitor)
{
        struct monitor_ledger *ledger, *next;

        HASH_ITER (hh, monitor->budgets->by_id, ledger, next)
                monitor_budget_note(monitor, ledger, false);
}

static int buffers_grow(struct monitor_budgets *budgets)
{
        struct ledger_reading *readings;
        size_t capacity = MAX(budgets->n_ledgers * 2, 64u);
        __u32 *ids;

        if (budgets->capacity >= budgets->n_ledgers)
                return 0;
        readings = realloc(budgets->readings, capacity * sizeof(*readings));
        if (readings)
                budgets->readings = readings;
        ids = realloc(budgets->ids, capacity * sizeof(*ids));
        if (ids)
                budgets->ids = ids;
        if (!readings || !ids)
                return -ENOMEM;
        budgets->capacity = capacity;
        return 0;
}

void monitor_budgets_read(struct monitor *monitor)
{
        struct monitor_budgets *budgets = monitor->budgets;
        struct monitor_ledger *ledger, *next;
        __u64 now_ns = monitor_now();
        double elapsed_s = (double)(now_ns - budgets->read_ns) / NSEC_PER_SEC;
        size_t n = 0;

        if (budgets->n_ledgers == 0 || buffers_grow(budgets) < 0)
                return; /* the next tick tries again */
        HASH_ITER (hh, budgets->by_id, ledger, next)
                budgets->ids[n++] = ledger->id;
        datapath_ledgers_read(monitor->datapath, budgets->ids, n, budgets->readings);
        n = 0;
        HASH_ITER (hh, budgets->by_id, ledger, next) {
                ledger->reading = budgets->readings[n++];
                ledger_usage_add(&ledger->usage, ledger->reading.window, ledger->reading.used, elapsed_s);
        }
        budgets->read_ns = now_ns;
}

void monitor_budgets_flush(struct monitor *monitor)
{
        monitor_budgets_note(monitor);
        if (monitor->budgets->keeper)
                ledger_keeper_flush(monitor->budgets->keeper);
}

static void on_flush(uv_timer_t *timer)
{
        struct monitor_budgets *budgets = timer->data;

        monitor_budgets_read(budgets->monitor);
        monitor_budgets_flush(budgets->monitor);
}

/* A step acts at once: the kernel's windows follow, and what a later window had used goes back with them. */
static void clock_follow(struct monitor *monitor)
{
        __s64 offset_ns = clock_offset(), step_ns = offset_ns - datapath_clock(monitor->datapath);
        __u64 before_s = monitor_budget_utc(monitor), now_s;
        struct monitor_ledger *ledger, *next;

        if (step_ns < CLOCK_STEP_NS && step_ns > -CLOCK_STEP_NS)
                return;
        /* What the window that we leave has used is in the notes before another one takes its place. */
        monitor_budgets_read(monitor);
        monitor_budgets_note(monitor);
        datapath_clock_set(monitor->datapath, offset_ns);
        now_s = monitor_budget_utc(monitor);
        HASH_ITER (hh, monitor->budgets->by_id, ledger, next) {
                if (step_carries(ledger->period, before_s, now_s))
                        (void)datapath_ledger_carry(monitor->datapath, ledger->id);
                if (monitor->budgets->keeper &&
                    window_number(ledger->period, before_s) != window_number(ledger->period, now_s) &&
                    window_restore(monitor, ledger) < 0)
                        log_warning("cannot read what '%s' had used in this window", ledger->key);
        }
}

static int clock_watch(struct monitor_budgets *budgets)
{
        /* Far away, and cancelled by every step of the clock. */
        struct itimerspec never = {.it_value = {.tv_sec = (time_t)1 << 33}};

        if (timerfd_settime(budgets->clock_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0)
                return -errno;
        return 0;
}

static void on_clock(uv_poll_t *poll, int status, int events)
{
        struct monitor_budgets *budgets = poll->data;
        __u64 expired;

        (void)!read(budgets->clock_fd, &expired, sizeof(expired));
        (void)clock_watch(budgets);
        clock_follow(budgets->monitor);
}

static __u64 flush_ms(void)
{
        const char *text = getenv("AGENTD_FLUSH_MS");
        __u64 ms;

        return text && parse_number(text, FLUSH_MS_MIN, FLUSH_MS, &ms) == 0 ? ms : FLUSH_MS;
}

int monitor_budgets_new(struct monitor *monitor, const char *state_directory, struct monitor_error *error)
{
        struct state_store_error store_error = {};
        struct monitor_budgets *budgets = calloc(1, sizeof(*budgets));
        __u64 ms = flush_ms();
        int r;

        error->exit_status = 1;
        if (!budgets) {
                (void)snprintf(error->text, sizeof(error->text), "out of memory");
                return -ENOMEM;
        }
        budgets->monitor = monitor;
        budgets->clock_fd = -1;
        budgets->read_ns = monitor_now();
        monitor->budgets = budgets;
        /* Before the first agent: until now the kernel's windows went by the clock of the last daemon. */
        budgets->start_step_ns = clock_offset() - datapath_clock(monitor->datapath);
        datapath_clock_set(monitor->datapath, datapath_clock(monitor->datapath) + budgets->start_step_ns);
        if (state_directory) {
                r = ledger_keeper_new(monitor->loop, state_directory, &store_error, &budgets->keeper);
                if (r < 0) {
                        (void)snprintf(error->text, sizeof(error->text), "cannot remember budgets: %s",
                                       store_error.text[0] ? store_error.text : strerror(-r));
                        return r;
                }
        }
        (void)uv_timer_init(monitor->loop, &budgets->flush);
        budgets->flush.data = budgets;
        budgets->closing = 1;
        r = uv_timer_start(&budgets->flush, on_flush, ms, ms);
        if (r < 0)
                return r;
        budgets->clock_fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
        if (budgets->clock_fd < 0 || clock_watch(budgets) < 0 ||
            uv_poll_init(monitor->loop, &budgets->clock_poll, budgets->clock_fd) < 0) {
                close_fd(&budgets->clock_fd);
                log_warning("cannot watch the clock for steps; they are seen within a second");
                return 0;
        }
        budgets->clock_poll.data = budgets;
        budgets->closing = 2;
        return uv_poll_start(&budgets->clock_poll, UV_READABLE, on_clock);
}

static void prune(struct monitor *monitor, __u64 now_ns)
{
        struct monitor_budgets *budgets = monitor->budgets;
        __u64 since_ns = budgets->pruned_ns ? budgets->pruned_ns : monitor->started_ns;
        __u64 wait_s = budgets->pruned_ns ? PRUNE_EVERY_S : PRUNE_AFTER_S, utc_s = monitor_budget_utc(monitor);

        if (!budgets->keeper || now_ns - since_ns < wait_s * NSEC_PER_SEC || utc_s < PRUNE_OLDER_S)
                return;
        budgets->pruned_ns = now_ns;
        ledger_keeper_prune(budgets->keeper, utc_s - PRUNE_OLDER_S);
}

static struct monitor_budget *budget_of(const struct monitor_limits *limits, const struct monitor_ledger *ledger)
{
        for (size_t i = 0; limits && i < limits->n_budgets; i++)
                if (limits->budgets[i].ledger == ledger)
                        return &limits->budgets[i];
        return NULL;
}

struct spent_context {
        struct monitor *monitor;
        struct monitor_agent *agent;
        const char *rule_scope; /* NULL: all that is not loopback */
};

static bool socket_spent(void *context, const struct sock_diag_socket *socket)
{
        const struct spent_context *spent = context;
        const struct monitor_policy *policy = spent->agent->policy;
        struct verdict_question question = {};
        const char *scope;

        if (socket->remote_port == 0 || address_is_loopback(&socket->remote))
                return false;
        if (!spent->rule_scope)
                return true;
        if (!policy || monitor_socket_verdict(spent->monitor, spent->agent, socket, &question) < 0 ||
            question.verdict.rule >= policy->policy->n_rules)
                return false;
        scope = policy->policy->rules[question.verdict.rule].scope;
        return scope && strcmp(scope, spent->rule_scope) == 0;
}

void monitor_budget_exhausted(struct monitor *monitor, struct monitor_ledger *ledger)
{
        struct monitor_agent *agent, *next;

        if (ledger->ended)
                return;
        ledger->ended = true;
        ledger->ended_used = ledger->reading.used;
        HASH_ITER (hh, monitor->agents, agent, next) {
                const struct monitor_budget *budget = budget_of(agent->limits, ledger);
                struct spent_context spent = {monitor, agent, budget ? budget->rule_scope : NULL};

                /* Nothing is refused in audit mode, so nothing hangs either. */
                if (!budget || !budget->reset || (monitor_word_flags(agent) & WORD_AUDIT))
                        continue;
                monitor_sockets_destroy_if(monitor, agent, socket_spent, &spent);
        }
}

/* A shared ledger's record names no agent: one of those that have it stands for them. */
static struct monitor_agent *agent_of(struct monitor *monitor, const struct monitor_ledger *ledger)
{
        struct monitor_agent *agent, *next;

        HASH_ITER (hh, monitor->agents, agent, next)
                if (budget_of(agent->limits, ledger))
                        return agent;
        return NULL;
}

void monitor_budget_record(struct monitor *monitor, const void *record, size_t size, __s64 boot_to_real_ns)
{
        const struct budget_record *told = record;
        struct monitor_agent *agent;
        struct monitor_ledger *ledger = NULL;
        const struct monitor_budget *budget;
        struct event event;
        __u64 time_ns;
        __u32 id;

        if (event_decode(record, size, boot_to_real_ns, &event) < 0) {
                event_bus_lost(monitor->bus, "malformed", 1);
                return;
        }
        id = told->ledger;
        agent = monitor->by_id[told->agent_id];
        HASH_FIND(hh, monitor->budgets->by_id, &id, sizeof(id), ledger);
        if (ledger && !agent)
                agent = agent_of(monitor, ledger);
        if (!ledger || !agent)
                return; /* one of them has gone: nobody's budget */
        time_ns = event.time_ns;
        monitor_event_fill(monitor, agent, &event);
        event.time_ns = time_ns;
        budget = budget_of(agent->limits, ledger);
        for (const struct monitor_limits *limits = monitor->budgets->retired; !budget && limits; limits = limits->next)
                if (strcmp(limits->agent, agent->name) == 0)
                        budget = budget_of(limits, ledger);
        ledger_read(monitor, ledger);
        if (budget) {
                (void)snprintf(event.scope, sizeof(event.scope), "%s", budget->scope);
                if (budget->rule_id)
                        (void)snprintf(event.rule, sizeof(event.rule), "%s", budget->rule_id);
        }
        event.window_end_s = window_end(ledger->period, ledger->reading.window);
        event_bus_publish(monitor->bus, &event);
        if (event.percent == 100) {
                ledger->ended = false; /* what was ended before was another window's, or limit's */
                monitor_budget_exhausted(monitor, ledger);
        }
        monitor_budgets_flush(monitor);
}

/*
 * The first packet that was refused may have been a large one: connections that began since then have used of what it
 * left, until that was too little for any, or for theirs.
 */
static bool goes_on(const struct monitor_ledger *ledger)
{
        const struct ledger_reading *reading = &ledger->reading;

        return reading->used != ledger->ended_used &&
               (reading->used + BUDGET_REFUSED_BYTES > reading->limit + reading->granted ||
                reading->used == ledger->ticked_used);
}

void monitor_budgets_tick(struct monitor *monitor, __u64 now_ns)
{
        struct monitor_ledger *ledger, *next;

        clock_follow(monitor);
        monitor_budgets_read(monitor);
        /* The record that tells may be lost: the ledger remembers what it told. */
        HASH_ITER (hh, monitor->budgets->by_id, ledger, next) {
                if (!(ledger->reading.told & TOLD_100) || goes_on(ledger))
                        ledger->ended = false;
                if (ledger->reading.told & TOLD_100)
                        monitor_budget_exhausted(monitor, ledger);
                ledger->ticked_used = ledger->reading.used;
        }
        prune(monitor, now_ns);
}

static void note_unclaimed(void *context, const char *key, const struct ledger_reading *reading)
{
        struct monitor *monitor = context;
        struct stored_ledger note = {
                .period = reading->period,
                .window = reading->window,
                .used = reading->used,
                .granted = reading->granted,
        };

        (void)snprintf(note.key, sizeof(note.key), "%s", key);
        if (ledger_keeper_note(monitor->budgets->keeper, &note, false) < 0)
                log_warning("cannot remember a budget that nobody has any more: out of memory");
}

void monitor_budgets_sweep(struct monitor *monitor)
{
        if (monitor->budgets->keeper)
                datapath_ledgers_unclaimed(monitor->datapath, note_unclaimed, monitor);
        datapath_limits_sweep(monitor->datapath);
}

void monitor_budgets_end(struct monitor *monitor)
{
        if (!monitor->budgets || !monitor->budgets->keeper)
                return;
        monitor_budgets_read(monitor);
        monitor_budgets_note(monitor);
        (void)ledger_keeper_flush_now(monitor->budgets->keeper); /* it has told */
}
