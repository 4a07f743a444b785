/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A daemon that is not one: a real control server with canned answers; and agentctl's main() in a child process with
 * its own stdout and stderr, so exit statuses and lines are those that a user sees.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* agentctl's objects are in no library. Its main() becomes a function. */
int agentctl_main(int argc, char **argv);
#define main agentctl_main
#include "agentd/ctl/main.c"
#undef main
#include "agentd/ctl/client.c"
#include "agentd/ctl/config_file.c"
#include "agentd/ctl/graph.c"
#include "agentd/ctl/graph_draw.c"
#include "agentd/ctl/options.c"
#include "agentd/ctl/print.c"
#include "agentd/ctl/top_frame.c"
#include "agentd/ctl/top_model.c"
#include "agentd/ctl/verbs_agent.c"
#include "agentd/ctl/verbs_audit.c"
#include "agentd/ctl/verbs_budget.c"
#include "agentd/ctl/verbs_daemon.c"
#include "agentd/ctl/verbs_event.c"
#include "agentd/ctl/verbs_explain.c"
#include "agentd/ctl/verbs_graph.c"
#include "agentd/ctl/verbs_policy.c"
#include "agentd/ctl/verbs_top.c"

#include "agentd/control/server.h"

struct room {
        char directory[64];
        char socket[96];
        char out[96], err[96];
        uv_loop_t loop;
        uv_timer_t alive;
        struct control_server *server;
        json_t *asked; /* the last request */
        struct control_request *following;
        bool unfollowed;
        pid_t child;
};

static struct room room;

static inline json_t *an_agent(const char *state)
{
        return json_pack("{s:s,s:s,s:s,s:i,s:s,s:i,s:s,s:s,s:i,s:{s:b,s:b,s:{s:b,s:[],s:s}},s:{s:i,s:i,s:i},s:s}",
                         "name", "claude-1", "mode", "enforce", "policy", "coding-agent", "generation", 7, "cgroup",
                         "/agents/claude-1", "cgroup_id", 12345, "state", state, "detail", "", "verified_s", 3, "tiers",
                         "1", 1, "2", 1, "3", "present", 0, "devices", "detail", "no veth", "names", "resolved", 2,
                         "failed", 0, "pending", 1, "origin", "config");
}

static inline void remember(const json_t *arguments)
{
        json_decref(room.asked);
        room.asked = json_deep_copy(arguments);
}

static inline void answer_status(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_reply(request,
                      json_pack("{s:s,s:i,s:i,s:i,s:s,s:s,s:b,s:[s],s:[{s:i,s:s,s:b,s:s},{s:i,s:s,s:b,s:s}],s:{s:i,s:i}"
                                ",s:{s:s,s:i,s:i,s:i,s:i},s:[o]}",
                                "version", "0.1.0", "pid", 4242, "uptime_s", 3661, "generation", 7, "kernel", "6.1.0",
                                "config", "/etc/agentd/agentd.yaml", "healthy", 0, "problems", "the disk is full",
                                "tiers", "tier", 1, "name", "system calls", "present", 1, "detail", "", "tier", 3,
                                "name", "veth", "present", 0, "detail", "not in this build", "dns", "pid", 4243,
                                "restarts", 0, "events", "target", "off", "total", 12, "lost_ring", 1, "lost_sink", 2,
                                "lost_subscribers", 0, "agents", an_agent("enforcing")));
}

static inline void answer_agents(void *context, struct control_request *request, const json_t *arguments)
{
        json_t *agent = an_agent("enforcing"), *waiting = an_agent("waiting");

        remember(arguments);
        json_object_set_new(agent, "counters",
                            json_pack("{s:{s:{s:i,s:i},s:{s:i,s:i}},s:{s:i,s:{s:i,s:i}},s:{s:i,s:{}},s:i,s:i}",
                                      "allowed", "egress", "packets", 10, "bytes", 5000, "ingress", "packets", 9,
                                      "bytes", 70000, "denied", "total", 3, "by_reason", "no_rule", 2, "metadata", 1,
                                      "would_deny", "total", 0, "by_reason", "redirected", 4, "events_lost", 0));
        json_object_set_new(waiting, "counters", json_null());
        control_reply(request, json_pack("{s:[o,o]}", "agents", agent, waiting));
}

