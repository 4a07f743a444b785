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
# Only the first needs a world.
setup() {
        [ "$BATS_TEST_NUMBER" = 1 ] || return 0
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
}
teardown() {
        [ -z "${RESIDENT:-}" ] || kill "$RESIDENT" 2>/dev/null || true
        test_end
}

@test "every technique is sent, unconfined and behind each tier" {
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

@test "the agent's own kernel answers nobody outside for it" {
        attack_judge reflected
}

@test "no denied address within an allowed one, and no metadata address, is reached" {
        attack_judge embedded
}

@test "docs/attacks.md tells what this run has seen" {
        "$ATTACKS/rounds.py" compare "$TESTS_TOP/docs/attacks.md" "$ATTACK_RESULTS"/*.tsv >&3
}
