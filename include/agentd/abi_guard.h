/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which cgroups are agents, as the guard's programs read it: on every packet of every agent below a guarded cgroup, so
 * it is a table of words and not a hash map. An id has two buckets and stands in one slot of either. The daemon's
 * single stores make it known and unknown; an empty slot is 0, and no cgroup's id is.
 */
#pragma once

#include "agentd/abi.h"

enum {
        GUARD_BUCKETS = 4096,
        GUARD_BUCKETS_BITS = 12,
        GUARD_WAYS = 4,
        GUARD_LEVELS_MAX = 64, /* how deep an agent may stand below the root of the hierarchy */
};

/* Map `guarded`, an mmapable array. */
struct guard_bucket {
        __u64 ids[GUARD_WAYS];
};
ABI_SIZE(struct guard_bucket, 32);

/* choice: 0, 1. */
static inline __attribute__((always_inline)) __u32 guard_bucket_of(__u64 cgroup_id, __u32 choice)
{
        __u64 hash = cgroup_id * (choice ? 0xc2b2ae3d27d4eb4full : 0x9e3779b97f4a7c15ull);

        return (__u32)(hash >> (64 - GUARD_BUCKETS_BITS));
}
