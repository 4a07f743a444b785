/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Verbs about budgets.
 */
#include <errno.h>
#include <stdint.h>

#include "agentd/ctl/client.h"
#include "agentd/ctl/print.h"
#include "agentd/util/parse.h"

/* A duration, or what is said when it is not known. */
static void add_time_left(struct table *table, const json_t *budget)
{
        const json_t *left = json_object_get(budget, "time_left");
        char text[PRINT_TEXT_MAX];

        if (json_is_integer(left))
                table_cell(table, "%s", print_duration(json_integer_value(left), text));
        else
                table_cell(table, "-");
}

static void print_budgets(const json_t *budgets)
{
        static const char *const titles[] = {"AGENT", "SCOPE",      "USED", "LIMIT",    "LEFT",
                                             "%",     "WINDOW-END", "RATE", "TIME-LEFT"};
        char text[PRINT_TEXT_MAX];
        const json_t *budget;
        struct table table;
        size_t i;

        table_begin(&table, ARRAY_SIZE(titles));
        for (i = 0; i < ARRAY_SIZE(titles); i++)
                table_cell(&table, "%s", titles[i]);
        json_array_foreach(budgets, i, budget)
        {
                json_int_t granted = json_number(budget, "granted");
                const char *end = json_text(budget, "window_end");

                table_cell(&table, "%s", json_text(budget, "agent"));
                table_cell(&table, "%s", json_text(budget, "scope"));
                table_cell(&table, "%s", print_size(json_number(budget, "used"), text));
                /* With what was granted in this window: that is what holds. */
                table_cell(&table, "%s", print_size(json_number(budget, "limit") + granted, text));
                table_cell(&table, "%s", print_size(json_number(budget, "left"), text));
                table_cell(&table, "%.0f", json_number_value(json_object_get(budget, "percent")));
                table_cell(&table, "%s", end[0] ? end : "never");
                table_cell(&table, "%s/s", print_size(json_number(budget, "rate"), text));
                add_time_left(&table, budget);
        }
        table_print(&table, stdout);
        table_clear(&table);
}

static int ask_budgets(const struct ctl_arguments *arguments, const char *verb, json_t *request, const char *done)
{
        json_t *result;
        int r;

        if (!request) {
                ctl_error("the agent's name or the scope is not UTF-8");
                return CTL_USAGE;
        }
        r = client_ask(arguments, verb, request, CLIENT_TIMEOUT_MS, &result);
        if (r != CTL_OK)
                return r;
        if (arguments->json) {
                r = print_json(result);
        } else if (done) {
                const json_t *list = json_is_array(result) ? result : NULL, *budget = result;
                char used[PRINT_TEXT_MAX], limit[PRINT_TEXT_MAX];

                for (size_t i = 0; list ? i < json_array_size(list) : i < 1; i++) {
                        if (list)
                                budget = json_array_get(list, i);
                        print_safe(stdout, json_text(budget, "scope"));
                        printf(" of ");
                        print_safe(stdout, json_text(budget, "agent"));
                        printf(" %s: %s of %s used\n", done, print_size(json_number(budget, "used"), used),
                               print_size(json_number(budget, "limit") + json_number(budget, "granted"), limit));
                }
                r = print_end();
        } else {
                print_budgets(result);
                r = print_end();
        }
        json_decref(result);
        return r;
}

int ctl_budget_show(const struct ctl_arguments *arguments)
{
        const char *agent = arguments->n_words > 0 ? arguments->words[0] : NULL;

        return ask_budgets(arguments, "budget-show", agent ? json_pack("{s:s}", "agent", agent) : json_object(), NULL);
}

int ctl_budget_grant(const struct ctl_arguments *arguments)
{
        const char *text = arguments->words[2];
        __u64 bytes;
        int r;

        r = parse_size(text, &bytes);
        if (r < 0 || bytes == 0 || bytes > INT64_MAX) {
                ctl_error("'%s' is no size that can be granted; such as '10MiB', '2GB', '4096'%s", text,
                          r == -EINVAL ? "" : ", at least 1 byte and at most 256TiB");
                return CTL_USAGE;
        }
        return ask_budgets(arguments, "budget-grant",
                           json_pack("{s:s,s:s,s:I}", "agent", arguments->words[0], "scope", arguments->words[1],
                                     "bytes", (json_int_t)bytes),
                           "granted");
}

int ctl_budget_reset(const struct ctl_arguments *arguments)
{
        json_t *request = json_pack("{s:s}", "agent", arguments->words[0]);

        if (request && arguments->n_words > 1 &&
            json_object_set_new(request, "scope", json_string(arguments->words[1])) < 0) {
                json_decref(request);
                request = NULL;
        }
        return ask_budgets(arguments, "budget-reset", request, "reset");
}
