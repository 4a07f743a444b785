#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Attacks on budgets: more than there is, by being many at once or by being weighed wrongly. Judged by the kernel's counters
# at the far end (tests/lib/budget.bash): never more than the limit, and the ledger says what arrived.

load ../lib/net
load ../lib/budget
load attack

setup_file() {
        net_up agent host
        budget_net_up
        attack_build
        in_ns agent sysctl -qw net.ipv4.tcp_fastopen=0x5
}
teardown_file() { net_down; }
setup() {
        test_begin
        far_clear
        AGENT_CGROUP=$(cgroup_make one)
        SPENDERS=$("$BATS_FILE_TMPDIR/bin/spend" list)
}
teardown() { test_end; }

LIMIT=300000
TRIED=1500000

# Each spender's own place: ADDRESS of the Nth. Odd ones are IPv6. Nobody answers at connects' and fast_open's.
place() {
        local n=0 name
        for name in $SPENDERS; do
                n=$((n + 1))
                [ "$name" != "$1" ] || break
        done
        if [ $((n % 2)) = 1 ]; then echo "2001:db8:1:$n::1"; else echo "10.20.$n.1"; fi
}

prefix() {
        case $1 in *:*) echo "${1%::1}::/64" ;; *) echo "${1%.1}.0/24" ;; esac
}

# Every spender at once: spend_all FUNCTION, which enters the agent or does not.
spend_all() {
        local name spenders=()
        for name in $SPENDERS; do
                "$@" "$BATS_FILE_TMPDIR/bin/spend" "$name" "$(place "$name")" "$TRIED" > "$TEST_DIR/spend.$name" 2>&1 3>&- < /dev/null &
                spenders+=($!)
        done
        wait "${spenders[@]}" || true
}

# A counter for each. Nobody answers connects and fast_open: theirs is counted, then dropped.
watch_all() {
        local name family verdict
        for name in $SPENDERS; do
                case $(place "$name") in *:*) family=ip6 ;; *) family=ip ;; esac
                case $name in connects | fast_open) verdict=drop ;; *) verdict= ;; esac
                echo "add counter netdev far c_$name"
                echo "add rule netdev far arrived $family daddr $(place "$name") counter name c_$name $verdict"
        done | in_ns outside nft -f -
}

# "NAME BYTES" of all counters; "NAME USED" of all ledgers.
arrived_all() {
        in_ns outside nft -j list counters table netdev far |
                jq -r '.nftables[].counter | select(. != null) | "\(.name | ltrimstr("c_")) \(.bytes)"' | LC_ALL=C sort > "$TEST_DIR/arrived"
}

equal_all() {
        arrived_all
        agentctl budget show one -o json | jq -r '.[] | "\(.scope | rtrimstr("/total")) \(.used)"' | LC_ALL=C sort > "$TEST_DIR/used"
        # What the kernel answers for a closed connection, without data, is seen by tier 3 only.
        diff <(grep -v '^closing ' "$TEST_DIR/used") <(grep -v '^closing ' "$TEST_DIR/arrived")
}

rules() {
        local name
        for name in $SPENDERS; do
                echo "      - {name: $name, cidr: \"$(prefix "$(place "$name")")\", protocol: any$1}"
        done
}

@test "no spender gets more than its rule's budget, all of them at once" {
        status_all=0
        watch_all
        spend_all in_ns agent
        arrived_all
        while read -r name bytes; do
                floor=$LIMIT
                # A thousand SYNs, with what is sent again.
                [ "$name" != connects ] || floor=60000
                at_least "$bytes" $((floor + 1)) "void: without agentd, $name" || status_all=1
        done < "$TEST_DIR/arrived"
        assert_equal "$(wc -l < "$TEST_DIR/arrived")" "$(wc -w <<< "$SPENDERS")"
        assert_equal "$status_all" 0

        connects_limit=40000
        {
                echo "policies:"
                echo "  web:"
                echo "    egress:"
                rules ", budget: {bytes: $LIMIT, per: total}" | sed "/name: connects,/s/bytes: $LIMIT/bytes: $connects_limit/"
                echo "agents:"
                echo "  one: {cgroup: $AGENT_CGROUP, policy: web}"
        } > "$TEST_DIR/body"
        budget_daemon "$(config daemon.yaml < "$TEST_DIR/body")"
        far_clear
        watch_all
        spend_all in_agent
        until_true equal_all
        while read -r name bytes; do
                limit=$LIMIT
                case $name in connects) limit=$connects_limit ;; closing) limit=$((LIMIT + LIMIT / 50)) ;; esac
                at_most "$bytes" "$limit" "$name" || status_all=1
                # It was the limit that stopped it.
                at_least "$bytes" $((limit * 3 / 4)) "$name" || status_all=1
        done < "$TEST_DIR/arrived"
        assert_equal "$status_all" 0
}

tier3_present() {
        agentctl status | grep -q 'tiers 1,2,3'
}

@test "with tier 3 the agent's budget holds to the byte against all of them, while the operator reloads and grants" {
        # The daemon sees the host end of the agent's veth.
        DAEMON_NS=outside
        background in_agent tail -f /dev/null
        sum=600000
        {
                echo "policies:"
                echo "  web:"
                echo "    egress:"
                rules ""
                echo "    budget: [{bytes: $sum, per: total}]"
                echo "agents:"
                echo "  one: {cgroup: $AGENT_CGROUP, policy: web}"
        } > "$TEST_DIR/body"
        file=$(config daemon.yaml < "$TEST_DIR/body")
        sed 's/per: total}\]/per: total}, {bytes: 700000, per: day}]/' "$file" > "$TEST_DIR/other.yaml"
        cp "$file" "$TEST_DIR/first.yaml"
        budget_daemon "$file"
        until_true tier3_present
        far_clear
        # shellcheck disable=SC2046
        far_watch sum $(for name in $SPENDERS; do place "$name"; done)
        spend_all in_agent 3>&- &
        spending=$!
        for round in 1 2 3 4 5 6 7 8; do
                # A ledger comes and goes beside the one that counts; the policy is published anew each time.
                if [ $((round % 2)) = 1 ]; then which=other; else which=first; fi
                cp "$TEST_DIR/$which.yaml" "$file.new" && mv "$file.new" "$file"
                agentctl reload > /dev/null
                [ "$round" != 4 ] || agentctl budget grant one agent/total 100000 > /dev/null
        done
        wait "$spending"
        used_is_far one agent/total sum
        at_most "$(far sum)" $((sum + 100000)) "all together, with a grant of 100000"
        at_least "$(far sum)" $((sum - 1500)) "all together"
}
