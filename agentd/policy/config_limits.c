/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * `budget`, `rate`, `bandwidth`: read, inherited through `extends`, and counted against what the kernel can hold.
 *
 * A policy's own budget replaces the inherited ones of the same period, directions and sharing. Where parents differ,
 * the smallest holds; of shared ones, all do: each is a ledger of the policy that declares it.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/abi_policy.h"
#include "agentd/policy/config_draft.h"
#include "agentd/util/cleanup.h"

/* A million a second is an interval of a microsecond: nothing is lost by whole nanoseconds. */
enum { RATE_MAX = 1000 * 1000 };
_Static_assert(RATE_MAX *(3600 * NSEC_PER_SEC) < INT64_MAX, "a bucket's tolerance must fit");

static const struct config_word budget_periods[] = {{"hour", PERIOD_HOUR},   {"day", PERIOD_DAY},
                                                    {"week", PERIOD_WEEK},   {"month", PERIOD_MONTH},
                                                    {"total", PERIOD_TOTAL}, {NULL, 0}};
static const struct config_word budget_directions[] = {
        {"egress", BUDGET_EGRESS}, {"ingress", BUDGET_INGRESS}, {"both", BUDGET_BOTH}, {NULL, 0}};
static const struct config_word exhausted_words[] = {{"drop", 0}, {"reset", 1}, {NULL, 0}};
static const struct config_word rate_periods[] = {{"second", 1}, {"minute", 60}, {"hour", 3600}, {NULL, 0}};

struct budget_draft {
        __u64 bytes;
        int period, directions, shared, reset;
};

#define BUDGET(member) offsetof(struct budget_draft, member)
static const struct config_key budget_keys[] = {
        {"bytes", config_read_size, BUDGET(bytes), .min = 1, .max = LEDGER_BYTES_MAX, .flags = KEY_REQUIRED,
         .example = "50MiB"},
        {"per", config_read_word, BUDGET(period), budget_periods, .flags = KEY_REQUIRED, .example = "day"},
        {"direction", config_read_word, BUDGET(directions), budget_directions},
        {"shared", config_read_boolean, BUDGET(shared)},
        {"on_exhausted", config_read_word, BUDGET(reset), exhausted_words},
};
static const struct config_schema budget_schema = {"a budget", budget_keys, ARRAY_SIZE(budget_keys)};

struct rate_draft {
        __u64 connections, burst;
        int seconds;
};

#define RATE(member) offsetof(struct rate_draft, member)
#define RATE_KEYS(what)                                                                                             \
        {what,           config_read_number, RATE(connections), .min = 1, .max = RATE_MAX, .flags = KEY_REQUIRED,   \
         .example = "60"},                                                                                          \
                {"per", config_read_word, RATE(seconds), rate_periods, .flags = KEY_REQUIRED, .example = "minute"}, \
        {                                                                                                           \
                "burst", config_read_number, RATE(burst), .min = 1, .max = RATE_MAX                                 \
        }

static const struct config_key rate_keys[] = {RATE_KEYS("connections")};
static const struct config_key lookup_rate_keys[] = {RATE_KEYS("queries")};
static const struct config_schema rate_schema = {"a rate", rate_keys, ARRAY_SIZE(rate_keys)};
static const struct config_schema lookup_rate_schema = {"a rate", lookup_rate_keys, ARRAY_SIZE(lookup_rate_keys)};

static void limits_place(struct loader *loader, struct draft_limits *limits, const struct yaml_node *node)
{
        if (limits->place.line == 0)
                limits->place = loader_place(loader, node->key);
}

