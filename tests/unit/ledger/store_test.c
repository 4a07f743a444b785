/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is stored, and under which rules: windows, resets, versions of the file, and how long a flush takes.
 */
#include "tests/unit/ledger/store_rig.h"

#include <pthread.h>
#include <sqlite3.h>
#include <time.h>

#include "agentd/ledger/window.h"
#include "agentd/policy/policy.h"

/* By another connection, as an administrator's sqlite3 would. */
static void sql(struct rig *rig, const char *text)
{
        sqlite3 *db = NULL;

        assert_int_equal(sqlite3_open(rig->file, &db), SQLITE_OK);
        if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
                fail_msg("%s: %s", text, sqlite3_errmsg(db));
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static sqlite3_int64 sql_number(struct rig *rig, const char *text)
{
        sqlite3_stmt *statement = NULL;
        sqlite3 *db = NULL;
        sqlite3_int64 number;

        assert_int_equal(sqlite3_open(rig->file, &db), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, text, -1, &statement, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
        number = sqlite3_column_int64(statement, 0);
        sqlite3_finalize(statement);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        return number;
}

static void what_was_stored_is_there_after_opening_again(void **state)
{
        static const char *const keys[] = {"agent/claude-1/agent/day", "policy/base/shared/month/both", "sha256/0123"};
        struct rig *rig = *state;
        struct state_store *store = rig_open(rig);
        struct stored_ledger got, all[] = {
                                          ledger(keys[0], PERIOD_DAY, 20781, 123456, 7),
                                          ledger(keys[1], PERIOD_MONTH, 682, LEDGER_BYTES_MAX, 0),
                                          ledger(keys[2], PERIOD_TOTAL, 0, 0, LEDGER_BYTES_MAX),
                                  };

        assert_int_equal(state_store_get(store, keys[0], &got), -ENOENT);
        assert_int_equal(state_store_put(store, all, ARRAY_SIZE(all), false, &rig->error), 0);
        assert_int_equal(state_store_put(store, NULL, 0, false, &rig->error), 0);
        for (int opened = 0; opened < 3; opened++) {
                for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
                        assert_stored(store, keys[i], all[i].window, all[i].used, all[i].granted);
                        assert_int_equal(state_store_get(store, keys[i], &got), 0);
                        assert_int_equal(got.period, all[i].period);
                }
                state_store_close(store);
                store = rig_open(rig);
        }
        assert_int_equal(state_store_get(store, "agent/claude-1/agent", &got), -ENOENT);
        state_store_close(store);
        state_store_close(NULL);
}

static void used_never_falls_in_a_window_but_after_a_reset(void **state)
{
        struct rig *rig = *state;
        struct state_store *store = rig_open(rig);

        rig_put(rig, store, ledger("k", PERIOD_DAY, 10, 500, 50), false);
        rig_put(rig, store, ledger("k", PERIOD_DAY, 10, 400, 60), false);
        assert_stored(store, "k", 10, 500, 60);
        rig_put(rig, store, ledger("k", PERIOD_DAY, 10, 501, 0), false);
        assert_stored(store, "k", 10, 501, 60);
        rig_put(rig, store, ledger("k", PERIOD_DAY, 10, 3, 0), true);
        assert_stored(store, "k", 10, 3, 0);
        rig_put(rig, store, ledger("k", PERIOD_DAY, 10, 2, 0), false);
        assert_stored(store, "k", 10, 3, 0);
        /* A new window begins with what it says. */
        rig_put(rig, store, ledger("k", PERIOD_DAY, 11, 1, 0), false);
        assert_stored(store, "k", 11, 1, 0);
        state_store_close(store);
}

/* Twice in one flush is no way around it. */
static void the_larger_of_two_figures_in_one_flush_is_kept(void **state)
{
        struct rig *rig = *state;
        struct state_store *store = rig_open(rig);
        struct stored_ledger both[] = {ledger("k", PERIOD_DAY, 10, 500, 0), ledger("k", PERIOD_DAY, 10, 400, 0)};

        assert_int_equal(state_store_put(store, both, 2, false, &rig->error), 0);
        assert_stored(store, "k", 10, 500, 0);
        state_store_close(store);
        state_store_close(rig_open(rig));
}

/* The clock went back, or ahead and back again: each window keeps what was used in it. */
static void a_step_of_the_clock_loses_no_window(void **state)
{
        struct rig *rig = *state;
        struct state_store *store = rig_open(rig);
        struct stored_ledger got;

        rig_put(rig, store, ledger("k", PERIOD_DAY, 10, 1000, 0), false);
        rig_put(rig, store, ledger("k", PERIOD_DAY, 9, 20, 0), false);
        assert_stored(store, "k", 9, 20, 0);
        assert_int_equal(state_store_get_window(store, "k", 10, &got), 0);
        assert_int_equal(got.used, 1000);
        assert_int_equal(state_store_get_window(store, "k", 8, &got), -ENOENT);

        /* The same figures again make their window the present one. */
        rig_put(rig, store, ledger("k", PERIOD_DAY, 10, 1000, 0), false);
        assert_stored(store, "k", 10, 1000, 0);
        state_store_close(store);
}

static void an_idle_ledger_costs_no_write(void **state)
{
        struct rig *rig = *state;
        struct state_store *store = rig_open(rig);

        rig_put(rig, store, ledger("k", PERIOD_DAY, 10, 1000, 0), false);
        assert_int_equal(sql_number(rig, "SELECT flush FROM summary"), 1);
        rig_put(rig, store, ledger("k", PERIOD_DAY, 10, 1000, 0), false);
        rig_put(rig, store, ledger("k", PERIOD_DAY, 10, 900, 0), false);
        assert_int_equal(sql_number(rig, "SELECT flush FROM summary"), 1);
        rig_put(rig, store, ledger("k", PERIOD_DAY, 10, 1001, 0), false);
        assert_int_equal(sql_number(rig, "SELECT flush FROM summary"), 2);
        state_store_close(store);
}

static void impossible_values_are_refused_whole(void **state)
{
        struct rig *rig = *state;
        struct state_store *store = rig_open(rig);
        struct stored_ledger got, endless = ledger("k", PERIOD_DAY, 1, 0, 0);
        struct stored_ledger bad[] = {
                ledger("", PERIOD_DAY, 1, 0, 0),
                ledger("k", PERIOD_MAX, 1, 0, 0),
                ledger("k", PERIOD_DAY, 1, LEDGER_BYTES_MAX + 1, 0),
                ledger("k", PERIOD_DAY, 1, 0, LEDGER_BYTES_MAX + 1),
                ledger("k", PERIOD_DAY, 1, UINT64_MAX, 0),
                endless,
        };
        char key[400];

        memset(bad[ARRAY_SIZE(bad) - 1].key, 'x', sizeof(endless.key));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct stored_ledger flush[] = {ledger("good", PERIOD_DAY, 1, 1, 0), bad[i]};

                assert_int_equal(state_store_put(store, flush, 2, false, &rig->error), -EINVAL);
                assert_int_equal(state_store_get(store, "good", &got), -ENOENT);
        }
        /* The longest key there is; one that is longer was never stored. */
        memset(key, 'x', sizeof(key));
        key[LEDGER_KEY_MAX - 2] = '\0';
        rig_put(rig, store, ledger(key, PERIOD_DAY, UINT32_MAX, 5, 0), false);
        assert_stored(store, key, UINT32_MAX, 5, 0);
        key[LEDGER_KEY_MAX - 2] = 'x';
        key[sizeof(key) - 1] = '\0';
        assert_int_equal(state_store_get(store, key, &got), -ENOENT);
        state_store_close(store);
}

