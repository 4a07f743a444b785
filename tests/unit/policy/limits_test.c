/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Budgets and rates: what a file says, what it inherits, what is refused, and the classes that rules get.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/address_class.h"
#include "agentd/policy/compile.h"
#include "agentd/policy/config.h"
#include "agentd/policy/judge.h"
#include "agentd/policy/limits.h"
#include "agentd/util/macro.h"

#define TOP    "version: 1\npolicies:\n"
#define POLICY TOP "  p:\n"                         /* what follows begins in line 4 */
#define EGRESS POLICY "    egress:\n"               /* in line 5 */
#define RULE   EGRESS "      - {cidr: 10.0.0.0/8, " /* in line 5, column 28 */

static char *load(const char *text, struct config **ret, int *ret_status)
{
        struct diagnostics diagnostics = {0};
        char *errors = NULL;
        size_t size = 0;
        FILE *stream = open_memstream(&errors, &size);
        int r = config_load_buffer("test.yaml", text, strlen(text), &diagnostics, ret);

        for (size_t i = 0; i < diagnostics.n_items; i++)
                fprintf(stream, "%u:%u: %s\n", diagnostics.items[i].line, diagnostics.items[i].column,
                        diagnostics.items[i].text);
        fclose(stream);
        *ret_status = diagnostics_exit_status(&diagnostics);
        assert_int_equal(r, *ret_status == 0 ? 0 : -EINVAL);
        diagnostics_clear(&diagnostics);
        return errors;
}

static struct config *load_valid(const char *text)
{
        struct config *config = NULL;
        int status;
        char *errors = load(text, &config, &status);

        if (!config || errors[0])
                fail_msg("%s\n%s", text, errors);
        free(errors);
        return config;
}

static void check_refused(const char *text, int expected_status, const char *expected)
{
        struct config *config = NULL;
        int status;
        char *errors = load(text, &config, &status);

        if (status != expected_status || config || strcmp(errors, expected) != 0)
                fail_msg("%s\ngot %d:\n%sexpected %d:\n%s", text, status, errors, expected_status, expected);
        free(errors);
}

/* "1048576 day egress p; ..." of all budgets, with what is not the default behind it. */
static void budgets_text(const struct budget *budgets, size_t n, char *text, size_t size)
{
        text[0] = '\0';
        for (size_t i = 0; i < n; i++) {
                size_t used = strlen(text);

                snprintf(text + used, size - used, "%s%llu %s %s%s%s of %s", i == 0 ? "" : "; ",
                         (unsigned long long)budgets[i].bytes, budget_period_to_string(budgets[i].period),
                         budget_directions_to_string(budgets[i].directions), budgets[i].shared ? " shared" : "",
                         budgets[i].reset ? " reset" : "", budgets[i].owner);
        }
}

static void takes_budgets_in_every_form(void **state)
{
        static const struct {
                const char *text, *rule, *policy;
        } cases[] = {
                {RULE "budget: {bytes: 50MiB, per: day}}\n", "52428800 day egress of p", ""},
                {RULE "budget: [{bytes: 1, per: hour}]}\n", "1 hour egress of p", ""},
                {RULE "budget: [{bytes: 1, per: week, direction: both, on_exhausted: reset}, "
                      "{bytes: 2GB, per: week, direction: ingress, on_exhausted: drop}]}\n",
                 "1 week both reset of p; 2000000000 week ingress of p", ""},
                {RULE "budget: {bytes: 281474976710655, per: total, direction: egress, shared: false}}\n",
                 "281474976710655 total egress of p", ""},
                {POLICY "    budget: {bytes: 4kB, per: month, shared: true}\n", "", "4000 month egress shared of p"},
                {POLICY "    budget:\n"
                        "      - {bytes: 1, per: day}\n"
                        "      - {bytes: 2, per: day, shared: true}\n"
                        "      - {bytes: 3, per: day, direction: both}\n",
                 "", "1 day egress of p; 2 day egress shared of p; 3 day both of p"},
                {POLICY "    budget: []\n", "", ""},
                {POLICY "    budget:\n", "", ""},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct config *config;
                const struct policy *policy;
                char text[512];

                config = load_valid(cases[i].text);
                policy = config->policies[0];
                if (policy->n_rules > 0) {
                        budgets_text(policy->rules[0].budgets, policy->rules[0].n_budgets, text, sizeof(text));
                        assert_string_equal(text, cases[i].rule);
                        assert_string_equal(policy->rules[0].scope, "10.0.0.0/8");
                        assert_int_equal(policy->rules[0].budgets[0].place.line, 5);
                }
                budgets_text(policy->budgets, policy->n_budgets, text, sizeof(text));
                assert_string_equal(text, cases[i].policy);
                config_free(config);
        }
}

