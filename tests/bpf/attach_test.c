/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Attaching, publishing, verifying, adopting: with real sockets of real cgroups.
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
#include <unistd.h>

#include "agentd/abi_test.h"
#include "agentd/datapath/internal.h"
#include "tests/lib/bpf_scene.h"

enum { TCP = PROTOCOL_TCP, UDP = PROTOCOL_UDP };

static const struct bpf_rule allow_all[] = {{"198.51.100.0/24", false, TCP | UDP, 0, 65535}};
static const struct bpf_rule allow_port[] = {{"198.51.100.0/24", false, TCP | UDP, SCENE_PORT, SCENE_PORT}};
static const struct bpf_rule allow_nothing_near[] = {{"203.0.113.0/24", false, TCP | UDP, 0, 65535}};

static void an_attached_cgroup_is_denied_before_anything_is_published(void **state)
{
        struct scene scene;
        int old, fd;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        old = scene_socket(&scene, SOCK_DGRAM);
        assert_int_equal(scene_send(old, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(scene_arrived(&scene), 1);

        scene_attach(&scene);
        assert_int_equal(bpf_world_socket(scene.world, scene.cgroup_fd, AF_INET, SOCK_DGRAM, 0, &fd), -EPERM);
        assert_int_equal(bpf_world_socket(scene.world, scene.cgroup_fd, AF_INET6, SOCK_STREAM, 0, &fd), -EPERM);
        /* sockets from before the attachment meet the packet hooks */
        assert_int_equal(scene_send(old, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(scene_connect(old, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(scene_arrived(&scene), 0);
        assert_int_equal(scene_counters(&scene).denied[REASON_NO_POLICY], 4);
        close(old);
        scene_leave(&scene);
}

static void a_publication_holds_from_the_next_packet_on(void **state)
{
        struct bpf_policy *wide, *narrow;
        struct scene scene;
        int fd;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        wide = scene_publish(&scene, allow_all, 1);
        fd = scene_socket(&scene, SOCK_DGRAM);
        assert_int_equal(bpf_policy_new(scene.world, allow_nothing_near, 1, &narrow), 0);

        for (unsigned round = 0; round < 200; round++) {
                /* twice, so that the second meets the cache */
                assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), 0);
                assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), 0);
                datapath_agent_publish(scene.world->datapath, SCENE_AGENT, narrow->version, 0);
                assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), EPERM);
                datapath_agent_publish(scene.world->datapath, SCENE_AGENT, wide->version, WORD_QUARANTINE);
                assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), EPERM);
                datapath_agent_publish(scene.world->datapath, SCENE_AGENT, wide->version, 0);
        }
        assert_int_equal(scene_arrived(&scene), 400);
        assert_int_equal(scene_counters(&scene).denied[REASON_NO_RULE], 200);
        assert_int_equal(scene_counters(&scene).denied[REASON_QUARANTINE], 200);

        /* connected: only the packet hook sees it */
        assert_int_equal(scene_connect(fd, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(send(fd, "x", 1, 0), 1);
        datapath_agent_publish(scene.world->datapath, SCENE_AGENT, narrow->version, 0);
        assert_int_equal(send(fd, "x", 1, 0), -1);
        assert_int_equal(errno, EPERM);
        assert_int_equal(scene_arrived(&scene), 1);
        close(fd);
        scene_withdraw(&scene, wide);
        scene_withdraw(&scene, narrow);
        scene_leave(&scene);
}

static void a_child_cgroup_is_the_agent_and_a_neighbour_is_not(void **state)
{
        struct scene scene, neighbour;
        struct bpf_policy *policy, *other;
        __u64 child_id;
        int child_fd, fd, near_fd;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        neighbour = scene_enter(*state, SCENE_OTHER);
        scene_attach(&scene);
        scene_attach(&neighbour);
        policy = scene_publish(&scene, allow_port, 1);
        other = scene_publish(&neighbour, allow_all, 1);
        assert_int_equal(bpf_world_cgroup(scene.world, "agent-11/child", &child_fd, &child_id), 0);
        assert_int_equal(bpf_world_socket(scene.world, child_fd, AF_INET, SOCK_DGRAM, 0, &fd), 0);
        near_fd = scene_socket(&neighbour, SOCK_DGRAM);

        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT + 1), EPERM);
        assert_int_equal(scene_send(near_fd, SCENE_FAR, SCENE_PORT + 1), 0);
        assert_int_equal(scene_counters(&scene).denied[REASON_NO_RULE], 1);
        assert_int_equal(scene_counters(&neighbour).denied[REASON_NO_RULE], 0);

        /* cut off one, and the other does not notice */
        datapath_agent_publish(scene.world->datapath, SCENE_AGENT, policy->version, WORD_QUARANTINE);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(scene_send(near_fd, SCENE_FAR, SCENE_PORT), 0);
        close(fd);
        close(near_fd);
        close(child_fd);
        scene_withdraw(&scene, policy);
        scene_withdraw(&neighbour, other);
        scene_leave(&scene);
        scene_leave(&neighbour);
}

