/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The service manager's protocol is a datagram of text (systemd, sd_notify(3)): no library is needed for it.
 */
#include "agentd/util/notify.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/parse.h"

int notify_state(const char *state)
{
        const char *path = getenv("NOTIFY_SOCKET");
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_close_ int fd = -1;
        size_t length;

        if (!path || !*path)
                return 0;
        if (path[0] != '/' && path[0] != '@')
                return -EAFNOSUPPORT;
        length = strlen(path);
        if (length >= sizeof(address.sun_path))
                return -E2BIG;
        memcpy(address.sun_path, path, length);
        if (path[0] == '@')
                address.sun_path[0] = '\0';
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        if (sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address,
                   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0)
                return -errno;
        return 0;
}

__u64 notify_watchdog_ms(void)
{
        const char *usec_text = getenv("WATCHDOG_USEC"), *pid_text = getenv("WATCHDOG_PID");
        __u64 usec, pid;

        if (!usec_text || parse_number(usec_text, 1, INT64_MAX, &usec) < 0)
                return 0;
        if (pid_text && (parse_number(pid_text, 1, INT_MAX, &pid) < 0 || pid != (__u64)getpid()))
                return 0;
        return usec / 1000;
}
