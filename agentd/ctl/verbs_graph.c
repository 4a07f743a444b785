/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * graph: agents, the names they learned and what was refused to them, as a picture.
 */
#include <errno.h>
#include <string.h>

#include "agentd/abi.h"
#include "agentd/ctl/client.h"
#include "agentd/ctl/graph.h"
#include "agentd/ctl/print.h"
#include "agentd/policy/policy.h"
#include "agentd/util/cleanup.h"

/* "TARGET:PORT/PROTO" of a denied event; -ENOENT when it has no destination. */
static int target_of(const json_t *event, char *text, size_t size)
{
        bool inbound = !strcmp(json_text(event, "direction"), "ingress");
        const json_t *end = json_object_get(event, inbound ? "src" : "dst");
        const char *name = json_text(end, "name"), *ip = json_text(end, "ip");
        json_int_t port = json_number(end, "port");

        if (!name[0] && !ip[0])
                return -ENOENT;
        if (port > 0 && !inbound)
                snprintf(text, size, "%s:%lld/%s", name[0] ? name : ip, (long long)port, json_text(event, "proto"));
        else
                snprintf(text, size, "%s%s", inbound ? "from " : "", name[0] ? name : ip);
        return 0;
}

static int add_learned(const struct ctl_arguments *arguments, struct graph *graph, const char *agent)
{
        const json_t *names, *name;
        json_t *result;
        size_t i;
        int r = client_ask(arguments, "dns", json_pack("{s:s}", "agent", agent), CLIENT_TIMEOUT_MS, &result);

        if (r != CTL_OK)
                return r;
        names = json_object_get(result, "names");
        json_array_foreach(names, i, name)
        {
                if (json_array_size(json_object_get(name, "addresses")) > 0 &&
                    graph_add_edge(graph, agent, json_text(name, "name"), NULL, 1) == -ENOMEM)
                        r = CTL_FAILED;
        }
        json_decref(result);
        return r;
}

static int add_refused(const struct ctl_arguments *arguments, struct graph *graph)
{
        const json_t *events, *event;
        json_t *result;
        size_t i;
        int r = client_ask(arguments, "events", NULL, CLIENT_TIMEOUT_MS, &result);

        if (r != CTL_OK)
                return r;
        events = json_object_get(result, "events");
        json_array_foreach(events, i, event)
        {
                int reason = verdict_reason_from_string(json_text(event, "reason"));
                const char *type = json_text(event, "type");
                char target[GRAPH_LABEL_MAX];

                if (reason <= 0 ||
                    (strcmp(type, "deny") != 0 && strcmp(type, "would_deny") != 0 && strcmp(type, "dns") != 0) ||
                    target_of(event, target, sizeof(target)) < 0)
                        continue;
                if (graph_add_edge(graph, json_text(event, "agent"), target, verdict_reason_to_string(reason),
                                   MAX(json_number(event, "count"), 1)) == -ENOMEM)
                        r = CTL_FAILED;
        }
        json_decref(result);
        return r;
}

int ctl_graph(const struct ctl_arguments *arguments)
{
        _cleanup_(graph_clear) struct graph graph = {0};
        int format = graph_format_from_string(arguments->format ? arguments->format : "dot");
        const char *wanted = arguments->n_words > 0 ? arguments->words[0] : NULL;
        const json_t *list, *agent;
        json_t *agents;
        size_t i;
        int r;

        if (format < 0) {
                ctl_error("unknown format '%s'; it is 'dot', 'mermaid' or 'svg'", arguments->format);
                return CTL_USAGE;
        }
        r = client_ask(arguments, "agents", NULL, CLIENT_TIMEOUT_MS, &agents);
        if (r != CTL_OK)
                return r;
        list = json_object_get(agents, "agents");
        json_array_foreach(list, i, agent)
        {
                const char *name = json_text(agent, "name");

                if (r != CTL_OK || (wanted && strcmp(wanted, name) != 0))
                        continue;
                r = graph_add_agent(&graph, name) < 0 ? CTL_FAILED : CTL_OK;
                if (r == CTL_OK && !json_is_null(json_object_get(agent, "cgroup_id")))
                        r = add_learned(arguments, &graph, name);
        }
        json_decref(agents);
        if (r == CTL_OK && wanted && graph.n_agents == 0) {
                ctl_error("no agent '%s'; 'agentctl agents' lists them", wanted);
                return CTL_FAILED;
        }
        if (r == CTL_OK)
                r = add_refused(arguments, &graph);
        if (r != CTL_OK)
                return r;
        if (arguments->json) {
                json_t *result = graph_to_json(&graph);

                r = print_json(result);
                json_decref(result);
                return r;
        }
        graph_draw(&graph, (enum graph_format)format, stdout);
        return print_end();
}
