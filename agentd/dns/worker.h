/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The DNS worker's main function: listens for the agents' look-ups, resolves allowed names, asks the monitor to learn,
 * answers after it has said yes. Runs without privileges: own uid, empty root, no new privileges, seccomp allow list.
 */
#pragma once

/* fd: the monitor's socket. Returns the process's exit status when the monitor is gone or tells it to end. */
int dns_worker_main(int fd);
