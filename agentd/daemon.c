/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * `agentd serve`: a monitor, the watch that finds agents, the control socket, and the signals.
 *
 * Stopping it ends nothing: what is pinned goes on enforcing, and the next daemon adopts it.
 */
#include "agentd/daemon.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "agentd/monitor_guard.h"
#include "agentd/policy/report.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

enum { PENDING_MS = 20, ATTACH_FAILURE_LOG_S = 60 };

static const char help[] =
        "Usage: agentd serve [--config FILE]\n"
        "The daemon, in the foreground (default FILE: /etc/agentd/agentd.yaml).\n\n"
        "SIGHUP reloads, SIGTERM stops; enforcement outlives it. AGENTD_SOCKET and AGENTD_BPFFS in the environment\n"
        "name another control socket and BPF file system, so that several daemons can live side by side.\n\n"
        "Example: agentd serve --config /etc/agentd/agentd.yaml\n";

static const struct agent_spec *entry_find(const struct daemon *daemon, const char *entry)
{
        const struct config *config = daemon->monitor->config->config;

        for (size_t i = 0; i < config->n_agents; i++)
                if (strcmp(config->agents[i].name, entry) == 0)
                        return &config->agents[i];
        return NULL;
}

static int on_renamed(void *context, const char *old_name, const struct agent_watch_match *match)
{
        struct daemon *daemon = context;
        struct monitor_agent *agent = monitor_agent_find(daemon->monitor, old_name);
        const struct agent_spec *spec = entry_find(daemon, match->entry);
        struct monitor_policy *policy = spec ? monitor_policy_find(daemon->monitor, spec->policy) : NULL;

        if (!agent || !policy || monitor_agent_find(daemon->monitor, match->name))
                return -ENOENT;
        monitor_rename(daemon->monitor, agent, match->name, match->entry);
        if (agent->policy != policy)
                monitor_agent_move(daemon->monitor, agent, policy);
        return 0;
}

/* The watch tries again each second: a thousand refused agents must not be a thousand lines a second. */
static void attach_failure_log(struct daemon *daemon, const char *name, const char *text)
{
        __u64 now_ns = monitor_now();

        daemon->attach_failures++;
        (void)snprintf(daemon->attach_failure, sizeof(daemon->attach_failure), "'%.60s': %.120s", name, text);
        if (daemon->attach_failure_ns && now_ns - daemon->attach_failure_ns < ATTACH_FAILURE_LOG_S * NSEC_PER_SEC)
                return;
        daemon->attach_failure_ns = now_ns;
        log_error("agent '%s' is not enforced: %s (%zu failed attempts so far; see `agentctl status`)", name, text,
                  daemon->attach_failures);
}

/* Who had its name from an entry that has another cgroup now keeps its policy, and takes a name that nobody has. */
static int agent_step_aside(struct daemon *daemon, struct monitor_agent *agent)
{
        char name[AGENT_NAME_MAX];

        (void)snprintf(name, sizeof(name), "%.46s-%llx", agent->name, (unsigned long long)agent->cgroup_id);
        if (monitor_agent_find(daemon->monitor, name))
                return -EEXIST;
        monitor_event(daemon->monitor, EVENT_LIFECYCLE, agent, REASON_NONE,
                      "named %s: the configuration has its name for another cgroup", name);
        monitor_rename(daemon->monitor, agent, name, "");
        return 0;
}

static int on_appeared(void *context, const struct agent_watch_match *match)
{
        struct daemon *daemon = context;
        const struct agent_spec *spec = entry_find(daemon, match->entry);
        struct monitor_agent *agent = monitor_agent_by_cgroup(daemon->monitor, match->cgroup_id);
        struct monitor_error error = {};
        int r;

        if (!spec)
                return -ENOENT;
        if (agent) { /* adopted: it was enforced all the time, perhaps under another name */
                if (strcmp(agent->name, match->name) != 0)
                        return on_renamed(daemon, agent->name, match);
                (void)snprintf(agent->entry, sizeof(agent->entry), "%.63s", match->entry);
                return 0;
        }
        agent = monitor_agent_find(daemon->monitor, match->name);
        /* The same name at another cgroup than before the restart. What is there still is confined under another. */
        if (agent && agent_step_aside(daemon, agent) < 0)
                return -EEXIST;
        r = monitor_attach(daemon->monitor, match->name, match->entry, match->path, spec->policy, MONITOR_MODE_POLICY,
                           &error, &agent);
        if (r < 0)
                attach_failure_log(daemon, match->name, error.text);
        return r;
}