static void read_budget(struct loader *loader, const struct yaml_node *node, struct draft_limits *limits)
{
        struct budget_draft draft = {.directions = BUDGET_EGRESS};
        size_t n_errors = loader->n_errors;
        struct budget budget;

        if (node->kind == YAML_KIND_SCALAR) {
                loader_error(loader, node, "'budget' is '%.64s'; expected a map such as {bytes: 50MiB, per: day}",
                             node->text);
                return;
        }
        config_read_map(loader, &budget_schema, node, &draft);
        if (loader->n_errors != n_errors)
                return;
        budget = (struct budget){
                .bytes = draft.bytes,
                .period = (enum budget_period)draft.period,
                .directions = (enum budget_directions)draft.directions,
                .shared = draft.shared,
                .reset = draft.reset,
                .place = loader_place(loader, node),
        };
        for (size_t i = 0; i < limits->n_budgets; i++) {
                char buffer[BUDGET_TEXT_MAX];

                if (budget_slot(&limits->budgets[i]) != budget_slot(&budget))
                        continue;
                loader_error(loader, node,
                             "a second budget for '%s%s', after the one in line %u; keep one of them, or change its "
                             "'per' or 'direction'",
                             budget.shared ? "shared/" : "", budget_format(&budget, buffer),
                             limits->budgets[i].place.line);
                return;
        }
        if (loader_reserve(loader, &limits->budgets, limits->n_budgets, &limits->capacity, sizeof(*limits->budgets)))
                limits->budgets[limits->n_budgets++] = budget;
}

void config_read_budgets(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                         void *target)
{
        struct draft_limits *limits = (void *)((char *)target + key->offset);

        limits_place(loader, limits, node);
        if (node->kind != YAML_KIND_LIST) {
                read_budget(loader, node, limits);
                return;
        }
        if (node->n_children == 0 && !(key->flags & KEY_MAY_BE_NULL))
                loader_error(loader, node,
                             "'%s' is empty; give it a budget such as {bytes: 50MiB, per: day}, or "
                             "remove it",
                             key->name);
        for (const struct yaml_node *item = node->first; item; item = item->next)
                read_budget(loader, item, limits);
}

static void read_rate(struct loader *loader, const struct config_schema *schema, const struct yaml_node *node,
                      struct rate *ret)
{
        struct rate_draft draft = {0};
        size_t n_errors = loader->n_errors;

        if (node->kind == YAML_KIND_SCALAR) {
                loader_error(loader, node, "'rate' is '%.64s'; expected a map such as {%s: 60, per: minute}",
                             node->text, schema->keys[0].name);
                return;
        }
        config_read_map(loader, schema, node, &draft);
        if (loader->n_errors != n_errors)
                return;
        *ret = (struct rate){
                .connections = (__u32)draft.connections,
                .burst = (__u32)(draft.burst > 0 ? draft.burst : draft.connections),
                .period_ns = (__u64)draft.seconds * NSEC_PER_SEC,
                .place = loader_place(loader, node),
        };
}

void config_read_rate(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        struct draft_limits *limits = (void *)((char *)target + key->offset);

        limits_place(loader, limits, node);
        read_rate(loader, &rate_schema, node, &limits->rate);
}

void config_read_lookup_rate(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                             void *target)
{
        read_rate(loader, &lookup_rate_schema, node, (struct rate *)(void *)((char *)target + key->offset));
}

void config_read_bandwidth(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                           void *target)
{
        struct place place = loader_place(loader, node->key);

        if (config_scalar(loader, key, node, "a figure such as 10Mbit"))
                loader_report(loader, DIAGNOSTIC_UNSUPPORTED, &place,
                              "'bandwidth' cannot be enforced: a cgroup's hooks refuse a packet or let it through, and "
                              "delaying one takes the fq queue on every device of the host; use 'budget' and 'rate'");
}

void draft_limits_own(struct loader *loader, struct draft_limits *limits, const char *owner)
{
        for (size_t i = 0; i < limits->n_budgets && owner; i++)
                limits->budgets[i].owner = loader_strdup(loader, owner);
}

void draft_limits_clear(struct draft_limits *limits)
{
        budgets_free(limits->budgets, limits->n_budgets);
        *limits = (struct draft_limits){0};
}

