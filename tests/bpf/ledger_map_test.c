/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ledgers and buckets in the real pinned maps: keys, windows, limits, what a reset or a restart leaves. CPUs' leases
 * are put there by hand; the clock is set, never waited for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/bpf_ledger.h"
#include "tests/lib/bpf_scene.h"

static void a_ledger_is_made_once_and_found_by_its_key(void **state)
{
        char longest[LEDGER_KEY_MAX - 1], too_long[LEDGER_KEY_MAX];
        const struct {
                const char *key;
                enum budget_period period;
                __u32 agent_id;
                __u64 limit;
                int r;
                bool made;
        } cases[] = {
                {"agent/a/day", PERIOD_DAY, 7, 1000, 0, true},
                {"agent/a/day", PERIOD_DAY, 7, 1000, 0, false},
                {"agent/a/day", PERIOD_DAY, 8, 2000, 0, false}, /* the limit is no part of it, the number of the agent
                                                                   neither */
                {"agent/a/day", PERIOD_HOUR, 7, 1000, -EINVAL, false},
                {"agent/a/day", PERIOD_TOTAL, 7, 1000, -EINVAL, false},
                {"agent/a/da", PERIOD_DAY, 7, 1000, 0, true},
                {"agent/a/day/", PERIOD_MONTH, 7, LEDGER_BYTES_MAX, 0, true},
                {longest, PERIOD_WEEK, 7, 0, 0, true},
                {too_long, PERIOD_WEEK, 7, 0, -EINVAL, false},
                {"", PERIOD_DAY, 7, 1000, -EINVAL, false},
                {"agent/b", PERIOD_MAX, 7, 1000, -EINVAL, false},
                {"agent/b", PERIOD_DAY, AGENT_MAX, 1000, -EINVAL, false},
                {"agent/b", PERIOD_DAY, 7, LEDGER_BYTES_MAX + 1, -EINVAL, false},
        };
        struct bpf_world *world = *state;
        __u32 ids[ARRAY_SIZE(cases)] = {0};

        if (!world)
                skip();
        memset(longest, 'k', sizeof(longest));
        longest[sizeof(longest) - 2] = '\0';
        memset(too_long, 'k', sizeof(too_long));
        too_long[sizeof(too_long) - 1] = '\0';
        ledger_clock(world, NOON);

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                bool made = false;

                assert_int_equal(datapath_ledger_get(world->datapath, cases[i].key, cases[i].period, cases[i].agent_id,
                                                     cases[i].limit, &ids[i], &made),
                                 cases[i].r);
                if (cases[i].r < 0) {
                        assert_int_equal(ids[i], 0);
                        continue;
                }
                assert_int_equal(made, cases[i].made);
                assert_int_equal(ledger_read(world, ids[i]).limit, cases[i].limit);
                assert_int_equal(ledger_read(world, ids[i]).used, 0);
                assert_int_equal(ledger_read(world, ids[i]).period, cases[i].period);
                assert_int_equal(ledger_read(world, ids[i]).window, window_number(cases[i].period, NOON));
                assert_int_equal(ledger_tables(world)->ledgers[ids[i]].agent_id, cases[i].agent_id);
                for (size_t k = 0; k < i; k++)
                        if (ids[k])
                                assert_int_equal(ids[k] == ids[i], strcmp(cases[k].key, cases[i].key) == 0);
        }
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                datapath_ledger_put(world->datapath, ids[i]);
        assert_null(ledger_tables(world)->slots);
}

static void the_last_reference_takes_a_ledger_away(void **state)
{
        struct bpf_world *world = *state;
        __u32 id, again;
        bool made;

        if (!world)
                skip();
        ledger_clock(world, NOON);
        id = ledger_new(world, "k", PERIOD_DAY, 1000);
        ledger_charge(world, id, 600);
        assert_int_equal(datapath_ledger_get(world->datapath, "k", PERIOD_DAY, 0, 1000, &again, &made), 0);
        datapath_ledger_put(world->datapath, id);
        assert_int_equal(ledger_read(world, id).used, 600);
        datapath_ledger_put(world->datapath, id);
        datapath_ledger_put(world->datapath, id); /* one too many */
        assert_int_equal(ledger_tables(world)->ledgers[id].word, 0);
        assert_int_equal(ledger_tables(world)->ledgers[id].limit, 0);

        again = ledger_new(world, "k", PERIOD_HOUR, 1000);
        assert_int_equal(ledger_read(world, again).used, 0);
        datapath_ledger_put(world->datapath, again);
}

