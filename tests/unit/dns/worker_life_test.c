/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The real worker as in worker_rig_test.c: refreshes, captured look-ups, servers of the agent's choice, DNSSEC, what it
 * has given up, and its end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/dns/worker_setup.h"

static void resolves_for_the_monitor_and_says_how_it_ended(void **state)
{
        struct rig *rig = started(state, "A allowed.test\nA gone.test\n");
        struct message_resolve resolve = {
                .header = {MESSAGE_RESOLVE, sizeof(resolve), 42}, .policy_id = RIG_POLICY, .name = "allowed.test"};
        static struct packet query, answer;
        union message message;

        monitor_send(rig, &resolve, NULL, 0);
        for (unsigned i = 0; i < 2; i++) {
                upstream_take(rig, &query);
                if (asks_for(&query, "allowed.test", DNS_TYPE_A))
                        make_answer(&query, 0, "allowed.test. 300 IN A 192.0.2.1", &answer);
                else
                        make_answer(&query, 0, "allowed.test. 120 IN AAAA 2001:db8::1", &answer);
                upstream_send(rig, &answer);
        }
        monitor_take(rig, MESSAGE_LEARN, &message);
        assert_int_equal(message.learn.agent_id, 0);
        assert_int_equal(message.learn.policy_id, RIG_POLICY);
        assert_int_equal(message.learn.n_addresses, 2);
        monitor_acknowledge(rig, message.header.id, 0);
        monitor_take(rig, MESSAGE_RESOLVED, &message);
        assert_int_equal(message.header.id, 42);
        assert_int_equal(message.resolved.error, 0);
        assert_int_equal(message.resolved.ttl_s, 120);
        assert_int_equal(message.resolved.n_addresses, 2);
        assert_string_equal(message.resolved.name, "allowed.test");

        strcpy(resolve.name, "gone.test");
        monitor_send(rig, &resolve, NULL, 0);
        for (unsigned i = 0; i < 2; i++) {
                upstream_take(rig, &query);
                make_answer(&query, DNS_NXDOMAIN, "test. 300 IN SOA ns.test. root.test. 1 2 3 4 60", &answer);
                upstream_send(rig, &answer);
        }
        monitor_take(rig, MESSAGE_RESOLVED, &message);
        assert_int_equal(message.resolved.error, -ENOENT);
}

static void refreshes_beyond_the_bound_wait_and_all_end(void **state)
{
        enum { N = 300 };
        struct rig *rig = started(state, "A *.many.test\n");
        static bool seen[N];
        static struct packet query, answer;
        unsigned n_seen = 0, n_resolved = 0;
        bool drained = false;

        for (unsigned i = 0; i < N; i++) {
                struct message_resolve resolve = {.header = {MESSAGE_RESOLVE, sizeof(resolve), 1000 + i},
                                                  .policy_id = RIG_POLICY};

                sprintf(resolve.name, "n%u.many.test", i);
                monitor_send(rig, &resolve, NULL, 0);
        }
        while (n_resolved < N) {
                struct pollfd ready[2] = {{.fd = rig->monitor, .events = POLLIN},
                                          {.fd = rig->upstream_udp, .events = POLLIN}};

                /* As many as may run have been asked: the worker turns once more, and no other has come. */
                if (n_seen == LIMIT_REFRESHES && !drained) {
                        client_ask(rig, &(struct question){.name = "evil.test", .type = DNS_TYPE_A, .id = 1});
                        expect_reply(rig, 1, DNS_NXDOMAIN, 0);
                        while (poll(&ready[1], 1, 0) == 1) {
                                unsigned number;

                                upstream_take(rig, &query);
                                assert_int_equal(sscanf((char *)query.bytes + DNS_HEADER_SIZE + 1, "n%u", &number), 1);
                                assert_true(number < N && seen[number]);
                        }
                        drained = true;
                }
                assert_true(poll(ready, 2, RIG_WAIT_MS) > 0);
                if (ready[1].revents & POLLIN) {
                        unsigned number;

                        upstream_take(rig, &query);
                        assert_int_equal(sscanf((char *)query.bytes + DNS_HEADER_SIZE + 1, "n%u", &number), 1);
                        assert_in_range(number, 0, N - 1);
                        n_seen += !seen[number];
                        seen[number] = true;
                        if (!drained)
                                assert_true(n_seen <= LIMIT_REFRESHES);
                        if (!drained)
                                continue; /* libunbound asks again */
                        make_answer(&query, DNS_NXDOMAIN, "test. 300 IN SOA ns.test. root.test. 1 2 3 4 60", &answer);
                        upstream_send(rig, &answer);
                } else {
                        union message message;

                        assert_int_equal(channel_receive(rig->monitor, &message, NULL, NULL), 0);
                        if (message.header.kind != MESSAGE_RESOLVED)
                                continue;
                        assert_int_equal(message.resolved.error, -ENOENT);
                        n_resolved++;
                }
        }
        assert_true(drained);
        assert_int_equal(n_seen, N);
}