/* Fewer in the long run; of equals, fewer at once. */
static bool rate_is_stricter(const struct rate *a, const struct rate *b)
{
        __u64 x = a->connections * b->period_ns, y = b->connections * a->period_ns;

        return x != y ? x < y : a->burst < b->burst;
}

static const char *direction_to_string(unsigned direction)
{
        return budget_directions_to_string((enum budget_directions)(1u << direction));
}

static bool budget_is_of(const struct budget *budget, unsigned direction)
{
        return budget->directions & (1u << direction);
}

static size_t count_budgets(const struct draft_policy *policy, unsigned direction)
{
        size_t n = 0;

        for (size_t i = 0; i < policy->n_budgets; i++)
                n += budget_is_of(policy->budgets[i], direction);
        return n;
}

static void inherit_budget(struct draft_policy *policy, const struct budget *budget)
{
        for (size_t i = 0; i < policy->limits.n_budgets; i++)
                if (budget_slot(&policy->limits.budgets[i]) == budget_slot(budget))
                        return;
        for (size_t i = 0; i < policy->n_budgets; i++) {
                if (policy->budgets[i] == budget)
                        return;
                if (budget->shared || budget_slot(policy->budgets[i]) != budget_slot(budget))
                        continue;
                if (budget->bytes < policy->budgets[i]->bytes)
                        policy->budgets[i] = budget;
                return;
        }
        if (policy->n_budgets < DRAFT_BUDGETS_MAX)
                policy->budgets[policy->n_budgets++] = budget;
}

static void check_policy_budgets(struct loader *loader, struct draft_policy *policy)
{
        const struct draft_limits *own = &policy->limits;

        for (unsigned direction = DIRECTION_EGRESS; direction <= DIRECTION_INGRESS; direction++) {
                const struct place *place = &policy->place;

                if (count_budgets(policy, direction) <= LEDGERS_PER_FLOW || policy->limits_reported)
                        continue;
                for (size_t i = 0; i < own->n_budgets; i++)
                        if (budget_is_of(&own->budgets[i], direction))
                                place = &own->budgets[i].place;
                policy->limits_reported = true;
                loader_report(loader, DIAGNOSTIC_ERROR, place,
                              "policy '%s' has more than %d budgets on each packet of %s traffic, inherited ones "
                              "included; remove some of them",
                              policy->name, LEDGERS_PER_FLOW, direction_to_string(direction));
        }
}

void config_settle_limits(struct loader *loader, struct draft_policy *policy)
{
        const struct draft_limits *own = &policy->limits;

        for (size_t i = 0; i < policy->extends.n_items; i++) {
                const struct draft_policy *parent = policy->parents[i];

                if (!parent)
                        continue;
                policy->limits_reported = policy->limits_reported || parent->limits_reported;
                for (size_t k = 0; k < parent->n_budgets; k++)
                        inherit_budget(policy, parent->budgets[k]);
                if (parent->rate && (!policy->rate || rate_is_stricter(parent->rate, policy->rate)))
                        policy->rate = parent->rate;
        }
        for (size_t i = 0; i < own->n_budgets && policy->n_budgets < DRAFT_BUDGETS_MAX; i++)
                policy->budgets[policy->n_budgets++] = &own->budgets[i];
        if (own->rate.connections > 0)
                policy->rate = &own->rate;
        check_policy_budgets(loader, policy);
}

