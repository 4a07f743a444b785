/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One buffer a connection, for one query: what does not fit waits in the socket.
 */
#include "agentd/dns/listener_tcp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentd/dns/limit.h"
#include "agentd/net/dns_message.h"

struct tcp_acceptor {
        uv_tcp_t handle;
        struct tcp_client *clients;
        unsigned *n_connections;
        tcp_client_query query;
        void (*gone)(void *);
        void *context;
};

struct tcp_client {
        uv_tcp_t handle;
        uv_timer_t idle;
        struct tcp_acceptor *acceptor; /* NULL: closed */
        struct tcp_client *previous, *next;
        unsigned n_references; /* two handles, each held client */
        unsigned n_held;       /* queries that wait for their answers */
        union socket_address source;
        size_t used;
        __u8 buffer[2 + DNS_TCP_QUERY_MAX];
};

struct reply {
        uv_write_t request;
        __u8 bytes[];
};

static void client_unref(struct tcp_client *client)
{
        if (--client->n_references == 0)
                free(client);
}

static void client_handle_closed(uv_handle_t *handle)
{
        client_unref(handle->data);
}

static void client_close(struct tcp_client *client)
{
        struct tcp_acceptor *acceptor = client->acceptor;

        if (!acceptor)
                return;
        client->acceptor = NULL;
        if (client->previous)
                client->previous->next = client->next;
        else
                acceptor->clients = client->next;
        if (client->next)
                client->next->previous = client->previous;
        --*acceptor->n_connections;
        uv_close((uv_handle_t *)&client->handle, client_handle_closed);
        uv_close((uv_handle_t *)&client->idle, client_handle_closed);
}

static void idle_over(uv_timer_t *timer)
{
        struct tcp_client *client = timer->data;

        /* The client waits for us, not we for it. */
        if (client->n_held > 0)
                uv_timer_start(&client->idle, idle_over, LIMIT_TCP_IDLE_MS, 0);
        else
                client_close(client);
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
        struct tcp_client *client = handle->data;

        *ret = uv_buf_init((char *)client->buffer + client->used, (unsigned)(sizeof(client->buffer) - client->used));
}

static void bytes_read(uv_stream_t *stream, ssize_t n_read, const uv_buf_t *buffer)
{
        struct tcp_client *client = stream->data;
        size_t start = 0;

        if (n_read < 0) {
                /* A half-closed client still waits for its answers. */
                if (n_read == UV_EOF && client->n_held > 0)
                        uv_read_stop(stream);
                else
                        client_close(client);
                return;
        }
        client->used += (size_t)n_read;
        client->n_references++;
        while (client->acceptor && client->used - start >= 2) {
                size_t size = dns_get16(client->buffer + start);

                if (size > DNS_TCP_QUERY_MAX || size < DNS_HEADER_SIZE) {
                        client_close(client);
                        break;
                }
                if (client->used - start - 2 < size)
                        break;
                /* Whole queries keep the connection, single bytes do not. */
                uv_timer_start(&client->idle, idle_over, LIMIT_TCP_IDLE_MS, 0);
                client->acceptor->query(client->acceptor->context, client, &client->source, client->buffer + start + 2,
                                        size);
                start += 2 + size;
        }
        client->used -= start;
        memmove(client->buffer, client->buffer + start, client->used);
        client_unref(client);
}

