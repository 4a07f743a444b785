/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Trees with places, and what a hostile text meets instead of memory.
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

#include "agentd/policy/yaml_node.h"
#include "agentd/util/macro.h"

static void nodes_know_where_they_stand(void **state)
{
        static const char text[] = "version: 1\n"
                                   "policies:\n"
                                   "  p:\n"
                                   "    egress: [ {domain: a}, 'b' ]\n"
                                   "  q: ~\n";
        struct yaml_problem problem;
        struct yaml_document *document;
        const struct yaml_node *root, *policies, *egress, *rule;

        assert_int_equal(yaml_document_parse(text, sizeof(text) - 1, &problem, &document), 0);
        root = yaml_document_root(document);
        assert_int_equal(root->kind, YAML_KIND_MAP);
        assert_int_equal(root->n_children, 2);
        assert_string_equal(root->first->key->text, "version");
        assert_string_equal(root->first->text, "1");
        assert_true(root->first->plain);
        assert_int_equal(root->first->column, 10);

        policies = root->first->next;
        assert_int_equal(policies->key->line, 2);
        egress = policies->first->first;
        assert_int_equal(egress->kind, YAML_KIND_LIST);
        assert_int_equal(egress->line, 4);
        assert_int_equal(egress->column, 13);
        rule = egress->first;
        assert_string_equal(rule->first->key->text, "domain");
        assert_string_equal(rule->first->text, "a");
        assert_false(rule->next->plain);
        assert_int_equal(rule->next->column, 28);
        assert_null(rule->next->next);
        assert_true(yaml_node_is_null(policies->last));
        yaml_document_free(document);
}

static void only_plain_nothing_is_null(void **state)
{
        static const struct {
                const char *text;
                bool null;
        } cases[] = {{"a:", true},     {"a: ~", true},       {"a: null", true},
                     {"a: ''", false}, {"a: 'null'", false}, {"a: []", false}};

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct yaml_problem problem;
                struct yaml_document *document;

                assert_int_equal(yaml_document_parse(cases[i].text, strlen(cases[i].text), &problem, &document), 0);
                assert_int_equal(yaml_node_is_null(yaml_document_root(document)->first), cases[i].null);
                yaml_document_free(document);
        }
}

/* The text may hold NUL bytes: its size is given. */
static void hostile_texts_get_a_clear_error_with_its_place(void **state)
{
#define TEXT(text) text, sizeof(text) - 1
        static const struct {
                const char *text;
                size_t size;
                unsigned line, column;
                const char *says;
        } cases[] = {
                {TEXT("a: b\nc: \0d\n"), 2, 4, "NUL byte"},
                {TEXT("a: \"x\\0y\"\n"), 1, 4, "NUL character"},
                {TEXT("a: b\nc: \xff\n"), 2, 4, "not UTF-8"},
                {TEXT("a: \xc0\xaf\n"), 1, 4, "not UTF-8"},         /* overlong */
                {TEXT("a: \xed\xa0\x80\n"), 1, 4, "not UTF-8"},     /* surrogate */
                {TEXT("a: \xf4\x90\x80\x80\n"), 1, 4, "not UTF-8"}, /* beyond Unicode */
                {TEXT("a: \xe2\x82"), 1, 4, "not UTF-8"},           /* cut off */
                {TEXT("\xff\xfe"
                      "a\0:\0 \0b\0"),
                 1, 1, "not UTF-8"}, /* UTF-16 */
                {TEXT("\xc3\xbc: \x01\n"), 1, 4, "control character"},
                {TEXT("a: \xc2\x9b\n"), 1, 4, "control character"},
                {TEXT("a: \x7f\n"), 1, 4, "control character"},
                {TEXT("a:\n\tb: c\n"), 2, 1, "tab"},
                {TEXT("a: 1\n---\nb: 2\n"), 2, 1, "second document"},
                {TEXT("a: &x 1\nb: *x\n"), 2, 4, "alias '*x'"},
                {TEXT("a: !!int 1\n"), 1, 4, "tag"},
                {TEXT("a: !custom {}\n"), 1, 4, "tag"},
                {TEXT("a: [1, 2\n"), 2, 1, "not valid YAML"},
                {TEXT("a: b: c\n"), 1, 5, "not valid YAML"},
                {TEXT("a: 'x\n"), 2, 1, "not valid YAML"},
                {TEXT("a\nb: c\n"), 2, 2, "not valid YAML"},
        };
#undef TEXT

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct yaml_problem problem = {0};
                struct yaml_document *document;

                if (yaml_document_parse(cases[i].text, cases[i].size, &problem, &document) != -EINVAL)
                        fail_msg("case %zu was taken", i);
                if (!strstr(problem.text, cases[i].says) || problem.line != cases[i].line ||
                    problem.column != cases[i].column)
                        fail_msg("case %zu: %u:%u: %s", i, problem.line, problem.column, problem.text);
        }
}

static void alias_bombs_fail_at_the_first_alias(void **state)
{
        static const char text[] = "a: &a [x,x,x,x,x,x,x,x,x]\n"
                                   "b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
                                   "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n";
        struct yaml_problem problem;
        struct yaml_document *document;

        assert_int_equal(yaml_document_parse(text, sizeof(text) - 1, &problem, &document), -EINVAL);
        assert_int_equal(problem.line, 2);
        assert_non_null(strstr(problem.text, "alias"));
}

static void nesting_is_bounded(void **state)
{
        static const char *const openers[] = {"[", "{a: ", "- "};

        for (size_t i = 0; i < ARRAY_SIZE(openers); i++) {
                struct yaml_problem problem = {0};
                struct yaml_document *document;
                size_t size = strlen(openers[i]) * 10000;
                char *text = calloc(1, size + 1);

                for (size_t at = 0; at < size; at += strlen(openers[i]))
                        memcpy(text + at, openers[i], strlen(openers[i]));
                assert_int_equal(yaml_document_parse(text, size, &problem, &document), -EINVAL);
                assert_non_null(strstr(problem.text, "nested deeper than 64"));
                free(text);
        }
}

static void the_number_of_nodes_is_bounded(void **state)
{
        size_t size = 2 * (YAML_NODES_MAX + 10);
        char *text = malloc(size);
        struct yaml_problem problem = {0};
        struct yaml_document *document;

        text[0] = '[';
        for (size_t i = 1; i + 1 < size; i += 2)
                memcpy(text + i, "1,", 2);
        text[size - 1] = ']';
        assert_int_equal(yaml_document_parse(text, size, &problem, &document), -EINVAL);
        assert_non_null(strstr(problem.text, "values in one file"));
        free(text);
}

static void an_empty_text_has_no_root(void **state)
{
        static const char *const cases[] = {"", "\n\n", "# nothing\n"};

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct yaml_problem problem;
                struct yaml_document *document;

                assert_int_equal(yaml_document_parse(cases[i], strlen(cases[i]), &problem, &document), 0);
                assert_null(yaml_document_root(document));
                yaml_document_free(document);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(nodes_know_where_they_stand),
                cmocka_unit_test(only_plain_nothing_is_null),
                cmocka_unit_test(hostile_texts_get_a_clear_error_with_its_place),
                cmocka_unit_test(alias_bombs_fail_at_the_first_alias),
                cmocka_unit_test(nesting_is_bounded),
                cmocka_unit_test(the_number_of_nodes_is_bounded),
                cmocka_unit_test(an_empty_text_has_no_root),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