static inline void answer_agent(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_reply(request, an_agent("enforcing"));
}

static inline void answer_detach(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_error(request, 1, "there is no agent '%s'", json_text(arguments, "name"));
}

static inline void answer_reload(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_error_list(request, 2,
                           json_pack("[{s:s,s:i,s:i,s:s,s:s},{s:s,s:i,s:i,s:s,s:s}]", "file", "a.yaml", "line", 3,
                                     "column", 5, "kind", "error", "text", "unknown key 'x'", "file", "a.yaml", "line",
                                     9, "column", 1, "kind", "warning", "text", "too wide"),
                           "the configuration is not valid");
}

static inline void answer_diff(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_reply(request, json_pack("{s:[{s:s,s:s,s:s,s:s},{s:s,s:s,s:s,s:s}]}", "changes", "what", "policy",
                                         "name", "web", "change", "changed", "detail", "1 rule added", "what", "agent",
                                         "name", "b", "change", "removed", "detail", ""));
}

static inline void answer_doctor(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_reply(request,
                      json_pack("{s:b,s:[{s:s,s:b,s:b,s:s,s:s}]}", "enforceable", 0, "checks", "name", "kernel", "ok",
                                0, "required", 1, "detail", "5.10", "advice", "use 6.1 or newer"));
}

static inline void answer_dns(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_reply(request, json_pack("{s:s,s:[{s:s,s:s,s:s,s:n,s:[{s:s,s:i},{s:s,s:i}]},{s:s,s:s,s:s,s:s,s:[]}]}",
                                         "agent", "a", "names", "name", "x.example", "rule", "web", "state", "resolved",
                                         "error", "addresses", "ip", "192.0.2.1", "expires_in_s", 61, "ip",
                                         "2001:db8::1", "expires_in_s", -4, "name", "y.example", "rule", "web", "state",
                                         "failed", "error", "no such name", "addresses"));
}

static inline json_t *an_event(int n)
{
        return json_pack("{s:i,s:s,s:i,s:s,s:s,s:s}", "v", 1, "time", "2026-11-23T18:22:38.123456789Z", "seq", n,
                         "type", "deny", "agent", "a\x1b", "reason", "no_rule");
}

static inline void stop_following(void *data)
{
        room.following = NULL;
        room.unfollowed = true;
}

static inline void answer_events(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        if (!json_is_true(json_object_get(arguments, "follow"))) {
                control_reply(request, json_pack("{s:[o,o]}", "events", an_event(1), an_event(2)));
                return;
        }
        control_on_close(request, stop_following, NULL);
        room.following = request;
        assert_true(control_stream(request, an_event(1)));
        assert_true(control_stream(request, an_event(2)));
}

static inline void answer_explain(void *context, struct control_request *request, const json_t *arguments)
{
        bool allowed = !strcmp(json_text(arguments, "destination"), "192.0.2.1");

        remember(arguments);
        control_reply(request, json_pack("{s:b,s:s,s:s}", "allowed", allowed, "verdict", allowed ? "allow" : "deny",
                                         "destination", json_text(arguments, "destination")));
}

static inline void answer_test(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_reply(request, json_pack("{s:b,s:[]}", "allowed", 1, "results"));
}

static inline void answer_policies(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_reply(request, json_pack("{s:[{s:s,s:s,s:i,s:i,s:i,s:s,s:i}]}", "policies", "name", "web", "mode",
                                         "audit", "rules", 2, "denies", 1, "agents", 3, "file", "a.yaml", "line", 21));
}

