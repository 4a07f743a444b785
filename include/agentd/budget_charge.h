/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The budget engine: how a packet is paid for, exactly, on any number of CPUs.
 *
 * What is true at every instant, for every ledger in its current window:
 *
 *     bytes sent + bytes leased to CPUs  <=  bytes charged  <=  limit + grants of this window
 *
 * A packet is paid from its CPU's lease by one compare-and-swap. A lease is taken from all ledgers of a set or from
 * none; it is worth nothing after LEASE_JIFFIES, so no packet is paid out of a window that has passed, and none is
 * given so near to a window's end that it could. When a ledger runs low, leases shrink, then packets are charged to the
 * ledgers themselves; and who finds too little collects the leases of all CPUs first, so that an idle CPU strands
 * nothing. A CPU may be interrupted between any two instructions by itself (softirq): nothing here relies on being
 * alone.
 *
 * Compiled by both compilers: the kernel programs charge, the daemon collects leases through its mapping, and tests run
 * the same lines under a scheduler that tries every order. Whoever includes this defines where things are: see the
 * declarations below; and may define the three atomic operations, to be told of them.
 */
#pragma once

#include <stdbool.h>

#include "agentd/abi_budget.h"
#include "agentd/window.h"

#ifndef BUDGET_READ
#define BUDGET_READ(pointer)          (*(volatile __typeof__(*(pointer)) *)(pointer))
#define BUDGET_WRITE(pointer, value)  (*(volatile __typeof__(*(pointer)) *)(pointer) = (value))
#define BUDGET_CAS(pointer, old, new) __sync_val_compare_and_swap(pointer, old, new)
#define BUDGET_XCHG(pointer, value)   __atomic_exchange_n(pointer, value, __ATOMIC_SEQ_CST)
#endif

#ifdef __bpf__
#define BUDGET_UNROLL _Pragma("unroll")
#else
#define BUDGET_UNROLL
#endif

enum {
        LEASE_JIFFIES_MAX = 32,    /* a lease's life: 32 ms to 320 ms, by the kernel's HZ */
        LEASE_MARGIN_MS = 400,     /* no lease when a window ends within this */
        LEASE_CHUNK_MAX = 1 << 20, /* bytes */
        LEASE_CHUNK_MIN = 1 << 14, /* below: packets are charged one by one */
        LEASE_SHARE = 4,           /* each CPU's lease is a quarter of its even part of what is left */
        BUDGET_TRIES = 32,         /* of a compare-and-swap; some other CPU has got on with each that fails */
        BUDGET_SWEEP_FAR = 256,    /* sets; a wider sweep is made every so many jiffies only */
        BUDGET_SWEEP_FAR_JIFFIES = 25,
};

#define BUDGET_LOOK_UNSTABLE (1ull << 63) /* the window ends soon: lease nothing */
#define BUDGET_LOOK_REFUSED  (1ull << 62) /* a packet has been refused in this window */
#define BUDGET_LOOK_BYTES    (BUDGET_LOOK_REFUSED - 1)

/* Of the includer. Each may be NULL: an id out of range, which refuses. */
static __always_inline struct ledger *budget_ledger(const void *tables, __u32 id);
static __always_inline const struct limit_set *budget_set(const void *tables, __u32 id);
static __always_inline struct lease *budget_lease(const void *tables, __u32 cpu, __u32 set);
/* The steps on one ledger, by id: budget_ledger_look(), _take() and _give() below (in the kernel functions of their
 * own, so that they are verified once). */
static __always_inline __u64 budget_look(const void *tables, __u32 id, __u64 now_ns);
static __always_inline int budget_take(const void *tables, __u32 id, __u64 bytes, __u64 now_ns, __u32 flags);
static __always_inline void budget_give(const void *tables, __u32 id, __u32 bytes, __u32 window);
/* Seconds of UTC. */
static __always_inline __u64 budget_utc(const void *tables, __u64 now_ns);
/* A threshold was passed, for the first time in this window. */
static __always_inline void budget_tell(const void *tables, __u32 id, struct ledger *ledger, __u32 percent, __u64 word,
                                        __u64 now_ns);