static void what_no_packet_hook_could_judge_is_refused_as_a_socket(void **state)
{
        static const struct {
                int family, type, protocol, expected;
        } sockets[] = {
                {AF_INET, SOCK_STREAM, 0, 0},
                {AF_INET6, SOCK_STREAM, IPPROTO_TCP, 0},
                {AF_INET6, SOCK_DGRAM, IPPROTO_UDP, 0},
                {AF_INET, SOCK_RAW, IPPROTO_RAW, -EPERM},
                {AF_INET, SOCK_RAW, IPPROTO_ICMP, -EPERM},
                {AF_INET6, SOCK_RAW, IPPROTO_TCP, -EPERM},
                {AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE, -EPERM},
        };
        struct bpf_policy *policy;
        struct scene scene;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_all, 1);
        for (size_t i = 0; i < ARRAY_SIZE(sockets); i++) {
                int fd = -1, r = bpf_world_socket(scene.world, scene.cgroup_fd, sockets[i].family, sockets[i].type,
                                                  sockets[i].protocol, &fd);

                if (r == -EPROTONOSUPPORT || r == -EAFNOSUPPORT)
                        continue;
                assert_int_equal(r, sockets[i].expected);
                close_fd(&fd);
        }
        assert_true(scene_counters(&scene).denied[REASON_RAW_SOCKET] == 3);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void a_lost_link_is_found_and_made_good(void **state)
{
        struct bpf_world *world = *state;
        struct bpf_policy *policy;
        struct scene scene;
        enum hook hook;
        int fd;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        assert_int_equal(datapath_verify(world->datapath, SCENE_AGENT, &hook), -ENOENT);
        scene_attach(&scene);
        assert_int_equal(datapath_verify(world->datapath, SCENE_AGENT, &hook), 0);
        assert_int_equal(datapath_attach(world->datapath, SCENE_AGENT, scene.cgroup_fd, scene.cgroup_id, "again"),
                         -EINVAL);
        policy = scene_publish(&scene, allow_port, 1);
        fd = scene_socket(&scene, SOCK_DGRAM);

        for (size_t h = 0; h < DATAPATH_HOOKS; h++) {
                assert_int_equal(bpf_link_detach(world->datapath->agents[SCENE_AGENT].links[h]), 0);
                assert_int_equal(datapath_verify(world->datapath, SCENE_AGENT, &hook), -ENOENT);
                assert_int_equal(hook, world->datapath->hooks[h].hook);
                /* another tier stands while one is gone: packets go by sendmsg4 and egress */
                assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT + 1), EPERM);
                assert_int_equal(datapath_repair(world->datapath, SCENE_AGENT, scene.cgroup_fd), 0);
                assert_int_equal(datapath_verify(world->datapath, SCENE_AGENT, &hook), 0);
        }
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT + 1), EPERM);
        close(fd);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void a_link_that_runs_another_program_is_found_and_made_good(void **state)
{
        /* It asks for both storages: Linux 6.1.192 and 6.12.117 refuse a program without those of the link's own. */
        struct bpf_insn allow[] = {
                {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_FD},
                {},
                {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2},
                {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_local_storage},
                {.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_FD},
                {},
                {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2},
                {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_get_local_storage},
                {.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1},
                {.code = BPF_JMP | BPF_EXIT},
        };
        LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_CGROUP_INET_EGRESS);
        struct bpf_world *world = *state;
        struct scene scene;
        enum hook hook;
        int fd;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        allow[0].imm = bpf_map__fd(world->datapath->skeleton->maps.lines);
        allow[4].imm = bpf_map__fd(world->datapath->skeleton->maps.memory);
        fd = bpf_prog_load(BPF_PROG_TYPE_CGROUP_SKB, "allow", "GPL", allow, ARRAY_SIZE(allow), &options);
        assert_true(fd >= 0);
        assert_int_equal(world->datapath->hooks[0].hook, HOOK_EGRESS);
        assert_int_equal(bpf_link_update(world->datapath->agents[SCENE_AGENT].links[0], fd, NULL), 0);
        assert_int_equal(datapath_verify(world->datapath, SCENE_AGENT, &hook), -ENOENT);
        assert_int_equal(hook, HOOK_EGRESS);
        assert_int_equal(datapath_repair(world->datapath, SCENE_AGENT, scene.cgroup_fd), 0);
        assert_int_equal(datapath_verify(world->datapath, SCENE_AGENT, &hook), 0);
        close(fd);
        scene_leave(&scene);
}

