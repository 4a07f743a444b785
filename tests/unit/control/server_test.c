/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The control server on real sockets: who is let in, what a client gets, and what it cannot do to us.
 */
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

static void echo(void *context, struct control_request *request, const json_t *arguments)
{
        json_t *text = json_object_get(arguments, "text");

        control_reply(request, text ? json_incref(text) : json_null());
}

static void hold(void *context, struct control_request *request, const json_t *arguments)
{
        struct room *room = context;

        room->held[room->n_held++] = request;
}

static void mark_closed(void *data)
{
        *(bool *)data = true;
}

static void hold_until_closed(void *context, struct control_request *request, const json_t *arguments)
{
        struct room *room = context;

        control_on_close(request, mark_closed, &room->closed);
        room->held[room->n_held++] = request;
}

static void refuse(void *context, struct control_request *request, const json_t *arguments)
{
        control_error(request, 4, "this kernel cannot '%s'", "fly");
}

static void refuse_with_places(void *context, struct control_request *request, const json_t *arguments)
{
        control_error_list(request, 2, json_pack("[{s:s,s:i}]", "file", "a.yaml", "line", 3), "%d errors", 1);
}

static void nothing(void *context, struct control_request *request, const json_t *arguments)
{
        control_reply(request, NULL);
}

static void who(void *context, struct control_request *request, const json_t *arguments)
{
        control_reply(request, json_pack("[i,i]", (int)control_uid(request), (int)control_pid(request)));
}

static void big(void *context, struct control_request *request, const json_t *arguments)
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

static bool is_agent(void *context, pid_t pid)
{
        struct room *room = context;

        assert_true(pid > 0);
        return room->agents;
}

static void never(uv_timer_t *timer)
{
        fail();
}

static int set_up(void **state)
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

static int tear_down(void **state)
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

static int client_to(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        strcpy(address.sun_path, path);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        return fd;
}

static void turn(struct room *room)
{
        for (int i = 0; i < 4; i++)
                uv_run(&room->loop, UV_RUN_NOWAIT);
}

static void say(int fd, const char *text)
{
        assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* What has come within so many turns of the loop: lines, or "" and an end. */
static const char *hear(struct room *room, int fd)
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

static bool has_ended(struct room *room, int fd)
{
        const char *text = hear(room, fd);

        return text && (!strcmp(text, "(end)") || !strcmp(text, "(reset)"));
}

static void answers_carry_the_id_and_the_result(void **state)
{
        static const struct {
                const char *line, *answer;
        } cases[] = {
                {"{\"v\":1,\"id\":7,\"verb\":\"echo\",\"text\":\"a\\n\"}\n",
                 "{\"v\":1,\"id\":7,\"ok\":true,\"result\":\"a\\n\"}\n"},
                {"{\"v\":1,\"verb\":\"refuse\"}\n",
                 "{\"v\":1,\"id\":0,\"ok\":false,\"exit\":4,\"error\":\"this kernel cannot 'fly'\"}\n"},
                {"{\"v\":1,\"id\":1,\"verb\":\"refuse-with-places\"}\n",
                 "{\"v\":1,\"id\":1,\"ok\":false,\"exit\":2,\"error\":\"1 "
                 "errors\",\"errors\":[{\"file\":\"a.yaml\",\"line\":3}]"
                 "}\n"},
                {"{\"v\":1,\"id\":2,\"verb\":\"nothing\"}\n",
                 "{\"v\":1,\"id\":2,\"ok\":false,\"exit\":1,\"error\":\"the daemon is out of memory\"}\n"},
                {"{\"v\":1,\"id\":3,\"verb\":\"nonsense\"}\n",
                 "{\"v\":1,\"id\":3,\"ok\":false,\"exit\":2,\"error\":\"this daemon has no verb 'nonsense'\"}\n"},
                {"{\"v\":3,\"id\":4,\"verb\":\"echo\"}\n",
                 "{\"v\":1,\"id\":4,\"ok\":false,\"exit\":2,\"error\":\"this daemon speaks version 1 of the protocol: "
                 "\\\"v\\\":1\"}\n"},
        };
        struct room *room = *state;
        int fd = client_to(room->path);

        /* On one connection: errors of this kind do not end it. */
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                say(fd, cases[i].line);
                assert_string_equal(hear(room, fd), cases[i].answer);
        }
        close(fd);
}

