/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Notes on their way to a real store, over a loop.
 */
#include "tests/unit/ledger/store_rig.h"

#include "agentd/ledger/keeper.h"

struct keeping {
        uv_loop_t loop;
        struct ledger_keeper *keeper;
};

static void begin(struct keeping *keeping)
{
        *keeping = (struct keeping){};
        assert_int_equal(uv_loop_init(&keeping->loop), 0);
}

static void open_keeper(struct rig *rig, struct keeping *keeping)
{
        begin(keeping);
        assert_int_equal(ledger_keeper_new(&keeping->loop, rig->directory, &rig->error, &keeping->keeper), 0);
}

static void end(struct keeping *keeping)
{
        ledger_keeper_free(keeping->keeper);
        assert_int_equal(uv_run(&keeping->loop, UV_RUN_DEFAULT), 0);
        assert_int_equal(uv_loop_close(&keeping->loop), 0);
}

static struct stored_ledger day_of(const char *key, __u32 window, __u64 used)
{
        struct stored_ledger ledger = {.period = PERIOD_DAY, .window = window, .used = used};

        snprintf(ledger.key, sizeof(ledger.key), "%s", key);
        return ledger;
}

static void note(struct keeping *keeping, const char *key, __u32 window, __u64 used, bool exact)
{
        struct stored_ledger ledger = day_of(key, window, used);

        assert_int_equal(ledger_keeper_note(keeping->keeper, &ledger, exact), 0);
}

static __u64 known(struct keeping *keeping, const char *key)
{
        struct stored_ledger ledger = {};

        assert_int_equal(ledger_keeper_get(keeping->keeper, key, &ledger), 0);
        assert_string_equal(ledger.key, key);
        return ledger.used;
}

static size_t waiting(struct keeping *keeping)
{
        struct ledger_keeper_statistics statistics;

        ledger_keeper_statistics(keeping->keeper, &statistics);
        return statistics.waiting;
}

/* What another process would find. */
static __u64 on_disk(struct rig *rig, const char *key)
{
        struct stored_ledger ledger = {};
        struct state_store *store;
        int r;

        assert_int_equal(state_store_open(rig->directory, &rig->error, &store), 0);
        r = state_store_get(store, key, &ledger);
        state_store_close(store);
        return r == 0 ? ledger.used : UINT64_MAX;
}

static void a_note_is_known_at_once_and_on_the_disk_after_a_flush(void **state)
{
        struct keeping keeping;
        struct stored_ledger ledger;

        open_keeper(*state, &keeping);
        assert_int_equal(ledger_keeper_get(keeping.keeper, "a", &ledger), -ENOENT);
        note(&keeping, "a", 7, 100, false);
        assert_int_equal(known(&keeping, "a"), 100);
        assert_true(on_disk(*state, "a") == UINT64_MAX);
        ledger_keeper_flush(keeping.keeper);
        assert_int_equal(uv_run(&keeping.loop, UV_RUN_DEFAULT), 0);
        assert_int_equal(waiting(&keeping), 0);
        assert_int_equal(on_disk(*state, "a"), 100);
        assert_int_equal(known(&keeping, "a"), 100);
        end(&keeping);
}

static void what_is_noted_while_a_write_is_at_work_is_written_by_the_next(void **state)
{
        struct keeping keeping;

        open_keeper(*state, &keeping);
        note(&keeping, "a", 7, 100, false);
        ledger_keeper_flush(keeping.keeper);
        note(&keeping, "a", 7, 200, false);
        note(&keeping, "b", 7, 5, false);
        ledger_keeper_flush(keeping.keeper);
        ledger_keeper_flush(keeping.keeper);
        assert_int_equal(uv_run(&keeping.loop, UV_RUN_DEFAULT), 0);
        assert_int_equal(waiting(&keeping), 0);
        assert_int_equal(on_disk(*state, "a"), 200);
        assert_int_equal(on_disk(*state, "b"), 5);
        end(&keeping);
}

static void the_last_flush_waits_for_the_one_at_work_and_writes_the_rest(void **state)
{
        for (unsigned i = 0; i < 20; i++) {
                struct keeping keeping;

                open_keeper(*state, &keeping);
                note(&keeping, "a", 7, 100 + i, false);
                ledger_keeper_flush(keeping.keeper);
                note(&keeping, "a", 7, 200 + i, false);
                assert_int_equal(ledger_keeper_flush_now(keeping.keeper), 0);
                assert_int_equal(waiting(&keeping), 0);
                assert_int_equal(on_disk(*state, "a"), 200 + i);
                end(&keeping);
        }
}

