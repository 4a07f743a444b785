/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Live sockets of agents: judged by the policy of now, and ended.
 *
 * Their packets are judged in the kernel whatever happens here; a socket is destroyed so that its program is told, and
 * so that nothing is left in its queue when the programs go.
 */
#include <errno.h>
#include <netinet/in.h>

#include "agentd/abi_test.h"
#include "agentd/address_class.h"
#include "agentd/monitor.h"
#include "agentd/net/sock_diag.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

struct doomed_context {
        struct monitor *monitor;
        const struct monitor_agent *agent;
        bool all;
};

int monitor_socket_verdict(struct monitor *monitor, const struct monitor_agent *agent,
                           const struct sock_diag_socket *socket, struct verdict_question *question)
{
        *question = (struct verdict_question){
                .agent_id = agent->id,
                .now_ns = monitor_now(),
                .word = datapath_agent(monitor->datapath, agent->id)->word,
                .flow =
                        {
                                .remote = socket->remote,
                                .port = socket->remote_port,
                                .protocol = socket->ip_protocol == IPPROTO_TCP ? PROTOCOL_TCP : PROTOCOL_UDP,
                                .flags = FLOW_ESTABLISHED | (address_is_loopback(&socket->remote) ? FLOW_LOOPBACK : 0) |
                                         (socket->marked ? FLOW_INBOUND : 0),
                                .local_port = socket->local_port,
                        },
        };
        return datapath_verdict(monitor->datapath, question);
}

/* A UDP socket that is connected to who was let in. */
static bool socket_may_be_inbound(const struct doomed_context *doomed, struct verdict_question *question)
{
        question->flow.flags |= FLOW_INBOUND;
        return datapath_verdict(doomed->monitor->datapath, question) < 0 || question->verdict.action != VERDICT_DENY;
}

static bool socket_doomed(void *context, const struct sock_diag_socket *socket)
{
        const struct doomed_context *doomed = context;
        const struct agent_entry *entry = datapath_agent(doomed->monitor->datapath, doomed->agent->id);
        struct verdict_question question;

        if (doomed->all)
                return true;
        if (socket->remote_port == 0 || (monitor_word_flags(doomed->agent) & WORD_AUDIT))
                return false;
        if (address_is_loopback(&socket->remote)) {
                for (size_t i = 0; i < DNS_PORTS; i++)
                        if (socket->remote_port == entry->dns_ports[i])
                                return false;
        }
        if (monitor_socket_verdict(doomed->monitor, doomed->agent, socket, &question) < 0 ||
            question.verdict.action != VERDICT_DENY)
                return false;
        /* Whether a remote end has begun it only the kernel knows: it is not ended while it may have. */
        return socket->ip_protocol != IPPROTO_UDP || !socket_may_be_inbound(doomed, &question);
}

void monitor_sockets_destroy_if(struct monitor *monitor, struct monitor_agent *agent,
                                bool (*doomed)(void *context, const struct sock_diag_socket *socket), void *context)
{
        _cleanup_free_ __u64 *ids = NULL;
        size_t n_ids = 0;

        if (cgroup_subtree_ids(agent->cgroup_fd, &ids, &n_ids) < 0)
                return;
        for (struct monitor_listener *listener = agent->listeners; listener; listener = listener->next) {
                _cleanup_(sock_diag_closep) struct sock_diag *diag = NULL;
                size_t n = 0;
                int r = sock_diag_open(listener->netns_fd, &diag);

                if (r == 0)
                        sock_diag_mark(diag, datapath_inbound_fd(monitor->datapath));
                if (r == 0)
                        r = sock_diag_destroy_each(diag, ids, n_ids, doomed, context, &n);
                if (r < 0)
                        log_warning_errno(r, "cannot end the sockets of '%s'; their packets are denied", agent->name);
                if (n > 0)
                        log_debug("ended %zu sockets of '%s'", n, agent->name);
        }
}

void monitor_sockets_destroy(struct monitor *monitor, struct monitor_agent *agent, bool all)
{
        struct doomed_context doomed = {monitor, agent, all};

        monitor_sockets_destroy_if(monitor, agent, socket_doomed, &doomed);
}
