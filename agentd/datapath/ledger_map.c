/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Ledgers in the kernel's table, changed while packets are charged to them. See ledger_map.h.
 *
 * The programs and the daemon change a ledger's word by compare-and-swap alone. Limit and grant have one writer, the
 * daemon. `told` is set by the programs and taken back here when a limit rises above what it told of, so that it is
 * told again.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "agentd/datapath/internal.h"
#include "agentd/datapath/ledger_map.h"
#include "agentd/window.h"

void datapath_clock_set(struct datapath *datapath, __s64 offset_ns)
{
        __atomic_store_n(&datapath->limits.clock->offset_ns, offset_ns, __ATOMIC_SEQ_CST);
}

__s64 datapath_clock(const struct datapath *datapath)
{
        return __atomic_load_n(&datapath->limits.clock->offset_ns, __ATOMIC_SEQ_CST);
}

static __u32 window_now(const struct datapath *datapath, __u32 period)
{
        struct timespec now = {0};

        (void)clock_gettime(CLOCK_BOOTTIME, &now);
        return window_number(period,
                             ((__u64)now.tv_sec * NSEC_PER_SEC + (__u64)now.tv_nsec + (__u64)datapath_clock(datapath)) /
                                     NSEC_PER_SEC);
}

/* By how many windows the word is ahead of now. Negative: that window has passed. */
static __s32 window_ahead(__u64 word, __u32 now)
{
        return (__s16)(__u16)(LEDGER_WINDOW(word) - now);
}

/* As a packet of now sees it: a window that has passed has left nothing behind, one that is ahead is the current one.
 */
static __u64 word_current(__u64 word, __u32 now)
{
        return window_ahead(word, now) < 0 ? LEDGER_WORD(now, 0) : word;
}

/* What a word says of this window only: a grant, or what was told. */
static __u64 bytes_in(__u64 word, __u64 current)
{
        return LEDGER_WINDOW(word) == LEDGER_WINDOW(current) ? LEDGER_BYTES(word) : 0;
}

