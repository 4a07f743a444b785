/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Compiled policies give, by the kernel's own verdict function, what a walk over all rules gives.
 *
 * The reference below knows nothing of lists, entries or flattening: it asks each rule for each case.
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
#include <time.h>

#include "agentd/address_class.h"
#include "agentd/policy/compile.h"
#include "agentd/policy/explain.h"
#include "agentd/util/macro.h"

enum { RULES_MAX = 24, NAMES_MAX = 3 };

static const char *const pattern_pool[] = {"a.example", "b.example", "*.example", "*.b.example", "x-*.example"};
static const char *const name_pool[] = {"a.example", "b.example", "c.b.example", "x-1.example", "other.test"};

/* Addresses close together, IPv4 and IPv6, so that prefixes nest, meet and miss. */
static struct address random_address(void)
{
        struct address address = {0};

        switch (rand() % 6) {
        case 0:
        case 1:
        case 2:
                address_from_ipv4(&address, ADDRESS_IPV4(198, 51, rand() % 4, rand() % 8 * 32 + rand() % 2));
                break;
        case 3:
                address.words[0] = ADDRESS_WORD(0x20010db8);
                address.bytes[7] = (__u8)(rand() % 4);
                address.bytes[15] = (__u8)(rand() % 4);
                break;
        case 4: /* NAT64 of the IPv4 ones: the inner address is judged too */
                address.words[0] = ADDRESS_WORD(0x0064ff9b);
                address.words[3] = ADDRESS_IPV4(198, 51, rand() % 4, rand() % 8 * 32 + rand() % 2);
                break;
        case 5:
                for (unsigned i = 0; i < 16; i++)
                        address.bytes[i] = (__u8)rand();
                break;
        }
        return address;
}

static struct prefix random_prefix(void)
{
        struct prefix prefix = {.address = random_address()};
        bool ipv4 = address_is_ipv4(&prefix.address);

        switch (rand() % 4) {
        case 0:
                prefix.length = 128;
                break;
        case 1:
                prefix.length = ipv4 ? 96 : 0;
                break;
        default:
                prefix.length = (__u8)(ipv4 ? 110 + rand() % 19 : rand() % 129);
                break;
        }
        prefix_mask(&prefix);
        return prefix;
}

static struct port_range random_range(bool deny)
{
        __u16 low = (__u16)(rand() % 6), high = (__u16)(low + rand() % 3);

        switch (rand() % 5) {
        case 0:
                return (struct port_range){0, 65535, PROTOCOL_TCP | PROTOCOL_UDP | (deny ? PROTOCOL_ICMP : 0)};
        case 1:
                return (struct port_range){0, 65535, PROTOCOL_ICMP};
        case 2:
                return (struct port_range){0, 65535, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMP};
        default:
                return (struct port_range){(__u16)(51 + low), (__u16)(51 + high), (__u8)(1 + rand() % 3)};
        }
}

static struct policy *random_policy(void)
{
        struct policy *policy = calloc(1, sizeof(*policy));

