/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An agent's answers, ready to be sent again: no resolver, no monitor. Everything in here has been learned, and leaves
 * before what was learned expires. One cache belongs to one agent; it is emptied whenever the agent or its policy
 * changes.
 */
#pragma once

#include "agentd/net/dns_message.h"

struct dns_cache;

/* total: bytes of all caches, shared; owned by the caller. */
int dns_cache_new(size_t *total, struct dns_cache **ret);
void dns_cache_free(struct dns_cache *cache);
void dns_cache_clear(struct dns_cache *cache);

/*
 * Takes over template's memory on success. lifetime_s: how long it may be told (0 is refused: -EINVAL). Least recently
 * used entries make room. 0, -EINVAL, -ENOSPC, -ENOMEM.
 */
int dns_cache_put(struct dns_cache *cache, const char *name, __u16 type, struct dns_template *template,
                  __u32 lifetime_s, __u64 now_ms);

/* NULL: not there, or over. *ret_age_s: what its TTLs have lost. Valid until the next put or clear. */
const struct dns_template *dns_cache_find(struct dns_cache *cache, const char *name, __u16 type, __u64 now_ms,
                                          __u32 *ret_age_s);
size_t dns_cache_size(const struct dns_cache *cache);