static void takes_rates_in_every_form(void **state)
{
        static const struct {
                const char *text;
                __u32 connections, burst;
                __u64 seconds;
        } cases[] = {
                {"{connections: 60, per: minute, burst: 10}", 60, 10, 60},
                {"{connections: 7, per: hour}", 7, 7, 3600},
                {"{connections: 1000000, per: second, burst: 1000000}", 1000000, 1000000, 1},
                {"{burst: 1000000, per: hour, connections: 7}", 7, 1000000, 3600},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char text[512];
                struct config *config;
                const struct policy *policy;

                snprintf(text, sizeof(text), RULE "rate: %s}\n    rate: %s\n", cases[i].text, cases[i].text);
                config = load_valid(text);
                policy = config->policies[0];
                assert_true(rate_equal(&policy->rate, &policy->rules[0].rate));
                assert_int_equal(policy->rate.connections, cases[i].connections);
                assert_int_equal(policy->rate.burst, cases[i].burst);
                assert_int_equal(policy->rate.period_ns, cases[i].seconds * NSEC_PER_SEC);
                assert_string_equal(policy->rules[0].scope, "10.0.0.0/8");
                config_free(config);
        }
}

static void takes_a_rate_of_lookups(void **state)
{
        struct config *config = load_valid("version: 1\ndns: {rate: {queries: 20, per: second, burst: 40}}\n");

        assert_int_equal(config->dns.rate.connections, 20);
        assert_int_equal(config->dns.rate.burst, 40);
        assert_int_equal(config->dns.rate.period_ns, NSEC_PER_SEC);
        config_free(config);

        config = load_valid("version: 1\ndns: {}\n");
        assert_int_equal(config->dns.rate.connections, 0);
        config_free(config);
}

