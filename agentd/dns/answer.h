/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What an agent may see of an upstream's answer.
 *
 * The packet is an attacker's: it is parsed by ldns, and only the chain from the asked name to the records of the asked
 * type is kept (plus the SOA of a negative answer). Everything else is left out, the additional section whole: an
 * address that is not learned must not be told. Addresses that the policy withholds are taken out and listed.
 */
#pragma once

#include "agentd/abi_message.h"
#include "agentd/dns/policy_table.h"
#include "agentd/net/dns_message.h"

struct answer_question {
        const struct dns_policy *policy;
        const char *name; /* canonical */
        __u16 type;
        bool audit; /* nothing is taken out; what would be withheld is listed and not learned */
        __u32 max_ttl_s;
};

struct answer_withheld {
        struct address address;
        enum verdict_reason reason;
};

struct answer {
        struct dns_template template;
        struct message_address *addresses; /* to be learned, each once, with the TTL that the client is told */
        size_t n_addresses;
        struct answer_withheld *withheld; /* at most LIMIT_WITHHELD */
        size_t n_withheld;                /* of those */
        size_t n_withheld_total;
        __u32 ttl_s;                      /* the smallest, of records that are told; 0: do not keep */
        bool nothing_left;                /* addresses were withheld and none is left */
        char denied_name[NAME_MAX_BYTES]; /* not empty: the chain leads through a denied name; nothing else is set */
};

/*
 * 0; -EBADMSG: not an answer to this question (parse error, other question, loop); -EPROTO: upstream's failure
 * (SERVFAIL, REFUSED, ...), -E2BIG, -ENOMEM.
 */
int answer_new(const void *packet, size_t size, const struct answer_question *question, struct answer **ret);
void answer_free(struct answer *answer);
