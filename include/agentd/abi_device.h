/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tier 3: what the program on the host end of an agent's veth knows about that end. Written by the monitor only.
 */
#pragma once

#include "agentd/abi.h"

/* The flow of a frame that the daemon puts in at a host end, to see it dropped; it has no socket, and so no cookie. */
#define DEVICE_PROBE_COOKIE (~0ull)

enum {
        DEVICES_MAX = 4096,
        DEVICE_SLOTS_MAX = 2 * DEVICES_MAX,
        DEVICE_PLACES = 1 << 16,  /* by the last bits of the ifindex */
        DEVICE_LINES_MAX = 1024,  /* 1 .. DEVICE_LINES_MAX - 1; 0: none */
        DEVICE_ADDRESSES_MAX = 8, /* of the agent, on this link */
        DEVICE_GATEWAYS_MAX = 8,
};

/*
 * Map `device_slots`, an array. An entry does not change while map `devices`, a hash from the host end's ifindex to a
 * __u32 slot, leads to it: another is written and the slot's number is exchanged by one store. Map `device_places`, an
 * array of slots, is asked first: an ifindex modulo its size is there, or another one. So ifindex is compared with the
 * packet's, and because a hash may give the element of a deleted key to another one at once. Slot 0 is nobody's.
 */
struct device {
        __u32 ifindex;
        __u32 agent_id;         /* 0: denies */
        __u64 cgroup_id;        /* the agent's */
        __u64 daemon_cgroup_id; /* whose sockets may ask name servers from here; 0: none */
        __u8 gateway_mac[6];    /* in the order of an Ethernet header */
        __u8 mac[6];            /* the agent's */
        __u8 level;             /* of the agent's cgroup, as bpf_skb_ancestor_cgroup_id() counts */
        __u8 n_addresses;
        __u8 n_gateways;
        __u8 reserved;
        __u16 line; /* in map `device_lines`: what cached verdicts it has; 0: none */
        __u8 reserved2[14];
        struct address addresses[DEVICE_ADDRESSES_MAX]; /* the agent's; what it may send from */
        struct address gateways[DEVICE_GATEWAYS_MAX];   /* whom ARP and neighbour discovery may ask for */
};
ABI_SIZE(struct device, 56 + 16 * (DEVICE_ADDRESSES_MAX + DEVICE_GATEWAYS_MAX));
