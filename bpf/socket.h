/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tier 1: system calls. connect and sendmsg are judged with the process that makes them (EPERM at once), look-ups are
 * redirected, recvmsg and getpeername undo the redirect, sock_create refuses what no packet hook could judge.
 */
#pragma once

#include "bpf/budget.h"
#include "bpf/cache.h"
#include "bpf/emit.h"
#include "bpf/inbound.h"
#include "bpf/lookup.h"
#include "bpf/policy.h"

enum {
        SOCKET_DENY = 0,
        SOCKET_ALLOW = 1,
        SOCKET_ADMIT = 4, /* our own: allowed if its limits let it begin; the set is in flow.set */
};

enum { JUDGE_REASON_SHIFT = 8 }; /* beside the hook: why the limits have refused it */

enum {
        SOCKET_TYPE_STREAM = 1,
        SOCKET_TYPE_DGRAM = 2,
        SOCKET_TYPE_RAW = 3,
        SOCKET_PROTOCOL_MPTCP = 262,
};

static __always_inline __u8 protocol_bit(__u32 ip_protocol)
{
        switch (ip_protocol) {
        case IPPROTO_TCP:
        case SOCKET_PROTOCOL_MPTCP:
                return PROTOCOL_TCP;
        case IPPROTO_UDP:
                return PROTOCOL_UDP;
        case IPPROTO_ICMP:
        case IPPROTO_ICMPV6:
                return PROTOCOL_ICMP;
        default:
                return PROTOCOL_OTHER;
        }
}

/*
 * A UDP socket's flows; NULL: none, or no room for them. A socket that is disconnected gives back a port that it has
 * not been bound to, and its next connect() or sendto() gets another: a new flow with each peer. The first connect() is
 * asked here before it has a port. That the socket is connected afterwards tells its port from one of later.
 */
static __noinline struct udp_flows *udp_flows_of(struct bpf_sock *sk, __u32 flags)
{
        struct udp_flows *flows = NULL;
        __u32 port;

        if (!sk)
                return NULL;
        flows = bpf_sk_storage_get(&udp_peers, sk, 0, flags);
        if (!flows)
                return NULL;
        port = sk->src_port;
        if (port == 0 || flows->local_port != port) {
                if (flows->local_port != 0 || sk->state != BPF_TCP_ESTABLISHED)
                        __builtin_memset(flows, 0, sizeof(*flows));
                flows->local_port = port;
        }
        return flows;
}

/* An unconnected or connected UDP socket's live peers: see struct udp_flows. */
static __always_inline bool udp_peer_is_live(struct udp_flows *flows, const struct flow *flow, __u64 now_ns)
{
        for (int i = 0; i < UDP_PEERS; i++) {
                struct udp_peer *peer = &flows->peers[i];

                if (peer->port == flow->port && peer->remote.halves[0] == flow->remote.halves[0] &&
                    peer->remote.halves[1] == flow->remote.halves[1] && inbound_is_in_use(peer, now_ns)) {
                        peer->used_ns = now_ns;
                        return true;
                }
        }
        return false;
}

static __always_inline void udp_peer_note(struct udp_flows *flows, const struct flow *flow, __u64 now_ns)
{
        struct udp_peer *peer;

        if (udp_peer_is_live(flows, flow, now_ns))
                return;
        peer = &flows->peers[flows->next++ & (UDP_PEERS - 1)];
        peer->remote = flow->remote;
        peer->port = flow->port;
        peer->used_ns = now_ns;
}

