/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * When the monitor looks at its agents' devices: tidings of rtnetlink from the agents' namespaces and from ours, the
 * verification, and what a policy requires.
 *
 * An agent that may change its interfaces can do so without end: a tiding makes its socket wait until the next look,
 * and looks have a pause between them.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "agentd/monitor_device.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

/* --- namespaces --------------------------------------------------------------------------------------------------- */

static void on_namespace_closed(uv_handle_t *handle)
{
        struct monitor_namespace *namespace = handle->data;

        rtnl_close(namespace->changes);
        free(namespace);
}

/* Its content is hostile and not needed; it waits in the socket until we look, which may be soon or not. */
static void on_namespace_changed(uv_poll_t *poll, int status, int events)
{
        struct monitor_namespace *namespace = poll->data;

        (void)uv_poll_stop(poll);
        monitor_devices_look_soon(namespace->devices);
}

/* What is in the socket is older than the look that follows. */
void monitor_namespace_rearm(struct monitor_namespace *namespace)
{
        (void)rtnl_changed(namespace->changes, NULL, NULL);
        (void)uv_poll_start(&namespace->poll, UV_READABLE, on_namespace_changed);
}

struct monitor_namespace *monitor_namespace_find(const struct monitor_devices *devices,
                                                 const struct netns_identity *identity)
{
        struct monitor_namespace *namespace = devices->namespaces;

        while (namespace && !netns_identity_equal(&namespace->identity, identity))
        namespace = namespace->next;
        return namespace;
}

int monitor_namespace_listen(struct monitor_devices *devices, const struct netns_identity *identity, int netns_fd)
{
        struct monitor_namespace *namespace = calloc(1, sizeof(*namespace));
        int r;

        if (!namespace)
                return -ENOMEM;
        namespace->identity = *identity;
        namespace->devices = devices;
        namespace->nsid = -1;
        r = rtnl_open(netns_fd, RTNL_GROUP_LINKS | RTNL_GROUP_ADDRESSES | RTNL_GROUP_ROUTES, &namespace->changes);
        if (r == 0)
                r = uv_poll_init(devices->monitor->loop, &namespace->poll, rtnl_fd(namespace->changes));
        if (r < 0) {
                rtnl_close(namespace->changes);
                free(namespace);
                return r;
        }
        namespace->poll.data = namespace;
        namespace->seen = true;
        namespace->next = devices->namespaces;
        devices->namespaces = namespace;
        return uv_poll_start(&namespace->poll, UV_READABLE, on_namespace_changed);
}

void monitor_namespaces_sweep(struct monitor_devices *devices, bool all)
{
        struct monitor_namespace **link = &devices->namespaces;

        while (*link) {
                struct monitor_namespace *namespace = *link;

                if (namespace->seen && !all) {
                        link = &namespace->next;
                        continue;
                }
                *link = namespace->next;
                uv_close((uv_handle_t *)&namespace->poll, on_namespace_closed);
        }
}

/* --- tidings ------------------------------------------------------------------------------------------------------ */

static void on_timer(uv_timer_t *timer);

static void timer_set(struct monitor_device_watch *watch, __u64 after_ms)
{
        uv_timer_t *timer = &watch->timer;

        if (!uv_is_active((uv_handle_t *)timer) || uv_timer_get_due_in(timer) > after_ms)
                (void)uv_timer_start(timer, on_timer, after_ms, 0);
}