static void an_exact_note_lowers_what_is_stored_and_others_do_not(void **state)
{
        struct keeping keeping;

        open_keeper(*state, &keeping);
        note(&keeping, "a", 7, 100, false);
        assert_int_equal(ledger_keeper_flush_now(keeping.keeper), 0);
        note(&keeping, "a", 7, 50, false);
        assert_int_equal(ledger_keeper_flush_now(keeping.keeper), 0);
        assert_int_equal(on_disk(*state, "a"), 100);
        note(&keeping, "a", 7, 0, true);
        note(&keeping, "a", 7, 10, false); /* and then it is used again, before the reset was written */
        note(&keeping, "b", 7, 3, false);
        assert_int_equal(ledger_keeper_flush_now(keeping.keeper), 0);
        assert_int_equal(on_disk(*state, "a"), 10);
        assert_int_equal(on_disk(*state, "b"), 3);
        end(&keeping);
}

static void windows_do_not_stand_for_one_another(void **state)
{
        struct keeping keeping;
        struct stored_ledger ledger;

        open_keeper(*state, &keeping);
        note(&keeping, "a", 7, 100, false);
        assert_int_equal(ledger_keeper_flush_now(keeping.keeper), 0);
        note(&keeping, "a", 5, 20, false); /* the clock went back */
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(known(&keeping, "a"), 20);
                assert_int_equal(ledger_keeper_get_window(keeping.keeper, "a", 7, &ledger), 0);
                assert_int_equal(ledger.used, 100);
                assert_int_equal(ledger_keeper_get_window(keeping.keeper, "a", 6, &ledger), -ENOENT);
                assert_int_equal(ledger_keeper_flush_now(keeping.keeper), 0);
        }
        end(&keeping);
}

static void what_cannot_be_written_stays_and_is_written_later(void **state)
{
        struct keeping keeping;
        struct ledger_keeper_statistics statistics;
        struct stored_ledger odd = day_of("odd", 7, 1);

        open_keeper(*state, &keeping);
        odd.used = ~0ull; /* beyond what can be stored: the store refuses the batch */
        assert_int_equal(ledger_keeper_note(keeping.keeper, &odd, false), 0);
        note(&keeping, "a", 7, 100, false);
        ledger_keeper_flush(keeping.keeper);
        assert_int_equal(uv_run(&keeping.loop, UV_RUN_DEFAULT), 0);
        assert_int_equal(ledger_keeper_flush_now(keeping.keeper), -EINVAL);
        ledger_keeper_statistics(keeping.keeper, &statistics);
        assert_int_equal(statistics.failures, 2);
        assert_int_equal(statistics.waiting, 2);
        assert_string_not_equal(statistics.text, "");
        assert_int_equal(known(&keeping, "a"), 100);

        odd.used = 1;
        assert_int_equal(ledger_keeper_note(keeping.keeper, &odd, false), 0);
        assert_int_equal(ledger_keeper_flush_now(keeping.keeper), 0);
        ledger_keeper_statistics(keeping.keeper, &statistics);
        assert_int_equal(statistics.waiting, 0);
        assert_int_equal(statistics.written, 2);
        assert_string_equal(statistics.text, "");
        assert_int_equal(on_disk(*state, "a"), 100);
        end(&keeping);
}

static void freed_at_work_it_goes_when_the_work_is_done(void **state)
{
        struct keeping keeping;

        open_keeper(*state, &keeping);
        note(&keeping, "a", 7, 100, false);
        ledger_keeper_flush(keeping.keeper);
        end(&keeping); /* the sanitizer sees what is lost or touched too late */
}

static void a_store_that_is_none_is_not_opened(void **state)
{
        struct rig *rig = *state;
        struct keeping keeping;
        FILE *file;

        begin(&keeping);
        assert_int_equal(mkdir(rig->directory, 0700), 0);
        file = fopen(rig->file, "w");
        assert_non_null(file);
        fputs("not a database, but long enough to be taken for one by its size", file);
        fclose(file);
        assert_int_equal(chmod(rig->file, 0600), 0);
        assert_int_equal(ledger_keeper_new(&keeping.loop, rig->directory, &rig->error, &keeping.keeper), -EUCLEAN);
        assert_string_not_equal(rig->error.text, "");
        end(&keeping);
}

#define KEEPER_TEST(function) cmocka_unit_test_setup_teardown(function, rig_setup, rig_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                KEEPER_TEST(a_note_is_known_at_once_and_on_the_disk_after_a_flush),
                KEEPER_TEST(what_is_noted_while_a_write_is_at_work_is_written_by_the_next),
                KEEPER_TEST(the_last_flush_waits_for_the_one_at_work_and_writes_the_rest),
                KEEPER_TEST(an_exact_note_lowers_what_is_stored_and_others_do_not),
                KEEPER_TEST(windows_do_not_stand_for_one_another),
                KEEPER_TEST(what_cannot_be_written_stays_and_is_written_later),
                KEEPER_TEST(freed_at_work_it_goes_when_the_work_is_done),
                KEEPER_TEST(a_store_that_is_none_is_not_opened),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
