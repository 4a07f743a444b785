/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the verdict engine is asked, and what it answers.
 */
#pragma once

#include "agentd/abi.h"

enum flow_flag {
        FLOW_ESTABLISHED = 1, /* not a new connection: an expired name still holds */
        FLOW_LOOPBACK = 2,    /* it stays inside the host: loopback address and, for a packet, the loopback device */
        FLOW_SYSCALL = 4,     /* judged at a system call: a look-up can still be redirected */
        FLOW_FRAGMENT = 8,    /* a fragment after the first: it has no ports */
        FLOW_INBOUND = 16,    /* begun by the remote end: ingress rules judge it, in both directions */
};

struct flow {
        struct address remote;
        __u16 port;       /* of the remote end, host order; 0 where there is none */
        __u8 protocol;    /* one bit of enum protocol_bit */
        __u8 flags;       /* enum flow_flag */
        __u16 local_port; /* the agent's own, host order: FLOW_INBOUND is judged by it; else of no meaning */
        __u16 set;        /* of its limits, where a program hands it on; the engine does not read it */
};
ABI_SIZE(struct flow, 24);

struct verdict {
        __u64 expires_ns; /* the allowing rule holds through a learned name, until then; 0: no such limit */
        __u16 rule;       /* RULE_NONE */
        __u8 action;      /* enum verdict_action */
        __u8 reason;      /* enum verdict_reason */
        __u16 limits;     /* of an allow: the rule's class of limits */
        __u16 reserved;
};
ABI_SIZE(struct verdict, 16);
