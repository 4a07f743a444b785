/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A hash in order of use: uthash keeps insertion order, so an entry that is used is taken out and put at the end.
 */
#include "agentd/dns/cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/dns/limit.h"
#include "agentd/util/cleanup.h"

#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) (oom = true)
#include <uthash.h>

struct cache_entry {
        struct dns_template template;
        __u64 stored_ms, until_ms;
        size_t cost;
        UT_hash_handle hh;
        size_t key_size;
        char key[2 + NAME_MAX_BYTES]; /* type, name without its NUL */
};

struct dns_cache {
        struct cache_entry *entries;
        size_t bytes;
        size_t *total;
};

int dns_cache_new(size_t *total, struct dns_cache **ret)
{
        struct dns_cache *cache = calloc(1, sizeof(*cache));

        if (!cache)
                return -ENOMEM;
        cache->total = total;
        *ret = cache;
        return 0;
}

static void cache_remove(struct dns_cache *cache, struct cache_entry *entry)
{
        HASH_DELETE(hh, cache->entries, entry);
        cache->bytes -= entry->cost;
        *cache->total -= entry->cost;
        free(entry->template.places);
        free(entry->template.wire);
        free(entry);
}

void dns_cache_clear(struct dns_cache *cache)
{
        while (cache->entries)
                cache_remove(cache, cache->entries);
}

void dns_cache_free(struct dns_cache *cache)
{
        if (!cache)
                return;
        dns_cache_clear(cache);
        free(cache);
}

static size_t key_write(const char *name, __u16 type, char *ret)
{
        size_t length = strnlen(name, NAME_MAX_BYTES);

        memcpy(ret, &type, sizeof(type));
        memcpy(ret + sizeof(type), name, length);
        return sizeof(type) + length;
}

static struct cache_entry *cache_get(struct dns_cache *cache, const char *name, __u16 type)
{
        char key[2 + NAME_MAX_BYTES];
        size_t size = key_write(name, type, key);
        struct cache_entry *entry;

        HASH_FIND(hh, cache->entries, key, size, entry);
        return entry;
}

/* At the end of the order: the last to go. False when memory is short; the entry is then gone. */
static bool cache_append(struct dns_cache *cache, struct cache_entry *entry)
{
        bool oom = false;

        HASH_ADD(hh, cache->entries, key, entry->key_size, entry);
        return !oom;
}

int dns_cache_put(struct dns_cache *cache, const char *name, __u16 type, struct dns_template *template,
                  __u32 lifetime_s, __u64 now_ms)
{
        size_t n_places = (size_t) template->n_answers + template->n_authorities;
        _cleanup_free_ struct cache_entry *entry = NULL;
        struct cache_entry *old;

        if (lifetime_s == 0)
                return -EINVAL;
        entry = calloc(1, sizeof(*entry));
        if (!entry)
                return -ENOMEM;
        entry->stored_ms = now_ms;
        entry->until_ms = now_ms + (__u64)lifetime_s * 1000;
        entry->key_size = key_write(name, type, entry->key);
        /* What malloc adds is in the round number. */
        entry->cost = sizeof(*entry) + template->size + n_places * sizeof(struct dns_place) + 64;
        if (entry->cost > LIMIT_CACHE_BYTES)
                return -ENOSPC;

        old = cache_get(cache, name, type);
        if (old)
                cache_remove(cache, old);
        while (cache->entries &&
               (dns_cache_size(cache) >= LIMIT_CACHE_ENTRIES || cache->bytes + entry->cost > LIMIT_CACHE_BYTES))
                cache_remove(cache, cache->entries);
        /* Other agents' caches fill the total: only our own oldest entry makes room, so that nobody is pushed out. */
        if (cache->entries && *cache->total + entry->cost > LIMIT_CACHE_TOTAL)
                cache_remove(cache, cache->entries);
        if (*cache->total + entry->cost > LIMIT_CACHE_TOTAL)
                return -ENOSPC;

        if (!cache_append(cache, entry))
                return -ENOMEM;
        cache->bytes += entry->cost;
        *cache->total += entry->cost;
        entry->template = *template;
        *template = (struct dns_template){0};
        (void)TAKE_PTR(entry);
        return 0;
}

const struct dns_template *dns_cache_find(struct dns_cache *cache, const char *name, __u16 type, __u64 now_ms,
                                          __u32 *ret_age_s)
{
        struct cache_entry *entry = cache_get(cache, name, type);

        if (!entry)
                return NULL;
        if (now_ms >= entry->until_ms) {
                cache_remove(cache, entry);
                return NULL;
        }
        /* No memory is needed to put back what was just taken out: the table is as large as it was. */
        if (entry->hh.next) {
                size_t cost = entry->cost;

                HASH_DELETE(hh, cache->entries, entry);
                if (!cache_append(cache, entry)) {
                        cache->bytes -= cost;
                        *cache->total -= cost;
                        free(entry->template.places);
                        free(entry->template.wire);
                        free(entry);
                        return NULL;
                }
        }
        *ret_age_s = (__u32)((now_ms - entry->stored_ms) / 1000);
        return &entry->template;
}

size_t dns_cache_size(const struct dns_cache *cache)
{
        return HASH_COUNT(cache->entries);
}
