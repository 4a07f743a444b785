/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * agentd's verbs.
 */
#include <stdio.h>
#include <string.h>

#include "agentd/check.h"
#include "agentd/daemon.h"
#include "agentd/dns/worker.h"
#include "agentd/metrics/worker.h"
#include "agentd/oci_hook.h"
#include "agentd/run.h"
#include "agentd/uninstall.h"
#include "agentd/util/log.h"
#include "agentd/version.h"

enum { WORKER_FD = 3 };

static int worker_main(int argc, char *argv[])
{
        return dns_worker_main(WORKER_FD);
}

static int metrics_main(int argc, char *argv[])
{
        return metrics_worker_main(WORKER_FD);
}

static const struct {
        const char *verb;
        int (*function)(int argc, char *argv[]);
        const char *synopsis; /* NULL: not for users */
        const char *what;
} verbs[] = {
        {"serve", serve_main, "serve [--config FILE]", "the daemon, in the foreground"},
        {"check", check_main, "check [--config FILE]", "validate, print what would be enforced, touch nothing"},
        {"run", run_main, "run [OPTION...] -- COMMAND [ARG...]", "one command under one policy, with no daemon"},
        {"oci-hook", oci_hook_main, "oci-hook [OPTION...] < STATE",
         "for container runtimes: enforce before a container starts"},
        {"uninstall", uninstall_main, "uninstall", "remove every pin, link and cgroup that agentd made"},
        {"dns-worker", worker_main, NULL, NULL},
        {"metrics-worker", metrics_main, NULL, NULL},
};

static void print_help(FILE *stream)
{
        fprintf(stream, "Usage: agentd VERB [OPTION...]\n"
                        "Kernel-level egress enforcement for AI-agent containers.\n\n");
        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
                if (verbs[i].synopsis)
                        fprintf(stream, "  agentd %-38s %s\n", verbs[i].synopsis, verbs[i].what);
        fprintf(stream, "\n  agentd VERB --help tells more; agentd --version prints the version.\n"
                        "  agentctl(1) talks to the daemon; agentd.yaml(5) is the configuration.\n");
}

int main(int argc, char *argv[])
{
        log_setup("agentd", getenv("AGENTD_DEBUG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
        if (argc < 2) {
                print_help(stderr);
                return 2;
        }
        if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
                print_help(stdout);
                return 0;
        }
        if (strcmp(argv[1], "--version") == 0) {
                printf("agentd %s (ABI %d)\n", AGENTD_VERSION, AGENTD_ABI_VERSION);
                return 0;
        }
        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
                if (strcmp(argv[1], verbs[i].verb) == 0)
                        return verbs[i].function(argc - 1, argv + 1);
        log_error("unknown verb '%s'; there are serve, check, run, oci-hook and uninstall (see `agentd --help`)",
                  argv[1]);
        return 2;
}
