/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One line a message, written by one write(), so that lines of several processes do not mix.
 */
#include "agentd/util/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *log_program = "agentd";
static enum log_level log_max_level = LOG_LEVEL_INFO;

void log_setup(const char *program, enum log_level level)
{
        log_program = program;
        log_max_level = level;
}

int log_full(enum log_level level, int error, const char *format, ...)
{
        char line[2048];
        size_t used = 0;
        va_list arguments;
        int saved = errno;

        if (level > log_max_level)
                return error;

        if (getenv("JOURNAL_STREAM"))
                used += (size_t)snprintf(line, sizeof(line), "<%d>", (int)level);
        used += (size_t)snprintf(line + used, sizeof(line) - used, "%s: ", log_program);

        va_start(arguments, format);
        used += (size_t)vsnprintf(line + used, sizeof(line) - used, format, arguments);
        va_end(arguments);

        if (error < 0 && used < sizeof(line))
                used += (size_t)snprintf(line + used, sizeof(line) - used, ": %s", strerror(-error));
        used = MIN(used, sizeof(line) - 2);
        line[used++] = '\n';

        /* Nothing can be done about a closed stderr: ignoring. */
        if (write(STDERR_FILENO, line, used) < 0)
                errno = saved;
        errno = saved;
        return error;
}