        policy->loopback_allow = rand() % 2;
        policy->metadata_allow = rand() % 2;
        policy->audit = rand() % 2;
        policy->n_rules = (size_t)rand() % RULES_MAX;
        policy->rules = calloc(RULES_MAX, sizeof(*policy->rules));
        for (size_t i = 0; i < policy->n_rules; i++) {
                struct rule *rule = &policy->rules[i];

                rule->deny = rand() % 4 == 0;
                rule->n_ports = 1 + (size_t)rand() % 3;
                rule->ports = calloc(rule->n_ports, sizeof(*rule->ports));
                for (size_t j = 0; j < rule->n_ports; j++)
                        rule->ports[j] = random_range(rule->deny);
                if (rand() % 3 == 0) {
                        rule->domain = strdup(pattern_pool[(size_t)rand() % ARRAY_SIZE(pattern_pool)]);
                        continue;
                }
                rule->cidr = random_prefix();
                rule->n_except = (size_t)rand() % 3;
                rule->except = calloc(rule->n_except + 1, sizeof(*rule->except));
                for (size_t j = 0; j < rule->n_except; j++) {
                        /* within the cidr mostly; what lies outside, or around it, must do the obvious too */
                        rule->except[j] = random_prefix();
                        if (rand() % 4 && rule->cidr.length < 128) {
                                rule->except[j].length = (__u8)(rule->cidr.length + rand() % (129 - rule->cidr.length));
                                for (unsigned k = 0; k < rule->cidr.length; k++)
                                        rule->except[j].address.bytes[k / 8] =
                                                (__u8)((rule->except[j].address.bytes[k / 8] & ~(0x80 >> k % 8)) |
                                                       (rule->cidr.address.bytes[k / 8] & (0x80 >> k % 8)));
                                prefix_mask(&rule->except[j]);
                        }
                }
        }
        return policy;
}

static void policy_free(struct policy *policy)
{
        for (size_t i = 0; i < policy->n_rules; i++) {
                free(policy->rules[i].ports);
                free(policy->rules[i].except);
                free(policy->rules[i].domain);
        }
        free(policy->rules);
        free(policy);
}

static bool rule_covers_ports(const struct rule *rule, const struct flow *flow)
{
        __u8 fragment_ports[8192] = {0};

        for (size_t i = 0; i < rule->n_ports; i++) {
                if (!(rule->ports[i].protocols & flow->protocol))
                        continue;
                if (!(flow->flags & FLOW_FRAGMENT)) {
                        if (flow->port >= rule->ports[i].low && flow->port <= rule->ports[i].high)
                                return true;
                        continue;
                }
                for (unsigned port = rule->ports[i].low; port <= rule->ports[i].high; port++)
                        fragment_ports[port / 8] |= (__u8)(1 << port % 8);
        }
        /* A fragment without ports: only where every port is covered. */
        if (!(flow->flags & FLOW_FRAGMENT))
                return false;
        for (size_t i = 0; i < sizeof(fragment_ports); i++)
                if (fragment_ports[i] != 0xff)
                        return false;
        return true;
}

static bool rule_covers_address(const struct rule *rule, const struct address *address)
{
        if (rule->domain || !prefix_contains(&rule->cidr, address))
                return false;
        for (size_t i = 0; i < rule->n_except; i++)
                if (prefix_contains(&rule->except[i], address))
                        return false;
        return true;
}

struct reference_learned {
        const char *names[NAMES_MAX];
        size_t n_names;
        bool fresh;
};

/* Any port at all: a fragment without ports is not let through where one port is closed. */
static bool rule_touches(const struct rule *rule, const struct flow *flow)
{
        for (size_t i = 0; i < rule->n_ports; i++)
                if (rule->ports[i].protocols & flow->protocol)
                        return true;
        return false;
}

static bool name_is_denied(const struct policy *policy, const char *name, const struct flow *flow)
{
        for (size_t i = 0; i < policy->n_rules; i++)
                if (policy->rules[i].deny && policy->rules[i].domain &&
                    domain_pattern_matches(policy->rules[i].domain, name) &&
                    (rule_covers_ports(&policy->rules[i], flow) ||
                     ((flow->flags & FLOW_FRAGMENT) && rule_touches(&policy->rules[i], flow))))
                        return true;
        return false;
}

static bool allowed_by_name(const struct policy *policy, const struct rule *rule,
                            const struct reference_learned *learned, const struct flow *flow)
{
        if (!rule->domain || rule->deny)
                return false;
        for (size_t i = 0; i < learned->n_names; i++)
                if (domain_pattern_matches(rule->domain, learned->names[i]) && rule_covers_ports(rule, flow) &&
                    !name_is_denied(policy, learned->names[i], flow))
                        return true;
        return false;
}

