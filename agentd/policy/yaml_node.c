/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * libyaml's events into a tree. Nodes and text live in chunks that are freed together.
 */
#include "agentd/policy/yaml_node.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

enum { CHUNK_SIZE = 256 * 1024 };

struct chunk {
        struct chunk *next;
        size_t used, size;
        max_align_t bytes[];
};

struct yaml_document {
        struct chunk *chunks;
        struct yaml_node *root;
        size_t n_nodes;
};

DEFINE_CLEANUP(struct yaml_document *, yaml_document_free);

void yaml_document_free(struct yaml_document *document)
{
        struct chunk *next;

        if (!document)
                return;
        for (struct chunk *chunk = document->chunks; chunk; chunk = next) {
                next = chunk->next;
                free(chunk);
        }
        free(document);
}

const struct yaml_node *yaml_document_root(const struct yaml_document *document)
{
        return document->root;
}

bool yaml_node_is_null(const struct yaml_node *node)
{
        if (node->kind != YAML_KIND_SCALAR || !node->plain)
                return false;
        return node->text[0] == '\0' || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0;
}

const char *yaml_kind_to_string(enum yaml_kind kind)
{
        switch (kind) {
        case YAML_KIND_LIST:
                return "a list";
        case YAML_KIND_MAP:
                return "a map";
        default:
                return "a value";
        }
}

static int PRINTF(4, 5) problem_at(struct yaml_problem *problem, size_t line, size_t column, const char *format, ...)
{
        va_list arguments;

        problem->line = (unsigned)line;
        problem->column = (unsigned)column;
        va_start(arguments, format);
        vsnprintf(problem->text, sizeof(problem->text), format, arguments);
        va_end(arguments);
        return -EINVAL;
}

/* Size of the well-formed UTF-8 sequence at text (RFC 3629: shortest form, no surrogates), 0: none. */
static size_t utf8_sequence(const unsigned char *text, size_t size)
{
        unsigned char lead = text[0];
        size_t length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;

        if (length == 0 || length > size)
                return 0;
        for (size_t i = 1; i < length; i++)
                if ((text[i] & 0xc0) != 0x80)
                        return 0;
        if ((lead == 0xe0 && text[1] < 0xa0) || (lead == 0xed && text[1] > 0x9f) || (lead == 0xf0 && text[1] < 0x90) ||
            (lead == 0xf4 && text[1] > 0x8f))
                return 0;
        return length;
}

/* What libyaml refuses beyond ASCII: C1 controls but NEL, non-characters, a byte order mark that is not the first. */
static bool is_control(const unsigned char *text, size_t length, bool first)
{
        if (length == 1)
                return (text[0] < 0x20 && text[0] != '\t' && text[0] != '\n' && text[0] != '\r') || text[0] == 0x7f;
        if (length == 2)
                return text[0] == 0xc2 && text[1] < 0xa0 && text[1] != 0x85;
        if (length == 3 && text[0] == 0xef && text[1] == 0xbb && text[2] == 0xbf)
                return !first;
        return length == 3 && text[0] == 0xef && text[1] == 0xbf && text[2] >= 0xbe;
}

/* libyaml reports bad characters without a line; and text with NUL bytes would be cut short in error messages. */
static int check_characters(const char *text, size_t size, struct yaml_problem *problem)
{
        size_t line = 1, column = 1;

        for (size_t i = 0; i < size;) {
                unsigned char c = (unsigned char)text[i];
                size_t length = utf8_sequence((const unsigned char *)text + i, size - i);

                if (length == 0)
                        return problem_at(problem, line, column, "byte 0x%02x is not UTF-8; save the file as UTF-8", c);
                if (c == '\0')
                        return problem_at(problem, line, column, "a NUL byte; this is not a text file");
                if (is_control((const unsigned char *)text + i, length, i == 0))
                        return problem_at(problem, line, column, "control character (byte 0x%02x); remove it", c);
                if (c == '\n') {
                        line++;
                        column = 1;
                } else {
                        column++;
                }
                i += length;
        }
        return 0;
}

