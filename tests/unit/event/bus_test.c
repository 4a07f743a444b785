/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The bus: sequence, history, filters, and that every receiver is told what it has lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentd/event/bus.h"
#include "agentd/util/macro.h"

struct room {
        uv_loop_t loop;
        struct event_bus *bus;
};

static int set_up(void **state)
{
        struct room *room = calloc(1, sizeof(*room));

        assert_int_equal(uv_loop_init(&room->loop), 0);
        assert_int_equal(event_bus_new(&room->loop, &room->bus), 0);
        *state = room;
        return 0;
}

static int tear_down(void **state)
{
        struct room *room = *state;

        event_bus_free(room->bus);
        uv_run(&room->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&room->loop), 0);
        free(room);
        return 0;
}

struct received {
        size_t n;
        size_t refuse; /* so many of the next ones */
        __u64 counted, lost;
        struct event last;
        char line[EVENT_LINE_MAX];
        struct event_bus *bus; /* unsubscribes from inside its callback when set */
        struct event_subscriber *subscriber;
};

static bool receive(void *context, const struct event *event, const char *line)
{
        struct received *received = context;

        if (received->bus) {
                event_bus_unsubscribe(received->bus, received->subscriber);
                received->bus = NULL;
        }
        if (received->refuse > 0) {
                received->refuse--;
                return false;
        }
        received->n++;
        received->counted += event->count;
        received->lost += event->lost_before;
        received->last = *event;
        strcpy(received->line, line);
        return true;
}

static struct event deny_at(__u16 port)
{
        struct event event = {.type = EVENT_DENY,
                              .agent = "a",
                              .reason = REASON_NO_RULE,
                              .ip_protocol = IPPROTO_TCP,
                              .has_destination = true,
                              .destination_port = port,
                              .count = 1,
                              .time_ns = 1000u + port};

        assert_int_equal(address_parse("192.0.2.1", &event.destination), 0);
        return event;
}

static const struct event_filter all = {.type = -1, .reason = -1};

static void repeats_reach_receivers_as_one_sum(void **state)
{
        struct room *room = *state;
        struct received received = {0};
        struct event_subscriber *subscriber;
        struct event_statistics statistics;
        struct event event = deny_at(443);

        assert_int_equal(event_bus_subscribe(room->bus, &all, receive, &received, &subscriber), 0);
        for (int i = 0; i < 1000; i++)
                event_bus_publish(room->bus, &event);
        assert_int_equal(received.n, 1);
        assert_int_equal(received.last.count, 1);
        assert_int_equal(received.last.sequence, 1);
        event_bus_flush(room->bus);
        assert_int_equal(received.n, 2);
        assert_int_equal(received.last.count, 999);
        assert_int_equal(received.last.sequence, 2);
        event_bus_statistics(room->bus, &statistics);
        assert_int_equal(statistics.total[EVENT_DENY], 1000);
}

static void the_timer_ends_the_second(void **state)
{
        struct room *room = *state;
        struct received received = {0};
        struct event_subscriber *subscriber;
        struct event event = deny_at(443);

        assert_int_equal(event_bus_subscribe(room->bus, &all, receive, &received, &subscriber), 0);
        event_bus_publish(room->bus, &event);
        event_bus_publish(room->bus, &event);
        /* A second later, without waiting for it. */
        room->loop.time += 1000;
        event_bus_publish(room->bus, &event);
        /* The sum of the old second, then the first of the new one. */
        assert_int_equal(received.n, 3);
        assert_int_equal(received.counted, 3);
        assert_int_equal(received.last.count, 1);
}

static void what_never_reached_us_is_told_in_the_next_event(void **state)
{
        struct room *room = *state;
        struct received received = {0};
        struct event_subscriber *subscriber;
        struct event_statistics statistics;
        struct event event = deny_at(1);

        assert_int_equal(event_bus_subscribe(room->bus, &all, receive, &received, &subscriber), 0);
        event_bus_lost(room->bus, "ring", 7);
        event_bus_publish(room->bus, &event);
        assert_int_equal(received.last.lost_before, 7);
        assert_non_null(strstr(received.line, "\"lost_before\":7"));
        event = deny_at(2);
        event_bus_publish(room->bus, &event);
        assert_int_equal(received.last.lost_before, 0);
        event_bus_statistics(room->bus, &statistics);
        assert_int_equal(statistics.lost_ring, 7);
}

