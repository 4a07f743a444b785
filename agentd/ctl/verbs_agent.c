/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Verbs about agents.
 */
#include <string.h>

#include "agentd/ctl/client.h"
#include "agentd/ctl/print.h"
#include "agentd/event/text.h"

enum { DEFAULT_WAIT_MS = 10000, GRACE_MS = 5000 };

/* A state as people read it: "enforcing (verified 3s ago)". */
static void add_state(struct table *table, const json_t *agent)
{
        const json_t *verified = json_object_get(agent, "verified_s");
        const char *state = json_text(agent, "state"), *detail = json_text(agent, "detail");
        char duration[PRINT_TEXT_MAX];

        if (!strcmp(state, "enforcing") && json_is_integer(verified))
                table_cell(table, "enforcing (verified %s ago)%s%s",
                           print_duration(json_integer_value(verified), duration), detail[0] ? "; " : "", detail);
        else if (detail[0] != '\0')
                table_cell(table, "%s: %s", state, detail);
        else
                table_cell(table, "%s", state);
}

static void add_names(struct table *table, const json_t *agent)
{
        const json_t *names = json_object_get(agent, "names");
        json_int_t resolved = json_number(names, "resolved"), failed = json_number(names, "failed");
        json_int_t all = resolved + failed + json_number(names, "pending");

        if (all == 0)
                table_cell(table, "%s", "");
        else if (failed > 0)
                table_cell(table, "names %lld/%lld (%lld failed)", (long long)resolved, (long long)all,
                           (long long)failed);
        else
                table_cell(table, "names %lld/%lld", (long long)resolved, (long long)all);
}

static void print_agent_lines(const json_t *agents)
{
        struct table table;
        const json_t *agent;
        size_t i;

        table_begin(&table, 7);
        json_array_foreach(agents, i, agent)
        {
                table_cell(&table, "%s", json_text(agent, "name"));
                table_cell(&table, "%s", json_text(agent, "mode"));
                table_cell(&table, "%s", json_text(agent, "policy"));
                if (json_is_integer(json_object_get(agent, "generation")))
                        table_cell(&table, "gen %lld", (long long)json_number(agent, "generation"));
                else
                        table_cell(&table, "-");
                add_state(&table, agent);
                table_tiers(&table, agent);
                add_names(&table, agent);
        }
        table_print(&table, stdout);
        table_clear(&table);
}

static void print_daemon(const json_t *status)
{
        const json_t *tier, *events = json_object_get(status, "events"), *dns = json_object_get(status, "dns");
        const json_t *guard;
        const json_t *state = json_object_get(status, "state");
        json_int_t lost = json_number(events, "lost_ring") + json_number(events, "lost_sink");
        char uptime[PRINT_TEXT_MAX];
        struct table table;
        size_t i;

        table_begin(&table, 2);
        table_cell(&table, "daemon");
        table_cell(&table, "agentd %s, pid %lld, up %s, generation %lld", json_text(status, "version"),
                   (long long)json_number(status, "pid"), print_duration(json_number(status, "uptime_s"), uptime),
                   (long long)json_number(status, "generation"));
        table_cell(&table, "kernel");
        table_cell(&table, "%s", json_text(status, "kernel"));
        table_cell(&table, "config");
        table_cell(&table, "%s", json_text(status, "config"));
        if (json_is_object(state)) {
                const char *error = json_text(state, "error");

                table_cell(&table, "state");
                table_cell(&table, "%s%s%s", json_text(state, "directory"), error[0] ? ": " : "", error);
        }
        if (json_is_object(dns)) {
                table_cell(&table, "names");
                table_cell(&table, "worker pid %lld, %lld restarts", (long long)json_number(dns, "pid"),
                           (long long)json_number(dns, "restarts"));
        }
        table_cell(&table, "events");
        table_cell(&table, "%s: %lld, %lld lost", json_text(events, "target"), (long long)json_number(events, "total"),
                   (long long)lost);
        json_array_foreach(json_object_get(status, "tiers"), i, tier)
        {
                bool present = json_is_true(json_object_get(tier, "present"));
                const char *detail = json_text(tier, "detail");

                table_cell(&table, "tier %lld", (long long)json_number(tier, "tier"));
                table_cell(&table, "%s: %s%s%s%s", json_text(tier, "name"), present ? "present" : "absent",
                           detail[0] ? " (" : "", detail, detail[0] ? ")" : "");
        }
        guard = json_object_get(status, "guard");
        table_guards(&table, guard, false);
        if (json_array_size(json_object_get(guard, "parents")) > 0) {
                table_cell(&table, "guard");
                table_cell(&table, "%lld packets denied", (long long)json_number(guard, "denied"));
        }
        table_print(&table, stdout);
        table_clear(&table);
}

