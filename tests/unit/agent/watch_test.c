/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Agents by path and glob as real cgroups come and go (root only). Nothing sleeps: the loop is run until it has seen
 * what the test waits for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/agent/watch.h"
#include "agentd/util/macro.h"

#define TOP "/agreg-watch-test"

struct fixture {
        uv_loop_t loop;
        struct cgroup_mount mount;
        struct agent_watch *watch;
        struct agent_watch_callbacks callbacks;
        char log[4096]; /* "+name", "-name", "?name" (unwatched), "old>new", "!name1" (population) */
        __u64 last_id;
        size_t appeared, vanished;
        bool quiet;
        int refuse; /* what appeared() returns */
        bool follow_in_callback;
};

static void note(struct fixture *fixture, const char *format, ...)
{
        size_t used = strlen(fixture->log);
        va_list arguments;

        if (fixture->quiet)
                return;
        va_start(arguments, format);
        vsnprintf(fixture->log + used, sizeof(fixture->log) - used, format, arguments);
        va_end(arguments);
}

static int appeared(void *context, const struct agent_watch_match *match)
{
        struct fixture *fixture = context;

        if (fixture->refuse)
                return fixture->refuse;
        fixture->appeared++;
        fixture->last_id = match->cgroup_id;
        note(fixture, "+%s ", match->name);
        return 0;
}

static void vanished(void *context, const char *name, __u64 cgroup_id, enum agent_watch_end end)
{
        struct fixture *fixture = context;

        fixture->vanished++;
        note(fixture, "%c%s ", end == AGENT_WATCH_REMOVED ? '-' : '?', name);
        if (fixture->follow_in_callback)
                agent_watch_unfollow(fixture->watch, "by-hand");
}

static int renamed(void *context, const char *old_name, const struct agent_watch_match *match)
{
        note(context, "%s>%s ", old_name, match->name);
        return 0;
}

static void population(void *context, const char *name, __u64 cgroup_id, bool populated)
{
        note(context, "!%s%d ", name, populated);
}

static int set_up(void **state)
{
        struct fixture *fixture;

        if (geteuid() != 0)
                return 0;
        fixture = calloc(1, sizeof(*fixture));
        if (cgroup_mount_find(NULL, &fixture->mount) < 0) {
                free(fixture);
                return 0;
        }
        cgroup_remove(&fixture->mount, TOP, 2000);
        fixture->callbacks = (struct agent_watch_callbacks){appeared, vanished, renamed, population};
        assert_int_equal(uv_loop_init(&fixture->loop), 0);
        assert_int_equal(
                agent_watch_new(&fixture->loop, &fixture->mount, &fixture->callbacks, fixture, &fixture->watch), 0);
        *state = fixture;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *fixture = *state;

        if (!fixture)
                return 0;
        agent_watch_free(fixture->watch);
        uv_run(&fixture->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&fixture->loop), 0);
        cgroup_remove(&fixture->mount, TOP, 2000);
        cgroup_mount_release(&fixture->mount);
        free(fixture);
        return 0;
}

static struct fixture *need(void **state)
{
        if (!*state)
                print_message("needs root and a cgroup v2 mount\n");
        return *state;
}

static void set(struct fixture *fixture, const char *name, const char *cgroup)
{
        struct agent_spec spec = {.name = (char *)name, .cgroup = (char *)cgroup, .policy = (char *)"p"};

        assert_int_equal(agent_watch_set(fixture->watch, &spec, name ? 1 : 0, NULL), 0);
}

static void make(struct fixture *fixture, const char *path)
{
        assert_int_equal(cgroup_create(&fixture->mount, path), 0);
}

static void take_away(struct fixture *fixture, const char *path)
{
        assert_int_equal(cgroup_remove(&fixture->mount, path, 2000), 0);
}

/* Runs the loop until the log says so, then empties it. The rescan timer bounds the wait. */
static void expect(struct fixture *fixture, const char *log)
{
        for (int i = 0; i < 2000 && strcmp(fixture->log, log) != 0 && strlen(fixture->log) < strlen(log); i++)
                uv_run(&fixture->loop, UV_RUN_ONCE);
        assert_string_equal(fixture->log, log);
        fixture->log[0] = '\0';
}

static size_t inotify_watches(void)
{
        size_t n = 0;
        DIR *directory = opendir("/proc/self/fdinfo");
        const struct dirent *entry;

        while ((entry = readdir(directory))) {
                char path[64 + 256], line[512];
                FILE *file;

                snprintf(path, sizeof(path), "/proc/self/fdinfo/%s", entry->d_name);
                file = fopen(path, "re");
                while (file && fgets(line, sizeof(line), file))
                        n += strncmp(line, "inotify wd:", 11) == 0;
                if (file)
                        fclose(file);
        }
        closedir(directory);
        return n;
}

