/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The worker's life: settings, confinement, READY, then messages and queries until the monitor is gone.
 *
 * The exit status is the errno of what failed, so that the monitor can say why a worker did not start.
 */
#include "agentd/dns/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agentd/dns/worker_state.h"
#include "agentd/policy/policy.h"
#include "agentd/process/confine.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

enum {
        WATCHDOG_S = 10,
        TICK_MS = 250,
        TICKS_PER_STATISTICS = 4,
        MESSAGES_PER_TURN = 64,
        QUEUE_MAX = 4096,
        SETTINGS_WAIT_MS = 5000
};

_Static_assert(DNS_BLOCKED_NXDOMAIN == 0 && DNS_BLOCKED_REFUSED == 1 && DNS_BLOCKED_NODATA == 2,
               "query_blocked_rcode() reads these numbers from a message");

static void monitor_ready(uv_poll_t *poll, int status, int events);

static void monitor_watch(struct worker *worker)
{
        int events = UV_READABLE | (channel_is_waiting(&worker->monitor) ? UV_WRITABLE : 0);

        uv_poll_start(&worker->monitor_poll, events, monitor_ready);
}

static void worker_stop(struct worker *worker, int status)
{
        worker->exit_status = status;
        uv_stop(&worker->loop);
}

int worker_try_send(struct worker *worker, const void *message)
{
        bool waited = channel_is_waiting(&worker->monitor);
        int r = channel_send(&worker->monitor, message, NULL, 0);

        if (r == 0 && !waited && channel_is_waiting(&worker->monitor))
                monitor_watch(worker);
        return r;
}

void worker_send(struct worker *worker, const void *message)
{
        (void)worker_try_send(worker, message);
}

const struct dns_policy *worker_policy(const struct worker_agent *agent)
{
        return policy_table_find(agent->worker->policies, agent->policy_id);
}

void worker_count(struct worker_agent *agent, enum dns_outcome outcome)
{
        agent->outcomes[outcome]++;
        agent->statistics_changed = true;
}

void worker_observe(struct worker *worker, __u64 received_ns)
{
        static const __u64 bounds_us[DNS_DURATION_BUCKETS - 1] = DNS_DURATION_BOUNDS_US;
        __u64 ns = uv_hrtime() - received_ns;
        size_t i = 0;

        while (i < ARRAY_SIZE(bounds_us) && ns > bounds_us[i] * 1000)
                i++;
        worker->durations.counts[i]++;
        worker->durations.sum_ns += ns;
        worker->durations_changed = true;
}

void worker_report(struct worker_agent *agent, const struct listener_client *client, const char *name, __u16 type,
                   enum verdict_reason reason, bool would, const struct address *address)
{
        struct worker *worker = agent->worker;
        struct message_refused message = {
                .header = {MESSAGE_REFUSED, sizeof(message), 0},
                .agent_id = agent->id,
                .query_type = type,
                .reason = (__u8)reason,
                .would = would,
                .ip_protocol = client->connection ? IPPROTO_TCP : IPPROTO_UDP,
        };

        strncpy(message.name, name, sizeof(message.name) - 1);
        listener_client_address(client, &message.source, &message.source_port);
        if (address)
                message.address = *address;
        /* One agent's flood of refusals must not fill the monitor's socket for all. */
        if (!limit_bucket_take(&agent->reports, LIMIT_REPORTS_RATE, LIMIT_REPORTS_BURST, uv_now(&worker->loop)) ||
            worker_try_send(worker, &message) < 0)
                agent->outcomes[DNS_OUTCOME_UNREPORTED]++;
}

static struct worker_agent *agent_find(struct worker *worker, __u32 id)
{
        struct worker_agent *agent;

        HASH_FIND(hh, worker->agents, &id, sizeof(id), agent);
        return agent;
}

static void agent_changed(struct worker_agent *agent)
{
        agent->epoch++;
        dns_cache_clear(agent->cache);
}

