/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * libunbound's pluggable event base on libuv: the resolver runs on the worker's own loop, in its one thread, with no
 * hand-over between threads on the way of an answer (and no clone() in the seccomp list).
 */
#pragma once

#include <stdbool.h>
#include <unbound-event.h>
#include <uv.h>

struct unbound_loop;

int unbound_loop_new(uv_loop_t *loop, struct unbound_loop **ret);
void unbound_loop_free(struct unbound_loop *base); /* after ub_ctx_delete() */
struct ub_event_base *unbound_loop_base(struct unbound_loop *base);
/* Does a socket that libunbound waits for hold this local port? */
bool unbound_loop_owns_port(const struct unbound_loop *base, unsigned port);