static void ids_run_out_and_come_back(void **state)
{
        struct bpf_world *world = *state;
        static __u32 ids[LEDGERS_MAX];
        __u32 id = 0;
        bool made;
        char key[32];

        if (!world)
                skip();
        ledger_clock(world, NOON);
        for (__u32 i = 1; i < LEDGERS_MAX; i++) {
                snprintf(key, sizeof(key), "key/%u", i);
                ids[i] = ledger_new(world, key, PERIOD_TOTAL, 1000);
                assert_int_equal(datapath_bucket_get(world->datapath, key, 1, 1, &id), 0);
                assert_in_range(id, 1, BUCKETS_MAX - 1);
        }
        assert_int_equal(datapath_ledger_get(world->datapath, "more", PERIOD_TOTAL, 0, 1, &id, &made), -ENOSPC);
        assert_int_equal(datapath_bucket_get(world->datapath, "more", 1, 1, &id), -ENOSPC);
        assert_int_equal(datapath_ledger_get(world->datapath, "key/77", PERIOD_TOTAL, 0, 1, &id, &made), 0);
        assert_int_equal(id, ids[77]);
        datapath_ledger_put(world->datapath, id);

        ledger_charge(world, ids[123], 1);
        datapath_ledger_put(world->datapath, ids[123]);
        id = ledger_new(world, "more", PERIOD_TOTAL, 1000);
        assert_int_equal(id, ids[123]);
        assert_int_equal(ledger_read(world, id).used, 0);

        for (__u32 i = 1; i < LEDGERS_MAX; i++) {
                datapath_ledger_put(world->datapath, ids[i]);
                datapath_bucket_put(world->datapath, i);
        }
        assert_null(ledger_tables(world)->slots);
}

static void buckets_keep_what_was_taken(void **state)
{
        struct bpf_world *world = *state;
        struct bucket *bucket;
        __u32 id = 0, again = 0;
        __u64 before_ns;

        if (!world)
                skip();
        assert_int_equal(datapath_bucket_get(world->datapath, "rate", 1000, 9000, &id), 0);
        bucket = &ledger_tables(world)->buckets[id];
        assert_int_equal(bucket->arrival_ns, 0);
        for (int i = 0; i < 10; i++)
                assert_true(ledger_bucket_take(bucket, 500));
        assert_false(ledger_bucket_take(bucket, 500));

        assert_int_equal(datapath_bucket_get(world->datapath, "rate", 2000, 18000, &again), 0);
        assert_int_equal(again, id);
        assert_int_equal(bucket->arrival_ns, 10500);
        assert_int_equal(bucket->interval_ns, 2000);
        assert_int_equal(bucket->tolerance_ns, 18000);
        assert_int_equal(bpf_world_reopen(world), 0);
        assert_int_equal(datapath_bucket_get(world->datapath, "rate", 1000, 9000, &again), 0);
        assert_int_equal(again, id);
        bucket = &ledger_tables(world)->buckets[id];
        assert_int_equal(bucket->arrival_ns, 10500);
        assert_int_equal(bucket->interval_ns, 1000);

        /* a faster rate owes its own burst at most */
        datapath_bucket_settle(world->datapath, id);
        assert_int_equal(bucket->arrival_ns, 10500);
        bucket->arrival_ns = ~0ull >> 1;
        before_ns = scene_now_ns();
        datapath_bucket_settle(world->datapath, id);
        assert_in_range(bucket->arrival_ns, before_ns + 10000, scene_now_ns() + 10000);

        datapath_bucket_put(world->datapath, id);
        assert_false(ledger_bucket_take(bucket, 1ull << 60)); /* nobody's: refuses */
        assert_null(ledger_tables(world)->slots);
}

