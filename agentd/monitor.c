/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The monitor's life: opening the kernel's side, the DNS worker and the timers, in that order, and closing them in the
 * other. Enforcement does not depend on it: what is published holds when this process dies at any instruction.
 */
#include "agentd/monitor.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "agentd/monitor_guard.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

__u64 monitor_now(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_BOOTTIME, &now);
        return (__u64)now.tv_sec * NSEC_PER_SEC + (__u64)now.tv_nsec;
}

static int error_set(struct monitor_error *error, int exit_status, int r, const char *format, ...) PRINTF(4, 5);
static int error_set(struct monitor_error *error, int exit_status, int r, const char *format, ...)
{
        va_list arguments;

        error->exit_status = exit_status;
        va_start(arguments, format);
        (void)vsnprintf(error->text, sizeof(error->text), format, arguments);
        va_end(arguments);
        return r;
}

static int on_learn(void *context, const struct message_learn *message)
{
        return monitor_learn(context, message);
}

static void on_refused(void *context, const struct message_refused *message)
{
        monitor_refused(context, message);
}

static void on_resolved(void *context, const struct message_resolved *message)
{
        monitor_resolved(context, message);
}

static int on_upstream(void *context, const struct message_ask_upstream *message)
{
        return monitor_upstream(context, message);
}

static void on_statistics(void *context, const struct message_statistics *message)
{
        struct monitor *monitor = context;
        struct monitor_agent *agent = message->agent_id < AGENT_MAX ? monitor->by_id[message->agent_id] : NULL;

        if (agent)
                memcpy(agent->lookups, message->outcomes, sizeof(agent->lookups));
}

static void on_durations(void *context, const struct message_durations *message)
{
        struct monitor *monitor = context;

        monitor->durations = *message;
}

static void on_restarted(void *context, int wait_status)
{
        struct monitor *monitor = context;

        refresh_restart(monitor->refresh, monitor_now());
        monitor_event(monitor, EVENT_LIFECYCLE, NULL, REASON_NONE, "the DNS worker died (status %d) and was restarted",
                      wait_status);
}

static const struct dns_supervisor_callbacks dns_callbacks = {
        .learn = on_learn,
        .refused = on_refused,
        .resolved = on_resolved,
        .upstream = on_upstream,
        .statistics = on_statistics,
        .durations = on_durations,
        .restarted = on_restarted,
};

static void on_events_readable(uv_poll_t *poll, int status, int events)
{
        (void)monitor_events_consume(poll->data);
}

static void on_events_timer(uv_timer_t *timer)
{
        (void)monitor_events_consume(timer->data);
}

static void on_tick(uv_timer_t *timer)
{
        struct monitor *monitor = timer->data;
        struct monitor_agent *agent, *next;
        __u64 now_ns = monitor_now();

        monitor_budgets_tick(monitor, now_ns);
        monitor_names_tick(monitor, now_ns);
        monitor_retire(monitor, now_ns);
        monitor_events_lost(monitor);
        monitor_guards_tick(monitor, now_ns);
        HASH_ITER (hh, monitor->agents, agent, next) {
                agent->discoveries = 0;
                if (agent->listeners)
                        monitor_listeners_scan(monitor, agent, now_ns);
                /* Two dozen system calls an agent: a share of the agents in each tick. */
                if ((agent->id + monitor->ticks) % MONITOR_VERIFY_TICKS == 0)
                        monitor_verify(monitor, agent);
        }
        monitor->ticks++;
}

static int timers_start(struct monitor *monitor)
{
        int r;

        r = uv_poll_init(monitor->loop, &monitor->events_poll, datapath_events_fd(monitor->datapath));
        if (r < 0)
                return r;
        monitor->events_poll.data = monitor;
        (void)uv_timer_init(monitor->loop, &monitor->events_timer);
        monitor->events_timer.data = monitor;
        (void)uv_timer_init(monitor->loop, &monitor->tick);
        monitor->tick.data = monitor;
        monitor->closing = 3;

        r = uv_poll_start(&monitor->events_poll, UV_READABLE, on_events_readable);
        if (r < 0)
                return r;
        r = uv_timer_start(&monitor->events_timer, on_events_timer, MONITOR_EVENTS_MS, MONITOR_EVENTS_MS);
        if (r < 0)
                return r;
        return uv_timer_start(&monitor->tick, on_tick, MONITOR_TICK_MS, MONITOR_TICK_MS);
}

int monitor_new(uv_loop_t *loop, const struct monitor_options *options, struct config *config, struct event_bus *bus,
                struct monitor_error *error, struct monitor **ret)
{
        struct datapath_error datapath_error = {};
        struct monitor *monitor;
        int r;

