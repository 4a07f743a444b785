#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# What no hook of a cgroup sees: packet sockets, frames written by hand, devices and namespaces of the agent's own. Judged
# on the far side of the host end of the agent's veth, by tier 3.

load ../lib/net
load attack
load topology

setup_file() {
        guarded_up
        attack_build
}
teardown_file() { net_down; }
setup() {
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
}
teardown() {
        [ -z "${RESIDENT:-}" ] || kill "$RESIDENT" 2>/dev/null || true
        test_end
}

@test "no packet socket gets out, nor AF_XDP" {
        guarded_rounds packets
}

@test "no frame says more than the packet of a rule: other hosts, tags, types, resolution, trailers" {
        guarded_rounds frames
}

@test "no tunnel, no namespace below and no rewriting behind the hooks gets out" {
        guarded_rounds devices
}
