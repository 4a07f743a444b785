/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The table: every key of the contract outside of rules, what it may be, and where it goes.
 *
 * Defaults are set before the first file is read (config.c); a key that is there replaces its default.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/policy/config_draft.h"

enum { SOCKET_PATH_MAX = 107, PATH_SIZE_MAX = 4095, SECONDS_MAX = 30 * 24 * 3600 };

/* daemon: */
#define DAEMON(member) offsetof(struct daemon_settings, member)

static const struct config_word events_words[] = {{"journal", 0}, {"stdout", 0}, {"off", 0}, {NULL, 0}};

static void read_include(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                         void *target)
{
        struct config_key references = *key;

        references.offset = 0;
        config_read_references(loader, &references, node, &loader->includes);
}

static const struct config_key metrics_tls_keys[] = {
        {"certificate", config_read_path, DAEMON(metrics_tls.certificate), .max = PATH_SIZE_MAX, .flags = KEY_REQUIRED,
         .example = "/etc/agentd/metrics.crt"},
        {"key", config_read_path, DAEMON(metrics_tls.key), .max = PATH_SIZE_MAX, .flags = KEY_REQUIRED,
         .example = "/etc/agentd/metrics.key"},
        {"client_ca", config_read_path, DAEMON(metrics_tls.client_ca), .max = PATH_SIZE_MAX},
};
static const struct config_schema metrics_tls_schema = {"'metrics_tls'", metrics_tls_keys,
                                                        ARRAY_SIZE(metrics_tls_keys)};

static const struct config_key daemon_keys[] = {
        {"socket", config_read_path, DAEMON(socket), .max = SOCKET_PATH_MAX},
        {"state_dir", config_read_path, DAEMON(state_dir), .max = PATH_SIZE_MAX},
        {"metrics", config_read_metrics, DAEMON(metrics)},
        {"metrics_tls", config_read_schema, 0, &metrics_tls_schema},
        {"metrics_token", config_read_path, DAEMON(metrics_token), .max = PATH_SIZE_MAX},
        {"events", config_read_path, DAEMON(events), events_words, .max = PATH_SIZE_MAX},
        {"include", read_include, .flags = KEY_MAY_BE_NULL},
};
static const struct config_schema daemon_schema = {"'daemon'", daemon_keys, ARRAY_SIZE(daemon_keys)};

static void read_daemon(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        struct daemon_settings *settings = &((struct config *)target)->daemon;

        config_read_map(loader, &daemon_schema, node, settings);
        config_check_metrics(loader, node, settings);
}

/* dns: */
#define DNS(member) offsetof(struct dns_settings, member)

static const struct config_word switch_words[] = {{"off", 0}, {"on", 1}, {NULL, 0}};
static const struct config_word blocked_words[] = {{"nxdomain", DNS_BLOCKED_NXDOMAIN},
                                                   {"refused", DNS_BLOCKED_REFUSED},
                                                   {"nodata", DNS_BLOCKED_NODATA},
                                                   {NULL, 0}};

static void read_dnssec(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        struct config_key word = *key;
        int value = 0;

        word.offset = 0;
        /* YAML 1.1 writers turn a plain `off` into `false`. */
        if (node->kind == YAML_KIND_SCALAR && node->plain &&
            (strcmp(node->text, "true") == 0 || strcmp(node->text, "false") == 0))
                value = node->text[0] == 't';
        else
                config_read_word(loader, &word, node, &value);
        ((struct dns_settings *)target)->dnssec = value;
}

static void read_blocked(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                         void *target)
{
        struct config_key word = *key;
        int value = DNS_BLOCKED_NXDOMAIN;

        word.offset = 0;
        config_read_word(loader, &word, node, &value);
        ((struct dns_settings *)target)->blocked = (enum dns_blocked)value;
}

static const struct config_key dns_keys[] = {
        {"upstream", config_read_upstreams},
        {"dnssec", read_dnssec, .argument = switch_words},
        {"min_ttl", config_read_seconds, DNS(min_ttl_s), .min = 0, .max = SECONDS_MAX},
        {"max_ttl", config_read_seconds, DNS(max_ttl_s), .min = 1, .max = SECONDS_MAX},
        {"grace", config_read_seconds, DNS(grace_s), .min = 0, .max = SECONDS_MAX},
        {"blocked", read_blocked, .argument = blocked_words},
        {"rate", config_read_lookup_rate, DNS(rate)},
};
static const struct config_schema dns_schema = {"'dns'", dns_keys, ARRAY_SIZE(dns_keys)};

