/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A control server in a directory of its own, with verbs that answer at once, later or never, and clients to it.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/control/server.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"
#include "agentd/util/macro.h"

struct room {
        char directory[64];
        char path[96];
        uv_loop_t loop;
        uv_timer_t alive; /* a loop without a handle that counts runs not even once */
        struct control_server *server;
        bool agents;       /* what is_agent answers */
        bool closed;       /* a request's on_close was called */
        unsigned streamed; /* lines taken of a stream */
        struct control_request *held[200];
        size_t n_held;
};

static inline void echo(void *context, struct control_request *request, const json_t *arguments)
{
        json_t *text = json_object_get(arguments, "text");

        control_reply(request, text ? json_incref(text) : json_null());
}

static inline void hold(void *context, struct control_request *request, const json_t *arguments)
{
        struct room *room = context;

        room->held[room->n_held++] = request;
}

static inline void mark_closed(void *data)
{
        *(bool *)data = true;
}

static inline void hold_until_closed(void *context, struct control_request *request, const json_t *arguments)
{
        struct room *room = context;

        control_on_close(request, mark_closed, &room->closed);
        room->held[room->n_held++] = request;
}

static inline void refuse(void *context, struct control_request *request, const json_t *arguments)
{
        control_error(request, 4, "this kernel cannot '%s'", "fly");
}

static inline void refuse_with_places(void *context, struct control_request *request, const json_t *arguments)
{
        control_error_list(request, 2, json_pack("[{s:s,s:i}]", "file", "a.yaml", "line", 3), "%d errors", 1);
}

static inline void nothing(void *context, struct control_request *request, const json_t *arguments)
{
        control_reply(request, NULL);
}

static inline void who(void *context, struct control_request *request, const json_t *arguments)
{
        control_reply(request, json_pack("[i,i]", (int)control_uid(request), (int)control_pid(request)));
}

static inline void big(void *context, struct control_request *request, const json_t *arguments)
{
        char *text = malloc(10 * 1024 * 1024);

        memset(text, 'x', 10 * 1024 * 1024 - 1);
        text[10 * 1024 * 1024 - 1] = '\0';
        control_reply(request, json_string(text));
        free(text);
}

static const struct control_verb verbs[] = {
        {"echo", echo},
        {"hold", hold},
        {"hold-until-closed", hold_until_closed},
        {"refuse", refuse},
        {"refuse-with-places", refuse_with_places},
        {"nothing", nothing},
        {"who", who},
        {"big", big},
        {NULL},
};

static inline bool is_agent(void *context, pid_t pid)
{
        struct room *room = context;

        assert_true(pid > 0);
        return room->agents;
}

static inline void never(uv_timer_t *timer)
{
        fail();
}

static inline int set_up(void **state)
{
        struct room *room = calloc(1, sizeof(*room));

        log_setup("agentd", 0); /* refusals are meant here */
        signal(SIGPIPE, SIG_IGN);
        strcpy(room->directory, "/tmp/agentd-control.XXXXXX");
        assert_non_null(mkdtemp(room->directory));
        snprintf(room->path, sizeof(room->path), "%s/agentd.sock", room->directory);
        assert_int_equal(uv_loop_init(&room->loop), 0);
        uv_timer_init(&room->loop, &room->alive);
        uv_timer_start(&room->alive, never, 3600 * 1000, 0);
        assert_int_equal(control_server_new(&room->loop, room->path, verbs, is_agent, room, &room->server), 0);
        *state = room;
        return 0;
}

static inline int tear_down(void **state)
{
        struct room *room = *state;
        char command[128];

        control_server_free(room->server);
        uv_close((uv_handle_t *)&room->alive, NULL);
        uv_run(&room->loop, UV_RUN_DEFAULT);
        assert_int_equal(uv_loop_close(&room->loop), 0);
        assert_int_equal(access(room->path, F_OK), -1);
        snprintf(command, sizeof(command), "rm -rf %s", room->directory);
        assert_int_equal(system(command), 0);
        free(room);
        return 0;
}

static inline int client_to(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        strcpy(address.sun_path, path);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        return fd;
}

static inline void turn(struct room *room)
{
        for (int i = 0; i < 4; i++)
                uv_run(&room->loop, UV_RUN_NOWAIT);
}

static inline void say(int fd, const char *text)
{
        assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* What has come within so many turns of the loop: lines, or "" and an end. */
static inline const char *hear(struct room *room, int fd)
{
        static char text[256 * 1024];
        ssize_t n;

        turn(room);
        n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
        if (n < 0)
                return errno == EAGAIN ? NULL : "(reset)";
        text[n] = '\0';
        return n == 0 ? "(end)" : text;
}

static inline bool has_ended(struct room *room, int fd)
{
        const char *text = hear(room, fd);

        return text && (!strcmp(text, "(end)") || !strcmp(text, "(reset)"));
}

#define server_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
