/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One struct for the four kinds of sinks; the streams' queue is in stream.c.
 */
#include "agentd/event/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentd/event/stream.h"
#include "agentd/event/text.h"
#include "agentd/util/cleanup.h"

static const char journal_socket[] = "/run/systemd/journal/socket";

enum sink_kind { SINK_OFF, SINK_FILE, SINK_STREAM, SINK_JOURNAL };

struct sink {
        enum sink_kind kind;
        bool human;
        uv_loop_t *loop;
        char *path;    /* of the file */
        int fd;        /* of the file or the journal's socket */
        bool torn;     /* the file ends in half a line that could not be taken back */
        __u64 checked; /* loop time of the last look at the path */
        dev_t device;  /* of the open file */
        ino_t inode;
        struct sockaddr_un address;
        struct stream *stream;
};

/* The directory is made when only it is missing (a fresh machine has no /var/log/agentd). */
static int make_parent(const char *path)
{
        _cleanup_free_ char *parent = strdup(path);
        char *slash;

        if (!parent)
                return -ENOMEM;
        slash = strrchr(parent, '/');
        if (!slash || slash == parent)
                return 0;
        *slash = '\0';
        return mkdir(parent, 0750) < 0 && errno != EEXIST ? -errno : 0;
}

static int open_file(const char *path)
{
        /* O_NONBLOCK: a FIFO without a reader must not stop us. It means nothing for a regular file. */
        const int flags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
        int fd = open(path, flags | O_CREAT | O_EXCL, 0640);

        if (fd < 0 && errno == ENOENT && make_parent(path) == 0)
                fd = open(path, flags | O_CREAT | O_EXCL, 0640);
        if (fd >= 0) {
                /* Whatever the umask is: the group may read. */
                if (fchmod(fd, 0640) < 0) {
                        int r = -errno;

                        close(fd);
                        return r;
                }
                return fd;
        }
        if (errno != EEXIST)
                return -errno;
        fd = open(path, flags);
        return fd < 0 ? -errno : fd;
}

static int sink_open_file(struct sink *sink)
{
        _cleanup_close_ int fd = open_file(sink->path);
        struct stat status;

        if (fd < 0)
                return fd;
        if (fstat(fd, &status) < 0)
                return -errno;
        if (S_ISDIR(status.st_mode))
                return -EISDIR;
        if (!S_ISREG(status.st_mode)) {
                /* A FIFO or a device: it is written as a stream is. */
                if (!sink->stream)
                        sink->kind = SINK_STREAM;
                return sink->stream ? -EBUSY : stream_new(sink->loop, fd, &sink->stream);
        }
        if (sink->fd >= 0)
                close(sink->fd);
        sink->fd = TAKE_FD(fd);
        sink->torn = false;
        sink->device = status.st_dev;
        sink->inode = status.st_ino;
        return 0;
}

static struct sink *sink_alloc(uv_loop_t *loop, enum sink_kind kind)
{
        struct sink *sink = calloc(1, sizeof(*sink));

        if (!sink)
                return NULL;
        sink->kind = kind;
        sink->loop = loop;
        sink->fd = -1;
        return sink;
}

int sink_new_stream(uv_loop_t *loop, int fd, bool human, struct sink **ret)
{
        struct sink *sink = sink_alloc(loop, SINK_STREAM);
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
        sink = sink_alloc(loop, SINK_JOURNAL);
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
        struct sink *sink = sink_alloc(loop, SINK_FILE);
        int r = -ENOMEM;

        if (!sink)
                return -ENOMEM;
        sink->path = strdup(path);
        if (sink->path)
                r = sink_open_file(sink);
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
        sink = sink_alloc(loop, SINK_OFF);
        if (!sink)
                return -ENOMEM;
        *ret = sink;
        return 0;
}

void sink_free(struct sink *sink)
{
        if (!sink)
                return;
        stream_free(sink->stream);
        if (sink->fd >= 0)
                close(sink->fd);
        free(sink->path);
        free(sink);
}

int sink_reopen(struct sink *sink)
{
        return sink->kind == SINK_FILE ? sink_open_file(sink) : 0;
}

/* Once per turn of the loop: does the path still lead to our file? */
static void sink_follow_rotation(struct sink *sink)
{
        __u64 now = uv_now(sink->loop);
        struct stat status;

        if (now == sink->checked)
                return;
        sink->checked = now;
        if (lstat(sink->path, &status) == 0 && status.st_dev == sink->device && status.st_ino == sink->inode)
                return;
        /* While it cannot be opened the old file still takes the lines: ignoring. */
        (void)sink_open_file(sink);
}

/* The whole line or nothing of it. */
static bool sink_write_file(struct sink *sink, const char *line, size_t length)
{
        struct stat before;
        size_t done = 0;

        if (fstat(sink->fd, &before) < 0)
                return false;
        if (sink->torn) {
                /* What follows half a line must not be glued to it. */
                if (write(sink->fd, "\n", 1) != 1)
                        return false;
                sink->torn = false;
        }
        while (done < length) {
                ssize_t n = write(sink->fd, line + done, length - done);

                if (n > 0)
                        done += (size_t)n;
                else if (n == 0 || errno != EINTR)
                        break;
        }
        if (done == length)
                return true;
        if (done > 0 && ftruncate(sink->fd, before.st_size) < 0)
                sink->torn = true;
        return false;
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
        char buffer[EVENT_LINE_MAX + 1];

        switch (sink->kind) {
        case SINK_OFF:
                return true;
        case SINK_STREAM:
                return sink_write_stream(sink, event, line, length);
        case SINK_JOURNAL:
                return sink_write_journal(sink, event, line);
        case SINK_FILE:
                if (length >= EVENT_LINE_MAX)
                        return false;
                sink_follow_rotation(sink);
                memcpy(buffer, line, length);
                buffer[length] = '\n';
                return sink_write_file(sink, buffer, length + 1);
        }
        return false;
}

__u64 sink_take_lost(struct sink *sink)
{
        return sink->stream ? stream_take_lost(sink->stream) : 0;
}
