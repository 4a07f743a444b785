/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ways out of an agent's network namespace: its veths with their other ends here, and what else leads out.
 *
 * Who is root in there may rename, re-create and pile up interfaces; which ends belong together is the kernel's word,
 * asked on both sides. A way that cannot be judged from here is told with the reason, never passed over.
 */
#pragma once

#include <linux/if.h>

#include "agentd/abi_device.h"
#include "agentd/net/rtnl.h"

enum {
        VETH_WAYS_MAX = 16,   /* out of one namespace */
        VETH_LINKS_MAX = 64,  /* in it, that we look at one by one */
        VETH_HOST_MAX = 8192, /* on the host, when the namespace has more */
        VETH_ADDRESSES_MAX = 64,
};

struct veth {
        __u32 ifindex; /* of the end here; 0: cannot be judged, and detail says why */
        char name[IFNAMSIZ];
        char host_name[IFNAMSIZ]; /* both printable */
        __u8 mac[6];
        __u8 gateway_mac[6]; /* the end here, or the bridge that it is a port of */
        struct address addresses[DEVICE_ADDRESSES_MAX];
        size_t n_addresses;
        struct address gateways[DEVICE_GATEWAYS_MAX];
        size_t n_gateways;
        char detail[128];
};

struct veth_search {
        struct rtnl *here; /* the caller's namespace */
        int here_fd;
        int there_fd;
        const int *own_fds; /* the agent's other namespaces: what leads there stays inside */
        size_t n_own;
};

/* Writes at most capacity. -E2BIG: there are more. -errno. */
int veth_find(const struct veth_search *search, struct veth *ret, size_t capacity, size_t *ret_n);
