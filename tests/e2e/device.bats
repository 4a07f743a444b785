#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Tier 3. The daemon lives in the namespace of a router, where the host ends of the agents' veths are ports of a bridge:
#
#     agent --- br0 (router: the daemon) --- outside (recorder, servers)
#     spy   ---'
#
# A host end's packet sockets see frames before the program does, so the witnesses are one hop further: `outside` behind
# the router, and `spy`, to whom the bridge sends what it does not know better. Every attack must first be seen there
# without agentd.

load ../lib/net
load ../lib/judge

FRAMES=$TESTS_TOP/tests/lib/frames.py

setup_file() {
        net_up router
        device_net_up
}
teardown_file() { net_down; }

setup() {
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
        OTHER_CGROUP=$(cgroup_make two)
}

teardown() {
        daemon_stop
        "$AGENTD" uninstall || true
        test_end
}

device_net_up() {
        local name
        for name in agent spy; do
                ip netns add "$ID-$name"
                ip -n "$ID-$name" link set lo up
        done
        ip -n "$ID-router" link add br0 type bridge mcast_snooping 0
        ip -n "$ID-router" link set br0 address 02:00:00:00:01:01
        ip -n "$ID-router" addr add 10.201.0.1/24 dev br0
        ip -n "$ID-router" addr add 2001:db8:201::1/64 dev br0 nodad
        ip -n "$ID-router" link set br0 up
        in_ns router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0 \
                net.ipv4.conf.br0.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0
        ip -n "$ID-outside" route add 10.201.0.0/24 via 10.200.1.20
        ip -n "$ID-outside" -6 route add 2001:db8:201::/64 via 2001:db8:200:1::20
        ip -n "$ID-router" link add spy0 type veth peer name eth0 netns "$ID-spy"
        ip -n "$ID-spy" link set eth0 address 02:00:00:00:01:03
        in_ns spy sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1
        ip -n "$ID-spy" addr add 10.201.0.3/24 dev eth0
        ip -n "$ID-spy" link set eth0 up
        ip -n "$ID-router" link set spy0 master br0 up
        agent_link_up
        background nsenter --net="/run/netns/$ID-spy" "$PYTHON" "$FRAMES" spy "$NET_DIR/spied"
        echo $! >> "$NET_DIR/pids"
        wait_for "$NET_DIR/spied" '^ready'
}

# The agent's veth, as a container runtime makes it.
agent_link_up() {
        ip -n "$ID-router" link add agent0 type veth peer name eth0 netns "$ID-agent"
        ip -n "$ID-agent" link set eth0 address 02:00:00:00:01:02
        in_ns agent sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth0.router_solicitations=0 \
                net.ipv4.ping_group_range="0 2147483647"
        in_ns router sysctl -qw net.ipv6.conf.agent0.disable_ipv6=1
        ip -n "$ID-agent" addr add 10.201.0.2/24 dev eth0
        ip -n "$ID-agent" addr add 2001:db8:201::2/64 dev eth0 nodad
        ip -n "$ID-agent" link set eth0 up
        ip -n "$ID-router" link set agent0 master br0 up
        ip -n "$ID-agent" route add default via 10.201.0.1
        ip -n "$ID-agent" -6 route add default via 2001:db8:201::1
}

# Markers come from the router: what comes from the agent's namespace is the agent's.
eval "$(declare -f sync_recorder | sed '1s/sync_recorder/sync_recorder_from/')"
sync_recorder() { sync_recorder_from router; }

frames() {
        local verb=$1
        shift
        "$PYTHON" "$FRAMES" "$verb" eth0 mac=02:00:00:00:01:02 gateway_mac=02:00:00:00:01:01 spy_mac=02:00:00:00:01:03 \
                ip=10.201.0.2 gateway=10.201.0.1 spy_ip=10.201.0.3 ip6=2001:db8:201::2 gateway6=2001:db8:201::1 \
                allowed=10.20.0.7 allowed6=2001:db8:1::7 "$@"
}
export -f frames
export FRAMES PYTHON

