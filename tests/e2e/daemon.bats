#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The daemon and its client: attach to uninstall, reload, death and return, judged at the far end.

load ../lib/net
load ../lib/judge

setup_file() { net_up agent host other; }
teardown_file() { net_down; }
setup() {
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
        OTHER_CGROUP=$(cgroup_make two)
}
teardown() { test_end; }

# in_other COMMAND...: a second agent, in the namespace of the first.
in_other() {
        in_cgroup "$OTHER_CGROUP" agent "$@"
}

daemon_config() {
        config "${1:-daemon.yaml}" <<YAML
policies:
  web:
    egress:
      - {name: web, cidr: 10.20.0.0/16, ports: [80]}
      - {domain: www.example.test, ports: [80]}
      - {domain: "*.wild.test", ports: [80]}
  none: {}
  mail:
    egress:
      - {cidr: 192.0.2.0/24}
agents:
  claude-1:
    cgroup: $AGENT_CGROUP
    policy: web
YAML
}


@test "an agent of the configuration is enforced when the daemon is ready" {
        start_daemon "$(daemon_config)"
        judge_table in_agent <<'TABLE'
tcp/10.20.0.7/80         ok
tcp/10.20.0.7/443        denied
tcp/203.0.113.9/80       denied
udp/203.0.113.9/8000     denied
tcp/2001:db8:1::7/80     denied
TABLE
        in_agent curl -sS -m 5 http://www.example.test/
        wait_event '"type":"deny".*203\.0\.113\.9'
        event '.type == "deny" and .agent == "claude-1" and .policy == "web" and .dst.ip == "203.0.113.9"'
}

@test "status, health, agents and policy show tell what is enforced" {
        start_daemon "$(daemon_config)"
        in_agent curl -s -m 5 http://203.0.113.9/ || true
        run agentctl status
        assert_equal "$status" 0
        assert_match "$output" 'claude-1'
        assert_match "$output" 'enforcing \(verified [0-9]+s ago\)'
        agentctl status -o json | jq -e '.agents[0] | .name == "claude-1" and .mode == "enforce" and .policy == "web"
                and .state == "enforcing" and .generation >= 1'
        agentctl health
        agentctl agents
        agentctl agents -o json | jq -e '.agents[] | select(.name == "claude-1") | .counters.denied.total >= 1
                and .counters.denied.by_reason.no_rule >= 1'
        agentctl policy list
        agentctl policy list -o json | jq -e '[.policies[].name] | sort == ["mail", "none", "web"]'
        run agentctl policy show web
        assert_match "$output" '10\.20\.0\.0/16'
        agentctl policy show web -o json | jq -e '.rules[] | select(.id == "web") | .cidr == "10.20.0.0/16"'
        agentctl doctor
        agentctl doctor -o json | jq -e '.enforceable == true'
}

@test "attach returns once enforcement holds, wait waits, detach ends it" {
        start_daemon "$(daemon_config)"
        run agentctl wait late --timeout 1s
        assert_equal "$status" 1
        agentctl attach late --cgroup "$OTHER_CGROUP" --policy mail
        agentctl wait late --timeout 5s
        judge_table in_other <<'TABLE'
tcp/192.0.2.7/80         ok
tcp/10.20.0.7/80         denied
TABLE
        agentctl detach late
        run agentctl wait late --timeout 1s
        assert_equal "$status" 1
        in_other curl -sS -m 5 http://10.20.0.7/
        in_agent curl -s -m 5 http://192.0.2.7/ && return 1
        for arguments in 'claude-1 --cgroup '"$OTHER_CGROUP"' --policy mail' 'x --cgroup /no/such/group --policy mail' \
                         'x --cgroup '"$OTHER_CGROUP"' --policy nothing' 'x --cgroup / --policy mail'; do
                # shellcheck disable=SC2086
                run agentctl attach $arguments
                assert_match "$status" '^[12]$'
                assert_match "$output" '^agentctl: '
        done
}

@test "attach --mode audit lets through and reports" {
        start_daemon "$(daemon_config)"
        agentctl attach watched --cgroup "$OTHER_CGROUP" --policy none --mode audit
        in_other curl -sS -m 5 http://203.0.113.9/
        wait_event '"type":"would_deny"'
        event '.type == "would_deny" and .agent == "watched" and .mode == "audit"'
}

@test "the first look-up that a namespace ever sees is answered" {
        start_daemon "$(daemon_config)"
        # New agents: no listener waits for them. glibc sends A and AAAA at once, from a socket with IP_RECVERR.
        for n in 1 2 3 4 5; do
                path=$(cgroup_make "fresh$n")
                agentctl attach "fresh$n" --cgroup "$path" --policy web > /dev/null
                in_cgroup "$path" agent getent ahosts "first$n.wild.test" || { echo "look-up $n was lost"; return 1; }
        done
}

