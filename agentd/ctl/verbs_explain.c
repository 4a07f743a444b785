/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * explain and policy test: would it be allowed, and why. With --config from the file alone (no daemon, no root), else
 * from the daemon. Both answers are the same objects, printed by the same functions.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/ctl/client.h"
#include "agentd/ctl/config_file.h"
#include "agentd/ctl/print.h"
#include "agentd/policy/report.h"

/* Exit status of a report from a file. error: what is wrong, or NULL; taken. */
static int end_local(int r, bool allowed, char *error)
{
        if (r < 0) {
                ctl_error("%s", error ? error : strerror(-r));
                free(error);
                return r == -EINVAL ? CTL_USAGE : r == -E2BIG ? CTL_UNENFORCEABLE : CTL_FAILED;
        }
        r = print_end();
        return r != CTL_OK ? r : allowed ? CTL_OK : CTL_FAILED;
}

/* The daemon's answer; takes the report. */
static int end_asked(const struct ctl_arguments *arguments, json_t *report, void (*print)(const json_t *, FILE *))
{
        bool allowed = json_is_true(json_object_get(report, "allowed"));
        int r;

        if (arguments->json) {
                r = print_json(report);
        } else {
                print(report, stdout);
                r = print_end();
        }
        json_decref(report);
        return r != CTL_OK ? r : allowed ? CTL_OK : CTL_FAILED;
}

static int explain_from_file(const struct ctl_arguments *arguments)
{
        struct config *config = NULL;
        char *error = NULL;
        bool allowed = false;
        int r;

        if (!arguments->config || arguments->n_words != 1) {
                ctl_error("'explain --policy' judges a file: agentctl explain --policy P --config FILE "
                          "DEST[:PORT][/PROTO]");
                return CTL_USAGE;
        }
        r = config_file_load(arguments->config, true, &config);
        if (r != CTL_OK)
                return r;
        r = report_explain(config, arguments->policy, arguments->words[0], arguments->json, stdout, &allowed, &error);
        config_free(config);
        return end_local(r, allowed, error);
}

int ctl_explain(const struct ctl_arguments *arguments)
{
        json_t *request, *report;
        int r;

        if (arguments->policy)
                return explain_from_file(arguments);
        if (arguments->n_words != 2) {
                ctl_error("'explain' needs an agent and a destination: agentctl explain AGENT DEST[:PORT][/PROTO]");
                return CTL_USAGE;
        }
        request = json_pack("{s:s,s:s}", "agent", arguments->words[0], "destination", arguments->words[1]);
        if (!request) {
                ctl_error("the arguments are not UTF-8");
                return CTL_USAGE;
        }
        r = client_ask(arguments, "explain", request, CLIENT_TIMEOUT_MS, &report);
        return r != CTL_OK ? r : end_asked(arguments, report, report_explain_text);
}

static int test_from_file(const struct ctl_arguments *arguments)
{
        struct config *config = NULL;
        char *error = NULL;
        bool allowed = false;
        int r;

        r = config_file_load(arguments->config, true, &config);
        if (r != CTL_OK)
                return r;
        r = report_policy_test(config, arguments->words[0], arguments->words + 1, (size_t)arguments->n_words - 1,
                               arguments->json, stdout, &allowed, &error);
        config_free(config);
        return end_local(r, allowed, error);
}

int ctl_policy_test(const struct ctl_arguments *arguments)
{
        json_t *destinations, *request, *report;
        int r;

        if (arguments->config)
                return test_from_file(arguments);
        destinations = json_array();
        for (int i = 1; i < arguments->n_words; i++)
                if (json_array_append_new(destinations, json_string(arguments->words[i])) < 0) {
                        ctl_error("a destination is not UTF-8");
                        json_decref(destinations);
                        return CTL_USAGE;
                }
        request = json_pack("{s:s,s:o}", "policy", arguments->words[0], "destinations", destinations);
        if (!request) {
                ctl_error("the policy's name is not UTF-8");
                return CTL_USAGE;
        }
        r = client_ask(arguments, "policy-test", request, CLIENT_TIMEOUT_MS, &report);
        return r != CTL_OK ? r : end_asked(arguments, report, report_policy_test_text);
}
