/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One rule: whom (domain or cidr, with except), where (ports, protocol), how much (budget, rate).
 *
 * Keys are read one by one by the table; what they mean together is looked at when all of them are known.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/policy/config_draft.h"
#include "agentd/policy/domain.h"
#include "agentd/policy/port_set.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/parse.h"

enum { TCP_UDP = PROTOCOL_TCP | PROTOCOL_UDP, ANY = PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_ICMP };

/* A rule on its way: nodes for what needs its neighbours. */
struct rule_draft {
        char *name;
        const struct yaml_node *name_node, *domain, *cidr, *except, *ports;
        int protocol; /* bits; 0: not said */
        struct prefix prefix;
        bool prefix_is_valid;
        struct draft_limits limits;
};

static void read_domain(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        ((struct rule_draft *)target)->domain = node;
        config_scalar(loader, key, node, "a name such as example.com or *.example.com");
}

/* False: reported; where only host bits were wrong, *ret is the prefix without them. */
static bool read_prefix(struct loader *loader, const char *name, const struct yaml_node *node, struct prefix *ret)
{
        char buffer[PREFIX_TEXT_MAX];
        int r;

        r = prefix_parse(node->text, ret);
        if (r == 0)
                return true;
        if (r == -EADDRNOTAVAIL) {
                loader_error(loader, node, "'%s' has host bits set in '%s'; did you mean '%s'?", name, node->text,
                             prefix_format(ret, buffer));
        } else if (r == -ERANGE) {
                loader_error(loader, node, "the prefix length of '%.128s' is out of range; expected at most %s",
                             node->text, strchr(node->text, ':') ? "/128" : "/32");
        } else {
                char canonical[NAME_MAX_BYTES];

                if (domain_pattern_canonicalize(node->text, canonical) == 0 &&
                    strspn(canonical, "0123456789./") != strlen(canonical) && !strchr(node->text, '/'))
                        loader_error(loader, node, "'%.128s' is no CIDR; did you mean 'domain: %.128s'?", node->text,
                                     node->text);
                else
                        loader_error(loader, node,
                                     "'%.128s' is no CIDR; expected one such as 10.0.0.0/8, 192.0.2.7 or "
                                     "2001:db8::/32",
                                     node->text);
        }
        return false;
}

static void read_cidr(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        struct rule_draft *draft = target;

        draft->cidr = node;
        /* With its host bits cleared it is still good enough to look at the rest. */
        if (config_scalar(loader, key, node, "a CIDR such as 10.0.0.0/8"))
                draft->prefix_is_valid =
                        read_prefix(loader, key->name, node, &draft->prefix) || draft->prefix.length > 0;
}

static void read_rule_name(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                           void *target)
{
        ((struct rule_draft *)target)->name_node = node;
        config_read_name(loader, key, node, target);
}

static const struct config_word protocols[] = {
        {"tcp", PROTOCOL_TCP}, {"udp", PROTOCOL_UDP}, {"icmp", PROTOCOL_ICMP}, {"any", ANY}, {NULL, 0}};

#define RULE(member) offsetof(struct rule_draft, member)
#define KEYS_WHERE                                                                    \
        {"name", read_rule_name, RULE(name)}, {"cidr", read_cidr},                    \
                {"except", config_read_node, RULE(except), .flags = KEY_MAY_BE_NULL}, \
                {"ports", config_read_node, RULE(ports)},                             \
        {                                                                             \
                "protocol", config_read_word, RULE(protocol), protocols               \
        }

static const struct config_key egress_keys[] = {
        {"domain", read_domain},
        KEYS_WHERE,
        {"budget", config_read_budgets, RULE(limits)},
        {"rate", config_read_rate, RULE(limits)},
        {"bandwidth", config_read_bandwidth, .flags = KEY_HIDDEN},
};
static const struct config_schema egress_schema = {"a rule", egress_keys, ARRAY_SIZE(egress_keys)};

static void refuse_limit(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                         void *target)
{
        loader_error(loader, node->key, "'%s' in a deny rule, which lets nothing through; it belongs to an egress rule",
                     key->name);
}

static void refuse_ingress_limit(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                                 void *target)
{
        loader_error(loader, node->key,
                     "'%s' in an ingress rule, whose bytes count to the budgets of the policy; write it there",
                     key->name);
}

