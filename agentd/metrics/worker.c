/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * libmicrohttpd on our own poll(), in one thread. A request waits (suspended) for pages that are not older than
 * FRESH_MS; all who wait are served by one answer, so a crowd of scrapers costs the monitor no more than one.
 */
#include "agentd/metrics/worker.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <jansson.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "agentd/metrics/exchange.h"
#include "agentd/process/confine.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"
#include "agentd/util/macro.h"

enum {
        FRESH_MS = 200,
        ANSWER_MS = 5000,
        CONNECTIONS_MAX = 64,
        IDLE_S = 5,
        LOOK_MS = 1000,
        MEMORY_MAX = 32 * 1024, /* of one connection: request line and headers */
        SETTINGS_MS = 5000,
};

struct waiting {
        struct waiting *next;
        struct MHD_Connection *connection;
        bool tried;
};

struct server {
        int fd; /* to the monitor */
        struct MHD_Daemon *daemon;
        struct waiting *waiting;
        struct MHD_Response *metrics, *health;
        bool ready;
        char reason[METRICS_REASON_MAX];
        __u64 pages_ms, asked_ms; /* CLOCK_MONOTONIC; asked_ms 0: nothing is asked */
        char *token;
        char *certificate, *key, *client_ca;
};

static __u64 now_ms(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (__u64)now.tv_sec * 1000 + (__u64)now.tv_nsec / NSEC_PER_MSEC;
}

/* --- who may ask -----------------------------------------------------------------------------------------------------
 */

/* Takes the same time wherever they differ; the length of the token is no secret. */
static bool equal_in_constant_time(const char *left, const char *right)
{
        size_t length = strlen(left);
        unsigned char difference = 0;

        if (strlen(right) != length)
                return false;
        for (size_t i = 0; i < length; i++)
                difference |= (unsigned char)(left[i] ^ right[i]);
        return difference == 0;
}

static bool has_token(const struct server *server, struct MHD_Connection *connection)
{
        static const char scheme[] = "Bearer ";
        const char *given = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);

        return given && strncasecmp(given, scheme, strlen(scheme)) == 0 &&
               equal_in_constant_time(server->token, given + strlen(scheme));
}

/* The handshake asks for a certificate and lets go on without one: who must have one is judged here. */
static bool has_certificate(struct MHD_Connection *connection)
{
        const union MHD_ConnectionInfo *information =
                MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        unsigned int status = 0;

        if (!information || !information->tls_session)
                return false;
        return gnutls_certificate_type_get(information->tls_session) == GNUTLS_CRT_X509 &&
               gnutls_certificate_verify_peers2(information->tls_session, &status) == GNUTLS_E_SUCCESS && status == 0;
}

/* Either is enough: the configuration asks for one of them at least where strangers can reach us. */
static bool is_allowed(const struct server *server, struct MHD_Connection *connection)
{
        if (!server->token && !server->client_ca)
                return true;
        return (server->token && has_token(server, connection)) || (server->client_ca && has_certificate(connection));
}

/* --- answers ---------------------------------------------------------------------------------------------------------
 */

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned int status, const char *text)
{
        struct MHD_Response *response =
                MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_MUST_COPY);
        enum MHD_Result result;

        if (!response)
                return MHD_NO;
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; charset=utf-8");
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
        if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
                (void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
        if (status == MHD_HTTP_UNAUTHORIZED)
                (void)MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
        result = MHD_queue_response(connection, status, response);
        MHD_destroy_response(response);
        return result;
}

static enum MHD_Result answer_pages(const struct server *server, struct MHD_Connection *connection, const char *path)
{
        char text[METRICS_REASON_MAX + 2];

        if (!strcmp(path, "/metrics"))
                return MHD_queue_response(connection, MHD_HTTP_OK, server->metrics);
        if (!strcmp(path, "/health"))
                return MHD_queue_response(connection, server->ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                                          server->health);
        if (!strcmp(path, "/healthz"))
                return answer_text(connection, MHD_HTTP_OK, "ok\n");
        snprintf(text, sizeof(text), "%s\n", server->ready ? "ready" : server->reason);
        return answer_text(connection, server->ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, text);
}

static bool is_page(const char *path)
{
        static const char *const paths[] = {"/metrics", "/healthz", "/readyz", "/health"};

        for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
                if (!strcmp(path, paths[i]))
                        return true;
        return false;
}

static bool is_fresh(const struct server *server)
{
        return server->pages_ms && now_ms() - server->pages_ms <= FRESH_MS;
}

