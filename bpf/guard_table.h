/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who is an agent to the guard, and what is told of those who are none. Shared by the guard's programs of all objects.
 */
#pragma once

#include "agentd/abi_guard.h"
#include "bpf/emit.h"

static __always_inline bool guard_bucket_has(__u32 index, __u64 cgroup_id)
{
        const volatile struct guard_bucket *bucket = bpf_map_lookup_elem(&guarded, &index);

        return bucket && (bucket->ids[0] == cgroup_id || bucket->ids[1] == cgroup_id || bucket->ids[2] == cgroup_id ||
                          bucket->ids[3] == cgroup_id);
}

static __always_inline bool guard_knows(__u64 cgroup_id)
{
        return cgroup_id != 0 && (guard_bucket_has(guard_bucket_of(cgroup_id, 0), cgroup_id) ||
                                  guard_bucket_has(guard_bucket_of(cgroup_id, 1), cgroup_id));
}

/*
 * There is no agent whose event it could be: the record says which cgroup it was, and counter 0 counts it. NULL: the
 * ring is full, which is counted as well. To be submitted.
 */
static __always_inline struct verdict_record *guard_record(__u64 cgroup_id, __u64 *ret_before)
{
        struct agent_counters *exact = emit_counters(0);
        struct verdict_record *record;

        if (exact)
                __sync_fetch_and_add(&exact->denied[REASON_NO_POLICY], 1);
        *ret_before = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
        record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
        if (!record) {
                if (exact)
                        __sync_fetch_and_add(&exact->events_lost, 1);
                return NULL;
        }
        __builtin_memset(record, 0, sizeof(*record));
        record->header.size = sizeof(*record);
        record->header.kind = RECORD_VERDICT;
        record->header.abi = AGENTD_ABI_VERSION;
        record->time_ns = bpf_ktime_get_boot_ns();
        record->cgroup_id = cgroup_id;
        record->rule = RULE_NONE;
        record->action = VERDICT_DENY;
        record->reason = REASON_NO_POLICY;
        record->hook = HOOK_GUARD;
        record->ip_protocol = 255;
        return record;
}

/* The process that makes the system call: is it inside an agent? */
static __always_inline bool guard_finds_current(void)
{
        for (__u32 level = 1; level <= GUARD_LEVELS_MAX; level++) {
                __u64 cgroup_id = bpf_get_current_ancestor_cgroup_id(level);

                if (cgroup_id == 0)
                        break;
                if (guard_knows(cgroup_id))
                        return true;
        }
        return false;
}

static __always_inline void guard_refuse_current(void)
{
        const struct origin origin = {};
        struct verdict_record *record;
        __u64 before;

        record = guard_record(bpf_get_current_cgroup_id(), &before);
        if (!record)
                return;
        record->direction = DIRECTION_EGRESS;
        emit_process(record, &origin, NULL, true);
        bpf_ringbuf_submit(record, emit_wake_flag(before, sizeof(*record)));
}
