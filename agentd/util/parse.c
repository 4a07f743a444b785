/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Digits by hand: strtoull() takes blanks, signs and the locale.
 */
#include "agentd/util/parse.h"

#include <errno.h>
#include <string.h>

#include "agentd/util/macro.h"

/* Digits at the front; *text moves behind them. */
static int take_digits(const char **text, __u64 *ret)
{
        const char *at = *text;
        __u64 value = 0;

        if (*at < '0' || *at > '9')
                return -EINVAL;
        for (; *at >= '0' && *at <= '9'; at++)
                if (__builtin_mul_overflow(value, 10, &value) ||
                    __builtin_add_overflow(value, (__u64)(*at - '0'), &value))
                        return -ERANGE;
        *text = at;
        *ret = value;
        return 0;
}

int parse_number(const char *text, __u64 min, __u64 max, __u64 *ret)
{
        __u64 value;
        int r;

        r = take_digits(&text, &value);
        if (r < 0)
                return r;
        if (*text != '\0')
                return -EINVAL;
        if (value < min || value > max)
                return -ERANGE;
        *ret = value;
        return 0;
}

struct unit {
        const char *name;
        __u64 factor;
};

static const struct unit *find_unit(const struct unit *units, size_t n_units, const char *name, size_t size)
{
        for (size_t i = 0; i < n_units; i++)
                if (strlen(units[i].name) == size && strncmp(units[i].name, name, size) == 0)
                        return &units[i];
        return NULL;
}

int parse_size(const char *text, __u64 *ret_bytes)
{
        static const struct unit units[] = {
                {"", 1},
                {"B", 1},
                {"kB", 1000ull},
                {"KB", 1000ull},
                {"MB", 1000ull * 1000},
                {"GB", 1000ull * 1000 * 1000},
                {"TB", 1000ull * 1000 * 1000 * 1000},
                {"KiB", 1ull << 10},
                {"MiB", 1ull << 20},
                {"GiB", 1ull << 30},
                {"TiB", 1ull << 40},
        };
        const struct unit *unit;
        __u64 value;
        int r;

        r = take_digits(&text, &value);
        if (r < 0)
                return r;
        unit = find_unit(units, ARRAY_SIZE(units), text, strlen(text));
        if (!unit)
                return -EINVAL;
        if (__builtin_mul_overflow(value, unit->factor, &value))
                return -ERANGE;
        *ret_bytes = value;
        return 0;
}

int parse_duration(const char *text, __u64 *ret_ns)
{
        /* Largest first: a sum goes down, so that "5s1h" is seen as the typing error it is. */
        static const struct unit units[] = {
                {"w", 7 * 24 * 3600 * NSEC_PER_SEC},
                {"d", 24 * 3600 * NSEC_PER_SEC},
                {"h", 3600 * NSEC_PER_SEC},
                {"m", 60 * NSEC_PER_SEC},
                {"s", NSEC_PER_SEC},
                {"ms", NSEC_PER_MSEC},
        };
        const struct unit *last = NULL;
        __u64 sum = 0;
        int r;

        do {
                const struct unit *unit;
                size_t size;
                __u64 value;

                r = take_digits(&text, &value);
                if (r < 0)
                        return r;
                size = strcspn(text, "0123456789");
                unit = find_unit(units, ARRAY_SIZE(units), text, size);
                if (!unit || (last && unit <= last))
                        return -EINVAL;
                if (__builtin_mul_overflow(value, unit->factor, &value) || __builtin_add_overflow(sum, value, &sum))
                        return -ERANGE;
                last = unit;
                text += size;
        } while (*text != '\0');

        *ret_ns = sum;
        return 0;
}
