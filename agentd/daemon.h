/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * `agentd serve`: the daemon's own state, shared with the control verbs (verbs_*.c).
 */
#pragma once

#include "agentd/agent/watch.h"
#include "agentd/control/server.h"
#include "agentd/daemon_notify.h"
#include "agentd/event/audit_log.h"
#include "agentd/metrics/link.h"
#include "agentd/monitor.h"
#include "agentd/util/macro.h"

/* An answer that waits: for an agent to appear, or for its first look-ups. */
struct daemon_pending {
        struct daemon_pending *next;
        struct daemon *daemon;
        struct control_request *request;
        char name[AGENT_NAME_MAX];
        __u64 deadline_ns; /* 0: none */
};

struct daemon {
        uv_loop_t loop;
        char *config_path;
        char *socket_path;
        char *state_directory;
        struct monitor *monitor;
        struct event_bus *bus;
        struct agent_watch *watch;
        struct control_server *control;
        struct metrics_link *metrics; /* NULL: off */
        struct audit_log *audit;
        struct event_subscriber *audit_subscriber;
        int audit_error; /* -errno of the last entry; 0: it was written */
        __u64 audit_lost;
        struct agent_watch_callbacks watch_callbacks;
        struct daemon_pending *pending;
        uv_timer_t pending_timer;
        struct daemon_notify notify;
        uv_signal_t signals[3];
        char events_target[512];
        size_t reloads_ok, reloads_failed;
        size_t attach_failures;
        __u64 attach_failure_ns;  /* of the last line in the log */
        char attach_failure[200]; /* the last one: who and why */
};

/* argv[0] is "serve". */
int serve_main(int argc, char *argv[]);

extern const struct control_verb daemon_verbs[];

/* 0, or -errno with *error; *ret_errors: array of places for a configuration that is not valid (may be NULL). */
int daemon_reload(struct daemon *daemon, struct monitor_error *error, json_t **ret_errors, json_t **ret_result);
/* Answers the request with the agent when it is enforced and settled. Takes part in the request's life. */
int daemon_pending_add(struct daemon *daemon, struct control_request *request, const char *name, __u64 deadline_ns);

/* daemon_health.c: sentences; none: healthy. Where budgets are remembered; null: nowhere. */
json_t *daemon_problems(struct daemon *daemon);
json_t *daemon_state_to_json(struct daemon *daemon);

/* daemon_metrics.c: starts to serve what the configuration says. 0 or -errno (memory). */
int daemon_metrics_start(struct daemon *daemon, const struct config *config);

/* daemon_audit.c: opens the log in the state directory. 0 or -errno. */
int daemon_audit_start(struct daemon *daemon);
void daemon_audit_stop(struct daemon *daemon);
/* An audit event: what the client of the request has done, with its process. agent may be NULL. */
void daemon_audit(struct daemon *daemon, struct control_request *request, const struct monitor_agent *agent,
                  const char *format, ...) PRINTF(4, 5);
void daemon_audit_process(struct control_request *request, struct event *event); /* fills in the client's */
void verb_audit(void *context, struct control_request *request, const json_t *arguments);

/* verbs_agent.c */
json_t *agent_to_json(struct daemon *daemon, struct monitor_agent *agent);
json_t *agents_to_json(struct daemon *daemon); /* all of them */
json_t *guards_to_json(struct daemon *daemon); /* guarded parents, and what they have refused */
void verb_status(void *context, struct control_request *request, const json_t *arguments);
void verb_agents(void *context, struct control_request *request, const json_t *arguments);
void verb_attach(void *context, struct control_request *request, const json_t *arguments);
void verb_detach(void *context, struct control_request *request, const json_t *arguments);
void verb_quarantine(void *context, struct control_request *request, const json_t *arguments);
void verb_release(void *context, struct control_request *request, const json_t *arguments);
void verb_wait(void *context, struct control_request *request, const json_t *arguments);
void verb_dns(void *context, struct control_request *request, const json_t *arguments);

/* verbs_policy.c */
void verb_reload(void *context, struct control_request *request, const json_t *arguments);
void verb_policy_list(void *context, struct control_request *request, const json_t *arguments);
void verb_policy_show(void *context, struct control_request *request, const json_t *arguments);
void verb_policy_validate(void *context, struct control_request *request, const json_t *arguments);
void verb_policy_diff(void *context, struct control_request *request, const json_t *arguments);
void verb_policy_test(void *context, struct control_request *request, const json_t *arguments);
void verb_explain(void *context, struct control_request *request, const json_t *arguments);

/* verbs_budget.c */
struct monitor_budget;
json_t *budget_to_json(struct monitor *monitor, const struct monitor_agent *agent, const struct monitor_budget *budget);
void verb_budget_show(void *context, struct control_request *request, const json_t *arguments);
void verb_budget_grant(void *context, struct control_request *request, const json_t *arguments);
void verb_budget_reset(void *context, struct control_request *request, const json_t *arguments);

/* verbs_event.c */
void verb_events(void *context, struct control_request *request, const json_t *arguments);
void verb_doctor(void *context, struct control_request *request, const json_t *arguments);
void verb_version(void *context, struct control_request *request, const json_t *arguments);
