/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sets of (protocol, port), as lists of ranges: the form that rules are written in and that the kernel compares.
 */
#pragma once

#include "agentd/policy/policy.h"

struct port_set {
        struct port_range *items;
        size_t n_items, capacity;
};

void port_set_clear(struct port_set *set);
int port_set_add(struct port_set *set, struct port_range range); /* 0 or -ENOMEM */
/* Overlapping and adjacent ranges become one, equal ranges of several protocols too; sorted by port. 0 or -ENOMEM. */
int port_set_merge(struct port_set *set);
/* Takes away what ranges hold. 0 or -ENOMEM. */
int port_set_subtract(struct port_set *set, const struct port_range *ranges, size_t n_ranges);
