/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The watch's tables: directories and agents, each with its inotify watch. What is in a table has its watch or says
 * that it has none; what leaves it takes the watch along.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

#include "agentd/agent/watch_state.h"

static int inotify_add(struct agent_watch *watch, int directory_fd, const char *file, uint32_t mask)
{
        char path[64];

        /* By the descriptor that was walked to, so that nothing else can be meant. */
        snprintf(path, sizeof(path), "/proc/self/fd/%d%s", directory_fd, file);
        return inotify_add_watch(watch->inotify_fd, path, mask);
}

void watch_directory_forget(struct agent_watch *watch, struct watch_directory *directory)
{
        HASH_DEL(watch->directories, directory);
        HASH_DELETE(hh_wd, watch->directories_by_wd, directory);
        free(directory);
}

/* A scan looks into this directory: watch it from before it is read. */
void watch_directory_visit(void *context, int fd, __u64 id)
{
        struct agent_watch *watch = ((struct watch_scan *)context)->watch;
        struct watch_directory *directory = NULL, *other = NULL;
        int wd;

        HASH_FIND(hh, watch->directories, &id, sizeof(id), directory);
        if (directory) {
                directory->seen = watch->statistics.rescans;
                return;
        }
        if (HASH_COUNT(watch->directories) >= WATCH_DIRECTORIES_MAX) {
                watch->statistics.beyond++;
                return;
        }
        wd = inotify_add(watch, fd, "",
                         IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_ONLYDIR);
        if (wd < 0) {
                watch->statistics.beyond++;
                return;
        }
        HASH_FIND(hh_wd, watch->directories_by_wd, &wd, sizeof(wd), other);
        if (other)
                watch_directory_forget(watch, other);
        directory = calloc(1, sizeof(*directory));
        if (directory) {
                directory->id = id;
                directory->wd = wd;
                directory->seen = watch->statistics.rescans;
                HASH_ADD(hh, watch->directories, id, sizeof(directory->id), directory);
                if (directory->unhashed) {
                        free(directory);
                        directory = NULL;
                }
        }
        if (directory) {
                HASH_ADD(hh_wd, watch->directories_by_wd, wd, sizeof(directory->wd), directory);
                if (directory->unhashed) {
                        HASH_DEL(watch->directories, directory);
                        free(directory);
                        directory = NULL;
                }
        }
        if (!directory) {
                (void)inotify_rm_watch(watch->inotify_fd, wd);
                watch->statistics.beyond++;
        }
}

/* Directories that the last scan did not need. Removing a watch that the kernel has dropped already fails: ignoring. */
void watch_directories_trim(struct agent_watch *watch)
{
        struct watch_directory *directory, *next;

        HASH_ITER (hh, watch->directories, directory, next) {
                if (directory->seen == watch->statistics.rescans)
                        continue;
                (void)inotify_rm_watch(watch->inotify_fd, directory->wd);
                watch_directory_forget(watch, directory);
        }
}

/* --- agents ------------------------------------------------------------------------------------------------------- */

struct watch_agent *watch_agent_by_name(const struct agent_watch *watch, const char *name)
{
        struct watch_agent *agent = NULL;

        HASH_FIND(hh_name, watch->agents_by_name, name, strlen(name), agent);
        return agent;
}

struct watch_agent *watch_agent_by_id(const struct agent_watch *watch, __u64 id)
{
        struct watch_agent *agent = NULL;

        HASH_FIND(hh, watch->agents, &id, sizeof(id), agent);
        return agent;
}

void watch_agent_unwatch(struct agent_watch *watch, struct watch_agent *agent)
{
        if (agent->wd < 0)
                return;
        /* A watch on the file of a removed cgroup would keep its inode: the kernel does not drop it by itself. */
        (void)inotify_rm_watch(watch->inotify_fd, agent->wd);
        HASH_DELETE(hh_wd, watch->agents_by_wd, agent);
        agent->wd = -1;
}

/* Without a watch only its population goes unseen: ignoring failures. */
void watch_agent_listen(struct agent_watch *watch, struct watch_agent *agent, int cgroup_fd)
{
        struct watch_agent *other = NULL;
        int wd = inotify_add(watch, cgroup_fd, "/cgroup.events", IN_MODIFY);

        if (wd < 0)
                return;
        HASH_FIND(hh_wd, watch->agents_by_wd, &wd, sizeof(wd), other);
        if (other) {
                HASH_DELETE(hh_wd, watch->agents_by_wd, other);
                other->wd = -1;
        }
        agent->wd = wd;
        HASH_ADD(hh_wd, watch->agents_by_wd, wd, sizeof(agent->wd), agent);
        if (agent->unhashed) {
                agent->unhashed = false;
                agent->wd = -1;
                (void)inotify_rm_watch(watch->inotify_fd, wd);
        }
}

void watch_agent_free(struct watch_agent *agent)
{
        free(agent->path);
        free(agent->entry);
        free(agent);
}

void watch_agent_unlink(struct agent_watch *watch, struct watch_agent *agent)
{
        watch_agent_unwatch(watch, agent);
        HASH_DEL(watch->agents, agent);
        HASH_DELETE(hh_name, watch->agents_by_name, agent);
}

int watch_agent_new(const char *name, const char *path, const char *entry, __u64 id, struct watch_agent **ret)
{
        struct watch_agent *agent = calloc(1, sizeof(*agent));

        if (!agent)
                return -ENOMEM;
        snprintf(agent->name, sizeof(agent->name), "%s", name);
        agent->path = strdup(path);
        agent->entry = entry ? strdup(entry) : NULL;
        agent->cgroup_id = id;
        agent->wd = -1;
        if (!agent->path || (entry && !agent->entry)) {
                watch_agent_free(agent);
                return -ENOMEM;
        }
        *ret = agent;
        return 0;
}

int watch_agent_link(struct agent_watch *watch, struct watch_agent *agent)
{
        HASH_ADD(hh, watch->agents, cgroup_id, sizeof(agent->cgroup_id), agent);
        if (agent->unhashed)
                return -ENOMEM;
        HASH_ADD_KEYPTR(hh_name, watch->agents_by_name, agent->name, strlen(agent->name), agent);
        if (agent->unhashed) {
                HASH_DEL(watch->agents, agent);
                return -ENOMEM;
        }
        return 0;
}

/* Opens the path if it still leads to this cgroup. */
int watch_agent_open(const struct agent_watch *watch, const char *path, __u64 id, int *ret_fd)
{
        _cleanup_close_ int fd = -1;
        __u64 found;
        int r;

        r = cgroup_open(watch->mount, path, &fd);
        if (r == 0)
                r = cgroup_id(fd, &found);
        if (r == 0 && found != id)
                r = -ENOENT;
        if (r == 0)
                *ret_fd = TAKE_FD(fd);
        return r;
}