@test "explain names the rule and its place, and agrees with the kernel" {
        file=$(daemon_config)
        start_daemon "$file"
        run agentctl explain claude-1 10.20.0.7:80
        assert_equal "$status" 0
        assert_match "$output" 'web'
        assert_match "$output" 'daemon\.yaml:[0-9]+'
        run agentctl explain claude-1 203.0.113.9:443/tcp
        assert_equal "$status" 1
        assert_match "$output" 'no_rule'
        # A learned name is part of the answer.
        in_agent curl -sS -m 5 http://x.wild.test/
        run agentctl explain claude-1 198.51.100.20:80
        assert_equal "$status" 0
        assert_match "$output" 'wild\.test'
        run agentctl explain nobody-there 10.20.0.7
        assert_match "$status" '^[12]$'
}

@test "dns lists what was learned, for the agent that asked" {
        start_daemon "$(daemon_config)"
        agentctl attach two --cgroup "$OTHER_CGROUP" --policy web
        in_agent getent ahosts y.wild.test
        agentctl dns claude-1
        agentctl dns claude-1 -o json | jq -e '.names[] | select(.name == "y.wild.test") | .addresses[] | select(.ip == "198.51.100.20") | .expires_in_s > 0'
        agentctl dns two -o json | jq -e '[.names[] | select(.name == "y.wild.test")] == []'
        # What one agent has learned opens nothing for another.
        recorder_mark agent
        run in_other curl -s -m 5 http://198.51.100.20/
        assert_equal "$status" 7
        refute_arrived 198.51.100.20
        in_agent curl -sS -m 5 http://198.51.100.20/
}

@test "events -f streams, and filters hold" {
        start_daemon "$(daemon_config)"
        : > "$TEST_DIR/stream"
        background timeout 60 "$AGENTCTL" events -f -o json --agent claude-1 --type deny >> "$TEST_DIR/stream"
        follower=$!
        # It is subscribed once an event of ours has come through; each try is another port.
        port=4000
        until grep -q '"deny"' "$TEST_DIR/stream"; do
                port=$((port + 1))
                [ "$port" -lt 4100 ]
                in_agent bash -c "echo > /dev/tcp/203.0.113.9/$port" 2>/dev/null || true
                WAIT_SECONDS=1 wait_for "$TEST_DIR/stream" '"deny"' 2>/dev/null || true
        done
        agentctl attach two --cgroup "$OTHER_CGROUP" --policy none
        in_other bash -c 'echo > /dev/tcp/203.0.113.10/5000' 2>/dev/null || true
        in_agent bash -c 'echo > /dev/tcp/203.0.113.11/5001' 2>/dev/null || true
        wait_for "$TEST_DIR/stream" '203\.0\.113\.11'
        kill "$follower"
        wait "$follower" || true
        run grep '203\.0\.113\.10' "$TEST_DIR/stream"
        assert_equal "$status" 1
        jq -e . "$TEST_DIR/stream" > /dev/null
        agentctl events -n 50 --reason no_rule
        agentctl events -o json --since 10m --agent two --type deny > "$TEST_DIR/history"
        grep -q '203\.0\.113\.10' "$TEST_DIR/history"
        run grep '203\.0\.113\.11' "$TEST_DIR/history"
        assert_equal "$status" 1
}

@test "reload applies all of a file and none of a broken one" {
        file=$(daemon_config)
        start_daemon "$file"
        before=$(agentctl status -o json | jq .generation)
        sed -i 's/10\.20\.0\.0\/16, ports: \[80\]/10.20.0.0\/16, ports: [80, 443]/' "$file"
        agentctl reload > "$TEST_DIR/reload"
        grep -q 'web' "$TEST_DIR/reload"
        in_agent curl -sS -m 5 http://10.20.0.7:443/
        after=$(agentctl status -o json | jq .generation)
        [ "$after" -gt "$before" ]

        sed -i -e 's/ports: \[80, 443\]/ports: [80]/' -e 's/^policies:/policys:/' "$file"
        run agentctl reload
        assert_equal "$status" 2
        assert_match "$output" "daemon\.yaml:[0-9]+:[0-9]+: "
        assert_match "$output" "did you mean 'policies'"
        in_agent curl -sS -m 5 http://10.20.0.7:443/
        assert_equal "$(agentctl status -o json | jq .generation)" "$after"

        sed -i 's/^policys:/policies:/' "$file"
        agentctl policy diff "$file"
        agentctl reload
        recorder_mark agent
        run in_agent curl -s -m 5 http://10.20.0.7:443/
        assert_equal "$status" 7
        refute_arrived 10.20.0.7 tcp 443
}