static void the_peer_is_known(void **state)
{
        struct room *room = *state;
        int fd = client_to(room->path);
        char expected[128];

        say(fd, "{\"v\":1,\"verb\":\"who\"}\n");
        snprintf(expected, sizeof(expected), "{\"v\":1,\"id\":0,\"ok\":true,\"result\":[%d,%d]}\n", (int)getuid(),
                 (int)getpid());
        assert_string_equal(hear(room, fd), expected);
        close(fd);
}

static void a_request_may_come_byte_by_byte_and_several_at_once(void **state)
{
        const char *line = "{\"v\":1,\"id\":1,\"verb\":\"echo\"}\n{\"v\":1,\"id\":2,\"verb\":\"echo\"}\n{\"v\":1,";
        struct room *room = *state;
        int fd = client_to(room->path);

        for (const char *c = line; *c && c < line + 20; c++) {
                assert_int_equal(send(fd, c, 1, MSG_NOSIGNAL), 1);
                turn(room);
        }
        say(fd, line + 20);
        assert_string_equal(hear(room, fd), "{\"v\":1,\"id\":1,\"ok\":true,\"result\":null}\n"
                                            "{\"v\":1,\"id\":2,\"ok\":true,\"result\":null}\n");
        say(fd, "\"id\":3,\"verb\":\"echo\"}\n");
        assert_string_equal(hear(room, fd), "{\"v\":1,\"id\":3,\"ok\":true,\"result\":null}\n");
        close(fd);
}

static void garbage_gets_one_line_and_the_end(void **state)
{
        static const struct {
                const char *bytes;
                size_t size;
        } cases[] = {
                {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27},
                {"\0\0\0\0\n", 5},
                {"\xff\xfe\xfd\n{\"v\":1,\"verb\":\"echo\"}\n", 26},
                {"[]\n{\"v\":1,\"verb\":\"echo\"}\n", 25},
        };
        struct room *room = *state;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                int fd = client_to(room->path);
                const char *answer;

                assert_int_equal(send(fd, cases[i].bytes, cases[i].size, 0), cases[i].size);
                answer = hear(room, fd);
                assert_non_null(strstr(answer, "\"exit\":1,\"error\":\"not a request"));
                assert_ptr_equal(strchr(answer, '\n'), answer + strlen(answer) - 1);
                assert_true(has_ended(room, fd));
                close(fd);
        }
}

static void a_request_without_end_is_cut_off(void **state)
{
        struct room *room = *state;
        int fd = client_to(room->path);
        static char piece[64 * 1024];
        size_t sent = 0;
        const char *answer = NULL;

        memset(piece, ' ', sizeof(piece));
        while (!answer && sent < 2 * CONTROL_REQUEST_MAX) {
                ssize_t n = send(fd, piece, sizeof(piece), MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n > 0)
                        sent += (size_t)n;
                answer = hear(room, fd);
        }
        assert_non_null(answer);
        assert_non_null(strstr(answer, "too large"));
        assert_in_range(sent, CONTROL_REQUEST_MAX, CONTROL_REQUEST_MAX + 1024 * 1024);
        assert_true(has_ended(room, fd));
        close(fd);
}

static void a_large_request_within_the_bound_is_taken(void **state)
{
        struct room *room = *state;
        int fd = client_to(room->path);
        static char line[CONTROL_REQUEST_MAX - 1024 + 64];
        size_t sent = 0, used = (size_t)sprintf(line, "{\"v\":1,\"verb\":\"who\",\"text\":\"");
        const char *answer = NULL;

        memset(line + used, 'x', CONTROL_REQUEST_MAX - 1024 - used);
        strcpy(line + CONTROL_REQUEST_MAX - 1024, "\"}\n");
        while (!answer) {
                ssize_t n = send(fd, line + sent, strlen(line) - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n > 0)
                        sent += (size_t)n;
                answer = hear(room, fd);
        }
        assert_non_null(strstr(answer, "\"ok\":true"));
        close(fd);
}

