/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ring-buffer records as an attacker would write them: whatever is decoded becomes a line that is JSON, a human line
 * without control characters, and goes through the aggregation.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/event/aggregate.h"
#include "agentd/event/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(void *context, const struct event *event)
{
        char line[EVENT_LINE_MAX];
        size_t length = event_format_line(event, line);
        char *text;
        json_t *json;

        if (length >= sizeof(line) - 1 || strlen(line) != length || strchr(line, '\n'))
                abort();
        json = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL);
        /* jansson's integers end at 2^63: a number past it is no fault of the line. */
        if (!json && (int64_t)event->time_ns >= 0 && (int64_t)event->cgroup_id >= 0 && (int64_t)event->bytes >= 0)
                abort();
        text = json ? event_json_to_text(json) : NULL;
        for (const char *c = text; c && *c; c++)
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        abort();
        free(text);
        json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct aggregate *aggregate;
        static __u64 now_ms;
        struct event event;

        if (!aggregate && aggregate_new(&aggregate) < 0)
                return 0;
        if (event_decode(data, size, 0, &event) < 0)
                return 0;
        /* A process that lives would make runs differ: pids of no process only. */
        event.pid |= 1u << 30;
        event_complete_process(&event);
        now_ms += 10;
        if (aggregate_add(aggregate, &event, now_ms))
                check(NULL, &event);
        aggregate_end(aggregate, now_ms, check, NULL);
        return 0;
}
