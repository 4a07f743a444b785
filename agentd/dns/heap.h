/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A min-heap of times, intrusive: what is due next among many. Nodes live in their owners and know their place, so any
 * of them can be moved or taken out in O(log n).
 */
#pragma once

#include <stddef.h>

#include "agentd/abi.h"

#define HEAP_OWNER(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))

struct heap_node {
        __u64 time;
        size_t place; /* 1 + index; 0: in no heap */
};

struct heap {
        struct heap_node **nodes;
        size_t n_nodes;
        size_t capacity;
};

void heap_release(struct heap *heap); /* the nodes are their owners' */
/* Puts the node in at time, or moves it there. 0 or -ENOMEM (only when it was not in). */
int heap_set(struct heap *heap, struct heap_node *node, __u64 time);
void heap_remove(struct heap *heap, struct heap_node *node); /* nothing happens when it is in no heap */
struct heap_node *heap_first(const struct heap *heap);       /* NULL: empty */
