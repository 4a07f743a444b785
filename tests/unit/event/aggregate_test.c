/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sums of a second: nothing is counted twice, nothing is forgotten, whatever comes in whatever order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "agentd/event/aggregate.h"
#include "agentd/util/macro.h"

struct sums {
        size_t n;
        __u64 counted, bytes, lost;
        struct event last;
};

static void take_sum(void *context, const struct event *event)
{
        struct sums *sums = context;

        sums->n++;
        sums->counted += event->count;
        sums->bytes += event->bytes;
        sums->lost += event->lost_before;
        sums->last = *event;
}

static struct event deny_of(const char *destination, __u16 port)
{
        struct event event = {.type = EVENT_DENY,
                              .agent = "a",
                              .reason = REASON_NO_RULE,
                              .ip_protocol = IPPROTO_TCP,
                              .has_destination = true,
                              .destination_port = port,
                              .bytes = 60,
                              .count = 1};

        assert_int_equal(address_parse(destination, &event.destination), 0);
        return event;
}

static void the_first_goes_out_at_once_and_the_rest_as_one(void **state)
{
        _cleanup_(aggregate_freep) struct aggregate *aggregate = NULL;
        struct event event = deny_of("192.0.2.1", 443);
        struct sums sums = {0};

        assert_int_equal(aggregate_new(&aggregate), 0);
        assert_true(aggregate_add(aggregate, &event, 1000));
        for (int i = 0; i < 99; i++) {
                event.time_ns = (__u64)i;
                event.lost_before = i == 7 ? 5 : 0;
                assert_false(aggregate_add(aggregate, &event, 1000 + (__u64)i * 10));
        }
        aggregate_end(aggregate, 1999, take_sum, &sums);
        assert_int_equal(sums.n, 0);
        assert_int_equal(aggregate_next_ms(aggregate), 2000);
        aggregate_end(aggregate, 2000, take_sum, &sums);
        assert_int_equal(sums.n, 1);
        assert_int_equal(sums.counted, 99);
        assert_int_equal(sums.bytes, 99 * 60);
        assert_int_equal(sums.lost, 5);
        assert_int_equal(sums.last.time_ns, 98);
        assert_true(aggregate_next_ms(aggregate) == UINT64_MAX);
}

static void one_alone_makes_no_sum(void **state)
{
        _cleanup_(aggregate_freep) struct aggregate *aggregate = NULL;
        struct event event = deny_of("192.0.2.1", 443);
        struct sums sums = {0};

        assert_int_equal(aggregate_new(&aggregate), 0);
        assert_true(aggregate_add(aggregate, &event, 0));
        aggregate_end(aggregate, 5000, take_sum, &sums);
        assert_int_equal(sums.n, 0);
        /* The next second begins anew. */
        assert_true(aggregate_add(aggregate, &event, 5000));
        assert_false(aggregate_add(aggregate, &event, 5001));
}

static void what_differs_in_the_key_is_not_summed(void **state)
{
        _cleanup_(aggregate_freep) struct aggregate *aggregate = NULL;
        struct event base = deny_of("192.0.2.1", 443), event;

        assert_int_equal(aggregate_new(&aggregate), 0);
        assert_true(aggregate_add(aggregate, &base, 0));
#define DIFFERS(change)                                            \
        do {                                                       \
                event = base;                                      \
                change;                                            \
                assert_true(aggregate_add(aggregate, &event, 0));  \
                assert_false(aggregate_add(aggregate, &event, 0)); \
        } while (0)
        DIFFERS(event.type = EVENT_WOULD_DENY);
        DIFFERS(strcpy(event.agent, "b"));
        DIFFERS(event.reason = REASON_DENY_RULE);
        DIFFERS(event.destination.bytes[15] = 2);
        DIFFERS(event.destination.bytes[0] = 0x20);
        DIFFERS(event.destination_port = 80);
        DIFFERS(event.ip_protocol = IPPROTO_UDP);
        DIFFERS(event.direction = DIRECTION_INGRESS);
        DIFFERS(event.has_destination = false);
        DIFFERS(event.type = EVENT_DNS; strcpy(event.name, "one.example"));
        DIFFERS(event.type = EVENT_DNS; strcpy(event.name, "two.example"));
        /* A name refused in audit mode has no address either. */
        DIFFERS(event.type = EVENT_WOULD_DENY; event.has_destination = false; strcpy(event.name, "one.example"));
        DIFFERS(event.type = EVENT_WOULD_DENY; event.has_destination = false; strcpy(event.name, "two.example"));
#undef DIFFERS
        /* And what is not of the key is. */
        event = base;
        event.pid = 7;
        event.hook = HOOK_EGRESS;
        event.source_port = 9;
        strcpy(event.comm, "other");
        assert_false(aggregate_add(aggregate, &event, 0));
}

