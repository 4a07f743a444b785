/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Live traffic over the loopback device of namespaces of our own: no hook, an empty program, agentd, the systemd shape,
 * and nft's `socket cgroupv2` with a set. Each has a cgroup; they take turns.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agentd/datapath/internal.h"
#include "agentd/net/netns.h"
#include "tests/bench/bench.h"

enum { ENTRIES = 100000, AGENT = 1, PORT_UDP = 9, PORT_BULK = 5001, PORT_ACCEPT = 5002, CHUNK = 1 << 16 };

enum { NONE, NONE_AGAIN, EMPTY, AGENTD, LIST, NFT, STAGES };

/* Where a contender's sockets are made. */
struct stage {
        const char *name;
        int cgroup_fd, netns_fd; /* netns_fd -1: ours */
        __u64 cgroup_id;
        int udp_fd, connect_fd, bulk_fd, accept_listen_fd, bulk_listen_fd, bulk_peer_fd, udp_server_fd;
        pthread_t acceptor, drain;
        bool accepting, draining;
        struct bench *bench;
        char *chunk;
};

static struct sockaddr_in far_end(__u16 port)
{
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};

        inet_pton(AF_INET, BENCH_FAR, &to.sin_addr);
        return to;
}

/* A socket of the stage's cgroup (or of home) in the stage's namespace. */
static int stage_socket(struct stage *stage, bool home, int type)
{
        int fd = -1, r;

        r = cgroup_move(home ? stage->bench->world->home_fd : stage->cgroup_fd, 0);
        if (r == 0)
                r = netns_socket(stage->netns_fd, AF_INET, type, 0, &fd);
        (void)cgroup_move(stage->bench->world->home_fd, 0);
        return r < 0 ? r : fd;
}

static void *accept_all(void *context)
{
        struct stage *stage = context;
        int fd;

        bench_pin(true);
        while ((fd = accept(stage->accept_listen_fd, NULL, NULL)) >= 0 || errno == ECONNABORTED)
                if (fd >= 0)
                        close(fd);
        return NULL;
}

static void *drain(void *context)
{
        struct stage *stage = context;

        bench_pin(true);
        /* MSG_TRUNC: thrown away without a copy */
        while (recv(stage->bulk_peer_fd, NULL, 1 << 20, MSG_TRUNC) > 0)
                ;
        return NULL;
}

static int stage_listen(struct stage *stage, __u16 port, int *ret_fd)
{
        struct sockaddr_in to = far_end(port);

        *ret_fd = stage_socket(stage, true, SOCK_STREAM);
        if (*ret_fd < 0)
                return *ret_fd;
        if (setsockopt(*ret_fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) < 0 ||
            bind(*ret_fd, (struct sockaddr *)&to, sizeof(to)) < 0 || listen(*ret_fd, 4096) < 0)
                return -errno;
        return 0;
}

/* Servers are one set a namespace: shared_from, or made here. */
static int stage_open(struct stage *stage, const struct stage *shared_from)
{
        struct sockaddr_in udp = far_end(PORT_UDP), bulk = far_end(PORT_BULK);
        int r;

        if (shared_from) {
                stage->accept_listen_fd = shared_from->accept_listen_fd;
                stage->bulk_listen_fd = shared_from->bulk_listen_fd;
                stage->udp_server_fd = shared_from->udp_server_fd;
        } else {
                stage->udp_server_fd = stage_socket(stage, true, SOCK_DGRAM);
                (void)setsockopt(stage->udp_server_fd, SOL_SOCKET, SO_RCVBUF, &(int){1}, sizeof(int));
                if (bind(stage->udp_server_fd, (struct sockaddr *)&udp, sizeof(udp)) < 0)
                        return -errno;
                r = stage_listen(stage, PORT_ACCEPT, &stage->accept_listen_fd);
                if (r == 0)
                        r = stage_listen(stage, PORT_BULK, &stage->bulk_listen_fd);
                if (r < 0)
                        return r;
                stage->accepting = pthread_create(&stage->acceptor, NULL, accept_all, stage) == 0;
        }

        stage->udp_fd = stage_socket(stage, false, SOCK_DGRAM);
        stage->connect_fd = stage_socket(stage, false, SOCK_DGRAM);
        stage->bulk_fd = stage_socket(stage, false, SOCK_STREAM);
        stage->chunk = calloc(1, CHUNK);
        if (stage->udp_fd < 0 || stage->connect_fd < 0 || stage->bulk_fd < 0 || !stage->chunk)
                return -EIO;
        if (connect(stage->udp_fd, (struct sockaddr *)&udp, sizeof(udp)) < 0 ||
            connect(stage->bulk_fd, (struct sockaddr *)&bulk, sizeof(bulk)) < 0)
                return -errno;
        stage->bulk_peer_fd = accept(stage->bulk_listen_fd, NULL, NULL);
        if (stage->bulk_peer_fd < 0)
                return -errno;
        stage->draining = pthread_create(&stage->drain, NULL, drain, stage) == 0;
        return 0;
}

