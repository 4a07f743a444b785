/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Names: what the worker asks to learn is checked against the policy again, written to the kernel, and only then
 * acknowledged. The worker parses what attackers send; nothing it says is believed.
 */
#include <errno.h>
#include <string.h>

#include "agentd/monitor.h"
#include "agentd/net/sock_diag.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

enum { LIVE_S = 60 };

static __u64 learned_life_ns(const struct monitor *monitor, __u32 ttl_s)
{
        const struct dns_settings *dns = &monitor->config->config->dns;
        __u64 life_s = ttl_s;

        life_s = MAX(life_s, (__u64)dns->min_ttl_s);
        life_s = MIN(life_s, (__u64)MAX(dns->max_ttl_s, dns->min_ttl_s));
        return (life_s + dns->grace_s) * NSEC_PER_SEC;
}

/* The kernel's entry of one address, for one policy, from all its names. -ENOENT: no name allows it any more. */
static int address_write(struct monitor *monitor, struct monitor_agent *agent, const struct monitor_policy *policy,
                         const struct address *address)
{
        const char *names[LEARNED_NAMES_PER_ADDRESS_MAX];
        _cleanup_free_ struct match_list *list = NULL;
        size_t n = learned_names(monitor->learned, agent->id, address, names, ARRAY_SIZE(names));
        int r;

        r = compiled_policy_learned_list(policy->compiled, address, names, MIN(n, ARRAY_SIZE(names)), &list);
        if (r < 0)
                return r;
        return datapath_learned_set(monitor->datapath, agent->id, address,
                                    learned_expires(monitor->learned, agent->id, address), policy->version, list);
}

static int learn_one(struct monitor *monitor, struct monitor_agent *agent, const char *name,
                     const struct message_address *address, __u64 now_ns)
{
        __u64 expires_ns = now_ns + learned_life_ns(monitor, address->ttl_s);
        enum learned_change change;
        int r;

        if (compiled_policy_address_verdict(agent->policy->compiled, &address->address) != REASON_NONE)
                return -EACCES;
        r = learned_add(monitor->learned, agent->id, name, &address->address, expires_ns, &change, NULL);
        if (r < 0)
                return r;
        r = datapath_learned_name_set(monitor->datapath, agent->id, &address->address, name, expires_ns);
        if (r == 0)
                r = address_write(monitor, agent, agent->policy, &address->address);
        if (r < 0) {
                if (change != LEARNED_RENEWED) {
                        (void)learned_remove(monitor->learned, agent->id, name, &address->address);
                        (void)datapath_learned_name_remove(monitor->datapath, agent->id, &address->address, name);
                }
                return r;
        }
        if (change == LEARNED_NEW_ADDRESS && !monitor->verdicts_only) {
                struct event event = {.type = EVENT_LEARN, .ip_protocol = 255};

                monitor_event_fill(monitor, agent, &event);
                event.has_destination = true;
                event.destination = address->address;
                event.hook = HOOK_DNS;
                memcpy(event.name, name, strlen(name) + 1);
                event_bus_publish(monitor->bus, &event);
        }
        return 0;
}

static int learn_for_agent(struct monitor *monitor, struct monitor_agent *agent, const struct message_learn *message)
{
        __u64 now_ns = monitor_now();
        int r;

        if (!agent->policy)
                return -EACCES;
        if (compiled_policy_name_verdict(agent->policy->compiled, message->name, NULL) != REASON_NONE)
                return -EACCES;
        for (__u32 i = 0; i < message->n_addresses; i++) {
                r = learn_one(monitor, agent, message->name, &message->addresses[i], now_ns);
                if (r < 0) {
                        if (r == -ENOSPC)
                                monitor_event(monitor, EVENT_DNS, agent, REASON_NONE,
                                              "the table of learned addresses is full: '%.200s' is not answered",
                                              message->name);
                        return r;
                }
        }
        return 0;
}

