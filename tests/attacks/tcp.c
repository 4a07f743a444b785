/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Streams to a forbidden destination, by the ways that do not pass connect() or pass it with another face. */
#include "technique.h"

#include <fcntl.h>
#include <linux/seg6.h>
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

static struct sockaddr_in6 mapped_address(const struct target *target)
{
        const struct sockaddr_in *four = (const struct sockaddr_in *)forbidden_of(target);
        struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = four->sin_port};

        memset(&six.sin6_addr.s6_addr[10], 0xff, 2);
        memcpy(&six.sin6_addr.s6_addr[12], &four->sin_addr, 4);
        return six;
}

static void mapped(const struct target *target)
{
        struct sockaddr_in6 six = mapped_address(target);
        int fd = open_socket(AF_INET6, SOCK_STREAM, 0);

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

static void repaired_compat(const struct target *target)
{
        int one = 1, off = 0, fd = open_socket(target->family, SOCK_STREAM, 0);

        setsockopt_compat(fd, IPPROTO_TCP, TCP_REPAIR, &one, sizeof(one));
        connect(fd, forbidden_of(target), target->size);
        setsockopt_compat(fd, IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off));
        send(fd, payload, sizeof(payload), MSG_NOSIGNAL);
        close(fd);
}

/* What a connection carries, by the other calls that write. */
static void vectored(const struct target *target)
{
        struct iovec parts[2] = {{(void *)payload, 4}, {(void *)(payload + 4), sizeof(payload) - 4}};
        int fd = open_socket(target->family, SOCK_STREAM, 0);

        connect(fd, forbidden_of(target), target->size);
        if (writev(fd, parts, 2) < 0)
                perror("writev");
        close(fd);
}

static void messages(const struct target *target)
{
        struct iovec part = {(void *)payload, sizeof(payload)};
        struct mmsghdr headers[2] = {{.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}},
                                     {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}}};
        int fd = open_socket(target->family, SOCK_STREAM, 0);

        connect(fd, forbidden_of(target), target->size);
        if (sendmmsg(fd, headers, 2, MSG_NOSIGNAL) < 0)
                perror("sendmmsg");
        close(fd);
}

static void spliced(const struct target *target)
{
        int pipe_fds[2], fd = open_socket(target->family, SOCK_STREAM, 0);

        if (pipe(pipe_fds) || write(pipe_fds[1], payload, sizeof(payload)) < 0)
                return;
        connect(fd, forbidden_of(target), target->size);
        if (splice(pipe_fds[0], NULL, fd, NULL, sizeof(payload), 0) < 0)
                perror("splice");
        close(fd);
}

static void sent_file(const struct target *target)
{
        int file = open("/proc/self/exe", O_RDONLY), fd = open_socket(target->family, SOCK_STREAM, 0);
        off_t offset = 0;

        connect(fd, forbidden_of(target), target->size);
        if (sendfile(fd, file, &offset, 100) < 0)
                perror("sendfile");
        close(fd);
}

static void zero_copy(const struct target *target)
{
        int one = 1, fd = open_socket(target->family, SOCK_STREAM, 0);

        setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one));
        connect(fd, forbidden_of(target), target->size);
        if (send(fd, payload, sizeof(payload), MSG_ZEROCOPY | MSG_NOSIGNAL) < 0)
                perror("send");
        close(fd);
}

static void urgent(const struct target *target)
{
        int fd = open_socket(target->family, SOCK_STREAM, 0);

        connect(fd, forbidden_of(target), target->size);
        send(fd, "u", 1, MSG_OOB | MSG_NOSIGNAL);
        close(fd);
}

/* Kernel TLS: the records are made by the kernel behind write(). */
static void kernel_tls(const struct target *target)
{
        struct sockaddr unspecified = {.sa_family = AF_UNSPEC};
        int fd = open_socket(target->family, SOCK_STREAM, 0);

        connect(fd, allowed_of(target), target->size);
        if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls"))) {
                perror("TCP_ULP");
        } else {
                connect(fd, &unspecified, sizeof(unspecified));
                connect_and_send(fd, target);
        }
        close(fd);
}

static void multipath_fast_open(const struct target *target)
{
        int fd = open_socket(target->family, SOCK_STREAM, 262);

        if (sendto(fd, payload, sizeof(payload), MSG_FASTOPEN | MSG_NOSIGNAL, forbidden_of(target), target->size) < 0)
                perror("sendto");
        close(fd);
}

static void mapped_fast_open(const struct target *target)
{
        struct sockaddr_in6 six = mapped_address(target);
        int fd = open_socket(AF_INET6, SOCK_STREAM, 0);

        if (sendto(fd, payload, sizeof(payload), MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&six, sizeof(six)) < 0)
                perror("sendto");
        close(fd);
}

