/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From events to those who want them: aggregation within a second, sinks, subscribers, a short history.
 *
 * Repeats of one (type, agent, reason, destination, port, protocol) within a second are one event with a count: the
 * first is delivered at once with count 1; what follows within the second is summed and delivered at its end, as one.
 * Nothing is lost silently: what could not be delivered is counted per receiver and told in the next line's
 * lost_before. Memory is bounded.
 */
#pragma once

#include <uv.h>

#include "agentd/event/event.h"

struct event_bus;
struct event_subscriber;

int event_bus_new(uv_loop_t *loop, struct event_bus **ret);
/* Flushes first. Subscribers are gone with it. Handles are given back to the loop when it runs once more. */
void event_bus_free(struct event_bus *bus);

/* target: a path (created 0640, O_APPEND, O_NOFOLLOW), "stdout", "stderr-text" (human lines), "journal", "off", "-"
 * (stdout). 0 or -errno. */
int event_bus_set_sink(struct event_bus *bus, const char *target);
/* After rotation, or on SIGHUP: opens the file again. Also done by itself when the path's inode has changed. */
int event_bus_reopen(struct event_bus *bus);

/* Copies. Sets sequence, and exe where a pid is given and exe is empty (once per process, not per event). time_ns 0:
 * now.
 */
void event_bus_publish(struct event_bus *bus, const struct event *event);
/* lost: records that never reached us (ring full): told in the next event. where: "ring", ... (static) */
void event_bus_lost(struct event_bus *bus, const char *where, __u64 lost);
void event_bus_flush(struct event_bus *bus); /* ends the running second now, and writes it */

/* line: JSON without newline. Returns false when the subscriber cannot take it now (counted as lost for it). */
typedef bool (*event_subscriber_fn)(void *context, const struct event *event, const char *line);
struct event_filter {
        char agent[AGENT_NAME_MAX]; /* "": any */
        int type;                   /* enum event_type or -1 */
        int reason;                 /* enum verdict_reason or -1 */
        __u64 since_ns;             /* CLOCK_REALTIME */
};
int event_bus_subscribe(struct event_bus *bus, const struct event_filter *filter, event_subscriber_fn function,
                        void *context, struct event_subscriber **ret);
void event_bus_unsubscribe(struct event_bus *bus, struct event_subscriber *subscriber);
/* The newest n events of the history (at most 4096 are kept) that pass the filter, oldest first. */
void event_bus_history(struct event_bus *bus, const struct event_filter *filter, size_t n, event_subscriber_fn function,
                       void *context);

struct event_statistics {
        __u64 total[EVENT_TYPE_MAX];                  /* sum of counts */
        __u64 lost_ring, lost_sink, lost_subscribers; /* events, not counts; ring: everything of event_bus_lost() */
};
void event_bus_statistics(const struct event_bus *bus, struct event_statistics *ret);
