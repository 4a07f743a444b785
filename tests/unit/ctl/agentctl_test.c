/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * agentctl as a whole, against a daemon that is not one: a real control server with canned answers. Each run is a child
 * process with its own stdout and stderr, so exit statuses and lines are those that a user sees.
 */
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
#include "agentd/ctl/options.c"
#include "agentd/ctl/print.c"
#include "agentd/ctl/verbs_agent.c"
#include "agentd/ctl/verbs_daemon.c"
#include "agentd/ctl/verbs_event.c"
#include "agentd/ctl/verbs_explain.c"
#include "agentd/ctl/verbs_policy.c"

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

static json_t *an_agent(const char *state)
{
        return json_pack("{s:s,s:s,s:s,s:i,s:s,s:i,s:s,s:s,s:i,s:[i,i],s:{s:i,s:i,s:i},s:s}", "name", "claude-1",
                         "mode", "enforce", "policy", "coding-agent", "generation", 7, "cgroup", "/agents/claude-1",
                         "cgroup_id", 12345, "state", state, "detail", "", "verified_s", 3, "tiers", 1, 2, "names",
                         "resolved", 2, "failed", 0, "pending", 1, "origin", "config");
}

static void remember(const json_t *arguments)
{
        json_decref(room.asked);
        room.asked = json_deep_copy(arguments);
}

static void answer_status(void *context, struct control_request *request, const json_t *arguments)
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

static void answer_agents(void *context, struct control_request *request, const json_t *arguments)
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

static void answer_agent(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_reply(request, an_agent("enforcing"));
}

static void answer_detach(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_error(request, 1, "there is no agent '%s'", json_text(arguments, "name"));
}

static void answer_reload(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_error_list(request, 2,
                           json_pack("[{s:s,s:i,s:i,s:s,s:s},{s:s,s:i,s:i,s:s,s:s}]", "file", "a.yaml", "line", 3,
                                     "column", 5, "kind", "error", "text", "unknown key 'x'", "file", "a.yaml", "line",
                                     9, "column", 1, "kind", "warning", "text", "too wide"),
                           "the configuration is not valid");
}

static void answer_diff(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_reply(request, json_pack("{s:[{s:s,s:s,s:s,s:s},{s:s,s:s,s:s,s:s}]}", "changes", "what", "policy",
                                         "name", "web", "change", "changed", "detail", "1 rule added", "what", "agent",
                                         "name", "b", "change", "removed", "detail", ""));
}

static void answer_doctor(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_reply(request,
                      json_pack("{s:b,s:[{s:s,s:b,s:b,s:s,s:s}]}", "enforceable", 0, "checks", "name", "kernel", "ok",
                                0, "required", 1, "detail", "5.10", "advice", "use 6.1 or newer"));
}

static void answer_dns(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_reply(request, json_pack("{s:s,s:[{s:s,s:s,s:s,s:n,s:[{s:s,s:i},{s:s,s:i}]},{s:s,s:s,s:s,s:s,s:[]}]}",
                                         "agent", "a", "names", "name", "x.example", "rule", "web", "state", "resolved",
                                         "error", "addresses", "ip", "192.0.2.1", "expires_in_s", 61, "ip",
                                         "2001:db8::1", "expires_in_s", -4, "name", "y.example", "rule", "web", "state",
                                         "failed", "error", "no such name", "addresses"));
}

static json_t *an_event(int n)
{
        return json_pack("{s:i,s:s,s:i,s:s,s:s,s:s}", "v", 1, "time", "2026-11-23T18:22:38.123456789Z", "seq", n,
                         "type", "deny", "agent", "a\x1b", "reason", "no_rule");
}

static void stop_following(void *data)
{
        room.following = NULL;
        room.unfollowed = true;
}

static void answer_events(void *context, struct control_request *request, const json_t *arguments)
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

