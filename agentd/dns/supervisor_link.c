/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * When a link breaks, everything that a worker must know is told to the next one (supervisor_state.h). Enforcement does
 * not depend on any of this: without a worker nothing new is learned, and what is learned expires.
 */
#include "agentd/dns/supervisor_link.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "agentd/dns/message_check.h"
#include "agentd/process/spawn.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

enum {
        READY_MS = 5000,
        STABLE_MS = 10000, /* a worker that lived this long starts the back-off anew */
        BACKOFF_FIRST_MS = 50,
        BACKOFF_MAX_MS = 1000,
        QUEUE_MAX = 65536,
        MESSAGES_PER_TURN = 64,
        SILENT_LOOKS = 10,
};

static void link_broken(struct link *link, const char *why);
static void link_ready(uv_poll_t *poll, int status, int events);

static void link_watch(struct link *link)
{
        uv_poll_start(&link->poll, UV_READABLE | (channel_is_waiting(&link->channel) ? UV_WRITABLE : 0), link_ready);
}

static void link_closed(uv_handle_t *handle)
{
        struct link *link = handle->data;

        channel_clear(&link->channel);
        close_fd(&link->fd);
        free(link);
}

int link_end(struct link *link)
{
        int status = process_end(link->pid);

        link->supervisor = NULL;
        uv_close((uv_handle_t *)&link->poll, link_closed);
        return status;
}

/*
 * 0, or -errno when the worker is gone now. A full queue is a worker that does not read: it is replaced, and told
 * everything anew.
 */
int link_send(struct link *link, const void *message, const int *fds, size_t n_fds)
{
        bool waited;
        int r;

        if (!link)
                return -ENOTCONN; /* the next worker will be told */
        waited = channel_is_waiting(&link->channel);
        r = channel_send(&link->channel, message, fds, n_fds);
        if (r < 0) {
                link_broken(link, "does not take messages");
                return r;
        }
        if (!waited && channel_is_waiting(&link->channel))
                link_watch(link);
        return 0;
}

/* Ends a worker that has not begun, for r or for the errno that its exit status tells. */
static int link_fail(struct link *link, int r)
{
        int status;

        /* It may have closed its socket a moment before its exit status is there. */
        if (r == -ECONNRESET || r == -EPIPE) {
                siginfo_t information;

                (void)waitid(P_PID, (id_t)link->pid, &information, WEXITED | WNOWAIT);
        }
        status = link_end(link);
        return WIFEXITED(status) && WEXITSTATUS(status) > 0 ? -WEXITSTATUS(status) : r;
}

static int link_start(struct dns_supervisor *supervisor, const struct message_settings *settings, struct link **ret)
{
        struct link *link = calloc(1, sizeof(*link));
        int r;

        if (!link)
                return -ENOMEM;
        r = process_start(supervisor->program, "dns-worker", &link->pid, &link->fd);
        if (r < 0) {
                free(link);
                return r;
        }
        channel_init(&link->channel, link->fd, QUEUE_MAX);
        link->started_ms = uv_hrtime() / NSEC_PER_MSEC;
        r = uv_poll_init(supervisor->loop, &link->poll, link->fd);
        if (r < 0) {
                process_end(link->pid);
                close(link->fd);
                free(link);
                return r;
        }
        link->poll.data = link;
        link->supervisor = supervisor;
        /* The socket is new and empty: this is sent, not queued. */
        r = channel_send(&link->channel, settings, NULL, 0);
        if (r < 0)
                return link_fail(link, r);
        *ret = link;
        return 0;
}

/* Blocks until READY. The worker's exit status is the errno of its failure. */
static int link_wait_ready(struct link *link)
{
        struct pollfd readable = {.fd = link->fd, .events = POLLIN};
        __u64 end_ms = uv_hrtime() / NSEC_PER_MSEC + READY_MS;
        union message message;
        int r;

        for (;;) {
                __u64 now_ms = uv_hrtime() / NSEC_PER_MSEC;

                r = poll(&readable, 1, now_ms < end_ms ? (int)(end_ms - now_ms) : 0);
                if (r == 0)
                        return -ETIMEDOUT;
                if (r < 0 && errno != EINTR)
                        return -errno;
                if (r > 0)
                        break;
        }
        r = channel_receive(link->fd, &message, NULL, NULL);
        if (r == 0 && message.header.kind == MESSAGE_READY) {
                link->ready = true;
                return 0;
        }
        return r == 0 ? -EBADMSG : r;
}

