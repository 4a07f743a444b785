/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The monitor's budgets, shared by monitor_budget*.c and the verbs that show them.
 *
 * An agent's limits are what its policy's budgets and rates became in the kernel: references to ledgers and buckets,
 * and a run of sets. They are prepared beside those in use (whatever can fail fails here), taken with the word that
 * publishes the policy's version, and given back when no packet can read by the word before.
 *
 * What is held of a policy is copied: a reload frees the old configuration while its limits stay.
 */
#pragma once

#include "agentd/datapath/ledger_map.h"
#include "agentd/ledger/keeper.h"
#include "agentd/ledger/usage.h"
#include "agentd/monitor.h"

/* A ledger that some agent's limits hold; shared ones are held by many. */
struct monitor_ledger {
        UT_hash_handle hh;        /* by id */
        UT_hash_handle hh_by_key; /* by key */
        __u32 id;
        char key[LEDGER_KEY_MAX - 1];
        enum budget_period period;
        unsigned references;           /* of struct monitor_limits; each is one of the datapath's as well */
        struct ledger_reading reading; /* the last */
        struct ledger_usage usage;
        struct stored_ledger noted; /* what the keeper was told last */
        bool ended;                 /* on_exhausted: reset was done, for what was told */
        __u64 ended_used;           /* used by then */
        __u64 ticked_used;          /* and at the last tick */
};

/* One item of `budget`, for one agent. */
struct monitor_budget {
        char *scope; /* unique in the agent */
        struct monitor_ledger *ledger;
        char *rule_id, *rule_scope; /* NULL: the agent as a whole. Rules of one scope have one ledger */
        char *owner;                /* the policy that declares it */
        enum budget_directions directions;
        bool shared, reset;
        __u64 limit;
};

/* One `rate`. */
struct monitor_bucket {
        char key[LEDGER_KEY_MAX - 1];
        __u32 id; /* 0: not had */
        __u64 interval_ns, tolerance_ns;
};

struct monitor_limits {
        struct monitor_limits *next; /* of the retired */
        __u32 version;
        char agent[AGENT_NAME_MAX]; /* it is a part of the ledgers' keys */
        struct monitor_budget *budgets;
        size_t n_budgets;
        struct monitor_bucket *buckets;
        size_t n_buckets;
        struct limit_set *sets;     /* as they were made */
        struct datapath_limits run; /* where; first 0: no limits, nothing was made */
        bool borrowed; /* the run is that of the limits in use, and comes over when these take their place */
        __u64 retired_ns;
};

struct monitor_budgets {
        struct monitor *monitor; /* NULL: it has gone */
        struct monitor_ledger *by_id, *by_key;
        size_t n_ledgers;
        struct monitor_limits *retired;
        struct ledger_keeper *keeper; /* NULL: nothing is remembered (a one-shot run) */
        uv_timer_t flush;
        uv_poll_t clock_poll;
        int clock_fd; /* a timerfd that tells of steps; -1: none */
        unsigned closing;
        __s64 start_step_ns; /* by how much the clock had moved while no daemon lived */
        __u64 read_ns, pruned_ns;
        struct ledger_reading *readings;
        __u32 *ids;
        size_t capacity;
};

/* The wall clock by the offset that the kernel's windows use, in UTC seconds. */
__u64 monitor_budget_utc(struct monitor *monitor);
/* Reads all ledgers into ->reading, and learns the rates. */
void monitor_budgets_read(struct monitor *monitor);
/* Hands to the keeper what has changed since it was told. */
void monitor_budget_note(struct monitor *monitor, struct monitor_ledger *ledger, bool exact);
void monitor_budgets_note(struct monitor *monitor);
/* Notes everything and writes it in the background. */
void monitor_budgets_flush(struct monitor *monitor);
/* When it is exhausted: ends the sockets of those budgets that want it, of all agents that have the ledger. Once. */
void monitor_budget_exhausted(struct monitor *monitor, struct monitor_ledger *ledger);
/* From the store, when the ledger is held for the first time. 0; -errno: what is remembered cannot be read. */
int monitor_budget_restore(struct monitor *monitor, struct monitor_ledger *ledger);

/* The agent's, for this item of its policy; rule: NULL for the agent as a whole. NULL: it has none. */
const struct monitor_budget *monitor_budget_for(const struct monitor_agent *agent, const struct rule *rule,
                                                const struct budget *item);
/* Which of the agent's budgets a scope names: writes at most n, returns how many there are. scope NULL: all of its own,
 * not shared ones. */
size_t monitor_budgets_find(const struct monitor_agent *agent, const char *scope, struct monitor_budget **ret,
                            size_t n);