# A process of the agent's for the whole test, so that its namespace is known.
hold() {
        hold_in "$AGENT_CGROUP" agent
}

# hold_in PATH NAMESPACE: returns when the process is there.
hold_in() {
        local ready=$TEST_DIR/held-$RANDOM
        : > "$ready"
        in_cgroup "$1" "$2" bash -c 'echo here > "$1"; exec tail -f /dev/null' - "$ready" 3>&- 4>&- </dev/null &
        wait_for "$ready" here
}

# release PATH: ends what is there.
release() {
        local pid
        while read -r pid; do
                kill "$pid" && wait_gone "$pid"
        done < <(cat "$CGROUP_ROOT$1/cgroup.procs")
}

device_config() {
        config "${1:-device.yaml}" <<YAML
policies:
  web:
${2:-}
    egress:
      - {name: web, cidr: 10.20.0.0/16, ports: [443, 80]}
      - {cidr: 10.20.0.7, protocol: icmp}
      - {cidr: 2001:db8:1::/48}
      - {cidr: 2001:db8:1::7, protocol: icmp}
    budget: {bytes: 100MiB, per: total}
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
YAML
}

# Sends every attack COMMAND...; in $TEST_DIR/leaks the names of those that were seen.
attack() {
        local where seen name spied marker
        spied=$(wc -l < "$NET_DIR/spied")
        recorder_mark
        marker=attack-$BASHPID-$RANDOM$RANDOM
        "$@" bash -c 'frames send' > "$TEST_DIR/unsent"
        "$@" bash -c 'frames mark "marker=$1"' - "$marker"
        wait_for "$NET_DIR/packets" "marker=$marker( |\$)"
        # The announcement: ARP request, sender and target the agent's.
        timeout "$WAIT_SECONDS" tail -n +"$((spied + 1))" -F "$NET_DIR/spied" 2>/dev/null |
                grep -q -m1 -E "^f{12}0200000001020806.{12}0001.{12}0ac90002.{12}0ac90002"
        tail -n +"$((spied + 1))" "$NET_DIR/spied" > "$TEST_DIR/spied"
        tail -n +"$(($(cat "$NET_DIR/mark") + 1))" "$NET_DIR/packets" > "$TEST_DIR/arrived"
        : > "$TEST_DIR/leaks"
        : > "$TEST_DIR/stopped"
        while read -r where seen name; do
                case $where in
                link) grep -q -- "$seen" "$TEST_DIR/spied" ;;
                far) grep -q -E -- "^dst=$(exactly "$seen") " "$TEST_DIR/arrived" ;;
                esac && echo "$name" >> "$TEST_DIR/leaks" || echo "$name" >> "$TEST_DIR/stopped"
        done < <(attacks)
}

attacks() {
        "$PYTHON" "$FRAMES" list mac=02:00:00:00:01:02 gateway_mac=02:00:00:00:01:01 spy_mac=02:00:00:00:01:03 \
                ip=10.201.0.2 gateway=10.201.0.1 spy_ip=10.201.0.3 ip6=2001:db8:201::2 gateway6=2001:db8:201::1 \
                allowed=10.20.0.7 allowed6=2001:db8:1::7
}

in_agent_ns() { in_ns agent "$@"; }

# Where tier 4 refuses packet sockets to the agent, somebody else of its namespace has one: as if passed in.
in_attacker() {
        if agentctl status -o json 2>/dev/null | jq -e '.agents[0].tiers["4"].present' > /dev/null; then
                in_ns agent "$@"
        else
                in_agent "$@"
        fi
}

# Before Linux 6.6 it is a clsact filter, and the pin is its program's.
tcx() {
        agentctl status -o json | jq -e '.tiers[] | select(.tier == 3) | .detail == "tcx"' > /dev/null
}

link_id() {
        if tcx; then
                bpftool -j link show pinned "$1" | jq .id
        else
                echo filter
        fi
}

guarded() {
        wait_event '"detail":"what leaves by eth0 is judged'
}

