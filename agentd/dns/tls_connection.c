/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * OpenSSL on a non-blocking socket, turned by one function: handshake, then write what waits, then read what came.
 */
#include "agentd/dns/tls_connection.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/net/dns_message.h"

enum { OUTPUT_MAX = 256 * 1024, HANDSHAKE_MS = 3000, RECORDS_PER_TURN = 16 };

struct tls_connection {
        uv_poll_t poll;
        uv_timer_t timer;
        unsigned n_open;
        int fd;
        SSL *ssl;
        struct tls_server server;
        struct tls_connection_callbacks callbacks;
        void *context; /* NULL: closed */
        bool established;
        bool turning; /* sends of a callback are written by the turn that called it */
        size_t n_output, n_input;
        __u8 output[OUTPUT_MAX];
        __u8 input[2 + DNS_MESSAGE_MAX];
};

static void poll_ready(uv_poll_t *poll, int status, int events);

static void handle_closed(uv_handle_t *handle)
{
        struct tls_connection *connection = handle->data;

        if (--connection->n_open > 0)
                return;
        SSL_free(connection->ssl);
        close(connection->fd);
        free(connection);
}

void tls_connection_close(struct tls_connection *connection)
{
        connection->context = NULL;
        uv_close((uv_handle_t *)&connection->poll, handle_closed);
        uv_close((uv_handle_t *)&connection->timer, handle_closed);
}

static void connection_over(struct tls_connection *connection)
{
        struct tls_connection_callbacks callbacks = connection->callbacks;
        void *context = connection->context;
        bool established = connection->established;
        long verified = SSL_get_verify_result(connection->ssl);
        const char *refused = NULL;

        if (!established && connection->server.name[0] && verified != X509_V_OK)
                refused = X509_verify_cert_error_string(verified);
        tls_connection_close(connection);
        callbacks.closed(context, established, refused);
}

/* 1: go on; 0: wait (for *ret_events); -1: over. */
static int judge(struct tls_connection *connection, int result, int *ret_events)
{
        switch (SSL_get_error(connection->ssl, result)) {
        case SSL_ERROR_NONE:
                return 1;
        case SSL_ERROR_WANT_READ:
                return 0;
        case SSL_ERROR_WANT_WRITE:
                *ret_events |= UV_WRITABLE;
                return 0;
        default:
                ERR_clear_error();
                return -1;
        }
}

static int write_waiting(struct tls_connection *connection, int *ret_events)
{
        while (connection->n_output > 0) {
                int n = SSL_write(connection->ssl, connection->output, (int)connection->n_output);
                int r = judge(connection, n, ret_events);

                if (r <= 0)
                        return r;
                connection->n_output -= (size_t)n;
                memmove(connection->output, connection->output + n, connection->n_output);
        }
        return 1;
}

static int read_messages(struct tls_connection *connection, int *ret_events)
{
        /* A bounded number of records a turn: a server that never stops must not stop us. What is in OpenSSL's hands
         * already shows on no descriptor, so that is read to its end. */
        for (unsigned i = 0; i < RECORDS_PER_TURN || SSL_pending(connection->ssl) > 0; i++) {
                size_t at = 0;
                int n, r;

                n = SSL_read(connection->ssl, connection->input + connection->n_input,
                             (int)(sizeof(connection->input) - connection->n_input));
                r = judge(connection, n, ret_events);
                if (r <= 0)
                        return r;
                connection->n_input += (size_t)n;
                while (connection->n_input - at >= 2) {
                        size_t size = dns_get16(connection->input + at);

                        if (connection->n_input - at - 2 < size)
                                break;
                        connection->callbacks.message(connection->context, connection->input + at + 2, size);
                        at += 2 + size;
                }
                connection->n_input -= at;
                memmove(connection->input, connection->input + at, connection->n_input);
        }
        return 1;
}

