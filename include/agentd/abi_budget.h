/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Byte budgets and rates as the kernel holds them.
 *
 * A ledger counts bytes in a window against a limit. What a packet is charged to is a set: up to LEDGERS_PER_FLOW
 * ledgers for each direction, and the token buckets of new connections. The kernel leases bytes from all ledgers of a
 * set at once, for one CPU, and packets are paid from the lease by one compare-and-swap: see agentd/budget_charge.h.
 *
 * Every change of a ledger is one compare-and-swap of one word that holds window and bytes together: a charge, a
 * window's roll and a grant's end cannot be torn apart, whoever makes them (programs on all CPUs, the daemon through
 * its mapping).
 */
#pragma once

#include "agentd/abi.h"

enum {
        LEDGERS_MAX = 1 << 14, /* ids are 1 .. LEDGERS_MAX - 1; 0: none */
        LIMIT_SETS_MAX = 1 << 14,
        BUCKETS_MAX = 1 << 14,
        LEDGERS_PER_FLOW = 8, /* of one direction */
        LEDGER_KEY_MAX = 256,
        BUDGET_CPUS_MAX = 1 << 10,
        BUDGET_SYN_BYTES = 60,       /* less than this left: no connection can begin */
        BUDGET_REFUSED_BYTES = 1500, /* nor with less than this, once a packet has been refused in the window */
};

enum budget_period {
        PERIOD_TOTAL = 0,
        PERIOD_HOUR = 1,
        PERIOD_DAY = 2,
        PERIOD_WEEK = 3, /* from Monday */
        PERIOD_MONTH = 4,
        PERIOD_MAX = 5,
};

/* Bytes are 48 bits wide, 256 TiB; the window's number is taken modulo 2^16 and compared with sign. */
#define LEDGER_BYTES_BITS          48
#define LEDGER_BYTES_MAX           ((1ull << LEDGER_BYTES_BITS) - 1)
#define LEDGER_WORD(window, bytes) ((__u64)(__u16)(window) << LEDGER_BYTES_BITS | ((__u64)(bytes)&LEDGER_BYTES_MAX))
#define LEDGER_WINDOW(word)        ((__u16)((word) >> LEDGER_BYTES_BITS))
#define LEDGER_BYTES(word)         ((word)&LEDGER_BYTES_MAX)

enum budget_flag {
        BUDGET_FORCE = 1, /* audit mode: charge, whatever is left */
};

enum ledger_told {
        TOLD_80 = 1,
        TOLD_100 = 2, /* a packet was refused, or nothing is left */
};

/* Map `ledgers`, an mmapable array, by ledger id. A cache line. */
struct ledger {
        __u64 word;          /* LEDGER_WORD: the current window, and what is charged in it, leases included */
        __u64 limit;         /* bytes, at most LEDGER_BYTES_MAX; written by the monitor */
        __u64 grant;         /* LEDGER_WORD: more bytes, in that window only; written by the monitor */
        __u64 told;          /* LEDGER_WORD: enum ledger_told, in that window */
        __u64 swept_jiffies; /* when leases were collected last */
        __u32 first_set;     /* the sets that may hold it: first_set .. end_set - 1 */
        __u32 end_set;
        __u32 agent_id; /* 0: shared */
        __u8 period;    /* enum budget_period */
        __u8 reserved[11];
};
ABI_SIZE(struct ledger, 64);

/* Map `limits`, an mmapable array, by set id. Immutable while a word leads to it. Set 0 has no limits. */
struct limit_set {
        __u16 ledgers[2][LEDGERS_PER_FLOW]; /* by enum direction; 0 ends a list */
        __u16 buckets[2];                   /* the agent's and the rule's; 0: none */
        __u32 agent_id;
        __u8 reserved[24];
};
ABI_SIZE(struct limit_set, 64);

/*
 * Map `leases`, an mmapable array: index cpu * LIMIT_SETS_MAX + set. word: jiffies of the taking in bits 24-63, bytes
 * left in bits 0-23; 0: no lease. windows: of each ledger of the set when it was charged, 16 bits each, in the order of
 * limit_set.ledgers: what is left goes back to a ledger only in the window that it came from.
 */
struct lease {
        __u64 word[2]; /* by enum direction */
        __u64 windows[2][LEDGERS_PER_FLOW / 4];
        __u64 reserved[2];
};
ABI_SIZE(struct lease, 64);

#define LEASE_BYTES_BITS           24
#define LEASE_BYTES_MAX            ((1u << LEASE_BYTES_BITS) - 1)
#define LEASE_WORD(jiffies, bytes) ((__u64)(jiffies) << LEASE_BYTES_BITS | ((bytes)&LEASE_BYTES_MAX))
#define LEASE_BYTES(word)          ((__u32)(word)&LEASE_BYTES_MAX)
#define LEASE_JIFFIES(word)        ((word) >> LEASE_BYTES_BITS)

/*
 * Map `buckets`, an mmapable array, by bucket id: the generic cell rate algorithm. A connection is let through when
 * arrival <= now + tolerance_ns, and moves arrival on by interval_ns.
 */
struct bucket {
        __u64 arrival_ns;   /* CLOCK_BOOTTIME: when the bucket is full again */
        __u64 interval_ns;  /* per connection */
        __u64 tolerance_ns; /* (burst - 1) * interval_ns */
        __u64 reserved;
};
ABI_SIZE(struct bucket, 32);

/* Map `wall_clock`, an mmapable array of one: CLOCK_REALTIME - CLOCK_BOOTTIME. Written by the monitor at each step. */
struct budget_clock {
        __s64 offset_ns;
        __u64 reserved[7];
};
ABI_SIZE(struct budget_clock, 64);

/* Map `limit_ids`, a hash that only the daemon reads: a new one finds the ledgers and buckets of the old one. */
enum limit_kind { LIMIT_LEDGER = 1, LIMIT_BUCKET = 2 };

struct limit_id_key {
        __u8 kind;                    /* enum limit_kind */
        __u8 key[LEDGER_KEY_MAX - 1]; /* text, padded with NUL */
};
ABI_SIZE(struct limit_id_key, 256);
