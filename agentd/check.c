/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A dry run up to the compiled policies: whatever would stop the daemon from publishing them stops this too.
 */
#include "agentd/check.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "agentd/policy/compile.h"
#include "agentd/policy/report.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"
#include "agentd/version.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNENFORCEABLE = 4 };

static const char default_config[] = "/etc/agentd/agentd.yaml";

static void print_help(void)
{
        printf("Usage: agentd check [--config FILE] [-o text|json]\n"
               "Validates the configuration, prints what would be enforced, touches nothing. Needs no root.\n\n"
               "  -c, --config FILE   the configuration (default: %s)\n"
               "  -o, --output FORM   text (default) or json\n"
               "  -h, --help          this help\n\n"
               "Errors and warnings go to stderr, one line each: agentd: FILE:LINE:COL: what is wrong; what would be "
               "right\n"
               "Exit status: 0 valid; 2 not valid, or wrong usage; 4 it has what this build cannot enforce.\n\n"
               "Example: agentd check --config ./agentd.yaml\n",
               default_config);
}

static int check_policies(const struct config *config)
{
        int status = EXIT_DONE;

        for (size_t i = 0; i < config->n_policies; i++) {
                const struct policy *policy = config->policies[i];
                struct compiled_policy *compiled = NULL;
                struct prefix prefix = {0};
                int r;

                r = policy_compile(policy, &prefix, &compiled);
                if (r == -E2BIG) {
                        _cleanup_free_ char *text = report_too_many_matches(policy, &prefix);

                        log_error("%s:%u:%u: %s", policy->place.file, policy->place.line, policy->place.column,
                                  text ? text : "too many rules");
                        status = EXIT_UNENFORCEABLE;
                } else if (r < 0) {
                        log_error_errno(r, "cannot compile policy '%s'", policy->name);
                        return EXIT_FAILED;
                }
                compiled_policy_free(compiled);
        }
        return status;
}

static int check_file(const char *path, bool json)
{
        struct diagnostics diagnostics = {0};
        struct config *config = NULL;
        json_t *check;
        int status, r;

        r = config_load(path, &diagnostics, &config);
        report_diagnostics("agentd", &diagnostics, stderr);
        status = diagnostics_exit_status(&diagnostics);
        if (r == 0)
                status = check_policies(config);
        if (r < 0 && status == EXIT_DONE) { /* nothing was said: no memory */
                log_error_errno(r, "cannot check '%s'", path);
                status = EXIT_FAILED;
        }

        /* A text report of what would be enforced is of a valid file only: nothing of another is enforced. */
        if (json || status == EXIT_DONE) {
                check = report_check_json(path, status == EXIT_DONE ? config : NULL, &diagnostics);
                if (json) {
                        json_dumpf(check, stdout, JSON_INDENT(2));
                        printf("\n");
                } else {
                        report_check_text(check, stdout);
                }
                json_decref(check);
                if (fflush(stdout) != 0) {
                        log_error_errno(-errno, "cannot write the report");
                        status = EXIT_FAILED;
                }
        }
        config_free(config);
        diagnostics_clear(&diagnostics);
        return status;
}

int check_main(int argc, char *argv[])
{
        static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                                {"output", required_argument, NULL, 'o'},
                                                {"help", no_argument, NULL, 'h'},
                                                {"version", no_argument, NULL, 'V'},
                                                {NULL}};
        const char *path = default_config;
        bool json = false;
        int option;

        opterr = 0;
        optind = 1;
        while ((option = getopt_long(argc, argv, "+:c:o:h", options, NULL)) >= 0) {
                switch (option) {
                case 'c':
                        path = optarg;
                        break;
                case 'o':
                        json = strcmp(optarg, "json") == 0;
                        if (!json && strcmp(optarg, "text") != 0) {
                                log_error("output '%s' is not known; use text or json", optarg);
                                return EXIT_USAGE;
                        }
                        break;
                case 'h':
                        print_help();
                        return EXIT_DONE;
                case 'V':
                        printf("agentd %s\n", AGENTD_VERSION);
                        return EXIT_DONE;
                case ':':
                        log_error("option '%s' needs a value; see `agentd check --help`", argv[optind - 1]);
                        return EXIT_USAGE;
                default:
                        log_error("unknown option '%s'; see `agentd check --help`", argv[optind - 1]);
                        return EXIT_USAGE;
                }
        }
        if (optind < argc) {
                log_error("unexpected argument '%s'; name the file with --config", argv[optind]);
                return EXIT_USAGE;
        }
        return check_file(path, json);
}
