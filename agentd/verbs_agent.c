/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Control verbs about agents: docs/control.md says what each takes and gives.
 */
#include <errno.h>
#include <string.h>
#include <sys/utsname.h>

#include "agentd/daemon.h"
#include "agentd/datapath/device.h"
#include "agentd/datapath/guard.h"
#include "agentd/monitor_budget.h"
#include "agentd/monitor_guard.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"
#include "agentd/version.h"

static const char *argument_text(const json_t *arguments, const char *key)
{
        return json_string_value(json_object_get(arguments, key));
}

static json_t *names_to_json(struct daemon *daemon, const struct monitor_agent *agent)
{
        size_t counts[REFRESH_FAILING + 1] = {};

        if (agent->policy)
                refresh_counts(daemon->monitor->refresh, agent->policy->version, counts);
        return json_pack("{s:I,s:I,s:I}", "resolved", (json_int_t)counts[REFRESH_RESOLVED], "failed",
                         (json_int_t)counts[REFRESH_FAILING], "pending", (json_int_t)counts[REFRESH_WAITING]);
}

static json_t *tiers_to_json(struct daemon *daemon, const struct monitor_agent *agent)
{
        const char *detail = "";
        bool lsm = monitor_lsm_present(daemon->monitor, &detail);

        return json_pack("{s:b,s:b,s:o,s:{s:b,s:s}}", "1", 1, "2", 1, "3", monitor_devices_to_json(agent), "4",
                         "present", (int)lsm, "detail", lsm ? "" : detail);
}

/* What there is to say of an agent beside its state. */
static const char *held_text(const struct monitor_agent *agent, enum monitor_state state, const char *detail)
{
        if ((state != MONITOR_ENFORCING && state != MONITOR_FROZEN) || !agent->quarantine)
                return detail;
        return agent->frozen ? "frozen and quarantined, because a probe was let through; `agentctl release` lifts it"
                             : "quarantined: everything is denied";
}

json_t *agent_to_json(struct daemon *daemon, struct monitor_agent *agent)
{
        const struct agent_entry *entry = datapath_agent(daemon->monitor->datapath, agent->id);
        char detail[256];
        enum monitor_state state = monitor_agent_state(agent, detail, sizeof(detail));
        json_t *verified = agent->verified_ns
                                   ? json_integer((json_int_t)((monitor_now() - agent->verified_ns) / NSEC_PER_SEC))
                                   : json_null();

        json_t *object;

        object = json_pack("{s:s,s:s,s:s,s:I,s:s,s:I,s:s,s:s,s:o,s:o,s:o,s:o,s:s,s:o}", "name", agent->name, "mode",
                           monitor_agent_mode(agent), "policy", agent->policy ? agent->policy->policy->name : "",
                           "generation", (json_int_t)WORD_GENERATION(entry->word), "cgroup", agent->path, "cgroup_id",
                           (json_int_t)agent->cgroup_id, "state", monitor_state_to_string(state), "detail",
                           held_text(agent, state, detail), "verified_s", verified, "verification",
                           monitor_probe_to_json(agent), "tiers", tiers_to_json(daemon, agent), "names",
                           names_to_json(daemon, agent), "origin", agent->entry[0] ? "config" : "attach", "container",
                           monitor_container_to_json(agent));
        monitor_runtime_add(agent, object);
        return object;
}

/* A configured agent whose cgroup is not there. Globs have no agent until they match. */
static json_t *waiting_to_json(const struct agent_spec *spec)
{
        return json_pack("{s:s,s:s,s:s,s:n,s:s,s:n,s:s,s:s,s:n,s:{},s:{s:i,s:i,s:i},s:s,s:n,s:n,s:s}", "name",
                         spec->name, "mode", "enforce", "policy", spec->policy, "generation", "cgroup", spec->cgroup,
                         "cgroup_id", "state", "waiting", "detail", "its cgroup does not exist", "verified_s", "tiers",
                         "names", "resolved", 0, "failed", 0, "pending", 0, "origin", "config", "container", "runtime",
                         "runtime_detail", "");
}

static json_t *by_reason(const __u64 *counts)
{
        json_t *reasons = json_object();
        __u64 total = 0;

        for (size_t i = 0; i < REASON_MAX; i++) {
                if (!counts[i])
                        continue;
                total += counts[i];
                (void)json_object_set_new(reasons, verdict_reason_to_string((enum verdict_reason)i),
                                          json_integer((json_int_t)counts[i]));
        }
        return json_pack("{s:I,s:o}", "total", (json_int_t)total, "by_reason", reasons);
}

