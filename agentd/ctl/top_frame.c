/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The list takes what the newest denials leave: a quarter of the screen, three lines at least. At 80 columns every
 * column fits; what is wider goes to the names.
 */
#include "agentd/ctl/top_frame.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/ctl/print.h"
#include "agentd/event/event.h"
#include "agentd/event/text.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

/* STATE OUT/s IN/s DENIED DENY/s BUDGET, each with the blank before it. */
enum { FIXED_WIDTH = 12 + 8 + 8 + 8 + 8 + 8, TEXT_MAX = 24 };

/* Cuts text to width code points. */
static void cut(char *text, size_t width)
{
        size_t length = strlen(text), used = 0, n;
        uint32_t character;

        for (size_t i = 0; i < length; i += n) {
                n = text_utf8(text + i, length - i, &character);
                if (n == 0)
                        n = 1;
                if (used++ == width) {
                        text[i] = '\0';
                        return;
                }
        }
}

static struct top_line *line_at(struct top_frame *frame, size_t y)
{
        return y < frame->height ? &frame->lines[y] : NULL;
}

/* Escaped and cut to the frame. */
static void put(struct top_frame *frame, size_t y, enum top_style style, const char *format, ...) PRINTF(4, 5);
static void put(struct top_frame *frame, size_t y, enum top_style style, const char *format, ...)
{
        struct top_line *line = line_at(frame, y);
        _cleanup_free_ char *text = NULL;
        struct text_writer writer;
        va_list arguments;
        int n;

        if (!line)
                return;
        va_start(arguments, format);
        n = vasprintf(&text, format, arguments);
        va_end(arguments);
        line->style = style;
        text_begin(&writer, line->text, sizeof(line->text));
        if (n >= 0)
                text_add_safe(&writer, text, (size_t)n);
        cut(line->text, frame->width);
}

/* Text in exactly width columns: cut with a '~' or padded. */
static void add_cell(struct text_writer *writer, const char *text, size_t width)
{
        char safe[TOP_LINE_MAX];
        struct text_writer escaped;
        size_t columns = 0;

        text_begin(&escaped, safe, sizeof(safe));
        text_add_safe(&escaped, text, strlen(text));
        for (const char *c = safe; *c; c++)
                columns += ((unsigned char)*c & 0xc0) != 0x80;
        if (columns > width) {
                cut(safe, width - 1);
                text_add(writer, safe);
                text_add(writer, "~");
                return;
        }
        text_add(writer, safe);
        for (; columns < width; columns++)
                text_add(writer, " ");
}

static void add_right(struct text_writer *writer, const char *text, int width)
{
        text_addf(writer, " %*s", width - 1, text);
}

/* At most seven columns: "0", "940", "12.3K", "4.0G". Powers of 1024. */
static const char *short_size(double value, char *buffer)
{
        static const char units[] = " KMGTPE";
        size_t unit = 0;

        for (; value >= 1000 && unit + 2 < sizeof(units); unit++)
                value /= 1024;
        if (unit == 0)
                snprintf(buffer, TEXT_MAX, "%.0f", value);
        else
                snprintf(buffer, TEXT_MAX, "%.*f%c", value < 100 ? 1 : 0, value, units[unit]);
        return buffer;
}

/* Of a count or a count a second: thousands. */
static const char *short_count(double value, char *buffer)
{
        static const char units[] = " kMGTPE";
        size_t unit = 0;

        if (value > 0 && value < 10 && value != (double)(long)value) {
                snprintf(buffer, TEXT_MAX, "%.1f", value);
                return buffer;
        }
        for (; value >= 100000 && unit + 2 < sizeof(units); unit++)
                value /= 1000;
        snprintf(buffer, TEXT_MAX, unit ? "%.0f%c" : "%.0f", value, units[unit]);
        return buffer;
}

static void draw_title(struct top_frame *frame, const struct top_model *model, const struct top_mood *mood)
{
        const json_t *problems = json_object_get(model->status, "problems");
        const char *problem = json_string_value(json_array_get(problems, 0));
        char out[TEXT_MAX], in[TEXT_MAX], denied[TEXT_MAX], rate[TEXT_MAX], uptime[PRINT_TEXT_MAX];
        json_int_t lost = 0;
        const char *key;
        const json_t *value;

        put(frame, 0, TOP_TITLE, "agentd %s  up %s  generation %lld  %zu agent%s  %s%s",
            json_text(model->status, "version"), print_duration(json_number(model->status, "uptime_s"), uptime),
            (long long)json_number(model->status, "generation"), model->n_agents, model->n_agents == 1 ? "" : "s",
            json_is_true(json_object_get(model->status, "healthy")) ? "healthy" : "NOT HEALTHY",
            mood->paused ? "  [paused]" : "");
        json_object_foreach((json_t *)json_object_get(model->status, "events"), key,
                            value) if (!strncmp(key, "lost_", 5)) lost += json_integer_value(value);
        put(frame, 1, TOP_PLAIN, "out %s/s  in %s/s  denied %s (%s/s)  events lost %lld  sorted by %s%s",
            short_size(model->out_rate, out), short_size(model->in_rate, in),
            short_count((double)model->denied, denied), short_count(model->deny_rate, rate), (long long)lost,
            top_sort_to_string(model->sort), model->reverse ? ", reversed" : "");
        if (model->error[0])
                put(frame, 2, TOP_ALARM, "%s", model->error);
        else if (problem && json_array_size(problems) > 1)
                put(frame, 2, TOP_ALARM, "%s (and %zu more: agentctl health)", problem, json_array_size(problems) - 1);
        else
                put(frame, 2, problem ? TOP_ALARM : TOP_PLAIN, "%s", problem ? problem : "");
}

