/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tier 2: every IP packet of the agent's sockets. The authority: the policy of now, whatever a system call was told.
 *
 * An established flow's packet takes the short way: two headers by direct access, one cached verdict compared in full.
 * Everything else is parsed with care and judged.
 */
#pragma once

#include <linux/tcp.h>

#include "bpf/budget.h"
#include "bpf/cache.h"
#include "bpf/emit.h"
#include "bpf/inbound.h"
#include "bpf/lookup.h"
#include "bpf/packet.h"
#include "bpf/policy.h"
#include "bpf/socket.h"
#include "bpf/wire.h"

/* Return codes of an egress program (kernel/bpf/cgroup.c, __cgroup_bpf_run_filter_skb). */
enum {
        SKB_DROP = 0,
        SKB_PASS = 1,
        SKB_DROP_QUIETLY = 2, /* NET_XMIT_DROP: a UDP sender sees success */
        SKB_CHARGE = 8,       /* our own: passes when its budgets pay for it */
};

/* What skb_judge() is asked, beside the direction in bit 0. */
enum {
        JUDGE_REFUSED = 2,         /* a budget has refused it: say so, and let it through in audit mode only */
        JUDGE_MALFORMED_SHIFT = 8, /* the reason that parsing found, or 0 */
};

static __always_inline void line_count(struct agent_line *line, __u32 direction, __u32 bytes)
{
        __sync_fetch_and_add(&line->packets[direction], 1);
        __sync_fetch_and_add(&line->bytes[direction], bytes);
}

/* A query to the listener, or its answer. */
static __noinline int skb_lookup(struct __sk_buff *skb, struct packet *packet, struct origin *origin,
                                 struct agent_memory *store)
{
        struct bpf_sock *sk = skb->sk;
        struct dns_socket *dns;
        struct asked_key key = {};

        if (!packet || !origin || !store)
                return SKB_DROP;
        if (origin->direction == DIRECTION_INGRESS || !sk)
                return SKB_PASS;
        sk = bpf_sk_fullsock(sk);
        if (!sk)
                return SKB_PASS;
        dns = bpf_sk_storage_get(&dns_sockets, sk, 0, 0);
        if (!dns)
                return SKB_PASS; /* asked the listener by its own address: tier 1 has judged that */

        key.agent_id = origin->agent_id;
        key.source_port = origin->local_port;
        key.ip_protocol = packet->ip_protocol;
        if (bpf_map_update_elem(&asked, &key, &dns->server, BPF_ANY) < 0)
                emit_helper_failed(origin->agent_id);

        if (dns->pending) {
                const struct process_slot *slot = process_slot(store, origin->cookie);

                if (listener_port(dns->netns_cookie, origin->agent_id) == dns->port) {
                        dns->pending = 0;
                        return SKB_PASS;
                }
                if (packet->flow.protocol == PROTOCOL_UDP)
                        lookup_capture(skb, store, origin, &packet->flow, dns->netns_cookie, packet->payload_offset,
                                       slot->cookie == origin->cookie ? slot->pid : 0);
                return SKB_DROP_QUIETLY; /* TCP sends its SYN again */
        }
        return SKB_PASS;
}

/* Returns SKB_CHARGE with packet->bytes and packet->set, or what becomes of a packet that no budget pays for. */
static __noinline int skb_judge(struct __sk_buff *skb, struct packet *packet, struct agent_line *line,
                                struct agent_memory *store, __u64 asked)
{
        __u32 direction = (__u32)asked & 1, malformed = (__u32)asked >> JUDGE_MALFORMED_SHIFT;
        struct verdict verdict = {.rule = RULE_NONE};
        struct origin origin = {};
        struct agent_entry *agent;
        struct flow *flow;
        __u32 agent_id;
        __u64 now_ns, word;
        bool live = false;

        if (!packet || !line || !store)
                return SKB_DROP;
        flow = &packet->flow;
        agent_id = line->agent_id;
        agent = bpf_map_lookup_elem(&agents, &agent_id);
        if (!agent)
                return SKB_DROP;
        word = ACCESS_ONCE(agent->word);
        now_ns = bpf_ktime_get_boot_ns();

        origin.agent_id = agent_id;
        origin.cookie = bpf_get_socket_cookie(skb);
        origin.bytes = packet->bytes;
        origin.hook = direction == DIRECTION_EGRESS ? HOOK_EGRESS : HOOK_INGRESS;
        origin.direction = direction;
        origin.ip_protocol = packet->ip_protocol;
        origin.local = packet->local;
        origin.local_port = packet->local_port;

