/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A worker as a process: made, waited for, ended. Which one it is, its role says: the hidden verb of agentd.
 */
#pragma once

#include <sys/types.h>

/*
 * Executes `program ROLE` with one end of a socketpair as descriptor 3, stderr, and nothing else; it dies with
 * the calling thread. 0 or -errno.
 */
int process_start(const char *program, const char *role, pid_t *ret_pid, int *ret_fd);

/* Kills and reaps; returns waitpid()'s status (what it died of, if it was dead already). */
int process_end(pid_t pid);
