/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * UDP in batches (recvmmsg, sendmmsg), one bounded batch a listener and turn of the loop: a flood on one listener
 * delays the others by one batch, no more. TCP is in listener_tcp.c.
 */
#include "agentd/dns/listener.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/address_class.h"
#include "agentd/dns/limit.h"
#include "agentd/dns/listener_tcp.h"
#include "agentd/net/dns_message.h"
#include "agentd/util/cleanup.h"

enum { BATCH = 32, QUERY_MAX = 2048 };

struct listener_pool {
        struct mmsghdr received[BATCH];
        struct iovec received_parts[BATCH];
        union socket_address sources[BATCH];
        __u8 queries[BATCH][QUERY_MAX];

        /* Replies that were given while a batch is being read leave in one call at its end. */
        const struct listener *batching;
        int batching_fd;
        size_t n_replies;
        struct mmsghdr replies[BATCH];
        struct iovec reply_parts[BATCH];
        union socket_address destinations[BATCH];
        __u8 reply_bytes[BATCH][DNS_UDP_MAX];
};

struct udp_socket {
        uv_poll_t poll;
        struct listener *listener;
        int fd;
};

struct listener {
        uv_loop_t *loop;
        struct listener_pool *pool;
        __u32 id;
        unsigned n_references; /* the owner, each open handle, each held client */
        bool closed;
        listener_query query;
        void *context;
        struct udp_socket udp[2]; /* IPv4, IPv6; fd -1: absent */
        struct tcp_acceptor *tcp[2];
};

int listener_pool_new(struct listener_pool **ret)
{
        struct listener_pool *pool = calloc(1, sizeof(*pool));

        if (!pool)
                return -ENOMEM;
        *ret = pool;
        return 0;
}

void listener_pool_free(struct listener_pool *pool)
{
        free(pool);
}

static void listener_release(struct listener *listener)
{
        if (--listener->n_references == 0)
                free(listener);
}

static void udp_closed(uv_handle_t *handle)
{
        struct udp_socket *udp = handle->data;

        close_fd(&udp->fd);
        listener_release(udp->listener);
}

static void replies_flush(struct listener_pool *pool)
{
        size_t sent = 0;

        while (sent < pool->n_replies) {
                int n = sendmmsg(pool->batching_fd, pool->replies + sent, (unsigned)(pool->n_replies - sent),
                                 MSG_DONTWAIT | MSG_NOSIGNAL);

                /* What cannot be sent is lost, as UDP is; the one in front must not hold up the rest. */
                sent += n > 0 ? (size_t)n : 1;
        }
        pool->n_replies = 0;
}

static void udp_ready(uv_poll_t *poll, int status, int events)
{
        struct udp_socket *udp = poll->data;
        struct listener *listener = udp->listener;
        struct listener_pool *pool = listener->pool;
        int n_received;

        for (size_t i = 0; i < BATCH; i++) {
                pool->received_parts[i] = (struct iovec){pool->queries[i], QUERY_MAX};
                pool->received[i].msg_hdr = (struct msghdr){
                        .msg_name = &pool->sources[i],
                        .msg_namelen = sizeof(pool->sources[i]),
                        .msg_iov = &pool->received_parts[i],
                        .msg_iovlen = 1,
                };
        }
        n_received = recvmmsg(udp->fd, pool->received, BATCH, MSG_DONTWAIT, NULL);
        if (n_received <= 0)
                return;

        listener->n_references++;
        pool->batching = listener;
        pool->batching_fd = udp->fd;
        for (int i = 0; i < n_received && !listener->closed; i++) {
                struct listener_client client = {.listener = listener, .source = pool->sources[i]};

                /* Longer than any query: dropped, not read in part. */
                if (pool->received[i].msg_hdr.msg_flags & MSG_TRUNC)
                        continue;
                listener->query(listener->context, &client, pool->queries[i], pool->received[i].msg_len);
        }
        if (!listener->closed)
                replies_flush(pool);
        pool->n_replies = 0;
        pool->batching = NULL;
        listener_release(listener);
}

static int udp_start(struct listener *listener, struct udp_socket *udp, int fd)
{
        int r;

        udp->listener = listener;
        r = uv_poll_init(listener->loop, &udp->poll, fd);
        if (r < 0) {
                close(fd);
                return r;
        }
        udp->fd = fd;
        udp->poll.data = udp;
        listener->n_references++;
        return uv_poll_start(&udp->poll, UV_READABLE, udp_ready);
}

static void tcp_query(void *context, struct tcp_client *connection, const union socket_address *source,
                      const void *packet, size_t size)
{
        struct listener *listener = context;
        struct listener_client client = {.listener = listener, .connection = connection, .source = *source};

        if (!listener->closed)
                listener->query(listener->context, &client, packet, size);
}

static void tcp_acceptor_gone(void *context)
{
        listener_release(context);
}

