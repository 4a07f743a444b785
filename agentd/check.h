/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * `agentd check`: validates a configuration and prints what would be enforced. Needs no root, touches nothing.
 */
#pragma once

/* argv[0]: the verb. Returns the exit status of the contract: 0, 2 (usage, not valid), 4 (cannot be enforced). */
int check_main(int argc, char *argv[]);
