/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A full disk ends a write anywhere. What is left of a line then is taken back; should that fail as well, the next
 * write begins with a newline, so that no line is ever glued to half of another one.
 */
#include "agentd/event/line_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/util/cleanup.h"

enum { GATHER_MAX = 128 * 1024 };

struct line_file {
        int fd;
        bool torn;
        char *path;
        dev_t device; /* of the open file */
        ino_t inode;
        uv_idle_t *idle; /* freed by its close callback; runs at the next turn while lines are gathered */
        char *gathered;
        size_t used;
        __u64 lost;
};

/* The directory is made when only it is missing (a fresh machine has no /var/log/agentd). */
static int make_parent(const char *path)
{
        _cleanup_free_ char *parent = strdup(path);
        char *slash;

        if (!parent)
                return -ENOMEM;
        slash = strrchr(parent, '/');
        if (!slash || slash == parent)
                return 0;
        *slash = '\0';
        return mkdir(parent, 0750) < 0 && errno != EEXIST ? -errno : 0;
}

int line_file_open(const char *path)
{
        /* O_NONBLOCK: a FIFO without a reader must not stop us. It means nothing for a regular file. */
        const int flags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
        int fd = open(path, flags | O_CREAT | O_EXCL, 0640);

        if (fd < 0 && errno == ENOENT && make_parent(path) == 0)
                fd = open(path, flags | O_CREAT | O_EXCL, 0640);
        if (fd >= 0) {
                /* Whatever the umask is: the group may read. */
                if (fchmod(fd, 0640) < 0) {
                        int r = -errno;

                        close(fd);
                        return r;
                }
                return fd;
        }
        if (errno != EEXIST)
                return -errno;
        fd = open(path, flags);
        return fd < 0 ? -errno : fd;
}

static int line_file_use(struct line_file *file, int fd)
{
        struct stat status;
        int r = 0;

        if (fstat(fd, &status) < 0)
                r = -errno;
        else if (!S_ISREG(status.st_mode))
                r = -EINVAL;
        if (r < 0) {
                close(fd);
                return r;
        }
        if (file->fd >= 0)
                close(file->fd);
        file->fd = fd;
        file->torn = false;
        file->device = status.st_dev;
        file->inode = status.st_ino;
        return 0;
}

static void free_closed(uv_handle_t *handle)
{
        free(handle);
}

int line_file_new(uv_loop_t *loop, const char *path, int fd, struct line_file **ret)
{
        struct line_file *file = calloc(1, sizeof(*file));
        int r = -ENOMEM;

        if (file) {
                file->fd = -1;
                file->path = strdup(path);
                file->gathered = malloc(GATHER_MAX);
                file->idle = malloc(sizeof(*file->idle));
        }
        if (!file || !file->path || !file->gathered || !file->idle)
                close(fd);
        else
                r = line_file_use(file, fd);
        if (r < 0) {
                if (file) {
                        free(file->idle);
                        free(file->gathered);
                        free(file->path);
                }
                free(file);
                return r;
        }
        uv_idle_init(loop, file->idle);
        uv_unref((uv_handle_t *)file->idle);
        file->idle->data = file;
        *ret = file;
        return 0;
}

void line_file_free(struct line_file *file)
{
        if (!file)
                return;
        line_file_flush(file);
        uv_close((uv_handle_t *)file->idle, free_closed);
        close(file->fd);
        free(file->gathered);
        free(file->path);
        free(file);
}

int line_file_reopen(struct line_file *file)
{
        int fd;

        line_file_flush(file);
        fd = line_file_open(file->path);
        return fd < 0 ? fd : line_file_use(file, fd);
}

static void follow_rotation(struct line_file *file)
{
        struct stat status;
        int fd;

        if (lstat(file->path, &status) == 0 && status.st_dev == file->device && status.st_ino == file->inode)
                return;
        /* While it cannot be opened the old file still takes the lines: ignoring. */
        fd = line_file_open(file->path);
        if (fd >= 0)
                (void)line_file_use(file, fd);
}

static size_t write_all(int fd, const char *bytes, size_t length)
{
        size_t done = 0;

        while (done < length) {
                ssize_t n = write(fd, bytes + done, length - done);

                if (n > 0)
                        done += (size_t)n;
                else if (n == 0 || errno != EINTR)
                        break;
        }
        return done;
}

/* The gathered lines; returns how many bytes of them are in the file as whole lines. */
static size_t write_gathered(struct line_file *file)
{
        struct stat before;
        size_t done, whole;

        if (fstat(file->fd, &before) < 0)
                return 0;
        if (file->torn) {
                if (write_all(file->fd, "\n", 1) != 1)
                        return 0;
                file->torn = false;
                before.st_size++;
        }
        done = write_all(file->fd, file->gathered, file->used);
        for (whole = done; whole > 0 && file->gathered[whole - 1] != '\n'; whole--)
                ;
        if (whole < done && ftruncate(file->fd, before.st_size + (off_t)whole) < 0)
                file->torn = true;
        return whole;
}

void line_file_flush(struct line_file *file)
{
        uv_idle_stop(file->idle);
        if (file->used == 0)
                return;
        follow_rotation(file);
        for (size_t i = write_gathered(file); i < file->used; i++)
                file->lost += file->gathered[i] == '\n';
        file->used = 0;
}

static void on_next_turn(uv_idle_t *idle)
{
        line_file_flush(idle->data);
}

bool line_file_write(struct line_file *file, const char *line, size_t length)
{
        if (length >= GATHER_MAX)
                return false;
        if (length + 1 > GATHER_MAX - file->used)
                line_file_flush(file);
        if (file->used == 0)
                uv_idle_start(file->idle, on_next_turn);
        memcpy(file->gathered + file->used, line, length);
        file->gathered[file->used + length] = '\n';
        file->used += length + 1;
        return true;
}

__u64 line_file_lost(const struct line_file *file)
{
        return file->lost;
}

__u64 line_file_take_lost(struct line_file *file)
{
        __u64 lost = file->lost;

        file->lost = 0;
        return lost;
}
