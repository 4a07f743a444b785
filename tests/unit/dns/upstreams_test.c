/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The upstreams of a configuration as the worker gets them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentd/dns/upstreams.h"
#include "agentd/util/macro.h"

static int settings_of(const char *upstream, const char *resolv_conf, struct message_settings *ret, bool *ret_system)
{
        char path[] = "/tmp/agentd-resolv.XXXXXX";
        char *list[] = {(char *)upstream};
        struct dns_settings settings = {.upstreams = list, .n_upstreams = upstream != NULL};
        int fd = mkstemp(path), r;

        assert_true(fd >= 0);
        assert_int_equal(write(fd, resolv_conf, strlen(resolv_conf)), strlen(resolv_conf));
        close(fd);
        r = upstreams_settings(&settings, path, ret, ret_system);
        unlink(path);
        return r;
}

static void takes_addresses_with_ports_and_names(void **state)
{
        static const struct {
                const char *text;
                int result;
        } cases[] = {
                {"10.0.0.2", 0},
                {"10.0.0.2@5353", 0},
                {"2001:db8::1", 0},
                {"2001:db8::1@53", 0},
                {"tls://9.9.9.9", 0},
                {"tls://9.9.9.9@853#dns.quad9.net", 0},
                {"tls://9.9.9.9#dns.quad9.net", 0},
                {"10.0.0.2@0", -EINVAL},
                {"10.0.0.2@65536", -EINVAL},
                {"10.0.0.2@53x", -EINVAL},
                {"10.0.0.2@", -EINVAL},
                {"10.0.0.2@-1", -EINVAL},
                {"10.0.0.2#name", -EINVAL},
                {"tls://9.9.9.9#", -EINVAL},
                {"tls://dns.quad9.net", -EINVAL},
                {"resolver.example", -EINVAL},
                {"", -EINVAL},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct message_settings message;
                bool system;

                if (settings_of(cases[i].text, "", &message, &system) != cases[i].result)
                        fail_msg("'%s'", cases[i].text);
                if (cases[i].result == 0) {
                        assert_int_equal(message.n_upstreams, 1);
                        assert_string_equal(message.upstreams[0], cases[i].text);
                        assert_false(system);
                }
        }
}

static void system_is_what_resolv_conf_says(void **state)
{
        struct message_settings message;
        bool system;

        assert_int_equal(settings_of("system",
                                     "# a comment\nsearch example.com\nnameserver 192.0.2.53 # first\n"
                                     "nameserver\t2001:db8::53\nnameserver fe80::1%eth0\nnameserver 192.0.2.53\n"
                                     "nameservers 192.0.2.99\n",
                                     &message, &system),
                         0);
        assert_true(system);
        assert_int_equal(message.n_upstreams, 2);
        assert_string_equal(message.upstreams[0], "192.0.2.53");
        assert_string_equal(message.upstreams[1], "2001:db8::53");

        /* Nothing configured, and nothing in it: the local machine, as resolv.conf(5) says. */
        assert_int_equal(settings_of(NULL, "options edns0\n", &message, &system), 0);
        assert_true(system);
        assert_string_equal(message.upstreams[0], "127.0.0.1");
}

static void as_asked_is_a_flag(void **state)
{
        struct message_settings message;
        bool system;

        assert_int_equal(settings_of("as-asked", "nameserver 192.0.2.1\n", &message, &system), 0);
        assert_int_equal(message.as_asked, 1);
        assert_int_equal(message.n_upstreams, 0);
        assert_false(system);
}

static void more_than_there_is_room_for_is_an_error(void **state)
{
        char texts[UPSTREAM_MAX + 1][16], *list[UPSTREAM_MAX + 1];
        struct dns_settings settings = {.upstreams = list, .n_upstreams = UPSTREAM_MAX + 1};
        struct message_settings message;
        bool system;

        for (size_t i = 0; i <= UPSTREAM_MAX; i++) {
                snprintf(texts[i], sizeof(texts[i]), "192.0.2.%zu", i);
                list[i] = texts[i];
        }
        assert_int_equal(upstreams_settings(&settings, "/nonexistent", &message, &system), -E2BIG);
        settings.n_upstreams = UPSTREAM_MAX;
        assert_int_equal(upstreams_settings(&settings, "/nonexistent", &message, &system), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(takes_addresses_with_ports_and_names),
                cmocka_unit_test(system_is_what_resolv_conf_says),
                cmocka_unit_test(as_asked_is_a_flag),
                cmocka_unit_test(more_than_there_is_room_for_is_an_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
