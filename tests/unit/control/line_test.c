/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One request line: what is taken, what ends the connection, what is only an error.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/control/line.h"
#include "agentd/control/server.h"
#include "agentd/util/macro.h"

static void requests_are_taken(void **state)
{
        static const struct {
                const char *line, *verb;
                json_int_t id;
        } cases[] = {
                {"{\"v\":1,\"id\":7,\"verb\":\"status\"}", "status", 7},
                {"{\"v\":1,\"verb\":\"x\"}", "x", 0},
                {" {\"verb\":\"a[{\\\"\",\"v\":1,\"more\":[[{}]]} \r", "a[{\"", 0},
                {"{\"v\":1,\"id\":-9223372036854775808,\"verb\":\"\"}", "", INT64_MIN},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char error[CONTROL_LINE_ERROR_MAX];
                struct control_line line = {0};

                assert_int_equal(control_line_parse(cases[i].line, strlen(cases[i].line), &line, error), 0);
                assert_string_equal(line.verb, cases[i].verb);
                assert_true(line.id == cases[i].id);
                json_decref(line.arguments);
        }
}

static void what_is_no_request_is_an_error_and_what_is_no_object_ends_it(void **state)
{
        static const struct {
                const char *line;
                size_t length; /* 0: strlen */
                int expected;
        } cases[] = {
                {"", 0, -EBADMSG},
                {"GET / HTTP/1.0", 0, -EBADMSG},
                {"[]", 0, -EBADMSG},
                {"7", 0, -EBADMSG},
                {"{\"v\":1,\"verb\":\"x\"", 0, -EBADMSG},
                {"{\"v\":1,\"verb\":\"x\"}{}", 0, -EBADMSG},
                {"{\"v\":1,\"verb\":\"x\",\"verb\":\"y\"}", 0, -EBADMSG},
                {"{\"v\":1,\"verb\":\"\xff\"}", 0, -EBADMSG},
                {"{\"v\":1,\"verb\":\"\\u0000\"}", 0, -EBADMSG},
                {"{\"v\":1,\0\"verb\":\"x\"}", 20, -EBADMSG},
                {"{\"v\":1,\"verb\":\"x\\", 0, -EBADMSG},
                {"{\"v\":1,\"id\":99999999999999999999,\"verb\":\"x\"}", 0, -EBADMSG},
                {"{}", 0, -EINVAL},
                {"{\"v\":2,\"verb\":\"x\"}", 0, -EINVAL},
                {"{\"v\":\"1\",\"verb\":\"x\"}", 0, -EINVAL},
                {"{\"v\":1}", 0, -EINVAL},
                {"{\"v\":1,\"verb\":7}", 0, -EINVAL},
                {"{\"v\":1,\"id\":\"a\",\"verb\":\"x\"}", 0, -EINVAL},
                {"{\"v\":1,\"id\":1.5,\"verb\":\"x\"}", 0, -EINVAL},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                size_t length = cases[i].length ? cases[i].length : strlen(cases[i].line);
                char error[CONTROL_LINE_ERROR_MAX] = "";
                struct control_line line = {0};
                /* Without its NUL, so that a read past the end is seen. */
                char *copy = malloc(length ? length : 1);

                memcpy(copy, cases[i].line, length);
                if (control_line_parse(copy, length, &line, error) != cases[i].expected)
                        fail_msg("case %zu", i);
                assert_true(strlen(error) > 0);
                assert_null(line.arguments);
                free(copy);
        }
}

static char *nested(unsigned depth)
{
        char *line = malloc(2 * depth + 64);
        size_t used = (size_t)sprintf(line, "{\"v\":1,\"verb\":\"x\",\"a\":");

        memset(line + used, '[', depth - 1);
        memset(line + used + depth - 1, ']', depth - 1);
        strcpy(line + used + 2 * (depth - 1), "}");
        return line;
}

static void depth_is_bounded(void **state)
{
        static const struct {
                unsigned depth;
                int expected;
        } cases[] = {{2, 0}, {CONTROL_DEPTH_MAX, 0}, {CONTROL_DEPTH_MAX + 1, -EBADMSG}, {1000000, -EBADMSG}};

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char error[CONTROL_LINE_ERROR_MAX];
                struct control_line line = {0};
                char *text = nested(cases[i].depth);

                assert_int_equal(control_line_parse(text, strlen(text), &line, error), cases[i].expected);
                json_decref(line.arguments);
                free(text);
        }
}

static void the_number_of_values_is_bounded(void **state)
{
        static const unsigned counts[] = {1000, CONTROL_VALUES_MAX - 16, CONTROL_VALUES_MAX + 16, 1000000};

        for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
                char error[CONTROL_LINE_ERROR_MAX];
                struct control_line line = {0};
                char *text = malloc(2 * counts[i] + 64);
                size_t used = (size_t)sprintf(text, "{\"v\":1,\"verb\":\"x\",\"a\":[0");

                for (unsigned n = 0; n < counts[i]; n++)
                        used += (size_t)sprintf(text + used, ",0");
                strcpy(text + used, "]}");
                assert_int_equal(control_line_parse(text, strlen(text), &line, error),
                                 counts[i] < CONTROL_VALUES_MAX ? 0 : -EBADMSG);
                json_decref(line.arguments);
                free(text);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(requests_are_taken),
                cmocka_unit_test(what_is_no_request_is_an_error_and_what_is_no_object_ends_it),
                cmocka_unit_test(depth_is_bounded),
                cmocka_unit_test(the_number_of_values_is_bounded),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