static const struct {
        const char *text, *errors;
} refused[] = {
        /* budget */
        {RULE "budget: {bytes: 0, per: day}}\n",
         "5:44: 'bytes' is 0; give a size of at least 1, or a deny rule for 'nothing at all'\n"},
        {RULE "budget: {bytes: 281474976710656, per: day}}\n",
         "5:44: 'bytes' is '281474976710656'; expected a size such as 10MiB, and at most 281474976710655 bytes\n"},
        {RULE "budget: {bytes: 256TiB, per: day}}\n",
         "5:44: 'bytes' is '256TiB'; expected a size such as 10MiB, and at most 281474976710655 bytes\n"},
        {RULE "budget: {bytes: 99999999999999999999, per: day}}\n",
         "5:44: 'bytes' is '99999999999999999999'; expected a size such as 10MiB, and at most 281474976710655 bytes\n"},
        {RULE "budget: {bytes: -1, per: day}}\n",
         "5:44: 'bytes' is '-1'; expected a size such as 4096, 10MiB or 2GB\n"},
        {RULE "budget: {bytes: 10M, per: fortnight}}\n",
         "5:44: 'bytes' is '10M'; expected a size such as 4096, 10MiB or 2GB\n"
         "5:54: 'per' is 'fortnight'; expected hour, day, week, month or total\n"},
        {RULE "budget: {bytes: 1, per: dai}}\n", "5:52: 'per' is 'dai'; did you mean 'day'?\n"},
        {RULE "budget: {bytes: 1}}\n", "5:36: 'per' is missing; a budget needs it: 'per: day'\n"},
        {RULE "budget: {per: day}}\n", "5:36: 'bytes' is missing; a budget needs it: 'bytes: 50MiB'\n"},
        {RULE "budget: {bytes: 1, per: day, direction: up}}\n",
         "5:68: 'direction' is 'up'; expected egress, ingress or both\n"},
        {RULE "budget: {bytes: 1, per: day, on_exhausted: rest}}\n",
         "5:71: 'on_exhausted' is 'rest'; did you mean 'reset'?\n"},
        {RULE "budget: {bytes: 1, per: day, shared: yes}}\n", "5:65: 'shared' is 'yes'; expected true or false\n"},
        {RULE "budget: {bytes: 1, per: day, share: true}}\n", "5:57: unknown key 'share'; did you mean 'shared'?\n"},
        {RULE "budget: {bytes: 1, bytes: 2, per: day}}\n",
         "5:47: duplicate key 'bytes'; it stands already in line 5\n"},
        {RULE "budget: 50MiB}\n", "5:36: 'budget' is '50MiB'; expected a map such as {bytes: 50MiB, per: day}\n"},
        {RULE "budget: [50MiB, {bytes: 1, per: day}]}\n",
         "5:37: 'budget' is '50MiB'; expected a map such as {bytes: 50MiB, per: day}\n"},
        {RULE "budget: [[{bytes: 1, per: day}]]}\n",
         "5:37: a list where a budget is expected; write 'key: value' lines\n"},
        {RULE "budget: []}\n",
         "5:36: 'budget' is empty; give it a budget such as {bytes: 50MiB, per: day}, or remove it\n"},
        {RULE "budget: }\n", "5:36: 'budget' is empty; give it a value or remove it\n"},
        {RULE "budget: [{bytes: 1, per: day}, {bytes: 2, per: day, direction: egress}]}\n",
         "5:59: a second budget for 'day', after the one in line 5; keep one of them, or change its 'per' or "
         "'direction'\n"},
        {POLICY "    budget:\n"
                "      - {bytes: 1, per: week, direction: both, shared: true}\n"
                "      - {bytes: 1, per: week, direction: both}\n"
                "      - {bytes: 2, per: week, direction: both, shared: true, on_exhausted: reset}\n",
         "7:9: a second budget for 'shared/week/both', after the one in line 5; keep one of them, or change its 'per' "
         "or 'direction'\n"},
        {POLICY "    deny: [{cidr: 10.0.0.0/8, budget: {bytes: 1, per: day}, rate: {}, bandwidth: 1}]\n",
         "4:31: 'budget' in a deny rule, which lets nothing through; it belongs to an egress rule\n"
         "4:61: 'rate' in a deny rule, which lets nothing through; it belongs to an egress rule\n"
         "4:71: 'bandwidth' in a deny rule, which lets nothing through; it belongs to an egress rule\n"},
        {POLICY "    deny: [{cidr: 10.0.0.0/8, budgte: {}}]\n",
         "4:31: unknown key 'budgte'; a deny rule has: domain, name, cidr, except, ports, protocol\n"},
        {RULE "bandwith: 1Mbit}\n",
         "5:28: unknown key 'bandwith'; a rule has: domain, name, cidr, except, ports, protocol, budget, rate\n"},

        /* rate */
        {RULE "rate: {connections: 0, per: minute}}\n",
         "5:48: 'connections' is '0'; expected a number from 1 to 1000000\n"},
        {RULE "rate: {connections: 1000001, per: minute}}\n",
         "5:48: 'connections' is '1000001'; expected a number from 1 to 1000000\n"},
        {RULE "rate: {connections: 1, per: minute, burst: 0}}\n",
         "5:71: 'burst' is '0'; expected a number from 1 to 1000000\n"},
        {RULE "rate: {connections: 1, per: hour, burst: 18446744073709551615}}\n",
         "5:69: 'burst' is '18446744073709551615'; expected a number from 1 to 1000000\n"},
        {RULE "rate: {connections: 1, per: day}}\n", "5:56: 'per' is 'day'; expected second, minute or hour\n"},
        {RULE "rate: {connections: 1}}\n", "5:34: 'per' is missing; a rate needs it: 'per: minute'\n"},
        {RULE "rate: {per: hour}}\n", "5:34: 'connections' is missing; a rate needs it: 'connections: 60'\n"},
        {RULE "rate: {queries: 1, per: hour}}\n", "5:34: 'connections' is missing; a rate needs it: 'connections: 60'\n"
                                                  "5:35: unknown key 'queries'; a rate has: connections, per, burst\n"},
        {RULE "rate: 60}\n", "5:34: 'rate' is '60'; expected a map such as {connections: 60, per: minute}\n"},
        {RULE "rate: [{connections: 1, per: hour}]}\n",
         "5:34: a list where a rate is expected; write 'key: value' lines\n"},
        {RULE "protocol: icmp, rate: {connections: 1, per: hour}}\n",
         "5:50: 'rate' with protocol icmp: it counts TCP and UDP connections only; use 'budget'\n"},
        {POLICY "    rate:\n", "4:10: 'rate' is empty; give it a value or remove it\n"},
        {"version: 1\ndns: {rate: {connections: 1, per: second}}\n",
         "2:13: 'queries' is missing; a rate needs it: 'queries: 60'\n"
         "2:14: unknown key 'connections'; a rate has: queries, per, burst\n"},
        {"version: 1\ndns: {rate: 5}\n", "2:13: 'rate' is '5'; expected a map such as {queries: 60, per: minute}\n"},

        /* Two rules, one ledger. */
        {EGRESS "      - {domain: a.example, budget: {bytes: 1, per: day}}\n"
                "      - {domain: A.example., rate: {connections: 1, per: hour}}\n",
         "6:9: limits of 'a.example' stand in line 5 of 'test.yaml', too; give each of the two rules a 'name', or "
         "write "
         "one rule\n"},
        {EGRESS "      - {domain: b.example, name: a.example, budget: {bytes: 1, per: day}}\n"
                "      - {domain: a.example, budget: {bytes: 1, per: day}}\n",
         "6:9: limits of 'a.example' stand in line 5 of 'test.yaml', too; give each of the two rules a 'name', or "
         "write "
         "one rule\n"},
        {EGRESS "      - {name: x, domain: b.example, budget: {bytes: 1, per: day}}\n"
                "      - {name: x, domain: a.example, budget: {bytes: 1, per: day}}\n",
         "6:16: duplicate rule 'x', first in test.yaml:5; rename one of them\n"},

        /* Too many on a packet. */
        {POLICY "    budget:\n"
                "      - {bytes: 1, per: hour}\n"
                "      - {bytes: 1, per: day}\n"
                "      - {bytes: 1, per: week}\n"
                "      - {bytes: 1, per: month}\n"
                "      - {bytes: 1, per: total}\n"
                "      - {bytes: 1, per: hour, direction: both}\n"
                "      - {bytes: 1, per: day, direction: both}\n"
                "      - {bytes: 1, per: week, direction: both}\n"
                "      - {bytes: 1, per: month, direction: both}\n",
         "13:9: policy 'p' has more than 8 budgets on each packet of egress traffic, inherited ones included; remove "
         "some of them\n"},
        {TOP
         "  a:\n"
         "    budget: [{bytes: 1, per: hour}, {bytes: 1, per: day}, {bytes: 1, per: week}, {bytes: 1, per: month},\n"
         "             {bytes: 1, per: total}]\n"
         "  b:\n"
         "    extends: [a]\n"
         "    budget: [{bytes: 1, per: hour, shared: true}, {bytes: 1, per: day, shared: true},\n"
         "             {bytes: 1, per: hour, direction: ingress}, {bytes: 1, per: week, shared: true},\n"
         "             {bytes: 1, per: month, shared: true}]\n"
         "  c:\n"
         "    extends: [b]\n",
         "10:14: policy 'b' has more than 8 budgets on each packet of egress traffic, inherited ones included; remove "
         "some of them\n"},
        {TOP
         "  a:\n"
         "    egress:\n"
         "      - cidr: 10.0.0.0/8\n"
         "        budget: [{bytes: 1, per: hour}, {bytes: 1, per: day}, {bytes: 1, per: week},\n"
         "                 {bytes: 1, per: month}, {bytes: 1, per: hour, direction: ingress}]\n"
         "  b:\n"
         "    extends: [a]\n"
         "    budget: [{bytes: 1, per: hour}, {bytes: 1, per: day}, {bytes: 1, per: week}, {bytes: 1, per: month},\n"
         "             {bytes: 1, per: total}]\n"
         "  c:\n"
         "    extends: [b]\n",
         "7:18: 9 budgets on each packet of egress traffic: 5 of policy 'b' and 4 of the rule; at most 8\n"},
};

