#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Byte budgets, judged by the bytes that arrive at the far end: never more than the limit, all of the limit, and what the
# ledger says is what arrived.

load ../lib/net
load ../lib/budget

setup_file() {
        net_up agent host
        budget_net_up
}
teardown_file() { net_down; }
setup() {
        test_begin
        far_clear
        AGENT_CGROUP=$(cgroup_make one)
        OTHER_CGROUP=$(cgroup_make two)
}
teardown() { test_end; }

LIMIT=300000
RANGES="{cidr: 10.20.0.0/16}, {cidr: 10.20.0.0/16, protocol: icmp}, {cidr: 2001:db8:1::/48}, {cidr: 2001:db8:1::/48, protocol: icmp}"

# One agent, whose policy has this list of budgets.
agent_config() {
        config daemon.yaml <<YAML
policies:
  web: {egress: [$RANGES], budget: [$1]}
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
YAML
}

# Every way to send, until each size is refused: SENDER ADDRESS SIZES. (A ping socket of IPv6 is not told of a refusal.)
protocols() {
        cat <<'TABLE'
udp          10.20.0.1       1400,500,29
udp          2001:db8:1::1   1400,500,49
unconnected  10.20.0.2       1400
icmp         10.20.0.3       1028,29
icmp         2001:db8:1::3   1028x300,49x30
gso          10.20.0.4       1000,100
gso          2001:db8:1::4   1000,100
TABLE
}

# spends AGENT SCOPE LIMIT: each protocol alone spends the whole of it, and not a byte more.
spends() {
        local agent=$1 scope=$2 limit=$3 kind address sizes status=0 arrived n=0 rest
        far_clear
        while read -r kind address sizes; do
                n=$((n + 1))
                far_watch "c$n" "$address"
                agentctl budget reset "$agent" "$scope" >/dev/null
                sender "$kind" "$address" "$sizes" > "$TEST_DIR/sent" || status=1
                used_is_far "$agent" "$scope" "c$n" || status=1
                arrived=$(far "c$n")
                # What is left is less than the smallest packet; a GSO packet is ten. An unconnected datagram is a new
                # flow each time, and none begins with less than 1500 bytes once a packet was refused.
                rest=${sizes##*,} rest=${rest%x*}
                case $kind in gso) rest=$((rest * 10)) ;; unconnected) rest=1500 ;; esac
                at_most "$arrived" "$limit" "$kind to $address" || status=1
                at_least "$arrived" $((limit - rest + 1)) "$kind to $address" || status=1
        done < <(protocols)
        return "$status"
}

@test "the agent's ledger: each protocol spends all of it and not a byte more" {
        budget_daemon "$(agent_config "{bytes: $LIMIT, per: total}")"
        spends claude-1 agent/total "$LIMIT"
}

@test "a rule's ledger, by the hour: the same, and another rule is not held back" {
        budget_daemon "$(config daemon.yaml <<YAML
policies:
  web:
    egress:
      - {name: bulk, cidr: 10.20.0.0/24, protocol: any, budget: {bytes: $LIMIT, per: hour}}
      - {name: bulk6, cidr: "2001:db8:1::/64", protocol: any, budget: {bytes: $LIMIT, per: hour}}
      - {cidr: 203.0.113.0/24}
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
YAML
)"
        protocols() {
                printf '%s\n' 'udp 10.20.0.1 1400,29' 'icmp 10.20.0.3 1028,29' 'gso 10.20.0.4 1000,100'
        }
        spends claude-1 bulk/hour "$LIMIT"
        protocols() {
                printf '%s\n' 'udp 2001:db8:1::5 1400,49' 'icmp 2001:db8:1::6 1028x300,49x30'
        }
        spends claude-1 bulk6/hour "$LIMIT"
        far_watch other 203.0.113.9
        sender udp 203.0.113.9 1000x500
        assert_equal "$(far_packets other)" 500
}

