/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verdict engine: the one function that every hook, `explain`, `check` and `policy test` ask.
 *
 * Plain values in, a verdict out; compiled by both compilers. Where the tables are differs (maps in the kernel, a
 * compiled policy in user space): whoever includes this file defines the three look-ups that it declares.
 * decide_learned() is false when this agent has not learned the address under this version; decide_list() is 0 (the
 * empty list) when no prefix covers it; decide_match() is NULL for an index out of range, which denies.
 *
 * Order: no policy, quarantine, the DNS redirect, metadata, deny rules, loopback, allow rules (learned and CIDR),
 * default deny. The redirect stands before metadata and deny rules, because a look-up is answered by agentd whichever
 * server it names (a metadata address among them): not one byte goes there.
 */
#pragma once

#include "agentd/abi.h"
#include "agentd/abi_policy.h"
#include "agentd/address_class.h"
#include "agentd/flow.h"

static __always_inline bool decide_learned(const void *tables, __u32 agent_id, const struct address *address,
                                           __u32 version, __u32 *ret_list, __u64 *ret_expires_ns);
static __always_inline __u32 decide_list(const void *tables, __u32 version, const struct address *address);
static __always_inline const struct match *decide_match(const void *tables, __u32 index);

static __always_inline bool match_covers(const struct match *match, const struct flow *flow)
{
        if (!(match->protocols & flow->protocol))
                return false;
        if (flow->flags & FLOW_FRAGMENT)
                return match->port_low == 0 && match->port_high == 0xffff;
        return flow->port >= match->port_low && flow->port <= match->port_high;
}

/* The address behind a translation prefix must not be a denied one either. */
static __always_inline bool embedded_is_denied(const void *tables, __u64 word, const struct flow *flow,
                                               struct verdict *verdict)
{
        struct address inner;
        const struct match *header;
        __u32 list, n;

        if (!address_embedded(&flow->remote, &inner))
                return false;

        if (address_is_metadata(&inner) && !(WORD_FLAGS(word) & WORD_METADATA_ALLOW)) {
                verdict->reason = REASON_METADATA;
                return true;
        }

        list = decide_list(tables, WORD_VERSION(word), &inner);
        header = decide_match(tables, list);
        if (!header) {
                verdict->reason = REASON_NO_RULE;
                return true;
        }
        n = header->port_low;

        for (__u32 i = 0; i < MATCH_LIST_MAX; i++) {
                const struct match *match;

                if (i >= n)
                        break;
                match = decide_match(tables, list + 1 + i);
                if (!match || !(match->flags & MATCH_DENY))
                        break;
                if (match_covers(match, flow)) {
                        verdict->reason = REASON_DENY_RULE;
                        verdict->rule = match->rule;
                        return true;
                }
        }
        return false;
}

/*
 * word: the agent's state word, read once by the caller. now_ns: CLOCK_BOOTTIME. *verdict is written on every path.
 */
static __always_inline void policy_decide(const void *tables, __u32 agent_id, __u64 word, __u64 now_ns,
                                          const struct flow *flow, struct verdict *verdict)
{
        const struct match *header;
        bool expired = false, fragment = false;
        __u32 version = WORD_VERSION(word), flags = WORD_FLAGS(word);
        __u32 list, n;
        __u64 expires_ns = 0;

        verdict->expires_ns = 0;
        verdict->rule = RULE_NONE;
        verdict->action = VERDICT_DENY;
        verdict->reason = REASON_NO_POLICY;
        if (version == 0)
                return;

        verdict->reason = REASON_QUARANTINE;
        if (flags & WORD_QUARANTINE)
                return;

        verdict->reason = REASON_PROTOCOL;
        if (!(flow->protocol & (PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMP)))
                return;

        if (flow->port == 53 && (flow->protocol & (PROTOCOL_TCP | PROTOCOL_UDP)) && !(flow->flags & FLOW_FRAGMENT)) {
                /* Names are agentd's: what reaches a packet hook with this port has evaded the redirect. */
                verdict->reason = REASON_NO_RULE;
                if (flow->flags & FLOW_SYSCALL)
                        verdict->action = VERDICT_REDIRECT;
                return;
        }

        verdict->reason = REASON_METADATA;
        if (address_is_metadata(&flow->remote) && !(flags & WORD_METADATA_ALLOW))
                return;

        if (!decide_learned(tables, agent_id, &flow->remote, version, &list, &expires_ns)) {
                list = decide_list(tables, version, &flow->remote);
                expires_ns = 0;
        }
        header = decide_match(tables, list);
        verdict->reason = REASON_NO_RULE;
        if (!header)
                return;
        n = header->port_low;

        for (__u32 i = 0; i < MATCH_LIST_MAX; i++) {
                const struct match *match;

                if (i >= n)
                        break;
                match = decide_match(tables, list + 1 + i);
                if (!match)
                        return;
                if (!match_covers(match, flow)) {
                        if ((flow->flags & FLOW_FRAGMENT) && (match->protocols & flow->protocol))
                                fragment = true;
                        continue;
                }
                if (match->flags & MATCH_DENY) {
                        verdict->reason = REASON_DENY_RULE;
                        verdict->rule = match->rule;
                        return;
                }
                if (flow->flags & FLOW_LOOPBACK)
                        break;
                if ((match->flags & MATCH_BY_NAME) && now_ns >= expires_ns && !(flow->flags & FLOW_ESTABLISHED)) {
                        if (!expired)
                                verdict->rule = match->rule;
                        expired = true;
                        continue;
                }
                if (embedded_is_denied(tables, word, flow, verdict))
                        return;
                verdict->action = VERDICT_ALLOW;
                verdict->reason = REASON_NONE;
                verdict->rule = match->rule;
                verdict->expires_ns = match->flags & MATCH_BY_NAME ? expires_ns : 0;
                return;
        }

        if (flow->flags & FLOW_LOOPBACK) {
                verdict->rule = RULE_NONE;
                verdict->reason = REASON_LOOPBACK;
                if (flags & WORD_LOOPBACK_ALLOW) {
                        verdict->action = VERDICT_ALLOW;
                        verdict->reason = REASON_NONE;
                }
                return;
        }

        if (expired)
                verdict->reason = REASON_EXPIRED;
        else if (fragment)
                verdict->reason = REASON_FRAGMENT;
}