static void check_rule_budgets(struct loader *loader, const struct draft_policy *policy, struct draft_rule *draft,
                               unsigned direction)
{
        const struct rule *rule = &draft->rule;
        const struct place *place = &rule->place;
        size_t n_of_agent = count_budgets(policy, direction), n = n_of_agent;

        for (size_t i = 0; i < rule->n_budgets; i++)
                if (budget_is_of(&rule->budgets[i], direction) && ++n == LEDGERS_PER_FLOW + 1)
                        place = &rule->budgets[i].place;
        if (n <= LEDGERS_PER_FLOW || draft->limits_reported || policy->limits_reported)
                return;
        draft->limits_reported = true;
        loader_report(loader, DIAGNOSTIC_ERROR, place,
                      "%zu budgets on each packet of %s traffic: %zu of policy '%s' and %zu of the rule; at most %d", n,
                      direction_to_string(direction), n_of_agent, policy->name, n - n_of_agent, LEDGERS_PER_FLOW);
}

static int scope_compare(const void *a, const void *b)
{
        const struct draft_rule *x = *(struct draft_rule *const *)a, *y = *(struct draft_rule *const *)b;
        int order = strcmp(x->rule.scope, y->rule.scope);

        if (order != 0)
                return order;
        if (x->rule.place.file != y->rule.place.file)
                return strcmp(x->rule.place.file, y->rule.place.file);
        if (x->rule.place.line != y->rule.place.line)
                return x->rule.place.line < y->rule.place.line ? -1 : 1;
        return x->rule.place.column < y->rule.place.column ? -1 : x->rule.place.column > y->rule.place.column;
}

/* One scope is one ledger: two rules must not share it by accident. */
static void check_scopes(struct loader *loader, struct draft_rule **rules, size_t n_rules)
{
        qsort(rules, n_rules, sizeof(*rules), scope_compare);
        for (size_t i = 1; i < n_rules; i++) {
                struct draft_rule *first = rules[i - 1], *second = rules[i];

                if (strcmp(first->rule.scope, second->rule.scope) != 0 || second->limits_reported ||
                    (first->name_place.line > 0 && second->name_place.line > 0)) /* said of names in general */
                        continue;
                second->limits_reported = true;
                loader_report(
                        loader, DIAGNOSTIC_ERROR, &second->rule.place,
                        "limits of '%.128s' stand in line %u of '%s', too; give each of the two rules a 'name', or "
                        "write one rule",
                        second->rule.scope, first->rule.place.line, first->rule.place.file);
        }
}

void config_check_limits(struct loader *loader, const struct draft_policy *policy, struct draft_rule *const *rules,
                         size_t n_rules)
{
        _cleanup_free_ struct draft_rule **limited = NULL;
        size_t n_limited = 0;

        limited = calloc(LIMIT_CLASSES_MAX, sizeof(*limited));
        if (!limited) {
                loader->no_memory = true;
                return;
        }
        for (size_t i = 0; i < n_rules; i++) {
                struct draft_rule *draft = rules[i];

                if (!rule_has_limits(&draft->rule) || !draft->rule.scope)
                        continue;
                for (unsigned direction = DIRECTION_EGRESS; direction <= DIRECTION_INGRESS; direction++)
                        check_rule_budgets(loader, policy, draft, direction);
                if (n_limited == LIMIT_CLASSES_MAX - 1 || i >= RULE_NONE) {
                        loader_report(
                                loader, DIAGNOSTIC_ERROR, &draft->rule.place,
                                "a rule with limits too many for policy '%s': at most %d of them, among its first "
                                "%d rules; put the budget on the policy, or write fewer rules",
                                policy->name, LIMIT_CLASSES_MAX - 1, RULE_NONE);
                        break;
                }
                limited[n_limited++] = draft;
        }
        check_scopes(loader, limited, n_limited);
}

int config_build_limits(const struct draft_policy *draft, struct policy *policy)
{
        struct budget list[DRAFT_BUDGETS_MAX];
        int r;

        for (size_t i = 0; i < draft->n_budgets; i++)
                list[i] = *draft->budgets[i];
        r = budgets_copy(list, draft->n_budgets, &policy->budgets);
        if (r < 0)
                return r;
        policy->n_budgets = draft->n_budgets;
        if (draft->rate)
                policy->rate = *draft->rate;
        return 0;
}
