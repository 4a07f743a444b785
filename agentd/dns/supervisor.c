/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the monitor tells the worker is noted first (supervisor_state.h) and sent second: a worker that is not there
 * will be told when it is.
 */
#include "agentd/dns/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agentd/dns/supervisor_link.h"
#include "agentd/dns/upstreams.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

enum { RESOLV_CONF_MS = 5000, SILENCE_LOOK_MS = 1000, RESOLVES_MAX = 65536, QUERIES_MAX = 256 };

static const char resolv_conf[] = "/etc/resolv.conf";

static void source_clear(struct dns_settings *source)
{
        for (size_t i = 0; i < source->n_upstreams; i++)
                free(source->upstreams[i]);
        free(source->upstreams);
        *source = (struct dns_settings){0};
}

static int source_copy(const struct dns_settings *settings, struct dns_settings *ret)
{
        struct dns_settings copy = *settings;

        copy.n_upstreams = 0;
        copy.upstreams = calloc(MAX(settings->n_upstreams, 1u), sizeof(*copy.upstreams));
        if (!copy.upstreams)
                return -ENOMEM;
        for (size_t i = 0; i < settings->n_upstreams; i++) {
                copy.upstreams[i] = strdup(settings->upstreams[i]);
                if (!copy.upstreams[i]) {
                        source_clear(&copy);
                        return -ENOMEM;
                }
                copy.n_upstreams++;
        }
        *ret = copy;
        return 0;
}

/* A running resolver cannot be given other upstreams. */
static bool needs_new_worker(const struct message_settings *now, const struct message_settings *then)
{
        return now->n_upstreams != then->n_upstreams || now->dnssec != then->dnssec ||
               now->as_asked != then->as_asked || memcmp(now->upstreams, then->upstreams, sizeof(now->upstreams)) != 0;
}

static int apply_settings(struct dns_supervisor *supervisor, const struct message_settings *settings)
{
        struct link *link = NULL;
        int r;

        if (!needs_new_worker(&supervisor->settings, settings)) {
                supervisor->settings = *settings;
                (void)link_send(supervisor->link, settings, NULL, 0);
                return 0;
        }
        /* The new one is ready before the old one goes; if it does not start, nothing has changed. */
        r = link_start_ready(supervisor, settings, &link);
        if (r < 0)
                return r;
        supervisor->settings = *settings;
        uv_timer_stop(&supervisor->restart_timer);
        if (supervisor->link)
                (void)link_end(TAKE_PTR(supervisor->link));
        supervisor_fail_resolves(supervisor);
        link_adopt(supervisor, link);
        return 0;
}

static void resolv_conf_look(uv_timer_t *timer)
{
        struct dns_supervisor *supervisor = timer->data;
        struct message_settings settings;
        bool system;

        if (!supervisor->system || upstreams_settings(&supervisor->source, resolv_conf, &settings, &system) < 0 ||
            !needs_new_worker(&supervisor->settings, &settings))
                return;
        log_info("%s has changed", resolv_conf);
        (void)apply_settings(supervisor, &settings);
}

static void silence_look(uv_timer_t *timer)
{
        link_look(timer->data);
}

static void supervisor_release(struct dns_supervisor *supervisor)
{
        free(supervisor->program);
        free(supervisor);
}

static void timer_closed(uv_handle_t *handle)
{
        struct dns_supervisor *supervisor = handle->data;

        if (--supervisor->n_open == 0)
                supervisor_release(supervisor);
}

int dns_supervisor_new(uv_loop_t *loop, const char *program, const struct dns_settings *settings,
                       const struct dns_supervisor_callbacks *callbacks, void *context, struct dns_supervisor **ret)
{
        struct dns_supervisor *supervisor = calloc(1, sizeof(*supervisor));
        int r;

        if (!supervisor)
                return -ENOMEM;
        supervisor->loop = loop;
        supervisor->callbacks = *callbacks;
        supervisor->context = context;
        supervisor->next_id = 1;
        supervisor->held_last = &supervisor->held;
        supervisor->program = strdup(program);
        r = supervisor->program ? 0 : -ENOMEM;
        if (r == 0)
                r = upstreams_settings(settings, resolv_conf, &supervisor->settings, &supervisor->system);
        if (r == 0)
                r = source_copy(settings, &supervisor->source);
        if (r == 0)
                r = link_start_ready(supervisor, &supervisor->settings, &supervisor->link);
        if (r < 0) {
                source_clear(&supervisor->source);
                supervisor_release(supervisor);
                return r;
        }
        uv_timer_init(loop, &supervisor->restart_timer);
        uv_timer_init(loop, &supervisor->resolv_conf_timer);
        uv_timer_init(loop, &supervisor->silence_timer);
        supervisor->restart_timer.data = supervisor->resolv_conf_timer.data = supervisor->silence_timer.data =
                supervisor;
        supervisor->n_open = 3;
        link_adopt(supervisor, supervisor->link);
        uv_timer_start(&supervisor->resolv_conf_timer, resolv_conf_look, RESOLV_CONF_MS, RESOLV_CONF_MS);
        uv_timer_start(&supervisor->silence_timer, silence_look, SILENCE_LOOK_MS, SILENCE_LOOK_MS);
        *ret = supervisor;
        return 0;
}

