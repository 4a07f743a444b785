/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rates with the time passed in, and what counts as a payload in a label.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "agentd/dns/limit.h"

static unsigned take_many(struct limit_bucket *bucket, unsigned n, __u64 now_ms)
{
        unsigned n_taken = 0;

        while (n-- > 0)
                n_taken += limit_bucket_take(bucket, 50, 200, now_ms);
        return n_taken;
}

static void a_bucket_gives_its_burst_then_its_rate(void **state)
{
        struct limit_bucket bucket = {0};

        assert_int_equal(take_many(&bucket, 1000, 5000), 200);
        assert_int_equal(take_many(&bucket, 1000, 5000), 0);
        assert_int_equal(take_many(&bucket, 1000, 6000), 50);
        assert_int_equal(take_many(&bucket, 1000, 6010), 0);
        assert_int_equal(take_many(&bucket, 1000, 6020), 1);
        /* Time that goes back gives nothing, and a long time no more than the burst. */
        assert_int_equal(take_many(&bucket, 1000, 100), 0);
        assert_int_equal(take_many(&bucket, 1000, UINT64_MAX / 2), 200);
}

static unsigned rate_many(struct limit_rate *rate, __u64 interval_ns, __u32 burst, unsigned n, __u64 now_ns)
{
        unsigned n_taken = 0;

        while (n-- > 0)
                n_taken += limit_rate_take(rate, interval_ns, burst, now_ns);
        return n_taken;
}

static void a_rate_gives_its_burst_then_one_an_interval(void **state)
{
        struct limit_rate rate = {0};
        __u64 now_ns = 1000 * NSEC_PER_SEC;

        /* 6 a minute, burst 3 */
        assert_int_equal(rate_many(&rate, 10 * NSEC_PER_SEC, 3, 100, now_ns), 3);
        assert_int_equal(rate_many(&rate, 10 * NSEC_PER_SEC, 3, 100, now_ns + 10 * NSEC_PER_SEC - 1), 0);
        assert_int_equal(rate_many(&rate, 10 * NSEC_PER_SEC, 3, 100, now_ns + 10 * NSEC_PER_SEC), 1);
        assert_int_equal(rate_many(&rate, 10 * NSEC_PER_SEC, 3, 100, now_ns + 35 * NSEC_PER_SEC), 2);
        /* A long silence is worth the burst, no more. */
        assert_int_equal(rate_many(&rate, 10 * NSEC_PER_SEC, 3, 100, now_ns + 86400 * NSEC_PER_SEC), 3);
        assert_int_equal(rate_many(&rate, 10 * NSEC_PER_SEC, 1, 100, now_ns + 172800 * NSEC_PER_SEC), 1);
}

static void a_changed_rate_holds_at_once_and_none_limits_nothing(void **state)
{
        struct limit_rate rate = {0};
        __u64 now_ns = 1000 * NSEC_PER_SEC;

        assert_int_equal(rate_many(&rate, 3600 * NSEC_PER_SEC, 100, 200, now_ns), 100);
        /* 100 hours are charged; a new rate of one a second does not wait for them. */
        assert_int_equal(rate_many(&rate, NSEC_PER_SEC, 1, 100, now_ns + NSEC_PER_SEC), 0);
        assert_int_equal(rate_many(&rate, NSEC_PER_SEC, 1, 100, now_ns + 2 * NSEC_PER_SEC), 1);
        assert_int_equal(rate_many(&rate, 0, 1, 100, now_ns), 100);
        /* No such rate can be configured; it must not wrap around to none. */
        assert_in_range(rate_many(&rate, UINT64_MAX, 3, 100, now_ns), 0, 3);
}

static void the_same_name_is_one_name_for_a_moment(void **state)
{
        static struct limit_wildcard limit;
        unsigned n_taken = 0;
        char name[32];

        for (unsigned i = 0; i < 1000; i++)
                assert_true(limit_wildcard_take(&limit, "same.example", 1000));
        for (unsigned i = 0; i < 1000; i++) {
                snprintf(name, sizeof(name), "n%u.example", i);
                n_taken += limit_wildcard_take(&limit, name, 1000);
        }
        assert_int_equal(n_taken, LIMIT_WILDCARD_BURST - 1);
        assert_false(limit_wildcard_take(&limit, "more.example", 1000));
        assert_true(limit_wildcard_take(&limit, "more.example", 2000));
}

static void a_label_that_looks_like_a_payload_is_none(void **state)
{
        static const struct {
                const char *name;
                bool plain;
        } cases[] = {
                {"raw.githubusercontent.com", true},
                {"a.b.c.d.e.f.g.h.example.com", true},
                {"ec2-192-0-2-17.eu-central-1.compute.amazonaws.com", true},
                {"my-service-staging-eu-west-1-replica-02.example.com", true},
                {"d111111abcdef8.cloudfront.net", true},
                {"_acme-challenge.example.com", true},
                {"xn--mnchen-3ya.example.com", true},
                /* 41 characters */
                {"aaaaaaaaaabbbbbbbbbbccccccccccddddddddddx.example.com", false},
                {"aaaaaaaaaabbbbbbbbbbccccccccccdddddddddd.example.com", true},
                /* base32 and hex-free randomness: every letter another */
                {"nbswy3dpfqqho33snrscc5dijfzsayjomrqxiy.example.com", false},
                {"abcdefghijklmnopqrstuvwxyz012345.example.com", false},
                /* 128 characters, and 129, of short labels */
                {"aaaaaaaaa.aaaaaaaaa.aaaaaaaaa.aaaaaaaaa.aaaaaaaaa.aaaaaaaaa.aaaaaaaaa.aaaaaaaaa.aaaaaaaaa.aaaaaaaaa."
                 "aaaaaaaaa.aaaaaaaaa.aaaaaaaa",
                 true},
                {"aaaaaaaaa.aaaaaaaaa.aaaaaaaaa.aaaaaaaaa.aaaaaaaaa.aaaaaaaaa.aaaaaaaaa.aaaaaaaaa.aaaaaaaaa.aaaaaaaaa."
                 "aaaaaaaaa.aaaaaaaaa.aaaaaaaaa",
                 false},
                {"www.abcdefghijklmnopqrstuvwxyz012345.com", false},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                if (limit_labels_are_plain(cases[i].name) != cases[i].plain)
                        fail_msg("%s", cases[i].name);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_bucket_gives_its_burst_then_its_rate),
                cmocka_unit_test(a_rate_gives_its_burst_then_one_an_interval),
                cmocka_unit_test(a_changed_rate_holds_at_once_and_none_limits_nothing),
                cmocka_unit_test(the_same_name_is_one_name_for_a_moment),
                cmocka_unit_test(a_label_that_looks_like_a_payload_is_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
