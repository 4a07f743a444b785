/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Verdicts for people: why, by which rule, and the lines that would allow it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/address_class.h"
#include "agentd/policy/judge.h"
#include "agentd/policy/report.h"
#include "agentd/policy/report_limits.h"
#include "agentd/util/cleanup.h"

enum { TEXT_MAX = 1024 };

static const char *protocol_to_string(__u8 protocol)
{
        switch (protocol) {
        case PROTOCOL_TCP:
                return "tcp";
        case PROTOCOL_UDP:
                return "udp";
        case PROTOCOL_ICMP:
                return "icmp";
        default:
                return NULL;
        }
}

static __u8 asked_protocol(const struct destination *destination)
{
        return destination->protocol ? destination->protocol : destination->has_port ? PROTOCOL_TCP : 0;
}

static json_t *ports_json(const struct port_set *ports)
{
        json_t *list = json_array();

        for (size_t i = 0; list && i < ports->n_items; i++) {
                const struct port_range *range = &ports->items[i];

                for (__u8 bit = PROTOCOL_TCP; bit <= PROTOCOL_UDP; bit <<= 1) {
                        const char *protocol = protocol_to_string(bit);

                        if (!(range->protocols & bit))
                                continue;
                        if (range->low == 0 && range->high == 65535)
                                json_array_append_new(list, json_sprintf("any/%s", protocol));
                        else if (range->low == range->high)
                                json_array_append_new(list, json_sprintf("%u/%s", range->low, protocol));
                        else
                                json_array_append_new(list,
                                                      json_sprintf("%u-%u/%s", range->low, range->high, protocol));
                }
                if (range->protocols & PROTOCOL_ICMP)
                        json_array_append_new(list, json_string("icmp"));
        }
        return list;
}

static const struct rule *verdict_rule(const struct policy *policy, const struct verdict *verdict)
{
        return verdict->rule != RULE_NONE ? policy_rule(policy, verdict->rule) : NULL;
}

/* The sentence that explains. */
static void write_detail(const struct explain_input *input, const struct destination *destination,
                         const struct judgement *judgement, const struct report_learned *learned, char *text)
{
        const struct verdict *verdict = &judgement->verdict;
        const struct policy *policy = input->compiled->policy;
        const struct rule *rule = verdict_rule(policy, verdict);
        char address[ADDRESS_TEXT_MAX];

        if (verdict->action == VERDICT_ALLOW) {
                if (rule)
                        snprintf(text, TEXT_MAX, "rule '%s' allows it", rule->id);
                else
                        snprintf(text, TEXT_MAX, "%s",
                                 address_is_loopback(&judgement->address) ? "'loopback: allow' allows it"
                                                                          : "a rule allows it");
                return;
        }
        if (verdict->action == VERDICT_REDIRECT) {
                snprintf(text, TEXT_MAX,
                         "look-ups (port 53) are answered by agentd, whichever server is asked; nothing reaches it");
                return;
        }
        switch (verdict->reason) {
        case REASON_NO_RULE:
                if (destination->has_port && destination->port == 53)
                        snprintf(text, TEXT_MAX, "port 53 is agentd's own: look-ups are answered, nothing else leaves");
                else if (judgement->udp_too)
                        snprintf(text, TEXT_MAX, "no rule allows it over TCP; port %u/udp is allowed",
                                 destination->port);
                else if (!destination->name && destination->prefix.length < 128)
                        snprintf(text, TEXT_MAX, "no rule allows %s of it",
                                 address_format(&judgement->address, address));
                else
                        snprintf(text, TEXT_MAX, "no rule allows it");
                break;
        case REASON_NAME_NOT_ALLOWED:
                snprintf(text, TEXT_MAX, "no rule allows this name; it is not even looked up");
                break;
        case REASON_DENY_RULE:
                snprintf(text, TEXT_MAX, "deny rule '%s' forbids it, and deny wins over every allow; narrow that rule",
                         rule ? rule->id : "?");
                break;
        case REASON_INGRESS:
                if (judgement->udp_too)
                        snprintf(text, TEXT_MAX, "no ingress rule lets it in over TCP; the agent's port %u/udp is open",
                                 destination->port);
                else if (destination->prefix.length < 128)
                        snprintf(text, TEXT_MAX, "no ingress rule lets %s of it in",
                                 address_format(&judgement->address, address));
                else
                        snprintf(text, TEXT_MAX, "no ingress rule lets it in");
                break;
        case REASON_METADATA:
                snprintf(text, TEXT_MAX, "a cloud metadata address; that takes 'metadata: allow' and a rule");
                break;
        case REASON_LOOPBACK:
                snprintf(text, TEXT_MAX, "the policy says 'loopback: deny'");
                break;
        case REASON_EXPIRED:
                snprintf(text, TEXT_MAX, "it was learned from '%s', and its time is over; look the name up again",
                         learned && learned->name ? learned->name : "a name");
                break;
        case REASON_QUARANTINE:
                snprintf(text, TEXT_MAX, "the agent is in quarantine; 'agentctl release AGENT' ends it");
                break;
        case REASON_NO_POLICY:
                snprintf(text, TEXT_MAX, "the agent has no policy yet");
                break;
        default:
                snprintf(text, TEXT_MAX, "%s", verdict_reason_to_string(verdict->reason));
                break;
        }
}

