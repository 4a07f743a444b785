/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sockets of a namespace are listed and destroyed: real ones, in a namespace of the test's own (root only).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/net/netns.h"
#include "agentd/net/sock_diag.h"
#include "agentd/util/macro.h"

static const struct address loopback4 = {.bytes = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
static const struct address loopback6 = {.bytes = {[15] = 1}};

struct fixture {
        int netns;
        int listeners[4];
        int clients[4]; /* UDP4, TCP4, UDP6, TCP6, connected to the listeners */
        int accepted[2];
        __u64 cookies[4];
        __u16 port;
        struct sock_diag *diag;
};

static int set_up(void **state)
{
        static const __u16 ports[] = {15353};
        struct fixture *fixture;
        int home = -1;

        if (geteuid() != 0)
                return 0;
        fixture = calloc(1, sizeof(*fixture));
        assert_int_equal(netns_open_self(&home), 0);
        assert_int_equal(unshare(CLONE_NEWNET), 0);
        assert_int_equal(netns_open_self(&fixture->netns), 0);
        assert_int_equal(setns(home, CLONE_NEWNET), 0);
        close(home);

        assert_int_equal(netns_listen(fixture->netns, ports, ARRAY_SIZE(ports), fixture->listeners, &fixture->port), 0);
        for (size_t i = 0; i < 4; i++) {
                socklen_t length = sizeof(fixture->cookies[i]);

                assert_int_equal(netns_connect(fixture->netns, i % 2 ? IPPROTO_TCP : IPPROTO_UDP,
                                               i < 2 ? &loopback4 : &loopback6, fixture->port, &fixture->clients[i]),
                                 0);
                assert_int_equal(getsockopt(fixture->clients[i], SOL_SOCKET, SO_COOKIE, &fixture->cookies[i], &length),
                                 0);
        }
        fixture->accepted[0] = accept(fixture->listeners[1], NULL, NULL);
        fixture->accepted[1] = accept(fixture->listeners[3], NULL, NULL);
        assert_true(fixture->accepted[0] >= 0 && fixture->accepted[1] >= 0);
        assert_int_equal(sock_diag_open(fixture->netns, &fixture->diag), 0);
        *state = fixture;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *fixture = *state;

        if (!fixture)
                return 0;
        for (size_t i = 0; i < 4; i++) {
                close(fixture->clients[i]);
                close(fixture->listeners[i]);
        }
        close(fixture->accepted[0]);
        close(fixture->accepted[1]);
        close(fixture->netns);
        sock_diag_close(fixture->diag);
        free(fixture);
        return 0;
}

static struct fixture *need(void **state)
{
        if (!*state)
                print_message("needs root\n");
        return *state;
}

struct seen {
        const struct fixture *fixture;
        struct sock_diag_socket clients[4];
        size_t n_clients, n_all;
};

static int look(void *context, const struct sock_diag_socket *socket)
{
        struct seen *seen = context;

        seen->n_all++;
        for (size_t i = 0; i < 4; i++) {
                if (socket->cookie == seen->fixture->cookies[i]) {
                        seen->clients[i] = *socket;
                        seen->n_clients++;
                }
        }
        return 0;
}

static void every_socket_of_the_namespace_is_told_as_it_is(void **state)
{
        struct fixture *fixture = need(state);
        struct seen seen = {.fixture = fixture};

        if (!fixture)
                skip();
        assert_int_equal(sock_diag_each(fixture->diag, NULL, 0, look, &seen), 0);
        assert_int_equal(seen.n_clients, 4);
        assert_int_equal(seen.n_all, 10);
        for (size_t i = 0; i < 4; i++) {
                const struct sock_diag_socket *socket = &seen.clients[i];

                assert_int_equal(socket->family, i < 2 ? AF_INET : AF_INET6);
                assert_int_equal(socket->ip_protocol, i % 2 ? IPPROTO_TCP : IPPROTO_UDP);
                assert_int_equal(socket->state, TCP_ESTABLISHED);
                assert_memory_equal(&socket->remote, i < 2 ? &loopback4 : &loopback6, sizeof(struct address));
                assert_memory_equal(&socket->local, i < 2 ? &loopback4 : &loopback6, sizeof(struct address));
                assert_int_equal(socket->remote_port, fixture->port);
                assert_true(socket->local_port != 0 && socket->inode != 0 && socket->cgroup_id != 0);
        }
}

static void only_sockets_of_the_cgroups_are_told(void **state)
{
        struct fixture *fixture = need(state);
        struct seen seen = {.fixture = fixture};
        __u64 ids[3] = {0};

        if (!fixture)
                skip();
        assert_int_equal(sock_diag_each(fixture->diag, NULL, 0, look, &seen), 0);
        ids[1] = seen.clients[0].cgroup_id;
        ids[0] = ids[1] - 1;
        ids[2] = ids[1] + 1;

        seen = (struct seen){.fixture = fixture};
        assert_int_equal(sock_diag_each(fixture->diag, ids, 3, look, &seen), 0);
        assert_int_equal(seen.n_clients, 4);
        seen = (struct seen){.fixture = fixture};
        assert_int_equal(sock_diag_each(fixture->diag, ids, 1, look, &seen), 0);
        assert_int_equal(sock_diag_each(fixture->diag, ids + 2, 1, look, &seen), 0);
        assert_int_equal(sock_diag_each(fixture->diag, ids, 0, look, &seen), 0);
        assert_int_equal(seen.n_all, 0);
}

static int stop_at_once(void *context, const struct sock_diag_socket *socket)
{
        ++*(int *)context;
        return 42;
}

static void a_dump_can_be_stopped_and_the_next_is_whole(void **state)
{
        struct fixture *fixture = need(state);
        struct seen seen = {.fixture = fixture};
        int calls = 0;

        if (!fixture)
                skip();
        assert_int_equal(sock_diag_each(fixture->diag, NULL, 0, stop_at_once, &calls), 42);
        assert_int_equal(calls, 1);
        assert_int_equal(sock_diag_each(fixture->diag, NULL, 0, look, &seen), 0);
        assert_int_equal(seen.n_all, 10);
}

static void a_destroyed_socket_tells_its_program(void **state)
{
        struct fixture *fixture = need(state);
        struct seen seen = {.fixture = fixture};
        char byte;

        if (!fixture)
                skip();
        assert_int_equal(sock_diag_each(fixture->diag, NULL, 0, look, &seen), 0);
        for (size_t i = 0; i < 4; i++) {
                int r = sock_diag_destroy(fixture->diag, &seen.clients[i]);

                if (r == -EOPNOTSUPP) {
                        print_message("needs a kernel with CONFIG_INET_DIAG_DESTROY\n");
                        skip();
                }
                assert_int_equal(r, 0);
                assert_int_equal(recv(fixture->clients[i], &byte, 1, 0), -1);
                assert_int_equal(errno, ECONNABORTED);
                assert_int_equal(sock_diag_destroy(fixture->diag, &seen.clients[i]), -ENOENT);
        }
        /* The other ends of TCP get a reset. */
        assert_int_equal(recv(fixture->accepted[0], &byte, 1, 0), -1);
        assert_int_equal(errno, ECONNRESET);
}

static void a_socket_with_another_cookie_is_spared(void **state)
{
        struct fixture *fixture = need(state);
        struct seen seen = {.fixture = fixture};
        char byte;

        if (!fixture)
                skip();
        assert_int_equal(sock_diag_each(fixture->diag, NULL, 0, look, &seen), 0);
        for (size_t i = 0; i < 4; i++) {
                seen.clients[i].cookie++;
                assert_int_equal(sock_diag_destroy(fixture->diag, &seen.clients[i]), -ENOENT);
                assert_int_equal(recv(fixture->clients[i], &byte, 1, 0), -1);
                assert_int_equal(errno, EAGAIN);
        }
}

static bool goes_to_port_by_ipv6(void *context, const struct sock_diag_socket *socket)
{
        return socket->family == AF_INET6 && socket->remote_port == *(__u16 *)context;
}

static void what_a_narrowed_policy_forbids_is_destroyed_and_nothing_else(void **state)
{
        struct fixture *fixture = need(state);
        struct seen seen = {.fixture = fixture};
        size_t destroyed = 0;
        int r;

        if (!fixture)
                skip();
        r = sock_diag_destroy_each(fixture->diag, NULL, 0, goes_to_port_by_ipv6, &fixture->port, &destroyed);
        if (r == -EOPNOTSUPP) {
                print_message("needs a kernel with CONFIG_INET_DIAG_DESTROY\n");
                skip();
        }
        assert_int_equal(r, 0);
        assert_int_equal(destroyed, 2);
        assert_int_equal(sock_diag_each(fixture->diag, NULL, 0, look, &seen), 0);
        assert_int_equal(seen.clients[0].state, TCP_ESTABLISHED);
        assert_int_equal(seen.clients[1].state, TCP_ESTABLISHED);

        assert_int_equal(sock_diag_destroy_each(fixture->diag, NULL, 0, NULL, NULL, &destroyed), 0);
        assert_true(destroyed >= 6);
        assert_int_equal(sock_diag_destroy_each(fixture->diag, NULL, 0, NULL, NULL, NULL), 0);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(every_socket_of_the_namespace_is_told_as_it_is, set_up, tear_down),
                cmocka_unit_test_setup_teardown(only_sockets_of_the_cgroups_are_told, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_dump_can_be_stopped_and_the_next_is_whole, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_destroyed_socket_tells_its_program, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_socket_with_another_cookie_is_spared, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_a_narrowed_policy_forbids_is_destroyed_and_nothing_else, set_up,
                                                tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
