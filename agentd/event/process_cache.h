/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The programs' paths of processes that were denied lately: a flood asks /proc once a second, not once an event.
 */
#pragma once

#include "agentd/event/event.h"

enum { PROCESS_CACHE_MAX = 256, PROCESS_CACHE_MS = 1000 };

struct process_cache {
        struct {
                __u32 pid, tid;
                __u64 until_ms;
                char comm[COMM_MAX];
                char exe[sizeof(((struct event *)0)->exe)];
        } slots[PROCESS_CACHE_MAX];
};

/* Fills event->exe where it is empty and can be known. */
void process_cache_complete(struct process_cache *cache, struct event *event, __u64 now_ms);
