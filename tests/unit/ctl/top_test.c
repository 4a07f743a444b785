/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The live view's arithmetic and pictures, from canned answers: rates, order, filter, selection; and that no picture is
 * wider than the screen or passes an agent's escape sequences on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

/* agentctl's objects are in no library. */
#include "agentd/ctl/print.c"
#include "agentd/ctl/top_frame.c"
#include "agentd/ctl/top_model.c"

struct figures {
        const char *name;
        int out, in, denied;
        double budget;
};

static struct top_line lines[TOP_HEIGHT_MAX];

static void feed(struct top_model *model, __u64 now_ms, const struct figures *figures, size_t n)
{
        json_t *agents = json_array(), *budgets = json_array();

        for (size_t i = 0; i < n; i++) {
                json_array_append_new(agents,
                                      json_pack("{s:s,s:s,s:s,s:s,s:{s:{s:{s:i},s:{s:i}},s:{s:i,s:{s:i}}}}", "name",
                                                figures[i].name, "policy", "main", "mode", "enforce", "state",
                                                "enforcing", "counters", "allowed", "egress", "bytes", figures[i].out,
                                                "ingress", "bytes", figures[i].in, "denied", "total", figures[i].denied,
                                                "by_reason", "no_rule", figures[i].denied));
                if (figures[i].budget >= 0)
                        json_array_append_new(budgets, json_pack("{s:s,s:s,s:f,s:i,s:i,s:s}", "agent", figures[i].name,
                                                                 "scope", "agent/day", "percent", figures[i].budget,
                                                                 "used", 10, "left", 90, "direction", "egress"));
        }
        assert_int_equal(
                top_model_update(model,
                                 json_pack("{s:s,s:b,s:[],s:i,s:i}", "version", "1", "healthy", 1, "problems",
                                           "generation", 3, "uptime_s", 5),
                                 json_pack("{s:o}", "agents", agents), budgets,
                                 json_pack("{s:[{s:s,s:s,s:s}]}", "events", "type", "deny", "agent",
                                           n > 0 ? figures[0].name : "x", "time", "2026-11-23T18:22:38.123456789Z"),
                                 now_ms),
                0);
}

static void draw(const struct top_model *model, enum top_page page, size_t width, size_t height)
{
        struct top_frame frame = {.width = width, .height = height, .lines = lines};

        top_frame_draw(&frame, model, &(struct top_mood){.page = page, .keys = true});
}

static bool shown(const char *text, size_t height)
{
        for (size_t y = 0; y < height; y++)
                if (strstr(lines[y].text, text))
                        return true;
        return false;
}

static void rates_are_what_two_samples_say(void **state)
{
        static const struct figures before[] = {{"a", 1000, 500, 3, -1}, {"b", 7000, 0, 0, -1}};
        static const struct figures after[] = {{"a", 5000, 500, 7, -1}, {"b", 100, 0, 0, -1}, {"c", 900, 0, 9, -1}};
        struct top_model model = {.sort = TOP_BY_NAME};

        feed(&model, 10000, before, 2);
        assert_true(model.rows[0].out_rate == 0 && model.rows[1].out_rate == 0);
        feed(&model, 12000, after, 3);
        assert_true(model.rows[0].out_rate == 2000);
        assert_true(model.rows[0].in_rate == 0);
        assert_true(model.rows[0].deny_rate == 2);
        assert_true(model.rows[1].out_rate == 50); /* made again: what it has counted since */
        assert_true(model.rows[2].out_rate == 0);  /* new: nothing to compare with */
        assert_true(model.out_rate == 2050 && model.deny_rate == 2 && model.denied == 16);
        top_model_clear(&model);
}

static void rows_are_sorted_and_filtered(void **state)
{
        static const struct figures figures[] = {
                {"cat", 10, 30, 1, 20}, {"ant", 30, 10, 2, -1}, {"bee", 20, 20, 9, 99}, {"antler", 0, 0, 0, 0}};
        static const struct {
                enum top_sort sort;
                bool reverse;
                const char *filter, *order[5];
        } cases[] = {
                {TOP_BY_NAME, false, "", {"ant", "antler", "bee", "cat"}},
                {TOP_BY_NAME, true, "", {"cat", "bee", "antler", "ant"}},
                {TOP_BY_OUT, false, "", {"ant", "bee", "cat", "antler"}},
                {TOP_BY_IN, false, "", {"cat", "bee", "ant", "antler"}},
                {TOP_BY_DENIED, false, "", {"bee", "ant", "cat", "antler"}},
                {TOP_BY_BUDGET, false, "", {"bee", "cat", "antler", "ant"}},
                {TOP_BY_NAME, false, "ANT", {"ant", "antler"}},
                {TOP_BY_NAME, false, "nobody", {NULL}},
                {TOP_BY_NAME, false, "main", {"ant", "antler", "bee", "cat"}},
        };
        struct top_model model = {0};

        feed(&model, 1, figures, ARRAY_SIZE(figures));
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                size_t n = 0;

                model.sort = cases[i].sort;
                model.reverse = cases[i].reverse;
                strcpy(model.filter, cases[i].filter);
                top_model_arrange(&model);
                for (; cases[i].order[n]; n++) {
                        assert_true(n < model.n_rows);
                        assert_string_equal(model.rows[n].name, cases[i].order[n]);
                }
                assert_int_equal(model.n_rows, n);
        }
        top_model_clear(&model);
}