static void stage_close(struct stage *stage)
{
        if (stage->draining) {
                (void)shutdown(stage->bulk_peer_fd, SHUT_RDWR);
                pthread_join(stage->drain, NULL);
        }
        if (stage->accepting) {
                (void)shutdown(stage->accept_listen_fd, SHUT_RDWR);
                pthread_join(stage->acceptor, NULL);
                close(stage->accept_listen_fd);
                close(stage->bulk_listen_fd);
                close(stage->udp_server_fd);
        }
        close_fd(&stage->udp_fd);
        close_fd(&stage->connect_fd);
        close_fd(&stage->bulk_fd);
        close_fd(&stage->bulk_peer_fd);
        close_fd(&stage->cgroup_fd);
        close_fd(&stage->netns_fd);
        free(stage->chunk);
}

/* --- turns ---------------------------------------------------------------------------------------------------------
 */

static __u64 udp_turn(struct contender *contender, unsigned n)
{
        const struct stage *stage = contender->context;
        __u64 start = bench_now_ns();

        for (unsigned i = 0; i < n; i++)
                (void)send(stage->udp_fd, "datagram", 8, 0);
        return bench_now_ns() - start;
}

static __u64 connect_turn(struct contender *contender, unsigned n)
{
        const struct stage *stage = contender->context;
        struct sockaddr_in to = far_end(PORT_UDP);
        __u64 start = bench_now_ns();

        for (unsigned i = 0; i < n; i++)
                if (connect(stage->connect_fd, (struct sockaddr *)&to, sizeof(to)) < 0)
                        return UINT64_MAX / 2;
        return bench_now_ns() - start;
}

/* Nanoseconds a KiB. */
static __u64 bulk_turn(struct contender *contender, unsigned n)
{
        const struct stage *stage = contender->context;
        __u64 start = bench_now_ns();
        int queued = 1;

        for (unsigned left = n; left > 0;) {
                ssize_t sent = send(stage->bulk_fd, stage->chunk, MIN(left * 1024u, (unsigned)CHUNK), 0);

                if (sent <= 0)
                        return UINT64_MAX / 2;
                left -= (unsigned)(sent / 1024);
        }
        while (ioctl(stage->bulk_fd, SIOCOUTQ, &queued) == 0 && queued > 0)
                sched_yield();
        return bench_now_ns() - start;
}