static void windows_that_have_ended_are_pruned_and_totals_never(void **state)
{
        static const enum budget_period periods[] = {PERIOD_HOUR, PERIOD_DAY, PERIOD_WEEK, PERIOD_MONTH, PERIOD_TOTAL};
        static const __u64 now = 1795478400; /* 2026-11-24 */
        struct rig *rig = *state;
        struct state_store *store = rig_open(rig);
        struct stored_ledger got;

        for (size_t i = 0; i < ARRAY_SIZE(periods); i++) {
                __u32 window = window_number(periods[i], now);

                rig_put(rig, store, ledger(budget_period_to_string(periods[i]), periods[i], window, 5, 0), false);
        }
        for (size_t i = 0; i < ARRAY_SIZE(periods); i++) {
                const char *key = budget_period_to_string(periods[i]);
                __u64 end = window_end(periods[i], window_number(periods[i], now));

                if (end == WINDOW_NEVER)
                        end = INT64_MAX;
                assert_int_equal(state_store_prune(store, end - 1), 0);
                assert_stored(store, key, window_number(periods[i], now), 5, 0);
                assert_int_equal(state_store_prune(store, end), 0);
                assert_int_equal(state_store_get(store, key, &got), periods[i] == PERIOD_TOTAL ? 0 : -ENOENT);
                /* The sums are right. */
                state_store_close(store);
                store = rig_open(rig);
        }
        assert_int_equal(state_store_prune(store, UINT64_MAX), 0);
        assert_stored(store, "total", 0, 5, 0);
        state_store_close(store);
}

