/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a program tells user space: exact counters first, then a record, whose loss is counted.
 *
 * The reader is woken once a jiffy at most, and when the ring passes a threshold; not for each record (8.6 us). So the
 * first record of a burst is read while its process still lives; the rest is found by a short timer of the reader.
 */
#pragma once

#include "agentd/flow.h"
#include "bpf/maps.h"

enum { EMIT_WAKE_BYTES = 1 << 16 };

static __u64 emit_last_wake; /* jiffies; racing writers wake twice at worst */

static __always_inline __u64 emit_wake_flag(__u64 before, __u64 size)
{
        __u64 now = bpf_jiffies64();

        if (emit_last_wake != now) {
                emit_last_wake = now;
                return BPF_RB_FORCE_WAKEUP;
        }
        return before < EMIT_WAKE_BYTES && before + size >= EMIT_WAKE_BYTES ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/* What a hook knows about the flow beyond struct flow. */
struct origin {
        __u64 cookie;
        __u32 agent_id;
        __u32 bytes;
        __u16 local_port;
        __u8 hook;
        __u8 direction;
        __u8 ip_protocol;
        __u8 reserved[3];
        struct address local;
};

static __always_inline struct agent_counters *emit_counters(__u32 agent_id)
{
        return bpf_map_lookup_elem(&counters, &agent_id);
}

static __always_inline void emit_helper_failed(__u32 agent_id)
{
        struct agent_counters *exact = emit_counters(agent_id);

        if (exact)
                __sync_fetch_and_add(&exact->helper_failed, 1);
}

static __always_inline struct process_slot *process_slot(struct agent_memory *store, __u64 cookie)
{
        return &store->processes[((__u32)cookie ^ (__u32)(cookie >> 6)) & (PROCESS_SLOTS - 1)];
}

/* Remember who opened this flow. Racing writers can mix two processes of one agent in one slot, never two agents. */
static __always_inline void process_note(struct agent_memory *store, __u64 cookie)
{
        struct process_slot *slot = process_slot(store, cookie);
        __u64 pid_tgid;

        if (slot->cookie == cookie)
                return;
        pid_tgid = bpf_get_current_pid_tgid();
        slot->cookie = 0;
        slot->pid = pid_tgid >> 32;
        slot->tid = (__u32)pid_tgid;
        slot->uid = (__u32)bpf_get_current_uid_gid();
        bpf_get_current_comm(slot->comm, sizeof(slot->comm));
        slot->cookie = cookie;
}

static __always_inline void emit_process(struct verdict_record *record, const struct origin *origin,
                                         struct agent_memory *store, const bool in_process)
{
        if (in_process) {
                __u64 pid_tgid = bpf_get_current_pid_tgid();

                record->pid = pid_tgid >> 32;
                record->tid = (__u32)pid_tgid;
                record->uid = (__u32)bpf_get_current_uid_gid();
                bpf_get_current_comm(record->comm, sizeof(record->comm));
                return;
        }
        if (store && origin->cookie) {
                const struct process_slot *slot = process_slot(store, origin->cookie);

                if (slot->cookie == origin->cookie) {
                        record->pid = slot->pid;
                        record->tid = slot->tid;
                        record->uid = slot->uid;
                        __builtin_memcpy(record->comm, slot->comm, sizeof(record->comm));
                        return;
                }
        }
        record->pid = 0;
        record->tid = 0;
        record->uid = 0;
        __builtin_memset(record->comm, 0, sizeof(record->comm));
}

/*
 * Counts and reports a verdict that is not a plain allow. Returns true when the flow may pass: audit mode turns every
 * reason but quarantine and a missing policy into would_deny; a probe never passes. in_process is a constant of the
 * caller: what it leaves out must not be in a packet program at all, because Linux 6.1 has no helper there that asks
 * for the current task.
 */
static __always_inline bool emit_as(const struct origin *origin, struct agent_memory *store, __u64 word, __u64 now_ns,
                                    const struct flow *flow, const struct verdict *verdict, const bool in_process)
{
        struct agent_counters *exact = emit_counters(origin->agent_id);
        struct agent_entry *agent;
        struct verdict_record *record;
        __u32 agent_id = origin->agent_id;
        bool probe = origin->cookie && bpf_map_lookup_elem(&probes, &origin->cookie);
        bool would = (WORD_FLAGS(word) & WORD_AUDIT) && verdict->reason != REASON_QUARANTINE &&
                     verdict->reason != REASON_NO_POLICY;
        __u32 reason = verdict->reason & (REASON_MAX - 1);
        __u64 before;

        /* The verifier forgets a bound that it saw on a copy of the index: the mask stands beside the use. */
        asm volatile("" : "+r"(reason));
        reason &= REASON_MAX - 1;
        if (probe)
                ;
        else if (exact && would)
                __sync_fetch_and_add(&exact->would_deny[reason], 1);
        else if (exact)
                __sync_fetch_and_add(&exact->denied[reason], 1);

        before = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
        record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
        if (!record) {
                if (exact && !probe)
                        __sync_fetch_and_add(&exact->events_lost, 1);
                return would && !probe;
        }

        agent = bpf_map_lookup_elem(&agents, &agent_id);
        record->header.size = sizeof(*record);
        record->header.kind = probe ? RECORD_PROBE : RECORD_VERDICT;
        record->header.abi = AGENTD_ABI_VERSION;
        record->time_ns = now_ns;
        record->cgroup_id = agent ? agent->cgroup_id : 0;
        record->flow = origin->cookie;
        record->agent_id = agent_id;
        record->generation = WORD_GENERATION(word);
        record->version = WORD_VERSION(word);
        record->bytes = origin->bytes;
        record->rule = verdict->rule;
        record->action = would ? VERDICT_ALLOW : VERDICT_DENY;
        record->reason = verdict->reason;
        record->hook = origin->hook;
        record->direction = origin->direction;
        record->ip_protocol = origin->ip_protocol;
        record->reserved = 0;
        if (origin->direction == DIRECTION_EGRESS) {
                record->source = origin->local;
                record->source_port = origin->local_port;
                record->destination = flow->remote;
                record->destination_port = flow->port;
        } else {
                record->source = flow->remote;
                record->source_port = flow->port;
                record->destination = origin->local;
                record->destination_port = origin->local_port;
        }
        emit_process(record, origin, store, in_process);

        if (probe) {
                bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP); /* who has sent it looks by himself */
                return false;
        }
        bpf_ringbuf_submit(record, emit_wake_flag(before, sizeof(*record)));
        return would;
}

/* Of a system call: the current task is the sender. */
static __always_inline bool emit_verdict(const struct origin *origin, struct agent_memory *store, __u64 word,
                                         __u64 now_ns, const struct flow *flow, const struct verdict *verdict)
{
        return emit_as(origin, store, word, now_ns, flow, verdict, true);
}

/* Of a packet: whoever is current has nothing to do with it. */
static __always_inline bool emit_packet_verdict(const struct origin *origin, struct agent_memory *store, __u64 word,
                                                __u64 now_ns, const struct flow *flow, const struct verdict *verdict)
{
        return emit_as(origin, store, word, now_ns, flow, verdict, false);
}
