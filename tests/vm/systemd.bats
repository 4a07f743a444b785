#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# agentd as a service of systemd's, in a guest where systemd is process 1 (tests/vm/systemd.sh): the boot, restart, stop
# and reload under traffic, agents as units and as scopes. Judged at the far end.

load ../lib/net
load world

export SYSTEMD_COLORS=0 SYSTEMD_URLIFY=0 SYSTEMD_PAGER=cat
WAIT_SECONDS=120
EVENTS=/var/log/agentd/events.jsonl

setup_file() { world_up; }
teardown_file() {
        systemctl stop flood.service || true
        ip netns del "$ID-guest"
        net_down
}
setup() {
        TEST_DIR=$BATS_TEST_TMPDIR
        recorder_mark guest
}
teardown() {
        [ -z "${BATS_ERROR_STATUS:-}" ] || journalctl -b -o short-monotonic -n 60 | grep -v kernel: >&2
}

flood_start() {
        systemctl is-active --quiet flood.service && return
        systemd-run --quiet --unit=flood --slice=agents.slice "$PYTHON" "$TESTS_TOP/tests/vm/flood.py" /run/flood
        until_true grep -q '^[1-9]' /run/flood
        flood_went_on
}

# The agent has sent, been answered and been refused since the last call, and its connection lives.
flood_went_on() {
        local sent refused forbidden denied echoes rest now
        read -r sent refused forbidden denied echoes rest < /run/flood
        assert_equal "$rest" ''
        until_true flood_is_past "$sent" "$denied" "$echoes"
        read -r sent now _ < /run/flood
        # What is allowed was refused only before the daemon had seen the cgroup, if at all.
        assert_equal "$now" "$refused"
        assert_equal "$forbidden" 0
}

flood_is_past() {
        local sent refused forbidden denied echoes
        read -r sent refused forbidden denied echoes _ < /run/flood
        [ "$sent" -gt $(($1 + 5)) ] && [ "$denied" -gt $(($2 + 5)) ] && [ "$echoes" -gt $(($3 + 5)) ]
}

enforces() {
        agentctl status -o json | jq -e --arg name "$1" '.agents[] | select(.name == $name and .state == "enforcing")'
}

@test "the boot has started it: ready, in its sandbox and with its own directories" {
        assert_equal "$(unit_of agentd.service ActiveState)/$(unit_of agentd.service SubState)" active/running
        assert_match "$(unit_of agentd.service StatusText)" '^Enforcing [0-9]+ agents and 1 guards, policy generation'
        assert_equal "$(unit_of agentd.service NRestarts)" 0
        assert_equal "$(stat -c '%a %U:%G' /run/agentd/agentd.sock)" '660 root:agentd'
        assert_equal "$(stat -c '%a' /var/lib/agentd)" 700
        assert_equal "$(stat -c '%a' /sys/fs/bpf/agentd)" 700
        pid=$(unit_of agentd.service MainPID)
        grep -E '^(CapBnd|CapEff|NoNewPrivs|Seccomp):' "/proc/$pid/status"
        # What it must not write is read-only, and what it must is not; asked where the daemon lives.
        inside=(nsenter --target "$pid" --mount --)
        for path in /etc /usr /var/lib /proc/sys/kernel /sys/kernel /sys/fs/bpf; do
                run "${inside[@]}" sh -c 'test -w "$1"' - "$path"
                [ "$status" != 0 ] || { echo "$path is writable"; return 1; }
        done
        for path in /sys/fs/bpf/agentd /proc/sys/net/ipv4/ping_group_range /var/lib/agentd /var/log/agentd /run/agentd; do
                "${inside[@]}" sh -c 'test -w "$1"' - "$path" || { echo "$path is not writable"; return 1; }
        done
        run agentctl doctor
        refute_match "$output" FAILED
        assert_match "$output" 'ok +process_access'
}

@test "in its sandbox it finds the tiers that this kernel has, and verifies by probes" {
        # Where the kernel calls LSM programs, the sandbox must not hide it.
        if grep -q bpf /sys/kernel/security/lsm; then
                assert_match "$(agentctl doctor | grep lsm_cgroup)" '^ok'
        fi
        assert_match "$(agentctl doctor | grep sock_destroy | head -n 1)" '^ok'
        flood_start
        until_true enforces flood
        agentctl health
}

