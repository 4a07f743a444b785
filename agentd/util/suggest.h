/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * "Did you mean": the nearest of the words that would have been right.
 */
#pragma once

#include <stddef.h>

/* Letters to add, drop, change or swap with their neighbour; case does not count. Long words are as good as infinite.
 */
unsigned suggest_distance(const char *a, const char *b);

/* The candidate that is near enough to be meant, or NULL. */
const char *suggest_closest(const char *word, const char *const *candidates, size_t n_candidates);
