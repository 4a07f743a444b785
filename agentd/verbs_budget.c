/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Control verbs about budgets: docs/control.md says what each takes and gives. What is changed is told in an event with
 * the client's process, and is on the disk before a crash could forget it.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "agentd/daemon.h"
#include "agentd/ledger/window.h"
#include "agentd/monitor_budget.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/parse.h"

enum { BUDGETS_MAX = 4096 };

static const char *argument_text(const json_t *arguments, const char *key)
{
        return json_string_value(json_object_get(arguments, key));
}

static json_t *time_to_json(__u64 utc_s)
{
        char text[WINDOW_TEXT_MAX];

        return utc_s == WINDOW_NEVER ? json_null() : json_string(window_time_text(utc_s, text));
}

json_t *budget_to_json(struct monitor *monitor, const struct monitor_agent *agent, const struct monitor_budget *budget)
{
        const struct ledger_reading *reading = &budget->ledger->reading;
        enum budget_period period = budget->ledger->period;
        __u64 all = reading->limit + reading->granted, left = all > reading->used ? all - reading->used : 0;
        __u64 rate = ledger_usage_rate(&budget->ledger->usage), end_s = window_end(period, reading->window), time_left;
        bool ends = ledger_time_left(left, rate, monitor_budget_utc(monitor), end_s, &time_left);
        json_t *json;

        json = json_pack("{s:s,s:s,s:s?,s:s,s:s,s:b,s:s,s:I,s:I,s:I,s:I,s:f,s:o,s:o,s:I,s:o}", "agent", agent->name,
                         "scope", budget->scope, "rule", budget->rule_id, "per", budget_period_to_string(period),
                         "direction", budget_directions_to_string(budget->directions), "shared", (int)budget->shared,
                         "on_exhausted", budget->reset ? "reset" : "drop", "limit", (json_int_t)reading->limit,
                         "granted", (json_int_t)reading->granted, "used", (json_int_t)reading->used, "left",
                         (json_int_t)left, "percent",
                         all ? floor((double)reading->used * 1000 / (double)all) / 10 : 0.0, "window_start",
                         period == PERIOD_TOTAL ? json_null() : time_to_json(window_start(period, reading->window)),
                         "window_end", time_to_json(end_s), "rate", (json_int_t)rate, "time_left",
                         ends ? json_integer((json_int_t)time_left) : json_null());
        return json;
}

static int by_name(struct monitor_agent *a, struct monitor_agent *b)
{
        return strcmp(a->name, b->name);
}

static int budgets_add(struct monitor *monitor, const struct monitor_agent *agent, json_t *list)
{
        for (size_t i = 0; agent->limits && i < agent->limits->n_budgets; i++)
                if (json_array_append_new(list, budget_to_json(monitor, agent, &agent->limits->budgets[i])) < 0)
                        return -1;
        return 0;
}

void verb_budget_show(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        const char *name = argument_text(arguments, "agent");
        struct monitor_agent *agent = name ? monitor_agent_find(daemon->monitor, name) : NULL, *next;
        json_t *list;
        int r = 0;

        if (name && !agent) {
                control_error(request, 1, "no agent '%s'; see `agentctl agents`", name);
                return;
        }
        monitor_budgets_read(daemon->monitor);
        list = json_array();
        if (agent) {
                r = budgets_add(daemon->monitor, agent, list);
        } else {
                HASH_SORT(daemon->monitor->agents, by_name);
                HASH_ITER (hh, daemon->monitor->agents, agent, next)
                        r = r < 0 ? r : budgets_add(daemon->monitor, agent, list);
        }
        if (r < 0) {
                json_decref(list);
                list = NULL;
        }
        control_reply(request, list);
}

static void audit(struct daemon *daemon, struct control_request *request, const struct monitor_agent *agent,
                  const struct monitor_budget *budget, const char *what, __u64 before, __u64 after)
{
        struct event event = {.type = EVENT_AUDIT, .ip_protocol = 255, .before = before, .after = after};

        monitor_event_fill(daemon->monitor, agent, &event);
        daemon_audit_process(request, &event);
        (void)snprintf(event.scope, sizeof(event.scope), "%s", budget->scope);
        if (budget->rule_id)
                (void)snprintf(event.rule, sizeof(event.rule), "%s", budget->rule_id);
        (void)snprintf(event.detail, sizeof(event.detail),
                       "%s of %.100s: %llu bytes before, %llu now; by uid %u, pid %d", what, budget->scope,
                       (unsigned long long)before, (unsigned long long)after, (unsigned)control_uid(request),
                       (int)control_pid(request));
        event_bus_publish(daemon->bus, &event);
}

/* "the scopes are ..." of all or, scope not NULL, of those that it fits. To be freed; NULL: there are none. */
static char *scopes_text(const struct monitor_agent *agent, const char *scope)
{
        _cleanup_free_ char *text = NULL;
        size_t size = 0, n = 0;
        FILE *stream = open_memstream(&text, &size);

        if (!stream)
                return NULL;
        for (size_t i = 0; agent->limits && i < agent->limits->n_budgets; i++) {
                const char *item = agent->limits->budgets[i].scope;

                if (!scope || ledger_scope_fits(item, scope))
                        fprintf(stream, "%s'%s'", n++ > 0 ? ", " : "", item);
        }
        if (fclose(stream) != 0 || n == 0)
                return NULL;
        return TAKE_PTR(text);
}