static void says_what_is_wrong_with_a_limit(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
                check_refused(refused[i].text, 2, refused[i].errors);
}

#define NO_BANDWIDTH                                                                                                  \
        "'bandwidth' cannot be enforced: a cgroup's hooks refuse a packet or let it through, and delaying one takes " \
        "the fq queue on every device of the host; use 'budget' and 'rate'\n"

static void refuses_bandwidth_with_exit_4_and_the_reason(void **state)
{
        check_refused(RULE "bandwidth: 10Mbit}\n", 4, "5:28: " NO_BANDWIDTH);
        check_refused(POLICY "    bandwidth: 10Mbit\n", 4, "4:5: " NO_BANDWIDTH);
        check_refused(POLICY "    bandwidth: {}\n", 2,
                      "4:16: 'bandwidth' is a map; expected a figure such as 10Mbit\n");
}

static void eight_budgets_of_a_direction_fit(void **state)
{
        struct config *config = load_valid(
                EGRESS "      - cidr: 10.0.0.0/8\n"
                       "        budget: [{bytes: 1, per: hour}, {bytes: 1, per: day}, {bytes: 1, per: week}]\n"
                       "    budget: [{bytes: 1, per: hour}, {bytes: 1, per: day}, {bytes: 1, per: week},\n"
                       "             {bytes: 1, per: month}, {bytes: 1, per: total, direction: both},\n"
                       "             {bytes: 1, per: hour, direction: ingress}]\n");

        assert_int_equal(config->policies[0]->n_budgets, 6);
        config_free(config);
}

