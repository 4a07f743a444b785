/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Agents: attached, adopted, verified, detached.
 *
 * Attaching denies first and publishes the policy last. Detaching destroys the agent's sockets before the links go: the
 * queued data of a socket left behind would leave in the first unguarded moment.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "agentd/address_class.h"
#include "agentd/agent/pattern.h"
#include "agentd/datapath/unix.h"
#include "agentd/monitor.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

struct monitor_agent *monitor_agent_find(struct monitor *monitor, const char *name)
{
        struct monitor_agent *agent = NULL;

        HASH_FIND_STR(monitor->agents, name, agent);
        return agent;
}

struct monitor_agent *monitor_agent_by_cgroup(struct monitor *monitor, __u64 cgroup_id)
{
        struct monitor_agent *agent, *next;

        HASH_ITER (hh, monitor->agents, agent, next)
                if (agent->cgroup_id == cgroup_id)
                        return agent;
        return NULL;
}

const char *monitor_agent_mode(const struct monitor_agent *agent)
{
        return monitor_word_flags(agent) & WORD_AUDIT ? "audit" : "enforce";
}

static int id_take(const struct monitor *monitor, __u32 *ret)
{
        for (__u32 id = 1; id < AGENT_MAX; id++) {
                if (!monitor->by_id[id] && datapath_agent(monitor->datapath, id)->cgroup_id == 0) {
                        *ret = id;
                        return 0;
                }
        }
        return -ENOSPC;
}

static struct monitor_agent *agent_add(struct monitor *monitor, const char *name, const char *entry, const char *path,
                                       __u32 id, __u64 cgroup_id, int cgroup_fd)
{
        struct monitor_agent *agent = calloc(1, sizeof(*agent));

        if (!agent)
                return NULL;
        agent->cgroup_fd = cgroup_fd;
        agent->path = strdup(path);
        if (!agent->path) {
                free(agent);
                return NULL;
        }
        memcpy(agent->name, name, MIN(strlen(name), sizeof(agent->name) - 1));
        memcpy(agent->entry, entry, MIN(strlen(entry), sizeof(agent->entry) - 1));
        agent->id = id;
        agent->cgroup_id = cgroup_id;
        HASH_ADD_STR(monitor->agents, name, agent);
        monitor->by_id[id] = agent;
        return agent;
}

static void agent_drop(struct monitor *monitor, struct monitor_agent *agent)
{
        monitor_probe_forget(monitor, agent);
        monitor_listeners_close(monitor, agent);
        monitor_devices_forget(agent);
        if (agent->settling)
                monitor_settle_end(monitor, agent->settling);
        monitor->by_id[agent->id] = NULL;
        HASH_DEL(monitor->agents, agent);
        close_fd(&agent->cgroup_fd);
        free(agent->path);
        free(agent);
}

/* Where its listener may be found; spread by a hash, so that daemons and runs side by side rarely meet. */
void monitor_ports_choose(struct monitor *monitor, __u32 agent_id, size_t first)
{
        struct agent_entry *entry = datapath_agent(monitor->datapath, agent_id);
        __u64 hash = (monitor_now() ^ agent_id) * 0x9e3779b97f4a7c15ull;

        for (size_t i = first; i < DNS_PORTS; i++) {
                entry->dns_ports[i] = (__u16)(LISTENER_PORT_FIRST + (hash >> 32) % LISTENER_PORT_COUNT);
                hash = hash * 0x9e3779b97f4a7c15ull + 0xda3e39cb94b95bdbull;
        }
}

static int attach_failed(struct monitor_error *error, int exit_status, int r, const char *what, const char *path)
{
        error->exit_status = exit_status;
        (void)snprintf(error->text, sizeof(error->text), "%s '%s': %s", what, path, strerror(-r));
        return r;
}

