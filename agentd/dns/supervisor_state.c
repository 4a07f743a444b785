/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Four tables by id.
 */
#include "agentd/dns/supervisor_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct known_policy *state_find_policy(const struct supervisor_state *state, __u32 policy_id)
{
        struct known_policy *policy;

        HASH_FIND(hh, state->policies, &policy_id, sizeof(policy_id), policy);
        return policy;
}

struct known_agent *state_find_agent(const struct supervisor_state *state, __u32 agent_id)
{
        struct known_agent *agent;

        HASH_FIND(hh, state->agents, &agent_id, sizeof(agent_id), agent);
        return agent;
}

struct known_listener *state_find_listener(const struct supervisor_state *state, __u32 listener_id)
{
        struct known_listener *listener;

        HASH_FIND(hh, state->listeners, &listener_id, sizeof(listener_id), listener);
        return listener;
}

struct pending_resolve *state_find_resolve(const struct supervisor_state *state, __u64 id)
{
        struct pending_resolve *resolve;

        HASH_FIND(hh, state->resolves, &id, sizeof(id), resolve);
        return resolve;
}

void state_drop_policy(struct supervisor_state *state, struct known_policy *policy)
{
        HASH_DELETE(hh, state->policies, policy);
        close(policy->fd);
        free(policy);
}

void state_drop_listener(struct supervisor_state *state, struct known_listener *listener)
{
        HASH_DELETE(hh, state->listeners, listener);
        for (size_t i = 0; i < listener->n_fds; i++)
                close(listener->fds[i]);
        free(listener);
}

void state_drop_agent(struct supervisor_state *state, struct known_agent *agent)
{
        struct known_listener *listener, *next;

        HASH_ITER (hh, state->listeners, listener, next)
                if (listener->message.agent_id == agent->message.agent_id)
                        state_drop_listener(state, listener);
        HASH_DELETE(hh, state->agents, agent);
        free(agent);
}

void state_drop_resolve(struct supervisor_state *state, struct pending_resolve *resolve)
{
        HASH_DELETE(hh, state->resolves, resolve);
        free(resolve);
}

void supervisor_state_clear(struct supervisor_state *state)
{
        while (state->policies)
                state_drop_policy(state, state->policies);
        while (state->agents)
                state_drop_agent(state, state->agents);
        while (state->listeners)
                state_drop_listener(state, state->listeners);
        while (state->resolves)
                state_drop_resolve(state, state->resolves);
}

int state_put_policy(struct supervisor_state *state, const struct message_policy *message, int fd)
{
        struct known_policy *policy = state_find_policy(state, message->policy_id);
        bool oom = false;

        if (policy)
                state_drop_policy(state, policy);
        policy = calloc(1, sizeof(*policy));
        if (policy) {
                policy->message = *message;
                policy->fd = fd;
                HASH_ADD(hh, state->policies, message.policy_id, sizeof(__u32), policy);
        }
        if (!policy || oom) {
                free(policy);
                close(fd);
                return -ENOMEM;
        }
        return 0;
}

int state_put_agent(struct supervisor_state *state, const struct message_agent *message)
{
        struct known_agent *agent = state_find_agent(state, message->agent_id);
        bool oom = false;

        if (agent) {
                agent->message = *message;
                return 0;
        }
        agent = calloc(1, sizeof(*agent));
        if (!agent)
                return -ENOMEM;
        agent->message = *message;
        HASH_ADD(hh, state->agents, message.agent_id, sizeof(__u32), agent);
        if (oom) {
                free(agent);
                return -ENOMEM;
        }
        return 0;
}

int state_put_listener(struct supervisor_state *state, const struct message_listener *message, const int *fds,
                       size_t n_fds)
{
        struct known_listener *listener = state_find_listener(state, message->listener_id);
        bool oom = false;

        if (listener)
                state_drop_listener(state, listener);
        listener = calloc(1, sizeof(*listener));
        if (listener) {
                listener->message = *message;
                listener->n_fds = n_fds;
                memcpy(listener->fds, fds, n_fds * sizeof(*fds));
                HASH_ADD(hh, state->listeners, message.listener_id, sizeof(__u32), listener);
        }
        if (!listener || oom) {
                for (size_t i = 0; i < n_fds; i++)
                        close(fds[i]);
                free(listener);
                return -ENOMEM;
        }
        return 0;
}

int state_put_resolve(struct supervisor_state *state, const struct message_resolve *message)
{
        struct pending_resolve *resolve = calloc(1, sizeof(*resolve));
        bool oom = false;

        if (!resolve)
                return -ENOMEM;
        resolve->message = *message;
        HASH_ADD(hh, state->resolves, message.header.id, sizeof(__u64), resolve);
        if (oom) {
                free(resolve);
                return -ENOMEM;
        }
        return 0;
}
