/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The real worker, confined, between a monitor, an upstream and a client that the tests play (worker_rig.h). This
 * program is also the worker: the tests execute it again as `dns-worker`. Needs root, as the confinement does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/dns/worker_setup.h"

static void answers_an_allowed_name_only_after_it_was_learned(void **state)
{
        struct rig *rig = started(state, "A allowed.test\n");
        union message message;
        struct address expected;

        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_A, .id = 1});
        upstream_answer(rig, "allowed.test", DNS_TYPE_A, 0, "allowed.test. 300 IN A 192.0.2.1");
        monitor_take(rig, MESSAGE_LEARN, &message);
        assert_int_equal(message.learn.agent_id, RIG_AGENT);
        assert_int_equal(message.learn.policy_id, RIG_POLICY);
        assert_string_equal(message.learn.name, "allowed.test");
        assert_int_equal(message.learn.n_addresses, 1);
        assert_int_equal(message.learn.addresses[0].ttl_s, 300);
        assert_int_equal(address_parse("192.0.2.1", &expected), 0);
        assert_memory_equal(&message.learn.addresses[0].address, &expected, sizeof(expected));

        /* The worker is one thread: had it answered the first, that would be in front of the second. */
        client_ask(rig, &(struct question){.name = "other.test", .type = DNS_TYPE_A, .id = 2});
        expect_reply(rig, 2, DNS_NXDOMAIN, 0);
        monitor_acknowledge(rig, message.header.id, 0);
        expect_reply(rig, 1, DNS_NOERROR, 1);
}

static void never_answers_what_the_monitor_could_not_learn(void **state)
{
        struct rig *rig = started(state, "A allowed.test\n");
        union message message;

        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_A, .id = 1});
        upstream_answer(rig, "allowed.test", DNS_TYPE_A, 0, "allowed.test. 300 IN A 192.0.2.1");
        monitor_take(rig, MESSAGE_LEARN, &message);
        monitor_acknowledge(rig, message.header.id, -ENOSPC);
        expect_reply(rig, 1, DNS_SERVFAIL, 0);

        /* Nor later from the cache: it is asked again, learned again. */
        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_A, .id = 2});
        monitor_take(rig, MESSAGE_LEARN, &message);
        monitor_acknowledge(rig, message.header.id, 0);
        expect_reply(rig, 2, DNS_NOERROR, 1);
}

static void refused_names_never_reach_the_upstream(void **state)
{
        static const struct {
                const char *name;
                __u16 type;
                enum verdict_reason reason;
        } refused[] = {
                {"evil.test", DNS_TYPE_A, REASON_NAME_NOT_ALLOWED},
                {"sub.allowed.test", DNS_TYPE_AAAA, REASON_NAME_NOT_ALLOWED},
                {"denied.wild.test", DNS_TYPE_A, REASON_DENY_RULE},
                {"wild.test", DNS_TYPE_TXT, REASON_NAME_NOT_ALLOWED},
                {"localhost", DNS_TYPE_A, REASON_NAME_NOT_ALLOWED},
                {"exfil.localhost", DNS_TYPE_A, REASON_NAME_NOT_ALLOWED},
                {"1.2.0.192.in-addr.arpa", DNS_TYPE_PTR, REASON_NAME_NOT_ALLOWED},
                {"allowed.test.evil.example", DNS_TYPE_A, REASON_NAME_NOT_ALLOWED},
        };
        struct rig *rig = started(state, "A allowed.test\nA *.wild.test\nD denied.wild.test\nA localhost\n");
        union message message;
        struct packet query;

        for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
                client_ask(rig, &(struct question){refused[i].name, refused[i].type, (__u16)i, .edns = 1232});
                monitor_take(rig, MESSAGE_REFUSED, &message);
                assert_string_equal(message.refused.name, refused[i].name);
                assert_int_equal(message.refused.reason, refused[i].reason);
                assert_int_equal(message.refused.query_type, refused[i].type);
                assert_int_equal(message.refused.agent_id, RIG_AGENT);
                assert_int_equal(message.refused.would, 0);
                assert_int_equal(message.refused.ip_protocol, IPPROTO_UDP);
                expect_reply(rig, (__u16)i, DNS_NXDOMAIN, 0);
        }
        /* The first that the upstream hears of is the allowed one. */
        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_A, .id = 99});
        upstream_expect(rig, "allowed.test", DNS_TYPE_A, &query);
}

