/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * DNS messages as agents send them, and the replies to them. No allocation: this runs for every packet of an agent.
 *
 * Queries are parsed here and not by ldns because the cached path must cost well under a microsecond and because only
 * a strict subset is accepted (one question, no compression, one OPT). Answers from upstream are ldns's to parse (see
 * agentd/dns/answer.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agentd/abi.h"

enum {
        DNS_HEADER_SIZE = 12,
        DNS_NAME_WIRE_MAX = 255,
        DNS_UDP_DEFAULT = 512,     /* without EDNS (RFC 1035) */
        DNS_UDP_OFFERED = 1232,    /* what we say that we take: no fragments on any path */
        DNS_UDP_MAX = 4096,        /* never more over UDP, whatever the client says */
        DNS_TCP_QUERY_MAX = 4096,  /* a query larger than this is no query */
        DNS_MESSAGE_MAX = 65535,   /* over TCP */
        DNS_REPLY_OVERHEAD = 1024, /* header, question, OPT and EDE of any reply that carries no records */
};

enum dns_type {
        DNS_TYPE_A = 1,
        DNS_TYPE_NS = 2,
        DNS_TYPE_CNAME = 5,
        DNS_TYPE_SOA = 6,
        DNS_TYPE_PTR = 12,
        DNS_TYPE_MX = 15,
        DNS_TYPE_TXT = 16,
        DNS_TYPE_AAAA = 28,
        DNS_TYPE_SRV = 33,
        DNS_TYPE_OPT = 41,
        DNS_TYPE_SVCB = 64,
        DNS_TYPE_HTTPS = 65,
        DNS_TYPE_ANY = 255,
};

enum { DNS_CLASS_IN = 1 };

enum dns_rcode {
        DNS_NOERROR = 0,
        DNS_FORMERR = 1,
        DNS_SERVFAIL = 2,
        DNS_NXDOMAIN = 3,
        DNS_NOTIMP = 4,
        DNS_REFUSED = 5,
        DNS_BADVERS = 16, /* needs EDNS */
};

/* Extended DNS Errors (RFC 8914). */
enum dns_ede {
        DNS_EDE_NONE = -1,
        DNS_EDE_OTHER = 0,
        DNS_EDE_BOGUS = 6,
        DNS_EDE_BLOCKED = 15,
        DNS_EDE_FILTERED = 17,
        DNS_EDE_PROHIBITED = 18,
        DNS_EDE_NO_REACHABLE_AUTHORITY = 22,
};

enum dns_flag {
        DNS_FLAG_QR = 0x8000,
        DNS_FLAG_OPCODE = 0x7800,
        DNS_FLAG_AA = 0x0400,
        DNS_FLAG_TC = 0x0200,
        DNS_FLAG_RD = 0x0100,
        DNS_FLAG_RA = 0x0080,
        DNS_FLAG_AD = 0x0020,
        DNS_FLAG_CD = 0x0010,
};

struct dns_query {
        __u16 id;
        __u16 flags; /* of the header, host order */
        __u16 type;
        __u16 class;
        __u16 udp_size;         /* the largest reply over UDP that the client takes, already bounded */
        __u16 wire_name_length; /* 0: no question could be read */
        bool edns;
        bool dnssec_ok;
        bool is_host_name;                 /* name has only letters, digits, '-' and '_' */
        char name[NAME_MAX_BYTES];         /* lower case, no trailing dot; '?' for odd characters; "." for the root */
        __u8 wire_name[DNS_NAME_WIRE_MAX]; /* as the client wrote it: its case is echoed */
};

enum dns_parse {
        DNS_PARSE_QUERY, /* *ret is complete */
        DNS_PARSE_DROP,  /* no reply: too short, or a response */
        DNS_PARSE_ERROR, /* *ret is good for a reply with *ret_rcode */
};

enum dns_parse dns_query_parse(const void *packet, size_t size, struct dns_query *ret, enum dns_rcode *ret_rcode);

/*
 * An uncompressed name in wire form to canonical text. 0; -EBADMSG: not a name; -EINVAL: a name, but no host name (text
 * is written with '?' for what is odd). *ret_length: bytes that it takes on the wire; ret: NAME_MAX_BYTES, padded with
 * NULs.
 */
int dns_name_to_text(const void *wire, size_t size, char *ret, size_t *ret_length);
/* Canonical text to wire form; ret: DNS_NAME_WIRE_MAX bytes. Returns the length, or -EINVAL. */
int dns_name_from_text(const char *text, __u8 *ret);

/* A reply without records. Returns its size; 0 when capacity (DNS_REPLY_OVERHEAD is always enough) is too small. */
size_t dns_reply_empty(const struct dns_query *query, enum dns_rcode rcode, enum dns_ede ede, void *ret,
                       size_t capacity);

/*
 * An answer ready to be sent many times: header, question in lower case, answer and authority records, no OPT. places
 * are where the records' TTLs stand and where the records end: TTLs are counted down and answers are cut at records.
 */
struct dns_place {
        __u16 ttl_offset;
        __u16 end;
};

struct dns_template {
        __u8 *wire;
        struct dns_place *places; /* n_answers, then n_authorities */
        __u16 size;
        __u16 n_answers, n_authorities;
        __u8 rcode;
        bool secure; /* DNSSEC: AD for those who ask for it */
};

/*
 * Finds the places of a message that has one question and no additional section. Returns how many (n_answers +
 * n_authorities of its header), or -EBADMSG; -E2BIG when capacity is too small.
 */
int dns_places(const void *wire, size_t size, struct dns_place *ret, size_t capacity);

/*
 * The template as a reply to query: TTLs are less age_s (never below 0), ede is told to EDNS clients. limit: of the
 * transport and of the buffer; what does not fit is left out whole records at a time, with TC. Returns the size, 0 when
 * not even an empty reply fits.
 */
size_t dns_template_write(const struct dns_template *template, const struct dns_query *query, __u32 age_s,
                          enum dns_ede ede, void *ret, size_t limit);

static inline __u16 dns_get16(const void *at)
{
        const __u8 *bytes = at;

        return (__u16)(bytes[0] << 8 | bytes[1]);
}

static inline __u32 dns_get32(const void *at)
{
        return (__u32)dns_get16(at) << 16 | dns_get16((const __u8 *)at + 2);
}

static inline void dns_put16(void *at, __u16 value)
{
        __u8 *bytes = at;

        bytes[0] = (__u8)(value >> 8);
        bytes[1] = (__u8)value;
}

static inline void dns_put32(void *at, __u32 value)
{
        dns_put16(at, (__u16)(value >> 16));
        dns_put16((__u8 *)at + 2, (__u16)value);
}
