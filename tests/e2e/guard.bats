#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The guard: below a guarded parent nothing leaves but what is inside an agent, from the first instruction on, with or
# without a daemon. Judged by what arrives at the far end.

load ../lib/net
load ../lib/judge

setup_file() {
        net_up
        gcc -O1 -o "$BATS_FILE_TMPDIR/born" "$TESTS_TOP/tests/e2e/born.c"
}
teardown_file() { net_down; }
setup() {
        test_begin
        BORN=$BATS_FILE_TMPDIR/born
        YARD=$(cgroup_make yard)
        AGENT_CGROUP=$YARD/one
        CONFIG=$(guard_config "$YARD")
}
teardown() { test_end; }

# guard_config PARENT...
guard_config() {
        local parent
        {
                echo "guard:"
                for parent in "$@"; do echo "  - $parent"; done
                cat <<YAML
policies:
  web:
    egress:
      - {cidr: 10.20.0.0/16}
agents:
  claude:
    cgroup: $YARD/one
    policy: web
  many:
    cgroup: $YARD/many-*
    policy: web
YAML
        } | config guard.yaml
}

# Whatever a container could try first: born in PATH below the mount.
EVERY="udp/203.0.113.9/8000 tcp/203.0.113.9/80 icmp/203.0.113.9 raw/203.0.113.9 udp/2001:db8:2::9/8000 tcp/2001:db8:2::9/80
       icmp/2001:db8:2::9 udp/10.20.0.7/8000 tcp/10.20.0.7/80 udp/127.0.0.1/8000 join/239.65.66.67 join/ff02::4142"
born() {
        local path=$1
        shift
        # shellcheck disable=SC2086
        in_ns agent "$BORN" "$CGROUP_ROOT$path" "$@"
}

nothing_arrived() {
        local lines status=0
        lines=$(recorded '^dst=(203\.0\.113\.9|2001:db8:2::9|10\.20\.0\.7|224\.0\.0\.22) ') || status=$?
        [ "$status" = 1 ] && return 0
        echo "leaked (status $status): $lines" >&2
        return 1
}

@test "without a guard everything of these tests arrives" {
        # shellcheck disable=SC2086
        born "$YARD/free" $EVERY
        for destination in 203.0.113.9 2001:db8:2::9; do
                assert_arrived $destination udp 8000
                assert_arrived $destination tcp 80
                assert_arrived $destination icmp
        done
        assert_arrived 10.20.0.7 udp 8000
        wait_for "$NET_DIR/packets" '^dst=224\.0\.0\.22 ' # a report of the group, when the kernel finds time for it
}

@test "the first instruction of a process born below a guarded parent sends nothing" {
        start_daemon "$CONFIG"
        recorder_mark agent
        # shellcheck disable=SC2086
        run born "$YARD/fresh" $EVERY
        [ "$status" -eq 0 ]
        # shellcheck disable=SC2086
        assert_equal "$(wc -l <<< "$output")" "$(wc -w <<< "$EVERY")"
        refute_match "$output" '(udp|raw|icmp/203|join)[^ ]* sent' # an IPv6 ping socket is told nothing
        assert_match "$output" 'udp/203.0.113.9/8000 EPERM'
        # shellcheck disable=SC2086
        mkdir -p "$CGROUP_ROOT$YARD/fresh/deep" && born "$YARD/fresh/deep/down" $EVERY
        # shellcheck disable=SC2086
        born "$YARD" $EVERY # nor what lives in the parent itself
        nothing_arrived
        wait_event '"hook":"guard"'
        event '.type == "deny" and .hook == "guard" and .reason == "no_policy" and .agent == null and .policy == null' |
                jq -e -s --arg path "$YARD/fresh" 'map(select((.detail // "") | endswith($path))) | length > 0 and .[0].cgroup_id > 0'
        run agentctl status -o json
        jq -e --arg path "$YARD" '.guard.parents[0] | .cgroup == $path and .state == "guarding"' <<< "$output"
        jq -e '.guard.denied >= 24' <<< "$output"
        run agentctl status
        assert_match "$output" "guard +$YARD: denies what is no agent, (but not packet sockets \(no tier 4\)|packet sockets too) \(verified [0-9]+s ago\)"
}

