/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * events: the history, or the stream.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agentd/ctl/client.h"
#include "agentd/ctl/print.h"
#include "agentd/event/event.h"
#include "agentd/policy/policy.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/suggest.h"

enum { FOLLOW_DEFAULT = 10 };

static bool print_event_json(const json_t *event)
{
        _cleanup_free_ char *line = json_dumps(event, JSON_COMPACT);

        if (line)
                puts(line);
        return fflush(stdout) == 0;
}

static bool print_event_text(const json_t *event)
{
        _cleanup_free_ char *line = event_json_to_text(event);

        if (line)
                puts(line);
        return fflush(stdout) == 0;
}

static int check_type(const char *type)
{
        const char *names[EVENT_TYPE_MAX];
        const char *near;

        if (!type || event_type_from_string(type) >= 0)
                return CTL_OK;
        for (int i = 0; i < EVENT_TYPE_MAX; i++)
                names[i] = event_type_to_string(i);
        near = suggest_closest(type, names, ARRAY_SIZE(names));
        if (near)
                ctl_error("unknown event type '%s'; did you mean '%s'?", type, near);
        else
                ctl_error("unknown event type '%s'; see 'agentctl events --help'", type);
        return CTL_USAGE;
}

static int check_reason(const char *reason)
{
        const char *names[REASON_UNIX_SOCKET];
        const char *near;

        if (!reason || verdict_reason_from_string(reason) > 0)
                return CTL_OK;
        for (int i = REASON_NO_RULE; i <= REASON_UNIX_SOCKET; i++)
                names[i - 1] = verdict_reason_to_string(i);
        near = suggest_closest(reason, names, ARRAY_SIZE(names));
        if (near)
                ctl_error("unknown reason '%s'; did you mean '%s'?", reason, near);
        else
                ctl_error("unknown reason '%s'; such as 'no_rule', see docs/events.md", reason);
        return CTL_USAGE;
}

static int add_since(json_t *request, const char *since)
{
        unsigned long long ms;
        struct timespec now;
        json_int_t now_ns, since_ns;

        if (!since)
                return CTL_OK;
        if (ctl_duration_parse(since, &ms) < 0) {
                ctl_error("'%s' is no duration; such as '10m', '1h', '2d'", since);
                return CTL_USAGE;
        }
        clock_gettime(CLOCK_REALTIME, &now);
        now_ns = (json_int_t)now.tv_sec * 1000000000 + now.tv_nsec;
        since_ns = ms > (unsigned long long)now_ns / 1000000 ? 0 : now_ns - (json_int_t)ms * 1000000;
        json_object_set_new(request, "since_ns", json_integer(since_ns));
        return CTL_OK;
}

static int add_lines(json_t *request, const struct ctl_arguments *arguments)
{
        char *end;
        long lines;

        if (!arguments->lines) {
                if (arguments->follow && !arguments->since)
                        json_object_set_new(request, "n", json_integer(FOLLOW_DEFAULT));
                return CTL_OK;
        }
        errno = 0;
        lines = strtol(arguments->lines, &end, 10);
        if (errno != 0 || *end != '\0' || end == arguments->lines || lines < 0) {
                ctl_error("'%s' is no number of events", arguments->lines);
                return CTL_USAGE;
        }
        json_object_set_new(request, "n", json_integer(lines));
        return CTL_OK;
}

int ctl_events(const struct ctl_arguments *arguments)
{
        client_stream_fn print_event = arguments->json ? print_event_json : print_event_text;
        const json_t *event;
        json_t *request, *result;
        size_t i;
        int r;

        r = check_type(arguments->type);
        if (r == CTL_OK)
                r = check_reason(arguments->reason);
        if (r != CTL_OK)
                return r;
        request = json_pack("{s:b,s:s*,s:s*,s:s*}", "follow", arguments->follow, "agent", arguments->agent, "type",
                            arguments->type, "reason", arguments->reason);
        if (!request) {
                ctl_error("the agent's name is not UTF-8");
                return CTL_USAGE;
        }
        r = add_since(request, arguments->since);
        if (r == CTL_OK)
                r = add_lines(request, arguments);
        if (r != CTL_OK) {
                json_decref(request);
                return r;
        }

        if (arguments->follow)
                return client_stream(arguments, "events", request, print_event);
        r = client_ask(arguments, "events", request, CLIENT_TIMEOUT_MS, &result);
        if (r != CTL_OK)
                return r;
        json_array_foreach(json_object_get(result, "events"), i, event) if (!print_event(event)) break;
        json_decref(result);
        return print_end();
}
