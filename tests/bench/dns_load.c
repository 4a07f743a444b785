/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Look-ups over UDP with a window of unanswered ones: prints queries a second and the latency's percentiles.
 *
 *     cc -O2 -std=gnu11 -D_GNU_SOURCE -o dns_load tests/bench/dns_load.c
 *     dns_load [-n COUNT] [-w WINDOW] [-t TYPE] [-k NAMES] SERVER PORT NAME
 *
 * With -k N the names are 0.NAME .. N-1.NAME in turn (a `%` in NAME is replaced by the number instead); without it NAME
 * alone. A window of 1 measures latency, a larger one throughput. Output, one line:
 *
 *     queries 100000 seconds 1.234 qps 81037 p50_us 11.8 p99_us 30.1 lost 0 rcode0 100000
 *
 * What is not answered in a second counts as lost and is not asked again. Exit status 1 when more than 1 % are lost.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WINDOW_MAX = 4096, LOST_MS = 1000, BATCH = 64 };

struct slot {
        uint64_t sent_ns; /* 0: free */
        uint16_t id;
};

static uint64_t now_ns(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static size_t write_query(const char *pattern, unsigned long number, bool many, uint16_t type, uint16_t id,
                          uint8_t *ret)
{
        static const uint8_t header[12] = {0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0};
        const char *percent = strchr(pattern, '%');
        char name[300];
        size_t at = sizeof(header);

        if (many && percent)
                snprintf(name, sizeof(name), "%.*s%lu%s", (int)(percent - pattern), pattern, number, percent + 1);
        else if (many)
                snprintf(name, sizeof(name), "%lu.%s", number, pattern);
        else
                snprintf(name, sizeof(name), "%s", pattern);
        memcpy(ret, header, sizeof(header));
        ret[0] = (uint8_t)(id >> 8);
        ret[1] = (uint8_t)id;
        for (char *label = strtok(name, "."); label; label = strtok(NULL, ".")) {
                size_t length = strlen(label);

                if (length > 63 || at + length > 260)
                        exit(2);
                ret[at++] = (uint8_t)length;
                memcpy(ret + at, label, length);
                at += length;
        }
        ret[at++] = 0;
        ret[at++] = (uint8_t)(type >> 8);
        ret[at++] = (uint8_t)type;
        ret[at++] = 0;
        ret[at++] = 1;
        return at;
}

static int compare(const void *a, const void *b)
{
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
        unsigned long count = 100000, window = 32, names = 0, type = 1, sent = 0, answered = 0, lost = 0, good = 0;
        unsigned long in_flight = 0, next_slot = 0;
        static struct slot slots[WINDOW_MAX];
        struct sockaddr_in6 address6 = {.sin6_family = AF_INET6};
        struct sockaddr_in address4 = {.sin_family = AF_INET};
        static uint8_t queries[BATCH][300], replies[BATCH][4096];
        uint32_t *latencies;
        uint64_t start, end;
        int fd, option, size = 4 << 20;
        bool ipv6;

        while ((option = getopt(argc, argv, "n:w:t:k:")) != -1) {
                unsigned long value = optarg ? strtoul(optarg, NULL, 10) : 0;

                if (option == 'n')
                        count = value;
                else if (option == 'w')
                        window = value;
                else if (option == 't')
                        type = value;
                else if (option == 'k')
                        names = value;
                else
                        return 2;
        }
        if (argc - optind != 3 || count == 0 || window == 0 || window > WINDOW_MAX) {
                fprintf(stderr, "usage: dns_load [-n COUNT] [-w WINDOW] [-t TYPE] [-k NAMES] SERVER PORT NAME\n");
                return 2;
        }
        ipv6 = strchr(argv[optind], ':');
        address4.sin_port = address6.sin6_port = htons((uint16_t)strtoul(argv[optind + 1], NULL, 10));
        if (inet_pton(ipv6 ? AF_INET6 : AF_INET, argv[optind],
                      ipv6 ? (void *)&address6.sin6_addr : (void *)&address4.sin_addr) != 1)
                return 2;
        fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
        if (connect(fd, ipv6 ? (struct sockaddr *)&address6 : (struct sockaddr *)&address4,
                    ipv6 ? sizeof(address6) : sizeof(address4)) < 0) {
                perror("connect");
                return 1;
        }
        latencies = calloc(count, sizeof(*latencies));
        if (!latencies)
                return 1;

        start = now_ns();
        while (answered + lost < count) {
                struct mmsghdr messages[BATCH];
                struct iovec parts[BATCH];
                unsigned n = 0;
                int received;

                /* The id is the slot and a turn: a late answer to a lost query is not taken for a new one's. */
                while (n < BATCH && in_flight < window && sent < count) {
                        struct slot *slot;

                        while (slots[next_slot % window].sent_ns)
                                next_slot++;
                        slot = &slots[next_slot % window];
                        slot->id = (uint16_t)(next_slot % window + (sent / window % 16) * WINDOW_MAX);
                        parts[n] = (struct iovec){queries[n],
                                                  write_query(argv[optind + 2], names ? sent % names : 0, names > 0,
                                                              (uint16_t)type, slot->id, queries[n])};
                        messages[n] = (struct mmsghdr){.msg_hdr = {.msg_iov = &parts[n], .msg_iovlen = 1}};
                        slot->sent_ns = now_ns();
                        n++;
                        in_flight++;
                        sent++;
                        next_slot++;
                }
                for (unsigned at = 0; at < n;) {
                        int done = sendmmsg(fd, messages + at, n - at, 0);

                        if (done < 0) {
                                perror("sendmmsg");
                                return 1;
                        }
                        at += (unsigned)done;
                }
                for (unsigned i = 0; i < BATCH; i++) {
                        parts[i] = (struct iovec){replies[i], sizeof(replies[i])};
                        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &parts[i], .msg_iovlen = 1}};
                }
                received = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
                if (received < 0) {
                        struct pollfd readable = {.fd = fd, .events = POLLIN};

                        if (errno != EAGAIN) {
                                perror("recvmmsg");
                                return 1;
                        }
                        if (poll(&readable, 1, 100) == 0) {
                                uint64_t now = now_ns();

                                for (unsigned long i = 0; i < window; i++) {
                                        if (!slots[i].sent_ns || now - slots[i].sent_ns < LOST_MS * 1000000ull)
                                                continue;
                                        slots[i].sent_ns = 0;
                                        in_flight--;
                                        lost++;
                                }
                        }
                        continue;
                }
                end = now_ns();
                for (int i = 0; i < received; i++) {
                        uint16_t id = (uint16_t)(replies[i][0] << 8 | replies[i][1]);
                        struct slot *slot = &slots[id % WINDOW_MAX];

                        if (messages[i].msg_len < 12 || id % WINDOW_MAX >= window || !slot->sent_ns || slot->id != id)
                                continue;
                        latencies[answered++] = (uint32_t)((end - slot->sent_ns) / 10); /* in 10 ns: 42 s fit */
                        good += (replies[i][3] & 0xf) == 0;
                        slot->sent_ns = 0;
                        in_flight--;
                }
        }
        end = now_ns();
        qsort(latencies, answered, sizeof(*latencies), compare);
        printf("queries %lu seconds %.3f qps %.0f p50_us %.1f p99_us %.1f lost %lu rcode0 %lu\n", count,
               (double)(end - start) / 1e9, (double)answered * 1e9 / (double)(end - start),
               answered ? latencies[answered / 2] / 100.0 : 0.0,
               answered ? latencies[answered * 99 / 100] / 100.0 : 0.0, lost, good);
        free(latencies);
        close(fd);
        return lost * 100 > count;
}