@test "an agent of the boot was denied from its first instruction until it was enforced" {
        run cat /run/early/log
        refute_match "$output" 'sent forbidden'
        assert_match "${lines[0]}" '^EPERM forbidden'
        assert_equal "$(grep -c '^sent allowed' /run/early/log)" 1
        # The far end's device has met one packet since it was made.
        assert_equal "$(cat "$BATS_FILE_TMPDIR/before")" 1
        # agentd was ready before the agent's process was there.
        [ "$(unit_of agentd.service ActiveEnterTimestampMonotonic)" -lt "$(unit_of early.service ExecMainStartTimestampMonotonic)" ]
}

@test "restart, reload, daemon-reload, daemon-reexec and kill under traffic: no gap in what is enforced, none in what is allowed" {
        flood_start
        before=$(agentctl status -o json | jq .pid)
        for how in 'systemctl restart agentd' 'systemctl reload agentd' 'systemctl daemon-reload' 'systemctl daemon-reexec' \
                   'systemctl kill --kill-whom=all -s KILL agentd'; do
                $how
                flood_went_on
        done
        until_true systemctl is-active --quiet agentd.service
        [ "$(agentctl status -o json | jq .pid)" != "$before" ]
        assert_equal "$(unit_of agentd.service NRestarts)" 1
        until_true enforces flood
        none_leaked
        [ "$(arrived_from_guest 10.20.0.7 udp 9)" -gt 25 ]
        assert_equal "$(unit_of flood.service NRestarts)/$(unit_of flood.service ActiveState)" 0/active
}

@test "stop leaves everything enforced, also what is born meanwhile, and start goes on from there" {
        flood_start
        systemctl stop agentd
        assert_equal "$(unit_of agentd.service ActiveState)" inactive
        assert_equal "$(pgrep -c -x agentd || true)" 0
        flood_went_on
        # A cgroup that no daemon has seen.
        mkdir /sys/fs/cgroup/agents.slice/born
        run sh -c 'echo $$ > /sys/fs/cgroup/agents.slice/born/cgroup.procs && exec "$@"' - \
                env PROBE_SECONDS=1 "$PYTHON" "$TESTS_TOP/tests/lib/probe.py" udp/10.20.0.7/7000 udp/203.0.113.9/7000
        assert_equal "$output" $'udp/10.20.0.7/7000 denied\nudp/203.0.113.9/7000 denied'
        rmdir /sys/fs/cgroup/agents.slice/born
        systemctl start agentd
        flood_went_on
        until_true enforces flood
        none_leaked
        assert_equal "$(arrived_from_guest 10.20.0.7 udp 7000)" 0
}

@test "reload takes a good file, fails on a bad one with its place in the journal, and the service lives on" {
        cp /etc/agentd/agentd.yaml "$TEST_DIR/good.yaml"
        pid=$(unit_of agentd.service MainPID)
        echo '  - wrong' >> /etc/agentd/agentd.yaml
        run systemctl reload agentd
        [ "$status" != 0 ]
        journalctl -u agentd -n 20 | grep -q '/etc/agentd/agentd.yaml:[0-9]*:[0-9]*: '
        assert_equal "$(unit_of agentd.service ActiveState)/$(unit_of agentd.service MainPID)" "active/$pid"
        sed 's/ports: \[80\/tcp, 9\/udp\]/ports: [80\/tcp]/' "$TEST_DIR/good.yaml" > /etc/agentd/agentd.yaml
        systemctl reload agentd
        agentctl policy test web 10.20.0.7:80/tcp
        run agentctl policy test web 10.20.0.7:9/udp
        assert_equal "$status" 1
        cp "$TEST_DIR/good.yaml" /etc/agentd/agentd.yaml
        systemctl reload agentd
        agentctl policy test web 10.20.0.7:9/udp
        assert_equal "$(unit_of agentd.service MainPID)" "$pid"
}

