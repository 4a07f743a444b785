/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Messages between the privileged monitor and the unprivileged DNS worker: fixed-size, over a SOCK_SEQPACKET
 * socketpair.
 *
 * The worker parses what attackers send, so the monitor believes none of it: every field is bounded and checked, and
 * the worker can ask for one thing that matters only: learn these addresses for this agent under this name. The monitor
 * checks the name against the policy again. Text fields are NUL-terminated and padded with NULs.
 */
#pragma once

#include "agentd/abi.h"

enum message_kind {
        /* monitor to worker */
        MESSAGE_SETTINGS = 1,      /* struct message_settings; before anything else, and again on reload */
        MESSAGE_POLICY = 2,        /* struct message_policy with one memfd: the policy's domain patterns */
        MESSAGE_AGENT = 3,         /* struct message_agent: an agent appears or changes its policy or mode */
        MESSAGE_AGENT_GONE = 4,    /* struct message_agent (agent_id only): close its listeners */
        MESSAGE_LISTENER = 5,      /* struct message_listener with 1..4 descriptors */
        MESSAGE_LISTENER_GONE = 6, /* struct message_listener (listener_id only) */
        MESSAGE_LEARNED = 7,       /* struct message_learned: the acknowledgement of MESSAGE_LEARN */
        MESSAGE_RESOLVE = 8,       /* struct message_resolve: keep an exact domain of a policy fresh */
        MESSAGE_QUERY = 9,         /* struct message_query: a captured look-up, as if it had come to the listener */
        MESSAGE_UPSTREAM = 10,     /* struct message_upstream with one descriptor, or error set and none */
        MESSAGE_POLICY_GONE = 11,  /* struct message_policy (policy_id only) */
        /* worker to monitor */
        MESSAGE_READY = 32,        /* header only: settings taken, confined */
        MESSAGE_LEARN = 33,        /* struct message_learn */
        MESSAGE_REFUSED = 34,      /* struct message_refused: for the event stream */
        MESSAGE_RESOLVED = 35,     /* struct message_resolved: how a MESSAGE_RESOLVE ended */
        MESSAGE_ASK_UPSTREAM = 36, /* struct message_ask_upstream: as-asked only */
        MESSAGE_STATISTICS = 37,   /* struct message_statistics: about once a second when they changed */
        MESSAGE_DURATIONS = 39,    /* struct message_durations: about once a second when they changed */
        MESSAGE_ALIVE = 38,        /* header only: its loop runs; about once a second */
};

struct message_header {
        __u32 kind;
        __u32 size; /* of the whole message */
        __u64 id;   /* of a request; its answer carries the same */
};
ABI_SIZE(struct message_header, 16);

enum { UPSTREAM_MAX = 8, UPSTREAM_TEXT_MAX = 128, MESSAGE_ADDRESSES_MAX = 128 };

struct message_settings {
        struct message_header header;
        __u32 n_upstreams;
        __u32 min_ttl_s, max_ttl_s, grace_s;
        __u8 dnssec;
        __u8 blocked;  /* enum dns_blocked */
        __u8 as_asked; /* forward to the server that the agent named, from inside its namespace */
        __u8 reserved;
        __u32 rate_burst;       /* of each agent's look-ups, at once */
        __u64 rate_interval_ns; /* one more in this time; 0: no limit */
        char upstreams[UPSTREAM_MAX]
                      [UPSTREAM_TEXT_MAX]; /* "10.0.0.2", "10.0.0.2@5353", "tls://9.9.9.9@853#dns.quad9.net";
                                              "system" is already replaced by the monitor */
};
ABI_SIZE(struct message_settings, 16 + 32 + 8 * 128);

/* The memfd: lines "A pattern\n" (allow) or "D pattern\n" (deny), canonical; sealed. policy_id: the kernel's policy
 * version. */
struct message_policy {
        struct message_header header;
        __u32 policy_id;
        __u8 allow_private;
        __u8 metadata_allow;
        __u8 reserved[2];
};
ABI_SIZE(struct message_policy, 24);

struct message_agent {
        struct message_header header;
        __u32 agent_id;
        __u32 policy_id;
        __u8 audit;      /* names that no rule allows are resolved all the same, and reported as would_deny */
        __u8 quarantine; /* refuse everything */
        __u8 reserved[6];
};
ABI_SIZE(struct message_agent, 32);

/* Descriptors in this order, present ones only: UDP over IPv4, TCP over IPv4, UDP over IPv6, TCP over IPv6. TCP ones
 * listen. */
struct message_listener {
        struct message_header header;
        __u32 agent_id;
        __u32 listener_id; /* unique; never 0 */
        __u8 present[4];
        __u8 reserved[4];
};
ABI_SIZE(struct message_listener, 32);