static void a_slow_subscriber_loses_its_own_and_is_told_how_many(void **state)
{
        struct room *room = *state;
        struct received slow = {.refuse = 5}, quick = {0};
        struct event_subscriber *subscribers[2];
        struct event_statistics statistics;

        assert_int_equal(event_bus_subscribe(room->bus, &all, receive, &slow, &subscribers[0]), 0);
        assert_int_equal(event_bus_subscribe(room->bus, &all, receive, &quick, &subscribers[1]), 0);
        for (__u16 port = 0; port < 10; port++) {
                struct event event = deny_at(port);

                event_bus_publish(room->bus, &event);
        }
        assert_int_equal(quick.n, 10);
        assert_int_equal(quick.lost, 0);
        assert_int_equal(slow.n, 5);
        assert_int_equal(slow.lost, 5);
        event_bus_statistics(room->bus, &statistics);
        assert_int_equal(statistics.lost_subscribers, 5);
}

static void the_sink_is_told_what_it_has_lost(void **state)
{
        struct room *room = *state;
        struct event_statistics statistics;
        struct event event = deny_at(1);
        char path[] = "/tmp/agentd-bus.XXXXXX", line[2 * EVENT_LINE_MAX];
        int fd = mkstemp(path);
        FILE *file;

        assert_int_equal(event_bus_set_sink(room->bus, "/dev/full"), 0);
        for (__u16 port = 1; port <= 3; port++) {
                event = deny_at(port);
                event_bus_publish(room->bus, &event);
        }
        event_bus_statistics(room->bus, &statistics);
        assert_int_equal(statistics.lost_sink, 3);
        /* A sink that cannot be had leaves the old one in place. */
        assert_true(event_bus_set_sink(room->bus, "/tmp") < 0);
        assert_int_equal(event_bus_set_sink(room->bus, path), 0);
        event = deny_at(4);
        event_bus_publish(room->bus, &event);
        event = deny_at(5);
        event_bus_publish(room->bus, &event);
        event_bus_flush(room->bus);
        file = fdopen(fd, "r");
        assert_non_null(fgets(line, sizeof(line), file));
        assert_non_null(strstr(line, "\"seq\":4,"));
        assert_non_null(strstr(line, "\"lost_before\":3}\n"));
        assert_non_null(fgets(line, sizeof(line), file));
        assert_non_null(strstr(line, "\"lost_before\":0}\n"));
        fclose(file);
        unlink(path);
}

static void filters_hold_for_subscribers_and_history(void **state)
{
        static const struct {
                struct event_filter filter;
                size_t expected;
        } cases[] = {
                {{.type = -1, .reason = -1}, 4},
                {{.agent = "a", .type = -1, .reason = -1}, 3},
                {{.agent = "nobody", .type = -1, .reason = -1}, 0},
                {{.type = EVENT_DENY, .reason = -1}, 2},
                {{.type = EVENT_DENY, .reason = REASON_METADATA}, 1},
                {{.type = -1, .reason = REASON_NO_RULE}, 1},
                {{.type = -1, .reason = -1, .since_ns = 3000}, 2},
                {{.agent = "b", .type = EVENT_LIFECYCLE, .reason = -1}, 1},
        };
        struct event events[4] = {deny_at(1),
                                  deny_at(2),
                                  {.type = EVENT_DRIFT, .agent = "a", .time_ns = 3000},
                                  {.type = EVENT_LIFECYCLE, .agent = "b", .time_ns = 4000}};
        struct received live[ARRAY_SIZE(cases)] = {0};
        struct room *room = *state;

        events[1].reason = REASON_METADATA;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                assert_int_equal(
                        event_bus_subscribe(room->bus, &cases[i].filter, receive, &live[i], &live[i].subscriber), 0);
        for (size_t i = 0; i < ARRAY_SIZE(events); i++)
                event_bus_publish(room->bus, &events[i]);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct received past = {0};

                assert_int_equal(live[i].n, cases[i].expected);
                event_bus_history(room->bus, &cases[i].filter, SIZE_MAX, receive, &past);
                assert_int_equal(past.n, cases[i].expected);
        }
}

