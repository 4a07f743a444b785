/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See the header. What is told is looked at once a second instead of from every place that changes it: a line in
 * `systemctl status` may be a second old, and no place can be forgotten.
 */
#include "agentd/daemon_notify.h"

#include <string.h>
#include <time.h>

#include "agentd/daemon.h"
#include "agentd/monitor_guard.h"
#include "agentd/monitor_probe.h"
#include "agentd/util/log.h"
#include "agentd/util/notify.h"

enum { LOOK_MS = 1000 };

/*
 * Broken and denied is enforced: without policy, limits or a required tier the kernel lets nothing through. A probe
 * that was let through is not, whatever the links look like.
 */
static bool is_open(const struct monitor_agent *agent, char *detail, size_t size)
{
        if (monitor_agent_state(agent, detail, size) != MONITOR_BROKEN)
                return false;
        return (agent->probe && agent->probe->passed) ||
               (agent->broken && agent->policy && !agent->without_limits && !agent->unmet);
}

/* What is not enforced, in words for people; false: everything is. */
static bool find_open(struct daemon *daemon, char *text, size_t size)
{
        struct agent_watch_statistics watch = {};
        struct monitor_agent *agent, *next;
        char detail[256];

        agent_watch_statistics(daemon->watch, &watch);
        if (watch.waiting > 0) {
                (void)snprintf(text, size, "%zu agents are not enforced: %.150s", watch.waiting,
                               daemon->attach_failure);
                return true;
        }
        for (const struct monitor_guard *guard = monitor_guards(daemon->monitor); guard; guard = guard->next) {
                if (guard->broken) {
                        (void)snprintf(text, size, "guard '%.80s' is not enforced: %.120s", guard->path, guard->detail);
                        return true;
                }
        }
        HASH_ITER (hh, daemon->monitor->agents, agent, next) {
                if (is_open(agent, detail, sizeof(detail))) {
                        (void)snprintf(text, size, "agent '%s' is not enforced: %.120s", agent->name, detail);
                        return true;
                }
        }
        return false;
}

static void tell_status(struct daemon_notify *notify, const char *text)
{
        char state[sizeof("STATUS=") + sizeof(notify->status)];

        if (strcmp(notify->status, text) == 0)
                return;
        (void)snprintf(notify->status, sizeof(notify->status), "%s", text);
        (void)snprintf(state, sizeof(state), "STATUS=%s", text);
        /* A line is a line: the protocol's next variable begins behind a newline. */
        for (char *c = state; *c; c++)
                if (*c == '\n')
                        *c = ' ';
        (void)notify_state(state);
}

static void look(struct daemon *daemon)
{
        struct daemon_notify *notify = &daemon->notify;
        char text[sizeof(notify->status)];
        size_t n_guards = 0;

        if (find_open(daemon, text, sizeof(text))) {
                tell_status(notify, text);
                return;
        }
        for (const struct monitor_guard *guard = monitor_guards(daemon->monitor); guard; guard = guard->next)
                n_guards += guard->cgroup_id != 0;
        (void)snprintf(text, sizeof(text), "Enforcing %u agents and %zu guards, policy generation %u",
                       HASH_COUNT(daemon->monitor->agents), n_guards, datapath_generation(daemon->monitor->datapath));
        tell_status(notify, text);
        if (notify->ready)
                return;
        /* Lost, it would be a start that times out; all else is told again or does not matter. */
        notify->ready = notify_state("READY=1") != -EAGAIN;
}

static void on_look(uv_timer_t *timer)
{
        look(timer->data);
}

static void on_watchdog(uv_timer_t *timer)
{
        (void)notify_state("WATCHDOG=1");
}

int daemon_notify_start(struct daemon *daemon)
{
        struct daemon_notify *notify = &daemon->notify;
        __u64 watchdog_ms = notify_watchdog_ms();

        (void)uv_timer_init(&daemon->loop, &notify->look);
        (void)uv_timer_init(&daemon->loop, &notify->watchdog);
        notify->look.data = daemon;
        return watchdog_ms > 0 ? uv_timer_start(&notify->watchdog, on_watchdog, watchdog_ms / 2, watchdog_ms / 2) : 0;
}

void daemon_notify_opened(struct daemon *daemon)
{
        struct daemon_notify *notify = &daemon->notify;

        look(daemon);
        if (!notify->ready)
                log_warning("not ready: %s", notify->status);
        if (uv_timer_start(&notify->look, on_look, LOOK_MS, LOOK_MS) < 0)
                log_warning("cannot tell the service manager what changes, ignoring");
}

void daemon_notify_reloading(struct daemon *daemon)
{
        struct timespec now;
        char state[64];

        if (!daemon->notify.ready)
                return;
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        (void)snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%lld",
                       (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
        (void)notify_state(state);
}

/* Also when the file was refused, or something new is not enforced yet: STATUS= says so, and nothing waits for it. */
void daemon_notify_reloaded(struct daemon *daemon)
{
        if (!daemon->notify.ready)
                return;
        look(daemon);
        (void)notify_state("READY=1");
}

void daemon_notify_stopping(void)
{
        (void)notify_state("STOPPING=1\nSTATUS=Stopping. What is enforced stays enforced.");
}
