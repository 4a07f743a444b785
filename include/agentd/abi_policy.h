/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The rules as the kernel reads them.
 *
 * An address leads to one list of matches: by `learned` (this agent, this address), else by `hosts` (this policy
 * version, exact), else by `cidrs` (this policy version, longest prefix). Each list is complete: the compiler has
 * flattened into it every prefix that covers the address, so one look-up is enough. Denying matches stand first.
 */
#pragma once

#include "agentd/abi.h"

enum { LIMIT_CLASSES_MAX = 1 << 10 }; /* of a policy: rules with a budget or a rate of their own, and one */

enum match_flag {
        MATCH_DENY = 1,
        MATCH_BY_NAME = 2, /* from a learned name: counts only while the learned entry is fresh, or for a live flow */
};

/* Map `matches`, an array. A list is a header at index `list` and its matches behind it. Index 0 is the empty list. */
struct match {
        __u16 protocols : 4; /* enum protocol_bit; header: 0 */
        __u16 flags : 2;     /* enum match_flag; header: 0 */
        __u16 limits : 10;   /* the rule's class of limits: see struct agent_limits. 0: those of the agent alone */
        __u16 port_low;      /* host order, inclusive; header: the number of matches, at most MATCH_LIST_MAX */
        __u16 port_high;
        __u16 rule; /* index into the policy's rules; header: RULE_NONE */
};
ABI_SIZE(struct match, 8);

/*
 * Rules for new connections from outside stand under a version of their own, POLICY_INGRESS | version: the remote
 * address leads to a list whose ports are the agent's. Versions of policies are below it.
 */
enum { POLICY_INGRESS = 1 << 23 };

/* Map `hosts`, a hash: addresses that the policy names in full (/32, /128). Value: __u32 list. */
struct host_key {
        __u32 version;
        __u32 reserved; /* 0 */
        struct address address;
};
ABI_SIZE(struct host_key, 24);

/* Map `cidrs`, an LPM trie. prefix_length counts the 32 bits of the version: 32 + 0..128. Value: __u32 list. */
struct cidr_key {
        __u32 prefix_length;
        __be32 version; /* big endian: a trie compares bits in memory order */
        __u8 address[16];
};
ABI_SIZE(struct cidr_key, 24);

/* Map `learned`, a hash. */
struct learned_key {
        __u32 agent_id;
        __u32 reserved; /* 0 */
        struct address address;
};
ABI_SIZE(struct learned_key, 24);

/*
 * Two slots: while a policy is replaced, the list for the next version stands beside the current one, and a packet
 * picks the one whose version is in the agent's word. Neither fits: the entry is as good as absent.
 */
struct learned_entry {
        __u64 expires_ns; /* CLOCK_BOOTTIME; new connections need now < expires_ns */
        __u64 used_ns;    /* CLOCK_BOOTTIME; the kernel's last allowed packet (about a second's precision) */
        struct {
                __u32 version;
                __u32 list;
        } slots[2];
};
ABI_SIZE(struct learned_entry, 32);

/* Map `learned_names`, a hash that only the daemon reads: so that a new one knows what the old one had learned. */
struct learned_name_key {
        __u32 agent_id;
        __u32 name_hash; /* FNV-1a of name */
        struct address address;
};
ABI_SIZE(struct learned_name_key, 24);

struct learned_name {
        __u64 expires_ns;
        __u8 name[NAME_MAX_BYTES];
};
ABI_SIZE(struct learned_name, 264);

/*
 * Map `listeners`, a hash, in two kinds of entry. AGENT: where this agent's listener is in this namespace, a port.
 * PORT: whose listener this loopback port is: no agent may ask another's.
 */
enum listener_kind {
        LISTENER_AGENT = 0, /* id: agent id; value: port */
        LISTENER_PORT = 1,  /* id: port; value: agent id */
};

struct listener_key {
        __u64 netns_cookie;
        __u32 id;
        __u32 kind; /* enum listener_kind */
};
ABI_SIZE(struct listener_key, 16);
