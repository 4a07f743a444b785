/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which window of a budget a moment belongs to: whole hours, days, weeks (from Monday) and months of UTC, counted from
 * 1970. Compiled by both compilers, so that windows roll over while no daemon lives.
 *
 * POSIX time has no leap seconds: a day has 86400 of them, and the clock itself repeats or slews one.
 */
#pragma once

#include "agentd/abi_budget.h"

enum { WINDOW_HOUR_S = 3600, WINDOW_DAY_S = 86400 };

/*
 * Months since January 1970 of a day since 1970-01-01. Eras of 400 years (146097 days) that begin on March 1st, so that
 * the leap day is a year's last: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
 */
static __always_inline __u32 window_month(__u32 days)
{
        __u32 shifted = days + 719468; /* since 0000-03-01 */
        __u32 era = shifted / 146097;
        __u32 day_of_era = shifted % 146097;
        __u32 year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
        __u32 day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        __u32 month = (5 * day_of_year + 2) / 153; /* 0: March */

        return (era * 400 + year_of_era) * 12 + month + 2 - 1970 * 12;
}

/* utc_s: seconds since 1970. The window's number; 0 for PERIOD_TOTAL. */
static __always_inline __u32 window_number(__u32 period, __u64 utc_s)
{
        __u32 days = utc_s / WINDOW_DAY_S;

        switch (period) {
        case PERIOD_HOUR:
                return utc_s / WINDOW_HOUR_S;
        case PERIOD_DAY:
                return days;
        case PERIOD_WEEK:
                return (days + 3) / 7; /* 1970-01-01 was a Thursday */
        case PERIOD_MONTH:
                return window_month(days);
        default:
                return 0;
        }
}
