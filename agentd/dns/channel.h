/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Messages over the socketpair between monitor and worker: whole messages (SOCK_SEQPACKET), with descriptors, never
 * blocking, with a bounded queue for what the socket does not take.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agentd/abi_message.h"

enum { CHANNEL_FDS_MAX = 4 };

/* Room for the largest message of either direction. */
union message {
        struct message_header header;
        struct message_settings settings;
        struct message_policy policy;
        struct message_agent agent;
        struct message_listener listener;
        struct message_learn learn;
        struct message_learned learned;
        struct message_resolve resolve;
        struct message_resolved resolved;
        struct message_refused refused;
        struct message_query query;
        struct message_ask_upstream ask_upstream;
        struct message_upstream upstream;
        struct message_statistics statistics;
        struct message_durations durations;
};

struct channel_message;

struct channel {
        int fd; /* borrowed */
        struct channel_message *first, **last;
        size_t n_queued, queue_max;
};

void channel_init(struct channel *channel, int fd, size_t queue_max);
/* Forgets what is queued, closes the queued descriptors. Not fd. */
void channel_clear(struct channel *channel);

/*
 * message: a struct of abi_message.h; its header's size says how much. fds are duplicated if they must wait, and stay
 * the caller's. 0 (sent or queued); -ENOBUFS: the queue is full; -EPIPE and others: the peer is gone.
 */
int channel_send(struct channel *channel, const void *message, const int *fds, size_t n_fds);
bool channel_is_waiting(const struct channel *channel); /* for the socket to become writable */
int channel_flush(struct channel *channel);             /* 0 or -errno (never -EAGAIN) */

/*
 * One message. 0; -EAGAIN: none; -ECONNRESET: the peer is gone; -EBADMSG: smaller than a header, larger than any
 * message, size field wrong, too many descriptors. ret_fds: CHANNEL_FDS_MAX, the caller's to close, CLOEXEC. NULL: any
 * descriptor is -EBADMSG.
 */
int channel_receive(int fd, union message *ret, int *ret_fds, size_t *ret_n_fds);

/* The exact size of a kind's message; 0: no such kind. */
size_t message_size(__u32 kind);