/* The word as it is now: a window that has passed has left nothing behind. One that is ahead (the clock went back) is
 * the current one. */
static __always_inline __u64 budget_current(const struct ledger *ledger, __u64 word, __u64 utc_s)
{
        __u16 window = window_number(ledger->period, utc_s);

        return (__s16)(__u16)(window - LEDGER_WINDOW(word)) > 0 ? LEDGER_WORD(window, 0) : word;
}

static __always_inline __u64 budget_limit(const struct ledger *ledger, __u64 current)
{
        __u64 grant = BUDGET_READ(&ledger->grant);
        __u64 limit = BUDGET_READ(&ledger->limit);

        return LEDGER_WINDOW(grant) == LEDGER_WINDOW(current) ? limit + LEDGER_BYTES(grant) : limit;
}

static __always_inline __u64 budget_left(const struct ledger *ledger, __u64 current)
{
        __u64 limit = budget_limit(ledger, current), charged = LEDGER_BYTES(current);

        return limit > charged ? limit - charged : 0;
}

/* Once in a window; whoever sets the bit tells. */
static __always_inline void budget_threshold(const void *tables, __u32 id, struct ledger *ledger, __u64 current,
                                             __u32 bit, __u64 now_ns)
{
        __u64 told = BUDGET_READ(&ledger->told), bits = 0;

        if (LEDGER_WINDOW(told) == LEDGER_WINDOW(current)) {
                bits = LEDGER_BYTES(told);
                if (bits & bit)
                        return;
        }
        if (BUDGET_CAS(&ledger->told, told, LEDGER_WORD(LEDGER_WINDOW(current), bits | bit)) == told)
                budget_tell(tables, id, ledger, bit == TOLD_100 ? 100 : 80, current, now_ns);
}

static __always_inline __u64 budget_ledger_look(const void *tables, __u32 id, __u64 now_ns)
{
        struct ledger *ledger = budget_ledger(tables, id);
        __u64 utc_s, left, current, told;

        if (!ledger)
                return 0;
        utc_s = budget_utc(tables, now_ns);
        current = budget_current(ledger, BUDGET_READ(&ledger->word), utc_s);
        left = budget_left(ledger, current);
        if (window_number(ledger->period, utc_s) !=
            window_number(ledger->period, budget_utc(tables, now_ns + LEASE_MARGIN_MS * 1000000ull)))
                left |= BUDGET_LOOK_UNSTABLE;
        told = BUDGET_READ(&ledger->told);
        if ((told & TOLD_100) && LEDGER_WINDOW(told) == LEDGER_WINDOW(current))
                left |= BUDGET_LOOK_REFUSED;
        return left;
}

/* Charges one ledger. The window (16 bits), or -1: too little is left. */
static __always_inline int budget_ledger_take(const void *tables, __u32 id, __u64 bytes, __u64 now_ns, __u32 flags)
{
        struct ledger *ledger = budget_ledger(tables, id);
        __u64 utc_s;

        if (!ledger || bytes > LEDGER_BYTES_MAX)
                return -1;
        utc_s = budget_utc(tables, now_ns);
        for (int i = 0; i < BUDGET_TRIES; i++) {
                __u64 word = BUDGET_READ(&ledger->word);
                __u64 current = budget_current(ledger, word, utc_s);
                __u64 charged = LEDGER_BYTES(current) + bytes, limit, new;

                if (budget_left(ledger, current) < bytes && !(flags & BUDGET_FORCE))
                        return -1;
                if (charged > LEDGER_BYTES_MAX)
                        charged = LEDGER_BYTES_MAX;
                new = LEDGER_WORD(LEDGER_WINDOW(current), charged);
                if (BUDGET_CAS(&ledger->word, word, new) != word)
                        continue;

                limit = budget_limit(ledger, new);
                if (charged >= limit - limit / 5) {
                        budget_threshold(tables, id, ledger, new, TOLD_80, now_ns);
                        if (charged >= limit)
                                budget_threshold(tables, id, ledger, new, TOLD_100, now_ns);
                }
                return LEDGER_WINDOW(new);
        }
        return -1;
}

