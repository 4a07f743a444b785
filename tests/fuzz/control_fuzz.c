/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A hostile client of the control socket: the bytes of the input go to a real server over a socket, in pieces, with
 * handlers that answer at once, later, as a stream, or never; the client may close at any point. The input's first byte
 * chooses how.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentd/control/line.h"
#include "agentd/control/server.h"
#include "agentd/util/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HELD_MAX = 256 };

static struct {
        uv_loop_t loop;
        uv_timer_t alive;
        struct control_server *server;
        struct sockaddr_un address;
        struct control_request *held[HELD_MAX];
        size_t n_held;
} world;

static void echo(void *context, struct control_request *request, const json_t *arguments)
{
        control_reply(request, json_deep_copy(arguments));
}

static void fail(void *context, struct control_request *request, const json_t *arguments)
{
        const char *text = json_string_value(json_object_get(arguments, "text"));

        control_error(request, 1, "%s", text ? text : "no text");
}

static void hold(void *context, struct control_request *request, const json_t *arguments)
{
        if (world.n_held < HELD_MAX)
                world.held[world.n_held++] = request;
        else
                control_error(request, 1, "too many");
}

static void ended(void *data)
{
        *(struct control_request **)data = NULL;
}

static void stream(void *context, struct control_request *request, const json_t *arguments)
{
        static struct control_request *streams[HELD_MAX];
        static size_t next;

        next = (next + 1) % HELD_MAX;
        if (streams[next]) {
                control_error(request, 1, "too many");
                return;
        }
        streams[next] = request;
        control_on_close(request, ended, &streams[next]);
        for (int i = 0; i < 3 && streams[next]; i++)
                control_stream(request, json_deep_copy(arguments));
}

static void ignore(void *context, struct control_request *request, const json_t *arguments)
{
        control_reply(request, NULL);
}

static const struct control_verb verbs[] = {
        {"echo", echo}, {"fail", fail}, {"hold", hold}, {"stream", stream}, {"ignore", ignore}, {NULL},
};

static void never(uv_timer_t *timer)
{
}

static void remove_socket(void)
{
        unlink(world.address.sun_path);
}

static void begin(void)
{
        log_setup("control_fuzz", 0);
        signal(SIGPIPE, SIG_IGN);
        world.address.sun_family = AF_UNIX;
        snprintf(world.address.sun_path, sizeof(world.address.sun_path), "/tmp/agentd-control-fuzz.%d", (int)getpid());
        uv_loop_init(&world.loop);
        uv_timer_init(&world.loop, &world.alive);
        uv_timer_start(&world.alive, never, 1u << 30, 0);
        if (control_server_new(&world.loop, world.address.sun_path, verbs, NULL, NULL, &world.server) < 0)
                abort();
        atexit(remove_socket);
}

static void turn(int fd)
{
        char answer[65536];

        for (int i = 0; i < 3; i++)
                uv_run(&world.loop, UV_RUN_NOWAIT);
        while (fd >= 0 && recv(fd, answer, sizeof(answer), MSG_DONTWAIT) > 0)
                ;
}

static void check_line(const uint8_t *data, size_t size)
{
        char error[CONTROL_LINE_ERROR_MAX];
        struct control_line line = {0};

        if (control_line_parse((const char *)data, size, &line, error) == 0)
                json_decref(line.arguments);
        else if (line.arguments || memchr(error, '\0', sizeof(error)) == NULL)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        uint8_t how;
        int fd;

        if (!world.server)
                begin();
        if (size < 1)
                return 0;
        how = *data++;
        size--;
        check_line(data, size);

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (struct sockaddr *)&world.address, sizeof(world.address)) < 0)
                abort();
        for (size_t step = how & 7 ? size / (how & 7) + 1 : size, sent = 0; sent < size; sent += step) {
                size_t piece = size - sent < step ? size - sent : step;

                if (send(fd, data + sent, piece, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                        break;
                if (how & 8)
                        turn(how & 16 ? fd : -1);
        }
        if (how & 32)
                shutdown(fd, SHUT_WR);
        if (how & 64)
                turn(fd);
        if (how & 128) {
                /* Gone before the answers. */
                close(fd);
                turn(-1);
        }
        for (size_t i = 0; i < world.n_held; i++)
                control_reply(world.held[i], json_integer((json_int_t)i));
        world.n_held = 0;
        if (!(how & 128)) {
                turn(fd);
                close(fd);
        }
        turn(-1);
        for (size_t i = 0; i < world.n_held; i++)
                control_error(world.held[i], 1, "late");
        world.n_held = 0;
        return 0;
}