static void attach_undo(struct monitor *monitor, struct monitor_agent *agent)
{
        __u32 id = agent->id;

        monitor_probe_forget(monitor, agent);
        (void)dns_supervisor_agent_gone(monitor->dns, id);
        (void)datapath_detach(monitor->datapath, id);
        monitor_limits_discard(monitor, agent);
        monitor_limits_retire(monitor, agent);
        agent_drop(monitor, agent);
}

int monitor_attach(struct monitor *monitor, const char *name, const char *entry, const char *path, const char *policy,
                   enum monitor_mode mode, struct monitor_error *error, struct monitor_agent **ret)
{
        struct monitor_policy *found = monitor_policy_find(monitor, policy);
        struct monitor_agent *agent, *next;
        struct monitor_existing existing = {};
        _cleanup_close_ int fd = -1;
        __u64 id;
        __u32 agent_id;
        int r;

        error->exit_status = 1;
        if (!name[0] || strlen(name) >= AGENT_NAME_MAX) {
                error->exit_status = 2;
                (void)snprintf(error->text, sizeof(error->text), "the agent's name must have 1 to %d bytes",
                               AGENT_NAME_MAX - 1);
                return -EINVAL;
        }
        if (!found) {
                error->exit_status = 2;
                (void)snprintf(error->text, sizeof(error->text), "no policy '%s'; see `agentctl policy list`", policy);
                return -ENOENT;
        }
        if (monitor_agent_find(monitor, name)) {
                (void)snprintf(error->text, sizeof(error->text), "agent '%s' exists already; detach it first", name);
                return -EEXIST;
        }
        r = cgroup_open(&monitor->mount, path, &fd);
        if (r < 0)
                return attach_failed(error, 1, r, "cannot open cgroup", path);
        r = cgroup_id(fd, &id);
        if (r < 0)
                return attach_failed(error, 1, r, "cannot identify cgroup", path);
        agent = monitor_agent_by_cgroup(monitor, id);
        if (agent) {
                (void)snprintf(error->text, sizeof(error->text), "cgroup '%s' is the agent '%s' already", path,
                               agent->name);
                return -EEXIST;
        }
        HASH_ITER (hh, monitor->agents, agent, next) {
                /* Both would judge each packet, and the outer one takes the inner one's look-ups for another agent's.
                 */
                if (cgroup_path_is_within(agent->path, path) || cgroup_path_is_within(path, agent->path)) {
                        (void)snprintf(
                                error->text, sizeof(error->text),
                                "cgroup '%s' and agent '%s' at '%s' are one inside the other; an agent covers its "
                                "children already",
                                path, agent->name, agent->path);
                        return -EEXIST;
                }
        }
        r = id_take(monitor, &agent_id);
        if (r < 0) {
                error->exit_status = 4;
                (void)snprintf(error->text, sizeof(error->text), "no room for another agent: %d at most",
                               AGENT_MAX - 1);
                return r;
        }