static void answer_explain(void *context, struct control_request *request, const json_t *arguments)
{
        bool allowed = !strcmp(json_text(arguments, "destination"), "192.0.2.1");

        remember(arguments);
        control_reply(request, json_pack("{s:b,s:s,s:s}", "allowed", allowed, "verdict", allowed ? "allow" : "deny",
                                         "destination", json_text(arguments, "destination")));
}

static void answer_test(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_reply(request, json_pack("{s:b,s:[]}", "allowed", 1, "results"));
}

static void answer_policies(void *context, struct control_request *request, const json_t *arguments)
{
        remember(arguments);
        control_reply(request, json_pack("{s:[{s:s,s:s,s:i,s:i,s:i,s:s,s:i}]}", "policies", "name", "web", "mode",
                                         "audit", "rules", 2, "denies", 1, "agents", 3, "file", "a.yaml", "line", 21));
}

static void never_answer(void *context, struct control_request *request, const json_t *arguments)
{
}

static void answer_version(void *context, struct control_request *request, const json_t *arguments)
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

static void tick(uv_timer_t *timer)
{
}

static int set_up(void **state)
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

static int tear_down(void **state)
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
static void begin(const char *line, int out)
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

static int end(void)
{
        int status;

        while (waitpid(room.child, &status, WNOHANG) == 0)
                uv_run(&room.loop, UV_RUN_ONCE);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int agentctl(const char *line)
{
        begin(line, -1);
        return end();
}

static const char *content_of(const char *path)
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

static void wrong_usage_ends_with_two_and_one_line(void **state)
{
        static const struct {
                const char *line, *error;
        } cases[] = {
                {"", "a verb is needed; 'agentctl --help' lists them"},
                {"statsu", "unknown verb 'statsu'; did you mean 'status'?"},
                {"xyzzy", "unknown verb 'xyzzy'; 'agentctl --help' lists them"},
                {"polcy list", "unknown verb 'polcy'; did you mean 'policy'?"},
                {"policy lsit", "unknown verb 'policy lsit'; did you mean 'policy list'?"},
                {"policy", "'policy' needs a second word; 'agentctl --help' lists them"},
                {"status --folow", "unknown option '--folow'; did you mean '--follow'?"},
                {"status -x", "unknown option '-x'; 'agentctl --help' lists them"},
                {"status --follow", "option '--follow' does not belong to 'status'; see 'agentctl status --help'"},
                {"events --follow=yes", "option '--follow' takes no argument"},
                {"events --type", "option '--type' needs an argument"},
                {"status -o yaml", "unknown output format 'yaml'; it is 'text' or 'json'"},
                {"status extra", "unexpected argument 'extra': agentctl status"},
                {"detach", "'detach' needs more arguments: agentctl detach NAME"},
                {"attach a --cgroup /x", "'attach' needs --cgroup and --policy: agentctl attach NAME --cgroup PATH "
                                         "--policy P"},
                {"attach a --cgroup /x --policy p --mode enforced",
                 "unknown mode 'enforced'; it is 'enforce' or 'audit'"},
                {"wait a --timeout soon", "'soon' is no duration; such as '10s', '500ms', '1m'"},
                {"events --since yesterday", "'yesterday' is no duration; such as '10m', '1h', '2d'"},
                {"events -n many", "'many' is no number of events"},
                {"events -n -1", "'-1' is no number of events"},
                {"events --type dney", "unknown event type 'dney'; did you mean 'deny'?"},
                {"events --reason no_rul", "unknown reason 'no_rul'; did you mean 'no_rule'?"},
                {"explain a", "'explain' needs an agent and a destination: agentctl explain AGENT DEST[:PORT][/PROTO]"},
                {"explain --policy p 192.0.2.1",
                 "'explain --policy' judges a file: agentctl explain --policy P --config "
                 "FILE DEST[:PORT][/PROTO]"},
                {"top", "'top' is not in this build yet"},
                {"audit --since 1d", "'audit' is not in this build yet"},
                {"quarantine a", "'quarantine' is not in this build yet"},
                {"release a", "'release' is not in this build yet"},
                {"budget show", "'budget show' is not in this build yet"},
                {"policy generate a", "'policy generate' is not in this build yet"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char expected[256];

                snprintf(expected, sizeof(expected), "agentctl: %s\n", cases[i].error);
                assert_int_equal(agentctl(cases[i].line), 2);
                assert_string_equal(content_of(room.err), expected);
                assert_string_equal(content_of(room.out), "");
        }
}

static void every_verb_has_help_with_synopsis_and_example(void **state)
{
        for (const struct ctl_verb *verb = ctl_verbs; verb->name; verb++) {
                char line[128], expected[128];

                for (int form = 0; form < 2; form++) {
                        snprintf(line, sizeof(line), form ? "help %s" : "%s --help", verb->name);
                        assert_int_equal(agentctl(line), 0);
                        snprintf(expected, sizeof(expected), "Usage: agentctl %s", verb->name);
                        assert_contains(room.out, expected);
                        assert_contains(room.out, verb->run ? "\nExample:\n  agentctl" : "Not in this build yet.");
                        assert_string_equal(content_of(room.err), "");
                }
        }
        assert_int_equal(agentctl("--help"), 0);
        for (const struct ctl_verb *verb = ctl_verbs; verb->name; verb++)
                if (verb->run)
                        assert_contains(room.out, verb->summary);
        assert_int_equal(agentctl("--version"), 0);
        assert_string_equal(content_of(room.out), "agentctl " AGENTD_VERSION "\n");
}

static void no_daemon_ends_with_three_and_one_line(void **state)
{
        static const char *const lines[] = {"status",
                                            "health",
                                            "agents",
                                            "detach a",
                                            "wait a",
                                            "reload",
                                            "dns a",
                                            "events",
                                            "events -f",
                                            "policy list",
                                            "policy show p",
                                            "explain a 192.0.2.1",
                                            "policy test p 192.0.2.1",
                                            "attach a --cgroup /x --policy p"};

        setenv("AGENTD_SOCKET", "/nonexistent/agentd.sock", 1);
        for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
                const char *error;

                assert_int_equal(agentctl(lines[i]), 3);
                error = content_of(room.err);
                assert_non_null(strstr(error, "agentctl: cannot reach the daemon at /nonexistent/agentd.sock"));
                assert_ptr_equal(strchr(error, '\n'), error + strlen(error) - 1);
        }
        /* doctor tells what it can without. */
        assert_int_equal(agentctl("doctor"), 3);
        assert_contains(room.out, "kernel");
        assert_int_equal(agentctl("doctor -o json"), 3);
        assert_contains(room.out, "\"enforceable\": false");
        assert_int_equal(agentctl("version"), 0);
}

static void the_socket_is_found_in_its_order(void **state)
{
        char config[128], line[256];
        FILE *file;

        snprintf(config, sizeof(config), "%s/agentd.yaml", room.directory);
        file = fopen(config, "we");
        fprintf(file, "version: 1\ndaemon:\n  socket: %s\n", room.socket);
        fclose(file);
        snprintf(line, sizeof(line), "agents --config %s", config);
        assert_int_equal(agentctl(line), 0);
        /* The environment goes before the file, the option before both. */
        setenv("AGENTD_SOCKET", "/nonexistent/environment", 1);
        assert_int_equal(agentctl(line), 3);
        assert_contains(room.err, "/nonexistent/environment");
        snprintf(line, sizeof(line), "--socket @ agents --config %s", config);
        assert_int_equal(agentctl(line), 0);
        setenv("AGENTD_SOCKET", room.socket, 1);
        assert_int_equal(agentctl("agents"), 0);
        assert_int_equal(agentctl("agents --socket /nonexistent/option"), 3);
        unsetenv("AGENTD_SOCKET");
        assert_int_equal(agentctl("agents --config /nonexistent/file"), 2);
}

static void status_has_one_line_an_agent(void **state)
{
        assert_int_equal(agentctl("status --socket @"), 0);
        assert_contains(room.out, "daemon  agentd 0.1.0, pid 4242, up 1h 1m, generation 7\n");
        assert_contains(room.out, "kernel  6.1.0\n");
        assert_contains(room.out, "tier 1  system calls: present\n");
        assert_contains(room.out, "tier 3  veth: absent (not in this build)\n");
        assert_contains(room.out, "events  off: 12, 3 lost\n");
        assert_contains(room.out, "problem: the disk is full\n");
        assert_contains(
                room.out,
                "\nclaude-1  enforce  coding-agent  gen 7  enforcing (verified 3s ago)  tiers 1,2  names 2/3\n");
        assert_int_equal(agentctl("health --socket @"), 1);
        assert_int_equal(agentctl("health -o json --socket @"), 1);
        assert_int_equal(agentctl("status -o json --socket @"), 0);
        assert_contains(room.out, "\"name\": \"claude-1\"");
}

static void agents_are_a_table_with_their_counters(void **state)
{
        assert_int_equal(agentctl("agents --socket @"), 0);
        assert_string_equal(
                content_of(room.out),
                "AGENT     MODE     POLICY        STATE      OUT              IN               DENIED\n"
                "claude-1  enforce  coding-agent  enforcing  10 pkt, 4.9 KiB  9 pkt, 68.4 KiB  3 no_rule=2 metadata=1\n"
                "claude-1  enforce  coding-agent  waiting    -                -                -\n");
}

static void arguments_reach_the_daemon(void **state)
{
        static const struct {
                const char *line, *request;
        } cases[] = {
                {"attach a --cgroup /x --policy p --mode audit --socket @",
                 "{\"name\":\"a\",\"cgroup\":\"/"
                 "x\",\"policy\":\"p\",\"mode\":\"audit\",\"v\":1,\"id\":1,\"verb\":\"attach\"}"},
                {"attach --policy=p --cgroup=/x --socket @ -- -a",
                 "{\"name\":\"-a\",\"cgroup\":\"/x\",\"policy\":\"p\",\"v\":1,\"id\":1,\"verb\":\"attach\"}"},
                {"wait a --timeout 1m --socket @",
                 "{\"name\":\"a\",\"timeout_ms\":60000,\"v\":1,\"id\":1,\"verb\":\"wait\"}"},
                {"wait a --socket @", "{\"name\":\"a\",\"timeout_ms\":10000,\"v\":1,\"id\":1,\"verb\":\"wait\"}"},
                {"events --agent a --type deny --reason no_rule -n 5 --socket @",
                 "{\"follow\":false,\"agent\":\"a\",\"type\":\"deny\",\"reason\":\"no_rule\",\"n\":5,\"v\":1,\"id\":1,"
                 "\"verb\":"
                 "\"events\"}"},
                {"policy test p 192.0.2.1 example.com:443 --socket @",
                 "{\"policy\":\"p\",\"destinations\":[\"192.0.2.1\",\"example.com:443\"],\"v\":1,\"id\":1,\"verb\":"
                 "\"policy-"
                 "test\"}"},
                {"explain a 192.0.2.1 --socket @",
                 "{\"agent\":\"a\",\"destination\":\"192.0.2.1\",\"v\":1,\"id\":1,\"verb\":\"explain\"}"},
                {"dns a --socket @", "{\"agent\":\"a\",\"v\":1,\"id\":1,\"verb\":\"dns\"}"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_free_ char *asked = NULL;

                assert_int_equal(agentctl(cases[i].line), 0);
                asked = json_dumps(room.asked, JSON_COMPACT);
                assert_string_equal(asked, cases[i].request);
        }
}

static void answers_end_with_their_status(void **state)
{
        static const struct {
                const char *line;
                int status;
                const char *out, *err;
        } cases[] = {
                {"detach b --socket @", 1, NULL, "agentctl: there is no agent 'b'\n"},
                {"reload --socket @", 2, NULL,
                 "agentctl: a.yaml:3:5: unknown key 'x'\nagentctl: a.yaml:9:1: warning: too wide\n"},
                {"policy diff /dev/null --socket @", 0, "~ policy web: 1 rule added\n- agent b\n", ""},
                {"doctor --socket @", 4, "FAILED  kernel  5.10; use 6.1 or newer\n", ""},
                {"explain a 192.0.2.1 --socket @", 0, NULL, ""},
                {"explain a 192.0.2.2 --socket @", 1, NULL, ""},
                {"policy list --socket @", 0,
                 "POLICY  MODE   ALLOWS  DENIES  AGENTS  PLACE\nweb     audit  2       1       3       a.yaml:21\n",
                 ""},
                {"dns a --socket @", 0,
                 "NAME       RULE  STATE     ADDRESS       EXPIRES\n"
                 "x.example  web   resolved  192.0.2.1     in 1m 1s\n"
                 "                           2001:db8::1   expired, kept by live flows\n"
                 "y.example  web   failed    no such name\n",
                 ""},
                {"version --socket @", 0, "agentctl " AGENTD_VERSION "\nagentd 9.9, ABI 1\n", ""},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_int_equal(agentctl(cases[i].line), cases[i].status);
                if (cases[i].out)
                        assert_string_equal(content_of(room.out), cases[i].out);
                assert_string_equal(content_of(room.err), cases[i].err);
        }
}

static void events_are_lines_safe_or_json(void **state)
{
        assert_int_equal(agentctl("events --socket @"), 0);
        assert_string_equal(content_of(room.out), "2026-11-23T18:22:38.123Z deny       a\\x1b no_rule\n"
                                                  "2026-11-23T18:22:38.123Z deny       a\\x1b no_rule\n");
        assert_int_equal(agentctl("events -o json --socket @"), 0);
        assert_contains(room.out, "{\"v\":1,\"time\":\"2026-11-23T18:22:38.123456789Z\",\"seq\":1,");
        assert_contains(room.out, "}\n{\"v\":1,");
}

static void a_follower_ends_cleanly_when_interrupted(void **state)
{
        begin("events -f -o json --socket @", -1);
        while (!strstr(content_of(room.out), "\"seq\":2"))
                uv_run(&room.loop, UV_RUN_ONCE);
        assert_true(json_is_true(json_object_get(room.asked, "follow")));
        assert_int_equal(json_number(room.asked, "n"), 10);
        assert_true(control_stream(room.following, an_event(3)));
        while (!strstr(content_of(room.out), "\"seq\":3"))
                uv_run(&room.loop, UV_RUN_ONCE);
        kill(room.child, SIGINT);
        assert_int_equal(end(), 0);
        assert_string_equal(content_of(room.err), "");
        while (!room.unfollowed)
                uv_run(&room.loop, UV_RUN_ONCE);
}

static void a_follower_ends_cleanly_when_its_reader_goes(void **state)
{
        int fds[2];
        char text[4096];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        begin("events -f --socket @", fds[1]);
        close(fds[1]);
        while (!room.following)
                uv_run(&room.loop, UV_RUN_ONCE);
        uv_run(&room.loop, UV_RUN_ONCE);
        assert_true(read(fds[0], text, sizeof(text)) > 0);
        /* No event is needed for it. */
        close(fds[0]);
        assert_int_equal(end(), 0);
        assert_string_equal(content_of(room.err), "");
}

static void a_follower_tells_that_the_daemon_went(void **state)
{
        begin("events -f --socket @", -1);
        while (!room.following)
                uv_run(&room.loop, UV_RUN_ONCE);
        control_server_free(room.server);
        assert_int_equal(end(), 3);
        assert_contains(room.err, "has closed the connection\n");
        assert_int_equal(control_server_new(&room.loop, room.socket, canned, NULL, NULL, &room.server), 0);
}

static void output_that_cannot_be_written_is_a_failure(void **state)
{
        int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

        begin("agents --socket @", full);
        assert_int_equal(end(), 1);
        assert_contains(room.err, "cannot write the output: No space left on device");
        begin("agents -o json --socket @", full);
        assert_int_equal(end(), 1);
        close(full);
}

static void what_is_no_daemon_is_told(void **state)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        char line[256];
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), peer;

        snprintf(address.sun_path, sizeof(address.sun_path), "%s/other.sock", room.directory);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(fd, 5), 0);
        snprintf(line, sizeof(line), "status --socket %s", address.sun_path);
        begin(line, -1);
        peer = accept(fd, NULL, NULL);
        assert_int_equal(send(peer, "SSH-2.0-x\n", 10, 0), 10);
        assert_int_equal(end(), 1);
        assert_contains(room.err, "is no agentd, or one with another protocol");
        close(peer);
        begin(line, -1);
        peer = accept(fd, NULL, NULL);
        close(peer);
        assert_int_equal(end(), 3);
        close(fd);
}

