/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The schedule of exact domains: a hash of (policy, name), and a heap of the same by the time of the next step.
 */
#include "agentd/dns/refresh.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) ((element)->unhashed = true)
#include <uthash.h>

#include "agentd/dns/heap.h"
#include "agentd/util/macro.h"

struct refresh_key {
        __u32 policy_id;
        char name[NAME_MAX_BYTES]; /* padded with NULs: compared as a whole */
};

struct refresh_item {
        struct refresh_key key;
        enum refresh_state state;
        bool asked;
        __u64 since_ns;
        int error;
        unsigned failures;
        struct heap_node due;
        bool unhashed;
        UT_hash_handle hh;
};

struct refresh {
        struct refresh_item *items;
        struct heap due;
        __u64 random;
};

int refresh_new(__u64 seed, struct refresh **ret)
{
        struct refresh *refresh = calloc(1, sizeof(*refresh));

        if (!refresh)
                return -ENOMEM;
        refresh->random = seed;
        *ret = refresh;
        return 0;
}

static void item_free(struct refresh *refresh, struct refresh_item *item)
{
        heap_remove(&refresh->due, &item->due);
        HASH_DEL(refresh->items, item);
        free(item);
}

void refresh_free(struct refresh *refresh)
{
        struct refresh_item *item, *next;

        if (!refresh)
                return;
        HASH_ITER (hh, refresh->items, item, next)
                item_free(refresh, item);
        heap_release(&refresh->due);
        free(refresh);
}

static int key_make(__u32 policy_id, const char *name, struct refresh_key *ret)
{
        size_t length = strnlen(name, NAME_MAX_BYTES);

        if (policy_id == 0 || length == 0 || length == NAME_MAX_BYTES)
                return -EINVAL;
        memset(ret, 0, sizeof(*ret));
        ret->policy_id = policy_id;
        memcpy(ret->name, name, length);
        return 0;
}

static struct refresh_item *item_find(const struct refresh *refresh, __u32 policy_id, const char *name)
{
        struct refresh_item *item = NULL;
        struct refresh_key key;

        if (key_make(policy_id, name, &key) < 0)
                return NULL;
        HASH_FIND(hh, refresh->items, &key, sizeof(key), item);
        return item;
}

/* splitmix64: spreads, no more is asked of it. */
static __u64 random_next(struct refresh *refresh)
{
        __u64 z = refresh->random += 0x9e3779b97f4a7c15ull;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
        return z ^ (z >> 31);
}

/* Between low and high per cent of span. */
static __u64 spread(struct refresh *refresh, __u64 span, unsigned low, unsigned high)
{
        __u64 permille = low * 10 + random_next(refresh) % ((high - low) * 10 + 1);

        return span / 1000 * permille;
}

int refresh_add(struct refresh *refresh, __u32 policy_id, const char *name, __u64 now_ns)
{
        struct refresh_item *item;
        struct refresh_key key;
        int r;

        r = key_make(policy_id, name, &key);
        if (r < 0)
                return r;
        if (item_find(refresh, policy_id, name))
                return 0;
        if (HASH_COUNT(refresh->items) >= REFRESH_MAX)
                return -ENOSPC;

        item = calloc(1, sizeof(*item));
        if (!item)
                return -ENOMEM;
        item->key = key;
        item->since_ns = now_ns;
        HASH_ADD(hh, refresh->items, key, sizeof(item->key), item);
        if (item->unhashed) {
                free(item);
                return -ENOMEM;
        }
        if (heap_set(&refresh->due, &item->due, now_ns) < 0) {
                item_free(refresh, item);
                return -ENOMEM;
        }
        return 0;
}

void refresh_remove(struct refresh *refresh, __u32 policy_id, const char *name)
{
        struct refresh_item *item = item_find(refresh, policy_id, name);

        if (item)
                item_free(refresh, item);
}

void refresh_remove_policy(struct refresh *refresh, __u32 policy_id)
{
        struct refresh_item *item, *next;

        HASH_ITER (hh, refresh->items, item, next) {
                if (item->key.policy_id == policy_id)
                        item_free(refresh, item);
        }
}

