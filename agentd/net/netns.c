/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Entering and leaving network namespaces around the making of a socket; see the header for the threat.
 */
#include "agentd/net/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "agentd/util/macro.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

enum { RECEIVE_BUFFER = 4 * 1024 * 1024, BACKLOG = 1024 };

bool netns_identity_equal(const struct netns_identity *a, const struct netns_identity *b)
{
        return a->device == b->device && a->inode == b->inode;
}

int netns_open(pid_t pid, int *ret_fd)
{
        struct pollfd item = {.events = POLLIN};
        _cleanup_close_ int pidfd = -1, fd = -1;
        char name[64];

        if (pid <= 0)
                return -EINVAL;
        pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (pidfd < 0)
                return -errno;
        snprintf(name, sizeof(name), "/proc/%d/ns/net", (int)pid);
        fd = open(name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT ? -ESRCH : -errno;

        /* Still not ended: the pid was its own all the time, and so was the namespace. */
        item.fd = pidfd;
        if (poll(&item, 1, 0) != 0)
                return -ESRCH;

        *ret_fd = TAKE_FD(fd);
        return 0;
}

int netns_open_self(int *ret_fd)
{
        int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        *ret_fd = fd;
        return 0;
}

int netns_identify(int netns_fd, struct netns_identity *ret)
{
        struct stat status;

        if (fstat(netns_fd, &status) < 0)
                return -errno;
        *ret = (struct netns_identity){.device = status.st_dev, .inode = status.st_ino};
        return 0;
}

/* Enters; *ret_home: the way back, -1 when there is nowhere to go. */
static int netns_enter(int netns_fd, int *ret_home)
{
        struct netns_identity here = {0}, there = {0};
        _cleanup_close_ int home = -1;
        int r;

        *ret_home = -1;
        if (netns_fd < 0)
                return 0;
        r = netns_open_self(&home);
        if (r < 0)
                return r;
        r = netns_identify(home, &here);
        if (r == 0)
                r = netns_identify(netns_fd, &there);
        if (r < 0)
                return r;
        if (netns_identity_equal(&here, &there))
                return 0;
        if (setns(netns_fd, CLONE_NEWNET) < 0)
                return -errno;
        *ret_home = TAKE_FD(home);
        return 0;
}

static void netns_leave(int home)
{
        if (home < 0)
                return;
        if (setns(home, CLONE_NEWNET) < 0)
                abort();
        close(home);
}

int netns_call(int netns_fd, int (*function)(void *context), void *context)
{
        int home, r = netns_enter(netns_fd, &home);

        if (r < 0)
                return r;
        r = function(context);
        netns_leave(home);
        return r;
}

int netns_socket(int netns_fd, int family, int type, int protocol, int *ret_fd)
{
        int home, fd, r;

        r = netns_enter(netns_fd, &home);
        if (r < 0)
                return r;
        fd = socket(family, type | SOCK_CLOEXEC, protocol);
        r = fd < 0 ? -errno : 0;
        netns_leave(home);
        if (r == 0)
                *ret_fd = fd;
        return r;
}

int netns_cookie(int netns_fd, __u64 *ret)
{
        _cleanup_close_ int fd = -1;
        socklen_t length;
        __u64 cookie = 0;
        int r;

        r = netns_socket(netns_fd, AF_UNIX, SOCK_DGRAM, 0, &fd);
        if (r < 0)
                return r;
        length = sizeof(cookie);
        if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) < 0)
                return -errno;
        *ret = cookie;
        return 0;
}

