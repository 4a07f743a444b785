/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The rules' prefixes, flattened: one sweep in the order of addresses with a stack of what covers the present one.
 *
 * Each cidr and each `except` is an edge: a prefix at which a rule begins or ends to hold. Sorted by address, then
 * length, an outer prefix comes before all that it covers. The rules that hold at a prefix are those of the prefix
 * around it, plus what begins here, less what ends here; so the list at an entry is complete, and an `except` is an
 * entry of its own. IPv6 prefixes shorter than the v4-mapped range end at it: `::/0` says nothing about IPv4.
 */
#include "agentd/policy/compile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/address_class.h"
#include "agentd/policy/limits.h"
#include "agentd/policy/port_set.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) (oom = true)
#include <uthash.h>

enum edge_kind { EDGE_IPV4, EDGE_BEGIN, EDGE_END };

struct edge {
        struct prefix prefix;
        __u8 kind;
        __u32 rule;
};

/* The matches of one rule, made once however many entries they appear in. */
struct rule_matches {
        __u32 n_matches;
        struct match *matches;
};

struct interned {
        __u32 index;
        UT_hash_handle hh;
};

/* What holds at a prefix: rules in the order of their matches, denies first. More than MATCH_LIST_MAX cannot. */
struct frame {
        struct prefix prefix;
        __u32 list;
        __u32 entry; /* index of the nearest entry that is this prefix or covers it; UINT32_MAX: none */
        __u32 n_rules;
        __u32 rules[MATCH_LIST_MAX];
};

enum { FRAMES_MAX = 130 }; /* lengths 0..128, and what stands below them all */

/* One table at a time; rules are known by their numbers (policy_rule()). */
struct compiler {
        const struct policy *policy;
        struct compiled_policy *compiled;
        struct compiled_table *table;
        size_t n_all; /* rules of both */
        struct edge *edges;
        size_t n_edges;
        struct rule_matches *rules;
        struct match *matches; /* of all rules */
        struct interned *interned;
        size_t lists_capacity, prefixes_capacity; /* the latter of the table */
        struct frame *frames;
        size_t n_frames;
};

/* What one table's sweep needs. */
static void table_clear(struct compiler *compiler)
{
        free(compiler->frames);
        free(compiler->matches);
        free(compiler->rules);
        free(compiler->edges);
        compiler->frames = NULL;
        compiler->matches = NULL;
        compiler->rules = NULL;
        compiler->edges = NULL;
        compiler->n_frames = compiler->n_edges = compiler->prefixes_capacity = 0;
}

static void compiler_clear(struct compiler *compiler)
{
        struct interned *item = compiler->interned, *next;

        HASH_CLEAR(hh, compiler->interned);
        for (; item; item = next) {
                next = item->hh.next;
                free(item);
        }
        table_clear(compiler);
        compiled_policy_free(compiler->compiled);
}

void compiled_policy_free(struct compiled_policy *compiled)
{
        if (!compiled)
                return;
        domain_set_free(compiled->deny_domains);
        domain_set_free(compiled->allow_domains);
        free(compiled->class_rules);
        free(compiled->ingress.parents);
        free(compiled->ingress.prefixes);
        free(compiled->egress.parents);
        free(compiled->egress.prefixes);
        for (size_t i = 0; i < compiled->n_lists; i++)
                free(compiled->lists[i]);
        free(compiled->lists);
        free(compiled);
}

static __u16 rule_number(size_t rule)
{
        return (__u16)MIN(rule, (size_t)RULE_NONE);
}

/* Classes in the order of their rules: compiled_policy_class() searches them. */
static int compile_classes(struct compiler *compiler)
{
        const struct policy *policy = compiler->policy;
        struct compiled_policy *compiled = compiler->compiled;
        size_t n = 1;

        for (size_t i = 0; i < policy->n_rules; i++) {
                if (!rule_has_limits(&policy->rules[i]))
                        continue;
                if (n == LIMIT_CLASSES_MAX || i >= RULE_NONE)
                        return -EOVERFLOW;
                n++;
        }
        compiled->class_rules = calloc(n, sizeof(*compiled->class_rules));
        if (!compiled->class_rules)
                return -ENOMEM;
        compiled->class_rules[compiled->n_classes++] = RULE_NONE;
        for (size_t i = 0; i < policy->n_rules && compiled->n_classes < n; i++)
                if (rule_has_limits(&policy->rules[i]))
                        compiled->class_rules[compiled->n_classes++] = (__u16)i;
        return 0;
}

