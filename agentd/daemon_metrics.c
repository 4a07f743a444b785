/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the metrics process serves: Prometheus' page and the health object, made here because only the monitor reads the
 * kernel's tables. docs/metrics.md is the list for users.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "agentd/daemon.h"
#include "agentd/datapath/guard.h"
#include "agentd/monitor_budget.h"
#include "agentd/monitor_guard.h"
#include "agentd/util/log.h"
#include "agentd/util/macro.h"
#include "agentd/version.h"

static const char *const dns_outcomes[DNS_OUTCOME_MAX] = {
        [DNS_OUTCOME_ANSWERED] = "answered", [DNS_OUTCOME_CACHED] = "cached", [DNS_OUTCOME_REFUSED] = "refused",
        [DNS_OUTCOME_WITHHELD] = "withheld", [DNS_OUTCOME_FAILED] = "failed", [DNS_OUTCOME_MALFORMED] = "malformed",
        [DNS_OUTCOME_RATE] = "rate",
};

static void add_daemon(struct page *page, struct daemon *daemon)
{
        page_family(page, "agentd_build_info", PAGE_GAUGE, "The running daemon; always 1.");
        page_count(page, "agentd_build_info", 1, "version", AGENTD_VERSION, NULL);
        page_family(page, "agentd_agents", PAGE_GAUGE, "Agents that are attached.");
        page_count(page, "agentd_agents", HASH_COUNT(daemon->monitor->agents), NULL);
        page_family(page, "agentd_policy_generation", PAGE_GAUGE, "Rises with every change of what is enforced.");
        page_count(page, "agentd_policy_generation", datapath_generation(daemon->monitor->datapath), NULL);
        page_family(page, "agentd_reloads_total", PAGE_COUNTER, "Reloads of the configuration since the start.");
        page_count(page, "agentd_reloads_total", daemon->reloads_ok, "result", "ok", NULL);
        page_count(page, "agentd_reloads_total", daemon->reloads_failed, "result", "failed", NULL);
        page_family(page, "agentd_dns_worker_restarts_total", PAGE_COUNTER,
                    "How often the process that answers look-ups had to be started again.");
        page_count(page, "agentd_dns_worker_restarts_total", dns_supervisor_restarts(daemon->monitor->dns), NULL);
        page_family(page, "agentd_guard_denied_total", PAGE_COUNTER,
                    "Packets and system calls that guarded parents have denied.");
        page_count(page, "agentd_guard_denied_total", datapath_guard_denied(daemon->monitor->datapath), NULL);
}

static void add_drift(struct page *page, const struct monitor *monitor)
{
        static const char *const whats[DRIFT_MAX] = {
                [DRIFT_LINK] = "link",   [DRIFT_ENTRY] = "entry", [DRIFT_DEVICE] = "device",
                [DRIFT_GUARD] = "guard", [DRIFT_PROBE] = "probe", [DRIFT_REQUIREMENT] = "requirement",
        };

        page_family(page, "agentd_drift_total", PAGE_COUNTER,
                    "What was found changed behind the daemon's back; probe: one was let through.");
        for (size_t i = 0; i < DRIFT_MAX; i++)
                page_count(page, "agentd_drift_total", monitor->drift[i], "what", whats[i], NULL);
}

static void add_tables(struct page *page, struct daemon *daemon)
{
        struct learned_statistics learned = {};
        struct datapath_usage usage[8];
        size_t n = datapath_usage(daemon->monitor->datapath, usage, ARRAY_SIZE(usage));

        learned_statistics(daemon->monitor->learned, &learned);
        page_family(page, "agentd_learned_addresses", PAGE_GAUGE, "Addresses that agents have learned by name.");
        page_count(page, "agentd_learned_addresses", learned.addresses, NULL);
        page_family(page, "agentd_map_entries", PAGE_GAUGE, "Entries of a kernel table.");
        for (size_t i = 0; i < n; i++)
                page_count(page, "agentd_map_entries", usage[i].entries, "map", usage[i].map, NULL);
        page_count(page, "agentd_map_entries", HASH_COUNT(daemon->monitor->agents), "map", "agents", NULL);
        page_family(page, "agentd_map_capacity", PAGE_GAUGE, "Entries that a kernel table can hold.");
        for (size_t i = 0; i < n; i++)
                page_count(page, "agentd_map_capacity", usage[i].capacity, "map", usage[i].map, NULL);
        page_count(page, "agentd_map_capacity", AGENT_MAX - 1, "map", "agents", NULL);
}

