/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The store's tables: made, migrated, verified.
 *
 * quick_check finds a broken tree; a digit that has flipped, a row that is gone and a page of yesterday it does not. So
 * each row has a checksum over all it says, and `summary` has their number and their sum. Nothing else would tell a
 * lost row from a ledger that was never stored, and that would be a budget that starts from zero.
 */
#include "agentd/ledger/store_schema.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <zlib.h>

#include "agentd/ledger/store_file.h"
#include "agentd/ledger/window.h"
#include "agentd/util/cleanup.h"

DEFINE_CLEANUP(sqlite3 *, sqlite3_close);
DEFINE_CLEANUP(sqlite3_stmt *, sqlite3_finalize);
#define _cleanup_sqlite_    _cleanup_(sqlite3_closep)
#define _cleanup_statement_ _cleanup_(sqlite3_finalizep)

#define SCHEMA_1                                     \
        "CREATE TABLE ledger ("                      \
        "  key TEXT NOT NULL,"                       \
        "  window_number INTEGER NOT NULL,"          \
        "  period INTEGER NOT NULL,"                 \
        "  used INTEGER NOT NULL,"                   \
        "  granted INTEGER NOT NULL,"                \
        "  flush INTEGER NOT NULL,"                  \
        "  sum INTEGER NOT NULL,"                    \
        "  PRIMARY KEY (key, window_number)"         \
        ") STRICT, WITHOUT ROWID;"                   \
        "CREATE TABLE summary ("                     \
        "  one INTEGER PRIMARY KEY CHECK (one = 1)," \
        "  flush INTEGER NOT NULL,"                  \
        "  rows INTEGER NOT NULL,"                   \
        "  sum INTEGER NOT NULL"                     \
        ") STRICT;"

/* Steps from version i to i + 1: never changed once released. A step fails on tables that are not those of its version.
 */
static const char *const steps[STORE_VERSION] = {
        /* 0: the first draft, without grants and checksums. */
        "ALTER TABLE ledger RENAME TO ledger_0;" SCHEMA_1
        "INSERT INTO ledger SELECT key, window, period, used, 0, 1, ledger_sum(key, window, period, used, 0, 1)"
        "  FROM ledger_0;"
        "INSERT INTO summary SELECT 1, 1, count(*), coalesce(sum(sum), 0) FROM ledger;"
        "DROP TABLE ledger_0;",
};

int store_errno(sqlite3 *db, int result)
{
        int number = db ? sqlite3_system_errno(db) : 0;

        switch (result & 0xff) {
        case SQLITE_OK:
        case SQLITE_ROW:
        case SQLITE_DONE:
                return 0;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
        case SQLITE_FORMAT:
                return -EUCLEAN;
        case SQLITE_FULL:
                return -ENOSPC;
        case SQLITE_READONLY:
                return -EROFS;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
        case SQLITE_PROTOCOL:
                return -EBUSY;
        case SQLITE_NOMEM:
                return -ENOMEM;
        case SQLITE_PERM:
        case SQLITE_AUTH:
                return -EACCES;
        case SQLITE_IOERR:
                /* A quota is a disk that is full. */
                if (number == EDQUOT || number == ENOSPC)
                        return -ENOSPC;
                return number == EROFS ? -EROFS : -EIO;
        case SQLITE_CANTOPEN:
                return number > 0 ? -number : -EIO;
        default:
                return -EIO;
        }
}

int store_execute(sqlite3 *db, const char *sql)
{
        return store_errno(db, sqlite3_exec(db, sql, NULL, NULL, NULL));
}

__s64 store_row_sum(const char *key, const struct store_row *row)
{
        const __s64 numbers[] = {row->window, row->period, row->used, row->granted, row->flush};
        unsigned char bytes[sizeof(numbers)];
        uLong sum;

        /* In one order of bytes, so that a file can be moved between machines. */
        for (size_t i = 0; i < sizeof(bytes); i++)
                bytes[i] = (unsigned char)((__u64)numbers[i / 8] >> 8 * (i % 8));
        sum = crc32(0, (const Bytef *)key, (uInt)strlen(key) + 1);
        return (__s64)crc32(sum, bytes, sizeof(bytes));
}

bool store_row_is_sane(const char *key, const struct store_row *row)
{
        size_t length = key ? strlen(key) : 0;

        return length > 0 && length < LEDGER_KEY_MAX - 1 && row->period >= 0 && row->period < PERIOD_MAX &&
               row->window >= 0 && row->window <= UINT32_MAX && row->used >= 0 &&
               row->used <= (__s64)LEDGER_BYTES_MAX && row->granted >= 0 && row->granted <= (__s64)LEDGER_BYTES_MAX &&
               row->flush >= 0;
}

