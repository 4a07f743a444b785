/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verdict engine's look-ups in the kernel's maps, and the engine as a function of its own (so that a program can
 * ask twice without being verified twice).
 */
#pragma once

#include "agentd/policy_decide.h"
#include "bpf/maps.h"

enum { CIDR_VERSION_BITS = 32 };

static __always_inline bool decide_learned(const void *tables, __u32 agent_id, const struct address *address,
                                           __u32 version, __u32 *ret_list, __u64 *ret_expires_ns)
{
        struct learned_key key = {.agent_id = agent_id, .address = *address};
        const struct learned_entry *entry = bpf_map_lookup_elem(&learned, &key);

        if (!entry)
                return false;
        if (entry->slots[0].version == version)
                *ret_list = entry->slots[0].list;
        else if (entry->slots[1].version == version)
                *ret_list = entry->slots[1].list;
        else
                return false;
        *ret_expires_ns = entry->expires_ns;
        return true;
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