static void a_reading_is_of_the_window_of_now(void **state)
{
        static const struct {
                enum budget_period period;
                __u64 charged_at, read_at;
                __u64 used;
                __s32 window; /* since that of charging */
        } cases[] = {
                {PERIOD_HOUR, NOON, NOON, 600, 0},
                {PERIOD_HOUR, NOON, NOON + HOUR / 2 - 2, 600, 0},
                {PERIOD_HOUR, NOON, NOON + HOUR / 2, 0, 1},
                {PERIOD_HOUR, NOON, NOON + 100 * DAY, 0, 2400},
                {PERIOD_HOUR, NOON, NOON - HOUR, 600, 0}, /* the clock went back: still the current one */
                {PERIOD_HOUR, NOON, NOON - 400 * HOUR, 600, 0},
                {PERIOD_DAY, NOON, NOON + 11 * HOUR, 600, 0},
                {PERIOD_DAY, NOON, NOON + 12 * HOUR, 0, 1},
                {PERIOD_DAY, NOON, NOON - 2 * DAY, 600, 0},
                {PERIOD_WEEK, NOON, NOON - DAY, 600, 0},
                {PERIOD_WEEK, NOON, NOON + 6 * DAY, 600, 0},
                {PERIOD_WEEK, NOON, NOON + 7 * DAY, 0, 1},
                {PERIOD_MONTH, NOON, NOON + 7 * DAY, 600, 0},
                {PERIOD_MONTH, NOON, NOON + 8 * DAY, 0, 1},
                {PERIOD_TOTAL, NOON, NOON + 4000 * DAY, 600, 0},
                {PERIOD_TOTAL, NOON, 0, 600, 0},
        };
        struct bpf_world *world = *state;

        if (!world)
                skip();
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct ledger_reading read;
                __u32 id;

                ledger_clock(world, cases[i].charged_at);
                id = ledger_new(world, "k", cases[i].period, 1000);
                ledger_charge(world, id, 600);
                assert_int_equal(datapath_ledger_grant(world->datapath, id, 50), 0);
                ledger_tables(world)->ledgers[id].told =
                        LEDGER_WORD(LEDGER_WINDOW(ledger_tables(world)->ledgers[id].word), TOLD_80);

                ledger_clock(world, cases[i].read_at);
                read = ledger_read(world, id);
                assert_int_equal(read.used, cases[i].used);
                assert_int_equal(read.charged, cases[i].used);
                assert_int_equal(read.granted, cases[i].used ? 50 : 0);
                assert_int_equal(read.told, cases[i].used ? TOLD_80 : 0);
                assert_int_equal(read.limit, 1000);
                assert_int_equal(read.window,
                                 window_number(cases[i].period, cases[i].charged_at) + (__u32)cases[i].window);
                datapath_ledger_put(world->datapath, id);
        }
}

static void used_is_what_is_charged_less_the_leases_of_its_window(void **state)
{
        struct bpf_world *world = *state;
        struct datapath_limits limits;
        struct ledger_reading read[3];
        __u32 hour, day, ids[3];

        if (!world)
                skip();
        ledger_clock(world, NOON);
        hour = ledger_new(world, "hour", PERIOD_HOUR, MIB);
        day = ledger_new(world, "day", PERIOD_DAY, MIB);
        /* the day's counts both ways */
        limits = ledger_sets(world,
                             (struct limit_set[]){{.ledgers = {{(__u16)hour, (__u16)day}, {(__u16)day}}},
                                                  {.ledgers = {{(__u16)day}}}},
                             2);
        ledger_charge(world, hour, 100);
        ledger_charge(world, day, 1000);
        ledger_lease_put(world, 0, limits.first, DIRECTION_EGRESS, 1);
        ledger_lease_put(world, ledger_tables(world)->n_cpus - 1, limits.first, DIRECTION_INGRESS, 20);
        ledger_lease_put(world, 0, limits.first + 1u, DIRECTION_EGRESS, 300);
        assert_int_equal(ledger_read(world, hour).used, 100);
        assert_int_equal(ledger_read(world, hour).charged, 101);
        assert_int_equal(ledger_read(world, day).used, 1000);
        assert_int_equal(ledger_read(world, day).charged, 1321);

        /* two bytes are sent out of a lease */
        ledger_lease_pay(world, 0, limits.first + 1u, DIRECTION_EGRESS, 2);
        assert_int_equal(ledger_read(world, day).used, 1002);

        /* the next hour: its leases are of no account, and those of the day still are */
        ledger_clock(world, NOON + HOUR);
        assert_int_equal(ledger_read(world, hour).used, 0);
        assert_int_equal(ledger_read(world, day).used, 1002);
        ledger_charge(world, hour, 7);
        ids[0] = day;
        ids[1] = LEDGERS_MAX; /* nobody's */
        ids[2] = hour;
        datapath_ledgers_read(world->datapath, ids, 3, read);
        assert_int_equal(read[0].used, 1002);
        assert_int_equal(read[1].used, 0);
        assert_int_equal(read[2].used, 7);
        assert_int_equal(read[2].charged, 7);

        datapath_limits_free(world->datapath, limits);
        assert_int_equal(ledger_read(world, hour).charged, 7);
        assert_int_equal(ledger_read(world, day).charged, 1002);
        datapath_ledger_put(world->datapath, hour);
        datapath_ledger_put(world->datapath, day);
}