static void agent_free(struct worker_agent *agent)
{
        lookup_agent_gone(agent);
        while (agent->listeners) {
                struct worker_listener *listener = agent->listeners;

                agent->listeners = listener->next;
                listener_close(listener->listener);
                free(listener);
        }
        dns_cache_free(agent->cache);
        free(agent);
}

static int agent_set(struct worker *worker, const struct message_agent *message)
{
        struct worker_agent *agent = agent_find(worker, message->agent_id);
        bool oom = false;
        int r;

        if (!agent) {
                agent = calloc(1, sizeof(*agent));
                if (!agent)
                        return -ENOMEM;
                agent->worker = worker;
                agent->id = message->agent_id;
                r = dns_cache_new(&worker->cache_total, &agent->cache);
                if (r < 0) {
                        free(agent);
                        return r;
                }
                HASH_ADD(hh, worker->agents, id, sizeof(agent->id), agent);
                if (oom) {
                        agent_free(agent);
                        return -ENOMEM;
                }
        }
        agent->policy_id = message->policy_id;
        agent->audit = message->audit;
        agent->quarantine = message->quarantine;
        agent_changed(agent);
        return 0;
}

static void agent_gone(struct worker *worker, __u32 id)
{
        struct worker_agent *agent = agent_find(worker, id);

        if (!agent)
                return;
        HASH_DELETE(hh, worker->agents, agent);
        agent_free(agent);
}

static void policy_changed(struct worker *worker, __u32 policy_id)
{
        for (struct worker_agent *agent = worker->agents; agent; agent = agent->hh.next)
                if (agent->policy_id == policy_id)
                        agent_changed(agent);
}

static struct worker_listener **listener_find(struct worker *worker, __u32 id)
{
        for (struct worker_agent *agent = worker->agents; agent; agent = agent->hh.next)
                for (struct worker_listener **at = &agent->listeners; *at; at = &(*at)->next)
                        if (listener_id((*at)->listener) == id)
                                return at;
        return NULL;
}

static void listener_gone(struct worker *worker, __u32 id)
{
        struct worker_listener **at = listener_find(worker, id), *listener;

        if (!at)
                return;
        listener = *at;
        *at = listener->next;
        /* Look-ups that wait for it end as usual; their replies go nowhere. */
        listener_close(listener->listener);
        free(listener);
}

/* Takes the descriptors. */
static int listener_set(struct worker *worker, const struct message_listener *message, const int *fds, size_t n_fds)
{
        struct worker_agent *agent = agent_find(worker, message->agent_id);
        struct worker_listener *listener = NULL;
        int sockets[LISTENER_SOCKETS];
        size_t used = 0;
        int r = 0;

        for (size_t i = 0; i < LISTENER_SOCKETS; i++)
                sockets[i] = message->present[i] && used < n_fds ? fds[used++] : -1;
        for (size_t i = used; i < n_fds; i++)
                close(fds[i]);
        if (!agent || used == 0)
                r = -ENOENT;
        if (r == 0) {
                listener_gone(worker, message->listener_id);
                listener = calloc(1, sizeof(*listener));
                r = listener ? 0 : -ENOMEM;
        }
        if (r < 0) {
                for (size_t i = 0; i < LISTENER_SOCKETS; i++)
                        close_fd(&sockets[i]);
                return r;
        }
        listener->agent = agent;
        r = listener_new(&worker->loop, worker->pool, message->listener_id, sockets, &agent->n_connections,
                         query_received, listener, &listener->listener);
        if (r < 0) {
                free(listener);
                return r;
        }
        listener->next = agent->listeners;
        agent->listeners = listener;
        return 0;
}

static void captured_query(struct worker *worker, const struct message_query *message)
{
        struct worker_listener **at = listener_find(worker, message->listener_id);
        struct listener_client client;

        if (!at || (*at)->agent->id != message->agent_id || message->length > CAPTURE_MAX)
                return;
        if (listener_udp_client((*at)->listener, &message->source, message->source_port, &client) == 0)
                query_received(*at, &client, message->payload, message->length);
}