static void a_captured_query_is_answered_from_the_listener(void **state)
{
        struct rig *rig = started(state, "A allowed.test\n");
        struct message_query captured = {
                .header = {MESSAGE_QUERY, sizeof(captured), 0}, .agent_id = RIG_AGENT, .listener_id = RIG_LISTENER};
        struct sockaddr_in own;
        socklen_t length = sizeof(own);
        struct packet query;

        assert_int_equal(getsockname(rig->client, (struct sockaddr *)&own, &length), 0);
        address_from_ipv4(&captured.source, own.sin_addr.s_addr);
        captured.source_port = ntohs(own.sin_port);
        make_query(&(struct question){.name = "evil.test", .type = DNS_TYPE_A, .id = 8}, &query);
        captured.length = (__u16)query.size;
        memcpy(captured.payload, query.bytes, query.size);
        monitor_send(rig, &captured, NULL, 0);
        expect_reply(rig, 8, DNS_NXDOMAIN, 0);
}

static void as_asked_goes_to_the_server_that_the_agent_named(void **state)
{
        struct rig *rig = *state;
        struct message_settings settings;
        struct message_upstream given = {.header = {MESSAGE_UPSTREAM, sizeof(given), 0}};
        static struct packet query, answer;
        struct sockaddr_in own;
        socklen_t length = sizeof(own);
        union message message;
        int socket_fd, stream;

        if (!rig)
                skip();
        settings = rig_settings(rig);
        settings.n_upstreams = 0;
        settings.as_asked = 1;
        rig_start(rig, &settings, "A allowed.test\n");
        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_A, .id = 1});
        monitor_take(rig, MESSAGE_ASK_UPSTREAM, &message);
        assert_int_equal(message.ask_upstream.agent_id, RIG_AGENT);
        assert_int_equal(message.ask_upstream.listener_id, RIG_LISTENER);
        assert_int_equal(message.ask_upstream.want_tcp, 0);
        assert_int_equal(message.ask_upstream.ip_protocol, IPPROTO_UDP);
        assert_int_equal(getsockname(rig->client, (struct sockaddr *)&own, &length), 0);
        assert_int_equal(message.ask_upstream.source_port, ntohs(own.sin_port));

        given.header.id = message.header.id;
        socket_fd = connected_socket(SOCK_DGRAM, rig->upstream_port);
        monitor_send(rig, &given, &socket_fd, 1);
        close(socket_fd);
        upstream_expect(rig, "allowed.test", DNS_TYPE_A, &query);
        /* A forged id first: it must not be taken; then the real one, cut. */
        make_answer(&query, 0, "allowed.test. 300 IN A 192.0.2.66", &answer);
        answer.bytes[0] ^= 1;
        upstream_send(rig, &answer);
        make_answer(&query, 0, "", &answer);
        answer.bytes[2] |= 0x02;
        upstream_send(rig, &answer);

        monitor_take(rig, MESSAGE_ASK_UPSTREAM, &message);
        assert_int_equal(message.ask_upstream.want_tcp, 1);
        given.header.id = message.header.id;
        socket_fd = connected_socket(SOCK_STREAM, rig->upstream_port);
        monitor_send(rig, &given, &socket_fd, 1);
        close(socket_fd);
        wait_readable(rig->upstream_tcp, "the worker's connection");
        stream = accept(rig->upstream_tcp, NULL, NULL);
        stream_read(stream, &query);
        make_answer(&query, 0, "allowed.test. 300 IN A 192.0.2.1\nallowed.test. 300 IN A 192.0.2.2", &answer);
        stream_write(stream, &answer);
        close(stream);
        monitor_take(rig, MESSAGE_LEARN, &message);
        assert_int_equal(message.learn.n_addresses, 2);
        monitor_acknowledge(rig, message.header.id, 0);
        expect_reply(rig, 1, DNS_NOERROR, 2);

        /* No socket: SERVFAIL, so that the client tries its next server. */
        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_AAAA, .id = 2});
        monitor_take(rig, MESSAGE_ASK_UPSTREAM, &message);
        given.header.id = message.header.id;
        given.error = -ENETUNREACH;
        monitor_send(rig, &given, NULL, 0);
        expect_reply(rig, 2, DNS_SERVFAIL, 0);

        {
                struct message_resolve resolve = {.header = {MESSAGE_RESOLVE, sizeof(resolve), 9},
                                                  .policy_id = RIG_POLICY,
                                                  .name = "allowed.test"};

                monitor_send(rig, &resolve, NULL, 0);
                monitor_take(rig, MESSAGE_RESOLVED, &message);
                assert_int_equal(message.resolved.error, -EOPNOTSUPP);
        }
}

