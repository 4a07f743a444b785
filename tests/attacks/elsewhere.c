/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Other cgroups and other processes' sockets: below the agent's cgroup, beside and above it, handed over, taken,
 * inherited.
 *
 * `elsewhere lend` is the helper outside: no agent, in the agent's network namespace, generous. It listens at an
 * abstract address and does what it is asked: passes a socket, lets one be taken from it, or starts a child with a
 * socket that moves into the asker's cgroup.
 */
#include "technique.h"

#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

struct request {
        char what; /* p: pass a socket; t: let it be taken; i: inherit it */
        int family, type, protocol;
        struct target target;
};

static void send_datagram(int fd, const struct target *target)
{
        if (sendto(fd, payload, sizeof(payload), MSG_NOSIGNAL, forbidden_of(target), target->size) < 0)
                perror("sendto");
}

static void send_new(const struct target *target)
{
        int fd = open_socket(target->family, SOCK_DGRAM, 0);

        send_datagram(fd, target);
        close(fd);
}

/* --- cgroups ------------------------------------------------------------------------------------------------------ */

static const char *root(void)
{
        const char *directory = getenv("CGROUP_ROOT");

        return directory ? directory : "/sys/fs/cgroup";
}

/* The cgroup of a process, as a directory. */
static void cgroup_of(pid_t pid, char *ret_path, size_t size)
{
        char path[64], line[4096];
        FILE *file;

        snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
        snprintf(ret_path, size, "%s", root());
        file = fopen(path, "r");
        while (file && fgets(line, sizeof(line), file))
                if (!strncmp(line, "0::", 3)) {
                        line[strcspn(line, "\n")] = '\0';
                        snprintf(ret_path, size, "%s%s", root(), line + 3);
                }
        if (file)
                fclose(file);
}

static bool file_write(const char *directory, const char *name, const char *text)
{
        char path[4400];
        bool written;
        int fd;

        snprintf(path, sizeof(path), "%s/%s", directory, name);
        fd = open(path, O_WRONLY);
        written = fd >= 0 && write(fd, text, strlen(text)) > 0;
        if (!written)
                perror(path);
        close(fd);
        return written;
}

/* In a child, which ends there. Who cannot go there sends nothing: that would be another technique. */
static void send_from(const struct target *target, const char *directory)
{
        pid_t child = fork();

        if (child == 0) {
                if (file_write(directory, "cgroup.procs", "0"))
                        send_new(target);
                _exit(0);
        }
        waitpid(child, NULL, 0);
}

static void child_of(char *ret_path, size_t size)
{
        char own[4096];

        cgroup_of(getpid(), own, sizeof(own));
        snprintf(ret_path, size, "%s/below%d", own, getpid());
        if (mkdir(ret_path, 0755))
                perror(ret_path);
}

static void child_cgroup(const struct target *target)
{
        char path[4200];

        child_of(path, sizeof(path));
        send_from(target, path);
        rmdir(path);
}

struct thread_argument {
        const struct target *target;
        char path[4200];
};

static void *thread_send(void *data)
{
        struct thread_argument *argument = data;
        char id[16];

        snprintf(id, sizeof(id), "%d", (int)syscall(SYS_gettid));
        if (file_write(argument->path, "cgroup.type", "threaded") && file_write(argument->path, "cgroup.threads", id))
                send_new(argument->target);
        return NULL;
}

static void threaded_cgroup(const struct target *target)
{
        struct thread_argument argument = {.target = target};
        pthread_t thread;

        child_of(argument.path, sizeof(argument.path));
        if (pthread_create(&thread, NULL, thread_send, &argument) == 0)
                pthread_join(thread, NULL);
        /* A thread that was joined may still be on its way out of its cgroup. */
        for (int i = 0; rmdir(argument.path) && errno == EBUSY && i < 1000; i++)
                sched_yield();
}

static void parent_cgroup(const struct target *target)
{
        char path[4096];

        cgroup_of(getpid(), path, sizeof(path));
        *strrchr(path, '/') = '\0';
        send_from(target, path);
}

static void sibling_cgroup(const struct target *target)
{
        char path[4096], sibling[4200];

        cgroup_of(getpid(), path, sizeof(path));
        *strrchr(path, '/') = '\0';
        snprintf(sibling, sizeof(sibling), "%s/beside%d", path, getpid());
        mkdir(sibling, 0755);
        send_from(target, sibling);
        rmdir(sibling);
}

static void root_cgroup(const struct target *target)
{
        send_from(target, root());
}

