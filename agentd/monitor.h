/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The monitor: the privileged half of agentd, the only one that touches the kernel's tables.
 *
 * It holds a configuration, its compiled policies, the agents, what they have learned, and the DNS worker, and turns
 * each change of those into the kernel's maps in an order in which no packet is misjudged: write beside, publish by one
 * store, remove later. Used by `agentd serve` and `agentd run`. Everything runs on one event loop's thread.
 */
#pragma once

#include <jansson.h>
#include <uthash.h>
#include <uv.h>

#include "agentd/agent/cgroup.h"
#include "agentd/agent/container.h"
#include "agentd/datapath/datapath.h"
#include "agentd/datapath/extra.h"
#include "agentd/dns/learned.h"
#include "agentd/dns/refresh.h"
#include "agentd/dns/supervisor.h"
#include "agentd/event/bus.h"
#include "agentd/net/netns.h"
#include "agentd/policy/compile.h"
#include "agentd/policy/config.h"

enum {
        MONITOR_RETIRE_MS = 1500, /* a packet in flight still reads the version before */
        MONITOR_EVENTS_MS = 20,
        MONITOR_TICK_MS = 1000,
        MONITOR_VERIFY_TICKS = 2,     /* each agent is verified every so many ticks */
        MONITOR_SETTLE_MS = 2000,     /* how long attach waits for the first answers */
        MONITOR_LINGER_S = 2,         /* a listener stays so long in a namespace that its agent has left */
        MONITOR_LISTENERS_MAX = 64,   /* of one agent: each costs descriptors that all agents share */
        MONITOR_DISCOVERIES_MAX = 64, /* of one agent, in a second */
        MONITOR_LEFT_MAX = 16, /* namespaces that an agent has left, one by one; beyond that: all of the host's */
};

/* A configuration with the number of those who point into it (compiled policies do). */
struct monitor_config {
        struct config *config;
        unsigned references;
};

/* A policy as it is enforced: the content of one kernel version. */
struct monitor_policy {
        UT_hash_handle hh; /* by version */
        struct monitor_config *config;
        const struct policy *policy; /* in config */
        struct compiled_policy *compiled;
        __u32 version;
        __u64 retired_ns; /* CLOCK_BOOTTIME; 0: in use */
        __u64 written_ns;
};

/* What was found changed in the kernel, and made good or told; the label `what` of agentd_drift_total. */
enum monitor_drift {
        DRIFT_LINK,        /* a hook's link or its program */
        DRIFT_ENTRY,       /* the agent's word */
        DRIFT_DEVICE,      /* the program at the host end of a veth */
        DRIFT_GUARD,       /* a guarded parent's link */
        DRIFT_PROBE,       /* a probe was let through */
        DRIFT_REQUIREMENT, /* a tier that a policy requires is gone */
        DRIFT_MAX,
};

enum monitor_mode { MONITOR_MODE_POLICY, MONITOR_MODE_ENFORCE, MONITOR_MODE_AUDIT };

struct monitor_listener {
        struct monitor_listener *next;
        __u32 id;
        __u64 netns_cookie;
        struct netns_identity identity;
        int netns_fd;
        __u16 port;
        __u64 unused_since_ns; /* no process of the agent is in there; 0: one is */
};

struct monitor_devices;
struct monitor_probe;
struct monitor_prober;
struct monitor_device_watch;
struct monitor_guards;

/* What a policy `required:` and has not got. */
enum monitor_unmet { UNMET_NOTHING = 0, UNMET_WAITING, UNMET_DEVICE_GUARD, UNMET_LSM };

