/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ways out of a namespace, in namespaces made here (root only): `here` is the process's, `there` the agent's, `third`
 * somebody else's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/agent/veth.h"
#include "agentd/net/addr.h"
#include "agentd/net/netns.h"
#include "agentd/util/macro.h"

struct world {
        pid_t there, third;
        int here_fd, there_fd, third_fd;
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

#define RUN_THERE(world, format, ...) run("nsenter --net=/proc/%d/ns/net " format, (int)(world)->there, ##__VA_ARGS__)

static pid_t namespace_new(int *ret_fd)
{
        int ready[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe(ready), 0);
        pid = fork();
        if (pid == 0) {
                if (unshare(CLONE_NEWNET) < 0)
                        _exit(1);
                (void)!write(ready[1], "x", 1);
                pause();
                _exit(0);
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        assert_int_equal(netns_open(pid, ret_fd), 0);
        return pid;
}

static int set_up(void **state)
{
        struct world *world;

        *state = NULL;
        if (geteuid() != 0) {
                print_message("needs root\n");
                return 0;
        }
        world = calloc(1, sizeof(*world));
        assert_non_null(world);
        assert_int_equal(unshare(CLONE_NEWNET), 0);
        world->there = namespace_new(&world->there_fd);
        world->third = namespace_new(&world->third_fd);
        assert_int_equal(netns_open_self(&world->here_fd), 0);
        *state = world;
        return 0;
}

static int tear_down(void **state)
{
        struct world *world = *state;

        if (!world)
                return 0;
        kill(world->there, SIGKILL);
        kill(world->third, SIGKILL);
        waitpid(world->there, NULL, 0);
        waitpid(world->third, NULL, 0);
        close(world->here_fd);
        close(world->there_fd);
        close(world->third_fd);
        free(world);
        return 0;
}

static struct world *world_of(void **state)
{
        if (!*state)
                skip();
        return *state;
}

/* host7 here, eth0 there; up, with an address on either side. */
static void veth_add(const struct world *world)
{
        run("ip link add host7 index 77 address 02:00:00:00:00:01 type veth peer name eth0 netns %d",
            (int)world->there);
        RUN_THERE(world, "ip link set eth0 address 02:00:00:00:00:02");
        run("sysctl -qw net.ipv6.conf.host7.addr_gen_mode=1");
        RUN_THERE(world, "sysctl -qw net.ipv6.conf.eth0.addr_gen_mode=1");
        run("ip address add 10.7.0.1/24 dev host7 && ip link set host7 up");
        RUN_THERE(world, "ip address add 10.7.0.2/24 dev eth0");
        RUN_THERE(world, "ip address add 2001:db8::2/64 dev eth0 nodad");
        RUN_THERE(world, "ip link set eth0 up");
}

static size_t find_with(const struct world *world, const int *own, size_t n_own, struct veth *ways)
{
        struct veth_search search = {
                .here_fd = world->here_fd, .there_fd = world->there_fd, .own_fds = own, .n_own = n_own};
        _cleanup_(rtnl_closep) struct rtnl *here = NULL;
        size_t n = 99;

        assert_int_equal(rtnl_open(-1, 0, &here), 0);
        search.here = here;
        assert_int_equal(veth_find(&search, ways, VETH_WAYS_MAX, &n), 0);
        return n;
}

static size_t find(const struct world *world, struct veth *ways)
{
        return find_with(world, NULL, 0, ways);
}

static bool has(const struct address *list, size_t n, const char *text)
{
        struct address address;

        assert_int_equal(address_parse(text, &address), 0);
        for (size_t i = 0; i < n; i++)
                if (memcmp(&list[i], &address, sizeof(address)) == 0)
                        return true;
        return false;
}

static void a_veth_is_known_with_both_its_ends(void **state)
{
        struct world *world = world_of(state);
        struct veth ways[VETH_WAYS_MAX];

        veth_add(world);
        RUN_THERE(world, "ip route add default via 10.7.0.9");
        assert_int_equal(find(world, ways), 1);
        assert_int_equal(ways[0].ifindex, 77);
        assert_string_equal(ways[0].name, "eth0");
        assert_string_equal(ways[0].host_name, "host7");
        assert_memory_equal(ways[0].mac, "\x02\0\0\0\0\x02", 6);
        assert_memory_equal(ways[0].gateway_mac, "\x02\0\0\0\0\x01", 6);
        assert_int_equal(ways[0].n_addresses, 2);
        assert_true(has(ways[0].addresses, 2, "10.7.0.2"));
        assert_true(has(ways[0].addresses, 2, "2001:db8::2"));
        /* Nobody but this host is on the link: the agent's route is believed. */
        assert_int_equal(ways[0].n_gateways, 2);
        assert_true(has(ways[0].gateways, 2, "10.7.0.1"));
        assert_true(has(ways[0].gateways, 2, "10.7.0.9"));
}

static void behind_a_bridge_the_bridge_is_the_gateway_and_nobody_else(void **state)
{
        struct world *world = world_of(state);
        struct veth ways[VETH_WAYS_MAX];

        veth_add(world);
        run("ip address del 10.7.0.1/24 dev host7");
        run("ip link add bridge0 address 02:00:00:00:00:0b type bridge && sysctl -qw "
            "net.ipv6.conf.bridge0.addr_gen_mode=1 && ip link set bridge0 up && ip link set host7 master bridge0");
        RUN_THERE(world, "ip route add default via 10.7.0.9");

        assert_int_equal(find(world, ways), 1);
        assert_int_equal(ways[0].ifindex, 0);
        assert_non_null(strstr(ways[0].detail, "the gateway is another machine"));

        run("ip address add 10.7.0.1/24 dev bridge0");
        assert_int_equal(find(world, ways), 1);
        assert_int_equal(ways[0].ifindex, 77);
        assert_memory_equal(ways[0].gateway_mac, "\x02\0\0\0\0\x0b", 6);
        assert_int_equal(ways[0].n_gateways, 1);
        assert_true(has(ways[0].gateways, 1, "10.7.0.1"));
}

static void an_agent_cannot_take_the_gateways_place(void **state)
{
        struct world *world = world_of(state);
        struct veth ways[VETH_WAYS_MAX];

        veth_add(world);
        RUN_THERE(world, "ip address add 10.7.0.1/24 dev eth0");
        assert_int_equal(find(world, ways), 1);
        assert_false(has(ways[0].addresses, ways[0].n_addresses, "10.7.0.1"));
        assert_true(has(ways[0].addresses, ways[0].n_addresses, "10.7.0.2"));
        RUN_THERE(world, "ip link set eth0 address 02:00:00:00:00:01");
        assert_int_equal(find(world, ways), 1);
        assert_int_equal(ways[0].ifindex, 0);
        assert_non_null(strstr(ways[0].detail, "MAC address"));
}

static void what_else_leads_out_is_told(void **state)
{
        struct world *world = world_of(state);
        struct veth ways[VETH_WAYS_MAX];

        run("nsenter --net=/proc/%d/ns/net ip link add far type veth peer name eth1 netns %d", (int)world->third,
            (int)world->there);
        assert_int_equal(find(world, ways), 1);
        assert_int_equal(ways[0].ifindex, 0);
        assert_non_null(strstr(ways[0].detail, "eth1 is in another namespace than the daemon"));
        /* It stays inside, where the third namespace is the agent's as well. */
        assert_int_equal(find_with(world, &world->third_fd, 1, ways), 0);

        run("ip link add name base type veth peer name base2");
        if (system("ip link add link base name m0 type macvlan 2>/dev/null") != 0)
                return; /* this kernel has none */
        run("ip link set m0 netns %d", (int)world->there);
        assert_int_equal(find_with(world, &world->third_fd, 1, ways), 1);
        assert_string_equal(ways[0].detail, "m0 is no veth, and leads out");
}

static void what_is_built_inside_is_no_way_out(void **state)
{
        struct world *world = world_of(state);
        struct veth ways[VETH_WAYS_MAX];

        assert_int_equal(find(world, ways), 0);
        RUN_THERE(world, "ip link add name one type veth peer name two");
        RUN_THERE(world, "ip link add name bridge0 type bridge");
        assert_int_equal(find(world, ways), 0);
        veth_add(world);
        assert_int_equal(find(world, ways), 1);
        assert_int_equal(ways[0].ifindex, 77);
}

static void a_tap_device_alone_is_a_way_out(void **state)
{
        struct world *world = world_of(state);
        struct veth ways[VETH_WAYS_MAX];

        RUN_THERE(world, "ip tuntap add tap0 mode tap");
        assert_int_equal(find(world, ways), 1);
        assert_int_equal(ways[0].ifindex, 0);
        assert_non_null(strstr(ways[0].detail, "tap device"));
        veth_add(world);
        assert_int_equal(find(world, ways), 1);
        assert_int_equal(ways[0].ifindex, 77);
}

static void piling_up_interfaces_hides_nothing(void **state)
{
        struct world *world = world_of(state);
        struct veth ways[VETH_WAYS_MAX];
        size_t n;

        RUN_THERE(world, "sh -c 'for i in $(seq 70); do ip link add name d$i type bridge; done'");
        veth_add(world);
        n = find(world, ways);
        assert_int_equal(n, 2);
        assert_int_equal(ways[0].ifindex, 77);
        assert_int_equal(ways[0].n_addresses, 2);
        assert_int_equal(ways[1].ifindex, 0);
        assert_non_null(strstr(ways[1].detail, "more interfaces"));
}

static void names_are_made_printable(void **state)
{
        struct world *world = world_of(state);
        struct veth ways[VETH_WAYS_MAX];

        veth_add(world);
        RUN_THERE(world, "ip link set eth0 down");
        RUN_THERE(world, "ip link set eth0 name \"$(printf 'e\\002\\377x')\"");
        assert_int_equal(find(world, ways), 1);
        assert_string_equal(ways[0].name, "e??x");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_veth_is_known_with_both_its_ends),
                TEST(behind_a_bridge_the_bridge_is_the_gateway_and_nobody_else),
                TEST(an_agent_cannot_take_the_gateways_place),
                TEST(what_else_leads_out_is_told),
                TEST(what_is_built_inside_is_no_way_out),
                TEST(a_tap_device_alone_is_a_way_out),
                TEST(piling_up_interfaces_hides_nothing),
                TEST(names_are_made_printable),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
