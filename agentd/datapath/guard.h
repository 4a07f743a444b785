/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Guarded parents: cgroups below which everything is denied that is not inside an agent. Links are pinned under
 * guards/CGROUP_ID/HOOK, and hold without the daemon.
 *
 * Which cgroups are agents is known to the kernel by a table that datapath_attach() and datapath_detach() keep: the
 * agent's own links hold before it is entered, and it is taken out before they go.
 */
#pragma once

#include "agentd/datapath/datapath.h"

enum { DATAPATH_GUARDS_MAX = 64 };

/* Returns when all its hooks hold; makes good what is missing of a guard that is there. cgroup_fd: a v2 directory. */
int datapath_guard_add(struct datapath *datapath, int cgroup_fd, __u64 cgroup_id);
/* Ends it: what lives below and is no agent is free. */
int datapath_guard_remove(struct datapath *datapath, __u64 cgroup_id);
/* Do its links hold, with our programs, and are they pinned? 0; -ENOENT. */
int datapath_guard_verify(const struct datapath *datapath, __u64 cgroup_id);
/* The cgroups that are guarded. Returns how many; at most capacity are written. */
size_t datapath_guards(const struct datapath *datapath, __u64 *ret_ids, size_t capacity);
/* Packets that guards have refused. Exact. */
__u64 datapath_guard_denied(const struct datapath *datapath);
