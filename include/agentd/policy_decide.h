/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verdict engine: the one function that every hook, `explain`, `check` and `policy test` ask.
 *
 * Plain values in, a verdict out; compiled by both compilers. Where the tables are differs (maps in the kernel, a
 * compiled policy in user space): whoever includes this file defines the three look-ups that it declares.
 * decide_learned() is false when this agent has not learned the address under this version (and never under one of
 * ingress rules); decide_list() is 0 (the empty list) when no prefix covers it; decide_match() is NULL for an index out
 * of range, which denies.
 * And it defines how to loop: decide_each(), a plain loop in user space, bpf_loop() in the kernel, where 128 unrolled
 * iterations would cost half a second of verification for each program.
 *
 * Order: no policy, quarantine, the DNS redirect, metadata, deny rules, loopback (but for agentd's ports there), allow
 * rules (learned and CIDR), default deny. A flow that began outside (FLOW_INBOUND) has its own list for each address,
 * with the agent's ports in the matches: denies of every port, then ingress rules; no names, no redirect. The redirect
 * stands before metadata and deny rules, because a look-up is answered by agentd whichever server it names (a metadata
 * address among them): not one byte goes there.
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

/* One walk over a match list. Values only: the kernel's verifier follows it into a callback. */
struct decide_walk {
        __u64 now_ns;
        __u64 expires_ns;
        __u32 first; /* index of the first match */
        __u16 port;
        __u8 protocol;
        __u8 flags;     /* enum flow_flag */
        __u8 deny_only; /* only denying matches count */
        __u8 outcome;   /* enum decide_outcome */
        __u8 expired;   /* an expired name would have allowed it */
        __u8 fragment;  /* a first fragment would have been allowed */
        __u16 rule;
        __u16 limits; /* of an allowing match, with DECIDE_BY_NAME */
};

enum { DECIDE_BY_NAME = 1 << 15 }; /* beside ten bits of struct match: a frame has no eight bytes to spare */

enum decide_outcome {
        DECIDE_NONE,
        DECIDE_DENY,
        DECIDE_ALLOW,
        DECIDE_BROKEN, /* a match that is not there: denies */
};

/* Calls decide_step() for 0 .. n - 1 until it returns non-zero. */
static __always_inline void decide_each(const void *tables, __u32 n, struct decide_walk *walk);

/* Returns non-zero when the walk has come to an end. */
static __always_inline int decide_step(const void *tables, __u32 i, struct decide_walk *walk)
{
        const struct match *match = decide_match(tables, walk->first + i);

        if (!match) {
                walk->outcome = DECIDE_BROKEN;
                return 1;
        }
        if (!(match->protocols & walk->protocol))
                return 0;
        if (walk->flags & FLOW_FRAGMENT) {
                if (match->port_low != 0 || match->port_high != 0xffff) {
                        walk->fragment = 1;
                        return 0;
                }
        } else if (walk->port < match->port_low || walk->port > match->port_high) {
                return 0;
        }
        if (match->flags & MATCH_DENY) {
                walk->outcome = DECIDE_DENY;
                walk->rule = match->rule;
                return 1;
        }
        /* Denies stand first: what follows can only allow, and loopback has its own switch. */
        if (walk->deny_only || (walk->flags & FLOW_LOOPBACK))
                return 1;
        if ((match->flags & MATCH_BY_NAME) && walk->now_ns >= walk->expires_ns && !(walk->flags & FLOW_ESTABLISHED)) {
                if (!walk->expired)
                        walk->rule = match->rule;
                walk->expired = 1;
                return 0;
        }
        walk->outcome = DECIDE_ALLOW;
        walk->rule = match->rule;
        walk->limits = match->limits | (match->flags & MATCH_BY_NAME ? DECIDE_BY_NAME : 0);
        return 1;
}

/* list: an index of a header. */
static __always_inline void decide_walk_list(const void *tables, __u32 list, struct decide_walk *walk)
{
        const struct match *header = decide_match(tables, list);
        __u32 n;

        if (!header) {
                walk->outcome = DECIDE_BROKEN;
                return;
        }
        n = header->port_low;
        walk->first = list + 1;
        decide_each(tables, n < MATCH_LIST_MAX ? n : MATCH_LIST_MAX, walk);
}

static __always_inline bool decide_is_listener_port(const struct flow *flow)
{
        return (flow->protocol & (PROTOCOL_TCP | PROTOCOL_UDP)) &&
               !((flow->protocol & PROTOCOL_TCP) && (flow->flags & FLOW_ESTABLISHED)) &&
               (__u16)(flow->port - LISTENER_PORT_FIRST) < LISTENER_PORT_COUNT;
}

/* Loopback has its own switch, whoever began. */
static __always_inline bool decide_is_inbound(const struct flow *flow)
{
        return (flow->flags & (FLOW_INBOUND | FLOW_LOOPBACK)) == FLOW_INBOUND;
}

/*
 * word: the agent's state word, read once by the caller. now_ns: CLOCK_BOOTTIME. *verdict is written on every path.
 */
static __always_inline void policy_decide(const void *tables, __u32 agent_id, __u64 word, __u64 now_ns,
                                          const struct flow *flow, struct verdict *verdict)
{
        struct decide_walk walk = {
                .now_ns = now_ns,
                .port = decide_is_inbound(flow) ? flow->local_port : flow->port,
                .protocol = flow->protocol,
                .flags = flow->flags,
                .rule = RULE_NONE,
        };
        struct address inner;
        __u32 version = WORD_VERSION(word), flags = WORD_FLAGS(word);
        __u32 list = 0;
        bool embedded;

        verdict->expires_ns = 0;
        verdict->rule = RULE_NONE;
        verdict->action = VERDICT_DENY;
        verdict->reason = REASON_NO_POLICY;
        verdict->limits = 0;
        verdict->reserved = 0;
        if (version == 0)
                return;

        if (decide_is_inbound(flow))
                version |= POLICY_INGRESS;

        verdict->reason = REASON_QUARANTINE;
        if (flags & WORD_QUARANTINE)
                return;

        verdict->reason = REASON_PROTOCOL;
        if (!(flow->protocol & (PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMP)))
                return;

        if (!(version & POLICY_INGRESS) && flow->port == 53 && (flow->protocol & (PROTOCOL_TCP | PROTOCOL_UDP)) &&
            !(flow->flags & FLOW_FRAGMENT)) {
                /* Names are agentd's: what reaches a packet hook with this port has evaded the redirect. */
                verdict->reason = REASON_NO_RULE;
                if (flow->flags & FLOW_SYSCALL)
                        verdict->action = VERDICT_REDIRECT;
                return;
        }

        verdict->reason = REASON_METADATA;
        embedded = address_embedded(&flow->remote, &inner);
        if (!(flags & WORD_METADATA_ALLOW) &&
            (address_is_metadata(&flow->remote) || (embedded && address_is_metadata(&inner))))
                return;

        /* The address behind a translation prefix must not be a denied one either. */
        if (embedded) {
                walk.deny_only = 1;
                decide_walk_list(tables, decide_list(tables, version, &inner), &walk);
                walk.deny_only = 0;
                walk.fragment = 0;
        }
        if (walk.outcome == DECIDE_NONE) {
                if (!decide_learned(tables, agent_id, &flow->remote, version, &list, &walk.expires_ns))
                        list = decide_list(tables, version, &flow->remote);
                decide_walk_list(tables, list, &walk);
        }

        if (walk.outcome == DECIDE_DENY) {
                verdict->reason = REASON_DENY_RULE;
                verdict->rule = walk.rule;
                return;
        }
        if (walk.outcome == DECIDE_ALLOW) {
                verdict->action = VERDICT_ALLOW;
                verdict->reason = REASON_NONE;
                verdict->rule = walk.rule;
                verdict->expires_ns = walk.limits & DECIDE_BY_NAME ? walk.expires_ns : 0;
                verdict->limits = walk.limits & (LIMIT_CLASSES_MAX - 1);
                return;
        }
        if (walk.outcome == DECIDE_NONE && (flow->flags & FLOW_LOOPBACK)) {
                verdict->reason = REASON_LOOPBACK;
                if ((flags & WORD_LOOPBACK_ALLOW) && !decide_is_listener_port(flow)) {
                        verdict->action = VERDICT_ALLOW;
                        verdict->reason = REASON_NONE;
                }
                return;
        }

        verdict->reason = version & POLICY_INGRESS ? REASON_INGRESS : REASON_NO_RULE;
        if (walk.outcome != DECIDE_NONE)
                return;
        verdict->rule = walk.rule;
        if (walk.expired)
                verdict->reason = REASON_EXPIRED;
        else if (walk.fragment)
                verdict->reason = REASON_FRAGMENT;
}
