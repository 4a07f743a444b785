/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From the kernel's records to events with names: the agent, the policy and the rule as they were when the verdict
 * fell.
 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "agentd/event/decode.h"
#include "agentd/monitor.h"
#include "agentd/monitor_guard.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

static __u64 realtime_now(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_REALTIME, &now);
        return (__u64)now.tv_sec * NSEC_PER_SEC + (__u64)now.tv_nsec;
}

void monitor_event_fill(struct monitor *monitor, const struct monitor_agent *agent, struct event *event)
{
        event->time_ns = realtime_now();
        event->count = 1;
        if (!agent)
                return;
        memcpy(event->agent, agent->name, sizeof(event->agent));
        event->container = agent->container;
        if (agent->policy)
                (void)snprintf(event->policy, sizeof(event->policy), "%.63s", agent->policy->policy->name);
        event->generation = WORD_GENERATION(datapath_agent(monitor->datapath, agent->id)->word);
        event->audit = (monitor_word_flags(agent) & WORD_AUDIT) != 0;
        event->cgroup_id = agent->cgroup_id;
}

void monitor_event(struct monitor *monitor, enum event_type type, const struct monitor_agent *agent,
                   enum verdict_reason reason, const char *format, ...)
{
        struct event event = {.type = type, .reason = reason, .ip_protocol = 255};
        va_list arguments;

        if (monitor->verdicts_only && type == EVENT_LIFECYCLE)
                return;
        monitor_event_fill(monitor, agent, &event);
        va_start(arguments, format);
        (void)vsnprintf(event.detail, sizeof(event.detail), format, arguments);
        va_end(arguments);
        event_bus_publish(monitor->bus, &event);
}

struct consume_context {
        struct monitor *monitor;
        __s64 boot_to_real_ns;
};

static void on_verdict(void *context, const void *data, size_t size)
{
        const struct consume_context *consume = context;
        struct monitor *monitor = consume->monitor;
        const struct verdict_record *record = data;
        const struct monitor_policy *policy;
        const struct monitor_agent *agent;
        struct event event;
        const char *name;

        if (size >= sizeof(record->header) && record->header.kind == RECORD_BUDGET) {
                monitor_budget_record(monitor, data, size, consume->boot_to_real_ns);
                return;
        }
        if (size >= sizeof(record->header) && record->header.kind == RECORD_PROBE) {
                monitor_probe_record(monitor, data, size);
                return;
        }
        if (event_decode(data, size, consume->boot_to_real_ns, &event) < 0) {
                event_bus_lost(monitor->bus, "malformed", 1);
                return;
        }
        agent = record->agent_id < AGENT_MAX ? monitor->by_id[record->agent_id] : NULL;
        if (agent) {
                memcpy(event.agent, agent->name, sizeof(event.agent));
                event.container = agent->container;
                name = learned_name_for(monitor->learned, agent->id,
                                        event.direction == DIRECTION_EGRESS ? &event.destination : &event.source);
                if (name && event.direction == DIRECTION_EGRESS)
                        (void)snprintf(event.name, sizeof(event.name), "%s", name);
        }
        policy = monitor_policy_version(monitor, record->version);
        if (policy) {
                const struct rule *rule = record->rule != RULE_NONE ? policy_rule(policy->policy, record->rule) : NULL;

                (void)snprintf(event.policy, sizeof(event.policy), "%.63s", policy->policy->name);
                if (rule)
                        (void)snprintf(event.rule, sizeof(event.rule), "%s", rule->id);
        }
        event.audit = record->action == VERDICT_ALLOW;
        if (record->hook == HOOK_GUARD) {
                const char *path = monitor_guard_path_of(monitor, record->cgroup_id);

                if (path)
                        (void)snprintf(event.detail, sizeof(event.detail), "no agent: %.230s", path);
        }
        event_bus_publish(monitor->bus, &event);
}

static void on_capture(void *context, const void *data, size_t size)
{
        const struct consume_context *consume = context;

        if (size == sizeof(struct capture_record))
                monitor_capture(consume->monitor, data);
}

void monitor_events_lost(struct monitor *monitor)
{
        struct monitor_agent *agent, *next;
        __u64 lost = 0;

        HASH_ITER (hh, monitor->agents, agent, next) {
                struct agent_counters counters;

                if (datapath_counters(monitor->datapath, agent->id, &counters) < 0)
                        continue;
                if (counters.events_lost > agent->events_lost)
                        lost += counters.events_lost - agent->events_lost;
                agent->events_lost = counters.events_lost;
        }
        if (lost > 0)
                event_bus_lost(monitor->bus, "ring", lost);
}

int monitor_events_consume(struct monitor *monitor)
{
        struct consume_context consume = {.monitor = monitor};

        consume.boot_to_real_ns = (__s64)realtime_now() - (__s64)monitor_now();
        return datapath_events_consume(monitor->datapath, on_verdict, on_capture, &consume);
}