void dns_supervisor_free(struct dns_supervisor *supervisor)
{
        if (!supervisor)
                return;
        if (supervisor->link)
                (void)link_end(TAKE_PTR(supervisor->link));
        supervisor_state_clear(&supervisor->state);
        supervisor_drop_held(supervisor);
        source_clear(&supervisor->source);
        uv_close((uv_handle_t *)&supervisor->restart_timer, timer_closed);
        uv_close((uv_handle_t *)&supervisor->resolv_conf_timer, timer_closed);
        uv_close((uv_handle_t *)&supervisor->silence_timer, timer_closed);
}

int dns_supervisor_settings(struct dns_supervisor *supervisor, const struct dns_settings *settings)
{
        struct dns_settings source = {0};
        struct message_settings message;
        bool system;
        int r;

        r = upstreams_settings(settings, resolv_conf, &message, &system);
        if (r < 0)
                return r;
        r = source_copy(settings, &source);
        if (r < 0)
                return r;
        r = apply_settings(supervisor, &message);
        if (r < 0) {
                source_clear(&source);
                return r;
        }
        source_clear(&supervisor->source);
        supervisor->source = source;
        supervisor->system = system;
        return 0;
}

static int policy_text(const struct compiled_policy *compiled, int *ret_fd)
{
        _cleanup_close_ int fd = memfd_create("agentd-policy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        _cleanup_file_ FILE *file = NULL;
        int copy;

        if (fd < 0)
                return -errno;
        copy = dup(fd);
        if (copy < 0)
                return -errno;
        file = fdopen(copy, "w");
        if (!file) {
                close(copy);
                return -errno;
        }
        for (size_t i = 0; i < compiled->policy->n_rules; i++) {
                const struct rule *rule = &compiled->policy->rules[i];

                if (rule->domain && fprintf(file, "%c %s\n", rule->deny ? 'D' : 'A', rule->domain) < 0)
                        return -EIO;
        }
        if (fflush(file) != 0)
                return -errno;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int dns_supervisor_policy(struct dns_supervisor *supervisor, __u32 policy_id, const struct compiled_policy *compiled)
{
        struct message_policy message = {
                .header = {MESSAGE_POLICY, sizeof(message), 0},
                .policy_id = policy_id,
                .allow_private = compiled->policy->allow_private,
                .metadata_allow = compiled->policy->metadata_allow,
        };
        int fd, r;

        r = policy_text(compiled, &fd);
        if (r < 0)
                return log_error_errno(r, "cannot write the names of policy %u", policy_id);
        r = state_put_policy(&supervisor->state, &message, fd);
        if (r < 0)
                return r;
        (void)link_send(supervisor->link, &message, &fd, 1);
        return 0;
}

int dns_supervisor_policy_gone(struct dns_supervisor *supervisor, __u32 policy_id)
{
        struct message_policy message = {
                .header = {MESSAGE_POLICY_GONE, sizeof(message), 0},
                .policy_id = policy_id,
        };
        struct known_policy *policy = state_find_policy(&supervisor->state, policy_id);

        if (!policy)
                return -ENOENT;
        state_drop_policy(&supervisor->state, policy);
        (void)link_send(supervisor->link, &message, NULL, 0);
        return 0;
}

int dns_supervisor_agent(struct dns_supervisor *supervisor, const struct message_agent *agent)
{
        struct message_agent message = *agent;
        int r;

        if (agent->agent_id == 0 || agent->agent_id >= AGENT_MAX)
                return -EINVAL;
        message.header = (struct message_header){MESSAGE_AGENT, sizeof(message), 0};
        r = state_put_agent(&supervisor->state, &message);
        if (r < 0)
                return r;
        (void)link_send(supervisor->link, &message, NULL, 0);
        return 0;
}

int dns_supervisor_agent_gone(struct dns_supervisor *supervisor, __u32 agent_id)
{
        struct message_agent message = {
                .header = {MESSAGE_AGENT_GONE, sizeof(message), 0},
                .agent_id = agent_id,
        };
        struct known_agent *agent = state_find_agent(&supervisor->state, agent_id);

        if (!agent)
                return -ENOENT;
        state_drop_agent(&supervisor->state, agent);
        (void)link_send(supervisor->link, &message, NULL, 0);
        return 0;
}

int dns_supervisor_listener(struct dns_supervisor *supervisor, __u32 agent_id, __u32 listener_id, int fds[4])
{
        struct message_listener message = {
                .header = {MESSAGE_LISTENER, sizeof(message), 0},
                .agent_id = agent_id,
                .listener_id = listener_id,
        };
        int present[4];
        size_t n_present = 0;
        int r;

        for (size_t i = 0; i < 4; i++) {
                message.present[i] = fds[i] >= 0;
                if (fds[i] >= 0)
                        present[n_present++] = TAKE_FD(fds[i]);
        }
        if (listener_id == 0 || n_present == 0 || !state_find_agent(&supervisor->state, agent_id)) {
                for (size_t i = 0; i < n_present; i++)
                        close(present[i]);
                return -EINVAL;
        }
        r = state_put_listener(&supervisor->state, &message, present, n_present);
        if (r < 0)
                return r;
        (void)link_send(supervisor->link, &message, present, n_present);
        return 0;
}

int dns_supervisor_listener_gone(struct dns_supervisor *supervisor, __u32 listener_id)
{
        struct message_listener message = {
                .header = {MESSAGE_LISTENER_GONE, sizeof(message), 0},
                .listener_id = listener_id,
        };
        struct known_listener *listener = state_find_listener(&supervisor->state, listener_id);

        if (!listener)
                return -ENOENT;
        state_drop_listener(&supervisor->state, listener);
        (void)link_send(supervisor->link, &message, NULL, 0);
        return 0;
}

int dns_supervisor_query(struct dns_supervisor *supervisor, const struct message_query *query)
{
        struct message_query message = *query;
        struct held_query *held;

        if (query->length > CAPTURE_MAX)
                return -EINVAL;
        message.header = (struct message_header){MESSAGE_QUERY, sizeof(message), 0};
        if (supervisor->link && link_send(supervisor->link, &message, NULL, 0) == 0)
                return 0;
        if (supervisor->n_held >= QUERIES_MAX)
                return -ENOBUFS;
        held = malloc(sizeof(*held));
        if (!held)
                return -ENOMEM;
        held->message = message;
        held->next = NULL;
        *supervisor->held_last = held;
        supervisor->held_last = &held->next;
        supervisor->n_held++;
        return 0;
}

int dns_supervisor_resolve(struct dns_supervisor *supervisor, __u32 policy_id, const char *name, __u64 *ret_id)
{
        struct message_resolve message = {
                .header = {MESSAGE_RESOLVE, sizeof(message), supervisor->next_id},
                .policy_id = policy_id,
        };
        struct pending_resolve *resolve;
        int r;

        if (strlen(name) >= sizeof(message.name))
                return -EINVAL;
        if (HASH_COUNT(supervisor->state.resolves) >= RESOLVES_MAX)
                return -ENOBUFS;
        strcpy(message.name, name);
        r = state_put_resolve(&supervisor->state, &message);
        if (r < 0)
                return r;
        *ret_id = supervisor->next_id++;
        /* Without a worker, or when this one breaks right now, the next one is asked. */
        if (link_send(supervisor->link, &message, NULL, 0) == 0) {
                resolve = state_find_resolve(&supervisor->state, *ret_id);
                if (resolve)
                        resolve->sent = true;
        }
        return 0;
}

pid_t dns_supervisor_pid(const struct dns_supervisor *supervisor)
{
        return supervisor->link ? supervisor->link->pid : 0;
}

unsigned dns_supervisor_restarts(const struct dns_supervisor *supervisor)
{
        return supervisor->restarts;
}
