/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rates come from the kernel's counters of two samples. A counter that went back belongs to an agent that was made
 * again: its rate is what it has counted since.
 */
#include "agentd/ctl/top_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/ctl/print.h"
#include "agentd/util/macro.h"

const char *top_sort_to_string(enum top_sort sort)
{
        static const char *const names[TOP_SORT_MAX] = {"name", "out", "in", "denied", "budget"};

        return (unsigned int)sort < TOP_SORT_MAX ? names[sort] : "?";
}

static void past_free(struct top_past *past, size_t n)
{
        for (size_t i = 0; i < n; i++)
                free(past[i].name);
        free(past);
}

void top_model_clear(struct top_model *model)
{
        json_decref(model->status);
        json_decref(model->agents);
        json_decref(model->budgets);
        json_decref(model->events);
        past_free(model->past, model->n_past);
        free(model->rows);
        free(model->selected);
        *model = (struct top_model){0};
}

static int compare_past(const void *left, const void *right)
{
        const struct top_past *a = left, *b = right;

        return strcmp(a->name, b->name);
}

static __u64 number_at(const json_t *object, const char *first, const char *second, const char *third)
{
        object = json_object_get(json_object_get(object, first), second);
        return (__u64)MAX(third ? json_number(object, third) : json_integer_value(object), 0);
}

static void read_row(const json_t *agent, struct top_row *row)
{
        const json_t *counters = json_object_get(agent, "counters");

        *row = (struct top_row){
                .agent = agent,
                .name = json_text(agent, "name"),
                .policy = json_text(agent, "policy"),
                .mode = json_text(agent, "mode"),
                .state = json_text(agent, "state"),
                .out_bytes = number_at(counters, "allowed", "egress", "bytes"),
                .in_bytes = number_at(counters, "allowed", "ingress", "bytes"),
                .denied =
                        number_at(counters, "denied", "total", NULL) + number_at(counters, "would_deny", "total", NULL),
                .budget = -1,
        };
        row->ill = !strcmp(row->state, "broken") || !strcmp(row->state, "unverified");
}

static double rate_of(__u64 now, __u64 before, __u64 elapsed_ms)
{
        return elapsed_ms == 0 ? 0 : (double)(now >= before ? now - before : now) * 1000 / (double)elapsed_ms;
}

static bool passes(const struct top_model *model, const struct top_row *row)
{
        return strcasestr(row->name, model->filter) || strcasestr(row->policy, model->filter) ||
               strcasestr(row->state, model->filter);
}

static int compare_rows(const void *left, const void *right, void *context)
{
        const struct top_row *a = left, *b = right;
        const struct top_model *model = context;
        double difference = 0;
        int r;

        if (model->sort == TOP_BY_OUT)
                difference = b->out_rate != a->out_rate ? b->out_rate - a->out_rate
                                                        : (double)b->out_bytes - (double)a->out_bytes;
        else if (model->sort == TOP_BY_IN)
                difference =
                        b->in_rate != a->in_rate ? b->in_rate - a->in_rate : (double)b->in_bytes - (double)a->in_bytes;
        else if (model->sort == TOP_BY_DENIED)
                difference = (double)b->denied - (double)a->denied;
        else if (model->sort == TOP_BY_BUDGET)
                difference = b->budget - a->budget;
        r = difference > 0 ? 1 : difference < 0 ? -1 : strcmp(a->name, b->name);
        return model->reverse ? -r : r;
}

static const struct top_past *find_past(const struct top_model *model, const char *name)
{
        const struct top_past key = {.name = (char *)name};

        return model->n_past > 0 ? bsearch(&key, model->past, model->n_past, sizeof(key), compare_past) : NULL;
}

static void read_budget(const struct top_model *model, struct top_row *row)
{
        const json_t *budget;
        size_t i;

        json_array_foreach(model->budgets, i, budget)
        {
                if (strcmp(json_text(budget, "agent"), row->name) != 0)
                        continue;
                row->budget = MAX(row->budget, json_number_value(json_object_get(budget, "percent")));
        }
}

void top_model_arrange(struct top_model *model)
{
        const json_t *list = json_object_get(model->agents, "agents"), *agent;
        size_t i;

        model->n_rows = 0;
        json_array_foreach(list, i, agent)
        {
                struct top_row *row = &model->rows[model->n_rows];

                read_row(agent, row);
                if (!passes(model, row))
                        continue;
                /* Carried in the answer itself: see keep_rates(). */
                row->out_rate = json_number_value(json_object_get(agent, "out_rate"));
                row->in_rate = json_number_value(json_object_get(agent, "in_rate"));
                row->deny_rate = json_number_value(json_object_get(agent, "deny_rate"));
                read_budget(model, row);
                model->n_rows++;
        }
        if (model->n_rows > 1)
                qsort_r(model->rows, model->n_rows, sizeof(*model->rows), compare_rows, model);
}

