/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A process that is born in a cgroup (clone3 with CLONE_INTO_CGROUP) and sends as the first thing it does.
 *
 *     born CGROUP_DIRECTORY [flood SECONDS] PROTO/ADDRESS/PORT...      PROTO: udp, tcp, icmp, raw (ICMP), join (a
 * group)
 *
 * CGROUP_DIRECTORY is made if it is not there: the container runtime's two steps without a pause between them. One line
 * for each destination: SPEC sent|ERRNO. flood: again and again for so long; of the first round every line, later only
 * the first that was sent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS_AT_ONCE = 32 }; /* some 50 us each: what is open for a millisecond is found */

static int destination(char *spec, struct sockaddr_storage *ret, socklen_t *ret_length, int *ret_type,
                       int *ret_protocol)
{
        char *protocol = strtok(spec, "/"), *address = strtok(NULL, "/"), *port = strtok(NULL, "/");
        struct sockaddr_in *ipv4 = (struct sockaddr_in *)ret;
        struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)ret;
        int family;

        memset(ret, 0, sizeof(*ret));
        if (!protocol || !address)
                return -1;
        if (inet_pton(AF_INET, address, &ipv4->sin_addr) == 1) {
                ipv4->sin_family = family = AF_INET;
                ipv4->sin_port = htons(port ? atoi(port) : 0);
                *ret_length = sizeof(*ipv4);
        } else if (inet_pton(AF_INET6, address, &ipv6->sin6_addr) == 1) {
                ipv6->sin6_family = family = AF_INET6;
                ipv6->sin6_port = htons(port ? atoi(port) : 0);
                *ret_length = sizeof(*ipv6);
        } else {
                return -1;
        }
        *ret_type = !strcmp(protocol, "tcp") ? SOCK_STREAM : SOCK_DGRAM;
        if (!strcmp(protocol, "raw"))
                *ret_type = SOCK_RAW;
        *ret_protocol = strcmp(protocol, "icmp") && strcmp(protocol, "raw") ? 0
                        : family == AF_INET                                 ? IPPROTO_ICMP
                                                                            : IPPROTO_ICMPV6;
        return family;
}

/* A socket that is connected once and then only written to: of tiers 1 and 2 the packet hooks alone see what it sends.
 */
static const char *attempt_held(const struct sockaddr_storage *to, socklen_t length, int *held)
{
        int error;

        if (*held < 0) {
                *held = socket(to->ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
                if (connect(*held, (const struct sockaddr *)to, length) < 0) {
                        error = errno;
                        close(*held);
                        *held = -1;
                        return strerrorname_np(error);
                }
        }
        if (send(*held, "held", 4, 0) == 4)
                return "sent";
        error = errno;
        if (error != EPERM) { /* destroyed by the daemon, or refused by the far end */
                close(*held);
                *held = -1;
        }
        return strerrorname_np(error);
}

static const char *attempt(const char *text, int *held)
{
        static const unsigned char echo4[12] = {8}, echo6[12] = {128};
        struct sockaddr_storage to;
        socklen_t length;
        char spec[128];
        int family, type, protocol, fd, r;

        snprintf(spec, sizeof(spec), "%s", text);
        family = destination(spec, &to, &length, &type, &protocol);
        if (family < 0)
                return "bad";
        if (!strncmp(text, "held/", 5))
                return attempt_held(&to, length, held);
        fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
        if (fd < 0)
                return strerrorname_np(errno);
        if (!strncmp(text, "join/", 5)) { /* the kernel sends a report, with the group's address */
                struct group_req group = {.gr_interface = if_nametoindex("eth0")};

                memcpy(&group.gr_group, &to, sizeof(to));
                r = setsockopt(fd, family == AF_INET ? SOL_IP : SOL_IPV6, MCAST_JOIN_GROUP, &group, sizeof(group));
                return r < 0 ? strerrorname_np(errno) : "sent"; /* left open: it stays a member */
        }
        if (type == SOCK_STREAM)
                r = connect(fd, (struct sockaddr *)&to, length);
        else
                r = sendto(fd, family == AF_INET ? echo4 : echo6, 12, 0, (struct sockaddr *)&to, length);
        if (type == SOCK_STREAM)
                return r < 0 ? strerrorname_np(errno) : "sent"; /* left open: its SYN is sent again */
        r = r < 0 ? errno : 0;
        close(fd);
        return r ? strerrorname_np(r) : "sent";
}

int main(int argc, char *argv[])
{
        struct clone_args arguments = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD};
        long rounds = 1, seconds = 0;
        int next = 2, status;
        pid_t pid;

        if (argc < 3)
                return 2;
        if (!strcmp(argv[next], "flood") && argc > 4) {
                seconds = atol(argv[next + 1]);
                next += 2;
        }
        if (mkdir(argv[1], 0755) < 0 && errno != EEXIST) {
                perror(argv[1]);
                return 1;
        }
        arguments.cgroup = (unsigned)open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
        if (pid < 0) {
                perror("clone3");
                return 1;
        }
        if (pid == 0) {
                struct timespec begin, now;
                bool told[argc];
                int held[argc];

                memset(told, 0, sizeof(told));
                memset(held, 0xff, sizeof(held));
                (void)setvbuf(stdout, NULL, _IOLBF, 0); /* others wait for lines */
                clock_gettime(CLOCK_MONOTONIC, &begin);
                do {
                        for (int i = next; i < argc; i++) {
                                const char *answer = attempt(argv[i], &held[i]);
                                bool sent = !strcmp(answer, "sent");

                                if (seconds == 0 || rounds == 1)
                                        printf("%s %s\n", argv[i], answer);
                                else if (sent && !told[i])
                                        printf("later %s %s\n", argv[i], answer);
                                told[i] |= sent && rounds > 1;
                        }
                        if (++rounds % ROUNDS_AT_ONCE == 0)
                                (void)poll(NULL, 0, 1); /* others want the CPU as well */
                        clock_gettime(CLOCK_MONOTONIC, &now);
                } while (now.tv_sec - begin.tv_sec < seconds);
                fflush(stdout);
                _exit(0);
        }
        if (waitpid(pid, &status, 0) != pid)
                return 1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
