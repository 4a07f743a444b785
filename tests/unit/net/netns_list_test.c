/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Namespaces of the host, and the sockets that processes hold.
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
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/net/netns_list.h"
#include "agentd/net/sock_diag.h"

static bool list_has(const struct netns_list *list, const struct netns_identity *identity)
{
        for (size_t i = 0; i < list->n; i++) {
                struct netns_identity one;

                if (netns_identify(list->fds[i], &one) == 0 && netns_identity_equal(&one, identity))
                        return true;
        }
        return false;
}

static pid_t start_elsewhere(void)
{
        int ready[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe(ready), 0);
        pid = fork();
        if (pid == 0) {
                if (unshare(CLONE_NEWNET) < 0)
                        _exit(1);
                (void)!write(ready[1], "x", 1);
                pause();
                _exit(0);
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        return pid;
}

static void namespaces_of_processes_and_of_mounts_are_found(void **state)
{
        char directory[] = "/tmp/agentd netns.XXXXXX", file[64], source[64];
        struct netns_identity mine, other;
        struct netns_list list;
        int fd, own;
        pid_t pid;

        if (geteuid() != 0) {
                print_message("needs root\n");
                skip();
        }
        assert_int_equal(unshare(CLONE_NEWNS), 0);
        assert_int_equal(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL), 0);
        pid = start_elsewhere();
        assert_int_equal(netns_open_self(&own), 0);
        assert_int_equal(netns_identify(own, &mine), 0);
        assert_int_equal(netns_open(pid, &fd), 0);
        assert_int_equal(netns_identify(fd, &other), 0);
        close(fd);

        assert_int_equal(netns_list_new(NULL, 0, &list), 0);
        assert_true(list_has(&list, &mine));
        assert_true(list_has(&list, &other));
        netns_list_clear(&list);
        assert_int_equal(netns_list_new(&other, 1, &list), 0);
        assert_int_equal(list.n, 1);
        assert_true(list_has(&list, &other));
        netns_list_clear(&list);

        /* without a process, but mounted: on a path that mountinfo escapes */
        assert_non_null(mkdtemp(directory));
        snprintf(file, sizeof(file), "%s/it", directory);
        close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        snprintf(source, sizeof(source), "/proc/%d/ns/net", (int)pid);
        assert_int_equal(mount(source, file, NULL, MS_BIND, NULL), 0);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        assert_int_equal(netns_list_new(&other, 1, &list), 0);
        assert_int_equal(list.n, 1);
        netns_list_clear(&list);
        assert_int_equal(umount2(file, MNT_DETACH), 0);
        assert_int_equal(netns_list_new(&other, 1, &list), 0);
        assert_int_equal(list.n, 0);
        netns_list_clear(&list);
        unlink(file);
        rmdir(directory);
        close(own);
}

static bool holds(const __u64 *inodes, size_t n, int fd)
{
        struct stat status;

        assert_int_equal(fstat(fd, &status), 0);
        for (size_t i = 0; i < n; i++)
                if (inodes[i] == status.st_ino)
                        return true;
        return false;
}

static void sockets_that_a_process_holds_are_found_once_each(void **state)
{
        pid_t pids[] = {getpid(), getpid(), 1 << 30};
        int first = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
            second = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        int again = dup(first), file = open("/dev/null", O_RDONLY | O_CLOEXEC);
        _cleanup_free_ __u64 *inodes = NULL;
        size_t n = 0;

        assert_int_equal(sock_diag_held(pids, 3, &inodes, &n), 0);
        assert_true(holds(inodes, n, first));
        assert_true(holds(inodes, n, second));
        assert_false(holds(inodes, n, file));
        for (size_t i = 1; i < n; i++)
                assert_true(inodes[i - 1] < inodes[i]);
        close(first);
        close(again);
        close(second);
        close(file);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(sockets_that_a_process_holds_are_found_once_each),
                cmocka_unit_test(namespaces_of_processes_and_of_mounts_are_found),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
