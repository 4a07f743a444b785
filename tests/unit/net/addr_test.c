/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses in text: what is taken, what is refused, and what a private address is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "agentd/address_class.h"
#include "agentd/net/addr.h"
#include "agentd/util/macro.h"

static struct address address_of(const char *text)
{
        struct address address;

        assert_int_equal(address_parse(text, &address), 0);
        return address;
}

static void addresses_survive_the_way_to_text_and_back(void **state)
{
        static const char *const cases[][2] = {
                {"0.0.0.0", "0.0.0.0"},
                {"192.0.2.7", "192.0.2.7"},
                {"255.255.255.255", "255.255.255.255"},
                {"::", "::"},
                {"::1", "::1"},
                {"2001:DB8::7", "2001:db8::7"},
                {"::ffff:192.0.2.7", "192.0.2.7"}, /* v4-mapped is IPv4 */
                {"::FFFF:c000:0207", "192.0.2.7"},
                {"64:ff9b::192.0.2.7", "64:ff9b::c000:207"},
        };
        char buffer[ADDRESS_TEXT_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct address address = address_of(cases[i][0]);

                assert_string_equal(address_format(&address, buffer), cases[i][1]);
        }
}

static void refuses_what_is_no_address(void **state)
{
        static const char *const cases[] = {
                "",           " ",        "1",         "1.2.3",  "1.2.3.4.5",   "256.0.0.1",   "010.0.0.1",
                "1.2.3.04",   "1.2.3.4 ", " 1.2.3.4",  "0x7f.1", "2130706433",  "fe80::1%lo",  "[::1]",
                ":::",        "1::2::3",  "12345::",   "::1/64", "1.2.3.4:443", "example.com", "1.2.3.-4",
                "::ffff:1.2", "::g",      "1.2.3.4\n",
        };
        struct address address;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                assert_int_equal(address_parse(cases[i], &address), -EINVAL);
}

static void prefixes_say_what_is_wrong_with_them(void **state)
{
        static const struct {
                const char *text;
                int result;
                const char *printed; /* what is in *ret */
        } cases[] = {
                {"10.0.0.0/8", 0, "10.0.0.0/8"},
                {"192.0.2.7", 0, "192.0.2.7"},
                {"192.0.2.7/32", 0, "192.0.2.7"},
                {"0.0.0.0/0", 0, "0.0.0.0/0"},
                {"::/0", 0, "::/0"},
                {"2001:db8::/32", 0, "2001:db8::/32"},
                {"2001:db8::1", 0, "2001:db8::1"},
                {"::ffff:10.0.0.0/104", 0, "10.0.0.0/8"},
                {"10.0.0.1/8", -EADDRNOTAVAIL, "10.0.0.0/8"},
                {"10.20.0.5/31", -EADDRNOTAVAIL, "10.20.0.4/31"},
                {"2001:db8::1/64", -EADDRNOTAVAIL, "2001:db8::/64"},
                {"128.0.0.0/0", -EADDRNOTAVAIL, "0.0.0.0/0"},
                {"10.0.0.0/33", -ERANGE, NULL},
                {"::/129", -ERANGE, NULL},
                {"10.0.0.0/1000", -ERANGE, NULL},
                {"10.0.0.0/", -EINVAL, NULL},
                {"10.0.0.0/08", -EINVAL, NULL},
                {"10.0.0.0/+8", -EINVAL, NULL},
                {"10.0.0.0/-1", -EINVAL, NULL},
                {"10.0.0.0/8/8", -EINVAL, NULL},
                {"10.0.0.0/255.0.0.0", -EINVAL, NULL},
                {"10/8", -EINVAL, NULL},
                {"/8", -EINVAL, NULL},
                {"", -EINVAL, NULL},
                {"example.com", -EINVAL, NULL},
                {"00000000000000000000000000000000000000000000000000000000000001.0.0.0", -EINVAL, NULL},
        };
        char buffer[PREFIX_TEXT_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct prefix prefix;

                assert_int_equal(prefix_parse(cases[i].text, &prefix), cases[i].result);
                if (cases[i].printed)
                        assert_string_equal(prefix_format(&prefix, buffer), cases[i].printed);
        }
}