        agent = agent_add(monitor, name, entry, path, agent_id, id, fd);
        if (!agent)
                return attach_failed(error, 1, -ENOMEM, "cannot attach to cgroup", path);
        (void)TAKE_FD(fd);
        /* Before there is a program that could refuse it. */
        monitor_probe_prepare(monitor, agent);
        r = datapath_attach(monitor->datapath, agent_id, agent->cgroup_fd, id, name);
        if (r < 0) {
                agent_drop(monitor, agent);
                return attach_failed(error, r == -EPERM || r == -EINVAL ? 4 : 1, r, "cannot attach to cgroup", path);
        }
        monitor_ports_choose(monitor, agent_id, 0);
        datapath_agent(monitor->datapath, agent_id)->by_hand = !entry[0];
        agent->policy = found;
        agent->mode = mode;
        monitor_container_look(agent);
        r = monitor_limits_prepare(monitor, agent, found, error);
        /* By hand it is an error, and nothing is attached. Who is in the configuration must not run free meanwhile:
         * it is denied until its limits can be had. */
        if (r < 0 && !entry[0]) {
                (void)datapath_detach(monitor->datapath, agent_id);
                agent_drop(monitor, agent);
                return r;
        }
        monitor_devices_young(monitor, agent);
        if (agent->unmet > UNMET_WAITING && !entry[0]) {
                error->exit_status = 4;
                (void)snprintf(error->text, sizeof(error->text), "cannot enforce policy '%s' at '%s': it %s", policy,
                               path, agent->detail);
                attach_undo(monitor, agent);
                return -EOPNOTSUPP;
        }
        (void)monitor_publish(monitor, agent);
        monitor_population(monitor, agent);
        /* Connections from before are judged from now on; those that the policy forbids end. */
        monitor_sockets_existing(monitor, agent, &existing);
        monitor_verify(monitor, agent);
        if (monitor_probe_round(monitor, agent) == PROOF_PASSED && !entry[0]) {
                char why[192];

                (void)monitor_agent_state(agent, why, sizeof(why));
                error->exit_status = 4;
                (void)snprintf(error->text, sizeof(error->text), "cannot enforce policy '%s' at '%s': %s", policy, path,
                               why);
                attach_undo(monitor, agent);
                return -EOPNOTSUPP;
        }
        if (monitor_settle_begin(monitor, found, &agent->settling) == 0)
                agent->settle_until_ns = monitor_now() + MONITOR_SETTLE_MS * NSEC_PER_MSEC;
        if (existing.n_open > 0)
                monitor_event(monitor, EVENT_LIFECYCLE, agent, REASON_NONE,
                              "attached to %.128s; of %zu open sockets %zu were made in another cgroup; %zu were ended",
                              path, existing.n_open, existing.n_foreign, existing.n_ended);
        else
                monitor_event(monitor, EVENT_LIFECYCLE, agent, REASON_NONE, "attached to %s", path);
        *ret = agent;
        return 0;
}

bool monitor_agent_settled(struct monitor *monitor, struct monitor_agent *agent)
{
        if (!agent->settling)
                return true;
        if (agent->settling->n > 0 && monitor_now() < agent->settle_until_ns)
                return false;
        monitor_settle_end(monitor, agent->settling);
        agent->settling = NULL;
        return true;
}

void monitor_rename(struct monitor *monitor, struct monitor_agent *agent, const char *name, const char *entry)
{
        struct agent_entry *pinned = datapath_agent(monitor->datapath, agent->id);

        HASH_DEL(monitor->agents, agent);
        (void)snprintf(agent->name, sizeof(agent->name), "%s", name);
        (void)snprintf(agent->entry, sizeof(agent->entry), "%s", entry);
        HASH_ADD_STR(monitor->agents, name, agent);
        memset(pinned->name, 0, sizeof(pinned->name));
        memcpy(pinned->name, agent->name, strlen(agent->name));
        pinned->by_hand = !entry[0];
        (void)monitor_publish(monitor, agent); /* its budgets are those of its name */
}

void monitor_detach(struct monitor *monitor, struct monitor_agent *agent)
{
        __u32 id = agent->id;

        /* A word of 0 denies whatever its sockets still try. */
        (void)datapath_agent_publish(monitor->datapath, id, 0, 0);
        monitor_sockets_end(monitor, agent);
        monitor_listeners_close(monitor, agent);
        (void)dns_supervisor_agent_gone(monitor->dns, id);
        monitor_event(monitor, EVENT_LIFECYCLE, agent, REASON_NONE, "detached from %s", agent->path);
        event_bus_flush(monitor->bus);
        monitor_forget_names(monitor, agent);
        (void)datapath_detach(monitor->datapath, id);
        monitor_limits_discard(monitor, agent);
        monitor_limits_retire(monitor, agent);
        agent_drop(monitor, agent);
}

