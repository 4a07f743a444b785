/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The service manager's protocol is a datagram of text (systemd, sd_notify(3)): no library is needed for it.
 */
#include "agentd/util/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "agentd/util/cleanup.h"

void notify_state(const char *state)
{
        const char *path = getenv("NOTIFY_SOCKET");
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_close_ int fd = -1;
        size_t length;

        if (!path || (path[0] != '/' && path[0] != '@'))
                return;
        length = strlen(path);
        if (length >= sizeof(address.sun_path))
                return;
        memcpy(address.sun_path, path, length);
        if (path[0] == '@')
                address.sun_path[0] = '\0';
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return;
        /* A manager that does not listen has lost interest: ignoring. */
        (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address,
                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
}

__u64 notify_watchdog_ms(void)
{
        const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

        if (!usec || (pid && strtol(pid, NULL, 10) != (long)getpid()))
                return 0;
        return strtoull(usec, NULL, 10) / 1000;
}
