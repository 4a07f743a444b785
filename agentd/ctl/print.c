/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tables are kept in memory until every width is known. Out of memory ends the program: there is nothing to save.
 */
#include "agentd/ctl/print.h"

#include <err.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/event/text.h"
#include "agentd/util/cleanup.h"

static char *escape(const char *text)
{
        size_t length = strlen(text), size = 4 * length + 1;
        char *escaped = malloc(size);
        struct text_writer writer;

        if (!escaped)
                errx(1, "out of memory");
        text_begin(&writer, escaped, size);
        text_add_safe(&writer, text, length);
        return escaped;
}

/* Columns on a terminal: code points, which is right for what has no wide characters. */
static size_t text_width(const char *text)
{
        size_t width = 0;

        for (; *text; text++)
                width += ((unsigned char)*text & 0xc0) != 0x80;
        return width;
}

void table_begin(struct table *table, size_t n_columns)
{
        *table = (struct table){.n_columns = n_columns, .next = n_columns};
}

void table_cell(struct table *table, const char *format, ...)
{
        _cleanup_free_ char *text = NULL;
        va_list arguments;

        va_start(arguments, format);
        if (vasprintf(&text, format, arguments) < 0)
                errx(1, "out of memory");
        va_end(arguments);

        if (table->next == table->n_columns) {
                char ***rows = reallocarray(table->rows, table->n_rows + 1, sizeof(*rows));

                if (!rows)
                        errx(1, "out of memory");
                table->rows = rows;
                table->rows[table->n_rows] = calloc(table->n_columns, sizeof(char *));
                if (!table->rows[table->n_rows])
                        errx(1, "out of memory");
                table->n_rows++;
                table->next = 0;
        }
        table->rows[table->n_rows - 1][table->next++] = escape(text);
}

static size_t column_width(const struct table *table, size_t column)
{
        size_t width = 0;

        for (size_t row = 0; row < table->n_rows; row++)
                if (table->rows[row][column])
                        width = MAX(width, text_width(table->rows[row][column]));
        return width;
}

static bool row_is_empty_from(char **row, size_t column, size_t n_columns)
{
        for (; column < n_columns; column++)
                if (row[column] && row[column][0] != '\0')
                        return false;
        return true;
}

void table_print(const struct table *table, FILE *file)
{
        _cleanup_free_ size_t *widths = calloc(table->n_columns, sizeof(*widths));

        if (!widths)
                errx(1, "out of memory");
        for (size_t column = 0; column < table->n_columns; column++)
                widths[column] = column_width(table, column);

        for (size_t row = 0; row < table->n_rows; row++) {
                for (size_t column = 0; column < table->n_columns; column++) {
                        const char *cell = table->rows[row][column] ? table->rows[row][column] : "";
                        int padding = (int)(widths[column] - text_width(cell));

                        /* No blanks at the end of a line. */
                        if (row_is_empty_from(table->rows[row], column, table->n_columns))
                                break;
                        if (column > 0)
                                fputs("  ", file);
                        fputs(cell, file);
                        if (!row_is_empty_from(table->rows[row], column + 1, table->n_columns))
                                fprintf(file, "%*s", padding, "");
                }
                fputc('\n', file);
        }
}

void table_clear(struct table *table)
{
        for (size_t row = 0; row < table->n_rows; row++) {
                for (size_t column = 0; column < table->n_columns; column++)
                        free(table->rows[row][column]);
                free(table->rows[row]);
        }
        free(table->rows);
        *table = (struct table){0};
}

void print_safe(FILE *file, const char *text)
{
        _cleanup_free_ char *escaped = escape(text);

        fputs(escaped, file);
}

void ctl_error(const char *format, ...)
{
        _cleanup_free_ char *text = NULL, *escaped = NULL;
        va_list arguments;

        va_start(arguments, format);
        if (vasprintf(&text, format, arguments) < 0)
                errx(1, "out of memory");
        va_end(arguments);
        escaped = escape(text);
        fflush(stdout);
        fprintf(stderr, "agentctl: %s\n", escaped);
}

