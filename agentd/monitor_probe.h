/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Verified, not asserted: every few seconds, and before attach returns, each agent's cgroup is asked to send what its
 * policy denies.
 *
 * A probe proves a hook when two things agree: the system call was refused, and the kernel's record says that our
 * program refused it, for this agent, on this socket, as it must. Refused without a record is no proof; let through is
 * an alarm. What cannot be tried is not verified, and what was not verified for MONITOR_PROBE_STALE_MS is said so.
 */
#pragma once

#include "agentd/agent/prober.h"
#include "agentd/monitor.h"

enum {
        MONITOR_PROBE_MS = 3000, /* between two probes of an agent */
        MONITOR_PROBE_STALE_MS = 10000,
        MONITOR_PROBE_TICK_MS = 100,     /* each takes its share of the agents */
        MONITOR_PROBE_SHARE_MS = 10,     /* and no more of this time than so much */
        MONITOR_PROBE_OPEN_MS = 300,     /* how long a child may take in an agent's cgroup */
        MONITOR_REWRITE_MS = 5000,       /* rules are not written again sooner because a probe was let through */
        MONITOR_PROBE_FAMILY_MS = 30000, /* between two tries of tier 4, each of which is a child in the cgroup */
        MONITOR_PROBE_TIERS = 5,         /* index 0 is not used */
};

/* What the kernel has said of one try. */
struct monitor_testimony {
        __u64 cookie;
        enum hook hook;
        struct address destination;
        bool heard, foreign; /* foreign: it was judged as another agent's */
        bool would;          /* it would have been let through */
        bool answered;       /* what came back was judged */
};

struct monitor_probe {
        struct probe_sockets sockets;
        bool open;
        __u64 retry_ns; /* not opened again before */
        __u64 retry_step_ns;
        __u64 due_ns;
        __u64 family_due_ns;
        bool family_failed;
        __u64 began_ns;
        __u64 tier_ns[MONITOR_PROBE_TIERS]; /* when this tier was last proven; 0: never */
        bool nothing;                       /* its policy leaves nothing that could be refused */
        bool passed;                        /* the last probe was let through: an alarm stands */
        bool silent;      /* of the last frame that was put in at a veth's host end nothing was heard */
        bool frozen;      /* by whomever: nothing of it can run, and nothing was opened */
        char detail[160]; /* why the last one proved nothing, or what was let through */
        struct monitor_testimony testimony;
        __u8 seed[16];
};

struct monitor_prober {
        struct monitor *monitor;
        int netns_fd;
        int netns_error;
        __u64 netns_cookie;
        uv_timer_t timer;
        __u32 next_id;
        __u64 passed; /* alarms so far */
};
