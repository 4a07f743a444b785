/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * `unix:` of a policy: read, checked, and inherited as rules are: what any parent denies is denied.
 */
#include <stdlib.h>
#include <string.h>

#include "agentd/policy/config_draft.h"
#include "agentd/policy/unix.h"

enum { UNIX_DENY_MAX = 1024 }; /* of a policy, inherited ones included */

#define UNIX(member) offsetof(struct draft_unix, member)

/* Numbers are ordered: where parents differ, the smaller one is the stricter. */
static const struct config_word defaults_words[] = {{"on", 0}, {"off", 1}, {NULL, 0}};
static const struct config_word outside_words[] = {{"deny", 0}, {"allow", 1}, {NULL, 0}};

static void read_deny(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        struct draft_references *deny = &((struct draft_unix *)target)->deny;

        if (!config_expect(loader, key->name, node, YAML_KIND_LIST, "a list: [/run/docker.sock, /run/containerd/*]"))
                return;
        for (const struct yaml_node *item = node->first; item; item = item->next) {
                const char *text = config_scalar(loader, key, item, "a socket's path"), *problem;

                if (deny->n_items == UNIX_DENY_MAX) {
                        loader_error(loader, item, "more than %d sockets in '%s'; write directories with a '*'",
                                     UNIX_DENY_MAX, key->name);
                        return;
                }
                if (!text)
                        continue;
                problem = unix_item_problem(text);
                if (problem)
                        loader_error(loader, item, "'%.128s': %s", text, problem);
                else
                        draft_references_add(loader, deny, item);
        }
}

static void read_defaults(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                          void *target)
{
        /* YAML 1.1 writers turn a plain `off` into `false`. */
        if (node->kind == YAML_KIND_SCALAR && node->plain &&
            (strcmp(node->text, "true") == 0 || strcmp(node->text, "false") == 0))
                ((struct draft_unix *)target)->defaults = node->text[0] == 'f';
        else
                config_read_word(loader, key, node, target);
}

static const struct config_key unix_keys[] = {
        {"deny", read_deny, .flags = KEY_MAY_BE_NULL},
        {"defaults", read_defaults, UNIX(defaults), defaults_words},
        {"outside", config_read_word, UNIX(outside), outside_words},
};
static const struct config_schema unix_schema = {"'unix'", unix_keys, ARRAY_SIZE(unix_keys)};

void config_read_unix(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        config_read_map(loader, &unix_schema, node, (char *)target + key->offset);
}

static bool list_has(const char *const *list, size_t n, const char *item)
{
        for (size_t i = 0; i < n; i++)
                if (strcmp(list[i], item) == 0)
                        return true;
        return false;
}

/* Parents first, and they are settled: theirs hold what they inherit. Each once. */
void config_settle_unix(struct loader *loader, struct draft_policy *policy)
{
        struct draft_unix *rules = &policy->unix_rules;
        size_t n = 0, room = rules->deny.n_items;

        for (size_t i = 0; i < policy->extends.n_items; i++)
                room += policy->parents[i] ? policy->parents[i]->unix_rules.n_all : 0;
        rules->all = calloc(MAX(room, (size_t)1), sizeof(*rules->all));
        if (!rules->all) {
                loader->no_memory = true;
                return;
        }
        for (size_t i = 0; i < policy->extends.n_items; i++) {
                const struct draft_policy *parent = policy->parents[i];

                for (size_t k = 0; parent && n <= UNIX_DENY_MAX && k < parent->unix_rules.n_all; k++)
                        if (!list_has(rules->all, n, parent->unix_rules.all[k]))
                                rules->all[n++] = parent->unix_rules.all[k];
        }
        for (size_t i = 0; i < rules->deny.n_items; i++)
                if (!list_has(rules->all, n, rules->deny.items[i].name))
                        rules->all[n++] = rules->deny.items[i].name;
        rules->n_all = MIN(n, (size_t)UNIX_DENY_MAX);
        if (n > UNIX_DENY_MAX)
                loader_report(loader, DIAGNOSTIC_ERROR, &policy->place,
                              "policy '%s' denies more than %d Unix sockets; write directories with a '*'",
                              policy->name, UNIX_DENY_MAX);
}

void config_build_unix(struct loader *loader, const struct draft_policy *draft, struct policy *policy)
{
        const struct draft_unix *rules = &draft->unix_rules;

        policy->unix_rules.no_defaults = rules->defaults == 1;
        policy->unix_rules.outside_deny = rules->outside == 0;
        policy->unix_rules.deny = calloc(MAX(rules->n_all, (size_t)1), sizeof(char *));
        if (!policy->unix_rules.deny) {
                loader->no_memory = true;
                return;
        }
        for (size_t i = 0; i < rules->n_all; i++) {
                char *item = loader_strdup(loader, rules->all[i]);

                if (!item)
                        return;
                policy->unix_rules.deny[policy->unix_rules.n_deny++] = item;
        }
}

void draft_unix_clear(struct draft_unix *rules)
{
        free(rules->all);
        rules->all = NULL;
}
