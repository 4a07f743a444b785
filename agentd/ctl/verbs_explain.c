/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * explain and policy test: would it be allowed, and why. With --config from the file alone, else from the daemon.
 */
#include "agentd/ctl/client.h"
#include "agentd/ctl/print.h"

static int print_report(const struct ctl_arguments *arguments, json_t *report)
{
        bool allowed = json_is_true(json_object_get(report, "allowed"));
        int r = print_json(report);

        json_decref(report);
        return r != CTL_OK ? r : allowed ? CTL_OK : CTL_FAILED;
}

int ctl_explain(const struct ctl_arguments *arguments)
{
        json_t *report;
        int r;

        if (arguments->n_words != 2) {
                print_error("'explain' needs an agent and a destination: agentctl explain AGENT DEST[:PORT][/PROTO]");
                return CTL_USAGE;
        }
        r = client_ask(arguments, "explain",
                       json_pack("{s:s,s:s}", "agent", arguments->words[0], "destination", arguments->words[1]),
                       CLIENT_TIMEOUT_MS, &report);
        return r != CTL_OK ? r : print_report(arguments, report);
}

int ctl_policy_test(const struct ctl_arguments *arguments)
{
        json_t *destinations = json_array(), *report;
        int r;

        for (int i = 1; i < arguments->n_words; i++)
                json_array_append_new(destinations, json_string(arguments->words[i]));
        r = client_ask(arguments, "policy-test",
                       json_pack("{s:s,s:o}", "policy", arguments->words[0], "destinations", destinations),
                       CLIENT_TIMEOUT_MS, &report);
        return r != CTL_OK ? r : print_report(arguments, report);
}