struct monitor_agent {
        UT_hash_handle hh; /* by name */
        char name[AGENT_NAME_MAX];
        char entry[AGENT_NAME_MAX]; /* of the configuration; "" when attached by hand */
        char *path;                 /* canonical */
        __u32 id;
        __u64 cgroup_id;
        int cgroup_fd;
        struct monitor_policy *policy; /* NULL: broken, everything is denied */
        enum monitor_mode mode;
        bool quarantine;
        bool frozen;              /* with it, because a probe was let through */
        bool without_limits;      /* its limits could not be had: it is denied until they can */
        enum monitor_unmet unmet; /* what its policy requires is not there: it is denied until it is */
        bool broken;
        char detail[160];
        __u64 verified_ns;      /* CLOCK_BOOTTIME; when probes were refused at every tier that is claimed; 0: never */
        __u64 verified_real_ns; /* the same by CLOCK_REALTIME */
        __u64 events_lost;      /* by the kernel, as far as it was told */
        struct monitor_listener *listeners;
        unsigned n_listeners;
        struct netns_identity left[MONITOR_LEFT_MAX]; /* where it once lived: sockets may have stayed there */
        size_t n_left;                                /* may exceed MONITOR_LEFT_MAX */
        unsigned discoveries;                         /* in the current tick */
        __u64 lookups[DNS_OUTCOME_MAX];               /* by enum dns_outcome, since the worker began */
        struct monitor_limits *limits, *next_limits; /* budgets and rates: in use, and prepared; see monitor_budget.h */
        struct monitor_settling *settling; /* first answers that attach waits for; NULL: all came, or time is up */
        __u64 settle_until_ns;
        struct container container;      /* without an id: none that is known */
        unsigned container_looks;        /* how often its runtime's state was looked at */
        struct monitor_devices *devices; /* the device guard; NULL: not looked for yet. See monitor_device.h */
        struct monitor_probe *probe;     /* NULL: none yet. See monitor_probe.h */
};

struct monitor {
        uv_loop_t *loop;
        struct datapath *datapath;
        char *directory;
        struct cgroup_mount mount;
        struct monitor_config *config;
        struct monitor_policy *policies; /* all versions, by version */
        struct monitor_agent *agents;    /* by name */
        struct monitor_agent *by_id[AGENT_MAX];
        struct learned *learned;
        struct refresh *refresh;
        struct dns_supervisor *dns;
        struct event_bus *bus;
        uv_poll_t events_poll;
        uv_timer_t events_timer, tick;
        __u32 next_listener;
        __u64 started_ns;
        unsigned closing;
        __u32 ticks;
        bool own_namespace;
        bool verdicts_only;
        struct monitor_settling *settlings;
        struct monitor_budgets *budgets;
        struct monitor_device_watch *device_watch;
        struct monitor_prober *prober;
        struct monitor_agent *probed; /* whose probes' records are expected right now */
        __u64 drift[DRIFT_MAX];
        struct message_durations durations; /* of look-ups, since the worker began */
        struct monitor_guards *guards;      /* guarded parents; NULL: none yet. See monitor_guard.h */
};

enum monitor_proof {
        PROOF_NONE = 0, /* not verified: the detail says why */
        PROOF_REFUSED,  /* as it must be */
        PROOF_PASSED,   /* let through */
        PROOF_NOTHING,  /* there was nothing to try */
};

struct monitor_options {
        const char *directory;       /* of the pins */
        const char *state_directory; /* where budgets are remembered over a reboot; NULL: they are not */
        bool own_namespace;          /* the agent lives in our own network namespace: no device guard is looked for */
        bool verdicts_only;          /* no lifecycle and learn events: for a person at a terminal */
};

/* Text of a failure for a user; one line. */
struct monitor_error {
        int exit_status; /* of the contract */
        char text[1024];
};

__u64 monitor_now(void); /* CLOCK_BOOTTIME, ns */

/* Opens everything but has no agents yet. Takes config whatever it returns. Exit status and text in *error on failure.
 */
int monitor_new(uv_loop_t *loop, const struct monitor_options *options, struct config *config, struct event_bus *bus,
                struct monitor_error *error, struct monitor **ret);
/* Closes; pins and enforcement stay. Run the loop once more before closing it. */
void monitor_free(struct monitor *monitor);

/* monitor_policy.c */
struct monitor_policy *monitor_policy_find(struct monitor *monitor, const char *name); /* in use, or NULL */
struct monitor_policy *monitor_policy_version(struct monitor *monitor, __u32 version);
/* Replaces the configuration: all or nothing. Takes config whatever it returns. *ret_changes: array of CHANGE
 * (docs/control.md). */
