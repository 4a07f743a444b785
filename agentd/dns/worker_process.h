/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The worker as a process: made, waited for, ended.
 */
#pragma once

#include <sys/types.h>

/*
 * Executes `program dns-worker` with one end of a socketpair as descriptor 3, stderr, and nothing else; it dies with
 * the calling thread. 0 or -errno.
 */
int worker_process_start(const char *program, pid_t *ret_pid, int *ret_fd);

/* Kills and reaps; returns waitpid()'s status (what it died of, if it was dead already). */
int worker_process_end(pid_t pid);
