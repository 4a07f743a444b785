/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The JSON line is the contract's to the byte; the human line is safe on a terminal.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/event/event.h"
#include "agentd/event/text.h"
#include "agentd/policy/policy.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

static struct event contract_event(void)
{
        struct event event = {
                .type = EVENT_DENY,
                .time_ns = 1795458158123456789ull, /* 2026-11-23T18:22:38 */
                .sequence = 4711,
                .agent = "claude-1",
                .policy = "coding-agent",
                .generation = 7,
                .reason = REASON_NO_RULE,
                .hook = HOOK_CONNECT4,
                .direction = DIRECTION_EGRESS,
                .ip_protocol = IPPROTO_TCP,
                .has_source = true,
                .has_destination = true,
                .source_port = 40122,
                .destination_port = 443,
                .name = "evil.example",
                .pid = 4242,
                .tid = 4242,
                .uid = 1000,
                .comm = "curl",
                .exe = "/usr/bin/curl",
                .cgroup_id = 12345,
                .flow = 0x12af,
                .bytes = 60,
                .count = 1,
        };

        assert_int_equal(address_parse("10.200.1.20", &event.source), 0);
        assert_int_equal(address_parse("203.0.113.9", &event.destination), 0);
        return event;
}

static void the_line_is_the_one_of_the_contract(void **state)
{
        struct event event = contract_event();
        char line[EVENT_LINE_MAX];
        size_t length = event_format_line(&event, line);

        assert_string_equal(
                line,
                "{\"v\":1,\"time\":\"2026-11-23T18:22:38.123456789Z\",\"seq\":4711,\"type\":\"deny\",\"agent\":"
                "\"claude-"
                "1\",\"policy\":\"coding-agent\",\"generation\":7,\"mode\":\"enforce\",\"reason\":\"no_rule\",\"hook\":"
                "\"connect4\",\"rule\":null,\"direction\":\"egress\",\"proto\":\"tcp\",\"src\":{\"ip\":\"10.200.1.20\","
                "\"port\":40122},\"dst\":{\"ip\":\"203.0.113.9\",\"port\":443,\"name\":\"evil.example\"},\"process\":{"
                "\"pid\":4242,\"tid\":4242,\"uid\":1000,\"comm\":\"curl\",\"exe\":\"/usr/bin/curl\"},\"cgroup_id\":"
                "12345,\"flow\":\"00000000000012af\",\"bytes\":60,\"count\":1,\"lost_before\":0}");
        assert_int_equal(length, strlen(line));
}

static void what_is_not_known_is_null_and_every_field_stands(void **state)
{
        static const char *const keys[] = {
                "v",    "time",    "seq",       "type", "agent",     "policy", "generation",
                "mode", "reason",  "hook",      "rule", "direction", "proto",  "src",
                "dst",  "process", "cgroup_id", "flow", "bytes",     "count",  "lost_before",
        };
        static const char *const nulls[] = {"policy", "reason", "hook", "rule",    "direction",
                                            "proto",  "src",    "dst",  "process", "flow"};
        struct event event = {.type = EVENT_LIFECYCLE, .agent = "a", .detail = "the worker was started again"};
        json_t *json = event_to_json(&event);
        const char *key;
        json_t *value;
        size_t i = 0;

        assert_non_null(json);
        /* The order too; detail is an addition behind them. */
        json_object_foreach(json, key, value)
        {
                if (i < ARRAY_SIZE(keys))
                        assert_string_equal(key, keys[i]);
                else
                        assert_string_equal(key, "detail");
                i++;
        }
        assert_int_equal(i, ARRAY_SIZE(keys) + 1);
        for (i = 0; i < ARRAY_SIZE(nulls); i++)
                assert_true(json_is_null(json_object_get(json, nulls[i])));
        assert_int_equal(json_integer_value(json_object_get(json, "count")), 1);
        json_decref(json);
}

