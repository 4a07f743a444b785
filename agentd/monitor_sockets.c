/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Live sockets of agents: judged by the policy of now, and ended.
 *
 * Their packets are judged in the kernel whatever happens here; a socket is destroyed so that its program is told, and
 * so that nothing is left in its queue when the programs go.
 */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "agentd/abi_test.h"
#include "agentd/address_class.h"
#include "agentd/datapath/owner.h"
#include "agentd/monitor.h"
#include "agentd/net/netns_list.h"
#include "agentd/net/sock_diag.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"
#include "agentd/util/macro.h"

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

/*
 * Which sockets of a namespace are the agent's: those of its cgroup and of the ones below it, and those of cgroups
 * below it that are gone. The number of a dead cgroup has no path any more: the kernel is asked for its ancestors.
 */
struct owned_context {
        struct monitor *monitor;
        const struct monitor_agent *agent;
        int netns_fd;
        const __u64 *ids;
        size_t n_ids;
        __u64 alive_id; /* of another one's, the last that was met */
        bool (*doomed)(void *context, const struct sock_diag_socket *socket);
        void *context;
};

static bool id_is_among(const __u64 *ids, size_t n, __u64 id)
{
        for (size_t low = 0; low < n;) {
                size_t middle = low + (n - low) / 2;

                if (ids[middle] == id)
                        return true;
                if (ids[middle] < id)
                        low = middle + 1;
                else
                        n = middle;
        }
        return false;
}

static bool cgroup_is_alive(struct owned_context *owned, __u64 id)
{
        _cleanup_free_ char *path = NULL;

        if (id == owned->alive_id)
                return true;
        if (cgroup_path_of_id(&owned->monitor->mount, id, &path) < 0)
                return false;
        owned->alive_id = id;
        return true;
}

static bool socket_is_owned(struct owned_context *owned, const struct sock_diag_socket *socket)
{
        struct owner_question question = {
                .local = socket->local,
                .remote = socket->remote,
                .socket_cgroup_id = socket->cgroup_id,
                .cgroup_id = owned->agent->cgroup_id,
                .local_port = socket->local_port,
                .remote_port = socket->remote_port,
                .ipv6 = socket->family == AF_INET6,
                .tcp = socket->ip_protocol == IPPROTO_TCP,
        };

        if (id_is_among(owned->ids, owned->n_ids, socket->cgroup_id))
                return true;
        if (socket->cgroup_id == 0 || cgroup_is_alive(owned, socket->cgroup_id))
                return false;
        return datapath_owner(owned->monitor->datapath, owned->netns_fd, socket->interface, &question) == OWNER_SELF;
}

static bool owned_doomed(void *context, const struct sock_diag_socket *socket)
{
        struct owned_context *owned = context;

        return socket_is_owned(owned, socket) && owned->doomed(owned->context, socket);
}

/* An agent whose cgroup was removed has no other left. */
static int agent_ids(const struct monitor_agent *agent, __u64 **ret, size_t *ret_n)
{
        if (cgroup_subtree_ids(agent->cgroup_fd, ret, ret_n) == 0)
                return 0;
        *ret = malloc(sizeof(**ret));
        if (!*ret)
                return -ENOMEM;
        **ret = agent->cgroup_id;
        *ret_n = 1;
        return 0;
}

static size_t destroy_in(struct owned_context *owned, int netns_fd)
{
        _cleanup_(sock_diag_closep) struct sock_diag *diag = NULL;
        size_t n = 0;
        int r = sock_diag_open(netns_fd, &diag);

        owned->netns_fd = netns_fd;
        if (r == 0)
                sock_diag_mark(diag, datapath_inbound_fd(owned->monitor->datapath));
        if (r == 0)
                r = sock_diag_destroy_each(diag, NULL, 0, owned_doomed, owned, &n);
        if (r < 0)
                log_warning_errno(r, "cannot end the sockets of '%s'; their packets are denied", owned->agent->name);
        if (n > 0)
                log_debug("ended %zu sockets of '%s'", n, owned->agent->name);
        return n;
}

static bool has_listener(const struct monitor_agent *agent, const struct netns_identity *identity)
{
        for (const struct monitor_listener *listener = agent->listeners; listener; listener = listener->next)
                if (netns_identity_equal(&listener->identity, identity))
                        return true;
        return false;
}

/* Where its processes live and no listener is: it has too many, or its port was taken. */
static void destroy_without_listener(struct owned_context *owned)
{
        struct netns_process namespaces[MONITOR_LISTENERS_MAX];
        _cleanup_free_ pid_t *pids = NULL;
        size_t n_pids = 0, n = 0;

        if (cgroup_pids(owned->agent->cgroup_fd, &pids, &n_pids) < 0 ||
            netns_collect(pids, n_pids, namespaces, ARRAY_SIZE(namespaces), &n) < 0)
                return;
        for (size_t i = 0; i < MIN(n, ARRAY_SIZE(namespaces)); i++) {
                _cleanup_close_ int fd = -1;

                if (!has_listener(owned->agent, &namespaces[i].identity) && netns_open(namespaces[i].pid, &fd) == 0)
                        (void)destroy_in(owned, fd);
        }
}