int print_json(const json_t *result)
{
        /* A failure is seen by print_end(). */
        (void)json_dumpf(result, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
        fputc('\n', stdout);
        return print_end();
}

int print_end(void)
{
        errno = 0;
        if (fflush(stdout) == 0 && !ferror(stdout))
                return 0;
        /* Who closes the pipe early (head) knows: no words about it. */
        if (errno != EPIPE)
                ctl_error("cannot write the output: %s", strerror(errno ? errno : EIO));
        return 1;
}

const char *print_size(json_int_t bytes, char *buffer)
{
        static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
        double value = (double)bytes;
        size_t unit = 0;

        while (value >= 1024 && unit + 1 < ARRAY_SIZE(units)) {
                value /= 1024;
                unit++;
        }
        if (unit == 0)
                snprintf(buffer, PRINT_TEXT_MAX, "%lld B", (long long)bytes);
        else
                snprintf(buffer, PRINT_TEXT_MAX, "%.1f %s", value, units[unit]);
        return buffer;
}

const char *print_duration(json_int_t seconds, char *buffer)
{
        long long s = MAX((long long)seconds, 0ll);

        if (s < 60)
                snprintf(buffer, PRINT_TEXT_MAX, "%llds", s);
        else if (s < 3600)
                snprintf(buffer, PRINT_TEXT_MAX, "%lldm %llds", s / 60, s % 60);
        else if (s < 86400)
                snprintf(buffer, PRINT_TEXT_MAX, "%lldh %lldm", s / 3600, s % 3600 / 60);
        else
                snprintf(buffer, PRINT_TEXT_MAX, "%lldd %lldh", s / 86400, s % 86400 / 3600);
        return buffer;
}

const char *json_text(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

json_int_t json_number(const json_t *object, const char *key)
{
        return json_integer_value(json_object_get(object, key));
}

void table_tiers(struct table *table, const json_t *agent)
{
        const json_t *tiers = json_object_get(agent, "tiers"), *device;
        const json_t *proven = json_object_get(json_object_get(agent, "verification"), "tiers_s");
        const char *separator = "tiers ";
        struct text_writer writer;
        char text[512];
        size_t i;

        text_begin(&writer, text, sizeof(text));
        for (int tier = 1; tier <= 4; tier++) {
                const json_t *item = json_object_get(tiers, (char[2]){(char)('0' + tier)});

                if (!json_is_true(item) && !json_is_true(json_object_get(item, "present")))
                        continue;
                text_addf(&writer, "%s%d", separator, tier);
                separator = ",";
        }
        tiers = json_object_get(tiers, "3");
        json_array_foreach(json_object_get(tiers, "devices"), i, device)
                text_addf(&writer, "%s%s", i == 0 ? " (" : " ", json_text(device, "name"));
        if (json_array_size(json_object_get(tiers, "devices")) > 0)
                text_addf(&writer, ")");
        if (tiers && !json_is_true(json_object_get(tiers, "present")))
                text_addf(&writer, "; not 3: %s", json_text(tiers, "detail"));
        if (strcmp(json_text(agent, "runtime"), "gvisor") == 0)
                text_addf(&writer, "; runtime: gvisor, %s", json_text(agent, "runtime_detail"));
        /* Beside an agent that is called enforcing: a tier that is there, and has not been shown to work yet. */
        for (int tier = 1; tier <= 4 && proven && strcmp(json_text(agent, "state"), "enforcing") == 0; tier++) {
                const char key[2] = {(char)('0' + tier)};
                const json_t *item = json_object_get(json_object_get(agent, "tiers"), key);

                if ((json_is_true(item) || json_is_true(json_object_get(item, "present"))) &&
                    !json_is_integer(json_object_get(proven, key)) &&
                    (tier != 3 || json_array_size(json_object_get(item, "devices")) > 0))
                        text_addf(&writer, "; not verified: %d", tier);
        }
        table_cell(table, "%s", text);
}

static void guard_state(const json_t *guard, const json_t *parent, char *text, size_t size)
{
        const char *state = json_text(parent, "state");

        if (strcmp(state, "guarding") == 0)
                (void)snprintf(text, size, "denies what is no agent%s (verified %llds ago)",
                               json_is_true(json_object_get(guard, "packet_sockets"))
                                       ? ", packet sockets too"
                                       : ", but not packet sockets (no tier 4)",
                               (long long)json_number(parent, "verified_s"));
        else if (strcmp(state, "waiting") == 0)
                (void)snprintf(text, size, "waits for this cgroup");
        else
                (void)snprintf(text, size, "NOT GUARDED: %s", json_text(parent, "detail"));
}

void table_guards(struct table *table, const json_t *guard, bool path_apart)
{
        const json_t *parent;
        char text[256];
        size_t i;

        json_array_foreach(json_object_get(guard, "parents"), i, parent)
        {
                guard_state(guard, parent, text, sizeof(text));
                table_cell(table, "guard");
                if (path_apart)
                        table_cell(table, "%s", json_text(parent, "cgroup"));
                table_cell(table, "%s%s%s", path_apart ? "" : json_text(parent, "cgroup"), path_apart ? "" : ": ",
                           text);
        }
}
