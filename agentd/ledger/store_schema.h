/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The store's tables: made, migrated, verified. Needs SQLite.
 */
#pragma once

#include <sqlite3.h>

#include "agentd/ledger/store.h"

enum {
        STORE_APPLICATION_ID = 0x61676564, /* "aged" */
        STORE_VERSION = 1,
        STORE_BUSY_MS = 500,
};

/* One row of the table `ledger`, its key apart. */
struct store_row {
        __s64 window, period, used, granted, flush;
        __s64 sum; /* as stored */
};

/* The one row of the table `summary`. */
struct store_summary {
        __s64 flush; /* number of the last one */
        __s64 rows;
        __s64 sum; /* of all rows' sums */
};

__s64 store_row_sum(const char *key, const struct store_row *row);
/* May a ledger read like this? */
bool store_row_is_sane(const char *key, const struct store_row *row);

/* -errno of a result of SQLite's. db may be NULL. */
int store_errno(sqlite3 *db, int result);
/* One statement or more without results. */
int store_execute(sqlite3 *db, const char *sql);

/* What the statements need: functions for SQL, and settings of the connection. */
int store_connection_setup(sqlite3 *db);
/* A file of the present version with no rows. To be freed with sqlite3_free(). */
int store_image_new(void **ret_image, size_t *ret_size);
/* Is it ours, and of which version? Migrates it. -EUCLEAN, -EPROTO, -errno. */
int store_migrate(sqlite3 *db, const char *path, struct state_store_error *error);
/* Reads all of it. -EUCLEAN. */
int store_verify(sqlite3 *db, const char *path, struct state_store_error *error);
