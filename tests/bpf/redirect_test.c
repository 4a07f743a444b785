/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The redirect of look-ups: whichever server an agent's socket asks, the agent's listener on loopback gets it, and the
 * socket believes to talk to the server. The listener here is a socket of this process outside of any agent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/datapath/internal.h"
#include "agentd/net/netns.h"
#include "tests/lib/bpf_scene.h"

enum { LISTENER_PORT_OURS = 30053, LISTENER_PORT_OTHER = 30054 };

static const char query[] = "a query of some length";

static const struct bpf_rule allow_elsewhere[] = {{"203.0.113.0/24", false, PROTOCOL_TCP | PROTOCOL_UDP, 0, 65535}};

struct listener {
        int udp4, tcp4, udp6, tcp6;
        __u64 cookie;
};

static socklen_t address_of(int family, const char *text, __u16 port, struct sockaddr_storage *ret)
{
        struct sockaddr_in *ipv4 = (struct sockaddr_in *)ret;
        struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)ret;

        memset(ret, 0, sizeof(*ret));
        ret->ss_family = (sa_family_t)family;
        ipv4->sin_port = htons(port); /* at the same place in both */
        assert_int_equal(
                inet_pton(family, text, family == AF_INET ? (void *)&ipv4->sin_addr : (void *)&ipv6->sin6_addr), 1);
        return family == AF_INET ? sizeof(*ipv4) : sizeof(*ipv6);
}

static void assert_address(const struct sockaddr_storage *address, int family, const char *text, __u16 port)
{
        struct sockaddr_storage meant;

        (void)address_of(family, text, port, &meant);
        assert_int_equal(address->ss_family, family);
        if (family == AF_INET) {
                const struct sockaddr_in *a = (const void *)address, *b = (const void *)&meant;

                assert_int_equal(a->sin_port, b->sin_port);
                assert_int_equal(a->sin_addr.s_addr, b->sin_addr.s_addr);
        } else {
                const struct sockaddr_in6 *a = (const void *)address, *b = (const void *)&meant;

                assert_int_equal(a->sin6_port, b->sin6_port);
                assert_memory_equal(&a->sin6_addr, &b->sin6_addr, sizeof(a->sin6_addr));
        }
}

static struct listener listen_at(struct bpf_world *world, struct scene *scene, __u16 port, bool announce)
{
        struct listener listener;
        int self = -1, fds[4];
        __u16 got;

        assert_int_equal(netns_open_self(&self), 0);
        assert_int_equal(netns_cookie(self, &listener.cookie), 0);
        close(self);
        assert_int_equal(netns_listen(-1, &port, 1, fds, &got), 0);
        listener.udp4 = fds[0];
        listener.tcp4 = fds[1];
        listener.udp6 = fds[2];
        listener.tcp6 = fds[3];
        datapath_agent(world->datapath, scene->id)->dns_ports[0] = port;
        if (announce)
                assert_int_equal(datapath_listener_set(world->datapath, listener.cookie, scene->id, port), 0);
        return listener;
}

static void listener_close(struct listener *listener)
{
        close(listener->udp4);
        close(listener->tcp4);
        close(listener->udp6);
        close(listener->tcp6);
}

/* Takes the query at the listener and answers it. */
static void answer(int fd)
{
        char buffer[64];
        struct sockaddr_storage from;
        socklen_t size = sizeof(from);

        assert_int_equal(recvfrom(fd, buffer, sizeof(buffer), 0, (struct sockaddr *)&from, &size), sizeof(query));
        assert_string_equal(buffer, query);
        assert_int_equal(sendto(fd, "answer", 6, 0, (struct sockaddr *)&from, size), 6);
}

static __u16 local_port(int fd)
{
        struct sockaddr_storage local;
        socklen_t size = sizeof(local);

        assert_int_equal(getsockname(fd, (struct sockaddr *)&local, &size), 0);
        return ntohs(((struct sockaddr_in *)&local)->sin_port);
}

static void answered_as_if_by(struct bpf_world *world, int fd, int family, const char *server)
{
        struct sockaddr_storage from;
        struct address asked, meant;
        socklen_t size = sizeof(from);
        char buffer[16];

        assert_int_equal(recvfrom(fd, buffer, sizeof(buffer), 0, (struct sockaddr *)&from, &size), 6);
        assert_address(&from, family, server, 53);
        assert_int_equal(address_parse(server, &meant), 0);
        assert_int_equal(datapath_asked(world->datapath, SCENE_AGENT, IPPROTO_UDP, local_port(fd), &asked), 0);
        assert_memory_equal(&asked, &meant, sizeof(meant));
}

static const struct {
        int family;
        const char *server;
} servers[] = {
        {AF_INET, "192.0.2.53"},       {AF_INET, "169.254.169.254"},    {AF_INET, "127.0.0.11"},
        {AF_INET, "203.0.113.53"}, /* allowed by a rule: still a look-up */
        {AF_INET6, "2001:db8:53::53"}, {AF_INET6, "::ffff:192.0.2.53"}, {AF_INET6, "::1"},
};

