/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Learned addresses: a hash of agents, in each a hash of addresses, in each a short list of names; and one heap of
 * addresses by the time when each has to be looked at again.
 *
 * An address is effective while it has names. Without names it is remembered: it keeps one name for events, counts
 * towards the limits, and is dropped first when room is needed.
 */
#include "agentd/dns/learned.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) ((element)->unhashed = true)
#include <uthash.h>
#include <utlist.h>

#include "agentd/dns/heap.h"
#include "agentd/util/macro.h"

struct learned_pair {
        __u64 expires_ns;
        char name[]; /* canonical */
};

struct learned_address {
        struct address address;
        struct learned_agent *agent;
        struct learned_pair **pairs;
        size_t n_pairs;
        char *remembered; /* the last name of an address that has none now */
        struct heap_node due;
        struct learned_address *prev, *next; /* among the agent's remembered ones, oldest first */
        bool unhashed;
        UT_hash_handle hh;
};

struct learned_agent {
        __u32 agent_id;
        struct learned_address *addresses;
        struct learned_address *remembered;
        size_t n_effective, n_remembered;
        bool unhashed;
        UT_hash_handle hh;
};

struct learned {
        size_t per_agent_max, total_max;
        struct learned_agent *agents;
        struct heap due;
        struct learned_statistics statistics;
};

int learned_new(size_t per_agent_max, size_t total_max, struct learned **ret)
{
        struct learned *learned;

        if (per_agent_max == 0 || total_max == 0)
                return -EINVAL;
        learned = calloc(1, sizeof(*learned));
        if (!learned)
                return -ENOMEM;
        learned->per_agent_max = per_agent_max;
        learned->total_max = total_max;
        *ret = learned;
        return 0;
}

static struct learned_agent *agent_find(const struct learned *learned, __u32 agent_id)
{
        struct learned_agent *agent = NULL;

        HASH_FIND(hh, learned->agents, &agent_id, sizeof(agent_id), agent);
        return agent;
}

static struct learned_address *address_find(const struct learned_agent *agent, const struct address *address)
{
        struct learned_address *found = NULL;

        if (agent)
                HASH_FIND(hh, agent->addresses, address, sizeof(*address), found);
        return found;
}

static struct learned_pair *pair_find(const struct learned_address *entry, const char *name, size_t *ret_index)
{
        for (size_t i = 0; i < entry->n_pairs; i++) {
                if (strcmp(entry->pairs[i]->name, name) == 0) {
                        *ret_index = i;
                        return entry->pairs[i];
                }
        }
        return NULL;
}

static void address_free(struct learned *learned, struct learned_address *entry)
{
        struct learned_agent *agent = entry->agent;

        if (entry->remembered) {
                DL_DELETE(agent->remembered, entry);
                agent->n_remembered--;
                learned->statistics.remembered--;
                free(entry->remembered);
        }
        if (entry->n_pairs > 0) {
                agent->n_effective--;
                learned->statistics.addresses--;
                learned->statistics.pairs -= entry->n_pairs;
        }
        for (size_t i = 0; i < entry->n_pairs; i++)
                free(entry->pairs[i]);
        free(entry->pairs);
        heap_remove(&learned->due, &entry->due);
        HASH_DEL(agent->addresses, entry);
        free(entry);
}

static void agent_free(struct learned *learned, struct learned_agent *agent)
{
        struct learned_address *entry, *next;

        HASH_ITER (hh, agent->addresses, entry, next)
                address_free(learned, entry);
        HASH_DEL(learned->agents, agent);
        free(agent);
}

void learned_free(struct learned *learned)
{
        struct learned_agent *agent, *next;

        if (!learned)
                return;
        HASH_ITER (hh, learned->agents, agent, next)
                agent_free(learned, agent);
        heap_release(&learned->due);
        free(learned);
}

/* An agent without any address is not kept: ids are reused. */
static void agent_settle(struct learned *learned, struct learned_agent *agent)
{
        if (!agent->addresses)
                agent_free(learned, agent);
}

