/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A preloaded library for tests: CLOCK_REALTIME is ahead or behind by the seconds that stand, as text, in the file
 * $AGENTD_TEST_CLOCK, read anew at every call. (faketime cannot leave CLOCK_BOOTTIME alone, and it is the difference
 * of the two that is tested.)
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
        static int (*real)(clockid_t, struct timespec *);
        const char *path;
        char text[32] = "";
        int fd, r;

        if (!real)
                *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
        r = real(clock, now);
        path = getenv("AGENTD_TEST_CLOCK");
        if (r < 0 || clock != CLOCK_REALTIME || !path)
                return r;
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return r;
        if (read(fd, text, sizeof(text) - 1) > 0)
                now->tv_sec += strtoll(text, NULL, 10);
        close(fd);
        return r;
}
