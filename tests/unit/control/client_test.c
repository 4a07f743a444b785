/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a client gets, and what it cannot do to us.
 */
#include "tests/unit/control/server_rig.h"

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

int main(void)
{
        const struct CMUnitTest tests[] = {
                server_test(answers_carry_the_id_and_the_result),
                server_test(a_request_may_come_byte_by_byte_and_several_at_once),
                server_test(garbage_gets_one_line_and_the_end),
                server_test(a_request_without_end_is_cut_off),
                server_test(a_large_request_within_the_bound_is_taken),
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