static void read_dns(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        struct dns_settings *settings = &((struct config *)target)->dns;

        config_read_map(loader, &dns_schema, node, settings);
        if (settings->min_ttl_s > settings->max_ttl_s)
                loader_error(loader, node, "min_ttl (%us) is above max_ttl (%us); raise max_ttl or lower min_ttl",
                             settings->min_ttl_s, settings->max_ttl_s);
        if (settings->dnssec && settings->n_upstreams > 0 && strcmp(settings->upstreams[0], "as-asked") == 0)
                loader_error(
                        loader, node,
                        "'dnssec: on' with upstream 'as-asked', whose answers cannot be validated; remove one of them");
}

/* policies: */
#define POLICY(member) offsetof(struct draft_policy, member)

static const struct config_word mode_words[] = {{"enforce", 0}, {"audit", 1}, {NULL, 0}};
static const struct config_word allow_words[] = {{"deny", 0}, {"allow", 1}, {NULL, 0}};
static const struct config_word device_guard_words[] = {{"auto", 0}, {"off", 1}, {NULL, 0}};
static const struct config_word requirement_words[] = {
        {"device_guard", REQUIRE_DEVICE_GUARD}, {"lsm", REQUIRE_LSM}, {NULL, 0}};

static void read_requirement(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                             void *target)
{
        const struct config_key word = {key->name, config_read_word, 0, requirement_words};
        int value = 0;

        config_read_word(loader, &word, node, &value);
        ((struct draft_policy *)target)->required |= (__u32)value;
}

static const struct config_key required_item = {"required", read_requirement};

static const struct config_word existing_words[] = {{"destroy", 0}, {"judge", 1}, {NULL, 0}};
static const struct config_word on_failure_words[] = {{"quarantine", 0}, {"report", 1}, {NULL, 0}};

static const struct config_key policy_keys[] = {
        {"extends", config_read_references, POLICY(extends), .flags = KEY_MAY_BE_NULL},
        {"mode", config_read_word, POLICY(mode), mode_words},
        {"egress", config_read_egress, .flags = KEY_MAY_BE_NULL},
        {"deny", config_read_deny, .flags = KEY_MAY_BE_NULL},
        {"ingress", config_read_ingress, .flags = KEY_MAY_BE_NULL},
        {"budget", config_read_budgets, POLICY(limits), .flags = KEY_MAY_BE_NULL},
        {"rate", config_read_rate, POLICY(limits)},
        {"bandwidth", config_read_bandwidth, .flags = KEY_HIDDEN},
        {"loopback", config_read_word, POLICY(loopback), allow_words},
        {"allow_private", config_read_boolean, POLICY(allow_private)},
        {"unix", config_read_unix, POLICY(unix_rules)},
        {"existing", config_read_word, POLICY(existing), existing_words},
        {"on_failure", config_read_word, POLICY(on_failure), on_failure_words},
        {"metadata", config_read_word, POLICY(metadata), allow_words},
        {"device_guard", config_read_word, POLICY(device_guard), device_guard_words},
        {"required", config_read_each, .argument = &required_item, .flags = KEY_MAY_BE_NULL},
};
static const struct config_schema policy_schema = {"a policy", policy_keys, ARRAY_SIZE(policy_keys)};

/* A key that is a name of the user's own choice. */
static bool check_name(struct loader *loader, const char *what, const struct yaml_node *key)
{
        if (key->kind != YAML_KIND_SCALAR) {
                loader_error(loader, key, "%s as the name of %s; a name is a word", yaml_kind_to_string(key->kind),
                             what);
                return false;
        }
        if (config_name_is_valid(key->text))
                return true;
        loader_error(loader, key, "'%.128s' is no name of %s; use at most %d letters, digits, '.', '_' and '-'",
                     key->text, what, AGENT_NAME_MAX - 1);
        return false;
}

static void read_policies(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                          void *target)
{
        if (!config_expect(loader, key->name, node, YAML_KIND_MAP, "a map: 'NAME:' with the policy below it"))
                return;
        for (const struct yaml_node *value = node->first; value; value = value->next) {
                bool named = check_name(loader, "a policy", value->key);
                struct draft_policy *policy;

                if (!loader_reserve(loader, &loader->policies, loader->n_policies, &loader->policies_capacity,
                                    sizeof(struct draft_policy *)))
                        return;
                policy = calloc(1, sizeof(*policy));
                if (!policy) {
                        loader->no_memory = true;
                        return;
                }
                loader->policies[loader->n_policies++] = policy;
                policy->name = loader_strdup(loader, named ? value->key->text : "?");
                policy->place = loader_place(loader, value->key);
                policy->mode = policy->loopback = policy->metadata = policy->allow_private = -1;
                policy->unix_rules.defaults = policy->unix_rules.outside = policy->existing = -1;
                policy->device_guard = policy->on_failure = -1;

                /* An empty policy is one that allows nothing. */
                if (!yaml_node_is_null(value))
                        config_read_map(loader, &policy_schema, value, policy);
                draft_limits_own(loader, &policy->limits, policy->name);
        }
}

