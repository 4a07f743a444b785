/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Scopes are identities: a ledger is found again by them after a reload, a restart, a reboot. Their text must not
 * change between builds, nor with the order in which ports are written.
 */
#include "agentd/policy/limits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

const char *budget_period_to_string(enum budget_period period)
{
        static const char *const names[PERIOD_MAX] = {
                [PERIOD_TOTAL] = "total", [PERIOD_HOUR] = "hour",   [PERIOD_DAY] = "day",
                [PERIOD_WEEK] = "week",   [PERIOD_MONTH] = "month",
        };

        return (size_t)period < ARRAY_SIZE(names) ? names[period] : "unknown";
}

const char *budget_directions_to_string(enum budget_directions directions)
{
        switch (directions) {
        case BUDGET_EGRESS:
                return "egress";
        case BUDGET_INGRESS:
                return "ingress";
        case BUDGET_BOTH:
                return "both";
        }
        return "unknown";
}

size_t budget_slot(const struct budget *budget)
{
        return ((size_t)budget->period * BUDGET_BOTH + budget->directions - 1) * 2 + budget->shared;
}

const char *budget_format(const struct budget *budget, char *buffer)
{
        if (budget->directions == BUDGET_EGRESS)
                snprintf(buffer, BUDGET_TEXT_MAX, "%s", budget_period_to_string(budget->period));
        else
                snprintf(buffer, BUDGET_TEXT_MAX, "%s/%s", budget_period_to_string(budget->period),
                         budget_directions_to_string(budget->directions));
        return buffer;
}

static void print_ports(FILE *out, const struct port_range *range, char separator)
{
        static const struct {
                __u8 protocols;
                const char *suffix, *all;
        } forms[] = {
                {PROTOCOL_TCP, "/tcp", "tcp"},
                {PROTOCOL_UDP, "/udp", "udp"},
                {PROTOCOL_ICMP, "/icmp", "icmp"},
                {PROTOCOL_TCP | PROTOCOL_UDP, "", "tcp,udp"},
                {PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMP, "/any", "any"},
        };
        const char *suffix = "/other", *all = "other";

        for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
                if (forms[i].protocols == range->protocols) {
                        suffix = forms[i].suffix;
                        all = forms[i].all;
                }
        if (range->low == 0 && range->high == 65535)
                fprintf(out, "%c%s", separator, all);
        else if (range->low == range->high)
                fprintf(out, "%c%u%s", separator, range->low, suffix);
        else
                fprintf(out, "%c%u-%u%s", separator, range->low, range->high, suffix);
}

char *rule_scope(const struct rule *rule, const char *name)
{
        char prefix[PREFIX_TEXT_MAX], *text = NULL;
        bool all = rule->n_ports == 1 && rule->ports[0].low == 0 && rule->ports[0].high == 65535 &&
                   rule->ports[0].protocols == (PROTOCOL_TCP | PROTOCOL_UDP);
        size_t size = 0;
        FILE *out;

        if (name)
                return strdup(name);
        out = open_memstream(&text, &size);
        if (!out)
                return NULL;
        fputs(rule->domain ? rule->domain : prefix_format(&rule->cidr, prefix), out);
        for (size_t i = 0; i < rule->n_ports && !all; i++)
                print_ports(out, &rule->ports[i], i == 0 ? ' ' : ',');
        if (fclose(out) != 0) {
                free(text);
                return NULL;
        }
        return text;
}

/* A rule that was made by hand has none. */
static const char *scope_of_rule(const struct rule *rule)
{
        return rule->scope ?: rule->id;
}

/* Would this rule's scope read like one of the agent's own, of a shared one, or like what is put in front here? */
static bool scope_is_reserved(const char *scope)
{
        static const char *const words[] = {"agent", "shared", "rule"};

        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                size_t length = strlen(words[i]);

                if (strncmp(scope, words[i], length) == 0 && strchr("/@", scope[length])) /* or its end */
                        return true;
        }
        return false;
}

char *limit_scope(const struct rule *rule, bool shared, const char *owner, const char *suffix)
{
        const char *name = rule ? scope_of_rule(rule) : NULL;
        char *text = NULL;
        int r;

        if (shared)
                r = asprintf(&text, "shared%s%s%s%s/%s", owner ? "@" : "", owner ?: "", name ? "/" : "", name ?: "",
                             suffix);
        else
                r = asprintf(&text, "%s%s/%s", name && scope_is_reserved(name) ? "rule/" : "", name ?: "agent", suffix);
        return r < 0 ? NULL : text;
}

bool rule_has_limits(const struct rule *rule)
{
        return rule->n_budgets > 0 || rule->rate.connections > 0;
}

bool budgets_equal(const struct budget *a, size_t n_a, const struct budget *b, size_t n_b)
{
        if (n_a != n_b)
                return false;
        for (size_t i = 0; i < n_a; i++)
                if (a[i].bytes != b[i].bytes || budget_slot(&a[i]) != budget_slot(&b[i]) || a[i].reset != b[i].reset ||
                    strcmp(a[i].owner, b[i].owner) != 0)
                        return false;
        return true;
}

bool rate_equal(const struct rate *a, const struct rate *b)
{
        return a->connections == b->connections && a->burst == b->burst && a->period_ns == b->period_ns;
}

bool rule_limits_equal(const struct rule *a, const struct rule *b)
{
        return rate_equal(&a->rate, &b->rate) && budgets_equal(a->budgets, a->n_budgets, b->budgets, b->n_budgets) &&
               (a->scope == b->scope || (a->scope && b->scope && strcmp(a->scope, b->scope) == 0));
}

bool policy_limits_equal(const struct policy *a, const struct policy *b)
{
        return rate_equal(&a->rate, &b->rate) && budgets_equal(a->budgets, a->n_budgets, b->budgets, b->n_budgets);
}

int budgets_copy(const struct budget *budgets, size_t n, struct budget **ret)
{
        struct budget *copy = NULL;

        if (n > 0) {
                copy = calloc(n, sizeof(*copy));
                if (!copy)
                        return -ENOMEM;
        }
        for (size_t i = 0; i < n; i++) {
                copy[i] = budgets[i];
                copy[i].owner = strdup(budgets[i].owner);
                if (!copy[i].owner) {
                        budgets_free(copy, i);
                        return -ENOMEM;
                }
        }
        *ret = copy;
        return 0;
}

void budgets_free(struct budget *budgets, size_t n)
{
        for (size_t i = 0; i < n; i++)
                free(budgets[i].owner);
        free(budgets);
}