__u64 refresh_deadline(const struct refresh *refresh)
{
        const struct heap_node *first = heap_first(&refresh->due);

        return first ? first->time : UINT64_MAX;
}

static void item_fail(struct refresh *refresh, struct refresh_item *item, int error, __u64 now_ns)
{
        __u64 wait = MIN(1ull << MIN(item->failures, 10u), (__u64)REFRESH_BACKOFF_MAX_S) * NSEC_PER_SEC;

        if (item->state != REFRESH_FAILING)
                item->since_ns = now_ns;
        item->state = REFRESH_FAILING;
        item->error = error ? error : -EIO;
        item->failures++;
        item->asked = false;
        heap_set(&refresh->due, &item->due, now_ns + spread(refresh, wait, 80, 100));
}

bool refresh_next(struct refresh *refresh, __u64 now_ns, __u32 *ret_policy_id, char *ret_name)
{
        struct heap_node *node;

        while ((node = heap_first(&refresh->due)) && node->time <= now_ns) {
                struct refresh_item *item = HEAP_OWNER(node, struct refresh_item, due);

                if (item->asked) {
                        item_fail(refresh, item, -ETIMEDOUT, now_ns);
                        continue;
                }
                item->asked = true;
                heap_set(&refresh->due, node, now_ns + REFRESH_TIMEOUT_S * NSEC_PER_SEC);
                *ret_policy_id = item->key.policy_id;
                memcpy(ret_name, item->key.name, NAME_MAX_BYTES);
                return true;
        }
        return false;
}

int refresh_succeeded(struct refresh *refresh, __u32 policy_id, const char *name, __u64 life_ns, __u64 now_ns)
{
        struct refresh_item *item = item_find(refresh, policy_id, name);
        __u64 life = MAX(life_ns, REFRESH_LIFE_MIN_S * NSEC_PER_SEC);

        if (!item)
                return -ENOENT;
        if (item->state != REFRESH_RESOLVED)
                item->since_ns = now_ns;
        item->state = REFRESH_RESOLVED;
        item->error = 0;
        item->failures = 0;
        item->asked = false;
        heap_set(&refresh->due, &item->due, now_ns + spread(refresh, life, 80, 95));
        return 0;
}

int refresh_failed(struct refresh *refresh, __u32 policy_id, const char *name, int error, __u64 now_ns)
{
        struct refresh_item *item = item_find(refresh, policy_id, name);

        if (!item)
                return -ENOENT;
        item_fail(refresh, item, error, now_ns);
        return 0;
}

void refresh_restart(struct refresh *refresh, __u64 now_ns)
{
        for (struct refresh_item *item = refresh->items; item; item = item->hh.next) {
                if (!item->asked)
                        continue;
                item->asked = false;
                heap_set(&refresh->due, &item->due, now_ns);
        }
}

void refresh_each(const struct refresh *refresh, __u32 policy_id,
                  void (*function)(void *context, const struct refresh_view *view), void *context)
{
        for (const struct refresh_item *item = refresh->items; item; item = item->hh.next) {
                struct refresh_view view = {
                        .policy_id = item->key.policy_id,
                        .name = item->key.name,
                        .state = item->state,
                        .since_ns = item->since_ns,
                        .next_ns = item->due.time,
                        .error = item->error,
                        .failures = item->failures,
                };

                if (policy_id == 0 || policy_id == item->key.policy_id)
                        function(context, &view);
        }
}

void refresh_counts(const struct refresh *refresh, __u32 policy_id, size_t *ret_counts)
{
        memset(ret_counts, 0, (REFRESH_FAILING + 1) * sizeof(*ret_counts));
        for (const struct refresh_item *item = refresh->items; item; item = item->hh.next)
                if (policy_id == 0 || policy_id == item->key.policy_id)
                        ret_counts[item->state]++;
}

bool refresh_settled(const struct refresh *refresh, __u32 policy_id)
{
        size_t counts[REFRESH_FAILING + 1];

        refresh_counts(refresh, policy_id, counts);
        return counts[REFRESH_WAITING] == 0;
}