static int print_status(const struct ctl_arguments *arguments, bool judge)
{
        const json_t *problem;
        json_t *status;
        size_t i;
        int r;

        r = client_ask(arguments, "status", NULL, CLIENT_TIMEOUT_MS, &status);
        if (r != CTL_OK)
                return r;
        if (arguments->json) {
                r = print_json(status);
        } else {
                const json_t *agents = json_object_get(status, "agents");

                print_daemon(status);
                json_array_foreach(json_object_get(status, "problems"), i, problem)
                {
                        fputs("problem: ", stdout);
                        print_safe(stdout, json_string_value(problem) ? json_string_value(problem) : "");
                        fputc('\n', stdout);
                }
                fputc('\n', stdout);
                print_agent_lines(agents);
                if (json_array_size(agents) == 0)
                        puts("no agents");
                r = print_end();
        }
        if (r == CTL_OK && judge && !json_is_true(json_object_get(status, "healthy")))
                r = CTL_FAILED;
        json_decref(status);
        return r;
}

int ctl_status(const struct ctl_arguments *arguments)
{
        return print_status(arguments, false);
}

int ctl_health(const struct ctl_arguments *arguments)
{
        return print_status(arguments, true);
}

static void add_traffic(struct table *table, const json_t *allowed, const char *direction)
{
        const json_t *traffic = json_object_get(allowed, direction);
        char size[PRINT_TEXT_MAX];

        table_cell(table, "%lld pkt, %s", (long long)json_number(traffic, "packets"),
                   print_size(json_number(traffic, "bytes"), size));
}

static void add_reasons(struct table *table, const json_t *counted)
{
        struct text_writer writer;
        const json_t *count;
        const char *reason;
        char text[512];

        text_begin(&writer, text, sizeof(text));
        text_addf(&writer, "%lld", (long long)json_number(counted, "total"));
        json_object_foreach((json_t *)json_object_get(counted, "by_reason"), reason, count)
                text_addf(&writer, " %s=%lld", reason, (long long)json_integer_value(count));
        table_cell(table, "%s", text);
}

int ctl_agents(const struct ctl_arguments *arguments)
{
        static const char *const titles[] = {"AGENT", "MODE", "POLICY", "STATE", "OUT", "IN", "DENIED"};
        const json_t *agent, *agents;
        struct table table;
        json_t *result;
        size_t i;
        int r;

        r = client_ask(arguments, "agents", NULL, CLIENT_TIMEOUT_MS, &result);
        if (r != CTL_OK)
                return r;
        agents = json_object_get(result, "agents");
        if (arguments->json) {
                r = print_json(result);
                json_decref(result);
                return r;
        }

        table_begin(&table, ARRAY_SIZE(titles));
        for (i = 0; i < ARRAY_SIZE(titles); i++)
                table_cell(&table, "%s", titles[i]);
        json_array_foreach(agents, i, agent)
        {
                const json_t *counters = json_object_get(agent, "counters");
                const json_t *allowed = json_object_get(counters, "allowed");
                const json_t *would = json_object_get(counters, "would_deny");

                table_cell(&table, "%s", json_text(agent, "name"));
                table_cell(&table, "%s", json_text(agent, "mode"));
                table_cell(&table, "%s", json_text(agent, "policy"));
                table_cell(&table, "%s", json_text(agent, "state"));
                if (!json_is_object(counters)) {
                        for (int column = 0; column < 3; column++)
                                table_cell(&table, "-");
                        continue;
                }
                add_traffic(&table, allowed, "egress");
                add_traffic(&table, allowed, "ingress");
                /* What audit mode would have denied stands in the place of what was denied. */
                add_reasons(&table, json_number(would, "total") > 0 && !strcmp(json_text(agent, "mode"), "audit")
                                            ? would
                                            : json_object_get(counters, "denied"));
        }
        table_print(&table, stdout);
        table_clear(&table);
        json_decref(result);
        return print_end();
}

/* Asks for one agent and prints its line. */
static int ask_agent(const struct ctl_arguments *arguments, const char *verb, json_t *request, unsigned long long ms)
{
        json_t *agent, *agents;
        int r;

        r = client_ask(arguments, verb, request, ms, &agent);
        if (r != CTL_OK)
                return r;
        if (arguments->json) {
                r = print_json(agent);
                json_decref(agent);
                return r;
        }
        agents = json_pack("[o]", agent);
        print_agent_lines(agents);
        json_decref(agents);
        return print_end();
}

