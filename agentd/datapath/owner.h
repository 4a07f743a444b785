/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whose a socket is whose cgroup has been removed.
 */
#pragma once

#include "agentd/abi_test.h"
#include "agentd/datapath/datapath.h"

/* Asks the kernel, in the socket's namespace (-1: the caller's). OWNER_UNKNOWN when it cannot be asked. */
enum owner_answer datapath_owner(const struct datapath *datapath, int netns_fd, __u32 interface,
                                 const struct owner_question *question);
