/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packet sockets and AF_XDP, which no program of a cgroup sees: the ways to hand a frame to the link. What a frame can
 * say is in frame.c.
 */
#include "frame.h"

#include <linux/if_xdp.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/uio.h>

static void udp_frame(const struct target *target, struct link *ret_link, struct frame *ret_frame)
{
        link_read(ret_link);
        frame_ethernet(ret_frame, ret_link->gateway, ret_link->mac, type_of(target));
        frame_udp(ret_frame, ret_link, forbidden_of(target));
}

static void raw(const struct target *target)
{
        struct frame frame;
        struct link link;

        udp_frame(target, &link, &frame);
        frame_send(&link, &frame);
}

/* The kernel writes the Ethernet header. */
static void datagram(const struct target *target)
{
        struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_halen = 6, .sll_protocol = htons(type_of(target))};
        struct frame frame;
        struct link link;
        int fd;

        udp_frame(target, &link, &frame);
        address.sll_ifindex = link.ifindex;
        memcpy(address.sll_addr, link.gateway, 6);
        fd = open_socket(AF_PACKET, SOCK_DGRAM, 0);
        if (sendto(fd, frame.bytes + 14, frame.size - 14, 0, (struct sockaddr *)&address, sizeof(address)) < 0)
                perror("sendto");
        close(fd);
}

/* Bound to the link and written to like a file. */
static void bound(const struct target *target)
{
        struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
        struct frame frame;
        struct link link;
        int fd;

        udp_frame(target, &link, &frame);
        address.sll_ifindex = link.ifindex;
        fd = open_socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
        if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || write(fd, frame.bytes, frame.size) < 0)
                perror("write");
        close(fd);
}

static void old(const struct target *target)
{
        struct sockaddr address = {.sa_family = AF_PACKET, .sa_data = "eth0"};
        struct frame frame;
        struct link link;
        int fd;

        udp_frame(target, &link, &frame);
        fd = open_socket(AF_PACKET, 10 /* SOCK_PACKET */, htons(ETH_P_ALL));
        if (sendto(fd, frame.bytes, frame.size, 0, &address, sizeof(address)) < 0)
                perror("sendto");
        close(fd);
}

/* Past the queueing discipline, and with it past a device's clsact egress programs. */
static void bypass(const struct target *target)
{
        struct frame frame;
        struct link link;
        int one = 1, fd;

        udp_frame(target, &link, &frame);
        fd = open_socket(AF_PACKET, SOCK_RAW, 0);
        if (setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)))
                perror("PACKET_QDISC_BYPASS");
        frame_send_by(fd, &link, &frame);
        close(fd);
}

static void ring(const struct target *target)
{
        struct tpacket_req request = {.tp_block_size = 4096, .tp_block_nr = 1, .tp_frame_size = 2048, .tp_frame_nr = 2};
        struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
        struct tpacket_hdr *slot;
        struct frame frame;
        struct link link;
        int fd;

        udp_frame(target, &link, &frame);
        address.sll_ifindex = link.ifindex;
        fd = open_socket(AF_PACKET, SOCK_RAW, 0);
        if (setsockopt(fd, SOL_PACKET, PACKET_TX_RING, &request, sizeof(request)) ||
            bind(fd, (struct sockaddr *)&address, sizeof(address)))
                perror("PACKET_TX_RING");
        slot = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (slot != MAP_FAILED) {
                memcpy((uint8_t *)slot + TPACKET_HDRLEN - sizeof(struct sockaddr_ll), frame.bytes, frame.size);
                slot->tp_len = (unsigned)frame.size;
                slot->tp_status = TP_STATUS_SEND_REQUEST;
                if (send(fd, NULL, 0, 0) < 0)
                        perror("send");
        }
        close(fd);
}

/* With a header that asks the kernel to cut the frame up. */
static void segmented(const struct target *target)
{
        struct virtio_net_hdr header = {
                .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = 5 /* UDP_L4 */, .gso_size = 8};
        struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(type_of(target))};
        struct frame frame;
        struct iovec parts[2];
        struct link link;
        int one = 1, fd;

        udp_frame(target, &link, &frame);
        address.sll_ifindex = link.ifindex;
        header.csum_start = (uint16_t)(frame.size - sizeof(payload) - 8);
        header.csum_offset = 6;
        header.hdr_len = (uint16_t)(header.csum_start + 8);
        parts[0] = (struct iovec){&header, sizeof(header)};
        parts[1] = (struct iovec){frame.bytes, frame.size};
        fd = open_socket(AF_PACKET, SOCK_RAW, 0);
        if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) ||
            bind(fd, (struct sockaddr *)&address, sizeof(address)) || writev(fd, parts, 2) < 0)
                perror("PACKET_VNET_HDR");
        close(fd);
}

/* --- AF_XDP
 * ----------------------------------------------------------------------------------------------------------- */

static void *ring_of(int fd, off_t which, size_t size)
{
        void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, which);

        return at == MAP_FAILED ? NULL : at;
}

/* In copy mode; to send it needs no program on the device, and CAP_NET_RAW only. */
static void xdp(const struct target *target)
{
        struct sockaddr_xdp address = {.sxdp_family = AF_XDP, .sxdp_flags = XDP_COPY};
        struct xdp_mmap_offsets offsets;
        socklen_t length = sizeof(offsets);
        struct xdp_umem_reg memory = {.len = 2 * 4096, .chunk_size = 4096};
        struct xdp_desc *descriptors;
        int entries = 8, fd;
        struct frame frame;
        struct link link;
        uint8_t *area, *sent;

        udp_frame(target, &link, &frame);
        area = mmap(NULL, memory.len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        memory.addr = (uintptr_t)area;
        address.sxdp_ifindex = (uint32_t)link.ifindex;
        fd = open_socket(AF_XDP, SOCK_RAW, 0);
        if (fd < 0)
                return;
        if (setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &memory, sizeof(memory)) ||
            setsockopt(fd, SOL_XDP, XDP_UMEM_FILL_RING, &entries, sizeof(entries)) ||
            setsockopt(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &entries, sizeof(entries)) ||
            setsockopt(fd, SOL_XDP, XDP_TX_RING, &entries, sizeof(entries)) ||
            getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length)) {
                perror("AF_XDP");
                return;
        }
        /* One socket has the queue at a time, and its end takes a moment. */
        for (int i = 0; bind(fd, (struct sockaddr *)&address, sizeof(address)) && i < 100; i++) {
                if (errno != EBUSY) {
                        perror("bind");
                        return;
                }
                poll(NULL, 0, 30);
        }
        sent = ring_of(fd, XDP_PGOFF_TX_RING, offsets.tx.desc + 8 * sizeof(struct xdp_desc));
        if (!sent) {
                perror("mmap");
                return;
        }
        memcpy(area, frame.bytes, frame.size);
        descriptors = (struct xdp_desc *)(sent + offsets.tx.desc);
        descriptors[0] = (struct xdp_desc){.addr = 0, .len = (uint32_t)frame.size};
        __atomic_store_n((uint32_t *)(sent + offsets.tx.producer), 1, __ATOMIC_RELEASE);
        if (sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0)
                perror("sendto");
        close(fd);
}

static const struct technique techniques[] = {
        {"packet_raw", raw},
        {"packet_datagram", datagram},
        {"packet_bound", bound},
        {"packet_old", old},
        {"packet_bypass", bypass},
        {"packet_ring", ring},
        {"packet_segmented", segmented},
        {"xdp", xdp},
        {NULL, NULL},
};

int main(int argc, char **argv)
{
        return technique_main(argc, argv, techniques);
}
