/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Diagnostics, policies and whole configurations as JSON, and that JSON as text.
 */
#include "agentd/policy/report.h"
#include "agentd/policy/report_limits.h"
#include "agentd/policy/report_unix.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"
#include "agentd/util/suggest.h"

/* A path need not be UTF-8, and jansson refuses what is not: what it cannot print is '?'. */
static json_t *text_json(const char *text)
{
        _cleanup_free_ char *copy = NULL;
        json_t *json;

        if (!text)
                return json_null();
        json = json_string(text);
        if (json)
                return json;
        copy = strdup(text);
        if (!copy)
                return NULL;
        for (char *c = copy; *c; c++)
                if ((unsigned char)*c >= 0x80)
                        *c = '?';
        return json_string(copy);
}

json_t *report_diagnostics_json(const struct diagnostics *diagnostics)
{
        static const char *const kinds[] = {
                [DIAGNOSTIC_ERROR] = "error",
                [DIAGNOSTIC_UNSUPPORTED] = "unsupported",
                [DIAGNOSTIC_WARNING] = "warning",
        };
        json_t *list = json_array();

        for (size_t i = 0; list && i < diagnostics->n_items; i++) {
                const struct diagnostic *item = &diagnostics->items[i];

                json_array_append_new(list, json_pack("{s:o,s:i,s:i,s:s,s:o}", "file", text_json(item->file), "line",
                                                      (int)item->line, "column", (int)item->column, "kind",
                                                      kinds[item->kind], "text", text_json(item->text)));
        }
        return list;
}

void report_diagnostics(const char *program, const struct diagnostics *diagnostics, FILE *out)
{
        for (size_t i = 0; i < diagnostics->n_items; i++) {
                const struct diagnostic *item = &diagnostics->items[i];

                fprintf(out, "%s: %s:%u:%u: %s%s\n", program, item->file, item->line, item->column,
                        item->kind == DIAGNOSTIC_WARNING ? "warning: " : "", item->text);
        }
}

static json_t *ports_json(const struct rule *rule)
{
        static const struct {
                __u8 bit;
                const char *name;
        } protocols[] = {{PROTOCOL_TCP, "tcp"}, {PROTOCOL_UDP, "udp"}};
        json_t *list = json_array();

        for (size_t i = 0; list && i < rule->n_ports; i++) {
                const struct port_range *range = &rule->ports[i];

                for (size_t j = 0; j < ARRAY_SIZE(protocols); j++) {
                        if (!(range->protocols & protocols[j].bit))
                                continue;
                        if (range->low == 0 && range->high == 65535)
                                json_array_append_new(list, json_sprintf("any/%s", protocols[j].name));
                        else if (range->low == range->high)
                                json_array_append_new(list, json_sprintf("%u/%s", range->low, protocols[j].name));
                        else
                                json_array_append_new(
                                        list, json_sprintf("%u-%u/%s", range->low, range->high, protocols[j].name));
                }
                if (range->protocols & PROTOCOL_ICMP)
                        json_array_append_new(list, json_string("icmp"));
        }
        return list;
}

static json_t *rule_json(const struct rule *rule, const char *direction)
{
        char buffer[PREFIX_TEXT_MAX];
        json_t *except = json_array();

        for (size_t i = 0; except && i < rule->n_except; i++)
                json_array_append_new(except, json_string(prefix_format(&rule->except[i], buffer)));
        return json_pack("{s:o,s:s,s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:i,s:i}", "id", text_json(rule->id), "action",
                         rule->deny ? "deny" : "allow", "direction", direction, "domain", text_json(rule->domain),
                         "cidr", rule->domain ? json_null() : json_string(prefix_format(&rule->cidr, buffer)), "except",
                         except, "ports", ports_json(rule), "budget",
                         report_budgets_json(rule->budgets, rule->n_budgets), "rate",
                         report_rate_json(&rule->rate, "connections"), "file", text_json(rule->place.file), "line",
                         (int)rule->place.line, "column", (int)rule->place.column);
}

static json_t *required_json(const struct policy *policy)
{
        json_t *required = json_array();

        if (required && (policy->required & REQUIRE_DEVICE_GUARD))
                json_array_append_new(required, json_string("device_guard"));
        if (required && (policy->required & REQUIRE_LSM))
                json_array_append_new(required, json_string("lsm"));
        return required;
}

