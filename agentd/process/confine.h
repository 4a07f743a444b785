/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a worker gives up before it reads the first byte that a stranger wrote: an agent, a name server, a scraper.
 */
#pragma once

/*
 * First thing in the process: closes every descriptor above last_fd, no core dumps, no ptrace by equals, signals of the
 * terminal ignored (the monitor decides when it ends). 0 or -errno.
 */
int confine_begin(int last_fd);

/* What is left to it: sockets of its own (it asks name servers), or those it was given and has accepted. */
enum confine_role { CONFINE_DNS, CONFINE_METRICS };

/*
 * Own user (`agentd`, else `nobody`), an empty root, no capability in any set, no new privileges, bounded memory and
 * descriptors, a seccomp allow list. All or -errno: a worker that is half confined must not run.
 */
int confine_complete(enum confine_role role);
