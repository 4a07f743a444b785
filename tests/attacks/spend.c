/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Spenders: each tries to send more than a budget has, by another way to be many at once or to be weighed wrongly.
 *
 *     spend TECHNIQUE ADDRESS BYTES    sends until so many bytes were tried, whatever is refused; a few seconds at most
 */
#include "technique.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

enum { MANY = 8, SILENT_PORT = 9, SINK_PORT = 7100, UDP_SEGMENT_OPTION = 103 };

struct spender {
        struct sockaddr_storage to;
        socklen_t size;
        long bytes; /* for each of MANY */
        int fd;
        void (*spend)(struct spender *spender);
};

static char data[65536];

static double now(void)
{
        struct timespec time;

        clock_gettime(CLOCK_MONOTONIC, &time);
        return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int udp_socket(const struct spender *spender)
{
        int fd = socket(spender->to.ss_family, SOCK_DGRAM, 0);

        if (connect(fd, (const struct sockaddr *)&spender->to, spender->size))
                perror("connect");
        return fd;
}

static void datagrams(struct spender *spender)
{
        int fd = spender->fd > 0 ? spender->fd : udp_socket(spender);

        for (long sent = 0; sent < spender->bytes; sent += 1000)
                send(fd, data, 972, MSG_NOSIGNAL);
        if (fd != spender->fd)
                close(fd);
}

/* --- many at once ------------------------------------------------------------------------------------------------- */

static void *thread_main(void *argument)
{
        struct spender *spender = argument;

        spender->spend(spender);
        return NULL;
}

static void in_threads(struct spender *spender, void (*spend)(struct spender *))
{
        pthread_t threads[MANY];

        spender->spend = spend;
        for (int i = 0; i < MANY; i++)
                pthread_create(&threads[i], NULL, thread_main, spender);
        for (int i = 0; i < MANY; i++)
                pthread_join(threads[i], NULL);
}

static void threads(struct spender *spender)
{
        in_threads(spender, datagrams);
}

/* One socket for all of them. */
static void threads_shared(struct spender *spender)
{
        spender->fd = udp_socket(spender);
        in_threads(spender, datagrams);
}

/* A storm of processes, each with a few packets. */
static void processes(struct spender *spender)
{
        long each = 20000, n = spender->bytes * MANY / each;

        spender->bytes = each;
        for (long i = 0; i < n; i++) {
                if (i >= 32)
                        wait(NULL);
                if (fork() == 0) {
                        datagrams(spender);
                        _exit(0);
                }
        }
        while (wait(NULL) > 0)
                ;
}

/* Each in a cgroup of its own below the agent's. */
static void child_cgroups(struct spender *spender)
{
        char own[4096] = "", path[4200], file[4300], line[4096];
        const char *root = getenv("CGROUP_ROOT");
        FILE *cgroup = fopen("/proc/self/cgroup", "r");

        while (fgets(line, sizeof(line), cgroup))
                if (!strncmp(line, "0::", 3))
                        snprintf(own, sizeof(own), "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
        fclose(cgroup);
        for (int i = 0; i < MANY; i++) {
                snprintf(path, sizeof(path), "%s%s/spend%d", root ? root : "", own, i);
                mkdir(path, 0755);
                if (fork() == 0) {
                        int fd;

                        snprintf(file, sizeof(file), "%s/cgroup.procs", path);
                        fd = open(file, O_WRONLY);
                        if (fd < 0 || write(fd, "0", 1) < 0)
                                perror(file);
                        datagrams(spender);
                        _exit(0);
                }
        }
        while (wait(NULL) > 0)
                ;
        for (int i = 0; i < MANY; i++) {
                snprintf(path, sizeof(path), "%s%s/spend%d", root ? root : "", own, i);
                rmdir(path);
        }
}

/* --- weighed wrongly ---------------------------------------------------------------------------------------------- */

/* Segments of every size: their headers are not in the packet that is judged. */
static void segments_of(struct spender *spender)
{
        int fd = udp_socket(spender);
        unsigned seed = (unsigned)now();

        for (long sent = 0; sent < spender->bytes;) {
                int size = 1 + rand_r(&seed) % 1400, n = 1 + rand_r(&seed) % 60;

                if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT_OPTION, &size, sizeof(size)))
                        perror("UDP_SEGMENT");
                send(fd, data, (size_t)(size * n > 60000 ? 60000 : size * n), MSG_NOSIGNAL);
                sent += size * n + n * 28;
        }
        close(fd);
}

