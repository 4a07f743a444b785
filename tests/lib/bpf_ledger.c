/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See bpf_ledger.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "agentd/budget_charge.h"
#include "tests/lib/bpf_ledger.h"
#include "tests/lib/bpf_scene.h"

static __always_inline struct ledger *budget_ledger(const void *tables, __u32 id)
{
        return &((const struct limit_tables *)tables)->ledgers[id];
}

static __always_inline const struct limit_set *budget_set(const void *tables, __u32 id)
{
        return &((const struct limit_tables *)tables)->sets[id];
}

static __always_inline struct lease *budget_lease(const void *tables, __u32 cpu, __u32 set)
{
        return &((const struct limit_tables *)tables)->leases[(size_t)cpu * LIMIT_SETS_MAX + set];
}

static __always_inline __u64 budget_look(const void *tables, __u32 id, __u64 now_ns)
{
        return budget_ledger_look(tables, id, now_ns);
}

static __always_inline int budget_take(const void *tables, __u32 id, __u64 bytes, __u64 now_ns, __u32 flags)
{
        return budget_ledger_take(tables, id, bytes, now_ns, flags);
}

static __always_inline void budget_give(const void *tables, __u32 id, __u32 bytes, __u32 window)
{
        budget_ledger_give(tables, id, bytes, window);
}

static __always_inline __u64 budget_utc(const void *tables, __u64 now_ns)
{
        return (now_ns + (__u64)((const struct limit_tables *)tables)->clock->offset_ns) / NSEC_PER_SEC;
}

static __always_inline void budget_tell(const void *tables, __u32 id, struct ledger *ledger, __u32 percent, __u64 word,
                                        __u64 now_ns)
{
}

static __always_inline bool budget_sweep(const void *tables, __u32 id, __u64 jiffies)
{
        const struct limit_tables *all = tables;
        struct ledger *ledger = budget_ledger(tables, id);

        if (!budget_sweep_claim(ledger, jiffies))
                return false;
        for (__u32 set = ledger->first_set; set < ledger->end_set; set++)
                for (__u32 cpu = 0; cpu < all->n_cpus; cpu++)
                        budget_sweep_step(tables, id, cpu, set);
        return true;
}

struct limit_tables *ledger_tables(const struct bpf_world *world)
{
        return &world->datapath->limits;
}

void ledger_clock(const struct bpf_world *world, __u64 utc_s)
{
        datapath_clock_set(world->datapath, (__s64)(utc_s * NSEC_PER_SEC) - (__s64)scene_now_ns());
}

__u32 ledger_new(const struct bpf_world *world, const char *key, enum budget_period period, __u64 limit)
{
        bool made = false;
        __u32 id = 0;

        assert_int_equal(datapath_ledger_get(world->datapath, key, period, 0, limit, &id, &made), 0);
        assert_true(made);
        assert_in_range(id, 1, LEDGERS_MAX - 1);
        return id;
}

struct ledger_reading ledger_read(const struct bpf_world *world, __u32 id)
{
        struct ledger_reading one;

        datapath_ledgers_read(world->datapath, &id, 1, &one);
        return one;
}

void ledger_charge(const struct bpf_world *world, __u32 id, __u64 bytes)
{
        assert_true(budget_ledger_take(ledger_tables(world), id, bytes, scene_now_ns(), 0) >= 0);
}

bool ledger_is_spent(const struct bpf_world *world, __u32 id)
{
        return budget_ledger_take(ledger_tables(world), id, 1, scene_now_ns(), 0) < 0;
}

struct datapath_limits ledger_sets(const struct bpf_world *world, const struct limit_set *sets, __u16 n)
{
        struct datapath_limits limits = {0};

        assert_int_equal(datapath_limits_make(world->datapath, sets, n, &limits), 0);
        assert_int_equal(limits.count, n);
        assert_in_range(limits.first, 1, LIMIT_SETS_MAX - n);
        return limits;
}

void ledger_lease_put(const struct bpf_world *world, __u32 cpu, __u32 set_id, __u32 direction, __u32 bytes)
{
        struct limit_tables *tables = ledger_tables(world);
        struct lease *lease = budget_lease(tables, cpu, set_id);
        __u64 windows[2];

        assert_true(cpu < tables->n_cpus);
        assert_true(budget_take_all(tables, &tables->sets[set_id], direction, bytes, scene_now_ns(), 0, windows));
        memcpy(lease->windows[direction], windows, sizeof(windows));
        lease->word[direction] = LEASE_WORD(1, bytes);
}

void ledger_lease_pay(const struct bpf_world *world, __u32 cpu, __u32 set_id, __u32 direction, __u32 bytes)
{
        assert_true(budget_lease_pay(budget_lease(ledger_tables(world), cpu, set_id), direction, bytes, 1));
}

__u32 ledger_lease_bytes(const struct bpf_world *world, __u32 cpu, __u32 set_id, __u32 direction)
{
        return LEASE_BYTES(budget_lease(ledger_tables(world), cpu, set_id)->word[direction]);
}

bool ledger_packet(const struct bpf_world *world, __u32 cpu, __u32 set_id, __u32 bytes, __u64 now_ns, __u64 jiffies)
{
        struct limit_tables *tables = ledger_tables(world);

        return budget_charge(tables, set_id, DIRECTION_EGRESS, bytes, now_ns, 0, cpu, tables->n_cpus, jiffies);
}

bool ledger_bucket_take(struct bucket *bucket, __u64 now_ns)
{
        return budget_bucket_take(bucket, now_ns);
}
