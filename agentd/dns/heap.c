/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A binary heap in an array of pointers; each node is told its place whenever it moves.
 */
#include "agentd/dns/heap.h"

#include <errno.h>
#include <stdlib.h>

static void node_place(struct heap *heap, size_t index, struct heap_node *node)
{
        heap->nodes[index] = node;
        node->place = index + 1;
}

static void sift_up(struct heap *heap, size_t index)
{
        struct heap_node *node = heap->nodes[index];

        while (index > 0 && node->time < heap->nodes[(index - 1) / 2]->time) {
                node_place(heap, index, heap->nodes[(index - 1) / 2]);
                index = (index - 1) / 2;
        }
        node_place(heap, index, node);
}

static void sift_down(struct heap *heap, size_t index)
{
        struct heap_node *node = heap->nodes[index];

        for (;;) {
                size_t child = 2 * index + 1;

                if (child + 1 < heap->n_nodes && heap->nodes[child + 1]->time < heap->nodes[child]->time)
                        child++;
                if (child >= heap->n_nodes || heap->nodes[child]->time >= node->time)
                        break;
                node_place(heap, index, heap->nodes[child]);
                index = child;
        }
        node_place(heap, index, node);
}

void heap_release(struct heap *heap)
{
        free(heap->nodes);
        *heap = (struct heap){0};
}

int heap_set(struct heap *heap, struct heap_node *node, __u64 time)
{
        if (node->place == 0) {
                if (heap->n_nodes == heap->capacity) {
                        size_t capacity = heap->capacity ? heap->capacity * 2 : 64;
                        struct heap_node **grown = reallocarray(heap->nodes, capacity, sizeof(struct heap_node *));

                        if (!grown)
                                return -ENOMEM;
                        heap->nodes = grown;
                        heap->capacity = capacity;
                }
                node_place(heap, heap->n_nodes++, node);
        }
        node->time = time;
        sift_up(heap, node->place - 1);
        sift_down(heap, node->place - 1);
        return 0;
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
        size_t index = node->place - 1;
        struct heap_node *last;

        if (node->place == 0)
                return;
        node->place = 0;
        last = heap->nodes[--heap->n_nodes];
        if (last == node)
                return;
        node_place(heap, index, last);
        sift_up(heap, index);
        sift_down(heap, last->place - 1);
}

struct heap_node *heap_first(const struct heap *heap)
{
        return heap->n_nodes ? heap->nodes[0] : NULL;
}