static void accept_one(uv_stream_t *server, int status)
{
        struct tcp_acceptor *acceptor = server->data;
        int length = sizeof(union socket_address);
        struct tcp_client *client;

        if (status < 0)
                return;
        client = calloc(1, sizeof(*client));
        if (!client)
                return; /* libuv keeps the connection and stops accepting: no busy loop */
        uv_tcp_init(acceptor->handle.loop, &client->handle);
        uv_timer_init(acceptor->handle.loop, &client->idle);
        client->handle.data = client->idle.data = client;
        client->n_references = 2;
        client->acceptor = acceptor;
        client->next = acceptor->clients;
        if (client->next)
                client->next->previous = client;
        acceptor->clients = client;
        ++*acceptor->n_connections;

        if (uv_accept(server, (uv_stream_t *)&client->handle) < 0 || *acceptor->n_connections > LIMIT_TCP_CLIENTS ||
            uv_tcp_getpeername(&client->handle, &client->source.any, &length) < 0 ||
            (client->source.any.sa_family != AF_INET && client->source.any.sa_family != AF_INET6) ||
            uv_timer_start(&client->idle, idle_over, LIMIT_TCP_IDLE_MS, 0) < 0 ||
            uv_read_start((uv_stream_t *)&client->handle, give_buffer, bytes_read) < 0) {
                client_close(client);
                return;
        }
        uv_tcp_nodelay(&client->handle, 1);
}

static void acceptor_closed(uv_handle_t *handle)
{
        struct tcp_acceptor *acceptor = handle->data;

        if (acceptor->gone)
                acceptor->gone(acceptor->context);
        free(acceptor);
}

int tcp_acceptor_new(uv_loop_t *loop, int fd, unsigned *n_connections, tcp_client_query query, void (*gone)(void *),
                     void *context, struct tcp_acceptor **ret)
{
        struct tcp_acceptor *acceptor = calloc(1, sizeof(*acceptor));
        int r;

        if (!acceptor) {
                close(fd);
                return -ENOMEM;
        }
        acceptor->n_connections = n_connections;
        acceptor->query = query;
        acceptor->context = context;
        uv_tcp_init(loop, &acceptor->handle);
        acceptor->handle.data = acceptor;
        r = uv_tcp_open(&acceptor->handle, fd);
        if (r < 0)
                close(fd);
        else
                r = uv_listen((uv_stream_t *)&acceptor->handle, LIMIT_TCP_CLIENTS, accept_one);
        if (r < 0) {
                uv_close((uv_handle_t *)&acceptor->handle, acceptor_closed);
                return r;
        }
        acceptor->gone = gone;
        *ret = acceptor;
        return 0;
}

void tcp_acceptor_close(struct tcp_acceptor *acceptor)
{
        while (acceptor->clients)
                client_close(acceptor->clients);
        uv_close((uv_handle_t *)&acceptor->handle, acceptor_closed);
}

void tcp_client_hold(struct tcp_client *client)
{
        client->n_references++;
        client->n_held++;
}

void tcp_client_release(struct tcp_client *client)
{
        client->n_held--;
        client_unref(client);
}

static void reply_sent(uv_write_t *request, int status)
{
        struct tcp_client *client = request->data;

        if (status < 0)
                client_close(client);
        client_unref(client);
        free((char *)request - offsetof(struct reply, request));
}

void tcp_client_reply(struct tcp_client *client, const void *packet, size_t size)
{
        struct reply *reply;
        uv_buf_t buffer;

        if (!client->acceptor || size > DNS_MESSAGE_MAX)
                return;
        /* It asks and does not read: it has had its chance. */
        if (uv_stream_get_write_queue_size((uv_stream_t *)&client->handle) > LIMIT_TCP_QUEUE) {
                client_close(client);
                return;
        }
        reply = malloc(sizeof(*reply) + 2 + size);
        if (!reply) {
                client_close(client);
                return;
        }
        dns_put16(reply->bytes, (__u16)size);
        memcpy(reply->bytes + 2, packet, size);
        buffer = uv_buf_init((char *)reply->bytes, (unsigned)(2 + size));
        reply->request.data = client;
        client->n_references++;
        if (uv_write(&reply->request, (uv_stream_t *)&client->handle, &buffer, 1, reply_sent) < 0) {
                free(reply);
                client_close(client);
                client_unref(client);
                return;
        }
        uv_timer_start(&client->idle, idle_over, LIMIT_TCP_IDLE_MS, 0);
}
