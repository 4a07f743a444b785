/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An agent's limits: prepared, published with its policy, retired.
 *
 * A ledger is found by its key, so that it keeps what was used over edits, restarts and reboots. Nobody is ever without
 * the limits that the policy names: an agent whose limits cannot be had is denied.
 */
#include "agentd/monitor_budget.h"

#include <errno.h>
#include <string.h>

#include "agentd/ledger/plan.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

static void ledger_drop(struct monitor *monitor, struct monitor_ledger *ledger)
{
        struct monitor_budgets *budgets = monitor->budgets;

        datapath_ledger_put(monitor->datapath, ledger->id);
        HASH_DELETE(hh, budgets->by_id, ledger);
        HASH_DELETE(hh_by_key, budgets->by_key, ledger);
        budgets->n_ledgers--;
        free(ledger);
}

static void ledger_put(struct monitor *monitor, struct monitor_ledger *ledger)
{
        if (--ledger->references > 0) {
                datapath_ledger_put(monitor->datapath, ledger->id);
                return;
        }
        /* It may come back within its window: what was used must not be lost with the kernel's entry. */
        datapath_ledgers_read(monitor->datapath, &ledger->id, 1, &ledger->reading);
        monitor_budget_note(monitor, ledger, false);
        ledger_drop(monitor, ledger);
}

static int ledger_get(struct monitor *monitor, const struct ledger_plan_item *item, __u32 agent_id,
                      struct monitor_ledger **ret)
{
        struct monitor_budgets *budgets = monitor->budgets;
        struct monitor_ledger *ledger = NULL;
        bool made = false;
        __u32 id;
        int r;

        HASH_FIND(hh_by_key, budgets->by_key, item->key, strlen(item->key), ledger);
        if (ledger) {
                /* In use: its limit changes when the policy that says so is published. */
                r = datapath_ledger_get(monitor->datapath, item->key, item->budget->period,
                                        item->budget->shared ? 0 : agent_id, ledger->reading.limit, &id, &made);
                if (r < 0)
                        return r;
                ledger->references++;
                *ret = ledger;
                return 0;
        }
        ledger = calloc(1, sizeof(*ledger));
        if (!ledger)
                return -ENOMEM;
        r = datapath_ledger_get(monitor->datapath, item->key, item->budget->period, item->budget->shared ? 0 : agent_id,
                                item->budget->bytes, &id, &made);
        if (r < 0) {
                free(ledger);
                return r;
        }
        ledger->id = id;
        ledger->period = item->budget->period;
        ledger->references = 1;
        ledger->reading.limit = item->budget->bytes;
        memcpy(ledger->key, item->key, sizeof(ledger->key));
        HASH_ADD(hh, budgets->by_id, id, sizeof(ledger->id), ledger);
        HASH_ADD_KEYPTR(hh_by_key, budgets->by_key, ledger->key, strlen(ledger->key), ledger);
        budgets->n_ledgers++;
        r = monitor_budget_restore(monitor, ledger);
        if (r < 0) {
                ledger_drop(monitor, ledger);
                return r;
        }
        *ret = ledger;
        return 0;
}

static void budget_clear(struct monitor_budget *budget)
{
        free(budget->scope);
        free(budget->rule_id);
        free(budget->rule_scope);
        free(budget->owner);
}

/* The run of sets is the caller's matter. */
static void limits_release(struct monitor *monitor, struct monitor_limits *limits)
{
        for (size_t i = 0; i < limits->n_budgets; i++) {
                if (limits->budgets[i].ledger)
                        ledger_put(monitor, limits->budgets[i].ledger);
                budget_clear(&limits->budgets[i]);
        }
        for (size_t i = 0; i < limits->n_buckets; i++)
                if (limits->buckets[i].id)
                        datapath_bucket_put(monitor->datapath, limits->buckets[i].id);
        free(limits->budgets);
        free(limits->buckets);
        free(limits->sets);
        free(limits);
}

