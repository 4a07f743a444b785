/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The table.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/bench/bench.h"

enum { ROWS_MAX = 128, NOTES_MAX = 32 };

static struct bench_row rows[ROWS_MAX];
static size_t n_rows;
static char notes[NOTES_MAX][200];
static size_t n_notes;

void bench_report(struct bench_row row)
{
        if (n_rows < ROWS_MAX)
                rows[n_rows++] = row;
}

void bench_noise(const char *section, const char *what, double first, double second, const char *unit)
{
        double low = first < second ? first : second, high = first < second ? second : first;

        bench_report((struct bench_row){.section = section,
                                        .what = what,
                                        .against = "itself (noise)",
                                        .unit = unit,
                                        .measured = high,
                                        .compared = low,
                                        .kind = strcmp(unit, "ns") == 0 ? BENCH_PLUS : BENCH_RATIO});
}

void bench_note(const char *format, ...)
{
        va_list arguments;

        if (n_notes >= NOTES_MAX)
                return;
        va_start(arguments, format);
        (void)vsnprintf(notes[n_notes++], sizeof(notes[0]), format, arguments);
        va_end(arguments);
}

static const char *quantity(char *buffer, size_t size, double value, const char *unit)
{
        if (value >= 1e6)
                (void)snprintf(buffer, size, "%.2fM %s", value / 1e6, unit);
        else if (value >= 1e4)
                (void)snprintf(buffer, size, "%.1fk %s", value / 1e3, unit);
        else
                (void)snprintf(buffer, size, "%.*f %s", value < 10 ? 2 : 1, value, unit);
        return buffer;
}

static void row_print(const struct bench_row *row)
{
        char measured[32], compared[32] = "", result[32] = "", goal[40] = "", distance[40] = "", number[32];
        double value = row->measured;

        quantity(measured, sizeof(measured), row->measured, row->unit);
        if (row->kind != BENCH_VALUE)
                quantity(compared, sizeof(compared), row->compared, row->unit);
        if (row->kind == BENCH_PLUS) {
                value = row->measured - row->compared;
                (void)snprintf(result, sizeof(result), "%+.1f %s", value, row->unit);
        } else if (row->kind == BENCH_RATIO) {
                value = row->compared > 0 ? row->measured / row->compared : 0;
                (void)snprintf(result, sizeof(result), "x %.3f", value);
        }

        if (row->has_goal) {
                bool met = row->at_least ? value >= row->goal : value <= row->goal;

                if (row->kind == BENCH_RATIO)
                        (void)snprintf(number, sizeof(number), "%.2f", row->goal);
                else
                        quantity(number, sizeof(number), row->goal, row->unit);
                (void)snprintf(goal, sizeof(goal), "%s %s", row->at_least ? ">=" : "<=", number);
                if (row->kind == BENCH_PLUS)
                        (void)snprintf(distance, sizeof(distance), "%s by %.1f %s", met ? "met" : "MISSED",
                                       met == row->at_least ? value - row->goal : row->goal - value, row->unit);
                else if (row->goal > 0)
                        (void)snprintf(distance, sizeof(distance), "%s: x %.2f of it", met ? "met" : "MISSED",
                                       value / row->goal);
                else
                        (void)snprintf(distance, sizeof(distance), "%s", met ? "met" : "MISSED");
        }
        printf("  %-45s %16s  %-20s %14s %13s  %-18s %s\n", row->what, measured, row->against ? row->against : "",
               compared, result, goal, distance);
}

void bench_print(void)
{
        const char *section = "";

        printf("  %-45s %16s  %-20s %14s %13s  %-18s %s\n", "what", "measured", "against", "", "result", "goal",
               "distance");
        for (size_t i = 0; i < n_rows; i++) {
                if (strcmp(section, rows[i].section) != 0) {
                        section = rows[i].section;
                        printf("\n%s\n", section);
                }
                row_print(&rows[i]);
        }
        printf("\n");
        for (size_t i = 0; i < n_notes; i++)
                printf("note: %s\n", notes[i]);
        fflush(stdout);
}
