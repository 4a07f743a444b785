/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A namespace lives by its processes, by a file that it is mounted on, or by a socket. The last ones have no name that
 * anybody could look up; the container engines mount theirs as long as there is an interface in them.
 */
#include "agentd/net/netns_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

struct known {
        struct netns_list *list;
        const struct netns_identity *wanted;
        size_t n_wanted;
        struct netns_identity *identities;
};

static void close_directory(DIR **directory)
{
        if (*directory)
                closedir(*directory);
}

static bool is_wanted(const struct known *known, const struct netns_identity *identity)
{
        for (size_t i = 0; i < known->n_wanted; i++)
                if (netns_identity_equal(&known->wanted[i], identity))
                        return true;
        return !known->wanted;
}

/* Takes the descriptor. */
static void known_add(struct known *known, int fd)
{
        _cleanup_close_ int owned = fd;
        struct netns_identity identity;

        if (owned < 0 || known->list->n == NETNS_LIST_MAX || netns_identify(owned, &identity) < 0 ||
            !is_wanted(known, &identity))
                return;
        for (size_t i = 0; i < known->list->n; i++)
                if (netns_identity_equal(&known->identities[i], &identity))
                        return;
        known->identities[known->list->n] = identity;
        known->list->fds[known->list->n++] = TAKE_FD(owned);
}

static int add_processes(struct known *known)
{
        _cleanup_(close_directory) DIR *directory = opendir("/proc");
        const struct dirent *entry;

        if (!directory)
                return -errno;
        while ((entry = readdir(directory))) {
                char name[64];

                if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
                        continue;
                (void)snprintf(name, sizeof(name), "/proc/%.20s/ns/net", entry->d_name);
                known_add(known, open(name, O_RDONLY | O_CLOEXEC));
        }
        return 0;
}

/* Octal escapes, as in fstab. */
static void unescape(char *text)
{
        char *to = text;

        for (const char *from = text; *from; to++) {
                unsigned byte;

                if (from[0] == '\\' && sscanf(from + 1, "%3o", &byte) == 1 && strlen(from) >= 4) {
                        *to = (char)byte;
                        from += 4;
                } else {
                        *to = *from++;
                }
        }
        *to = '\0';
}

static void add_mounted(struct known *known)
{
        _cleanup_file_ FILE *file = fopen("/proc/self/mountinfo", "re");
        _cleanup_free_ char *line = NULL;
        size_t room = 0;

        while (file && getline(&line, &room, file) > 0) {
                _cleanup_close_ int fd = -1;
                struct statfs status;
                char path[512];

                if (!strstr(line, " - nsfs ") || sscanf(line, "%*s %*s %*s %*s %511s", path) != 1)
                        continue;
                unescape(path);
                fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
                if (fd >= 0 && fstatfs(fd, &status) == 0 && (unsigned long)status.f_type == NSFS_MAGIC &&
                    ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET)
                        known_add(known, TAKE_FD(fd));
        }
}

int netns_list_new(const struct netns_identity *wanted, size_t n_wanted, struct netns_list *ret)
{
        struct netns_list list = {.fds = calloc(NETNS_LIST_MAX, sizeof(int))};
        struct known known = {.list = &list,
                              .wanted = wanted,
                              .n_wanted = n_wanted,
                              .identities = calloc(NETNS_LIST_MAX, sizeof(struct netns_identity))};
        int r = list.fds && known.identities ? add_processes(&known) : -ENOMEM;

        if (r == 0)
                add_mounted(&known);
        free(known.identities);
        if (r < 0) {
                netns_list_clear(&list);
                return r;
        }
        *ret = list;
        return 0;
}

void netns_list_clear(struct netns_list *list)
{
        for (size_t i = 0; i < list->n; i++)
                close_fd(&list->fds[i]);
        free(list->fds);
        *list = (struct netns_list){0};
}
