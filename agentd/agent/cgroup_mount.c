/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where cgroup v2 is mounted, and what a user's path means there.
 *
 * mountinfo may name several mounts: the whole hierarchy, bind mounts of a part (in containers), mounts hidden below
 * later ones. Only what can be opened at its mount point with the mount id that mountinfo tells is taken.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "agentd/agent/cgroup.h"

enum { MOUNTS_MAX = 64 };

/* mountinfo writes space, tab, newline and backslash as three octal digits. In place. */
static void mountinfo_unescape(char *text)
{
        char *out = text;

        for (const char *in = text; *in; out++) {
                if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] >= '0' && in[2] <= '7' && in[3] >= '0' &&
                    in[3] <= '7') {
                        *out = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
                        in += 4;
                } else {
                        *out = *in++;
                }
        }
        *out = '\0';
}

/* Splits a line into the fields that matter. False: not a cgroup v2 mount, or not a line of mountinfo at all. */
static bool mountinfo_line(char *line, struct cgroup_alias *ret)
{
        char *fields[5] = {0}, *type = NULL, *rest, *save = NULL;
        size_t n = 0;

        /* The optional fields end at a lone dash; a mount point cannot be one, its blanks are escaped. */
        rest = strstr(line, " - ");
        if (!rest)
                return false;
        *rest = '\0';
        type = rest + 3;
        type[strcspn(type, " \n")] = '\0';
        if (strcmp(type, "cgroup2") != 0)
                return false;

        for (char *field = strtok_r(line, " ", &save); field && n < 5; field = strtok_r(NULL, " ", &save))
                fields[n++] = field;
        if (n < 5 || fields[3][0] != '/' || fields[4][0] != '/')
                return false;

        mountinfo_unescape(fields[3]);
        mountinfo_unescape(fields[4]);
        ret->mount_id = atoi(fields[0]);
        ret->root = fields[3];
        ret->path = fields[4];
        return true;
}

void cgroup_aliases_free(struct cgroup_alias *aliases, size_t n_aliases)
{
        for (size_t i = 0; i < n_aliases; i++) {
                free(aliases[i].path);
                free(aliases[i].root);
        }
        free(aliases);
}

int cgroup_mountinfo_parse(FILE *mountinfo, struct cgroup_alias **ret, size_t *ret_n)
{
        struct cgroup_alias *aliases;
        _cleanup_free_ char *line = NULL;
        size_t room = 0, n = 0;

        aliases = calloc(MOUNTS_MAX, sizeof(*aliases));
        if (!aliases)
                return -ENOMEM;

        while (n < MOUNTS_MAX && getline(&line, &room, mountinfo) >= 0) {
                struct cgroup_alias found;

                if (!mountinfo_line(line, &found))
                        continue;
                aliases[n].mount_id = found.mount_id;
                aliases[n].path = strdup(found.path);
                aliases[n].root = strdup(found.root);
                n++;
                if (!aliases[n - 1].path || !aliases[n - 1].root) {
                        cgroup_aliases_free(aliases, n);
                        return -ENOMEM;
                }
        }

        *ret = aliases;
        *ret_n = n;
        return 0;
}

/* Opens a mount point if it is this mount that one meets there. */
static int alias_open(const struct cgroup_alias *alias, int *ret_fd)
{
        _cleanup_close_ int fd = -1;
        struct statfs filesystem;
        struct statx status;

        fd = open(alias->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;
        if (fstatfs(fd, &filesystem) < 0)
                return -errno;
        if (filesystem.f_type != CGROUP2_SUPER_MAGIC)
                return -ENOENT;
        if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &status) == 0 &&
            (status.stx_mask & STATX_MNT_ID) && status.stx_mnt_id != (__u64)alias->mount_id)
                return -ENOENT;

        *ret_fd = TAKE_FD(fd);
        return 0;
}

/*
 * The hierarchy without a mount point: there is one for the whole kernel (kernel/cgroup/cgroup.c, cgrp_dfl_root), and a
 * mount that nobody else sees shows it as well as any. For `ip netns exec`, which covers /sys with a fresh one.
 */
