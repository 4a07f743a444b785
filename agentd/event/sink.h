/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where lines go: a file, an output stream, the journal, nowhere.
 *
 * A sink never blocks the event loop: regular files are written once a turn, pipes, terminals and sockets without
 * blocking, with a bounded queue in memory. A line is written whole or counted as lost: never half a line in a file.
 * A sink frees itself once its loop has let go of its handles: run the loop once more after sink_free().
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "agentd/event/event.h"

struct sink;

enum { SINK_QUEUE_MAX = 1024 * 1024 };

/* target: as in event_bus_set_sink(). 0 or -errno. */
int sink_new(uv_loop_t *loop, const char *target, struct sink **ret);
/* The journal's socket; for tests another one. */
int sink_new_journal(uv_loop_t *loop, const char *socket_path, struct sink **ret);
/* JSON lines, or human ones, to an open descriptor, which stays the caller's. */
int sink_new_stream(uv_loop_t *loop, int fd, bool human, struct sink **ret);
void sink_free(struct sink *sink);

/* line: the event as JSON. False: it is lost. */
bool sink_write(struct sink *sink, const struct event *event, const char *line, size_t length);
/* Writes what a file has gathered: else done at the loop's next turn. */
void sink_flush(struct sink *sink);
/* Opens a file again (others: 0). On failure the old one stays in use. */
int sink_reopen(struct sink *sink);
/* Lines that were taken and could not be written after all (a full disk, a pipe's reader that has gone): once told,
 * forgotten. */
__u64 sink_take_lost(struct sink *sink);
__u64 sink_lost(const struct sink *sink); /* the same, not forgotten */
