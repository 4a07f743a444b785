/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The far end of a cable, for tests that count what really leaves: a second network namespace, joined to the world's by
 * a veth whose segmentation offloads are off, and a packet socket there that adds up IP lengths frame by frame.
 *
 * Addresses, near: 192.0.2.1 and 2001:db8:9::1. Far: .2 and ::2. Neighbours are fixed, and what the kernel says of its
 * own accord (neighbour discovery, multicast listeners) is not counted. Functions assert.
 */
#pragma once

#include <linux/types.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#define WIRE_FAR4 "192.0.2.2"
#define WIRE_FAR6 "2001:db8:9::2"

struct wire {
        int near_fd, far_fd; /* the namespaces */
        int capture_fd;
        __u64 entered, left; /* IP bytes that the far end has sent, and got */
        __u64 frames_left;
};

union wire_address {
        struct sockaddr any;
        struct sockaddr_in ipv4;
        struct sockaddr_in6 ipv6;
};

/* False: not possible here (no veth). */
bool wire_up(struct wire *wire);
void wire_down(struct wire *wire);
/* Of both ends. Below 1280 IPv6 is gone from the device, above it comes back. */
void wire_mtu(struct wire *wire, unsigned mtu);
/* Of the near end alone, at once. */
void wire_near_mtu(unsigned mtu);
/* A shell command at one end. */
void wire_near(const char *command);
void wire_far(struct wire *wire, const char *command);
/* A socket at the far end: bound to port if that is not 0. */
int wire_far_socket(struct wire *wire, int family, int type, int protocol, __u16 port);
union wire_address wire_address(int family, bool far, __u16 port, socklen_t *ret_length);
/* Takes in what has been captured until `left` and `entered` are these, or for two seconds. */
void wire_wait(struct wire *wire, __u64 left, __u64 entered);
