/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is wrong, in sentences: `agentctl health`, /health and the watchdog's status say the same, because they ask
 * here.
 */
#include <stdarg.h>
#include <string.h>

#include "agentd/daemon.h"
#include "agentd/monitor_budget.h"
#include "agentd/monitor_guard.h"
#include "agentd/util/macro.h"

static void problem_add(json_t *problems, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void problem_add(json_t *problems, const char *format, ...)
{
        char text[320];
        va_list list;

        va_start(list, format);
        (void)vsnprintf(text, sizeof(text), format, list);
        va_end(list);
        (void)json_array_append_new(problems, json_string(text));
}

json_t *daemon_problems(struct daemon *daemon)
{
        struct event_statistics events = {};
        struct agent_watch_statistics watch = {};
        struct datapath_usage usage[8];
        struct monitor_agent *agent, *next;
        json_t *problems = json_array();
        size_t n;

        event_bus_statistics(daemon->bus, &events);
        HASH_ITER (hh, daemon->monitor->agents, agent, next) {
                char detail[256];

                if (monitor_agent_state(agent, detail, sizeof(detail)) >= MONITOR_UNVERIFIED)
                        problem_add(problems, "agent '%s': %s", agent->name, detail);
        }
        for (const struct monitor_guard *guard = monitor_guards(daemon->monitor); guard; guard = guard->next)
                if (guard->broken)
                        problem_add(problems, "guard '%s': %s", guard->path, guard->detail);
        n = datapath_usage(daemon->monitor->datapath, usage, ARRAY_SIZE(usage));
        for (size_t i = 0; i < n; i++)
                if (usage[i].entries >= usage[i].capacity / 10 * 9)
                        problem_add(problems, "the kernel's table '%s' is nearly full: %u of %u", usage[i].map,
                                    usage[i].entries, usage[i].capacity);
        agent_watch_statistics(daemon->watch, &watch);
        if (watch.waiting > 0)
                problem_add(problems, "%zu cgroups belong to agents and are not enforced; the daemon's log says why",
                            watch.waiting);
        if (watch.beyond > 0)
                problem_add(problems, "%zu cgroups or directories are beyond what is watched", watch.beyond);
        if (dns_supervisor_pid(daemon->monitor->dns) <= 0)
                problem_add(problems, "the DNS worker is not running: look-ups fail");
        if (daemon->monitor->budgets->keeper) {
                struct ledger_keeper_statistics kept = {};

                ledger_keeper_statistics(daemon->monitor->budgets->keeper, &kept);
                if (kept.text[0])
                        problem_add(problems, "budgets are not remembered: %.200s", kept.text);
        }
        if (events.lost_sink)
                problem_add(problems, "%llu events could not be written to '%s'", (unsigned long long)events.lost_sink,
                            daemon->events_target);
        if (daemon->audit_error)
                problem_add(problems, "the audit log cannot be written: %s", strerror(-daemon->audit_error));
        if (daemon->metrics && metrics_link_problem(daemon->metrics))
                problem_add(problems, "%s", metrics_link_problem(daemon->metrics));
        return problems;
}

/* Where budgets are remembered. */
json_t *daemon_state_to_json(struct daemon *daemon)
{
        struct ledger_keeper_statistics kept = {};

        if (!daemon->monitor->budgets->keeper)
                return json_null();
        ledger_keeper_statistics(daemon->monitor->budgets->keeper, &kept);
        return json_pack("{s:s,s:I,s:I,s:I,s:o}", "directory", daemon->state_directory, "written",
                         (json_int_t)kept.written, "waiting", (json_int_t)kept.waiting, "failures",
                         (json_int_t)kept.failures, "error", kept.text[0] ? json_string(kept.text) : json_null());
}
