/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sockets made in other network namespaces. All of it on namespaces of its own (root only).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/net/netns.h"
#include "agentd/util/macro.h"

static const struct address loopback4 = {.bytes = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
static const struct address loopback6 = {.bytes = {[15] = 1}};

/* A process in a namespace of its own, or in ours. */
static pid_t start_process(bool own)
{
        int ready[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe(ready), 0);
        pid = fork();
        if (pid == 0) {
                if (own && unshare(CLONE_NEWNET) < 0)
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

static void end_process(pid_t pid)
{
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
}

static bool not_root(void)
{
        if (geteuid() != 0) {
                print_message("needs root\n");
                return true;
        }
        return false;
}

/* A namespace that lives as long as the descriptor. */
static int new_namespace(void)
{
        pid_t pid = start_process(true);
        int fd = -1;

        assert_int_equal(netns_open(pid, &fd), 0);
        end_process(pid);
        return fd;
}

static __u16 port_of(int fd, struct sockaddr_storage *address)
{
        socklen_t length = sizeof(*address);

        assert_int_equal(getsockname(fd, (struct sockaddr *)address, &length), 0);
        return ntohs(((struct sockaddr_in *)address)->sin_port); /* the same place in sockaddr_in6 */
}

static void namespaces_are_told_apart_and_we_stay_at_home(void **state)
{
        struct netns_identity home, other, after;
        _cleanup_close_ int self = -1, fd = -1;
        __u64 cookies[2] = {0};

        if (not_root())
                skip();
        assert_int_equal(netns_open_self(&self), 0);
        fd = new_namespace();
        assert_int_equal(netns_identify(self, &home), 0);
        assert_int_equal(netns_identify(fd, &other), 0);
        assert_false(netns_identity_equal(&home, &other));
        assert_int_equal(netns_cookie(self, &cookies[0]), 0);
        assert_int_equal(netns_cookie(fd, &cookies[1]), 0);
        assert_true(cookies[0] != cookies[1] && cookies[0] && cookies[1]);

        close(self);
        assert_int_equal(netns_open_self(&self), 0);
        assert_int_equal(netns_identify(self, &after), 0);
        assert_true(netns_identity_equal(&home, &after));
}

static void a_process_that_is_gone_has_no_namespace(void **state)
{
        pid_t pid = start_process(false);
        int fd = -1;

        kill(pid, SIGKILL);
        waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT);
        assert_true(netns_open(pid, &fd) < 0); /* a zombie */
        waitpid(pid, NULL, 0);
        assert_int_equal(netns_open(pid, &fd), -ESRCH);
        assert_int_equal(netns_open(0, &fd), -EINVAL);
        assert_int_equal(netns_open(-1, &fd), -EINVAL);
        assert_int_equal(fd, -1);
}

static void what_is_no_namespace_is_refused(void **state)
{
        _cleanup_close_ int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        int fd = -1;

        assert_true(netns_socket(null, AF_INET, SOCK_DGRAM, 0, &fd) < 0);
        assert_int_equal(fd, -1);
}

static void listeners_share_one_port_in_a_namespace_whose_lo_was_down(void **state)
{
        static const __u16 ports[] = {0, 15353, 15354};
        struct sockaddr_storage address;
        int fds[4] = {-1, -1, -1, -1};
        __u16 port = 0;
        _cleanup_close_ int netns = -1;

        if (not_root())
                skip();
        netns = new_namespace();
        assert_int_equal(netns_listen(netns, ports, ARRAY_SIZE(ports), fds, &port), 0);
        assert_int_equal(port, 15353);
        for (size_t i = 0; i < 4; i++) {
                int value = -1;
                socklen_t length = sizeof(value);

                assert_true(fds[i] >= 0);
                assert_int_equal(port_of(fds[i], &address), port);
                assert_int_equal(address.ss_family, i < 2 ? AF_INET : AF_INET6);
                assert_true(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
                assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
                assert_int_equal(getsockopt(fds[i], SOL_SOCKET, SO_ACCEPTCONN, &value, &length), 0);
                assert_int_equal(value, i % 2);
                assert_int_equal(getsockopt(fds[i], SOL_SOCKET, SO_REUSEADDR, &value, &length), 0);
                assert_int_equal(value, i % 2); /* TCP: past TIME_WAIT; UDP: nobody else */
                if (i >= 2) {
                        assert_int_equal(getsockopt(fds[i], IPPROTO_IPV6, IPV6_V6ONLY, &value, &length), 0);
                        assert_int_equal(value, 1);
                }
                if (i % 2 == 0) {
                        assert_int_equal(getsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &value, &length), 0);
                        assert_true(value >= 4 * 1024 * 1024);
                }
        }

        /* Traffic flows on all four: lo is up. */
        for (size_t i = 0; i < 4; i++) {
                struct pollfd item = {.fd = fds[i], .events = POLLIN};
                int client = -1;

                assert_int_equal(netns_connect(netns, i % 2 ? IPPROTO_TCP : IPPROTO_UDP,
                                               i < 2 ? &loopback4 : &loopback6, port, &client),
                                 0);
                if (i % 2 == 0)
                        assert_int_equal(send(client, "ask", 3, 0), 3);
                assert_int_equal(poll(&item, 1, 2000), 1);
                close(client);
        }
        for (size_t i = 0; i < 4; i++)
                close(fds[i]);
}

static void a_port_that_one_family_cannot_have_is_passed_over(void **state)
{
        static const __u16 ports[] = {15353, 15354};
        struct sockaddr_in6 taken = {
                .sin6_family = AF_INET6, .sin6_port = htons(15353), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        int fds[4] = {-1, -1, -1, -1}, more[4] = {-1, -1, -1, -1};
        _cleanup_close_ int netns = -1, squatter = -1;
        __u16 port = 0;

        if (not_root())
                skip();
        netns = new_namespace();
        assert_int_equal(netns_loopback_up(netns), 0);
        assert_int_equal(netns_socket(netns, AF_INET6, SOCK_STREAM, 0, &squatter), 0);
        assert_int_equal(bind(squatter, (struct sockaddr *)&taken, sizeof(taken)), 0);

        assert_int_equal(netns_listen(netns, ports, ARRAY_SIZE(ports), fds, &port), 0);
        assert_int_equal(port, 15354);
        assert_int_equal(netns_listen(netns, ports, ARRAY_SIZE(ports), more, &port), -EADDRINUSE);
        assert_int_equal(more[0], -1);
        for (size_t i = 0; i < 4; i++)
                close(fds[i]);
}

static void without_ipv6_the_listeners_are_two(void **state)
{
        static const __u16 ports[] = {15353};
        int fds[4] = {-1, -1, -1, -1};
        __u16 port = 0;
        _cleanup_close_ int netns = -1, setting = -1;
        int home;

        if (not_root())
                skip();
        netns = new_namespace();
        assert_int_equal(netns_open_self(&home), 0);
        assert_int_equal(setns(netns, CLONE_NEWNET), 0);
        setting = open("/proc/sys/net/ipv6/conf/all/disable_ipv6", O_WRONLY | O_CLOEXEC);
        if (setting >= 0)
                assert_int_equal(write(setting, "1", 1), 1);
        assert_int_equal(setns(home, CLONE_NEWNET), 0);
        close(home);

        assert_int_equal(netns_listen(netns, ports, ARRAY_SIZE(ports), fds, &port), 0);
        assert_true(fds[0] >= 0 && fds[1] >= 0);
        assert_int_equal(fds[2], -1);
        assert_int_equal(fds[3], -1);
        close(fds[0]);
        close(fds[1]);
}

static void distinct_namespaces_of_processes_are_found(void **state)
{
        struct netns_process found[3];
        pid_t pids[6];
        size_t n = 0;

        if (not_root())
                skip();
        pids[0] = start_process(false);
        pids[1] = start_process(true);
        pids[2] = start_process(false);
        pids[3] = start_process(true);
        pids[4] = start_process(false);
        end_process(pids[4]);
        pids[5] = start_process(true);

        assert_int_equal(netns_collect(pids, ARRAY_SIZE(pids), found, ARRAY_SIZE(found), &n), 0);
        assert_int_equal(n, 4);
        assert_int_equal(found[0].pid, pids[0]);
        assert_int_equal(found[1].pid, pids[1]);
        assert_int_equal(found[2].pid, pids[3]);
        for (size_t i = 0; i < ARRAY_SIZE(pids); i++)
                if (i != 4)
                        end_process(pids[i]);
}

static void a_server_out_of_reach_is_an_error_at_once(void **state)
{
        static const struct address far = {.bytes = {[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 7}};
        _cleanup_close_ int netns = -1;
        int fd = -1;

        if (not_root())
                skip();
        netns = new_namespace();
        assert_int_equal(netns_connect(netns, IPPROTO_UDP, &far, 53, &fd), -ENETUNREACH);
        assert_int_equal(netns_connect(netns, IPPROTO_TCP, &far, 53, &fd), -ENETUNREACH);
        assert_int_equal(netns_connect(netns, IPPROTO_ICMP, &far, 53, &fd), -EINVAL);
        assert_int_equal(fd, -1);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(namespaces_are_told_apart_and_we_stay_at_home),
                cmocka_unit_test(a_process_that_is_gone_has_no_namespace),
                cmocka_unit_test(what_is_no_namespace_is_refused),
                cmocka_unit_test(listeners_share_one_port_in_a_namespace_whose_lo_was_down),
                cmocka_unit_test(a_port_that_one_family_cannot_have_is_passed_over),
                cmocka_unit_test(without_ipv6_the_listeners_are_two),
                cmocka_unit_test(distinct_namespaces_of_processes_are_found),
                cmocka_unit_test(a_server_out_of_reach_is_an_error_at_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
