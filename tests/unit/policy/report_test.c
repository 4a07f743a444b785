/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What people and programs are told about a policy and a destination.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/policy/report.h"
#include "agentd/util/macro.h"

static const char file[] = "version: 1\n"
                           "policies:\n"
                           "  p:\n"
                           "    egress:\n"
                           "      - {domain: github.com, ports: [443]}\n"
                           "      - {name: db, cidr: 10.20.0.0/16, except: [10.20.0.5], ports: [5432, 8000-8099/udp]}\n"
                           "      - {cidr: 192.0.2.7, protocol: icmp}\n"
                           "      - {domain: '*.s3.example.com'}\n"
                           "    deny:\n"
                           "      - {cidr: 10.20.1.0/24}\n"
                           "      - {domain: bad.s3.example.com}\n"
                           "      - {domain: github.com, ports: [22]}\n"
                           "agents: {a: {cgroup: /a, policy: p}}\n";

static struct config *config;

static int config_make(void **state)
{
        struct diagnostics diagnostics = {0};
        int r = config_load_buffer("f.yaml", file, sizeof(file) - 1, &diagnostics, &config);

        diagnostics_clear(&diagnostics);
        return r;
}

static int config_unmake(void **state)
{
        config_free(config);
        return 0;
}

/* policy test or explain of one destination, as JSON. */
static json_t *explain(const char *destination)
{
        char *text = NULL;
        size_t size = 0;
        FILE *stream = open_memstream(&text, &size);
        char *error = NULL;
        bool allowed = false;
        json_t *json;

        assert_int_equal(report_explain(config, "p", destination, true, stream, &allowed, &error), 0);
        fclose(stream);
        json = json_loads(text, 0, NULL);
        assert_non_null(json);
        assert_int_equal(json_is_true(json_object_get(json, "allowed")), allowed);
        free(text);
        return json;
}

static void destinations_get_their_verdict_reason_and_rule(void **state)
{
        static const struct {
                const char *destination, *verdict, *reason, *rule;
                int line;
        } cases[] = {
                {"github.com", "allow", NULL, "p#1", 5},
                {"github.com:443", "allow", NULL, "p#1", 5},
                {"GITHUB.com.:443/udp", "allow", NULL, "p#1", 5},
                {"github.com:80", "deny", "no_rule", NULL, 0},
                {"github.com:22", "deny", "deny_rule", "p#deny3", 12},
                {"evil.example", "deny", "name_not_allowed", NULL, 0},
                {"a.s3.example.com:9999/udp", "allow", NULL, "p#4", 8},
                {"a.s3.example.com:53", "redirect", NULL, NULL, 0},
                {"bad.s3.example.com", "deny", "deny_rule", "p#deny2", 11},
                {"s3.example.com", "deny", "name_not_allowed", NULL, 0},
                {"10.20.0.1:5432", "allow", NULL, "db", 6},
                {"10.20.0.1:8050/udp", "allow", NULL, "db", 6},
                {"10.20.0.1:8050", "deny", "no_rule", NULL, 0},
                {"10.20.0.5:5432", "deny", "no_rule", NULL, 0},
                {"10.20.1.1:5432", "deny", "deny_rule", "p#deny1", 10},
                {"10.20.2.0/24:5432", "allow", NULL, "db", 6},
                {"10.20.0.0/24", "deny", "no_rule", NULL, 0},
                {"192.0.2.7/icmp", "allow", NULL, "p#3", 7},
                {"192.0.2.7/tcp", "deny", "no_rule", NULL, 0},
                {"127.0.0.1:80", "allow", NULL, NULL, 0},
                {"169.254.169.254:80", "deny", "metadata", NULL, 0},
                {"8.8.8.8:53/udp", "redirect", NULL, NULL, 0},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                json_t *json = explain(cases[i].destination);
                const char *reason = json_string_value(json_object_get(json, "reason"));
                const char *rule = json_string_value(json_object_get(json, "rule"));

                if (strcmp(json_string_value(json_object_get(json, "verdict")), cases[i].verdict) != 0 ||
                    strcmp(reason ? reason : "-", cases[i].reason ? cases[i].reason : "-") != 0 ||
                    strcmp(rule ? rule : "-", cases[i].rule ? cases[i].rule : "-") != 0 ||
                    json_integer_value(json_object_get(json, "line")) != cases[i].line)
                        fail_msg("%s: %s", cases[i].destination, json_dumps(json, JSON_INDENT(1)));
                if (rule)
                        assert_string_equal(json_string_value(json_object_get(json, "file")), "f.yaml");
                assert_true(json_is_null(json_object_get(json, "budget_left")));
                json_decref(json);
        }
}