static void a_path_is_an_agent_when_its_parents_appear_later(void **state)
{
        struct fixture *fixture = need(state);

        if (!fixture)
                skip();
        set(fixture, "claude", TOP "/deep/claude");
        expect(fixture, "");
        make(fixture, TOP);
        make(fixture, TOP "/deep/claude");
        expect(fixture, "+claude ");
        take_away(fixture, TOP "/deep");
        expect(fixture, "-claude ");
        make(fixture, TOP "/deep/claude");
        expect(fixture, "+claude ");
}

static void what_is_there_already_is_found_before_set_returns(void **state)
{
        struct fixture *fixture = need(state);
        __u64 id;

        if (!fixture)
                skip();
        make(fixture, TOP "/a");
        set(fixture, "claude", TOP "/a");
        assert_string_equal(fixture->log, "+claude ");
        assert_int_equal(cgroup_id_of(&fixture->mount, TOP "/a", &id), 0);
        assert_true(id == fixture->last_id);
        fixture->log[0] = '\0';
        set(fixture, "claude", TOP "/a");
        assert_string_equal(fixture->log, "");
        take_away(fixture, TOP "/a");
        assert_int_equal(agent_watch_rescan(fixture->watch), 0);
        assert_string_equal(fixture->log, "-claude ");
}

static void each_match_of_a_glob_is_an_agent_named_after_its_last_part(void **state)
{
        struct fixture *fixture = need(state);

        if (!fixture)
                skip();
        set(fixture, "c", TOP "/*/box-?");
        make(fixture, TOP "/x/box-1");
        expect(fixture, "+c-box-1 ");
        make(fixture, TOP "/x/other");
        make(fixture, TOP "/x/box-22");
        make(fixture, TOP "/y/box-2");
        expect(fixture, "+c-box-2 ");
        take_away(fixture, TOP "/x");
        expect(fixture, "-c-box-1 ");
}

static void two_matches_of_one_name_are_both_agents(void **state)
{
        struct fixture *fixture = need(state);

        if (!fixture)
                skip();
        make(fixture, TOP "/x/box");
        make(fixture, TOP "/y/box");
        set(fixture, "c", TOP "/*/box");
        assert_int_equal(fixture->appeared, 2);
        assert_non_null(strstr(fixture->log, "+c-box "));
        assert_non_null(strstr(fixture->log, "+c-box-"));
}

static void an_entry_with_a_path_wins_over_a_glob(void **state)
{
        struct agent_spec specs[] = {
                {.name = (char *)"all", .cgroup = (char *)TOP "/*", .policy = (char *)"p"},
                {.name = (char *)"one", .cgroup = (char *)TOP "/a", .policy = (char *)"p"},
        };
        struct fixture *fixture = need(state);

        if (!fixture)
                skip();
        make(fixture, TOP "/a");
        assert_int_equal(agent_watch_set(fixture->watch, specs, 2, NULL), 0);
        expect(fixture, "+one ");
        /* Without it the glob has it; the agent is handed over, not ended. */
        assert_int_equal(agent_watch_set(fixture->watch, specs, 1, NULL), 0);
        expect(fixture, "one>all-a ");
        fixture->callbacks.renamed = NULL;
        assert_int_equal(agent_watch_set(fixture->watch, specs, 2, NULL), 0);
        expect(fixture, "?all-a +one ");
        set(fixture, NULL, NULL);
        expect(fixture, "?one ");
}

static void a_replaced_cgroup_is_a_new_agent(void **state)
{
        struct fixture *fixture = need(state);
        __u64 before;

        if (!fixture)
                skip();
        make(fixture, TOP "/a");
        set(fixture, "claude", TOP "/a");
        expect(fixture, "+claude ");
        before = fixture->last_id;
        take_away(fixture, TOP "/a");
        make(fixture, TOP "/a");
        expect(fixture, "-claude +claude ");
        assert_true(fixture->last_id != before);
}

static void an_agent_that_was_refused_is_offered_again(void **state)
{
        struct fixture *fixture = need(state);
        struct agent_watch_statistics statistics;

        if (!fixture)
                skip();
        make(fixture, TOP "/a");
        fixture->refuse = -EIO;
        set(fixture, "claude", TOP "/a");
        agent_watch_statistics(fixture->watch, &statistics);
        assert_int_equal(statistics.waiting, 1);
        assert_int_equal(statistics.agents, 0);
        fixture->refuse = 0;
        expect(fixture, "+claude "); /* by the timer */
}

