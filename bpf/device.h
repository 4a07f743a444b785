/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tier 3: every frame that leaves the agent's namespace, at the host end of its veth, where nothing in the container
 * reaches: what packet sockets, tun devices, tunnels, AF_XDP and netstacks of their own send is seen here only.
 *
 * Strict, because what no rule speaks of can carry data as well: MAC addresses, ether types, ARP and neighbour
 * discovery, the length of the frame, the source address. Then the policy of now is asked, as for any packet.
 *
 * Charged once: a packet keeps its socket on its way through a veth (net/core/skbuff.c, skb_scrub_packet; ip_rcv_core
 * orphans it, and is later), and what belongs to an inet socket of the agent's cgroup has been judged, charged and
 * counted by cgroup_skb. It is judged here again, as its headers may have been rewritten behind that hook. All others
 * are charged and counted here.
 */
#pragma once

#include "bpf/neighbour.h"
#include "bpf/skb.h"

/* Of tcx and of clsact in direct-action mode alike. TCX_NEXT, TC_ACT_UNSPEC: programs behind this one have their say.
 */
enum { DEVICE_PASS = -1, DEVICE_DROP = 2 };

/*
 * What the daemon puts in at a host end bears this mark, which no other frame has: one is chosen by chance for each
 * load, and a mark does not pass from one namespace to another (net/core/skbuff.c, skb_scrub_packet).
 */
const volatile __u32 device_probe_mark;

enum device_owner {
        OWNER_NONE,   /* no socket, or one that passes no cgroup_skb */
        OWNER_RAW,    /* the agent's, judged at cgroup_skb; IPPROTO_RAW and its like */
        OWNER_AGENT,  /* the agent's, judged at cgroup_skb */
        OWNER_DAEMON, /* our own look-ups from inside the namespace */
};

enum { AF_INET_NUMBER = 2, AF_INET6_NUMBER = 10, SOCK_STREAM_TYPE = 1, SOCK_DGRAM_TYPE = 2, SOCK_RAW_TYPE = 3 };

static __always_inline enum device_owner device_owner(struct __sk_buff *skb, const struct device *device)
{
        struct bpf_sock *sk = skb->sk;

        if (!sk || (sk->family != AF_INET_NUMBER && sk->family != AF_INET6_NUMBER))
                return OWNER_NONE;
        if (device->cgroup_id && bpf_skb_ancestor_cgroup_id(skb, device->level) == device->cgroup_id) {
                sk = bpf_sk_fullsock(sk);
                return sk && sk->type == SOCK_RAW_TYPE ? OWNER_RAW : OWNER_AGENT;
        }
        sk = bpf_sk_fullsock(sk);
        if (sk && device->daemon_cgroup_id && (sk->type == SOCK_STREAM_TYPE || sk->type == SOCK_DGRAM_TYPE) &&
            bpf_skb_cgroup_id(skb) == device->daemon_cgroup_id)
                return OWNER_DAEMON;
        return OWNER_NONE;
}

