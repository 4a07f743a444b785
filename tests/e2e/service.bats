#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# agentd under a service manager (tests/lib/notify.py): what it is told, and when. The units themselves run in
# tests/vm/systemd.bats.

load ../lib/net
load ../lib/judge

setup_file() { net_up agent host; }
teardown_file() { net_down; }
setup() {
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
}
teardown() {
        unset WATCHDOG_USEC
        [ -z "${EXCLUSIVE:-}" ] || exclusive detach
        test_end
}

exclusive() {
        "$PYTHON" "$TESTS_TOP/tests/lib/exclusive.py" "$1" "$CGROUP_ROOT$AGENT_CGROUP"
        EXCLUSIVE=$([ "$1" = detach ] || echo yes)
}

service_config() {
        config "${1:-service.yaml}" <<YAML
policies:
  web:
    egress:
      - {name: web, cidr: 10.20.0.0/16, ports: [${2:-80}]}
      - {domain: www.example.test, ports: [80]}
agents:
  claude-1:
    cgroup: $AGENT_CGROUP
    policy: web
YAML
}

# daemon_begin CONFIG: as start_daemon, but returns when it has begun to talk.
daemon_begin() {
        : > "$TEST_DIR/notify"
        background nsenter --net="/run/netns/$ID-host" "$PYTHON" "$TESTS_TOP/tests/lib/notify.py" "$TEST_DIR/notify" \
                "$AGENTD" serve --config "$1" >> "$TEST_DIR/daemon.log" 2>&1
        NOTIFIER=$!
        wait_for "$TEST_DIR/notify" 'STATUS=|EXITED='
        DAEMON=$(sed -n 's/^PID=//p' "$TEST_DIR/notify")
}

@test "ready means that every agent is enforced: one that cannot be keeps it back, and the status says which" {
        exclusive attach
        daemon_begin "$(service_config)"
        wait_for "$TEST_DIR/notify" "^STATUS=1 agents are not enforced: 'claude-1': "
        # It has looked again (and would have told) by the time it answers.
        agentctl status >/dev/null || true
        run grep -c '^READY=1' "$TEST_DIR/notify"
        assert_equal "$output" 0
        exclusive detach
        wait_for "$TEST_DIR/notify" '^READY=1'
        grep -q '^STATUS=Enforcing 1 agents and 0 guards' "$TEST_DIR/notify"
        judge_table in_agent <<'TABLE'
tcp/10.20.0.7/80         ok
tcp/10.20.0.7/443        denied
TABLE
}

@test "a probe that is let through keeps ready back, whatever the links look like" {
        local fault=$TEST_DIR/fault.so
        gcc -shared -fPIC -o "$fault" "$TESTS_TOP/tests/e2e/fault.c" -ldl
        mkdir "$TEST_DIR/faults"
        cgroup_make elsewhere
        echo "$CGROUP_ROOT/$TEST_CGROUP/elsewhere" > "$TEST_DIR/faults/misplaced"
        AGENTD_TEST_FAULTS=$TEST_DIR/faults LD_PRELOAD=$fault daemon_begin "$(service_config)"
        wait_for "$TEST_DIR/notify" "^STATUS=agent 'claude-1' is not enforced: .*let through"
        agentctl status >/dev/null
        run grep -c '^READY=1' "$TEST_DIR/notify"
        assert_equal "$output" 0
}

@test "a reload is told from its beginning to its end, also one that is refused" {
        file=$(service_config)
        start_daemon "$file"
        service_config service.yaml 443 >/dev/null
        agentctl reload
        wait_for "$TEST_DIR/notify" 'policy generation [0-9]+$'
        echo 'policies: {web: {egres: []}}' >> "$file"
        run agentctl reload
        assert_equal "$status" 2
        assert_equal "$(grep -oE '^(RELOADING|READY)=1' "$TEST_DIR/notify" | paste -sd ' ')" \
                'READY=1 RELOADING=1 READY=1 RELOADING=1 READY=1'
        grep -qE '^MONOTONIC_USEC=[0-9]+$' "$TEST_DIR/notify"
}

@test "the status follows the agents" {
        start_daemon "$(service_config)"
        wait_for "$TEST_DIR/notify" '^STATUS=Enforcing 1 agents'
        cgroup_make two
        agentctl attach second --cgroup "/$TEST_CGROUP/two" --policy web
        wait_for "$TEST_DIR/notify" '^STATUS=Enforcing 2 agents'
        agentctl detach second
        agentctl detach claude-1
        wait_for "$TEST_DIR/notify" '^STATUS=Enforcing 0 agents'
        daemon_stop
        grep -q '^STOPPING=1' "$TEST_DIR/notify"
}

@test "signs of life come while the loop turns, and stop with it" {
        export WATCHDOG_USEC=600000
        start_daemon "$(service_config)"
        wait_count "$TEST_DIR/notify" '^WATCHDOG=1' 5
        refute_match "$(cat "$TEST_DIR/notify")" 'WATCHDOG=missed'
        kill -STOP "$DAEMON"
        wait_for "$TEST_DIR/notify" '^WATCHDOG=missed'
        # Nobody has to be there for what is enforced.
        judge_table in_agent <<'TABLE'
tcp/10.20.0.7/80         ok
tcp/10.20.0.7/443        denied
TABLE
        kill -CONT "$DAEMON"
        wait_count "$TEST_DIR/notify" '^WATCHDOG=1' 8
}

@test "a DNS worker that was stopped is noticed and replaced" {
        WAIT_SECONDS=40
        start_daemon "$(service_config)"
        in_agent curl -sS -m 5 http://www.example.test/
        kill -STOP "$(pgrep -P "$DAEMON" -f dns-worker)"
        wait_event 'the DNS worker died'
        in_agent curl -sS -m 20 http://www.example.test/
}