__u16 compiled_policy_class(const struct compiled_policy *compiled, size_t rule)
{
        __u16 low = 1, high = compiled->n_classes;

        while (low < high) {
                __u16 middle = (__u16)(low + (high - low) / 2);

                if (compiled->class_rules[middle] == rule)
                        return middle;
                if (compiled->class_rules[middle] < rule)
                        low = (__u16)(middle + 1);
                else
                        high = middle;
        }
        return 0;
}

static bool range_is_whole(const struct port_range *range)
{
        return range->low <= 1 && range->high == 65535; /* who writes `1-65535` means them all */
}

/* The rule, if it speaks in this table: cidr rules only, as names are matched by name. */
static const struct rule *table_rule(const struct compiler *compiler, size_t number)
{
        const struct rule *rule = policy_rule(compiler->policy, number);
        bool inbound = compiler->table == &compiler->compiled->ingress;

        if (rule->domain)
                return NULL;
        if (number >= compiler->policy->n_rules)
                return inbound ? rule : NULL;
        return inbound && !rule->deny ? NULL : rule;
}

static int compile_rules(struct compiler *compiler)
{
        bool inbound = compiler->table == &compiler->compiled->ingress;
        size_t n_matches = 0;

        for (size_t i = 0; i < compiler->n_all; i++) {
                const struct rule *rule = table_rule(compiler, i);

                n_matches += rule ? rule->n_ports : 0;
        }

        compiler->rules = calloc(MAX(compiler->n_all, (size_t)1), sizeof(*compiler->rules));
        compiler->matches = calloc(MAX(n_matches, (size_t)1), sizeof(*compiler->matches));
        if (!compiler->rules || !compiler->matches)
                return -ENOMEM;

        n_matches = 0;
        for (size_t i = 0; i < compiler->n_all; i++) {
                const struct rule *rule = table_rule(compiler, i);
                _cleanup_(port_set_clear) struct port_set ports = {0};

                if (!rule)
                        continue;
                compiler->rules[i].matches = &compiler->matches[n_matches];
                for (size_t j = 0; j < rule->n_ports; j++)
                        if ((!inbound || !rule->deny || range_is_whole(&rule->ports[j])) &&
                            port_set_add(&ports, rule->ports[j]) < 0)
                                return -ENOMEM;
                /* Never more ranges than before: merging only joins. */
                if (port_set_merge(&ports) < 0)
                        return -ENOMEM;
                for (size_t j = 0; j < ports.n_items && j < rule->n_ports; j++)
                        compiler->matches[n_matches++] = (struct match){
                                .protocols = ports.items[j].protocols,
                                .flags = rule->deny ? MATCH_DENY : 0,
                                .limits = compiled_policy_class(compiler->compiled, i),
                                .port_low = ports.items[j].low,
                                .port_high = ports.items[j].high,
                                .rule = rule_number(i),
                        };
                compiler->rules[i].n_matches = (__u32)(&compiler->matches[n_matches] - compiler->rules[i].matches);
        }
        return 0;
}

static int edge_compare(const void *a, const void *b)
{
        const struct edge *x = a, *y = b;
        int order = memcmp(x->prefix.address.bytes, y->prefix.address.bytes, 16);

        if (order != 0)
                return order;
        if (x->prefix.length != y->prefix.length)
                return x->prefix.length < y->prefix.length ? -1 : 1;
        if (x->kind != y->kind)
                return x->kind < y->kind ? -1 : 1;
        return x->rule < y->rule ? -1 : x->rule > y->rule;
}

