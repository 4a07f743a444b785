/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Verbs about the daemon and the host: reload, doctor, version.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agentd/agent/doctor.h"
#include "agentd/ctl/changes.h"
#include "agentd/ctl/client.h"
#include "agentd/ctl/print.h"
#include "agentd/util/cleanup.h"

void print_changes(const json_t *changes)
{
        const json_t *change;
        size_t i;

        json_array_foreach(changes, i, change)
        {
                const char *how = json_text(change, "change"), *detail = json_text(change, "detail");
                char sign = !strcmp(how, "added") ? '+' : !strcmp(how, "removed") ? '-' : '~';

                printf("%c ", sign);
                print_safe(stdout, json_text(change, "what"));
                putchar(' ');
                print_safe(stdout, json_text(change, "name"));
                if (detail[0] != '\0') {
                        fputs(": ", stdout);
                        print_safe(stdout, detail);
                }
                putchar('\n');
        }
        if (json_array_size(changes) == 0)
                puts("nothing changes");
}

int ctl_reload(const struct ctl_arguments *arguments)
{
        json_t *result;
        int r;

        r = client_ask(arguments, "reload", NULL, CLIENT_TIMEOUT_MS, &result);
        if (r != CTL_OK)
                return r;
        if (arguments->json) {
                r = print_json(result);
        } else {
                printf("generation %lld -> %lld\n", (long long)json_number(result, "old_generation"),
                       (long long)json_number(result, "new_generation"));
                print_changes(json_object_get(result, "changes"));
                r = print_end();
        }
        json_decref(result);
        return r;
}

static void add_check(json_t *checks, const char *name, bool ok, const char *detail, const char *advice)
{
        json_array_append_new(checks, json_pack("{s:s,s:b,s:b,s:s,s:s}", "name", name, "ok", ok, "required", 1,
                                                "detail", detail, "advice", ok ? "" : advice));
}

/* Without a daemon: everything but what only loading a program can tell. */
static json_t *examine_without_daemon(const char *path, int error)
{
        struct doctor_check found[DOCTOR_CHECKS_MAX];
        size_t n = doctor_run("", NULL, 0, found, DOCTOR_CHECKS_MAX);
        json_t *checks = json_array(), *host;
        char detail[PATH_MAX + 64];

        snprintf(detail, sizeof(detail), "nobody answers at %s: %s", path, strerror(-error));
        add_check(checks, "daemon", false, detail,
                  error == -EACCES ? "be root or a member of the group 'agentd'"
                                   : "start it with 'systemctl start agentd' or 'agentd serve'");
        host = doctor_to_json(found, n);
        json_array_extend(checks, host);
        json_decref(host);
        return json_pack("{s:b,s:o}", "enforceable", 0, "checks", checks);
}

/* A kernel below the floor: no daemon will ever answer on it. */
static bool kernel_is_too_old(const json_t *checks)
{
        const json_t *check;
        size_t i;

        json_array_foreach(checks, i, check) if (strcmp(json_text(check, "name"), "kernel") ==
                                                 0) return !json_is_true(json_object_get(check, "ok"));
        return false;
}

static void print_checks(const json_t *checks)
{
        struct table table;
        const json_t *check;
        size_t i;

        table_begin(&table, 3);
        json_array_foreach(checks, i, check)
        {
                bool ok = json_is_true(json_object_get(check, "ok"));
                bool required = json_is_true(json_object_get(check, "required"));
                const char *advice = json_text(check, "advice");

                table_cell(&table, ok ? "ok" : required ? "FAILED" : "absent");
                table_cell(&table, "%s", json_text(check, "name"));
                table_cell(&table, "%s%s%s", json_text(check, "detail"), advice[0] ? "; " : "", advice);
        }
        table_print(&table, stdout);
        table_clear(&table);
}

/* Of each agent: which tiers it is behind. Of each guard: whether it holds. */
static void print_coverage(const json_t *agents, const json_t *guard)
{
        struct table table;
        const json_t *agent;
        size_t i;

        if (json_array_size(agents) == 0 && json_array_size(json_object_get(guard, "parents")) == 0)
                return;
        fputc('\n', stdout);
        table_begin(&table, 3);
        json_array_foreach(agents, i, agent)
        {
                table_cell(&table, "agent");
                table_cell(&table, "%s", json_text(agent, "name"));
                table_tiers(&table, agent);
        }
        table_guards(&table, guard, true);
        table_print(&table, stdout);
        table_clear(&table);
}

int ctl_doctor(const struct ctl_arguments *arguments)
{
        char path[PATH_MAX];
        json_t *result = NULL;
        int r, error, status;

        error = client_probe(arguments, path, sizeof(path));
        if (error == 0) {
                r = client_ask(arguments, "doctor", NULL, CLIENT_TIMEOUT_MS, &result);
                if (r != CTL_OK)
                        return r;
                status = json_is_true(json_object_get(result, "enforceable")) ? CTL_OK : CTL_UNENFORCEABLE;
        } else {
                result = examine_without_daemon(path, error);
                status = kernel_is_too_old(json_object_get(result, "checks")) ? CTL_UNENFORCEABLE : CTL_UNREACHABLE;
        }
        if (arguments->json) {
                r = print_json(result);
        } else {
                print_checks(json_object_get(result, "checks"));
                print_coverage(json_object_get(result, "agents"), json_object_get(result, "guard"));
                r = print_end();
        }
        json_decref(result);
        if (status == CTL_UNENFORCEABLE && error != 0)
                ctl_error("this kernel cannot enforce: 6.1 or newer is needed");
        else if (error != 0)
                ctl_error("cannot reach the daemon at %s: %s", path, strerror(-error));
        return r != CTL_OK ? r : status;
}

int ctl_version(const struct ctl_arguments *arguments)
{
        char path[PATH_MAX];
        json_t *daemon = NULL, *result;
        int r;

        if (client_probe(arguments, path, sizeof(path)) == 0) {
                r = client_ask(arguments, "version", NULL, CLIENT_TIMEOUT_MS, &daemon);
                if (r != CTL_OK)
                        return r;
        }
        result = json_pack("{s:s,s:o}", "agentctl", AGENTD_VERSION, "daemon", daemon ? daemon : json_null());
        if (arguments->json) {
                r = print_json(result);
        } else {
                puts("agentctl " AGENTD_VERSION);
                if (daemon) {
                        fputs("agentd ", stdout);
                        print_safe(stdout, json_text(daemon, "version"));
                        printf(", ABI %lld\n", (long long)json_number(daemon, "abi"));
                }
                r = print_end();
        }
        json_decref(result);
        return r;
}