static void *document_allocate(struct yaml_document *document, size_t size)
{
        struct chunk *chunk = document->chunks;
        void *memory;

        size = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
        if (!chunk || chunk->size - chunk->used < size) {
                size_t chunk_size = MAX(size, (size_t)CHUNK_SIZE);

                chunk = malloc(sizeof(*chunk) + chunk_size);
                if (!chunk)
                        return NULL;
                chunk->next = document->chunks;
                chunk->used = 0;
                chunk->size = chunk_size;
                document->chunks = chunk;
        }
        memory = (char *)chunk->bytes + chunk->used;
        chunk->used += size;
        return memory;
}

struct builder {
        yaml_parser_t parser;
        struct yaml_document *document;
        struct yaml_problem *problem;
        const char *input;
        struct yaml_node *stack[YAML_DEPTH_MAX];
        const struct yaml_node *keys[YAML_DEPTH_MAX]; /* of an open map: the key that waits for its value */
        size_t depth;
};

static void builder_clear(struct builder *builder)
{
        yaml_parser_delete(&builder->parser);
}

static int builder_problem(struct builder *builder)
{
        const yaml_parser_t *parser = &builder->parser;
        const char *at = builder->input + parser->problem_mark.index;
        size_t line = parser->problem_mark.line + 1, column = parser->problem_mark.column + 1;
        const char *problem = parser->problem ? parser->problem : "not YAML";

        if (parser->error == YAML_MEMORY_ERROR)
                return -ENOMEM;
        /* problem_mark.index counts characters, not bytes: near enough to see a tab only where all before is ASCII. */
        if (*at == '\t' && strstr(problem, "cannot start any token"))
                return problem_at(builder->problem, line, column, "a tab cannot indent YAML; use spaces");
        if (parser->context)
                return problem_at(builder->problem, line, column, "not valid YAML: %s %s (line %zu)", problem,
                                  parser->context, parser->context_mark.line + 1);
        return problem_at(builder->problem, line, column, "not valid YAML: %s", problem);
}

/* Puts a new node where the document has come to. */
static int builder_add(struct builder *builder, enum yaml_kind kind, const yaml_mark_t *mark, struct yaml_node **ret)
{
        struct yaml_document *document = builder->document;
        struct yaml_node *parent = builder->depth > 0 ? builder->stack[builder->depth - 1] : NULL, *node;

        if (document->n_nodes >= YAML_NODES_MAX)
                return problem_at(builder->problem, mark->line + 1, mark->column + 1,
                                  "more than %d values in one file; split it with 'include'", YAML_NODES_MAX);
        node = document_allocate(document, sizeof(*node));
        if (!node)
                return -ENOMEM;
        *node = (struct yaml_node){
                .kind = kind,
                .line = (unsigned)mark->line + 1,
                .column = (unsigned)mark->column + 1,
        };
        document->n_nodes++;

        if (!parent) {
                document->root = node;
        } else if (parent->kind == YAML_KIND_MAP && !builder->keys[builder->depth - 1]) {
                builder->keys[builder->depth - 1] = node;
        } else {
                if (parent->kind == YAML_KIND_MAP) {
                        node->key = builder->keys[builder->depth - 1];
                        builder->keys[builder->depth - 1] = NULL;
                }
                if (parent->last)
                        parent->last->next = node;
                else
                        parent->first = node;
                parent->last = node;
                parent->n_children++;
        }
        *ret = node;
        return 0;
}

static int builder_scalar(struct builder *builder, const yaml_event_t *event)
{
        size_t size = event->data.scalar.length;
        struct yaml_node *node;
        char *text;
        int r;

        r = builder_add(builder, YAML_KIND_SCALAR, &event->start_mark, &node);
        if (r < 0)
                return r;
        /* "\0" in double quotes. */
        if (memchr(event->data.scalar.value, '\0', size))
                return problem_at(builder->problem, node->line, node->column, "a NUL character in a value; remove it");
        text = document_allocate(builder->document, size + 1);
        if (!text)
                return -ENOMEM;
        memcpy(text, event->data.scalar.value, size);
        text[size] = '\0';
        node->text = text;
        node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        return 0;
}

