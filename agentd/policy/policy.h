/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The model: what a configuration file says, checked and resolved, before it is compiled. No libbpf, no root, no
 * logging.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agentd/abi.h"
#include "agentd/abi_budget.h"
#include "agentd/net/addr.h"

/* Where a thing stands in the configuration. file is owned by the config. line and column count from 1. */
struct place {
        const char *file;
        unsigned line;
        unsigned column;
};

struct port_range {
        __u16 low; /* inclusive */
        __u16 high;
        __u8 protocols; /* enum protocol_bit */
};

enum budget_directions {
        BUDGET_EGRESS = 1 << DIRECTION_EGRESS,
        BUDGET_INGRESS = 1 << DIRECTION_INGRESS,
        BUDGET_BOTH = BUDGET_EGRESS | BUDGET_INGRESS,
};

/* One item of `budget`: one ledger for each agent, or one for all of them. */
struct budget {
        __u64 bytes; /* 1 .. LEDGER_BYTES_MAX */
        enum budget_period period;
        enum budget_directions directions;
        bool shared; /* one ledger for all agents whose policy has it */
        bool reset;  /* on_exhausted: reset: the sockets end, and not only their packets */
        char *owner; /* the policy that declares it: a part of a shared ledger's identity */
        struct place place;
};

/* `rate`: a token bucket of new connections (of look-ups in `dns`). connections 0: none. */
struct rate {
        __u32 connections;
        __u32 burst;     /* at least 1 */
        __u64 period_ns; /* of `per` */
        struct place place;
};

/* One rule of a policy, its own or inherited. domain or cidr: exactly one. */
struct rule {
        char *id; /* `name`, else POLICY#N (N: from 1, position in that policy's egress list); denies: POLICY#denyN;
                     ingress: POLICY#inN */
        bool deny;
        char *domain; /* canonical pattern; NULL for a cidr rule */
        struct prefix cidr;
        struct prefix *except;
        size_t n_except;
        struct port_range
                *ports; /* never empty: no `ports` is 0-65535 of TCP and UDP; `protocol: icmp` is ICMP 0-65535 */
        size_t n_ports;
        struct budget *budgets;
        size_t n_budgets;
        struct rate rate;
        char *scope; /* of its ledgers, the same whatever stands around it: `name`, else "DOMAIN|CIDR PORTS". NULL when
                        it has no limits */
        struct place place;
};

/* `unix`: sockets of the host that the agent may not talk to; see unix.h. */
struct unix_rules {
        char **deny; /* inherited ones first */
        size_t n_deny;
        bool no_defaults;  /* `defaults: off` */
        bool outside_deny; /* `outside: deny`: none that is not the agent's own */
};

/* Tiers without which the policy is not to be enforced at all. */
enum policy_requirement {
        REQUIRE_DEVICE_GUARD = 1,
        REQUIRE_LSM = 2,
};

struct policy {
        char *name;
        bool audit;
        bool loopback_allow;
        bool metadata_allow;
        bool allow_private;
        bool device_guard_off;
        __u32 required;     /* enum policy_requirement */
        struct rule *rules; /* flattened: inherited first (in the order of `extends`), then own; a rule's index is its
                               number */
        size_t n_rules;
        struct rule *ingress; /* likewise: who may begin a flow to which of the agent's own ports. cidr rules without
                                 limits; their numbers follow those of `rules` */
        size_t n_ingress;
        struct budget *budgets; /* of the agent as a whole: inherited ones that no own one replaces (same period,
                                   directions and sharing), then own */
        size_t n_budgets;
        struct rate rate;
        struct unix_rules unix_rules;
        bool on_failure_quarantine; /* `on_failure: quarantine`: an agent whose probe is let through is frozen */
        bool existing_destroy;      /* `existing: destroy`: sockets that are open at attach end, whatever they are */
        struct place place;
};

/* `agents:` entry. */
struct agent_spec {
        char *name;
        char *cgroup; /* absolute path or relative to the cgroup v2 mount; may be a glob */
        char *policy;
        struct place place;
};

/* `guard:` entry: a parent below which every cgroup is denied that is not inside an agent. */
struct guard_spec {
        char *cgroup; /* absolute path or relative to the cgroup v2 mount; no glob */
        struct place place;
};

enum dns_blocked { DNS_BLOCKED_NXDOMAIN, DNS_BLOCKED_REFUSED, DNS_BLOCKED_NODATA };

struct dns_settings {
        char **upstreams; /* "system", "as-asked", "10.0.0.2", "10.0.0.2@5353", "tls://9.9.9.9@853#dns.quad9.net" */
        size_t n_upstreams;
        bool dnssec;
        __u32 min_ttl_s, max_ttl_s, grace_s;
        enum dns_blocked blocked;
        struct rate rate; /* of each agent's look-ups */
};

struct daemon_settings {
        char *socket, *state_dir, *metrics, *events;
        struct {
                char *certificate, *key, *client_ca; /* files; NULL: none */
        } metrics_tls;
        char *metrics_token; /* a file; NULL: none */
};

/* A whole configuration: immutable after config_load(), owned by one holder. */
struct config {
        char *path;   /* of the main file; NULL for the built-in deny-all */
        char **files; /* main file and includes: what places point to */
        size_t n_files;
        struct daemon_settings daemon;
        struct dns_settings dns;
        struct policy **policies; /* sorted by name */
        size_t n_policies;
        struct agent_spec *agents;
        size_t n_agents;
        struct guard_spec *guards; /* in the order of the file */
        size_t n_guards;
};

void config_free(struct config *config);
void rule_clear(struct rule *rule);                                         /* what it owns; not the rule itself */
const struct rule *policy_rule(const struct policy *policy, size_t number); /* NULL: none */
const struct policy *config_find_policy(const struct config *config, const char *name); /* NULL: none */

const char *verdict_reason_to_string(enum verdict_reason reason); /* "no_rule", ...; never NULL */
/* A reason's number from its name, or -EINVAL. */
int verdict_reason_from_string(const char *text);
const char *budget_period_to_string(enum budget_period period);             /* "day", ... */
const char *budget_directions_to_string(enum budget_directions directions); /* "egress", "ingress", "both" */
const char *hook_to_string(enum hook hook);                                 /* "connect4", "egress", ... */
