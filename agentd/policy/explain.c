/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verdict engine over a compiled policy: the same function as in the kernel, with look-ups of our own.
 *
 * The engine walks one array of matches by index. Here every list is its own array: an index is the list's number
 * shifted by 8 bits, plus the offset in it (0: the header). The learned list has a number of its own above all others.
 */
#include "agentd/policy/explain.h"

#include "agentd/policy_decide.h"

enum {
        INDEX_SHIFT = 8,
        INDEX_OFFSET = (1 << INDEX_SHIFT) - 1,
        LIST_LEARNED = (1 << (31 - INDEX_SHIFT)) - 1,
};
_Static_assert((int)MATCH_LIST_MAX <= (int)INDEX_OFFSET, "an offset into a list must fit");

struct explain_tables {
        const struct explain_input *input;
        struct explain_learned learned;
        struct match *header; /* scratch: the engine reads it before it asks again */
};

static __always_inline bool decide_learned(const void *context, __u32 agent_id, const struct address *address,
                                           __u32 version, __u32 *ret_list, __u64 *ret_expires_ns)
{
        const struct explain_tables *tables = context;

        if (!tables->learned.found || (version & POLICY_INGRESS))
                return false;
        *ret_list = (__u32)LIST_LEARNED << INDEX_SHIFT;
        *ret_expires_ns = tables->learned.expires_ns;
        return true;
}

static __always_inline __u32 decide_list(const void *context, __u32 version, const struct address *address)
{
        const struct explain_tables *tables = context;

        const struct compiled_policy *compiled = tables->input->compiled;

        return compiled_table_find(version & POLICY_INGRESS ? &compiled->ingress : &compiled->egress, address)
               << INDEX_SHIFT;
}

static __always_inline const struct match *decide_match(const void *context, __u32 index)
{
        const struct explain_tables *tables = context;
        const struct compiled_policy *compiled = tables->input->compiled;
        __u32 number = index >> INDEX_SHIFT, offset = index & INDEX_OFFSET;
        const struct match_list *list;

        if (number == LIST_LEARNED)
                list = tables->learned.list;
        else
                list = number < compiled->n_lists ? compiled->lists[number] : NULL;
        if (!list || offset > list->n_matches)
                return NULL;
        if (offset > 0)
                return &list->matches[offset - 1];

        *tables->header = (struct match){.port_low = (__u16)list->n_matches, .rule = RULE_NONE};
        return tables->header;
}

static __always_inline void decide_each(const void *context, __u32 n, struct decide_walk *walk)
{
        for (__u32 i = 0; i < n; i++)
                if (decide_step(context, i, walk))
                        return;
}

void policy_explain(const struct explain_input *input, const struct flow *flow, struct verdict *ret)
{
        struct match header;
        struct explain_tables tables = {.input = input, .header = &header};

        if (input->learned)
                tables.learned = input->learned(input->learned_context, &flow->remote);
        /* A list that is not there is as good as one that was not learned. */
        tables.learned.found = tables.learned.found && tables.learned.list;
        policy_decide(&tables, 1, WORD_MAKE(1, 1, input->word_flags), input->now_ns, flow, ret);
}
