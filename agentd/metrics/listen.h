/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The metrics' listening socket, and the secrets that go with it.
 */
#pragma once

#include <stddef.h>

struct metrics_settings;

/* Listens at "ADDRESS:PORT", "[ADDRESS]:PORT" or a path (mode 0660; what is left of a former one goes). The descriptor,
 * or -errno. */
int metrics_listen(const char *address);

/* The files' contents as a JSON object; *ret NULL when there are none. To be freed. 0 or -errno, with *ret_file the
 * file that cannot be read. A key or token that others may read is refused: -EPERM. */
int metrics_secrets(const struct metrics_settings *settings, char **ret, const char **ret_file);