@test "packet sockets: all of it arrives without agentd, and none of it with tier 3" {
        attack in_agent_ns
        assert_equal "$(cat "$TEST_DIR/unsent")" ''
        assert_equal "$(cat "$TEST_DIR/stopped")" ''
        hold
        start_daemon "$(device_config)" router
        guarded
        attack in_attacker
        assert_equal "$(cat "$TEST_DIR/leaks")" ''
        wait_event '"hook":"device"'
        event '.hook == "device" and .reason == "packet_socket" and .agent == "claude-1" and .direction == "egress"'
        event '.hook == "device" and .reason == "no_rule" and .dst.ip == "203.0.113.101" and .dst.port == 443'
}

# What left for good, at IP level: the kernel's own count at the far end.
far_count_start() {
        in_ns outside nft -f - <<'NFT'
table netdev far
delete table netdev far
table netdev far {
        chain arrived {
                type filter hook ingress device "router" priority -500;
                ip saddr 10.201.0.2 counter
                icmpv6 type { 133, 134, 135, 136, 137, 143 } accept
                ip6 saddr 2001:db8:201::2 counter
        }
}
NFT
}

far_count() {
        in_ns outside nft -j list table netdev far | jq '[.nftables[].rule.expr[]?.counter.bytes | select(. != null)] | add'
}

budget_used() {
        agentctl budget show claude-1 -o json | jq '[.. | .used? | select(. != null)][0]'
}

@test "what is allowed passes, also what is longer than the link, and is charged once" {
        in_ns agent ethtool -K eth0 tso off gso off tx-udp-segmentation off >/dev/null
        in_ns router ethtool -K eth0 tso off gso off >/dev/null
        hold
        start_daemon "$(device_config)" router
        guarded
        far_count_start
        in_agent curl -sS -m 5 -o /dev/null http://10.20.0.7/
        in_agent curl -sS -m 5 -o /dev/null "http://[2001:db8:1::7]/"
        in_agent "$PYTHON" - <<'PY'
import socket
for family, to in ((socket.AF_INET, ("10.20.0.7", 443)), (socket.AF_INET6, ("2001:db8:1::7", 443))):
    s = socket.socket(family, socket.SOCK_DGRAM)
    for size in (1, 1000, 4000, 60000):
        s.sendto(b"x" * size, to)
for family, proto, to, kind in ((socket.AF_INET, 1, "10.20.0.7", 8), (socket.AF_INET6, 58, "2001:db8:1::7", 128)):
    s = socket.socket(family, socket.SOCK_DGRAM, proto)
    s.settimeout(5)
    s.sendto(bytes([kind, 0, 0, 0, 0, 0, 0, 1]) + b"echo" * 20, (to, 0))
    s.recv(200)
PY
        sync_recorder
        assert_arrived 10.20.0.7 udp 443
        assert_arrived 2001:db8:1::7 udp 443
        assert_equal "$(budget_used)" "$(far_count)"
        assert_equal "$(agentctl agents -o json | jq '.agents[0].counters.allowed.egress.bytes')" "$(budget_used)"
        agentctl agents -o json | jq -e '.agents[0].counters.denied.by_reason | del(.packet_socket, .protocol, .malformed, .unix_socket) == {}'
}

@test "a packet socket pays for what it may send" {
        hold
        start_daemon "$(device_config)" router
        guarded
        far_count_start
        before=$(budget_used)
        in_attacker bash -c 'frames legal'
        in_attacker bash -c 'frames mark marker=paid'
        wait_for "$NET_DIR/packets" 'marker=paid( |$)'
        assert_arrived 10.20.0.7 udp 443
        assert_arrived 2001:db8:1::7 udp 443
        assert_equal "$(($(budget_used) - before))" "$(far_count)"
        refute_match "$(far_count)" '^0$'
        # Neighbours' talk is seen by those it is for.
        grep -q -E '^f{12}0200000001020806.{12}0001' "$NET_DIR/spied"
}

