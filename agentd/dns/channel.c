/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sendmsg/recvmsg with SCM_RIGHTS and a queue. Order is kept: once something waits, everything after it waits.
 */
#include "agentd/dns/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/util/cleanup.h"

struct channel_message {
        struct channel_message *next;
        int fds[CHANNEL_FDS_MAX];
        size_t n_fds;
        _Alignas(8) __u8 bytes[]; /* the message */
};

size_t message_size(__u32 kind)
{
        switch (kind) {
        case MESSAGE_SETTINGS:
                return sizeof(struct message_settings);
        case MESSAGE_POLICY:
        case MESSAGE_POLICY_GONE:
                return sizeof(struct message_policy);
        case MESSAGE_AGENT:
        case MESSAGE_AGENT_GONE:
                return sizeof(struct message_agent);
        case MESSAGE_LISTENER:
        case MESSAGE_LISTENER_GONE:
                return sizeof(struct message_listener);
        case MESSAGE_LEARNED:
                return sizeof(struct message_learned);
        case MESSAGE_RESOLVE:
                return sizeof(struct message_resolve);
        case MESSAGE_QUERY:
                return sizeof(struct message_query);
        case MESSAGE_UPSTREAM:
                return sizeof(struct message_upstream);
        case MESSAGE_READY:
        case MESSAGE_ALIVE:
                return sizeof(struct message_header);
        case MESSAGE_LEARN:
                return sizeof(struct message_learn);
        case MESSAGE_REFUSED:
                return sizeof(struct message_refused);
        case MESSAGE_RESOLVED:
                return sizeof(struct message_resolved);
        case MESSAGE_ASK_UPSTREAM:
                return sizeof(struct message_ask_upstream);
        case MESSAGE_STATISTICS:
                return sizeof(struct message_statistics);
        case MESSAGE_DURATIONS:
                return sizeof(struct message_durations);
        default:
                return 0;
        }
}

static void queued_free(struct channel_message *queued)
{
        for (size_t i = 0; i < queued->n_fds; i++)
                close(queued->fds[i]);
        free(queued);
}

void channel_init(struct channel *channel, int fd, size_t queue_max)
{
        *channel = (struct channel){.fd = fd, .queue_max = queue_max};
        channel->last = &channel->first;
}

void channel_clear(struct channel *channel)
{
        while (channel->first) {
                struct channel_message *queued = channel->first;

                channel->first = queued->next;
                queued_free(queued);
        }
        channel->last = &channel->first;
        channel->n_queued = 0;
}

bool channel_is_waiting(const struct channel *channel)
{
        return channel->first;
}

static int send_now(int fd, const struct message_header *header, const int *fds, size_t n_fds)
{
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
        } control = {0};
        struct iovec part = {.iov_base = (void *)header, .iov_len = header->size};
        struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};

        if (n_fds > 0) {
                packet.msg_control = &control;
                packet.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                control.header.cmsg_level = SOL_SOCKET;
                control.header.cmsg_type = SCM_RIGHTS;
                control.header.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * n_fds);
        }
        for (;;) {
                if (sendmsg(fd, &packet, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
                        return 0;
                if (errno != EINTR)
                        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
        }
}

static int enqueue(struct channel *channel, const struct message_header *header, const int *fds, size_t n_fds)
{
        struct channel_message *queued;

        if (channel->n_queued >= channel->queue_max)
                return -ENOBUFS;
        queued = malloc(sizeof(*queued) + header->size);
        if (!queued)
                return -ENOMEM;
        queued->next = NULL;
        queued->n_fds = 0;
        memcpy(queued->bytes, header, header->size);
        for (size_t i = 0; i < n_fds; i++) {
                int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);

                if (fd < 0) {
                        int error = -errno;

                        queued_free(queued);
                        return error;
                }
                queued->fds[queued->n_fds++] = fd;
        }
        *channel->last = queued;
        channel->last = &queued->next;
        channel->n_queued++;
        return 0;
}

int channel_send(struct channel *channel, const void *message, const int *fds, size_t n_fds)
{
        const struct message_header *header = message;
        int r;

        if (n_fds > CHANNEL_FDS_MAX || header->size < sizeof(*header) || header->size > sizeof(union message))
                return -EINVAL;
        if (!channel->first) {
                r = send_now(channel->fd, header, fds, n_fds);
                if (r != -EAGAIN)
                        return r;
        }
        return enqueue(channel, header, fds, n_fds);
}

int channel_flush(struct channel *channel)
{
        while (channel->first) {
                struct channel_message *queued = channel->first;
                int r = send_now(channel->fd, (const struct message_header *)queued->bytes, queued->fds, queued->n_fds);

                if (r == -EAGAIN)
                        return 0;
                if (r < 0)
                        return r;
                channel->first = queued->next;
                if (!channel->first)
                        channel->last = &channel->first;
                channel->n_queued--;
                queued_free(queued);
        }
        return 0;
}

static size_t take_fds(struct msghdr *packet, int *ret_fds, bool *ret_bad)
{
        size_t n_fds = 0;

        for (struct cmsghdr *control = CMSG_FIRSTHDR(packet); control; control = CMSG_NXTHDR(packet, control)) {
                size_t n_here;

                if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS)
                        continue;
                n_here = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < n_here; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof(fd));
                        if (n_fds < CHANNEL_FDS_MAX) {
                                ret_fds[n_fds++] = fd;
                        } else {
                                close(fd);
                                *ret_bad = true;
                        }
                }
        }
        return n_fds;
}

int channel_receive(int fd, union message *ret, int *ret_fds, size_t *ret_n_fds)
{
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
        } control;
        struct iovec part = {.iov_base = ret, .iov_len = sizeof(*ret)};
        struct msghdr packet = {
                .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
        int fds[CHANNEL_FDS_MAX];
        size_t n_fds;
        ssize_t size;
        bool bad = false;

        do {
                size = recvmsg(fd, &packet, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        } while (size < 0 && errno == EINTR);
        if (size < 0)
                return errno == EWOULDBLOCK ? -EAGAIN : -errno;

        n_fds = take_fds(&packet, fds, &bad);
        if (size == 0) {
                bad = bad || n_fds > 0;
                if (!bad)
                        return -ECONNRESET;
        }
        if (bad || packet.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || (size_t)size < sizeof(ret->header) ||
            ret->header.size != (size_t)size || message_size(ret->header.kind) != (size_t)size ||
            (n_fds > 0 && !ret_fds)) {
                for (size_t i = 0; i < n_fds; i++)
                        close(fds[i]);
                return -EBADMSG;
        }
        if (ret_fds) {
                memcpy(ret_fds, fds, n_fds * sizeof(int));
                *ret_n_fds = n_fds;
        }
        return 0;
}
