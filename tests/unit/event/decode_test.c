/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records of the ring buffer: what is sound is told, what is odd in one field is refused as a whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/abi_budget.h"
#include "agentd/event/decode.h"
#include "agentd/event/process_cache.h"
#include "agentd/util/macro.h"

static struct verdict_record sound_record(void)
{
        struct verdict_record record = {
                .header = {.size = sizeof(record), .kind = RECORD_VERDICT, .abi = AGENTD_ABI_VERSION},
                .time_ns = 1000,
                .cgroup_id = 12345,
                .flow = 77,
                .agent_id = 1,
                .generation = 7,
                .version = 3,
                .bytes = 60,
                .rule = RULE_NONE,
                .action = VERDICT_DENY,
                .reason = REASON_NO_RULE,
                .hook = HOOK_CONNECT4,
                .ip_protocol = IPPROTO_TCP,
                .destination_port = 443,
                .pid = 42,
                .tid = 43,
                .uid = 1000,
                .comm = "curl",
        };

        address_parse("203.0.113.9", &record.destination);
        return record;
}

static void a_sound_record_is_told_field_by_field(void **state)
{
        struct verdict_record record = sound_record();
        struct event event;

        assert_int_equal(event_decode(&record, sizeof(record), 5000, &event), 0);
        assert_int_equal(event.type, EVENT_DENY);
        assert_int_equal(event.time_ns, 6000);
        assert_int_equal(event.generation, 7);
        assert_false(event.audit);
        assert_int_equal(event.reason, REASON_NO_RULE);
        assert_int_equal(event.hook, HOOK_CONNECT4);
        assert_int_equal(event.ip_protocol, IPPROTO_TCP);
        assert_false(event.has_source);
        assert_true(event.has_destination);
        assert_memory_equal(&event.destination, &record.destination, sizeof(event.destination));
        assert_int_equal(event.destination_port, 443);
        assert_int_equal(event.pid, 42);
        assert_int_equal(event.tid, 43);
        assert_int_equal(event.uid, 1000);
        assert_string_equal(event.comm, "curl");
        assert_int_equal(event.cgroup_id, 12345);
        assert_int_equal(event.flow, 77);
        assert_int_equal(event.bytes, 60);
        assert_int_equal(event.count, 1);
        assert_string_equal(event.agent, "");
}

static void an_allow_with_a_reason_is_what_would_be_denied(void **state)
{
        struct verdict_record record = sound_record();
        struct event event;

        record.action = VERDICT_ALLOW;
        assert_int_equal(event_decode(&record, sizeof(record), 0, &event), 0);
        assert_int_equal(event.type, EVENT_WOULD_DENY);
        assert_true(event.audit);
}

static void a_record_may_stand_at_any_address(void **state)
{
        char bytes[sizeof(struct verdict_record) + 1];
        struct verdict_record record = sound_record();
        struct event event;

        memcpy(bytes + 1, &record, sizeof(record));
        assert_int_equal(event_decode(bytes + 1, sizeof(record), 0, &event), 0);
}

static void a_creation_has_no_destination_and_a_connect_to_nowhere_has(void **state)
{
        struct verdict_record record = sound_record();
        struct event event;

        memset(&record.destination, 0, sizeof(record.destination));
        record.hook = HOOK_CONNECT6; /* to :: */
        assert_int_equal(event_decode(&record, sizeof(record), 0, &event), 0);
        assert_true(event.has_destination);
        record.hook = HOOK_SOCK_CREATE;
        assert_int_equal(event_decode(&record, sizeof(record), 0, &event), 0);
        assert_false(event.has_destination);
}

static void a_command_without_its_nul_is_cut(void **state)
{
        struct verdict_record record = sound_record();
        struct event event;

        memset(record.comm, 'x', sizeof(record.comm));
        assert_int_equal(event_decode(&record, sizeof(record), 0, &event), 0);
        assert_int_equal(strlen(event.comm), COMM_MAX - 1);
}

static void refuses_a_record_with_one_odd_field(void **state)
{
        struct event event = {.detail = "untouched"};
        struct verdict_record record;

#define REFUSES(change)                                                                       \
        do {                                                                                  \
                record = sound_record();                                                      \
                change;                                                                       \
                assert_int_equal(event_decode(&record, sizeof(record), 0, &event), -EBADMSG); \
        } while (0)
        REFUSES(record.header.size = sizeof(record) - 1);
        REFUSES(record.header.size = 0);
        REFUSES(record.header.kind = RECORD_CAPTURE);
        REFUSES(record.header.kind = 0);
        REFUSES(record.header.abi = AGENTD_ABI_VERSION + 1);
        REFUSES(record.action = VERDICT_REDIRECT);
        REFUSES(record.action = 255);
        REFUSES(record.reason = REASON_NONE);
        REFUSES(record.reason = REASON_UNIX_SOCKET + 1);
        REFUSES(record.reason = 255);
        REFUSES(record.hook = HOOK_NONE);
        REFUSES(record.hook = HOOK_MAX);
        REFUSES(record.direction = 2);
        REFUSES(record.agent_id = AGENT_MAX);
#undef REFUSES
        assert_string_equal(event.detail, "untouched");
}

static void refuses_every_other_size(void **state)
{
        struct {
                struct verdict_record record;
                char more[64];
        } room = {.record = sound_record()};
        struct event event;

        for (size_t size = 0; size <= sizeof(room); size++) {
                room.record.header.size = (__u16)size;
                assert_int_equal(event_decode(&room, size, 0, &event),
                                 size == sizeof(struct verdict_record) ? 0 : -EBADMSG);
        }
}

