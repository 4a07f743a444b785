/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The state store: opened, read, written.
 *
 * A flush is one transaction, and what it wrote goes from the log into the file at once: a log in which a bit has
 * flipped ends, for SQLite, before that bit, without a word. So the log is empty whenever no flush is under way, and
 * the file, which is checked from end to end, is all there is.
 */
#include "agentd/ledger/store.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/ledger/store_file.h"
#include "agentd/ledger/store_schema.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

enum {
        STATEMENT_BEGIN,
        STATEMENT_COMMIT,
        STATEMENT_ROLLBACK,
        STATEMENT_LAST,
        STATEMENT_ROW,
        STATEMENT_PUT,
        STATEMENT_SUMMARY,
        STATEMENT_SUMMARY_PUT,
        STATEMENT_PRUNED,
        STATEMENT_PRUNE,
        STATEMENT_MAX,
};

enum { WHAT_MAX = 128 };

#define ROW_COLUMNS "window_number, period, used, granted, flush, sum"

static const char *const sql[STATEMENT_MAX] = {
        [STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
        [STATEMENT_COMMIT] = "COMMIT",
        [STATEMENT_ROLLBACK] = "ROLLBACK",
        [STATEMENT_LAST] = "SELECT " ROW_COLUMNS " FROM ledger WHERE key = ?1"
                           " ORDER BY flush DESC, window_number DESC LIMIT 1",
        [STATEMENT_ROW] = "SELECT " ROW_COLUMNS ", (SELECT max(flush) FROM ledger WHERE key = ?1)"
                          " FROM ledger WHERE key = ?1 AND window_number = ?2",
        [STATEMENT_PUT] = "INSERT OR REPLACE INTO ledger (key, " ROW_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        [STATEMENT_SUMMARY] = "SELECT flush, rows, sum FROM summary",
        [STATEMENT_SUMMARY_PUT] = "UPDATE summary SET flush = ?1, rows = ?2, sum = ?3",
        [STATEMENT_PRUNED] =
                "SELECT count(*), coalesce(sum(sum), 0) FROM ledger WHERE window_end(period, window_number) <= ?1",
        [STATEMENT_PRUNE] = "DELETE FROM ledger WHERE window_end(period, window_number) <= ?1",
};

struct state_store {
        sqlite3 *db;
        char *path;
        sqlite3_stmt *statements[STATEMENT_MAX];
};

DEFINE_CLEANUP(struct state_store *, state_store_close);

static void image_free(void **image)
{
        sqlite3_free(*image);
}

/* A statement at its start, whatever happened to it. */
static sqlite3_stmt *statement(struct state_store *store, int which)
{
        sqlite3_reset(store->statements[which]);
        sqlite3_clear_bindings(store->statements[which]);
        return store->statements[which];
}

/* One that has no rows. Reset at its end: an open statement would hold the log. */
static int run(struct state_store *store, sqlite3_stmt *prepared)
{
        int result = sqlite3_step(prepared);
        int r = result == SQLITE_DONE ? 0 : store_errno(store->db, result);

        sqlite3_reset(prepared);
        return r;
}

static void roll_back(struct state_store *store)
{
        /* After some errors SQLite has done it. */
        if (!sqlite3_get_autocommit(store->db))
                run(store, statement(store, STATEMENT_ROLLBACK));
}

/* SQLite's words where it has some; what is wrong with a row it does not know. */
static void reason(struct state_store *store, int r, char ret[static WHAT_MAX])
{
        bool ours = r == -EUCLEAN && store_errno(NULL, sqlite3_errcode(store->db)) != r;

        snprintf(ret, WHAT_MAX, "%s", ours ? "a row is wrong or missing" : sqlite3_errmsg(store->db));
}

static int open_failed(struct state_store *store, int r, struct state_store_error *error)
{
        char what[WHAT_MAX];

        reason(store, r, what);
        switch (r) {
        case -EUCLEAN:
                return store_error_damaged(error, store->path, what);
        case -EBUSY:
                return store_error(error, r, "'%.200s' is locked by another program; end it, and start again",
                                   store->path);
        case -EROFS:
                return store_error(error, r,
                                   "'%.200s' cannot be written (%.100s); mount the file system writable, or set "
                                   "daemon.state_dir",
                                   store->path, what);
        default:
                return store_error(error, r, "cannot open '%.200s': %.100s: %s", store->path, what, strerror(-r));
        }
}

/* The log is a property of the file. */
static int use_wal(struct state_store *store)
{
        sqlite3_stmt *mode = NULL;
        const char *text;
        int result, r;

        result = sqlite3_prepare_v2(store->db, "PRAGMA journal_mode = WAL", -1, &mode, NULL);
        if (result == SQLITE_OK)
                result = sqlite3_step(mode);
        text = result == SQLITE_ROW ? (const char *)sqlite3_column_text(mode, 0) : NULL;
        if (result != SQLITE_ROW)
                r = store_errno(store->db, result);
        else
                r = text && strcmp(text, "wal") == 0 ? 0 : -EOPNOTSUPP;
        sqlite3_finalize(mode);
        return r;
}

static int prepare(struct state_store *store)
{
        for (int i = 0; i < STATEMENT_MAX; i++) {
                int result = sqlite3_prepare_v3(store->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &store->statements[i],
                                                NULL);

                if (result == SQLITE_ERROR) /* no such table or column */
                        return -EUCLEAN;
                if (result != SQLITE_OK)
                        return store_errno(store->db, result);
        }
        return 0;
}

/* Can it be written at all? Better known now than at the first flush. */
static int try_to_write(struct state_store *store)
{
        int r = run(store, statement(store, STATEMENT_BEGIN));

        roll_back(store);
        return r;
}

int state_store_open(const char *directory, struct state_store_error *error, struct state_store **ret)
{
        _cleanup_(state_store_closep) struct state_store *store = calloc(1, sizeof(*store));
        _cleanup_(image_free) void *image = NULL;
        size_t size = 0;
        int result, r;

        if (!store)
                return store_error(error, -ENOMEM, "out of memory");
        r = store_image_new(&image, &size);
        if (r < 0)
                return store_error(error, r, "cannot use SQLite: %s", strerror(-r));
        r = store_file_prepare(directory, image, size, error, &store->path);
        if (r < 0)
                return r;

        result = sqlite3_open_v2(store->path, &store->db,
                                 SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_NOFOLLOW, NULL);
        if (result != SQLITE_OK)
                return open_failed(store, store_errno(store->db, result) ?: -EIO, error);
        r = store_connection_setup(store->db);
        if (r < 0)
                return open_failed(store, r, error);
        r = store_migrate(store->db, store->path, error);
        if (r < 0)
                return r;
        r = use_wal(store);
        if (r == 0)
                r = prepare(store);
        if (r == 0)
                r = try_to_write(store);
        if (r < 0)
                return open_failed(store, r, error);
        r = store_verify(store->db, store->path, error);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(store);
        return 0;
}

void state_store_close(struct state_store *store)
{
        if (!store)
                return;
        for (int i = 0; i < STATEMENT_MAX; i++)
                sqlite3_finalize(store->statements[i]);
        sqlite3_close(store->db);
        free(store->path);
        free(store);
}

static struct store_row row_of(sqlite3_stmt *selected)
{
        return (struct store_row){
                .window = sqlite3_column_int64(selected, 0),
                .period = sqlite3_column_int64(selected, 1),
                .used = sqlite3_column_int64(selected, 2),
                .granted = sqlite3_column_int64(selected, 3),
                .flush = sqlite3_column_int64(selected, 4),
                .sum = sqlite3_column_int64(selected, 5),
        };
}

/* -ENOENT, -EUCLEAN. *ret_last: of all windows, the last flush; may be NULL. */
static int row_select(struct state_store *store, sqlite3_stmt *select, const char *key, struct store_row *ret,
                      __s64 *ret_last)
{
        struct store_row row = {0};
        int result, r = 0;

        sqlite3_bind_text(select, 1, key, -1, SQLITE_STATIC);
        result = sqlite3_step(select);
        if (result == SQLITE_ROW) {
                row = row_of(select);
                if (!store_row_is_sane(key, &row) || row.sum != store_row_sum(key, &row))
                        r = -EUCLEAN;
                else if (ret_last)
                        *ret_last = sqlite3_column_int64(select, 6);
        } else
                r = result == SQLITE_DONE ? -ENOENT : store_errno(store->db, result);
        sqlite3_reset(select);
        if (r == 0)
                *ret = row;
        return r;
}

static int ledger_get(struct state_store *store, sqlite3_stmt *select, const char *key, struct stored_ledger *ret)
{
        struct stored_ledger ledger = {0};
        struct store_row row;
        int r;

        if (strlen(key) >= sizeof(ledger.key))
                return -ENOENT;
        r = row_select(store, select, key, &row, NULL);
        if (r < 0)
                return r;
        memcpy(ledger.key, key, strlen(key) + 1);
        ledger.period = (enum budget_period)row.period;
        ledger.window = (__u32)row.window;
        ledger.used = (__u64)row.used;
        ledger.granted = (__u64)row.granted;
        *ret = ledger;
        return 0;
}

int state_store_get(struct state_store *store, const char *key, struct stored_ledger *ret)
{
        return ledger_get(store, statement(store, STATEMENT_LAST), key, ret);
}

int state_store_get_window(struct state_store *store, const char *key, __u32 window, struct stored_ledger *ret)
{
        sqlite3_stmt *select = statement(store, STATEMENT_ROW);

        sqlite3_bind_int64(select, 2, window);
        return ledger_get(store, select, key, ret);
}

static int summary_get(struct state_store *store, struct store_summary *ret)
{
        sqlite3_stmt *select = statement(store, STATEMENT_SUMMARY);
        int result = sqlite3_step(select);
        int r = result == SQLITE_ROW ? 0 : store_errno(store->db, result) ?: -EUCLEAN;

        if (r == 0)
                *ret = (struct store_summary){
                        .flush = sqlite3_column_int64(select, 0),
                        .rows = sqlite3_column_int64(select, 1),
                        .sum = sqlite3_column_int64(select, 2),
                };
        sqlite3_reset(select);
        return r;
}

static int summary_put(struct state_store *store, const struct store_summary *summary)
{
        sqlite3_stmt *update = statement(store, STATEMENT_SUMMARY_PUT);

        sqlite3_bind_int64(update, 1, summary->flush);
        sqlite3_bind_int64(update, 2, summary->rows);
        sqlite3_bind_int64(update, 3, summary->sum);
        return run(store, update);
}

static int row_put(struct state_store *store, const char *key, const struct store_row *row)
{
        sqlite3_stmt *put = statement(store, STATEMENT_PUT);

        sqlite3_bind_text(put, 1, key, -1, SQLITE_STATIC);
        sqlite3_bind_int64(put, 2, row->window);
        sqlite3_bind_int64(put, 3, row->period);
        sqlite3_bind_int64(put, 4, row->used);
        sqlite3_bind_int64(put, 5, row->granted);
        sqlite3_bind_int64(put, 6, row->flush);
        sqlite3_bind_int64(put, 7, row->sum);
        return run(store, put);
}

/* summary: as it will be after this flush. 1: it was written; 0: it says nothing new. */
static int ledger_put(struct state_store *store, const struct stored_ledger *ledger, bool exact,
                      struct store_summary *summary)
{
        struct store_row old = {0}, row = {
                                            .window = ledger->window,
                                            .period = ledger->period,
                                            .used = (__s64)ledger->used,
                                            .granted = (__s64)ledger->granted,
                                            .flush = summary->flush,
                                    };
        sqlite3_stmt *select = statement(store, STATEMENT_ROW);
        __s64 last = 0;
        bool is_new;
        int r;

        sqlite3_bind_int64(select, 2, ledger->window);
        r = row_select(store, select, ledger->key, &old, &last);
        if (r < 0 && r != -ENOENT)
                return r;
        is_new = r == -ENOENT;
        if (!is_new && !exact) {
                row.used = MAX(row.used, old.used);
                row.granted = MAX(row.granted, old.granted);
        }
        /* An idle ledger costs no write, unless another window of it was written since. */
        if (!is_new && old.flush == last && row.period == old.period && row.used == old.used &&
            row.granted == old.granted)
                return 0;

        row.sum = store_row_sum(ledger->key, &row);
        r = row_put(store, ledger->key, &row);
        if (r < 0)
                return r;
        summary->rows += is_new;
        summary->sum += row.sum - old.sum;
        return 1;
}

/* Commits only when something was written: a flush of nothing new does not touch the disk. */
static int put_all(struct state_store *store, const struct stored_ledger *ledgers, size_t n, bool exact)
{
        struct store_summary summary;
        bool written = false;
        int r;

        r = run(store, statement(store, STATEMENT_BEGIN));
        if (r < 0)
                return r;
        r = summary_get(store, &summary);
        if (r < 0)
                return r;
        summary.flush++;
        for (size_t i = 0; i < n; i++) {
                r = ledger_put(store, &ledgers[i], exact, &summary);
                if (r < 0)
                        return r;
                written = written || r > 0;
        }
        if (!written) {
                roll_back(store);
                return 0;
        }
        r = summary_put(store, &summary);
        if (r < 0)
                return r;
        return run(store, statement(store, STATEMENT_COMMIT));
}

/* Another program that reads holds the log up: it goes with the next flush. */
static int empty_log(struct state_store *store)
{
        int r = store_errno(store->db,
                            sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL));

        return r == -EBUSY ? 0 : r;
}

