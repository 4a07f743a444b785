/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From a ring buffer's record to an event. Records are checked as hostile input: size, kind, version, enum ranges.
 */
#pragma once

#include "agentd/abi_event.h"
#include "agentd/event/event.h"

/* Fills what the record alone tells (not the agent's name, policy, rule id, learned name, a budget's scope and window's
 * end). boot_to_real_ns: what to add to CLOCK_BOOTTIME. 0; -EBADMSG: not a record of this ABI. */
int event_decode(const void *record, size_t size, __s64 boot_to_real_ns, struct event *ret);
/* exe from /proc, best effort; only when the process still is the one (comm matches). */
void event_complete_process(struct event *event);
