/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * When a budget's window begins and ends. Arithmetic alone: the C library's calendar is what the tests hold it to.
 */
#include "agentd/ledger/window.h"

#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { WEEK_DAYS = 7, THURSDAY = 3 }; /* 1970-01-01, counted from Monday */

/* Days from 1970-01-01 to the first day of a month, counted as window_month() does. */
static __u64 days_to_month(__u64 number)
{
        __u64 month = number % 12;
        __u64 year = 1970 + number / 12;
        __u64 shifted_year = month < 2 ? year - 1 : year; /* years that begin on March 1st */
        __u64 shifted_month = (month + 10) % 12;
        __u64 leap_days = shifted_year / 4 - shifted_year / 100 + shifted_year / 400;

        return shifted_year * 365 + leap_days + (153 * shifted_month + 2) / 5 - 719468;
}

static __u64 start_of(enum budget_period period, __u64 number)
{
        switch (period) {
        case PERIOD_HOUR:
                return number * WINDOW_HOUR_S;
        case PERIOD_DAY:
                return number * WINDOW_DAY_S;
        case PERIOD_WEEK:
                return number == 0 ? 0 : (number * WEEK_DAYS - THURSDAY) * WINDOW_DAY_S;
        case PERIOD_MONTH:
                return days_to_month(number) * WINDOW_DAY_S;
        default:
                return 0;
        }
}

__u64 window_start(enum budget_period period, __u32 number)
{
        return start_of(period, number);
}

__u64 window_end(enum budget_period period, __u32 number)
{
        if (period == PERIOD_TOTAL || period >= PERIOD_MAX)
                return WINDOW_NEVER;
        return start_of(period, (__u64)number + 1);
}

const char *window_time_text(__u64 utc_s, char ret[static WINDOW_TEXT_MAX])
{
        time_t time = (time_t)utc_s;
        struct tm tm;

        if (utc_s > INT64_MAX || !gmtime_r(&time, &tm))
                snprintf(ret, WINDOW_TEXT_MAX, "never");
        else
                snprintf(ret, WINDOW_TEXT_MAX, "%04lld-%02u-%02uT%02u:%02u:%02uZ", 1900ll + tm.tm_year,
                         (unsigned)tm.tm_mon + 1, (unsigned)tm.tm_mday, (unsigned)tm.tm_hour, (unsigned)tm.tm_min,
                         (unsigned)tm.tm_sec);
        return ret;
}
