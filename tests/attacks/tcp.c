/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Streams to a forbidden destination, by the ways that do not pass connect() or pass it with another face. */
#include "technique.h"

#include <linux/tcp.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

static void connect_and_send(int fd, const struct target *target)
{
        if (connect(fd, forbidden_of(target), target->size))
                perror("connect");
        send(fd, payload, sizeof(payload), MSG_NOSIGNAL);
}

static void plain(const struct target *target)
{
        int fd = open_socket(target->family, SOCK_STREAM, 0);

        connect_and_send(fd, target);
        close(fd);
}

static void nonblocking(const struct target *target)
{
        struct pollfd poll_fd = {.fd = open_socket(target->family, SOCK_STREAM | SOCK_NONBLOCK, 0), .events = POLLOUT};

        connect(poll_fd.fd, forbidden_of(target), target->size);
        poll(&poll_fd, 1, 300);
        send(poll_fd.fd, payload, sizeof(payload), MSG_NOSIGNAL);
        close(poll_fd.fd);
}

static void fast_open(const struct target *target)
{
        int fd = open_socket(target->family, SOCK_STREAM, 0);

        if (sendto(fd, payload, sizeof(payload), MSG_FASTOPEN | MSG_NOSIGNAL, forbidden_of(target), target->size) < 0)
                perror("sendto");
        close(fd);
}

static void fast_open_sendmsg(const struct target *target)
{
        struct iovec part = {(void *)payload, sizeof(payload)};
        struct msghdr message = {.msg_name = (void *)forbidden_of(target),
                                 .msg_namelen = target->size,
                                 .msg_iov = &part,
                                 .msg_iovlen = 1};
        int fd = open_socket(target->family, SOCK_STREAM, 0);

        if (sendmsg(fd, &message, MSG_FASTOPEN | MSG_NOSIGNAL) < 0)
                perror("sendmsg");
        close(fd);
}

static void fast_open_connect(const struct target *target)
{
        int one = 1, fd = open_socket(target->family, SOCK_STREAM, 0);

        setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one));
        connect_and_send(fd, target);
        close(fd);
}

static void reconnect(const struct target *target)
{
        struct sockaddr unspecified = {.sa_family = AF_UNSPEC};
        int fd = open_socket(target->family, SOCK_STREAM, 0);

        if (connect(fd, allowed_of(target), target->size))
                perror("connect to what is allowed");
        connect(fd, &unspecified, sizeof(unspecified));
        connect_and_send(fd, target);
        close(fd);
}

static void reconnect_fast_open(const struct target *target)
{
        struct sockaddr unspecified = {.sa_family = AF_UNSPEC};
        int fd = open_socket(target->family, SOCK_STREAM, 0);

        connect(fd, allowed_of(target), target->size);
        connect(fd, &unspecified, sizeof(unspecified));
        sendto(fd, payload, sizeof(payload), MSG_FASTOPEN | MSG_NOSIGNAL, forbidden_of(target), target->size);
        close(fd);
}

static void multipath(const struct target *target)
{
        int fd = open_socket(target->family, SOCK_STREAM, 262 /* IPPROTO_MPTCP */);

        connect_and_send(fd, target);
        close(fd);
}

static void mapped(const struct target *target)
{
        const struct sockaddr_in *four = (const struct sockaddr_in *)forbidden_of(target);
        struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = four->sin_port};
        int fd = open_socket(AF_INET6, SOCK_STREAM, 0);

        if (target->family != AF_INET)
                return;
        memset(&six.sin6_addr.s6_addr[10], 0xff, 2);
        memcpy(&six.sin6_addr.s6_addr[12], &four->sin_addr, 4);
        if (connect(fd, (struct sockaddr *)&six, sizeof(six)))
                perror("connect");
        send(fd, payload, sizeof(payload), MSG_NOSIGNAL);
        close(fd);
}

static void bound_to_device(const struct target *target)
{
        int fd = open_socket(target->family, SOCK_STREAM, 0);

        setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5);
        connect_and_send(fd, target);
        close(fd);
}

static void marked(const struct target *target)
{
        int mark = 0x1234, fd = open_socket(target->family, SOCK_STREAM, 0);

        setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark));
        connect_and_send(fd, target);
        close(fd);
}

static void transparent(const struct target *target)
{
        int one = 1, fd = open_socket(target->family, SOCK_STREAM, 0);

        setsockopt(fd, SOL_IP, 19 /* IP_TRANSPARENT */, &one, sizeof(one));
        connect_and_send(fd, target);
        close(fd);
}

/* A connection that is declared to exist: no handshake, no connect hook's view of a SYN. */
static void repaired(const struct target *target)
{
        int one = 1, off = 0, fd = open_socket(target->family, SOCK_STREAM, 0);

        if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &one, sizeof(one)))
                perror("TCP_REPAIR");
        connect(fd, forbidden_of(target), target->size);
        setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off));
        send(fd, payload, sizeof(payload), MSG_NOSIGNAL);
        close(fd);
}

static const struct technique techniques[] = {
        {"tcp", plain},
        {"tcp_nonblocking", nonblocking},
        {"tcp_fast_open", fast_open},
        {"tcp_fast_open_sendmsg", fast_open_sendmsg},
        {"tcp_fast_open_connect", fast_open_connect},
        {"tcp_reconnect", reconnect},
        {"tcp_reconnect_fast_open", reconnect_fast_open},
        {"tcp_multipath", multipath},
        {"tcp_mapped", mapped},
        {"tcp_bound_to_device", bound_to_device},
        {"tcp_marked", marked},
        {"tcp_transparent", transparent},
        {"tcp_repaired", repaired},
        {NULL, NULL},
};

int main(int argc, char **argv)
{
        return technique_main(argc, argv, techniques);
}
