/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The heap of times: whatever is put in, moved and taken out, the earliest stands first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "agentd/dns/heap.h"

enum { NODES = 500, STEPS = 20000 };

static void the_earliest_stands_first_through_random_changes(void **state)
{
        static struct heap_node nodes[NODES];
        struct heap heap = {0};
        unsigned seed = 7;

        for (int step = 0; step < STEPS; step++) {
                struct heap_node *node = &nodes[rand_r(&seed) % NODES], *earliest = NULL;

                if (rand_r(&seed) % 4 == 0)
                        heap_remove(&heap, node);
                else
                        assert_int_equal(heap_set(&heap, node, (__u64)(rand_r(&seed) % 1000)), 0);
                if (step % 16)
                        continue;
                for (size_t i = 0; i < NODES; i++)
                        if (nodes[i].place && (!earliest || nodes[i].time < earliest->time))
                                earliest = &nodes[i];
                if (!earliest)
                        assert_null(heap_first(&heap));
                else
                        assert_int_equal(heap_first(&heap)->time, earliest->time);
        }
        for (__u64 last = 0; heap_first(&heap);) {
                struct heap_node *first = heap_first(&heap);

                assert_true(first->time >= last);
                last = first->time;
                heap_remove(&heap, first);
                assert_int_equal(first->place, 0);
        }
        heap_release(&heap);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_earliest_stands_first_through_random_changes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
