/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The bus: aggregate, number, remember, deliver. All on the loop's thread.
 *
 * A receiver's losses are its own: they are added to lost_before of the next line that it gets, and of no other's.
 */
#include "agentd/event/bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utlist.h>

#include "agentd/event/aggregate.h"
#include "agentd/event/process_cache.h"
#include "agentd/event/sink.h"
#include "agentd/util/macro.h"

enum { HISTORY_MAX = 4096 };

struct event_subscriber {
        struct event_subscriber *prev, *next;
        struct event_filter filter;
        event_subscriber_fn function;
        void *context;
        __u64 lost;
        bool gone; /* unsubscribed while events are being delivered: freed afterwards */
};

struct event_bus {
        uv_loop_t *loop;
        uv_timer_t *timer; /* freed by its close callback */
        struct aggregate *aggregate;
        struct process_cache *processes;
        struct sink *sink;
        struct event_subscriber *subscribers;
        unsigned delivering;
        bool any_gone;
        __u64 sequence;
        __u64 ring_lost; /* for the next event */
        __u64 sink_lost; /* for the sink's next line */
        struct event_statistics statistics;
        struct event *history; /* HISTORY_MAX, a ring */
        size_t history_oldest, history_used;
};

static void on_second_end(uv_timer_t *timer);

int event_bus_new(uv_loop_t *loop, struct event_bus **ret)
{
        struct event_bus *bus = calloc(1, sizeof(*bus));

        if (!bus)
                return -ENOMEM;
        bus->loop = loop;
        bus->history = calloc(HISTORY_MAX, sizeof(*bus->history));
        bus->processes = calloc(1, sizeof(*bus->processes));
        bus->timer = malloc(sizeof(*bus->timer));
        if (!bus->history || !bus->processes || !bus->timer || aggregate_new(&bus->aggregate) < 0) {
                free(bus->timer);
                free(bus->processes);
                free(bus->history);
                free(bus);
                return -ENOMEM;
        }
        uv_timer_init(loop, bus->timer);
        uv_unref((uv_handle_t *)bus->timer);
        bus->timer->data = bus;
        *ret = bus;
        return 0;
}

static void free_closed(uv_handle_t *handle)
{
        free(handle);
}

void event_bus_free(struct event_bus *bus)
{
        struct event_subscriber *subscriber, *next;

        if (!bus)
                return;
        event_bus_flush(bus);
        uv_close((uv_handle_t *)bus->timer, free_closed);
        DL_FOREACH_SAFE(bus->subscribers, subscriber, next)
        {
                DL_DELETE(bus->subscribers, subscriber);
                free(subscriber);
        }
        sink_free(bus->sink);
        aggregate_free(bus->aggregate);
        free(bus->processes);
        free(bus->history);
        free(bus);
}

int event_bus_set_sink(struct event_bus *bus, const char *target)
{
        struct sink *sink;
        int r;

        r = sink_new(bus->loop, target, &sink);
        if (r < 0)
                return r;
        sink_free(bus->sink);
        bus->sink = sink;
        return 0;
}

int event_bus_reopen(struct event_bus *bus)
{
        return bus->sink ? sink_reopen(bus->sink) : 0;
}

static bool filter_passes(const struct event_filter *filter, const struct event *event)
{
        if (filter->agent[0] != '\0' && strncmp(filter->agent, event->agent, sizeof(filter->agent)) != 0)
                return false;
        if (filter->type >= 0 && filter->type != (int)event->type)
                return false;
        if (filter->reason >= 0 && filter->reason != (int)event->reason)
                return false;
        return event->time_ns >= filter->since_ns;
}

static void deliver_to_sink(struct event_bus *bus, struct event *event, const char *line, size_t length)
{
        char own_line[EVENT_LINE_MAX];
        __u64 before = event->lost_before, late;
        bool taken;

        late = sink_take_lost(bus->sink);
        bus->sink_lost += late;
        bus->statistics.lost_sink += late;
        if (bus->sink_lost > 0) {
                event->lost_before += bus->sink_lost;
                length = event_format_line(event, own_line);
                line = own_line;
        }
        taken = sink_write(bus->sink, event, line, length);
        event->lost_before = before;
        if (taken) {
                bus->sink_lost = 0;
        } else {
                bus->sink_lost++;
                bus->statistics.lost_sink++;
        }
}

static void deliver_to_subscriber(struct event_bus *bus, struct event_subscriber *subscriber, struct event *event,
                                  const char *line)
{
        char own_line[EVENT_LINE_MAX];
        __u64 before = event->lost_before;
        bool taken;

        if (subscriber->lost > 0) {
                event->lost_before += subscriber->lost;
                event_format_line(event, own_line);
                line = own_line;
        }
        taken = subscriber->function(subscriber->context, event, line);
        event->lost_before = before;
        if (taken) {
                subscriber->lost = 0;
        } else {
                subscriber->lost++;
                bus->statistics.lost_subscribers++;
        }
}

static void free_gone_subscribers(struct event_bus *bus)
{
        struct event_subscriber *subscriber, *next;

        if (bus->delivering > 0 || !bus->any_gone)
                return;
        DL_FOREACH_SAFE(bus->subscribers, subscriber, next)
        {
                if (!subscriber->gone)
                        continue;
                DL_DELETE(bus->subscribers, subscriber);
                free(subscriber);
        }
        bus->any_gone = false;
}