static int mount_detached(struct cgroup_mount *ret)
{
        struct cgroup_mount mount = {.fd = -1};
        _cleanup_close_ int context = -1, tree = -1;

        context = fsopen("cgroup2", FSOPEN_CLOEXEC);
        if (context < 0 || fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        tree = fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
        if (tree < 0)
                return -errno;
        mount.fd = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (mount.fd < 0)
                return -errno;
        mount.path = strdup("/sys/fs/cgroup"); /* where it would be: for absolute paths and messages */
        mount.root = strdup("/");
        if (!mount.path || !mount.root) {
                cgroup_mount_release(&mount);
                return -ENOMEM;
        }
        *ret = mount;
        return 0;
}

int cgroup_mount_find(const char *mountinfo, struct cgroup_mount *ret)
{
        struct cgroup_mount mount = {.fd = -1};
        _cleanup_file_ FILE *file = NULL;
        size_t best = MOUNTS_MAX;
        int r;

        file = fopen(mountinfo ? mountinfo : "/proc/self/mountinfo", "re");
        if (!file)
                return -errno;
        r = cgroup_mountinfo_parse(file, &mount.aliases, &mount.n_aliases);
        if (r < 0)
                return r;

        for (int whole = 1; whole >= 0 && best == MOUNTS_MAX; whole--) {
                for (size_t i = 0; i < mount.n_aliases; i++) {
                        if ((strcmp(mount.aliases[i].root, "/") == 0) == (bool)whole &&
                            alias_open(&mount.aliases[i], &mount.fd) == 0) {
                                best = i;
                                break;
                        }
                }
        }
        if (best == MOUNTS_MAX) {
                cgroup_mount_release(&mount);
                return !mountinfo && mount_detached(ret) == 0 ? 0 : -ENOENT;
        }

        mount.path = strdup(mount.aliases[best].path);
        mount.root = strdup(mount.aliases[best].root);
        if (!mount.path || !mount.root) {
                cgroup_mount_release(&mount);
                return -ENOMEM;
        }

        *ret = mount;
        return 0;
}

void cgroup_mount_release(struct cgroup_mount *mount)
{
        close_fd(&mount->fd);
        free(mount->path);
        free(mount->root);
        cgroup_aliases_free(mount->aliases, mount->n_aliases);
        *mount = (struct cgroup_mount){.fd = -1};
}

bool cgroup_path_is_glob(const char *path)
{
        return strpbrk(path, "*?[") != NULL;
}

/* What follows prefix at a part's boundary, or NULL. The prefix "/" is in front of everything. */
static const char *path_below(const char *path, const char *prefix)
{
        size_t length = strlen(prefix);

        if (strcmp(prefix, "/") == 0)
                return path;
        if (strncmp(path, prefix, length) != 0 || (path[length] != '/' && path[length] != '\0'))
                return NULL;
        return path + length;
}

bool cgroup_path_is_within(const char *path, const char *ancestor)
{
        return path_below(path, ancestor) != NULL;
}

/* Drops empty and "." parts; refuses what could lead elsewhere. */
static int path_normalize(const char *text, char **ret)
{
        _cleanup_free_ char *path = NULL;
        size_t used = 0, parts = 0;

        if (strlen(text) >= CGROUP_PATH_MAX)
                return -EINVAL;
        path = malloc(strlen(text) + 2);
        if (!path)
                return -ENOMEM;

        while (*text) {
                size_t length = strcspn(text, "/");

                if (length == 2 && memcmp(text, "..", 2) == 0)
                        return -EINVAL;
                if (length > 255)
                        return -EINVAL;
                for (size_t i = 0; i < length; i++)
                        if (iscntrl((unsigned char)text[i]))
                                return -EINVAL;
                if (length > 0 && !(length == 1 && text[0] == '.')) {
                        if (++parts > CGROUP_PARTS_MAX)
                                return -EINVAL;
                        path[used++] = '/';
                        memcpy(path + used, text, length);
                        used += length;
                }
                text += length + (text[length] == '/');
        }
        if (used == 0)
                return -EISDIR;

        path[used] = '\0';
        *ret = TAKE_PTR(path);
        return 0;
}

/* A path in the whole hierarchy as seen from the mount. NULL: not below it. */
static const char *path_from_mount(const struct cgroup_mount *mount, const char *path)
{
        return path_below(path, mount->root);
}

int cgroup_path_canonical(const struct cgroup_mount *mount, const char *text, char **ret)
{
        _cleanup_free_ char *joined = NULL, *whole = NULL;
        const struct cgroup_alias *best = NULL;
        const char *below;
        int r;

        if (text[0] == '\0')
                return -EINVAL;
        if (text[0] != '/')
                return path_normalize(text, ret);

        below = path_below(text, mount->path);
        if (below)
                return path_normalize(below, ret);

        for (size_t i = 0; i < mount->n_aliases; i++) {
                if (path_below(text, mount->aliases[i].path) &&
                    (!best || strlen(mount->aliases[i].path) > strlen(best->path)))
                        best = &mount->aliases[i];
        }
        if (!best)
                return path_normalize(text, ret);

        if (asprintf(&joined, "%s/%s", best->root, path_below(text, best->path)) < 0) {
                joined = NULL;
                return -ENOMEM;
        }
        r = path_normalize(joined, &whole);
        if (r < 0)
                return r;
        below = path_from_mount(mount, whole);
        return below ? path_normalize(below, ret) : -EINVAL;
}

/* /proc/PID/cgroup: "0::/path", seen from our cgroup namespace, as mountinfo's roots are. */
int cgroup_of_pid(const struct cgroup_mount *mount, pid_t pid, char **ret)
{
        static const char deleted[] = " (deleted)";
        _cleanup_free_ char *line = NULL;
        _cleanup_file_ FILE *file = NULL;
        char name[64];
        size_t room = 0;
        ssize_t length;

        if (pid > 0)
                snprintf(name, sizeof(name), "/proc/%d/cgroup", (int)pid);
        else
                snprintf(name, sizeof(name), "/proc/self/cgroup");
        file = fopen(name, "re");
        if (!file)
                return errno == ENOENT ? -ESRCH : -errno;

        while ((length = getline(&line, &room, file)) > 0) {
                const char *below;

                if (strncmp(line, "0::/", 4) != 0)
                        continue;
                if (line[length - 1] == '\n')
                        line[--length] = '\0';
                if ((size_t)length > strlen(deleted) && strcmp(line + length - strlen(deleted), deleted) == 0)
                        return -ENOENT;
                if (strncmp(line + 3, "/..", 3) == 0 && (line[6] == '/' || line[6] == '\0'))
                        return -EXDEV;
                below = path_from_mount(mount, line + 3);
                if (!below)
                        return -EXDEV;
                if (below[0] == '\0' || below[1] == '\0')
                        return -EISDIR;
                *ret = strdup(below);
                return *ret ? 0 : -ENOMEM;
        }
        return -ESRCH;
}

int cgroup_has_pid(const struct cgroup_mount *mount, const char *path, pid_t pid)
{
        _cleanup_free_ char *where = NULL;
        int r;

        r = cgroup_of_pid(mount, pid, &where);
        if (r == -EISDIR || r == -EXDEV)
                return 0;
        if (r < 0)
                return r;
        return cgroup_path_is_within(where, path);
}
