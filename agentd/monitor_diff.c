/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What differs between two configurations: for a reload, which leaves alone what is equal, and for people.
 */
#include "agentd/monitor.h"

#include <stdio.h>
#include <string.h>

#include "agentd/policy/limits.h"
#include "agentd/policy/unix.h"
#include "agentd/util/cleanup.h"

static bool text_equal(const char *a, const char *b)
{
        return a == b || (a && b && strcmp(a, b) == 0);
}

/* But for its limits. */
static bool rule_equal(const struct rule *a, const struct rule *b)
{
        if (!text_equal(a->id, b->id) || a->deny != b->deny || !text_equal(a->domain, b->domain) ||
            a->n_except != b->n_except || a->n_ports != b->n_ports)
                return false;
        if (!a->domain && (a->cidr.length != b->cidr.length ||
                           memcmp(&a->cidr.address, &b->cidr.address, sizeof(a->cidr.address)) != 0))
                return false;
        for (size_t i = 0; i < a->n_except; i++)
                if (a->except[i].length != b->except[i].length ||
                    memcmp(&a->except[i].address, &b->except[i].address, sizeof(a->except[i].address)) != 0)
                        return false;
        for (size_t i = 0; i < a->n_ports; i++)
                if (a->ports[i].low != b->ports[i].low || a->ports[i].high != b->ports[i].high ||
                    a->ports[i].protocols != b->ports[i].protocols)
                        return false;
        return true;
}

static bool policy_rules_equal(const struct policy *a, const struct policy *b)
{
        if (a->n_rules != b->n_rules || a->n_ingress != b->n_ingress)
                return false;
        for (size_t i = 0; i < a->n_rules; i++)
                if (!rule_equal(&a->rules[i], &b->rules[i]) || !rule_limits_equal(&a->rules[i], &b->rules[i]))
                        return false;
        for (size_t i = 0; i < a->n_ingress; i++)
                if (!rule_equal(&a->ingress[i], &b->ingress[i]))
                        return false;
        return true;
}

bool monitor_policy_equal(const struct policy *a, const struct policy *b)
{
        return a->audit == b->audit && a->loopback_allow == b->loopback_allow &&
               a->metadata_allow == b->metadata_allow && a->allow_private == b->allow_private &&
               a->device_guard_off == b->device_guard_off && a->required == b->required &&
               a->existing_destroy == b->existing_destroy && a->on_failure_quarantine == b->on_failure_quarantine &&
               unix_rules_equal(&a->unix_rules, &b->unix_rules) && policy_rules_equal(a, b) &&
               policy_limits_equal(a, b);
}

struct rule_changes {
        size_t added, removed, limited; /* limited: there before and now, with other limits */
};

static const struct rule *rule_find_equal(const struct rule *rules, size_t n_rules, const struct rule *rule)
{
        for (size_t i = 0; i < n_rules; i++)
                if (rule_equal(&rules[i], rule))
                        return &rules[i];
        return NULL;
}

static struct rule_changes count_rules(const struct policy *old, const struct policy *new)
{
        struct rule_changes changes = {0};

        for (size_t i = 0; i < new->n_rules; i++) {
                const struct rule *before = rule_find_equal(old->rules, old->n_rules, &new->rules[i]);

                changes.added += !before;
                changes.limited += before && !rule_limits_equal(before, &new->rules[i]);
        }
        for (size_t i = 0; i < old->n_rules; i++)
                changes.removed += !rule_find_equal(new->rules, new->n_rules, &old->rules[i]);
        for (size_t i = 0; i < new->n_ingress; i++)
                changes.added += !rule_find_equal(old->ingress, old->n_ingress, &new->ingress[i]);
        for (size_t i = 0; i < old->n_ingress; i++)
                changes.removed += !rule_find_equal(new->ingress, new->n_ingress, &old->ingress[i]);
        return changes;
}

static int change_add(json_t *changes, const char *what, const char *name, const char *change, const char *detail)
{
        return json_array_append_new(changes, json_pack("{s:s,s:s,s:s,s:s}", "what", what, "name", name, "change",
                                                        change, "detail", detail));
}

