/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A VFS for SQLite between the store and the disk: it writes down what is written, and fails when it is told to.
 *
 * What was written down can be played into other files up to any moment, as a crash at that moment would have left
 * them: of writes that no sync has followed, a power cut may keep any sectors. Directories are not modelled: a file
 * that was made stays, with nothing in it.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

enum vfs_file { VFS_DATABASE, VFS_WAL, VFS_FILES };

enum vfs_kind { VFS_WRITE, VFS_TRUNCATE, VFS_SYNC, VFS_KINDS };

struct vfs_step {
        enum vfs_kind kind;
        enum vfs_file file;
        sqlite3_int64 offset; /* or the new size */
        int size;
        unsigned char *bytes;
};

struct vfs {
        sqlite3_vfs vfs;
        sqlite3_vfs *real;
        const char *directory; /* of other files nothing is written down, and none fails */
        struct vfs_step *steps;
        size_t n_steps, capacity;
        /* The countdown'th call of that kind fails; at 0 none does. With persistent, all behind it do, too. */
        enum vfs_kind fail_kind;
        int countdown, result;
        bool persistent, failed;
};

struct vfs_handle {
        sqlite3_file file;
        enum vfs_file which;
        bool watched;
        sqlite3_file *real;
};

static struct vfs vfs; /* SQLite's list has it */

static inline struct vfs_handle *vfs_handle(sqlite3_file *file)
{
        return (struct vfs_handle *)(void *)file;
}

static inline sqlite3_file *vfs_real(sqlite3_file *file)
{
        return vfs_handle(file)->real;
}

static bool vfs_fails(sqlite3_file *file, enum vfs_kind kind)
{
        if (!vfs_handle(file)->watched || vfs.countdown == 0 || kind != vfs.fail_kind)
                return false;
        if (vfs.countdown > 1) {
                vfs.countdown--;
                return false;
        }
        if (!vfs.persistent)
                vfs.countdown = 0;
        vfs.failed = true;
        return true;
}

static void vfs_note(sqlite3_file *file, enum vfs_kind kind, const void *bytes, int size, sqlite3_int64 offset)
{
        struct vfs_step *step;

        if (!vfs_handle(file)->watched)
                return;
        if (vfs.n_steps == vfs.capacity) {
                vfs.capacity = vfs.capacity ? vfs.capacity * 2 : 64;
                vfs.steps = reallocarray(vfs.steps, vfs.capacity, sizeof(*vfs.steps));
                assert_non_null(vfs.steps);
        }
        step = &vfs.steps[vfs.n_steps++];
        *step = (struct vfs_step){.kind = kind, .file = vfs_handle(file)->which, .offset = offset, .size = size};
        if (size > 0) {
                step->bytes = malloc((size_t)size);
                assert_non_null(step->bytes);
                memcpy(step->bytes, bytes, (size_t)size);
        }
}

static int vfs_close(sqlite3_file *file)
{
        return vfs_real(file)->pMethods->xClose(vfs_real(file));
}

static int vfs_read(sqlite3_file *file, void *buffer, int size, sqlite3_int64 offset)
{
        return vfs_real(file)->pMethods->xRead(vfs_real(file), buffer, size, offset);
}

static int vfs_write(sqlite3_file *file, const void *bytes, int size, sqlite3_int64 offset)
{
        int result;

        /* A disk that gets full takes a part. */
        if (vfs_fails(file, VFS_WRITE)) {
                vfs_note(file, VFS_WRITE, bytes, size / 2, offset);
                vfs_real(file)->pMethods->xWrite(vfs_real(file), bytes, size / 2, offset);
                return vfs.result;
        }
        result = vfs_real(file)->pMethods->xWrite(vfs_real(file), bytes, size, offset);
        if (result == SQLITE_OK)
                vfs_note(file, VFS_WRITE, bytes, size, offset);
        return result;
}

static int vfs_truncate(sqlite3_file *file, sqlite3_int64 size)
{
        if (vfs_fails(file, VFS_TRUNCATE))
                return vfs.result;
        vfs_note(file, VFS_TRUNCATE, NULL, 0, size);
        return vfs_real(file)->pMethods->xTruncate(vfs_real(file), size);
}

