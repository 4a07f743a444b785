/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Names to things: overlapping names, `extends`, the policies of agents; then the drafts become the model.
 *
 * What a policy inherits: the rules and denies of all it extends, each policy once, in the order in which they are
 * named; its budgets and its rate (config_limits.c); and `loopback`, `metadata` and `allow_private` where it says
 * nothing itself: where its parents differ, the stricter one. `mode` is never inherited: nothing is audited that does
 * not say so itself.
 *
 * Hostile input: chains and webs of `extends` are bounded in depth, in steps walked and in rules that come out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/policy/config_draft.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/suggest.h"

enum { STEPS_MAX = 10 * 1000 * 1000, SUGGEST_AMONG_MAX = 10000 };

/* The policies in the order of their names, then of their places: what all look-ups go through. */
struct resolver {
        struct loader *loader;
        struct draft_policy **by_name;
        size_t n_policies;
        size_t walk, steps, n_rules;
};

/* Files are read in order, and their names are pointers into one table: the earlier place is the smaller line there. */
static int place_compare(const struct place *a, const struct place *b)
{
        if (a->file != b->file)
                return strcmp(a->file, b->file);
        if (a->line != b->line)
                return a->line < b->line ? -1 : 1;
        return a->column < b->column ? -1 : a->column > b->column;
}

static int policy_compare(const void *a, const void *b)
{
        const struct draft_policy *x = *(struct draft_policy *const *)a, *y = *(struct draft_policy *const *)b;
        int order = strcmp(x->name, y->name);

        return order != 0 ? order : place_compare(&x->place, &y->place);
}

