/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whose is this socket? Attached to nothing; asked by BPF_PROG_TEST_RUN in the socket's network namespace.
 *
 * A dump of sockets names the cgroup in which each was made by its number, which says nothing once that cgroup is
 * removed: then it has no path and no parent. The kernel still knows its ancestors, and tells them to a program.
 */
#pragma once

#include "agentd/abi_test.h"
#include "bpf/maps.h"

enum { OWNER_LEVELS = 32 };

SEC("cgroup_skb/egress")
int agentd_owner(struct __sk_buff *skb)
{
        struct owner_question question;
        struct bpf_sock_tuple tuple = {};
        int answer = OWNER_UNKNOWN;
        struct bpf_sock *sk;
        __u32 size;

        if (bpf_skb_load_bytes(skb, 0, &question, sizeof(question)) < 0)
                return OWNER_UNKNOWN;
        if (question.ipv6) {
                __builtin_memcpy(tuple.ipv6.saddr, question.remote.bytes, 16);
                __builtin_memcpy(tuple.ipv6.daddr, question.local.bytes, 16);
                tuple.ipv6.sport = bpf_htons(question.remote_port);
                tuple.ipv6.dport = bpf_htons(question.local_port);
                size = sizeof(tuple.ipv6);
        } else {
                tuple.ipv4.saddr = question.remote.words[3];
                tuple.ipv4.daddr = question.local.words[3];
                tuple.ipv4.sport = bpf_htons(question.remote_port);
                tuple.ipv4.dport = bpf_htons(question.local_port);
                size = sizeof(tuple.ipv4);
        }
        if (question.tcp)
                sk = bpf_sk_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
        else
                sk = bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
        if (!sk)
                return OWNER_UNKNOWN;

        /* Of the dead cgroup itself: what was found is the socket that was meant. */
        if (bpf_sk_cgroup_id(sk) == question.socket_cgroup_id) {
                answer = OWNER_OTHER;
#pragma clang loop unroll(full)
                for (int level = 0; level < OWNER_LEVELS; level++)
                        if (bpf_sk_ancestor_cgroup_id(sk, level) == question.cgroup_id)
                                answer = OWNER_SELF;
        }
        bpf_sk_release(sk);
        return answer;
}