static void a_lowered_limit_acts_at_once(void **state)
{
        struct bpf_world *world = *state;
        struct datapath_limits limits;
        __u32 id, other;
        bool made;

        if (!world)
                skip();
        ledger_clock(world, NOON);
        id = ledger_new(world, "k", PERIOD_DAY, MIB);
        other = ledger_new(world, "other", PERIOD_DAY, MIB);
        limits = ledger_sets(world,
                             (struct limit_set[]){{.ledgers = {{(__u16)other, (__u16)id}}},
                                                  {.ledgers = {{(__u16)other}}},
                                                  {.ledgers = {{0}, {(__u16)id}}}},
                             3);
        ledger_charge(world, id, 1000);
        for (int round = 0; round < 3; round++) {
                ledger_lease_put(world, 0, limits.first, DIRECTION_EGRESS, 5000);
                ledger_lease_put(world, 0, limits.first + 1u, DIRECTION_EGRESS, 600);
                ledger_lease_put(world, ledger_tables(world)->n_cpus - 1, limits.first + 2u, DIRECTION_INGRESS, 70);
                assert_int_equal(ledger_read(world, id).charged, 6070);
                assert_int_equal(ledger_read(world, other).charged, 5600);

                if (round == 0)
                        datapath_ledger_set_limit(world->datapath, id, 2 * MIB);
                if (round == 0)
                        assert_int_equal(ledger_lease_bytes(world, 0, limits.first, DIRECTION_EGRESS), 5000);
                if (round == 2) { /* by an edit of the policy */
                        assert_int_equal(datapath_ledger_get(world->datapath, "k", PERIOD_DAY, 0, 10, &id, &made), 0);
                        datapath_ledger_put(world->datapath, id);
                } else {
                        datapath_ledger_set_limit(world->datapath, id, 900);
                }
                assert_int_equal(ledger_read(world, id).charged, 1000);
                assert_int_equal(ledger_read(world, id).used, 1000);
                assert_int_equal(ledger_lease_bytes(world, 0, limits.first, DIRECTION_EGRESS), 0);
                /* what does not hold it is left alone */
                assert_int_equal(ledger_lease_bytes(world, 0, limits.first + 1u, DIRECTION_EGRESS), 600);
                assert_int_equal(ledger_read(world, other).charged, 600);
                assert_true(ledger_is_spent(world, id));

                datapath_ledger_set_limit(world->datapath, id, MIB);
                datapath_leases_collect(ledger_tables(world), other);
        }
        datapath_limits_free(world->datapath, limits);
        datapath_ledger_put(world->datapath, id);
        datapath_ledger_put(world->datapath, other);
}

