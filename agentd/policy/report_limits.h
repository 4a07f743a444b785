/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Budgets and rates in reports. Internal to report*.c.
 */
#pragma once

#include "agentd/policy/judge.h"
#include "agentd/policy/limits.h"
#include "agentd/policy/report.h"

/* [{bytes, per, direction, shared, on_exhausted, policy, file, line}] */
json_t *report_budgets_json(const struct budget *budgets, size_t n);
/* {NAME: how many, per, burst}, or null. */
json_t *report_rate_json(const struct rate *rate, const char *name);
/* The `budget` and `rate` of a rule or policy, a line each, with indent in front. */
void report_limits_text(const json_t *object, const char *indent, FILE *out);
/* " 100 look-ups a second, 20 at once" */
void report_rate_text(const json_t *rate, const char *name, const char *what, FILE *out);

/*
 * Sets "budgets" and "budget_left" of a verdict. A spent budget turns an allow into a deny with its reason; true: it
 * did, and "detail" and "suggestion" are set.
 */
bool report_explain_budgets(json_t *explain, const struct explain_input *input, const struct judgement *judgement);
void report_explain_budgets_text(const json_t *explain, FILE *out);
