/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows that begin outside: listeners and UDP servers of an agent, and a far end that knocks. Real sockets of a real
 * cgroup; nobody waits for what must not come: what was sent has been judged when scene_settle() returns.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/datapath/internal.h"
#include "agentd/net/sock_diag.h"
#include "tests/lib/bpf_scene.h"

#define HERE "198.51.100.2" /* the agent's address; the far end is SCENE_FAR */

enum { TCP = PROTOCOL_TCP, UDP = PROTOCOL_UDP, DOOR = 7100, OTHER_DOOR = 7101 };

#define IN(prefix, protocols, low, high)                  \
        {                                                 \
                prefix, false, protocols, low, high, true \
        }
#define ALLOW(prefix, protocols, low, high)                \
        {                                                  \
                prefix, false, protocols, low, high, false \
        }

static const struct bpf_rule open_door[] = {IN(SCENE_FAR "/32", TCP | UDP, DOOR, DOOR)};
static const struct bpf_rule open_other_door[] = {IN(SCENE_FAR "/32", TCP | UDP, OTHER_DOOR, OTHER_DOOR)};

static void at(int fd, const char *address, __u16 port)
{
        struct sockaddr_in name = scene_far_end(address, port);
        int one = 1, type = 0;
        socklen_t size = sizeof(type);

        assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size), 0);
        if (type == SOCK_STREAM)
                assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
}

static int door(struct scene *scene, int type, __u16 port)
{
        int fd = scene_socket(scene, type);

        at(fd, HERE, port);
        if (type == SOCK_STREAM)
                assert_int_equal(listen(fd, 8), 0);
        return fd;
}

/* Somebody at this address of the far end knocks; what becomes of it is seen by is_open(). */
static int knock(const char *from, __u16 port)
{
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        at(fd, from, 0);
        assert_int_equal(scene_connect(fd, HERE, port), EINPROGRESS);
        scene_settle();
        return fd;
}

static bool is_open(int fd)
{
        struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};

        return poll(&poll_fd, 1, 0) == 1 && !(poll_fd.revents & (POLLERR | POLLHUP));
}

static bool says(int from, int to)
{
        char buffer[16];

        if (send(from, "word", 4, MSG_DONTWAIT | MSG_NOSIGNAL) != 4)
                return false;
        scene_settle();
        return recv(to, buffer, sizeof(buffer), MSG_DONTWAIT) == 4;
}

static __u16 port_of(int fd)
{
        struct sockaddr_in name;
        socklen_t size = sizeof(name);

        assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &size), 0);
        return ntohs(name.sin_port);
}

/* A connection of the agent's making: ret_ends are the agent's and the far one. local_port 0: any. */
static void outgoing(struct scene *scene, __u16 local_port, __u16 far_port, int ret_ends[2])
{
        int far = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        assert_true(far >= 0);
        at(far, SCENE_FAR, far_port);
        assert_int_equal(listen(far, 1), 0);
        ret_ends[0] = scene_socket(scene, SOCK_STREAM);
        at(ret_ends[0], HERE, local_port);
        assert_int_equal(scene_connect(ret_ends[0], SCENE_FAR, far_port), 0);
        scene_settle();
        ret_ends[1] = accept(far, NULL, NULL);
        assert_true(ret_ends[1] >= 0);
        close(far);
}

static __u64 refused(const struct scene *scene)
{
        return scene_counters(scene).denied[REASON_INGRESS];
}

static void lets_nobody_in_without_an_ingress_rule(void **state)
{
        static const struct bpf_rule answers_only[] = {ALLOW("198.51.100.0/24", TCP | UDP, 0, 65535)};
        struct bpf_policy *policy;
        struct scene scene;
        int listener, client;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        for (size_t n = 0; n < 2; n++) { /* nor is leave to go out one to come in */
                __u64 before = refused(&scene);

                policy = scene_publish(&scene, answers_only, n);
                listener = door(&scene, SOCK_STREAM, DOOR);
                client = knock(SCENE_FAR, DOOR);
                assert_false(is_open(client));
                assert_int_equal(refused(&scene), before + 1);
                close(client);
                close(listener);
                scene_withdraw(&scene, policy);
        }
        scene_leave(&scene);
}

