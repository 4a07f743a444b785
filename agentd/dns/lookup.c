/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One look-up in flight and everyone who waits for it.
 *
 *     asking -> filtered -> learning -> answered        any step may fail: SERVFAIL
 *
 * The agent's policy may change at any step. What was judged under another epoch is judged again before it is told;
 * the packet is kept until then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/dns/answer.h"
#include "agentd/dns/worker_state.h"
#include "agentd/util/cleanup.h"

enum { EPOCHS_MAX = 4 };

struct waiter {
        struct waiter *next;
        struct listener_client client;
        struct dns_query query;
        __u64 received_ns;
};

/* No padding: it is hashed as bytes. What follows type is as-asked's: each of a client's sockets may ask another
 * server, so that only what one of them repeats is one look-up. */
struct lookup_key {
        __u32 type;
        __u32 listener_id;
        __u32 port;
        __u32 tcp;
        struct address source;
        char name[NAME_MAX_BYTES];
};

struct lookup {
        struct worker *worker;
        struct worker_agent *agent; /* NULL: everyone has been answered; only the resolver still holds it */
        struct lookup_key key;
        struct lookup *newer, **link; /* in worker->oldest */
        __u64 started_ms;
        struct waiter *waiters;
        bool asking; /* the resolver will call back and cannot be stopped */
        bool secure;
        unsigned n_epochs;
        __u32 epoch;
        void *packet; /* kept while learning */
        size_t packet_size;
        struct answer *answer;
        struct learn *learn;
        struct forward *forward;
        UT_hash_handle hh;
};

static void lookup_judge(struct lookup *lookup);

/* Takes it out of all lists. Its memory stays while the resolver holds it. */
static void lookup_end(struct lookup *lookup)
{
        struct worker_agent *agent = lookup->agent;
        struct worker *worker = lookup->worker;

        if (agent) {
                HASH_DELETE(hh, agent->lookups, lookup);
                agent->n_lookups--;
                lookup->agent = NULL;
                *lookup->link = lookup->newer;
                if (lookup->newer)
                        lookup->newer->link = lookup->link;
                else
                        worker->newest = lookup->link;
        }
        while (lookup->waiters) {
                struct waiter *waiter = lookup->waiters;

                lookup->waiters = waiter->next;
                agent->n_waiters--;
                listener_client_release(&waiter->client);
                free(waiter);
        }
        if (lookup->learn)
                learn_cancel(worker, TAKE_PTR(lookup->learn));
        if (lookup->forward)
                forward_cancel(worker, TAKE_PTR(lookup->forward));
        answer_free(TAKE_PTR(lookup->answer));
        free(TAKE_PTR(lookup->packet));
        if (!lookup->asking)
                free(lookup);
}

static void lookup_fail(struct lookup *lookup, enum dns_rcode rcode, enum dns_ede ede, enum dns_outcome outcome)
{
        for (struct waiter *waiter = lookup->waiters; waiter; waiter = waiter->next) {
                query_refuse(lookup->worker, &waiter->client, &waiter->query, rcode, ede);
                worker_observe(lookup->worker, waiter->received_ns);
                worker_count(lookup->agent, outcome);
        }
        lookup_end(lookup);
}

static void lookup_refuse(struct lookup *lookup, enum verdict_reason reason)
{
        for (struct waiter *waiter = lookup->waiters; waiter; waiter = waiter->next)
                worker_report(lookup->agent, &waiter->client, lookup->key.name, (__u16)lookup->key.type, reason, false,
                              NULL);
        lookup_fail(lookup, query_blocked_rcode(lookup->worker), DNS_EDE_BLOCKED, DNS_OUTCOME_REFUSED);
}

/* How long an answer may be told without asking again: its TTL, and never up to the end of what was learned. */
static __u32 cache_lifetime(const struct worker *worker, __u32 ttl_s)
{
        __u64 learned_s = (__u64)MAX(ttl_s, worker->settings.min_ttl_s) + worker->settings.grace_s;

        return (__u32)MIN((__u64)ttl_s, learned_s > 0 ? learned_s - 1 : 0);
}