/* ledger_sum(key, window_number, period, used, granted, flush) */
static void sql_ledger_sum(sqlite3_context *context, int n, sqlite3_value **values)
{
        const char *key = (const char *)sqlite3_value_text(values[0]);
        struct store_row row = {
                .window = sqlite3_value_int64(values[1]),
                .period = sqlite3_value_int64(values[2]),
                .used = sqlite3_value_int64(values[3]),
                .granted = sqlite3_value_int64(values[4]),
                .flush = sqlite3_value_int64(values[5]),
        };

        if (!store_row_is_sane(key, &row))
                sqlite3_result_error(context, "a row that no ledger can have", -1);
        else
                sqlite3_result_int64(context, store_row_sum(key, &row));
}

/* window_end(period, window_number): NULL where there is none. */
static void sql_window_end(sqlite3_context *context, int n, sqlite3_value **values)
{
        __u64 end = window_end((enum budget_period)sqlite3_value_int(values[0]), (__u32)sqlite3_value_int64(values[1]));

        if (end == WINDOW_NEVER)
                sqlite3_result_null(context);
        else
                sqlite3_result_int64(context, (__s64)end);
}

int store_connection_setup(sqlite3 *db)
{
        static const char settings[] = "PRAGMA trusted_schema = OFF;"
                                       "PRAGMA cell_size_check = ON;"
                                       "PRAGMA mmap_size = 0;" /* a damaged disk is an error, and no SIGBUS */
                                       "PRAGMA temp_store = MEMORY;"
                                       "PRAGMA synchronous = FULL;";
        int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC;
        int result;

        sqlite3_extended_result_codes(db, 1);
        sqlite3_busy_timeout(db, STORE_BUSY_MS);
        sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        result = sqlite3_create_function(db, "ledger_sum", 6, flags, NULL, sql_ledger_sum, NULL, NULL);
        if (result == SQLITE_OK)
                result = sqlite3_create_function(db, "window_end", 2, flags, NULL, sql_window_end, NULL, NULL);
        if (result == SQLITE_OK)
                result = sqlite3_exec(db, settings, NULL, NULL, NULL);
        return store_errno(db, result);
}

int store_image_new(void **ret_image, size_t *ret_size)
{
        _cleanup_sqlite_ sqlite3 *db = NULL;
        sqlite3_int64 size = 0;
        char version[128];
        void *image;
        int result;

        result =
                sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_MEMORY, NULL);
        if (result == SQLITE_OK)
                result = sqlite3_exec(db, SCHEMA_1 "INSERT INTO summary VALUES (1, 0, 0, 0);", NULL, NULL, NULL);
        if (result == SQLITE_OK) {
                snprintf(version, sizeof(version), "PRAGMA application_id = %d; PRAGMA user_version = %d;",
                         STORE_APPLICATION_ID, STORE_VERSION);
                result = sqlite3_exec(db, version, NULL, NULL, NULL);
        }
        if (result != SQLITE_OK)
                return store_errno(NULL, result);
        image = sqlite3_serialize(db, "main", &size, 0);
        if (!image)
                return -ENOMEM;
        *ret_image = image;
        *ret_size = (size_t)size;
        return 0;
}

static int pragma_number(sqlite3 *db, const char *sql, int *ret)
{
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        int result = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);

        if (result != SQLITE_OK)
                return store_errno(db, result);
        result = sqlite3_step(statement);
        if (result != SQLITE_ROW)
                return result == SQLITE_DONE ? -EIO : store_errno(db, result);
        *ret = sqlite3_column_int(statement, 0);
        return 0;
}

/* A failure that is not about the disk or another program is one of what the file says. */
static int migrate_failed(sqlite3 *db, const char *path, int r, struct state_store_error *error)
{
        char what[128];

        if (r == -EUCLEAN || sqlite3_extended_errcode(db) == SQLITE_ERROR) {
                snprintf(what, sizeof(what), "%s", sqlite3_errmsg(db));
                return store_error_damaged(error, path, what);
        }
        return store_error(error, r, "cannot read '%.200s': %.150s", path, sqlite3_errmsg(db));
}

