/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A client: its bytes in, its lines out, its end. One that sends too much, too little or nothing at all costs a bounded
 * amount of memory and time.
 */
#include "agentd/control/client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

enum { READ_SIZE = 64 * 1024 };

struct control_write {
        uv_write_t request;
        struct control_client *client;
        char *text;
};

static void client_read(struct control_client *client);

static void on_written(uv_write_t *request, int status)
{
        struct control_write *written = request->data;
        struct control_client *client = written->client;

        free(written->text);
        free(written);
        if (client->closing)
                return;
        if (status < 0)
                client_close(client);
        else
                client_rest(client);
}

bool client_write(struct control_client *client, char *text, size_t length)
{
        struct control_write *written = calloc(1, sizeof(*written));
        uv_buf_t buffer = uv_buf_init(text, (unsigned)length);

        if (!written) {
                free(text);
                return false;
        }
        written->request.data = written;
        written->client = client;
        written->text = text;
        if (uv_write(&written->request, (uv_stream_t *)&client->pipe, &buffer, 1, on_written) < 0) {
                free(text);
                free(written);
                return false;
        }
        return true;
}

bool client_write_json(struct control_client *client, json_t *answer)
{
        char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
        size_t length;
        char *line;

        json_decref(answer);
        if (!text)
                return false;
        length = strlen(text);
        line = realloc(text, length + 2);
        if (!line) {
                free(text);
                return false;
        }
        memcpy(line + length, "\n", 2);
        return client_write(client, line, length + 1);
}

static void on_client_handle_closed(uv_handle_t *handle)
{
        struct control_client *client = handle->data;

        if (--client->open_handles > 0)
                return;
        free(client->buffer);
        free(client);
}

void client_close(struct control_client *client)
{
        struct control_server *server = client->server;
        struct control_request *request, *next;

        if (client->closing)
                return;
        client->closing = true;
        DL_DELETE(server->clients, client);
        server->n_clients--;

        DL_FOREACH_SAFE(client->requests, request, next)
        {
                DL_DELETE(client->requests, request);
                request->client = NULL;
                if (request->on_close) {
                        void (*on_close)(void *) = request->on_close;
                        void *on_close_data = request->on_close_data;

                        request_free(request);
                        on_close(on_close_data);
                } else {
                        DL_APPEND(server->orphans, request);
                }
        }
        uv_close((uv_handle_t *)&client->pipe, on_client_handle_closed);
        uv_close((uv_handle_t *)&client->idle, on_client_handle_closed);
}

static void on_idle(uv_timer_t *timer)
{
        client_close(timer->data);
}

void client_rest(struct control_client *client)
{
        if (client->n_requests > 0)
                return;
        if (client->ended && uv_stream_get_write_queue_size((uv_stream_t *)&client->pipe) == 0)
                client_close(client);
        else if (!uv_is_active((uv_handle_t *)&client->idle))
                uv_timer_start(&client->idle, on_idle, client->server->idle_ms, 0);
}

/* No further byte of it is read; it is closed when what it was told has left, or after the idle time. */
static void client_end(struct control_client *client)
{
        client->ended = true;
        client->used = client->scanned = 0;
        uv_read_stop((uv_stream_t *)&client->pipe);
        client->reading = false;
        client_rest(client);
}

static void client_refuse(struct control_client *client, const char *text)
{
        if (!client_write_json(client, error_answer(0, 1, text))) {
                client_close(client);
                return;
        }
        client_end(client);
}

/* False: no more lines are to be read from it. */
static bool client_line(struct control_client *client, const char *line, size_t length)
{
        char error[CONTROL_LINE_ERROR_MAX];
        struct control_line request = {0};
        int r = control_line_parse(line, length, &request, error);

        if (r == -EBADMSG) {
                client_refuse(client, error);
        } else if (r < 0) {
                if (!client_write_json(client, error_answer(request.id, 2, error)))
                        client_close(client);
        } else {
                request_start(client, &request);
        }
        return !client->closing && !client->ended;
}

void client_lines(struct control_client *client)
{
        size_t start = 0;

        client->judging = true;
        while (!client->closing && client->n_requests < CONTROL_AT_WORK_MAX && client->scanned < client->used) {
                char *from = client->buffer + client->scanned;
                char *newline = memchr(from, '\n', client->used - client->scanned);
                size_t line = start;

                if (!newline) {
                        client->scanned = client->used;
                        break;
                }
                start = client->scanned = (size_t)(newline - client->buffer) + 1;
                if (!client_line(client, client->buffer + line, start - 1 - line))
                        break;
        }
        client->judging = false;
        if (client->closing)
                return;
        if (client->used > 0) {
                memmove(client->buffer, client->buffer + start, client->used - start);
                client->used -= start;
                client->scanned -= start;
        }
        if (!client->ended && client->scanned == client->used && client->used > CONTROL_REQUEST_MAX) {
                client_refuse(client, "the request is too large");
                return;
        }
        if (client->n_requests >= CONTROL_AT_WORK_MAX && client->reading) {
                uv_read_stop((uv_stream_t *)&client->pipe);
                client->reading = false;
        } else if (client->n_requests < CONTROL_AT_WORK_MAX && !client->reading && !client->ended) {
                client_read(client);
        }
}

static void on_read_alloc(uv_handle_t *handle, size_t suggested UNUSED, uv_buf_t *ret)
{
        struct control_client *client = handle->data;

        *ret = uv_buf_init(NULL, 0);
        if (client->size - client->used < READ_SIZE) {
                /* Grows by doubling up to the bound and one read. */
                size_t size =
                        MIN(MAX(client->size * 2, (size_t)READ_SIZE), (size_t)CONTROL_REQUEST_MAX + 2 * READ_SIZE);
                char *buffer = realloc(client->buffer, size);

                if (!buffer)
                        return;
                client->buffer = buffer;
                client->size = size;
        }
        *ret = uv_buf_init(client->buffer + client->used,
                           (unsigned)MIN(client->size - client->used, (size_t)READ_SIZE));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer UNUSED)
{
        struct control_client *client = stream->data;
        struct pollfd state = {.events = 0};
        const struct control_request *request;

        if (n > 0) {
                client->used += (size_t)n;
                client_lines(client);
                return;
        }
        if (n == 0)
                return;
        /* A peer that has only sent everything (half closed) still gets its answers, but for streams, which would never
         * end; one that is gone gets nothing. */
        DL_FOREACH (client->requests, request)
                if (request->streams)
                        n = UV_ECONNRESET;
        if (n != UV_EOF || uv_fileno((uv_handle_t *)stream, &state.fd) < 0 || poll(&state, 1, 0) < 0 ||
            (state.revents & (POLLHUP | POLLERR)))
                client_close(client);
        else
                client_end(client);
}

static void client_read(struct control_client *client)
{
        client->reading = uv_read_start((uv_stream_t *)&client->pipe, on_read_alloc, on_read) == 0;
        if (!client->reading)
                client_close(client);
}

void client_start(struct control_client *client)
{
        client_read(client);
        if (!client->closing)
                client_rest(client);
}