@test "SIGHUP reloads" {
        file=$(daemon_config)
        start_daemon "$file"
        run in_agent curl -s -m 5 http://192.0.2.7/
        assert_equal "$status" 7
        sed -i 's/10\.20\.0\.0\/16/192.0.2.0\/24/' "$file"
        kill -HUP "$DAEMON"
        wait_event '"type":"lifecycle".*reload|"type":"audit".*reload'
        in_agent curl -sS -m 5 http://192.0.2.7/
}

@test "a narrowed policy stops a live connection at the next packet" {
        file=$(daemon_config)
        sed -i 's/ports: \[80\]}$/ports: [80, 9000]}/' "$file"
        start_daemon "$file"
        mkfifo "$TEST_DIR/go"
        # shellcheck disable=SC2016
        background in_agent "$PYTHON" -c '
import socket, sys
live = socket.create_connection(("10.20.0.7", 9000), 5)
live.settimeout(5)
assert live.recv(16) == b"hello\n"
open(sys.argv[2], "w").write("connected\n")
open(sys.argv[1]).read()
try:
    live.sendall(b"after the policy changed")
    result = "answered" if live.recv(100) else "closed"
except OSError as error:
    result = type(error).__name__
open(sys.argv[3], "w").write(result + "\n")
' "$TEST_DIR/go" "$TEST_DIR/connected" "$TEST_DIR/result"
        wait_for "$TEST_DIR/connected" connected
        sed -i 's/ports: \[80, 9000\]}$/ports: [80]}/' "$file"
        agentctl reload
        recorder_mark agent
        echo go > "$TEST_DIR/go"
        wait_for "$TEST_DIR/result" .
        refute_match "$(cat "$TEST_DIR/result")" answered
        run recorded '^dst=10\.20\.0\.7 proto=tcp dport=9000 .* data=[1-9]'
        assert_equal "$status" 1
}

@test "a glob makes one agent of each cgroup, also of those that come later" {
        first=$(cgroup_make pool/a)
        file=$(config glob.yaml <<YAML
policies: {web: {egress: [{cidr: 10.20.0.0/16, ports: [80]}]}}
agents: {pool: {cgroup: "/$TEST_CGROUP/pool/*", policy: web}}
YAML
        )
        start_daemon "$file"
        agentctl wait pool-a --timeout 5s
        run in_cgroup "$first" agent curl -s -m 5 http://203.0.113.9/
        assert_equal "$status" 7
        second=$(cgroup_make pool/b)
        agentctl wait pool-b --timeout 5s
        recorder_mark agent
        run in_cgroup "$second" agent curl -s -m 5 http://203.0.113.9/
        assert_equal "$status" 7
        refute_arrived 203.0.113.9
        in_cgroup "$second" agent curl -sS -m 5 http://10.20.0.7/
        agentctl agents -o json | jq -e '[.agents[].name] | sort == ["pool-a", "pool-b"]'
}

@test "kill -9 leaves enforcement in place, and a restart adopts it" {
        file=$(daemon_config)
        start_daemon "$file"
        in_agent curl -sS -m 5 http://x.wild.test/
        in_agent curl -s -m 5 http://203.0.113.9/ || true
        denied=$(agentctl agents -o json | jq '.agents[0].counters.denied.total')
        daemon_stop KILL
        recorder_mark agent
        run in_agent curl -s -m 3 http://203.0.113.9/
        assert_equal "$status" 7
        refute_arrived 203.0.113.9
        in_agent curl -sS -m 5 http://10.20.0.7/
        # What was learned before goes on working.
        in_agent curl -sS -m 5 http://198.51.100.20/

        start_daemon "$file"
        agentctl wait claude-1 --timeout 5s
        [ "$(agentctl agents -o json | jq '.agents[0].counters.denied.total')" -gt "$denied" ]
        run in_agent curl -s -m 3 http://203.0.113.9/
        assert_equal "$status" 7
        in_agent curl -sS -m 5 http://198.51.100.20/
        in_agent curl -sS -m 5 http://z.wild.test/
}

# names_config MOVED: entries whose names, and whose cgroups, are those of others.
names_config() {
        config names.yaml <<YAML
policies:
  web: {egress: [{cidr: 10.20.0.0/16}]}
  open: {egress: [{cidr: 0.0.0.0/0}]}
agents:
  claude-1: {cgroup: /$TEST_CGROUP/configured, policy: open}
  pool: {cgroup: "/$TEST_CGROUP/pool/*", policy: open}
  moved: {cgroup: $1, policy: web}
YAML
}

