/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One question to the daemon over its control socket, for agentd's own short-lived verbs: connect, ask, answer, all of
 * it before one deadline. agentctl has a client of its own, with streams and a user to talk to.
 */
#pragma once

#include <jansson.h>

#include "agentd/abi.h"

enum { CONTROL_ANSWER_MAX = 16 * 1024 * 1024 }; /* some thousand agents */

/*
 * arguments: stolen; "v", "id" and "verb" are added. until_ms: CLOCK_MONOTONIC. 0 with the result in *ret, a new
 * reference. -EREMOTEIO: the daemon's error; *ret is the answer, with "exit" and "error". -ENOENT, -ECONNREFUSED,
 * -EACCES, ...: it cannot be reached. -ETIMEDOUT. -EBADMSG: what answers is no agentd.
 */
int control_ask(const char *path, const char *verb, json_t *arguments, __u64 until_ms, json_t **ret);
__u64 control_now_ms(void);
