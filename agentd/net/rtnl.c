/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rtnetlink by libmnl; see the header for the threat. Sizes are checked before a field is read.
 */
#include "agentd/net/rtnl.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "agentd/net/netns.h"
#include "agentd/util/macro.h"

/* MESSAGES_MAX: of one dump. Several agents' worth of links, or of routes. */
enum { BUFFER_SIZE = 32 * 1024, MESSAGES_MAX = 8192, CHANGES_MAX = 64 };

struct rtnl {
        struct mnl_socket *socket;
        __u32 sequence;
};

static int groups_join(struct rtnl *rtnl, unsigned groups)
{
        static const struct {
                enum rtnl_group group;
                int number;
        } members[] = {
                {RTNL_GROUP_LINKS, RTNLGRP_LINK},
                {RTNL_GROUP_ADDRESSES, RTNLGRP_IPV4_IFADDR},
                {RTNL_GROUP_ADDRESSES, RTNLGRP_IPV6_IFADDR},
                {RTNL_GROUP_ROUTES, RTNLGRP_IPV4_ROUTE},
                {RTNL_GROUP_ROUTES, RTNLGRP_IPV6_ROUTE},
        };

        for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
                int number = members[i].number;

                if ((groups & members[i].group) &&
                    mnl_socket_setsockopt(rtnl->socket, NETLINK_ADD_MEMBERSHIP, &number, sizeof(number)) < 0)
                        return -errno;
        }
        return 0;
}

int rtnl_open(int netns_fd, unsigned groups, struct rtnl **ret)
{
        static const struct timeval patience = {.tv_sec = 2};
        _cleanup_(rtnl_closep) struct rtnl *rtnl = NULL;
        _cleanup_close_ int fd = -1;
        int r, on = 1;

        r = netns_socket(netns_fd, AF_NETLINK, SOCK_RAW | (groups ? SOCK_NONBLOCK : 0), NETLINK_ROUTE, &fd);
        if (r < 0)
                return r;
        if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
                return -errno;
        rtnl = calloc(1, sizeof(*rtnl));
        if (!rtnl)
                return -ENOMEM;
        rtnl->socket = mnl_socket_fdopen(fd);
        if (!rtnl->socket)
                return -errno;
        (void)TAKE_FD(fd);
        /* Without it the kernel takes no notice of a filter. */
        if (mnl_socket_setsockopt(rtnl->socket, NETLINK_GET_STRICT_CHK, &on, sizeof(on)) < 0)
                return -errno;
        if (mnl_socket_bind(rtnl->socket, 0, MNL_SOCKET_AUTOPID) < 0)
                return -errno;
        r = groups_join(rtnl, groups);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(rtnl);
        return 0;
}

void rtnl_close(struct rtnl *rtnl)
{
        if (!rtnl)
                return;
        if (rtnl->socket)
                mnl_socket_close(rtnl->socket);
        free(rtnl);
}

int rtnl_fd(const struct rtnl *rtnl)
{
        return mnl_socket_get_fd(rtnl->socket);
}

/* Whoever has CAP_NET_ADMIN in the namespace may write to our socket as well (net/netlink/af_netlink.c,
 * netlink_sendmsg): what counts is the kernel's, port 0. */
static ssize_t receive(struct rtnl *rtnl, char *buffer)
{
        for (;;) {
                struct sockaddr_nl from = {};
                socklen_t length = sizeof(from);
                ssize_t n = recvfrom(rtnl_fd(rtnl), buffer, BUFFER_SIZE, MSG_TRUNC, (struct sockaddr *)&from, &length);

                if (n < 0)
                        return -errno;
                if (n > BUFFER_SIZE)
                        return -ENOBUFS;
                if (length == sizeof(from) && from.nl_family == AF_NETLINK && from.nl_pid == 0)
                        return n;
        }
}

/* A question, and what is made of each message of the answer. */
struct inquiry {
        void (*take)(struct inquiry *inquiry, const struct nlmsghdr *header);
        size_t n, capacity, messages;
        void *ret;
        __u32 ifindex; /* the one that is asked for */
        const char *kind;
};

static int on_message(const struct nlmsghdr *header, void *context)
{
        struct inquiry *inquiry = context;

        if (++inquiry->messages > MESSAGES_MAX) {
                errno = E2BIG;
                return MNL_CB_ERROR;
        }
        inquiry->take(inquiry, header);
        if (inquiry->n > inquiry->capacity) {
                errno = E2BIG;
                return MNL_CB_ERROR;
        }
        return MNL_CB_OK;
}

