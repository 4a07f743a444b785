/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SOCK_DIAG by libmnl: dumps and destroys; see the header.
 *
 * The messages come from the kernel (the sender's port is checked by libmnl's sequence and by the kernel being the only
 * one who may send to us on this family), yet sizes are checked before a field is read.
 */
#include "agentd/net/sock_diag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "agentd/net/netns.h"

enum { BUFFER_SIZE = 32 * 1024 };

struct sock_diag {
        struct mnl_socket *socket;
        __u32 sequence;
        int map_fd; /* -1: no marks are wanted */
};

struct dump {
        const __u64 *cgroup_ids;
        size_t n_cgroup_ids;
        __u8 ip_protocol;
        sock_diag_fn function;
        void *context;
        int result;
};

int sock_diag_open(int netns_fd, struct sock_diag **ret)
{
        static const struct timeval patience = {.tv_sec = 2};
        _cleanup_close_ int fd = -1;
        struct sock_diag *diag;
        int r;

        r = netns_socket(netns_fd, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG, &fd);
        if (r < 0)
                return r;
        /* The kernel answers at once or not at all; a lost answer must not stop the daemon. */
        if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
                return -errno;

        diag = calloc(1, sizeof(*diag));
        if (!diag)
                return -ENOMEM;
        diag->map_fd = -1;
        diag->socket = mnl_socket_fdopen(fd);
        if (!diag->socket) {
                r = -errno;
                free(diag);
                return r;
        }
        (void)TAKE_FD(fd);
        if (mnl_socket_bind(diag->socket, 0, MNL_SOCKET_AUTOPID) < 0) {
                r = -errno;
                sock_diag_close(diag);
                return r;
        }

        *ret = diag;
        return 0;
}

void sock_diag_close(struct sock_diag *diag)
{
        if (!diag)
                return;
        mnl_socket_close(diag->socket);
        free(diag);
}

void sock_diag_mark(struct sock_diag *diag, int map_fd)
{
        diag->map_fd = map_fd;
}

static void address_take(struct address *ret, __u8 family, const __be32 from[4])
{
        if (family == AF_INET6) {
                memcpy(ret->bytes, from, 16);
        } else {
                *ret = (struct address){.bytes = {[10] = 0xff, [11] = 0xff}};
                memcpy(ret->bytes + 12, from, 4);
        }
}

/* One map was asked for: whatever stands in the list of storages is of that one. */
static int find_storage(const struct nlattr *attribute, void *context)
{
        if (mnl_attr_get_type(attribute) == SK_DIAG_BPF_STORAGE)
                *(bool *)context = true;
        return MNL_CB_OK;
}

static int find_attribute(const struct nlattr *attribute, void *context)
{
        struct sock_diag_socket *socket = context;

        if (mnl_attr_get_type(attribute) == INET_DIAG_CGROUP_ID && mnl_attr_get_payload_len(attribute) == sizeof(__u64))
                socket->cgroup_id = mnl_attr_get_u64(attribute);
        if (mnl_attr_get_type(attribute) == INET_DIAG_SK_BPF_STORAGES)
                mnl_attr_parse_nested(attribute, find_storage, &socket->marked);
        return MNL_CB_OK;
}

static bool ids_contain(const __u64 *ids, size_t n, __u64 id)
{
        while (n > 0) {
                size_t middle = n / 2;

                if (ids[middle] == id)
                        return true;
                if (ids[middle] < id) {
                        ids += middle + 1;
                        n -= middle + 1;
                } else {
                        n = middle;
                }
        }
        return false;
}

