/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The policies as the worker knows them: which names may be asked for. The monitor's copy decides again before anything
 * is learned, so a mistake here can only refuse or be refused.
 */
#pragma once

#include <stdbool.h>

#include "agentd/abi_message.h"

struct policy_table;
struct dns_policy;

int policy_table_new(struct policy_table **ret);
void policy_table_free(struct policy_table *table);

/* Reads the memfd's lines ("A pattern", "D pattern"). Replaces what stood under the same id; on failure nothing stands
 * there, so that its agents are refused. 0 or -errno; takes nothing. */
int policy_table_set(struct policy_table *table, const struct message_policy *message, int fd);
void policy_table_remove(struct policy_table *table, __u32 policy_id);
const struct dns_policy *policy_table_find(const struct policy_table *table, __u32 policy_id); /* NULL: none */

struct name_verdict {
        enum verdict_reason reason; /* REASON_NONE: may be asked for */
        bool by_wildcard_only;
};

struct name_verdict dns_policy_name(const struct dns_policy *policy, const char *name);
/* A name that an answer leads through: only deny rules count. */
bool dns_policy_denies(const struct dns_policy *policy, const char *name);
/* May an answer carry this address? REASON_NONE, REASON_PRIVATE_ADDRESS or REASON_METADATA. */
enum verdict_reason dns_policy_address(const struct dns_policy *policy, const struct address *address);
