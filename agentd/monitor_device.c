/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See the header. What a device's program goes by is written before it is attached; a device is let go when it is gone,
 * and not because nobody was seen in its namespace.
 *
 * A namespace that two agents share has no device guard: what leaves it cannot be told apart by its interface, and one
 * agent's policy must not stop the other's packets.
 */
#include "agentd/monitor_device.h"

#include <errno.h>
#include <string.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

/* --- what is known about a device --------------------------------------------------------------------------------- */

static unsigned parts(const char *path)
{
        unsigned n = 0;

        for (const char *p = path; *p; p++)
                n += p[0] == '/' && p[1] && p[1] != '/';
        return n;
}

struct monitor_device *monitor_device_find(struct monitor_devices *devices, __u32 ifindex)
{
        struct monitor_device *device = devices->list;

        while (device && device->entry.ifindex != ifindex)
                device = device->next;
        return device;
}

static struct monitor_device *device_add(struct monitor_devices *devices, __u32 ifindex)
{
        struct monitor_device *device = calloc(1, sizeof(*device));

        if (!device)
                return NULL;
        device->entry.ifindex = ifindex;
        device->next = devices->list;
        devices->list = device;
        return device;
}

static void device_remove(struct monitor_devices *devices, struct monitor_device *device)
{
        struct monitor_device **link = &devices->list;

        while (*link != device)
                link = &(*link)->next;
        *link = device->next;
        datapath_device_remove(devices->monitor->datapath, device->entry.ifindex);
        free(device);
}

static struct device entry_make(const struct monitor *monitor, const struct monitor_agent *agent,
                                const struct veth *veth)
{
        struct device entry = {
                .ifindex = veth->ifindex,
                .agent_id = agent->id,
                .cgroup_id = agent->cgroup_id,
                .daemon_cgroup_id = monitor->device_watch->daemon_cgroup_id,
                .level = (__u8)(parts(agent->path) + monitor->device_watch->depth),
                .n_addresses = (__u8)veth->n_addresses,
                .n_gateways = (__u8)veth->n_gateways,
        };

        memcpy(entry.mac, veth->mac, sizeof(entry.mac));
        memcpy(entry.gateway_mac, veth->gateway_mac, sizeof(entry.gateway_mac));
        memcpy(entry.addresses, veth->addresses, sizeof(entry.addresses));
        memcpy(entry.gateways, veth->gateways, sizeof(entry.gateways));
        return entry;
}