static void ask(struct server *server)
{
        static const struct metrics_message message = {.kind = METRICS_ASK};

        if (!server->asked_ms && exchange_send(server->fd, &message, NULL, 0) == 0)
                server->asked_ms = now_ms();
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *upload, size_t *upload_size,
                                  void **request)
{
        struct server *server = context;
        struct waiting *waiting = *request;

        if (!waiting) { /* the headers are there; an answer comes at the next call */
                waiting = calloc(1, sizeof(*waiting));
                *request = waiting;
                return waiting ? MHD_YES : MHD_NO;
        }
        if (*upload_size > 0) {
                *upload_size = 0; /* a body is of no use, and is not kept */
                return MHD_YES;
        }
        if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
                return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        if (!is_allowed(server, connection))
                return answer_text(connection, MHD_HTTP_UNAUTHORIZED,
                                   "a bearer token or a client certificate is needed\n");
        if (!strcmp(path, "/"))
                return answer_text(connection, MHD_HTTP_OK, "agentd: /metrics /healthz /readyz /health\n");
        if (!is_page(path))
                return answer_text(connection, MHD_HTTP_NOT_FOUND,
                                   "there are /metrics, /healthz, /readyz and /health\n");
        if (is_fresh(server))
                return answer_pages(server, connection, path);
        if (waiting->tried)
                return answer_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
                                   "the daemon does not answer; what it has enforced stays enforced\n");
        waiting->tried = true;
        waiting->connection = connection;
        waiting->next = server->waiting;
        server->waiting = waiting;
        MHD_suspend_connection(connection);
        ask(server);
        return MHD_YES;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **request,
                         enum MHD_RequestTerminationCode code)
{
        struct server *server = context;

        for (struct waiting **link = &server->waiting; *link; link = &(*link)->next)
                if (*link == *request) {
                        *link = (*link)->next;
                        break;
                }
        free(*request);
        *request = NULL;
}

static void wake_all(struct server *server)
{
        while (server->waiting) {
                struct waiting *waiting = server->waiting;

                server->waiting = waiting->next;
                waiting->next = NULL;
                MHD_resume_connection(waiting->connection);
        }
}

/* --- the monitor -----------------------------------------------------------------------------------------------------
 */

static struct MHD_Response *response_of(const char *text, size_t size, const char *type)
{
        struct MHD_Response *response = MHD_create_response_from_buffer(size, (void *)text, MHD_RESPMEM_MUST_COPY);