static void on_vanished(void *context, const char *name, __u64 cgroup_id, enum agent_watch_end end)
{
        struct daemon *daemon = context;
        struct monitor_agent *agent = monitor_agent_find(daemon->monitor, name);

        if (agent && agent->cgroup_id == cgroup_id)
                monitor_detach(daemon->monitor, agent);
}

static void on_population(void *context, const char *name, __u64 cgroup_id, bool populated)
{
        struct daemon *daemon = context;
        struct monitor_agent *agent = monitor_agent_find(daemon->monitor, name);

        if (!agent || !populated)
                return;
        monitor_devices_young(daemon->monitor, agent);
        monitor_population(daemon->monitor, agent);
}

static bool is_agent(void *context, pid_t pid)
{
        struct daemon *daemon = context;
        struct monitor_agent *agent, *next;

        HASH_ITER (hh, daemon->monitor->agents, agent, next)
                if (cgroup_has_pid(&daemon->monitor->mount, agent->path, pid) != 0)
                        return true; /* also when it cannot be known */
        return monitor_guards_hold(daemon->monitor, pid);
}

static void pending_remove(struct daemon_pending *pending)
{
        struct daemon_pending **link = &pending->daemon->pending;

        while (*link && *link != pending)
                link = &(*link)->next;
        if (*link)
                *link = pending->next;
        free(pending);
}

static void on_pending_closed(void *data)
{
        pending_remove(data);
}

static void on_pending(uv_timer_t *timer)
{
        struct daemon *daemon = timer->data;
        struct daemon_pending *pending, *next;
        __u64 now_ns = monitor_now();

        for (pending = daemon->pending; pending; pending = next) {
                struct monitor_agent *agent = monitor_agent_find(daemon->monitor, pending->name);
                struct control_request *request = pending->request;
                char detail[256] = "";

                next = pending->next;
                if (agent && monitor_agent_holds(daemon->monitor, agent) &&
                    monitor_agent_settled(daemon->monitor, agent)) {
                        control_on_close(request, NULL, NULL);
                        control_reply(request, agent_to_json(daemon, agent));
                } else if (pending->deadline_ns && now_ns >= pending->deadline_ns) {
                        control_on_close(request, NULL, NULL);
                        if (agent)
                                (void)monitor_agent_state(agent, detail, sizeof(detail));
                        if (!agent)
                                control_error(request, 1, "agent '%s' has not appeared", pending->name);
                        else
                                control_error(request, 1, "agent '%s' is not shown to be enforced: %s", pending->name,
                                              detail[0] ? detail : "its names are not resolved yet");
                } else {
                        continue;
                }
                pending_remove(pending);
        }
        if (!daemon->pending)
                (void)uv_timer_stop(&daemon->pending_timer);
}

int daemon_pending_add(struct daemon *daemon, struct control_request *request, const char *name, __u64 deadline_ns)
{
        struct daemon_pending *pending = calloc(1, sizeof(*pending));

        if (!pending)
                return -ENOMEM;
        pending->daemon = daemon;
        pending->request = request;
        pending->deadline_ns = deadline_ns;
        (void)snprintf(pending->name, sizeof(pending->name), "%s", name);
        pending->next = daemon->pending;
        daemon->pending = pending;
        control_on_close(request, on_pending_closed, pending);
        return uv_timer_start(&daemon->pending_timer, on_pending, 0, PENDING_MS);
}

static void events_target_set(struct daemon *daemon, const char *target)
{
        if (strcmp(target, daemon->events_target) == 0)
                return;
        (void)snprintf(daemon->events_target, sizeof(daemon->events_target), "%s", target);
        if (event_bus_set_sink(daemon->bus, daemon->events_target) < 0)
                log_warning("cannot write events to '%s'", daemon->events_target);
}