static size_t agent_width(const struct top_frame *frame)
{
        size_t names = frame->width > FIXED_WIDTH ? frame->width - FIXED_WIDTH - 1 : 0;

        return MAX(names * 3 / 5, (size_t)8);
}

static void put_row(struct top_frame *frame, size_t y, const struct top_row *row, bool selected)
{
        struct top_line *line = line_at(frame, y);
        size_t agent = agent_width(frame);
        size_t policy = frame->width > FIXED_WIDTH + agent + 1 ? frame->width - FIXED_WIDTH - agent - 1 : 0;
        char text[TEXT_MAX];
        struct text_writer writer;

        if (!line)
                return;
        text_begin(&writer, line->text, sizeof(line->text));
        add_cell(&writer, row ? row->name : "AGENT", agent);
        text_add(&writer, " ");
        if (policy > 2)
                add_cell(&writer, row ? row->policy : "POLICY", policy);
        text_add(&writer, " ");
        add_cell(&writer, !row ? "STATE" : !strcmp(row->mode, "audit") && !row->ill ? "audit" : row->state, 11);
        add_right(&writer, row ? short_size(row->out_rate, text) : "OUT/s", 8);
        add_right(&writer, row ? short_size(row->in_rate, text) : "IN/s", 8);
        add_right(&writer, row ? short_count((double)row->denied, text) : "DENIED", 8);
        add_right(&writer, row ? short_count(row->deny_rate, text) : "DENY/s", 8);
        if (row && row->budget >= 0)
                snprintf(text, sizeof(text), "%.0f%%", row->budget);
        add_right(&writer, !row ? "BUDGET" : row->budget < 0 ? "-" : text, 8);
        cut(line->text, frame->width);
        line->style = !row                                      ? TOP_COLUMNS
                      : selected                                ? TOP_SELECTED
                      : row->ill                                ? TOP_ALARM
                      : row->budget >= 80 || row->deny_rate > 0 ? TOP_WARNING
                                                                : TOP_PLAIN;
}

static bool is_denial(const char *type)
{
        return !strcmp(type, "deny") || !strcmp(type, "would_deny") || !strcmp(type, "dns");
}

/* The newest of agent (NULL: of all) from line y on, newest first. */
static void draw_events(struct top_frame *frame, const struct top_model *model, const char *agent, size_t y, size_t end)
{
        const json_t *events = json_object_get(model->events, "events");

        put(frame, y++, TOP_COLUMNS, "%s", agent ? "Its newest denials" : "Newest denials");
        for (size_t i = json_array_size(events); i > 0 && y < end; i--) {
                const json_t *event = json_array_get(events, i - 1);
                _cleanup_free_ char *text = NULL;

                if (!is_denial(json_text(event, "type")) || (agent && strcmp(json_text(event, "agent"), agent) != 0))
                        continue;
                text = event_json_to_text(event);
                /* Without the date. */
                put(frame, y++, TOP_PLAIN, "%s", text && strlen(text) > 11 ? text + 11 : text ? text : "");
        }
}

static void draw_agents(struct top_frame *frame, const struct top_model *model)
{
        size_t events = MAX(frame->height / 4, (size_t)3), list, first, selected = top_model_selected(model);

        put_row(frame, 3, NULL, false);
        list = frame->height > events + 6 ? frame->height - events - 6 : 1;
        first = selected >= list ? selected - list + 1 : 0;
        for (size_t i = 0; i < list && first + i < model->n_rows; i++)
                put_row(frame, 4 + i, &model->rows[first + i], first + i == selected);
        if (model->n_rows == 0)
                put(frame, 4, TOP_FAINT, "%s", model->filter[0] ? "no agent fits the filter" : "no agent");
        draw_events(frame, model, NULL, 4 + list, frame->height - 1);
}

