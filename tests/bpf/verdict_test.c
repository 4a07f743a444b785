/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's verdicts: a table in the order of the engine, and the same questions to the kernel and to
 * policy_explain() over random policies. Asked through the program agentd_verdict, which calls the function that every
 * hook calls.
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

#include "agentd/abi_test.h"
#include "agentd/address_class.h"
#include "agentd/policy/compile.h"
#include "agentd/policy/explain.h"
#include "agentd/util/macro.h"
#include "tests/lib/bpf_world.h"

enum { AGENT = 7, OTHER = 8, NOW = 1000000, ALL = PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMP };
enum { TCP = PROTOCOL_TCP, UDP = PROTOCOL_UDP, ICMP = PROTOCOL_ICMP };
enum { ALLOW = VERDICT_ALLOW, DENY = VERDICT_DENY, REDIRECT = VERDICT_REDIRECT };

static int set_up(void **state)
{
        struct bpf_world *world = NULL;

        if (bpf_world_possible() && bpf_world_new("agbpf", &world) < 0)
                return -1;
        *state = world;
        return 0;
}

static int tear_down(void **state)
{
        bpf_world_free(*state);
        return 0;
}

static struct address address_of(const char *text)
{
        struct address address;

        assert_int_equal(address_parse(text, &address), 0);
        return address;
}

static struct verdict kernel(struct bpf_world *world, __u32 agent_id, __u64 word, __u64 now_ns, const struct flow *flow)
{
        struct verdict_question question = {.agent_id = agent_id, .word = word, .now_ns = now_ns, .flow = *flow};

        /* What a verdict leaves unwritten would show. */
        memset(&question.verdict, 0xee, sizeof(question.verdict));
        assert_int_equal(datapath_verdict(world->datapath, &question), 0);
        return question.verdict;
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

static const struct {
        const char *prefix;
        bool deny;
        __u8 protocols;
        __u16 low, high;
} rules[] = {
        {"198.51.100.0/24", false, TCP, 443, 443},      /* 0 */
        {"203.0.113.7", false, TCP | UDP, 0, 65535},    /* 1 */
        {"198.51.100.66", true, ALL, 0, 65535},         /* 2 */
        {"2001:db8:1::/48", false, TCP | UDP, 1, 2000}, /* 3 */
        {"64:ff9b::/96", false, TCP, 443, 443},         /* 4 */
        {"10.66.0.0/16", true, ALL, 0, 65535},          /* 5 */
        {"2002::/16", false, TCP, 0, 65535},            /* 6 */
        {"2001::/32", false, TCP, 0, 65535},            /* 7 */
        {"::/96", false, TCP, 0, 65535},                /* 8 */
        {"192.0.2.7", false, ICMP, 0, 65535},           /* 9 */
        {"169.254.169.254", false, TCP, 80, 80},        /* 10 */
        {"127.0.0.9", true, TCP, 0, 65535},             /* 11 */
        {"10.67.1.0/24", true, TCP, 25, 25},            /* 12 */
        {"64:ff9b:1::/48", false, TCP, 0, 65535},       /* 13 */
        {NULL, false, TCP, 443, 443},                   /* 14: the name a.example */
};

enum { RULE_NAME = 14 };

static struct policy *table_policy(void)
{
        struct policy *policy = calloc(1, sizeof(*policy));

