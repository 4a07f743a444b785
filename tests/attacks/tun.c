/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets that no socket has sent: what a tun or tap device hands in is forwarded by the agent's own namespace, a BPF
 * test run clones what it is given to a device.
 */
#include "frame.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/if_tun.h>
#include <sys/syscall.h>

static void file_write(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY);

        if (fd < 0 || write(fd, text, strlen(text)) < 0)
                perror(path);
        close(fd);
}

/* A device of this kind that is up, and forwards. */
static int device_open(short flags, struct ifreq *ret_request)
{
        int fd = open("/dev/net/tun", O_RDWR), control = socket(AF_INET, SOCK_DGRAM, 0);
        struct ifreq request = {.ifr_flags = (short)(flags | IFF_NO_PI)};
        char path[128];

        file_write("/proc/sys/net/ipv4/ip_forward", "1");
        file_write("/proc/sys/net/ipv6/conf/all/forwarding", "1");
        file_write("/proc/sys/net/ipv4/conf/all/rp_filter", "0");
        if (fd < 0 || ioctl(fd, TUNSETIFF, &request)) {
                perror("tun");
                return -1;
        }
        snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/rp_filter", request.ifr_name);
        file_write(path, "0");
        snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/accept_local", request.ifr_name);
        file_write(path, "1");
        *ret_request = request;
        if (ioctl(control, SIOCGIFFLAGS, &request) == 0) {
                request.ifr_flags |= IFF_UP | IFF_RUNNING;
                if (ioctl(control, SIOCSIFFLAGS, &request))
                        perror("up");
        }
        close(control);
        return fd;
}

static void tun(const struct target *target)
{
        struct frame frame = {0};
        struct ifreq request;
        struct link link;
        int fd = device_open(IFF_TUN, &request);

        if (fd < 0)
                return;
        link_read(&link);
        /* From a host behind this one. */
        inet_pton(AF_INET, "10.88.0.2", &link.four);
        inet_pton(AF_INET6, "2001:db8:88::2", &link.six);
        frame_udp(&frame, &link, forbidden_of(target));
        if (write(fd, frame.bytes, frame.size) < 0)
                perror("write");
        close(fd);
}

static void tap(const struct target *target)
{
        struct ifreq request;
        struct frame frame;
        struct link link;
        int fd = device_open(IFF_TAP, &request), control = socket(AF_INET, SOCK_DGRAM, 0);

        if (fd < 0)
                return;
        link_read(&link);
        inet_pton(AF_INET, "10.88.0.2", &link.four);
        inet_pton(AF_INET6, "2001:db8:88::2", &link.six);
        if (ioctl(control, SIOCGIFHWADDR, &request))
                perror("address");
        frame_ethernet(&frame, (const uint8_t *)request.ifr_hwaddr.sa_data, link.mac, type_of(target));
        frame_udp(&frame, &link, forbidden_of(target));
        if (write(fd, frame.bytes, frame.size) < 0)
                perror("write");
        close(fd);
        close(control);
}

static int bpf(int command, union bpf_attr *attributes)
{
        return (int)syscall(SYS_bpf, command, attributes, sizeof(*attributes));
}

/* A program that is never attached: bpf_clone_redirect() in a test run does send. */
static void test_run(const struct target *target)
{
        struct frame frame;
        struct link link;
        union bpf_attr attributes = {0};
        int program;

        link_read(&link);
        frame_ethernet(&frame, link.gateway, link.mac, type_of(target));
        frame_udp(&frame, &link, forbidden_of(target));
        struct bpf_insn instructions[] = {
                {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = link.ifindex},
                {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = 0},
                {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_clone_redirect},
                {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0},
                {.code = BPF_JMP | BPF_EXIT},
        };

        attributes.prog_type = BPF_PROG_TYPE_SCHED_CLS;
        attributes.insns = (uintptr_t)instructions;
        attributes.insn_cnt = ARRAY_SIZE(instructions);
        attributes.license = (uintptr_t) "GPL";
        program = bpf(BPF_PROG_LOAD, &attributes);
        if (program < 0) {
                perror("BPF_PROG_LOAD");
                return;
        }
        attributes = (union bpf_attr){.test = {.prog_fd = (uint32_t)program,
                                               .data_in = (uintptr_t)frame.bytes,
                                               .data_size_in = (uint32_t)frame.size,
                                               .repeat = 1}};
        if (bpf(BPF_PROG_TEST_RUN, &attributes))
                perror("BPF_PROG_TEST_RUN");
        close(program);
}

static const struct technique techniques[] = {
        {"tun", tun},
        {"tap", tap},
        {"bpf_test_run", test_run},
        {NULL, NULL},
};

int main(int argc, char **argv)
{
        return technique_main(argc, argv, techniques);
}