static void an_agent_is_refused_before_its_first_byte_is_read(void **state)
{
        struct room *room = *state;
        const char *answer;
        int fd;

        room->agents = true;
        fd = client_to(room->path);
        say(fd, "{\"v\":1,\"verb\":\"hold\"}\n");
        answer = hear(room, fd);
        assert_string_equal(answer, "{\"v\":1,\"id\":0,\"ok\":false,\"exit\":1,\"error\":\"agents may not control the "
                                    "daemon\"}\n");
        assert_int_equal(room->n_held, 0);
        assert_true(has_ended(room, fd));
        assert_int_equal(control_server_refused(room->server), 1);
        close(fd);
        /* And not because of what came before: the next one may. */
        room->agents = false;
        fd = client_to(room->path);
        say(fd, "{\"v\":1,\"verb\":\"echo\"}\n");
        assert_non_null(strstr(hear(room, fd), "\"ok\":true"));
        close(fd);
}

static void another_user_is_refused(void **state)
{
        struct room *room = *state;
        const char *answer;
        int fds[2];
        char ready;
        pid_t child;

        if (geteuid() != 0)
                skip();
        /* Past the file's mode: the server judges by itself. */
        chmod(room->directory, 0755);
        chmod(room->path, 0666);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        child = fork();
        if (child == 0) {
                char control[CMSG_SPACE(sizeof(int))] = {0};
                struct iovec one = {.iov_base = (char *)"x", .iov_len = 1};
                struct msghdr message = {
                        .msg_iov = &one, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
                struct cmsghdr *header = CMSG_FIRSTHDR(&message);
                int fd;

                if (setgid(65534) < 0 || setuid(65534) < 0)
                        _exit(1);
                fd = client_to(room->path);
                header->cmsg_level = SOL_SOCKET;
                header->cmsg_type = SCM_RIGHTS;
                header->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(header), &fd, sizeof(fd));
                sendmsg(fds[1], &message, 0);
                /* It lives until it was judged. */
                _exit(read(fds[1], &ready, 1) == 1 ? 0 : 1);
        } else {
                char control[CMSG_SPACE(sizeof(int))];
                struct iovec one = {.iov_base = &ready, .iov_len = 1};
                struct msghdr message = {
                        .msg_iov = &one, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
                int fd, status;

                assert_int_equal(recvmsg(fds[0], &message, 0), 1);
                memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
                /* Root that holds the connection changes nothing: who connected counts. */
                answer = hear(room, fd);
                assert_non_null(strstr(answer, "only root and the group 'agentd' may ask"));
                assert_true(has_ended(room, fd));
                assert_int_equal(write(fds[0], "x", 1), 1);
                waitpid(child, &status, 0);
                assert_int_equal(status, 0);
                close(fd);
        }
        close(fds[0]);
        close(fds[1]);
}

static void the_socket_lets_in_owner_and_group_only(void **state)
{
        struct room *room = *state;
        struct stat status;

        assert_int_equal(stat(room->path, &status), 0);
        assert_int_equal(status.st_mode & 07777, 0660);
        assert_true(S_ISSOCK(status.st_mode));
}

static void a_socket_that_answers_is_left_alone(void **state)
{
        struct room *room = *state;
        struct control_server *second = NULL;
        int fd;

        assert_int_equal(control_server_new(&room->loop, room->path, verbs, NULL, NULL, &second), -EADDRINUSE);
        fd = client_to(room->path);
        say(fd, "{\"v\":1,\"verb\":\"echo\"}\n");
        assert_non_null(strstr(hear(room, fd), "\"ok\":true"));
        close(fd);
}

static void a_stale_socket_is_replaced_and_anything_else_is_not(void **state)
{
        struct room *room = *state;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        struct control_server *second = NULL;
        char file[120];
        int fd;

        snprintf(address.sun_path, sizeof(address.sun_path), "%s/stale", room->directory);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(fd, 1), 0);
        close(fd); /* its file stays, as after kill -9 */
        assert_int_equal(control_server_new(&room->loop, address.sun_path, verbs, NULL, NULL, &second), 0);
        fd = client_to(address.sun_path);
        close(fd);
        control_server_free(second);
        assert_int_equal(access(address.sun_path, F_OK), -1);

        snprintf(file, sizeof(file), "%s/file", room->directory);
        fclose(fopen(file, "we"));
        assert_int_equal(control_server_new(&room->loop, file, verbs, NULL, NULL, &second), -EEXIST);
        assert_int_equal(access(file, F_OK), 0);
        /* Not through a link either: it is what stands there. */
        snprintf(address.sun_path, sizeof(address.sun_path), "%s/link", room->directory);
        assert_int_equal(symlink(file, address.sun_path), 0);
        assert_int_equal(control_server_new(&room->loop, address.sun_path, verbs, NULL, NULL, &second), -EEXIST);
}

