/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The three formats. The SVG is laid out here, agents to the left and targets to the right: a picture should need no
 * other program.
 */
#include <string.h>

#include "agentd/ctl/graph.h"
#include "agentd/util/macro.h"

enum { SVG_WIDTH = 900, SVG_LEFT = 40, SVG_RIGHT = 520, SVG_ROW = 28, SVG_BOX = 320, SVG_LABEL_MAX = 44 };

/* Characters that end or change a string in each format become what it writes for them. */
static void write_escaped(FILE *file, const char *text, const char *from, const char *const *to)
{
        for (; *text; text++) {
                const char *found = strchr(from, *text);

                if (found)
                        fputs(to[found - from], file);
                else
                        fputc(*text, file);
        }
}

static void write_dot(FILE *file, const char *text)
{
        static const char *const to[] = {"\\\"", "\\\\"};

        write_escaped(file, text, "\"\\", to);
}

/* Mermaid reads HTML entities with '#' in strings (mermaid.js.org, "Entity codes to escape characters"). */
static void write_mermaid(FILE *file, const char *text)
{
        static const char *const to[] = {"#quot;", "#35;", "#59;", "#lt;", "#gt;", "#38;", "#96;", "#92;"};

        write_escaped(file, text, "\"#;<>&`\\", to);
}

static void write_xml(FILE *file, const char *text)
{
        static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};

        write_escaped(file, text, "&<>\"'", to);
}

static void draw_dot(const struct graph *graph, FILE *file)
{
        fputs("digraph agentd {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n", file);
        for (size_t i = 0; i < graph->n_agents; i++) {
                fprintf(file, "  a%zu [label=\"", i);
                write_dot(file, graph->agents[i]);
                fputs("\", style=bold];\n", file);
        }
        for (size_t i = 0; i < graph->n_targets; i++) {
                fprintf(file, "  t%zu [label=\"", i);
                write_dot(file, graph->targets[i]);
                fputs("\", style=rounded];\n", file);
        }
        for (size_t i = 0; i < graph->n_edges; i++) {
                const struct graph_edge *edge = &graph->edges[i];

                fprintf(file, "  a%zu -> t%zu", edge->agent, edge->target);
                if (edge->denied)
                        fprintf(file, " [color=red, style=dashed, label=\"%s x%lld\"]", edge->reason,
                                (long long)edge->count);
                fputs(";\n", file);
        }
        if (graph->n_left_out > 0)
                fprintf(file, "  label=\"%zu more are not drawn\";\n", graph->n_left_out);
        fputs("}\n", file);
}

static void draw_mermaid(const struct graph *graph, FILE *file)
{
        fputs("flowchart LR\n", file);
        for (size_t i = 0; i < graph->n_agents; i++) {
                fprintf(file, "  a%zu[\"", i);
                write_mermaid(file, graph->agents[i]);
                fputs("\"]\n", file);
        }
        for (size_t i = 0; i < graph->n_targets; i++) {
                fprintf(file, "  t%zu(\"", i);
                write_mermaid(file, graph->targets[i]);
                fputs("\")\n", file);
        }
        for (size_t i = 0; i < graph->n_edges; i++) {
                const struct graph_edge *edge = &graph->edges[i];

                if (edge->denied)
                        fprintf(file, "  a%zu -. \"%s x%lld\" .-x t%zu\n", edge->agent, edge->reason,
                                (long long)edge->count, edge->target);
                else
                        fprintf(file, "  a%zu --> t%zu\n", edge->agent, edge->target);
        }
        if (graph->n_left_out > 0)
                fprintf(file, "  %%%% %zu more are not drawn\n", graph->n_left_out);
}

static void svg_box(FILE *file, const char *text, int x, size_t row, const char *class)
{
        char label[SVG_LABEL_MAX * 4 + 4];
        size_t length = 0, columns = 0;

        for (; text[length] && columns <= SVG_LABEL_MAX; length++)
                columns += ((unsigned char)text[length] & 0xc0) != 0x80;
        if (text[length]) { /* one too many: its first byte was counted */
                snprintf(label, sizeof(label), "%.*s~", (int)MIN(length - 1, sizeof(label) - 2), text);
                text = label;
        }
        fprintf(file,
                "<rect class=\"%s\" x=\"%d\" y=\"%zu\" width=\"%d\" height=\"20\" rx=\"3\"/><text x=\"%d\" y=\"%zu\">",
                class, x, row * SVG_ROW + 10, SVG_BOX, x + 6, row * SVG_ROW + 24);
        write_xml(file, text);
        fputs("</text>\n", file);
}

static void draw_svg(const struct graph *graph, FILE *file)
{
        size_t rows = MAX(MAX(graph->n_agents, graph->n_targets), (size_t)1) + 1;

        fprintf(file,
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%zu\" viewBox=\"0 0 %d %zu\">\n"
                "<style>text{font:12px sans-serif}rect{fill:#fff;stroke:#333}.agent{fill:#eef}"
                "path{fill:none;stroke:#282}.denied{stroke:#c22;stroke-dasharray:4 3}</style>\n",
                SVG_WIDTH, rows * SVG_ROW, SVG_WIDTH, rows * SVG_ROW);
        for (size_t i = 0; i < graph->n_edges; i++) {
                const struct graph_edge *edge = &graph->edges[i];
                int x1 = SVG_LEFT + SVG_BOX, x2 = SVG_RIGHT, middle = (x1 + x2) / 2;
                size_t y1 = edge->agent * SVG_ROW + 20, y2 = edge->target * SVG_ROW + 20;

                fprintf(file, "<path%s d=\"M%d %zuC%d %zu %d %zu %d %zu\">", edge->denied ? " class=\"denied\"" : "",
                        x1, y1, middle, y1, middle, y2, x2, y2);
                if (edge->denied)
                        fprintf(file, "<title>%s x%lld</title>", edge->reason, (long long)edge->count);
                fputs("</path>\n", file);
        }
        for (size_t i = 0; i < graph->n_agents; i++)
                svg_box(file, graph->agents[i], SVG_LEFT, i, "agent");
        for (size_t i = 0; i < graph->n_targets; i++)
                svg_box(file, graph->targets[i], SVG_RIGHT, i, "target");
        if (graph->n_left_out > 0)
                fprintf(file, "<text x=\"%d\" y=\"%zu\">%zu more are not drawn</text>\n", SVG_LEFT, rows * SVG_ROW - 6,
                        graph->n_left_out);
        fputs("</svg>\n", file);
}

void graph_draw(const struct graph *graph, enum graph_format format, FILE *file)
{
        switch (format) {
        case GRAPH_DOT:
                draw_dot(graph, file);
                break;
        case GRAPH_MERMAID:
                draw_mermaid(graph, file);
                break;
        default:
                draw_svg(graph, file);
                break;
        }
}