void monitor_sockets_destroy_if(struct monitor *monitor, struct monitor_agent *agent,
                                bool (*doomed)(void *context, const struct sock_diag_socket *socket), void *context)
{
        struct owned_context owned = {.monitor = monitor, .agent = agent, .doomed = doomed, .context = context};
        _cleanup_free_ __u64 *ids = NULL;

        if (agent_ids(agent, &ids, &owned.n_ids) < 0)
                return;
        owned.ids = ids;
        for (struct monitor_listener *listener = agent->listeners; listener; listener = listener->next)
                (void)destroy_in(&owned, listener->netns_fd);
        destroy_without_listener(&owned);
}

void monitor_sockets_destroy(struct monitor *monitor, struct monitor_agent *agent, bool all)
{
        struct doomed_context doomed = {monitor, agent, all};

        monitor_sockets_destroy_if(monitor, agent, socket_doomed, &doomed);
}

void monitor_namespace_left(struct monitor_agent *agent, const struct netns_identity *identity)
{
        for (size_t i = 0; i < MIN(agent->n_left, (size_t)MONITOR_LEFT_MAX); i++)
                if (netns_identity_equal(&agent->left[i], identity))
                        return;
        log_debug("'%s' has left a network namespace", agent->name);
        if (agent->n_left < MONITOR_LEFT_MAX)
                agent->left[agent->n_left] = *identity;
        agent->n_left++;
}

void monitor_sockets_end(struct monitor *monitor, struct monitor_agent *agent)
{
        struct doomed_context doomed = {monitor, agent, true};
        struct owned_context owned = {.monitor = monitor, .agent = agent, .doomed = socket_doomed, .context = &doomed};
        _cleanup_free_ __u64 *ids = NULL;
        struct netns_list list = {};

        monitor_sockets_destroy(monitor, agent, true);
        if (agent->n_left == 0 || agent_ids(agent, &ids, &owned.n_ids) < 0)
                return;
        owned.ids = ids;
        if (netns_list_new(agent->n_left <= MONITOR_LEFT_MAX ? agent->left : NULL, agent->n_left, &list) < 0)
                return;
        for (size_t i = 0; i < list.n; i++)
                (void)destroy_in(&owned, list.fds[i]);
        netns_list_clear(&list);
}

/* --- sockets from before ---------------------------------------------------------------------------------------- */

struct existing_context {
        struct owned_context owned;
        struct doomed_context doomed;
        const __u64 *inodes; /* of sockets that its processes hold, sorted */
        size_t n_inodes;
        struct monitor_existing *found;
};

/* Made elsewhere and brought along: its cgroup is another one's, so no packet hook of ours will ever see it. */
static bool existing_doomed(void *context, const struct sock_diag_socket *socket)
{
        struct existing_context *existing = context;
        bool ours = socket_is_owned(&existing->owned, socket);

        if (!ours && (socket->inode == 0 || !id_is_among(existing->inodes, existing->n_inodes, socket->inode)))
                return false;
        existing->found->n_open++;
        existing->found->n_foreign += !ours;
        if (existing->doomed.agent->policy && existing->doomed.agent->policy->policy->existing_destroy &&
            !(monitor_word_flags(existing->doomed.agent) & WORD_AUDIT))
                return true;
        return socket_doomed(&existing->doomed, socket);
}

static void existing_in(struct existing_context *existing, int netns_fd)
{
        _cleanup_(sock_diag_closep) struct sock_diag *diag = NULL;
        size_t n = 0;
        int r = sock_diag_open(netns_fd, &diag);

        existing->owned.netns_fd = netns_fd;
        if (r == 0)
                sock_diag_mark(diag, datapath_inbound_fd(existing->owned.monitor->datapath));
        if (r == 0)
                r = sock_diag_destroy_each(diag, NULL, 0, existing_doomed, existing, &n);
        if (r < 0)
                log_warning_errno(r, "cannot look at all sockets that '%s' has open", existing->owned.agent->name);
        existing->found->n_ended += n;
}

void monitor_sockets_existing(struct monitor *monitor, struct monitor_agent *agent, struct monitor_existing *ret)
{
        struct existing_context existing = {
                .owned = {.monitor = monitor, .agent = agent},
                .doomed = {monitor, agent, false},
                .found = ret,
        };
        struct netns_identity here = {}, identity;
        struct netns_process namespaces[MONITOR_LISTENERS_MAX];
        _cleanup_free_ __u64 *ids = NULL, *inodes = NULL;
        _cleanup_free_ pid_t *pids = NULL;
        _cleanup_close_ int self = -1;
        size_t n_pids = 0, n = 0;

        *ret = (struct monitor_existing){0};
        if (cgroup_pids(agent->cgroup_fd, &pids, &n_pids) < 0 || n_pids == 0 ||
            netns_collect(pids, n_pids, namespaces, ARRAY_SIZE(namespaces), &n) < 0 ||
            agent_ids(agent, &ids, &existing.owned.n_ids) < 0 ||
            sock_diag_held(pids, n_pids, &inodes, &existing.n_inodes) < 0)
                return;
        existing.owned.ids = ids;
        existing.inodes = inodes;
        for (size_t i = 0; i < MIN(n, ARRAY_SIZE(namespaces)); i++) {
                _cleanup_close_ int fd = -1;

                if (netns_open(namespaces[i].pid, &fd) == 0)
                        existing_in(&existing, fd);
        }
        /* What was inherited may be of the namespace where its processes came from. */
        if (netns_open_self(&self) < 0 || netns_identify(self, &here) < 0)
                return;
        for (size_t i = 0; i < MIN(n, ARRAY_SIZE(namespaces)); i++) {
                identity = namespaces[i].identity;
                if (netns_identity_equal(&identity, &here))
                        return;
        }
        existing_in(&existing, self);
}
