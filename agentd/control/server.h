/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The control socket: agentctl's requests, one JSON object a line, answered one line each (streams: many).
 *
 *     {"v":1,"id":7,"verb":"explain","agent":"a","destination":"192.0.2.7:443"}
 *     {"v":1,"id":7,"ok":true,"result":{...}}        or {"v":1,"id":7,"ok":false,"exit":1,"error":"..."}
 *     {"v":1,"id":7,"stream":true,"result":{...}} ... until either side closes
 *
 * A peer is judged by SO_PEERCRED and its cgroup before its first byte is read: root and the group agentd (or the
 * process's own uid) may ask; others, and any process inside an agent's cgroup, get one error line and the end.
 * Bounded: clients, request size and depth, requests at work, idle time, bytes queued to a slow reader.
 *
 * The program must ignore SIGPIPE (libuv writes without MSG_NOSIGNAL).
 *
 * A request's life ends with its one control_reply() or control_error(), also when the client has gone meanwhile (then
 * nothing is sent). A request with control_on_close() ends with the call of that function instead when the client goes
 * first: nothing may touch it afterwards. A request that streams must have one. control_server_free() ends them all.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

struct control_server;
struct control_request;

enum {
        CONTROL_CLIENTS_MAX = 128,
        CONTROL_REQUEST_MAX = 8 * 1024 * 1024, /* a policy file may be inside */
        CONTROL_IDLE_MS = 30000,
        CONTROL_AT_WORK_MAX = 64,                   /* requests of one client */
        CONTROL_STREAM_QUEUE_MAX = 4 * 1024 * 1024, /* bytes waiting for a stream's reader */
        CONTROL_DEPTH_MAX = 32,
        CONTROL_VALUES_MAX = 65536, /* values in one request: jansson needs some 100 bytes for each */
};

/* Answers by exactly one of control_reply/_error, now or later; or control_stream many times. arguments: the request,
 * borrowed until the answer. */
typedef void (*control_handler_fn)(void *context, struct control_request *request, const json_t *arguments);

struct control_verb {
        const char *verb;
        control_handler_fn handler;
};

/* is_agent: tells whether the process is inside an agent's cgroup (then refused); true also when that cannot be known
 * (the process is gone): it may be NULL in tests. verbs: table ended by {NULL}; static.
 * Replaces a stale socket file, never one that answers (-EADDRINUSE). 0 or -errno. */
int control_server_new(uv_loop_t *loop, const char *path, const struct control_verb *verbs,
                       bool (*is_agent)(void *context, pid_t pid), void *context, struct control_server **ret);
void control_server_free(struct control_server *server);

void control_reply(struct control_request *request, json_t *result); /* steals result */
void control_error(struct control_request *request, int exit_status, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
/* The same as an error with places: errors is an array of {file, line, column, kind, text}; stolen. */
void control_error_list(struct control_request *request, int exit_status, json_t *errors, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
/* false: the client is slow (the line was dropped) or gone. Steals result. */
bool control_stream(struct control_request *request, json_t *result);
/* The same for a result that is JSON text already, without a newline (an event's line). */
bool control_stream_line(struct control_request *request, const char *result);
/* Called when a client goes away before the answer, or ends a stream. */
void control_on_close(struct control_request *request, void (*function)(void *data), void *data);
uid_t control_uid(const struct control_request *request);
pid_t control_pid(const struct control_request *request);
/* For tests: a shorter idle time. And how many peers were refused. */
void control_server_set_idle_ms(struct control_server *server, unsigned milliseconds);
unsigned long control_server_refused(const struct control_server *server);