/* Rewrites the destination of a look-up. false: deny. */
static __always_inline bool socket_redirect(struct bpf_sock_addr *ctx, struct agent_memory *store, __u32 agent_id,
                                            const struct agent_entry *agent, const struct address *server,
                                            bool ipv6_socket)
{
        __u64 netns_cookie = bpf_get_netns_cookie(ctx);
        struct agent_counters *exact = emit_counters(agent_id);
        struct dns_socket *dns;
        __u16 port = listener_port(netns_cookie, agent_id);
        struct bpf_sock *sk = ctx->sk;
        bool pending = false;

        if (!sk)
                return false;
        if (port == 0) {
                port = agent->dns_ports[0];
                pending = true;
                if (port == 0)
                        return false;
                lookup_announce(store, agent_id, netns_cookie);
        }

        dns = bpf_sk_storage_get(&dns_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
        if (!dns) {
                emit_helper_failed(agent_id);
                return false;
        }
        dns->server = *server;
        dns->netns_cookie = netns_cookie;
        dns->port = port;
        dns->pending = pending;

        if (ipv6_socket) {
                ctx->user_ip6[0] = 0;
                ctx->user_ip6[1] = 0;
                ctx->user_ip6[2] = address_is_ipv4(server) ? ADDRESS_WORD(0xffff) : 0;
                ctx->user_ip6[3] = address_is_ipv4(server) ? ADDRESS_IPV4(127, 0, 0, 1) : ADDRESS_WORD(1);
        } else {
                ctx->user_ip4 = ADDRESS_IPV4(127, 0, 0, 1);
        }
        ctx->user_port = bpf_htons(port);
        if (exact)
                __sync_fetch_and_add(&exact->redirected, 1);
        return true;
}

/*
 * Loopback ports that are listeners belong to their agents. Returns -1: not a listener; 0: deny; 1: allow.
 */
static __always_inline int socket_listener_verdict(struct bpf_sock_addr *ctx, __u32 agent_id, const struct flow *flow)
{
        __u32 owner;

        if (!(flow->flags & FLOW_LOOPBACK) || !(flow->protocol & (PROTOCOL_TCP | PROTOCOL_UDP)))
                return -1;
        owner = listener_owner(bpf_get_netns_cookie(ctx), flow->port);
        if (owner == 0)
                return -1;
        return owner == agent_id;
}

/*
 * May a connection, or a datagram, begin under its rule's limits? REASON_NONE, or the reason why not. What `rate`
 * counts is a TCP connect and a UDP socket's first datagram to a peer (after 120 idle seconds, or four other peers, it
 * is a first one again). Not called by socket_judge(): their frames together would be too many for Linux 6.1.
 */
static __noinline int socket_admit(struct bpf_sock_addr *ctx, struct flow *flow)
{
        struct bpf_sock *sk = ctx->sk;
        struct udp_flows *flows = NULL;
        __u64 now_ns = bpf_ktime_get_boot_ns();
        __u32 counts;
        int reason;

        if (!flow)
                return REASON_BUDGET_EXHAUSTED;
        counts = flow->protocol & (PROTOCOL_TCP | PROTOCOL_UDP);
        if (flow->protocol == PROTOCOL_UDP && sk) {
                flows = udp_flows_of(sk, BPF_SK_STORAGE_GET_F_CREATE);
                if (flows && udp_peer_is_live(flows, flow, now_ns))
                        return REASON_NONE; /* its packets are charged one by one, down to the last byte */
        }
        reason = budget_admit(flow->set, now_ns, counts);
        if (reason == REASON_NONE && counts && flows)
                udp_peer_note(flows, flow, now_ns);
        return reason;
}

static __noinline int socket_judge(struct bpf_sock_addr *ctx, struct agent_line *line, struct agent_memory *store,
                                   struct flow *flow, __u32 asked)
{
        struct origin origin = {.hook = asked, .direction = DIRECTION_EGRESS};
        struct agent_entry *agent;
        struct verdict verdict = {};
        struct bpf_sock *sk = ctx->sk;
        __u32 agent_id;
        __u64 now_ns, word;
        bool live = false;
        int listener, set;

        if (!line || !store || !flow)
                return SOCKET_DENY;
        agent_id = line->agent_id;
        agent = bpf_map_lookup_elem(&agents, &agent_id);
        if (!agent)
                return SOCKET_DENY;
        word = ACCESS_ONCE(agent->word);
        origin.agent_id = agent_id;
        origin.cookie = bpf_get_socket_cookie(ctx);
        origin.ip_protocol = ctx->protocol > 255 ? IPPROTO_TCP : ctx->protocol;

        process_note(store, origin.cookie);
        now_ns = bpf_ktime_get_boot_ns();
        if (cache_find(line, word, flow, &flow->set) && !(asked >> JUDGE_REASON_SHIFT))
                return flow->set == 0 ? SOCKET_ALLOW : SOCKET_ADMIT;
        listener = socket_listener_verdict(ctx, agent_id, flow);
        if (listener >= 0) {
                verdict.rule = RULE_NONE;
                verdict.reason = REASON_LOOPBACK;
                if (WORD_VERSION(word) == 0)
                        verdict.reason = REASON_NO_POLICY;
                else if (WORD_FLAGS(word) & WORD_QUARANTINE)
                        verdict.reason = REASON_QUARANTINE;
                else if (listener > 0)
                        return SOCKET_ALLOW;
                emit_verdict(&origin, store, word, now_ns, flow, &verdict);
                return SOCKET_DENY;
        }

        /* An answer to who was let in. */
        if (flow->protocol == PROTOCOL_UDP && sk && !(flow->flags & FLOW_LOOPBACK)) {
                struct inbound_peers *peers = bpf_sk_storage_get(&inbound_peers, sk, 0, 0);

                flow->local_port = sk->src_port;
                if (peers && inbound_peer_is_live(peers, flow, now_ns)) {
                        flow->flags |= FLOW_INBOUND;
                        policy_verdict(agent_id, word, now_ns, flow, &verdict);
                        flow->flags &= ~FLOW_INBOUND;
                        if (verdict.action == VERDICT_ALLOW)
                                return SOCKET_ALLOW;
                }
        }

        policy_verdict(agent_id, word, now_ns, flow, &verdict);

        if (verdict.action == VERDICT_DENY && verdict.reason == REASON_EXPIRED && flow->protocol == PROTOCOL_UDP &&
            sk) {
                struct udp_flows *flows = udp_flows_of(sk, 0);

                if (flows && udp_peer_is_live(flows, flow, now_ns)) {
                        flow->flags |= FLOW_ESTABLISHED;
                        policy_verdict(agent_id, word, now_ns, flow, &verdict);
                        flow->flags &= ~FLOW_ESTABLISHED;
                        if (verdict.action == VERDICT_ALLOW) {
                                policy_touch(agent_id, &flow->remote, now_ns);
                                verdict.expires_ns = 0; /* noted already */
                                live = true;
                        }
                }
        }

        set = 0;
        if (verdict.action == VERDICT_ALLOW && !(flow->flags & FLOW_LOOPBACK)) {
                set = budget_set_of(agent, word, verdict.limits);
                verdict.reason = set < 0 ? REASON_NO_POLICY : asked >> JUDGE_REASON_SHIFT;
                if (verdict.reason != REASON_NONE)
                        verdict.action = VERDICT_DENY;
        }

        if (verdict.action == VERDICT_ALLOW) {
                if (verdict.expires_ns) {
                        policy_touch(agent_id, &flow->remote, now_ns);
                        if (flow->protocol == PROTOCOL_UDP && sk && set == 0) {
                                struct udp_flows *flows = udp_flows_of(sk, BPF_SK_STORAGE_GET_F_CREATE);

                                /* Without it the flow ends with the name: the safe side. */
                                if (flows)
                                        udp_peer_note(flows, flow, now_ns);
                                else
                                        emit_helper_failed(agent_id);
                        }
                }
                if (!(flow->flags & FLOW_LOOPBACK) && !live)
                        cache_store(line, word, now_ns, flow, &verdict, set);
                flow->set = set;
                return set == 0 ? SOCKET_ALLOW : SOCKET_ADMIT;
        }

        if (verdict.action == VERDICT_REDIRECT)
                return VERDICT_REDIRECT;

        return emit_verdict(&origin, store, word, now_ns, flow, &verdict) ? SOCKET_ALLOW : SOCKET_DENY;
}

/* A datagram that is sent with its destination: an answer may come. Where there is no room it may not. */
static __noinline int socket_note_asked(struct bpf_sock_addr *ctx, struct flow *flow)
{
        struct agent_line *line = bpf_get_local_storage(&lines, 0);
        struct inbound_peers *peers;
        struct bpf_sock *sk = ctx->sk;

        if (!sk || !flow || sk->state == BPF_TCP_ESTABLISHED)
                return 0;
        peers = bpf_sk_storage_get(&asked_peers, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
        if (!peers) {
                emit_helper_failed(line->agent_id);
                return 0;
        }
        flow->local_port = sk->src_port;
        inbound_peer_note(peers, flow, bpf_ktime_get_boot_ns());
        return 0;
}

static __always_inline int socket_addr(struct bpf_sock_addr *ctx, bool ipv6, __u32 hook)
{
        struct agent_line *line = bpf_get_local_storage(&lines, 0);
        struct agent_memory *store = bpf_get_local_storage(&memory, 0);
        struct flow flow = {};
        struct agent_entry *agent;
        __u32 agent_id;
        int r;

        if (ipv6) {
                flow.remote.words[0] = ctx->user_ip6[0];
                flow.remote.words[1] = ctx->user_ip6[1];
                flow.remote.words[2] = ctx->user_ip6[2];
                flow.remote.words[3] = ctx->user_ip6[3];
        } else {
                address_from_ipv4(&flow.remote, ctx->user_ip4);
        }
        flow.protocol = protocol_bit(ctx->protocol);
        /* A ping socket's "port" is its identifier, and no rule speaks of it. */
        flow.port = flow.protocol == PROTOCOL_ICMP ? 0 : bpf_ntohs((__u16)ctx->user_port);
        flow.flags = FLOW_SYSCALL | (address_is_loopback(&flow.remote) ? FLOW_LOOPBACK : 0);

        r = socket_judge(ctx, line, store, &flow, hook);
        if (r == SOCKET_ADMIT) {
                r = socket_admit(ctx, &flow);
                if (r == REASON_NONE)
                        r = SOCKET_ALLOW;
                else /* once more, for the event that names the rule; audit mode lets it through */
                        r = socket_judge(ctx, line, store, &flow, hook | (__u32)r << JUDGE_REASON_SHIFT);
        }
        if (r == SOCKET_ALLOW && (hook == HOOK_SENDMSG4 || hook == HOOK_SENDMSG6) && flow.protocol == PROTOCOL_UDP &&
            !(flow.flags & FLOW_LOOPBACK))
                socket_note_asked(ctx, &flow);
        if (r != VERDICT_REDIRECT)
                return r == SOCKET_ALLOW ? SOCKET_ALLOW : SOCKET_DENY;

        agent_id = line->agent_id;
        agent = bpf_map_lookup_elem(&agents, &agent_id);
        if (!agent)
                return SOCKET_DENY;
        return socket_redirect(ctx, store, agent_id, agent, &flow.remote, ipv6) ? SOCKET_ALLOW : SOCKET_DENY;
}

SEC("cgroup/connect4")
int agentd_connect4(struct bpf_sock_addr *ctx)
{
        return socket_addr(ctx, false, HOOK_CONNECT4);
}

SEC("cgroup/connect6")
int agentd_connect6(struct bpf_sock_addr *ctx)
{
        return socket_addr(ctx, true, HOOK_CONNECT6);
}

SEC("cgroup/sendmsg4")
int agentd_sendmsg4(struct bpf_sock_addr *ctx)
{
        return socket_addr(ctx, false, HOOK_SENDMSG4);
}

SEC("cgroup/sendmsg6")
int agentd_sendmsg6(struct bpf_sock_addr *ctx)
{
        return socket_addr(ctx, true, HOOK_SENDMSG6);
}

/* The way back: a peer that is the listener is shown as the server that was asked. These hooks cannot refuse. */
static __always_inline int socket_restore(struct bpf_sock_addr *ctx, bool ipv6)
{
        const struct dns_socket *dns;
        struct bpf_sock *sk = ctx->sk;
        bool from_ipv4 = !ipv6;

        if (!sk)
                return SOCKET_ALLOW;
        dns = bpf_sk_storage_get(&dns_sockets, sk, 0, 0);
        if (!dns || ctx->user_port != bpf_htons(dns->port))
                return SOCKET_ALLOW;

        if (ipv6) {
                if (ctx->user_ip6[0] != 0 || ctx->user_ip6[1] != 0)
                        return SOCKET_ALLOW;
                if (ctx->user_ip6[2] == ADDRESS_WORD(0xffff) && ctx->user_ip6[3] == ADDRESS_IPV4(127, 0, 0, 1))
                        from_ipv4 = true;
                else if (ctx->user_ip6[2] != 0 || ctx->user_ip6[3] != ADDRESS_WORD(1))
                        return SOCKET_ALLOW;
                if (from_ipv4 != address_is_ipv4(&dns->server))
                        return SOCKET_ALLOW;
                ctx->user_ip6[0] = dns->server.words[0];
                ctx->user_ip6[1] = dns->server.words[1];
                ctx->user_ip6[2] = dns->server.words[2];
                ctx->user_ip6[3] = dns->server.words[3];
        } else {
                if (ctx->user_ip4 != ADDRESS_IPV4(127, 0, 0, 1) || !address_is_ipv4(&dns->server))
                        return SOCKET_ALLOW;
                ctx->user_ip4 = dns->server.words[3];
        }
        ctx->user_port = bpf_htons(53);
        return SOCKET_ALLOW;
}

SEC("cgroup/recvmsg4")
int agentd_recvmsg4(struct bpf_sock_addr *ctx)
{
        return socket_restore(ctx, false);
}

SEC("cgroup/recvmsg6")
int agentd_recvmsg6(struct bpf_sock_addr *ctx)
{
        return socket_restore(ctx, true);
}

SEC("cgroup/getpeername4")
int agentd_getpeername4(struct bpf_sock_addr *ctx)
{
        return socket_restore(ctx, false);
}

SEC("cgroup/getpeername6")
int agentd_getpeername6(struct bpf_sock_addr *ctx)
{
        return socket_restore(ctx, true);
}

/* Called for AF_INET and AF_INET6 only (inet_create, inet6_create): packet sockets are not seen here. */
SEC("cgroup/sock_create")
int agentd_sock_create(struct bpf_sock *ctx)
{
        struct agent_line *line = bpf_get_local_storage(&lines, 0);
        struct agent_memory *store = bpf_get_local_storage(&memory, 0);
        struct origin origin = {.hook = HOOK_SOCK_CREATE, .direction = DIRECTION_EGRESS};
        struct flow flow = {};
        struct verdict verdict = {.rule = RULE_NONE};
        struct agent_entry *agent;
        __u32 agent_id = line->agent_id;
        __u32 type = ctx->type, protocol = ctx->protocol;
        __u64 netns_cookie, word;

        agent = bpf_map_lookup_elem(&agents, &agent_id);
        if (!agent)
                return SOCKET_DENY;
        word = ACCESS_ONCE(agent->word);
        origin.agent_id = agent_id;
        origin.ip_protocol = protocol > 255 ? 255 : protocol;

        if (WORD_VERSION(word) == 0)
                verdict.reason = REASON_NO_POLICY;
        else if (type == SOCKET_TYPE_RAW)
                verdict.reason = REASON_RAW_SOCKET;
        else if (type == SOCKET_TYPE_STREAM && protocol_bit(protocol) == PROTOCOL_TCP)
                verdict.reason = REASON_NONE;
        else if (type == SOCKET_TYPE_DGRAM && protocol_bit(protocol) & (PROTOCOL_UDP | PROTOCOL_ICMP))
                verdict.reason = REASON_NONE;
        else
                verdict.reason = REASON_PROTOCOL;

        if (verdict.reason == REASON_NONE) {
                netns_cookie = bpf_get_netns_cookie(ctx);
                if (listener_port(netns_cookie, agent_id) == 0)
                        lookup_announce(store, agent_id, netns_cookie);
                return SOCKET_ALLOW;
        }
        return emit_verdict(&origin, NULL, word, bpf_ktime_get_boot_ns(), &flow, &verdict) ? SOCKET_ALLOW : SOCKET_DENY;
}