static enum verdict_reason deny_of(const struct policy *policy, const struct address *address, const struct flow *flow)
{
        for (size_t i = 0; i < policy->n_rules; i++)
                if (policy->rules[i].deny && rule_covers_address(&policy->rules[i], address) &&
                    rule_covers_ports(&policy->rules[i], flow))
                        return REASON_DENY_RULE;
        return REASON_NONE;
}

static enum verdict_reason reference(const struct policy *policy, const struct reference_learned *learned,
                                     const struct flow *flow)
{
        bool expired = false, allowed = false, embedded;
        struct address inner;

        if (!(flow->protocol & (PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMP)))
                return REASON_PROTOCOL;
        if (flow->port == 53 && flow->protocol != PROTOCOL_ICMP && !(flow->flags & FLOW_FRAGMENT))
                return REASON_NO_RULE;
        embedded = address_embedded(&flow->remote, &inner);
        if ((address_is_metadata(&flow->remote) || (embedded && address_is_metadata(&inner))) &&
            !policy->metadata_allow)
                return REASON_METADATA;
        if (deny_of(policy, &flow->remote, flow) != REASON_NONE ||
            (embedded && deny_of(policy, &inner, flow) != REASON_NONE))
                return REASON_DENY_RULE;
        if (flow->flags & FLOW_LOOPBACK)
                return policy->loopback_allow ? REASON_NONE : REASON_LOOPBACK;

        for (size_t i = 0; i < policy->n_rules; i++) {
                const struct rule *rule = &policy->rules[i];

                if (!rule->deny && rule_covers_address(rule, &flow->remote) && rule_covers_ports(rule, flow))
                        allowed = true;
                if (allowed_by_name(policy, rule, learned, flow)) {
                        if (learned->fresh || (flow->flags & FLOW_ESTABLISHED))
                                allowed = true;
                        else
                                expired = true;
                }
        }
        if (!allowed)
                return expired ? REASON_EXPIRED : REASON_NO_RULE;
        return REASON_NONE;
}

static struct explain_learned view_of(void *context, const struct address *address)
{
        return *(struct explain_learned *)context;
}

static void describe(const struct policy *policy, const struct flow *flow)
{
        char text[PREFIX_TEXT_MAX];

        for (size_t i = 0; i < policy->n_rules; i++) {
                const struct rule *rule = &policy->rules[i];

                print_message("%zu %s %s", i, rule->deny ? "deny" : "allow",
                              rule->domain ? rule->domain : prefix_format(&rule->cidr, text));
                for (size_t j = 0; j < rule->n_except; j++)
                        print_message(" except %s", prefix_format(&rule->except[j], text));
                for (size_t j = 0; j < rule->n_ports; j++)
                        print_message(" %u-%u/%u", rule->ports[j].low, rule->ports[j].high, rule->ports[j].protocols);
                print_message("\n");
        }
        print_message("flow %s port %u protocol %u flags %u\n", address_format(&flow->remote, text), flow->port,
                      flow->protocol, flow->flags);
}

/* Addresses that are near an edge of the policy are worth more than random ones. */
static struct address interesting_address(const struct policy *policy)
{
        size_t i = policy->n_rules ? (size_t)rand() % policy->n_rules : 0;
        const struct rule *rule = &policy->rules[i];
        struct prefix prefix;

        if (policy->n_rules == 0 || rule->domain || rand() % 4 == 0)
                return random_address();
        prefix = rule->n_except && rand() % 2 ? rule->except[0] : rule->cidr;
        if (rand() % 2) /* the last address of it */
                for (unsigned bit = prefix.length; bit < 128; bit++)
                        prefix.address.bytes[bit / 8] |= (__u8)(0x80 >> bit % 8);
        if (rand() % 3 == 0)
                prefix.address.bytes[15] ^= 1;
        return prefix.address;
}

