/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a packet weighs on the wire: the IP bytes of all that becomes of it.
 *
 * The egress hook stands before the last steps of output (net/ipv4/ip_output.c, ip_finish_output(), and the like of
 * IPv6): a GSO packet is still to be cut into segments, and what is longer than the MTU into fragments, each with
 * headers of its own. An agent chooses the sizes, so a packet that was weighed as it stands would buy bytes for
 * nothing. Here the kernel's arithmetic is done before the kernel does it, from the route that the packet already
 * carries. A doubt is resolved upwards: the smallest MTU there is.
 *
 * Not seen here: what is put around the packet below IP output (a tunnel device in the agent's own namespace, lwtunnel,
 * XFRM after source NAT), and what is dropped there (longer than the MTU with DF: charged, though it never leaves).
 *
 * At ingress fragments have been put together again. The longest of them is known (the control block's frag_max_size),
 * and they are taken to have been cut the way everybody does: all but the last as long as that. A sender who cuts
 * smaller than it must enters at less than it weighs. IPv6 TCP and TCP with DF are taken as they come.
 *
 * The kernel's structures are read by their BTF (CO-RE): as typed pointers from Linux 6.2 on, which costs nothing to
 * speak of, and by bpf_probe_read_kernel() before (20 ns each). A kernel where a field is missing gets the doubt.
 */
#pragma once

#include <bpf/bpf_core_read.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include "bpf/maps.h"

enum {
        WIRE_SMALLEST = 68, /* RFC 791, net/ipv4/devinet.c inetdev_valid_mtu(): what is no longer is never cut */
        WIRE_SMALLEST_IPV6 = 1280,
        WIRE_LARGEST = 65535,
        WIRE_WHOLE = 0x7fffffff,  /* an MTU that nothing meets */
        WIRE_PATH_SMALLEST = 552, /* net/ipv4/route.c, DEFAULT_MIN_PMTU */
        WIRE_FRAGMENT_HEADER = 8, /* of IPv6 */
        WIRE_EXTENSIONS_MAX = 4,
        WIRE_IPV4_DF = 0x4000,
        WIRE_LOCKED_MTU = 576,    /* net/ipv4/route.c, ip_dst_mtu_maybe_forward() */
        WIRE_METRIC_LOCK = 0,     /* RTAX_LOCK - 1 */
        WIRE_MTU_LOCKED = 1 << 2, /* 1 << RTAX_MTU */
        WIRE_METRIC_MTU = 1,      /* RTAX_MTU - 1 */
        WIRE_MTU_PROBE = 3,       /* IP_PMTUDISC_PROBE, IPV6_PMTUDISC_PROBE: from here on the device's MTU counts */
        WIRE_LWTUNNEL_REDIRECTS = 1 | 4 /* LWTUNNEL_STATE_OUTPUT_REDIRECT, LWTUNNEL_STATE_XMIT_REDIRECT */
};

/* The kernel's, as far as they are read here. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct ipv6_devconf {
        __s32 mtu6;
};

struct inet6_dev {
        struct ipv6_devconf cnf;
};

struct net_device {
        unsigned int mtu;
        struct inet6_dev *ip6_ptr;
};

struct lwtunnel_state {
        __u16 flags;
        __u16 headroom;
};

struct dst_metrics {
        __u32 metrics[2];
};

struct dst_entry {
        struct net_device *dev;
        unsigned long _metrics;
        unsigned long expires;
        struct lwtunnel_state *lwtstate;
};

struct rtable {
        struct dst_entry dst;
        __u8 rt_uses_gateway;
        __u32 rt_mtu_locked : 1, rt_pmtu : 31;
};

struct ipv6_pinfo {
        __u8 pmtudisc;
        __u32 frag_size;
};

struct sock_common {
        unsigned char skc_state;
};

struct sock {
        struct sock_common __sk_common;
};

struct inet_sock {
        struct ipv6_pinfo *pinet6;
        __u8 pmtudisc;
};

struct inet_skb_parm {
        __u16 frag_max_size;
};

struct inet6_skb_parm {
        __u16 frag_max_size;
};

struct sk_buff {
        struct sk_buff *next;
        unsigned int len;
        struct sock *sk;
        unsigned long _skb_refdst;
        char cb[48];
        unsigned char *head;
        unsigned int end; /* an offset from head: the kernel is a 64-bit one */
};

