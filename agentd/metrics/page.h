/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A page in Prometheus' text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats): a family of
 * samples after another. Label values may hold what an agent chose, and are escaped.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agentd/abi.h"

struct page {
        char *text; /* to be freed by page_clear() */
        size_t used, size;
        bool failed; /* out of memory: the page is not to be shown */
};

enum page_type { PAGE_COUNTER, PAGE_GAUGE, PAGE_HISTOGRAM };

/* # HELP and # TYPE; the samples of the family follow. name and help are ours, and are not escaped. */
void page_family(struct page *page, const char *name, enum page_type type, const char *help);
/* name{label="value",...} value. Labels: pairs of names and values, ended by NULL. */
void page_count(struct page *page, const char *name, __u64 value, ...) __attribute__((sentinel));
void page_number(struct page *page, const char *name, double value, ...) __attribute__((sentinel));
void page_clear(struct page *page);