        monitor = calloc(1, sizeof(*monitor));
        if (!monitor) {
                config_free(config);
                return error_set(error, 1, -ENOMEM, "out of memory");
        }
        monitor->loop = loop;
        monitor->bus = bus;
        monitor->own_namespace = options->own_namespace;
        monitor->verdicts_only = options->verdicts_only;
        monitor->mount.fd = -1;
        monitor->started_ns = monitor_now();
        monitor->next_listener = 1;
        monitor->config = calloc(1, sizeof(*monitor->config));
        monitor->directory = strdup(options->directory);
        if (!monitor->config || !monitor->directory) {
                config_free(config);
                r = error_set(error, 1, -ENOMEM, "out of memory");
                goto failed;
        }
        monitor->config->config = config;
        monitor->config->references = 1;

        r = cgroup_mount_find(NULL, &monitor->mount);
        if (r < 0) {
                r = error_set(error, 4, r,
                              "no cgroup v2 hierarchy is mounted; mount one with "
                              "`mount -t cgroup2 none /sys/fs/cgroup`");
                goto failed;
        }
        r = learned_new(LEARNED_PER_AGENT_MAX, 1 << 18, &monitor->learned);
        if (r == 0)
                r = refresh_new(monitor->started_ns, &monitor->refresh);
        if (r < 0) {
                r = error_set(error, 1, r, "out of memory");
                goto failed;
        }

        r = datapath_new(options->directory, &datapath_error, &monitor->datapath);
        if (r < 0) {
                bool cannot = r == -EPERM || r == -EOPNOTSUPP;

                r = error_set(error, cannot ? 4 : 1, r, "%s%s%s", cannot ? "cannot enforce: " : "cannot start: ",
                              datapath_error.text[0] ? datapath_error.text : strerror(-r),
                              r == -EPERM && !datapath_error.text[0] ? "; root is needed" : "");
                goto failed;
        }
        (void)datapath_listeners_clear(monitor->datapath);
        monitor_lsm_probe(monitor);
        r = monitor_budgets_new(monitor, options->state_directory, error);
        if (r < 0)
                goto failed;

        r = dns_supervisor_new(loop, "/proc/self/exe", &config->dns, &dns_callbacks, monitor, &monitor->dns);
        if (r < 0) {
                r = error_set(error, 1, r, "cannot start the DNS worker: %s", strerror(-r));
                goto failed;
        }
        r = monitor_policies_load(monitor, error);
        if (r < 0)
                goto failed;
        r = monitor_devices_new(monitor);
        if (r < 0) {
                r = error_set(error, 1, r, "cannot watch the host's interfaces: %s", strerror(-r));
                goto failed;
        }
        r = monitor_prober_new(monitor);
        if (r < 0) {
                r = error_set(error, 1, r, "cannot make probes: %s", strerror(-r));
                goto failed;
        }
        r = timers_start(monitor);
        if (r < 0) {
                r = error_set(error, 1, r, "cannot watch the event ring: %s", strerror(-r));
                goto failed;
        }
        *ret = monitor;
        return 0;

failed:
        monitor_free(monitor);
        return r;
}

static void on_closed(uv_handle_t *handle)
{
        struct monitor *monitor = handle->data;

        if (--monitor->closing == 0)
                free(monitor);
}

static void agent_forget(struct monitor *monitor, struct monitor_agent *agent)
{
        monitor_probe_forget(monitor, agent);
        if (agent->settling)
                monitor_settle_end(monitor, agent->settling);
        while (agent->listeners) {
                struct monitor_listener *listener = agent->listeners;

                agent->listeners = listener->next;
                close_fd(&listener->netns_fd);
                free(listener);
        }
        monitor_limits_forget(agent);
        monitor_devices_forget(agent);
        HASH_DEL(monitor->agents, agent);
        close_fd(&agent->cgroup_fd);
        free(agent->path);
        free(agent);
}

void monitor_free(struct monitor *monitor)
{
        struct monitor_agent *agent, *next_agent;
        struct monitor_policy *policy, *next_policy;

        if (!monitor)
                return;
        monitor_budgets_end(monitor);
        monitor_guards_free(monitor);
        if (monitor->dns)
                dns_supervisor_free(monitor->dns);
        HASH_ITER (hh, monitor->agents, agent, next_agent)
                agent_forget(monitor, agent);
        monitor_devices_free(monitor);
        monitor_prober_free(monitor);
        monitor_budgets_free(monitor);
        HASH_ITER (hh, monitor->policies, policy, next_policy) {
                HASH_DEL(monitor->policies, policy);
                compiled_policy_free(policy->compiled);
                monitor_config_unref(policy->config);
                free(policy);
        }
        if (monitor->config)
                monitor_config_unref(monitor->config);
        refresh_free(monitor->refresh);
        learned_free(monitor->learned);
        cgroup_mount_release(&monitor->mount);
        free(monitor->directory);

        if (monitor->closing) {
                uv_close((uv_handle_t *)&monitor->events_poll, on_closed);
                uv_close((uv_handle_t *)&monitor->events_timer, on_closed);
                uv_close((uv_handle_t *)&monitor->tick, on_closed);
                datapath_free(monitor->datapath);
        } else {
                datapath_free(monitor->datapath);
                free(monitor);
        }
}