static __u64 word_load(const __u64 *word)
{
        return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static bool word_swap(__u64 *word, __u64 old, __u64 new)
{
        return __atomic_compare_exchange_n(word, &old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static struct ledger *ledger_of(struct datapath *datapath, __u32 id)
{
        return id < LEDGERS_MAX && datapath->limits.by_id[LIMIT_LEDGER][id] ? &datapath->limits.ledgers[id] : NULL;
}

/*
 * Leased while the word stays as it is. Two passes: a lease that wanders from one CPU to another behind the first one's
 * back is found by the second. What CPUs spend meanwhile counts as leased.
 */
static __u64 ledger_leased(const struct datapath *datapath, __u32 id)
{
        __u64 leased = datapath_leased(&datapath->limits, id), again = datapath_leased(&datapath->limits, id);

        return MAX(leased, again);
}

/* A limit has risen: what is no longer true will be told again. */
static void ledger_untell(struct datapath *datapath, struct ledger *ledger)
{
        __u64 current = word_current(word_load(&ledger->word), window_now(datapath, ledger->period));
        __u64 limit = ledger->limit + bytes_in(ledger->grant, current), charged = LEDGER_BYTES(current);
        __u64 told, bits;

        do {
                told = word_load(&ledger->told);
                bits = bytes_in(told, current);
                if (charged < limit - limit / 5)
                        bits &= ~(__u64)TOLD_80;
                if (charged < limit)
                        bits &= ~(__u64)TOLD_100;
        } while (!word_swap(&ledger->told, told, LEDGER_WORD(LEDGER_WINDOW(current), bits)));
}

static void ledger_limit(struct datapath *datapath, __u32 id, __u64 limit)
{
        struct ledger *ledger = &datapath->limits.ledgers[id];
        __u64 old;

        limit = MIN(limit, LEDGER_BYTES_MAX);
        old = __atomic_exchange_n(&ledger->limit, limit, __ATOMIC_SEQ_CST);
        if (limit < old)
                datapath_leases_collect(&datapath->limits, id);
        else if (limit > old)
                ledger_untell(datapath, ledger);
}

int datapath_ledger_get(struct datapath *datapath, const char *key, enum budget_period period, __u32 agent_id,
                        __u64 limit, __u32 *ret_id, bool *ret_made)
{
        struct limit_slot *slot = datapath_limit_find(datapath, LIMIT_LEDGER, key);
        bool made = !slot;
        int r;

        if (period >= PERIOD_MAX || agent_id >= AGENT_MAX || limit > LEDGER_BYTES_MAX)
                return -EINVAL;
        if (slot && datapath->limits.ledgers[slot->id].period != period)
                return -EINVAL;
        if (!slot) {
                r = datapath_limit_new(datapath, LIMIT_LEDGER, key, &slot);
                if (r < 0)
                        return r;
                datapath->limits.ledgers[slot->id] = (struct ledger){
                        .word = LEDGER_WORD(window_now(datapath, period), 0),
                        .limit = limit,
                        .agent_id = agent_id,
                        .period = (__u8)period,
                };
                r = datapath_limit_add(datapath, slot);
                if (r < 0)
                        return r;
        }

        __atomic_store_n(&datapath->limits.ledgers[slot->id].agent_id, agent_id, __ATOMIC_SEQ_CST);
        ledger_limit(datapath, slot->id, limit);
        slot->references++;
        *ret_id = slot->id;
        *ret_made = made;
        return 0;
}

void datapath_ledger_put(struct datapath *datapath, __u32 id)
{
        struct limit_slot *slot = id < LEDGERS_MAX ? datapath->limits.by_id[LIMIT_LEDGER][id] : NULL;

        if (slot && slot->references > 0 && --slot->references == 0)
                datapath_limit_drop(datapath, slot);
}

void datapath_ledger_set_limit(struct datapath *datapath, __u32 id, __u64 limit)
{
        if (ledger_of(datapath, id))
                ledger_limit(datapath, id, limit);
}

int datapath_ledger_grant(struct datapath *datapath, __u32 id, __u64 bytes)
{
        struct ledger *ledger = ledger_of(datapath, id);
        __u64 current, granted;

        if (!ledger)
                return -ENOENT;
        current = word_current(word_load(&ledger->word), window_now(datapath, ledger->period));
        granted = bytes_in(ledger->grant, current);
        if (bytes > LEDGER_BYTES_MAX || ledger->limit + granted + bytes > LEDGER_BYTES_MAX)
                return -ERANGE;
        __atomic_store_n(&ledger->grant, LEDGER_WORD(LEDGER_WINDOW(current), granted + bytes), __ATOMIC_SEQ_CST);
        ledger_untell(datapath, ledger);
        return 0;
}

/*
 * What CPUs hold stays charged: they will send it, or give it back. A CPU that has charged a lease and not yet shown it
 * is taken to have sent it: at most LEASE_CHUNK_MAX bytes then count as sent before the reset.
 */
__u64 datapath_ledger_reset(struct datapath *datapath, __u32 id)
{
        struct ledger *ledger = ledger_of(datapath, id);
        __u64 word, current, leased;

        if (!ledger)
                return 0;
        do {
                word = word_load(&ledger->word);
                current = word_current(word, window_now(datapath, ledger->period));
                leased = MIN(ledger_leased(datapath, id), LEDGER_BYTES(current));
        } while (!word_swap(&ledger->word, word, LEDGER_WORD(LEDGER_WINDOW(current), leased)));

        __atomic_store_n(&ledger->grant, 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&ledger->told, 0, __ATOMIC_SEQ_CST);
        return LEDGER_BYTES(current) - leased;
}

void datapath_ledger_restore(struct datapath *datapath, __u32 id, __u32 window, __u64 used, __u64 granted)
{
        struct ledger *ledger = ledger_of(datapath, id);
        __u64 word, current, bytes, new;

        if (!ledger)
                return;
        used = MIN(used, LEDGER_BYTES_MAX);
        granted = MIN(granted, LEDGER_BYTES_MAX);
        do {
                __u32 now = window_now(datapath, ledger->period);
                __s64 ahead = (__s64)window - now;

                word = word_load(&ledger->word);
                current = word_current(word, now);
                /* Farther than the word can tell: the clock is wrong by years, and what was used counts now. */
                if (ahead > INT16_MAX)
                        ahead = window_ahead(current, now);
                if (ahead < window_ahead(current, now))
                        return;
                if (ahead > window_ahead(current, now))
                        current = LEDGER_WORD(now + (__u32)ahead, 0);
                bytes = LEDGER_BYTES(current);
                if (used != 0)
                        bytes = MAX(bytes, MIN(used + ledger_leased(datapath, id), LEDGER_BYTES_MAX));
                new = LEDGER_WORD(LEDGER_WINDOW(current), bytes);
        } while (!word_swap(&ledger->word, word, new));

        granted = MAX(granted, bytes_in(ledger->grant, new));
        __atomic_store_n(&ledger->grant, LEDGER_WORD(LEDGER_WINDOW(new), granted), __ATOMIC_SEQ_CST);
}

/* A word of one window that may be in another by now: told is the programs' as well. */
static void word_move(__u64 *word, __u64 from, __u64 to)
{
        __u64 old;

        do {
                old = word_load(word);
                if (LEDGER_WINDOW(old) != LEDGER_WINDOW(from))
                        return;
        } while (!word_swap(word, old, LEDGER_WORD(LEDGER_WINDOW(to), LEDGER_BYTES(old))));
}

bool datapath_ledger_carry(struct datapath *datapath, __u32 id)
{
        struct ledger *ledger = ledger_of(datapath, id);
        __u64 word, new;

        if (!ledger)
                return false;
        /* One window ahead ends by itself, soon: a leap second, a small step. */
        if (window_ahead(word_load(&ledger->word), window_now(datapath, ledger->period)) < 2)
                return false;
        datapath_leases_collect(&datapath->limits, id);
        do {
                __u32 now = window_now(datapath, ledger->period);

                word = word_load(&ledger->word);
                if (window_ahead(word, now) < 2)
                        return false;
                new = LEDGER_WORD(now, LEDGER_BYTES(word));
        } while (!word_swap(&ledger->word, word, new));
        word_move(&ledger->grant, word, new);
        word_move(&ledger->told, word, new);
        return true;
}

static void reading_fill(const struct datapath *datapath, const struct ledger *ledger, __u64 word, __u64 leased,
                         struct ledger_reading *ret)
{
        __u32 now = window_now(datapath, ledger->period);
        __u64 current = word_current(word, now), charged = LEDGER_BYTES(current);

        *ret = (struct ledger_reading){
                .used = charged - MIN(leased, charged),
                .charged = charged,
                .limit = word_load(&ledger->limit),
                .granted = bytes_in(word_load(&ledger->grant), current),
                .window = now + (__u32)window_ahead(current, now),
                .period = ledger->period,
                .told = (enum ledger_told)(bytes_in(word_load(&ledger->told), current) & (TOLD_80 | TOLD_100)),
        };
}

void datapath_ledgers_read(struct datapath *datapath, const __u32 *ids, size_t n, struct ledger_reading *readings)
{
        enum { TRIES = 4 };

        for (size_t i = 0; i < n; i++) {
                const struct ledger *ledger = ledger_of(datapath, ids[i]);

                readings[i] = (struct ledger_reading){.charged = ledger ? word_load(&ledger->word) : 0};
        }
        if (n > 1)
                datapath_leased_all(&datapath->limits);
        for (size_t i = 0; i < n; i++) {
                const struct ledger *ledger = ledger_of(datapath, ids[i]);
                __u64 before = readings[i].charged, leased, word;

                if (!ledger)
                        continue;
                /* One alone has few sets: all of them would be read for each of an agent's thousand ledgers. */
                leased = n > 1 ? datapath->limits.leased[ids[i]] : datapath_leased(&datapath->limits, ids[i]);
                word = word_load(&ledger->word);
                /* A lease was taken or given back on the way: these two do not fit together. */
                for (int tries = 0; word != before && tries < TRIES; tries++) {
                        before = word;
                        leased = datapath_leased(&datapath->limits, ids[i]);
                        word = word_load(&ledger->word);
                }
                reading_fill(datapath, ledger, word, leased, &readings[i]);
        }
}

void datapath_ledgers_unclaimed(struct datapath *datapath,
                                void (*function)(void *context, const char *key, const struct ledger_reading *reading),
                                void *context)
{
        struct limit_tables *tables = &datapath->limits;
        struct limit_slot *slot, *next;

        datapath_leased_all(tables);
        HASH_ITER (hh, tables->slots, slot, next) {
                const struct ledger *ledger = &tables->ledgers[slot->id];
                struct ledger_reading reading;

                if (slot->key.kind != LIMIT_LEDGER || slot->references > 0)
                        continue;
                reading_fill(datapath, ledger, word_load(&ledger->word), tables->leased[slot->id], &reading);
                function(context, (const char *)slot->key.key, &reading);
        }
}
