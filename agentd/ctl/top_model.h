/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What `agentctl top` knows: the daemon's last answers, and what two of them in a row say about rates. It draws nothing
 * and asks nothing, so tests feed it with answers.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "agentd/abi.h"

enum top_sort { TOP_BY_NAME, TOP_BY_OUT, TOP_BY_IN, TOP_BY_DENIED, TOP_BY_BUDGET, TOP_SORT_MAX };

enum { TOP_FILTER_MAX = 64, TOP_ERROR_MAX = 160 };

/* An agent. Pointers into the model's answers, valid until the next top_model_update(). */
struct top_row {
        const char *name, *policy, *mode, *state;
        const json_t *agent;
        __u64 out_bytes, in_bytes, denied; /* since the agent's attachment; denied: would_deny, too */
        double out_rate, in_rate;          /* bytes a second */
        double deny_rate;                  /* a second */
        double budget;                     /* percent of its fullest budget; negative: it has none */
        bool ill;                          /* its state is a problem of health */
};

struct top_past {
        char *name;
        __u64 out_bytes, in_bytes, denied;
};

struct top_model {
        json_t *status, *agents, *budgets, *events; /* references of our own; NULL before the first answer */

        struct top_row *rows; /* those that the filter lets through, in order */
        size_t n_rows, n_agents;
        double out_rate, in_rate, deny_rate; /* of all agents */
        __u64 denied;

        struct top_past *past; /* by name: the sample before */
        size_t n_past;
        __u64 sampled_ms; /* CLOCK_MONOTONIC; 0: no sample */

        enum top_sort sort;
        bool reverse;
        char filter[TOP_FILTER_MAX];
        char *selected;            /* an agent's name; NULL: the first row */
        char error[TOP_ERROR_MAX]; /* why the answers are old; empty when they are not */
};

void top_model_clear(struct top_model *model);

/*
 * The results of status, agents, budget-show and events, all stolen, asked at now_ms. What is malformed counts as
 * absent. 0 or -ENOMEM; then the model is as it was but for the answers, which are dropped.
 */
int top_model_update(struct top_model *model, json_t *status, json_t *agents, json_t *budgets, json_t *events,
                     __u64 now_ms);

/* After sort, reverse or filter was changed. */
void top_model_arrange(struct top_model *model);

/* The selected row's place, 0 when the selected agent is not shown. */
size_t top_model_selected(const struct top_model *model);
/* Moves the selection by `by` rows, bounded. */
void top_model_select(struct top_model *model, long by);

const char *top_sort_to_string(enum top_sort sort);

/* The view as JSON, rates included: a new reference, or NULL. */
json_t *top_model_to_json(const struct top_model *model);
