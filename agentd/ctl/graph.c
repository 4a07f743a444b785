/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Nodes are found by walking: a picture of more than some hundred of them is of use to nobody, and each agent has a
 * bound.
 */
#include "agentd/ctl/graph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/event/text.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

int graph_format_from_string(const char *text)
{
        static const char *const names[GRAPH_FORMAT_MAX] = {"dot", "mermaid", "svg"};

        for (int i = 0; i < GRAPH_FORMAT_MAX; i++)
                if (!strcmp(text, names[i]))
                        return i;
        return -1;
}

/* Escaped for a terminal, too: control characters are legal in none of the formats. */
static char *label_of(const char *text)
{
        char label[GRAPH_LABEL_MAX];
        struct text_writer writer;

        text_begin(&writer, label, sizeof(label));
        text_add_safe(&writer, text, strlen(text));
        return strdup(label);
}

static int find_or_add(char ***list, size_t *n, const char *text, size_t *ret)
{
        _cleanup_free_ char *label = label_of(text);
        char **grown;

        if (!label)
                return -ENOMEM;
        for (*ret = 0; *ret < *n; (*ret)++)
                if (!strcmp((*list)[*ret], label))
                        return 0;
        grown = reallocarray(*list, *n + 1, sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        *list = grown;
        grown[(*n)++] = TAKE_PTR(label);
        return 0;
}

int graph_add_agent(struct graph *graph, const char *name)
{
        size_t place;

        return find_or_add(&graph->agents, &graph->n_agents, name, &place);
}

int graph_add_edge(struct graph *graph, const char *agent, const char *target, const char *reason, json_int_t count)
{
        _cleanup_free_ char *label = label_of(agent);
        struct graph_edge *edges;
        size_t from, to, n = 0;
        int r;

        if (!label)
                return -ENOMEM;
        for (from = 0; from < graph->n_agents && strcmp(graph->agents[from], label) != 0; from++)
                ;
        if (from == graph->n_agents)
                return -ENOENT;
        for (size_t i = 0; i < graph->n_edges; i++) {
                struct graph_edge *edge = &graph->edges[i];

                if (edge->agent != from)
                        continue;
                n++;
                if (edge->denied == (reason != NULL) && (!reason || !strcmp(edge->reason, reason))) {
                        _cleanup_free_ char *other = label_of(target);

                        if (other && !strcmp(graph->targets[edge->target], other)) {
                                edge->count += count;
                                return 0;
                        }
                }
        }
        if (n >= GRAPH_EDGES_PER_AGENT) {
                graph->n_left_out++;
                return 0;
        }
        r = find_or_add(&graph->targets, &graph->n_targets, target, &to);
        if (r < 0)
                return r;
        edges = reallocarray(graph->edges, graph->n_edges + 1, sizeof(*edges));
        if (!edges)
                return -ENOMEM;
        graph->edges = edges;
        edges[graph->n_edges++] = (struct graph_edge){from, to, reason != NULL, count, reason};
        return 0;
}

void graph_clear(struct graph *graph)
{
        for (size_t i = 0; i < graph->n_agents; i++)
                free(graph->agents[i]);
        for (size_t i = 0; i < graph->n_targets; i++)
                free(graph->targets[i]);
        free(graph->agents);
        free(graph->targets);
        free(graph->edges);
        *graph = (struct graph){0};
}

json_t *graph_to_json(const struct graph *graph)
{
        json_t *agents = json_array(), *edges = json_array();

        for (size_t i = 0; i < graph->n_agents; i++)
                json_array_append_new(agents, json_string(graph->agents[i]));
        for (size_t i = 0; i < graph->n_edges; i++) {
                const struct graph_edge *edge = &graph->edges[i];

                json_array_append_new(edges, json_pack("{s:s,s:s,s:s,s:s?,s:I}", "agent", graph->agents[edge->agent],
                                                       "target", graph->targets[edge->target], "verdict",
                                                       edge->denied ? "deny" : "allow", "reason", edge->reason, "count",
                                                       edge->count));
        }
        return json_pack("{s:o,s:o,s:I}", "agents", agents, "edges", edges, "left_out", (json_int_t)graph->n_left_out);
}
