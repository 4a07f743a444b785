/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rates of use, and how a scope is named.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agentd/ledger/usage.h"
#include "agentd/ledger/window.h"
#include "agentd/util/macro.h"

static void a_steady_use_is_its_rate_after_a_moment(void **state)
{
        struct ledger_usage usage = {0};

        ledger_usage_add(&usage, 7, 1000000, 0);
        assert_int_equal(ledger_usage_rate(&usage), 0); /* what was used before we looked has no time */
        for (unsigned i = 1; i <= 300; i++) {
                ledger_usage_add(&usage, 7, 1000000 + i * 5000, 1);
                if (i < LEDGER_USAGE_LEAST_S * 2) /* what fades is time as well */
                        assert_in_range(ledger_usage_rate(&usage), MIN(i * 450, 4400), 5000);
                else
                        assert_in_range(ledger_usage_rate(&usage), 4999, 5000);
        }
        for (unsigned i = 0; i < LEDGER_USAGE_MEMORY_S; i++)
                ledger_usage_add(&usage, 7, 1000000 + 300 * 5000, 1);
        assert_in_range(ledger_usage_rate(&usage), 1700, 1950); /* a third of it */
        for (unsigned i = 0; i < 1000; i++)
                ledger_usage_add(&usage, 7, 1000000 + 300 * 5000, 1);
        assert_int_equal(ledger_usage_rate(&usage), 0);
}

static void a_new_window_and_a_reset_are_no_negative_use(void **state)
{
        struct ledger_usage usage = {0};

        ledger_usage_add(&usage, 7, 900, 0);
        ledger_usage_add(&usage, 8, 600, 1); /* rolled: 600 in the new one */
        assert_int_equal(ledger_usage_rate(&usage), 60);
        ledger_usage_add(&usage, 8, 0, 1);
        assert_in_range(ledger_usage_rate(&usage), 58, 60);
        /* A clock that went back, and a suspend that lasted for weeks. */
        ledger_usage_add(&usage, 8, 0, -5);
        ledger_usage_add(&usage, 9, 100, 1e7);
        assert_int_equal(ledger_usage_rate(&usage), 0);
}

static void time_left_is_told_within_the_window_only(void **state)
{
        static const struct {
                __u64 left, rate, now_s, end_s;
                bool known;
                __u64 seconds;
        } cases[] = {
                {1000, 10, 5000, 6000, true, 100},
                {1000, 10, 5900, 6000, false, 0},
                {1000, 0, 5000, 6000, false, 0},
                {0, 0, 5000, 6000, true, 0},
                {1000, 10, 7000, 6000, false, 0},
                {1000, 10, 5000, WINDOW_NEVER, true, 100},
                {UINT64_MAX, 1, 0, WINDOW_NEVER, true, UINT64_MAX},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                __u64 seconds = 0;

                assert_int_equal(
                        ledger_time_left(cases[i].left, cases[i].rate, cases[i].now_s, cases[i].end_s, &seconds),
                        cases[i].known);
                assert_int_equal(seconds, cases[i].seconds);
        }
}

static void a_scope_is_named_by_whole_parts(void **state)
{
        static const struct {
                const char *scope, *wanted;
                bool fits;
        } cases[] = {
                {"agent/day", "agent/day", true},
                {"agent/day", "agent", true},
                {"agent/month/both", "agent/month", true},
                {"agent/day", "agent/da", false},
                {"agent/day", "agents", false},
                {"agent/day", "agent/", false},
                {"agent/day", "", false},
                {"agent/day", "agent/day/both", false},
                {"api.example.com 443/day", "api.example.com", true},
                {"api.example.com 443/day", "api.example.com 443", true},
                {"api.example.com 443/day", "api.example", false},
                {"shared/claude/day", "claude", false},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                assert_int_equal(ledger_scope_fits(cases[i].scope, cases[i].wanted), cases[i].fits);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_steady_use_is_its_rate_after_a_moment),
                cmocka_unit_test(a_new_window_and_a_reset_are_no_negative_use),
                cmocka_unit_test(time_left_is_told_within_the_window_only),
                cmocka_unit_test(a_scope_is_named_by_whole_parts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
