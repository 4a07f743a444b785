/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tier 4, where LSM programs can be had: vmtest/run --kernel 6.12 --append lsm=bpf -- build/tests/bpf/lsm_test
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentd/abi_unix.h"
#include "agentd/datapath/guard.h"
#include "agentd/datapath/internal.h"
#include "agentd/datapath/unix.h"
#include "tests/lib/bpf_scene.h"

static const struct bpf_rule allow_all[] = {{"198.51.100.0/24", false, PROTOCOL_TCP | PROTOCOL_UDP, 0, 65535}};

static bool possible(struct bpf_world *world)
{
        const char *detail;

        if (!world)
                return false;
        if (datapath_extra_present(world->datapath, EXTRA_SOCKET_CREATE, &detail))
                return true;
        print_message("tier 4: %s\n", detail);
        return false;
}

static int try_socket(const struct scene *scene, int family, int type, int protocol)
{
        int fd = -1, r = bpf_world_socket(scene->world, scene->cgroup_fd, family, type, protocol, &fd);

        close_fd(&fd);
        return r;
}

static void only_families_that_are_judged_elsewhere_can_be_made(void **state)
{
        static const struct {
                int family, type, protocol;
                enum verdict_reason reason; /* REASON_NONE: it may be */
        } cases[] = {
                {AF_PACKET, SOCK_RAW, 0, REASON_PACKET_SOCKET},
                {AF_PACKET, SOCK_DGRAM, 0, REASON_PACKET_SOCKET},
                {AF_PACKET, SOCK_PACKET, 0, REASON_PACKET_SOCKET},
                {AF_XDP, SOCK_RAW, 0, REASON_PACKET_SOCKET},
                {AF_VSOCK, SOCK_STREAM, 0, REASON_PROTOCOL},
                {AF_RDS, SOCK_SEQPACKET, 0, REASON_PROTOCOL},
                {AF_TIPC, SOCK_STREAM, 0, REASON_PROTOCOL},
                {AF_SMC, SOCK_STREAM, 0, REASON_PROTOCOL},
                {AF_CAN, SOCK_RAW, 1, REASON_PROTOCOL},
                {AF_BLUETOOTH, SOCK_SEQPACKET, 0, REASON_PROTOCOL},
                {AF_KCM, SOCK_DGRAM, 0, REASON_PROTOCOL},
                {AF_KEY, SOCK_RAW, 2, REASON_PROTOCOL},
                {AF_QIPCRTR, SOCK_DGRAM, 0, REASON_PROTOCOL},
                {AF_ASH, SOCK_DGRAM, 0, REASON_PROTOCOL},
                {AF_INET, SOCK_RAW, IPPROTO_RAW, REASON_RAW_SOCKET},
                {AF_INET, SOCK_RAW, IPPROTO_ICMP, REASON_RAW_SOCKET},
                {AF_INET6, SOCK_RAW, IPPROTO_RAW, REASON_RAW_SOCKET},
                {AF_INET, SOCK_STREAM, 0, REASON_NONE},
                {AF_INET6, SOCK_DGRAM, 0, REASON_NONE},
                {AF_UNIX, SOCK_STREAM, 0, REASON_NONE},
                {AF_UNIX, SOCK_DGRAM, 0, REASON_NONE},
                {AF_NETLINK, SOCK_RAW, 0, REASON_NONE},
        };
        struct agent_counters before, after;
        struct bpf_policy *policy;
        struct scene scene;

        if (!possible(*state))
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        assert_int_equal(try_socket(&scene, AF_PACKET, SOCK_RAW, 0), -EPERM);
        assert_int_equal(scene_counters(&scene).denied[REASON_NO_POLICY], 1);
        policy = scene_publish(&scene, allow_all, 1);
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                int r;

                before = scene_counters(&scene);
                r = try_socket(&scene, cases[i].family, cases[i].type, cases[i].protocol);
                after = scene_counters(&scene);
                if (r != (cases[i].reason == REASON_NONE ? 0 : -EPERM))
                        fail_msg("family %d, type %d: %s", cases[i].family, cases[i].type, strerror(-r));
                if (cases[i].reason != REASON_NONE)
                        assert_int_equal(after.denied[cases[i].reason], before.denied[cases[i].reason] + 1);
        }

        datapath_agent_publish(scene.world->datapath, scene.id, policy->version, WORD_AUDIT);
        assert_int_equal(try_socket(&scene, AF_PACKET, SOCK_RAW, 0), 0);
        assert_int_equal(scene_counters(&scene).would_deny[REASON_PACKET_SOCKET], 1);

        /* and not an agent's neighbour, nor what an agent was */
        scene_withdraw(&scene, policy);
        assert_int_equal(datapath_detach(scene.world->datapath, scene.id), 0);
        assert_int_equal(try_socket(&scene, AF_PACKET, SOCK_RAW, 0), 0);
        scene_leave(&scene);
}