int state_store_put(struct state_store *store, const struct stored_ledger *ledgers, size_t n, bool exact,
                    struct state_store_error *error)
{
        int r;

        for (size_t i = 0; i < n; i++) {
                const struct stored_ledger *ledger = &ledgers[i];
                struct store_row row = {.window = ledger->window, .period = ledger->period};

                if (!memchr(ledger->key, '\0', sizeof(ledger->key)) || !store_row_is_sane(ledger->key, &row) ||
                    ledger->used > LEDGER_BYTES_MAX || ledger->granted > LEDGER_BYTES_MAX)
                        return store_error(error, -EINVAL, "ledger %zu of a flush has an impossible value", i);
        }

        r = put_all(store, ledgers, n, exact);
        if (r < 0) {
                char what[WHAT_MAX];

                reason(store, r, what);
                roll_back(store);
                if (r == -EUCLEAN)
                        return store_error_damaged(error, store->path, what);
                return store_error(error, r, "cannot write to '%.200s' what budgets have used: %.100s: %s", store->path,
                                   what, strerror(-r));
        }
        r = empty_log(store);
        if (r < 0)
                return store_error(error, r, "'%.200s-wal' cannot be moved into its file: %.100s: %s", store->path,
                                   sqlite3_errmsg(store->db), strerror(-r));
        return 0;
}

