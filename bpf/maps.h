/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every map, in one place. Layouts: include/agentd. The monitor is the only writer, but for `lines`, `memory`, the
 * counters, and the time of last use in `learned`.
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "agentd/abi.h"
#include "agentd/abi_budget.h"
#include "agentd/abi_device.h"
#include "agentd/abi_event.h"
#include "agentd/abi_guard.h"
#include "agentd/abi_policy.h"

struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(map_flags, BPF_F_MMAPABLE);
        __uint(max_entries, AGENT_MAX);
        __type(key, __u32);
        __type(value, struct agent_entry);
} agents SEC(".maps");

/* Atomic adds on a shared line: a deny may cost a cache miss, memory for each CPU and agent may not. */
struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(map_flags, BPF_F_MMAPABLE);
        __uint(max_entries, AGENT_MAX);
        __type(key, __u32);
        __type(value, struct agent_counters);
} counters SEC(".maps");

/* Keyed by cgroup id alone: one storage for all attach types of a cgroup (kernel/bpf/local_storage.c, 5.9). */
struct {
        __uint(type, BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE);
        __type(key, __u64);
        __type(value, struct agent_line);
} lines SEC(".maps");

/* Who opened a flow: by socket cookie, direct-mapped and overwritten; private to the agent, for the events of packets.
 */
enum { PROCESS_SLOTS = 64 };

struct process_slot {
        __u64 cookie;
        __u32 pid;
        __u32 tid;
        __u32 uid;
        __u32 reserved;
        __u8 comm[COMM_MAX];
};

struct agent_memory {
        __u64 announced_cookie; /* the namespace that was announced last, and when (CLOCK_BOOTTIME) */
        __u64 announced_ns;
        __u64 capture_window_ns; /* when the running window of captured look-ups began */
        __u64 captures;          /* in it */
        struct process_slot processes[PROCESS_SLOTS];
};

struct {
        __uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
        __type(key, __u64);
        __type(value, struct agent_memory);
} memory SEC(".maps");

/* Mapped into the monitor's memory: a policy of 100,000 rules has as many lists, and a system call each takes seconds.
 */
struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(map_flags, BPF_F_MMAPABLE);
        __uint(max_entries, 1 << 20);
        __type(key, __u32);
        __type(value, struct match);
} matches SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 1 << 21);
        __type(key, struct host_key);
        __type(value, __u32);
} hosts SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_LPM_TRIE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 1 << 21);
        __type(key, struct cidr_key);
        __type(value, __u32);
} cidrs SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 1 << 18);
        __type(key, struct learned_key);
        __type(value, struct learned_entry);
} learned SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 1 << 18);
        __type(key, struct learned_name_key);
        __type(value, struct learned_name);
} learned_names SEC(".maps");

/* Budgets and rates: include/agentd/abi_budget.h. The daemon changes words in place, by the same atomic operations. */
struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(map_flags, BPF_F_MMAPABLE);
        __uint(max_entries, LEDGERS_MAX);
        __type(key, __u32);
        __type(value, struct ledger);
} ledgers SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(map_flags, BPF_F_MMAPABLE);
        __uint(max_entries, LIMIT_SETS_MAX);
        __type(key, __u32);
        __type(value, struct limit_set);
} limits SEC(".maps");

/* A run of LIMIT_SETS_MAX for each possible CPU: the loader sets the size. Not a per-CPU array, because one CPU must be
 * able to collect what another one has left, and the daemon too. */
struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(map_flags, BPF_F_MMAPABLE);
        __uint(max_entries, LIMIT_SETS_MAX);
        __type(key, __u32);
        __type(value, struct lease);
} leases SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(map_flags, BPF_F_MMAPABLE);
        __uint(max_entries, BUCKETS_MAX);
        __type(key, __u32);
        __type(value, struct bucket);
} buckets SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(map_flags, BPF_F_MMAPABLE);
        __uint(max_entries, 1);
        __type(key, __u32);
        __type(value, struct budget_clock);
} wall_clock SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, LEDGERS_MAX + BUCKETS_MAX);
        __type(key, struct limit_id_key);
        __type(value, __u32);
} limit_ids SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 1 << 15);
        __type(key, struct listener_key);
        __type(value, __u32);
} listeners SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, DEVICES_MAX);
        __type(key, __u32);
        __type(value, __u32);
} devices SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, DEVICE_SLOTS_MAX);
        __type(key, __u32);
        __type(value, struct device);
} device_slots SEC(".maps");