int monitor_learn(struct monitor *monitor, const struct message_learn *message)
{
        char name[NAME_MAX_BYTES];
        struct monitor_agent *agent, *next;
        int r = 0;

        if (message->n_addresses > MESSAGE_ADDRESSES_MAX || message->agent_id >= AGENT_MAX ||
            memchr(message->name, '\0', sizeof(message->name)) == NULL ||
            domain_canonicalize(message->name, name) < 0 || strcmp(name, message->name) != 0)
                return -EINVAL;

        if (message->agent_id != 0) {
                agent = monitor->by_id[message->agent_id];
                return agent ? learn_for_agent(monitor, agent, message) : -ENOENT;
        }
        HASH_ITER (hh, monitor->agents, agent, next) {
                if (agent->policy && agent->policy->version == message->policy_id) {
                        int one = learn_for_agent(monitor, agent, message);

                        r = r < 0 ? r : one;
                }
        }
        return r;
}

void monitor_resolved(struct monitor *monitor, const struct message_resolved *message)
{
        __u64 now_ns = monitor_now();
        int r;

        for (struct monitor_settling *settling = monitor->settlings; settling; settling = settling->next)
                for (size_t i = 0; i < settling->n; i++)
                        if (settling->ids[i] == message->header.id)
                                settling->ids[i--] = settling->ids[--settling->n];
        if (message->error == 0)
                r = refresh_succeeded(monitor->refresh, message->policy_id, message->name,
                                      learned_life_ns(monitor, message->ttl_s), now_ns);
        else
                r = refresh_failed(monitor->refresh, message->policy_id, message->name, message->error, now_ns);
        if (r < 0)
                log_debug("an answer for '%s' that is not scheduled, ignoring", message->name);
}

void monitor_refused(struct monitor *monitor, const struct message_refused *message)
{
        static const struct address none;
        struct monitor_agent *agent = message->agent_id < AGENT_MAX ? monitor->by_id[message->agent_id] : NULL;
        struct event event = {.ip_protocol = message->ip_protocol};

        if (!agent)
                return;
        monitor_event_fill(monitor, agent, &event);
        event.type = message->would ? EVENT_WOULD_DENY : EVENT_DNS;
        event.reason = message->reason;
        event.hook = HOOK_DNS;
        event.has_source = message->source_port != 0;
        event.source = message->source;
        event.source_port = message->source_port;
        if (memcmp(&message->address, &none, sizeof(none)) != 0) {
                event.has_destination = true;
                event.destination = message->address;
        }
        (void)snprintf(event.name, sizeof(event.name), "%.*s", (int)sizeof(message->name) - 1, message->name);
        if (agent->policy && message->reason == REASON_DENY_RULE) {
                __u16 rule = RULE_NONE;

                (void)compiled_policy_name_verdict(agent->policy->compiled, event.name, &rule);
                if (rule < agent->policy->policy->n_rules)
                        (void)snprintf(event.rule, sizeof(event.rule), "%s", agent->policy->policy->rules[rule].id);
        }
        event_bus_publish(monitor->bus, &event);
}

struct relearn_context {
        struct monitor *monitor;
        struct monitor_agent *agent;
        struct monitor_policy *policy;
        struct address last;
        bool any;
        int result;
};

static bool relearn_pair(void *context, const struct learned_view *view)
{
        struct relearn_context *relearn = context;
        int r;

        if (relearn->any && memcmp(&relearn->last, view->address, sizeof(relearn->last)) == 0)
                return true;
        relearn->any = true;
        relearn->last = *view->address;
        r = address_write(relearn->monitor, relearn->agent, relearn->policy, view->address);
        if (r < 0 && r != -ENOENT && r != -EACCES)
                relearn->result = r;
        return true;
}

int monitor_relearn(struct monitor *monitor, struct monitor_agent *agent, struct monitor_policy *policy)
{
        struct relearn_context relearn = {.monitor = monitor, .agent = agent, .policy = policy};

        learned_each(monitor->learned, agent->id, relearn_pair, &relearn);
        return relearn.result;
}

struct names_context {
        struct monitor *monitor;
        const struct monitor_agent *agent;
};

