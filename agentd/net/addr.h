/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses and prefixes in text. IPv4 and v4-mapped IPv6 are the same value (struct address), printed as IPv4.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agentd/abi.h"

enum { ADDRESS_TEXT_MAX = 48, PREFIX_TEXT_MAX = 52 };

/* An address and its length in bits of the 16 bytes: an IPv4 /24 is 96 + 24. */
struct prefix {
        struct address address;
        __u8 length;
};

/* 0 or -EINVAL. Accepts dotted IPv4 and IPv6; no zone, no brackets, no leading zeros in IPv4. */
int address_parse(const char *text, struct address *ret);
/* Writes at most ADDRESS_TEXT_MAX bytes into buffer and returns it. */
const char *address_format(const struct address *address, char *buffer);

/*
 * "10.0.0.0/8", "192.0.2.7" (a host). 0; -EINVAL: no prefix at all; -ERANGE: length out of range; -EADDRNOTAVAIL: bits
 * set below the length (*ret is then still written, with those bits cleared, for the suggestion).
 */
int prefix_parse(const char *text, struct prefix *ret);
/* A host prints without its length. */
const char *prefix_format(const struct prefix *prefix, char *buffer);
bool prefix_contains(const struct prefix *prefix, const struct address *address);
bool prefix_covers(const struct prefix *outer, const struct prefix *inner);
/* The bits of the address below length are cleared. */
void prefix_mask(struct prefix *prefix);

/*
 * True for what `allow_private: false` withholds from a name's answer: RFC 1918, 100.64/10, 127/8, 169.254/16, 0/8,
 * multicast, 240/4, ::, ::1, fc00::/7, fe80::/10, ff00::/8, and IPv6 that embeds one of those (address_embedded()).
 */
bool address_is_private(const struct address *address);