static void lets_in_whom_a_rule_names_to_the_port_that_it_names(void **state)
{
        struct bpf_policy *policy;
        struct scene scene;
        int listener, other, client, accepted, stranger, wrong;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, open_door, 1);
        listener = door(&scene, SOCK_STREAM, DOOR);
        other = door(&scene, SOCK_STREAM, OTHER_DOOR);

        client = knock(SCENE_FAR, DOOR);
        assert_true(is_open(client));
        accepted = accept(listener, NULL, NULL);
        assert_true(accepted >= 0);
        for (int i = 0; i < 6; i++) {
                assert_true(says(client, accepted));
                assert_true(says(accepted, client));
                if (i % 2) /* the caches are empty again */
                        datapath_agent_publish(scene.world->datapath, SCENE_AGENT, policy->version, 0);
        }
        assert_int_equal(refused(&scene), 0);

        wrong = knock(SCENE_FAR, OTHER_DOOR);
        assert_false(is_open(wrong));
        stranger = knock("198.51.100.3", DOOR);
        assert_false(is_open(stranger));
        assert_int_equal(refused(&scene), 2);
        /* Who may come in may not be called. */
        assert_int_equal(scene_connect(scene_socket(&scene, SOCK_STREAM), SCENE_FAR, 7200), EPERM);

        close(accepted);
        close(client);
        close(wrong);
        close(stranger);
        close(listener);
        close(other);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void a_flow_ends_with_its_rule_at_the_next_packet(void **state)
{
        struct bpf_policy *policy, *narrow;
        struct bpf_world *world = *state;
        struct scene scene;
        int listener, client, accepted;
        __u64 before;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, open_door, 1);
        listener = door(&scene, SOCK_STREAM, DOOR);
        client = knock(SCENE_FAR, DOOR);
        accepted = accept(listener, NULL, NULL);
        assert_true(says(accepted, client) && says(client, accepted));

        narrow = scene_publish(&scene, open_other_door, 1);
        assert_false(says(accepted, client));
        assert_int_equal(refused(&scene), 1);
        assert_false(says(client, accepted));
        assert_int_equal(refused(&scene), 2);

        /* An egress rule is no way around it: the flow began outside. */
        before = refused(&scene);
        scene_withdraw(&scene, narrow);
        narrow = scene_publish(&scene, (const struct bpf_rule[]){ALLOW("198.51.100.0/24", TCP, 0, 65535)}, 1);
        assert_false(says(accepted, client));
        assert_true(refused(&scene) > before);

        datapath_agent_publish(world->datapath, SCENE_AGENT, policy->version, WORD_QUARANTINE);
        assert_false(says(accepted, client));
        assert_true(scene_counters(&scene).denied[REASON_QUARANTINE] > 0);

        close(accepted);
        close(client);
        close(listener);
        scene_withdraw(&scene, narrow);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

/*
 * The mark of an accepted socket, and of a listener, must not be carried into a connection of the agent's own: once
 * the egress rule that allowed it is gone, the ingress rule must not keep it alive.
 */
static void a_socket_that_goes_out_is_the_agents_own(void **state)
{
        static const struct bpf_rule both[] = {ALLOW(SCENE_FAR "/32", TCP, 7200, 7201),
                                               IN(SCENE_FAR "/32", TCP, DOOR, DOOR)};
        struct bpf_policy *policy, *narrow;
        struct scene scene;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        for (int by_listener = 0; by_listener < 2; by_listener++) {
                __u16 port = (__u16)(7200 + by_listener); /* the first flow of this port lives on for a while */
                int far_listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
                int listener, client, accepted, outgoing, far_end;

                at(far_listener, SCENE_FAR, port);
                assert_int_equal(listen(far_listener, 8), 0);
                policy = scene_publish(&scene, both, 2);
                listener = door(&scene, SOCK_STREAM, DOOR);
                client = knock(SCENE_FAR, DOOR);
                accepted = accept(listener, NULL, NULL);
                assert_true(says(accepted, client));
                outgoing = by_listener ? listener : accepted;
                if (by_listener) {
                        assert_int_equal(shutdown(listener, SHUT_RDWR), 0);
                } else {
                        struct sockaddr none = {.sa_family = AF_UNSPEC};

                        close(listener);
                        assert_int_equal(connect(accepted, &none, sizeof(none)), 0);
                        at(accepted, HERE, DOOR);
                }
                assert_int_equal(scene_connect(outgoing, SCENE_FAR, 7300), EPERM);
                assert_int_equal(scene_connect(outgoing, SCENE_FAR, port), 0);
                assert_int_equal(port_of(outgoing), DOOR);
                scene_settle();
                far_end = accept(far_listener, NULL, NULL);
                assert_true(far_end >= 0);
                assert_true(says(outgoing, far_end) && says(far_end, outgoing));

                narrow = scene_publish(&scene, open_door, 1);
                assert_false(says(outgoing, far_end));
                assert_false(says(far_end, outgoing));
                assert_true(scene_counters(&scene).denied[REASON_NO_RULE] > 0);

                close(far_end);
                close(client);
                close(accepted);
                if (by_listener)
                        close(listener);
                close(far_listener);
                scene_withdraw(&scene, narrow);
                scene_withdraw(&scene, policy);
        }
        scene_leave(&scene);
}

