/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The supervisor's worker of the moment: a link is a process and a socket. supervisor.c is what the monitor calls,
 * supervisor_link.c what happens between two workers.
 *
 * Lifetime: libuv closes handles later, so links and the supervisor's own handles outlive their owners until their
 * close callbacks; a link then has no supervisor.
 */
#pragma once

#include "agentd/dns/channel.h"
#include "agentd/dns/supervisor.h"
#include "agentd/dns/supervisor_state.h"

struct link {
        uv_poll_t poll;
        struct dns_supervisor *supervisor; /* NULL: given up */
        struct channel channel;
        int fd;
        pid_t pid;
        bool ready;
        unsigned silent; /* looks since it was last heard of */
        __u64 started_ms;
};

/* A captured look-up that came while there was no worker. */
struct held_query {
        struct held_query *next;
        struct message_query message;
};

struct dns_supervisor {
        uv_loop_t *loop;
        char *program;
        struct dns_supervisor_callbacks callbacks;
        void *context;
        struct message_settings settings;
        struct dns_settings source; /* upstreams owned; for reading resolv.conf again */
        bool system;
        struct supervisor_state state;
        struct link *link; /* NULL: between two workers */
        uv_timer_t restart_timer;
        uv_timer_t resolv_conf_timer;
        uv_timer_t silence_timer;
        unsigned n_open; /* of the three */
        unsigned restarts;
        __u32 backoff_ms;
        __u64 next_id;
        struct held_query *held, **held_last;
        size_t n_held;
};

/* 0, or -errno when the worker is gone now (or there is none): the next one will be told. */
int link_send(struct link *link, const void *message, const int *fds, size_t n_fds);

/* A worker that has said READY, or why there is none. Not yet watched. */
int link_start_ready(struct dns_supervisor *supervisor, const struct message_settings *settings, struct link **ret);

/* Makes it the supervisor's, which must have none, and tells it everything. */
void link_adopt(struct dns_supervisor *supervisor, struct link *link);

/* Replaces a worker of which nothing has been heard for SILENT_LOOKS calls of this; called once a second. */
void link_look(struct dns_supervisor *supervisor);

/* Ends the process; returns what it died of. The link is then not to be used. */
int link_end(struct link *link);

/* What a worker was asked and did not answer: it may have died of it, so the next one is not asked. */
void supervisor_fail_resolves(struct dns_supervisor *supervisor);
void supervisor_drop_held(struct dns_supervisor *supervisor);