static size_t draw_reasons(struct top_frame *frame, const json_t *counters, size_t y)
{
        static const char *const kinds[] = {"denied", "would_deny"};

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                const json_t *reasons = json_object_get(json_object_get(counters, kinds[i]), "by_reason"), *count;
                const char *reason;

                json_object_foreach((json_t *)reasons, reason, count)
                        put(frame, y++, TOP_PLAIN, "%-12s %s: %lld", kinds[i], reason,
                            (long long)json_integer_value(count));
        }
        return y;
}

static size_t draw_budgets(struct top_frame *frame, const struct top_model *model, const char *agent, size_t y)
{
        const json_t *budget;
        size_t i;

        json_array_foreach(model->budgets, i, budget)
        {
                double percent = json_number_value(json_object_get(budget, "percent"));
                char used[PRINT_TEXT_MAX], left[PRINT_TEXT_MAX];

                if (strcmp(json_text(budget, "agent"), agent) != 0)
                        continue;
                put(frame, y++,
                    percent >= 100  ? TOP_ALARM
                    : percent >= 80 ? TOP_WARNING
                                    : TOP_PLAIN,
                    "budget       %s (%s): %.0f%% used, %s, %s left", json_text(budget, "scope"),
                    json_text(budget, "direction"), percent, print_size(json_number(budget, "used"), used),
                    print_size(json_number(budget, "left"), left));
        }
        return y;
}

static void draw_agent(struct top_frame *frame, const struct top_model *model)
{
        size_t selected = top_model_selected(model), y = 3;
        const struct top_row *row;
        const json_t *container;
        char out[TEXT_MAX], in[TEXT_MAX], rate[TEXT_MAX];

        if (selected >= model->n_rows) {
                put(frame, y, TOP_FAINT, "the agent is gone");
                return;
        }
        row = &model->rows[selected];
        container = json_object_get(row->agent, "container");
        put(frame, y++, TOP_COLUMNS, "%s", row->name);
        put(frame, y++, row->ill ? TOP_ALARM : TOP_PLAIN, "state        %s%s%s", row->state,
            json_text(row->agent, "detail")[0] ? ": " : "", json_text(row->agent, "detail"));
        put(frame, y++, TOP_PLAIN, "policy       %s (%s), generation %lld", row->policy, row->mode,
            (long long)json_number(row->agent, "generation"));
        put(frame, y++, TOP_PLAIN, "cgroup       %s", json_text(row->agent, "cgroup"));
        if (json_is_object(container))
                put(frame, y++, TOP_PLAIN, "container    %s %s %s", json_text(container, "id"),
                    json_text(container, "name"), json_text(container, "image"));
        put(frame, y++, TOP_PLAIN, "traffic      out %s/s  in %s/s  denied %s/s", short_size(row->out_rate, out),
            short_size(row->in_rate, in), short_count(row->deny_rate, rate));
        y = draw_budgets(frame, model, row->name, y);
        y = draw_reasons(frame, json_object_get(row->agent, "counters"), y);
        draw_events(frame, model, row->name, MIN(y, frame->height - 4), frame->height - 1);
}

static void draw_help(struct top_frame *frame)
{
        static const char *const lines[] = {
                "Keys",
                "  up, down, page up, page down, home, end, j, k   select an agent",
                "  enter                         open it;  esc, backspace: back",
                "  n o i d b                     sort by name, out, in, denied, budget",
                "  s                             the next of these;  r: reverse",
                "  /                             filter by agent, policy or state; enter, or esc to drop it",
                "  p, space                      pause",
                "  q                             quit",
                "",
                "OUT/s and IN/s are bytes that were let through; DENIED counts since the agent was attached, what an",
                "agent in audit mode would have been denied included. BUDGET is the fullest of its budgets.",
        };

        for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
                put(frame, 3 + i, i == 0 ? TOP_COLUMNS : TOP_PLAIN, "%s", lines[i]);
}

void top_frame_draw(struct top_frame *frame, const struct top_model *model, const struct top_mood *mood)
{
        for (size_t y = 0; y < frame->height; y++)
                frame->lines[y].style = TOP_PLAIN, frame->lines[y].text[0] = '\0';
        draw_title(frame, model, mood);
        if (mood->page == TOP_HELP)
                draw_help(frame);
        else if (mood->page == TOP_AGENT)
                draw_agent(frame, model);
        else
                draw_agents(frame, model);
        if (mood->typing)
                put(frame, frame->height - 1, TOP_TITLE, "filter: %s_", model->filter);
        else if (model->filter[0] && mood->page == TOP_AGENTS)
                put(frame, frame->height - 1, TOP_TITLE, "filter: %s  (esc drops it)", model->filter);
        else if (mood->keys)
                put(frame, frame->height - 1, TOP_FAINT, "%s",
                    mood->page == TOP_AGENTS ? "q quit  enter open  s sort  r reverse  / filter  p pause  ? help"
                                             : "esc back  q quit");
}