@test "over a restart no agent is let go, or gets another's policy, because of its name" {
        hand=$(cgroup_make hand) old=$(cgroup_make old) new=/$TEST_CGROUP/new
        start_daemon "$(names_config "$old")"
        agentctl attach claude-1 --cgroup "$AGENT_CGROUP" --policy web
        agentctl attach pool-x --cgroup "$hand" --policy web
        agentctl wait moved
        daemon_stop
        mkdir "$CGROUP_ROOT/$TEST_CGROUP/configured" "$CGROUP_ROOT$new"
        start_daemon "$(names_config "$new")"
        agentctl status >&2
        for cgroup in "$AGENT_CGROUP" "$hand" "$old" "$new"; do
                judge_table in_cgroup "$cgroup" agent <<'TABLE'
udp/203.0.113.9/8000     denied
tcp/10.20.0.7/80         ok
TABLE
        done
        agentctl status -o json | jq -e --arg hand "$AGENT_CGROUP" --arg new "$new" '.agents
                | all(.state == "enforcing")
                and any(.name == "claude-1" and .policy == "web" and .cgroup == $hand and .origin == "attach")
                and any(.name == "moved" and .cgroup == $new)
                and any(.policy == "open" and .origin == "config")'
}

@test "TERM stops the daemon and leaves enforcement in place" {
        start_daemon "$(daemon_config)"
        daemon_stop TERM
        # shellcheck disable=SC2154
        assert_equal "$daemon_status" 0
        recorder_mark agent
        run in_agent curl -s -m 3 http://203.0.113.9/
        assert_equal "$status" 7
        refute_arrived 203.0.113.9
        run agentctl status
        assert_equal "$status" 3
}

@test "a killed worker is replaced and look-ups go on" {
        start_daemon "$(daemon_config)"
        in_agent getent ahosts a.wild.test
        for _ in 1 2 3; do
                worker=$(agentctl status -o json | jq .dns.pid)
                kill -9 "$worker"
                in_agent getent ahosts "b$worker.wild.test"
        done
        agentctl status -o json | jq -e '.dns.restarts >= 3 and .healthy == true'
}

@test "uninstall removes everything that agentd made" {
        start_daemon "$(daemon_config)"
        run in_agent curl -s -m 5 http://203.0.113.9/
        assert_equal "$status" 7
        # Not under a daemon that works: it would go on telling that all is well.
        run "$AGENTD" uninstall
        assert_equal "$status" 1
        run in_agent curl -s -m 5 http://203.0.113.9/
        assert_equal "$status" 7
        daemon_stop TERM
        [ -n "$(find "$AGENTD_BPFFS" -mindepth 1 ! -name '*.debug')" ]
        "$AGENTD" uninstall
        assert_equal "$(find "$AGENTD_BPFFS" -mindepth 1 ! -name '*.debug')" ''
        in_agent curl -sS -m 5 http://203.0.113.9/
        "$AGENTD" uninstall
}

@test "the control socket refuses other users and every process inside an agent" {
        start_daemon "$(daemon_config)"
        mode=$(stat -c %a "$AGENTD_SOCKET")
        assert_equal "$mode" 660
        agentctl status > /dev/null
        run in_agent "$AGENTCTL" status
        assert_match "$status" '^[13]$'
        run in_agent "$AGENTCTL" detach claude-1
        assert_match "$status" '^[13]$'
        agentctl wait claude-1 --timeout 1s
        run setpriv --reuid 65534 --regid 65534 --clear-groups "$AGENTCTL" status
        assert_match "$status" '^[13]$'
}

@test "agentctl without a daemon ends with 3 and one line" {
        for verb in status agents 'events' 'reload' 'detach x' 'explain x 192.0.2.1'; do
                # shellcheck disable=SC2086
                run agentctl $verb
                assert_equal "$status" 3
                assert_equal "$(wc -l <<< "$output")" 1
                assert_match "$output" '^agentctl: '
        done
}

@test "a second daemon on the same socket refuses to start and disturbs nothing" {
        file=$(daemon_config)
        start_daemon "$file"
        run timeout 10 "$AGENTD" serve --config "$file"
        assert_equal "$status" 1
        agentctl status > /dev/null
        run in_agent curl -s -m 3 http://203.0.113.9/
        assert_equal "$status" 7
}

@test "a daemon with a broken configuration does not start" {
        file=$(config broken.yaml <<< 'policies: {web: {egres: []}}')
        run timeout 10 "$AGENTD" serve --config "$file"
        assert_equal "$status" 2
        assert_match "$output" "broken\.yaml:[0-9]+:[0-9]+: unknown key 'egres'; did you mean 'egress'"
}

@test "agents with the same addresses in different namespaces keep apart" {
        file=$(daemon_config)
        start_daemon "$file"
        agentctl attach far --cgroup "$OTHER_CGROUP" --policy web
        in_cgroup "$OTHER_CGROUP" other getent ahosts x.wild.test
        in_cgroup "$OTHER_CGROUP" other curl -sS -m 5 http://x.wild.test/
        run in_agent curl -s -m 5 http://198.51.100.20/
        assert_equal "$status" 7
        in_agent getent ahosts y.wild.test
        in_agent curl -sS -m 5 http://198.51.100.20/
}
