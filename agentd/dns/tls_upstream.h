/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * DNS over TLS (RFC 7858) for libunbound, which Debian builds without it: a UDP socket on loopback that libunbound
 * forwards to, and behind it one TLS connection a server, kept open and shared by all questions.
 *
 * The loopback socket is for libunbound alone. Others on this host could use it to look up names past every policy
 * (an agent on the host's network with `loopback: allow`), so a question is taken only from a port that a socket of our
 * own process holds.
 */
#pragma once

#include <stdbool.h>

#include <uv.h>

#include "agentd/abi_message.h"

struct tls_upstream;

/* Is this UDP port one of libunbound's own sockets? */
typedef bool (*tls_upstream_is_own)(void *context, __u16 port);

/*
 * Takes the `tls://` upstreams of settings. *ret_port: where libunbound shall forward to (127.0.0.1). -EINVAL: an
 * upstream cannot be understood; -ENOENT: a name is to be verified and there is no CA bundle. Logs. Files are read here
 * and not later.
 */
int tls_upstream_new(uv_loop_t *loop, const struct message_settings *settings, tls_upstream_is_own is_own,
                     void *context, struct tls_upstream **ret, __u16 *ret_port);
/* At the process's end only: handles are left to the loop. */
void tls_upstream_free(struct tls_upstream *upstream);
