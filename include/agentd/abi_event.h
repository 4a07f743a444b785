/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel programs tell the daemon: records of the ring buffers, and the exact counters.
 *
 * Records are hostile input for the reader as everything else is: size, kind and version are checked before use.
 */
#pragma once

#include "agentd/abi.h"

enum record_kind {
        RECORD_VERDICT = 1, /* ring `events` */
        RECORD_CAPTURE = 2, /* ring `captures`: a look-up from a namespace where the agent has no listener yet */
        RECORD_BUDGET = 3,  /* ring `events`: a ledger has passed a threshold, once in a window */
        RECORD_SOCKET = 5,  /* ring `events`: a verdict about a family or a Unix socket (abi_unix.h) */
        RECORD_PROBE = 6,   /* ring `events`: a struct verdict_record about a packet or a call of the daemon's own */
};

/* The flow of a try to make a socket of this family, which no kernel has (AF_ASH); there is no socket, and no cookie.
 */
enum { FAMILY_PROBE = 18 };
#define LSM_PROBE_COOKIE (~0ull - 1)

struct record_header {
        __u16 size; /* of the whole record */
        __u16 kind;
        __u32 abi; /* AGENTD_ABI_VERSION */
};
ABI_SIZE(struct record_header, 8);

struct verdict_record {
        struct record_header header;
        __u64 time_ns;   /* CLOCK_BOOTTIME */
        __u64 cgroup_id; /* of the agent */
        __u64 flow;      /* socket cookie */
        __u32 agent_id;
        __u32 generation;
        __u32 version; /* of the policy: which table `rule` is an index into */
        __u32 bytes;   /* of the IP packet; 0 for a system call */
        __u16 rule;    /* RULE_NONE */
        __u8 action;   /* VERDICT_DENY, or VERDICT_ALLOW with a reason: would_deny */
        __u8 reason;
        __u8 hook;
        __u8 direction;
        __u8 ip_protocol; /* IPPROTO_*; 255: not known */
        __u8 reserved;
        struct address source;
        struct address destination;
        __u16 source_port; /* host order */
        __u16 destination_port;
        __u32 pid; /* thread group; 0: not known */
        __u32 tid;
        __u32 uid;
        __u8 comm[COMM_MAX];
};
ABI_SIZE(struct verdict_record, 120);

struct capture_record {
        struct record_header header;
        __u64 netns_cookie; /* 0: not known */
        __u32 agent_id;
        __u32 pid; /* a thread group in that namespace; 0: not known */
        struct address source;
        struct address destination; /* loopback: where the listener will be */
        __u16 source_port;
        __u16 destination_port;
        __u16 length; /* of payload; 0: only the namespace is announced */
        __u16 reserved;
        __u8 payload[CAPTURE_MAX]; /* the DNS message */
};
ABI_SIZE(struct capture_record, 64 + CAPTURE_MAX);

struct budget_record {
        struct record_header header;
        __u64 time_ns;  /* CLOCK_BOOTTIME */
        __u32 ledger;   /* id */
        __u32 agent_id; /* whose packet it was */
        __u64 charged;  /* bytes, leases included */
        __u64 limit;    /* bytes, this window's grants included */
        __u16 window;   /* as in struct ledger */
        __u8 percent;   /* 80 or 100 */
        __u8 reserved[5];
};
ABI_SIZE(struct budget_record, 48);

/* Map `counters`, a per-CPU array indexed by agent id. Atomic adds: softirq egress interrupts the process's. */
struct agent_counters {
        __u64 denied[REASON_MAX]; /* by enum verdict_reason: packets and system calls */
        __u64 would_deny[REASON_MAX];
        __u64 redirected;     /* look-ups sent to the listener */
        __u64 events_lost;    /* ring full */
        __u64 helper_failed;  /* a kernel helper refused where that cannot change the verdict */
        __u64 device_packets; /* allowed at tier 3, of no socket that tier 2 has counted; egress */
        __u64 device_bytes;
        __u64 reserved[3];
};
ABI_SIZE(struct agent_counters, 576);

/*
 * Map `lines`, PERCPU_CGROUP_STORAGE keyed by cgroup id: all that an established flow's packet touches. The cache holds
 * allow verdicts only; each entry is compared in full (address, port, protocol, state word).
 */
struct cached_verdict {
        __u64 word; /* 0: empty */
        struct address remote;
        __u64 meta; /* port, protocol, flow flags, valid_until: see bpf/cache.h */
};
ABI_SIZE(struct cached_verdict, 32);

enum { CACHE_ENTRIES = 8 };

struct agent_line {
        __u32 agent_id; /* 0: attached, not yet named: deny */
        __u32 busy;     /* a writer is at work on this CPU */
        __u32 sequence; /* odd: being written; a reader that sees it change has read nothing */
        __u32 reserved;
        __u64 packets[2];            /* allowed, by enum direction */
        __u64 bytes[2];              /* of those, at IP level */
        __u16 limits[CACHE_ENTRIES]; /* of each cached verdict: its set in the map `limits`; 0: none */
        struct cached_verdict cache[CACHE_ENTRIES];
};
ABI_SIZE(struct agent_line, 64 + 32 * CACHE_ENTRIES);
