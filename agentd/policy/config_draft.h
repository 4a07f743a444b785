/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A configuration while it is read: what the files say, before names are resolved. Internal to config*.c.
 *
 * Readers return nothing: an error is reported and reading goes on, because all errors are told at once. What was
 * reported, and whether memory ran out, is remembered in the loader and asked at the end. On any error the draft is
 * thrown away, so a reader may leave a field unset after it has complained.
 */
#pragma once

#include "agentd/policy/config.h"
#include "agentd/policy/limits.h"
#include "agentd/policy/yaml_node.h"
#include "agentd/util/macro.h"

enum {
        CONFIG_FILE_SIZE_MAX = 8 * 1024 * 1024,
        CONFIG_TOTAL_SIZE_MAX = 64 * 1024 * 1024,
        CONFIG_FILES_MAX = 1024,
        CONFIG_RULES_MAX = 1500000, /* of all policies together, inherited ones counted again */
        CONFIG_EXTENDS_DEPTH_MAX = 64,
        CONFIG_DIAGNOSTICS_MAX = 1000,
};

struct draft_reference {
        char *name;
        struct place place;
};

struct draft_references {
        struct draft_reference *items;
        size_t n_items, capacity;
};

/* One more is too many for one direction at least, and an error. */
enum { DRAFT_BUDGETS_MAX = 2 * LEDGERS_PER_FLOW + 1 };

/* `budget` and `rate` of a rule or of a policy, its own. */
struct draft_limits {
        struct budget *budgets; /* without owners until draft_limits_own() */
        size_t n_budgets, capacity;
        struct rate rate;
        struct place place; /* of the key that came first; line 0: neither is there */
};

struct draft_rule {
        struct rule rule;
        bool ingress; /* else egress or deny */
        struct place name_place;
        bool clash_reported, limits_reported;
};

/* `unix`. */
struct draft_unix {
        struct draft_references deny; /* own */
        int defaults, outside;        /* -1: not said */
        const char **all;             /* once settled: what is denied, those of the parents first; borrowed */
        size_t n_all;
};

enum draft_state { DRAFT_NEW, DRAFT_VISITING, DRAFT_DONE };

struct draft_policy {
        char *name;
        struct place place;
        struct draft_references extends;
        struct draft_policy **parents; /* as extends, once resolved; NULL: no such policy */
        struct draft_rule *rules;      /* own: of egress, deny and ingress */
        size_t n_rules, capacity;
        int mode, loopback, metadata, allow_private;     /* -1: not said */
        int device_guard;                                /* the same */
        __u32 required;                                  /* own, once settled those of the parents as well */
        struct draft_limits limits;                      /* own */
        const struct budget *budgets[DRAFT_BUDGETS_MAX]; /* once settled: those of the parents, then own */
        size_t n_budgets;
        bool limits_reported;
        struct draft_unix unix_rules;
        int existing;            /* 0: destroy, 1: judge; -1: not said */
        int on_failure;          /* 0: quarantine, 1: report; -1: not said */
        const struct rate *rate; /* own or a parent's, once settled; NULL: none */
        enum draft_state state;
        unsigned depth;
        size_t visited; /* the number of the last walk that came by */
};

struct draft_agent {
        struct agent_spec spec;
        struct place cgroup_place, policy_place;
};

struct loader {
        struct diagnostics *diagnostics;
        size_t n_errors; /* those that were not shown any more included */
        size_t n_omitted;
        bool no_memory;

        struct config *config; /* being built */
        const char *file;      /* being read; owned by config */
        bool main_file;
        size_t size_left;

        struct draft_policy **policies;
        size_t n_policies, policies_capacity;
        struct draft_agent *agents;
        size_t n_agents, agents_capacity;
        struct draft_references includes;
};

void loader_clear(struct loader *loader);

/* Diagnostics. */
void loader_report(struct loader *loader, enum diagnostic_kind kind, const struct place *place, const char *format, ...)
        PRINTF(4, 5);
struct place loader_place(const struct loader *loader, const struct yaml_node *node);
void loader_error(struct loader *loader, const struct yaml_node *node, const char *format, ...) PRINTF(3, 4);
void loader_warning(struct loader *loader, const struct yaml_node *node, const char *format, ...) PRINTF(3, 4);

