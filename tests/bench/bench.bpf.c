/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What agentd's programs are measured against: programs that do nothing, and a packet filter in the shape of systemd's
 * IPAddressAllow= with IPAddressDeny=any and IPAccounting= (a copy of the address by a helper, an LPM look-up in the
 * allow list and one in the deny list, two counters), of our own writing.
 */
#include <linux/types.h>

#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "agentd/abi.h"

enum { ACCESS_ALLOWED = 1, ACCESS_DENIED = 2 };

SEC("cgroup_skb/egress")
int empty_egress(struct __sk_buff *skb)
{
        return 1;
}

SEC("cgroup_skb/ingress")
int empty_ingress(struct __sk_buff *skb)
{
        return 1;
}

SEC("tc")
int empty_tc(struct __sk_buff *skb)
{
        return -1;
}

SEC("cgroup/connect4")
int empty_connect4(struct bpf_sock_addr *ctx)
{
        return 1;
}

/* What a system call costs that is denied by a program that does nothing else. */
SEC("cgroup/sendmsg4")
int denying_sendmsg4(struct bpf_sock_addr *ctx)
{
        return 0;
}

struct lpm_key {
        __u32 prefix_length;
        __u8 address[16];
};

struct lpm_key4 {
        __u32 prefix_length;
        __be32 address;
};

struct lpm4 {
        __uint(type, BPF_MAP_TYPE_LPM_TRIE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 1 << 21);
        __type(key, struct lpm_key4);
        __type(value, __u64);
} allow4 SEC(".maps"), deny4 SEC(".maps");

struct lpm6 {
        __uint(type, BPF_MAP_TYPE_LPM_TRIE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __uint(max_entries, 1 << 10);
        __type(key, struct lpm_key);
        __type(value, __u64);
} allow6 SEC(".maps"), deny6 SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_ARRAY);
        __uint(max_entries, 2);
        __type(key, __u32);
        __type(value, __u64);
} accounting SEC(".maps");

static __always_inline void account(__u32 index, __u64 n)
{
        __u64 *value = bpf_map_lookup_elem(&accounting, &index);

        if (value)
                __sync_fetch_and_add(value, n);
}

static __always_inline int list_judge(struct __sk_buff *skb, bool egress)
{
        __u32 access = 0;

        if (skb->protocol == bpf_htons(0x0800)) {
                struct lpm_key4 key = {.prefix_length = 32};

                bpf_skb_load_bytes(skb, egress ? 16 : 12, &key.address, sizeof(key.address));
                if (bpf_map_lookup_elem(&allow4, &key))
                        access |= ACCESS_ALLOWED;
                if (bpf_map_lookup_elem(&deny4, &key))
                        access |= ACCESS_DENIED;
        } else if (skb->protocol == bpf_htons(0x86dd)) {
                struct lpm_key key = {.prefix_length = 128};

                bpf_skb_load_bytes(skb, egress ? 24 : 8, key.address, sizeof(key.address));
                if (bpf_map_lookup_elem(&allow6, &key))
                        access |= ACCESS_ALLOWED;
                if (bpf_map_lookup_elem(&deny6, &key))
                        access |= ACCESS_DENIED;
        }
        if (access == ACCESS_DENIED)
                return 0;
        account(0, 1);
        account(1, skb->len);
        return 1;
}

SEC("cgroup_skb/egress")
int list_egress(struct __sk_buff *skb)
{
        return list_judge(skb, true);
}

SEC("cgroup_skb/ingress")
int list_ingress(struct __sk_buff *skb)
{
        return list_judge(skb, false);
}

char bench_license[] SEC("license") = "Dual BSD/GPL";
