/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Policies in force: compiled, written under a version, published to their agents, retired.
 *
 * A reload touches what changed: an unchanged policy keeps its version, so its agents' words, caches and learned
 * entries stay as they are. Everything that can fail happens before the first store that a packet could see.
 */
#include "agentd/monitor.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agentd/agent/watch.h"
#include "agentd/datapath/unix.h"
#include "agentd/policy/limits.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

void monitor_config_unref(struct monitor_config *config)
{
        if (--config->references > 0)
                return;
        config_free(config->config);
        free(config);
}

struct monitor_policy *monitor_policy_version(struct monitor *monitor, __u32 version)
{
        struct monitor_policy *policy = NULL;

        HASH_FIND(hh, monitor->policies, &version, sizeof(version), policy);
        return policy;
}

struct monitor_policy *monitor_policy_find(struct monitor *monitor, const char *name)
{
        struct monitor_policy *policy, *next;

        HASH_ITER (hh, monitor->policies, policy, next)
                if (policy->retired_ns == 0 && strcmp(policy->policy->name, name) == 0)
                        return policy;
        return NULL;
}

static void policy_drop(struct monitor *monitor, struct monitor_policy *policy)
{
        if (policy->version != 0) {
                HASH_DEL(monitor->policies, policy);
                (void)datapath_policy_remove(monitor->datapath, policy->version);
                datapath_unix_remove(monitor->datapath, policy->version, &policy->policy->unix_rules);
        }
        compiled_policy_free(policy->compiled);
        monitor_config_unref(policy->config);
        free(policy);
}

/* Compiles and writes one policy; nothing uses it yet. */
static int policy_make(struct monitor *monitor, struct monitor_config *config, const struct policy *model,
                       struct monitor_error *error, struct monitor_policy **ret)
{
        struct monitor_policy *policy = calloc(1, sizeof(*policy));
        struct prefix where = {};
        char text[PREFIX_TEXT_MAX];
        int r;

        error->exit_status = 1;
        if (!policy) {
                (void)snprintf(error->text, sizeof(error->text), "out of memory");
                return -ENOMEM;
        }
        policy->config = config;
        config->references++;
        policy->policy = model;

        r = monitor_unix_check(monitor, model, error);
        if (r < 0) {
                policy_drop(monitor, policy);
                return r;
        }
        r = policy_compile(model, &where, &policy->compiled);
        if (r == -E2BIG) {
                error->exit_status = 4;
                (void)snprintf(error->text, sizeof(error->text),
                               "%s:%u:%u: policy '%s': more than %d ports and rules meet at %s; join some of them",
                               model->place.file ? model->place.file : "-", model->place.line, model->place.column,
                               model->name, MATCH_LIST_MAX, prefix_format(&where, text));
        } else if (r < 0) {
                (void)snprintf(error->text, sizeof(error->text), "cannot compile policy '%s': %s", model->name,
                               strerror(-r));
        } else {
                r = datapath_policy_add(monitor->datapath, policy->compiled, &policy->version);
                if (r == 0) {
                        r = datapath_unix_add(monitor->datapath, policy->version, &model->unix_rules);
                        if (r < 0)
                                (void)datapath_policy_remove(monitor->datapath, policy->version);
                }
                if (r < 0) {
                        error->exit_status = r == -ENOSPC ? 4 : 1;
                        (void)snprintf(error->text, sizeof(error->text), "cannot write policy '%s' to the kernel: %s%s",
                                       model->name, strerror(-r), r == -ENOSPC ? "; a table is full" : "");
                }
        }
        if (r < 0) {
                policy->version = 0;
                policy_drop(monitor, policy);
                return r;
        }
        policy->written_ns = monitor_now();
        HASH_ADD(hh, monitor->policies, version, sizeof(policy->version), policy);
        *ret = policy;
        return 0;
}

int monitor_policy_use(struct monitor *monitor, struct monitor_policy *policy)
{
        __u64 now_ns = monitor_now();
        int r = dns_supervisor_policy(monitor->dns, policy->version, policy->compiled);

        if (r < 0)
                return r;
        for (size_t i = 0; i < policy->policy->n_rules; i++) {
                const struct rule *rule = &policy->policy->rules[i];

                if (rule->domain && !rule->deny && !domain_pattern_is_wildcard(rule->domain) &&
                    compiled_policy_name_verdict(policy->compiled, rule->domain, NULL) == REASON_NONE) {
                        r = refresh_add(monitor->refresh, policy->version, rule->domain, now_ns);
                        if (r < 0)
                                log_warning_errno(r, "cannot keep '%s' fresh, ignoring", rule->domain);
                }
        }
        return 0;
}

