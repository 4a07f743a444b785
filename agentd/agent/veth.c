/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * See the header. What the agent may send from and to whom it may speak below IP is decided here: its own addresses are
 * those of its end of the veth, unless they are the gateway's; the gateway's are those of this host's side.
 */
#include "agentd/agent/veth.h"

#include <errno.h>
#include <string.h>

#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

enum { NSID_NONE = -2 }; /* no link leads there: matches nothing */

struct search {
        const struct veth_search *asked;
        struct rtnl *there;
        __s32 here_nsid;  /* what the agent's namespace calls ours */
        __s32 there_nsid; /* and we its */
        struct veth *ways;
        size_t n, capacity;
        bool has_tap;
};

static void name_copy(char *ret, const char *name)
{
        size_t i;

        for (i = 0; i < IFNAMSIZ - 1 && name[i]; i++)
                ret[i] = name[i] > ' ' && name[i] < 0x7f ? name[i] : '?';
        ret[i] = '\0';
}

static struct veth *way_add(struct search *search, const struct rtnl_link *link)
{
        struct veth *way;

        if (search->n == search->capacity)
                return NULL;
        way = &search->ways[search->n++];
        memset(way, 0, sizeof(*way));
        name_copy(way->name, link ? link->name : "");
        return way;
}

static int other_way(struct search *search, const struct rtnl_link *link, const char *format)
{
        struct veth *way = way_add(search, link);

        if (!way)
                return -E2BIG;
        (void)snprintf(way->detail, sizeof(way->detail), format, way->name);
        return 0;
}

static bool address_in(const struct address *list, size_t n, const struct address *address)
{
        for (size_t i = 0; i < n; i++)
                if (memcmp(&list[i], address, sizeof(*address)) == 0)
                        return true;
        return false;
}

static bool usable(const struct address *address)
{
        static const __u8 mapped[12] = {[10] = 0xff, [11] = 0xff};

        if (memcmp(address->bytes, mapped, sizeof(mapped)) == 0)
                return address->bytes[12] != 0 && address->bytes[12] != 127 && address->bytes[12] < 224;
        return address->bytes[0] != 0xff && (address->halves[0] != 0 || address->words[2] != 0);
}

static void gateway_add(struct veth *way, const struct address *address)
{
        if (way->n_gateways < DEVICE_GATEWAYS_MAX && usable(address) &&
            !address_in(way->gateways, way->n_gateways, address))
                way->gateways[way->n_gateways++] = *address;
}

static int gateways_read(struct search *search, struct veth *way, const struct rtnl_link *link,
                         const struct rtnl_link *gateway, bool bridged)
{
        struct rtnl_address addresses[VETH_ADDRESSES_MAX];
        struct address hops[DEVICE_GATEWAYS_MAX];
        size_t n = 0;
        int r;

        r = rtnl_addresses(search->asked->here, gateway->ifindex, addresses, ARRAY_SIZE(addresses), &n);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++)
                gateway_add(way, &addresses[i].address);
        /* The agent's own routes are believed only where nobody but this host is on the link to be asked by ARP. */
        if (bridged)
                return 0;
        r = rtnl_gateways(search->there, link->ifindex, hops, ARRAY_SIZE(hops), &n);
        for (size_t i = 0; r == 0 && i < n; i++)
                gateway_add(way, &hops[i]);
        return r;
}

static int addresses_read(struct search *search, struct veth *way, const struct rtnl_link *link)
{
        struct rtnl_address addresses[VETH_ADDRESSES_MAX];
        size_t n = 0;
        int r = rtnl_addresses(search->there, link->ifindex, addresses, ARRAY_SIZE(addresses), &n);

        for (size_t i = 0; r == 0 && i < n && way->n_addresses < DEVICE_ADDRESSES_MAX; i++)
                if (usable(&addresses[i].address) && !address_in(way->gateways, way->n_gateways, &addresses[i].address))
                        way->addresses[way->n_addresses++] = addresses[i].address;
        return r;
}

/* The one that the host's end belongs to, if any, is where its packets go. */
static int gateway_find(struct search *search, const struct rtnl_link *host, struct rtnl_link *ret_gateway,
                        bool *ret_bridged, const char **ret_problem)
{
        struct rtnl_link master;
        int r;

        *ret_gateway = *host;
        *ret_bridged = false;
        if (host->master == 0)
                return 0;
        r = rtnl_link_get(search->asked->here, host->master, &master);
        if (r < 0)
                return r;
        if (strcmp(master.kind, "bridge") == 0 && master.ethernet) {
                *ret_gateway = master;
                *ret_bridged = true;
        } else if (strcmp(master.kind, "vrf") != 0) {
                *ret_problem = "the host end of %s is a port of something else than a bridge";
        }
        return 0;
}

