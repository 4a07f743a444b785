/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Network namespaces of other processes: open them, tell them apart, make sockets inside.
 *
 * A socket stays in the namespace where it was made, so only the making happens inside: the calling thread enters,
 * calls, and leaves again before the function returns. If it cannot leave, the process aborts: a privileged thread that
 * works on in a stranger's namespace is worse than a crash (enforcement is pinned and holds).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "agentd/abi.h"
#include "agentd/util/cleanup.h"

/* Never reused while a descriptor is open; the cookie is never reused at all. */
struct netns_identity {
        __u64 device;
        __u64 inode;
};

/*
 * The namespace of a process. The process is held by a pidfd meanwhile, so that what is opened is that process's and
 * not its pid's next owner's; that the pid is the one meant (its cgroup) is for the caller to check afterwards.
 * -ESRCH: it is gone. -errno.
 */
int netns_open(pid_t pid, int *ret_fd);
int netns_open_self(int *ret_fd);
int netns_identify(int netns_fd, struct netns_identity *ret);
/* What bpf_get_netns_cookie() tells. */
int netns_cookie(int netns_fd, __u64 *ret);
bool netns_identity_equal(const struct netns_identity *a, const struct netns_identity *b);

/* A function's work inside, as short as a socket's making: its own value, or -errno when there is no way in. */
int netns_call(int netns_fd, int (*function)(void *context), void *context);

/* socket(2) inside; netns_fd -1: here. SOCK_CLOEXEC is added. */
int netns_socket(int netns_fd, int family, int type, int protocol, int *ret_fd);

/* A process in each distinct namespace. */
struct netns_process {
        struct netns_identity identity;
        pid_t pid; /* the first of the list that is in there */
};

/*
 * Distinct namespaces of the processes. Those that are gone are left out. Writes at most capacity; *ret_n tells how
 * many there are (may exceed capacity). By /proc/PID/ns/net: opens nothing.
 */
int netns_collect(const pid_t *pids, size_t n_pids, struct netns_process *ret, size_t capacity, size_t *ret_n);

/*
 * Listeners for look-ups: UDP and TCP on 127.0.0.1 and ::1, all on one port, the first of the candidates that is free
 * for all. Descriptors in the order of struct message_listener (UDP4, TCP4, UDP6, TCP6), non-blocking; a family whose
 * loopback address does not exist is left out (-1), but not both. lo is brought up when it is down. -EADDRINUSE: no
 * candidate is free; -EADDRNOTAVAIL: no loopback address at all; -errno. ret_fds is written on success only.
 */
int netns_listen(int netns_fd, const __u16 *ports, size_t n_ports, int ret_fds[4], __u16 *ret_port);

/*
 * A non-blocking socket of IPPROTO_UDP or IPPROTO_TCP that is connected (TCP: connecting) to a server as seen from
 * inside: for `as-asked`. -ENETUNREACH and such: as connect() says.
 */
int netns_connect(int netns_fd, __u8 ip_protocol, const struct address *server, __u16 port, int *ret_fd);

/* lo up? Brings it up. 0; -EPERM; -errno. */
int netns_loopback_up(int netns_fd);
