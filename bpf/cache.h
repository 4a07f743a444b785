/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The direct-mapped cache of allow verdicts in the agent's per-CPU line.
 *
 * An entry holds for exactly one (state word, remote address, port, protocol, flow flags; the port of an inbound flow
 * is the agent's: what its verdict depends on); all of it is compared each time. A writer may be interrupted by softirq
 * or another task on the same CPU, which may read or write the same entry: `busy` admits one writer (a second one does
 * without caching), `sequence` is odd while an entry changes, and a reader whose sequence moved has read nothing.
 * Otherwise a half-written entry could join one flow's address with another's port.
 *
 * meta: port 0-15, protocol 16-19, flags 20-23, valid_until 24-63 (jiffies; 0: as long as the word). 40 bits do not
 * wrap in the life of a host, so what has ended does not begin again.
 */
#pragma once

#include "agentd/flow.h"
#include "bpf/maps.h"

/* A verdict by name is asked again after so many jiffies at the latest: it renews the learned entry's time of use. */
enum { CACHE_NAME_JIFFIES = 256, CACHE_META_BITS = 24 };

#define ACCESS_ONCE(x) (*(volatile __typeof__(x) *)&(x))

static __always_inline __u32 cache_meta(const struct flow *flow)
{
        return (flow->flags & FLOW_INBOUND ? flow->local_port : flow->port) | (__u32)(flow->protocol & 0xf) << 16 |
               (__u32)(flow->flags & (FLOW_ESTABLISHED | FLOW_LOOPBACK)) << 20 |
               (__u32)(flow->flags & FLOW_INBOUND) << (22 - 4);
}

static __always_inline __u32 cache_index(const struct flow *flow, __u32 meta)
{
        __u32 hash = flow->remote.words[3] ^ flow->remote.words[1] ^ meta;

        return (hash * 0x9e3779b1u) >> 29;
}

static __always_inline bool cache_find(const struct agent_line *line, __u64 word, const struct flow *flow,
                                       __u16 *ret_limits)
{
        __u32 meta = cache_meta(flow);
        __u32 index = cache_index(flow, meta) & (CACHE_ENTRIES - 1);
        const struct cached_verdict *entry = &line->cache[index];
        __u32 sequence = ACCESS_ONCE(line->sequence);
        __u64 found;

        if (ACCESS_ONCE(entry->word) != word || ACCESS_ONCE(entry->remote.halves[1]) != flow->remote.halves[1] ||
            ACCESS_ONCE(entry->remote.halves[0]) != flow->remote.halves[0])
                return false;
        found = ACCESS_ONCE(entry->meta);
        if (((__u32)found & ((1u << CACHE_META_BITS) - 1)) != meta)
                return false;
        if (found >> CACHE_META_BITS && found >> CACHE_META_BITS <= bpf_jiffies64())
                return false;
        *ret_limits = ACCESS_ONCE(line->limits[index]);
        return !(sequence & 1) && ACCESS_ONCE(line->sequence) == sequence;
}

/*
 * Only allow verdicts. A name's verdict ends before the name does: remaining nanoseconds are turned into jiffies by a
 * shift of 24 (16.8 ms, more than a jiffy at any HZ from 60 up), so the bound errs to the early side and needs no HZ.
 */
static __always_inline void cache_store(struct agent_line *line, __u64 word, __u64 now_ns, const struct flow *flow,
                                        const struct verdict *verdict, __u32 limits)
{
        __u32 meta = cache_meta(flow);
        __u32 index = cache_index(flow, meta) & (CACHE_ENTRIES - 1);
        struct cached_verdict *entry = &line->cache[index];
        __u64 valid_until = 0;

        if (verdict->expires_ns) {
                __u64 jiffies = CACHE_NAME_JIFFIES;

                if (!(flow->flags & FLOW_ESTABLISHED)) {
                        if (verdict->expires_ns <= now_ns)
                                return;
                        jiffies = (verdict->expires_ns - now_ns) >> 24;
                        if (jiffies > CACHE_NAME_JIFFIES)
                                jiffies = CACHE_NAME_JIFFIES;
                        if (jiffies == 0)
                                return;
                }
                valid_until = bpf_jiffies64() + jiffies;
        }

        if (__sync_val_compare_and_swap(&line->busy, 0, 1) != 0)
                return;
        ACCESS_ONCE(line->sequence) = line->sequence + 1;
        ACCESS_ONCE(entry->word) = word;
        ACCESS_ONCE(entry->remote.halves[0]) = flow->remote.halves[0];
        ACCESS_ONCE(entry->remote.halves[1]) = flow->remote.halves[1];
        ACCESS_ONCE(entry->meta) = meta | valid_until << CACHE_META_BITS;
        ACCESS_ONCE(line->limits[index]) = limits;
        ACCESS_ONCE(line->sequence) = line->sequence + 1;
        ACCESS_ONCE(line->busy) = 0;
}
