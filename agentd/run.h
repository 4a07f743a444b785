/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * `agentd run`: one command under one policy, with no daemon.
 */
#pragma once

/* argv[0] is "run". Returns the exit status of the contract. */
int run_main(int argc, char *argv[]);