static void a_busy_socket_is_not_taken_for_stale(void **state)
{
        struct room *room = *state;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        struct control_server *second = NULL;
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), waiting;

        /* Somebody whose backlog is full. */
        snprintf(address.sun_path, sizeof(address.sun_path), "%s/busy", room->directory);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(fd, 0), 0);
        waiting = client_to(address.sun_path);
        assert_int_equal(control_server_new(&room->loop, address.sun_path, verbs, NULL, NULL, &second), -EADDRINUSE);
        close(waiting);
        close(fd);
}

static void paths_that_cannot_be_are_errors(void **state)
{
        struct room *room = *state;
        struct control_server *second = NULL;
        char path[300];

        memset(path, 'x', sizeof(path) - 1);
        path[sizeof(path) - 1] = '\0';
        assert_int_equal(control_server_new(&room->loop, path, verbs, NULL, NULL, &second), -ENAMETOOLONG);
        assert_int_equal(control_server_new(&room->loop, "", verbs, NULL, NULL, &second), -EINVAL);
        snprintf(path, sizeof(path), "%s/no/such/socket", room->directory);
        assert_int_equal(control_server_new(&room->loop, path, verbs, NULL, NULL, &second), -ENOENT);
}

static void one_client_too_many_is_refused(void **state)
{
        struct room *room = *state;
        int fds[CONTROL_CLIENTS_MAX + 1];

        for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
                fds[i] = client_to(room->path);
                turn(room);
        }
        for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
                assert_null(hear(room, fds[i]));
        assert_non_null(strstr(hear(room, fds[CONTROL_CLIENTS_MAX]), "too many clients"));
        /* A place that is given back is a place. */
        close(fds[0]);
        turn(room);
        fds[0] = client_to(room->path);
        say(fds[0], "{\"v\":1,\"verb\":\"echo\"}\n");
        assert_non_null(strstr(hear(room, fds[0]), "\"ok\":true"));
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
                close(fds[i]);
}

static void an_idle_client_is_closed_and_one_at_work_is_not(void **state)
{
        struct room *room = *state;
        int idle, slow, busy;

        control_server_set_idle_ms(room->server, 1);
        idle = client_to(room->path);
        slow = client_to(room->path);
        busy = client_to(room->path);
        say(slow, "{\"v\":1,"); /* bytes are no request */
        say(busy, "{\"v\":1,\"id\":5,\"verb\":\"hold\"}\n");
        while (room->n_held == 0)
                uv_run(&room->loop, UV_RUN_ONCE);
        for (struct pollfd fd = {.fd = idle, .events = POLLIN}; poll(&fd, 1, 0) == 0;)
                uv_run(&room->loop, UV_RUN_ONCE);
        for (struct pollfd fd = {.fd = slow, .events = POLLIN}; poll(&fd, 1, 0) == 0;)
                uv_run(&room->loop, UV_RUN_ONCE);
        assert_true(has_ended(room, idle));
        assert_true(has_ended(room, slow));
        control_reply(room->held[0], json_string("late"));
        assert_string_equal(hear(room, busy), "{\"v\":1,\"id\":5,\"ok\":true,\"result\":\"late\"}\n");
        close(idle);
        close(slow);
        close(busy);
}