static void segments(struct spender *spender)
{
        in_threads(spender, segments_of);
}

/* Their size changes while others send. */
static void *segments_change(void *argument)
{
        struct spender *spender = argument;
        double end = now() + 1;

        for (int size = 200; now() < end; size = 1400 - size % 1300)
                setsockopt(spender->fd, IPPROTO_UDP, UDP_SEGMENT_OPTION, &size, sizeof(size));
        return NULL;
}

static void long_datagrams(struct spender *spender)
{
        for (long sent = 0; sent < spender->bytes; sent += 12000)
                send(spender->fd, data, 12000, MSG_NOSIGNAL);
}

static void segments_racing(struct spender *spender)
{
        pthread_t thread;

        spender->fd = udp_socket(spender);
        pthread_create(&thread, NULL, segments_change, spender);
        in_threads(spender, long_datagrams);
        pthread_join(thread, NULL);
}

static void fragments_of(struct spender *spender)
{
        int fd = udp_socket(spender);
        unsigned seed = (unsigned)now();

        for (long sent = 0; sent < spender->bytes;) {
                int size = 1 + rand_r(&seed) % 20000;

                send(fd, data, (size_t)size, MSG_NOSIGNAL);
                sent += size;
        }
        close(fd);
}

static void fragments(struct spender *spender)
{
        in_threads(spender, fragments_of);
}

/* Nothing in them but headers. */
static void empty_of(struct spender *spender)
{
        int fd = udp_socket(spender);

        for (long sent = 0; sent < spender->bytes; sent += 28)
                send(fd, data, 0, MSG_NOSIGNAL);
        close(fd);
}

static void empty(struct spender *spender)
{
        in_threads(spender, empty_of);
}

static void messages_of(struct spender *spender)
{
        struct iovec part = {data, 1000};
        struct mmsghdr headers[64];
        int fd = udp_socket(spender);

        memset(headers, 0, sizeof(headers));
        for (size_t i = 0; i < ARRAY_SIZE(headers); i++)
                headers[i].msg_hdr = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1};
        for (long sent = 0; sent < spender->bytes; sent += 64000)
                sendmmsg(fd, headers, ARRAY_SIZE(headers), MSG_NOSIGNAL);
        close(fd);
}

static void messages(struct spender *spender)
{
        in_threads(spender, messages_of);
}

static void corked_of(struct spender *spender)
{
        int fd = udp_socket(spender);

        for (long sent = 0; sent < spender->bytes; sent += 3000) {
                send(fd, data, 1000, MSG_MORE | MSG_NOSIGNAL);
                send(fd, data, 1000, MSG_MORE | MSG_NOSIGNAL);
                send(fd, data, 1000, MSG_NOSIGNAL);
        }
        close(fd);
}

static void corked(struct spender *spender)
{
        in_threads(spender, corked_of);
}

static void zero_copy_of(struct spender *spender)
{
        int one = 1, fd = udp_socket(spender);

        setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one));
        for (long sent = 0; sent < spender->bytes; sent += 1400)
                if (send(fd, data, 1400, MSG_ZEROCOPY | MSG_NOSIGNAL) < 0)
                        send(fd, data, 1400, MSG_NOSIGNAL);
        close(fd);
}

static void zero_copy(struct spender *spender)
{
        in_threads(spender, zero_copy_of);
}

static void echoes_of(struct spender *spender)
{
        bool four = spender->to.ss_family == AF_INET;
        int fd = socket(spender->to.ss_family, SOCK_DGRAM, four ? IPPROTO_ICMP : IPPROTO_ICMPV6);
        char echo[1400] = {four ? 8 : (char)128};

        if (connect(fd, (const struct sockaddr *)&spender->to, spender->size))
                perror("connect");
        for (long sent = 0; sent < spender->bytes; sent += (long)sizeof(echo))
                send(fd, echo, sizeof(echo), MSG_NOSIGNAL | MSG_DONTWAIT);
        close(fd);
}

static void echoes(struct spender *spender)
{
        in_threads(spender, echoes_of);
}

/* --- streams ------------------------------------------------------------------------------------------------------ */

static int stream_open(const struct spender *spender)
{
        int one = 1, fd = socket(spender->to.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);

        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        connect(fd, (const struct sockaddr *)&spender->to, spender->size);
        return fd;
}

