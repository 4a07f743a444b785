/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Repeats within a second become one event with a count.
 *
 * A key's second begins with its first event, which goes out at once. Entries live equally long, so they end in the
 * order in which they began: a look-up, an insertion and an expiry cost the same at any load. No allocation after
 * aggregate_new().
 *
 * Threat: destinations, ports and names are the agent's choice, and each new one would be a line of its own. So an
 * agent has at most AGGREGATE_PER_AGENT of them a second, and all agents AGGREGATE_MAX; what comes beyond is summed
 * without telling destinations apart and goes out as a sum alone. Lines are bounded, counts and bytes stay exact.
 */
#pragma once

#include "agentd/event/event.h"
#include "agentd/util/cleanup.h"

struct aggregate;

enum { AGGREGATE_MAX = 16384, AGGREGATE_PER_AGENT = 256, AGGREGATE_MS = 1000 };

int aggregate_new(struct aggregate **ret);
void aggregate_free(struct aggregate *aggregate);
DEFINE_CLEANUP(struct aggregate *, aggregate_free);

/* True: deliver it now. False: it was counted into a sum that aggregate_end() will give. */
bool aggregate_add(struct aggregate *aggregate, const struct event *event, __u64 now_ms);

/* Gives the sums of the seconds that have ended by now; UINT64_MAX ends them all. */
typedef void (*aggregate_fn)(void *context, const struct event *event);
void aggregate_end(struct aggregate *aggregate, __u64 now_ms, aggregate_fn function, void *context);

/* When the oldest second ends; UINT64_MAX: there is none. */
__u64 aggregate_next_ms(const struct aggregate *aggregate);
