/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The loader's diagnostics and memory.
 *
 * Both are bounded: a file of a million errors reports the first thousand and the number of the others.
 */
#include "agentd/policy/config_draft.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/util/cleanup.h"

void diagnostics_clear(struct diagnostics *diagnostics)
{
        for (size_t i = 0; i < diagnostics->n_items; i++) {
                free(diagnostics->items[i].text);
                free(diagnostics->items[i].file);
        }
        free(diagnostics->items);
        *diagnostics = (struct diagnostics){0};
}

int diagnostics_exit_status(const struct diagnostics *diagnostics)
{
        int status = 0;

        for (size_t i = 0; i < diagnostics->n_items; i++) {
                if (diagnostics->items[i].kind == DIAGNOSTIC_ERROR)
                        return 2;
                if (diagnostics->items[i].kind == DIAGNOSTIC_UNSUPPORTED)
                        status = 4;
        }
        return status;
}

bool diagnostics_have_errors(const struct diagnostics *diagnostics)
{
        return diagnostics_exit_status(diagnostics) != 0;
}

static void draft_references_clear(struct draft_references *references)
{
        for (size_t i = 0; i < references->n_items; i++)
                free(references->items[i].name);
        free(references->items);
}

void loader_clear(struct loader *loader)
{
        for (size_t i = 0; i < loader->n_policies; i++) {
                struct draft_policy *policy = loader->policies[i];

                for (size_t j = 0; j < policy->n_rules; j++)
                        rule_clear(&policy->rules[j].rule);
                draft_limits_clear(&policy->limits);
                free(policy->rules);
                free(policy->parents);
                draft_references_clear(&policy->extends);
                draft_references_clear(&policy->unix_rules.deny);
                draft_unix_clear(&policy->unix_rules);
                free(policy->name);
                free(policy);
        }
        free(loader->policies);
        for (size_t i = 0; i < loader->n_agents; i++) {
                free(loader->agents[i].spec.policy);
                free(loader->agents[i].spec.cgroup);
                free(loader->agents[i].spec.name);
        }
        free(loader->agents);
        draft_references_clear(&loader->includes);
        config_free(loader->config);
}

static void loader_add(struct loader *loader, enum diagnostic_kind kind, const struct place *place, char *text)
{
        _cleanup_free_ char *owned = text, *file = strdup(place->file ? place->file : "");
        struct diagnostics *diagnostics = loader->diagnostics;
        struct diagnostic *items;

        if (!owned || !file) {
                loader->no_memory = true;
                return;
        }
        items = reallocarray(diagnostics->items, diagnostics->n_items + 1, sizeof(*items));
        if (!items) {
                loader->no_memory = true;
                return;
        }
        diagnostics->items = items;
        items[diagnostics->n_items++] = (struct diagnostic){
                .kind = kind,
                .file = TAKE_PTR(file),
                .line = place->line,
                .column = place->column,
                .text = TAKE_PTR(owned),
        };
}

static void loader_vreport(struct loader *loader, enum diagnostic_kind kind, const struct place *place,
                           const char *format, va_list arguments)
{
        char *text;

        if (kind != DIAGNOSTIC_WARNING)
                loader->n_errors++;
        if (loader->diagnostics->n_items >= CONFIG_DIAGNOSTICS_MAX) {
                loader->n_omitted += kind != DIAGNOSTIC_WARNING;
                return;
        }
        if (vasprintf(&text, format, arguments) < 0)
                text = NULL;
        loader_add(loader, kind, place, text);
}

void loader_report(struct loader *loader, enum diagnostic_kind kind, const struct place *place, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        loader_vreport(loader, kind, place, format, arguments);
        va_end(arguments);
}

struct place loader_place(const struct loader *loader, const struct yaml_node *node)
{
        return (struct place){.file = loader->file, .line = node->line, .column = node->column};
}

void loader_error(struct loader *loader, const struct yaml_node *node, const char *format, ...)
{
        struct place place = loader_place(loader, node);
        va_list arguments;

        va_start(arguments, format);
        loader_vreport(loader, DIAGNOSTIC_ERROR, &place, format, arguments);
        va_end(arguments);
}

void loader_warning(struct loader *loader, const struct yaml_node *node, const char *format, ...)
{
        struct place place = loader_place(loader, node);
        va_list arguments;

        va_start(arguments, format);
        loader_vreport(loader, DIAGNOSTIC_WARNING, &place, format, arguments);
        va_end(arguments);
}

char *loader_strdup(struct loader *loader, const char *text)
{
        char *copy = strdup(text);

        if (!copy)
                loader->no_memory = true;
        return copy;
}

bool loader_reserve(struct loader *loader, void *items, size_t n_items, size_t *capacity, size_t size)
{
        size_t wanted = MAX(*capacity * 2, (size_t)4);
        void *grown;

        if (n_items < *capacity)
                return true;
        grown = reallocarray(*(void **)items, wanted, size);
        if (!grown) {
                loader->no_memory = true;
                return false;
        }
        *(void **)items = grown;
        *capacity = wanted;
        return true;
}

void draft_references_add(struct loader *loader, struct draft_references *references, const struct yaml_node *node)
{
        char *name = loader_strdup(loader, node->text);

        if (!name || !loader_reserve(loader, &references->items, references->n_items, &references->capacity,
                                     sizeof(*references->items))) {
                free(name);
                return;
        }
        references->items[references->n_items++] =
                (struct draft_reference){.name = name, .place = loader_place(loader, node)};
}
