/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Destinations as people type them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/policy/explain.h"
#include "agentd/util/macro.h"

static void destinations_are_taken_apart(void **state)
{
        static const struct {
                const char *text, *name, *prefix;
                int port; /* -1: none */
                __u8 protocol;
        } cases[] = {
                {"github.com", "github.com", NULL, -1, 0},
                {"GitHub.com.:443", "github.com", NULL, 443, 0},
                {"github.com:443/tcp", "github.com", NULL, 443, PROTOCOL_TCP},
                {"github.com/udp", "github.com", NULL, -1, PROTOCOL_UDP},
                {"10.0.0.1", NULL, "10.0.0.1", -1, 0},
                {"10.0.0.1:22", NULL, "10.0.0.1", 22, 0},
                {"10.0.0.1:22/UDP", NULL, "10.0.0.1", 22, PROTOCOL_UDP},
                {"10.0.0.1/icmp", NULL, "10.0.0.1", -1, PROTOCOL_ICMP},
                {"10.0.0.0/8", NULL, "10.0.0.0/8", -1, 0},
                {"10.0.0.0/8:443", NULL, "10.0.0.0/8", 443, 0},
                {"10.0.0.0/8/tcp", NULL, "10.0.0.0/8", -1, PROTOCOL_TCP},
                {"2001:db8::1", NULL, "2001:db8::1", -1, 0},
                {"2001:db8::/32", NULL, "2001:db8::/32", -1, 0},
                {"[2001:db8::1]:443/udp", NULL, "2001:db8::1", 443, PROTOCOL_UDP},
                {"[2001:db8::/32]:443", NULL, "2001:db8::/32", 443, 0},
                {"[::1]", NULL, "::1", -1, 0},
                {"::ffff:10.0.0.1", NULL, "10.0.0.1", -1, 0},
                {"localhost:80", "localhost", NULL, 80, 0},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct destination destination;
                char *error = NULL, buffer[PREFIX_TEXT_MAX];

                if (destination_parse(cases[i].text, &destination, &error) < 0)
                        fail_msg("%s: %s", cases[i].text, error);
                if (cases[i].name)
                        assert_string_equal(destination.name, cases[i].name);
                else
                        assert_string_equal(prefix_format(&destination.prefix, buffer), cases[i].prefix);
                assert_int_equal(destination.has_port ? destination.port : -1, cases[i].port);
                assert_int_equal(destination.protocol, cases[i].protocol);
                destination_clear(&destination);
        }
}

static void what_is_no_destination_says_what_would_be(void **state)
{
        static const char *const cases[][2] = {
                {"", "no address, CIDR or name"},
                {"https://github.com", "URL"},
                {"github.com/path", "no protocol"},
                {"github.com:", "no port"},
                {"github.com:0", "no port"},
                {"github.com:65536", "no port"},
                {"github.com:443/sctp", "no protocol"},
                {"10.0.0.1:22/icmp", "ICMP has no ports"},
                {"10.0.0.1/8", "did you mean '10.0.0.0/8'?"},
                {"10.0.0.0/33", "out of range"},
                {"10.0.0.256", "no address"},
                {"1.2.3", "no address"},
                {"[::1", "[ADDRESS]:PORT"},
                {"[::1]443", "[ADDRESS]:PORT"},
                {"*.example.com", "no address, CIDR or name"},
                {"a b", "no address, CIDR or name"},
        };
        char *longest = calloc(1, 5000);

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct destination destination;
                char *error = NULL;

                assert_int_equal(destination_parse(cases[i][0], &destination, &error), -EINVAL);
                if (!strstr(error, cases[i][1]))
                        fail_msg("%s: %s", cases[i][0], error);
                free(error);
        }

        memset(longest, 'a', 4999);
        struct destination destination;
        char *error = NULL;

        assert_int_equal(destination_parse(longest, &destination, &error), -EINVAL);
        assert_non_null(strstr(error, "too long"));
        free(error);
        free(longest);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(destinations_are_taken_apart),
                cmocka_unit_test(what_is_no_destination_says_what_would_be),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
