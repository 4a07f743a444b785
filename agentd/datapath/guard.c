/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The guard's links, and the table of agents that its programs read (include/agentd/abi_guard.h).
 *
 * Whatever goes wrong here denies: an agent that is not in the table is no agent to the guard.
 */
#include "agentd/datapath/guard.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/datapath/internal.h"
#include "agentd/util/cleanup.h"

static void close_directory(DIR **directory)
{
        if (*directory)
                closedir(*directory);
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

static __u64 *slot_find(const struct datapath *datapath, __u64 cgroup_id, __u64 content)
{
        for (__u32 choice = 0; choice < 2; choice++) {
                struct guard_bucket *bucket = &datapath->guard_buckets[guard_bucket_of(cgroup_id, choice)];

                for (size_t i = 0; i < GUARD_WAYS; i++)
                        if (bucket->ids[i] == content)
                                return &bucket->ids[i];
        }
        return NULL;
}

bool datapath_guard_knows(const struct datapath *datapath, __u64 cgroup_id)
{
        return cgroup_id != 0 && slot_find(datapath, cgroup_id, cgroup_id);
}

int datapath_guard_enter(struct datapath *datapath, __u64 cgroup_id)
{
        __u64 *slot;

        if (cgroup_id == 0)
                return -EINVAL;
        if (datapath_guard_knows(datapath, cgroup_id))
                return 0;
        slot = slot_find(datapath, cgroup_id, 0);
        if (!slot)
                return -ENOSPC;
        __atomic_store_n(slot, cgroup_id, __ATOMIC_SEQ_CST);
        return 0;
}

void datapath_guard_leave(struct datapath *datapath, __u64 cgroup_id)
{
        __u64 *slot;

        /* Twice only if somebody else wrote there. */
        while (cgroup_id != 0 && (slot = slot_find(datapath, cgroup_id, cgroup_id)))
                __atomic_store_n(slot, 0, __ATOMIC_SEQ_CST);
}

/* An agent with links that judge packets: without them it waits for datapath_repair(). */
static bool is_agent(const struct datapath *datapath, __u32 id)
{
        const struct datapath_agent *agent = &datapath->agents[id];

        if (!agent->attached || datapath->entries[id].cgroup_id == 0)
                return false;
        for (size_t h = 0; h < DATAPATH_HOOKS; h++)
                if ((datapath->hooks[h].hook == HOOK_EGRESS || datapath->hooks[h].hook == HOOK_INGRESS) &&
                    agent->links[h] < 0)
                        return false;
        return true;
}

static void table_adopt(struct datapath *datapath)
{
        for (size_t b = 0; b < GUARD_BUCKETS; b++) {
                for (size_t i = 0; i < GUARD_WAYS; i++) {
                        __u64 *slot = &datapath->guard_buckets[b].ids[i];
                        bool known = false;

                        if (*slot == 0)
                                continue;
                        for (__u32 id = 1; id < AGENT_MAX && !known; id++)
                                known = datapath->entries[id].cgroup_id == *slot && is_agent(datapath, id);
                        if (!known)
                                __atomic_store_n(slot, 0, __ATOMIC_SEQ_CST);
                }
        }
        for (__u32 id = 1; id < AGENT_MAX; id++)
                if (is_agent(datapath, id))
                        (void)datapath_guard_enter(datapath, datapath->entries[id].cgroup_id);
}

/* --- the links ---------------------------------------------------------------------------------------------------- */

/* Tier 4 may be missing, or prove to be after it was loaded. What a former daemon has pinned of it stays. */
static bool hook_is_present(const struct datapath *datapath, size_t hook)
{
        return hook != DATAPATH_GUARD_LSM || datapath->extras[EXTRA_SOCKET_CREATE].present;
}

static int guard_path(const struct datapath *datapath, __u64 cgroup_id, size_t hook, char **ret)
{
        return asprintf(ret, "%s/guards/%llu/%s", datapath->directory, (unsigned long long)cgroup_id,
                        datapath->guard_hooks[hook].name) < 0
                       ? -ENOMEM
                       : 0;
}

static int guard_directory_make(const struct datapath *datapath, __u64 cgroup_id)
{
        _cleanup_free_ char *parent = NULL, *directory = NULL;

        if (asprintf(&parent, "%s/guards", datapath->directory) < 0 ||
            asprintf(&directory, "%s/guards/%llu", datapath->directory, (unsigned long long)cgroup_id) < 0)
                return -ENOMEM;
        if (mkdir(parent, 0700) < 0 && errno != EEXIST)
                return -errno;
        return mkdir(directory, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static struct datapath_guard *guard_find(const struct datapath *datapath, __u64 cgroup_id)
{
        struct datapath_guard *guard = NULL;

        HASH_FIND(hh, datapath->guards, &cgroup_id, sizeof(cgroup_id), guard);
        return guard;
}

static struct datapath_guard *guard_new(struct datapath *datapath, __u64 cgroup_id)
{
        struct datapath_guard *guard = calloc(1, sizeof(*guard));

        if (!guard)
                return NULL;
        guard->cgroup_id = cgroup_id;
        for (size_t h = 0; h < DATAPATH_GUARD_HOOKS; h++)
                guard->links[h] = -1;
        HASH_ADD(hh, datapath->guards, cgroup_id, sizeof(guard->cgroup_id), guard);
        return guard;
}

static void guard_close(struct datapath *datapath, struct datapath_guard *guard)
{
        for (size_t h = 0; h < DATAPATH_GUARD_HOOKS; h++)
                close_fd(&guard->links[h]);
        HASH_DEL(datapath->guards, guard);
        free(guard);
}

static bool guard_pinned(const struct datapath *datapath, __u64 cgroup_id, size_t hook)
{
        _cleanup_free_ char *path = NULL;

        return guard_path(datapath, cgroup_id, hook, &path) == 0 && access(path, F_OK) == 0;
}

int datapath_guard_add(struct datapath *datapath, int cgroup_fd, __u64 cgroup_id)
{
        struct datapath_guard *guard = guard_find(datapath, cgroup_id);
        bool fresh = !guard;
        int r;

        if (fresh && HASH_COUNT(datapath->guards) >= DATAPATH_GUARDS_MAX)
                return -ENOSPC;
        r = guard_directory_make(datapath, cgroup_id);
        if (r < 0)
                return r;
        if (fresh)
                guard = guard_new(datapath, cgroup_id);
        if (!guard)
                return -ENOMEM;

        for (size_t h = 0; h < DATAPATH_GUARD_HOOKS && r == 0; h++) {
                _cleanup_free_ char *path = NULL;

                if (!hook_is_present(datapath, h))
                        continue;
                r = guard_path(datapath, cgroup_id, h, &path);
                if (r < 0)
                        break;
                if (!datapath_link_holds(&datapath->guard_hooks[h], guard->links[h], cgroup_id))
                        r = datapath_link_make(&datapath->guard_hooks[h], cgroup_fd, path, &guard->links[h]);
                else if (access(path, F_OK) < 0)
                        r = bpf_obj_pin(guard->links[h], path);
        }
        /* Half of it denies as well; it is only let go when it is new and could not be made. */
        if (r < 0 && fresh)
                (void)datapath_guard_remove(datapath, cgroup_id);
        return r;
}

int datapath_guard_remove(struct datapath *datapath, __u64 cgroup_id)
{
        struct datapath_guard *guard = guard_find(datapath, cgroup_id);
        _cleanup_free_ char *directory = NULL;

        if (!guard)
                return -ENOENT;
        for (size_t h = 0; h < DATAPATH_GUARD_HOOKS; h++) {
                _cleanup_free_ char *path = NULL;

                if (guard_path(datapath, cgroup_id, h, &path) == 0)
                        datapath_link_drop(path, &guard->links[h]);
        }
        if (asprintf(&directory, "%s/guards/%llu", datapath->directory, (unsigned long long)cgroup_id) >= 0)
                (void)rmdir(directory);
        guard_close(datapath, guard);
        return 0;
}

int datapath_guard_verify(const struct datapath *datapath, __u64 cgroup_id)
{
        const struct datapath_guard *guard = guard_find(datapath, cgroup_id);

        if (!guard)
                return -ENOENT;
        for (size_t h = 0; h < DATAPATH_GUARD_HOOKS; h++)
                if (hook_is_present(datapath, h) &&
                    (!datapath_link_holds(&datapath->guard_hooks[h], guard->links[h], cgroup_id) ||
                     !guard_pinned(datapath, cgroup_id, h)))
                        return -ENOENT;
        return 0;
}

size_t datapath_guards(const struct datapath *datapath, __u64 *ret_ids, size_t capacity)
{
        const struct datapath_guard *guard;
        size_t n = 0;

        for (guard = datapath->guards; guard; guard = guard->hh.next) {
                if (n < capacity)
                        ret_ids[n] = guard->cgroup_id;
                n++;
        }
        return n;
}

__u64 datapath_guard_denied(const struct datapath *datapath)
{
        return __atomic_load_n(&datapath->counters[0].denied[REASON_NO_POLICY], __ATOMIC_RELAXED);
}

/* Links are updated in place to the new programs; one that cannot be is let stand for datapath_guard_add() to replace.
 */
static int guard_adopt(struct datapath *datapath, __u64 cgroup_id)
{
        struct datapath_guard *guard = guard_new(datapath, cgroup_id);
        size_t alive = 0;

        if (!guard)
                return -ENOMEM;
        for (size_t h = 0; h < DATAPATH_GUARD_HOOKS; h++) {
                _cleanup_free_ char *path = NULL;
                int r = guard_path(datapath, cgroup_id, h, &path);

                if (r < 0)
                        return r;
                guard->links[h] = bpf_obj_get(path);
                if (guard->links[h] < 0)
                        continue;
                r = hook_is_present(datapath, h)
                            ? bpf_link_update(guard->links[h], datapath->guard_hooks[h].program_fd, NULL)
                            : 0;
                if (r == -ENOLINK) /* the cgroup is gone */
                        close_fd(&guard->links[h]);
                else
                        alive++;
        }
        return alive == 0 ? datapath_guard_remove(datapath, cgroup_id) : 0;
}

int datapath_guards_adopt(struct datapath *datapath)
{
        _cleanup_free_ char *path = NULL;
        _cleanup_(close_directory) DIR *directory = NULL;
        struct dirent *item;

        table_adopt(datapath);
        if (asprintf(&path, "%s/guards", datapath->directory) < 0)
                return -ENOMEM;
        directory = opendir(path);
        if (!directory)
                return errno == ENOENT ? 0 : -errno;
        while ((item = readdir(directory))) {
                char *end;
                unsigned long long id = strtoull(item->d_name, &end, 10);
                int r;

                if (*end || id == 0 || guard_find(datapath, id))
                        continue;
                r = guard_adopt(datapath, id);
                if (r < 0)
                        return r;
        }
        return 0;
}

void datapath_guards_close(struct datapath *datapath)
{
        struct datapath_guard *guard, *next;

        HASH_ITER (hh, datapath->guards, guard, next)
                guard_close(datapath, guard);
        if (datapath->guard_buckets)
                munmap(datapath->guard_buckets, sizeof(struct guard_bucket) * GUARD_BUCKETS);
}
