/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * When a budget's window begins and ends: the inverse of window_number(), for people and for the store.
 */
#pragma once

#include <stdint.h>

#include "agentd/window.h"

#define WINDOW_NEVER UINT64_MAX

enum { WINDOW_TEXT_MAX = sizeof("+2147485547-12-31T23:59:59Z") };

/* UTC seconds since 1970. The first of a window, and the first that is after it: 0 and WINDOW_NEVER for PERIOD_TOTAL.
 * (The week that 1970 began in starts with 1970.) */
__u64 window_start(enum budget_period period, __u32 number);
__u64 window_end(enum budget_period period, __u32 number);

/* "2026-11-24T00:00:00Z"; "never". Returns ret. */
const char *window_time_text(__u64 utc_s, char ret[static WINDOW_TEXT_MAX]);