/* DEVICE_NEIGHBOUR; 0: to be asked of the policy; or the reason why not. *packet is filled as far as can be. */
__noinline int device_check(struct __sk_buff *skb, struct packet *packet, const struct device *device)
{
        struct ethhdr ethernet;
        __be16 ip_length = 0;
        __u32 length;
        int r;

        if (!packet || !device || bpf_skb_load_bytes(skb, 0, &ethernet, sizeof(ethernet)) < 0)
                return REASON_PACKET_SOCKET;
        if (skb->vlan_present)
                return REASON_PACKET_SOCKET;
        if (ethernet.h_proto == bpf_htons(ETH_P_ARP))
                return device_arp_check(skb, packet, device);
        if (ethernet.h_proto == bpf_htons(ETH_P_IP)) {
                r = packet_parse_ipv4(skb, packet, ETH_HLEN, DIRECTION_EGRESS);
                if (bpf_skb_load_bytes(skb, ETH_HLEN + 2, &ip_length, sizeof(ip_length)) < 0)
                        return REASON_MALFORMED;
                length = bpf_ntohs(ip_length);
        } else if (ethernet.h_proto == bpf_htons(ETH_P_IPV6)) {
                __u8 next_and_limit[2] = {};

                r = packet_parse_ipv6(skb, packet, ETH_HLEN, DIRECTION_EGRESS);
                if (bpf_skb_load_bytes(skb, ETH_HLEN + 4, &ip_length, sizeof(ip_length)) < 0 ||
                    bpf_skb_load_bytes(skb, ETH_HLEN + 6, next_and_limit, sizeof(next_and_limit)) < 0)
                        return REASON_MALFORMED;
                length = bpf_ntohs(ip_length) + 40;
                /* Neighbour discovery only: an echo with this limit is an echo. */
                if (next_and_limit[0] == IPPROTO_ICMPV6) {
                        __u8 type = 0;

                        (void)bpf_skb_load_bytes(skb, ETH_HLEN + 40, &type, sizeof(type));
                        if (type >= ND_ROUTER_SOLICITATION && type <= ND_REDIRECT) {
                                if (next_and_limit[1] != ND_HOP_LIMIT || skb->len != ETH_HLEN + length)
                                        return REASON_MALFORMED;
                                return device_discovery_check(skb, packet, device);
                        }
                }
        } else {
                return REASON_PACKET_SOCKET;
        }

        if (ethernet.h_dest[0] & 1)
                return REASON_PROTOCOL; /* groups are the network's business: MLD, IGMP, mDNS, broadcasts */
        if (!mac_equal(ethernet.h_source, device->mac) || !mac_equal(ethernet.h_dest, device->gateway_mac))
                return REASON_PACKET_SOCKET;
        /* Behind the IP packet the frame could carry more. So it is with a GSO packet, which has one long IP header. */
        if (skb->len != ETH_HLEN + length)
                return REASON_PACKET_SOCKET;
        if (!device_is_address(device, &packet->local))
                return REASON_MALFORMED;
        return r;
}

/* IP bytes on the wire. A packet socket writes gso_size by itself (PACKET_VNET_HDR), and gso_segs is 0 then. */
static __always_inline __u32 device_bytes(const struct __sk_buff *skb, __u32 header_bytes)
{
        __u32 bytes = skb->len - ETH_HLEN, size = skb->gso_size, segments = skb->gso_segs, counted;

        if (size == 0 || bytes <= header_bytes)
                return bytes;
        counted = (bytes - header_bytes + size - 1) / size;
        if (segments < counted)
                segments = counted;
        return bytes + (segments - 1) * header_bytes;
}

/* It is the agent's own socket that sends this, and cgroup_skb has let it go with what is known there only. */
static __noinline bool device_is_known(struct __sk_buff *skb, const struct flow *flow, __u8 reason, __u64 now_ns)
{
        struct bpf_sock *sk = skb->sk;
        struct udp_flows *flows;

        /* cgroup_skb has judged the whole packet (ip_finish_output), the IP layer has cut it up afterwards. An address
         * and a protocol that some rule allows are asked for even so. */
        if (reason == REASON_FRAGMENT)
                return true;
        if (reason != REASON_EXPIRED || !flow || flow->protocol != PROTOCOL_UDP || !sk)
                return false;
        sk = bpf_sk_fullsock(sk);
        if (!sk)
                return false;
        flows = udp_flows_of(sk, 0);
        return flows && udp_peer_is_live(flows, flow, now_ns);
}

enum { ICMP_ECHO_REPLY = 0, ICMPV6_ECHO_REPLY_TYPE = 129 };

/* Could this belong to a flow that began outside? The socket would know, but not every packet has one. */
static __always_inline bool device_may_answer(struct __sk_buff *skb, const struct packet *packet)
{
        __u8 type = 255;

        if (packet->flow.protocol == PROTOCOL_TCP)
                return (packet->flow.flags & (FLOW_ESTABLISHED | FLOW_FRAGMENT)) || packet->inbound == PACKET_ANSWERS;
        if (packet->flow.protocol == PROTOCOL_UDP)
                return true;
        if (packet->flow.protocol != PROTOCOL_ICMP || (packet->flow.flags & FLOW_FRAGMENT))
                return false;
        (void)bpf_skb_load_bytes(skb, ETH_HLEN + packet->header_bytes, &type, sizeof(type));
        return type == (packet->ip_protocol == IPPROTO_ICMP ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY_TYPE);
}

