/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Globs over cgroup paths, and the names of what they find.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/agent/pattern.h"
#include "agentd/util/macro.h"

static void a_glob_stays_within_its_part(void **state)
{
        static const struct {
                const char *pattern, *path;
                bool matches;
        } cases[] = {
                {"/agents/*", "/agents/a", true},
                {"/agents/*", "/agents", false},
                {"/agents/*", "/agents/a/b", false},
                {"/agents/*", "/agentsx/a", false},
                {"/agents/*", "/agents/.hidden", true},
                {"/*/a", "/x/a", true},
                {"/*/a", "/a", false},
                {"/a?c/[x-z]1", "/abc/y1", true},
                {"/a?c/[x-z]1", "/abc/w1", false},
                {"/a?c", "/a/c", false},
                {"/system-a\\x2db.slice", "/system-a\\x2db.slice", true},
                {"/system-*\\x2db.slice", "/system-a\\x2db.slice", true},
                {"/a\\*", "/a*", false},
                {"/a", "/a", true},
                {"/a", "/b", false},
                {"/a/b", "/a", false},
                {"", "", true},
                {"a", "a", false},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                if (pattern_matches(cases[i].pattern, cases[i].path) != cases[i].matches)
                        fail_msg("'%s' against '%s'", cases[i].pattern, cases[i].path);
}

static void names_follow_the_contract_and_stay_unique(void **state)
{
        char docker[] = "/docker/4f2a9c0011223344556677889900aabbccddeeff00112233445566778899aabb";
        static const struct {
                const char *pattern, *path;
                unsigned salt;
                const char *name;
        } cases[] = {
                {"/agents/claude-1", "/agents/claude-1", 0, "c"},
                {"/agents/*", "/agents/claude-1", 0, "c-claude-1"},
                {"/agents/*/box", "/agents/a/box", 0, "c-box"},
                {"/agents/*", "/agents/a b", 0, "c-a_b-"},
                {"/agents/*", "/agents/\"}\t", 0, "c-___-"},
                {"/agents/*/box", "/agents/b/box", 1, "c-box-"},
                {"/agents/a", "/agents/a", 1, "c-"},
        };
        char name[AGENT_NAME_MAX], other[AGENT_NAME_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                size_t length = strlen(cases[i].name);

                pattern_agent_name("c", cases[i].pattern, cases[i].path, cases[i].salt, name);
                if (strncmp(name, cases[i].name, length) != 0 ||
                    strlen(name) != length + (cases[i].name[length - 1] == '-' ? 8 : 0))
                        fail_msg("'%s': '%s'", cases[i].path, name);
        }

        pattern_agent_name("claude", "/docker/*", docker, 0, name);
        assert_int_equal(strlen(name), AGENT_NAME_MAX - 1);
        assert_memory_equal(name, "claude-4f2a9c0011", 17);
        docker[sizeof(docker) - 2] = 'c';
        pattern_agent_name("claude", "/docker/*", docker, 0, other);
        assert_string_not_equal(name, other);
        pattern_agent_name("claude", "/docker/*", docker, 1, name);
        pattern_agent_name("claude", "/docker/*", docker, 2, other);
        assert_string_not_equal(name, other);
}

struct found {
        char text[512];
        size_t directories;
};

static void directory_count(void *context, int fd, __u64 id)
{
        ((struct found *)context)->directories++;
}

static int match_note(void *context, const char *path, __u64 id)
{
        struct found *found = context;

        strcat(strcat(found->text, path), " ");
        return 0;
}

static int match_stop(void *context, const char *path, __u64 id)
{
        match_note(context, path, id);
        return 7;
}

/* Directories of any file system serve. */
static void a_walk_finds_directories_and_nothing_else(void **state)
{
        static const struct pattern_visitor visitor = {.directory = directory_count, .match = match_note};
        static const struct pattern_visitor stop = {.match = match_stop};
        static const struct {
                const char *pattern, *matches;
                size_t directories;
        } cases[] = {
                {"/a/x", "/a/x ", 2}, {"/a/link", "", 2},       {"/a/link/y", "", 2},  {"/a/file", "", 2},
                {"/a/file/y", "", 2}, {"/none/x", "", 1},       {"/*/x", "/a/x ", 2},  {"/a/[x]", "/a/x ", 2},
                {"/a/*", "/a/x ", 2}, {"/a/*/y", "/a/x/y ", 3}, {"no-slash", NULL, 0},
        };
        char directory[] = "/tmp/agreg-pattern-XXXXXX", path[128];
        struct cgroup_mount mount;

        assert_non_null(mkdtemp(directory));
        mount = (struct cgroup_mount){.fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
        assert_int_equal(mkdirat(mount.fd, "a", 0755), 0);
        assert_int_equal(mkdirat(mount.fd, "a/x", 0755), 0);
        assert_int_equal(mkdirat(mount.fd, "a/x/y", 0755), 0);
        assert_int_equal(symlinkat("x", mount.fd, "a/link"), 0);
        close(openat(mount.fd, "a/file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct found found = {0};
                int r = pattern_walk(&mount, cases[i].pattern, &visitor, &found);

                if (r != (cases[i].matches ? 0 : -EINVAL) ||
                    strcmp(found.text, cases[i].matches ? cases[i].matches : "") != 0 ||
                    found.directories != cases[i].directories)
                        fail_msg("'%s': %d '%s' %zu", cases[i].pattern, r, found.text, found.directories);
        }

        struct found found = {0};

        assert_int_equal(pattern_walk(&mount, "/*/*", &stop, &found), 7);
        assert_string_equal(found.text, "/a/x ");

        static const char *const leaves[] = {"a/file", "a/link", "a/x/y", "a/x", "a"};

        for (size_t i = 0; i < ARRAY_SIZE(leaves); i++)
                assert_int_equal(unlinkat(mount.fd, leaves[i], i < 2 ? 0 : AT_REMOVEDIR), 0);
        close(mount.fd);
        snprintf(path, sizeof(path), "%s", directory);
        assert_int_equal(rmdir(path), 0);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_glob_stays_within_its_part),
                cmocka_unit_test(names_follow_the_contract_and_stay_unique),
                cmocka_unit_test(a_walk_finds_directories_and_nothing_else),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
