/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Verbs about policies: list, show, validate, diff.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agentd/ctl/changes.h"
#include "agentd/ctl/client.h"
#include "agentd/ctl/config_file.h"
#include "agentd/ctl/print.h"
#include "agentd/policy/report.h"
#include "agentd/util/cleanup.h"

enum { FILE_MAX_BYTES = 4 * 1024 * 1024 };

int ctl_policy_list(const struct ctl_arguments *arguments)
{
        static const char *const titles[] = {"POLICY", "MODE", "ALLOWS", "DENIES", "AGENTS", "PLACE"};
        const json_t *policy;
        struct table table;
        json_t *result;
        size_t i;
        int r;

        r = client_ask(arguments, "policy-list", NULL, CLIENT_TIMEOUT_MS, &result);
        if (r != CTL_OK)
                return r;
        if (arguments->json) {
                r = print_json(result);
                json_decref(result);
                return r;
        }
        table_begin(&table, ARRAY_SIZE(titles));
        for (i = 0; i < ARRAY_SIZE(titles); i++)
                table_cell(&table, "%s", titles[i]);
        json_array_foreach(json_object_get(result, "policies"), i, policy)
        {
                table_cell(&table, "%s", json_text(policy, "name"));
                table_cell(&table, "%s", json_text(policy, "mode"));
                table_cell(&table, "%lld", (long long)json_number(policy, "rules"));
                table_cell(&table, "%lld", (long long)json_number(policy, "denies"));
                table_cell(&table, "%lld", (long long)json_number(policy, "agents"));
                table_cell(&table, "%s:%lld", json_text(policy, "file"), (long long)json_number(policy, "line"));
        }
        table_print(&table, stdout);
        table_clear(&table);
        json_decref(result);
        return print_end();
}

int ctl_policy_show(const struct ctl_arguments *arguments)
{
        json_t *request = json_pack("{s:s}", "policy", arguments->words[0]), *policy;
        int r;

        if (!request) {
                ctl_error("the policy's name is not UTF-8");
                return CTL_USAGE;
        }
        r = client_ask(arguments, "policy-show", request, CLIENT_TIMEOUT_MS, &policy);
        if (r != CTL_OK)
                return r;
        if (arguments->json) {
                r = print_json(policy);
        } else {
                report_policy_text(policy, stdout);
                r = print_end();
        }
        json_decref(policy);
        return r;
}

int ctl_policy_validate(const struct ctl_arguments *arguments)
{
        struct diagnostics diagnostics = {0};
        struct config *config = NULL;
        const char *file = arguments->words[0];
        int status = CTL_OK, r;

        r = config_load(file, &diagnostics, &config);
        if (r < 0) {
                status = diagnostics_exit_status(&diagnostics);
                if (status == CTL_OK)
                        status = CTL_USAGE;
        }
        if (arguments->json) {
                json_t *result =
                        json_pack("{s:b,s:i,s:i,s:o}", "valid", r == 0, "policies",
                                  config ? (int)config->n_policies : 0, "agents", config ? (int)config->n_agents : 0,
                                  "diagnostics", report_diagnostics_json(&diagnostics));

                if (print_json(result) != CTL_OK && status == CTL_OK)
                        status = CTL_FAILED;
                json_decref(result);
        } else {
                report_diagnostics("agentctl", &diagnostics, stderr);
                if (r < 0 && diagnostics.n_items == 0)
                        ctl_error("%s: %s", file, strerror(-r));
                if (r == 0) {
                        print_safe(stdout, file);
                        printf(": valid; %zu policies, %zu agents\n", config->n_policies, config->n_agents);
                        status = print_end();
                }
        }
        config_free(config);
        diagnostics_clear(&diagnostics);
        return status;
}

/* The file as we may read it: for a daemon that must not read it on our behalf. To be freed; NULL: told. */
static char *read_text(const char *path)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        _cleanup_free_ char *text = NULL;
        struct stat status;
        size_t used = 0;

        if (fd < 0 || fstat(fd, &status) < 0) {
                ctl_error("cannot read '%s': %s", path, strerror(errno));
                return NULL;
        }
        if (!S_ISREG(status.st_mode) || status.st_size > FILE_MAX_BYTES) {
                ctl_error("cannot read '%s': not a file of at most %d MiB", path, FILE_MAX_BYTES >> 20);
                return NULL;
        }
        text = malloc((size_t)status.st_size + 1);
        while (text && used < (size_t)status.st_size) {
                ssize_t n = read(fd, text + used, (size_t)status.st_size - used);

                if (n <= 0)
                        break;
                used += (size_t)n;
        }
        if (!text) {
                ctl_error("out of memory");
                return NULL;
        }
        text[used] = '\0';
        if (strlen(text) != used) {
                ctl_error("'%s' has a NUL byte", path);
                return NULL;
        }
        return TAKE_PTR(text);
}

int ctl_policy_diff(const struct ctl_arguments *arguments)
{
        _cleanup_free_ char *path = realpath(arguments->words[0], NULL), *text = NULL;
        json_t *request, *result;
        int r;

        if (!path) {
                ctl_error("cannot read '%s': %s", arguments->words[0], strerror(errno));
                return CTL_USAGE;
        }
        if (geteuid() != 0) {
                text = read_text(path);
                if (!text)
                        return CTL_USAGE;
        }
        request = json_pack("{s:s,s:s*}", "path", path, "text", text);
        if (!request) {
                ctl_error("'%s' is not UTF-8", arguments->words[0]);
                return CTL_USAGE;
        }
        r = client_ask(arguments, "policy-diff", request, CLIENT_TIMEOUT_MS, &result);
        if (r != CTL_OK)
                return r;
        if (arguments->json) {
                r = print_json(result);
        } else {
                print_changes(json_object_get(result, "changes"));
                r = print_end();
        }
        json_decref(result);
        return r;
}
