#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Flows that begin outside, judged at both ends of a veth: what reaches the agent's programs, and what comes back.

load ../lib/net
load ../lib/judge
load ../lib/budget

setup_file() {
        net_up agent host
        budget_net_up
        in_ns outside sysctl -qw net.ipv4.ping_group_range="0 2147483647"
        export INBOUND=$TESTS_TOP/tests/lib/inbound.py
}
teardown_file() { net_down; }
setup() {
        test_begin
        far_clear
        AGENT_CGROUP=$(cgroup_make one)
        OTHER_CGROUP=$(cgroup_make two)
        SERVED=$TEST_DIR/served
        : > "$SERVED"
}
teardown() { test_end; }

# ingress_config RULES [KEYS]: of claude-1; claude-2 may not be reached at all.
ingress_config() {
        config ingress.yaml <<YAML
policies:
  served:
    mode: ${MODE:-enforce}
    ingress: $1
    ${2:-loopback: allow}
  closed: {}
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: served}
  claude-2: {cgroup: $OTHER_CGROUP, policy: closed}
YAML
}

# serve PORT...: the agent's servers, in the background, anew.
serve() {
        : > "$SERVED"
        background in_agent "$PYTHON" "$INBOUND" serve "$SERVED" "$@"
        wait_for "$SERVED" '^ready'
}

serve_no_more() {
        local pid
        pid=$(sed -n 's/^ready //p' "$SERVED")
        kill "$pid"
        wait_gone "$pid"
}

# knock SPEC...: from outside; sent is all when this returns, answered what will be.
knock() { in_ns outside "$PYTHON" "$INBOUND" knock "$@"; }

# knock_table: lines "SPEC RESULT" on standard input. Each must be open with nobody between, or it proves nothing (RESULT
# closed: nobody listens there).
knock_table() {
        local table
        table=$(sed -e 's/#[^0-9].*//' -e 's/ *$//' -e '/^$/d')
        # shellcheck disable=SC2046
        knock $(awk '{ print $1 }' <<< "$table") > "$TEST_DIR/knocked"
        diff <(sort <<< "$table") <(sort "$TEST_DIR/knocked")
}

# nothing_came_back PORT: not one packet from that port of the agent's, on the link.
nothing_came_back() {
        local found
        found=$(recorded "sport=$1( |\$)") || return 0
        echo "came back: $found" >&2
        return 1
}

FROM4='10.20.0.7 10.20.9.9 198.51.100.3'
FROM6='2001:db8:1::7 2001:db8:2::3'
AGENT4=10.200.1.20
AGENT6=2001:db8:200:1::20

@test "without an ingress rule a listening agent is reached by nobody, and says nothing" {
        local from specs=()
        for from in $FROM4; do
                specs+=("tcp/$from/$AGENT4/7300" "udp/$from/$AGENT4/7300")
        done
        for from in $FROM6; do
                specs+=("tcp/$from/$AGENT6/7300" "udp/$from/$AGENT6/7300")
        done
        serve 7300
        run knock "${specs[@]}"
        assert_equal "$(grep -c ' open$' <<< "$output")" "${#specs[@]}"
        serve_no_more

        # Leave to go out is none to come in, and the answer to a knock is none to a call.
        start_daemon "$(ingress_config '[]' 'egress: [{cidr: 10.20.0.7, ports: [1-65535/tcp]}]')"
        serve 7300
        recorder_mark agent
        run knock "${specs[@]}"
        assert_equal "$(grep -c ' silent$' <<< "$output")" "${#specs[@]}"
        nothing_came_back 7300
        assert_match "$(cat "$SERVED")" '^ready [0-9]+$'
        wait_count "$EVENTS" '"reason":"ingress"' 10
        event ".type == \"deny\" and .reason == \"ingress\" and .direction == \"ingress\" and .hook == \"ingress\" and .proto == \"tcp\" and
                .agent == \"claude-1\" and .src.ip == \"10.20.9.9\" and .dst.ip == \"$AGENT4\" and .dst.port == 7300 and .rule == null"
        event ".reason == \"ingress\" and .proto == \"udp\" and .src.ip == \"2001:db8:2::3\" and .dst.ip == \"$AGENT6\" and .dst.port == 7300"
        agentctl agents -o json | jq -e '.. | objects | select(.name? == "claude-1")' > /dev/null

        # Nor without the daemon.
        daemon_stop KILL
        recorder_mark agent
        run knock "${specs[@]}"
        assert_equal "$(grep -c ' silent$' <<< "$output")" "${#specs[@]}"
        nothing_came_back 7300
        assert_match "$(cat "$SERVED")" '^ready [0-9]+$'
}