int netns_loopback_up(int netns_fd)
{
        struct ifreq request = {.ifr_name = "lo"};
        _cleanup_close_ int fd = -1;
        int r;

        /* An ioctl acts in the socket's namespace, so there is no need to be inside. */
        r = netns_socket(netns_fd, AF_INET, SOCK_DGRAM, 0, &fd);
        if (r == -EAFNOSUPPORT)
                r = netns_socket(netns_fd, AF_INET6, SOCK_DGRAM, 0, &fd);
        if (r < 0)
                return r;
        if (ioctl(fd, SIOCGIFFLAGS, &request) < 0)
                return -errno;
        if (request.ifr_flags & IFF_UP)
                return 0;
        request.ifr_flags |= IFF_UP;
        return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

/* Family and address as the kernel wants them. */
static socklen_t socket_address(const struct address *address, __u16 port, struct sockaddr_storage *ret)
{
        static const __u8 mapped[12] = {[10] = 0xff, [11] = 0xff};

        memset(ret, 0, sizeof(*ret));
        if (memcmp(address->bytes, mapped, sizeof(mapped)) == 0) {
                struct sockaddr_in *in = (struct sockaddr_in *)ret;

                in->sin_family = AF_INET;
                in->sin_port = htons(port);
                memcpy(&in->sin_addr, address->bytes + 12, 4);
                return sizeof(*in);
        }

        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        memcpy(&in6->sin6_addr, address->bytes, 16);
        return sizeof(*in6);
}

int netns_connect(int netns_fd, __u8 ip_protocol, const struct address *server, __u16 port, int *ret_fd)
{
        _cleanup_close_ int fd = -1;
        struct sockaddr_storage to;
        socklen_t length;
        int r;

        if (ip_protocol != IPPROTO_UDP && ip_protocol != IPPROTO_TCP)
                return -EINVAL;
        length = socket_address(server, port, &to);
        r = netns_socket(netns_fd, to.ss_family,
                         (ip_protocol == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK, ip_protocol, &fd);
        if (r < 0)
                return r;
        if (connect(fd, (struct sockaddr *)&to, length) < 0 && errno != EINPROGRESS)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/*
 * Binds and, for TCP, listens. SO_REUSEADDR for TCP only: it passes over connections in TIME_WAIT, which an earlier
 * listener leaves behind, but never over another listener; for UDP it would let somebody else sit on the same port.
 */
static int listener_open(int netns_fd, const struct address *address, __u16 port, bool stream, int *ret_fd)
{
        int size = RECEIVE_BUFFER, on = 1, r;
        _cleanup_close_ int fd = -1;
        struct sockaddr_storage at;
        socklen_t length;

        length = socket_address(address, port, &at);
        r = netns_socket(netns_fd, at.ss_family, (stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK, 0, &fd);
        if (r < 0)
                return r;
        if (stream && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
                return -errno;
        if (at.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
                return -errno;
        /* A burst of look-ups must fit; less room than wanted is no reason to fail: ignoring. */
        if (!stream && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
                (void)!setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
        if (bind(fd, (struct sockaddr *)&at, length) < 0)
                return -errno;
        if (stream && listen(fd, BACKLOG) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static void close_all(int fds[4])
{
        for (size_t i = 0; i < 4; i++)
                close_fd(&fds[i]);
}

/* All families on one port, or none. */
static int listeners_open(int netns_fd, __u16 port, int ret_fds[4])
{
        static const struct address loopbacks[] = {
                {.bytes = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}},
                {.bytes = {[15] = 1}},
        };
        int fds[4] = {-1, -1, -1, -1};

        for (size_t i = 0; i < 4; i++) {
                int r = listener_open(netns_fd, &loopbacks[i / 2], port, i % 2, &fds[i]);

                /* The family is switched off, or has lost its loopback address: it has no look-ups to listen for. */
                if (r == -EADDRNOTAVAIL || r == -EAFNOSUPPORT)
                        continue;
                if (r < 0) {
                        close_all(fds);
                        return r;
                }
        }
        for (size_t i = 0; i < 4; i += 2) {
                if (fds[i] < 0 || fds[i + 1] < 0) {
                        close_fd(&fds[i]);
                        close_fd(&fds[i + 1]);
                }
        }
        if (fds[0] < 0 && fds[2] < 0)
                return -EADDRNOTAVAIL;

        memcpy(ret_fds, fds, sizeof(fds));
        return 0;
}

int netns_listen(int netns_fd, const __u16 *ports, size_t n_ports, int ret_fds[4], __u16 *ret_port)
{
        int r;

        /* Where we may not, or there is no lo, the listeners tell: ignoring. */
        (void)netns_loopback_up(netns_fd);

        for (size_t i = 0; i < n_ports; i++) {
                if (ports[i] == 0)
                        continue;
                r = listeners_open(netns_fd, ports[i], ret_fds);
                if (r == -EADDRINUSE)
                        continue;
                if (r == 0)
                        *ret_port = ports[i];
                return r;
        }
        return -EADDRINUSE;
}

int netns_collect(const pid_t *pids, size_t n_pids, struct netns_process *ret, size_t capacity, size_t *ret_n)
{
        size_t n = 0;

        for (size_t i = 0; i < n_pids; i++) {
                struct netns_identity identity;
                struct stat status;
                bool known = false;
                char name[64];

                snprintf(name, sizeof(name), "/proc/%d/ns/net", (int)pids[i]);
                if (stat(name, &status) < 0) {
                        /* Gone, or a zombie: it has no namespace any more. */
                        if (errno == ENOENT || errno == ESRCH)
                                continue;
                        return -errno;
                }
                identity = (struct netns_identity){.device = status.st_dev, .inode = status.st_ino};
                for (size_t j = 0; j < MIN(n, capacity) && !known; j++)
                        known = netns_identity_equal(&ret[j].identity, &identity);
                if (known)
                        continue;
                if (n < capacity)
                        ret[n] = (struct netns_process){.identity = identity, .pid = pids[i]};
                n++;
        }
        *ret_n = n;
        return 0;
}
