/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Text to addresses and back, and the classes that only user space asks for.
 *
 * An IPv6 prefix shorter than ::ffff:0:0/96 has the v4-mapped range among its bits, but not its meaning: `::/0` is
 * "every IPv6 address", and nobody who writes it opens IPv4 with it. So no such prefix contains an IPv4 address.
 */
#include "agentd/net/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agentd/address_class.h"
#include "agentd/util/macro.h"

int address_parse(const char *text, struct address *ret)
{
        struct address address;
        __be32 ipv4;

        /* glibc's inet_pton() takes dotted decimals without leading zeros only, and no zone. */
        if (strchr(text, ':')) {
                if (inet_pton(AF_INET6, text, address.bytes) != 1)
                        return -EINVAL;
        } else {
                if (inet_pton(AF_INET, text, &ipv4) != 1)
                        return -EINVAL;
                address_from_ipv4(&address, ipv4);
        }

        *ret = address;
        return 0;
}

const char *address_format(const struct address *address, char *buffer)
{
        const char *text;

        if (address_is_ipv4(address))
                text = inet_ntop(AF_INET, address->bytes + 12, buffer, ADDRESS_TEXT_MAX);
        else
                text = inet_ntop(AF_INET6, address->bytes, buffer, ADDRESS_TEXT_MAX);
        if (!text)
                buffer[0] = '\0'; /* cannot happen: the buffer holds the longest form */
        return buffer;
}

/* A decimal of at most three digits, no sign, no leading zero: "/08" is a typing error, not eight. */
static int length_parse(const char *text, unsigned max, unsigned *ret)
{
        unsigned value = 0;
        size_t digits = strspn(text, "0123456789");

        if (digits == 0 || text[digits] != '\0' || (digits > 1 && text[0] == '0'))
                return -EINVAL;
        if (digits > 3)
                return -ERANGE;
        for (size_t i = 0; i < digits; i++)
                value = value * 10 + (unsigned)(text[i] - '0');
        if (value > max)
                return -ERANGE;

        *ret = value;
        return 0;
}

int prefix_parse(const char *text, struct prefix *ret)
{
        const char *slash = strchr(text, '/');
        struct prefix prefix, masked;
        char address[ADDRESS_TEXT_MAX];
        size_t size = slash ? (size_t)(slash - text) : strlen(text);
        unsigned length = 128;
        bool dotted;
        int r;

        if (size >= sizeof(address))
                return -EINVAL;
        memcpy(address, text, size);
        address[size] = '\0';

        r = address_parse(address, &prefix.address);
        if (r < 0)
                return r;

        if (slash) {
                dotted = !strchr(address, ':');
                r = length_parse(slash + 1, dotted ? 32 : 128, &length);
                if (r < 0)
                        return r;
                if (dotted)
                        length += 96;
        }
        prefix.length = (__u8)length;

        masked = prefix;
        prefix_mask(&masked);
        *ret = masked;
        return memcmp(&masked.address, &prefix.address, sizeof(masked.address)) == 0 ? 0 : -EADDRNOTAVAIL;
}

const char *prefix_format(const struct prefix *prefix, char *buffer)
{
        bool ipv4 = prefix->length >= 96 && address_is_ipv4(&prefix->address);
        char text[ADDRESS_TEXT_MAX];

        address_format(&prefix->address, text);
        if (prefix->length >= 128)
                snprintf(buffer, PREFIX_TEXT_MAX, "%s", text);
        else
                snprintf(buffer, PREFIX_TEXT_MAX, "%s/%u", text, prefix->length - (ipv4 ? 96u : 0u));
        return buffer;
}

static bool bits_equal(const struct address *a, const struct address *b, unsigned length)
{
        unsigned bytes = length / 8, rest = length % 8;

        if (memcmp(a->bytes, b->bytes, bytes) != 0)
                return false;
        return rest == 0 || ((a->bytes[bytes] ^ b->bytes[bytes]) >> (8 - rest)) == 0;
}

bool prefix_contains(const struct prefix *prefix, const struct address *address)
{
        if (prefix->length < 96 && address_is_ipv4(address))
                return false;
        return bits_equal(&prefix->address, address, prefix->length);
}

bool prefix_covers(const struct prefix *outer, const struct prefix *inner)
{
        if (outer->length > inner->length)
                return false;
        if (outer->length < 96 && inner->length >= 96 && address_is_ipv4(&inner->address))
                return false;
        return bits_equal(&outer->address, &inner->address, outer->length);
}

void prefix_mask(struct prefix *prefix)
{
        for (unsigned i = 0; i < 16; i++) {
                unsigned first = i * 8;

                if (first >= prefix->length)
                        prefix->address.bytes[i] = 0;
                else if (prefix->length - first < 8)
                        prefix->address.bytes[i] &= (__u8)(0xff << (8 - (prefix->length - first)));
        }
}

static bool ipv4_is_private(__be32 ipv4)
{
        static const struct {
                __be32 network, mask;
        } classes[] = {
                {ADDRESS_IPV4(0, 0, 0, 0), ADDRESS_IPV4(255, 0, 0, 0)},
                {ADDRESS_IPV4(10, 0, 0, 0), ADDRESS_IPV4(255, 0, 0, 0)},
                {ADDRESS_IPV4(100, 64, 0, 0), ADDRESS_IPV4(255, 192, 0, 0)},
                {ADDRESS_IPV4(127, 0, 0, 0), ADDRESS_IPV4(255, 0, 0, 0)},
                {ADDRESS_IPV4(169, 254, 0, 0), ADDRESS_IPV4(255, 255, 0, 0)},
                {ADDRESS_IPV4(172, 16, 0, 0), ADDRESS_IPV4(255, 240, 0, 0)},
                {ADDRESS_IPV4(192, 168, 0, 0), ADDRESS_IPV4(255, 255, 0, 0)},
                {ADDRESS_IPV4(224, 0, 0, 0), ADDRESS_IPV4(240, 0, 0, 0)}, /* multicast */
                {ADDRESS_IPV4(240, 0, 0, 0), ADDRESS_IPV4(240, 0, 0, 0)}, /* reserved, broadcast */
        };

        for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
                if ((ipv4 & classes[i].mask) == classes[i].network)
                        return true;
        return false;
}

bool address_is_private(const struct address *address)
{
        const __u8 *bytes = address->bytes;
        struct address inner;

        if (address_is_ipv4(address))
                return ipv4_is_private(address->words[3]);

        if (address_is_loopback(address)) /* :: as well: connect() takes it for ::1 */
                return true;
        if ((bytes[0] & 0xfe) == 0xfc || bytes[0] == 0xff)
                return true;
        if (bytes[0] == 0xfe && (bytes[1] & 0x80)) /* fe80::/10, and fec0::/10 of RFC 3879 */
                return true;
        return address_embedded(address, &inner) && ipv4_is_private(inner.words[3]);
}
