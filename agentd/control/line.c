/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Depth and number of values are counted before jansson allocates for them: 8 MiB of "[[],[],..." would become some
 * hundred MiB.
 */
#include "agentd/control/line.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agentd/control/server.h"

static const char *line_is_out_of_bounds(const char *line, size_t length)
{
        unsigned depth = 0, values = 0;
        bool in_string = false;

        for (size_t i = 0; i < length; i++) {
                char c = line[i];

                if (c == '\0')
                        return "a NUL byte";
                if (in_string) {
                        if (c == '\\')
                                i++;
                        else if (c == '"')
                                in_string = false;
                } else if (c == '"') {
                        in_string = true;
                } else if (c == '{' || c == '[') {
                        values++;
                        if (++depth > CONTROL_DEPTH_MAX)
                                return "nested too deeply";
                } else if (c == '}' || c == ']') {
                        depth -= depth > 0;
                } else if (c == ',') {
                        values++;
                }
                if (values > CONTROL_VALUES_MAX)
                        return "too many values";
        }
        return NULL;
}

int control_line_parse(const char *line, size_t length, struct control_line *ret, char *error)
{
        const char *fault = line_is_out_of_bounds(line, length);
        json_error_t json_error;
        const json_t *version, *id, *verb;
        json_t *arguments;

        if (fault) {
                snprintf(error, CONTROL_LINE_ERROR_MAX, "not a request: %s", fault);
                return -EBADMSG;
        }
        arguments = json_loadb(line, length, JSON_REJECT_DUPLICATES, &json_error);
        if (!arguments) {
                /* jansson's text may quote the input: its position is enough. */
                snprintf(error, CONTROL_LINE_ERROR_MAX, "not a request: no valid JSON at byte %d", json_error.position);
                return -EBADMSG;
        }
        if (!json_is_object(arguments)) {
                snprintf(error, CONTROL_LINE_ERROR_MAX, "not a request: no JSON object");
                json_decref(arguments);
                return -EBADMSG;
        }

        id = json_object_get(arguments, "id");
        ret->id = json_integer_value(id);
        version = json_object_get(arguments, "v");
        verb = json_object_get(arguments, "verb");
        error[0] = '\0';
        if (!json_is_integer(version) || json_integer_value(version) != 1)
                snprintf(error, CONTROL_LINE_ERROR_MAX, "this daemon speaks version 1 of the protocol: \"v\":1");
        else if (id && !json_is_integer(id))
                snprintf(error, CONTROL_LINE_ERROR_MAX, "\"id\" must be an integer");
        else if (!json_is_string(verb))
                snprintf(error, CONTROL_LINE_ERROR_MAX, "\"verb\" must be a string");
        if (error[0] != '\0') {
                json_decref(arguments);
                return -EINVAL;
        }
        ret->arguments = arguments;
        ret->verb = json_string_value(verb);
        return 0;
}