static int agent_take(struct learned *learned, __u32 agent_id, struct learned_agent **ret)
{
        struct learned_agent *agent = agent_find(learned, agent_id);

        if (!agent) {
                agent = calloc(1, sizeof(*agent));
                if (!agent)
                        return -ENOMEM;
                agent->agent_id = agent_id;
                HASH_ADD(hh, learned->agents, agent_id, sizeof(agent->agent_id), agent);
                if (agent->unhashed) {
                        free(agent);
                        return -ENOMEM;
                }
        }
        *ret = agent;
        return 0;
}

/* When the address has to be looked at: its first name's expiry. */
static __u64 address_due(const struct learned_address *entry)
{
        __u64 due = UINT64_MAX;

        for (size_t i = 0; i < entry->n_pairs; i++)
                due = MIN(due, entry->pairs[i]->expires_ns);
        return due;
}

static __u64 address_expires(const struct learned_address *entry)
{
        __u64 expires = 0;

        for (size_t i = 0; i < entry->n_pairs; i++)
                expires = MAX(expires, entry->pairs[i]->expires_ns);
        return expires;
}

/* Room for one more pair: of what is only remembered, the oldest of this agent goes first, then anybody's. */
static bool room_make(struct learned *learned, struct learned_agent *agent, bool new_address)
{
        if (new_address && agent->n_effective >= learned->per_agent_max)
                return false;
        if (learned->statistics.pairs >= learned->total_max)
                return false;
        if (new_address && agent->n_effective + agent->n_remembered >= learned->per_agent_max)
                address_free(learned, agent->remembered);
        if (learned->statistics.pairs + learned->statistics.remembered >= learned->total_max) {
                struct learned_agent *other = agent->remembered ? agent : learned->agents;

                while (!other->remembered)
                        other = other->hh.next;
                address_free(learned, other->remembered);
                if (other != agent)
                        agent_settle(learned, other);
        }
        return true;
}

static int address_take(struct learned_agent *agent, const struct address *address, struct learned_address **ret)
{
        struct learned_address *entry = calloc(1, sizeof(*entry));

        if (!entry)
                return -ENOMEM;
        entry->address = *address;
        entry->agent = agent;
        HASH_ADD(hh, agent->addresses, address, sizeof(entry->address), entry);
        if (entry->unhashed) {
                free(entry);
                return -ENOMEM;
        }
        *ret = entry;
        return 0;
}

static int pair_add(struct learned *learned, struct learned_address *entry, const char *name, __u64 expires_ns)
{
        size_t length = strlen(name) + 1;
        struct learned_pair **grown, *pair;

        /* Grown in powers of two. */
        if ((entry->n_pairs & (entry->n_pairs - 1)) == 0) {
                grown = reallocarray(entry->pairs, MAX(entry->n_pairs * 2, 1u), sizeof(struct learned_pair *));
                if (!grown)
                        return -ENOMEM;
                entry->pairs = grown;
        }
        pair = malloc(sizeof(*pair) + length);
        if (!pair)
                return -ENOMEM;
        pair->expires_ns = expires_ns;
        memcpy(pair->name, name, length);

        if (heap_set(&learned->due, &entry->due, entry->n_pairs ? MIN(entry->due.time, expires_ns) : expires_ns) < 0) {
                free(pair);
                return -ENOMEM;
        }
        if (entry->remembered) {
                DL_DELETE(entry->agent->remembered, entry);
                entry->agent->n_remembered--;
                learned->statistics.remembered--;
                free(TAKE_PTR(entry->remembered));
        }
        if (entry->n_pairs == 0) {
                entry->agent->n_effective++;
                learned->statistics.addresses++;
        }
        entry->pairs[entry->n_pairs++] = pair;
        learned->statistics.pairs++;
        return 0;
}

