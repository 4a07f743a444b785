/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keys and scopes as they are spelt, and what each class of rules is charged to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agentd/ledger/plan.h"
#include "agentd/util/macro.h"

enum { RULES_MAX = 4 };

static struct budget budget(enum budget_period period, enum budget_directions directions, const char *shared_owner)
{
        return (struct budget){
                .bytes = 1000,
                .period = period,
                .directions = directions,
                .shared = shared_owner != NULL,
                .owner = (char *)(shared_owner ?: "own"),
        };
}

static struct ledger_plan *plan_of(struct policy *policy, const char *agent)
{
        __u16 class_rules[RULES_MAX + 1] = {RULE_NONE};
        struct compiled_policy compiled = {.policy = policy, .class_rules = class_rules, .n_classes = 1};
        struct ledger_plan *plan = NULL;

        for (size_t i = 0; i < policy->n_rules; i++)
                if (policy->rules[i].n_budgets > 0 || policy->rules[i].rate.connections > 0)
                        class_rules[compiled.n_classes++] = (__u16)i;
        assert_int_equal(ledger_plan_new(&compiled, agent, &plan), 0);
        assert_int_equal(plan->n_classes, compiled.n_classes);
        return plan;
}

static const struct ledger_plan_item *item_of(const struct ledger_plan *plan, const char *scope)
{
        const struct ledger_plan_item *found = NULL;

        for (size_t i = 0; i < plan->n_items; i++)
                if (strcmp(plan->items[i].scope, scope) == 0) {
                        assert_null(found);
                        found = &plan->items[i];
                }
        if (!found)
                fail_msg("no ledger has the scope '%s'", scope);
        return found;
}

/* The scopes of a class and direction, in their order, with blanks between. */
static void assert_charged(const struct ledger_plan *plan, size_t class, enum direction direction, const char *scopes)
{
        char text[1024] = "";

        for (const int *item = plan->classes[class].items[direction]; *item >= 0; item++) {
                assert_in_range(*item, 0, plan->n_items - 1);
                snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", text[0] ? " " : "",
                         plan->items[*item].scope);
        }
        assert_string_equal(text, scopes);
}

static void a_policy_without_limits_needs_nothing(void **state)
{
        struct rule rules[] = {{.id = "p#1", .domain = "example.com"}};
        struct policy policy = {.name = "p", .rules = rules, .n_rules = ARRAY_SIZE(rules)};
        struct ledger_plan *plan = plan_of(&policy, "claude-1");

        assert_true(ledger_plan_is_empty(plan));
        assert_charged(plan, 0, DIRECTION_EGRESS, "");
        assert_charged(plan, 0, DIRECTION_INGRESS, "");
        assert_int_equal(plan->classes[0].buckets[0], -1);
        assert_int_equal(plan->classes[0].buckets[1], -1);
        ledger_plan_free(plan);
        ledger_plan_free(NULL);
}