@test "a shared ledger: two agents at once, on two CPUs, spend it together" {
        budget_daemon "$(config daemon.yaml <<YAML
policies:
  web: {egress: [$RANGES], budget: [{bytes: 20MB, per: day, shared: true}]}
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
  claude-2: {cgroup: $OTHER_CGROUP, policy: web}
YAML
)"
        far_watch sum 10.20.0.1 10.20.0.2
        one=$AGENT_CGROUP
        sender_start first udp 10.20.0.1 1000,29
        first=$SENDER_PID
        AGENT_CGROUP=$OTHER_CGROUP
        sender_start second udp 10.20.0.2 1400,29
        wait_gone "$first"
        wait_gone "$SENDER_PID"
        used_is_far claude-1 shared/day sum
        used_is_far claude-2 shared/day sum
        at_most "$(far sum)" 20000000 'both together'
        at_least "$(far sum)" $((20000000 - 28)) 'both together'
        # Both had their part, so that there was something to share.
        at_least "$(sed -n 's/^1000 sent=\([0-9]*\).*/\1/p' "$TEST_DIR/first")" 100 first
        at_least "$(sed -n 's/^1400 sent=\([0-9]*\).*/\1/p' "$TEST_DIR/second")" 100 second
        AGENT_CGROUP=$one
}

@test "several ledgers on one packet: all are charged or none" {
        budget_daemon "$(config daemon.yaml <<YAML
policies:
  web:
    egress:
      - {name: a, cidr: 10.20.1.0/24, budget: [{bytes: 100000, per: hour}, {bytes: 150000, per: total}]}
      - {name: b, cidr: 10.20.2.0/24, budget: {bytes: 500000, per: hour}}
    budget:
      - {bytes: 250000, per: day}
      - {bytes: 1MB, per: total, shared: true}
      - {bytes: 300000, per: month, direction: both}
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
YAML
)"
        far_watch a 10.20.1.1
        far_watch b 10.20.2.1
        far_watch sum 10.20.1.1 10.20.2.1
        # Refused again and again by one ledger: the others must not pay for that.
        sender udp 10.20.1.1 1000,1000x200,29x200
        for scope in a/hour a/total agent/day shared/total agent/month/both; do
                used_is_far claude-1 "$scope" a
        done
        assert_equal "$(far a)" 100000
        sender udp 10.20.2.1 1000,29
        used_is_far claude-1 b/hour b
        for scope in agent/day shared/total agent/month/both; do
                used_is_far claude-1 "$scope" sum
        done
        at_most "$(far sum)" 250000 "to both"
        at_least "$(far sum)" $((250000 - 28)) "to both"
        budget claude-1 a/total '.used <= 100000'
}

@test "ingress: what comes in is charged, and what goes over the limit is not delivered" {
        budget_daemon "$(agent_config '{bytes: 300000, per: day, direction: ingress}')"
        far_watch_back back 10.20.0.1
        run sender listen 10.20.0.1 1000 200
        assert_equal "$output" got=200
        used_is_far claude-1 agent/day/ingress back
        run sender listen 10.20.0.1 1000 400
        assert_equal "$output" got=100
        budget claude-1 agent/day/ingress '.used == 300000 and .left == 0'
        agentctl budget grant claude-1 agent/day/ingress 50000
        run sender listen 2001:db8:1::1 500 400
        assert_equal "$output" got=100
        budget claude-1 agent/day/ingress '.used == 350000'
        # Bulk comes as packets of many segments: their headers count.
        agentctl budget reset claude-1
        far_reset
        run sender fetch 10.20.0.1 100000
        assert_equal "$output" got=100000
        used_is_far claude-1 agent/day/ingress back
        far_watch_back back6 2001:db8:1::1
        agentctl budget reset claude-1
        run sender fetch 2001:db8:1::1 100000
        assert_equal "$output" got=100000
        used_is_far claude-1 agent/day/ingress back6
        agentctl budget reset claude-1
        SENDER_SECONDS=2 run sender fetch 10.20.0.1 1000000
        at_most "$(sed -n 's/^got=//p' <<< "$output")" 300000 delivered
        budget claude-1 agent/day/ingress '.used <= 300000 and .used > 250000'
}

@test "both: what goes out and what comes in are one sum" {
        budget_daemon "$(agent_config '{bytes: 10MB, per: total, direction: both}')"
        far_watch both 10.20.0.1 2001:db8:1::1
        far_watch_back both 10.20.0.1 2001:db8:1::1
        sender listen 10.20.0.1 1000 200
        sender listen 2001:db8:1::1 700 100
        sender tcp 10.20.0.1 200000
        sender fetch 2001:db8:1::1 200000
        used_is_far claude-1 agent/total/both both
        at_least "$(far both)" 650000 both
}

