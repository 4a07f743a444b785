/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup paths and mounts by tables; directories, ids and processes on the real hierarchy (root only).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/agent/cgroup.h"
#include "agentd/util/macro.h"

static const char base[] = "/agreg-cgroup-test";

static void mounts_are_read_from_mountinfo(void **state)
{
        static const char text[] = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
                                   "37 31 0:34 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
                                   "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:7 master:1 - cgroup2 x rw\n"
                                   "42 31 0:38 /docker/abc /mnt/a\\040b\\134c rw - cgroup2 cgroup2 rw\n"
                                   "this is not a line - cgroup2 of mountinfo\n"
                                   "\n"
                                   "43 31 0:38 /../.. /x rw - cgroup2\n";
        static const struct cgroup_alias expected[] = {
                {.path = "/sys/fs/cgroup/unified", .root = "/", .mount_id = 41},
                {.path = "/mnt/a b\\c", .root = "/docker/abc", .mount_id = 42},
                {.path = "/x", .root = "/../..", .mount_id = 43},
        };
        struct cgroup_alias *aliases;
        size_t n;
        FILE *file = fmemopen((void *)text, strlen(text), "r");

        assert_int_equal(cgroup_mountinfo_parse(file, &aliases, &n), 0);
        fclose(file);
        assert_int_equal(n, ARRAY_SIZE(expected));
        for (size_t i = 0; i < n; i++) {
                assert_string_equal(aliases[i].path, expected[i].path);
                assert_string_equal(aliases[i].root, expected[i].root);
                assert_int_equal(aliases[i].mount_id, expected[i].mount_id);
        }
        cgroup_aliases_free(aliases, n);
}

static void a_host_without_cgroup2_says_so(void **state)
{
        struct cgroup_mount mount = {.fd = -1};

        assert_int_equal(cgroup_mount_find("/dev/null", &mount), -ENOENT);
        assert_int_equal(cgroup_mount_find("/nonexistent/mountinfo", &mount), -ENOENT);
}

static void paths_become_canonical_or_are_refused(void **state)
{
        struct cgroup_alias aliases[] = {
                {.path = "/sys/fs/cgroup/unified", .root = "/"},
                {.path = "/mnt/part", .root = "/docker/abc"},
        };
        struct cgroup_mount whole = {
                .fd = -1, .path = "/sys/fs/cgroup/unified", .root = "/", .aliases = aliases, .n_aliases = 2};
        struct cgroup_mount part = {
                .fd = -1, .path = "/mnt/part", .root = "/docker/abc", .aliases = aliases, .n_aliases = 2};
        static const struct {
                bool part;
                const char *text;
                int result;
                const char *path;
        } cases[] = {
                {false, "/agents/a", 0, "/agents/a"},
                {false, "agents/a", 0, "/agents/a"},
                {false, "//agents/./a/", 0, "/agents/a"},
                {false, "/sys/fs/cgroup/unified/agents/a", 0, "/agents/a"},
                {false, "/sys/fs/cgroup/unifiedx/a", 0, "/sys/fs/cgroup/unifiedx/a"},
                {false, "/mnt/part/a", 0, "/docker/abc/a"},
                {false, "/mnt/part", 0, "/docker/abc"},
                {false, "/agents/*", 0, "/agents/*"},
                {false, "system-getty\\x2dtty.slice", 0, "/system-getty\\x2dtty.slice"},
                {false, "", -EINVAL, NULL},
                {false, "/", -EISDIR, NULL},
                {false, "//.//", -EISDIR, NULL},
                {false, "/sys/fs/cgroup/unified", -EISDIR, NULL},
                {false, "/sys/fs/cgroup/unified/", -EISDIR, NULL},
                {false, "/agents/../../x", -EINVAL, NULL},
                {false, "..", -EINVAL, NULL},
                {false, "/a\nb", -EINVAL, NULL},
                {true, "/a", 0, "/a"},
                {true, "/mnt/part/a", 0, "/a"},
                {true, "/mnt/part", -EISDIR, NULL},
                {true, "/sys/fs/cgroup/unified/docker/abc/x", 0, "/x"},
                {true, "/sys/fs/cgroup/unified/docker/abcd/x", -EINVAL, NULL},
                {true, "/sys/fs/cgroup/unified/docker/abc", -EISDIR, NULL},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char *path = NULL;
                int r = cgroup_path_canonical(cases[i].part ? &part : &whole, cases[i].text, &path);

                if (r != cases[i].result || (r == 0 && strcmp(path, cases[i].path) != 0))
                        fail_msg("'%s': %d, %s", cases[i].text, r, path ? path : "-");
                free(path);
        }
}

