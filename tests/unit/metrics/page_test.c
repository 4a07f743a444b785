/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Prometheus' text format, to the byte, and what an agent may have named itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "agentd/metrics/page.h"

static void writes_families_and_samples(void **state)
{
        static const char expected[] = "# HELP a_total Things.\n"
                                       "# TYPE a_total counter\n"
                                       "a_total 18446744073709551615\n"
                                       "a_total{x=\"1\",y=\"\"} 0\n"
                                       "# HELP b When.\n"
                                       "# TYPE b gauge\n"
                                       "b{agent=\"c\"} 1795503683.304\n";
        struct page page = {0};

        page_family(&page, "a_total", PAGE_COUNTER, "Things.");
        page_count(&page, "a_total", ~0ull, NULL);
        page_count(&page, "a_total", 0, "x", "1", "y", "", NULL);
        page_family(&page, "b", PAGE_GAUGE, "When.");
        page_number(&page, "b", 1795503683.304, "agent", "c", NULL);
        assert_false(page.failed);
        assert_int_equal(page.used, strlen(expected));
        assert_memory_equal(page.text, expected, page.used);
        page_clear(&page);
        assert_null(page.text);
}

static void a_label_cannot_end_its_quotes_or_its_line(void **state)
{
        static const struct {
                const char *value, *written;
        } cases[] = {
                {"plain", "m{l=\"plain\"} 1\n"},
                {"a\"} 2\nm{l=\"b", "m{l=\"a\\\"} 2\\nm{l=\\\"b\"} 1\n"},
                {"back\\slash", "m{l=\"back\\\\slash\"} 1\n"},
                {"tab\tbell\a\x7f", "m{l=\"tab?bell??\"} 1\n"},
                {"caf\303\251", "m{l=\"caf\303\251\"} 1\n"},
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct page page = {0};

                page_count(&page, "m", 1, "l", cases[i].value, NULL);
                assert_int_equal(page.used, strlen(cases[i].written));
                assert_memory_equal(page.text, cases[i].written, page.used);
                page_clear(&page);
        }
}

static void a_page_grows(void **state)
{
        struct page page = {0};
        char name[32];

        for (unsigned int i = 0; i < 20000; i++) {
                snprintf(name, sizeof(name), "agent-%05u", i);
                page_count(&page, "m", i, "agent", name, NULL);
        }
        assert_false(page.failed);
        assert_true(page.used > 20000 * 24);
        assert_memory_equal(page.text + page.used - 30, "\nm{agent=\"agent-19999\"} 19999\n", 30);
        page_clear(&page);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(writes_families_and_samples),
                cmocka_unit_test(a_label_cannot_end_its_quotes_or_its_line),
                cmocka_unit_test(a_page_grows),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