static int migrate(sqlite3 *db)
{
        char sql[64];
        int version, r;

        /* Looked at again: another agentd may have been here first. */
        r = pragma_number(db, "PRAGMA user_version", &version);
        if (r < 0)
                return r;
        for (; version >= 0 && version < STORE_VERSION; version++) {
                r = store_execute(db, steps[version]);
                if (r < 0)
                        return r;
                snprintf(sql, sizeof(sql), "PRAGMA user_version = %d", version + 1);
                r = store_execute(db, sql);
                if (r < 0)
                        return r;
        }
        return store_execute(db, "COMMIT");
}

int store_migrate(sqlite3 *db, const char *path, struct state_store_error *error)
{
        int application, version, r;

        r = pragma_number(db, "PRAGMA application_id", &application);
        if (r == 0)
                r = pragma_number(db, "PRAGMA user_version", &version);
        if (r < 0)
                return migrate_failed(db, path, r, error);
        if (application != STORE_APPLICATION_ID || version < 0)
                return store_error_damaged(error, path, "it is no state of agentd's");
        if (version > STORE_VERSION)
                return store_error(error, -EPROTO,
                                   "'%.200s' is of a newer agentd (its version is %d, this one reads up to %d); run "
                                   "that one, or set another daemon.state_dir",
                                   path, version, STORE_VERSION);
        if (version == STORE_VERSION)
                return 0;

        r = store_execute(db, "BEGIN IMMEDIATE");
        if (r == 0)
                r = migrate(db);
        if (r < 0) {
                r = migrate_failed(db, path, r, error);
                if (!sqlite3_get_autocommit(db))
                        store_execute(db, "ROLLBACK");
        }
        return r;
}

static int quick_check(sqlite3 *db, const char *path, struct state_store_error *error)
{
        _cleanup_statement_ sqlite3_stmt *statement = NULL;
        const char *text;
        int result;

        result = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &statement, NULL);
        if (result == SQLITE_OK)
                result = sqlite3_step(statement);
        if (result != SQLITE_ROW)
                return migrate_failed(db, path, store_errno(db, result), error);
        text = (const char *)sqlite3_column_text(statement, 0);
        if (!text || strcmp(text, "ok") != 0)
                return store_error_damaged(error, path, text ?: "it cannot be checked");
        return 0;
}

static int rows_verify(sqlite3 *db, const char *path, struct state_store_error *error)
{
        _cleanup_statement_ sqlite3_stmt *rows = NULL, *summary = NULL;
        __s64 n = 0, sum = 0;
        int result;

        result = sqlite3_prepare_v2(db, "SELECT key, window_number, period, used, granted, flush, sum FROM ledger", -1,
                                    &rows, NULL);
        if (result == SQLITE_OK)
                result = sqlite3_prepare_v2(db, "SELECT flush, rows, sum FROM summary", -1, &summary, NULL);
        if (result != SQLITE_OK)
                return migrate_failed(db, path, store_errno(db, result), error);

        while ((result = sqlite3_step(rows)) == SQLITE_ROW) {
                const char *key = (const char *)sqlite3_column_text(rows, 0);
                struct store_row row = {
                        .window = sqlite3_column_int64(rows, 1),
                        .period = sqlite3_column_int64(rows, 2),
                        .used = sqlite3_column_int64(rows, 3),
                        .granted = sqlite3_column_int64(rows, 4),
                        .flush = sqlite3_column_int64(rows, 5),
                        .sum = sqlite3_column_int64(rows, 6),
                };

                if (!store_row_is_sane(key, &row) || row.sum != store_row_sum(key, &row))
                        return store_error_damaged(error, path, "a row's checksum is wrong");
                n++;
                sum += row.sum;
        }
        if (result == SQLITE_DONE)
                result = sqlite3_step(summary);
        if (result != SQLITE_ROW && result != SQLITE_DONE)
                return migrate_failed(db, path, store_errno(db, result), error);
        if (result == SQLITE_DONE || sqlite3_column_int64(summary, 1) != n || sqlite3_column_int64(summary, 2) != sum)
                return store_error_damaged(error, path, "rows are missing");
        return 0;
}

int store_verify(sqlite3 *db, const char *path, struct state_store_error *error)
{
        int r;

        /* One state of it, whoever writes meanwhile. */
        r = store_execute(db, "BEGIN");
        if (r < 0)
                return migrate_failed(db, path, r, error);
        r = quick_check(db, path, error);
        if (r == 0)
                r = rows_verify(db, path, error);
        store_execute(db, "ROLLBACK");
        return r;
}