static void limits_free(struct monitor *monitor, struct monitor_limits *limits)
{
        if (!limits)
                return;
        /* Leases go back first: what is noted of a ledger is what was sent. */
        if (limits->run.first && !limits->borrowed)
                datapath_limits_free(monitor->datapath, limits->run);
        limits_release(monitor, limits);
}

static int budget_fill(struct monitor *monitor, const struct monitor_agent *agent, const struct ledger_plan_item *item,
                       struct monitor_budget *ret)
{
        ret->directions = item->budget->directions;
        ret->shared = item->budget->shared;
        ret->reset = item->budget->reset;
        ret->limit = item->budget->bytes;
        ret->scope = strdup(item->scope);
        ret->owner = strdup(item->budget->owner);
        ret->rule_id = item->rule ? strdup(item->rule->id) : NULL;
        ret->rule_scope = item->rule ? strdup(item->rule->scope) : NULL;
        if (!ret->scope || !ret->owner || (item->rule && (!ret->rule_id || !ret->rule_scope)))
                return -ENOMEM;
        return ledger_get(monitor, item, agent->id, &ret->ledger);
}

static int bucket_get(struct monitor *monitor, const struct ledger_plan_bucket *bucket, struct monitor_bucket *ret)
{
        memcpy(ret->key, bucket->key, sizeof(ret->key));
        ret->interval_ns = MAX(bucket->rate->period_ns / MAX(bucket->rate->connections, 1u), 1ull);
        ret->tolerance_ns = (MAX(bucket->rate->burst, 1u) - 1) * ret->interval_ns;
        return datapath_bucket_get(monitor->datapath, ret->key, ret->interval_ns, ret->tolerance_ns, &ret->id);
}

/* What was prepared and not taken has set its own rates. */
static void buckets_assert(struct monitor *monitor, const struct monitor_limits *limits)
{
        for (size_t i = 0; limits && i < limits->n_buckets; i++) {
                const struct monitor_bucket *bucket = &limits->buckets[i];
                __u32 id;

                if (datapath_bucket_get(monitor->datapath, bucket->key, bucket->interval_ns, bucket->tolerance_ns,
                                        &id) == 0)
                        datapath_bucket_put(monitor->datapath, id);
        }
}

static void set_fill(const struct monitor_limits *limits, const struct ledger_plan_class *class, __u32 agent_id,
                     struct limit_set *ret)
{
        for (size_t d = 0; d < 2; d++) {
                for (size_t i = 0; i < LEDGERS_PER_FLOW && class->items[d][i] >= 0; i++)
                        ret->ledgers[d][i] = (__u16)limits->budgets[class->items[d][i]].ledger->id;
                if (class->buckets[d] >= 0)
                        ret->buckets[d] = (__u16)limits->buckets[class->buckets[d]].id;
        }
        ret->agent_id = agent_id;
}

static int limits_fill(struct monitor *monitor, const struct monitor_agent *agent, const struct ledger_plan *plan,
                       struct monitor_limits *limits)
{
        const struct monitor_limits *now = agent->limits;
        int r = 0;

        limits->run.count = 1;
        if (ledger_plan_is_empty(plan))
                return 0;
        limits->budgets = calloc(MAX(plan->n_items, 1u), sizeof(*limits->budgets));
        limits->buckets = calloc(MAX(plan->n_buckets, 1u), sizeof(*limits->buckets));
        limits->sets = calloc(plan->n_classes, sizeof(*limits->sets));
        if (!limits->budgets || !limits->buckets || !limits->sets)
                return -ENOMEM;
        for (; r == 0 && limits->n_budgets < plan->n_items; limits->n_budgets++)
                r = budget_fill(monitor, agent, &plan->items[limits->n_budgets], &limits->budgets[limits->n_budgets]);
        for (; r == 0 && limits->n_buckets < plan->n_buckets; limits->n_buckets++)
                r = bucket_get(monitor, &plan->buckets[limits->n_buckets], &limits->buckets[limits->n_buckets]);
        if (r < 0)
                return r;
        for (size_t i = 0; i < plan->n_classes; i++)
                set_fill(limits, &plan->classes[i], agent->id, &limits->sets[i]);