struct skb_shared_info {
        struct sk_buff *frag_list;
};
#pragma clang attribute pop

extern int LINUX_KERNEL_VERSION __kconfig;
extern void *bpf_cast_to_kern_ctx(void *context) __ksym __weak;
extern void *bpf_rdonly_cast(void *object, __u32 type_id) __ksym __weak;

/*
 * direct: a constant. The verifier sees one of the two, see wire_weigh(). object: a variable; of an expression each
 * access would be taken for one into the kernel's structures.
 */
#define WIRE_READ(direct, object, field)                                          \
        ({                                                                        \
                typeof((object)->field) value_ = 0;                               \
                if (direct)                                                       \
                        value_ = (object)->field;                                 \
                else                                                              \
                        bpf_core_read(&value_, sizeof(value_), &(object)->field); \
                value_;                                                           \
        })
#define WIRE_READ_BITS(direct, object, field) \
        ((direct) ? BPF_CORE_READ_BITFIELD(object, field) : BPF_CORE_READ_BITFIELD_PROBED(object, field))
#define WIRE_CAST(direct, type, address)                                                                   \
        ({                                                                                                 \
                void *address_ = (void *)(address);                                                        \
                                                                                                           \
                (struct type *)((direct) ? bpf_rdonly_cast(address_, bpf_core_type_id_kernel(struct type)) \
                                         : address_);                                                      \
        })

/* How the kernel will cut. */
struct wire_cut {
        __u32 mtu;      /* nothing longer leaves whole */
        __u32 fragment; /* a fragment's length at most */
        __u32 listed; /* a fragment's payload as the socket has cut it already, in a list that is sent as it is; 0: none
                       */
        __u32 header; /* IP header and what else is repeated in each fragment */
        __u32 extra;  /* the fragment header */
};

/* bpf_cast_to_kern_ctx() and bpf_rdonly_cast() are there. */
static __always_inline bool wire_direct(void)
{
        return LINUX_KERNEL_VERSION >= 0x060200;
}

static __always_inline bool wire_layout_known(void)
{
        return bpf_core_field_exists(struct sk_buff, _skb_refdst) && bpf_core_field_exists(struct sk_buff, cb) &&
               bpf_core_field_exists(struct sk_buff, sk) && bpf_core_field_exists(struct sk_buff, head) &&
               bpf_core_field_exists(struct sk_buff, end) && bpf_core_field_exists(struct sk_buff, next) &&
               bpf_core_field_exists(struct sk_buff, len) && bpf_core_field_exists(struct dst_entry, dev) &&
               bpf_core_field_exists(struct dst_entry, _metrics) && bpf_core_field_exists(struct dst_entry, expires) &&
               bpf_core_field_exists(struct net_device, mtu) && bpf_core_field_exists(struct rtable, rt_pmtu) &&
               bpf_core_field_exists(struct rtable, rt_mtu_locked) &&
               bpf_core_field_exists(struct rtable, rt_uses_gateway) &&
               bpf_core_field_exists(struct dst_metrics, metrics) &&
               bpf_core_field_exists(struct sock_common, skc_state) &&
               bpf_core_field_exists(struct inet_sock, pmtudisc) &&
               bpf_core_field_exists(struct inet_skb_parm, frag_max_size) &&
               bpf_core_field_exists(struct skb_shared_info, frag_list);
}