int monitor_policies_load(struct monitor *monitor, struct monitor_error *error)
{
        const struct config *config = monitor->config->config;

        for (size_t i = 0; i < config->n_policies; i++) {
                struct monitor_policy *policy;
                int r = policy_make(monitor, monitor->config, config->policies[i], error, &policy);

                if (r < 0)
                        return r;
                r = monitor_policy_use(monitor, policy);
                if (r < 0) {
                        (void)snprintf(error->text, sizeof(error->text),
                                       "cannot hand policy '%s' to the DNS worker: %s", policy->policy->name,
                                       strerror(-r));
                        return r;
                }
        }
        return 0;
}

__u32 monitor_word_flags(const struct monitor_agent *agent)
{
        __u32 flags = agent->policy ? agent->policy->compiled->word_flags : 0;

        if (agent->mode == MONITOR_MODE_ENFORCE)
                flags &= ~(__u32)WORD_AUDIT;
        else if (agent->mode == MONITOR_MODE_AUDIT)
                flags |= WORD_AUDIT;
        if (agent->quarantine)
                flags |= WORD_QUARANTINE;
        return flags;
}

/* Without the limits that its policy names an agent has no policy. */
static int limits_of(struct monitor *monitor, struct monitor_agent *agent, struct datapath_limits *ret)
{
        struct monitor_error error = {};
        int r = agent->policy ? monitor_limits_take(monitor, agent, &error, ret) : 0;

        if (r < 0 && !agent->without_limits)
                log_error("%s: everything is denied", error.text);
        agent->without_limits = r < 0;
        agent->broken |= r < 0;
        if (r < 0)
                (void)snprintf(agent->detail, sizeof(agent->detail), "%.130s: everything is denied", error.text);
        return r;
}

int monitor_publish(struct monitor *monitor, struct monitor_agent *agent)
{
        struct agent_entry *entry = datapath_agent(monitor->datapath, agent->id);
        struct message_agent message = {.agent_id = agent->id};
        const char *name = agent->policy ? agent->policy->policy->name : "";
        struct datapath_limits limits = {.count = 1};
        int limited = limits_of(monitor, agent, &limits), r;
        __u32 version = agent->policy && limited == 0 && !agent->unmet ? agent->policy->version : 0;

        memset(entry->policy, 0, sizeof(entry->policy));
        memcpy(entry->policy, name, MIN(strlen(name), sizeof(entry->policy) - 1));
        entry->mode = (__u8)agent->mode;
        entry->frozen = agent->frozen;
        (void)datapath_agent_publish_limits(monitor->datapath, agent->id, version, monitor_word_flags(agent), limits);

        message.policy_id = version;
        message.audit = (monitor_word_flags(agent) & WORD_AUDIT) != 0;
        message.quarantine = agent->quarantine || version == 0;
        r = dns_supervisor_agent(monitor->dns, &message);
        if (r < 0)
                log_warning_errno(r, "cannot tell the DNS worker of '%s', its look-ups fail", agent->name);
        return limited;
}

/* All agents are checked against the new policies before anything changes. */
static int agents_check(struct monitor *monitor, const struct config *config, struct monitor_error *error)
{
        struct monitor_agent *agent, *next;

        error->exit_status = 2;
        for (size_t i = 0; i < config->n_agents; i++) {
                int r = agent_watch_check(&monitor->mount, &config->agents[i]);

                if (r < 0) {
                        (void)snprintf(error->text, sizeof(error->text), "%s:%u:%u: cgroup '%s' of agent '%s': %s",
                                       config->agents[i].place.file, config->agents[i].place.line,
                                       config->agents[i].place.column, config->agents[i].cgroup, config->agents[i].name,
                                       r == -EISDIR ? "the root of the hierarchy would be the whole host; name a "
                                                      "cgroup below it"
                                                    : strerror(-r));
                        return r;
                }
        }
        HASH_ITER (hh, monitor->agents, agent, next) {
                if (agent->entry[0] || !agent->policy)
                        continue;
                if (!config_find_policy(config, agent->policy->policy->name)) {
                        (void)snprintf(error->text, sizeof(error->text),
                                       "policy '%s' is used by the attached agent '%s'; detach it or keep the policy",
                                       agent->policy->policy->name, agent->name);
                        return -EBUSY;
                }
        }
        return 0;
}