static int veth_way(struct search *search, const struct rtnl_link *link)
{
        struct rtnl_link host, gateway;
        const char *problem = NULL;
        struct veth *way;
        bool bridged;
        int r;

        r = rtnl_link_get(search->asked->here, link->peer, &host);
        if (r < 0 && r != -ENODEV)
                return r;
        if (r < 0 || strcmp(host.kind, "veth") != 0 || host.peer != link->ifindex || host.nsid != search->there_nsid ||
            !host.ethernet || !link->ethernet)
                return other_way(search, link, "%s changed while it was looked at");
        r = gateway_find(search, &host, &gateway, &bridged, &problem);
        if (r == -ENODEV)
                problem = "%s changed while it was looked at";
        else if (r < 0)
                return r;
        if (problem)
                return other_way(search, link, problem);

        way = way_add(search, link);
        if (!way)
                return -E2BIG;
        name_copy(way->host_name, host.name);
        memcpy(way->mac, link->mac, sizeof(way->mac));
        memcpy(way->gateway_mac, gateway.mac, sizeof(way->gateway_mac));
        r = gateways_read(search, way, link, &gateway, bridged);
        if (r == 0)
                r = addresses_read(search, way, link);
        if (r < 0)
                return r;
        if ((way->mac[0] & 1) || memcmp(way->mac, way->gateway_mac, sizeof(way->mac)) == 0)
                (void)snprintf(way->detail, sizeof(way->detail), "the MAC address of %s is not one of its own",
                               way->name);
        else if (bridged && way->n_gateways == 0)
                (void)snprintf(way->detail, sizeof(way->detail),
                               "the bridge of %s has no address here: the gateway is another machine", way->name);
        else
                way->ifindex = host.ifindex;
        return 0;
}

static bool leads_inside(const struct search *search, const struct rtnl_link *link)
{
        for (size_t i = 0; i < search->asked->n_own; i++) {
                __s32 nsid = NSID_NONE;

                if (rtnl_nsid(search->there, search->asked->own_fds[i], &nsid) == 0 && nsid == link->nsid)
                        return true;
        }
        return false;
}

static int look_at(struct search *search, const struct rtnl_link *link)
{
        if (link->flags & IFF_LOOPBACK)
                return 0;
        if (strcmp(link->kind, "tun") == 0)
                search->has_tap = true;
        if (link->nsid >= 0) {
                if (strcmp(link->kind, "veth") == 0 && link->nsid == search->here_nsid)
                        return veth_way(search, link);
                if (leads_inside(search, link))
                        return 0;
                return other_way(search, link,
                                 strcmp(link->kind, "veth") == 0
                                         ? "the host end of %s is in another namespace than the daemon"
                                         : "%s is no veth, and leads out");
        }
        /* A device of its own, or one that goes on sending in the namespace where it was made. */
        if ((!link->kind[0] && link->ethernet) || strcmp(link->kind, "wireguard") == 0)
                return other_way(search, link, "%s is no veth, and leads out");
        return 0; /* built inside: what it sends leaves by one of the others */
}

/* More links than one looks at: those that lead here are found from this side, which the agent cannot fill. */
static int find_from_here(struct search *search)
{
        _cleanup_free_ struct rtnl_link *links = calloc(VETH_HOST_MAX, sizeof(*links));
        struct rtnl_link link;
        size_t n = 0;
        int r;

        if (!links)
                return -ENOMEM;
        r = rtnl_links(search->asked->here, "veth", links, VETH_HOST_MAX, &n);
        for (size_t i = 0; r == 0 && i < n; i++) {
                if (links[i].nsid != search->there_nsid)
                        continue;
                r = rtnl_link_get(search->there, links[i].peer, &link);
                if (r == 0)
                        r = veth_way(search, &link);
                else if (r == -ENODEV)
                        r = 0;
        }
        if (r == 0)
                r = other_way(search, NULL, "%sit has more interfaces than are looked at");
        return r;
}

static int open_there(struct search *search)
{
        rtnl_close(search->there);
        search->there = NULL;
        return rtnl_open(search->asked->there_fd, 0, &search->there);
}

static int nsids_read(struct search *search)
{
        int r = rtnl_nsid(search->there, search->asked->here_fd, &search->here_nsid);

        if (r == 0 || r == -ENOENT)
                r = rtnl_nsid(search->asked->here, search->asked->there_fd, &search->there_nsid);
        return r == -ENOENT ? 0 : r;
}

static int find(struct search *search)
{
        _cleanup_free_ struct rtnl_link *links = calloc(VETH_LINKS_MAX, sizeof(*links));
        size_t n = 0;
        int listed, r;

        if (!links)
                return -ENOMEM;
        /* The list makes the numbers by which both know each other (net/core/rtnetlink.c, rtnl_fill_link_netnsid). */
        listed = rtnl_links(search->there, NULL, links, VETH_LINKS_MAX, &n);
        if (listed < 0 && listed != -E2BIG)
                return listed;
        r = listed < 0 ? open_there(search) : 0;
        if (r == 0)
                r = nsids_read(search);
        if (r < 0)
                return r;
        if (listed == -E2BIG)
                return find_from_here(search);
        for (size_t i = 0; r == 0 && i < n; i++) {
                /* Each number is made on the side that asks. */
                if (strcmp(links[i].kind, "veth") == 0 && links[i].nsid == search->here_nsid &&
                    search->there_nsid == NSID_NONE) {
                        struct rtnl_link host;

                        (void)rtnl_link_get(search->asked->here, links[i].peer, &host);
                        r = nsids_read(search);
                }
                if (r == 0)
                        r = look_at(search, &links[i]);
        }
        if (r == 0 && search->n == 0 && search->has_tap)
                r = other_way(search, NULL, "%sa network in user space, by a tap device, is not judged");
        return r;
}

int veth_find(const struct veth_search *asked, struct veth *ret, size_t capacity, size_t *ret_n)
{
        struct search search = {
                .asked = asked, .here_nsid = NSID_NONE, .there_nsid = NSID_NONE, .ways = ret, .capacity = capacity};
        int r = open_there(&search);

        if (r == 0)
                r = find(&search);
        rtnl_close(search.there);
        if (r == 0)
                *ret_n = search.n;
        return r;
}