static void connection_turn(struct tls_connection *connection)
{
        int events = UV_READABLE, r = 1;

        connection->turning = true;
        if (!connection->established) {
                r = judge(connection, SSL_do_handshake(connection->ssl), &events);
                if (r > 0) {
                        connection->established = true;
                        uv_timer_stop(&connection->timer);
                }
        }
        if (connection->established) {
                r = read_messages(connection, &events);
                if (r >= 0)
                        r = write_waiting(connection, &events);
        }
        connection->turning = false;
        if (r < 0)
                connection_over(connection);
        else
                uv_poll_start(&connection->poll, events, poll_ready);
}

static void poll_ready(uv_poll_t *poll, int status, int events)
{
        struct tls_connection *connection = poll->data;

        if (connection->context)
                connection_turn(connection);
}

static void took_too_long(uv_timer_t *timer)
{
        struct tls_connection *connection = timer->data;

        if (connection->context)
                connection_over(connection);
}

int tls_connection_new(uv_loop_t *loop, SSL_CTX *tls, const struct tls_server *server,
                       const struct tls_connection_callbacks *callbacks, void *context, struct tls_connection **ret)
{
        bool ipv4 = IN6_IS_ADDR_V4MAPPED(&server->address.sin6_addr);
        const int one = 1;
        struct sockaddr_in address4 = {.sin_family = AF_INET, .sin_port = server->address.sin6_port};
        struct tls_connection *connection = calloc(1, sizeof(*connection));
        int r;

        if (!connection)
                return -ENOMEM;
        memcpy(&address4.sin_addr, server->address.sin6_addr.s6_addr + 12, 4);
        connection->server = *server;
        connection->callbacks = *callbacks;
        connection->context = context;
        connection->fd = socket(ipv4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        connection->ssl = SSL_new(tls);
        if (connection->fd < 0 || !connection->ssl) {
                r = connection->fd < 0 ? -errno : -ENOMEM;
                goto failed;
        }
        /* Small questions that must not wait for acknowledgements: ignoring a failure. */
        (void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (connect(connection->fd,
                    ipv4 ? (const struct sockaddr *)&address4 : (const struct sockaddr *)&server->address,
                    ipv4 ? sizeof(address4) : sizeof(server->address)) < 0 &&
            errno != EINPROGRESS) {
                r = -errno;
                goto failed;
        }
        r = -ENOMEM;
        if (SSL_set_fd(connection->ssl, connection->fd) != 1)
                goto failed;
        SSL_set_connect_state(connection->ssl);
        if (server->name[0]) {
                if (SSL_set1_host(connection->ssl, server->name) != 1 ||
                    SSL_set_tlsext_host_name(connection->ssl, server->name) != 1)
                        goto failed;
                SSL_set_verify(connection->ssl, SSL_VERIFY_PEER, NULL);
        } else {
                SSL_set_verify(connection->ssl, SSL_VERIFY_NONE, NULL);
        }
        r = uv_poll_init(loop, &connection->poll, connection->fd);
        if (r < 0)
                goto failed;
        uv_timer_init(loop, &connection->timer);
        connection->poll.data = connection->timer.data = connection;
        connection->n_open = 2;
        uv_timer_start(&connection->timer, took_too_long, HANDSHAKE_MS, 0);
        /* Connected when it becomes writable. */
        uv_poll_start(&connection->poll, UV_WRITABLE, poll_ready);
        *ret = connection;
        return 0;
failed:
        SSL_free(connection->ssl);
        if (connection->fd >= 0)
                close(connection->fd);
        free(connection);
        return r;
}

int tls_connection_send(struct tls_connection *connection, const __u8 *bytes, size_t size)
{
        if (size > DNS_MESSAGE_MAX || connection->n_output + 2 + size > sizeof(connection->output))
                return -ENOBUFS;
        dns_put16(connection->output + connection->n_output, (__u16)size);
        memcpy(connection->output + connection->n_output + 2, bytes, size);
        connection->n_output += 2 + size;
        /* Written when the loop says that it can be: no callback from here. */
        if (connection->established && !connection->turning)
                uv_poll_start(&connection->poll, UV_READABLE | UV_WRITABLE, poll_ready);
        return 0;
}