static void the_answer_for_a_refused_name_is_the_configured_one_with_its_reason(void **state)
{
        static const struct {
                __u8 blocked;
                int rcode;
        } cases[] = {{0, DNS_NXDOMAIN}, {1, DNS_REFUSED}, {2, DNS_NOERROR}};
        struct rig *rig = started(state, "A allowed.test\n");

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct message_settings settings = rig_settings(rig);
                ldns_pkt *reply;

                settings.blocked = cases[i].blocked;
                monitor_send(rig, &settings, NULL, 0);
                rig_barrier(rig);
                /* With EDNS it says why, without there is no room for it. */
                for (unsigned edns = 0; edns < 2; edns++) {
                        client_ask(rig, &(struct question){"evil.test", DNS_TYPE_A, 5, edns ? 1232 : 0});
                        reply = client_reply(rig);
                        assert_int_equal(ldns_pkt_get_rcode(reply), cases[i].rcode);
                        assert_int_equal(ldns_pkt_ancount(reply), 0);
                        assert_int_equal(ldns_pkt_edns(reply), edns);
                        assert_int_equal(has_ede(reply, 15), edns);
                        ldns_pkt_free(reply);
                }
        }
}

static void private_and_metadata_addresses_are_withheld(void **state)
{
        struct rig *rig = started(state, "A allowed.test\nA inner.test\n");
        struct address expected;
        union message message;
        ldns_pkt *reply;

        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_A, .id = 1});
        upstream_answer(rig, "allowed.test", DNS_TYPE_A, 0,
                        "allowed.test. 300 IN A 10.0.0.1\nallowed.test. 300 IN A 192.0.2.1\n"
                        "allowed.test. 300 IN A 169.254.169.254");
        /* In any order: libunbound rotates. */
        for (unsigned i = 0; i < 2; i++) {
                bool metadata;

                monitor_take(rig, MESSAGE_REFUSED, &message);
                metadata = message.refused.reason == REASON_METADATA;
                assert_int_equal(message.refused.reason, metadata ? REASON_METADATA : REASON_PRIVATE_ADDRESS);
                assert_int_equal(address_parse(metadata ? "169.254.169.254" : "10.0.0.1", &expected), 0);
                assert_memory_equal(&message.refused.address, &expected, sizeof(expected));
        }
        monitor_take(rig, MESSAGE_LEARN, &message);
        assert_int_equal(message.learn.n_addresses, 1);
        assert_int_equal(address_parse("192.0.2.1", &expected), 0);
        assert_memory_equal(&message.learn.addresses[0].address, &expected, sizeof(expected));
        monitor_acknowledge(rig, message.header.id, 0);
        expect_reply(rig, 1, DNS_NOERROR, 1);

        /* Nothing is left: no data, and why. */
        client_ask(rig, &(struct question){"inner.test", DNS_TYPE_AAAA, 2, .edns = 1232});
        upstream_answer(rig, "inner.test", DNS_TYPE_AAAA, 0, "inner.test. 300 IN AAAA 64:ff9b::7f00:1");
        reply = client_reply(rig);
        assert_int_equal(ldns_pkt_get_rcode(reply), DNS_NOERROR);
        assert_int_equal(ldns_pkt_ancount(reply), 0);
        assert_true(has_ede(reply, 17));
        ldns_pkt_free(reply);
        monitor_take(rig, MESSAGE_REFUSED, &message);
        assert_int_equal(message.refused.reason, REASON_PRIVATE_ADDRESS);

        /* allow_private: the same answer passes, once the policy has changed. */
        rig_policy(rig, "A allowed.test\n", true);
        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_A, .id = 3});
        monitor_take(rig, MESSAGE_REFUSED, &message);
        assert_int_equal(message.refused.reason, REASON_METADATA);
        monitor_take(rig, MESSAGE_LEARN, &message);
        assert_int_equal(message.learn.n_addresses, 2);
        monitor_acknowledge(rig, message.header.id, 0);
        expect_reply(rig, 3, DNS_NOERROR, 2);
}

