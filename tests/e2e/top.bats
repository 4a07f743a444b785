#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The live view on a real terminal (tmux), 80x24: it shows what happens, its keys work, it outlives the daemon. And the graph.

load ../lib/net

setup_file() { net_up; }
teardown_file() { net_down; }
setup() {
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
        OTHER_CGROUP=$(cgroup_make two)
        CONFIG=$(config top.yaml <<YAML
policies:
  web:
    egress:
      - {name: lab, cidr: 10.20.0.0/16}
    budget: [{bytes: 1KiB, per: day}]
  idle: {}
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
  sleeper: {cgroup: $OTHER_CGROUP, policy: idle}
YAML
        )
        TMUX_SOCKET=$BATS_TEST_TMPDIR/tmux
}
teardown() {
        screen kill-server 2>/dev/null || true
        test_end
}

screen() { tmux -S "$TMUX_SOCKET" "$@"; }

# top in a terminal of its own; what it writes is in $TYPED, too.
top_start() { # ARGUMENT...
        TYPED=$BATS_TEST_TMPDIR/typed
        : > "$TYPED"
        screen -f /dev/null new-session -d -x 80 -y 24 \
                "AGENTD_SOCKET='$AGENTD_SOCKET' '$AGENTCTL' top --interval 200ms $*; echo \"top ended with \$?\"; cat" 3>&- 4>&-
        screen pipe-pane "cat >> '$TYPED'"
}
shows() { screen capture-pane -p | grep -qE -- "$1"; }
shows_not() { ! shows "$1"; }
# Asks again whenever something was written to the terminal.
wait_screen_as() { # QUESTION PATTERN
        export -f screen shows shows_not
        export TMUX_SOCKET
        # shellcheck disable=SC2016
        "$@" || timeout "$WAIT_SECONDS" bash -c '
                while dd bs=64k count=1 of=/dev/null status=none; do
                        "$@" && exit 0
                done < <(tail --pid=$$ -s 0.1 -c +1 -F "$0" 2>/dev/null)' "$TYPED" "$@" ||
                "$@" || { screen capture-pane -p; return 1; }
}
wait_screen() { wait_screen_as shows "$1"; }
wait_screen_without() { wait_screen_as shows_not "$1"; }
press() { screen send-keys "$@"; }

@test "agents, denials and budgets appear as they happen" {
        start_daemon "$CONFIG"
        top_start
        wait_screen '^AGENT +POLICY +STATE +OUT/s +IN/s +DENIED +DENY/s +BUDGET'
        wait_screen '^claude-1 +web +enforcing .* 0%'
        wait_screen '^sleeper +idle .* -$'
        run in_agent curl -s -m 1 http://203.0.113.9/
        wait_screen 'claude-1 no_rule tcp 203\.0\.113\.9:80'
        wait_screen '^claude-1 +web +enforcing +[0-9.KMG]+ +[0-9.KMG]+ +[1-9]'
        in_agent curl -sS -m 5 http://10.20.0.7/ > /dev/null
        wait_screen '^claude-1 .* [1-9][0-9]*%'
        screen capture-pane -p > "$BATS_TEST_TMPDIR/screen"
        run awk 'length > 80' "$BATS_TEST_TMPDIR/screen"
        assert_equal "$output" ''
}

@test "keys sort, filter, open, pause and quit" {
        start_daemon "$CONFIG"
        run in_agent curl -s -m 1 http://203.0.113.9/
        top_start
        wait_screen 'sorted by denied'
        wait_screen '^claude-1 '
        press n
        wait_screen 'sorted by name'
        press r
        wait_screen 'sorted by name, reversed'
        press /
        wait_screen '^filter: _'
        press s l e e p Enter
        wait_screen 'filter: sleep'
        wait_screen_without '^claude-1 '
        press Enter
        wait_screen '^policy +idle \(enforce\)'
        press Escape
        wait_screen '^sleeper '
        press Escape
        wait_screen '^claude-1 '
        press '?'
        wait_screen 'sort by name, out, in, denied, budget'
        press Escape p
        wait_screen '\[paused\]'
        press q
        wait_screen 'top ended with 0'
}

