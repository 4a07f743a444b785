/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Damage: a bit, a page, an end that is gone. What is opened says what was stored, or it is not opened. A budget that
 * starts again from zero, without a word, is the one thing that must not come out of it.
 */
#include "tests/unit/ledger/store_rig.h"

#include <sqlite3.h>

/* Keys as long as they can be: more pages for fewer rows. */
enum { LEDGERS = 150, PAGE = 4096, WINDOW = 20781 };

struct file {
        unsigned char *bytes;
        size_t size;
};

static void key_of(size_t i, char ret[static LEDGER_KEY_MAX - 1])
{
        int length = snprintf(ret, LEDGER_KEY_MAX - 1, "agent/agent-%03zu/", i);

        memset(ret + length, 'x', (size_t)(LEDGER_KEY_MAX - 2 - length));
        ret[LEDGER_KEY_MAX - 2] = '\0';
}

static void fill(struct rig *rig, struct state_store *store, __u64 round)
{
        struct stored_ledger all[LEDGERS];

        for (size_t i = 0; i < LEDGERS; i++) {
                char key[LEDGER_KEY_MAX - 1];

                key_of(i, key);
                all[i] = ledger(key, PERIOD_DAY, WINDOW, round * 1000000 + i, i);
        }
        assert_int_equal(state_store_put(store, all, LEDGERS, false, &rig->error), 0);
}

/* The round that all ledgers are of. */
static __u64 round_of(struct state_store *store)
{
        __u64 round = 0;

        for (size_t i = 0; i < LEDGERS; i++) {
                struct stored_ledger got = {0};
                char key[LEDGER_KEY_MAX - 1];

                key_of(i, key);
                assert_int_equal(state_store_get(store, key, &got), 0);
                if (i == 0)
                        round = got.used / 1000000;
                assert_int_equal(got.used, round * 1000000 + i);
                assert_int_equal(got.granted, i);
                assert_int_equal(got.window, WINDOW);
                assert_int_equal(got.period, PERIOD_DAY);
        }
        return round;
}

/* A store of two rounds, and the file as it was after each. */
static void make(struct rig *rig, struct file *ret_first, struct file *ret_second)
{
        struct state_store *store = rig_open(rig);

        fill(rig, store, 1);
        state_store_close(store);
        ret_first->bytes = read_file(rig->file, &ret_first->size);
        store = rig_open(rig);
        fill(rig, store, 2);
        state_store_close(store);
        ret_second->bytes = read_file(rig->file, &ret_second->size);
        assert_true(ret_second->size >= 8 * PAGE);
}

/* True: refused, with a line that says why; false: opened, and all of the second round is there. */
static bool refused_or_right(struct rig *rig, const unsigned char *bytes, size_t size, const char *what, size_t where)
{
        struct state_store *store = NULL;
        int r;

        write_file(rig->file, bytes, size);
        unlink(rig->wal);
        rig->error.text[0] = '\0';
        r = state_store_open(rig->directory, &rig->error, &store);
        if (r == 0) {
                __u64 round = round_of(store);

                state_store_close(store);
                if (round != 2)
                        fail_msg("%s at %zu: round %llu was read", what, where, (unsigned long long)round);
                return false;
        }
        if (r != -EUCLEAN && r != -EPROTO && r != -EROFS && r != -EIO)
                fail_msg("%s at %zu: %d: %s", what, where, r, rig->error.text);
        assert_non_null(strstr(rig->error.text, rig->file));
        return true;
}

static void a_byte_that_changed_is_found_or_was_not_used(void **state)
{
        static const unsigned char flips[] = {0x01, 0x80, 0xff};
        struct rig *rig = *state;
        struct file first, second;
        size_t n = 0, found = 0;

        make(rig, &first, &second);
        for (size_t offset = 0; offset < second.size; offset += offset < 160 ? 1 : 127)
                for (size_t i = 0; i < ARRAY_SIZE(flips); i++) {
                        /* Beyond the headers, one kind of flip at each place. */
                        if (offset >= 160 && (offset / 127) % ARRAY_SIZE(flips) != i)
                                continue;
                        second.bytes[offset] ^= flips[i];
                        found += refused_or_right(rig, second.bytes, second.size, "a flip", offset);
                        n++;
                        second.bytes[offset] ^= flips[i];
                }
        print_message("%zu of %zu flips were found, the others were in bytes without use\n", found, n);
        assert_true(found > n / 2);
        assert_false(refused_or_right(rig, second.bytes, second.size, "nothing", 0));
        free(first.bytes);
        free(second.bytes);
}