/* The policy that an agent has under the new configuration; NULL: none (its entry is gone, the watch will detach it).
 */
static const char *agent_policy_name(const struct config *config, const struct monitor_agent *agent)
{
        const struct agent_spec *spec;

        if (!agent->entry[0])
                return agent->policy ? agent->policy->policy->name : NULL;
        spec = monitor_agent_spec(config, agent->entry);
        return spec ? spec->policy : NULL;
}

void monitor_agent_move(struct monitor *monitor, struct monitor_agent *agent, struct monitor_policy *policy)
{
        int r = monitor_relearn(monitor, agent, policy);

        if (r < 0)
                log_warning_errno(r, "some names of '%s' must be looked up again", agent->name);
        agent->policy = policy;
        agent->broken = false;
        agent->detail[0] = '\0';
        (void)monitor_publish(monitor, agent);
        monitor_unlearn(monitor, agent);
        monitor_devices_look(monitor, agent);
        monitor_sockets_destroy(monitor, agent, false);
}

int monitor_policy_rewrite(struct monitor *monitor, struct monitor_policy *policy)
{
        struct monitor_agent *agent, *next;
        struct monitor_error error = {};
        struct monitor_policy *fresh = NULL;
        int r = policy_make(monitor, policy->config, policy->policy, &error, &fresh);

        HASH_ITER (hh, monitor->agents, agent, next)
                if (r == 0 && agent->policy == policy)
                        r = monitor_limits_prepare(monitor, agent, fresh, &error);
        if (r < 0) {
                log_error("policy '%s' cannot be written again: %s", policy->policy->name, error.text);
                HASH_ITER (hh, monitor->agents, agent, next)
                        monitor_limits_discard(monitor, agent);
                if (fresh)
                        policy_drop(monitor, fresh);
                return r;
        }
        policy->retired_ns = monitor_now();
        if (monitor_policy_use(monitor, fresh) < 0)
                log_warning("cannot hand policy '%s' to the DNS worker", fresh->policy->name);
        HASH_ITER (hh, monitor->agents, agent, next)
                if (agent->policy == policy)
                        monitor_agent_move(monitor, agent, fresh);
        return 0;
}

/* An unchanged policy keeps its version; its model now lives in the new configuration. */
static int policy_keep(struct monitor_policy *policy, struct monitor_config *config, const struct policy *model)
{
        struct compiled_policy *compiled = NULL;
        int r = policy_compile(model, NULL, &compiled);

        if (r < 0)
                return r;
        compiled_policy_free(policy->compiled);
        monitor_config_unref(policy->config);
        policy->compiled = compiled;
        policy->policy = model;
        policy->config = config;
        config->references++;
        return 0;
}

/* The policy that an agent moves to; NULL: it stays with what it has. made: in the order of the configuration's. */
static struct monitor_policy *agent_target(struct monitor *monitor, const struct config *config,
                                           struct monitor_policy *const *made, const struct monitor_agent *agent)
{
        const char *name = agent_policy_name(config, agent);
        struct monitor_policy *policy;

        if (!name)
                return NULL;
        for (size_t i = 0; i < config->n_policies; i++)
                if (made[i] && strcmp(made[i]->policy->name, name) == 0)
                        return made[i];
        policy = monitor_policy_find(monitor, name);
        return policy != agent->policy ? policy : NULL;
}

/* Every agent's new limits, beside those in use. */
static int limits_prepare(struct monitor *monitor, const struct config *config, struct monitor_policy *const *made,
                          struct monitor_error *error)
{
        struct monitor_agent *agent, *next;
        int r;

        HASH_ITER (hh, monitor->agents, agent, next) {
                const struct monitor_policy *policy = agent_target(monitor, config, made, agent);

                if (!policy)
                        continue;
                r = monitor_limits_prepare(monitor, agent, policy, error);
                if (r < 0)
                        return r;
        }
        return 0;
}

