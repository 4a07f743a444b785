/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Numbers, sizes and durations: what is taken, and what is refused instead of guessed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "agentd/util/macro.h"
#include "agentd/util/parse.h"

struct parse_case {
        const char *text;
        int result;
        unsigned long long value;
};

static void check_cases(const struct parse_case *cases, size_t n_cases, int (*parse)(const char *, __u64 *))
{
        for (size_t i = 0; i < n_cases; i++) {
                __u64 value = 4711;
                int r = parse(cases[i].text, &value);

                if (r != cases[i].result || value != (r < 0 ? 4711 : cases[i].value))
                        fail_msg("'%s': %d, %llu", cases[i].text, r, (unsigned long long)value);
        }
}

static void sizes_have_exact_units(void **state)
{
        static const struct parse_case cases[] = {
                {"0", 0, 0},
                {"4096", 0, 4096},
                {"4096B", 0, 4096},
                {"1kB", 0, 1000},
                {"1KB", 0, 1000},
                {"10MiB", 0, 10 << 20},
                {"2GB", 0, 2000000000},
                {"20GiB", 0, 20ull << 30},
                {"1TB", 0, 1000000000000},
                {"18446744073709551615", 0, UINT64_MAX},
                {"18446744073709551616", -ERANGE, 0},
                {"16777216TiB", -ERANGE, 0},
                {"", -EINVAL, 0},
                {"B", -EINVAL, 0},
                {"10M", -EINVAL, 0}, /* of 1000 or of 1024? */
                {"10mib", -EINVAL, 0},
                {"10 MiB", -EINVAL, 0},
                {" 10", -EINVAL, 0},
                {"10 ", -EINVAL, 0},
                {"+10", -EINVAL, 0},
                {"-1", -EINVAL, 0},
                {"1.5GiB", -EINVAL, 0},
                {"0x10", -EINVAL, 0},
                {"1e3", -EINVAL, 0},
                {"10MiBx", -EINVAL, 0},
        };

        check_cases(cases, ARRAY_SIZE(cases), parse_size);
}

static void durations_need_a_unit(void **state)
{
        static const struct parse_case cases[] = {
                {"30s", 0, 30 * NSEC_PER_SEC},
                {"0s", 0, 0},
                {"5m", 0, 300 * NSEC_PER_SEC},
                {"1h", 0, 3600 * NSEC_PER_SEC},
                {"7d", 0, 7 * 86400 * NSEC_PER_SEC},
                {"2w", 0, 14 * 86400 * NSEC_PER_SEC},
                {"250ms", 0, 250 * NSEC_PER_MSEC},
                {"1h30m", 0, 5400 * NSEC_PER_SEC},
                {"30", -EINVAL, 0},
                {"s", -EINVAL, 0},
                {"", -EINVAL, 0},
                {"30 s", -EINVAL, 0},
                {"-30s", -EINVAL, 0},
                {"30sec", -EINVAL, 0},
                {"1s1h", -EINVAL, 0}, /* upside down */
                {"1h1h", -EINVAL, 0},
                {"1h30", -EINVAL, 0},
                {"1.5h", -EINVAL, 0},
                {"30501w", -ERANGE, 0},
                {"99999999999999999999s", -ERANGE, 0},
        };

        check_cases(cases, ARRAY_SIZE(cases), parse_duration);
}

static void numbers_stay_in_their_range(void **state)
{
        static const struct {
                const char *text;
                int result;
        } cases[] = {
                {"1", 0},
                {"65535", 0},
                {"0", -ERANGE},
                {"65536", -ERANGE},
                {"99999999999999999999", -ERANGE},
                {"", -EINVAL},
                {"1x", -EINVAL},
                {" 1", -EINVAL},
                {"-1", -EINVAL},
                {"+1", -EINVAL},
                {"0x1", -EINVAL},
                {"1.0", -EINVAL},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                __u64 value;

                assert_int_equal(parse_number(cases[i].text, 1, 65535, &value), cases[i].result);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(sizes_have_exact_units),
                cmocka_unit_test(durations_need_a_unit),
                cmocka_unit_test(numbers_stay_in_their_range),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