/*
 * Two flows of one remote address, one of each side's making, and each with the other's port: a cached verdict on the
 * one says nothing about the other.
 */
static void a_cached_way_in_is_no_way_out(void **state)
{
        static const struct bpf_rule both[] = {ALLOW(SCENE_FAR "/32", TCP, 7210, 7210),
                                               ALLOW(SCENE_FAR "/32", TCP, DOOR, DOOR),
                                               IN(SCENE_FAR "/32", TCP, DOOR, DOOR)};
        struct bpf_policy *policy, *narrow;
        struct scene scene;
        int listener, client, accepted, from_door[2], to_door[2];

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, both, ARRAY_SIZE(both));
        outgoing(&scene, DOOR, 7210, from_door);
        outgoing(&scene, 0, DOOR, to_door);
        listener = door(&scene, SOCK_STREAM, DOOR);
        client = knock(SCENE_FAR, DOOR);
        accepted = accept(listener, NULL, NULL);
        assert_true(says(accepted, client) && says(from_door[0], from_door[1]) && says(to_door[0], to_door[1]));

        narrow = scene_publish(&scene, open_door, 1);
        for (int i = 0; i < 3; i++) {
                assert_true(says(accepted, client) && says(client, accepted));
                assert_false(says(from_door[0], from_door[1]) || says(from_door[1], from_door[0]));
                assert_false(says(to_door[0], to_door[1]) || says(to_door[1], to_door[0]));
        }
        assert_true(scene_counters(&scene).denied[REASON_NO_RULE] > 0);

        for (int i = 0; i < 2; i++) {
                close(from_door[i]);
                close(to_door[i]);
        }
        close(accepted);
        close(client);
        close(listener);
        scene_withdraw(&scene, narrow);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

struct marks {
        __u16 listener, accepted_peer;
        int n_listener, n_accepted, n_client;
};

static int marks_add(void *context, const struct sock_diag_socket *socket)
{
        struct marks *marks = context;

        if (socket->ip_protocol != IPPROTO_TCP)
                return 0;
        marks->n_client += socket->local_port == marks->accepted_peer && socket->marked;
        if (socket->local_port == marks->listener && socket->remote_port == 0)
                marks->n_listener += socket->marked;
        else if (socket->local_port == marks->listener && socket->remote_port == marks->accepted_peer)
                marks->n_accepted += socket->marked;
        return 0;
}

static void the_kernel_tells_who_began_a_connection(void **state)
{
        struct bpf_world *world = *state;
        struct sock_diag *diag = NULL;
        struct bpf_policy *policy;
        struct marks marks = {.listener = DOOR};
        struct scene scene;
        int listener, client, accepted;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, open_door, 1);
        listener = door(&scene, SOCK_STREAM, DOOR);
        client = knock(SCENE_FAR, DOOR);
        accepted = accept(listener, NULL, NULL);
        assert_true(accepted >= 0);
        marks.accepted_peer = port_of(client);

        assert_int_equal(sock_diag_open(-1, &diag), 0);
        assert_int_equal(sock_diag_each(diag, NULL, 0, marks_add, &marks), 0);
        assert_int_equal(marks.n_listener + marks.n_accepted, 0); /* nobody has asked */
        sock_diag_mark(diag, datapath_inbound_fd(world->datapath));
        assert_int_equal(sock_diag_each(diag, NULL, 0, marks_add, &marks), 0);
        assert_int_equal(marks.n_listener, 1);
        assert_int_equal(marks.n_accepted, 1);
        assert_int_equal(marks.n_client, 0);
        sock_diag_close(diag);

        close(accepted);
        close(client);
        close(listener);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

