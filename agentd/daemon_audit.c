/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The audit: events of type audit, with the process that asked, and the log that keeps them (agentd/event/audit_log.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "agentd/daemon.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

void daemon_audit_process(struct control_request *request, struct event *event)
{
        _cleanup_close_ int fd = -1;
        char path[64];
        ssize_t length;

        event->pid = event->tid = (__u32)control_pid(request);
        event->uid = control_uid(request);
        (void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)control_pid(request));
        fd = open(path, O_RDONLY | O_CLOEXEC);
        length = fd < 0 ? 0 : read(fd, event->comm, COMM_MAX - 1);
        event->comm[MAX(length, 0)] = '\0';
        event->comm[strcspn(event->comm, "\n")] = '\0';
}

void daemon_audit(struct daemon *daemon, struct control_request *request, const struct monitor_agent *agent,
                  const char *format, ...)
{
        struct event event = {.type = EVENT_AUDIT, .ip_protocol = 255};
        char what[200];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(what, sizeof(what), format, arguments);
        va_end(arguments);
        monitor_event_fill(daemon->monitor, agent, &event);
        daemon_audit_process(request, &event);
        (void)snprintf(event.detail, sizeof(event.detail), "%.160s by uid %u, pid %d", what,
                       (unsigned)control_uid(request), (int)control_pid(request));
        event_bus_publish(daemon->bus, &event);
}

static bool on_event(void *context, const struct event *event, const char *line)
{
        struct daemon *daemon = context;
        int r = audit_log_add(daemon->audit, line);

        if (r == 0) {
                daemon->audit_error = 0;
                return true;
        }
        daemon->audit_lost++;
        if (daemon->audit_error != r)
                log_error_errno(r, "cannot write to the audit log in '%s'", daemon->state_directory);
        daemon->audit_error = r;
        return false;
}

int daemon_audit_start(struct daemon *daemon)
{
        const struct event_filter audits = {.type = EVENT_AUDIT, .reason = -1};
        int r = audit_log_open(daemon->state_directory, &daemon->audit);

        if (r < 0)
                return r;
        return event_bus_subscribe(daemon->bus, &audits, on_event, daemon, &daemon->audit_subscriber);
}

void daemon_audit_stop(struct daemon *daemon)
{
        if (daemon->audit_subscriber)
                event_bus_unsubscribe(daemon->bus, daemon->audit_subscriber);
        daemon->audit_subscriber = NULL;
        audit_log_free(daemon->audit);
        daemon->audit = NULL;
}

void verb_audit(void *context, struct control_request *request, const json_t *arguments)
{
        struct daemon *daemon = context;
        const json_t *since = json_object_get(arguments, "since_ns");
        bool verify = json_is_true(json_object_get(arguments, "verify"));
        struct audit_check check;
        json_t *events = json_array();
        int r;

        if (since && (!json_is_integer(since) || json_integer_value(since) < 0)) {
                json_decref(events);
                control_error(request, 2, "'since_ns' is no time");
                return;
        }
        event_bus_flush(daemon->bus);
        r = audit_log_read(daemon->state_directory, (__u64)json_integer_value(since), verify ? NULL : events, &check);
        if (r < 0 && r != -ENOENT) {
                json_decref(events);
                control_error(request, 1, "the audit log in '%s' cannot be read: %s", daemon->state_directory,
                              strerror(-r));
                return;
        }
        control_reply(request, json_pack("{s:o,s:I,s:b,s:I,s:s?}", "events", events, "entries",
                                         (json_int_t)check.entries, "whole", (int)(check.broken == 0), "broken_line",
                                         (json_int_t)check.broken, "why", check.why));
}
