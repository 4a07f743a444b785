/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The frame that must be dropped: well formed in everything, so that its destination is the one reason to drop it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "agentd/address_class.h"
#include "agentd/agent/probe_frame.h"

enum { ETHERNET = 14, IPV4 = 20, IPV6 = 40, ECHO = 8 };

/* With its own checksum in it a sum of 16-bit words is 0xffff. */
static __u32 sum_of(const __u8 *bytes, size_t size, __u32 sum)
{
        for (size_t i = 0; i < size; i += 2)
                sum += (__u32)bytes[i] << 8 | bytes[i + 1];
        while (sum >> 16)
                sum = (sum & 0xffff) + (sum >> 16);
        return sum;
}

static struct device device_make(bool ipv4)
{
        struct device device = {.n_addresses = 1, .gateway_mac = {2, 0, 0, 0, 0, 1}, .mac = {2, 0, 0, 0, 0, 2}};

        if (ipv4)
                address_from_ipv4(&device.addresses[0], ADDRESS_IPV4(10, 1, 0, 2));
        else
                device.addresses[0] = (struct address){.bytes = {0x20, 1, 0xd, 0xb8, [15] = 2}};
        return device;
}

static void an_ipv4_echo_request_ends_at_the_next_router(void **state)
{
        struct device device = device_make(true);
        struct address destination;
        __u8 frame[PROBE_FRAME_MAX];

        address_from_ipv4(&destination, ADDRESS_IPV4(240, 1, 2, 3));
        assert_true(probe_frame_is_ipv4(&device));
        assert_int_equal(probe_frame_make(&device, &destination, frame), ETHERNET + IPV4 + ECHO);
        assert_memory_equal(frame, device.gateway_mac, 6);
        assert_memory_equal(frame + 6, device.mac, 6);
        assert_memory_equal(frame + 12, "\x08\x00\x45", 3);
        assert_int_equal(frame[ETHERNET + 3], IPV4 + ECHO);
        assert_int_equal(frame[ETHERNET + 8], 1); /* hops */
        assert_int_equal(frame[ETHERNET + 9], 1); /* ICMP */
        assert_memory_equal(frame + ETHERNET + 12, "\x0a\x01\x00\x02\xf0\x01\x02\x03", 8);
        assert_int_equal(frame[ETHERNET + IPV4], 8); /* echo request */
        assert_int_equal(sum_of(frame + ETHERNET, IPV4, 0), 0xffff);
        assert_int_equal(sum_of(frame + ETHERNET + IPV4, ECHO, 0), 0xffff);
}

static void an_ipv6_echo_request_ends_at_the_next_router(void **state)
{
        struct device device = device_make(false);
        const struct address destination = {.bytes = {1, [8] = 0xab, [15] = 9}};
        __u8 frame[PROBE_FRAME_MAX];

        assert_false(probe_frame_is_ipv4(&device));
        assert_int_equal(probe_frame_make(&device, &destination, frame), ETHERNET + IPV6 + ECHO);
        assert_memory_equal(frame + 12, "\x86\xdd\x60", 3);
        assert_int_equal(frame[ETHERNET + 5], ECHO);
        assert_int_equal(frame[ETHERNET + 6], 58); /* ICMPv6 */
        assert_int_equal(frame[ETHERNET + 7], 1);  /* hops */
        assert_memory_equal(frame + ETHERNET + 8, &device.addresses[0], 16);
        assert_memory_equal(frame + ETHERNET + 24, &destination, 16);
        assert_int_equal(frame[ETHERNET + IPV6], 128); /* echo request */
        /* Addresses, length and protocol count with it. */
        assert_int_equal(sum_of(frame + ETHERNET + 8, 32 + ECHO, ECHO + 58), 0xffff);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_ipv4_echo_request_ends_at_the_next_router),
                cmocka_unit_test(an_ipv6_echo_request_ends_at_the_next_router),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
