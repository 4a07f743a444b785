/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The command of `agentd run`: born in its cgroup, held until enforcement stands, then executed.
 */
#pragma once

#include <sys/types.h>

struct run_child {
        pid_t pid;
        int gate_fd;  /* write end: one byte lets it execute */
        int error_fd; /* read end: an errno when it could not execute; end of file when it did */
};

struct run_user; /* from run_user_find() */

/* user: NULL to stay who we are. 0; -ENOENT: no such user. *ret: to be freed. */
int run_user_find(const char *user, struct run_user **ret);
void run_user_free(struct run_user *user);

/* Forks; the child enters the cgroup, then waits at the gate. 0 or -errno. */
int run_child_start(int cgroup_fd, const struct run_user *user, char *const argv[], struct run_child *ret);
/* Opens the gate. 0: it executes; -errno: why it could not. */
int run_child_release(struct run_child *child);
void run_child_clear(struct run_child *child);
