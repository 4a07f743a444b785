/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Exact domains are kept fresh for all agents of a policy: A and AAAA together, learned under agent 0, and the monitor
 * told how it ended.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/dns/answer.h"
#include "agentd/dns/worker_state.h"
#include "agentd/util/cleanup.h"

enum { HALVES = 2 };

struct refresh_task;

struct half {
        struct refresh_task *refresh;
        __u16 type;
        int error; /* 0: addresses; -ENOENT, -EAGAIN, -EBADMSG */
        struct answer *answer;
};

struct refresh_task {
        struct worker *worker;
        struct refresh_task *next; /* in worker->waiting */
        bool running;
        __u64 id;
        __u32 policy_id;
        char name[NAME_MAX_BYTES];
        unsigned n_waiting; /* halves, and one while they are being started */
        struct half halves[HALVES];
        __u32 ttl_s, n_addresses;
        struct learn *learn;
};

static void refresh_run_waiting(struct worker *worker);

static void refresh_end(struct refresh_task *refresh, int error)
{
        struct worker *worker = refresh->worker;
        bool running;
        struct message_resolved message = {
                .header = {MESSAGE_RESOLVED, sizeof(message), refresh->id},
                .policy_id = refresh->policy_id,
                .error = error,
                .ttl_s = error == 0 ? refresh->ttl_s : 0,
                .n_addresses = error == 0 ? refresh->n_addresses : 0,
        };

        memcpy(message.name, refresh->name, sizeof(message.name));
        worker_send(worker, &message);
        for (size_t i = 0; i < HALVES; i++)
                answer_free(refresh->halves[i].answer);
        running = refresh->running;
        free(refresh);
        if (running)
                worker->n_refreshes--;
        /* Not from within: what is cached ends at once, and thousands of them would be thousands of frames. */
        if (running && !worker->refreshing)
                refresh_run_waiting(worker);
}

static void refresh_learned(void *context, int error)
{
        refresh_end(context, error == 0 ? 0 : -EAGAIN);
}

static void refresh_learn(struct refresh_task *refresh)
{
        _cleanup_free_ struct message_address *addresses = NULL;
        size_t n_addresses = 0;
        int error = -ENOENT, r;

        for (size_t i = 0; i < HALVES; i++)
                if (refresh->halves[i].answer)
                        n_addresses += refresh->halves[i].answer->n_addresses;
        if (n_addresses == 0) {
                /* Bogus says most, then a failure (it may get better), then "there is none". */
                for (size_t i = 0; i < HALVES; i++)
                        if (refresh->halves[i].error == -EBADMSG ||
                            (refresh->halves[i].error == -EAGAIN && error != -EBADMSG))
                                error = refresh->halves[i].error;
                refresh_end(refresh, error);
                return;
        }
        addresses = calloc(n_addresses, sizeof(*addresses));
        if (!addresses) {
                refresh_end(refresh, -EAGAIN);
                return;
        }
        refresh->n_addresses = 0;
        refresh->ttl_s = UINT32_MAX;
        for (size_t i = 0; i < HALVES; i++) {
                const struct answer *answer = refresh->halves[i].answer;

                if (!answer || answer->n_addresses == 0)
                        continue;
                memcpy(addresses + refresh->n_addresses, answer->addresses, answer->n_addresses * sizeof(addresses[0]));
                refresh->n_addresses += (__u32)answer->n_addresses;
                refresh->ttl_s = MIN(refresh->ttl_s, answer->ttl_s);
        }
        r = learn_start(refresh->worker, 0, refresh->policy_id, refresh->name, addresses, n_addresses, refresh_learned,
                        refresh, &refresh->learn);
        if (r < 0)
                refresh_end(refresh, -EAGAIN);
}

static void refresh_half_over(struct refresh_task *refresh)
{
        if (--refresh->n_waiting == 0)
                refresh_learn(refresh);
}

static void half_resolved(void *context, const struct resolver_result *result)
{
        struct half *half = context;
        struct refresh_task *refresh = half->refresh;
        /* Looked up when it is needed: the policy may have gone meanwhile. */
        const struct dns_policy *policy = policy_table_find(refresh->worker->policies, refresh->policy_id);
        struct answer_question question = {
                .policy = policy,
                .name = refresh->name,
                .type = half->type,
                .max_ttl_s = refresh->worker->settings.max_ttl_s,
        };

        half->error = 0;
        if (result->status == RESOLVER_BOGUS)
                half->error = -EBADMSG;
        else if (result->status != RESOLVER_ANSWER)
                half->error = -EAGAIN;
        else if (!policy)
                half->error = -ENOENT;
        else if (answer_new(result->packet, result->size, &question, &half->answer) < 0)
                half->error = -EAGAIN;
        else if (half->answer->n_addresses == 0)
                half->error = -ENOENT;
        refresh_half_over(refresh);
}

static void refresh_run(struct refresh_task *refresh)
{
        static const __u16 types[HALVES] = {DNS_TYPE_A, DNS_TYPE_AAAA};
        struct worker *worker = refresh->worker;
        const struct dns_policy *policy = policy_table_find(worker->policies, refresh->policy_id);

        refresh->running = true;
        worker->n_refreshes++;
        if (!policy || dns_policy_name(policy, refresh->name).reason != REASON_NONE) {
                refresh_end(refresh, -ENOENT);
                return;
        }
        refresh->n_waiting = 1;
        for (size_t i = 0; i < HALVES; i++) {
                struct half *half = &refresh->halves[i];

                half->refresh = refresh;
                half->type = types[i];
                refresh->n_waiting++;
                if (resolver_ask(worker->resolver, refresh->name, types[i], half_resolved, half) < 0) {
                        half->error = -EAGAIN;
                        refresh->n_waiting--;
                }
        }
        refresh_half_over(refresh);
}

static void refresh_run_waiting(struct worker *worker)
{
        worker->refreshing = true;
        while (worker->waiting && worker->n_refreshes < LIMIT_REFRESHES) {
                struct refresh_task *refresh = worker->waiting;

                worker->waiting = refresh->next;
                if (!worker->waiting)
                        worker->last_waiting = &worker->waiting;
                refresh_run(refresh);
        }
        worker->refreshing = false;
}

void worker_refresh_start(struct worker *worker, const struct message_resolve *message)
{
        struct refresh_task *refresh;

        refresh = calloc(1, sizeof(*refresh));
        if (!refresh)
                return; /* no word: the monitor asks again when its own time is over */
        refresh->worker = worker;
        refresh->id = message->header.id;
        refresh->policy_id = message->policy_id;
        memcpy(refresh->name, message->name, sizeof(refresh->name));
        refresh->name[sizeof(refresh->name) - 1] = 0;

        if (!worker->resolver) {
                refresh_end(refresh, -EOPNOTSUPP);
                return;
        }
        *worker->last_waiting = refresh;
        worker->last_waiting = &refresh->next;
        refresh_run_waiting(worker);
}