static void add_events(struct page *page, const struct event_bus *bus)
{
        struct event_statistics events = {};

        event_bus_statistics(bus, &events);
        page_family(page, "agentd_events_total", PAGE_COUNTER, "Events since the start, repeats included.");
        for (size_t i = 0; i < EVENT_TYPE_MAX; i++)
                page_count(page, "agentd_events_total", events.total[i], "type",
                           event_type_to_string((enum event_type)i), NULL);
        page_family(page, "agentd_events_lost_total", PAGE_COUNTER,
                    "Events that were not delivered; the kernel's counters of denials are exact all the same.");
        page_count(page, "agentd_events_lost_total", events.lost_ring, "where", "ring", NULL);
        page_count(page, "agentd_events_lost_total", events.lost_sink, "where", "sink", NULL);
        page_count(page, "agentd_events_lost_total", events.lost_subscribers, "where", "subscribers", NULL);
}

static void add_durations(struct page *page, const struct message_durations *durations)
{
        static const __u64 bounds_us[] = DNS_DURATION_BOUNDS_US;
        __u64 sum = 0;
        char bound[32];

        page_family(page, "agentd_dns_duration_seconds", PAGE_HISTOGRAM,
                    "From an agent's look-up to its answer, since the process that answers began.");
        for (size_t i = 0; i < DNS_DURATION_BUCKETS; i++) {
                sum += durations->counts[i];
                if (i < ARRAY_SIZE(bounds_us))
                        (void)snprintf(bound, sizeof(bound), "%g", (double)bounds_us[i] / 1e6);
                else
                        (void)snprintf(bound, sizeof(bound), "+Inf");
                page_count(page, "agentd_dns_duration_seconds_bucket", sum, "le", bound, NULL);
        }
        page_number(page, "agentd_dns_duration_seconds_sum", (double)durations->sum_ns / 1e9, NULL);
        page_count(page, "agentd_dns_duration_seconds_count", sum, NULL);
}

/* One family after the other, as the format wants it: each is a walk over all agents. */
static void add_agents(struct page *page, struct daemon *daemon)
{
        struct monitor_agent *agent, *next;
        __u64 packets[2], bytes[2];

        page_family(
                page, "agentd_verdicts_total", PAGE_COUNTER,
                "Verdicts of the kernel: packets let through (allow), and what was denied, or would be in audit mode.");
        HASH_ITER (hh, daemon->monitor->agents, agent, next) {
                struct agent_counters counters = {};

                (void)datapath_counters(daemon->monitor->datapath, agent->id, &counters);
                if (datapath_traffic(daemon->monitor->datapath, agent->id, packets, bytes) == 0)
                        page_count(page, "agentd_verdicts_total", packets[0] + packets[1], "agent", agent->name,
                                   "verdict", "allow", "reason", "", NULL);
                for (size_t i = 0; i < REASON_MAX; i++) {
                        const char *reason = verdict_reason_to_string((enum verdict_reason)i);

                        if (counters.denied[i])
                                page_count(page, "agentd_verdicts_total", counters.denied[i], "agent", agent->name,
                                           "verdict", "deny", "reason", reason, NULL);
                        if (counters.would_deny[i])
                                page_count(page, "agentd_verdicts_total", counters.would_deny[i], "agent", agent->name,
                                           "verdict", "would_deny", "reason", reason, NULL);
                }
        }
        page_family(page, "agentd_bytes_total", PAGE_COUNTER, "IP bytes that were let through.");
        HASH_ITER (hh, daemon->monitor->agents, agent, next) {
                if (datapath_traffic(daemon->monitor->datapath, agent->id, packets, bytes) < 0)
                        continue;
                page_count(page, "agentd_bytes_total", bytes[DIRECTION_EGRESS], "agent", agent->name, "direction",
                           "egress", NULL);
                page_count(page, "agentd_bytes_total", bytes[DIRECTION_INGRESS], "agent", agent->name, "direction",
                           "ingress", NULL);
        }
        page_family(page, "agentd_dns_queries_total", PAGE_COUNTER, "Look-ups of agents, by what became of them.");
        HASH_ITER (hh, daemon->monitor->agents, agent, next)
                for (size_t i = 0; i < DNS_OUTCOME_MAX; i++)
                        if (dns_outcomes[i] && agent->lookups[i])
                                page_count(page, "agentd_dns_queries_total", agent->lookups[i], "agent", agent->name,
                                           "outcome", dns_outcomes[i], NULL);
        page_family(page, "agentd_enforcement_verified_timestamp_seconds", PAGE_GAUGE,
                    "When probes of the agent were last refused at every tier that is claimed; 0: never.");
        HASH_ITER (hh, daemon->monitor->agents, agent, next)
                page_number(page, "agentd_enforcement_verified_timestamp_seconds",
                            (double)(agent->verified_real_ns / NSEC_PER_MSEC) / 1000, "agent", agent->name, NULL);
        page_family(page, "agentd_agent_enforcing", PAGE_GAUGE,
                    "1: enforced and verified (or frozen); 0: not shown to be, see agentctl health.");
        HASH_ITER (hh, daemon->monitor->agents, agent, next) {
                char detail[256];

                page_count(page, "agentd_agent_enforcing",
                           monitor_agent_state(agent, detail, sizeof(detail)) < MONITOR_UNVERIFIED, "agent",
                           agent->name, NULL);
        }
}

