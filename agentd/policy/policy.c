/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The model's lifetime, its look-ups, and the words that events and metrics use for the ABI's numbers.
 */
#include "agentd/policy/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/policy/limits.h"
#include "agentd/policy/unix.h"
#include "agentd/util/macro.h"

void rule_clear(struct rule *rule)
{
        free(rule->scope);
        budgets_free(rule->budgets, rule->n_budgets);
        free(rule->ports);
        free(rule->except);
        free(rule->domain);
        free(rule->id);
}

static void policy_free(struct policy *policy)
{
        if (!policy)
                return;
        for (size_t i = 0; i < policy->n_rules; i++)
                rule_clear(&policy->rules[i]);
        for (size_t i = 0; i < policy->n_ingress; i++)
                rule_clear(&policy->ingress[i]);
        budgets_free(policy->budgets, policy->n_budgets);
        unix_rules_clear(&policy->unix_rules);
        free(policy->ingress);
        free(policy->rules);
        free(policy->name);
        free(policy);
}

void config_free(struct config *config)
{
        if (!config)
                return;
        for (size_t i = 0; i < config->n_agents; i++) {
                free(config->agents[i].policy);
                free(config->agents[i].cgroup);
                free(config->agents[i].name);
        }
        free(config->agents);
        for (size_t i = 0; i < config->n_guards; i++)
                free(config->guards[i].cgroup);
        free(config->guards);
        for (size_t i = 0; i < config->n_policies; i++)
                policy_free(config->policies[i]);
        free(config->policies);
        for (size_t i = 0; i < config->dns.n_upstreams; i++)
                free(config->dns.upstreams[i]);
        free(config->dns.upstreams);
        free(config->daemon.events);
        free(config->daemon.metrics);
        free(config->daemon.metrics_tls.certificate);
        free(config->daemon.metrics_tls.key);
        free(config->daemon.metrics_tls.client_ca);
        free(config->daemon.metrics_token);
        free(config->daemon.state_dir);
        free(config->daemon.socket);
        for (size_t i = 0; i < config->n_files; i++)
                free(config->files[i]);
        free(config->files);
        free(config->path);
        free(config);
}

const struct rule *policy_rule(const struct policy *policy, size_t number)
{
        if (number < policy->n_rules)
                return &policy->rules[number];
        return number - policy->n_rules < policy->n_ingress ? &policy->ingress[number - policy->n_rules] : NULL;
}

const struct policy *config_find_policy(const struct config *config, const char *name)
{
        size_t low = 0, high = config->n_policies;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                int order = strcmp(name, config->policies[middle]->name);

                if (order == 0)
                        return config->policies[middle];
                if (order < 0)
                        high = middle;
                else
                        low = middle + 1;
        }
        return NULL;
}

static const char *const reason_names[] = {
        [REASON_NONE] = "none",
        [REASON_NO_RULE] = "no_rule",
        [REASON_DENY_RULE] = "deny_rule",
        [REASON_BUDGET_EXHAUSTED] = "budget_exhausted",
        [REASON_RATE_EXCEEDED] = "rate_exceeded",
        [REASON_PROTOCOL] = "protocol",
        [REASON_RAW_SOCKET] = "raw_socket",
        [REASON_PACKET_SOCKET] = "packet_socket",
        [REASON_METADATA] = "metadata",
        [REASON_LOOPBACK] = "loopback",
        [REASON_INGRESS] = "ingress",
        [REASON_FRAGMENT] = "fragment",
        [REASON_MALFORMED] = "malformed",
        [REASON_NAME_NOT_ALLOWED] = "name_not_allowed",
        [REASON_PRIVATE_ADDRESS] = "private_address",
        [REASON_EXPIRED] = "expired",
        [REASON_QUARANTINE] = "quarantine",
        [REASON_NO_POLICY] = "no_policy",
        [REASON_SNI_MISMATCH] = "sni_mismatch",
        [REASON_UNIX_SOCKET] = "unix_socket",
};

const char *verdict_reason_to_string(enum verdict_reason reason)
{
        if ((size_t)reason >= ARRAY_SIZE(reason_names) || !reason_names[reason])
                return "unknown";
        return reason_names[reason];
}

int verdict_reason_from_string(const char *text)
{
        for (size_t i = 0; i < ARRAY_SIZE(reason_names); i++)
                if (reason_names[i] && strcmp(text, reason_names[i]) == 0)
                        return (int)i;
        return -EINVAL;
}

const char *hook_to_string(enum hook hook)
{
        static const char *const names[HOOK_MAX] = {
                [HOOK_NONE] = "none",
                [HOOK_CONNECT4] = "connect4",
                [HOOK_CONNECT6] = "connect6",
                [HOOK_SENDMSG4] = "sendmsg4",
                [HOOK_SENDMSG6] = "sendmsg6",
                [HOOK_RECVMSG4] = "recvmsg4",
                [HOOK_RECVMSG6] = "recvmsg6",
                [HOOK_GETPEERNAME4] = "getpeername4",
                [HOOK_GETPEERNAME6] = "getpeername6",
                [HOOK_SOCK_CREATE] = "sock_create",
                [HOOK_EGRESS] = "egress",
                [HOOK_INGRESS] = "ingress",
                [HOOK_DNS] = "dns",
                [HOOK_SETSOCKOPT] = "setsockopt",
                [HOOK_DEVICE] = "device",
                [HOOK_GUARD] = "guard",
                [HOOK_CONNECT_UNIX] = "connect_unix",
                [HOOK_SOCKET_CREATE] = "socket_create",
        };

        if ((size_t)hook >= ARRAY_SIZE(names) || !names[hook])
                return "unknown";
        return names[hook];
}