        policy->n_rules = ARRAY_SIZE(rules);
        policy->rules = calloc(policy->n_rules, sizeof(*policy->rules));
        for (size_t i = 0; i < policy->n_rules; i++) {
                struct rule *rule = &policy->rules[i];

                rule->deny = rules[i].deny;
                rule->n_ports = 1;
                rule->ports = calloc(1, sizeof(*rule->ports));
                rule->ports[0] = (struct port_range){rules[i].low, rules[i].high, rules[i].protocols};
                if (rules[i].prefix)
                        assert_int_equal(prefix_parse(rules[i].prefix, &rule->cidr), 0);
                else
                        rule->domain = strdup("a.example");
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

struct fixture {
        struct policy *policy;
        struct compiled_policy *compiled;
        __u32 version;
};

static struct fixture publish(struct bpf_world *world, struct policy *policy)
{
        struct fixture fixture = {.policy = policy};

        assert_int_equal(policy_compile(policy, NULL, &fixture.compiled), 0);
        assert_int_equal(datapath_policy_add(world->datapath, fixture.compiled, &fixture.version), 0);
        return fixture;
}

static void withdraw(struct bpf_world *world, struct fixture *fixture)
{
        assert_int_equal(datapath_policy_remove(world->datapath, fixture->version), 0);
        compiled_policy_free(fixture->compiled);
        policy_free(fixture->policy);
}

static void learn(struct bpf_world *world, const struct fixture *fixture, __u32 agent_id, const char *text,
                  __u64 expires_ns)
{
        const char *const names[] = {"a.example"};
        struct address address = address_of(text);
        struct match_list *list = NULL;

        assert_int_equal(compiled_policy_learned_list(fixture->compiled, &address, names, 1, &list), 0);
        assert_int_equal(datapath_learned_set(world->datapath, agent_id, &address, expires_ns, fixture->version, list),
                         0);
        free(list);
}

static void forget(struct bpf_world *world, __u32 agent_id, const char *text)
{
        struct address address = address_of(text);

        assert_int_equal(datapath_learned_remove(world->datapath, agent_id, &address), 0);
}

struct question {
        const char *label;
        __u32 word_flags;
        const char *remote;
        __u8 protocol;
        __u16 port;
        __u8 flags;
        int action, reason, rule; /* rule -1: none */
};

#define EST  FLOW_ESTABLISHED
#define LO   FLOW_LOOPBACK
#define FRAG FLOW_FRAGMENT
#define SYS  FLOW_SYSCALL

static const struct question questions[] = {
        /* quarantine is before all else, also before the redirect and in audit mode */
        {"quarantine", WORD_QUARANTINE, "198.51.100.1", TCP, 443, 0, DENY, REASON_QUARANTINE, -1},
        {"quarantined look-up", WORD_QUARANTINE, "198.51.100.1", UDP, 53, SYS, DENY, REASON_QUARANTINE, -1},
        {"quarantined loopback", WORD_QUARANTINE | WORD_LOOPBACK_ALLOW, "127.0.0.1", TCP, 80, LO, DENY,
         REASON_QUARANTINE, -1},
        {"audit changes no verdict", WORD_AUDIT, "192.0.2.1", TCP, 443, 0, DENY, REASON_NO_RULE, -1},
        /* protocols that no rule can speak of */
        {"unknown protocol", 0, "203.0.113.7", PROTOCOL_OTHER, 0, 0, DENY, REASON_PROTOCOL, -1},
        {"no protocol at all", 0, "203.0.113.7", 0, 0, 0, DENY, REASON_PROTOCOL, -1},
        /* look-ups */
        {"look-up at a system call", 0, "192.0.2.1", UDP, 53, SYS, REDIRECT, REASON_NO_RULE, -1},
        {"look-up over TCP", 0, "192.0.2.1", TCP, 53, SYS, REDIRECT, REASON_NO_RULE, -1},
        {"look-up as a packet", 0, "203.0.113.7", UDP, 53, 0, DENY, REASON_NO_RULE, -1},
        {"look-up as a packet, established", 0, "203.0.113.7", TCP, 53, EST, DENY, REASON_NO_RULE, -1},
        {"look-up to the metadata address", 0, "169.254.169.254", UDP, 53, SYS, REDIRECT, REASON_NO_RULE, -1},
        {"look-up to a denied address", 0, "10.66.0.1", UDP, 53, SYS, REDIRECT, REASON_NO_RULE, -1},
        {"ping is no look-up", 0, "192.0.2.7", ICMP, 0, SYS, ALLOW, REASON_NONE, 9},
        /* metadata */
        {"metadata with a rule", 0, "169.254.169.254", TCP, 80, 0, DENY, REASON_METADATA, -1},
        {"metadata allowed and ruled", WORD_METADATA_ALLOW, "169.254.169.254", TCP, 80, 0, ALLOW, REASON_NONE, 10},
        {"metadata allowed, no rule", WORD_METADATA_ALLOW, "169.254.169.254", TCP, 81, 0, DENY, REASON_NO_RULE, -1},
        {"metadata of AWS over IPv6", 0, "fd00:ec2::254", TCP, 80, 0, DENY, REASON_METADATA, -1},
        {"metadata of OpenStack over IPv6", 0, "fe80::a9fe:a9fe", TCP, 80, 0, DENY, REASON_METADATA, -1},
        {"a neighbour of it", 0, "fe80::a9fe:a9ff", TCP, 80, 0, DENY, REASON_NO_RULE, -1},
        {"metadata of Scaleway", 0, "169.254.42.42", TCP, 80, 0, DENY, REASON_METADATA, -1},
        {"metadata of Scaleway over IPv6", 0, "fd00:42::42", TCP, 80, 0, DENY, REASON_METADATA, -1},
        {"metadata of Tencent", 0, "169.254.0.23", TCP, 80, 0, DENY, REASON_METADATA, -1},
        {"NAT64 of it", 0, "64:ff9b::169.254.0.23", TCP, 443, 0, DENY, REASON_METADATA, -1},
        {"metadata of Alibaba", 0, "100.100.100.200", TCP, 80, 0, DENY, REASON_METADATA, -1},
        /* deny wins */
        {"deny inside an allowed prefix", 0, "198.51.100.66", TCP, 443, 0, DENY, REASON_DENY_RULE, 2},
        {"deny, established", 0, "198.51.100.66", TCP, 443, EST, DENY, REASON_DENY_RULE, 2},
        {"deny, as a fragment", 0, "198.51.100.66", UDP, 0, FRAG, DENY, REASON_DENY_RULE, 2},
        {"deny on loopback", WORD_LOOPBACK_ALLOW, "127.0.0.9", TCP, 80, LO, DENY, REASON_DENY_RULE, 11},
        {"deny of another protocol", WORD_LOOPBACK_ALLOW, "127.0.0.9", UDP, 80, LO, ALLOW, REASON_NONE, -1},
        /* loopback */
        {"loopback allowed", WORD_LOOPBACK_ALLOW, "127.0.0.1", TCP, 80, LO, ALLOW, REASON_NONE, -1},
        {"loopback allowed, IPv6", WORD_LOOPBACK_ALLOW, "::1", UDP, 80, LO, ALLOW, REASON_NONE, -1},
        {"loopback denied", 0, "127.0.0.1", TCP, 80, LO, DENY, REASON_LOOPBACK, -1},
        {"loopback address off the device", WORD_LOOPBACK_ALLOW, "127.0.0.1", TCP, 80, 0, DENY, REASON_NO_RULE, -1},
        /* prefixes */
        {"inside a prefix", 0, "198.51.100.1", TCP, 443, 0, ALLOW, REASON_NONE, 0},
        {"another port", 0, "198.51.100.1", TCP, 444, 0, DENY, REASON_NO_RULE, -1},
        {"another protocol", 0, "198.51.100.1", UDP, 443, 0, DENY, REASON_NO_RULE, -1},
        {"beside the prefix", 0, "198.51.101.0", TCP, 443, 0, DENY, REASON_NO_RULE, -1},
        {"v4-mapped is IPv4", 0, "::ffff:198.51.100.1", TCP, 443, 0, ALLOW, REASON_NONE, 0},
        {"a host, highest port", 0, "203.0.113.7", UDP, 65535, 0, ALLOW, REASON_NONE, 1},
        {"a host's neighbour", 0, "203.0.113.8", UDP, 65535, 0, DENY, REASON_NO_RULE, -1},
        {"IPv6 first port", 0, "2001:db8:1::1", TCP, 1, 0, ALLOW, REASON_NONE, 3},
        {"IPv6 last port", 0, "2001:db8:1:ffff::1", UDP, 2000, 0, ALLOW, REASON_NONE, 3},
        {"IPv6 port above", 0, "2001:db8:1::1", TCP, 2001, 0, DENY, REASON_NO_RULE, -1},
        {"IPv6 port zero", 0, "2001:db8:1::1", TCP, 0, 0, DENY, REASON_NO_RULE, -1},
        {"ping without a rule", 0, "203.0.113.7", ICMP, 0, 0, DENY, REASON_NO_RULE, -1},
        /* fragments have no ports */
        {"fragment, rule with every port", 0, "203.0.113.7", UDP, 0, FRAG, ALLOW, REASON_NONE, 1},
        {"fragment, rule with ports", 0, "2001:db8:1::1", UDP, 0, FRAG, DENY, REASON_FRAGMENT, -1},
        {"fragment of a look-up's port", 0, "203.0.113.7", UDP, 53, FRAG, ALLOW, REASON_NONE, 1},
        {"fragment without a rule", 0, "203.0.113.9", UDP, 0, FRAG, DENY, REASON_NO_RULE, -1},
        /* what translators and tunnels send on */
        {"NAT64 of a fine address", 0, "64:ff9b::203.0.113.1", TCP, 443, 0, ALLOW, REASON_NONE, 4},
        {"NAT64 of a denied address", 0, "64:ff9b::10.66.0.1", TCP, 443, 0, DENY, REASON_DENY_RULE, 5},
        {"NAT64 of the metadata address", 0, "64:ff9b::169.254.169.254", TCP, 443, 0, DENY, REASON_METADATA, -1},
        {"NAT64 of it, allowed", WORD_METADATA_ALLOW, "64:ff9b::169.254.169.254", TCP, 443, 0, ALLOW, REASON_NONE, 4},
        {"NAT64, a deny of another port", 0, "64:ff9b::10.67.1.1", TCP, 443, 0, ALLOW, REASON_NONE, 4},
        {"NAT64 for local use", 0, "64:ff9b:1::10.67.1.1", TCP, 25, 0, DENY, REASON_DENY_RULE, 12},
        {"6to4 of a denied address", 0, "2002:a42:1::1", TCP, 80, 0, DENY, REASON_DENY_RULE, 5},
        {"6to4 of a fine address", 0, "2002:a43:1::1", TCP, 80, 0, ALLOW, REASON_NONE, 6},
        {"Teredo of a denied client", 0, "2001:0:1:1:0:0:f5bd:fffe", TCP, 80, 0, DENY, REASON_DENY_RULE, 5},
        {"Teredo of a fine client", 0, "2001:0:1:1:0:0:f5bc:fffe", TCP, 80, 0, ALLOW, REASON_NONE, 7},
        {"v4-compatible of a denied address", 0, "::10.66.0.1", TCP, 80, 0, DENY, REASON_DENY_RULE, 5},
        {"v4-compatible of a fine address", 0, "::10.67.0.1", TCP, 80, 0, ALLOW, REASON_NONE, 8},
        /* learned: 203.0.113.50 fresh until NOW + 1, .51 expired at NOW, .52 learned by another agent */
        {"learned, fresh", 0, "203.0.113.50", TCP, 443, 0, ALLOW, REASON_NONE, RULE_NAME},
        {"learned, another port", 0, "203.0.113.50", TCP, 80, 0, DENY, REASON_NO_RULE, -1},
        {"learned, expired", 0, "203.0.113.51", TCP, 443, 0, DENY, REASON_EXPIRED, RULE_NAME},
        {"learned, expired, established", 0, "203.0.113.51", TCP, 443, EST, ALLOW, REASON_NONE, RULE_NAME},
        {"learned, expired, established, another port", 0, "203.0.113.51", TCP, 80, EST, DENY, REASON_NO_RULE, -1},
        {"learned by another agent", 0, "203.0.113.52", TCP, 443, 0, DENY, REASON_NO_RULE, -1},
        {"learned by another agent, established", 0, "203.0.113.52", TCP, 443, EST, DENY, REASON_NO_RULE, -1},
        {"learned inside an allowed prefix, expired", 0, "198.51.100.7", TCP, 443, 0, ALLOW, REASON_NONE, 0},
        {"learned but denied", 0, "198.51.100.66", TCP, 443, EST, DENY, REASON_DENY_RULE, 2},
        {"learned NAT64 of the metadata address", 0, "64:ff9b::169.254.169.254", TCP, 443, EST, DENY, REASON_METADATA,
         -1},
        {"nowhere", 0, "192.0.2.200", TCP, 443, 0, DENY, REASON_NO_RULE, -1},
        {"nowhere, established", 0, "192.0.2.200", TCP, 443, EST, DENY, REASON_NO_RULE, -1},
};

static void verdicts_come_in_the_order_of_the_engine(void **state)
{
        struct bpf_world *world = *state;
        struct fixture fixture;

        if (!world)
                skip();
        fixture = publish(world, table_policy());
        learn(world, &fixture, AGENT, "203.0.113.50", NOW + 1);
        learn(world, &fixture, AGENT, "203.0.113.51", NOW);
        learn(world, &fixture, OTHER, "203.0.113.52", NOW + 1);
        learn(world, &fixture, AGENT, "198.51.100.7", NOW);
        learn(world, &fixture, AGENT, "198.51.100.66", NOW + 1);

        for (size_t i = 0; i < ARRAY_SIZE(questions); i++) {
                const struct question *q = &questions[i];
                struct flow flow = {
                        .remote = address_of(q->remote), .port = q->port, .protocol = q->protocol, .flags = q->flags};
                struct verdict verdict = kernel(world, AGENT, WORD_MAKE(1, fixture.version, q->word_flags), NOW, &flow);

                if (verdict.action != q->action || verdict.reason != q->reason ||
                    verdict.rule != (q->rule < 0 ? RULE_NONE : q->rule))
                        fail_msg("%s: action %u reason %s rule %u; meant %d %s %d", q->label, verdict.action,
                                 verdict_reason_to_string(verdict.reason), verdict.rule, q->action,
                                 verdict_reason_to_string((enum verdict_reason)q->reason), q->rule);
        }

        forget(world, AGENT, "203.0.113.50");
        forget(world, AGENT, "203.0.113.51");
        forget(world, OTHER, "203.0.113.52");
        forget(world, AGENT, "198.51.100.7");
        forget(world, AGENT, "198.51.100.66");
        withdraw(world, &fixture);
}

static void a_word_without_a_version_denies_everything(void **state)
{
        struct bpf_world *world = *state;
        struct flow flow = {.remote = address_of("127.0.0.1"), .port = 80, .protocol = TCP, .flags = LO};
        struct verdict verdict;

        if (!world)
                skip();
        for (__u32 flags = 0; flags < 16; flags++) {
                verdict = kernel(world, AGENT, WORD_MAKE(9, 0, flags), NOW, &flow);
                assert_int_equal(verdict.action, DENY);
                assert_int_equal(verdict.reason, REASON_NO_POLICY);
        }
        flow.port = 53;
        flow.flags = SYS;
        verdict = kernel(world, AGENT, 0, NOW, &flow);
        assert_int_equal(verdict.action, DENY);
        assert_int_equal(verdict.reason, REASON_NO_POLICY);
}

static void a_version_that_nobody_added_allows_nothing(void **state)
{
        struct bpf_world *world = *state;
        struct flow flow = {.remote = address_of("203.0.113.7"), .port = 80, .protocol = TCP};
        struct fixture fixture;
        struct verdict verdict;

        if (!world)
                skip();
        fixture = publish(world, table_policy());
        verdict = kernel(world, AGENT, WORD_MAKE(1, fixture.version, 0), NOW, &flow);
        assert_int_equal(verdict.action, ALLOW);
        verdict = kernel(world, AGENT, WORD_MAKE(1, fixture.version + 1, 0), NOW, &flow);
        assert_int_equal(verdict.action, DENY);
        assert_int_equal(verdict.reason, REASON_NO_RULE);
        withdraw(world, &fixture);
}

/* While a policy is replaced, the entry serves the old version and the new one, each by its own list. */
static void a_learned_address_serves_two_versions_and_no_third(void **state)
{
        struct bpf_world *world = *state;
        struct flow flow = {.remote = address_of("203.0.113.50"), .port = 443, .protocol = TCP};
        struct fixture old, new, third;
        struct policy *policy;

        if (!world)
                skip();
        old = publish(world, table_policy());
        policy = table_policy();
        policy->rules[RULE_NAME].ports[0] = (struct port_range){8443, 8443, TCP};
        new = publish(world, policy);
        third = publish(world, table_policy());

        datapath_agent_publish(world->datapath, AGENT, old.version, 0);
        learn(world, &old, AGENT, "203.0.113.50", NOW + 1);
        learn(world, &new, AGENT, "203.0.113.50", NOW + 1);
        assert_int_equal(kernel(world, AGENT, WORD_MAKE(1, old.version, 0), NOW, &flow).action, ALLOW);
        assert_int_equal(kernel(world, AGENT, WORD_MAKE(1, new.version, 0), NOW, &flow).action, DENY);
        assert_int_equal(kernel(world, AGENT, WORD_MAKE(1, third.version, 0), NOW, &flow).action, DENY);
        flow.port = 8443;
        assert_int_equal(kernel(world, AGENT, WORD_MAKE(1, old.version, 0), NOW, &flow).action, DENY);
        assert_int_equal(kernel(world, AGENT, WORD_MAKE(1, new.version, 0), NOW, &flow).action, ALLOW);

        /* The next version takes the slot that is not in use, whichever it is. */
        datapath_agent_publish(world->datapath, AGENT, new.version, 0);
        learn(world, &third, AGENT, "203.0.113.50", NOW + 1);
        assert_int_equal(kernel(world, AGENT, WORD_MAKE(1, new.version, 0), NOW, &flow).action, ALLOW);
        assert_int_equal(kernel(world, AGENT, WORD_MAKE(1, old.version, 0), NOW, &flow).action, DENY);
        flow.port = 443;
        assert_int_equal(kernel(world, AGENT, WORD_MAKE(1, third.version, 0), NOW, &flow).action, ALLOW);

        datapath_agent_publish(world->datapath, AGENT, 0, 0);
        forget(world, AGENT, "203.0.113.50");
        withdraw(world, &old);
        withdraw(world, &new);
        withdraw(world, &third);
}

/* --- the kernel against explain ------------------------------------------------------------------------------------
 */

enum { POLICIES = 80, FLOWS = 150, RULES_MAX = 20, LEARNED = 6 };

static const char *const patterns[] = {"a.example", "b.example", "*.example", "x-*.example"};
static const char *const names[] = {"a.example", "b.example", "x-1.example", "other.test"};

static struct address random_address(void)
{
        struct address address = {0};
        __be32 near = ADDRESS_IPV4(198, 51, rand() % 3, rand() % 6 * 40);

        switch (rand() % 9) {
        case 0:
                near = ADDRESS_IPV4(127, 0, 0, rand() % 3);
                address_from_ipv4(&address, near);
                break;
        case 1:
                address_from_ipv4(&address, rand() % 2 ? ADDRESS_IPV4(169, 254, 169, 254) : ADDRESS_IPV4(0, 0, 0, 0));
                break;
        case 2:
                address.words[0] = ADDRESS_WORD(0x20010db8);
                address.bytes[7] = (__u8)(rand() % 3);
                address.bytes[15] = (__u8)(rand() % 3);
                break;
        case 3:
                address.words[0] = ADDRESS_WORD(0x0064ff9b);
                address.words[3] = near;
                break;
        case 4:
                address.bytes[0] = 0x20;
                address.bytes[1] = 0x02;
                memcpy(address.bytes + 2, &near, sizeof(near));
                break;
        case 5:
                address.words[0] = ADDRESS_WORD(0x20010000);
                address.words[3] = ~near;
                break;
        case 6:
                address.words[3] = rand() % 2 ? near : ADDRESS_WORD(rand() % 2);
                break;
        default:
                address_from_ipv4(&address, near);
                break;
        }
        return address;
}

static struct prefix random_prefix(void)
{
        struct prefix prefix = {.address = random_address()};
        bool ipv4 = address_is_ipv4(&prefix.address);

        prefix.length = (__u8)(rand() % 3 == 0 ? 128 : ipv4 ? 96 + rand() % 33 : rand() % 129);
        prefix_mask(&prefix);
        return prefix;
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
                rule->n_ports = 1 + (size_t)rand() % 2;
                rule->ports = calloc(rule->n_ports, sizeof(*rule->ports));
                for (size_t j = 0; j < rule->n_ports; j++) {
                        __u16 low = (__u16)(50 + rand() % 8);

                        rule->ports[j] =
                                rand() % 3 ? (struct port_range){low, (__u16)(low + rand() % 3), (__u8)(1 + rand() % 3)}
                                           : (struct port_range){0, 65535, (__u8)(1 + rand() % 7)};
                }
                if (rand() % 3 == 0) {
                        rule->domain = strdup(patterns[(size_t)rand() % ARRAY_SIZE(patterns)]);
                        continue;
                }
                rule->cidr = random_prefix();
                if (rand() % 3 == 0) {
                        rule->n_except = 1;
                        rule->except = calloc(1, sizeof(*rule->except));
                        rule->except[0] = random_prefix();
                }
        }
        return policy;
}

static struct flow random_flow(void)
{
        static const __u8 protocols[] = {TCP, TCP, TCP, UDP, UDP, ICMP, PROTOCOL_OTHER};
        struct flow flow = {.remote = random_address(), .port = (__u16)(49 + rand() % 12)};

