/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Answers are kept as long as they may be told, the oldest makes room, and no agent pushes another one's out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "agentd/dns/cache.h"
#include "agentd/dns/limit.h"

static struct dns_template make_template(__u16 size)
{
        struct dns_template template = {.wire = calloc(1, size), .size = size};

        template.places = calloc(1, sizeof(*template.places));
        return template;
}

static int put(struct dns_cache *cache, const char *name, __u16 type, __u16 size, __u32 lifetime_s, __u64 now_ms)
{
        struct dns_template template = make_template(size);
        int r = dns_cache_put(cache, name, type, &template, lifetime_s, now_ms);

        assert_true((r == 0) == (template.wire == NULL));
        free(template.wire);
        free(template.places);
        return r;
}

static void an_answer_lives_as_long_as_it_may_be_told(void **state)
{
        struct dns_cache *cache;
        size_t total = 0;
        __u32 age_s = 0;

        assert_int_equal(dns_cache_new(&total, &cache), 0);
        assert_int_equal(put(cache, "a.example", DNS_TYPE_A, 100, 0, 1000), -EINVAL);
        assert_int_equal(put(cache, "a.example", DNS_TYPE_A, 100, 10, 1000), 0);
        assert_null(dns_cache_find(cache, "a.example", DNS_TYPE_AAAA, 1000, &age_s));
        assert_null(dns_cache_find(cache, "a.exampl", DNS_TYPE_A, 1000, &age_s));
        assert_non_null(dns_cache_find(cache, "a.example", DNS_TYPE_A, 10999, &age_s));
        assert_int_equal(age_s, 9);
        assert_null(dns_cache_find(cache, "a.example", DNS_TYPE_A, 11000, &age_s));
        assert_int_equal(dns_cache_size(cache), 0);
        assert_int_equal(total, 0);
        dns_cache_free(cache);
}

static void the_one_not_used_for_longest_makes_room(void **state)
{
        struct dns_cache *cache;
        size_t total = 0;
        char name[32];
        __u32 age_s;

        assert_int_equal(dns_cache_new(&total, &cache), 0);
        for (unsigned i = 0; i < LIMIT_CACHE_ENTRIES; i++) {
                snprintf(name, sizeof(name), "n%u", i);
                assert_int_equal(put(cache, name, DNS_TYPE_A, 100, 10, 0), 0);
        }
        assert_non_null(dns_cache_find(cache, "n0", DNS_TYPE_A, 1, &age_s));
        assert_int_equal(put(cache, "more", DNS_TYPE_A, 100, 10, 0), 0);
        assert_int_equal(dns_cache_size(cache), LIMIT_CACHE_ENTRIES);
        assert_non_null(dns_cache_find(cache, "n0", DNS_TYPE_A, 1, &age_s));
        assert_null(dns_cache_find(cache, "n1", DNS_TYPE_A, 1, &age_s));
        dns_cache_clear(cache);
        assert_int_equal(total, 0);
        dns_cache_free(cache);
}

static void bytes_are_bounded_and_other_agents_keep_theirs(void **state)
{
        struct dns_cache *cache, *other;
        size_t total = 0;
        char name[32];
        __u32 age_s;

        assert_int_equal(dns_cache_new(&total, &cache), 0);
        assert_int_equal(dns_cache_new(&total, &other), 0);
        for (unsigned i = 0; i < 300; i++) {
                snprintf(name, sizeof(name), "n%u", i);
                assert_int_equal(put(cache, name, DNS_TYPE_A, 65000, 10, 0), 0);
        }
        assert_true(total <= LIMIT_CACHE_BYTES);
        assert_int_equal(put(other, "mine", DNS_TYPE_A, 100, 10, 0), 0);
        total += LIMIT_CACHE_TOTAL;
        assert_int_equal(put(cache, "late", DNS_TYPE_A, 100, 10, 0), -ENOSPC);
        assert_non_null(dns_cache_find(other, "mine", DNS_TYPE_A, 1, &age_s));
        total -= LIMIT_CACHE_TOTAL;
        dns_cache_free(cache);
        dns_cache_free(other);
        assert_int_equal(total, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_answer_lives_as_long_as_it_may_be_told),
                cmocka_unit_test(the_one_not_used_for_longest_makes_room),
                cmocka_unit_test(bytes_are_bounded_and_other_agents_keep_theirs),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