/* What a running resolver was built from cannot change under it: the monitor starts another worker for that. */
static void settings_changed(struct worker *worker, const struct message_settings *message)
{
        worker->settings.min_ttl_s = message->min_ttl_s;
        worker->settings.max_ttl_s = message->max_ttl_s;
        worker->settings.grace_s = message->grace_s;
        worker->settings.blocked = message->blocked;
        worker->settings.rate_interval_ns = message->rate_interval_ns;
        worker->settings.rate_burst = message->rate_burst;
        for (struct worker_agent *agent = worker->agents; agent; agent = agent->hh.next)
                agent_changed(agent);
}

/* fds are taken. */
static int message_received(struct worker *worker, const union message *message, const int *fds, size_t n_fds)
{
        int r = 0;

        if (message->header.kind == MESSAGE_LISTENER) {
                r = listener_set(worker, &message->listener, fds, n_fds);
                if (r < 0)
                        return log_error_errno(r, "cannot listen for agent %u", message->listener.agent_id);
                return 0;
        }
        if (message->header.kind == MESSAGE_UPSTREAM && n_fds <= 1) {
                forward_upstream(worker, &message->upstream, n_fds ? fds[0] : -1);
                return 0;
        }
        switch (message->header.kind) {
        case MESSAGE_SETTINGS:
                settings_changed(worker, &message->settings);
                break;
        case MESSAGE_POLICY:
                r = n_fds == 1 ? policy_table_set(worker->policies, &message->policy, fds[0]) : -EBADMSG;
                policy_changed(worker, message->policy.policy_id);
                if (r < 0)
                        log_error_errno(r, "cannot take policy %u: its agents' look-ups are refused",
                                        message->policy.policy_id);
                break;
        case MESSAGE_POLICY_GONE:
                policy_table_remove(worker->policies, message->policy.policy_id);
                policy_changed(worker, message->policy.policy_id);
                break;
        case MESSAGE_AGENT:
                r = agent_set(worker, &message->agent);
                if (r < 0)
                        log_error_errno(r, "cannot take agent %u", message->agent.agent_id);
                break;
        case MESSAGE_AGENT_GONE:
                agent_gone(worker, message->agent.agent_id);
                break;
        case MESSAGE_LISTENER_GONE:
                listener_gone(worker, message->listener.listener_id);
                break;
        case MESSAGE_LEARNED:
                learn_acknowledged(worker, &message->learned);
                break;
        case MESSAGE_RESOLVE:
                worker_refresh_start(worker, &message->resolve);
                break;
        case MESSAGE_QUERY:
                captured_query(worker, &message->query);
                break;
        default:
                r = log_error_errno(-EBADMSG, "message %u from the monitor is not for a worker", message->header.kind);
        }
        for (size_t i = 0; i < n_fds; i++)
                close(fds[i]);
        return r;
}

static void monitor_ready(uv_poll_t *poll, int status, int events)
{
        struct worker *worker = poll->data;
        int r = 0;

        if (events & UV_WRITABLE) {
                r = channel_flush(&worker->monitor);
                monitor_watch(worker);
        }
        /* A bounded number a turn, so that a reload of thousands of agents does not stop look-ups. */
        for (unsigned i = 0; r == 0 && i < MESSAGES_PER_TURN; i++) {
                union message message;
                int fds[CHANNEL_FDS_MAX];
                size_t n_fds = 0;

                r = channel_receive(worker->monitor_fd, &message, fds, &n_fds);
                if (r == 0)
                        (void)message_received(worker, &message, fds, n_fds);
        }
        if (r == -EBADMSG)
                log_error("the monitor's message cannot be understood");
        if (r < 0 && r != -EAGAIN)
                worker_stop(worker, r == -ECONNRESET || r == -EPIPE ? 0 : -r);
}

