/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What people want to know of a ledger: how fast it is used, how long the rest lasts, and which one they mean. Pure:
 * time and readings are passed in.
 */
#pragma once

#include <stdbool.h>

#include "agentd/abi_budget.h"

/* An exponentially weighted average of bytes a second: what happened a minute ago counts a third of what happens now.
 */
enum {
        LEDGER_USAGE_MEMORY_S = 60,
        LEDGER_USAGE_LEAST_S = 10, /* one packet right after the start is no rate */
};

struct ledger_usage {
        bool started;
        __u32 window;
        __u64 used; /* at the last reading */
        double bytes, seconds;
};

/* elapsed_s: since the last reading; of the first one nothing is known. A new window begins with nothing used; what
 * becomes less (a reset) is no use. */
void ledger_usage_add(struct ledger_usage *usage, __u32 window, __u64 used, double elapsed_s);
__u64 ledger_usage_rate(const struct ledger_usage *usage); /* bytes a second */

/* How long `left` lasts at this rate. False: for ever, or beyond the window's end (WINDOW_NEVER: it has none). */
bool ledger_time_left(__u64 left, __u64 rate, __u64 now_s, __u64 end_s, __u64 *ret_s);

/* Is wanted the scope, or a part in front of it that ends where a part of it ends ("agent" of "agent/day")? */
bool ledger_scope_fits(const char *scope, const char *wanted);