static void follows_a_chain_of_names_and_learns_under_the_asked_one(void **state)
{
        struct rig *rig = started(state, "A allowed.test\nD denied.example\nA bad.test\n");
        union message message;
        ldns_pkt *reply;

        client_ask(rig, &(struct question){.name = "Allowed.TEST", .type = DNS_TYPE_A, .id = 1});
        upstream_answer(rig, "allowed.test", DNS_TYPE_A, 0,
                        "allowed.test. 300 IN CNAME edge.example.\nedge.example. 20 IN CNAME node.example.\n"
                        "node.example. 60 IN A 192.0.2.9\nstray.example. 60 IN A 192.0.2.66");
        /* libunbound asks for the chain's other names itself rather than believe what rides along. */
        upstream_answer(rig, "edge.example", DNS_TYPE_A, 0, "edge.example. 20 IN CNAME node.example.");
        upstream_answer(rig, "node.example", DNS_TYPE_A, 0, "node.example. 60 IN A 192.0.2.9");
        monitor_take(rig, MESSAGE_LEARN, &message);
        assert_string_equal(message.learn.name, "allowed.test");
        assert_int_equal(message.learn.n_addresses, 1);
        monitor_acknowledge(rig, message.header.id, 0);
        reply = client_reply(rig);
        assert_int_equal(ldns_pkt_ancount(reply), 3);
        assert_int_equal(ldns_pkt_arcount(reply), 0);
        ldns_pkt_free(reply);

        client_ask(rig, &(struct question){.name = "bad.test", .type = DNS_TYPE_A, .id = 2});
        upstream_answer(rig, "bad.test", DNS_TYPE_A, 0, "bad.test. 300 IN CNAME denied.example.");
        upstream_answer(rig, "denied.example", DNS_TYPE_A, 0, "denied.example. 300 IN A 192.0.2.66");
        monitor_take(rig, MESSAGE_REFUSED, &message);
        assert_int_equal(message.refused.reason, REASON_DENY_RULE);
        assert_string_equal(message.refused.name, "bad.test");
        expect_reply(rig, 2, DNS_NXDOMAIN, 0);
}

static void types_that_carry_addresses_elsewhere_are_answered_empty_or_refused(void **state)
{
        struct rig *rig = started(state, "A allowed.test\n");
        union message message;
        ldns_pkt *reply;

        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_HTTPS, .id = 1});
        expect_reply(rig, 1, DNS_NOERROR, 0);
        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_SVCB, .id = 2});
        expect_reply(rig, 2, DNS_NOERROR, 0);
        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_ANY, .id = 3});
        expect_reply(rig, 3, DNS_REFUSED, 0);
        monitor_take(rig, MESSAGE_REFUSED, &message);

        /* No AAAA: the SOA says for how long, nothing is learned. */
        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_AAAA, .id = 4});
        upstream_answer(rig, "allowed.test", DNS_TYPE_AAAA, 0, "test. 300 IN SOA ns.test. root.test. 1 2 3 4 60");
        expect_reply(rig, 4, DNS_NOERROR, 0);

        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_MX, .id = 5});
        upstream_answer(rig, "allowed.test", DNS_TYPE_MX, 0, "allowed.test. 300 IN MX 10 mail.allowed.test.");
        reply = client_reply(rig);
        assert_int_equal(ldns_pkt_id(reply), 5);
        assert_int_equal(ldns_pkt_ancount(reply), 1);
        assert_int_equal(ldns_pkt_arcount(reply), 0);
        ldns_pkt_free(reply);
}

