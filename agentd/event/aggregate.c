/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A hash table whose entries stand in a ring, oldest first. The hash is keyed by a random number: the agent chooses
 * destinations and ports, and must not choose collisions.
 */
#include "agentd/event/aggregate.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agentd/util/macro.h"

enum { BUCKETS = 2 * AGGREGATE_MAX, NO_ENTRY = UINT16_MAX };

struct aggregate_entry {
        __u64 hash;
        __u64 end_ms;
        __u64 repeats; /* sum of counts after the first event */
        __u16 next;    /* in the bucket */
        struct event event;
};

struct aggregate {
        __u64 seed[2];
        size_t oldest;
        size_t n_entries;
        __u16 buckets[BUCKETS];
        struct aggregate_entry entries[AGGREGATE_MAX];
};

int aggregate_new(struct aggregate **ret)
{
        struct aggregate *aggregate = calloc(1, sizeof(*aggregate));

        if (!aggregate)
                return -ENOMEM;
        /* Early in the boot there may be no randomness yet; then the table is only slower under attack. */
        if (getrandom(aggregate->seed, sizeof(aggregate->seed), GRND_NONBLOCK) < 0)
                aggregate->seed[0] = (__u64)(uintptr_t)aggregate;
        memset(aggregate->buckets, 0xff, sizeof(aggregate->buckets));
        *ret = aggregate;
        return 0;
}

void aggregate_free(struct aggregate *aggregate)
{
        free(aggregate);
}

static __u64 mix(__u64 hash, __u64 value)
{
        hash = (hash ^ value) * 0x9e3779b97f4a7c15ull;
        return hash ^ hash >> 32;
}

static __u64 mix_text(__u64 hash, const char *text, size_t size)
{
        for (size_t length = strnlen(text, size); length > 0;) {
                size_t step = MIN(length, sizeof(__u64));
                __u64 word = 0;

                memcpy(&word, text, step);
                hash = mix(hash, word);
                text += step;
                length -= step;
        }
        return mix(hash, size);
}

/* Look-ups have no address: their destination is the name. */
static bool event_is_of_name(const struct event *event)
{
        return event->type == EVENT_DNS || !event->has_destination;
}

static __u64 event_hash(const struct aggregate *aggregate, const struct event *event)
{
        __u64 hash = aggregate->seed[0];

        hash = mix_text(hash, event->agent, sizeof(event->agent));
        hash = mix(hash, event->destination.halves[0]);
        hash = mix(hash, event->destination.halves[1] ^ aggregate->seed[1]);
        hash = mix(hash, (__u64)event->type << 48 | (__u64)event->reason << 32 | (__u64)event->ip_protocol << 16 |
                                 event->destination_port);
        if (event_is_of_name(event))
                hash = mix_text(hash, event->name, sizeof(event->name));
        return hash;
}

static bool event_is_repeat(const struct event *one, const struct event *two)
{
        return one->type == two->type && one->reason == two->reason && one->ip_protocol == two->ip_protocol &&
               one->destination_port == two->destination_port && one->direction == two->direction &&
               one->has_destination == two->has_destination &&
               !memcmp(&one->destination, &two->destination, sizeof(one->destination)) &&
               !strncmp(one->agent, two->agent, sizeof(one->agent)) &&
               (!event_is_of_name(one) || !strncmp(one->name, two->name, sizeof(one->name)));
}

/* What has no destination to repeat (an agent's start, a repair) is never summed. */
static bool event_can_repeat(const struct event *event)
{
        return event->type == EVENT_DENY || event->type == EVENT_WOULD_DENY || event->type == EVENT_DNS;
}

bool aggregate_add(struct aggregate *aggregate, const struct event *event, __u64 now_ms)
{
        struct aggregate_entry *entry;
        __u16 *bucket;
        __u64 hash;
        size_t at;

        if (!event_can_repeat(event))
                return true;

        hash = event_hash(aggregate, event);
        bucket = &aggregate->buckets[hash % BUCKETS];
        for (at = *bucket; at != NO_ENTRY; at = entry->next) {
                entry = &aggregate->entries[at];
                if (entry->hash != hash || !event_is_repeat(&entry->event, event))
                        continue;
                /* Its second is over and the timer is late: the sum goes out first, see aggregate_end(). */
                if (now_ms >= entry->end_ms)
                        return true;
                entry->repeats += MAX(event->count, 1u);
                entry->event.bytes += event->bytes;
                entry->event.lost_before += event->lost_before;
                entry->event.time_ns = event->time_ns;
                return false;
        }

        if (aggregate->n_entries == AGGREGATE_MAX)
                return true;
        at = (aggregate->oldest + aggregate->n_entries++) % AGGREGATE_MAX;
        entry = &aggregate->entries[at];
        *entry = (struct aggregate_entry){
                .hash = hash,
                .end_ms = now_ms + AGGREGATE_MS,
                .next = *bucket,
                .event = *event,
        };
        /* The first one goes out by itself: the sum holds what came after it. */
        entry->event.bytes = 0;
        entry->event.lost_before = 0;
        *bucket = (__u16)at;
        return true;
}

static void aggregate_remove_oldest(struct aggregate *aggregate)
{
        const struct aggregate_entry *entry = &aggregate->entries[aggregate->oldest];
        __u16 *link = &aggregate->buckets[entry->hash % BUCKETS];

        while (*link != aggregate->oldest)
                link = &aggregate->entries[*link].next;
        *link = entry->next;
        aggregate->oldest = (aggregate->oldest + 1) % AGGREGATE_MAX;
        aggregate->n_entries--;
}

void aggregate_end(struct aggregate *aggregate, __u64 now_ms, aggregate_fn function, void *context)
{
        while (aggregate->n_entries > 0 && aggregate->entries[aggregate->oldest].end_ms <= now_ms) {
                struct aggregate_entry *entry = &aggregate->entries[aggregate->oldest];

                aggregate_remove_oldest(aggregate);
                if (entry->repeats == 0)
                        continue;
                entry->event.count = entry->repeats;
                function(context, &entry->event);
        }
}

__u64 aggregate_next_ms(const struct aggregate *aggregate)
{
        return aggregate->n_entries > 0 ? aggregate->entries[aggregate->oldest].end_ms : UINT64_MAX;
}
