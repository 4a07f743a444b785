/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The monitor's end of the DNS worker: starts it confined, restarts it when it dies, checks every message it sends.
 *
 * The worker is this program executed again (`agentd dns-worker`, hidden) with the socketpair as descriptor 3 and
 * nothing else. All functions are called on the event loop's thread. Listeners outlive a worker: the supervisor keeps
 * duplicates of their descriptors and hands everything to the next one, so a look-up waits for the restart instead of
 * being lost.
 */
#pragma once

#include <uv.h>

#include "agentd/abi_message.h"
#include "agentd/policy/compile.h"
#include "agentd/policy/policy.h"

struct dns_supervisor;

/* Called on the loop's thread. context is the caller's. Pointers are valid during the call only. */
struct dns_supervisor_callbacks {
        /* Make every address enforceable, then return 0; or -errno. message is bounded, its name canonical. */
        int (*learn)(void *context, const struct message_learn *message);
        void (*refused)(void *context, const struct message_refused *message);
        void (*resolved)(void *context, const struct message_resolved *message);
        /* A socket connected to the server that the client asked, made in the agent's namespace; or -errno. */
        int (*upstream)(void *context, const struct message_ask_upstream *message);
        void (*statistics)(void *context, const struct message_statistics *message);
        void (*durations)(void *context, const struct message_durations *message); /* may be NULL */
        /* The worker has died (status as of waitpid) and is being restarted; for a lifecycle event. */
        void (*restarted)(void *context, int wait_status);
};

/*
 * program: path to execute ("/proc/self/exe"). user: the worker's uid/gid name, NULL for "agentd" or, without it,
 * "nobody". Returns when the worker has said READY (5 s at most: -ETIMEDOUT). 0 or -errno.
 */
int dns_supervisor_new(uv_loop_t *loop, const char *program, const struct dns_settings *settings,
                       const struct dns_supervisor_callbacks *callbacks, void *context, struct dns_supervisor **ret);
void dns_supervisor_free(struct dns_supervisor *supervisor); /* ends the worker, closes everything */

int dns_supervisor_settings(struct dns_supervisor *supervisor, const struct dns_settings *settings);
/* policy_id: the kernel's policy version. Replaces what stood under the same id. */
int dns_supervisor_policy(struct dns_supervisor *supervisor, __u32 policy_id, const struct compiled_policy *compiled);
int dns_supervisor_policy_gone(struct dns_supervisor *supervisor, __u32 policy_id);
int dns_supervisor_agent(struct dns_supervisor *supervisor,
                         const struct message_agent *agent); /* header is filled in */
int dns_supervisor_agent_gone(struct dns_supervisor *supervisor, __u32 agent_id);
/* Takes the descriptors (-1: absent) whatever it returns. Order as in struct message_listener. */
int dns_supervisor_listener(struct dns_supervisor *supervisor, __u32 agent_id, __u32 listener_id, int fds[4]);
int dns_supervisor_listener_gone(struct dns_supervisor *supervisor, __u32 listener_id);
int dns_supervisor_query(struct dns_supervisor *supervisor,
                         const struct message_query *query); /* header is filled in */
/* *ret_id identifies the RESOLVED that will come. */
int dns_supervisor_resolve(struct dns_supervisor *supervisor, __u32 policy_id, const char *name, __u64 *ret_id);
pid_t dns_supervisor_pid(const struct dns_supervisor *supervisor);
unsigned dns_supervisor_restarts(const struct dns_supervisor *supervisor);
