/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the supervisor must be able to tell a new worker: policies, agents, listeners, and what is still to be resolved.
 */
#pragma once

#include <stdbool.h>

#include "agentd/abi_message.h"

#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) (oom = true)
#include <uthash.h>

struct known_policy {
        struct message_policy message;
        int fd; /* sealed memfd */
        UT_hash_handle hh;
};

struct known_agent {
        struct message_agent message;
        UT_hash_handle hh;
};

struct known_listener {
        struct message_listener message;
        int fds[4]; /* present ones first */
        size_t n_fds;
        UT_hash_handle hh;
};

struct pending_resolve {
        struct message_resolve message;
        bool sent; /* to the worker that runs now */
        UT_hash_handle hh;
};

struct supervisor_state {
        struct known_policy *policies;
        struct known_agent *agents;
        struct known_listener *listeners;
        struct pending_resolve *resolves;
};

void supervisor_state_clear(struct supervisor_state *state);

struct known_policy *state_find_policy(const struct supervisor_state *state, __u32 policy_id);
struct known_agent *state_find_agent(const struct supervisor_state *state, __u32 agent_id);
struct known_listener *state_find_listener(const struct supervisor_state *state, __u32 listener_id);
struct pending_resolve *state_find_resolve(const struct supervisor_state *state, __u64 id);

/* Each replaces what stands under the same id. 0 or -ENOMEM. fds are taken whatever is returned. */
int state_put_policy(struct supervisor_state *state, const struct message_policy *message, int fd);
int state_put_agent(struct supervisor_state *state, const struct message_agent *message);
int state_put_listener(struct supervisor_state *state, const struct message_listener *message, const int *fds,
                       size_t n_fds);
int state_put_resolve(struct supervisor_state *state, const struct message_resolve *message);

void state_drop_policy(struct supervisor_state *state, struct known_policy *policy);
/* And its listeners. */
void state_drop_agent(struct supervisor_state *state, struct known_agent *agent);
void state_drop_listener(struct supervisor_state *state, struct known_listener *listener);
void state_drop_resolve(struct supervisor_state *state, struct pending_resolve *resolve);
