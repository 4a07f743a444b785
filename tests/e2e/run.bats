#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# `agentd run`: exit statuses, its options, what it prints, and that nothing of it stays.

load ../lib/net

setup_file() { net_up; }
teardown_file() { net_down; }
setup() {
        test_begin
        # shellcheck disable=SC2034
        CONFIG=$(config run.yaml <<'YAML'
policies:
  main:
    egress:
      - cidr: 10.20.0.0/16
        ports: [80]
YAML
        )
}
teardown() { test_end; }

# What is left of a one-shot run: pins, and the cgroup that its command found itself in (written to $TEST_DIR/cgroup).
OWN_CGROUP='sed -n s/^0:://p /proc/self/cgroup'
leftovers() {
        # A bpffs has these two from birth.
        find "$AGENTD_BPFFS" -mindepth 1 ! -name '*.debug'
        [ ! -s "$TEST_DIR/cgroup" ] || [ ! -d "$CGROUP_ROOT$(cat "$TEST_DIR/cgroup")" ] || cat "$TEST_DIR/cgroup"
}

@test "ends with the command's own status" {
        for code in 0 1 7 42 124; do
                run agentd_run --config "$CONFIG" -- bash -c "exit $code"
                assert_equal "$status" "$code"
        done
}

@test "126 for what cannot be executed, 127 for what is not there" {
        echo 'not a program' > "$TEST_DIR/plain"
        chmod 0644 "$TEST_DIR/plain"
        run agentd_run --config "$CONFIG" -- "$TEST_DIR/plain"
        assert_equal "$status" 126
        assert_match "$output" 'agentd: '
        run agentd_run --config "$CONFIG" -- "$TEST_DIR"
        assert_equal "$status" 126
        run agentd_run --config "$CONFIG" -- "$TEST_DIR/missing"
        assert_equal "$status" 127
        run agentd_run --config "$CONFIG" -- no-such-command-anywhere
        assert_equal "$status" 127
}

@test "128+N for a command that a signal ended" {
        for signal in 9 15 11; do
                # shellcheck disable=SC2016
                run agentd_run --config "$CONFIG" -- bash -c "ulimit -c 0; kill -$signal \$\$"
                assert_equal "$status" $((128 + signal))
        done
}

@test "125 when agentd itself fails, and the command has not run" {
        run in_ns agent "$AGENTD" run --config "$TEST_DIR/missing.yaml" -- touch "$TEST_DIR/ran"
        assert_match "$status" '^(2|125)$'
        assert_match "$output" 'missing.yaml'
        run in_ns agent "$AGENTD" run --config "$CONFIG" --policy nothing -- touch "$TEST_DIR/ran"
        assert_match "$status" '^(2|125)$'
        assert_match "$output" 'main'
        run in_ns agent "$AGENTD" run --config "$CONFIG" --user no-such-user -- touch "$TEST_DIR/ran"
        assert_match "$status" '^(2|125)$'
        run in_ns agent "$AGENTD" run --config "$CONFIG" --events "$TEST_DIR/no/such/file" -- touch "$TEST_DIR/ran"
        assert_match "$status" '^(1|2|125)$'
        run in_ns agent "$AGENTD" run --config "$CONFIG"
        assert_match "$status" '^(2|125)$'
        [ ! -e "$TEST_DIR/ran" ]
}

@test "without privilege nothing runs unconfined" {
        run in_ns agent setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all \
                "$AGENTD" run --config "$CONFIG" -- touch "$TEST_DIR/ran"
        assert_match "$status" '^(4|125)$'
        [ ! -e "$TEST_DIR/ran" ]
}

@test "passes arguments, input, output, environment and directory through" {
        cd "$TEST_DIR"
        # shellcheck disable=SC2016
        result=$(echo input | MARK=kept agentd_run --config "$CONFIG" -- \
                bash -c 'cat; echo "$MARK|$PWD|$0|$1"' 'two words' '--help' 2>"$TEST_DIR/stderr")
        assert_equal "$result" "input
kept|$TEST_DIR|two words|--help"
}

@test "--user runs the command as that user, with no capability left" {
        run agentd_run --config "$CONFIG" --user nobody -- bash -c 'id -u; id -g; grep CapEff /proc/self/status'
        assert_equal "$status" 0
        assert_match "$output" '65534'
        assert_match "$output" 'CapEff:[[:space:]]0000000000000000'
}