int learned_add(struct learned *learned, __u32 agent_id, const char *name, const struct address *address,
                __u64 expires_ns, enum learned_change *ret_change, __u64 *ret_expires_ns)
{
        struct learned_address *entry;
        struct learned_agent *agent;
        struct learned_pair *pair;
        enum learned_change change = LEARNED_RENEWED;
        size_t length = strnlen(name, NAME_MAX_BYTES), index;
        int r;

        if (agent_id == 0 || agent_id >= AGENT_MAX || length == 0 || length == NAME_MAX_BYTES)
                return -EINVAL;
        r = agent_take(learned, agent_id, &agent);
        if (r < 0)
                return r;

        entry = address_find(agent, address);
        pair = entry ? pair_find(entry, name, &index) : NULL;
        if (pair) {
                pair->expires_ns = MAX(pair->expires_ns, expires_ns);
                heap_set(&learned->due, &entry->due, address_due(entry));
        } else {
                bool effective = entry && entry->n_pairs > 0;

                change = effective ? LEARNED_NEW_NAME : LEARNED_NEW_ADDRESS;
                if ((effective && entry->n_pairs >= LEARNED_NAMES_PER_ADDRESS_MAX) ||
                    !room_make(learned, agent, !effective)) {
                        learned->statistics.refused++;
                        agent_settle(learned, agent);
                        return -ENOSPC;
                }
                /* Making room may have dropped what was remembered of this very address. */
                entry = address_find(agent, address);
                if (!entry)
                        r = address_take(agent, address, &entry);
                if (r == 0)
                        r = pair_add(learned, entry, name, expires_ns);
                if (r < 0) {
                        if (entry && entry->n_pairs == 0)
                                address_free(learned, entry);
                        agent_settle(learned, agent);
                        return r;
                }
        }

        if (ret_change)
                *ret_change = change;
        if (ret_expires_ns)
                *ret_expires_ns = address_expires(entry);
        return 0;
}

/* Takes the pair out and hands it over. The address may be left without names, in no list: the caller settles that. */
static struct learned_pair *pair_take(struct learned *learned, struct learned_address *entry, size_t index)
{
        struct learned_pair *pair = entry->pairs[index];

        entry->pairs[index] = entry->pairs[--entry->n_pairs];
        if (entry->n_pairs == 0) {
                free(TAKE_PTR(entry->pairs));
                entry->agent->n_effective--;
                learned->statistics.addresses--;
        }
        learned->statistics.pairs--;
        return pair;
}

int learned_remove(struct learned *learned, __u32 agent_id, const char *name, const struct address *address)
{
        struct learned_agent *agent = agent_find(learned, agent_id);
        struct learned_address *entry = address_find(agent, address);
        size_t index;

        if (!entry || !pair_find(entry, name, &index))
                return -ENOENT;
        free(pair_take(learned, entry, index));
        if (entry->n_pairs == 0) {
                address_free(learned, entry);
                agent_settle(learned, agent);
        } else {
                heap_set(&learned->due, &entry->due, address_due(entry));
        }
        return 0;
}

size_t learned_names(const struct learned *learned, __u32 agent_id, const struct address *address,
                     const char **ret_names, size_t capacity)
{
        const struct learned_address *entry = address_find(agent_find(learned, agent_id), address);

        if (!entry)
                return 0;
        for (size_t i = 0; i < MIN(entry->n_pairs, capacity); i++)
                ret_names[i] = entry->pairs[i]->name;
        return entry->n_pairs;
}

__u64 learned_expires(const struct learned *learned, __u32 agent_id, const struct address *address)
{
        const struct learned_address *entry = address_find(agent_find(learned, agent_id), address);

        return entry ? address_expires(entry) : 0;
}

const char *learned_name_for(const struct learned *learned, __u32 agent_id, const struct address *address)
{
        const struct learned_address *entry = address_find(agent_find(learned, agent_id), address);
        const struct learned_pair *latest = NULL;

        if (!entry)
                return NULL;
        for (size_t i = 0; i < entry->n_pairs; i++)
                if (!latest || entry->pairs[i]->expires_ns > latest->expires_ns)
                        latest = entry->pairs[i];
        return latest ? latest->name : entry->remembered;
}

static bool agent_each(const struct learned_agent *agent,
                       bool (*function)(void *context, const struct learned_view *view), void *context)
{
        for (const struct learned_address *entry = agent->addresses; entry; entry = entry->hh.next) {
                for (size_t i = 0; i < entry->n_pairs; i++) {
                        struct learned_view view = {
                                .agent_id = agent->agent_id,
                                .address = &entry->address,
                                .name = entry->pairs[i]->name,
                                .expires_ns = entry->pairs[i]->expires_ns,
                        };

                        if (!function(context, &view))
                                return false;
                }
        }
        return true;
}