static void what_was_told_is_told_again_after_a_rise(void **state)
{
        enum { BOTH = TOLD_80 | TOLD_100, RAISE = 0, GRANT = 1, ASK_AGAIN = 2, LOWER = 3 };
        static const struct {
                int what;
                __u64 charged, amount;
                __u64 told;
        } cases[] = {
                {RAISE, 1000, 1001, TOLD_80}, {RAISE, 1000, 1250, TOLD_80}, /* 1000 of 1250 is 80 % */
                {RAISE, 1000, 1252, 0},       {RAISE, 990, 1100, TOLD_80},  /* had refused a packet of 11 bytes */
                {GRANT, 1000, 1, TOLD_80},    {GRANT, 1000, 252, 0},
                {ASK_AGAIN, 990, 1000, BOTH}, /* a reload changes nothing */
                {LOWER, 1000, 999, BOTH},
        };
        struct bpf_world *world = *state;

        if (!world)
                skip();
        ledger_clock(world, NOON);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                __u32 id = ledger_new(world, "k", PERIOD_DAY, 1000);
                struct ledger *ledger = &ledger_tables(world)->ledgers[id];

                ledger_charge(world, id, cases[i].charged);
                ledger->told = LEDGER_WORD(LEDGER_WINDOW(ledger->word), BOTH);
                if (cases[i].what == GRANT)
                        assert_int_equal(datapath_ledger_grant(world->datapath, id, cases[i].amount), 0);
                else
                        datapath_ledger_set_limit(world->datapath, id, cases[i].amount);
                assert_int_equal(ledger_read(world, id).told, cases[i].told);
                datapath_ledger_put(world->datapath, id);
        }
}

static void a_grant_is_of_this_window_only(void **state)
{
        struct bpf_world *world = *state;
        __u32 id;

        if (!world)
                skip();
        ledger_clock(world, NOON);
        id = ledger_new(world, "k", PERIOD_HOUR, 1000);
        ledger_charge(world, id, 1000);
        assert_int_equal(datapath_ledger_grant(world->datapath, id, LEDGER_BYTES_MAX), -ERANGE);
        assert_int_equal(datapath_ledger_grant(world->datapath, id, ~0ull), -ERANGE);
        assert_int_equal(datapath_ledger_grant(world->datapath, id, LEDGER_BYTES_MAX - 1000), 0);
        assert_int_equal(datapath_ledger_grant(world->datapath, id, 1), -ERANGE);
        assert_int_equal(datapath_ledger_reset(world->datapath, id), 1000);
        assert_int_equal(ledger_read(world, id).granted, 0);

        ledger_charge(world, id, 1000);
        assert_int_equal(datapath_ledger_grant(world->datapath, id, 10), 0);
        assert_int_equal(datapath_ledger_grant(world->datapath, id, 5), 0);
        assert_int_equal(ledger_read(world, id).granted, 15);
        ledger_charge(world, id, 15);
        assert_true(ledger_is_spent(world, id));

        ledger_clock(world, NOON + HOUR);
        assert_int_equal(ledger_read(world, id).granted, 0);
        ledger_charge(world, id, 1000);
        assert_true(ledger_is_spent(world, id));
        assert_int_equal(datapath_ledger_grant(world->datapath, id, 3), 0);
        assert_int_equal(ledger_read(world, id).granted, 3);
        datapath_ledger_put(world->datapath, id);
        assert_int_equal(datapath_ledger_grant(world->datapath, id, 3), -ENOENT);
}

static void a_reset_forgets_what_was_used_and_not_what_is_leased(void **state)
{
        struct bpf_world *world = *state;
        struct datapath_limits limits;
        struct ledger *ledger;
        __u32 id;

        if (!world)
                skip();
        ledger_clock(world, NOON);
        id = ledger_new(world, "k", PERIOD_HOUR, MIB);
        ledger = &ledger_tables(world)->ledgers[id];
        limits = ledger_sets(world, &(struct limit_set){.ledgers = {{(__u16)id}, {(__u16)id}}}, 1);
        ledger_charge(world, id, 900000);
        ledger_lease_put(world, 0, limits.first, DIRECTION_EGRESS, 5000);
        ledger_lease_put(world, ledger_tables(world)->n_cpus - 1, limits.first, DIRECTION_INGRESS, 300);
        assert_int_equal(datapath_ledger_grant(world->datapath, id, 77), 0);
        ledger->told = LEDGER_WORD(LEDGER_WINDOW(ledger->word), TOLD_80 | TOLD_100);

        assert_int_equal(datapath_ledger_reset(world->datapath, id), 900000);
        assert_int_equal(ledger_read(world, id).used, 0);
        assert_int_equal(ledger_read(world, id).charged, 5300);
        assert_int_equal(ledger_read(world, id).granted, 0);
        assert_int_equal(ledger_read(world, id).told, 0);

        /* 1000 of them are sent, the rest goes back */
        ledger_lease_pay(world, 0, limits.first, DIRECTION_EGRESS, 1000);
        datapath_leases_collect(ledger_tables(world), id);
        assert_int_equal(ledger_read(world, id).used, 1000);
        assert_int_equal(ledger_read(world, id).charged, 1000);

        /* nothing is left of the last hour, nor to forget */
        ledger_lease_put(world, 0, limits.first, DIRECTION_EGRESS, 5000);
        ledger_clock(world, NOON + HOUR);
        assert_int_equal(datapath_ledger_reset(world->datapath, id), 0);
        assert_int_equal(ledger_read(world, id).used, 0);
        datapath_leases_collect(ledger_tables(world), id);
        assert_int_equal(ledger_read(world, id).charged, 0);
        /* the clock went back: it is what counts that is forgotten */
        ledger_charge(world, id, 12);
        ledger_clock(world, NOON);
        assert_int_equal(datapath_ledger_reset(world->datapath, id), 12);
        assert_int_equal(ledger_read(world, id).window, window_number(PERIOD_HOUR, NOON + HOUR));
        datapath_limits_free(world->datapath, limits);
        datapath_ledger_put(world->datapath, id);
}

