/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Guarded parents; see the header.
 *
 * Order: a guard is attached before agents below it are looked for, and after those that an earlier daemon left are in
 * the kernel's table again. Nothing is detached but what the configuration no longer names, or whose cgroup is gone;
 * and that only when the agents of the new configuration are attached: who becomes one in the same reload is not free
 * in between.
 */
#include "agentd/monitor_guard.h"

#include <errno.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "agentd/agent/pattern.h"
#include "agentd/datapath/guard.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

enum { GUARD_PATHS = 64 };

struct monitor_guards {
        struct monitor *monitor;
        struct monitor_guard *list;
        int inotify_fd;
        uv_poll_t poll;
        __u64 events_lost; /* by the kernel, as far as it was told */
        /* Paths of cgroups in events: a flood of refusals must not be a flood of look-ups. */
        struct {
                __u64 cgroup_id;
                __u64 asked_ns;
                char path[256];
        } paths[GUARD_PATHS];
};

/* --- one guard ---------------------------------------------------------------------------------------------------- */

static void guard_tell(struct monitor *monitor, enum event_type type, const struct monitor_guard *guard,
                       const char *what)
{
        monitor_event(monitor, type, NULL, REASON_NONE, "guard %.160s %s", guard->path, what);
}

static int guard_broken(struct monitor_guard *guard, const char *what, int r)
{
        if (!guard->broken)
                log_error_errno(r, "guard '%s': %s", guard->path, what);
        guard->broken = true;
        (void)snprintf(guard->detail, sizeof(guard->detail), "%s: %s", what, strerror(-r));
        return r;
}

static void guard_holds(struct monitor_guard *guard)
{
        guard->broken = false;
        guard->detail[0] = '\0';
        guard->verified_ns = monitor_now();
}

static int guard_attach(struct monitor *monitor, struct monitor_guard *guard, int fd, __u64 cgroup_id)
{
        int r = datapath_guard_add(monitor->datapath, fd, cgroup_id);

        if (r < 0)
                return guard_broken(guard, "cannot attach", r);
        guard_holds(guard);
        return 0;
}

/* The cgroup as it is now: attached when it has come, let go when it is gone, compared otherwise. */
static int guard_look(struct monitor *monitor, struct monitor_guard *guard)
{
        _cleanup_close_ int fd = -1;
        __u64 found = 0;
        int r = cgroup_open(&monitor->mount, guard->path, &fd);

        if (r == 0)
                r = cgroup_id(fd, &found);
        if (r < 0 && r != -ENOENT && r != -ENODEV)
                return guard_broken(guard, "cannot open", r); /* not knowing is no reason to let go */
        if (guard->cgroup_id != 0 && found != guard->cgroup_id) {
                (void)datapath_guard_remove(monitor->datapath, guard->cgroup_id);
                guard->cgroup_id = 0;
                guard->verified_ns = 0;
        }
        if (found == 0) {
                guard->broken = false;
                guard->detail[0] = '\0';
                return 0;
        }
        if (guard->cgroup_id == 0) {
                r = guard_attach(monitor, guard, fd, found);
                if (r < 0)
                        return r;
                guard->cgroup_id = found;
                guard_tell(monitor, EVENT_LIFECYCLE, guard, "attached");
                return 0;
        }
        if (datapath_guard_verify(monitor->datapath, found) < 0) {
                monitor->drift[DRIFT_GUARD]++;
                guard_tell(monitor, EVENT_DRIFT, guard, "was not attached");
                return guard_attach(monitor, guard, fd, found);
        }
        guard_holds(guard);
        return 0;
}

/* --- appearance --------------------------------------------------------------------------------------------------- */

static void watch_directory(void *context, int fd, __u64 id)
{
        const struct monitor_guards *guards = context;
        char path[64];

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (inotify_add_watch(guards->inotify_fd, path, IN_CREATE | IN_DELETE | IN_ONLYDIR) < 0)
                log_debug("cannot watch a directory above a guard: a look each second finds it");
}

static int watch_match(void *context, const char *path, __u64 id)
{
        return 0;
}

