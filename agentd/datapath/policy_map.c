/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Compiled policies in the kernel's tables: written under a new version beside what is in use, removed when nothing is.
 *
 * A version's match lists are interned and freed with it, so a list is never shared between versions and needs no
 * count.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "agentd/datapath/internal.h"
#include "agentd/util/cleanup.h"

enum { VERSION_MAX = POLICY_INGRESS - 1, IPV4_BITS = 96 };

/* A run of n entries (header included) in the matches array. */
static int run_take(struct datapath *datapath, __u32 n, __u32 *ret)
{
        struct free_run *run = datapath->free_runs[n];

        if (run) {
                datapath->free_runs[n] = run->next;
                *ret = run->index;
                free(run);
        } else {
                if (datapath->matches_top + n > MATCHES_CAPACITY)
                        return -ENOSPC;
                *ret = datapath->matches_top;
                datapath->matches_top += n;
        }
        datapath->matches_used += n;
        return 0;
}

static void run_give(struct datapath *datapath, __u32 index, __u32 n)
{
        struct free_run *run = malloc(sizeof(*run));

        datapath->matches_used -= n;
        if (!run) /* lost until the next start: there is a million */
                return;
        run->index = index;
        run->next = datapath->free_runs[n];
        datapath->free_runs[n] = run;
}

int datapath_list_intern(struct datapath *datapath, struct policy_slot *policy, const struct match *matches,
                         __u32 n_matches, __u32 *ret_index)
{
        struct list_slot *slot = NULL;
        struct match *run;
        int r;

        if (n_matches == 0) {
                *ret_index = 0;
                return 0;
        }
        if (n_matches > MATCH_LIST_MAX)
                return -E2BIG;

        HASH_FIND(hh, policy->lists, matches, n_matches * sizeof(*matches), slot);
        if (slot) {
                *ret_index = slot->index;
                return 0;
        }

        slot = calloc(1, sizeof(*slot) + n_matches * sizeof(*matches));
        if (!slot)
                return -ENOMEM;
        slot->n_matches = n_matches;
        memcpy(slot->matches, matches, n_matches * sizeof(*matches));
        r = run_take(datapath, n_matches + 1, &slot->index);
        if (r < 0) {
                free(slot);
                return r;
        }

        /* Nothing leads here yet: what will is written by a system call after these stores. */
        run = &datapath->matches[slot->index];
        run[0] = (struct match){.port_low = (__u16)n_matches, .rule = RULE_NONE};
        memcpy(run + 1, matches, n_matches * sizeof(*matches));
        HASH_ADD_KEYPTR(hh, policy->lists, slot->matches, n_matches * sizeof(*matches), slot);
        *ret_index = slot->index;
        return 0;
}

struct policy_slot *datapath_policy_find(struct datapath *datapath, __u32 version)
{
        struct policy_slot *policy = NULL;

        HASH_FIND(hh, datapath->policies, &version, sizeof(version), policy);
        return policy;
}

static int update_batch(int fd, const void *keys, size_t key_size, const __u32 *values, size_t n)
{
        for (size_t done = 0; done < n;) {
                LIBBPF_OPTS(bpf_map_batch_opts, options);
                __u32 count = (__u32)MIN(n - done, (size_t)DATAPATH_BATCH);
                int r = bpf_map_update_batch(fd, (const char *)keys + done * key_size, values + done, &count, &options);

                if (r < 0)
                        return r == -E2BIG ? -ENOSPC : r;
                done += count;
        }
        return 0;
}

/* Keys that are not there are no error: a failed publication has written some. */
static void delete_batch(int fd, const void *keys, size_t key_size, size_t n)
{
        for (size_t done = 0; done < n;) {
                LIBBPF_OPTS(bpf_map_batch_opts, options);
                __u32 count = (__u32)MIN(n - done, (size_t)DATAPATH_BATCH);
                int r = bpf_map_delete_batch(fd, (const char *)keys + done * key_size, &count, &options);

                /* The batch ends at the first key that is missing: step over it. */
                done += r < 0 ? (size_t)count + 1 : count;
        }
}

