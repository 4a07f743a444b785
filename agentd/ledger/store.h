/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What budgets remember over a reboot: SQLite, one row a ledger and window.
 *
 * Crash safety is SQLite's (WAL, synchronous=FULL). The file is STATE_DIR/agentd.db, 0600, in a directory of root's own
 * (0700, made when missing); a link, a foreign owner or a file that is not ours is refused. The schema has a version
 * (PRAGMA user_version) and is migrated from older ones; a newer one is refused. Nothing here knows the kernel.
 *
 * A row that has changed by itself, or is missing, is found: rows carry a checksum, and all of them together another.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agentd/abi_budget.h"

struct state_store;

struct state_store_error {
        char text[512]; /* one line: what is wrong with which file, and the way out */
};

struct stored_ledger {
        char key[LEDGER_KEY_MAX - 1];
        enum budget_period period;
        __u32 window; /* window_number() */
        __u64 used;   /* bytes */
        __u64 granted;
};

/* Opens or makes it; checks it (PRAGMA quick_check, checksums). 0; -EUCLEAN: corrupt; -EPROTO: of a newer build;
 * -EPERM, -ELOOP, -ENOTDIR, -EINVAL: the directory or a file is not what it must be; -EBUSY; -errno. */
int state_store_open(const char *directory, struct state_store_error *error, struct state_store **ret);
void state_store_close(struct state_store *store);
/* What was stored last under that key, whichever its window. -ENOENT: nothing; -EUCLEAN: the row is corrupt. */
int state_store_get(struct state_store *store, const char *key, struct stored_ledger *ret);
/* What is stored of that window: after a step of the clock it need not be the last one that was written. */
int state_store_get_window(struct state_store *store, const char *key, __u32 window, struct stored_ledger *ret);
/*
 * Writes all in one transaction. In the same window used and granted never fall below what is stored, unless exact is
 * set (after a reset). May be called from a thread of its own, one at a time (the connection is serialized by the
 * caller). 0; -ENOSPC; -EROFS; -EIO; -EBUSY; -EUCLEAN; -EINVAL: one of them cannot be stored; the store stays usable.
 */
int state_store_put(struct state_store *store, const struct stored_ledger *ledgers, size_t n, bool exact,
                    struct state_store_error *error);
/* Forgets windows that have ended at older_than_s (UTC seconds) or before. PERIOD_TOTAL never ends: what is used of a
 * total stays used, however long its agent has been away. */
int state_store_prune(struct state_store *store, __u64 older_than_s);