@test "it follows the size of its terminal" {
        start_daemon "$CONFIG"
        top_start
        wait_screen '^claude-1 '
        screen resize-window -x 60 -y 12
        wait_screen '^AGENT .*OUT/s'
        wait_screen '^q quit'
        screen resize-window -x 132 -y 40
        wait_screen '^AGENT {20}'
}

@test "it says that the daemon is gone, and sees it come back" {
        start_daemon "$CONFIG"
        top_start
        wait_screen '^claude-1 .*enforcing'
        daemon_stop KILL
        wait_screen 'the daemon does not answer .* the kernel goes on enforcing'
        shows '^claude-1 '
        start_daemon "$CONFIG"
        wait_screen_without 'the daemon does not answer'
        wait_screen '^claude-1 .*enforcing'
}

@test "nothing but what changed is drawn again: no flicker" {
        start_daemon "$CONFIG"
        top_start
        wait_screen '^claude-1 .*enforcing'
        : > "$TYPED"
        press n
        wait_screen 'sorted by name'
        press d
        wait_screen 'sorted by denied'
        # A screen is 1920 characters; an erase is ESC [ 2 J or ESC [ H ESC [ J.
        [ "$(wc -c < "$TYPED")" -gt 0 ]
        [ "$(wc -c < "$TYPED")" -lt 1500 ]
        run grep -c $'\e\\[2J\\|\e\\[J' "$TYPED"
        assert_equal "$output" 0
}

@test "into a pipe it prints pictures, or objects with rates" {
        start_daemon "$CONFIG"
        run in_agent curl -s -m 1 http://203.0.113.9/
        agentctl top --interval 100ms > "$BATS_TEST_TMPDIR/picture"
        grep -E '^claude-1 +web +enforcing' "$BATS_TEST_TMPDIR/picture"
        agentctl top --interval 100ms -n 3 -o json > "$BATS_TEST_TMPDIR/objects"
        assert_equal "$(jq -s length "$BATS_TEST_TMPDIR/objects")" 3
        jq -se '.[2].agents | map(select(.name == "claude-1"))[0] | .denied >= 1 and .deny_rate == 0 and .budget_percent == 0' \
                "$BATS_TEST_TMPDIR/objects"
        run agentctl top --interval 1ms
        assert_equal "$status" 2
        run agentctl top -n 0
        assert_equal "$status" 2
        daemon_stop
        run agentctl top
        assert_equal "$status" 3
}

@test "the graph shows what was reached by name, and what was refused" {
        CONFIG=$(config graph.yaml <<YAML
policies:
  web:
    egress: [{domain: www.example.test, ports: [80]}]
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
YAML
        )
        start_daemon "$CONFIG"
        in_agent curl -sS -m 5 http://www.example.test/
        run in_agent curl -s -m 1 http://203.0.113.9/
        run in_agent curl -s -m 1 http://evil.example/
        agentctl graph claude-1 > "$BATS_TEST_TMPDIR/dot"
        grep -F 'label="claude-1"' "$BATS_TEST_TMPDIR/dot"
        grep -F 'label="www.example.test"' "$BATS_TEST_TMPDIR/dot"
        grep -F 'label="203.0.113.9:80/tcp"' "$BATS_TEST_TMPDIR/dot"
        grep -E 'color=red.*no_rule x[1-9]' "$BATS_TEST_TMPDIR/dot"
        grep -E 'color=red.*name_not_allowed x[1-9]' "$BATS_TEST_TMPDIR/dot"
        agentctl graph --format mermaid | grep -F 'a0["claude-1"]'
        agentctl graph --format svg > "$BATS_TEST_TMPDIR/svg"
        "$PYTHON" -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' "$BATS_TEST_TMPDIR/svg"
        agentctl graph -o json | jq -e '.edges | map(select(.verdict == "deny")) | length >= 2'
        run agentctl graph --format png
        assert_equal "$status" 2
        run agentctl graph nobody
        assert_equal "$status" 1
}
