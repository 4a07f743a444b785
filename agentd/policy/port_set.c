/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Merging and subtracting ranges of ports, protocol by protocol.
 */
#include "agentd/policy/port_set.h"

#include <errno.h>
#include <stdlib.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

void port_set_clear(struct port_set *set)
{
        free(set->items);
        *set = (struct port_set){0};
}

int port_set_add(struct port_set *set, struct port_range range)
{
        if (set->n_items == set->capacity) {
                size_t capacity = MAX(set->capacity * 2, (size_t)2);
                struct port_range *items = reallocarray(set->items, capacity, sizeof(*items));

                if (!items)
                        return -ENOMEM;
                set->items = items;
                set->capacity = capacity;
        }
        set->items[set->n_items++] = range;
        return 0;
}

static int range_compare(const void *a, const void *b)
{
        const struct port_range *x = a, *y = b;

        if (x->low != y->low)
                return x->low < y->low ? -1 : 1;
        if (x->high != y->high)
                return x->high < y->high ? -1 : 1;
        return x->protocols - y->protocols;
}

int port_set_merge(struct port_set *set)
{
        static const __u8 protocols[] = {PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_ICMP, PROTOCOL_OTHER};
        _cleanup_(port_set_clear) struct port_set merged = {0};
        size_t n = 0;
        int r;

        if (set->n_items < 2)
                return 0;
        qsort(set->items, set->n_items, sizeof(*set->items), range_compare);

        for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
                struct port_range *open = NULL;

                for (size_t j = 0; j < set->n_items; j++) {
                        struct port_range range = set->items[j];

                        if (!(range.protocols & protocols[i]))
                                continue;
                        if (open && range.low <= open->high + 1u) {
                                open->high = MAX(open->high, range.high);
                                continue;
                        }
                        range.protocols = protocols[i];
                        r = port_set_add(&merged, range);
                        if (r < 0)
                                return r;
                        open = &merged.items[merged.n_items - 1];
                }
        }

        /* Equal ranges stand side by side now. */
        qsort(merged.items, merged.n_items, sizeof(*merged.items), range_compare);
        for (size_t i = 1; i < merged.n_items; i++) {
                struct port_range *last = &merged.items[n], *next = &merged.items[i];

                if (next->low == last->low && next->high == last->high)
                        last->protocols |= next->protocols;
                else
                        merged.items[++n] = *next;
        }
        merged.n_items = MIN(n + 1, merged.n_items);

        free(set->items);
        *set = merged;
        merged = (struct port_set){0};
        return 0;
}

int port_set_subtract(struct port_set *set, const struct port_range *ranges, size_t n_ranges)
{
        for (size_t i = 0; i < n_ranges; i++) {
                const struct port_range *hole = &ranges[i];
                _cleanup_(port_set_clear) struct port_set rest = {0};

                for (size_t j = 0; j < set->n_items; j++) {
                        struct port_range range = set->items[j];
                        struct port_range pieces[3] = {range, range, range};

                        if (hole->low > range.high || hole->high < range.low) {
                                pieces[1].protocols = pieces[2].protocols = 0;
                        } else {
                                /* protocols that the hole has not; what is left of it; what is right of it */
                                pieces[0].protocols &= (__u8)~hole->protocols;
                                pieces[1].protocols &= hole->low > range.low ? hole->protocols : 0;
                                pieces[1].high = (__u16)(hole->low - 1);
                                pieces[2].protocols &= hole->high < range.high ? hole->protocols : 0;
                                pieces[2].low = (__u16)(hole->high + 1);
                        }
                        for (size_t k = 0; k < ARRAY_SIZE(pieces); k++)
                                if (pieces[k].protocols && port_set_add(&rest, pieces[k]) < 0)
                                        return -ENOMEM;
                }
                free(set->items);
                *set = rest;
                rest = (struct port_set){0};
        }
        return port_set_merge(set);
}
