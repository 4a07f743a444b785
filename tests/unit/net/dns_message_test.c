/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Queries and replies, held to ldns: what one writes the other reads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <errno.h>
#include <ldns/ldns.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/net/dns_message.h"
#include "agentd/util/macro.h"

static size_t write_query(const char *name, __u16 type, __u16 edns, bool dnssec_ok, __u8 *ret)
{
        ldns_pkt *packet = ldns_pkt_query_new(ldns_dname_new_frm_str(name), (ldns_rr_type)type, LDNS_RR_CLASS_IN,
                                              LDNS_RD | LDNS_CD);
        uint8_t *wire;
        size_t size;

        ldns_pkt_set_id(packet, 0x1234);
        if (edns)
                ldns_pkt_set_edns_udp_size(packet, edns);
        ldns_pkt_set_edns_do(packet, dnssec_ok);
        assert_int_equal(ldns_pkt2wire(&wire, packet, &size), LDNS_STATUS_OK);
        memcpy(ret, wire, size);
        free(wire);
        ldns_pkt_free(packet);
        return size;
}

static ldns_pkt *read_reply(const __u8 *bytes, size_t size)
{
        ldns_pkt *packet = NULL;

        assert_int_equal(ldns_wire2pkt(&packet, bytes, size), LDNS_STATUS_OK);
        assert_true(ldns_pkt_qr(packet));
        assert_int_equal(ldns_pkt_id(packet), 0x1234);
        return packet;
}

static void reads_what_ldns_writes(void **state)
{
        static const struct {
                const char *name;
                __u16 type, edns;
                bool dnssec_ok;
                __u16 udp_size;
        } cases[] = {
                {"example.com", DNS_TYPE_A, 0, false, 512},      {"WWW.Example.COM", DNS_TYPE_AAAA, 1232, false, 1232},
                {"a.b", DNS_TYPE_TXT, 4096, true, 4096},         {"a.b", DNS_TYPE_SRV, 65535, false, 4096},
                {"_dmarc.a-b.c", DNS_TYPE_TXT, 100, false, 512},
        };
        __u8 bytes[1024];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                size_t size = write_query(cases[i].name, cases[i].type, cases[i].edns, cases[i].dnssec_ok, bytes);
                struct dns_query query;
                enum dns_rcode rcode;
                char lower[64] = {0};

                for (size_t j = 0; cases[i].name[j]; j++)
                        lower[j] = (char)tolower(cases[i].name[j]);
                assert_int_equal(dns_query_parse(bytes, size, &query, &rcode), DNS_PARSE_QUERY);
                assert_int_equal(query.id, 0x1234);
                assert_string_equal(query.name, lower);
                assert_true(query.is_host_name);
                assert_int_equal(query.type, cases[i].type);
                assert_int_equal(query.edns, cases[i].edns != 0);
                assert_int_equal(query.dnssec_ok, cases[i].dnssec_ok);
                assert_int_equal(query.udp_size, cases[i].udp_size);
        }
}

static void every_cut_of_a_query_is_no_query(void **state)
{
        __u8 bytes[1024];
        size_t size = write_query("www.example.com", DNS_TYPE_A, 1232, true, bytes);

        for (size_t cut = 0; cut < size; cut++) {
                /* Its own allocation, so that the sanitizer sees a read behind it. */
                __u8 *copy = malloc(cut ? cut : 1);
                struct dns_query query;
                enum dns_rcode rcode;

                memcpy(copy, bytes, cut);
                assert_int_equal(dns_query_parse(copy, cut, &query, &rcode),
                                 cut < 4 ? DNS_PARSE_DROP : DNS_PARSE_ERROR);
                if (cut >= 4)
                        assert_int_equal(rcode, DNS_FORMERR);
                free(copy);
        }
}