static void scopes_are_the_same_however_a_rule_is_written(void **state)
{
        static const struct {
                const char *rule, *scope;
        } cases[] = {
                {"name: claude, domain: api.example", "claude"},
                {"domain: API.example., ports: [443]", "api.example 443"},
                {"domain: api.example, ports: [443/udp, 443/tcp]", "api.example 443"},
                {"domain: '*.api.example', ports: [443/tcp, 80]", "*.api.example 80,443/tcp"},
                {"domain: api.example", "api.example"},
                {"cidr: 10.0.0.0/8, protocol: tcp", "10.0.0.0/8 tcp"},
                {"cidr: 10.0.0.0/8, protocol: any", "10.0.0.0/8 any"},
                {"cidr: 10.0.0.0/8, ports: [8000-8099/udp, 8100/udp]", "10.0.0.0/8 8000-8100/udp"},
                {"cidr: 2001:db8:0:0::/32", "2001:db8::/32"},
                {"cidr: 192.0.2.7, protocol: any, ports: [443]", "192.0.2.7 icmp,443"},
                {"cidr: 192.0.2.7, protocol: icmp", "192.0.2.7 icmp"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char text[256];
                struct config *config;

                snprintf(text, sizeof(text), EGRESS "      - {%s, budget: {bytes: 1, per: day}}\n", cases[i].rule);
                config = load_valid(text);
                assert_string_equal(config->policies[0]->rules[0].scope, cases[i].scope);
                config_free(config);

                snprintf(text, sizeof(text), EGRESS "      - {%s}\n", cases[i].rule);
                config = load_valid(text);
                assert_null(config->policies[0]->rules[0].scope);
                config_free(config);
        }
}

static void what_is_inherited_is_replaced_by_the_policys_own_and_never_loosened_by_a_parent(void **state)
{
        static const struct {
                const char *policy, *budgets;
                __u32 rate;
        } cases[] = {
                {"a", "100 day egress of a; 7 day egress shared of a", 10},
                {"b", "50 day egress of b; 8 day egress shared of b; 9 month both of b", 20},
                /* the smaller one; both shared ones; the slower rate */
                {"c", "50 day egress of b; 7 day egress shared of a; 8 day egress shared of b; 9 month both of b", 10},
                /* its own, whatever the parents say */
                {"d",
                 "7 day egress shared of a; 8 day egress shared of b; 9 month both of b; 1000 day egress reset of d",
                 99},
                /* by two ways, each once */
                {"e", "50 day egress of b; 7 day egress shared of a; 8 day egress shared of b; 9 month both of b", 10},
                {"f", "7 day egress shared of a; 1000 day egress of f", 10},
        };
        struct config *config =
                load_valid(TOP "  a: {budget: [{bytes: 100, per: day}, {bytes: 7, per: day, shared: true}],\n"
                               "      rate: {connections: 10, per: minute}}\n"
                               "  b: {budget: [{bytes: 50, per: day}, {bytes: 8, per: day, shared: true},\n"
                               "               {bytes: 9, per: month, direction: both}],\n"
                               "      rate: {connections: 20, per: minute}}\n"
                               "  c: {extends: [a, b]}\n"
                               "  d: {extends: [a, b], budget: {bytes: 1000, per: day, on_exhausted: reset},\n"
                               "      rate: {connections: 99, per: second}}\n"
                               "  e: {extends: [c, a, b]}\n"
                               "  f: {extends: [a], budget: {bytes: 1000, per: day}}\n");
        char text[512];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                const struct policy *policy = config_find_policy(config, cases[i].policy);

                budgets_text(policy->budgets, policy->n_budgets, text, sizeof(text));
                assert_string_equal(text, cases[i].budgets);
                assert_int_equal(policy->rate.connections, cases[i].rate);
        }
        config_free(config);
}

static void an_inherited_rule_brings_its_limits(void **state)
{
        struct config *config =
                load_valid(TOP "  a: {egress: [{domain: a.example, rate: {connections: 5, per: second},\n"
                               "                budget: {bytes: 1, per: day, shared: true}}]}\n"
                               "  b: {extends: [a], egress: [{domain: b.example}]}\n");
        const struct policy *policy = config_find_policy(config, "b");
        char text[128];

        budgets_text(policy->rules[0].budgets, policy->rules[0].n_budgets, text, sizeof(text));
        assert_string_equal(text, "1 day egress shared of a");
        assert_string_equal(policy->rules[0].scope, "a.example");
        assert_int_equal(policy->rules[0].rate.connections, 5);
        assert_true(rule_has_limits(&policy->rules[0]));
        assert_false(rule_has_limits(&policy->rules[1]));
        config_free(config);
}

