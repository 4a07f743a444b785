/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * `agentd oci-hook`: the running daemon is asked to attach the container's cgroup, and the runtime goes on only when it
 * has said that enforcement holds. At createRuntime the cgroup exists, the container's process waits in it, and none
 * of the container's own instructions has run. A status that is not 0 makes the runtime give the container up.
 *
 * Threat: the wrong cgroup. A runtime without cgroups leaves the container's process in the root, where a program would
 * hit the whole host, or in the cgroup of whoever called it, with neighbours that are no part of the container. Both
 * are refused: that a container starts without enforcement is never the better end.
 */
#include "agentd/oci_hook.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <string.h>

#include "agentd/agent/cgroup.h"
#include "agentd/agent/oci.h"
#include "agentd/control/ask.h"
#include "agentd/policy/config.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"
#include "agentd/util/parse.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNREACHABLE = 3, ALLOWED_MAX = 64, TIMEOUT_DEFAULT_MS = 10000 };

static const char default_socket[] = "/run/agentd/agentd.sock";

static const char help[] =
        "Usage: agentd oci-hook [OPTION...] < STATE\n"
        "For container runtimes: enforce a policy on a container before its first instruction.\n\n"
        "Reads the OCI state from standard input, as a hook at createRuntime (gVisor: prestart) and at poststop. The\n"
        "container's annotation agentd.policy=NAME names the policy, agentd.name=NAME the agent; labels of Docker's\n"
        "count as annotations. A container without the annotation is left alone. The status is 0 once the running\n"
        "daemon enforces; anything else makes the runtime give the container up.\n\n"
        "  --require         a container without the annotation is refused\n"
        "  --policy NAME     the policy of containers without the annotation\n"
        "  --allow NAME      annotations may name this policy; may be given again; default: any, or with --policy "
        "that\n"
        "                    one alone, because images bring labels and annotations of their own\n"
        "  --timeout TIME    of all of it; default 10s\n"
        "  --socket PATH     the daemon's; default: AGENTD_SOCKET, daemon.socket of --config, /run/agentd/agentd.sock\n"
        "  --config FILE     only to find the daemon's socket\n\n"
        "Example: agentd oci-hook --require   (see docs/containers.md for each engine)\n";

struct hook_options {
        const char *socket, *config, *policy;
        const char *allowed[ALLOWED_MAX];
        size_t n_allowed;
        bool require;
        __u64 until_ms;
};

static int options_read(struct hook_options *hook, int argc, char *argv[], bool *ret_help)
{
        static const struct option long_options[] = {
                {"require", no_argument, NULL, 'r'},      {"policy", required_argument, NULL, 'p'},
                {"allow", required_argument, NULL, 'a'},  {"timeout", required_argument, NULL, 't'},
                {"socket", required_argument, NULL, 's'}, {"config", required_argument, NULL, 'c'},
                {"help", no_argument, NULL, 'h'},         {},
        };
        __u64 timeout_ns = TIMEOUT_DEFAULT_MS * NSEC_PER_MSEC;
        int option;

        opterr = 0;
        while ((option = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
                switch (option) {
                case 'r':
                        hook->require = true;
                        break;
                case 'p':
                        hook->policy = optarg;
                        break;
                case 'a':
                        if (hook->n_allowed == ALLOWED_MAX) {
                                log_error("oci-hook: more than %d times --allow", ALLOWED_MAX);
                                return EXIT_USAGE;
                        }
                        hook->allowed[hook->n_allowed++] = optarg;
                        break;
                case 't':
                        if (parse_duration(optarg, &timeout_ns) < 0 || timeout_ns < NSEC_PER_MSEC ||
                            timeout_ns > 3600 * NSEC_PER_SEC) {
                                log_error("oci-hook: '%s' is no time-out; 1ms to 1h, such as 10s", optarg);
                                return EXIT_USAGE;
                        }
                        break;
                case 's':
                        hook->socket = optarg;
                        break;
                case 'c':
                        hook->config = optarg;
                        break;
                case 'h':
                        *ret_help = true;
                        return 0;
                default:
                        log_error("%s '%s'; see `agentd oci-hook --help`",
                                  option == ':' ? "no value for option" : "unknown option", argv[optind - 1]);
                        return EXIT_USAGE;
                }
        }
        if (optind < argc) {
                log_error("unexpected argument '%s'; see `agentd oci-hook --help`", argv[optind]);
                return EXIT_USAGE;
        }
        hook->until_ms = control_now_ms() + timeout_ns / NSEC_PER_MSEC;
        return 0;
}

/* All of standard input. -EMSGSIZE; -ETIMEDOUT: the runtime does not end it. */
static int state_read(__u64 until_ms, char **ret, size_t *ret_size)
{
        _cleanup_free_ char *text = malloc(OCI_STATE_MAX + 1);
        size_t used = 0;

        if (!text)
                return -ENOMEM;
        for (;;) {
                struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
                __u64 now = control_now_ms();
                ssize_t n;
                int r;

                r = poll(&input, 1, now < until_ms ? (int)(until_ms - now) : 0);
                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0)
                        return r < 0 ? -errno : -ETIMEDOUT;
                n = read(STDIN_FILENO, text + used, OCI_STATE_MAX + 1 - used);
                if (n < 0 && (errno == EINTR || errno == EAGAIN))
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                used += (size_t)n;
                if (used > OCI_STATE_MAX)
                        return -EMSGSIZE;
        }
        *ret = TAKE_PTR(text);
        *ret_size = used;
        return 0;
}

