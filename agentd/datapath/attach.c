/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Agents in the kernel: links on the cgroup, the per-CPU line that names the agent, the entry that every packet reads.
 *
 * Order is the argument. Attaching: the entry denies (word 0), then the links hold, then the line gets its id, then the
 * caller publishes a policy. Detaching: the word denies, then the links go. A line left over from an earlier attachment
 * of the same cgroup is emptied before the first link: its id may be another agent's by now.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "agentd/datapath/internal.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

static inline void close_directory(DIR **directory)
{
        if (*directory)
                closedir(*directory);
}

static int agent_directory(const struct datapath *datapath, __u32 agent_id, char **ret)
{
        return asprintf(ret, "%s/links/%u", datapath->directory, agent_id) < 0 ? -ENOMEM : 0;
}

static int link_path(const struct datapath *datapath, __u32 agent_id, size_t hook, char **ret)
{
        return asprintf(ret, "%s/links/%u/%s", datapath->directory, agent_id, datapath->hooks[hook].name) < 0 ? -ENOMEM
                                                                                                              : 0;
}

/* Writes the agent's id into the line of every CPU, and empties it. -ENOENT: the cgroup has no line. */
static int line_write(struct datapath *datapath, __u64 cgroup_id, __u32 agent_id)
{
        struct agent_line *lines = datapath->line_buffer;

        memset(lines, 0, sizeof(*lines) * (size_t)datapath->n_cpus);
        for (int i = 0; i < datapath->n_cpus; i++)
                lines[i].agent_id = agent_id;
        return bpf_map_update_elem(bpf_map__fd(datapath->skeleton->maps.lines), &cgroup_id, lines, BPF_EXIST);
}

static int line_read(struct datapath *datapath, __u64 cgroup_id)
{
        return bpf_map_lookup_elem(bpf_map__fd(datapath->skeleton->maps.lines), &cgroup_id, datapath->line_buffer);
}

static int line_id(struct datapath *datapath, __u64 cgroup_id, __u32 *ret)
{
        const struct agent_line *lines = datapath->line_buffer;
        int r = line_read(datapath, cgroup_id);

        if (r < 0)
                return r;
        for (int i = 1; i < datapath->n_cpus; i++)
                if (lines[i].agent_id != lines[0].agent_id)
                        return -EBADMSG;
        *ret = lines[0].agent_id;
        return 0;
}

/*
 * Attached and pinned before an older link of the same hook is let go: two programs that judge alike for a moment,
 * never none. The pin is replaced by rename, so that there is one at every instant.
 */
int datapath_link_make(const struct datapath_hook *hook, int cgroup_fd, const char *path, int *link)
{
        _cleanup_free_ char *fresh = NULL;
        _cleanup_close_ int fd = -1;
        int r;

        fd = bpf_link_create(hook->program_fd, cgroup_fd, hook->type, NULL);
        if (fd < 0)
                return fd;
        if (asprintf(&fresh, "%s-new", path) < 0)
                return -ENOMEM;
        (void)unlink(fresh); /* of a daemon that died right here */
        r = bpf_obj_pin(fd, fresh);
        if (r < 0)
                return r;
        if (rename(fresh, path) < 0) {
                r = -errno;
                (void)unlink(fresh);
                return r;
        }
        close_fd(link);
        *link = TAKE_FD(fd);
        return 0;
}

void datapath_link_drop(const char *path, int *link)
{
        _cleanup_free_ char *fresh = NULL;

        (void)unlink(path);
        if (asprintf(&fresh, "%s-new", path) >= 0)
                (void)unlink(fresh);
        close_fd(link);
}

static int link_make(struct datapath *datapath, __u32 agent_id, size_t hook, int cgroup_fd)
{
        _cleanup_free_ char *path = NULL;
        int r = link_path(datapath, agent_id, hook, &path);

        return r < 0 ? r
                     : datapath_link_make(&datapath->hooks[hook], cgroup_fd, path,
                                          &datapath->agents[agent_id].links[hook]);
}

static void links_drop(struct datapath *datapath, __u32 agent_id)
{
        struct datapath_agent *agent = &datapath->agents[agent_id];
        _cleanup_free_ char *directory = NULL;

        datapath_devices_drop(datapath, agent_id);
        for (size_t h = 0; h < DATAPATH_HOOKS; h++) {
                _cleanup_free_ char *path = NULL;

                if (link_path(datapath, agent_id, h, &path) == 0)
                        datapath_link_drop(path, &agent->links[h]);
                close_fd(&agent->links[h]);
        }
        datapath_extras_drop(datapath, agent_id);
        if (agent_directory(datapath, agent_id, &directory) == 0)
                (void)rmdir(directory);
        agent->attached = false;
}

