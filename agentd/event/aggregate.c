/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A hash table whose entries stand in a queue, oldest first, and one that counts each agent's entries. Hashes are keyed
 * by a random number: the agent chooses destinations and ports, and must not choose collisions.
 */
#include "agentd/event/aggregate.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agentd/util/macro.h"

/*
 * What a sum tells apart. An event that finds a level full goes to the next; the last one has a place for every key it
 * can have, so nothing goes out uncounted.
 */
enum level {
        LEVEL_DESTINATION,
        LEVEL_REASON, /* agent, type, reason, protocol, direction */
        LEVEL_AGENT,  /* agent, type, direction */
        LEVEL_TYPE,   /* type, direction: of more agents than can be told apart */
        LEVEL_MAX,
};

static const struct {
        unsigned per_agent, total;
} limits[LEVEL_MAX] = {
        [LEVEL_DESTINATION] = {AGGREGATE_PER_AGENT, AGGREGATE_MAX},
        [LEVEL_REASON] = {32, 4096},
        [LEVEL_AGENT] = {2 * EVENT_TYPE_MAX, 4096},
        [LEVEL_TYPE] = {2 * EVENT_TYPE_MAX, 2 * EVENT_TYPE_MAX},
};

/* Agents are known while they have an entry, so there are never more of them. */
enum { ENTRIES = AGGREGATE_MAX + 4096 + 4096 + 2 * EVENT_TYPE_MAX, BUCKETS = 2 * ENTRIES, NONE = UINT16_MAX };
_Static_assert(ENTRIES < NONE, "indices have 16 bits");

struct entry {
        __u64 hash;
        __u64 end_ms;
        __u64 repeats; /* sum of counts; at LEVEL_DESTINATION after the first event */
        enum level level;
        __u16 next; /* in the bucket, or of the unused */
        __u16 younger;
        __u16 agent;
        struct event event;
};

struct known_agent {
        __u64 hash;
        char name[AGENT_NAME_MAX];
        unsigned n_entries[LEVEL_MAX];
        __u16 next;
};

/* Indices in use come back first: what was never needed is never touched. */
struct pool {
        __u16 unused;
        __u16 n_touched;
};

struct aggregate {
        __u64 seed[2];
        struct pool entry_pool, agent_pool;
        unsigned n_entries[LEVEL_MAX];
        __u16 oldest, youngest;
        __u16 buckets[BUCKETS];
        __u16 agent_buckets[BUCKETS];
        struct known_agent agents[ENTRIES];
        struct entry entries[ENTRIES];
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
        memset(aggregate->agent_buckets, 0xff, sizeof(aggregate->agent_buckets));
        aggregate->entry_pool.unused = aggregate->agent_pool.unused = NONE;
        aggregate->oldest = aggregate->youngest = NONE;
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

/* Its destination is the agent, whoever it is that knocks. */
static bool event_is_from_outside(const struct event *event)
{
        return event->direction == DIRECTION_INGRESS && event->has_source;
}

static __u64 event_hash(const struct aggregate *aggregate, const struct event *event, enum level level, __u64 agent)
{
        __u64 hash = mix(level == LEVEL_TYPE ? aggregate->seed[0] : agent, (__u64)level << 8 | event->type);

        hash = mix(hash, event->direction);
        if (level <= LEVEL_REASON)
                hash = mix(hash, (__u64)event->reason << 16 | event->ip_protocol);
        if (level > LEVEL_DESTINATION)
                return hash;
        hash = mix(hash, event->destination.halves[0]);
        hash = mix(hash, event->destination.halves[1] ^ aggregate->seed[1]);
        hash = mix(hash, (__u64)event->has_destination << 16 | event->destination_port);
        if (event_is_from_outside(event))
                hash = mix(mix(hash, event->source.halves[0]), event->source.halves[1]);
        if (event_is_of_name(event))
                hash = mix_text(hash, event->name, sizeof(event->name));
        if (event->family != 0)
                hash = mix(mix_text(hash, event->path + 1, sizeof(event->path) - 1),
                           (__u64)event->family << 8 | (__u8)event->path[0]);
        return hash;
}

static bool event_is_repeat(const struct event *one, const struct event *two, enum level level)
{
        if (one->type != two->type || one->direction != two->direction)
                return false;
        if (level < LEVEL_TYPE && strncmp(one->agent, two->agent, sizeof(one->agent)) != 0)
                return false;
        if (level < LEVEL_AGENT && (one->reason != two->reason || one->ip_protocol != two->ip_protocol))
                return false;
        return level > LEVEL_DESTINATION ||
               (one->family == two->family && !memcmp(one->path, two->path, sizeof(one->path)) &&
                one->destination_port == two->destination_port && one->has_destination == two->has_destination &&
                !memcmp(&one->destination, &two->destination, sizeof(one->destination)) &&
                event_is_from_outside(one) == event_is_from_outside(two) &&
                (!event_is_from_outside(one) || !memcmp(&one->source, &two->source, sizeof(one->source))) &&
                (!event_is_of_name(one) || !strncmp(one->name, two->name, sizeof(one->name))));
}

/* What has no destination to repeat (an agent's start, a repair) is never summed. */
static bool event_can_repeat(const struct event *event)
{
        return event->type == EVENT_DENY || event->type == EVENT_WOULD_DENY || event->type == EVENT_DNS;
}

/* What all events of a coarse sum have in common. */
static struct event event_coarsen(const struct event *event, enum level level)
{
        struct event coarse = {
                .type = event->type,
                .direction = event->direction,
                .generation = event->generation,
                .audit = event->audit,
                .hook = event->hook, /* prints with the direction; the first one's, as in every sum */
                .ip_protocol = 255,
        };

