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
#include "bpf/budget.h"
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

/* The budget engine, called from as many threads as a test has: on their CPUs, at the time that the question names. */
SEC("tc")
int agentd_charge(struct __sk_buff *skb)
{
        struct charge_question question;
        int paid;

        if (bpf_skb_load_bytes(skb, VERDICT_QUESTION_OFFSET, &question, sizeof(question)) < 0)
                return -1;
        if (question.fast && budget_pay(question.set, question.direction & 1, question.bytes))
                paid = 1;
        else
                paid = budget_charge_slow(question.set, question.direction & 1, question.bytes, question.now_ns,
                                          question.flags);
        question.calls++;
        question.paid += paid ? question.bytes : 0;
        if (bpf_skb_store_bytes(skb, VERDICT_QUESTION_OFFSET, &question, sizeof(question), 0) < 0)
                return -1;
        return paid;
}
