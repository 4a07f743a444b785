/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Between fork and exec: the child moves itself into the cgroup while it still may, waits for the word that enforcement
 * holds, gives up what it must, and becomes the command. Its sockets are all made after that, in the agent's cgroup.
 */
#include "agentd/run_child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#include "agentd/agent/cgroup.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

struct run_user {
        uid_t uid;
        gid_t gid;
        char *name;
        char *home;
};

int run_user_find(const char *user, struct run_user **ret)
{
        struct passwd *found;
        struct run_user *result;
        char *end;
        unsigned long uid;

        errno = 0;
        found = getpwnam(user);
        if (!found) {
                uid = strtoul(user, &end, 10);
                if (*user && !*end && uid <= 0xfffffffeul)
                        found = getpwuid((uid_t)uid);
        }
        if (!found)
                return errno ? -errno : -ENOENT;
        result = calloc(1, sizeof(*result));
        if (!result)
                return -ENOMEM;
        result->uid = found->pw_uid;
        result->gid = found->pw_gid;
        result->name = strdup(found->pw_name);
        result->home = strdup(found->pw_dir);
        if (!result->name || !result->home) {
                run_user_free(result);
                return -ENOMEM;
        }
        *ret = result;
        return 0;
}

void run_user_free(struct run_user *user)
{
        if (!user)
                return;
        free(user->name);
        free(user->home);
        free(user);
}

static int become(const struct run_user *user)
{
        if (initgroups(user->name, user->gid) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
            setresuid(user->uid, user->uid, user->uid) < 0)
                return -errno;
        if (setenv("HOME", user->home, 1) < 0 || setenv("USER", user->name, 1) < 0 ||
            setenv("LOGNAME", user->name, 1) < 0)
                return -errno;
        return 0;
}

static void child_fail(int error_fd, int r)
{
        int error = -r;

        if (write(error_fd, &error, sizeof(error)) < 0)
                _exit(125);
        _exit(125);
}

static void child_main(int cgroup_fd, const struct run_user *user, char *const argv[], int gate_fd, int error_fd)
        __attribute__((noreturn));
static void child_main(int cgroup_fd, const struct run_user *user, char *const argv[], int gate_fd, int error_fd)
{
        sigset_t none;
        char byte;
        int r;

        /* If agentd dies before the gate opens, read() ends and so do we. */
        r = cgroup_move(cgroup_fd, 0);
        if (r < 0)
                child_fail(error_fd, r);
        if (read(gate_fd, &byte, 1) != 1)
                _exit(125);

        for (int signal_number = 1; signal_number < NSIG; signal_number++)
                (void)signal(signal_number, SIG_DFL);
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        if (user) {
                r = become(user);
                if (r < 0)
                        child_fail(error_fd, r);
        }
        execvp(argv[0], argv);
        child_fail(error_fd, -errno);
        _exit(125);
}

int run_child_start(int cgroup_fd, const struct run_user *user, char *const argv[], struct run_child *ret)
{
        int gate[2], error[2];
        pid_t pid;

        if (pipe2(gate, O_CLOEXEC) < 0)
                return -errno;
        if (pipe2(error, O_CLOEXEC) < 0) {
                int r = -errno;

                close(gate[0]);
                close(gate[1]);
                return r;
        }
        pid = fork();
        if (pid == 0) {
                close(gate[1]);
                close(error[0]);
                child_main(cgroup_fd, user, argv, gate[0], error[1]);
        }
        close(gate[0]);
        close(error[1]);
        if (pid < 0) {
                int r = -errno;

                close(gate[1]);
                close(error[0]);
                return r;
        }
        *ret = (struct run_child){.pid = pid, .gate_fd = gate[1], .error_fd = error[0]};
        return 0;
}

int run_child_release(struct run_child *child)
{
        int error = 0;
        ssize_t n;

        if (write(child->gate_fd, "", 1) != 1)
                return -EPIPE;
        close_fd(&child->gate_fd);
        do
                n = read(child->error_fd, &error, sizeof(error));
        while (n < 0 && errno == EINTR);
        close_fd(&child->error_fd);
        return n == sizeof(error) && error > 0 ? -error : 0;
}

void run_child_clear(struct run_child *child)
{
        close_fd(&child->gate_fd);
        close_fd(&child->error_fd);
}