static void pair_removed(struct monitor *monitor, __u32 agent_id, const struct address *address, const char *name,
                         size_t remaining)
{
        struct monitor_agent *agent = monitor->by_id[agent_id];

        (void)datapath_learned_name_remove(monitor->datapath, agent_id, address, name);
        if (remaining == 0 || !agent || !agent->policy || address_write(monitor, agent, agent->policy, address) < 0)
                (void)datapath_learned_remove(monitor->datapath, agent_id, address);
}

static bool keep_allowed(void *context, const char *name)
{
        const struct names_context *names = context;

        return names->agent->policy &&
               compiled_policy_name_verdict(names->agent->policy->compiled, name, NULL) == REASON_NONE;
}

static bool keep_none(void *context, const char *name)
{
        return false;
}

static void dropped_pair(void *context, __u32 agent_id, const struct address *address, const char *name,
                         size_t remaining)
{
        pair_removed(((struct names_context *)context)->monitor, agent_id, address, name, remaining);
}

void monitor_unlearn(struct monitor *monitor, struct monitor_agent *agent)
{
        struct names_context names = {monitor, agent};

        learned_drop(monitor->learned, agent->id, keep_allowed, dropped_pair, &names);
}

void monitor_forget_names(struct monitor *monitor, struct monitor_agent *agent)
{
        struct names_context names = {monitor, agent};

        learned_drop(monitor->learned, agent->id, keep_none, dropped_pair, &names);
        learned_remove_agent(monitor->learned, agent->id);
}

/* The remote addresses of an agent's sockets, read once a tick at most. */
struct live_cache {
        struct monitor *monitor;
        __u64 now_ns;
        __u32 agent_id;
        struct address *remotes;
        size_t n, capacity;
        bool failed;
};

static int live_add(void *context, const struct sock_diag_socket *socket)
{
        struct live_cache *live = context;

        if (socket->remote_port == 0)
                return 0;
        if (live->n == live->capacity) {
                size_t capacity = live->capacity ? live->capacity * 2 : 64;
                struct address *remotes = realloc(live->remotes, capacity * sizeof(*remotes));

                if (!remotes)
                        return -ENOMEM;
                live->remotes = remotes;
                live->capacity = capacity;
        }
        live->remotes[live->n++] = socket->remote;
        return 0;
}

static void live_load(struct live_cache *live, const struct monitor_agent *agent)
{
        live->agent_id = agent->id;
        live->n = 0;
        live->failed = false;
        /* TIME_WAIT and SYN_RECV sockets have no cgroup: all of the namespace is the strict reading of "a flow lives".
         */
        for (struct monitor_listener *listener = agent->listeners; listener; listener = listener->next) {
                _cleanup_(sock_diag_closep) struct sock_diag *diag = NULL;

                if (sock_diag_open(listener->netns_fd, &diag) < 0 || sock_diag_each(diag, NULL, 0, live_add, live) != 0)
                        live->failed = true;
        }
}

/* Not knowing keeps the entry: it allows no new connection, the kernel has the expiry itself. */
static bool address_is_live(void *context, __u32 agent_id, const struct address *address)
{
        struct live_cache *live = context;
        struct monitor_agent *agent = live->monitor->by_id[agent_id];
        struct learned_entry entry;

        if (!agent)
                return false;
        if (datapath_learned_get(live->monitor->datapath, agent_id, address, &entry) == 0 && entry.used_ns != 0 &&
            live->now_ns - entry.used_ns < LIVE_S * NSEC_PER_SEC)
                return true;
        if (live->agent_id != agent_id)
                live_load(live, agent);
        if (live->failed)
                return true;
        for (size_t i = 0; i < live->n; i++)
                if (memcmp(&live->remotes[i], address, sizeof(*address)) == 0)
                        return true;
        return false;
}

static void expired_pair(void *context, __u32 agent_id, const struct address *address, const char *name,
                         size_t remaining)
{
        struct live_cache *live = context;

        pair_removed(live->monitor, agent_id, address, name, remaining);
}