int monitor_apply(struct monitor *monitor, struct config *config, struct monitor_error *error, json_t **ret_changes)
{
        _cleanup_free_ struct monitor_policy **made = NULL;
        struct monitor_config *holder = calloc(1, sizeof(*holder));
        struct monitor_agent *agent, *next_agent;
        struct monitor_policy *policy, *next_policy;
        json_t *changes;
        __u64 now_ns = monitor_now();
        int r = 0;

        if (!holder) {
                config_free(config);
                error->exit_status = 1;
                (void)snprintf(error->text, sizeof(error->text), "out of memory");
                return -ENOMEM;
        }
        holder->config = config;
        holder->references = 1;

        changes = monitor_diff(monitor, config);
        made = calloc(config->n_policies + 1, sizeof(*made));
        if (!changes || !made)
                r = -ENOMEM;
        if (r == 0)
                r = agents_check(monitor, config, error);

        /* Beside what is in use. */
        for (size_t i = 0; r == 0 && i < config->n_policies; i++) {
                policy = monitor_policy_find(monitor, config->policies[i]->name);
                if (!policy || !monitor_policy_equal(policy->policy, config->policies[i]))
                        r = policy_make(monitor, holder, config->policies[i], error, &made[i]);
        }
        if (r == 0)
                r = limits_prepare(monitor, config, made, error);
        if (r < 0) {
                HASH_ITER (hh, monitor->agents, agent, next_agent)
                        monitor_limits_discard(monitor, agent);
                for (size_t i = 0; made && i < config->n_policies; i++)
                        if (made[i])
                                policy_drop(monitor, made[i]);
                json_decref(changes);
                monitor_config_unref(holder);
                return r;
        }

        /* From here on nothing is undone. */
        if (!monitor_dns_equal(&monitor->config->config->dns, &config->dns)) {
                /* What servers of the agents' own choice have taught does not outlive that choice. */
                if (monitor_dns_as_asked(&monitor->config->config->dns) && !monitor_dns_as_asked(&config->dns))
                        HASH_ITER (hh, monitor->agents, agent, next_agent)
                                monitor_forget_names(monitor, agent);
                r = dns_supervisor_settings(monitor->dns, &config->dns);
                if (r < 0)
                        log_warning_errno(r,
                                          "cannot change the DNS worker's settings, look-ups fail until it restarts");
        }
        HASH_ITER (hh, monitor->policies, policy, next_policy) {
                const struct policy *model = config_find_policy(config, policy->policy->name);
                bool replaced = !model;

                if (policy->retired_ns != 0 || policy->config == holder)
                        continue;
                for (size_t i = 0; i < config->n_policies; i++)
                        if (made[i] && strcmp(made[i]->policy->name, policy->policy->name) == 0)
                                replaced = true;
                if (replaced)
                        policy->retired_ns = now_ns;
                else if (policy_keep(policy, holder, model) < 0)
                        log_warning("cannot renew the places of policy '%s', ignoring", model->name);
        }
        for (size_t i = 0; i < config->n_policies; i++)
                if (made[i] && monitor_policy_use(monitor, made[i]) < 0)
                        log_warning("cannot hand policy '%s' to the DNS worker", made[i]->policy->name);

        monitor_config_unref(monitor->config);
        monitor->config = holder;

        HASH_ITER (hh, monitor->agents, agent, next_agent) {
                policy = agent_target(monitor, config, made, agent);
                if (policy)
                        monitor_agent_move(monitor, agent, policy);
        }
        *ret_changes = changes;
        return 0;
}

void monitor_grace(void)
{
        if (syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) < 0)
                log_debug("no membarrier: a packet in flight may find its old rules gone, and is denied");
}

void monitor_retire(struct monitor *monitor, __u64 now_ns)
{
        struct monitor_policy *policy, *next;
        bool waited = false;

        monitor_limits_sweep(monitor, now_ns);
        HASH_ITER (hh, monitor->policies, policy, next) {
                struct monitor_agent *agent, *next_agent;
                bool used = false;

                if (policy->retired_ns == 0 || now_ns - policy->retired_ns < MONITOR_RETIRE_MS * NSEC_PER_MSEC)
                        continue;
                HASH_ITER (hh, monitor->agents, agent, next_agent)
                        used |= agent->policy == policy;
                if (used)
                        continue;
                /* The timer is generous, the barrier exact. */
                if (!waited)
                        monitor_grace();
                waited = true;
                refresh_remove_policy(monitor->refresh, policy->version);
                (void)dns_supervisor_policy_gone(monitor->dns, policy->version);
                policy_drop(monitor, policy);
        }
}
