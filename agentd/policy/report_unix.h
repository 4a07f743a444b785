/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The parts of a policy's report that are about Unix sockets and about sockets from before.
 */
#pragma once

#include <jansson.h>
#include <stdio.h>

#include "agentd/policy/policy.h"

/* {"deny":[],"defaults":true,"outside":"allow"}; NULL: no memory. */
json_t *report_unix_json(const struct unix_rules *rules);
/* policy: of report_policy_json(). Lines, each after indent. */
void report_unix_text(const json_t *policy, const char *indent, FILE *out);