static void edge_add(struct compiler *compiler, const struct prefix *prefix, enum edge_kind kind, size_t rule)
{
        struct edge *edge = &compiler->edges[compiler->n_edges++];

        *edge = (struct edge){.prefix = *prefix, .kind = (__u8)kind, .rule = (__u32)rule};
        prefix_mask(&edge->prefix);
}

static int compile_edges(struct compiler *compiler)
{
        struct prefix ipv4 = {.length = 96};
        size_t n_edges = 1;

        for (size_t i = 0; i < compiler->n_all; i++) {
                const struct rule *rule = table_rule(compiler, i);

                n_edges += rule ? 1 + rule->n_except : 0;
        }
        compiler->edges = calloc(n_edges, sizeof(*compiler->edges));
        if (!compiler->edges)
                return -ENOMEM;

        address_from_ipv4(&ipv4.address, 0);
        edge_add(compiler, &ipv4, EDGE_IPV4, 0);
        for (size_t i = 0; i < compiler->n_all; i++) {
                const struct rule *rule = table_rule(compiler, i);
                bool empty = !rule || compiler->rules[i].n_matches == 0;

                for (size_t j = 0; !empty && j < rule->n_except; j++)
                        empty = prefix_covers(&rule->except[j], &rule->cidr);
                if (empty)
                        continue;
                edge_add(compiler, &rule->cidr, EDGE_BEGIN, i);
                for (size_t j = 0; j < rule->n_except; j++)
                        edge_add(compiler, &rule->except[j], EDGE_END, i);
        }
        qsort(compiler->edges, compiler->n_edges, sizeof(*compiler->edges), edge_compare);
        return 0;
}

/*
 * Denies before allows. Which of several rules allows something matters where rules have limits: there the longer
 * prefix stands first, and of equal ones the one with limits. Else the order of the rules.
 */
static bool rule_before(const struct compiler *compiler, __u32 a, __u32 b)
{
        const struct rule *x = policy_rule(compiler->policy, a), *y = policy_rule(compiler->policy, b);

        if (x->deny != y->deny)
                return x->deny;
        if (!x->deny && compiler->compiled->n_classes > 1) {
                if (x->cidr.length != y->cidr.length)
                        return x->cidr.length > y->cidr.length;
                if (rule_has_limits(x) != rule_has_limits(y))
                        return rule_has_limits(x);
        }
        return a < b;
}

static int frame_begin(const struct compiler *compiler, struct frame *frame, __u32 rule)
{
        __u32 at = frame->n_rules;

        if (frame->n_rules == MATCH_LIST_MAX)
                return -E2BIG;
        while (at > 0 && rule_before(compiler, rule, frame->rules[at - 1])) {
                frame->rules[at] = frame->rules[at - 1];
                at--;
        }
        frame->rules[at] = rule;
        frame->n_rules++;
        return 0;
}

static void frame_end(struct frame *frame, __u32 rule)
{
        for (__u32 i = 0; i < frame->n_rules; i++) {
                if (frame->rules[i] != rule)
                        continue;
                frame->n_rules--;
                memmove(&frame->rules[i], &frame->rules[i + 1], (frame->n_rules - i) * sizeof(frame->rules[0]));
                return;
        }
}

static int lists_reserve(struct compiler *compiler)
{
        struct compiled_policy *compiled = compiler->compiled;
        size_t capacity = MAX(compiler->lists_capacity * 2, (size_t)16);
        struct match_list **lists;

        if (compiled->n_lists < compiler->lists_capacity)
                return 0;
        lists = reallocarray(compiled->lists, capacity, sizeof(*lists));
        if (!lists)
                return -ENOMEM;
        compiled->lists = lists;
        compiler->lists_capacity = capacity;
        return 0;
}

