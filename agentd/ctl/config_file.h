/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Configuration files that agentctl reads itself: no daemon, no root.
 */
#pragma once

#include <stdbool.h>

#include "agentd/policy/config.h"

/* Loads path; warnings and errors go to stderr (not at all when tell is false). CTL_OK, or the status to exit with. */
int config_file_load(const char *path, bool tell, struct config **ret);
/* *ret: daemon.socket, to be freed; NULL when the file does not say. */
int config_file_socket(const char *path, bool tell, char **ret);
