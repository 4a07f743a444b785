/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tier 1: socket options that would let the kernel itself send for the process, or send elsewhere than it says.
 *
 * Joining a multicast group makes the kernel send IGMP or MLD reports, which no cgroup_skb program sees and whose group
 * address is data; IP options and IPv6 routing headers name other hops; repair and transparent sockets forge state.
 * IP_FREEBIND needs no privilege: with a source of its choice an IPv6 socket sends to the agent's own loopback, and the
 * kernel answers that source with an ICMP error which holds all of the data, from no socket of the agent's.
 * Ancillary data (sendmsg) can still set some of the headers: those packets are malformed for the packet hooks.
 */
#pragma once

#include "bpf/emit.h"
#include "bpf/lookup.h"

enum {
        SOCKOPT_SOL_IP = 0,
        SOCKOPT_SOL_TCP = 6,
        SOCKOPT_SOL_IPV6 = 41,
        /* include/uapi/linux/in.h; the MCAST_ numbers are the same for IPv6 */
        SOCKOPT_IP_OPTIONS = 4,
        SOCKOPT_IP_RECVERR = 11,
        SOCKOPT_IP_FREEBIND = 15,
        SOCKOPT_IP_TRANSPARENT = 19,
        SOCKOPT_IP_ADD_MEMBERSHIP = 35,
        SOCKOPT_IP_UNBLOCK_SOURCE = 37,
        SOCKOPT_IP_BLOCK_SOURCE = 38,
        SOCKOPT_IP_ADD_SOURCE_MEMBERSHIP = 39,
        SOCKOPT_IP_MSFILTER = 41,
        SOCKOPT_MCAST_JOIN_GROUP = 42,
        SOCKOPT_MCAST_BLOCK_SOURCE = 43,
        SOCKOPT_MCAST_UNBLOCK_SOURCE = 44,
        SOCKOPT_MCAST_JOIN_SOURCE_GROUP = 46,
        SOCKOPT_MCAST_MSFILTER = 48,
        /* include/uapi/linux/in6.h */
        SOCKOPT_IPV6_2292HOPOPTS = 3,
        SOCKOPT_IPV6_2292DSTOPTS = 4,
        SOCKOPT_IPV6_2292RTHDR = 5,
        SOCKOPT_IPV6_2292PKTOPTIONS = 6,
        SOCKOPT_IPV6_ADD_MEMBERSHIP = 20,
        SOCKOPT_IPV6_RECVERR = 25,
        SOCKOPT_IPV6_JOIN_ANYCAST = 27,
        SOCKOPT_IPV6_HOPOPTS = 54,
        SOCKOPT_IPV6_RTHDRDSTOPTS = 55,
        SOCKOPT_IPV6_RTHDR = 57,
        SOCKOPT_IPV6_DSTOPTS = 59,
        SOCKOPT_IPV6_TRANSPARENT = 75,
        SOCKOPT_IPV6_FREEBIND = 78,
        /* include/uapi/linux/tcp.h */
        SOCKOPT_TCP_REPAIR = 19,
};

static __always_inline bool sockopt_joins(__u32 name)
{
        return name == SOCKOPT_MCAST_JOIN_GROUP || name == SOCKOPT_MCAST_BLOCK_SOURCE ||
               name == SOCKOPT_MCAST_UNBLOCK_SOURCE || name == SOCKOPT_MCAST_JOIN_SOURCE_GROUP ||
               name == SOCKOPT_MCAST_MSFILTER;
}

static __always_inline bool sockopt_refused(__u32 level, __u32 name)
{
        switch (level) {
        case SOCKOPT_SOL_IP:
                return name == SOCKOPT_IP_OPTIONS || name == SOCKOPT_IP_TRANSPARENT || name == SOCKOPT_IP_FREEBIND ||
                       name == SOCKOPT_IP_ADD_MEMBERSHIP || name == SOCKOPT_IP_UNBLOCK_SOURCE ||
                       name == SOCKOPT_IP_BLOCK_SOURCE || name == SOCKOPT_IP_ADD_SOURCE_MEMBERSHIP ||
                       name == SOCKOPT_IP_MSFILTER || sockopt_joins(name);
        case SOCKOPT_SOL_IPV6:
                return name == SOCKOPT_IPV6_2292HOPOPTS || name == SOCKOPT_IPV6_2292DSTOPTS ||
                       name == SOCKOPT_IPV6_2292RTHDR || name == SOCKOPT_IPV6_2292PKTOPTIONS ||
                       name == SOCKOPT_IPV6_ADD_MEMBERSHIP || name == SOCKOPT_IPV6_JOIN_ANYCAST ||
                       name == SOCKOPT_IPV6_HOPOPTS || name == SOCKOPT_IPV6_RTHDRDSTOPTS ||
                       name == SOCKOPT_IPV6_RTHDR || name == SOCKOPT_IPV6_DSTOPTS || name == SOCKOPT_IPV6_TRANSPARENT ||
                       name == SOCKOPT_IPV6_FREEBIND || sockopt_joins(name);
        case SOCKOPT_SOL_TCP:
                return name == SOCKOPT_TCP_REPAIR;
        default:
                return false;
        }
}

SEC("cgroup/setsockopt")
int agentd_setsockopt(struct bpf_sockopt *ctx)
{
        struct agent_line *line = bpf_get_local_storage(&lines, 0);
        struct origin origin = {.hook = HOOK_SETSOCKOPT, .direction = DIRECTION_EGRESS};
        struct flow flow = {};
        struct verdict verdict = {.rule = RULE_NONE, .reason = REASON_PROTOCOL};
        struct agent_entry *agent;
        __u32 agent_id = line->agent_id;
        __u32 level = ctx->level, name = ctx->optname;
        __u64 word;

        agent = bpf_map_lookup_elem(&agents, &agent_id);
        if (!agent)
                return 0;

        if (!sockopt_refused(level, name)) {
                /*
                 * A first look-up in a namespace without a listener is taken out of the socket's way at egress, which a
                 * socket with IP_RECVERR (glibc's resolver) would be told as ENOBUFS (net/ipv4/udp.c, udp_send_skb).
                 * There the option is accepted without effect.
                 */
                if (((level == SOCKOPT_SOL_IP && name == SOCKOPT_IP_RECVERR) ||
                     (level == SOCKOPT_SOL_IPV6 && name == SOCKOPT_IPV6_RECVERR)) &&
                    listener_port(bpf_get_netns_cookie(ctx), agent_id) == 0)
                        ctx->optlen = -1;
                return 1;
        }

        word = agent->word;
        origin.agent_id = agent_id;
        origin.ip_protocol = 255;
        if (WORD_VERSION(word) == 0)
                verdict.reason = REASON_NO_POLICY;
        return emit_verdict(&origin, NULL, word, bpf_ktime_get_boot_ns(), &flow, &verdict);
}