static const struct config_key deny_keys[] = {
        {"domain", read_domain},
        KEYS_WHERE,
        {"budget", refuse_limit, .flags = KEY_HIDDEN},
        {"rate", refuse_limit, .flags = KEY_HIDDEN},
        {"bandwidth", refuse_limit, .flags = KEY_HIDDEN},
};
static const struct config_schema deny_schema = {"a deny rule", deny_keys, ARRAY_SIZE(deny_keys)};

static const struct config_key ingress_keys[] = {
        KEYS_WHERE,
        {"budget", refuse_ingress_limit, .flags = KEY_HIDDEN},
        {"rate", refuse_ingress_limit, .flags = KEY_HIDDEN},
        {"bandwidth", refuse_ingress_limit, .flags = KEY_HIDDEN},
};
static const struct config_schema ingress_schema = {"an ingress rule", ingress_keys, ARRAY_SIZE(ingress_keys)};

static const char domain_expected[] = "expected a name such as example.com or *.example.com";

static bool finish_domain(struct loader *loader, const struct yaml_node *node, struct rule *rule)
{
        char pattern[NAME_MAX_BYTES], buffer[PREFIX_TEXT_MAX];
        const char *text = node->text, *scheme, *last;
        struct prefix prefix;
        int r;

        if (node->kind != YAML_KIND_SCALAR || text[0] == '\0')
                return false;
        scheme = strstr(text, "://");
        if (scheme) {
                loader_error(loader, node, "domain '%.128s' is a URL; did you mean '%.*s'?", text,
                             (int)strcspn(scheme + 3, "/:"), scheme + 3);
                return false;
        }
        r = prefix_parse(text, &prefix);
        if (r == 0 || r == -EADDRNOTAVAIL) {
                loader_error(loader, node, "domain '%.128s' is an address; did you mean 'cidr: %s'?", text,
                             prefix_format(&prefix, buffer));
                return false;
        }
        r = domain_pattern_canonicalize(text, pattern);
        if (r == -EDOM) {
                loader_error(loader, node,
                             "a bare '%.128s' is every name there is; name the domains, as in '*.example.com'", text);
                return false;
        }
        if (r < 0) {
                const char *colon = strchr(text, ':'), *slash = strchr(text, '/');

                if (strstr(text, "**"))
                        loader_error(loader, node, "domain '%.128s' has '**'; '*.' in front is any depth already",
                                     text);
                else if (colon && colon != text && strspn(colon + 1, "0123456789") == strlen(colon + 1))
                        loader_error(loader, node,
                                     "domain '%.128s' has a port; did you mean 'domain: %.*s' with 'ports: [%.8s]'?",
                                     text, (int)(colon - text), text, colon + 1);
                else if (slash && slash != text)
                        loader_error(loader, node, "domain '%.128s' has a path; did you mean '%.*s'?", text,
                                     (int)(slash - text), text);
                else
                        loader_error(loader, node, "domain '%.128s' is no name; %s", text, domain_expected);
                return false;
        }
        last = strrchr(pattern, '.');
        last = last ? last + 1 : pattern;
        if (strspn(last, "0123456789") == strlen(last)) {
                loader_error(loader, node, "domain '%.128s' is neither a name nor an address; %s", text,
                             domain_expected);
                return false;
        }
        if (!rule->deny && domain_pattern_is_too_wide(pattern))
                loader_warning(
                        loader, node,
                        "domain '%.128s' covers names that anybody can register; name the domains that are meant",
                        text);
        rule->domain = loader_strdup(loader, pattern);
        return rule->domain != NULL;
}

static void finish_except(struct loader *loader, const struct rule_draft *draft, struct rule *rule)
{
        const struct yaml_node *list = draft->except;
        char outer[PREFIX_TEXT_MAX];

        if (!list)
                return;
        if (draft->domain && !draft->cidr) {
                loader_error(loader, list->key,
                             "'except' in a rule of names; it belongs to 'cidr'. Use a deny rule for the name");
                return;
        }
        if (list->kind == YAML_KIND_SCALAR) {
                loader_error(loader, list, "'except' is a value; expected a list: [%.128s]", list->text);
                return;
        }
        if (!config_expect(loader, "except", list, YAML_KIND_LIST, "a list such as [10.20.0.5/32]"))
                return;
        rule->except = calloc(MAX(list->n_children, (size_t)1), sizeof(*rule->except));
        if (!rule->except) {
                loader->no_memory = true;
                return;
        }
        for (const struct yaml_node *item = list->first; item; item = item->next) {
                struct prefix prefix;

                if (!config_expect(loader, "except", item, YAML_KIND_SCALAR, "a CIDR such as 10.20.0.5/32") ||
                    !read_prefix(loader, "except", item, &prefix) || !draft->prefix_is_valid)
                        continue;
                if (!prefix_covers(&draft->prefix, &prefix))
                        loader_error(loader, item, "except '%s' is outside of cidr '%s'; name a part of it", item->text,
                                     prefix_format(&draft->prefix, outer));
                else if (draft->prefix.length == prefix.length)
                        loader_error(loader, item, "except '%s' is the whole of cidr '%s'; remove the rule", item->text,
                                     prefix_format(&draft->prefix, outer));
                else
                        rule->except[rule->n_except++] = prefix;
        }
}

