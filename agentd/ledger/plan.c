/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keys and scopes of an agent's ledgers and buckets, and the lists of each class of rules.
 *
 * Keys outlive builds: they are what a pinned ledger and a stored row are found by. Do not change how they are spelt.
 *
 * Two limits with one key are one ledger, charged once a packet, whatever led to it (a rule that two parents of a
 * policy have in common, two rules for the same thing): the smaller limit holds, so that neither of them is exceeded.
 */
#include "agentd/ledger/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "agentd/policy/limits.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

/* The library's own answer to lack of memory is exit(). */
#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) (oom = true)
#include <uthash.h>

/* A text that is taken: a key of an item or of a bucket, or a scope. */
struct taken {
        int index;
        UT_hash_handle hh;
        char text[];
};

struct planner {
        struct ledger_plan *plan;
        const char *agent;
        size_t items_capacity, buckets_capacity;
        struct taken *item_keys, *bucket_keys, *scopes;
};

DEFINE_CLEANUP(struct ledger_plan *, ledger_plan_free);

static void taken_clear(struct taken **head)
{
        struct taken *taken = *head, *next;

        /* Clearing frees the buckets only; the elements are still chained. */
        HASH_CLEAR(hh, *head);
        for (; taken; taken = next) {
                next = taken->hh.next;
                free(taken);
        }
}

static void planner_done(struct planner *planner)
{
        taken_clear(&planner->item_keys);
        taken_clear(&planner->bucket_keys);
        taken_clear(&planner->scopes);
}

static const struct taken *taken_find(struct taken *head, const char *text)
{
        struct taken *taken;

        HASH_FIND_STR(head, text, taken);
        return taken;
}

static int taken_add(struct taken **head, const char *text, size_t index)
{
        size_t size = strlen(text) + 1;
        struct taken *taken = calloc(1, sizeof(*taken) + size);
        bool oom = false;

        if (!taken)
                return -ENOMEM;
        taken->index = (int)index;
        memcpy(taken->text, text, size);
        HASH_ADD_STR(*head, text, taken);
        if (oom) {
                free(taken);
                return -ENOMEM;
        }
        return 0;
}

static int array_reserve(void **array, size_t *capacity, size_t n, size_t size)
{
        size_t wanted = MAX(*capacity * 2, (size_t)8);
        void *grown;

        if (n < *capacity)
                return 0;
        grown = reallocarray(*array, wanted, size);
        if (!grown)
                return -ENOMEM;
        *array = grown;
        *capacity = wanted;
        return 0;
}

/* "agent/NAME/SCOPE" or "policy/OWNER/SCOPE"; "sha256/" and the digest of that in hex where it is too long for a key.
 */
static int key_text(const char *kind, const char *name, const char *scope, char ret[static LEDGER_KEY_MAX - 1])
{
        _cleanup_free_ char *text = NULL;
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned size = 0;
        int length, at;

        length = asprintf(&text, "%s/%s/%s", kind, name, scope);
        if (length < 0) {
                text = NULL;
                return -ENOMEM;
        }
        if (length < LEDGER_KEY_MAX - 1) {
                memcpy(ret, text, (size_t)length + 1);
                return 0;
        }
        if (EVP_Digest(text, (size_t)length, digest, &size, EVP_sha256(), NULL) != 1)
                return -ENOMEM;
        at = snprintf(ret, LEDGER_KEY_MAX - 1, "sha256/");
        for (unsigned i = 0; i < size; i++)
                at += snprintf(ret + at, (size_t)(LEDGER_KEY_MAX - 1 - at), "%02x", digest[i]);
        return 0;
}

/* The scope as people see it. Two policies may share budgets of one kind with the same agent: the later one is told by
 * its owner. */
static int item_scope(struct planner *planner, const struct budget *budget, const struct rule *rule, const char *suffix,
                      char **ret)
{
        _cleanup_free_ char *scope = limit_scope(rule, budget->shared, NULL, suffix);

        if (scope && budget->shared && taken_find(planner->scopes, scope)) {
                free(scope);
                scope = limit_scope(rule, budget->shared, budget->owner, suffix);
        }
        if (!scope)
                return -ENOMEM;
        *ret = TAKE_PTR(scope);
        return 0;
}

static int planner_add_budget(struct planner *planner, const struct budget *budget, const struct rule *rule,
                              int *ret_item)
{
        _cleanup_free_ char *scope = NULL, *key_scope = NULL;
        struct ledger_plan *plan = planner->plan;
        char suffix[BUDGET_TEXT_MAX], key[LEDGER_KEY_MAX - 1];
        const struct taken *taken;
        int r;

        budget_format(budget, suffix);
        key_scope = limit_scope(rule, budget->shared, NULL, suffix);
        if (!key_scope)
                return -ENOMEM;
        r = key_text(budget->shared ? "policy" : "agent", budget->shared ? budget->owner : planner->agent, key_scope,
                     key);
        if (r < 0)
                return r;

        taken = taken_find(planner->item_keys, key);
        if (taken) {
                struct ledger_plan_item *item = &plan->items[taken->index];

                if (budget->bytes < item->budget->bytes) {
                        item->budget = budget;
                        item->rule = rule;
                }
                *ret_item = taken->index;
                return 0;
        }

        r = item_scope(planner, budget, rule, suffix, &scope);
        if (r < 0)
                return r;
        r = array_reserve((void **)&plan->items, &planner->items_capacity, plan->n_items, sizeof(*plan->items));
        if (r < 0)
                return r;
        r = taken_add(&planner->item_keys, key, plan->n_items);
        if (r < 0)
                return r;
        r = taken_add(&planner->scopes, scope, plan->n_items);
        if (r < 0)
                return r;
        plan->items[plan->n_items] = (struct ledger_plan_item){.budget = budget, .rule = rule};
        memcpy(plan->items[plan->n_items].key, key, sizeof(key));
        plan->items[plan->n_items].scope = TAKE_PTR(scope);
        *ret_item = (int)plan->n_items++;
        return 0;
}