/* The line says whose packets they are: a wrong id is as bad as a lost link. */
static void a_line_with_another_id_is_found_and_made_good(void **state)
{
        struct bpf_world *world = *state;
        struct agent_line *lines;
        struct bpf_policy *policy;
        struct scene scene;
        enum hook hook;
        int fd, lines_fd;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_port, 1);
        fd = scene_socket(&scene, SOCK_DGRAM);
        lines_fd = bpf_map__fd(world->datapath->skeleton->maps.lines);
        lines = calloc((size_t)world->datapath->n_cpus, sizeof(*lines));
        assert_int_equal(bpf_map_update_elem(lines_fd, &scene.cgroup_id, lines, BPF_EXIST), 0);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(datapath_verify(world->datapath, SCENE_AGENT, &hook), -ENOENT);
        assert_int_equal(hook, HOOK_NONE);
        assert_int_equal(datapath_repair(world->datapath, SCENE_AGENT, scene.cgroup_fd), 0);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), 0);
        free(lines);
        close(fd);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void a_detached_cgroup_is_free_and_may_become_another_agent(void **state)
{
        struct bpf_world *world = *state;
        struct bpf_policy *policy;
        struct scene scene;
        enum hook hook;
        int fd;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_nothing_near, 1);
        fd = scene_socket(&scene, SOCK_DGRAM);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(datapath_detach(world->datapath, SCENE_AGENT), 0);
        assert_int_equal(datapath_detach(world->datapath, SCENE_AGENT), -ENOENT);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), 0);
        assert_true(datapath_agent(world->datapath, SCENE_AGENT)->word == 0);

        /* Agent 11 is free to be someone else with a policy that allows; 12 lives in the old cgroup now. */
        datapath_agent_publish(world->datapath, SCENE_AGENT, policy->version, 0);
        assert_int_equal(datapath_attach(world->datapath, SCENE_OTHER, scene.cgroup_fd, scene.cgroup_id, "second"), 0);
        assert_int_equal(datapath_verify(world->datapath, SCENE_OTHER, &hook), 0);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(datapath_detach(world->datapath, SCENE_OTHER), 0);
        close(fd);
        datapath_agent_publish(world->datapath, SCENE_AGENT, 0, 0);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void a_new_daemon_adopts_what_the_old_one_left(void **state)
{
        struct bpf_world *world = *state;
        struct bpf_policy *policy, *unpublished, *fresh;
        struct verdict_question question = {.agent_id = SCENE_AGENT, .now_ns = 1};
        struct agent_counters before;
        __u32 ids[AGENT_MAX], generation;
        struct scene scene;
        enum hook hook;
        int fd;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_port, 1);
        /* the old daemon dies before it makes this one current */
        assert_int_equal(bpf_policy_new(world, allow_all, 1, &unpublished), 0);
        fd = scene_socket(&scene, SOCK_DGRAM);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT + 1), EPERM);
        generation = datapath_generation(world->datapath);
        before = scene_counters(&scene);

        datapath_free(world->datapath);
        world->datapath = NULL;
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT + 1), EPERM);

        assert_int_equal(bpf_world_reopen(world), 0);
        assert_int_equal(datapath_adopted(world->datapath, ids), 1);
        assert_int_equal(ids[0], SCENE_AGENT);
        assert_int_equal(datapath_verify(world->datapath, SCENE_AGENT, &hook), 0);
        assert_string_equal((const char *)datapath_agent(world->datapath, SCENE_AGENT)->name, "test");
        assert_true(datapath_generation(world->datapath) >= generation);
        assert_int_equal(scene_counters(&scene).denied[REASON_NO_RULE], before.denied[REASON_NO_RULE] + 1);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT + 1), EPERM);

        /* A version is nobody else's: not the current one's, and not that of what was never made current. */
        assert_int_equal(bpf_policy_new(world, allow_nothing_near, 1, &fresh), 0);
        assert_int_not_equal(fresh->version, policy->version);
        assert_int_not_equal(fresh->version, unpublished->version);
        datapath_agent_publish(world->datapath, SCENE_AGENT, fresh->version, 0);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT + 1), EPERM);

        /* and the sweep takes the old ones away */
        assert_int_equal(address_parse(SCENE_FAR, &question.flow.remote), 0);
        question.flow.port = SCENE_PORT;
        question.flow.protocol = UDP;
        question.word = WORD_MAKE(1, policy->version, 0);
        assert_int_equal(datapath_verdict(world->datapath, &question), 0);
        assert_int_equal(question.verdict.action, VERDICT_ALLOW);
        assert_int_equal(datapath_policies_sweep(world->datapath), 0);
        for (int i = 0; i < 2; i++) {
                question.word = WORD_MAKE(1, i ? unpublished->version : policy->version, 0);
                assert_int_equal(datapath_verdict(world->datapath, &question), 0);
                assert_int_equal(question.verdict.action, VERDICT_DENY);
        }

        close(fd);
        bpf_policy_free(policy);
        bpf_policy_free(unpublished);
        scene_withdraw(&scene, fresh);
        scene_leave(&scene);
}

