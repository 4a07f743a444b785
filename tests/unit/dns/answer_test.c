/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is kept of an upstream's answer, what is taken out, and what is no answer at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <ldns/ldns.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agentd/dns/answer.h"
#include "agentd/net/addr.h"
#include "agentd/util/macro.h"

static struct policy_table *table;

static int make_policies(void **state)
{
        static const char text[] = "A www.example\nA *.wild.example\nD denied.example\nD *.bad.example\n";
        struct message_policy message = {.policy_id = 1};
        int fd = memfd_create("policy", MFD_CLOEXEC);

        assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
        assert_int_equal(policy_table_new(&table), 0);
        assert_int_equal(policy_table_set(table, &message, fd), 0);
        message.policy_id = 2;
        message.allow_private = 1;
        message.metadata_allow = 1;
        assert_int_equal(policy_table_set(table, &message, fd), 0);
        close(fd);
        return 0;
}

static int free_policies(void **state)
{
        policy_table_free(table);
        return 0;
}

static struct answer_question question_for(__u32 policy_id, __u16 type)
{
        static char name[NAME_MAX_BYTES] = "www.example";

        return (struct answer_question){
                .policy = policy_table_find(table, policy_id), .name = name, .type = type, .max_ttl_s = 3600};
}

/* records: "A " or "N " or "X " (answer, authority, additional), then the record; one a line. */
static size_t make_packet(const char *name, __u16 type, int rcode, const char *records, __u8 *ret)
{
        ldns_pkt *packet = ldns_pkt_query_new(ldns_dname_new_frm_str(name), (ldns_rr_type)type, LDNS_RR_CLASS_IN, 0);
        char line[512];
        uint8_t *wire;
        size_t size;

        ldns_pkt_set_qr(packet, true);
        ldns_pkt_set_rcode(packet, (uint8_t)rcode);
        while (*records) {
                size_t length = strcspn(records, "\n");
                ldns_rr *record = NULL;

                memcpy(line, records + 2, length - 2);
                line[length - 2] = 0;
                assert_int_equal(ldns_rr_new_frm_str(&record, line, 0, NULL, NULL), LDNS_STATUS_OK);
                ldns_pkt_push_rr(packet,
                                 records[0] == 'A'   ? LDNS_SECTION_ANSWER
                                 : records[0] == 'N' ? LDNS_SECTION_AUTHORITY
                                                     : LDNS_SECTION_ADDITIONAL,
                                 record);
                records += length + (records[length] == '\n');
        }
        assert_int_equal(ldns_pkt2wire(&wire, packet, &size), LDNS_STATUS_OK);
        memcpy(ret, wire, size);
        free(wire);
        ldns_pkt_free(packet);
        return size;
}

