/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The same through io_uring, whose requests may run in a kernel thread; by raw system calls, without liburing. */
#include "technique.h"

#include <linux/io_uring.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>

struct ring {
        int fd;
        struct io_uring_params params;
        uint8_t *rings;
        struct io_uring_sqe *entries;
};

static int ring_new(struct ring *ring, unsigned flags)
{
        size_t size;

        memset(ring, 0, sizeof(*ring));
        ring->params.flags = flags;
        ring->params.sq_thread_idle = 200;
        ring->fd = (int)syscall(SYS_io_uring_setup, 8, &ring->params);
        if (ring->fd < 0) {
                perror("io_uring_setup");
                return -errno;
        }
        size = ring->params.cq_off.cqes + ring->params.cq_entries * sizeof(struct io_uring_cqe);
        ring->rings = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
        ring->entries = mmap(NULL, ring->params.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
                             MAP_SHARED, ring->fd, IORING_OFF_SQES);
        return 0;
}

/* Submits one request and waits for its end; its result. */
static int ring_do(struct ring *ring, const struct io_uring_sqe *request)
{
        unsigned *tail = (unsigned *)(ring->rings + ring->params.sq_off.tail);
        unsigned *array = (unsigned *)(ring->rings + ring->params.sq_off.array);
        unsigned *head = (unsigned *)(ring->rings + ring->params.cq_off.head);
        struct io_uring_cqe *results = (struct io_uring_cqe *)(ring->rings + ring->params.cq_off.cqes);
        unsigned index = *tail & (ring->params.sq_entries - 1);
        int result;

        ring->entries[index] = *request;
        array[index] = index;
        __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
        syscall(SYS_io_uring_enter, ring->fd, 1, 1,
                IORING_ENTER_GETEVENTS | (ring->params.flags & IORING_SETUP_SQPOLL ? IORING_ENTER_SQ_WAKEUP : 0), NULL,
                0);
        result = results[*head & (ring->params.cq_entries - 1)].res;
        __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
        if (result < 0)
                fprintf(stderr, "opcode %u: %s\n", request->opcode, strerror(-result));
        return result;
}

static int ring_socket(struct ring *ring, const struct target *target, int type)
{
        struct io_uring_sqe request = {.opcode = IORING_OP_SOCKET, .fd = target->family, .off = type};

        return ring_do(ring, &request);
}

static void stream_with(const struct target *target, unsigned flags)
{
        struct ring ring;
        struct io_uring_sqe request;
        int fd;

        if (ring_new(&ring, flags))
                return;
        fd = ring_socket(&ring, target, SOCK_STREAM);
        request = (struct io_uring_sqe){
                .opcode = IORING_OP_CONNECT, .fd = fd, .addr = (uintptr_t)forbidden_of(target), .off = target->size};
        ring_do(&ring, &request);
        request = (struct io_uring_sqe){.opcode = IORING_OP_SEND,
                                        .fd = fd,
                                        .addr = (uintptr_t)payload,
                                        .len = sizeof(payload),
                                        .msg_flags = MSG_NOSIGNAL};
        ring_do(&ring, &request);
}

static void stream(const struct target *target)
{
        stream_with(target, 0);
}

static void polled(const struct target *target)
{
        stream_with(target, IORING_SETUP_SQPOLL);
}

static void message_with(const struct target *target, int type, int flags, unsigned sqe_flags)
{
        struct iovec part = {(void *)payload, sizeof(payload)};
        struct msghdr header = {.msg_name = (void *)forbidden_of(target),
                                .msg_namelen = target->size,
                                .msg_iov = &part,
                                .msg_iovlen = 1};
        struct io_uring_sqe request;
        struct ring ring;

        if (ring_new(&ring, 0))
                return;
        request = (struct io_uring_sqe){.opcode = IORING_OP_SENDMSG,
                                        .flags = (uint8_t)sqe_flags,
                                        .fd = ring_socket(&ring, target, type),
                                        .addr = (uintptr_t)&header,
                                        .len = 1,
                                        .msg_flags = (uint32_t)flags | MSG_NOSIGNAL};
        ring_do(&ring, &request);
}

static void message(const struct target *target)
{
        message_with(target, SOCK_DGRAM, 0, 0);
}

/* IOSQE_ASYNC: the request runs in a worker thread. */
static void worker(const struct target *target)
{
        message_with(target, SOCK_DGRAM, 0, IOSQE_ASYNC);
}

static void fast_open(const struct target *target)
{
        message_with(target, SOCK_STREAM, MSG_FASTOPEN, 0);
}

