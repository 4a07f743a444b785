/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Agents whose programs do not call this kernel: gVisor answers their system calls in a process of its own, and may
 * have a network stack of its own. Then the hooks at system calls and at sockets (tiers 1 and 2) see the sandbox's few
 * calls or nothing at all, and only the packets at the host end of its veth (tier 3) are the agent's.
 *
 * Threat: a program in an ordinary container can call itself runsc. This is told to people and decides nothing: no hook
 * is left out for an agent that looks like a sandbox.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

enum sandbox_kind {
        SANDBOX_UNKNOWN,     /* no process was seen */
        SANDBOX_NONE,        /* its processes call this kernel */
        SANDBOX_GVISOR_OWN,  /* gVisor, its own network stack */
        SANDBOX_GVISOR_HOST, /* gVisor, the host's stack: --network=host */
        SANDBOX_GVISOR_LOOP, /* gVisor, no network but its own loopback: --network=none */
};

enum { SANDBOX_PIDS_MAX = 64 }; /* looked at; a sandbox's processes are the first in its cgroup */

/* root: "" on a host; in tests a directory that has a proc. */
enum sandbox_kind sandbox_recognise(const char *root, const pid_t *pids, size_t n_pids);
const char *sandbox_runtime(enum sandbox_kind kind); /* "gvisor", "linux"; NULL: not known */
/* What that means for the tiers, one line; "" where there is nothing to say. */
const char *sandbox_detail(enum sandbox_kind kind);
