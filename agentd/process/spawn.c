/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * fork and exec. Between them only async-signal-safe calls: the monitor may have threads.
 */
#include "agentd/process/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

enum { WORKER_FD = 3, SEND_BUFFER = 1 << 20 };

/* Nothing of the monitor's environment steers a library in the worker (OPENSSL_CONF, SSL_CERT_FILE, ...). */
static const char *const kept_variables[] = {"JOURNAL_STREAM", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"};

static void child_run(const char *program, const char *role, int fd, pid_t parent, char *const environment[])
        __attribute__((noreturn));

static void child_run(const char *program, const char *role, int fd, pid_t parent, char *const environment[])
{
        char *const arguments[] = {(char *)"agentd", (char *)role, NULL};
        struct sigaction by_default = {.sa_handler = SIG_DFL};
        sigset_t none;
        int null_fd;

        /* The status is the errno, as it is of the worker's own failures. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                _exit(ESRCH);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        for (int i = 1; i < NSIG; i++)
                sigaction(i, &by_default, NULL);

        null_fd = open("/dev/null", O_RDWR);
        if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(null_fd, STDOUT_FILENO) < 0)
                _exit(errno);
        if (fcntl(STDERR_FILENO, F_GETFD) < 0 && dup2(null_fd, STDERR_FILENO) < 0)
                _exit(errno);
        /* dup2() onto itself would keep CLOEXEC. */
        if (fd == WORKER_FD ? fcntl(fd, F_SETFD, 0) < 0 : dup2(fd, WORKER_FD) < 0)
                _exit(errno);
        syscall(SYS_close_range, WORKER_FD + 1, ~0u, CLOSE_RANGE_CLOEXEC);
        execve(program, arguments, environment);
        _exit(errno);
}

int process_start(const char *program, const char *role, pid_t *ret_pid, int *ret_fd)
{
        char *environment[ARRAY_SIZE(kept_variables) + 1] = {NULL};
        char texts[ARRAY_SIZE(kept_variables)][512];
        size_t n_variables = 0;
        _cleanup_close_ int own = -1;
        _cleanup_close_ int theirs = -1;
        const int size = SEND_BUFFER;
        pid_t parent = getpid(), pid;
        int pair[2];

        for (size_t i = 0; i < ARRAY_SIZE(kept_variables); i++) {
                const char *value = getenv(kept_variables[i]);

                if (!value ||
                    snprintf(texts[i], sizeof(texts[i]), "%s=%s", kept_variables[i], value) >= (int)sizeof(texts[i]))
                        continue;
                environment[n_variables++] = texts[i];
        }
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
                return log_error_errno(-errno, "cannot make a socketpair for the %s", role);
        own = pair[0];
        theirs = pair[1];
        /* Room for a burst; without it messages wait in our own queue: ignoring. */
        (void)setsockopt(own, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        (void)setsockopt(theirs, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));

        pid = fork();
        if (pid < 0)
                return log_error_errno(-errno, "cannot fork the %s", role);
        if (pid == 0)
                child_run(program, role, theirs, parent, environment);
        *ret_pid = pid;
        *ret_fd = TAKE_FD(own);
        return 0;
}

int process_end(pid_t pid)
{
        int status = 0;

        kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return 0;
        return status;
}