/* "443", "443/tcp", "8000-8099/udp". protocol: what the rule says; 0: nothing. */
static bool read_port(struct loader *loader, const struct yaml_node *node, int protocol, struct port_range *ret)
{
        char copy[64], *slash, *dash;
        __u64 low, high;
        int bits = protocol ? protocol & TCP_UDP : TCP_UDP;

        if (node->kind != YAML_KIND_SCALAR || node->text[0] == '\0' || strlen(node->text) >= sizeof(copy)) {
                loader_error(loader, node, "a port is expected, such as 443, 443/tcp or 8000-8099/udp");
                return false;
        }
        strcpy(copy, node->text);
        slash = strchr(copy, '/');
        if (slash) {
                int said = strcmp(slash, "/tcp") == 0 ? PROTOCOL_TCP : strcmp(slash, "/udp") == 0 ? PROTOCOL_UDP : 0;

                *slash = '\0';
                if (!said) {
                        loader_error(loader, node,
                                     "port '%s' has an unknown protocol; did you mean '%s/tcp' or '%s/udp'?",
                                     node->text, copy, copy);
                        return false;
                }
                if (!(bits & said)) {
                        loader_error(loader, node, "port '%s' contradicts the rule's 'protocol'; remove one of them",
                                     node->text);
                        return false;
                }
                bits = said;
        }
        dash = strchr(copy, '-');
        if (dash)
                *dash = '\0';
        if (parse_number(copy, 1, 65535, &low) < 0 || parse_number(dash ? dash + 1 : copy, 1, 65535, &high) < 0) {
                loader_error(loader, node, "'%s' is no port; expected 1 to 65535, as in 443, 443/tcp or 8000-8099/udp",
                             node->text);
                return false;
        }
        if (low > high) {
                loader_error(loader, node, "ports '%s' are reversed; did you mean '%llu-%llu%s%s'?", node->text,
                             (unsigned long long)high, (unsigned long long)low, slash ? "/" : "",
                             slash ? slash + 1 : "");
                return false;
        }
        *ret = (struct port_range){.low = (__u16)low, .high = (__u16)high, .protocols = (__u8)bits};
        return true;
}

static void finish_ports(struct loader *loader, const struct rule_draft *draft, struct rule *rule)
{
        _cleanup_(port_set_clear) struct port_set ports = {0};
        const struct yaml_node *list = draft->ports;
        /* What is denied without further words is denied as a whole, ICMP included. */
        int protocol = draft->protocol ? draft->protocol : rule->deny ? ANY : TCP_UDP;

        if (list && draft->protocol == PROTOCOL_ICMP) {
                loader_error(loader, list->key, "'ports' with protocol icmp, which has none; remove one of them");
                return;
        }
        if (list && list->kind == YAML_KIND_SCALAR) {
                loader_error(loader, list, "'ports' is a value; expected a list: [%.32s]", list->text);
                return;
        }
        if (list && list->kind == YAML_KIND_MAP) {
                loader_error(loader, list, "'ports' is a map; expected a list such as [443, 8000-8099/udp]");
                return;
        }
        if (list && list->n_children == 0) {
                loader_error(loader, list, "'ports' is empty; name a port, or remove it to mean every port");
                return;
        }

        for (const struct yaml_node *item = list ? list->first : NULL; item; item = item->next) {
                struct port_range range;

                if (read_port(loader, item, draft->protocol, &range) && port_set_add(&ports, range) < 0)
                        loader->no_memory = true;
        }
        if (list)
                protocol = draft->protocol & PROTOCOL_ICMP; /* any: the ports, and ICMP besides */
        if (protocol && port_set_add(&ports, (struct port_range){0, 65535, (__u8)protocol}) < 0)
                loader->no_memory = true;
        if (port_set_merge(&ports) < 0)
                loader->no_memory = true;

        rule->ports = ports.items;
        rule->n_ports = ports.n_items;
        ports = (struct port_set){0};
}

