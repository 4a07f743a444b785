/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Text that hostile strings go into: command names, file names and DNS names are chosen by the agent, and end in log
 * files and on terminals.
 *
 * The writer never writes past its buffer and never allocates: events are formatted at the rate of denies.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agentd/util/macro.h"

struct text_writer {
        char *buffer; /* always NUL-terminated */
        size_t size;
        size_t used; /* without the NUL; what does not fit is dropped and full is set */
        bool full;
};

void text_begin(struct text_writer *writer, char *buffer, size_t size);
void text_add(struct text_writer *writer, const char *text);
void text_add_bytes(struct text_writer *writer, const char *bytes, size_t length);
void text_add_unsigned(struct text_writer *writer, uint64_t value);
void text_addf(struct text_writer *writer, const char *format, ...) PRINTF(2, 3);

/* A JSON string with its quotes. What is not UTF-8 becomes the four characters \xNN. */
void text_add_json(struct text_writer *writer, const char *text, size_t length);
/* For a terminal: control characters, text direction overrides and what is not UTF-8 become \xNN. */
void text_add_safe(struct text_writer *writer, const char *text, size_t length);

/* Bytes of the UTF-8 character at text, 0 when there is none. *ret: its code point. */
size_t text_utf8(const char *text, size_t length, uint32_t *ret);
