/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ledgers, sets and buckets in the kernel's tables: made, found again by their keys, read, changed, given back.
 *
 * The maps are mapped into the daemon's memory: it changes a ledger by the same compare-and-swap that the programs use,
 * and reads a thousand agents' figures without a system call. What is pinned outlives the daemon; a new one finds a
 * ledger by its key, with all that was used.
 */
#pragma once

#include "agentd/abi_budget.h"
#include "agentd/datapath/datapath.h"

/* The wall clock, as CLOCK_REALTIME - CLOCK_BOOTTIME in ns. Windows of ledgers follow from the next packet on. */
void datapath_clock_set(struct datapath *datapath, __s64 offset_ns);
__s64 datapath_clock(const struct datapath *datapath);

/* A ledger as it is read. used: what has been sent, charged less the leases that CPUs hold; exact when nothing moves.
 */
struct ledger_reading {
        __u64 used;    /* bytes */
        __u64 charged; /* used and leased */
        __u64 limit;   /* without grants */
        __u64 granted; /* in this window */
        __u32 window;  /* absolute number: window_number() */
        enum budget_period period;
        enum ledger_told told;
};

/*
 * Takes a reference to the ledger with this key (text, less than LEDGER_KEY_MAX - 1 bytes; unique), and makes it when
 * it is not there: with nothing used, in the window of now. *ret_made tells. agent_id: 0 for a shared one. The limit is
 * set in either case. 0; -ENOSPC; -EINVAL: the key stands for another period; -errno.
 */
int datapath_ledger_get(struct datapath *datapath, const char *key, enum budget_period period, __u32 agent_id,
                        __u64 limit, __u32 *ret_id, bool *ret_made);
/* The last reference removes it. No set may hold it any more. */
void datapath_ledger_put(struct datapath *datapath, __u32 id);
/* At once, for the next packet; CPUs' leases are collected when it is lowered. */
void datapath_ledger_set_limit(struct datapath *datapath, __u32 id, __u64 limit);
/* More bytes in the window of now. -ERANGE: beyond LEDGER_BYTES_MAX. */
int datapath_ledger_grant(struct datapath *datapath, __u32 id, __u64 bytes);
/* Forgets what has been used in this window, and its grants. Returns how much that was. */
__u64 datapath_ledger_reset(struct datapath *datapath, __u32 id);
/* At least so much has been used (granted) in this window: what a state store remembers. Never lowers. Nothing when the
 * window has passed. */
void datapath_ledger_restore(struct datapath *datapath, __u32 id, __u32 window, __u64 used, __u64 granted);
/* The clock went back by more than a window: what is used moves to the window of now. true: it did. */
bool datapath_ledger_carry(struct datapath *datapath, __u32 id);
/* All of them at once, one pass over the leases. readings: n of them, in the order of ids. */
void datapath_ledgers_read(struct datapath *datapath, const __u32 *ids, size_t n, struct ledger_reading *readings);
/* Ledgers that nobody has taken since the start: what datapath_limits_sweep() is about to remove. */
void datapath_ledgers_unclaimed(struct datapath *datapath,
                                void (*function)(void *context, const char *key, const struct ledger_reading *reading),
                                void *context);

/* Token buckets: interval and tolerance are set in either case, what was taken stays. */
int datapath_bucket_get(struct datapath *datapath, const char *key, __u64 interval_ns, __u64 tolerance_ns,
                        __u32 *ret_id);
/* With the rate that it has now it owes no more than its burst: what a slower one had charged ends with that one. */
void datapath_bucket_settle(struct datapath *datapath, __u32 id);
void datapath_bucket_put(struct datapath *datapath, __u32 id);

/* A run of sets for one agent's classes. Their ledgers' sweep ranges are widened. -ENOSPC. */
int datapath_limits_make(struct datapath *datapath, const struct limit_set *sets, __u16 n, struct datapath_limits *ret);
/* The run that a former daemon made for this agent, when it is the same: its leases go on, and no second one is needed.
 * -ENOENT. */
int datapath_limits_adopt_run(struct datapath *datapath, __u32 agent_id, const struct limit_set *sets, __u16 n,
                              struct datapath_limits *ret);
/* When no word leads to them any more (monitor_grace() has passed): leases go back to the ledgers. */
void datapath_limits_free(struct datapath *datapath, struct datapath_limits limits);
/*
 * What a former daemon left: sets that no agent's word leads to (leases go back), then ledgers and buckets that nobody
 * has taken since the start and no such set holds. When all agents are published and monitor_grace() has passed; may be
 * called again.
 */
void datapath_limits_sweep(struct datapath *datapath);
