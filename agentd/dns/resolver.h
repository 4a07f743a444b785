/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Names to packets, by libunbound: cache, retries, TCP, DNSSEC, DNS over TLS. It forwards; it never iterates from the
 * root.
 *
 * Everything that needs a file (trust anchor, CA bundle) is read in resolver_new(), which also brings the library past
 * its first look-up, so that the process can be confined right after.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <uv.h>

#include "agentd/abi_message.h"

struct resolver;

enum resolver_status {
        RESOLVER_ANSWER, /* packet is an answer, of any rcode that the upstream gave */
        RESOLVER_FAILED, /* no upstream answered */
        RESOLVER_BOGUS,  /* DNSSEC: refused */
};

struct resolver_result {
        enum resolver_status status;
        const void *packet; /* valid during the call only; NULL unless RESOLVER_ANSWER */
        size_t size;
        bool secure; /* DNSSEC: proven */
};

typedef void (*resolver_done)(void *context, const struct resolver_result *result);

/*
 * -ENOKEY: DNSSEC is on and no trust anchor is installed; -EINVAL: an upstream cannot be understood; -ENOENT: no CA
 * bundle for DNS over TLS with a name. Logs. *ret is NULL with 0 when no upstream is an address (as-asked alone).
 */
int resolver_new(uv_loop_t *loop, const struct message_settings *settings, struct resolver **ret);
void resolver_free(struct resolver *resolver);

/*
 * done is called once, perhaps before this returns. 0 or -errno (done is then not called). A look-up cannot be
 * cancelled: the context must stay until done.
 */
int resolver_ask(struct resolver *resolver, const char *name, __u16 type, resolver_done done, void *context);