static void add_budgets(struct page *page, struct daemon *daemon)
{
        static const char *const names[] = {"agentd_budget_limit_bytes", "agentd_budget_used_bytes"};
        static const char *const helps[] = {"A budget's limit in this window, with what was granted.",
                                            "Bytes of it that are used."};
        struct monitor_agent *agent, *next;

        monitor_budgets_read(daemon->monitor);
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                page_family(page, names[i], PAGE_GAUGE, helps[i]);
                HASH_ITER (hh, daemon->monitor->agents, agent, next)
                        for (size_t j = 0; agent->limits && j < agent->limits->n_budgets; j++) {
                                const struct monitor_budget *budget = &agent->limits->budgets[j];
                                const struct ledger_reading *reading = &budget->ledger->reading;

                                page_count(page, names[i], i == 0 ? reading->limit + reading->granted : reading->used,
                                           "agent", agent->name, "scope", budget->scope, NULL);
                        }
        }
}

/* --- health ----------------------------------------------------------------------------------------------------------
 */

static json_t *component(const char *name, bool ok, const char *detail)
{
        return json_pack("{s:s,s:b,s:s}", "name", name, "ok", (int)ok, "detail", detail);
}

/* *ret_reason: why not; "" when it is. */
static bool is_ready(struct daemon *daemon, char *ret_reason, size_t size)
{
        struct agent_watch_statistics watch = {};
        struct monitor_agent *agent, *next;

        ret_reason[0] = '\0';
        HASH_ITER (hh, daemon->monitor->agents, agent, next) {
                char detail[256] = "";
                enum monitor_state state = monitor_agent_state(agent, detail, sizeof(detail));

                if (state != MONITOR_ENFORCING && state != MONITOR_FROZEN)
                        (void)snprintf(ret_reason, size, "agent '%s' is not verified: %.160s", agent->name,
                                       detail[0] ? detail : monitor_state_to_string(state));
        }
        agent_watch_statistics(daemon->watch, &watch);
        if (watch.waiting > 0)
                (void)snprintf(ret_reason, size, "%zu cgroups belong to agents and are not enforced", watch.waiting);
        for (const struct monitor_guard *guard = monitor_guards(daemon->monitor); guard; guard = guard->next)
                if (guard->broken)
                        (void)snprintf(ret_reason, size, "guard '%s': %.160s", guard->path, guard->detail);
        return ret_reason[0] == '\0';
}

