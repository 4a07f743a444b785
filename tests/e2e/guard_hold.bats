#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The guard while everything changes: agents come and go, daemons die, configurations follow each other, links are taken
# away, guards stand in each other and over threads. And the guards that are mistakes.

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
}
teardown() { test_end; }

POLICY='policies: {web: {egress: [{cidr: 10.20.0.0/16}]}}'

# guards_config AGENTS PARENT...: AGENTS is the value of `agents:`.
guards_config() {
        local agents=$1
        shift
        {
                printf 'guard: [%s]\n' "$(IFS=,; echo "$*")"
                echo "$POLICY"
                echo "agents: $agents"
        } | config guard.yaml
}

born() {
        local path=$1
        shift
        in_ns agent "$BORN" "$CGROUP_ROOT$path" "$@"
}

# flood_begin PATH: born there, sends to the forbidden and to the allowed address until its cgroup is killed.
flood_begin() {
        background in_ns agent "$BORN" "$CGROUP_ROOT$1" flood 600 held/203.0.113.9/8001 udp/203.0.113.9/8000 \
                udp/2001:db8:2::9/8000 udp/10.20.0.7/8000 > /dev/null
        FLOOD=$!
}
flood_end() {
        echo 1 > "$CGROUP_ROOT$1/cgroup.kill"
        wait "$FLOOD" || true
}

# A mark of its own for what is allowed: the recorder's mark stays where the test began.
allowed_count() {
        sync_recorder agent
        grep -c '^dst=10\.20\.0\.7 proto=udp' "$NET_DIR/packets" || true
}
allowed_flows() {
        local before
        before=$(allowed_count)
        timeout "$WAIT_SECONDS" tail -n +1 -F "$NET_DIR/packets" 2>/dev/null |
                grep -m $((before + 3)) -E '^dst=10\.20\.0\.7 proto=udp' > /dev/null || true
        [ "$(allowed_count)" -gt "$before" ]
}
allowed_stopped() {
        local before
        before=$(allowed_count)
        born "$YARD/other" udp/203.0.113.9/8000 # takes as long as some rounds of the flood
        [ "$(allowed_count)" = "$before" ]
}

@test "while agents come and go, daemons die and configurations change nothing forbidden leaves a living container" {
        local with="{claude: {cgroup: $YARD/one, policy: web}}"
        CONFIG=$(guards_config "$with" "$YARD")
        start_daemon "$CONFIG"
        recorder_mark agent
        flood_begin "$YARD/one"
        agentctl wait claude
        allowed_flows

        agentctl detach claude
        allowed_stopped
        agentctl attach hand --cgroup "$YARD/one" --policy web
        allowed_flows
        daemon_stop KILL
        allowed_flows
        start_daemon "$CONFIG"
        allowed_flows
        agentctl detach hand # what was attached by hand stays so over a restart
        allowed_stopped

        # The agent's entry goes: so does the agent, into the guard.
        guards_config '{}' "$YARD"
        agentctl reload
        allowed_stopped
        guards_config "$with" "$YARD"
        agentctl reload
        agentctl wait claude
        allowed_flows
        # It becomes another agent of another policy's name.
        {
                echo "guard: [$YARD]"
                echo 'policies: {other: {egress: [{cidr: 10.20.0.0/17}]}}'
                echo "agents: {bard: {cgroup: $YARD/one, policy: other}}"
        } | config guard.yaml
        agentctl reload
        agentctl wait bard
        allowed_flows
        daemon_stop KILL
        # The next daemon's configuration knows neither; its guard is the parent's parent.
        guards_config '{}' "/$TEST_CGROUP"
        start_daemon "$CONFIG"
        run agentctl status
        assert_match "$output" "guard +/$TEST_CGROUP: denies"
        flood_end "$YARD/one"
        refute_arrived 203.0.113.9
        refute_arrived 2001:db8:2::9
}

# attached_before_ended: the last word about the guard is later than the last agent's.
attached_before_ended() {
        wait_event "guard $YARD ended"
        assert_equal "$(grep -o -E "attached to $YARD/one|guard $YARD ended" "$EVENTS" | tail -n 2)" "attached to $YARD/one"$'\n'"guard $YARD ended"
        : > "$EVENTS"
}

