/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An event as one line for a person. Made from the event's JSON, so that `agentd run` and `agentctl events` show the
 * same. Every string is escaped for a terminal: the agent chose many of them.
 */
#include <stdlib.h>
#include <string.h>

#include "agentd/event/event.h"
#include "agentd/event/text.h"

static const char *string_of(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

static json_int_t number_of(const json_t *object, const char *key)
{
        return json_integer_value(json_object_get(object, key));
}

static void add_column(struct text_writer *writer, const char *text, size_t width)
{
        size_t start = writer->used;

        text_add_safe(writer, text, strlen(text));
        do {
                text_add_bytes(writer, " ", 1);
        } while (!writer->full && writer->used - start < width + 1);
}

static void add_safe(struct text_writer *writer, const char *text)
{
        text_add_safe(writer, text, strlen(text));
}

/* 2026-11-23T18:22:38.123456789Z is more than a person reads: milliseconds will do. */
static void add_moment(struct text_writer *writer, const char *time)
{
        char text[32];

        if (strlen(time) != 30) {
                add_column(writer, time, 24);
                return;
        }
        memcpy(text, time, 23);
        memcpy(text + 23, "Z", 2);
        add_column(writer, text, 24);
}

static void add_destination(struct text_writer *writer, const json_t *json)
{
        const json_t *end = json_object_get(json, "dst");
        const char *ip = string_of(end, "ip"), *name = string_of(end, "name");
        const json_t *port = json_object_get(end, "port");
        const char *proto = string_of(json, "proto");

        if (!strcmp(string_of(json, "direction"), "ingress"))
                end = json_object_get(json, "src"), ip = string_of(end, "ip"), add_safe(writer, "from ");
        if (proto[0] != '\0' && (ip[0] != '\0' || name[0] != '\0')) {
                add_safe(writer, proto);
                text_add(writer, " ");
        }
        if (ip[0] != '\0') {
                bool brackets = strchr(ip, ':') != NULL && json_is_integer(port);

                text_add(writer, brackets ? "[" : "");
                add_safe(writer, ip);
                text_add(writer, brackets ? "]" : "");
                if (json_is_integer(port))
                        text_addf(writer, ":%lld", (long long)json_integer_value(port));
                if (name[0] != '\0') {
                        text_add(writer, " (");
                        add_safe(writer, name);
                        text_add(writer, ")");
                }
                text_add(writer, " ");
        } else if (name[0] != '\0') {
                add_safe(writer, name);
                text_add(writer, " ");
        } else if (proto[0] != '\0') {
                add_safe(writer, proto);
                text_add(writer, " ");
        }
}

static void add_rest(struct text_writer *writer, const json_t *json)
{
        const json_t *process = json_object_get(json, "process");

        if (string_of(json, "rule")[0] != '\0') {
                text_add(writer, "rule ");
                add_safe(writer, string_of(json, "rule"));
                text_add(writer, " ");
        }
        if (json_is_object(process)) {
                text_add(writer, "by ");
                add_safe(writer, string_of(process, "comm"));
                text_addf(writer, "[%lld] uid %lld ", (long long)number_of(process, "pid"),
                          (long long)number_of(process, "uid"));
        }
        if (!strcmp(string_of(json, "type"), "budget") && string_of(json, "scope")[0] != '\0') {
                add_safe(writer, string_of(json, "scope"));
                text_addf(writer, " at %lld %%: %lld of %lld bytes ", (long long)number_of(json, "percent"),
                          (long long)number_of(json, "used"), (long long)number_of(json, "limit"));
                if (string_of(json, "window_end")[0] != '\0') {
                        text_add(writer, "until ");
                        add_safe(writer, string_of(json, "window_end"));
                        text_add(writer, " ");
                }
        }
        if (string_of(json, "path")[0] != '\0') {
                text_add(writer, "to ");
                add_safe(writer, string_of(json, "path"));
                text_add(writer, " ");
        } else if (string_of(json, "family")[0] != '\0') {
                text_add(writer, "family ");
                add_safe(writer, string_of(json, "family"));
                text_add(writer, " ");
        }
        if (number_of(json, "count") > 1)
                text_addf(writer, "x%lld ", (long long)number_of(json, "count"));
        add_safe(writer, string_of(json, "detail"));
        if (number_of(json, "lost_before") > 0)
                text_addf(writer, " (%lld events lost before this one)", (long long)number_of(json, "lost_before"));
}

char *event_json_to_text(const json_t *json)
{
        char buffer[EVENT_LINE_MAX];
        struct text_writer writer;

        text_begin(&writer, buffer, sizeof(buffer));
        add_moment(&writer, string_of(json, "time"));
        add_column(&writer, string_of(json, "type"), 10);
        if (string_of(json, "agent")[0] != '\0')
                add_column(&writer, string_of(json, "agent"), 0);
        if (string_of(json, "reason")[0] != '\0')
                add_column(&writer, string_of(json, "reason"), 0);
        add_destination(&writer, json);
        add_rest(&writer, json);
        while (writer.used > 0 && buffer[writer.used - 1] == ' ')
                buffer[--writer.used] = '\0';
        return strdup(buffer);
}

char *event_to_text(const struct event *event)
{
        json_t *json = event_to_json(event);
        char *text;

        if (!json)
                return NULL;
        text = event_json_to_text(json);
        json_decref(json);
        return text;
}
