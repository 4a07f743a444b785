/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Made by the calling thread, which enters and leaves again before the function returns; as in netns.c it aborts where
 * there is no way back.
 */
#include "agentd/net/netns_sink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <string.h>

#include "agentd/net/netns.h"
#include "agentd/util/cleanup.h"
#include "agentd/util/macro.h"

enum { LOOPBACK_IFINDEX = 1, BUFFER_BYTES = 8192 };

static inline void close_netlink(struct mnl_socket **netlink)
{
        if (*netlink)
                mnl_socket_close(*netlink);
}

/* `ip route add local default dev lo` */
static int route_all(struct mnl_socket *netlink, __u8 family)
{
        char buffer[BUFFER_BYTES];
        struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
        struct rtmsg *route;
        ssize_t n;

        header->nlmsg_type = RTM_NEWROUTE;
        header->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK;
        header->nlmsg_seq = family;
        route = mnl_nlmsg_put_extra_header(header, sizeof(*route));
        route->rtm_family = family;
        route->rtm_table = RT_TABLE_LOCAL;
        route->rtm_protocol = RTPROT_BOOT;
        route->rtm_scope = RT_SCOPE_HOST;
        route->rtm_type = RTN_LOCAL;
        mnl_attr_put_u32(header, RTA_OIF, LOOPBACK_IFINDEX);
        if (mnl_socket_sendto(netlink, header, header->nlmsg_len) < 0)
                return -errno;
        n = mnl_socket_recvfrom(netlink, buffer, sizeof(buffer));
        if (n < 0)
                return -errno;
        return mnl_cb_run(buffer, (size_t)n, family, mnl_socket_get_portid(netlink), NULL, NULL) < 0 ? -errno : 0;
}

static int write_text(const char *path, const char *text)
{
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int furnish(void)
{
        _cleanup_(close_netlink) struct mnl_socket *netlink = NULL;
        int r;

        r = netns_loopback_up(-1);
        if (r < 0)
                return r;
        r = write_text("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
        if (r < 0)
                return r;
        netlink = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
        if (!netlink || mnl_socket_bind(netlink, 0, MNL_SOCKET_AUTOPID) < 0)
                return -errno;
        r = route_all(netlink, AF_INET);
        if (r < 0)
                return r;
        /* A host that has no IPv6 has no IPv6 sockets either: ignoring. */
        (void)route_all(netlink, AF_INET6);
        return 0;
}

int netns_sink_new(int *ret_fd)
{
        _cleanup_close_ int home = -1, fd = -1;
        int r;

        r = netns_open_self(&home);
        if (r < 0)
                return r;
        if (unshare(CLONE_NEWNET) < 0)
                return -errno;
        r = netns_open_self(&fd);
        if (r == 0)
                r = furnish();
        if (setns(home, CLONE_NEWNET) < 0)
                abort();
        if (r == 0)
                *ret_fd = TAKE_FD(fd);
        return r;
}