static __always_inline bool wire_layout_known_ipv6(void)
{
        return bpf_core_field_exists(struct net_device, ip6_ptr) && bpf_core_field_exists(struct inet6_dev, cnf) &&
               bpf_core_field_exists(struct ipv6_devconf, mtu6) && bpf_core_field_exists(struct inet_sock, pinet6) &&
               bpf_core_field_exists(struct ipv6_pinfo, pmtudisc) &&
               bpf_core_field_exists(struct ipv6_pinfo, frag_size) &&
               bpf_core_field_exists(struct inet6_skb_parm, frag_max_size);
}

/* The socket whose options the route's MTU gives way to; not one of a connection that is not there yet, or no longer.
 */
static __always_inline struct inet_sock *wire_socket(struct sk_buff *buffer, bool direct)
{
        struct sock *sk = WIRE_READ(direct, buffer, sk);
        __u8 state;

        if (!sk)
                return NULL;
        state = WIRE_READ(direct, sk, __sk_common.skc_state);
        if (state == BPF_TCP_TIME_WAIT || state == BPF_TCP_NEW_SYN_RECV)
                return NULL;
        return WIRE_CAST(direct, inet_sock, sk);
}

/* What is read of a route before it is known to matter. */
struct wire_route {
        struct net_device *device;
        struct lwtunnel_state *tunnel;
        __u32 device_mtu;
        __u32 metric_mtu; /* 0: none */
        __u32 path_mtu;   /* IPv4: learned, perhaps long ago. 0: none */
        bool locked;      /* IPv4 */
};

static __always_inline void wire_route_read(struct dst_entry *dst, bool ipv6, bool direct, struct wire_route *route)
{
        struct net_device *device = WIRE_READ(direct, dst, dev);
        struct dst_metrics *metrics = WIRE_CAST(direct, dst_metrics, WIRE_READ(direct, dst, _metrics) & ~3UL);

        route->device = device;
        route->device_mtu = WIRE_READ(direct, device, mtu);
        route->metric_mtu = WIRE_READ(direct, metrics, metrics[WIRE_METRIC_MTU]);
        route->tunnel = NULL;
        if (bpf_core_field_exists(dst->lwtstate))
                route->tunnel = WIRE_READ(direct, dst, lwtstate);
        if (!ipv6) {
                struct rtable *table = WIRE_CAST(direct, rtable, dst);

                route->path_mtu = WIRE_READ_BITS(direct, table, rt_pmtu);
                route->locked = WIRE_READ_BITS(direct, table, rt_mtu_locked) ||
                                (WIRE_READ(direct, metrics, metrics[WIRE_METRIC_LOCK]) & WIRE_MTU_LOCKED);
        }
}

/* net/ipv4/route.c, include/net/ip.h: ip_dst_mtu_maybe_forward() */
static __always_inline __u32 wire_mtu_ipv4(struct dst_entry *dst, const struct wire_route *route, bool direct)
{
        __u32 mtu = route->device_mtu;

        if (route->path_mtu && (__s64)(bpf_jiffies64() - WIRE_READ(direct, dst, expires)) < 0)
                return route->path_mtu;
        if (route->metric_mtu)
                return route->metric_mtu;
        if (route->locked && mtu > WIRE_LOCKED_MTU) {
                struct rtable *table = WIRE_CAST(direct, rtable, dst);

                if (WIRE_READ(direct, table, rt_uses_gateway))
                        mtu = WIRE_LOCKED_MTU;
        }
        return mtu;
}

/* include/net/ip6_route.h: ip6_dst_mtu_maybe_forward() */
static __always_inline __u32 wire_mtu_ipv6(const struct wire_route *route, bool direct)
{
        struct net_device *device = route->device;
        struct inet6_dev *settings;

        if (route->metric_mtu)
                return route->metric_mtu;
        settings = WIRE_READ(direct, device, ip6_ptr);
        return settings ? WIRE_READ(direct, settings, cnf.mtu6) : WIRE_SMALLEST_IPV6;
}