/* agents: */
#define AGENT(member) offsetof(struct draft_agent, member)

static void read_agent_cgroup(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                              void *target)
{
        ((struct draft_agent *)target)->cgroup_place = loader_place(loader, node);
        config_read_cgroup(loader, key, node, target);
}

static void read_agent_policy(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                              void *target)
{
        ((struct draft_agent *)target)->policy_place = loader_place(loader, node);
        config_read_name(loader, key, node, target);
}

static const struct config_key agent_keys[] = {
        {"cgroup", read_agent_cgroup, AGENT(spec.cgroup), .flags = KEY_REQUIRED, .example = "/agents/NAME"},
        {"policy", read_agent_policy, AGENT(spec.policy), .flags = KEY_REQUIRED, .example = "NAME"},
};
static const struct config_schema agent_schema = {"an agent", agent_keys, ARRAY_SIZE(agent_keys)};

static void read_agents(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        if (!config_expect(loader, key->name, node, YAML_KIND_MAP, "a map: 'NAME:' with the agent below it"))
                return;
        for (const struct yaml_node *value = node->first; value; value = value->next) {
                bool named = check_name(loader, "an agent", value->key);
                struct draft_agent *agent;

                if (!loader_reserve(loader, &loader->agents, loader->n_agents, &loader->agents_capacity,
                                    sizeof(*loader->agents)))
                        return;
                agent = &loader->agents[loader->n_agents++];
                *agent = (struct draft_agent){.spec.place = loader_place(loader, value->key)};
                agent->spec.name = loader_strdup(loader, named ? value->key->text : "?");
                config_read_map(loader, &agent_schema, value, agent);
        }
}

/* The file. */
static void read_version(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                         void *target)
{
        const char *text = config_scalar(loader, key, node, "1");

        if (!text)
                return;
        if (!node->plain)
                loader_error(loader, node, "'version' is '%.64s' in quotes; expected the number 1", text);
        else if (strcmp(text, "1") != 0)
                loader_error(loader, node, "version '%.64s' is not known to this build; expected 1", text);
}

/* guard: */
enum { GUARDS_MAX = 64 };

static bool same_cgroup(const char *a, const char *b)
{
        return strcmp(a + strspn(a, "/"), b + strspn(b, "/")) == 0;
}

static void read_guard(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        struct config *config = target;
        struct guard_spec guard = {.place = loader_place(loader, node)}, *guards;
        struct config_key cgroup = *key;

        cgroup.offset = offsetof(struct guard_spec, cgroup);
        config_read_cgroup(loader, &cgroup, node, &guard);
        if (!guard.cgroup)
                return;
        if (strpbrk(guard.cgroup, "*?["))
                loader_error(loader, node, "'%.128s' is a glob; name the parent itself, all below it is guarded",
                             guard.cgroup);
        for (size_t i = 0; i < config->n_guards; i++)
                if (same_cgroup(config->guards[i].cgroup, guard.cgroup))
                        loader_error(loader, node, "'%.128s' is guarded already, in line %u; remove one of them",
                                     guard.cgroup, config->guards[i].place.line);
        if (config->n_guards >= GUARDS_MAX)
                loader_error(loader, node, "more than %d guarded cgroups; name a parent that they have in common",
                             GUARDS_MAX);
        guards = reallocarray(config->guards, config->n_guards + 1, sizeof(*guards));
        if (!guards) {
                loader->no_memory = true;
                free(guard.cgroup);
                return;
        }
        config->guards = guards;
        guards[config->n_guards++] = guard;
}

static const struct config_key guard_item = {"guard", read_guard};

static const struct config_key top_keys[] = {
        {"version", read_version, .flags = KEY_REQUIRED, .example = "1"},
        {"daemon", read_daemon, .flags = KEY_MAIN_ONLY | KEY_MAY_BE_NULL},
        {"dns", read_dns, .flags = KEY_MAIN_ONLY | KEY_MAY_BE_NULL},
        {"guard", config_read_each, .argument = &guard_item, .flags = KEY_MAIN_ONLY | KEY_MAY_BE_NULL},
        {"policies", read_policies, .flags = KEY_MAY_BE_NULL},
        {"agents", read_agents, .flags = KEY_MAY_BE_NULL},
};
const struct config_schema config_schema_top = {"the file", top_keys, ARRAY_SIZE(top_keys)};
