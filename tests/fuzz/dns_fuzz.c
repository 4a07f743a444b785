/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The two parsers that strangers reach: queries (first byte even) and upstream's answers (odd). What comes out is
 * checked: a reply fits, an address of an answer is one that the policy lets pass, a template is well formed at any
 * size.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agentd/dns/answer.h"
#include "agentd/net/dns_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct policy_table *policies(void)
{
        static const char text[] = "A www.example\nA *.wild.example\nD denied.example\n";
        static struct policy_table *table;
        struct message_policy message = {.policy_id = 1};
        int fd;

        if (table)
                return table;
        fd = memfd_create("policy", MFD_CLOEXEC);
        if (fd < 0 || write(fd, text, sizeof(text) - 1) != sizeof(text) - 1 || policy_table_new(&table) < 0 ||
            policy_table_set(table, &message, fd) < 0)
                abort();
        close(fd);
        return table;
}

static void fuzz_query(const uint8_t *data, size_t size)
{
        static uint8_t reply[DNS_REPLY_OVERHEAD];
        struct dns_query query;
        enum dns_rcode rcode;
        size_t length;

        if (dns_query_parse(data, size, &query, &rcode) == DNS_PARSE_DROP)
                return;
        if (query.wire_name_length > DNS_NAME_WIRE_MAX || query.udp_size < DNS_UDP_DEFAULT ||
            query.udp_size > DNS_UDP_MAX || strnlen(query.name, NAME_MAX_BYTES) == NAME_MAX_BYTES)
                abort();
        length = dns_reply_empty(&query, DNS_NXDOMAIN, DNS_EDE_BLOCKED, reply, sizeof(reply));
        if (length < DNS_HEADER_SIZE || length > sizeof(reply))
                abort();
        if (query.is_host_name && query.wire_name_length > 1) {
                uint8_t wire[DNS_NAME_WIRE_MAX];

                if (dns_name_from_text(query.name, wire) != query.wire_name_length)
                        abort();
        }
}

static void fuzz_answer(const uint8_t *data, size_t size)
{
        static uint8_t reply[DNS_MESSAGE_MAX];
        static const uint16_t types[] = {DNS_TYPE_A, DNS_TYPE_AAAA, DNS_TYPE_TXT, DNS_TYPE_CNAME};
        char name[NAME_MAX_BYTES] = "www.example";
        struct answer_question question = {
                .policy = policy_table_find(policies(), 1),
                .name = name,
                .type = types[data[0] >> 1 & 3],
                .audit = data[0] >> 3 & 1,
                .max_ttl_s = 3600,
        };
        struct dns_query query = {.udp_size = 512, .edns = true};
        struct answer *answer;

        if (answer_new(data + 1, size - 1, &question, &answer) < 0)
                return;
        for (size_t i = 0; i < answer->n_addresses; i++)
                if (dns_policy_address(question.policy, &answer->addresses[i].address) != REASON_NONE ||
                    answer->addresses[i].ttl_s > 3600)
                        abort();
        if (!answer->denied_name[0]) {
                size_t limit = 64 + (data[0] >> 4) * 100u, length;

                query.wire_name_length = (__u16)dns_name_from_text(name, query.wire_name);
                query.type = question.type;
                length = dns_template_write(&answer->template, &query, 10, DNS_EDE_NONE, reply, limit);
                if (length > limit)
                        abort();
                (void)dns_template_write(&answer->template, &query, 10, DNS_EDE_FILTERED, reply, sizeof(reply));
        }
        answer_free(answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (size < 1)
                return 0;
        if (data[0] & 1)
                fuzz_answer(data, size);
        else
                fuzz_query(data + 1, size - 1);
        return 0;
}
