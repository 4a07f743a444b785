/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Control verbs about the configuration: docs/control.md says what each takes and gives.
 */
#include <errno.h>
#include <string.h>

#include "agentd/daemon.h"
#include "agentd/monitor_budget.h"
#include "agentd/policy/report.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

static const char *argument_text(const json_t *arguments, const char *key)
{
        return json_string_value(json_object_get(arguments, key));
}

void verb_reload(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        struct monitor_error error = {};
        json_t *errors = NULL, *result = NULL;

        daemon_audit(daemon, request, NULL, "reload");
        (void)event_bus_reopen(daemon->bus);
        if (daemon_reload(daemon, &error, &errors, &result) == 0)
                control_reply(request, result);
        else if (errors)
                control_error_list(request, error.exit_status, errors, "%s", error.text);
        else
                control_error(request, error.exit_status ? error.exit_status : 1, "%s", error.text);
}

static size_t agents_of(struct daemon *daemon, const char *policy, json_t *names)
{
        struct monitor_agent *agent, *next;
        size_t n = 0;

        HASH_ITER (hh, daemon->monitor->agents, agent, next) {
                if (!agent->policy || strcmp(agent->policy->policy->name, policy) != 0)
                        continue;
                n++;
                if (names)
                        (void)json_array_append_new(names, json_string(agent->name));
        }
        return n;
}

void verb_policy_list(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        const struct config *config = daemon->monitor->config->config;
        json_t *policies = json_array();

        for (size_t i = 0; i < config->n_policies; i++) {
                const struct policy *policy = config->policies[i];
                size_t denies = 0;

                for (size_t k = 0; k < policy->n_rules; k++)
                        denies += policy->rules[k].deny;
                (void)json_array_append_new(
                        policies,
                        json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:s,s:i}", "name", policy->name, "mode",
                                  policy->audit ? "audit" : "enforce", "rules", (json_int_t)(policy->n_rules - denies),
                                  "denies", (json_int_t)denies, "ingress", (json_int_t)policy->n_ingress, "agents",
                                  (json_int_t)agents_of(daemon, policy->name, NULL), "file",
                                  policy->place.file ? policy->place.file : "", "line", (int)policy->place.line));
        }
        control_reply(request, json_pack("{s:o}", "policies", policies));
}

/* NULL after an error was answered. */
static const struct policy *policy_argument(struct daemon *daemon, struct control_request *request,
                                            const json_t *arguments)
{
        const char *name = argument_text(arguments, "policy");
        const struct policy *policy = name ? config_find_policy(daemon->monitor->config->config, name) : NULL;

        if (!name)
                control_error(request, 2, "'policy' is missing");
        else if (!policy)
                control_error(request, 2, "no policy '%s'; see `agentctl policy list`", name);
        return policy;
}

void verb_policy_show(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        const struct policy *policy = policy_argument(daemon, request, arguments);
        json_t *result, *names;

        if (!policy)
                return;
        result = report_policy_json(daemon->monitor->config->config, policy);
        names = json_array();
        (void)agents_of(daemon, policy->name, names);
        (void)json_object_set_new(result, "agents", names);
        control_reply(request, result);
}

/* The file of the request: opened by us for root only, else the text that the client has read. NULL after an error. */
static struct config *config_argument(struct control_request *request, const json_t *arguments, json_t **ret_warnings)
{
        const char *path = argument_text(arguments, "path"), *text = argument_text(arguments, "text");
        struct diagnostics diagnostics = {};
        struct config *config = NULL;
        json_t *places;
        int r, status;

        if (!path || path[0] != '/') {
                control_error(request, 2, "'path' must be an absolute path");
                return NULL;
        }
        if (control_uid(request) == 0 && !text) {
                r = config_load(path, &diagnostics, &config);
        } else if (text) {
                r = config_load_buffer(path, text, strlen(text), &diagnostics, &config);
        } else {
                control_error(request, 2, "'text' is missing: the daemon opens files for root only");
                return NULL;
        }
        status = diagnostics_exit_status(&diagnostics);
        places = report_diagnostics_json(&diagnostics);
        diagnostics_clear(&diagnostics);
        if (r < 0) {
                control_error_list(request, status ? status : 1, places, "'%s' is not valid", path);
                return NULL;
        }
        if (ret_warnings)
                *ret_warnings = places;
        else
                json_decref(places);
        return config;
}

void verb_policy_validate(void *context, struct control_request *request, const json_t *arguments)
{
        json_t *warnings = NULL;
        struct config *config = config_argument(request, arguments, &warnings);

        if (!config)
                return;
        control_reply(request, json_pack("{s:b,s:I,s:I,s:o}", "valid", 1, "policies", (json_int_t)config->n_policies,
                                         "agents", (json_int_t)config->n_agents, "warnings", warnings));
        config_free(config);
}

void verb_policy_diff(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        struct config *config = config_argument(request, arguments, NULL);

        if (!config)
                return;
        control_reply(request, json_pack("{s:o}", "changes", monitor_diff(daemon->monitor, config)));
        config_free(config);
}