static int builder_open(struct builder *builder, enum yaml_kind kind, const yaml_mark_t *mark)
{
        struct yaml_node *node;
        int r;

        if (builder->depth == YAML_DEPTH_MAX)
                return problem_at(builder->problem, mark->line + 1, mark->column + 1,
                                  "nested deeper than %d levels; no configuration needs that", YAML_DEPTH_MAX);
        r = builder_add(builder, kind, mark, &node);
        if (r < 0)
                return r;
        builder->keys[builder->depth] = NULL;
        builder->stack[builder->depth++] = node;
        return 0;
}

static int builder_event(struct builder *builder, const yaml_event_t *event)
{
        const yaml_char_t *tag = NULL;
        size_t line = event->start_mark.line + 1, column = event->start_mark.column + 1;

        switch (event->type) {
        case YAML_SCALAR_EVENT:
                tag = event->data.scalar.tag;
                break;
        case YAML_SEQUENCE_START_EVENT:
                tag = event->data.sequence_start.tag;
                break;
        case YAML_MAPPING_START_EVENT:
                tag = event->data.mapping_start.tag;
                break;
        default:
                break;
        }
        if (tag)
                return problem_at(builder->problem, line, column, "tag '%.64s' is not supported; remove it",
                                  (const char *)tag);

        switch (event->type) {
        case YAML_SCALAR_EVENT:
                return builder_scalar(builder, event);
        case YAML_SEQUENCE_START_EVENT:
                return builder_open(builder, YAML_KIND_LIST, &event->start_mark);
        case YAML_MAPPING_START_EVENT:
                return builder_open(builder, YAML_KIND_MAP, &event->start_mark);
        case YAML_SEQUENCE_END_EVENT:
        case YAML_MAPPING_END_EVENT:
                builder->depth--;
                return 0;
        case YAML_ALIAS_EVENT:
                return problem_at(builder->problem, line, column,
                                  "alias '*%.64s' is not supported; write the value out, or use 'extends'",
                                  (const char *)event->data.alias.anchor);
        case YAML_DOCUMENT_START_EVENT:
                if (builder->document->root)
                        return problem_at(builder->problem, line, column,
                                          "a second document; a file holds one, without '---' in the middle");
                return 0;
        default:
                return 0;
        }
}

static int document_build(struct builder *builder)
{
        bool end = false;
        int r;

        while (!end) {
                yaml_event_t event;

                if (!yaml_parser_parse(&builder->parser, &event))
                        return builder_problem(builder);
                r = builder_event(builder, &event);
                end = event.type == YAML_STREAM_END_EVENT;
                yaml_event_delete(&event);
                if (r < 0)
                        return r;
        }
        return 0;
}

int yaml_document_parse(const char *text, size_t size, struct yaml_problem *ret_problem, struct yaml_document **ret)
{
        _cleanup_(yaml_document_freep) struct yaml_document *document = NULL;
        _cleanup_free_ char *copy = NULL;
        struct builder builder = {.problem = ret_problem};
        int r;

        r = check_characters(text, size, ret_problem);
        if (r < 0)
                return r;

        document = calloc(1, sizeof(*document));
        copy = malloc(size + 1);
        if (!document || !copy)
                return -ENOMEM;
        memcpy(copy, text, size);
        copy[size] = '\0'; /* error marks may point to the end */
        builder.document = document;
        builder.input = copy;

        if (!yaml_parser_initialize(&builder.parser))
                return -ENOMEM;
        yaml_parser_set_encoding(&builder.parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&builder.parser, (const unsigned char *)copy, size);
        r = document_build(&builder);
        builder_clear(&builder);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(document);
        return 0;
}