@test "who becomes an agent in the reload that ends its guard is not free in between" {
        CONFIG=$(guards_config '{}' "$YARD")
        start_daemon "$CONFIG"
        recorder_mark agent
        flood_begin "$YARD/one"
        for _ in 1 2 3; do
                guards_config "{claude: {cgroup: $YARD/one, policy: web}}"
                agentctl reload
                attached_before_ended
                allowed_flows
                guards_config '{}' "$YARD"
                agentctl reload
                allowed_stopped
        done
        # And so at a start.
        daemon_stop
        guards_config "{claude: {cgroup: $YARD/one, policy: web}}"
        start_daemon "$CONFIG"
        attached_before_ended
        allowed_flows
        flood_end "$YARD/one"
        refute_arrived 203.0.113.9
        refute_arrived 2001:db8:2::9
        # What is no agent is free since then.
        born "$YARD/other" udp/203.0.113.9/8000
        assert_arrived 203.0.113.9 udp 8000
}

@test "a reload whose guard cannot be attached changes nothing" {
        local more
        more=$(cgroup_make more)
        mkdir "$CGROUP_ROOT$YARD/one"
        CONFIG=$(guards_config "{claude: {cgroup: $YARD/one, policy: web}}" "$YARD")
        start_daemon "$CONFIG"
        agentctl wait claude
        guards_config '{}' "$more" "$more/cgroup.procs"
        run agentctl reload
        assert_equal "$status" 2
        assert_match "$output" 'guard\.yaml:4:[0-9]+: guard .*/cgroup\.procs.*: cannot open: Not a directory'
        assert_equal "$(agentctl status -o json | jq -c '[.guard.parents[].cgroup, .agents[].name]')" "[\"$YARD\",\"claude\"]"
        born "$more/x" udp/203.0.113.9/8000
        assert_arrived 203.0.113.9 udp 8000
        # Guarded, and then refused for another reason: the guard ends again.
        recorder_mark agent
        guards_config "{claude: {cgroup: $YARD/one, policy: web}, again: {cgroup: $YARD/one, policy: other}}" "$YARD" "$more"
        sed -i 's/^policies: {/&other: {required: [lsm, device_guard]}, /' "$CONFIG"
        run agentctl reload
        echo "$output"
        [ "$status" -ne 0 ]
        born "$more/x" udp/203.0.113.9/8000
        assert_arrived 203.0.113.9 udp 8000
}

@test "guards in guards: the inner one holds when the outer one ends, and an agent passes both" {
        mkdir -p "$CGROUP_ROOT$YARD/in/one"
        CONFIG=$(guards_config "{claude: {cgroup: $YARD/in/one, policy: web}}" "$YARD" "$YARD/in")
        start_daemon "$CONFIG"
        agentctl wait claude
        judge_table in_cgroup "$YARD/in/one" agent <<'TABLE'
tcp/10.20.0.7/80         ok
udp/10.20.0.7/8000       ok
udp/203.0.113.9/8000     denied
TABLE
        recorder_mark agent
        born "$YARD/in/x" udp/203.0.113.9/8000
        born "$YARD/x" udp/203.0.113.9/8000
        refute_arrived 203.0.113.9
        guards_config "{claude: {cgroup: $YARD/in/one, policy: web}}" "$YARD/in"
        agentctl reload
        born "$YARD/in/x" udp/203.0.113.9/8000
        refute_arrived 203.0.113.9
        born "$YARD/x" udp/203.0.113.9/8000
        assert_arrived 203.0.113.9 udp 8000
        judge_table in_cgroup "$YARD/in/one" agent <<'TABLE'
tcp/10.20.0.7/80         ok
udp/203.0.113.9/8000     denied
TABLE
}

# In PATH, as a process; its thread goes to PATH/thread and sends from there.
threaded_send() {
        local path=$1
        shift
        mkdir -p "$CGROUP_ROOT$path/thread"
        echo threaded > "$CGROUP_ROOT$path/thread/cgroup.type"
        in_cgroup "$path" agent "$PYTHON" - "$CGROUP_ROOT$path/thread" "$@" <<'PY'
import socket, sys, threading

def work():
    with open(sys.argv[1] + "/cgroup.threads", "w") as file:
        file.write(str(threading.get_native_id()))
    for address in sys.argv[2:]:
        try:
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"thread", (address, 8000))
            print(address, "sent")
        except OSError as error:
            print(address, "errno", error.errno)

thread = threading.Thread(target=work)
thread.start()
thread.join()
PY
}

