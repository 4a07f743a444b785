/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Links, addresses and routes of namespaces made here (root only). The process lives in one of its own, and another one
 * stands for the agent's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/net/netns.h"
#include "agentd/net/rtnl.h"
#include "agentd/util/macro.h"

struct world {
        pid_t pid; /* lives in the other namespace */
        int here, there;
};

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *format, ...)
{
        char line[512];
        va_list list;

        va_start(list, format);
        vsnprintf(line, sizeof(line), format, list);
        va_end(list);
        if (system(line) != 0)
                fail_msg("failed: %s", line);
}

/* In the other namespace. */
#define RUN_THERE(world, format, ...) run("nsenter --net=/proc/%d/ns/net " format, (int)(world)->pid, ##__VA_ARGS__)

static int set_up(void **state)
{
        struct world *world;
        int ready[2];
        char byte;

        *state = NULL;
        if (geteuid() != 0) {
                print_message("needs root\n");
                return 0;
        }
        world = calloc(1, sizeof(*world));
        assert_non_null(world);
        assert_int_equal(unshare(CLONE_NEWNET), 0);
        assert_int_equal(pipe(ready), 0);
        world->pid = fork();
        if (world->pid == 0) {
                if (unshare(CLONE_NEWNET) < 0)
                        _exit(1);
                (void)!write(ready[1], "x", 1);
                pause();
                _exit(0);
        }
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        close(ready[1]);
        assert_int_equal(netns_open_self(&world->here), 0);
        assert_int_equal(netns_open(world->pid, &world->there), 0);
        *state = world;
        return 0;
}

static int tear_down(void **state)
{
        struct world *world = *state;

        if (!world)
                return 0;
        kill(world->pid, SIGKILL);
        waitpid(world->pid, NULL, 0);
        close(world->here);
        close(world->there);
        free(world);
        return 0;
}

static struct world *world_of(void **state)
{
        if (!*state)
                skip();
        return *state;
}

static void veth_add(const struct world *world)
{
        run("ip link add host7 index 77 type veth peer name eth0 netns %d", (int)world->pid);
        run("ip link set host7 address 02:00:00:00:00:01 mtu 1400");
        RUN_THERE(world, "ip link set eth0 address 02:00:00:00:00:02");
}

static void a_veth_tells_its_peer_from_either_side(void **state)
{
        struct world *world = world_of(state);
        _cleanup_(rtnl_closep) struct rtnl *here = NULL, *there = NULL;
        struct rtnl_link host, links[8];
        __s32 nsid = -1;
        size_t n = 0;

        veth_add(world);
        assert_int_equal(rtnl_open(-1, 0, &here), 0);
        assert_int_equal(rtnl_open(world->there, 0, &there), 0);

        assert_int_equal(rtnl_links(there, "veth", links, ARRAY_SIZE(links), &n), 0);
        assert_int_equal(n, 1);
        assert_string_equal(links[0].name, "eth0");
        assert_string_equal(links[0].kind, "veth");
        assert_true(links[0].ethernet);
        assert_memory_equal(links[0].mac, "\x02\0\0\0\0\x02", 6);
        assert_int_equal(links[0].peer, 77);
        assert_int_equal(rtnl_nsid(there, world->here, &nsid), 0);
        assert_int_equal(links[0].nsid, nsid);

        assert_int_equal(rtnl_link_get(here, 77, &host), 0);
        assert_string_equal(host.name, "host7");
        assert_int_equal(host.peer, links[0].ifindex);
        assert_int_equal(host.mtu, 1400);
        assert_int_equal(host.master, 0);
        assert_memory_equal(host.mac, "\x02\0\0\0\0\x01", 6);
        assert_int_equal(rtnl_nsid(here, world->there, &nsid), 0);
        assert_int_equal(host.nsid, nsid);

        assert_int_equal(rtnl_link_get(here, 78, &host), -ENODEV);
        assert_int_equal(rtnl_link_get(here, 0, &host), -ENODEV);
}