static void keeps_the_chain_and_nothing_else(void **state)
{
        static const struct {
                __u16 type;
                int rcode;
                const char *records;
                size_t n_answers, n_authorities, n_addresses;
                __u32 ttl_s;
        } cases[] = {
                {DNS_TYPE_A, 0, "A www.example 300 IN A 192.0.2.1\nA www.example 200 IN A 192.0.2.2", 2, 0, 2, 200},
                {DNS_TYPE_A, 0, "A WWW.example 300 IN A 192.0.2.1", 1, 0, 1, 300},
                /* Over the longest TTL, and one with the top bit set (RFC 2181: zero). */
                {DNS_TYPE_A, 0, "A www.example 86400 IN A 192.0.2.1", 1, 0, 1, 3600},
                {DNS_TYPE_A, 0, "A www.example 2147483648 IN A 192.0.2.1", 1, 0, 1, 0},
                /* Other names, other types, other sections, other classes. */
                {DNS_TYPE_A, 0,
                 "A www.example 300 IN A 192.0.2.1\nA other.example 300 IN A 192.0.2.66\n"
                 "A www.example 300 IN AAAA 2001:db8::66\nN example 300 IN NS ns.example\n"
                 "X ns.example 300 IN A 192.0.2.66\nA www.example 300 CH A 192.0.2.66",
                 1, 0, 1, 300},
                /* A chain in any order; what hangs beside it is left out. */
                {DNS_TYPE_AAAA, 0,
                 "A c.example 50 IN AAAA 2001:db8::1\nA www.example 300 IN CNAME b.example\n"
                 "A b.example 40 IN CNAME c.example\nA x.example 300 IN CNAME y.example",
                 3, 0, 1, 40},
                {DNS_TYPE_CNAME, 0, "A www.example 300 IN CNAME b.example\nA b.example 300 IN CNAME c.example", 1, 0, 0,
                 300},
                /* Negative: the SOA stays. */
                {DNS_TYPE_AAAA, 0, "N example 60 IN SOA ns.example root.example 1 2 3 4 5", 0, 1, 0, 60},
                {DNS_TYPE_A, 3, "N example 60 IN SOA ns.example root.example 1 2 3 4 5", 0, 1, 0, 60},
                {DNS_TYPE_A, 3, "", 0, 0, 0, 0},
                /* Addresses ride in no other type. */
                {DNS_TYPE_MX, 0, "A www.example 300 IN MX 10 m.example\nX m.example 300 IN A 192.0.2.66", 1, 0, 0, 300},
                {DNS_TYPE_SRV, 0, "A www.example 300 IN SRV 1 2 3 m.example\nA m.example 300 IN A 192.0.2.66", 1, 0, 0,
                 300},
        };
        static __u8 packet[DNS_MESSAGE_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                size_t size = make_packet("www.example", cases[i].type, cases[i].rcode, cases[i].records, packet);
                struct answer_question question = question_for(1, cases[i].type);
                struct answer *answer = NULL;

                assert_int_equal(answer_new(packet, size, &question, &answer), 0);
                assert_int_equal(answer->template.n_answers, cases[i].n_answers);
                assert_int_equal(answer->template.n_authorities, cases[i].n_authorities);
                assert_int_equal(answer->template.rcode, cases[i].rcode);
                assert_int_equal(answer->n_addresses, cases[i].n_addresses);
                assert_int_equal(answer->n_withheld, 0);
                assert_int_equal(answer->ttl_s, cases[i].ttl_s);
                assert_false(answer->nothing_left);
                answer_free(answer);
        }
}

static void withholds_what_the_policy_withholds(void **state)
{
        static const struct {
                const char *address;
                enum verdict_reason reason;
        } cases[] = {
                {"10.1.2.3", REASON_PRIVATE_ADDRESS},
                {"127.0.0.1", REASON_PRIVATE_ADDRESS},
                {"0.0.0.0", REASON_PRIVATE_ADDRESS},
                {"100.64.0.1", REASON_PRIVATE_ADDRESS},
                {"169.254.1.1", REASON_PRIVATE_ADDRESS},
                {"169.254.169.254", REASON_METADATA},
                {"224.0.0.1", REASON_PRIVATE_ADDRESS},
                {"::1", REASON_PRIVATE_ADDRESS},
                {"::ffff:10.0.0.1", REASON_PRIVATE_ADDRESS},
                {"64:ff9b::a00:1", REASON_PRIVATE_ADDRESS},
                {"64:ff9b::a9fe:a9fe", REASON_METADATA},
                {"2002:0a00:0001::1", REASON_PRIVATE_ADDRESS},
                {"fd00::1", REASON_PRIVATE_ADDRESS},
                {"fe80::1", REASON_PRIVATE_ADDRESS},
                {"fd00:ec2::254", REASON_METADATA},
                {"192.0.2.1", REASON_NONE},
                {"198.18.0.1", REASON_NONE},
                {"2001:db8::1", REASON_NONE},
        };
        static __u8 packet[DNS_MESSAGE_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                __u16 type = strchr(cases[i].address, ':') ? DNS_TYPE_AAAA : DNS_TYPE_A;
                bool withheld = cases[i].reason != REASON_NONE;
                struct answer *answer = NULL;
                struct answer_question question;
                char record[128];
                size_t size;

                snprintf(record, sizeof(record), "A www.example 300 IN %s %s", type == DNS_TYPE_A ? "A" : "AAAA",
                         cases[i].address);
                size = make_packet("www.example", type, 0, record, packet);
                question = question_for(1, type);
                assert_int_equal(answer_new(packet, size, &question, &answer), 0);
                if (answer->n_withheld != withheld)
                        fail_msg("%s", cases[i].address);
                assert_int_equal(answer->n_addresses, !withheld);
                assert_int_equal(answer->template.n_answers, !withheld);
                assert_int_equal(answer->nothing_left, withheld);
                if (withheld)
                        assert_int_equal(answer->withheld[0].reason, cases[i].reason);
                answer_free(answer);

                /* Audit: told, listed, not learned. */
                question.audit = true;
                assert_int_equal(answer_new(packet, size, &question, &answer), 0);
                assert_int_equal(answer->template.n_answers, 1);
                assert_int_equal(answer->n_withheld, withheld);
                assert_int_equal(answer->n_addresses, !withheld);
                answer_free(answer);

                /* A policy that allows both. */
                question = question_for(2, type);
                assert_int_equal(answer_new(packet, size, &question, &answer), 0);
                assert_int_equal(answer->n_addresses, 1);
                answer_free(answer);
        }
}

