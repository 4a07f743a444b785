#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Rates of new connections, judged by the first packets that arrive at the far end. Where a number is to be exact, the
# bucket refills so slowly (a token in a minute) that no test lasts as long.

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

# An agent with a rate of its own (RATE, empty: none) and two rules; a's has the rate $1.
rate_config() {
        config daemon.yaml <<YAML
policies:
  web:
    mode: ${MODE:-enforce}
    ${RATE:+rate: $RATE}
    egress:
      - {name: a, cidr: 10.20.1.0/24, ${1:+rate: $1}}
      - {name: a6, cidr: "2001:db8:1:1::/64"}
      - {name: b, cidr: 10.20.2.0/24}
      - {name: ping, cidr: 10.20.0.0/16, protocol: icmp}
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
  claude-2: {cgroup: $OTHER_CGROUP, policy: web}
YAML
}

SLOW='{connections: 60, per: hour, burst: 5}'

# connections ADDRESS...: how many have begun at the far end, by their SYNs.
connections_watch() {
        local address
        in_ns outside nft 'add counter netdev far c_syns'
        for address in "$@"; do
                case $address in
                *:*) in_ns outside nft "add rule netdev far arrived ip6 daddr $address tcp flags & (syn | ack) == syn counter name c_syns" ;;
                *) in_ns outside nft "add rule netdev far arrived ip daddr $address tcp flags & (syn | ack) == syn counter name c_syns" ;;
                esac
        done
}

@test "a rule's burst of TCP connections, and not one more; other rules and agents are not held back" {
        start_daemon "$(rate_config "$SLOW")"
        connections_watch 10.20.1.1 10.20.1.2
        run sender connects 20 10.20.1.1 10.20.1.2
        assert_equal "$output" "EPERM=15 ok=5"
        assert_equal "$(far_packets syns)" 5
        wait_event '"reason":"rate_exceeded"'
        event '.type == "deny" and .reason == "rate_exceeded" and .rule == "a" and .hook == "connect4" and .dst.ip == "10.20.1.1"
                and .dst.port == 7100 and .agent == "claude-1" and .process.comm == "python3"'
        run sender connects 20 10.20.2.1
        assert_equal "$output" "ok=20"
        AGENT_CGROUP=$OTHER_CGROUP run sender connects 20 10.20.1.1
        assert_equal "$output" "EPERM=15 ok=5"
        assert_equal "$(far_packets syns)" 10
}

@test "an agent's rate counts IPv4 and IPv6, TCP and UDP, every rule, in one bucket" {
        RATE=$SLOW
        start_daemon "$(rate_config '')"
        run sender connects 2 10.20.1.1 2001:db8:1:1::1
        assert_equal "$output" "ok=2"
        run sender flows 2 10.20.2.1 2001:db8:1:1::2
        assert_equal "$output" "ok=2"
        run sender connects 3 2001:db8:1:1::3
        assert_equal "$output" "EPERM=2 ok=1"
        run sender flows 3 10.20.1.1 2001:db8:1:1::2 10.20.2.2
        assert_equal "$output" "EPERM=3"
        wait_event '"reason":"rate_exceeded".*"hook":"sendmsg6"'
        event '.reason == "rate_exceeded" and .hook == "connect6" and .dst.ip == "2001:db8:1:1::3"'
        # What is no connection takes no token and needs none.
        run sender icmp 10.20.1.1 100x5
        assert_equal "$output" "100 sent=5 refused=0"
}

@test "of UDP the first datagram of a flow counts, connected or not" {
        start_daemon "$(rate_config "$SLOW")"
        far_watch sum 10.20.1.1 10.20.1.2 10.20.1.3
        # One socket, one peer: one flow, however many datagrams.
        run sender unconnected 10.20.1.1 100x300
        assert_equal "$output" "100 sent=300 refused=0"
        run sender udp 10.20.1.2 100x300
        assert_equal "$output" "100 sent=300 refused=0"
        run sender flows 10 10.20.1.3
        assert_equal "$output" "EPERM=7 ok=3"
        assert_equal "$(far_packets sum)" 603
}

@test "a socket that sends to many peers begins a flow with each" {
        start_daemon "$(rate_config "$SLOW")"
        run sender rounds 20 10.20.1.1 10.20.1.2 10.20.1.3 10.20.1.4
        # Its connect is the first; of four peers each is one, and they stay known.
        assert_equal "$output" "ok=20"
        run sender flows 10 10.20.1.5
        assert_equal "$output" "EPERM=9 ok=1"
        run sender rounds 4 10.20.1.6
        assert_match "$output" 'PermissionError'
}