static json_t *traffic_to_json(__u64 packets, __u64 bytes)
{
        return json_pack("{s:I,s:I}", "packets", (json_int_t)packets, "bytes", (json_int_t)bytes);
}

static json_t *counters_to_json(struct daemon *daemon, const struct monitor_agent *agent)
{
        struct agent_counters counters = {};
        __u64 packets[2] = {}, bytes[2] = {};

        (void)datapath_counters(daemon->monitor->datapath, agent->id, &counters);
        (void)datapath_traffic(daemon->monitor->datapath, agent->id, packets, bytes);
        return json_pack("{s:{s:o,s:o},s:o,s:o,s:I,s:I}", "allowed", "egress",
                         traffic_to_json(packets[DIRECTION_EGRESS], bytes[DIRECTION_EGRESS]), "ingress",
                         traffic_to_json(packets[DIRECTION_INGRESS], bytes[DIRECTION_INGRESS]), "denied",
                         by_reason(counters.denied), "would_deny", by_reason(counters.would_deny), "redirected",
                         (json_int_t)counters.redirected, "events_lost", (json_int_t)counters.events_lost);
}

static json_t *lookups_to_json(const struct monitor_agent *agent)
{
        static const char *const names[DNS_OUTCOME_MAX] = {
                [DNS_OUTCOME_ANSWERED] = "answered", [DNS_OUTCOME_CACHED] = "cached",
                [DNS_OUTCOME_REFUSED] = "refused",   [DNS_OUTCOME_WITHHELD] = "withheld",
                [DNS_OUTCOME_FAILED] = "failed",     [DNS_OUTCOME_MALFORMED] = "malformed",
                [DNS_OUTCOME_RATE] = "rate",
        };
        json_t *lookups = json_object();

        for (size_t i = 0; i < DNS_OUTCOME_MAX; i++)
                if (names[i] && agent->lookups[i])
                        (void)json_object_set_new(lookups, names[i], json_integer((json_int_t)agent->lookups[i]));
        return lookups;
}

static int by_name(struct monitor_agent *a, struct monitor_agent *b)
{
        return strcmp(a->name, b->name);
}

static json_t *all_agents(struct daemon *daemon, bool with_counters)
{
        const struct config *config = daemon->monitor->config->config;
        struct monitor_agent *agent, *next;
        json_t *agents = json_array();

        HASH_SORT(daemon->monitor->agents, by_name);
        HASH_ITER (hh, daemon->monitor->agents, agent, next) {
                json_t *item = agent_to_json(daemon, agent);

                if (with_counters) {
                        (void)json_object_set_new(item, "counters", counters_to_json(daemon, agent));
                        (void)json_object_set_new(item, "lookups", lookups_to_json(agent));
                }
                (void)json_array_append_new(agents, item);
        }
        for (size_t i = 0; i < config->n_agents; i++) {
                json_t *item;

                if (cgroup_path_is_glob(config->agents[i].cgroup) ||
                    monitor_agent_find(daemon->monitor, config->agents[i].name))
                        continue;
                item = waiting_to_json(&config->agents[i]);
                if (with_counters)
                        (void)json_object_set_new(item, "counters", json_null());
                (void)json_array_append_new(agents, item);
        }
        return agents;
}

json_t *guards_to_json(struct daemon *daemon)
{
        __u64 now_ns = monitor_now();
        json_t *list = json_array();

        for (const struct monitor_guard *guard = monitor_guards(daemon->monitor); guard; guard = guard->next) {
                json_t *id = guard->cgroup_id ? json_integer((json_int_t)guard->cgroup_id) : json_null();
                json_t *verified = guard->verified_ns
                                           ? json_integer((json_int_t)((now_ns - guard->verified_ns) / NSEC_PER_SEC))
                                           : json_null();

                (void)json_array_append_new(list, json_pack("{s:s,s:o,s:s,s:s,s:o}", "cgroup", guard->path, "cgroup_id",
                                                            id, "state",
                                                            guard->broken      ? "broken"
                                                            : guard->cgroup_id ? "guarding"
                                                                               : "waiting",
                                                            "detail", guard->detail, "verified_s", verified));
        }
        return json_pack("{s:I,s:b,s:o}", "denied", (json_int_t)datapath_guard_denied(daemon->monitor->datapath),
                         "packet_sockets", (int)monitor_lsm_present(daemon->monitor, NULL), "parents", list);
}