/* Many connections that all have data, for a second and a half. */
static void streams_of(struct spender *spender, size_t chunk)
{
        struct pollfd fds[32];
        double end = now() + 1.5;
        long sent = 0;

        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
                fds[i] = (struct pollfd){.fd = stream_open(spender), .events = POLLOUT};
        while (now() < end && sent < spender->bytes * MANY) {
                if (poll(fds, ARRAY_SIZE(fds), 100) <= 0)
                        continue;
                for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
                        if (fds[i].revents & POLLOUT) {
                                ssize_t n = send(fds[i].fd, data, chunk, MSG_NOSIGNAL);

                                sent += n > 0 ? n : 0;
                        }
        }
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
                close(fds[i].fd);
}

static void streams(struct spender *spender)
{
        streams_of(spender, 30000);
}

/* A segment for each byte: forty times the header. */
static void bytes(struct spender *spender)
{
        spender->bytes /= 40;
        streams_of(spender, 1);
}

/* Connections that are filled and left: the kernel sends what they hold when nobody owns them any more. */
static void closing(struct spender *spender)
{
        double end = now() + 2;

        for (int round = 0; now() < end && round < 4; round++) {
                struct pollfd fds[32];

                for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
                        fds[i] = (struct pollfd){.fd = stream_open(spender), .events = POLLOUT};
                for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
                        poll(&fds[i], 1, 50);
                        send(fds[i].fd, data, 40000, MSG_NOSIGNAL);
                        close(fds[i].fd);
                }
        }
}

/* Connects without end: SYNs, to where nobody answers, and what the kernel sends again of them. */
static void connects(struct spender *spender)
{
        double end = now() + 1.5;
        int fds[1000];
        size_t n = 0;

        for (long sent = 0; sent < spender->bytes * MANY && now() < end && n < ARRAY_SIZE(fds); sent += 60)
                fds[n++] = stream_open(spender);
        poll(NULL, 0, 1100); /* the first retransmission */
        while (n > 0)
                close(fds[--n]);
}

/* The SYN has data, and nobody answers. */
static void fast_open(struct spender *spender)
{
        double end = now() + 1.5;
        int fds[1000];
        size_t n = 0;

        for (long sent = 0; sent < spender->bytes * MANY && now() < end && n < ARRAY_SIZE(fds); sent += 1000) {
                fds[n] = socket(spender->to.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
                sendto(fds[n++], data, 900, MSG_FASTOPEN | MSG_NOSIGNAL, (struct sockaddr *)&spender->to,
                       spender->size);
        }
        poll(NULL, 0, 1100);
        while (n > 0)
                close(fds[--n]);
}

static const struct {
        const char *name;
        void (*run)(struct spender *spender);
        int port;
} spenders[] = {
        {"threads", threads, SILENT_PORT},     {"threads_shared", threads_shared, SILENT_PORT},
        {"processes", processes, SILENT_PORT}, {"child_cgroups", child_cgroups, SILENT_PORT},
        {"segments", segments, SILENT_PORT},   {"segments_racing", segments_racing, SILENT_PORT},
        {"fragments", fragments, SILENT_PORT}, {"empty", empty, SILENT_PORT},
        {"messages", messages, SILENT_PORT},   {"corked", corked, SILENT_PORT},
        {"zero_copy", zero_copy, SILENT_PORT}, {"echoes", echoes, 0},
        {"streams", streams, SINK_PORT},       {"bytes", bytes, SINK_PORT},
        {"closing", closing, SINK_PORT},       {"connects", connects, SINK_PORT},
        {"fast_open", fast_open, SINK_PORT},
};

int main(int argc, char **argv)
{
        struct spender spender = {0};
        char port[8];

        if (argc == 2 && !strcmp(argv[1], "list")) {
                for (size_t i = 0; i < ARRAY_SIZE(spenders); i++)
                        puts(spenders[i].name);
                return 0;
        }
        alarm(20);
        for (size_t i = 0; argc == 4 && i < ARRAY_SIZE(spenders); i++)
                if (!strcmp(argv[1], spenders[i].name)) {
                        snprintf(port, sizeof(port), "%d", spenders[i].port);
                        if (parse(argv[2], port, &spender.to, &spender.size))
                                break;
                        spender.bytes = atol(argv[3]) / MANY;
                        spenders[i].run(&spender);
                        return 0;
                }
        fprintf(stderr, "usage: %s TECHNIQUE ADDRESS BYTES\n", argv[0]);
        return 2;
}
