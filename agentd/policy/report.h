/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a policy says, for people and for programs: `check`, `policy show`, `policy test`, `explain`.
 *
 * Everything is made as JSON first; text is made from that JSON. So the daemon's answer over the socket and the answer
 * from a file look the same, and agentctl prints both with one function.
 */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "agentd/policy/config.h"
#include "agentd/policy/explain.h"

/* JSON functions return a new reference, NULL only for lack of memory. Text functions ignore what they do not know. */

/* {file, line, column, kind: error | unsupported | warning, text} */
json_t *report_diagnostics_json(const struct diagnostics *diagnostics);
/* One line each, `PROGRAM: FILE:LINE:COL: what is wrong; what would be right`; warnings with "warning: " in front. */
void report_diagnostics(const char *program, const struct diagnostics *diagnostics, FILE *out);

/* A policy as enforced, see docs/control.md (policy-show). config: whose agents are listed. */
json_t *report_policy_json(const struct config *config, const struct policy *policy);
void report_policy_text(const json_t *policy, FILE *out);

/* A whole file, valid or (config NULL) not: {valid, file, files, daemon, dns, policies, agents, warnings, errors}. */
json_t *report_check_json(const char *path, const struct config *config, const struct diagnostics *diagnostics);
void report_check_text(const json_t *check, FILE *out);

/* What the agent has learned about the destination's address, where somebody knows. */
struct report_learned {
        const char *name;
        __u64 expires_in_s;
};

/*
 * The verdict for one destination:
 *
 *     {destination, policy, mode, verdict: allow | deny | redirect, allowed, reason, address, name, protocol, port,
 *      direction: egress, or ingress for a destination that wants in,
 *      ports: those that are allowed, where none was asked for, rule, file, line, column, expires_in_s,
 *      budgets: [{scope, limit, per, direction, shared, policy, used, left}], budget_left: the smallest `left`,
 *      detail: a sentence, suggestion: the YAML lines that would allow it}
 *
 * budgets: those that a packet of this flow is charged to, of the agent and of the rule; none where it is denied. used,
 * left and budget_left are null where explain_input.ledger does not know them. Where it says that one is spent, the
 * verdict is deny, budget_exhausted (in audit mode, too: what would be denied).
 * What does not apply is null. text: the destination as it was typed. learned: NULL, or of the address. A name is
 * judged by the domain matcher. A CIDR is allowed when all of it is. Without a port: allowed when any port is. A port
 * without a protocol is a TCP port.
 */
json_t *report_explain_json(const struct explain_input *input, const struct destination *destination, const char *text,
                            const struct report_learned *learned);
void report_explain_text(const json_t *explain, FILE *out);

/* {policy, mode, allowed: all of them, results: [the above]}. -EINVAL with *ret_error (to be freed): a DEST is none. */
int report_policy_test_json(const struct compiled_policy *compiled, char *const destinations[], size_t n_destinations,
                            json_t **ret, char **ret_error);
void report_policy_test_text(const json_t *test, FILE *out);

/*
 * From a configuration alone: prints to out. 0; -EINVAL with *ret_error (to be freed): wrong usage (no such policy, no
 * destination: exit 2); -E2BIG with *ret_error: the policy cannot be compiled (exit 4); -ENOMEM. Of `explain` the first
 * form prints one verdict, of `policy test` the second prints all.
 */
int report_explain(const struct config *config, const char *policy, const char *destination, bool json, FILE *out,
                   bool *ret_allowed, char **ret_error);
int report_policy_test(const struct config *config, const char *policy, char *const destinations[],
                       size_t n_destinations, bool json, FILE *out, bool *ret_all_allowed, char **ret_error);

/* "there is no policy 'x'; did you mean 'y'?" To be freed. */
char *report_unknown_policy(const struct config *config, const char *name);
/* "policy 'x': more than 128 matches at 10.0.0.0/8; ..." for policy_compile()'s -E2BIG. To be freed. */
char *report_too_many_matches(const struct policy *policy, const struct prefix *prefix);