/* The rule as its author would write it, under `egress` or `ingress`. */
static void write_rule(const struct destination *destination, const char *indent, char *text, size_t size)
{
        char prefix[PREFIX_TEXT_MAX];
        __u8 protocol = asked_protocol(destination);
        size_t used;

        used = (size_t)snprintf(text, size, "%s- %s: %s\n", indent, destination->name ? "domain" : "cidr",
                                destination->name ? destination->name : prefix_format(&destination->prefix, prefix));
        if (destination->has_port)
                snprintf(text + used, size - used, "%s  ports: [%u/%s]\n", indent, destination->port,
                         protocol_to_string(protocol));
        else if (protocol)
                snprintf(text + used, size - used, "%s  protocol: %s\n", indent, protocol_to_string(protocol));
}

/* False: no lines of YAML would do. */
static bool write_suggestion(const struct explain_input *input, const struct destination *destination,
                             const struct judgement *judgement, char *text)
{
        const struct verdict *verdict = &judgement->verdict;
        const struct rule *rule = verdict_rule(input->compiled->policy, verdict);
        char lines[TEXT_MAX - 64], prefix[PREFIX_TEXT_MAX], hole[PREFIX_TEXT_MAX];

        if (verdict->action != VERDICT_DENY ||
            (destination->has_port && destination->port == 53 && !destination->inbound))
                return false;
        switch (verdict->reason) {
        case REASON_NO_RULE:
        case REASON_NAME_NOT_ALLOWED:
                write_rule(destination, "  ", lines, sizeof(lines));
                snprintf(text, TEXT_MAX, "egress:\n%s", lines);
                return true;
        case REASON_INGRESS:
                write_rule(destination, "  ", lines, sizeof(lines));
                snprintf(text, TEXT_MAX, "ingress:\n%s", lines);
                return true;
        case REASON_METADATA:
                write_rule(destination, "  ", lines, sizeof(lines));
                snprintf(text, TEXT_MAX, "metadata: allow\n%s:\n%s", destination->inbound ? "ingress" : "egress",
                         lines);
                return true;
        case REASON_LOOPBACK:
                snprintf(text, TEXT_MAX, "loopback: allow\n");
                return true;
        case REASON_DENY_RULE:
                if (!rule || rule->domain || destination->name || !prefix_covers(&rule->cidr, &destination->prefix) ||
                    rule->cidr.length == destination->prefix.length)
                        return false;
                snprintf(text, TEXT_MAX, "deny:\n  - cidr: %s\n    except: [%s]\n", prefix_format(&rule->cidr, prefix),
                         prefix_format(&destination->prefix, hole));
                return true;
        default:
                return false;
        }
}

static void set_text(json_t *object, const char *key, const char *text)
{
        json_t *value = text ? json_string(text) : json_null();

        json_object_set_new(object, key, value ? value : json_null());
}

