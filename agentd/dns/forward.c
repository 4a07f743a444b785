/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * as-asked: one query to the server that the agent named, over a socket that the monitor connected inside the agent's
 * namespace. Container names and split DNS work; the server is the agent's own choice, so its answers are believed no
 * more than any other: they are filtered and learned as all are.
 *
 * UDP first, with EDNS; again without when the server does not know EDNS; over TCP when the answer is cut.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/dns/worker_state.h"
#include "agentd/util/cleanup.h"

enum { RESEND_MS = 1500, SENDS_MAX = 3, OPT_SIZE = 11, FORWARD_QUERY_MAX = 2 + DNS_HEADER_SIZE + 255 + 4 + OPT_SIZE };

struct socket_handles {
        uv_poll_t poll;
        uv_timer_t timer;
        struct forward *forward; /* NULL: closing */
        unsigned n_open;
        int fd;
};

struct forward {
        struct worker *worker;
        __u64 id;
        struct message_ask_upstream ask;
        resolver_done done;
        void *context;
        __u16 query_id;
        bool edns;
        unsigned n_sends;
        size_t query_size; /* without the length of TCP */
        size_t question_size;
        __u8 query[FORWARD_QUERY_MAX]; /* 2 bytes of length first */
        size_t sent;                   /* TCP */
        __u8 *answer;                  /* TCP: DNS_MESSAGE_MAX + 2 */
        size_t received;
        struct socket_handles *handles; /* NULL: waiting for the monitor */
        UT_hash_handle hh;
};

static void handles_closed(uv_handle_t *handle)
{
        struct socket_handles *handles = handle->data;

        if (--handles->n_open > 0)
                return;
        close_fd(&handles->fd);
        free(handles);
}

static void forward_close_socket(struct forward *forward)
{
        struct socket_handles *handles = TAKE_PTR(forward->handles);

        if (!handles)
                return;
        handles->forward = NULL;
        uv_close((uv_handle_t *)&handles->poll, handles_closed);
        uv_close((uv_handle_t *)&handles->timer, handles_closed);
}

void forward_cancel(struct worker *worker, struct forward *forward)
{
        HASH_DELETE(hh, worker->forwards, forward);
        forward_close_socket(forward);
        free(forward->answer);
        free(forward);
}

static void forward_finish(struct forward *forward, const void *packet, size_t size)
{
        struct resolver_result result = {
                .status = packet ? RESOLVER_ANSWER : RESOLVER_FAILED, .packet = packet, .size = size};
        _cleanup_free_ __u8 *answer = TAKE_PTR(forward->answer);
        resolver_done done = forward->done;
        void *context = forward->context;

        forward_cancel(forward->worker, forward);
        done(context, &result);
}

/* The first question has been answered when the second is put: one id serves both. */
static int forward_ask_socket(struct forward *forward, bool tcp)
{
        forward->ask.header.id = forward->id;
        forward->ask.want_tcp = tcp;
        return worker_try_send(forward->worker, &forward->ask);
}

static void forward_write_query(struct forward *forward)
{
        __u8 *at = forward->query + 2;

        dns_put16(at, forward->query_id);
        dns_put16(at + 10, forward->edns ? 1 : 0);
        forward->query_size = DNS_HEADER_SIZE + forward->question_size;
        if (forward->edns) {
                at += forward->query_size;
                memset(at, 0, OPT_SIZE);
                dns_put16(at + 1, DNS_TYPE_OPT);
                dns_put16(at + 3, DNS_UDP_OFFERED);
                forward->query_size += OPT_SIZE;
        }
        dns_put16(forward->query, (__u16)forward->query_size);
}

static void udp_send(struct forward *forward);

static void udp_timed_out(uv_timer_t *timer)
{
        struct forward *forward = ((struct socket_handles *)timer->data)->forward;

        if (!forward)
                return;
        if (forward->n_sends >= SENDS_MAX)
                forward_finish(forward, NULL, 0);
        else
                udp_send(forward);
}