void verb_status(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        struct event_statistics events = {};
        struct utsname name = {};
        const char *lsm_detail = "";
        bool lsm = monitor_lsm_present(daemon->monitor, &lsm_detail);
        char missing[200];
        json_t *problems;
        __u64 total = 0;

        (void)uname(&name);
        event_bus_statistics(daemon->bus, &events);
        for (size_t i = 0; i < EVENT_TYPE_MAX; i++)
                total += events.total[i];
        problems = daemon_problems(daemon);

        control_reply(
                request,
                json_pack("{s:s,s:i,s:I,s:I,s:s,s:s,s:b,s:o,"
                          "s:[{s:i,s:s,s:b,s:s},{s:i,s:s,s:b,s:s},{s:i,s:s,s:b,s:s},{s:i,s:s,s:b,s:s}],"
                          "s:{s:i,s:i},s:{s:s,s:I,s:I,s:I,s:I},s:o,s:o,s:o}",
                          "version", AGENTD_VERSION, "pid", (int)getpid(), "uptime_s",
                          (json_int_t)((monitor_now() - daemon->monitor->started_ns) / NSEC_PER_SEC), "generation",
                          (json_int_t)datapath_generation(daemon->monitor->datapath), "kernel", name.release, "config",
                          daemon->config_path, "healthy", (int)(json_array_size(problems) == 0), "problems", problems,
                          "tiers", "tier", 1, "name", "system calls", "present", 1, "detail",
                          monitor_unix_missing(daemon->monitor, missing, sizeof(missing)), "tier", 2, "name", "packets",
                          "present", 1, "detail", "", "tier", 3, "name", "veth", "present", 1, "detail",
                          datapath_device_tcx(daemon->monitor->datapath) ? "tcx" : "clsact", "tier", 4, "name",
                          "socket creation (LSM)", "present", (int)lsm, "detail", lsm ? "" : lsm_detail, "dns", "pid",
                          (int)dns_supervisor_pid(daemon->monitor->dns), "restarts",
                          (int)dns_supervisor_restarts(daemon->monitor->dns), "events", "target", daemon->events_target,
                          "total", (json_int_t)total, "lost_ring", (json_int_t)events.lost_ring, "lost_sink",
                          (json_int_t)events.lost_sink, "lost_subscribers", (json_int_t)events.lost_subscribers,
                          "state", daemon_state_to_json(daemon), "guard", guards_to_json(daemon), "agents",
                          all_agents(daemon, false)));
}

json_t *agents_to_json(struct daemon *daemon)
{
        return all_agents(daemon, false);
}

void verb_agents(void *context, struct control_request *request, const json_t *arguments)
{
        control_reply(request, json_pack("{s:o}", "agents", all_agents(context, true)));
}

/*
 * A container's start, asked for by its runtime. What is left of a former one with the same name or cgroup goes first:
 * a cgroup that was removed a moment ago may not have been seen to go. The cgroup may be an agent already (a glob of
 * the configuration has found it, or the hook is called twice): that is what was asked for when the policy is the same.
 */
static struct monitor_agent *container_agent(struct daemon *daemon, const char *name, const char *path,
                                             const char *policy)
{
        struct monitor_agent *agent = monitor_agent_find(daemon->monitor, name);
        __u64 id = 0;

        if (agent || cgroup_id_of(&daemon->monitor->mount, path, &id) < 0 ||
            monitor_agent_by_cgroup(daemon->monitor, id))
                (void)agent_watch_rescan(daemon->watch);
        if (id == 0 && cgroup_id_of(&daemon->monitor->mount, path, &id) < 0)
                return NULL;
        agent = monitor_agent_by_cgroup(daemon->monitor, id);
        return agent && agent->policy && strcmp(agent->policy->policy->name, policy) == 0 ? agent : NULL;
}

/* The configuration's name for another cgroup, whose budget a container's label must not choose to spend. */
static bool name_is_taken(const struct daemon *daemon, const char *name, const char *path)
{
        const struct config *config = daemon->monitor->config->config;

        for (size_t i = 0; i < config->n_agents; i++) {
                const struct agent_spec *spec = &config->agents[i];
                _cleanup_free_ char *own = NULL;

                if (strcmp(spec->name, name) != 0)
                        continue;
                return cgroup_path_is_glob(spec->cgroup) ||
                       cgroup_path_canonical(&daemon->monitor->mount, spec->cgroup, &own) < 0 || strcmp(own, path) != 0;
        }
        return false;
}

