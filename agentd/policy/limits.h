/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Budgets and rates of the model: what they are called, when two are one, and their lifetime.
 */
#pragma once

#include "agentd/policy/policy.h"

/*
 * Budgets of one scope that count the same bytes into the same ledger: period, directions and sharing. A scope has at
 * most one budget in each slot.
 */
enum { BUDGET_SLOTS = PERIOD_MAX * BUDGET_BOTH * 2 };
size_t budget_slot(const struct budget *budget); /* below BUDGET_SLOTS */

/* "day", "month/both", "total/ingress": what stands behind the scope. Less than BUDGET_TEXT_MAX bytes. */
enum { BUDGET_TEXT_MAX = 32 };
const char *budget_format(const struct budget *budget, char *buffer);

/* The scope of a rule's ledgers: its `name`, else its domain or cidr, and its ports where it is not about all of TCP
 * and UDP. To be freed; NULL: no memory. */
char *rule_scope(const struct rule *rule, const char *name);

/*
 * "agent", "claude", "shared", "shared/claude", and behind it a slash and suffix. Read from its end, a scope comes
 * apart in one way only, so two scopes of an agent are never the same text: that of a rule called "agent" is
 * "rule/agent". rule: NULL for the agent as a whole. owner: after "shared", or NULL. To be freed; NULL: no memory.
 */
char *limit_scope(const struct rule *rule, bool shared, const char *owner, const char *suffix);

bool rule_has_limits(const struct rule *rule);

/* Do they say the same? Where they stand does not matter. */
bool budgets_equal(const struct budget *a, size_t n_a, const struct budget *b, size_t n_b);
bool rate_equal(const struct rate *a, const struct rate *b);
bool rule_limits_equal(const struct rule *a, const struct rule *b);
bool policy_limits_equal(const struct policy *a,
                         const struct policy *b); /* of the agent as a whole; not of its rules */

/* A deep copy; NULL with n 0 as well. 0 or -ENOMEM. */
int budgets_copy(const struct budget *budgets, size_t n, struct budget **ret);
void budgets_free(struct budget *budgets, size_t n);
