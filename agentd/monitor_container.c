/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which container an agent is, and what runs it: for events and for people. The one thing that depends on it: a gVisor
 * sandbox keeps the addresses that it has taken off its interface (monitor_device.c).
 *
 * A runtime's hook tells when it attaches. Otherwise, and after a restart of the daemon, the cgroup's path and the
 * runtimes' own files say it; engines write those while a container starts, so that they are looked at a few times.
 */
#include <string.h>

#include "agentd/agent/sandbox.h"
#include "agentd/monitor.h"
#include "agentd/util/cleanup.h"

enum { LOOKS = 5 };

static const char *text_of(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

void monitor_container_look(struct monitor_agent *agent)
{
        struct container found = {};

        if (agent->container_looks >= LOOKS || (agent->container.name[0] && agent->container.image[0]))
                return;
        agent->container_looks++;
        if (container_find("", agent->path, &found) < 0)
                return;
        /* What the hook has told stands. */
        if (agent->container.id[0] == '\0')
                agent->container = found;
        if (strcmp(agent->container.id, found.id) != 0)
                return;
        if (agent->container.name[0] == '\0')
                container_text(agent->container.name, sizeof(agent->container.name), found.name);
        if (agent->container.image[0] == '\0')
                container_text(agent->container.image, sizeof(agent->container.image), found.image);
        if (!agent->container.engine)
                agent->container.engine = found.engine;
}

void monitor_container_told(struct monitor_agent *agent, const json_t *container)
{
        const char *id = text_of(container, "id");

        if (!container_id_is_sound(id))
                return;
        agent->container = (struct container){};
        container_text(agent->container.id, sizeof(agent->container.id), id);
        container_text(agent->container.name, sizeof(agent->container.name), text_of(container, "name"));
        container_text(agent->container.image, sizeof(agent->container.image), text_of(container, "image"));
        agent->container_looks = 0;
        monitor_container_look(agent);
}

struct monitor_agent *monitor_agent_by_container(struct monitor *monitor, const char *id)
{
        struct monitor_agent *agent, *next;

        HASH_ITER (hh, monitor->agents, agent, next)
                if (agent->container.id[0] && strcmp(agent->container.id, id) == 0)
                        return agent;
        return NULL;
}

json_t *monitor_container_to_json(const struct monitor_agent *agent)
{
        const struct container *container = &agent->container;

        if (container->id[0] == '\0')
                return json_null();
        return json_pack("{s:s,s:o,s:o,s:o}", "id", container->id, "name",
                         container->name[0] ? json_string(container->name) : json_null(), "image",
                         container->image[0] ? json_string(container->image) : json_null(), "engine",
                         container->engine ? json_string(container->engine) : json_null());
}

static enum sandbox_kind sandbox_of(const struct monitor_agent *agent)
{
        _cleanup_free_ pid_t *pids = NULL;
        size_t n = 0;

        return cgroup_pids(agent->cgroup_fd, &pids, &n) == 0 ? sandbox_recognise("", pids, n) : SANDBOX_UNKNOWN;
}

bool monitor_sandbox_has_stack(const struct monitor_agent *agent)
{
        return sandbox_of(agent) == SANDBOX_GVISOR_OWN;
}

void monitor_runtime_add(const struct monitor_agent *agent, json_t *object)
{
        enum sandbox_kind kind = sandbox_of(agent);
        const char *runtime = sandbox_runtime(kind);

        (void)json_object_set_new(object, "runtime", runtime ? json_string(runtime) : json_null());
        (void)json_object_set_new(object, "runtime_detail", json_string(sandbox_detail(kind)));
}
