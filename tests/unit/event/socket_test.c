/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Verdicts about sockets that have no addresses of ours: from the record to the line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agentd/abi_unix.h"
#include "agentd/event/aggregate.h"
#include "agentd/event/decode.h"

static struct socket_record sound_record(void)
{
        struct socket_record record = {
                .verdict =
                        {
                                .header = {.size = sizeof(record), .kind = RECORD_SOCKET, .abi = AGENTD_ABI_VERSION},
                                .time_ns = 1000,
                                .cgroup_id = 12345,
                                .agent_id = 1,
                                .generation = 7,
                                .version = 3,
                                .rule = RULE_NONE,
                                .action = VERDICT_DENY,
                                .reason = REASON_UNIX_SOCKET,
                                .hook = HOOK_CONNECT_UNIX,
                                .ip_protocol = 255,
                                .pid = 42,
                                .tid = 43,
                                .comm = "docker",
                        },
                .family = AF_UNIX,
                .path_length = sizeof("/run/docker.sock"),
                .path = "/run/docker.sock",
        };

        return record;
}

static json_t *line_of(const struct socket_record *record)
{
        struct event event;
        json_t *json;

        assert_int_equal(event_decode(record, sizeof(*record), 0, &event), 0);
        json = event_to_json(&event);
        assert_non_null(json);
        return json;
}

static void check_path(const char *bytes, size_t length, const char *expected)
{
        struct socket_record record = sound_record();
        json_t *json;

        memset(record.path, 0, sizeof(record.path));
        memcpy(record.path, bytes, length);
        record.path_length = (__u8)length;
        json = line_of(&record);
        if (expected)
                assert_string_equal(json_string_value(json_object_get(json, "path")), expected);
        else
                assert_null(json_object_get(json, "path"));
        json_decref(json);
}

static void the_line_names_family_and_path_and_no_address(void **state)
{
        struct socket_record record = sound_record();
        json_t *json = line_of(&record);
        char *text;

        assert_string_equal(json_string_value(json_object_get(json, "type")), "deny");
        assert_string_equal(json_string_value(json_object_get(json, "hook")), "connect_unix");
        assert_string_equal(json_string_value(json_object_get(json, "reason")), "unix_socket");
        assert_string_equal(json_string_value(json_object_get(json, "family")), "unix");
        assert_string_equal(json_string_value(json_object_get(json, "path")), "/run/docker.sock");
        assert_true(json_is_null(json_object_get(json, "dst")));
        assert_true(json_is_null(json_object_get(json, "proto")));
        text = event_json_to_text(json);
        assert_non_null(strstr(text, "to /run/docker.sock"));
        free(text);
        json_decref(json);

        record.path_length = 0;
        record.verdict.hook = HOOK_SOCKET_CREATE;
        record.verdict.reason = REASON_PACKET_SOCKET;
        record.family = AF_PACKET;
        json = line_of(&record);
        assert_string_equal(json_string_value(json_object_get(json, "hook")), "socket_create");
        assert_string_equal(json_string_value(json_object_get(json, "family")), "packet");
        assert_null(json_object_get(json, "path"));
        text = event_json_to_text(json);
        assert_non_null(strstr(text, "family packet"));
        free(text);
        json_decref(json);

        record.family = 200;
        json = line_of(&record);
        assert_string_equal(json_string_value(json_object_get(json, "family")), "200");
        json_decref(json);
}

static void a_path_of_any_bytes_is_told(void **state)
{
        char full[UNIX_PATH_MAX_BYTES];

        check_path("/a\0rest", 7, "/a");
        check_path("\0abstract", 9, "@abstract");
        check_path("\0with\0inside", 12, "@with@inside");
        check_path("\0padded\0\0\0", 10, "@padded");
        check_path("/a\n\"\\\xff", 6, "/a\n\"\\\\xff");
        check_path("", 0, NULL);
        memset(full, 'x', sizeof(full));
        {
                char expected[UNIX_PATH_MAX_BYTES + 1] = "";

                memset(expected, 'x', UNIX_PATH_MAX_BYTES);
                check_path(full, sizeof(full), expected);
        }
}

static void a_record_with_an_odd_field_is_refused(void **state)
{
        struct socket_record record = sound_record();
        struct event event;

        record.path_length = UNIX_PATH_MAX_BYTES + 1;
        assert_int_equal(event_decode(&record, sizeof(record), 0, &event), -EBADMSG);
        record = sound_record();
        record.verdict.hook = HOOK_CONNECT4;
        assert_int_equal(event_decode(&record, sizeof(record), 0, &event), -EBADMSG);
        record = sound_record();
        record.verdict.header.kind = RECORD_VERDICT;
        assert_int_equal(event_decode(&record, sizeof(record), 0, &event), -EBADMSG);
        record = sound_record();
        record.verdict.header.size = sizeof(record.verdict);
        assert_int_equal(event_decode(&record, sizeof(record), 0, &event), -EBADMSG);
        record = sound_record();
        assert_int_equal(event_decode(&record, sizeof(record) - 1, 0, &event), -EBADMSG);
        assert_int_equal(event_decode(&record, sizeof(record), 0, &event), 0);
}

static void repeats_are_told_apart_by_path_and_family(void **state)
{
        struct socket_record record = sound_record();
        struct aggregate *aggregate;
        struct event event;

        assert_int_equal(aggregate_new(&aggregate), 0);
        assert_int_equal(event_decode(&record, sizeof(record), 0, &event), 0);
        strcpy(event.agent, "a");
        assert_true(aggregate_add(aggregate, &event, 1));
        assert_false(aggregate_add(aggregate, &event, 2));
        event.path[1] = 'x';
        assert_true(aggregate_add(aggregate, &event, 3));
        event.family = AF_PACKET;
        assert_true(aggregate_add(aggregate, &event, 4));
        assert_false(aggregate_add(aggregate, &event, 5));
        aggregate_free(aggregate);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_line_names_family_and_path_and_no_address),
                cmocka_unit_test(a_path_of_any_bytes_is_told),
                cmocka_unit_test(a_record_with_an_odd_field_is_refused),
                cmocka_unit_test(repeats_are_told_apart_by_path_and_family),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
