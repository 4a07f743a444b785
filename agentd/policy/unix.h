/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * `unix:` of a policy: sockets of this host that an agent may not connect or send to.
 *
 * An item is an absolute path ("/run/docker.sock"), a directory and all below it ("/run/containerd/" and a star), an
 * abstract name ("@name"), or the beginning of one ("@prefix/" and a star, or "@" and a star: all).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agentd/abi_unix.h"
#include "agentd/policy/policy.h"

enum { UNIX_KEYS_OF_ITEM = 2 };

/* NULL: a good item; else what is wrong with it and what would be right. */
const char *unix_item_problem(const char *item);
/* A good item as the kernel's keys. Returns how many were written. */
size_t unix_item_keys(const char *item, __u32 version, struct unix_key ret[UNIX_KEYS_OF_ITEM]);
/* A key without a name: UNIX_NO_DEFAULTS, UNIX_OUTSIDE. */
struct unix_key unix_mark_key(enum unix_kind kind, __u32 version);

/* Helpers of the host that resolve names, run containers or fetch for others. They are every policy's that does not
 * say `defaults: off`. */
extern const char *const unix_defaults[];
extern const size_t unix_n_defaults;
/* How the kernel answers for a default: the first ones are denied without a word. */
enum unix_answer unix_default_answer(size_t i);

bool unix_rules_equal(const struct unix_rules *a, const struct unix_rules *b);
void unix_rules_clear(struct unix_rules *rules);
