/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's verdict in user space: policy_decide() over a compiled policy and an agent's learned addresses.
 */
#pragma once

#include "agentd/flow.h"
#include "agentd/policy/compile.h"

/* What the agent has learned about one address; the caller's table. */
struct explain_learned {
        bool found;
        __u64 expires_ns;
        const struct match_list *list;
};

/* Looks up what was learned; context is the caller's. NULL function: nothing was learned. */
typedef struct explain_learned (*explain_learned_fn)(void *context, const struct address *address);

struct explain_input {
        const struct compiled_policy *compiled;
        __u32 word_flags; /* compiled->word_flags, plus WORD_QUARANTINE where it is set */
        explain_learned_fn learned;
        void *learned_context;
        __u64 now_ns;
};

void policy_explain(const struct explain_input *input, const struct flow *flow, struct verdict *ret);

/* A DEST of the contract: address, CIDR or name, with optional :PORT and /PROTO ("[2001:db8::1]:443/udp"). */
struct destination {
        char *name;           /* canonical; NULL for an address or CIDR */
        struct prefix prefix; /* when name is NULL */
        bool has_port;
        __u16 port;
        __u8 protocol; /* enum protocol_bit; 0: not said (TCP is meant when a port is given or any is enough) */
};

/* 0 or -EINVAL with *ret_error (to be freed) saying what is wrong and what would be right. */
int destination_parse(const char *text, struct destination *ret, char **ret_error);
void destination_clear(struct destination *destination);