/* n rules, each with a budget. To be freed. */
static char *many_rules(unsigned n)
{
        char *text = NULL;
        size_t size = 0;
        FILE *stream = open_memstream(&text, &size);

        fputs(EGRESS, stream);
        for (unsigned i = 0; i < n; i++)
                fprintf(stream, "      - {cidr: 10.0.%u.%u, budget: {bytes: 1, per: day}}\n", i >> 8, i & 255);
        fclose(stream);
        return text;
}

static void a_policy_has_at_most_1023_rules_with_limits(void **state)
{
        struct compiled_policy *compiled = NULL;
        char *text = many_rules(1023);
        struct config *config = load_valid(text);

        assert_int_equal(policy_compile(config->policies[0], NULL, &compiled), 0);
        assert_int_equal(compiled->n_classes, 1024);
        assert_int_equal(compiled->class_rules[1023], 1022);
        compiled_policy_free(compiled);
        config_free(config);
        free(text);

        text = many_rules(1025);
        check_refused(text, 2,
                      "1028:9: a rule with limits too many for policy 'p': at most 1023 of them, among its first 65535 "
                      "rules; put the budget on the policy, or write fewer rules\n");
        free(text);
}

static void each_rule_with_limits_has_a_class_of_its_own(void **state)
{
        static const __u16 rules[] = {RULE_NONE, 1, 3};
        struct config *config =
                load_valid(EGRESS "      - {cidr: 10.0.0.0/8}\n"
                                  "      - {cidr: 10.1.0.0/16, ports: [443, 80/tcp], budget: {bytes: 1, per: day}}\n"
                                  "      - {domain: a.example}\n"
                                  "      - {domain: '*.example', rate: {connections: 1, per: hour}}\n"
                                  "    deny: [{cidr: 10.1.1.0/24}]\n"
                                  "    budget: {bytes: 1, per: day}\n");
        struct compiled_policy *compiled = NULL;
        struct match_list *list = NULL;
        struct address address;
        const char *names[] = {"b.example", "a.example"};

        assert_int_equal(policy_compile(config->policies[0], NULL, &compiled), 0);
        assert_int_equal(compiled->n_classes, ARRAY_SIZE(rules));
        assert_memory_equal(compiled->class_rules, rules, sizeof(rules));
        for (size_t i = 0; i < config->policies[0]->n_rules; i++)
                assert_int_equal(compiled_policy_class(compiled, i), i == 1 ? 1 : i == 3 ? 2 : 0);

        for (size_t i = 1; i < compiled->n_lists; i++)
                for (__u32 k = 0; k < compiled->lists[i]->n_matches; k++)
                        assert_int_equal(compiled->lists[i]->matches[k].limits,
                                         compiled->lists[i]->matches[k].rule == 1 ? 1 : 0);

        address_from_ipv4(&address, 0xc0000201);
        assert_int_equal(compiled_policy_learned_list(compiled, &address, names, 2, &list), 0);
        assert_int_equal(list->n_matches, 2);
        for (__u32 k = 0; k < list->n_matches; k++)
                assert_int_equal(list->matches[k].limits, list->matches[k].rule == 3 ? 2 : 0);
        free(list);
        assert_int_equal(compiled_policy_name_list(compiled, "b.example", &list), 0);
        assert_int_equal(list->matches[0].limits, 2);
        free(list);
        compiled_policy_free(compiled);
        config_free(config);
}

static void a_policy_without_limits_of_rules_has_one_class(void **state)
{
        struct config *config = load_valid(EGRESS "      - {cidr: 10.0.0.0/8}\n    budget: {bytes: 1, per: day}\n");
        struct compiled_policy *compiled = NULL;

        assert_int_equal(policy_compile(config->policies[0], NULL, &compiled), 0);
        assert_int_equal(compiled->n_classes, 1);
        assert_int_equal(compiled->class_rules[0], RULE_NONE);
        compiled_policy_free(compiled);
        config_free(config);
}

#define LIMIT ", budget: {bytes: 1, per: day}"

