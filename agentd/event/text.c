/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A bounded writer, and the two escapings: for JSON and for terminals.
 */
#include "agentd/event/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char hex_digits[] = "0123456789abcdef";

void text_begin(struct text_writer *writer, char *buffer, size_t size)
{
        *writer = (struct text_writer){.buffer = buffer, .size = size};
        buffer[0] = '\0';
}

void text_add_bytes(struct text_writer *writer, const char *bytes, size_t length)
{
        /* All or nothing: half an escape sequence would be worse than none. */
        if (writer->full || length >= writer->size - writer->used) {
                writer->full = true;
                return;
        }
        memcpy(writer->buffer + writer->used, bytes, length);
        writer->used += length;
        writer->buffer[writer->used] = '\0';
}

void text_add(struct text_writer *writer, const char *text)
{
        text_add_bytes(writer, text, strlen(text));
}

void text_add_unsigned(struct text_writer *writer, uint64_t value)
{
        char digits[20];
        size_t at = sizeof(digits);

        do {
                digits[--at] = (char)('0' + value % 10);
                value /= 10;
        } while (value > 0);
        text_add_bytes(writer, digits + at, sizeof(digits) - at);
}

void text_addf(struct text_writer *writer, const char *format, ...)
{
        char piece[512];
        va_list arguments;
        int length;

        va_start(arguments, format);
        length = vsnprintf(piece, sizeof(piece), format, arguments);
        va_end(arguments);
        if (length > 0)
                text_add_bytes(writer, piece, MIN((size_t)length, sizeof(piece) - 1));
}

size_t text_utf8(const char *text, size_t length, uint32_t *ret)
{
        const unsigned char *bytes = (const unsigned char *)text;
        uint32_t point, least;
        size_t more;

        if (length == 0)
                return 0;
        if (bytes[0] < 0x80) {
                *ret = bytes[0];
                return 1;
        }
        if ((bytes[0] & 0xe0) == 0xc0) {
                more = 1, point = bytes[0] & 0x1f, least = 0x80;
        } else if ((bytes[0] & 0xf0) == 0xe0) {
                more = 2, point = bytes[0] & 0x0f, least = 0x800;
        } else if ((bytes[0] & 0xf8) == 0xf0) {
                more = 3, point = bytes[0] & 0x07, least = 0x10000;
        } else {
                return 0;
        }
        if (more >= length)
                return 0;
        for (size_t i = 1; i <= more; i++) {
                if ((bytes[i] & 0xc0) != 0x80)
                        return 0;
                point = point << 6 | (bytes[i] & 0x3f);
        }
        /* Overlong forms and surrogates are no UTF-8: a reader behind us would refuse the whole line. */
        if (point < least || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
                return 0;
        *ret = point;
        return more + 1;
}

static void text_add_escaped_byte(struct text_writer *writer, const char *prefix, unsigned char byte)
{
        char piece[8];
        size_t length = strlen(prefix);

        memcpy(piece, prefix, length);
        piece[length] = hex_digits[byte >> 4];
        piece[length + 1] = hex_digits[byte & 15];
        text_add_bytes(writer, piece, length + 2);
}

void text_add_json(struct text_writer *writer, const char *text, size_t length)
{
        size_t plain = 0;

        text_add_bytes(writer, "\"", 1);
        for (size_t i = 0; i < length;) {
                unsigned char byte = (unsigned char)text[i];
                uint32_t point;
                size_t step;

                if (byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\') {
                        i++;
                        continue;
                }
                text_add_bytes(writer, text + plain, i - plain);
                step = text_utf8(text + i, length - i, &point);
                if (step > 1) {
                        text_add_bytes(writer, text + i, step);
                } else if (step == 0) {
                        text_add_escaped_byte(writer, "\\\\x", byte);
                        step = 1;
                } else if (byte == '"' || byte == '\\') {
                        text_add_bytes(writer, (char[]){'\\', (char)byte}, 2);
                } else {
                        text_add_escaped_byte(writer, "\\u00", byte);
                }
                i += step;
                plain = i;
        }
        text_add_bytes(writer, text + plain, length - plain);
        text_add_bytes(writer, "\"", 1);
}

static bool text_point_is_safe(uint32_t point)
{
        if (point < 0x20 || (point >= 0x7f && point < 0xa0))
                return false;
        /* Line separators and direction overrides: they make a line read as another one. */
        return !((point >= 0x200e && point <= 0x200f) || (point >= 0x2028 && point <= 0x202e) ||
                 (point >= 0x2066 && point <= 0x2069));
}

void text_add_safe(struct text_writer *writer, const char *text, size_t length)
{
        for (size_t i = 0; i < length;) {
                uint32_t point = 0;
                size_t step = text_utf8(text + i, length - i, &point);

                if (step > 0 && text_point_is_safe(point)) {
                        text_add_bytes(writer, text + i, step);
                } else {
                        step = MAX(step, 1u);
                        for (size_t j = 0; j < step; j++)
                                text_add_escaped_byte(writer, "\\x", (unsigned char)text[i + j]);
                }
                i += step;
        }
}
