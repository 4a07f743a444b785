/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verdict engine's look-ups in the kernel's maps, and the engine as a function of its own (so that a program can
 * ask twice without being verified twice).
 */
#pragma once

#include "agentd/policy_decide.h"
#include "bpf/maps.h"

enum { CIDR_VERSION_BITS = 32, LEARNED_TRIES = 3 };

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "struct learned_copy reads a slot as one number");

/* What a verdict needs of a learned entry; two 64-bit reads for the slots. */
struct learned_copy {
        __u64 expires_ns;
        __u64 slots[2]; /* version in the low half, list in the high one (as in struct learned_entry, in memory order)
                         */
};

static __always_inline void learned_read(const struct learned_entry *entry, struct learned_copy *ret)
{
        ret->expires_ns = *(const volatile __u64 *)&entry->expires_ns;
        ret->slots[0] = *(const volatile __u64 *)&entry->slots[0];
        ret->slots[1] = *(const volatile __u64 *)&entry->slots[1];
}

/*
 * A hash gives a replaced or deleted element to the next key at once (kernel/bpf/hashtab.c; no grace period since 6.1),
 * so what is read through the first look-up may be another address's by then: it counts when a second look-up of the
 * same key reads the same. Otherwise, after a few tries, the address is as good as not learned.
 */
static __always_inline bool decide_learned(const void *tables, __u32 agent_id, const struct address *address,
                                           __u32 version, __u32 *ret_list, __u64 *ret_expires_ns)
{
        struct learned_key key = {.agent_id = agent_id, .address = *address};

        for (int i = 0; i < LEARNED_TRIES; i++) {
                const struct learned_entry *entry;
                struct learned_copy first, second;

                entry = bpf_map_lookup_elem(&learned, &key);
                if (!entry)
                        return false;
                learned_read(entry, &first);
                entry = bpf_map_lookup_elem(&learned, &key);
                if (!entry)
                        return false;
                learned_read(entry, &second);
                if (first.expires_ns != second.expires_ns || first.slots[0] != second.slots[0] ||
                    first.slots[1] != second.slots[1])
                        continue;

                if ((__u32)first.slots[0] == version)
                        *ret_list = first.slots[0] >> 32;
                else if ((__u32)first.slots[1] == version)
                        *ret_list = first.slots[1] >> 32;
                else
                        return false;
                *ret_expires_ns = first.expires_ns;
                return true;
        }
        return false;
}

static __always_inline __u32 decide_list(const void *tables, __u32 version, const struct address *address)
{
        struct host_key host = {.version = version, .address = *address};
        struct cidr_key cidr = {.prefix_length = CIDR_VERSION_BITS + 128, .version = bpf_htonl(version)};
        const __u32 *list = bpf_map_lookup_elem(&hosts, &host);

        if (list)
                return *list;
        __builtin_memcpy(cidr.address, address->bytes, sizeof(cidr.address));
        list = bpf_map_lookup_elem(&cidrs, &cidr);
        return list ? *list : 0;
}

static __always_inline const struct match *decide_match(const void *tables, __u32 index)
{
        return bpf_map_lookup_elem(&matches, &index);
}

static long decide_step_callback(__u32 i, void *context)
{
        return decide_step(NULL, i, context);
}

static __always_inline void decide_each(const void *tables, __u32 n, struct decide_walk *walk)
{
        /* -E2BIG cannot be: n is bounded. A loop that does not run leaves DECIDE_NONE, which denies. */
        bpf_loop(n, decide_step_callback, walk, 0);
}

/* Global, so that it is verified once; such a function must expect NULL. */
__noinline int policy_verdict(__u32 agent_id, __u64 word, __u64 now_ns, const struct flow *flow,
                              struct verdict *verdict)
{
        if (!flow || !verdict)
                return VERDICT_DENY;
        policy_decide(NULL, agent_id, word, now_ns, flow, verdict);
        return verdict->action;
}

static __always_inline void policy_touch(__u32 agent_id, const struct address *remote, __u64 now_ns)
{
        struct learned_key key = {.agent_id = agent_id, .address = *remote};
        struct learned_entry *entry = bpf_map_lookup_elem(&learned, &key);

        if (entry)
                entry->used_ns = now_ns;
}