static void overlong_and_overdeep_paths_are_refused(void **state)
{
        struct cgroup_mount mount = {.fd = -1, .path = "/sys/fs/cgroup", .root = "/"};
        char text[CGROUP_PATH_MAX + 8];
        char *path = NULL;

        memset(text, 'a', sizeof(text));
        text[sizeof(text) - 1] = '\0';
        assert_int_equal(cgroup_path_canonical(&mount, text, &path), -EINVAL);
        text[256] = '\0';
        assert_int_equal(cgroup_path_canonical(&mount, text, &path), -EINVAL);
        for (size_t i = 0; i < 2 * (CGROUP_PARTS_MAX + 1); i += 2)
                memcpy(text + i, "/a", 3);
        assert_int_equal(cgroup_path_canonical(&mount, text, &path), -EINVAL);
}

static void one_path_is_within_another_at_part_boundaries(void **state)
{
        assert_true(cgroup_path_is_within("/a", "/a"));
        assert_true(cgroup_path_is_within("/a/b", "/a"));
        assert_false(cgroup_path_is_within("/ab", "/a"));
        assert_false(cgroup_path_is_within("/a", "/a/b"));
        assert_true(cgroup_path_is_glob("/a/b[12]"));
        assert_false(cgroup_path_is_glob("/a\\x2d/b"));
}

/* Everything below needs the real hierarchy. */
static bool cannot_use_cgroups(struct cgroup_mount *mount)
{
        if (geteuid() != 0 || cgroup_mount_find(NULL, mount) < 0) {
                print_message("needs root and a cgroup v2 mount\n");
                return true;
        }
        return false;
}

static void a_cgroup_is_made_found_and_removed(void **state)
{
        struct cgroup_mount mount;
        _cleanup_close_ int fd = -1;
        char path[128], *found = NULL;
        __u64 id = 0, again = 0;
        bool populated = true;

        if (cannot_use_cgroups(&mount))
                skip();
        snprintf(path, sizeof(path), "%s/deep/down", base);
        cgroup_remove(&mount, base, 1000);

        assert_int_equal(cgroup_open(&mount, path, &fd), -ENOENT);
        assert_int_equal(cgroup_create(&mount, path), 0);
        assert_int_equal(cgroup_create(&mount, path), -EEXIST);
        assert_int_equal(cgroup_open(&mount, path, &fd), 0);
        assert_int_equal(cgroup_id(fd, &id), 0);
        assert_int_equal(cgroup_id_of(&mount, path, &again), 0);
        assert_true(id == again && id != 0);
        assert_int_equal(cgroup_populated(fd, &populated), 0);
        assert_false(populated);

        assert_int_equal(cgroup_path_of_id(&mount, id, &found), 0);
        assert_string_equal(found, path);
        free(found);
        assert_int_equal(cgroup_remove(&mount, base, 1000), 0);
        assert_true(cgroup_path_of_id(&mount, id, &found) < 0);
        assert_true(cgroup_id(fd, &id) < 0);
        assert_int_equal(cgroup_remove(&mount, base, 1000), -ENOENT);
        cgroup_mount_release(&mount);
}

static void the_root_and_other_file_systems_are_refused(void **state)
{
        struct cgroup_mount mount;
        _cleanup_close_ int other = -1;
        int fd = -1;
        __u64 id;

        if (cannot_use_cgroups(&mount))
                skip();
        assert_int_equal(cgroup_open(&mount, "/", &fd), -EISDIR);
        assert_int_equal(cgroup_open(&mount, "", &fd), -EINVAL);
        assert_int_equal(cgroup_open(&mount, "/..", &fd), -EINVAL);
        assert_int_equal(cgroup_open(&mount, "/a//b", &fd), -ENOENT);
        assert_int_equal(cgroup_create(&mount, "/"), -EISDIR);
        assert_int_equal(cgroup_id(mount.fd, &id), -EISDIR);
        other = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_int_equal(cgroup_id(other, &id), -EOPNOTSUPP);
        cgroup_mount_release(&mount);
}

static pid_t start_sleeper(void)
{
        pid_t pid = fork();

        if (pid == 0) {
                pause();
                _exit(0);
        }
        return pid;
}

