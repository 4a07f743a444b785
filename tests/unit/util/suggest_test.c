/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What counts as a typing error, and what is another word.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <string.h>

#include "agentd/util/macro.h"
#include "agentd/util/suggest.h"

static void counts_the_letters_to_mend(void **state)
{
        static const struct {
                const char *a, *b;
                unsigned distance;
        } cases[] = {
                {"", "", 0},
                {"a", "", 1},
                {"domain", "domain", 0},
                {"Domain", "domain", 0},
                {"domian", "domain", 1},
                {"domians", "domain", 2},
                {"doman", "domain", 1},
                {"domxin", "domain", 1},
                {"port", "ports", 1},
                {"abc", "xyz", 3},
                {"ca", "abc", 3},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_int_equal(suggest_distance(cases[i].a, cases[i].b), cases[i].distance);
                assert_int_equal(suggest_distance(cases[i].b, cases[i].a), cases[i].distance);
        }
}

static void long_words_are_never_near(void **state)
{
        char word[200];

        memset(word, 'a', sizeof(word) - 1);
        word[sizeof(word) - 1] = '\0';
        assert_int_equal(suggest_distance(word, "a"), UINT_MAX);
        assert_int_equal(suggest_distance("a", word), UINT_MAX);
}

static void suggests_only_what_can_be_meant(void **state)
{
        static const char *const words[] = {"domain", "cidr", "ports", "per"};
        static const struct {
                const char *word, *closest;
        } cases[] = {
                {"domians", "domain"}, {"port", "ports"}, {"cdir", "cidr"}, {"CIDR", "cidr"},
                {"address", NULL},     {"x", NULL},       {"", NULL},       {"foo", NULL},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                const char *closest = suggest_closest(cases[i].word, words, ARRAY_SIZE(words));

                if (cases[i].closest)
                        assert_string_equal(closest, cases[i].closest);
                else
                        assert_null(closest);
        }
        assert_null(suggest_closest("domain", words, 0));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(counts_the_letters_to_mend),
                cmocka_unit_test(long_words_are_never_near),
                cmocka_unit_test(suggests_only_what_can_be_meant),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
