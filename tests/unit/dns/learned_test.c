/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Learned addresses: what they are called, when they end, what never ends early.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <time.h>

#include "agentd/dns/learned.h"
#include "agentd/util/macro.h"

#define SECOND NSEC_PER_SEC

static struct address address_number(__u32 number)
{
        struct address address = {.bytes = {[10] = 0xff, [11] = 0xff}};

        address.bytes[12] = (__u8)(number >> 24);
        address.bytes[13] = (__u8)(number >> 16);
        address.bytes[14] = (__u8)(number >> 8);
        address.bytes[15] = (__u8)number;
        return address;
}

static struct learned *table(size_t per_agent, size_t total)
{
        struct learned *learned = NULL;

        assert_int_equal(learned_new(per_agent, total, &learned), 0);
        return learned;
}

/* The change, or -errno. */
static int add(struct learned *learned, __u32 agent_id, const char *name, __u32 number, __u64 expires)
{
        struct address address = address_number(number);
        enum learned_change change = LEARNED_RENEWED;
        int r = learned_add(learned, agent_id, name, &address, expires, &change, NULL);

        return r < 0 ? r : (int)change;
}

static const char *name_for(struct learned *learned, __u32 agent_id, __u32 number)
{
        struct address address = address_number(number);

        return learned_name_for(learned, agent_id, &address);
}

static size_t names_of(struct learned *learned, __u32 agent_id, __u32 number)
{
        struct address address = address_number(number);

        return learned_names(learned, agent_id, &address, NULL, 0);
}

struct journal {
        size_t calls, ended; /* ended: addresses without names */
        size_t remaining;
        char name[64];
        __u32 live; /* address number that a flow uses; 0: none */
        size_t asked;
};

static void note(void *context, __u32 agent_id, const struct address *address, const char *name, size_t remaining)
{
        struct journal *journal = context;

        journal->calls++;
        journal->ended += remaining == 0;
        journal->remaining = remaining;
        snprintf(journal->name, sizeof(journal->name), "%s", name);
}

static bool is_live(void *context, __u32 agent_id, const struct address *address)
{
        struct journal *journal = context;
        struct address live = address_number(journal->live);

        journal->asked++;
        return memcmp(&live, address, sizeof(live)) == 0;
}

static void tells_new_addresses_new_names_and_renewals_apart(void **state)
{
        struct learned *learned = table(10, 100);
        struct address address = address_number(1);
        enum learned_change change;
        struct learned_statistics statistics;
        const char *names[4];
        __u64 expires = 0;

        assert_int_equal(add(learned, 1, "a.example", 1, 10 * SECOND), LEARNED_NEW_ADDRESS);
        assert_int_equal(add(learned, 1, "b.example", 1, 30 * SECOND), LEARNED_NEW_NAME);
        assert_int_equal(add(learned, 1, "a.example", 1, 20 * SECOND), LEARNED_RENEWED);
        /* Another agent has its own. */
        assert_int_equal(add(learned, 2, "a.example", 1, 20 * SECOND), LEARNED_NEW_ADDRESS);

        assert_int_equal(learned_add(learned, 1, "a.example", &address, 5 * SECOND, &change, &expires), 0);
        assert_int_equal(expires, 30 * SECOND); /* never earlier */
        assert_int_equal(learned_names(learned, 1, &address, names, 4), 2);
        assert_string_equal(names[0], "a.example");
        assert_string_equal(names[1], "b.example");
        assert_string_equal(name_for(learned, 1, 1), "b.example");
        assert_null(name_for(learned, 1, 2));
        assert_null(name_for(learned, 3, 1));
        assert_int_equal(learned_deadline(learned), 20 * SECOND);

        learned_statistics(learned, &statistics);
        assert_int_equal(statistics.addresses, 2);
        assert_int_equal(statistics.pairs, 3);
        assert_int_equal(learned_count(learned, 1), 1);
        learned_free(learned);
}