static void a_budget_has_its_figures_behind_the_fields_of_all(void **state)
{
        struct event event = {
                .type = EVENT_BUDGET,
                .agent = "a",
                .reason = REASON_BUDGET_EXHAUSTED,
                .ip_protocol = 255,
                .scope = "claude/hour",
                .used = 3999,
                .limit = 4000,
                .percent = 100,
                .window_end_s = 1795460400,
        };
        char line[EVENT_LINE_MAX];
        _cleanup_free_ char *text = event_to_text(&event);

        event_format_line(&event, line);
        assert_non_null(strstr(line, "\"reason\":\"budget_exhausted\""));
        assert_non_null(strstr(line, ",\"lost_before\":0,\"scope\":\"claude/hour\",\"used\":3999,\"limit\":4000,"
                                     "\"percent\":100,\"window_end\":\"2026-11-23T19:00:00Z\"}"));
        assert_non_null(strstr(text, "claude/hour at 100 %: 3999 of 4000 bytes until 2026-11-23T19:00:00Z"));

        event.window_end_s = UINT64_MAX;
        event_format_line(&event, line);
        assert_non_null(strstr(line, ",\"percent\":100,\"window_end\":null}"));
        /* Of other types: only what somebody changed. */
        event.type = EVENT_AUDIT;
        event.before = 4000;
        event.after = 5000;
        event_format_line(&event, line);
        assert_non_null(strstr(line, ",\"lost_before\":0,\"scope\":\"claude/hour\",\"before\":4000,\"after\":5000}"));
        event.scope[0] = '\0';
        event_format_line(&event, line);
        assert_null(strstr(line, "scope"));
        event.type = EVENT_DENY;
        event_format_line(&event, line);
        assert_null(strstr(line, "used"));
}

