/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the worker's files share: the worker, its agents, and the steps of a look-up.
 *
 *     query.c    is the name allowed? refused here, answered from the cache, or
 *     lookup.c   resolved, filtered, learned, then answered
 *     learn.c    asks the monitor, waits for its word
 *     forward.c  as-asked: the agent's own server
 *     worker_refresh.c  exact domains, for the monitor
 *
 * One thread, one loop. An agent's state goes when the agent goes; what is still in flight then finds agent == NULL.
 */
#pragma once

#include <stdbool.h>
#include <uv.h>

#include "agentd/abi_message.h"
#include "agentd/dns/cache.h"
#include "agentd/dns/channel.h"
#include "agentd/dns/limit.h"
#include "agentd/dns/listener.h"
#include "agentd/dns/policy_table.h"
#include "agentd/dns/resolver.h"

#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) (oom = true)
#include <uthash.h>

struct lookup;
struct learn;
struct forward;
struct refresh_task;
struct worker;

struct worker_listener {
        struct worker_listener *next;
        struct listener *listener;
        struct worker_agent *agent;
};

struct worker_agent {
        struct worker *worker;
        __u32 id;
        __u32 policy_id;
        __u32 epoch; /* rises when the agent or its policy changes: what was judged before is judged again */
        bool audit, quarantine;
        bool statistics_changed;
        unsigned n_lookups, n_waiters, n_connections;
        struct lookup *lookups; /* in flight, by name and type */
        struct dns_cache *cache;
        struct worker_listener *listeners;
        struct limit_wildcard wildcard;
        struct limit_bucket reports;
        struct limit_rate rate;
        __u64 outcomes[DNS_OUTCOME_MAX];
        UT_hash_handle hh;
};

/* The last outcome is not one: reports (MESSAGE_REFUSED) that were counted and not sent. */
enum { DNS_OUTCOME_UNREPORTED = DNS_OUTCOME_MAX - 1 };

struct worker {
        uv_loop_t loop;
        uv_poll_t monitor_poll;
        uv_timer_t tick;
        int monitor_fd;
        int exit_status;
        struct channel monitor;
        struct message_settings settings;
        struct resolver *resolver; /* NULL: as-asked alone */
        struct policy_table *policies;
        struct worker_agent *agents;
        struct listener_pool *pool;
        size_t cache_total;
        __u64 next_id;
        struct learn *learns;
        struct forward *forwards;
        struct lookup *oldest, **newest;              /* every look-up in order of its start */
        struct refresh_task *waiting, **last_waiting; /* refreshes whose turn has not come */
        unsigned n_refreshes;
        bool refreshing;
        unsigned n_ticks;
        struct message_durations durations;
        bool durations_changed;
        __u64 received_ns; /* uv_hrtime() when the query at hand came */
        __u8 reply[DNS_MESSAGE_MAX];
};

/* worker.c */
void worker_send(struct worker *worker, const void *message); /* a lost one is counted by nobody: the monitor is gone */
int worker_try_send(struct worker *worker, const void *message);
const struct dns_policy *worker_policy(const struct worker_agent *agent);
void worker_count(struct worker_agent *agent, enum dns_outcome outcome);
/* A reply was sent to a query that came at received_ns (uv_hrtime()). */
void worker_observe(struct worker *worker, __u64 received_ns);
/* client may be NULL; address may be NULL. */
void worker_report(struct worker_agent *agent, const struct listener_client *client, const char *name, __u16 type,
                   enum verdict_reason reason, bool would, const struct address *address);

/* query.c: listener_query of every listener; context is the struct worker_listener. */
void query_received(void *context, const struct listener_client *client, const void *packet, size_t size);
/* A reply without records. */
void query_refuse(struct worker *worker, const struct listener_client *client, const struct dns_query *query,
                  enum dns_rcode rcode, enum dns_ede ede);
enum dns_rcode query_blocked_rcode(const struct worker *worker);

/* lookup.c */
void lookup_start(struct worker_agent *agent, const struct listener_client *client, const struct dns_query *query);
void lookup_agent_gone(struct worker_agent *agent);
void lookup_expire(struct worker *worker, __u64 now_ms); /* SERVFAIL for those that took too long */

/* learn.c */
typedef void (*learn_done)(void *context, int error);
/*
 * agent_id 0: for every agent of the policy. At least one address. done is called once, later; not when this fails or
 * after learn_cancel().
 */
int learn_start(struct worker *worker, __u32 agent_id, __u32 policy_id, const char *name,
                const struct message_address *addresses, size_t n_addresses, learn_done done, void *context,
                struct learn **ret);
void learn_cancel(struct worker *worker, struct learn *learn);
void learn_acknowledged(struct worker *worker, const struct message_learned *message);

/* forward.c: resolver_done as in resolver.h, called once, later; not when this fails or after forward_cancel(). */
int forward_start(struct worker *worker, __u32 agent_id, const struct listener_client *client, const char *name,
                  __u16 type, resolver_done done, void *context, struct forward **ret);
void forward_cancel(struct worker *worker, struct forward *forward);
void forward_upstream(struct worker *worker, const struct message_upstream *message, int fd); /* takes fd (-1: none) */

/* worker_refresh.c */
void worker_refresh_start(struct worker *worker, const struct message_resolve *message);
