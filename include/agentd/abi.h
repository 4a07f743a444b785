/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel programs and the daemon share: addresses, identities, verdicts, reasons.
 *
 * Read by both compilers. Change a meaning or a layout: raise AGENTD_ABI_VERSION, because a pinned map whose fields
 * were swapped at equal size is reused by libbpf without a word. Numbers are never reused.
 */
#pragma once

#include <linux/types.h>

#define AGENTD_ABI_VERSION 2

/* Fixed sizes are checked under both compilers (tests/check/abi_padding). */
#define ABI_SIZE(type, size) \
        _Static_assert(sizeof(type) == (size), #type " has changed its size: raise the ABI version")

enum {
        AGENT_MAX = 4096, /* agent ids are 1 .. AGENT_MAX - 1; 0 means "no agent" and denies */
        AGENT_NAME_MAX = 64,
        NAME_MAX_BYTES = 256, /* a domain name in text with its NUL: at most 253 + 1 bytes, padded */
        COMM_MAX = 16,
        MATCH_LIST_MAX = 128, /* matches that may meet at one address */
        RULE_NONE = 0xffff,   /* no rule decided */
        DNS_PORTS = 4,        /* candidate listener ports of an agent */
        CAPTURE_MAX = 1232,   /* bytes of a captured look-up */
        LEARNED_PER_AGENT_MAX = 8192,
};

/* 16 bytes in network order; IPv4 is ::ffff:a.b.c.d, so there is one code path. */
struct address {
        union {
                __u8 bytes[16];
                __be32 words[4];
                __u64 halves[2];
        };
};
ABI_SIZE(struct address, 16);

enum protocol_bit {
        PROTOCOL_TCP = 1,
        PROTOCOL_UDP = 2,
        PROTOCOL_ICMP = 4,  /* ICMP over IPv4 and ICMPv6 */
        PROTOCOL_OTHER = 8, /* never allowed */
};

enum verdict_action {
        VERDICT_DENY = 0, /* zeroed memory denies */
        VERDICT_ALLOW = 1,
        VERDICT_REDIRECT = 2, /* a look-up: goes to the agent's listener (system call hooks only) */
};

/* Names in events and metrics: verdict_reason_to_string(). */
enum verdict_reason {
        REASON_NONE = 0,
        REASON_NO_RULE = 1,
        REASON_DENY_RULE = 2,
        REASON_BUDGET_EXHAUSTED = 3,
        REASON_RATE_EXCEEDED = 4,
        REASON_PROTOCOL = 5,
        REASON_RAW_SOCKET = 6,
        REASON_PACKET_SOCKET = 7,
        REASON_METADATA = 8,
        REASON_LOOPBACK = 9,
        REASON_INGRESS = 10,
        REASON_FRAGMENT = 11,
        REASON_MALFORMED = 12,
        REASON_NAME_NOT_ALLOWED = 13,
        REASON_PRIVATE_ADDRESS = 14,
        REASON_EXPIRED = 15,
        REASON_QUARANTINE = 16,
        REASON_NO_POLICY = 17,
        REASON_SNI_MISMATCH = 18,
        REASON_UNIX_SOCKET = 19,
        REASON_MAX = 32, /* room in the counters; raise with the ABI */
};

enum hook {
        HOOK_NONE = 0,
        HOOK_CONNECT4 = 1,
        HOOK_CONNECT6 = 2,
        HOOK_SENDMSG4 = 3,
        HOOK_SENDMSG6 = 4,
        HOOK_RECVMSG4 = 5,
        HOOK_RECVMSG6 = 6,
        HOOK_GETPEERNAME4 = 7,
        HOOK_GETPEERNAME6 = 8,
        HOOK_SOCK_CREATE = 9,
        HOOK_EGRESS = 10,
        HOOK_INGRESS = 11,
        HOOK_DNS = 12, /* the listener, in user space */
        HOOK_SETSOCKOPT = 13,
        HOOK_DEVICE = 14,        /* tier 3: the host end of the agent's veth */
        HOOK_GUARD = 15,         /* a cgroup below a guarded one that is no agent's */
        HOOK_CONNECT_UNIX = 16,  /* a socket in the file system */
        HOOK_SOCKET_CREATE = 17, /* tier 4: an LSM program */
        HOOK_MAX = 18,
};

enum direction {
        DIRECTION_EGRESS = 0,
        DIRECTION_INGRESS = 1,
};

/*
 * An agent's state word: one 64-bit store publishes a policy, a mode or a quarantine, and every packet reads it once.
 * Bits 0-31: generation (rises with each publication); 32-55: policy version (the scope of rule entries; 0: no policy,
 * deny); 56-63: flags. Cached verdicts carry the whole word, so a changed word empties every cache at once.
 */
#define WORD_GENERATION(word) ((__u32)(word))
#define WORD_VERSION(word)    ((__u32)((word) >> 32) & 0xffffffu)
#define WORD_FLAGS(word)      ((__u32)((word) >> 56))
#define WORD_MAKE(generation, version, flags) \
        ((__u64)(__u32)(generation) | (__u64)((version)&0xffffffu) << 32 | (__u64)((flags)&0xffu) << 56)

enum word_flag {
        WORD_AUDIT = 1,          /* let through, report what would be denied */
        WORD_QUARANTINE = 2,     /* deny everything, in audit mode too */
        WORD_LOOPBACK_ALLOW = 4, /* loopback: allow */
        WORD_METADATA_ALLOW = 8, /* metadata: allow (a rule is needed as well) */
};

/*
 * Where the limits of this agent stand, for one version of its policy: a rule's class (struct match) counts from
 * `first` in the map `limits`. One 64-bit read. A class that is not below `count` denies.
 */
struct agent_limits {
        __u32 version;
        __u16 first;
        __u16 count;
};
ABI_SIZE(struct agent_limits, 8);

/* Map `agents`, an mmapable array indexed by agent id. Written by the monitor only. */
struct agent_entry {
        __u64 word;
        __u64 cgroup_id;
        __u16 dns_ports[DNS_PORTS]; /* host order; where the agent's listener may be found on loopback */
        __u8 name[AGENT_NAME_MAX];  /* NUL-padded: lets a new daemon adopt what it finds */
        __u8 policy[AGENT_NAME_MAX];
        __u8 mode;    /* the daemon's: an override of the policy's mode */
        __u8 frozen;  /* the daemon's: 1, since a probe was let through */
        __u8 by_hand; /* the daemon's: 1, somebody has attached it, and not the configuration */
        __u8 reserved[5];
        struct agent_limits limits[2]; /* of the version in `word`, and of the one before or after it */
        __u8 reserved2[16];
};
ABI_SIZE(struct agent_entry, 192);
