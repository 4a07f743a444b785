/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The schedule of exact domains: when each is asked again, after success, failure and silence.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "agentd/dns/refresh.h"
#include "agentd/util/macro.h"

#define SECOND NSEC_PER_SEC

static struct refresh *schedule(void)
{
        struct refresh *refresh = NULL;

        assert_int_equal(refresh_new(1, &refresh), 0);
        return refresh;
}

static bool next(struct refresh *refresh, __u64 now, const char *expected)
{
        char name[NAME_MAX_BYTES] = "";
        __u32 policy = 0;

        return refresh_next(refresh, now, &policy, name) && policy == 1 && strcmp(name, expected) == 0;
}

static void a_new_name_is_due_at_once_and_asked_once(void **state)
{
        struct refresh *refresh = schedule();
        char name[NAME_MAX_BYTES];
        __u32 policy;

        assert_int_equal(refresh_deadline(refresh), UINT64_MAX);
        assert_true(refresh_settled(refresh, 1));
        assert_int_equal(refresh_add(refresh, 1, "a.example", 100 * SECOND), 0);
        assert_int_equal(refresh_add(refresh, 1, "a.example", 100 * SECOND), 0);
        assert_int_equal(refresh_deadline(refresh), 100 * SECOND);
        assert_false(refresh_settled(refresh, 1));
        assert_true(refresh_settled(refresh, 2));
        assert_true(next(refresh, 100 * SECOND, "a.example"));
        assert_false(refresh_next(refresh, 100 * SECOND, &policy, name));
        assert_false(refresh_settled(refresh, 1)); /* asked, not answered */
        refresh_free(refresh);
}

static void a_resolved_name_comes_back_before_it_expires_and_spread(void **state)
{
        struct refresh *refresh = schedule();
        __u64 earliest = UINT64_MAX, latest = 0;

        for (int i = 0; i < 1000; i++) {
                __u64 due;

                refresh_add(refresh, 1, "a.example", 0);
                assert_true(next(refresh, 0, "a.example"));
                assert_int_equal(refresh_succeeded(refresh, 1, "a.example", 1000 * SECOND, 0), 0);
                assert_true(refresh_settled(refresh, 1));
                due = refresh_deadline(refresh);
                earliest = MIN(earliest, due);
                latest = MAX(latest, due);
                refresh_remove(refresh, 1, "a.example");
        }
        assert_in_range(earliest, 800 * SECOND, 810 * SECOND);
        assert_in_range(latest, 940 * SECOND, 950 * SECOND);

        /* A life of nothing does not make a storm. */
        refresh_add(refresh, 1, "a.example", 0);
        refresh_succeeded(refresh, 1, "a.example", 0, 0);
        assert_true(refresh_deadline(refresh) >= SECOND);
        refresh_free(refresh);
}

