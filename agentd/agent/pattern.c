/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Globs over cgroup directories, part by part; see the header.
 */
#include "agentd/agent/pattern.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PART_MAX = 256 };

struct walk {
        const struct pattern_visitor *visitor;
        void *context;
        char path[CGROUP_PATH_MAX];
};

static void close_directory(DIR **directory)
{
        if (*directory)
                closedir(*directory);
}

/* Copies the first part and returns what follows it ("" after the last one). NULL: not canonical. */
static const char *part_split(const char *path, char ret[PART_MAX])
{
        size_t length;

        if (path[0] != '/')
                return NULL;
        length = strcspn(path + 1, "/");
        if (length == 0 || length >= PART_MAX)
                return NULL;
        memcpy(ret, path + 1, length);
        ret[length] = '\0';
        return path + 1 + length;
}

bool pattern_matches(const char *pattern, const char *path)
{
        char want[PART_MAX], have[PART_MAX];

        while (*pattern && *path) {
                pattern = part_split(pattern, want);
                path = part_split(path, have);
                if (!pattern || !path)
                        return false;
                if (fnmatch(want, have, FNM_NOESCAPE) != 0)
                        return false;
        }
        return *pattern == '\0' && *path == '\0';
}

static int walk_directory(struct walk *walk, int fd, size_t length, const char *pattern);

/* One directory that fits the part: a match when the pattern ends here, else looked into. */
static int walk_child(struct walk *walk, int parent_fd, size_t length, const char *name, __u64 id, const char *rest)
{
        _cleanup_close_ int fd = -1;
        int n, r;

        n = snprintf(walk->path + length, sizeof(walk->path) - length, "/%s", name);
        if (n < 0 || (size_t)n >= sizeof(walk->path) - length)
                return 0;
        if (*rest == '\0') {
                r = walk->visitor->match(walk->context, walk->path, id);
        } else {
                fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0)
                        return errno == ENOENT || errno == ENODEV || errno == ENOTDIR ? 0 : -errno;
                r = walk_directory(walk, fd, length + (size_t)n, rest);
        }
        walk->path[length] = '\0';
        return r;
}

static int walk_glob(struct walk *walk, int fd, size_t length, const char *part, const char *rest)
{
        _cleanup_(close_directory) DIR *directory = NULL;
        const struct dirent *entry;
        int again, r;

        again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (again < 0)
                return errno == ENOENT || errno == ENODEV ? 0 : -errno;
        directory = fdopendir(again);
        if (!directory) {
                r = -errno;
                close(again);
                return r;
        }
        /* The inode's number is the cgroup's id, so that a thousand matches need no call each. */
        while ((entry = readdir(directory))) {
                if (entry->d_type != DT_DIR || strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                        continue;
                if (fnmatch(part, entry->d_name, FNM_NOESCAPE) != 0)
                        continue;
                r = walk_child(walk, fd, length, entry->d_name, entry->d_ino, rest);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int walk_directory(struct walk *walk, int fd, size_t length, const char *pattern)
{
        char part[PART_MAX];
        const char *rest = part_split(pattern, part);
        struct stat status;

        if (!rest)
                return -EINVAL;
        /* First told (and watched), then read: what is made in between is seen by one or the other. */
        if (walk->visitor->directory) {
                if (fstat(fd, &status) < 0)
                        return -errno;
                walk->visitor->directory(walk->context, fd, status.st_ino);
        }

        if (cgroup_path_is_glob(part))
                return walk_glob(walk, fd, length, part, rest);
        if (fstatat(fd, part, &status, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT || errno == ENODEV ? 0 : -errno;
        if (!S_ISDIR(status.st_mode))
                return 0;
        return walk_child(walk, fd, length, part, status.st_ino, rest);
}

int pattern_walk(const struct cgroup_mount *mount, const char *pattern, const struct pattern_visitor *visitor,
                 void *context)
{
        struct walk walk = {.visitor = visitor, .context = context};

        return walk_directory(&walk, mount->fd, 0, pattern);
}

static __u32 path_hash(const char *path, unsigned salt)
{
        __u32 hash = 2166136261u;

        for (; *path; path++)
                hash = (hash ^ (unsigned char)*path) * 16777619u;
        for (; salt > 1; salt--)
                hash = (hash ^ salt) * 16777619u;
        return hash;
}

void pattern_agent_name(const char *entry, const char *pattern, const char *path, unsigned salt,
                        char ret[AGENT_NAME_MAX])
{
        const char *last = strrchr(path, '/');
        char name[AGENT_NAME_MAX + PART_MAX + 2];
        bool odd = salt > 0;

        if (cgroup_path_is_glob(pattern) && last)
                snprintf(name, sizeof(name), "%s-%s", entry, last + 1);
        else
                snprintf(name, sizeof(name), "%s", entry);

        for (char *c = name; *c; c++) {
                if (!isascii((unsigned char)*c) || (!isalnum((unsigned char)*c) && !strchr("._-@:+", *c))) {
                        *c = '_';
                        odd = true;
                }
        }
        if (odd || strlen(name) >= AGENT_NAME_MAX)
                snprintf(ret, AGENT_NAME_MAX, "%.*s-%08x", AGENT_NAME_MAX - 10, name, path_hash(path, salt));
        else
                memcpy(ret, name, strlen(name) + 1);
}
