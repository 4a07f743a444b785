/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The monitor's device guard (tier 3): the host ends of its agents' veths.
 *
 * Looked for when an agent is attached or adopted, when processes come to it, when an interface or address changes on
 * either side (rtnetlink tells), and every few seconds all the same.
 */
#pragma once

#include "agentd/agent/veth.h"
#include "agentd/datapath/device.h"
#include "agentd/monitor.h"

enum {
        MONITOR_NAMESPACES_MAX = 64, /* of one agent */
        MONITOR_DEVICES_MAX = 64,
        MONITOR_DEVICE_PAUSE_MS = 50, /* between two looks because of tidings: an agent can make as many as it likes */
        MONITOR_DEVICE_YOUNG_MS = 2000, /* after processes came: one of them may be about to enter its namespace */
        MONITOR_DEVICE_ABSENT_MS = 1500,
        MONITOR_DEVICE_LOOK_S = 30, /* and so often without any reason */
};

struct monitor_device {
        struct monitor_device *next;
        struct device entry; /* as the kernel has it */
        char name[IFNAMSIZ], host_name[IFNAMSIZ];
        bool seen, holds;
};

/* A namespace of the agent's, listened to. */
struct monitor_namespace {
        struct monitor_namespace *next;
        struct monitor_devices *devices;
        struct netns_identity identity;
        struct rtnl *changes;
        uv_poll_t poll;
        __s32 nsid; /* as the daemon's namespace numbers it; -1: not at all */
        bool seen;
};

enum monitor_devices_state {
        DEVICES_UNKNOWN = 0, /* no process yet */
        DEVICES_ABSENT,
        DEVICES_PRESENT, /* every way out is judged, or there is none */
};

struct monitor_devices {
        struct monitor *monitor;
        struct monitor_agent *agent;
        struct monitor_device *list;
        struct monitor_namespace *namespaces;
        enum monitor_devices_state state;
        char detail[200]; /* why it is absent, or not all */
        bool dirty;
        bool shared;          /* with another agent: it has none */
        bool fresh;           /* not looked at yet */
        __u64 looked_ns;      /* CLOCK_BOOTTIME */
        __u64 young_until_ns; /* look again soon, and then less and less soon */
        __u64 young_next_ns, young_step_ns;
        __u64 absent_since_ns; /* and not yet believed; 0: it is there */
};

struct monitor_device_watch {
        struct monitor *monitor;
        struct rtnl *changes; /* of the links here */
        uv_poll_t poll;
        uv_timer_t timer;
        int netns_fd;
        struct netns_identity identity;
        __u64 daemon_cgroup_id;
        unsigned depth; /* of the cgroup mount in its hierarchy */
        unsigned open;  /* handles */
};

/* monitor_device.c, for monitor_device_watch.c and the other way round. */
struct monitor_device *monitor_device_find(struct monitor_devices *devices, __u32 ifindex);
bool monitor_device_guard_is_off(const struct monitor_agent *agent);
struct monitor_namespace *monitor_namespace_find(const struct monitor_devices *devices,
                                                 const struct netns_identity *identity);
int monitor_namespace_listen(struct monitor_devices *devices, const struct netns_identity *identity, int netns_fd);
void monitor_namespace_rearm(struct monitor_namespace *namespace);
void monitor_namespaces_sweep(struct monitor_devices *devices, bool all); /* those that were not seen */
void monitor_devices_look_soon(struct monitor_devices *devices);
void monitor_devices_expect(struct monitor_devices *devices); /* processes have come */