@test "without --config everything is denied" {
        run agentd_run -- curl -s -m 5 http://10.20.0.7/
        assert_equal "$status" 7
        refute_arrived 10.20.0.7
        event '.type == "deny" and .reason == "no_rule" and .dst.ip == "10.20.0.7" and .dst.port == 80'
}

@test "without --policy the only policy holds; of several, an error lists them" {
        run agentd_run --config "$CONFIG" -- curl -sS -m 5 http://10.20.0.7/
        assert_equal "$status" 0
        two=$(config two.yaml <<< 'policies: {first: {}, second: {}}')
        run agentd_run --config "$two" -- touch "$TEST_DIR/ran"
        assert_match "$status" '^(2|125)$'
        assert_match "$output" 'first'
        assert_match "$output" 'second'
        [ ! -e "$TEST_DIR/ran" ]
        run agentd_run --config "$two" --policy second -- true
        assert_equal "$status" 0
}

@test "--name names the agent in events" {
        agentd_run --config "$CONFIG" --name builder-7 -- curl -s -m 5 http://203.0.113.9/ || true
        event '.type == "deny" and .agent == "builder-7" and .policy == "main"'
}

@test "deny events are on stderr, or JSON lines in a file or on stdout" {
        in_ns agent "$AGENTD" run --config "$CONFIG" -- bash -c 'curl -s -m 5 http://203.0.113.9/; true' \
                > "$TEST_DIR/stdout" 2> "$TEST_DIR/stderr"
        assert_match "$(cat "$TEST_DIR/stderr")" '203\.0\.113\.9'
        assert_match "$(cat "$TEST_DIR/stderr")" 'no_rule'
        assert_equal "$(cat "$TEST_DIR/stdout")" ''

        in_ns agent "$AGENTD" run --config "$CONFIG" --events - -- bash -c 'curl -s -m 5 http://203.0.113.9/; true' \
                > "$TEST_DIR/stdout" 2> "$TEST_DIR/stderr"
        event '.type == "deny" and .dst.ip == "203.0.113.9"' "$TEST_DIR/stdout"
}

@test "the summary on stderr tells what was allowed and denied" {
        agentd_run --config "$CONFIG" -- bash -c 'curl -s -m 5 http://10.20.0.7/; curl -s -m 5 http://203.0.113.9/; true' \
                > "$TEST_DIR/stdout" 2> "$TEST_DIR/stderr"
        assert_match "$(cat "$TEST_DIR/stderr")" '[Aa]llowed'
        assert_match "$(cat "$TEST_DIR/stderr")" '[Dd]enied'
        assert_match "$(cat "$TEST_DIR/stderr")" '203\.0\.113\.9|no_rule'
        [ "$(wc -l < "$TEST_DIR/stderr")" -le 25 ]
}

@test "everything is gone again afterwards, also after a failure and a kill of the command" {
        agentd_run --config "$CONFIG" -- bash -c "$OWN_CGROUP" > "$TEST_DIR/cgroup"
        # The command was in a cgroup of its own, and what is checked is not nothing.
        assert_match "$(cat "$TEST_DIR/cgroup")" '^/.+'
        assert_equal "$(leftovers)" ''
        # shellcheck disable=SC2016
        run agentd_run --config "$CONFIG" -- bash -c "$OWN_CGROUP > $TEST_DIR/cgroup; kill -9 \$\$"
        assert_equal "$status" 137
        assert_equal "$(leftovers)" ''
        run agentd_run --config "$CONFIG" -- "$TEST_DIR/missing"
        assert_equal "$(leftovers)" ''
}

@test "a process that the command leaves behind does not outlive the run" {
        agentd_run --config "$CONFIG" -- bash -c '
                '"$OWN_CGROUP > $TEST_DIR/cgroup"'
                setsid tail -f /dev/null >/dev/null 2>&1 & echo $! > '"$TEST_DIR/orphan"
        [ ! -d "/proc/$(cat "$TEST_DIR/orphan")" ] || grep -q '^State:.Z' "/proc/$(cat "$TEST_DIR/orphan")/status"
        assert_equal "$(leftovers)" ''
}

@test "TERM ends the command, and everything is gone" {
        background nsenter --net="/run/netns/$ID-agent" "$AGENTD" run --config "$CONFIG" --events "$EVENTS" -- \
                bash -c "$OWN_CGROUP > $TEST_DIR/cgroup; echo started > $TEST_DIR/started; exec tail -f /dev/null"
        pid=$!
        wait_for "$TEST_DIR/started" started
        kill -TERM "$pid"
        code=0
        wait "$pid" || code=$?
        assert_equal "$code" 143
        assert_equal "$(leftovers)" ''
}