static void a_bad_path_changes_nothing(void **state)
{
        struct agent_spec specs[] = {
                {.name = (char *)"a", .cgroup = (char *)TOP "/b", .policy = (char *)"p"},
                {.name = (char *)"b", .cgroup = (char *)"/", .policy = (char *)"p"},
        };
        struct fixture *fixture = need(state);
        size_t bad = 7;

        if (!fixture)
                skip();
        make(fixture, TOP "/a");
        set(fixture, "claude", TOP "/a");
        expect(fixture, "+claude ");
        assert_int_equal(agent_watch_set(fixture->watch, specs, 2, &bad), -EISDIR);
        assert_int_equal(bad, 1);
        specs[1].cgroup = (char *)"/x/../y";
        assert_int_equal(agent_watch_set(fixture->watch, specs, 2, &bad), -EINVAL);
        assert_int_equal(agent_watch_rescan(fixture->watch), 0);
        assert_string_equal(fixture->log, "");
}

static void processes_that_come_and_go_are_told(void **state)
{
        struct fixture *fixture = need(state);
        _cleanup_close_ int fd = -1;
        pid_t pid;

        if (!fixture)
                skip();
        make(fixture, TOP "/a");
        set(fixture, "claude", TOP "/a");
        expect(fixture, "+claude ");
        pid = fork();
        if (pid == 0) {
                pause();
                _exit(0);
        }
        assert_int_equal(cgroup_open(&fixture->mount, TOP "/a", &fd), 0);
        assert_int_equal(cgroup_move(fd, pid), 0);
        expect(fixture, "!claude1 ");
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        expect(fixture, "!claude0 ");
}

static void a_followed_agent_is_not_offered_and_its_end_is_told(void **state)
{
        struct fixture *fixture = need(state);
        __u64 id;

        if (!fixture)
                skip();
        make(fixture, TOP "/a");
        make(fixture, TOP "/b");
        assert_int_equal(cgroup_id_of(&fixture->mount, TOP "/a", &id), 0);
        assert_int_equal(agent_watch_follow(fixture->watch, "by-hand", TOP "/a", id + 1), -ENOENT);
        assert_int_equal(agent_watch_follow(fixture->watch, "by-hand", TOP "/a", id), 0);
        assert_int_equal(agent_watch_follow(fixture->watch, "by-hand", TOP "/a", id), -EEXIST);
        set(fixture, "c", TOP "/*");
        expect(fixture, "+c-b ");
        take_away(fixture, TOP "/a");
        expect(fixture, "-by-hand ");
        make(fixture, TOP "/a");
        expect(fixture, "+c-a ");

        /* Given back, it is the glob's again; a callback may do so as well. */
        set(fixture, NULL, NULL);
        fixture->log[0] = '\0';
        assert_int_equal(cgroup_id_of(&fixture->mount, TOP "/a", &id), 0);
        assert_int_equal(agent_watch_follow(fixture->watch, "by-hand", TOP "/a", id), 0);
        assert_int_equal(cgroup_id_of(&fixture->mount, TOP "/b", &id), 0);
        assert_int_equal(agent_watch_follow(fixture->watch, "other", TOP "/b", id), 0);
        fixture->follow_in_callback = true;
        take_away(fixture, TOP "/b");
        expect(fixture, "-other ");
        set(fixture, "c", TOP "/a");
        expect(fixture, "+c ");
}

static void an_agent_that_was_let_go_stays_away_until_the_next_set(void **state)
{
        struct fixture *fixture = need(state);
        __u64 id;

        if (!fixture)
                skip();
        make(fixture, TOP "/a");
        set(fixture, "c", TOP "/*");
        expect(fixture, "+c-a ");
        agent_watch_unfollow(fixture->watch, "c-a");
        assert_int_equal(agent_watch_rescan(fixture->watch), 0);
        assert_string_equal(fixture->log, "");
        set(fixture, "c", TOP "/*");
        expect(fixture, "+c-a ");

        /* Its end is not told; its successor is offered. */
        agent_watch_unfollow(fixture->watch, "c-a");
        take_away(fixture, TOP "/a");
        make(fixture, TOP "/a");
        expect(fixture, "+c-a ");

        /* It may be attached by hand meanwhile. */
        agent_watch_unfollow(fixture->watch, "c-a");
        assert_int_equal(cgroup_id_of(&fixture->mount, TOP "/a", &id), 0);
        assert_int_equal(agent_watch_follow(fixture->watch, "c-a", TOP "/a", id), 0);
        set(fixture, "c", TOP "/*");
        expect(fixture, "");
        take_away(fixture, TOP "/a");
        expect(fixture, "-c-a ");
}