/* include/net/ip.h, ip_skb_dst_mtu(); include/net/ip6_route.h, ip6_skb_dst_mtu(); and what fragmentation asks besides.
 */
static __always_inline void wire_look_egress(struct sk_buff *buffer, __u32 longest, bool ipv6, bool direct,
                                             struct wire_cut *cut)
{
        unsigned long reference = WIRE_READ(direct, buffer, _skb_refdst) & ~1UL; /* SKB_DST_NOREF */
        struct dst_entry *dst = WIRE_CAST(direct, dst_entry, reference);
        struct ipv6_pinfo *options = NULL;
        struct skb_shared_info *shared;
        struct wire_route route = {};
        struct lwtunnel_state *tunnel;
        struct inet_sock *socket;
        struct sk_buff *second;
        __u32 discovery = 0, mtu;

        cut->mtu = WIRE_WHOLE;
        /* A test run: there is no route, so there is no output. The kernel would not survive it. */
        if (!reference)
                return;
        wire_route_read(dst, ipv6, direct, &route);
        if (longest <= route.device_mtu && !route.tunnel &&
            (ipv6 ? longest <= wire_mtu_ipv6(&route, direct)
                  : (!route.metric_mtu || longest <= route.metric_mtu) &&
                             (!route.path_mtu || longest <= route.path_mtu) && !route.locked))
                return; /* whatever the socket wants and the clock says */

        socket = wire_socket(buffer, direct);
        if (ipv6 && socket) {
                options = WIRE_READ(direct, socket, pinet6);
                if (options)
                        discovery = WIRE_READ_BITS(direct, options, pmtudisc);
        } else if (socket) {
                discovery = WIRE_READ(direct, socket, pmtudisc);
        }
        if (discovery >= WIRE_MTU_PROBE)
                mtu = route.device_mtu;
        else
                mtu = ipv6 ? wire_mtu_ipv6(&route, direct) : wire_mtu_ipv4(dst, &route, direct);
        if (mtu > WIRE_LARGEST)
                mtu = WIRE_LARGEST;
        tunnel = route.tunnel;
        if (tunnel && (WIRE_READ(direct, tunnel, flags) & WIRE_LWTUNNEL_REDIRECTS)) {
                __u32 headroom = WIRE_READ(direct, tunnel, headroom);

                if (headroom < mtu)
                        mtu -= headroom;
        }
        if (!mtu)
                mtu = ipv6 ? WIRE_SMALLEST_IPV6 : WIRE_SMALLEST; /* not to be read */
        if (longest <= mtu)
                return;
        cut->mtu = mtu;
        cut->fragment = mtu;
        if (options) {
                __u32 size = WIRE_READ(direct, options, frag_size);

                if (size && size < mtu)
                        cut->fragment = size;
        }

        /* What the socket has cut before the MTU grew (UDP_CORK) leaves as it was cut. */
        shared = WIRE_CAST(direct, skb_shared_info, WIRE_READ(direct, buffer, head) + WIRE_READ(direct, buffer, end));
        second = WIRE_READ(direct, shared, frag_list);
        if (second && WIRE_READ(direct, second, next))
                cut->listed = WIRE_READ(direct, second, len);
}

/* A packet that has come in fragments knows the longest of them. 0: it has come whole. */
static __always_inline __u32 wire_longest_fragment(struct sk_buff *buffer, bool ipv6, bool direct)
{
        struct inet6_skb_parm *control6 = WIRE_CAST(direct, inet6_skb_parm, &buffer->cb);
        struct inet_skb_parm *control = WIRE_CAST(direct, inet_skb_parm, &buffer->cb);

        return ipv6 ? WIRE_READ(direct, control6, frag_max_size) : WIRE_READ(direct, control, frag_max_size);
}