static void what_is_no_traffic_is_never_summed(void **state)
{
        static const enum event_type types[] = {EVENT_BUDGET, EVENT_LEARN, EVENT_DRIFT, EVENT_LIFECYCLE, EVENT_AUDIT};
        _cleanup_(aggregate_freep) struct aggregate *aggregate = NULL;

        assert_int_equal(aggregate_new(&aggregate), 0);
        for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
                struct event event = {.type = types[i], .agent = "a"};

                assert_true(aggregate_add(aggregate, &event, 0));
                assert_true(aggregate_add(aggregate, &event, 0));
        }
        assert_true(aggregate_next_ms(aggregate) == UINT64_MAX);
}

static void a_full_table_lets_events_out_by_themselves(void **state)
{
        _cleanup_(aggregate_freep) struct aggregate *aggregate = NULL;
        struct event event = deny_of("192.0.2.1", 0);
        struct sums sums = {0};
        __u64 out = 0;

        assert_int_equal(aggregate_new(&aggregate), 0);
        /* Three of each of twice as many keys as fit. */
        for (int round = 0; round < 3; round++)
                for (unsigned i = 0; i < 2 * AGGREGATE_MAX; i++) {
                        event.destination_port = (__u16)i;
                        out += aggregate_add(aggregate, &event, 10);
                }
        aggregate_end(aggregate, UINT64_MAX, take_sum, &sums);
        assert_int_equal(sums.n, AGGREGATE_MAX);
        assert_int_equal(out + sums.counted, 3 * 2 * AGGREGATE_MAX);
}

static void no_event_is_lost_or_counted_twice_over_many_seconds(void **state)
{
        _cleanup_(aggregate_freep) struct aggregate *aggregate = NULL;
        struct event event = deny_of("192.0.2.1", 0);
        struct sums sums = {0};
        __u64 out = 0, in = 0, random = 1;

        assert_int_equal(aggregate_new(&aggregate), 0);
        for (__u64 now = 0; now < 20000; now++)
                for (int i = 0; i < 10; i++) {
                        random = random * 6364136223846793005ull + 1442695040888963407ull;
                        event.destination_port = (__u16)((random >> 33) % 6000);
                        if (random >> 60 == 0)
                                aggregate_end(aggregate, now, take_sum, &sums);
                        in++;
                        out += aggregate_add(aggregate, &event, now);
                }
        aggregate_end(aggregate, UINT64_MAX, take_sum, &sums);
        assert_int_equal(out + sums.counted, in);
        assert_true(aggregate_next_ms(aggregate) == UINT64_MAX);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_first_goes_out_at_once_and_the_rest_as_one),
                cmocka_unit_test(one_alone_makes_no_sum),
                cmocka_unit_test(what_differs_in_the_key_is_not_summed),
                cmocka_unit_test(what_is_no_traffic_is_never_summed),
                cmocka_unit_test(a_full_table_lets_events_out_by_themselves),
                cmocka_unit_test(no_event_is_lost_or_counted_twice_over_many_seconds),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