@test "a disconnected socket's next port is a new flow" {
        local how
        for how in connect sendto both; do
                start_daemon "$(rate_config "$SLOW")"
                far_clear
                far_watch sum 10.20.1.1
                run sender anew "$how" 20 10.20.1.1
                assert_equal "$output" "EPERM=15 ok=5 ports=5"
                assert_equal "$(far_packets sum)" 5
                daemon_stop
                "$AGENTD" uninstall && rm -rf "$TEST_DIR/state"/*
        done
        # A port that it was bound to it keeps: one flow, however often it connects.
        start_daemon "$(rate_config "$SLOW")"
        far_clear
        far_watch sum 10.20.1.1
        run sender anew kept 20 10.20.1.1
        assert_equal "$output" "ok=20 ports=1"
        # One port that it was given, then one that it has bound.
        run sender anew bind 1 10.20.1.1
        assert_equal "$output" "ok=1 ports=2"
        run sender flows 10 10.20.1.1
        assert_equal "$output" "EPERM=8 ok=2"
        assert_equal "$(far_packets sum)" 24
}

@test "Fast Open is a connection like any" {
        start_daemon "$(rate_config "$SLOW")"
        connections_watch 10.20.1.1
        run sender fastopen 10 10.20.1.1
        assert_equal "$output" "EPERM=5 ok=5"
        assert_equal "$(far_packets syns)" 5
}

@test "a rule's and the agent's rate both hold, and a refusal by one takes nothing from the other" {
        RATE='{connections: 60, per: hour, burst: 8}'
        start_daemon "$(rate_config "$SLOW")"
        connections_watch 10.20.1.1 10.20.2.1
        run sender connects 30 10.20.1.1
        assert_equal "$output" "EPERM=25 ok=5"
        run sender connects 10 10.20.2.1
        assert_equal "$output" "EPERM=7 ok=3"
        assert_equal "$(far_packets syns)" 8
        until_true eval 'event ".reason == \"rate_exceeded\" and .rule == \"b\""'
}

@test "tokens come back at the rate" {
        start_daemon "$(rate_config '{connections: 40, per: second, burst: 3}')"
        far_watch sum 10.20.1.1
        run sender tries 1.5 10.20.1.1
        echo "$output"
        [[ $output =~ ^ok=([0-9]+)\ refused=([0-9]+)\ seconds=([0-9.]+)$ ]]
        allowed=${BASH_REMATCH[1]} refused=${BASH_REMATCH[2]} elapsed=${BASH_REMATCH[3]}
        assert_equal "$(far_packets sum)" "$allowed"
        # burst + elapsed * rate, and what was not asked for in time is not lost below the burst.
        awk -v n="$allowed" -v s="$elapsed" 'BEGIN { exit !(n <= 3 + s * 40 + 1 && n >= 3 + int(s * 40) - 5) }'
        at_least "$refused" 1 refused
}

@test "a reload keeps what was taken, and a changed rate acts at once" {
        start_daemon "$(rate_config "$SLOW")"
        run sender connects 10 10.20.1.1
        assert_equal "$output" "EPERM=5 ok=5"
        RATE='{connections: 1000, per: second, burst: 1000}' rate_config "$SLOW" > /dev/null
        agentctl reload
        run sender connects 3 10.20.1.1
        assert_equal "$output" "EPERM=3"
        rate_config '{connections: 60, per: hour, burst: 8}' > /dev/null
        agentctl reload
        run sender connects 10 10.20.1.1
        assert_equal "$output" "EPERM=7 ok=3"
        rate_config '' > /dev/null
        agentctl reload
        run sender connects 10 10.20.1.1
        assert_equal "$output" "ok=10"
}

@test "a faster rate owes nothing at the slower one's pace" {
        start_daemon "$(rate_config "$SLOW")"
        run sender connects 7 10.20.1.1
        assert_equal "$output" "EPERM=2 ok=5"
        rate_config '{connections: 1000, per: second, burst: 1000}' > /dev/null
        agentctl reload
        run sender tries 2 10.20.1.1
        assert_match "$output" '^ok=[1-9][0-9]+ '
}

@test "kill -9 gives no tokens back, and the rate holds with no daemon" {
        start_daemon "$(rate_config "$SLOW")"
        run sender connects 4 10.20.1.1
        assert_equal "$output" "ok=4"
        daemon_stop KILL
        run sender connects 4 10.20.1.1
        assert_equal "$output" "EPERM=3 ok=1"
        start_daemon "$(rate_config "$SLOW")"
        run sender connects 4 10.20.1.1
        assert_equal "$output" "EPERM=4"
}

@test "a connection that a budget refuses takes no token" {
        start_daemon "$(config daemon.yaml <<YAML
policies:
  web:
    egress:
      - {name: a, cidr: 10.20.1.0/24, rate: $SLOW, budget: {bytes: 40, per: total}}
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
YAML
)"
        run sender connects 20 10.20.1.1
        assert_equal "$output" "EPERM=20"
        wait_event '"reason":"budget_exhausted"'
        agentctl budget grant claude-1 a 1MB
        run sender connects 20 10.20.1.1
        assert_equal "$output" "EPERM=15 ok=5"
}

@test "audit mode: every connection arrives, and what would be too many is told" {
        MODE=audit
        start_daemon "$(rate_config "$SLOW")"
        connections_watch 10.20.1.1
        run sender connects 20 10.20.1.1
        assert_equal "$output" "ok=20"
        assert_equal "$(far_packets syns)" 20
        wait_event '"type":"would_deny".*"reason":"rate_exceeded"'
        until_true eval '[ "$(jq -s "[.[] | select(.type == \"would_deny\" and .reason == \"rate_exceeded\").count] | add" "$EVENTS")" = 15 ]'
        run event '.type == "deny"'
        assert_equal "$output" ''
}
