/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A cgroup path that may be a glob: which directories match, and what an agent found by it is called.
 *
 * `*`, `?` and `[...]` stay within one part. A leading dot is nothing special (a hidden cgroup would be an agent that
 * nobody enforces), and a backslash is an ordinary character: systemd has them in names.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agentd/abi.h"
#include "agentd/agent/cgroup.h"

/* Both canonical. */
bool pattern_matches(const char *pattern, const char *path);

struct pattern_visitor {
        /* Before a directory is looked into: a part of the pattern is searched for in there. May be NULL. */
        void (*directory)(void *context, int fd, __u64 id);
        /* 0 to go on; anything else ends the walk and is returned by it. */
        int (*match)(void *context, const char *path, __u64 id);
};

/* Finds every match below the mount. What disappears meanwhile is skipped. 0, -errno, or what match() returned. */
int pattern_walk(const struct cgroup_mount *mount, const char *pattern, const struct pattern_visitor *visitor,
                 void *context);

/* The name of the agent at path for an entry; salt 0: the plain one where that is possible, otherwise one that is made
 * unique by a hash of path and salt. See watch.h. */
void pattern_agent_name(const char *entry, const char *pattern, const char *path, unsigned salt,
                        char ret[AGENT_NAME_MAX]);