static void with_dnssec_what_is_not_proven_is_refused(void **state)
{
        struct rig *rig = *state;
        struct message_settings settings;
        static struct packet query, answer;
        struct pollfd ready[2];
        ldns_pkt *reply;

        if (!rig)
                skip();
        settings = rig_settings(rig);
        settings.dnssec = 1;
        rig_start(rig, &settings, "A allowed.test\n");
        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_A, .id = 1, .edns = 1232});
        ready[0] = (struct pollfd){.fd = rig->client, .events = POLLIN};
        ready[1] = (struct pollfd){.fd = rig->upstream_udp, .events = POLLIN};
        /* The upstream knows the address and has no keys to show for it. */
        for (;;) {
                assert_true(poll(ready, 2, RIG_WAIT_MS) > 0);
                if (ready[0].revents & POLLIN)
                        break;
                upstream_take(rig, &query);
                make_answer(&query, 0,
                            asks_for(&query, "allowed.test", DNS_TYPE_A) ? "allowed.test. 300 IN A 192.0.2.1" : "",
                            &answer);
                upstream_send(rig, &answer);
        }
        reply = client_reply(rig);
        assert_int_equal(ldns_pkt_get_rcode(reply), DNS_SERVFAIL);
        assert_int_equal(ldns_pkt_ancount(reply), 0);
        assert_true(has_ede(reply, 6));
        ldns_pkt_free(reply);
}

static char *proc_line(pid_t pid, const char *file, const char *key)
{
        static char line[256];
        char path[64];
        FILE *status;

        snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
        status = fopen(path, "re");
        assert_non_null(status);
        while (fgets(line, sizeof(line), status))
                if (strncmp(line, key, strlen(key)) == 0) {
                        fclose(status);
                        line[strcspn(line, "\n")] = 0;
                        return line + strlen(key);
                }
        fclose(status);
        fail_msg("no %s in %s", key, path);
        return NULL;
}

static void the_worker_has_given_up_everything(void **state)
{
        static const char *const no_capabilities[] = {"CapInh:\t", "CapPrm:\t", "CapEff:\t", "CapBnd:\t", "CapAmb:\t"};
        struct rig *rig = started(state, "A allowed.test\n");
        char path[64], target[256] = {0};

        for (size_t i = 0; i < ARRAY_SIZE(no_capabilities); i++)
                assert_string_equal(proc_line(rig->pid, "status", no_capabilities[i]), "0000000000000000");
        assert_string_equal(proc_line(rig->pid, "status", "NoNewPrivs:\t"), "1");
        assert_string_equal(proc_line(rig->pid, "status", "Seccomp:\t"), "2");
        assert_string_equal(proc_line(rig->pid, "status", "Threads:\t"), "1");
        assert_int_not_equal(strtol(proc_line(rig->pid, "status", "Uid:\t"), NULL, 10), 0);
        snprintf(path, sizeof(path), "/proc/%d/root", (int)rig->pid);
        assert_true(readlink(path, target, sizeof(target) - 1) > 0);
        assert_non_null(strstr(target, "(deleted)"));
}

static void a_worker_without_a_monitor_ends(void **state)
{
        struct rig *rig = started(state, "A allowed.test\n");
        struct pollfd gone = {.events = POLLIN};

        gone.fd = (int)syscall(SYS_pidfd_open, rig->pid, 0);
        assert_true(gone.fd >= 0);
        close_fd(&rig->monitor);
        assert_int_equal(poll(&gone, 1, RIG_WAIT_MS), 1);
        close(gone.fd);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                WORKER_TEST(resolves_for_the_monitor_and_says_how_it_ended),
                WORKER_TEST(refreshes_beyond_the_bound_wait_and_all_end),
                WORKER_TEST(a_captured_query_is_answered_from_the_listener),
                WORKER_TEST(as_asked_goes_to_the_server_that_the_agent_named),
                WORKER_TEST(with_dnssec_what_is_not_proven_is_refused),
                WORKER_TEST(the_worker_has_given_up_everything),
                WORKER_TEST(a_worker_without_a_monitor_ends),
        };

        if (argc == 2 && strcmp(argv[1], "dns-worker") == 0)
                return dns_worker_main(3);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