int monitor_apply(struct monitor *monitor, struct config *config, struct monitor_error *error, json_t **ret_changes);
/* monitor_diff.c. What monitor_apply() would report. NULL: no memory. */
json_t *monitor_diff(struct monitor *monitor, const struct config *config);
bool monitor_policy_equal(const struct policy *a, const struct policy *b);
bool monitor_dns_equal(const struct dns_settings *a, const struct dns_settings *b);
bool monitor_dns_as_asked(const struct dns_settings *dns);
const struct agent_spec *monitor_agent_spec(const struct config *config, const char *name); /* NULL: none */
/* Returns after an RCU grace period (kernel/sched/membarrier.c): no program still reads by a word from before. */
void monitor_grace(void);
void monitor_retire(struct monitor *monitor, __u64 now_ns); /* frees versions that no packet reads any more */
__u32 monitor_word_flags(const struct monitor_agent *agent);
/* 0; or an error of monitor_limits_prepare(): then everything is denied, and the agent's detail says why. */
int monitor_publish(struct monitor *monitor, struct monitor_agent *agent);
int monitor_policy_use(struct monitor *monitor, struct monitor_policy *policy); /* tells worker and refresh */
int monitor_policies_load(struct monitor *monitor, struct monitor_error *error);
void monitor_config_unref(struct monitor_config *config);
/* Another policy (in use) for the agent, published; what it allows no more ends. */
/* The same rules once more under another version, for the case that somebody has changed what stands in the kernel. */
int monitor_policy_rewrite(struct monitor *monitor, struct monitor_policy *policy);
void monitor_agent_move(struct monitor *monitor, struct monitor_agent *agent, struct monitor_policy *policy);

/* monitor_budget.c: limits of agents. */
/* Makes what the agent needs under this policy, beside what it has. 0; -ENOSPC: a table is full; -errno. */
int monitor_limits_prepare(struct monitor *monitor, struct monitor_agent *agent, const struct monitor_policy *policy,
                           struct monitor_error *error);
void monitor_limits_discard(struct monitor *monitor, struct monitor_agent *agent);
/* The limits of the agent's policy of now: those that it has, those that were prepared, or new ones. They are published
 * next; what it had before is retired. */
int monitor_limits_take(struct monitor *monitor, struct monitor_agent *agent, struct monitor_error *error,
                        struct datapath_limits *ret);
void monitor_limits_retire(struct monitor *monitor, struct monitor_agent *agent);
void monitor_limits_sweep(struct monitor *monitor, __u64 now_ns); /* frees what no packet reads any more */
void monitor_limits_forget(struct monitor_agent *agent);          /* the kernel's side stays */
void monitor_budgets_free(struct monitor *monitor);

/* monitor_budget_flush.c */
int monitor_budgets_new(struct monitor *monitor, const char *state_directory, struct monitor_error *error);
void monitor_budgets_tick(struct monitor *monitor, __u64 now_ns);
void monitor_budget_record(struct monitor *monitor, const void *record, size_t size, __s64 boot_to_real_ns);
/* What a former daemon left and no agent has taken: remembered, then gone. When all agents are published. */
void monitor_budgets_sweep(struct monitor *monitor);
void monitor_budgets_end(struct monitor *monitor); /* the last reading, written before it returns */

/* monitor_agent.c */
struct monitor_agent *monitor_agent_find(struct monitor *monitor, const char *name);
struct monitor_agent *monitor_agent_by_cgroup(struct monitor *monitor, __u64 cgroup_id);
/* Returns once every hook holds and the policy is published. path: canonical. entry: "" by hand. */
int monitor_attach(struct monitor *monitor, const char *name, const char *entry, const char *path, const char *policy,
                   enum monitor_mode mode, struct monitor_error *error, struct monitor_agent **ret);
void monitor_detach(struct monitor *monitor, struct monitor_agent *agent);
/* The exact domains of its policy had their first answers, or 2 s have passed since it was attached. */
bool monitor_agent_settled(struct monitor *monitor, struct monitor_agent *agent);
void monitor_rename(struct monitor *monitor, struct monitor_agent *agent, const char *name, const char *entry);
/* Takes over what an earlier daemon left. */
int monitor_adopt(struct monitor *monitor);
void monitor_population(struct monitor *monitor, struct monitor_agent *agent); /* look at its namespaces */
void monitor_verify(struct monitor *monitor, struct monitor_agent *agent);
/* Candidate ports of the agent's listeners, from the one with this index on. */
void monitor_ports_choose(struct monitor *monitor, __u32 agent_id, size_t first);
const char *monitor_agent_mode(const struct monitor_agent *agent); /* "enforce", "audit" */