static void policy_free(struct datapath *datapath, struct policy_slot *policy)
{
        struct list_slot *slot, *next;

        HASH_ITER (hh, policy->lists, slot, next) {
                HASH_DEL(policy->lists, slot);
                run_give(datapath, slot->index, slot->n_matches + 1);
                free(slot);
        }
        free(policy->hosts);
        free(policy->cidrs);
        free(policy);
}

static void policy_entries_delete(struct datapath *datapath, const struct policy_slot *policy)
{
        delete_batch(bpf_map__fd(datapath->skeleton->maps.hosts), policy->hosts, sizeof(*policy->hosts),
                     policy->n_hosts);
        delete_batch(bpf_map__fd(datapath->skeleton->maps.cidrs), policy->cidrs, sizeof(*policy->cidrs),
                     policy->n_cidrs);
}

/* The next number that neither we nor a word in the kernel uses. */
static int version_take(struct datapath *datapath, __u32 *ret)
{
        for (__u32 tries = 0; tries < VERSION_MAX; tries++) {
                __u32 version = datapath->next_version;

                datapath->next_version = version % VERSION_MAX + 1;
                if (!datapath_policy_find(datapath, version)) {
                        *ret = version;
                        return 0;
                }
        }
        return -ENOSPC;
}

static int policy_fill(struct datapath *datapath, struct policy_slot *policy, const struct compiled_policy *compiled)
{
        const struct {
                const struct compiled_table *table;
                __u32 version;
        } tables[] = {{&compiled->egress, policy->version}, {&compiled->ingress, POLICY_INGRESS | policy->version}};
        _cleanup_free_ __u32 *lists = NULL, *host_values = NULL, *cidr_values = NULL;
        size_t n = compiled->egress.n_prefixes + compiled->ingress.n_prefixes;
        int r;

        lists = calloc(compiled->n_lists + 1, sizeof(*lists));
        host_values = calloc(n + 1, sizeof(*host_values));
        cidr_values = calloc(n + 1, sizeof(*cidr_values));
        policy->hosts = calloc(n + 1, sizeof(*policy->hosts));
        policy->cidrs = calloc(n + 1, sizeof(*policy->cidrs));
        if (!lists || !host_values || !cidr_values || !policy->hosts || !policy->cidrs)
                return -ENOMEM;

        for (size_t i = 0; i < compiled->n_lists; i++) {
                r = datapath_list_intern(datapath, policy, compiled->lists[i]->matches, compiled->lists[i]->n_matches,
                                         &lists[i]);
                if (r < 0)
                        return r;
        }

        for (size_t t = 0; t < ARRAY_SIZE(tables); t++) {
                for (size_t i = 0; i < tables[t].table->n_prefixes; i++) {
                        const struct compiled_prefix *entry = &tables[t].table->prefixes[i];

                        if (entry->prefix.length == 128) {
                                struct host_key *key = &policy->hosts[policy->n_hosts];

                                key->version = tables[t].version;
                                key->address = entry->prefix.address;
                                host_values[policy->n_hosts++] = lists[entry->list];
                        } else {
                                struct cidr_key *key = &policy->cidrs[policy->n_cidrs];

                                key->prefix_length = 32u + entry->prefix.length;
                                key->version = htobe32(tables[t].version);
                                memcpy(key->address, entry->prefix.address.bytes, sizeof(key->address));
                                cidr_values[policy->n_cidrs++] = lists[entry->list];
                        }
                }
        }

        r = update_batch(bpf_map__fd(datapath->skeleton->maps.hosts), policy->hosts, sizeof(*policy->hosts),
                         host_values, policy->n_hosts);
        if (r < 0)
                return r;
        return update_batch(bpf_map__fd(datapath->skeleton->maps.cidrs), policy->cidrs, sizeof(*policy->cidrs),
                            cidr_values, policy->n_cidrs);
}