static void refuses_what_makes_no_sense(void **state)
{
        struct learned *learned = table(10, 100);
        char overlong[NAME_MAX_BYTES + 1];

        memset(overlong, 'a', sizeof(overlong));
        overlong[NAME_MAX_BYTES] = '\0';
        assert_int_equal(add(learned, 0, "a.example", 1, SECOND), -EINVAL);
        assert_int_equal(add(learned, AGENT_MAX, "a.example", 1, SECOND), -EINVAL);
        assert_int_equal(add(learned, 1, "", 1, SECOND), -EINVAL);
        assert_int_equal(add(learned, 1, overlong, 1, SECOND), -EINVAL);
        assert_int_equal(learned_deadline(learned), UINT64_MAX);
        learned_free(learned);
}

static void names_end_one_by_one_and_the_address_with_the_last(void **state)
{
        struct learned *learned = table(10, 100);
        struct journal journal = {0};

        add(learned, 1, "a.example", 1, 10 * SECOND);
        add(learned, 1, "b.example", 1, 20 * SECOND);
        learned_expire(learned, 10 * SECOND - 1, NULL, note, &journal);
        assert_int_equal(journal.calls, 0);
        learned_expire(learned, 10 * SECOND, NULL, note, &journal);
        assert_int_equal(journal.calls, 1);
        assert_int_equal(journal.remaining, 1);
        assert_string_equal(journal.name, "a.example");
        assert_int_equal(names_of(learned, 1, 1), 1);

        learned_expire(learned, 20 * SECOND, NULL, note, &journal);
        assert_int_equal(journal.calls, 2);
        assert_int_equal(journal.ended, 1);
        assert_int_equal(names_of(learned, 1, 1), 0);
        assert_int_equal(learned_count(learned, 1), 0);
        /* Late events still have its name. */
        assert_string_equal(name_for(learned, 1, 1), "b.example");

        assert_int_equal(add(learned, 1, "c.example", 1, 40 * SECOND), LEARNED_NEW_ADDRESS);
        assert_string_equal(name_for(learned, 1, 1), "c.example");
        learned_expire(learned, 40 * SECOND, NULL, note, &journal);
        learned_expire(learned, (40 + LEARNED_REMEMBER_S) * SECOND, NULL, note, &journal);
        assert_null(name_for(learned, 1, 1));
        assert_int_equal(journal.calls, 3);
        assert_int_equal(learned_deadline(learned), UINT64_MAX);
        learned_free(learned);
}

static void a_live_flow_keeps_its_address(void **state)
{
        struct learned *learned = table(10, 100);
        struct journal journal = {.live = 1};

        add(learned, 1, "a.example", 1, 10 * SECOND);
        add(learned, 1, "a.example", 2, 10 * SECOND);
        learned_expire(learned, 10 * SECOND, is_live, note, &journal);
        assert_int_equal(journal.ended, 1);
        assert_int_equal(names_of(learned, 1, 1), 1);
        assert_int_equal(names_of(learned, 1, 2), 0);

        /* Looked at again after a while, not each time. */
        learned_expire(learned, 11 * SECOND, is_live, note, &journal);
        assert_int_equal(journal.asked, 2);
        journal.live = 0;
        learned_expire(learned, (10 + LEARNED_RECHECK_S) * SECOND, is_live, note, &journal);
        assert_int_equal(journal.asked, 3);
        assert_int_equal(names_of(learned, 1, 1), 0);
        learned_free(learned);
}

