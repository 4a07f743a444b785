/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Budgets and rates for people and programs: what was written, and, where somebody knows, what is left.
 */
#include "agentd/policy/report_limits.h"

#include <stdlib.h>
#include <string.h>

#include "agentd/address_class.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

enum { SIZE_TEXT_MAX = 32 };

/* As the configuration would write it, exactly: "50MiB", "2GB", "1025". */
static const char *size_format(__u64 bytes, char *buffer)
{
        static const struct {
                __u64 factor;
                const char *name;
        } units[] = {{1ull << 40, "TiB"}, {1000000000000, "TB"}, {1 << 30, "GiB"}, {1000000000, "GB"},
                     {1 << 20, "MiB"},    {1000000, "MB"},       {1 << 10, "KiB"}, {1000, "kB"}};

        for (size_t i = 0; i < ARRAY_SIZE(units); i++)
                if (bytes > 0 && bytes % units[i].factor == 0) {
                        snprintf(buffer, SIZE_TEXT_MAX, "%llu%s", (unsigned long long)(bytes / units[i].factor),
                                 units[i].name);
                        return buffer;
                }
        snprintf(buffer, SIZE_TEXT_MAX, "%llu bytes", (unsigned long long)bytes);
        return buffer;
}

/* Of what moves: "12.3 MiB". */
static const char *amount_format(json_int_t bytes, char *buffer)
{
        static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
        double value = (double)bytes / 1024;
        size_t i = 0;

        if (bytes < 1024) {
                snprintf(buffer, SIZE_TEXT_MAX, "%lld bytes", (long long)bytes);
                return buffer;
        }
        while (value >= 1024 && i < ARRAY_SIZE(units) - 1) {
                value /= 1024;
                i++;
        }
        snprintf(buffer, SIZE_TEXT_MAX, "%.1f %s", value, units[i]);
        return buffer;
}