static void answers_may_come_in_any_order(void **state)
{
        struct room *room = *state;
        int fd = client_to(room->path);

        say(fd, "{\"v\":1,\"id\":1,\"verb\":\"hold\"}\n{\"v\":1,\"id\":2,\"verb\":\"hold\"}\n");
        turn(room);
        assert_int_equal(room->n_held, 2);
        control_reply(room->held[1], json_true());
        control_reply(room->held[0], json_false());
        assert_string_equal(hear(room, fd), "{\"v\":1,\"id\":2,\"ok\":true,\"result\":true}\n"
                                            "{\"v\":1,\"id\":1,\"ok\":true,\"result\":false}\n");
        close(fd);
}

static void requests_at_work_are_bounded_and_the_rest_waits(void **state)
{
        struct room *room = *state;
        int fd = client_to(room->path);

        for (int i = 0; i < CONTROL_AT_WORK_MAX + 10; i++)
                say(fd, "{\"v\":1,\"verb\":\"hold\"}\n");
        turn(room);
        assert_int_equal(room->n_held, CONTROL_AT_WORK_MAX);
        for (int i = 0; i < 10; i++)
                control_reply(room->held[i], json_null());
        turn(room);
        assert_int_equal(room->n_held, CONTROL_AT_WORK_MAX + 10);
        for (int i = 10; i < CONTROL_AT_WORK_MAX + 10; i++)
                control_reply(room->held[i], json_null());
        close(fd);
}

static void an_answer_to_a_client_that_went_is_no_harm(void **state)
{
        struct room *room = *state;
        int fd = client_to(room->path);

        say(fd, "{\"v\":1,\"verb\":\"hold\"}\n{\"v\":1,\"verb\":\"hold\"}\n{\"v\":1,\"verb\":\"hold\"}\n");
        turn(room);
        close(fd);
        turn(room);
        assert_int_equal(room->n_held, 3);
        control_reply(room->held[0], json_null());
        control_error(room->held[1], 1, "too late");
        /* The third is never answered: the server's end takes it along. */
}

static void on_close_tells_that_the_client_went(void **state)
{
        struct room *room = *state;
        int fd = client_to(room->path);

        say(fd, "{\"v\":1,\"verb\":\"hold-until-closed\"}\n");
        turn(room);
        assert_false(room->closed);
        close(fd);
        turn(room);
        assert_true(room->closed);
}

static void on_close_is_not_called_after_the_answer(void **state)
{
        struct room *room = *state;
        int fd = client_to(room->path);

        say(fd, "{\"v\":1,\"verb\":\"hold-until-closed\"}\n");
        turn(room);
        control_reply(room->held[0], json_null());
        close(fd);
        turn(room);
        assert_false(room->closed);
}

static void one_that_has_sent_everything_still_gets_its_answer(void **state)
{
        struct room *room = *state;
        int fd = client_to(room->path);

        say(fd, "{\"v\":1,\"id\":1,\"verb\":\"echo\"}\n{\"v\":1,\"id\":2,\"verb\":\"hold\"}\n");
        shutdown(fd, SHUT_WR);
        assert_string_equal(hear(room, fd), "{\"v\":1,\"id\":1,\"ok\":true,\"result\":null}\n");
        control_reply(room->held[0], json_null());
        assert_string_equal(hear(room, fd), "{\"v\":1,\"id\":2,\"ok\":true,\"result\":null}\n");
        assert_true(has_ended(room, fd));
        close(fd);
}