/* Takes the file, adds what was suggested to the policy, asks again. */
static void what_is_suggested_would_allow_it(void **state)
{
        static const char *const cases[] = {"evil.example",      "evil.example:443",  "evil.example:443/udp",
                                            "203.0.113.9:22",    "203.0.113.0/24",    "203.0.113.9/icmp",
                                            "[2001:db8::1]:443", "169.254.169.254:80"};

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                json_t *json = explain(cases[i]);
                const char *suggestion = json_string_value(json_object_get(json, "suggestion"));
                char text[1024] = "version: 1\npolicies:\n  p:\n", line[256];
                struct diagnostics diagnostics = {0};
                struct config *changed = NULL;
                FILE *null = fopen("/dev/null", "w");
                char *error = NULL;
                bool allowed = false;

                assert_string_equal(json_string_value(json_object_get(json, "verdict")), "deny");
                assert_non_null(suggestion);
                while (*suggestion) {
                        size_t size = strcspn(suggestion, "\n");

                        snprintf(line, sizeof(line), "    %.*s\n", (int)size, suggestion);
                        strcat(text, line);
                        suggestion += size + 1;
                }
                assert_int_equal(config_load_buffer("t", text, strlen(text), &diagnostics, &changed), 0);
                assert_int_equal(report_explain(changed, "p", cases[i], false, null, &allowed, &error), 0);
                if (!allowed)
                        fail_msg("%s is not allowed by\n%s", cases[i], text);
                fclose(null);
                config_free(changed);
                diagnostics_clear(&diagnostics);
                json_decref(json);
        }
}

static void policy_test_is_allowed_when_all_are(void **state)
{
        char *both[] = {(char *)"github.com:443", (char *)"10.20.0.1:5432"};
        char *mixed[] = {(char *)"github.com:443", (char *)"evil.example"};
        char *text = NULL;
        size_t size = 0;
        FILE *stream = open_memstream(&text, &size);
        char *error = NULL;
        bool allowed = false;

        assert_int_equal(report_policy_test(config, "p", both, 2, false, stream, &allowed, &error), 0);
        assert_true(allowed);
        assert_int_equal(report_policy_test(config, "p", mixed, 2, false, stream, &allowed, &error), 0);
        assert_false(allowed);
        fclose(stream);
        assert_non_null(strstr(text, "allow     github.com:443\n          rule 'p#1' allows it (f.yaml:5)\n"));
        assert_non_null(strstr(text, "deny      evil.example  (name_not_allowed)\n"));
        assert_non_null(strstr(text, "            egress:\n              - domain: evil.example\n"));
        free(text);
}

static void wrong_usage_is_told_apart_from_a_deny(void **state)
{
        char *none[] = {(char *)"https://x/"};
        char *error = NULL;
        bool allowed = false;
        char *text = report_unknown_policy(config, "q");

        assert_string_equal(text, "there is no policy 'q'; the first one there is 'p'");
        free(text);
        assert_int_equal(report_policy_test(config, "q", none, 1, false, stdout, &allowed, &error), -EINVAL);
        assert_string_equal(error, "there is no policy 'q'; the first one there is 'p'");
        free(error);
        assert_int_equal(report_policy_test(config, "p", none, 1, false, stdout, &allowed, &error), -EINVAL);
        assert_non_null(strstr(error, "'https://x/' is a URL"));
        free(error);
        assert_int_equal(report_explain(config, "pp", "x.example", false, stdout, &allowed, &error), -EINVAL);
        assert_string_equal(error, "there is no policy 'pp'; the first one there is 'p'");
        free(error);
}

