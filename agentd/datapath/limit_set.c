/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sets of limits, and the leases that CPUs hold on them.
 *
 * A set does not change while a word leads to it. What a former daemon left is not given out again before the sweep:
 * agents are led there until they are published anew. A set's leases go back to its ledgers before it is emptied, for
 * an empty set no longer tells to whom.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "agentd/datapath/internal.h"
#include "agentd/datapath/ledger_map.h"

static bool set_holds(const struct limit_set *set, __u32 ledger_id)
{
        for (size_t i = 0; i < SET_LEDGERS; i++)
                if (set_ledger(set, i) == ledger_id)
                        return true;
        return false;
}

/* The range in which a sweep looks for leases. Programs read both ends apart: at no instant is a set that counts left
 * out. */
static void ledger_widen(struct ledger *ledger, __u32 first, __u32 end)
{
        bool empty = ledger->first_set >= ledger->end_set;

        if (empty || end > ledger->end_set)
                __atomic_store_n(&ledger->end_set, end, __ATOMIC_SEQ_CST);
        if (empty || first < ledger->first_set)
                __atomic_store_n(&ledger->first_set, first, __ATOMIC_SEQ_CST);
}

static void ledger_narrow(struct limit_tables *tables, __u32 ledger_id)
{
        struct ledger *ledger = &tables->ledgers[ledger_id];
        __u32 first = ledger->first_set, end = MIN(ledger->end_set, (__u32)LIMIT_SETS_MAX);

        while (first < end && !set_holds(&tables->sets[first], ledger_id))
                first++;
        while (first < end && !set_holds(&tables->sets[end - 1], ledger_id))
                end--;
        if (first >= end)
                first = end = 0;
        __atomic_store_n(&ledger->first_set, first, __ATOMIC_SEQ_CST);
        __atomic_store_n(&ledger->end_set, end, __ATOMIC_SEQ_CST);
}

static void set_widen(struct limit_tables *tables, const struct limit_set *set, __u32 first, __u32 end)
{
        for (size_t i = 0; i < SET_LEDGERS; i++) {
                __u32 id = set_ledger(set, i);

                if (id != 0 && id < LEDGERS_MAX)
                        ledger_widen(&tables->ledgers[id], first, end);
        }
}

static void set_release(struct limit_tables *tables, __u32 id)
{
        struct limit_set old = tables->sets[id];

        datapath_leases_return(tables, id);
        tables->sets[id] = (struct limit_set){0};
        tables->set_states[id] = SET_FREE;
        while (tables->sets_end > 1 && tables->set_states[tables->sets_end - 1] == SET_FREE)
                tables->sets_end--;

        for (size_t i = 0; i < SET_LEDGERS; i++) {
                __u32 ledger_id = set_ledger(&old, i);

                if (ledger_id != 0 && ledger_id < LEDGERS_MAX)
                        ledger_narrow(tables, ledger_id);
        }
}

/* Everything that a set names is somebody's. */
static bool set_is_sound(const struct limit_tables *tables, const struct limit_set *set)
{
        for (size_t i = 0; i < SET_LEDGERS; i++) {
                __u32 id = set_ledger(set, i);

                if (id >= LEDGERS_MAX || (id != 0 && !tables->by_id[LIMIT_LEDGER][id]))
                        return false;
        }
        for (size_t i = 0; i < ARRAY_SIZE(set->buckets); i++) {
                __u32 id = set->buckets[i];

                if (id >= BUCKETS_MAX || (id != 0 && !tables->by_id[LIMIT_BUCKET][id]))
                        return false;
        }
        return true;
}

/* The first run of n free sets. */
static int sets_find(const struct limit_tables *tables, __u32 n, __u32 *ret)
{
        __u32 run = 0;

        for (__u32 id = 1; id < LIMIT_SETS_MAX; id++) {
                run = tables->set_states[id] == SET_FREE ? run + 1 : 0;
                if (run == n) {
                        *ret = id - n + 1;
                        return 0;
                }
        }
        return -ENOSPC;
}