static void policy_change_add(json_t *changes, const struct policy *old, const struct policy *new)
{
        char rules[64] = "", mode[32] = "", limits[64] = "", detail[192];
        struct rule_changes count = {0};

        if (old->n_rules + new->n_rules + old->n_ingress + new->n_ingress > 4000)
                (void)snprintf(rules, sizeof(rules), ", %zu rules before, %zu now", old->n_rules + old->n_ingress,
                               new->n_rules + new->n_ingress);
        else
                count = count_rules(old, new);
        if (count.added + count.removed > 0)
                (void)snprintf(rules, sizeof(rules), ", %zu rules added, %zu removed", count.added, count.removed);
        if (old->audit != new->audit)
                (void)snprintf(mode, sizeof(mode), ", mode: %s", new->audit ? "audit" : "enforce");
        if (count.limited > 0)
                (void)snprintf(limits, sizeof(limits), ", limits of %zu rules changed", count.limited);
        (void)snprintf(detail, sizeof(detail), "%s%s%s%s", rules, mode, limits,
                       policy_limits_equal(old, new) ? "" : ", limits of the agent changed");
        (void)change_add(changes, "policy", new->name, "changed", detail[0] ? detail + 2 : "other settings changed");
}

static const struct guard_spec *guard_find(const struct config *config, const char *cgroup)
{
        for (size_t i = 0; i < config->n_guards; i++)
                if (strcmp(config->guards[i].cgroup, cgroup) == 0)
                        return &config->guards[i];
        return NULL;
}

static void guard_changes_add(json_t *changes, const struct config *old, const struct config *new)
{
        for (size_t i = 0; i < new->n_guards; i++)
                if (!guard_find(old, new->guards[i].cgroup))
                        (void)change_add(changes, "guard", new->guards[i].cgroup, "added", "");
        for (size_t i = 0; i < old->n_guards; i++)
                if (!guard_find(new, old->guards[i].cgroup))
                        (void)change_add(changes, "guard", old->guards[i].cgroup, "removed", "");
}

const struct agent_spec *monitor_agent_spec(const struct config *config, const char *name)
{
        for (size_t i = 0; i < config->n_agents; i++)
                if (strcmp(config->agents[i].name, name) == 0)
                        return &config->agents[i];
        return NULL;
}

bool monitor_dns_equal(const struct dns_settings *a, const struct dns_settings *b)
{
        if (!rate_equal(&a->rate, &b->rate) || a->n_upstreams != b->n_upstreams || a->dnssec != b->dnssec ||
            a->min_ttl_s != b->min_ttl_s || a->max_ttl_s != b->max_ttl_s || a->grace_s != b->grace_s ||
            a->blocked != b->blocked)
                return false;
        for (size_t i = 0; i < a->n_upstreams; i++)
                if (strcmp(a->upstreams[i], b->upstreams[i]) != 0)
                        return false;
        return true;
}

bool monitor_dns_as_asked(const struct dns_settings *dns)
{
        for (size_t i = 0; i < dns->n_upstreams; i++)
                if (strcmp(dns->upstreams[i], "as-asked") == 0)
                        return true;
        return false;
}

json_t *monitor_diff(struct monitor *monitor, const struct config *new)
{
        const struct config *old = monitor->config->config;
        json_t *changes = json_array();

        if (!changes)
                return NULL;
        for (size_t i = 0; i < new->n_policies; i++) {
                const struct policy *before = config_find_policy(old, new->policies[i]->name);

                if (!before)
                        (void)change_add(changes, "policy", new->policies[i]->name, "added", "");
                else if (!monitor_policy_equal(before, new->policies[i]))
                        policy_change_add(changes, before, new->policies[i]);
        }
        for (size_t i = 0; i < old->n_policies; i++)
                if (!config_find_policy(new, old->policies[i]->name))
                        (void)change_add(changes, "policy", old->policies[i]->name, "removed", "");
        for (size_t i = 0; i < new->n_agents; i++) {
                const struct agent_spec *before = monitor_agent_spec(old, new->agents[i].name);

                if (!before)
                        (void)change_add(changes, "agent", new->agents[i].name, "added", "");
                else if (strcmp(before->cgroup, new->agents[i].cgroup) != 0 ||
                         strcmp(before->policy, new->agents[i].policy) != 0)
                        (void)change_add(changes, "agent", new->agents[i].name, "changed", "");
        }
        for (size_t i = 0; i < old->n_agents; i++)
                if (!monitor_agent_spec(new, old->agents[i].name))
                        (void)change_add(changes, "agent", old->agents[i].name, "removed", "");
        guard_changes_add(changes, old, new);
        if (!monitor_dns_equal(&old->dns, &new->dns))
                (void)change_add(changes, "setting", "dns", "changed", "");
        if (!text_equal(old->daemon.events, new->daemon.events))
                (void)change_add(changes, "setting", "daemon.events", "changed", "");
        return changes;
}