int link_start_ready(struct dns_supervisor *supervisor, const struct message_settings *settings, struct link **ret)
{
        struct link *link;
        int r;

        r = link_start(supervisor, settings, &link);
        if (r < 0)
                return r;
        r = link_wait_ready(link);
        if (r < 0) {
                r = link_fail(link, r);
                return log_error_errno(r, "the DNS worker does not start");
        }
        *ret = link;
        return 0;
}

void supervisor_drop_held(struct dns_supervisor *supervisor)
{
        while (supervisor->held) {
                struct held_query *query = supervisor->held;

                supervisor->held = query->next;
                free(query);
        }
        supervisor->held_last = &supervisor->held;
        supervisor->n_held = 0;
}

/* Everything that a new worker must know. Stops when the link breaks on the way. */
static void link_replay(struct dns_supervisor *supervisor, struct link *link)
{
        int r = 0;

        for (struct known_policy *policy = supervisor->state.policies; r == 0 && policy; policy = policy->hh.next)
                r = link_send(link, &policy->message, &policy->fd, 1);
        for (struct known_agent *agent = supervisor->state.agents; r == 0 && agent; agent = agent->hh.next)
                r = link_send(link, &agent->message, NULL, 0);
        for (struct known_listener *listener = supervisor->state.listeners; r == 0 && listener;
             listener = listener->hh.next)
                r = link_send(link, &listener->message, listener->fds, listener->n_fds);
        for (struct pending_resolve *resolve = supervisor->state.resolves; r == 0 && resolve;
             resolve = resolve->hh.next) {
                resolve->sent = true;
                r = link_send(link, &resolve->message, NULL, 0);
        }
        for (struct held_query *query = supervisor->held; r == 0 && query; query = query->next)
                r = link_send(link, &query->message, NULL, 0);
        if (r == 0)
                supervisor_drop_held(supervisor);
}

void link_adopt(struct dns_supervisor *supervisor, struct link *link)
{
        supervisor->link = link;
        link_watch(link);
        link_replay(supervisor, link);
}

void supervisor_fail_resolves(struct dns_supervisor *supervisor)
{
        struct pending_resolve *resolve, *next;

        HASH_ITER (hh, supervisor->state.resolves, resolve, next) {
                struct message_resolved message = {
                        .header = {MESSAGE_RESOLVED, sizeof(message), resolve->message.header.id},
                        .policy_id = resolve->message.policy_id,
                        .error = -EAGAIN,
                };

                if (!resolve->sent)
                        continue;
                memcpy(message.name, resolve->message.name, sizeof(message.name));
                state_drop_resolve(&supervisor->state, resolve);
                supervisor->callbacks.resolved(supervisor->context, &message);
        }
}

static void restart(uv_timer_t *timer)
{
        struct dns_supervisor *supervisor = timer->data;
        struct link *link;
        int r;

        /* The same timer watches that READY comes. */
        if (supervisor->link) {
                if (!supervisor->link->ready)
                        link_broken(supervisor->link, "does not become ready");
                return;
        }
        r = link_start(supervisor, &supervisor->settings, &link);
        if (r < 0) {
                log_error_errno(r, "cannot restart the DNS worker, trying again");
                uv_timer_start(&supervisor->restart_timer, restart, BACKOFF_MAX_MS, 0);
                return;
        }
        uv_timer_start(&supervisor->restart_timer, restart, READY_MS, 0);
        link_adopt(supervisor, link);
}

static void link_broken(struct link *link, const char *why)
{
        struct dns_supervisor *supervisor = link->supervisor;
        __u64 lived_ms = uv_hrtime() / NSEC_PER_MSEC - link->started_ms;
        __u32 delay_ms = supervisor->backoff_ms;
        int status;

        if (link->ready && lived_ms >= STABLE_MS)
                delay_ms = 0;
        supervisor->backoff_ms = delay_ms ? MIN(delay_ms * 2, BACKOFF_MAX_MS) : BACKOFF_FIRST_MS;

        supervisor->link = NULL;
        status = link_end(link);
        supervisor->restarts++;
        if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
                log_warning("the DNS worker died of signal %d, restarting it", WTERMSIG(status));
        else if (WIFEXITED(status))
                log_warning("the DNS worker ended with status %d, restarting it", WEXITSTATUS(status));
        else
                log_warning("the DNS worker %s, restarting it", why);
        uv_timer_start(&supervisor->restart_timer, restart, delay_ms, 0);
        supervisor_fail_resolves(supervisor);
        supervisor->callbacks.restarted(supervisor->context, status);
}