static void cgroup_namespace(const struct target *target)
{
        if (unshare(CLONE_NEWCGROUP))
                perror("unshare");
        else
                send_new(target);
}

/* The socket stays in the old network namespace, its process does not. */
static void user_namespace(const struct target *target)
{
        int fd = open_socket(target->family, SOCK_DGRAM, 0);

        if (unshare(CLONE_NEWUSER | CLONE_NEWNET))
                perror("unshare");
        else
                send_datagram(fd, target);
        close(fd);
}

/* Full of capabilities, in a namespace of one's own: the network's owner is another. */
static void user_namespace_raw(const struct target *target)
{
        int fd;

        if (unshare(CLONE_NEWUSER))
                perror("unshare");
        fd = open_socket(target->family, SOCK_RAW, IPPROTO_RAW);
        send_datagram(fd, target);
        close(fd);
}

/* --- sockets of others -------------------------------------------------------------------------------------------- */

static struct sockaddr_un lender_address(socklen_t *ret_size)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0attack-lender"};

        *ret_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 14);
        return address;
}

/* Asks the lender; the connection, which ends when it is done. */
static int ask(const struct target *target, char what, int family, int type, int protocol)
{
        struct request request = {
                .what = what, .family = family, .type = type, .protocol = protocol, .target = *target};
        socklen_t size;
        struct sockaddr_un address = lender_address(&size);
        int fd = open_socket(AF_UNIX, SOCK_SEQPACKET, 0);

        if (connect(fd, (struct sockaddr *)&address, size) || send(fd, &request, sizeof(request), 0) < 0)
                perror("lender");
        return fd;
}

static int borrow(const struct target *target, int family, int type, int protocol)
{
        char byte, control[CMSG_SPACE(sizeof(int))] = {0};
        struct iovec part = {&byte, 1};
        struct msghdr message = {
                .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
        int at = ask(target, 'p', family, type, protocol), fd = -1;

        if (recvmsg(at, &message, 0) > 0 && CMSG_FIRSTHDR(&message))
                memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
        else
                perror("recvmsg");
        close(at);
        return fd;
}

static void passed(const struct target *target)
{
        int fd = borrow(target, target->family, SOCK_DGRAM, 0);

        send_datagram(fd, target);
        close(fd);
}

static void passed_stream(const struct target *target)
{
        int fd = borrow(target, target->family, SOCK_STREAM, 0);

        if (connect(fd, forbidden_of(target), target->size))
                perror("connect");
        close(fd);
}

static void passed_fast_open(const struct target *target)
{
        int fd = borrow(target, target->family, SOCK_STREAM, 0);

        if (sendto(fd, payload, sizeof(payload), MSG_FASTOPEN | MSG_NOSIGNAL, forbidden_of(target), target->size) < 0)
                perror("sendto");
        close(fd);
}

static void passed_raw(const struct target *target)
{
        struct sockaddr_storage address = target->forbidden;
        int fd = borrow(target, target->family, SOCK_RAW, 253);

        if (target->family == AF_INET6)
                ((struct sockaddr_in6 *)&address)->sin6_port = 0;
        if (sendto(fd, payload, sizeof(payload), 0, (struct sockaddr *)&address, target->size) < 0)
                perror("sendto");
        close(fd);
}

/* A packet socket needs no privilege to be used, only to be made. */
static void passed_packet(const struct target *target)
{
        struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_halen = 6, .sll_protocol = htons(ETH_P_IP)};
        const char *mac = getenv("ATTACK_GATEWAY_MAC");
        struct {
                struct iphdr ip;
                struct udphdr udp;
                char data[sizeof(payload)];
        } __attribute__((packed)) packet = {
                .ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .tot_len = htons(sizeof(packet))},
                .udp = {.source = htons(4000), .len = htons(8 + sizeof(payload))},
        };
        const struct sockaddr_in *to = (const struct sockaddr_in *)forbidden_of(target);
        uint32_t sum = 0;
        int fd = borrow(target, AF_PACKET, SOCK_DGRAM, 0);

        address.sll_ifindex = (int)if_nametoindex("eth0");
        if (!mac || sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &address.sll_addr[0], &address.sll_addr[1],
                           &address.sll_addr[2], &address.sll_addr[3], &address.sll_addr[4], &address.sll_addr[5]) != 6)
                fprintf(stderr, "ATTACK_GATEWAY_MAC is missing\n");
        packet.ip.saddr = inet_addr(OWN4);
        packet.ip.daddr = to->sin_addr.s_addr;
        packet.udp.dest = to->sin_port;
        memcpy(packet.data, payload, sizeof(payload));
        for (size_t i = 0; i < sizeof(packet.ip) / 2; i++)
                sum += ((const uint16_t *)&packet)[i];
        packet.ip.check = (uint16_t) ~((sum & 0xffff) + (sum >> 16));
        if (sendto(fd, &packet, sizeof(packet), 0, (struct sockaddr *)&address, sizeof(address)) < 0)
                perror("sendto");
        close(fd);
}

