/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * `agentd run`: a monitor for the life of one command. It makes a cgroup, enforces, then lets the command start in it.
 *
 * The links are pinned (in a directory of this run): should agentd itself be killed, the command stays confined. On a
 * normal end nothing of it is left: the sockets are destroyed first, then the processes, the links, the cgroup.
 */
#include "agentd/run.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "agentd/monitor_budget.h"
#include "agentd/policy/report.h"
#include "agentd/run_child.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"
#include "agentd/version.h"

enum { RUN_FAILED = 125, RUN_CANNOT_EXECUTE = 126, RUN_NOT_FOUND = 127, RUN_KILL_MS = 5000 };

struct run_options {
        const char *config, *policy, *name, *events, *user;
        char **command;
};

struct run {
        uv_loop_t loop;
        struct event_bus *bus;
        struct monitor *monitor;
        struct monitor_agent *agent;
        struct run_child child;
        struct run_user *user;
        char *pins, *cgroup;
        int cgroup_fd;
        bool cgroup_made;
        uv_signal_t signals[5];
        uv_timer_t deadline;
        bool ended;
        int wait_status;
};

static const char help[] =
        "Usage: agentd run [OPTION...] -- COMMAND [ARG...]\n"
        "Run one command under one policy, with no daemon.\n\n"
        "  --config FILE    the configuration; without it everything but loopback is denied\n"
        "  --policy NAME    which policy; without it the only one in the file\n"
        "  --name AGENT     the agent's name in events (default: the command's)\n"
        "  --events FILE    deny events as JSON lines to FILE (- is standard output); default: text on stderr\n"
        "  --user USER      run the command as this user\n"
        "  --help           this text\n\n"
        "The exit status is the command's own; 125: agentd failed, 126: cannot execute, 127: not found,\n"
        "128+N: killed by signal N.\n\n"
        "Example: agentd run --config agentd.yaml --policy coding-agent -- curl https://api.anthropic.com\n";

static int options_parse(int argc, char *argv[], struct run_options *ret)
{
        static const struct option long_options[] = {
                {"config", required_argument, NULL, 'c'},
                {"policy", required_argument, NULL, 'p'},
                {"name", required_argument, NULL, 'n'},
                {"events", required_argument, NULL, 'e'},
                {"user", required_argument, NULL, 'u'},
                {"help", no_argument, NULL, 'h'},
                {},
        };
        int option;

        opterr = 0;
        optind = 1;
        while ((option = getopt_long(argc, argv, "+:", long_options, NULL)) != -1) {
                switch (option) {
                case 'c':
                        ret->config = optarg;
                        break;
                case 'p':
                        ret->policy = optarg;
                        break;
                case 'n':
                        ret->name = optarg;
                        break;
                case 'e':
                        ret->events = optarg;
                        break;
                case 'u':
                        ret->user = optarg;
                        break;
                case 'h':
                        fputs(help, stdout);
                        return 1;
                case ':':
                        log_error("option '%s' needs a value; see `agentd run --help`", argv[optind - 1]);
                        return -EINVAL;
                default:
                        log_error("unknown option '%s'; see `agentd run --help`", argv[optind - 1]);
                        return -EINVAL;
                }
        }
        if (optind >= argc) {
                log_error("no command given; write it behind `--`: agentd run [OPTION...] -- COMMAND [ARG...]");
                return -EINVAL;
        }
        ret->command = argv + optind;
        if (!ret->name) {
                const char *slash = strrchr(ret->command[0], '/');

                ret->name = slash && slash[1] ? slash + 1 : ret->command[0];
        }
        if (!ret->name[0] || strlen(ret->name) >= AGENT_NAME_MAX) {
                log_error("the agent's name must have 1 to %d bytes; give one with --name", AGENT_NAME_MAX - 1);
                return -EINVAL;
        }
        return 0;
}

