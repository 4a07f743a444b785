/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The order matters: names of users before the root is gone, the root while CAP_SYS_CHROOT is there, the user while
 * CAP_SETUID is, the filter last, because it forbids all of the above.
 *
 * The root is a directory that was removed after it was opened: it is empty, and nothing can be made in it.
 */
#include "agentd/process/confine.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/log.h"

enum { DESCRIPTORS_MAX = 32768 }; /* four sockets an agent, and those of look-ups */
static const rlim_t memory_max = 2ull << 30;

#if defined(__SANITIZE_ADDRESS__)
#define MEMORY_IS_BOUNDED 0 /* the sanitizer's shadow is terabytes of address space */
#else
#define MEMORY_IS_BOUNDED 1
#endif

int confine_begin(int last_fd)
{
        static const int ignored[] = {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};

        if (syscall(SYS_close_range, last_fd + 1, ~0u, 0) < 0)
                return log_error_errno(-errno, "cannot close inherited descriptors");
        if (prctl(PR_SET_DUMPABLE, 0) < 0)
                return log_error_errno(-errno, "cannot forbid core dumps");
        for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
                signal(ignored[i], SIG_IGN);
        return 0;
}

static int find_user(uid_t *ret_uid, gid_t *ret_gid)
{
        static const char *const names[] = {"agentd", "nobody"};

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                const struct passwd *user = getpwnam(names[i]);

                if (user && user->pw_uid != 0 && user->pw_gid != 0) {
                        *ret_uid = user->pw_uid;
                        *ret_gid = user->pw_gid;
                        return 0;
                }
        }
        return log_error_errno(-ENOENT, "there is no user 'agentd' and no user 'nobody'");
}

static int set_limits(void)
{
        const struct {
                int resource;
                rlim_t value;
        } limits[] = {
                {RLIMIT_CORE, 0},     {RLIMIT_NOFILE, DESCRIPTORS_MAX}, {RLIMIT_NPROC, 0}, {RLIMIT_MEMLOCK, 0},
                {RLIMIT_MSGQUEUE, 0}, {RLIMIT_AS, memory_max},
        };

        for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
                struct rlimit limit = {limits[i].value, limits[i].value}, now;

                if (limits[i].resource == RLIMIT_AS && !MEMORY_IS_BOUNDED)
                        continue;
                /* A container manager may have set a lower one. */
                if (getrlimit(limits[i].resource, &now) == 0 && now.rlim_max < limit.rlim_max)
                        limit.rlim_cur = limit.rlim_max = now.rlim_max;
                if (setrlimit(limits[i].resource, &limit) < 0)
                        return log_error_errno(-errno, "cannot set resource limit %d", limits[i].resource);
        }
        return 0;
}

static int enter_empty_root(void)
{
        static const char *const places[] = {"/run", "/tmp", "/var/tmp", "/dev/shm"};
        _cleanup_close_ int fd = -1;
        int error = -ENOENT;

        for (size_t i = 0; fd < 0 && i < ARRAY_SIZE(places); i++) {
                char path[64];

                snprintf(path, sizeof(path), "%s/agentd-root.XXXXXX", places[i]);
                if (!mkdtemp(path)) {
                        error = -errno;
                        continue;
                }
                fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (fd < 0)
                        error = -errno;
                if (rmdir(path) < 0 && fd >= 0) {
                        error = -errno;
                        close_fd(&fd);
                }
        }
        if (fd < 0)
                return log_error_errno(error, "cannot make an empty directory for a worker's root");
        if (fchdir(fd) < 0 || chroot(".") < 0 || chdir("/") < 0)
                return log_error_errno(-errno, "cannot enter an empty root");
        return 0;
}

static int drop_privileges(uid_t uid, gid_t gid)
{
        /* The bounding set goes while CAP_SETPCAP is there. */
        capng_clear(CAPNG_SELECT_BOTH);
        if (capng_apply(CAPNG_SELECT_BOUNDS) != 0)
                return log_error_errno(-EPERM, "cannot empty the capability bounding set");
        if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
                return log_error_errno(-errno, "cannot become user %u", (unsigned)uid);
        capng_clear(CAPNG_SELECT_ALL);
        if (capng_apply(CAPNG_SELECT_CAPS) != 0 || capng_apply(CAPNG_SELECT_AMBIENT) != 0)
                return log_error_errno(-EPERM, "cannot drop capabilities");
        if (capng_get_caps_process() != 0 || capng_have_capabilities(CAPNG_SELECT_BOTH) != CAPNG_NONE || getuid() == 0)
                return log_error_errno(-EPERM, "capabilities are still there after they were dropped");
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return log_error_errno(-errno, "cannot forbid new privileges");
        /* Both were reset by the change of user (commit_creds() in the kernel). */
        if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
                return log_error_errno(-errno, "cannot forbid core dumps");
        return 0;
}

/*
 * Every other system call is EPERM, and those that only an attacker would try end the process. clone() is not among the
 * allowed: libunbound runs on our loop, in our thread.
 */
