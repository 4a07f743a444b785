/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An event as users see it (interface.md section 4), before it is text.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "agentd/abi.h"
#include "agentd/agent/container.h"
#include "agentd/net/addr.h"

enum event_type {
        EVENT_DENY,
        EVENT_WOULD_DENY,
        EVENT_DNS,
        EVENT_BUDGET,
        EVENT_LEARN,
        EVENT_DRIFT,
        EVENT_LIFECYCLE,
        EVENT_AUDIT,
        EVENT_TYPE_MAX,
};

/* Fixed size, no pointers: it is copied into queues. Unused fields are zero. */
struct event {
        enum event_type type;
        __u64 time_ns;  /* CLOCK_REALTIME */
        __u64 sequence; /* set by the bus */
        char agent[AGENT_NAME_MAX];
        char policy[AGENT_NAME_MAX];
        struct container container; /* of the agent; without an id: none */
        __u32 generation;
        bool audit;                 /* mode */
        enum verdict_reason reason; /* REASON_NONE prints null */
        enum hook hook;
        char rule[AGENT_NAME_MAX + 16]; /* "" prints null */
        enum direction direction;
        __u8 ip_protocol; /* IPPROTO_*; 255 prints null */
        bool has_source, has_destination;
        struct address source, destination;
        __u16 source_port, destination_port;
        __u8 family;      /* AF_* of a socket that has no addresses of ours; 0: not said */
        __u8 path_length; /* of a Unix socket's address; 0: no path */
        char path[112];   /* as the kernel has it: an abstract one begins with a NUL; NULs are printed as '@' */
        char name[NAME_MAX_BYTES]; /* dst.name; "" is left out */
        __u32 pid, tid, uid;       /* pid 0: process prints null */
        char comm[COMM_MAX];
        char exe[256];
        __u64 cgroup_id;
        __u64 flow;
        __u64 bytes;
        __u64 count;
        __u64 lost_before;
        /* Of a budget: of type budget, and of type audit when somebody changed one. scope "": none. */
        char scope[160];
        __u64 used, limit;   /* limit: this window's grants included */
        __u64 before, after; /* audit: what was changed */
        __u8 percent;        /* budget: 80, 100 */
        __u64 window_end_s;  /* UTC; UINT64_MAX prints null */
        char detail[256];    /* lifecycle, audit, drift, dns: a sentence; "" is left out */
};

/* A new reference. Never NULL but for lack of memory. Strings that are not UTF-8 are escaped, not refused. */
json_t *event_to_json(const struct event *event);
/* One line without a newline, to be freed; NULL: no memory. */
char *event_to_line(const struct event *event);
/* The same into a buffer of EVENT_LINE_MAX bytes, without allocating. Returns the length. */
enum { EVENT_LINE_MAX = 8192 };
size_t event_format_line(const struct event *event, char *buffer);
/* One human line: what a person at a terminal wants to see. To be freed. */
char *event_to_text(const struct event *event);
/* The same from an event's JSON, as a client of the control socket has it. Anything may stand in it. */
char *event_json_to_text(const json_t *json);
const char *event_type_to_string(enum event_type type);
int event_type_from_string(const char *text); /* or -EINVAL */