/* The cgroups that are agents: what a guarded parent lets through. */
struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(map_flags, BPF_F_MMAPABLE);
        __uint(max_entries, GUARD_BUCKETS);
        __type(key, __u32);
        __type(value, struct guard_bucket);
} guarded SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, DEVICE_PLACES);
        __type(key, __u32);
        __type(value, __u32);
} device_places SEC(".maps");

/* What established flows' frames meet. Entries bear the agent's word, which no other agent has: a line can change
 * hands. */
struct {
        __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
        __uint(max_entries, DEVICE_LINES_MAX);
        __type(key, __u32);
        __type(value, struct agent_line);
} device_lines SEC(".maps");

/* A socket whose look-ups were redirected: what it believes its peer to be. */
struct dns_socket {
        struct address server;
        __u64 netns_cookie;
        __u16 port;   /* of the listener, host order */
        __u8 pending; /* no listener was there yet */
        __u8 reserved[5];
};

struct {
        __uint(type, BPF_MAP_TYPE_SK_STORAGE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __type(key, int);
        __type(value, struct dns_socket);
} dns_sockets SEC(".maps");

/* Peers that a UDP socket has reached: what `rate` has counted already, and what outlives a learned name's expiry while
 * it is in use. A flow is one of both ports: those of another local port than the socket's present one are over. */
enum { UDP_PEERS = 4 };

struct udp_peer {
        struct address remote;
        __u64 used_ns;
        __u16 port;
        __u16 local_port; /* of struct inbound_peers; struct udp_flows has one for all */
        __u8 reserved[4];
};

struct udp_flows {
        struct udp_peer peers[UDP_PEERS];
        __u32 next;
        __u32 local_port; /* of them all, host order; 0: a connect() has noted them, and gets its port afterwards */
};

struct {
        __uint(type, BPF_MAP_TYPE_SK_STORAGE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __type(key, int);
        __type(value, struct udp_flows);
} udp_peers SEC(".maps");

/* TCP sockets that a remote end has begun, and the listeners that they come from: see bpf/inbound.h. */
struct {
        __uint(type, BPF_MAP_TYPE_SK_STORAGE);
        __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
        __type(key, int);
        __type(value, __u64);
} inbound_sockets SEC(".maps");

/* Who has begun UDP flows to a socket. */
enum { INBOUND_PEERS = 128 };

struct inbound_peers {
        struct udp_peer peers[INBOUND_PEERS];
};

struct {
        __uint(type, BPF_MAP_TYPE_SK_STORAGE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __type(key, int);
        __type(value, struct inbound_peers);
} inbound_peers SEC(".maps");

/* Whom an unconnected UDP socket has sent to: they may answer. */
struct {
        __uint(type, BPF_MAP_TYPE_SK_STORAGE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __type(key, int);
        __type(value, struct inbound_peers);
} asked_peers SEC(".maps");

/* Which server a redirected look-up named, by the client's port: for `as-asked`. */
struct asked_key {
        __u32 agent_id;
        __u16 source_port; /* host order */
        __u8 ip_protocol;
        __u8 reserved;
};

struct {
        __uint(type, BPF_MAP_TYPE_LRU_HASH);
        __uint(max_entries, 1 << 14);
        __type(key, struct asked_key);
        __type(value, struct address);
} asked SEC(".maps");

/*
 * The daemon's own sockets in agents' cgroups, by cookie: whose they are. What they try is refused in every mode, is
 * told in a record of its own kind, and counts for nothing. Asked about denials only.
 */
struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 8 * AGENT_MAX);
        __type(key, __u64);
        __type(value, __u32);
} probes SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_RINGBUF);
        __uint(max_entries, 1 << 22);
} events SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_RINGBUF);
        __uint(max_entries, 1 << 18);
} captures SEC(".maps");

/* Read-only to the programs; the daemon reads it from a pinned directory before it believes any map in it. */
struct abi_stamp {
        __u32 version;
        __u32 reserved[15];
};

struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, 1);
        __type(key, __u32);
        __type(value, struct abi_stamp);
} abi SEC(".maps");