/* What is left of the draft's limits is the rule's. */
static void finish_limits(struct loader *loader, struct rule_draft *draft, const char *policy, struct rule *rule)
{
        struct draft_limits *limits = &draft->limits;

        if (limits->place.line == 0)
                return;
        if (limits->rate.connections > 0 && draft->protocol == PROTOCOL_ICMP)
                loader_report(loader, DIAGNOSTIC_ERROR, &limits->rate.place,
                              "'rate' with protocol icmp: it counts TCP and UDP connections only; use 'budget'");
        draft_limits_own(loader, limits, policy);
        rule->budgets = TAKE_PTR(limits->budgets);
        rule->n_budgets = limits->n_budgets;
        rule->rate = limits->rate;
        limits->n_budgets = 0;
        if (!rule_has_limits(rule) || (!rule->domain && !draft->prefix_is_valid))
                return;
        rule->scope = rule_scope(rule, draft->name);
        if (!rule->scope)
                loader->no_memory = true;
}

/* False: an error was reported. */
static bool finish_rule(struct loader *loader, const struct yaml_node *node, const struct rule_draft *draft,
                        struct rule *rule, const char *choice, size_t n_errors_before)
{
        size_t n_errors = loader->n_errors;

        rule->place = loader_place(loader, node);
        if (draft->domain && draft->cidr)
                loader_error(loader, node, "a rule with both 'domain' and 'cidr'; write two rules");
        else if (!draft->domain && !draft->cidr && loader->n_errors == n_errors_before)
                loader_error(loader, node, "a rule without %s; say whom it is about", choice);
        if (draft->domain)
                finish_domain(loader, draft->domain, rule);
        rule->cidr = draft->prefix;
        finish_except(loader, draft, rule);
        finish_ports(loader, draft, rule);
        return loader->n_errors == n_errors && !loader->no_memory;
}

static void read_rule(struct loader *loader, const struct config_schema *schema, struct draft_policy *policy,
                      const struct yaml_node *node, size_t number)
{
        bool deny = schema == &deny_schema;
        struct draft_rule item = {.rule.deny = deny, .ingress = schema == &ingress_schema};
        struct rule_draft draft = {0};
        size_t n_errors = loader->n_errors;

        config_read_map(loader, schema, node, &draft);
        if (node->kind == YAML_KIND_MAP)
                finish_rule(loader, node, &draft, &item.rule, item.ingress ? "'cidr'" : "'domain' or 'cidr'", n_errors);
        finish_limits(loader, &draft, policy->name, &item.rule);
        draft_limits_clear(&draft.limits);

        if (loader->n_errors != n_errors || loader->no_memory ||
            !loader_reserve(loader, &policy->rules, policy->n_rules, &policy->capacity, sizeof(*policy->rules))) {
                free(draft.name);
                rule_clear(&item.rule);
                return;
        }

        item.rule.id = draft.name;
        if (draft.name)
                item.name_place = loader_place(loader, draft.name_node);
        else if (asprintf(&item.rule.id, "%s#%s%zu", policy->name,
                          deny           ? "deny"
                          : item.ingress ? "in"
                                         : "",
                          number) < 0) {
                item.rule.id = NULL;
                loader->no_memory = true;
        }
        policy->rules[policy->n_rules++] = item;
}

static void read_rules(struct loader *loader, const struct config_key *key, const struct config_schema *schema,
                       struct draft_policy *policy, const struct yaml_node *node)
{
        size_t number = 0;

        if (!config_expect(loader, key->name, node, YAML_KIND_LIST, "a list of rules, each with '- ' in front"))
                return;
        for (const struct yaml_node *item = node->first; item; item = item->next)
                read_rule(loader, schema, policy, item, ++number);
}

void config_read_egress(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        read_rules(loader, key, &egress_schema, target, node);
}

void config_read_deny(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        read_rules(loader, key, &deny_schema, target, node);
}

void config_read_ingress(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                         void *target)
{
        read_rules(loader, key, &ingress_schema, target, node);
}