static void tick(uv_timer_t *timer)
{
        struct message_header alive = {MESSAGE_ALIVE, sizeof(alive), 0};
        struct worker *worker = timer->data;

        /* A loop that stands still ends by SIGALRM; of a process that was stopped the monitor hears nothing more.
         * Either way the monitor starts another worker. */
        alarm(WATCHDOG_S);
        lookup_expire(worker, uv_now(&worker->loop));
        if (++worker->n_ticks % TICKS_PER_STATISTICS != 0)
                return;
        worker_send(worker, &alive);
        if (worker->durations_changed) {
                worker->durations.header = (struct message_header){MESSAGE_DURATIONS, sizeof(worker->durations), 0};
                worker->durations_changed = worker_try_send(worker, &worker->durations) < 0;
        }
        for (struct worker_agent *agent = worker->agents; agent; agent = agent->hh.next) {
                struct message_statistics message = {
                        .header = {MESSAGE_STATISTICS, sizeof(message), 0},
                        .agent_id = agent->id,
                };

                if (!agent->statistics_changed)
                        continue;
                memcpy(message.outcomes, agent->outcomes, sizeof(message.outcomes));
                if (worker_try_send(worker, &message) == 0)
                        agent->statistics_changed = false;
        }
}

static int settings_check(const struct message_settings *settings)
{
        if (settings->n_upstreams > UPSTREAM_MAX || (settings->n_upstreams == 0 && !settings->as_asked))
                return log_error_errno(-EINVAL, "no upstream to ask");
        for (size_t i = 0; i < settings->n_upstreams; i++)
                if (!memchr(settings->upstreams[i], 0, UPSTREAM_TEXT_MAX))
                        return -EBADMSG;
        if (settings->rate_interval_ns > 0 && settings->rate_burst == 0)
                return -EBADMSG;
        if (settings->as_asked && settings->dnssec)
                return log_error_errno(-EINVAL, "dnssec cannot be had from as-asked servers; name an upstream");
        return 0;
}

static int receive_settings(struct worker *worker)
{
        struct pollfd ready = {.fd = worker->monitor_fd, .events = POLLIN};
        union message message;
        int r;

        if (poll(&ready, 1, SETTINGS_WAIT_MS) <= 0)
                return log_error_errno(-ETIMEDOUT, "no settings from the monitor");
        r = channel_receive(worker->monitor_fd, &message, NULL, NULL);
        if (r < 0)
                return r;
        if (message.header.kind != MESSAGE_SETTINGS)
                return -EBADMSG;
        worker->settings = message.settings;
        return settings_check(&worker->settings);
}

static int worker_start(struct worker *worker)
{
        struct message_header ready = {MESSAGE_READY, sizeof(ready), 0};
        int r;

        r = receive_settings(worker);
        if (r < 0)
                return r;
        r = uv_loop_init(&worker->loop);
        if (r < 0)
                return r;
        r = policy_table_new(&worker->policies);
        if (r < 0)
                return r;
        r = listener_pool_new(&worker->pool);
        if (r < 0)
                return r;
        r = resolver_new(&worker->loop, &worker->settings, &worker->resolver);
        if (r < 0)
                return r;
        worker->newest = &worker->oldest;
        worker->last_waiting = &worker->waiting;
        worker->next_id = 1;
        channel_init(&worker->monitor, worker->monitor_fd, QUEUE_MAX);
        r = uv_poll_init(&worker->loop, &worker->monitor_poll, worker->monitor_fd);
        if (r < 0)
                return r;
        worker->monitor_poll.data = worker;
        uv_timer_init(&worker->loop, &worker->tick);
        worker->tick.data = worker;
        uv_timer_start(&worker->tick, tick, TICK_MS, TICK_MS);

        r = confine_complete(CONFINE_DNS);
        if (r < 0)
                return r;
        monitor_watch(worker);
        return worker_try_send(worker, &ready);
}

int dns_worker_main(int fd)
{
        struct worker *worker;
        int r;

        log_setup("agentd: dns", LOG_LEVEL_INFO);
        r = confine_begin(fd);
        if (r < 0)
                return -r;
        worker = calloc(1, sizeof(*worker));
        if (!worker)
                return ENOMEM;
        worker->monitor_fd = fd;
        r = worker_start(worker);
        if (r < 0)
                _exit(-r);
        uv_run(&worker->loop, UV_RUN_DEFAULT);
        /* Exit handlers (a sanitizer's leak check among them) want what a confined process must not have; the kernel
         * takes back the rest. */
        _exit(worker->exit_status);
}