        /* 127/8 on another device has been forged or rewritten: no loopback, and no rule will name it. */
        if (skb->ifindex == PACKET_LOOPBACK_IFINDEX && address_is_loopback(&flow->remote)) {
                flow->flags |= FLOW_LOOPBACK;
                /*
                 * Who sends to ::1 sends from there. With a source of his choice (IPV6_FREEBIND, which the setsockopt
                 * hook refuses, but never sees from a 32-bit system call) the kernel's answer, an ICMP error with all
                 * of the data, would go to that source, from no socket of the agent's. From 127/8 none gets out.
                 */
                if (direction == DIRECTION_EGRESS && !address_is_ipv4(&flow->remote) &&
                    !address_is_loopback(&packet->local) && !malformed)
                        malformed = REASON_MALFORMED;
        } else if (packet->inbound == INBOUND_YES)
                flow->flags |= FLOW_INBOUND;

        if (malformed) {
                verdict.reason = malformed;
                if (WORD_VERSION(word) == 0)
                        verdict.reason = REASON_NO_POLICY;
                else if (WORD_FLAGS(word) & WORD_QUARANTINE)
                        verdict.reason = REASON_QUARANTINE;
                goto deny;
        }

        if ((flow->flags & FLOW_LOOPBACK) && agent_owns_port(agent, flow->port) && WORD_VERSION(word) != 0 &&
            !(WORD_FLAGS(word) & WORD_QUARANTINE) && (flow->protocol & (PROTOCOL_TCP | PROTOCOL_UDP)))
                return skb_lookup(skb, packet, &origin, store);

        policy_verdict(agent_id, word, now_ns, flow, &verdict);

        /* A UDP peer that may not come in any more is like any other. */
        if (verdict.action == VERDICT_DENY && (flow->flags & FLOW_INBOUND) && flow->protocol == PROTOCOL_UDP) {
                flow->flags &= ~FLOW_INBOUND;
                policy_verdict(agent_id, word, now_ns, flow, &verdict);
        }

        if (verdict.action == VERDICT_DENY && verdict.reason == REASON_EXPIRED && flow->protocol == PROTOCOL_UDP &&
            skb->sk) {
                struct bpf_sock *sk = bpf_sk_fullsock(skb->sk);
                struct udp_flows *flows = sk ? udp_flows_of(sk, 0) : NULL;

                if (flows && udp_peer_is_live(flows, flow, now_ns)) {
                        flow->flags |= FLOW_ESTABLISHED;
                        policy_verdict(agent_id, word, now_ns, flow, &verdict);
                        flow->flags &= ~FLOW_ESTABLISHED;
                        if (verdict.action == VERDICT_ALLOW) {
                                policy_touch(agent_id, &flow->remote, now_ns);
                                verdict.expires_ns = 0; /* not cached, nor renewed twice */
                                live = true;
                        }
                }
        }

        if (direction == DIRECTION_INGRESS && verdict.action == VERDICT_ALLOW && flow->protocol == PROTOCOL_UDP &&
            !(flow->flags & (FLOW_LOOPBACK | FLOW_INBOUND)) && !inbound_is_answer(skb, flow)) {
                verdict.action = VERDICT_DENY;
                verdict.reason = REASON_INGRESS;
                verdict.rule = RULE_NONE;
        }

        if (verdict.action == VERDICT_DENY && packet->inbound == INBOUND_PERHAPS && !(flow->flags & FLOW_LOOPBACK)) {
                __u32 as_answer = verdict.reason | (__u32)verdict.rule << 16;

                flow->flags |= FLOW_INBOUND;
                policy_verdict(agent_id, word, now_ns, flow, &verdict);
                if (verdict.action != VERDICT_ALLOW) {
                        flow->flags &= ~FLOW_INBOUND;
                        verdict.reason = as_answer & 0xff;
                        verdict.rule = as_answer >> 16;
                }
        }

        /* What comes in otherwise belongs to a flow that the agent began; loopback has its own switch. */
        if (direction == DIRECTION_INGRESS && !(flow->flags & (FLOW_LOOPBACK | FLOW_INBOUND))) {
                if (verdict.action == VERDICT_ALLOW && flow->protocol == PROTOCOL_TCP &&
                    !(flow->flags & FLOW_ESTABLISHED)) {
                        verdict.action = VERDICT_DENY;
                        verdict.reason = REASON_INGRESS;
                        verdict.rule = RULE_NONE;
                } else if (verdict.action == VERDICT_DENY && verdict.reason == REASON_NO_RULE) {
                        verdict.reason = REASON_INGRESS;
                }
        }