/* What was charged in that window and not sent. In another window it is of no account any more. */
static __always_inline void budget_ledger_give(const void *tables, __u32 id, __u32 bytes, __u32 window)
{
        struct ledger *ledger = budget_ledger(tables, id);

        if (!ledger)
                return;
        for (int i = 0; i < BUDGET_TRIES; i++) {
                __u64 word = BUDGET_READ(&ledger->word);
                __u64 charged = LEDGER_BYTES(word);

                if (LEDGER_WINDOW(word) != (__u16)window)
                        return;
                charged -= charged < bytes ? charged : bytes;
                if (BUDGET_CAS(&ledger->word, word, LEDGER_WORD(window, charged)) == word)
                        return;
        }
}

/* The fast path: one packet out of this CPU's lease. */
static __always_inline bool budget_lease_pay(struct lease *lease, __u32 direction, __u32 bytes, __u64 jiffies)
{
        __u64 word = BUDGET_READ(&lease->word[direction & 1]);

        if (LEASE_BYTES(word) < bytes || LEASE_JIFFIES(word) + LEASE_JIFFIES_MAX < jiffies)
                return false;
        return BUDGET_CAS(&lease->word[direction & 1], word, word - bytes) == word;
}

#define BUDGET_TAG(windows, i) ((__u16)((windows)[(i) / 4] >> (i) % 4 * 16))

/*
 * Takes a lease away, its own CPU's or another's, and gives what is left of it back. Its windows are read before and
 * after: windows only rise, so where both agree they are those of the lease, however often it was replaced meanwhile.
 * Where they do not, nothing is given back: too little is used, never too much.
 */
static __always_inline void budget_lease_return(const void *tables, const struct limit_set *set, struct lease *lease,
                                                __u32 direction)
{
        __u64 before[2], after[2], word;

        direction &= 1;
        if (LEASE_BYTES(BUDGET_READ(&lease->word[direction])) == 0)
                return;
        before[0] = BUDGET_READ(&lease->windows[direction][0]);
        before[1] = BUDGET_READ(&lease->windows[direction][1]);
        word = BUDGET_XCHG(&lease->word[direction], 0);
        after[0] = BUDGET_READ(&lease->windows[direction][0]);
        after[1] = BUDGET_READ(&lease->windows[direction][1]);
        if (LEASE_BYTES(word) == 0)
                return;

        BUDGET_UNROLL
        for (int i = 0; i < LEDGERS_PER_FLOW; i++) {
                __u32 id = set->ledgers[direction][i];

                if (id == 0)
                        return;
                if (BUDGET_TAG(before, i) == BUDGET_TAG(after, i))
                        budget_give(tables, id, LEASE_BYTES(word), BUDGET_TAG(after, i));
        }
}

static __always_inline bool budget_set_holds(const struct limit_set *set, __u32 direction, __u32 id)
{
        bool found = false;

        BUDGET_UNROLL
        for (int i = 0; i < LEDGERS_PER_FLOW; i++)
                found |= set->ledgers[direction & 1][i] == id;
        return found;
}

/* One step of a sweep: the leases of one CPU on one set. */
static __always_inline void budget_sweep_step(const void *tables, __u32 id, __u32 cpu, __u32 set_id)
{
        const struct limit_set *set = budget_set(tables, set_id);
        struct lease *lease = budget_lease(tables, cpu, set_id);

        if (!set || !lease)
                return;
        for (__u32 direction = 0; direction < 2; direction++) {
                if (LEASE_BYTES(BUDGET_READ(&lease->word[direction])) && budget_set_holds(set, direction, id))
                        budget_lease_return(tables, set, lease, direction);
        }
}