static __always_inline void wire_look(struct sk_buff *buffer, __u32 longest, __u32 direction, bool ipv6, bool direct,
                                      struct wire_cut *cut)
{
        if (direction == DIRECTION_INGRESS) {
                cut->fragment = wire_longest_fragment(buffer, ipv6, direct);
                cut->mtu = cut->fragment ? 0 : WIRE_WHOLE;
        } else {
                wire_look_egress(buffer, longest, ipv6, direct, cut);
        }
}

/*
 * True when a packet of this length came whole, or leaves whole whatever the socket wants and the clock says: the usual
 * case, told without a call (each costs 15 ns where returns are mitigated). False: unknown.
 */
static __always_inline bool wire_fits(struct __sk_buff *skb, __u32 length, __u32 direction, bool ipv6)
{
        struct net_device *device;
        struct dst_metrics *metrics;
        struct dst_entry *dst;
        struct sk_buff *buffer;
        struct rtable *table;
        __u32 mtu;

        if (!wire_direct() || !wire_layout_known() || !wire_layout_known_ipv6())
                return false;
        buffer = bpf_cast_to_kern_ctx(skb);
        if (direction == DIRECTION_INGRESS)
                return wire_longest_fragment(buffer, ipv6, true) == 0;
        dst = WIRE_CAST(true, dst_entry, buffer->_skb_refdst & ~1UL);
        device = dst->dev;
        if (length > device->mtu || (bpf_core_field_exists(dst->lwtstate) && dst->lwtstate))
                return false;
        metrics = WIRE_CAST(true, dst_metrics, dst->_metrics & ~3UL);
        mtu = metrics->metrics[WIRE_METRIC_MTU];
        if (ipv6)
                return length <= (mtu ? mtu : device->ip6_ptr->cnf.mtu6);
        if ((mtu && length > mtu) || (metrics->metrics[WIRE_METRIC_LOCK] & WIRE_MTU_LOCKED))
                return false;
        table = WIRE_CAST(true, rtable, dst);
        mtu = BPF_CORE_READ_BITFIELD(table, rt_pmtu);
        return (!mtu || length <= mtu) && !BPF_CORE_READ_BITFIELD(table, rt_mtu_locked);
}

/* The bytes that each fragment repeats. net/ipv6/output_core.c, ip6_find_1stfragopt(). */
static __always_inline __u32 wire_header_ipv6(struct __sk_buff *skb, __u8 *ret_next)
{
        __u32 offset = sizeof(struct ipv6hdr);
        bool routed = false;
        __u8 next = 0;

        bpf_skb_load_bytes(skb, offsetof(struct ipv6hdr, nexthdr), &next, sizeof(next));
        for (int i = 0; i < WIRE_EXTENSIONS_MAX; i++) {
                __u8 extension[2];

                if (next == IPPROTO_ROUTING)
                        routed = true;
                else if (next != IPPROTO_HOPOPTS && (next != IPPROTO_DSTOPTS || routed))
                        break;
                if (bpf_skb_load_bytes(skb, offset, extension, sizeof(extension)) < 0)
                        break;
                next = extension[0];
                offset += ((__u32)extension[1] + 1) * 8;
        }
        *ret_next = next;
        return offset;
}

/* What a packet, or segment, of this length weighs. ip_do_fragment() and ip6_fragment(): both of their ways. */
static __always_inline __u32 wire_cut_weight(const struct wire_cut *cut, __u32 length)
{
        __u32 room, step, payload, pieces;

        if (length <= cut->mtu || length <= cut->header)
                return length;
        payload = length - cut->header;
        room = cut->fragment > cut->header + cut->extra + 8 ? cut->fragment - cut->header - cut->extra : 8;
        step = room & ~7U;
        pieces = payload > room ? 1 + (payload - room + step - 1) / step : 1;
        /* IPv6 gives the last of a list no more room than the others; without a list it may fill the MTU. */
        if (cut->listed >= 8 && (cut->listed < step || (cut->extra && cut->listed == step))) {
                __u32 listed = payload;

                if (cut->extra)
                        listed += cut->header - sizeof(struct ipv6hdr);
                listed = (listed + cut->listed - 1) / cut->listed;
                if (listed > pieces)
                        pieces = listed;
        }
        return payload + pieces * (cut->header + cut->extra);
}

