/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The arguments of the test programs agentd_verdict and agentd_charge (SEC("tc")): a question to an engine, and its
 * answer in the same place, which a repeated run adds to.
 */
#pragma once

#include "agentd/abi.h"
#include "agentd/flow.h"

enum { VERDICT_QUESTION_OFFSET = 16 };

struct verdict_question {
        struct flow flow;
        __u32 agent_id;
        __u32 reserved;
        __u64 word;
        __u64 now_ns; /* CLOCK_BOOTTIME */
        struct verdict verdict;
};
ABI_SIZE(struct verdict_question, 64);

struct charge_question {
        __u64 now_ns; /* CLOCK_BOOTTIME */
        __u64 paid;   /* bytes, in all calls */
        __u64 calls;
        __u32 set;
        __u32 direction;
        __u32 bytes;
        __u32 flags; /* enum budget_flag */
        __u32 fast;  /* try the lease first, as established packets do */
        __u32 reserved[3];
};
ABI_SIZE(struct charge_question, 56);

/* The argument of agentd_owner (SEC("cgroup_skb/egress")): whose is the socket with these ends? */
enum owner_answer {
        OWNER_UNKNOWN = 0, /* no such socket, or another one */
        OWNER_OTHER = 1,
        OWNER_SELF = 2, /* made in cgroup_id or below it */
};

struct owner_question {
        struct address local, remote;
        __u64 socket_cgroup_id; /* as the dump has it */
        __u64 cgroup_id;        /* of the agent */
        __u16 local_port;       /* host order */
        __u16 remote_port;
        __u8 ipv6; /* of the socket: it may have v4-mapped addresses */
        __u8 tcp;  /* else UDP */
        __u8 reserved[2];
};
ABI_SIZE(struct owner_question, 56);
