/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Names, patterns, and the set of patterns, which must give what the single matcher gives.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agentd/policy/domain.h"
#include "agentd/util/macro.h"

#define LABEL63 "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff123"

static void names_become_canonical(void **state)
{
        static const char *const cases[][2] = {
                {"github.com", "github.com"},
                {"GitHub.COM", "github.com"},
                {"github.com.", "github.com"},
                {"localhost", "localhost"},
                {"_sip._tcp.example.com", "_sip._tcp.example.com"},
                {"1.0.0.127.in-addr.arpa", "1.0.0.127.in-addr.arpa"},
                {"b\xc3\xbc"
                 "cher.example",
                 "xn--bcher-kva.example"},
                {"B\xc3\x9c"
                 "CHER.example.",
                 "xn--bcher-kva.example"},
                {"stra\xc3\x9f"
                 "e.example",
                 "xn--strae-oqa.example"}, /* IDNA 2008: not "strasse" */
                {"xn--bcher-kva.example", "xn--bcher-kva.example"},
                {LABEL63 ".com", LABEL63 ".com"},
        };
        char name[NAME_MAX_BYTES];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_int_equal(domain_canonicalize(cases[i][0], name), 0);
                assert_string_equal(name, cases[i][1]);
        }
}

static void refuses_what_is_no_name(void **state)
{
        static const char *const cases[] = {
                "",
                ".",
                "..",
                ".com",
                "example..com",
                "example.com..",
                "exa mple.com",
                "example.com ",
                "example.com\n",
                "example.com/path",
                "https://example.com",
                "example.com:443",
                "user@example.com",
                "exa\\046mple.com",
                "*.example.com",
                "a*b.com",
                "*",
                "\xff\xfe.com",
                "\xc3.com",
                LABEL63 "4.com",
                LABEL63 "." LABEL63 "." LABEL63 "." LABEL63,
        };
        char name[NAME_MAX_BYTES] = "untouched";

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                assert_int_equal(domain_canonicalize(cases[i], name), -EINVAL);
        assert_string_equal(name, "untouched");
}

static void the_longest_name_has_253_characters(void **state)
{
        char text[300], name[NAME_MAX_BYTES];

        snprintf(text, sizeof(text), "%s.%s.%s.%.61s", LABEL63, LABEL63, LABEL63, LABEL63);
        assert_int_equal(strlen(text), 253);
        assert_int_equal(domain_canonicalize(text, name), 0);
        strcat(text, ".");
        assert_int_equal(domain_canonicalize(text, name), 0);
        snprintf(text, sizeof(text), "%s.%s.%s.%.62s", LABEL63, LABEL63, LABEL63, LABEL63);
        assert_int_equal(domain_canonicalize(text, name), -EINVAL);
}

static void patterns_become_canonical_or_are_refused(void **state)
{
        static const struct {
                const char *text;
                int result;
                const char *pattern;
        } cases[] = {
                {"GitHub.com.", 0, "github.com"},
                {"*.GitHubUserContent.com", 0, "*.githubusercontent.com"},
                {"api-*.example.com", 0, "api-*.example.com"},
                {"a*b*c.example.com", 0, "a*b*c.example.com"},
                {"s3.*.amazonaws.com", 0, "s3.*.amazonaws.com"},
                {"*.b\xc3\xbc"
                 "cher.example",
                 0, "*.xn--bcher-kva.example"},
                {"*", -EDOM, NULL},
                {"*.", -EDOM, NULL},
                {"**", -EDOM, NULL},
                {"*.*", -EDOM, NULL},
                {"**.example.com", -EINVAL, NULL},
                {"a**.example.com", -EINVAL, NULL},
                {"b\xc3\xbc*.example", -EINVAL, NULL},
                {"*..com", -EINVAL, NULL},
                {"", -EINVAL, NULL},
                {"?.example.com", -EINVAL, NULL},
                {"[a-z].example.com", -EINVAL, NULL},
        };
        char pattern[NAME_MAX_BYTES];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_int_equal(domain_pattern_canonicalize(cases[i].text, pattern), cases[i].result);
                if (cases[i].pattern)
                        assert_string_equal(pattern, cases[i].pattern);
        }
}