static int intern(struct compiler *compiler, const struct match *matches, __u32 n_matches, __u32 *ret_list)
{
        struct compiled_policy *compiled = compiler->compiled;
        size_t size = n_matches * sizeof(*matches);
        _cleanup_free_ struct match_list *list = NULL;
        struct interned *item;
        bool oom = false;
        int r;

        if (n_matches == 0 && compiled->n_lists > 0) {
                *ret_list = 0;
                return 0;
        }
        HASH_FIND(hh, compiler->interned, matches, size, item);
        if (item) {
                *ret_list = item->index;
                return 0;
        }

        r = lists_reserve(compiler);
        if (r < 0)
                return r;
        list = malloc(sizeof(*list) + size);
        if (!list)
                return -ENOMEM;
        list->n_matches = n_matches;
        if (size > 0)
                memcpy(list->matches, matches, size);

        if (n_matches > 0) {
                item = calloc(1, sizeof(*item));
                if (!item)
                        return -ENOMEM;
                item->index = (__u32)compiled->n_lists;
                HASH_ADD_KEYPTR(hh, compiler->interned, list->matches, size, item);
                if (oom) {
                        free(item);
                        return -ENOMEM;
                }
        }
        *ret_list = (__u32)compiled->n_lists;
        compiled->lists[compiled->n_lists++] = TAKE_PTR(list);
        return 0;
}

static int frame_list(struct compiler *compiler, const struct frame *frame, __u32 *ret_list)
{
        struct match matches[MATCH_LIST_MAX];
        __u32 n_matches = 0;

        for (__u32 i = 0; i < frame->n_rules; i++) {
                const struct rule_matches *rule = &compiler->rules[frame->rules[i]];

                if (rule->n_matches > MATCH_LIST_MAX - n_matches)
                        return -E2BIG;
                memcpy(&matches[n_matches], rule->matches, rule->n_matches * sizeof(*matches));
                n_matches += rule->n_matches;
        }
        return intern(compiler, matches, n_matches, ret_list);
}

static int emit(struct compiler *compiler, struct frame *frame)
{
        struct compiled_table *table = compiler->table;

        if (table->n_prefixes == compiler->prefixes_capacity) {
                size_t capacity = MAX(compiler->prefixes_capacity * 2, (size_t)16);
                struct compiled_prefix *prefixes;
                __u32 *parents;

                prefixes = reallocarray(table->prefixes, capacity, sizeof(*prefixes));
                if (!prefixes)
                        return -ENOMEM;
                table->prefixes = prefixes;
                parents = reallocarray(table->parents, capacity, sizeof(*parents));
                if (!parents)
                        return -ENOMEM;
                table->parents = parents;
                compiler->prefixes_capacity = capacity;
        }
        table->parents[table->n_prefixes] = frame->entry;
        frame->entry = (__u32)table->n_prefixes;
        table->prefixes[table->n_prefixes++] = (struct compiled_prefix){.prefix = frame->prefix, .list = frame->list};
        return 0;
}

/* All edges at one prefix: [first, end). */
static int compile_prefix(struct compiler *compiler, const struct edge *first, const struct edge *end)
{
        struct frame *parent, *frame;
        int r;

        /* The v4-mapped range is among the bits of `::/0`: prefix_covers() would say no. The sweep follows the bits. */
        for (;; compiler->n_frames--) {
                struct prefix masked = first->prefix;

                parent = &compiler->frames[compiler->n_frames - 1];
                if (compiler->n_frames == 1)
                        break;
                masked.length = parent->prefix.length;
                prefix_mask(&masked);
                if (parent->prefix.length <= first->prefix.length &&
                    memcmp(&masked.address, &parent->prefix.address, sizeof(masked.address)) == 0)
                        break;
        }

        frame = &compiler->frames[compiler->n_frames++];
        frame->prefix = first->prefix;
        frame->entry = parent->entry;
        frame->n_rules = parent->n_rules;
        memcpy(frame->rules, parent->rules, parent->n_rules * sizeof(frame->rules[0]));

        for (const struct edge *edge = first; edge < end; edge++) {
                switch ((enum edge_kind)edge->kind) {
                case EDGE_IPV4:
                        frame->n_rules = 0;
                        break;
                case EDGE_BEGIN:
                        r = frame_begin(compiler, frame, edge->rule);
                        if (r < 0)
                                return r;
                        break;
                case EDGE_END:
                        frame_end(frame, edge->rule);
                        break;
                }
        }

        r = frame_list(compiler, frame, &frame->list);
        if (r < 0)
                return r;
        return frame->list == parent->list ? 0 : emit(compiler, frame);
}