static json_t *agents_summary(struct daemon *daemon, __u64 now_ns, bool *ret_ok)
{
        size_t counts[MONITOR_STATE_MAX] = {};
        struct monitor_agent *agent, *next;
        json_t *summary = json_object(), *oldest = json_null();
        __u64 oldest_s = 0;

        *ret_ok = true;
        HASH_ITER (hh, daemon->monitor->agents, agent, next) {
                char detail[256];
                enum monitor_state state = monitor_agent_state(agent, detail, sizeof(detail));

                counts[state]++;
                *ret_ok &= state < MONITOR_UNVERIFIED;
                if (agent->verified_ns)
                        oldest_s = MAX(oldest_s, (now_ns - agent->verified_ns) / NSEC_PER_SEC);
        }
        for (size_t i = 0; i < MONITOR_STATE_MAX; i++)
                (void)json_object_set_new(summary, monitor_state_to_string((enum monitor_state)i),
                                          json_integer((json_int_t)counts[i]));
        if (HASH_COUNT(daemon->monitor->agents) > 0)
                oldest = json_integer((json_int_t)oldest_s);
        return json_pack("{s:s,s:b,s:s,s:o,s:o}", "name", "agents", "ok", (int)*ret_ok, "detail", "", "states", summary,
                         "oldest_verification_s", oldest);
}

static json_t *health_to_json(struct daemon *daemon, bool ready, const char *reason)
{
        __u64 now_ns = monitor_now();
        json_t *problems = daemon_problems(daemon), *components = json_array(), *state = daemon_state_to_json(daemon);
        bool healthy = json_array_size(problems) == 0, agents_ok = true;
        struct event_statistics events = {};
        struct timespec now = {};
        char detail[160];

        (void)clock_gettime(CLOCK_REALTIME, &now);
        event_bus_statistics(daemon->bus, &events);
        (void)json_array_append_new(components, agents_summary(daemon, now_ns, &agents_ok));
        (void)snprintf(detail, sizeof(detail), "process %d, restarted %u times",
                       (int)dns_supervisor_pid(daemon->monitor->dns), dns_supervisor_restarts(daemon->monitor->dns));
        (void)json_array_append_new(components, component("dns", dns_supervisor_pid(daemon->monitor->dns) > 0, detail));
        (void)snprintf(detail, sizeof(detail), "%llu not written", (unsigned long long)events.lost_sink);
        (void)json_array_append_new(components, component("events", events.lost_sink == 0, detail));
        (void)json_array_append_new(
                components, component("state", json_is_null(state) || json_is_null(json_object_get(state, "error")),
                                      json_is_null(state) ? "" : daemon->state_directory));
        json_decref(state);
        return json_pack("{s:s,s:f,s:I,s:I,s:b,s:b,s:s,s:o,s:o,s:o}", "version", AGENTD_VERSION, "time",
                         (double)now.tv_sec + (double)now.tv_nsec / 1e9, "uptime_s",
                         (json_int_t)((now_ns - daemon->monitor->started_ns) / NSEC_PER_SEC), "generation",
                         (json_int_t)datapath_generation(daemon->monitor->datapath), "healthy", (int)healthy, "ready",
                         (int)ready, "reason", reason, "problems", problems, "components", components, "guard",
                         guards_to_json(daemon));
}

static void gather(void *context, struct metrics_answer *ret)
{
        struct daemon *daemon = context;
        json_t *health;

        ret->ready = is_ready(daemon, ret->reason, sizeof(ret->reason));
        add_daemon(&ret->metrics, daemon);
        add_agents(&ret->metrics, daemon);
        add_budgets(&ret->metrics, daemon);
        add_durations(&ret->metrics, &daemon->monitor->durations);
        add_tables(&ret->metrics, daemon);
        add_events(&ret->metrics, daemon->bus);
        add_drift(&ret->metrics, daemon->monitor);

        health = health_to_json(daemon, ret->ready, ret->reason);
        ret->health.text = json_dumps(health, JSON_COMPACT);
        json_decref(health);
        ret->health.failed = !ret->health.text;
        ret->health.used = ret->health.text ? strlen(ret->health.text) : 0;
}

int daemon_metrics_start(struct daemon *daemon, const struct config *config)
{
        const struct metrics_settings settings = {
                .address = config->daemon.metrics,
                .certificate = config->daemon.metrics_tls.certificate,
                .key = config->daemon.metrics_tls.key,
                .client_ca = config->daemon.metrics_tls.client_ca,
                .token = config->daemon.metrics_token,
        };

        if (strcmp(settings.address, "off") == 0)
                return 0;
        return metrics_link_new(&daemon->loop, "/proc/self/exe", &settings, gather, daemon, &daemon->metrics);
}