static void keys_and_scopes_are_spelt_as_they_always_were(void **state)
{
        static const struct {
                const char *scope; /* of the rule; NULL: the agent's own budget */
                const char *shared_owner;
                enum budget_period period;
                enum budget_directions directions;
                const char *text, *key;
        } rows[] = {
                {NULL, NULL, PERIOD_DAY, BUDGET_EGRESS, "agent/day", "agent/claude-1/agent/day"},
                {NULL, NULL, PERIOD_MONTH, BUDGET_BOTH, "agent/month/both", "agent/claude-1/agent/month/both"},
                {NULL, NULL, PERIOD_TOTAL, BUDGET_INGRESS, "agent/total/ingress", "agent/claude-1/agent/total/ingress"},
                {NULL, "base", PERIOD_DAY, BUDGET_EGRESS, "shared/day", "policy/base/shared/day"},
                {"claude", NULL, PERIOD_HOUR, BUDGET_EGRESS, "claude/hour", "agent/claude-1/claude/hour"},
                {"claude", "base", PERIOD_DAY, BUDGET_EGRESS, "shared/claude/day", "policy/base/shared/claude/day"},
                {"api.example.com 443", NULL, PERIOD_WEEK, BUDGET_EGRESS, "api.example.com 443/week",
                 "agent/claude-1/api.example.com 443/week"},
                {"10.0.0.0/8 443/tcp", NULL, PERIOD_DAY, BUDGET_BOTH, "10.0.0.0/8 443/tcp/day/both",
                 "agent/claude-1/10.0.0.0/8 443/tcp/day/both"},
                {"agent", NULL, PERIOD_DAY, BUDGET_EGRESS, "rule/agent/day", "agent/claude-1/rule/agent/day"},
                {"shared", NULL, PERIOD_DAY, BUDGET_EGRESS, "rule/shared/day", "agent/claude-1/rule/shared/day"},
                {"shared/day", NULL, PERIOD_DAY, BUDGET_EGRESS, "rule/shared/day/day",
                 "agent/claude-1/rule/shared/day/day"},
                {"rule/agent", NULL, PERIOD_DAY, BUDGET_EGRESS, "rule/rule/agent/day",
                 "agent/claude-1/rule/rule/agent/day"},
                {"agents", NULL, PERIOD_DAY, BUDGET_EGRESS, "agents/day", "agent/claude-1/agents/day"},
                {"agent", "base", PERIOD_DAY, BUDGET_EGRESS, "shared/agent/day", "policy/base/shared/agent/day"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct budget only = budget(rows[i].period, rows[i].directions, rows[i].shared_owner);
                struct rule rule = {.id = "p#1", .scope = (char *)rows[i].scope};
                struct policy policy = {.name = "p", .rules = &rule, .n_rules = 1};
                struct ledger_plan *plan;

                if (rows[i].scope) {
                        rule.budgets = &only;
                        rule.n_budgets = 1;
                } else {
                        policy.budgets = &only;
                        policy.n_budgets = 1;
                }
                plan = plan_of(&policy, "claude-1");
                assert_int_equal(plan->n_items, 1);
                assert_string_equal(plan->items[0].scope, rows[i].text);
                assert_string_equal(plan->items[0].key, rows[i].key);
                assert_ptr_equal(plan->items[0].budget, &only);
                assert_ptr_equal(plan->items[0].rule, rows[i].scope ? &rule : NULL);
                assert_false(ledger_plan_is_empty(plan));
                ledger_plan_free(plan);
        }
}

static void a_class_is_charged_to_the_agents_ledgers_and_its_rules(void **state)
{
        struct budget of_agent[] = {
                budget(PERIOD_DAY, BUDGET_EGRESS, NULL),
                budget(PERIOD_MONTH, BUDGET_BOTH, NULL),
                budget(PERIOD_DAY, BUDGET_INGRESS, "p"),
        };
        struct budget of_rule[] = {budget(PERIOD_HOUR, BUDGET_EGRESS, NULL), budget(PERIOD_DAY, BUDGET_EGRESS, "p")};
        struct rule rules[] = {
                {.id = "p#1"},
                {.id = "one", .scope = "one", .budgets = of_rule, .n_budgets = ARRAY_SIZE(of_rule)},
                {.id = "two", .scope = "two", .rate = {.connections = 1, .burst = 1, .period_ns = 1}},
        };
        struct policy policy = {
                .name = "p",
                .rules = rules,
                .n_rules = ARRAY_SIZE(rules),
                .budgets = of_agent,
                .n_budgets = ARRAY_SIZE(of_agent),
                .rate = {.connections = 60, .burst = 10, .period_ns = 60},
        };
        struct ledger_plan *plan = plan_of(&policy, "a");

        assert_charged(plan, 0, DIRECTION_EGRESS, "agent/day agent/month/both");
        assert_charged(plan, 0, DIRECTION_INGRESS, "agent/month/both shared/day/ingress");
        assert_charged(plan, 1, DIRECTION_EGRESS, "agent/day agent/month/both one/hour shared/one/day");
        assert_charged(plan, 1, DIRECTION_INGRESS, "agent/month/both shared/day/ingress");
        assert_charged(plan, 2, DIRECTION_EGRESS, "agent/day agent/month/both");

        assert_int_equal(plan->n_buckets, 2);
        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(plan->classes[i].buckets[0], 0);
                assert_int_equal(plan->classes[i].buckets[1], i == 2 ? 1 : -1);
        }
        assert_string_equal(plan->buckets[0].key, "agent/a/agent/rate");
        assert_string_equal(plan->buckets[1].key, "agent/a/two/rate");
        assert_ptr_equal(plan->buckets[0].rate, &policy.rate);
        assert_null(plan->buckets[0].rule);
        assert_ptr_equal(plan->buckets[1].rate, &rules[2].rate);
        assert_ptr_equal(plan->buckets[1].rule, &rules[2]);
        ledger_plan_free(plan);
}

/* Agents have ledgers of their own; what is shared is the declaring policy's, whichever policy the agent has. */
static void only_shared_ledgers_have_one_key_for_two_agents(void **state)
{
        struct budget of_agent[] = {budget(PERIOD_DAY, BUDGET_EGRESS, NULL), budget(PERIOD_DAY, BUDGET_EGRESS, "base")};
        struct policy base = {.name = "base", .budgets = of_agent, .n_budgets = 2};
        struct policy child = {.name = "child", .budgets = of_agent, .n_budgets = 2};
        struct ledger_plan *first = plan_of(&base, "a-1"), *second = plan_of(&child, "a-2");

        assert_string_not_equal(item_of(first, "agent/day")->key, item_of(second, "agent/day")->key);
        assert_string_equal(item_of(first, "shared/day")->key, item_of(second, "shared/day")->key);
        ledger_plan_free(second);
        ledger_plan_free(first);
}

