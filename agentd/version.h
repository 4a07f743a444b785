/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The version as `--version` prints it; the number is the Makefile's.
 */
#pragma once

#ifndef AGENTD_VERSION
#define AGENTD_VERSION "unknown"
#endif