static struct draft_policy *find_policy(const struct resolver *resolver, const char *name)
{
        size_t low = 0, high = resolver->n_policies;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (strcmp(resolver->by_name[middle]->name, name) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        if (low < resolver->n_policies && strcmp(resolver->by_name[low]->name, name) == 0)
                return resolver->by_name[low];
        return NULL;
}

static void report_twice(struct loader *loader, const char *what, const char *name, const struct place *first,
                         const struct place *second)
{
        loader_report(loader, DIAGNOSTIC_ERROR, second, "duplicate %s '%s', first in %s:%u; rename one of them", what,
                      name, first->file, first->line);
}

static void report_unknown_policy(const struct resolver *resolver, const char *name, const struct place *place)
{
        _cleanup_free_ const char **names = NULL;
        size_t n = MIN(resolver->n_policies, (size_t)SUGGEST_AMONG_MAX);
        const char *closest = NULL;

        names = calloc(MAX(n, (size_t)1), sizeof(*names));
        if (names) {
                for (size_t i = 0; i < n; i++)
                        names[i] = resolver->by_name[i]->name;
                closest = suggest_closest(name, names, n);
        }
        if (closest)
                loader_report(resolver->loader, DIAGNOSTIC_ERROR, place,
                              "there is no policy '%.128s'; did you mean '%s'?", name, closest);
        else
                loader_report(resolver->loader, DIAGNOSTIC_ERROR, place,
                              "there is no policy '%.128s'; write it under 'policies'", name);
}

static void resolve_extends(struct resolver *resolver, struct draft_policy *policy)
{
        policy->parents = calloc(MAX(policy->extends.n_items, (size_t)1), sizeof(struct draft_policy *));
        if (!policy->parents) {
                resolver->loader->no_memory = true;
                policy->extends.n_items = 0;
                return;
        }
        for (size_t i = 0; i < policy->extends.n_items; i++) {
                const struct draft_reference *reference = &policy->extends.items[i];

                policy->parents[i] = find_policy(resolver, reference->name);
                if (!policy->parents[i])
                        report_unknown_policy(resolver, reference->name, &reference->place);
        }
}

/* What the policy does not say itself: the strictest of what its parents say, whose own is settled. 0 is strict. */
static void inherit(struct draft_policy *policy, size_t offset)
{
        int *own = (int *)((char *)policy + offset);

        if (*own >= 0)
                return;
        for (size_t i = 0; i < policy->extends.n_items; i++) {
                const struct draft_policy *parent = policy->parents[i];
                int said = parent ? *(const int *)((const char *)parent + offset) : -1;

                if (said >= 0)
                        *own = *own < 0 ? said : MIN(*own, said);
        }
}

/* Depth first; a policy that is met while it is being visited extends itself. Broken references are cut. */
static void settle(struct resolver *resolver, struct draft_policy *policy, unsigned level)
{
        policy->state = DRAFT_VISITING;
        for (size_t i = 0; i < policy->extends.n_items; i++) {
                struct draft_policy *parent = policy->parents[i];
                const struct draft_reference *reference = &policy->extends.items[i];

                if (!parent)
                        continue;
                if (parent->state == DRAFT_VISITING) {
                        loader_report(resolver->loader, DIAGNOSTIC_ERROR, &reference->place,
                                      parent == policy ? "'extends' cycle: policy '%s' extends itself; remove '%s' here"
                                                       : "'extends' cycle: policy '%s' extends itself by way of '%s'; "
                                                         "remove one of the two",
                                      parent->name, policy->name);
                        policy->parents[i] = NULL;
                        continue;
                }
                if (parent->state == DRAFT_NEW && level < CONFIG_EXTENDS_DEPTH_MAX)
                        settle(resolver, parent, level + 1);
                if (parent->state == DRAFT_NEW || parent->depth + 1 > CONFIG_EXTENDS_DEPTH_MAX) {
                        loader_report(resolver->loader, DIAGNOSTIC_ERROR, &reference->place,
                                      "'extends' goes deeper than %d policies; extend fewer of them in a row",
                                      CONFIG_EXTENDS_DEPTH_MAX);
                        policy->parents[i] = NULL;
                        continue;
                }
                policy->depth = MAX(policy->depth, parent->depth + 1);
        }
        inherit(policy, offsetof(struct draft_policy, loopback));
        inherit(policy, offsetof(struct draft_policy, metadata));
        inherit(policy, offsetof(struct draft_policy, allow_private));
        inherit(policy, offsetof(struct draft_policy, existing));
        inherit(policy, offsetof(struct draft_policy, on_failure));
        inherit(policy, offsetof(struct draft_policy, unix_rules.defaults));
        inherit(policy, offsetof(struct draft_policy, unix_rules.outside));
        config_settle_unix(resolver->loader, policy);
        inherit(policy, offsetof(struct draft_policy, device_guard));
        for (size_t i = 0; i < policy->extends.n_items; i++)
                policy->required |= policy->parents[i] ? policy->parents[i]->required : 0;
        config_settle_limits(resolver->loader, policy);
        policy->state = DRAFT_DONE;
}

struct rule_list {
        struct draft_rule **items;
        size_t n_items, capacity;
};

/* Inherited first. Returns false when a bound is reached (reported) or memory is out. */
static bool collect_rules(struct resolver *resolver, struct draft_policy *root, struct draft_policy *policy,
                          struct rule_list *list)
{
        struct loader *loader = resolver->loader;