static void a_learned_name_is_told_with_its_time(void **state)
{
        struct compiled_policy *compiled;
        struct explain_input input = {0};
        struct report_learned learned = {.name = "a.s3.example.com", .expires_in_s = 42};
        struct destination destination = {0};
        json_t *json;
        char *error;

        assert_int_equal(policy_compile(config->policies[0], NULL, &compiled), 0);
        input.compiled = compiled;
        input.word_flags = compiled->word_flags | WORD_QUARANTINE;
        assert_int_equal(destination_parse("203.0.113.1:443", &destination, &error), 0);
        json = report_explain_json(&input, &destination, "203.0.113.1:443", &learned);
        assert_string_equal(json_string_value(json_object_get(json, "reason")), "quarantine");
        assert_string_equal(json_string_value(json_object_get(json, "name")), "a.s3.example.com");
        assert_int_equal(json_integer_value(json_object_get(json, "expires_in_s")), 42);
        assert_true(json_is_null(json_object_get(json, "suggestion")));
        json_decref(json);
        compiled_policy_free(compiled);
}

static void a_policy_is_shown_denies_first(void **state)
{
        json_t *json = report_policy_json(config, config->policies[0]), *rules = json_object_get(json, "rules");
        static const char *const ids[] = {"p#deny1", "p#deny2", "p#deny3", "p#1", "db", "p#3", "p#4"};
        char *text = NULL;
        size_t size = 0;
        FILE *stream = open_memstream(&text, &size);

        assert_int_equal(json_array_size(rules), ARRAY_SIZE(ids));
        for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
                assert_string_equal(json_string_value(json_object_get(json_array_get(rules, i), "id")), ids[i]);
        assert_string_equal(json_string_value(json_array_get(json_object_get(json, "agents"), 0)), "a");
        report_policy_text(json, stream);
        fclose(stream);
        assert_non_null(strstr(text, "5432, 8000-8099/udp  except 10.20.0.5  (db, f.yaml:6)\n"));
        assert_non_null(strstr(text, "  deny   everything else\n"));
        free(text);
        json_decref(json);
}

static void a_check_says_whether_it_is_valid_and_why_not(void **state)
{
        static const char bad[] = "version: 1\nx: 1\n";
        struct diagnostics diagnostics = {0};
        struct config *none = NULL;
        json_t *json;
        char *text = NULL;
        size_t size = 0;
        FILE *stream = open_memstream(&text, &size);

        json = report_check_json("f.yaml", config, &diagnostics);
        assert_true(json_is_true(json_object_get(json, "valid")));
        report_check_text(json, stream);
        json_decref(json);

        assert_int_equal(config_load_buffer("b.yaml", bad, sizeof(bad) - 1, &diagnostics, &none), -EINVAL);
        json = report_check_json("b.yaml", NULL, &diagnostics);
        assert_true(json_is_false(json_object_get(json, "valid")));
        assert_int_equal(json_array_size(json_object_get(json, "errors")), 1);
        assert_int_equal(json_array_size(json_object_get(json, "warnings")), 0);
        json_decref(json);
        report_diagnostics("agentd", &diagnostics, stream);
        fclose(stream);
        assert_non_null(strstr(text, "f.yaml: valid; policies: 1, agents: 1\n"));
        assert_non_null(strstr(text, "agentd: b.yaml:2:1: unknown key 'x'; the file has: "));
        diagnostics_clear(&diagnostics);
        free(text);
}

static const char limited_file[] =
        "version: 1\n"
        "dns: {rate: {queries: 20, per: second, burst: 40}}\n"
        "policies:\n"
        "  fleet: {budget: {bytes: 1GiB, per: month, shared: true}}\n"
        "  p:\n"
        "    extends: [fleet]\n"
        "    egress:\n"
        "      - name: api\n"
        "        domain: api.example\n"
        "        budget: [{bytes: 50MiB, per: day}, {bytes: 3, per: total, direction: ingress}]\n"
        "        rate: {connections: 60, per: minute, burst: 10}\n"
        "      - {cidr: 10.0.0.0/8, ports: [443]}\n"
        "    budget: {bytes: 2GB, per: day, direction: both, on_exhausted: reset}\n";

struct limited {
        struct config *config;
        struct compiled_policy *compiled;
};

static void limited_make(struct limited *ret)
{
        struct diagnostics diagnostics = {0};

        *ret = (struct limited){0};
        assert_int_equal(
                config_load_buffer("f.yaml", limited_file, sizeof(limited_file) - 1, &diagnostics, &ret->config), 0);
        diagnostics_clear(&diagnostics);
        assert_int_equal(policy_compile(config_find_policy(ret->config, "p"), NULL, &ret->compiled), 0);
}

static void limited_unmake(struct limited *limited)
{
        compiled_policy_free(limited->compiled);
        config_free(limited->config);
}

