/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * `agentd oci-hook`: what a container runtime calls between making a container and starting it.
 */
#pragma once

/* argv[0] is "oci-hook". */
int oci_hook_main(int argc, char *argv[]);