/* May a sweep of this ledger be made now? At most one in a jiffy, a wide one less often: refused packets may be many.
 */
static __always_inline bool budget_sweep_claim(struct ledger *ledger, __u64 jiffies)
{
        __u64 swept = BUDGET_READ(&ledger->swept_jiffies);
        __u32 sets = ledger->end_set - ledger->first_set;

        if (ledger->end_set <= ledger->first_set || swept == jiffies)
                return false;
        if (sets > BUDGET_SWEEP_FAR && jiffies - swept < BUDGET_SWEEP_FAR_JIFFIES)
                return false;
        return BUDGET_CAS(&ledger->swept_jiffies, swept, jiffies) == swept;
}

/* Collects the leases on one ledger. False: it was done just now. */
static __always_inline bool budget_sweep(const void *tables, __u32 id, __u64 jiffies);

/*
 * How much every ledger of the set has left at least, with BUDGET_LOOK_UNSTABLE. *ret_short: a ledger with less than
 * bytes, or one that has refused a packet already and has less than bytes_refused; 0: none.
 */
static __always_inline __u64 budget_look_all(const void *tables, const struct limit_set *set, __u32 direction,
                                             __u64 bytes, __u64 bytes_refused, __u64 now_ns, __u32 *ret_short)
{
        __u64 least = LEDGER_BYTES_MAX, unstable = 0;

        *ret_short = 0;
        for (int i = 0; i < LEDGERS_PER_FLOW; i++) {
                __u32 id = set->ledgers[direction & 1][i];
                __u64 left, enough;

                if (id == 0)
                        break;
                left = budget_look(tables, id, now_ns);
                unstable |= left & BUDGET_LOOK_UNSTABLE;
                enough = left & BUDGET_LOOK_REFUSED ? bytes_refused : bytes;
                left &= BUDGET_LOOK_BYTES;
                if (left < enough)
                        *ret_short = id;
                if (left < least)
                        least = left;
        }
        return least | unstable;
}

/* All or none. */
static __always_inline bool budget_take_all(const void *tables, const struct limit_set *set, __u32 direction,
                                            __u64 bytes, __u64 now_ns, __u32 flags, __u64 windows[2])
{
        int i;

        windows[0] = windows[1] = 0;
        for (i = 0; i < LEDGERS_PER_FLOW; i++) {
                __u32 id = set->ledgers[direction & 1][i];
                int window;

                if (id == 0)
                        return true;
                window = budget_take(tables, id, bytes, now_ns, flags);
                if (window < 0)
                        break;
                if (i < 4)
                        windows[0] |= (__u64)(__u16)window << (i & 3) * 16;
                else
                        windows[1] |= (__u64)(__u16)window << (i & 3) * 16;
        }
        if (i == LEDGERS_PER_FLOW)
                return true;
        for (int k = 0; k < LEDGERS_PER_FLOW; k++) {
                __u64 tags = k < 4 ? windows[0] : windows[1];

                if (k >= i)
                        break;
                budget_give(tables, set->ledgers[direction & 1][k], bytes, (__u16)(tags >> (k & 3) * 16));
        }
        return false;
}

/* A ledger has refused a packet. */
static __always_inline void budget_refused(const void *tables, __u32 id, __u64 now_ns)
{
        struct ledger *ledger = budget_ledger(tables, id);

        if (ledger)
                budget_threshold(tables, id, ledger,
                                 budget_current(ledger, BUDGET_READ(&ledger->word), budget_utc(tables, now_ns)),
                                 TOLD_100, now_ns);
}

/*
 * One packet of the set in one direction. True: paid for, by every ledger. now_ns: CLOCK_BOOTTIME. cpus: how many share
 * what is left. Each CPU calls with its own number.
 */
