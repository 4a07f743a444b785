/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The child is a stranger in a stranger's cgroup: whoever works there with enough power may freeze, stop or kill it.
 * Then there are no sockets, and nothing is verified. All signals are blocked in it, because its handlers are the
 * daemon's and would tell the daemon. It is born where it works (CLONE_INTO_CGROUP): moving a process costs an RCU
 * grace period. Where that is refused (the limit of processes is reached, a sandbox without clone3), it moves.
 */
#include "agentd/agent/prober.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "agentd/abi_event.h"
#include "agentd/agent/cgroup.h"
#include "agentd/net/netns_sink.h"
#include "agentd/util/macro.h"

enum { CHILD_DIRECTORY_TRIES = 8, ANSWERS_MAX = 8, CHILD_END_MS = 20, LINGERING_MAX = 64 };

static const struct {
        int family, protocol;
} wanted[PROBE_SOCKETS] = {
        {AF_INET, IPPROTO_UDP},
        {AF_INET, IPPROTO_ICMP},
        {AF_INET6, IPPROTO_UDP},
        {AF_INET6, IPPROTO_ICMPV6},
};

static const struct {
        size_t socket;
        enum hook hook;
} kinds[PROBE_MAX] = {
        [PROBE_CONNECT4] = {0, HOOK_CONNECT4}, [PROBE_SENDMSG4] = {0, HOOK_SENDMSG4},
        [PROBE_PACKET4] = {1, HOOK_EGRESS},    [PROBE_CONNECT6] = {2, HOOK_CONNECT6},
        [PROBE_SENDMSG6] = {2, HOOK_SENDMSG6}, [PROBE_PACKET6] = {3, HOOK_EGRESS},
};

int prober_new(int *ret_netns_fd)
{
        return netns_sink_new(ret_netns_fd);
}

/* --- the child ---------------------------------------------------------------------------------------------------- */

/* What a child is sent for. */
struct errand {
        int netns_fd;
        int protocol; /* of FAMILY_PROBE; 0: the sockets */
        int timeout_ms;
};

struct handover {
        int errors[PROBE_SOCKETS]; /* 0, or -errno */
};

union control {
        char buffer[CMSG_SPACE(sizeof(int) * PROBE_SOCKETS)];
        struct cmsghdr header;
};

static int hand_over(int channel, const struct handover *handover, const int *fds, size_t n)
{
        struct iovec vector = {.iov_base = (void *)handover, .iov_len = sizeof(*handover)};
        union control control = {};
        struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};

        if (n > 0) {
                message.msg_control = &control;
                message.msg_controllen = CMSG_SPACE(sizeof(int) * n);
                control.header.cmsg_level = SOL_SOCKET;
                control.header.cmsg_type = SCM_RIGHTS;
                control.header.cmsg_len = CMSG_LEN(sizeof(int) * n);
                memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * n);
        }
        return sendmsg(channel, &message, MSG_NOSIGNAL) == (ssize_t)sizeof(*handover) ? 0 : -EIO;
}

/* Nothing but system calls. */
static _Noreturn void child_work(int channel, const struct errand *errand, int cgroup_fd)
{
        struct handover handover = {};
        int fds[PROBE_SOCKETS];
        size_t n = 0;
        int r = 0;

        if (cgroup_fd >= 0)
                r = cgroup_move(cgroup_fd, 0);
        if (r == 0 && setns(errand->netns_fd, CLONE_NEWNET) < 0)
                r = -errno;
        if (r == 0 && errand->protocol)
                r = socket(FAMILY_PROBE, SOCK_DGRAM | SOCK_CLOEXEC, errand->protocol) < 0 ? -errno : -EAFNOSUPPORT;
        for (size_t i = 0; i < PROBE_SOCKETS; i++) {
                int fd;

                handover.errors[i] = r;
                if (r < 0)
                        continue;
                fd = socket(wanted[i].family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, wanted[i].protocol);
                if (fd < 0)
                        handover.errors[i] = -errno;
                else
                        fds[n++] = fd;
        }
        _exit(hand_over(channel, &handover, fds, n) < 0);
}

