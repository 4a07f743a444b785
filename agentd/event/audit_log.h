/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who changed what, kept: DIRECTORY/audit.jsonl, a line for each audit event, which carries the hash of the line
 * before.
 *
 *     {"hash":"SHA-256 of prev and event, in hex","prev":"the hash of the line before, or 64 zeros","event":{...}}
 *
 * A line that is changed, taken out, put in or moved breaks the chain there. What a chain alone cannot show is that its
 * end was cut off: docs/events.md says what helps. Two files of AUDIT_FILE_MAX at most: the older one is audit.jsonl.1.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "agentd/abi.h"

enum { AUDIT_HASH_HEX = 64, AUDIT_FILE_MAX = 16 * 1024 * 1024 };

struct audit_log;

/* Goes on where the file ends; half a line at its end, which a power cut leaves, goes. 0 or -errno. */
int audit_log_open(const char *directory, struct audit_log **ret);
void audit_log_free(struct audit_log *log);
/* event: one line of JSON. On the disk when it returns 0; or -errno: then nothing is written. */
int audit_log_add(struct audit_log *log, const char *event);

struct audit_check {
        size_t entries;  /* of the chain that were read */
        size_t broken;   /* the first line that does not fit, counted from 1 over both files; 0: none */
        const char *why; /* static; NULL: it is whole */
};

/* The events since then (CLOCK_REALTIME; 0: all), oldest first, appended to *ret_events (NULL: none are wanted). Goes
 * on behind a broken line. 0; -ENOENT: there is no file yet; -errno. */
int audit_log_read(const char *directory, __u64 since_ns, json_t *ret_events, struct audit_check *ret);
