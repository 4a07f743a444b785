/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Plain blocking sockets: a client that asks one thing needs no loop.
 *
 * The socket: --socket, else AGENTD_SOCKET, else daemon.socket of --config, else the default one; when nobody answers
 * there and the default configuration can be read, the one that it names.
 */
#include "agentd/ctl/client.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "agentd/ctl/config_file.h"
#include "agentd/ctl/print.h"
#include "agentd/util/cleanup.h"

static const char default_socket[] = "/run/agentd/agentd.sock";
static const char default_config[] = "/etc/agentd/agentd.yaml";

enum { LINE_MAX_BYTES = 64 * 1024 * 1024, READ_BYTES = 64 * 1024 };

struct client {
        int fd;
        char path[PATH_MAX];
        char *buffer; /* used bytes, of which `taken` were given out as a line */
        size_t used, size, taken;
};

static volatile sig_atomic_t client_interrupted;

static void client_close(struct client *client)
{
        close_fd(&client->fd);
        free(client->buffer);
        client->buffer = NULL;
}

static int connect_to(const char *path, int *ret_fd)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_close_ int fd = -1;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* 0; -errno of connect(); 1: the configuration is not valid (told). *status: what to exit with then. */
static int client_connect(const struct ctl_arguments *arguments, struct client *client, int *status)
{
        const char *environment = getenv("AGENTD_SOCKET");
        _cleanup_free_ char *configured = NULL;
        int r;

        client->fd = -1;
        if (arguments->socket) {
                snprintf(client->path, sizeof(client->path), "%s", arguments->socket);
        } else if (environment && environment[0] != '\0') {
                snprintf(client->path, sizeof(client->path), "%s", environment);
        } else if (arguments->config) {
                *status = config_file_socket(arguments->config, true, &configured);
                if (*status != CTL_OK)
                        return 1;
                snprintf(client->path, sizeof(client->path), "%s", configured ? configured : default_socket);
        } else {
                snprintf(client->path, sizeof(client->path), "%s", default_socket);
                r = connect_to(client->path, &client->fd);
                if ((r != -ENOENT && r != -ECONNREFUSED) || access(default_config, R_OK) < 0 ||
                    config_file_socket(default_config, false, &configured) != CTL_OK || !configured ||
                    !strcmp(configured, client->path))
                        return r;
                snprintf(client->path, sizeof(client->path), "%s", configured);
        }
        return connect_to(client->path, &client->fd);
}

static int client_open(const struct ctl_arguments *arguments, struct client *client)
{
        const char *advice = "";
        int status = CTL_FAILED;
        int r = client_connect(arguments, client, &status);

        if (r == 0)
                return CTL_OK;
        if (r > 0)
                return status;
        if (r == -ENOENT || r == -ECONNREFUSED)
                advice = "; start it with 'systemctl start agentd' or 'agentd serve'";
        else if (r == -EACCES || r == -EPERM)
                advice = "; be root or a member of the group 'agentd'";
        ctl_error("cannot reach the daemon at %s: %s%s", client->path, strerror(-r), advice);
        return CTL_UNREACHABLE;
}

int client_probe(const struct ctl_arguments *arguments, char *ret_path, size_t size)
{
        struct client client = {.fd = -1};
        int status = CTL_FAILED;
        int r = client_connect(arguments, &client, &status);

        snprintf(ret_path, size, "%s", client.path);
        client_close(&client);
        return r > 0 ? -EINVAL : r;
}

