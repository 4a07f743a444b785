/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Unix sockets: which addresses an agent may not connect or send to. Shared by the hook that sees the address as the
 * agent spells it (unix.bpf.c) and the one that sees the address as its owner has bound it (lsm.bpf.c).
 *
 * A path can be spelled in many ways. A plain one (absolute, no empty, "." or ".." component, not below /proc) is
 * looked up whole; every other one says nothing about where it leads and is looked up by its last component.
 */
#pragma once

#include "agentd/abi_unix.h"
#include "bpf/emit.h"

/* Made by the daemon: whichever of the two objects is loaded first or at all. */
struct {
        __uint(type, BPF_MAP_TYPE_LPM_TRIE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 1 << 16);
        __type(key, struct unix_key);
        __type(value, __u32);
} unix_denied SEC(".maps");

enum { UNIX_BUFFER = 128, UNIX_AF = 1 };

struct unix_name {
        __u32 length; /* of path, without a closing NUL */
        __u8 path[UNIX_BUFFER];
};

/* enum unix_answer, or 0. */
static __always_inline __u32 unix_found(struct unix_key *key, __be32 version, __u8 kind, __u32 bytes)
{
        const __u32 *answer;

        key->prefix_length = UNIX_KEY_HEAD_BITS + 8 * bytes;
        key->version = version;
        key->kind = kind;
        answer = bpf_map_lookup_elem(&unix_denied, key);
        return answer ? *answer : 0;
}

/* In the version's own list, and in the shared one. */
static __always_inline __u32 unix_listed(struct unix_key *key, __be32 version, __u8 kind, __u32 bytes)
{
        __u32 answer = unix_found(key, version, kind, bytes);

        if (answer)
                return answer;
        if (unix_found(key, version, UNIX_NO_DEFAULTS, 0))
                return 0;
        return unix_found(key, UNIX_SHARED, kind, bytes);
}

/* A path being looked at, byte by byte. Everything that may index is masked where it is kept. */
struct unix_shape {
        const struct unix_name *name;
        __u32 last;   /* where the last component begins */
        __u32 length; /* of the component so far */
        __u8 plain;
        __u8 dots; /* the component has nothing but dots */
};

static __always_inline bool unix_is_below_proc(const __u8 *path)
{
        return path[0] == '/' && path[1] == 'p' && path[2] == 'r' && path[3] == 'o' && path[4] == 'c' && path[5] == '/';
}

static long unix_shape_step(__u32 i, struct unix_shape *shape)
{
        __u8 c;

        if (i >= UNIX_PATH_MAX_BYTES)
                return 1;
        c = shape->name->path[i];
        if (c == 0)
                return 1;
        if (c == '/') {
                if (i > 0 && shape->dots && shape->length <= 2)
                        shape->plain = 0;
                shape->last = (i + 1) & (UNIX_BUFFER - 1);
                shape->length = 0;
                shape->dots = 1;
        } else {
                shape->length = (shape->length + 1) & (UNIX_BUFFER - 1);
                if (c != '.')
                        shape->dots = 0;
        }
        return 0;
}

/* bpf_loop(): a loop of clang's has a back edge that is no jump, which Linux 6.1 refuses ("back-edge from insn"). */
static __always_inline void unix_shape(struct unix_shape *shape, const struct unix_name *name)
{
        shape->name = name;
        shape->plain = name->path[0] == '/' && !unix_is_below_proc(name->path);
        shape->dots = 1;
        bpf_loop(UNIX_PATH_MAX_BYTES, unix_shape_step, shape, 0);
        if (shape->dots && shape->length <= 2)
                shape->plain = 0;
}

/*
 * Is this address denied? enum unix_answer, or 0. The version's own list, then the defaults. A name of no bytes (an
 * unnamed socket) is none.
 */
static __noinline int unix_denies(struct unix_name *name, __u32 version)
{
        struct unix_shape shape = {};
        struct unix_key key = {};
        __be32 key_version = bpf_htonl(version);
        __u32 length;

        if (!name || name->length == 0)
                return 0;
        if (name->path[0] == 0) {
                __builtin_memcpy(key.name, name->path + 1, UNIX_PATH_MAX_BYTES - 1);
                return unix_listed(&key, key_version, UNIX_ABSTRACT, UNIX_PATH_MAX_BYTES);
        }

        unix_shape(&shape, name);
        if (shape.plain) {
                __builtin_memcpy(key.name, name->path, UNIX_PATH_MAX_BYTES);
                return unix_listed(&key, key_version, UNIX_PATH, UNIX_PATH_MAX_BYTES + 1);
        }
        length = UNIX_PATH_MAX_BYTES - shape.last;
        asm volatile("" : "+r"(length));
        if (length > UNIX_PATH_MAX_BYTES) /* a path whose last byte is a '/' leads to no socket */
                return 0;
        if (length > 0 && bpf_probe_read_kernel(key.name, length, name->path + shape.last) < 0)
                return UNIX_DENIED;
        return unix_listed(&key, key_version, UNIX_NAME, UNIX_PATH_MAX_BYTES + 1);
}

/* What no other hook can tell: which kind of socket. True when it may be all the same (audit mode). */
static __always_inline bool emit_socket(__u32 agent_id, __u64 word, __u8 hook, __u8 reason, __u8 family,
                                        __u8 ip_protocol, const struct unix_name *name)
{
        struct agent_counters *exact = emit_counters(agent_id);
        struct origin origin = {};
        struct socket_record *record;
        struct agent_entry *agent;
        __u32 index = reason & (REASON_MAX - 1);
        bool would = (WORD_FLAGS(word) & WORD_AUDIT) && reason != REASON_QUARANTINE && reason != REASON_NO_POLICY;
        __u64 before;

        asm volatile("" : "+r"(index));
        index &= REASON_MAX - 1;
        if (exact && would)
                __sync_fetch_and_add(&exact->would_deny[index], 1);
        else if (exact)
                __sync_fetch_and_add(&exact->denied[index], 1);

        before = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
        record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);
        if (!record) {
                if (exact)
                        __sync_fetch_and_add(&exact->events_lost, 1);
                return would;
        }
        __builtin_memset(record, 0, sizeof(*record));
        agent = bpf_map_lookup_elem(&agents, &agent_id);
        record->verdict.header.size = sizeof(*record);
        record->verdict.header.kind = RECORD_SOCKET;
        record->verdict.header.abi = AGENTD_ABI_VERSION;
        record->verdict.time_ns = bpf_ktime_get_boot_ns();
        record->verdict.cgroup_id = agent ? agent->cgroup_id : 0;
        record->verdict.agent_id = agent_id;
        record->verdict.generation = WORD_GENERATION(word);
        record->verdict.version = WORD_VERSION(word);
        record->verdict.rule = RULE_NONE;
        record->verdict.action = would ? VERDICT_ALLOW : VERDICT_DENY;
        record->verdict.reason = reason;
        record->verdict.hook = hook;
        record->verdict.direction = DIRECTION_EGRESS;
        record->verdict.ip_protocol = ip_protocol;
        emit_process(&record->verdict, &origin, NULL, true);
        record->family = family;
        if (name) {
                record->path_length = name->length;
                __builtin_memcpy(record->path, name->path, UNIX_PATH_MAX_BYTES);
        }
        bpf_ringbuf_submit(record, emit_wake_flag(before, sizeof(*record)));
        return would;
}
