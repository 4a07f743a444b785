/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The graph's bounds and its three formats, and that no name gets out of its label.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

/* agentctl's objects are in no library. */
#include "agentd/ctl/graph.c"
#include "agentd/ctl/graph_draw.c"

static char *drawn(const struct graph *graph, enum graph_format format)
{
        char *text = NULL;
        size_t size;
        FILE *file = open_memstream(&text, &size);

        graph_draw(graph, format, file);
        fclose(file);
        return text;
}

static void draws_agents_names_and_refusals(void **state)
{
        static const struct {
                enum graph_format format;
                const char *parts[6];
        } cases[] = {
                {GRAPH_DOT,
                 {"digraph agentd {", "a0 [label=\"claude\"", "t0 [label=\"api.example.com\"", "a0 -> t0;",
                  "a0 -> t1 [color=red, style=dashed, label=\"no_rule x5\"];"}},
                {GRAPH_MERMAID,
                 {"flowchart LR", "a0[\"claude\"]", "t0(\"api.example.com\")", "a0 --> t0",
                  "a0 -. \"no_rule x5\" .-x t1"}},
                {GRAPH_SVG,
                 {"<svg xmlns=", ">claude</text>", ">api.example.com</text>", "<title>no_rule x5</title>", "</svg>"}},
        };
        _cleanup_(graph_clear) struct graph graph = {0};

        assert_int_equal(graph_add_agent(&graph, "claude"), 0);
        assert_int_equal(graph_add_agent(&graph, "claude"), 0);
        assert_int_equal(graph.n_agents, 1);
        assert_int_equal(graph_add_edge(&graph, "claude", "api.example.com", NULL, 1), 0);
        assert_int_equal(graph_add_edge(&graph, "claude", "203.0.113.9:443/tcp", "no_rule", 2), 0);
        assert_int_equal(graph_add_edge(&graph, "claude", "203.0.113.9:443/tcp", "no_rule", 3), 0);
        assert_int_equal(graph_add_edge(&graph, "stranger", "x", NULL, 1), -ENOENT);
        assert_int_equal(graph.n_edges, 2);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_free_ char *text = drawn(&graph, cases[i].format);

                for (size_t j = 0; j < ARRAY_SIZE(cases[i].parts) && cases[i].parts[j]; j++)
                        if (!strstr(text, cases[i].parts[j]))
                                fail_msg("no '%s' in:\n%s", cases[i].parts[j], text);
        }
}

static void no_name_gets_out_of_its_label(void **state)
{
        static const char evil[] = "\"];x->y;<script>&'`#;\\\n\033[2J";
        static const struct {
                enum graph_format format;
                const char *never[4];
        } cases[] = {
                {GRAPH_DOT, {"\"\"];", "\n\033", "[label=\"\"", "\033"}},
                {GRAPH_MERMAID, {"\"\"]", "<script", "`", "\033"}},
                {GRAPH_SVG, {"<script", "&'", "\033", "'`"}},
        };
        _cleanup_(graph_clear) struct graph graph = {0};

        assert_int_equal(graph_add_agent(&graph, evil), 0);
        assert_int_equal(graph_add_edge(&graph, evil, evil, NULL, 1), 0);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_free_ char *text = drawn(&graph, cases[i].format);

                for (size_t j = 0; j < 4; j++)
                        if (strstr(text, cases[i].never[j]))
                                fail_msg("'%s' in:\n%s", cases[i].never[j], text);
        }
}

static void an_agent_with_too_much_says_what_is_left_out(void **state)
{
        _cleanup_(graph_clear) struct graph graph = {0};
        _cleanup_free_ char *text = NULL;
        char target[32];

        assert_int_equal(graph_add_agent(&graph, "scanner"), 0);
        for (int i = 0; i < 1000; i++) {
                snprintf(target, sizeof(target), "192.0.2.1:%d/tcp", i + 1);
                assert_int_equal(graph_add_edge(&graph, "scanner", target, "no_rule", 1), 0);
        }
        assert_int_equal(graph.n_edges, GRAPH_EDGES_PER_AGENT);
        text = drawn(&graph, GRAPH_SVG);
        assert_non_null(strstr(text, "936 more are not drawn"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(draws_agents_names_and_refusals),
                cmocka_unit_test(no_name_gets_out_of_its_label),
                cmocka_unit_test(an_agent_with_too_much_says_what_is_left_out),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