static void a_restored_ledger_has_at_least_what_was_stored(void **state)
{
        static const struct {
                enum budget_period period;
                __s64 window; /* stored: since the one of now */
                __u64 stored, granted;
                __u64 charged, leased, has_grant; /* before */
                __u64 used, grant;                /* after */
                __s64 after;                      /* the window, since the one of now */
        } cases[] = {
                {PERIOD_DAY, 0, 500, 0, 0, 0, 0, 500, 0, 0},
                {PERIOD_DAY, 0, 500, 7, 200, 0, 5, 500, 7, 0},
                {PERIOD_DAY, 0, 500, 7, 800, 0, 9, 800, 9, 0}, /* never lowers */
                {PERIOD_DAY, 0, 500, 7, 500, 0, 7, 500, 7, 0},
                {PERIOD_DAY, 0, 500, 0, 520, 100, 0, 500, 0, 0}, /* leases are not used */
                {PERIOD_DAY, 0, 500, 0, 620, 100, 0, 520, 0, 0},
                {PERIOD_DAY, 0, 0, 7, 0, 0, 0, 0, 7, 0},
                {PERIOD_DAY, 0, ~0ull, ~0ull, 0, 0, 0, LEDGER_BYTES_MAX, LEDGER_BYTES_MAX, 0},
                {PERIOD_DAY, -1, 500, 7, 20, 0, 5, 20, 5, 0}, /* has passed */
                {PERIOD_DAY, -20000, 500, 7, 20, 0, 5, 20, 5, 0},
                {PERIOD_DAY, 1, 500, 7, 20, 0, 5, 500, 7, 1}, /* the clock is behind the store */
                {PERIOD_DAY, 300, 500, 7, 20, 0, 5, 500, 7, 300},
                {PERIOD_HOUR, 200000, 500, 7, 20, 0, 5, 500, 7, 0}, /* by more than a word can say */
                {PERIOD_TOTAL, 0, 500, 7, 20, 0, 5, 500, 7, 0},
        };
        struct bpf_world *world = *state;

        if (!world)
                skip();
        ledger_clock(world, NOON);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                __u32 id = ledger_new(world, "k", cases[i].period, MIB), now = window_number(cases[i].period, NOON);
                struct datapath_limits limits = ledger_sets(world, &(struct limit_set){.ledgers = {{(__u16)id}}}, 1);
                struct ledger_reading read;

                if (cases[i].leased)
                        ledger_lease_put(world, 0, limits.first, DIRECTION_EGRESS, (__u32)cases[i].leased);
                ledger_charge(world, id, cases[i].charged - cases[i].leased);
                assert_int_equal(datapath_ledger_grant(world->datapath, id, cases[i].has_grant), 0);

                datapath_ledger_restore(world->datapath, id, (__u32)(now + cases[i].window), cases[i].stored,
                                        cases[i].granted);
                read = ledger_read(world, id);
                assert_int_equal(read.used, cases[i].used);
                assert_int_equal(read.granted, cases[i].grant);
                assert_int_equal(read.window, now + (__u32)cases[i].after);
                datapath_limits_free(world->datapath, limits);
                datapath_ledger_put(world->datapath, id);
        }
}