# Each fragment has headers of its own. The kernel makes them behind the programs; 10.20.7.0/24 has a smaller MTU.
@test "what is longer than the MTU is weighed as the fragments that arrive" {
        in_ns agent ip route replace 10.20.7.0/24 via 10.200.1.1 mtu lock 700
        budget_daemon "$(agent_config '{bytes: 100MB, per: total}')"
        status_all=0
        while read -r kind address sizes; do
                far_clear
                far_watch sum "$address"
                agentctl budget reset claude-1 agent/total >/dev/null
                sender "$kind" "$address" "$sizes" > "$TEST_DIR/sent"
                used_is_far claude-1 agent/total sum || { status_all=1; echo "$kind to $address: $sizes"; }
                # They were fragments.
                at_least "$(far_packets sum)" 60 "$kind to $address" || status_all=1
        done <<'TABLE'
udp         10.20.0.1      1501x5,2980x5,4028x5,9000x5,60000x1
udp         2001:db8:1::1  1501x5,2980x5,4028x5,9000x5,60000x1
unconnected 10.20.0.1      1501x5,2980x5,4028x5,9000x5,60000x1
icmp        10.20.0.1      1501x5,2980x5,4028x5,9000x5,60000x1
icmp        2001:db8:1::1  1501x5,2980x5,4028x5,9000x5,60000x1
udp         10.20.7.1      699x5,700x5,701x5,1400x20,5000x5
TABLE
        assert_equal "$status_all" 0
        in_ns agent ip route del 10.20.7.0/24
}

@test "a datagram whose fragments go over the limit sends none of them" {
        budget_daemon "$(agent_config "{bytes: $LIMIT, per: total}")"
        protocols() {
                printf '%s\n' 'udp 10.20.0.1 9000,2000,1000,29' 'udp 2001:db8:1::1 9000,2000,1000,49' \
                        'icmp 10.20.0.3 9000,2000,1000,29'
        }
        spends claude-1 agent/total "$LIMIT"
}

@test "TCP in bulk is weighed as the segments that arrive, IPv4 and IPv6" {
        budget_daemon "$(agent_config '{bytes: 100MB, per: total}')"
        for address in 10.20.0.1 2001:db8:1::1; do
                far_clear
                far_watch bulk "$address"
                agentctl budget reset claude-1 agent/total
                sender tcp "$address" 20000000 | grep closed
                used_is_far claude-1 agent/total bulk
                # It was bulk: the program saw fewer packets than arrived.
                at_least "$(far bulk)" 20500000 "to $address"
                at_least "$(far_packets bulk)" 13000 "to $address"
        done
}

# tcp_exhausts ADDRESS: a bulk sender stops within one segment of the limit, and goes on when there is more.
tcp_exhausts() {
        local address=$1 began
        far_clear
        far_watch bulk "$address"
        began=$(date +%s%3N)
        SENDER_SECONDS=60 sender_start bulk tcp "$address" 600000
        WAIT_SECONDS=30 until_true eval '[ "$(far bulk)" -gt $((LIMIT - 1500)) ]'
        echo "# within a segment of the limit after $(($(date +%s%3N) - began)) ms" >&3
        at_most "$(far bulk)" "$LIMIT" "to $address"
        used_is_far claude-1 agent/total bulk
        # New connections are told at once, and which rule's budget it is; the old one only waits.
        run sender connects 3 "${address}9"
        assert_equal "$output" EPERM=3
        wait_event '"reason":"budget_exhausted","hook":"connect'
        event '.type == "deny" and .reason == "budget_exhausted" and (.hook | startswith("connect")) and .agent == "claude-1"
                and (.rule | startswith("web#")) and .dst.port == 7100 and .process.comm == "python3"'
        until_true eval 'event ".type == \"budget\" and .percent == 80 and .scope == \"agent/total\" and .agent == \"claude-1\""'
        until_true eval 'event ".type == \"budget\" and .percent == 100 and .reason == \"budget_exhausted\""'
        refute_match "$(cat "$TEST_DIR/bulk")" errno=
        in_ns agent ss -tnH "dport = :7100"; assert_equal "$(in_ns agent ss -tnH "dport = :7100" | wc -l)" 1
}

tcp_goes_on() {
        WAIT_SECONDS=30 wait_for "$TEST_DIR/bulk" '^closed'
        wait_gone "$SENDER_PID"
        used_is_far claude-1 agent/total bulk
        at_least "$(far bulk)" 600000 "$1"
}

