/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where the engine's answer can change: at the edges of entries, of address classes and of port ranges.
 */
#include "agentd/policy/judge.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/address_class.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

enum {
        EDGES_MAX = 6 * MATCH_LIST_MAX + 4,
        /* three lists, and the edges of classes */ ANY_PROTOCOL = PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMP
};

void judgement_clear(struct judgement *judgement)
{
        port_set_clear(&judgement->ports);
}

/* flags: FLOW_INBOUND makes port the agent's. */
static struct verdict judge_port(const struct explain_input *input, const struct address *address, __u8 protocol,
                                 __u16 port, __u8 flags)
{
        struct flow flow = {.remote = *address, .protocol = protocol, .flags = flags};
        struct verdict verdict;

        if (flags & FLOW_INBOUND)
                flow.local_port = port;
        else
                flow.port = port;

        if (address_is_loopback(address))
                flow.flags |= FLOW_LOOPBACK;
        policy_explain(input, &flow, &verdict);
        return verdict;
}

static void edges_add(__u32 *edges, size_t *n_edges, const struct match_list *list)
{
        for (__u32 i = 0; list && i < MIN(list->n_matches, (__u32)MATCH_LIST_MAX); i++) {
                edges[(*n_edges)++] = list->matches[i].port_low;
                edges[(*n_edges)++] = list->matches[i].port_high + 1u;
        }
}

static int number_compare(const void *a, const void *b)
{
        __u32 x = *(const __u32 *)a, y = *(const __u32 *)b;

        return x < y ? -1 : x > y;
}

static const struct compiled_table *judged_table(const struct explain_input *input, bool inbound)
{
        return inbound ? &input->compiled->ingress : &input->compiled->egress;
}

/* Every port of protocols that is allowed at this address. Port 53, which is agentd's own, is passed over. */
static int allowed_ports(const struct explain_input *input, const struct address *address, __u8 protocols, bool inbound,
                         struct port_set *ports)
{
        const struct compiled_policy *compiled = input->compiled;
        const struct compiled_table *table = judged_table(input, inbound);
        __u32 edges[EDGES_MAX] = {0};
        size_t n_edges = 1;
        struct address inner;

        edges_add(edges, &n_edges, compiled->lists[compiled_table_find(table, address)]);
        if (input->learned && !inbound)
                edges_add(edges, &n_edges, input->learned(input->learned_context, address).list);
        if (address_embedded(address, &inner))
                edges_add(edges, &n_edges, compiled->lists[compiled_table_find(table, &inner)]);
        if (address_is_loopback(address)) { /* the listeners' ports are nobody's */
                edges[n_edges++] = LISTENER_PORT_FIRST;
                edges[n_edges++] = LISTENER_PORT_FIRST + LISTENER_PORT_COUNT;
        }
        qsort(edges, n_edges, sizeof(edges[0]), number_compare);

        for (__u8 protocol = PROTOCOL_TCP; protocol <= PROTOCOL_ICMP; protocol <<= 1) {
                if (!(protocols & protocol))
                        continue;
                for (size_t i = 0; i < n_edges; i++) {
                        __u32 low = edges[i], high = i + 1 < n_edges ? edges[i + 1] - 1 : 65535;
                        __u32 probe = low == 53 && protocol != PROTOCOL_ICMP && !inbound ? 54 : low;

                        if (low > 65535 || (i + 1 < n_edges && edges[i + 1] == low) || probe > high)
                                continue;
                        if (judge_port(input, address, protocol, (__u16)probe, inbound ? FLOW_INBOUND : 0).action !=
                            VERDICT_ALLOW)
                                continue;
                        if (port_set_add(ports, (struct port_range){(__u16)low, (__u16)high, protocol}) < 0)
                                return -ENOMEM;
                }
        }
        return port_set_merge(ports);
}

static int port_set_intersect(struct port_set *set, const struct port_set *other)
{
        _cleanup_(port_set_clear) struct port_set outside = {0};

        for (size_t i = 0; i < set->n_items; i++)
                if (port_set_add(&outside, set->items[i]) < 0)
                        return -ENOMEM;
        if (port_set_subtract(&outside, other->items, other->n_items) < 0)
                return -ENOMEM;
        return port_set_subtract(set, outside.items, outside.n_items);
}

struct address_list {
        const struct prefix *within;
        struct address *items;
        size_t n_items, capacity;
};

static void address_list_clear(struct address_list *list)
{
        free(list->items);
}

static int address_list_add(struct address_list *list, const struct address *address)
{
        if (!prefix_contains(list->within, address))
                return 0;
        if (list->n_items == list->capacity) {
                size_t capacity = MAX(list->capacity * 2, (size_t)16);
                struct address *items = reallocarray(list->items, capacity, sizeof(*items));

                if (!items)
                        return -ENOMEM;
                list->items = items;
                list->capacity = capacity;
        }
        list->items[list->n_items++] = *address;
        return 0;
}

static struct address prefix_last(const struct prefix *prefix)
{
        struct address last = prefix->address;