/* The configuration, and which of its policies. Everything that fails here is agentd's failure: 125. */
static int config_choose(const struct run_options *options, struct config **ret, const char **ret_policy)
{
        struct diagnostics diagnostics = {};
        struct config *config = NULL;
        int r;

        if (!options->config) {
                if (options->policy) {
                        log_error("--policy needs --config");
                        return -EINVAL;
                }
                r = config_deny_all(&config);
                if (r < 0)
                        return log_error_errno(r, "cannot make the policy that denies all");
        } else {
                r = config_load(options->config, &diagnostics, &config);
                report_diagnostics("agentd", &diagnostics, stderr);
                diagnostics_clear(&diagnostics);
                if (r < 0)
                        return r;
        }

        if (options->policy) {
                const struct policy *policy = config_find_policy(config, options->policy);

                if (policy) {
                        *ret_policy = policy->name;
                        *ret = config;
                        return 0;
                }
        } else if (config->n_policies == 1) {
                *ret_policy = config->policies[0]->name;
                *ret = config;
                return 0;
        }

        {
                char names[1024] = "";
                size_t used = 0;

                for (size_t i = 0; i < config->n_policies && used < sizeof(names) - 1; i++)
                        used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "",
                                                 config->policies[i]->name);
                if (options->policy) {
                        _cleanup_free_ char *text = report_unknown_policy(config, options->policy);

                        log_error("%s; %s has: %s", text ? text : "no such policy", options->config, names);
                } else if (config->n_policies == 0)
                        log_error("%s has no policy; add one under `policies:`", options->config);
                else
                        log_error("%s has %zu policies; choose one with --policy: %s", options->config,
                                  config->n_policies, names);
        }
        config_free(config);
        return -EINVAL;
}

static void on_signal(uv_signal_t *handle, int signal_number)
{
        struct run *run = handle->data;

        if (signal_number != SIGCHLD) {
                if (run->child.pid > 0 && !run->ended)
                        (void)kill(run->child.pid, signal_number);
                return;
        }
        if (!run->ended && run->child.pid > 0 && waitpid(run->child.pid, &run->wait_status, WNOHANG) == run->child.pid)
                run->ended = true;
}

/* Only wakes the loop. */
static void on_deadline(uv_timer_t *timer)
{
}

