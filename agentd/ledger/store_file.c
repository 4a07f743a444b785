/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The store's directory and files, looked at before SQLite opens them.
 *
 * The daemon is root and writes where the file leads to; budgets are what the file says. So nobody else may have a say:
 * once the directory is ours and ours alone to write, what was looked at in it is what SQLite opens. Files are looked
 * at without opening them: closing any descriptor of a database drops the locks that this process has on it.
 *
 * A new file is written beside its place, synced and renamed: there never is an empty one, so an empty one is damage.
 */
#include "agentd/ledger/store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/util/cleanup.h"

enum {
        OTHERS_WRITE = S_IWGRP | S_IWOTH,
        PATH_LENGTH_MAX = 480, /* SQLite's is 512, with what it puts behind */
        SIZE_MIN = 512,        /* SQLite takes less for a new file, and removes the log beside it */
};

int store_error(struct state_store_error *error, int r, const char *format, ...)
{
        va_list arguments;

        if (error) {
                va_start(arguments, format);
                vsnprintf(error->text, sizeof(error->text), format, arguments);
                va_end(arguments);
                /* One line, whatever a path or a library says. */
                for (char *c = error->text; *c; c++)
                        if ((unsigned char)*c < ' ' || *c == 0x7f)
                                *c = ' ';
        }
        return r;
}

int store_error_damaged(struct state_store_error *error, const char *path, const char *what)
{
        return store_error(error, -EUCLEAN,
                           "'%.180s' is damaged (%.100s); move it and all '" STORE_NAME
                           "-*' beside it away and start again: budgets then go on from what the kernel still holds, "
                           "or from zero after a reboot",
                           path, what);
}

static int sync_directory(const char *path)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd >= 0 && fsync(fd) == 0 ? 0 : -errno;
}

/* Its entry in the directory above must outlive a power cut as the file in it does. */
static int sync_parent(const char *directory)
{
        _cleanup_free_ char *parent = NULL;

        if (asprintf(&parent, "%s/..", directory) < 0) {
                parent = NULL;
                return -ENOMEM;
        }
        return sync_directory(parent);
}