struct peer {
        char path[64], link[64];
        int fd;
};

/* A Unix server, made in this cgroup. */
static struct peer peer_new(const struct scene *scene, int cgroup_fd, int type, const char *name)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        struct peer peer;

        (void)snprintf(peer.path, sizeof(peer.path), "%s", name);
        (void)snprintf(peer.link, sizeof(peer.link), "%s.link", name);
        (void)unlink(peer.path);
        (void)unlink(peer.link);
        strcpy(address.sun_path, peer.path);
        assert_int_equal(bpf_world_socket(scene->world, cgroup_fd, AF_UNIX, type, 0, &peer.fd), 0);
        assert_int_equal(bind(peer.fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(symlink(peer.path, peer.link), 0);
        if (type == SOCK_STREAM)
                assert_int_equal(listen(peer.fd, 8), 0);
        return peer;
}

static void peer_end(struct peer *peer)
{
        close(peer->fd);
        (void)unlink(peer->path);
        (void)unlink(peer->link);
}

/* In the agent's cgroup, which is what these hooks go by: the process's, not the socket's. */
static int try_connect(const struct scene *scene, int type, const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd, r;

        strcpy(address.sun_path, path);
        assert_int_equal(bpf_world_socket(scene->world, scene->cgroup_fd, AF_UNIX, type, 0, &fd), 0);
        assert_int_equal(cgroup_move(scene->cgroup_fd, 0), 0);
        r = connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? errno : 0;
        if (r == 0 && type == SOCK_DGRAM)
                r = send(fd, "x", 1, MSG_DONTWAIT) < 0 ? errno : 0;
        assert_int_equal(cgroup_move(scene->world->home_fd, 0), 0);
        close(fd);
        return r;
}

static void a_denied_unix_socket_is_told_by_its_owner_and_what_he_has_bound(void **state)
{
        static char *deny[] = {"/tmp/agentd-lsm-denied"};
        static const struct unix_rules rules = {.deny = deny, .n_deny = 1};
        static const struct unix_rules outside = {.outside_deny = true};
        static const int types[] = {SOCK_STREAM, SOCK_DGRAM};
        struct bpf_policy *policy;
        struct scene scene;

        if (!possible(*state) ||
            !datapath_extra_present(((struct bpf_world *)*state)->datapath, EXTRA_LSM_CONNECT, NULL))
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_all, 1);
        assert_int_equal(datapath_unix_add(scene.world->datapath, policy->version, &rules), 0);
        for (size_t i = 0; i < 2; i++) {
                struct peer denied = peer_new(&scene, scene.world->home_fd, types[i], "/tmp/agentd-lsm-denied");
                struct peer other = peer_new(&scene, scene.world->home_fd, types[i], "/tmp/agentd-lsm-other");
                struct peer own = peer_new(&scene, scene.cgroup_fd, types[i], "/tmp/agentd-lsm-own");
                int pair[2];

                assert_int_equal(try_connect(&scene, types[i], denied.path), EPERM);
                assert_int_equal(try_connect(&scene, types[i], denied.link),
                                 EPERM); /* which its address does not tell */
                assert_int_equal(try_connect(&scene, types[i], other.path), 0);
                assert_int_equal(try_connect(&scene, types[i], own.path), 0);

                assert_int_equal(datapath_unix_add(scene.world->datapath, policy->version, &outside), 0);
                assert_int_equal(try_connect(&scene, types[i], other.path), EPERM);
                assert_int_equal(try_connect(&scene, types[i], other.link), EPERM);
                assert_int_equal(try_connect(&scene, types[i], own.path), 0);
                assert_int_equal(try_connect(&scene, types[i], own.link), 0);
                assert_int_equal(cgroup_move(scene.cgroup_fd, 0), 0);
                assert_int_equal(socketpair(AF_UNIX, types[i], 0, pair), 0);
                assert_int_equal(send(pair[0], "x", 1, 0), 1);
                assert_int_equal(cgroup_move(scene.world->home_fd, 0), 0);
                close(pair[0]);
                close(pair[1]);
                datapath_unix_remove(scene.world->datapath, policy->version, &outside);
                peer_end(&denied);
                peer_end(&other);
                peer_end(&own);
        }
        datapath_unix_remove(scene.world->datapath, policy->version, &rules);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

/* A datagram socket that is connected meets the policy of now with each datagram. */
static void a_connected_datagram_socket_is_cut_off_by_the_policy(void **state)
{
        static const struct unix_rules outside = {.outside_deny = true};
        struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/tmp/agentd-lsm-log"};
        struct bpf_policy *policy;
        struct scene scene;
        struct peer log;
        int fd;

        if (!possible(*state) || !datapath_extra_present(((struct bpf_world *)*state)->datapath, EXTRA_LSM_SEND, NULL))
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_all, 1);
        log = peer_new(&scene, scene.world->home_fd, SOCK_DGRAM, address.sun_path);
        assert_int_equal(bpf_world_socket(scene.world, scene.cgroup_fd, AF_UNIX, SOCK_DGRAM, 0, &fd), 0);
        assert_int_equal(cgroup_move(scene.cgroup_fd, 0), 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(send(fd, "x", 1, 0), 1);
        assert_int_equal(datapath_unix_add(scene.world->datapath, policy->version, &outside), 0);
        assert_int_equal(send(fd, "x", 1, 0), -1);
        assert_int_equal(errno, EPERM);
        datapath_unix_remove(scene.world->datapath, policy->version, &outside);
        assert_int_equal(send(fd, "x", 1, 0), 1);
        assert_int_equal(cgroup_move(scene.world->home_fd, 0), 0);
        close(fd);
        peer_end(&log);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void links_of_tier_4_are_adopted_and_made_good(void **state)
{
        struct bpf_policy *policy;
        enum hook hook = HOOK_NONE;
        struct scene scene;

        if (!possible(*state))
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_all, 1);
        assert_int_equal(bpf_world_reopen(scene.world), 0);
        assert_int_equal(try_socket(&scene, AF_PACKET, SOCK_RAW, 0), -EPERM);
        assert_int_equal(datapath_repair(scene.world->datapath, scene.id, scene.cgroup_fd), 0);
        assert_int_equal(datapath_verify(scene.world->datapath, scene.id, &hook), 0);
        assert_int_equal(bpf_link_detach(scene.world->datapath->extra_links[scene.id][EXTRA_SOCKET_CREATE]), 0);
        assert_int_equal(try_socket(&scene, AF_PACKET, SOCK_RAW, 0), 0);
        assert_int_equal(datapath_verify(scene.world->datapath, scene.id, &hook), -ENOENT);
        assert_int_equal(hook, HOOK_SOCKET_CREATE);
        assert_int_equal(datapath_repair(scene.world->datapath, scene.id, scene.cgroup_fd), 0);
        assert_int_equal(try_socket(&scene, AF_PACKET, SOCK_RAW, 0), -EPERM);
        bpf_policy_free(policy);
        scene_leave(&scene);
}

static int try_below(struct scene *scene, int cgroup_fd, int family, int type)
{
        int fd = -1, r = bpf_world_socket(scene->world, cgroup_fd, family, type, 0, &fd);

        close_fd(&fd);
        return r;
}

static void below_a_guard_what_no_packet_program_sees_cannot_be_made_but_by_agents(void **state)
{
        struct bpf_world *world = *state;
        struct bpf_policy *policy = NULL;
        struct datapath_guard *guard = NULL;
        int fold_fd, other_fd, agent_fd;
        __u64 fold, other, agent, denied;
        struct scene scene;

        if (!possible(world))
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        assert_int_equal(bpf_world_cgroup(world, "fold", &fold_fd, &fold), 0);
        assert_int_equal(bpf_world_cgroup(world, "fold/other", &other_fd, &other), 0);
        assert_int_equal(bpf_world_cgroup(world, "fold/agent", &agent_fd, &agent), 0);
        assert_int_equal(try_below(&scene, other_fd, AF_PACKET, SOCK_RAW), 0);
        assert_int_equal(datapath_guard_add(world->datapath, fold_fd, fold), 0);
        denied = datapath_guard_denied(world->datapath);
        assert_int_equal(try_below(&scene, other_fd, AF_PACKET, SOCK_RAW), -EPERM);
        assert_int_equal(try_below(&scene, fold_fd, AF_PACKET, SOCK_DGRAM), -EPERM);
        assert_int_equal(try_below(&scene, other_fd, AF_VSOCK, SOCK_STREAM), -EPERM);
        assert_int_equal(datapath_guard_denied(world->datapath), denied + 3);
        assert_int_equal(try_below(&scene, other_fd, AF_INET, SOCK_DGRAM), 0);
        assert_int_equal(try_below(&scene, other_fd, AF_UNIX, SOCK_STREAM), 0);
        assert_int_equal(try_below(&scene, scene.cgroup_fd, AF_PACKET, SOCK_RAW), 0);

        /* An agent's own program has the word: in audit mode it lets pass. */
        assert_int_equal(bpf_policy_new(world, allow_all, 1, &policy), 0);
        assert_int_equal(datapath_attach(world->datapath, 31, agent_fd, agent, "agent"), 0);
        datapath_agent_publish(world->datapath, 31, policy->version, WORD_AUDIT);
        assert_int_equal(try_below(&scene, agent_fd, AF_PACKET, SOCK_RAW), 0);
        datapath_agent_publish(world->datapath, 31, policy->version, 0);
        assert_int_equal(try_below(&scene, agent_fd, AF_PACKET, SOCK_RAW), -EPERM);
        assert_int_equal(datapath_guard_denied(world->datapath), denied + 3);
        assert_int_equal(datapath_detach(world->datapath, 31), 0);
        assert_int_equal(try_below(&scene, agent_fd, AF_PACKET, SOCK_RAW), -EPERM);

        HASH_FIND(hh, world->datapath->guards, &fold, sizeof(fold), guard);
        assert_non_null(guard);
        assert_int_equal(bpf_link_detach(guard->links[DATAPATH_GUARD_LSM]), 0);
        assert_int_equal(try_below(&scene, other_fd, AF_PACKET, SOCK_RAW), 0);
        assert_int_equal(datapath_guard_verify(world->datapath, fold), -ENOENT);
        assert_int_equal(datapath_guard_add(world->datapath, fold_fd, fold), 0);
        assert_int_equal(try_below(&scene, other_fd, AF_PACKET, SOCK_RAW), -EPERM);
        assert_int_equal(datapath_guard_remove(world->datapath, fold), 0);
        assert_int_equal(try_below(&scene, other_fd, AF_PACKET, SOCK_RAW), 0);

        assert_int_equal(datapath_policy_remove(world->datapath, policy->version), 0);
        bpf_policy_free(policy);
        close(fold_fd);
        close(other_fd);
        close(agent_fd);
        assert_int_equal(bpf_world_cgroup_remove(world, "fold"), 0);
        scene_leave(&scene);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(only_families_that_are_judged_elsewhere_can_be_made, scene_clear),
                cmocka_unit_test_teardown(a_denied_unix_socket_is_told_by_its_owner_and_what_he_has_bound, scene_clear),
                cmocka_unit_test_teardown(a_connected_datagram_socket_is_cut_off_by_the_policy, scene_clear),
                cmocka_unit_test_teardown(links_of_tier_4_are_adopted_and_made_good, scene_clear),
                cmocka_unit_test_teardown(below_a_guard_what_no_packet_program_sees_cannot_be_made_but_by_agents,
                                          scene_clear),
        };

        return cmocka_run_group_tests(tests, scene_world_up, scene_world_down);
}