static void check_case(const struct policy *policy, const struct compiled_policy *compiled)
{
        struct explain_input input = {.compiled = compiled, .word_flags = compiled->word_flags, .now_ns = 1000};
        struct reference_learned learned = {.fresh = rand() % 2};
        struct match_list *list = NULL;
        struct explain_learned view = {.expires_ns = learned.fresh ? 1001 : 1000};
        struct verdict verdict;
        struct flow flow = {
                .remote = interesting_address(policy),
                .port = (__u16)(50 + rand() % 10),
                .protocol = (__u8)(1 << rand() % 4),
        };
        enum verdict_reason expected;
        int r;

        if (rand() % 4 == 0)
                flow.flags |= FLOW_FRAGMENT;
        if (rand() % 4 == 0)
                flow.flags |= FLOW_LOOPBACK;
        if (rand() % 4 == 0)
                flow.flags |= FLOW_ESTABLISHED;
        if (flow.protocol == PROTOCOL_ICMP || (flow.flags & FLOW_FRAGMENT))
                flow.port = 0;

        if (rand() % 2) {
                learned.n_names = 1 + (size_t)rand() % NAMES_MAX;
                for (size_t i = 0; i < learned.n_names; i++)
                        learned.names[i] = name_pool[(size_t)rand() % ARRAY_SIZE(name_pool)];
                r = compiled_policy_learned_list(compiled, &flow.remote, learned.names, learned.n_names, &list);
                if (r == 0) {
                        view.found = true;
                        view.list = list;
                        input.learned = view_of;
                        input.learned_context = &view;
                } else {
                        assert_true(r == -ENOENT || r == -EACCES);
                        learned.n_names = 0;
                }
        }

        expected = reference(policy, &learned, &flow);
        policy_explain(&input, &flow, &verdict);
        /* Why a fragment was refused is the engine's to say; that it was is what counts here. */
        if (verdict.reason == REASON_FRAGMENT)
                verdict.reason = REASON_NO_RULE;
        if (verdict.reason != expected || (verdict.action == VERDICT_ALLOW) != (expected == REASON_NONE)) {
                describe(policy, &flow);
                fail_msg("got %s, expected %s", verdict_reason_to_string(verdict.reason),
                         verdict_reason_to_string(expected));
        }
        if (verdict.rule != RULE_NONE) {
                assert_true(verdict.rule < policy->n_rules);
                assert_int_equal(policy->rules[verdict.rule].deny, verdict.reason == REASON_DENY_RULE);
        }
        free(list);
}

static void check_shape(const struct compiled_policy *compiled)
{
        for (size_t i = 0; i < compiled->egress.n_prefixes; i++) {
                const struct compiled_prefix *entry = &compiled->egress.prefixes[i];
                const struct match_list *list = compiled->lists[entry->list];
                struct prefix masked = entry->prefix;
                bool allows = false;

                prefix_mask(&masked);
                assert_memory_equal(&masked, &entry->prefix, sizeof(masked.address));
                assert_true(entry->list < compiled->n_lists);
                assert_true(list->n_matches <= MATCH_LIST_MAX);
                for (__u32 j = 0; j < list->n_matches; j++) {
                        if (!(list->matches[j].flags & MATCH_DENY))
                                allows = true;
                        else
                                assert_false(allows); /* denies stand first */
                }
                if (i > 0) {
                        int order = memcmp(compiled->egress.prefixes[i - 1].prefix.address.bytes,
                                           entry->prefix.address.bytes, 16);

                        assert_true(order < 0 || (order == 0 && compiled->egress.prefixes[i - 1].prefix.length <
                                                                        entry->prefix.length));
                }
        }
        assert_int_equal(compiled->lists[0]->n_matches, 0);
}