@test "kill -9 of agentd lets nothing out that was denied" {
        mkfifo "$TEST_DIR/go"
        # shellcheck disable=SC2016
        background nsenter --net="/run/netns/$ID-agent" "$AGENTD" run --config "$CONFIG" --events "$EVENTS" -- bash -c '
                '"$OWN_CGROUP > $TEST_DIR/cgroup"'
                echo $$ > '"$TEST_DIR/command"'
                read -r line < '"$TEST_DIR/go"'
                curl -s -m 3 http://203.0.113.9/
                echo x > /dev/udp/203.0.113.9/9000'
        pid=$!
        wait_for "$TEST_DIR/command" '[0-9]'
        recorder_mark agent
        kill -9 "$pid"
        wait "$pid" || true
        command=$(cat "$TEST_DIR/command")
        # It may have died with agentd (then it sends nothing), or it runs on, confined.
        if [ -d "/proc/$command" ]; then
                timeout 2 bash -c "echo go > $TEST_DIR/go" || true
                wait_gone "$command"
        fi
        refute_arrived 203.0.113.9
        in_ns agent "$AGENTD" uninstall
        [ ! -d "$CGROUP_ROOT$(cat "$TEST_DIR/cgroup")" ] || cgroup_remove "$CGROUP_ROOT$(cat "$TEST_DIR/cgroup")"
        assert_equal "$(leftovers)" ''
}

@test "two runs side by side keep their own policies" {
        other=$(config other.yaml <<< 'policies: {main: {egress: [{cidr: 192.0.2.0/24}]}}')
        mkfifo "$TEST_DIR/turn"
        # shellcheck disable=SC2016
        background nsenter --net="/run/netns/$ID-agent" "$AGENTD" run --config "$CONFIG" --name one --events "$TEST_DIR/one" -- \
                bash -c 'echo up > '"$TEST_DIR/up"'; read -r x < '"$TEST_DIR/turn"'
                        curl -s -m 3 http://192.0.2.7/; echo "other $?" > '"$TEST_DIR/result"'
                        curl -s -m 3 http://10.20.0.7/ >/dev/null; echo "own $?" >> '"$TEST_DIR/result"
        wait_for "$TEST_DIR/up" up
        agentd_run --config "$other" --name two -- bash -c '
                echo go > '"$TEST_DIR/turn"'
                curl -s -m 3 http://10.20.0.7/; echo "other $?"
                curl -s -m 3 http://192.0.2.7/ >/dev/null; echo "own $?"' > "$TEST_DIR/second"
        wait
        assert_equal "$(cat "$TEST_DIR/second")" 'other 7
own 0'
        assert_equal "$(cat "$TEST_DIR/result")" 'other 7
own 0'
}

@test "--help and --version on every verb" {
        for program in "$AGENTD" "$AGENTCTL"; do
                run "$program" --version
                assert_equal "$status" 0
                assert_match "$output" '[0-9]+\.[0-9]+'
                run "$program" --help
                assert_equal "$status" 0
        done
        for verb in serve check run uninstall; do
                run "$AGENTD" "$verb" --help
                assert_equal "$status" 0
                assert_match "$output" "$verb"
                run "$AGENTD" "$verb" --no-such-option
                assert_match "$status" '^(2|125)$'
        done
        for verb in status agents attach detach wait policy explain events reload dns doctor; do
                run "$AGENTCTL" "$verb" --help
                assert_equal "$status" 0
                assert_match "$output" "$verb"
                run "$AGENTCTL" "$verb" --no-such-option
                assert_equal "$status" 2
        done
        run "$AGENTD" no-such-verb
        assert_equal "$status" 2
        run "$AGENTCTL" no-such-verb
        assert_equal "$status" 2
}

@test "runs where /sys is another one and shows no cgroups (ip netns exec)" {
        run ip netns exec "$ID-agent" "$AGENTD" run --config "$CONFIG" -- sh -c "$OWN_CGROUP"
        assert_equal "$status" 0
        assert_match "$output" '/agentd/run-'
        run ip netns exec "$ID-agent" "$AGENTD" run --config "$CONFIG" -- curl -sS -m 5 http://203.0.113.9/
        assert_match "$output" 'no_rule'
        run ip netns exec "$ID-agent" "$AGENTD" run --config "$CONFIG" -- curl -sS -m 5 http://10.20.0.7/
        assert_equal "$status" 0
}
