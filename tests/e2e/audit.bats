#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The audit: each change with who made it, over restarts; what was changed in it is found.

load ../lib/net

setup_file() { net_up; }
teardown_file() { net_down; }
setup() {
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
        CONFIG=$(config audit.yaml <<YAML
policies:
  web:
    egress: [{cidr: 10.20.0.0/16}]
    budget: [{bytes: 1MiB, per: day}]
YAML
        )
}
teardown() { test_end; }

@test "changes are told with who made them, and outlive the daemon" {
        start_daemon "$CONFIG"
        agentctl attach claude-1 --cgroup "$AGENT_CGROUP" --policy web > /dev/null
        agentctl budget grant claude-1 agent/day 1MiB > /dev/null
        agentctl quarantine claude-1 > /dev/null
        agentctl release claude-1 > /dev/null
        agentctl reload > /dev/null
        daemon_stop KILL
        start_daemon "$CONFIG"
        agentctl detach claude-1 > /dev/null
        agentctl audit > "$BATS_TEST_TMPDIR/text"
        for what in "attached: cgroup .*, policy web by uid 0" "grant of agent/day: 1048576 bytes before, 2097152 now" \
                "quarantined by uid 0" "released by uid 0" "reload by uid 0" "detached by uid 0"; do
                grep -qE "$what" "$BATS_TEST_TMPDIR/text" || { echo "no '$what'"; cat "$BATS_TEST_TMPDIR/text"; return 1; }
        done
        agentctl audit --since 1h -o json | jq -e 'length == 6 and all(.type == "audit" and .process.uid == 0 and .process.comm == "agentctl"
                and (.process.exe | endswith("agentctl")))'
        run agentctl audit verify
        assert_equal "$output" '6 entries, each follows the one before'
}

@test "a changed entry is found" {
        start_daemon "$CONFIG"
        for round in 1 2 3; do agentctl reload > /dev/null; done
        agentctl audit verify
        sed -i '2s/"uid":0/"uid":1/' "$TEST_DIR/state/audit.jsonl"
        run agentctl audit verify
        assert_equal "$status" 1
        assert_equal "$output" 'agentctl: the audit log is broken at line 2: its hash does not fit what it says'
        sed -i 2d "$TEST_DIR/state/audit.jsonl"
        run agentctl audit verify -o json
        assert_equal "$status" 1
        jq -e '.whole == false and .broken_line == 2' <<< "$output"
}

@test "an agent may not read it" {
        start_daemon "$CONFIG"
        agentctl attach claude-1 --cgroup "$AGENT_CGROUP" --policy web > /dev/null
        run in_cgroup "$AGENT_CGROUP" host "$AGENTCTL" audit
        [ "$status" != 0 ]
        refute_match "$output" attached
        assert_equal "$(stat -c %a "$TEST_DIR/state/audit.jsonl")" 600
}
