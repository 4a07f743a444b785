/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Guarded parents; see the header.
 *
 * Order: a guard is attached before agents below it are looked for, and after those that an earlier daemon left are in
 * the kernel's table again. Nothing is detached but what the configuration no longer names, or whose cgroup is gone.
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

static int guard_error(struct monitor_error *error, const struct guard_spec *spec, int exit_status, int r,
                       const char *text)
{
        error->exit_status = exit_status;
        (void)snprintf(error->text, sizeof(error->text), "%s:%u:%u: guard '%.400s': %s", spec->place.file,
                       spec->place.line, spec->place.column, spec->cgroup, text);
        return r;
}

int monitor_guards_check(struct monitor *monitor, const struct config *config, struct monitor_error *error)
{
        _cleanup_free_ char *own = NULL;

        (void)cgroup_of_pid(&monitor->mount, getpid(), &own); /* in the root, or outside of the mount: below no guard */
        for (size_t i = 0; i < config->n_guards; i++) {
                const struct guard_spec *spec = &config->guards[i];
                _cleanup_free_ char *path = NULL;
                int r = cgroup_path_canonical(&monitor->mount, spec->cgroup, &path);

                if (r < 0)
                        return guard_error(error, spec, 2, r,
                                           r == -EISDIR ? "the root of the hierarchy would be the whole host; name a "
                                                          "cgroup below it"
                                                        : "not a path below the cgroup v2 mount");
                if (own && cgroup_path_is_within(own, path))
                        return guard_error(error, spec, 2, -EINVAL,
                                           "agentd itself runs below it and would cut itself off; run it elsewhere, or "
                                           "guard a cgroup that holds agents only");
        }
        return 0;
}

/* --- one guard ---------------------------------------------------------------------------------------------------- */

static void guard_tell(struct monitor *monitor, enum event_type type, const struct monitor_guard *guard,
                       const char *what)
{
        monitor_event(monitor, type, NULL, REASON_NONE, "guard %.160s %s", guard->path, what);
}

static int guard_attach(struct monitor *monitor, struct monitor_guard *guard, int fd, __u64 cgroup_id)
{
        int r = datapath_guard_add(monitor->datapath, fd, cgroup_id);

        guard->broken = r < 0;
        if (r < 0) {
                if (!guard->detail[0])
                        log_error_errno(r, "cannot guard '%s'", guard->path);
                (void)snprintf(guard->detail, sizeof(guard->detail), "cannot attach: %s", strerror(-r));
                return r;
        }
        guard->detail[0] = '\0';
        guard->verified_ns = monitor_now();
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
                return 0; /* not knowing is no reason to let go */
        if (guard->cgroup_id != 0 && found != guard->cgroup_id) {
                (void)datapath_guard_remove(monitor->datapath, guard->cgroup_id);
                guard->cgroup_id = 0;
                guard->verified_ns = 0;
                guard->broken = false;
        }
        if (found == 0)
                return 0;
        if (guard->cgroup_id == 0) {
                r = guard_attach(monitor, guard, fd, found);
                if (r < 0)
                        return r;
                guard->cgroup_id = found;
                guard_tell(monitor, EVENT_LIFECYCLE, guard, "attached");
                return 0;
        }
        if (datapath_guard_verify(monitor->datapath, found) < 0) {
                guard_tell(monitor, EVENT_DRIFT, guard, "was not attached");
                return guard_attach(monitor, guard, fd, found);
        }
        guard->verified_ns = monitor_now();
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

static int guards_look(struct monitor_guards *guards)
{
        static const struct pattern_visitor visitor = {.directory = watch_directory, .match = watch_match};
        struct monitor *monitor = guards->monitor;
        int result = 0;

        for (struct monitor_guard *guard = guards->list; guard; guard = guard->next) {
                int r;

                /* First watched, then looked at. */
                (void)pattern_walk(&monitor->mount, guard->path, &visitor, guards);
                r = guard_look(monitor, guard);
                if (r < 0)
                        result = r;
        }
        return result;
}

static void on_inotify(uv_poll_t *poll, int status, int events)
{
        struct monitor_guards *guards = poll->data;
        char buffer[4096] __attribute__((aligned(__alignof__(struct inotify_event))));

        /* Whatever it says, a look tells. What more is in the queue wakes us again. */
        if (read(guards->inotify_fd, buffer, sizeof(buffer)) > 0)
                (void)guards_look(guards);
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

static int guard_keep(struct monitor_guards *guards, char *path)
{
        struct monitor_guard **link = &guards->list;

        for (; *link; link = &(*link)->next) {
                if (strcmp((*link)->path, path) == 0) {
                        (*link)->kept = true;
                        free(path);
                        return 0;
                }
        }
        *link = calloc(1, sizeof(**link));
        if (!*link) {
                free(path);
                return -ENOMEM;
        }
        (*link)->path = path;
        (*link)->kept = true;
        return 0;
}

/* Those that an earlier daemon left, and those of an earlier configuration. */
static void guards_drop(struct monitor_guards *guards)
{
        struct monitor *monitor = guards->monitor;
        __u64 ids[DATAPATH_GUARDS_MAX];
        size_t n;

        for (struct monitor_guard **link = &guards->list; *link;) {
                struct monitor_guard *guard = *link;

                if (guard->kept) {
                        link = &guard->next;
                        continue;
                }
                if (guard->cgroup_id)
                        (void)datapath_guard_remove(monitor->datapath, guard->cgroup_id);
                guard_tell(monitor, EVENT_LIFECYCLE, guard, "ended: the configuration has it no more");
                *link = guard->next;
                guard_free(guard);
        }
        n = MIN(datapath_guards(monitor->datapath, ids, ARRAY_SIZE(ids)), ARRAY_SIZE(ids));
        for (size_t i = 0; i < n; i++) {
                bool known = false;

                for (struct monitor_guard *guard = guards->list; guard; guard = guard->next)
                        known |= guard->cgroup_id == ids[i];
                if (!known)
                        (void)datapath_guard_remove(monitor->datapath, ids[i]);
        }
}

int monitor_guards_apply(struct monitor *monitor, struct monitor_error *error)
{
        const struct config *config = monitor->config->config;
        struct monitor_guards *guards = monitor->guards;
        int r = 0;

        if (!guards)
                r = guards_new(monitor, &monitor->guards);
        guards = monitor->guards;
        for (struct monitor_guard *guard = guards ? guards->list : NULL; guard; guard = guard->next)
                guard->kept = false;
        for (size_t i = 0; r == 0 && i < config->n_guards; i++) {
                char *path = NULL;

                r = cgroup_path_canonical(&monitor->mount, config->guards[i].cgroup, &path);
                if (r == 0)
                        r = guard_keep(guards, path);
        }
        /* New ones hold before old ones go: a parent may take the place of its children. */
        if (r == 0) {
                r = guards_look(guards);
                guards_drop(guards);
        }
        if (r < 0) {
                error->exit_status = r == -ENOMEM ? 1 : 4;
                (void)snprintf(error->text, sizeof(error->text), "cannot guard all cgroups of 'guard': %s",
                               strerror(-r));
        }
        return r;
}

void monitor_guards_tick(struct monitor *monitor, __u64 now_ns)
{
        struct monitor_guards *guards = monitor->guards;
        struct agent_counters counters;

        if (!guards)
                return;
        (void)guards_look(guards);
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