static void shared_budgets_of_two_owners_are_told_apart(void **state)
{
        struct budget of_agent[] = {budget(PERIOD_DAY, BUDGET_EGRESS, "a"), budget(PERIOD_DAY, BUDGET_EGRESS, "b")};
        struct rule rules[] = {
                {.id = "x", .scope = "shared@b", .budgets = of_agent, .n_budgets = 1},
                {.id = "y", .scope = "shared@b", .budgets = &(struct budget){0}, .n_budgets = 1},
        };
        struct policy policy = {.name = "p", .budgets = of_agent, .n_budgets = 2, .rules = rules, .n_rules = 2};
        struct ledger_plan *plan;

        rules[1].budgets[0] = budget(PERIOD_DAY, BUDGET_EGRESS, NULL);
        plan = plan_of(&policy, "agent");
        assert_string_equal(item_of(plan, "shared/day")->key, "policy/a/shared/day");
        assert_string_equal(item_of(plan, "shared@b/day")->key, "policy/b/shared/day");
        assert_string_equal(item_of(plan, "shared/shared@b/day")->key, "policy/a/shared/shared@b/day");
        assert_string_equal(item_of(plan, "rule/shared@b/day")->key, "agent/agent/rule/shared@b/day");
        assert_charged(plan, 0, DIRECTION_EGRESS, "shared/day shared@b/day");
        ledger_plan_free(plan);
}

