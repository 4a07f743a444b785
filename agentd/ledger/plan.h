/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which ledgers and buckets one agent needs under one policy, and which of them each class of rules is charged to.
 *
 * Pure: from a compiled policy and the agent's name to keys and sets. A key is the identity of a ledger over reloads,
 * restarts and reboots: the agent (or, shared, the policy that declares it), the scope, the period and the directions.
 * The limit is no part of it: raising it keeps what was used.
 */
#pragma once

#include "agentd/policy/compile.h"

struct ledger_plan_item {
        char key[LEDGER_KEY_MAX - 1]; /* "agent/NAME/SCOPE", "policy/OWNER/SCOPE": a hash where that is too long */
        char *scope;                  /* for people, unique in an agent: "agent/day", "agent/month/both", "claude/hour",
                                         "api.example.com 443/day", "shared/day", "shared/claude/day" */
        const struct budget *budget;  /* borrowed of the policy */
        const struct rule *rule;      /* NULL: the agent as a whole */
};

/* Of rates: a bucket. */
struct ledger_plan_bucket {
        char key[LEDGER_KEY_MAX - 1];
        const struct rate *rate;
        const struct rule *rule; /* NULL: the agent's */
};

/* Of one class: indices into items and buckets; -1 ends a list (and: no bucket). */
struct ledger_plan_class {
        int items[2][LEDGERS_PER_FLOW + 1]; /* by enum direction */
        int buckets[2];                     /* the agent's, the rule's */
};

struct ledger_plan {
        struct ledger_plan_item *items;
        size_t n_items;
        struct ledger_plan_bucket *buckets;
        size_t n_buckets;
        struct ledger_plan_class *classes; /* n: compiled->n_classes */
        size_t n_classes;
};

/* 0, -ENOMEM, -E2BIG: more than LEDGERS_PER_FLOW ledgers on one packet (config_load() has refused that). */
int ledger_plan_new(const struct compiled_policy *compiled, const char *agent, struct ledger_plan **ret);
void ledger_plan_free(struct ledger_plan *plan);
/* No limits at all: nothing to make in the kernel. */
bool ledger_plan_is_empty(const struct ledger_plan *plan);
