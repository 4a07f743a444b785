/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Output for people: aligned tables, sizes, durations. What the daemon sends may come from an agent in the end (names,
 * programs), so every text is escaped before it reaches a terminal.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "agentd/util/macro.h"

/* Rows of cells; the last column is not padded. */
struct table {
        char ***rows;
        size_t n_rows;
        size_t n_columns;
        size_t next; /* column of the next cell */
};

void table_begin(struct table *table, size_t n_columns);
void table_cell(struct table *table, const char *format, ...) PRINTF(2, 3);
/* Of an agent: "tiers 1,2,3 (eth0)", or "tiers 1,2; not 3: why". */
void table_tiers(struct table *table, const json_t *agent);
/* A row for each guarded parent: 2 cells, or 3 with its path in one of its own. */
void table_guards(struct table *table, const json_t *guard, bool path_apart);
void table_print(const struct table *table, FILE *file);
void table_clear(struct table *table);

/* An error, one line on stderr, escaped: "agentctl: ...". */
void ctl_error(const char *format, ...) PRINTF(1, 2);
/* Text to a terminal. */
void print_safe(FILE *file, const char *text);
/* The result as JSON; the exit status (1 when stdout cannot be written). */
int print_json(const json_t *result);
/* After the last output: 0, or 1 with an error when stdout could not be written (a full disk). */
int print_end(void);

/* Into buffer, which is returned: "3.2 MiB", "2h 5m", "1d 3h". */
enum { PRINT_TEXT_MAX = 32 };
const char *print_size(json_int_t bytes, char *buffer);
const char *print_duration(json_int_t seconds, char *buffer);

/* Of an answer: never NULL; 0 when it is missing or of another type. */
const char *json_text(const json_t *object, const char *key);
json_int_t json_number(const json_t *object, const char *key);