static void an_agent_whose_cgroup_went_away_is_forgotten_at_adoption(void **state)
{
        struct bpf_world *world = *state;
        __u32 ids[AGENT_MAX];
        struct scene scene;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        assert_int_equal(bpf_world_cgroup_remove(world, "agent-11"), 0);
        assert_int_equal(bpf_world_reopen(world), 0);
        assert_int_equal(datapath_adopted(world->datapath, ids), 0);
        assert_true(datapath_agent(world->datapath, SCENE_AGENT)->cgroup_id == 0);
        scene_leave(&scene);
}

static void pins_of_another_abi_are_refused_and_left_alone(void **state)
{
        struct bpf_world *world = *state;
        struct {
                __u32 version, reserved[15];
        } stamp = {AGENTD_ABI_VERSION + 1, {0}};
        struct datapath *second = NULL;
        struct datapath_error error = {""};
        __u32 key = 0;
        int abi_fd;

        if (!world)
                skip();
        abi_fd = dup(bpf_map__fd(world->datapath->skeleton->maps.abi));
        datapath_free(world->datapath);
        world->datapath = NULL;
        assert_int_equal(bpf_map_update_elem(abi_fd, &key, &stamp, BPF_ANY), 0);
        assert_int_equal(datapath_new(world->directory, &error, &second), -EPROTO);
        assert_null(second);
        assert_non_null(strstr(error.text, "another version"));
        assert_int_equal(bpf_map_lookup_elem(abi_fd, &key, &stamp), 0);
        assert_int_equal(stamp.version, AGENTD_ABI_VERSION + 1);
        stamp.version = AGENTD_ABI_VERSION;
        assert_int_equal(bpf_map_update_elem(abi_fd, &key, &stamp, BPF_ANY), 0);
        assert_int_equal(bpf_world_reopen(world), 0);
        close(abi_fd);
}

static void a_removed_policys_lists_serve_the_next_one_only(void **state)
{
        struct bpf_world *world = *state;
        struct verdict_question question = {.agent_id = SCENE_AGENT, .now_ns = 1};
        struct bpf_policy *first, *second;
        struct scene scene;
        __u32 first_version;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        first = scene_publish(&scene, allow_port, 1);
        first_version = first->version;
        assert_int_equal(datapath_policy_remove(world->datapath, first_version), -EBUSY);
        scene_withdraw(&scene, first);
        assert_int_equal(datapath_policy_remove(world->datapath, first_version), -ENOENT);
        second = scene_publish(&scene, allow_all, 1);
        assert_int_not_equal(second->version, first_version);

        assert_int_equal(address_parse(SCENE_FAR, &question.flow.remote), 0);
        question.flow.port = SCENE_PORT;
        question.flow.protocol = UDP;
        question.word = WORD_MAKE(1, first_version, 0);
        assert_int_equal(datapath_verdict(world->datapath, &question), 0);
        assert_int_equal(question.verdict.action, VERDICT_DENY);
        question.word = WORD_MAKE(1, second->version, 0);
        assert_int_equal(datapath_verdict(world->datapath, &question), 0);
        assert_int_equal(question.verdict.action, VERDICT_ALLOW);
        scene_withdraw(&scene, second);
        scene_leave(&scene);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(an_attached_cgroup_is_denied_before_anything_is_published, scene_clear),
                cmocka_unit_test_teardown(a_publication_holds_from_the_next_packet_on, scene_clear),
                cmocka_unit_test_teardown(a_child_cgroup_is_the_agent_and_a_neighbour_is_not, scene_clear),
                cmocka_unit_test_teardown(what_no_packet_hook_could_judge_is_refused_as_a_socket, scene_clear),
                cmocka_unit_test_teardown(a_lost_link_is_found_and_made_good, scene_clear),
                cmocka_unit_test_teardown(a_link_that_runs_another_program_is_found_and_made_good, scene_clear),
                cmocka_unit_test_teardown(a_line_with_another_id_is_found_and_made_good, scene_clear),
                cmocka_unit_test_teardown(a_detached_cgroup_is_free_and_may_become_another_agent, scene_clear),
                cmocka_unit_test_teardown(a_new_daemon_adopts_what_the_old_one_left, scene_clear),
                cmocka_unit_test_teardown(an_agent_whose_cgroup_went_away_is_forgotten_at_adoption, scene_clear),
                cmocka_unit_test_teardown(pins_of_another_abi_are_refused_and_left_alone, scene_clear),
                cmocka_unit_test_teardown(a_removed_policys_lists_serve_the_next_one_only, scene_clear),
        };

        return cmocka_run_group_tests(tests, scene_world_up, scene_world_down);
}