void verb_attach(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        const char *name = argument_text(arguments, "name"), *cgroup = argument_text(arguments, "cgroup");
        const char *policy = argument_text(arguments, "policy"), *mode_text = argument_text(arguments, "mode");
        const json_t *container = json_object_get(arguments, "container");
        enum monitor_mode mode = MONITOR_MODE_POLICY;
        struct monitor_error error = {};
        struct monitor_agent *agent;
        _cleanup_free_ char *path = NULL;
        int r;

        if (!name || !cgroup || !policy) {
                control_error(request, 2, "attach needs 'name', 'cgroup' and 'policy'");
                return;
        }
        if (mode_text) {
                if (strcmp(mode_text, "enforce") == 0) {
                        mode = MONITOR_MODE_ENFORCE;
                } else if (strcmp(mode_text, "audit") == 0) {
                        mode = MONITOR_MODE_AUDIT;
                } else {
                        control_error(request, 2, "unknown mode '%s'; 'enforce' or 'audit'", mode_text);
                        return;
                }
        }
        r = cgroup_path_canonical(&daemon->monitor->mount, cgroup, &path);
        if (r < 0) {
                control_error(request, 2, "cgroup '%s': %s", cgroup,
                              r == -EISDIR ? "the root of the hierarchy would be the whole host; name a cgroup below it"
                                           : "not a path below the cgroup v2 mount");
                return;
        }
        if (cgroup_path_is_glob(path)) {
                control_error(request, 2, "cgroup '%s' is a glob; attach takes one cgroup", cgroup);
                return;
        }
        agent = container ? container_agent(daemon, name, path, policy) : NULL;
        if (agent) {
                monitor_container_told(agent, container);
                if (daemon_pending_add(daemon, request, agent->name, monitor_now() + 5 * NSEC_PER_SEC) < 0)
                        control_reply(request, agent_to_json(daemon, agent));
                return;
        }
        if (container && name_is_taken(daemon, name, path)) {
                control_error(
                        request, 2,
                        "the configuration has an agent '%s' with another cgroup; name the container's agent otherwise",
                        name);
                return;
        }
        r = monitor_attach(daemon->monitor, name, "", path, policy, mode, &error, &agent);
        if (r < 0) {
                control_error(request, error.exit_status, "%s", error.text);
                return;
        }
        if (container)
                monitor_container_told(agent, container);
        if (agent_watch_follow(daemon->watch, agent->name, agent->path, agent->cgroup_id) < 0)
                (void)agent_watch_rescan(daemon->watch);
        daemon_audit(daemon, request, agent, "attached: cgroup %.80s, policy %.60s", agent->path,
                     agent->policy ? agent->policy->policy->name : "");
        if (daemon_pending_add(daemon, request, agent->name, monitor_now() + 5 * NSEC_PER_SEC) < 0)
                control_reply(request, agent_to_json(daemon, agent));
}

/* By its runtime's word, and only when nothing lives in it any more; the watch may have seen it go already. */
static void container_stopped(struct daemon *daemon, struct control_request *request, const char *id)
{
        struct monitor_agent *agent;
        bool populated = true;

        (void)agent_watch_rescan(daemon->watch);
        agent = monitor_agent_by_container(daemon->monitor, id);
        if (!agent || agent->entry[0]) {
                control_reply(request, json_pack("{s:n}", "name"));
                return;
        }
        /* -ENODEV: the directory is gone. */
        if (cgroup_populated(agent->cgroup_fd, &populated) == 0 && populated) {
                control_error(request, 1, "processes of container '%s' are alive in '%s'", id, agent->path);
                return;
        }
        daemon_audit(daemon, request, agent, "container has stopped: detached");
        agent_watch_unfollow(daemon->watch, agent->name);
        control_reply(request, json_pack("{s:s}", "name", agent->name));
        monitor_detach(daemon->monitor, agent);
}

void verb_detach(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        const char *name = argument_text(arguments, "name"), *container = argument_text(arguments, "container");
        struct monitor_agent *agent = name ? monitor_agent_find(daemon->monitor, name) : NULL;

        if (container && !name) {
                container_stopped(daemon, request, container);
                return;
        }
        if (!name) {
                control_error(request, 2, "detach needs 'name' or 'container'");
                return;
        }
        if (!agent) {
                control_error(request, 1, "no agent '%s'; see `agentctl agents`", name);
                return;
        }
        daemon_audit(daemon, request, agent, "detached");
        agent_watch_unfollow(daemon->watch, agent->name);
        monitor_detach(daemon->monitor, agent);
        control_reply(request, json_pack("{s:s}", "name", name));
}

