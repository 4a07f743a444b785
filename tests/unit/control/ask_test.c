/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One question, whatever stands at the other end of the socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentd/control/ask.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

/* Accepts one client, takes its line, sends `answer`, and then closes, or waits until the client does. */
struct far_end {
        int listener;
        const char *answer;
        size_t repeated; /* so many bytes of 'x' instead */
        bool closes;
        char question[512];
};

static char path[64];

static void *serve(void *context)
{
        struct far_end *far_end = context;
        _cleanup_close_ int fd = accept(far_end->listener, NULL, NULL);
        size_t used = 0;
        char rest;

        while (used < sizeof(far_end->question) - 1 && !memchr(far_end->question, '\n', used)) {
                ssize_t n = recv(fd, far_end->question + used, sizeof(far_end->question) - 1 - used, 0);

                if (n <= 0)
                        break;
                used += (size_t)n;
        }
        if (far_end->answer)
                (void)send(fd, far_end->answer, strlen(far_end->answer), MSG_NOSIGNAL);
        for (size_t i = 0; i < far_end->repeated; i++)
                if (send(fd, "xxxxxxxxxxxxxxxx", 16, MSG_NOSIGNAL) < 0)
                        break;
        while (!far_end->closes && recv(fd, &rest, 1, 0) > 0)
                ;
        return NULL;
}

static int listen_at(int backlog)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        snprintf(path, sizeof(path), "/tmp/agreg-ask-%d", (int)getpid());
        unlink(path);
        strcpy(address.sun_path, path);
        assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(listen(fd, backlog), 0);
        return fd;
}

static void any_answer_is_judged(void **state)
{
        static const struct {
                const char *answer;
                size_t repeated;
                bool closes;
                int expected;
        } cases[] = {
                {"{\"v\":1,\"id\":1,\"ok\":true,\"result\":{\"a\":7}}\n", 0, false, 0},
                {"{\"v\":1,\"id\":1,\"ok\":true,\"result\":{\"a\":7}}\nmore", 0, true, 0},
                {"{\"v\":1,\"id\":1,\"ok\":false,\"exit\":4,\"error\":\"no\"}\n", 0, true, -EREMOTEIO},
                {"{\"v\":1,\"id\":1,\"ok\":true}\n", 0, true, -EBADMSG},
                {"{\"v\":2,\"id\":1,\"ok\":true,\"result\":{}}\n", 0, true, -EBADMSG},
                {"{\"v\":1,\"v\":1,\"ok\":true,\"result\":{}}\n", 0, true, -EBADMSG},
                {"[]\n", 0, true, -EBADMSG},
                {"nonsense\n", 0, true, -EBADMSG},
                {"{\"v\":1,\"id\":1", 0, true, -ECONNRESET},
                {NULL, 0, true, -ECONNRESET},
                {NULL, 0, false, -ETIMEDOUT},
                {NULL, CONTROL_ANSWER_MAX / 8, true, -EBADMSG},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct far_end far_end = {
                        .listener = listen_at(1),
                        .answer = cases[i].answer,
                        .repeated = cases[i].repeated,
                        .closes = cases[i].closes,
                };
                __u64 wait_ms = cases[i].expected == -ETIMEDOUT ? 50 : 20000;
                json_t *answer = NULL;
                pthread_t thread;
                int r;

                assert_int_equal(pthread_create(&thread, NULL, serve, &far_end), 0);
                r = control_ask(path, "attach", json_pack("{s:s}", "name", "x"), control_now_ms() + wait_ms, &answer);
                assert_int_equal(pthread_join(thread, NULL), 0);
                close(far_end.listener);
                unlink(path);
                if (r != cases[i].expected)
                        fail_msg("case %zu: %d", i, r);
                assert_string_equal(far_end.question, "{\"name\":\"x\",\"v\":1,\"id\":1,\"verb\":\"attach\"}\n");
                if (r == 0)
                        assert_int_equal(json_integer_value(json_object_get(answer, "a")), 7);
                if (r == -EREMOTEIO)
                        assert_string_equal(json_string_value(json_object_get(answer, "error")), "no");
                json_decref(answer);
        }
}

static void nobody_there_is_an_error_and_never_a_wait(void **state)
{
        char long_path[256];
        json_t *answer = NULL;
        int listener;

        listener = listen_at(0);
        close(listener);
        assert_int_equal(control_ask(path, "status", NULL, control_now_ms() + 20000, &answer), -ECONNREFUSED);
        unlink(path);
        assert_int_equal(control_ask(path, "status", NULL, control_now_ms() + 20000, &answer), -ENOENT);
        memset(long_path, 'x', sizeof(long_path) - 1);
        long_path[sizeof(long_path) - 1] = '\0';
        assert_int_equal(control_ask(long_path, "status", NULL, control_now_ms() + 20000, &answer), -ENAMETOOLONG);
        assert_null(answer);
}

static void a_daemon_that_accepts_nobody_is_waited_for_until_the_deadline(void **state)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int listener = listen_at(0), waiting[4];
        json_t *answer = NULL;
        __u64 before;

        strcpy(address.sun_path, path);
        for (size_t i = 0; i < ARRAY_SIZE(waiting); i++) {
                waiting[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                (void)connect(waiting[i], (const struct sockaddr *)&address, sizeof(address));
        }
        before = control_now_ms();
        assert_int_equal(control_ask(path, "status", NULL, before + 50, &answer), -ETIMEDOUT);
        assert_true(control_now_ms() - before >= 50);
        assert_int_equal(control_ask(path, "status", NULL, control_now_ms(), &answer), -ETIMEDOUT);
        for (size_t i = 0; i < ARRAY_SIZE(waiting); i++)
                close(waiting[i]);
        close(listener);
        unlink(path);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(any_answer_is_judged),
                cmocka_unit_test(nobody_there_is_an_error_and_never_a_wait),
                cmocka_unit_test(a_daemon_that_accepts_nobody_is_waited_for_until_the_deadline),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
