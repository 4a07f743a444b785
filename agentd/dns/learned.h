/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The monitor's table of learned addresses: agent -> address -> the names under which it was learned, each with its
 * expiry. The kernel's map holds what follows from it; this table says why.
 *
 * No clock is read in here: `now` and expiries are CLOCK_BOOTTIME nanoseconds of the caller's. Memory is bounded per
 * agent and over all; a full table refuses (-ENOSPC) and never evicts what is fresh or live. What has expired is kept
 * for a while without effect (a name for late events) and is the first to make room.
 *
 * Callbacks must not call back into the table, except for the const functions.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agentd/abi.h"
#include "agentd/util/cleanup.h"

enum {
        LEARNED_NAMES_PER_ADDRESS_MAX = 256,
        LEARNED_REMEMBER_S = 600, /* how long an expired address keeps its name for events */
        LEARNED_RECHECK_S = 10,   /* how soon an expired address with a live flow is looked at again */
};

struct learned;

/* per_agent_max: addresses of one agent (LEARNED_PER_AGENT_MAX); total_max: pairs of address and name over all agents.
 */
int learned_new(size_t per_agent_max, size_t total_max, struct learned **ret);
void learned_free(struct learned *learned);
DEFINE_CLEANUP(struct learned *, learned_free);

enum learned_change {
        LEARNED_RENEWED,     /* this name was known for this address: at most the expiry is later */
        LEARNED_NEW_NAME,    /* the address was known (and effective) under other names */
        LEARNED_NEW_ADDRESS, /* not effective before */
};

/*
 * The expiry only ever moves to later. name: canonical. *ret_expires_ns: of the address, the latest of its names. Both
 * may be NULL. 0; -ENOSPC: full, nothing has changed; -EINVAL; -ENOMEM.
 */
int learned_add(struct learned *learned, __u32 agent_id, const char *name, const struct address *address,
                __u64 expires_ns, enum learned_change *ret_change, __u64 *ret_expires_ns);
/* Takes back one pair: for a caller whose next step failed. No callback. -ENOENT. */
int learned_remove(struct learned *learned, __u32 agent_id, const char *name, const struct address *address);

/* Names of an effective address, at most capacity; valid until the table changes. Returns how many there are. */
size_t learned_names(const struct learned *learned, __u32 agent_id, const struct address *address,
                     const char **ret_names, size_t capacity);
/* When the address expires; 0: not known. */
__u64 learned_expires(const struct learned *learned, __u32 agent_id, const struct address *address);
/* A name for an event: of an effective address the one that expires last, else the one it had; NULL: never known. */
const char *learned_name_for(const struct learned *learned, __u32 agent_id, const struct address *address);

struct learned_view {
        __u32 agent_id;
        const struct address *address;
        const char *name;
        __u64 expires_ns; /* of this name; may be past while a live flow keeps it */
};
/* Every effective pair of an agent (0: of all agents); the pairs of one address follow one another. Return false to
 * stop. */
void learned_each(const struct learned *learned, __u32 agent_id,
                  bool (*function)(void *context, const struct learned_view *view), void *context);

/*
 * A pair has ended. remaining: names that the address still has; 0: the address has no effect from now on (remove it
 * from the kernel), otherwise its matches have to be made anew from learned_names().
 */
typedef void (*learned_removed_fn)(void *context, __u32 agent_id, const struct address *address, const char *name,
                                   size_t remaining);

/*
 * Ends what has expired at now. live (may be NULL): does a flow still use the address? Asked when a name has expired;
 * true keeps all its names for LEARNED_RECHECK_S more. The kernel denies new connections by its own copy of the expiry
 * meanwhile. Costs what is due, not what is there.
 */
void learned_expire(struct learned *learned, __u64 now_ns,
                    bool (*live)(void *context, __u32 agent_id, const struct address *address),
                    learned_removed_fn removed, void *context);
/* When learned_expire() has something to do next; UINT64_MAX: nothing. */
__u64 learned_deadline(const struct learned *learned);

/* Ends the pairs of an agent whose name keep() does not want: a narrowed policy. Nothing is remembered of them. */
void learned_drop(struct learned *learned, __u32 agent_id, bool (*keep)(void *context, const char *name),
                  learned_removed_fn removed, void *context);
/* Forgets an agent altogether; no callbacks. */
void learned_remove_agent(struct learned *learned, __u32 agent_id);

struct learned_statistics {
        size_t addresses; /* effective */
        size_t pairs;     /* effective */
        size_t remembered;
        __u64 refused; /* -ENOSPC so far */
};
void learned_statistics(const struct learned *learned, struct learned_statistics *ret);
size_t learned_count(const struct learned *learned, __u32 agent_id); /* effective addresses of an agent */