static void a_namespace_without_a_link_to_it_has_no_number(void **state)
{
        struct world *world = world_of(state);
        _cleanup_(rtnl_closep) struct rtnl *there = NULL;
        __s32 nsid = -1;

        assert_int_equal(rtnl_open(world->there, 0, &there), 0);
        assert_int_equal(rtnl_nsid(there, world->here, &nsid), -ENOENT);
        assert_int_equal(nsid, -1);
}

static void a_pair_inside_one_namespace_has_no_other(void **state)
{
        _cleanup_(rtnl_closep) struct rtnl *here = NULL;
        struct rtnl_link link;

        world_of(state);
        run("ip link add one index 81 type veth peer name two");
        assert_int_equal(rtnl_open(-1, 0, &here), 0);
        assert_int_equal(rtnl_link_get(here, 81, &link), 0);
        assert_int_not_equal(link.peer, 0);
        assert_int_equal(link.nsid, -1);
}

static void a_port_tells_its_bridge(void **state)
{
        struct world *world = world_of(state);
        _cleanup_(rtnl_closep) struct rtnl *here = NULL;
        struct rtnl_link link, bridge;

        veth_add(world);
        run("ip link add bridge0 type bridge && ip link set host7 master bridge0");
        assert_int_equal(rtnl_open(-1, 0, &here), 0);
        assert_int_equal(rtnl_link_get(here, 77, &link), 0);
        assert_int_not_equal(link.master, 0);
        assert_int_equal(rtnl_link_get(here, link.master, &bridge), 0);
        assert_string_equal(bridge.kind, "bridge");
}

static bool is(const struct address *address, const char *bytes, size_t offset, size_t n)
{
        return memcmp(address->bytes + offset, bytes, n) == 0;
}

