/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The one matcher of domain names: used for the listener, the learn check, `explain` and the importer.
 *
 * Names are compared in canonical form: lower case A-labels, no trailing dot. A pattern is an exact name;
 * `*.example.com` (every name below, at any depth, never example.com itself); or has `*` inside labels
 * (`api-*.example.com`: stays in that label). A set of n patterns is matched in time that depends on the name's labels,
 * not on n (but for in-label `*`, which are kept apart by their literal suffix).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agentd/abi.h"

/*
 * Canonical form of a name as a user wrote it (UTF-8 allowed: becomes A-labels by libidn2) or as DNS text gave it.
 * ret: NAME_MAX_BYTES. 0; -EINVAL: not a name (empty, empty label, label over 63, name over 253, a character that no
 * host name has: letters, digits, '-', '_' only).
 */
int domain_canonicalize(const char *text, char *ret);

/* The same for a pattern. Also -EDOM: a bare "*" (or "*." / "**"): refused by the contract. */
int domain_pattern_canonicalize(const char *text, char *ret);

bool domain_pattern_is_wildcard(const char *pattern);

/* One canonical pattern against one canonical name. */
bool domain_pattern_matches(const char *pattern, const char *name);

/* A wildcard whose parent is a public suffix (`*.com`, `*.co.uk`, `*.github.io`): a warning. Uses libpsl's built-in
 * list. */
bool domain_pattern_is_too_wide(const char *pattern);

struct domain_set;

/* Patterns are copied. value: any number that the owner wants back (a rule's index). */
int domain_set_new(struct domain_set **ret);
void domain_set_free(struct domain_set *set);
int domain_set_add(struct domain_set *set, const char *pattern, __u32 value); /* canonical pattern; 0 or -errno */
size_t domain_set_size(const struct domain_set *set);

/*
 * All values whose patterns match the canonical name, each once, ascending; at most capacity are written.
 * Returns how many match (may exceed capacity).
 */
size_t domain_set_match(const struct domain_set *set, const char *name, __u32 *ret_values, size_t capacity);
