/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Messages with descriptors over a socketpair, for both ends (agentd/metrics/message.h).
 */
#pragma once

#include <stddef.h>

#include "agentd/metrics/message.h"

enum { EXCHANGE_FDS_MAX = 2 };

/* fds stay the caller's. 0; -EAGAIN: the other end does not read; -errno. */
int exchange_send(int fd, const struct metrics_message *message, const int *fds, size_t n_fds);
/* *ret_fds: EXCHANGE_FDS_MAX, -1 where there is none; the caller's. 0; -EAGAIN; -ECONNRESET: closed; -EBADMSG. */
int exchange_receive(int fd, struct metrics_message *ret, int *ret_fds);

/* A sealed memfd with these bytes: who reads it can trust that it does not change. The descriptor, or -errno. */
int exchange_memory(const char *name, const void *bytes, size_t size, const void *more, size_t more_size);
/* Its content, to be freed, when it is sealed and size bytes long; or -errno. */
int exchange_read(int fd, size_t size, char **ret);
