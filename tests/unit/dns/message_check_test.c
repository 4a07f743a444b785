/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every field that a worker could set wrong, one at a time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "agentd/dns/message_check.h"
#include "agentd/util/macro.h"

static const union message learn = {.learn = {.header = {MESSAGE_LEARN, sizeof(learn.learn), 1},
                                              .agent_id = 1,
                                              .policy_id = 1,
                                              .n_addresses = 1,
                                              .name = "a.example"}};
static const union message refused = {.refused = {.header = {MESSAGE_REFUSED, sizeof(refused.refused), 0},
                                                  .agent_id = 1,
                                                  .reason = REASON_NAME_NOT_ALLOWED,
                                                  .ip_protocol = IPPROTO_UDP,
                                                  .name = "a?.example"}};
static const union message resolved = {
        .resolved = {.header = {MESSAGE_RESOLVED, sizeof(resolved.resolved), 1}, .policy_id = 1, .name = "a.example"}};
static const union message ask = {.ask_upstream = {.header = {MESSAGE_ASK_UPSTREAM, sizeof(ask.ask_upstream), 1},
                                                   .agent_id = 1,
                                                   .listener_id = 1,
                                                   .ip_protocol = IPPROTO_TCP}};
static const union message statistics = {
        .statistics = {.header = {MESSAGE_STATISTICS, sizeof(statistics.statistics)}, .agent_id = AGENT_MAX - 1}};
static const union message alive = {.header = {MESSAGE_ALIVE, sizeof(alive.header)}};

static void takes_what_a_worker_sends(void **state)
{
        const union message *const good[] = {&learn, &refused, &resolved, &ask, &statistics, &alive};
        union message message = learn;

        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_int_equal(message_check_from_worker(good[i]), 0);
        message.learn.agent_id = 0; /* for a policy */
        message.learn.n_addresses = MESSAGE_ADDRESSES_MAX;
        assert_int_equal(message_check_from_worker(&message), 0);
        message = refused;
        memset(message.refused.name, 0, NAME_MAX_BYTES); /* nothing could be read */
        message.refused.reason = REASON_MALFORMED;
        assert_int_equal(message_check_from_worker(&message), 0);
}

#define BAD(base, change)                                              \
        do {                                                           \
                union message message = base;                          \
                change;                                                \
                if (message_check_from_worker(&message) != -EBADMSG)   \
                        fail_msg("%s passes with %s", #base, #change); \
        } while (0)

static void refuses_every_field_out_of_range(void **state)
{
        BAD(learn, message.header.kind = MESSAGE_SETTINGS);
        BAD(learn, message.header.kind = MESSAGE_LEARNED);
        BAD(learn, message.learn.agent_id = AGENT_MAX);
        BAD(learn, message.learn.policy_id = 0);
        BAD(learn, message.learn.policy_id = 0x1000000);
        BAD(learn, message.learn.n_addresses = 0);
        BAD(learn, message.learn.n_addresses = MESSAGE_ADDRESSES_MAX + 1);
        BAD(learn, memset(message.learn.name, 'a', NAME_MAX_BYTES));
        BAD(learn, message.learn.name[200] = 'x');
        BAD(learn, message.learn.name[0] = 'A');
        BAD(learn, message.learn.name[1] = ' ');
        BAD(learn, message.learn.name[0] = '*');
        BAD(learn, message.learn.name[0] = '\xc3');
        BAD(learn, memcpy(message.learn.name, "a.example.", 11));
        BAD(learn, memset(message.learn.name, 0, NAME_MAX_BYTES));
        BAD(refused, message.refused.agent_id = 0);
        BAD(refused, message.refused.agent_id = AGENT_MAX);
        BAD(refused, message.refused.reason = REASON_NONE);
        BAD(refused, message.refused.reason = REASON_BUDGET_EXHAUSTED);
        BAD(refused, message.refused.reason = 255);
        BAD(refused, message.refused.would = 2);
        BAD(refused, message.refused.ip_protocol = IPPROTO_ICMP);
        BAD(refused, message.refused.name[0] = '\n');
        BAD(refused, message.refused.name[0] = '\x1b');
        BAD(refused, message.refused.name[0] = '"');
        BAD(refused, memset(message.refused.name, 'a', NAME_MAX_BYTES));
        BAD(resolved, message.resolved.error = 1);
        BAD(resolved, message.resolved.error = -4096);
        BAD(resolved, message.resolved.policy_id = 0);
        BAD(resolved, message.resolved.name[0] = '?');
        BAD(ask, message.ask_upstream.agent_id = 0);
        BAD(ask, message.ask_upstream.listener_id = 0);
        BAD(ask, message.ask_upstream.want_tcp = 2);
        BAD(ask, message.ask_upstream.ip_protocol = 0);
        BAD(statistics, message.statistics.agent_id = AGENT_MAX);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(takes_what_a_worker_sends),
                cmocka_unit_test(refuses_every_field_out_of_range),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