static void an_end_that_is_gone_is_found(void **state)
{
        struct rig *rig = *state;
        struct file first, second;

        make(rig, &first, &second);
        for (size_t size = 0; size < second.size; size += size < 128 ? 9 : 509)
                assert_true(refused_or_right(rig, second.bytes, size, "an end", size));
        for (size_t size = PAGE; size < second.size; size += PAGE)
                assert_true(refused_or_right(rig, second.bytes, size, "an end", size));
        free(first.bytes);
        free(second.bytes);
}

/* A disk that gives back zeros, another page, or the page as it was a flush ago. */
static void a_page_that_is_not_itself_is_found(void **state)
{
        struct rig *rig = *state;
        struct file first, second;
        size_t stale = 0;

        make(rig, &first, &second);
        for (size_t at = 0; at < second.size; at += PAGE) {
                unsigned char page[PAGE];

                memcpy(page, second.bytes + at, PAGE);
                memset(second.bytes + at, 0, PAGE);
                assert_true(refused_or_right(rig, second.bytes, second.size, "zeros", at));
                memset(second.bytes + at + PAGE / 2, 0xff, PAGE / 2);
                assert_true(refused_or_right(rig, second.bytes, second.size, "half of ones", at));
                memcpy(second.bytes + at, second.bytes + (at + PAGE) % second.size, PAGE);
                assert_true(refused_or_right(rig, second.bytes, second.size, "another page", at));
                if (at + PAGE <= first.size && memcmp(page, first.bytes + at, PAGE) != 0) {
                        memcpy(second.bytes + at, first.bytes + at, PAGE);
                        stale += refused_or_right(rig, second.bytes, second.size, "a stale page", at);
                }
                memcpy(second.bytes + at, page, PAGE);
        }
        assert_true(stale >= 4);
        free(first.bytes);
        free(second.bytes);
}

/* Every row can still be read, and the next flush would write over some. */
static void a_page_that_is_free_and_in_use_is_found(void **state)
{
        static const unsigned char freelist[8] = {0, 0, 0, 2, 0, 0, 0, 1}; /* it begins with page 2; one page */
        struct rig *rig = *state;
        struct file first, second;

        make(rig, &first, &second);
        memcpy(second.bytes + 32, freelist, sizeof(freelist));
        assert_true(refused_or_right(rig, second.bytes, second.size, "a free list", 32));
        free(first.bytes);
        free(second.bytes);
}

/* Statements of somebody who wants a budget back and has no idea of checksums. */
static void rows_that_were_changed_by_hand_are_found(void **state)
{
        static const struct {
                const char *sql;
                bool at_once; /* by the running daemon as well */
        } rows[] = {
                {"UPDATE ledger SET used = 0", true},
                {"UPDATE ledger SET granted = granted + 1", true},
                {"UPDATE ledger SET period = 3", true},
                {"UPDATE ledger SET sum = sum + 1", true},
                {"UPDATE ledger SET flush = 7", true},
                {"UPDATE ledger SET window_number = 20780", true},
                {"UPDATE ledger SET used = -1", true},
                {"UPDATE ledger SET key = key || 'x'", false},
                {"DELETE FROM ledger", false},
                {"DELETE FROM ledger WHERE key LIKE '%7%'", false},
                {"DELETE FROM summary", false},
                {"UPDATE summary SET rows = 0, sum = 0; DELETE FROM ledger WHERE key LIKE '%7%'", false},
                {"DROP TABLE ledger", false},
                {"DROP TABLE summary", false},
                {"ALTER TABLE ledger DROP COLUMN sum", false},
        };
        struct rig *rig = *state;
        struct file first, second;

        make(rig, &first, &second);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct stored_ledger got, put;
                struct state_store *store;
                char key[LEDGER_KEY_MAX - 1];
                sqlite3 *db = NULL;

                write_file(rig->file, second.bytes, second.size);
                store = rig_open(rig);
                assert_int_equal(sqlite3_open(rig->file, &db), SQLITE_OK);
                if (sqlite3_exec(db, rows[i].sql, NULL, NULL, NULL) != SQLITE_OK)
                        fail_msg("%s: %s", rows[i].sql, sqlite3_errmsg(db));
                sqlite3_close(db);
                if (rows[i].at_once) {
                        key_of(7, key);
                        put = ledger(key, PERIOD_DAY, WINDOW, 1, 1);
                        assert_int_equal(state_store_get(store, key, &got), -EUCLEAN);
                        if (strstr(rows[i].sql, "window_number") == NULL) {
                                assert_int_equal(state_store_put(store, &put, 1, true, &rig->error), -EUCLEAN);
                                assert_non_null(strstr(rig->error.text, "move it"));
                        }
                }
                state_store_close(store);
                assert_refused(rig, -EUCLEAN, "from zero after a reboot");
        }
        free(first.bytes);
        free(second.bytes);
}

