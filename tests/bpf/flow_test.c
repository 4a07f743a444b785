/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows over time: the cache, names that expire, counters, events. With real sockets of real cgroups.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agentd/datapath/internal.h"
#include "tests/lib/bpf_scene.h"

enum { TCP = PROTOCOL_TCP, UDP = PROTOCOL_UDP };

static const struct bpf_rule allow_port[] = {{"198.51.100.0/24", false, TCP | UDP, SCENE_PORT, SCENE_PORT}};
static const struct bpf_rule allow_name[] = {{NULL, false, TCP | UDP, SCENE_PORT, SCENE_PORT}};

static void a_cached_verdict_belongs_to_its_flow_alone(void **state)
{
        struct bpf_policy *policy;
        struct scene scene;
        unsigned sent = 0;
        int fd;

        if (!*state)
                skip();
        scene = scene_enter(*state, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_port, 1);
        fd = scene_socket(&scene, SOCK_DGRAM);
        for (unsigned i = 0; i < 3000; i++) {
                __u16 other = (__u16)(1024 + i * 7 % 60000);

                assert_int_equal(scene_send(fd, SCENE_FAR, SCENE_PORT), 0);
                sent++;
                if (other != SCENE_PORT)
                        assert_int_equal(scene_send(fd, SCENE_FAR, other), EPERM);
                assert_int_equal(scene_send(fd, "192.0.2.1", SCENE_PORT), EPERM);
                assert_int_equal(scene_send(fd, "198.51.100.2", SCENE_PORT), 0);
                if (sent % 100 == 0)
                        assert_int_equal(scene_arrived(&scene), 100);
        }
        /* AF_UNSPEC and back: a socket that was allowed once is asked again */
        assert_int_equal(scene_connect(fd, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(connect(fd, &(struct sockaddr){.sa_family = AF_UNSPEC}, sizeof(struct sockaddr)), 0);
        assert_int_equal(scene_connect(fd, SCENE_FAR, SCENE_PORT + 1), EPERM);
        close(fd);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void an_expired_name_ends_new_flows_and_not_live_ones(void **state)
{
        struct bpf_world *world = *state;
        struct sockaddr_in to = scene_far_end(SCENE_FAR, SCENE_PORT);
        struct bpf_policy *policy;
        struct scene scene;
        int udp, late, tcp, tcp_late, listener, peer;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_name, 1);
        listener = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(listener, (struct sockaddr *)&to, sizeof(to)), 0);
        assert_int_equal(listen(listener, 4), 0);
        udp = scene_socket(&scene, SOCK_DGRAM);
        tcp = scene_socket(&scene, SOCK_STREAM);
        late = scene_socket(&scene, SOCK_DGRAM);
        tcp_late = scene_socket(&scene, SOCK_STREAM);

        assert_int_equal(scene_send(udp, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(bpf_policy_learn(world, policy, SCENE_AGENT, SCENE_FAR, scene_now_ns() + 3600 * NSEC_PER_SEC),
                         0);
        assert_int_equal(scene_send(udp, SCENE_FAR, SCENE_PORT), 0);
        assert_int_equal(scene_connect(tcp, SCENE_FAR, SCENE_PORT), 0);
        peer = accept(listener, NULL, NULL);
        assert_true(peer >= 0);

        /* The name's time is over. The caches hold a verdict for a second at most: a publication empties them now. */
        assert_int_equal(bpf_policy_learn(world, policy, SCENE_AGENT, SCENE_FAR, scene_now_ns()), 0);
        datapath_agent_publish(world->datapath, SCENE_AGENT, policy->version, 0);
        for (int i = 0; i < 3; i++) {
                char buffer[8];

                assert_int_equal(scene_send(udp, SCENE_FAR, SCENE_PORT), 0);
                assert_int_equal(send(tcp, "live", 4, MSG_NOSIGNAL), 4);
                assert_int_equal(recv(peer, buffer, sizeof(buffer), 0), 4);
                assert_int_equal(scene_send(late, SCENE_FAR, SCENE_PORT), EPERM);
                assert_int_equal(scene_connect(late, SCENE_FAR, SCENE_PORT), EPERM);
                assert_int_equal(scene_connect(tcp_late, SCENE_FAR, SCENE_PORT), EPERM);
        }
        assert_int_equal(scene_counters(&scene).denied[REASON_EXPIRED], 9);
        assert_int_equal(scene_arrived(&scene), 4);

        /* Disconnected, it gives its port back: what it sends from the next one is no flow of before. */
        assert_int_equal(connect(udp, &(struct sockaddr){.sa_family = AF_UNSPEC}, sizeof(struct sockaddr)), 0);
        assert_int_equal(scene_send(udp, SCENE_FAR, SCENE_PORT), EPERM);
        assert_int_equal(scene_connect(udp, SCENE_FAR, SCENE_PORT), EPERM);

        close(udp);
        close(late);
        close(tcp);
        close(tcp_late);
        close(peer);
        close(listener);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

/* A verdict by name is in the cache for no longer than the name lives. */
static void a_cached_name_ends_with_the_name(void **state)
{
        struct bpf_world *world = *state;
        struct bpf_policy *policy;
        struct scene scene;
        __u64 expires_ns;
        int fd, r;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_name, 1);
        expires_ns = scene_now_ns() + 150 * NSEC_PER_MSEC;
        assert_int_equal(bpf_policy_learn(world, policy, SCENE_AGENT, SCENE_FAR, expires_ns), 0);
        /* New sockets all the time: none is a live flow. connect() sends nothing. */
        do {
                __u64 before_ns = scene_now_ns();

                fd = scene_socket(&scene, SOCK_DGRAM);
                before_ns = scene_now_ns();
                r = scene_connect(fd, SCENE_FAR, SCENE_PORT);
                close(fd);
                if (before_ns >= expires_ns)
                        assert_int_equal(r, EPERM);
        } while (r == 0);
        assert_int_equal(r, EPERM);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

/* --- counters and events -------------------------------------------------------------------------------------------
 */

struct sender {
        int fd;
        __u16 port;
        unsigned n, failed;
        pthread_t thread;
};

static void *sender_main(void *context)
{
        struct sender *sender = context;

        for (unsigned i = 0; i < sender->n; i++)
                sender->failed += scene_send(sender->fd, SCENE_FAR, sender->port) != 0;
        return NULL;
}

static void send_by_two(struct scene *scene, __u16 port, unsigned n, unsigned *ret_failed)
{
        struct sender senders[2];

        *ret_failed = 0;
        for (int i = 0; i < 2; i++)
                senders[i] = (struct sender){.fd = scene_socket(scene, SOCK_DGRAM), .port = port, .n = n};
        for (int i = 0; i < 2; i++)
                assert_int_equal(pthread_create(&senders[i].thread, NULL, sender_main, &senders[i]), 0);
        for (int i = 0; i < 2; i++) {
                pthread_join(senders[i].thread, NULL);
                *ret_failed += senders[i].failed;
                close(senders[i].fd);
        }
}

static void counters_are_exact_under_two_threads(void **state)
{
        enum { N = 20000 };
        struct bpf_world *world = *state;
        __u64 packets[2], bytes[2];
        struct bpf_policy *policy;
        struct agent_counters before;
        struct scene scene;
        unsigned failed;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_port, 1);
        before = scene_counters(&scene);
        send_by_two(&scene, SCENE_PORT, N, &failed);
        assert_int_equal(failed, 0);
        assert_int_equal(datapath_traffic(world->datapath, SCENE_AGENT, packets, bytes), 0);
        assert_int_equal(packets[DIRECTION_EGRESS], 2 * N);
        assert_int_equal(bytes[DIRECTION_EGRESS], 2 * N * (20 + 8 + 8));
        assert_int_equal(packets[DIRECTION_INGRESS], 0);

        send_by_two(&scene, SCENE_PORT + 1, N, &failed);
        assert_int_equal(failed, 2 * N);
        assert_int_equal(scene_counters(&scene).denied[REASON_NO_RULE], before.denied[REASON_NO_RULE] + 2 * N);
        assert_int_equal(datapath_traffic(world->datapath, SCENE_AGENT, packets, bytes), 0);
        assert_int_equal(packets[DIRECTION_EGRESS], 2 * N);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

struct seen {
        unsigned n;
        struct verdict_record last;
};

static void on_record(void *context, const void *record, size_t size)
{
        struct seen *seen = context;

        assert_int_equal(size, sizeof(seen->last));
        seen->n++;
        seen->last = *(const struct verdict_record *)record;
}

static void ignore_record(void *context, const void *record, size_t size)
{
}

static void consume(struct bpf_world *world, struct seen *seen)
{
        while (datapath_events_consume(world->datapath, on_record, ignore_record, seen) > 0)
                ;
}

static void an_event_tells_who_sent_what(void **state)
{
        struct bpf_world *world = *state;
        struct bpf_policy *policy;
        struct seen seen = {};
        struct address far;
        struct scene scene;
        int fd;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_port, 1);
        fd = scene_socket(&scene, SOCK_DGRAM);
        consume(world, &seen);
        memset(&seen, 0, sizeof(seen));
        assert_int_equal(scene_connect(fd, SCENE_FAR, 4321), EPERM);
        consume(world, &seen);
        assert_int_equal(seen.n, 1);
        assert_int_equal(address_parse(SCENE_FAR, &far), 0);
        assert_int_equal(seen.last.header.kind, RECORD_VERDICT);
        assert_int_equal(seen.last.header.abi, AGENTD_ABI_VERSION);
        assert_int_equal(seen.last.agent_id, SCENE_AGENT);
        assert_true(seen.last.cgroup_id == scene.cgroup_id);
        assert_int_equal(seen.last.version, policy->version);
        assert_int_equal(seen.last.generation, datapath_generation(world->datapath));
        assert_int_equal(seen.last.reason, REASON_NO_RULE);
        assert_int_equal(seen.last.action, VERDICT_DENY);
        assert_int_equal(seen.last.hook, HOOK_CONNECT4);
        assert_int_equal(seen.last.ip_protocol, IPPROTO_UDP);
        assert_int_equal(seen.last.destination_port, 4321);
        assert_memory_equal(&seen.last.destination, &far, sizeof(far));
        assert_int_equal(seen.last.pid, getpid());
        assert_true(seen.last.time_ns <= scene_now_ns() && seen.last.time_ns + 10 * NSEC_PER_SEC > scene_now_ns());

        /* A packet's event names the process that opened the flow, here by a connect() that was allowed. */
        assert_int_equal(scene_connect(fd, SCENE_FAR, SCENE_PORT), 0);
        datapath_agent_publish(world->datapath, SCENE_AGENT, policy->version, WORD_QUARANTINE);
        assert_int_equal(send(fd, "x", 1, 0), -1);
        consume(world, &seen);
        assert_int_equal(seen.n, 2);
        assert_int_equal(seen.last.hook, HOOK_EGRESS);
        assert_int_equal(seen.last.reason, REASON_QUARANTINE);
        assert_int_equal(seen.last.bytes, 20 + 8 + 1);
        assert_int_equal(seen.last.pid, getpid());
        close(fd);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

static void what_the_ring_cannot_hold_is_counted(void **state)
{
        enum { N = 60000 };
        struct bpf_world *world = *state;
        struct agent_counters before, after;
        struct bpf_policy *policy;
        struct seen seen = {};
        struct scene scene;
        unsigned failed;

        if (!world)
                skip();
        scene = scene_enter(world, SCENE_AGENT);
        scene_attach(&scene);
        policy = scene_publish(&scene, allow_port, 1);
        consume(world, &seen);
        before = scene_counters(&scene);
        seen.n = 0;
        send_by_two(&scene, SCENE_PORT + 1, N, &failed);
        after = scene_counters(&scene);
        consume(world, &seen);
        assert_int_equal(failed, 2 * N);
        assert_int_equal(after.denied[REASON_NO_RULE] - before.denied[REASON_NO_RULE], 2 * N);
        assert_true(after.events_lost > before.events_lost);
        assert_int_equal(seen.n + after.events_lost - before.events_lost, 2 * N);
        scene_withdraw(&scene, policy);
        scene_leave(&scene);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_teardown(a_cached_verdict_belongs_to_its_flow_alone, scene_clear),
                cmocka_unit_test_teardown(an_expired_name_ends_new_flows_and_not_live_ones, scene_clear),
                cmocka_unit_test_teardown(a_cached_name_ends_with_the_name, scene_clear),
                cmocka_unit_test_teardown(counters_are_exact_under_two_threads, scene_clear),
                cmocka_unit_test_teardown(an_event_tells_who_sent_what, scene_clear),
                cmocka_unit_test_teardown(what_the_ring_cannot_hold_is_counted, scene_clear),
        };

        return cmocka_run_group_tests(tests, scene_world_up, scene_world_down);
}