int datapath_agent_directory_make(const struct datapath *datapath, __u32 agent_id)
{
        _cleanup_free_ char *parent = NULL, *directory = NULL;
        int r;

        if (asprintf(&parent, "%s/links", datapath->directory) < 0)
                return -ENOMEM;
        if (mkdir(parent, 0700) < 0 && errno != EEXIST)
                return -errno;
        r = agent_directory(datapath, agent_id, &directory);
        if (r < 0)
                return r;
        return mkdir(directory, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static int links_make(struct datapath *datapath, __u32 agent_id, int cgroup_fd)
{
        int r = datapath_agent_directory_make(datapath, agent_id);

        if (r < 0)
                return r;
        for (size_t h = 0; h < DATAPATH_HOOKS; h++) {
                r = link_make(datapath, agent_id, h, cgroup_fd);
                if (r < 0)
                        return r;
        }
        return datapath_extras_attach(datapath, agent_id, cgroup_fd);
}

int datapath_attach(struct datapath *datapath, __u32 agent_id, int cgroup_fd, __u64 cgroup_id, const char *name)
{
        const struct agent_counters zero = {};
        struct agent_entry *entry;
        int r;

        if (agent_id == 0 || agent_id >= AGENT_MAX || datapath->agents[agent_id].attached ||
            strlen(name) >= AGENT_NAME_MAX)
                return -EINVAL;
        entry = &datapath->entries[agent_id];

        __atomic_store_n(&entry->word, 0, __ATOMIC_SEQ_CST);
        entry->cgroup_id = cgroup_id;
        memset(entry->policy, 0, sizeof(entry->policy));
        memset(entry->name, 0, sizeof(entry->name));
        memcpy(entry->name, name, strlen(name));

        /* The id may have been another agent's. */
        r = bpf_map_update_elem(bpf_map__fd(datapath->skeleton->maps.counters), &agent_id, &zero, BPF_ANY);
        if (r < 0)
                return r;
        r = line_write(datapath, cgroup_id, 0);
        if (r < 0 && r != -ENOENT)
                return r;
        r = links_make(datapath, agent_id, cgroup_fd);
        if (r == 0)
                r = line_write(datapath, cgroup_id, agent_id);
        /* Last: from here on a guard above leaves it to the agent's own programs, which deny. */
        if (r == 0)
                r = datapath_guard_enter(datapath, cgroup_id);
        if (r < 0) {
                links_drop(datapath, agent_id);
                memset(entry, 0, sizeof(*entry));
                return r;
        }
        datapath->agents[agent_id].attached = true;
        return 0;
}

int datapath_detach(struct datapath *datapath, __u32 agent_id)
{
        struct agent_entry *entry;
        __u64 cgroup_id;

        if (agent_id == 0 || agent_id >= AGENT_MAX || !datapath->agents[agent_id].attached)
                return -ENOENT;
        entry = &datapath->entries[agent_id];
        cgroup_id = entry->cgroup_id;

        __atomic_store_n(&entry->word, 0, __ATOMIC_SEQ_CST);
        datapath_guard_leave(datapath, cgroup_id); /* a guard above denies before the links go */
        links_drop(datapath, agent_id);
        (void)line_write(datapath, cgroup_id, 0); /* the cgroup may be gone */
        memset(entry, 0, sizeof(*entry));
        return 0;
}

struct agent_entry *datapath_agent(struct datapath *datapath, __u32 agent_id)
{
        return &datapath->entries[agent_id < AGENT_MAX ? agent_id : 0];
}

size_t datapath_adopted(struct datapath *datapath, __u32 *ids)
{
        size_t n = 0;

        for (__u32 id = 1; id < AGENT_MAX; id++)
                if (datapath->agents[id].attached)
                        ids[n++] = id;
        return n;
}

bool datapath_link_holds(const struct datapath_hook *hook, int link, __u64 cgroup_id)
{
        struct bpf_link_info info = {};
        __u32 size = sizeof(info);

        return link >= 0 && bpf_obj_get_info_by_fd(link, &info, &size) == 0 && info.type == BPF_LINK_TYPE_CGROUP &&
               info.cgroup.cgroup_id == cgroup_id && info.cgroup.attach_type == hook->type &&
               info.prog_id == hook->program_id;
}

static bool link_holds(const struct datapath *datapath, __u32 agent_id, size_t hook)
{
        return datapath_link_holds(&datapath->hooks[hook], datapath->agents[agent_id].links[hook],
                                   datapath->entries[agent_id].cgroup_id);
}

/* Without its pin a link dies with the daemon: unlinking one needs no capability, only access to the bpffs. */
static int pin_holds(const struct datapath *datapath, __u32 agent_id, size_t hook)
{
        _cleanup_free_ char *path = NULL;
        int r = link_path(datapath, agent_id, hook, &path);

        if (r < 0)
                return r;
        return access(path, F_OK) < 0 ? -errno : 0;
}

static int pin_make(const struct datapath *datapath, __u32 agent_id, size_t hook)
{
        _cleanup_free_ char *path = NULL;
        int r = datapath_agent_directory_make(datapath, agent_id);

        if (r < 0)
                return r;
        r = link_path(datapath, agent_id, hook, &path);
        return r < 0 ? r : bpf_obj_pin(datapath->agents[agent_id].links[hook], path);
}

int datapath_verify(struct datapath *datapath, __u32 agent_id, enum hook *ret_hook)
{
        __u32 id = 0;

        if (agent_id == 0 || agent_id >= AGENT_MAX || !datapath->agents[agent_id].attached)
                return -ENOENT;
        for (size_t h = 0; h < DATAPATH_HOOKS; h++) {
                if (!link_holds(datapath, agent_id, h) || pin_holds(datapath, agent_id, h) < 0) {
                        *ret_hook = datapath->hooks[h].hook;
                        return -ENOENT;
                }
        }
        if (line_id(datapath, datapath->entries[agent_id].cgroup_id, &id) < 0 || id != agent_id) {
                *ret_hook = HOOK_NONE;
                return -ENOENT;
        }
        if (!datapath_guard_knows(datapath, datapath->entries[agent_id].cgroup_id)) {
                *ret_hook = HOOK_GUARD;
                return -ENOENT;
        }
        return datapath_extras_verify(datapath, agent_id, ret_hook);
}

/* One agent's pins: links are updated in place to the new programs. Dropped when none is left alive: its cgroup is
 * gone. */
static int agent_adopt(struct datapath *datapath, __u32 agent_id)
{
        struct datapath_agent *agent = &datapath->agents[agent_id];
        struct agent_entry *entry = &datapath->entries[agent_id];
        size_t found = 0;
        __u32 id = 0;
        int r;

        for (size_t h = 0; h < DATAPATH_HOOKS; h++) {
                _cleanup_free_ char *path = NULL;

                r = link_path(datapath, agent_id, h, &path);
                if (r < 0)
                        return r;
                agent->links[h] = bpf_obj_get(path);
                if (agent->links[h] < 0)
                        continue;
                r = bpf_link_update(agent->links[h], datapath->hooks[h].program_fd, NULL);
                if (r < 0) /* the cgroup is gone: -ENOLINK */
                        close_fd(&agent->links[h]);
                else
                        found++;
        }

        found += datapath_extras_adopt(datapath, agent_id);
        if (found == 0) {
                links_drop(datapath, agent_id);
                memset(entry, 0, sizeof(*entry));
                return 0;
        }
        /* What is missing is made good by datapath_repair(); what is there is never detached for it. */
        agent->attached = true;
        r = line_id(datapath, entry->cgroup_id, &id);
        if (r < 0 || id != agent_id)
                (void)line_write(datapath, entry->cgroup_id, agent_id);
        return 0;
}

int datapath_repair(struct datapath *datapath, __u32 agent_id, int cgroup_fd)
{
        struct datapath_agent *agent = &datapath->agents[agent_id < AGENT_MAX ? agent_id : 0];
        __u32 id = 0;
        int r;

        if (!agent->attached)
                return -ENOENT;
        for (size_t h = 0; h < DATAPATH_HOOKS; h++) {
                if (link_holds(datapath, agent_id, h)) {
                        r = pin_holds(datapath, agent_id, h) < 0 ? pin_make(datapath, agent_id, h) : 0;
                        if (r < 0)
                                return r;
                        continue;
                }
                r = link_make(datapath, agent_id, h, cgroup_fd);
                if (r < 0)
                        return r;
        }
        r = datapath_extras_repair(datapath, agent_id, cgroup_fd);
        if (r < 0)
                return r;
        r = line_id(datapath, datapath->entries[agent_id].cgroup_id, &id);
        if (r < 0 || id != agent_id)
                r = line_write(datapath, datapath->entries[agent_id].cgroup_id, agent_id);
        return r < 0 ? r : datapath_guard_enter(datapath, datapath->entries[agent_id].cgroup_id);
}

int datapath_links_adopt(struct datapath *datapath)
{
        _cleanup_free_ char *path = NULL;
        _cleanup_(close_directory) DIR *directory = NULL;
        struct dirent *item;

        for (__u32 id = 1; id < AGENT_MAX; id++)
                datapath->generation = MAX(datapath->generation, WORD_GENERATION(datapath->entries[id].word));

        if (asprintf(&path, "%s/links", datapath->directory) < 0)
                return -ENOMEM;
        directory = opendir(path);
        if (!directory)
                return errno == ENOENT ? 0 : -errno;

        while ((item = readdir(directory))) {
                char *end;
                unsigned long id = strtoul(item->d_name, &end, 10);
                int r;

                if (*end || id == 0 || id >= AGENT_MAX)
                        continue;
                r = agent_adopt(datapath, (__u32)id);
                if (r < 0)
                        return r;
        }
        return 0;
}

void datapath_links_close(struct datapath *datapath)
{
        for (size_t i = 0; i < AGENT_MAX; i++)
                for (size_t h = 0; h < DATAPATH_HOOKS; h++)
                        close_fd(&datapath->agents[i].links[h]);
}

__u32 datapath_generation(const struct datapath *datapath)
{
        return datapath->generation;
}

/* The slot that the current word does not use is written first: a packet finds its version's in either. */
__u32 datapath_agent_publish_limits(struct datapath *datapath, __u32 agent_id, __u32 version, __u32 flags,
                                    struct datapath_limits limits)
{
        struct agent_entry *entry = &datapath->entries[agent_id];
        struct agent_limits slot = {.version = version, .first = limits.first, .count = limits.count};
        __u32 generation = ++datapath->generation;
        size_t i = entry->limits[0].version == version || (entry->limits[1].version != version &&
                                                           entry->limits[1].version == WORD_VERSION(entry->word))
                           ? 0
                           : 1;
        __u64 value;

        memcpy(&value, &slot, sizeof(value));
        __atomic_store_n((__u64 *)&entry->limits[i], value, __ATOMIC_SEQ_CST);
        __atomic_store_n(&entry->word, WORD_MAKE(generation, version, flags), __ATOMIC_SEQ_CST);
        return generation;
}

__u32 datapath_agent_publish(struct datapath *datapath, __u32 agent_id, __u32 version, __u32 flags)
{
        return datapath_agent_publish_limits(datapath, agent_id, version, flags, (struct datapath_limits){.count = 1});
}

int datapath_counters(struct datapath *datapath, __u32 agent_id, struct agent_counters *ret)
{
        if (agent_id >= AGENT_MAX)
                return -EINVAL;
        *ret = datapath->counters[agent_id];
        return 0;
}

int datapath_traffic(struct datapath *datapath, __u32 agent_id, __u64 ret_packets[2], __u64 ret_bytes[2])
{
        const struct agent_line *lines = datapath->line_buffer;
        int r;

        if (agent_id == 0 || agent_id >= AGENT_MAX)
                return -EINVAL;
        r = line_read(datapath, datapath->entries[agent_id].cgroup_id);
        if (r < 0)
                return r;
        for (int d = 0; d < 2; d++) {
                ret_packets[d] = 0;
                ret_bytes[d] = 0;
                for (int i = 0; i < datapath->n_cpus; i++) {
                        ret_packets[d] += lines[i].packets[d];
                        ret_bytes[d] += lines[i].bytes[d];
                }
        }
        ret_packets[DIRECTION_EGRESS] += datapath->counters[agent_id].device_packets;
        ret_bytes[DIRECTION_EGRESS] += datapath->counters[agent_id].device_bytes;
        return 0;
}

/* ROOT/agentd/vN/run/PID/links/ID/HOOK is the deepest that we make. */
enum { REMOVE_DEPTH_MAX = 8 };

static int remove_tree(int parent_fd, const char *name, unsigned depth)
{
        _cleanup_(close_directory) DIR *directory = NULL;
        int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct dirent *item;

        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        directory = fdopendir(fd);
        if (!directory) {
                close(fd);
                return -ENOMEM;
        }
        while ((item = readdir(directory))) {
                int r = 0;

                if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0)
                        continue;
                if (unlinkat(fd, item->d_name, 0) < 0)
                        r = depth > 0 ? remove_tree(fd, item->d_name, depth - 1) : -errno;
                if (r < 0)
                        return r;
        }
        return unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int datapath_uninstall(const char *directory)
{
        datapath_devices_uninstall(directory);
        return remove_tree(AT_FDCWD, directory, REMOVE_DEPTH_MAX);
}