int daemon_reload(struct daemon *daemon, struct monitor_error *error, json_t **ret_errors, json_t **ret_result)
{
        struct diagnostics diagnostics = {};
        struct config *config = NULL;
        __u32 old_generation = datapath_generation(daemon->monitor->datapath);
        json_t *changes = NULL;
        int r;

        daemon_notify_reloading(daemon);
        r = config_load(daemon->config_path, &diagnostics, &config);
        if (r < 0) {
                error->exit_status = diagnostics_exit_status(&diagnostics);
                if (error->exit_status == 0)
                        error->exit_status = 1;
                (void)snprintf(error->text, sizeof(error->text), "'%s' is not valid; nothing has changed",
                               daemon->config_path);
                *ret_errors = report_diagnostics_json(&diagnostics);
        } else {
                r = monitor_guards_prepare(daemon->monitor, config, error);
                if (r < 0) {
                        config_free(config);
                } else {
                        r = monitor_apply(daemon->monitor, config, error, &changes);
                        if (r < 0)
                                monitor_guards_cancel(daemon->monitor);
                }
                if (r == 0)
                        events_target_set(daemon, daemon->monitor->config->config->daemon.events);
        }
        diagnostics_clear(&diagnostics);
        if (r == 0) {
                const struct config *now = daemon->monitor->config->config;
                int set = agent_watch_set(daemon->watch, now->agents, now->n_agents, NULL);

                if (set < 0)
                        log_warning_errno(set, "cannot watch all agents");
                monitor_guards_commit(daemon->monitor);
                *ret_result = json_pack("{s:I,s:I,s:o}", "old_generation", (json_int_t)old_generation, "new_generation",
                                        (json_int_t)datapath_generation(daemon->monitor->datapath), "changes", changes);
                daemon->reloads_ok++;
                monitor_event(daemon->monitor, EVENT_LIFECYCLE, NULL, REASON_NONE, "reloaded: %zu changes",
                              json_array_size(changes));
        } else {
                daemon->reloads_failed++;
                monitor_event(daemon->monitor, EVENT_LIFECYCLE, NULL, REASON_NONE, "reload refused: %.200s",
                              error->text);
        }
        daemon_notify_reloaded(daemon);
        return r;
}

static void on_signal(uv_signal_t *handle, int signal_number)
{
        struct daemon *daemon = handle->data;
        struct monitor_error error = {};
        json_t *errors = NULL, *result = NULL;

        if (signal_number != SIGHUP) {
                uv_stop(&daemon->loop);
                return;
        }
        (void)event_bus_reopen(daemon->bus);
        if (daemon_reload(daemon, &error, &errors, &result) < 0) {
                size_t i;
                json_t *item;

                log_error("%s", error.text);
                json_array_foreach(errors, i, item)
                        log_error("%s:%d:%d: %s", json_string_value(json_object_get(item, "file")),
                                  (int)json_integer_value(json_object_get(item, "line")),
                                  (int)json_integer_value(json_object_get(item, "column")),
                                  json_string_value(json_object_get(item, "text")));
        }
        json_decref(errors);
        json_decref(result);
}

