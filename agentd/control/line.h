/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One request line: bounded before it is parsed. Pure, so that a fuzzer can hold it.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

struct control_line {
        json_t *arguments; /* the whole object; owned */
        json_int_t id;
        const char *verb; /* inside arguments */
};

enum { CONTROL_LINE_ERROR_MAX = 160 };

/*
 * 0; -EBADMSG: not a JSON object within the bounds (the connection is not to be trusted any more); -EINVAL: an object,
 * but not a request (v, verb): *ret->id is set then. error: CONTROL_LINE_ERROR_MAX bytes, what is wrong.
 */
int control_line_parse(const char *line, size_t length, struct control_line *ret, char *error);
