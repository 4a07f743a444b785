/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The schedule of exact domains that the daemon keeps fresh by itself: what to ask next, and how it went.
 *
 * Pure: the time is passed in (CLOCK_BOOTTIME nanoseconds), the caller asks and reports. Asked again after 80 to 95 %
 * of the learned life (spread, so that a thousand names of one load do not come back together); after a failure in
 * 1 s, 2 s, 4 s, ... at most 60 s, spread as well. A question without an answer within REFRESH_TIMEOUT_S counts as
 * failed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agentd/abi.h"
#include "agentd/util/cleanup.h"

enum { REFRESH_MAX = 65536, REFRESH_TIMEOUT_S = 15, REFRESH_BACKOFF_MAX_S = 60, REFRESH_LIFE_MIN_S = 2 };

struct refresh;

/* seed: of the jitter; any number. */
int refresh_new(__u64 seed, struct refresh **ret);
void refresh_free(struct refresh *refresh);
DEFINE_CLEANUP(struct refresh *, refresh_free);

/* Due at once. Known already: nothing changes. 0; -ENOSPC; -EINVAL; -ENOMEM. */
int refresh_add(struct refresh *refresh, __u32 policy_id, const char *name, __u64 now_ns);
void refresh_remove(struct refresh *refresh, __u32 policy_id, const char *name);
void refresh_remove_policy(struct refresh *refresh, __u32 policy_id);

/* When there is something due; UINT64_MAX: never. */
__u64 refresh_deadline(const struct refresh *refresh);
/*
 * Takes one name that is due; it counts as asked from now on. False: nothing is due. ret_name: NAME_MAX_BYTES.
 */
bool refresh_next(struct refresh *refresh, __u64 now_ns, __u32 *ret_policy_id, char *ret_name);
/* The answer. life_ns: how long what was learned lives (max(TTL, min_ttl) + grace). Unknown names: -ENOENT. */
int refresh_succeeded(struct refresh *refresh, __u32 policy_id, const char *name, __u64 life_ns, __u64 now_ns);
int refresh_failed(struct refresh *refresh, __u32 policy_id, const char *name, int error, __u64 now_ns);
/* The worker was replaced: whatever was asked and not answered is due again. */
void refresh_restart(struct refresh *refresh, __u64 now_ns);

enum refresh_state {
        REFRESH_WAITING,  /* no answer yet */
        REFRESH_RESOLVED, /* the last answer was good */
        REFRESH_FAILING,  /* the last one was not */
};

struct refresh_view {
        __u32 policy_id;
        const char *name;
        enum refresh_state state;
        __u64 since_ns;    /* of the state */
        __u64 next_ns;     /* when it is asked again (asked: when it times out) */
        int error;         /* of the last failure; 0 when resolved */
        unsigned failures; /* in a row */
};
/* policy_id 0: of all. */
void refresh_each(const struct refresh *refresh, __u32 policy_id,
                  void (*function)(void *context, const struct refresh_view *view), void *context);
/* Every name of the policy had an answer, good or not: what `run`, `attach` and `wait` wait for (2 s at most). True for
 * a policy without names. policy_id 0: of all. */
bool refresh_settled(const struct refresh *refresh, __u32 policy_id);
/* How many are in each state; counts: REFRESH_FAILING + 1 entries. */
void refresh_counts(const struct refresh *refresh, __u32 policy_id, size_t *ret_counts);