static int signals_start(struct daemon *daemon)
{
        static const int numbers[] = {SIGHUP, SIGTERM, SIGINT};
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
                int r = uv_signal_init(&daemon->loop, &daemon->signals[i]);

                if (r < 0)
                        return r;
                daemon->signals[i].data = daemon;
                r = uv_signal_start(&daemon->signals[i], on_signal, numbers[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void parent_make(const char *path, mode_t mode)
{
        _cleanup_free_ char *copy = strdup(path);

        if (!copy)
                return;
        for (char *p = copy + 1; *p; p++) {
                if (*p != '/')
                        continue;
                *p = '\0';
                (void)mkdir(copy, mode); /* what is missing then is told by who needs it */
                *p = '/';
        }
}

static void agents_follow(struct daemon *daemon, bool by_hand_only)
{
        struct monitor_agent *agent, *next;

        HASH_ITER (hh, daemon->monitor->agents, agent, next) {
                int r;

                if (by_hand_only && datapath_agent(daemon->monitor->datapath, agent->id)->by_hand != 1)
                        continue;
                r = agent_watch_follow(daemon->watch, agent->name, agent->path, agent->cgroup_id);
                if (r == 0)
                        agent->entry[0] = '\0';
                else if (r != -EEXIST)
                        log_warning_errno(r, "cannot follow the cgroup of '%s'", agent->name);
        }
}

static int daemon_open(struct daemon *daemon, struct config *config, struct monitor_error *error)
{
        struct datapath_error datapath_error = {};
        struct monitor_options options = {};
        _cleanup_free_ char *directory = NULL;
        const char *socket_path = getenv("AGENTD_SOCKET");
        int r;

        (void)snprintf(daemon->events_target, sizeof(daemon->events_target), "%s", config->daemon.events);
        daemon->socket_path = strdup(socket_path && *socket_path ? socket_path : config->daemon.socket);
        daemon->state_directory = strdup(config->daemon.state_dir);
        error->exit_status = 1;
        if (!daemon->socket_path || !daemon->state_directory) {
                config_free(config);
                return -ENOMEM;
        }
        if (daemon->events_target[0] == '/')
                parent_make(daemon->events_target, 0750);
        parent_make(daemon->socket_path, 0755);

        r = event_bus_new(&daemon->loop, &daemon->bus);
        if (r == 0)
                r = event_bus_set_sink(daemon->bus, daemon->events_target);
        if (r < 0) {
                (void)snprintf(error->text, sizeof(error->text), "cannot write events to '%s': %s",
                               daemon->events_target, strerror(-r));
                config_free(config);
                return r;
        }
        r = datapath_directory(getenv("AGENTD_BPFFS"), &datapath_error, &directory);
        if (r < 0) {
                error->exit_status = r == -EPERM || r == -EACCES ? 4 : 1;
                (void)snprintf(error->text, sizeof(error->text), "cannot enforce: %s: %s%s", datapath_error.text,
                               strerror(-r), geteuid() != 0 ? "; root is needed" : "");
                config_free(config);
                return r;
        }
        options.directory = directory;
        options.state_directory = daemon->state_directory;
        r = monitor_new(&daemon->loop, &options, config, daemon->bus, error, &daemon->monitor);
        if (r < 0)
                return r;

        daemon->watch_callbacks = (struct agent_watch_callbacks){
                .appeared = on_appeared,
                .vanished = on_vanished,
                .renamed = on_renamed,
                .population = on_population,
        };
        r = agent_watch_new(&daemon->loop, &daemon->monitor->mount, &daemon->watch_callbacks, daemon, &daemon->watch);
        if (r < 0) {
                (void)snprintf(error->text, sizeof(error->text), "cannot watch cgroups: %s", strerror(-r));
                return r;
        }
        r = monitor_adopt(daemon->monitor);
        if (r < 0) {
                (void)snprintf(error->text, sizeof(error->text), "cannot adopt what is pinned: %s", strerror(-r));
                return r;
        }
        config = daemon->monitor->config->config;
        r = monitor_guards_prepare(daemon->monitor, config, error);
        if (r < 0)
                return r;
        /* Before the entries: who was attached by hand keeps name and cgroup, as while the former daemon ran. */
        agents_follow(daemon, true);
        {
                size_t bad = 0;

                r = agent_watch_set(daemon->watch, config->agents, config->n_agents, &bad);
                if (r < 0) {
                        const struct agent_spec *spec = &config->agents[bad < config->n_agents ? bad : 0];

                        error->exit_status = 2;
                        (void)snprintf(error->text, sizeof(error->text), "%s:%u:%u: cgroup '%s' of agent '%s': %s",
                                       spec->place.file, spec->place.line, spec->place.column, spec->cgroup, spec->name,
                                       r == -EISDIR ? "the root of the hierarchy would be the whole host; name a "
                                                      "cgroup below it"
                                                    : strerror(-r));
                        return r;
                }
        }
        monitor_guards_commit(daemon->monitor);
        /* Adopted agents that no entry claims: their end must be seen too. */
        agents_follow(daemon, false);
        r = control_server_new(&daemon->loop, daemon->socket_path, daemon_verbs, is_agent, daemon, &daemon->control);
        if (r < 0) {
                (void)snprintf(error->text, sizeof(error->text), "cannot listen on '%s': %s%s", daemon->socket_path,
                               strerror(-r), r == -EADDRINUSE ? "; another agentd answers there" : "");
                return r;
        }
        r = daemon_audit_start(daemon);
        if (r < 0) {
                (void)snprintf(error->text, sizeof(error->text), "cannot open the audit log in '%s': %s",
                               daemon->state_directory, strerror(-r));
                return r;
        }
        return daemon_metrics_start(daemon, config);
}

static void close_handle(uv_handle_t *handle, void *context)
{
        if (!uv_is_closing(handle))
                uv_close(handle, NULL);
}

static void daemon_close(struct daemon *daemon)
{
        metrics_link_free(daemon->metrics);
        control_server_free(daemon->control);
        agent_watch_free(daemon->watch);
        monitor_free(daemon->monitor);
        if (daemon->bus)
                event_bus_flush(daemon->bus);
        daemon_audit_stop(daemon);
        event_bus_free(daemon->bus);
        free(daemon->socket_path);
        free(daemon->state_directory);
        free(daemon->config_path);
        uv_walk(&daemon->loop, close_handle, NULL);
        (void)uv_run(&daemon->loop, UV_RUN_DEFAULT);
        (void)uv_loop_close(&daemon->loop);
}

/* A dozen links and four probes an agent are held open: what the hard limit gives is taken. */
static void descriptors_raise(void)
{
        const rlim_t wanted = 131072;
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= wanted)
                return;
        if (limit.rlim_max < wanted) {
                struct rlimit raised = {.rlim_cur = wanted, .rlim_max = wanted};

                if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
                        return;
        }
        limit.rlim_cur = MIN(limit.rlim_max, wanted);
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                log_warning_errno(-errno, "cannot raise the limit of open files, ignoring");
}

int serve_main(int argc, char *argv[])
{
        static const struct option long_options[] = {
                {"config", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {}};
        const char *path = "/etc/agentd/agentd.yaml";
        struct diagnostics diagnostics = {};
        struct monitor_error error = {};
        struct config *config = NULL;
        struct daemon daemon = {};
        int r, option, status;

        opterr = 0;
        while ((option = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
                switch (option) {
                case 'c':
                        path = optarg;
                        break;
                case 'h':
                        fputs(help, stdout);
                        return 0;
                default:
                        log_error("%s '%s'; see `agentd serve --help`",
                                  option == ':' ? "no value for option" : "unknown option", argv[optind - 1]);
                        return 2;
                }
        }
        if (optind < argc) {
                log_error("unexpected argument '%s'; see `agentd serve --help`", argv[optind]);
                return 2;
        }

        r = config_load(path, &diagnostics, &config);
        report_diagnostics("agentd", &diagnostics, stderr);
        status = diagnostics_exit_status(&diagnostics);
        diagnostics_clear(&diagnostics);
        if (r < 0)
                return status ? status : 1;

        descriptors_raise();
        (void)signal(SIGPIPE, SIG_IGN);
        daemon.config_path = realpath(path, NULL);
        (void)uv_loop_init(&daemon.loop);
        (void)uv_timer_init(&daemon.loop, &daemon.pending_timer);
        daemon.pending_timer.data = &daemon;
        r = signals_start(&daemon);
        if (r == 0)
                r = daemon_notify_start(&daemon);
        if (r == 0)
                r = daemon_open(&daemon, config, &error);
        status = 0;
        if (r < 0) {
                log_error("%s", error.text[0] ? error.text : strerror(-r));
                status = error.exit_status ? error.exit_status : 1;
        } else {
                log_info("enforcing %u agents, policy generation %u, control socket %s",
                         HASH_COUNT(daemon.monitor->agents), datapath_generation(daemon.monitor->datapath),
                         daemon.socket_path);
                daemon_notify_opened(&daemon);
                (void)uv_run(&daemon.loop, UV_RUN_DEFAULT);
                daemon_notify_stopping();
        }
        daemon_close(&daemon);
        return status;
}