/* What a daemon would know. */
struct figures {
        __u64 used[4]; /* in the order of asking */
        size_t n_asked;
};

static bool find_figures(void *context, const struct rule *rule, const struct budget *budget,
                         struct explain_ledger *ret)
{
        struct figures *figures = context;

        ret->used = figures->used[figures->n_asked++];
        ret->limit = budget->bytes + (rule ? 0 : 1000); /* granted */
        if (budget->shared)
                ret->scope = "shared@fleet/month";
        return true;
}

static json_t *explain_limited(const struct limited *limited, const char *text, struct figures *figures)
{
        struct explain_input input = {
                .compiled = limited->compiled,
                .word_flags = limited->compiled->word_flags,
                .ledger = figures ? find_figures : NULL,
                .ledger_context = figures,
        };
        struct destination destination = {0};
        char *error = NULL;
        json_t *json;

        assert_int_equal(destination_parse(text, &destination, &error), 0);
        json = report_explain_json(&input, &destination, text, NULL);
        assert_non_null(json);
        destination_clear(&destination);
        return json;
}

/* "SCOPE LIMIT LEFT, ..." */
static void budgets_text(const json_t *json, char *text, size_t size)
{
        const json_t *budgets = json_object_get(json, "budgets");

        text[0] = '\0';
        for (size_t i = 0; i < json_array_size(budgets); i++) {
                const json_t *budget = json_array_get(budgets, i), *left = json_object_get(budget, "left");
                size_t used = strlen(text);

                snprintf(text + used, size - used, "%s%s %lld %lld", i == 0 ? "" : ", ",
                         json_string_value(json_object_get(budget, "scope")),
                         (long long)json_integer_value(json_object_get(budget, "limit")),
                         json_is_null(left) ? -1 : (long long)json_integer_value(left));
        }
}

static void explain_names_the_budgets_that_pay_and_what_is_left(void **state)
{
        static const struct {
                const char *destination, *budgets, *verdict, *reason;
                bool live;
                __u64 used[4];
                long long left; /* -1: null */
        } cases[] = {
                {"api.example:443",
                 "shared/month 1073741824 -1, agent/day/both 2000000000 -1, api/day 52428800 -1, api/total/ingress 3 "
                 "-1",
                 "allow",
                 NULL,
                 false,
                 {0},
                 -1},
                {"10.0.0.1:443",
                 "shared/month 1073741824 -1, agent/day/both 2000000000 -1",
                 "allow",
                 NULL,
                 false,
                 {0},
                 -1},
                {"10.0.0.1:80", "", "deny", "no_rule", true, {0}, -1},
                {"other.example", "", "deny", "name_not_allowed", true, {0}, -1},
                {"127.0.0.1:80", "", "allow", NULL, true, {0}, -1},
                {"api.example:443",
                 "shared@fleet/month 1073742824 1073742723, agent/day/both 2000001000 2000000999, "
                 "api/day 52428800 52428800, api/total/ingress 3 2",
                 "allow",
                 NULL,
                 true,
                 {101, 1, 0, 1},
                 2},
                {"10.0.0.1:443",
                 "shared@fleet/month 1073742824 1073742824, agent/day/both 2000001000 1",
                 "allow",
                 NULL,
                 true,
                 {0, 2000000999},
                 1},
                {"10.0.0.1:443",
                 "shared@fleet/month 1073742824 1073742824, agent/day/both 2000001000 0",
                 "deny",
                 "budget_exhausted",
                 true,
                 {0, 2000001000},
                 0},
                /* audit: above its limit */
                {"10.0.0.1:443",
                 "shared@fleet/month 1073742824 0, agent/day/both 2000001000 2000001000",
                 "deny",
                 "budget_exhausted",
                 true,
                 {1073742825},
                 0},
        };
        struct limited limited;

        limited_make(&limited);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct figures figures = {0};
                const char *reason;
                char text[512];
                json_t *json, *left;

                memcpy(figures.used, cases[i].used, sizeof(figures.used));
                json = explain_limited(&limited, cases[i].destination, cases[i].live ? &figures : NULL);
                budgets_text(json, text, sizeof(text));
                reason = json_string_value(json_object_get(json, "reason"));
                left = json_object_get(json, "budget_left");
                if (strcmp(text, cases[i].budgets) != 0 ||
                    strcmp(json_string_value(json_object_get(json, "verdict")), cases[i].verdict) != 0 ||
                    strcmp(reason ? reason : "", cases[i].reason ? cases[i].reason : "") != 0 ||
                    (json_is_null(left) ? -1 : json_integer_value(left)) != cases[i].left)
                        fail_msg("%s: %s", cases[i].destination, json_dumps(json, 0));
                json_decref(json);
        }
        limited_unmake(&limited);
}

