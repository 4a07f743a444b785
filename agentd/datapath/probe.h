/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which sockets are the daemon's probes: the kernel refuses what they try, tells it in records of RECORD_PROBE, and
 * counts none of it.
 */
#pragma once

#include <stddef.h>

#include "agentd/abi.h"

struct datapath;

/* cookie: a socket's (SO_COOKIE), never used twice. */
int datapath_probe_add(struct datapath *datapath, __u64 cookie, __u32 agent_id);
void datapath_probe_remove(struct datapath *datapath, __u64 cookie);
/*
 * Lets a frame come in at a veth's host end, as if from the other end; before it returns its program has judged it, as
 * a rule. Refused, it is told of with the flow DEVICE_PROBE_COOKIE. 0; -ENETDOWN: the interface does not take it;
 * -errno.
 */
int datapath_probe_device(struct datapath *datapath, __u32 ifindex, const void *frame, size_t size);
/* The protocol by which tier 4 knows a probe's socket of FAMILY_PROBE; told of with the flow LSM_PROBE_COOKIE. */
int datapath_probe_protocol(const struct datapath *datapath);
/* A former daemon's: its sockets have died with it. */
int datapath_probes_clear(struct datapath *datapath);