/* Does a rate refuse it? cgroup hooks have asked for what is the agent's sockets'. */
static __always_inline __u32 device_admit(const struct packet *packet, __u32 set, __u64 now_ns)
{
        if (packet->flow.protocol != PROTOCOL_TCP || (packet->flow.flags & (FLOW_ESTABLISHED | FLOW_INBOUND)))
                return REASON_NONE;
        return budget_admit(set, now_ns, 1);
}

/* What is asked beside the frame: the owner in bits 0-3. */
enum {
        DEVICE_OWNER_MASK = 15,
        DEVICE_REFUSED = 16, /* a budget has refused it */
        DEVICE_REASON_SHIFT = 8,
};

/* SKB_CHARGE with packet->set, SKB_PASS or SKB_DROP. */
static __noinline int device_judge(struct __sk_buff *skb, struct packet *packet, const struct device *device,
                                   struct agent_line *line, __u32 asked)
{
        __u32 owner = asked & DEVICE_OWNER_MASK, reason = asked >> DEVICE_REASON_SHIFT;
        struct verdict verdict = {.rule = RULE_NONE};
        struct origin origin = {};
        struct agent_entry *agent;
        struct flow *flow;
        __u32 agent_id;
        __u64 now_ns, word;
        bool known = false;

        if (!packet || !device)
                return SKB_DROP;
        flow = &packet->flow;
        agent_id = device->agent_id;
        agent = bpf_map_lookup_elem(&agents, &agent_id);
        if (!agent)
                return SKB_DROP;
        word = ACCESS_ONCE(agent->word);
        now_ns = bpf_ktime_get_boot_ns();

        origin.agent_id = agent_id;
        if (device_probe_mark && skb->mark == device_probe_mark)
                origin.cookie = DEVICE_PROBE_COOKIE;
        else
                origin.cookie = bpf_get_socket_cookie(skb);
        origin.bytes = packet->bytes;
        origin.hook = HOOK_DEVICE;
        origin.direction = DIRECTION_EGRESS;
        origin.ip_protocol = packet->ip_protocol;
        origin.local = packet->local;
        origin.local_port = packet->local_port;

        verdict.reason = reason;
        if (WORD_VERSION(word) == 0 || WORD_FLAGS(word) & WORD_QUARANTINE) {
                verdict.reason = WORD_VERSION(word) == 0 ? REASON_NO_POLICY : REASON_QUARANTINE;
                goto deny;
        }
        if (reason)
                goto deny;

        policy_verdict(agent_id, word, now_ns, flow, &verdict);
        if (verdict.action == VERDICT_DENY && owner == OWNER_AGENT &&
            device_is_known(skb, flow, verdict.reason, now_ns)) {
                verdict.action = VERDICT_ALLOW;
                verdict.expires_ns = 0;
                known = true;
        }
        if (verdict.action == VERDICT_DENY && device_may_answer(skb, packet)) {
                struct verdict inbound;

                flow->flags |= FLOW_INBOUND;
                flow->local_port = packet->local_port;
                policy_verdict(agent_id, word, now_ns, flow, &inbound);
                if (inbound.action == VERDICT_ALLOW)
                        verdict = inbound;
                else
                        flow->flags &= ~FLOW_INBOUND;
        }
        if (verdict.action == VERDICT_ALLOW) {
                if (verdict.expires_ns)
                        policy_touch(agent_id, &flow->remote, now_ns);
                packet->set = budget_set_of(agent, word, verdict.limits);
                if (!(asked & DEVICE_REFUSED)) {
                        if (line && !known && !(flow->flags & FLOW_FRAGMENT) && packet->set >= 0 &&
                            (flow->protocol != PROTOCOL_TCP || (flow->flags & FLOW_ESTABLISHED)))
                                cache_store(line, word, now_ns, flow, &verdict, packet->set);
                        if (owner != OWNER_NONE)
                                return SKB_PASS;
                        verdict.reason =
                                packet->set >= 0 ? device_admit(packet, packet->set, now_ns) : REASON_BUDGET_EXHAUSTED;
                        if (verdict.reason == REASON_NONE)
                                return SKB_CHARGE;
                } else {
                        verdict.reason = REASON_BUDGET_EXHAUSTED;
                }
                verdict.action = VERDICT_DENY;
        }
deny:
        if (!emit_packet_verdict(&origin, NULL, word, now_ns, flow, &verdict))
                return SKB_DROP;
        packet->set = budget_set_of(agent, word, verdict.limits);
        return owner != OWNER_NONE ? SKB_PASS : SKB_CHARGE;
}