@test "an ingress rule opens exactly its sources, ports and protocols" {
        start_daemon "$(ingress_config '[
                {name: ssh, cidr: 10.20.0.0/16, except: [10.20.9.0/24], ports: [7300]},
                {name: both, cidr: 198.51.100.3, ports: [7301/tcp, 7302/udp]},
                {name: all, cidr: "2001:db8:1::/48"},
                {name: mapped, cidr: "::ffff:10.9.0.0/112", protocol: udp}]' 'deny: [{cidr: 10.20.3.0/24}, {cidr: 10.20.4.0/24, ports: [444]}]')"
        serve 7300 7301 7302
        knock_table <<TABLE
tcp/10.20.0.7/$AGENT4/7300 open
udp/10.20.0.7/$AGENT4/7300 open
tcp/10.20.0.7/$AGENT4/7301 silent
udp/10.20.0.7/$AGENT4/7301 silent
tcp/10.20.9.9/$AGENT4/7300 silent
udp/10.20.9.9/$AGENT4/7300 silent
tcp/10.20.3.1/$AGENT4/7300 silent
udp/10.20.3.1/$AGENT4/7300 silent
tcp/10.20.4.1/$AGENT4/7300 open
tcp/10.20.4.1#444/$AGENT4/7300 open
tcp/198.51.100.3/$AGENT4/7300 silent
tcp/198.51.100.3/$AGENT4/7301 open
udp/198.51.100.3/$AGENT4/7301 silent
tcp/198.51.100.3/$AGENT4/7302 silent
udp/198.51.100.3/$AGENT4/7302 open
tcp/198.51.100.4/$AGENT4/7301 silent
tcp/198.51.100.3#7301/$AGENT4/7302 silent
tcp/2001:db8:1::7/$AGENT6/7300 open
udp/2001:db8:1::7/$AGENT6/7302 open
tcp/2001:db8:2::7/$AGENT6/7300 silent
udp/2001:db8:2::7/$AGENT6/7300 silent
udp/10.9.0.1/$AGENT4/7301 open
tcp/10.9.0.1/$AGENT4/7301 silent
TABLE
        # What the kernel does is what `explain` says, with the daemon and without.
        local spec result protocol from port
        while read -r spec result; do
                IFS=/ read -r protocol from _ port <<< "$spec"
                from=${from%#*}
                case $from in *:*) from="[$from]" ;; esac
                run agentctl explain claude-1 "in:$from:$port/$protocol"
                [ "$status" = "$([ "$result" = open ] && echo 0 || echo 1)" ] || { echo "$spec: $status $output"; false; }
                run agentctl policy test served "in:$from:$port/$protocol" --config "$TEST_DIR/ingress.yaml"
                [ "$status" = "$([ "$result" = open ] && echo 0 || echo 1)" ] || { echo "$spec: $status $output"; false; }
        done < "$TEST_DIR/knocked"
        wait_event '"reason":"deny_rule".*"direction":"ingress"'
        event '.reason == "deny_rule" and .direction == "ingress" and .src.ip == "10.20.3.1" and .rule == "served#deny1"'
}

@test "answers are no leave to go out: who may come in may not be called" {
        start_daemon "$(ingress_config '[{cidr: 10.20.0.0/16}]')"
        serve 7300
        run knock "tcp/10.20.0.7/$AGENT4/7300" "udp/10.20.0.7/$AGENT4/7300"
        assert_equal "$(grep -c ' open$' <<< "$output")" 2
        recorder_mark agent
        run in_agent "$PYTHON" "$TESTS_TOP/tests/lib/probe.py" tcp/10.20.0.7/80 udp/10.20.0.7/8000 tcp/10.20.0.7/7300
        assert_equal "$(grep -c ' denied$' <<< "$output")" 3
        run recorded '^dst=10\.20\.0\.7 '
        assert_equal "$status" 1
}

@test "a connection's bytes count to the budgets, both ways" {
        budget_daemon "$(ingress_config '[{cidr: 10.20.0.0/16, ports: [7300]}]' 'budget:
      - {bytes: 100MB, per: total}
      - {bytes: 100MB, per: total, direction: ingress}')"
        far_watch out 10.20.0.7
        far_watch_back in 10.20.0.7
        serve 7300
        run knock "tcp/10.20.0.7/$AGENT4/7300" "udp/10.20.0.7/$AGENT4/7300"
        assert_equal "$(grep -c ' open$' <<< "$output")" 2
        used_is_far claude-1 agent/total out
        used_is_far claude-1 agent/total/ingress in
        at_least "$(far out)" 200 out
}