static const struct {
        const char *pattern, *name;
        bool matches;
} match_cases[] = {
        {"example.com", "example.com", true},
        {"example.com", "www.example.com", false},
        {"example.com", "example.com.evil.org", false},
        {"example.com", "notexample.com", false},
        {"example.com", "com", false},
        {"*.example.com", "www.example.com", true},
        {"*.example.com", "a.b.c.example.com", true},
        {"*.example.com", "example.com", false},
        {"*.example.com", "notexample.com", false},
        {"*.example.com", "www.notexample.com", false},
        {"*.example.com", "www.example.com.evil.org", false},
        {"*.com", "example.com", true},
        {"*.com", "com", false},
        {"api-*.example.com", "api-eu.example.com", true},
        {"api-*.example.com", "api-.example.com", true},
        {"api-*.example.com", "api.example.com", false},
        {"api-*.example.com", "api-eu.west.example.com", false},
        {"api-*.example.com", "x.api-eu.example.com", false},
        {"api-*.example.com", "xapi-eu.example.com", false},
        {"*-api.example.com", "eu-api.example.com", true},
        {"*-api.example.com", "eu-api2.example.com", false},
        {"a*b*c.example.com", "axxbxxc.example.com", true},
        {"a*b*c.example.com", "abc.example.com", true},
        {"a*b*c.example.com", "acb.example.com", false},
        {"a*a.example.com", "a.example.com", false},
        {"s3.*.amazonaws.com", "s3.eu-west-1.amazonaws.com", true},
        {"s3.*.amazonaws.com", "s3.amazonaws.com", false},
        {"s3.*.amazonaws.com", "s3.a.b.amazonaws.com", false},
        {"*.api-*.example.com", "x.y.api-1.example.com", true},
        {"*.api-*.example.com", "api-1.example.com", false},
        {"*.a.*", "x.a.com", true},
        {"*.a.*", "a.com", false},
};

static void patterns_match_what_the_contract_says(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(match_cases); i++)
                if (domain_pattern_matches(match_cases[i].pattern, match_cases[i].name) != match_cases[i].matches)
                        fail_msg("%s against %s", match_cases[i].pattern, match_cases[i].name);
}

static void a_set_of_one_matches_what_its_pattern_matches(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(match_cases); i++) {
                struct domain_set *set;
                __u32 value = 0;

                assert_int_equal(domain_set_new(&set), 0);
                assert_int_equal(domain_set_add(set, match_cases[i].pattern, 7), 0);
                if (domain_set_match(set, match_cases[i].name, &value, 1) != match_cases[i].matches)
                        fail_msg("%s against %s", match_cases[i].pattern, match_cases[i].name);
                assert_int_equal(value, match_cases[i].matches ? 7 : 0);
                domain_set_free(set);
        }
}

