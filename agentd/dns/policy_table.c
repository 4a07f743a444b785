/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Policies by id. Patterns come from the monitor, which is trusted, and are checked all the same: a pattern that is not
 * canonical would silently match nothing.
 */
#include "agentd/dns/policy_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "agentd/address_class.h"
#include "agentd/dns/limit.h"
#include "agentd/net/addr.h"
#include "agentd/policy/domain.h"
#include "agentd/util/cleanup.h"

#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) (oom = true)
#include <uthash.h>

enum { VALUE_EXACT = 0, VALUE_WILDCARD = 1 }; /* matches come back ascending: an exact one comes first */

struct dns_policy {
        __u32 id;
        bool allow_private, metadata_allow;
        struct domain_set *allow;
        struct domain_set *deny;
        UT_hash_handle hh;
};

struct policy_table {
        struct dns_policy *policies;
};

static void policy_free(struct dns_policy *policy)
{
        if (!policy)
                return;
        domain_set_free(policy->allow);
        domain_set_free(policy->deny);
        free(policy);
}
DEFINE_CLEANUP(struct dns_policy *, policy_free);

int policy_table_new(struct policy_table **ret)
{
        struct policy_table *table = calloc(1, sizeof(*table));

        if (!table)
                return -ENOMEM;
        *ret = table;
        return 0;
}

void policy_table_remove(struct policy_table *table, __u32 policy_id)
{
        struct dns_policy *policy;

        HASH_FIND(hh, table->policies, &policy_id, sizeof(policy_id), policy);
        if (!policy)
                return;
        HASH_DELETE(hh, table->policies, policy);
        policy_free(policy);
}

void policy_table_free(struct policy_table *table)
{
        struct dns_policy *policy, *next;

        if (!table)
                return;
        HASH_ITER (hh, table->policies, policy, next) {
                HASH_DELETE(hh, table->policies, policy);
                policy_free(policy);
        }
        free(table);
}

const struct dns_policy *policy_table_find(const struct policy_table *table, __u32 policy_id)
{
        struct dns_policy *policy;

        HASH_FIND(hh, table->policies, &policy_id, sizeof(policy_id), policy);
        return policy;
}

static int policy_read_lines(struct dns_policy *policy, const char *text, size_t size)
{
        while (size > 0) {
                const char *end = memchr(text, '\n', size);
                char pattern[NAME_MAX_BYTES], canonical[NAME_MAX_BYTES];
                struct domain_set *set;
                size_t length;
                int r;

                if (!end)
                        return -EBADMSG;
                length = (size_t)(end - text);
                if (length < 3 || length - 2 >= sizeof(pattern) || text[1] != ' ')
                        return -EBADMSG;
                if (text[0] != 'A' && text[0] != 'D')
                        return -EBADMSG;
                memcpy(pattern, text + 2, length - 2);
                pattern[length - 2] = 0;
                r = domain_pattern_canonicalize(pattern, canonical);
                if (r < 0)
                        return r;
                if (strcmp(pattern, canonical) != 0)
                        return -EBADMSG;
                set = text[0] == 'A' ? policy->allow : policy->deny;
                r = domain_set_add(set, pattern, domain_pattern_is_wildcard(pattern) ? VALUE_WILDCARD : VALUE_EXACT);
                if (r < 0)
                        return r;
                size -= length + 1;
                text = end + 1;
        }
        return 0;
}

int policy_table_set(struct policy_table *table, const struct message_policy *message, int fd)
{
        _cleanup_(policy_freep) struct dns_policy *policy = NULL;
        struct dns_policy *added;
        struct stat status;
        bool oom = false;
        int r;

        policy_table_remove(table, message->policy_id);
        if (fstat(fd, &status) < 0)
                return -errno;
        if (status.st_size < 0 || status.st_size > LIMIT_POLICY_TEXT)
                return -E2BIG;
        policy = calloc(1, sizeof(*policy));
        if (!policy)
                return -ENOMEM;
        policy->id = message->policy_id;
        policy->allow_private = message->allow_private;
        policy->metadata_allow = message->metadata_allow;
        r = domain_set_new(&policy->allow);
        if (r < 0)
                return r;
        r = domain_set_new(&policy->deny);
        if (r < 0)
                return r;
        if (status.st_size > 0) {
                size_t size = (size_t)status.st_size;
                char *text = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);

                if (text == MAP_FAILED)
                        return -errno;
                r = policy_read_lines(policy, text, size);
                munmap(text, size);
                if (r < 0)
                        return r;
        }
        added = policy;
        HASH_ADD(hh, table->policies, id, sizeof(added->id), added);
        if (oom)
                return -ENOMEM;
        (void)TAKE_PTR(policy);
        return 0;
}

struct name_verdict dns_policy_name(const struct dns_policy *policy, const char *name)
{
        struct name_verdict verdict = {.reason = REASON_NAME_NOT_ALLOWED};
        __u32 first;

        if (domain_set_match(policy->deny, name, NULL, 0) > 0) {
                verdict.reason = REASON_DENY_RULE;
        } else if (domain_set_match(policy->allow, name, &first, 1) > 0) {
                verdict.reason = REASON_NONE;
                verdict.by_wildcard_only = first == VALUE_WILDCARD;
        }
        return verdict;
}

bool dns_policy_denies(const struct dns_policy *policy, const char *name)
{
        return domain_set_match(policy->deny, name, NULL, 0) > 0;
}

enum verdict_reason dns_policy_address(const struct dns_policy *policy, const struct address *address)
{
        struct address inner;

        if (!policy->metadata_allow &&
            (address_is_metadata(address) || (address_embedded(address, &inner) && address_is_metadata(&inner))))
                return REASON_METADATA;
        if (!policy->allow_private && address_is_private(address))
                return REASON_PRIVATE_ADDRESS;
        return REASON_NONE;
}
