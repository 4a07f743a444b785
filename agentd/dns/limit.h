/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The numbers that bound what one agent can make the worker do, and why each is what it is.
 *
 * A name that is allowed only by a wildcard reaches a name server that somebody else runs: its labels are a channel
 * out. It cannot be closed without closing the wildcard; these limits make it slow (docs/names.md says how slow).
 */
#pragma once

#include <stdbool.h>

#include "agentd/abi.h"
#include "agentd/util/macro.h"

enum {
        /* New names under wildcards: a page that spreads over shards asks for tens of names at once, not for hundreds
         * a second for long. */
        LIMIT_WILDCARD_RATE = 50,
        LIMIT_WILDCARD_BURST = 200,
        /* A and AAAA of one name, and a retransmission, are one name. */
        LIMIT_WILDCARD_SAME_MS = 2000,
        /* Host names that people or deployment tools choose are short and repeat letters; base32 of a payload is
         * neither. 24 characters: below that, the entropy of a sample says little. */
        LIMIT_LABEL_LENGTH = 40,
        LIMIT_WILDCARD_NAME_LENGTH = 128, /* many short labels carry as much as a few long ones */
        LIMIT_ENTROPY_LABEL_LENGTH = 24,
        LIMIT_ENTROPY_CENTIBITS = 420,

        LIMIT_IN_FLIGHT = 512,        /* look-ups of one agent that wait for upstream or for the monitor */
        LIMIT_WAITERS = 2048,         /* queries of one agent that wait for those */
        LIMIT_TCP_CLIENTS = 64,       /* connections of one agent */
        LIMIT_TCP_IDLE_MS = 10000,    /* RFC 7766 asks for seconds */
        LIMIT_TCP_QUEUE = 256 * 1024, /* bytes that a client does not read */
        LIMIT_LOOKUP_MS = 10000,      /* then SERVFAIL: longer than any stub waits for one server */
        LIMIT_REPORTS_RATE = 2000,    /* MESSAGE_REFUSED of one agent a second; more are counted, not sent */
        LIMIT_REPORTS_BURST = 4000,
        LIMIT_CACHE_ENTRIES = 16384,   /* of one agent: A and AAAA of all names that it can have learned */
        LIMIT_CACHE_BYTES = 16 << 20,  /* of one agent */
        LIMIT_CACHE_TOTAL = 256 << 20, /* of all agents */
        LIMIT_REFRESHES = 128,         /* of exact domains, at once: a reload of thousands must not delay look-ups */
        LIMIT_CNAME_CHAIN = 16,
        LIMIT_WITHHELD = 32, /* of one answer, that are reported one by one */
        LIMIT_POLICY_TEXT = 64 << 20,
};

/* A token bucket. Time is passed in. */
struct limit_bucket {
        __u64 tokens_milli;
        __u64 updated_ms;
        bool started;
};

bool limit_bucket_take(struct limit_bucket *bucket, __u32 rate, __u32 burst, __u64 now_ms);

/* A rate that people configure: the generic cell rate algorithm, as the kernel's buckets have it. */
struct limit_rate {
        __u64 arrival_ns; /* when the bucket is full again */
};

/* burst at once (at least 1), then one in each interval_ns (0: no limit). A changed rate holds at once. */
bool limit_rate_take(struct limit_rate *rate, __u64 interval_ns, __u32 burst, __u64 now_ns);

enum { LIMIT_RECENT = 256 };

/* New names under wildcards, of one agent. */
struct limit_wildcard {
        struct limit_bucket bucket;
        struct {
                __u64 hash;
                __u64 until_ms;
        } recent[LIMIT_RECENT];
};

/* False: too many new names. */
bool limit_wildcard_take(struct limit_wildcard *limit, const char *name, __u64 now_ms);

/* False: the name is long, or a label looks like a payload (length or entropy). name is canonical. */
bool limit_labels_are_plain(const char *name);