static int signals_start(struct run *run)
{
        static const int numbers[] = {SIGCHLD, SIGTERM, SIGHUP, SIGINT, SIGQUIT};

        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
                int r = uv_signal_init(&run->loop, &run->signals[i]);

                if (r < 0)
                        return r;
                run->signals[i].data = run;
                r = uv_signal_start(&run->signals[i], on_signal, numbers[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Until every exact domain had its first answer, 2 s at most. */
static void settle(struct run *run)
{
        (void)uv_timer_start(&run->deadline, on_deadline, MONITOR_SETTLE_MS, 0);
        while (!monitor_agent_settled(run->monitor, run->agent) && !run->ended)
                (void)uv_run(&run->loop, UV_RUN_ONCE);
        (void)uv_timer_stop(&run->deadline);
}

static int cgroup_make(struct run *run)
{
        int r;

        if (asprintf(&run->cgroup, "/agentd/run-%s", strrchr(run->pins, '/') + 1) < 0) {
                run->cgroup = NULL;
                return -ENOMEM;
        }
        r = cgroup_create(&run->monitor->mount, run->cgroup);
        if (r < 0)
                return log_error_errno(r, "cannot make the cgroup '%s'", run->cgroup);
        run->cgroup_made = true;
        return cgroup_open(&run->monitor->mount, run->cgroup, &run->cgroup_fd);
}

/*
 * A directory that is nobody's: a run that was killed has left its pins under its pid, and they still confine what it
 * started. Taken over, they would end with this run.
 */
static int pins_choose(const char *directory, char **ret)
{
        for (unsigned n = 0; n < 1000; n++) {
                _cleanup_free_ char *path = NULL;

                if (asprintf(&path, n ? "%s/run/%d-%u" : "%s/run/%d", directory, (int)getpid(), n) < 0) {
                        path = NULL;
                        return -ENOMEM;
                }
                if (access(path, F_OK) < 0 && errno == ENOENT) {
                        *ret = TAKE_PTR(path);
                        return 0;
                }
        }
        return -EEXIST;
}

static int monitor_open(struct run *run, const struct run_options *options, struct config *config,
                        struct monitor_error *error)
{
        struct datapath_error datapath_error = {};
        struct monitor_options monitor_options = {};
        _cleanup_free_ char *directory = NULL;
        const char *target = options->events ? options->events : "stderr-text";
        int r;

        error->exit_status = 1;
        r = event_bus_new(&run->loop, &run->bus);
        if (r == 0)
                r = event_bus_set_sink(run->bus, target);
        if (r < 0) {
                config_free(config);
                (void)snprintf(error->text, sizeof(error->text), "cannot write events to '%s': %s", target,
                               strerror(-r));
                return r;
        }
        r = datapath_directory(getenv("AGENTD_BPFFS"), &datapath_error, &directory);
        if (r == 0)
                r = pins_choose(directory, &run->pins);
        if (r < 0) {
                config_free(config);
                (void)snprintf(error->text, sizeof(error->text), "cannot enforce: %s: %s%s", datapath_error.text,
                               strerror(-r), geteuid() != 0 ? "; root is needed" : "");
                return r;
        }
        monitor_options.directory = run->pins;
        monitor_options.own_namespace = true;
        monitor_options.verdicts_only = !options->events;
        return monitor_new(&run->loop, &monitor_options, config, run->bus, error, &run->monitor);
}

static void summary_bytes(char *buffer, size_t size, __u64 bytes)
{
        static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
        double value = (double)bytes;
        size_t unit = 0;

        while (value >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
                value /= 1024;
                unit++;
        }
        (void)snprintf(buffer, size, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

static void summary_reasons(const char *title, const __u64 *counts)
{
        __u64 total = 0;

        for (size_t i = 0; i < REASON_MAX; i++)
                total += counts[i];
        fprintf(stderr, "  %-11s %llu%s", title, (unsigned long long)total, total ? ":" : "");
        for (size_t i = 0; i < REASON_MAX; i++)
                if (counts[i])
                        fprintf(stderr, " %s %llu", verdict_reason_to_string((enum verdict_reason)i),
                                (unsigned long long)counts[i]);
        fprintf(stderr, "\n");
}

static void summary_budgets(struct run *run)
{
        const struct monitor_limits *limits = run->agent->limits;
        char used[32], limit[32];

        if (!limits || limits->n_budgets == 0)
                fprintf(stderr, "  %-11s none in this policy\n", "budgets");
        else
                monitor_budgets_read(run->monitor);
        for (size_t i = 0; limits && i < limits->n_budgets; i++) {
                const struct ledger_reading *reading = &limits->budgets[i].ledger->reading;

                summary_bytes(used, sizeof(used), reading->used);
                summary_bytes(limit, sizeof(limit), reading->limit + reading->granted);
                fprintf(stderr, "  %-11s %s: %s of %s used\n", i == 0 ? "budgets" : "", limits->budgets[i].scope, used,
                        limit);
        }
}

static void summary_print(struct run *run)
{
        struct agent_counters counters = {};
        __u64 packets[2] = {}, bytes[2] = {};
        char out[32], in[32];

        if (datapath_counters(run->monitor->datapath, run->agent->id, &counters) < 0)
                return;
        (void)datapath_traffic(run->monitor->datapath, run->agent->id, packets, bytes);
        summary_bytes(out, sizeof(out), bytes[DIRECTION_EGRESS]);
        summary_bytes(in, sizeof(in), bytes[DIRECTION_INGRESS]);
        fprintf(stderr, "agentd: %s under policy %s (%s)\n", run->agent->name, run->agent->policy->policy->name,
                monitor_agent_mode(run->agent));
        fprintf(stderr, "  %-11s out %llu packets, %s; in %llu packets, %s\n", "allowed",
                (unsigned long long)packets[DIRECTION_EGRESS], out, (unsigned long long)packets[DIRECTION_INGRESS], in);
        summary_reasons("denied", counters.denied);
        if (monitor_word_flags(run->agent) & WORD_AUDIT)
                summary_reasons("would deny", counters.would_deny);
        fprintf(stderr, "  %-11s %llu redirected to agentd, %zu addresses learned\n", "look-ups",
                (unsigned long long)counters.redirected, learned_count(run->monitor->learned, run->agent->id));
        summary_budgets(run);
        if (counters.events_lost)
                fprintf(stderr, "  %-11s %llu (the counters above are exact)\n", "events lost",
                        (unsigned long long)counters.events_lost);
}

static void close_handle(uv_handle_t *handle, void *context)
{
        if (!uv_is_closing(handle))
                uv_close(handle, NULL);
}

static void run_close(struct run *run)
{
        if (run->agent) {
                /* Deny, end the sockets, end the processes, and only then take the links away. */
                run->agent->quarantine = true;
                (void)monitor_publish(run->monitor, run->agent);
                (void)cgroup_kill(run->cgroup_fd);
                if (cgroup_wait_empty(run->cgroup_fd, RUN_KILL_MS) < 0)
                        log_warning("processes in '%s' do not end; they stay denied", run->cgroup);
                monitor_sockets_destroy(run->monitor, run->agent, true);
                monitor_detach(run->monitor, run->agent);
        }
        run_child_clear(&run->child);
        if (run->cgroup_made && run->monitor) {
                int r = cgroup_remove(&run->monitor->mount, run->cgroup, RUN_KILL_MS);

                if (r < 0)
                        log_warning_errno(r, "cannot remove the cgroup '%s'", run->cgroup);
                /* Shared with other runs: it stays while one of them lives. */
                if (run->monitor->mount.fd >= 0)
                        (void)unlinkat(run->monitor->mount.fd, "agentd", AT_REMOVEDIR);
        }
        close_fd(&run->cgroup_fd);
        monitor_free(run->monitor);
        event_bus_free(run->bus);
        if (run->pins) {
                (void)datapath_uninstall(run->pins);
                /* Shared with other runs and a daemon: they go when nobody is left in them. */
                for (int i = 0; i < 3; i++) {
                        *strrchr(run->pins, '/') = '\0';
                        if (rmdir(run->pins) < 0)
                                break;
                }
        }
        run_user_free(run->user);
        free(run->cgroup);
        free(run->pins);

        uv_walk(&run->loop, close_handle, NULL);
        (void)uv_run(&run->loop, UV_RUN_DEFAULT);
        (void)uv_loop_close(&run->loop);
}

static int run_command(struct run *run, const struct run_options *options, const char *policy,
                       struct monitor_error *error)
{
        int r;

        r = cgroup_make(run);
        if (r < 0)
                return RUN_FAILED;
        r = monitor_attach(run->monitor, options->name, "", run->cgroup, policy, MONITOR_MODE_POLICY, error,
                           &run->agent);
        if (r < 0) {
                log_error("%s", error->text);
                return RUN_FAILED;
        }
        r = run_child_start(run->cgroup_fd, run->user, options->command, &run->child);
        if (r < 0) {
                log_error_errno(r, "cannot start a process");
                return RUN_FAILED;
        }

        /* Runs in the caller's namespace: its listener is there before the command is. */
        {
                _cleanup_close_ int netns = -1;

                r = netns_open_self(&netns);
                if (r == 0 && !run->agent->listeners)
                        r = monitor_listener_open(run->monitor, run->agent, TAKE_FD(netns));
                if (r < 0)
                        log_warning_errno(r, "look-ups will fail");
        }
        settle(run);
        if (!monitor_agent_holds(run->monitor, run->agent)) {
                char detail[256];

                (void)monitor_agent_state(run->agent, detail, sizeof(detail));
                log_warning("enforced, but that could not be shown: %s", detail);
        }

        r = run_child_release(&run->child);
        if (r < 0) {
                log_error("cannot execute '%s': %s", options->command[0], strerror(-r));
                (void)waitpid(run->child.pid, &run->wait_status, 0);
                return r == -ENOENT ? RUN_NOT_FOUND : RUN_CANNOT_EXECUTE;
        }
        while (!run->ended)
                (void)uv_run(&run->loop, UV_RUN_ONCE);

        monitor_events_consume(run->monitor);
        event_bus_flush(run->bus);
        summary_print(run);
        return WIFSIGNALED(run->wait_status) ? 128 + WTERMSIG(run->wait_status) : WEXITSTATUS(run->wait_status);
}

int run_main(int argc, char *argv[])
{
        struct run run = {.cgroup_fd = -1, .child = {.gate_fd = -1, .error_fd = -1}};
        struct run_options options = {};
        struct monitor_error error = {};
        struct config *config = NULL;
        const char *policy = NULL;
        int r, status = RUN_FAILED;

        r = options_parse(argc, argv, &options);
        if (r != 0)
                return r > 0 ? 0 : RUN_FAILED;
        if (options.user && run_user_find(options.user, &run.user) < 0) {
                log_error("no user '%s'", options.user);
                return RUN_FAILED;
        }
        if (config_choose(&options, &config, &policy) < 0) {
                run_user_free(run.user);
                return RUN_FAILED;
        }

        (void)signal(SIGPIPE, SIG_IGN);
        (void)uv_loop_init(&run.loop);
        (void)uv_timer_init(&run.loop, &run.deadline);
        run.deadline.data = &run;
        r = signals_start(&run);
        if (r == 0)
                r = monitor_open(&run, &options, config, &error);
        if (r < 0)
                log_error("%s", error.text[0] ? error.text : strerror(-r));
        else
                status = run_command(&run, &options, policy, &error);
        run_close(&run);
        return status;
}