@test "an agent below the guard works, with its children, and after detach it does not" {
        mkdir "$CGROUP_ROOT$AGENT_CGROUP"
        start_daemon "$CONFIG"
        agentctl wait claude
        judge_table in_agent <<'TABLE'
tcp/10.20.0.7/80         ok
udp/10.20.0.7/8000       ok
tcp/203.0.113.9/80       denied
TABLE
        mkdir -p "$CGROUP_ROOT$AGENT_CGROUP/a/b"
        judge_table in_cgroup "$AGENT_CGROUP/a/b" agent <<'TABLE'
tcp/10.20.0.7/80         ok
udp/203.0.113.9/8000     denied
TABLE
        agentctl detach claude
        recorder_mark agent
        # shellcheck disable=SC2086
        born "$AGENT_CGROUP" $EVERY
        # shellcheck disable=SC2086
        born "$AGENT_CGROUP/a" $EVERY
        nothing_arrived
}

@test "a live connection of an agent sends nothing when it is detached to the guard" {
        mkdir "$CGROUP_ROOT$AGENT_CGROUP"
        start_daemon "$CONFIG"
        agentctl wait claude
        mkfifo "$TEST_DIR/fifo"
        # shellcheck disable=SC2016
        background in_agent bash -c 'trap "" PIPE; exec 9<>/dev/tcp/10.20.0.7/80 8<"$1"; echo open; read -r _ <&8; printf "GET /late HTTP/1.0\r\n\r\n" >&9; echo done' \
                - "$TEST_DIR/fifo" > "$TEST_DIR/client" 2>&1
        exec 7> "$TEST_DIR/fifo"
        wait_for "$TEST_DIR/client" '^open'
        recorder_mark agent
        agentctl detach claude
        echo go >&7
        exec 7>&-
        wait_for "$TEST_DIR/client" 'done|roken pipe|abort|reset|not permitted'
        run recorded '^dst=10\.20\.0\.7 .*data=[1-9]'
        [ "$status" -eq 1 ]
}

@test "the guard holds when the daemon is killed, for what is born meanwhile as well" {
        mkdir "$CGROUP_ROOT$AGENT_CGROUP"
        start_daemon "$CONFIG"
        agentctl wait claude
        daemon_stop KILL
        recorder_mark agent
        # shellcheck disable=SC2086
        born "$YARD/many-late" $EVERY
        nothing_arrived
        judge_table in_agent <<'TABLE'
tcp/10.20.0.7/80         ok
udp/203.0.113.9/8000     denied
TABLE
        # The next daemon makes it an agent; nothing is free in between.
        start_daemon "$CONFIG"
        agentctl wait many-many-late
        judge_table in_cgroup "$YARD/many-late" agent <<'TABLE'
tcp/10.20.0.7/80         ok
udp/203.0.113.9/8000     denied
TABLE
        mkdir "$CGROUP_ROOT$YARD/other"
        recorder_mark agent
        # shellcheck disable=SC2086
        born "$YARD/other" $EVERY
        nothing_arrived
}

