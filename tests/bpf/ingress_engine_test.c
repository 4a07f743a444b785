/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ingress rules in the tables: what the engine says to a flow that began outside, in the kernel and in user space, and
 * what becomes of the entries of a daemon that is dead.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "agentd/abi_test.h"
#include "agentd/datapath/internal.h"
#include "agentd/policy/explain.h"
#include "tests/lib/bpf_scene.h"

enum { TCP = PROTOCOL_TCP, UDP = PROTOCOL_UDP, ICMP = PROTOCOL_ICMP, DOOR = 7100, OTHER_DOOR = 7101 };

#define IN(prefix, protocols, low, high)                  \
        {                                                 \
                prefix, false, protocols, low, high, true \
        }
#define ALLOW(prefix, protocols, low, high)                \
        {                                                  \
                prefix, false, protocols, low, high, false \
        }
#define DENY(prefix, protocols, low, high)                \
        {                                                 \
                prefix, true, protocols, low, high, false \
        }

static const struct bpf_rule open_door[] = {IN(SCENE_FAR "/32", TCP | UDP, DOOR, DOOR)};
static const struct bpf_rule open_other_door[] = {IN(SCENE_FAR "/32", TCP | UDP, OTHER_DOOR, OTHER_DOOR)};

static void asks_one_engine_in_the_kernel_and_in_user_space(void **state)
{
        static const struct bpf_rule rules[] = {
                ALLOW("203.0.113.0/24", TCP | UDP, 443, 443),
                DENY("10.1.0.0/16", TCP | UDP | ICMP, 0, 65535),
                DENY("10.2.0.0/16", TCP, 0, 65535),
                DENY("10.3.0.0/16", TCP | UDP, 1024, 65535),
                IN("10.0.0.0/8", TCP | UDP, 22, 22),
                IN("2001:db8::/32", TCP, 8000, 8099),
                IN("10.9.0.0/16", TCP, 0, 65535),
                IN("0.0.0.0/0", UDP, 53, 53),
        };
        enum { R_DENY_ALL = 1, R_DENY_TCP = 2, R_IN = 4, R_IN6 = 5, R_IN_ALL = 6, R_IN_DNS = 7 };
        static const struct {
                const char *remote;
                __u8 protocol;
                __u16 port, local_port;
                __u8 flags, action, reason;
                __u16 rule;
        } cases[] = {
                {"10.0.0.1", TCP, 50000, 22, 0, VERDICT_ALLOW, 0, R_IN},
                {"10.0.0.1", TCP, 22, 50000, 0, VERDICT_DENY, REASON_INGRESS, RULE_NONE}, /* not the remote port */
                {"10.0.0.1", UDP, 53, 22, 0, VERDICT_ALLOW, 0, R_IN},                     /* no redirect */
                {"10.0.0.1", UDP, 5000, 53, 0, VERDICT_ALLOW, 0, R_IN_DNS},
                {"10.0.0.1", ICMP, 0, 0, 0, VERDICT_DENY, REASON_INGRESS, RULE_NONE},
                {"10.1.0.1", TCP, 50000, 22, 0, VERDICT_DENY, REASON_DENY_RULE, R_DENY_ALL},
                {"10.1.0.1", UDP, 50000, 53, 0, VERDICT_DENY, REASON_DENY_RULE, R_DENY_ALL},
                {"10.2.0.1", TCP, 50000, 22, 0, VERDICT_DENY, REASON_DENY_RULE, R_DENY_TCP},
                {"10.2.0.1", UDP, 50000, 22, 0, VERDICT_ALLOW, 0, R_IN},
                {"10.3.0.1", TCP, 50000, 22, 0, VERDICT_ALLOW, 0, R_IN}, /* a deny of some remote ports */
                {"10.9.0.1", TCP, 50000, 31337, 0, VERDICT_ALLOW, 0, R_IN_ALL},
                {"10.9.0.1", TCP, 0, 0, FLOW_FRAGMENT, VERDICT_ALLOW, 0, R_IN_ALL},
                {"10.0.0.1", TCP, 0, 0, FLOW_FRAGMENT, VERDICT_DENY, REASON_FRAGMENT, RULE_NONE},
                {"203.0.113.1", TCP, 443, 443, 0, VERDICT_DENY, REASON_INGRESS,
                 RULE_NONE}, /* egress rules say nothing */
                {"169.254.169.254", UDP, 1, 53, 0, VERDICT_DENY, REASON_METADATA, RULE_NONE},
                {"2001:db8::1", TCP, 1, 8050, FLOW_ESTABLISHED, VERDICT_ALLOW, 0, R_IN6},
                {"2001:db8::1", TCP, 1, 8100, FLOW_ESTABLISHED, VERDICT_DENY, REASON_INGRESS, RULE_NONE},
                {"64:ff9b::a01:1", TCP, 1, 22, 0, VERDICT_DENY, REASON_DENY_RULE, R_DENY_ALL}, /* 10.1.0.1 inside */
                {"127.0.0.1", TCP, 1, 22, FLOW_LOOPBACK, VERDICT_ALLOW, 0, RULE_NONE},
        };
        struct bpf_world *world = *state;
        struct bpf_policy *policy = NULL;
        struct explain_input input = {};
        __u64 word;

        if (!world)
                skip();
        assert_int_equal(bpf_policy_new(world, rules, ARRAY_SIZE(rules), &policy), 0);
        word = WORD_MAKE(1, policy->version, policy->compiled->word_flags);
        input.compiled = policy->compiled;
        input.word_flags = policy->compiled->word_flags;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct verdict_question question = {.agent_id = SCENE_AGENT, .word = word, .now_ns = scene_now_ns()};
                struct verdict here;

                assert_int_equal(address_parse(cases[i].remote, &question.flow.remote), 0);
                question.flow.protocol = cases[i].protocol;
                question.flow.port = cases[i].port;
                question.flow.local_port = cases[i].local_port;
                question.flow.flags = FLOW_INBOUND | cases[i].flags;
                assert_int_equal(datapath_verdict(world->datapath, &question), 0);
                policy_explain(&input, &question.flow, &here);
                if (question.verdict.action != cases[i].action || question.verdict.reason != cases[i].reason ||
                    question.verdict.rule != cases[i].rule || question.verdict.limits != 0)
                        fail_msg("case %zu: %s: action %u, reason %u, rule %u", i, cases[i].remote,
                                 question.verdict.action, question.verdict.reason, question.verdict.rule);
                assert_memory_equal(&here, &question.verdict, sizeof(here));
        }
        assert_int_equal(datapath_policy_remove(world->datapath, policy->version), 0);
        bpf_policy_free(policy);
}

