/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A directory for a store, and what the store's tests ask of it.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/ledger/store.h"
#include "agentd/util/macro.h"

struct rig {
        char top[64], directory[80], file[96], wal[112];
        struct state_store_error error;
};

static int rig_setup(void **state)
{
        struct rig *rig = calloc(1, sizeof(*rig));

        if (!rig)
                return -1;
        snprintf(rig->top, sizeof(rig->top), "/tmp/agentd-store.XXXXXX");
        if (!mkdtemp(rig->top)) {
                free(rig);
                return -1;
        }
        snprintf(rig->directory, sizeof(rig->directory), "%s/state", rig->top);
        snprintf(rig->file, sizeof(rig->file), "%s/agentd.db", rig->directory);
        snprintf(rig->wal, sizeof(rig->wal), "%s-wal", rig->file);
        *state = rig;
        return 0;
}

static inline int rig_remove(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
        return remove(path);
}

static int rig_teardown(void **state)
{
        struct rig *rig = *state;

        nftw(rig->top, rig_remove, 16, FTW_DEPTH | FTW_PHYS);
        free(rig);
        return 0;
}

static inline struct state_store *rig_open(struct rig *rig)
{
        struct state_store *store = NULL;
        int r = state_store_open(rig->directory, &rig->error, &store);

        if (r < 0)
                fail_msg("%d: %s", r, rig->error.text);
        return store;
}

/* One line that names the file. */
static inline void assert_refused(struct rig *rig, int expected, const char *says)
{
        struct state_store *store = NULL;
        int r;

        rig->error.text[0] = '\0';
        r = state_store_open(rig->directory, &rig->error, &store);
        if (r != expected)
                fail_msg("%d instead of %d: %s", r, expected, rig->error.text);
        assert_null(store);
        if (!strstr(rig->error.text, says) || !strstr(rig->error.text, rig->directory) ||
            strchr(rig->error.text, '\n') || strlen(rig->error.text) == sizeof(rig->error.text) - 1)
                fail_msg("'%s' does not say '%s'", rig->error.text, says);
}

static inline struct stored_ledger ledger(const char *key, enum budget_period period, __u32 window, __u64 used,
                                          __u64 granted)
{
        struct stored_ledger ledger = {.period = period, .window = window, .used = used, .granted = granted};

        strncpy(ledger.key, key, sizeof(ledger.key) - 1);
        return ledger;
}

static inline void rig_put(struct rig *rig, struct state_store *store, struct stored_ledger stored, bool exact)
{
        int r = state_store_put(store, &stored, 1, exact, &rig->error);

        if (r < 0)
                fail_msg("%d: %s", r, rig->error.text);
}

static inline void assert_stored(struct state_store *store, const char *key, __u32 window, __u64 used, __u64 granted)
{
        struct stored_ledger got = {0};

        assert_int_equal(state_store_get(store, key, &got), 0);
        assert_string_equal(got.key, key);
        assert_int_equal(got.window, window);
        assert_int_equal(got.used, used);
        assert_int_equal(got.granted, granted);
}

static inline void write_file(const char *path, const void *bytes, size_t size)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, bytes, size), size);
        close(fd);
}

/* To be freed. */
static inline unsigned char *read_file(const char *path, size_t *ret_size)
{
        struct stat st;
        unsigned char *bytes;
        int fd = open(path, O_RDONLY);

        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        bytes = malloc((size_t)st.st_size + 1);
        assert_non_null(bytes);
        assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
        close(fd);
        *ret_size = (size_t)st.st_size;
        return bytes;
}
