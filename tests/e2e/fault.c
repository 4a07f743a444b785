/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A preloaded library for tests: faults in the daemon that nothing outside of it could make. Each is there while the
 * file of its name is in the directory $AGENTD_TEST_FAULTS.
 *
 *     killed     a child that works in an agent's cgroup is killed before it has done anything
 *     stopped    it is stopped
 *     undead     and what should kill it does not
 *     misplaced  links for outgoing packets land on the cgroup whose path stands in the file, and say they did not
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pid_t daemon_pid;
static __u64 pretended_id;

__attribute__((constructor)) static void remember(void)
{
        daemon_pid = getpid();
}

static int fault(const char *name, char *content, size_t size)
{
        const char *directory = getenv("AGENTD_TEST_FAULTS");
        char path[4096];
        ssize_t n = 0;
        int fd;

        if (!directory)
                return 0;
        (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return 0;
        if (content) {
                n = read(fd, content, size - 1);
                content[n > 0 ? n : 0] = '\0';
                content[strcspn(content, "\n")] = '\0';
        }
        close(fd);
        return 1;
}

int setns(int fd, int type)
{
        static int (*real)(int, int);

        if (!real)
                *(void **)&real = dlsym(RTLD_NEXT, "setns");
        if (getpid() != daemon_pid && fault("killed", NULL, 0))
                (void)kill(getpid(), SIGKILL);
        if (getpid() != daemon_pid && fault("stopped", NULL, 0))
                (void)kill(getpid(), SIGSTOP);
        return real(fd, type);
}

long syscall(long number, ...)
{
        static long (*real)(long, ...);
        union bpf_attr *attributes, changed;
        char path[4096];
        long a[6], r;
        va_list list;
        struct stat status;
        int fd;

        if (!real)
                *(void **)&real = dlsym(RTLD_NEXT, "syscall");
        va_start(list, number);
        for (size_t i = 0; i < 6; i++)
                a[i] = va_arg(list, long);
        va_end(list);
        attributes = (union bpf_attr *)a[1];

        if (number == __NR_pidfd_send_signal && fault("undead", NULL, 0))
                return 0;
        if (number == __NR_bpf && a[0] == BPF_LINK_CREATE &&
            attributes->link_create.attach_type == BPF_CGROUP_INET_EGRESS && fault("misplaced", path, sizeof(path))) {
                if (fstat((int)attributes->link_create.target_fd, &status) < 0)
                        return -1;
                pretended_id = status.st_ino;
                fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (fd < 0)
                        return -1;
                memcpy(&changed, attributes, (size_t)a[2]);
                changed.link_create.target_fd = (__u32)fd;
                r = real(number, a[0], (long)&changed, a[2], a[3], a[4], a[5]);
                close(fd);
                return r;
        }
        r = real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (number == __NR_bpf && a[0] == BPF_OBJ_GET_INFO_BY_FD && r == 0 && pretended_id) {
                struct bpf_link_info *info = (struct bpf_link_info *)(unsigned long)attributes->info.info;

                if (attributes->info.info_len >= 32 && info->type == BPF_LINK_TYPE_CGROUP &&
                    info->cgroup.attach_type == BPF_CGROUP_INET_EGRESS)
                        info->cgroup.cgroup_id = pretended_id;
        }
        return r;
}
