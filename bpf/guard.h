/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The guard: programs on a parent cgroup that let through what is inside an agent and deny everything else, so that a
 * cgroup is denied from birth, before the daemon has heard of it.
 *
 * They run for every packet below that parent (kernel/bpf/cgroup.c, compute_effective_progs: those of a cgroup's own,
 * then its ancestors'), and all have to let it through: what an agent may do is still the agent's programs' to say.
 * Whose packet it is is told by the socket, which keeps the cgroup where it was made: one call for the ancestor at the
 * level where the last agent was found, and one line of the table. Nothing is cached, so a cgroup that enters or leaves
 * the table is judged anew by the next packet.
 *
 * Loopback is denied as well: a process of the host's that listens there is a way out.
 */
#pragma once

#include "bpf/guard_table.h"
#include "bpf/skb.h"
#include "bpf/sockopt.h"

static __u32 guard_level; /* where the last agent was found; racing writers cost each other a walk */

static __noinline int guard_walk(struct __sk_buff *skb)
{
        for (__u32 level = 1; level <= GUARD_LEVELS_MAX; level++) {
                __u64 cgroup_id = bpf_skb_ancestor_cgroup_id(skb, level);

                if (cgroup_id == 0) /* deeper than the socket's own cgroup, or it cannot be told: denied */
                        return 0;
                if (guard_knows(cgroup_id)) {
                        guard_level = level;
                        return 1;
                }
        }
        return 0;
}

static __noinline int guard_refuse(struct __sk_buff *skb, __u32 direction)
{
        struct packet packet = {};
        struct verdict_record *record;
        __u64 before;

        packet.ip_protocol = 255;
        skb_parse(skb, &packet, direction & 1); /* what cannot be read is refused all the same */

        record = guard_record(bpf_skb_cgroup_id(skb), &before);
        if (!record)
                return SKB_DROP;
        record->flow = bpf_get_socket_cookie(skb);
        record->bytes = packet_wire_bytes(skb, packet.header_bytes, packet.ip_protocol, direction & 1, false);
        record->direction = direction & 1;
        record->ip_protocol = packet.ip_protocol;
        if ((direction & 1) == DIRECTION_EGRESS) {
                record->source = packet.local;
                record->source_port = packet.local_port;
                record->destination = packet.flow.remote;
                record->destination_port = packet.flow.port;
        } else {
                record->source = packet.flow.remote;
                record->source_port = packet.flow.port;
                record->destination = packet.local;
                record->destination_port = packet.local_port;
        }
        bpf_ringbuf_submit(record, emit_wake_flag(before, sizeof(*record)));
        return SKB_DROP;
}

static __always_inline int guard_judge(struct __sk_buff *skb, __u32 direction)
{
        __u32 level = ACCESS_ONCE(guard_level);

        if (level && guard_knows(bpf_skb_ancestor_cgroup_id(skb, level)))
                return SKB_PASS;
        if (guard_walk(skb))
                return SKB_PASS;
        return guard_refuse(skb, direction);
}

SEC("cgroup_skb/egress")
int agentd_guard_egress(struct __sk_buff *skb)
{
        return guard_judge(skb, DIRECTION_EGRESS);
}

SEC("cgroup_skb/ingress")
int agentd_guard_ingress(struct __sk_buff *skb)
{
        return guard_judge(skb, DIRECTION_INGRESS);
}

/*
 * What the kernel would send for the process is seen by no packet program: the report of a group that is joined, with
 * the group's address for data. The options that agents are refused are refused here as well.
 */
SEC("cgroup/setsockopt")
int agentd_guard_setsockopt(struct bpf_sockopt *ctx)
{
        if (!sockopt_refused(ctx->level, ctx->optname))
                return 1;
        if (guard_finds_current())
                return 1;
        guard_refuse_current();
        return 0;
}