static void the_more_specific_rule_pays_and_of_equals_the_one_with_limits(void **state)
{
        static const struct {
                const char *rules[3], *destination;
                unsigned pays; /* index of the rule */
        } cases[] = {
                /* A wide rule that comes first is no way around a limit. */
                {{"domain: '*.example.com'", "domain: api.example.com" LIMIT}, "api.example.com:443", 1},
                {{"domain: '*.example.com'", "domain: api.example.com" LIMIT}, "www.example.com:443", 0},
                {{"domain: '*.example.com'", "domain: '*.b.example.com'" LIMIT}, "a.b.example.com:443", 1},
                {{"domain: '*.example.com'", "domain: 'x-*.example.com'" LIMIT}, "x-1.example.com:443", 1},
                {{"domain: a.example.com", "domain: a.example.com, ports: [443]" LIMIT}, "a.example.com:443", 1},
                {{"cidr: 10.0.0.0/8", "cidr: 10.1.0.0/16" LIMIT}, "10.1.0.1:443", 1},
                {{"cidr: 10.0.0.0/8", "cidr: 10.1.0.0/16" LIMIT}, "10.2.0.1:443", 0},
                {{"cidr: 10.0.0.0/8", "cidr: 10.0.0.0/8, ports: [443]" LIMIT}, "10.0.0.1:443", 1},
                /* And an exception to a limit is one. */
                {{"domain: '*.example.com'" LIMIT, "domain: cdn.example.com"}, "cdn.example.com:443", 1},
                {{"domain: '*.example.com'" LIMIT, "domain: cdn.example.com, ports: [443]"}, "cdn.example.com:80", 0},
                {{"cidr: 0.0.0.0/0" LIMIT, "cidr: 10.0.0.0/8"}, "10.1.0.1:443", 1},
                {{"cidr: 0.0.0.0/0" LIMIT, "cidr: 10.0.0.0/8"}, "192.0.2.1:443", 0},
                /* A name is more than an address. */
                {{"cidr: 0.0.0.0/0" LIMIT, "domain: api.example.com"}, "api.example.com:443", 1},
                /* Of several with limits, too. */
                {{"domain: '*.example.com'" LIMIT, "domain: a.example.com" LIMIT,
                  "domain: '*.example.com', ports: [443]"},
                 "a.example.com:443",
                 1},
                {{"domain: a.example.com" LIMIT, "domain: '*.example.com'" LIMIT}, "b.example.com:443", 1},
                {{"name: a, domain: '*.a.test'" LIMIT, "name: b, domain: '*.a.test'" LIMIT}, "a.a.test:443", 0},
                {{"cidr: 10.0.0.0/8" LIMIT, "cidr: 10.1.0.0/16" LIMIT}, "10.1.0.1:443", 1},
                /* Without limits: the first. */
                {{"cidr: 10.0.0.0/8", "cidr: 10.1.0.0/16"}, "10.1.0.1:443", 0},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct destination destination = {0};
                struct explain_input input = {0};
                struct judgement judgement = {0};
                struct diagnostics diagnostics = {0};
                struct compiled_policy *compiled = NULL;
                struct config *config = NULL;
                char text[1024] = EGRESS, *error = NULL;

                for (size_t k = 0; k < 3 && cases[i].rules[k]; k++)
                        snprintf(text + strlen(text), sizeof(text) - strlen(text), "      - {%s}\n", cases[i].rules[k]);
                assert_int_equal(config_load_buffer("t.yaml", text, strlen(text), &diagnostics, &config), 0);
                diagnostics_clear(&diagnostics);
                assert_int_equal(policy_compile(config->policies[0], NULL, &compiled), 0);
                assert_int_equal(destination_parse(cases[i].destination, &destination, &error), 0);
                input.compiled = compiled;
                assert_int_equal(destination_judge(&input, &destination, &judgement), 0);

                if (judgement.verdict.action != VERDICT_ALLOW || judgement.verdict.rule != cases[i].pays ||
                    judgement.verdict.limits != compiled_policy_class(compiled, cases[i].pays))
                        fail_msg("%s%s: rule %u, class %u", text, cases[i].destination, judgement.verdict.rule,
                                 judgement.verdict.limits);
                judgement_clear(&judgement);
                destination_clear(&destination);
                compiled_policy_free(compiled);
                config_free(config);
        }
}