static void agrees_with_a_walk_over_all_rules(void **state)
{
        srand(20261123);
        for (unsigned round = 0; round < 1500; round++) {
                struct policy *policy = random_policy();
                struct compiled_policy *compiled;

                assert_int_equal(policy_compile(policy, NULL, &compiled), 0);
                check_shape(compiled);
                for (unsigned i = 0; i < 60; i++)
                        check_case(policy, compiled);
                compiled_policy_free(compiled);
                policy_free(policy);
        }
}

/* A policy of cidr rules, "-" in front: deny; "CIDR EXCEPT". All ports of TCP and UDP. */
static struct policy *policy_of(const char *const *rules, size_t n_rules)
{
        struct policy *policy = calloc(1, sizeof(*policy));

        policy->n_rules = n_rules;
        policy->rules = calloc(n_rules, sizeof(*policy->rules));
        for (size_t i = 0; i < n_rules; i++) {
                struct rule *rule = &policy->rules[i];
                char first[64], second[64] = "";

                rule->deny = rules[i][0] == '-';
                assert_true(sscanf(rules[i] + rule->deny, "%63s %63s", first, second) >= 1);
                rule->n_ports = 1;
                rule->ports = calloc(1, sizeof(*rule->ports));
                rule->ports[0] = (struct port_range){0, 65535, PROTOCOL_TCP | PROTOCOL_UDP};
                if (prefix_parse(first, &rule->cidr) < 0)
                        rule->domain = strdup(first);
                if (second[0]) {
                        rule->except = calloc(1, sizeof(*rule->except));
                        rule->n_except = 1;
                        assert_int_equal(prefix_parse(second, rule->except), 0);
                }
        }
        return policy;
}

static enum verdict_reason verdict_of(const struct compiled_policy *compiled, const char *address, __u16 *ret_rule)
{
        struct explain_input input = {.compiled = compiled, .word_flags = compiled->word_flags};
        struct flow flow = {.port = 443, .protocol = PROTOCOL_TCP};
        struct verdict verdict;

        assert_int_equal(address_parse(address, &flow.remote), 0);
        policy_explain(&input, &flow, &verdict);
        *ret_rule = verdict.rule;
        return verdict.reason;
}

static void nested_prefixes_and_excepts_are_flattened(void **state)
{
        static const char *const rules[] = {
                "10.0.0.0/8 10.20.0.0/16",
                "10.20.0.5",
                "-10.30.0.0/16",
                "10.30.1.0/24",
                "::/0",
                "0.0.0.0/0 192.0.2.0/24",
                "-203.0.113.0/24 203.0.113.7",
        };
        static const struct {
                const char *address;
                enum verdict_reason reason;
                __u16 rule;
        } cases[] = {
                {"10.1.2.3", REASON_NONE, 0},
                {"10.20.0.4", REASON_NONE, 5}, /* carved out of rule 0, still in the wide one */
                {"10.20.0.5", REASON_NONE, 1},
                {"10.30.0.1", REASON_DENY_RULE, 2},
                {"10.30.1.1", REASON_DENY_RULE, 2}, /* a longer allow does not win over a shorter deny */
                {"2001:db8::1", REASON_NONE, 4},
                {"192.0.2.1", REASON_NO_RULE, RULE_NONE}, /* ::/0 says nothing about IPv4 */
                {"198.51.100.1", REASON_NONE, 5},
                {"203.0.113.6", REASON_DENY_RULE, 6},
                {"203.0.113.7", REASON_NONE, 5},
        };
        struct policy *policy = policy_of(rules, ARRAY_SIZE(rules));
        struct compiled_policy *compiled;

        assert_int_equal(policy_compile(policy, NULL, &compiled), 0);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                __u16 rule;

                assert_int_equal(verdict_of(compiled, cases[i].address, &rule), cases[i].reason);
                assert_int_equal(rule, cases[i].rule);
        }
        compiled_policy_free(compiled);
        policy_free(policy);
}

