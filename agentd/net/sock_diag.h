/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The TCP and UDP sockets of a network namespace (SOCK_DIAG by libmnl): whose they are, where they go, and their end.
 *
 * Used to see whether a live flow still uses a learned address, and to destroy the sockets of an agent that a narrowed
 * policy no longer allows (its programs then get ECONNABORTED instead of a hang). A socket is told apart by its cookie:
 * one that was closed and replaced on the same addresses is never hit.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "agentd/abi.h"
#include "agentd/util/cleanup.h"

struct sock_diag;

struct sock_diag_socket {
        __u8 family;      /* AF_INET, AF_INET6: an AF_INET6 socket may still carry v4-mapped addresses */
        __u8 ip_protocol; /* IPPROTO_TCP, IPPROTO_UDP */
        __u8 state;       /* TCP_ESTABLISHED, ..., as in netinet/tcp.h; UDP: TCP_ESTABLISHED (connected) or TCP_CLOSE */
        bool marked;      /* see sock_diag_mark() */
        __u32 interface;
        struct address local;
        struct address remote; /* with remote_port 0: not connected */
        __u16 local_port;      /* host order */
        __u16 remote_port;
        __u32 inode;     /* 0: no process holds it any more (orphan) */
        __u64 cookie;    /* bpf_get_socket_cookie() */
        __u64 cgroup_id; /* of its creation; 0: not known (TIME_WAIT, SYN_RECV) */
};

/* netns_fd -1: the caller's namespace. */
int sock_diag_open(int netns_fd, struct sock_diag **ret);
void sock_diag_close(struct sock_diag *diag);
DEFINE_CLEANUP(struct sock_diag *, sock_diag_close);

/*
 * From now on a dump tells of each socket whether it has something in this map (BPF_MAP_TYPE_SK_STORAGE; borrowed). The
 * kernel wants CAP_BPF for it: without, dumps fail with -EPERM.
 */
void sock_diag_mark(struct sock_diag *diag, int map_fd);

/* Return 0 to go on; anything else ends the dump and is returned by it. */
typedef int (*sock_diag_fn)(void *context, const struct sock_diag_socket *socket);

/*
 * Every TCP and UDP socket, v4 and v6. cgroup_ids: only sockets of these (sorted ascending; see cgroup_subtree_ids());
 * NULL: all. A dump that the kernel calls inconsistent (EINTR flag) is still complete for sockets that live through it.
 * 0, the callback's value, or -errno.
 */
int sock_diag_each(struct sock_diag *diag, const __u64 *cgroup_ids, size_t n_cgroup_ids, sock_diag_fn function,
                   void *context);

/* 0; -ENOENT: it has gone by itself; -EOPNOTSUPP: the kernel has no CONFIG_INET_DIAG_DESTROY; -EPERM. */
int sock_diag_destroy(struct sock_diag *diag, const struct sock_diag_socket *socket);

/*
 * Destroys every socket of the cgroups (NULL: of the namespace) for which doomed() says true. doomed NULL: all. Goes
 * through all even when one cannot be destroyed and returns the first error. ret_destroyed may be NULL.
 */
int sock_diag_destroy_each(struct sock_diag *diag, const __u64 *cgroup_ids, size_t n_cgroup_ids,
                           bool (*doomed)(void *context, const struct sock_diag_socket *socket), void *context,
                           size_t *ret_destroyed);

/* The inodes of sockets of any family that these processes hold (/proc/PID/fd), sorted, each once. Processes that are
 * gone are left out. *ret: to be freed. */
enum { SOCK_DIAG_HELD_MAX = 1 << 20 };
int sock_diag_held(const pid_t *pids, size_t n_pids, __u64 **ret, size_t *ret_n);