/* Fewer connections in the long run; of equal ones, the smaller burst. */
static bool rate_is_stricter(const struct rate *a, const struct rate *b)
{
        unsigned __int128 slow = (unsigned __int128)a->period_ns * b->connections;
        unsigned __int128 fast = (unsigned __int128)b->period_ns * a->connections;

        return slow != fast ? slow > fast : a->burst < b->burst;
}

/* *ret_bucket: -1 where there is no rate. */
static int planner_add_rate(struct planner *planner, const struct rate *rate, const struct rule *rule, int *ret_bucket)
{
        _cleanup_free_ char *scope = NULL;
        struct ledger_plan *plan = planner->plan;
        char key[LEDGER_KEY_MAX - 1];
        const struct taken *taken;
        int r;

        if (rate->connections == 0) {
                *ret_bucket = -1;
                return 0;
        }
        scope = limit_scope(rule, false, NULL, "rate");
        if (!scope)
                return -ENOMEM;
        r = key_text("agent", planner->agent, scope, key);
        if (r < 0)
                return r;

        taken = taken_find(planner->bucket_keys, key);
        if (taken) {
                struct ledger_plan_bucket *bucket = &plan->buckets[taken->index];

                if (rate_is_stricter(rate, bucket->rate)) {
                        bucket->rate = rate;
                        bucket->rule = rule;
                }
                *ret_bucket = taken->index;
                return 0;
        }

        r = array_reserve((void **)&plan->buckets, &planner->buckets_capacity, plan->n_buckets, sizeof(*plan->buckets));
        if (r < 0)
                return r;
        r = taken_add(&planner->bucket_keys, key, plan->n_buckets);
        if (r < 0)
                return r;
        plan->buckets[plan->n_buckets] = (struct ledger_plan_bucket){.rate = rate, .rule = rule};
        memcpy(plan->buckets[plan->n_buckets].key, key, sizeof(key));
        *ret_bucket = (int)plan->n_buckets++;
        return 0;
}

static int class_add_item(struct ledger_plan_class *class, enum budget_directions directions, int item)
{
        for (int direction = 0; direction < 2; direction++) {
                int *items = class->items[direction];
                int n = 0;

                if (!(directions & 1u << direction))
                        continue;
                while (items[n] >= 0 && items[n] != item)
                        n++;
                if (items[n] == item)
                        continue; /* charged once */
                if (n == LEDGERS_PER_FLOW)
                        return -E2BIG;
                items[n] = item;
        }
        return 0;
}

static int class_add_budgets(struct planner *planner, const struct budget *budgets, size_t n, const struct rule *rule,
                             struct ledger_plan_class *class)
{
        for (size_t i = 0; i < n; i++) {
                int item, r;

                r = planner_add_budget(planner, &budgets[i], rule, &item);
                if (r < 0)
                        return r;
                r = class_add_item(class, budgets[i].directions, item);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The agent's limits first: the order of ledgers is the same for all classes. rule: NULL for class 0. */
static int class_fill(struct planner *planner, const struct policy *policy, const struct rule *rule,
                      struct ledger_plan_class *class)
{
        int r;

        memset(class, 0xff, sizeof(*class)); /* -1 everywhere */
        r = class_add_budgets(planner, policy->budgets, policy->n_budgets, NULL, class);
        if (r < 0)
                return r;
        r = planner_add_rate(planner, &policy->rate, NULL, &class->buckets[0]);
        if (r < 0 || !rule)
                return r;

        r = class_add_budgets(planner, rule->budgets, rule->n_budgets, rule, class);
        if (r < 0)
                return r;
        return planner_add_rate(planner, &rule->rate, rule, &class->buckets[1]);
}

int ledger_plan_new(const struct compiled_policy *compiled, const char *agent, struct ledger_plan **ret)
{
        _cleanup_(ledger_plan_freep) struct ledger_plan *plan = calloc(1, sizeof(*plan));
        _cleanup_(planner_done) struct planner planner = {.plan = plan, .agent = agent};
        const struct policy *policy = compiled->policy;
        int r;

        if (!plan)
                return -ENOMEM;
        plan->classes = calloc(MAX(compiled->n_classes, 1u), sizeof(*plan->classes));
        if (!plan->classes)
                return -ENOMEM;
        plan->n_classes = compiled->n_classes;
        for (size_t i = 0; i < plan->n_classes; i++) {
                __u16 number = i == 0 ? RULE_NONE : compiled->class_rules[i];

                if (i > 0 && number >= policy->n_rules)
                        return -EINVAL;
                r = class_fill(&planner, policy, i == 0 ? NULL : &policy->rules[number], &plan->classes[i]);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(plan);
        return 0;
}

void ledger_plan_free(struct ledger_plan *plan)
{
        if (!plan)
                return;
        free(plan->classes);
        free(plan->buckets);
        for (size_t i = 0; i < plan->n_items; i++)
                free(plan->items[i].scope);
        free(plan->items);
        free(plan);
}

bool ledger_plan_is_empty(const struct ledger_plan *plan)
{
        return plan->n_items == 0 && plan->n_buckets == 0;
}