static void an_empty_policy_allows_nothing(void **state)
{
        struct policy *policy = policy_of(NULL, 0);
        struct compiled_policy *compiled;
        __u16 rule;

        assert_int_equal(policy_compile(policy, NULL, &compiled), 0);
        assert_int_equal(compiled->egress.n_prefixes, 0);
        assert_int_equal(verdict_of(compiled, "192.0.2.1", &rule), REASON_NO_RULE);
        assert_int_equal(verdict_of(compiled, "::1", &rule), REASON_NO_RULE);
        compiled_policy_free(compiled);
        policy_free(policy);
}

static void refuses_more_matches_at_one_address_than_a_list_holds(void **state)
{
        const char *rules[MATCH_LIST_MAX + 1];
        struct compiled_policy *compiled;
        struct prefix where = {0};
        char text[PREFIX_TEXT_MAX];

        for (size_t n = MATCH_LIST_MAX; n <= MATCH_LIST_MAX + 1; n++) {
                struct policy *policy;

                for (size_t i = 0; i < n; i++)
                        rules[i] = i % 2 ? "10.0.0.0/8" : "10.1.0.0/16";
                policy = policy_of(rules, n);
                if (n == MATCH_LIST_MAX) {
                        assert_int_equal(policy_compile(policy, &where, &compiled), 0);
                        compiled_policy_free(compiled);
                } else {
                        assert_int_equal(policy_compile(policy, &where, &compiled), -E2BIG);
                        assert_string_equal(prefix_format(&where, text), "10.1.0.0/16");
                }
                policy_free(policy);
        }
}

static void names_are_judged_with_deny_first(void **state)
{
        static const char *const rules[] = {"*.example", "-b.example", "-c.example", "c.example", "other.test"};
        static const struct {
                const char *name;
                enum verdict_reason reason;
                __u16 rule;
        } cases[] = {
                {"a.example", REASON_NONE, 0},
                {"b.example", REASON_DENY_RULE, 1},
                {"c.example", REASON_NONE, 0}, /* only port 22 of it is denied */
                {"other.test", REASON_NONE, 4},
                {"example", REASON_NAME_NOT_ALLOWED, RULE_NONE},
                {"", REASON_NAME_NOT_ALLOWED, RULE_NONE},
        };
        struct policy *policy = policy_of(rules, ARRAY_SIZE(rules));
        struct compiled_policy *compiled;
        struct match_list *list;
        const char *denied = "b.example", *unknown = "example", *partly = "c.example";
        struct address address;

        policy->rules[1].ports[0].protocols |= PROTOCOL_ICMP;
        policy->rules[2].ports[0] = (struct port_range){22, 22, PROTOCOL_TCP};
        assert_int_equal(policy_compile(policy, NULL, &compiled), 0);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                __u16 rule;

                assert_int_equal(compiled_policy_name_verdict(compiled, cases[i].name, &rule), cases[i].reason);
                assert_int_equal(rule, cases[i].rule);
        }

        assert_int_equal(address_parse("192.0.2.1", &address), 0);
        assert_int_equal(compiled_policy_learned_list(compiled, &address, &denied, 1, &list), -EACCES);
        assert_int_equal(compiled_policy_learned_list(compiled, &address, &unknown, 1, &list), -ENOENT);
        assert_int_equal(compiled_policy_learned_list(compiled, &address, NULL, 0, &list), -ENOENT);
        assert_int_equal(compiled_policy_learned_list(compiled, &address, &partly, 1, &list), 0);
        for (__u32 i = 0; i < list->n_matches; i++) {
                assert_int_equal(list->matches[i].flags, MATCH_BY_NAME);
                assert_false((list->matches[i].protocols & PROTOCOL_TCP) && list->matches[i].port_low <= 22 &&
                             list->matches[i].port_high >= 22);
        }
        free(list);
        compiled_policy_free(compiled);
        policy_free(policy);
}

