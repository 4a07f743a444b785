/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tier 4 and the Unix hooks: are they there, and does a policy need them?
 *
 * Loading an LSM program proves little: one is attached to an empty cgroup for a moment, and a child in it asks for a
 * socket of a family that no kernel has. Refused (EPERM) and not unknown (EAFNOSUPPORT): it runs.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/monitor.h"
#include "agentd/util/cleanup.h"

enum { PROBE_MS = 1000, FAMILY_NOBODY_HAS = 18 /* AF_ASH */ };

bool monitor_lsm_present(const struct monitor *monitor, const char **ret_detail)
{
        return datapath_extra_present(monitor->datapath, EXTRA_SOCKET_CREATE, ret_detail);
}

bool monitor_unix_present(const struct monitor *monitor, const char **ret_detail)
{
        return datapath_extra_present(monitor->datapath, EXTRA_CONNECT_UNIX, ret_detail);
}

const char *monitor_unix_missing(const struct monitor *monitor, char *buffer, size_t size)
{
        const char *detail = "";

        buffer[0] = '\0';
        if (monitor_unix_present(monitor, &detail))
                return buffer;
        (void)snprintf(buffer, size, "Unix sockets %s: %s",
                       datapath_extra_present(monitor->datapath, EXTRA_LSM_CONNECT, NULL) ? "by tier 4 only"
                                                                                          : "are not judged",
                       detail);
        return buffer;
}

/* In the child: nothing but system calls. */
static int child_try(int cgroup_fd)
{
        int fd;

        if (cgroup_move(cgroup_fd, 0) < 0)
                return 2;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return 2;
        return socket(FAMILY_NOBODY_HAS, SOCK_DGRAM, 0) < 0 && errno == EPERM ? 0 : 1;
}

static int try_in(const struct monitor *monitor, int cgroup_fd)
{
        _cleanup_close_ int link = datapath_lsm_try(monitor->datapath, cgroup_fd);
        int status = 0;
        pid_t pid;

        if (link < 0)
                return link;
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                _exit(child_try(cgroup_fd));
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EOPNOTSUPP;
}

void monitor_lsm_probe(struct monitor *monitor)
{
        _cleanup_close_ int fd = -1;
        char path[64], detail[160];
        int r;

        if (!monitor_lsm_present(monitor, NULL))
                return;
        (void)snprintf(path, sizeof(path), "/agentd-probe-%d", (int)getpid());
        r = cgroup_create(&monitor->mount, path);
        if (r == 0 || r == -EEXIST)
                r = cgroup_open(&monitor->mount, path, &fd);
        if (r == 0) {
                r = try_in(monitor, fd);
                (void)cgroup_remove(&monitor->mount, path, PROBE_MS);
        }
        if (r == 0)
                return;
        if (r == -EOPNOTSUPP)
                (void)snprintf(detail, sizeof(detail), "LSM programs load here, but are not called");
        else
                (void)snprintf(detail, sizeof(detail), "LSM programs load here, but a try failed: %s", strerror(-r));
        datapath_lsm_refuse(monitor->datapath, detail);
}

int monitor_unix_check(const struct monitor *monitor, const struct policy *policy, struct monitor_error *error)
{
        const struct unix_rules *rules = &policy->unix_rules;
        const char *file = policy->place.file ? policy->place.file : "-";
        const char *detail = "", *lsm_detail = "";
        bool lsm = datapath_extra_present(monitor->datapath, EXTRA_LSM_CONNECT, &lsm_detail);
        bool hook = monitor_unix_present(monitor, &detail);

        if (rules->outside_deny && !lsm) {
                error->exit_status = 4;
                (void)snprintf(error->text, sizeof(error->text),
                               "%s:%u:%u: policy '%s': 'unix: {outside: deny}' needs LSM programs: %s", file,
                               policy->place.line, policy->place.column, policy->name, lsm_detail);
                return -EOPNOTSUPP;
        }
        if (rules->n_deny > 0 && !lsm && !hook) {
                error->exit_status = 4;
                (void)snprintf(error->text, sizeof(error->text),
                               "%s:%u:%u: policy '%s': 'unix: {deny: ...}' cannot be enforced here: %s", file,
                               policy->place.line, policy->place.column, policy->name, detail);
                return -EOPNOTSUPP;
        }
        return 0;
}