/* monitor_sockets.c */
/* The last process of the agent has left this namespace. */
void monitor_namespace_left(struct monitor_agent *agent, const struct netns_identity *identity);
/* At detach: every socket of the agent, wherever it once lived. After it nothing is left in a queue. */
void monitor_sockets_end(struct monitor *monitor, struct monitor_agent *agent);
/* At attach: sockets from before, and those that its processes have brought along, by `existing` of its policy. */
struct monitor_existing {
        size_t n_open;    /* TCP and UDP sockets that its processes hold, or that were made in its cgroup */
        size_t n_foreign; /* of those: made in another cgroup, which tiers 1 and 2 do not see */
        size_t n_ended;
};
void monitor_sockets_existing(struct monitor *monitor, struct monitor_agent *agent, struct monitor_existing *ret);
/* Destroys the agent's sockets that its policy of now does not allow; all: every one. */
void monitor_sockets_destroy(struct monitor *monitor, struct monitor_agent *agent, bool all);
/* The same for those that doomed says. */
struct sock_diag_socket;
struct verdict_question;
void monitor_sockets_destroy_if(struct monitor *monitor, struct monitor_agent *agent,
                                bool (*doomed)(void *context, const struct sock_diag_socket *socket), void *context);
/* What the agent's policy of now says of a live socket that is connected. */
int monitor_socket_verdict(struct monitor *monitor, const struct monitor_agent *agent,
                           const struct sock_diag_socket *socket, struct verdict_question *question);

/* monitor_lsm.c: tier 4, and the hooks for Unix sockets. */
void monitor_lsm_probe(struct monitor *monitor); /* before the first agent is attached */
/* detail: one line for people, of why not. */
bool monitor_lsm_present(const struct monitor *monitor, const char **ret_detail);
bool monitor_unix_present(const struct monitor *monitor, const char **ret_detail);
/* What of Unix sockets is not judged here; "": nothing. */
const char *monitor_unix_missing(const struct monitor *monitor, char *buffer, size_t size);
/* Can what the policy says in so many words be enforced here? 0, or -EOPNOTSUPP with exit status 4. */
int monitor_unix_check(const struct monitor *monitor, const struct policy *policy, struct monitor_error *error);

/* monitor_container.c */
/* Looks for what is not known yet; a few times at most. */
void monitor_container_look(struct monitor_agent *agent);
/* What a runtime's hook has told: an object {id, name, image}. */
void monitor_container_told(struct monitor_agent *agent, const json_t *container);
struct monitor_agent *monitor_agent_by_container(struct monitor *monitor, const char *id); /* NULL: none */
json_t *monitor_container_to_json(const struct monitor_agent *agent);
bool monitor_sandbox_has_stack(const struct monitor_agent *agent); /* its packets come from gVisor's own stack */
/* "runtime" and "runtime_detail" of its processes of now. */
void monitor_runtime_add(const struct monitor_agent *agent, json_t *object);

/* monitor_device.c: tier 3. */
int monitor_devices_new(struct monitor *monitor);
void monitor_devices_free(struct monitor *monitor);
/* Finds the agent's devices and holds them; true to what is there when it returns. */
void monitor_devices_look(struct monitor *monitor, struct monitor_agent *agent);
void monitor_devices_young(struct monitor *monitor, struct monitor_agent *agent); /* the same, and again and again */
void monitor_devices_verify(struct monitor *monitor, struct monitor_agent *agent);
void monitor_devices_forget(struct monitor_agent *agent); /* the kernel's side stays */
json_t *monitor_devices_to_json(const struct monitor_agent *agent);
/* Tiers that the agent's policy requires: missing ones deny everything, until they are there. */
void monitor_requirements_check(struct monitor *monitor, struct monitor_agent *agent);

