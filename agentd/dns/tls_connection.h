/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One TLS connection to a name server, opened when there is something to ask.
 */
#pragma once

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <uv.h>

#include "agentd/abi_message.h"

enum { TLS_NAME_MAX = UPSTREAM_TEXT_MAX };

struct tls_connection;

struct tls_server {
        struct sockaddr_in6 address; /* IPv4 as v4-mapped */
        char name[TLS_NAME_MAX];     /* to be verified; empty: encrypted, not authenticated */
};

struct tls_connection_callbacks {
        /* One message without its length. */
        void (*message)(void *context, const __u8 *bytes, size_t size);
        /* It is over; the connection is not to be used after the call. established: the handshake had been done.
         * refused: what is wrong with the server's certificate, or NULL. */
        void (*closed)(void *context, bool established, const char *refused);
};

int tls_connection_new(uv_loop_t *loop, SSL_CTX *tls, const struct tls_server *server,
                       const struct tls_connection_callbacks *callbacks, void *context, struct tls_connection **ret);
/* No callback comes of it. */
void tls_connection_close(struct tls_connection *connection);
/* 0; -ENOBUFS: more is waiting than a server would let wait. May not call back. */
int tls_connection_send(struct tls_connection *connection, const __u8 *bytes, size_t size);
