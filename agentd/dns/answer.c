/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From an upstream's packet to a template for the agent: parse, walk the chain, judge addresses, encode again.
 *
 * Encoding again is the point: nothing of the upstream's bytes but the records that were understood reaches the agent.
 */
#include "agentd/dns/answer.h"

#include <errno.h>
#include <ldns/ldns.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/address_class.h"
#include "agentd/dns/limit.h"
#include "agentd/util/cleanup.h"

/* The records of a 64 KiB message are 11 bytes at least. */
enum { RECORDS_MAX = 6000 };

DEFINE_CLEANUP(ldns_pkt *, ldns_pkt_free);
DEFINE_CLEANUP(ldns_rr *, ldns_rr_free);
DEFINE_CLEANUP(struct answer *, answer_free);

void answer_free(struct answer *answer)
{
        if (!answer)
                return;
        free(answer->withheld);
        free(answer->addresses);
        free(answer->template.places);
        free(answer->template.wire);
        free(answer);
}

/* False when the name is malformed; odd characters are no obstacle inside a chain ('?' matches no pattern). */
static bool rdf_to_name(const ldns_rdf *rdf, char *ret)
{
        size_t length;

        return rdf && dns_name_to_text(ldns_rdf_data(rdf), ldns_rdf_size(rdf), ret, &length) != -EBADMSG;
}

static bool record_address(const ldns_rr *record, struct address *ret)
{
        const ldns_rdf *rdf = ldns_rr_rdf(record, 0);

        if (!rdf)
                return false;
        if (ldns_rr_get_type(record) == LDNS_RR_TYPE_A && ldns_rdf_size(rdf) == 4) {
                __be32 ipv4;

                memcpy(&ipv4, ldns_rdf_data(rdf), 4);
                address_from_ipv4(ret, ipv4);
                return true;
        }
        if (ldns_rr_get_type(record) == LDNS_RR_TYPE_AAAA && ldns_rdf_size(rdf) == 16) {
                memcpy(ret->bytes, ldns_rdf_data(rdf), 16);
                return true;
        }
        return false;
}

static int add_withheld(struct answer *answer, const struct address *address, enum verdict_reason reason)
{
        answer->n_withheld_total++;
        if (answer->n_withheld >= LIMIT_WITHHELD)
                return 0;
        if (!answer->withheld) {
                answer->withheld = calloc(LIMIT_WITHHELD, sizeof(*answer->withheld));
                if (!answer->withheld)
                        return -ENOMEM;
        }
        answer->withheld[answer->n_withheld++] = (struct answer_withheld){*address, reason};
        return 0;
}

static int keep_record(const ldns_rr *record, ldns_pkt_section section, __u32 max_ttl_s, ldns_pkt *reply)
{
        _cleanup_(ldns_rr_freep) ldns_rr *copy = ldns_rr_clone(record);

        if (!copy)
                return -ENOMEM;
        /* RFC 2181: a TTL with the top bit set is 0. */
        if (ldns_rr_ttl(copy) > 0x7fffffff)
                ldns_rr_set_ttl(copy, 0);
        ldns_rr_set_ttl(copy, MIN(ldns_rr_ttl(copy), max_ttl_s));
        if (!ldns_pkt_push_rr(reply, section, copy))
                return -ENOMEM;
        (void)TAKE_PTR(copy);
        return 0;
}

/* An address record: learned and told, or withheld. */
static int take_address(struct answer *answer, const struct answer_question *question, const ldns_rr *record,
                        size_t n_records, ldns_pkt *reply)
{
        enum verdict_reason reason;
        struct address address;
        __u32 ttl_s;
        int r;

        if (!record_address(record, &address))
                return -EBADMSG;
        reason = dns_policy_address(question->policy, &address);
        if (reason != REASON_NONE) {
                r = add_withheld(answer, &address, reason);
                if (r < 0 || !question->audit)
                        return r;
        } else {
                if (!answer->addresses) {
                        answer->addresses = calloc(n_records, sizeof(*answer->addresses));
                        if (!answer->addresses)
                                return -ENOMEM;
                }
                ttl_s = ldns_rr_ttl(record) > 0x7fffffff ? 0 : ldns_rr_ttl(record);
                answer->addresses[answer->n_addresses++] =
                        (struct message_address){.address = address, .ttl_s = MIN(ttl_s, question->max_ttl_s)};
        }
        return keep_record(record, LDNS_SECTION_ANSWER, question->max_ttl_s, reply);
}