static void a_stream_goes_on_until_the_client_ends_it(void **state)
{
        struct room *room = *state;
        int fd = client_to(room->path);

        say(fd, "{\"v\":1,\"id\":9,\"verb\":\"hold-until-closed\"}\n");
        turn(room);
        assert_true(control_stream(room->held[0], json_pack("{s:i}", "n", 1)));
        assert_true(control_stream_line(room->held[0], "{\"n\":2}"));
        assert_string_equal(hear(room, fd), "{\"v\":1,\"id\":9,\"stream\":true,\"result\":{\"n\":1}}\n"
                                            "{\"v\":1,\"id\":9,\"stream\":true,\"result\":{\"n\":2}}\n");
        /* Half an end is the end of a stream: nobody would ever tell the other half. */
        shutdown(fd, SHUT_WR);
        turn(room);
        assert_true(room->closed);
        close(fd);
}

static void a_stream_that_is_not_read_drops_lines_within_bounded_memory(void **state)
{
        struct room *room = *state;
        int fd = client_to(room->path);
        char *line = malloc(65536);
        size_t taken = 0, bytes = 0;
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        char text[65536];

        memset(line, '7', 65535);
        line[65535] = '\0';
        say(fd, "{\"v\":1,\"verb\":\"hold-until-closed\"}\n");
        turn(room);
        while (control_stream_line(room->held[0], line)) {
                taken++;
                assert_true(taken < 1000);
        }
        assert_true(taken * 65536 <= CONTROL_STREAM_QUEUE_MAX + 1024 * 1024);
        assert_true(taken * 65536 >= CONTROL_STREAM_QUEUE_MAX / 2);
        assert_false(room->closed);
        /* It reads after all: what was taken arrives, and there is room again. */
        while (bytes < taken * (65535 + strlen("{\"v\":1,\"id\":0,\"stream\":true,\"result\":}\n"))) {
                turn(room);
                while (poll(&readable, 1, 0) == 1)
                        bytes += (size_t)recv(fd, text, sizeof(text), 0);
        }
        assert_true(control_stream_line(room->held[0], line));
        free(line);
        close(fd);
        turn(room);
        assert_true(room->closed);
}

static void a_reply_that_nobody_reads_ends_with_the_idle_time(void **state)
{
        struct room *room = *state;
        int fd = client_to(room->path);
        struct pollfd readable = {.fd = fd, .events = 0};

        control_server_set_idle_ms(room->server, 1);
        say(fd, "{\"v\":1,\"verb\":\"big\"}\n");
        while (poll(&readable, 1, 0) == 0 || !(readable.revents & POLLHUP))
                uv_run(&room->loop, UV_RUN_ONCE);
        close(fd);
}

#define server_test(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                server_test(answers_carry_the_id_and_the_result),
                server_test(the_peer_is_known),
                server_test(a_request_may_come_byte_by_byte_and_several_at_once),
                server_test(garbage_gets_one_line_and_the_end),
                server_test(a_request_without_end_is_cut_off),
                server_test(a_large_request_within_the_bound_is_taken),
                server_test(an_agent_is_refused_before_its_first_byte_is_read),
                server_test(another_user_is_refused),
                server_test(the_socket_lets_in_owner_and_group_only),
                server_test(a_socket_that_answers_is_left_alone),
                server_test(a_stale_socket_is_replaced_and_anything_else_is_not),
                server_test(a_busy_socket_is_not_taken_for_stale),
                server_test(paths_that_cannot_be_are_errors),
                server_test(one_client_too_many_is_refused),
                server_test(an_idle_client_is_closed_and_one_at_work_is_not),
                server_test(answers_may_come_in_any_order),
                server_test(requests_at_work_are_bounded_and_the_rest_waits),
                server_test(an_answer_to_a_client_that_went_is_no_harm),
                server_test(on_close_tells_that_the_client_went),
                server_test(on_close_is_not_called_after_the_answer),
                server_test(one_that_has_sent_everything_still_gets_its_answer),
                server_test(a_stream_goes_on_until_the_client_ends_it),
                server_test(a_stream_that_is_not_read_drops_lines_within_bounded_memory),
                server_test(a_reply_that_nobody_reads_ends_with_the_idle_time),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
