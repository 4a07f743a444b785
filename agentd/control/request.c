/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A request's answers. Whoever answers need not know whether the client is still there.
 */
#include "agentd/control/client.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "agentd/util/cleanup.h"

json_t *error_answer(json_int_t id, int exit_status, const char *text)
{
        /* The text may carry what the client sent, or a file's bytes: what is no UTF-8 must not cost the answer. */
        json_t *error = json_string(text);

        if (!error)
                error = json_string("the error's text is not UTF-8");
        return json_pack("{s:i,s:I,s:b,s:i,s:o}", "v", 1, "id", id, "ok", 0, "exit", exit_status, "error", error);
}

void request_free(struct control_request *request)
{
        json_decref(request->arguments);
        free(request);
}

/* Out of its list and gone. */
static void request_end(struct control_request *request)
{
        struct control_client *client = request->client;

        if (client) {
                DL_DELETE(client->requests, request);
                client->n_requests--;
        } else {
                DL_DELETE(request->server->orphans, request);
        }
        request_free(request);
        if (client && !client->closing) {
                client_rest(client);
                /* There may be whole lines that waited for this place. */
                if (!client->closing && !client->judging)
                        client_lines(client);
        }
}

static void request_answer(struct control_request *request, json_t *answer)
{
        struct control_client *client = request->client;

        if (!client || client->closing)
                json_decref(answer);
        else if (!client_write_json(client, answer))
                client_close(client); /* an answer that cannot be sent must not look like one that comes later */
}

/* From here on the answer is ours: a close meanwhile calls nobody. */
static void request_take(struct control_request *request)
{
        request->on_close = NULL;
}

void control_reply(struct control_request *request, json_t *result)
{
        json_t *answer;

        request_take(request);
        if (result)
                answer = json_pack("{s:i,s:I,s:b,s:o}", "v", 1, "id", request->id, "ok", 1, "result", result);
        else
                answer = error_answer(request->id, 1, "the daemon is out of memory");
        request_answer(request, answer);
        request_end(request);
}

static void error_reply(struct control_request *request, int exit_status, json_t *errors, const char *format,
                        va_list arguments)
{
        _cleanup_free_ char *text = NULL;
        json_t *answer;

        request_take(request);
        if (vasprintf(&text, format, arguments) < 0)
                text = NULL;
        answer = error_answer(request->id, exit_status, text ? text : "the daemon is out of memory");
        if (errors && answer)
                json_object_set_new(answer, "errors", errors);
        else
                json_decref(errors);
        request_answer(request, answer);
        request_end(request);
}

void control_error(struct control_request *request, int exit_status, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        error_reply(request, exit_status, NULL, format, arguments);
        va_end(arguments);
}

void control_error_list(struct control_request *request, int exit_status, json_t *errors, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        error_reply(request, exit_status, errors, format, arguments);
        va_end(arguments);
}

bool control_stream_line(struct control_request *request, const char *result)
{
        struct control_client *client = request->client;
        size_t room = strlen(result) + 80;
        char *line;
        int length;

        request->streams = true;
        if (!client || client->closing)
                return false;
        uv_timer_stop(&client->idle);
        if (uv_stream_get_write_queue_size((uv_stream_t *)&client->pipe) + room > CONTROL_STREAM_QUEUE_MAX)
                return false;
        line = malloc(room);
        if (!line)
                return false;
        length = snprintf(line, room, "{\"v\":1,\"id\":%lld,\"stream\":true,\"result\":%s}\n", (long long)request->id,
                          result);
        return client_write(client, line, (size_t)length);
}

bool control_stream(struct control_request *request, json_t *result)
{
        _cleanup_free_ char *text = result ? json_dumps(result, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

        json_decref(result);
        return text && control_stream_line(request, text);
}

void control_on_close(struct control_request *request, void (*function)(void *data), void *data)
{
        request->on_close = function;
        request->on_close_data = data;
}

uid_t control_uid(const struct control_request *request)
{
        return request->peer.uid;
}

pid_t control_pid(const struct control_request *request)
{
        return request->peer.pid;
}

void request_start(struct control_client *client, struct control_line *line)
{
        struct control_server *server = client->server;
        const struct control_verb *verb = server->verbs;
        struct control_request *request = calloc(1, sizeof(*request));

        if (!request) {
                json_decref(line->arguments);
                client_close(client);
                return;
        }
        *request = (struct control_request){
                .server = server,
                .client = client,
                .arguments = line->arguments,
                .id = line->id,
                .peer = client->peer,
        };
        DL_APPEND(client->requests, request);
        client->n_requests++;
        uv_timer_stop(&client->idle);

        while (verb->verb && strcmp(verb->verb, line->verb) != 0)
                verb++;
        if (verb->verb)
                verb->handler(server->context, request, request->arguments);
        else
                control_error(request, 2, "this daemon has no verb '%.64s'", line->verb);
}
