/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * audit: who changed what; and whether anybody has changed that.
 */
#include <string.h>
#include <time.h>

#include "agentd/ctl/client.h"
#include "agentd/ctl/print.h"
#include "agentd/event/event.h"
#include "agentd/util/cleanup.h"

int ctl_audit(const struct ctl_arguments *arguments)
{
        json_t *request = json_object(), *result;
        const json_t *event;
        unsigned long long ms;
        size_t i;
        int r;

        if (arguments->since) {
                struct timespec now;
                json_int_t now_ms;

                if (ctl_duration_parse(arguments->since, &ms) < 0) {
                        json_decref(request);
                        ctl_error("'%s' is no duration; such as '10m', '1h', '2d'", arguments->since);
                        return CTL_USAGE;
                }
                clock_gettime(CLOCK_REALTIME, &now);
                now_ms = (json_int_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
                json_object_set_new(
                        request, "since_ns",
                        json_integer(ms > (unsigned long long)now_ms ? 0 : (now_ms - (json_int_t)ms) * 1000000));
        }
        r = client_ask(arguments, "audit", request, CLIENT_TIMEOUT_MS, &result);
        if (r != CTL_OK)
                return r;
        if (arguments->json) {
                r = print_json(json_object_get(result, "events"));
                json_decref(result);
                return r;
        }
        json_array_foreach(json_object_get(result, "events"), i, event)
        {
                _cleanup_free_ char *line = event_json_to_text(event);

                if (line)
                        puts(line);
        }
        json_decref(result);
        return print_end();
}

int ctl_audit_verify(const struct ctl_arguments *arguments)
{
        json_t *result;
        json_int_t entries, broken;
        int r = client_ask(arguments, "audit", json_pack("{s:b}", "verify", 1), CLIENT_TIMEOUT_MS, &result);

        if (r != CTL_OK)
                return r;
        entries = json_number(result, "entries");
        broken = json_number(result, "broken_line");
        if (arguments->json) {
                json_object_del(result, "events");
                r = print_json(result);
        } else if (broken) {
                ctl_error("the audit log is broken at line %lld: %s", (long long)broken, json_text(result, "why"));
        } else {
                printf("%lld entries, each follows the one before\n", (long long)entries);
                r = print_end();
        }
        json_decref(result);
        return broken ? CTL_FAILED : r;
}
