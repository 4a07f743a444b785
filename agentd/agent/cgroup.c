/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One cgroup: its directory, its identity, what lives below it, its making and its end.
 *
 * The agent may own directories below its cgroup (delegation) and change them while we look: depth and number are
 * bounded, and whatever disappears under our hands is skipped.
 */
#include "agentd/agent/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

enum { HANDLE_TYPE_KERNFS = 0xfe };

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

/* Walks to the directory (create: making what is missing). *ret_made: the last part was made. */
static int path_walk(const struct cgroup_mount *mount, const char *path, bool create, int *ret_fd, bool *ret_made)
{
        _cleanup_close_ int fd = -1;
        bool made = false;
        int r;

        if (path[0] != '/' || path[1] == '\0')
                return path[0] ? -EISDIR : -EINVAL;
        r = directory_open(mount->fd, ".", &fd);
        if (r < 0)
                return r;

        while (*path) {
                char part[256];
                size_t length;
                int next = -1;

                path++;
                length = strcspn(path, "/");
                if (length == 0 || length >= sizeof(part) || (length == 1 && path[0] == '.') ||
                    (length == 2 && memcmp(path, "..", 2) == 0))
                        return -EINVAL;
                memcpy(part, path, length);
                part[length] = '\0';
                path += length;

                if (create) {
                        made = mkdirat(fd, part, 0755) == 0;
                        if (!made && errno != EEXIST)
                                return -errno;
                }
                r = directory_open(fd, part, &next);
                if (r < 0)
                        return r;
                close(fd);
                fd = next;
        }

        *ret_fd = TAKE_FD(fd);
        *ret_made = made;
        return 0;
}

int cgroup_open(const struct cgroup_mount *mount, const char *path, int *ret_fd)
{
        bool made;

        return path_walk(mount, path, false, ret_fd, &made);
}

int cgroup_create(const struct cgroup_mount *mount, const char *path)
{
        _cleanup_close_ int fd = -1;
        bool made = false;
        int r;

        r = path_walk(mount, path, true, &fd, &made);
        if (r < 0)
                return r;
        return made ? 0 : -EEXIST;
}

int cgroup_id(int cgroup_fd, __u64 *ret)
{
        union {
                struct file_handle handle;
                char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
        } handle = {.handle.handle_bytes = MAX_HANDLE_SZ};
        struct statfs filesystem;
        struct stat status;
        __u64 id = 0;
        int mount_id;

        if (fstatfs(cgroup_fd, &filesystem) < 0 || fstat(cgroup_fd, &status) < 0)
                return -errno;
        if (filesystem.f_type != CGROUP2_SUPER_MAGIC || !S_ISDIR(status.st_mode))
                return -EOPNOTSUPP;
        /* The root has no cgroup.type; a directory that was removed meanwhile has none either. */
        if (faccessat(cgroup_fd, "cgroup.type", F_OK, 0) < 0)
                return errno == ENOENT && status.st_nlink > 0 && status.st_ino == 1 ? -EISDIR : -errno;

        /* Some sandboxes forbid the call; where it works it must tell the same. */
        if (name_to_handle_at(cgroup_fd, "", &handle.handle, &mount_id, AT_EMPTY_PATH) == 0) {
                if (handle.handle.handle_bytes != sizeof(id) || handle.handle.handle_type != HANDLE_TYPE_KERNFS)
                        return -EUCLEAN;
                memcpy(&id, handle.handle.f_handle, sizeof(id));
                if (id != status.st_ino)
                        return -EUCLEAN;
        }

        *ret = status.st_ino;
        return 0;
}

int cgroup_id_of(const struct cgroup_mount *mount, const char *path, __u64 *ret)
{
        _cleanup_close_ int fd = -1;
        int r;

        r = cgroup_open(mount, path, &fd);
        if (r < 0)
                return r;
        return cgroup_id(fd, ret);
}