static void lookup_release(struct lookup *lookup)
{
        struct worker *worker = lookup->worker;
        struct answer *answer = lookup->answer;
        enum dns_ede ede = answer->nothing_left ? DNS_EDE_FILTERED : DNS_EDE_NONE;
        struct worker_agent *agent = lookup->agent;

        answer->template.secure = lookup->secure && answer->n_withheld_total == 0;
        for (struct waiter *waiter = lookup->waiters; waiter; waiter = waiter->next) {
                bool tcp = waiter->client.connection;

                listener_reply(&waiter->client, worker->reply,
                               dns_template_write(&answer->template, &waiter->query, 0, ede, worker->reply,
                                                  tcp ? sizeof(worker->reply) : waiter->query.udp_size));
                worker_observe(worker, waiter->received_ns);
                worker_count(agent, answer->n_withheld_total ? DNS_OUTCOME_WITHHELD : DNS_OUTCOME_ANSWERED);
        }
        /*
         * Not kept: what was withheld, so that each attempt is reported; as-asked's negative answers, because the next
         * server of the agent's list may know better; what is let through by audit only.
         */
        if (answer->n_withheld_total == 0 && (answer->template.n_answers > 0 || !worker->settings.as_asked) &&
            dns_policy_name(worker_policy(agent), lookup->key.name).reason == REASON_NONE)
                (void)dns_cache_put(agent->cache, lookup->key.name, (__u16)lookup->key.type, &answer->template,
                                    cache_lifetime(worker, answer->ttl_s), uv_now(&worker->loop));
        lookup_end(lookup);
}

static void lookup_learned(void *context, int error)
{
        struct lookup *lookup = context;

        lookup->learn = NULL;
        if (lookup->epoch != lookup->agent->epoch)
                lookup_judge(lookup); /* learned under a policy that is gone */
        else if (error != 0)
                lookup_fail(lookup, DNS_SERVFAIL, DNS_EDE_OTHER, DNS_OUTCOME_FAILED);
        else
                lookup_release(lookup);
}

static void report_withheld(struct lookup *lookup)
{
        const struct answer *answer = lookup->answer;

        for (size_t i = 0; i < answer->n_withheld; i++)
                worker_report(lookup->agent, &lookup->waiters->client, lookup->key.name, (__u16)lookup->key.type,
                              answer->withheld[i].reason, lookup->agent->audit, &answer->withheld[i].address);
}

static void lookup_judge(struct lookup *lookup)
{
        struct worker_agent *agent = lookup->agent;
        const struct dns_policy *policy = worker_policy(agent);
        struct answer_question question = {
                .policy = policy,
                .name = lookup->key.name,
                .type = (__u16)lookup->key.type,
                .audit = agent->audit,
                .max_ttl_s = lookup->worker->settings.max_ttl_s,
        };
        enum verdict_reason reason;
        int r;

        if (lookup->n_epochs++ > EPOCHS_MAX) {
                lookup_fail(lookup, DNS_SERVFAIL, DNS_EDE_OTHER, DNS_OUTCOME_FAILED);
                return;
        }
        lookup->epoch = agent->epoch;
        if (!policy || agent->quarantine) {
                lookup_refuse(lookup, policy ? REASON_QUARANTINE : REASON_NO_POLICY);
                return;
        }
        reason = dns_policy_name(policy, lookup->key.name).reason;
        if (reason != REASON_NONE && !agent->audit) {
                lookup_refuse(lookup, reason);
                return;
        }
        answer_free(TAKE_PTR(lookup->answer));
        r = answer_new(lookup->packet, lookup->packet_size, &question, &lookup->answer);
        if (r < 0) {
                lookup_fail(lookup, DNS_SERVFAIL, DNS_EDE_OTHER, DNS_OUTCOME_FAILED);
                return;
        }
        if (lookup->answer->denied_name[0]) {
                lookup_refuse(lookup, REASON_DENY_RULE);
                return;
        }
        /* Under a second policy for the same packet, what it withholds is reported too. */
        report_withheld(lookup);
        if (reason != REASON_NONE || lookup->answer->n_addresses == 0) {
                lookup_release(lookup);
                return;
        }
        r = learn_start(lookup->worker, agent->id, agent->policy_id, lookup->key.name, lookup->answer->addresses,
                        lookup->answer->n_addresses, lookup_learned, lookup, &lookup->learn);
        if (r < 0)
                lookup_fail(lookup, DNS_SERVFAIL, DNS_EDE_OTHER, DNS_OUTCOME_FAILED);
}

static void lookup_answered(struct lookup *lookup, const struct resolver_result *result)
{
        if (result->status != RESOLVER_ANSWER) {
                bool bogus = result->status == RESOLVER_BOGUS;

                lookup_fail(lookup, DNS_SERVFAIL, bogus ? DNS_EDE_BOGUS : DNS_EDE_NO_REACHABLE_AUTHORITY,
                            DNS_OUTCOME_FAILED);
                return;
        }
        lookup->packet = malloc(result->size);
        if (!lookup->packet) {
                lookup_fail(lookup, DNS_SERVFAIL, DNS_EDE_OTHER, DNS_OUTCOME_FAILED);
                return;
        }
        memcpy(lookup->packet, result->packet, result->size);
        lookup->packet_size = result->size;
        lookup->secure = result->secure;
        lookup_judge(lookup);
}

