/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Notes by key, and one write at a time.
 *
 * The writing thread sees a copy of the notes and the store's connection, nothing else. It says "done" by a semaphore,
 * so that the loop's thread can wait for it without running the loop.
 */
#include "agentd/ledger/keeper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"
#include "agentd/util/macro.h"

#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) (oom = true)
#include <uthash.h>

struct note_key {
        char key[LEDGER_KEY_MAX - 1];
        char end;
        __u32 window; /* the clock may go back and forth: one does not stand for the other */
};

struct note {
        UT_hash_handle hh; /* by key */
        struct note_key key;
        struct stored_ledger ledger;
        bool exact;
        __u64 number; /* rises with each change: a write that took an older state does not end the note */
};

/* exact ones behind the others. */
struct batch {
        struct stored_ledger *ledgers;
        size_t n, n_exact;
        __u64 number;
        __u64 prune_s; /* 0: no */
};

struct ledger_keeper {
        struct state_store *writer, *reader;
        uv_loop_t *loop;
        struct note *notes;
        __u64 number, prune_s;
        uv_work_t work;
        uv_sem_t done;
        bool busy, again, closing;
        bool awaited; /* the semaphore was taken already */
        struct batch batch;
        int result;
        struct state_store_error error;
        __u64 written, failures;
        char text[sizeof(((struct state_store_error *)0)->text)];
};

static void keeper_release(struct ledger_keeper *keeper)
{
        struct note *note, *next;

        HASH_ITER (hh, keeper->notes, note, next) {
                HASH_DEL(keeper->notes, note);
                free(note);
        }
        state_store_close(keeper->reader);
        state_store_close(keeper->writer);
        uv_sem_destroy(&keeper->done);
        free(keeper->batch.ledgers);
        free(keeper);
}

int ledger_keeper_new(uv_loop_t *loop, const char *directory, struct state_store_error *error,
                      struct ledger_keeper **ret)
{
        struct ledger_keeper *keeper = calloc(1, sizeof(*keeper));
        int r;

        if (!keeper)
                return -ENOMEM;
        keeper->loop = loop;
        r = uv_sem_init(&keeper->done, 0);
        if (r < 0) {
                free(keeper);
                return r;
        }
        r = state_store_open(directory, error, &keeper->writer);
        if (r == 0)
                r = state_store_open(directory, error, &keeper->reader);
        if (r < 0) {
                keeper_release(keeper);
                return r;
        }
        *ret = keeper;
        return 0;
}

static struct note *note_find(struct ledger_keeper *keeper, const char *key, __u32 window)
{
        struct note_key wanted = {.window = window};
        struct note *note;

        (void)snprintf(wanted.key, sizeof(wanted.key), "%s", key);
        HASH_FIND(hh, keeper->notes, &wanted, sizeof(wanted), note);
        return note;
}

int ledger_keeper_get(struct ledger_keeper *keeper, const char *key, struct stored_ledger *ret)
{
        struct note *note, *next;
        __u64 number = 0;

        /* Few notes wait: those of one flush's time. */
        HASH_ITER (hh, keeper->notes, note, next) {
                if (note->number <= number || strcmp(note->ledger.key, key) != 0)
                        continue;
                number = note->number;
                *ret = note->ledger;
        }
        return number ? 0 : state_store_get(keeper->reader, key, ret);
}

int ledger_keeper_get_window(struct ledger_keeper *keeper, const char *key, __u32 window, struct stored_ledger *ret)
{
        const struct note *note = note_find(keeper, key, window);

        if (!note)
                return state_store_get_window(keeper->reader, key, window, ret);
        *ret = note->ledger;
        return 0;
}

int ledger_keeper_note(struct ledger_keeper *keeper, const struct stored_ledger *ledger, bool exact)
{
        struct note *note = note_find(keeper, ledger->key, ledger->window);
        bool oom = false;

        if (!note) {
                note = calloc(1, sizeof(*note));
                if (!note)
                        return -ENOMEM;
                (void)snprintf(note->key.key, sizeof(note->key.key), "%s", ledger->key);
                note->key.window = ledger->window;
                HASH_ADD(hh, keeper->notes, key, sizeof(note->key), note);
                if (oom) {
                        free(note);
                        return -ENOMEM;
                }
        }
        note->ledger = *ledger;
        note->exact |= exact; /* until the reset is on the disk */
        note->number = ++keeper->number;
        return 0;
}

