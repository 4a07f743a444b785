/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Questions get an id that is free on the shared connection and their own back with the answer. A server that fails is
 * passed over for a while; what it had been asked is asked of the next one. libunbound repeats what is lost.
 */
#include "agentd/dns/tls_upstream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/dns/tls_connection.h"
#include "agentd/net/addr.h"
#include "agentd/net/dns_message.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) (oom = true)
#include <uthash.h>

enum {
        TICK_MS = 500,
        QUESTION_MS = 5000,
        IDLE_MS = 20000,
        BAD_MS = 10000,
        RETRY_MS = 1000,
        QUESTIONS_MAX = 4096,
        QUESTION_BYTES_MAX = 1024,
        BATCH = 32,
        DEFAULT_PORT = 853,
};

static const char ca_bundle[] = "/etc/ssl/certs/ca-certificates.crt";

struct server {
        struct tls_upstream *upstream;
        struct tls_server server;
        struct tls_connection *connection; /* NULL: none now */
        const char *text;                  /* of settings, which outlive it */
        __u64 used_ms, tried_ms, bad_until_ms;
        bool complained;
        unsigned n_waiting;
};

struct question {
        __u16 id; /* on the connection */
        __u16 own_id;
        struct sockaddr_in asker;
        struct server *server;
        unsigned n_tries;
        __u64 until_ms;
        size_t size;
        __u8 bytes[QUESTION_BYTES_MAX];
        UT_hash_handle hh;
};

struct tls_upstream {
        uv_loop_t *loop;
        uv_poll_t poll;
        uv_timer_t tick;
        int fd;
        SSL_CTX *tls;
        tls_upstream_is_own is_own;
        void *context;
        struct server servers[UPSTREAM_MAX];
        size_t n_servers;
        struct question *questions;
        __u16 next_id;
};

static void question_ask(struct question *question);

static void question_end(struct question *question)
{
        HASH_DELETE(hh, question->server->upstream->questions, question);
        question->server->n_waiting--;
        free(question);
}

static void server_answered(void *context, const __u8 *bytes, size_t size)
{
        static __u8 answer[DNS_MESSAGE_MAX]; /* one thread */
        struct server *server = context;
        struct question *question;
        __u16 id;

        if (size < DNS_HEADER_SIZE)
                return;
        id = dns_get16(bytes);
        HASH_FIND(hh, server->upstream->questions, &id, sizeof(id), question);
        if (!question || question->server != server)
                return;
        memcpy(answer, bytes, size);
        dns_put16(answer, question->own_id);
        /* Over loopback any size passes, and libunbound's buffer takes the largest. */
        (void)!sendto(server->upstream->fd, answer, size, MSG_DONTWAIT | MSG_NOSIGNAL,
                      (struct sockaddr *)&question->asker, sizeof(question->asker));
        server->used_ms = uv_now(server->upstream->loop);
        server->bad_until_ms = 0;
        server->complained = false;
        question_end(question);
}

static void server_closed(void *context, bool established, const char *refused)
{
        struct server *server = context;
        struct question *question, *next;

        server->connection = NULL;
        /* A server may close an idle connection at any moment; one that does not even shake hands is passed over. */
        if (!established)
                server->bad_until_ms = uv_now(server->upstream->loop) + BAD_MS;
        /* Once, until it answers again. */
        if (!established && !server->complained)
                log_warning("the upstream '%s' cannot be asked over TLS: %s", server->text,
                            refused ?: "no connection, or no TLS");
        server->complained = server->complained || !established;
        HASH_ITER (hh, server->upstream->questions, question, next)
                if (question->server == server)
                        question_ask(question);
}

static struct server *choose_server(struct tls_upstream *upstream)
{
        __u64 now_ms = uv_now(upstream->loop);
        struct server *best = &upstream->servers[0];

        for (size_t i = 0; i < upstream->n_servers; i++) {
                struct server *server = &upstream->servers[i];

                if (server->bad_until_ms <= now_ms)
                        return server;
                if (server->bad_until_ms < best->bad_until_ms)
                        best = server;
        }
        return best;
}

