/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An agent's DNS listeners: one in each network namespace that its processes live in.
 *
 * A listener's sockets hold their namespace alive, so a container that has gone would leave its interfaces behind: a
 * listener is closed soon after the last process of its agent has left the namespace. Should one come back, its first
 * look-up is captured by the kernel and answered all the same.
 *
 * An agent that may make namespaces makes as many as it likes: how many listeners it gets, and how often we go looking
 * for a namespace on its behalf, is bounded. Beyond that its own look-ups fail, nobody else's.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "agentd/monitor.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

enum { PORT_TRIES = 32 };

/* Takes netns_fd whatever it returns. */
int monitor_listener_open(struct monitor *monitor, struct monitor_agent *agent, int netns_fd)
{
        struct agent_entry *entry = datapath_agent(monitor->datapath, agent->id);
        _cleanup_close_ int netns = netns_fd;
        struct monitor_listener *listener;
        int fds[4] = {-1, -1, -1, -1};
        int r;

        if (agent->n_listeners >= MONITOR_LISTENERS_MAX)
                return -EMFILE;
        listener = calloc(1, sizeof(*listener));
        if (!listener)
                return -ENOMEM;
        listener->netns_fd = -1;
        r = netns_identify(netns, &listener->identity);
        if (r == 0)
                r = netns_cookie(netns, &listener->netns_cookie);
        if (r == 0)
                r = netns_listen(netns, entry->dns_ports, DNS_PORTS, fds, &listener->port);
        /* Many agents in one namespace: other candidates, while no socket relies on the ones there are. */
        for (int i = 0; i < PORT_TRIES && r == -EADDRINUSE && !agent->listeners; i++) {
                monitor_ports_choose(monitor, agent->id, 0);
                r = netns_listen(netns, entry->dns_ports, DNS_PORTS, fds, &listener->port);
        }
        if (r < 0) {
                free(listener);
                log_warning_errno(r, "cannot open the look-up listener of '%s': its look-ups fail", agent->name);
                return r;
        }
        listener->id = monitor->next_listener++;

        /* The worker listens before the kernel sends look-ups there. */
        r = dns_supervisor_listener(monitor->dns, agent->id, listener->id, fds);
        if (r == 0)
                r = datapath_listener_set(monitor->datapath, listener->netns_cookie, agent->id, listener->port);
        if (r < 0) {
                (void)dns_supervisor_listener_gone(monitor->dns, listener->id);
                free(listener);
                return log_warning_errno(r, "cannot publish the look-up listener of '%s': its look-ups fail",
                                         agent->name);
        }
        listener->netns_fd = TAKE_FD(netns);
        listener->next = agent->listeners;
        agent->listeners = listener;
        agent->n_listeners++;
        return 0;
}

static void listener_close(struct monitor *monitor, struct monitor_agent *agent, struct monitor_listener *listener)
{
        (void)datapath_listener_remove(monitor->datapath, listener->netns_cookie, agent->id, listener->port);
        (void)dns_supervisor_listener_gone(monitor->dns, listener->id);
        close_fd(&listener->netns_fd);
        free(listener);
        agent->n_listeners--;
}

void monitor_listeners_close(struct monitor *monitor, struct monitor_agent *agent)
{
        while (agent->listeners) {
                struct monitor_listener *listener = agent->listeners;

                agent->listeners = listener->next;
                listener_close(monitor, agent, listener);
        }
}

void monitor_listeners_scan(struct monitor *monitor, struct monitor_agent *agent, __u64 now_ns)
{
        bool used[MONITOR_LISTENERS_MAX] = {false};
        _cleanup_free_ pid_t *pids = NULL;
        struct monitor_listener **link;
        size_t n_pids = 0, i = 0;

        if (cgroup_pids(agent->cgroup_fd, &pids, &n_pids) < 0)
                return; /* not knowing is no reason to close */

        /* One process after the other: an agent may have more namespaces than we would like to keep in mind. */
        for (size_t p = 0; p < n_pids; p++) {
                struct netns_process process;
                struct monitor_listener *listener;
                size_t n = 0;

                if (netns_collect(&pids[p], 1, &process, 1, &n) < 0)
                        return;
                if (n == 0)
                        continue;
                for (i = 0, listener = agent->listeners; listener && i < MONITOR_LISTENERS_MAX;
                     listener = listener->next, i++)
                        used[i] = used[i] || netns_identity_equal(&listener->identity, &process.identity);
        }

        for (i = 0, link = &agent->listeners; *link && i < MONITOR_LISTENERS_MAX; i++) {
                struct monitor_listener *listener = *link;

                if (used[i]) {
                        listener->unused_since_ns = 0;
                } else if (listener->unused_since_ns == 0) {
                        listener->unused_since_ns = now_ns;
                } else if (now_ns - listener->unused_since_ns > MONITOR_LINGER_S * NSEC_PER_SEC) {
                        *link = listener->next;
                        monitor_namespace_left(agent, &listener->identity);
                        listener_close(monitor, agent, listener);
                        continue;
                }
                link = &listener->next;
        }
}

