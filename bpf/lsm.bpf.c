/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tier 4: security hooks of the agent's cgroup. What no cgroup hook is called for: sockets of families other than
 * AF_INET and AF_INET6, and whose socket it is that a Unix socket is being connected to.
 *
 * The kernel calls these hooks by the cgroup of the process and not by the socket's (bpf_lsm_find_cgroup_shim()
 * compares a pointer's type with a structure's, so it never finds a socket among the arguments): whoever works in the
 * agent's cgroup is judged, with whosever sockets.
 *
 * An object of its own, because it cannot be loaded everywhere: `bpf` must be an active security module, and even then
 * there are kernels that refuse each such program with EPERM. Its maps are those of agentd.bpf.c.
 */
#include <linux/types.h>

#include "bpf/guard_table.h"
#include "bpf/maps.h"
#include "bpf/unix.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/* What is needed of the kernel's types, by name: offsets are the running kernel's. */
struct kernfs_node {
        __u64 id;
} __attribute__((preserve_access_index));

struct cgroup;

struct cgroup_subsys_state {
        struct cgroup *cgroup;
        struct cgroup_subsys_state *parent;
} __attribute__((preserve_access_index));

struct cgroup {
        struct cgroup_subsys_state self;
        struct kernfs_node *kn;
} __attribute__((preserve_access_index));

struct sock_cgroup_data {
        struct cgroup *cgroup;
} __attribute__((preserve_access_index));

struct sock {
        struct sock_cgroup_data sk_cgrp_data;
} __attribute__((preserve_access_index));

struct socket {
        struct sock *sk;
} __attribute__((preserve_access_index));

struct sockaddr_un {
        __u16 sun_family;
        char sun_path[UNIX_PATH_MAX_BYTES];
} __attribute__((preserve_access_index));

struct unix_address {
        int len;
        struct sockaddr_un name[0];
} __attribute__((preserve_access_index));

struct unix_sock {
        struct unix_address *addr;
} __attribute__((preserve_access_index));

enum {
        LSM_ALLOW = 1,
        LSM_DENY = 0, /* EPERM */
        CGROUP_LEVELS = 64,
        PATH_OFFSET = 2, /* of sun_path */
        FAMILY_UNIX = 1,
        FAMILY_INET = 2,
        FAMILY_INET6 = 10,
        FAMILY_NETLINK = 16,
        FAMILY_PACKET = 17,
        FAMILY_ALG = 38,
        FAMILY_XDP = 44,
        SOCKET_RAW = 3,
};

/*
 * The families that stay: INET and INET6 are judged at every packet, UNIX by its address and here, NETLINK ends in the
 * kernel, and so does ALG (ciphers). All others can carry data out of the machine or to another one's programs.
 */
static __always_inline __u8 family_reason(int family, int type)
{
        switch (family) {
        case FAMILY_UNIX:
        case FAMILY_NETLINK:
        case FAMILY_ALG:
                return REASON_NONE;
        case FAMILY_INET:
        case FAMILY_INET6:
                return (type & 0xf) == SOCKET_RAW ? REASON_RAW_SOCKET : REASON_NONE;
        case FAMILY_PACKET:
        case FAMILY_XDP:
                return REASON_PACKET_SOCKET;
        default:
                return REASON_PROTOCOL;
        }
}

/*
 * The daemon's try in the agent's own cgroup: a family that no kernel has, and a protocol number that is chosen by
 * chance at each load. Refused in every mode, counted nowhere.
 */
const volatile __s32 lsm_probe_protocol;

static __always_inline int probe_refuse(__u32 agent_id)
{
        struct agent_entry *agent = bpf_map_lookup_elem(&agents, &agent_id);
        struct verdict_record *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);

        if (!record)
                return LSM_DENY;
        __builtin_memset(record, 0, sizeof(*record));
        record->header.size = sizeof(*record);
        record->header.kind = RECORD_PROBE;
        record->header.abi = AGENTD_ABI_VERSION;
        record->time_ns = bpf_ktime_get_boot_ns();
        record->cgroup_id = agent ? agent->cgroup_id : 0;
        record->flow = LSM_PROBE_COOKIE;
        record->agent_id = agent_id;
        record->rule = RULE_NONE;
        record->action = VERDICT_DENY;
        record->reason = REASON_PROTOCOL;
        record->hook = HOOK_SOCKET_CREATE;
        record->ip_protocol = 255;
        bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
        return LSM_DENY;
}

