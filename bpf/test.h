/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verdict engine as a program of its own: BPF_PROG_TEST_RUN cannot run connect hooks (-ENOTSUPP), so tests ask
 * here. Attached to nothing. The question is the frame's payload, behind a pad of the size of a MAC header and two
 * bytes.
 *
 * Not SEC("syscall"): such a program sleeps, and may not touch an LPM trie ("Sleepable programs can only use array,
 * hash, ringbuf and local storage maps").
 */
#pragma once

#include "agentd/abi_test.h"
#include "bpf/policy.h"

SEC("tc")
int agentd_verdict(struct __sk_buff *skb)
{
        struct verdict_question question;
        int r;

        if (bpf_skb_load_bytes(skb, VERDICT_QUESTION_OFFSET, &question, sizeof(question)) < 0)
                return -1;
        r = policy_verdict(question.agent_id, question.word, question.now_ns, &question.flow, &question.verdict);
        if (bpf_skb_store_bytes(skb, VERDICT_QUESTION_OFFSET, &question, sizeof(question), 0) < 0)
                return -1;
        return r;
}