static void many_addresses_are_learned_in_parts_before_any_is_told(void **state)
{
        struct rig *rig = started(state, "A many.test\n");
        static struct packet query, answer;
        static char records[300 * 40];
        union message first, second, third;
        size_t used = 0;
        int upstream, client;
        ldns_pkt *reply;

        for (unsigned i = 0; i < 300; i++)
                used += (size_t)sprintf(records + used, "many.test. 60 IN A 198.18.%u.%u\n", i / 200, i % 200);
        client_ask(rig, &(struct question){"many.test", DNS_TYPE_A, 1, .edns = 1232});
        /* Too large for UDP: libunbound comes again over TCP. */
        upstream_take(rig, &query);
        make_answer(&query, 0, "", &answer);
        answer.bytes[2] |= 0x02;
        upstream_send(rig, &answer);
        wait_readable(rig->upstream_tcp, "libunbound's connection");
        upstream = accept(rig->upstream_tcp, NULL, NULL);
        stream_read(upstream, &query);
        make_answer(&query, 0, records, &answer);
        stream_write(upstream, &answer);

        monitor_take(rig, MESSAGE_LEARN, &first);
        monitor_take(rig, MESSAGE_LEARN, &second);
        monitor_take(rig, MESSAGE_LEARN, &third);
        assert_int_equal(first.learn.n_addresses + second.learn.n_addresses + third.learn.n_addresses, 300);
        monitor_acknowledge(rig, first.header.id, 0);
        monitor_acknowledge(rig, second.header.id, 0);
        client_ask(rig, &(struct question){.name = "other.test", .type = DNS_TYPE_A, .id = 2});
        expect_reply(rig, 2, DNS_NXDOMAIN, 0);
        monitor_take(rig, MESSAGE_REFUSED, &first);
        monitor_acknowledge(rig, third.header.id, 0);
        reply = client_reply(rig);
        assert_int_equal(ldns_pkt_id(reply), 1);
        assert_true(ldns_pkt_tc(reply));
        assert_true(ldns_pkt_size(reply) <= 1232);
        assert_true(ldns_pkt_ancount(reply) > 50);
        ldns_pkt_free(reply);

        /* The whole over TCP, pipelined behind another question. */
        client = connected_socket(SOCK_STREAM, rig->listener_port);
        make_query(&(struct question){.name = "other.test", .type = DNS_TYPE_A, .id = 3}, &query);
        stream_write(client, &query);
        make_query(&(struct question){.name = "many.test", .type = DNS_TYPE_A, .id = 4}, &query);
        stream_write(client, &query);
        stream_read(client, &answer);
        assert_int_equal(dns_get16(answer.bytes), 3);
        stream_read(client, &answer);
        reply = parse(&answer);
        assert_int_equal(ldns_pkt_id(reply), 4);
        assert_false(ldns_pkt_tc(reply));
        assert_int_equal(ldns_pkt_ancount(reply), 300);
        ldns_pkt_free(reply);
        monitor_take(rig, MESSAGE_REFUSED, &first);
        assert_int_equal(first.refused.ip_protocol, IPPROTO_TCP);
        close(client);
        close(upstream);
}

static void same_questions_in_flight_are_one(void **state)
{
        struct rig *rig = started(state, "A allowed.test\nA next.test\n");
        union message message;

        for (__u16 id = 1; id <= 5; id++)
                client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_A, .id = id});
        client_ask(rig, &(struct question){.name = "next.test", .type = DNS_TYPE_A, .id = 6});
        upstream_answer(rig, "allowed.test", DNS_TYPE_A, 0, "allowed.test. 300 IN A 192.0.2.1");
        upstream_answer(rig, "next.test", DNS_TYPE_A, 0, "next.test. 300 IN A 192.0.2.2");
        monitor_take(rig, MESSAGE_LEARN, &message);
        assert_string_equal(message.learn.name, "allowed.test");
        monitor_acknowledge(rig, message.header.id, 0);
        for (__u16 n = 1; n <= 5; n++) {
                ldns_pkt *reply = client_reply(rig);

                assert_in_range(ldns_pkt_id(reply), 1, 5);
                assert_int_equal(ldns_pkt_ancount(reply), 1);
                ldns_pkt_free(reply);
        }
        monitor_take(rig, MESSAGE_LEARN, &message);
        assert_string_equal(message.learn.name, "next.test");
}

