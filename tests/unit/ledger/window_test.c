/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Windows against the C library's calendar. The same window_number() runs in the kernel.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

#include "agentd/ledger/window.h"
#include "agentd/util/macro.h"

/* The first second of 2106: all years before are looked at, hour by hour. */
#define LAST_S 4291747200ull

static __u64 utc(int year, int month, int day, int hour, int minute, int second)
{
        struct tm tm = {
                .tm_year = year - 1900,
                .tm_mon = month - 1,
                .tm_mday = day,
                .tm_hour = hour,
                .tm_min = minute,
                .tm_sec = second,
        };

        return (__u64)timegm(&tm);
}

/* What the library's calendar says: a number for each period, from its fields alone. */
static void assert_numbers(__u64 second)
{
        time_t time = (time_t)second;
        struct tm tm;
        __u32 day;

        assert_non_null(gmtime_r(&time, &tm));
        day = (__u32)((second - (__u64)(tm.tm_hour * 3600 + tm.tm_min * 60 + tm.tm_sec)) / 86400);
        assert_int_equal(window_number(PERIOD_TOTAL, second), 0);
        assert_int_equal(window_number(PERIOD_HOUR, second), day * 24 + (__u32)tm.tm_hour);
        assert_int_equal(window_number(PERIOD_DAY, second), day);
        /* Of a week's days, its Monday is in the same window, and the day before that is not. */
        assert_int_equal(window_number(PERIOD_WEEK, second), (day + 7 - (__u32)(tm.tm_wday + 6) % 7 + 3) / 7 - 1);
        assert_int_equal(window_number(PERIOD_MONTH, second), (tm.tm_year - 70) * 12 + tm.tm_mon);
}

static void numbers_agree_with_the_calendar_around_every_hour_of_136_years(void **state)
{
        assert_int_equal(utc(2106, 1, 1, 0, 0, 0), LAST_S);
        assert_numbers(0);
        assert_numbers(1);
        for (__u64 hour = WINDOW_HOUR_S; hour <= LAST_S; hour += WINDOW_HOUR_S)
                for (__u64 second = hour - 1; second <= hour + 1; second++)
                        assert_numbers(second);
}

static void numbers_agree_with_the_calendar_beyond_32_bits(void **state)
{
        static const int years[] = {2106, 2107, 2200, 2300, 2400, 2401, 3000, 9999};

        for (size_t i = 0; i < ARRAY_SIZE(years); i++)
                for (int month = 1; month <= 12; month++) {
                        __u64 first = utc(years[i], month, 1, 0, 0, 0);

                        for (__u64 second = first - 1; second <= first + 1; second++)
                                assert_numbers(second);
                }
}

static void weeks_begin_on_monday(void **state)
{
        __u64 monday = utc(2026, 11, 23, 0, 0, 0);

        assert_int_equal(window_start(PERIOD_WEEK, window_number(PERIOD_WEEK, monday)), monday);
        assert_int_equal(window_number(PERIOD_WEEK, monday - 1) + 1, window_number(PERIOD_WEEK, monday));
        assert_int_equal(window_number(PERIOD_WEEK, monday + 7 * 86400 - 1), window_number(PERIOD_WEEK, monday));
}

static void leap_days_are_in_february(void **state)
{
        static const struct {
                int year;
                int days;
        } rows[] = {{1970, 28}, {1972, 29}, {2000, 29}, {2023, 28}, {2024, 29}, {2100, 28}, {2400, 29}};

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                __u32 february = window_number(PERIOD_MONTH, utc(rows[i].year, 2, 1, 0, 0, 0));

                assert_int_equal(window_end(PERIOD_MONTH, february) - window_start(PERIOD_MONTH, february),
                                 rows[i].days * 86400);
                assert_int_equal(window_number(PERIOD_MONTH, utc(rows[i].year, 2, rows[i].days, 23, 59, 59)), february);
                assert_int_equal(window_number(PERIOD_MONTH, utc(rows[i].year, 3, 1, 0, 0, 0)), february + 1);
        }
}

/* Each window begins where the one before ends, and its first and last second are its own. */
static void starts_and_ends_are_the_inverse_of_numbers(void **state)
{
        static const enum budget_period periods[] = {PERIOD_HOUR, PERIOD_DAY, PERIOD_WEEK, PERIOD_MONTH};

        for (size_t i = 0; i < ARRAY_SIZE(periods); i++) {
                __u32 last = window_number(periods[i], LAST_S);

                assert_int_equal(window_start(periods[i], 0), 0);
                for (__u32 number = 0; number <= last; number++) {
                        __u64 start = window_start(periods[i], number), end = window_end(periods[i], number);

                        assert_int_equal(window_number(periods[i], start), number);
                        assert_int_equal(window_number(periods[i], end - 1), number);
                        assert_int_equal(window_number(periods[i], end), number + 1);
                        assert_int_equal(window_start(periods[i], number + 1), end);
                }
        }
}

static void a_total_has_one_window_that_never_ends(void **state)
{
        assert_int_equal(window_number(PERIOD_TOTAL, LAST_S), 0);
        assert_int_equal(window_start(PERIOD_TOTAL, 0), 0);
        assert_true(window_end(PERIOD_TOTAL, 0) == WINDOW_NEVER);
        assert_true(window_end(PERIOD_MAX, 7) == WINDOW_NEVER);
        /* A number that no clock gives still ends after it has begun. */
        for (enum budget_period period = PERIOD_HOUR; period < PERIOD_MAX; period++)
                assert_true(window_end(period, UINT32_MAX) > window_start(period, UINT32_MAX));
}

static void times_are_written_as_rfc_3339_says(void **state)
{
        static const struct {
                __u64 second;
                const char *text;
        } rows[] = {
                {0, "1970-01-01T00:00:00Z"},
                {1795478400, "2026-11-24T00:00:00Z"},
                {951782399, "2000-02-28T23:59:59Z"},
                {951782400, "2000-02-29T00:00:00Z"},
                {4294967296, "2106-02-07T06:28:16Z"},
                {WINDOW_NEVER, "never"},
                {INT64_MAX, "never"},
        };
        char text[WINDOW_TEXT_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                assert_string_equal(window_time_text(rows[i].second, text), rows[i].text);
        /* The latest that the calendar knows fits. */
        assert_string_equal(window_time_text(67768036191676799ull, text), "2147485547-12-31T23:59:59Z");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(numbers_agree_with_the_calendar_around_every_hour_of_136_years),
                cmocka_unit_test(numbers_agree_with_the_calendar_beyond_32_bits),
                cmocka_unit_test(weeks_begin_on_monday),
                cmocka_unit_test(leap_days_are_in_february),
                cmocka_unit_test(starts_and_ends_are_the_inverse_of_numbers),
                cmocka_unit_test(a_total_has_one_window_that_never_ends),
                cmocka_unit_test(times_are_written_as_rfc_3339_says),
        };

        return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