SEC("lsm_cgroup/socket_create")
int BPF_PROG(agentd_socket_create, int family, int type, int protocol, int kern)
{
        struct agent_line *line = bpf_get_local_storage(&lines, 0);
        __u8 reason = family_reason(family, type);
        struct agent_entry *agent;
        __u32 agent_id = line->agent_id;
        __u64 word;

        /* The kernel's own (NFS, tunnels): not the process's, whoever is current. */
        if (kern || reason == REASON_NONE)
                return LSM_ALLOW;
        if (family == FAMILY_PROBE && lsm_probe_protocol && protocol == lsm_probe_protocol)
                return probe_refuse(agent_id);
        agent = bpf_map_lookup_elem(&agents, &agent_id);
        if (!agent || agent_id == 0)
                return LSM_DENY;
        word = *(volatile __u64 *)&agent->word;
        if (WORD_VERSION(word) == 0)
                reason = REASON_NO_POLICY;
        return emit_socket(agent_id, word, HOOK_SOCKET_CREATE, reason, (__u8)family,
                           reason == REASON_RAW_SOCKET ? (__u8)protocol : 255, NULL)
                       ? LSM_ALLOW
                       : LSM_DENY;
}

/* On a guarded parent: what its packet programs cannot see. */
SEC("lsm_cgroup/socket_create")
int BPF_PROG(agentd_guard_socket_create, int family, int type, int protocol, int kern)
{
        __u8 reason = family_reason(family, type);

        if (kern || (reason != REASON_PACKET_SOCKET && reason != REASON_PROTOCOL) || guard_finds_current())
                return LSM_ALLOW;
        guard_refuse_current();
        return LSM_DENY;
}

/* Was the socket made in this cgroup or below it? */
static __always_inline bool socket_is_of(struct sock *sk, __u64 cgroup_id)
{
        struct cgroup *cgroup = sk->sk_cgrp_data.cgroup;

        for (int i = 0; i < CGROUP_LEVELS && cgroup; i++) {
                if (cgroup->kn->id == cgroup_id)
                        return true;
                cgroup = cgroup->self.parent->cgroup;
        }
        return false;
}

/* The address that the peer's owner has bound: no link and no mount of the agent's changes it. */
static __always_inline int peer_name(struct sock *sk, struct unix_name *ret)
{
        struct unix_sock *peer = bpf_skc_to_unix_sock(sk);
        struct unix_address *address;
        int length;

        if (!peer)
                return -1;
        address = peer->addr;
        if (!address)
                return 0;
        length = address->len;
        if (length <= PATH_OFFSET)
                return 0;
        length -= PATH_OFFSET;
        asm volatile("" : "+r"(length));
        if (length < 0 || length > UNIX_PATH_MAX_BYTES)
                length = UNIX_PATH_MAX_BYTES;
        ret->length = (__u32)length;
        return bpf_probe_read_kernel(ret->path, (__u32)length, address->name[0].sun_path) < 0 ? -1 : 0;
}

static __always_inline int peer_judge(struct sock *peer)
{
        struct agent_line *line = bpf_get_local_storage(&lines, 0);
        struct unix_key key = {};
        struct unix_name name = {};
        struct agent_entry *agent;
        __u32 agent_id = line->agent_id;
        __u32 answer = UNIX_DENIED;
        __u8 reason = REASON_UNIX_SOCKET;
        __u64 word;

        agent = bpf_map_lookup_elem(&agents, &agent_id);
        if (!agent || agent_id == 0)
                return LSM_DENY;
        word = *(volatile __u64 *)&agent->word;
        if (socket_is_of(peer, agent->cgroup_id))
                return LSM_ALLOW;

        if (peer_name(peer, &name) < 0)
                reason = REASON_UNIX_SOCKET;
        else if (WORD_VERSION(word) == 0)
                reason = REASON_NO_POLICY;
        else if (WORD_FLAGS(word) & WORD_QUARANTINE)
                reason = REASON_QUARANTINE;
        else
                answer = unix_denies(&name, WORD_VERSION(word));
        if (answer == 0 && !unix_found(&key, bpf_htonl(WORD_VERSION(word)), UNIX_OUTSIDE, 0))
                return LSM_ALLOW;
        if (answer == UNIX_DENIED_QUIETLY)
                return WORD_FLAGS(word) & WORD_AUDIT ? LSM_ALLOW : LSM_DENY;
        return emit_socket(agent_id, word, HOOK_CONNECT_UNIX, reason, FAMILY_UNIX, 255, &name) ? LSM_ALLOW : LSM_DENY;
}

SEC("lsm_cgroup/unix_stream_connect")
int BPF_PROG(agentd_unix_connect, struct sock *sk, struct sock *peer, struct sock *fresh)
{
        return peer_judge(peer);
}

SEC("lsm_cgroup/unix_may_send")
int BPF_PROG(agentd_unix_send, struct socket *from, struct socket *to)
{
        struct sock *peer = to->sk;

        return peer ? peer_judge(peer) : LSM_DENY;
}

char agentd_license[] SEC("license") = "Dual BSD/GPL";
