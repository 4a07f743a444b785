#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Events hold the contract's schema, and the audit mode lets through what it reports.

load ../lib/net

setup_file() { net_up; }
teardown_file() { net_down; }
setup() {
        test_begin
        # shellcheck disable=SC2034
        CONFIG=$(config events.yaml <<'YAML'
policies:
  main:
    egress:
      - {name: db, cidr: 10.20.0.0/16, ports: [5432]}
      - {domain: www.example.test}
    deny:
      - {cidr: 10.20.1.0/24}
YAML
        )
}
teardown() { test_end; }

# Every field of the contract with its type; "field:types", null where the contract's example allows it.
SCHEMA='
def field($name; $types): if has($name) and ([.[$name] | type] | inside($types)) then empty else "\($name)=\(.[$name])" end;
[ field("v"; ["number"]), field("time"; ["string"]), field("seq"; ["number"]), field("type"; ["string"]),
  field("agent"; ["string"]), field("policy"; ["string", "null"]), field("generation"; ["number", "null"]),
  field("mode"; ["string", "null"]), field("reason"; ["string", "null"]), field("hook"; ["string", "null"]),
  field("rule"; ["string", "null"]), field("direction"; ["string", "null"]), field("proto"; ["string", "null"]),
  field("src"; ["object", "null"]), field("dst"; ["object", "null"]), field("process"; ["object", "null"]),
  field("cgroup_id"; ["number"]), field("flow"; ["string", "null"]), field("bytes"; ["number"]),
  field("count"; ["number"]), field("lost_before"; ["number"]),
  (if .v == 1 then empty else "v" end),
  (if (.time | test("^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{9}Z$")) then empty else "time" end),
  (if (.type | IN("deny", "would_deny", "dns", "budget", "learn", "drift", "lifecycle", "audit")) then empty else "type" end),
  (if .reason == null or (.reason | IN("no_rule", "deny_rule", "budget_exhausted", "rate_exceeded", "protocol", "raw_socket",
     "packet_socket", "metadata", "loopback", "ingress", "fragment", "malformed", "name_not_allowed", "private_address",
     "expired", "quarantine", "no_policy", "sni_mismatch", "unix_socket")) then empty else "reason" end),
  (if .flow == null or (.flow | test("^[0-9a-f]{16}$")) then empty else "flow" end),
  (if .mode == null or (.mode | IN("enforce", "audit")) then empty else "mode" end)
] | select(length > 0)'

@test "every line is one JSON object with every field of the contract" {
        agentd_run --config "$CONFIG" -- bash -c '
                curl -s -m 3 http://203.0.113.9/
                curl -s -m 3 http://[2001:db8:bad::9]/
                curl -s -m 3 http://10.20.1.9:5432/
                curl -s -m 3 http://169.254.169.254/
                curl -s -m 3 http://evil.example/
                curl -s -m 3 http://www.example.test/
                echo x > /dev/udp/203.0.113.9/9000
                true' > /dev/null 2>&1
        [ "$(wc -l < "$EVENTS")" -ge 6 ]
        while IFS= read -r line; do
                jq -e . <<< "$line" >/dev/null
        done < "$EVENTS"
        run jq -c "$SCHEMA" "$EVENTS"
        assert_equal "$output" ''
        # seq rises, without holes, and never repeats.
        jq -s -e '[.[].seq] | . == (sort | unique) and .[-1] - .[0] == length - 1' "$EVENTS"
}

@test "a denied connect names the process, the sockets and the hook" {
        # The process lives until it has been told of: exe is read from /proc.
        : > "$EVENTS"
        chmod 0644 "$EVENTS"
        agentd_run --config "$CONFIG" --user nobody -- "$PYTHON" -c '
import os, select, socket, sys, time
try:
    socket.create_connection(("203.0.113.9", 443), 3)
except PermissionError:
    print(os.getpid(), flush=True)
end = time.monotonic() + 10
while "203.0.113.9" not in open(sys.argv[1]).read() and time.monotonic() < end:
    select.select([], [], [], 0.02)
' "$EVENTS" > "$TEST_DIR/pid" 2>"$TEST_DIR/stderr" || { cat "$TEST_DIR/stderr"; return 1; }
        pid=$(cat "$TEST_DIR/pid")
        event '.type == "deny" and .dst == {"ip": "203.0.113.9", "port": 443}' > "$TEST_DIR/event"
        assert_equal "$(wc -l < "$TEST_DIR/event")" 1
        jq -e --argjson pid "$pid" '.process.pid == $pid and .process.tid > 0 and .process.uid == 65534
                and (.process.comm | test("^python3")) and (.process.exe | test("/python3"))' "$TEST_DIR/event"
        jq -e '.reason == "no_rule" and .hook == "connect4" and .rule == null and .direction == "egress" and .proto == "tcp"
                and .mode == "enforce" and .policy == "main" and .generation >= 1 and .count == 1 and .lost_before == 0
                and .cgroup_id > 0' "$TEST_DIR/event"
}

