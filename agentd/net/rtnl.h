/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Links, addresses and routes of a network namespace, and the tidings of their change, by rtnetlink (libmnl).
 *
 * Which links there are, and what they are called, is up to whoever is root in the namespace: names are never used to
 * find one, dumps are cut off at what the caller has room for, and the ties between namespaces (peer, namespace id) are
 * the kernel's word, not theirs.
 */
#pragma once

#include <linux/if.h>
#include <stdbool.h>
#include <stddef.h>

#include "agentd/abi.h"
#include "agentd/util/cleanup.h"

struct rtnl;

struct rtnl_link {
        __u32 ifindex;
        __u32 flags;  /* IFF_UP... */
        __u32 peer;   /* the other end's ifindex, in its own namespace; 0: none */
        __s32 nsid;   /* of that namespace, as this one numbers it; -1: this namespace */
        __u32 master; /* 0: none */
        __u32 mtu;
        bool ethernet; /* mac is there */
        __u8 mac[6];
        char name[IFNAMSIZ]; /* for people */
        char kind[16];       /* "veth", "bridge"; "": none */
};

struct rtnl_address {
        __u32 ifindex;
        __u8 prefix_length; /* of the 128 bits */
        struct address address;
};

enum rtnl_group {
        RTNL_GROUP_LINKS = 1,
        RTNL_GROUP_ADDRESSES = 2,
        RTNL_GROUP_ROUTES = 4,
};

/* netns_fd -1: here. groups: enum rtnl_group, for rtnl_changed(); 0: questions only. */
int rtnl_open(int netns_fd, unsigned groups, struct rtnl **ret);
void rtnl_close(struct rtnl *rtnl);
DEFINE_CLEANUP(struct rtnl *, rtnl_close);

/* Of a socket with groups: becomes readable when something changed. */
int rtnl_fd(const struct rtnl *rtnl);
/*
 * Reads what has come, at most as much as one turn should take. link: called for each tiding of a link, with ifindex 0
 * when some were lost; may be NULL. Returns how many tidings; -errno.
 */
typedef void (*rtnl_link_fn)(void *context, const struct rtnl_link *link, bool gone);
int rtnl_changed(struct rtnl *rtnl, rtnl_link_fn link, void *context);

/* Of a socket without groups. */
int rtnl_link_get(struct rtnl *rtnl, __u32 ifindex, struct rtnl_link *ret); /* -ENODEV: none */
/*
 * Lists. -E2BIG: there are more than capacity, or more than one should look through; the socket may still be busy with
 * them and must be closed. kind NULL: all.
 */
int rtnl_links(struct rtnl *rtnl, const char *kind, struct rtnl_link *ret, size_t capacity, size_t *ret_n);
/* Of one link. */
int rtnl_addresses(struct rtnl *rtnl, __u32 ifindex, struct rtnl_address *ret, size_t capacity, size_t *ret_n);
/* Next hops of default routes through this link. */
int rtnl_gateways(struct rtnl *rtnl, __u32 ifindex, struct address *ret, size_t capacity, size_t *ret_n);
/* What the socket's namespace calls another one; -ENOENT: nothing yet (a link between the two makes it). */
int rtnl_nsid(struct rtnl *rtnl, int netns_fd, __s32 *ret);
