#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Every technique of lists/, at three privileges: unconfined, behind each tier alone, behind all. Judged on the far side of
# the host end of the agent's veth. The first test sends, the others judge what arrived.

load ../lib/net
load attack
load topology

setup_file() {
        attack_build
        guarded_up
}
teardown_file() { net_down; }
# Those that judge need no world.
setup() {
        case $BATS_TEST_DESCRIPTION in "no "* | "docs/"*) return 0 ;; esac
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
}
teardown() {
        [ -z "${RESIDENT:-}" ] || kill "$RESIDENT" 2>/dev/null || true
        test_end
}

@test "every technique is sent, unconfined and behind each tier" {
        rm -rf "$ATTACK_RESULTS" # what an older run has left tells nothing
        guarded_rounds
        event '.type == "deny" and .agent == "one"' > /dev/null
}

@test "no stream gets out: Fast Open, reconnect, multipath, mapped, repaired, accepted sockets and the like" {
        attack_judge streams
}

@test "no datagram gets out: changing peers, cork, segments, fragments, splice, broadcast and multicast" {
        attack_judge datagrams
}

@test "no option takes a packet elsewhere, forges its source or is data itself" {
        attack_judge options
}

@test "no join of a multicast group is reported: its address would be the message" {
        attack_judge joins
}

@test "no UDP-Lite, no ping socket and no other transport gets out, even where TCP and UDP may" {
        attack_judge transports
}

@test "io_uring is no way around: sockets, messages, worker threads, a polling thread" {
        attack_judge uring
}

@test "port 53 of a server is closed to every technique, allowed address or not" {
        attack_judge names
}

@test "no raw socket gets out, to a forbidden destination or an allowed one" {
        attack_judge raw
}

@test "no packet socket gets out, nor AF_XDP" {
        attack_judge packets
}

@test "no frame says more than the packet of a rule: other hosts, tags, types, resolution, trailers" {
        attack_judge frames
}

@test "no tunnel, no namespace below and no rewriting behind the hooks gets out" {
        attack_judge devices
}

@test "no other cgroup, no socket of somebody else's gets out" {
        attack_judge elsewhere
}

@test "no answer of the agent's own kernel gets out to a forged source" {
        attack_judge reflected
}

@test "no denied address within an allowed one, and no metadata address, is reached" {
        attack_judge embedded
}

@test "docs/attacks.md tells what this run has seen" {
        "$ATTACKS/rounds.py" compare "$TESTS_TOP/docs/attacks.md" "$ATTACK_RESULTS"/*.tsv >&3
}

# sent_from COMMAND...: a frame and a datagram to the forbidden address, by that way into a namespace.
sent_from() {
        wc -l < "$NET_DIR/packets" > "$NET_DIR/mark"
        "$@" "$BATS_FILE_TMPDIR/bin/packet" packet_raw 203.0.113.31 9000 10.20.0.1
        "$@" "$BATS_FILE_TMPDIR/bin/udp" udp 203.0.113.31 9000 10.20.0.1
        "$@" "$BATS_FILE_TMPDIR/bin/packet" packet_raw 2001:db8:bad::31 9000 2001:db8:1::1
}

forbidden_arrived() {
        run grep -E 'dst=(203\.0\.113\.31|2001:db8:bad::31) ' <(tail -n +"$(($(cat "$NET_DIR/mark") + 1))" "$NET_DIR/packets")
}

@test "more addresses than tier 3 knows, and a link that moves into a namespace below, are no way past it" {
        sent_from in_ns agent
        sync_recorder agent
        forbidden_arrived
        [ "$(wc -l <<< "$output")" -ge 3 ]
        guarded_start
        for n in {1..250}; do
                echo "addr add 10.201.1.$n/32 dev eth0"
                echo "addr add 2001:db8:201::$n/128 dev eth0 nodad"
        done > "$TEST_DIR/addresses"
        in_agent ip -batch "$TEST_DIR/addresses"
        # When the daemon has looked again, it says that it cannot tell them all.
        for _ in {1..30}; do
                agentctl status > "$TEST_DIR/status"
                ! grep -q 'not 3' "$TEST_DIR/status" || break
        done
        cat "$TEST_DIR/status"
        sent_from in_agent
        sync_recorder agent
        forbidden_arrived
        assert_equal "$output" ''
        # The link in a namespace of its own, with its addresses.
        # shellcheck disable=SC2016
        background in_agent unshare -n bash -c 'echo $$ > "$1" && exec tail -f /dev/null' - "$TEST_DIR/below"
        wait_for "$TEST_DIR/below" .
        below=$(cat "$TEST_DIR/below")
        in_agent ip link set eth0 netns "$below"
        nsenter --net="/proc/$below/ns/net" ip -batch - <<BATCH
addr add 10.200.1.20/24 dev eth0
addr add 2001:db8:200:1::20/64 dev eth0 nodad
link set eth0 up
route add default via $GATEWAY4
route add default via $GATEWAY6
BATCH
        for _ in 1 2 3; do agentctl status; done
        sent_from in_cgroup "$AGENT_CGROUP" agent nsenter --net="/proc/$below/ns/net"
        # A marker of nobody, from below: the witness is alive.
        nsenter --net="/proc/$below/ns/net" bash -c "echo marker:below > /dev/udp/$GATEWAY4/9"
        wait_for "$NET_DIR/packets" 'marker=below'
        forbidden_arrived
        assert_equal "$output" ''
}
