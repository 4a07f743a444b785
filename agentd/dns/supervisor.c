/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A worker is a link: a process and a socket. The supervisor has one at most; when it breaks, everything that a worker
 * must know is told to the next one (supervisor_state.h). Enforcement does not depend on any of this: without a worker
 * nothing new is learned, and what is learned expires.
 *
 * Lifetime: libuv closes handles later, so links and the supervisor's own handles outlive their owners until their
 * close callbacks; both then find supervisor == NULL or are the last to free.
 */
#include "agentd/dns/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/dns/channel.h"
#include "agentd/dns/message_check.h"
#include "agentd/dns/supervisor_state.h"
#include "agentd/dns/upstreams.h"
#include "agentd/dns/worker_process.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

enum {
        READY_MS = 5000,
        STABLE_MS = 10000, /* a worker that lived this long starts the back-off anew */
        BACKOFF_FIRST_MS = 50,
        BACKOFF_MAX_MS = 1000,
        RESOLV_CONF_MS = 5000,
        QUEUE_MAX = 65536,
        MESSAGES_PER_TURN = 64,
        RESOLVES_MAX = 65536,
        QUERIES_MAX = 256,
};

static const char resolv_conf[] = "/etc/resolv.conf";

struct link {
        uv_poll_t poll;
        struct dns_supervisor *supervisor; /* NULL: given up */
        struct channel channel;
        int fd;
        pid_t pid;
        bool ready;
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
        unsigned n_open; /* of the two */
        unsigned restarts;
        __u32 backoff_ms;
        __u64 next_id;
        struct held_query *held, **held_last;
        size_t n_held;
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

/* Ends the process; returns what it died of. The link is then not to be used. */
static int link_end(struct link *link)
{
        int status = worker_process_end(link->pid);

        link->supervisor = NULL;
        uv_close((uv_handle_t *)&link->poll, link_closed);
        return status;
}

/*
 * 0, or -errno when the worker is gone now. A full queue is a worker that does not read: it is replaced, and told
 * everything anew.
 */
static int link_send(struct link *link, const void *message, const int *fds, size_t n_fds)
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

static int link_start(struct dns_supervisor *supervisor, const struct message_settings *settings, struct link **ret)
{
        struct link *link = calloc(1, sizeof(*link));
        int r;

        if (!link)
                return -ENOMEM;
        r = worker_process_start(supervisor->program, &link->pid, &link->fd);
        if (r < 0) {
                free(link);
                return r;
        }
        channel_init(&link->channel, link->fd, QUEUE_MAX);
        link->started_ms = uv_hrtime() / NSEC_PER_MSEC;
        r = uv_poll_init(supervisor->loop, &link->poll, link->fd);
        if (r < 0) {
                worker_process_end(link->pid);
                close(link->fd);
                free(link);
                return r;
        }
        link->poll.data = link;
        link->supervisor = supervisor;
        /* The socket is new and empty: this is sent, not queued. */
        r = channel_send(&link->channel, settings, NULL, 0);
        if (r < 0) {
                link_end(link);
                return r;
        }
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

static int exit_error(int status, int otherwise)
{
        return WIFEXITED(status) && WEXITSTATUS(status) > 0 ? -WEXITSTATUS(status) : otherwise;
}

/* A worker that has said READY, or why there is none. */
static int link_start_ready(struct dns_supervisor *supervisor, const struct message_settings *settings,
                            struct link **ret)
{
        struct link *link;
        int r;

        r = link_start(supervisor, settings, &link);
        if (r < 0)
                return r;
        r = link_wait_ready(link);
        if (r < 0) {
                /* It may have closed its socket a moment before its exit status is there. */
                if (r == -ECONNRESET) {
                        siginfo_t information;

                        (void)waitid(P_PID, (id_t)link->pid, &information, WEXITED | WNOWAIT);
                }
                r = exit_error(link_end(link), r);
                return log_error_errno(r, "the DNS worker does not start");
        }
        *ret = link;
        return 0;
}

static void held_clear(struct dns_supervisor *supervisor)
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
                held_clear(supervisor);
}

/* What the dead worker was asked and did not answer: it may have died of it, so the next one is not asked. */
static void fail_resolves(struct dns_supervisor *supervisor)
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
        supervisor->link = link;
        link_watch(link);
        uv_timer_start(&supervisor->restart_timer, restart, READY_MS, 0);
        link_replay(supervisor, link);
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
        fail_resolves(supervisor);
        supervisor->callbacks.restarted(supervisor->context, status);
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
        switch (message->header.kind) {
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

static void source_clear(struct dns_settings *source)
{
        for (size_t i = 0; i < source->n_upstreams; i++)
                free(source->upstreams[i]);
        free(source->upstreams);
        *source = (struct dns_settings){0};
}

static int source_copy(const struct dns_settings *settings, struct dns_settings *ret)
{
        struct dns_settings copy = *settings;

        copy.n_upstreams = 0;
        copy.upstreams = calloc(MAX(settings->n_upstreams, 1u), sizeof(*copy.upstreams));
        if (!copy.upstreams)
                return -ENOMEM;
        for (size_t i = 0; i < settings->n_upstreams; i++) {
                copy.upstreams[i] = strdup(settings->upstreams[i]);
                if (!copy.upstreams[i]) {
                        source_clear(&copy);
                        return -ENOMEM;
                }
                copy.n_upstreams++;
        }
        *ret = copy;
        return 0;
}

/* A running resolver cannot be given other upstreams. */
static bool needs_new_worker(const struct message_settings *now, const struct message_settings *then)
{
        return now->n_upstreams != then->n_upstreams || now->dnssec != then->dnssec ||
               now->as_asked != then->as_asked || memcmp(now->upstreams, then->upstreams, sizeof(now->upstreams)) != 0;
}

static int apply_settings(struct dns_supervisor *supervisor, const struct message_settings *settings)
{
        struct link *link = NULL, *old = supervisor->link;
        int r;

        if (!needs_new_worker(&supervisor->settings, settings)) {
                supervisor->settings = *settings;
                (void)link_send(supervisor->link, settings, NULL, 0);
                return 0;
        }
        /* The new one is ready before the old one goes; if it does not start, nothing has changed. */
        r = link_start_ready(supervisor, settings, &link);
        if (r < 0)
                return r;
        supervisor->settings = *settings;
        uv_timer_stop(&supervisor->restart_timer);
        supervisor->link = link;
        if (old)
                (void)link_end(old);
        fail_resolves(supervisor);
        link_watch(link);
        link_replay(supervisor, link);
        return 0;
}

static void resolv_conf_look(uv_timer_t *timer)
{
        struct dns_supervisor *supervisor = timer->data;
        struct message_settings settings;
        bool system;

        if (!supervisor->system || upstreams_settings(&supervisor->source, resolv_conf, &settings, &system) < 0 ||
            !needs_new_worker(&supervisor->settings, &settings))
                return;
        log_info("%s has changed", resolv_conf);
        (void)apply_settings(supervisor, &settings);
}

static void supervisor_release(struct dns_supervisor *supervisor)
{
        free(supervisor->program);
        free(supervisor);
}

static void timer_closed(uv_handle_t *handle)
{
        struct dns_supervisor *supervisor = handle->data;

        if (--supervisor->n_open == 0)
                supervisor_release(supervisor);
}

int dns_supervisor_new(uv_loop_t *loop, const char *program, const struct dns_settings *settings,
                       const struct dns_supervisor_callbacks *callbacks, void *context, struct dns_supervisor **ret)
{
        struct dns_supervisor *supervisor = calloc(1, sizeof(*supervisor));
        int r;

        if (!supervisor)
                return -ENOMEM;
        supervisor->loop = loop;
        supervisor->callbacks = *callbacks;
        supervisor->context = context;
        supervisor->next_id = 1;
        supervisor->held_last = &supervisor->held;
        supervisor->program = strdup(program);
        r = supervisor->program ? 0 : -ENOMEM;
        if (r == 0)
                r = upstreams_settings(settings, resolv_conf, &supervisor->settings, &supervisor->system);
        if (r == 0)
                r = source_copy(settings, &supervisor->source);
        if (r == 0)
                r = link_start_ready(supervisor, &supervisor->settings, &supervisor->link);
        if (r < 0) {
                source_clear(&supervisor->source);
                supervisor_release(supervisor);
                return r;
        }
        link_watch(supervisor->link);
        uv_timer_init(loop, &supervisor->restart_timer);
        uv_timer_init(loop, &supervisor->resolv_conf_timer);
        supervisor->restart_timer.data = supervisor->resolv_conf_timer.data = supervisor;
        supervisor->n_open = 2;
        uv_timer_start(&supervisor->resolv_conf_timer, resolv_conf_look, RESOLV_CONF_MS, RESOLV_CONF_MS);
        *ret = supervisor;
        return 0;
}

void dns_supervisor_free(struct dns_supervisor *supervisor)
{
        if (!supervisor)
                return;
        if (supervisor->link)
                (void)link_end(TAKE_PTR(supervisor->link));
        supervisor_state_clear(&supervisor->state);
        held_clear(supervisor);
        source_clear(&supervisor->source);
        uv_close((uv_handle_t *)&supervisor->restart_timer, timer_closed);
        uv_close((uv_handle_t *)&supervisor->resolv_conf_timer, timer_closed);
}

int dns_supervisor_settings(struct dns_supervisor *supervisor, const struct dns_settings *settings)
{
        struct dns_settings source = {0};
        struct message_settings message;
        bool system;
        int r;

        r = upstreams_settings(settings, resolv_conf, &message, &system);
        if (r < 0)
                return r;
        r = source_copy(settings, &source);
        if (r < 0)
                return r;
        r = apply_settings(supervisor, &message);
        if (r < 0) {
                source_clear(&source);
                return r;
        }
        source_clear(&supervisor->source);
        supervisor->source = source;
        supervisor->system = system;
        return 0;
}

static int policy_text(const struct compiled_policy *compiled, int *ret_fd)
{
        _cleanup_close_ int fd = memfd_create("agentd-policy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        _cleanup_file_ FILE *file = NULL;
        int copy;

        if (fd < 0)
                return -errno;
        copy = dup(fd);
        if (copy < 0)
                return -errno;
        file = fdopen(copy, "w");
        if (!file) {
                close(copy);
                return -errno;
        }
        for (size_t i = 0; i < compiled->policy->n_rules; i++) {
                const struct rule *rule = &compiled->policy->rules[i];

                if (rule->domain && fprintf(file, "%c %s\n", rule->deny ? 'D' : 'A', rule->domain) < 0)
                        return -EIO;
        }
        if (fflush(file) != 0)
                return -errno;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int dns_supervisor_policy(struct dns_supervisor *supervisor, __u32 policy_id, const struct compiled_policy *compiled)
{
        struct message_policy message = {
                .header = {MESSAGE_POLICY, sizeof(message), 0},
                .policy_id = policy_id,
                .allow_private = compiled->policy->allow_private,
                .metadata_allow = compiled->policy->metadata_allow,
        };
        int fd, r;

        r = policy_text(compiled, &fd);
        if (r < 0)
                return log_error_errno(r, "cannot write the names of policy %u", policy_id);
        r = state_put_policy(&supervisor->state, &message, fd);
        if (r < 0)
                return r;
        (void)link_send(supervisor->link, &message, &fd, 1);
        return 0;
}

int dns_supervisor_policy_gone(struct dns_supervisor *supervisor, __u32 policy_id)
{
        struct message_policy message = {
                .header = {MESSAGE_POLICY_GONE, sizeof(message), 0},
                .policy_id = policy_id,
        };
        struct known_policy *policy = state_find_policy(&supervisor->state, policy_id);

        if (!policy)
                return -ENOENT;
        state_drop_policy(&supervisor->state, policy);
        (void)link_send(supervisor->link, &message, NULL, 0);
        return 0;
}

int dns_supervisor_agent(struct dns_supervisor *supervisor, const struct message_agent *agent)
{
        struct message_agent message = *agent;
        int r;

        if (agent->agent_id == 0 || agent->agent_id >= AGENT_MAX)
                return -EINVAL;
        message.header = (struct message_header){MESSAGE_AGENT, sizeof(message), 0};
        r = state_put_agent(&supervisor->state, &message);
        if (r < 0)
                return r;
        (void)link_send(supervisor->link, &message, NULL, 0);
        return 0;
}

int dns_supervisor_agent_gone(struct dns_supervisor *supervisor, __u32 agent_id)
{
        struct message_agent message = {
                .header = {MESSAGE_AGENT_GONE, sizeof(message), 0},
                .agent_id = agent_id,
        };
        struct known_agent *agent = state_find_agent(&supervisor->state, agent_id);

        if (!agent)
                return -ENOENT;
        state_drop_agent(&supervisor->state, agent);
        (void)link_send(supervisor->link, &message, NULL, 0);
        return 0;
}

int dns_supervisor_listener(struct dns_supervisor *supervisor, __u32 agent_id, __u32 listener_id, int fds[4])
{
        struct message_listener message = {
                .header = {MESSAGE_LISTENER, sizeof(message), 0},
                .agent_id = agent_id,
                .listener_id = listener_id,
        };
        int present[4];
        size_t n_present = 0;
        int r;

        for (size_t i = 0; i < 4; i++) {
                message.present[i] = fds[i] >= 0;
                if (fds[i] >= 0)
                        present[n_present++] = TAKE_FD(fds[i]);
        }
        if (listener_id == 0 || n_present == 0 || !state_find_agent(&supervisor->state, agent_id)) {
                for (size_t i = 0; i < n_present; i++)
                        close(present[i]);
                return -EINVAL;
        }
        r = state_put_listener(&supervisor->state, &message, present, n_present);
        if (r < 0)
                return r;
        (void)link_send(supervisor->link, &message, present, n_present);
        return 0;
}

int dns_supervisor_listener_gone(struct dns_supervisor *supervisor, __u32 listener_id)
{
        struct message_listener message = {
                .header = {MESSAGE_LISTENER_GONE, sizeof(message), 0},
                .listener_id = listener_id,
        };
        struct known_listener *listener = state_find_listener(&supervisor->state, listener_id);

        if (!listener)
                return -ENOENT;
        state_drop_listener(&supervisor->state, listener);
        (void)link_send(supervisor->link, &message, NULL, 0);
        return 0;
}

int dns_supervisor_query(struct dns_supervisor *supervisor, const struct message_query *query)
{
        struct message_query message = *query;
        struct held_query *held;

        if (query->length > CAPTURE_MAX)
                return -EINVAL;
        message.header = (struct message_header){MESSAGE_QUERY, sizeof(message), 0};
        if (supervisor->link && link_send(supervisor->link, &message, NULL, 0) == 0)
                return 0;
        if (supervisor->n_held >= QUERIES_MAX)
                return -ENOBUFS;
        held = malloc(sizeof(*held));
        if (!held)
                return -ENOMEM;
        held->message = message;
        held->next = NULL;
        *supervisor->held_last = held;
        supervisor->held_last = &held->next;
        supervisor->n_held++;
        return 0;
}

int dns_supervisor_resolve(struct dns_supervisor *supervisor, __u32 policy_id, const char *name, __u64 *ret_id)
{
        struct message_resolve message = {
                .header = {MESSAGE_RESOLVE, sizeof(message), supervisor->next_id},
                .policy_id = policy_id,
        };
        struct pending_resolve *resolve;
        int r;

        if (strlen(name) >= sizeof(message.name))
                return -EINVAL;
        if (HASH_COUNT(supervisor->state.resolves) >= RESOLVES_MAX)
                return -ENOBUFS;
        strcpy(message.name, name);
        r = state_put_resolve(&supervisor->state, &message);
        if (r < 0)
                return r;
        *ret_id = supervisor->next_id++;
        resolve = state_find_resolve(&supervisor->state, *ret_id);
        /* Without a worker the next one is asked. */
        resolve->sent = supervisor->link != NULL;
        (void)link_send(supervisor->link, &message, NULL, 0);
        return 0;
}

pid_t dns_supervisor_pid(const struct dns_supervisor *supervisor)
{
        return supervisor->link ? supervisor->link->pid : 0;
}

unsigned dns_supervisor_restarts(const struct dns_supervisor *supervisor)
{
        return supervisor->restarts;
}