/* Without a copy, and with the address in the request instead of a connection. */
static void zero_copy(const struct target *target)
{
        struct io_uring_sqe request;
        struct ring ring;

        if (ring_new(&ring, 0))
                return;
        request = (struct io_uring_sqe){.opcode = IORING_OP_SEND_ZC,
                                        .fd = ring_socket(&ring, target, SOCK_DGRAM),
                                        .addr = (uintptr_t)payload,
                                        .len = sizeof(payload),
                                        .addr2 = (uintptr_t)forbidden_of(target),
                                        .addr_len = (uint16_t)target->size,
                                        .msg_flags = MSG_NOSIGNAL};
        ring_do(&ring, &request);
}

/* A connected datagram socket, written to as to a file, and spliced into from a pipe. */
static void written_with(const struct target *target, bool splice)
{
        struct io_uring_sqe request;
        struct ring ring;
        int fd, pipe_fds[2];

        if (ring_new(&ring, 0) || pipe(pipe_fds) || write(pipe_fds[1], payload, sizeof(payload)) < 0)
                return;
        fd = ring_socket(&ring, target, SOCK_DGRAM);
        request = (struct io_uring_sqe){
                .opcode = IORING_OP_CONNECT, .fd = fd, .addr = (uintptr_t)forbidden_of(target), .off = target->size};
        ring_do(&ring, &request);
        if (splice)
                request = (struct io_uring_sqe){.opcode = IORING_OP_SPLICE,
                                                .fd = fd,
                                                .splice_fd_in = pipe_fds[0],
                                                .splice_off_in = (uint64_t)-1,
                                                .off = (uint64_t)-1,
                                                .len = sizeof(payload)};
        else
                request = (struct io_uring_sqe){
                        .opcode = IORING_OP_WRITE, .fd = fd, .addr = (uintptr_t)payload, .len = sizeof(payload)};
        ring_do(&ring, &request);
}

static void written(const struct target *target)
{
        written_with(target, false);
}

static void spliced(const struct target *target)
{
        written_with(target, true);
}

/* From the allowed destination to the other, by the workers' threads. */
static void reconnected(const struct target *target)
{
        struct sockaddr unspecified = {.sa_family = AF_UNSPEC};
        struct io_uring_sqe request;
        struct ring ring;
        int fd;

        if (ring_new(&ring, 0))
                return;
        fd = ring_socket(&ring, target, SOCK_DGRAM);
        request = (struct io_uring_sqe){.opcode = IORING_OP_CONNECT,
                                        .flags = IOSQE_ASYNC,
                                        .fd = fd,
                                        .addr = (uintptr_t)allowed_of(target),
                                        .off = target->size};
        ring_do(&ring, &request);
        request.addr = (uintptr_t)&unspecified;
        request.off = sizeof(unspecified);
        ring_do(&ring, &request);
        request.addr = (uintptr_t)forbidden_of(target);
        request.off = target->size;
        ring_do(&ring, &request);
        request = (struct io_uring_sqe){.opcode = IORING_OP_SEND,
                                        .flags = IOSQE_ASYNC,
                                        .fd = fd,
                                        .addr = (uintptr_t)payload,
                                        .len = sizeof(payload)};
        ring_do(&ring, &request);
}

/* An option is set by a request, too (6.7). */
static void join(const struct target *target)
{
        struct group_req group = {.gr_interface = if_nametoindex("eth0"), .gr_group = target->forbidden};
        struct {
                struct io_uring_sqe request;
        } wide = {.request = {.opcode = IORING_OP_URING_CMD}};
        struct io_uring_sqe *request = &wide.request;
        uint32_t where[2] = {(uint32_t)(target->family == AF_INET ? SOL_IP : SOL_IPV6), MCAST_JOIN_GROUP};
        uint64_t value = (uintptr_t)&group;
        uint32_t size = sizeof(group);
        struct ring ring;

        if (ring_new(&ring, 0))
                return;
        request->fd = ring_socket(&ring, target, SOCK_DGRAM);
        /* SOCKET_URING_OP_SETSOCKOPT; level and name are where addr is, length where file_index is, value where addr3
         * is. */
        request->off = 3;
        memcpy(&request->addr, where, sizeof(where));
        memcpy((uint8_t *)request + 44, &size, sizeof(size));
        memcpy((uint8_t *)request + 48, &value, sizeof(value));
        ring_do(&ring, request);
        poll(NULL, 0, 300);
}

static const struct technique techniques[] = {
        {"uring_stream", stream},
        {"uring_polled", polled},
        {"uring_message", message},
        {"uring_worker", worker},
        {"uring_fast_open", fast_open},
        {"uring_zero_copy", zero_copy},
        {"uring_written", written},
        {"uring_spliced", spliced},
        {"uring_reconnected", reconnected},
        {"uring_join", join},
        {NULL, NULL},
};

int main(int argc, char **argv)
{
        return technique_main(argc, argv, techniques);
}
