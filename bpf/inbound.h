/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who began a flow: what decides which rules judge its packets, in both directions.
 *
 * TCP: a listener's packets are a remote end's doing. When its first SYN is let in the listener gets a mark, and the
 * kernel copies it to each socket that is accepted (BPF_F_CLONE: net/core/bpf_sk_storage.c, bpf_sk_storage_clone). A
 * socket gets the mark in no other way, and an agent must not carry it into a connection of its own (disconnect by
 * AF_UNSPEC, shutdown of a listener, then connect): what is in SYN_SENT is on its way out, and loses it before the SYN
 * is judged.
 *
 * UDP: a datagram that nothing else lets in, but an ingress rule does, makes its sender a peer of the socket. To a peer
 * the socket may answer, from the port that was spoken to, while the flow is in use and the rule is there. The table is
 * the socket's own, and bounded: a newer peer may take an older one's place, which is then silent until it speaks
 * again.
 *
 * Nothing here allows anything: the mark and the peer say which question policy_decide() is asked.
 */
#pragma once

#include "bpf/packet.h"

enum inbound {
        INBOUND_NO = 0,
        INBOUND_YES = 1,
        INBOUND_PERHAPS = 2, /* a datagram that comes in: if it is not allowed as an answer */
};

enum { INBOUND_IDLE_S = 120 }; /* of struct udp_flows, too */

/* Signed: another CPU may have noted its time after this one has looked at the clock. */
static __always_inline bool inbound_is_in_use(const struct udp_peer *peer, __u64 now_ns)
{
        return (__s64)(now_ns - peer->used_ns) < INBOUND_IDLE_S * 1000000000ll;
}

static __always_inline bool inbound_peer_is(const struct udp_peer *peer, const struct flow *flow, __u64 now_ns)
{
        return peer->port == flow->port && peer->local_port == flow->local_port &&
               peer->remote.halves[0] == flow->remote.halves[0] && peer->remote.halves[1] == flow->remote.halves[1] &&
               inbound_is_in_use(peer, now_ns);
}

/* Each peer has two places. */
static __always_inline __u32 inbound_peer_place(const struct flow *flow)
{
        __u32 hash = flow->remote.words[3] ^ flow->remote.words[2] ^ flow->remote.words[1] ^ flow->port;

        return (hash * 0x9e3779b1u) >> 25;
}

static __always_inline bool inbound_peer_is_live(struct inbound_peers *table, const struct flow *flow, __u64 now_ns)
{
        __u32 place = inbound_peer_place(flow);

        for (__u32 i = 0; i < 2; i++) {
                struct udp_peer *peer = &table->peers[(place ^ i) & (INBOUND_PEERS - 1)];

                if (inbound_peer_is(peer, flow, now_ns)) {
                        peer->used_ns = now_ns;
                        return true;
                }
        }
        return false;
}

/* CPUs that race for a place mix two peers at worst, both of which were let in. */
static __always_inline void inbound_peer_note(struct inbound_peers *table, const struct flow *flow, __u64 now_ns)
{
        __u32 place = inbound_peer_place(flow);
        struct udp_peer *peer = &table->peers[place & (INBOUND_PEERS - 1)];
        struct udp_peer *other = &table->peers[(place ^ 1) & (INBOUND_PEERS - 1)];

        if (inbound_peer_is_live(table, flow, now_ns))
                return;
        if (other->used_ns < peer->used_ns)
                peer = other;
        peer->port = 0;
        peer->remote = flow->remote;
        peer->local_port = flow->local_port;
        peer->used_ns = now_ns;
        peer->port = flow->port;
}

/* A cached verdict says that this remote end may come in here: has it? */
static __noinline int inbound_is_live(struct __sk_buff *skb, const struct flow *flow)
{
        struct inbound_peers *peers;
        struct bpf_sock *sk = skb->sk;

        if (!sk || !flow)
                return 0;
        sk = bpf_sk_fullsock(sk);
        if (!sk)
                return 0;
        if (flow->protocol == PROTOCOL_TCP)
                return bpf_sk_storage_get(&inbound_sockets, sk, 0, 0) != NULL;
        peers = bpf_sk_storage_get(&inbound_peers, sk, 0, 0);
        return peers && inbound_peer_is_live(peers, flow, bpf_ktime_get_boot_ns());
}

/* A datagram that comes in from where the agent may send to: does it come from whom this socket has spoken to? */
static __noinline int inbound_is_answer(struct __sk_buff *skb, const struct flow *flow)
{
        struct inbound_peers *peers;
        struct bpf_sock *sk = skb->sk;

        if (!sk || !flow)
                return 0;
        sk = bpf_sk_fullsock(sk);
        if (!sk)
                return 0;
        if (sk->state == BPF_TCP_ESTABLISHED)
                return 1;
        peers = bpf_sk_storage_get(&asked_peers, sk, 0, 0);
        return peers && inbound_peer_is_live(peers, flow, bpf_ktime_get_boot_ns());
}

/* Of a packet whose headers are read. Returns enum inbound. */
static __noinline int inbound_of(struct __sk_buff *skb, const struct packet *packet, __u32 direction)
{
        struct inbound_peers *peers;
        struct bpf_sock *sk = skb->sk;

        if (!sk || !packet)
                return INBOUND_NO;
        sk = bpf_sk_fullsock(sk);
        if (!sk)
                return INBOUND_NO;
        if (packet->flow.protocol == PROTOCOL_TCP) {
                if (sk->state == BPF_TCP_SYN_SENT) {
                        bpf_sk_storage_delete(&inbound_sockets, sk);
                        return INBOUND_NO;
                }
                if (sk->state == BPF_TCP_LISTEN || bpf_sk_storage_get(&inbound_sockets, sk, 0, 0))
                        return INBOUND_YES;
                return INBOUND_NO;
        }
        if (packet->flow.protocol != PROTOCOL_UDP)
                return INBOUND_NO;
        peers = bpf_sk_storage_get(&inbound_peers, sk, 0, 0);
        if (peers && inbound_peer_is_live(peers, &packet->flow, bpf_ktime_get_boot_ns()))
                return INBOUND_YES;
        return direction == DIRECTION_INGRESS ? INBOUND_PERHAPS : INBOUND_NO;
}

/* Of a packet that an ingress rule lets through. false: it could not be noted, and what follows would be refused. */
static __noinline int inbound_note(struct __sk_buff *skb, const struct packet *packet, __u32 direction)
{
        struct inbound_peers *peers;
        struct bpf_sock *sk = skb->sk;

        if (!sk || !packet)
                return false;
        sk = bpf_sk_fullsock(sk);
        if (!sk)
                return false;
        if (packet->flow.protocol == PROTOCOL_TCP) {
                if (sk->state != BPF_TCP_LISTEN)
                        return true;
                if (!bpf_sk_storage_get(&inbound_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE))
                        return false;
                /* Shut down meanwhile, it may have become a connection before the mark was there. */
                if (*(volatile __u32 *)&sk->state != BPF_TCP_LISTEN)
                        bpf_sk_storage_delete(&inbound_sockets, sk);
                return true;
        }
        if (packet->flow.protocol != PROTOCOL_UDP || direction != DIRECTION_INGRESS)
                return true;
        peers = bpf_sk_storage_get(&inbound_peers, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
        if (!peers)
                return false;
        inbound_peer_note(peers, &packet->flow, bpf_ktime_get_boot_ns());
        return true;
}
