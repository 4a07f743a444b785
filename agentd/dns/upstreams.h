/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The `dns` part of a configuration as the worker gets it: "system" replaced by what resolv.conf says, "as-asked" a
 * flag. Read by the monitor: the worker has no files.
 */
#pragma once

#include <stdbool.h>

#include "agentd/abi_message.h"
#include "agentd/policy/policy.h"

/*
 * 0; -EINVAL: an upstream is no address; -E2BIG: more than UPSTREAM_MAX; -errno of reading resolv_conf. Logs.
 * *ret_system: "system" was among them.
 */
int upstreams_settings(const struct dns_settings *settings, const char *resolv_conf, struct message_settings *ret,
                       bool *ret_system);
