/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The datapath's own state, shared by the files of this folder and by nobody else.
 */
#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <uthash.h>

#include "agentd/abi_budget.h"
#include "agentd/abi_device.h"
#include "agentd/abi_guard.h"
#include "agentd/abi_test.h"
#include "agentd/datapath/datapath.h"
#include "agentd/datapath/extra.h"
#include "agentd/util/macro.h"
#include "bpf/agentd.skel.h"

enum {
        DATAPATH_HOOKS = 12,
        DATAPATH_GUARD_HOOKS = 4,
        DATAPATH_GUARD_LSM = 3, /* the last one may be missing */
        DATAPATH_BATCH = 4096,
        MATCHES_CAPACITY = 1 << 20,
};

/* The hooks in the order of attachment: packets first, so that nothing leaves while the rest follows. */
struct datapath_hook {
        enum hook hook;
        const char *name; /* the pin's */
        enum bpf_attach_type type;
        struct bpf_program *program;
        int program_fd;
        __u32 program_id;
};

struct datapath_agent {
        bool attached;
        int links[DATAPATH_HOOKS]; /* -1: none */
};

/* A hook that may be missing: extra.h. */
struct datapath_extra {
        struct datapath_hook hook;
        bool present;
        char detail[160]; /* why not */
};

struct datapath_guard {
        UT_hash_handle hh; /* key: cgroup_id */
        __u64 cgroup_id;
        int links[DATAPATH_GUARD_HOOKS]; /* -1: none */
};

/* A match list that stands in the kernel's array. Interned per version: a version's lists are freed with it. */
struct list_slot {
        UT_hash_handle hh; /* key: the bytes of list->matches; n in the key's length */
        __u32 index;
        __u32 n_matches;
        struct match matches[];
};

struct policy_slot {
        UT_hash_handle hh; /* key: version */
        __u32 version;
        struct list_slot *lists;
        struct host_key *hosts;
        size_t n_hosts;
        struct cidr_key *cidrs;
        size_t n_cidrs;
};

/* Freed runs of the matches array, by length (header included). */
struct free_run {
        struct free_run *next;
        __u32 index;
};

/* What a key stands for: a ledger or a bucket. */
struct limit_slot {
        UT_hash_handle hh; /* key: key */
        struct limit_id_key key;
        __u32 id;
        __u32 references; /* 0: a former daemon's, taken by nobody since the start */
};

enum set_state {
        SET_FREE = 0,
        SET_OWN = 1,
        SET_FORMER = 2, /* a former daemon's: agents may still be led there, until the sweep */
};

enum { SET_LEDGERS = 2 * LEDGERS_PER_FLOW };

/* The i-th ledger of a set, both directions in a row. 0: none. */
static inline __u32 set_ledger(const struct limit_set *set, size_t i)
{
        return set->ledgers[i / LEDGERS_PER_FLOW][i % LEDGERS_PER_FLOW];
}

struct limit_tables {
        struct ledger *ledgers; /* these five are mmapped */
        struct limit_set *sets;
        struct lease *leases; /* n_cpus runs of LIMIT_SETS_MAX */
        struct bucket *buckets;
        struct budget_clock *clock;
        __u32 n_cpus;
        struct limit_slot *slots;
        struct limit_slot *by_id[LIMIT_BUCKET + 1][LEDGERS_MAX]; /* by enum limit_kind */
        bool held[LIMIT_BUCKET + 1][LEDGERS_MAX];                /* by a set of a former daemon's */
        __u32 next_id[LIMIT_BUCKET + 1];
        __u8 set_states[LIMIT_SETS_MAX]; /* enum set_state */
        __u32 sets_end;                  /* none from here on is in use */
        __u64 leased[LEDGERS_MAX];       /* of one pass over the leases */
};

enum device_kind { DEVICE_KIND_UNKNOWN, DEVICE_KIND_TCX, DEVICE_KIND_CLSACT };

/* The host end of a veth: see device.h. */
struct device_record {
        UT_hash_handle hh; /* key: ifindex */
        __u32 ifindex;
        __u32 slot;
        int link; /* tcx; -1: none */
        bool written;
        struct device device;
};

struct datapath {
        char *directory;
        int lock_fd;
        struct agentd_bpf *skeleton;
        struct datapath_hook hooks[DATAPATH_HOOKS];
        struct datapath_agent agents[AGENT_MAX];
        struct agent_entry *entries;     /* mmapped */
        struct match *matches;           /* mmapped, MATCHES_CAPACITY */
        struct agent_counters *counters; /* mmapped, read only */
        struct ring_buffer *rings;
        datapath_record_fn on_verdict, on_capture;
        void *record_context;
        size_t records_left;
        __u32 generation;
        __u32 next_version;
        struct policy_slot *policies;
        struct free_run *free_runs[MATCH_LIST_MAX + 2];
        __u32 matches_top; /* first index never used */
        __u32 matches_used;
        size_t n_hosts, n_cidrs, n_learned;
        int n_cpus;
        void *line_buffer; /* one struct agent_line for each possible CPU */
        struct limit_tables limits;
        struct datapath_extra extras[EXTRA_MAX];
        int extra_links[AGENT_MAX][EXTRA_MAX]; /* -1: none */
        struct unix_bpf *connect_unix;         /* NULL: not loaded */
        struct lsm_bpf *lsm;                   /* NULL: not loaded */
        __u32 lsm_probe_protocol;
        int unix_denied_fd;
        struct datapath_hook guard_hooks[DATAPATH_GUARD_HOOKS];
        struct datapath_guard *guards;      /* by cgroup id */
        struct guard_bucket *guard_buckets; /* mmapped */
        struct device_record *devices;
        enum device_kind device_kind;
        __u32 next_device_slot;
        bool device_slots_used[DEVICE_SLOTS_MAX];
        bool device_lines_used[DEVICE_LINES_MAX];
        __u64 device_slots_left_ns[DEVICE_SLOTS_MAX]; /* CLOCK_BOOTTIME; 0: never used */
};

