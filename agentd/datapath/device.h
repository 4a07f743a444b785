/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tier 3 in the kernel: the program at the ingress of a veth's host end, and what it knows about it.
 *
 * tcx links (6.6) are pinned as links/ID/device-IFINDEX, adopted and updated in place like those of cgroups. Before 6.6
 * it is a clsact filter, which outlives the daemon by itself; the pin then holds its program, and says that there is
 * one. Interfaces are of the namespace that the process is in.
 */
#pragma once

#include "agentd/abi_device.h"
#include "agentd/datapath/datapath.h"

/* Does this kernel have tcx? Asked once. */
bool datapath_device_tcx(struct datapath *datapath);
/* What the program goes by, from the next frame on. device->ifindex and ->agent_id name it. Before _attach(): a program
 * that knows nothing drops everything. -ENOSPC: too many devices; -EEXIST: it is another agent's. */
int datapath_device_set(struct datapath *datapath, const struct device *device);
/* Before any other program there. Does nothing where it holds already. */
int datapath_device_attach(struct datapath *datapath, __u32 ifindex);
/* What was set last, by a former daemon too. -ENOENT: nothing. */
int datapath_device_get(struct datapath *datapath, __u32 ifindex, struct device *ret);
/* 0, or -ENOENT: the program is not there, or not ours, or goes by something else than was set. */
int datapath_device_verify(struct datapath *datapath, __u32 ifindex);
void datapath_device_remove(struct datapath *datapath, __u32 ifindex);
/* Those of an agent, former daemons' included. Returns how many there are; writes at most capacity. */
size_t datapath_devices_of(struct datapath *datapath, __u32 agent_id, __u32 *ret, size_t capacity);
