/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A fault for tests to find: loaded before agentd (LD_PRELOAD), it makes the egress program's link on an empty cgroup beside
 * the one that was meant. Each call succeeds, the link is there, and no packet meets it. What vmtest holds against the
 * kernels is worth something only if it fails with this one. Nothing of it is in the product.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int empty_cgroup(void)
{
        const char *root = getenv("FAULTY_CGROUP");
        int fd;

        if (!root || (mkdir(root, 0755) < 0 && errno != EEXIST))
                return -1;
        fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd;
}

long syscall(long number, ...)
{
        static long (*next)(long, ...);
        long words[6];
        va_list list;

        va_start(list, number);
        for (int i = 0; i < 6; i++)
                words[i] = va_arg(list, long);
        va_end(list);
        if (!next)
                next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");

        if (number == SYS_bpf && words[0] == BPF_LINK_CREATE) {
                union bpf_attr *attr = (union bpf_attr *)words[1];

                if (attr->link_create.attach_type == BPF_CGROUP_INET_EGRESS) {
                        int fd = empty_cgroup(), meant = (int)attr->link_create.target_fd;
                        long result;

                        if (fd < 0)
                                abort();
                        attr->link_create.target_fd = (__u32)fd;
                        result = next(number, words[0], words[1], words[2], 0L, 0L, 0L);
                        attr->link_create.target_fd = (__u32)meant;
                        close(fd);
                        return result;
                }
        }
        return next(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}
