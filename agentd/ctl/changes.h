/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What reload and policy diff print: one line a change, "+ policy x", "- agent y", "~ policy z: 1 rule added".
 */
#pragma once

#include <jansson.h>

void print_changes(const json_t *changes);