static void two_connections_write_to_one_file(void **state)
{
        struct rig *rig = *state;
        struct state_store *first = rig_open(rig), *second = rig_open(rig);

        for (__u32 i = 1; i <= 20; i++) {
                rig_put(rig, first, ledger("k", PERIOD_DAY, 10, i * 10, 0), false);
                rig_put(rig, second, ledger("k", PERIOD_DAY, 10, i * 10 - 5, 0), false);
                rig_put(rig, second, ledger("l", PERIOD_DAY, 10, i, 0), false);
                assert_stored(first, "l", 10, i, 0);
                assert_stored(second, "k", 10, i * 10, 0);
        }
        state_store_close(first);
        rig_put(rig, second, ledger("k", PERIOD_DAY, 10, 1000, 0), false);
        state_store_close(second);
        second = rig_open(rig);
        assert_stored(second, "k", 10, 1000, 0);
        state_store_close(second);
}

struct writer {
        struct rig rig;
        struct state_store *store;
        int result;
};

enum { FLUSHES = 100 };

static void *write_on(void *argument)
{
        struct writer *writer = argument;

        for (__u64 i = 1; i <= FLUSHES && writer->result == 0; i++) {
                struct stored_ledger both[] = {ledger("k", PERIOD_DAY, 10, i, 0), ledger("l", PERIOD_DAY, 10, i, 0)};

                __atomic_store_n(&writer->result, state_store_put(writer->store, both, 2, false, &writer->rig.error),
                                 __ATOMIC_RELAXED);
        }
        return NULL;
}

/* As the daemon does it: it reads while a thread writes, each by a connection of its own. */
static void what_is_read_while_another_thread_writes_never_falls(void **state)
{
        struct rig *rig = *state;
        struct state_store *reader = rig_open(rig);
        struct writer writer = {.rig = *rig, .store = rig_open(rig)};
        __u64 used = 0;
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, write_on, &writer), 0);
        while (used < FLUSHES) {
                struct stored_ledger first = {0}, second = {0};
                int r = state_store_get(reader, "k", &first);

                if (r == 0)
                        r = state_store_get(reader, "l", &second);
                if (__atomic_load_n(&writer.result, __ATOMIC_RELAXED) < 0 || (r < 0 && r != -ENOENT))
                        break;
                assert_true(first.used >= used && second.used >= first.used);
                used = first.used;
        }
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(writer.result, 0);
        assert_int_equal(used, FLUSHES);
        state_store_close(writer.store);
        state_store_close(reader);
}

