/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The sockets on which one agent's look-ups arrive: UDP and TCP, IPv4 and IPv6, opened by the monitor inside the
 * agent's network namespace. The socket is the identity: whoever can reach it is that agent.
 *
 * Lifetime: a waiting look-up holds a reference to its client, so a listener or a connection that is closed in between
 * swallows the reply instead of dangling.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "agentd/abi_message.h"

struct listener;
struct listener_pool;
struct tcp_client;

enum listener_socket {
        LISTENER_UDP4,
        LISTENER_TCP4,
        LISTENER_UDP6,
        LISTENER_TCP6,
        LISTENER_SOCKETS,
};

union socket_address {
        struct sockaddr any;
        struct sockaddr_in ipv4;
        struct sockaddr_in6 ipv6;
};

/* Where a query came from and its reply goes. */
struct listener_client {
        struct listener *listener;
        struct tcp_client *connection; /* NULL: UDP */
        union socket_address source;
};

/* client is valid during the call; listener_client_hold() to keep a copy. */
typedef void (*listener_query)(void *context, const struct listener_client *client, const void *packet, size_t size);

/* Buffers for batches, one pool for all listeners of a loop. */
int listener_pool_new(struct listener_pool **ret);
void listener_pool_free(struct listener_pool *pool);

/*
 * fds: by enum listener_socket, -1: absent; taken over whatever is returned. n_connections: the agent's, shared by its
 * listeners; must outlive listener_close().
 */
int listener_new(uv_loop_t *loop, struct listener_pool *pool, __u32 id, const int fds[LISTENER_SOCKETS],
                 unsigned *n_connections, listener_query query, void *context, struct listener **ret);
/* Stops, closes the sockets and connections. Memory goes with the last reference. */
void listener_close(struct listener *listener);
__u32 listener_id(const struct listener *listener);

/* A client as if its query had come to the UDP socket of the source's family; -ENOENT when there is none. */
int listener_udp_client(struct listener *listener, const struct address *source, __u16 port,
                        struct listener_client *ret);

struct listener_client listener_client_hold(const struct listener_client *client);
void listener_client_release(struct listener_client *client);
bool listener_client_same(const struct listener_client *a, const struct listener_client *b);
void listener_client_address(const struct listener_client *client, struct address *ret, __u16 *ret_port);
/* The reply is sent, batched or dropped (the client is gone, or does not read): never an error for the caller. */
void listener_reply(const struct listener_client *client, const void *packet, size_t size);
