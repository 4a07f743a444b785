/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * `agentd uninstall`: removes every pin, link and cgroup that agentd made on this host.
 */
#pragma once

int uninstall_main(int argc, char *argv[]);
