/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who reaches what: agents, the names they learned, and what was refused to them, as a graph that is drawn in the
 * formats that documents and tickets take (Graphviz, Mermaid, SVG). Names come from agents: each format has its escape.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum graph_format { GRAPH_DOT, GRAPH_MERMAID, GRAPH_SVG, GRAPH_FORMAT_MAX };

enum { GRAPH_EDGES_PER_AGENT = 64, GRAPH_LABEL_MAX = 256 };

struct graph_edge {
        size_t agent, target;
        bool denied;
        json_int_t count;   /* denied: how often */
        const char *reason; /* denied; of the verdict's strings */
};

struct graph {
        char **agents;
        size_t n_agents;
        char **targets;
        size_t n_targets;
        struct graph_edge *edges;
        size_t n_edges;
        size_t n_left_out; /* edges beyond the bound of an agent */
};

/* -1: no such format. */
int graph_format_from_string(const char *text);

/* 0 or -ENOMEM (also for a name beyond GRAPH_LABEL_MAX, which is cut first). What is given twice counts once. */
int graph_add_agent(struct graph *graph, const char *name);
/* A learned name, or a denied destination with its reason. agent: added before; -ENOENT. */
int graph_add_edge(struct graph *graph, const char *agent, const char *target, const char *reason, json_int_t count);
void graph_clear(struct graph *graph);

void graph_draw(const struct graph *graph, enum graph_format format, FILE *file);
/* A new reference. */
json_t *graph_to_json(const struct graph *graph);