struct message_address {
        struct address address;
        __u32 ttl_s;
        __u32 reserved;
};
ABI_SIZE(struct message_address, 24);

/* agent_id 0: for every agent of policy_id (an answer to MESSAGE_RESOLVE). Larger answers take several messages. */
struct message_learn {
        struct message_header header;
        __u32 agent_id;
        __u32 policy_id;
        __u32 n_addresses;
        __u32 reserved;
        char name[NAME_MAX_BYTES]; /* canonical: the name that was asked, not the end of its CNAME chain */
        struct message_address addresses[MESSAGE_ADDRESSES_MAX];
};
ABI_SIZE(struct message_learn, 16 + 16 + 256 + 24 * 128);

/* error 0: every address is enforceable now. Otherwise -errno (a positive number is never sent): answer SERVFAIL. */
struct message_learned {
        struct message_header header;
        __s32 error;
        __u32 reserved;
};
ABI_SIZE(struct message_learned, 24);

struct message_resolve {
        struct message_header header;
        __u32 policy_id;
        __u32 reserved;
        char name[NAME_MAX_BYTES];
};
ABI_SIZE(struct message_resolve, 16 + 8 + 256);

/* After the LEARNED of every address. ttl_s: the smallest of the answer, for the next refresh. */
struct message_resolved {
        struct message_header header; /* id: of the MESSAGE_RESOLVE */
        __u32 policy_id;
        __s32 error; /* 0; -ENOENT: no such name or no address; -EAGAIN: upstream failed; -EBADMSG: bogus (DNSSEC) */
        __u32 ttl_s;
        __u32 n_addresses;
        char name[NAME_MAX_BYTES];
};
ABI_SIZE(struct message_resolved, 16 + 16 + 256);

struct message_refused {
        struct message_header header;
        __u32 agent_id;
        __u16 query_type;
        __u8 reason;      /* enum verdict_reason: name_not_allowed, deny_rule, private_address, metadata, rate_exceeded,
                             malformed */
        __u8 would;       /* audit mode: it was let through */
        __u8 ip_protocol; /* of the client's query */
        __u8 reserved;
        __u16 source_port;
        __u32 reserved2;
        struct address source;
        struct address address; /* what was withheld; zero when a name was refused */
        char name[NAME_MAX_BYTES];
};
ABI_SIZE(struct message_refused, 16 + 16 + 32 + 256);

struct message_query {
        struct message_header header;
        __u32 agent_id;
        __u32 listener_id; /* answer from its UDP socket of the source's family */
        struct address source;
        __u16 source_port;
        __u16 length;
        __u32 reserved;
        __u8 payload[CAPTURE_MAX];
};
ABI_SIZE(struct message_query, 16 + 32 + CAPTURE_MAX);

/* The server is looked up by the monitor (the kernel noted it); the worker gets a socket connected to it, no more. */
struct message_ask_upstream {
        struct message_header header;
        __u32 agent_id;
        __u32 listener_id;
        struct address source; /* of the client's query */
        __u16 source_port;
        __u8 ip_protocol; /* of the client's query */
        __u8 want_tcp;    /* the socket that is wanted */
        __u32 reserved;
};
ABI_SIZE(struct message_ask_upstream, 48);

struct message_upstream {
        struct message_header header;
        __s32 error;
        __u32 reserved;
};
ABI_SIZE(struct message_upstream, 24);

enum dns_outcome {
        DNS_OUTCOME_ANSWERED,
        DNS_OUTCOME_CACHED,
        DNS_OUTCOME_REFUSED,
        DNS_OUTCOME_WITHHELD,
        DNS_OUTCOME_FAILED,
        DNS_OUTCOME_MALFORMED,
        DNS_OUTCOME_RATE,
        DNS_OUTCOME_MAX = 8,
};

struct message_statistics {
        struct message_header header;
        __u32 agent_id;
        __u32 reserved;
        __u64 outcomes[DNS_OUTCOME_MAX]; /* since the worker began */
};
ABI_SIZE(struct message_statistics, 24 + 64);

/* From the query's arrival to its reply. Upper bounds of the buckets in microseconds; the last one has none. */
#define DNS_DURATION_BOUNDS_US                                                                                     \
        {                                                                                                          \
                250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000 \
        }
enum { DNS_DURATION_BUCKETS = 15 };

struct message_durations {
        struct message_header header;
        __u64 sum_ns;
        __u64 counts[DNS_DURATION_BUCKETS]; /* of each bucket alone, since the worker began */
};
ABI_SIZE(struct message_durations, 24 + 8 * 15);