/* *ret: to be freed. */
static int socket_find(const struct hook_options *hook, char **ret)
{
        const char *environment = getenv("AGENTD_SOCKET"), *found = hook->socket;
        struct diagnostics diagnostics = {};
        struct config *config = NULL;
        int r = 0;

        if (!found && environment && environment[0])
                found = environment;
        if (!found && hook->config) {
                r = config_load(hook->config, &diagnostics, &config);
                diagnostics_clear(&diagnostics);
                if (r < 0) {
                        log_error("oci-hook: cannot read '%s'; see `agentd check`", hook->config);
                        return r;
                }
                found = config->daemon.socket;
        }
        *ret = strdup(found ? found : default_socket);
        if (config)
                config_free(config);
        return *ret ? 0 : -ENOMEM;
}

static int answer_tell(const struct oci_state *state, const char *socket, const char *what, int r, json_t *answer)
{
        const char *text = json_string_value(json_object_get(answer, "error"));
        json_int_t status = json_integer_value(json_object_get(answer, "exit"));
        const char *id = state->container.id;

        if (r == -EREMOTEIO) {
                log_error("container '%s': cannot %s: %s", id, what, text ? text : "the daemon does not say why");
                return status > 0 && status < 126 ? (int)status : EXIT_FAILED;
        }
        if (r == -ETIMEDOUT || r == -EBADMSG || r == -ENOMEM) {
                log_error("container '%s': cannot %s: %s", id, what,
                          r == -ETIMEDOUT ? "the daemon has not answered in time"
                          : r == -ENOMEM  ? "out of memory"
                                          : "what answers is no agentd");
                return r == -ETIMEDOUT ? EXIT_UNREACHABLE : EXIT_FAILED;
        }
        log_error("container '%s': cannot %s: cannot reach the daemon at %s: %s", id, what, socket, strerror(-r));
        return EXIT_UNREACHABLE;
}

/* Of a container in PREFIX-ID.scope/container: the scope, which is all of it. */
static int container_cgroup(const struct cgroup_mount *mount, const struct oci_state *state, char **ret)
{
        const char *id = state->container.id;
        _cleanup_free_ char *path = NULL;
        struct container container;
        size_t length;
        int r;

        r = cgroup_of_pid(mount, state->pid, &path);
        if (r < 0) {
                if (r == -EISDIR)
                        log_error("container '%s': its process is in the root cgroup, which is the whole host; the "
                                  "runtime must give it a cgroup of its own (cgroup v2)",
                                  id);
                else
                        log_error_errno(r, "container '%s': cannot find the cgroup v2 of its process %d", id,
                                        (int)state->pid);
                return r;
        }
        if (container_of_path(path, &container, &length) && strcmp(container.id, id) == 0)
                path[length] = '\0';
        /* Also when that cannot be known. */
        if (cgroup_has_pid(mount, path, getpid()) != 0 || cgroup_has_pid(mount, path, getppid()) != 0) {
                log_error(
                        "container '%s': the cgroup '%s' is not its own, the runtime itself is in it; the runtime must "
                        "give it one",
                        id, path);
                return -EXDEV;
        }
        *ret = TAKE_PTR(path);
        return 0;
}

static int enforce(const struct hook_options *hook, const char *socket, struct oci_state *state, const char *name,
                   const char *policy)
{
        _cleanup_(cgroup_mount_release) struct cgroup_mount mount = {.fd = -1};
        _cleanup_free_ char *path = NULL, *what = NULL;
        json_t *answer = NULL;
        const char *settled;
        int r, status = 0;
        __u64 id = 0;

        r = cgroup_mount_find(NULL, &mount);
        if (r < 0) {
                log_error("container '%s': no cgroup v2 hierarchy is mounted", state->container.id);
                return 4;
        }
        if (container_cgroup(&mount, state, &path) < 0)
                return EXIT_FAILED;
        if (cgroup_id_of(&mount, path, &id) < 0 ||
            asprintf(&what, "enforce policy '%s' on agent '%s'", policy, name) < 0) {
                log_error("container '%s': cannot identify the cgroup '%s'", state->container.id, path);
                return EXIT_FAILED;
        }

        r = control_ask(socket, "attach",
                        json_pack("{s:s,s:s,s:s,s:{s:s,s:s,s:s}}", "name", name, "cgroup", path, "policy", policy,
                                  "container", "id", state->container.id, "name", state->container.name, "image",
                                  state->container.image),
                        hook->until_ms, &answer);
        if (r < 0) {
                status = answer_tell(state, socket, what, r, answer);
                json_decref(answer);
                return status;
        }
        /* What was promised is checked where we stand: the same cgroup, and the container still in it. */
        settled = json_string_value(json_object_get(answer, "state"));
        if (!settled || strcmp(settled, "enforcing") != 0 ||
            (__u64)json_integer_value(json_object_get(answer, "cgroup_id")) != id ||
            cgroup_has_pid(&mount, path, state->pid) != 1) {
                log_error("container '%s': cannot %s: the daemon enforces elsewhere, or the container has left '%s'",
                          state->container.id, what, path);
                status = EXIT_FAILED;
        }
        json_decref(answer);
        return status;
}