static void on_timer(uv_timer_t *timer)
{
        struct monitor_device_watch *watch = timer->data;
        struct monitor_agent *agent, *next;
        __u64 now_ns = monitor_now(), next_ns = 0;

        HASH_ITER (hh, watch->monitor->agents, agent, next) {
                struct monitor_devices *devices = agent->devices;
                bool young;

                if (!devices)
                        continue;
                young = now_ns < devices->young_until_ns;
                if (devices->dirty || (young && now_ns >= devices->young_next_ns)) {
                        if (young) {
                                devices->young_next_ns = now_ns + devices->young_step_ns;
                                devices->young_step_ns *= 2;
                        }
                        monitor_devices_look(watch->monitor, agent);
                }
                if (devices->dirty)
                        next_ns = now_ns + MONITOR_DEVICE_PAUSE_MS * NSEC_PER_MSEC;
                else if (now_ns < devices->young_until_ns && (next_ns == 0 || devices->young_next_ns < next_ns))
                        next_ns = devices->young_next_ns;
        }
        if (next_ns)
                timer_set(watch, next_ns <= now_ns ? 1 : (next_ns - now_ns + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC);
}

void monitor_devices_look_soon(struct monitor_devices *devices)
{
        __u64 since_ms = (monitor_now() - devices->looked_ns) / NSEC_PER_MSEC;

        devices->dirty = true;
        timer_set(devices->monitor->device_watch,
                  since_ms < MONITOR_DEVICE_PAUSE_MS ? MONITOR_DEVICE_PAUSE_MS - since_ms : 0);
}

void monitor_devices_expect(struct monitor_devices *devices)
{
        __u64 now_ns = monitor_now();

        devices->young_until_ns = now_ns + MONITOR_DEVICE_YOUNG_MS * NSEC_PER_MSEC;
        devices->young_step_ns = MONITOR_DEVICE_PAUSE_MS * NSEC_PER_MSEC;
        devices->young_next_ns = now_ns + devices->young_step_ns / 4;
        timer_set(devices->monitor->device_watch, MONITOR_DEVICE_PAUSE_MS / 4);
}

/* A link of ours has changed: whose is it? */
static void on_link(void *context, const struct rtnl_link *link, bool gone)
{
        struct monitor *monitor = context;
        struct monitor_agent *agent, *next;

        HASH_ITER (hh, monitor->agents, agent, next) {
                struct monitor_devices *devices = agent->devices;
                bool ours = link->ifindex == 0 || (devices && monitor_device_find(devices, link->ifindex));

                if (!devices)
                        continue;
                if (!ours && !gone && strcmp(link->kind, "veth") == 0)
                        for (struct monitor_namespace *namespace = devices->namespaces; namespace && !ours;
                             namespace = namespace->next)
                                ours = namespace->nsid < 0 || namespace->nsid == link->nsid;
                /* A bridge's address or MAC is the gateway of all its ports. */
                if (!ours && strcmp(link->kind, "bridge") == 0)
                        ours = devices->list != NULL;
                if (ours)
                        monitor_devices_look_soon(devices);
        }
}

static void on_links_changed(uv_poll_t *poll, int status, int events)
{
        struct monitor_device_watch *watch = poll->data;

        (void)rtnl_changed(watch->changes, on_link, watch->monitor);
}

/* --- what is asked every few seconds ------------------------------------------------------------------------------ */

void monitor_devices_verify(struct monitor *monitor, struct monitor_agent *agent)
{
        struct monitor_devices *devices = agent->devices;
        _cleanup_free_ pid_t *pids = NULL;
        struct netns_process namespaces[MONITOR_NAMESPACES_MAX];
        size_t n_pids = 0, n = 0;

        if (!devices || monitor_device_guard_is_off(agent))
                return;
        for (struct monitor_device *device = devices->list; device; device = device->next) {
                _cleanup_(rtnl_closep) struct rtnl *here = NULL;
                struct rtnl_link link;

                if (!device->holds || datapath_device_verify(monitor->datapath, device->entry.ifindex) == 0)
                        continue;
                device->holds = false;
                devices->dirty = true;
                if (rtnl_open(-1, 0, &here) < 0 || rtnl_link_get(here, device->entry.ifindex, &link) < 0)
                        continue; /* with the interface */
                monitor->drift[DRIFT_DEVICE]++;
                monitor_event(monitor, EVENT_DRIFT, agent, REASON_NONE, "the program at %s was gone or changed",
                              device->host_name);
                if (datapath_device_set(monitor->datapath, &device->entry) == 0 &&
                    datapath_device_attach(monitor->datapath, device->entry.ifindex) == 0)
                        device->holds = true;
        }
        /* A process in a namespace that nobody has spoken of yet. */
        if (cgroup_pids(agent->cgroup_fd, &pids, &n_pids) == 0 && n_pids > 0 &&
            netns_collect(pids, n_pids, namespaces, ARRAY_SIZE(namespaces), &n) == 0)
                for (size_t i = 0; i < MIN(n, ARRAY_SIZE(namespaces)); i++)
                        if (!monitor_namespace_find(devices, &namespaces[i].identity) &&
                            !netns_identity_equal(&namespaces[i].identity, &monitor->device_watch->identity))
                                devices->dirty = true;
        if (devices->dirty || (devices->state == DEVICES_UNKNOWN && n > 0) ||
            monitor_now() - devices->looked_ns > MONITOR_DEVICE_LOOK_S * NSEC_PER_SEC)
                monitor_devices_look(monitor, agent);
}

/* --- requirements ------------------------------------------------------------------------------------------------- */

/* Whether to wait for its first process, or to say what is missing. */
static enum monitor_unmet unmet(const struct monitor *monitor, const struct monitor_agent *agent, const char **ret)
{
        __u32 required = agent->policy ? agent->policy->policy->required : 0;
        const struct monitor_devices *devices = agent->devices;

        if ((required & REQUIRE_LSM) && !monitor_lsm_present(monitor, ret))
                return UNMET_LSM;
        if (!(required & REQUIRE_DEVICE_GUARD))
                return UNMET_NOTHING;
        *ret = devices ? devices->detail : "it cannot be looked for";
        if (!devices || devices->state == DEVICES_ABSENT)
                return UNMET_DEVICE_GUARD;
        return devices->state == DEVICES_UNKNOWN ? UNMET_WAITING : UNMET_NOTHING;
}

void monitor_requirements_check(struct monitor *monitor, struct monitor_agent *agent)
{
        const char *detail = "";
        enum monitor_unmet now = unmet(monitor, agent, &detail);

        if (now == UNMET_WAITING)
                (void)snprintf(agent->detail, sizeof(agent->detail),
                               "everything is denied until its first process is behind the device guard");
        else if (now != UNMET_NOTHING)
                (void)snprintf(agent->detail, sizeof(agent->detail), "requires %s: %.130s",
                               now == UNMET_LSM ? "lsm" : "device_guard", detail);
        agent->broken |= now > UNMET_WAITING;
        if (now == agent->unmet)
                return;
        agent->unmet = now;
        if (now == UNMET_NOTHING) {
                agent->broken = false; /* the verification says what else there is */
                agent->detail[0] = '\0';
        }
        if (now > UNMET_WAITING) {
                monitor->drift[DRIFT_REQUIREMENT]++;
                monitor_event(monitor, EVENT_DRIFT, agent, REASON_NONE, "everything is denied: its policy %s",
                              agent->detail);
        }
        (void)monitor_publish(monitor, agent);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void on_watch_closed(uv_handle_t *handle)
{
        struct monitor_device_watch *watch = handle->data;

        if (--watch->open > 0)
                return;
        rtnl_close(watch->changes);
        close_fd(&watch->netns_fd);
        free(watch);
}

/* Whose sockets look names up from inside the agents' namespaces: ours. */
static __u64 own_cgroup(const struct cgroup_mount *mount)
{
        _cleanup_free_ char *path = NULL;
        __u64 id = 0;

        struct stat root;
        int r = cgroup_of_pid(mount, getpid(), &path);

        /* The root's, where nobody has put us elsewhere: nobody else is there who has come into an agent's namespace.
         * Ignoring what cannot be told: those look-ups fail. */
        if (r == 0)
                (void)cgroup_id_of(mount, path, &id);
        else if (r == -EISDIR && fstat(mount->fd, &root) == 0)
                id = root.st_ino;
        return id;
}

int monitor_devices_new(struct monitor *monitor)
{
        struct monitor_device_watch *watch = calloc(1, sizeof(*watch));
        int r;

        if (!watch)
                return -ENOMEM;
        watch->monitor = monitor;
        watch->netns_fd = -1;
        /* How deep the mount's root is in its hierarchy. */
        for (const char *p = monitor->mount.root; *p; p++)
                watch->depth += p[0] == '/' && p[1] && p[1] != '/';
        watch->daemon_cgroup_id = own_cgroup(&monitor->mount);
        r = netns_open_self(&watch->netns_fd);
        if (r == 0)
                r = netns_identify(watch->netns_fd, &watch->identity);
        if (r == 0)
                r = rtnl_open(-1, RTNL_GROUP_LINKS, &watch->changes);
        if (r == 0)
                r = uv_poll_init(monitor->loop, &watch->poll, rtnl_fd(watch->changes));
        if (r < 0) {
                rtnl_close(watch->changes);
                close_fd(&watch->netns_fd);
                free(watch);
                return r;
        }
        (void)uv_timer_init(monitor->loop, &watch->timer);
        watch->poll.data = watch;
        watch->timer.data = watch;
        watch->open = 2;
        monitor->device_watch = watch;
        return uv_poll_start(&watch->poll, UV_READABLE, on_links_changed);
}

void monitor_devices_free(struct monitor *monitor)
{
        struct monitor_device_watch *watch = monitor->device_watch;

        if (!watch)
                return;
        monitor->device_watch = NULL;
        uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
        uv_close((uv_handle_t *)&watch->timer, on_watch_closed);
}