/* Memory; all of them set no_memory and return NULL or false on failure. */
char *loader_strdup(struct loader *loader, const char *text);
/* Makes room for one more item of size bytes in *items. */
bool loader_reserve(struct loader *loader, void *items, size_t n_items, size_t *capacity, size_t size);
void draft_references_add(struct loader *loader, struct draft_references *references, const struct yaml_node *node);

/* The schema: what keys a map may have, and who reads their values. */
struct config_key;
typedef void (*config_read_fn)(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                               void *target);

enum config_key_flag {
        KEY_REQUIRED = 1,
        KEY_MAIN_ONLY = 2,   /* not in an included file */
        KEY_MAY_BE_NULL = 4, /* no value is as good as no key */
        KEY_HIDDEN = 8,      /* not proposed to anybody: its reader refuses it with the reason */
};

struct config_word {
        const char *word;
        int value;
};

struct config_key {
        const char *name;
        config_read_fn read;
        size_t offset;        /* of the field in the target */
        const void *argument; /* the reader's own: words, a schema, ... */
        __u64 min, max;       /* of numbers */
        unsigned flags;
        const char *example; /* of a required key */
};

struct config_schema {
        const char *what; /* "a rule" */
        const struct config_key *keys;
        size_t n_keys;
};

void config_read_map(struct loader *loader, const struct config_schema *schema, const struct yaml_node *node,
                     void *target);

bool config_has_control(const char *text); /* a control character */
/* The char * at key->offset of target. */
void config_replace_text(struct loader *loader, const struct config_key *key, const char *text, void *target);

/* Readers for the table. target: the struct; the field stands at key->offset. */
void config_read_schema(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                        void *target); /* argument: schema; the target is passed on, at the offset */
void config_read_each(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                      void *target); /* a list; argument: the config_key that reads an item */
void config_read_node(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                      void *target); /* const struct yaml_node *: looked at later */
void config_read_word(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                      void *target); /* int; argument: words */
void config_read_boolean(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                         void *target); /* int */
void config_read_number(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                        void *target); /* __u64 */
void config_read_size(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                      void *target); /* __u64 */
void config_read_seconds(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                         void *target); /* __u32 */
void config_read_path(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                      void *target); /* char *; absolute; max: its length; argument: words that are taken instead */
void config_read_references(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                            void *target); /* struct draft_references */
void config_read_name(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                      void *target); /* char *: a name of ours */
void config_read_cgroup(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                        void *target); /* char *, NULL target field: checked only */
/* What strangers can reach must be encrypted, and must know who asks. node: the map. */
void config_check_metrics(struct loader *loader, const struct yaml_node *node, const struct daemon_settings *settings);
void config_read_metrics(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                         void *target); /* char * */
void config_read_upstreams(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                           void *target); /* struct dns_settings */
bool config_name_is_valid(const char *name);
/* The value's text, or NULL after an error that says what was expected. */
const char *config_scalar(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                          const char *expected);
/* False after an error. */
bool config_expect(struct loader *loader, const char *name, const struct yaml_node *node, enum yaml_kind kind,
                   const char *expected);

/* Limits. */
void config_read_budgets(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                         void *target); /* struct draft_limits; one map or a list of them */
void config_read_rate(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                      void *target); /* struct draft_limits */
void config_read_lookup_rate(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                             void *target); /* struct rate */
void config_read_bandwidth(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                           void *target); /* refused, exit 4 */
void draft_limits_own(struct loader *loader, struct draft_limits *limits, const char *owner);
void draft_limits_clear(struct draft_limits *limits);

/* What a policy inherits of its parents, which are settled. */
void config_settle_limits(struct loader *loader, struct draft_policy *policy);
/* rules: all that the policy has, in their order. */
void config_check_limits(struct loader *loader, const struct draft_policy *policy, struct draft_rule *const *rules,
                         size_t n_rules);
/* 0 or -ENOMEM. */
int config_build_limits(const struct draft_policy *draft, struct policy *policy);

/* Unix sockets. */
void config_read_unix(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                      void *target); /* struct draft_unix */
void config_settle_unix(struct loader *loader, struct draft_policy *policy);
void config_build_unix(struct loader *loader, const struct draft_policy *draft, struct policy *policy);
void draft_unix_clear(struct draft_unix *rules);

/* Rules. */
void config_read_egress(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                        void *target); /* struct draft_policy */
void config_read_deny(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target);
void config_read_ingress(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                         void *target);

/* The top of the table, and what follows when all files are read. */
extern const struct config_schema config_schema_top;
void config_resolve(struct loader *loader);
