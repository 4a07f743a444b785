/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The parser that an agent can reach with any bytes it likes: every read is bounded by `size`, nothing is followed (a
 * compression pointer in a query is an error), nothing is allocated.
 */
#include "agentd/net/dns_message.h"

#include <errno.h>
#include <string.h>

#include "agentd/util/macro.h"

enum { LABEL_MAX = 63, OPT_FIXED = 11, EDE_OPTION = 15, RECORD_FIXED = 10 };

int dns_name_to_text(const void *wire, size_t size, char *ret, size_t *ret_length)
{
        const __u8 *bytes = wire;
        char text[NAME_MAX_BYTES] = {0};
        size_t at = 0, used = 0;
        bool odd = false;

        for (;;) {
                size_t length;

                if (at >= size)
                        return -EBADMSG;
                length = bytes[at++];
                if (length == 0)
                        break;
                if (length > LABEL_MAX || length > size - at || at + length >= DNS_NAME_WIRE_MAX)
                        return -EBADMSG;
                if (used)
                        text[used++] = '.';
                for (size_t i = 0; i < length; i++) {
                        __u8 byte = bytes[at + i];

                        if (byte >= 'A' && byte <= 'Z')
                                byte |= 0x20;
                        if ((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' ||
                            byte == '_') {
                                text[used++] = (char)byte;
                        } else {
                                text[used++] = '?';
                                odd = true;
                        }
                }
                at += length;
        }
        if (used == 0) {
                text[0] = '.';
                odd = true;
        }
        memcpy(ret, text, sizeof(text));
        *ret_length = at;
        return odd ? -EINVAL : 0;
}

int dns_name_from_text(const char *text, __u8 *ret)
{
        size_t used = 0;

        while (*text) {
                size_t length = strcspn(text, ".");

                if (length == 0 || length > LABEL_MAX || used + 1 + length + 1 > DNS_NAME_WIRE_MAX)
                        return -EINVAL;
                ret[used++] = (__u8)length;
                memcpy(ret + used, text, length);
                used += length;
                text += length;
                if (*text == '.' && *++text == 0)
                        return -EINVAL;
        }
        if (used == 0)
                return -EINVAL;
        ret[used++] = 0;
        return (int)used;
}

/* The additional section of a query: at most one OPT, at most one other record (TSIG and the like: skipped). */
static bool query_parse_additional(const __u8 *bytes, size_t size, size_t at, struct dns_query *query,
                                   __u8 *ret_version)
{
        unsigned n_additional = dns_get16(bytes + 10);

        if (n_additional > 2)
                return false;
        for (unsigned i = 0; i < n_additional; i++) {
                char name[NAME_MAX_BYTES];
                size_t name_length, data_length;
                __u16 type;

                if (dns_name_to_text(bytes + at, size - at, name, &name_length) == -EBADMSG)
                        return false;
                at += name_length;
                if (size - at < RECORD_FIXED)
                        return false;
                type = dns_get16(bytes + at);
                data_length = dns_get16(bytes + at + 8);
                if (data_length > size - at - RECORD_FIXED)
                        return false;
                if (type == DNS_TYPE_OPT) {
                        if (query->edns || name_length != 1)
                                return false;
                        query->edns = true;
                        query->udp_size = MIN(MAX(dns_get16(bytes + at + 2), DNS_UDP_DEFAULT), DNS_UDP_MAX);
                        *ret_version = bytes[at + 5];
                        query->dnssec_ok = bytes[at + 6] & 0x80;
                }
                at += RECORD_FIXED + data_length;
        }
        return at == size;
}

enum dns_parse dns_query_parse(const void *packet, size_t size, struct dns_query *ret, enum dns_rcode *ret_rcode)
{
        const __u8 *bytes = packet;
        size_t at = DNS_HEADER_SIZE, length;
        __u8 version = 0;
        int r;

        if (size < 4 || bytes[2] & 0x80)
                return DNS_PARSE_DROP;

        /* Not the two name buffers: they are large, and written before they are read. */
        ret->id = dns_get16(bytes);
        ret->flags = dns_get16(bytes + 2);
        ret->type = ret->class = ret->wire_name_length = 0;
        ret->udp_size = DNS_UDP_DEFAULT;
        ret->edns = ret->dnssec_ok = ret->is_host_name = false;
        ret->name[0] = 0;

        *ret_rcode = DNS_FORMERR;
        if (ret->flags & DNS_FLAG_OPCODE) {
                *ret_rcode = DNS_NOTIMP;
                return DNS_PARSE_ERROR;
        }
        if (size < DNS_HEADER_SIZE || dns_get16(bytes + 4) != 1 || dns_get16(bytes + 6) != 0 ||
            dns_get16(bytes + 8) != 0)
                return DNS_PARSE_ERROR;

        r = dns_name_to_text(bytes + at, size - at, ret->name, &length);
        if (r == -EBADMSG || size - at - length < 4)
                return DNS_PARSE_ERROR;
        ret->is_host_name = r == 0;
        memcpy(ret->wire_name, bytes + at, length);
        ret->wire_name_length = (__u16)length;
        at += length;
        ret->type = dns_get16(bytes + at);
        ret->class = dns_get16(bytes + at + 2);
        at += 4;

        if (!query_parse_additional(bytes, size, at, ret, &version))
                return DNS_PARSE_ERROR;
        if (version != 0) {
                *ret_rcode = DNS_BADVERS;
                return DNS_PARSE_ERROR;
        }
        if (ret->class != DNS_CLASS_IN) {
                *ret_rcode = DNS_REFUSED;
                return DNS_PARSE_ERROR;
        }
        if (ret->type == DNS_TYPE_OPT || ret->type == 0)
                return DNS_PARSE_ERROR;
        return DNS_PARSE_QUERY;
}

static const char *ede_text(enum dns_ede ede)
{
        switch (ede) {
        case DNS_EDE_BLOCKED:
                return "no rule of this agent's policy allows this name";
        case DNS_EDE_FILTERED:
                return "addresses withheld by policy";
        case DNS_EDE_PROHIBITED:
                return "more look-ups than this agent may make";
        default:
                return "";
        }
}

static size_t opt_size(const struct dns_query *query, enum dns_ede ede)
{
        if (!query->edns)
                return 0;
        return ede == DNS_EDE_NONE ? OPT_FIXED : OPT_FIXED + 6 + strlen(ede_text(ede));
}

static size_t opt_write(const struct dns_query *query, enum dns_rcode rcode, enum dns_ede ede, __u8 *ret)
{
        size_t size = opt_size(query, ede);

        if (size == 0)
                return 0;
        ret[0] = 0;
        dns_put16(ret + 1, DNS_TYPE_OPT);
        dns_put16(ret + 3, DNS_UDP_OFFERED);
        ret[5] = (__u8)(rcode >> 4);
        ret[6] = 0; /* version */
        dns_put16(ret + 7, query->dnssec_ok ? 0x8000 : 0);
        dns_put16(ret + 9, (__u16)(size - OPT_FIXED));
        if (ede != DNS_EDE_NONE) {
                dns_put16(ret + 11, EDE_OPTION);
                dns_put16(ret + 13, (__u16)(size - OPT_FIXED - 4));
                dns_put16(ret + 15, (__u16)ede);
                memcpy(ret + 17, ede_text(ede), size - OPT_FIXED - 6);
        }
        return size;
}

static __u16 reply_flags(const struct dns_query *query, enum dns_rcode rcode)
{
        return (__u16)(DNS_FLAG_QR | (query->flags & (DNS_FLAG_OPCODE | DNS_FLAG_RD | DNS_FLAG_CD)) | DNS_FLAG_RA |
                       (rcode & 0xf));
}

size_t dns_reply_empty(const struct dns_query *query, enum dns_rcode rcode, enum dns_ede ede, void *ret,
                       size_t capacity)
{
        __u8 *bytes = ret;
        size_t at = DNS_HEADER_SIZE;

        if (at + query->wire_name_length + 4u + opt_size(query, ede) > capacity)
                return 0;
        memset(bytes, 0, DNS_HEADER_SIZE);
        dns_put16(bytes, query->id);
        dns_put16(bytes + 2, reply_flags(query, rcode));
        if (query->wire_name_length) {
                dns_put16(bytes + 4, 1);
                memcpy(bytes + at, query->wire_name, query->wire_name_length);
                at += query->wire_name_length;
                dns_put16(bytes + at, query->type);
                dns_put16(bytes + at + 2, query->class);
                at += 4;
        }
        if (query->edns) {
                dns_put16(bytes + 10, 1);
                at += opt_write(query, rcode, ede, bytes + at);
        }
        return at;
}

/* The length of a name in a message, compressed or not; 0 when it is none. What a pointer leads to is not looked at. */
static size_t name_skip(const __u8 *bytes, size_t size, size_t at)
{
        size_t start = at;

        while (at < size && at - start <= DNS_NAME_WIRE_MAX) {
                if (bytes[at] == 0)
                        return at + 1 - start;
                if ((bytes[at] & 0xc0) == 0xc0)
                        return size - at >= 2 ? at + 2 - start : 0;
                if (bytes[at] & 0xc0)
                        return 0;
                at += 1u + bytes[at];
        }
        return 0;
}

int dns_places(const void *wire, size_t size, struct dns_place *ret, size_t capacity)
{
        const __u8 *bytes = wire;
        size_t at = DNS_HEADER_SIZE, n_records, length;

        if (size < DNS_HEADER_SIZE || size > DNS_MESSAGE_MAX || dns_get16(bytes + 4) != 1 || dns_get16(bytes + 10) != 0)
                return -EBADMSG;
        n_records = (size_t)dns_get16(bytes + 6) + dns_get16(bytes + 8);
        if (n_records > capacity)
                return -E2BIG;
        length = name_skip(bytes, size, at);
        if (length == 0 || size - at - length < 4)
                return -EBADMSG;
        at += length + 4;
        for (size_t i = 0; i < n_records; i++) {
                length = name_skip(bytes, size, at);
                if (length == 0 || size - at - length < RECORD_FIXED)
                        return -EBADMSG;
                at += length;
                ret[i].ttl_offset = (__u16)(at + 4);
                length = dns_get16(bytes + at + 8);
                at += RECORD_FIXED;
                if (length > size - at)
                        return -EBADMSG;
                at += length;
                ret[i].end = (__u16)at;
        }
        return at == size ? (int)n_records : -EBADMSG;
}

size_t dns_template_write(const struct dns_template *template, const struct dns_query *query, __u32 age_s,
                          enum dns_ede ede, void *ret, size_t limit)
{
        __u8 *bytes = ret;
        size_t question_end = DNS_HEADER_SIZE + query->wire_name_length + 4u;
        size_t n_records = (size_t) template->n_answers + template->n_authorities, keep = n_records;
        size_t tail = opt_size(query, ede), end = template->size;
        __u16 flags = reply_flags(query, template->rcode);

        if (end < question_end || question_end + tail > limit)
                return 0;
        if (template->secure && (query->dnssec_ok || query->flags & DNS_FLAG_AD))
                flags |= DNS_FLAG_AD;
        while (end + tail > limit && keep > 0) {
                keep--;
                end = keep ? template->places[keep - 1].end : question_end;
        }
        /* A client misses nothing when only the authority section (the SOA of a negative answer) is left out. */
        if (keep < template->n_answers)
                flags |= DNS_FLAG_TC;

        memcpy(bytes, template->wire, end);
        dns_put16(bytes, query->id);
        dns_put16(bytes + 2, flags);
        dns_put16(bytes + 4, 1);
        dns_put16(bytes + 6, (__u16)MIN(keep, template->n_answers));
        dns_put16(bytes + 8, (__u16)(keep - MIN(keep, template->n_answers)));
        dns_put16(bytes + 10, query->edns ? 1 : 0);
        memcpy(bytes + DNS_HEADER_SIZE, query->wire_name, query->wire_name_length);
        for (size_t i = 0; i < keep; i++) {
                __u8 *at = bytes + template->places[i].ttl_offset;
                __u32 ttl = dns_get32(at);

                dns_put32(at, ttl > age_s ? ttl - age_s : 0);
        }
        return end + opt_write(query, template->rcode, ede, bytes + end);
}