/*
 * The log is empty but for the moment of a flush (or as long as another program reads). A flip in it, at that moment,
 * is for SQLite the end of the log: what is read is then an older flush, but a whole one, and never less than the
 * file's.
 */
static void a_flip_in_the_log_leaves_a_whole_flush(void **state)
{
        struct rig *rig = *state;
        struct file first, second, file, log;
        struct state_store *store;
        size_t rounds[8] = {0};
        sqlite3 *db = NULL;

        make(rig, &first, &second);
        store = rig_open(rig);
        assert_int_equal(sqlite3_open(rig->file, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT count(*) FROM ledger", NULL, NULL, NULL), SQLITE_OK);
        for (__u64 round = 3; round <= 5; round++)
                fill(rig, store, round);
        file.bytes = read_file(rig->file, &file.size);
        log.bytes = read_file(rig->wal, &log.size);
        sqlite3_close(db);
        state_store_close(store);

        for (size_t offset = 0; offset <= log.size; offset += offset < 64 ? 1 : 2039) {
                __u64 round;

                if (offset < log.size)
                        log.bytes[offset] ^= 0x40;
                write_file(rig->file, file.bytes, file.size);
                write_file(rig->wal, log.bytes, log.size);
                store = rig_open(rig);
                round = round_of(store);
                assert_in_range(round, 2, 5);
                rounds[round]++;
                state_store_close(store);
                if (offset < log.size)
                        log.bytes[offset] ^= 0x40;
        }
        assert_true(rounds[2] > 0 && rounds[3] > 0 && rounds[4] > 0);
        free(first.bytes);
        free(second.bytes);
        free(file.bytes);
        free(log.bytes);
}

/* What the error says to do is enough to go on, with nothing remembered. */
static void moving_the_damaged_file_away_is_the_way_out(void **state)
{
        struct rig *rig = *state;
        struct stored_ledger got;
        struct state_store *store;
        char aside[128];

        assert_int_equal(mkdir(rig->directory, 0700), 0);
        write_file(rig->file, "SQLite format 3", 16);
        write_file(rig->wal, "x", 1);
        assert_refused(rig, -EUCLEAN, "move it and all 'agentd.db-*' beside it away");
        snprintf(aside, sizeof(aside), "%s/aside", rig->top);
        assert_int_equal(rename(rig->file, aside), 0);
        assert_refused(rig, -EUCLEAN, "move it"); /* the half of the advice */
        assert_int_equal(rename(rig->wal, aside), 0);
        store = rig_open(rig);
        assert_int_equal(state_store_get(store, "k", &got), -ENOENT);
        state_store_close(store);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_byte_that_changed_is_found_or_was_not_used), TEST(an_end_that_is_gone_is_found),
                TEST(a_page_that_is_not_itself_is_found),           TEST(a_page_that_is_free_and_in_use_is_found),
                TEST(rows_that_were_changed_by_hand_are_found),     TEST(a_flip_in_the_log_leaves_a_whole_flush),
                TEST(moving_the_damaged_file_away_is_the_way_out),
        };

        return cmocka_run_group_tests_name("store_damage", tests, NULL, NULL);
}
