/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Readers of single values: words, numbers, sizes, durations, paths, names, servers.
 *
 * Each says what it found and what would be right.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/abi_message.h"
#include "agentd/policy/config_draft.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/parse.h"
#include "agentd/util/suggest.h"

enum { WORDS_MAX = 8, PATH_TEXT_MAX = 4095, COMPONENT_MAX = 255 };

static void *field(const struct config_key *key, void *target)
{
        return (char *)target + key->offset;
}

static const struct config_word *find_word(const struct config_word *words, const char *text)
{
        for (; words && words->word; words++)
                if (strcmp(words->word, text) == 0)
                        return words;
        return NULL;
}

/* "enforce or audit" */
static void list_words(const struct config_word *words, char *buffer, size_t size)
{
        size_t used = 0;

        buffer[0] = '\0';
        for (; words->word && used < size; words++)
                used += (size_t)snprintf(buffer + used, size - used, "%s%s",
                                         used == 0       ? ""
                                         : words[1].word ? ", "
                                                         : " or ",
                                         words->word);
}

void config_read_word(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        const struct config_word *words = key->argument, *word;
        const char *candidates[WORDS_MAX], *text, *closest;
        size_t n_candidates = 0;
        char list[128];

        list_words(words, list, sizeof(list));
        text = config_scalar(loader, key, node, list);
        if (!text)
                return;
        word = find_word(words, text);
        if (word) {
                *(int *)field(key, target) = word->value;
                return;
        }
        for (; words->word && n_candidates < WORDS_MAX; words++)
                candidates[n_candidates++] = words->word;
        closest = suggest_closest(text, candidates, n_candidates);
        if (closest)
                loader_error(loader, node, "'%s' is '%.128s'; did you mean '%s'?", key->name, text, closest);
        else
                loader_error(loader, node, "'%s' is '%.128s'; expected %s", key->name, text, list);
}

void config_read_boolean(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                         void *target)
{
        const char *text = config_scalar(loader, key, node, "true or false");

        if (!text)
                return;
        if (node->plain && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0))
                *(int *)field(key, target) = text[0] == 't';
        else
                loader_error(loader, node, "'%s' is '%.128s'%s; expected true or false", key->name, text,
                             node->plain ? "" : " in quotes");
}

void config_read_number(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        const char *text = config_scalar(loader, key, node, "a number");
        __u64 value;

        if (!text)
                return;
        if (!node->plain || parse_number(text, key->min, key->max, &value) < 0) {
                loader_error(loader, node, "'%s' is '%.128s'%s; expected a number from %llu to %llu", key->name, text,
                             node->plain ? "" : " in quotes", (unsigned long long)key->min,
                             (unsigned long long)key->max);
                return;
        }
        *(__u64 *)field(key, target) = value;
}

void config_read_size(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        const char *text = config_scalar(loader, key, node, "a size such as 10MiB");
        __u64 value;
        int r;

        if (!text)
                return;
        r = parse_size(text, &value);
        if (r == -EINVAL)
                loader_error(loader, node, "'%s' is '%.128s'; expected a size such as 4096, 10MiB or 2GB", key->name,
                             text);
        else if (r < 0 || value > key->max)
                loader_error(loader, node, "'%s' is '%.128s'; expected a size such as 10MiB, and at most %llu bytes",
                             key->name, text, (unsigned long long)key->max);
        else if (value < key->min)
                loader_error(loader, node, "'%s' is 0; give a size of at least 1, or a deny rule for 'nothing at all'",
                             key->name);
        else
                *(__u64 *)field(key, target) = value;
}

