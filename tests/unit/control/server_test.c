/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The socket and its peers: who is let in, and what stands at the path.
 */
#include "tests/unit/control/server_rig.h"

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

int main(void)
{
        const struct CMUnitTest tests[] = {
                server_test(an_agent_is_refused_before_its_first_byte_is_read),
                server_test(another_user_is_refused),
                server_test(the_socket_lets_in_owner_and_group_only),
                server_test(a_socket_that_answers_is_left_alone),
                server_test(a_stale_socket_is_replaced_and_anything_else_is_not),
                server_test(a_busy_socket_is_not_taken_for_stale),
                server_test(paths_that_cannot_be_are_errors),
                server_test(one_client_too_many_is_refused),
                server_test(the_peer_is_known),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
