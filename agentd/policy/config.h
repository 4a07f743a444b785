/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The configuration file: YAML (libyaml) by a schema table into a struct config.
 *
 * All errors of all files are collected, not the first. Hostile input: bounded size, depth, aliases, memory.
 */
#pragma once

#include "agentd/policy/policy.h"

enum diagnostic_kind {
        DIAGNOSTIC_ERROR,       /* exit 2 */
        DIAGNOSTIC_UNSUPPORTED, /* a key of the contract that this build does not enforce: exit 4 */
        DIAGNOSTIC_WARNING,
};

struct diagnostic {
        enum diagnostic_kind kind;
        char *file;
        unsigned line, column;
        char *text; /* "unknown key 'domians'; did you mean 'domain'?" */
};

struct diagnostics {
        struct diagnostic *items;
        size_t n_items;
};

void diagnostics_clear(struct diagnostics *diagnostics);             /* frees the items */
bool diagnostics_have_errors(const struct diagnostics *diagnostics); /* ERROR or UNSUPPORTED */
/* Exit status of the contract: 2 when there is an ERROR, else 4 when UNSUPPORTED, else 0. */
int diagnostics_exit_status(const struct diagnostics *diagnostics);

/*
 * Reads path and what it includes. 0 and *ret on success (warnings may stand in *diagnostics); -EINVAL with the errors
 * in *diagnostics; -errno when the file itself cannot be read (also described in *diagnostics); -ENOMEM. *diagnostics
 * must be zeroed by the caller, who clears it afterwards.
 */
int config_load(const char *path, struct diagnostics *diagnostics, struct config **ret);

/* The same from memory (fuzzing, `policy validate` over the socket). name: what places say. No includes are followed.
 */
int config_load_buffer(const char *name, const char *text, size_t size, struct diagnostics *diagnostics,
                       struct config **ret);

/* One policy "deny-all" that allows nothing but loopback; no agents. 0 or -ENOMEM. */
int config_deny_all(struct config **ret);
