/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the attack programs share: a target, and a table of techniques.
 *
 * A technique does all it can to make a packet leave and never gives up early: an error from one call does not stop
 * the next. Nobody believes what it returns; the recorder at the far end tells.
 */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

struct target {
        int family;
        struct sockaddr_storage forbidden; /* must not be reached */
        struct sockaddr_storage allowed;   /* the policy allows it */
        socklen_t size;
};

struct technique {
        const char *name;
        void (*run)(const struct target *target);
};

static const char payload[] = "out of here";

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* The agent's own address on its link, as in tests/lib/net.bash, and one that is not. */
#define OWN4   "10.200.1.20"
#define OWN6   "2001:db8:200:1::20"
#define OTHER4 "10.200.1.99"

static inline const struct sockaddr *forbidden_of(const struct target *target)
{
        return (const struct sockaddr *)&target->forbidden;
}

static inline const struct sockaddr *allowed_of(const struct target *target)
{
        return (const struct sockaddr *)&target->allowed;
}

/* "fe80::1%eth0" has its scope. */
static inline int parse(const char *text, const char *port, struct sockaddr_storage *ret, socklen_t *ret_size)
{
        char address[INET6_ADDRSTRLEN + IFNAMSIZ];
        char *scope;
        struct sockaddr_in *four = (struct sockaddr_in *)ret;
        struct sockaddr_in6 *six = (struct sockaddr_in6 *)ret;

        memset(ret, 0, sizeof(*ret));
        snprintf(address, sizeof(address), "%s", text);
        scope = strchr(address, '%');
        if (scope) {
                *scope = '\0';
                six->sin6_scope_id = if_nametoindex(scope + 1);
        }
        if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
                four->sin_family = AF_INET;
                four->sin_port = htons((uint16_t)atoi(port));
                *ret_size = sizeof(*four);
                return 0;
        }
        if (inet_pton(AF_INET6, address, &six->sin6_addr) == 1) {
                six->sin6_family = AF_INET6;
                six->sin6_port = htons((uint16_t)atoi(port));
                *ret_size = sizeof(*six);
                return 0;
        }
        return -EINVAL;
}

/* A socket whose calls return within a moment, whatever happens to their packets. */
static inline int open_socket(int family, int type, int protocol)
{
        struct timeval half = {.tv_usec = 500000};
        int fd = socket(family, type, protocol);

        if (fd >= 0) {
                setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &half, sizeof(half));
                setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &half, sizeof(half));
        } else
                perror("socket");
        return fd;
}

/* Through the door of 32-bit programs: socketcall(SYS_SETSOCKOPT) by int 0x80, where the kernel has it. */
static inline void setsockopt_compat(int fd, int level, int name, const void *value, uint32_t size)
{
#ifdef __x86_64__
        struct {
                uint32_t arguments[5];
                uint8_t value[512];
        } *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        long r = 102 /* socketcall */;

        memcpy(low->value, value, size);
        low->arguments[0] = (uint32_t)fd;
        low->arguments[1] = (uint32_t)level;
        low->arguments[2] = (uint32_t)name;
        low->arguments[3] = (uint32_t)(uintptr_t)low->value;
        low->arguments[4] = size;
        __asm__ volatile("int $0x80"
                         : "+a"(r)
                         : "b"(14L /* SYS_SETSOCKOPT */), "c"(low->arguments)
                         : "memory", "r8", "r9", "r10", "r11");
        if (r)
                fprintf(stderr, "socketcall: %s\n", strerror((int)-r));
#else
        (void)fd, (void)level, (void)name, (void)value, (void)size;
#endif
}

static inline int technique_main(int argc, char **argv, const struct technique *techniques)
{
        struct target target = {0};

        if (argc == 2 && !strcmp(argv[1], "list")) {
                for (size_t i = 0; techniques[i].name; i++)
                        puts(techniques[i].name);
                return 0;
        }
        if (argc != 5 || parse(argv[2], argv[3], &target.forbidden, &target.size) ||
            parse(argv[4], argv[3], &target.allowed, &target.size)) {
                fprintf(stderr, "usage: %s TECHNIQUE FORBIDDEN PORT ALLOWED\n", argv[0]);
                return 2;
        }
        target.family = target.forbidden.ss_family;
        alarm(20);
        for (size_t i = 0; techniques[i].name; i++)
                if (!strcmp(argv[1], techniques[i].name)) {
                        techniques[i].run(&target);
                        return 0;
                }
        fprintf(stderr, "%s: no technique '%s'\n", argv[0], argv[1]);
        return 2;
}