/* Follows the chain from the asked name; keeps its CNAMEs and the records of the asked type at its end. */
static int take_chain(struct answer *answer, const struct answer_question *question, const ldns_pkt *packet,
                      ldns_pkt *reply)
{
        const ldns_rr_list *records = ldns_pkt_answer(packet);
        size_t n_records = ldns_rr_list_rr_count(records);
        char name[NAME_MAX_BYTES], owner[NAME_MAX_BYTES];
        int r;

        memcpy(name, question->name, sizeof(name));
        for (unsigned hops = 0; hops <= LIMIT_CNAME_CHAIN; hops++) {
                const ldns_rr *alias = NULL;
                bool found = false;

                for (size_t i = 0; i < n_records; i++) {
                        const ldns_rr *record = ldns_rr_list_rr(records, i);
                        ldns_rr_type type = ldns_rr_get_type(record);

                        if (type != (ldns_rr_type)question->type && type != LDNS_RR_TYPE_CNAME)
                                continue;
                        if (ldns_rr_get_class(record) != LDNS_RR_CLASS_IN ||
                            !rdf_to_name(ldns_rr_owner(record), owner) || strcmp(owner, name) != 0)
                                continue;
                        if (type != (ldns_rr_type)question->type) {
                                alias = alias ?: record;
                                continue;
                        }
                        found = true;
                        r = type == LDNS_RR_TYPE_A || type == LDNS_RR_TYPE_AAAA
                                    ? take_address(answer, question, record, n_records, reply)
                                    : keep_record(record, LDNS_SECTION_ANSWER, question->max_ttl_s, reply);
                        if (r < 0)
                                return r;
                }
                if (found || !alias)
                        return 0;

                r = keep_record(alias, LDNS_SECTION_ANSWER, question->max_ttl_s, reply);
                if (r < 0)
                        return r;
                if (!rdf_to_name(ldns_rr_rdf(alias, 0), name))
                        return -EBADMSG;
                if (!question->audit && dns_policy_denies(question->policy, name)) {
                        memcpy(answer->denied_name, name, sizeof(name));
                        return 0;
                }
        }
        return -EBADMSG;
}

static int take_soa(const struct answer_question *question, const ldns_pkt *packet, ldns_pkt *reply)
{
        const ldns_rr_list *records = ldns_pkt_authority(packet);

        for (size_t i = 0; i < ldns_rr_list_rr_count(records); i++)
                if (ldns_rr_get_type(ldns_rr_list_rr(records, i)) == LDNS_RR_TYPE_SOA)
                        return keep_record(ldns_rr_list_rr(records, i), LDNS_SECTION_AUTHORITY, question->max_ttl_s,
                                           reply);
        return 0;
}

static int check_question(const ldns_pkt *packet, const struct answer_question *question)
{
        const ldns_rr *asked;
        char name[NAME_MAX_BYTES];

        if (!ldns_pkt_qr(packet) || ldns_pkt_get_opcode(packet) != LDNS_PACKET_QUERY ||
            ldns_rr_list_rr_count(ldns_pkt_question(packet)) != 1)
                return -EBADMSG;
        asked = ldns_rr_list_rr(ldns_pkt_question(packet), 0);
        if (ldns_rr_get_type(asked) != (ldns_rr_type)question->type || ldns_rr_get_class(asked) != LDNS_RR_CLASS_IN ||
            !rdf_to_name(ldns_rr_owner(asked), name) || strcmp(name, question->name) != 0)
                return -EBADMSG;
        return 0;
}

