/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Output for people: aligned, escaped, in units that are read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

/* agentctl's objects are in no library. */
#include "agentd/ctl/print.c"

static char *printed(const struct table *table)
{
        char *text = NULL;
        size_t size;
        FILE *file = open_memstream(&text, &size);

        table_print(table, file);
        fclose(file);
        return text;
}

static void columns_are_aligned_without_blanks_at_the_end(void **state)
{
        struct table table;
        char *text;

        table_begin(&table, 3);
        table_cell(&table, "a");
        table_cell(&table, "long cell");
        table_cell(&table, "x");
        table_cell(&table, "longer");
        table_cell(&table, "b");
        table_cell(&table, "%s", "");
        table_cell(&table, "c");
        table_cell(&table, "%s", "");
        table_cell(&table, "%s", "");
        table_cell(&table, "\xc3\xa9"); /* one column, two bytes */
        table_cell(&table, "%d", 5);
        table_cell(&table, "z");
        text = printed(&table);
        assert_string_equal(text, "a       long cell  x\n"
                                  "longer  b\n"
                                  "c\n"
                                  "\xc3\xa9       5          z\n");
        free(text);
        table_clear(&table);
}

static void a_row_may_be_short_and_a_table_empty(void **state)
{
        struct table table;
        char *text;

        table_begin(&table, 4);
        text = printed(&table);
        assert_string_equal(text, "");
        free(text);
        table_cell(&table, "a");
        table_cell(&table, "b");
        text = printed(&table);
        assert_string_equal(text, "a  b\n");
        free(text);
        table_clear(&table);
}

static void what_an_agent_chose_reaches_no_terminal_raw(void **state)
{
        struct table table;
        char *text;

        table_begin(&table, 1);
        table_cell(&table, "%s",
                   "\x1b[2J\r\n\x9b"
                   "31m\xff");
        text = printed(&table);
        assert_string_equal(text, "\\x1b[2J\\x0d\\x0a\\x9b31m\\xff\n");
        free(text);
        table_clear(&table);
}

static void sizes_and_durations_are_read_by_people(void **state)
{
        static const struct {
                json_int_t value;
                const char *size, *duration;
        } cases[] = {
                {0, "0 B", "0s"},
                {59, "59 B", "59s"},
                {60, "60 B", "1m 0s"},
                {1023, "1023 B", "17m 3s"},
                {1024, "1.0 KiB", "17m 4s"},
                {3600, "3.5 KiB", "1h 0m"},
                {90061, "88.0 KiB", "1d 1h"},
                {INT64_MAX, "8.0 EiB", "106751991167300d 15h"},
        };
        char text[PRINT_TEXT_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_string_equal(print_size(cases[i].value, text), cases[i].size);
                assert_string_equal(print_duration(cases[i].value, text), cases[i].duration);
        }
        assert_string_equal(print_duration(-5, text), "0s");
}

static void an_answer_of_another_shape_is_empty(void **state)
{
        json_t *json = json_pack("{s:i,s:s}", "a", 1, "b", "x");

        assert_string_equal(json_text(json, "a"), "");
        assert_string_equal(json_text(json, "none"), "");
        assert_string_equal(json_text(NULL, "a"), "");
        assert_int_equal(json_number(json, "b"), 0);
        assert_int_equal(json_number(NULL, "b"), 0);
        assert_int_equal(json_number(json, "a"), 1);
        json_decref(json);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(columns_are_aligned_without_blanks_at_the_end),
                cmocka_unit_test(a_row_may_be_short_and_a_table_empty),
                cmocka_unit_test(what_an_agent_chose_reaches_no_terminal_raw),
                cmocka_unit_test(sizes_and_durations_are_read_by_people),
                cmocka_unit_test(an_answer_of_another_shape_is_empty),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