/* 0: there is a connection, perhaps not established yet. */
static int server_connect(struct server *server)
{
        static const struct tls_connection_callbacks callbacks = {server_answered, server_closed};
        struct tls_upstream *upstream = server->upstream;
        __u64 now_ms = uv_now(upstream->loop);

        if (server->connection)
                return 0;
        /* libunbound repeats itself quickly; a server that is known to be bad need not hear all of it. */
        if (server->bad_until_ms > now_ms && now_ms - server->tried_ms < RETRY_MS)
                return -EHOSTDOWN;
        server->tried_ms = now_ms;
        return tls_connection_new(upstream->loop, upstream->tls, &server->server, &callbacks, server,
                                  &server->connection);
}

static void question_ask(struct question *question)
{
        struct tls_upstream *upstream = question->server->upstream;
        struct server *server = choose_server(upstream);

        question->server->n_waiting--;
        question->server = server;
        server->n_waiting++;
        if (question->n_tries++ > upstream->n_servers || server_connect(server) < 0 ||
            tls_connection_send(server->connection, question->bytes, question->size) < 0) {
                /* SERVFAIL at once rather than a time-out. */
                question->bytes[2] |= 0x80;
                question->bytes[3] = 0x80 | DNS_SERVFAIL;
                dns_put16(question->bytes, question->own_id);
                (void)!sendto(upstream->fd, question->bytes, question->size, MSG_DONTWAIT | MSG_NOSIGNAL,
                              (struct sockaddr *)&question->asker, sizeof(question->asker));
                question_end(question);
                return;
        }
        server->used_ms = uv_now(upstream->loop);
}

static void question_new(struct tls_upstream *upstream, const __u8 *bytes, size_t size, const struct sockaddr_in *asker)
{
        struct question *question, *other;
        bool oom = false;

        if (HASH_COUNT(upstream->questions) >= QUESTIONS_MAX)
                return;
        question = calloc(1, sizeof(*question));
        if (!question)
                return;
        do {
                question->id = upstream->next_id++;
                HASH_FIND(hh, upstream->questions, &question->id, sizeof(question->id), other);
        } while (other);
        HASH_ADD(hh, upstream->questions, id, sizeof(question->id), question);
        if (oom) {
                free(question);
                return;
        }
        question->own_id = dns_get16(bytes);
        question->asker = *asker;
        question->until_ms = uv_now(upstream->loop) + QUESTION_MS;
        question->size = size;
        memcpy(question->bytes, bytes, size);
        dns_put16(question->bytes, question->id);
        question->server = &upstream->servers[0];
        question->server->n_waiting++;
        question_ask(question);
}

static void socket_ready(uv_poll_t *poll, int status, int events)
{
        struct tls_upstream *upstream = poll->data;

        for (unsigned i = 0; i < BATCH; i++) {
                __u8 bytes[QUESTION_BYTES_MAX];
                struct sockaddr_in asker;
                socklen_t length = sizeof(asker);
                ssize_t size = recvfrom(upstream->fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_TRUNC,
                                        (struct sockaddr *)&asker, &length);

                if (size < 0)
                        return;
                if (size >= DNS_HEADER_SIZE && size <= (ssize_t)sizeof(bytes) && !(bytes[2] & 0x80) &&
                    asker.sin_addr.s_addr == htonl(INADDR_LOOPBACK) &&
                    upstream->is_own(upstream->context, ntohs(asker.sin_port)))
                        question_new(upstream, bytes, (size_t)size, &asker);
        }
}

static void tick(uv_timer_t *timer)
{
        struct tls_upstream *upstream = timer->data;
        __u64 now_ms = uv_now(upstream->loop);
        struct question *question, *next;

        HASH_ITER (hh, upstream->questions, question, next)
                if (now_ms >= question->until_ms)
                        question_end(question);
        for (size_t i = 0; i < upstream->n_servers; i++) {
                struct server *server = &upstream->servers[i];

                if (server->connection && server->n_waiting == 0 && now_ms - server->used_ms > IDLE_MS)
                        tls_connection_close(TAKE_PTR(server->connection));
        }
}