/* monitor_probe.c */
int monitor_prober_new(struct monitor *monitor);
void monitor_prober_free(struct monitor *monitor);
/* Makes the agent's probes' sockets, unless they are there: best before its programs are attached. */
void monitor_probe_prepare(struct monitor *monitor, struct monitor_agent *agent);
/* Sends a round of probes and concludes. */
enum monitor_proof monitor_probe_round(struct monitor *monitor, struct monitor_agent *agent);
void monitor_probe_record(struct monitor *monitor, const void *record, size_t size);
bool monitor_probe_is_ours(const struct monitor *monitor, __u64 netns_cookie); /* the probes' namespace */
void monitor_probe_forget(struct monitor *monitor, struct monitor_agent *agent);
json_t *monitor_probe_to_json(const struct monitor_agent *agent);
/* What it was warned of is forgotten: the next probe that is let through is an alarm of its own. */
void monitor_probe_again(struct monitor_agent *agent);
enum monitor_state {
        MONITOR_ATTACHING,
        MONITOR_ENFORCING,
        MONITOR_FROZEN,     /* its cgroup is, and no probe could be made in it: nothing in it runs */
        MONITOR_UNVERIFIED, /* from here on it is a matter of health */
        MONITOR_BROKEN,
        MONITOR_STATE_MAX,
};
/* detail: why it is not enforcing. */
enum monitor_state monitor_agent_state(const struct monitor_agent *agent, char *detail, size_t size);
/* Is it enforced, as far as can be shown on this host? */
bool monitor_agent_holds(const struct monitor *monitor, const struct monitor_agent *agent);
const char *monitor_state_to_string(enum monitor_state state);

/* monitor_hold.c: what `on_failure` of its policy says, now. */
void monitor_hold(struct monitor *monitor, struct monitor_agent *agent);
/* Ends a quarantine, and thaws. -EREMOTEIO: a probe is still let through, and the agent is held again. */
int monitor_release(struct monitor *monitor, struct monitor_agent *agent);

/* monitor_listener.c */
int monitor_listener_open(struct monitor *monitor, struct monitor_agent *agent, int netns_fd);
void monitor_listeners_scan(struct monitor *monitor, struct monitor_agent *agent, __u64 now_ns);
void monitor_listeners_close(struct monitor *monitor, struct monitor_agent *agent);
void monitor_capture(struct monitor *monitor, const struct capture_record *record);
int monitor_upstream(struct monitor *monitor, const struct message_ask_upstream *message);

/* monitor_names.c */
int monitor_learn(struct monitor *monitor, const struct message_learn *message);
void monitor_resolved(struct monitor *monitor, const struct message_resolved *message);
void monitor_refused(struct monitor *monitor, const struct message_refused *message);
void monitor_names_tick(struct monitor *monitor, __u64 now_ns);
/* Writes the kernel's entries of everything the agent has learned for this policy; not yet published. */
int monitor_relearn(struct monitor *monitor, struct monitor_agent *agent, struct monitor_policy *policy);
/* What the policy of now allows no more is forgotten. After publication. */
void monitor_unlearn(struct monitor *monitor, struct monitor_agent *agent);
void monitor_names_adopt(struct monitor *monitor);
void monitor_forget_names(struct monitor *monitor, struct monitor_agent *agent); /* all of them */
/* Asks for the policy's exact domains now. Settled when n is 0: every one has had its answer, good or not. */
struct monitor_settling {
        struct monitor_settling *next;
        __u64 *ids;
        size_t n;
};
int monitor_settle_begin(struct monitor *monitor, const struct monitor_policy *policy, struct monitor_settling **ret);
void monitor_settle_end(struct monitor *monitor, struct monitor_settling *settling);

/* monitor_event.c */
int monitor_events_consume(struct monitor *monitor); /* how many records */
void monitor_events_lost(struct monitor *monitor);   /* tells what the kernel has counted as lost since the last time */
void monitor_event(struct monitor *monitor, enum event_type type, const struct monitor_agent *agent,
                   enum verdict_reason reason, const char *format, ...) __attribute__((format(printf, 5, 6)));
void monitor_event_fill(struct monitor *monitor, const struct monitor_agent *agent, struct event *event);