int datapath_policy_add(struct datapath *datapath, const struct compiled_policy *compiled, __u32 *ret_version)
{
        struct policy_slot *policy;
        int r;

        policy = calloc(1, sizeof(*policy));
        if (!policy)
                return -ENOMEM;
        r = version_take(datapath, &policy->version);
        if (r == 0)
                r = policy_fill(datapath, policy, compiled);
        if (r < 0) {
                policy_entries_delete(datapath, policy);
                policy_free(datapath, policy);
                return r;
        }
        HASH_ADD(hh, datapath->policies, version, sizeof(policy->version), policy);
        datapath->n_hosts += policy->n_hosts;
        datapath->n_cidrs += policy->n_cidrs;
        *ret_version = policy->version;
        return 0;
}

int datapath_policy_remove(struct datapath *datapath, __u32 version)
{
        struct policy_slot *policy = datapath_policy_find(datapath, version);

        if (!policy)
                return -ENOENT;
        for (__u32 id = 1; id < AGENT_MAX; id++)
                if (WORD_VERSION(datapath->entries[id].word) == version)
                        return -EBUSY;
        HASH_DEL(datapath->policies, policy);
        datapath->n_hosts -= policy->n_hosts;
        datapath->n_cidrs -= policy->n_cidrs;
        policy_entries_delete(datapath, policy);
        policy_free(datapath, policy);
        return 0;
}