@test "a unit in agents.slice and a scope of systemd-run are agents" {
        # The first look waits for the agent: TCP says its SYN again.
        specs="tcp/10.20.0.7/80 tcp/203.0.113.9/80 udp/203.0.113.9/7000 udp/10.20.0.7/7000"
        expected=$'tcp/10.20.0.7/80 ok\ntcp/203.0.113.9/80 denied\nudp/203.0.113.9/7000 denied\nudp/10.20.0.7/7000 denied'
        # shellcheck disable=SC2086
        run agent agent-one.service env PROBE_SECONDS=20 "$PYTHON" "$TESTS_TOP/tests/lib/probe.py" $specs
        assert_equal "$output" "$expected"
        # shellcheck disable=SC2086
        run systemd-run --quiet --scope --collect --slice=agents.slice --unit=agent-two env PROBE_SECONDS=20 \
                "$PYTHON" "$TESTS_TOP/tests/lib/probe.py" $specs
        assert_equal "$output" "$expected"
        wait_for "$EVENTS" '"type":"deny","agent":"unit-agent-one\.service"'
        wait_for "$EVENTS" '"type":"deny","agent":"scope-agent-two\.scope"'
        none_leaked
        [ "$(arrived_from_guest 10.20.0.7 tcp 80)" -gt 0 ]
}

@test "look-ups of a unit are answered by the worker, who lives in the same sandbox" {
        run agent agent-names.service curl -sS -m 30 --retry 5 --retry-all-errors http://www.example.test/index.html
        assert_equal "$output" 'served by the far end'
        run agent agent-other.service curl -sS -m 10 http://www.wild.test/
        [ "$status" != 0 ]
        wait_for "$EVENTS" '"type":"dns".*unit-agent-other\.service.*name_not_allowed'
}

@test "a daemon that stands still is killed by the watchdog and another one takes over" {
        mkdir -p /run/systemd/system/agentd.service.d
        printf '[Service]\nWatchdogSec=6\nTimeoutAbortSec=2\n' > /run/systemd/system/agentd.service.d/test.conf
        systemctl daemon-reload
        systemctl restart agentd
        flood_start
        pid=$(unit_of agentd.service MainPID)
        kill -STOP "$pid"
        journalctl -f -n 0 -u agentd > "$TEST_DIR/journal" 3>&- &
        follower=$!
        wait_for "$TEST_DIR/journal" 'Watchdog timeout'
        wait_for "$TEST_DIR/journal" 'enforcing 1 agents'
        kill "$follower"
        [ "$(unit_of agentd.service MainPID)" != "$pid" ]
        flood_went_on
        none_leaked
        rm -r /run/systemd/system/agentd.service.d
        systemctl daemon-reload
        systemctl restart agentd
}

@test "agents do not start where agentd is not ready" {
        systemctl stop agents.slice
        assert_equal "$(unit_of agentd-gate.service ActiveState)" inactive
        [ ! -e /sys/fs/cgroup/agents.slice ]
        cp /etc/agentd/agentd.yaml "$TEST_DIR/good.yaml"
        echo '  - wrong' >> /etc/agentd/agentd.yaml
        run systemctl restart agentd
        [ "$status" != 0 ]
        assert_equal "$(unit_of agentd.service ActiveState)/$(unit_of agentd.service ExecMainStatus)" failed/2
        # (systemd-run --wait calls it a success when its service was never started.)
        run agent agent-late.service touch "$TEST_DIR/ran"
        [ ! -e "$TEST_DIR/ran" ]
        run systemd-run --quiet --scope --slice=agents.slice --unit=agent-later touch "$TEST_DIR/ran"
        [ "$status" != 0 ] && [ ! -e "$TEST_DIR/ran" ]
        cp "$TEST_DIR/good.yaml" /etc/agentd/agentd.yaml
        systemctl reset-failed
        # An agent calls for agentd by itself, and for the guard before its own first instruction.
        rm /run/early/log
        systemctl start early.service
        wait_for /run/early/log '^done'
        assert_equal "$(unit_of agentd.service ActiveState)" active
        assert_match "$(head -n 1 /run/early/log)" '^EPERM forbidden'
        refute_match "$(cat /run/early/log)" 'sent forbidden'
        none_leaked
}

@test "a budget is used, for the next boot to know" {
        run agent counted.service "$PYTHON" "$TESTS_TOP/tests/vm/spend.py" 10.20.0.7 9 40
        assert_equal "$output" 40
        assert_equal "$(arrived_from_guest 10.20.0.7 udp 9)" 40
        # What is still open at the shutdown is ended by it in systemd's order: agents first, agentd last.
        flood_start
}
