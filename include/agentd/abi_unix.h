/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Unix sockets that an agent may not talk to, as the kernel reads them, and what is told about a socket that is no
 * matter of addresses.
 */
#pragma once

#include "agentd/abi_event.h"

enum {
        UNIX_PATH_MAX_BYTES = 108, /* sun_path */
        UNIX_SHARED = 0,           /* the version under which the defaults stand: they are every policy's */
};

enum unix_kind {
        UNIX_PATH = 1,        /* a plain absolute path and its NUL, or a directory up to its last '/' */
        UNIX_NAME = 2,        /* of a path that does not say where it is: its last component and its NUL; or nothing:
                                 every such path */
        UNIX_ABSTRACT = 3,    /* without its first byte, padded with NULs to one at least; or the beginning of one */
        UNIX_NO_DEFAULTS = 4, /* nothing follows: this version is not judged by the shared ones */
        UNIX_OUTSIDE = 5,     /* nothing follows: no socket that is not the agent's own (tier 4) */
};

/* Value of `unix_denied`. Quietly: no event and no count, because the C library asks there before each look-up, finds
 * nobody, and goes on to ask by DNS. */
enum unix_answer { UNIX_DENIED = 1, UNIX_DENIED_QUIETLY = 2 };

/* Map `unix_denied`, an LPM trie: what is found is denied. prefix_length counts version and kind: 40 + 8 * bytes. */
struct unix_key {
        __u32 prefix_length;
        __be32 version;
        __u8 kind; /* enum unix_kind */
        __u8 name[111];
};
ABI_SIZE(struct unix_key, 120);

enum { UNIX_KEY_HEAD_BITS = 40 };

/* Ring `events`, RECORD_SOCKET: a verdict about a family or a Unix socket's address. verdict.header is of the whole. */
struct socket_record {
        struct verdict_record verdict;
        __u8 family; /* AF_* */
        __u8 path_length;
        __u8 reserved[6];
        __u8 path[112]; /* as in sun_path: an abstract one begins with a NUL */
};
ABI_SIZE(struct socket_record, 240);
