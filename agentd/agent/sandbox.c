/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * By the names that runsc gives its two processes, `runsc-sandbox` (the kernel) and `runsc-gofer` (its files), and the
 * program that they run.
 */
#include "agentd/agent/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

enum { ARGUMENTS_BYTES = 4096 };

static bool runs_runsc(const char *root, pid_t pid)
{
        char link[PATH_MAX], exe[PATH_MAX];
        const char *name;
        ssize_t length;

        (void)snprintf(link, sizeof(link), "%s/proc/%d/exe", root, (int)pid);
        length = readlink(link, exe, sizeof(exe) - 1);
        if (length <= 0)
                return false;
        exe[length] = '\0';
        name = strrchr(exe, '/') ? strrchr(exe, '/') + 1 : exe;
        /* An update may have removed the file: "runsc (deleted)". */
        return strncmp(name, "runsc", 5) == 0 && (name[5] == '\0' || name[5] == ' ');
}

/* The arguments, each with its NUL; what does not fit is cut. Bytes read, 0: none. */
static size_t arguments_read(const char *root, pid_t pid, char buffer[static ARGUMENTS_BYTES])
{
        _cleanup_close_ int fd = -1;
        char path[PATH_MAX];
        size_t used = 0;

        (void)snprintf(path, sizeof(path), "%s/proc/%d/cmdline", root, (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        while (fd >= 0 && used < ARGUMENTS_BYTES - 1) {
                ssize_t n = read(fd, buffer + used, ARGUMENTS_BYTES - 1 - used);

                if (n <= 0)
                        break;
                used += (size_t)n;
        }
        buffer[used] = '\0';
        return used;
}

static enum sandbox_kind network_of(const char *arguments, size_t size)
{
        static const char *const options[] = {"--network=", "-network="};

        for (const char *argument = arguments; argument < arguments + size; argument += strlen(argument) + 1) {
                for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
                        const char *value = argument + strlen(options[i]);

                        if (strncmp(argument, options[i], strlen(options[i])) != 0)
                                continue;
                        return strcmp(value, "host") == 0   ? SANDBOX_GVISOR_HOST
                               : strcmp(value, "none") == 0 ? SANDBOX_GVISOR_LOOP
                                                            : SANDBOX_GVISOR_OWN;
                }
        }
        return SANDBOX_GVISOR_OWN; /* runsc's default */
}

enum sandbox_kind sandbox_recognise(const char *root, const pid_t *pids, size_t n_pids)
{
        enum sandbox_kind kind = SANDBOX_UNKNOWN;
        char arguments[ARGUMENTS_BYTES];

        for (size_t i = 0; i < MIN(n_pids, (size_t)SANDBOX_PIDS_MAX); i++) {
                size_t size = arguments_read(root, pids[i], arguments);

                if (size == 0)
                        continue;
                if (kind == SANDBOX_UNKNOWN)
                        kind = SANDBOX_NONE;
                if ((strcmp(arguments, "runsc-sandbox") == 0 || strcmp(arguments, "runsc-gofer") == 0) &&
                    runs_runsc(root, pids[i]))
                        return network_of(arguments, size);
        }
        return kind;
}

const char *sandbox_runtime(enum sandbox_kind kind)
{
        switch (kind) {
        case SANDBOX_GVISOR_OWN:
        case SANDBOX_GVISOR_HOST:
        case SANDBOX_GVISOR_LOOP:
                return "gvisor";
        case SANDBOX_NONE:
                return "linux";
        case SANDBOX_UNKNOWN:
                break;
        }
        return NULL;
}

const char *sandbox_detail(enum sandbox_kind kind)
{
        switch (kind) {
        case SANDBOX_GVISOR_OWN:
                return "its own network stack: tiers 1 and 2 see none of its packets, tier 3 must; look-ups are not "
                       "answered by agentd";
        case SANDBOX_GVISOR_HOST:
                return "--network=host: tiers 1 and 2 see its packets, as the sandbox's own; which program inside sent "
                       "them is not known";
        case SANDBOX_GVISOR_LOOP:
                return "--network=none: no packet leaves the sandbox";
        case SANDBOX_NONE:
        case SANDBOX_UNKNOWN:
                break;
        }
        return "";
}