int datapath_map_each(int fd, size_t key_size, size_t value_size,
                      int (*function)(void *context, const void *key, const void *value), void *context)
{
        _cleanup_free_ char *key = calloc(1, key_size), *next = calloc(1, key_size), *value = calloc(1, value_size);
        bool first = true;

        if (!key || !next || !value)
                return -ENOMEM;
        while (bpf_map_get_next_key(fd, first ? NULL : key, next) == 0) {
                first = false;
                memcpy(key, next, key_size);
                if (bpf_map_lookup_elem(fd, key, value) == 0) {
                        int r = function(context, key, value);

                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static int note_list(void *context, __u32 list)
{
        struct datapath *datapath = context;

        if (list == 0 || list >= MATCHES_CAPACITY || datapath->matches[list].port_low > MATCH_LIST_MAX)
                return 0;
        datapath->matches_top = MAX(datapath->matches_top, list + 1 + datapath->matches[list].port_low);
        return 0;
}

static void note_version(struct datapath *datapath, __u32 version)
{
        version &= ~(__u32)POLICY_INGRESS;
        if (version <= VERSION_MAX)
                datapath->next_version = MAX(datapath->next_version, version % VERSION_MAX + 1);
}

static int note_host(void *context, const void *key, const void *value)
{
        note_version(context, ((const struct host_key *)key)->version);
        return note_list(context, *(const __u32 *)value);
}

static int note_cidr(void *context, const void *key, const void *value)
{
        note_version(context, be32toh(((const struct cidr_key *)key)->version));
        return note_list(context, *(const __u32 *)value);
}

static int note_learned(void *context, const void *key, const void *value)
{
        const struct learned_entry *entry = value;

        ((struct datapath *)context)->n_learned++;
        for (size_t i = 0; i < ARRAY_SIZE(entry->slots); i++) {
                note_version(context, entry->slots[i].version);
                (void)note_list(context, entry->slots[i].list);
        }
        return 0;
}

/*
 * Lists and versions that an earlier daemon's entries use are left alone: new ones go above them, until the sweep. A
 * version that it died before publishing is no agent's, but its entries are there: given again, it would mix two
 * policies.
 */
int datapath_policies_adopt(struct datapath *datapath)
{
        void *memory = mmap(NULL, sizeof(struct match) * MATCHES_CAPACITY, PROT_READ | PROT_WRITE, MAP_SHARED,
                            bpf_map__fd(datapath->skeleton->maps.matches), 0);
        int r;

        if (memory == MAP_FAILED)
                return -errno;
        datapath->matches = memory;

        datapath->matches_top = 1;
        datapath->next_version = 1;
        for (__u32 id = 1; id < AGENT_MAX; id++)
                datapath->next_version =
                        MAX(datapath->next_version, WORD_VERSION(datapath->entries[id].word) % VERSION_MAX + 1);

        r = datapath_map_each(bpf_map__fd(datapath->skeleton->maps.hosts), sizeof(struct host_key), sizeof(__u32),
                              note_host, datapath);
        if (r < 0)
                return r;
        r = datapath_map_each(bpf_map__fd(datapath->skeleton->maps.cidrs), sizeof(struct cidr_key), sizeof(__u32),
                              note_cidr, datapath);
        if (r < 0)
                return r;
        return datapath_map_each(bpf_map__fd(datapath->skeleton->maps.learned), sizeof(struct learned_key),
                                 sizeof(struct learned_entry), note_learned, datapath);
}

/* Keys of versions that are not ours, gathered first: a table must not be walked and changed at once. */
struct foreign_keys {
        struct datapath *datapath;
        char *keys;
        size_t key_size, n, capacity;
};

static int foreign_add(struct foreign_keys *foreign, const void *key)
{
        if (foreign->n == foreign->capacity) {
                size_t capacity = foreign->capacity ? foreign->capacity * 2 : 1024;
                char *keys = realloc(foreign->keys, capacity * foreign->key_size);

                if (!keys)
                        return -ENOMEM;
                foreign->keys = keys;
                foreign->capacity = capacity;
        }
        memcpy(foreign->keys + foreign->n++ * foreign->key_size, key, foreign->key_size);
        return 0;
}

static int foreign_host(void *context, const void *key, const void *value)
{
        struct foreign_keys *foreign = context;
        const struct host_key *host = key;

        return datapath_policy_find(foreign->datapath, host->version & ~(__u32)POLICY_INGRESS)
                       ? 0
                       : foreign_add(foreign, key);
}

static int foreign_cidr(void *context, const void *key, const void *value)
{
        struct foreign_keys *foreign = context;
        const struct cidr_key *cidr = key;

        return datapath_policy_find(foreign->datapath, be32toh(cidr->version) & ~(__u32)POLICY_INGRESS)
                       ? 0
                       : foreign_add(foreign, key);
}

static int sweep_map(struct datapath *datapath, int fd, size_t key_size,
                     int (*function)(void *context, const void *key, const void *value))
{
        struct foreign_keys foreign = {.datapath = datapath, .key_size = key_size};
        int r = datapath_map_each(fd, key_size, sizeof(__u32), function, &foreign);

        if (r == 0)
                delete_batch(fd, foreign.keys, key_size, foreign.n);
        free(foreign.keys);
        return r;
}

int datapath_policies_sweep(struct datapath *datapath)
{
        int r = sweep_map(datapath, bpf_map__fd(datapath->skeleton->maps.hosts), sizeof(struct host_key), foreign_host);

        if (r < 0)
                return r;
        return sweep_map(datapath, bpf_map__fd(datapath->skeleton->maps.cidrs), sizeof(struct cidr_key), foreign_cidr);
}

void datapath_policies_free(struct datapath *datapath)
{
        struct policy_slot *policy, *next;

        HASH_ITER (hh, datapath->policies, policy, next) {
                HASH_DEL(datapath->policies, policy);
                policy_free(datapath, policy);
        }
        if (datapath->matches)
                munmap(datapath->matches, sizeof(struct match) * MATCHES_CAPACITY);
        for (size_t n = 0; n < MATCH_LIST_MAX + 2; n++) {
                while (datapath->free_runs[n]) {
                        struct free_run *run = datapath->free_runs[n];

                        datapath->free_runs[n] = run->next;
                        free(run);
                }
        }
}