@test "threads in threaded cgroups are where their process is: denied below the guard, judged inside an agent" {
        recorder_mark agent
        threaded_send "$YARD/free" 203.0.113.9
        assert_arrived 203.0.113.9 udp 8000
        mkdir "$CGROUP_ROOT$YARD/one"
        CONFIG=$(guards_config "{claude: {cgroup: $YARD/one, policy: web}}" "$YARD")
        start_daemon "$CONFIG"
        agentctl wait claude
        recorder_mark agent
        run threaded_send "$YARD/two" 203.0.113.9 10.20.0.7
        assert_equal "$output" $'203.0.113.9 errno 1\n10.20.0.7 errno 1'
        run threaded_send "$YARD/one" 203.0.113.9 10.20.0.7
        assert_equal "$output" $'203.0.113.9 errno 1\n10.20.0.7 sent'
        refute_arrived 203.0.113.9
        assert_arrived 10.20.0.7 udp 8000
}

@test "a guard's links that somebody detaches are attached again and reported" {
        local id
        command -v bpftool > /dev/null || skip "no bpftool"
        CONFIG=$(guards_config '{}' "$YARD")
        start_daemon "$CONFIG"
        for hook in egress ingress; do
                id=$(bpftool -j link show pinned "$AGENTD_BPFFS"/agentd/v*/guards/*/$hook | jq .id)
                bpftool link detach id "$id"
                wait_for "$EVENTS" "\"type\":\"drift\".*guard $YARD was not attached"
                [ "$(bpftool -j link show pinned "$AGENTD_BPFFS"/agentd/v*/guards/*/$hook | jq .id)" != "$id" ]
                : > "$EVENTS"
        done
        recorder_mark agent
        born "$YARD/x" udp/203.0.113.9/8000
        refute_arrived 203.0.113.9
        run agentctl doctor
        assert_match "$output" "guard +$YARD +denies what is no agent"
        run agentctl doctor -o json
        assert_equal "$(jq -r '.guard.parents[0].state' <<< "$output")" guarding
}

@test "uninstall ends the guard and leaves nothing" {
        CONFIG=$(guards_config '{}' "$YARD")
        start_daemon "$CONFIG"
        daemon_stop
        recorder_mark agent
        born "$YARD/x" udp/203.0.113.9/8000
        refute_arrived 203.0.113.9
        "$AGENTD" uninstall
        [ ! -e "$AGENTD_BPFFS/agentd" ]
        born "$YARD/x" udp/203.0.113.9/8000
        assert_arrived 203.0.113.9 udp 8000
}

# sshd_begin PATH NAMESPACE: something of that name, up and running.
sshd_begin() {
        : > "$TEST_DIR/up"
        background in_cgroup "$1" "$2" "$TEST_DIR/sshd" -f "$TEST_DIR/words" > "$TEST_DIR/up"
        SSHD=$!
        wait_for "$TEST_DIR/up" up
}

@test "a guard over the host's SSH server is refused, one over a container's is not" {
        local host
        cp "$(command -v tail)" "$TEST_DIR/sshd"
        echo up > "$TEST_DIR/words"
        mkdir -p "$CGROUP_ROOT$YARD/one" "$CGROUP_ROOT$YARD/service" "$CGROUP_ROOT$YARD/container"
        CONFIG=$(guards_config "{claude: {cgroup: '$YARD/o*', policy: web}}" "$YARD")
        sshd_begin "$YARD/container" agent
        sshd_begin "$YARD/one" host
        sshd_begin "$YARD/service" host
        host=$(cat "$CGROUP_ROOT$YARD/service/cgroup.procs")
        run in_ns host timeout 20 "$AGENTD" serve --config "$CONFIG"
        assert_equal "$status" 2
        assert_match "$output" "guard\.yaml:4:9: guard '$YARD': sshd \(pid $host\) of this host runs below it.*agents only"
        kill "$host"
        wait "$SSHD" || true
        start_daemon "$CONFIG"
        # It holds now: a name does not keep the next daemon from starting.
        sshd_begin "$YARD/service" host
        daemon_stop KILL
        start_daemon "$CONFIG"
}

@test "what lives below the guard in namespaces of its own may not ask the daemon; a runtime's hook may" {
        CONFIG=$(guards_config '{}' "$YARD")
        start_daemon "$CONFIG"
        mkdir "$CGROUP_ROOT$YARD/x"
        run in_cgroup "$YARD/x" agent "$AGENTCTL" status
        assert_equal "$status" 0
        run in_cgroup "$YARD/x" agent unshare --mount "$AGENTCTL" status
        assert_match "$output" 'agents may not control the daemon'
        [ "$status" -ne 0 ]
        run in_cgroup "$YARD/x" agent unshare --pid --fork "$AGENTCTL" reload
        [ "$status" -ne 0 ]
        run in_ns agent unshare --mount "$AGENTCTL" status
        assert_equal "$status" 0
}