static void what_a_clock_left_ahead_is_carried_to_the_window_of_now(void **state)
{
        static const struct {
                enum budget_period period;
                __s64 step_s;
                bool carried;
        } cases[] = {
                {PERIOD_HOUR, 0, false},          {PERIOD_HOUR, HOUR, false},      {PERIOD_HOUR, -1, false},
                {PERIOD_HOUR, -HOUR, false},      {PERIOD_HOUR, -2 * HOUR, true},  {PERIOD_HOUR, -9000 * HOUR, true},
                {PERIOD_DAY, -2 * HOUR, false},   {PERIOD_DAY, -DAY, false},       {PERIOD_DAY, -2 * DAY, true},
                {PERIOD_WEEK, -2 * DAY, false},   {PERIOD_WEEK, -20 * DAY, true},  {PERIOD_MONTH, -20 * DAY, false},
                {PERIOD_MONTH, -40 * DAY, false}, {PERIOD_MONTH, -80 * DAY, true}, {PERIOD_TOTAL, -9000 * DAY, false},
        };
        struct bpf_world *world = *state;

        if (!world)
                skip();
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                __u64 then = (__u64)((__s64)NOON + cases[i].step_s);
                struct datapath_limits limits;
                struct ledger_reading read;
                struct ledger *ledger;
                __u32 id;

                ledger_clock(world, NOON);
                id = ledger_new(world, "k", cases[i].period, MIB);
                ledger = &ledger_tables(world)->ledgers[id];
                limits = ledger_sets(world, &(struct limit_set){.ledgers = {{(__u16)id}}}, 1);
                ledger_charge(world, id, 600);
                ledger_lease_put(world, 0, limits.first, DIRECTION_EGRESS, 100);
                assert_int_equal(datapath_ledger_grant(world->datapath, id, 50), 0);
                ledger->told = LEDGER_WORD(LEDGER_WINDOW(ledger->word), TOLD_80);

                ledger_clock(world, then);
                assert_int_equal(datapath_ledger_carry(world->datapath, id), cases[i].carried);
                assert_int_equal(ledger_lease_bytes(world, 0, limits.first, DIRECTION_EGRESS),
                                 cases[i].carried ? 0 : 100);
                read = ledger_read(world, id);
                if (cases[i].step_s <= 0) {
                        assert_int_equal(read.used, 600);
                        assert_int_equal(read.granted, 50);
                        assert_int_equal(read.told, TOLD_80);
                        assert_int_equal(read.window, window_number(cases[i].period, cases[i].carried ? then : NOON));
                }
                assert_false(datapath_ledger_carry(world->datapath, id));
                datapath_limits_free(world->datapath, limits);
                datapath_ledger_put(world->datapath, id);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(a_ledger_is_made_once_and_found_by_its_key, scene_clear),
                cmocka_unit_test_teardown(the_last_reference_takes_a_ledger_away, scene_clear),
                cmocka_unit_test_teardown(ids_run_out_and_come_back, scene_clear),
                cmocka_unit_test_teardown(buckets_keep_what_was_taken, scene_clear),
                cmocka_unit_test_teardown(a_reading_is_of_the_window_of_now, scene_clear),
                cmocka_unit_test_teardown(used_is_what_is_charged_less_the_leases_of_its_window, scene_clear),
                cmocka_unit_test_teardown(a_lowered_limit_acts_at_once, scene_clear),
                cmocka_unit_test_teardown(what_was_told_is_told_again_after_a_rise, scene_clear),
                cmocka_unit_test_teardown(a_grant_is_of_this_window_only, scene_clear),
                cmocka_unit_test_teardown(a_reset_forgets_what_was_used_and_not_what_is_leased, scene_clear),
                cmocka_unit_test_teardown(a_restored_ledger_has_at_least_what_was_stored, scene_clear),
                cmocka_unit_test_teardown(what_a_clock_left_ahead_is_carried_to_the_window_of_now, scene_clear),
        };

        return cmocka_run_group_tests(tests, scene_world_up, scene_world_down);
}