        if (verdict.action == VERDICT_ALLOW) {
                if (flow->flags & FLOW_LOOPBACK)
                        return SKB_PASS; /* never leaves the host: not counted */
                if (verdict.expires_ns) {
                        policy_touch(agent_id, &flow->remote, now_ns);
                        if (flow->protocol == PROTOCOL_UDP && direction == DIRECTION_EGRESS && skb->sk) {
                                struct bpf_sock *sk = bpf_sk_fullsock(skb->sk);
                                struct udp_flows *flows = sk ? udp_flows_of(sk, BPF_SK_STORAGE_GET_F_CREATE) : NULL;

                                if (flows)
                                        udp_peer_note(flows, flow, now_ns);
                        }
                }
                if (!(asked & JUDGE_REFUSED)) {
                        packet->set = budget_set_of(agent, word, verdict.limits);
                        if (!(flow->flags & FLOW_FRAGMENT) && !live && packet->set >= 0 &&
                            (flow->protocol != PROTOCOL_TCP ||
                             (flow->flags & (FLOW_INBOUND | FLOW_ESTABLISHED)) != FLOW_INBOUND))
                                cache_store(line, word, now_ns, flow, &verdict, packet->set);
                        return SKB_CHARGE;
                }
                verdict.action = VERDICT_DENY;
                verdict.reason = REASON_BUDGET_EXHAUSTED;
        }
deny:
        if (!emit_packet_verdict(&origin, store, word, now_ns, flow, &verdict))
                return SKB_DROP;
        packet->set = budget_set_of(agent, word, verdict.limits);
        return flow->flags & FLOW_LOOPBACK ? SKB_PASS : SKB_CHARGE;
}

static __always_inline bool skb_pay(const struct packet *packet, __u32 direction, __u32 flags)
{
        if (packet->set == 0)
                return true;
        return packet->set > 0 &&
               budget_charge_slow(packet->set, direction, packet->bytes, bpf_ktime_get_boot_ns(), flags);
}

/* 0, or the reason why it cannot be judged. Its frame is gone again before the judge's: see skb_slow(). */
static __noinline int skb_parse(struct __sk_buff *skb, struct packet *packet, __u32 direction)
{
        if (!packet)
                return REASON_MALFORMED;
        if (skb->protocol == bpf_htons(0x0800))
                return packet_parse_ipv4(skb, packet, 0, direction);
        if (skb->protocol == bpf_htons(0x86dd))
                return packet_parse_ipv6(skb, packet, 0, direction);
        return REASON_PROTOCOL;
}

/*
 * The frames of a call chain are 512 bytes at most, and Linux 6.1 rounds each of them up to 32 (newer ones to 16 with a
 * JIT): program, this, judge, policy_verdict() and the step of its loop have 480 at most.
 */
static __noinline int skb_slow(struct __sk_buff *skb, struct agent_line *line, struct agent_memory *store,
                               __u32 direction)
{
        struct packet packet = {};
        __u64 asked;
        int r;

        if (!line || !store)
                return SKB_DROP;
        direction &= 1;
        packet.ip_protocol = 255;
        asked = direction | (__u64)skb_parse(skb, &packet, direction) << JUDGE_MALFORMED_SHIFT;
        packet.bytes = packet_wire_bytes(skb, packet.header_bytes, packet.ip_protocol, direction, false);
        packet.flow.local_port = packet.local_port;
        packet.inbound = inbound_of(skb, &packet, direction);

        r = skb_judge(skb, &packet, line, store, asked);
        if (r != SKB_CHARGE)
                return r;
        if ((packet.flow.flags & FLOW_INBOUND) && !inbound_note(skb, &packet, direction)) {
                emit_helper_failed(line->agent_id);
                return SKB_DROP;
        }
        if (!skb_pay(&packet, direction, 0)) {
                r = skb_judge(skb, &packet, line, store, asked | JUDGE_REFUSED);
                if (r != SKB_CHARGE)
                        return r;
                skb_pay(&packet, direction, BUDGET_FORCE);
        }
        line_count(line, direction, packet.bytes);
        return SKB_PASS;
}