static void a_full_table_refuses_and_evicts_nothing_effective(void **state)
{
        struct learned *learned = table(3, 5);
        struct journal journal = {0};
        struct learned_statistics statistics;

        for (__u32 i = 1; i <= 3; i++)
                assert_int_equal(add(learned, 1, "a.example", i, 10 * SECOND), LEARNED_NEW_ADDRESS);
        assert_int_equal(add(learned, 1, "a.example", 4, 10 * SECOND), -ENOSPC);
        assert_int_equal(add(learned, 1, "a.example", 3, 20 * SECOND), LEARNED_RENEWED);
        assert_int_equal(add(learned, 2, "a.example", 1, 10 * SECOND), LEARNED_NEW_ADDRESS);
        assert_int_equal(add(learned, 1, "b.example", 1, 10 * SECOND), LEARNED_NEW_NAME);
        assert_int_equal(add(learned, 2, "a.example", 2, 10 * SECOND), -ENOSPC); /* all over */
        assert_int_equal(add(learned, 3, "a.example", 2, 10 * SECOND), -ENOSPC);
        for (__u32 i = 1; i <= 3; i++)
                assert_true(names_of(learned, 1, i) > 0);
        learned_statistics(learned, &statistics);
        assert_int_equal(statistics.refused, 3);

        /* What has expired makes room: of the agent itself, then of others. */
        learned_expire(learned, 10 * SECOND, NULL, note, &journal);
        learned_statistics(learned, &statistics);
        assert_int_equal(statistics.remembered, 3);
        assert_int_equal(add(learned, 1, "c.example", 5, 30 * SECOND), LEARNED_NEW_ADDRESS);
        assert_int_equal(add(learned, 1, "c.example", 6, 30 * SECOND), LEARNED_NEW_ADDRESS);
        assert_int_equal(add(learned, 1, "c.example", 7, 30 * SECOND), -ENOSPC);
        assert_int_equal(add(learned, 3, "c.example", 1, 30 * SECOND), LEARNED_NEW_ADDRESS);
        assert_int_equal(add(learned, 3, "c.example", 2, 30 * SECOND), LEARNED_NEW_ADDRESS);
        assert_int_equal(add(learned, 3, "c.example", 3, 30 * SECOND), -ENOSPC);
        learned_statistics(learned, &statistics);
        assert_int_equal(statistics.remembered, 0);
        assert_int_equal(statistics.pairs, 5);
        learned_free(learned);
}

static void names_of_one_address_are_bounded(void **state)
{
        struct learned *learned = table(10, 100000);
        char name[64];

        for (int i = 0; i < LEARNED_NAMES_PER_ADDRESS_MAX; i++) {
                snprintf(name, sizeof(name), "n%d.example", i);
                assert_true(add(learned, 1, name, 1, 10 * SECOND) >= 0);
        }
        assert_int_equal(add(learned, 1, "one-more.example", 1, 10 * SECOND), -ENOSPC);
        assert_int_equal(names_of(learned, 1, 1), LEARNED_NAMES_PER_ADDRESS_MAX);
        learned_free(learned);
}

static void a_step_that_failed_is_taken_back(void **state)
{
        struct learned *learned = table(10, 100);
        struct address address = address_number(1);

        add(learned, 1, "a.example", 1, 10 * SECOND);
        add(learned, 1, "b.example", 1, 20 * SECOND);
        assert_int_equal(learned_remove(learned, 1, "a.example", &address), 0);
        assert_int_equal(learned_remove(learned, 1, "a.example", &address), -ENOENT);
        assert_int_equal(learned_deadline(learned), 20 * SECOND);
        assert_int_equal(learned_remove(learned, 1, "b.example", &address), 0);
        assert_null(name_for(learned, 1, 1));
        assert_int_equal(learned_deadline(learned), UINT64_MAX);
        learned_free(learned);
}

static bool keeps_b(void *context, const char *name)
{
        return strcmp(name, "b.example") == 0;
}

static void a_narrowed_policy_drops_names_and_forgets_them(void **state)
{
        struct learned *learned = table(10, 100);
        struct journal journal = {0};

        add(learned, 1, "a.example", 1, 10 * SECOND);
        add(learned, 1, "b.example", 1, 20 * SECOND);
        add(learned, 1, "a.example", 2, 10 * SECOND);
        add(learned, 2, "a.example", 2, 10 * SECOND);
        learned_drop(learned, 1, keeps_b, note, &journal);
        assert_int_equal(journal.calls, 2);
        assert_int_equal(journal.ended, 1);
        assert_string_equal(name_for(learned, 1, 1), "b.example");
        assert_null(name_for(learned, 1, 2));
        assert_string_equal(name_for(learned, 2, 2), "a.example");
        learned_drop(learned, 7, keeps_b, note, &journal);

        learned_remove_agent(learned, 1);
        learned_remove_agent(learned, 1);
        assert_null(name_for(learned, 1, 1));
        assert_int_equal(learned_deadline(learned), 10 * SECOND);
        learned_free(learned);
}

struct walk {
        size_t n, stop_after;
        struct address last;
        size_t changes;
};

static bool step(void *context, const struct learned_view *view)
{
        struct walk *walk = context;

        walk->changes += memcmp(&walk->last, view->address, sizeof(walk->last)) != 0;
        walk->last = *view->address;
        return ++walk->n != walk->stop_after;
}