@test "a spent budget lets nobody in" {
        budget_daemon "$(ingress_config '[{cidr: 10.20.0.0/16, ports: [7300]}]' 'budget: {bytes: 1000, per: total}')"
        far_watch out 10.20.0.7
        serve 7300
        for _ in 1 2 3 4 5 6; do
                knock "tcp/10.20.0.7/$AGENT4/7300" "udp/10.20.0.7/$AGENT4/7300" > "$TEST_DIR/knocked"
        done
        assert_equal "$(grep -c ' open$' "$TEST_DIR/knocked")" 0
        at_most "$(far out)" 1000 out
        used_is_far claude-1 agent/total out
        wait_event '"reason":"budget_exhausted"'
}

@test "a reload that takes the rule away ends accepted connections within 5 ms, TCP and UDP, and a new one opens the door" {
        local ms best
        start_daemon "$(ingress_config '[{cidr: 10.20.0.0/16, ports: [7300]}]')"
        serve 7300
        best=1000000
        for _ in 1 2 3; do
                background in_ns outside "$PYTHON" "$INBOUND" hold "$TEST_DIR/held" "tcp/10.20.0.8/$AGENT4/7300"
                wait_for "$TEST_DIR/held" '^open'
                recorder_mark agent
                grep -v -E '^[0-9]+ ' "$SERVED" > "$TEST_DIR/kept" || true
                cp "$TEST_DIR/kept" "$SERVED"
                ingress_config '[{cidr: 10.20.1.0/24, ports: [7300]}]' > /dev/null
                "$PYTHON" "$TESTS_TOP/tests/lib/revoke.py" ask "$TEST_DIR/asked" "$AGENTD_SOCKET" '{"verb":"reload"}'
                wait_for "$SERVED" '^[0-9]+ error 103'
                read -r _ answered < <(tail -n 1 "$TEST_DIR/asked")
                read -r told _ < <(grep -E '^[0-9]+ error 103' "$SERVED" | tail -n 1)
                ms=$(((told - answered) / 1000))
                echo "# told $ms us after the answer" >&3
                [ "$ms" -ge "$best" ] || best=$ms
                nothing_came_back 7300
                rm -f "$TEST_DIR/held"
                run knock "tcp/10.20.0.7/$AGENT4/7300" "udp/10.20.0.7/$AGENT4/7300" "udp/10.20.1.7/$AGENT4/7300"
                assert_equal "$(awk '{ print $2 }' <<< "$output" | tr '\n' ' ')" "silent silent open "
                ingress_config '[{cidr: 10.20.0.0/16, ports: [7300]}]' > /dev/null
                agentctl reload
                run knock "tcp/10.20.0.7/$AGENT4/7300" "udp/10.20.0.7/$AGENT4/7300" "udp/10.20.1.7/$AGENT4/7300"
                assert_equal "$(grep -c ' open$' <<< "$output")" 3
        done
        at_most "$best" 5000 microseconds
}

@test "quarantine ends accepted connections, and no FIN or RST carries anything out" {
        start_daemon "$(ingress_config '[{cidr: 10.20.0.0/16, ports: [7300]}]')"
        serve 7300
        background in_ns outside "$PYTHON" "$INBOUND" hold "$TEST_DIR/held" "tcp/10.20.0.8/$AGENT4/7300"
        wait_for "$TEST_DIR/held" '^open'
        recorder_mark agent
        agentctl quarantine claude-1
        wait_for "$SERVED" '^[0-9]+ error 103'
        run knock "tcp/10.20.0.7/$AGENT4/7300" "udp/10.20.0.7/$AGENT4/7300"
        # Its listeners are ended, too: a knock is answered by nobody, or by the namespace's kernel as at any closed port.
        assert_equal "$(grep -c -E ' (silent|refused)$' <<< "$output")" 2
        run recorded ' sport=7300 '
        refute_match "$(grep -v 'flags=14 data=0 ' <<< "$output")" 'sport=7300'
}