static void udp_send(struct forward *forward)
{
        forward->n_sends++;
        uv_timer_start(&forward->handles->timer, udp_timed_out, RESEND_MS, 0);
        /* Refused by a route or a firewall: the same as lost, and sent again. */
        (void)!send(forward->handles->fd, forward->query + 2, forward->query_size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Header and question are ours? The rest is answer_new()'s to check. */
static bool is_answer(const struct forward *forward, const __u8 *packet, size_t size)
{
        const __u8 *question = forward->query + 2 + DNS_HEADER_SIZE;

        if (size < DNS_HEADER_SIZE || dns_get16(packet) != forward->query_id || !(packet[2] & 0x80))
                return false;
        /* Servers that do not understand EDNS may leave the question out of their FORMERR. */
        if (dns_get16(packet + 4) == 0)
                return (packet[3] & 0xf) != 0;
        if (size < DNS_HEADER_SIZE + forward->question_size || dns_get16(packet + 4) != 1)
                return false;
        for (size_t i = 0; i < forward->question_size; i++) {
                __u8 byte = packet[DNS_HEADER_SIZE + i];

                if (byte >= 'A' && byte <= 'Z')
                        byte |= 0x20;
                if (byte != question[i] && packet[DNS_HEADER_SIZE + i] != question[i])
                        return false;
        }
        return true;
}

static void udp_ready(uv_poll_t *poll, int status, int events)
{
        struct forward *forward = ((struct socket_handles *)poll->data)->forward;
        __u8 packet[DNS_UDP_MAX];
        ssize_t size;

        if (!forward)
                return;
        size = recv(forward->handles->fd, packet, sizeof(packet), MSG_DONTWAIT);
        if (size < 0) {
                /* ECONNREFUSED and the like: nobody is there. The client tries its next server. */
                if (errno != EAGAIN && errno != EINTR)
                        forward_finish(forward, NULL, 0);
                return;
        }
        if (!is_answer(forward, packet, (size_t)size))
                return; /* somebody else's, or forged: the real one may still come */
        if (packet[2] & 0x02) {
                forward_close_socket(forward);
                if (forward_ask_socket(forward, true) < 0)
                        forward_finish(forward, NULL, 0);
                return;
        }
        if (forward->edns && ((packet[3] & 0xf) == DNS_FORMERR || (packet[3] & 0xf) == DNS_NOTIMP)) {
                forward->edns = false;
                forward->query_id++;
                forward_write_query(forward);
                udp_send(forward);
                return;
        }
        forward_finish(forward, packet, (size_t)size);
}

static void tcp_timed_out(uv_timer_t *timer)
{
        struct forward *forward = ((struct socket_handles *)timer->data)->forward;

        if (forward)
                forward_finish(forward, NULL, 0);
}

static void tcp_ready(uv_poll_t *poll, int status, int events)
{
        struct forward *forward = ((struct socket_handles *)poll->data)->forward;
        size_t total, wanted;
        ssize_t n;

        if (!forward)
                return;
        total = 2 + forward->query_size;
        if (forward->sent < total) {
                n = send(forward->handles->fd, forward->query + forward->sent, total - forward->sent,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        goto failed;
                forward->sent += n > 0 ? (size_t)n : 0;
                if (forward->sent == total)
                        uv_poll_start(poll, UV_READABLE, tcp_ready);
                return;
        }
        wanted = forward->received < 2 ? 2 : 2u + dns_get16(forward->answer);
        n = recv(forward->handles->fd, forward->answer + forward->received, wanted - forward->received, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0)
                goto failed;
        forward->received += (size_t)n;
        if (forward->received < 2 || forward->received < 2u + dns_get16(forward->answer))
                return;
        if (!is_answer(forward, forward->answer + 2, forward->received - 2))
                goto failed;
        forward_finish(forward, forward->answer + 2, forward->received - 2);
        return;
failed:
        forward_finish(forward, NULL, 0);
}

static int forward_open_socket(struct forward *forward, int fd)
{
        bool tcp = forward->ask.want_tcp;
        struct socket_handles *handles = calloc(1, sizeof(*handles));
        int r;

        if (!handles)
                return -ENOMEM;
        if (tcp) {
                forward->answer = malloc(2 + DNS_MESSAGE_MAX);
                forward->sent = forward->received = 0;
        }
        if ((tcp && !forward->answer) || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
            uv_poll_init(&forward->worker->loop, &handles->poll, fd) < 0) {
                free(handles);
                return -ENOMEM;
        }
        uv_timer_init(&forward->worker->loop, &handles->timer);
        handles->n_open = 2;
        handles->poll.data = handles->timer.data = handles;
        handles->forward = forward;
        handles->fd = fd;
        forward->handles = handles;
        r = uv_poll_start(&handles->poll, tcp ? UV_WRITABLE : UV_READABLE, tcp ? tcp_ready : udp_ready);
        if (r < 0)
                return r;
        if (tcp)
                uv_timer_start(&handles->timer, tcp_timed_out, RESEND_MS * SENDS_MAX, 0);
        else
                udp_send(forward);
        return 0;
}

void forward_upstream(struct worker *worker, const struct message_upstream *message, int fd)
{
        _cleanup_close_ int owned = fd;
        struct forward *forward;

        HASH_FIND(hh, worker->forwards, &message->header.id, sizeof(message->header.id), forward);
        if (!forward || forward->handles)
                return;
        if (message->error != 0 || owned < 0) {
                forward_finish(forward, NULL, 0);
                return;
        }
        if (forward_open_socket(forward, owned) < 0) {
                if (forward->handles)
                        (void)TAKE_FD(owned); /* closed with its handles */
                forward_finish(forward, NULL, 0);
                return;
        }
        (void)TAKE_FD(owned);
}

int forward_start(struct worker *worker, __u32 agent_id, const struct listener_client *client, const char *name,
                  __u16 type, resolver_done done, void *context, struct forward **ret)
{
        struct forward *forward = calloc(1, sizeof(*forward));
        bool oom = false;
        int length, r;
        __u8 *at;

        if (!forward)
                return -ENOMEM;
        *forward = (struct forward){
                .worker = worker,
                .id = worker->next_id++,
                .ask = {.header = {MESSAGE_ASK_UPSTREAM, sizeof(forward->ask), 0},
                        .agent_id = agent_id,
                        .listener_id = listener_id(client->listener),
                        .ip_protocol = client->connection ? IPPROTO_TCP : IPPROTO_UDP},
                .done = done,
                .context = context,
                .edns = true,
        };
        listener_client_address(client, &forward->ask.source, &forward->ask.source_port);
        at = forward->query + 2;
        dns_put16(at + 2, DNS_FLAG_RD);
        dns_put16(at + 4, 1);
        length = dns_name_from_text(name, at + DNS_HEADER_SIZE);
        if (length < 0 || getrandom(&forward->query_id, sizeof(forward->query_id), 0) < 0) {
                free(forward);
                return length < 0 ? length : -errno;
        }
        at += DNS_HEADER_SIZE + length;
        dns_put16(at, type);
        dns_put16(at + 2, DNS_CLASS_IN);
        forward->question_size = (size_t)length + 4;
        forward_write_query(forward);

        HASH_ADD(hh, worker->forwards, id, sizeof(forward->id), forward);
        if (oom) {
                free(forward);
                return -ENOMEM;
        }
        r = forward_ask_socket(forward, false);
        if (r < 0) {
                forward_cancel(worker, forward);
                return r;
        }
        *ret = forward;
        return 0;
}