static void pairs_are_walked_by_address(void **state)
{
        struct learned *learned = table(10, 100);
        struct walk walk = {0};

        for (__u32 i = 1; i <= 4; i++) {
                add(learned, 1, "a.example", i, 10 * SECOND);
                add(learned, 1, "b.example", i, 10 * SECOND);
        }
        add(learned, 2, "a.example", 9, 10 * SECOND);
        learned_each(learned, 1, step, &walk);
        assert_int_equal(walk.n, 8);
        assert_int_equal(walk.changes, 4);
        walk = (struct walk){0};
        learned_each(learned, 0, step, &walk);
        assert_int_equal(walk.n, 9);
        walk = (struct walk){.stop_after = 3};
        learned_each(learned, 0, step, &walk);
        assert_int_equal(walk.n, 3);
        learned_free(learned);
}

static void a_hundred_thousand_addresses_take_moments(void **state)
{
        enum { AGENTS = 20, EACH = 5000 };
        struct learned *learned = table(LEARNED_PER_AGENT_MAX, AGENTS * EACH);
        struct journal journal = {0};
        clock_t begun = clock();

        for (__u32 round = 0; round < 2; round++)
                for (__u32 agent = 1; agent <= AGENTS; agent++)
                        for (__u32 i = 0; i < EACH; i++)
                                assert_int_equal(add(learned, agent, "a.example", i * 7919, (10 + i % 50) * SECOND),
                                                 round ? LEARNED_RENEWED : LEARNED_NEW_ADDRESS);
        for (__u64 now = 10; now < 60; now++)
                learned_expire(learned, now * SECOND, NULL, note, &journal);
        assert_int_equal(journal.ended, AGENTS * EACH);
        learned_free(learned);
        /* Generous: under sanitizers, on a busy machine; what would be quadratic takes minutes. */
        assert_true(clock() - begun < 20 * CLOCKS_PER_SEC);
}

static void random_use_keeps_the_counts_right(void **state)
{
        struct learned *learned = table(20, 60);
        struct learned_statistics statistics;
        struct journal journal = {0};
        unsigned seed = 3;
        char name[32];

        for (int i = 0; i < 20000; i++) {
                __u32 agent = 1 + rand_r(&seed) % 4, number = 1 + rand_r(&seed) % 30;
                struct address address = address_number(number);
                struct walk walk = {0};
                __u64 now = (__u64)i * SECOND / 4;

                snprintf(name, sizeof(name), "n%d.example", rand_r(&seed) % 3);
                journal.live = rand_r(&seed) % 30;
                switch (rand_r(&seed) % 8) {
                case 0:
                        learned_remove(learned, agent, name, &address);
                        break;
                case 1:
                        learned_expire(learned, now, is_live, note, &journal);
                        break;
                case 2:
                        if (rand_r(&seed) % 20 == 0)
                                learned_drop(learned, agent, keeps_b, note, &journal);
                        break;
                case 3:
                        if (rand_r(&seed) % 50 == 0)
                                learned_remove_agent(learned, agent);
                        break;
                default:
                        add(learned, agent, name, number, now + (1 + (__u64)rand_r(&seed) % 400) * SECOND);
                }
                learned_each(learned, 0, step, &walk);
                learned_statistics(learned, &statistics);
                assert_int_equal(statistics.pairs, walk.n);
                assert_true(statistics.pairs + statistics.remembered <= 60);
                assert_int_equal(statistics.addresses, learned_count(learned, 1) + learned_count(learned, 2) +
                                                               learned_count(learned, 3) + learned_count(learned, 4));
        }
        learned_free(learned);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(tells_new_addresses_new_names_and_renewals_apart),
                cmocka_unit_test(refuses_what_makes_no_sense),
                cmocka_unit_test(names_end_one_by_one_and_the_address_with_the_last),
                cmocka_unit_test(a_live_flow_keeps_its_address),
                cmocka_unit_test(a_full_table_refuses_and_evicts_nothing_effective),
                cmocka_unit_test(names_of_one_address_are_bounded),
                cmocka_unit_test(a_step_that_failed_is_taken_back),
                cmocka_unit_test(a_narrowed_policy_drops_names_and_forgets_them),
                cmocka_unit_test(pairs_are_walked_by_address),
                cmocka_unit_test(a_hundred_thousand_addresses_take_moments),
                cmocka_unit_test(random_use_keeps_the_counts_right),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
