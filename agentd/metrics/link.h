/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The monitor's end of the metrics process: the listening socket, the process, its questions.
 *
 * Enforcement never depends on it: an address that is taken, a certificate that cannot be read, a process that dies are
 * told (health, the log), and tried again.
 */
#pragma once

#include <uv.h>

#include "agentd/metrics/page.h"

struct metrics_link;

struct metrics_settings {
        const char *address;                               /* "127.0.0.1:9469", "[::1]:9469", a socket's path */
        const char *certificate, *key, *client_ca, *token; /* files; NULL: none */
};

struct metrics_answer {
        struct page metrics, health; /* both the link's afterwards */
        bool ready;
        char reason[256]; /* why not */
};

/* Writes the pages of this moment; called at most ten times a second, however often is asked. */
typedef void (*metrics_gather_fn)(void *context, struct metrics_answer *ret);

/*
 * program: what to execute ("/proc/self/exe"). settings are copied. 0 or -errno (memory); what else fails is told by
 * metrics_link_problem() and tried again every ten seconds.
 */
int metrics_link_new(uv_loop_t *loop, const char *program, const struct metrics_settings *settings,
                     metrics_gather_fn gather, void *context, struct metrics_link **ret);
void metrics_link_free(struct metrics_link *link);
/* Why nothing is served now; NULL: it is. Valid until the loop runs again. */
const char *metrics_link_problem(const struct metrics_link *link);
pid_t metrics_link_pid(const struct metrics_link *link); /* 0: none */
unsigned int metrics_link_restarts(const struct metrics_link *link);
