/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ledgers for cmocka tests: made, charged and leased by the kernel's own lines (agentd/budget_charge.h) over the mapped
 * tables of a world, as any CPU would. Functions assert.
 */
#pragma once

#include "agentd/datapath/internal.h"
#include "agentd/datapath/ledger_map.h"
#include "agentd/window.h"
#include "tests/lib/bpf_world.h"

enum { HOUR = WINDOW_HOUR_S, DAY = WINDOW_DAY_S };

#define MIB (1ull << 20)
/* 2026-11-23, a Monday, 12:30:00 UTC. */
#define NOON 1795437000ull

struct limit_tables *ledger_tables(const struct bpf_world *world);
/* It is this second of UTC, and goes on from there. */
void ledger_clock(const struct bpf_world *world, __u64 utc_s);
/* One that was not there. */
__u32 ledger_new(const struct bpf_world *world, const char *key, enum budget_period period, __u64 limit);
struct ledger_reading ledger_read(const struct bpf_world *world, __u32 id);
void ledger_charge(const struct bpf_world *world, __u32 id, __u64 bytes);
/* Not one byte more. */
bool ledger_is_spent(const struct bpf_world *world, __u32 id);
struct datapath_limits ledger_sets(const struct bpf_world *world, const struct limit_set *sets, __u16 n);

/* A CPU takes a lease and spends nothing of it; sends out of it. */
void ledger_lease_put(const struct bpf_world *world, __u32 cpu, __u32 set_id, __u32 direction, __u32 bytes);
void ledger_lease_pay(const struct bpf_world *world, __u32 cpu, __u32 set_id, __u32 direction, __u32 bytes);
__u32 ledger_lease_bytes(const struct bpf_world *world, __u32 cpu, __u32 set_id, __u32 direction);
/* One packet of one CPU, outwards. True: paid for. */
bool ledger_packet(const struct bpf_world *world, __u32 cpu, __u32 set_id, __u32 bytes, __u64 now_ns, __u64 jiffies);
bool ledger_bucket_take(struct bucket *bucket, __u64 now_ns);