int datapath_limits_make(struct datapath *datapath, const struct limit_set *sets, __u16 n, struct datapath_limits *ret)
{
        struct limit_tables *tables = &datapath->limits;
        __u32 first;
        int r;

        if (n == 0)
                return -EINVAL;
        for (__u32 i = 0; i < n; i++)
                if (!set_is_sound(tables, &sets[i]))
                        return -EINVAL;
        r = sets_find(tables, n, &first);
        if (r < 0)
                return r;

        for (__u32 i = 0; i < n; i++) {
                __u32 id = first + i;

                /* A packet that came too late may have left a lease here: nobody knows whose. */
                for (__u32 cpu = 0; cpu < tables->n_cpus; cpu++)
                        tables->leases[(size_t)cpu * LIMIT_SETS_MAX + id] = (struct lease){0};
                set_widen(tables, &sets[i], id, id + 1);
                tables->sets[id] = sets[i];
                tables->set_states[id] = SET_OWN;
        }
        tables->sets_end = MAX(tables->sets_end, first + n);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        *ret = (struct datapath_limits){.first = (__u16)first, .count = n};
        return 0;
}

/* The daemon before has made the same for this agent, and packets are led there. */
static bool run_is_same(const struct limit_tables *tables, const struct agent_limits *limits,
                        const struct limit_set *sets, __u16 n)
{
        if (limits->first == 0 || limits->count != n || (__u32)limits->first + n > LIMIT_SETS_MAX)
                return false;
        for (__u32 i = 0; i < n; i++)
                if (tables->set_states[limits->first + i] != SET_FORMER)
                        return false;
        return memcmp(&tables->sets[limits->first], sets, n * sizeof(*sets)) == 0;
}

int datapath_limits_adopt_run(struct datapath *datapath, __u32 agent_id, const struct limit_set *sets, __u16 n,
                              struct datapath_limits *ret)
{
        struct limit_tables *tables = &datapath->limits;
        const struct agent_entry *entry = &datapath->entries[agent_id];

        for (size_t i = 0; i < ARRAY_SIZE(entry->limits); i++) {
                const struct agent_limits *limits = &entry->limits[i];

                if (limits->version != WORD_VERSION(entry->word) || limits->version == 0 ||
                    !run_is_same(tables, limits, sets, n))
                        continue;
                memset(&tables->set_states[limits->first], SET_OWN, n * sizeof(tables->set_states[0]));
                *ret = (struct datapath_limits){.first = limits->first, .count = n};
                return 0;
        }
        return -ENOENT;
}

void datapath_limits_free(struct datapath *datapath, struct datapath_limits limits)
{
        struct limit_tables *tables = &datapath->limits;

        for (__u32 id = MAX(limits.first, 1u); id < MIN((__u32)limits.first + limits.count, (__u32)LIMIT_SETS_MAX);
             id++)
                if (tables->set_states[id] == SET_OWN)
                        set_release(tables, id);
}

/* Every set that an agent's current word leads to. sets: LIMIT_SETS_MAX. */
static void each_reachable(const struct datapath *datapath, __u8 *sets)
{
        for (__u32 agent = 1; agent < AGENT_MAX; agent++) {
                const struct agent_entry *entry = &datapath->entries[agent];
                __u32 version = WORD_VERSION(entry->word);

                for (size_t i = 0; version != 0 && i < ARRAY_SIZE(entry->limits); i++) {
                        const struct agent_limits *limits = &entry->limits[i];

                        if (limits->version != version || limits->first == 0)
                                continue;
                        for (__u32 id = limits->first; id < (__u32)limits->first + limits->count; id++)
                                if (id < LIMIT_SETS_MAX)
                                        sets[id] = 1;
                }
        }
}

static void mark_held(struct limit_tables *tables)
{
        memset(tables->held, 0, sizeof(tables->held));
        for (__u32 id = 1; id < tables->sets_end; id++) {
                const struct limit_set *set = &tables->sets[id];

                if (tables->set_states[id] != SET_FORMER)
                        continue;
                for (size_t i = 0; i < SET_LEDGERS; i++)
                        if (set_ledger(set, i) < LEDGERS_MAX)
                                tables->held[LIMIT_LEDGER][set_ledger(set, i)] = true;
                for (size_t i = 0; i < ARRAY_SIZE(set->buckets); i++)
                        if (set->buckets[i] < BUCKETS_MAX)
                                tables->held[LIMIT_BUCKET][set->buckets[i]] = true;
        }
}

