/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The budget engine in the kernel's maps. Steps that run for each ledger are global functions: verified once, with
 * frames of their own that are gone again before the next.
 */
#pragma once

#include "bpf/maps.h"

/* __atomic_exchange_n() is no BPF instruction in clang 14; this one is. */
#define BUDGET_READ(pointer)          (*(volatile __typeof__(*(pointer)) *)(pointer))
#define BUDGET_WRITE(pointer, value)  (*(volatile __typeof__(*(pointer)) *)(pointer) = (value))
#define BUDGET_CAS(pointer, old, new) __sync_val_compare_and_swap(pointer, old, new)
#define BUDGET_XCHG(pointer, value)   __sync_lock_test_and_set(pointer, value)

#include "agentd/budget_charge.h"
#include "bpf/emit.h"

const volatile __u32 budget_cpus = 1; /* possible CPUs: how many runs `leases` has; the loader's */

static __always_inline struct ledger *budget_ledger(const void *tables, __u32 id)
{
        return bpf_map_lookup_elem(&ledgers, &id);
}

static __always_inline const struct limit_set *budget_set(const void *tables, __u32 id)
{
        return bpf_map_lookup_elem(&limits, &id);
}

static __always_inline struct lease *budget_lease(const void *tables, __u32 cpu, __u32 set)
{
        __u32 index = cpu * LIMIT_SETS_MAX + set;

        return bpf_map_lookup_elem(&leases, &index);
}

static __always_inline __u64 budget_utc(const void *tables, __u64 now_ns)
{
        __u32 zero = 0;
        const struct budget_clock *clock = bpf_map_lookup_elem(&wall_clock, &zero);

        return (now_ns + (clock ? BUDGET_READ(&clock->offset_ns) : 0)) / 1000000000ull;
}

static __always_inline void budget_tell(const void *tables, __u32 id, struct ledger *ledger, __u32 percent, __u64 word,
                                        __u64 now_ns)
{
        struct budget_record *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);

        if (!record) {
                struct agent_counters *exact = emit_counters(ledger->agent_id);

                if (exact)
                        __sync_fetch_and_add(&exact->events_lost, 1);
                return;
        }
        record->header.size = sizeof(*record);
        record->header.kind = RECORD_BUDGET;
        record->header.abi = AGENTD_ABI_VERSION;
        record->time_ns = now_ns;
        record->ledger = id;
        record->agent_id = ledger->agent_id;
        record->charged = LEDGER_BYTES(word);
        record->limit = budget_limit(ledger, word);
        record->window = LEDGER_WINDOW(word);
        record->percent = percent;
        __builtin_memset(record->reserved, 0, sizeof(record->reserved));
        bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
}

__noinline __u64 budget_look_one(__u32 id, __u64 now_ns)
{
        return budget_ledger_look(NULL, id, now_ns);
}

__noinline int budget_take_one(__u32 id, __u64 bytes, __u64 now_ns, __u32 flags)
{
        return budget_ledger_take(NULL, id, bytes, now_ns, flags);
}

__noinline int budget_give_one(__u32 id, __u32 bytes, __u32 window)
{
        budget_ledger_give(NULL, id, bytes, window);
        return 0;
}

static __always_inline __u64 budget_look(const void *tables, __u32 id, __u64 now_ns)
{
        return budget_look_one(id, now_ns);
}

static __always_inline int budget_take(const void *tables, __u32 id, __u64 bytes, __u64 now_ns, __u32 flags)
{
        return budget_take_one(id, bytes, now_ns, flags);
}

static __always_inline void budget_give(const void *tables, __u32 id, __u32 bytes, __u32 window)
{
        budget_give_one(id, bytes, window);
}

struct budget_walk {
        __u32 id;
        __u32 first_set;
};

static long budget_sweep_callback(__u32 i, void *context)
{
        const struct budget_walk *walk = context;
        __u32 cpus = budget_cpus;

        if (cpus == 0)
                return 1;
        budget_sweep_step(NULL, walk->id, i % cpus, walk->first_set + i / cpus);
        return 0;
}