json_t *report_policy_json(const struct config *config, const struct policy *policy)
{
        json_t *agents = json_array(), *rules = json_array();

        for (size_t i = 0; agents && config && i < config->n_agents; i++)
                if (strcmp(config->agents[i].policy, policy->name) == 0)
                        json_array_append_new(agents, text_json(config->agents[i].name));
        /* In the order in which they are asked: denies first. */
        for (int deny = 1; deny >= 0; deny--)
                for (size_t i = 0; rules && i < policy->n_rules; i++)
                        if (policy->rules[i].deny == deny)
                                json_array_append_new(rules, rule_json(&policy->rules[i], "egress"));
        for (size_t i = 0; rules && i < policy->n_ingress; i++)
                json_array_append_new(rules, rule_json(&policy->ingress[i], "ingress"));
        return json_pack(
                "{s:o,s:s,s:s,s:s,s:b,s:s,s:o,s:o,s:s,s:s,s:o,s:o,s:o,s:i,s:o,s:o}", "name", text_json(policy->name),
                "mode", policy->audit ? "audit" : "enforce", "loopback", policy->loopback_allow ? "allow" : "deny",
                "metadata", policy->metadata_allow ? "allow" : "deny", "allow_private", policy->allow_private,
                "device_guard", policy->device_guard_off ? "off" : "auto", "required", required_json(policy), "unix",
                report_unix_json(&policy->unix_rules), "existing", policy->existing_destroy ? "destroy" : "judge",
                "on_failure", policy->on_failure_quarantine ? "quarantine" : "report", "budget",
                report_budgets_json(policy->budgets, policy->n_budgets), "rate",
                report_rate_json(&policy->rate, "connections"), "file", text_json(policy->place.file), "line",
                (int)policy->place.line, "agents", agents, "rules", rules);
}

