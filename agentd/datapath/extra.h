/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Hooks that not every kernel has: attached where they are there, told where they are not, never in the way of the
 * rest. Internal to this folder, but for datapath_extra_present().
 */
#pragma once

#include <stdbool.h>

#include "agentd/abi.h"

struct datapath;
struct datapath_error;

enum datapath_extra_kind {
        EXTRA_CONNECT_UNIX,
        EXTRA_SENDMSG_UNIX,
        EXTRA_SOCKET_CREATE, /* from here on tier 4 */
        EXTRA_LSM_CONNECT,
        EXTRA_LSM_SEND,
        EXTRA_MAX,
};

/* Is this hook there? detail: one line for people, of why it is not. */
bool datapath_extra_present(const struct datapath *datapath, enum datapath_extra_kind kind, const char **ret_detail);
/* Tier 4 was loaded, but a try has shown that it does not work: agents are attached without it from now on. */
void datapath_lsm_refuse(struct datapath *datapath, const char *detail);
/* A link of the program that judges sockets' creation, not pinned, for that try. A descriptor or -errno. */
int datapath_lsm_try(const struct datapath *datapath, int cgroup_fd);
