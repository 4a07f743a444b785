/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Optimal string alignment distance in three rows; words are bounded, so it is cheap on any input.
 */
#include "agentd/util/suggest.h"

#include <limits.h>
#include <string.h>

#include "agentd/util/macro.h"

enum { WORD_SIZE_MAX = 64 };

static char lower(char c)
{
        return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

unsigned suggest_distance(const char *a, const char *b)
{
        unsigned rows[3][WORD_SIZE_MAX + 1];
        size_t size_a = strnlen(a, WORD_SIZE_MAX + 1), size_b = strnlen(b, WORD_SIZE_MAX + 1);

        if (size_a > WORD_SIZE_MAX || size_b > WORD_SIZE_MAX)
                return UINT_MAX;

        for (size_t j = 0; j <= size_b; j++)
                rows[0][j] = (unsigned)j;
        for (size_t i = 1; i <= size_a; i++) {
                unsigned *row = rows[i % 3], *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];

                row[0] = (unsigned)i;
                for (size_t j = 1; j <= size_b; j++) {
                        unsigned change = up[j - 1] + (lower(a[i - 1]) != lower(b[j - 1]));

                        row[j] = MIN(change, MIN(up[j], row[j - 1]) + 1);
                        if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]))
                                row[j] = MIN(row[j], up2[j - 2] + 1);
                }
        }
        return rows[size_a % 3][size_b];
}

const char *suggest_closest(const char *word, const char *const *candidates, size_t n_candidates)
{
        size_t size = strnlen(word, WORD_SIZE_MAX + 1);
        unsigned best = (unsigned)MAX(size / 3, (size_t)1) + 1;
        const char *closest = NULL;

        for (size_t i = 0; i < n_candidates; i++) {
                unsigned distance = suggest_distance(word, candidates[i]);

                /* A word changed in every letter is another word. */
                if (distance < best && distance < strlen(candidates[i])) {
                        best = distance;
                        closest = candidates[i];
                }
        }
        return closest;
}
