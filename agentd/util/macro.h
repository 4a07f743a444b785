/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The few macros that C lacks. None of them hides a return, a goto or a loop.
 */
#pragma once

#include <stddef.h>

/* <uv.h> brings <sys/param.h>, which has them too. */
#undef MIN
#undef MAX

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define MIN(a, b)         ((a) < (b) ? (a) : (b))
#define MAX(a, b)         ((a) > (b) ? (a) : (b))
#define UNUSED            __attribute__((unused))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

#define NSEC_PER_SEC  1000000000ull
#define NSEC_PER_MSEC 1000000ull