int cgroup_path_of_id(const struct cgroup_mount *mount, __u64 id, char **ret)
{
        union {
                struct file_handle handle;
                char room[sizeof(struct file_handle) + sizeof(__u64)];
        } handle = {.handle.handle_bytes = sizeof(id), .handle.handle_type = HANDLE_TYPE_KERNFS};
        char link[64], text[CGROUP_PATH_MAX + 512];
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *path = NULL;
        ssize_t length;
        __u64 found;
        int r;

        memcpy(handle.handle.f_handle, &id, sizeof(id));
        fd = open_by_handle_at(mount->fd, &handle.handle, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        length = readlink(link, text, sizeof(text) - 1);
        if (length < 0)
                return -errno;
        if (length == sizeof(text) - 1)
                return -ENAMETOOLONG;
        text[length] = '\0';
        if (!cgroup_path_is_within(text, mount->path))
                return -ENOENT;
        r = cgroup_path_canonical(mount, text, &path);
        if (r < 0)
                return r;

        /* The text of a removed directory ends in " (deleted)", which might be another one's name. */
        r = cgroup_id_of(mount, path, &found);
        if (r < 0)
                return r;
        if (found != id)
                return -ENOENT;

        *ret = TAKE_PTR(path);
        return 0;
}

static bool entry_is_child(const struct dirent *entry)
{
        return entry->d_type == DT_DIR && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static int file_write(int cgroup_fd, const char *name, const char *text)
{
        _cleanup_close_ int fd = -1;
        size_t length = strlen(text);
        ssize_t n;

        fd = openat(cgroup_fd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;
        n = write(fd, text, length);
        if (n < 0)
                return -errno;
        return (size_t)n == length ? 0 : -EIO;
}

int cgroup_move(int cgroup_fd, pid_t pid)
{
        char text[32];

        snprintf(text, sizeof(text), "%d", (int)pid);
        return file_write(cgroup_fd, "cgroup.procs", text);
}

static int events_open(int cgroup_fd, int *ret_fd)
{
        int fd = openat(cgroup_fd, "cgroup.events", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0)
                return -errno;
        *ret_fd = fd;
        return 0;
}

static int events_read(int events_fd, bool *ret)
{
        char text[256], *found;
        ssize_t n = pread(events_fd, text, sizeof(text) - 1, 0);

        if (n < 0)
                return -errno;
        text[n] = '\0';
        found = strstr(text, "populated ");
        if (!found)
                return -EIO;
        *ret = found[strlen("populated ")] != '0';
        return 0;
}

int cgroup_populated(int cgroup_fd, bool *ret)
{
        _cleanup_close_ int fd = -1;
        int r;

        r = events_open(cgroup_fd, &fd);
        if (r < 0)
                return r;
        return events_read(fd, ret);
}

int cgroup_freeze(int cgroup_fd, bool freeze)
{
        return file_write(cgroup_fd, "cgroup.freeze", freeze ? "1" : "0");
}

int cgroup_frozen(int cgroup_fd, bool *ret)
{
        _cleanup_close_ int fd = -1;
        char text[256];
        ssize_t n;
        int r;

        r = events_open(cgroup_fd, &fd);
        if (r < 0)
                return r;
        n = pread(fd, text, sizeof(text) - 1, 0);
        if (n < 0)
                return -errno;
        text[n] = '\0';
        *ret = strstr(text, "frozen 1") != NULL;
        return 0;
}

int cgroup_kill(int cgroup_fd)
{
        _cleanup_free_ pid_t *pids = NULL;
        size_t n_pids = 0;
        int r;

        r = file_write(cgroup_fd, "cgroup.kill", "1");
        if (r != -ENOENT && r != -EOPNOTSUPP)
                return r;

        r = cgroup_pids(cgroup_fd, &pids, &n_pids);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n_pids; i++)
                if (pids[i] != getpid() && kill(pids[i], SIGKILL) < 0 && errno != ESRCH)
                        r = -errno;
        return r;
}

static int64_t now_ms(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int cgroup_wait_empty(int cgroup_fd, int timeout_ms)
{
        int64_t deadline = now_ms() + timeout_ms;
        _cleanup_close_ int fd = -1;
        int r;

        r = events_open(cgroup_fd, &fd);
        if (r < 0)
                return r;
        for (;;) {
                struct pollfd item = {.fd = fd, .events = POLLPRI};
                bool populated = true;
                int64_t left;

                /* Reading first arms the notification: what changes afterwards wakes the poll. */
                r = events_read(fd, &populated);
                if (r < 0)
                        return r;
                if (!populated)
                        return 0;
                left = deadline - now_ms();
                if (left <= 0)
                        return -ETIMEDOUT;
                if (poll(&item, 1, (int)left) < 0 && errno != EINTR)
                        return -errno;
        }
}

/* The name of a child directory. False: there is none (any more). */
static bool child_find(int cgroup_fd, char name[256])
{
        _cleanup_(close_directory) DIR *directory = NULL;
        const struct dirent *entry;
        int fd = -1;

        if (directory_open(cgroup_fd, ".", &fd) < 0)
                return false;
        directory = fdopendir(fd);
        if (!directory) {
                close(fd);
                return false;
        }
        while ((entry = readdir(directory))) {
                if (entry_is_child(entry)) {
                        snprintf(name, 256, "%s", entry->d_name);
                        return true;
                }
        }
        return false;
}

/* Leaf by leaf, from the top each time: an agent may have nested deeper than we have descriptors. */
static int descendants_remove(int cgroup_fd)
{
        char name[256], below[256];

        while (child_find(cgroup_fd, name)) {
                _cleanup_close_ int parent = -1, child = -1;
                int r;

                r = directory_open(cgroup_fd, ".", &parent);
                if (r < 0)
                        return r;
                while (directory_open(parent, name, &child) == 0 && child_find(child, below)) {
                        close(parent);
                        parent = TAKE_FD(child);
                        memcpy(name, below, sizeof(name));
                }
                if (unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                        return -errno;
        }
        return 0;
}

int cgroup_remove(const struct cgroup_mount *mount, const char *path, int timeout_ms)
{
        int64_t deadline = now_ms() + timeout_ms;
        _cleanup_close_ int fd = -1, parent = -1;
        _cleanup_free_ char *parent_path = NULL;
        const char *name = strrchr(path, '/');
        int r;

        r = cgroup_open(mount, path, &fd);
        if (r < 0)
                return r;
        if (name == path)
                r = directory_open(mount->fd, ".", &parent);
        else {
                parent_path = strndup(path, (size_t)(name - path));
                if (!parent_path)
                        return -ENOMEM;
                r = cgroup_open(mount, parent_path, &parent);
        }
        if (r < 0)
                return r;

        /* Until it holds: a process may be moved in between the last look and the removal. */
        for (;;) {
                int64_t left = deadline - now_ms();

                r = cgroup_kill(fd);
                if (r == 0)
                        r = cgroup_wait_empty(fd, left > 0 ? (int)left : 0);
                if (r == 0)
                        r = descendants_remove(fd);
                if (r == 0 && unlinkat(parent, name + 1, AT_REMOVEDIR) < 0)
                        r = -errno;
                if (r == 0 || r == -ENODEV || r == -ENOENT)
                        return 0;
                if (r != -EBUSY)
                        return r;
                if (left <= 0)
                        return -ETIMEDOUT;
        }
}
