# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash
#
# Budgets, judged by what passed the far end of the agent's link. Needs net.bash and `net_up agent host ...`.
#
# The witness is a set of the kernel's own counters on the far device (nftables, hook `ingress` of netdev): they see each
# frame before any socket or firewall of the far end, lose none, and weigh IP bytes. The devices do no segmentation for
# TCP and UDP, so that a GSO packet is on the link as the segments that it becomes. What comes back is counted where it
# arrives, on the agent's device, before the kernel's programs see it.
#
#     setup_file    net_up agent host; budget_net_up
#     setup         test_begin; far_clear
#
# Windows: the daemon's clock stands at half past an hour (budget_daemon), so that none ends during a test by chance.

SENDER=$TESTS_TOP/tests/lib/sender.py

budget_net_up() {
        gcc -shared -fPIC -o "$BATS_FILE_TMPDIR/clock.so" "$TESTS_TOP/tests/e2e/clock.c" -ldl
        local name
        FAR_DEVICES=
        for name in "${NET_CLIENTS[@]}"; do
                in_ns "$name" ethtool -K eth0 tso off tx-udp-segmentation off >/dev/null
                in_ns outside ethtool -K "$name" tso off tx-udp-segmentation off >/dev/null
                in_ns "$name" ethtool -k eth0 | grep -q '^tx-udp-segmentation: off'
                FAR_DEVICES="${FAR_DEVICES:+$FAR_DEVICES, }\"$name\""
        done
        export FAR_DEVICES
        background nsenter --net="/run/netns/$ID-outside" "$PYTHON" "$SENDER" sink > "$NET_DIR/sink"
        echo $! >> "$NET_DIR/pids"
        wait_for "$NET_DIR/sink" '^ready'
}

# --- the far end -----------------------------------------------------------------------------------------------------

# New counters. A connection that a test before left behind is ended first: what the far end still sends on it comes to
# no socket and is no agent's, and would be counted here.
far_clear() {
        in_ns agent ss -K -t -n state connected >/dev/null
        in_ns outside ss -K -t -n state connected >/dev/null
        in_ns outside nft -f - <<NFT
table netdev far
delete table netdev far
table netdev far {
        chain arrived { type filter hook ingress devices = { $FAR_DEVICES } priority -500; }
}
NFT
        in_ns agent nft -f - <<'NFT'
table netdev back
delete table netdev back
table netdev back {
        chain arrived { type filter hook ingress device "eth0" priority -500; }
}
NFT
}

# far_rule NAMESPACE TABLE NAME FIELD ADDRESS... (Many a name is a word of nft's own, hence c_.)
far_rule() {
        local ns=$1 table=$2 name=c_$3 field=$4 address
        shift 4
        {
                echo "add counter netdev $table $name"
                for address in "$@"; do
                        case $address in
                        *:*) echo "add rule netdev $table arrived ip6 $field $address counter name $name" ;;
                        *) echo "add rule netdev $table arrived ip $field $address counter name $name" ;;
                        esac
                done
        } | in_ns "$ns" nft -f -
}

# far_watch NAME ADDRESS...: counts the IP bytes that arrive there. far_watch_back: that come from there.
far_watch() {
        local name=$1
        shift
        far_rule outside far "$name" daddr "$@"
}

far_watch_back() {
        local name=$1
        shift
        far_rule agent back "$name" saddr "$@"
}

# far NAME: bytes, of both counters of that name. far_packets NAME.
far() {
        {
                in_ns outside nft -j list counters table netdev far
                in_ns agent nft -j list counters table netdev back
        } | jq -s --arg name "c_$1" --arg what "${2:-bytes}" \
                '[.[].nftables[].counter | select(.name == $name) | .[$what]] | if . == [] then error("no such counter") else add end'
}

far_packets() {
        far "$1" packets
}

far_reset() {
        in_ns outside nft reset counters table netdev far >/dev/null
        in_ns agent nft reset counters table netdev back >/dev/null
}

# --- the agent -------------------------------------------------------------------------------------------------------

# The daemon, at half past an hour whatever the hour: budget_daemon CONFIG [SECONDS LATER]. clock SECONDS: the same while
# it lives.
budget_daemon() {
        clock "${2:-0}"
        AGENTD_TEST_CLOCK=$TEST_DIR/clock LD_PRELOAD=$BATS_FILE_TMPDIR/clock.so start_daemon "$1" "${DAEMON_NS:-host}"
}

clock() {
        local real
        real=$(date +%s)
        BUDGET_CLOCK_BASE=${BUDGET_CLOCK_BASE:-$((1800 - real % 3600))}
        # A new file in place of the old one: it is never read half.
        echo $((BUDGET_CLOCK_BASE + $1)) > "$TEST_DIR/clock.new"
        mv "$TEST_DIR/clock.new" "$TEST_DIR/clock"
}

# sender WORDS...: sender.py in the agent's cgroup (AGENT_CGROUP).
sender() {
        in_agent "$PYTHON" "$SENDER" "$@"
}

# sender_start FILE WORDS...: in the background, its lines in $TEST_DIR/FILE; SENDER_PID. In the namespace SENDER_NS.
sender_start() {
        local file=$TEST_DIR/$1
        shift
        : > "$file"
        # shellcheck disable=SC2016
        background bash -c 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"' - "$CGROUP_ROOT$AGENT_CGROUP" \
                nsenter --net="/run/netns/$ID-${SENDER_NS:-agent}" "$PYTHON" "$SENDER" "$@" > "$file" 2>&1
        SENDER_PID=$!
}

# budget AGENT SCOPE FILTER: of what `agentctl budget show` prints.
budget() {
        agentctl budget show "$1" -o json | jq -e -c --arg scope "$2" ".[] | select(.scope == \$scope) | $3"
}

# until_true COMMAND...: within WAIT_SECONDS.
until_true() {
        local end=$((SECONDS + WAIT_SECONDS))
        until "$@" > "$TEST_DIR/until" 2>&1; do
                if [ "$SECONDS" -ge "$end" ]; then
                        echo "never true: $*" >&2
                        cat "$TEST_DIR/until" >&2
                        return 1
                fi
                read -r -t 0.05 <> <(:) || true
        done
}

# used_is_far AGENT SCOPE COUNTER: the ledger's used bytes are what passed, to the byte. Packets of other CPUs may still
# be on their way: the two must meet within WAIT_SECONDS.
equal_far() {
        local used counted
        used=$(budget "$1" "$2" .used)
        counted=$(far "$3")
        echo "$2 of $1: used $used, at the far end $counted"
        [ "$used" = "$counted" ]
}

used_is_far() {
        until_true equal_far "$@"
}

# at_most NUMBER LIMIT WHAT; at_least NUMBER FLOOR WHAT.
at_most() {
        [ "$1" -le "$2" ] && return 0
        echo "$3: $1 is more than $2" >&2
        return 1
}

at_least() {
        [ "$1" -ge "$2" ] && return 0
        echo "$3: $1 is less than $2" >&2
        return 1
}