        if (level < LEVEL_TYPE) {
                memcpy(coarse.agent, event->agent, sizeof(coarse.agent));
                memcpy(coarse.policy, event->policy, sizeof(coarse.policy));
                coarse.cgroup_id = event->cgroup_id;
        }
        if (level < LEVEL_AGENT) {
                coarse.reason = event->reason;
                coarse.ip_protocol = event->ip_protocol;
        }
        return coarse;
}

static __u16 agent_find(const struct aggregate *aggregate, const char *name, __u64 hash)
{
        __u16 at = aggregate->agent_buckets[hash % BUCKETS];

        while (at != NONE && (aggregate->agents[at].hash != hash ||
                              strncmp(aggregate->agents[at].name, name, sizeof(aggregate->agents[at].name)) != 0))
                at = aggregate->agents[at].next;
        return at;
}

static struct entry *entry_find(struct aggregate *aggregate, const struct event *event, enum level level, __u64 hash)
{
        for (__u16 at = aggregate->buckets[hash % BUCKETS]; at != NONE; at = aggregate->entries[at].next) {
                struct entry *entry = &aggregate->entries[at];

                if (entry->hash == hash && entry->level == level && event_is_repeat(&entry->event, event, level))
                        return entry;
        }
        return NULL;
}

static __u16 agent_add(struct aggregate *aggregate, const char *name, __u64 hash)
{
        __u16 *bucket = &aggregate->agent_buckets[hash % BUCKETS];
        __u16 at = aggregate->agent_pool.unused;

        if (at != NONE)
                aggregate->agent_pool.unused = aggregate->agents[at].next;
        else
                at = aggregate->agent_pool.n_touched++;
        aggregate->agents[at] = (struct known_agent){.hash = hash, .next = *bucket};
        memcpy(aggregate->agents[at].name, name, sizeof(aggregate->agents[at].name));
        *bucket = at;
        return at;
}

/* The limits have been looked at: there is room. */
static struct entry *entry_add(struct aggregate *aggregate, enum level level, __u64 hash, __u16 agent)
{
        __u16 *bucket = &aggregate->buckets[hash % BUCKETS];
        __u16 at = aggregate->entry_pool.unused;
        struct entry *entry;

