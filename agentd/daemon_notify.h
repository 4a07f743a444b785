/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the service manager is told of the daemon: that it is ready, what it is doing, and that its loop still turns.
 *
 * READY=1 is a promise to whoever is ordered behind agentd (container runtimes, agents.slice): each agent whose cgroup
 * is there is enforced. An agent that cannot be attached keeps it back, and STATUS= says which one and why; the manager
 * decides how long it waits (TimeoutStartSec=).
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

struct daemon;

struct daemon_notify {
        uv_timer_t look, watchdog;
        bool ready;
        char status[256]; /* as last told */
};

/* On the daemon's loop, which must turn for a sign of life: no thread of its own says that it does. 0 or -errno. */
int daemon_notify_start(struct daemon *daemon);
/* The daemon is open: READY=1 now, or as soon as everything is enforced. */
void daemon_notify_opened(struct daemon *daemon);
void daemon_notify_reloading(struct daemon *daemon);
void daemon_notify_reloaded(struct daemon *daemon);
void daemon_notify_stopping(void);
