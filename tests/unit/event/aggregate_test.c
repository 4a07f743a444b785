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

/* What comes in has the agent for a destination: it is told apart by who sends it. */
static void knocks_are_summed_by_who_knocks(void **state)
{
        _cleanup_(aggregate_freep) struct aggregate *aggregate = NULL;
        struct event base = deny_of("10.200.1.20", 22), other;

        assert_int_equal(aggregate_new(&aggregate), 0);
        base.direction = DIRECTION_INGRESS;
        base.reason = REASON_INGRESS;
        base.has_source = true;
        base.source_port = 40000;
        assert_int_equal(address_parse("192.0.2.1", &base.source), 0);
        other = base;
        assert_int_equal(address_parse("192.0.2.2", &other.source), 0);
        assert_true(aggregate_add(aggregate, &base, 0));
        assert_true(aggregate_add(aggregate, &other, 0));
        base.source_port++; /* another try of the same one */
        assert_false(aggregate_add(aggregate, &base, 0));
        assert_false(aggregate_add(aggregate, &other, 0));

        /* On the way out the source is the agent, and its port is chosen anew each time. */
        base.direction = other.direction = DIRECTION_EGRESS;
        assert_true(aggregate_add(aggregate, &base, 0));
        assert_false(aggregate_add(aggregate, &other, 0));
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

static void a_flood_of_destinations_is_bounded_and_its_rest_is_one_sum(void **state)
{
        _cleanup_(aggregate_freep) struct aggregate *aggregate = NULL;
        struct event event = deny_of("192.0.2.1", 0);
        struct sums sums = {0};
        __u64 out = 0;

        strcpy(event.policy, "p");
        strcpy(event.comm, "curl");
        strcpy(event.name, "a.example");
        strcpy(event.rule, "r");
        event.pid = 7;
        event.flow = 9;
        event.has_source = true;
        event.source_port = 9;
        assert_int_equal(aggregate_new(&aggregate), 0);
        for (unsigned i = 0; i < 50000; i++) {
                event.destination_port = (__u16)i;
                event.time_ns = i;
                event.lost_before = i == 40000 ? 3 : 0;
                out += aggregate_add(aggregate, &event, 10 + i / 100);
        }
        assert_int_equal(out, AGGREGATE_PER_AGENT);
        aggregate_end(aggregate, UINT64_MAX, take_sum, &sums);
        assert_int_equal(sums.n, 1);
        assert_int_equal(sums.counted, 50000 - AGGREGATE_PER_AGENT);
        assert_int_equal(sums.bytes, (50000 - AGGREGATE_PER_AGENT) * 60);
        assert_int_equal(sums.lost, 3);
        assert_string_equal(sums.last.agent, "a");
        assert_string_equal(sums.last.policy, "p");
        assert_int_equal(sums.last.type, EVENT_DENY);
        assert_int_equal(sums.last.reason, REASON_NO_RULE);
        assert_int_equal(sums.last.ip_protocol, IPPROTO_TCP);
        assert_int_equal(sums.last.time_ns, 49999);
        assert_false(sums.last.has_destination || sums.last.has_source);
        assert_int_equal(sums.last.destination_port + sums.last.source_port, 0);
        assert_true(sums.last.pid == 0 && sums.last.flow == 0 && sums.last.name[0] == '\0');
        assert_true(sums.last.comm[0] == '\0' && sums.last.rule[0] == '\0');
        assert_string_equal(sums.last.detail, "more destinations than can be told apart: 49744 packets or calls");
        /* The next second begins anew. */
        assert_true(aggregate_add(aggregate, &event, 5000));
}

static void a_flood_keeps_reasons_and_protocols_apart(void **state)
{
        static const struct {
                enum event_type type;
                enum verdict_reason reason;
                __u8 protocol;
                enum direction direction;
        } kinds[] = {
                {EVENT_DENY, REASON_NO_RULE, IPPROTO_TCP, DIRECTION_EGRESS},
                {EVENT_DENY, REASON_NO_RULE, IPPROTO_UDP, DIRECTION_EGRESS},
                {EVENT_DENY, REASON_DENY_RULE, IPPROTO_UDP, DIRECTION_EGRESS},
                {EVENT_WOULD_DENY, REASON_NO_RULE, IPPROTO_UDP, DIRECTION_EGRESS},
                {EVENT_DENY, REASON_INGRESS, IPPROTO_TCP, DIRECTION_INGRESS},
                {EVENT_DNS, REASON_NAME_NOT_ALLOWED, IPPROTO_UDP, DIRECTION_EGRESS},
        };
        _cleanup_(aggregate_freep) struct aggregate *aggregate = NULL;
        struct event event = deny_of("192.0.2.1", 0);
        struct sums sums = {0};

        assert_int_equal(aggregate_new(&aggregate), 0);
        for (unsigned i = 0; i < AGGREGATE_PER_AGENT; i++) {
                event.destination_port = (__u16)i;
                assert_true(aggregate_add(aggregate, &event, 0));
        }
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
                for (unsigned j = 0; j < 10; j++) {
                        event.type = kinds[i].type;
                        event.reason = kinds[i].reason;
                        event.ip_protocol = kinds[i].protocol;
                        event.direction = kinds[i].direction;
                        event.destination_port = (__u16)(1000 + j);
                        snprintf(event.name, sizeof(event.name), "%u.example", j);
                        assert_false(aggregate_add(aggregate, &event, 1));
                }
        aggregate_end(aggregate, 1000, take_sum, &sums);
        assert_int_equal(sums.n, 0);
        aggregate_end(aggregate, 1001, take_sum, &sums);
        assert_int_equal(sums.n, ARRAY_SIZE(kinds));
        assert_int_equal(sums.counted, ARRAY_SIZE(kinds) * 10);
        assert_string_equal(sums.last.detail, "more names than can be told apart: 10 look-ups");
}

static void a_flood_of_one_agent_leaves_the_others_as_they_are(void **state)
{
        _cleanup_(aggregate_freep) struct aggregate *aggregate = NULL;
        struct event flood = deny_of("192.0.2.1", 0), other = deny_of("198.51.100.1", 443);

        strcpy(other.agent, "b");
        assert_int_equal(aggregate_new(&aggregate), 0);
        for (unsigned i = 0; i < 60000; i++) {
                flood.destination_port = (__u16)i;
                aggregate_add(aggregate, &flood, 0);
        }
        for (unsigned i = 0; i < AGGREGATE_PER_AGENT; i++) {
                other.destination_port = (__u16)i;
                assert_true(aggregate_add(aggregate, &other, 1));
                assert_false(aggregate_add(aggregate, &other, 1));
        }
        other.destination_port = AGGREGATE_PER_AGENT;
        assert_false(aggregate_add(aggregate, &other, 1));
}

/* More agents than there is room for, each with everything that it can vary. */
static void a_flood_of_all_agents_is_bounded_and_counted(void **state)
{
        enum { AGENTS = 20000, EACH = 40 };
        _cleanup_(aggregate_freep) struct aggregate *aggregate = NULL;
        struct event event = deny_of("192.0.2.1", 0);
        struct sums sums = {0};
        __u64 out = 0;

        assert_int_equal(aggregate_new(&aggregate), 0);
        for (unsigned round = 0; round < 3; round++) {
                sums = (struct sums){0};
                out = 0;
                for (unsigned i = 0; i < AGENTS * EACH; i++) {
                        snprintf(event.agent, sizeof(event.agent), "agent-%u", i % AGENTS);
                        event.destination_port = (__u16)i;
                        event.ip_protocol = (__u8)(i / AGENTS);
                        out += aggregate_add(aggregate, &event, round * 5000ull);
                }
                assert_int_equal(out, AGGREGATE_MAX);
                aggregate_end(aggregate, round * 5000ull + AGGREGATE_MS, take_sum, &sums);
                assert_int_equal(out + sums.counted, AGENTS * EACH);
                assert_int_equal(sums.bytes, (AGENTS * EACH - out) * 60);
                assert_in_range(sums.n, 1, AGGREGATE_MAX);
                assert_string_equal(sums.last.agent, "");
                assert_non_null(strstr(sums.last.detail, "more agents than can be told apart: "));
        }
        assert_true(aggregate_next_ms(aggregate) == UINT64_MAX);
}

/* An agent that opens sockets of every protocol for every reason. */
static void coarse_keys_of_one_agent_are_bounded_too(void **state)
{
        _cleanup_(aggregate_freep) struct aggregate *aggregate = NULL;
        struct event event = deny_of("192.0.2.1", 0);
        struct sums sums = {0};
        __u64 out = 0;

        assert_int_equal(aggregate_new(&aggregate), 0);
        for (unsigned i = 0; i < 100000; i++) {
                event.destination_port = (__u16)i;
                event.ip_protocol = (__u8)i;
                event.reason = (enum verdict_reason)(1 + i / 256 % 10);
                out += aggregate_add(aggregate, &event, 0);
        }
        assert_int_equal(out, AGGREGATE_PER_AGENT);
        aggregate_end(aggregate, UINT64_MAX, take_sum, &sums);
        assert_int_equal(out + sums.counted, 100000);
        assert_in_range(sums.n, 2, AGGREGATE_PER_AGENT + 64);
}

static __u64 random_next(__u64 *random)
{
        *random = *random * 6364136223846793005ull + 1442695040888963407ull;
        return *random >> 33;
}

static void a_random_flood_is_counted_exactly(void **state)
{
        static const enum event_type types[] = {EVENT_DENY, EVENT_WOULD_DENY, EVENT_DNS};
        _cleanup_(aggregate_freep) struct aggregate *aggregate = NULL;
        struct sums sums = {0};
        __u64 in = 0, in_bytes = 0, out_bytes = 0, random = 7, now = 0;

        assert_int_equal(aggregate_new(&aggregate), 0);
        for (unsigned i = 0; i < 400000; i++) {
                struct event event = deny_of("192.0.2.1", (__u16)random_next(&random));

                event.type = types[random_next(&random) % ARRAY_SIZE(types)];
                snprintf(event.agent, sizeof(event.agent), "agent-%u",
                         (unsigned)(random_next(&random) % (1u << random_next(&random) % 16)));
                event.destination.words[3] = (__u32)random_next(&random);
                event.has_destination = random_next(&random) % 4 != 0;
                event.direction = random_next(&random) % 2 ? DIRECTION_EGRESS : DIRECTION_INGRESS;
                event.ip_protocol = (__u8)random_next(&random);
                event.bytes = random_next(&random) % 1500;
                event.count = random_next(&random) % 3;
                in += event.count ? event.count : 1;
                in_bytes += event.bytes;
                now += random_next(&random) % 64 == 0;
                if (now >= aggregate_next_ms(aggregate))
                        aggregate_end(aggregate, now, take_sum, &sums);
                if (aggregate_add(aggregate, &event, now)) {
                        sums.counted += event.count ? event.count : 1;
                        out_bytes += event.bytes;
                }
        }
        aggregate_end(aggregate, UINT64_MAX, take_sum, &sums);
        assert_int_equal(sums.counted, in);
        assert_int_equal(sums.bytes + out_bytes, in_bytes);
        assert_true(aggregate_next_ms(aggregate) == UINT64_MAX);
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
                cmocka_unit_test(knocks_are_summed_by_who_knocks),
                cmocka_unit_test(what_is_no_traffic_is_never_summed),
                cmocka_unit_test(a_flood_of_destinations_is_bounded_and_its_rest_is_one_sum),
                cmocka_unit_test(a_flood_keeps_reasons_and_protocols_apart),
                cmocka_unit_test(a_flood_of_one_agent_leaves_the_others_as_they_are),
                cmocka_unit_test(a_flood_of_all_agents_is_bounded_and_counted),
                cmocka_unit_test(coarse_keys_of_one_agent_are_bounded_too),
                cmocka_unit_test(a_random_flood_is_counted_exactly),
                cmocka_unit_test(no_event_is_lost_or_counted_twice_over_many_seconds),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
