/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A verdict for a CIDR or for any port is what asking for every address and port would give.
 *
 * Prefixes here are small enough to ask for all of them; the ports of the rules stand close together.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/address_class.h"
#include "agentd/policy/judge.h"
#include "agentd/util/macro.h"

enum { RULES = 6, PORT_LOW = 48, PORT_HIGH = 64 };

static struct port_range port_pool[] = {
        {0, 65535, PROTOCOL_TCP | PROTOCOL_UDP}, {50, 55, PROTOCOL_TCP},    {53, 53, PROTOCOL_UDP},
        {54, 60, PROTOCOL_TCP | PROTOCOL_UDP},   {0, 65535, PROTOCOL_ICMP}, {57, 57, PROTOCOL_UDP},
};

/* base/112 or so, and parts of it. form: 0 IPv4, 1 IPv6, 2 NAT64, 3 6to4. */
static struct address address_in(unsigned form, unsigned low)
{
        struct address address = {0};

        switch (form) {
        case 0:
                address_from_ipv4(&address, ADDRESS_IPV4(169, 254, 168 + low / 256 % 4, low));
                return address;
        case 1:
                address.words[0] = ADDRESS_WORD(0x20010db8);
                break;
        case 2:
                address.words[0] = ADDRESS_WORD(0x0064ff9b);
                address.words[3] = ADDRESS_IPV4(169, 254, 168 + low / 256 % 4, low);
                return address;
        default:
                address.words[0] = ADDRESS_WORD(0x2002a9fe);
                address.bytes[4] = (__u8)(168 + low / 256 % 4);
                address.bytes[5] = (__u8)low;
                return address;
        }
        address.bytes[14] = (__u8)(low / 256);
        address.bytes[15] = (__u8)low;
        return address;
}

static struct prefix random_prefix(void)
{
        struct prefix prefix = {.address = address_in((unsigned)rand() % 4, (unsigned)rand() % 1024)};

        prefix.length = (__u8)(rand() % 8 == 0 ? 96 + rand() % 20 : 116 + rand() % 13);
        prefix_mask(&prefix);
        return prefix;
}

static bool all_allowed(const struct explain_input *input, const struct prefix *prefix, __u8 protocol, __u16 port)
{
        unsigned n = 1u << (128 - prefix->length);

        for (unsigned i = 0; i < n; i++) {
                struct flow flow = {.remote = prefix->address, .port = port, .protocol = protocol};
                struct verdict verdict;
                unsigned low = (unsigned)flow.remote.bytes[14] * 256 + flow.remote.bytes[15] + i;

                flow.remote.bytes[14] = (__u8)(low / 256);
                flow.remote.bytes[15] = (__u8)low;
                if (address_is_loopback(&flow.remote))
                        flow.flags |= FLOW_LOOPBACK;
                policy_explain(input, &flow, &verdict);
                if (verdict.action != VERDICT_ALLOW)
                        return false;
        }
        return true;
}

static bool set_has(const struct port_set *set, __u8 protocol, __u16 port)
{
        for (size_t i = 0; i < set->n_items; i++)
                if ((set->items[i].protocols & protocol) && port >= set->items[i].low && port <= set->items[i].high)
                        return true;
        return false;
}

static void check_prefix(const struct explain_input *input, const struct prefix *prefix)
{
        struct destination destination = {.prefix = *prefix};
        struct judgement judgement;
        bool any = false;

        assert_int_equal(destination_judge(input, &destination, &judgement), 0);
        for (__u8 protocol = PROTOCOL_TCP; protocol <= PROTOCOL_ICMP; protocol <<= 1) {
                for (unsigned port = PORT_LOW; port <= PORT_HIGH; port++) {
                        bool allowed;

                        if (port == 53) /* agentd's own */
                                continue;
                        if (protocol == PROTOCOL_ICMP && port != PORT_LOW)
                                break;
                        allowed = all_allowed(input, prefix, protocol, protocol == PROTOCOL_ICMP ? 0 : (__u16)port);
                        any = any || allowed;
                        if (set_has(&judgement.ports, protocol, protocol == PROTOCOL_ICMP ? 0 : (__u16)port) !=
                            allowed) {
                                char text[PREFIX_TEXT_MAX];

                                fail_msg("%s port %u protocol %u: expected %d", prefix_format(prefix, text), port,
                                         protocol, allowed);
                        }
                }
        }
        assert_int_equal(judgement.verdict.action == VERDICT_ALLOW, any);
        judgement_clear(&judgement);

        destination.has_port = true;
        destination.port = (__u16)(PORT_LOW + rand() % (PORT_HIGH - PORT_LOW));
        destination.protocol = rand() % 2 ? PROTOCOL_TCP : PROTOCOL_UDP;
        assert_int_equal(destination_judge(input, &destination, &judgement), 0);
        assert_int_equal(judgement.verdict.action == VERDICT_ALLOW,
                         all_allowed(input, prefix, destination.protocol, destination.port));
        judgement_clear(&judgement);
}