/* A packet as most of them are: IPv4 without options or IPv6 without extensions, and not a TCP connection's first. */
static __always_inline bool skb_read(const struct __sk_buff *skb, __u32 direction, struct flow *flow,
                                     __u8 *ret_protocol, __u32 *ret_header_bytes)
{
        void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
        const struct iphdr *ipv4 = data;
        const struct ipv6hdr *ipv6 = data;
        const __be16 *ports;
        __u32 network;

        if ((void *)(ipv4 + 1) > data_end)
                return false;
        if (*(__u8 *)data == 0x45) {
                if (ipv4->frag_off & bpf_htons(PACKET_IPV4_MORE | PACKET_IPV4_OFFSET))
                        return false;
                *ret_protocol = ipv4->protocol;
                network = sizeof(*ipv4);
                address_from_ipv4(&flow->remote, direction == DIRECTION_EGRESS ? ipv4->daddr : ipv4->saddr);
        } else {
                if ((void *)(ipv6 + 1) > data_end || (*(__u8 *)data & 0xf0) != 0x60)
                        return false;
                *ret_protocol = ipv6->nexthdr;
                network = sizeof(*ipv6);
                __builtin_memcpy(&flow->remote, direction == DIRECTION_EGRESS ? &ipv6->daddr : &ipv6->saddr,
                                 sizeof(flow->remote));
        }

        ports = data + network;
        if (*ret_protocol == IPPROTO_TCP) {
                const struct tcphdr *tcp = data + network;

                if ((void *)(tcp + 1) > data_end || tcp->syn)
                        return false;
                flow->protocol = PROTOCOL_TCP;
                flow->flags = FLOW_ESTABLISHED;
                network += tcp->doff * 4;
        } else if (*ret_protocol == IPPROTO_UDP) {
                if ((void *)(ports + 4) > data_end)
                        return false;
                flow->protocol = PROTOCOL_UDP;
                flow->flags = 0;
                network += 8;
        } else {
                return false;
        }
        flow->port = bpf_ntohs(direction == DIRECTION_EGRESS ? ports[1] : ports[0]);
        flow->local_port = bpf_ntohs(direction == DIRECTION_EGRESS ? ports[0] : ports[1]);
        *ret_header_bytes = network;
        return true;
}

static __always_inline bool skb_pass(struct __sk_buff *skb, struct agent_line *line, __u32 direction, __u8 protocol,
                                     __u32 header_bytes, __u32 set)
{
        __u32 bytes = packet_wire_bytes(skb, header_bytes, protocol, direction, true);

        if (set != 0 && !budget_pay(set, direction, bytes))
                return false;
        line_count(line, direction, bytes);
        return true;
}

/*
 * The short way of flows that began outside. Behind that of the agent's own, which pay nothing for it; not in one
 * function with it, so that its frame is gone before skb_slow().
 */
static __noinline int skb_fast_inbound(struct __sk_buff *skb, struct agent_line *line, __u64 word, __u32 direction)
{
        struct flow flow = {};
        __u32 header_bytes;
        __u16 set;
        __u8 protocol;

        if (!line || !skb_read(skb, direction, &flow, &protocol, &header_bytes))
                return false;
        flow.flags |= FLOW_INBOUND;
        return cache_find(line, word, &flow, &set) && inbound_is_live(skb, &flow) &&
               skb_pass(skb, line, direction, protocol, header_bytes, set);
}

static __always_inline int skb_fast(struct __sk_buff *skb, __u32 direction)
{
        struct agent_line *line = bpf_get_local_storage(&lines, 0);
        struct flow flow;
        const struct agent_entry *agent;
        __u32 agent_id = line->agent_id, header_bytes;
        __u64 word;
        __u16 set;
        __u8 protocol;

        if (skb_read(skb, direction, &flow, &protocol, &header_bytes)) {
                agent = bpf_map_lookup_elem(&agents, &agent_id);
                if (!agent)
                        return SKB_DROP;
                word = ACCESS_ONCE(agent->word);
                if (cache_find(line, word, &flow, &set)) {
                        if ((direction == DIRECTION_EGRESS || protocol != IPPROTO_UDP ||
                             inbound_is_answer(skb, &flow)) &&
                            skb_pass(skb, line, direction, protocol, header_bytes, set))
                                return SKB_PASS;
                } else if (skb_fast_inbound(skb, line, word, direction)) {
                        return SKB_PASS;
                }
        }
        return skb_slow(skb, line, bpf_get_local_storage(&memory, 0), direction);
}

SEC("cgroup_skb/egress")
int agentd_egress(struct __sk_buff *skb)
{
        return skb_fast(skb, DIRECTION_EGRESS);
}

/* An ingress program may return 0 or 1 only. */
SEC("cgroup_skb/ingress")
int agentd_ingress(struct __sk_buff *skb)
{
        return skb_fast(skb, DIRECTION_INGRESS) == SKB_PASS ? SKB_PASS : SKB_DROP;
}
