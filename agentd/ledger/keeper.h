/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What budgets must remember, on its way to the state store: noted on the loop's thread, written by another one, so
 * that a slow or full disk stops nobody. What could not be written stays noted and is tried again.
 *
 * Reading has a connection of its own: WAL lets it read while another one writes.
 */
#pragma once

#include <uv.h>

#include "agentd/ledger/store.h"

struct ledger_keeper;

/* Opens the store; results and *error are those of state_store_open(). */
int ledger_keeper_new(uv_loop_t *loop, const char *directory, struct state_store_error *error,
                      struct ledger_keeper **ret);
/* Waits for a write at work; what is noted and not written is lost. Run the loop once more before closing it. */
void ledger_keeper_free(struct ledger_keeper *keeper);

/* What is known under that key, notes that are not written included: the last that was noted, or of this window.
 * -ENOENT: nothing; else as state_store_get(). */
int ledger_keeper_get(struct ledger_keeper *keeper, const char *key, struct stored_ledger *ret);
int ledger_keeper_get_window(struct ledger_keeper *keeper, const char *key, __u32 window, struct stored_ledger *ret);

/* Replaces an earlier note of the same key and window. exact: even when it is less than what is stored (a reset). 0 or
 * -ENOMEM. */
int ledger_keeper_note(struct ledger_keeper *keeper, const struct stored_ledger *ledger, bool exact);

/* Writes all notes, in the background; when one write is at work, once more after it. */
void ledger_keeper_flush(struct ledger_keeper *keeper);
/* The same, before it returns. 0, or what the store said. */
int ledger_keeper_flush_now(struct ledger_keeper *keeper);

/* With the next write: state_store_prune(). */
void ledger_keeper_prune(struct ledger_keeper *keeper, __u64 older_than_s);

struct ledger_keeper_statistics {
        __u64 written; /* notes */
        __u64 failures;
        size_t waiting;   /* notes that are not written yet */
        const char *text; /* of the last failure; "" when the last write was good */
};
void ledger_keeper_statistics(const struct ledger_keeper *keeper, struct ledger_keeper_statistics *ret);