static void a_cached_answer_needs_neither_upstream_nor_monitor(void **state)
{
        struct rig *rig = started(state, "A allowed.test\nA next.test\n");
        union message message;
        struct packet query;

        rig_resolve(rig, "allowed.test", 1, "allowed.test. 300 IN A 192.0.2.1", 1);
        client_ask(rig, &(struct question){.name = "ALLOWED.test", .type = DNS_TYPE_A, .id = 2});
        expect_reply(rig, 2, DNS_NOERROR, 1);

        /* The policy changes: what was learned under the old one is learned anew. */
        rig_policy(rig, "A allowed.test\nA next.test\n", false);
        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_A, .id = 3});
        monitor_take(rig, MESSAGE_LEARN, &message);
        monitor_acknowledge(rig, message.header.id, 0);
        expect_reply(rig, 3, DNS_NOERROR, 1);
        /* The upstream has heard of it once (libunbound has its own cache). */
        client_ask(rig, &(struct question){.name = "next.test", .type = DNS_TYPE_A, .id = 4});
        upstream_expect(rig, "next.test", DNS_TYPE_A, &query);
}

static void a_policy_that_changes_in_between_is_the_one_that_counts(void **state)
{
        struct rig *rig = started(state, "A allowed.test\n");
        union message message;
        __u64 id;

        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_A, .id = 1});
        upstream_answer(rig, "allowed.test", DNS_TYPE_A, 0, "allowed.test. 300 IN A 192.0.2.1");
        monitor_take(rig, MESSAGE_LEARN, &message);
        id = message.header.id;
        rig_policy(rig, "A other.test\n", false);
        monitor_acknowledge(rig, id, 0);
        expect_reply(rig, 1, DNS_NXDOMAIN, 0);
        monitor_take(rig, MESSAGE_REFUSED, &message);
        assert_int_equal(message.refused.reason, REASON_NAME_NOT_ALLOWED);
}

static void an_audit_agent_is_told_and_reported(void **state)
{
        struct rig *rig = started(state, "A allowed.test\n");
        union message message;

        rig_agent(rig, true, false);
        client_ask(rig, &(struct question){.name = "other.test", .type = DNS_TYPE_A, .id = 1});
        monitor_take(rig, MESSAGE_REFUSED, &message);
        assert_int_equal(message.refused.would, 1);
        upstream_answer(rig, "other.test", DNS_TYPE_A, 0, "other.test. 300 IN A 10.0.0.1");
        monitor_take(rig, MESSAGE_REFUSED, &message);
        assert_int_equal(message.refused.would, 1);
        assert_int_equal(message.refused.reason, REASON_PRIVATE_ADDRESS);
        expect_reply(rig, 1, DNS_NOERROR, 1);
}

static void a_quarantined_agent_is_told_nothing(void **state)
{
        struct rig *rig = started(state, "A allowed.test\nA next.test\nA last.test\n");
        union message message;
        struct packet query;

        rig_resolve(rig, "allowed.test", 1, "allowed.test. 300 IN A 192.0.2.1", 1);
        rig_agent(rig, true, true);
        client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_A, .id = 2});
        expect_reply(rig, 2, DNS_NXDOMAIN, 0);
        monitor_take(rig, MESSAGE_REFUSED, &message);
        assert_int_equal(message.refused.reason, REASON_QUARANTINE);

        /* Nor is anything asked for it: the upstream hears of the next name only when the quarantine is over. */
        client_ask(rig, &(struct question){.name = "next.test", .type = DNS_TYPE_A, .id = 3});
        expect_reply(rig, 3, DNS_NXDOMAIN, 0);
        rig_agent(rig, true, false);
        client_ask(rig, &(struct question){.name = "last.test", .type = DNS_TYPE_A, .id = 4});
        upstream_expect(rig, "last.test", DNS_TYPE_A, &query);
}

