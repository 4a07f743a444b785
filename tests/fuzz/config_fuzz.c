/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Any bytes as a configuration: an answer, and places that make sense; what is valid can be compiled and reported, and
 * its limits fit into the kernel's.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "agentd/ledger/plan.h"
#include "agentd/policy/limits.h"
#include "agentd/policy/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(int condition)
{
        if (!condition)
                abort();
}

static void check_budgets(const struct budget *budgets, size_t n)
{
        for (size_t i = 0; i < n; i++)
                require(budgets[i].bytes > 0 && budgets[i].bytes <= LEDGER_BYTES_MAX && budgets[i].owner &&
                        budget_slot(&budgets[i]) < BUDGET_SLOTS && budgets[i].place.line > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
        struct diagnostics diagnostics = {0};
        struct config *config = NULL;
        int r = config_load_buffer("fuzz.yaml", (const char *)bytes, size, &diagnostics, &config);

        require(r == 0 || r == -EINVAL || r == -ENOMEM);
        require((config != NULL) == (r == 0));
        require(r == -ENOMEM || diagnostics_have_errors(&diagnostics) == (r < 0));
        for (size_t i = 0; i < diagnostics.n_items; i++)
                require(diagnostics.items[i].line > 0 && diagnostics.items[i].column > 0 &&
                        diagnostics.items[i].text[0]);

        for (size_t i = 0; config && i < config->n_policies; i++) {
                const struct policy *policy = config->policies[i];
                struct compiled_policy *compiled = NULL;

                require(config_find_policy(config, policy->name) == policy);
                for (size_t j = 0; j < policy->n_rules; j++) {
                        require(policy->rules[j].n_ports > 0 && policy->rules[j].id);
                        require(policy->rules[j].place.line > 0);
                        require(rule_has_limits(&policy->rules[j]) == (policy->rules[j].scope != NULL));
                        check_budgets(policy->rules[j].budgets, policy->rules[j].n_budgets);
                }
                check_budgets(policy->budgets, policy->n_budgets);
                r = policy_compile(policy, NULL, &compiled);
                require(r == 0 || r == -E2BIG || r == -ENOMEM);
                if (r == 0) {
                        struct ledger_plan *plan = NULL;

                        r = ledger_plan_new(compiled, "agent", &plan);
                        require(r == 0 || r == -ENOMEM);
                        ledger_plan_free(plan);
                }
                compiled_policy_free(compiled);
        }
        json_decref(report_check_json("fuzz.yaml", config, &diagnostics));
        config_free(config);
        diagnostics_clear(&diagnostics);
        return 0;
}
