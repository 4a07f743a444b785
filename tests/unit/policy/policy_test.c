/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The model's look-ups and the words for the ABI's numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "agentd/policy/policy.h"
#include "agentd/util/macro.h"

static void every_reason_has_a_name_that_leads_back_to_it(void **state)
{
        for (int reason = REASON_NONE; reason <= REASON_UNIX_SOCKET; reason++) {
                const char *name = verdict_reason_to_string(reason);

                assert_string_not_equal(name, "unknown");
                assert_int_equal(verdict_reason_from_string(name), reason);
        }
        assert_string_equal(verdict_reason_to_string(REASON_NO_RULE), "no_rule");
        assert_string_equal(verdict_reason_to_string(REASON_UNIX_SOCKET), "unix_socket");
}

static void unknown_numbers_and_words_are_told_apart(void **state)
{
        assert_string_equal(verdict_reason_to_string(REASON_UNIX_SOCKET + 1), "unknown");
        assert_string_equal(verdict_reason_to_string(REASON_MAX), "unknown");
        assert_string_equal(verdict_reason_to_string((enum verdict_reason) - 1), "unknown");
        assert_int_equal(verdict_reason_from_string("unknown"), -EINVAL);
        assert_int_equal(verdict_reason_from_string(""), -EINVAL);
        assert_string_equal(hook_to_string(HOOK_MAX), "unknown");
}

static void every_hook_has_a_name(void **state)
{
        for (int hook = HOOK_NONE; hook < HOOK_MAX; hook++)
                assert_string_not_equal(hook_to_string(hook), "unknown");
        assert_string_equal(hook_to_string(HOOK_CONNECT4), "connect4");
        assert_string_equal(hook_to_string(HOOK_EGRESS), "egress");
}

static void finds_a_policy_by_its_whole_name(void **state)
{
        static char *names[] = {"a", "ab", "b", "coding-agent", "z"};
        struct policy policies[ARRAY_SIZE(names)] = {0};
        struct policy *pointers[ARRAY_SIZE(names)];
        struct config config = {.policies = pointers, .n_policies = ARRAY_SIZE(names)};

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                policies[i].name = names[i];
                pointers[i] = &policies[i];
        }
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                assert_ptr_equal(config_find_policy(&config, names[i]), &policies[i]);
        assert_null(config_find_policy(&config, ""));
        assert_null(config_find_policy(&config, "aa"));
        assert_null(config_find_policy(&config, "zz"));
        config.n_policies = 0;
        assert_null(config_find_policy(&config, "a"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_reason_has_a_name_that_leads_back_to_it),
                cmocka_unit_test(unknown_numbers_and_words_are_told_apart),
                cmocka_unit_test(every_hook_has_a_name),
                cmocka_unit_test(finds_a_policy_by_its_whole_name),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