@test "UDP is answered by flow: who has not spoken is not, whoever else has, however many" {
        start_daemon "$(ingress_config '[{cidr: 10.20.0.0/16, ports: [7300]}]')"
        coproc REPLY { in_agent "$PYTHON" "$INBOUND" reply 7300 10.20.0.10 10.20.0.11 10.20.99.1 198.51.100.3; }
        read -r line <&"${REPLY[0]}"
        assert_equal "$line" ready
        recorder_mark agent
        ask() { echo "$*" >&"${REPLY[1]}"; read -r line <&"${REPLY[0]}"; }
        ask
        assert_equal "$line" 'EPERM=4'
        in_ns outside "$PYTHON" "$INBOUND" flood 1 "$AGENT4" 7300 10.20.0.0/16 # 10.20.0.10, port 7200
        ask
        assert_equal "$line" 'EPERM=3 sent=1'
        ask 10.20.0.10 10.20.0.11
        assert_equal "$line" 'EPERM=1 sent=1'
        # From many at once: the table of the socket is bounded, and nobody is in it who has not spoken.
        in_ns outside "$PYTHON" "$INBOUND" flood 2000 "$AGENT4" 7300 10.20.0.0/17
        ask 10.20.99.1 198.51.100.3 10.20.200.1
        assert_equal "$line" 'EPERM=3'
        # The newest are answered, and of all of them no more than the table holds.
        ask "10.20.7.208 10.20.7.209 10.20.7.210"
        assert_match "$line" 'sent=[123]'
        # shellcheck disable=SC2046
        ask $(for i in $(seq 0 1999); do echo "10.20.$(((i + 10) / 256)).$(((i + 10) % 256))"; done)
        echo "# of 2000 that have spoken: $line" >&3
        assert_match "$line" 'sent=([0-9]+)'
        at_most "${BASH_REMATCH[1]}" 128 answered
        at_least "${BASH_REMATCH[1]}" 64 answered
        refute_arrived 10.20.99.1
        refute_arrived 198.51.100.3
        refute_arrived 10.20.200.1
        refute_arrived 10.20.0.11
}

# turn_all: one round of inbound.py's ways, each after a knock that is let in; the far end's port is 80.
turn_all() {
        local way
        : > "$SERVED"
        : > "$TEST_DIR/ways"
        background in_agent "$PYTHON" "$INBOUND" turn "$SERVED" 7300 10.20.0.7 10.20.0.7 80
        wait_for "$SERVED" '^ready'
        for way in disconnected fast repaired listener relisten; do
                [ "$way" != relisten ] || wait_for "$SERVED" '^again'
                recorder_mark agent
                knock "tcp/10.20.0.7/$AGENT4/7300" > "$TEST_DIR/knocked"
                wait_for "$SERVED" "^$way "
                echo "$way $(arrived 10.20.0.7 tcp 80 && echo arrived)" >> "$TEST_DIR/ways"
        done
        cat "$TEST_DIR/ways" "$SERVED"
}

@test "an accepted connection, and its listener, cannot be made into a way out" {
        turn_all # with nobody between, every way leads there
        assert_equal "$(grep -c ' arrived$' "$TEST_DIR/ways")" 5
        # The strongest case: every port of the agent's is open to the very host that it would like to call.
        start_daemon "$(ingress_config '[{cidr: 10.20.0.0/16}]')"
        turn_all
        assert_equal "$(grep -c ' EPERM$' "$SERVED")" 5
        run grep arrived "$TEST_DIR/ways"
        assert_equal "$status" 1
}

@test "a connection belongs to the agent that listens, whoever accepts it, and another agent steals nothing" {
        start_daemon "$(ingress_config '[{cidr: 10.20.0.0/16, ports: [7300]}]')"
        # Accepted by a process that has moved to an agent which nobody may reach: the socket has not moved.
        background in_agent "$PYTHON" "$INBOUND" inherit "$SERVED" 7300 "$CGROUP_ROOT$OTHER_CGROUP"
        wait_for "$SERVED" '^ready'
        run knock "tcp/10.20.0.7/$AGENT4/7300" "tcp/198.51.100.3/$AGENT4/7300"
        assert_equal "$(awk '{ print $2 }' <<< "$output" | tr '\n' ' ')" "open silent "
        ingress_config '[{cidr: 10.20.1.0/24, ports: [7300]}]' > /dev/null
        agentctl reload
        run knock "tcp/10.20.0.7/$AGENT4/7300"
        assert_match "$output" ' silent$'
        serve_no_more

        # Two listeners on one port: what the kernel deals out to the other agent's is not let in there.
        ingress_config '[{cidr: 10.20.0.0/16, ports: [7300]}]' > /dev/null
        agentctl reload
        background in_agent "$PYTHON" "$INBOUND" share "$TEST_DIR/mine" 7300
        background in_cgroup "$OTHER_CGROUP" agent "$PYTHON" "$INBOUND" share "$TEST_DIR/other" 7300
        wait_for "$TEST_DIR/mine" '^ready'
        wait_for "$TEST_DIR/other" '^ready'
        local i specs=()
        for i in $(seq 40); do
                specs+=("tcp/10.20.2.$i/$AGENT4/7300")
        done
        knock "${specs[@]}" > "$TEST_DIR/knocked"
        assert_match "$(cat "$TEST_DIR/other")" '^ready [0-9]+$'
        at_least "$(grep -c ' open$' "$TEST_DIR/knocked")" 5 open
        at_least "$(grep -c ' silent$' "$TEST_DIR/knocked")" 5 silent
        assert_equal "$(grep -c '^tcp 7300' "$TEST_DIR/mine")" "$(grep -c ' open$' "$TEST_DIR/knocked")"
}

