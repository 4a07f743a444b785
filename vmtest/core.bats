#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The main job in half a minute, for kernels under emulation: allowed traffic flows, all else never arrives. vmtest/suite also
# runs it against programs that are attached beside the mark (vmtest/faulty), where it must fail.

load ../tests/lib/net
load ../tests/lib/judge

setup_file() { net_up; }
teardown_file() { net_down; }
setup() { test_begin; }
teardown() { test_end; }

@test "of streams, datagrams and pings only what a rule allows arrives" {
        file=$(config core.yaml <<< 'policies: {main: {egress: [{cidr: 10.20.0.0/16}, {cidr: 2001:db8:1::/48, ports: [80, 8000]}, {cidr: 192.0.2.7, protocol: icmp}]}}')
        judge_table confined "$file" <<'TABLE'
tcp/10.20.0.7/5432       ok
udp/2001:db8:1::7/8000   ok
tcp/203.0.113.9/80       denied
tcp/2001:db8:2::7/80     denied
udp/203.0.113.9/8000     denied
icmp/192.0.2.7           ok
icmp/192.0.2.9           denied
TABLE
}