static int policy_choose(const struct hook_options *hook, const struct oci_state *state, const char **ret)
{
        const char *wanted = oci_annotation(state, "agentd.policy");

        *ret = hook->policy;
        if (!wanted) {
                if (hook->require && !hook->policy) {
                        log_error("container '%s': it has no annotation agentd.policy=NAME, and this host requires one",
                                  state->container.id);
                        return -ENOENT;
                }
                return 0;
        }
        *ret = wanted;
        for (size_t i = 0; i < hook->n_allowed; i++)
                if (strcmp(hook->allowed[i], wanted) == 0)
                        return 0;
        if (hook->policy ? strcmp(hook->policy, wanted) == 0 : hook->n_allowed == 0)
                return 0;
        log_error("container '%s': its annotation names policy '%.63s', which this hook does not --allow",
                  state->container.id, wanted);
        return -EPERM;
}

/* The daemon sees an empty cgroup go by itself; being told is sooner, and the name is free for the next container. */
static int stopped(const struct hook_options *hook, const char *socket, const struct oci_state *state)
{
        json_t *answer = NULL;
        int r, status = 0;

        r = control_ask(socket, "detach", json_pack("{s:s}", "container", state->container.id), hook->until_ms,
                        &answer);
        if (r < 0)
                status = answer_tell(state, socket, "let the agent go", r, answer);
        json_decref(answer);
        return status;
}

int oci_hook_main(int argc, char *argv[])
{
        _cleanup_(oci_state_release) struct oci_state state = {};
        _cleanup_free_ char *text = NULL, *socket = NULL;
        char name[AGENT_NAME_MAX];
        const char *wrong, *policy;
        struct hook_options hook = {};
        bool wants_help = false;
        size_t size = 0;
        int r;

        r = options_read(&hook, argc, argv, &wants_help);
        if (r != 0)
                return r;
        if (wants_help) {
                fputs(help, stdout);
                return 0;
        }
        if (isatty(STDIN_FILENO)) {
                log_error("oci-hook reads a container's state from standard input; it is for runtimes, see `agentd "
                          "oci-hook --help`");
                return EXIT_USAGE;
        }
        r = state_read(hook.until_ms, &text, &size);
        if (r < 0) {
                log_error_errno(r, "oci-hook: cannot read the container's state from standard input");
                return EXIT_FAILED;
        }
        if (oci_state_parse(text, size, &state, &wrong) < 0) {
                log_error("oci-hook: standard input is no state of a container: %s", wrong);
                return EXIT_FAILED;
        }
        if (state.status == OCI_STOPPED && !state.restored) {
                /* Of those that were left alone the daemon knows nothing, and need not run. */
                oci_state_complete(&state, "");
                if (!oci_annotation(&state, "agentd.policy") && !hook.policy)
                        return 0;
                return socket_find(&hook, &socket) < 0 ? EXIT_FAILED : stopped(&hook, socket, &state);
        }

        oci_state_complete(&state, "");
        if (state.odd) {
                log_error("container '%s': an annotation of agentd's is no text; quote it: \"agentd.policy\": \"NAME\"",
                          state.container.id);
                return EXIT_FAILED;
        }
        if (policy_choose(&hook, &state, &policy) < 0)
                return EXIT_FAILED;
        if (!policy)
                return 0;
        if (state.restored) {
                log_error("container '%s': it is stopped and has a process: a container that is restored from a "
                          "checkpoint cannot be enforced before its first instruction",
                          state.container.id);
                return EXIT_FAILED;
        }
        if (oci_agent_name(&state, name) < 0) {
                log_error("container '%s': its annotation agentd.name is not 1 to %d of letters, digits and ._-@:+",
                          state.container.id, AGENT_NAME_MAX - 1);
                return EXIT_FAILED;
        }
        if (socket_find(&hook, &socket) < 0)
                return EXIT_FAILED;
        return enforce(&hook, socket, &state, name, policy);
}