static void failures_back_off_up_to_a_minute(void **state)
{
        static const unsigned seconds[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
        struct refresh *refresh = schedule();
        __u64 now = 0;

        refresh_add(refresh, 1, "a.example", now);
        for (size_t i = 0; i < ARRAY_SIZE(seconds); i++) {
                assert_true(next(refresh, now, "a.example"));
                assert_int_equal(refresh_failed(refresh, 1, "a.example", -EAGAIN, now), 0);
                assert_true(refresh_settled(refresh, 1));
                assert_in_range(refresh_deadline(refresh) - now, seconds[i] * SECOND / 10 * 8, seconds[i] * SECOND);
                now = refresh_deadline(refresh);
        }
        /* A success forgets them. */
        assert_true(next(refresh, now, "a.example"));
        refresh_succeeded(refresh, 1, "a.example", 100 * SECOND, now);
        now = refresh_deadline(refresh);
        assert_true(next(refresh, now, "a.example"));
        refresh_failed(refresh, 1, "a.example", -EAGAIN, now);
        assert_true(refresh_deadline(refresh) - now <= SECOND);
        for (int i = 0; i < 100; i++)
                refresh_failed(refresh, 1, "a.example", -EAGAIN, now);
        assert_true(refresh_deadline(refresh) - now <= 60 * SECOND);
        refresh_free(refresh);
}

static void look(void *context, const struct refresh_view *view)
{
        *(struct refresh_view *)context = *view;
}

static void silence_counts_as_failure(void **state)
{
        struct refresh *refresh = schedule();
        struct refresh_view view = {0};
        char name[NAME_MAX_BYTES];
        __u32 policy;

        refresh_add(refresh, 1, "a.example", 0);
        assert_true(next(refresh, 0, "a.example"));
        assert_int_equal(refresh_deadline(refresh), REFRESH_TIMEOUT_S * SECOND);
        assert_false(refresh_next(refresh, REFRESH_TIMEOUT_S * SECOND, &policy, name));
        refresh_each(refresh, 1, look, &view);
        assert_int_equal(view.state, REFRESH_FAILING);
        assert_int_equal(view.error, -ETIMEDOUT);
        assert_int_equal(view.failures, 1);
        assert_true(next(refresh, (REFRESH_TIMEOUT_S + 1) * SECOND, "a.example"));
        /* A late answer still counts. */
        assert_int_equal(refresh_succeeded(refresh, 1, "a.example", 100 * SECOND, 20 * SECOND), 0);
        refresh_each(refresh, 0, look, &view);
        assert_int_equal(view.state, REFRESH_RESOLVED);
        assert_int_equal(view.error, 0);
        assert_int_equal(view.since_ns, 20 * SECOND);
        refresh_free(refresh);
}

static void a_new_worker_is_asked_again(void **state)
{
        struct refresh *refresh = schedule();

        refresh_add(refresh, 1, "a.example", 0);
        refresh_add(refresh, 1, "b.example", 0);
        (void)next(refresh, 0, "a.example"); /* one of the two */
        assert_true(refresh_deadline(refresh) == 0);
        refresh_succeeded(refresh, 1, "b.example", 1000 * SECOND, 0);
        refresh_restart(refresh, 3 * SECOND);
        assert_true(next(refresh, 3 * SECOND, "a.example"));
        refresh_free(refresh);
}

static void policies_come_and_go_apart(void **state)
{
        struct refresh *refresh = schedule();
        size_t counts[REFRESH_FAILING + 1];

        refresh_add(refresh, 1, "a.example", 0);
        refresh_add(refresh, 2, "a.example", 0);
        refresh_add(refresh, 2, "b.example", 0);
        refresh_failed(refresh, 2, "b.example", -ENOENT, 0);
        refresh_succeeded(refresh, 2, "a.example", 10 * SECOND, 0);
        refresh_counts(refresh, 0, counts);
        assert_int_equal(counts[REFRESH_WAITING], 1);
        assert_int_equal(counts[REFRESH_RESOLVED], 1);
        assert_int_equal(counts[REFRESH_FAILING], 1);
        refresh_remove_policy(refresh, 2);
        refresh_counts(refresh, 0, counts);
        assert_int_equal(counts[REFRESH_WAITING], 1);
        assert_int_equal(counts[REFRESH_RESOLVED] + counts[REFRESH_FAILING], 0);
        assert_int_equal(refresh_succeeded(refresh, 2, "a.example", SECOND, 0), -ENOENT);
        assert_int_equal(refresh_failed(refresh, 2, "a.example", -EIO, 0), -ENOENT);
        refresh_free(refresh);
}

static void the_schedule_is_bounded_and_checks_what_it_gets(void **state)
{
        struct refresh *refresh = schedule();
        char name[NAME_MAX_BYTES + 1];

        memset(name, 'a', NAME_MAX_BYTES);
        name[NAME_MAX_BYTES] = '\0';
        assert_int_equal(refresh_add(refresh, 1, name, 0), -EINVAL);
        assert_int_equal(refresh_add(refresh, 1, "", 0), -EINVAL);
        assert_int_equal(refresh_add(refresh, 0, "a.example", 0), -EINVAL);
        for (int i = 0; i < REFRESH_MAX; i++) {
                snprintf(name, sizeof(name), "n%d.example", i);
                assert_int_equal(refresh_add(refresh, 1, name, 0), 0);
        }
        assert_int_equal(refresh_add(refresh, 1, "more.example", 0), -ENOSPC);
        refresh_free(refresh);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_new_name_is_due_at_once_and_asked_once),
                cmocka_unit_test(a_resolved_name_comes_back_before_it_expires_and_spread),
                cmocka_unit_test(failures_back_off_up_to_a_minute),
                cmocka_unit_test(silence_counts_as_failure),
                cmocka_unit_test(a_new_worker_is_asked_again),
                cmocka_unit_test(policies_come_and_go_apart),
                cmocka_unit_test(the_schedule_is_bounded_and_checks_what_it_gets),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