static void two_limits_with_one_key_are_one_ledger_with_the_smaller_limit(void **state)
{
        struct budget budgets[] = {
                budget(PERIOD_DAY, BUDGET_EGRESS, NULL),
                budget(PERIOD_DAY, BUDGET_EGRESS, NULL),
        };
        struct rule rules[] = {
                {.id = "one", .scope = "same", .budgets = &budgets[0], .n_budgets = 1},
                {.id = "two", .scope = "same", .budgets = &budgets[1], .n_budgets = 1},
        };
        struct policy policy = {.name = "p", .rules = rules, .n_rules = 2};
        static const struct {
                struct rate rates[2];
                size_t strict;
        } rows[] = {
                {{{.connections = 10, .period_ns = 1000, .burst = 1},
                  {.connections = 5, .period_ns = 1000, .burst = 9}},
                 1},
                {{{.connections = 10, .period_ns = 1000, .burst = 1},
                  {.connections = 10, .period_ns = 100, .burst = 1}},
                 0},
                {{{.connections = 10, .period_ns = 1000, .burst = 3}, {.connections = 1, .period_ns = 100, .burst = 2}},
                 1},
                {{{.connections = UINT32_MAX, .period_ns = UINT64_MAX, .burst = 1},
                  {.connections = UINT32_MAX - 1, .period_ns = UINT64_MAX, .burst = 1}},
                 1},
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                for (int swapped = 0; swapped < 2; swapped++) {
                        struct ledger_plan *plan;

                        budgets[0].bytes = swapped ? 10 : 1000;
                        budgets[1].bytes = swapped ? 1000 : 10;
                        rules[0].rate = rows[i].rates[swapped];
                        rules[1].rate = rows[i].rates[!swapped];
                        plan = plan_of(&policy, "a");
                        assert_int_equal(plan->n_items, 1);
                        assert_int_equal(plan->items[0].budget->bytes, 10);
                        assert_ptr_equal(plan->items[0].rule, &rules[swapped ? 0 : 1]);
                        assert_charged(plan, 1, DIRECTION_EGRESS, "same/day");
                        assert_charged(plan, 2, DIRECTION_EGRESS, "same/day");
                        assert_int_equal(plan->n_buckets, 1);
                        assert_ptr_equal(plan->buckets[0].rate, &rules[rows[i].strict ^ (size_t)swapped].rate);
                        ledger_plan_free(plan);
                }
}

static void a_budget_that_is_inherited_twice_is_charged_once(void **state)
{
        struct budget of_agent[] = {budget(PERIOD_DAY, BUDGET_BOTH, NULL), budget(PERIOD_DAY, BUDGET_BOTH, NULL)};
        struct policy policy = {.name = "p", .budgets = of_agent, .n_budgets = 2};
        struct ledger_plan *plan = plan_of(&policy, "a");

        assert_charged(plan, 0, DIRECTION_EGRESS, "agent/day/both");
        assert_charged(plan, 0, DIRECTION_INGRESS, "agent/day/both");
        ledger_plan_free(plan);
}

/* A key is as good as its length: what differs only in its last character stays two ledgers. */
static void a_key_that_is_too_long_is_a_digest_of_itself(void **state)
{
        char scopes[3][300];
        struct budget day = budget(PERIOD_DAY, BUDGET_EGRESS, NULL);
        struct rule rules[3];
        struct policy policy = {.name = "p", .rules = rules, .n_rules = 3};
        struct ledger_plan *plan;
        size_t longest = LEDGER_KEY_MAX - 2 - strlen("agent/a//day");

        for (size_t i = 0; i < 3; i++) {
                size_t length = longest + (i > 0);

                memset(scopes[i], 'x', length);
                scopes[i][length] = '\0';
                scopes[i][length - 1] = (char)('a' + i);
                rules[i] = (struct rule){.id = "r", .scope = scopes[i], .budgets = &day, .n_budgets = 1};
        }
        plan = plan_of(&policy, "a");
        assert_int_equal(plan->n_items, 3);
        assert_int_equal(strlen(plan->items[0].key), LEDGER_KEY_MAX - 2);
        assert_memory_equal(plan->items[0].key, "agent/a/xx", strlen("agent/a/xx"));
        assert_string_equal(plan->items[1].key,
                            "sha256/7bd3866b9e2ec0da945479b1a0cd9c585eaf343fe347e2c502018378d25d76f1");
        assert_string_equal(plan->items[2].key,
                            "sha256/b50d0795ee10ba2803884b53c5611644f2a098b9c758849e089d1ffb4df7f223");
        assert_int_equal(strlen(plan->items[1].scope), longest + 1 + strlen("/day"));
        ledger_plan_free(plan);
}

static void more_ledgers_than_a_packet_can_have_are_refused(void **state)
{
        struct budget of_agent[5], of_rule[5];
        struct rule rule = {.id = "r", .scope = "r", .budgets = of_rule, .n_budgets = LEDGERS_PER_FLOW - 5};
        struct policy policy = {.name = "p", .rules = &rule, .n_rules = 1, .budgets = of_agent, .n_budgets = 5};
        __u16 class_rules[] = {RULE_NONE, 0};
        struct compiled_policy compiled = {.policy = &policy, .class_rules = class_rules, .n_classes = 2};
        struct ledger_plan *plan = NULL;

        for (int i = 0; i < 5; i++)
                of_agent[i] = of_rule[i] = budget((enum budget_period)i, BUDGET_EGRESS, NULL);
        assert_int_equal(ledger_plan_new(&compiled, "a", &plan), 0);
        assert_int_equal(plan->classes[1].items[DIRECTION_EGRESS][LEDGERS_PER_FLOW], -1);
        ledger_plan_free(plan);

        plan = NULL;
        rule.n_budgets++;
        assert_int_equal(ledger_plan_new(&compiled, "a", &plan), -E2BIG);
        assert_null(plan);
        /* Directions are counted by themselves. */
        of_rule[LEDGERS_PER_FLOW - 5].directions = BUDGET_INGRESS;
        assert_int_equal(ledger_plan_new(&compiled, "a", &plan), 0);
        ledger_plan_free(plan);
}

static void a_class_of_a_rule_that_is_not_there_is_refused(void **state)
{
        struct policy policy = {.name = "p"};
        __u16 class_rules[] = {RULE_NONE, 0};
        struct compiled_policy compiled = {.policy = &policy, .class_rules = class_rules, .n_classes = 2};
        struct ledger_plan *plan = NULL;

        assert_int_equal(ledger_plan_new(&compiled, "a", &plan), -EINVAL);
        assert_null(plan);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_policy_without_limits_needs_nothing),
                cmocka_unit_test(keys_and_scopes_are_spelt_as_they_always_were),
                cmocka_unit_test(a_class_is_charged_to_the_agents_ledgers_and_its_rules),
                cmocka_unit_test(only_shared_ledgers_have_one_key_for_two_agents),
                cmocka_unit_test(shared_budgets_of_two_owners_are_told_apart),
                cmocka_unit_test(two_limits_with_one_key_are_one_ledger_with_the_smaller_limit),
                cmocka_unit_test(a_budget_that_is_inherited_twice_is_charged_once),
                cmocka_unit_test(a_key_that_is_too_long_is_a_digest_of_itself),
                cmocka_unit_test(more_ledgers_than_a_packet_can_have_are_refused),
                cmocka_unit_test(a_class_of_a_rule_that_is_not_there_is_refused),
        };

        return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