        /* Most edits leave the sets as they were, and leases with them. */
        if (now && now->run.first && now->run.count == plan->n_classes &&
            memcmp(now->sets, limits->sets, plan->n_classes * sizeof(*limits->sets)) == 0) {
                limits->run = now->run;
                limits->borrowed = true;
                return 0;
        }
        r = now ? -ENOENT
                : datapath_limits_adopt_run(monitor->datapath, agent->id, limits->sets, (__u16)plan->n_classes,
                                            &limits->run);
        return r == 0 ? 0 : datapath_limits_make(monitor->datapath, limits->sets, (__u16)plan->n_classes, &limits->run);
}

static bool limits_are_of(const struct monitor_limits *limits, const struct monitor_agent *agent, __u32 version)
{
        return limits && limits->version == version && strcmp(limits->agent, agent->name) == 0;
}

int monitor_limits_prepare(struct monitor *monitor, struct monitor_agent *agent, const struct monitor_policy *policy,
                           struct monitor_error *error)
{
        struct monitor_limits *limits = calloc(1, sizeof(*limits));
        struct ledger_plan *plan = NULL;
        int r = limits ? 0 : -ENOMEM;

        monitor_limits_discard(monitor, agent);
        if (r == 0)
                r = ledger_plan_new(policy->compiled, agent->name, &plan);
        if (r == 0) {
                limits->version = policy->version;
                memcpy(limits->agent, agent->name, sizeof(limits->agent));
                r = limits_fill(monitor, agent, plan, limits);
        }
        ledger_plan_free(plan);
        if (r < 0) {
                limits_free(monitor, limits);
                buckets_assert(monitor, agent->limits);
                error->exit_status = r == -ENOSPC ? 4 : 1;
                (void)snprintf(error->text, sizeof(error->text),
                               "cannot hold agent '%s' to the limits of policy '%s': %s%s", agent->name,
                               policy->policy->name, strerror(-r),
                               r == -ENOSPC ? "; the kernel's table of ledgers, sets or buckets is full" : "");
                return r;
        }
        agent->next_limits = limits;
        return 0;
}

void monitor_limits_discard(struct monitor *monitor, struct monitor_agent *agent)
{
        if (!agent->next_limits)
                return;
        limits_free(monitor, agent->next_limits);
        agent->next_limits = NULL;
        buckets_assert(monitor, agent->limits);
}

void monitor_limits_retire(struct monitor *monitor, struct monitor_agent *agent)
{
        struct monitor_limits *limits = agent->limits;

        agent->limits = NULL;
        if (!limits)
                return;
        limits->retired_ns = monitor_now();
        limits->next = monitor->budgets->retired;
        monitor->budgets->retired = limits;
}

int monitor_limits_take(struct monitor *monitor, struct monitor_agent *agent, struct monitor_error *error,
                        struct datapath_limits *ret)
{
        const struct monitor_policy *policy = agent->policy;
        struct monitor_limits *limits;
        int r;

        if (limits_are_of(agent->limits, agent, policy->version)) {
                *ret = agent->limits->run;
                return 0;
        }
        if (!limits_are_of(agent->next_limits, agent, policy->version)) {
                r = monitor_limits_prepare(monitor, agent, policy, error);
                if (r < 0)
                        return r;
        }
        limits = TAKE_PTR(agent->next_limits);
        if (limits->borrowed) {
                limits->borrowed = false;
                agent->limits->borrowed = true; /* now it is the old ones that do not own it */
        }
        monitor_limits_retire(monitor, agent);
        agent->limits = limits;
        for (size_t i = 0; i < limits->n_budgets; i++) {
                struct monitor_ledger *ledger = limits->budgets[i].ledger;

                if (ledger->reading.limit != limits->budgets[i].limit)
                        datapath_ledger_set_limit(monitor->datapath, ledger->id, limits->budgets[i].limit);
                ledger->reading.limit = limits->budgets[i].limit;
                /* This agent's sockets, or this policy's `on_exhausted`, may be new to a budget that is spent already.
                 */
                if (limits->budgets[i].reset)
                        ledger->ended = false;
        }
        for (size_t i = 0; i < limits->n_buckets; i++)
                datapath_bucket_settle(monitor->datapath, limits->buckets[i].id);
        *ret = limits->run;
        return 0;
}