/* Looks and not time: while our own loop stood still, nothing was received either, and the worker is not to blame. */
void link_look(struct dns_supervisor *supervisor)
{
        struct link *link = supervisor->link;

        if (link && link->ready && ++link->silent > SILENT_LOOKS)
                link_broken(link, "has not been heard of for a while");
}

static void learn_wanted(struct link *link, const struct message_learn *message)
{
        struct dns_supervisor *supervisor = link->supervisor;
        struct message_learned answer = {.header = {MESSAGE_LEARNED, sizeof(answer), message->header.id}};

        /* Gone a moment ago, or never there. */
        if (message->agent_id ? !state_find_agent(&supervisor->state, message->agent_id)
                              : !state_find_policy(&supervisor->state, message->policy_id)) {
                answer.error = -ENOENT;
        } else {
                int r = supervisor->callbacks.learn(supervisor->context, message);

                answer.error = r > 0 ? -EIO : r;
        }
        (void)link_send(link, &answer, NULL, 0);
}

static void upstream_wanted(struct link *link, const struct message_ask_upstream *message)
{
        struct dns_supervisor *supervisor = link->supervisor;
        const struct known_listener *listener = state_find_listener(&supervisor->state, message->listener_id);
        struct message_upstream answer = {.header = {MESSAGE_UPSTREAM, sizeof(answer), message->header.id}};
        _cleanup_close_ int fd = -1;

        if (!supervisor->settings.as_asked || !listener || listener->message.agent_id != message->agent_id) {
                answer.error = -ENOENT;
        } else {
                int r = supervisor->callbacks.upstream(supervisor->context, message);

                if (r < 0)
                        answer.error = r;
                else
                        fd = r;
        }
        (void)link_send(link, &answer, &fd, fd >= 0);
}

static void resolve_ended(struct link *link, const struct message_resolved *message)
{
        struct dns_supervisor *supervisor = link->supervisor;
        struct pending_resolve *resolve = state_find_resolve(&supervisor->state, message->header.id);

        /* Each was asked of this worker, so one that is not known was never asked. */
        if (!resolve || resolve->message.policy_id != message->policy_id ||
            strcmp(resolve->message.name, message->name) != 0) {
                link_broken(link, "answers what it was not asked");
                return;
        }
        state_drop_resolve(&supervisor->state, resolve);
        supervisor->callbacks.resolved(supervisor->context, message);
}

static void message_received(struct link *link, const union message *message)
{
        struct dns_supervisor *supervisor = link->supervisor;

        if (message_check_from_worker(message) < 0 || (message->header.kind == MESSAGE_READY) == link->ready) {
                link_broken(link, "sends what makes no sense");
                return;
        }
        link->silent = 0;
        switch (message->header.kind) {
        case MESSAGE_ALIVE:
                break;
        case MESSAGE_READY:
                link->ready = true;
                uv_timer_stop(&supervisor->restart_timer);
                log_info("the DNS worker is back (process %d)", (int)link->pid);
                break;
        case MESSAGE_LEARN:
                learn_wanted(link, &message->learn);
                break;
        case MESSAGE_REFUSED:
                if (state_find_agent(&supervisor->state, message->refused.agent_id))
                        supervisor->callbacks.refused(supervisor->context, &message->refused);
                break;
        case MESSAGE_RESOLVED:
                resolve_ended(link, &message->resolved);
                break;
        case MESSAGE_ASK_UPSTREAM:
                upstream_wanted(link, &message->ask_upstream);
                break;
        case MESSAGE_STATISTICS:
                if (state_find_agent(&supervisor->state, message->statistics.agent_id))
                        supervisor->callbacks.statistics(supervisor->context, &message->statistics);
                break;
        case MESSAGE_DURATIONS:
                if (supervisor->callbacks.durations)
                        supervisor->callbacks.durations(supervisor->context, &message->durations);
                break;
        }
}

static void link_ready(uv_poll_t *poll, int status, int events)
{
        struct link *link = poll->data;
        int r = 0;

        if (!link->supervisor)
                return;
        if (events & UV_WRITABLE) {
                r = channel_flush(&link->channel);
                if (r < 0) {
                        link_broken(link, "is gone");
                        return;
                }
                link_watch(link);
        }
        for (unsigned i = 0; i < MESSAGES_PER_TURN; i++) {
                union message message;

                r = channel_receive(link->fd, &message, NULL, NULL);
                if (r == -EAGAIN)
                        return;
                if (r < 0) {
                        link_broken(link, r == -EBADMSG ? "sends what makes no sense" : "is gone");
                        return;
                }
                message_received(link, &message);
                if (!link->supervisor)
                        return;
        }
}
