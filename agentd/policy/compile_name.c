/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a compiled policy says about names and about addresses that were learned under them.
 *
 * Names are what an agent or an upstream sent: more rules than a list holds at one name is an error (deny), not a cut.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/address_class.h"
#include "agentd/policy/compile.h"
#include "agentd/policy/limits.h"
#include "agentd/policy/port_set.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

/* What an allow rule leaves to a name after the deny rules for that name took their ports. */
static int name_ports(const struct policy *policy, const struct rule *allow, const __u32 *denies, size_t n_denies,
                      struct port_set *ret)
{
        _cleanup_(port_set_clear) struct port_set ports = {0};
        int r;

        for (size_t i = 0; i < allow->n_ports; i++) {
                r = port_set_add(&ports, allow->ports[i]);
                if (r < 0)
                        return r;
        }
        r = port_set_merge(&ports);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n_denies && ports.n_items > 0; i++) {
                r = port_set_subtract(&ports, policy->rules[denies[i]].ports, policy->rules[denies[i]].n_ports);
                if (r < 0)
                        return r;
        }
        *ret = ports;
        ports = (struct port_set){0};
        return 0;
}

static __u16 rule_number(__u32 rule)
{
        return (__u16)MIN(rule, (__u32)RULE_NONE);
}

enum verdict_reason compiled_policy_name_verdict(const struct compiled_policy *compiled, const char *name,
                                                 __u16 *ret_rule)
{
        __u32 allows[MATCH_LIST_MAX], denies[MATCH_LIST_MAX];
        size_t n_allows, n_denies;
        __u16 rule = RULE_NONE;
        enum verdict_reason reason = REASON_NAME_NOT_ALLOWED;

        n_denies = domain_set_match(compiled->deny_domains, name, denies, ARRAY_SIZE(denies));
        n_allows = domain_set_match(compiled->allow_domains, name, allows, ARRAY_SIZE(allows));
        if (n_denies > 0) {
                rule = rule_number(denies[0]);
                reason = REASON_DENY_RULE;
        }
        if (n_denies > ARRAY_SIZE(denies))
                n_allows = 0; /* not all of them can be looked at: deny */

        for (size_t i = 0; i < MIN(n_allows, ARRAY_SIZE(allows)); i++) {
                _cleanup_(port_set_clear) struct port_set ports = {0};

                if (name_ports(compiled->policy, &compiled->policy->rules[allows[i]], denies, n_denies, &ports) < 0)
                        break; /* no memory: deny */
                if (ports.n_items > 0) {
                        rule = rule_number(allows[i]);
                        reason = REASON_NONE;
                        break;
                }
        }

        if (ret_rule)
                *ret_rule = rule;
        return reason;
}

enum verdict_reason compiled_policy_address_verdict(const struct compiled_policy *compiled,
                                                    const struct address *address)
{
        struct address inner;
        bool metadata =
                address_is_metadata(address) || (address_embedded(address, &inner) && address_is_metadata(&inner));

        if (metadata && !(compiled->word_flags & WORD_METADATA_ALLOW))
                return REASON_METADATA;
        if (address_is_private(address) && !compiled->policy->allow_private)
                return REASON_PRIVATE_ADDRESS;
        return REASON_NONE;
}

struct match_buffer {
        size_t n_matches;
        struct match matches[MATCH_LIST_MAX];
};

static int buffer_add(struct match_buffer *buffer, struct match match)
{
        if (buffer->n_matches == MATCH_LIST_MAX)
                return -E2BIG;
        buffer->matches[buffer->n_matches++] = match;
        return 0;
}

/* An exact name before a wildcard, then the one that says more. */
static bool is_more_specific(const char *a, const char *b)
{
        bool exact_a = !strchr(a, '*'), exact_b = !strchr(b, '*');
        size_t literal_a = 0, literal_b = 0;

        if (exact_a != exact_b)
                return exact_a;
        for (; *a; a++)
                literal_a += *a != '*';
        for (; *b; b++)
                literal_b += *b != '*';
        return literal_a > literal_b;
}