static void a_cidr_is_allowed_where_all_of_its_addresses_are(void **state)
{
        srand(3);
        for (unsigned round = 0; round < 300; round++) {
                struct rule rules[RULES] = {0};
                struct policy policy = {
                        .rules = rules, .n_rules = RULES, .metadata_allow = rand() % 2, .loopback_allow = rand() % 2};
                struct prefix except[RULES];
                struct compiled_policy *compiled;
                struct explain_input input = {0};

                for (size_t i = 0; i < RULES; i++) {
                        rules[i].deny = rand() % 4 == 0;
                        rules[i].cidr = random_prefix();
                        rules[i].ports = &port_pool[(size_t)rand() % ARRAY_SIZE(port_pool)];
                        rules[i].n_ports = 1;
                        except[i] = random_prefix();
                        rules[i].except = &except[i];
                        rules[i].n_except = rand() % 2;
                }
                /* What a translator would unpack: all of it allowed, and a deny on the inside only. */
                if (round % 2) {
                        policy.metadata_allow = true;
                        assert_int_equal(prefix_parse(round % 4 == 1 ? "64:ff9b::/96" : "2002::/16", &rules[0].cidr),
                                         0);
                        rules[0].deny = false;
                        rules[0].ports = &port_pool[0];
                        rules[0].n_except = 0;
                        rules[1].cidr.address = address_in(0, (unsigned)rand() % 1024);
                        rules[1].cidr.length = (__u8)(122 + rand() % 7);
                        prefix_mask(&rules[1].cidr);
                        rules[1].deny = true;
                        rules[1].n_except = 0;
                }
                assert_int_equal(policy_compile(&policy, NULL, &compiled), 0);
                input.compiled = compiled;
                input.word_flags = compiled->word_flags;
                for (unsigned i = 0; i < 8; i++) {
                        struct prefix prefix = i < RULES && rand() % 2 ? rules[i].cidr : random_prefix();

                        if (prefix.length < 118) {
                                prefix.length = 118;
                                prefix.address = address_in((unsigned)rand() % 4, 0);
                                prefix_mask(&prefix);
                        }
                        check_prefix(&input, &prefix);
                }
                compiled_policy_free(compiled);
        }
}

/* A rule for all of it: the one address that is never allowed must be found inside. */
static void a_metadata_address_inside_a_cidr_is_not_allowed(void **state)
{
        static const struct {
                const char *cidr;
                bool allowed;
        } cases[] = {
                {"169.254.42.0/24", false},  {"169.254.43.0/24", true}, {"169.254.0.0/24", false},
                {"169.254.1.0/24", true},    {"169.254.0.0/16", false}, {"169.254.169.0/24", false},
                {"fe80::/64", false},        {"fe80::1:0:0/96", true},  {"fe80::a9fe:a900/120", false},
                {"fd00:42::/32", false},     {"fd00:43::/32", true},    {"fd20:ce::/64", false},
                {"100.100.100.0/24", false}, {"64:ff9b::/96", false},   {"64:ff9b::a9fe:2a00/120", false},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct rule rule = {.ports = &port_pool[0], .n_ports = 1};
                struct policy policy = {.rules = &rule, .n_rules = 1};
                struct destination destination = {0};
                struct compiled_policy *compiled;
                struct explain_input input = {0};
                struct judgement judgement;

                assert_int_equal(prefix_parse(cases[i].cidr, &rule.cidr), 0);
                destination.prefix = rule.cidr;
                assert_int_equal(policy_compile(&policy, NULL, &compiled), 0);
                input.compiled = compiled;
                input.word_flags = compiled->word_flags;
                assert_int_equal(destination_judge(&input, &destination, &judgement), 0);
                if ((judgement.verdict.action == VERDICT_ALLOW) != cases[i].allowed)
                        fail_msg("%s: not as meant", cases[i].cidr);
                judgement_clear(&judgement);
                compiled_policy_free(compiled);
        }
}

