/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * `on_failure: quarantine`: an agent whose probe was let through is stopped where it stands and denied everything,
 * until somebody who has looked at it says `release`. It is frozen first: a process that does not run sends nothing,
 * whatever has become of the programs that judge.
 */
#include <errno.h>
#include <string.h>

#include "agentd/monitor.h"
#include "agentd/util/log.h"

void monitor_hold(struct monitor *monitor, struct monitor_agent *agent)
{
        int r;

        if (!agent->policy || !agent->policy->policy->on_failure_quarantine || agent->frozen)
                return;
        r = cgroup_freeze(agent->cgroup_fd, true);
        if (r < 0)
                log_error_errno(r, "cannot freeze the agent '%s', it is quarantined only", agent->name);
        agent->frozen = r == 0;
        agent->quarantine = true;
        (void)monitor_publish(monitor, agent);
        monitor_sockets_destroy(monitor, agent, true);
        monitor_event(monitor, EVENT_DRIFT, agent, REASON_QUARANTINE,
                      "%squarantined until `agentctl release %.64s`: what must be denied was let through",
                      r == 0 ? "frozen and " : "", agent->name);
}

int monitor_release(struct monitor *monitor, struct monitor_agent *agent)
{
        int r = 0;

        if (!agent->quarantine)
                return 0;
        /* Its policy holds again before it runs again. */
        agent->quarantine = false;
        if (agent->frozen) {
                monitor_probe_again(agent);
                agent->frozen = false;
                (void)monitor_publish(monitor, agent);
                (void)monitor_probe_round(monitor, agent);
                if (agent->frozen) /* held again */
                        return -EREMOTEIO;
                r = cgroup_freeze(agent->cgroup_fd, false);
                agent->frozen = r < 0;
        }
        (void)monitor_publish(monitor, agent);
        return r;
}