static void ports_are_null_where_there_are_none(void **state)
{
        static const struct {
                __u8 protocol;
                enum verdict_reason reason;
                __u16 source_port, destination_port;
                const char *source, *destination, *proto; /* JSON */
        } cases[] = {
                {IPPROTO_TCP, REASON_NO_RULE, 0, 443, "null", "443", "\"tcp\""}, /* connect(): not yet chosen */
                {IPPROTO_UDP, REASON_NO_RULE, 53, 0, "53", "0", "\"udp\""},      /* port 0 can be meant */
                {IPPROTO_ICMP, REASON_NO_RULE, 0, 0, "null", "null", "\"icmp\""},
                {IPPROTO_ICMPV6, REASON_NO_RULE, 0, 0, "null", "null", "\"icmpv6\""},
                {IPPROTO_UDP, REASON_FRAGMENT, 0, 0, "null", "null", "\"udp\""},
                {133, REASON_PROTOCOL, 0, 0, "null", "null", "\"133\""},
                {255, REASON_RAW_SOCKET, 0, 0, "null", "null", "null"},
                {0, REASON_PROTOCOL, 0, 0, "null", "null", "null"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct event event = contract_event();
                char line[EVENT_LINE_MAX], expected[128];

                event.name[0] = '\0';
                event.ip_protocol = cases[i].protocol;
                event.reason = cases[i].reason;
                event.source_port = cases[i].source_port;
                event.destination_port = cases[i].destination_port;
                event_format_line(&event, line);
                snprintf(expected, sizeof(expected),
                         "\"proto\":%s,\"src\":{\"ip\":\"10.200.1.20\",\"port\":%s},\"dst\":{\"ip\":\"203.0.113.9\","
                         "\"port\":%s}",
                         cases[i].proto, cases[i].source, cases[i].destination);
                assert_non_null(strstr(line, expected));
        }
}

static void a_refused_name_has_a_destination_without_address(void **state)
{
        struct event event = {.type = EVENT_DNS,
                              .agent = "a",
                              .reason = REASON_NAME_NOT_ALLOWED,
                              .hook = HOOK_DNS,
                              .ip_protocol = IPPROTO_UDP,
                              .name = "evil.example"};
        char line[EVENT_LINE_MAX];

        event_format_line(&event, line);
        assert_non_null(strstr(line, "\"dst\":{\"ip\":null,\"port\":null,\"name\":\"evil.example\"}"));
}

static void hostile_strings_are_escaped_and_parse_to_what_was_meant(void **state)
{
        static const struct {
                const char *comm, *parsed;
        } cases[] = {
                {"curl", "curl"},
                {"a\"b\\c", "a\"b\\c"},
                {"a\nb\tc", "a\nb\tc"},
                {"\x1b[31mred", "\x1b[31mred"},
                {"\xff\xfe", "\\xff\\xfe"},
                {"ok\xc3\xa9", "ok\xc3\xa9"},
                {"\xc3", "\\xc3"},                            /* cut in the middle */
                {"\xc0\xaf", "\\xc0\\xaf"},                   /* overlong '/' */
                {"\xed\xa0\x80", "\\xed\\xa0\\x80"},          /* a surrogate */
                {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"}, /* past the last code point */
                {"\xe0\x80\x80", "\\xe0\\x80\\x80"},
                {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
                {"\x7f", "\x7f"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct event event = contract_event();
                json_t *json;

                memset(event.comm, 0, sizeof(event.comm));
                strncpy(event.comm, cases[i].comm, sizeof(event.comm) - 1);
                json = event_to_json(&event);
                assert_non_null(json);
                assert_string_equal(json_string_value(json_object_get(json_object_get(json, "process"), "comm")),
                                    cases[i].parsed);
                json_decref(json);
        }
}

static void the_longest_event_fits_its_buffer(void **state)
{
        struct event event = contract_event();
        json_t *json;

        /* Every text full to the brim, without a NUL, of the bytes that grow most. */
        memset(event.agent, 1, sizeof(event.agent));
        memset(event.policy, 1, sizeof(event.policy));
        memset(event.rule, 1, sizeof(event.rule));
        memset(event.name, 1, sizeof(event.name));
        memset(event.comm, 1, sizeof(event.comm));
        memset(event.exe, 1, sizeof(event.exe));
        memset(event.detail, 1, sizeof(event.detail));
        event.time_ns = event.sequence = event.bytes = event.count = event.lost_before = event.cgroup_id = UINT64_MAX;
        json = event_to_json(&event);
        assert_null(json); /* numbers past 2^63 are no JSON integers of jansson */
        event.time_ns = event.sequence = event.bytes = event.count = event.lost_before = event.cgroup_id = INT64_MAX;
        json = event_to_json(&event);
        assert_non_null(json);
        assert_int_equal(json_object_size(json), 22);
        json_decref(json);
}

static void the_human_line_carries_no_control_characters(void **state)
{
        struct event event = contract_event();
        char *text;

        strcpy(event.comm, "\x1b]0;x\x07\n");
        strcpy(event.name, "a\xe2\x80\xae"
                           "b.example"); /* right-to-left override */
        text = event_to_text(&event);
        assert_non_null(text);
        for (const char *c = text; *c; c++)
                assert_true((unsigned char)*c >= 0x20 && (unsigned char)*c < 0x7f);
        assert_non_null(strstr(text, "\\x1b]0;x\\x07\\x0a"));
        free(text);
}

static void the_human_line_tells_the_essentials(void **state)
{
        static const char *const words[] = {"2026-11-23T18:22:38.123Z",
                                            "deny",
                                            "claude-1",
                                            "no_rule",
                                            "tcp 203.0.113.9:443 (evil.example)",
                                            "curl[4242] uid 1000",
                                            "x12",
                                            "(3 events lost before this one)"};
        struct event event = contract_event();
        char *text;

        event.count = 12;
        event.lost_before = 3;
        text = event_to_text(&event);
        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                if (!strstr(text, words[i]))
                        fail_msg("'%s' is not in '%s'", words[i], text);
        free(text);
}

static void the_human_line_takes_any_json(void **state)
{
        static const char *const cases[] = {
                "{}",
                "[]",
                "7",
                "null",
                "{\"time\":7,\"type\":[],\"dst\":\"x\",\"process\":{\"pid\":\"y\"},\"count\":{}}",
                "{\"dst\":{\"ip\":\"2001:db8::1\",\"port\":443},\"proto\":\"tcp\",\"direction\":\"ingress\"}",
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                json_t *json = json_loads(cases[i], JSON_DECODE_ANY, NULL);
                char *text = event_json_to_text(json);

                assert_non_null(text);
                free(text);
                json_decref(json);
        }
}

/* What a user looks up must be there. */
static void the_documentation_has_every_type_and_reason(void **state)
{
        _cleanup_file_ FILE *file = fopen("docs/events.md", "re");
        static char text[64 * 1024];
        char row[64];

        if (!file)
                skip(); /* not run from the top of the tree */
        text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
        for (int type = 0; type < EVENT_TYPE_MAX; type++) {
                snprintf(row, sizeof(row), "\n| `%s` | ", event_type_to_string(type));
                assert_non_null(strstr(text, row));
        }
        for (int reason = REASON_NO_RULE; reason <= REASON_UNIX_SOCKET; reason++) {
                snprintf(row, sizeof(row), "\n| `%s` | ", verdict_reason_to_string(reason));
                assert_non_null(strstr(text, row));
        }
}

static void types_go_to_words_and_back(void **state)
{
        for (int type = 0; type < EVENT_TYPE_MAX; type++)
                assert_int_equal(event_type_from_string(event_type_to_string(type)), type);
        assert_int_equal(event_type_from_string("Deny"), -EINVAL);
        assert_int_equal(event_type_from_string(""), -EINVAL);
}

static void a_character_cut_by_the_length_is_none(void **state)
{
        static const char euro[] = "\xe2\x82\xac";
        uint32_t point = 0;

        assert_int_equal(text_utf8(euro, 3, &point), 3);
        assert_int_equal(point, 0x20ac);
        for (size_t length = 0; length < 3; length++)
                assert_int_equal(text_utf8(euro, length, &point), 0);
}

static void a_writer_fills_its_buffer_but_for_the_nul(void **state)
{
        struct text_writer writer;
        char buffer[5] = "1234"; /* the last byte is a guard */

        text_begin(&writer, buffer, 4);
        text_add(&writer, "abc");
        assert_false(writer.full);
        assert_string_equal(buffer, "abc");
        text_begin(&writer, buffer, 4);
        text_add(&writer, "abcd");
        assert_true(writer.full);
        assert_string_equal(buffer, "");
}

static void a_full_writer_drops_whole_pieces(void **state)
{
        struct text_writer writer;
        char buffer[8];

        text_begin(&writer, buffer, sizeof(buffer));
        text_add(&writer, "1234");
        text_add_json(&writer, "\xff", 1); /* 7 bytes with its quotes */
        assert_true(writer.full);
        assert_string_equal(buffer, "1234\"");
        text_add(&writer, "x");
        assert_string_equal(buffer, "1234\"");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_line_is_the_one_of_the_contract),
                cmocka_unit_test(what_is_not_known_is_null_and_every_field_stands),
                cmocka_unit_test(a_budget_has_its_figures_behind_the_fields_of_all),
                cmocka_unit_test(ports_are_null_where_there_are_none),
                cmocka_unit_test(a_refused_name_has_a_destination_without_address),
                cmocka_unit_test(hostile_strings_are_escaped_and_parse_to_what_was_meant),
                cmocka_unit_test(the_longest_event_fits_its_buffer),
                cmocka_unit_test(the_human_line_carries_no_control_characters),
                cmocka_unit_test(the_human_line_tells_the_essentials),
                cmocka_unit_test(the_human_line_takes_any_json),
                cmocka_unit_test(the_documentation_has_every_type_and_reason),
                cmocka_unit_test(types_go_to_words_and_back),
                cmocka_unit_test(a_character_cut_by_the_length_is_none),
                cmocka_unit_test(a_writer_fills_its_buffer_but_for_the_nul),
                cmocka_unit_test(a_full_writer_drops_whole_pieces),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