@test "containers that a glob finds: from birth until they are attached only what is allowed arrives" {
        start_daemon "$CONFIG"
        recorder_mark agent
        for i in 1 2 3 4; do
                background in_ns agent "$BORN" "$CGROUP_ROOT$YARD/many-$i" flood 600 udp/203.0.113.9/8000 icmp/203.0.113.9 udp/2001:db8:2::9/8000 \
                        udp/10.20.0.7/8000 udp/10.20.0.8/9000 > "$TEST_DIR/flood-$i"
                floods+=($!)
        done
        for i in 1 2 3 4; do agentctl wait "many-many-$i"; done
        # Attached while it went on.
        for i in 1 2 3 4; do
                wait_for "$TEST_DIR/flood-$i" '^later udp/10.20.0.7/8000 sent'
                echo 1 > "$CGROUP_ROOT$YARD/many-$i/cgroup.kill"
        done
        for pid in "${floods[@]}"; do wait "$pid" || true; done
        refute_match "$(cat "$TEST_DIR"/flood-*)" '(203\.0\.113\.9|2001:db8:2::9)[^ ]* sent'
        # And most of them were born denied (some daemon may be quicker than a process).
        grep -q '^udp/10.20.0.7/8000 EPERM' "$TEST_DIR"/flood-*
        refute_arrived 203.0.113.9
        refute_arrived 2001:db8:2::9
        assert_arrived 10.20.0.8 udp 9000
}

@test "a parent that appears later is guarded when it does, and again when it is made anew" {
        local late=/$TEST_CGROUP/late/parent
        CONFIG=$(guard_config "$late")
        start_daemon "$CONFIG"
        run agentctl status
        assert_match "$output" "guard +$late: waits for this cgroup"
        for round in 1 2; do
                mkdir -p "$CGROUP_ROOT$late"
                wait_count "$EVENTS" "guard $late attached" "$round"
                recorder_mark agent
                # shellcheck disable=SC2086
                born "$late/x" $EVERY
                nothing_arrived
                rmdir "$CGROUP_ROOT$late/x" "$CGROUP_ROOT$late"
        done
}

@test "a reload adds and ends guards" {
        other=$(cgroup_make other)
        CONFIG=$(guard_config "$YARD")
        start_daemon "$CONFIG"
        guard_config "$other"
        run agentctl reload
        assert_match "$output" "\+ guard $other"
        assert_match "$output" "- guard $YARD"
        recorder_mark agent
        # shellcheck disable=SC2086
        born "$other/x" $EVERY
        nothing_arrived
        born "$YARD/x" udp/203.0.113.9/8000
        assert_arrived 203.0.113.9 udp 8000
}

@test "a guard that was taken away is put back and reported" {
        start_daemon "$CONFIG"
        rm "$AGENTD_BPFFS"/agentd/v*/guards/*/egress
        wait_event "\"type\":\"drift\".*guard $YARD was not attached"
        [ -e "$AGENTD_BPFFS"/agentd/v*/guards/*/egress ]
}

@test "a guard that would cut agentd itself off, or the whole host, is refused" {
        local own
        own=$(sed -n 's/^0:://p' /proc/self/cgroup)
        CONFIG=$(guard_config /)
        run "$AGENTD" serve --config "$CONFIG"
        assert_equal "$status" 2
        assert_match "$output" 'guard\.yaml:5:5: .*root cgroup'
        mkdir -p "$CGROUP_ROOT/$TEST_CGROUP/home/below"
        CONFIG=$(guard_config "/$TEST_CGROUP/home")
        # shellcheck disable=SC2016
        run bash -c 'echo $$ > "$1"; exec "$2" serve --config "$3"' - "$CGROUP_ROOT/$TEST_CGROUP/home/below/cgroup.procs" "$AGENTD" "$CONFIG"
        assert_equal "$status" 2
        assert_match "$output" 'guard\.yaml:5:5: .*cut itself off'
        # In a reload: nothing changes.
        CONFIG=$(guard_config "$YARD")
        start_daemon "$CONFIG"
        echo "$DAEMON" > "$CGROUP_ROOT/$TEST_CGROUP/home/below/cgroup.procs"
        guard_config "/$TEST_CGROUP/home"
        run agentctl reload
        [ "$status" -ne 0 ]
        assert_match "$output" 'cut itself off'
        [ "$(agentctl status -o json | jq -r '.guard.parents[0].cgroup')" = "$YARD" ]
}
