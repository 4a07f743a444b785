/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A client of another libc: built statically with musl, whose resolver sends to every name server from one unconnected
 * socket and takes the first answer, where glibc connects one socket after the other.
 *
 *     resolve NAME PORT     prints each address, then connects to the first that accepts; 0 when one did
 */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
        char text[128];
        int r, connected = 0;

        if (argc != 3)
                return 2;
        r = getaddrinfo(argv[1], argv[2], &hints, &list);
        if (r) {
                fprintf(stderr, "%s: %s\n", argv[1], gai_strerror(r));
                return 1;
        }
        for (struct addrinfo *entry = list; entry; entry = entry->ai_next) {
                int fd;

                getnameinfo(entry->ai_addr, entry->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
                puts(text);
                fd = socket(entry->ai_family, SOCK_STREAM, 0);
                if (fd >= 0 && !connect(fd, entry->ai_addr, entry->ai_addrlen))
                        connected = 1;
                if (fd >= 0)
                        close(fd);
        }
        freeaddrinfo(list);
        return connected ? 0 : 1;
}
