/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sockets of an agent's own cgroup that are ours: what they send must be refused, and so shows that what the agent
 * sends is.
 *
 * A socket keeps the cgroup of its creation, and the kernel asks the programs of that cgroup, not of the process that
 * sends (kernel/bpf/cgroup.c: sock_cgroup_ptr(&sk->sk_cgrp_data), for addresses and packets alike). So a child is born
 * into the cgroup, makes the sockets, hands them over and is gone, once for each agent; afterwards a probe is a system
 * call or two of whoever holds them, and the agent sees nothing and can touch nothing of it.
 *
 * They live in a network namespace of their own from which nothing leaves (netns_sink.h): a probe that is let through
 * goes nowhere.
 */
#pragma once

#include <stdbool.h>

#include "agentd/abi.h"
#include "agentd/util/cleanup.h"

enum probe_kind {
        PROBE_CONNECT4,
        PROBE_SENDMSG4,
        PROBE_PACKET4, /* a ping socket's: no system call hook sees it */
        PROBE_CONNECT6,
        PROBE_SENDMSG6,
        PROBE_PACKET6,
        PROBE_MAX,
};

enum { PROBE_SOCKETS = 4, PROBE_PORT = 9 /* discard */ };

struct probe_sockets {
        int fds[PROBE_SOCKETS]; /* UDP, ping; IPv4, IPv6. -1: this host has no such family */
        __u64 cookies[PROBE_SOCKETS];
};

#define PROBE_SOCKETS_NONE ((struct probe_sockets){.fds = {-1, -1, -1, -1}})

/* The namespace. 0 or -errno. */
int prober_new(int *ret_netns_fd);
/*
 * Waits at most timeout_ms for the child. 0; -EAGAIN: the cgroup is frozen, nothing in it can run; -ETIMEDOUT; -EPERM:
 * the cgroup's programs refuse the sockets; -errno. *ret is PROBE_SOCKETS_NONE on failure.
 */
int prober_open(int netns_fd, int cgroup_fd, int timeout_ms, struct probe_sockets *ret);
/* Tries, in the cgroup, to make a socket of FAMILY_PROBE with this protocol. -EPERM: refused; 0: let through (no kernel
 * has that family); -EAGAIN, -ETIMEDOUT, -errno as above. */
int prober_family(int netns_fd, int cgroup_fd, int protocol, int timeout_ms);
void probe_sockets_close(struct probe_sockets *sockets);

bool probe_kind_is_ipv4(enum probe_kind kind);
enum hook probe_kind_hook(enum probe_kind kind);
/* Can it be tried at all? */
bool probe_is_possible(const struct probe_sockets *sockets, enum probe_kind kind);
/*
 * One try. -EPERM: refused, by whom the kernel's record tells; 0: it was let through, but for PROBE_PACKET6, where the
 * kernel keeps to itself what has become of it (net/ipv6/ping.c: icmpv6_push_pending_frames()'s value is not read) and
 * its answer has to be looked for; -errno.
 */
int probe_send(const struct probe_sockets *sockets, enum probe_kind kind, const struct address *destination);
/* Has it been answered? Everything is at home in the sink, so it would be, before probe_send() returns. Empties the
 * socket. */
bool probe_came_back(const struct probe_sockets *sockets, enum probe_kind kind);
__u64 probe_cookie(const struct probe_sockets *sockets, enum probe_kind kind);
