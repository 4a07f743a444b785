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