/* --- its parent --------------------------------------------------------------------------------------------------- */

/* cgroup_fd: where it is born; -1: here. */
static pid_t child_fork(int cgroup_fd, int *ret_pidfd)
{
        struct clone_args arguments = {
                .flags = CLONE_PIDFD | (cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
                .pidfd = (__u64)(unsigned long)ret_pidfd,
                .exit_signal = SIGCHLD,
                .cgroup = cgroup_fd >= 0 ? (__u64)cgroup_fd : 0,
        };

        return (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
}

/* A system call filter that cannot see clone3's flags says that it does not exist. */
static pid_t child_fork_plainly(int *ret_pidfd)
{
        pid_t pid = fork();

        if (pid > 0) {
                *ret_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
                if (*ret_pidfd < 0) {
                        (void)kill(pid, SIGKILL);
                        (void)waitpid(pid, NULL, 0);
                        return -1;
                }
        }
        return pid;
}

static int take_over(int channel, const struct errand *errand, struct probe_sockets *ret)
{
        struct pollfd item = {.fd = channel, .events = POLLIN};
        struct handover handover = {};
        struct iovec vector = {.iov_base = &handover, .iov_len = sizeof(handover)};
        union control control = {};
        struct msghdr message = {
                .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.buffer)};
        int fds[PROBE_SOCKETS] = {-1, -1, -1, -1}, error = 0, r;
        size_t n = 0, taken = 0;
        ssize_t length;

        do
                r = poll(&item, 1, errand->timeout_ms);
        while (r < 0 && errno == EINTR);
        if (r <= 0)
                return r < 0 ? -errno : -ETIMEDOUT;
        length = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
        if (length < 0)
                return -errno;
        if (message.msg_controllen >= sizeof(control.header) && control.header.cmsg_type == SCM_RIGHTS) {
                n = MIN((control.header.cmsg_len - CMSG_LEN(0)) / sizeof(int), (size_t)PROBE_SOCKETS);
                memcpy(fds, CMSG_DATA(&control.header), n * sizeof(int));
        }
        /* It has died. */
        if (length != (ssize_t)sizeof(handover))
                error = -ECHILD;
        if (error == 0 && errand->protocol)
                return handover.errors[0] < 0 ? handover.errors[0] : -EBADMSG;
        for (size_t i = 0; i < PROBE_SOCKETS && error == 0; i++) {
                if (handover.errors[i] == 0 && taken < n)
                        ret->fds[i] = TAKE_FD(fds[taken++]);
                else if (wanted[i].family == AF_INET6 &&
                         (handover.errors[i] == -EAFNOSUPPORT || handover.errors[i] == -EPROTONOSUPPORT))
                        continue;
                else
                        error = handover.errors[i] < 0 ? handover.errors[i] : -EBADMSG;
        }
        for (size_t i = 0; i < PROBE_SOCKETS; i++)
                close_fd(&fds[i]);
        return error;
}

static int cookies_read(struct probe_sockets *sockets)
{
        for (size_t i = 0; i < PROBE_SOCKETS; i++) {
                socklen_t length = sizeof(sockets->cookies[i]);

                if (sockets->fds[i] >= 0 &&
                    getsockopt(sockets->fds[i], SOL_SOCKET, SO_COOKIE, &sockets->cookies[i], &length) < 0)
                        return -errno;
        }
        return 0;
}

/*
 * Killed is not gone: a cgroup that has no time left to run (cpu.max, or a thousand of its own processes) lets a child
 * die when it pleases, and the daemon does not wait for that. Those that linger are waited for by and by.
 */
static pid_t lingering[LINGERING_MAX];

static bool child_is_gone(pid_t pid)
{
        siginfo_t info = {};

        return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG) < 0 ? errno == ECHILD : info.si_pid == pid;
}