/* What a dead daemon left of ingress rules is swept with the rest, and its version is not given again. */
static void a_successor_sweeps_what_no_agent_uses(void **state)
{
        struct bpf_world *world = *state;
        struct bpf_policy *policy = NULL, *next = NULL;
        struct verdict_question question = {.agent_id = SCENE_AGENT, .now_ns = 1};

        if (!world)
                skip();
        assert_int_equal(bpf_policy_new(world, open_door, 1, &policy), 0);
        assert_int_equal(bpf_world_reopen(world), 0);
        assert_int_equal(bpf_policy_new(world, open_other_door, 1, &next), 0);
        assert_int_not_equal(next->version, policy->version);

        question.word = WORD_MAKE(1, policy->version, 0);
        assert_int_equal(address_parse(SCENE_FAR, &question.flow.remote), 0);
        question.flow.protocol = TCP;
        question.flow.local_port = DOOR;
        question.flow.flags = FLOW_INBOUND;
        assert_int_equal(datapath_verdict(world->datapath, &question), 0);
        assert_int_equal(question.verdict.action, VERDICT_ALLOW);
        assert_int_equal(datapath_policies_sweep(world->datapath), 0);
        assert_int_equal(datapath_verdict(world->datapath, &question), 0);
        assert_int_equal(question.verdict.action, VERDICT_DENY);

        question.word = WORD_MAKE(1, next->version, 0);
        question.flow.local_port = OTHER_DOOR;
        assert_int_equal(datapath_verdict(world->datapath, &question), 0);
        assert_int_equal(question.verdict.action, VERDICT_ALLOW);
        assert_int_equal(datapath_policy_remove(world->datapath, next->version), 0);
        bpf_policy_free(next);
        bpf_policy_free(policy);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(asks_one_engine_in_the_kernel_and_in_user_space),
                cmocka_unit_test(a_successor_sweeps_what_no_agent_uses),
        };

        return cmocka_run_group_tests(tests, scene_world_up, scene_world_down);
}