@test "a budget that is spent stops packet sockets too" {
        hold
        sed 's/100MiB/1000/' "$(device_config)" > "$TEST_DIR/small.yaml"
        start_daemon "$TEST_DIR/small.yaml" router
        guarded
        far_count_start
        for _ in 1 2 3 4 5 6 7 8; do in_attacker bash -c 'frames legal'; done
        wait_event '"reason":"budget_exhausted".*"hook":"device"|"hook":"device".*"reason":"budget_exhausted"'
        sync_recorder
        [ "$(far_count)" -le 1000 ]
        [ "$(far_count)" -ge 700 ]
}

@test "kill -9: what is pinned goes on, and the next daemon takes it over in place" {
        hold
        start_daemon "$(device_config)" router
        guarded
        pin=$(echo "$AGENTD_BPFFS"/agentd/v*/links/*/device-*)
        before=$(link_id "$pin")
        daemon_stop KILL
        attack in_agent_ns
        assert_equal "$(cat "$TEST_DIR/leaks")" ''
        in_agent_ns bash -c 'frames legal'
        start_daemon "$TEST_DIR/device.yaml" router
        assert_equal "$(link_id "$pin")" "$before"
        agentctl status -o json | jq -e '.agents[0].tiers["3"] | .present and .devices[0].name == "eth0"'
        attack in_attacker
        assert_equal "$(cat "$TEST_DIR/leaks")" ''
        in_agent curl -sS -m 5 -o /dev/null http://10.20.0.7/
}

@test "a veth that is made again is found again; a new address is the agent's from then on" {
        hold
        start_daemon "$(device_config)" router
        guarded
        ip -n "$ID-router" link del agent0
        wait_event '"detail":"the interface [0-9]+ \(agent0\) is gone"'
        agent_link_up
        wait_count "$EVENTS" '"detail":"what leaves by eth0 is judged' 2
        attack in_attacker
        assert_equal "$(cat "$TEST_DIR/leaks")" ''
        in_agent curl -sS -m 5 -o /dev/null http://10.20.0.7/
        run agentctl status
        assert_match "$output" 'tiers 1,2,3(,4)? \(eth0\)'
}

@test "an agent's veth that comes after the agent is found before it is used" {
        ip -n "$ID-router" link del agent0
        hold
        start_daemon "$(device_config)" router
        agentctl status -o json | jq -e '.agents[0].tiers["3"].devices == []'
        agent_link_up
        guarded
        attack in_attacker
        assert_equal "$(cat "$TEST_DIR/leaks")" ''
}

@test "a program or a pin that was taken away comes back, and is told" {
        hold
        start_daemon "$(device_config)" router
        guarded
        pin=$(echo "$AGENTD_BPFFS"/agentd/v*/links/*/device-*)
        rm "$pin"
        wait_event '"type":"drift".*the program at agent0'
        wait_for_file "$pin"
        if tcx; then
                bpftool link detach pinned "$pin"
        else
                tc -n "$ID-router" qdisc del dev agent0 clsact
        fi
        wait_count "$EVENTS" '"type":"drift".*the program at agent0' 2
        agentctl status -o json | jq -e '.agents[0].tiers["3"].present'
        attack in_attacker
        assert_equal "$(cat "$TEST_DIR/leaks")" ''
}

# A pin is made by rename, which inotify of a bpffs does not tell: the daemon's answer is what is waited for.
wait_for_file() {
        agentctl status >/dev/null
        [ -e "$1" ]
}

@test "what is required and missing is exit 4, and denies who is in the configuration" {
        start_daemon "$(device_config required.yaml '    required: [device_guard]')" router
        # In the router's own namespace.
        hold_in "$OTHER_CGROUP" router
        run agentctl attach other --cgroup "$OTHER_CGROUP" --policy web
        assert_equal "$status" 4
        assert_match "$output" "requires device_guard: it is in the host's own network namespace"
        release "$OTHER_CGROUP"

        hold_in "$AGENT_CGROUP" router
        wait_event '"type":"drift","agent":"claude-1".*everything is denied: its policy requires device_guard'
        agentctl status -o json | jq -e '.agents[0] | .state == "broken" and (.detail | test("requires device_guard"))'
        run in_cgroup "$AGENT_CGROUP" router curl -sS -m 2 http://10.20.0.7/
        assert_equal "$status" 7
        run agentctl health
        assert_equal "$status" 1
        release "$AGENT_CGROUP"
        hold
        guarded
        in_agent curl -sS -m 5 -o /dev/null http://10.20.0.7/
        agentctl health

        run agentd_run --config "$TEST_DIR/required.yaml" -- true
        assert_equal "$status" 125
        assert_match "$output" 'requires device_guard'
}

@test "device_guard: off, a namespace of two agents, and a host end elsewhere: absent, with the reason" {
        hold
        start_daemon "$(device_config off.yaml '    device_guard: off')" router
        agentctl status -o json | jq -e '.agents[0].tiers["3"] | (.present | not) and (.detail | test("device_guard: off"))'
        # Switched on by a reload, and off again.
        device_config off.yaml > /dev/null
        agentctl reload
        agentctl status -o json | jq -e '.agents[0].tiers["3"].present'
        hold_in "$OTHER_CGROUP" agent
        agentctl attach other --cgroup "$OTHER_CGROUP" --policy web
        wait_event '"type":"drift".*no device guard any more: its network namespace is that of .other. as well'
        agentctl status -o json | jq -e '[.agents[].tiers["3"].present] == [false, false]'
        in_agent curl -sS -m 5 -o /dev/null http://10.20.0.7/
        release "$OTHER_CGROUP"
        agentctl detach other
        wait_count "$EVENTS" '"detail":"what leaves by eth0 is judged' 2
        daemon_stop
        start_daemon "$TEST_DIR/off.yaml" outside
        agentctl status -o json | jq -e '.agents[0].tiers["3"] | (.present | not) and (.detail | test("another namespace"))'
}

@test "replies to who may come in leave; detach and uninstall leave nothing behind" {
        hold
        file=$(device_config in.yaml '    ingress: [{cidr: 10.200.1.1/32, ports: [8080]}]')
        start_daemon "$file" router
        guarded
        in_agent "$PYTHON" -m http.server 8080 --bind 10.201.0.2 --directory "$NET_DIR/web" > "$TEST_DIR/http" 2>&1 3>&- 4>&- &
        server=$!
        in_ns outside curl -sS -m 5 --retry 20 --retry-connrefused --retry-delay 0 --interface 10.200.1.1 http://10.201.0.2:8080/ |
                grep -q 'served by the far end'
        kill "$server"
        agentctl detach claude-1
        run bash -c 'ls "$AGENTD_BPFFS"/agentd/v*/links/*/device-*'
        refute_match "$status" '^0$'
        attack in_attacker
        assert_equal "$(cat "$TEST_DIR/stopped")" ''
}

@test "look-ups as asked leave by the daemon's own sockets; port 53 of anybody else does not" {
        hold
        file=$(config asked.yaml <<YAML
policies:
  web:
    egress: [{domain: www.example.test, ports: [80]}]
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
YAML
)
        sed -i 's/upstream: \[[^]]*\]/upstream: [as-asked]/' "$file"
        start_daemon "$file" router
        guarded
        run in_agent dig +short +tries=1 +time=5 "@$DNS_SERVER" www.example.test
        assert_equal "$status" 0
        assert_match "$output" '^[0-9.]+'
        assert_arrived "$DNS_SERVER" udp 53
        in_agent curl -sS -m 5 -o /dev/null --resolve "www.example.test:80:${output%%$'\n'*}" http://www.example.test/
        recorder_mark
        # Not the agent's, and not the daemon's.
        in_cgroup "$OTHER_CGROUP" agent dig +short +tries=1 +time=1 "@$DNS_FORBIDDEN" www.example.test || true
        refute_arrived "$DNS_FORBIDDEN" udp 53
}
