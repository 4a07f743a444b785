/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup v2 directories: where the hierarchy is mounted, paths as users write them, identities, processes.
 *
 * A path inside this program is canonical: it starts with '/', counts from the mount (not from the file system), has no
 * empty, "." or ".." part and no trailing slash: "/agents/claude-1". The root itself is refused everywhere: a program
 * attached there would hit the whole host. Directories are opened part by part with O_NOFOLLOW below the mount's
 * descriptor, so that nobody who may rename or link on the way leads us elsewhere.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "agentd/abi.h"
#include "agentd/util/cleanup.h"

enum {
        CGROUP_PATH_MAX = 4096,
        CGROUP_PARTS_MAX = 64,
        CGROUP_PIDS_MAX = 65536,    /* of one subtree */
        CGROUP_SUBTREE_MAX = 65536, /* directories of one subtree that we look into */
        CGROUP_DEPTH_MAX = 256,     /* below the directory where a look into a subtree starts */
};

/* Another place where (a part of) the hierarchy is mounted: absolute paths below it are understood as well. */
struct cgroup_alias {
        char *path; /* mount point */
        char *root; /* what part of the hierarchy is seen there: "/" or a subtree of a bind mount */
        int mount_id;
};

struct cgroup_mount {
        int fd;     /* the mount point; O_RDONLY | O_DIRECTORY */
        char *path; /* mount point, unescaped, no trailing slash */
        char *root; /* as in struct cgroup_alias */
        struct cgroup_alias *aliases;
        size_t n_aliases;
};

/*
 * mountinfo: NULL for /proc/self/mountinfo; where that has none, a mount of our own that nobody else sees. A whole
 * mount (root "/") is preferred to a part, then the first one that is really reachable (not hidden by a later mount).
 * 0; -ENOENT: no cgroup v2 is mounted; -errno.
 */
int cgroup_mount_find(const char *mountinfo, struct cgroup_mount *ret);
/* The cgroup v2 mounts that a mountinfo names, in its order, reachable or not. *ret: see cgroup_aliases_free(). */
int cgroup_mountinfo_parse(FILE *mountinfo, struct cgroup_alias **ret, size_t *ret_n);
void cgroup_aliases_free(struct cgroup_alias *aliases, size_t n_aliases);
void cgroup_mount_release(struct cgroup_mount *mount); /* the struct may be zeroed with fd -1 */

/*
 * Canonical path of what a user wrote: absolute below a mount point, or relative to the mount with or without leading
 * slash. Globs pass through. 0; -EINVAL: empty, "..", too long or too deep, control characters; -EISDIR: the root of
 * the hierarchy. *ret: to be freed.
 */
int cgroup_path_canonical(const struct cgroup_mount *mount, const char *text, char **ret);
bool cgroup_path_is_glob(const char *path); /* has one of * ? [ ; a backslash is an ordinary character (systemd) */
/* True when path is ancestor itself or below it; both canonical. */
bool cgroup_path_is_within(const char *path, const char *ancestor);

/* path: canonical. 0; -ENOENT; -ELOOP/-ENOTDIR: something else is in the way; -EINVAL. */
int cgroup_open(const struct cgroup_mount *mount, const char *path, int *ret_fd);
/* The 64-bit id that bpf sees. -EOPNOTSUPP: not a cgroup v2 directory; -EISDIR: the root; -EUCLEAN: handle and inode
 * disagree. */
int cgroup_id(int cgroup_fd, __u64 *ret);
int cgroup_id_of(const struct cgroup_mount *mount, const char *path, __u64 *ret);
/* The canonical path of an id that lives below the mount. -ENOENT/-ESTALE: gone, or outside of the mount. *ret: to be
 * freed. Needs CAP_DAC_READ_SEARCH. */
int cgroup_path_of_id(const struct cgroup_mount *mount, __u64 id, char **ret);

/* Ids of the directory and all its descendants. *ret: to be freed, sorted ascending. -E2BIG: over CGROUP_SUBTREE_MAX.
 */
int cgroup_subtree_ids(int cgroup_fd, __u64 **ret, size_t *ret_n);
/*
 * Processes of the whole subtree (sorted, each once). *ret: to be freed. More than CGROUP_PIDS_MAX: -E2BIG. pids that
 * live in another pid namespace come as 0 from the kernel and are left out. Threaded subtrees are read by
 * cgroup.threads.
 */
int cgroup_pids(int cgroup_fd, pid_t **ret, size_t *ret_n);

/* The canonical path of a process's cgroup. -EISDIR: in the root; -EXDEV: outside of the mount; -ENOENT: removed (a
 * zombie); -ESRCH. */
int cgroup_of_pid(const struct cgroup_mount *mount, pid_t pid, char **ret);
/* 1: inside path (canonical) or below; 0: not; -errno: not known, and the caller must take the strict side. */
int cgroup_has_pid(const struct cgroup_mount *mount, const char *path, pid_t pid);

/* Makes the directory (0755) and its missing parents. 0; -EEXIST: it was there already. */
int cgroup_create(const struct cgroup_mount *mount, const char *path);
/* pid 0: the caller. */
int cgroup_move(int cgroup_fd, pid_t pid);
/* cgroup.events. */
int cgroup_populated(int cgroup_fd, bool *ret);
/* cgroup.freeze: stops every process of the subtree, or lets it run again. */
int cgroup_freeze(int cgroup_fd, bool freeze);
int cgroup_frozen(int cgroup_fd, bool *ret); /* cgroup.events: by itself or by what is above it */
/* SIGKILL to every process of the subtree: cgroup.kill, or one by one where that is missing. */
int cgroup_kill(int cgroup_fd);
/* Blocks until nothing lives in the subtree. -ETIMEDOUT. */
int cgroup_wait_empty(int cgroup_fd, int timeout_ms);
/* Kills what is inside, waits until it is empty, removes the directory and its descendants. -ENOENT: was not there;
 * -ETIMEDOUT: something would not die. Parents stay. */
int cgroup_remove(const struct cgroup_mount *mount, const char *path, int timeout_ms);