/* A place for one that may linger; NULL: there are too many. */
static pid_t *lingering_place(void)
{
        pid_t *place = NULL;

        for (size_t i = 0; i < LINGERING_MAX; i++) {
                if (lingering[i] && child_is_gone(lingering[i]))
                        lingering[i] = 0;
                if (!lingering[i] && !place)
                        place = &lingering[i];
        }
        return place;
}

static void child_end(pid_t pid, int pidfd, pid_t *place)
{
        struct pollfd item = {.fd = pidfd, .events = POLLIN};

        (void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
        while (poll(&item, 1, CHILD_END_MS) < 0 && errno == EINTR)
                ;
        if (!child_is_gone(pid))
                *place = pid;
}

static int child_run(const struct errand *errand, int cgroup_fd, bool born, struct probe_sockets *ret)
{
        _cleanup_close_ int ours = -1, theirs = -1, pidfd = -1;
        sigset_t all, before;
        int channel[2], r;
        pid_t pid, *place = lingering_place();

        if (!place)
                return -ETIMEDOUT;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) < 0)
                return -errno;
        ours = channel[0];
        theirs = channel[1];

        (void)sigfillset(&all);
        (void)sigprocmask(SIG_SETMASK, &all, &before);
        pid = child_fork(born ? cgroup_fd : -1, &pidfd);
        if (pid < 0 && errno == ENOSYS && !born)
                pid = child_fork_plainly(&pidfd);
        if (pid == 0)
                child_work(theirs, errand, born ? -1 : cgroup_fd);
        r = pid < 0 ? -errno : 0;
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        if (r < 0)
                return r;

        close_fd(&theirs);
        r = take_over(ours, errand, ret);
        child_end(pid, pidfd, place); /* it has nothing more to do, if it still can */
        return r;
}

static int enter(const struct errand *errand, int cgroup_fd, struct probe_sockets *ret)
{
        int r = child_run(errand, cgroup_fd, true, ret);

        if (r != -EAGAIN && r != -ENOSYS && r != -EACCES)
                return r;
        probe_sockets_close(ret);
        return child_run(errand, cgroup_fd, false, ret);
}

/*
 * A cgroup that hands controllers on to its children may have no processes: a child of our own then, for a moment. Its
 * sockets are under the programs of all that is above it, also when it is gone.
 */
