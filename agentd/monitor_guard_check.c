/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Guards that would be mistakes, and who below a guard may speak to the daemon.
 *
 * A guard denies whatever it finds: on a cgroup that holds agentd, pid 1 or the SSH server it would end the operator's
 * own way in. That is looked for before a guard is attached, and only then: what lives below a guard that holds must
 * not keep the next daemon from starting by its name.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/agent/pattern.h"
#include "agentd/datapath/guard.h"
#include "agentd/monitor_guard.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

static void close_directory(DIR **directory)
{
        if (*directory)
                closedir(*directory);
}

int monitor_guard_error(struct monitor_error *error, const struct guard_spec *spec, int exit_status, int r,
                        const char *text)
{
        error->exit_status = exit_status;
        (void)snprintf(error->text, sizeof(error->text), "%s:%u:%u: guard '%.200s': %.250s", spec->place.file,
                       spec->place.line, spec->place.column, spec->cgroup, text);
        return r;
}

/* -errno: one of the two is not there to be asked. */
static int namespace_is_ours(pid_t pid, const char *name)
{
        struct stat own, other;
        char path[64];

        (void)snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
        if (stat(path, &own) < 0)
                return -errno;
        (void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, name);
        if (stat(path, &other) < 0)
                return -errno;
        return own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

/* Is it inside an agent's cgroup, attached or of this configuration? */
static bool is_of_agent(struct monitor *monitor, const struct config *config, const char *path)
{
        struct monitor_agent *agent, *next;

        HASH_ITER (hh, monitor->agents, agent, next)
                if (cgroup_path_is_within(path, agent->path))
                        return true;
        for (size_t i = 0; i < config->n_agents; i++) {
                _cleanup_free_ char *pattern = NULL, *part = strdup(path);

                if (!part || cgroup_path_canonical(&monitor->mount, config->agents[i].cgroup, &pattern) < 0)
                        continue;
                while (part[0]) {
                        if (pattern_matches(pattern, part))
                                return true;
                        *strrchr(part, '/') = '\0'; /* canonical: there is one */
                }
        }
        return false;
}

static void name_read(pid_t pid, char ret[32])
{
        _cleanup_file_ FILE *file = NULL;
        char path[64];

        ret[0] = '\0';
        (void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
        file = fopen(path, "re");
        if (file && fgets(ret, 32, file))
                ret[strcspn(ret, "\n")] = '\0';
}

/* What keeps the host within reach. In its own network namespace only: a container may have such servers. */
static bool keeps_host(pid_t pid, const char *name)
{
        static const char *const servers[] = {"sshd", "sshd-session", "dropbear", "systemd-networkd", "NetworkManager"};
        bool known = pid == 1;

        for (size_t i = 0; i < ARRAY_SIZE(servers); i++)
                known |= strcmp(name, servers[i]) == 0;
        return known && namespace_is_ours(pid, "net") == 1;
}

/* 1: found, its pid and name are told; 0: there is none. */
static int find_host_process(struct monitor *monitor, const struct config *config, const char *guarded, pid_t *ret_pid,
                             char ret_name[32])
{
        _cleanup_(close_directory) DIR *proc = opendir("/proc");
        const struct dirent *item;

        while (proc && (item = readdir(proc))) {
                pid_t pid = isdigit((unsigned char)item->d_name[0]) ? (pid_t)atoi(item->d_name) : 0;
                _cleanup_free_ char *path = NULL;

                if (pid <= 0)
                        continue;
                name_read(pid, ret_name);
                if (!keeps_host(pid, ret_name) || cgroup_of_pid(&monitor->mount, pid, &path) < 0 ||
                    !cgroup_path_is_within(path, guarded) || is_of_agent(monitor, config, path))
                        continue;
                *ret_pid = pid;
                return 1;
        }
        return 0;
}

static bool holds_already(const struct monitor *monitor, const char *path)
{
        __u64 ids[DATAPATH_GUARDS_MAX], id = 0;
        size_t n = MIN(datapath_guards(monitor->datapath, ids, ARRAY_SIZE(ids)), ARRAY_SIZE(ids));

        if (cgroup_id_of(&monitor->mount, path, &id) < 0)
                return false;
        for (size_t i = 0; i < n; i++)
                if (ids[i] == id)
                        return true;
        return false;
}

int monitor_guards_check(struct monitor *monitor, const struct config *config, struct monitor_error *error)
{
        _cleanup_free_ char *own = NULL;

        (void)cgroup_of_pid(&monitor->mount, getpid(), &own); /* in the root, or outside of the mount: below no guard */
        for (size_t i = 0; i < config->n_guards; i++) {
                const struct guard_spec *spec = &config->guards[i];
                _cleanup_free_ char *path = NULL;
                char name[32], text[256];
                pid_t pid = 0;
                int r = cgroup_path_canonical(&monitor->mount, spec->cgroup, &path);

                if (r < 0)
                        return monitor_guard_error(
                                error, spec, 2, r,
                                r == -EISDIR ? "the root of the hierarchy would be the whole host; name a cgroup below "
                                               "it that holds agents only, as in /agents.slice"
                                             : "not a path below the cgroup v2 mount");
                if (own && cgroup_path_is_within(own, path))
                        return monitor_guard_error(
                                error, spec, 2, -EINVAL,
                                "agentd itself runs below it and would cut itself off; guard a cgroup that holds "
                                "agents "
                                "only, as in /agents.slice (containers: --cgroup-parent=agents.slice)");
                if (holds_already(monitor, path) || !find_host_process(monitor, config, path, &pid, name))
                        continue;
                (void)snprintf(text, sizeof(text),
                               "%s (pid %d) of this host runs below it and would be cut off; guard a cgroup that holds "
                               "agents only, as in /agents.slice (containers: --cgroup-parent=agents.slice)",
                               name, (int)pid);
                return monitor_guard_error(error, spec, 2, -EINVAL, text);
        }
        return 0;
}

bool monitor_guards_hold(struct monitor *monitor, pid_t pid)
{
        for (const struct monitor_guard *guard = monitor_guards(monitor); guard; guard = guard->next)
                if (guard->cgroup_id != 0 && cgroup_has_pid(&monitor->mount, guard->path, pid) != 0 &&
                    (namespace_is_ours(pid, "mnt") != 1 || namespace_is_ours(pid, "pid") != 1))
                        return true;
        return false;
}