static int filter_system_calls(enum confine_role role)
{
        static const int allowed[] = {
                SCMP_SYS(alarm),
                SCMP_SYS(setitimer),
                SCMP_SYS(accept4),
                SCMP_SYS(brk),
                SCMP_SYS(clock_getres),
                SCMP_SYS(clock_gettime),
                SCMP_SYS(clock_nanosleep),
                SCMP_SYS(close),
                SCMP_SYS(dup),
                SCMP_SYS(epoll_create1),
                SCMP_SYS(epoll_ctl),
                SCMP_SYS(epoll_pwait),
                SCMP_SYS(epoll_wait),
                SCMP_SYS(eventfd2),
                SCMP_SYS(exit),
                SCMP_SYS(exit_group),
                SCMP_SYS(fcntl),
                SCMP_SYS(fstat),
                SCMP_SYS(futex),
                SCMP_SYS(getpeername),
                SCMP_SYS(getpid),
                SCMP_SYS(getppid),
                SCMP_SYS(getrandom),
                SCMP_SYS(getsockname),
                SCMP_SYS(getsockopt),
                SCMP_SYS(gettid),
                SCMP_SYS(gettimeofday),
                SCMP_SYS(getuid),
                SCMP_SYS(geteuid),
                SCMP_SYS(lseek),
                SCMP_SYS(madvise),
                SCMP_SYS(mremap),
                SCMP_SYS(munmap),
                SCMP_SYS(nanosleep),
                SCMP_SYS(newfstatat),
                SCMP_SYS(pipe2),
                SCMP_SYS(poll),
                SCMP_SYS(ppoll),
                SCMP_SYS(read),
                SCMP_SYS(readv),
                SCMP_SYS(recvfrom),
                SCMP_SYS(recvmmsg),
                SCMP_SYS(recvmsg),
                SCMP_SYS(restart_syscall),
                SCMP_SYS(rt_sigaction),
                SCMP_SYS(rt_sigprocmask),
                SCMP_SYS(rt_sigreturn),
                SCMP_SYS(sched_yield),
                SCMP_SYS(sendmmsg),
                SCMP_SYS(sendmsg),
                SCMP_SYS(sendto),
                SCMP_SYS(set_robust_list),
                SCMP_SYS(setsockopt),
                SCMP_SYS(shutdown),
                SCMP_SYS(sigaltstack),
                SCMP_SYS(tgkill),
                SCMP_SYS(time),
                SCMP_SYS(uname),
                SCMP_SYS(write),
                SCMP_SYS(writev),
        };
        /* Of who opens connections and listens. */
        static const int opening[] = {SCMP_SYS(bind), SCMP_SYS(connect), SCMP_SYS(listen)};
        static const int deadly[] = {
                SCMP_SYS(execve),
                SCMP_SYS(execveat),
                SCMP_SYS(fork),
                SCMP_SYS(vfork),
                SCMP_SYS(ptrace),
                SCMP_SYS(process_vm_readv),
                SCMP_SYS(process_vm_writev),
                SCMP_SYS(bpf),
                SCMP_SYS(mount),
                SCMP_SYS(umount2),
                SCMP_SYS(pivot_root),
                SCMP_SYS(chroot),
                SCMP_SYS(setns),
                SCMP_SYS(unshare),
                SCMP_SYS(init_module),
                SCMP_SYS(finit_module),
                SCMP_SYS(kexec_load),
                SCMP_SYS(perf_event_open),
                SCMP_SYS(userfaultfd),
                SCMP_SYS(keyctl),
                SCMP_SYS(add_key),
                SCMP_SYS(request_key),
                SCMP_SYS(io_uring_setup),
                SCMP_SYS(setuid),
                SCMP_SYS(setresuid),
                SCMP_SYS(open_by_handle_at),
        };
        static const int domains[] = {AF_INET, AF_INET6};
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
        int r = 0;

        if (!filter)
                return log_error_errno(-ENOMEM, "cannot make a system call filter");
        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(allowed); i++)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(deadly); i++)
                r = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, deadly[i], 0);
        for (size_t i = 0; r == 0 && role == CONFINE_DNS && i < ARRAY_SIZE(opening); i++)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, opening[i], 0);
        for (size_t i = 0; r == 0 && role == CONFINE_DNS && i < ARRAY_SIZE(domains); i++)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                                     SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)domains[i]));
        /* Memory, but no executable memory. */
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, 4, 0));
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, 4, 0));
        /* FIONBIO: libuv's and libunbound's way to make a socket non-blocking; FIONREAD. */
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, 0x5421));
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, 0x541b));
        if (r == 0)
                r = seccomp_load(filter);
        seccomp_release(filter);
        if (r < 0)
                return log_error_errno(r, "cannot load the system call filter");
        return 0;
}

int confine_complete(enum confine_role role)
{
        uid_t uid = 0;
        gid_t gid = 0;
        int r;

        r = find_user(&uid, &gid);
        if (r < 0)
                return r;
        r = set_limits();
        if (r < 0)
                return r;
        r = enter_empty_root();
        if (r < 0)
                return r;
        r = drop_privileges(uid, gid);
        if (r < 0)
                return r;
        return filter_system_calls(role);
}
