/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Messages between the monitor and its metrics process, when the other end is not what it should be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/metrics/exchange.h"

static void pair_make(int pair[2])
{
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
}

static void a_message_carries_its_memory(void **state)
{
        struct metrics_message message = {.kind = METRICS_PAGES, .metrics_size = 5, .health_size = 2}, got;
        int pair[2], fds[EXCHANGE_FDS_MAX], none[EXCHANGE_FDS_MAX], memory;
        char *text = NULL;

        pair_make(pair);
        memory = exchange_memory("test", "hello", 5, "{}", 2);
        assert_true(memory >= 0);
        assert_int_equal(exchange_send(pair[0], &message, &memory, 1), 0);
        assert_int_equal(exchange_receive(pair[1], &got, fds), 0);
        assert_memory_equal(&got, &message, sizeof(got));
        assert_true(fds[0] >= 0 && fds[1] < 0);
        assert_int_equal(exchange_read(fds[0], 7, &text), 0);
        assert_string_equal(text, "hello{}");
        free(text);
        /* Twice: each reader begins at the start. */
        assert_int_equal(exchange_read(fds[0], 7, &text), 0);
        free(text);
        assert_int_equal(exchange_receive(pair[1], &got, none), -EAGAIN);
        close(fds[0]);
        close(memory);
        close(pair[0]);
        assert_int_equal(exchange_receive(pair[1], &got, none), -ECONNRESET);
        close(pair[1]);
}

static void what_is_no_message_is_refused_and_its_descriptors_closed(void **state)
{
        struct metrics_message message = {.kind = METRICS_ASK}, got;
        int pair[2], fds[EXCHANGE_FDS_MAX], pipes[2];
        char big[sizeof(message) + 1] = {0};
        char byte;

        pair_make(pair);
        assert_int_equal(send(pair[0], "x", 1, 0), 1);
        assert_int_equal(exchange_receive(pair[1], &got, fds), -EBADMSG);
        assert_int_equal(send(pair[0], big, sizeof(big), 0), sizeof(big));
        assert_int_equal(exchange_receive(pair[1], &got, fds), -EBADMSG);

        /* More descriptors than there is room for. */
        assert_int_equal(pipe2(pipes, O_NONBLOCK | O_CLOEXEC), 0);
        {
                union {
                        struct cmsghdr align;
                        char bytes[CMSG_SPACE(sizeof(int) * 5)];
                } control = {};
                struct iovec data = {&message, sizeof(message)};
                struct msghdr header = {
                        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
                int many[5] = {pipes[1], pipes[1], pipes[1], pipes[1], pipes[1]};

                control.align = (struct cmsghdr){CMSG_LEN(sizeof(many)), SOL_SOCKET, SCM_RIGHTS};
                memcpy(CMSG_DATA(&control.align), many, sizeof(many));
                assert_int_equal(sendmsg(pair[0], &header, 0), sizeof(message));
        }
        close(pipes[1]);
        assert_int_equal(exchange_receive(pair[1], &got, fds), -EBADMSG);
        assert_int_equal(read(pipes[0], &byte, 1), 0); /* the last writing end is closed */
        close(pipes[0]);
        close(pair[0]);
        close(pair[1]);
}

static void memory_that_can_change_or_has_another_size_is_refused(void **state)
{
        char *text = NULL;
        int fd = memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, "abc", 3), 3);
        assert_int_equal(exchange_read(fd, 3, &text), -EBADMSG);
        close(fd);
        fd = exchange_memory("sealed", "abc", 3, "", 0);
        assert_true(fd >= 0);
        assert_int_equal(exchange_read(fd, 4, &text), -EBADMSG);
        assert_int_equal(exchange_read(fd, 2, &text), -EBADMSG);
        assert_true(write(fd, "x", 1) < 0);
        close(fd);
        fd = open("/dev/null", O_RDONLY);
        assert_int_equal(exchange_read(fd, 0, &text), -EBADMSG);
        close(fd);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_message_carries_its_memory),
                cmocka_unit_test(what_is_no_message_is_refused_and_its_descriptors_closed),
                cmocka_unit_test(memory_that_can_change_or_has_another_size_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