static int dump_message(const struct nlmsghdr *header, void *context)
{
        struct dump *dump = context;
        struct sock_diag_socket socket = {.ip_protocol = dump->ip_protocol};
        const struct inet_diag_msg *message;

        if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY || mnl_nlmsg_get_payload_len(header) < sizeof(*message))
                return MNL_CB_OK;
        message = mnl_nlmsg_get_payload(header);
        if (message->idiag_family != AF_INET && message->idiag_family != AF_INET6)
                return MNL_CB_OK;

        socket.family = message->idiag_family;
        socket.state = message->idiag_state;
        socket.interface = message->id.idiag_if;
        socket.local_port = ntohs(message->id.idiag_sport);
        socket.remote_port = ntohs(message->id.idiag_dport);
        socket.inode = message->idiag_inode;
        socket.cookie = (__u64)message->id.idiag_cookie[1] << 32 | message->id.idiag_cookie[0];
        address_take(&socket.local, socket.family, message->id.idiag_src);
        address_take(&socket.remote, socket.family, message->id.idiag_dst);
        mnl_attr_parse(header, sizeof(*message), find_attribute, &socket);

        if (dump->cgroup_ids && !ids_contain(dump->cgroup_ids, dump->n_cgroup_ids, socket.cgroup_id))
                return MNL_CB_OK;
        dump->result = dump->function(dump->context, &socket);
        /* The rest of the dump must still be read, or it would answer the next question. */
        if (dump->result != 0)
                dump->function = NULL;
        return MNL_CB_OK;
}

static int dump_rest(const struct nlmsghdr *header, void *context)
{
        const struct dump *dump = context;

        return dump->function ? dump_message(header, context) : MNL_CB_OK;
}

static int family_dump(struct sock_diag *diag, __u8 family, struct dump *dump)
{
        _cleanup_free_ char *buffer = malloc(BUFFER_SIZE);
        struct inet_diag_req_v2 *request;
        struct nlmsghdr *header;
        __u32 sequence = ++diag->sequence;
        int r;

        if (!buffer)
                return -ENOMEM;
        header = mnl_nlmsg_put_header(buffer);
        header->nlmsg_type = SOCK_DIAG_BY_FAMILY;
        header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
        header->nlmsg_seq = sequence;
        request = mnl_nlmsg_put_extra_header(header, sizeof(*request));
        request->sdiag_family = family;
        request->sdiag_protocol = dump->ip_protocol;
        request->idiag_states = ~0u;
        if (diag->map_fd >= 0) {
                struct nlattr *storages = mnl_attr_nest_start(header, INET_DIAG_REQ_SK_BPF_STORAGES);

                mnl_attr_put_u32(header, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, (__u32)diag->map_fd);
                mnl_attr_nest_end(header, storages);
        }
        if (mnl_socket_sendto(diag->socket, header, header->nlmsg_len) < 0)
                return -errno;

        do {
                ssize_t n = mnl_socket_recvfrom(diag->socket, buffer, BUFFER_SIZE);

                if (n < 0)
                        return errno == EAGAIN ? -ETIMEDOUT : -errno;
                header = (struct nlmsghdr *)buffer;
                /* What a dump left behind that was broken off by an error. */
                if ((size_t)n >= sizeof(*header) && header->nlmsg_seq != sequence) {
                        r = MNL_CB_OK;
                        continue;
                }
                r = mnl_cb_run(buffer, (size_t)n, sequence, mnl_socket_get_portid(diag->socket), dump_rest, dump);
                /* Sockets came or went meanwhile; those that did neither are all told: ignoring. */
                if (r < 0 && errno == EINTR)
                        r = MNL_CB_OK;
        } while (r > MNL_CB_STOP);
        if (r < 0)
                return -errno;
        return dump->result;
}

int sock_diag_each(struct sock_diag *diag, const __u64 *cgroup_ids, size_t n_cgroup_ids, sock_diag_fn function,
                   void *context)
{
        static const struct {
                __u8 family, ip_protocol;
        } kinds[] = {
                {AF_INET, IPPROTO_TCP},
                {AF_INET6, IPPROTO_TCP},
                {AF_INET, IPPROTO_UDP},
                {AF_INET6, IPPROTO_UDP},
        };

        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
                struct dump dump = {
                        .cgroup_ids = cgroup_ids,
                        .n_cgroup_ids = n_cgroup_ids,
                        .ip_protocol = kinds[i].ip_protocol,
                        .function = function,
                        .context = context,
                };
                int r = family_dump(diag, kinds[i].family, &dump);

                if (r != 0)
                        return r;
        }
        return 0;
}

