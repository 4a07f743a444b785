/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A pipe or terminal is opened again through /proc/self/fd, which gives a file description of our own that can be made
 * non-blocking; a socket takes MSG_DONTWAIT.
 */
#include "agentd/event/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agentd/event/sink.h"
#include "agentd/util/cleanup.h"

struct stream {
        int fd;
        bool is_socket;
        bool shared; /* could not be opened again: asked before each write */
        bool broken; /* the reader is gone */
        bool polling;
        uv_loop_t *loop;
        uv_poll_t *poll; /* freed by its close callback */
        int watch_fd;    /* what it watches: an epoll of our own around fd */
        char *queue;
        size_t queued, done; /* bytes in the queue, and of those already written */
        __u64 lost;
};

int stream_new(uv_loop_t *loop, int fd, struct stream **ret)
{
        struct stream *stream;
        struct stat status;
        char path[40];

        if (fstat(fd, &status) < 0)
                return -errno;
        stream = calloc(1, sizeof(*stream));
        if (!stream)
                return -ENOMEM;
        stream->loop = loop;
        stream->is_socket = S_ISSOCK(status.st_mode);
        stream->fd = stream->watch_fd = -1;
        if (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)) {
                snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
                stream->fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | O_APPEND);
                stream->shared = stream->fd < 0;
        }
        if (stream->fd < 0)
                stream->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (stream->fd < 0) {
                int r = -errno;

                free(stream);
                return r;
        }
        *ret = stream;
        return 0;
}

/* write() to a pipe without a reader kills the process: SIGPIPE is held back for this call, whatever the program set.
 */
static ssize_t write_no_signal(int fd, const char *bytes, size_t length)
{
        const struct timespec at_once = {0};
        sigset_t pipe_signal, before;
        ssize_t n;
        int error;

        sigemptyset(&pipe_signal);
        sigaddset(&pipe_signal, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
        n = write(fd, bytes, length);
        error = errno;
        if (n < 0 && error == EPIPE)
                while (sigtimedwait(&pipe_signal, NULL, &at_once) < 0 && errno == EINTR)
                        ;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        errno = error;
        return n;
}

/* Bytes written, 0: it would block; -errno: the reader is gone. */
static ssize_t stream_push(struct stream *stream, const char *bytes, size_t length)
{
        ssize_t n;

        do {
                if (stream->is_socket) {
                        n = send(stream->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
                } else {
                        struct pollfd ready = {.fd = stream->fd, .events = POLLOUT};

                        /* Ready means that a pipe takes this many bytes for sure. */
                        if (stream->shared && (poll(&ready, 1, 0) != 1 || !(ready.revents & POLLOUT)))
                                return ready.revents & (POLLERR | POLLHUP) ? -EPIPE : 0;
                        n = write_no_signal(stream->fd, bytes, stream->shared ? MIN(length, 4096u) : length);
                }
        } while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
        return n;
}

static void stream_stop(struct stream *stream)
{
        if (stream->polling)
                uv_poll_stop(stream->poll);
        stream->polling = false;
}

static void stream_break(struct stream *stream)
{
        stream->broken = true;
        for (size_t i = stream->done; i < stream->queued; i++)
                stream->lost += stream->queue[i] == '\n';
        stream->queued = stream->done = 0;
        stream_stop(stream);
}

static void stream_drain(struct stream *stream)
{
        while (stream->done < stream->queued) {
                ssize_t n = stream_push(stream, stream->queue + stream->done, stream->queued - stream->done);

                if (n < 0) {
                        stream_break(stream);
                        return;
                }
                if (n == 0)
                        return;
                stream->done += (size_t)n;
        }
        stream->queued = stream->done = 0;
        stream_stop(stream);
}

static void on_writable(uv_poll_t *handle, int status, int events)
{
        struct stream *stream = handle->data;

        if (status < 0)
                stream_break(stream);
        else
                stream_drain(stream);
}

static bool stream_open_watch(struct stream *stream)
{
        struct epoll_event writable = {.events = EPOLLOUT};
        _cleanup_close_ int watch_fd = epoll_create1(EPOLL_CLOEXEC);
        _cleanup_free_ uv_poll_t *handle = malloc(sizeof(*handle));

        if (watch_fd < 0 || !handle || epoll_ctl(watch_fd, EPOLL_CTL_ADD, stream->fd, &writable) < 0)
                return false;
        /* uv_poll_init() makes its descriptor non-blocking; around the epoll that touches nobody else's. */
        if (uv_poll_init(stream->loop, handle, watch_fd) < 0)
                return false;
        uv_unref((uv_handle_t *)handle); /* output to be written keeps no daemon alive */
        handle->data = stream;
        stream->poll = TAKE_PTR(handle);
        stream->watch_fd = TAKE_FD(watch_fd);
        return true;
}

/* Lazily: what never blocks (a file, /dev/null) cannot be polled at all. */
static bool stream_watch(struct stream *stream)
{
        if (stream->polling)
                return true;
        if (!stream->poll && !stream_open_watch(stream))
                return false;
        stream->polling = uv_poll_start(stream->poll, UV_READABLE, on_writable) == 0;
        return stream->polling;
}

bool stream_write(struct stream *stream, const char *line, size_t length)
{
        size_t pushed = 0;

        if (stream->broken)
                return false;
        if (stream->queued == 0) {
                ssize_t n = stream_push(stream, line, length);

                if (n < 0) {
                        stream_break(stream);
                        return false;
                }
                if ((size_t)n == length)
                        return true;
                pushed = (size_t)n;
        }
        /* Room at the front counts: what was written is moved out of the way. */
        if (stream->done > 0) {
                memmove(stream->queue, stream->queue + stream->done, stream->queued - stream->done);
                stream->queued -= stream->done;
                stream->done = 0;
        }
        if (!stream->queue)
                stream->queue = malloc(SINK_QUEUE_MAX);
        if (!stream->queue || length - pushed > SINK_QUEUE_MAX - stream->queued || !stream_watch(stream)) {
                /* Half a line is out and its end has no place: whoever reads must not glue the next one to it. */
                if (pushed > 0)
                        stream_break(stream);
                return false;
        }
        memcpy(stream->queue + stream->queued, line + pushed, length - pushed);
        stream->queued += length - pushed;
        return true;
}

__u64 stream_lost(const struct stream *stream)
{
        return stream->lost;
}

__u64 stream_take_lost(struct stream *stream)
{
        __u64 lost = stream->lost;

        stream->lost = 0;
        return lost;
}

static void free_closed(uv_handle_t *handle)
{
        free(handle);
}

void stream_free(struct stream *stream)
{
        if (!stream)
                return;
        if (!stream->broken)
                stream_drain(stream);
        stream_stop(stream);
        if (stream->poll)
                uv_close((uv_handle_t *)stream->poll, free_closed);
        close_fd(&stream->watch_fd);
        close_fd(&stream->fd);
        free(stream->queue);
        free(stream);
}