        if (policy->visited == resolver->walk)
                return true;
        policy->visited = resolver->walk;
        for (size_t i = 0; i < policy->extends.n_items; i++) {
                if (++resolver->steps > STEPS_MAX) {
                        loader_report(loader, DIAGNOSTIC_ERROR, &root->place,
                                      "'extends' of all policies together takes too long; extend fewer of them");
                        return false;
                }
                if (policy->parents[i] && !collect_rules(resolver, root, policy->parents[i], list))
                        return false;
        }
        if (resolver->n_rules + policy->n_rules > CONFIG_RULES_MAX) {
                loader_report(loader, DIAGNOSTIC_ERROR, &root->place,
                              "all policies together, with what they extend, have more than %d rules; share fewer",
                              CONFIG_RULES_MAX);
                return false;
        }
        resolver->n_rules += policy->n_rules;
        for (size_t i = 0; i < policy->n_rules; i++) {
                if (!loader_reserve(loader, &list->items, list->n_items, &list->capacity, sizeof(*list->items)))
                        return false;
                list->items[list->n_items++] = &policy->rules[i];
        }
        return true;
}

static int rule_name_compare(const void *a, const void *b)
{
        const struct draft_rule *x = *(struct draft_rule *const *)a, *y = *(struct draft_rule *const *)b;
        int order = strcmp(x->rule.id, y->rule.id);

        return order != 0 ? order : place_compare(&x->name_place, &y->name_place);
}

/* Rules that end up in one policy need different names: events name them. */
static void check_rule_names(struct loader *loader, const struct rule_list *list)
{
        _cleanup_free_ struct draft_rule **named = calloc(MAX(list->n_items, (size_t)1), sizeof(*named));
        size_t n_named = 0;

        if (!named) {
                loader->no_memory = true;
                return;
        }
        for (size_t i = 0; i < list->n_items; i++)
                if (list->items[i]->name_place.line > 0)
                        named[n_named++] = list->items[i];
        qsort(named, n_named, sizeof(*named), rule_name_compare);
        for (size_t i = 1; i < n_named; i++) {
                if (strcmp(named[i - 1]->rule.id, named[i]->rule.id) != 0 || named[i]->clash_reported)
                        continue;
                named[i]->clash_reported = true;
                report_twice(loader, "rule", named[i]->rule.id, &named[i - 1]->name_place, &named[i]->name_place);
        }
}

static bool copy_rule(struct loader *loader, const struct rule *from, struct rule *to)
{
        *to = (struct rule){.deny = from->deny, .cidr = from->cidr, .place = from->place};
        to->id = loader_strdup(loader, from->id);
        if (from->domain)
                to->domain = loader_strdup(loader, from->domain);
        if (from->n_except > 0) {
                to->except = calloc(from->n_except, sizeof(*to->except));
                if (to->except) {
                        memcpy(to->except, from->except, from->n_except * sizeof(*to->except));
                        to->n_except = from->n_except;
                }
        }
        to->ports = calloc(MAX(from->n_ports, (size_t)1), sizeof(*to->ports));
        if (to->ports && from->n_ports > 0) {
                memcpy(to->ports, from->ports, from->n_ports * sizeof(*to->ports));
                to->n_ports = from->n_ports;
        }
        if (from->scope)
                to->scope = loader_strdup(loader, from->scope);
        to->rate = from->rate;
        if (budgets_copy(from->budgets, from->n_budgets, &to->budgets) == 0)
                to->n_budgets = from->n_budgets;
        if (to->n_except < from->n_except || !to->ports || to->n_budgets < from->n_budgets)
                loader->no_memory = true;
        return !loader->no_memory;
}

static void build_policy(struct resolver *resolver, const struct draft_policy *draft, const struct rule_list *list)
{
        struct loader *loader = resolver->loader;
        struct config *config = loader->config;
        struct policy *policy = calloc(1, sizeof(*policy));

        if (!policy) {
                loader->no_memory = true;
                return;
        }
        config->policies[config->n_policies++] = policy;
        policy->name = loader_strdup(loader, draft->name);
        policy->place = draft->place;
        policy->audit = draft->mode == 1;
        policy->loopback_allow = draft->loopback != 0;
        policy->metadata_allow = draft->metadata == 1;
        policy->allow_private = draft->allow_private == 1;
        policy->existing_destroy = draft->existing == 0;
        policy->on_failure_quarantine = draft->on_failure == 0;
        config_build_unix(loader, draft, policy);
        policy->device_guard_off = draft->device_guard == 1;
        policy->required = draft->required;
        policy->rules = calloc(MAX(list->n_items, (size_t)1), sizeof(*policy->rules));
        if (!policy->rules) {
                loader->no_memory = true;
                return;
        }
        policy->ingress = calloc(MAX(list->n_items, (size_t)1), sizeof(*policy->ingress));
        if (!policy->ingress) {
                loader->no_memory = true;
                return;
        }
        if (config_build_limits(draft, policy) < 0)
                loader->no_memory = true;
        for (size_t i = 0; i < list->n_items && !loader->no_memory; i++)
                copy_rule(loader, &list->items[i]->rule,
                          list->items[i]->ingress ? &policy->ingress[policy->n_ingress++]
                                                  : &policy->rules[policy->n_rules++]);
}

static void resolve_policies(struct resolver *resolver)
{
        struct loader *loader = resolver->loader;

        for (size_t i = 1; i < resolver->n_policies; i++) {
                const struct draft_policy *first = resolver->by_name[i - 1], *second = resolver->by_name[i];

                if (strcmp(first->name, second->name) == 0 && strcmp(first->name, "?") != 0)
                        report_twice(loader, "policy", second->name, &first->place, &second->place);
        }
        for (size_t i = 0; i < resolver->n_policies; i++)
                resolve_extends(resolver, resolver->by_name[i]);
        for (size_t i = 0; i < resolver->n_policies; i++)
                if (resolver->by_name[i]->state == DRAFT_NEW)
                        settle(resolver, resolver->by_name[i], 0);

        for (size_t i = 0; i < resolver->n_policies && !loader->no_memory; i++) {
                struct rule_list list = {0};
                bool whole;

                resolver->walk++;
                whole = collect_rules(resolver, resolver->by_name[i], resolver->by_name[i], &list);
                check_rule_names(loader, &list);
                config_check_limits(loader, resolver->by_name[i], list.items, list.n_items);
                if (whole && loader->n_errors == 0)
                        build_policy(resolver, resolver->by_name[i], &list);
                free(list.items);
                if (!whole)
                        break;
        }
}

/* "/agents/a" and "agents/a" are one cgroup: both count from the mount. */
static const char *cgroup_key(const struct draft_agent *agent)
{
        const char *path = agent->spec.cgroup;

        return path ? path + strspn(path, "/") : "";
}

static int agent_name_compare(const void *a, const void *b)
{
        const struct draft_agent *x = a, *y = b;
        int order = strcmp(x->spec.name, y->spec.name);

        return order != 0 ? order : place_compare(&x->spec.place, &y->spec.place);
}

static int agent_cgroup_compare(const void *a, const void *b)
{
        const struct draft_agent *x = a, *y = b;
        int order = strcmp(cgroup_key(x), cgroup_key(y));

        return order != 0 ? order : place_compare(&x->spec.place, &y->spec.place);
}

static void resolve_agents(struct resolver *resolver)
{
        struct loader *loader = resolver->loader;
        struct config *config = loader->config;
        struct draft_agent *agents = loader->agents;

        if (loader->n_agents == 0)
                return;
        qsort(agents, loader->n_agents, sizeof(*agents), agent_cgroup_compare);
        for (size_t i = 1; i < loader->n_agents; i++)
                if (agents[i].spec.cgroup && strcmp(cgroup_key(&agents[i - 1]), cgroup_key(&agents[i])) == 0)
                        loader_report(loader, DIAGNOSTIC_ERROR, &agents[i].cgroup_place,
                                      "agents '%s' and '%s' have the same cgroup '%.128s'; give each its own",
                                      agents[i - 1].spec.name, agents[i].spec.name, agents[i].spec.cgroup);

        qsort(agents, loader->n_agents, sizeof(*agents), agent_name_compare);
        for (size_t i = 1; i < loader->n_agents; i++)
                if (strcmp(agents[i - 1].spec.name, agents[i].spec.name) == 0 && strcmp(agents[i].spec.name, "?") != 0)
                        report_twice(loader, "agent", agents[i].spec.name, &agents[i - 1].spec.place,
                                     &agents[i].spec.place);
        for (size_t i = 0; i < loader->n_agents; i++)
                if (agents[i].spec.policy && !find_policy(resolver, agents[i].spec.policy))
                        report_unknown_policy(resolver, agents[i].spec.policy, &agents[i].policy_place);

        if (loader->n_errors > 0)
                return;
        config->agents = calloc(loader->n_agents, sizeof(*config->agents));
        if (!config->agents) {
                loader->no_memory = true;
                return;
        }
        for (size_t i = 0; i < loader->n_agents; i++) {
                config->agents[i] = agents[i].spec;
                agents[i].spec.name = agents[i].spec.cgroup = agents[i].spec.policy = NULL;
        }
        config->n_agents = loader->n_agents;
}

void config_resolve(struct loader *loader)
{
        _cleanup_free_ struct draft_policy **by_name = NULL;
        struct resolver resolver = {.loader = loader, .n_policies = loader->n_policies};

        by_name = calloc(MAX(loader->n_policies, (size_t)1), sizeof(*by_name));
        loader->config->policies = calloc(MAX(loader->n_policies, (size_t)1), sizeof(*loader->config->policies));
        if (!by_name || !loader->config->policies) {
                loader->no_memory = true;
                return;
        }
        for (size_t i = 0; i < loader->n_policies; i++)
                by_name[i] = loader->policies[i];
        qsort(by_name, loader->n_policies, sizeof(*by_name), policy_compare);
        resolver.by_name = by_name;

        resolve_policies(&resolver);
        if (!loader->no_memory)
                resolve_agents(&resolver);
}