void monitor_limits_sweep(struct monitor *monitor, __u64 now_ns)
{
        struct monitor_limits **link = &monitor->budgets->retired;
        bool waited = false;

        while (*link) {
                struct monitor_limits *limits = *link;

                if (now_ns - limits->retired_ns < MONITOR_RETIRE_MS * NSEC_PER_MSEC) {
                        link = &limits->next;
                        continue;
                }
                if (!waited)
                        monitor_grace();
                waited = true;
                *link = limits->next;
                limits_free(monitor, limits);
        }
}

static void limits_forget(struct monitor_limits *limits)
{
        if (!limits)
                return;
        for (size_t i = 0; i < limits->n_budgets; i++) {
                budget_clear(&limits->budgets[i]);
        }
        free(limits->budgets);
        free(limits->buckets);
        free(limits->sets);
        free(limits);
}

void monitor_limits_forget(struct monitor_agent *agent)
{
        limits_forget(agent->limits);
        limits_forget(agent->next_limits);
        agent->limits = agent->next_limits = NULL;
}

static void on_closed(uv_handle_t *handle)
{
        struct monitor_budgets *budgets = handle->data;

        if (--budgets->closing > 0)
                return;
        close_fd(&budgets->clock_fd);
        free(budgets);
}

void monitor_budgets_free(struct monitor *monitor)
{
        struct monitor_budgets *budgets = monitor->budgets;
        struct monitor_ledger *ledger, *next;

        if (!budgets)
                return;
        monitor->budgets = NULL;
        budgets->monitor = NULL;
        while (budgets->retired) {
                struct monitor_limits *limits = budgets->retired;

                budgets->retired = limits->next;
                limits_forget(limits);
        }
        HASH_ITER (hh, budgets->by_id, ledger, next) {
                HASH_DELETE(hh, budgets->by_id, ledger);
                HASH_DELETE(hh_by_key, budgets->by_key, ledger);
                free(ledger);
        }
        ledger_keeper_free(budgets->keeper);
        free(budgets->readings);
        free(budgets->ids);
        if (!budgets->closing) {
                free(budgets);
                return;
        }
        uv_close((uv_handle_t *)&budgets->flush, on_closed);
        if (budgets->clock_fd >= 0)
                uv_close((uv_handle_t *)&budgets->clock_poll, on_closed);
}

const struct monitor_budget *monitor_budget_for(const struct monitor_agent *agent, const struct rule *rule,
                                                const struct budget *item)
{
        const struct monitor_limits *limits = agent->limits;

        for (size_t i = 0; limits && i < limits->n_budgets; i++) {
                const struct monitor_budget *budget = &limits->budgets[i];

                if (budget->ledger->period == item->period && budget->directions == item->directions &&
                    budget->shared == item->shared && !budget->rule_scope == !rule &&
                    (!rule || (rule->scope && strcmp(budget->rule_scope, rule->scope) == 0)) &&
                    (!item->shared || strcmp(budget->owner, item->owner) == 0))
                        return budget;
        }
        return NULL;
}

size_t monitor_budgets_find(const struct monitor_agent *agent, const char *scope, struct monitor_budget **ret, size_t n)
{
        const struct monitor_limits *limits = agent->limits;
        size_t found = 0;

        /* A whole scope means itself, though it may stand in front of another ("agent/month" of "agent/month/both"). */
        for (size_t i = 0; scope && limits && i < limits->n_budgets; i++) {
                if (strcmp(limits->budgets[i].scope, scope) != 0)
                        continue;
                if (n > 0)
                        ret[0] = &limits->budgets[i];
                return 1;
        }
        for (size_t i = 0; limits && i < limits->n_budgets; i++) {
                struct monitor_budget *budget = &limits->budgets[i];

                if (scope ? !ledger_scope_fits(budget->scope, scope) : budget->shared)
                        continue;
                if (found < n)
                        ret[found] = budget;
                found++;
        }
        return found;
}