static int prune(struct state_store *store, __s64 older_than_s)
{
        sqlite3_stmt *pruned = statement(store, STATEMENT_PRUNED), *delete = statement(store, STATEMENT_PRUNE);
        struct store_summary summary;
        __s64 rows, sum;
        int result, r;

        r = run(store, statement(store, STATEMENT_BEGIN));
        if (r < 0)
                return r;
        r = summary_get(store, &summary);
        if (r < 0)
                return r;
        sqlite3_bind_int64(pruned, 1, older_than_s);
        result = sqlite3_step(pruned);
        if (result != SQLITE_ROW)
                return store_errno(store->db, result) ?: -EIO;
        rows = sqlite3_column_int64(pruned, 0);
        sum = sqlite3_column_int64(pruned, 1);
        sqlite3_reset(pruned);
        if (rows == 0) {
                roll_back(store);
                return 0;
        }

        sqlite3_bind_int64(delete, 1, older_than_s);
        r = run(store, delete);
        if (r < 0)
                return r;
        summary.rows -= rows;
        summary.sum -= sum;
        r = summary_put(store, &summary);
        if (r < 0)
                return r;
        return run(store, statement(store, STATEMENT_COMMIT));
}

int state_store_prune(struct state_store *store, __u64 older_than_s)
{
        int r = prune(store, older_than_s > INT64_MAX ? INT64_MAX : (__s64)older_than_s);

        if (r < 0) {
                statement(store, STATEMENT_PRUNED);
                roll_back(store);
                return r;
        }
        return empty_log(store);
}