static const char *text_of(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

/* "443/tcp", "443/udp" side by side are one "443"; "any/tcp", "any/udp" are "every port". */
static void print_ports(const json_t *ports, FILE *out)
{
        const char *separator = "";

        for (size_t i = 0; i < json_array_size(ports); i++) {
                const char *port = json_string_value(json_array_get(ports, i));
                const char *next = json_string_value(json_array_get(ports, i + 1));
                size_t size = port ? strcspn(port, "/") : 0;
                bool both = port && next && strcmp(port + size, "/tcp") == 0 && strncmp(port, next, size) == 0 &&
                            strcmp(next + size, "/udp") == 0;

                if (!port)
                        continue;
                if (both && strncmp(port, "any/", 4) == 0)
                        fprintf(out, "%severy port", separator);
                else
                        fprintf(out, "%s%.*s", separator, (int)(both ? size : strlen(port)), port);
                separator = ", ";
                i += both;
        }
}

static void print_rule(const json_t *rule, FILE *out)
{
        const char *domain = text_of(rule, "domain");
        const json_t *except = json_object_get(rule, "except");

        fprintf(out, "  %-5s  %-6s  %-32s  %s", text_of(rule, "action"),
                *domain                                              ? "domain"
                : strcmp(text_of(rule, "direction"), "ingress") == 0 ? "from"
                                                                     : "cidr",
                *domain ? domain : text_of(rule, "cidr"),
                strcmp(text_of(rule, "direction"), "ingress") == 0 ? "to the agent's " : "");
        print_ports(json_object_get(rule, "ports"), out);
        for (size_t i = 0; i < json_array_size(except); i++)
                fprintf(out, "%s%s", i == 0 ? "  except " : ", ", json_string_value(json_array_get(except, i)));
        fprintf(out, "  (%s, %s:%lld)\n", text_of(rule, "id"), text_of(rule, "file"),
                (long long)json_integer_value(json_object_get(rule, "line")));
        report_limits_text(rule, "                 ", out);
}

void report_policy_text(const json_t *policy, FILE *out)
{
        const json_t *rules = json_object_get(policy, "rules"), *agents = json_object_get(policy, "agents");
        const json_t *required = json_object_get(policy, "required");
        bool audit = strcmp(text_of(policy, "mode"), "audit") == 0;

        fprintf(out, "policy %s (%s)", text_of(policy, "name"),
                audit ? "audit: what would be denied is let through and reported" : "enforce");
        if (*text_of(policy, "file"))
                fprintf(out, ", %s:%lld", text_of(policy, "file"),
                        (long long)json_integer_value(json_object_get(policy, "line")));
        fprintf(out, "\n");
        for (size_t i = 0; i < json_array_size(agents); i++)
                fprintf(out, "%s%s%s", i == 0 ? "  agents: " : ", ", json_string_value(json_array_get(agents, i)),
                        i + 1 == json_array_size(agents) ? "\n" : "");
        fprintf(out, "  loopback: %s, metadata: %s, names may resolve to private addresses: %s\n",
                text_of(policy, "loopback"), text_of(policy, "metadata"),
                json_is_true(json_object_get(policy, "allow_private")) ? "yes" : "no");
        if (strcmp(text_of(policy, "device_guard"), "off") == 0)
                fprintf(out, "  device_guard: off\n");
        for (size_t i = 0; i < json_array_size(required); i++)
                fprintf(out, "%s%s%s", i == 0 ? "  required: " : ", ", json_string_value(json_array_get(required, i)),
                        i + 1 == json_array_size(required) ? "\n" : "");
        report_unix_text(policy, "  ", out);
        report_limits_text(policy, "  ", out);
        for (size_t i = 0; i < json_array_size(rules); i++)
                print_rule(json_array_get(rules, i), out);
        fprintf(out, "  %s\n", json_array_size(rules) > 0 ? "deny   everything else" : "deny   everything");
}

static json_t *daemon_json(const struct daemon_settings *daemon)
{
        return json_pack("{s:o,s:o,s:o,s:o}", "socket", text_json(daemon->socket), "state_dir",
                         text_json(daemon->state_dir), "metrics", text_json(daemon->metrics), "events",
                         text_json(daemon->events));
}

static json_t *dns_json(const struct dns_settings *dns)
{
        static const char *const blocked[] = {
                [DNS_BLOCKED_NXDOMAIN] = "nxdomain",
                [DNS_BLOCKED_REFUSED] = "refused",
                [DNS_BLOCKED_NODATA] = "nodata",
        };
        json_t *upstreams = json_array();

        for (size_t i = 0; upstreams && i < dns->n_upstreams; i++)
                json_array_append_new(upstreams, text_json(dns->upstreams[i]));
        return json_pack("{s:o,s:b,s:i,s:i,s:i,s:s,s:o}", "upstream", upstreams, "dnssec", dns->dnssec, "min_ttl_s",
                         (int)dns->min_ttl_s, "max_ttl_s", (int)dns->max_ttl_s, "grace_s", (int)dns->grace_s, "blocked",
                         blocked[dns->blocked], "rate", report_rate_json(&dns->rate, "queries"));
}

static json_t *agent_json(const struct agent_spec *agent)
{
        return json_pack("{s:o,s:o,s:o,s:o,s:i}", "name", text_json(agent->name), "cgroup", text_json(agent->cgroup),
                         "policy", text_json(agent->policy), "file", text_json(agent->place.file), "line",
                         (int)agent->place.line);
}

/* Splits what was found into warnings and the rest. */
static void add_diagnostics(json_t *check, const struct diagnostics *diagnostics)
{
        json_t *all = report_diagnostics_json(diagnostics), *warnings = json_array(), *errors = json_array();

        for (size_t i = 0; i < json_array_size(all); i++) {
                json_t *item = json_array_get(all, i);
                bool warning = strcmp(text_of(item, "kind"), "warning") == 0;

                json_array_append(warning ? warnings : errors, item);
        }
        json_decref(all);
        json_object_set_new(check, "warnings", warnings);
        json_object_set_new(check, "errors", errors);
}

json_t *report_check_json(const char *path, const struct config *config, const struct diagnostics *diagnostics)
{
        json_t *check = json_pack("{s:b,s:o}", "valid", config && !diagnostics_have_errors(diagnostics), "file",
                                  text_json(path));
        json_t *files = json_array(), *policies = json_array(), *agents = json_array(), *guards = json_array();

        if (config) {
                for (size_t i = 0; i < config->n_guards; i++)
                        json_array_append_new(guards, text_json(config->guards[i].cgroup));
                for (size_t i = 0; i < config->n_files; i++)
                        json_array_append_new(files, text_json(config->files[i]));
                for (size_t i = 0; i < config->n_policies; i++)
                        json_array_append_new(policies, report_policy_json(config, config->policies[i]));
                for (size_t i = 0; i < config->n_agents; i++)
                        json_array_append_new(agents, agent_json(&config->agents[i]));
                json_object_set_new(check, "daemon", daemon_json(&config->daemon));
                json_object_set_new(check, "dns", dns_json(&config->dns));
        }
        json_object_set_new(check, "files", files);
        json_object_set_new(check, "policies", policies);
        json_object_set_new(check, "agents", agents);
        json_object_set_new(check, "guard", guards);
        add_diagnostics(check, diagnostics);
        return check;
}

void report_check_text(const json_t *check, FILE *out)
{
        const json_t *policies = json_object_get(check, "policies"), *agents = json_object_get(check, "agents");
        const json_t *daemon = json_object_get(check, "daemon"), *dns = json_object_get(check, "dns");
        const json_t *upstreams = json_object_get(dns, "upstream"), *guards = json_object_get(check, "guard");

        if (!json_is_true(json_object_get(check, "valid"))) {
                fprintf(out, "%s: not valid\n", text_of(check, "file"));
                return;
        }
        fprintf(out, "%s: valid; policies: %zu, agents: %zu\n", text_of(check, "file"), json_array_size(policies),
                json_array_size(agents));
        fprintf(out, "\ndaemon: socket %s, state %s, metrics %s, events %s\n", text_of(daemon, "socket"),
                text_of(daemon, "state_dir"), text_of(daemon, "metrics"), text_of(daemon, "events"));
        fprintf(out, "dns: upstream");
        for (size_t i = 0; i < json_array_size(upstreams); i++)
                fprintf(out, " %s", json_string_value(json_array_get(upstreams, i)));
        fprintf(out,
                "; dnssec %s; a learned address lives max(TTL, %llds) + %llds, at most %llds + %llds; a name that no "
                "rule allows: %s",
                json_is_true(json_object_get(dns, "dnssec")) ? "on" : "off",
                (long long)json_integer_value(json_object_get(dns, "min_ttl_s")),
                (long long)json_integer_value(json_object_get(dns, "grace_s")),
                (long long)json_integer_value(json_object_get(dns, "max_ttl_s")),
                (long long)json_integer_value(json_object_get(dns, "grace_s")), text_of(dns, "blocked"));
        if (json_is_object(json_object_get(dns, "rate"))) {
                fprintf(out, "; of each agent ");
                report_rate_text(json_object_get(dns, "rate"), "queries", "look-ups", out);
        }
        fprintf(out, "\n");
        for (size_t i = 0; i < json_array_size(guards); i++)
                fprintf(out, "guard %s: everything below it is denied from birth but what is inside an agent\n",
                        json_string_value(json_array_get(guards, i)));

        for (size_t i = 0; i < json_array_size(policies); i++) {
                fprintf(out, "\n");
                report_policy_text(json_array_get(policies, i), out);
        }
        if (json_array_size(agents) > 0)
                fprintf(out, "\n");
        for (size_t i = 0; i < json_array_size(agents); i++) {
                const json_t *agent = json_array_get(agents, i);

                fprintf(out, "agent %s: cgroup %s, policy %s\n", text_of(agent, "name"), text_of(agent, "cgroup"),
                        text_of(agent, "policy"));
        }
}

char *report_unknown_policy(const struct config *config, const char *name)
{
        _cleanup_free_ const char **names = calloc(MAX(config->n_policies, (size_t)1), sizeof(*names));
        const char *closest;
        char *text;
        int r;

        if (!names)
                return NULL;
        for (size_t i = 0; i < config->n_policies; i++)
                names[i] = config->policies[i]->name;
        closest = suggest_closest(name, names, config->n_policies);
        if (closest)
                r = asprintf(&text, "there is no policy '%s'; did you mean '%s'?", name, closest);
        else if (config->n_policies > 0)
                r = asprintf(&text, "there is no policy '%s'; the first one there is '%s'", name, names[0]);
        else
                r = asprintf(&text, "there is no policy '%s', nor any other; write one under 'policies'", name);
        return r < 0 ? NULL : text;
}

char *report_too_many_matches(const struct policy *policy, const struct prefix *prefix)
{
        char buffer[PREFIX_TEXT_MAX], *text;

        if (asprintf(&text, "policy '%s': more than %d port ranges meet at %s; write fewer rules that cover it",
                     policy->name, MATCH_LIST_MAX, prefix_format(prefix, buffer)) < 0)
                return NULL;
        return text;
}
