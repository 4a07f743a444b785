/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#include "agentd/metrics/page.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/util/macro.h"

enum { PAGE_FIRST = 16 * 1024, NUMBER_MAX = 32 };

static void add_bytes(struct page *page, const char *bytes, size_t length)
{
        if (page->failed)
                return;
        if (page->size - page->used < length) {
                size_t size = MAX(page->size * 2, page->used + length + PAGE_FIRST);
                char *text = realloc(page->text, size);

                if (!text) {
                        page->failed = true;
                        return;
                }
                page->text = text;
                page->size = size;
        }
        memcpy(page->text + page->used, bytes, length);
        page->used += length;
}

static void add(struct page *page, const char *text)
{
        add_bytes(page, text, strlen(text));
}

void page_clear(struct page *page)
{
        free(page->text);
        *page = (struct page){0};
}

void page_family(struct page *page, const char *name, enum page_type type, const char *help)
{
        static const char *const types[] = {"counter", "gauge", "histogram"};

        add(page, "# HELP ");
        add(page, name);
        add(page, " ");
        add(page, help);
        add(page, "\n# TYPE ");
        add(page, name);
        add(page, " ");
        add(page, types[type]);
        add(page, "\n");
}

/* Backslash, quote and newline have escapes; other control characters have none, and no scraper wants them. */
static void add_value(struct page *page, const char *value)
{
        for (; *value; value++) {
                unsigned char c = (unsigned char)*value;

                if (c == '\\' || c == '"')
                        add_bytes(page, (char[]){'\\', (char)c}, 2);
                else if (c == '\n')
                        add(page, "\\n");
                else
                        add_bytes(page, c < ' ' || c == 127 ? "?" : value, 1);
        }
}

static void add_sample(struct page *page, const char *name, const char *value, va_list labels)
{
        const char *separator = "{";
        const char *label;

        add(page, name);
        while ((label = va_arg(labels, const char *))) {
                add(page, separator);
                add(page, label);
                add(page, "=\"");
                add_value(page, va_arg(labels, const char *));
                add(page, "\"");
                separator = ",";
        }
        add(page, separator[0] == ',' ? "} " : " ");
        add(page, value);
        add(page, "\n");
}

void page_count(struct page *page, const char *name, __u64 value, ...)
{
        char text[NUMBER_MAX];
        va_list labels;

        snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
        va_start(labels, value);
        add_sample(page, name, text, labels);
        va_end(labels);
}

void page_number(struct page *page, const char *name, double value, ...)
{
        char text[NUMBER_MAX];
        va_list labels;

        snprintf(text, sizeof(text), "%.15g", value);
        va_start(labels, value);
        add_sample(page, name, text, labels);
        va_end(labels);
}