void monitor_population(struct monitor *monitor, struct monitor_agent *agent)
{
        struct netns_process namespaces[64];
        _cleanup_free_ pid_t *pids = NULL;
        size_t n_pids = 0, n = 0;

        if (cgroup_pids(agent->cgroup_fd, &pids, &n_pids) < 0 || n_pids == 0)
                return;
        if (netns_collect(pids, n_pids, namespaces, ARRAY_SIZE(namespaces), &n) < 0)
                return;
        for (size_t i = 0; i < MIN(n, ARRAY_SIZE(namespaces)); i++) {
                _cleanup_close_ int fd = -1;
                struct monitor_listener *listener = agent->listeners;

                while (listener && !netns_identity_equal(&listener->identity, &namespaces[i].identity))
                        listener = listener->next;
                if (listener) {
                        listener->unused_since_ns = 0;
                        continue;
                }
                /* A process that has left, or a namespace that cannot take a listener: its first look-up will tell. */
                if (netns_open(namespaces[i].pid, &fd) == 0)
                        (void)monitor_listener_open(monitor, agent, TAKE_FD(fd));
        }
}

void monitor_verify(struct monitor *monitor, struct monitor_agent *agent)
{
        const struct agent_entry *entry = datapath_agent(monitor->datapath, agent->id);
        enum hook hook = HOOK_NONE;
        int r = datapath_verify(monitor->datapath, agent->id, &hook);
        __u32 version;

        if (agent->without_limits)
                (void)monitor_publish(monitor, agent); /* there may be room by now */
        monitor_devices_verify(monitor, agent);
        monitor_container_look(agent);
        version = agent->policy && !agent->without_limits && !agent->unmet ? agent->policy->version : 0;
        if (r < 0) {
                monitor->drift[DRIFT_LINK]++;
                monitor_event(monitor, EVENT_DRIFT, agent, REASON_NONE, "the hook %s was gone", hook_to_string(hook));
                r = datapath_repair(monitor->datapath, agent->id, agent->cgroup_fd);
                if (r == 0)
                        r = datapath_verify(monitor->datapath, agent->id, &hook);
        }
        if (r == 0 && (WORD_VERSION(entry->word) != version || WORD_FLAGS(entry->word) != monitor_word_flags(agent) ||
                       entry->cgroup_id != agent->cgroup_id)) {
                monitor->drift[DRIFT_ENTRY]++;
                monitor_event(monitor, EVENT_DRIFT, agent, REASON_NONE, "its entry in the kernel was changed");
                (void)monitor_publish(monitor, agent);
        }
        agent->broken = r < 0 || (version == 0 && agent->unmet != UNMET_WAITING);
        if (r < 0)
                (void)snprintf(agent->detail, sizeof(agent->detail), "hook %s is not attached: %s",
                               hook_to_string(hook), strerror(-r));
        else if (version != 0)
                agent->detail[0] = '\0';
}

/*
 * The entry of the configuration that has this cgroup; NULL: none. By its path and never by its name: the name of an
 * agent that was attached by hand or by a hook is of somebody's choice, and must not choose a policy.
 */
static const struct agent_spec *entry_of(const struct monitor *monitor, const char *path)
{
        const struct config *config = monitor->config->config;
        const struct agent_spec *found = NULL;

        for (size_t i = 0; i < config->n_agents; i++) {
                const struct agent_spec *spec = &config->agents[i];
                bool is_glob = cgroup_path_is_glob(spec->cgroup);
                _cleanup_free_ char *pattern = NULL;

                if (cgroup_path_canonical(&monitor->mount, spec->cgroup, &pattern) < 0)
                        continue;
                if (!is_glob && strcmp(pattern, path) == 0)
                        return spec;
                if (is_glob && !found && pattern_matches(pattern, path))
                        found = spec;
        }
        return found;
}