/* An agent could resolve the other name first. */
static void a_name_without_limits_at_the_same_address_is_no_way_around_them(void **state)
{
        struct config *config = load_valid(EGRESS "      - {domain: free.test, ports: [443]}\n"
                                                  "      - {domain: '*.paid.test', ports: [443]" LIMIT "}\n"
                                                  "      - {domain: cdn.paid.test, ports: [443]}\n");
        static const struct {
                const char *names[3];
                unsigned n, pays;
        } cases[] = {
                {{"free.test"}, 1, 0},
                {{"free.test", "a.paid.test"}, 2, 1},
                {{"a.paid.test", "free.test"}, 2, 1},
                {{"cdn.paid.test", "free.test"}, 2, 0},
                {{"cdn.paid.test", "a.paid.test"}, 2, 1},
        };
        struct compiled_policy *compiled = NULL;
        struct address address;

        address_from_ipv4(&address, 0xc0000201);
        assert_int_equal(policy_compile(config->policies[0], NULL, &compiled), 0);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct match_list *list = NULL;

                assert_int_equal(compiled_policy_learned_list(compiled, &address, cases[i].names, cases[i].n, &list),
                                 0);
                assert_int_equal(list->matches[0].rule, cases[i].pays);
                free(list);
        }
        compiled_policy_free(compiled);
        config_free(config);
}

/* The file alone is changed: the loader would have refused it. */
static void does_not_compile_more_classes_than_the_kernel_has(void **state)
{
        struct rate rate = {.connections = 1, .burst = 1, .period_ns = 1};
        char domain[] = "a.example";
        struct rule *rules = calloc(LIMIT_CLASSES_MAX, sizeof(*rules));
        struct policy policy = {.name = "p", .rules = rules, .n_rules = LIMIT_CLASSES_MAX};
        struct compiled_policy *compiled = NULL;

        for (size_t i = 0; i < LIMIT_CLASSES_MAX; i++)
                rules[i] = (struct rule){.domain = domain, .rate = rate};
        assert_int_equal(policy_compile(&policy, NULL, &compiled), -EOVERFLOW);
        policy.n_rules--;
        assert_int_equal(policy_compile(&policy, NULL, &compiled), 0);
        compiled_policy_free(compiled);
        free(rules);
}

static void another_limit_is_another_rule_and_another_policy(void **state)
{
        static const struct {
                const char *budget;
                bool equal;
        } cases[] = {
                {"budget: {bytes: 1, per: day}", true},
                {"budget: [{per: day, direction: egress, bytes: 1B, shared: false, on_exhausted: drop}]", true},
                {"budget: {bytes: 2, per: day}", false},
                {"budget: {bytes: 1, per: hour}", false},
                {"budget: {bytes: 1, per: day, direction: both}", false},
                {"budget: {bytes: 1, per: day, shared: true}", false},
                {"budget: {bytes: 1, per: day, on_exhausted: reset}", false},
                {"budget: [{bytes: 1, per: day}, {bytes: 1, per: hour}]", false},
                {"budget: {bytes: 1, per: day}, rate: {connections: 1, per: hour}", false},
                {"rate: {connections: 1, per: hour}", false},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char first[512], second[512];
                struct config *a, *b;

                snprintf(first, sizeof(first), TOP "  p: {%s, egress: [{cidr: 10.0.0.0/8, name: x, %s}]}\n",
                         cases[0].budget, cases[0].budget);
                snprintf(second, sizeof(second), TOP "  p: {%s, egress: [{cidr: 10.0.0.0/8, name: x, %s}]}\n",
                         cases[i].budget, cases[i].budget);
                a = load_valid(first);
                b = load_valid(second);
                assert_int_equal(policy_limits_equal(a->policies[0], b->policies[0]), cases[i].equal);
                assert_int_equal(rule_limits_equal(&a->policies[0]->rules[0], &b->policies[0]->rules[0]),
                                 cases[i].equal);
                config_free(b);
                config_free(a);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(takes_budgets_in_every_form),
                cmocka_unit_test(takes_rates_in_every_form),
                cmocka_unit_test(takes_a_rate_of_lookups),
                cmocka_unit_test(says_what_is_wrong_with_a_limit),
                cmocka_unit_test(refuses_bandwidth_with_exit_4_and_the_reason),
                cmocka_unit_test(eight_budgets_of_a_direction_fit),
                cmocka_unit_test(scopes_are_the_same_however_a_rule_is_written),
                cmocka_unit_test(what_is_inherited_is_replaced_by_the_policys_own_and_never_loosened_by_a_parent),
                cmocka_unit_test(an_inherited_rule_brings_its_limits),
                cmocka_unit_test(a_policy_has_at_most_1023_rules_with_limits),
                cmocka_unit_test(each_rule_with_limits_has_a_class_of_its_own),
                cmocka_unit_test(a_policy_without_limits_of_rules_has_one_class),
                cmocka_unit_test(the_more_specific_rule_pays_and_of_equals_the_one_with_limits),
                cmocka_unit_test(a_name_without_limits_at_the_same_address_is_no_way_around_them),
                cmocka_unit_test(does_not_compile_more_classes_than_the_kernel_has),
                cmocka_unit_test(another_limit_is_another_rule_and_another_policy),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