static struct monitor_listener *listener_by_cookie(struct monitor_agent *agent, __u64 netns_cookie)
{
        struct monitor_listener *listener = agent->listeners;

        while (listener && listener->netns_cookie != netns_cookie)
                listener = listener->next;
        return listener;
}

/* Opens the listener of a namespace that the kernel met first, by a process that lives in it. */
static struct monitor_listener *listener_discover(struct monitor *monitor, struct monitor_agent *agent, pid_t pid,
                                                  __u64 cookie)
{
        struct netns_process namespaces[MONITOR_LISTENERS_MAX];
        _cleanup_free_ pid_t *pids = NULL;
        size_t n_pids = 0, n = 0;

        if (agent->n_listeners >= MONITOR_LISTENERS_MAX || ++agent->discoveries > MONITOR_DISCOVERIES_MAX)
                return NULL;
        if (pid > 0) {
                _cleanup_close_ int fd = -1;
                __u64 found = 0;

                if (netns_open(pid, &fd) == 0 && netns_cookie(fd, &found) == 0 && found == cookie)
                        return monitor_listener_open(monitor, agent, TAKE_FD(fd)) == 0 ? agent->listeners : NULL;
        }
        /* Entering a namespace is dear: each one once, and four times in a tick. */
        agent->discoveries += MONITOR_DISCOVERIES_MAX / 4;
        if (cgroup_pids(agent->cgroup_fd, &pids, &n_pids) < 0 ||
            netns_collect(pids, n_pids, namespaces, ARRAY_SIZE(namespaces), &n) < 0)
                return NULL;
        for (size_t i = 0; i < MIN(n, ARRAY_SIZE(namespaces)); i++) {
                _cleanup_close_ int fd = -1;
                __u64 found = 0;

                if (netns_open(namespaces[i].pid, &fd) == 0 && netns_cookie(fd, &found) == 0 && found == cookie)
                        return monitor_listener_open(monitor, agent, TAKE_FD(fd)) == 0 ? agent->listeners : NULL;
        }
        return NULL;
}

void monitor_capture(struct monitor *monitor, const struct capture_record *record)
{
        struct message_query query = {};
        struct monitor_listener *listener;
        struct monitor_agent *agent;

        if (record->header.size != sizeof(*record) || record->header.kind != RECORD_CAPTURE ||
            record->header.abi != AGENTD_ABI_VERSION || record->agent_id == 0 || record->agent_id >= AGENT_MAX ||
            record->length > CAPTURE_MAX)
                return;
        agent = monitor->by_id[record->agent_id];
        if (!agent || monitor_probe_is_ours(monitor, record->netns_cookie))
                return;

        listener = listener_by_cookie(agent, record->netns_cookie);
        if (!listener)
                listener = listener_discover(monitor, agent, (pid_t)record->pid, record->netns_cookie);
        if (!listener)
                return;
        listener->unused_since_ns = 0;
        /* The socket waits for an answer from the port that it was sent to. */
        if (record->length == 0 || record->destination_port != listener->port)
                return;

        query.agent_id = agent->id;
        query.listener_id = listener->id;
        query.source = record->source;
        query.source_port = record->source_port;
        query.length = record->length;
        memcpy(query.payload, record->payload, record->length);
        (void)dns_supervisor_query(monitor->dns, &query);
}

/* A socket to the server that the client named, made where the client is: the worker never chooses an address. */
int monitor_upstream(struct monitor *monitor, const struct message_ask_upstream *message)
{
        struct monitor_agent *agent;
        struct monitor_listener *listener;
        struct address server;
        int r, fd = -1;

        if (message->agent_id == 0 || message->agent_id >= AGENT_MAX)
                return -EINVAL;
        agent = monitor->by_id[message->agent_id];
        if (!agent)
                return -ENOENT;
        for (listener = agent->listeners; listener && listener->id != message->listener_id;)
                listener = listener->next;
        if (!listener)
                return -ENOENT;
        r = datapath_asked(monitor->datapath, agent->id, message->ip_protocol, message->source_port, &server);
        if (r < 0)
                return r;
        r = netns_connect(listener->netns_fd, message->want_tcp ? IPPROTO_TCP : IPPROTO_UDP, &server, 53, &fd);
        return r < 0 ? r : fd;
}