static void processes_of_the_subtree_are_found_and_killed(void **state)
{
        struct cgroup_mount mount;
        _cleanup_close_ int top = -1, child = -1;
        _cleanup_free_ pid_t *pids = NULL;
        _cleanup_free_ __u64 *ids = NULL;
        char path[128], *where = NULL;
        pid_t a, b;
        size_t n = 0;
        bool populated = false;
        int status;

        if (cannot_use_cgroups(&mount))
                skip();
        snprintf(path, sizeof(path), "%s/child", base);
        cgroup_remove(&mount, base, 1000);
        assert_int_equal(cgroup_create(&mount, path), 0);
        assert_int_equal(cgroup_open(&mount, base, &top), 0);
        assert_int_equal(cgroup_open(&mount, path, &child), 0);

        a = start_sleeper();
        b = start_sleeper();
        assert_int_equal(cgroup_move(top, a), 0);
        assert_int_equal(cgroup_move(child, b), 0);
        assert_int_equal(cgroup_populated(top, &populated), 0);
        assert_true(populated);

        assert_int_equal(cgroup_pids(top, &pids, &n), 0);
        assert_int_equal(n, 2);
        assert_true((pids[0] == a && pids[1] == b) || (pids[0] == b && pids[1] == a));
        assert_int_equal(cgroup_subtree_ids(top, &ids, &n), 0);
        assert_int_equal(n, 2);
        assert_true(ids[0] < ids[1]);

        assert_int_equal(cgroup_of_pid(&mount, b, &where), 0);
        assert_string_equal(where, path);
        free(where);
        assert_int_equal(cgroup_has_pid(&mount, base, b), 1);
        assert_int_equal(cgroup_has_pid(&mount, path, b), 1);
        assert_int_equal(cgroup_has_pid(&mount, path, a), 0);
        assert_int_equal(cgroup_has_pid(&mount, base, 0), 0);

        assert_int_equal(cgroup_wait_empty(top, 0), -ETIMEDOUT);
        assert_int_equal(cgroup_remove(&mount, base, 5000), 0);
        assert_int_equal(waitpid(a, &status, 0), a);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(waitpid(b, &status, 0), b);
        assert_int_equal(cgroup_has_pid(&mount, base, b), -ESRCH);
        cgroup_mount_release(&mount);
}

static void ids_of_many_children_are_sorted(void **state)
{
        struct cgroup_mount mount;
        _cleanup_close_ int top = -1;
        _cleanup_free_ __u64 *ids = NULL;
        char path[128];
        size_t n;

        if (cannot_use_cgroups(&mount))
                skip();
        cgroup_remove(&mount, base, 1000);
        for (int i = 0; i < 40; i++) {
                snprintf(path, sizeof(path), "%s/c%d", base, i);
                assert_int_equal(cgroup_create(&mount, path), 0);
        }
        assert_int_equal(cgroup_open(&mount, base, &top), 0);
        assert_int_equal(cgroup_subtree_ids(top, &ids, &n), 0);
        assert_int_equal(n, 41);
        for (size_t i = 1; i < n; i++)
                assert_true(ids[i - 1] < ids[i]);
        assert_int_equal(cgroup_remove(&mount, base, 1000), 0);
        cgroup_mount_release(&mount);
}