static int ask(struct rtnl *rtnl, struct nlmsghdr *request, struct inquiry *inquiry)
{
        _cleanup_free_ char *buffer = malloc(BUFFER_SIZE);
        const bool dump = (request->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
        __u32 sequence = ++rtnl->sequence;
        int r;

        if (!buffer)
                return -ENOMEM;
        request->nlmsg_seq = sequence;
        if (mnl_socket_sendto(rtnl->socket, request, request->nlmsg_len) < 0)
                return -errno;
        do {
                ssize_t n = receive(rtnl, buffer);

                if (n < 0)
                        return n == -EAGAIN ? -ETIMEDOUT : (int)n;
                if ((size_t)n >= sizeof(struct nlmsghdr) && ((struct nlmsghdr *)buffer)->nlmsg_seq != sequence) {
                        r = MNL_CB_OK;
                        continue;
                }
                r = mnl_cb_run(buffer, (size_t)n, sequence, mnl_socket_get_portid(rtnl->socket), on_message, inquiry);
                /* It changed meanwhile, and a tiding of that is on its way: ignoring. */
                if (r < 0 && errno == EINTR)
                        r = MNL_CB_OK;
        } while (r > MNL_CB_STOP && dump);
        return r < 0 ? -errno : 0;
}

static int find_kind(const struct nlattr *attribute, void *context)
{
        char *kind = context;
        __u16 n = mnl_attr_get_payload_len(attribute);

        if (mnl_attr_get_type(attribute) == IFLA_INFO_KIND && n > 0) {
                memcpy(kind, mnl_attr_get_payload(attribute), MIN(n, 15));
                kind[MIN(n, 15)] = '\0';
        }
        return MNL_CB_OK;
}

static int link_attribute(const struct nlattr *attribute, void *context)
{
        struct rtnl_link *link = context;
        const void *payload = mnl_attr_get_payload(attribute);
        __u16 n = mnl_attr_get_payload_len(attribute);

        switch (mnl_attr_get_type(attribute)) {
        case IFLA_IFNAME:
                memcpy(link->name, payload, MIN(n, sizeof(link->name) - 1));
                break;
        case IFLA_ADDRESS:
                if (n == sizeof(link->mac))
                        memcpy(link->mac, payload, sizeof(link->mac));
                else
                        link->ethernet = false;
                break;
        case IFLA_LINK:
                if (n == sizeof(__u32))
                        link->peer = mnl_attr_get_u32(attribute);
                break;
        case IFLA_LINK_NETNSID:
                if (n == sizeof(__s32))
                        link->nsid = (__s32)mnl_attr_get_u32(attribute);
                break;
        case IFLA_MASTER:
                if (n == sizeof(__u32))
                        link->master = mnl_attr_get_u32(attribute);
                break;
        case IFLA_MTU:
                if (n == sizeof(__u32))
                        link->mtu = mnl_attr_get_u32(attribute);
                break;
        case IFLA_LINKINFO:
                (void)mnl_attr_parse_nested(attribute, find_kind, link->kind);
                break;
        }
        return MNL_CB_OK;
}

static bool link_read(const struct nlmsghdr *header, struct rtnl_link *ret)
{
        const struct ifinfomsg *message;

        if ((header->nlmsg_type != RTM_NEWLINK && header->nlmsg_type != RTM_DELLINK) ||
            mnl_nlmsg_get_payload_len(header) < sizeof(*message))
                return false;
        message = mnl_nlmsg_get_payload(header);
        if (message->ifi_index <= 0)
                return false;
        *ret = (struct rtnl_link){
                .ifindex = (__u32)message->ifi_index,
                .flags = message->ifi_flags,
                .ethernet = message->ifi_type == ARPHRD_ETHER,
                .nsid = -1,
        };
        (void)mnl_attr_parse(header, sizeof(*message), link_attribute, ret);
        return true;
}

static void take_link(struct inquiry *inquiry, const struct nlmsghdr *header)
{
        struct rtnl_link link, *links = inquiry->ret;

        if (!link_read(header, &link) || (inquiry->ifindex && link.ifindex != inquiry->ifindex) ||
            (inquiry->kind && strcmp(inquiry->kind, link.kind) != 0))
                return;
        if (inquiry->n < inquiry->capacity)
                links[inquiry->n] = link;
        inquiry->n++;
}

static void changes_read(const char *buffer, int n, rtnl_link_fn function, void *context)
{
        for (const struct nlmsghdr *header = (const void *)buffer; mnl_nlmsg_ok(header, n);
             header = mnl_nlmsg_next(header, &n)) {
                struct rtnl_link link;

                if (link_read(header, &link))
                        function(context, &link, header->nlmsg_type == RTM_DELLINK);
        }
}

int rtnl_changed(struct rtnl *rtnl, rtnl_link_fn link, void *context)
{
        static const struct rtnl_link lost = {};
        _cleanup_free_ char *buffer = malloc(BUFFER_SIZE);
        int n = 0;

        if (!buffer)
                return -ENOMEM;
        while (n < CHANGES_MAX) {
                ssize_t size = receive(rtnl, buffer);

                if (size == -EAGAIN)
                        break;
                if (size < 0 && size != -ENOBUFS && size != -EINTR)
                        return (int)size;
                n++;
                if (!link)
                        continue;
                if (size < 0)
                        link(context, &lost, false);
                else
                        changes_read(buffer, (int)size, link, context);
        }
        return n;
}

static struct nlmsghdr *link_request(char *buffer, __u16 flags, __u32 ifindex)
{
        struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
        struct ifinfomsg *message;

        header->nlmsg_type = RTM_GETLINK;
        header->nlmsg_flags = NLM_F_REQUEST | flags;
        message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
        message->ifi_family = AF_UNSPEC;
        message->ifi_index = (int)ifindex;
        mnl_attr_put_u32(header, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
        return header;
}

int rtnl_link_get(struct rtnl *rtnl, __u32 ifindex, struct rtnl_link *ret)
{
        struct rtnl_link link = {};
        struct inquiry inquiry = {.take = take_link, .capacity = 1, .ret = &link, .ifindex = ifindex};
        char buffer[512];
        int r;

        if (ifindex == 0 || ifindex > INT32_MAX)
                return -ENODEV;
        r = ask(rtnl, link_request(buffer, 0, ifindex), &inquiry);
        if (r == 0 && inquiry.n != 1)
                r = -ENODEV;
        if (r == 0)
                *ret = link;
        return r;
}

int rtnl_links(struct rtnl *rtnl, const char *kind, struct rtnl_link *ret, size_t capacity, size_t *ret_n)
{
        struct inquiry inquiry = {.take = take_link, .capacity = capacity, .ret = ret, .kind = kind};
        char buffer[512];
        struct nlmsghdr *header = link_request(buffer, NLM_F_DUMP, 0);
        int r;

        if (kind) {
                struct nlattr *nest = mnl_attr_nest_start(header, IFLA_LINKINFO);

                mnl_attr_put_strz(header, IFLA_INFO_KIND, kind);
                mnl_attr_nest_end(header, nest);
        }
        r = ask(rtnl, header, &inquiry);
        if (r == 0)
                *ret_n = inquiry.n;
        return r;
}

static bool address_take(struct address *ret, __u8 family, const struct nlattr *attribute)
{
        __u16 n = mnl_attr_get_payload_len(attribute);

        if (family == AF_INET6 && n == 16) {
                memcpy(ret->bytes, mnl_attr_get_payload(attribute), 16);
                return true;
        }
        if (family == AF_INET && n == 4) {
                *ret = (struct address){.bytes = {[10] = 0xff, [11] = 0xff}};
                memcpy(ret->bytes + 12, mnl_attr_get_payload(attribute), 4);
                return true;
        }
        return false;
}

/* The attributes that an address or a route may be read from. */
struct attributes {
        const struct nlattr *first, *second;
        int first_type, second_type;
};

static int find_two(const struct nlattr *attribute, void *context)
{
        struct attributes *attributes = context;

        if (mnl_attr_get_type(attribute) == attributes->first_type)
                attributes->first = attribute;
        else if (mnl_attr_get_type(attribute) == attributes->second_type)
                attributes->second = attribute;
        return MNL_CB_OK;
}

static void take_address(struct inquiry *inquiry, const struct nlmsghdr *header)
{
        /* On a point-to-point link IFA_ADDRESS is the other end's; IFA_LOCAL, where it is told, is ours. */
        struct attributes found = {.first_type = IFA_LOCAL, .second_type = IFA_ADDRESS};
        struct rtnl_address item = {}, *addresses = inquiry->ret;
        const struct ifaddrmsg *message;

        if (header->nlmsg_type != RTM_NEWADDR || mnl_nlmsg_get_payload_len(header) < sizeof(*message))
                return;
        message = mnl_nlmsg_get_payload(header);
        (void)mnl_attr_parse(header, sizeof(*message), find_two, &found);
        if (message->ifa_index != inquiry->ifindex || (!found.first && !found.second) ||
            !address_take(&item.address, message->ifa_family, found.first ? found.first : found.second))
                return;
        item.ifindex = message->ifa_index;
        item.prefix_length = message->ifa_prefixlen + (message->ifa_family == AF_INET ? 96 : 0);
        if (inquiry->n < inquiry->capacity)
                addresses[inquiry->n] = item;
        inquiry->n++;
}

int rtnl_addresses(struct rtnl *rtnl, __u32 ifindex, struct rtnl_address *ret, size_t capacity, size_t *ret_n)
{
        struct inquiry inquiry = {.take = take_address, .capacity = capacity, .ret = ret, .ifindex = ifindex};
        struct ifaddrmsg *message;
        struct nlmsghdr *header;
        char buffer[256];
        int r;

        header = mnl_nlmsg_put_header(buffer);
        header->nlmsg_type = RTM_GETADDR;
        header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
        message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
        message->ifa_family = AF_UNSPEC;
        message->ifa_index = ifindex;
        r = ask(rtnl, header, &inquiry);
        if (r == 0)
                *ret_n = inquiry.n;
        return r;
}

static void take_gateway(struct inquiry *inquiry, const struct nlmsghdr *header)
{
        struct attributes found = {.first_type = RTA_GATEWAY, .second_type = RTA_OIF};
        struct address gateway, *gateways = inquiry->ret;
        const struct rtmsg *message;

        if (header->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(header) < sizeof(*message))
                return;
        message = mnl_nlmsg_get_payload(header);
        if (message->rtm_dst_len != 0 || message->rtm_type != RTN_UNICAST)
                return;
        (void)mnl_attr_parse(header, sizeof(*message), find_two, &found);
        if (!found.first || !found.second || mnl_attr_get_payload_len(found.second) != sizeof(__u32) ||
            mnl_attr_get_u32(found.second) != inquiry->ifindex ||
            !address_take(&gateway, message->rtm_family, found.first))
                return;
        if (inquiry->n < inquiry->capacity)
                gateways[inquiry->n] = gateway;
        inquiry->n++;
}

int rtnl_gateways(struct rtnl *rtnl, __u32 ifindex, struct address *ret, size_t capacity, size_t *ret_n)
{
        static const __u8 families[] = {AF_INET, AF_INET6};
        struct inquiry inquiry = {.take = take_gateway, .capacity = capacity, .ret = ret, .ifindex = ifindex};

        for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
                struct nlmsghdr *header;
                struct rtmsg *message;
                char buffer[256];
                int r;

                header = mnl_nlmsg_put_header(buffer);
                header->nlmsg_type = RTM_GETROUTE;
                header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
                message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
                message->rtm_family = families[i];
                mnl_attr_put_u32(header, RTA_OIF, ifindex);
                r = ask(rtnl, header, &inquiry);
                /* No such family, or no such link any more: no route. */
                if (r < 0 && r != -EAFNOSUPPORT && r != -EOPNOTSUPP && r != -ENODEV)
                        return r;
        }
        *ret_n = inquiry.n;
        return 0;
}

static void take_nsid(struct inquiry *inquiry, const struct nlmsghdr *header)
{
        struct attributes found = {.first_type = NETNSA_NSID, .second_type = -1};

        if (header->nlmsg_type != RTM_NEWNSID || mnl_nlmsg_get_payload_len(header) < sizeof(struct rtgenmsg))
                return;
        (void)mnl_attr_parse(header, sizeof(struct rtgenmsg), find_two, &found);
        if (found.first && mnl_attr_get_payload_len(found.first) == sizeof(__s32)) {
                *(__s32 *)inquiry->ret = (__s32)mnl_attr_get_u32(found.first);
                inquiry->n = 1;
        }
}

int rtnl_nsid(struct rtnl *rtnl, int netns_fd, __s32 *ret)
{
        __s32 nsid = -1;
        struct inquiry inquiry = {.take = take_nsid, .capacity = 1, .ret = &nsid};
        struct nlmsghdr *header;
        struct rtgenmsg *message;
        char buffer[256];
        int r;

        header = mnl_nlmsg_put_header(buffer);
        header->nlmsg_type = RTM_GETNSID;
        header->nlmsg_flags = NLM_F_REQUEST;
        message = mnl_nlmsg_put_extra_header(header, sizeof(*message));
        message->rtgen_family = AF_UNSPEC;
        mnl_attr_put_u32(header, NETNSA_FD, (__u32)netns_fd);
        r = ask(rtnl, header, &inquiry);
        if (r < 0)
                return r;
        if (inquiry.n != 1 || nsid < 0) /* NETNSA_NSID_NOT_ASSIGNED */
                return -ENOENT;
        *ret = nsid;
        return 0;
}