static void format_seconds(__u64 seconds, char *buffer, size_t size)
{
        static const struct {
                __u64 seconds;
                char unit;
        } units[] = {{24 * 3600, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
        size_t i = 0;

        while (i < ARRAY_SIZE(units) - 1 && (seconds == 0 || seconds % units[i].seconds != 0))
                i++;
        snprintf(buffer, size, "%llu%c", (unsigned long long)(seconds / units[i].seconds), units[i].unit);
}

void config_read_seconds(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                         void *target)
{
        const char *text = config_scalar(loader, key, node, "a duration such as 30s");
        char least[32], most[32];
        __u64 value, seconds;

        if (!text)
                return;
        /* The mistake that everybody makes: a bare number. */
        if (parse_number(text, 0, UINT32_MAX, &value) == 0) {
                loader_error(loader, node, "'%s' is '%s' without a unit; did you mean '%ss'?", key->name, text, text);
                return;
        }
        if (parse_duration(text, &value) < 0 || value % NSEC_PER_SEC != 0) {
                loader_error(loader, node,
                             "'%s' is '%.128s'; expected a duration in whole seconds such as 30s, 5m, 1h or 7d",
                             key->name, text);
                return;
        }
        seconds = value / NSEC_PER_SEC;
        if (seconds < key->min || seconds > key->max) {
                format_seconds(key->min, least, sizeof(least));
                format_seconds(key->max, most, sizeof(most));
                loader_error(loader, node, "'%s' is '%.128s'; expected a duration from %s to %s", key->name, text,
                             least, most);
                return;
        }
        *(__u32 *)field(key, target) = (__u32)seconds;
}

bool config_has_control(const char *text)
{
        for (; *text; text++)
                if ((unsigned char)*text < 0x20 || *text == 0x7f)
                        return true;
        return false;
}

void config_replace_text(struct loader *loader, const struct config_key *key, const char *text, void *target)
{
        char **place = field(key, target), *copy = loader_strdup(loader, text);

        if (!copy)
                return;
        free(*place);
        *place = copy;
}

void config_read_path(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        const struct config_word *words = key->argument;
        char expected[192] = "an absolute path";
        const char *text;

        if (words) {
                char list[128];

                list_words(words, list, sizeof(list));
                snprintf(expected, sizeof(expected), "an absolute path, %s", list);
        }
        text = config_scalar(loader, key, node, expected);
        if (!text)
                return;
        if (!find_word(words, text)) {
                if (text[0] != '/' || config_has_control(text)) {
                        loader_error(loader, node, "'%s' is '%.128s'; expected %s", key->name, text, expected);
                        return;
                }
                if (strlen(text) > key->max) {
                        loader_error(loader, node, "'%s' has %zu characters; a path here has at most %llu", key->name,
                                     strlen(text), (unsigned long long)key->max);
                        return;
                }
        }
        config_replace_text(loader, key, text, target);
}

bool config_name_is_valid(const char *name)
{
        size_t size = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

        return size > 0 && size < AGENT_NAME_MAX && name[size] == '\0' && name[0] != '-' && name[0] != '.';
}

void config_read_name(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        const char *text = config_scalar(loader, key, node, "a name");

        if (!text)
                return;
        if (!config_name_is_valid(text))
                loader_error(loader, node, "'%.128s' is no name; use at most %d letters, digits, '.', '_' and '-'",
                             text, AGENT_NAME_MAX - 1);
        else
                config_replace_text(loader, key, text, target);
}

void config_read_references(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                            void *target)
{
        if (node->kind == YAML_KIND_SCALAR) {
                loader_error(loader, node, "'%s' is a value; expected a list: [%.128s]", key->name, node->text);
                return;
        }
        if (!config_expect(loader, key->name, node, YAML_KIND_LIST, "a list"))
                return;
        for (const struct yaml_node *item = node->first; item; item = item->next)
                if (config_scalar(loader, key, item, "a word"))
                        draft_references_add(loader, field(key, target), item);
}

/* Why path is no path of a cgroup, or NULL. */
static const char *cgroup_problem(const char *path)
{
        const char *at = path;

        if (strlen(path) > PATH_TEXT_MAX || config_has_control(path))
                return "is no path; expected one such as /agents/claude-1";
        if (strspn(path, "/") == strlen(path))
                return "is the root cgroup: it holds the whole host; name one below it";
        while (*at == '/')
                at++;
        while (*at) {
                size_t size = strcspn(at, "/");

                if ((size == 1 && at[0] == '.') || (size == 2 && at[0] == '.' && at[1] == '.'))
                        return "has '.' or '..' in it; write the path out";
                if (size == 0 || size > COMPONENT_MAX)
                        return "is no path of a cgroup; expected one such as /agents/claude-1";
                at += size;
                if (*at == '/' && at[1] != '\0')
                        at++;
                else if (*at == '/')
                        break; /* one slash at the end does no harm */
        }
        return NULL;
}

void config_read_cgroup(struct loader *loader, const struct config_key *key, const struct yaml_node *node, void *target)
{
        const char *text = config_scalar(loader, key, node, "the path of a cgroup"), *problem;
        _cleanup_free_ char *path = NULL;
        size_t size;

        if (!text)
                return;
        problem = cgroup_problem(text);
        if (problem) {
                loader_error(loader, node, "'%.128s' %s", text, problem);
                return;
        }
        if (!target)
                return;
        path = loader_strdup(loader, text);
        if (!path)
                return;
        size = strlen(path);
        if (path[size - 1] == '/')
                path[size - 1] = '\0';
        config_replace_text(loader, key, path, target);
}

/* "ADDRESS", "ADDRESS@PORT"; with tls: "#NAME" behind it. */
static bool upstream_is_valid(const char *text)
{
        char copy[UPSTREAM_TEXT_MAX], *server = copy, *at, *hash;
        bool tls = strncmp(text, "tls://", 6) == 0;
        struct address address;
        __u64 port;

        if (strlen(text) >= sizeof(copy))
                return false;
        strcpy(copy, text);
        if (tls) {
                server += 6;
                hash = strchr(server, '#');
                if (hash) {
                        *hash = '\0';
                        if (hash[1] == '\0' || strspn(hash + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                                "0123456789.-_") != strlen(hash + 1))
                                return false;
                }
        }
        at = strchr(server, '@');
        if (at) {
                *at = '\0';
                if (parse_number(at + 1, 1, 65535, &port) < 0)
                        return false;
        }
        return address_parse(server, &address) == 0;
}

static void report_upstream(struct loader *loader, const struct yaml_node *node)
{
        static const char *const words[] = {"system", "as-asked"};
        const char *closest = suggest_closest(node->text, words, ARRAY_SIZE(words)), *colon = strchr(node->text, ':');
        char host[ADDRESS_TEXT_MAX];
        struct address address;

        if (closest) {
                loader_error(loader, node, "upstream '%.128s'; did you mean '%s'?", node->text, closest);
                return;
        }
        if (colon && (size_t)(colon - node->text) < sizeof(host)) {
                memcpy(host, node->text, (size_t)(colon - node->text));
                host[colon - node->text] = '\0';
                if (address_parse(host, &address) == 0) {
                        loader_error(loader, node, "upstream '%.128s'; did you mean '%s@%.16s'?", node->text, host,
                                     colon + 1);
                        return;
                }
        }
        loader_error(loader, node,
                     "upstream '%.128s'; expected system, as-asked, 10.0.0.2, 10.0.0.2@5353 or "
                     "tls://9.9.9.9@853#dns.quad9.net",
                     node->text);
}

void config_read_upstreams(struct loader *loader, const struct config_key *key, const struct yaml_node *node,
                           void *target)
{
        struct dns_settings *settings = target;
        char **upstreams;

        if (node->kind == YAML_KIND_SCALAR) {
                loader_error(loader, node, "'%s' is a value; expected a list: [%.128s]", key->name, node->text);
                return;
        }
        if (!config_expect(loader, key->name, node, YAML_KIND_LIST, "a list: [system]"))
                return;
        if (node->n_children == 0 || node->n_children > UPSTREAM_MAX) {
                loader_error(loader, node, "'%s' has %zu servers; expected 1 to %d, as in [system]", key->name,
                             node->n_children, UPSTREAM_MAX);
                return;
        }
        upstreams = calloc(node->n_children, sizeof(*upstreams));
        if (!upstreams) {
                loader->no_memory = true;
                return;
        }
        for (size_t i = 0; i < settings->n_upstreams; i++)
                free(settings->upstreams[i]);
        free(settings->upstreams);
        settings->upstreams = upstreams;
        settings->n_upstreams = 0;

        for (const struct yaml_node *item = node->first; item; item = item->next) {
                bool as_asked;

                if (!config_scalar(loader, key, item, "a server such as system or 10.0.0.2"))
                        continue;
                as_asked = strcmp(item->text, "as-asked") == 0;
                if (as_asked && node->n_children > 1)
                        loader_error(loader, item,
                                     "'as-asked' stands alone: the agent names the server; remove the others");
                else if (!as_asked && strcmp(item->text, "system") != 0 && !upstream_is_valid(item->text))
                        report_upstream(loader, item);
                else if ((upstreams[settings->n_upstreams] = loader_strdup(loader, item->text)))
                        settings->n_upstreams++;
                if (as_asked && node->n_children == 1)
                        loader_warning(loader, item,
                                       "upstream 'as-asked': the agent chooses the server, and one of its own can give "
                                       "any address for a name that a rule allows; name fixed upstreams for agents "
                                       "that are not trusted");
        }
}