static void explain_says_which_budget_is_spent_and_what_to_do(void **state)
{
        struct figures figures = {.used = {0, 0, 52428800, 0}};
        struct limited limited;
        char *text = NULL;
        size_t size = 0;
        FILE *stream = open_memstream(&text, &size);
        json_t *json;

        limited_make(&limited);
        json = explain_limited(&limited, "api.example:443", &figures);
        report_explain_text(json, stream);
        fclose(stream);
        assert_string_equal(text,
                            "deny      api.example:443  (budget_exhausted)\n"
                            "          rule 'api' allows it, but budget 'api/day' is spent: all 50MiB of it; "
                            "'agentctl budget grant' adds to it (f.yaml:8)\n"
                            "          budget shared@fleet/month: 1.0 GiB left of 1073742824 bytes per month, "
                            "egress, shared (policy 'fleet')\n"
                            "          budget agent/day/both: 1.9 GiB left of 2000001kB per day, egress and ingress\n"
                            "          budget api/day: 0 bytes left of 50MiB per day, egress\n"
                            "          budget api/total/ingress: 3 bytes left of 3 bytes in total, ingress\n");
        free(text);
        json_decref(json);
        limited_unmake(&limited);
}

static void check_shows_limits_as_they_hold(void **state)
{
        struct diagnostics diagnostics = {0};
        struct limited limited;
        char *text = NULL;
        size_t size = 0;
        FILE *stream = open_memstream(&text, &size);
        json_t *check, *policy, *rule;

        limited_make(&limited);
        check = report_check_json("f.yaml", limited.config, &diagnostics);
        report_check_text(check, stream);
        fclose(stream);
        assert_non_null(strstr(text, "nxdomain; of each agent 20 look-ups per second, 40 at once\n"));
        assert_non_null(strstr(text, "  budget: 1GiB per month, egress, shared (policy 'fleet')\n"
                                     "  budget: 2GB per day, egress and ingress; spent: connections are reset\n"));
        assert_non_null(strstr(text, "(api, f.yaml:8)\n"
                                     "                 budget: 50MiB per day, egress\n"
                                     "                 budget: 3 bytes in total, ingress\n"
                                     "                 rate: 60 connections per minute, 10 at once\n"));

        policy = json_array_get(json_object_get(check, "policies"), 1);
        assert_true(json_is_null(json_object_get(policy, "rate")));
        assert_int_equal(json_array_size(json_object_get(policy, "budget")), 2);
        rule = json_array_get(json_object_get(policy, "rules"), 0);
        assert_int_equal(json_integer_value(json_object_get(json_object_get(rule, "rate"), "burst")), 10);
        assert_string_equal(json_string_value(json_object_get(json_object_get(rule, "rate"), "per")), "minute");
        assert_int_equal(
                json_integer_value(json_object_get(json_object_get(json_object_get(check, "dns"), "rate"), "queries")),
                20);
        rule = json_array_get(json_object_get(policy, "rules"), 1);
        assert_true(json_is_null(json_object_get(rule, "rate")));
        assert_int_equal(json_array_size(json_object_get(rule, "budget")), 0);
        json_decref(check);
        free(text);
        limited_unmake(&limited);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(destinations_get_their_verdict_reason_and_rule),
                cmocka_unit_test(what_is_suggested_would_allow_it),
                cmocka_unit_test(policy_test_is_allowed_when_all_are),
                cmocka_unit_test(wrong_usage_is_told_apart_from_a_deny),
                cmocka_unit_test(a_learned_name_is_told_with_its_time),
                cmocka_unit_test(a_policy_is_shown_denies_first),
                cmocka_unit_test(a_check_says_whether_it_is_valid_and_why_not),
                cmocka_unit_test(explain_names_the_budgets_that_pay_and_what_is_left),
                cmocka_unit_test(explain_says_which_budget_is_spent_and_what_to_do),
                cmocka_unit_test(check_shows_limits_as_they_hold),
        };

        return cmocka_run_group_tests(tests, config_make, config_unmake);
}
