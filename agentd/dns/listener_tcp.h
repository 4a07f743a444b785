/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * DNS over TCP (RFC 7766): pipelined queries, replies in any order, bounded connections, idle time, query size and
 * unread replies.
 */
#pragma once

#include "agentd/dns/listener.h"

struct tcp_acceptor;

typedef void (*tcp_client_query)(void *context, struct tcp_client *client, const union socket_address *source,
                                 const void *packet, size_t size);

/* fd listens; taken over. gone: called once, after tcp_acceptor_close() (never when this fails). */
int tcp_acceptor_new(uv_loop_t *loop, int fd, unsigned *n_connections, tcp_client_query query, void (*gone)(void *),
                     void *context, struct tcp_acceptor **ret);
/* Closes its connections too; n_connections is right when this returns. */
void tcp_acceptor_close(struct tcp_acceptor *acceptor);

void tcp_client_hold(struct tcp_client *client);
void tcp_client_release(struct tcp_client *client);
void tcp_client_reply(struct tcp_client *client, const void *packet, size_t size);
