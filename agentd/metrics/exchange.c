/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#include "agentd/metrics/exchange.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

static const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

int exchange_send(int fd, const struct metrics_message *message, const int *fds, size_t n_fds)
{
        struct iovec data = {(void *)message, sizeof(*message)};
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int) * EXCHANGE_FDS_MAX)];
        } control = {};
        struct msghdr header = {.msg_iov = &data, .msg_iovlen = 1};
        ssize_t n;

        if (n_fds > 0) {
                struct cmsghdr *item = &control.align;

                header.msg_control = control.bytes;
                header.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                item->cmsg_level = SOL_SOCKET;
                item->cmsg_type = SCM_RIGHTS;
                item->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(item), fds, sizeof(int) * n_fds);
        }
        do {
                n = sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
        } while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : 0;
}

static void take_fds(struct msghdr *header, int *ret_fds)
{
        size_t n = 0;

        for (struct cmsghdr *item = CMSG_FIRSTHDR(header); item; item = CMSG_NXTHDR(header, item)) {
                size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);

                if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < count; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(item) + i * sizeof(int), sizeof(fd));
                        if (n < EXCHANGE_FDS_MAX)
                                ret_fds[n++] = fd;
                        else
                                close(fd);
                }
        }
}

int exchange_receive(int fd, struct metrics_message *ret, int *ret_fds)
{
        struct iovec data = {ret, sizeof(*ret)};
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int) * EXCHANGE_FDS_MAX)];
        } control = {};
        struct msghdr header = {
                .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
        ssize_t n;

        for (size_t i = 0; i < EXCHANGE_FDS_MAX; i++)
                ret_fds[i] = -1;
        do {
                n = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        } while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        take_fds(&header, ret_fds);
        if (n == sizeof(*ret) && !(header.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
                ret->reason[METRICS_REASON_MAX - 1] = '\0';
                return 0;
        }
        for (size_t i = 0; i < EXCHANGE_FDS_MAX; i++)
                close_fd(&ret_fds[i]);
        return n == 0 ? -ECONNRESET : -EBADMSG;
}

static int write_all(int fd, const char *bytes, size_t size)
{
        while (size > 0) {
                ssize_t n = write(fd, bytes, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                bytes += n;
                size -= (size_t)n;
        }
        return 0;
}

int exchange_memory(const char *name, const void *bytes, size_t size, const void *more, size_t more_size)
{
        _cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        int r;

        if (fd < 0)
                return -errno;
        r = write_all(fd, bytes, size);
        if (r == 0)
                r = write_all(fd, more, more_size);
        if (r < 0)
                return r;
        if (fcntl(fd, F_ADD_SEALS, seals) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int exchange_read(int fd, size_t size, char **ret)
{
        _cleanup_free_ char *text = NULL;
        struct stat status;
        size_t done = 0;

        if (fcntl(fd, F_GET_SEALS) != seals || fstat(fd, &status) < 0 || (size_t)status.st_size != size)
                return -EBADMSG;
        text = malloc(size + 1);
        if (!text)
                return -ENOMEM;
        if (lseek(fd, 0, SEEK_SET) < 0)
                return -errno;
        while (done < size) {
                ssize_t n = read(fd, text + done, size - done);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EBADMSG;
                done += (size_t)n;
        }
        text[size] = '\0';
        *ret = TAKE_PTR(text);
        return 0;
}
