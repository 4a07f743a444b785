/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's side of enforcement: programs, maps, links and pins. With the rest of this folder the only place that
 * includes libbpf.
 *
 * Everything is pinned in `directory` (a bpffs): links under links/ID/HOOK, maps by name. A daemon that opens a
 * directory where another one's pins are adopts them: maps are reused after their ABI was checked, links are updated in
 * place to the newly loaded programs. Nothing is ever detached first.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "agentd/abi_event.h"
#include "agentd/abi_policy.h"
#include "agentd/policy/compile.h"

struct datapath;

struct datapath_error {
        char text[256]; /* what this kernel or this privilege lacks, when -EOPNOTSUPP or -EPERM is returned */
};

/* directory: on a bpffs; created 0700. 0; -EOPNOTSUPP/-EPERM: exit 4, with *error; -EPROTO: pins of another ABI;
 * -errno. */
int datapath_new(const char *directory, struct datapath_error *error, struct datapath **ret);
/* Closes descriptors; pins stay. */
void datapath_free(struct datapath *datapath);
/* Unpins and thereby ends everything under directory. Live sockets of agents must be gone first. */
int datapath_uninstall(const char *directory);
/*
 * One agentd for each directory: a second one would adopt the links, sweep the first one's tables away, and hand out
 * the same versions. The lock ends with its descriptor, which may take a moment after SIGKILL: we wait 2 s. 0; -EBUSY;
 * -errno.
 */
int datapath_lock(const char *directory, int *ret_fd);

/* The pins' directory of this ABI under the root (AGENTD_BPFFS or /sys/fs/bpf): ROOT/agentd/vN. Mounts a bpffs at
 * /sys/fs/bpf when none is there. ret: to be freed. */
int datapath_directory(const char *root, struct datapath_error *error, char **ret);

/* Agents. id: 1 .. AGENT_MAX-1, free. Attaches deny-all first and returns when every hook holds. cgroup_fd: a v2
 * directory. */
int datapath_attach(struct datapath *datapath, __u32 agent_id, int cgroup_fd, __u64 cgroup_id, const char *name);
/* Denies (no policy) and then removes links and state. The agent's sockets must be destroyed or the cgroup empty. */
int datapath_detach(struct datapath *datapath, __u32 agent_id);
struct agent_entry *datapath_agent(struct datapath *datapath,
                                   __u32 agent_id); /* the mmapped entry; never NULL for a valid id */
/* Ids that are pinned. Returns how many; ids: AGENT_MAX entries. */
size_t datapath_adopted(struct datapath *datapath, __u32 *ids);
/* Do all links of the agent still hold, at this cgroup, with our programs? 0, or -ENOENT with *ret_hook saying which
 * does not. */
int datapath_verify(struct datapath *datapath, __u32 agent_id, enum hook *ret_hook);

/* Makes good what datapath_verify() misses, and touches nothing else. cgroup_fd: the agent's. */
int datapath_repair(struct datapath *datapath, __u32 agent_id, int cgroup_fd);

/* Policies. Writes the entries of compiled under a new version (*ret_version), nothing uses it yet. -ENOSPC: a table is
 * full. */
int datapath_policy_add(struct datapath *datapath, const struct compiled_policy *compiled, __u32 *ret_version);
/* A second after the last agent has left the version: packets in flight may still look it up. */
int datapath_policy_remove(struct datapath *datapath, __u32 version);
/* Removes the entries of every version that this daemon has not added: what an earlier one left. When all agents are
 * published. */
int datapath_policies_sweep(struct datapath *datapath);
/* One store: the agent's packets meet the new word from here on. Returns the generation. */
struct datapath_limits {
        __u16 first; /* the set of class 0 in this version; 0 with count 1: no limits at all */
        __u16 count; /* classes; rules of others are denied */
};
__u32 datapath_agent_publish_limits(struct datapath *datapath, __u32 agent_id, __u32 version, __u32 flags,
                                    struct datapath_limits limits);
/* For a policy without limits. */
__u32 datapath_agent_publish(struct datapath *datapath, __u32 agent_id, __u32 version, __u32 flags);
__u32 datapath_generation(const struct datapath *datapath);

/* Learned addresses. Writes or renews the entry of (agent, address): for version, under list; keeps the other slot. */
int datapath_learned_set(struct datapath *datapath, __u32 agent_id, const struct address *address, __u64 expires_ns,
                         __u32 version, const struct match_list *list);
int datapath_learned_get(struct datapath *datapath, __u32 agent_id, const struct address *address,
                         struct learned_entry *ret);
int datapath_learned_remove(struct datapath *datapath, __u32 agent_id, const struct address *address);
int datapath_learned_name_set(struct datapath *datapath, __u32 agent_id, const struct address *address,
                              const char *name, __u64 expires_ns);
int datapath_learned_name_remove(struct datapath *datapath, __u32 agent_id, const struct address *address,
                                 const char *name);
/* Every stored name, for a new daemon. */
int datapath_learned_names(struct datapath *datapath,
                           void (*function)(void *context, const struct learned_name_key *,
                                            const struct learned_name *),
                           void *context);

/* Listeners. */
int datapath_listener_set(struct datapath *datapath, __u64 netns_cookie, __u32 agent_id, __u16 port);
int datapath_listener_remove(struct datapath *datapath, __u64 netns_cookie, __u32 agent_id, __u16 port);
/* Listeners die with their daemon: a new one forgets the old one's before it opens its own. */
int datapath_listeners_clear(struct datapath *datapath);
/* The server that a redirected look-up named: by the client's port. 0 or -ENOENT. */
int datapath_asked(struct datapath *datapath, __u32 agent_id, __u8 ip_protocol, __u16 source_port,
                   struct address *ret_server);

/* Counters: sums over CPUs. */
int datapath_counters(struct datapath *datapath, __u32 agent_id, struct agent_counters *ret);
int datapath_traffic(struct datapath *datapath, __u32 agent_id, __u64 ret_packets[2], __u64 ret_bytes[2]);

/* Asks the kernel's own engine (BPF_PROG_TEST_RUN): question->verdict is written. For `explain` and tests. 0 or -errno.
 */
struct verdict_question;
int datapath_verdict(struct datapath *datapath, struct verdict_question *question);
/* The map of TCP sockets that a remote end has begun: borrowed, for sock_diag_mark(). */
int datapath_inbound_fd(const struct datapath *datapath);

/* Events. Both descriptors become readable; consume calls back for each record and returns how many. */
typedef void (*datapath_record_fn)(void *context, const void *record, size_t size);
int datapath_events_fd(struct datapath *datapath);
int datapath_events_consume(struct datapath *datapath, datapath_record_fn verdicts, datapath_record_fn captures,
                            void *context);

struct datapath_usage {
        const char *map;
        __u32 entries, capacity;
};
size_t datapath_usage(struct datapath *datapath, struct datapath_usage *ret, size_t capacity);
