/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every network namespace of the host that can be found: of its processes, and those that are mounted somewhere.
 */
#pragma once

#include <stddef.h>

#include "agentd/net/netns.h"

enum { NETNS_LIST_MAX = 4096 };

struct netns_list {
        int *fds;
        size_t n;
};

/* wanted: only these; NULL: all. Bounded by NETNS_LIST_MAX; what cannot be opened is left out. 0 or -errno. */
int netns_list_new(const struct netns_identity *wanted, size_t n_wanted, struct netns_list *ret);
void netns_list_clear(struct netns_list *list);