@test "a TCP connection stops within a segment of the limit, and goes on after a grant" {
        budget_daemon "$(agent_config "{bytes: $LIMIT, per: total}")"
        tcp_exhausts 10.20.0.1
        agentctl budget grant claude-1 agent/total 1MB
        tcp_goes_on "after the grant"
}

@test "the same over IPv6, and it goes on when the limit is raised" {
        budget_daemon "$(agent_config "{bytes: $LIMIT, per: total}")"
        tcp_exhausts 2001:db8:1::1
        agent_config '{bytes: 1MB, per: total}' > /dev/null
        agentctl reload
        tcp_goes_on "after the reload"
}

@test "on_exhausted: reset ends live connections with an error, and only those of the budget" {
        budget_daemon "$(config daemon.yaml <<YAML
policies:
  web:
    egress:
      - {name: bulk, cidr: 10.20.1.0/24, budget: {bytes: $LIMIT, per: hour, on_exhausted: reset}}
      - {name: other, cidr: 10.20.2.0/24, budget: {bytes: $LIMIT, per: hour}}
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
YAML
)"
        far_watch bulk 10.20.1.1
        far_watch other 10.20.2.1
        SENDER_SECONDS=60 sender_start other tcp 10.20.2.1 600000
        until_true eval '[ "$(far other)" -gt $((LIMIT * 4 / 5)) ]'
        SENDER_SECONDS=60 sender_start bulk tcp 10.20.1.1 600000
        WAIT_SECONDS=30 wait_for "$TEST_DIR/bulk" '^errno=ECONNABORTED'
        at_most "$(far bulk)" "$LIMIT" bulk
        refute_match "$(cat "$TEST_DIR/other")" errno=
        assert_equal "$(in_ns agent ss -tnH dst 10.20.2.1 | wc -l)" 1
        agentctl budget grant claude-1 other/hour 1MB
        WAIT_SECONDS=30 wait_for "$TEST_DIR/other" '^closed'
        used_is_far claude-1 other/hour other
}

@test "audit mode: all arrives, is counted beyond the limit, and would have been denied" {
        budget_daemon "$(config daemon.yaml <<YAML
policies:
  web: {mode: audit, egress: [$RANGES], budget: [{bytes: $LIMIT, per: total}]}
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
YAML
)"
        far_watch sum 10.20.0.1 2001:db8:1::1
        run sender udp 10.20.0.1 1000x400
        assert_equal "$output" "1000 sent=400 refused=0"
        sender tcp 2001:db8:1::1 500000 | grep closed
        run sender connects 3 10.20.0.1
        assert_equal "$output" ok=3
        used_is_far claude-1 agent/total sum
        at_least "$(far sum)" 900000 all
        wait_event '"type":"would_deny".*"reason":"budget_exhausted"'
        event '.type == "would_deny" and .reason == "budget_exhausted" and .hook == "connect4"'
        run event '.type == "deny"'
        assert_equal "$output" ''
        until_true eval 'event ".type == \"budget\" and .percent == 100"'
}

tier3_present() {
        agentctl status -o json | jq -e '.agents[0].tiers["3"].present'
}

# The daemon sees the host end of the agent's veth: the programs there charge what no socket of the agent's has sent.
@test "with tier 3 each packet is charged once, and what the kernel answers for a closed connection as well" {
        DAEMON_NS=outside
        in_cgroup "$AGENT_CGROUP" agent tail -f /dev/null 3>&- 4>&- </dev/null &
        budget_daemon "$(agent_config '{bytes: 100MB, per: total}')"
        until_true tier3_present
        far_watch sum 10.20.0.1 10.20.0.3 10.20.0.4 2001:db8:1::1 2001:db8:1::4
        sender tcp 10.20.0.1 2000000
        sender tcp 2001:db8:1::1 2000000
        sender udp 10.20.0.1 1000x100,1501x20,9000x5
        sender udp 2001:db8:1::1 1000x100,1501x20,9000x5
        sender gso 10.20.0.4 1000x20
        sender gso 2001:db8:1::4 1000x20
        sender icmp 10.20.0.3 1000x20,4000x5
        used_is_far claude-1 agent/total sum
        # The far end acknowledges at once and closes later: TIME_WAIT answers that, a socket in no cgroup.
        in_ns outside ip route change 10.200.1.0/24 dev agent quickack 1
        in_ns outside ip -6 route replace 2001:db8:200:1::/64 dev agent metric 100 quickack 1
        sender closes 20 10.20.0.1 2001:db8:1::1
        used_is_far claude-1 agent/total sum
}