static void names_go_to_text_and_back(void **state)
{
        static const struct {
                const char *wire;
                size_t size;
                int result;
                const char *text;
        } cases[] = {
                {"\1a\2bC\0", 6, 0, "a.bc"},        {"\0", 1, -EINVAL, "."},
                {"\3a.b\0", 5, -EINVAL, "a?b"},     {"\1*\1a\0", 5, -EINVAL, "?.a"},
                {"\2\xc3\xa9\0", 4, -EINVAL, "??"}, {"\1a", 2, -EBADMSG, NULL},
                {"\5a\0", 3, -EBADMSG, NULL},       {"\xc0\x0c", 2, -EBADMSG, NULL},
                {"\x40", 1, -EBADMSG, NULL},        {"", 0, -EBADMSG, NULL},
        };
        char text[NAME_MAX_BYTES], longest[300];
        __u8 wire[DNS_NAME_WIRE_MAX];
        size_t length;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_int_equal(dns_name_to_text(cases[i].wire, cases[i].size, text, &length), cases[i].result);
                if (cases[i].text) {
                        assert_string_equal(text, cases[i].text);
                        assert_int_equal(length, cases[i].size);
                }
        }
        assert_int_equal(dns_name_from_text("a.bc", wire), 6);
        assert_memory_equal(wire, "\1a\2bc\0", 6);
        assert_int_equal(dns_name_from_text("", wire), -EINVAL);
        assert_int_equal(dns_name_from_text("a..b", wire), -EINVAL);
        assert_int_equal(dns_name_from_text("a.", wire), -EINVAL);
        assert_int_equal(dns_name_from_text(".a", wire), -EINVAL);

        /* 253 characters fit, 254 do not; 63 in a label fit, 64 do not. */
        memset(longest, 'a', sizeof(longest));
        longest[63] = longest[127] = longest[191] = '.';
        longest[253] = 0;
        assert_int_equal(dns_name_from_text(longest, wire), 255);
        assert_int_equal(dns_name_to_text(wire, 255, text, &length), 0);
        assert_string_equal(text, longest);
        longest[253] = 'a';
        longest[254] = 0;
        assert_int_equal(dns_name_from_text(longest, wire), -EINVAL);
        memset(longest, 'a', 64);
        longest[64] = 0;
        assert_int_equal(dns_name_from_text(longest, wire), -EINVAL);
}

static void an_empty_reply_is_read_by_ldns(void **state)
{
        static const struct {
                __u16 edns;
                enum dns_rcode rcode;
                enum dns_ede ede;
        } cases[] = {
                {0, DNS_NXDOMAIN, DNS_EDE_BLOCKED},
                {1232, DNS_NXDOMAIN, DNS_EDE_BLOCKED},
                {1232, DNS_NOERROR, DNS_EDE_NONE},
                {512, DNS_SERVFAIL, DNS_EDE_OTHER},
        };
        __u8 bytes[1024], reply[DNS_REPLY_OVERHEAD];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                size_t size = write_query("WWW.Example.com", DNS_TYPE_A, cases[i].edns, cases[i].edns != 0, bytes);
                struct dns_query query;
                enum dns_rcode rcode;
                ldns_pkt *packet;
                char *name;

                assert_int_equal(dns_query_parse(bytes, size, &query, &rcode), DNS_PARSE_QUERY);
                size = dns_reply_empty(&query, cases[i].rcode, cases[i].ede, reply, sizeof(reply));
                packet = read_reply(reply, size);
                assert_int_equal(ldns_pkt_get_rcode(packet), cases[i].rcode);
                assert_true(ldns_pkt_rd(packet) && ldns_pkt_ra(packet) && ldns_pkt_cd(packet));
                assert_int_equal(ldns_pkt_edns(packet), cases[i].edns != 0);
                name = ldns_rdf2str(ldns_rr_owner(ldns_rr_list_rr(ldns_pkt_question(packet), 0)));
                assert_string_equal(name, "WWW.Example.com."); /* the client's own case */
                free(name);
                if (cases[i].edns && cases[i].ede != DNS_EDE_NONE) {
                        const __u8 *option = ldns_rdf_data(ldns_pkt_edns_data(packet));

                        assert_int_equal(dns_get16(option), 15);
                        assert_int_equal(dns_get16(option + 4), cases[i].ede);
                }
                ldns_pkt_free(packet);
                assert_int_equal(dns_reply_empty(&query, cases[i].rcode, cases[i].ede, reply, size - 1), 0);
        }
}

static void an_unknown_edns_version_is_told_so(void **state)
{
        __u8 bytes[1024], reply[DNS_REPLY_OVERHEAD];
        size_t size = write_query("example.com", DNS_TYPE_A, 1232, false, bytes);
        struct dns_query query;
        enum dns_rcode rcode;
        ldns_pkt *packet;

        bytes[size - 11 + 6] = 1;
        assert_int_equal(dns_query_parse(bytes, size, &query, &rcode), DNS_PARSE_ERROR);
        assert_int_equal(rcode, DNS_BADVERS);
        packet = read_reply(reply, dns_reply_empty(&query, rcode, DNS_EDE_NONE, reply, sizeof(reply)));
        assert_int_equal(ldns_pkt_get_rcode(packet), 0);
        assert_int_equal(ldns_pkt_edns_extended_rcode(packet), 1);
        ldns_pkt_free(packet);
}

/* n addresses for the name, and a SOA. */
static struct dns_template make_template(const char *name, unsigned n)
{
        ldns_pkt *packet = ldns_pkt_query_new(ldns_dname_new_frm_str(name), LDNS_RR_TYPE_A, LDNS_RR_CLASS_IN, 0);
        struct dns_template template = {0};
        char line[128];
        uint8_t *wire;
        size_t size;

