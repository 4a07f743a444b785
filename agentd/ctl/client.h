/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One question to the daemon, and its answer (docs/control.md). Failures are told on stderr here, once; the callers
 * get the exit status.
 */
#pragma once

#include <jansson.h>

#include "agentd/ctl/ctl.h"

enum { CLIENT_TIMEOUT_MS = 30000 };

/*
 * Sends {"v":1,"id":1,"verb":verb,...request} (request is stolen; NULL: no arguments; "v" and "verb" are added) and
 * waits for the answer, timeout_ms at most. CTL_OK with a new reference in *ret; or the status to exit with.
 */
int client_ask(const struct ctl_arguments *arguments, const char *verb, json_t *request, unsigned long long timeout_ms,
               json_t **ret);

/* As client_ask() for a stream: function gets each result, and ends it by returning false. Ends with CTL_OK on SIGINT,
 * SIGTERM and when stdout is closed. */
typedef bool (*client_stream_fn)(const json_t *result);
int client_stream(const struct ctl_arguments *arguments, const char *verb, json_t *request, client_stream_fn function);

/* Is the daemon's socket answering? 0 or -errno; nothing is printed. */
int client_probe(const struct ctl_arguments *arguments, char *ret_path, size_t size);