/* First watched, then looked at. */
static void guard_watch(struct monitor_guards *guards, const struct monitor_guard *guard)
{
        static const struct pattern_visitor visitor = {.directory = watch_directory, .match = watch_match};

        (void)pattern_walk(&guards->monitor->mount, guard->path, &visitor, guards);
}

static void guards_look(struct monitor_guards *guards)
{
        for (struct monitor_guard *guard = guards->list; guard; guard = guard->next) {
                guard_watch(guards, guard);
                (void)guard_look(guards->monitor, guard);
        }
}

static void on_inotify(uv_poll_t *poll, int status, int events)
{
        struct monitor_guards *guards = poll->data;
        char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));

        /* Whatever it says, a look tells. What more is in the queue wakes us again. */
        if (read(guards->inotify_fd, buffer, sizeof(buffer)) > 0)
                guards_look(guards);
}

static int guards_new(struct monitor *monitor, struct monitor_guards **ret)
{
        struct monitor_guards *guards = calloc(1, sizeof(*guards));
        int r;

        if (!guards)
                return -ENOMEM;
        guards->monitor = monitor;
        guards->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        r = guards->inotify_fd < 0 ? -errno : uv_poll_init(monitor->loop, &guards->poll, guards->inotify_fd);
        if (r < 0) {
                close_fd(&guards->inotify_fd);
                free(guards);
                return r;
        }
        guards->poll.data = guards;
        r = uv_poll_start(&guards->poll, UV_READABLE, on_inotify);
        if (r < 0)
                log_warning_errno(r, "cannot watch for guarded cgroups: a look each second finds them");
        *ret = guards;
        return 0;
}

/* --- the configuration -------------------------------------------------------------------------------------------- */

static void guard_free(struct monitor_guard *guard)
{
        free(guard->path);
        free(guard);
}

static struct monitor_guard *guard_take(struct monitor_guards *guards, char *path)
{
        struct monitor_guard **link = &guards->list;

        for (; *link; link = &(*link)->next) {
                if (strcmp((*link)->path, path) == 0) {
                        free(path);
                        (*link)->wanted = true;
                        return *link;
                }
        }
        *link = calloc(1, sizeof(**link));
        if (!*link) {
                free(path);
                return NULL;
        }
        (*link)->path = path;
        (*link)->fresh = (*link)->wanted = true;
        return *link;
}

static void guards_drop(struct monitor_guards *guards, bool (*drops)(const struct monitor_guard *guard),
                        const char *why)
{
        for (struct monitor_guard **link = &guards->list; *link;) {
                struct monitor_guard *guard = *link;

                if (!drops(guard)) {
                        link = &guard->next;
                        continue;
                }
                if (guard->cgroup_id)
                        (void)datapath_guard_remove(guards->monitor->datapath, guard->cgroup_id);
                guard_tell(guards->monitor, EVENT_LIFECYCLE, guard, why);
                *link = guard->next;
                guard_free(guard);
        }
}

static const char ended[] = "ended: the configuration has it no more";

/* Those that an earlier daemon left and this configuration has not. */
static void guards_sweep(struct monitor_guards *guards)
{
        struct monitor *monitor = guards->monitor;
        __u64 ids[DATAPATH_GUARDS_MAX];
        size_t n = MIN(datapath_guards(monitor->datapath, ids, ARRAY_SIZE(ids)), ARRAY_SIZE(ids));

        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *path = NULL;
                bool known = false;

                for (struct monitor_guard *guard = guards->list; guard; guard = guard->next)
                        known |= guard->cgroup_id == ids[i];
                if (known)
                        continue;
                (void)cgroup_path_of_id(&monitor->mount, ids[i], &path);
                (void)datapath_guard_remove(monitor->datapath, ids[i]);
                monitor_event(monitor, EVENT_LIFECYCLE, NULL, REASON_NONE, "guard %.160s %s", path ? path : "?", ended);
        }
}

static bool is_fresh(const struct monitor_guard *guard)
{
        return guard->fresh;
}

static bool is_unwanted(const struct monitor_guard *guard)
{
        return !guard->wanted;
}

static int exit_status_of(int r)
{
        switch (r) {
        case -ENOMEM:
                return 1;
        case -ENOTDIR: /* a file, or a link, is there and no cgroup */
        case -ELOOP:
        case -EINVAL:
                return 2;
        default:
                return 4;
        }
}

