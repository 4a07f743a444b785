/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * `unix` and `existing` of a policy: what may be said, what is inherited, and the keys that it becomes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/policy/config.h"
#include "agentd/policy/unix.h"

static struct config *load(const char *text, char *ret_error, size_t size)
{
        struct diagnostics diagnostics = {0};
        struct config *config = NULL;

        ret_error[0] = '\0';
        if (config_load_buffer("-", text, strlen(text), &diagnostics, &config) < 0 && diagnostics.n_items > 0)
                (void)snprintf(ret_error, size, "%u:%u: %s", diagnostics.items[0].line, diagnostics.items[0].column,
                               diagnostics.items[0].text);
        diagnostics_clear(&diagnostics);
        return config;
}

static void bad_items_are_refused_with_what_would_be_right(void **state)
{
        static const char *const bad[] = {"run/docker.sock", "docker.sock", "/",         "@",         "/run/",
                                          "/run//a",         "/run/./a",    "/run/../a", "/run/a/..", "/proc/1/root/a",
                                          "/run/a*",         "/r*n/a",      "/run/*/a",  "@a*",       "@a/*b",
                                          "/run/**"};
        static const char *const good[] = {"/run/docker.sock", "/*",       "/run/*", "@a",          "@*", "@a/*",
                                           "/run/.a",          "/run/a..", "/a b",   "/processes/x"};
        char path[200];

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                if (!unix_item_problem(bad[i]))
                        fail_msg("'%s' is taken", bad[i]);
        for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
                if (unix_item_problem(good[i]))
                        fail_msg("'%s': %s", good[i], unix_item_problem(good[i]));
        memset(path, 'a', sizeof(path));
        path[0] = '/';
        path[UNIX_PATH_MAX_BYTES] = '\0';
        assert_null(unix_item_problem(path));
        path[UNIX_PATH_MAX_BYTES] = 'a';
        path[UNIX_PATH_MAX_BYTES + 1] = '\0';
        assert_non_null(unix_item_problem(path));
        for (size_t i = 0; i < unix_n_defaults; i++)
                assert_null(unix_item_problem(unix_defaults[i]));
}

static void an_item_becomes_its_keys(void **state)
{
        static const struct {
                const char *item;
                size_t n;
                struct {
                        enum unix_kind kind;
                        const char *name;
                        __u32 bytes;
                } keys[2];
        } cases[] = {
                {"/run/a.sock", 2, {{UNIX_PATH, "/run/a.sock", 12}, {UNIX_NAME, "a.sock", 7}}},
                {"/a", 2, {{UNIX_PATH, "/a", 3}, {UNIX_NAME, "a", 2}}},
                {"/run/*", 2, {{UNIX_PATH, "/run/", 5}, {UNIX_NAME, "", 0}}},
                {"/*", 2, {{UNIX_PATH, "/", 1}, {UNIX_NAME, "", 0}}},
                {"@name", 1, {{UNIX_ABSTRACT, "name", 5}}},
                {"@*", 1, {{UNIX_ABSTRACT, "", 0}}},
                {"@a/*", 1, {{UNIX_ABSTRACT, "a/", 2}}},
        };
        struct unix_key keys[UNIX_KEYS_OF_ITEM];
        char full[UNIX_PATH_MAX_BYTES + 1];

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                assert_int_equal(unix_item_keys(cases[i].item, 7, keys), cases[i].n);
                for (size_t k = 0; k < cases[i].n; k++) {
                        struct unix_key expected = {.prefix_length = 40 + 8 * cases[i].keys[k].bytes,
                                                    .version = htobe32(7),
                                                    .kind = (__u8)cases[i].keys[k].kind};

                        memcpy(expected.name, cases[i].keys[k].name, strlen(cases[i].keys[k].name));
                        assert_memory_equal(&keys[k], &expected, sizeof(expected));
                }
        }
        /* of full length: the NUL behind a path fits, an abstract name has none */
        memset(full, 'a', UNIX_PATH_MAX_BYTES);
        full[UNIX_PATH_MAX_BYTES] = '\0';
        full[0] = '/';
        assert_int_equal(unix_item_keys(full, 7, keys), 2);
        assert_int_equal(keys[0].prefix_length, 40 + 8 * 109);
        full[0] = '@';
        assert_int_equal(unix_item_keys(full, 7, keys), 1);
        assert_int_equal(keys[0].prefix_length, 40 + 8 * 107);
}

