/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Arithmetic for people.
 */
#include "agentd/ledger/usage.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "agentd/ledger/window.h"
#include "agentd/util/macro.h"

void ledger_usage_add(struct ledger_usage *usage, __u32 window, __u64 used, double elapsed_s)
{
        __u64 before = window == usage->window ? usage->used : 0;
        double kept;

        if (usage->started && elapsed_s > 0) {
                kept = exp(-elapsed_s / LEDGER_USAGE_MEMORY_S);
                /* Both fade alike, so the first seconds are an average too and no slow rise from nothing. */
                usage->bytes = usage->bytes * kept + (used > before ? (double)(used - before) : 0);
                usage->seconds = usage->seconds * kept + elapsed_s;
        }
        usage->started = true;
        usage->window = window;
        usage->used = used;
}

__u64 ledger_usage_rate(const struct ledger_usage *usage)
{
        return (__u64)(usage->bytes / MAX(usage->seconds, (double)LEDGER_USAGE_LEAST_S));
}

bool ledger_time_left(__u64 left, __u64 rate, __u64 now_s, __u64 end_s, __u64 *ret_s)
{
        __u64 seconds;

        if (left == 0) {
                *ret_s = 0;
                return true;
        }
        if (rate == 0)
                return false;
        seconds = left / rate;
        if (end_s != WINDOW_NEVER && (now_s >= end_s || seconds >= end_s - now_s))
                return false;
        *ret_s = seconds;
        return true;
}

bool ledger_scope_fits(const char *scope, const char *wanted)
{
        size_t length = strlen(wanted);

        if (length == 0 || strncmp(scope, wanted, length) != 0)
                return false;
        return scope[length] == '\0' || scope[length] == '/' || scope[length] == ' ';
}