__noinline int budget_sweep_one(__u32 id, __u64 jiffies)
{
        struct ledger *ledger = budget_ledger(NULL, id);
        struct budget_walk walk = {.id = id};
        __u32 sets;

        if (!ledger || !budget_sweep_claim(ledger, jiffies))
                return 0;
        walk.first_set = ledger->first_set;
        sets = ledger->end_set - walk.first_set;
        if (sets > LIMIT_SETS_MAX)
                sets = LIMIT_SETS_MAX;
        bpf_loop(sets * budget_cpus, budget_sweep_callback, &walk, 0);
        return 1;
}

static __always_inline bool budget_sweep(const void *tables, __u32 id, __u64 jiffies)
{
        return budget_sweep_one(id, jiffies);
}

/* All of a packet that its CPU's lease did not pay for. 1: paid; 0: refused. */
__noinline int budget_charge_slow(__u32 set_id, __u32 direction, __u32 bytes, __u64 now_ns, __u32 flags)
{
        return budget_charge(NULL, set_id, direction, bytes, now_ns, flags, bpf_get_smp_processor_id(), budget_cpus,
                             bpf_jiffies64());
}

/* A packet of an established flow. false: ask budget_charge_slow(). */
static __always_inline bool budget_pay(__u32 set_id, __u32 direction, __u32 bytes)
{
        struct lease *lease = budget_lease(NULL, bpf_get_smp_processor_id(), set_id);
        const struct limit_set *set;

        if (lease && budget_lease_pay(lease, direction, bytes, bpf_jiffies64()))
                return true;
        set = budget_set(NULL, set_id);
        return set && set->ledgers[direction][0] == 0;
}

static __always_inline struct bucket *budget_bucket(__u32 id)
{
        return bpf_map_lookup_elem(&buckets, &id);
}

/*
 * May a new flow of this set begin? 0, or the reason why not. counts: PROTOCOL_TCP or PROTOCOL_UDP when it is one of
 * those that `rate` counts. Rate, then budgets; a connection that a budget refuses takes no token. A TCP connection
 * whose answer would be refused hangs, so that it does not begin either.
 */
__noinline int budget_admit(__u32 set_id, __u64 now_ns, __u32 counts)
{
        const struct limit_set *set = budget_set(NULL, set_id);
        struct bucket *first, *second;

        if (!set)
                return REASON_BUDGET_EXHAUSTED;
        first = budget_bucket(set->buckets[0]);
        second = budget_bucket(set->buckets[1]);
        if (!first || !second)
                return REASON_RATE_EXCEEDED;
        if (!counts || set->buckets[0] == 0)
                first = NULL;
        if (!counts || set->buckets[1] == 0)
                second = NULL;

        if (first && !budget_bucket_take(first, now_ns))
                return REASON_RATE_EXCEEDED;
        if (second && !budget_bucket_take(second, now_ns)) {
                if (first)
                        __sync_fetch_and_add(&first->arrival_ns, -first->interval_ns);
                return REASON_RATE_EXCEEDED;
        }
        if (!budget_spent(NULL, set, DIRECTION_EGRESS, now_ns, bpf_jiffies64()) &&
            (!(counts & PROTOCOL_TCP) || !budget_spent(NULL, set, DIRECTION_INGRESS, now_ns, bpf_jiffies64())))
                return REASON_NONE;
        if (first)
                __sync_fetch_and_add(&first->arrival_ns, -first->interval_ns);
        if (second)
                __sync_fetch_and_add(&second->arrival_ns, -second->interval_ns);
        return REASON_BUDGET_EXHAUSTED;
}

/* The set of a rule's class under this version; -1: there is none, which denies. */
static __always_inline int budget_set_of(const struct agent_entry *agent, __u64 word, __u32 class)
{
        __u64 slot = BUDGET_READ((const __u64 *)&agent->limits[0]);

        if ((__u32)slot != WORD_VERSION(word)) {
                slot = BUDGET_READ((const __u64 *)&agent->limits[1]);
                if ((__u32)slot != WORD_VERSION(word))
                        return -1;
        }
        if (class >= slot >> 48)
                return -1;
        return ((__u32)(slot >> 32) & 0xffff) + class;
}