void datapath_limits_sweep(struct datapath *datapath)
{
        struct limit_tables *tables = &datapath->limits;
        __u8 reachable[LIMIT_SETS_MAX] = {0};
        struct limit_slot *slot, *next;

        each_reachable(datapath, reachable);
        for (__u32 id = tables->sets_end; id-- > 1;)
                if (tables->set_states[id] == SET_FORMER && !reachable[id])
                        set_release(tables, id);
        mark_held(tables);
        HASH_ITER (hh, tables->slots, slot, next)
                if (slot->references == 0 && !tables->held[slot->key.kind][slot->id])
                        datapath_limit_drop(datapath, slot);
        for (__u32 id = 1; id < LEDGERS_MAX; id++)
                if (tables->ledgers[id].end_set != 0)
                        ledger_narrow(tables, id);
}

/* Everything that is not empty was a former daemon's, and so is everything that an agent is led to. */
static void sets_adopt(struct datapath *datapath)
{
        static const struct limit_set empty = {0};
        struct limit_tables *tables = &datapath->limits;
        __u8 reachable[LIMIT_SETS_MAX] = {0};

        tables->sets_end = 1;
        each_reachable(datapath, reachable);
        for (__u32 id = 1; id < LIMIT_SETS_MAX; id++) {
                if (!reachable[id] && memcmp(&tables->sets[id], &empty, sizeof(empty)) == 0)
                        continue;
                tables->set_states[id] = SET_FORMER;
                tables->sets_end = id + 1;
                set_widen(tables, &tables->sets[id], id, id + 1);
        }
        mark_held(tables);
}

static int map_table(const struct bpf_map *map, size_t size, void *ret_memory)
{
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

        if (memory == MAP_FAILED)
                return -errno;
        memcpy(ret_memory, &memory, sizeof(memory));
        return 0;
}

static size_t leases_size(const struct limit_tables *tables)
{
        return sizeof(struct lease) * LIMIT_SETS_MAX * tables->n_cpus;
}

int datapath_limits_adopt(struct datapath *datapath, struct datapath_error *error)
{
        struct limit_tables *tables = &datapath->limits;
        struct agentd_bpf *skeleton = datapath->skeleton;
        int r;

        tables->n_cpus = (__u32)datapath->n_cpus;
        r = map_table(skeleton->maps.ledgers, sizeof(struct ledger) * LEDGERS_MAX, &tables->ledgers);
        if (r == 0)
                r = map_table(skeleton->maps.limits, sizeof(struct limit_set) * LIMIT_SETS_MAX, &tables->sets);
        if (r == 0)
                r = map_table(skeleton->maps.leases, leases_size(tables), &tables->leases);
        if (r == 0)
                r = map_table(skeleton->maps.buckets, sizeof(struct bucket) * BUCKETS_MAX, &tables->buckets);
        if (r == 0)
                r = map_table(skeleton->maps.wall_clock, sizeof(struct budget_clock), &tables->clock);
        if (r == 0)
                r = datapath_limit_ids_adopt(datapath);
        if (r == -EBADMSG)
                (void)snprintf(error->text, sizeof(error->text),
                               "the budgets in '%.160s' are damaged, what was used is not known; "
                               "`agentd uninstall` removes them",
                               datapath->directory);
        if (r < 0)
                return r;
        sets_adopt(datapath);
        return 0;
}

void datapath_limits_close(struct datapath *datapath)
{
        struct limit_tables *tables = &datapath->limits;

        datapath_limit_ids_free(datapath);
        if (tables->clock)
                munmap(tables->clock, sizeof(struct budget_clock));
        if (tables->buckets)
                munmap(tables->buckets, sizeof(struct bucket) * BUCKETS_MAX);
        if (tables->leases)
                munmap(tables->leases, leases_size(tables));
        if (tables->sets)
                munmap(tables->sets, sizeof(struct limit_set) * LIMIT_SETS_MAX);
        if (tables->ledgers)
                munmap(tables->ledgers, sizeof(struct ledger) * LEDGERS_MAX);
}