static void only_wildcards_on_a_registry_are_too_wide(void **state)
{
        static const struct {
                const char *pattern;
                bool wide;
        } cases[] = {
                {"*.com", true},           {"*.co.uk", true},        {"*.github.io", true}, {"api-*.com", true},
                {"*.foo-*", true},         {"*.example.com", false}, {"com", false},        {"github.io", false},
                {"*.me.github.io", false}, {"*.internal", false},    {"s3.*.co.uk", true},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                if (domain_pattern_is_too_wide(cases[i].pattern) != cases[i].wide)
                        fail_msg("%s", cases[i].pattern);
}

/* A few labels, so that patterns and names meet often. */
static void random_name(char *text, bool pattern)
{
        static const char *const labels[] = {"a", "b", "ab", "com", "x-a", "x-b"};
        static const char *const globs[] = {"*", "x-*", "a*", "*b"};
        unsigned n = 1 + (unsigned)rand() % 4;

        text[0] = '\0';
        for (unsigned i = 0; i < n; i++) {
                bool glob = pattern && rand() % 3 == 0;

                if (i > 0)
                        strcat(text, ".");
                strcat(text,
                       glob ? globs[(size_t)rand() % ARRAY_SIZE(globs)] : labels[(size_t)rand() % ARRAY_SIZE(labels)]);
        }
}

static void a_set_agrees_with_its_patterns_one_by_one(void **state)
{
        srand(1);
        for (unsigned round = 0; round < 300; round++) {
                char patterns[40][64], canonical[NAME_MAX_BYTES], name[64];
                __u32 values[40];
                size_t n_patterns = 0;
                struct domain_set *set;

                assert_int_equal(domain_set_new(&set), 0);
                while (n_patterns < ARRAY_SIZE(patterns)) {
                        random_name(patterns[n_patterns], true);
                        if (domain_pattern_canonicalize(patterns[n_patterns], canonical) < 0)
                                continue;
                        /* values out of order, and some of them shared */
                        values[n_patterns] = (__u32)(rand() % 25);
                        assert_int_equal(domain_set_add(set, canonical, values[n_patterns]), 0);
                        n_patterns++;
                }
                for (unsigned i = 0; i < 100; i++) {
                        __u32 expected[25], found[25];
                        size_t n_expected = 0, n_found;

                        random_name(name, false);
                        for (__u32 value = 0; value < 25; value++)
                                for (size_t p = 0; p < n_patterns; p++)
                                        if (values[p] == value && domain_pattern_matches(patterns[p], name)) {
                                                expected[n_expected++] = value;
                                                break;
                                        }
                        n_found = domain_set_match(set, name, found, ARRAY_SIZE(found));
                        assert_int_equal(n_found, n_expected);
                        assert_memory_equal(found, expected, n_found * sizeof(*found));
                }
                domain_set_free(set);
        }
}

static void tells_how_many_match_beyond_the_capacity(void **state)
{
        __u32 values[2] = {99, 99};
        struct domain_set *set;

        assert_int_equal(domain_set_new(&set), 0);
        assert_int_equal(domain_set_add(set, "example.com", 3), 0);
        assert_int_equal(domain_set_add(set, "example.com", 1), 0);
        assert_int_equal(domain_set_add(set, "*.com", 2), 0);
        assert_int_equal(domain_set_add(set, "example.com", 1), 0);
        assert_int_equal(domain_set_size(set), 3);
        assert_int_equal(domain_set_match(set, "example.com", values, 1), 3);
        assert_int_equal(values[0], 1);
        assert_int_equal(values[1], 99);
        assert_int_equal(domain_set_match(set, "", values, 2), 0);
        domain_set_free(set);
}

static double seconds(void)
{
        struct timespec now;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
        return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double match_time(unsigned n_patterns)
{
        struct domain_set *set;
        char text[64];
        double start;

        assert_int_equal(domain_set_new(&set), 0);
        for (unsigned i = 0; i < n_patterns; i++) {
                snprintf(text, sizeof(text), i % 2 ? "*.host%u.example.com" : "host%u.example.com", i);
                assert_int_equal(domain_set_add(set, text, i), 0);
        }
        start = seconds();
        for (unsigned i = 0; i < 20000; i++) {
                __u32 value;

                snprintf(text, sizeof(text), "www.host%u.example.com", i % n_patterns | 1);
                assert_int_equal(domain_set_match(set, text, &value, 1), 1);
                assert_int_equal(value, i % n_patterns | 1);
        }
        start = seconds() - start;
        domain_set_free(set);
        return start;
}

static void a_look_up_stays_flat_with_many_patterns(void **state)
{
        double few = match_time(10), many = match_time(100000);

        /* Cold caches cost a few times; a scan would cost ten thousand times. */
        assert_true(many < few * 50 + 0.05);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(names_become_canonical),
                cmocka_unit_test(refuses_what_is_no_name),
                cmocka_unit_test(the_longest_name_has_253_characters),
                cmocka_unit_test(patterns_become_canonical_or_are_refused),
                cmocka_unit_test(patterns_match_what_the_contract_says),
                cmocka_unit_test(a_set_of_one_matches_what_its_pattern_matches),
                cmocka_unit_test(only_wildcards_on_a_registry_are_too_wide),
                cmocka_unit_test(a_set_agrees_with_its_patterns_one_by_one),
                cmocka_unit_test(tells_how_many_match_beyond_the_capacity),
                cmocka_unit_test(a_look_up_stays_flat_with_many_patterns),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