static void a_chain_through_a_denied_name_tells_nothing(void **state)
{
        static const char *const records[] = {
                "A www.example 300 IN CNAME denied.example\nA denied.example 300 IN A 192.0.2.1",
                "A www.example 300 IN CNAME b.example\nA b.example 300 IN CNAME x.bad.example",
        };
        static __u8 packet[DNS_MESSAGE_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(records); i++) {
                size_t size = make_packet("www.example", DNS_TYPE_A, 0, records[i], packet);
                struct answer_question question = question_for(1, DNS_TYPE_A);
                struct answer *answer = NULL;

                assert_int_equal(answer_new(packet, size, &question, &answer), 0);
                assert_string_not_equal(answer->denied_name, "");
                assert_int_equal(answer->n_addresses, 0);
                assert_null(answer->template.wire);
                answer_free(answer);
        }
}

static void what_is_no_answer_is_refused(void **state)
{
        static const struct {
                const char *name;
                __u16 type;
                int rcode;
                const char *records;
                int result;
        } cases[] = {
                {"www.example", DNS_TYPE_A, 2, "", -EPROTO},
                {"www.example", DNS_TYPE_A, 5, "", -EPROTO},
                {"other.example", DNS_TYPE_A, 0, "A other.example 300 IN A 192.0.2.1", -EBADMSG},
                {"www.example", DNS_TYPE_AAAA, 0, "A www.example 300 IN AAAA 2001:db8::1", -EBADMSG},
                {"www.example", DNS_TYPE_A, 0, "A www.example 1 IN CNAME www.example", -EBADMSG},
                {"www.example", DNS_TYPE_A, 0, "A www.example 1 IN CNAME b.example\nA b.example 1 IN CNAME www.example",
                 -EBADMSG},
        };
        static __u8 packet[DNS_MESSAGE_MAX];
        struct answer_question question = question_for(1, DNS_TYPE_A);
        struct answer *answer = NULL;
        size_t size;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                size = make_packet(cases[i].name, cases[i].type, cases[i].rcode, cases[i].records, packet);
                assert_int_equal(answer_new(packet, size, &question, &answer), cases[i].result);
        }
        size = make_packet("www.example", DNS_TYPE_A, 0, "A www.example 300 IN A 192.0.2.1", packet);
        for (size_t cut = 0; cut < size; cut++) {
                __u8 *copy = malloc(cut ? cut : 1);

                memcpy(copy, packet, cut);
                assert_int_equal(answer_new(copy, cut, &question, &answer), -EBADMSG);
                free(copy);
        }
        packet[2] &= 0x7f; /* a question */
        assert_int_equal(answer_new(packet, size, &question, &answer), -EBADMSG);
        assert_null(answer);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(keeps_the_chain_and_nothing_else),
                cmocka_unit_test(withholds_what_the_policy_withholds),
                cmocka_unit_test(a_chain_through_a_denied_name_tells_nothing),
                cmocka_unit_test(what_is_no_answer_is_refused),
        };

        return cmocka_run_group_tests(tests, make_policies, free_policies);
}