static void set_number(json_t *object, const char *key, bool present, json_int_t value)
{
        json_object_set_new(object, key, present ? json_integer(value) : json_null());
}

json_t *report_explain_json(const struct explain_input *input, const struct destination *destination, const char *text,
                            const struct report_learned *learned)
{
        static const char *const actions[] = {
                [VERDICT_DENY] = "deny", [VERDICT_ALLOW] = "allow", [VERDICT_REDIRECT] = "redirect"};
        _cleanup_(judgement_clear) struct judgement judgement = {0};
        const struct policy *policy = input->compiled->policy;
        char buffer[TEXT_MAX] = "", prefix[PREFIX_TEXT_MAX];
        const struct verdict *verdict = &judgement.verdict;
        const struct rule *rule;
        json_t *explain;

        if (destination_judge(input, destination, &judgement) < 0)
                return NULL;
        explain = json_object();
        if (!explain)
                return NULL;
        rule = verdict_rule(policy, verdict);

        set_text(explain, "destination", text);
        set_text(explain, "policy", policy->name);
        set_text(explain, "mode", input->word_flags & WORD_AUDIT ? "audit" : "enforce");
        set_text(explain, "verdict", actions[verdict->action]);
        json_object_set_new(explain, "allowed", json_boolean(verdict->action == VERDICT_ALLOW));
        set_text(explain, "reason", verdict->action == VERDICT_DENY ? verdict_reason_to_string(verdict->reason) : NULL);
        set_text(explain, "address", destination->name ? NULL : prefix_format(&destination->prefix, prefix));
        set_text(explain, "name", destination->name ? destination->name : learned ? learned->name : NULL);
        set_text(explain, "direction", destination->inbound ? "ingress" : "egress");
        set_text(explain, "protocol", protocol_to_string(asked_protocol(destination)));
        set_number(explain, "port", destination->has_port, destination->port);
        json_object_set_new(explain, "ports", destination->has_port ? json_null() : ports_json(&judgement.ports));
        set_text(explain, "rule", rule ? rule->id : NULL);
        set_text(explain, "file", rule ? rule->place.file : NULL);
        set_number(explain, "line", rule, rule ? rule->place.line : 0);
        set_number(explain, "column", rule, rule ? rule->place.column : 0);
        set_number(explain, "expires_in_s", learned && learned->name, learned ? (json_int_t)learned->expires_in_s : 0);
        if (report_explain_budgets(explain, input, &judgement))
                return explain;
        write_detail(input, destination, &judgement, learned, buffer);
        set_text(explain, "detail", buffer);
        set_text(explain, "suggestion", write_suggestion(input, destination, &judgement, buffer) ? buffer : NULL);
        return explain;
}