static const char *text_of(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

static json_int_t number_of(const json_t *object, const char *key)
{
        return json_integer_value(json_object_get(object, key));
}

json_t *report_budgets_json(const struct budget *budgets, size_t n)
{
        json_t *list = json_array();

        for (size_t i = 0; list && i < n; i++) {
                const struct budget *budget = &budgets[i];
                json_t *file = json_string(budget->place.file ? budget->place.file : "");

                json_array_append_new(
                        list, json_pack("{s:I,s:s,s:s,s:b,s:s,s:s,s:o,s:i}", "bytes", (json_int_t)budget->bytes, "per",
                                        budget_period_to_string(budget->period), "direction",
                                        budget_directions_to_string(budget->directions), "shared", budget->shared,
                                        "on_exhausted", budget->reset ? "reset" : "drop", "policy", budget->owner,
                                        "file", file ? file : json_null(), "line", (int)budget->place.line));
        }
        return list;
}

json_t *report_rate_json(const struct rate *rate, const char *name)
{
        __u64 seconds = rate->period_ns / NSEC_PER_SEC;

        if (rate->connections == 0)
                return json_null();
        return json_pack("{s:I,s:s,s:I}", name, (json_int_t)rate->connections, "per",
                         seconds == 1    ? "second"
                         : seconds == 60 ? "minute"
                                         : "hour",
                         "burst", (json_int_t)rate->burst);
}

/* "2GiB per day", "5MB in total, ingress and egress, shared" */
static void print_budget(json_int_t bytes, const json_t *budget, FILE *out)
{
        const char *per = text_of(budget, "per"), *direction = text_of(budget, "direction");
        char size[SIZE_TEXT_MAX];

        fprintf(out, "%s %s%s", size_format((__u64)bytes, size), strcmp(per, "total") == 0 ? "in " : "per ", per);
        fprintf(out, ", %s", strcmp(direction, "both") == 0 ? "egress and ingress" : direction);
        if (json_is_true(json_object_get(budget, "shared")))
                fprintf(out, ", shared (policy '%s')", text_of(budget, "policy"));
}

void report_rate_text(const json_t *rate, const char *name, const char *what, FILE *out)
{
        fprintf(out, "%lld %s per %s, %lld at once", (long long)number_of(rate, name), what, text_of(rate, "per"),
                (long long)number_of(rate, "burst"));
}

void report_limits_text(const json_t *object, const char *indent, FILE *out)
{
        const json_t *budgets = json_object_get(object, "budget"), *rate = json_object_get(object, "rate");

        for (size_t i = 0; i < json_array_size(budgets); i++) {
                const json_t *budget = json_array_get(budgets, i);

                fprintf(out, "%sbudget: ", indent);
                print_budget(number_of(budget, "bytes"), budget, out);
                fprintf(out, "%s\n",
                        strcmp(text_of(budget, "on_exhausted"), "reset") == 0 ? "; spent: connections are reset" : "");
        }
        if (json_is_object(rate)) {
                fprintf(out, "%srate: ", indent);
                report_rate_text(rate, "connections", "connections", out);
                fprintf(out, "\n");
        }
}

static json_t *budget_json(const struct explain_input *input, const struct rule *rule, const struct budget *budget)
{
        char suffix[BUDGET_TEXT_MAX];
        _cleanup_free_ char *scope = limit_scope(rule, budget->shared, NULL, budget_format(budget, suffix));
        struct explain_ledger ledger = {.limit = budget->bytes};
        bool known = input->ledger && input->ledger(input->ledger_context, rule, budget, &ledger);
        const char *name = known && ledger.scope ? ledger.scope : scope;
        __u64 left = ledger.used < ledger.limit ? ledger.limit - ledger.used : 0;

        return json_pack("{s:s*,s:I,s:s,s:s,s:b,s:s,s:o,s:o}", "scope", name, "limit", (json_int_t)ledger.limit, "per",
                         budget_period_to_string(budget->period), "direction",
                         budget_directions_to_string(budget->directions), "shared", budget->shared, "policy",
                         budget->owner, "used", known ? json_integer((json_int_t)ledger.used) : json_null(), "left",
                         known ? json_integer((json_int_t)left) : json_null());
}

static void deny_spent(json_t *explain, const json_t *spent)
{
        char size[SIZE_TEXT_MAX];

        json_object_set_new(explain, "verdict", json_string("deny"));
        json_object_set_new(explain, "allowed", json_false());
        json_object_set_new(explain, "reason", json_string(verdict_reason_to_string(REASON_BUDGET_EXHAUSTED)));
        json_object_set_new(
                explain, "detail",
                json_sprintf("rule '%s' allows it, but budget '%s' is spent: all %s of it; 'agentctl budget "
                             "grant' adds to it",
                             text_of(explain, "rule"), text_of(spent, "scope"),
                             size_format((__u64)number_of(spent, "limit"), size)));
        json_object_set_new(explain, "suggestion", json_null());
}

bool report_explain_budgets(json_t *explain, const struct explain_input *input, const struct judgement *judgement)
{
        const struct compiled_policy *compiled = input->compiled;
        const struct policy *policy = compiled->policy;
        const struct verdict *verdict = &judgement->verdict;
        bool charged = verdict->action == VERDICT_ALLOW &&
                       (verdict->rule != RULE_NONE || !address_is_loopback(&judgement->address));
        const struct rule *rule = charged && verdict->limits > 0 && verdict->limits < compiled->n_classes
                                          ? &policy->rules[compiled->class_rules[verdict->limits]]
                                          : NULL;
        json_t *budgets = json_array(), *least = NULL;

        for (size_t i = 0; charged && i < policy->n_budgets; i++)
                json_array_append_new(budgets, budget_json(input, NULL, &policy->budgets[i]));
        for (size_t i = 0; rule && i < rule->n_budgets; i++)
                json_array_append_new(budgets, budget_json(input, rule, &rule->budgets[i]));

        for (size_t i = 0; i < json_array_size(budgets); i++) {
                json_t *left = json_object_get(json_array_get(budgets, i), "left");

                if (json_is_integer(left) &&
                    (!least || json_integer_value(left) < json_integer_value(json_object_get(least, "left"))))
                        least = json_array_get(budgets, i);
        }
        json_object_set_new(explain, "budget_left", least ? json_integer(number_of(least, "left")) : json_null());
        json_object_set_new(explain, "budgets", budgets);
        if (!least || number_of(least, "left") > 0)
                return false;
        deny_spent(explain, least);
        return true;
}

void report_explain_budgets_text(const json_t *explain, FILE *out)
{
        const json_t *budgets = json_object_get(explain, "budgets");

        for (size_t i = 0; i < json_array_size(budgets); i++) {
                const json_t *budget = json_array_get(budgets, i), *left = json_object_get(budget, "left");
                char text[SIZE_TEXT_MAX];

                fprintf(out, "          budget %s: ", text_of(budget, "scope"));
                if (json_is_integer(left))
                        fprintf(out, "%s left of ", amount_format(json_integer_value(left), text));
                print_budget(number_of(budget, "limit"), budget, out);
                fprintf(out, "\n");
        }
}
