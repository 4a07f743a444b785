#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# What a daemon has attached, in a minute of emulation: a socket from before is judged, a name opens its address and no other.

load ../tests/lib/net

setup_file() { net_up; }
teardown_file() { net_down; }
setup() { test_begin; }
teardown() { test_end; }

@test "a socket from before is judged by a daemon's programs, and a name opens its address and no other" {
        AGENT_CGROUP=$(cgroup_make one)
        file=$(config daemon.yaml <<YAML
policies: {main: {egress: [{cidr: 10.20.0.0/16}, {domain: four.example.test}]}}
agents: {one: {cgroup: $AGENT_CGROUP, policy: main}}
YAML
        )
        # A socket from before: no system call of connecting is left to refuse, only its packets.
        mkfifo "$TEST_DIR/go"
        # shellcheck disable=SC2016
        background in_agent "$PYTHON" -c '
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("203.0.113.9", 9000))
open(sys.argv[2], "w").write("connected\n")
open(sys.argv[1]).read()
try:
    sock.send(b"after attach")
except OSError:
    pass
open(sys.argv[3], "w").write("sent\n")
' "$TEST_DIR/go" "$TEST_DIR/connected" "$TEST_DIR/sent"
        wait_for "$TEST_DIR/connected" connected
        start_daemon "$file"
        recorder_mark agent
        echo go > "$TEST_DIR/go"
        wait_for "$TEST_DIR/sent" sent
        refute_arrived 203.0.113.9
        in_agent dig +time=20 +tries=1 four.example.test +short | grep -q -x 198.51.100.16
        in_agent curl -s -o /dev/null --max-time 30 --resolve four.example.test:80:198.51.100.16 http://four.example.test/
        run in_agent curl -s -o /dev/null --max-time 5 http://198.51.100.17/
        [ "$status" -ne 0 ]
        refute_arrived 198.51.100.17
}
