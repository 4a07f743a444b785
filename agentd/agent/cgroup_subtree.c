/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What lives in a cgroup and everywhere below it: ids of the directories, processes.
 *
 * The agent may own directories below its cgroup (delegation) and change them while we look: depth and number are
 * bounded, and whatever disappears under our hands is skipped.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agentd/agent/cgroup.h"

static void close_directory(DIR **directory)
{
        if (*directory)
                closedir(*directory);
}

static int directory_open(int parent_fd, const char *name, int *ret_fd)
{
        int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        *ret_fd = fd;
        return 0;
}

static bool entry_is_child(const struct dirent *entry)
{
        return entry->d_type == DT_DIR && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

typedef int (*subtree_fn)(void *context, int cgroup_fd);

/* Calls for the directory and then for all below it. *visited counts them. */
static int subtree_each(int cgroup_fd, unsigned depth, size_t *visited, subtree_fn function, void *context)
{
        _cleanup_(close_directory) DIR *directory = NULL;
        const struct dirent *entry;
        int fd = -1, r;

        if (depth > CGROUP_DEPTH_MAX || ++*visited > CGROUP_SUBTREE_MAX)
                return -E2BIG;
        r = function(context, cgroup_fd);
        if (r < 0)
                return r;

        r = directory_open(cgroup_fd, ".", &fd);
        if (r < 0)
                return r;
        directory = fdopendir(fd);
        if (!directory) {
                r = -errno;
                close(fd);
                return r;
        }
        while ((entry = readdir(directory))) {
                _cleanup_close_ int child = -1;

                if (!entry_is_child(entry))
                        continue;
                r = directory_open(dirfd(directory), entry->d_name, &child);
                if (r == -ENOENT)
                        continue;
                if (r == 0)
                        r = subtree_each(child, depth + 1, visited, function, context);
                /* Removed while we were inside: what it had is gone as well. */
                if (r == -ENODEV || r == -ENOENT)
                        continue;
                if (r < 0)
                        return r;
        }
        return 0;
}

struct id_list {
        __u64 *ids;
        size_t n, room;
};

static int id_list_add(struct id_list *list, __u64 id)
{
        if (list->n == list->room) {
                size_t room = list->room ? list->room * 2 : 32;
                __u64 *grown = reallocarray(list->ids, room, sizeof(*grown));

                if (!grown)
                        return -ENOMEM;
                list->ids = grown;
                list->room = room;
        }
        list->ids[list->n++] = id;
        return 0;
}

static int compare_ids(const void *a, const void *b)
{
        const __u64 *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

static void id_list_settle(struct id_list *list)
{
        size_t kept = 0;

        if (list->n == 0)
                return;
        qsort(list->ids, list->n, sizeof(*list->ids), compare_ids);
        for (size_t i = 1; i < list->n; i++)
                if (list->ids[i] != list->ids[kept])
                        list->ids[++kept] = list->ids[i];
        list->n = kept + 1;
}

static int collect_id(void *context, int cgroup_fd)
{
        struct stat status;

        if (fstat(cgroup_fd, &status) < 0)
                return -errno;
        return id_list_add(context, status.st_ino);
}

int cgroup_subtree_ids(int cgroup_fd, __u64 **ret, size_t *ret_n)
{
        struct id_list list = {0};
        size_t visited = 0;
        int r;

        r = subtree_each(cgroup_fd, 0, &visited, collect_id, &list);
        if (r < 0) {
                free(list.ids);
                return r;
        }
        id_list_settle(&list);
        *ret = list.ids;
        *ret_n = list.n;
        return 0;
}

/* The process that a thread belongs to; 0 when it is gone. */
static pid_t process_of_thread(pid_t tid)
{
        _cleanup_file_ FILE *file = NULL;
        char name[64], line[256];
        int tgid = 0;

        snprintf(name, sizeof(name), "/proc/%d/status", (int)tid);
        file = fopen(name, "re");
        if (!file)
                return 0;
        while (fgets(line, sizeof(line), file))
                if (sscanf(line, "Tgid: %d", &tgid) == 1)
                        break;
        return tgid;
}

static int pids_from(int cgroup_fd, const char *file_name, struct id_list *list)
{
        bool threads = strcmp(file_name, "cgroup.threads") == 0;
        _cleanup_file_ FILE *file = NULL;
        long pid;
        int fd;

        fd = openat(cgroup_fd, file_name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        file = fdopen(fd, "r");
        if (!file) {
                close(fd);
                return -ENOMEM;
        }
        while (errno = 0, fscanf(file, "%ld", &pid) == 1) {
                int r;

                if (threads)
                        pid = process_of_thread((pid_t)pid);
                if (pid <= 0)
                        continue;
                /* The kernel may name a process twice that moves about: room for that, then no further. */
                if (list->n >= 2 * CGROUP_PIDS_MAX)
                        return -E2BIG;
                r = id_list_add(list, (__u64)pid);
                if (r < 0)
                        return r;
        }
        return ferror(file) ? (errno ? -errno : -EIO) : 0;
}

static int collect_pids(void *context, int cgroup_fd)
{
        int r = pids_from(cgroup_fd, "cgroup.procs", context);

        /* Inside a threaded subtree only the threads can be read. */
        if (r == -EOPNOTSUPP)
                r = pids_from(cgroup_fd, "cgroup.threads", context);
        return r;
}

int cgroup_pids(int cgroup_fd, pid_t **ret, size_t *ret_n)
{
        struct id_list list = {0};
        size_t visited = 0;
        pid_t *pids;
        int r;

        r = subtree_each(cgroup_fd, 0, &visited, collect_pids, &list);
        id_list_settle(&list);
        if (r == 0 && list.n > CGROUP_PIDS_MAX)
                r = -E2BIG;
        if (r < 0) {
                free(list.ids);
                return r;
        }

        pids = calloc(list.n + 1, sizeof(*pids));
        if (!pids) {
                free(list.ids);
                return -ENOMEM;
        }
        for (size_t i = 0; i < list.n; i++)
                pids[i] = (pid_t)list.ids[i];
        free(list.ids);
        *ret = pids;
        *ret_n = list.n;
        return 0;
}