static const char *text_of(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

void report_explain_text(const json_t *explain, FILE *out)
{
        const json_t *ports = json_object_get(explain, "ports"), *expires = json_object_get(explain, "expires_in_s");
        const char *suggestion = text_of(explain, "suggestion"), *verdict = text_of(explain, "verdict");
        bool denied = strcmp(verdict, "deny") == 0;

        fprintf(out, "%-8s  %s", verdict, text_of(explain, "destination"));
        if (denied)
                fprintf(out, "  (%s)", text_of(explain, "reason"));
        fprintf(out, "\n          %s", text_of(explain, "detail"));
        if (*text_of(explain, "rule") && *text_of(explain, "file"))
                fprintf(out, " (%s:%lld)", text_of(explain, "file"),
                        (long long)json_integer_value(json_object_get(explain, "line")));
        fprintf(out, "\n");
        for (size_t i = 0; i < json_array_size(ports); i++)
                fprintf(out, "%s%s%s", i == 0 ? "          allowed ports: " : ", ",
                        json_string_value(json_array_get(ports, i)), i + 1 == json_array_size(ports) ? "\n" : "");
        if (json_is_integer(expires))
                fprintf(out, "          learned from %s, for another %llds\n", text_of(explain, "name"),
                        (long long)json_integer_value(expires));
        report_explain_budgets_text(explain, out);
        if (denied && strcmp(text_of(explain, "mode"), "audit") == 0)
                fprintf(out, "          in audit mode it is let through and reported\n");
        if (!*suggestion)
                return;
        fprintf(out, "          policy '%s' would allow it with:\n", text_of(explain, "policy"));
        while (*suggestion) {
                size_t size = strcspn(suggestion, "\n");

                fprintf(out, "            %.*s\n", (int)size, suggestion);
                suggestion += size + (suggestion[size] == '\n');
        }
}

int report_policy_test_json(const struct compiled_policy *compiled, char *const destinations[], size_t n_destinations,
                            json_t **ret, char **ret_error)
{
        struct explain_input input = {.compiled = compiled, .word_flags = compiled->word_flags};
        json_t *test, *results;
        bool all = true;

        results = json_array();
        for (size_t i = 0; i < n_destinations; i++) {
                _cleanup_(destination_clear) struct destination destination = {0};
                json_t *explain;

                if (destination_parse(destinations[i], &destination, ret_error) < 0) {
                        json_decref(results);
                        return -EINVAL;
                }
                explain = report_explain_json(&input, &destination, destinations[i], NULL);
                if (!explain || json_array_append_new(results, explain) < 0) {
                        json_decref(results);
                        return -ENOMEM;
                }
                all = all && json_is_true(json_object_get(explain, "allowed"));
        }
        test = json_pack("{s:s,s:s,s:b,s:o}", "policy", compiled->policy->name, "mode",
                         compiled->policy->audit ? "audit" : "enforce", "allowed", all, "results", results);
        if (!test)
                return -ENOMEM;
        *ret = test;
        return 0;
}

void report_policy_test_text(const json_t *test, FILE *out)
{
        const json_t *results = json_object_get(test, "results");

        for (size_t i = 0; i < json_array_size(results); i++)
                report_explain_text(json_array_get(results, i), out);
}

static int compile_named(const struct config *config, const char *name, struct compiled_policy **ret, char **ret_error)
{
        const struct policy *policy = config_find_policy(config, name);
        struct prefix prefix = {0};
        int r;

        if (!policy) {
                *ret_error = report_unknown_policy(config, name);
                return *ret_error ? -EINVAL : -ENOMEM;
        }
        r = policy_compile(policy, &prefix, ret);
        if (r == -E2BIG) {
                *ret_error = report_too_many_matches(policy, &prefix);
                return *ret_error ? -E2BIG : -ENOMEM;
        }
        return r;
}

static void print_json(const json_t *json, FILE *out)
{
        json_dumpf(json, out, JSON_INDENT(2));
        fputc('\n', out);
}

int report_policy_test(const struct config *config, const char *policy, char *const destinations[],
                       size_t n_destinations, bool json, FILE *out, bool *ret_all_allowed, char **ret_error)
{
        struct compiled_policy *compiled = NULL;
        json_t *test = NULL;
        int r;

        r = compile_named(config, policy, &compiled, ret_error);
        if (r < 0)
                return r;
        r = report_policy_test_json(compiled, destinations, n_destinations, &test, ret_error);
        if (r == 0) {
                if (json)
                        print_json(test, out);
                else
                        report_policy_test_text(test, out);
                *ret_all_allowed = json_is_true(json_object_get(test, "allowed"));
                json_decref(test);
        }
        compiled_policy_free(compiled);
        return r;
}

int report_explain(const struct config *config, const char *policy, const char *destination, bool json, FILE *out,
                   bool *ret_allowed, char **ret_error)
{
        struct compiled_policy *compiled = NULL;
        char *const destinations[] = {(char *)destination};
        json_t *test = NULL, *explain;
        int r;

        r = compile_named(config, policy, &compiled, ret_error);
        if (r < 0)
                return r;
        r = report_policy_test_json(compiled, destinations, 1, &test, ret_error);
        if (r == 0) {
                explain = json_array_get(json_object_get(test, "results"), 0);
                if (json)
                        print_json(explain, out);
                else
                        report_explain_text(explain, out);
                *ret_allowed = json_is_true(json_object_get(explain, "allowed"));
                json_decref(test);
        }
        compiled_policy_free(compiled);
        return r;
}
