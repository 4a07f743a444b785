#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Quarantine: everything is denied from its answer on, live connections end, and it outlives reload and restart.

load ../lib/net
load ../lib/judge

setup_file() { net_up; }
teardown_file() { net_down; }
setup() {
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
        CONFIG=$(config quarantine.yaml <<YAML
policies:
  web:
    egress:
      - {cidr: 10.20.0.0/16}
      - {domain: www.example.test, ports: [80]}
  watched:
    mode: audit
agents:
  claude-1:
    cgroup: $AGENT_CGROUP
    policy: ${POLICY:-web}
YAML
        )
}
teardown() { test_end; }

all_denied() {
        judge_table in_agent <<'TABLE'
tcp/10.20.0.7/80         denied
udp/10.20.0.7/8000       denied
tcp/203.0.113.9/80       denied
TABLE
        run in_agent getent ahosts www.example.test
        [ "$status" -ne 0 ]
}

@test "quarantine denies what the policy allows, release gives it back" {
        start_daemon "$CONFIG"
        in_agent curl -sS -m 5 http://www.example.test/
        agentctl quarantine claude-1
        all_denied
        run agentctl status -o json
        jq -e '.agents[0].detail | test("quarantined")' <<< "$output"
        wait_event '"reason":"quarantine"'
        agentctl release claude-1
        in_agent curl -sS -m 5 http://www.example.test/
        judge_table in_agent <<'TABLE'
tcp/10.20.0.7/80         ok
tcp/203.0.113.9/80       denied
TABLE
}

@test "quarantine holds over a reload and over the death of the daemon" {
        start_daemon "$CONFIG"
        agentctl quarantine claude-1
        agentctl reload
        all_denied
        daemon_stop KILL
        judge_table in_agent <<'TABLE'
tcp/10.20.0.7/80         denied
TABLE
        start_daemon "$CONFIG"
        all_denied
        agentctl release claude-1
        judge_table in_agent <<'TABLE'
tcp/10.20.0.7/80         ok
TABLE
}

@test "a live connection ends with an error, not with a hang" {
        start_daemon "$CONFIG"
        # The client tells when it is connected, then waits for the end of the connection.
        in_agent python3 -c '
import socket, sys
s = socket.create_connection(("10.20.0.7", 80), 5)
print("connected", flush=True)
s.settimeout(20)
try:
    data = s.recv(1)
    print("closed" if not data else "data", flush=True)
except OSError as error:
    print("error", error.errno, flush=True)
' > "$TEST_DIR/client" &
        client=$!
        wait_for "$TEST_DIR/client" connected
        agentctl quarantine claude-1
        wait $client
        run cat "$TEST_DIR/client"
        assert_match "$output" "error 103"
}

@test "quarantine denies in audit mode too" {
        sed -i 's/policy: web/policy: watched/' "$CONFIG"
        start_daemon "$CONFIG"
        judge_table in_agent <<'TABLE'
tcp/203.0.113.9/80       ok
TABLE
        agentctl quarantine claude-1
        all_denied
}

@test "an unknown agent is an error" {
        start_daemon "$CONFIG"
        run agentctl quarantine nobody
        assert_equal "$status" 1
        assert_match "$output" "no agent 'nobody'"
}