        if (at != NONE)
                aggregate->entry_pool.unused = aggregate->entries[at].next;
        else
                at = aggregate->entry_pool.n_touched++;
        entry = &aggregate->entries[at];
        entry->hash = hash;
        entry->level = level;
        entry->agent = agent;
        entry->repeats = 0;
        entry->next = *bucket;
        entry->younger = NONE;
        *bucket = at;
        if (aggregate->youngest == NONE)
                aggregate->oldest = at;
        else
                aggregate->entries[aggregate->youngest].younger = at;
        aggregate->youngest = at;
        aggregate->n_entries[level]++;
        aggregate->agents[agent].n_entries[level]++;
        return entry;
}

static void entry_count(struct entry *entry, const struct event *event)
{
        entry->repeats += MAX(event->count, 1u);
        entry->event.bytes += event->bytes;
        entry->event.lost_before += event->lost_before;
        entry->event.time_ns = event->time_ns;
}

bool aggregate_add(struct aggregate *aggregate, const struct event *event, __u64 now_ms)
{
        static const char nobody[AGENT_NAME_MAX];
        const char *name = event->agent;
        __u64 agent_hash;
        __u16 agent;

        if (!event_can_repeat(event))
                return true;

        agent_hash = mix_text(aggregate->seed[0], name, AGENT_NAME_MAX);
        agent = agent_find(aggregate, name, agent_hash);
        for (enum level level = LEVEL_DESTINATION; level < LEVEL_MAX; level++) {
                __u64 hash = event_hash(aggregate, event, level, agent_hash);
                struct entry *entry = entry_find(aggregate, event, level, hash);

                if (entry) {
                        /* Its second is over and the timer is late: the sum goes out first, see aggregate_end(). */
                        if (level == LEVEL_DESTINATION && now_ms >= entry->end_ms)
                                return true;
                        entry_count(entry, event);
                        return false;
                }

                if (level == LEVEL_TYPE) {
                        name = nobody;
                        agent_hash = mix_text(aggregate->seed[0], name, AGENT_NAME_MAX);
                        agent = agent_find(aggregate, name, agent_hash);
                }
                if (aggregate->n_entries[level] >= limits[level].total ||
                    (agent != NONE && aggregate->agents[agent].n_entries[level] >= limits[level].per_agent))
                        continue;
                if (agent == NONE)
                        agent = agent_add(aggregate, name, agent_hash);
                entry = entry_add(aggregate, level, hash, agent);
                entry->end_ms = now_ms + AGGREGATE_MS;
                if (level > LEVEL_DESTINATION) {
                        entry->event = event_coarsen(event, level);
                        entry_count(entry, event);
                        return false;
                }
                /* The first one goes out by itself: the sum holds what came after it. */
                entry->event = *event;
                entry->event.bytes = 0;
                entry->event.lost_before = 0;
                return true;
        }
        return true;
}

static void agent_forget_entry(struct aggregate *aggregate, __u16 at, enum level level)
{
        struct known_agent *agent = &aggregate->agents[at];
        __u16 *link = &aggregate->agent_buckets[agent->hash % BUCKETS];

        agent->n_entries[level]--;
        for (size_t i = 0; i < LEVEL_MAX; i++)
                if (agent->n_entries[i] > 0)
                        return;
        while (*link != at)
                link = &aggregate->agents[*link].next;
        *link = agent->next;
        agent->next = aggregate->agent_pool.unused;
        aggregate->agent_pool.unused = at;
}

/* Its memory stays as it is until the next entry_add(). */
static struct entry *entry_remove_oldest(struct aggregate *aggregate)
{
        __u16 at = aggregate->oldest;
        struct entry *entry = &aggregate->entries[at];
        __u16 *link = &aggregate->buckets[entry->hash % BUCKETS];

        while (*link != at)
                link = &aggregate->entries[*link].next;
        *link = entry->next;
        aggregate->oldest = entry->younger;
        if (aggregate->oldest == NONE)
                aggregate->youngest = NONE;
        entry->next = aggregate->entry_pool.unused;
        aggregate->entry_pool.unused = at;
        aggregate->n_entries[entry->level]--;
        agent_forget_entry(aggregate, entry->agent, entry->level);
        return entry;
}

static void entry_explain(struct entry *entry)
{
        bool names = entry->event.type == EVENT_DNS;

        snprintf(entry->event.detail, sizeof(entry->event.detail), "more %s than can be told apart: %llu %s",
                 entry->level == LEVEL_TYPE ? "agents"
                 : names                    ? "names"
                                            : "destinations",
                 (unsigned long long)entry->repeats, names ? "look-ups" : "packets or calls");
}

void aggregate_end(struct aggregate *aggregate, __u64 now_ms, aggregate_fn function, void *context)
{
        while (aggregate->oldest != NONE && aggregate->entries[aggregate->oldest].end_ms <= now_ms) {
                struct entry *entry = entry_remove_oldest(aggregate);

                if (entry->repeats == 0)
                        continue;
                entry->event.count = entry->repeats;
                if (entry->level > LEVEL_DESTINATION)
                        entry_explain(entry);
                function(context, &entry->event);
        }
}

__u64 aggregate_next_ms(const struct aggregate *aggregate)
{
        return aggregate->oldest != NONE ? aggregate->entries[aggregate->oldest].end_ms : UINT64_MAX;
}
