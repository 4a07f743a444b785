/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A service manager's socket of the test's own, by path and by abstract name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"
#include "agentd/util/notify.h"

/* '@' as in NOTIFY_SOCKET: an abstract name. */
static int manager_listen(const char *name)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        assert_true(fd >= 0);
        assert_true(strlen(name) < sizeof(address.sun_path));
        memcpy(address.sun_path, name, strlen(name));
        if (name[0] == '@')
                address.sun_path[0] = '\0';
        assert_int_equal(bind(fd, (struct sockaddr *)&address,
                              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
                         0);
        return fd;
}

static void tells_the_manager_by_path_and_by_abstract_name(void **state)
{
        static const char text[] = "STATUS=a line\nREADY=1";
        char path[64], abstract[64];
        const char *const names[] = {path, abstract};

        (void)snprintf(path, sizeof(path), "/tmp/agentd-notify-test.%d", (int)getpid());
        (void)snprintf(abstract, sizeof(abstract), "@agentd-notify-test.%d", (int)getpid());
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                _cleanup_close_ int fd = manager_listen(names[i]);
                char received[64] = {0};

                assert_int_equal(setenv("NOTIFY_SOCKET", names[i], 1), 0);
                assert_int_equal(notify_state(text), 0);
                assert_int_equal(recv(fd, received, sizeof(received) - 1, 0), strlen(text));
                assert_string_equal(received, text);
                assert_int_equal(recv(fd, received, sizeof(received), 0), -1);
                assert_int_equal(errno, EAGAIN);
        }
        (void)unlink(path);
}

static void tells_nobody_where_nobody_listens(void **state)
{
        char too_long[200];
        const struct {
                const char *name;
                int result;
        } rows[] = {
                {"", 0},
                {"relative", -EAFNOSUPPORT},
                {"/nowhere/at/all", -ENOENT},
                {"@nobody-listens-here", -ECONNREFUSED},
                {too_long, -E2BIG},
        };

        memset(too_long, 'x', sizeof(too_long) - 1);
        too_long[0] = '/';
        too_long[sizeof(too_long) - 1] = '\0';
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                assert_int_equal(setenv("NOTIFY_SOCKET", rows[i].name, 1), 0);
                assert_int_equal(notify_state("READY=1"), rows[i].result);
        }
        assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
        assert_int_equal(notify_state("READY=1"), 0);
}

static void a_full_manager_does_not_hold_the_daemon_up(void **state)
{
        static const char name[] = "@agentd-notify-test-full";
        _cleanup_close_ int fd = manager_listen(name);
        int r = 0;

        assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
        for (size_t i = 0; r == 0 && i < 10000; i++)
                r = notify_state("WATCHDOG=1");
        assert_int_equal(r, -EAGAIN);
        assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
}

static void the_watchdog_is_this_processes_own(void **state)
{
        char own[32], other[32];
        const struct {
                const char *usec, *pid;
                __u64 ms;
        } rows[] = {
                {NULL, NULL, 0}, {"60000000", NULL, 60000}, {"60000000", own, 60000}, {"60000000", other, 0},
                {NULL, own, 0},  {"60000000", "", 0},       {"none", own, 0},         {"", own, 0},
                {"-1", own, 0},  {"1000x", own, 0},         {"60000000", "1x", 0},    {"999", own, 0},
        };

        (void)snprintf(own, sizeof(own), "%d", (int)getpid());
        (void)snprintf(other, sizeof(other), "%d", (int)getppid());
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                assert_int_equal(rows[i].usec ? setenv("WATCHDOG_USEC", rows[i].usec, 1) : unsetenv("WATCHDOG_USEC"),
                                 0);
                assert_int_equal(rows[i].pid ? setenv("WATCHDOG_PID", rows[i].pid, 1) : unsetenv("WATCHDOG_PID"), 0);
                if (notify_watchdog_ms() != rows[i].ms)
                        fail_msg("row %zu: %llu ms", i, (unsigned long long)notify_watchdog_ms());
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(tells_the_manager_by_path_and_by_abstract_name),
                cmocka_unit_test(tells_nobody_where_nobody_listens),
                cmocka_unit_test(a_full_manager_does_not_hold_the_daemon_up),
                cmocka_unit_test(the_watchdog_is_this_processes_own),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