static void notifications_find_an_agent_before_the_timer_does(void **state)
{
        struct fixture *fixture = need(state);
        bool early = false;

        if (!fixture)
                skip();
        make(fixture, TOP "/a");
        set(fixture, "c", TOP "/*");
        expect(fixture, "+c-a ");
        /* A machine that stalls for a second proves nothing: once is enough. */
        for (int i = 0; i < 5 && !early; i++) {
                char path[64], log[64];
                uint64_t begun;

                snprintf(path, sizeof(path), TOP "/n%d", i);
                snprintf(log, sizeof(log), "+c-n%d ", i);
                begun = uv_hrtime();
                make(fixture, path);
                expect(fixture, log);
                early = uv_hrtime() - begun < WATCH_RESCAN_MS * NSEC_PER_MSEC / 4;
        }
        assert_true(early);
}

static void a_storm_of_directories_leaves_nothing_behind(void **state)
{
        struct fixture *fixture = need(state);
        struct agent_watch_statistics statistics;
        char path[64];

        if (!fixture)
                skip();
        fixture->quiet = true;
        make(fixture, TOP "/storm");
        set(fixture, "c", TOP "/storm/*/box");
        for (int round = 0; round < 20; round++) {
                for (int i = 0; i < 100; i++) {
                        snprintf(path, sizeof(path), TOP "/storm/d%d/box", i);
                        make(fixture, path);
                        if (i % 10 == 0)
                                uv_run(&fixture->loop, UV_RUN_NOWAIT);
                }
                for (int i = 0; i < 100; i++) {
                        snprintf(path, sizeof(path), TOP "/storm/d%d", i);
                        take_away(fixture, path);
                        if (i % 10 == 0)
                                uv_run(&fixture->loop, UV_RUN_NOWAIT);
                }
        }
        assert_int_equal(agent_watch_rescan(fixture->watch), 0);
        agent_watch_statistics(fixture->watch, &statistics);
        assert_int_equal(statistics.agents, 0);
        assert_true(fixture->appeared > 0);
        assert_int_equal(fixture->appeared, fixture->vanished);
        uv_run(&fixture->loop, UV_RUN_NOWAIT);
        agent_watch_statistics(fixture->watch, &statistics);
        assert_int_equal(inotify_watches(), statistics.directories);
        assert_true(statistics.directories <= 3);
        take_away(fixture, TOP "/storm");
        assert_int_equal(agent_watch_rescan(fixture->watch), 0);
        agent_watch_statistics(fixture->watch, &statistics);
        assert_int_equal(inotify_watches(), statistics.directories);
}

static void an_overflowing_queue_means_look_again(void **state)
{
        struct fixture *fixture = need(state);
        struct agent_watch_statistics statistics = {0};
        char line[32] = "16384";
        FILE *file = fopen("/proc/sys/fs/inotify/max_queued_events", "re");
        long room;

        if (file) {
                (void)!fgets(line, sizeof(line), file);
                fclose(file);
        }
        room = strtol(line, NULL, 10);
        if (!fixture || room <= 0 || room > 100000) {
                print_message("needs root and a bounded inotify queue\n");
                skip();
        }
        fixture->quiet = true;
        make(fixture, TOP "/a");
        set(fixture, "c", TOP "/*");
        for (long i = 0; i <= room / 2 + 1; i++) {
                make(fixture, TOP "/flip");
                take_away(fixture, TOP "/flip");
        }
        make(fixture, TOP "/last");
        fixture->quiet = false;
        fixture->log[0] = '\0';
        while (!strstr(fixture->log, "+c-last "))
                uv_run(&fixture->loop, UV_RUN_ONCE);
        agent_watch_statistics(fixture->watch, &statistics);
        assert_true(statistics.overflows > 0);
        /* Population changes may have been lost as well: every agent is looked at. */
        while (!strstr(fixture->log, "!c-a0 "))
                uv_run(&fixture->loop, UV_RUN_ONCE);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_path_is_an_agent_when_its_parents_appear_later, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_is_there_already_is_found_before_set_returns, set_up, tear_down),
                cmocka_unit_test_setup_teardown(each_match_of_a_glob_is_an_agent_named_after_its_last_part, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(two_matches_of_one_name_are_both_agents, set_up, tear_down),
                cmocka_unit_test_setup_teardown(an_entry_with_a_path_wins_over_a_glob, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_replaced_cgroup_is_a_new_agent, set_up, tear_down),
                cmocka_unit_test_setup_teardown(an_agent_that_was_refused_is_offered_again, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_bad_path_changes_nothing, set_up, tear_down),
                cmocka_unit_test_setup_teardown(processes_that_come_and_go_are_told, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_followed_agent_is_not_offered_and_its_end_is_told, set_up, tear_down),
                cmocka_unit_test_setup_teardown(an_agent_that_was_let_go_stays_away_until_the_next_set, set_up,
                                                tear_down),
                cmocka_unit_test_setup_teardown(notifications_find_an_agent_before_the_timer_does, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_storm_of_directories_leaves_nothing_behind, set_up, tear_down),
                cmocka_unit_test_setup_teardown(an_overflowing_queue_means_look_again, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