static void remember(struct event_bus *bus, const struct event *event)
{
        bus->history[(bus->history_oldest + bus->history_used) % HISTORY_MAX] = *event;
        if (bus->history_used < HISTORY_MAX)
                bus->history_used++;
        else
                bus->history_oldest = (bus->history_oldest + 1) % HISTORY_MAX;
}

static void deliver(void *context, const struct event *original)
{
        struct event_bus *bus = context;
        struct event_subscriber *subscriber;
        struct event event = *original;
        char line[EVENT_LINE_MAX];
        size_t length;

        event.sequence = ++bus->sequence;
        event.count = MAX(event.count, 1u);
        event.lost_before += bus->ring_lost;
        bus->ring_lost = 0;
        if (event.time_ns == 0) {
                struct timespec now;

                clock_gettime(CLOCK_REALTIME, &now);
                event.time_ns = (__u64)now.tv_sec * NSEC_PER_SEC + (__u64)now.tv_nsec;
        }
        process_cache_complete(bus->processes, &event, uv_now(bus->loop));
        remember(bus, &event);

        length = event_format_line(&event, line);
        bus->delivering++;
        if (bus->sink)
                deliver_to_sink(bus, &event, line, length);
        /* One that subscribes from inside a callback is appended, and gets this event too. */
        DL_FOREACH (bus->subscribers, subscriber)
                if (!subscriber->gone && filter_passes(&subscriber->filter, &event))
                        deliver_to_subscriber(bus, subscriber, &event, line);
        bus->delivering--;
        free_gone_subscribers(bus);
}

/* The timer runs only while a second does. */
static void schedule(struct event_bus *bus)
{
        __u64 next = aggregate_next_ms(bus->aggregate), now = uv_now(bus->loop);

        if (next == UINT64_MAX) {
                uv_timer_stop(bus->timer);
                return;
        }
        if (!uv_is_active((uv_handle_t *)bus->timer))
                uv_timer_start(bus->timer, on_second_end, next > now ? next - now : 0, 0);
}

static void on_second_end(uv_timer_t *timer)
{
        struct event_bus *bus = timer->data;

        aggregate_end(bus->aggregate, uv_now(bus->loop), deliver, bus);
        schedule(bus);
}

void event_bus_publish(struct event_bus *bus, const struct event *event)
{
        __u64 now = uv_now(bus->loop);

        if ((unsigned)event->type >= EVENT_TYPE_MAX)
                return;
        bus->statistics.total[event->type] += MAX(event->count, 1u);

        /* Sums first: a reader sees a second's sum before the next second's first. */
        if (aggregate_next_ms(bus->aggregate) <= now)
                aggregate_end(bus->aggregate, now, deliver, bus);
        if (aggregate_add(bus->aggregate, event, now))
                deliver(bus, event);
        schedule(bus);
}

void event_bus_lost(struct event_bus *bus, const char *where UNUSED, __u64 lost)
{
        bus->ring_lost += lost;
        bus->statistics.lost_ring += lost;
}

void event_bus_flush(struct event_bus *bus)
{
        aggregate_end(bus->aggregate, UINT64_MAX, deliver, bus);
        schedule(bus);
        if (bus->sink)
                sink_flush(bus->sink);
}

int event_bus_subscribe(struct event_bus *bus, const struct event_filter *filter, event_subscriber_fn function,
                        void *context, struct event_subscriber **ret)
{
        struct event_subscriber *subscriber = calloc(1, sizeof(*subscriber));

        if (!subscriber)
                return -ENOMEM;
        subscriber->filter = *filter;
        subscriber->function = function;
        subscriber->context = context;
        DL_APPEND(bus->subscribers, subscriber);
        *ret = subscriber;
        return 0;
}

void event_bus_unsubscribe(struct event_bus *bus, struct event_subscriber *subscriber)
{
        if (!subscriber)
                return;
        subscriber->gone = true;
        bus->any_gone = true;
        free_gone_subscribers(bus);
}

void event_bus_history(struct event_bus *bus, const struct event_filter *filter, size_t n, event_subscriber_fn function,
                       void *context)
{
        char line[EVENT_LINE_MAX];
        size_t first = bus->history_used, passing = 0;

        /* Back from the newest, until n have passed. */
        while (first > 0 && passing < n) {
                first--;
                passing += filter_passes(filter, &bus->history[(bus->history_oldest + first) % HISTORY_MAX]);
        }
        for (size_t i = first; i < bus->history_used; i++) {
                const struct event *event = &bus->history[(bus->history_oldest + i) % HISTORY_MAX];

                if (!filter_passes(filter, event))
                        continue;
                event_format_line(event, line);
                if (!function(context, event, line))
                        return;
        }
}

void event_bus_statistics(const struct event_bus *bus, struct event_statistics *ret)
{
        *ret = bus->statistics;
        /* What the sink has lost since the last event is not in the sum yet. */
        if (bus->sink)
                ret->lost_sink += sink_lost(bus->sink);
}