/* The reply's skeleton: header and question in lower case. */
static int reply_new(const struct answer_question *question, ldns_pkt_rcode rcode, ldns_pkt **ret)
{
        _cleanup_(ldns_pkt_freep) ldns_pkt *reply = ldns_pkt_new();
        _cleanup_(ldns_rr_freep) ldns_rr *asked = NULL;
        __u8 wire[DNS_NAME_WIRE_MAX];
        ldns_rdf *owner;
        int length;

        length = dns_name_from_text(question->name, wire);
        if (length < 0)
                return length;
        asked = ldns_rr_new();
        owner = ldns_rdf_new_frm_data(LDNS_RDF_TYPE_DNAME, (size_t)length, wire);
        if (!reply || !asked || !owner) {
                ldns_rdf_deep_free(owner);
                return -ENOMEM;
        }
        ldns_rr_set_question(asked, true);
        ldns_rr_set_owner(asked, owner);
        ldns_rr_set_type(asked, (ldns_rr_type)question->type);
        ldns_rr_set_class(asked, LDNS_RR_CLASS_IN);
        if (!ldns_pkt_push_rr(reply, LDNS_SECTION_QUESTION, asked))
                return -ENOMEM;
        (void)TAKE_PTR(asked);
        ldns_pkt_set_qr(reply, true);
        ldns_pkt_set_rcode(reply, (uint8_t)rcode);
        *ret = TAKE_PTR(reply);
        return 0;
}

static int encode(struct answer *answer, const ldns_pkt *reply)
{
        struct dns_template *template = &answer->template;
        size_t n_records = (size_t)ldns_pkt_ancount(reply) + ldns_pkt_nscount(reply), size;
        uint8_t *wire = NULL;
        int n_places;

        if (n_records > RECORDS_MAX)
                return -E2BIG;
        if (ldns_pkt2wire(&wire, reply, &size) != LDNS_STATUS_OK)
                return -ENOMEM;
        if (size > DNS_MESSAGE_MAX) {
                free(wire);
                return -E2BIG;
        }
        template->wire = wire;
        template->size = (__u16)size;
        template->n_answers = ldns_pkt_ancount(reply);
        template->n_authorities = ldns_pkt_nscount(reply);
        template->rcode = (__u8)ldns_pkt_get_rcode(reply);
        template->places = calloc(MAX(n_records, 1u), sizeof(*template->places));
        if (!template->places)
                return -ENOMEM;
        n_places = dns_places(wire, size, template->places, n_records);
        if (n_places < 0)
                return n_places;

        answer->ttl_s = n_places > 0 ? UINT32_MAX : 0;
        for (int i = 0; i < n_places; i++)
                answer->ttl_s = MIN(answer->ttl_s, dns_get32(wire + template->places[i].ttl_offset));
        return 0;
}

int answer_new(const void *data, size_t size, const struct answer_question *question, struct answer **ret)
{
        _cleanup_(answer_freep) struct answer *answer = NULL;
        _cleanup_(ldns_pkt_freep) ldns_pkt *packet = NULL;
        _cleanup_(ldns_pkt_freep) ldns_pkt *reply = NULL;
        ldns_pkt_rcode rcode;
        int r;

        if (size < DNS_HEADER_SIZE || size > DNS_MESSAGE_MAX)
                return -EBADMSG;
        if (ldns_wire2pkt(&packet, data, size) != LDNS_STATUS_OK)
                return -EBADMSG;
        r = check_question(packet, question);
        if (r < 0)
                return r;
        rcode = ldns_pkt_get_rcode(packet);
        if (rcode != LDNS_RCODE_NOERROR && rcode != LDNS_RCODE_NXDOMAIN)
                return -EPROTO;

        answer = calloc(1, sizeof(*answer));
        if (!answer)
                return -ENOMEM;
        r = reply_new(question, rcode, &reply);
        if (r < 0)
                return r;
        r = take_chain(answer, question, packet, reply);
        if (r < 0)
                return r;
        if (!answer->denied_name[0]) {
                bool told = answer->n_addresses > 0 || (question->audit && answer->n_withheld_total > 0);

                answer->nothing_left = answer->n_withheld_total > 0 && !told;
                if (answer->n_withheld_total == 0) {
                        r = take_soa(question, packet, reply);
                        if (r < 0)
                                return r;
                }
                r = encode(answer, reply);
                if (r < 0)
                        return r;
        } else {
                /* Nothing of it is told, so nothing of it is learned. */
                answer->n_addresses = answer->n_withheld = answer->n_withheld_total = 0;
        }
        *ret = TAKE_PTR(answer);
        return 0;
}
