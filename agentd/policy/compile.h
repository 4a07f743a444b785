/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A policy compiled into the kernel's shape: match lists and the prefixes that lead to them. Pure; no libbpf.
 *
 * `except` and covering prefixes are flattened here: an entry's list holds the matches of every rule whose cidr covers
 * the entry (and whose except does not), denies first, then allows in rule order (but see below), adjacent port ranges
 * of one rule merged. An entry whose list is that of the prefix around it is left out. A rule's number has 16 bits in
 * the kernel: matches of rules from RULE_NONE on are enforced like all others, and their verdicts name no rule.
 *
 * Who pays. A packet is charged to one rule's limits, those of the first match. Where rules have limits, the more
 * specific rule is first among those that a name leads to, and among those of an address, and of equals the one with
 * limits. Where several names lead to an address, rules with limits are first: an unlimited name that shares it is no
 * way around them.
 *
 * Inbound. Who may begin a flow to the agent is a table of its own (struct compiled_table, `ingress`), made in the same
 * way of the ingress rules and of those denies that leave no port out: a deny of some remote ports says nothing about
 * flows that begin there. The matches' ports are the agent's.
 *
 * Denied names. A name's own allows lose the ports that a deny rule for that name takes away; a name that loses all of
 * them is not looked up. It stays a matter of the name: another allowed name on the same (shared) address keeps its
 * ports, as it does when the denied name was never looked up at all.
 */
#pragma once

#include "agentd/abi_policy.h"
#include "agentd/policy/domain.h"
#include "agentd/policy/policy.h"

struct match_list {
        __u32 n_matches;
        struct match matches[]; /* without the header that the kernel's array has */
};

struct compiled_prefix {
        struct prefix prefix;
        __u32 list; /* index into lists; lists are interned: equal lists are one */
};

/* Prefixes and what they lead to. */
struct compiled_table {
        struct compiled_prefix *prefixes; /* sorted by address, then length; hosts (length 128) included */
        __u32 *parents; /* of each prefix: the next shorter one that covers it, UINT32_MAX: none; for _find() */
        size_t n_prefixes;
};

struct compiled_policy {
        const struct policy *policy; /* borrowed: the config outlives it */
        __u32 word_flags;            /* enum word_flag of the policy (never WORD_QUARANTINE) */
        struct match_list **lists;   /* lists[0] is the empty list */
        size_t n_lists;
        struct compiled_table egress, ingress;
        struct domain_set *allow_domains; /* values: rule indices */
        struct domain_set *deny_domains;
        __u16 *class_rules; /* which rule has this class of limits (struct match); [0] is RULE_NONE: the agent's alone
                             */
        __u16 n_classes;    /* at least 1; a rule without budget and rate has class 0 */
};

/*
 * 0, -ENOMEM, -EOVERFLOW: more than LIMIT_CLASSES_MAX - 1 rules have limits; or -E2BIG: more than MATCH_LIST_MAX
 * matches meet at one address (*ret_prefix says where, if not NULL). 100,000 prefixes take well under a second: sort
 * and sweep with a stack of covering prefixes, never n^2.
 */
int policy_compile(const struct policy *policy, struct prefix *ret_prefix, struct compiled_policy **ret);
void compiled_policy_free(struct compiled_policy *compiled);

/* A rule's class of limits: struct match.limits. 0: it has none. */
__u16 compiled_policy_class(const struct compiled_policy *compiled, size_t rule);

/* The list of the longest prefix that contains address: an index into lists, 0 when none does. O(log n). */
__u32 compiled_table_find(const struct compiled_table *table, const struct address *address);

/*
 * The complete list for an address that was learned under these names (canonical): denies that cover it, allows by the
 * names' rules (MATCH_BY_NAME), allows by cidr. The caller frees it. 0; -ENOENT: no name has an allowing rule;
 * -EACCES: every name that has an allowing rule is denied too; -E2BIG; -ENOMEM.
 */
int compiled_policy_learned_list(const struct compiled_policy *compiled, const struct address *address,
                                 const char *const *names, size_t n_names, struct match_list **ret);

/* What one name's rules allow, whatever its addresses are: the MATCH_BY_NAME part of the above. For `explain`. The same
 * results. */
int compiled_policy_name_list(const struct compiled_policy *compiled, const char *name, struct match_list **ret);

/* May this canonical name be looked up? REASON_NONE: yes; REASON_DENY_RULE; REASON_NAME_NOT_ALLOWED. *ret_rule: the
 * rule that decided or RULE_NONE (ret_rule may be NULL). Deny wins. */
enum verdict_reason compiled_policy_name_verdict(const struct compiled_policy *compiled, const char *name,
                                                 __u16 *ret_rule);

/* May an answer for an allowed name carry this address? REASON_NONE, REASON_PRIVATE_ADDRESS or REASON_METADATA. */
enum verdict_reason compiled_policy_address_verdict(const struct compiled_policy *compiled,
                                                    const struct address *address);