        for (unsigned i = 0; i <= n; i++) {
                ldns_rr *record;

                if (i < n)
                        snprintf(line, sizeof(line), "%s %u IN A 192.0.2.%u", name, 100 + i, i % 256);
                else
                        snprintf(line, sizeof(line), "%s 60 IN SOA ns.%s root.%s 1 2 3 4 5", name, name, name);
                assert_int_equal(ldns_rr_new_frm_str(&record, line, 0, NULL, NULL), LDNS_STATUS_OK);
                ldns_pkt_push_rr(packet, i < n ? LDNS_SECTION_ANSWER : LDNS_SECTION_AUTHORITY, record);
        }
        assert_int_equal(ldns_pkt2wire(&wire, packet, &size), LDNS_STATUS_OK);
        ldns_pkt_free(packet);
        template.wire = wire;
        template.size = (__u16)size;
        template.n_answers = (__u16)n;
        template.n_authorities = 1;
        template.places = calloc(n + 1, sizeof(*template.places));
        assert_int_equal(dns_places(wire, size, template.places, n), -E2BIG);
        assert_int_equal(dns_places(wire, size, template.places, n + 1), n + 1);
        assert_int_equal(dns_places(wire, size - 1, template.places, n + 1), -EBADMSG);
        assert_int_equal(template.places[n].end, size);
        return template;
}

static void a_template_is_cut_at_records_and_never_over_the_limit(void **state)
{
        struct dns_template template = make_template("www.example.com.", 150);
        __u8 bytes[1024], reply[DNS_MESSAGE_MAX];

        for (size_t limit = 0; limit < 3000; limit++) {
                size_t size = write_query("www.EXAMPLE.com", DNS_TYPE_A, limit % 2 ? 4096 : 0, false, bytes);
                struct dns_query query;
                enum dns_rcode rcode;
                ldns_pkt *packet;

                assert_int_equal(dns_query_parse(bytes, size, &query, &rcode), DNS_PARSE_QUERY);
                size = dns_template_write(&template, &query, 0, DNS_EDE_NONE, reply, limit);
                assert_true(size <= limit);
                if (size == 0) {
                        assert_true(limit < 60);
                        continue;
                }
                packet = read_reply(reply, size);
                assert_int_equal(ldns_pkt_tc(packet), ldns_pkt_ancount(packet) < 150);
                assert_true(limit < size + 16 || ldns_pkt_ancount(packet) == 150);
                assert_int_equal(ldns_pkt_edns(packet), limit % 2);
                ldns_pkt_free(packet);
        }
        free(template.places);
        free(template.wire);
}

static void ttls_count_down_to_zero(void **state)
{
        struct dns_template template = make_template("a.example.", 3);
        __u8 bytes[1024], reply[1024];
        size_t size = write_query("a.example", DNS_TYPE_A, 0, false, bytes);
        struct dns_query query;
        enum dns_rcode rcode;
        ldns_pkt *packet;

        assert_int_equal(dns_query_parse(bytes, size, &query, &rcode), DNS_PARSE_QUERY);
        size = dns_template_write(&template, &query, 101, DNS_EDE_NONE, reply, sizeof(reply));
        packet = read_reply(reply, size);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(ldns_rr_ttl(ldns_rr_list_rr(ldns_pkt_answer(packet), i)), i == 2 ? 1 : 0);
        assert_false(ldns_pkt_ad(packet));
        ldns_pkt_free(packet);

        /* AD for those who ask, when it is proven. */
        template.secure = true;
        query.flags |= DNS_FLAG_AD;
        packet = read_reply(reply, dns_template_write(&template, &query, 0, DNS_EDE_NONE, reply, sizeof(reply)));
        assert_true(ldns_pkt_ad(packet));
        ldns_pkt_free(packet);
        query.flags &= (__u16)~DNS_FLAG_AD;
        packet = read_reply(reply, dns_template_write(&template, &query, 0, DNS_EDE_NONE, reply, sizeof(reply)));
        assert_false(ldns_pkt_ad(packet));
        ldns_pkt_free(packet);
        free(template.places);
        free(template.wire);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(reads_what_ldns_writes),
                cmocka_unit_test(every_cut_of_a_query_is_no_query),
                cmocka_unit_test(names_go_to_text_and_back),
                cmocka_unit_test(an_empty_reply_is_read_by_ldns),
                cmocka_unit_test(an_unknown_edns_version_is_told_so),
                cmocka_unit_test(a_template_is_cut_at_records_and_never_over_the_limit),
                cmocka_unit_test(ttls_count_down_to_zero),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
