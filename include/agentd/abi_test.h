/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The argument of the test program agentd_verdict (SEC("tc")): a question to the verdict engine and its answer.
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