static int vfs_sync(sqlite3_file *file, int flags)
{
        if (vfs_fails(file, VFS_SYNC))
                return vfs.result;
        vfs_note(file, VFS_SYNC, NULL, 0, 0);
        return SQLITE_OK; /* the test's own machine stays up */
}

static int vfs_size(sqlite3_file *file, sqlite3_int64 *size)
{
        return vfs_real(file)->pMethods->xFileSize(vfs_real(file), size);
}

static int vfs_lock(sqlite3_file *file, int lock)
{
        return vfs_real(file)->pMethods->xLock(vfs_real(file), lock);
}

static int vfs_unlock(sqlite3_file *file, int lock)
{
        return vfs_real(file)->pMethods->xUnlock(vfs_real(file), lock);
}

static int vfs_reserved(sqlite3_file *file, int *result)
{
        return vfs_real(file)->pMethods->xCheckReservedLock(vfs_real(file), result);
}

static int vfs_control(sqlite3_file *file, int operation, void *argument)
{
        return vfs_real(file)->pMethods->xFileControl(vfs_real(file), operation, argument);
}

static int vfs_sector(sqlite3_file *file)
{
        return vfs_real(file)->pMethods->xSectorSize(vfs_real(file));
}

static int vfs_device(sqlite3_file *file)
{
        return 0; /* promises nothing */
}

static int vfs_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **ret)
{
        return vfs_real(file)->pMethods->xShmMap(vfs_real(file), page, size, extend, ret);
}

static int vfs_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
        return vfs_real(file)->pMethods->xShmLock(vfs_real(file), offset, n, flags);
}

static void vfs_shm_barrier(sqlite3_file *file)
{
        vfs_real(file)->pMethods->xShmBarrier(vfs_real(file));
}

static int vfs_shm_unmap(sqlite3_file *file, int remove)
{
        return vfs_real(file)->pMethods->xShmUnmap(vfs_real(file), remove);
}

static int vfs_open(sqlite3_vfs *self, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
        static const sqlite3_io_methods methods = {
                .iVersion = 2,
                .xClose = vfs_close,
                .xRead = vfs_read,
                .xWrite = vfs_write,
                .xTruncate = vfs_truncate,
                .xSync = vfs_sync,
                .xFileSize = vfs_size,
                .xLock = vfs_lock,
                .xUnlock = vfs_unlock,
                .xCheckReservedLock = vfs_reserved,
                .xFileControl = vfs_control,
                .xSectorSize = vfs_sector,
                .xDeviceCharacteristics = vfs_device,
                .xShmMap = vfs_shm_map,
                .xShmLock = vfs_shm_lock,
                .xShmBarrier = vfs_shm_barrier,
                .xShmUnmap = vfs_shm_unmap,
        };
        struct vfs_handle *handle = vfs_handle(file);
        int result;

        memset(handle, 0, sizeof(*handle));
        handle->real = (sqlite3_file *)(void *)(handle + 1);
        handle->which = flags & SQLITE_OPEN_WAL ? VFS_WAL : VFS_DATABASE;
        handle->watched = vfs.directory && name && strncmp(name, vfs.directory, strlen(vfs.directory)) == 0 &&
                          flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_DB);
        result = vfs.real->xOpen(vfs.real, name, handle->real, flags, ret_flags);
        if (handle->real->pMethods)
                file->pMethods = &methods;
        return result;
}

/* As SQLite's default. */
static int vfs_register(void **state)
{
        vfs.real = sqlite3_vfs_find(NULL);
        vfs.vfs = *vfs.real;
        vfs.vfs.zName = "agentd-test";
        vfs.vfs.szOsFile = (int)sizeof(struct vfs_handle) + vfs.real->szOsFile;
        vfs.vfs.xOpen = vfs_open;
        return sqlite3_vfs_register(&vfs.vfs, 1) == SQLITE_OK ? 0 : -1;
}

static void vfs_forget(void)
{
        for (size_t i = 0; i < vfs.n_steps; i++)
                free(vfs.steps[i].bytes);
        free(vfs.steps);
        vfs.steps = NULL;
        vfs.n_steps = vfs.capacity = 0;
        vfs.directory = NULL;
        vfs.countdown = 0;
}

static int vfs_unregister(void **state)
{
        vfs_forget();
        return sqlite3_vfs_unregister(&vfs.vfs) == SQLITE_OK ? 0 : -1;
}