static void absent(struct monitor_devices *devices, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void absent(struct monitor_devices *devices, const char *format, ...)
{
        va_list list;

        if (devices->state == DEVICES_ABSENT) /* the first reason is told */
                return;
        devices->state = DEVICES_ABSENT;
        va_start(list, format);
        (void)vsnprintf(devices->detail, sizeof(devices->detail), format, list);
        va_end(list);
}

/* Another agent's address is not this one's, whatever its namespace says. */
static bool is_taken(const struct monitor *monitor, const struct monitor_devices *own, const struct address *address)
{
        struct monitor_agent *agent, *next;

        HASH_ITER (hh, monitor->agents, agent, next) {
                if (!agent->devices || agent->devices == own)
                        continue;
                for (const struct monitor_device *device = agent->devices->list; device; device = device->next)
                        for (size_t i = 0; i < device->entry.n_addresses; i++)
                                if (memcmp(&device->entry.addresses[i], address, sizeof(*address)) == 0)
                                        return true;
        }
        return false;
}

static void addresses_restrict(struct monitor_devices *devices, struct veth *veth)
{
        size_t n = 0;

        for (size_t i = 0; i < veth->n_addresses; i++)
                /* Link-local ones may meet on different links. */
                if ((veth->addresses[i].bytes[0] == 0xfe && (veth->addresses[i].bytes[1] & 0xc0) == 0x80) ||
                    !is_taken(devices->monitor, devices, &veth->addresses[i]))
                        veth->addresses[n++] = veth->addresses[i];
        memset(veth->addresses + n, 0, (ARRAY_SIZE(veth->addresses) - n) * sizeof(veth->addresses[0]));
        veth->n_addresses = n;
}

/*
 * gVisor with a stack of its own takes the addresses off the interface and sends from them itself: they stay what they
 * were when the container began. Of anyone else, what the interface has lost is not the agent's any more.
 */
static void addresses_keep(struct monitor_devices *devices, const struct monitor_device *device, struct veth *veth)
{
        struct device before = {};

        if (device)
                before = device->entry;
        if (before.n_addresses == 0 &&
            (datapath_device_get(devices->monitor->datapath, veth->ifindex, &before) < 0 ||
             before.agent_id != devices->agent->id || before.cgroup_id != devices->agent->cgroup_id))
                return;
        if (veth->n_addresses > 0 || before.n_addresses == 0 || !monitor_sandbox_has_stack(devices->agent))
                return;
        memcpy(veth->addresses, before.addresses, sizeof(veth->addresses));
        veth->n_addresses = before.n_addresses;
}

/* The device may be left over from an agent that has left the namespace. */
static void device_take_over(struct monitor *monitor, const struct monitor_devices *own, __u32 ifindex)
{
        struct monitor_agent *agent, *next;

        HASH_ITER (hh, monitor->agents, agent, next) {
                struct monitor_device *device;

                if (!agent->devices || agent->devices == own)
                        continue;
                device = monitor_device_find(agent->devices, ifindex);
                if (device)
                        device_remove(agent->devices, device);
        }
}

static int device_hold(struct monitor_devices *devices, struct veth *veth)
{
        struct monitor *monitor = devices->monitor;
        struct monitor_device *device = monitor_device_find(devices, veth->ifindex);
        struct device entry;
        bool fresh = !device;
        int r = 0;

        addresses_keep(devices, device, veth);
        addresses_restrict(devices, veth);
        entry = entry_make(monitor, devices->agent, veth);
        if (!device) {
                device_take_over(monitor, devices, veth->ifindex);
                device = device_add(devices, veth->ifindex);
        }
        if (!device)
                return -ENOMEM;
        device->seen = true;
        memcpy(device->name, veth->name, sizeof(device->name));
        memcpy(device->host_name, veth->host_name, sizeof(device->host_name));
        if (device->holds && datapath_device_verify(monitor->datapath, veth->ifindex) < 0) {
                monitor->drift[DRIFT_DEVICE]++;
                monitor_event(monitor, EVENT_DRIFT, devices->agent, REASON_NONE,
                              "the program at %s was gone or changed", veth->host_name);
                device->holds = false;
        }
        if (!device->holds || memcmp(&entry, &device->entry, sizeof(entry)) != 0) {
                r = datapath_device_set(monitor->datapath, &entry);
                if (r == 0)
                        device->entry = entry;
        }
        if (r == 0)
                r = datapath_device_attach(monitor->datapath, veth->ifindex);
        device->holds = r == 0;
        if (r == 0 && fresh)
                monitor_event(monitor, EVENT_LIFECYCLE, devices->agent, REASON_NONE,
                              "what leaves by %s is judged at %s (interface %u)", veth->name, veth->host_name,
                              veth->ifindex);
        return r;
}

/* --- looking ------------------------------------------------------------------------------------------------------ */

static struct monitor_agent *other_agent_in(const struct monitor_devices *devices,
                                            const struct netns_identity *identity)
{
        struct monitor_agent *agent, *next;

        HASH_ITER (hh, devices->monitor->agents, agent, next)
                if (agent->devices && agent->devices != devices && monitor_namespace_find(agent->devices, identity))
                        return agent;
        return NULL;
}

struct look {
        struct netns_process namespaces[MONITOR_NAMESPACES_MAX];
        int fds[MONITOR_NAMESPACES_MAX];
        size_t n;
};

static void look_close(struct look *look)
{
        for (size_t i = 0; i < look->n; i++)
                close_fd(&look->fds[i]);
}

static void ways_judge(struct monitor_devices *devices, struct look *look, size_t at, struct rtnl *here)
{
        struct veth ways[VETH_WAYS_MAX];
        int own_fds[MONITOR_NAMESPACES_MAX];
        struct veth_search search = {
                .here = here,
                .here_fd = devices->monitor->device_watch->netns_fd,
                .there_fd = look->fds[at],
                .own_fds = own_fds,
        };
        struct monitor_namespace *namespace = monitor_namespace_find(devices, &look->namespaces[at].identity);
        size_t n = 0;
        int r;

        for (size_t i = 0; i < look->n; i++)
                if (i != at && look->fds[i] >= 0)
                        own_fds[search.n_own++] = look->fds[i];
        r = veth_find(&search, ways, ARRAY_SIZE(ways), &n);
        if (r < 0) {
                absent(devices, "its interfaces cannot be told: %s", strerror(-r));
                return;
        }
        if (namespace && rtnl_nsid(here, look->fds[at], &namespace->nsid) < 0)
        namespace->nsid = -1;
        for (size_t i = 0; i < n; i++) {
                if (ways[i].ifindex == 0) {
                        absent(devices, "%s", ways[i].detail);
                        continue;
                }
                r = device_hold(devices, &ways[i]);
                if (r < 0)
                        absent(devices, "%s cannot be judged at %s: %s", ways[i].name, ways[i].host_name, strerror(-r));
        }
}

static void namespace_look(struct monitor_devices *devices, struct look *look, size_t at, struct rtnl *here)
{
        const struct netns_identity *identity = &look->namespaces[at].identity;
        struct monitor_namespace *namespace = monitor_namespace_find(devices, identity);
        struct monitor_agent *other;
        int r;

        if (netns_identity_equal(identity, &devices->monitor->device_watch->identity)) {
                absent(devices, "it is in the host's own network namespace, and has no veth");
                return;
        }
        /* Listen first, then look: what changes in between is told. */
        if (namespace) {
                namespace->seen = true;
                monitor_namespace_rearm(namespace);
        } else {
                r = monitor_namespace_listen(devices, identity, look->fds[at]);
                if (r < 0) {
                        absent(devices, "its network namespace cannot be watched: %s", strerror(-r));
                        return;
                }
        }
        other = other_agent_in(devices, identity);
        if (other) {
                absent(devices, "its network namespace is that of '%.64s' as well", other->name);
                devices->shared = true;
                other->devices->dirty = true;
                return;
        }
        ways_judge(devices, look, at, here);
}

static void collect(struct monitor_devices *devices, struct look *look)
{
        _cleanup_free_ pid_t *pids = NULL;
        size_t n_pids = 0, n = 0;
        int r = cgroup_pids(devices->agent->cgroup_fd, &pids, &n_pids);

        if (r == 0 && n_pids > 0)
                r = netns_collect(pids, n_pids, look->namespaces, ARRAY_SIZE(look->namespaces), &n);
        if (r < 0)
                absent(devices, "its processes cannot be told: %s", strerror(-r));
        if (n > ARRAY_SIZE(look->namespaces))
                absent(devices, "it has more than %d network namespaces", MONITOR_NAMESPACES_MAX);
        look->n = MIN(n, ARRAY_SIZE(look->namespaces));
        for (size_t i = 0; i < look->n; i++) {
                struct netns_identity identity = {};

                look->fds[i] = -1;
                /* It may have moved on meanwhile; the next look finds where. */
                if (netns_open(look->namespaces[i].pid, &look->fds[i]) < 0 ||
                    netns_identify(look->fds[i], &identity) < 0 ||
                    !netns_identity_equal(&identity, &look->namespaces[i].identity)) {
                        close_fd(&look->fds[i]);
                        devices->dirty = true;
                }
        }
}

/* Devices that were not seen: gone, or in a namespace where nobody of the agent's is now. */
static void devices_sweep(struct monitor_devices *devices, struct rtnl *here)
{
        struct monitor_device *device = devices->list;

        while (device) {
                struct monitor_device *next = device->next;
                struct rtnl_link link = {};
                int r = device->seen ? 0 : rtnl_link_get(here, device->entry.ifindex, &link);

                if (!device->seen && (r == -ENODEV || (r == 0 && (strcmp(link.kind, "veth") != 0 || link.nsid < 0)))) {
                        monitor_event(devices->monitor, EVENT_LIFECYCLE, devices->agent, REASON_NONE,
                                      "the interface %u (%s) is gone", device->entry.ifindex, device->host_name);
                        device_remove(devices, device);
                }
                device = next;
        }
}

/* A namespace shared with another agent has no guard, also where it had one. */
static void devices_give_up(struct monitor_devices *devices)
{
        struct monitor_device *device = devices->list;

        while (device) {
                struct monitor_device *next = device->next;

                device_remove(devices, device);
                device = next;
        }
}

bool monitor_device_guard_is_off(const struct monitor_agent *agent)
{
        return agent->policy && agent->policy->policy->device_guard_off;
}

/*
 * Runtimes put a process into its cgroup first and into its namespace then (runc, and nsenter by hand), so a process in
 * the host's namespace is believed when it stays there.
 */
static void absence_doubt(struct monitor_devices *devices, enum monitor_devices_state before, const char *told)
{
        if (devices->absent_since_ns == 0)
                devices->absent_since_ns = devices->looked_ns;
        if (devices->looked_ns - devices->absent_since_ns >= MONITOR_DEVICE_ABSENT_MS * NSEC_PER_MSEC) {
                devices->absent_since_ns = 0;
                return;
        }
        devices->state = before;
        memcpy(devices->detail, told, sizeof(devices->detail));
        monitor_devices_expect(devices);
}

static void devices_look(struct monitor_devices *devices)
{
        struct monitor *monitor = devices->monitor;
        enum monitor_devices_state before = devices->state;
        _cleanup_(rtnl_closep) struct rtnl *here = NULL;
        char told[sizeof(devices->detail)];
        struct look look = {};
        int r;

        memcpy(told, devices->detail, sizeof(told));
        devices->state = DEVICES_UNKNOWN;
        devices->detail[0] = '\0';
        devices->dirty = devices->shared = false;
        devices->looked_ns = monitor_now();
        for (struct monitor_device *device = devices->list; device; device = device->next)
                device->seen = false;
        for (struct monitor_namespace *namespace = devices->namespaces; namespace; namespace = namespace->next)
        namespace->seen = false;

        r = rtnl_open(-1, 0, &here);
        if (r < 0) {
                absent(devices, "the host's interfaces cannot be told: %s", strerror(-r));
                return;
        }
        if (monitor->own_namespace) {
                absent(devices, "`agentd run` stays in its caller's network namespace");
        } else if (monitor_device_guard_is_off(devices->agent)) {
                absent(devices, "switched off by its policy (device_guard: off)");
                devices_give_up(devices);
        } else {
                collect(devices, &look);
                for (size_t i = 0; i < look.n; i++)
                        if (look.fds[i] >= 0)
                                namespace_look(devices, &look, i, here);
                if (devices->state == DEVICES_UNKNOWN && (look.n > 0 || devices->list))
                        devices->state = DEVICES_PRESENT;
                if (devices->shared)
                        devices_give_up(devices);
        }
        look_close(&look);
        devices_sweep(devices, here);
        monitor_namespaces_sweep(devices, false);
        if (devices->state != DEVICES_ABSENT || devices->shared || devices->fresh ||
            monitor_device_guard_is_off(devices->agent))
                devices->absent_since_ns = 0;
        else if (before != DEVICES_ABSENT)
                absence_doubt(devices, before, told);
        devices->fresh = false;
        if (before == DEVICES_PRESENT && devices->state == DEVICES_ABSENT) {
                monitor->drift[DRIFT_DEVICE]++;
                monitor_event(monitor, EVENT_DRIFT, devices->agent, REASON_NONE, "no device guard any more: %s",
                              devices->detail);
        }
}

/* --- what others call --------------------------------------------------------------------------------------------- */

void monitor_devices_look(struct monitor *monitor, struct monitor_agent *agent)
{
        if (!monitor->device_watch)
                return;
        if (!agent->devices) {
                __u32 ifindexes[MONITOR_DEVICES_MAX];
                size_t n;

                agent->devices = calloc(1, sizeof(*agent->devices));
                if (!agent->devices)
                        return;
                agent->devices->monitor = monitor;
                agent->devices->agent = agent;
                agent->devices->fresh = true;
                /* What a former daemon held. */
                n = datapath_devices_of(monitor->datapath, agent->id, ifindexes, ARRAY_SIZE(ifindexes));
                for (size_t i = 0; i < MIN(n, ARRAY_SIZE(ifindexes)); i++)
                        (void)device_add(agent->devices, ifindexes[i]);
        }
        devices_look(agent->devices);
        monitor_requirements_check(monitor, agent);
}

void monitor_devices_young(struct monitor *monitor, struct monitor_agent *agent)
{
        monitor_devices_look(monitor, agent);
        if (!agent->devices)
                return;
        monitor_devices_expect(agent->devices);
}

void monitor_devices_forget(struct monitor_agent *agent)
{
        struct monitor_devices *devices = agent->devices;

        if (!devices)
                return;
        monitor_namespaces_sweep(devices, true);
        while (devices->list) {
                struct monitor_device *device = devices->list;

                devices->list = device->next;
                free(device);
        }
        free(devices);
        agent->devices = NULL;
}

json_t *monitor_devices_to_json(const struct monitor_agent *agent)
{
        const struct monitor_devices *devices = agent->devices;
        json_t *names = json_array();

        for (const struct monitor_device *device = devices ? devices->list : NULL; device; device = device->next)
                if (device->holds)
                        (void)json_array_append_new(names, json_pack("{s:s,s:s,s:I}", "name", device->name, "host",
                                                                     device->host_name, "ifindex",
                                                                     (json_int_t)device->entry.ifindex));
        return json_pack("{s:b,s:o,s:s}", "present", (int)(devices && devices->state == DEVICES_PRESENT), "devices",
                         names, "detail",
                         !devices || devices->state == DEVICES_UNKNOWN ? "no process of it was seen yet"
                                                                       : devices->detail);
}