static void lookup_resolved(void *context, const struct resolver_result *result)
{
        struct lookup *lookup = context;

        lookup->asking = false;
        if (!lookup->agent) {
                free(lookup); /* everyone was told that it failed */
                return;
        }
        lookup_answered(lookup, result);
}

static void lookup_forwarded(void *context, const struct resolver_result *result)
{
        struct lookup *lookup = context;

        lookup->forward = NULL;
        lookup_answered(lookup, result);
}

static int lookup_add_waiter(struct lookup *lookup, const struct listener_client *client, const struct dns_query *query)
{
        struct waiter *waiter;

        if (lookup->agent->n_waiters >= LIMIT_WAITERS)
                return -ENOBUFS;
        waiter = malloc(sizeof(*waiter));
        if (!waiter)
                return -ENOMEM;
        waiter->client = listener_client_hold(client);
        waiter->query = *query;
        waiter->received_ns = lookup->worker->received_ns;
        waiter->next = lookup->waiters;
        lookup->waiters = waiter;
        lookup->agent->n_waiters++;
        return 0;
}

static int lookup_new(struct worker_agent *agent, const struct lookup_key *key, struct lookup **ret)
{
        struct worker *worker = agent->worker;
        struct lookup *lookup;
        bool oom = false;

        if (agent->n_lookups >= LIMIT_IN_FLIGHT)
                return -ENOBUFS;
        lookup = calloc(1, sizeof(*lookup));
        if (!lookup)
                return -ENOMEM;
        lookup->worker = worker;
        lookup->key = *key;
        lookup->started_ms = uv_now(&worker->loop);
        HASH_ADD(hh, agent->lookups, key, sizeof(lookup->key), lookup);
        if (oom) {
                free(lookup);
                return -ENOMEM;
        }
        agent->n_lookups++;
        lookup->agent = agent;
        lookup->link = worker->newest;
        *worker->newest = lookup;
        worker->newest = &lookup->newer;
        *ret = lookup;
        return 0;
}

static int lookup_ask(struct lookup *lookup, const struct listener_client *client)
{
        struct worker *worker = lookup->worker;
        int r;

        if (worker->settings.as_asked)
                return forward_start(worker, lookup->agent->id, client, lookup->key.name, (__u16)lookup->key.type,
                                     lookup_forwarded, lookup, &lookup->forward);
        if (!worker->resolver)
                return -EOPNOTSUPP;
        lookup->asking = true;
        r = resolver_ask(worker->resolver, lookup->key.name, (__u16)lookup->key.type, lookup_resolved, lookup);
        if (r < 0)
                lookup->asking = false;
        return r;
}

static void as_asked_key(const struct listener_client *client, struct lookup_key *ret)
{
        __u16 port;

        listener_client_address(client, &ret->source, &port);
        ret->port = port;
        ret->tcp = client->connection != NULL;
        ret->listener_id = listener_id(client->listener);
}

void lookup_start(struct worker_agent *agent, const struct listener_client *client, const struct dns_query *query)
{
        struct lookup_key key = {.type = query->type};
        struct lookup *lookup;
        int r;

        memcpy(key.name, query->name, sizeof(key.name));
        if (agent->worker->settings.as_asked)
                as_asked_key(client, &key);

        HASH_FIND(hh, agent->lookups, &key, sizeof(key), lookup);
        if (lookup) {
                r = lookup_add_waiter(lookup, client, query);
        } else {
                r = lookup_new(agent, &key, &lookup);
                if (r == 0) {
                        r = lookup_add_waiter(lookup, client, query);
                        if (r == 0)
                                r = lookup_ask(lookup, client);
                        if (r < 0) {
                                lookup_end(lookup);
                                lookup = NULL;
                        }
                }
        }
        if (r < 0) {
                query_refuse(agent->worker, client, query, DNS_SERVFAIL, DNS_EDE_OTHER);
                worker_count(agent, DNS_OUTCOME_FAILED);
        }
}

void lookup_agent_gone(struct worker_agent *agent)
{
        while (agent->lookups)
                lookup_end(agent->lookups);
}

void lookup_expire(struct worker *worker, __u64 now_ms)
{
        while (worker->oldest && now_ms - worker->oldest->started_ms >= LIMIT_LOOKUP_MS)
                lookup_fail(worker->oldest, DNS_SERVFAIL, DNS_EDE_NO_REACHABLE_AUTHORITY, DNS_OUTCOME_FAILED);
}