        if (response) {
                (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
                (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
        }
        return response;
}

static int take_pages(struct server *server, const struct metrics_message *message, int fd)
{
        size_t size = (size_t)message->metrics_size + message->health_size;
        struct MHD_Response *metrics, *health;
        _cleanup_free_ char *text = NULL;
        int r;

        if (size > METRICS_PAGES_MAX)
                return -EBADMSG;
        r = exchange_read(fd, size, &text);
        if (r < 0)
                return r;
        metrics = response_of(text, message->metrics_size, "text/plain; version=0.0.4; charset=utf-8");
        health = response_of(text + message->metrics_size, message->health_size, "application/json");
        if (!metrics || !health) {
                if (metrics)
                        MHD_destroy_response(metrics);
                if (health)
                        MHD_destroy_response(health);
                return -ENOMEM;
        }
        if (server->metrics)
                MHD_destroy_response(server->metrics);
        if (server->health)
                MHD_destroy_response(server->health);
        server->metrics = metrics;
        server->health = health;
        server->ready = message->ready;
        memcpy(server->reason, message->reason, sizeof(server->reason));
        server->pages_ms = now_ms();
        return 0;
}

/* 0, or -errno when the monitor has gone. */
static int hear(struct server *server)
{
        for (;;) {
                struct metrics_message message;
                int fds[EXCHANGE_FDS_MAX];
                int r = exchange_receive(server->fd, &message, fds);

                if (r == -EAGAIN)
                        return 0;
                if (r < 0)
                        return r;
                r = message.kind == METRICS_PAGES && fds[0] >= 0 ? take_pages(server, &message, fds[0]) : -EBADMSG;
                for (size_t i = 0; i < EXCHANGE_FDS_MAX; i++)
                        close_fd(&fds[i]);
                if (r == -EBADMSG)
                        return r;
                server->asked_ms = 0;
                wake_all(server);
        }
}

static char *secret(const json_t *secrets, const char *name)
{
        const char *text = json_string_value(json_object_get(secrets, name));

        return text ? strdup(text) : NULL;
}

static int take_settings(struct server *server, int *ret_listener)
{
        struct pollfd readable = {.fd = server->fd, .events = POLLIN};
        struct metrics_message message;
        int fds[EXCHANGE_FDS_MAX];
        _cleanup_close_ int memory = -1;
        _cleanup_free_ char *text = NULL;
        json_t *secrets;
        int r;

        if (poll(&readable, 1, SETTINGS_MS) != 1)
                return -ETIMEDOUT;
        r = exchange_receive(server->fd, &message, fds);
        if (r < 0)
                return r;
        *ret_listener = fds[0];
        memory = fds[1];
        if (message.kind != METRICS_SETTINGS || fds[0] < 0 || message.secrets_size > METRICS_SECRETS_MAX)
                return -EBADMSG;
        if (message.secrets_size == 0)
                return 0;
        r = exchange_read(memory, message.secrets_size, &text);
        if (r < 0)
                return r;
        secrets = json_loadb(text, message.secrets_size, 0, NULL);
        explicit_bzero(text, message.secrets_size);
        if (!secrets)
                return -EBADMSG;
        server->token = secret(secrets, "token");
        server->certificate = secret(secrets, "certificate");
        server->key = secret(secrets, "key");
        server->client_ca = secret(secrets, "client_ca");
        json_decref(secrets);
        return 0;
}

/* --- the process -----------------------------------------------------------------------------------------------------
 */

static void on_log(void *context, const char *format, va_list arguments)
{
        char text[512];

        /* A stranger's broken handshake is no news. */
        (void)vsnprintf(text, sizeof(text), format, arguments);
        log_debug("metrics: %.*s", (int)strcspn(text, "\n"), text);
}

static int start_server(struct server *server, int listener)
{
        unsigned int flags = MHD_USE_EPOLL | MHD_USE_ERROR_LOG | MHD_ALLOW_SUSPEND_RESUME;
        struct MHD_OptionItem options[12] = {
                {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_log, server},
                {MHD_OPTION_LISTEN_SOCKET, listener, NULL},
                {MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, NULL},
                {MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S, NULL},
                {MHD_OPTION_CONNECTION_MEMORY_LIMIT, MEMORY_MAX, NULL},
                {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, server},
        };
        size_t n = 6;

        if (server->certificate) {
                flags |= MHD_USE_TLS;
                options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, server->certificate};
                options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, server->key};
                options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0,
                                                       (void *)"SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"};
                if (server->client_ca)
                        options[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, server->client_ca};
        }
        options[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
        server->daemon =
                MHD_start_daemon(flags, 0, NULL, NULL, on_request, server, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
        return server->daemon ? 0 : -EINVAL;
}

static int serve(struct server *server)
{
        const union MHD_DaemonInfo *information = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD);

        if (!information)
                return -EINVAL;
        for (;;) {
                struct pollfd fds[2] = {{.fd = information->epoll_fd, .events = POLLIN},
                                        {.fd = server->fd, .events = POLLIN}};
                MHD_UNSIGNED_LONG_LONG wait = 0;
                int timeout = LOOK_MS, r;

                if (MHD_get_timeout(server->daemon, &wait) == MHD_YES)
                        timeout = (int)MIN(wait, (MHD_UNSIGNED_LONG_LONG)LOOK_MS);
                r = poll(fds, 2, timeout);
                if (r < 0 && errno != EINTR)
                        return -errno;
                if (fds[1].revents) {
                        r = hear(server);
                        if (r < 0)
                                return r == -ECONNRESET ? 0 : r;
                }
                if (server->asked_ms && now_ms() - server->asked_ms > ANSWER_MS) {
                        server->asked_ms = 0;
                        wake_all(server);
                } else if (server->waiting && !server->asked_ms) {
                        ask(server); /* its socket was full */
                }
                /* Twice: after the limit of connections was reached it listens again at the run that follows the one in
                 * which they ended (MHD_epoll() in libmicrohttpd 0.9.75), and asks for no time-out in between. */
                if (MHD_run(server->daemon) != MHD_YES || MHD_run(server->daemon) != MHD_YES)
                        return -EIO;
        }
}

int metrics_worker_main(int fd)
{
        static const struct metrics_message ready = {.kind = METRICS_READY};
        struct server server = {.fd = fd};
        int listener = -1, r;

        r = confine_begin(fd);
        if (r == 0)
                r = take_settings(&server, &listener);
        if (r == 0)
                r = start_server(&server, listener);
        if (r == 0)
                r = confine_complete(CONFINE_METRICS);
        if (r == 0)
                r = exchange_send(fd, &ready, NULL, 0);
        if (r == 0)
                r = serve(&server);
        return r < 0 ? -r : 0; /* the process ends: nothing is freed */
}
