/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See bpf_scene.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "agentd/util/macro.h"
#include "tests/lib/bpf_scene.h"

int scene_world_up(void **state)
{
        struct bpf_world *world = NULL;

        *state = NULL;
        if (!bpf_world_possible())
                return 0;
        if (bpf_world_new("agbpf", &world) < 0)
                return -1;
        *state = world;
        return system("ip address add 198.51.100.1/24 dev lo && ip address add 198.51.100.2/24 dev lo") == 0 ? 0 : -1;
}

int scene_world_down(void **state)
{
        bpf_world_free(*state);
        return 0;
}

/* What scene_clear() has to take away: by id. */
static struct {
        int cgroup_fd, server_fd;
        bool used;
} standing[2];

static int take_away(struct bpf_world *world, __u32 id)
{
        char name[32];

        snprintf(name, sizeof(name), "agent-%u", id);
        (void)datapath_detach(world->datapath, id);
        close_fd(&standing[id - SCENE_AGENT].cgroup_fd);
        close_fd(&standing[id - SCENE_AGENT].server_fd);
        standing[id - SCENE_AGENT].used = false;
        return bpf_world_cgroup_remove(world, name);
}

int scene_clear(void **state)
{
        struct bpf_world *world = *state;

        if (world && !world->datapath && bpf_world_reopen(world) < 0)
                return -1;
        for (__u32 id = SCENE_AGENT; id <= SCENE_OTHER; id++)
                if (standing[id - SCENE_AGENT].used)
                        (void)take_away(world, id);
        return 0;
}

struct sockaddr_in scene_far_end(const char *address, __u16 port)
{
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};

        assert_int_equal(inet_pton(AF_INET, address, &to.sin_addr), 1);
        return to;
}

static int server(__u16 port)
{
        struct sockaddr_in to = scene_far_end(SCENE_FAR, port);
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), room = 1 << 24;

        assert_true(fd >= 0);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)), 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&to, sizeof(to)), 0);
        return fd;
}

struct scene scene_enter(struct bpf_world *world, __u32 id)
{
        struct scene scene = {.world = world, .id = id};
        char name[32];

        snprintf(name, sizeof(name), "agent-%u", id);
        assert_int_equal(bpf_world_cgroup(world, name, &scene.cgroup_fd, &scene.cgroup_id), 0);
        scene.server_fd = server((__u16)(SCENE_PORT + id - SCENE_AGENT));
        standing[id - SCENE_AGENT].cgroup_fd = scene.cgroup_fd;
        standing[id - SCENE_AGENT].server_fd = scene.server_fd;
        standing[id - SCENE_AGENT].used = true;
        return scene;
}

void scene_attach(struct scene *scene)
{
        assert_int_equal(datapath_attach(scene->world->datapath, scene->id, scene->cgroup_fd, scene->cgroup_id, "test"),
                         0);
}

void scene_leave(struct scene *scene)
{
        int r = take_away(scene->world, scene->id);

        assert_true(r == 0 || r == -ENOENT);
}

struct bpf_policy *scene_publish(struct scene *scene, const struct bpf_rule *rules, size_t n)
{
        struct bpf_policy *policy = NULL;

        assert_int_equal(bpf_policy_new(scene->world, rules, n, &policy), 0);
        datapath_agent_publish(scene->world->datapath, scene->id, policy->version, policy->compiled->word_flags);
        return policy;
}

void scene_withdraw(struct scene *scene, struct bpf_policy *policy)
{
        if (WORD_VERSION(datapath_agent(scene->world->datapath, scene->id)->word) == policy->version)
                datapath_agent_publish(scene->world->datapath, scene->id, 0, 0);
        assert_int_equal(datapath_policy_remove(scene->world->datapath, policy->version), 0);
        bpf_policy_free(policy);
}

int scene_socket(struct scene *scene, int type)
{
        int fd = -1;

        assert_int_equal(bpf_world_socket(scene->world, scene->cgroup_fd, AF_INET, type, 0, &fd), 0);
        return fd;
}

/* 0 or the errno of sending one datagram. */
int scene_send(int fd, const char *address, __u16 port)
{
        struct sockaddr_in to = scene_far_end(address, port);

        return sendto(fd, "datagram", 8, 0, (struct sockaddr *)&to, sizeof(to)) == 8 ? 0 : errno;
}

int scene_connect(int fd, const char *address, __u16 port)
{
        struct sockaddr_in to = scene_far_end(address, port);

        return connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 ? 0 : errno;
}

/* Linux hands what is queued to ksoftirqd while that is awake, until 6.4 ("softirq: Let ksoftirqd do its job", taken
 * back there). */
static bool delivers_late(void)
{
        struct utsname name;
        unsigned major = 0, minor = 0;

        return uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2 || major < 6 ||
               (major == 6 && minor < 4);
}

/* Each CPU's queue is first in, first out: behind what is there a datagram of nobody's is sent, and waited for. */
static void queue_wait(int fd, const struct sockaddr_in *to, int cpu)
{
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        cpu_set_t set;
        char byte;

        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        if (sched_setaffinity(0, sizeof(set), &set) < 0)
                return; /* not ours */
        assert_int_equal(sendto(fd, "", 1, 0, (const struct sockaddr *)to, sizeof(*to)), 1);
        assert_int_equal(poll(&poll_fd, 1, 10000), 1);
        assert_int_equal(recv(fd, &byte, 1, 0), 1);
}

void scene_settle(void)
{
        enum { LEGS = 4 }; /* what is delivered may send more: a handshake has three */
        struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(here);
        cpu_set_t all;
        int fd;

        if (!delivers_late())
                return;
        assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&here, sizeof(here)), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&here, &size), 0);
        for (int leg = 0; leg < LEGS; leg++)
                for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
                        if (CPU_ISSET(cpu, &all))
                                queue_wait(fd, &here, cpu);
        assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
        close(fd);
}

unsigned scene_arrived(const struct scene *scene)
{
        unsigned n = 0;
        char buffer[64];

        scene_settle();

        while (recv(scene->server_fd, buffer, sizeof(buffer), 0) >= 0)
                n++;
        return n;
}

struct agent_counters scene_counters(const struct scene *scene)
{
        struct agent_counters value;

        scene_settle();
        assert_int_equal(datapath_counters(scene->world->datapath, scene->id, &value), 0);
        return value;
}

__u64 scene_now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_BOOTTIME, &now);
        return (__u64)now.tv_sec * NSEC_PER_SEC + (__u64)now.tv_nsec;
}