@test "IPv6, UDP, ICMP and deny rules are told apart" {
        agentd_run --config "$CONFIG" -- bash -c '
                curl -s -m 3 http://[2001:db8:bad::9]/
                echo x > /dev/udp/203.0.113.9/9000
                curl -s -m 3 http://10.20.1.9:5432/
                /usr/bin/python3 '"$TESTS_TOP"'/tests/lib/probe.py icmp/192.0.2.7
                true' > /dev/null 2>&1
        event '.type == "deny" and .proto == "tcp" and .dst.ip == "2001:db8:bad::9" and .hook == "connect6"'
        event '.type == "deny" and .proto == "udp" and .dst.ip == "203.0.113.9" and .dst.port == 9000'
        event '.type == "deny" and .reason == "deny_rule" and .dst.ip == "10.20.1.9" and .rule == "main#deny1"'
        event '.type == "deny" and .proto == "icmp"'
}

@test "repeats within a second are one event with a count, and none is lost" {
        # shellcheck disable=SC2016
        agentd_run --config "$CONFIG" -- "$PYTHON" -c '
import socket
for n in range(500):
    sock = socket.socket()
    try:
        sock.connect(("203.0.113.9", 4444))
    except PermissionError:
        pass
    sock.close()
' > /dev/null 2> "$TEST_DIR/stderr"
        jq -s -e '[.[] | select(.type == "deny" and .dst.port == 4444)] | (map(.count) | add) + (map(.lost_before) | add) == 500 and length <= 5' "$EVENTS"
}

@test "a name refused is a dns event, an address withheld names the address" {
        agentd_run --config "$CONFIG" -- bash -c 'getent ahosts evil.example; true' > /dev/null 2>&1
        event '.type == "dns" and .reason == "name_not_allowed" and .dst.name == "evil.example" and .agent != null'
}

@test "an allowed connection by a learned name makes no deny event" {
        agentd_run --config "$CONFIG" -- curl -sS -m 5 http://www.example.test/ > /dev/null
        run event '.type == "deny"'
        assert_equal "$output" ''
}

@test "audit mode lets traffic through and reports what would be denied" {
        file=$(config audit.yaml <<'YAML'
policies:
  main:
    mode: audit
    egress:
      - cidr: 10.20.0.0/16
YAML
        )
        agentd_run --config "$file" -- bash -c '
                curl -sS -m 5 http://203.0.113.9/
                curl -sS -m 5 http://10.20.0.7/
                curl -sS -m 5 http://evil.example/
                /usr/bin/python3 '"$TESTS_TOP"'/tests/lib/probe.py udp/203.0.113.9/8000 icmp/192.0.2.7' > "$TEST_DIR/out"
        assert_equal "$(grep -c served "$TEST_DIR/out")" 3
        assert_equal "$(grep -c ' ok$' "$TEST_DIR/out")" 2
        assert_arrived 203.0.113.9 tcp 80
        assert_arrived 203.0.113.9 udp 8000
        event '.type == "would_deny" and .mode == "audit" and .reason == "no_rule" and .dst.ip == "203.0.113.9" and .proto == "tcp"'
        event '.type == "would_deny" and .proto == "udp" and .dst.port == 8000'
        event '.type == "would_deny" and .reason == "name_not_allowed" and .dst.name == "evil.example"'
        run event '.dst.ip == "10.20.0.7" and (.type == "deny" or .type == "would_deny")'
        assert_equal "$output" ''
        run event '.type == "deny"'
        assert_equal "$output" ''
}
