/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A YAML document as a tree that knows where each node stands.
 *
 * Hostile input: the text is checked to be UTF-8 without control characters before libyaml sees it; depth and number of
 * nodes are bounded; anchors may stand, aliases are refused, so nothing is ever copied; tags are refused, so a value is
 * what it looks like. One document only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum {
        YAML_DEPTH_MAX = 64,
        YAML_NODES_MAX = 1500000,
};

enum yaml_kind { YAML_KIND_SCALAR, YAML_KIND_LIST, YAML_KIND_MAP };

struct yaml_node {
        enum yaml_kind kind;
        bool plain; /* a scalar without quotes: null, numbers and booleans are plain */
        unsigned line, column;
        const char *text; /* scalar: without NUL inside */
        const struct yaml_node *key;
        struct yaml_node *first, *last, *next; /* list: items; map: values, each with its key */
        size_t n_children;
};

struct yaml_document;

struct yaml_problem {
        unsigned line, column;
        char text[256];
};

/* 0; -EINVAL with *ret_problem; -ENOMEM. */
int yaml_document_parse(const char *text, size_t size, struct yaml_problem *ret_problem, struct yaml_document **ret);
void yaml_document_free(struct yaml_document *document);
/* NULL: the document is empty. */
const struct yaml_node *yaml_document_root(const struct yaml_document *document);

/* Nothing, `~` or `null`. */
bool yaml_node_is_null(const struct yaml_node *node);
const char *yaml_kind_to_string(enum yaml_kind kind); /* "a value", "a list", "a map" */