void verb_policy_test(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        const struct policy *policy = policy_argument(daemon, request, arguments);
        const json_t *list = json_object_get(arguments, "destinations");
        struct monitor_policy *enforced = policy ? monitor_policy_find(daemon->monitor, policy->name) : NULL;
        size_t n = json_array_size(list);
        _cleanup_free_ char **destinations = NULL;
        _cleanup_free_ char *error = NULL;
        json_t *result = NULL;
        int r;

        if (!policy)
                return;
        if (!enforced || n == 0) {
                control_error(request, 2, "'destinations' must name at least one");
                return;
        }
        destinations = calloc(n, sizeof(*destinations));
        if (!destinations) {
                control_error(request, 1, "out of memory");
                return;
        }
        for (size_t i = 0; i < n; i++) {
                destinations[i] = (char *)json_string_value(json_array_get(list, i));
                if (!destinations[i]) {
                        control_error(request, 2, "'destinations' must be an array of strings");
                        return;
                }
        }
        r = report_policy_test_json(enforced->compiled, destinations, n, &result, &error);
        if (r < 0)
                control_error(request, r == -EINVAL ? 2 : 1, "%s", error ? error : strerror(-r));
        else
                control_reply(request, result);
}

/* What the agent has learned about the address in question, as the kernel has it. */
struct explain_context {
        struct daemon *daemon;
        const struct monitor_agent *agent;
        struct match_list *list; /* of the last address; freed by the verb */
};

static struct explain_learned explain_learned_find(void *context, const struct address *address)
{
        struct explain_context *explain = context;
        struct explain_learned found = {};
        const char *names[LEARNED_NAMES_PER_ADDRESS_MAX];
        size_t n =
                learned_names(explain->daemon->monitor->learned, explain->agent->id, address, names, ARRAY_SIZE(names));

        free(explain->list);
        explain->list = NULL;
        if (n == 0 || compiled_policy_learned_list(explain->agent->policy->compiled, address, names,
                                                   MIN(n, ARRAY_SIZE(names)), &explain->list) < 0)
                return found;
        found.found = true;
        found.expires_ns = learned_expires(explain->daemon->monitor->learned, explain->agent->id, address);
        found.list = explain->list;
        return found;
}

static bool explain_ledger_find(void *context, const struct rule *rule, const struct budget *item,
                                struct explain_ledger *ret)
{
        const struct explain_context *explain = context;
        const struct monitor_budget *budget = monitor_budget_for(explain->agent, rule, item);
        struct ledger_reading reading = {};

        if (!budget)
                return false;
        datapath_ledgers_read(explain->daemon->monitor->datapath, &budget->ledger->id, 1, &reading);
        *ret = (struct explain_ledger){
                .scope = budget->scope, .used = reading.used, .limit = reading.limit + reading.granted};
        return true;
}

void verb_explain(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        const char *name = argument_text(arguments, "agent"), *text = argument_text(arguments, "destination");
        struct explain_context explain = {.daemon = daemon};
        struct report_learned learned = {};
        struct explain_input input = {};
        struct destination destination = {};
        _cleanup_free_ char *error = NULL;
        json_t *result;
        __u64 expires_ns;

        explain.agent = name ? monitor_agent_find(daemon->monitor, name) : NULL;
        if (!text || !explain.agent) {
                control_error(request, text && name ? 1 : 2,
                              text && name ? "no agent '%s'; see `agentctl agents`"
                                           : "explain needs 'agent' and 'destination'%s",
                              text && name ? name : "");
                return;
        }
        if (!explain.agent->policy) {
                control_error(request, 1, "agent '%s': %s", name, explain.agent->detail);
                return;
        }
        if (destination_parse(text, &destination, &error) < 0) {
                control_error(request, 2, "%s", error ? error : "not a destination");
                return;
        }

        input.compiled = explain.agent->policy->compiled;
        input.word_flags = monitor_word_flags(explain.agent);
        input.learned = explain_learned_find;
        input.learned_context = &explain;
        input.ledger = explain_ledger_find;
        input.ledger_context = &explain;
        input.now_ns = monitor_now();
        if (!destination.name && destination.prefix.length == 128) {
                learned.name =
                        learned_name_for(daemon->monitor->learned, explain.agent->id, &destination.prefix.address);
                expires_ns = learned_expires(daemon->monitor->learned, explain.agent->id, &destination.prefix.address);
                learned.expires_in_s = expires_ns > input.now_ns ? (expires_ns - input.now_ns) / NSEC_PER_SEC : 0;
        }
        result = report_explain_json(&input, &destination, text, learned.name ? &learned : NULL);
        if (result)
                (void)json_object_set_new(result, "agent", json_string(name));
        destination_clear(&destination);
        free(explain.list);
        if (result)
                control_reply(request, result);
        else
                control_error(request, 1, "out of memory");
}
