/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A map against its row of the table: unknown, duplicate, missing and empty keys; the rest is the readers'.
 */
#include <string.h>

#include "agentd/policy/config_draft.h"
#include "agentd/util/suggest.h"

enum { KEYS_MAX = 32, KEYS_TEXT_MAX = 512 };

static void report_unknown_key(struct loader *loader, const struct config_schema *schema, const struct yaml_node *key)
{
        const char *names[KEYS_MAX], *closest;
        char list[KEYS_TEXT_MAX] = "";
        size_t used = 0, n_names = 0;

        for (size_t i = 0; i < schema->n_keys; i++)
                if (!(schema->keys[i].flags & KEY_HIDDEN))
                        names[n_names++] = schema->keys[i].name;
        closest = suggest_closest(key->text, names, n_names);
        if (closest) {
                loader_error(loader, key, "unknown key '%.128s'; did you mean '%s'?", key->text, closest);
                return;
        }
        for (size_t i = 0; i < n_names; i++) {
                size_t size = strlen(names[i]);

                if (used + size + 3 > sizeof(list))
                        break;
                if (used > 0) {
                        memcpy(list + used, ", ", 2);
                        used += 2;
                }
                memcpy(list + used, names[i], size + 1);
                used += size;
        }
        loader_error(loader, key, "unknown key '%.128s'; %s has: %s", key->text, schema->what, list);
}

static void read_key(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        if ((key->flags & KEY_MAIN_ONLY) && !loader->main_file) {
                loader_error(loader, node->key, "key '%s' in an included file; it belongs in the main one", key->name);
                return;
        }
        if (yaml_node_is_null(node)) {
                if (!(key->flags & KEY_MAY_BE_NULL))
                        loader_error(loader, node, "'%s' is empty; give it a value or remove it", key->name);
                return;
        }

        key->read(loader, key, node, target);
}

void config_read_map(struct loader *loader, const struct config_schema *schema, const struct yaml_node *node,
                     void *target)
{
        const struct yaml_node *seen[KEYS_MAX] = {0};

        if (node->kind != YAML_KIND_MAP) {
                loader_error(loader, node, "%s where %s is expected; write 'key: value' lines",
                             yaml_kind_to_string(node->kind), schema->what);
                return;
        }

        for (const struct yaml_node *value = node->first; value; value = value->next) {
                const struct yaml_node *key = value->key;
                size_t i;

                if (key->kind != YAML_KIND_SCALAR) {
                        loader_error(loader, key, "%s as a key; a key is a word", yaml_kind_to_string(key->kind));
                        continue;
                }
                for (i = 0; i < schema->n_keys; i++)
                        if (strcmp(key->text, schema->keys[i].name) == 0)
                                break;
                if (i == schema->n_keys) {
                        report_unknown_key(loader, schema, key);
                } else if (seen[i]) {
                        loader_error(loader, key, "duplicate key '%s'; it stands already in line %u", key->text,
                                     seen[i]->line);
                } else {
                        seen[i] = key;
                        read_key(loader, &schema->keys[i], value, target);
                }
        }

        for (size_t i = 0; i < schema->n_keys; i++)
                if ((schema->keys[i].flags & KEY_REQUIRED) && !seen[i])
                        loader_error(loader, node, "'%s' is missing; %s needs it: '%s: %s'", schema->keys[i].name,
                                     schema->what, schema->keys[i].name, schema->keys[i].example);
}

void config_read_schema(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        config_read_map(loader, key->argument, node, (char *)target + key->offset);
}

void config_read_each(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        const struct config_key *item = key->argument;

        if (!config_expect(loader, key->name, node, YAML_KIND_LIST, "a list"))
                return;
        for (const struct yaml_node *child = node->first; child; child = child->next) {
                if (yaml_node_is_null(child))
                        loader_error(loader, child, "an empty item in '%s'; give it a value or remove it", key->name);
                else
                        item->read(loader, item, child, target);
        }
}

void config_read_node(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        *(const struct yaml_node **)((char *)target + key->offset) = node;
}

bool config_expect(struct loader *loader, const char *name, const struct yaml_node *node, enum yaml_kind kind,
                   const char *expected)
{
        if (node->kind == kind)
                return true;
        loader_error(loader, node, "'%s' is %s; expected %s", name, yaml_kind_to_string(node->kind), expected);
        return false;
}

const char *config_scalar(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                          const char *expected)
{
        if (node->kind != YAML_KIND_SCALAR) {
                loader_error(loader, node, "'%s' is %s; expected %s", key->name, yaml_kind_to_string(node->kind),
                             expected);
                return NULL;
        }
        if (node->text[0] == '\0') {
                loader_error(loader, node, "'%s' is empty; expected %s", key->name, expected);
                return NULL;
        }
        return node->text;
}