static int udp_listener(const struct listener *listener, size_t i)
{
        return servers[i].family == AF_INET || strncmp(servers[i].server, "::ffff:", 7) == 0 ? listener->udp4
                                                                                             : listener->udp6;
}

static int client(struct scene *scene, int family, int type)
{
        int fd = -1;

        assert_int_equal(bpf_world_socket(scene->world, scene->cgroup_fd, family, type, 0, &fd), 0);
        return fd;
}

static void a_connected_socket_talks_to_the_listener_and_sees_its_server(void **state)
{
        struct bpf_world *world = *state;
        struct listener listener;
        struct bpf_policy *policy;
        struct scene scene;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_elsewhere, 1);
        listener = listen_at(world, &scene, LISTENER_PORT_OURS, true);
        for (size_t i = 0; i < ARRAY_SIZE(servers); i++) {
                int fd = client(&scene, servers[i].family, SOCK_DGRAM);
                struct sockaddr_storage to, peer;
                socklen_t size = address_of(servers[i].family, servers[i].server, 53, &to), peer_size = sizeof(peer);

                assert_int_equal(connect(fd, (struct sockaddr *)&to, size), 0);
                assert_int_equal(getpeername(fd, (struct sockaddr *)&peer, &peer_size), 0);
                assert_address(&peer, servers[i].family, servers[i].server, 53);
                assert_int_equal(send(fd, query, sizeof(query), 0), sizeof(query));
                answer(udp_listener(&listener, i));
                answered_as_if_by(world, fd, servers[i].family, servers[i].server);
                close(fd);
        }
        assert_int_equal(scene_counters(&scene).redirected, ARRAY_SIZE(servers));
        listener_close(&listener);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void an_unconnected_socket_may_ask_one_server_after_another(void **state)
{
        struct bpf_world *world = *state;
        struct listener listener;
        struct bpf_policy *policy;
        struct scene scene;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_elsewhere, 1);
        listener = listen_at(world, &scene, LISTENER_PORT_OURS, true);
        for (int family = AF_INET; family <= AF_INET6; family += AF_INET6 - AF_INET) {
                int fd = client(&scene, family, SOCK_DGRAM);

                for (size_t i = 0; i < ARRAY_SIZE(servers); i++) {
                        struct sockaddr_storage to;
                        socklen_t size;

                        if (servers[i].family != family)
                                continue;
                        size = address_of(family, servers[i].server, 53, &to);
                        assert_int_equal(sendto(fd, query, sizeof(query), 0, (struct sockaddr *)&to, size),
                                         sizeof(query));
                        answer(udp_listener(&listener, i));
                        answered_as_if_by(world, fd, family, servers[i].server);
                }
                close(fd);
        }
        listener_close(&listener);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void a_look_up_over_tcp_comes_to_the_listener(void **state)
{
        struct bpf_world *world = *state;
        struct listener listener;
        struct bpf_policy *policy;
        struct scene scene;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_elsewhere, 1);
        listener = listen_at(world, &scene, LISTENER_PORT_OURS, true);
        for (size_t i = 0; i < ARRAY_SIZE(servers); i++) {
                int fd = client(&scene, servers[i].family, SOCK_STREAM), peer_fd;
                struct sockaddr_storage to, peer;
                socklen_t size = address_of(servers[i].family, servers[i].server, 53, &to), peer_size = sizeof(peer);
                char buffer[64];

                assert_int_equal(connect(fd, (struct sockaddr *)&to, size), 0);
                assert_int_equal(getpeername(fd, (struct sockaddr *)&peer, &peer_size), 0);
                assert_address(&peer, servers[i].family, servers[i].server, 53);
                peer_fd =
                        accept(udp_listener(&listener, i) == listener.udp4 ? listener.tcp4 : listener.tcp6, NULL, NULL);
                assert_true(peer_fd >= 0);
                assert_int_equal(send(fd, query, sizeof(query), 0), sizeof(query));
                assert_int_equal(recv(peer_fd, buffer, sizeof(buffer), MSG_WAITALL | MSG_DONTWAIT), sizeof(query));
                close(fd); /* first: the listener's port must not be left in TIME_WAIT */
                close(peer_fd);
        }
        listener_close(&listener);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void a_quarantined_agent_asks_nobody(void **state)
{
        struct bpf_world *world = *state;
        struct listener listener;
        struct bpf_policy *policy;
        struct scene scene;
        int fd, connected;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_elsewhere, 1);
        listener = listen_at(world, &scene, LISTENER_PORT_OURS, true);
        fd = client(&scene, AF_INET, SOCK_DGRAM);
        connected = client(&scene, AF_INET, SOCK_DGRAM);
        assert_int_equal(scene_connect(connected, "192.0.2.53", 53), 0);
        datapath_agent_publish(world->datapath, SCENE_AGENT, policy->version, WORD_QUARANTINE);
        assert_int_equal(scene_send(fd, "192.0.2.53", 53), EPERM);
        assert_int_equal(scene_send(fd, "127.0.0.1", LISTENER_PORT_OURS), EPERM);
        assert_int_equal(send(connected, query, sizeof(query), 0), -1);
        assert_int_equal(errno, EPERM);
        assert_int_equal(scene_counters(&scene).denied[REASON_QUARANTINE], 3);
        close(fd);
        close(connected);
        listener_close(&listener);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