/* directory: without slashes at its end, which would follow a link. */
static int directory_open(const char *directory, struct state_store_error *error, int *ret_fd)
{
        _cleanup_close_ int fd = -1;
        struct stat st;
        int r;

        if (mkdir(directory, 0700) == 0) {
                r = sync_parent(directory);
                if (r < 0)
                        return store_error(error, r, "cannot sync the directory above '%.200s': %s", directory,
                                           strerror(-r));
        } else if (errno != EEXIST) {
                r = -errno;
                return store_error(error, r, "cannot make the state directory '%.200s': %s; %s", directory,
                                   strerror(-r), "make it (mode 0700), or set daemon.state_dir");
        }

        fd = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
                r = -errno;
                return store_error(error, r, "cannot open the state directory '%.200s': %s; %s", directory,
                                   strerror(-r), "it must be a directory and no link: set daemon.state_dir to it");
        }
        if (fstat(fd, &st) < 0) {
                r = -errno;
                return store_error(error, r, "cannot look at '%.200s': %s", directory, strerror(-r));
        }
        if (st.st_uid != geteuid())
                return store_error(error, -EPERM,
                                   "the state directory '%.200s' belongs to user %u; it must be of user %u: chown it, "
                                   "or set daemon.state_dir",
                                   directory, (unsigned)st.st_uid, (unsigned)geteuid());
        if (st.st_mode & OTHERS_WRITE)
                return store_error(error, -EPERM,
                                   "others may write to the state directory '%.200s' (mode %04o); look at what is in "
                                   "it, then: chmod 0700",
                                   directory, (unsigned)st.st_mode & 07777);
        if (faccessat(fd, ".", W_OK, AT_EACCESS) < 0) {
                r = -errno;
                return store_error(error, r,
                                   "cannot write to the state directory '%.200s': %s; make it writable, or set "
                                   "daemon.state_dir",
                                   directory, strerror(-r));
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* *ret_size: -1 where there is none. */
static int file_check(int directory_fd, const char *directory, const char *name, struct state_store_error *error,
                      off_t *ret_size)
{
        struct stat st;
        int r;

        if (fstatat(directory_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
                if (errno == ENOENT) {
                        *ret_size = -1;
                        return 0;
                }
                r = -errno;
                return store_error(error, r, "cannot look at '%.200s/%s': %s", directory, name, strerror(-r));
        }
        if (S_ISLNK(st.st_mode) || (S_ISREG(st.st_mode) && st.st_nlink != 1))
                return store_error(error, -ELOOP,
                                   "'%.200s/%s' is a link; agentd keeps its state in a file of its own: remove the "
                                   "link, or move the file there",
                                   directory, name);
        if (!S_ISREG(st.st_mode))
                return store_error(error, -EINVAL, "'%.200s/%s' is no regular file; move it away", directory, name);
        if (st.st_uid != geteuid())
                return store_error(error, -EPERM,
                                   "'%.200s/%s' belongs to user %u; it must be of user %u: look at what it says, then "
                                   "chown it, or move it away",
                                   directory, name, (unsigned)st.st_uid, (unsigned)geteuid());
        if (st.st_mode & OTHERS_WRITE)
                return store_error(error, -EPERM,
                                   "others may write to '%.200s/%s' (mode %04o); look at what it says, then: chmod "
                                   "0600, or move it away",
                                   directory, name, (unsigned)st.st_mode & 07777);
        /* Read by others: of no use from now on. What SQLite puts beside it gets the same mode. */
        if ((st.st_mode & 07777) != 0600 && fchmodat(directory_fd, name, 0600, 0) < 0) {
                r = -errno;
                return store_error(error, r, "cannot make '%.200s/%s' private: %s", directory, name, strerror(-r));
        }
        *ret_size = st.st_size;
        return 0;
}

static int write_all(int fd, const void *image, size_t size)
{
        const char *at = image;

        while (size > 0) {
                ssize_t n = write(fd, at, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                at += n;
                size -= (size_t)n;
        }
        return 0;
}

/* Another agentd may make it at the same time: then its file is as good. */
static int file_make(int directory_fd, const void *image, size_t size)
{
        _cleanup_close_ int fd = -1;
        char name[64];
        int r;

        /* One of a process that died with this number is of no use to anyone. */
        snprintf(name, sizeof(name), STORE_NAME ".new-%d", (int)getpid());
        unlinkat(directory_fd, name, 0);
        fd = openat(directory_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = fchmod(fd, 0600) < 0 ? -errno : write_all(fd, image, size);
        if (r == 0 && fsync(fd) < 0)
                r = -errno;
        if (r == 0 && renameat2(directory_fd, name, directory_fd, STORE_NAME, RENAME_NOREPLACE) < 0)
                r = -errno;
        if (r < 0)
                unlinkat(directory_fd, name, 0);
        if (r < 0 && r != -EEXIST)
                return r;
        return fsync(directory_fd) < 0 ? -errno : 0;
}

/* What SQLite keeps beside the file. A write-ahead log would be played into whatever file has the name. */
static const char *const beside[] = {STORE_NAME "-wal", STORE_NAME "-journal", STORE_NAME "-shm"};

static int files_prepare(int directory_fd, const char *directory, const void *image, size_t image_size,
                         struct state_store_error *error)
{
        off_t sizes[ARRAY_SIZE(beside)] = {0}, size = -1;
        int r;

        r = file_check(directory_fd, directory, STORE_NAME, error, &size);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_SIZE(beside); i++) {
                r = file_check(directory_fd, directory, beside[i], error, &sizes[i]);
                if (r < 0)
                        return r;
        }
        if (size >= SIZE_MIN)
                return 0;
        if (size >= 0 || sizes[0] > 0 || sizes[1] > 0) {
                char path[300];

                snprintf(path, sizeof(path), "%.250s/" STORE_NAME, directory);
                return store_error_damaged(error, path, size >= 0 ? "it is cut off" : "only its log is there");
        }

        for (size_t i = 0; i < ARRAY_SIZE(beside); i++)
                if (sizes[i] >= 0 && unlinkat(directory_fd, beside[i], 0) < 0 && errno != ENOENT)
                        return store_error(error, -errno, "cannot remove '%.200s/%s': %s", directory, beside[i],
                                           strerror(errno));
        r = file_make(directory_fd, image, image_size);
        if (r < 0)
                return store_error(error, r, "cannot make '%.200s/" STORE_NAME "': %s", directory, strerror(-r));
        return 0;
}

int store_file_prepare(const char *directory, const void *image, size_t size, struct state_store_error *error,
                       char **ret_path)
{
        _cleanup_free_ char *trimmed = strdup(directory), *real = NULL, *path = NULL;
        _cleanup_close_ int fd = -1;
        int r;

        if (!trimmed)
                return store_error(error, -ENOMEM, "out of memory");
        for (size_t end = strlen(trimmed); end > 1 && trimmed[end - 1] == '/'; end--)
                trimmed[end - 1] = '\0';

        r = directory_open(trimmed, error, &fd);
        if (r < 0)
                return r;
        /* Links above the directory are the administrator's; SQLite is to follow none. */
        real = realpath(trimmed, NULL);
        if (!real) {
                r = -errno;
                return store_error(error, r, "cannot resolve '%.200s': %s", trimmed, strerror(-r));
        }
        if (asprintf(&path, "%s/" STORE_NAME, real) < 0) {
                path = NULL;
                return store_error(error, -ENOMEM, "out of memory");
        }
        if (strlen(path) > PATH_LENGTH_MAX)
                return store_error(error, -ENAMETOOLONG,
                                   "'%.200s...' is too long for SQLite (%zu characters, at most %d); set a shorter "
                                   "daemon.state_dir",
                                   path, strlen(path), PATH_LENGTH_MAX);

        r = files_prepare(fd, trimmed, image, size, error);
        if (r < 0)
                return r;
        *ret_path = TAKE_PTR(path);
        return 0;
}
