/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Agents with real sockets, for cmocka tests. The far end is this process's own socket, made outside of any agent, on
 * addresses of a documentation prefix that the loopback device carries: to the programs they are no loopback.
 *
 * Functions assert; what a failed test leaves behind is taken away by scene_clear() after it.
 */
#pragma once

#include <netinet/in.h>

#include "tests/lib/bpf_world.h"

#define SCENE_FAR "198.51.100.1" /* .2 is there as well */

enum { SCENE_AGENT = 11, SCENE_OTHER = 12, SCENE_PORT = 7007 };

struct scene {
        struct bpf_world *world;
        __u32 id;
        int cgroup_fd;
        __u64 cgroup_id;
        int server_fd; /* UDP, at SCENE_FAR, SCENE_PORT (the next port for SCENE_OTHER) */
};

/* cmocka's fixtures. The state is a struct bpf_world, or NULL where there are no rights for it: then skip(). */
int scene_world_up(void **state);
int scene_world_down(void **state);
int scene_clear(void **state);

struct scene scene_enter(struct bpf_world *world, __u32 id);
void scene_attach(struct scene *scene);
void scene_leave(struct scene *scene);
struct bpf_policy *scene_publish(struct scene *scene, const struct bpf_rule *rules, size_t n);
void scene_withdraw(struct scene *scene, struct bpf_policy *policy);

struct sockaddr_in scene_far_end(const char *address, __u16 port);
/* type: SOCK_DGRAM or SOCK_STREAM, of the agent. */
int scene_socket(struct scene *scene, int type);
/* 0 or the errno. */
int scene_send(int fd, const char *address, __u16 port);
int scene_connect(int fd, const char *address, __u16 port);
/* Returns when what was sent has been judged and delivered. Loopback does that before sendto() returns, but not always
 * before Linux 6.4. */
void scene_settle(void);
/* How many datagrams the server has got since the last call. Settles first, as scene_counters() does. */
unsigned scene_arrived(const struct scene *scene);

struct agent_counters scene_counters(const struct scene *scene);
__u64 scene_now_ns(void);