static struct budget_record sound_budget(void)
{
        return (struct budget_record){
                .header = {.size = sizeof(struct budget_record), .kind = RECORD_BUDGET, .abi = AGENTD_ABI_VERSION},
                .time_ns = 1000,
                .ledger = 5,
                .agent_id = 1,
                .charged = 800,
                .limit = 1000,
                .window = 7,
                .percent = 80,
        };
}

static void a_budget_record_has_its_figures_and_a_reason_when_it_is_spent(void **state)
{
        struct budget_record record = sound_budget();
        struct event event;

        assert_int_equal(event_decode(&record, sizeof(record), 5000, &event), 0);
        assert_int_equal(event.type, EVENT_BUDGET);
        assert_int_equal(event.time_ns, 6000);
        assert_int_equal(event.reason, REASON_NONE);
        assert_int_equal(event.used, 800);
        assert_int_equal(event.limit, 1000);
        assert_int_equal(event.percent, 80);
        assert_int_equal(event.count, 1);
        record.percent = 100;
        assert_int_equal(event_decode(&record, sizeof(record), 5000, &event), 0);
        assert_int_equal(event.reason, REASON_BUDGET_EXHAUSTED);
}

static void refuses_a_budget_record_with_one_odd_field(void **state)
{
        struct event event = {.detail = "untouched"};
        struct budget_record record;

#define REFUSES(change)                                                                       \
        do {                                                                                  \
                record = sound_budget();                                                      \
                change;                                                                       \
                assert_int_equal(event_decode(&record, sizeof(record), 0, &event), -EBADMSG); \
        } while (0)
        REFUSES(record.header.size = sizeof(record) - 1);
        REFUSES(record.header.kind = RECORD_VERDICT);
        REFUSES(record.header.kind = RECORD_CAPTURE);
        REFUSES(record.header.abi = AGENTD_ABI_VERSION + 1);
        REFUSES(record.percent = 0);
        REFUSES(record.percent = 99);
        REFUSES(record.percent = 101);
        REFUSES(record.ledger = 0);
        REFUSES(record.ledger = LEDGERS_MAX);
        REFUSES(record.agent_id = AGENT_MAX);
        REFUSES(record.charged = LEDGER_BYTES_MAX + 1);
        REFUSES(record.limit = ~0ull);
#undef REFUSES
        assert_string_equal(event.detail, "untouched");
}

static struct event own_event(void)
{
        struct event event = {.pid = (__u32)getpid(), .tid = (__u32)getpid()};

        prctl(PR_GET_NAME, event.comm);
        return event;
}

static void the_program_is_found_by_its_process(void **state)
{
        struct event event = own_event();
        char exe[256];
        ssize_t length = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

        assert_true(length > 0);
        exe[length] = '\0';
        event_complete_process(&event);
        assert_string_equal(event.exe, exe);
}

static void the_program_is_not_told_when_the_process_is_another_one(void **state)
{
        struct event event = own_event();

        strcpy(event.comm, "somebody-else");
        event_complete_process(&event);
        assert_string_equal(event.exe, "");
}

static void a_process_that_is_gone_has_no_program(void **state)
{
        struct event event = own_event();
        pid_t child = fork();

        if (child == 0)
                _exit(0);
        waitpid(child, NULL, 0);
        event.pid = event.tid = (__u32)child;
        event_complete_process(&event);
        assert_string_equal(event.exe, "");
        event.pid = 0;
        event_complete_process(&event);
        assert_string_equal(event.exe, "");
}

static void the_cache_remembers_for_a_second(void **state)
{
        static struct process_cache cache;
        struct event event = own_event();

        process_cache_complete(&cache, &event, 100);
        assert_string_not_equal(event.exe, "");
        /* A lie in the cache shows whether it was asked. */
        for (size_t i = 0; i < PROCESS_CACHE_MAX; i++)
                strcpy(cache.slots[i].exe, "/cached");
        event = own_event();
        process_cache_complete(&cache, &event, 100 + PROCESS_CACHE_MS - 1);
        assert_string_equal(event.exe, "/cached");
        event = own_event();
        process_cache_complete(&cache, &event, 100 + PROCESS_CACHE_MS);
        assert_string_not_equal(event.exe, "/cached");
        /* Another program under the same pid (exec) is another entry. */
        event = own_event();
        strcpy(event.comm, "other");
        process_cache_complete(&cache, &event, 100 + PROCESS_CACHE_MS);
        assert_string_equal(event.exe, "");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_sound_record_is_told_field_by_field),
                cmocka_unit_test(an_allow_with_a_reason_is_what_would_be_denied),
                cmocka_unit_test(a_record_may_stand_at_any_address),
                cmocka_unit_test(a_creation_has_no_destination_and_a_connect_to_nowhere_has),
                cmocka_unit_test(a_command_without_its_nul_is_cut),
                cmocka_unit_test(refuses_a_record_with_one_odd_field),
                cmocka_unit_test(refuses_every_other_size),
                cmocka_unit_test(a_budget_record_has_its_figures_and_a_reason_when_it_is_spent),
                cmocka_unit_test(refuses_a_budget_record_with_one_odd_field),
                cmocka_unit_test(the_program_is_found_by_its_process),
                cmocka_unit_test(the_program_is_not_told_when_the_process_is_another_one),
                cmocka_unit_test(a_process_that_is_gone_has_no_program),
                cmocka_unit_test(the_cache_remembers_for_a_second),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