void monitor_names_tick(struct monitor *monitor, __u64 now_ns)
{
        struct live_cache live = {.monitor = monitor, .now_ns = now_ns};
        char name[NAME_MAX_BYTES];
        __u32 policy_id;

        if (learned_deadline(monitor->learned) <= now_ns)
                learned_expire(monitor->learned, now_ns, address_is_live, expired_pair, &live);
        free(live.remotes);

        for (int i = 0; i < 256 && refresh_next(monitor->refresh, now_ns, &policy_id, name); i++) {
                __u64 id;
                int r = dns_supervisor_resolve(monitor->dns, policy_id, name, &id);

                if (r < 0)
                        (void)refresh_failed(monitor->refresh, policy_id, name, r, now_ns);
        }
}

/* Names of agents that are gone: removed after the walk, a table must not be walked and changed at once. */
struct adopt_context {
        struct monitor *monitor;
        struct {
                struct learned_name_key key;
                char name[NAME_MAX_BYTES];
        } * dead;
        size_t n_dead, capacity;
};

static void adopt_name(void *context, const struct learned_name_key *key, const struct learned_name *value)
{
        struct adopt_context *adopt = context;
        struct monitor *monitor = adopt->monitor;
        struct monitor_agent *agent = key->agent_id < AGENT_MAX ? monitor->by_id[key->agent_id] : NULL;
        char text[NAME_MAX_BYTES] = "", name[NAME_MAX_BYTES];

        memcpy(text, value->name, sizeof(text) - 1);
        if (agent && domain_canonicalize(text, name) == 0 &&
            learned_add(monitor->learned, agent->id, name, &key->address, value->expires_ns, NULL, NULL) == 0)
                return;

        if (adopt->n_dead == adopt->capacity) {
                size_t capacity = adopt->capacity ? adopt->capacity * 2 : 64;
                void *dead = realloc(adopt->dead, capacity * sizeof(*adopt->dead));

                if (!dead)
                        return; /* the entry denies by itself: its version is in nobody's word */
                adopt->dead = dead;
                adopt->capacity = capacity;
        }
        adopt->dead[adopt->n_dead].key = *key;
        memcpy(adopt->dead[adopt->n_dead++].name, text, sizeof(text));
}

void monitor_names_adopt(struct monitor *monitor)
{
        struct adopt_context adopt = {.monitor = monitor};
        int r = datapath_learned_names(monitor->datapath, adopt_name, &adopt);

        if (r < 0)
                log_warning_errno(r, "cannot read what was learned; agents must look names up again");
        for (size_t i = 0; i < adopt.n_dead; i++) {
                const struct learned_name_key *key = &adopt.dead[i].key;

                (void)datapath_learned_name_remove(monitor->datapath, key->agent_id, &key->address, adopt.dead[i].name);
                (void)datapath_learned_remove(monitor->datapath, key->agent_id, &key->address);
        }
        free(adopt.dead);
}

int monitor_settle_begin(struct monitor *monitor, const struct monitor_policy *policy, struct monitor_settling **ret)
{
        struct monitor_settling *settling = calloc(1, sizeof(*settling));

        if (!settling)
                return -ENOMEM;
        settling->ids = calloc(policy->policy->n_rules + 1, sizeof(*settling->ids));
        if (!settling->ids) {
                free(settling);
                return -ENOMEM;
        }
        for (size_t i = 0; i < policy->policy->n_rules; i++) {
                const struct rule *rule = &policy->policy->rules[i];

                if (!rule->domain || rule->deny || domain_pattern_is_wildcard(rule->domain))
                        continue;
                if (dns_supervisor_resolve(monitor->dns, policy->version, rule->domain, &settling->ids[settling->n]) ==
                    0)
                        settling->n++;
        }
        settling->next = monitor->settlings;
        monitor->settlings = settling;
        *ret = settling;
        return 0;
}

void monitor_settle_end(struct monitor *monitor, struct monitor_settling *settling)
{
        struct monitor_settling **link = &monitor->settlings;

        while (*link && *link != settling)
                link = &(*link)->next;
        if (*link)
                *link = settling->next;
        free(settling->ids);
        free(settling);
}
