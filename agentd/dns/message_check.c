/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One function a kind, everything that has a range checked.
 */
#include "agentd/dns/message_check.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "agentd/policy/domain.h"
#include "agentd/util/macro.h"

static bool is_agent(__u32 agent_id)
{
        return agent_id > 0 && agent_id < AGENT_MAX;
}

static bool is_policy(__u32 policy_id)
{
        return policy_id > 0 && policy_id <= 0xffffff;
}

static bool is_error(__s32 error)
{
        return error <= 0 && error >= -4095;
}

/* Text, its NUL, and NULs to the end: nothing rides along behind it. */
static bool is_padded(const char *name)
{
        size_t length = strnlen(name, NAME_MAX_BYTES);

        for (size_t i = length; i < NAME_MAX_BYTES; i++)
                if (name[i])
                        return false;
        return length < NAME_MAX_BYTES;
}

static bool is_canonical(const char *name)
{
        char canonical[NAME_MAX_BYTES];

        /* ASCII only before it meets the IDN library. */
        if (!is_padded(name))
                return false;
        for (const char *at = name; *at; at++)
                if (*at <= ' ' || *at > '~')
                        return false;
        return domain_canonicalize(name, canonical) == 0 && strcmp(name, canonical) == 0;
}

/* A refused name may be no host name at all; it is shown to people. */
static bool is_printable(const char *name)
{
        if (!is_padded(name))
                return false;
        for (; *name; name++)
                if (*name <= ' ' || *name > '~' || *name == '"' || *name == '\\')
                        return false;
        return true;
}

static bool check_learn(const struct message_learn *message)
{
        return message->agent_id < AGENT_MAX && is_policy(message->policy_id) && message->n_addresses > 0 &&
               message->n_addresses <= MESSAGE_ADDRESSES_MAX && is_canonical(message->name);
}

static bool check_refused(const struct message_refused *message)
{
        switch (message->reason) {
        case REASON_DENY_RULE:
        case REASON_RATE_EXCEEDED:
        case REASON_METADATA:
        case REASON_MALFORMED:
        case REASON_NAME_NOT_ALLOWED:
        case REASON_PRIVATE_ADDRESS:
        case REASON_QUARANTINE:
        case REASON_NO_POLICY:
                break;
        default:
                return false;
        }
        return is_agent(message->agent_id) && message->would <= 1 &&
               (message->ip_protocol == IPPROTO_UDP || message->ip_protocol == IPPROTO_TCP) &&
               is_printable(message->name);
}

static bool check_resolved(const struct message_resolved *message)
{
        return is_policy(message->policy_id) && is_error(message->error) && is_canonical(message->name);
}

static bool check_ask_upstream(const struct message_ask_upstream *message)
{
        return is_agent(message->agent_id) && message->listener_id != 0 && message->want_tcp <= 1 &&
               (message->ip_protocol == IPPROTO_UDP || message->ip_protocol == IPPROTO_TCP);
}

int message_check_from_worker(const union message *message)
{
        bool good = false;

        switch (message->header.kind) {
        case MESSAGE_READY:
        case MESSAGE_ALIVE:
                good = true;
                break;
        case MESSAGE_LEARN:
                good = check_learn(&message->learn);
                break;
        case MESSAGE_REFUSED:
                good = check_refused(&message->refused);
                break;
        case MESSAGE_RESOLVED:
                good = check_resolved(&message->resolved);
                break;
        case MESSAGE_ASK_UPSTREAM:
                good = check_ask_upstream(&message->ask_upstream);
                break;
        case MESSAGE_STATISTICS:
                good = is_agent(message->statistics.agent_id);
                break;
        case MESSAGE_DURATIONS:
                good = true; /* figures, for show */
                break;
        default:
                break;
        }
        return good ? 0 : -EBADMSG;
}