static int compile_prefixes(struct compiler *compiler, struct prefix *ret_prefix)
{
        int r;

        compiler->frames = calloc(FRAMES_MAX, sizeof(*compiler->frames));
        if (!compiler->frames)
                return -ENOMEM;
        compiler->frames[0].entry = UINT32_MAX;
        compiler->n_frames = 1;

        for (size_t i = 0; i < compiler->n_edges;) {
                const struct edge *first = &compiler->edges[i];
                size_t end = i;

                while (end < compiler->n_edges && compiler->edges[end].prefix.length == first->prefix.length &&
                       memcmp(&compiler->edges[end].prefix.address, &first->prefix.address, 16) == 0)
                        end++;
                r = compile_prefix(compiler, first, &compiler->edges[end]);
                if (r == -E2BIG && ret_prefix)
                        *ret_prefix = first->prefix;
                if (r < 0)
                        return r;
                i = end;
        }
        return 0;
}

static int compile_domains(struct compiler *compiler)
{
        struct compiled_policy *compiled = compiler->compiled;
        int r;

        r = domain_set_new(&compiled->allow_domains);
        if (r < 0)
                return r;
        r = domain_set_new(&compiled->deny_domains);
        if (r < 0)
                return r;
        for (size_t i = 0; i < compiler->policy->n_rules; i++) {
                const struct rule *rule = &compiler->policy->rules[i];

                if (!rule->domain)
                        continue;
                r = domain_set_add(rule->deny ? compiled->deny_domains : compiled->allow_domains, rule->domain,
                                   (__u32)i);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int compile_table(struct compiler *compiler, struct compiled_table *table, struct prefix *ret_prefix)
{
        int r;

        table_clear(compiler);
        compiler->table = table;
        r = compile_rules(compiler);
        if (r < 0)
                return r;
        r = compile_edges(compiler);
        if (r < 0)
                return r;
        return compile_prefixes(compiler, ret_prefix);
}

int policy_compile(const struct policy *policy, struct prefix *ret_prefix, struct compiled_policy **ret)
{
        _cleanup_(compiler_clear) struct compiler compiler = {.policy = policy,
                                                              .n_all = policy->n_rules + policy->n_ingress};
        __u32 list;
        int r;

        compiler.compiled = calloc(1, sizeof(*compiler.compiled));
        if (!compiler.compiled)
                return -ENOMEM;
        compiler.compiled->policy = policy;
        compiler.compiled->word_flags = (policy->audit ? WORD_AUDIT : 0) |
                                        (policy->loopback_allow ? WORD_LOOPBACK_ALLOW : 0) |
                                        (policy->metadata_allow ? WORD_METADATA_ALLOW : 0);

        r = intern(&compiler, NULL, 0, &list);
        if (r < 0)
                return r;
        r = compile_classes(&compiler);
        if (r < 0)
                return r;
        r = compile_table(&compiler, &compiler.compiled->egress, ret_prefix);
        if (r < 0)
                return r;
        /* Without an ingress rule nobody is let in anyhow: a long list of denies need not stand here again. */
        if (policy->n_ingress > 0) {
                r = compile_table(&compiler, &compiler.compiled->ingress, ret_prefix);
                if (r < 0)
                        return r;
        }
        r = compile_domains(&compiler);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(compiler.compiled);
        return 0;
}

__u32 compiled_table_find(const struct compiled_table *table, const struct address *address)
{
        size_t low = 0, high = table->n_prefixes;
        __u32 at;

        /* The first entry that begins after the address; the one before it covers it, or one around that does. */
        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (memcmp(table->prefixes[middle].prefix.address.bytes, address->bytes, 16) <= 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        if (low == 0)
                return 0;
        for (at = (__u32)(low - 1); at != UINT32_MAX; at = table->parents[at])
                if (prefix_contains(&table->prefixes[at].prefix, address))
                        return table->prefixes[at].list;
        return 0;
}
