/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * UDP that comes in from where the agent may send to: answers, and what only looks like one. Nobody waits: on loopback
 * a packet has been judged when the call that sent it returns.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/socket.h>
#include <unistd.h>

#include "agentd/datapath/internal.h"
#include "tests/lib/bpf_scene.h"

#define HERE  "198.51.100.2" /* the agent's address */
#define THERE "198.51.100.3" /* allowed as the far end is */

enum { UDP = PROTOCOL_UDP, DOOR = 7100, OTHER_DOOR = 7101, ONE = 7200, TWO = 7201 };

static const struct bpf_rule out[] = {{"198.51.100.0/24", false, UDP, 1, 65535, false}};

/* The far end, or a second socket of the agent's. */
static int bound(int fd, const char *address, __u16 port)
{
        struct sockaddr_in name = scene_far_end(address, port);

        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
        return fd;
}

static int far_end(const char *address, __u16 port)
{
        return bound(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), address, port);
}

/* Does what is sent there arrive? */
static bool arrives(int from, int to, __u16 port)
{
        char buffer[64];

        assert_int_equal(scene_send(from, HERE, port), 0);
        scene_settle();
        return recv(to, buffer, sizeof(buffer), MSG_DONTWAIT) > 0;
}

static __u64 refused(const struct scene *scene)
{
        return scene_counters(scene).denied[REASON_INGRESS];
}

static void who_was_not_asked_does_not_come_in(void **state)
{
        struct bpf_policy *policy;
        struct scene scene;
        int agent, one, two, other;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, out, 1);
        agent = bound(scene_socket(&scene, SOCK_DGRAM), HERE, DOOR);
        one = far_end(SCENE_FAR, ONE);
        two = far_end(SCENE_FAR, TWO);
        other = far_end(THERE, ONE);

        assert_false(arrives(one, agent, DOOR));
        assert_int_equal(refused(&scene), 1);

        /* Who was asked answers, as often as he likes; his neighbours do not. */
        assert_int_equal(scene_send(agent, SCENE_FAR, ONE), 0);
        for (int i = 0; i < 3; i++)
                assert_true(arrives(one, agent, DOOR));
        assert_int_equal(refused(&scene), 1);
        assert_false(arrives(two, agent, DOOR));
        assert_false(arrives(other, agent, DOOR));
        assert_int_equal(refused(&scene), 3);

        /* Many are asked at once. */
        assert_int_equal(scene_send(agent, SCENE_FAR, TWO), 0);
        assert_int_equal(scene_send(agent, THERE, ONE), 0);
        assert_true(arrives(two, agent, DOOR));
        assert_true(arrives(other, agent, DOOR));
        assert_true(arrives(one, agent, DOOR));
        assert_int_equal(refused(&scene), 3);

        close(one);
        close(two);
        close(other);
        close(agent);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

/* What one socket has asked, no other hears. */
static void an_answer_comes_to_the_socket_that_has_asked(void **state)
{
        struct bpf_policy *policy;
        struct scene scene;
        int asks, idles, one;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, out, 1);
        asks = bound(scene_socket(&scene, SOCK_DGRAM), HERE, DOOR);
        idles = bound(scene_socket(&scene, SOCK_DGRAM), HERE, OTHER_DOOR);
        one = far_end(SCENE_FAR, ONE);

        assert_int_equal(scene_send(asks, SCENE_FAR, ONE), 0);
        assert_true(arrives(one, asks, DOOR));
        assert_false(arrives(one, idles, OTHER_DOOR));
        assert_int_equal(refused(&scene), 1);

        /* A new socket at the same port has asked nobody. */
        close(asks);
        asks = bound(scene_socket(&scene, SOCK_DGRAM), HERE, DOOR);
        assert_false(arrives(one, asks, DOOR));

        close(one);
        close(asks);
        close(idles);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void a_connected_socket_hears_its_peer(void **state)
{
        struct bpf_policy *policy;
        struct scene scene;
        int agent, one, two;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, out, 1);
        agent = bound(scene_socket(&scene, SOCK_DGRAM), HERE, DOOR);
        one = far_end(SCENE_FAR, ONE);
        two = far_end(SCENE_FAR, TWO);

        assert_int_equal(scene_connect(agent, SCENE_FAR, ONE), 0);
        assert_true(arrives(one, agent, DOOR));
        assert_false(arrives(two, agent, DOOR));

        /* Disconnected, it is like one that has never spoken. */
        assert_int_equal(connect(agent, &(struct sockaddr){.sa_family = AF_UNSPEC}, sizeof(struct sockaddr)), 0);
        assert_false(arrives(two, agent, DOOR));
        assert_false(arrives(one, agent, DOOR));
        assert_int_equal(refused(&scene), 2);

        close(one);
        close(two);
        close(agent);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(who_was_not_asked_does_not_come_in, scene_clear),
                cmocka_unit_test_teardown(an_answer_comes_to_the_socket_that_has_asked, scene_clear),
                cmocka_unit_test_teardown(a_connected_socket_hears_its_peer, scene_clear),
        };

        return cmocka_run_group_tests(tests, scene_world_up, scene_world_down);
}
