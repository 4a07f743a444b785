/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A worker between a monitor, an upstream and a client, all three played by one test in one thread: what happens is
 * what the test does next, so the order of events is the proof and nothing sleeps.
 */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <ldns/ldns.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agentd/address_class.h"
#include "agentd/dns/channel.h"
#include "agentd/net/addr.h"
#include "agentd/net/dns_message.h"
#include "agentd/process/spawn.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

enum { RIG_WAIT_MS = 10000, RIG_AGENT = 7, RIG_POLICY = 3, RIG_LISTENER = 11 };

struct rig {
        pid_t pid;
        int monitor;
        struct channel channel;
        int upstream_udp, upstream_tcp;
        __u16 upstream_port;
        struct sockaddr_in upstream_peer; /* of the query that was taken last */
        int client;                       /* UDP, connected to the listener */
        __u16 listener_port;
};

struct packet {
        size_t size;
        __u8 bytes[65535];
};

UNUSED static int bound_socket(int type, __u16 *port)
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof(address);
        int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

        address.sin_port = htons(*port);
        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
        *port = ntohs(address.sin_port);
        if (type == SOCK_STREAM)
                assert_int_equal(listen(fd, 16), 0);
        return fd;
}

/* A UDP and a TCP socket on one port. */
UNUSED static void bound_pair(int *ret_udp, int *ret_tcp, __u16 *ret_port)
{
        for (unsigned tries = 0; tries < 50; tries++) {
                struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
                __u16 port = 0;
                int udp = bound_socket(SOCK_DGRAM, &port), tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

                address.sin_port = htons(port);
                if (bind(tcp, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(tcp, 64) == 0) {
                        *ret_udp = udp;
                        *ret_tcp = tcp;
                        *ret_port = port;
                        return;
                }
                close(udp);
                close(tcp);
        }
        fail_msg("no port that is free for UDP and TCP");
}

UNUSED static int connected_socket(int type, __u16 port)
{
        struct sockaddr_in address = {
                .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        return fd;
}

UNUSED static void wait_readable(int fd, const char *what)
{
        struct pollfd readable = {.fd = fd, .events = POLLIN};

        if (poll(&readable, 1, RIG_WAIT_MS) != 1)
                fail_msg("%s does not come", what);
}

/* --- the client --- */

struct question {
        const char *name;
        __u16 type;
        __u16 id;
        __u16 edns; /* 0: none; else the buffer size */
        bool dnssec_ok, authentic;
};

UNUSED static void make_query(const struct question *question, struct packet *ret)
{
        ldns_rdf *name = ldns_dname_new_frm_str(question->name);
        ldns_pkt *packet = ldns_pkt_query_new(name, (ldns_rr_type)question->type, LDNS_RR_CLASS_IN, LDNS_RD);
        uint8_t *wire;

        ldns_pkt_set_id(packet, question->id);
        ldns_pkt_set_ad(packet, question->authentic);
        if (question->edns)
                ldns_pkt_set_edns_udp_size(packet, question->edns);
        if (question->dnssec_ok)
                ldns_pkt_set_edns_do(packet, true);
        assert_int_equal(ldns_pkt2wire(&wire, packet, &ret->size), LDNS_STATUS_OK);
        memcpy(ret->bytes, wire, ret->size);
        free(wire);
        ldns_pkt_free(packet);
}

UNUSED static void client_ask(const struct rig *rig, const struct question *question)
{
        struct packet query;

        make_query(question, &query);
        assert_int_equal(send(rig->client, query.bytes, query.size, 0), query.size);
}

UNUSED static ldns_pkt *parse(const struct packet *packet)
{
        ldns_pkt *parsed = NULL;

        assert_int_equal(ldns_wire2pkt(&parsed, packet->bytes, packet->size), LDNS_STATUS_OK);
        assert_true(ldns_pkt_qr(parsed));
        return parsed;
}

UNUSED static void client_take(int fd, struct packet *ret)
{
        ssize_t size;

        wait_readable(fd, "a reply to the client");
        size = recv(fd, ret->bytes, sizeof(ret->bytes), 0);
        assert_true(size > 0);
        ret->size = (size_t)size;
}

UNUSED static ldns_pkt *client_reply(const struct rig *rig)
{
        static struct packet packet;

        client_take(rig->client, &packet);
        return parse(&packet);
}

/* id, rcode and number of answers of the next reply. */
UNUSED static void expect_reply(const struct rig *rig, __u16 id, int rcode, int n_answers)
{
        ldns_pkt *reply = client_reply(rig);

        assert_int_equal(ldns_pkt_id(reply), id);
        assert_int_equal(ldns_pkt_get_rcode(reply), rcode);
        assert_int_equal(ldns_pkt_ancount(reply), n_answers);
        ldns_pkt_free(reply);
}

UNUSED static void read_exactly(int fd, void *bytes, size_t size)
{
        for (size_t at = 0; at < size;) {
                ssize_t n;

                wait_readable(fd, "a stream's bytes");
                n = read(fd, (char *)bytes + at, size - at);
                assert_true(n > 0);
                at += (size_t)n;
        }
}

UNUSED static void stream_write(int fd, const struct packet *packet)
{
        __u8 length[2];

        dns_put16(length, (__u16)packet->size);
        assert_int_equal(send(fd, length, 2, MSG_MORE), 2);
        assert_int_equal(send(fd, packet->bytes, packet->size, 0), packet->size);
}

UNUSED static void stream_read(int fd, struct packet *ret)
{
        __u8 length[2];

        read_exactly(fd, length, 2);
        ret->size = dns_get16(length);
        read_exactly(fd, ret->bytes, ret->size);
}

/* --- the upstream --- */

UNUSED static void upstream_take(struct rig *rig, struct packet *ret)
{
        socklen_t length = sizeof(rig->upstream_peer);
        ssize_t size;

        wait_readable(rig->upstream_udp, "a query to the upstream");
        size = recvfrom(rig->upstream_udp, ret->bytes, sizeof(ret->bytes), 0, (struct sockaddr *)&rig->upstream_peer,
                        &length);
        assert_true(size >= DNS_HEADER_SIZE);
        ret->size = (size_t)size;
}

UNUSED static bool asks_for(const struct packet *query, const char *name, __u16 type)
{
        char text[NAME_MAX_BYTES];
        size_t length;

        if (dns_name_to_text(query->bytes + DNS_HEADER_SIZE, query->size - DNS_HEADER_SIZE, text, &length) < 0)
                return false;
        return strcmp(text, name) == 0 && dns_get16(query->bytes + DNS_HEADER_SIZE + length) == type;
}

UNUSED static void upstream_expect(struct rig *rig, const char *name, __u16 type, struct packet *ret)
{
        upstream_take(rig, ret);
        if (!asks_for(ret, name, type)) {
                char text[NAME_MAX_BYTES] = "?";
                size_t length;

                (void)dns_name_to_text(ret->bytes + DNS_HEADER_SIZE, ret->size - DNS_HEADER_SIZE, text, &length);
                fail_msg("the upstream was asked for '%s', not '%s'", text, name);
        }
}

/* An authoritative answer, as nsd gives it: AA, no RA. records: one a line. */
UNUSED static void make_answer(const struct packet *query, int rcode, const char *records, struct packet *ret)
{
        ldns_pkt *asked, *reply = ldns_pkt_new();
        char line[512];
        uint8_t *wire;

        assert_int_equal(ldns_wire2pkt(&asked, query->bytes, query->size), LDNS_STATUS_OK);
        ldns_pkt_set_id(reply, ldns_pkt_id(asked));
        ldns_pkt_set_qr(reply, true);
        ldns_pkt_set_aa(reply, true);
        ldns_pkt_set_rd(reply, ldns_pkt_rd(asked));
        ldns_pkt_set_rcode(reply, (uint8_t)rcode);
        ldns_pkt_push_rr(reply, LDNS_SECTION_QUESTION, ldns_rr_clone(ldns_rr_list_rr(ldns_pkt_question(asked), 0)));
        while (*records) {
                size_t length = strcspn(records, "\n");
                ldns_rr *record = NULL;

                assert_true(length < sizeof(line));
                memcpy(line, records, length);
                line[length] = 0;
                assert_int_equal(ldns_rr_new_frm_str(&record, line, 60, NULL, NULL), LDNS_STATUS_OK);
                ldns_pkt_push_rr(reply,
                                 ldns_rr_get_type(record) == LDNS_RR_TYPE_SOA ? LDNS_SECTION_AUTHORITY
                                                                              : LDNS_SECTION_ANSWER,
                                 record);
                records += length + (records[length] == '\n');
        }
        assert_int_equal(ldns_pkt2wire(&wire, reply, &ret->size), LDNS_STATUS_OK);
        memcpy(ret->bytes, wire, ret->size);
        free(wire);
        ldns_pkt_free(reply);
        ldns_pkt_free(asked);
}

UNUSED static void upstream_send(struct rig *rig, const struct packet *packet)
{
        assert_int_equal(sendto(rig->upstream_udp, packet->bytes, packet->size, 0,
                                (struct sockaddr *)&rig->upstream_peer, sizeof(rig->upstream_peer)),
                         packet->size);
}

UNUSED static void upstream_answer(struct rig *rig, const char *name, __u16 type, int rcode, const char *records)
{
        static struct packet query, answer;

        upstream_expect(rig, name, type, &query);
        make_answer(&query, rcode, records, &answer);
        upstream_send(rig, &answer);
}

/* --- the monitor --- */

UNUSED static void monitor_send(struct rig *rig, const void *message, const int *fds, size_t n_fds)
{
        assert_int_equal(channel_send(&rig->channel, message, fds, n_fds), 0);
        assert_false(channel_is_waiting(&rig->channel));
}

/* The next message but statistics and durations, which come when they like. */
UNUSED static void monitor_take(struct rig *rig, __u32 kind, union message *ret)
{
        do {
                int r;

                wait_readable(rig->monitor, "a message to the monitor");
                r = channel_receive(rig->monitor, ret, NULL, NULL);
                if (r < 0)
                        fail_msg("the worker is gone: %s", strerror(-r));
        } while (ret->header.kind == MESSAGE_ALIVE ||
                 (ret->header.kind == MESSAGE_DURATIONS && kind != MESSAGE_DURATIONS) ||
                 (ret->header.kind == MESSAGE_STATISTICS && kind != MESSAGE_STATISTICS));
        assert_int_equal(ret->header.kind, kind);
}

UNUSED static void monitor_acknowledge(struct rig *rig, __u64 id, __s32 error)
{
        struct message_learned message = {.header = {MESSAGE_LEARNED, sizeof(message), id}, .error = error};

        monitor_send(rig, &message, NULL, 0);
}

/* Returns when the worker has taken everything that was sent before: queries come by another way and may overtake. */
UNUSED static void rig_barrier(struct rig *rig)
{
        struct message_resolve message = {.header = {MESSAGE_RESOLVE, sizeof(message), 1u << 30},
                                          .policy_id = RIG_POLICY,
                                          .name = "barrier.invalid"};
        union message answer;

        monitor_send(rig, &message, NULL, 0);
        do {
                wait_readable(rig->monitor, "the barrier");
                assert_int_equal(channel_receive(rig->monitor, &answer, NULL, NULL), 0);
        } while (answer.header.kind == MESSAGE_STATISTICS || answer.header.kind == MESSAGE_REFUSED ||
                 answer.header.kind == MESSAGE_ALIVE);
        assert_int_equal(answer.header.kind, MESSAGE_RESOLVED);
}

UNUSED static void rig_policy(struct rig *rig, const char *text, bool allow_private)
{
        struct message_policy message = {.header = {MESSAGE_POLICY, sizeof(message), 0},
                                         .policy_id = RIG_POLICY,
                                         .allow_private = allow_private};
        _cleanup_close_ int fd = memfd_create("policy", MFD_CLOEXEC);

        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        monitor_send(rig, &message, &fd, 1);
        rig_barrier(rig);
}

UNUSED static void rig_agent(struct rig *rig, bool audit, bool quarantine)
{
        struct message_agent message = {.header = {MESSAGE_AGENT, sizeof(message), 0},
                                        .agent_id = RIG_AGENT,
                                        .policy_id = RIG_POLICY,
                                        .audit = audit,
                                        .quarantine = quarantine};

        monitor_send(rig, &message, NULL, 0);
        rig_barrier(rig);
}

UNUSED static struct message_settings rig_settings(const struct rig *rig)
{
        struct message_settings settings = {
                .header = {MESSAGE_SETTINGS, sizeof(settings), 0},
                .n_upstreams = 1,
                .min_ttl_s = 30,
                .max_ttl_s = 3600,
                .grace_s = 60,
        };

        snprintf(settings.upstreams[0], UPSTREAM_TEXT_MAX, "127.0.0.1@%u", rig->upstream_port);
        return settings;
}

/* The upstream's sockets only. */
UNUSED static void rig_open(struct rig *rig)
{
        *rig = (struct rig){.monitor = -1, .client = -1};
        bound_pair(&rig->upstream_udp, &rig->upstream_tcp, &rig->upstream_port);
}

/* A worker that is ready; agent, policy and listener as given. */
UNUSED static void rig_start(struct rig *rig, const struct message_settings *settings, const char *policy)
{
        struct message_listener listener = {.header = {MESSAGE_LISTENER, sizeof(listener), 0},
                                            .agent_id = RIG_AGENT,
                                            .listener_id = RIG_LISTENER,
                                            .present = {1, 1}};
        union message message;
        int fds[2];

        assert_int_equal(process_start("/proc/self/exe", "dns-worker", &rig->pid, &rig->monitor), 0);
        channel_init(&rig->channel, rig->monitor, 16);
        monitor_send(rig, settings, NULL, 0);
        monitor_take(rig, MESSAGE_READY, &message);
        rig_policy(rig, policy, false);
        rig_agent(rig, false, false);
        bound_pair(&fds[0], &fds[1], &rig->listener_port);
        monitor_send(rig, &listener, fds, 2);
        close(fds[0]);
        close(fds[1]);
        rig->client = connected_socket(SOCK_DGRAM, rig->listener_port);
}

UNUSED static void rig_stop(struct rig *rig)
{
        if (rig->pid > 0)
                process_end(rig->pid);
        channel_clear(&rig->channel);
        close_fd(&rig->monitor);
        close_fd(&rig->client);
        close_fd(&rig->upstream_udp);
        close_fd(&rig->upstream_tcp);
}

/* A look-up from the client to the upstream, learned, to the client: the state in which the cache is warm. */
UNUSED static void rig_resolve(struct rig *rig, const char *name, __u16 id, const char *records, int n_answers)
{
        struct question question = {.name = name, .type = DNS_TYPE_A, .id = id, .edns = 4096};
        union message message;

        client_ask(rig, &question);
        upstream_answer(rig, name, DNS_TYPE_A, 0, records);
        monitor_take(rig, MESSAGE_LEARN, &message);
        monitor_acknowledge(rig, message.header.id, 0);
        expect_reply(rig, id, 0, n_answers);
}