int listener_new(uv_loop_t *loop, struct listener_pool *pool, __u32 id, const int fds[LISTENER_SOCKETS],
                 unsigned *n_connections, listener_query query, void *context, struct listener **ret)
{
        struct listener *listener = calloc(1, sizeof(*listener));
        int r = listener ? 0 : -ENOMEM;

        if (listener) {
                *listener = (struct listener){
                        .loop = loop,
                        .pool = pool,
                        .id = id,
                        .n_references = 1,
                        .query = query,
                        .context = context,
                        .udp = {{.fd = -1}, {.fd = -1}},
                };
        }
        for (size_t i = 0; i < LISTENER_SOCKETS; i++) {
                bool tcp = i == LISTENER_TCP4 || i == LISTENER_TCP6;
                size_t family = i >= LISTENER_UDP6;

                if (fds[i] < 0)
                        continue;
                if (r < 0) {
                        close(fds[i]);
                } else if (!tcp) {
                        r = udp_start(listener, &listener->udp[family], fds[i]);
                } else {
                        r = tcp_acceptor_new(loop, fds[i], n_connections, tcp_query, tcp_acceptor_gone, listener,
                                             &listener->tcp[family]);
                        if (r == 0)
                                listener->n_references++;
                }
        }
        if (r < 0) {
                if (listener)
                        listener_close(listener);
                return r;
        }
        *ret = listener;
        return 0;
}

void listener_close(struct listener *listener)
{
        listener->closed = true;
        for (size_t i = 0; i < 2; i++) {
                if (listener->udp[i].fd >= 0)
                        uv_close((uv_handle_t *)&listener->udp[i].poll, udp_closed);
                if (listener->tcp[i])
                        tcp_acceptor_close(listener->tcp[i]);
        }
        listener_release(listener);
}

__u32 listener_id(const struct listener *listener)
{
        return listener->id;
}

int listener_udp_client(struct listener *listener, const struct address *source, __u16 port,
                        struct listener_client *ret)
{
        struct listener_client client = {.listener = listener};

        if (address_is_ipv4(source)) {
                client.source.ipv4.sin_family = AF_INET;
                client.source.ipv4.sin_port = htons(port);
                client.source.ipv4.sin_addr.s_addr = source->words[3];
        } else {
                client.source.ipv6.sin6_family = AF_INET6;
                client.source.ipv6.sin6_port = htons(port);
                memcpy(&client.source.ipv6.sin6_addr, source->bytes, 16);
        }
        if (listener->udp[client.source.any.sa_family == AF_INET6].fd < 0)
                return -ENOENT;
        *ret = client;
        return 0;
}

struct listener_client listener_client_hold(const struct listener_client *client)
{
        client->listener->n_references++;
        if (client->connection)
                tcp_client_hold(client->connection);
        return *client;
}

void listener_client_release(struct listener_client *client)
{
        if (client->connection)
                tcp_client_release(client->connection);
        listener_release(client->listener);
        client->listener = NULL;
        client->connection = NULL;
}

bool listener_client_same(const struct listener_client *a, const struct listener_client *b)
{
        struct address address_a, address_b;
        __u16 port_a, port_b;

        listener_client_address(a, &address_a, &port_a);
        listener_client_address(b, &address_b, &port_b);
        return a->listener == b->listener && a->connection == b->connection && port_a == port_b &&
               memcmp(&address_a, &address_b, sizeof(address_a)) == 0;
}

void listener_client_address(const struct listener_client *client, struct address *ret, __u16 *ret_port)
{
        if (client->source.any.sa_family == AF_INET) {
                address_from_ipv4(ret, client->source.ipv4.sin_addr.s_addr);
                *ret_port = ntohs(client->source.ipv4.sin_port);
        } else {
                memcpy(ret->bytes, &client->source.ipv6.sin6_addr, 16);
                *ret_port = ntohs(client->source.ipv6.sin6_port);
        }
}

void listener_reply(const struct listener_client *client, const void *packet, size_t size)
{
        bool ipv6 = client->source.any.sa_family == AF_INET6;
        struct listener *listener = client->listener;
        struct listener_pool *pool = listener->pool;
        socklen_t length = ipv6 ? sizeof(client->source.ipv6) : sizeof(client->source.ipv4);
        int fd = listener->udp[ipv6].fd;

        if (listener->closed || size == 0)
                return;
        if (client->connection) {
                tcp_client_reply(client->connection, packet, size);
                return;
        }
        if (fd < 0 || size > DNS_UDP_MAX)
                return;
        if (pool->batching != listener || pool->batching_fd != fd) {
                /* A full send buffer or a vanished client: lost, as UDP is; the client asks again. */
                (void)!sendto(fd, packet, size, MSG_DONTWAIT | MSG_NOSIGNAL, &client->source.any, length);
                return;
        }
        if (pool->n_replies == BATCH)
                replies_flush(pool);
        memcpy(pool->reply_bytes[pool->n_replies], packet, size);
        pool->destinations[pool->n_replies] = client->source;
        pool->reply_parts[pool->n_replies] = (struct iovec){pool->reply_bytes[pool->n_replies], size};
        pool->replies[pool->n_replies].msg_hdr = (struct msghdr){
                .msg_name = &pool->destinations[pool->n_replies],
                .msg_namelen = length,
                .msg_iov = &pool->reply_parts[pool->n_replies],
                .msg_iovlen = 1,
        };
        pool->n_replies++;
}