static __always_inline void device_count(const struct device *device, __u32 bytes)
{
        struct agent_counters *exact = emit_counters(device->agent_id);

        if (!exact)
                return;
        __sync_fetch_and_add(&exact->device_packets, 1);
        __sync_fetch_and_add(&exact->device_bytes, bytes);
}

static __noinline int device_slow(struct __sk_buff *skb, const struct device *device, struct agent_line *line)
{
        struct packet packet = {};
        __u32 asked;
        int r;

        if (!device)
                return DEVICE_DROP;
        packet.ip_protocol = 255;
        r = device_check(skb, &packet, device);
        if (r == DEVICE_NEIGHBOUR)
                return DEVICE_PASS;
        packet.bytes = device_bytes(skb, packet.header_bytes);
        asked = device_owner(skb, device);
        if (r == 0 && asked == OWNER_DAEMON && packet.flow.port == 53 &&
            (packet.flow.protocol & (PROTOCOL_TCP | PROTOCOL_UDP)))
                return DEVICE_PASS;
        if (asked == OWNER_DAEMON)
                asked = OWNER_NONE;
        asked |= (__u32)r << DEVICE_REASON_SHIFT;

        r = device_judge(skb, &packet, device, line, asked);
        if (r != SKB_CHARGE)
                return r == SKB_PASS ? DEVICE_PASS : DEVICE_DROP;
        if (!skb_pay(&packet, DIRECTION_EGRESS, 0)) {
                r = device_judge(skb, &packet, device, line, asked | DEVICE_REFUSED);
                if (r != SKB_CHARGE)
                        return r == SKB_PASS ? DEVICE_PASS : DEVICE_DROP;
                skb_pay(&packet, DIRECTION_EGRESS, BUDGET_FORCE);
        }
        device_count(device, packet.bytes);
        return DEVICE_PASS;
}

