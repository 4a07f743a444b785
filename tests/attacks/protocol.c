/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Transports beside TCP, UDP and ICMP. Which of them a kernel has is its own matter: lists mark them with "?", and say
 * so when nothing leaves even without agentd.
 */
#include "technique.h"

#include <linux/l2tp.h>

static void send_both_ways(int fd, const struct target *target)
{
        if (fd < 0)
                return;
        if (sendto(fd, payload, sizeof(payload), MSG_NOSIGNAL, forbidden_of(target), target->size) < 0)
                perror("sendto");
        if (connect(fd, forbidden_of(target), target->size))
                perror("connect");
        send(fd, payload, sizeof(payload), MSG_NOSIGNAL);
        close(fd);
}

static void sctp_stream(const struct target *target)
{
        send_both_ways(open_socket(target->family, SOCK_STREAM, IPPROTO_SCTP), target);
}

static void sctp_messages(const struct target *target)
{
        send_both_ways(open_socket(target->family, SOCK_SEQPACKET, IPPROTO_SCTP), target);
}

static void dccp(const struct target *target)
{
        send_both_ways(open_socket(target->family, 6 /* SOCK_DCCP */, 33), target);
}

static void l2tp(const struct target *target)
{
        struct sockaddr_l2tpip address = {.l2tp_family = AF_INET, .l2tp_conn_id = 7};
        int fd = open_socket(AF_INET, SOCK_DGRAM, 115);

        if (fd < 0)
                return;
        address.l2tp_addr = ((const struct sockaddr_in *)forbidden_of(target))->sin_addr;
        if (sendto(fd, payload, sizeof(payload), 0, (struct sockaddr *)&address, sizeof(address)) < 0)
                perror("sendto");
        close(fd);
}

/* SMC falls back to TCP when the peer has no RDMA; its own socket makes the TCP socket in the kernel. */
static void smc(const struct target *target)
{
        send_both_ways(open_socket(43 /* AF_SMC */, SOCK_STREAM, target->family == AF_INET ? 0 : 1), target);
}

static void smc_over_inet(const struct target *target)
{
        send_both_ways(open_socket(target->family, SOCK_STREAM, 256 /* IPPROTO_SMC */), target);
}

static void rds(const struct target *target)
{
        struct sockaddr_storage own = {.ss_family = (sa_family_t)target->family};
        int fd = open_socket(21 /* AF_RDS */, SOCK_SEQPACKET, 0);

        if (fd < 0)
                return;
        parse(target->family == AF_INET ? "10.200.1.20" : OWN6, "4000", &own, &(socklen_t){0});
        bind(fd, (struct sockaddr *)&own, target->size);
        send_both_ways(fd, target);
}

/* An Internet socket of a protocol number that no module has. */
static void homa(const struct target *target)
{
        send_both_ways(open_socket(target->family, SOCK_DGRAM, 146 /* IPPROTO_HOMA */), target);
}

static const struct technique techniques[] = {
        {"sctp_stream", sctp_stream},
        {"sctp_messages", sctp_messages},
        {"dccp", dccp},
        {"l2tp", l2tp},
        {"smc", smc},
        {"smc_over_inet", smc_over_inet},
        {"rds", rds},
        {"homa", homa},
        {NULL, NULL},
};

int main(int argc, char **argv)
{
        return technique_main(argc, argv, techniques);
}
