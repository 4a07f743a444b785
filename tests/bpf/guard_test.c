/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The guard: real sockets below a guarded parent, agents and others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <time.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/datapath/guard.h"
#include "agentd/datapath/internal.h"
#include "tests/lib/bpf_scene.h"

enum { UDP = PROTOCOL_UDP, INSIDE = 21, DEEP = 22, BOUND_PORT = 7100 };

static const struct bpf_rule allow_port[] = {{"198.51.100.0/24", false, UDP, SCENE_PORT, SCENE_PORT}};

/* A guarded parent with two children, and the far end's server. */
struct yard {
        struct scene scene;
        struct datapath *datapath;
        int parent_fd, one_fd, two_fd;
        __u64 parent, one, two;
};

static struct yard yard_enter(struct bpf_world *world)
{
        struct yard yard = {.scene = scene_enter(world, SCENE_AGENT), .datapath = world->datapath};

        assert_int_equal(bpf_world_cgroup(world, "yard", &yard.parent_fd, &yard.parent), 0);
        assert_int_equal(bpf_world_cgroup(world, "yard/one", &yard.one_fd, &yard.one), 0);
        assert_int_equal(bpf_world_cgroup(world, "yard/two", &yard.two_fd, &yard.two), 0);
        assert_int_equal(datapath_guard_add(world->datapath, yard.parent_fd, yard.parent), 0);
        return yard;
}

static void yard_leave(struct yard *yard)
{
        assert_int_equal(datapath_guard_remove(yard->scene.world->datapath, yard->parent), 0);
        close(yard->parent_fd);
        close(yard->one_fd);
        close(yard->two_fd);
        assert_int_equal(bpf_world_cgroup_remove(yard->scene.world, "yard"), 0);
        scene_leave(&yard->scene);
}

static int socket_in(const struct yard *yard, int cgroup_fd, int family, int type, int protocol)
{
        int fd = -1;

        assert_int_equal(bpf_world_socket(yard->scene.world, cgroup_fd, family, type, protocol, &fd), 0);
        return fd;
}

static int sent_from(const struct yard *yard, int cgroup_fd, const char *address, __u16 port)
{
        int fd = socket_in(yard, cgroup_fd, AF_INET, SOCK_DGRAM, 0);
        int r = scene_send(fd, address, port);

        close(fd);
        return r;
}

static void on_record(void *context, const void *record, size_t size)
{
        if (size == sizeof(struct verdict_record))
                memcpy(context, record, size);
}

static void on_capture(void *context, const void *record, size_t size)
{
}