static void odd_queries_are_dropped_or_answered_with_an_error(void **state)
{
        static const struct {
                const char *bytes;
                size_t size;
                int rcode; /* -1: dropped */
        } cases[] = {
                {"\0\1\1", 3, -1},
                {"\0\1\x81\0\0\1\0\0\0\0\0\0\0\0\1\0\1", 17, -1},                  /* a response */
                {"\0\1\1\0\0\1", 6, DNS_FORMERR},                                  /* cut */
                {"\0\1\1\0\0\2\0\0\0\0\0\0\0\0\1\0\1\0\0\1\0\1", 22, DNS_FORMERR}, /* two questions */
                {"\0\1\1\0\0\0\0\0\0\0\0\0", 12, DNS_FORMERR},                     /* none */
                {"\0\1\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1", 18, DNS_FORMERR},     /* a pointer */
                {"\0\1\x21\0\0\1\0\0\0\0\0\0\0\0\1\0\1", 17, DNS_NOTIMP},          /* NOTIFY */
                {"\0\1\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\3", 19, DNS_REFUSED},        /* class CH */
                {"\0\1\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1x", 20, DNS_FORMERR},       /* something behind */
        };
        struct rig *rig = started(state, "A allowed.test\n");

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                static struct packet packet;

                assert_int_equal(send(rig->client, cases[i].bytes, cases[i].size, 0), cases[i].size);
                if (cases[i].rcode >= 0) {
                        client_take(rig->client, &packet);
                        assert_int_equal(dns_get16(packet.bytes), 1);
                        assert_int_equal(packet.bytes[3] & 0xf, cases[i].rcode);
                }
                client_ask(rig, &(struct question){.name = "allowed.test", .type = DNS_TYPE_HTTPS, .id = 77});
                expect_reply(rig, 77, DNS_NOERROR, 0);
        }
}

static void a_wildcard_is_no_tunnel(void **state)
{
        struct rig *rig = started(state, "A *.wild.test\n");
        union message message;
        unsigned n_refused = 0;
        struct packet query;
        char name[128];

        client_ask(rig, &(struct question){"nbswy3dpfqqho33snrscc5dijfzsayjomrqxiyi.wild.test", DNS_TYPE_A, 1});
        expect_reply(rig, 1, DNS_NXDOMAIN, 0);
        monitor_take(rig, MESSAGE_REFUSED, &message);
        assert_int_equal(message.refused.reason, REASON_NAME_NOT_ALLOWED);

        /* The burst passes, then most are refused. Each step waits for what the one before has caused. */
        for (unsigned i = 0; i < 300; i++) {
                bool seen = false;

                snprintf(name, sizeof(name), "n%u.wild.test", i);
                client_ask(rig, &(struct question){.name = name, .type = DNS_TYPE_A, .id = (__u16)i});
                while (!seen) {
                        struct pollfd ready[2] = {{.fd = rig->client, .events = POLLIN},
                                                  {.fd = rig->upstream_udp, .events = POLLIN}};

                        assert_true(poll(ready, 2, RIG_WAIT_MS) > 0);
                        if (ready[0].revents & POLLIN) {
                                expect_reply(rig, (__u16)i, DNS_REFUSED, 0);
                                n_refused++;
                                seen = true;
                        } else {
                                /* Unanswered ones come again: not counted. */
                                upstream_take(rig, &query);
                                seen = asks_for(&query, name, DNS_TYPE_A);
                        }
                }
        }
        assert_in_range(n_refused, 1, 100);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                WORKER_TEST(answers_an_allowed_name_only_after_it_was_learned),
                WORKER_TEST(never_answers_what_the_monitor_could_not_learn),
                WORKER_TEST(refused_names_never_reach_the_upstream),
                WORKER_TEST(the_answer_for_a_refused_name_is_the_configured_one_with_its_reason),
                WORKER_TEST(private_and_metadata_addresses_are_withheld),
                WORKER_TEST(follows_a_chain_of_names_and_learns_under_the_asked_one),
                WORKER_TEST(types_that_carry_addresses_elsewhere_are_answered_empty_or_refused),
                WORKER_TEST(many_addresses_are_learned_in_parts_before_any_is_told),
                WORKER_TEST(same_questions_in_flight_are_one),
                WORKER_TEST(a_cached_answer_needs_neither_upstream_nor_monitor),
                WORKER_TEST(a_policy_that_changes_in_between_is_the_one_that_counts),
                WORKER_TEST(an_audit_agent_is_told_and_reported),
                WORKER_TEST(a_quarantined_agent_is_told_nothing),
                WORKER_TEST(odd_queries_are_dropped_or_answered_with_an_error),
                WORKER_TEST(a_wildcard_is_no_tunnel),
        };

        if (argc == 2 && strcmp(argv[1], "dns-worker") == 0)
                return dns_worker_main(3);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