/* Loopback is allowed by this policy; the port of another agent's listener is not. */
static void no_agent_asks_anothers_listener(void **state)
{
        struct bpf_world *world = *state;
        struct listener ours, theirs;
        struct bpf_policy *policy, *other;
        struct scene scene, neighbour;
        int fd, tcp;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        neighbour = scene_enter(world, SCENE_OTHER);
        scene_attach(&scene);
        scene_attach(&neighbour);
        policy = scene_publish(&scene, allow_elsewhere, 1);
        other = scene_publish(&neighbour, allow_elsewhere, 1);
        ours = listen_at(world, &scene, LISTENER_PORT_OURS, true);
        theirs = listen_at(world, &neighbour, LISTENER_PORT_OTHER, true);
        fd = client(&scene, AF_INET, SOCK_DGRAM);
        tcp = client(&scene, AF_INET, SOCK_STREAM);
        assert_int_equal(scene_send(fd, "127.0.0.1", LISTENER_PORT_OURS), 0);
        assert_int_equal(scene_send(fd, "127.0.0.1", LISTENER_PORT_OTHER), EPERM);
        assert_int_equal(scene_send(fd, "127.8.8.8", LISTENER_PORT_OTHER), EPERM);
        assert_int_equal(scene_send(fd, "0.0.0.0", LISTENER_PORT_OTHER), EPERM);
        assert_int_equal(scene_connect(tcp, "127.0.0.1", LISTENER_PORT_OTHER), EPERM);
        assert_int_equal(scene_counters(&scene).denied[REASON_LOOPBACK], 4);
        /* and when the other one is gone, its port is a port like any other */
        assert_int_equal(datapath_listener_remove(world->datapath, theirs.cookie, SCENE_OTHER, LISTENER_PORT_OTHER), 0);
        assert_int_equal(scene_send(fd, "127.0.0.1", LISTENER_PORT_OTHER), 0);
        close(fd);
        close(tcp);
        listener_close(&ours);
        listener_close(&theirs);
        scene_withdraw(&scene, policy);
        scene_withdraw(&neighbour, other);
        scene_leave(&scene);
        scene_leave(&neighbour);
}

struct captures {
        unsigned n, with_payload;
        struct capture_record last; /* that had a payload */
};

static void on_capture(void *context, const void *record, size_t size)
{
        const struct capture_record *capture = record;
        struct captures *captures = context;

        assert_int_equal(size, sizeof(*capture));
        captures->n++;
        if (capture->length) {
                captures->with_payload++;
                captures->last = *capture;
        }
}

static void ignore(void *context, const void *record, size_t size)
{
}

static void a_first_look_up_goes_to_the_daemon_with_its_query(void **state)
{
        struct bpf_world *world = *state;
        struct captures captures = {};
        struct listener listener;
        struct bpf_policy *policy;
        struct scene scene;
        int fd;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_elsewhere, 1);
        assert_int_equal(datapath_listeners_clear(world->datapath), 0);
        listener = listen_at(world, &scene, LISTENER_PORT_OURS, false);
        fd = client(&scene, AF_INET, SOCK_DGRAM);
        assert_int_equal(scene_connect(fd, "192.0.2.53", 53), 0);
        assert_int_equal(send(fd, query, sizeof(query), 0), sizeof(query));
        (void)datapath_events_consume(world->datapath, ignore, on_capture, &captures);
        assert_true(captures.n >= 2); /* the namespace was announced, then the query came */
        assert_int_equal(captures.with_payload, 1);
        assert_int_equal(captures.last.agent_id, SCENE_AGENT);
        assert_true(captures.last.netns_cookie == listener.cookie);
        assert_int_equal(captures.last.pid, getpid());
        assert_int_equal(captures.last.length, sizeof(query));
        assert_string_equal((const char *)captures.last.payload, query);
        assert_int_equal(captures.last.source_port, local_port(fd));

        /* The listener is there: the same socket reaches it. */
        assert_int_equal(datapath_listener_set(world->datapath, listener.cookie, SCENE_AGENT, LISTENER_PORT_OURS), 0);
        assert_int_equal(send(fd, query, sizeof(query), 0), sizeof(query));
        answer(listener.udp4);
        answered_as_if_by(world, fd, AF_INET, "192.0.2.53");
        close(fd);
        listener_close(&listener);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(a_connected_socket_talks_to_the_listener_and_sees_its_server, scene_clear),
                cmocka_unit_test_teardown(an_unconnected_socket_may_ask_one_server_after_another, scene_clear),
                cmocka_unit_test_teardown(a_look_up_over_tcp_comes_to_the_listener, scene_clear),
                cmocka_unit_test_teardown(a_quarantined_agent_asks_nobody, scene_clear),
                cmocka_unit_test_teardown(no_agent_asks_anothers_listener, scene_clear),
                cmocka_unit_test_teardown(a_first_look_up_goes_to_the_daemon_with_its_query, scene_clear),
        };

        return cmocka_run_group_tests(tests, scene_world_up, scene_world_down);
}
