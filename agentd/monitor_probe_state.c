/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the probes have shown, as others are told it: nothing is called enforced longer than it was shown to be.
 */
#include <string.h>

#include "agentd/monitor_probe.h"
#include "agentd/util/macro.h"

enum monitor_state monitor_agent_state(const struct monitor_agent *agent, char *detail, size_t size)
{
        const struct monitor_probe *probe = agent->probe;
        __u64 now_ns = monitor_now(), since_ns;

        (void)snprintf(detail, size, "%s", agent->detail);
        if (agent->broken)
                return MONITOR_BROKEN;
        if (probe && probe->passed) {
                (void)snprintf(detail, size, "not enforced: %s", probe->detail);
                return MONITOR_BROKEN;
        }
        if (probe && probe->frozen && !probe->open) {
                (void)snprintf(detail, size, "nothing in its cgroup can run, and no probe was made");
                return MONITOR_FROZEN;
        }
        since_ns = agent->verified_ns ? agent->verified_ns : probe ? probe->began_ns : 0;
        if (now_ns - since_ns >= MONITOR_PROBE_STALE_MS * NSEC_PER_MSEC) {
                (void)snprintf(detail, size, "%s for %llus: %s", agent->verified_ns ? "not verified" : "never verified",
                               (unsigned long long)((now_ns - since_ns) / NSEC_PER_SEC),
                               !probe || !probe->detail[0] ? "no probe was sent" : probe->detail);
                return MONITOR_UNVERIFIED;
        }
        if (agent->verified_ns)
                return MONITOR_ENFORCING;
        if (probe && probe->detail[0])
                (void)snprintf(detail, size, "not verified yet: %s", probe->detail);
        return MONITOR_ATTACHING;
}

bool monitor_agent_holds(const struct monitor *monitor, const struct monitor_agent *agent)
{
        char detail[256];
        enum monitor_state state = monitor_agent_state(agent, detail, sizeof(detail));

        return state == MONITOR_ENFORCING || state == MONITOR_FROZEN ||
               (state != MONITOR_BROKEN &&
                ((agent->probe && agent->probe->nothing) || (monitor->prober && monitor->prober->netns_error < 0)));
}

const char *monitor_state_to_string(enum monitor_state state)
{
        static const char *const names[] = {
                [MONITOR_ATTACHING] = "attaching",   [MONITOR_ENFORCING] = "enforcing", [MONITOR_FROZEN] = "frozen",
                [MONITOR_UNVERIFIED] = "unverified", [MONITOR_BROKEN] = "broken",
        };

        return names[state];
}

json_t *monitor_probe_to_json(const struct monitor_agent *agent)
{
        const struct monitor_probe *probe = agent->probe;
        json_t *tiers = json_object();
        __u64 now_ns = monitor_now();

        for (int tier = 1; tier < MONITOR_PROBE_TIERS; tier++)
                (void)json_object_set_new(
                        tiers, (char[2]){(char)('0' + tier)},
                        probe && probe->tier_ns[tier]
                                ? json_integer((json_int_t)((now_ns - probe->tier_ns[tier]) / NSEC_PER_SEC))
                                : json_null());
        return json_pack("{s:b,s:o,s:o,s:s}", "passed", (int)(probe && probe->passed), "timestamp",
                         agent->verified_ns ? json_real((double)(agent->verified_real_ns / NSEC_PER_MSEC) / 1000)
                                            : json_null(),
                         "tiers_s", tiers, "detail", probe ? probe->detail : "");
}
