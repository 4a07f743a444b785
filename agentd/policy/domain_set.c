/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Many patterns, one look-up: a hash of suffixes, asked once for each label of the name.
 *
 * A node stands for the literal end of its patterns: the whole name (exact), what follows `*.` (below), or what follows
 * the last label with a `*` in it (globs, compared one by one; the only part whose cost grows with their number). A
 * name has at most 127 labels, so the time of a look-up does not depend on the number of patterns.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/policy/domain.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

/* The library's own answer to lack of memory is exit(). */
#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) (oom = true)
#include <uthash.h>

enum { CURSORS_MAX = 1 + 3 * 128 };

struct glob {
        char *pattern; /* NULL: the node's own suffix, exact or below */
        __u32 value;
};

/* Ascending by value: matches come out in order by merging. */
struct globs {
        struct glob *items;
        size_t n_items, capacity;
};

enum { LIST_EXACT, LIST_BELOW, LIST_GLOBS, LIST_MAX };

struct node {
        struct globs lists[LIST_MAX];
        UT_hash_handle hh;
        char suffix[];
};

struct domain_set {
        struct node *nodes;
        size_t size;
};

int domain_set_new(struct domain_set **ret)
{
        struct domain_set *set = calloc(1, sizeof(*set));

        if (!set)
                return -ENOMEM;
        *ret = set;
        return 0;
}

static void node_free(struct node *node)
{
        for (size_t i = 0; i < LIST_MAX; i++) {
                for (size_t j = 0; j < node->lists[i].n_items; j++)
                        free(node->lists[i].items[j].pattern);
                free(node->lists[i].items);
        }
        free(node);
}

void domain_set_free(struct domain_set *set)
{
        struct node *node, *next;

        if (!set)
                return;
        node = set->nodes;
        /* Clearing frees the buckets only; the nodes are still chained. */
        HASH_CLEAR(hh, set->nodes);
        for (; node; node = next) {
                next = node->hh.next;
                node_free(node);
        }
        free(set);
}

static int set_node(struct domain_set *set, const char *suffix, struct node **ret)
{
        size_t size = strlen(suffix);
        struct node *node;
        bool oom = false;

        HASH_FIND(hh, set->nodes, suffix, size, node);
        if (!node) {
                node = calloc(1, sizeof(*node) + size + 1);
                if (!node)
                        return -ENOMEM;
                memcpy(node->suffix, suffix, size + 1);
                HASH_ADD_KEYPTR(hh, set->nodes, node->suffix, size, node);
                if (oom) {
                        free(node);
                        return -ENOMEM;
                }
        }
        *ret = node;
        return 0;
}

/* 1 when it was new, 0 when it stood there already. */
static int globs_add(struct globs *globs, const char *pattern, __u32 value)
{
        _cleanup_free_ char *copy = NULL;
        size_t at = globs->n_items;

        while (at > 0 && globs->items[at - 1].value >= value) {
                const struct glob *before = &globs->items[at - 1];

                if (before->value == value && (!pattern || strcmp(before->pattern, pattern) == 0))
                        return 0;
                at--;
        }

        if (pattern) {
                copy = strdup(pattern);
                if (!copy)
                        return -ENOMEM;
        }
        if (globs->n_items == globs->capacity) {
                size_t capacity = MAX(globs->capacity * 2, (size_t)1);
                struct glob *items = reallocarray(globs->items, capacity, sizeof(*items));

                if (!items)
                        return -ENOMEM;
                globs->items = items;
                globs->capacity = capacity;
        }
        memmove(globs->items + at + 1, globs->items + at, (globs->n_items - at) * sizeof(*globs->items));
        globs->items[at] = (struct glob){.pattern = TAKE_PTR(copy), .value = value};
        globs->n_items++;
        return 1;
}

int domain_set_add(struct domain_set *set, const char *pattern, __u32 value)
{
        const char *star = strrchr(pattern, '*'), *suffix = pattern;
        unsigned list = LIST_EXACT;
        struct node *node;
        int r;

        if (star) {
                suffix = strchr(star, '.');
                suffix = suffix ? suffix + 1 : "";
                list = star == pattern && pattern[1] == '.' ? LIST_BELOW : LIST_GLOBS;
        }
        r = set_node(set, suffix, &node);
        if (r < 0)
                return r;
        r = globs_add(&node->lists[list], list == LIST_GLOBS ? pattern : NULL, value);
        if (r < 0)
                return r;
        set->size += (size_t)r;
        return 0;
}

size_t domain_set_size(const struct domain_set *set)
{
        return set->size;
}

struct cursor {
        const struct globs *globs;
        size_t next;
};

/* Moves on to the next entry that matches; false at the end. */
static bool cursor_settle(struct cursor *cursor, const char *name)
{
        while (cursor->next < cursor->globs->n_items) {
                const char *pattern = cursor->globs->items[cursor->next].pattern;

                if (!pattern || domain_pattern_matches(pattern, name))
                        return true;
                cursor->next++;
        }
        return false;
}

static void cursors_add(struct cursor *cursors, size_t *n_cursors, const struct globs *globs, const char *name)
{
        struct cursor cursor = {.globs = globs};

        if (*n_cursors < CURSORS_MAX && cursor_settle(&cursor, name))
                cursors[(*n_cursors)++] = cursor;
}

size_t domain_set_match(const struct domain_set *set, const char *name, __u32 *ret_values, size_t capacity)
{
        struct cursor cursors[CURSORS_MAX];
        const char *end = name + strnlen(name, NAME_MAX_BYTES);
        size_t n_cursors = 0, n_values = 0;

        if (end - name >= NAME_MAX_BYTES)
                return 0;

        for (const char *suffix = name;;) {
                struct node *node;

                HASH_FIND(hh, set->nodes, suffix, (size_t)(end - suffix), node);
                if (node) {
                        bool whole = suffix == name;

                        cursors_add(cursors, &n_cursors, &node->lists[whole ? LIST_EXACT : LIST_BELOW], name);
                        if (!whole)
                                cursors_add(cursors, &n_cursors, &node->lists[LIST_GLOBS], name);
                }
                if (suffix == end)
                        break;
                suffix = strchr(suffix, '.');
                suffix = suffix ? suffix + 1 : end;
        }

        while (n_cursors > 0) {
                __u32 least = UINT32_MAX;

                for (size_t i = 0; i < n_cursors; i++)
                        least = MIN(least, cursors[i].globs->items[cursors[i].next].value);
                if (n_values < capacity)
                        ret_values[n_values] = least;
                n_values++;

                for (size_t i = 0; i < n_cursors;) {
                        struct cursor *cursor = &cursors[i];

                        while (cursor_settle(cursor, name) && cursor->globs->items[cursor->next].value == least)
                                cursor->next++;
                        if (cursor_settle(cursor, name))
                                i++;
                        else
                                *cursor = cursors[--n_cursors];
                }
        }
        return n_values;
}
