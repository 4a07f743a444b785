/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Blocking calls on a socket whose time-outs are what is left until the deadline; connect(2) and send(2) wait no longer
 * than SO_SNDTIMEO on a Unix socket, too (net/unix/af_unix.c, sock_sndtimeo()).
 */
#include "agentd/control/ask.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

enum { READ_BYTES = 16 * 1024 };

__u64 control_now_ms(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (__u64)now.tv_sec * 1000 + (__u64)now.tv_nsec / NSEC_PER_MSEC;
}

static int left_ms(__u64 until_ms)
{
        __u64 now = control_now_ms();

        return now >= until_ms ? 0 : (int)MIN(until_ms - now, 3600000ull);
}

static int connect_to(const char *path, __u64 until_ms, int *ret_fd)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int left = left_ms(until_ms);
        struct timeval wait = {.tv_sec = left / 1000, .tv_usec = left % 1000 * 1000};
        _cleanup_close_ int fd = -1;

        if (left == 0)
                return -ETIMEDOUT; /* a time-out of 0 would mean: for ever */
        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
                return errno == EAGAIN ? -ETIMEDOUT : -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* A daemon that refuses us closes at once; its reason still stands to be read. */
static void send_all(int fd, const char *text, size_t length)
{
        for (size_t done = 0; done < length;) {
                ssize_t n = send(fd, text + done, length - done, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return;
                done += (size_t)n;
        }
}

static int read_line(int fd, __u64 until_ms, char **ret, size_t *ret_length)
{
        _cleanup_free_ char *buffer = NULL;
        size_t used = 0, size = 0;

        for (;;) {
                struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
                char *newline, *grown;
                ssize_t n;
                int r;

                if (size - used < READ_BYTES) {
                        size = size * 2 + READ_BYTES;
                        grown = size <= CONTROL_ANSWER_MAX ? realloc(buffer, size) : NULL;
                        if (!grown)
                                return -EBADMSG;
                        buffer = grown;
                }
                r = poll(&poll_fd, 1, left_ms(until_ms));
                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0)
                        return r < 0 ? -errno : -ETIMEDOUT;
                n = recv(fd, buffer + used, size - used, MSG_DONTWAIT);
                if (n < 0 && (errno == EINTR || errno == EAGAIN))
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -ECONNRESET;
                newline = memchr(buffer + used, '\n', (size_t)n);
                used += (size_t)n;
                if (newline) {
                        *ret_length = (size_t)(newline - buffer);
                        *ret = TAKE_PTR(buffer);
                        return 0;
                }
        }
}

int control_ask(const char *path, const char *verb, json_t *arguments, __u64 until_ms, json_t **ret)
{
        _cleanup_free_ char *question = NULL, *line = NULL;
        _cleanup_close_ int fd = -1;
        json_t *answer;
        size_t length;
        int r;

        if (!arguments)
                arguments = json_object();
        (void)json_object_set_new(arguments, "v", json_integer(1));
        (void)json_object_set_new(arguments, "id", json_integer(1));
        (void)json_object_set_new(arguments, "verb", json_string(verb));
        question = json_dumps(arguments, JSON_COMPACT);
        json_decref(arguments);
        if (!question)
                return -ENOMEM;

        r = connect_to(path, until_ms, &fd);
        if (r < 0)
                return r;
        length = strlen(question);
        question[length] = '\n'; /* in place of the NUL */
        send_all(fd, question, length + 1);
        r = read_line(fd, until_ms, &line, &length);
        if (r < 0)
                return r;

        answer = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL);
        if (json_integer_value(json_object_get(answer, "v")) != 1) {
                json_decref(answer);
                return -EBADMSG;
        }
        if (!json_is_true(json_object_get(answer, "ok"))) {
                *ret = answer;
                return -EREMOTEIO;
        }
        *ret = json_incref(json_object_get(answer, "result"));
        json_decref(answer);
        return *ret ? 0 : -EBADMSG;
}
