/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Enforcement ends here, by the operator's word. The cgroups of `agentd run` are emptied first: what lives in them was
 * promised to be confined. Agents' own cgroups belong to others and stay.
 */
#include "agentd/uninstall.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/agent/cgroup.h"
#include "agentd/datapath/datapath.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

static const char help[] =
        "Usage: agentd uninstall\n"
        "Remove every pin, link and cgroup that agentd made on this host: enforcement ends.\n"
        "Stop the daemon first. AGENTD_BPFFS names the BPF file system where that is not /sys/fs/bpf.\n";

int uninstall_main(int argc, char *argv[])
{
        static const struct option long_options[] = {{"help", no_argument, NULL, 'h'}, {}};
        struct cgroup_mount mount = {.fd = -1};
        struct datapath_error error = {};
        _cleanup_free_ char *directory = NULL;
        char *slash;
        int r, option;

        opterr = 0;
        while ((option = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
                if (option == 'h') {
                        fputs(help, stdout);
                        return 0;
                }
                log_error("unknown option '%s'; see `agentd uninstall --help`", argv[optind - 1]);
                return 2;
        }
        if (optind < argc) {
                log_error("unexpected argument '%s'; see `agentd uninstall --help`", argv[optind]);
                return 2;
        }

        r = datapath_directory(getenv("AGENTD_BPFFS"), &error, &directory);
        if (r < 0) {
                log_error("cannot uninstall: %s: %s", error.text, strerror(-r));
                return 1;
        }
        r = cgroup_mount_find(NULL, &mount);
        if (r == 0) {
                r = cgroup_remove(&mount, "/agentd", 5000);
                if (r < 0 && r != -ENOENT)
                        log_warning_errno(r, "cannot remove the cgroup '/agentd'");
                cgroup_mount_release(&mount);
        }

        /* Every ABI's directory: what an older agentd left is agentd's as well. */
        slash = strrchr(directory, '/');
        *slash = '\0';
        r = datapath_uninstall(directory);
        if (r < 0) {
                log_error_errno(r, "cannot remove '%s'", directory);
                return 1;
        }
        return 0;
}