static void history_gives_the_newest_oldest_first_and_is_bounded(void **state)
{
        struct room *room = *state;
        struct received past = {0};

        for (unsigned i = 0; i < 5000; i++) {
                struct event event = {.type = EVENT_AUDIT, .agent = "a", .time_ns = i + 1};

                event_bus_publish(room->bus, &event);
        }
        event_bus_history(room->bus, &all, SIZE_MAX, receive, &past);
        assert_int_equal(past.n, 4096);
        assert_int_equal(past.last.sequence, 5000);
        past = (struct received){0};
        event_bus_history(room->bus, &all, 1, receive, &past);
        assert_int_equal(past.n, 1);
        assert_int_equal(past.last.sequence, 5000);
        past = (struct received){.refuse = 1};
        event_bus_history(room->bus, &all, 3, receive, &past);
        assert_int_equal(past.n, 0);
        past = (struct received){0};
        event_bus_history(room->bus, &all, 0, receive, &past);
        assert_int_equal(past.n, 0);
}

static void a_subscriber_may_leave_from_inside_its_callback(void **state)
{
        struct room *room = *state;
        struct received leaving = {.bus = room->bus}, staying = {0};
        struct event_subscriber *subscriber;

        assert_int_equal(event_bus_subscribe(room->bus, &all, receive, &leaving, &leaving.subscriber), 0);
        assert_int_equal(event_bus_subscribe(room->bus, &all, receive, &staying, &subscriber), 0);
        for (__u16 port = 1; port <= 3; port++) {
                struct event event = deny_at(port);

                event_bus_publish(room->bus, &event);
        }
        assert_int_equal(leaving.n, 1);
        assert_int_equal(staying.n, 3);
        event_bus_unsubscribe(room->bus, subscriber);
        event_bus_unsubscribe(room->bus, NULL);
}

static void events_without_a_time_get_one(void **state)
{
        struct room *room = *state;
        struct received past = {0};
        struct event event = {.type = EVENT_LIFECYCLE};

        event_bus_publish(room->bus, &event);
        event.type = EVENT_TYPE_MAX; /* none at all */
        event_bus_publish(room->bus, &event);
        event_bus_history(room->bus, &all, SIZE_MAX, receive, &past);
        assert_int_equal(past.n, 1);
        assert_true(past.last.time_ns > 1600000000ull * NSEC_PER_SEC);
}

static void the_bus_keeps_no_loop_alive(void **state)
{
        struct room *room = *state;
        struct received past = {0};
        struct event event = deny_at(443);

        event_bus_publish(room->bus, &event);
        event_bus_publish(room->bus, &event);
        assert_int_equal(uv_run(&room->loop, UV_RUN_DEFAULT), 0);
        /* It did not even wait for the second's end. */
        event_bus_history(room->bus, &all, SIZE_MAX, receive, &past);
        assert_int_equal(past.n, 1);
}

#define bus_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                bus_test(repeats_reach_receivers_as_one_sum),
                bus_test(the_timer_ends_the_second),
                bus_test(what_never_reached_us_is_told_in_the_next_event),
                bus_test(a_slow_subscriber_loses_its_own_and_is_told_how_many),
                bus_test(the_sink_is_told_what_it_has_lost),
                bus_test(filters_hold_for_subscribers_and_history),
                bus_test(history_gives_the_newest_oldest_first_and_is_bounded),
                bus_test(a_subscriber_may_leave_from_inside_its_callback),
                bus_test(events_without_a_time_get_one),
                bus_test(the_bus_keeps_no_loop_alive),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
