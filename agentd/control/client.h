/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The server's parts as its own files see them: clients, their requests, and the server that holds both.
 *
 * Lifetime: a client is freed by the close callback of its last handle. A request stands in its client's list until it
 * is answered; when the client goes first, a request without on_close moves to the server's list of orphans and waits
 * there for its answer.
 */
#pragma once

#include "agentd/control/line.h"
#include "agentd/control/server.h"
#include "agentd/control/socket.h"

struct control_client {
        struct control_client *prev, *next;
        struct control_server *server;
        uv_pipe_t pipe;
        uv_timer_t idle;
        unsigned open_handles;
        bool closing;
        bool ended; /* the peer has sent everything, or we read no more of it: close after the last answer */
        bool reading;
        bool judging; /* inside the loop over the buffer's lines */
        char *buffer;
        size_t used, size, scanned; /* scanned: bytes known to hold no newline */
        struct control_request *requests;
        unsigned n_requests;
        struct control_peer peer;
};

struct control_request {
        struct control_request *prev, *next;
        struct control_server *server;
        struct control_client *client; /* NULL: gone */
        json_t *arguments;
        json_int_t id;
        bool streams;
        void (*on_close)(void *data);
        void *on_close_data;
        struct control_peer peer;
};

struct control_server {
        uv_loop_t *loop;
        uv_pipe_t *pipe; /* freed by its close callback */
        char *path;
        dev_t device;
        ino_t inode;
        gid_t group;
        const struct control_verb *verbs;
        bool (*is_agent)(void *context, pid_t pid);
        void *context;
        unsigned idle_ms;
        struct control_client *clients;
        unsigned n_clients;
        struct control_request *orphans;
        unsigned long refused;
        __u64 refusal_logged_ms;
        unsigned long refusals_unlogged;
};

/* Begins to read; the peer was judged. */
void client_start(struct control_client *client);
void client_close(struct control_client *client);
/* After an answer or an end: what remains to be done for this client? */
void client_rest(struct control_client *client);
/* Takes whole lines from the buffer, as long as there is a place for their requests. */
void client_lines(struct control_client *client);
/* Takes text, a line with its newline. False: not sent. */
bool client_write(struct control_client *client, char *text, size_t length);
/* Steals answer, which may be NULL (no memory: false). */
bool client_write_json(struct control_client *client, json_t *answer);

/* Takes the line's arguments and calls the verb's handler. */
void request_start(struct control_client *client, struct control_line *line);
void request_free(struct control_request *request);
json_t *error_answer(json_int_t id, int exit_status, const char *text);