int sock_diag_destroy(struct sock_diag *diag, const struct sock_diag_socket *socket)
{
        char buffer[4096];
        struct inet_diag_req_v2 *request;
        struct nlmsghdr *header;
        __u32 sequence = ++diag->sequence;
        ssize_t n;

        header = mnl_nlmsg_put_header(buffer);
        header->nlmsg_type = SOCK_DESTROY;
        header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
        header->nlmsg_seq = sequence;
        request = mnl_nlmsg_put_extra_header(header, sizeof(*request));
        request->sdiag_family = socket->family;
        request->sdiag_protocol = socket->ip_protocol;
        request->id.idiag_sport = htons(socket->local_port);
        request->id.idiag_dport = htons(socket->remote_port);
        request->id.idiag_if = socket->interface;
        request->id.idiag_cookie[0] = (__u32)socket->cookie;
        request->id.idiag_cookie[1] = (__u32)(socket->cookie >> 32);
        memcpy(request->id.idiag_src, socket->family == AF_INET6 ? socket->local.bytes : socket->local.bytes + 12,
               socket->family == AF_INET6 ? 16 : 4);
        memcpy(request->id.idiag_dst, socket->family == AF_INET6 ? socket->remote.bytes : socket->remote.bytes + 12,
               socket->family == AF_INET6 ? 16 : 4);
        if (mnl_socket_sendto(diag->socket, header, header->nlmsg_len) < 0)
                return -errno;

        for (;;) {
                n = mnl_socket_recvfrom(diag->socket, buffer, sizeof(buffer));
                if (n < 0)
                        return errno == EAGAIN ? -ETIMEDOUT : -errno;
                if ((size_t)n >= sizeof(*header) && ((struct nlmsghdr *)buffer)->nlmsg_seq == sequence)
                        break;
        }
        if (mnl_cb_run(buffer, (size_t)n, sequence, mnl_socket_get_portid(diag->socket), NULL, NULL) < 0)
                return -errno;
        return 0;
}

struct victims {
        bool (*doomed)(void *context, const struct sock_diag_socket *socket);
        void *context;
        struct sock_diag_socket *sockets;
        size_t n, room;
};

static int victim_add(void *context, const struct sock_diag_socket *socket)
{
        struct victims *victims = context;

        if (victims->doomed && !victims->doomed(victims->context, socket))
                return 0;
        if (victims->n == victims->room) {
                size_t room = victims->room ? victims->room * 2 : 64;
                struct sock_diag_socket *grown = reallocarray(victims->sockets, room, sizeof(*grown));

                if (!grown)
                        return -ENOMEM;
                victims->sockets = grown;
                victims->room = room;
        }
        victims->sockets[victims->n++] = *socket;
        return 0;
}

int sock_diag_destroy_each(struct sock_diag *diag, const __u64 *cgroup_ids, size_t n_cgroup_ids,
                           bool (*doomed)(void *context, const struct sock_diag_socket *socket), void *context,
                           size_t *ret_destroyed)
{
        struct victims victims = {.doomed = doomed, .context = context};
        size_t destroyed = 0;
        int first;

        /* What was found before a failure is destroyed all the same. */
        first = sock_diag_each(diag, cgroup_ids, n_cgroup_ids, victim_add, &victims);
        for (size_t i = 0; i < victims.n; i++) {
                int r = sock_diag_destroy(diag, &victims.sockets[i]);

                if (r == 0)
                        destroyed++;
                else if (r != -ENOENT && first == 0)
                        first = r;
        }
        free(victims.sockets);
        if (ret_destroyed)
                *ret_destroyed = destroyed;
        return first;
}
