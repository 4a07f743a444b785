/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which sockets a process holds: by the links of /proc/PID/fd, which name a socket's inode.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agentd/net/sock_diag.h"

struct inode_list {
        __u64 *items;
        size_t n, room;
};

static void close_directory(DIR **directory)
{
        if (*directory)
                closedir(*directory);
}

static int inode_add(struct inode_list *list, __u64 inode)
{
        if (list->n == SOCK_DIAG_HELD_MAX)
                return -E2BIG;
        if (list->n == list->room) {
                size_t room = list->room ? list->room * 2 : 64;
                __u64 *grown = reallocarray(list->items, room, sizeof(*grown));

                if (!grown)
                        return -ENOMEM;
                list->items = grown;
                list->room = room;
        }
        list->items[list->n++] = inode;
        return 0;
}

static int process_held(pid_t pid, struct inode_list *list)
{
        _cleanup_(close_directory) DIR *directory = NULL;
        const struct dirent *entry;
        char name[64], target[64];

        (void)snprintf(name, sizeof(name), "/proc/%d/fd", (int)pid);
        directory = opendir(name);
        if (!directory)
                return errno == ENOENT || errno == ESRCH ? 0 : -errno;
        while ((entry = readdir(directory))) {
                ssize_t length = readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);
                unsigned long long inode;
                int r;

                if (length < 0)
                        continue;
                target[length] = '\0';
                if (sscanf(target, "socket:[%llu]", &inode) != 1)
                        continue;
                r = inode_add(list, inode);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int inode_compare(const void *a, const void *b)
{
        const __u64 *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

int sock_diag_held(const pid_t *pids, size_t n_pids, __u64 **ret, size_t *ret_n)
{
        struct inode_list list = {0};
        size_t kept = 0;

        for (size_t i = 0; i < n_pids; i++) {
                int r = process_held(pids[i], &list);

                if (r < 0) {
                        free(list.items);
                        return r;
                }
        }
        if (list.n > 0)
                qsort(list.items, list.n, sizeof(*list.items), inode_compare);
        for (size_t i = 0; i < list.n; i++)
                if (i == 0 || list.items[i] != list.items[kept - 1])
                        list.items[kept++] = list.items[i];
        *ret = list.items;
        *ret_n = kept;
        return 0;
}
