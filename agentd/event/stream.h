/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Lines to a pipe, a terminal or a socket, without ever waiting for whoever reads there.
 *
 * The descriptor may be shared with others (the command of `agentd run` has our stdout): its file flags are left alone.
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "agentd/abi.h"

struct stream;

/* fd stays the caller's. 0 or -errno. */
int stream_new(uv_loop_t *loop, int fd, struct stream **ret);
/* Writes what goes without waiting. The memory goes when the loop runs once more. */
void stream_free(struct stream *stream);
/* A whole line with its newline. False: neither written nor queued. */
bool stream_write(struct stream *stream, const char *line, size_t length);
/* Queued lines that were thrown away because the reader is gone; once told, forgotten. */
__u64 stream_take_lost(struct stream *stream);
__u64 stream_lost(const struct stream *stream); /* the same, not forgotten */