/* The cgroups where hooks are attached. make: attached and pinned before *link, an older one, is let go. */
int datapath_link_make(const struct datapath_hook *hook, int cgroup_fd, const char *path, int *link);
bool datapath_link_holds(const struct datapath_hook *hook, int link, __u64 cgroup_id);
void datapath_link_drop(const char *path, int *link);

/* The guard's table of agents; see datapath/guard.h. adopt: when links are adopted; forgets who is no agent any more.
 */
int datapath_guards_adopt(struct datapath *datapath);
void datapath_guards_close(struct datapath *datapath);
int datapath_guard_enter(struct datapath *datapath, __u64 cgroup_id); /* -ENOSPC */
void datapath_guard_leave(struct datapath *datapath, __u64 cgroup_id);
bool datapath_guard_knows(const struct datapath *datapath, __u64 cgroup_id);

int datapath_links_adopt(struct datapath *datapath);
void datapath_links_close(struct datapath *datapath);
int datapath_agent_directory_make(const struct datapath *datapath, __u32 agent_id);
int datapath_devices_adopt(struct datapath *datapath);  /* before the agents' links */
void datapath_devices_sweep(struct datapath *datapath); /* after them: what is left of agents that are gone */
void datapath_devices_close(struct datapath *datapath);
void datapath_devices_drop(struct datapath *datapath, __u32 agent_id); /* all of an agent's */
void datapath_devices_uninstall(const char *directory);
int datapath_probe_mark_choose(volatile __u32 *ret); /* never 0 */
int datapath_policies_adopt(struct datapath *datapath);
void datapath_policies_free(struct datapath *datapath);
/* The index of this list in the kernel under this version; 0 is the empty list. 0, -ENOENT (no such version), -ENOSPC,
 * -errno. */
int datapath_list_intern(struct datapath *datapath, struct policy_slot *policy, const struct match *matches,
                         __u32 n_matches, __u32 *ret_index);
struct policy_slot *datapath_policy_find(struct datapath *datapath, __u32 version);
/* Calls back for every key of a map with its value, in batches. */
int datapath_map_each(int fd, size_t key_size, size_t value_size,
                      int (*function)(void *context, const void *key, const void *value), void *context);

/* Loads what there is; the rest is absent, which is no failure. */
int datapath_extras_load(struct datapath *datapath);
void datapath_extras_close(struct datapath *datapath);
/* The agent's links, as those of the hooks that are always there. */
int datapath_extras_attach(struct datapath *datapath, __u32 agent_id, int cgroup_fd);
void datapath_extras_drop(struct datapath *datapath, __u32 agent_id);
int datapath_extras_verify(const struct datapath *datapath, __u32 agent_id, enum hook *ret_hook);
int datapath_extras_repair(struct datapath *datapath, __u32 agent_id, int cgroup_fd);
size_t datapath_extras_adopt(struct datapath *datapath, __u32 agent_id);

/* Maps the tables of budgets and learns what a former daemon left in them. -EBADMSG, with *error: what is there makes
 * no sense. */
int datapath_limits_adopt(struct datapath *datapath, struct datapath_error *error);
void datapath_limits_close(struct datapath *datapath);

/* Keys. find: NULL when there is none. new: an id that nothing uses, still unknown to all; add: known from here on, to
 * the next daemon too (on failure the slot is freed); drop: forgotten, its ledger or bucket cleared. */
struct limit_slot *datapath_limit_find(struct datapath *datapath, enum limit_kind kind, const char *key);
int datapath_limit_new(struct datapath *datapath, enum limit_kind kind, const char *key, struct limit_slot **ret);
int datapath_limit_add(struct datapath *datapath, struct limit_slot *slot);
void datapath_limit_drop(struct datapath *datapath, struct limit_slot *slot);
int datapath_limit_ids_adopt(struct datapath *datapath);
void datapath_limit_ids_free(struct datapath *datapath);

/* Leases. return: those on one set, back to its ledgers; collect: back to the ledgers, those of all sets that hold this
 * one; leased: what CPUs hold of this one in its window (16 bits); leased_all: of every ledger, into tables->leased. */
void datapath_leases_return(struct limit_tables *tables, __u32 set_id);
void datapath_leases_collect(struct limit_tables *tables, __u32 ledger_id);
__u64 datapath_leased(const struct limit_tables *tables, __u32 ledger_id);
void datapath_leased_all(struct limit_tables *tables);
