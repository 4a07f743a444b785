/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The redirect of look-ups: whichever server an agent asks, its socket goes to the agent's listener on loopback inside
 * its own namespace, and believes to talk to the server it named.
 *
 * A namespace where the daemon has not opened a listener yet is found here first. The query is then captured at egress
 * and handed to the daemon, which opens the listener and answers it from there: the first look-up is not lost.
 */
#pragma once

#include "agentd/address_class.h"
#include "bpf/emit.h"
#include "bpf/maps.h"

static __always_inline void address_loopback(struct address *ret, bool ipv4)
{
        if (ipv4) {
                address_from_ipv4(ret, ADDRESS_IPV4(127, 0, 0, 1));
        } else {
                ret->halves[0] = 0;
                ret->words[2] = 0;
                ret->words[3] = ADDRESS_WORD(1);
        }
}

static __always_inline bool agent_owns_port(const struct agent_entry *agent, __u16 port)
{
        return port != 0 && (port == agent->dns_ports[0] || port == agent->dns_ports[1] ||
                             port == agent->dns_ports[2] || port == agent->dns_ports[3]);
}

/* The listener's port in this namespace; 0: none is known. */
static __always_inline __u16 listener_port(__u64 netns_cookie, __u32 agent_id)
{
        struct listener_key key = {.netns_cookie = netns_cookie, .id = agent_id, .kind = LISTENER_AGENT};
        const __u32 *port = bpf_map_lookup_elem(&listeners, &key);

        return port ? (__u16)*port : 0;
}

/* Whose listener this loopback port is; 0: nobody's. */
static __always_inline __u32 listener_owner(__u64 netns_cookie, __u16 port)
{
        struct listener_key key = {.netns_cookie = netns_cookie, .id = port, .kind = LISTENER_PORT};
        const __u32 *owner = bpf_map_lookup_elem(&listeners, &key);

        return owner ? *owner : 0;
}

enum {
        ANNOUNCE_SAME_NS = 100000000,
        ANNOUNCE_OTHER_NS = 1000000,
        CAPTURE_WINDOW_NS = 100000000,
        CAPTURES_A_WINDOW = 32
};

/* Tells the daemon that this namespace exists. */
static __always_inline void lookup_announce(struct agent_memory *store, __u32 agent_id, __u64 netns_cookie)
{
        __u64 now_ns = bpf_ktime_get_boot_ns();
        __u64 pause_ns = store->announced_cookie == netns_cookie ? ANNOUNCE_SAME_NS : ANNOUNCE_OTHER_NS;
        struct capture_record *record;

        /* The ring is shared: an agent that makes sockets in a loop must not keep the others' first look-ups out. */
        if (now_ns - store->announced_ns < pause_ns)
                return;
        store->announced_cookie = netns_cookie;
        store->announced_ns = now_ns;

        record = bpf_ringbuf_reserve(&captures, sizeof(*record), 0);
        if (!record)
                return;
        __builtin_memset(record, 0, __builtin_offsetof(struct capture_record, payload));
        record->header.size = sizeof(*record);
        record->header.kind = RECORD_CAPTURE;
        record->header.abi = AGENTD_ABI_VERSION;
        record->netns_cookie = netns_cookie;
        record->agent_id = agent_id;
        record->pid = bpf_get_current_pid_tgid() >> 32;
        bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
}

/* A query to where the listener will be: to the daemon with it. false: it could not be taken. */
static __always_inline bool lookup_capture(struct __sk_buff *skb, struct agent_memory *store,
                                           const struct origin *origin, const struct flow *flow, __u64 netns_cookie,
                                           __u32 payload_offset, __u32 pid)
{
        __u64 now_ns = bpf_ktime_get_boot_ns();
        struct capture_record *record;
        __u32 length;

        /* The ring is shared, as in lookup_announce(). A resolver asks again. */
        if (now_ns - store->capture_window_ns > CAPTURE_WINDOW_NS) {
                store->capture_window_ns = now_ns;
                store->captures = 0;
        }
        if (store->captures++ >= CAPTURES_A_WINDOW)
                return false;

        if (payload_offset >= skb->len)
                return false;
        length = skb->len - payload_offset;
        if (length == 0 || length > CAPTURE_MAX)
                return false;

        record = bpf_ringbuf_reserve(&captures, sizeof(*record), 0);
        if (!record)
                return false;
        __builtin_memset(record, 0, __builtin_offsetof(struct capture_record, payload));
        record->header.size = sizeof(*record);
        record->header.kind = RECORD_CAPTURE;
        record->header.abi = AGENTD_ABI_VERSION;
        record->netns_cookie = netns_cookie;
        record->agent_id = origin->agent_id;
        record->pid = pid;
        record->source = origin->local;
        record->source_port = origin->local_port;
        record->destination = flow->remote;
        record->destination_port = flow->port;
        record->length = length;
        /* The verifier of 6.1 wants the bound on the value it passes: (length - 1) & mask keeps both ends. */
        length = ((length - 1) & 2047) + 1;
        if (length > CAPTURE_MAX || bpf_skb_load_bytes(skb, payload_offset, record->payload, length) < 0) {
                bpf_ringbuf_discard(record, 0);
                return false;
        }
        bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
        return true;
}