/* The agent of the request; NULL after an error was answered. */
static struct monitor_agent *agent_asked(struct daemon *daemon, struct control_request *request,
                                         const json_t *arguments, const char *verb)
{
        const char *name = argument_text(arguments, "agent");
        struct monitor_agent *agent = name ? monitor_agent_find(daemon->monitor, name) : NULL;

        if (!name)
                control_error(request, 2, "%s needs 'agent'", verb);
        else if (!agent)
                control_error(request, 1, "no agent '%s'; see `agentctl agents`", name);
        return agent;
}

/* How many; 0 after an error was answered. ret: BUDGETS_MAX. */
static size_t budgets_asked(struct control_request *request, const struct monitor_agent *agent, const char *scope,
                            bool one, struct monitor_budget **ret)
{
        size_t n = monitor_budgets_find(agent, scope, ret, BUDGETS_MAX);
        _cleanup_free_ char *all = scopes_text(agent, NULL);
        _cleanup_free_ char *fitting = scope ? scopes_text(agent, scope) : NULL;

        if (!all)
                control_error(request, 1, "agent '%s' has no budget", agent->name);
        else if (n == 0 && !scope)
                control_error(request, 2, "the budgets of agent '%s' are shared; name one: %s", agent->name, all);
        else if (n == 0)
                control_error(request, 2, "agent '%s' has no budget '%.200s'; it has: %s", agent->name, scope, all);
        else if (one && n > 1)
                control_error(request, 2, "'%.200s' fits several budgets of agent '%s'; name one: %s", scope,
                              agent->name, fitting ? fitting : all);
        else
                return MIN(n, (size_t)BUDGETS_MAX);
        return 0;
}

/* An integer, or text such as "10MiB". */
static int bytes_asked(const json_t *argument, __u64 *ret)
{
        if (json_is_integer(argument) && json_integer_value(argument) > 0)
                *ret = (__u64)json_integer_value(argument);
        else if (!json_is_string(argument) || parse_size(json_string_value(argument), ret) < 0 || *ret == 0)
                return -1;
        return 0;
}

void verb_budget_grant(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        struct monitor *monitor = daemon->monitor;
        const char *scope = argument_text(arguments, "scope");
        struct monitor_agent *agent = agent_asked(daemon, request, arguments, "budget-grant");
        struct monitor_budget *budgets[BUDGETS_MAX], *budget;
        struct ledger_reading before;
        __u64 bytes;
        int r;

        if (!agent)
                return;
        if (!scope) {
                control_error(request, 2, "budget-grant needs 'scope'");
                return;
        }
        if (bytes_asked(json_object_get(arguments, "bytes"), &bytes) < 0) {
                control_error(request, 2, "budget-grant needs 'bytes', a size such as 10MiB");
                return;
        }
        if (budgets_asked(request, agent, scope, true, budgets) == 0)
                return;
        budget = budgets[0];
        datapath_ledgers_read(monitor->datapath, &budget->ledger->id, 1, &before);
        r = datapath_ledger_grant(monitor->datapath, budget->ledger->id, bytes);
        if (r == -ERANGE) {
                control_error(request, 2, "%llu bytes more are beyond what a budget can hold: 256 TiB",
                              (unsigned long long)bytes);
                return;
        }
        if (r < 0) {
                control_error(request, 1, "cannot grant: %s", strerror(-r));
                return;
        }
        monitor_budgets_read(monitor);
        audit(daemon, request, agent, budget, "grant", before.limit + before.granted,
              budget->ledger->reading.limit + budget->ledger->reading.granted);
        monitor_budgets_flush(monitor);
        control_reply(request, budget_to_json(monitor, agent, budget));
}

void verb_budget_reset(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        struct monitor *monitor = daemon->monitor;
        const char *scope = argument_text(arguments, "scope");
        struct monitor_agent *agent = agent_asked(daemon, request, arguments, "budget-reset");
        struct monitor_budget *budgets[BUDGETS_MAX];
        json_t *list;
        size_t n;

        if (!agent)
                return;
        n = budgets_asked(request, agent, scope, false, budgets);
        if (n == 0)
                return;
        list = json_array();
        for (size_t i = 0; i < n; i++) {
                struct monitor_ledger *ledger = budgets[i]->ledger;
                __u64 before = datapath_ledger_reset(monitor->datapath, ledger->id);

                datapath_ledgers_read(monitor->datapath, &ledger->id, 1, &ledger->reading);
                ledger->ended = false;
                monitor_budget_note(monitor, ledger, true);
                audit(daemon, request, agent, budgets[i], "reset", before, ledger->reading.used);
        }
        monitor_budgets_read(monitor);
        for (size_t i = 0; i < n; i++)
                (void)json_array_append_new(list, budget_to_json(monitor, agent, budgets[i]));
        monitor_budgets_flush(monitor);
        control_reply(request, list);
}
