/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel's side of agentd: one object, so that one set of maps serves every hook and one verifier run sees it all.
 *
 * An agent is told by the cgroup where the program is attached (bpf_get_local_storage), never by the socket's own: a
 * child cgroup made by the agent is the agent. UAPI headers only: no vmlinux.h, no build per kernel.
 */
#include <linux/types.h>

#include "bpf/maps.h"

#include "bpf/device.h"
#include "bpf/guard.h"
#include "bpf/owner.h"
#include "bpf/skb.h"
#include "bpf/socket.h"
#include "bpf/sockopt.h"
#include "bpf/test.h"

/* GPL-only helpers are used (bpf_sk_storage_get and friends); the source is dual. */
char agentd_license[] SEC("license") = "Dual BSD/GPL";
