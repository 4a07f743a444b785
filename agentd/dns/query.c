/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What becomes of one query: dropped, refused here, answered from the cache, or looked up. Only the last one leaves the
 * host, and only for a name that the policy allows (audit agents excepted: that is what audit means).
 */
#include <string.h>

#include "agentd/dns/worker_state.h"

enum dns_rcode query_blocked_rcode(const struct worker *worker)
{
        switch (worker->settings.blocked) {
        case 1: /* DNS_BLOCKED_REFUSED */
                return DNS_REFUSED;
        case 2: /* DNS_BLOCKED_NODATA */
                return DNS_NOERROR;
        default:
                return DNS_NXDOMAIN;
        }
}

void query_refuse(struct worker *worker, const struct listener_client *client, const struct dns_query *query,
                  enum dns_rcode rcode, enum dns_ede ede)
{
        listener_reply(client, worker->reply, dns_reply_empty(query, rcode, ede, worker->reply, DNS_REPLY_OVERHEAD));
}

/* Never asked of anybody, whatever the policy says: RFC 6761. */
static bool name_is_local(const char *name)
{
        static const char local[] = "localhost";
        size_t length = strlen(name), end = sizeof(local) - 1;

        if (length < end || strcmp(name + length - end, local) != 0)
                return false;
        return length == end || name[length - end - 1] == '.';
}

enum type_class { TYPE_FORWARDED, TYPE_ANSWERED_EMPTY, TYPE_REFUSED };

static enum type_class classify_type(__u16 type, bool audit)
{
        switch (type) {
        case DNS_TYPE_A:
        case DNS_TYPE_AAAA:
        case DNS_TYPE_CNAME:
        case DNS_TYPE_SOA:
        case DNS_TYPE_MX:
        case DNS_TYPE_TXT:
        case DNS_TYPE_SRV:
                return TYPE_FORWARDED;
        case DNS_TYPE_SVCB:
        case DNS_TYPE_HTTPS:
                /* They carry addresses that are not learned, and keys that hide the name from SNI checks. */
                return TYPE_ANSWERED_EMPTY;
        default:
                /* 128 to 255 are questions about the transport (ANY, AXFR), not about a name. */
                return audit && (type < 128 || type > 255) ? TYPE_FORWARDED : TYPE_REFUSED;
        }
}

static enum verdict_reason judge_name(struct worker_agent *agent, const struct dns_policy *policy,
                                      const struct dns_query *query)
{
        struct name_verdict verdict;

        if (!query->is_host_name || name_is_local(query->name))
                return REASON_NAME_NOT_ALLOWED;
        verdict = dns_policy_name(policy, query->name);
        if (verdict.reason != REASON_NONE || !verdict.by_wildcard_only)
                return verdict.reason;
        if (!limit_labels_are_plain(query->name))
                return REASON_NAME_NOT_ALLOWED;
        if (!limit_wildcard_take(&agent->wildcard, query->name, uv_now(&agent->worker->loop)))
                return REASON_RATE_EXCEEDED;
        return REASON_NONE;
}

static bool answer_from_cache(struct worker_agent *agent, const struct listener_client *client,
                              const struct dns_query *query)
{
        struct worker *worker = agent->worker;
        const struct dns_template *template;
        __u32 age_s;

        if (!query->is_host_name)
                return false;
        template = dns_cache_find(agent->cache, query->name, query->type, uv_now(&worker->loop), &age_s);
        if (!template)
                return false;
        listener_reply(client, worker->reply,
                       dns_template_write(template, query, age_s, DNS_EDE_NONE, worker->reply,
                                          client->connection ? sizeof(worker->reply) : query->udp_size));
        worker_observe(worker, worker->received_ns);
        worker_count(agent, DNS_OUTCOME_CACHED);
        return true;
}

static void refuse_and_report(struct worker_agent *agent, const struct listener_client *client,
                              const struct dns_query *query, enum verdict_reason reason, enum dns_rcode rcode,
                              enum dns_ede ede)
{
        query_refuse(agent->worker, client, query, rcode, ede);
        worker_observe(agent->worker, agent->worker->received_ns);
        worker_report(agent, client, query->name, query->type, reason, false, NULL);
        worker_count(agent, reason == REASON_RATE_EXCEEDED ? DNS_OUTCOME_RATE : DNS_OUTCOME_REFUSED);
}

void query_received(void *context, const struct listener_client *client, const void *packet, size_t size)
{
        struct worker_agent *agent = ((struct worker_listener *)context)->agent;
        struct worker *worker = agent->worker;
        const struct dns_policy *policy;
        enum verdict_reason reason;
        struct dns_query query;
        enum dns_rcode rcode;

        worker->received_ns = uv_hrtime();
        switch (dns_query_parse(packet, size, &query, &rcode)) {
        case DNS_PARSE_DROP:
                worker_count(agent, DNS_OUTCOME_MALFORMED);
                return;
        case DNS_PARSE_ERROR:
                query_refuse(worker, client, &query, rcode, DNS_EDE_NONE);
                worker_count(agent, DNS_OUTCOME_MALFORMED);
                worker_report(agent, client, query.name, query.type, REASON_MALFORMED, false, NULL);
                return;
        case DNS_PARSE_QUERY:
                break;
        }

        if (agent->quarantine) {
                refuse_and_report(agent, client, &query, REASON_QUARANTINE, query_blocked_rcode(worker),
                                  DNS_EDE_BLOCKED);
                return;
        }
        policy = worker_policy(agent);
        if (!policy) {
                refuse_and_report(agent, client, &query, REASON_NO_POLICY, query_blocked_rcode(worker),
                                  DNS_EDE_BLOCKED);
                return;
        }
        /* Every query counts, the cheap ones too: an answer from the cache tells a waiting program no less. */
        if (!limit_rate_take(&agent->rate, worker->settings.rate_interval_ns, worker->settings.rate_burst,
                             uv_now(&worker->loop) * NSEC_PER_MSEC)) {
                if (!agent->audit) {
                        /* Not 15 (Blocked): it is the client that asks too much, whatever the name. */
                        refuse_and_report(agent, client, &query, REASON_RATE_EXCEEDED, DNS_REFUSED, DNS_EDE_PROHIBITED);
                        return;
                }
                worker_report(agent, client, query.name, query.type, REASON_RATE_EXCEEDED, true, NULL);
        }
        if (answer_from_cache(agent, client, &query))
                return;

        reason = judge_name(agent, policy, &query);
        if (reason != REASON_NONE) {
                if (!agent->audit || !query.is_host_name || name_is_local(query.name)) {
                        /* Too many is a matter of time: a client must not remember it as "no such name". */
                        refuse_and_report(agent, client, &query, reason,
                                          reason == REASON_RATE_EXCEEDED ? DNS_REFUSED : query_blocked_rcode(worker),
                                          DNS_EDE_BLOCKED);
                        return;
                }
                worker_report(agent, client, query.name, query.type, reason, true, NULL);
        }
        switch (classify_type(query.type, agent->audit)) {
        case TYPE_ANSWERED_EMPTY:
                query_refuse(worker, client, &query, DNS_NOERROR, DNS_EDE_NONE);
                worker_count(agent, DNS_OUTCOME_ANSWERED);
                return;
        case TYPE_REFUSED:
                /* Not "no such name": the name is there, and caches in the container would believe it. */
                refuse_and_report(agent, client, &query, REASON_NAME_NOT_ALLOWED, DNS_REFUSED, DNS_EDE_BLOCKED);
                return;
        case TYPE_FORWARDED:
                break;
        }
        lookup_start(agent, client, &query);
}