# The offset of the kernel's wall clock, in nanoseconds; with a number: moves it on by so many seconds.
kernel_clock() {
        local map
        map=$(echo "$AGENTD_BPFFS"/agentd/v*/wall_clock)
        bpftool -j map dump pinned "$map" | "$PYTHON" -c '
import json, struct, sys
value = bytes(int(x, 16) for x in json.load(sys.stdin)[0]["value"])
offset = struct.unpack("<q", value[:8])[0]
if len(sys.argv) > 1:
    print(struct.pack("<q", offset + int(sys.argv[1]) * 10**9).hex(" ") + " " + value[8:].hex(" "))
else:
    print(offset)' "$@" > "$TEST_DIR/wall_clock"
        # shellcheck disable=SC2046
        [ $# -eq 0 ] || bpftool map update pinned "$map" key hex 00 00 00 00 value hex $(cat "$TEST_DIR/wall_clock")
}

@test "kill -9 under traffic: the limit holds, and windows roll over, while no daemon lives" {
        budget_daemon "$(agent_config '{bytes: 100MB, per: hour}, {bytes: 130MB, per: day}')"
        far_watch sum 10.20.0.1
        sender_start sent udp 10.20.0.1 1000,29
        until_true eval '[ "$(far sum)" -gt 1000000 ]'
        daemon_stop KILL
        at_most "$(far sum)" 99000000 'killed too late to show anything'
        wait_gone "$SENDER_PID"
        sync_recorder agent
        at_most "$(far sum)" 100000000 'without a daemon'
        at_least "$(far sum)" $((100000000 - 28)) 'without a daemon'
        run sender connects 1 10.20.0.1
        assert_equal "$output" EPERM=1

        # The next hour. Nobody but the kernel knows.
        kernel_clock 3600
        sender udp 10.20.0.1 1000,29
        sync_recorder agent
        at_most "$(far sum)" 130000000 'of the day, without a daemon'
        at_least "$(far sum)" $((130000000 - 28)) 'of the day, without a daemon'

        # A new daemon finds what was used while there was none.
        budget_daemon "$(agent_config '{bytes: 100MB, per: hour}, {bytes: 130MB, per: day}')" 3600
        budget claude-1 agent/day ".used >= 130000000 - 28 and .used <= 130000000"
        budget claude-1 agent/hour ".used >= 30000000 - 28 and .used <= 30000028"
        agentctl budget grant claude-1 agent/day 1MB
        far_reset
        sender udp 10.20.0.1 1000,29
        sync_recorder agent
        at_most "$(far sum)" 1000028 granted
        at_least "$(far sum)" $((1000000 - 28)) granted
}

@test "limits that are lowered, raised and granted under traffic hold at every step" {
        budget_daemon "$(agent_config '{bytes: 1GB, per: total}')"
        far_watch sum 10.20.0.1
        sender_start sent udp 10.20.0.1 1000,29
        until_true eval '[ "$(far sum)" -gt 1000000 ]'
        agent_config '{bytes: 2MB, per: total}' > /dev/null
        agentctl reload
        # Far above or just below: it stops here.
        wait_gone "$SENDER_PID"
        used_is_far claude-1 agent/total sum
        at_least "$(far sum)" 2000000 lowered
        budget claude-1 agent/total '.left == 0 and .limit == 2000000'
        before=$(far sum)
        run sender connects 1 10.20.0.1
        assert_equal "$output" EPERM=1
        agent_config "{bytes: $((before + 3000000)), per: total}" > /dev/null
        agentctl reload
        sender udp 10.20.0.1 1000,29
        used_is_far claude-1 agent/total sum
        at_most "$(far sum)" $((before + 3000000)) raised
        at_least "$(far sum)" $((before + 3000000 - 28)) raised
        # Grants while it sends: ten of them, none lost.
        sender_start sent udp 10.20.0.1 1000x1000000
        for _ in 1 2 3 4 5 6 7 8 9 10; do
                agentctl budget grant claude-1 agent/total 1MB
        done
        until_true eval '[ "$(far sum)" -gt $((before + 13000000 - 1000)) ]'
        kill "$SENDER_PID"
        wait_gone "$SENDER_PID"
        used_is_far claude-1 agent/total sum
        at_most "$(far sum)" $((before + 13000000)) granted
}