static void what_any_parent_denies_is_denied_once(void **state)
{
        char error[512];
        struct config *config = load(
                "version: 1\n"
                "policies:\n"
                "  a: {unix: {deny: [/run/a, /run/b], defaults: off}}\n"
                "  b: {unix: {deny: [/run/b, \"@c\"], defaults: on, outside: deny}, existing: destroy,\n"
                "      on_failure: quarantine}\n"
                "  c: {extends: [a, b], unix: {deny: [/run/d, /run/a]}}\n"
                "  d: {extends: [a]}\n"
                "  e: {extends: [b], existing: judge, on_failure: report, unix: {outside: allow, defaults: false}}\n"
                "  f: {}\n",
                error, sizeof(error));
        const struct policy *policy;

        assert_string_equal(error, "");
        policy = config_find_policy(config, "c");
        assert_int_equal(policy->unix_rules.n_deny, 4);
        assert_string_equal(policy->unix_rules.deny[0], "/run/a");
        assert_string_equal(policy->unix_rules.deny[1], "/run/b");
        assert_string_equal(policy->unix_rules.deny[2], "@c");
        assert_string_equal(policy->unix_rules.deny[3], "/run/d");
        /* of what the parents say the stricter */
        assert_false(policy->unix_rules.no_defaults);
        assert_true(policy->unix_rules.outside_deny);
        assert_true(policy->existing_destroy);
        assert_true(policy->on_failure_quarantine);
        policy = config_find_policy(config, "d");
        assert_int_equal(policy->unix_rules.n_deny, 2);
        assert_true(policy->unix_rules.no_defaults);
        assert_false(policy->unix_rules.outside_deny);
        policy = config_find_policy(config, "e");
        assert_true(policy->unix_rules.no_defaults);
        assert_false(policy->unix_rules.outside_deny);
        assert_false(policy->existing_destroy);
        assert_false(policy->on_failure_quarantine);
        policy = config_find_policy(config, "f");
        assert_int_equal(policy->unix_rules.n_deny, 0);
        assert_false(policy->unix_rules.no_defaults);
        assert_false(policy->unix_rules.outside_deny);
        assert_false(policy->existing_destroy);
        assert_false(policy->on_failure_quarantine);
        assert_true(unix_rules_equal(&policy->unix_rules, &policy->unix_rules));
        assert_false(unix_rules_equal(&policy->unix_rules, &config_find_policy(config, "d")->unix_rules));
        config_free(config);
}

static void errors_name_the_place(void **state)
{
        static const struct {
                const char *policy, *error;
        } cases[] = {
                {"{unix: {deny: [run/a]}}",
                 "2:30: 'run/a': not an absolute path; write '/run/NAME', '/run/DIRECTORY/*' or '@ABSTRACT'"},
                {"{unix: {deny: /run/a}}",
                 "2:29: 'deny' is a value; expected a list: [/run/docker.sock, /run/containerd/*]"},
                {"{unix: {dany: []}}", "2:23: unknown key 'dany'; did you mean 'deny'?"},
                {"{unix: {defaults: some}}", "2:33: 'defaults' is 'some'; expected on or off"},
                {"{unix: {outside: no}}", "2:32: 'outside' is 'no'; expected deny or allow"},
                {"{unix: []}", "2:22: a list where 'unix' is expected; write 'key: value' lines"},
                {"{existing: keep}", "2:26: 'existing' is 'keep'; expected destroy or judge"},
                {"{on_failure: freeze}", "2:28: 'on_failure' is 'freeze'; expected quarantine or report"},
        };
        char text[256], error[512];

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct config *config;

                (void)snprintf(text, sizeof(text), "version: 1\npolicies: {p: %s}\n", cases[i].policy);
                config = load(text, error, sizeof(error));
                assert_null(config);
                assert_string_equal(error, cases[i].error);
        }
}

static void lists_are_bounded(void **state)
{
        char *text = NULL, error[512];
        size_t size = 0;
        FILE *stream = open_memstream(&text, &size);
        struct config *config;

        fputs("version: 1\npolicies:\n  p:\n    unix:\n      deny:\n", stream);
        for (int i = 0; i < 1025; i++)
                fprintf(stream, "        - /run/%d\n", i);
        fclose(stream);
        config = load(text, error, sizeof(error));
        assert_null(config);
        assert_string_equal(error, "1030:11: more than 1024 sockets in 'deny'; write directories with a '*'");
        free(text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(bad_items_are_refused_with_what_would_be_right),
                cmocka_unit_test(an_item_becomes_its_keys),
                cmocka_unit_test(what_any_parent_denies_is_denied_once),
                cmocka_unit_test(errors_name_the_place),
                cmocka_unit_test(lists_are_bounded),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
