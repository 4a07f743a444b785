/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sd_notify(3) without libsystemd: one datagram to NOTIFY_SOCKET, nothing where there is none.
 */
#pragma once

#include <linux/types.h>

/* Never waits. 0, also when nobody is to be told; -EAGAIN: the manager's queue is full; -errno: it does not listen. */
int notify_state(const char *state);
__u64 notify_watchdog_ms(void); /* WATCHDOG_USEC of this process; 0: none */