        for (unsigned bit = prefix->length; bit < 128; bit++)
                last.bytes[bit / 8] |= (__u8)(0x80 >> bit % 8);
        return last;
}

/* The next address, or the one before; wraps around, which is then outside of everything that was asked for. */
static struct address address_step(struct address address, int step)
{
        for (int i = 15; i >= 0; i--) {
                address.bytes[i] = (__u8)(address.bytes[i] + step);
                if (address.bytes[i] != (step > 0 ? 0x00 : 0xff))
                        break;
        }
        return address;
}

/* Both sides of both edges. */
static int address_list_add_edges(struct address_list *list, const struct prefix *prefix)
{
        struct address first = prefix->address, last = prefix_last(prefix);
        struct address before = address_step(first, -1), behind = address_step(last, 1);

        if (address_list_add(list, &first) < 0 || address_list_add(list, &last) < 0 ||
            address_list_add(list, &before) < 0 || address_list_add(list, &behind) < 0)
                return -ENOMEM;
        return 0;
}

/* An IPv4 prefix matters inside IPv6 as well, where a translator would unpack it: see address_embedded(). */
static int address_list_add_embedded(struct address_list *list, const struct prefix *ipv4)
{
        static const struct {
                __u8 bytes[16];
                unsigned offset;
                bool inverted;
        } forms[] = {
                {{0x00, 0x64, 0xff, 0x9b}, 12, false}, /* NAT64 */
                {{0x20, 0x02}, 2, false},              /* 6to4 */
                {{0x20, 0x01, 0x00, 0x00}, 12, true},  /* Teredo */
                {{0}, 12, false},                      /* IPv4-compatible */
        };

        if (list->within->length >= 96 && address_is_ipv4(&list->within->address))
                return 0;
        for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
                struct prefix inside = {.length = (__u8)(ipv4->length - 96 + forms[i].offset * 8)};

                memcpy(inside.address.bytes, forms[i].bytes, 16);
                for (unsigned j = 0; j < 4; j++)
                        inside.address.bytes[forms[i].offset + j] =
                                (__u8)(ipv4->address.bytes[12 + j] ^ (forms[i].inverted ? 0xff : 0));
                prefix_mask(&inside);
                if (address_list_add_edges(list, &inside) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static int address_list_add_prefix(struct address_list *list, const struct prefix *prefix)
{
        int r = address_list_add_edges(list, prefix);

        if (r == 0 && prefix->length >= 96 && address_is_ipv4(&prefix->address))
                r = address_list_add_embedded(list, prefix);
        return r;
}

/* Addresses of the prefix among which every answer occurs that any of its addresses gets. */
static int address_list_fill(struct address_list *list, const struct compiled_table *table)
{
        static const char *const classes[] = {
                "0.0.0.0/0",
                "0.0.0.0",
                "127.0.0.0/8",
                "169.254.168.0/23",
                "169.254.170.0/24",
                "100.100.100.200",
                "168.63.129.16",
                "192.0.0.192",
                "169.254.42.42",
                "169.254.0.23",
                "::",
                "::1",
                "fd00:ec2::/32",
                "fd20:ce::254",
                "fe80::a9fe:a9fe",
                "fd00:42::42",
                "fd00:a9fe:a9fe::/48",
                "64:ff9b::/32",
                "2002::/16",
                "2001::/32",
                "::/96",
        };
        const struct prefix *within = list->within;
        struct address last = prefix_last(within);
        int r;

        r = address_list_add(list, &within->address);
        if (r < 0 || within->length == 128)
                return r;
        r = address_list_add(list, &last);
        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(classes); i++) {
                struct prefix class;

                r = prefix_parse(classes[i], &class);
                if (r == 0)
                        r = address_list_add_prefix(list, &class);
        }
        for (size_t i = 0; r == 0 && i < table->n_prefixes; i++)
                r = address_list_add_prefix(list, &table->prefixes[i].prefix);
        return r;
}

static int judge_addresses(const struct explain_input *input, const struct destination *destination,
                           const struct address_list *list, struct judgement *judgement)
{
        __u8 asked = destination->protocol   ? destination->protocol
                     : destination->has_port ? PROTOCOL_TCP
                                             : ANY_PROTOCOL;
        /* What is said of a destination without a port that is denied: what its likeliest use would meet. */
        __u8 protocol = asked == ANY_PROTOCOL ? PROTOCOL_TCP : asked;
        __u16 port = destination->has_port ? destination->port : protocol == PROTOCOL_ICMP ? 0 : 443;
        __u8 begun = destination->inbound ? FLOW_INBOUND : 0;
        int r;

        for (size_t i = 0; i < list->n_items; i++) {
                const struct address *address = &list->items[i];
                struct verdict verdict = judge_port(input, address, protocol, port, begun ?: FLOW_SYSCALL);

                if (i == 0 || (judgement->verdict.action == VERDICT_ALLOW && verdict.action != VERDICT_ALLOW)) {
                        judgement->verdict = verdict;
                        judgement->address = *address;
                }
                if (destination->has_port) {
                        judgement->udp_too =
                                (i == 0 || judgement->udp_too) && !destination->protocol &&
                                judge_port(input, address, PROTOCOL_UDP, port, begun).action == VERDICT_ALLOW;
                        continue;
                }
                _cleanup_(port_set_clear) struct port_set ports = {0};

                r = allowed_ports(input, address, asked, destination->inbound, &ports);
                if (r < 0)
                        return r;
                if (i == 0) {
                        judgement->ports = ports;
                        ports = (struct port_set){0};
                } else if (port_set_intersect(&judgement->ports, &ports) < 0) {
                        return -ENOMEM;
                }
        }

        /* Allowed at some port, if not at the likeliest one: the verdict is of the first that is. */
        if (!destination->has_port && judgement->ports.n_items > 0 && judgement->verdict.action != VERDICT_ALLOW) {
                const struct port_range *range = &judgement->ports.items[0];
                __u8 bit = range->protocols & (__u8)-range->protocols;

                judgement->address = list->items[0];
                judgement->verdict =
                        judge_port(input, &judgement->address, bit,
                                   range->low == 53 && bit != PROTOCOL_ICMP && !begun ? 54 : range->low, begun);
        }
        return 0;
}

struct name_context {
        struct match_list *list;
};

/* A name's rules, at whatever address: what the agent would have learned under this name alone. */
static struct explain_learned name_learned(void *context, const struct address *address)
{
        const struct name_context *name = context;

        return (struct explain_learned){.found = true, .expires_ns = UINT64_MAX, .list = name->list};
}

/* Does a deny rule for the name take this port away? */
static bool port_is_denied(const struct compiled_policy *compiled, const char *name, __u8 protocol, __u16 port,
                           __u16 *ret_rule)
{
        __u32 rules[MATCH_LIST_MAX];
        size_t n = domain_set_match(compiled->deny_domains, name, rules, ARRAY_SIZE(rules));

        for (size_t i = 0; i < MIN(n, ARRAY_SIZE(rules)); i++) {
                const struct rule *rule = &compiled->policy->rules[rules[i]];

                for (size_t j = 0; j < rule->n_ports; j++)
                        if ((rule->ports[j].protocols & protocol) && port >= rule->ports[j].low &&
                            port <= rule->ports[j].high) {
                                *ret_rule = (__u16)MIN(rules[i], (__u32)RULE_NONE);
                                return true;
                        }
        }
        return false;
}

static int judge_name(const struct explain_input *input, const struct destination *destination,
                      struct judgement *judgement)
{
        const struct compiled_policy *compiled = input->compiled;
        struct name_context context = {0};
        struct explain_input named = *input;
        struct address_list list = {0};
        /* A documentation address: of no class that the engine treats apart. The list is the name's, not the address's.
         */
        struct address address;
        __u16 rule = RULE_NONE;
        int r;

        address_from_ipv4(&address, ADDRESS_IPV4(192, 0, 2, 1));
        list.items = &address;
        list.n_items = 1;
        named.learned = name_learned;
        named.learned_context = &context;

        r = compiled_policy_name_list(compiled, destination->name, &context.list);
        if (r == -ENOENT || r == -EACCES) {
                judgement->verdict = judge_port(input, &address, PROTOCOL_TCP, 443, 0);
                if (judgement->verdict.reason != REASON_QUARANTINE)
                        judgement->verdict.reason =
                                (__u8)compiled_policy_name_verdict(compiled, destination->name, &rule);
                judgement->verdict.action = VERDICT_DENY;
                judgement->verdict.rule = rule;
                judgement->verdict.expires_ns = 0;
                return 0;
        }
        if (r < 0)
                return r;

        r = judge_addresses(&named, destination, &list, judgement);
        free(context.list);
        judgement->verdict.expires_ns = 0;
        if (r == 0 && destination->has_port && judgement->verdict.action == VERDICT_DENY &&
            judgement->verdict.reason == REASON_NO_RULE &&
            port_is_denied(compiled, destination->name, destination->protocol ? destination->protocol : PROTOCOL_TCP,
                           destination->port, &rule)) {
                judgement->verdict.reason = REASON_DENY_RULE;
                judgement->verdict.rule = rule;
        }
        return r;
}

int destination_judge(const struct explain_input *input, const struct destination *destination, struct judgement *ret)
{
        _cleanup_(judgement_clear) struct judgement judgement = {0};
        _cleanup_(address_list_clear) struct address_list list = {.within = &destination->prefix};
        int r;

        if (destination->name) {
                r = judge_name(input, destination, &judgement);
        } else {
                r = address_list_fill(&list, judged_table(input, destination->inbound));
                if (r == 0)
                        r = judge_addresses(input, destination, &list, &judgement);
        }
        if (r < 0)
                return r;

        *ret = judgement;
        judgement.ports = (struct port_set){0};
        return 0;
}