static void what_is_no_agent_is_denied_from_birth(void **state)
{
        struct verdict_record record = {};
        struct yard yard;
        __u64 before, deep;
        int deep_fd, fd;

        if (!*state)
                skip();
        yard = yard_enter(*state);
        before = datapath_guard_denied(yard.datapath);
        assert_int_equal(sent_from(&yard, yard.scene.cgroup_fd, SCENE_FAR, SCENE_PORT), 0); /* no relative of it */
        assert_int_equal(scene_arrived(&yard.scene), 1);

        assert_int_equal(sent_from(&yard, yard.one_fd, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(sent_from(&yard, yard.parent_fd, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(sent_from(&yard, yard.one_fd, "127.0.0.1", SCENE_PORT), EPERM);
        assert_int_equal(bpf_world_cgroup(yard.scene.world, "yard/one/x/y/z", &deep_fd, &deep), 0);
        assert_int_equal(sent_from(&yard, deep_fd, SCENE_FAR, SCENE_PORT), EPERM);
        fd = socket_in(&yard, yard.two_fd, AF_INET, SOCK_RAW, IPPROTO_ICMP);
        assert_int_equal(scene_send(fd, SCENE_FAR, 0), EPERM);
        close(fd);
        assert_int_equal(scene_arrived(&yard.scene), 0);
        assert_int_equal(datapath_guard_denied(yard.datapath) - before, 5);

        (void)datapath_events_consume(yard.datapath, on_record, on_capture, &record);
        assert_int_equal(sent_from(&yard, deep_fd, SCENE_FAR, SCENE_PORT), EPERM);
        (void)datapath_events_consume(yard.datapath, on_record, on_capture, &record);
        assert_int_equal(record.agent_id, 0);
        assert_int_equal(record.hook, HOOK_GUARD);
        assert_int_equal(record.reason, REASON_NO_POLICY);
        assert_int_equal(record.action, VERDICT_DENY);
        assert_true(record.cgroup_id == deep);
        assert_int_equal(record.destination_port, SCENE_PORT);
        assert_int_equal(record.ip_protocol, IPPROTO_UDP);
        assert_int_equal(record.bytes, 36);
        assert_true(record.flow != 0);
        close(deep_fd);
        yard_leave(&yard);
}

static void what_comes_in_is_denied_as_well(void **state)
{
        struct sockaddr_in at = scene_far_end(SCENE_FAR, BOUND_PORT);
        struct yard yard;
        char buffer[16];
        __u64 before;
        int fd;

        if (!*state)
                skip();
        yard = yard_enter(*state);
        fd = socket_in(&yard, yard.one_fd, AF_INET, SOCK_DGRAM, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
        before = datapath_guard_denied(yard.datapath);
        assert_int_equal(scene_send(yard.scene.server_fd, SCENE_FAR, BOUND_PORT), 0);
        assert_int_equal(recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT), -1);
        assert_int_equal(datapath_guard_denied(yard.datapath) - before, 1);
        close(fd);
        yard_leave(&yard);
}

static void an_agent_below_is_judged_by_its_own_policy_and_nobody_else_gets_through(void **state)
{
        struct bpf_policy *policy = NULL;
        struct yard yard;
        __u64 deep;
        int deep_fd, old;

        if (!*state)
                skip();
        yard = yard_enter(*state);
        old = socket_in(&yard, yard.one_fd, AF_INET, SOCK_DGRAM, 0);
        assert_int_equal(bpf_policy_new(yard.scene.world, allow_port, 1, &policy), 0);
        assert_int_equal(bpf_world_cgroup(yard.scene.world, "yard/one/child", &deep_fd, &deep), 0);
        assert_int_equal(datapath_attach(yard.datapath, INSIDE, yard.one_fd, yard.one, "inside"), 0);
        assert_int_equal(scene_send(old, SCENE_FAR, SCENE_PORT), EPERM); /* its own programs: nothing is published */
        datapath_agent_publish(yard.datapath, INSIDE, policy->version, 0);

        assert_int_equal(scene_send(old, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(scene_send(old, SCENE_FAR, SCENE_PORT + 1), EPERM);
        assert_int_equal(sent_from(&yard, deep_fd, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(sent_from(&yard, yard.two_fd, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(sent_from(&yard, yard.parent_fd, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(scene_arrived(&yard.scene), 2);

        assert_int_equal(datapath_detach(yard.datapath, INSIDE), 0);
        assert_int_equal(scene_send(old, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(sent_from(&yard, deep_fd, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(scene_arrived(&yard.scene), 0);
        close(old);
        close(deep_fd);
        assert_int_equal(datapath_policy_remove(yard.datapath, policy->version), 0);
        bpf_policy_free(policy);
        yard_leave(&yard);
}

static void agents_at_different_depths_are_found_in_turn(void **state)
{
        struct bpf_policy *policy = NULL;
        struct yard yard;
        __u64 deep;
        int deep_fd;

        if (!*state)
                skip();
        yard = yard_enter(*state);
        assert_int_equal(bpf_policy_new(yard.scene.world, allow_port, 1, &policy), 0);
        assert_int_equal(bpf_world_cgroup(yard.scene.world, "yard/two/a/b/c/d/e/f", &deep_fd, &deep), 0);
        assert_int_equal(datapath_attach(yard.datapath, INSIDE, yard.one_fd, yard.one, "inside"), 0);
        assert_int_equal(datapath_attach(yard.datapath, DEEP, deep_fd, deep, "deep"), 0);
        datapath_agent_publish(yard.datapath, INSIDE, policy->version, 0);
        datapath_agent_publish(yard.datapath, DEEP, policy->version, 0);
        for (unsigned i = 0; i < 20; i++) {
                assert_int_equal(sent_from(&yard, yard.one_fd, SCENE_FAR, SCENE_PORT), 0);
                assert_int_equal(sent_from(&yard, deep_fd, SCENE_FAR, SCENE_PORT), 0);
                assert_int_equal(sent_from(&yard, yard.two_fd, SCENE_FAR, SCENE_PORT), EPERM);
        }
        assert_int_equal(scene_arrived(&yard.scene), 40);
        assert_int_equal(datapath_detach(yard.datapath, INSIDE), 0);
        assert_int_equal(datapath_detach(yard.datapath, DEEP), 0);
        close(deep_fd);
        assert_int_equal(datapath_policy_remove(yard.datapath, policy->version), 0);
        bpf_policy_free(policy);
        yard_leave(&yard);
}

static __u32 link_id(const struct datapath *datapath, __u64 cgroup_id, size_t hook)
{
        struct datapath_guard *guard = NULL;
        struct bpf_link_info info = {};
        __u32 size = sizeof(info);

        HASH_FIND(hh, datapath->guards, &cgroup_id, sizeof(cgroup_id), guard);
        assert_non_null(guard);
        assert_int_equal(bpf_obj_get_info_by_fd(guard->links[hook], &info, &size), 0);
        return info.id;
}

static void it_holds_without_a_daemon_and_the_next_one_takes_it_over_in_place(void **state)
{
        struct bpf_policy *policy = NULL;
        struct bpf_world *world = *state;
        __u32 egress, ingress;
        struct yard yard;
        __u64 born, id = 0;
        int born_fd, fd;

        if (!*state)
                skip();
        yard = yard_enter(world);
        assert_int_equal(bpf_policy_new(world, allow_port, 1, &policy), 0);
        assert_int_equal(datapath_attach(yard.datapath, INSIDE, yard.one_fd, yard.one, "inside"), 0);
        datapath_agent_publish(yard.datapath, INSIDE, policy->version, 0);
        egress = link_id(yard.datapath, yard.parent, 0);
        ingress = link_id(yard.datapath, yard.parent, 1);
        assert_int_equal(datapath_guard_enter(yard.datapath, 0x1234567890), 0); /* no agent's */
        datapath_free(world->datapath);
        world->datapath = NULL;

        assert_int_equal(bpf_world_cgroup(world, "yard/born", &born_fd, &born), 0);
        assert_int_equal(sent_from(&yard, born_fd, SCENE_FAR, SCENE_PORT), EPERM);
        fd = socket_in(&yard, yard.one_fd, AF_INET, SOCK_DGRAM, 0);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT + 1), EPERM);
        assert_int_equal(scene_arrived(&yard.scene), 1);

        assert_int_equal(bpf_world_reopen(world), 0);
        yard.datapath = world->datapath;
        assert_int_equal(datapath_guards(world->datapath, &id, 1), 1);
        assert_true(id == yard.parent);
        assert_int_equal(link_id(yard.datapath, yard.parent, 0), egress);
        assert_int_equal(link_id(yard.datapath, yard.parent, 1), ingress);
        assert_int_equal(datapath_guard_verify(yard.datapath, yard.parent), 0);
        assert_true(datapath_guard_knows(yard.datapath, yard.one));
        assert_false(datapath_guard_knows(yard.datapath, 0x1234567890));
        assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(sent_from(&yard, born_fd, SCENE_FAR, SCENE_PORT), EPERM);
        close(fd);
        close(born_fd);
        assert_int_equal(datapath_detach(yard.datapath, INSIDE), 0);
        bpf_policy_free(policy);
        yard_leave(&yard);
}

static void a_guard_whose_cgroup_is_gone_is_forgotten(void **state)
{
        struct bpf_world *world = *state;
        __u64 ids[4], id;
        int fd;

        if (!*state)
                skip();
        assert_int_equal(bpf_world_cgroup(world, "passing", &fd, &id), 0);
        assert_int_equal(datapath_guard_add(world->datapath, fd, id), 0);
        close(fd);
        assert_int_equal(bpf_world_cgroup_remove(world, "passing"), 0);
        /* The kernel lets the links of a removed cgroup go in its own time. */
        for (time_t start = time(NULL); time(NULL) - start < 10 && datapath_guard_verify(world->datapath, id) == 0;)
                sched_yield();
        assert_int_equal(datapath_guard_verify(world->datapath, id), -ENOENT);
        assert_int_equal(bpf_world_reopen(world), 0);
        assert_int_equal(datapath_guards(world->datapath, ids, 4), 0);
}

static void what_was_taken_from_a_guard_is_noticed_and_put_back(void **state)
{
        struct datapath_guard *guard = NULL;
        struct yard yard;
        char path[256];
        __u32 id;

        if (!*state)
                skip();
        yard = yard_enter(*state);
        HASH_FIND(hh, yard.datapath->guards, &yard.parent, sizeof(yard.parent), guard);
        assert_non_null(guard);
        id = link_id(yard.datapath, yard.parent, 0);

        /* a pin */
        snprintf(path, sizeof(path), "%s/guards/%llu/egress", yard.datapath->directory,
                 (unsigned long long)yard.parent);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(datapath_guard_verify(yard.datapath, yard.parent), -ENOENT);
        assert_int_equal(datapath_guard_add(yard.datapath, yard.parent_fd, yard.parent), 0);
        assert_int_equal(datapath_guard_verify(yard.datapath, yard.parent), 0);
        assert_int_equal(link_id(yard.datapath, yard.parent, 0), id); /* the link that held all the time */

        /* The program: another one of the same type. One with no cgroup storage, as the guard's: a link keeps the
         * storage of the program that it was made with, and kernels that check it refuse others with EINVAL. */
        assert_int_equal(bpf_link_update(guard->links[0], yard.datapath->guard_hooks[1].program_fd, NULL), 0);
        assert_int_equal(datapath_guard_verify(yard.datapath, yard.parent), -ENOENT);
        assert_int_equal(datapath_guard_add(yard.datapath, yard.parent_fd, yard.parent), 0);
        assert_int_equal(datapath_guard_verify(yard.datapath, yard.parent), 0);

        /* the link */
        assert_int_equal(bpf_link_detach(guard->links[0]), 0);
        assert_int_equal(sent_from(&yard, yard.one_fd, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(datapath_guard_verify(yard.datapath, yard.parent), -ENOENT);
        assert_int_equal(datapath_guard_add(yard.datapath, yard.parent_fd, yard.parent), 0);
        assert_int_equal(sent_from(&yard, yard.one_fd, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(datapath_guard_verify(yard.datapath, yard.parent), 0);
        yard_leave(&yard);
}

static void an_agent_missing_from_the_table_is_denied_noticed_and_put_back(void **state)
{
        struct bpf_policy *policy = NULL;
        enum hook hook = HOOK_NONE;
        struct yard yard;

        if (!*state)
                skip();
        yard = yard_enter(*state);
        assert_int_equal(bpf_policy_new(yard.scene.world, allow_port, 1, &policy), 0);
        assert_int_equal(datapath_attach(yard.datapath, INSIDE, yard.one_fd, yard.one, "inside"), 0);
        datapath_agent_publish(yard.datapath, INSIDE, policy->version, 0);
        datapath_guard_leave(yard.datapath, yard.one);
        assert_int_equal(sent_from(&yard, yard.one_fd, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(datapath_verify(yard.datapath, INSIDE, &hook), -ENOENT);
        assert_int_equal(hook, HOOK_GUARD);
        assert_int_equal(datapath_repair(yard.datapath, INSIDE, yard.one_fd), 0);
        assert_int_equal(datapath_verify(yard.datapath, INSIDE, &hook), 0);
        assert_int_equal(sent_from(&yard, yard.one_fd, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(datapath_detach(yard.datapath, INSIDE), 0);
        assert_int_equal(datapath_policy_remove(yard.datapath, policy->version), 0);
        bpf_policy_free(policy);
        yard_leave(&yard);
}

static void the_table_holds_every_agent_and_says_when_it_is_full(void **state)
{
        struct bpf_world *world = *state;
        __u64 ids[AGENT_MAX];
        __u64 same[2 * GUARD_WAYS + 1];
        size_t n = 0;

        if (!*state)
                skip();
        /* ids as the kernel gives them: one after the other, with gaps */
        for (__u32 i = 1; i < AGENT_MAX; i++) {
                ids[i] = 5000 + 3 * i;
                assert_int_equal(datapath_guard_enter(world->datapath, ids[i]), 0);
                assert_int_equal(datapath_guard_enter(world->datapath, ids[i]), 0); /* once is enough */
        }
        for (__u32 i = 1; i < AGENT_MAX; i++) {
                assert_true(datapath_guard_knows(world->datapath, ids[i]));
                datapath_guard_leave(world->datapath, ids[i]);
                assert_false(datapath_guard_knows(world->datapath, ids[i]));
        }

        /* ids that meet in both buckets */
        for (__u64 id = 1; n < ARRAY_SIZE(same); id++)
                if (guard_bucket_of(id, 0) == 7 && guard_bucket_of(id, 1) == 11)
                        same[n++] = id;
        for (size_t i = 0; i < 2 * GUARD_WAYS; i++)
                assert_int_equal(datapath_guard_enter(world->datapath, same[i]), 0);
        assert_int_equal(datapath_guard_enter(world->datapath, same[2 * GUARD_WAYS]), -ENOSPC);
        datapath_guard_leave(world->datapath, same[3]);
        assert_int_equal(datapath_guard_enter(world->datapath, same[2 * GUARD_WAYS]), 0);
        for (size_t i = 0; i < ARRAY_SIZE(same); i++)
                datapath_guard_leave(world->datapath, same[i]);
        assert_int_equal(datapath_guard_enter(world->datapath, 0), -EINVAL);
        assert_false(datapath_guard_knows(world->datapath, 0));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(what_is_no_agent_is_denied_from_birth, scene_clear),
                cmocka_unit_test_teardown(what_comes_in_is_denied_as_well, scene_clear),
                cmocka_unit_test_teardown(an_agent_below_is_judged_by_its_own_policy_and_nobody_else_gets_through,
                                          scene_clear),
                cmocka_unit_test_teardown(agents_at_different_depths_are_found_in_turn, scene_clear),
                cmocka_unit_test_teardown(it_holds_without_a_daemon_and_the_next_one_takes_it_over_in_place,
                                          scene_clear),
                cmocka_unit_test_teardown(a_guard_whose_cgroup_is_gone_is_forgotten, scene_clear),
                cmocka_unit_test_teardown(what_was_taken_from_a_guard_is_noticed_and_put_back, scene_clear),
                cmocka_unit_test_teardown(an_agent_missing_from_the_table_is_denied_noticed_and_put_back, scene_clear),
                cmocka_unit_test_teardown(the_table_holds_every_agent_and_says_when_it_is_full, scene_clear),
        };

        return cmocka_run_group_tests(tests, scene_world_up, scene_world_down);
}