static void the_selection_follows_its_agent(void **state)
{
        static const struct figures before[] = {{"a", 0, 0, 9, -1}, {"b", 0, 0, 5, -1}, {"c", 0, 0, 1, -1}};
        static const struct figures after[] = {{"a", 0, 0, 9, -1}, {"b", 0, 0, 50, -1}, {"c", 0, 0, 1, -1}};
        struct top_model model = {.sort = TOP_BY_DENIED};

        feed(&model, 1, before, 3);
        top_model_select(&model, 1);
        assert_int_equal(top_model_selected(&model), 1);
        feed(&model, 2, after, 3);
        assert_int_equal(top_model_selected(&model), 0);
        top_model_select(&model, 1000000);
        assert_int_equal(top_model_selected(&model), 2);
        top_model_select(&model, -1000000);
        assert_int_equal(top_model_selected(&model), 0);
        feed(&model, 3, after, 1); /* it is gone */
        assert_int_equal(top_model_selected(&model), 0);
        feed(&model, 4, after, 0);
        top_model_select(&model, 1);
        assert_int_equal(top_model_selected(&model), 0);
        top_model_clear(&model);
}

static size_t columns(const char *text)
{
        size_t n = 0;

        for (; *text; text++)
                n += ((unsigned char)*text & 0xc0) != 0x80;
        return n;
}

static void no_line_is_wider_than_the_screen(void **state)
{
        static const struct figures figures[] = {
                {"a-very-long-name-of-an-agent-that-does-not-fit-anywhere-at-all-because-it-is-so-long", 2000000000, 1,
                 2, 100},
                {"b\303\251t\303\251", 1, 1, 1, 50}};
        static const size_t widths[] = {40, 41, 60, 80, 81, 120, 200, 512}, heights[] = {8, 9, 24, 50};
        struct top_model model = {0};

        feed(&model, 1, figures, 2);
        for (enum top_page page = TOP_AGENTS; page <= TOP_HELP; page++)
                for (size_t w = 0; w < ARRAY_SIZE(widths); w++)
                        for (size_t h = 0; h < ARRAY_SIZE(heights); h++) {
                                draw(&model, page, widths[w], heights[h]);
                                for (size_t y = 0; y < heights[h]; y++)
                                        assert_true(columns(lines[y].text) <= widths[w]);
                        }
        top_model_clear(&model);
}

static void what_an_agent_is_called_does_not_reach_the_terminal(void **state)
{
        static const struct figures figures[] = {{"evil\033[2J\a", 1, 1, 1, 50}};
        struct top_model model = {0};

        feed(&model, 1, figures, 1);
        for (enum top_page page = TOP_AGENTS; page <= TOP_AGENT; page++) {
                draw(&model, page, 80, 24);
                for (size_t y = 0; y < 24; y++)
                        for (const char *c = lines[y].text; *c; c++)
                                assert_true((unsigned char)*c >= ' ' && *c != 127);
                assert_true(shown("evil\\x1b[2J", 24));
        }
        top_model_clear(&model);
}

static void an_open_agent_shows_its_budgets_and_reasons(void **state)
{
        static const struct figures figures[] = {{"a", 1, 1, 4, 85}, {"b", 0, 0, 0, 10}};
        struct top_model model = {.sort = TOP_BY_NAME};

        feed(&model, 1, figures, 2);
        draw(&model, TOP_AGENT, 80, 24);
        assert_true(shown("agent/day (egress): 85% used, 10 B, 90 B left", 24));
        assert_true(shown("no_rule: 4", 24));
        assert_false(shown("10% used", 24));
        strcpy(model.error, "the daemon does not answer");
        draw(&model, TOP_AGENTS, 80, 24);
        assert_true(shown("the daemon does not answer", 24));
        assert_true(shown("enforcing", 24)); /* the last picture stays */
        top_model_clear(&model);
}

static void answers_that_are_none_draw_nothing_and_harm_nothing(void **state)
{
        static const char *const odd[] = {"null",
                                          "{}",
                                          "[]",
                                          "{\"agents\":3}",
                                          "{\"agents\":[3,null,{}]}",
                                          "{\"agents\":[{\"name\":7,\"counters\":[]}]}"};
        struct top_model model = {0};

        for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
                assert_int_equal(top_model_update(&model, json_loads(odd[i], JSON_DECODE_ANY, NULL),
                                                  json_loads(odd[i], JSON_DECODE_ANY, NULL),
                                                  json_loads(odd[i], JSON_DECODE_ANY, NULL),
                                                  json_loads(odd[i], JSON_DECODE_ANY, NULL), i + 1),
                                 0);
                for (enum top_page page = TOP_AGENTS; page <= TOP_HELP; page++)
                        draw(&model, page, 80, 24);
        }
        top_model_clear(&model);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(rates_are_what_two_samples_say),
                cmocka_unit_test(rows_are_sorted_and_filtered),
                cmocka_unit_test(the_selection_follows_its_agent),
                cmocka_unit_test(no_line_is_wider_than_the_screen),
                cmocka_unit_test(what_an_agent_is_called_does_not_reach_the_terminal),
                cmocka_unit_test(an_open_agent_shows_its_budgets_and_reasons),
                cmocka_unit_test(answers_that_are_none_draw_nothing_and_harm_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