static void the_listeners_ports_are_not_among_those_of_loopback(void **state)
{
        struct policy policy = {.loopback_allow = true};
        struct destination destination = {0};
        struct compiled_policy *compiled;
        struct explain_input input = {0};
        struct judgement judgement;

        assert_int_equal(prefix_parse("127.0.0.1", &destination.prefix), 0);
        assert_int_equal(policy_compile(&policy, NULL, &compiled), 0);
        input.compiled = compiled;
        input.word_flags = compiled->word_flags;
        assert_int_equal(destination_judge(&input, &destination, &judgement), 0);
        assert_true(set_has(&judgement.ports, PROTOCOL_TCP, LISTENER_PORT_FIRST - 1));
        assert_false(set_has(&judgement.ports, PROTOCOL_TCP, LISTENER_PORT_FIRST));
        assert_false(set_has(&judgement.ports, PROTOCOL_UDP, LISTENER_PORT_FIRST + LISTENER_PORT_COUNT - 1));
        assert_true(set_has(&judgement.ports, PROTOCOL_UDP, LISTENER_PORT_FIRST + LISTENER_PORT_COUNT));
        judgement_clear(&judgement);
        compiled_policy_free(compiled);
}

static void a_wide_cidr_is_not_allowed_by_a_part_of_it(void **state)
{
        struct rule rules[3] = {0};
        struct policy policy = {.rules = rules, .n_rules = 2};
        struct compiled_policy *compiled;
        struct explain_input input = {0};
        struct destination destination = {0};
        struct judgement judgement;
        char buffer[ADDRESS_TEXT_MAX];

        assert_int_equal(prefix_parse("10.0.0.0/9", &rules[0].cidr), 0);
        assert_int_equal(prefix_parse("10.128.0.0/9", &rules[1].cidr), 0);
        assert_int_equal(prefix_parse("10.200.0.0/16", &rules[2].cidr), 0);
        rules[2].deny = true;
        for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
                rules[i].ports = &port_pool[0];
                rules[i].n_ports = 1;
        }
        assert_int_equal(prefix_parse("10.0.0.0/8", &destination.prefix), 0);

        assert_int_equal(policy_compile(&policy, NULL, &compiled), 0);
        input.compiled = compiled;
        assert_int_equal(destination_judge(&input, &destination, &judgement), 0);
        assert_int_equal(judgement.verdict.action, VERDICT_ALLOW); /* two halves are a whole */
        judgement_clear(&judgement);
        compiled_policy_free(compiled);

        policy.n_rules = 3;
        assert_int_equal(policy_compile(&policy, NULL, &compiled), 0);
        input.compiled = compiled;
        assert_int_equal(destination_judge(&input, &destination, &judgement), 0);
        assert_int_equal(judgement.verdict.action, VERDICT_DENY);
        assert_int_equal(judgement.verdict.reason, REASON_DENY_RULE);
        assert_string_equal(address_format(&judgement.address, buffer), "10.200.0.0");
        judgement_clear(&judgement);
        compiled_policy_free(compiled);
}

static void classes_of_addresses_inside_a_cidr_are_not_overlooked(void **state)
{
        static const struct {
                const char *cidr;
                bool loopback_allow;
                enum verdict_reason reason;
        } cases[] = {
                {"100.64.0.0/10", true, REASON_METADATA}, /* 100.100.100.200 */
                {"168.63.0.0/16", true, REASON_METADATA}, {"fc00::/7", true, REASON_METADATA},
                {"64:ff9b::/96", true, REASON_METADATA}, /* of an inner one */
                {"126.0.0.0/7", false, REASON_LOOPBACK},  {"126.0.0.0/7", true, REASON_NONE},
                {"203.0.113.0/24", false, REASON_NONE},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct rule rule = {.ports = &port_pool[0], .n_ports = 1};
                struct policy policy = {.rules = &rule, .n_rules = 1, .loopback_allow = cases[i].loopback_allow};
                struct destination destination = {.has_port = true, .port = 443};
                struct compiled_policy *compiled;
                struct explain_input input = {0};
                struct judgement judgement;

                assert_int_equal(prefix_parse(cases[i].cidr, &rule.cidr), 0);
                destination.prefix = rule.cidr;
                assert_int_equal(policy_compile(&policy, NULL, &compiled), 0);
                input.compiled = compiled;
                input.word_flags = compiled->word_flags;
                assert_int_equal(destination_judge(&input, &destination, &judgement), 0);
                assert_int_equal(judgement.verdict.reason, cases[i].reason);
                judgement_clear(&judgement);
                compiled_policy_free(compiled);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_cidr_is_allowed_where_all_of_its_addresses_are),
                cmocka_unit_test(classes_of_addresses_inside_a_cidr_are_not_overlooked),
                cmocka_unit_test(a_metadata_address_inside_a_cidr_is_not_allowed),
                cmocka_unit_test(the_listeners_ports_are_not_among_those_of_loopback),
                cmocka_unit_test(a_wide_cidr_is_not_allowed_by_a_part_of_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