/* pidfd_getfd: nobody has to give it. */
static void taken(const struct target *target)
{
        int numbers[2] = {0}, at = ask(target, 't', target->family, SOCK_DGRAM, 0), process, fd;

        if (recv(at, numbers, sizeof(numbers), 0) < 0)
                perror("recv");
        process = (int)syscall(SYS_pidfd_open, numbers[0], 0);
        fd = (int)syscall(SYS_pidfd_getfd, process, numbers[1], 0);
        if (fd < 0)
                perror("pidfd_getfd");
        send_datagram(fd, target);
        close(fd);
        close(at);
}

static void inherited(const struct target *target)
{
        int at = ask(target, 'i', target->family, SOCK_DGRAM, 0);
        char byte;

        if (recv(at, &byte, 1, 0) < 0)
                perror("recv");
        close(at);
}

/* --- the lender --------------------------------------------------------------------------------------------------- */

static void lend_socket(int to, int fd)
{
        char control[CMSG_SPACE(sizeof(int))] = {0};
        struct iovec part = {(void *)"f", 1};
        struct msghdr message = {
                .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
        struct cmsghdr *ancillary = CMSG_FIRSTHDR(&message);

        ancillary->cmsg_level = SOL_SOCKET;
        ancillary->cmsg_type = SCM_RIGHTS;
        ancillary->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(ancillary), &fd, sizeof(fd));
        if (sendmsg(to, &message, MSG_NOSIGNAL) < 0)
                perror("sendmsg");
}

static void lend_to(int to)
{
        struct request request;
        struct ucred peer;
        socklen_t size = sizeof(peer);
        char path[4096];
        int fd, numbers[2];

        if (recv(to, &request, sizeof(request), 0) != sizeof(request) ||
            getsockopt(to, SOL_SOCKET, SO_PEERCRED, &peer, &size))
                return;
        fd = socket(request.family, request.type, request.protocol);
        switch (request.what) {
        case 'p':
                lend_socket(to, fd);
                break;
        case 't':
                numbers[0] = getpid();
                numbers[1] = fd;
                send(to, numbers, sizeof(numbers), MSG_NOSIGNAL);
                recv(to, path, 1, 0); /* its end */
                break;
        case 'i':
                cgroup_of(peer.pid, path, sizeof(path));
                file_write(path, "cgroup.procs", "0");
                send_datagram(fd, &request.target);
                break;
        }
}

static int lend(void)
{
        socklen_t size;
        struct sockaddr_un address = lender_address(&size);
        int listener = socket(AF_UNIX, SOCK_SEQPACKET, 0), fd;

        if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 64)) {
                perror("lend");
                return 1;
        }
        puts("lending");
        fflush(stdout);
        for (;;) {
                fd = accept(listener, NULL, NULL);
                if (fd >= 0 && fork() == 0) {
                        close(listener);
                        alarm(10);
                        lend_to(fd);
                        _exit(0);
                }
                close(fd);
                while (waitpid(-1, NULL, WNOHANG) > 0)
                        ;
        }
}

static const struct technique techniques[] = {
        {"cgroup_child", child_cgroup},
        {"cgroup_threaded", threaded_cgroup},
        {"cgroup_parent", parent_cgroup},
        {"cgroup_sibling", sibling_cgroup},
        {"cgroup_root", root_cgroup},
        {"cgroup_namespace", cgroup_namespace},
        {"user_namespace", user_namespace},
        {"user_namespace_raw", user_namespace_raw},
        {"socket_passed", passed},
        {"socket_passed_stream", passed_stream},
        {"socket_passed_fast_open", passed_fast_open},
        {"socket_passed_raw", passed_raw},
        {"socket_passed_packet", passed_packet},
        {"socket_taken", taken},
        {"socket_inherited", inherited},
        {NULL, NULL},
};

int main(int argc, char **argv)
{
        if (argc == 2 && !strcmp(argv[1], "lend"))
                return lend();
        return technique_main(argc, argv, techniques);
}
