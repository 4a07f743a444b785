/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Numbers, sizes and durations in text, as the configuration and the command line write them.
 *
 * The whole text must be the value: no blanks, no sign, no rest. -EINVAL: not of the form; -ERANGE: does not fit.
 */
#pragma once

#include <linux/types.h>

/* Decimal digits; min..max inclusive. */
int parse_number(const char *text, __u64 min, __u64 max, __u64 *ret);

/* "4096", "10MiB", "2GB": k, M, G, T; with i: powers of 1024, without: of 1000. A bare letter ("10M") is refused: it
 * means either. */
int parse_size(const char *text, __u64 *ret_bytes);

/* "30s", "5m", "1h", "7d", "250ms", "2w", and sums of them: "1h30m". A number without a unit is refused. */
int parse_duration(const char *text, __u64 *ret_ns);
