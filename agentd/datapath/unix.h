/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which Unix sockets are denied, in the kernel's table: a policy's own under its version, the defaults once for all.
 */
#pragma once

#include "agentd/datapath/datapath.h"
#include "agentd/policy/unix.h"

/* Under a version that nobody uses yet. All or nothing. 0; -ENOSPC; -errno. */
int datapath_unix_add(struct datapath *datapath, __u32 version, const struct unix_rules *rules);
void datapath_unix_remove(struct datapath *datapath, __u32 version, const struct unix_rules *rules);
/* Entries of versions that this daemon has not added. When all agents are published. */
int datapath_unix_sweep(struct datapath *datapath);