        flow.protocol = protocols[(size_t)rand() % ARRAY_SIZE(protocols)];
        if (rand() % 3 == 0)
                flow.flags |= FLOW_ESTABLISHED;
        if (rand() % 5 == 0)
                flow.flags |= FLOW_FRAGMENT;
        if (rand() % 3 == 0)
                flow.flags |= FLOW_SYSCALL;
        if (rand() % 4 && address_is_loopback(&flow.remote))
                flow.flags |= FLOW_LOOPBACK;
        if (flow.protocol == ICMP || flow.flags & FLOW_FRAGMENT)
                flow.port = 0;
        return flow;
}

struct learned_table {
        struct {
                struct address address;
                __u64 expires_ns;
                struct match_list *list;
        } entries[LEARNED];
        size_t n;
};

static struct explain_learned table_find(void *context, const struct address *address)
{
        const struct learned_table *table = context;

        for (size_t i = table->n; i-- > 0;) /* the last one written */
                if (memcmp(&table->entries[i].address, address, sizeof(*address)) == 0)
                        return (struct explain_learned){true, table->entries[i].expires_ns, table->entries[i].list};
        return (struct explain_learned){};
}

static void random_learned(struct bpf_world *world, const struct fixture *fixture, struct learned_table *table)
{
        for (size_t i = 0; i < LEARNED; i++) {
                const char *chosen[2] = {names[(size_t)rand() % ARRAY_SIZE(names)],
                                         names[(size_t)rand() % ARRAY_SIZE(names)]};
                struct address address = random_address();
                __u64 expires_ns = (__u64)(NOW - 1 + rand() % 3);
                struct match_list *list = NULL;

                if (compiled_policy_learned_list(fixture->compiled, &address, chosen, 1 + (size_t)rand() % 2, &list) <
                    0)
                        continue;
                assert_int_equal(
                        datapath_learned_set(world->datapath, AGENT, &address, expires_ns, fixture->version, list), 0);
                table->entries[table->n].address = address;
                table->entries[table->n].expires_ns = expires_ns;
                table->entries[table->n++].list = list;
        }
}

static void explain_tells_what_the_kernel_does(void **state)
{
        struct bpf_world *world = *state;
        unsigned allowed = 0, reasons[REASON_MAX] = {0};
        const char *seed = getenv("AGENTD_TEST_SEED");

        if (!world)
                skip();
        srand(seed ? (unsigned)atoi(seed) : 20261123);
        for (unsigned p = 0; p < POLICIES; p++) {
                struct fixture fixture = publish(world, random_policy());
                struct learned_table table = {};
                struct explain_input input = {
                        .compiled = fixture.compiled, .learned = table_find, .learned_context = &table, .now_ns = NOW};

                random_learned(world, &fixture, &table);
                for (unsigned f = 0; f < FLOWS; f++) {
                        struct flow flow = random_flow();
                        struct verdict asked, told;
                        char text[ADDRESS_TEXT_MAX];

                        /* a learned address is met more often than chance would have it */
                        if (table.n && rand() % 3 == 0)
                                flow.remote = table.entries[(size_t)rand() % table.n].address;
                        input.word_flags = fixture.compiled->word_flags | (rand() % 20 == 0 ? WORD_QUARANTINE : 0);
                        asked = kernel(world, AGENT, WORD_MAKE(1, fixture.version, input.word_flags), NOW, &flow);
                        policy_explain(&input, &flow, &told);
                        if (asked.action != told.action || asked.reason != told.reason || asked.rule != told.rule ||
                            asked.expires_ns != told.expires_ns)
                                fail_msg("policy %u flow %u: %s port %u protocol %u flags %u: kernel %u %s %u, explain "
                                         "%u %s %u",
                                         p, f, address_format(&flow.remote, text), flow.port, flow.protocol, flow.flags,
                                         asked.action, verdict_reason_to_string(asked.reason), asked.rule, told.action,
                                         verdict_reason_to_string(told.reason), told.rule);
                        allowed += asked.action == ALLOW;
                        reasons[asked.reason % REASON_MAX]++;
                }
                for (size_t i = 0; i < table.n; i++) {
                        (void)datapath_learned_remove(world->datapath, AGENT, &table.entries[i].address);
                        free(table.entries[i].list);
                }
                withdraw(world, &fixture);
        }

        /* Random cases that never reach a branch would prove nothing. */
        assert_true(allowed > POLICIES * FLOWS / 20);
        assert_true(reasons[REASON_DENY_RULE] > 100 && reasons[REASON_NO_RULE] > 100 && reasons[REASON_METADATA] > 100);
        assert_true(reasons[REASON_EXPIRED] > 10 && reasons[REASON_FRAGMENT] > 10 && reasons[REASON_LOOPBACK] > 10);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(verdicts_come_in_the_order_of_the_engine),
                cmocka_unit_test(a_word_without_a_version_denies_everything),
                cmocka_unit_test(a_version_that_nobody_added_allows_nothing),
                cmocka_unit_test(a_learned_address_serves_two_versions_and_no_third),
                cmocka_unit_test(explain_tells_what_the_kernel_does),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
