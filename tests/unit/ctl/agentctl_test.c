/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * agentctl as a whole: usage, arguments, output, exit statuses.
 */
#include "tests/unit/ctl/agentctl_rig.h"

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
                {"audit --since yesterday", "'yesterday' is no duration; such as '10m', '1h', '2d'"},
                {"audit verify now", "unexpected argument 'now': agentctl audit verify"},
                {"top --interval 1ms", "'1ms' is no interval from 100ms to 1h; such as '1s', '500ms'"},
                {"budget", "'budget' needs a second word; 'agentctl --help' lists them"},
                {"budget show a b", "unexpected argument 'b': agentctl budget show [AGENT]"},
                {"budget grant a agent/day",
                 "'budget grant' needs more arguments: agentctl budget grant AGENT SCOPE BYTES"},
                {"budget grant a agent/day 10M",
                 "'10M' is no size that can be granted; such as '10MiB', '2GB', '4096'"},
                {"budget grant a agent/day 1.5GiB",
                 "'1.5GiB' is no size that can be granted; such as '10MiB', '2GB', '4096'"},
                {"budget grant a agent/day 0", "'0' is no size that can be granted; such as '10MiB', '2GB', '4096', at "
                                               "least 1 byte and at most 256TiB"},
                {"budget grant a agent/day 99999999999999999999",
                 "'99999999999999999999' is no size that can be granted; such as '10MiB', '2GB', '4096', at least 1 "
                 "byte and at most 256TiB"},
                {"budget reset", "'budget reset' needs more arguments: agentctl budget reset AGENT [SCOPE]"},
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
        assert_contains(room.out, "\nclaude-1  enforce  coding-agent  gen 7  enforcing (verified 3s ago)  tiers 1,2; "
                                  "not 3: no veth  names 2/3\n");
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

static void what_the_daemon_says_reaches_no_terminal_raw(void **state)
{
        assert_int_equal(agentctl("detach \x1b[31m --socket @"), 1);
        assert_string_equal(content_of(room.err), "agentctl: there is no agent '\\x1b[31m'\n");
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
                ctl_test(what_the_daemon_says_reaches_no_terminal_raw),
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
