/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tier 1 for Unix sockets (Linux 6.7): connect() and sendto() with an address in the file system or an abstract one.
 *
 * An object of its own, because an older kernel does not know the hooks, and they need the kernel's types: the address
 * is read through bpf_cast_to_kern_ctx(). Its maps are those of agentd.bpf.c. Only the address as it is spelled is
 * seen: a symbolic link of another name passes here (docs/threat-model.md).
 */
#include <linux/types.h>

#include "bpf/maps.h"
#include "bpf/unix.h"

#include <bpf/bpf_core_read.h>

/* What is needed of the kernel's types, by name: offsets are the running kernel's. */
struct sockaddr {
        __u16 sa_family;
} __attribute__((preserve_access_index));

struct bpf_sock_addr_kern {
        struct sockaddr *uaddr;
        __u32 uaddrlen;
} __attribute__((preserve_access_index));

void *bpf_cast_to_kern_ctx(void *context) __ksym;

enum { PATH_OFFSET = 2 /* of sun_path in struct sockaddr_un */ };

static __always_inline int unix_judge(struct bpf_sock_addr *ctx)
{
        struct agent_line *line = bpf_get_local_storage(&lines, 0);
        struct bpf_sock_addr_kern *kernel = bpf_cast_to_kern_ctx(ctx);
        struct unix_name name = {};
        struct agent_entry *agent;
        __u32 agent_id = line->agent_id, length = kernel->uaddrlen;
        __u32 answer = UNIX_DENIED;
        __u8 reason = REASON_UNIX_SOCKET;
        __u64 word;

        agent = bpf_map_lookup_elem(&agents, &agent_id);
        if (!agent)
                return 0;
        word = *(volatile __u64 *)&agent->word;

        /* Longer ones and those without an address are refused by the kernel itself, later. */
        if (length > PATH_OFFSET + UNIX_PATH_MAX_BYTES)
                length = PATH_OFFSET + UNIX_PATH_MAX_BYTES;
        if (length > PATH_OFFSET) {
                length -= PATH_OFFSET;
                asm volatile("" : "+r"(length));
                if (length > UNIX_PATH_MAX_BYTES)
                        return 0;
                if (bpf_probe_read_kernel(name.path, length, (void *)kernel->uaddr + PATH_OFFSET) < 0)
                        return 0;
                name.length = length;
        }

        if (WORD_VERSION(word) == 0)
                reason = REASON_NO_POLICY;
        else if (WORD_FLAGS(word) & WORD_QUARANTINE)
                reason = REASON_QUARANTINE;
        else
                answer = unix_denies(&name, WORD_VERSION(word));
        if (answer == 0)
                return 1;
        if (answer == UNIX_DENIED_QUIETLY)
                return (WORD_FLAGS(word) & WORD_AUDIT) != 0;
        return emit_socket(agent_id, word, HOOK_CONNECT_UNIX, reason, UNIX_AF, 255, &name);
}

/* Sections of another family's hooks: this libbpf knows no names for these. The loader sets the type of attachment. */
SEC("cgroup/connect4")
int agentd_connect_unix(struct bpf_sock_addr *ctx)
{
        return unix_judge(ctx);
}

SEC("cgroup/sendmsg4")
int agentd_sendmsg_unix(struct bpf_sock_addr *ctx)
{
        return unix_judge(ctx);
}

char agentd_license[] SEC("license") = "Dual BSD/GPL";