/* "tls://ADDRESS[@PORT][#NAME]" */
static int server_parse(const char *text, struct tls_server *ret)
{
        struct tls_server server = {.address.sin6_family = AF_INET6};
        const char *name = strchr(text, '#'), *port = strchr(text, '@');
        unsigned long number = DEFAULT_PORT;
        char address_text[ADDRESS_TEXT_MAX];
        struct address address;
        size_t length;

        text += strlen("tls://");
        length = strcspn(text, "@#");
        if (length >= sizeof(address_text))
                return -EINVAL;
        memcpy(address_text, text, length);
        address_text[length] = 0;
        if (address_parse(address_text, &address) < 0)
                return -EINVAL;
        if (port && (!name || port < name)) {
                char *end;

                number = strtoul(port + 1, &end, 10);
                if (end == port + 1 || (*end && *end != '#') || number == 0 || number > 65535)
                        return -EINVAL;
        }
        if (name)
                snprintf(server.name, sizeof(server.name), "%s", name + 1);
        memcpy(&server.address.sin6_addr, address.bytes, 16);
        server.address.sin6_port = htons((__u16)number);
        *ret = server;
        return 0;
}

static int make_tls(struct tls_upstream *upstream, bool authenticated)
{
        /* No configuration file: it could load code into the worker. */
        OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
        upstream->tls = SSL_CTX_new(TLS_client_method());
        if (!upstream->tls || SSL_CTX_set_min_proto_version(upstream->tls, TLS1_2_VERSION) != 1)
                return log_error_errno(-ENOMEM, "cannot set up TLS");
        SSL_CTX_set_mode(upstream->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        if (authenticated && SSL_CTX_load_verify_locations(upstream->tls, ca_bundle, NULL) != 1)
                return log_error_errno(-ENOENT, "no CA bundle for DNS over TLS: install ca-certificates (%s)",
                                       ca_bundle);
        return 0;
}

static int open_socket(struct tls_upstream *upstream, __u16 *ret_port)
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof(address);
        int r;

        upstream->fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (upstream->fd < 0 || bind(upstream->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
            getsockname(upstream->fd, (struct sockaddr *)&address, &length) < 0)
                return log_error_errno(-errno, "cannot open the socket between libunbound and TLS");
        r = uv_poll_init(upstream->loop, &upstream->poll, upstream->fd);
        if (r < 0)
                return r;
        uv_timer_init(upstream->loop, &upstream->tick);
        upstream->poll.data = upstream->tick.data = upstream;
        uv_poll_start(&upstream->poll, UV_READABLE, socket_ready);
        uv_timer_start(&upstream->tick, tick, TICK_MS, TICK_MS);
        *ret_port = ntohs(address.sin_port);
        return 0;
}

int tls_upstream_new(uv_loop_t *loop, const struct message_settings *settings, tls_upstream_is_own is_own,
                     void *context, struct tls_upstream **ret, __u16 *ret_port)
{
        struct tls_upstream *upstream = calloc(1, sizeof(*upstream));
        bool authenticated = false;
        int r = 0;

        if (!upstream)
                return -ENOMEM;
        upstream->loop = loop;
        upstream->fd = -1;
        upstream->is_own = is_own;
        upstream->context = context;
        for (__u32 i = 0; r == 0 && i < settings->n_upstreams; i++) {
                struct server *server = &upstream->servers[upstream->n_servers];

                if (strncmp(settings->upstreams[i], "tls://", 6) != 0)
                        continue;
                r = server_parse(settings->upstreams[i], &server->server);
                if (r < 0)
                        log_error_errno(r, "upstream '%s' cannot be understood", settings->upstreams[i]);
                server->upstream = upstream;
                server->text = settings->upstreams[i];
                authenticated = authenticated || server->server.name[0];
                upstream->n_servers++;
        }
        if (r == 0)
                r = make_tls(upstream, authenticated);
        if (r == 0)
                r = open_socket(upstream, ret_port);
        if (r < 0) {
                tls_upstream_free(upstream);
                return r;
        }
        *ret = upstream;
        return 0;
}

void tls_upstream_free(struct tls_upstream *upstream)
{
        if (!upstream)
                return;
        SSL_CTX_free(upstream->tls);
        close_fd(&upstream->fd);
        free(upstream);
}
