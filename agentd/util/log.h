/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Log lines on stderr, in the form `agentd: what`; with the journal's priority prefix when JOURNAL_STREAM is set.
 *
 * A failure is logged once, where it is understood: `return log_error_errno(r, "cannot ... '%s'", path);`. The level is
 * the program's only global.
 */
#pragma once

#include "agentd/util/macro.h"

enum log_level {
        LOG_LEVEL_ERROR = 3,
        LOG_LEVEL_WARNING = 4,
        LOG_LEVEL_INFO = 6,
        LOG_LEVEL_DEBUG = 7,
};

/* program: the word before the colon ("agentd", "agentctl"); a static string. */
void log_setup(const char *program, enum log_level level);

/* Returns error as it was given, so that a caller can return it. error: 0 (none shown) or -errno. */
int log_full(enum log_level level, int error, const char *format, ...) PRINTF(3, 4);

#define log_error(...)                log_full(LOG_LEVEL_ERROR, 0, __VA_ARGS__)
#define log_error_errno(error, ...)   log_full(LOG_LEVEL_ERROR, error, __VA_ARGS__)
#define log_warning(...)              log_full(LOG_LEVEL_WARNING, 0, __VA_ARGS__)
#define log_warning_errno(error, ...) log_full(LOG_LEVEL_WARNING, error, __VA_ARGS__)
#define log_info(...)                 log_full(LOG_LEVEL_INFO, 0, __VA_ARGS__)
#define log_debug(...)                log_full(LOG_LEVEL_DEBUG, 0, __VA_ARGS__)
