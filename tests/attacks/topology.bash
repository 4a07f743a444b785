# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash
#
# The world of tier 3: the daemon's namespace holds the host end of the agent's veth. Needs net.bash and attack.bash.
#
#     agent  eth0 --- agent (host end, tier 3) in br0 | host  eth0 --- host | outside
#
# The witness stands on br0, behind the programs of its ports and promiscuous, and writes what the recorder writes
# elsewhere. The addresses of the agent are those of net_up's first client.

# What the daemon lets through before the rounds: markers, which are no agent's.
GATEWAY4=10.200.1.1
GATEWAY6=2001:db8:200:1::1

guarded_up() {
        local recorder
        net_up agent host
        ip -n "$ID-outside" link del agent
        ip -n "$ID-host" link add br0 type bridge forward_delay 0 mcast_snooping 0
        ip -n "$ID-host" link add agent type veth peer name eth0 netns "$ID-agent"
        # The bridge must not mend frames before the witness sees them.
        in_ns host sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 \
                net.bridge.bridge-nf-call-arptables=0 2>/dev/null || true
        in_ns host sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.br0.accept_dad=0 \
                net.ipv6.conf.agent.disable_ipv6=1
        in_ns agent sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth0.router_solicitations=0
        ip -n "$ID-host" -batch - <<BATCH
addr add $GATEWAY4/24 dev br0
addr add $GATEWAY6/64 dev br0 nodad
link set agent master br0
link set br0 up
link set agent up
BATCH
        ip -n "$ID-agent" -batch - <<BATCH
addr add 10.200.1.20/24 dev eth0
addr add 2001:db8:200:1::20/64 dev eth0 nodad
link set eth0 up
route add default via $GATEWAY4
route add default via $GATEWAY6
BATCH
        ip -n "$ID-outside" route add 10.200.1.0/24 via 10.200.2.20
        ip -n "$ID-outside" -6 route add 2001:db8:200:1::/64 via 2001:db8:200:2::20

        recorder=$(head -n 1 "$NET_DIR/pids")
        sed -i 1d "$NET_DIR/pids"
        kill "$recorder"
        wait_gone "$recorder"
        background nsenter --net="/run/netns/$ID-host" "$PYTHON" "$ATTACKS/witness.py" "$NET_DIR/witness" br0
        echo $! >> "$NET_DIR/pids"
        wait_for "$NET_DIR/witness" '^ready'
        rm "$NET_DIR/packets"
        ln -s witness "$NET_DIR/packets"
        # Whoever wants to is forwarded; groups that are joined are known by their address.
        in_ns agent sysctl -qw net.ipv4.tcp_fastopen=0x5 net.ipv4.conf.all.force_igmp_version=2 \
                net.ipv6.conf.all.force_mld_version=1 net.ipv6.conf.eth0.force_mld_version=1
        attack_net br0 host
        # The helper outside: no agent, in the agent's namespace.
        background nsenter --net="/run/netns/$ID-agent" "$BATS_FILE_TMPDIR/bin/elsewhere" lend > "$NET_DIR/lender" 2>&1
        echo $! >> "$NET_DIR/pids"
        wait_for "$NET_DIR/lender" '^lending'
}

guarded_policy() {
        config attack.yaml <<YAML
policies:
  main:
    egress:
      - cidr: 10.20.0.0/16
      - cidr: 2001:db8:1::/48
      - {cidr: $GATEWAY4, ports: [9/udp]}
      - cidr: 64:ff9b::/96
      - cidr: 2002::/16
      - cidr: 2001::/32
      - cidr: ::/96
      - cidr: 169.254.0.0/16
      - cidr: fd00:ec2::/32
    deny:
      - cidr: 198.18.0.0/16
agents:
  one: {cgroup: $AGENT_CGROUP, policy: main}
YAML
}

# The daemon with an agent that is there already: its namespace is found through its processes.
guarded_start() {
        [ -n "${RESIDENT:-}" ] || {
                background in_agent tail -f /dev/null
                RESIDENT=$!
        }
        start_daemon "$(guarded_policy)"
        agentctl wait one --timeout 10s
}

guarded_stop() {
        daemon_stop "$@"
        agentctl_uninstalled
}

# Nothing of the last daemon is left, so that the next one begins at nothing.
agentctl_uninstalled() {
        "$AGENTD" uninstall > "$TEST_DIR/uninstall" 2>&1 || { cat "$TEST_DIR/uninstall" >&2; return 1; }
}

# guarded_only TIER: the daemon is stopped, so that it mends nothing; all links of other tiers end. Tier 4 is not everywhere.
guarded_only() {
        local pin tier found=''
        kill -STOP "$DAEMON"
        for pin in "$AGENTD_BPFFS"/agentd/v*/links/*/*; do
                case $(basename "$pin") in
                egress | ingress) tier=2 ;;
                device-*) tier=3 ;;
                lsm*) tier=4 ;;
                *) tier=1 ;;
                esac
                if [ "$tier" = "$1" ]; then
                        found=1
                elif [ "$tier" = 3 ] && ! bpftool link show pinned "$pin" > /dev/null 2>&1; then
                        tc -n "$ID-host" qdisc del dev agent clsact # before 6.6
                else
                        bpftool link detach pinned "$pin"
                fi
        done
        [ -n "$found" ] || [ "$1" = 4 ] || echo "no link of tier $1" >&2
        [ -n "$found" ]
}

# guarded_rounds: all lists unconfined, behind each tier alone, behind all of them.
guarded_rounds() {
        local tier
        attack_way free
        attack_again
        for tier in ${ATTACK_TIERS-1 2 3 4}; do
                guarded_start
                if guarded_only "$tier"; then
                        attack_way "$tier"
                fi
                kill -CONT "$DAEMON"
                guarded_stop
        done
        guarded_start
        attack_way all
        guarded_stop
}
