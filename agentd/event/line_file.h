/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A regular file that lines are appended to: whole lines or none, and the file follows its path when it is rotated.
 *
 * Lines are gathered during one turn of the loop and written together: a flood of events costs a system call for many.
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "agentd/abi.h"

struct line_file;

/* Opens or makes (0640) path to append to, never through a link; makes the last directory. A descriptor or -errno. */
int line_file_open(const char *path);

/* Takes fd, a regular file that line_file_open() gave for path, whatever it returns. 0 or -errno. */
int line_file_new(uv_loop_t *loop, const char *path, int fd, struct line_file **ret);
/* Writes what was gathered. The memory goes when the loop runs once more. */
void line_file_free(struct line_file *file);

/* line: without its newline, shorter than the buffer (false otherwise). */
bool line_file_write(struct line_file *file, const char *line, size_t length);
/* Writes what was gathered now. */
void line_file_flush(struct line_file *file);
/* Opens the path again; on failure the old file stays in use. */
int line_file_reopen(struct line_file *file);
/* Lines that were gathered and could not be written: once told, forgotten. */
__u64 line_file_take_lost(struct line_file *file);
__u64 line_file_lost(const struct line_file *file); /* the same, not forgotten */