/* The rates of each agent become fields of its answer, so that sorting and filtering can start from it at any time. */
static void keep_rates(struct top_model *model, json_t *agent, __u64 elapsed_ms)
{
        const struct top_past *past;
        struct top_row row;

        read_row(agent, &row);
        past = find_past(model, row.name);
        if (past) {
                row.out_rate = rate_of(row.out_bytes, past->out_bytes, elapsed_ms);
                row.in_rate = rate_of(row.in_bytes, past->in_bytes, elapsed_ms);
                row.deny_rate = rate_of(row.denied, past->denied, elapsed_ms);
        }
        (void)json_object_set_new(agent, "out_rate", json_real(row.out_rate));
        (void)json_object_set_new(agent, "in_rate", json_real(row.in_rate));
        (void)json_object_set_new(agent, "deny_rate", json_real(row.deny_rate));
        model->out_rate += row.out_rate;
        model->in_rate += row.in_rate;
        model->deny_rate += row.deny_rate;
        model->denied += row.denied;
}

static void replace(json_t **place, json_t *with)
{
        json_decref(*place);
        *place = with;
}

int top_model_update(struct top_model *model, json_t *status, json_t *agents, json_t *budgets, json_t *events,
                     __u64 now_ms)
{
        json_t *list = json_object_get(agents, "agents"), *agent;
        __u64 elapsed_ms = model->sampled_ms > 0 && now_ms > model->sampled_ms ? now_ms - model->sampled_ms : 0;
        size_t n = json_array_size(list), i;
        struct top_past *past = calloc(n + 1, sizeof(*past));
        struct top_row *rows = calloc(n + 1, sizeof(*rows));

        for (i = 0; past && rows && i < n; i++) {
                struct top_row row;

                read_row(json_array_get(list, i), &row);
                past[i] = (struct top_past){strdup(row.name), row.out_bytes, row.in_bytes, row.denied};
                if (!past[i].name)
                        break;
        }
        if (!past || !rows || i < n) {
                past_free(past, past ? i : 0);
                free(rows);
                json_decref(status);
                json_decref(agents);
                json_decref(budgets);
                json_decref(events);
                return -ENOMEM;
        }

        model->out_rate = model->in_rate = model->deny_rate = 0;
        model->denied = 0;
        json_array_foreach(list, i, agent) keep_rates(model, agent, elapsed_ms);
        if (n > 0)
                qsort(past, n, sizeof(*past), compare_past);
        past_free(model->past, model->n_past);
        free(model->rows);
        model->past = past;
        model->n_past = n;
        model->rows = rows;
        model->n_agents = n;
        model->sampled_ms = now_ms;
        replace(&model->status, status);
        replace(&model->agents, agents);
        replace(&model->budgets, budgets);
        replace(&model->events, events);
        top_model_arrange(model);
        return 0;
}

size_t top_model_selected(const struct top_model *model)
{
        for (size_t i = 0; model->selected && i < model->n_rows; i++)
                if (!strcmp(model->rows[i].name, model->selected))
                        return i;
        return 0;
}

void top_model_select(struct top_model *model, long by)
{
        long place = (long)top_model_selected(model);
        char *name;

        if (model->n_rows == 0)
                return;
        /* `by` may be as large as it likes: "to the end". */
        if (by < 0)
                place = by < -place ? 0 : place + by;
        else
                place = by > (long)model->n_rows - 1 - place ? (long)model->n_rows - 1 : place + by;
        name = strdup(model->rows[place].name);
        if (!name)
                return;
        free(model->selected);
        model->selected = name;
}

json_t *top_model_to_json(const struct top_model *model)
{
        json_t *agents = json_array();

        for (size_t i = 0; i < model->n_rows; i++) {
                const struct top_row *row = &model->rows[i];

                (void)json_array_append_new(
                        agents, json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:f,s:f,s:f,s:o}", "name", row->name, "policy",
                                          row->policy, "mode", row->mode, "state", row->state, "out_bytes",
                                          (json_int_t)row->out_bytes, "in_bytes", (json_int_t)row->in_bytes, "denied",
                                          (json_int_t)row->denied, "out_rate", row->out_rate, "in_rate", row->in_rate,
                                          "deny_rate", row->deny_rate, "budget_percent",
                                          row->budget < 0 ? json_null() : json_real(row->budget)));
        }
        return json_pack(
                "{s:O*,s:O*,s:O*,s:O*,s:f,s:f,s:f,s:I,s:o}", "version", json_object_get(model->status, "version"),
                "generation", json_object_get(model->status, "generation"), "healthy",
                json_object_get(model->status, "healthy"), "problems", json_object_get(model->status, "problems"),
                "out_rate", model->out_rate, "in_rate", model->in_rate, "deny_rate", model->deny_rate, "denied",
                (json_int_t)model->denied, "agents", agents);
}
