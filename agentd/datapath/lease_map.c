/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Leases, from the daemon's side: the kernel's own lines of the budget engine, compiled over the mapped tables.
 *
 * A lease is on its way between a ledger and a CPU at any instant. What is collected here goes back by the same steps
 * as on a CPU; what is only read is as exact as two readings of moving figures can be, and exact when nothing moves.
 */
#include <string.h>

#include "agentd/budget_charge.h"
#include "agentd/datapath/internal.h"

/* Where the budget engine finds things here. */
static __always_inline struct ledger *budget_ledger(const void *tables, __u32 id)
{
        return id < LEDGERS_MAX ? &((const struct limit_tables *)tables)->ledgers[id] : NULL;
}

static __always_inline const struct limit_set *budget_set(const void *tables, __u32 id)
{
        return id < LIMIT_SETS_MAX ? &((const struct limit_tables *)tables)->sets[id] : NULL;
}

static __always_inline struct lease *budget_lease(const void *tables, __u32 cpu, __u32 set)
{
        const struct limit_tables *all = tables;

        return cpu < all->n_cpus && set < LIMIT_SETS_MAX ? &all->leases[(size_t)cpu * LIMIT_SETS_MAX + set] : NULL;
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
        const struct limit_tables *all = tables;

        return (now_ns + (__u64)BUDGET_READ(&all->clock->offset_ns)) / NSEC_PER_SEC;
}

/* The daemon charges nothing, so it passes no threshold. */
static __always_inline void budget_tell(const void *tables, __u32 id, struct ledger *ledger, __u32 percent, __u64 word,
                                        __u64 now_ns)
{
}

static __always_inline bool budget_sweep(const void *tables, __u32 id, __u64 jiffies)
{
        return false;
}

void datapath_leases_return(struct limit_tables *tables, __u32 set_id)
{
        for (__u32 cpu = 0; cpu < tables->n_cpus; cpu++) {
                struct lease *lease = budget_lease(tables, cpu, set_id);

                budget_lease_return(tables, &tables->sets[set_id], lease, DIRECTION_EGRESS);
                budget_lease_return(tables, &tables->sets[set_id], lease, DIRECTION_INGRESS);
        }
}

void datapath_leases_collect(struct limit_tables *tables, __u32 ledger_id)
{
        const struct ledger *ledger = &tables->ledgers[ledger_id];
        __u32 end = MIN(ledger->end_set, (__u32)LIMIT_SETS_MAX);

        for (__u32 set = ledger->first_set; set < end; set++) {
                for (__u32 cpu = 0; cpu < tables->n_cpus; cpu++)
                        budget_sweep_step(tables, ledger_id, cpu, set);
        }
}

/*
 * What a lease still has of the set's k-th ledger, whose word is given. Windows are read on both sides of the bytes,
 * like where it is returned: a lease of another window, or one that is being replaced, is none.
 */
struct lease_copy {
        __u64 before[2], after[2];
        __u32 bytes;
};

static struct lease_copy lease_copy(const struct lease *lease, __u32 direction)
{
        struct lease_copy copy;

        copy.before[0] = __atomic_load_n(&lease->windows[direction][0], __ATOMIC_ACQUIRE);
        copy.before[1] = __atomic_load_n(&lease->windows[direction][1], __ATOMIC_ACQUIRE);
        copy.bytes = LEASE_BYTES(__atomic_load_n(&lease->word[direction], __ATOMIC_ACQUIRE));
        copy.after[0] = __atomic_load_n(&lease->windows[direction][0], __ATOMIC_ACQUIRE);
        copy.after[1] = __atomic_load_n(&lease->windows[direction][1], __ATOMIC_ACQUIRE);
        return copy;
}

static __u32 lease_part(const struct lease_copy *copy, size_t k, __u64 word)
{
        if (BUDGET_TAG(copy->before, k) != BUDGET_TAG(copy->after, k) ||
            BUDGET_TAG(copy->after, k) != LEDGER_WINDOW(word))
                return 0;
        return copy->bytes;
}

__u64 datapath_leased(const struct limit_tables *tables, __u32 ledger_id)
{
        const struct ledger *ledger = &tables->ledgers[ledger_id];
        __u32 end = MIN(ledger->end_set, (__u32)LIMIT_SETS_MAX);
        __u64 word = BUDGET_READ(&ledger->word), sum = 0;

        for (__u32 id = ledger->first_set; id < end; id++) {
                const struct limit_set *set = &tables->sets[id];

                for (__u32 i = 0; i < SET_LEDGERS; i++) {
                        if (set_ledger(set, i) != ledger_id)
                                continue;
                        for (__u32 cpu = 0; cpu < tables->n_cpus; cpu++) {
                                struct lease_copy copy =
                                        lease_copy(budget_lease(tables, cpu, id), i / LEDGERS_PER_FLOW);

                                sum += lease_part(&copy, i % LEDGERS_PER_FLOW, word);
                        }
                }
        }
        return sum;
}

static void leased_add(struct limit_tables *tables, const struct limit_set *set, const struct lease *lease,
                       __u32 direction)
{
        struct lease_copy copy;

        if (LEASE_BYTES(BUDGET_READ(&lease->word[direction])) == 0)
                return;
        copy = lease_copy(lease, direction);
        for (size_t k = 0; k < LEDGERS_PER_FLOW && set->ledgers[direction][k] != 0; k++) {
                __u32 id = set->ledgers[direction][k];

                if (id < LEDGERS_MAX)
                        tables->leased[id] += lease_part(&copy, k, BUDGET_READ(&tables->ledgers[id].word));
        }
}

void datapath_leased_all(struct limit_tables *tables)
{
        memset(tables->leased, 0, sizeof(tables->leased));
        for (__u32 cpu = 0; cpu < tables->n_cpus; cpu++) {
                for (__u32 id = 1; id < tables->sets_end; id++) {
                        const struct lease *lease = budget_lease(tables, cpu, id);

                        if (tables->set_states[id] == SET_FREE)
                                continue;
                        leased_add(tables, &tables->sets[id], lease, DIRECTION_EGRESS);
                        leased_add(tables, &tables->sets[id], lease, DIRECTION_INGRESS);
                }
        }
}