/* An administrator who looks: flushes go on, and what was not moved into the file is moved later. */
static void a_reader_does_not_stop_a_flush(void **state)
{
        struct rig *rig = *state;
        struct state_store *store = rig_open(rig);
        sqlite3 *db = NULL;
        struct stat st;

        rig_put(rig, store, ledger("k", PERIOD_DAY, 10, 1, 0), false);
        assert_int_equal(stat(rig->wal, &st), 0);
        assert_int_equal(st.st_size, 0);
        assert_int_equal(sqlite3_open(rig->file, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT count(*) FROM ledger", NULL, NULL, NULL), SQLITE_OK);
        rig_put(rig, store, ledger("k", PERIOD_DAY, 10, 2, 0), false);
        assert_stored(store, "k", 10, 2, 0);
        assert_int_equal(stat(rig->wal, &st), 0);
        assert_true(st.st_size > 0);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        rig_put(rig, store, ledger("k", PERIOD_DAY, 10, 3, 0), false);
        assert_int_equal(stat(rig->wal, &st), 0);
        assert_int_equal(st.st_size, 0);
        state_store_close(store);
}

static void a_writer_in_the_way_is_an_error_that_passes(void **state)
{
        struct rig *rig = *state;
        struct state_store *store = rig_open(rig);
        struct stored_ledger once = ledger("k", PERIOD_DAY, 10, 1, 0);
        sqlite3 *db = NULL;

        assert_int_equal(sqlite3_open(rig->file, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(state_store_put(store, &once, 1, false, &rig->error), -EBUSY);
        assert_non_null(strstr(rig->error.text, rig->file));
        assert_refused(rig, -EBUSY, "locked by another program");
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        rig_put(rig, store, once, false);
        assert_stored(store, "k", 10, 1, 0);
        state_store_close(store);
}

static void the_file_says_what_it_is(void **state)
{
        struct rig *rig = *state;
        unsigned char *bytes;
        size_t size;

        state_store_close(rig_open(rig));
        assert_int_equal(sql_number(rig, "PRAGMA application_id"), 0x61676564);
        assert_int_equal(sql_number(rig, "PRAGMA user_version"), 1);
        bytes = read_file(rig->file, &size);
        assert_int_equal(bytes[18], 2); /* WAL */
        assert_int_equal(bytes[19], 2);
        free(bytes);
}

/* A file of the version before the first one; its used bytes must live on. */
static void version_0_is_migrated(void **state)
{
        struct rig *rig = *state;
        struct state_store *store;

        assert_int_equal(mkdir(rig->directory, 0700), 0);
        sql(rig, "PRAGMA application_id = 0x61676564;"
                 "CREATE TABLE ledger (key TEXT PRIMARY KEY, period INTEGER, window INTEGER, used INTEGER);"
                 "INSERT INTO ledger VALUES ('agent/a/agent/day', 2, 20781, 12345), ('t', 0, 0, 281474976710655)");
        assert_int_equal(chmod(rig->file, 0600), 0);
        for (int opened = 0; opened < 2; opened++) {
                store = rig_open(rig);
                assert_stored(store, "agent/a/agent/day", 20781, 12345, 0);
                assert_stored(store, "t", 0, LEDGER_BYTES_MAX, 0);
                state_store_close(store);
        }
        assert_int_equal(sql_number(rig, "PRAGMA user_version"), 1);
        assert_int_equal(sql_number(rig, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'ledger%'"), 1);
        store = rig_open(rig);
        rig_put(rig, store, ledger("t", PERIOD_TOTAL, 0, 5, 1), false);
        assert_stored(store, "t", 0, LEDGER_BYTES_MAX, 1);
        state_store_close(store);
}

/* Nothing of it is changed: what could not be read today may be read tomorrow. */
static void a_version_0_that_makes_no_sense_is_left_as_it_is(void **state)
{
        static const char *const rows[] = {
                "('k', 2, 20781, -1)", "('k', 2, -1, 1)", "('k', 5, 1, 1)", "('', 2, 1, 1)", "(NULL, 2, 1, 1)",
        };
        struct rig *rig = *state;

        assert_int_equal(mkdir(rig->directory, 0700), 0);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                char text[512];

                snprintf(text, sizeof(text),
                         "PRAGMA application_id = 0x61676564; DROP TABLE IF EXISTS ledger;"
                         "CREATE TABLE ledger (key TEXT PRIMARY KEY, period INTEGER, window INTEGER, used INTEGER);"
                         "INSERT INTO ledger VALUES ('fine', 2, 20781, 12345), %s",
                         rows[i]);
                sql(rig, text);
                assert_int_equal(chmod(rig->file, 0600), 0);
                assert_refused(rig, -EUCLEAN, "move it");
                assert_int_equal(sql_number(rig, "SELECT count(*) FROM ledger"), 2);
                assert_int_equal(sql_number(rig, "PRAGMA user_version"), 0);
        }
}

static void a_newer_version_is_refused(void **state)
{
        struct rig *rig = *state;

        state_store_close(rig_open(rig));
        sql(rig, "PRAGMA user_version = 2");
        assert_refused(rig, -EPROTO, "newer agentd");
        sql(rig, "PRAGMA user_version = -1");
        assert_refused(rig, -EUCLEAN, "no state of agentd");
        sql(rig, "PRAGMA user_version = 0"); /* the tables are those of version 1 */
        assert_refused(rig, -EUCLEAN, "damaged");
        sql(rig, "PRAGMA user_version = 1");
        state_store_close(rig_open(rig));
}

static void a_file_of_another_program_is_refused(void **state)
{
        struct rig *rig = *state;

        assert_int_equal(mkdir(rig->directory, 0700), 0);
        sql(rig, "CREATE TABLE bookmarks (url TEXT)");
        assert_int_equal(chmod(rig->file, 0600), 0);
        assert_refused(rig, -EUCLEAN, "no state of agentd");
        assert_int_equal(sql_number(rig, "SELECT count(*) FROM bookmarks"), 0);
}

/* A figure for people: the time of a real flush, with its fsyncs, on the disk that /tmp is on. */
static void a_thousand_ledgers_are_flushed_at_once(void **state)
{
        enum { N = 1000, ROUNDS = 5 };
        struct rig *rig = *state;
        struct state_store *store = rig_open(rig);
        struct stored_ledger *all = calloc(N, sizeof(*all));
        double best = 1e9;

        assert_non_null(all);
        for (__u64 round = 1; round <= ROUNDS; round++) {
                struct timespec start, end;

                for (size_t i = 0; i < N; i++) {
                        char key[64];

                        snprintf(key, sizeof(key), "agent/agent-%zu/agent/day", i);
                        all[i] = ledger(key, PERIOD_DAY, 20781, round * 1000 + i, 0);
                }
                clock_gettime(CLOCK_MONOTONIC, &start);
                assert_int_equal(state_store_put(store, all, N, false, &rig->error), 0);
                clock_gettime(CLOCK_MONOTONIC, &end);
                best = MIN(best,
                           (double)(end.tv_sec - start.tv_sec) * 1e3 + (double)(end.tv_nsec - start.tv_nsec) / 1e6);
        }
        print_message("%d ledgers flushed in %.1f ms (best of %d, sanitized build)\n", N, best, ROUNDS);
        for (size_t i = 0; i < N; i++)
                assert_stored(store, all[i].key, 20781, ROUNDS * 1000 + i, 0);
        free(all);
        state_store_close(store);
        state_store_close(rig_open(rig));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(what_was_stored_is_there_after_opening_again),
                TEST(used_never_falls_in_a_window_but_after_a_reset),
                TEST(the_larger_of_two_figures_in_one_flush_is_kept),
                TEST(a_step_of_the_clock_loses_no_window),
                TEST(an_idle_ledger_costs_no_write),
                TEST(impossible_values_are_refused_whole),
                TEST(windows_that_have_ended_are_pruned_and_totals_never),
                TEST(two_connections_write_to_one_file),
                TEST(what_is_read_while_another_thread_writes_never_falls),
                TEST(a_reader_does_not_stop_a_flush),
                TEST(a_writer_in_the_way_is_an_error_that_passes),
                TEST(the_file_says_what_it_is),
                TEST(version_0_is_migrated),
                TEST(a_version_0_that_makes_no_sense_is_left_as_it_is),
                TEST(a_newer_version_is_refused),
                TEST(a_file_of_another_program_is_refused),
                TEST(a_thousand_ledgers_are_flushed_at_once),
        };

        return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
