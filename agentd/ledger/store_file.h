/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The store's directory and files, looked at before SQLite opens them.
 */
#pragma once

#include "agentd/ledger/store.h"
#include "agentd/util/macro.h"

#define STORE_NAME "agentd.db"

/* Writes error->text (error may be NULL) and returns r. */
int store_error(struct state_store_error *error, int r, const char *format, ...) PRINTF(3, 4);

/* For a file whose contents are wrong, in one sentence. -EUCLEAN. */
int store_error_damaged(struct state_store_error *error, const char *path, const char *what);

/*
 * Makes the directory (0700) where it is missing, and checks it and the files in it: owned by this process's user,
 * written by nobody else, no links. A missing agentd.db is made of image, whole or not at all. *ret_path: the file's
 * path without any link in it.
 */
int store_file_prepare(const char *directory, const void *image, size_t size, struct state_store_error *error,
                       char **ret_path);