static void answers_lose_private_and_metadata_addresses(void **state)
{
        static const struct {
                const char *address;
                bool allow_private, metadata_allow;
                enum verdict_reason reason;
        } cases[] = {
                {"192.0.2.1", false, false, REASON_NONE},
                {"10.0.0.1", false, false, REASON_PRIVATE_ADDRESS},
                {"10.0.0.1", true, false, REASON_NONE},
                {"169.254.169.254", true, false, REASON_METADATA},
                {"169.254.169.254", true, true, REASON_NONE},
                {"169.254.169.254", false, true, REASON_PRIVATE_ADDRESS},
                {"64:ff9b::169.254.169.254", true, false, REASON_METADATA},
                {"64:ff9b::10.0.0.1", false, false, REASON_PRIVATE_ADDRESS},
                {"169.254.42.42", true, false, REASON_METADATA},
                {"169.254.42.43", true, false, REASON_NONE},
                {"169.254.0.23", true, false, REASON_METADATA},
                {"64:ff9b::169.254.0.23", true, false, REASON_METADATA},
                {"fe80::a9fe:a9fe", true, false, REASON_METADATA},
                {"fe80::a9fe:a9ff", true, false, REASON_NONE},
                {"fe80:0:0:1::a9fe:a9fe", true, false, REASON_NONE},
                {"fd00:42::42", true, false, REASON_METADATA},
                {"fd00:42::42", true, true, REASON_NONE},
                {"fd00:42:0:1::42", true, false, REASON_NONE},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct policy policy = {.allow_private = cases[i].allow_private,
                                        .metadata_allow = cases[i].metadata_allow};
                struct compiled_policy *compiled;
                struct address address;

                assert_int_equal(address_parse(cases[i].address, &address), 0);
                assert_int_equal(policy_compile(&policy, NULL, &compiled), 0);
                assert_int_equal(compiled_policy_address_verdict(compiled, &address), cases[i].reason);
                compiled_policy_free(compiled);
        }
}

static double seconds(void)
{
        struct timespec now;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
        return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void a_hundred_thousand_prefixes_take_no_square(void **state)
{
        enum { N = 100000 };
        struct rule *rules = calloc(N, sizeof(*rules));
        struct port_range port = {443, 443, PROTOCOL_TCP};
        struct prefix inside = {.length = 128};
        struct policy policy = {.rules = rules, .n_rules = N};
        struct compiled_policy *compiled;
        double start;

        /* Half of them hosts, half /24 with a host carved out. */
        for (unsigned i = 0; i < N; i++) {
                address_from_ipv4(&rules[i].cidr.address, ADDRESS_IPV4(11 + i / 65536, i / 256 % 256, i % 256, 0));
                rules[i].cidr.length = i % 2 ? 128 : 120;
                rules[i].ports = &port;
                rules[i].n_ports = 1;
        }
        inside.address = rules[0].cidr.address;
        rules[0].except = &inside;
        rules[0].n_except = 1;

        start = seconds();
        assert_int_equal(policy_compile(&policy, NULL, &compiled), 0);
        start = seconds() - start;
        print_message("%d rules: %zu entries, %zu lists, %.3f s\n", N, compiled->egress.n_prefixes, compiled->n_lists,
                      start);
        assert_true(start < 5); /* under the sanitizers on a busy machine; n^2 would take minutes */
        assert_int_equal(compiled->egress.n_prefixes, N + 1);
        compiled_policy_free(compiled);
        free(rules);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(agrees_with_a_walk_over_all_rules),
                cmocka_unit_test(nested_prefixes_and_excepts_are_flattened),
                cmocka_unit_test(an_empty_policy_allows_nothing),
                cmocka_unit_test(refuses_more_matches_at_one_address_than_a_list_holds),
                cmocka_unit_test(names_are_judged_with_deny_first),
                cmocka_unit_test(answers_lose_private_and_metadata_addresses),
                cmocka_unit_test(a_hundred_thousand_prefixes_take_no_square),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
