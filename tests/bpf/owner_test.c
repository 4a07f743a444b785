/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whose a socket is whose cgroup has been removed.
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

#include "agentd/datapath/owner.h"
#include "agentd/net/sock_diag.h"
#include "tests/lib/bpf_scene.h"

static const struct bpf_rule allow_all[] = {{"198.51.100.0/24", false, PROTOCOL_TCP | PROTOCOL_UDP, 0, 65535}};

/* Of a socket that is being looked for: by its local port. */
struct wanted {
        __u16 port;
        bool found;
        struct sock_diag_socket socket;
};

static int note(void *context, const struct sock_diag_socket *socket)
{
        struct wanted *wanted = context;

        if (socket->local_port == wanted->port && socket->remote_port != 0) {
                wanted->found = true;
                wanted->socket = *socket;
        }
        return 0;
}

static struct sock_diag_socket dumped(int fd)
{
        _cleanup_(sock_diag_closep) struct sock_diag *diag = NULL;
        struct sockaddr_in local;
        socklen_t size = sizeof(local);
        struct wanted wanted = {0};

        assert_int_equal(getsockname(fd, (struct sockaddr *)&local, &size), 0);
        wanted.port = ntohs(local.sin_port);
        assert_int_equal(sock_diag_open(-1, &diag), 0);
        assert_int_equal(sock_diag_each(diag, NULL, 0, note, &wanted), 0);
        assert_true(wanted.found);
        return wanted.socket;
}

static enum owner_answer owner_of(const struct scene *scene, const struct sock_diag_socket *socket)
{
        const struct owner_question question = {
                .local = socket->local,
                .remote = socket->remote,
                .socket_cgroup_id = socket->cgroup_id,
                .cgroup_id = scene->cgroup_id,
                .local_port = socket->local_port,
                .remote_port = socket->remote_port,
                .ipv6 = socket->family == AF_INET6,
                .tcp = socket->ip_protocol == IPPROTO_TCP,
        };

        return datapath_owner(scene->world->datapath, -1, socket->interface, &question);
}

static void a_socket_of_a_removed_child_is_its_agents_and_nobody_elses(void **state)
{
        static const struct {
                int type;
                bool bound;
        } cases[] = {{SOCK_STREAM, false}, {SOCK_DGRAM, false}, {SOCK_STREAM, true}};
        struct scene scene, neighbour;
        struct bpf_policy *policy;
        int listener;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        neighbour = scene_enter(*state, SCENE_OTHER);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_all, 1);
        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(listener >= 0);
        {
                struct sockaddr_in to = scene_far_end(SCENE_FAR, SCENE_PORT + 100);

                assert_int_equal(bind(listener, (struct sockaddr *)&to, sizeof(to)), 0);
                assert_int_equal(listen(listener, 8), 0);
        }

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct sock_diag_socket socket;
                int child_fd, fd;
                __u64 child_id;

                assert_int_equal(bpf_world_cgroup(scene.world, "agent-11/child", &child_fd, &child_id), 0);
                assert_int_equal(bpf_world_socket(scene.world, child_fd, AF_INET, cases[i].type, 0, &fd), 0);
                if (cases[i].bound)
                        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), 0);
                assert_int_equal(scene_connect(fd, SCENE_FAR, SCENE_PORT + 100), 0);
                close(child_fd);
                assert_int_equal(bpf_world_cgroup_remove(scene.world, "agent-11/child"), 0);

                socket = dumped(fd);
                assert_int_equal(socket.cgroup_id, child_id);
                assert_int_equal(owner_of(&scene, &socket), OWNER_SELF);
                assert_int_equal(owner_of(&neighbour, &socket), OWNER_OTHER);
                /* another socket on the same ends is not the one that was meant */
                socket.cgroup_id++;
                assert_int_equal(owner_of(&scene, &socket), OWNER_UNKNOWN);
                socket.cgroup_id--;
                close(fd);
                if (cases[i].type == SOCK_DGRAM)
                        assert_int_equal(owner_of(&scene, &socket), OWNER_UNKNOWN);
        }
        close(listener);
        scene_withdraw(&scene, policy);
        scene_leave(&neighbour);
        scene_leave(&scene);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(a_socket_of_a_removed_child_is_its_agents_and_nobody_elses, scene_clear),
        };

        return cmocka_run_group_tests(tests, scene_world_up, scene_world_down);
}
