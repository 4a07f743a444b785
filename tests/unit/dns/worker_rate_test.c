/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * dns.rate in the real worker (worker_rig.h): every query counts, what is over is refused and told, a change holds at
 * once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/dns/worker_setup.h"

static struct rig *started_at(void **state, __u32 burst)
{
        struct message_settings settings;
        struct rig *rig = *state;

        if (!rig)
                skip();
        settings = rig_settings(rig);
        settings.rate_interval_ns = 3600 * NSEC_PER_SEC; /* no test lasts as long */
        settings.rate_burst = burst;
        rig_start(rig, &settings, "A allowed.test\n");
        return rig;
}

static void ask(struct rig *rig, const char *name, __u16 id)
{
        client_ask(rig, &(struct question){.name = name, .type = DNS_TYPE_A, .id = id, .edns = 4096});
}

static void expect_refused(struct rig *rig, __u16 id)
{
        ldns_pkt *reply = client_reply(rig);

        assert_int_equal(ldns_pkt_id(reply), id);
        assert_int_equal(ldns_pkt_get_rcode(reply), DNS_REFUSED);
        assert_true(has_ede(reply, DNS_EDE_PROHIBITED));
        ldns_pkt_free(reply);
}

/* How many were counted as over the rate, by the worker itself. */
static __u64 statistics_rate(struct rig *rig)
{
        union message message;

        monitor_take(rig, MESSAGE_STATISTICS, &message);
        return message.statistics.outcomes[DNS_OUTCOME_RATE];
}

static void every_query_counts_and_what_is_over_is_refused_and_told(void **state)
{
        struct rig *rig = started_at(state, 3);
        union message message;

        rig_resolve(rig, "allowed.test", 1, "allowed.test. 300 IN A 192.0.2.1", 1);
        ask(rig, "other.test", 2); /* refused by its name */
        expect_reply(rig, 2, DNS_NXDOMAIN, 0);
        monitor_take(rig, MESSAGE_REFUSED, &message);
        ask(rig, "allowed.test", 3); /* from the cache */
        expect_reply(rig, 3, DNS_NOERROR, 1);

        ask(rig, "allowed.test", 4);
        expect_refused(rig, 4);
        monitor_take(rig, MESSAGE_REFUSED, &message);
        assert_int_equal(message.refused.reason, REASON_RATE_EXCEEDED);
        assert_int_equal(message.refused.would, 0);
        assert_string_equal(message.refused.name, "allowed.test");
        ask(rig, "other.test", 5);
        expect_refused(rig, 5);
        monitor_take(rig, MESSAGE_REFUSED, &message);
        while (statistics_rate(rig) != 2)
                ;
}

static void a_change_of_the_rate_holds_at_once(void **state)
{
        struct rig *rig = started_at(state, 1);
        struct message_settings settings = rig_settings(rig);

        ask(rig, "other.test", 1);
        expect_reply(rig, 1, DNS_NXDOMAIN, 0);
        ask(rig, "other.test", 2);
        expect_refused(rig, 2);
        monitor_send(rig, &settings, NULL, 0); /* none any more */
        rig_barrier(rig);
        for (__u16 id = 3; id < 50; id++) {
                ask(rig, "other.test", id);
                expect_reply(rig, id, DNS_NXDOMAIN, 0);
        }
        settings.rate_interval_ns = 3600 * NSEC_PER_SEC;
        settings.rate_burst = 2;
        monitor_send(rig, &settings, NULL, 0);
        rig_barrier(rig);
        /* One had been taken before. */
        ask(rig, "other.test", 50);
        expect_reply(rig, 50, DNS_NXDOMAIN, 0);
        ask(rig, "other.test", 51);
        expect_refused(rig, 51);
}

static void an_audit_agent_is_told_of_and_answered(void **state)
{
        struct rig *rig = started_at(state, 1);
        union message message;

        rig_agent(rig, true, false);
        rig_resolve(rig, "allowed.test", 1, "allowed.test. 300 IN A 192.0.2.1", 1);
        ask(rig, "allowed.test", 2);
        expect_reply(rig, 2, DNS_NOERROR, 1);
        monitor_take(rig, MESSAGE_REFUSED, &message);
        assert_int_equal(message.refused.reason, REASON_RATE_EXCEEDED);
        assert_int_equal(message.refused.would, 1);
}

int main(int argc, char *argv[])
{
        const struct CMUnitTest tests[] = {
                WORKER_TEST(every_query_counts_and_what_is_over_is_refused_and_told),
                WORKER_TEST(a_change_of_the_rate_holds_at_once),
                WORKER_TEST(an_audit_agent_is_told_of_and_answered),
        };

        if (argc > 1 && !strcmp(argv[1], "dns-worker"))
                return dns_worker_main(3);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