static __always_inline bool budget_charge(const void *tables, __u32 set_id, __u32 direction, __u32 bytes, __u64 now_ns,
                                          __u32 flags, __u32 cpu, __u32 cpus, __u64 jiffies)
{
        const struct limit_set *set = budget_set(tables, set_id);
        struct lease *lease = budget_lease(tables, cpu, set_id);
        __u64 windows[2], least, chunk = 0;
        __u32 missing;

        if (!set || !lease)
                return false;
        if (set->ledgers[direction & 1][0] == 0)
                return true;
        if (budget_lease_pay(lease, direction, bytes, jiffies))
                return true;

        budget_lease_return(tables, set, lease, direction);
        least = budget_look_all(tables, set, direction, bytes, bytes, now_ns, &missing);
        if (missing && !(flags & BUDGET_FORCE)) {
                if (budget_sweep(tables, missing, jiffies))
                        least = budget_look_all(tables, set, direction, bytes, bytes, now_ns, &missing);
                if (missing) {
                        budget_refused(tables, missing, now_ns);
                        return false;
                }
        }

        if (!(least & BUDGET_LOOK_UNSTABLE) && least > bytes) {
                chunk = (least - bytes) / (LEASE_SHARE * (cpus ? cpus : 1));
                if (chunk > LEASE_CHUNK_MAX)
                        chunk = LEASE_CHUNK_MAX;
                if (chunk < LEASE_CHUNK_MIN)
                        chunk = 0;
        }
        if (chunk && !budget_take_all(tables, set, direction, bytes + chunk, now_ns, 0, windows))
                chunk = 0;
        else if (chunk) {
                /* Interrupted by a packet that has put its own lease here: that one stays. */
                BUDGET_WRITE(&lease->windows[direction & 1][0], windows[0]);
                BUDGET_WRITE(&lease->windows[direction & 1][1], windows[1]);
                if (BUDGET_CAS(&lease->word[direction & 1], 0, LEASE_WORD(jiffies, chunk)) == 0)
                        return true;
                for (int i = 0; i < LEDGERS_PER_FLOW; i++) {
                        __u64 tags = i < 4 ? windows[0] : windows[1];
                        __u32 id = set->ledgers[direction & 1][i];

                        if (id == 0)
                                break;
                        budget_give(tables, id, chunk, (__u16)(tags >> (i & 3) * 16));
                }
                return true;
        }
        if (budget_take_all(tables, set, direction, bytes, now_ns, flags, windows))
                return true;

        /* Somebody else was faster: what is short now has refused. */
        (void)budget_look_all(tables, set, direction, bytes, bytes, now_ns, &missing);
        if (missing)
                budget_refused(tables, missing, now_ns);
        return false;
}

/* May a new flow of this set begin? The id of the ledger that is spent; 0: it may. Takes nothing. */
static __always_inline __u32 budget_spent(const void *tables, const struct limit_set *set, __u32 direction,
                                          __u64 now_ns, __u64 jiffies)
{
        __u32 missing;

        budget_look_all(tables, set, direction, BUDGET_SYN_BYTES, BUDGET_REFUSED_BYTES, now_ns, &missing);
        if (missing && budget_sweep(tables, missing, jiffies))
                budget_look_all(tables, set, direction, BUDGET_SYN_BYTES, BUDGET_REFUSED_BYTES, now_ns, &missing);
        if (missing)
                budget_refused(tables, missing, now_ns);
        return missing;
}

/* One connection out of a bucket. True: it may begin, and is counted. */
static __always_inline bool budget_bucket_take(struct bucket *bucket, __u64 now_ns)
{
        for (int i = 0; i < BUDGET_TRIES; i++) {
                __u64 arrival = BUDGET_READ(&bucket->arrival_ns);
                __u64 from = arrival > now_ns ? arrival : now_ns;

                if (from - now_ns > BUDGET_READ(&bucket->tolerance_ns))
                        return false;
                if (BUDGET_CAS(&bucket->arrival_ns, arrival, from + BUDGET_READ(&bucket->interval_ns)) == arrival)
                        return true;
        }
        return false;
}