/* From the cache; false: it must be judged. In good form is here what device_check() takes, less what is rare. */
static __noinline bool device_fast(struct __sk_buff *skb, const struct device *device, const struct agent_line *line)
{
        void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
        const struct agent_entry *agent;
        const struct iphdr *ipv4 = data + ETH_HLEN;
        const struct ipv6hdr *ipv6 = data + ETH_HLEN;
        const __u32 *here = data, *there;
        struct address local;
        struct flow flow = {};
        const struct tcphdr *tcp;
        __u32 network, agent_id, bytes;
        __u64 word;
        __u16 set;
        __u8 protocol;

        if (!device || !line || skb->vlan_present || data + ETH_HLEN + sizeof(*ipv4) + sizeof(*tcp) > data_end)
                return false;
        there = (const __u32 *)device->gateway_mac; /* and the agent's behind it */
        if (here[0] != there[0] || here[1] != there[1] || here[2] != there[2])
                return false;
        if (*(__be16 *)(data + 12) == bpf_htons(ETH_P_IP)) {
                if (*(__u8 *)ipv4 != 0x45 || (ipv4->frag_off & bpf_htons(PACKET_IPV4_MORE | PACKET_IPV4_OFFSET)) ||
                    skb->len != ETH_HLEN + bpf_ntohs(ipv4->tot_len))
                        return false;
                protocol = ipv4->protocol;
                address_from_ipv4(&flow.remote, ipv4->daddr);
                address_from_ipv4(&local, ipv4->saddr);
                network = sizeof(*ipv4);
        } else if (*(__be16 *)(data + 12) == bpf_htons(ETH_P_IPV6)) {
                if (data + ETH_HLEN + sizeof(*ipv6) + sizeof(*tcp) > data_end || (*(__u8 *)ipv6 & 0xf0) != 0x60 ||
                    skb->len != ETH_HLEN + 40 + bpf_ntohs(ipv6->payload_len))
                        return false;
                protocol = ipv6->nexthdr;
                __builtin_memcpy(&flow.remote, &ipv6->daddr, sizeof(flow.remote));
                __builtin_memcpy(&local, &ipv6->saddr, sizeof(local));
                network = sizeof(*ipv6);
        } else {
                return false;
        }
        if (!device_has(device->addresses, DEVICE_ADDRESSES_MAX, device->n_addresses, &local))
                return false;

        tcp = data + ETH_HLEN + network;
        if ((void *)(tcp + 1) > data_end)
                return false;
        if (protocol == IPPROTO_TCP && !tcp->syn) {
                flow.protocol = PROTOCOL_TCP;
                flow.flags = FLOW_ESTABLISHED;
                network += tcp->doff * 4;
        } else if (protocol == IPPROTO_UDP) {
                flow.protocol = PROTOCOL_UDP;
                network += 8;
        } else {
                return false;
        }
        flow.port = bpf_ntohs(tcp->dest);
        flow.local_port = bpf_ntohs(tcp->source);

        agent_id = device->agent_id;
        agent = bpf_map_lookup_elem(&agents, &agent_id);
        if (!agent)
                return false;
        word = ACCESS_ONCE(agent->word);
        if (!cache_find(line, word, &flow, &set)) {
                flow.flags |= FLOW_INBOUND;
                if (!cache_find(line, word, &flow, &set))
                        return false;
        }
        bytes = device_owner(skb, device);
        if (bytes == OWNER_AGENT || bytes == OWNER_RAW)
                return true;
        bytes = device_bytes(skb, network);
        if (set != 0 && !budget_pay(set, DIRECTION_EGRESS, bytes))
                return false;
        device_count(device, bytes);
        return true;
}

static __always_inline const struct device *device_find(__u32 ifindex)
{
        __u32 index = ifindex & (DEVICE_PLACES - 1), *slot = bpf_map_lookup_elem(&device_places, &index);
        const struct device *device;

        if (slot) {
                index = ACCESS_ONCE(*slot);
                device = bpf_map_lookup_elem(&device_slots, &index);
                if (device && device->ifindex == ifindex)
                        return device;
        }
        slot = bpf_map_lookup_elem(&devices, &ifindex);
        if (!slot)
                return NULL;
        index = ACCESS_ONCE(*slot);
        device = bpf_map_lookup_elem(&device_slots, &index);
        return device && device->ifindex == ifindex ? device : NULL;
}

SEC("tc")
int agentd_device(struct __sk_buff *skb)
{
        const struct device *device = device_find(skb->ifindex);
        struct agent_line *line = NULL;
        __u32 index;

        /* Not said yet, or no longer: whose it is, nobody knows. */
        if (!device)
                return DEVICE_DROP;
        index = device->line;
        if (index != 0)
                line = bpf_map_lookup_elem(&device_lines, &index);
        if (line && device_fast(skb, device, line))
                return DEVICE_PASS;
        return device_slow(skb, device, line);
}

/* Attached to nothing; run by the daemon with a frame and the interface where it shall come in, in cb[0]. */
SEC("tc")
int agentd_inject(struct __sk_buff *skb)
{
        skb->mark = device_probe_mark;
        return bpf_clone_redirect(skb, skb->cb[0], BPF_F_INGRESS);
}