static int enter_below(const struct errand *errand, int cgroup_fd, struct probe_sockets *ret)
{
        _cleanup_close_ int fd = -1;
        char name[48];
        int r = -EEXIST;

        for (int i = 0; i < CHILD_DIRECTORY_TRIES && r == -EEXIST; i++) {
                (void)snprintf(name, sizeof(name), "agentd-probe-%d-%d", (int)getpid(), i);
                (void)unlinkat(cgroup_fd, name, AT_REMOVEDIR); /* where a child has lingered */
                r = mkdirat(cgroup_fd, name, 0700) < 0 ? -errno : 0;
        }
        if (r < 0)
                return r;
        fd = openat(cgroup_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = fd < 0 ? -errno : enter(errand, fd, ret);
        if (unlinkat(cgroup_fd, name, AT_REMOVEDIR) < 0 && r == 0)
                r = -errno;
        return r;
}

static int enter_somehow(const struct errand *errand, int cgroup_fd, struct probe_sockets *ret)
{
        bool frozen = false;
        int r;

        *ret = PROBE_SOCKETS_NONE;
        (void)cgroup_frozen(cgroup_fd, &frozen);
        if (frozen)
                return -EAGAIN;
        r = enter(errand, cgroup_fd, ret);
        if (r == -EBUSY || r == -EOPNOTSUPP)
                r = enter_below(errand, cgroup_fd, ret);
        return r == -EAGAIN ? -ECHILD : r;
}

int prober_open(int netns_fd, int cgroup_fd, int timeout_ms, struct probe_sockets *ret)
{
        const struct errand errand = {.netns_fd = netns_fd, .timeout_ms = timeout_ms};
        int r = enter_somehow(&errand, cgroup_fd, ret);

        if (r == 0)
                r = cookies_read(ret);
        if (r < 0)
                probe_sockets_close(ret);
        return r;
}

int prober_family(int netns_fd, int cgroup_fd, int protocol, int timeout_ms)
{
        const struct errand errand = {.netns_fd = netns_fd, .protocol = protocol, .timeout_ms = timeout_ms};
        struct probe_sockets none;
        int r = enter_somehow(&errand, cgroup_fd, &none);

        return r == -EAFNOSUPPORT ? 0 : r;
}

void probe_sockets_close(struct probe_sockets *sockets)
{
        for (size_t i = 0; i < PROBE_SOCKETS; i++) {
                close_fd(&sockets->fds[i]);
                sockets->cookies[i] = 0;
        }
}

/* --- a try -------------------------------------------------------------------------------------------------------- */

bool probe_kind_is_ipv4(enum probe_kind kind)
{
        return kind < PROBE_CONNECT6;
}

enum hook probe_kind_hook(enum probe_kind kind)
{
        return kinds[kind].hook;
}

bool probe_is_possible(const struct probe_sockets *sockets, enum probe_kind kind)
{
        return sockets->fds[kinds[kind].socket] >= 0;
}

__u64 probe_cookie(const struct probe_sockets *sockets, enum probe_kind kind)
{
        return sockets->cookies[kinds[kind].socket];
}

static socklen_t socket_address(enum probe_kind kind, const struct address *destination, struct sockaddr_storage *ret)
{
        __u16 port = kinds[kind].hook == HOOK_EGRESS ? 0 : PROBE_PORT;

        memset(ret, 0, sizeof(*ret));
        if (probe_kind_is_ipv4(kind)) {
                struct sockaddr_in *in = (struct sockaddr_in *)ret;

                in->sin_family = AF_INET;
                in->sin_port = htons(port);
                memcpy(&in->sin_addr, destination->bytes + 12, 4);
                return sizeof(*in);
        }

        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        memcpy(&in6->sin6_addr, destination->bytes, 16);
        return sizeof(*in6);
}

bool probe_came_back(const struct probe_sockets *sockets, enum probe_kind kind)
{
        int fd = sockets->fds[kinds[kind].socket], error;
        socklen_t length = sizeof(error);
        char waste[256];
        bool came = false;

        (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
        for (int i = 0; i < ANSWERS_MAX && recv(fd, waste, sizeof(waste), MSG_DONTWAIT) >= 0; i++)
                came = true;
        return came;
}

int probe_send(const struct probe_sockets *sockets, enum probe_kind kind, const struct address *destination)
{
        static const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
        __u8 echo[sizeof(struct icmp6_hdr)] = {probe_kind_is_ipv4(kind) ? ICMP_ECHO : ICMP6_ECHO_REQUEST};
        int fd = sockets->fds[kinds[kind].socket], r;
        struct sockaddr_storage to;
        socklen_t length = socket_address(kind, destination, &to);

        switch (kinds[kind].hook) {
        case HOOK_CONNECT4:
        case HOOK_CONNECT6:
                r = connect(fd, (struct sockaddr *)&to, length) < 0 ? -errno : 0;
                if (r == 0)
                        (void)connect(fd, &nobody, sizeof(nobody));
                break;
        case HOOK_EGRESS:
                r = sendto(fd, echo, sizeof(echo), MSG_DONTWAIT, (struct sockaddr *)&to, length) < 0 ? -errno : 0;
                break;
        default:
                r = sendto(fd, "", 0, MSG_DONTWAIT, (struct sockaddr *)&to, length) < 0 ? -errno : 0;
                break;
        }
        return r;
}