/* -ENODATA: there is nothing to write. */
static int batch_take(struct ledger_keeper *keeper)
{
        struct batch *batch = &keeper->batch;
        struct note *note, *next;
        size_t n = HASH_COUNT(keeper->notes), front = 0, back = n;

        if (n == 0)
                return -ENODATA;
        free(batch->ledgers);
        *batch = (struct batch){.ledgers = calloc(n, sizeof(*batch->ledgers)), .number = keeper->number};
        if (!batch->ledgers)
                return -ENOMEM;
        HASH_ITER (hh, keeper->notes, note, next)
                batch->ledgers[note->exact ? --back : front++] = note->ledger;
        batch->prune_s = keeper->prune_s;
        keeper->prune_s = 0;
        batch->n = n;
        batch->n_exact = n - front;
        return 0;
}

/* In either thread. */
static void batch_write(struct ledger_keeper *keeper)
{
        struct batch *batch = &keeper->batch;
        size_t n = batch->n - batch->n_exact;

        keeper->result = 0;
        if (batch->prune_s)
                (void)state_store_prune(keeper->writer, batch->prune_s); /* the next day's will do as well */
        if (n > 0)
                keeper->result = state_store_put(keeper->writer, batch->ledgers, n, false, &keeper->error);
        if (keeper->result == 0 && batch->n_exact > 0)
                keeper->result =
                        state_store_put(keeper->writer, batch->ledgers + n, batch->n_exact, true, &keeper->error);
}

static void batch_end(struct ledger_keeper *keeper)
{
        struct note *note, *next;

        if (keeper->result < 0) {
                keeper->failures++;
                /* Once, and again when it fails after it had been good: it is tried every few seconds. */
                if (keeper->text[0] == '\0')
                        log_error_errno(keeper->result, "budgets are not remembered, trying again: %s",
                                        keeper->error.text);
                (void)snprintf(keeper->text, sizeof(keeper->text), "%s",
                               keeper->error.text[0] ? keeper->error.text : strerror(-keeper->result));
                return;
        }
        if (keeper->text[0] != '\0')
                log_info("budgets are remembered again");
        keeper->text[0] = '\0';
        keeper->written += keeper->batch.n;
        HASH_ITER (hh, keeper->notes, note, next) {
                if (note->number > keeper->batch.number)
                        continue;
                HASH_DEL(keeper->notes, note);
                free(note);
        }
}

static void on_work(uv_work_t *work)
{
        struct ledger_keeper *keeper = work->data;

        batch_write(keeper);
        uv_sem_post(&keeper->done);
}

static void on_worked(uv_work_t *work, int status)
{
        struct ledger_keeper *keeper = work->data;

        keeper->busy = false;
        if (!keeper->awaited && status == 0)
                uv_sem_wait(&keeper->done);
        if (!keeper->awaited && status == 0)
                batch_end(keeper);
        keeper->awaited = false;
        if (keeper->closing) {
                keeper_release(keeper);
                return;
        }
        if (keeper->again) {
                keeper->again = false;
                ledger_keeper_flush(keeper);
        }
}

void ledger_keeper_flush(struct ledger_keeper *keeper)
{
        int r;

        if (keeper->busy) {
                keeper->again = true;
                return;
        }
        r = batch_take(keeper);
        if (r < 0)
                return; /* no memory: the next one tries again */
        keeper->work.data = keeper;
        keeper->awaited = false;
        if (uv_queue_work(keeper->loop, &keeper->work, on_work, on_worked) == 0)
                keeper->busy = true;
}

/* After it nobody writes; on_worked() is still to come when something was at work. */
static void write_await(struct ledger_keeper *keeper)
{
        if (!keeper->busy || keeper->awaited)
                return;
        keeper->awaited = true;
        if (uv_cancel((uv_req_t *)&keeper->work) == 0)
                return; /* it had not begun: its notes are all there */
        uv_sem_wait(&keeper->done);
        batch_end(keeper);
}

int ledger_keeper_flush_now(struct ledger_keeper *keeper)
{
        int r;

        write_await(keeper);
        r = batch_take(keeper);
        if (r < 0)
                return r == -ENODATA ? 0 : r;
        batch_write(keeper);
        batch_end(keeper);
        return keeper->result;
}

void ledger_keeper_free(struct ledger_keeper *keeper)
{
        if (!keeper)
                return;
        write_await(keeper);
        keeper->closing = true;
        if (!keeper->busy)
                keeper_release(keeper);
}

void ledger_keeper_prune(struct ledger_keeper *keeper, __u64 older_than_s)
{
        keeper->prune_s = older_than_s;
}

void ledger_keeper_statistics(const struct ledger_keeper *keeper, struct ledger_keeper_statistics *ret)
{
        *ret = (struct ledger_keeper_statistics){
                .written = keeper->written,
                .failures = keeper->failures,
                .waiting = HASH_COUNT(keeper->notes),
                .text = keeper->text,
        };
}