void learned_each(const struct learned *learned, __u32 agent_id,
                  bool (*function)(void *context, const struct learned_view *view), void *context)
{
        if (agent_id != 0) {
                const struct learned_agent *agent = agent_find(learned, agent_id);

                if (agent)
                        agent_each(agent, function, context);
                return;
        }
        for (const struct learned_agent *agent = learned->agents; agent; agent = agent->hh.next)
                if (!agent_each(agent, function, context))
                        return;
}

/* Ends the names that have expired; the last one stays in memory for events. */
static void address_expire(struct learned *learned, struct learned_address *entry, __u64 now_ns,
                           learned_removed_fn removed, void *context)
{
        size_t i = 0;

        while (i < entry->n_pairs) {
                _cleanup_free_ struct learned_pair *pair = NULL;

                if (entry->pairs[i]->expires_ns > now_ns) {
                        i++;
                        continue;
                }
                pair = pair_take(learned, entry, i);
                if (removed)
                        removed(context, entry->agent->agent_id, &entry->address, pair->name, entry->n_pairs);
                if (entry->n_pairs == 0)
                        entry->remembered = strdup(pair->name);
        }

        if (entry->n_pairs > 0) {
                heap_set(&learned->due, &entry->due, address_due(entry));
        } else if (entry->remembered) {
                DL_APPEND(entry->agent->remembered, entry);
                entry->agent->n_remembered++;
                learned->statistics.remembered++;
                heap_set(&learned->due, &entry->due, now_ns + LEARNED_REMEMBER_S * NSEC_PER_SEC);
        } else {
                /* No memory to remember it by. */
                address_free(learned, entry);
        }
}

void learned_expire(struct learned *learned, __u64 now_ns,
                    bool (*live)(void *context, __u32 agent_id, const struct address *address),
                    learned_removed_fn removed, void *context)
{
        struct heap_node *node;

        while ((node = heap_first(&learned->due)) && node->time <= now_ns) {
                struct learned_address *entry = HEAP_OWNER(node, struct learned_address, due);
                struct learned_agent *agent = entry->agent;

                if (entry->n_pairs > 0 && live && live(context, agent->agent_id, &entry->address)) {
                        heap_set(&learned->due, node, now_ns + LEARNED_RECHECK_S * NSEC_PER_SEC);
                        continue;
                }
                if (entry->n_pairs > 0)
                        address_expire(learned, entry, now_ns, removed, context);
                else
                        address_free(learned, entry);
                agent_settle(learned, agent);
        }
}

__u64 learned_deadline(const struct learned *learned)
{
        const struct heap_node *first = heap_first(&learned->due);

        return first ? first->time : UINT64_MAX;
}

void learned_drop(struct learned *learned, __u32 agent_id, bool (*keep)(void *context, const char *name),
                  learned_removed_fn removed, void *context)
{
        struct learned_agent *agent = agent_find(learned, agent_id);
        struct learned_address *entry, *next;

        if (!agent)
                return;
        HASH_ITER (hh, agent->addresses, entry, next) {
                size_t i = 0, before = entry->n_pairs;

                while (i < entry->n_pairs) {
                        _cleanup_free_ struct learned_pair *pair = NULL;

                        if (keep(context, entry->pairs[i]->name)) {
                                i++;
                                continue;
                        }
                        pair = pair_take(learned, entry, i);
                        if (removed)
                                removed(context, agent_id, &entry->address, pair->name, entry->n_pairs);
                }
                if (entry->n_pairs == 0 && before > 0)
                        address_free(learned, entry);
                else if (entry->n_pairs < before)
                        heap_set(&learned->due, &entry->due, address_due(entry));
        }
        agent_settle(learned, agent);
}

void learned_remove_agent(struct learned *learned, __u32 agent_id)
{
        struct learned_agent *agent = agent_find(learned, agent_id);

        if (agent)
                agent_free(learned, agent);
}

void learned_statistics(const struct learned *learned, struct learned_statistics *ret)
{
        *ret = learned->statistics;
}

size_t learned_count(const struct learned *learned, __u32 agent_id)
{
        const struct learned_agent *agent = agent_find(learned, agent_id);

        return agent ? agent->n_effective : 0;
}