static void addresses_and_gateways_are_those_of_one_link(void **state)
{
        struct world *world = world_of(state);
        _cleanup_(rtnl_closep) struct rtnl *there = NULL;
        struct rtnl_address addresses[8];
        struct address gateways[8];
        struct rtnl_link links[8];
        size_t n = 0;

        veth_add(world);
        run("ip link add host8 type veth peer name eth1 netns %d", (int)world->pid);
        run("ip link set host7 up && ip link set host8 up");
        RUN_THERE(world, "sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.eth0.addr_gen_mode=1");
        RUN_THERE(world, "ip address add 10.7.0.2/24 dev eth0");
        RUN_THERE(world, "ip address add 10.7.1.2 peer 10.7.1.9 dev eth0");
        RUN_THERE(world, "ip address add 2001:db8::2/64 dev eth0 nodad");
        RUN_THERE(world, "ip address add 10.8.0.2/24 dev eth1");
        RUN_THERE(world, "ip link set eth0 up");
        RUN_THERE(world, "ip link set eth1 up");
        RUN_THERE(world, "ip route add default via 10.7.0.1 dev eth0");
        RUN_THERE(world, "ip route add default via 10.8.0.1 dev eth1 metric 99");
        RUN_THERE(world, "ip route add 10.99.0.0/16 via 10.7.0.77 dev eth0");
        RUN_THERE(world, "ip -6 route add default via 2001:db8::1 dev eth0");

        assert_int_equal(rtnl_open(world->there, 0, &there), 0);
        assert_int_equal(rtnl_links(there, "veth", links, ARRAY_SIZE(links), &n), 0);
        assert_int_equal(n, 2);
        for (size_t i = 0; i < n; i++)
                if (links[i].peer == 77)
                        links[0] = links[i];

        assert_int_equal(rtnl_addresses(there, links[0].ifindex, addresses, ARRAY_SIZE(addresses), &n), 0);
        assert_int_equal(n, 3);
        assert_true(is(&addresses[0].address, "\xff\xff\x0a\x07\x00\x02", 10, 6));
        assert_int_equal(addresses[0].prefix_length, 96 + 24);
        assert_true(is(&addresses[1].address, "\xff\xff\x0a\x07\x01\x02", 10, 6));
        assert_true(is(&addresses[2].address, "\x20\x01\x0d\xb8", 0, 4));
        assert_int_equal(addresses[2].prefix_length, 64);

        assert_int_equal(rtnl_gateways(there, links[0].ifindex, gateways, ARRAY_SIZE(gateways), &n), 0);
        assert_int_equal(n, 2);
        assert_true(is(&gateways[0], "\xff\xff\x0a\x07\x00\x01", 10, 6));
        assert_true(is(&gateways[1], "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 0, 16));
}

static void more_than_there_is_room_for_is_an_error_and_not_a_part(void **state)
{
        struct world *world = world_of(state);
        _cleanup_(rtnl_closep) struct rtnl *there = NULL, *again = NULL;
        struct rtnl_link links[4];
        size_t n = 99;

        RUN_THERE(world, "sh -c 'for i in 1 2 3; do ip link add a$i type veth peer name b$i; done'");
        assert_int_equal(rtnl_open(world->there, 0, &there), 0);
        assert_int_equal(rtnl_links(there, NULL, links, ARRAY_SIZE(links), &n), -E2BIG);
        assert_int_equal(n, 99);
        assert_int_equal(rtnl_open(world->there, 0, &again), 0);
        assert_int_equal(rtnl_links(again, "bridge", links, ARRAY_SIZE(links), &n), 0);
        assert_int_equal(n, 0);
}

static void a_change_is_told_and_read_at_once(void **state)
{
        struct world *world = world_of(state);
        _cleanup_(rtnl_closep) struct rtnl *there = NULL;
        struct pollfd item = {.events = POLLIN};

        assert_int_equal(rtnl_open(world->there, RTNL_GROUP_LINKS | RTNL_GROUP_ADDRESSES, &there), 0);
        assert_int_equal(rtnl_changed(there, NULL, NULL), 0);
        veth_add(world);
        item.fd = rtnl_fd(there);
        assert_int_equal(poll(&item, 1, 2000), 1);
        assert_true(rtnl_changed(there, NULL, NULL) > 0);
        assert_int_equal(rtnl_changed(there, NULL, NULL), 0);
        RUN_THERE(world, "ip address add 10.7.0.2/24 dev eth0");
        assert_int_equal(poll(&item, 1, 2000), 1);
        assert_true(rtnl_changed(there, NULL, NULL) > 0);
}

struct seen {
        struct rtnl_link link;
        bool gone;
};

static void see(void *context, const struct rtnl_link *link, bool gone)
{
        struct seen *seen = context;

        if (link->ifindex == 77)
                *seen = (struct seen){*link, gone};
}

static void a_tiding_tells_which_link_it_is_about(void **state)
{
        struct world *world = world_of(state);
        _cleanup_(rtnl_closep) struct rtnl *here = NULL;
        struct seen seen = {};

        assert_int_equal(rtnl_open(-1, RTNL_GROUP_LINKS, &here), 0);
        veth_add(world);
        assert_true(rtnl_changed(here, see, &seen) > 0);
        assert_int_equal(seen.link.ifindex, 77);
        assert_string_equal(seen.link.kind, "veth");
        assert_int_not_equal(seen.link.nsid, -1);
        assert_false(seen.gone);

        run("ip link del host7");
        assert_true(rtnl_changed(here, see, &seen) > 0);
        assert_true(seen.gone);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_veth_tells_its_peer_from_either_side),
                TEST(a_namespace_without_a_link_to_it_has_no_number),
                TEST(a_pair_inside_one_namespace_has_no_other),
                TEST(a_port_tells_its_bridge),
                TEST(addresses_and_gateways_are_those_of_one_link),
                TEST(more_than_there_is_room_for_is_an_error_and_not_a_part),
                TEST(a_change_is_told_and_read_at_once),
                TEST(a_tiding_tells_which_link_it_is_about),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