int ctl_attach(const struct ctl_arguments *arguments)
{
        json_t *request;

        if (!arguments->cgroup || !arguments->policy) {
                ctl_error("'attach' needs --cgroup and --policy: agentctl attach NAME --cgroup PATH --policy P");
                return CTL_USAGE;
        }
        if (arguments->mode && strcmp(arguments->mode, "enforce") != 0 && strcmp(arguments->mode, "audit") != 0) {
                ctl_error("unknown mode '%s'; it is 'enforce' or 'audit'", arguments->mode);
                return CTL_USAGE;
        }
        request = json_pack("{s:s,s:s,s:s,s:s*}", "name", arguments->words[0], "cgroup", arguments->cgroup, "policy",
                            arguments->policy, "mode", arguments->mode);
        if (!request) {
                ctl_error("the arguments are not UTF-8");
                return CTL_USAGE;
        }
        return ask_agent(arguments, "attach", request, CLIENT_TIMEOUT_MS);
}

/* A verb that takes one agent's name and says in one word what it did. */
static int ask_by_name(const struct ctl_arguments *arguments, const char *verb, const char *done)
{
        json_t *request = json_pack("{s:s}", "name", arguments->words[0]), *result;
        int r;

        if (!request) {
                ctl_error("the agent's name is not UTF-8");
                return CTL_USAGE;
        }
        r = client_ask(arguments, verb, request, CLIENT_TIMEOUT_MS, &result);
        if (r != CTL_OK)
                return r;
        if (arguments->json) {
                r = print_json(result);
        } else {
                printf("%s ", done);
                print_safe(stdout, arguments->words[0]);
                fputc('\n', stdout);
                r = print_end();
        }
        json_decref(result);
        return r;
}

int ctl_detach(const struct ctl_arguments *arguments)
{
        return ask_by_name(arguments, "detach", "detached");
}

int ctl_quarantine(const struct ctl_arguments *arguments)
{
        return ask_by_name(arguments, "quarantine", "quarantined");
}

int ctl_release(const struct ctl_arguments *arguments)
{
        return ask_by_name(arguments, "release", "released");
}

int ctl_wait(const struct ctl_arguments *arguments)
{
        unsigned long long ms = DEFAULT_WAIT_MS;
        json_t *request;

        if (arguments->timeout && ctl_duration_parse(arguments->timeout, &ms) < 0) {
                ctl_error("'%s' is no duration; such as '10s', '500ms', '1m'", arguments->timeout);
                return CTL_USAGE;
        }
        request = json_pack("{s:s,s:I}", "name", arguments->words[0], "timeout_ms", (json_int_t)ms);
        if (!request) {
                ctl_error("the agent's name is not UTF-8");
                return CTL_USAGE;
        }
        return ask_agent(arguments, "wait", request, ms + GRACE_MS);
}

static void print_names(const json_t *names)
{
        static const char *const titles[] = {"NAME", "RULE", "STATE", "ADDRESS", "EXPIRES"};
        const json_t *name, *address;
        char text[PRINT_TEXT_MAX];
        struct table table;
        size_t i, j;

        table_begin(&table, ARRAY_SIZE(titles));
        for (i = 0; i < ARRAY_SIZE(titles); i++)
                table_cell(&table, "%s", titles[i]);
        json_array_foreach(names, i, name)
        {
                const json_t *addresses = json_object_get(name, "addresses");

                for (j = 0; j == 0 || j < json_array_size(addresses); j++) {
                        json_int_t seconds;

                        table_cell(&table, "%s", j == 0 ? json_text(name, "name") : "");
                        table_cell(&table, "%s", j == 0 ? json_text(name, "rule") : "");
                        table_cell(&table, "%s", j == 0 ? json_text(name, "state") : "");
                        address = json_array_get(addresses, j);
                        if (!address) {
                                table_cell(&table, "%s", json_text(name, "error")[0] ? json_text(name, "error") : "-");
                                table_cell(&table, "%s", "");
                                continue;
                        }
                        seconds = json_number(address, "expires_in_s");
                        table_cell(&table, "%s", json_text(address, "ip"));
                        if (seconds >= 0)
                                table_cell(&table, "in %s", print_duration(seconds, text));
                        else
                                table_cell(&table, "expired, kept by live flows");
                }
        }
        table_print(&table, stdout);
        table_clear(&table);
}

int ctl_dns(const struct ctl_arguments *arguments)
{
        json_t *request = json_pack("{s:s}", "agent", arguments->words[0]), *result;
        int r;

        if (!request) {
                ctl_error("the agent's name is not UTF-8");
                return CTL_USAGE;
        }
        r = client_ask(arguments, "dns", request, CLIENT_TIMEOUT_MS, &result);
        if (r != CTL_OK)
                return r;
        if (arguments->json) {
                r = print_json(result);
        } else {
                print_names(json_object_get(result, "names"));
                r = print_end();
        }
        json_decref(result);
        return r;
}