static int client_send(struct client *client, const char *verb, json_t *request)
{
        _cleanup_free_ char *text = NULL;
        size_t length, done = 0;

        if (!request)
                request = json_object();
        json_object_set_new(request, "v", json_integer(1));
        json_object_set_new(request, "id", json_integer(1));
        json_object_set_new(request, "verb", json_string(verb));
        text = json_dumps(request, JSON_COMPACT);
        json_decref(request);
        if (!text) {
                ctl_error("out of memory");
                return CTL_FAILED;
        }
        length = strlen(text);
        text[length++] = '\n'; /* in place of the NUL */
        while (done < length) {
                ssize_t n = send(client->fd, text + done, length - done, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                /* A daemon that refuses us closes at once: its reason still stands to be read. */
                if (n < 0)
                        break;
                done += (size_t)n;
        }
        return CTL_OK;
}

static unsigned long long now_ms(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (unsigned long long)now.tv_sec * 1000 + (unsigned long long)now.tv_nsec / 1000000;
}

/* 1: there is something to read; 0: interrupted, or stdout has no reader any more (streams only); -errno. */
static int client_await(struct client *client, unsigned long long until_ms, bool stream)
{
        struct pollfd fds[2] = {{.fd = client->fd, .events = POLLIN}, {.fd = stream ? STDOUT_FILENO : -1, .events = 0}};

        for (;;) {
                unsigned long long now = now_ms();
                int timeout = stream ? -1 : (int)MIN(until_ms > now ? until_ms - now : 0, (unsigned long long)INT_MAX);
                int r = poll(fds, 2, timeout);

                if (client_interrupted)
                        return 0;
                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return -errno;
                if (r == 0)
                        return -ETIMEDOUT;
                if (fds[1].revents & (POLLERR | POLLNVAL))
                        return 0;
                return 1;
        }
}

/* *ret: a line in the buffer, valid until the next call. 1; 0: ended by us; -errno. */
static int client_line(struct client *client, unsigned long long until_ms, bool stream, char **ret, size_t *ret_length)
{
        size_t searched = 0;

        memmove(client->buffer ? client->buffer : (char[1]){0},
                client->buffer ? client->buffer + client->taken : (char[1]){0}, client->used - client->taken);
        client->used -= client->taken;
        client->taken = 0;
        for (;;) {
                char *newline = client->used > searched
                                        ? memchr(client->buffer + searched, '\n', client->used - searched)
                                        : NULL;
                ssize_t n;
                int r;

                if (newline) {
                        *ret = client->buffer;
                        *ret_length = (size_t)(newline - client->buffer);
                        client->taken = *ret_length + 1;
                        return 1;
                }
                searched = client->used;
                if (client->used >= LINE_MAX_BYTES)
                        return -EMSGSIZE;
                if (client->size - client->used < READ_BYTES) {
                        size_t size = MAX(client->size * 2, 2u * READ_BYTES);
                        char *buffer = realloc(client->buffer, size);

                        if (!buffer)
                                return -ENOMEM;
                        client->buffer = buffer;
                        client->size = size;
                }
                r = client_await(client, until_ms, stream);
                if (r <= 0)
                        return r;
                n = recv(client->fd, client->buffer + client->used, client->size - client->used, 0);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return -ECONNRESET;
                client->used += (size_t)n;
        }
}

/* The daemon's error on stderr; its exit status. */
static int tell_error(const json_t *answer)
{
        json_int_t status = json_number(answer, "exit");
        const json_t *errors = json_object_get(answer, "errors"), *place;
        size_t i;

        json_array_foreach(errors, i, place)
        {
                bool warning = !strcmp(json_text(place, "kind"), "warning");

                ctl_error("%s:%lld:%lld: %s%s", json_text(place, "file"), (long long)json_number(place, "line"),
                          (long long)json_number(place, "column"), warning ? "warning: " : "",
                          json_text(place, "text"));
        }
        if (json_array_size(errors) == 0)
                ctl_error("%s", json_text(answer, "error")[0] ? json_text(answer, "error")
                                                              : "the daemon sent an error without words");
        return status >= CTL_FAILED && status <= CTL_UNENFORCEABLE ? (int)status : CTL_FAILED;
}

static int tell_broken(const struct client *client, int error, unsigned long long timeout_ms)
{
        if (error == -ETIMEDOUT)
                ctl_error("the daemon at %s has not answered within %llu s", client->path, timeout_ms / 1000);
        else if (error == -ECONNRESET || error == -EPIPE)
                ctl_error("the daemon at %s has closed the connection", client->path);
        else
                ctl_error("cannot read from the daemon at %s: %s", client->path, strerror(-error));
        return error == -ENOMEM || error == -EMSGSIZE ? CTL_FAILED : CTL_UNREACHABLE;
}

static json_t *parse_answer(const struct client *client, const char *line, size_t length)
{
        json_t *answer = json_loadb(line, length, 0, NULL);

        if (json_is_object(answer) && json_number(answer, "v") == 1)
                return answer;
        json_decref(answer);
        ctl_error("what answers at %s is no agentd, or one with another protocol", client->path);
        return NULL;
}

int client_ask(const struct ctl_arguments *arguments, const char *verb, json_t *request, unsigned long long timeout_ms,
               json_t **ret)
{
        _cleanup_(client_close) struct client client = {.fd = -1};
        json_t *answer;
        size_t length;
        char *line;
        int r;

        r = client_open(arguments, &client);
        if (r != CTL_OK) {
                json_decref(request);
                return r;
        }
        r = client_send(&client, verb, request);
        if (r != CTL_OK)
                return r;
        r = client_line(&client, now_ms() + timeout_ms, false, &line, &length);
        if (r <= 0)
                return tell_broken(&client, r, timeout_ms);

        answer = parse_answer(&client, line, length);
        if (!answer)
                return CTL_FAILED;
        if (json_is_true(json_object_get(answer, "ok"))) {
                *ret = json_incref(json_object_get(answer, "result"));
                r = *ret ? CTL_OK : CTL_FAILED;
        } else {
                r = tell_error(answer);
        }
        json_decref(answer);
        return r;
}

static void on_interrupt(int number UNUSED)
{
        client_interrupted = 1;
}

int client_stream(const struct ctl_arguments *arguments, const char *verb, json_t *request, client_stream_fn function)
{
        _cleanup_(client_close) struct client client = {.fd = -1};
        const struct sigaction interrupt = {.sa_handler = on_interrupt};
        bool more = true;
        size_t length;
        char *line;
        int r;

        r = client_open(arguments, &client);
        if (r != CTL_OK) {
                json_decref(request);
                return r;
        }
        sigaction(SIGINT, &interrupt, NULL);
        sigaction(SIGTERM, &interrupt, NULL);
        r = client_send(&client, verb, request);
        while (r == CTL_OK && more) {
                json_t *answer;

                r = client_line(&client, 0, true, &line, &length);
                if (r == 0)
                        return CTL_OK;
                if (r < 0)
                        return tell_broken(&client, r, 0);
                answer = parse_answer(&client, line, length);
                if (!answer)
                        return CTL_FAILED;
                r = CTL_OK;
                if (json_is_true(json_object_get(answer, "stream")))
                        more = function(json_object_get(answer, "result"));
                else if (json_is_true(json_object_get(answer, "ok")))
                        more = false;
                else
                        r = tell_error(answer);
                json_decref(answer);
        }
        return r;
}
