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

/* How it stands with a budget's ledger, where somebody knows. */
struct explain_ledger {
        const char *scope; /* what it is called, until the next call; NULL: limit_scope() without an owner */
        __u64 used;
        __u64 limit; /* with what was granted in this window */
};

/* rule: whose budget it is; NULL: the agent's. Both are of the compiled policy. false: not known; *ret is untouched. */
typedef bool (*explain_ledger_fn)(void *context, const struct rule *rule, const struct budget *budget,
                                  struct explain_ledger *ret);

struct explain_input {
        const struct compiled_policy *compiled;
        __u32 word_flags; /* compiled->word_flags, plus WORD_QUARANTINE where it is set */
        explain_learned_fn learned;
        void *learned_context;
        __u64 now_ns;
        explain_ledger_fn ledger; /* for reports; NULL: nothing is known, budgets are shown as they are written */
        void *ledger_context;
};

void policy_explain(const struct explain_input *input, const struct flow *flow, struct verdict *ret);

/*
 * A DEST of the contract: address, CIDR or name, with optional :PORT and /PROTO ("[2001:db8::1]:443/udp"). With "in:"
 * before an address or CIDR it is who wants in, and the port is the agent's.
 */
struct destination {
        char *name;           /* canonical; NULL for an address or CIDR */
        struct prefix prefix; /* when name is NULL */
        bool inbound;
        bool has_port;
        __u16 port;
        __u8 protocol; /* enum protocol_bit; 0: not said (TCP is meant when a port is given or any is enough) */
};

/* 0 or -EINVAL with *ret_error (to be freed) saying what is wrong and what would be right. */
int destination_parse(const char *text, struct destination *ret, char **ret_error);
void destination_clear(struct destination *destination);