static void processes_of_threaded_cgroups_are_found(void **state)
{
        struct cgroup_mount mount;
        _cleanup_close_ int top = -1, child = -1, type = -1;
        _cleanup_free_ pid_t *pids = NULL, *inner = NULL;
        char path[128];
        size_t n = 0;
        pid_t pid;

        if (cannot_use_cgroups(&mount))
                skip();
        snprintf(path, sizeof(path), "%s/threads", base);
        cgroup_remove(&mount, base, 1000);
        assert_int_equal(cgroup_create(&mount, path), 0);
        assert_int_equal(cgroup_open(&mount, base, &top), 0);
        assert_int_equal(cgroup_open(&mount, path, &child), 0);
        type = openat(child, "cgroup.type", O_WRONLY | O_CLOEXEC);
        assert_int_equal(write(type, "threaded", 8), 8);
        pid = start_sleeper();
        assert_int_equal(cgroup_move(top, pid), 0);
        assert_int_equal(cgroup_move(child, pid), 0);

        assert_int_equal(cgroup_pids(top, &pids, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(pids[0], pid);
        assert_int_equal(cgroup_pids(child, &inner, &n), 0);
        assert_int_equal(n, 1);
        assert_int_equal(inner[0], pid);
        assert_int_equal(cgroup_remove(&mount, base, 5000), 0);
        waitpid(pid, NULL, 0);
        cgroup_mount_release(&mount);
}

static int mount_private(void)
{
        return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static int mount_bind(const char *source, const char *target)
{
        return mount(source, target, NULL, MS_BIND, NULL);
}

static int mount_tmpfs(const char *target)
{
        return mount("none", target, "tmpfs", 0, NULL);
}

/* In a process of its own, whose mounts are its own. Returns the line that failed, 0: none. */
static int look_from_a_container(const struct cgroup_mount *whole, const char *directory, __u64 child_id)
{
        struct cgroup_mount mount = {.fd = -1};
        char source[512], *path = NULL;
        __u64 id = 0;

        snprintf(source, sizeof(source), "%s%s", whole->path, base);
        if (unshare(CLONE_NEWNS) < 0 || mount_private() < 0 || mount_bind(source, directory) < 0)
                return __LINE__;
        if (cgroup_mount_find(NULL, &mount) < 0 || strcmp(mount.path, whole->path) != 0)
                return __LINE__; /* the whole is there, and better */
        cgroup_mount_release(&mount);
        if (mount_tmpfs(whole->path) < 0)
                return __LINE__;
        if (cgroup_mount_find(NULL, &mount) < 0 || strcmp(mount.path, directory) != 0 || strcmp(mount.root, base) != 0)
                return __LINE__;
        if (cgroup_id_of(&mount, "/child", &id) < 0 || id != child_id)
                return __LINE__;
        if (cgroup_path_of_id(&mount, id, &path) < 0 || strcmp(path, "/child") != 0)
                return __LINE__;
        free(TAKE_PTR(path));
        if (cgroup_of_pid(&mount, 0, &path) != -EXDEV || cgroup_has_pid(&mount, "/child", 0) != 0)
                return __LINE__;
        if (cgroup_create(&mount, "/child/own") != 0 || cgroup_remove(&mount, "/child/own", 1000) != 0)
                return __LINE__;
        cgroup_mount_release(&mount);
        return 0;
}

static void a_part_of_the_hierarchy_serves_where_the_whole_is_hidden(void **state)
{
        struct cgroup_mount mount;
        char directory[] = "/tmp/agreg-cgroup-XXXXXX", path[128];
        int status = -1;
        __u64 id = 0;
        pid_t pid;

        if (cannot_use_cgroups(&mount))
                skip();
        snprintf(path, sizeof(path), "%s/child", base);
        cgroup_remove(&mount, base, 1000);
        assert_int_equal(cgroup_create(&mount, path), 0);
        assert_int_equal(cgroup_id_of(&mount, path, &id), 0);
        assert_non_null(mkdtemp(directory));
        pid = fork();
        if (pid == 0)
                _exit(look_from_a_container(&mount, directory, id) % 256);
        waitpid(pid, &status, 0);
        rmdir(directory);
        cgroup_remove(&mount, base, 1000);
        cgroup_mount_release(&mount);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                fail_msg("failed at line %d (modulo 256)", WEXITSTATUS(status));
}

static void a_nest_deeper_than_our_limit_is_still_removed(void **state)
{
        struct cgroup_mount mount;
        _cleanup_close_ int fd = -1;
        _cleanup_free_ __u64 *ids = NULL;
        size_t n;
        int at;

        if (cannot_use_cgroups(&mount))
                skip();
        cgroup_remove(&mount, base, 1000);
        assert_int_equal(cgroup_create(&mount, base), 0);
        assert_int_equal(cgroup_open(&mount, base, &fd), 0);
        at = dup(fd);
        for (int i = 0; i < CGROUP_DEPTH_MAX + 2; i++) {
                int next;

                assert_int_equal(mkdirat(at, "n", 0755), 0);
                next = openat(at, "n", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                assert_true(next >= 0);
                close(at);
                at = next;
        }
        close(at);
        assert_int_equal(cgroup_subtree_ids(fd, &ids, &n), -E2BIG);
        assert_int_equal(cgroup_remove(&mount, base, 5000), 0);
        cgroup_mount_release(&mount);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(mounts_are_read_from_mountinfo),
                cmocka_unit_test(a_host_without_cgroup2_says_so),
                cmocka_unit_test(paths_become_canonical_or_are_refused),
                cmocka_unit_test(overlong_and_overdeep_paths_are_refused),
                cmocka_unit_test(one_path_is_within_another_at_part_boundaries),
                cmocka_unit_test(a_cgroup_is_made_found_and_removed),
                cmocka_unit_test(the_root_and_other_file_systems_are_refused),
                cmocka_unit_test(processes_of_the_subtree_are_found_and_killed),
                cmocka_unit_test(ids_of_many_children_are_sorted),
                cmocka_unit_test(processes_of_threaded_cgroups_are_found),
                cmocka_unit_test(a_part_of_the_hierarchy_serves_where_the_whole_is_hidden),
                cmocka_unit_test(a_nest_deeper_than_our_limit_is_still_removed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
