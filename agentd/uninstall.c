/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Enforcement ends here, by the operator's word. The cgroups of `agentd run` are emptied first: what lives in them was
 * promised to be confined. Agents' own cgroups belong to others and stay.
 */
#include "agentd/uninstall.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/agent/cgroup.h"
#include "agentd/datapath/datapath.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

enum { REMOVE_MS = 5000 };

static const char help[] =
        "Usage: agentd uninstall\n"
        "Remove every pin, link and cgroup that agentd made on this host: enforcement ends.\n"
        "Stop the daemon first. AGENTD_BPFFS names the BPF file system where that is not /sys/fs/bpf.\n";

/* The runs whose pins are here, and no others: several agentds may live side by side. */
static void runs_end(const struct cgroup_mount *mount, const char *directory)
{
        _cleanup_free_ char *pattern = NULL;
        glob_t found = {};

        if (asprintf(&pattern, "%s/v*/run/*", directory) < 0)
                return;
        if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0) {
                for (size_t i = 0; i < found.gl_pathc; i++) {
                        char path[64];
                        int r;

                        (void)snprintf(path, sizeof(path), "/agentd/run-%.20s", strrchr(found.gl_pathv[i], '/') + 1);
                        r = cgroup_remove(mount, path, REMOVE_MS);
                        if (r < 0 && r != -ENOENT)
                                log_warning_errno(r, "cannot remove the cgroup '%s'", path);
                }
        }
        globfree(&found);
        (void)unlinkat(mount->fd, "agentd", AT_REMOVEDIR); /* other agentds' runs may be in it */
}

int uninstall_main(int argc, char *argv[])
{
        static const struct option long_options[] = {{"help", no_argument, NULL, 'h'}, {}};
        struct cgroup_mount mount = {.fd = -1};
        struct datapath_error error = {};
        _cleanup_free_ char *directory = NULL;
        _cleanup_close_ int lock = -1;
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
        /* Without its pins a daemon would enforce until it dies, and tell its users that all is well. */
        r = datapath_lock(directory, &lock);
        if (r == -EBUSY) {
                log_error("a daemon works in '%s'; stop it first", directory);
                return 1;
        }
        /* Every ABI's directory: what an older agentd left is agentd's as well. */
        slash = strrchr(directory, '/');
        *slash = '\0';

        r = cgroup_mount_find(NULL, &mount);
        if (r == 0) {
                runs_end(&mount, directory);
                cgroup_mount_release(&mount);
        }
        r = datapath_uninstall(directory);
        if (r < 0) {
                log_error_errno(r, "cannot remove '%s'", directory);
                return 1;
        }
        return 0;
}