static void prefixes_contain_their_addresses_only(void **state)
{
        static const struct {
                const char *prefix, *address;
                bool contains;
        } cases[] = {
                {"10.0.0.0/8", "10.255.255.255", true},
                {"10.0.0.0/8", "11.0.0.0", false},
                {"10.20.0.4/31", "10.20.0.5", true},
                {"10.20.0.4/31", "10.20.0.6", false},
                {"192.0.2.7", "192.0.2.7", true},
                {"192.0.2.7", "192.0.2.6", false},
                {"0.0.0.0/0", "255.255.255.255", true},
                {"0.0.0.0/0", "::1", false},
                {"::/0", "2001:db8::1", true},
                {"::/0", "10.0.0.1", false}, /* every IPv6 address is not every address */
                {"2001:db8::/33", "2001:db8:8000::1", false},
                {"2001:db8::/33", "2001:db8:7fff::1", true},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct address address = address_of(cases[i].address);
                struct prefix prefix, host = {address, 128};

                assert_int_equal(prefix_parse(cases[i].prefix, &prefix), 0);
                assert_int_equal(prefix_contains(&prefix, &address), cases[i].contains);
                assert_int_equal(prefix_covers(&prefix, &host), cases[i].contains);
        }
}

static void a_narrow_prefix_does_not_cover_a_wide_one(void **state)
{
        struct prefix wide, narrow;

        assert_int_equal(prefix_parse("10.0.0.0/8", &wide), 0);
        assert_int_equal(prefix_parse("10.0.0.0/9", &narrow), 0);
        assert_true(prefix_covers(&wide, &narrow));
        assert_true(prefix_covers(&wide, &wide));
        assert_false(prefix_covers(&narrow, &wide));
}

static void private_addresses_are_those_of_the_contract(void **state)
{
        static const struct {
                const char *address;
                bool is_private;
        } cases[] = {
                {"0.0.0.0", true},
                {"0.255.255.255", true},
                {"1.0.0.0", false},
                {"9.255.255.255", false},
                {"10.0.0.0", true},
                {"10.255.255.255", true},
                {"11.0.0.0", false},
                {"100.63.255.255", false},
                {"100.64.0.0", true},
                {"100.127.255.255", true},
                {"100.128.0.0", false},
                {"127.0.0.1", true},
                {"169.253.255.255", false},
                {"169.254.0.1", true},
                {"172.15.255.255", false},
                {"172.16.0.0", true},
                {"172.31.255.255", true},
                {"172.32.0.0", false},
                {"192.168.0.1", true},
                {"192.169.0.0", false},
                {"192.0.2.1", false}, /* documentation ranges are public */
                {"198.51.100.1", false},
                {"203.0.113.9", false},
                {"198.18.0.1", false}, /* benchmarks as well */
                {"223.255.255.255", false},
                {"224.0.0.1", true},
                {"239.255.255.255", true},
                {"240.0.0.0", true},
                {"255.255.255.255", true},
                {"::ffff:10.0.0.1", true},
                {"::", true},
                {"::1", true},
                {"fbff::1", false},
                {"fc00::", true},
                {"fdff:ffff::1", true},
                {"fe00::1", false},
                {"fe7f::1", false},
                {"fe80::1", true},
                {"febf::1", true},
                {"fec0::1", true},
                {"ff02::1", true},
                {"2001:db8::1", false},
                {"2606:4700::1111", false},
                {"64:ff9b::10.0.0.1", true}, /* NAT64 */
                {"64:ff9b::192.0.2.1", false},
                {"64:ff9b:1::127.0.0.1", true}, /* NAT64, local use */
                {"2002:a00:1::", true},         /* 6to4 of 10.0.0.1 */
                {"2002:c000:201::", false},
                {"2001:0:1:2:3:4:f5ff:fffe", true}, /* Teredo of 10.0.0.1, inverted */
                {"::10.0.0.1", true},               /* IPv4-compatible */
                {"::192.0.2.1", false},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct address address = address_of(cases[i].address);

                if (address_is_private(&address) != cases[i].is_private)
                        fail_msg("%s", cases[i].address);
        }
}

static void masking_clears_the_host_bits_only(void **state)
{
        for (unsigned length = 0; length <= 128; length++) {
                struct prefix prefix = {.length = (__u8)length};

                memset(prefix.address.bytes, 0xff, 16);
                prefix_mask(&prefix);
                for (unsigned bit = 0; bit < 128; bit++)
                        assert_int_equal(prefix.address.bytes[bit / 8] >> (7 - bit % 8) & 1, bit < length);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(addresses_survive_the_way_to_text_and_back),
                cmocka_unit_test(refuses_what_is_no_address),
                cmocka_unit_test(prefixes_say_what_is_wrong_with_them),
                cmocka_unit_test(prefixes_contain_their_addresses_only),
                cmocka_unit_test(a_narrow_prefix_does_not_cover_a_wide_one),
                cmocka_unit_test(private_addresses_are_those_of_the_contract),
                cmocka_unit_test(masking_clears_the_host_bits_only),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
