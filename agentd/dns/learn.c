/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Learn before answer. There is no time-out here that turns into a yes: a monitor that does not answer means that the
 * agent gets no address.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/dns/worker_state.h"
#include "agentd/util/cleanup.h"

struct learn {
        __u64 id; /* shared by all messages of the answer */
        size_t n_waiting;
        int error;
        learn_done done;
        void *context;
        UT_hash_handle hh;
};

int learn_start(struct worker *worker, __u32 agent_id, __u32 policy_id, const char *name,
                const struct message_address *addresses, size_t n_addresses, learn_done done, void *context,
                struct learn **ret)
{
        struct learn *learn;
        bool oom = false;

        if (n_addresses == 0)
                return -EINVAL;
        learn = calloc(1, sizeof(*learn));
        if (!learn)
                return -ENOMEM;
        *learn = (struct learn){.id = worker->next_id++, .done = done, .context = context};
        HASH_ADD(hh, worker->learns, id, sizeof(learn->id), learn);
        if (oom) {
                free(learn);
                return -ENOMEM;
        }
        for (size_t at = 0; at < n_addresses; at += MESSAGE_ADDRESSES_MAX) {
                struct message_learn message = {
                        .header = {MESSAGE_LEARN, sizeof(message), learn->id},
                        .agent_id = agent_id,
                        .policy_id = policy_id,
                        .n_addresses = (__u32)MIN(n_addresses - at, MESSAGE_ADDRESSES_MAX),
                };
                int r;

                memcpy(message.name, name, sizeof(message.name));
                memcpy(message.addresses, addresses + at, message.n_addresses * sizeof(addresses[0]));
                r = worker_try_send(worker, &message);
                if (r < 0) {
                        learn_cancel(worker, learn);
                        return r;
                }
                learn->n_waiting++;
        }
        *ret = learn;
        return 0;
}

void learn_cancel(struct worker *worker, struct learn *learn)
{
        HASH_DELETE(hh, worker->learns, learn);
        free(learn);
}

void learn_acknowledged(struct worker *worker, const struct message_learned *message)
{
        struct learn *learn;
        learn_done done;
        void *context;
        int error;

        HASH_FIND(hh, worker->learns, &message->header.id, sizeof(message->header.id), learn);
        if (!learn)
                return; /* cancelled meanwhile */
        if (message->error != 0 && learn->error == 0)
                learn->error = message->error;
        if (--learn->n_waiting > 0)
                return;
        done = learn->done;
        context = learn->context;
        error = learn->error;
        learn_cancel(worker, learn);
        done(context, error);
}
