/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Control verbs about events and the host: docs/control.md says what each takes and gives.
 */
#include <errno.h>
#include <string.h>

#include "agentd/agent/doctor.h"
#include "agentd/daemon.h"
#include "agentd/datapath/device.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"
#include "agentd/version.h"

const struct control_verb daemon_verbs[] = {
        {"status", verb_status},
        {"health", verb_status},
        {"agents", verb_agents},
        {"attach", verb_attach},
        {"detach", verb_detach},
        {"wait", verb_wait},
        {"quarantine", verb_quarantine},
        {"release", verb_release},
        {"policy-list", verb_policy_list},
        {"policy-show", verb_policy_show},
        {"policy-validate", verb_policy_validate},
        {"policy-diff", verb_policy_diff},
        {"policy-test", verb_policy_test},
        {"explain", verb_explain},
        {"budget-show", verb_budget_show},
        {"budget-grant", verb_budget_grant},
        {"budget-reset", verb_budget_reset},
        {"events", verb_events},
        {"audit", verb_audit},
        {"reload", verb_reload},
        {"dns", verb_dns},
        {"doctor", verb_doctor},
        {"version", verb_version},
        {},
};

struct subscription {
        struct daemon *daemon;
        struct control_request *request;
        struct event_subscriber *subscriber;
};

static bool stream_event(void *context, const struct event *event, const char *line)
{
        const struct subscription *subscription = context;

        return control_stream_line(subscription->request, line);
}

static void subscription_end(void *data)
{
        struct subscription *subscription = data;

        event_bus_unsubscribe(subscription->daemon->bus, subscription->subscriber);
        free(subscription);
}

static bool gather_event(void *context, const struct event *event, const char *line)
{
        json_t *events = context;

        return json_array_append_new(events, event_to_json(event)) == 0;
}

/* 0, or -1 after an error was answered. */
static int filter_read(struct control_request *request, const json_t *arguments, struct event_filter *ret)
{
        const char *agent = json_string_value(json_object_get(arguments, "agent"));
        const char *type = json_string_value(json_object_get(arguments, "type"));
        const char *reason = json_string_value(json_object_get(arguments, "reason"));

        *ret = (struct event_filter){.type = -1, .reason = -1};
        if (agent) {
                if (strlen(agent) >= sizeof(ret->agent)) {
                        control_error(request, 2, "the agent's name is too long");
                        return -1;
                }
                memcpy(ret->agent, agent, strlen(agent) + 1);
        }
        if (type) {
                ret->type = event_type_from_string(type);
                if (ret->type < 0) {
                        control_error(request, 2,
                                      "unknown type '%s'; one of deny, would_deny, dns, budget, learn, drift, "
                                      "lifecycle, audit",
                                      type);
                        return -1;
                }
        }
        if (reason) {
                ret->reason = verdict_reason_from_string(reason);
                if (ret->reason < 0) {
                        control_error(request, 2, "unknown reason '%s'; see docs/events.md", reason);
                        return -1;
                }
        }
        ret->since_ns = (__u64)json_integer_value(json_object_get(arguments, "since_ns"));
        return 0;
}

void verb_events(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        const json_t *count = json_object_get(arguments, "n");
        size_t n = json_is_integer(count) && json_integer_value(count) >= 0 ? (size_t)json_integer_value(count) : 4096;
        struct subscription *subscription;
        struct event_filter filter;

        if (filter_read(request, arguments, &filter) < 0)
                return;
        if (!json_is_true(json_object_get(arguments, "follow"))) {
                json_t *events = json_array();

                event_bus_flush(daemon->bus);
                event_bus_history(daemon->bus, &filter, n, gather_event, events);
                control_reply(request, json_pack("{s:o}", "events", events));
                return;
        }

        subscription = calloc(1, sizeof(*subscription));
        if (!subscription) {
                control_error(request, 1, "out of memory");
                return;
        }
        subscription->daemon = daemon;
        subscription->request = request;
        if (json_is_integer(count) || filter.since_ns)
                event_bus_history(daemon->bus, &filter, n, stream_event, subscription);
        filter.since_ns = 0;
        if (event_bus_subscribe(daemon->bus, &filter, stream_event, subscription, &subscription->subscriber) < 0) {
                free(subscription);
                control_error(request, 1, "out of memory");
                return;
        }
        control_on_close(request, subscription_end, subscription);
}

void verb_doctor(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        const char *lsm_detail = "", *unix_detail = "";
        bool lsm = monitor_lsm_present(daemon->monitor, &lsm_detail);
        bool unix_hook = monitor_unix_present(daemon->monitor, &unix_detail);
        bool tcx = datapath_device_tcx(daemon->monitor->datapath);
        const struct doctor_probe probes[] = {
                {.name = "bpf", .detail = "the programs are loaded"},
                {.name = "lsm_cgroup", .result = lsm ? 0 : -EPERM, .detail = lsm ? "tried, works" : lsm_detail},
                {.name = "tcx",
                 .result = tcx ? 0 : -EOPNOTSUPP,
                 .detail = tcx ? "tier 3 (device guard) by tcx links" : "tier 3 (device guard) by clsact filters"},
                {.name = "connect_unix",
                 .result = unix_hook ? 0 : -EOPNOTSUPP,
                 .detail = unix_hook ? "the programs are loaded" : unix_detail},
        };
        struct doctor_check checks[DOCTOR_CHECKS_MAX];
        size_t n = doctor_run("", probes, ARRAY_SIZE(probes), checks, DOCTOR_CHECKS_MAX);

        control_reply(request, json_pack("{s:b,s:o,s:o,s:o}", "enforceable", (int)doctor_ok(checks, n), "checks",
                                         doctor_to_json(checks, n), "agents", agents_to_json(daemon), "guard",
                                         guards_to_json(daemon)));
}

void verb_version(void *context, struct control_request *request, const json_t *arguments)
{
        control_reply(request,
                      json_pack("{s:s,s:i,s:i}", "version", AGENTD_VERSION, "abi", AGENTD_ABI_VERSION, "protocol", 1));
}