/* socket, connect, close: whole connections. The process lives in the cgroup meanwhile. */
static __u64 tcp_turn(struct contender *contender, unsigned n)
{
        const struct stage *stage = contender->context;
        const struct linger reset = {1, 0};
        struct sockaddr_in to = far_end(PORT_ACCEPT);
        _cleanup_close_ int own_netns = -1;
        __u64 start, end = 0;

        if (netns_open_self(&own_netns) < 0 || cgroup_move(stage->cgroup_fd, 0) < 0)
                return UINT64_MAX / 2;
        if (stage->netns_fd >= 0 && setns(stage->netns_fd, CLONE_NEWNET) < 0)
                return UINT64_MAX / 2;
        start = bench_now_ns();
        for (unsigned i = 0; i < n; i++) {
                int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

                if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
                        end = UINT64_MAX / 2;
                (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
                close(fd);
        }
        end = end ? end : bench_now_ns() - start;
        if (stage->netns_fd >= 0)
                (void)setns(own_netns, CLONE_NEWNET);
        (void)cgroup_move(stage->bench->world->home_fd, 0);
        return end;
}

/* --- the contenders' hooks -----------------------------------------------------------------------------------------
 */

static int link_program(int cgroup_fd, struct bpf_program *program, enum bpf_attach_type type)
{
        int fd = bpf_link_create(bpf_program__fd(program), cgroup_fd, type, NULL);

        return fd < 0 ? fd : 0; /* kept open until the process ends */
}

/* A namespace with the rules, made by a child that is gone afterwards. */
static int nft_namespace(struct stage *stage, const char *cgroup_path)
{
        struct bpf_rule *rules = bench_rules(ENTRIES, BENCH_MIXED);
        char script[] = "/tmp/agbench-nft.XXXXXX", command[256];
        int ready[2], r = -EIO, status = 0;
        _cleanup_file_ FILE *file = NULL;
        int fd = mkstemp(script);
        pid_t child;

        file = fd >= 0 ? fdopen(fd, "w") : NULL;
        if (!file || !rules || pipe(ready) < 0)
                return -EIO;
        fprintf(file, "table inet agbench {\nset allowed { type ipv4_addr; elements = { 198.51.100.1");
        for (unsigned i = 0; i < ENTRIES; i++)
                fprintf(file, ",\n%.*s", (int)strcspn(rules[i].prefix, "/"), rules[i].prefix);
        fprintf(file, "}\n}\nchain output { type filter hook output priority 0; policy accept;\n");
        fprintf(file, "socket cgroupv2 level 2 \"%s\" ip daddr @allowed accept\n", cgroup_path);
        fprintf(file, "socket cgroupv2 level 2 \"%s\" drop\n}\n}\n", cgroup_path);
        fflush(file);
        bench_rules_free(rules, ENTRIES);

        child = fork();
        if (child == 0) {
                snprintf(command, sizeof(command),
                         "ip link set lo up && ip address add 198.51.100.1/24 dev lo && nft -f %s", script);
                status = unshare(CLONE_NEWNET) < 0 || system(command) != 0;
                (void)!write(ready[1], &status, sizeof(status));
                pause();
                _exit(0);
        }
        if (child > 0 && read(ready[0], &status, sizeof(status)) == sizeof(status) && status == 0)
                r = netns_open(child, &stage->netns_fd);
        if (child > 0) {
                kill(child, SIGKILL);
                (void)waitpid(child, NULL, 0);
        }
        close(ready[0]);
        close(ready[1]);
        unlink(script);
        return r;
}

static int hooks_make(struct bench *bench, struct stage *stages, struct bpf_policy **ret_policy)
{
        struct bench_bpf *programs = bench->programs;
        const char *base = "/sys/fs/cgroup/";
        char path[256];
        int r;

        r = link_program(stages[EMPTY].cgroup_fd, programs->progs.empty_egress, BPF_CGROUP_INET_EGRESS);
        if (r == 0)
                r = link_program(stages[EMPTY].cgroup_fd, programs->progs.empty_ingress, BPF_CGROUP_INET_INGRESS);
        if (r == 0)
                r = link_program(stages[EMPTY].cgroup_fd, programs->progs.empty_connect4, BPF_CGROUP_INET4_CONNECT);
        if (r == 0)
                r = link_program(stages[LIST].cgroup_fd, programs->progs.list_egress, BPF_CGROUP_INET_EGRESS);
        if (r == 0)
                r = link_program(stages[LIST].cgroup_fd, programs->progs.list_ingress, BPF_CGROUP_INET_INGRESS);
        if (r == 0)
                r = bench_list_fill(bench, ENTRIES);
        if (r == 0)
                r = datapath_attach(bench->world->datapath, AGENT, stages[AGENTD].cgroup_fd, stages[AGENTD].cgroup_id,
                                    "bench");
        if (r == 0)
                r = bench_policy(bench, ENTRIES, ret_policy);
        if (r < 0)
                return r;
        datapath_agent_publish(bench->world->datapath, AGENT, (*ret_policy)->version, WORD_LOOPBACK_ALLOW);

        /* nft finds a cgroup by its path below /sys/fs/cgroup, whatever is mounted there. */
        if (strncmp(bench->world->mount.path, base, strlen(base) - 1) != 0)
                r = -ENOENT;
        else if (snprintf(path, sizeof(path), "%s%s/%s", bench->world->mount.path + strlen(base) - 1,
                          bench->world->cgroup, stages[NFT].name) >= (int)sizeof(path))
                r = -ENAMETOOLONG;
        else
                r = nft_namespace(&stages[NFT], path + strspn(path, "/"));
        if (r < 0)
                bench_note("nft could not be measured here (%s)", strerror(-r));
        return r < 0 ? 1 : 0;
}

/* --- the measurements ----------------------------------------------------------------------------------------------
 */

static void measure(struct stage *stages, struct contender *c, __u64 (*turn)(struct contender *, unsigned), unsigned n,
                    __u64 duration_ns)
{
        for (size_t i = 0; i < STAGES; i++)
                c[i] = (struct contender){stages[i].name, turn, -1, &stages[i]};
        bench_series(c, stages[NFT].udp_fd >= 0 ? STAGES : STAGES - 1, n, duration_ns);
}

static const char section[] = "Live over loopback, policy of 100k entries, best of many turns";

static void compare(const char *what, struct contender *c, const char *unit, bool nft)
{
        bench_noise(section, what, c[NONE].best, c[NONE_AGAIN].best, unit);
        for (int i = NONE; i < STAGES; i++)
                if (i != AGENTD && i != NONE_AGAIN && (i != NFT || nft))
                        bench_report((struct bench_row){section, what, c[i].name, unit, c[AGENTD].best, c[i].best,
                                                        BENCH_RATIO});
}

static void measure_all(struct stage *stages)
{
        bool nft = stages[NFT].udp_fd >= 0;
        struct contender c[STAGES];

        measure(stages, c, udp_turn, 2000, 8 * NSEC_PER_SEC);
        bench_noise(section, "UDP packet", c[NONE].best, c[NONE_AGAIN].best, "ns");
        bench_report((struct bench_row){section, "UDP packet, agentd", c[NONE].name, "ns", c[AGENTD].best, c[NONE].best,
                                        BENCH_PLUS});
        bench_report((struct bench_row){section, "UDP packet, agentd", c[EMPTY].name, "ns", c[AGENTD].best,
                                        c[EMPTY].best, BENCH_RATIO});
        bench_report((struct bench_row){section, "UDP packet, systemd shape", c[EMPTY].name, "ns", c[LIST].best,
                                        c[EMPTY].best, BENCH_RATIO});
        bench_report((struct bench_row){section, "UDP packet, agentd", c[LIST].name, "ns", c[AGENTD].best, c[LIST].best,
                                        BENCH_RATIO});
        /* What the hook adds to a packet, against what others add to it. */
        bench_report((struct bench_row){section, "hook alone: agentd - none", "empty - none", "ns",
                                        c[AGENTD].best - c[NONE].best, c[EMPTY].best - c[NONE].best, BENCH_RATIO, true,
                                        false, 1.3});
        bench_report((struct bench_row){section, "hook alone: agentd - none", "systemd shape - none", "ns",
                                        c[AGENTD].best - c[NONE].best, c[LIST].best - c[NONE].best, BENCH_RATIO});
        if (nft)
                bench_report((struct bench_row){section, "hook alone: agentd - none", "nft - none", "ns",
                                                c[AGENTD].best - c[NONE].best, c[NFT].best - c[NONE].best, BENCH_RATIO,
                                                true, false, 0.45});

        measure(stages, c, bulk_turn, 16 << 10, 12 * NSEC_PER_SEC);
        bench_noise(section, "TCP bulk, time a KiB", c[NONE].best, c[NONE_AGAIN].best, "ns/KiB");
        if (MAX(c[NONE].best, c[NONE_AGAIN].best) > 1.01 * MIN(c[NONE].best, c[NONE_AGAIN].best))
                bench_note("TCP bulk: the noise of this run is larger than the goal's 1 %%: it shows neither met nor "
                           "missed");
        bench_report((struct bench_row){section, "TCP bulk, time a KiB", c[EMPTY].name, "ns/KiB", c[AGENTD].best,
                                        c[EMPTY].best, BENCH_RATIO, true, false, 1.01});
        if (nft)
                bench_report((struct bench_row){section, "TCP bulk, time a KiB", c[NFT].name, "ns/KiB", c[AGENTD].best,
                                                c[NFT].best, BENCH_RATIO});

        measure(stages, c, connect_turn, 2000, 5 * NSEC_PER_SEC);
        bench_noise(section, "connect() of an allowed flow (UDP)", c[NONE].best, c[NONE_AGAIN].best, "ns");
        bench_report((struct bench_row){section, "connect() of an allowed flow (UDP)", c[EMPTY].name, "ns",
                                        c[AGENTD].best, c[EMPTY].best, BENCH_PLUS, true, false, 100});

        measure(stages, c, tcp_turn, 500, 10 * NSEC_PER_SEC);
        compare("TCP socket, connect, close", c, "ns", nft);
}

int bench_live(struct bench *bench)
{
        static const char *const names[STAGES] = {"no hook", "no hook again", "empty program",
                                                  "agentd",  "systemd shape", "nft socket cgroupv2"};
        struct stage stages[STAGES] = {};
        struct bpf_policy *policy = NULL;
        int r = 0, nft;

        for (int i = 0; i < STAGES; i++) {
                stages[i] = (struct stage){names[i], -1, -1, 0, -1, -1, -1, -1, -1, -1, -1, .bench = bench};
                if (r == 0)
                        r = bpf_world_cgroup(bench->world, names[i], &stages[i].cgroup_fd, &stages[i].cgroup_id);
        }
        nft = r == 0 ? hooks_make(bench, stages, &policy) : r;
        r = nft < 0 ? nft : 0;
        for (int i = 0; r == 0 && i < STAGES; i++)
                if (i != NFT)
                        r = stage_open(&stages[i], i == NONE ? NULL : &stages[NONE]);
        if (r == 0 && nft == 0)
                r = stage_open(&stages[NFT], NULL);
        if (r == 0)
                measure_all(stages);

        for (int i = STAGES - 1; i >= 0; i--)
                stage_close(&stages[i]);
        (void)datapath_detach(bench->world->datapath, AGENT);
        if (policy) {
                (void)datapath_policy_remove(bench->world->datapath, policy->version);
                bpf_policy_free(policy);
        }
        return r;
}