/* What more specific rules allow is theirs to pay for. */
static int subtract_more_specific(const struct policy *policy, const struct rule *limited, const __u32 *allows,
                                  size_t n_allows, struct port_set *ports)
{
        for (size_t i = 0; i < n_allows; i++) {
                const struct rule *rule = &policy->rules[allows[i]];
                int r;

                if (!is_more_specific(rule->domain, limited->domain))
                        continue;
                r = port_set_subtract(ports, rule->ports, rule->n_ports);
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool match_before(const struct match *a, const struct match *b)
{
        if (!a->limits != !b->limits)
                return a->limits;
        return a->rule < b->rule;
}

/* Several names may lead to one rule: rules with limits first, in the order of rules, each match once. from: where the
 * names' part begins. */
static int buffer_add_by_name(struct match_buffer *buffer, size_t from, struct match match)
{
        size_t at = buffer->n_matches;

        for (size_t i = from; i < buffer->n_matches; i++)
                if (memcmp(&buffer->matches[i], &match, sizeof(match)) == 0)
                        return 0;
        if (buffer->n_matches == MATCH_LIST_MAX)
                return -E2BIG;
        while (at > from && match_before(&match, &buffer->matches[at - 1])) {
                buffer->matches[at] = buffer->matches[at - 1];
                at--;
        }
        buffer->matches[at] = match;
        buffer->n_matches++;
        return 0;
}

static int buffer_add_name(struct match_buffer *buffer, size_t from, const struct compiled_policy *compiled,
                           const char *name, bool *ret_allowing)
{
        __u32 allows[MATCH_LIST_MAX], denies[MATCH_LIST_MAX];
        size_t n_allows, n_denies;
        int r;

        n_allows = domain_set_match(compiled->allow_domains, name, allows, ARRAY_SIZE(allows));
        n_denies = domain_set_match(compiled->deny_domains, name, denies, ARRAY_SIZE(denies));
        if (n_allows > ARRAY_SIZE(allows) || n_denies > ARRAY_SIZE(denies))
                return -E2BIG;

        for (size_t i = 0; i < n_allows; i++) {
                _cleanup_(port_set_clear) struct port_set ports = {0};

                r = name_ports(compiled->policy, &compiled->policy->rules[allows[i]], denies, n_denies, &ports);
                if (r < 0)
                        return r;
                if (rule_has_limits(&compiled->policy->rules[allows[i]])) {
                        r = subtract_more_specific(compiled->policy, &compiled->policy->rules[allows[i]], allows,
                                                   n_allows, &ports);
                        if (r < 0)
                                return r;
                }
                for (size_t j = 0; j < ports.n_items; j++) {
                        r = buffer_add_by_name(buffer, from,
                                               (struct match){
                                                       .protocols = ports.items[j].protocols,
                                                       .flags = MATCH_BY_NAME,
                                                       .limits = compiled_policy_class(compiled, allows[i]),
                                                       .port_low = ports.items[j].low,
                                                       .port_high = ports.items[j].high,
                                                       .rule = rule_number(allows[i]),
                                               });
                        if (r < 0)
                                return r;
                }
        }
        *ret_allowing = n_allows > 0;
        return 0;
}

static int buffer_list(const struct match_buffer *buffer, struct match_list **ret)
{
        struct match_list *list = malloc(sizeof(*list) + buffer->n_matches * sizeof(*list->matches));

        if (!list)
                return -ENOMEM;
        list->n_matches = (__u32)buffer->n_matches;
        memcpy(list->matches, buffer->matches, buffer->n_matches * sizeof(*list->matches));
        *ret = list;
        return 0;
}

int compiled_policy_learned_list(const struct compiled_policy *compiled, const struct address *address,
                                 const char *const *names, size_t n_names, struct match_list **ret)
{
        const struct match_list *by_cidr = compiled->lists[compiled_table_find(&compiled->egress, address)];
        struct match_buffer buffer = {0};
        bool allowing = false;
        size_t n_denies;
        int r;

        for (n_denies = 0; n_denies < by_cidr->n_matches; n_denies++) {
                if (!(by_cidr->matches[n_denies].flags & MATCH_DENY))
                        break;
                r = buffer_add(&buffer, by_cidr->matches[n_denies]);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < n_names; i++) {
                bool name_allowing;

                r = buffer_add_name(&buffer, n_denies, compiled, names[i], &name_allowing);
                if (r < 0)
                        return r;
                allowing = allowing || name_allowing;
        }
        if (buffer.n_matches == n_denies)
                return allowing ? -EACCES : -ENOENT;
        for (size_t i = n_denies; i < by_cidr->n_matches; i++) {
                r = buffer_add(&buffer, by_cidr->matches[i]);
                if (r < 0)
                        return r;
        }

        return buffer_list(&buffer, ret);
}

int compiled_policy_name_list(const struct compiled_policy *compiled, const char *name, struct match_list **ret)
{
        struct match_buffer buffer = {0};
        bool allowing;
        int r;

        r = buffer_add_name(&buffer, 0, compiled, name, &allowing);
        if (r < 0)
                return r;
        if (buffer.n_matches == 0)
                return allowing ? -EACCES : -ENOENT;
        return buffer_list(&buffer, ret);
}