int monitor_guards_prepare(struct monitor *monitor, const struct config *config, struct monitor_error *error)
{
        struct monitor_guards *guards;
        int r = monitor_guards_check(monitor, config, error);

        if (r < 0)
                return r;
        error->exit_status = 1;
        if (!monitor->guards)
                r = guards_new(monitor, &monitor->guards);
        if (r < 0) {
                (void)snprintf(error->text, sizeof(error->text), "cannot guard: %s", strerror(-r));
                return r;
        }
        guards = monitor->guards;
        for (struct monitor_guard *guard = guards->list; guard; guard = guard->next)
                guard->fresh = guard->wanted = false;
        for (size_t i = 0; r == 0 && i < config->n_guards; i++) {
                struct monitor_guard *guard = NULL;
                char *path = NULL;

                r = cgroup_path_canonical(&monitor->mount, config->guards[i].cgroup, &path);
                if (r == 0 && !(guard = guard_take(guards, path)))
                        r = -ENOMEM;
                if (r == 0) {
                        guard_watch(guards, guard);
                        r = guard_look(monitor, guard);
                }
                if (r < 0)
                        (void)monitor_guard_error(error, &config->guards[i], exit_status_of(r), r,
                                                  guard ? guard->detail : strerror(-r));
        }
        if (r < 0)
                monitor_guards_cancel(monitor);
        return r;
}

void monitor_guards_commit(struct monitor *monitor)
{
        guards_drop(monitor->guards, is_unwanted, ended);
        guards_sweep(monitor->guards);
        for (struct monitor_guard *guard = monitor->guards->list; guard; guard = guard->next)
                guard->fresh = false;
}

void monitor_guards_cancel(struct monitor *monitor)
{
        guards_drop(monitor->guards, is_fresh, "ended: the configuration was refused");
}

void monitor_guards_tick(struct monitor *monitor, __u64 now_ns)
{
        struct monitor_guards *guards = monitor->guards;
        struct agent_counters counters;

        if (!guards)
                return;
        guards_look(guards);
        if (datapath_counters(monitor->datapath, 0, &counters) == 0) {
                if (counters.events_lost > guards->events_lost)
                        event_bus_lost(monitor->bus, "ring", counters.events_lost - guards->events_lost);
                guards->events_lost = counters.events_lost;
        }
}

const struct monitor_guard *monitor_guards(const struct monitor *monitor)
{
        return monitor->guards ? monitor->guards->list : NULL;
}

static void on_closed(uv_handle_t *handle)
{
        struct monitor_guards *guards = handle->data;

        close_fd(&guards->inotify_fd);
        free(guards);
}

void monitor_guards_free(struct monitor *monitor)
{
        struct monitor_guards *guards = monitor->guards;

        if (!guards)
                return;
        while (guards->list) {
                struct monitor_guard *guard = guards->list;

                guards->list = guard->next;
                guard_free(guard);
        }
        monitor->guards = NULL;
        uv_close((uv_handle_t *)&guards->poll, on_closed);
}

const char *monitor_guard_path_of(struct monitor *monitor, __u64 cgroup_id)
{
        struct monitor_guards *guards = monitor->guards;
        size_t slot = cgroup_id % GUARD_PATHS;
        __u64 now_ns = monitor_now();

        if (!guards)
                return NULL;
        if (guards->paths[slot].cgroup_id != cgroup_id &&
            now_ns - guards->paths[slot].asked_ns > NSEC_PER_SEC / (2 * GUARD_PATHS)) {
                _cleanup_free_ char *path = NULL;

                guards->paths[slot].cgroup_id = cgroup_id;
                guards->paths[slot].asked_ns = now_ns;
                guards->paths[slot].path[0] = '\0';
                if (cgroup_path_of_id(&monitor->mount, cgroup_id, &path) == 0)
                        (void)snprintf(guards->paths[slot].path, sizeof(guards->paths[slot].path), "%s", path);
        }
        return guards->paths[slot].cgroup_id == cgroup_id && guards->paths[slot].path[0] ? guards->paths[slot].path
                                                                                         : NULL;
}
