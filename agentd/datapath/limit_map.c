/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Keys of ledgers and buckets: which id each has in the kernel's tables, over daemons.
 *
 * A key is written to the pinned map when its ledger is complete, and taken out before the ledger is cleared: a daemon
 * that dies between two steps leaves an id that nothing names, never a name for something half made. An id that a set
 * may still hold is given to nobody: its new owner would pay for another agent's packets.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "agentd/datapath/internal.h"
#include "agentd/datapath/ledger_map.h"
#include "agentd/util/cleanup.h"

_Static_assert((int)LEDGERS_MAX == (int)BUCKETS_MAX, "one table of ids serves both kinds");

static int ids_fd(const struct datapath *datapath)
{
        return bpf_map__fd(datapath->skeleton->maps.limit_ids);
}

static int key_fill(enum limit_kind kind, const char *text, struct limit_id_key *ret)
{
        size_t length = strlen(text);

        if (length == 0 || length >= sizeof(ret->key))
                return -EINVAL;
        *ret = (struct limit_id_key){.kind = (__u8)kind};
        memcpy(ret->key, text, length);
        return 0;
}

struct limit_slot *datapath_limit_find(struct datapath *datapath, enum limit_kind kind, const char *key)
{
        struct limit_slot *slot = NULL;
        struct limit_id_key full;

        if (key_fill(kind, key, &full) == 0)
                HASH_FIND(hh, datapath->limits.slots, &full, sizeof(full), slot);
        return slot;
}

static bool id_is_free(const struct limit_tables *tables, enum limit_kind kind, __u32 id)
{
        if (tables->by_id[kind][id] || tables->held[kind][id])
                return false;
        return kind != LIMIT_LEDGER || tables->ledgers[id].first_set >= tables->ledgers[id].end_set;
}

int datapath_limit_new(struct datapath *datapath, enum limit_kind kind, const char *key, struct limit_slot **ret)
{
        _cleanup_free_ struct limit_slot *slot = calloc(1, sizeof(*slot));
        struct limit_tables *tables = &datapath->limits;
        int r;

        if (!slot)
                return -ENOMEM;
        r = key_fill(kind, key, &slot->key);
        if (r < 0)
                return r;

        /* Round and round: an id that was given back rests for long. */
        for (__u32 tries = 1; tries < LEDGERS_MAX; tries++) {
                __u32 id = tables->next_id[kind];

                tables->next_id[kind] = id % (LEDGERS_MAX - 1) + 1;
                if (id == 0 || !id_is_free(tables, kind, id))
                        continue;
                slot->id = id;
                *ret = TAKE_PTR(slot);
                return 0;
        }
        return -ENOSPC;
}

static void slot_link(struct limit_tables *tables, struct limit_slot *slot)
{
        HASH_ADD(hh, tables->slots, key, sizeof(slot->key), slot);
        tables->by_id[slot->key.kind][slot->id] = slot;
}

int datapath_limit_add(struct datapath *datapath, struct limit_slot *slot)
{
        int r = bpf_map_update_elem(ids_fd(datapath), &slot->key, &slot->id, BPF_ANY);

        if (r < 0) {
                free(slot);
                return r == -E2BIG ? -ENOSPC : r;
        }
        slot_link(&datapath->limits, slot);
        return 0;
}

void datapath_limit_drop(struct datapath *datapath, struct limit_slot *slot)
{
        struct limit_tables *tables = &datapath->limits;

        (void)bpf_map_delete_elem(ids_fd(datapath), &slot->key);
        if (slot->key.kind == LIMIT_LEDGER) {
                struct ledger *ledger = &tables->ledgers[slot->id];

                /* A limit of 0 refuses, if something should lead here after all; the range of sets stays true. */
                *ledger = (struct ledger){.first_set = ledger->first_set, .end_set = ledger->end_set};
        } else {
                tables->buckets[slot->id] = (struct bucket){.arrival_ns = ~0ull}; /* refuses as well */
        }
        tables->by_id[slot->key.kind][slot->id] = NULL;
        HASH_DEL(tables->slots, slot);
        free(slot);
}

static int adopt_id(void *context, const void *key, const void *value)
{
        struct limit_tables *tables = context;
        struct limit_slot *slot;
        __u32 id = *(const __u32 *)value;
        const struct limit_id_key *full = key;

        if ((full->kind != LIMIT_LEDGER && full->kind != LIMIT_BUCKET) || id == 0 || id >= LEDGERS_MAX ||
            full->key[0] == '\0' || full->key[sizeof(full->key) - 1] != '\0' || tables->by_id[full->kind][id] ||
            (full->kind == LIMIT_LEDGER && tables->ledgers[id].period >= PERIOD_MAX))
                return -EBADMSG;
        slot = calloc(1, sizeof(*slot));
        if (!slot)
                return -ENOMEM;
        slot->key = *full;
        slot->id = id;
        slot_link(tables, slot);
        return 0;
}

int datapath_limit_ids_adopt(struct datapath *datapath)
{
        datapath->limits.next_id[LIMIT_LEDGER] = datapath->limits.next_id[LIMIT_BUCKET] = 1;
        return datapath_map_each(ids_fd(datapath), sizeof(struct limit_id_key), sizeof(__u32), adopt_id,
                                 &datapath->limits);
}

void datapath_limit_ids_free(struct datapath *datapath)
{
        struct limit_slot *slot, *next;

        HASH_ITER (hh, datapath->limits.slots, slot, next) {
                HASH_DEL(datapath->limits.slots, slot);
                free(slot);
        }
}

int datapath_bucket_get(struct datapath *datapath, const char *key, __u64 interval_ns, __u64 tolerance_ns,
                        __u32 *ret_id)
{
        struct limit_slot *slot = datapath_limit_find(datapath, LIMIT_BUCKET, key);
        struct bucket *bucket;
        int r;

        if (!slot) {
                r = datapath_limit_new(datapath, LIMIT_BUCKET, key, &slot);
                if (r < 0)
                        return r;
                datapath->limits.buckets[slot->id] =
                        (struct bucket){.interval_ns = interval_ns, .tolerance_ns = tolerance_ns};
                r = datapath_limit_add(datapath, slot);
                if (r < 0)
                        return r;
        }
        bucket = &datapath->limits.buckets[slot->id];
        __atomic_store_n(&bucket->interval_ns, interval_ns, __ATOMIC_RELEASE);
        __atomic_store_n(&bucket->tolerance_ns, tolerance_ns, __ATOMIC_RELEASE);
        slot->references++;
        *ret_id = slot->id;
        return 0;
}

void datapath_bucket_settle(struct datapath *datapath, __u32 id)
{
        struct bucket *bucket = &datapath->limits.buckets[id];
        __u64 arrival_ns = __atomic_load_n(&bucket->arrival_ns, __ATOMIC_ACQUIRE), empty_ns;
        struct timespec now = {0};

        (void)clock_gettime(CLOCK_BOOTTIME, &now);
        empty_ns = (__u64)now.tv_sec * NSEC_PER_SEC + (__u64)now.tv_nsec + bucket->tolerance_ns + bucket->interval_ns;
        while (arrival_ns > empty_ns && !__atomic_compare_exchange_n(&bucket->arrival_ns, &arrival_ns, empty_ns, false,
                                                                     __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
                ;
}

void datapath_bucket_put(struct datapath *datapath, __u32 id)
{
        struct limit_slot *slot = id < BUCKETS_MAX ? datapath->limits.by_id[LIMIT_BUCKET][id] : NULL;

        if (slot && slot->references > 0 && --slot->references == 0)
                datapath_limit_drop(datapath, slot);
}
