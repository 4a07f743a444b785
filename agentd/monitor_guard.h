/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The guarded parents of the configuration (`guard:`): found as they appear, attached, compared, told.
 *
 * Only the daemon has them, not `agentd run`. A guard without its cgroup waits for it: the directories on the way are
 * watched, and a tick each second is the net under that. Guards hold without the daemon; one that the configuration has
 * no more ends when that configuration is made current.
 */
#pragma once

#include "agentd/monitor.h"

struct monitor_guard {
        struct monitor_guard *next;
        char *path;      /* canonical */
        __u64 cgroup_id; /* 0: waits for its cgroup */
        bool broken;
        bool wanted; /* by the configuration that is being made current */
        bool fresh;  /* made for it */
        char detail[160];
        __u64 verified_ns; /* CLOCK_BOOTTIME; 0: never */
};

/* The paths can be guarded: below the mount, not its root, and what keeps the host within reach is in none of them.
 * Changes nothing. */
int monitor_guards_check(struct monitor *monitor, const struct config *config, struct monitor_error *error);
/*
 * A configuration is made current: its guards hold when prepare returns 0, beside those of before; when it fails
 * nothing has changed. Before agents are looked for, and after they are adopted. Then commit, when the new agents are
 * attached: guards that the configuration has no more end. Or cancel: those that prepare has made end.
 */
int monitor_guards_prepare(struct monitor *monitor, const struct config *config, struct monitor_error *error);
void monitor_guards_commit(struct monitor *monitor);
void monitor_guards_cancel(struct monitor *monitor);
void monitor_guards_tick(struct monitor *monitor, __u64 now_ns);
void monitor_guards_free(struct monitor *monitor); /* the kernel's side stays */
const struct monitor_guard *monitor_guards(const struct monitor *monitor);
/* The path of a cgroup that a guard has refused, or NULL. Valid until the next call. */
const char *monitor_guard_path_of(struct monitor *monitor, __u64 cgroup_id);
/* The process lives below a guard, and in namespaces of its own: a container. Also when that cannot be known. */
bool monitor_guards_hold(struct monitor *monitor, pid_t pid);

/* Between the two files: tells the place. Returns r. */
int monitor_guard_error(struct monitor_error *error, const struct guard_spec *spec, int exit_status, int r,
                        const char *text);