/* A source port that looks like an answer of a server. */
static void bound_source(const struct target *target)
{
        struct sockaddr_storage own = {.ss_family = (sa_family_t)target->family};
        int one = 1, fd = open_socket(target->family, SOCK_STREAM, 0);

        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        ((struct sockaddr_in *)&own)->sin_port = htons(53);
        if (bind(fd, (struct sockaddr *)&own, target->size))
                perror("bind");
        connect_and_send(fd, target);
        close(fd);
}

/* A listener, and a socket that it accepted from this very program. */
static int accepted_socket(const struct target *target, int *ret_listener)
{
        struct sockaddr_storage own = {.ss_family = (sa_family_t)target->family};
        socklen_t size = sizeof(own);
        int listener = open_socket(target->family, SOCK_STREAM, 0);
        int client = open_socket(target->family, SOCK_STREAM, 0);
        int fd;

        /* Bound to no address, or the accepted socket would keep one that leads nowhere. To connect there is loopback.
         */
        if (bind(listener, (struct sockaddr *)&own, target->size) || listen(listener, 1) ||
            getsockname(listener, (struct sockaddr *)&own, &size) || connect(client, (struct sockaddr *)&own, size))
                perror("loopback");
        fd = accept(listener, NULL, NULL);
        close(client);
        *ret_listener = listener;
        return fd;
}

/* What is let in is not let out: an accepted socket, disconnected and led elsewhere. */
static void accepted_reconnect(const struct target *target)
{
        struct sockaddr unspecified = {.sa_family = AF_UNSPEC};
        int listener, fd = accepted_socket(target, &listener);

        connect(fd, &unspecified, sizeof(unspecified));
        connect_and_send(fd, target);
        close(fd);
        close(listener);
}

static void accepted_fast_open(const struct target *target)
{
        struct sockaddr unspecified = {.sa_family = AF_UNSPEC};
        int listener, fd = accepted_socket(target, &listener);

        connect(fd, &unspecified, sizeof(unspecified));
        sendto(fd, payload, sizeof(payload), MSG_FASTOPEN | MSG_NOSIGNAL, forbidden_of(target), target->size);
        close(fd);
        close(listener);
}

static void listener_connect(const struct target *target)
{
        struct sockaddr_storage own = {.ss_family = (sa_family_t)target->family};
        int fd = open_socket(target->family, SOCK_STREAM, 0);

        if (bind(fd, (struct sockaddr *)&own, target->size) || listen(fd, 1))
                perror("listen");
        shutdown(fd, SHUT_RDWR);
        connect_and_send(fd, target);
        close(fd);
}

/* The call names the allowed address, the SYN goes to the first hop of the route. */
static void option_route(const struct target *target)
{
        uint8_t options[12] = {1, 131, 11, 4};
        int fd = open_socket(AF_INET, SOCK_STREAM, 0);

        memcpy(options + 4, &((const struct sockaddr_in *)forbidden_of(target))->sin_addr, 4);
        memcpy(options + 8, &((const struct sockaddr_in *)allowed_of(target))->sin_addr, 4);
        if (setsockopt(fd, SOL_IP, IP_OPTIONS, options, sizeof(options)))
                perror("IP_OPTIONS");
        connect(fd, allowed_of(target), target->size);
        close(fd);
}

static void routing_header(const struct target *target)
{
        struct {
                struct ipv6_sr_hdr header;
                struct in6_addr segments[2];
        } __attribute__((packed)) route = {.header = {.hdrlen = 4, .type = 4, .segments_left = 1, .first_segment = 1}};
        int fd = open_socket(AF_INET6, SOCK_STREAM, 0);

        route.segments[0] = ((const struct sockaddr_in6 *)allowed_of(target))->sin6_addr;
        route.segments[1] = ((const struct sockaddr_in6 *)forbidden_of(target))->sin6_addr;
        if (setsockopt(fd, SOL_IPV6, IPV6_RTHDR, &route, sizeof(route)))
                perror("IPV6_RTHDR");
        connect(fd, allowed_of(target), target->size);
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
        {"tcp_repaired_compat", repaired_compat},
        {"tcp_vectored", vectored},
        {"tcp_messages", messages},
        {"tcp_spliced", spliced},
        {"tcp_sent_file", sent_file},
        {"tcp_zero_copy", zero_copy},
        {"tcp_urgent", urgent},
        {"tcp_kernel_tls", kernel_tls},
        {"tcp_multipath_fast_open", multipath_fast_open},
        {"tcp_mapped_fast_open", mapped_fast_open},
        {"tcp_bound_source", bound_source},
        {"tcp_accepted_reconnect", accepted_reconnect},
        {"tcp_accepted_fast_open", accepted_fast_open},
        {"tcp_listener_connect", listener_connect},
        {"tcp_option_route", option_route},
        {"tcp_routing_header", routing_header},
        {NULL, NULL},
};

int main(int argc, char **argv)
{
        return technique_main(argc, argv, techniques);
}