@test "loopback inside the container needs no ingress rule, and has its own switch" {
        start_daemon "$(ingress_config '[]')"
        serve 7300
        local specs=(tcp/127.0.0.1/127.0.0.1/7300 udp/127.0.0.1/127.0.0.1/7300 tcp/::1/::1/7300 udp/::1/::1/7300)
        run in_agent "$PYTHON" "$INBOUND" knock "${specs[@]}"
        assert_equal "$(grep -c ' open$' <<< "$output")" 4
        # Its own other address takes a rule each way.
        run in_agent "$PYTHON" "$INBOUND" knock "tcp/$AGENT4/$AGENT4/7300"
        assert_match "$output" ' EPERM$'
        ingress_config '[]' 'loopback: deny' > /dev/null
        agentctl reload
        run in_agent "$PYTHON" "$INBOUND" knock "${specs[@]}"
        assert_equal "$(grep -c ' EPERM$' <<< "$output")" 4
}

@test "audit mode lets everybody in, and tells" {
        MODE=audit start_daemon "$(MODE=audit ingress_config '[{cidr: 10.20.0.0/16, ports: [7300]}]')"
        serve 7300
        run knock "tcp/198.51.100.3/$AGENT4/7300" "udp/198.51.100.3/$AGENT4/7300" "tcp/2001:db8:2::3/$AGENT6/7300"
        assert_equal "$(grep -c ' open$' <<< "$output")" 3
        wait_event '"type":"would_deny".*"reason":"ingress".*"proto":"tcp"'
        wait_event '"type":"would_deny".*"reason":"ingress".*"proto":"udp"'
}

@test "behind tier 3 the container's kernel is as silent: closed ports, echo requests" {
        start_daemon "$(ingress_config '[{cidr: 10.20.0.0/16, ports: [7300]}, {cidr: 10.20.5.0/24, protocol: icmp}, {cidr: "2001:db8:1::/48", protocol: icmp}]' 'required: [device_guard]')" outside
        serve 7300
        # (The recorder sees frames before the host end's program does: here the knocker is the judge.)
        knock_table <<TABLE
tcp/10.20.0.7/$AGENT4/7300 open
udp/10.20.0.7/$AGENT4/7300 open
tcp/198.51.100.3/$AGENT4/7300 silent
tcp/198.51.100.3/$AGENT4/7309 silent
udp/198.51.100.3/$AGENT4/7309 silent
tcp/10.20.0.7/$AGENT4/7309 silent
icmp/10.20.0.7/$AGENT4 silent
icmp/10.20.5.7/$AGENT4 open
icmp/2001:db8:1::7/$AGENT6 open
icmp/2001:db8:2::7/$AGENT6 silent
TABLE
}

@test "a bad ingress rule is one clear error with its place" {
        local rule message
        while IFS='|' read -r rule message; do
                file=$(ingress_config "[$rule]")
                run "$AGENTD" check --config "$file"
                [ "$status" = 2 ] || { echo "$rule: $status: $output"; false; }
                assert_match "$output" "$file:[0-9]+:[0-9]+: .*$message"
                assert_equal "$(grep -c . <<< "$output")" 1
        done <<'TABLE'
{domain: example.com, ports: [22]}|cidr
{cidr: 10.20.0.1/16}|did you mean '10.20.0.0/16'
{ports: [22]}|without 'cidr'
{cidr: 10.20.0.0/16, port: [22]}|did you mean 'ports'
{cidr: 10.20.0.0/16, ports: [0]}|expected 1 to 65535
{cidr: 10.20.0.0/16, ports: []}|name a port
{cidr: 10.20.0.0/16, protocol: sctp}|protocol
{cidr: 10.20.0.0/16, ports: [22], budget: {bytes: 1MB, per: day}}|ingress rule
{cidr: 10.20.0.0/16, ports: [22], rate: {connections: 1, per: day}}|ingress rule
{cidr: 10.20.0.0/16, except: [10.21.0.0/24]}|outside of cidr
TABLE
}