static void adopt_one(struct monitor *monitor, __u32 id)
{
        struct agent_entry *entry = datapath_agent(monitor->datapath, id);
        const struct agent_spec *spec;
        _cleanup_free_ char *path = NULL;
        char name[AGENT_NAME_MAX] = "", policy[AGENT_NAME_MAX] = "";
        _cleanup_close_ int fd = -1;
        struct monitor_agent *agent;
        __u64 found = 0;
        int r;

        /* Text in a pinned map is as hostile as any: bounded before it is read. */
        memcpy(name, entry->name, sizeof(name) - 1);
        memcpy(policy, entry->policy, sizeof(policy) - 1);
        r = cgroup_path_of_id(&monitor->mount, entry->cgroup_id, &path);
        if (r == 0)
                r = cgroup_open(&monitor->mount, path, &fd);
        if (r == 0)
                r = cgroup_id(fd, &found);
        if (r == -ENOENT || r == -ESTALE || r == -ENODEV || (r == 0 && found != entry->cgroup_id)) {
                (void)datapath_detach(monitor->datapath, id); /* its cgroup is gone */
                return;
        }
        if (r < 0 || !name[0] || monitor_agent_find(monitor, name)) {
                /* Not knowing is no reason to let go: the links stay, nobody gets its id, and as its rules are about to
                 * be swept with those of its version, it is denied in so many words. */
                (void)datapath_agent_publish(monitor->datapath, id, 0, 0);
                log_warning_errno(r, "cannot adopt agent %u '%s': everything of it is denied", id, name);
                return;
        }

        spec = entry->by_hand == 1 ? NULL : entry_of(monitor, path);
        if (spec)
                (void)snprintf(policy, sizeof(policy), "%.63s", spec->policy);
        agent = agent_add(monitor, name, spec ? spec->name : "", path, id, found, fd);
        if (!agent)
                return; /* what is pinned goes on enforcing */
        (void)TAKE_FD(fd);
        monitor_container_look(agent);
        agent->mode = entry->mode <= MONITOR_MODE_AUDIT ? (enum monitor_mode)entry->mode : MONITOR_MODE_POLICY;
        /* The first port is kept for sockets that wait for their answer; a neighbour could have taken all the known
         * ones. */
        monitor_ports_choose(monitor, id, 1);
        agent->quarantine = (WORD_FLAGS(entry->word) & WORD_QUARANTINE) != 0;
        agent->frozen = agent->quarantine && entry->frozen == 1;
        agent->policy = monitor_policy_find(monitor, policy);
        if (!agent->policy) {
                agent->broken = true;
                (void)snprintf(agent->detail, sizeof(agent->detail),
                               "policy '%s' is not in the configuration: everything is denied", policy);
                log_warning("agent '%s': %s", agent->name, agent->detail);
        }
}

int monitor_adopt(struct monitor *monitor)
{
        static __u32 ids[AGENT_MAX];
        size_t n = datapath_adopted(monitor->datapath, ids);
        struct monitor_agent *agent, *next;

        for (size_t i = 0; i < n; i++)
                adopt_one(monitor, ids[i]);
        monitor_names_adopt(monitor);
        HASH_ITER (hh, monitor->agents, agent, next) {
                if (agent->policy && monitor_relearn(monitor, agent, agent->policy) < 0)
                        log_warning("some names of '%s' must be looked up again", agent->name);
                (void)monitor_publish(monitor, agent);
                monitor_unlearn(monitor, agent);
                monitor_devices_young(monitor, agent);
                monitor_population(monitor, agent);
                monitor_sockets_destroy(monitor, agent, false);
                monitor_verify(monitor, agent);
                (void)monitor_probe_round(monitor, agent);
                monitor_event(monitor, EVENT_LIFECYCLE, agent, REASON_NONE, "adopted at %s", agent->path);
        }
        monitor_grace();
        monitor_budgets_sweep(monitor);
        (void)datapath_unix_sweep(monitor->datapath);
        return datapath_policies_sweep(monitor->datapath);
}