static void files_are_judged_without_a_daemon(void **state)
{
        char good[128], bad[128], line[512];
        FILE *file;

        setenv("AGENTD_SOCKET", "/nonexistent/agentd.sock", 1);
        snprintf(good, sizeof(good), "%s/good.yaml", room.directory);
        snprintf(bad, sizeof(bad), "%s/bad.yaml", room.directory);
        file = fopen(good, "we");
        fputs("version: 1\npolicies:\n  web:\n    egress:\n      - {name: db, cidr: 10.20.0.0/16, ports: [5432]}\n",
              file);
        fclose(file);
        file = fopen(bad, "we");
        fputs("version: 1\npolicies:\n  web:\n    egres: []\n", file);
        fclose(file);

        snprintf(line, sizeof(line), "policy validate %s", good);
        assert_int_equal(agentctl(line), 0);
        assert_contains(room.out, "good.yaml: valid; 1 policies, 0 agents\n");
        snprintf(line, sizeof(line), "policy validate %s", bad);
        assert_int_equal(agentctl(line), 2);
        assert_contains(room.err, "bad.yaml:4:5: unknown key 'egres'");
        snprintf(line, sizeof(line), "policy validate -o json %s", bad);
        assert_int_equal(agentctl(line), 2);
        assert_contains(room.out, "\"valid\": false");
        snprintf(line, sizeof(line), "policy test web 10.20.0.7:5432 --config %s", good);
        assert_int_equal(agentctl(line), 0);
        snprintf(line, sizeof(line), "policy test web 10.20.0.7:5432 10.20.0.7:80 --config %s", good);
        assert_int_equal(agentctl(line), 1);
        snprintf(line, sizeof(line), "policy test nothing 10.20.0.7:5432 --config %s", good);
        assert_int_equal(agentctl(line), 2);
        snprintf(line, sizeof(line), "explain --policy web --config %s 10.20.0.7:80", good);
        assert_int_equal(agentctl(line), 1);
        assert_contains(room.out, "no_rule");
        snprintf(line, sizeof(line), "explain --policy web --config %s 10.20.0.7:80", bad);
        assert_int_equal(agentctl(line), 2);
}

#define ctl_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                ctl_test(wrong_usage_ends_with_two_and_one_line),
                ctl_test(every_verb_has_help_with_synopsis_and_example),
                ctl_test(no_daemon_ends_with_three_and_one_line),
                ctl_test(the_socket_is_found_in_its_order),
                ctl_test(status_has_one_line_an_agent),
                ctl_test(agents_are_a_table_with_their_counters),
                ctl_test(arguments_reach_the_daemon),
                ctl_test(answers_end_with_their_status),
                ctl_test(events_are_lines_safe_or_json),
                ctl_test(a_follower_ends_cleanly_when_interrupted),
                ctl_test(a_follower_ends_cleanly_when_its_reader_goes),
                ctl_test(a_follower_tells_that_the_daemon_went),
                ctl_test(output_that_cannot_be_written_is_a_failure),
                ctl_test(what_is_no_daemon_is_told),
                ctl_test(files_are_judged_without_a_daemon),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
