#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Verified, not asserted: what the probes show when all is well, and what they say when somebody has been at the
# kernel's side of it.

load ../lib/net
load ../lib/judge

setup_file() {
        net_up
        gcc -shared -fPIC -o "$BATS_FILE_TMPDIR/fault.so" "$TESTS_TOP/tests/e2e/fault.c" -ldl
}
teardown_file() { net_down; }
setup() {
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
        mkdir "$TEST_DIR/faults"
}
teardown() {
        rm -f "$TEST_DIR/faults"/*
        test_end
}

# An agent of POLICY, whose rules are standard input.
verify_config() {
        local rules
        rules=$(sed 's/^/    /')
        config verify.yaml <<YAML
policies:
  web:
$rules
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
YAML
}

web_config() {
        verify_config <<< "egress: [{cidr: 10.20.0.0/16}]
${1:-}"
}

pins() { echo "$AGENTD_BPFFS"/agentd/v*; }
poke() { "$PYTHON" "$TESTS_TOP/tests/lib/poke.py" "$@"; }
agent_status() { agentctl status -o json | jq -c '.agents[0]'; }

# until_status FILTER: until it holds of the agent's status. Bounded by the caller's patience, not by a guess of time.
until_status() {
        local deadline=$((SECONDS + ${2:-15}))
        until agent_status | jq -e "$1" >/dev/null; do
                if [ "$SECONDS" -ge "$deadline" ]; then
                        echo "never: $1; it is:" >&2
                        agent_status >&2
                        return 1
                fi
        done
}

# Another probe than those so far.
next_probe() {
        local before
        before=$(agent_status | jq '.verification.timestamp')
        until_status ".verification.timestamp > $before" "$@"
}

with_faults() {
        AGENTD_TEST_FAULTS=$TEST_DIR/faults LD_PRELOAD=$BATS_FILE_TMPDIR/fault.so start_daemon "$@"
}

@test "an agent is verified when attach returns, and again and again; nothing of it is seen or counted" {
        start_daemon "$(web_config)"
        run agent_status
        assert_match "$output" '"state":"enforcing"'
        jq -e '.verified_s <= 3 and .verification.tiers_s["1"] <= 3 and .verification.tiers_s["2"] <= 3' <<< "$output"
        next_probe
        next_probe
        assert_equal "$(cat "$CGROUP_ROOT$AGENT_CGROUP/cgroup.procs")" ""
        jq -e '.agents[0].counters | .denied.total == 0 and .would_deny.total == 0 and .allowed.egress.packets == 0 and .events_lost == 0' \
                <<< "$(agentctl agents -o json)"
        ! event '.type == "deny" or .type == "drift"' || false
        agentctl health
        # What its own processes are refused still is told and counted.
        in_agent bash -c ': > /dev/udp/203.0.113.9/9' 2>/dev/null || true
        in_agent "$PYTHON" "$TESTS_TOP/tests/lib/probe.py" udp/203.0.113.9/8000
        wait_event '"type":"deny".*203.0.113.9'
        jq -e '.agents[0].counters.denied.total >= 1' <<< "$(agentctl agents -o json)"
}

@test "the agent's cgroup can be removed at any time" {
        start_daemon "$(web_config)"
        for _ in 1 2 3 4 5; do
                rmdir "$CGROUP_ROOT$AGENT_CGROUP"
                mkdir "$CGROUP_ROOT$AGENT_CGROUP"
                agentctl wait claude-1
                jq -e '.state == "enforcing" and .verified_s <= 3' <<< "$(agent_status)"
        done
        agentctl detach claude-1
        rmdir "$CGROUP_ROOT$AGENT_CGROUP"
}

@test "agents that may go nearly everywhere, that are in audit mode, that are in quarantine are verified" {
        start_daemon "$(verify_config <<< 'egress: [{cidr: 0.0.0.0/0, protocol: any}, {cidr: "::/0", protocol: any}, {cidr: 0.0.0.0/0}, {cidr: "::/0"}]')"
        next_probe
        jq -e '.verification.tiers_s["1"] <= 3 and .verification.tiers_s["2"] <= 3 and .state == "enforcing"' <<< "$(agent_status)"
        agentctl quarantine claude-1
        next_probe
        jq -e '.state == "enforcing"' <<< "$(agent_status)"
        agentctl release claude-1
        agentctl detach claude-1
        agentctl attach audited --cgroup "$AGENT_CGROUP" --policy web --mode audit
        jq -e '.state == "enforcing" and .verified_s <= 3' <<< "$(agentctl status -o json | jq '.agents[] | select(.name == "audited")')"
        ! event '.type == "would_deny" or .type == "drift"' || false
}

@test "a link that is detached, a program that is replaced: told, put right, and shown to be right" {
        start_daemon "$(web_config)"
        for hook in egress sendmsg4; do
                for what in detach replace; do
                        before=$(grep -c '"type":"drift"' "$EVENTS" || true)
                        poke "$what" "$(pins)/links/1/$hook"
                        wait_count "$EVENTS" '"type":"drift"' $((before + 1))
                        next_probe
                        jq -e '.state == "enforcing"' <<< "$(agent_status)"
                        agentctl health
                done
        done
        judge_table in_agent <<'TABLE'
udp/203.0.113.9/8000     denied
tcp/10.20.0.7/80         ok
TABLE
}

@test "an agent that is switched to audit mode, or taken for another: told and put right" {
        start_daemon "$(web_config)"
        poke audit "$(pins)" claude-1
        wait_event '"type":"drift".*claude-1'
        until_status '.state == "enforcing" and .mode == "enforce"'
        before=$(grep -c '"type":"drift"' "$EVENTS")
        poke line "$(pins)" claude-1 7
        wait_count "$EVENTS" '"type":"drift"' $((before + 1))
        next_probe
        agentctl health
}

@test "rules that somebody has added in the kernel: a probe passes, which is an alarm, until they are written anew" {
        start_daemon "$(web_config)"
        poke allow "$(pins)" claude-1
        wait_event '"type":"drift".*not enforced'
        event '.type == "drift" and (.detail | test("tier [12]")) and .agent == "claude-1" and .dst.ip != null'
        # Within a few seconds.
        until_status '.state == "enforcing" and .verification.passed == false'
        next_probe
        agentctl health
        event '.type == "lifecycle" and (.detail | test("enforced again"))'
        judge_table in_agent <<'TABLE'
udp/203.0.113.9/8000     denied
tcp/10.20.0.7/80         ok
TABLE
}

@test "on_failure: quarantine freezes the agent until it is released" {
        start_daemon "$(web_config 'on_failure: quarantine')"
        background in_agent cat /dev/zero > /dev/null
        until grep -q . "$CGROUP_ROOT$AGENT_CGROUP/cgroup.procs"; do :; done
        poke allow "$(pins)" claude-1
        wait_event '"type":"drift".*frozen and quarantined'
        grep -q 'frozen 1' "$CGROUP_ROOT$AGENT_CGROUP/cgroup.events"
        run agentctl status
        assert_match "$output" 'frozen and quarantined'
        # It holds over the daemon's death, and a new one knows why.
        daemon_stop KILL
        start_daemon "$TEST_DIR/verify.yaml"
        grep -q 'frozen 1' "$CGROUP_ROOT$AGENT_CGROUP/cgroup.events"
        run agent_status
        assert_match "$output" 'frozen and quarantined'
        agentctl release claude-1
        grep -q 'frozen 0' "$CGROUP_ROOT$AGENT_CGROUP/cgroup.events"
        next_probe
        jq -e '.state == "enforcing" and .detail == ""' <<< "$(agent_status)"
        agentctl health
}

@test "a probe that is killed or held up verifies nothing" {
        touch "$TEST_DIR/faults/killed"
        with_faults "$(web_config)"
        jq -e '.state == "attaching" and .verified_s == null' <<< "$(agent_status)"
        until_status '.state == "unverified" and (.detail | test("never verified.*ended"))'
        run agentctl health
        assert_equal "$status" 1
        assert_match "$output" 'never verified'
        run agentctl status
        assert_match "$output" 'unverified: never verified'
        mv "$TEST_DIR/faults/killed" "$TEST_DIR/faults/stopped"
        until_status '.detail | test("held up")'
        rm "$TEST_DIR/faults/stopped"
        until_status '.state == "enforcing"' 40
        agentctl health
        assert_equal "$(cat "$CGROUP_ROOT$AGENT_CGROUP/cgroup.procs")" ""
}

@test "a probe that does not even die holds up nobody" {
        touch "$TEST_DIR/faults/stopped" "$TEST_DIR/faults/undead"
        with_faults "$(web_config)"
        until_status '.detail | test("held up")'
        rm "$TEST_DIR/faults/stopped" "$TEST_DIR/faults/undead"
        until_status '.state == "enforcing"' 40
        agentctl health
}

@test "a frozen cgroup is enforced, and verified when it runs" {
        echo 1 > "$CGROUP_ROOT$AGENT_CGROUP/cgroup.freeze"
        start_daemon "$(web_config)"
        jq -e '.verified_s == null and .state == "frozen"' <<< "$(agent_status)"
        agentctl health
        echo 0 > "$CGROUP_ROOT$AGENT_CGROUP/cgroup.freeze"
        until_status '.state == "enforcing"'
}

@test "attach fails when what must be denied is let through" {
        start_daemon "$(config empty.yaml <<< 'policies: {web: {egress: [{cidr: 10.20.0.0/16}]}}')"
        daemon_stop
        cgroup_make elsewhere
        echo "$CGROUP_ROOT/$TEST_CGROUP/elsewhere" > "$TEST_DIR/faults/misplaced"
        with_faults "$TEST_DIR/empty.yaml"
        run agentctl attach claude-1 --cgroup "$AGENT_CGROUP" --policy web
        assert_equal "$status" 4
        assert_match "$output" 'let through'
        jq -e '.agents == []' <<< "$(agentctl status -o json)"
        rm "$TEST_DIR/faults/misplaced"
        agentctl attach claude-1 --cgroup "$AGENT_CGROUP" --policy web
        jq -e '.state == "enforcing"' <<< "$(agent_status)"
}

# The daemon where the host ends are, and somebody of the agent's in its namespace.
start_with_device() {
        start_daemon "$(web_config "$@")" outside
        background in_agent sleep infinity
        until_status '.tiers["3"].present and (.tiers["3"].devices | length) == 1 and .verification.tiers_s["3"] != null'
}

@test "frames are probed at the host end of the veth, where nothing in the container reaches" {
        start_with_device
        next_probe
        next_probe
        jq -e '.verification.tiers_s["3"] <= 3 and .state == "enforcing"' <<< "$(agent_status)"
        # But for the namespace's own (MLD), which is refused at that place.
        ! event '.type == "drift" or .type == "deny" and (.dst.ip // "ff" | startswith("ff") | not)' || false
        # In audit mode, which no probe passes, either.
        agentctl detach claude-1
        agentctl attach claude-1 --cgroup "$AGENT_CGROUP" --policy web --mode audit
        until_status '.verification.tiers_s["3"] != null and .mode == "audit"'
        ! event '.type == "drift" or .type == "would_deny" and (.dst.ip // "ff" | startswith("ff") | not)' || false
}

@test "the program at the host end is taken away or replaced: told, put right, and shown to be right" {
        start_with_device
        pin=$(echo "$(pins)"/links/1/device-*)
        [ -e "$pin" ]
        before=$(grep -c '"type":"drift"' "$EVENTS" || true)
        ifindex=${pin##*-}
        if bpftool link show pinned "$pin" >/dev/null; then
                poke detach "$pin"
        else
                in_ns outside tc qdisc del dev "$(in_ns outside ip -o link | sed -n "s/^$ifindex: \([^@:]*\).*/\1/p")" clsact
        fi
        wait_count "$EVENTS" '"type":"drift"' $((before + 1))
        next_probe
        jq -e '.verification.tiers_s["3"] <= 3 and .state == "enforcing"' <<< "$(agent_status)"
        agentctl health
}