/* --- UDP ---------------------------------------------------------------------------------------------------------- */

static int far_peer(const char *from)
{
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        at(fd, from, 0);
        return fd;
}

static bool got(int fd)
{
        char buffer[64];

        scene_settle();
        return recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) == 8;
}

static void answers_a_datagram_that_was_let_in_and_no_other(void **state)
{
        struct bpf_policy *policy, *narrow;
        struct scene scene;
        int server, peer, silent, stranger;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, open_door, 1);
        server = door(&scene, SOCK_DGRAM, DOOR);
        peer = far_peer(SCENE_FAR);
        silent = far_peer(SCENE_FAR);
        stranger = far_peer("198.51.100.3");

        assert_int_equal(scene_send(server, SCENE_FAR, port_of(peer)), EPERM); /* it has not spoken yet */
        for (int i = 0; i < 4; i++) {
                assert_int_equal(scene_send(peer, HERE, DOOR), 0);
                assert_true(got(server));
                if (i % 2) /* the caches are empty again */
                        datapath_agent_publish(scene.world->datapath, SCENE_AGENT, policy->version, 0);
                assert_int_equal(scene_send(server, SCENE_FAR, port_of(peer)), 0);
                assert_true(got(peer));
        }
        assert_int_equal(scene_send(server, SCENE_FAR, port_of(silent)), EPERM);
        assert_int_equal(refused(&scene), 0);
        assert_int_equal(scene_send(stranger, HERE, DOOR), 0);
        assert_false(got(server));
        assert_int_equal(refused(&scene), 1);
        assert_int_equal(scene_send(server, "198.51.100.3", port_of(stranger)), EPERM);

        /* A socket of its own port is another door, whoever was let in at the first. */
        {
                int other = door(&scene, SOCK_DGRAM, OTHER_DOOR);

                assert_int_equal(scene_send(other, SCENE_FAR, port_of(peer)), EPERM);
                assert_int_equal(scene_send(peer, HERE, OTHER_DOOR), 0);
                assert_false(got(other));
                close(other);
        }

        /* connect() to who was let in */
        assert_int_equal(scene_connect(server, SCENE_FAR, port_of(peer)), 0);
        assert_int_equal(send(server, "datagram", 8, 0), 8);
        assert_true(got(peer));

        narrow = scene_publish(&scene, open_other_door, 1);
        assert_int_equal(send(server, "datagram", 8, 0), -1);
        assert_int_equal(errno, EPERM);
        assert_false(got(peer));
        assert_int_equal(scene_send(peer, HERE, DOOR), 0);
        assert_false(got(server));

        close(server);
        close(peer);
        close(silent);
        close(stranger);
        scene_withdraw(&scene, narrow);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

/* Who has spoken to one port of a socket has not spoken to the next one that the same socket takes. */
static void answers_from_the_port_that_was_spoken_to(void **state)
{
        static const struct bpf_rule any_port[] = {ALLOW(SCENE_FAR "/32", UDP, 9, 9),
                                                   IN(SCENE_FAR "/32", UDP, 0, 65535)};
        struct sockaddr none = {.sa_family = AF_UNSPEC};
        struct bpf_policy *policy;
        struct scene scene;
        int server, peer;
        __u16 first;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, any_port, ARRAY_SIZE(any_port));
        server = scene_socket(&scene, SOCK_DGRAM);
        peer = far_peer(SCENE_FAR);
        assert_int_equal(scene_send(server, SCENE_FAR, 9), 0); /* for a port that it is not bound to */
        first = port_of(server);
        assert_int_equal(scene_send(peer, HERE, first), 0);
        assert_int_equal(scene_send(server, SCENE_FAR, port_of(peer)), 0);
        assert_true(got(peer));

        assert_int_equal(connect(server, &none, sizeof(none)), 0);
        assert_int_equal(scene_send(server, SCENE_FAR, port_of(peer)), EPERM);
        assert_int_equal(connect(server, &none, sizeof(none)), 0);
        assert_int_equal(scene_connect(server, SCENE_FAR, port_of(peer)), EPERM);
        assert_int_equal(connect(server, &none, sizeof(none)), 0);
        at(server, HERE, first);
        assert_int_equal(scene_send(server, SCENE_FAR, port_of(peer)), 0);
        assert_true(got(peer));

        close(server);
        close(peer);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

