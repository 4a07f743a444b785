/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One struct for the four kinds of sinks; files are in line_file.c, streams in stream.c.
 */
#include "agentd/event/sink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentd/event/line_file.h"
#include "agentd/event/stream.h"
#include "agentd/event/text.h"
#include "agentd/util/cleanup.h"

static const char journal_socket[] = "/run/systemd/journal/socket";

enum sink_kind { SINK_OFF, SINK_FILE, SINK_STREAM, SINK_JOURNAL };

struct sink {
        enum sink_kind kind;
        bool human;
        int fd; /* of the journal's socket */
        struct sockaddr_un address;
        struct line_file *file;
        struct stream *stream;
};

static struct sink *sink_alloc(enum sink_kind kind)
{
        struct sink *sink = calloc(1, sizeof(*sink));

        if (!sink)
                return NULL;
        sink->kind = kind;
        sink->fd = -1;
        return sink;
}

int sink_new_stream(uv_loop_t *loop, int fd, bool human, struct sink **ret)
{
        struct sink *sink = sink_alloc(SINK_STREAM);
        int r;

        if (!sink)
                return -ENOMEM;
        sink->human = human;
        r = stream_new(loop, fd, &sink->stream);
        if (r < 0) {
                sink_free(sink);
                return r;
        }
        *ret = sink;
        return 0;
}

int sink_new_journal(uv_loop_t *loop, const char *socket_path, struct sink **ret)
{
        struct sink *sink;

        if (strlen(socket_path) >= sizeof(sink->address.sun_path))
                return -ENAMETOOLONG;
        if (access(socket_path, W_OK) < 0)
                return -errno;
        sink = sink_alloc(SINK_JOURNAL);
        if (!sink)
                return -ENOMEM;
        sink->address.sun_family = AF_UNIX;
        strcpy(sink->address.sun_path, socket_path);
        sink->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (sink->fd < 0) {
                int r = -errno;

                sink_free(sink);
                return r;
        }
        *ret = sink;
        return 0;
}

static int sink_new_file(uv_loop_t *loop, const char *path, struct sink **ret)
{
        _cleanup_close_ int fd = line_file_open(path);
        struct stat status;
        struct sink *sink;
        int r;

        if (fd < 0)
                return fd;
        if (fstat(fd, &status) < 0)
                return -errno;
        /* A FIFO or a device is written as a stream is. */
        if (!S_ISREG(status.st_mode))
                return sink_new_stream(loop, fd, false, ret);
        sink = sink_alloc(SINK_FILE);
        if (!sink)
                return -ENOMEM;
        r = line_file_new(loop, path, TAKE_FD(fd), &sink->file);
        if (r < 0) {
                sink_free(sink);
                return r;
        }
        *ret = sink;
        return 0;
}

int sink_new(uv_loop_t *loop, const char *target, struct sink **ret)
{
        struct sink *sink;

        if (!strcmp(target, "-") || !strcmp(target, "stdout"))
                return sink_new_stream(loop, STDOUT_FILENO, false, ret);
        if (!strcmp(target, "stderr-text"))
                return sink_new_stream(loop, STDERR_FILENO, true, ret);
        if (!strcmp(target, "journal"))
                return sink_new_journal(loop, journal_socket, ret);
        if (target[0] == '\0')
                return -EINVAL;
        if (strcmp(target, "off"))
                return sink_new_file(loop, target, ret);
        sink = sink_alloc(SINK_OFF);
        if (!sink)
                return -ENOMEM;
        *ret = sink;
        return 0;
}

void sink_free(struct sink *sink)
{
        if (!sink)
                return;
        line_file_free(sink->file);
        stream_free(sink->stream);
        if (sink->fd >= 0)
                close(sink->fd);
        free(sink);
}

int sink_reopen(struct sink *sink)
{
        return sink->file ? line_file_reopen(sink->file) : 0;
}

void sink_flush(struct sink *sink)
{
        if (sink->file)
                line_file_flush(sink->file);
}

static void add_field(struct text_writer *writer, const char *key, const char *value)
{
        if (value[0] == '\0')
                return;
        text_add(writer, key);
        text_add_safe(writer, value, strlen(value));
        text_add(writer, "\n");
}

/* The journal's native protocol: KEY=value lines; no value of ours has a newline in it. */
static bool sink_write_journal(struct sink *sink, const struct event *event, const char *line)
{
        _cleanup_free_ char *human = event_to_text(event);
        char datagram[4 * EVENT_LINE_MAX];
        struct text_writer writer;
        bool denied = event->type == EVENT_DENY || event->type == EVENT_DRIFT;

        if (!human)
                return false;
        text_begin(&writer, datagram, sizeof(datagram));
        text_add(&writer, "SYSLOG_IDENTIFIER=agentd\n");
        text_addf(&writer, "PRIORITY=%d\n", denied ? 4 : 6);
        add_field(&writer, "MESSAGE=", human);
        add_field(&writer, "AGENTD_TYPE=", event_type_to_string(event->type));
        add_field(&writer, "AGENTD_AGENT=", event->agent);
        add_field(&writer, "AGENTD_POLICY=", event->policy);
        text_add(&writer, "AGENTD_EVENT=");
        text_add(&writer, line);
        text_add(&writer, "\n");
        return !writer.full && sendto(sink->fd, datagram, writer.used, MSG_NOSIGNAL | MSG_DONTWAIT,
                                      (const struct sockaddr *)&sink->address, sizeof(sink->address)) >= 0;
}

static bool sink_write_stream(struct sink *sink, const struct event *event, const char *line, size_t length)
{
        char buffer[EVENT_LINE_MAX + 16];
        struct text_writer writer;

        text_begin(&writer, buffer, sizeof(buffer));
        if (sink->human) {
                _cleanup_free_ char *human = event_to_text(event);

                if (!human)
                        return false;
                text_add(&writer, "agentd: ");
                text_add(&writer, human);
        } else {
                text_add_bytes(&writer, line, length);
        }
        text_add_bytes(&writer, "\n", 1);
        return stream_write(sink->stream, buffer, writer.used);
}

bool sink_write(struct sink *sink, const struct event *event, const char *line, size_t length)
{
        switch (sink->kind) {
        case SINK_OFF:
                return true;
        case SINK_FILE:
                return line_file_write(sink->file, line, length);
        case SINK_STREAM:
                return sink_write_stream(sink, event, line, length);
        case SINK_JOURNAL:
                return sink_write_journal(sink, event, line);
        }
        return false;
}

__u64 sink_take_lost(struct sink *sink)
{
        if (sink->file)
                return line_file_take_lost(sink->file);
        return sink->stream ? stream_take_lost(sink->stream) : 0;
}

__u64 sink_lost(const struct sink *sink)
{
        if (sink->file)
                return line_file_lost(sink->file);
        return sink->stream ? stream_lost(sink->stream) : 0;
}
