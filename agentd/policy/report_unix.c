/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a policy says of Unix sockets and of sockets from before, for `check` and `policy show`.
 */
#include "agentd/policy/report_unix.h"

#include <string.h>

json_t *report_unix_json(const struct unix_rules *rules)
{
        json_t *deny = json_array();

        for (size_t i = 0; deny && i < rules->n_deny; i++)
                json_array_append_new(deny, json_stringn(rules->deny[i], strlen(rules->deny[i])));
        return json_pack("{s:o,s:b,s:s}", "deny", deny, "defaults", !rules->no_defaults, "outside",
                         rules->outside_deny ? "deny" : "allow");
}

/* What is as it is without a word gets none. */
void report_unix_text(const json_t *policy, const char *indent, FILE *out)
{
        const json_t *rules = json_object_get(policy, "unix"), *deny = json_object_get(rules, "deny");
        const char *existing = json_string_value(json_object_get(policy, "existing"));
        const char *on_failure = json_string_value(json_object_get(policy, "on_failure"));
        const char *outside = json_string_value(json_object_get(rules, "outside"));
        bool defaults = !json_is_false(json_object_get(rules, "defaults"));

        if (outside && strcmp(outside, "deny") == 0)
                fprintf(out, "%sunix sockets: none but the agent's own\n", indent);
        for (size_t i = 0; i < json_array_size(deny); i++) {
                const char *item = json_string_value(json_array_get(deny, i));

                fprintf(out, "%s%s%s", i == 0 ? indent : "", i == 0 ? "unix sockets denied: " : ", ",
                        item ? item : "?");
        }
        if (json_array_size(deny) > 0)
                fprintf(out, "%s\n", defaults ? ", and the defaults" : "; not the defaults");
        else if (!defaults)
                fprintf(out, "%sunix sockets denied: none, not even the defaults\n", indent);
        if (existing && strcmp(existing, "destroy") == 0)
                fprintf(out, "%sexisting: destroy (sockets that are open at attach)\n", indent);
        if (on_failure && strcmp(on_failure, "quarantine") == 0)
                fprintf(out, "%son_failure: quarantine (frozen when a probe is let through)\n", indent);
}