/* The word first: from its store on no packet of the agent passes. Then its connections end, so that programs know. */
static void quarantine_set(struct daemon *daemon, struct control_request *request, const json_t *arguments,
                           bool quarantine)
{
        const char *name = argument_text(arguments, "name");
        struct monitor_agent *agent = name ? monitor_agent_find(daemon->monitor, name) : NULL;

        if (!agent) {
                control_error(request, name ? 1 : 2, "no agent '%s'; see `agentctl agents`", name ? name : "");
                return;
        }
        if (quarantine && !agent->quarantine) {
                agent->quarantine = true;
                (void)monitor_publish(daemon->monitor, agent);
                monitor_sockets_destroy(daemon->monitor, agent, true);
        } else if (!quarantine) {
                int r = monitor_release(daemon->monitor, agent);

                if (r < 0) {
                        control_error(request, 1, "agent '%s' cannot be released: %s", agent->name,
                                      r == -EREMOTEIO ? "what must be denied is still let through; it is held again"
                                                      : strerror(-r));
                        return;
                }
        }
        daemon_audit(daemon, request, agent, "%s", quarantine ? "quarantined" : "released");
        control_reply(request, agent_to_json(daemon, agent));
}

void verb_quarantine(void *context, struct control_request *request, const json_t *arguments)
{
        quarantine_set(context, request, arguments, true);
}

void verb_release(void *context, struct control_request *request, const json_t *arguments)
{
        quarantine_set(context, request, arguments, false);
}

void verb_wait(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        const char *name = argument_text(arguments, "name");
        const json_t *timeout = json_object_get(arguments, "timeout_ms");
        json_int_t timeout_ms = json_is_integer(timeout) ? json_integer_value(timeout) : 10000;

        if (!name || timeout_ms < 0 || timeout_ms > 86400000) {
                control_error(request, 2, "wait needs 'name', and a 'timeout_ms' of at most a day");
                return;
        }
        (void)agent_watch_rescan(daemon->watch);
        if (daemon_pending_add(daemon, request, name, monitor_now() + (__u64)timeout_ms * NSEC_PER_MSEC) < 0)
                control_error(request, 1, "out of memory");
}

struct dns_context {
        json_t *names; /* by name */
        const struct monitor_agent *agent;
        __u64 now_ns;
};

static json_t *dns_name(struct dns_context *dns, const char *name, const char *state)
{
        json_t *item = json_object_get(dns->names, name);
        __u32 rule = RULE_NONE;

        if (item)
                return item;
        if (dns->agent->policy)
                (void)domain_set_match(dns->agent->policy->compiled->allow_domains, name, &rule, 1);
        item = json_pack("{s:s,s:o,s:s,s:n,s:[]}", "name", name, "rule",
                         dns->agent->policy && rule < dns->agent->policy->policy->n_rules
                                 ? json_string(dns->agent->policy->policy->rules[rule].id)
                                 : json_null(),
                         "state", state, "error", "addresses");
        (void)json_object_set_new(dns->names, name, item);
        return item;
}

static void dns_add_refresh(void *context, const struct refresh_view *view)
{
        static const char *const states[] = {"pending", "resolved", "failed"};
        json_t *item = dns_name(context, view->name, states[view->state]);

        if (view->error)
                (void)json_object_set_new(item, "error", json_string(strerror(-view->error)));
}

static bool dns_add_pair(void *context, const struct learned_view *view)
{
        struct dns_context *dns = context;
        json_t *item = dns_name(dns, view->name, "learned");
        char text[ADDRESS_TEXT_MAX];

        (void)json_array_append_new(
                json_object_get(item, "addresses"),
                json_pack("{s:s,s:I}", "ip", address_format(view->address, text), "expires_in_s",
                          ((json_int_t)view->expires_ns - (json_int_t)dns->now_ns) / (json_int_t)NSEC_PER_SEC));
        return true;
}

void verb_dns(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        const char *name = argument_text(arguments, "agent");
        struct dns_context dns = {.now_ns = monitor_now()};
        json_t *list, *item;
        const char *key;

        dns.agent = name ? monitor_agent_find(daemon->monitor, name) : NULL;
        if (!dns.agent) {
                control_error(request, name ? 1 : 2, "no agent '%s'; see `agentctl agents`", name ? name : "");
                return;
        }
        dns.names = json_object();
        if (dns.agent->policy)
                refresh_each(daemon->monitor->refresh, dns.agent->policy->version, dns_add_refresh, &dns);
        learned_each(daemon->monitor->learned, dns.agent->id, dns_add_pair, &dns);

        list = json_array();
        json_object_foreach(dns.names, key, item)(void) json_array_append(list, item);
        json_decref(dns.names);
        control_reply(request, json_pack("{s:s,s:o}", "agent", name, "names", list));
}
