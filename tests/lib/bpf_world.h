/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The world of tests that meet the kernel: a mount and a network namespace of their own, a BPF file system in it, a
 * cgroup below which agents stand, and an open datapath. All of it is gone when the process is.
 *
 * A socket belongs to the cgroup where it was made, and the hooks go by that: bpf_world_socket() enters the agent's
 * cgroup, makes the socket, and leaves again.
 */
#pragma once

#include <sys/types.h>

#include "agentd/agent/cgroup.h"
#include "agentd/datapath/datapath.h"

struct bpf_world {
        char *mount_point; /* of the BPF file system */
        char *directory;   /* of the pins */
        struct cgroup_mount mount;
        char *cgroup; /* canonical path of the subtree */
        int home_fd;  /* where the process lives between its visits to agents */
        int origin_fd;
        struct datapath *datapath;
        struct datapath_error error;
};

/* True when this process may do all of it. */
bool bpf_world_possible(void);
/* prefix: of names on the host. The datapath is opened. 0 or -errno (and a word on stderr). */
int bpf_world_new(const char *prefix, struct bpf_world **ret);
void bpf_world_free(struct bpf_world *world);
/* A daemon's death and its successor: closes the datapath, opens it again. */
int bpf_world_reopen(struct bpf_world *world);

/* A cgroup below the world's. */
int bpf_world_cgroup(struct bpf_world *world, const char *name, int *ret_fd, __u64 *ret_id);
int bpf_world_cgroup_remove(struct bpf_world *world, const char *name);
int bpf_world_socket(struct bpf_world *world, int cgroup_fd, int family, int type, int protocol, int *ret_fd);

/* A policy for the kernel, from a table. prefix NULL: the name a.example. */
struct bpf_rule {
        const char *prefix;
        bool deny;
        __u8 protocols;
        __u16 low, high;
        bool ingress; /* these stand last */
};

struct bpf_policy {
        struct policy model;
        struct compiled_policy *compiled;
        __u32 version; /* what datapath_policy_add() gave */
};

/* Compiles and adds to the world's datapath. */
int bpf_policy_new(struct bpf_world *world, const struct bpf_rule *rules, size_t n_rules, struct bpf_policy **ret);
/* Leaves the kernel's side alone. */
void bpf_policy_free(struct bpf_policy *policy);
/* The agent learns this address for a.example under the policy. */
int bpf_policy_learn(struct bpf_world *world, const struct bpf_policy *policy, __u32 agent_id, const char *address,
                     __u64 expires_ns);