/*
 * Where more than meets the eye is possible, see packet_wire_bytes(). Not static: the verifier looks at it by itself,
 * once a program, and not again for each state of its callers.
 */
__noinline __u32 wire_weigh(struct __sk_buff *skb, __u32 header_bytes, __u32 direction)
{
        bool ipv6 = skb->protocol == bpf_htons(0x86dd);
        __u32 length = skb->len, part = skb->gso_size, segments = 1, last = length, longest = length;
        struct wire_cut cut = {};
        __u8 first = 0, next = 0;

        if (length <= header_bytes)
                return length;
        if (part && part < length - header_bytes) {
                segments = (length - header_bytes + part - 1) / part;
                longest = header_bytes + part;
                last = length - (segments - 1) * part;
        }

        if (!wire_layout_known() || (ipv6 && !wire_layout_known_ipv6())) {
                cut.mtu = direction == DIRECTION_INGRESS ? WIRE_LARGEST : ipv6 ? WIRE_SMALLEST_IPV6 : WIRE_SMALLEST;
                cut.fragment = cut.mtu;
        } else if (wire_direct()) {
                wire_look(bpf_cast_to_kern_ctx(skb), longest, direction, ipv6, true, &cut);
        } else {
                wire_look((void *)skb, longest, direction, ipv6, false, &cut);
        }
        if (longest <= cut.mtu)
                return segments > 1 ? length + (segments - 1) * header_bytes : length;

        if (ipv6) {
                cut.header = wire_header_ipv6(skb, &next);
                cut.extra = WIRE_FRAGMENT_HEADER;
                if (direction == DIRECTION_INGRESS && next == IPPROTO_FRAGMENT)
                        return length; /* one fragment that is all: its header is still there */
        } else {
                bpf_skb_load_bytes(skb, 0, &first, sizeof(first));
                cut.header = (first & 15) * 4;
        }
        return (segments - 1) * wire_cut_weight(&cut, longest) + wire_cut_weight(&cut, last);
}

/*
 * header_bytes: network and transport headers. fast: worth the instructions to do without a call. Most packets are done
 * here. The kernel drops a TCP segment longer than the MTU rather than cut it, unless its IPv4 header has no DF. Of
 * other protocols DF says that the packet has fitted when it was made, which is believed where a look would be dear:
 * below 552 bytes, and before Linux 6.2. (Another route may have been found since, by the agent's own netfilter.)
 */
static __always_inline __u32 packet_wire_bytes(struct __sk_buff *skb, __u32 header_bytes, __u32 ip_protocol,
                                               __u32 direction, bool fast)
{
        const struct iphdr *header = (void *)(long)skb->data;
        __u32 length = skb->len, part = skb->gso_size, longest = length, whole = WIRE_SMALLEST;

        if (part && header_bytes + part < length)
                longest = header_bytes + part;
        if ((void *)(header + 1) <= (void *)(long)skb->data_end) {
                if (header->version == 6)
                        whole = ip_protocol == IPPROTO_TCP ? WIRE_WHOLE : WIRE_SMALLEST_IPV6;
                else if (header->frag_off & bpf_htons(WIRE_IPV4_DF))
                        whole = ip_protocol == IPPROTO_TCP || !wire_direct() ? WIRE_WHOLE : WIRE_PATH_SMALLEST;
        }
        if (longest > whole && !(fast && wire_fits(skb, longest, direction, whole == WIRE_SMALLEST_IPV6)))
                return wire_weigh(skb, header_bytes, direction);
        return longest == length ? length : length + (length - header_bytes - 1) / part * header_bytes;
}