static inline void never_answer(void *context, struct control_request *request, const json_t *arguments)
{
}

static inline void answer_version(void *context, struct control_request *request, const json_t *arguments)
{
        control_reply(request, json_pack("{s:s,s:i,s:i}", "version", "9.9", "abi", 1, "protocol", 1));
}

static const struct control_verb canned[] = {
        {"status", answer_status},
        {"agents", answer_agents},
        {"attach", answer_agent},
        {"detach", answer_detach},
        {"wait", answer_agent},
        {"reload", answer_reload},
        {"dns", answer_dns},
        {"doctor", answer_doctor},
        {"events", answer_events},
        {"explain", answer_explain},
        {"policy-test", answer_test},
        {"policy-diff", answer_diff},
        {"policy-list", answer_policies},
        {"policy-show", never_answer},
        {"version", answer_version},
        {NULL},
};

static inline void tick(uv_timer_t *timer)
{
}

static inline int set_up(void **state)
{
        room = (struct room){0};
        signal(SIGPIPE, SIG_IGN);
        strcpy(room.directory, "/tmp/agentd-ctl.XXXXXX");
        assert_non_null(mkdtemp(room.directory));
        snprintf(room.socket, sizeof(room.socket), "%s/agentd.sock", room.directory);
        snprintf(room.out, sizeof(room.out), "%s/out", room.directory);
        snprintf(room.err, sizeof(room.err), "%s/err", room.directory);
        unsetenv("AGENTD_SOCKET");
        assert_int_equal(uv_loop_init(&room.loop), 0);
        /* The loop wakes to look whether the child has ended. */
        uv_timer_init(&room.loop, &room.alive);
        uv_timer_start(&room.alive, tick, 1, 1);
        assert_int_equal(control_server_new(&room.loop, room.socket, canned, NULL, NULL, &room.server), 0);
        return 0;
}

static inline int tear_down(void **state)
{
        char command[128];

        control_server_free(room.server);
        uv_close((uv_handle_t *)&room.alive, NULL);
        uv_run(&room.loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&room.loop), 0);
        json_decref(room.asked);
        snprintf(command, sizeof(command), "rm -rf %s", room.directory);
        assert_int_equal(system(command), 0);
        return 0;
}

/* Words parted by single blanks; '@' alone stands for the socket's path. */
static inline void begin(const char *line, int out)
{
        char words[512], *argv[32] = {(char *)"agentctl"}, *rest = words;
        int argc = 1;

        strcpy(words, line);
        fflush(NULL);
        room.child = fork();
        if (room.child != 0)
                return;
        for (char *word = strsep(&rest, " "); word; word = strsep(&rest, " "))
                if (argc > 1 || *word)
                        argv[argc++] = !strcmp(word, "@") ? room.socket : word;
        if (out < 0)
                out = open(room.out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        dup2(out, STDOUT_FILENO);
        dup2(open(room.err, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), STDERR_FILENO);
        /* What it would not have after an exec: among it the other end of its stdout. */
        close_range(3, ~0u, 0);
        out = agentctl_main(argc, argv);
        fflush(NULL);
        _exit(out);
}

static inline int end(void)
{
        int status;

        while (waitpid(room.child, &status, WNOHANG) == 0)
                uv_run(&room.loop, UV_RUN_ONCE);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline int agentctl(const char *line)
{
        begin(line, -1);
        return end();
}

static inline const char *content_of(const char *path)
{
        static char content[2][32 * 1024];
        static int turn;
        _cleanup_file_ FILE *file = fopen(path, "re");
        size_t n;

        turn = !turn;
        n = file ? fread(content[turn], 1, sizeof(content[turn]) - 1, file) : 0;
        content[turn][n] = '\0';
        return content[turn];
}

#define assert_contains(path, text)                                              \
        do {                                                                     \
                if (!strstr(content_of(path), text))                             \
                        fail_msg("'%s' is not in '%s'", text, content_of(path)); \
        } while (0)
