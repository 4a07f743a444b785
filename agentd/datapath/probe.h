/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which sockets are the daemon's probes: the kernel refuses what they try, tells it in records of RECORD_PROBE, and
 * counts none of it.
 */
#pragma once

#include "agentd/abi.h"

struct datapath;

/* cookie: a socket's (SO_COOKIE), never used twice. */
int datapath_probe_add(struct datapath *datapath, __u64 cookie, __u32 agent_id);
void datapath_probe_remove(struct datapath *datapath, __u64 cookie);
/* A former daemon's: its sockets have died with it. */
int datapath_probes_clear(struct datapath *datapath);