/* The table is bounded: whoever spoke last is answered, and no verdict is lost with an old entry. */
static void many_peers_are_answered_one_after_the_other(void **state)
{
        enum { PEERS = 400 };
        struct bpf_policy *policy;
        struct scene scene;
        unsigned answered = 0;
        int server, peers[PEERS];

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, open_door, 1);
        server = door(&scene, SOCK_DGRAM, DOOR);
        for (int i = 0; i < PEERS; i++) {
                peers[i] = far_peer(SCENE_FAR);
                assert_int_equal(scene_send(peers[i], HERE, DOOR), 0);
                assert_true(got(server));
                assert_int_equal(scene_send(server, SCENE_FAR, port_of(peers[i])), 0);
                assert_true(got(peers[i]));
        }
        for (int i = 0; i < PEERS; i++)
                answered += scene_send(server, SCENE_FAR, port_of(peers[i])) == 0;
        assert_in_range(answered, 64, 128);
        for (int i = 0; i < PEERS; i++)
                close(peers[i]);
        close(server);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

struct speaker {
        int fd;
        atomic_bool stop;
};

static void *speak(void *context)
{
        struct speaker *speaker = context;

        while (!speaker->stop)
                (void)scene_send(speaker->fd, HERE, DOOR);
        return NULL;
}

/* Two CPUs note the time of one flow: what the other has just noted is in the future of who has looked before. */
static void answers_while_the_other_end_goes_on_speaking(void **state)
{
        enum { ANSWERS = 40000 };
        struct speaker speaker = {0};
        struct bpf_policy *policy;
        struct scene scene;
        pthread_t thread;
        unsigned refused_answers = 0;
        int server;
        __u16 port;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, open_door, 1);
        server = door(&scene, SOCK_DGRAM, DOOR);
        speaker.fd = far_peer(SCENE_FAR);
        port = port_of(speaker.fd);
        assert_int_equal(scene_send(speaker.fd, HERE, DOOR), 0);
        scene_settle();
        assert_int_equal(pthread_create(&thread, NULL, speak, &speaker), 0);
        for (int i = 0; i < ANSWERS; i++)
                refused_answers += scene_send(server, SCENE_FAR, port) == EPERM;
        speaker.stop = true;
        pthread_join(thread, NULL);
        assert_int_equal(refused_answers, 0);

        close(server);
        close(speaker.fd);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

/* A flow that the agent began stays one: its budget's class is that of its egress rule. */
static void an_answer_to_the_agent_needs_no_ingress_rule(void **state)
{
        static const struct bpf_rule out[] = {ALLOW(SCENE_FAR "/32", UDP, 1, 65535)};
        struct bpf_policy *policy;
        struct scene scene;
        int socket_fd, peer;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, out, 1);
        socket_fd = door(&scene, SOCK_DGRAM, DOOR);
        peer = far_peer(SCENE_FAR);
        assert_int_equal(scene_send(socket_fd, SCENE_FAR, port_of(peer)), 0);
        assert_true(got(peer));
        assert_int_equal(scene_send(peer, HERE, DOOR), 0);
        assert_true(got(socket_fd));
        assert_int_equal(refused(&scene), 0);
        close(socket_fd);
        close(peer);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(lets_nobody_in_without_an_ingress_rule, scene_clear),
                cmocka_unit_test_teardown(lets_in_whom_a_rule_names_to_the_port_that_it_names, scene_clear),
                cmocka_unit_test_teardown(a_flow_ends_with_its_rule_at_the_next_packet, scene_clear),
                cmocka_unit_test_teardown(a_socket_that_goes_out_is_the_agents_own, scene_clear),
                cmocka_unit_test_teardown(a_cached_way_in_is_no_way_out, scene_clear),
                cmocka_unit_test_teardown(the_kernel_tells_who_began_a_connection, scene_clear),
                cmocka_unit_test_teardown(answers_a_datagram_that_was_let_in_and_no_other, scene_clear),
                cmocka_unit_test_teardown(answers_from_the_port_that_was_spoken_to, scene_clear),
                cmocka_unit_test_teardown(many_peers_are_answered_one_after_the_other, scene_clear),
                cmocka_unit_test_teardown(answers_while_the_other_end_goes_on_speaking, scene_clear),
                cmocka_unit_test_teardown(an_answer_to_the_agent_needs_no_ingress_rule, scene_clear),
        };

        return cmocka_run_group_tests(tests, scene_world_up, scene_world_down);
}
