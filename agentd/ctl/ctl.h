/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * agentctl's parts: what the command line said, the verbs, and how they end (the exit status of the contract).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum ctl_exit {
        CTL_OK = 0,
        CTL_FAILED = 1,
        CTL_USAGE = 2,
        CTL_UNREACHABLE = 3,
        CTL_UNENFORCEABLE = 4,
};

/* Pointers into argv; NULL: not given. */
struct ctl_arguments {
        bool json;
        const char *socket;
        const char *config;
        const char *cgroup;
        const char *policy;
        const char *mode;
        const char *timeout;
        const char *agent;
        const char *type;
        const char *reason;
        const char *since;
        const char *lines;
        const char *interval;
        const char *format;
        bool follow;
        char **words; /* after the verb */
        int n_words;
};

struct ctl_verb {
        const char *name;     /* "status", "policy list" */
        const char *synopsis; /* after the name */
        const char *summary;
        const char *details; /* for --help; may be NULL */
        const char *example;
        const char *options; /* letters of the options that belong to it, besides those of every verb: see options.c */
        int least_words, most_words;
        int (*run)(const struct ctl_arguments *arguments); /* exit status; NULL: a later build has it */
};

extern const struct ctl_verb ctl_verbs[]; /* ended by a NULL name */

/* The command line after the program's name. CTL_OK with the verb and its arguments; or, with *ret_verb NULL, the
 * status to exit with (help was printed, or an error). argv is permuted. */
int ctl_options_parse(int argc, char **argv, const struct ctl_verb **ret_verb, struct ctl_arguments *ret);

/* "10s", "5m", "250ms", "1h30m", "7d". 0 or -errno. */
int ctl_duration_parse(const char *text, unsigned long long *ret_ms);

/* Verbs. */
int ctl_status(const struct ctl_arguments *arguments);
int ctl_health(const struct ctl_arguments *arguments);
int ctl_agents(const struct ctl_arguments *arguments);
int ctl_attach(const struct ctl_arguments *arguments);
int ctl_detach(const struct ctl_arguments *arguments);
int ctl_quarantine(const struct ctl_arguments *arguments);
int ctl_release(const struct ctl_arguments *arguments);
int ctl_wait(const struct ctl_arguments *arguments);
int ctl_dns(const struct ctl_arguments *arguments);
int ctl_reload(const struct ctl_arguments *arguments);
int ctl_doctor(const struct ctl_arguments *arguments);
int ctl_version(const struct ctl_arguments *arguments);
int ctl_events(const struct ctl_arguments *arguments);
int ctl_explain(const struct ctl_arguments *arguments);
int ctl_budget_show(const struct ctl_arguments *arguments);
int ctl_budget_grant(const struct ctl_arguments *arguments);
int ctl_budget_reset(const struct ctl_arguments *arguments);
int ctl_policy_list(const struct ctl_arguments *arguments);
int ctl_policy_show(const struct ctl_arguments *arguments);
int ctl_policy_validate(const struct ctl_arguments *arguments);
int ctl_policy_diff(const struct ctl_arguments *arguments);
int ctl_audit(const struct ctl_arguments *arguments);
int ctl_audit_verify(const struct ctl_arguments *arguments);
int ctl_graph(const struct ctl_arguments *arguments);
int ctl_top(const struct ctl_arguments *arguments);
int ctl_policy_test(const struct ctl_arguments *arguments);
