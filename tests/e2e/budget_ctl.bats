#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Budgets as the operator has them: shown, granted, reset, remembered over kill -9, restart and reboot, and over steps of
# the clock. What the kernel lets through is budget.bats.

load ../lib/net
load ../lib/judge

setup_file() {
        net_up agent host other
        gcc -shared -fPIC -o "$BATS_FILE_TMPDIR/clock.so" "$TESTS_TOP/tests/e2e/clock.c" -ldl
}
teardown_file() { net_down; }
setup() {
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
        OTHER_CGROUP=$(cgroup_make two)
        export AGENTD_FLUSH_MS=20
}
teardown() { test_end; }

budget_config() {
        config "${1:-daemon.yaml}" <<YAML
policies:
  web:
    egress:
      - name: bulk
        cidr: 10.20.0.0/16
        budget: {bytes: ${BULK:-4000}, per: week} # no test begins in one week and ends in another
      - {cidr: 203.0.113.0/24}
    budget:
      - {bytes: ${DAY:-100000}, per: day}
      ${HOURLY:+- $HOURLY}
      - {bytes: 1MiB, per: month, direction: both}
      - {bytes: 200000, per: total, shared: true}
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
  claude-2: {cgroup: $OTHER_CGROUP, policy: web}
YAML
}

# send ADDRESS BYTES [COUNT]: datagrams of BYTES at IP level, from the agent; the answers are not waited for.
send() {
        in_agent "$PYTHON" -c '
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(int(sys.argv[3])):
    try:
        s.sendto(b"x" * (int(sys.argv[2]) - 28), (sys.argv[1], 9))
    except OSError:
        pass
' "$1" "$2" "${3:-1}"
}

# budget SCOPE FILTER: of claude-1.
budget() {
        agentctl budget show claude-1 -o json | jq -e -c --arg scope "$1" ".[] | select(.scope == \$scope) | $2"
}

# The store's file holds these used bytes of that key's end.
stored() {
        [ "$(python3 - "$TEST_DIR/state/agentd.db" "$1" <<'PY'
import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT max(used) FROM ledger WHERE key LIKE '%' || ?", (sys.argv[2],)).fetchone()[0])
PY
        )" = "$2" ]
}

# until_true COMMAND...: within WAIT_SECONDS.
until_true() {
        local end=$((SECONDS + WAIT_SECONDS))
        until "$@" > "$TEST_DIR/until" 2>&1; do
                if [ "$SECONDS" -ge "$end" ]; then
                        echo "never true: $*" >&2
                        cat "$TEST_DIR/until" >&2
                        return 1
                fi
        done
}

@test "budget show tells scope, limit, used, left and the window of every ledger" {
        start_daemon "$(budget_config)"
        send 10.20.0.7 1000 2
        run agentctl budget show claude-1 -o json
        assert_equal "$status" 0
        echo "$output"
        jq -e 'type == "array" and length == 4 and all(.[]; .agent == "claude-1")' <<< "$output"
        jq -e '[.[].scope] | sort == ["agent/day", "agent/month/both", "bulk/week", "shared/total"]' <<< "$output"
        budget bulk/week '.used == 2000 and .limit == 4000 and .left == 2000 and .granted == 0 and .percent == 50
                and .rule == "bulk" and .per == "week" and .direction == "egress" and .shared == false
                and .on_exhausted == "drop"'
        budget agent/day '.used == 2000 and .left == 98000 and .rule == null'
        budget agent/month/both '.direction == "both" and .used >= 2000'
        budget shared/total '.shared and .used == 2000 and .window_start == null and .window_end == null'
        budget bulk/week '(.window_end | fromdateiso8601) - (.window_start | fromdateiso8601) == 604800
                and (.window_end | fromdateiso8601) > now and (.window_start | fromdateiso8601) <= now'
        # What is shared is shown with each who shares it.
        agentctl budget show -o json | jq -e '[.[] | select(.scope == "shared/total") | [.agent, .used]] | sort
                == [["claude-1", 2000], ["claude-2", 2000]]'
        run agentctl budget show
        assert_equal "$status" 0
        assert_match "${lines[0]}" '^AGENT +SCOPE +USED +LIMIT +LEFT +% +WINDOW-END +RATE +TIME-LEFT'
        assert_match "$output" 'claude-1 +bulk/week +2\.0 KiB +3\.9 KiB +2\.0 KiB +50 '
        run agentctl budget show nobody
        assert_equal "$status" 1
        assert_match "$output" "no agent 'nobody'"
}

@test "the rate of use and the time left follow from what was sent" {
        DAY=100MiB start_daemon "$(budget_config)"
        until_true budget agent/day '.time_left == null and .rate == 0'
        send 203.0.113.9 1400 50
        until_true budget agent/day '.rate > 0 and (.time_left > 0 or .time_left == null)'
        until_true budget shared/total '.rate > 0 and .time_left > 0'
}

@test "a spent budget is refused and told; grant gives more in this window, and that is told too" {
        start_daemon "$(budget_config)"
        send 10.20.0.7 1000 8
        budget bulk/week '.used == 4000 and .left == 0 and .percent == 100'
        wait_event '"type":"budget".*"percent":100'
        event '.type == "budget" and .percent == 80 and .reason == null and .agent == "claude-1" and .scope == "bulk/week"'
        event '.type == "budget" and .percent == 100 and .reason == "budget_exhausted" and .scope == "bulk/week"
                and .rule == "bulk" and .limit == 4000 and .used <= 4000 and .policy == "web"
                and (.window_end | fromdateiso8601) > now'
        recorder_mark agent
        send 10.20.0.7 1000
        refute_arrived 10.20.0.7 udp 9
        run agentctl explain claude-1 10.20.0.7:443 -o json
        assert_equal "$status" 1
        jq -e '.reason == "budget_exhausted" and .budget_left == 0 and .rule == "bulk"
                and (.budgets | length == 4) and (.budgets[] | select(.scope == "bulk/week") | .left == 0)
                and (.budgets[] | select(.scope == "agent/day") | .left == 96000)' <<< "$output"
        run agentctl budget grant claude-1 bulk 1500
        assert_equal "$status" 0
        assert_match "$output" 'bulk/week of claude-1 granted: 3\.9 KiB of 5\.4 KiB used'
        budget bulk/week '.limit == 4000 and .granted == 1500 and .left == 1500'
        event '.type == "audit" and .agent == "claude-1" and .scope == "bulk/week" and .before == 4000 and .after == 5500
                and .process.uid == 0 and .process.pid > 0 and .process.comm == "agentctl"
                and (.process.exe | endswith("agentctl")) and (.detail | startswith("grant of bulk/week"))'
        recorder_mark agent
        send 10.20.0.7 1000 3
        assert_arrived 10.20.0.7 udp 9
        budget bulk/week '.used == 5000 and .left == 500'
        # What was granted can be spent again, and is told again.
        until_true eval "[ \"\$(event '.type == \"budget\" and .percent == 100' | wc -l)\" = 2 ]"
}

@test "reset forgets what was used, of the agent alone or of one scope" {
        start_daemon "$(budget_config)"
        send 10.20.0.7 1000 2
        agentctl budget grant claude-1 bulk 500
        run agentctl budget reset claude-1 bulk/week
        assert_equal "$status" 0
        assert_match "$output" 'bulk/week of claude-1 reset: 0 B of 3\.9 KiB used'
        budget bulk/week '.used == 0 and .granted == 0 and .left == 4000'
        budget agent/day '.used == 2000'
        agentctl budget reset claude-1
        budget agent/day '.used == 0'
        budget agent/month/both '.used == 0'
        budget shared/total '.used == 2000' # it is the others' as well
        agentctl budget reset claude-1 shared -o json | jq -e 'length == 1 and .[0].used == 0'
        event '.type == "audit" and .scope == "agent/day" and .before == 2000 and .after == 0'
        # On the disk before anything else can happen.
        until_true stored claude-1/agent/day 0
}

@test "a scope that is unknown or fits several is refused with the list; sizes that are none too" {
        start_daemon "$(budget_config)"
        run agentctl budget grant claude-1 agent 1MiB
        assert_equal "$status" 2
        assert_match "$output" "fits several.*'agent/day', 'agent/month/both'"
        run agentctl budget grant claude-1 agent/yea 1MiB
        assert_equal "$status" 2
        assert_match "$output" "no budget 'agent/yea'; it has: .*'bulk/week'"
        run agentctl budget reset claude-1 nothing
        assert_equal "$status" 2
        run agentctl budget grant nobody agent/day 1MiB
        assert_equal "$status" 1
        for size in 10M 1.5GiB 0 '' 99999999999999999999 10mib; do
                run agentctl budget grant claude-1 agent/day "$size"
                assert_equal "$status" 2
                assert_equal "${#lines[@]}" 1
                assert_match "$output" "^agentctl: '$size' is no size that can be granted; such as '10MiB'"
        done
        run agentctl budget grant claude-1 agent/day 300TiB
        assert_equal "$status" 2
        assert_match "$output" '256 TiB'
        budget agent/day '.granted == 0'
        for verb in show grant reset; do
                run agentctl budget "$verb" --help
                assert_equal "$status" 0
                assert_match "$output" 'agentctl budget (show|grant|reset) claude-1'
        done
}

@test "on_exhausted: reset ends the sockets of that budget, and no others" {
        file=$(budget_config)
        sed -i 's/{bytes: 4000, per: week}/{bytes: 4000, per: week, on_exhausted: reset}/' "$file"
        start_daemon "$file"
        budget bulk/week '.on_exhausted == "reset"'
        background in_agent "$PYTHON" -c '
import socket, sys
bulk, other, inner = (socket.create_connection(a, 5) for a in (("10.20.0.7", 5432), ("203.0.113.9", 5432), ("203.0.113.8", 5432)))
for s in (bulk, other):
    assert s.recv(5) == b"hello" and s.recv(1)
print("open", flush=True)
bulk.settimeout(10)
try:
    while True:
        bulk.send(b"x" * 500)
        if not bulk.recv(500):
            break
    print("end", flush=True)
except OSError as error:
    print("ended", error.strerror, flush=True)
other.send(b"still.")
print("other", other.recv(6), flush=True)
' > "$TEST_DIR/sockets" 2>&1
        wait_for "$TEST_DIR/sockets" '^other '
        cat "$TEST_DIR/sockets"
        grep -q '^ended Software caused connection abort' "$TEST_DIR/sockets"
        grep -q "^other b'still" "$TEST_DIR/sockets"
        budget bulk/week '.used <= 4000'
}

@test "on_exhausted: reset ends those too who used up what a large packet had left" {
        file=$(budget_config)
        sed -i 's/{bytes: 4000, per: week}/{bytes: 30000, per: week, on_exhausted: reset}/' "$file"
        start_daemon "$file"
        bulk() {
                in_agent "$PYTHON" -c '
import socket
try:
    s = socket.create_connection(("10.20.0.7", 5432), 5)
    s.settimeout(30)
    while True:
        s.send(bytes(1 << 16))
except OSError as error:
    print(error.strerror or error)
'
        }
        # Each ends with an error, none by its own patience; those that come too late do not begin.
        for _ in 1 2 3 4 5 6; do
                run bulk
                echo "$output"
                assert_match "$output" '^(Software caused connection abort|Operation not permitted)$'
        done
        assert_equal "$output" 'Operation not permitted'
        budget bulk/week '.left < 1500'
}

@test "a budget that agents share tells of 80 % and 100 %" {
        file=$(budget_config)
        sed -i 's/bytes: 200000, per: total/bytes: 10000, per: total/' "$file"
        start_daemon "$file"
        send 203.0.113.9 1000 8
        wait_event '"scope":"shared/total","used":8000,"limit":10000,"percent":80'
        send 203.0.113.9 1000 3
        wait_event '"scope":"shared/total","used":10000,"limit":10000,"percent":100'
        event '.type == "budget" and .scope == "shared/total" and (.agent | test("^claude-[12]$"))'
}

@test "a TCP connection whose answer would not be let in fails at once" {
        file=$(budget_config)
        sed -i 's/{bytes: 4000, per: week}/{bytes: 50, per: week, direction: ingress}/' "$file"
        start_daemon "$file"
        run in_agent "$PYTHON" -c '
import socket
socket.create_connection(("10.20.0.7", 5432), 5)
'
        assert_match "$output" 'PermissionError: .*Operation not permitted'
        wait_event '"reason":"budget_exhausted".*"rule":"bulk"'
        # Who expects no answer may send.
        recorder_mark agent
        send 10.20.0.7 1000
        assert_arrived 10.20.0.7 udp 9
}

@test "an edit of the policy keeps what was used, and the limit acts at once" {
        start_daemon "$(budget_config)"
        send 10.20.0.7 1000 3
        BULK=2000 budget_config >/dev/null
        agentctl reload
        budget bulk/week '.used == 3000 and .limit == 2000 and .left == 0 and .percent == 150'
        recorder_mark agent
        send 10.20.0.7 500
        refute_arrived 10.20.0.7 udp 9
        BULK=5000 budget_config >/dev/null
        agentctl reload
        budget bulk/week '.used == 3000 and .limit == 5000 and .left == 2000'
        send 10.20.0.7 500
        assert_arrived 10.20.0.7 udp 9
        budget bulk/week '.used == 3500'
}

@test "kill -9 loses nothing, and a grant stays" {
        start_daemon "$(budget_config)"
        send 10.20.0.7 1000 2
        agentctl budget grant claude-1 bulk 1000
        daemon_stop KILL
        send 10.20.0.7 1000 1 # while nobody is there
        start_daemon "$(budget_config)"
        budget bulk/week '.used == 3000 and .granted == 1000'
        budget shared/total '.used == 3000'
        send 10.20.0.7 1000 5
        budget bulk/week '.used == 5000 and .left == 0'
}

# As after a reboot: nothing is pinned, the cgroups are new.
reboot() {
        daemon_stop "${1:-TERM}"
        rm -rf "${AGENTD_BPFFS:?}/agentd"
        cgroup_remove "$CGROUP_ROOT$AGENT_CGROUP"
        cgroup_remove "$CGROUP_ROOT$OTHER_CGROUP"
        mkdir -p "$CGROUP_ROOT$AGENT_CGROUP" "$CGROUP_ROOT$OTHER_CGROUP"
}

@test "after a reboot the ledgers begin where they were when the daemon was stopped" {
        AGENTD_FLUSH_MS=5000 start_daemon "$(budget_config)"
        send 10.20.0.7 1000 3
        agentctl budget grant claude-1 agent/day 5000
        send 10.20.0.7 500
        reboot
        start_daemon "$(budget_config)"
        budget bulk/week '.used == 3500'
        budget agent/day '.used == 3500 and .granted == 5000'
        budget shared/total '.used == 3500'
        agentctl status -o json | jq -e --arg d "$TEST_DIR/state" '.state.directory == $d and .state.failures == 0
                and .state.error == null'
        send 10.20.0.7 1000 5
        budget bulk/week '.used == 3500 and .left == 500'
}

@test "after a crash of the host at most the last interval is lost" {
        start_daemon "$(budget_config)"
        send 10.20.0.7 1000 3
        until_true stored claude-1/bulk/week 3000
        reboot KILL
        start_daemon "$(budget_config)"
        budget bulk/week '.used == 3000'
}

@test "an agent that goes and comes back within its window has what it had used" {
        start_daemon "$(budget_config)"
        send 10.20.0.7 1000 3
        cgroup_remove "$CGROUP_ROOT$AGENT_CGROUP"
        wait_event '"type":"lifecycle".*"agent":"claude-1".*"detail":"detached'
        # Longer than its ledgers rest: they are gone from the kernel, and remembered.
        until_true eval '! bpftool map dump pinned "$(echo "$AGENTD_BPFFS"/agentd/v*/limit_ids)" | grep -q claude-1'
        mkdir -p "$CGROUP_ROOT$AGENT_CGROUP"
        agentctl wait claude-1
        budget bulk/week '.used == 3000'
}

@test "an agent that ended while no daemon lived has what it had used" {
        AGENTD_FLUSH_MS=5000 start_daemon "$(budget_config)"
        send 10.20.0.7 1000 3
        daemon_stop KILL
        cgroup_remove "$CGROUP_ROOT$AGENT_CGROUP"
        start_daemon "$(budget_config)"
        mkdir -p "$CGROUP_ROOT$AGENT_CGROUP"
        agentctl wait claude-1
        budget bulk/week '.used == 3000'
}

@test "a store that is damaged, or of a newer build, is refused with the way out, never read as nothing" {
        start_daemon "$(budget_config)"
        send 10.20.0.7 1000 3
        reboot
        cp "$TEST_DIR/state/agentd.db" "$TEST_DIR/good.db"
        # Every page but the first, and the whole of the file.
        dd if=/dev/urandom of="$TEST_DIR/state/agentd.db" bs=4096 seek=1 count=3 conv=notrunc 2>/dev/null
        run timeout 20 "$AGENTD" serve --config "$(budget_config)"
        assert_equal "$status" 1
        assert_match "$output" 'agentd\.db'
        echo garbage > "$TEST_DIR/state/agentd.db"
        rm -f "$TEST_DIR"/state/agentd.db-*
        run timeout 20 "$AGENTD" serve --config "$(budget_config)"
        assert_equal "$status" 1
        assert_match "$output" 'agentd\.db'
        cp "$TEST_DIR/good.db" "$TEST_DIR/state/agentd.db"
        python3 -c 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute("PRAGMA user_version = 999")' "$TEST_DIR/state/agentd.db"
        run timeout 20 "$AGENTD" serve --config "$(budget_config)"
        assert_equal "$status" 1
        assert_match "$output" 'newer'
        cp "$TEST_DIR/good.db" "$TEST_DIR/state/agentd.db"
        start_daemon "$(budget_config)"
        budget bulk/week '.used == 3000'
}

@test "a disk that takes nothing is told once, and what was used is written when it does" {
        mkdir "$TEST_DIR/full"
        mount -t tmpfs -o size=300k tmpfs "$TEST_DIR/full"
        rmdir "$TEST_DIR/state"
        ln -s nowhere "$TEST_DIR/unused"
        mkdir -m 0700 "$TEST_DIR/full/state"
        file=$(budget_config)
        sed -i "s|state_dir: [^,]*|state_dir: $TEST_DIR/full/state|" "$file"
        start_daemon "$file"
        dd if=/dev/zero of="$TEST_DIR/full/ballast" bs=1k 2>/dev/null || true
        send 10.20.0.7 1000 3
        until_true eval 'agentctl status -o json | jq -e ".state.failures > 2 and .state.waiting > 0 and .healthy == false"'
        assert_equal "$(grep -c 'budgets are not remembered' "$TEST_DIR/daemon.log")" 1
        budget bulk/week '.used == 3000' # and nobody waits for the disk
        rm "$TEST_DIR/full/ballast"
        until_true eval 'agentctl status -o json | jq -e ".state.waiting == 0 and .state.error == null"'
        daemon_stop
        umount "$TEST_DIR/full"
}

# clock SECONDS: the daemon's wall clock from now on.
clock() {
        echo "$1" > "$TEST_DIR/clock"
}

start_with_clock() {
        clock "${1:-0}"
        ASAN_OPTIONS=$ASAN_OPTIONS:verify_asan_link_order=0 \
                AGENTD_TEST_CLOCK=$TEST_DIR/clock LD_PRELOAD=$BATS_FILE_TMPDIR/clock.so start_daemon "$(budget_config)"
}

@test "windows follow a clock that steps: forward they end, back they keep what was used" {
        start_with_clock
        send 10.20.0.7 1000 3
        clock 604800
        until_true budget bulk/week '.used == 0'
        budget shared/total '.used == 3000'
        budget bulk/week '(.window_start | fromdateiso8601) > now'
        send 10.20.0.7 1000 4
        budget bulk/week '.used == 4000'
        # Three weeks back: nothing is given for that.
        clock -1209600
        until_true budget bulk/week '(.window_end | fromdateiso8601) < now'
        budget bulk/week '.used == 4000'
        recorder_mark agent
        send 10.20.0.7 1000
        refute_arrived 10.20.0.7 udp 9
        # To and fro gives nothing either: what a window had used before is remembered.
        clock 0
        until_true budget bulk/week '(.window_end | fromdateiso8601) > now and (.window_start | fromdateiso8601) <= now'
        budget bulk/week '.used == 3000'
}

@test "a host that boots with an old clock remembers when the clock is set right" {
        start_with_clock
        send 10.20.0.7 1000 3
        reboot
        start_with_clock -1728000
        budget bulk/week '.used == 3000'
        send 10.20.0.7 500
        budget bulk/week '.used == 3500'
        reboot KILL # and once more before it could be set
        start_with_clock -1727000
        until_true budget bulk/week '.used >= 3000'
        clock 0
        until_true budget bulk/week '(.window_end | fromdateiso8601) > now and (.window_start | fromdateiso8601) <= now'
        budget bulk/week '.used >= 3000'
}

@test "a clock that is set right by years ends the windows that it had begun" {
        # Hours are counted modulo 2^16: this many look like 25536 back.
        step=$((40000 * 3600))
        start_with_clock -$((step - 1))
        HOURLY='{bytes: 5000, per: hour}' budget_config > /dev/null
        agentctl reload
        send 10.20.0.7 1000 3
        budget agent/hour '.used == 3000'
        clock 0
        # What was used counts in the hour of now, and ends with it.
        until_true budget agent/hour '(.window_start | fromdateiso8601) <= now and (.window_end | fromdateiso8601) > now'
        budget agent/hour '.used == 0 or .used == 3000'
        clock 3600
        until_true budget agent/hour '(.window_start | fromdateiso8601) > now - 1 and .used == 0'
        recorder_mark agent
        send 10.20.0.7 1000
        assert_arrived 10.20.0.7 udp 9
        budget agent/hour '.used == 1000'
}

# many_config BURST: ten agents with a thousand limited rules each, which is more than half of what the kernel's table
# of sets can hold.
many_config() {
        config daemon.yaml <<YAML
policies:
  many:
    budget: {bytes: ${DAY:-100000}, per: day}
    egress:
$(for i in $(seq 1 1000); do
        echo "      - {name: r$i, cidr: 10.20.$((i / 250)).$((i % 250)), rate: {connections: 5, per: hour, burst: $1}}"
done)
agents:
$(for i in $(seq 1 10); do
        echo "  many-$i: {cgroup: $(cgroup_make "many$i"), policy: many}"
done)
YAML
}

@test "a reload that finds no room for its limits changes nothing; an agent without its limits is denied" {
        start_daemon "$(many_config 5)"
        agentctl wait many-10
        AGENT_CGROUP=/$TEST_CGROUP/many1
        send 10.20.0.7 1000 2
        generation=$(agentctl status -o json | jq .generation)
        # Other sets beside those in use: a rule in front moves all classes.
        file=$(DAY=50000 many_config 5)
        sed -i 's|    egress:|&\n      - {name: new, cidr: 10.20.9.9, rate: {connections: 1, per: hour}}|' "$file"
        run agentctl reload
        assert_equal "$status" 4
        assert_match "$output" "cannot hold agent 'many-[0-9]+' to the limits of policy 'many'.*table of ledgers, sets or buckets is full"
        assert_equal "$(agentctl status -o json | jq .generation)" "$generation"
        agentctl budget show many-1 -o json | jq -e '.[0] | .limit == 100000 and .used == 2000'
        send 10.20.0.7 1000
        agentctl budget show many-1 -o json | jq -e '.[0] | .used == 3000'
        # A new daemon goes on with the sets of the old one: nobody is denied meanwhile for want of others.
        daemon_stop KILL
        start_daemon "$(many_config 5)"
        agentctl wait many-10
        refute_match "$(cat "$TEST_DIR/daemon.log")" 'cannot hold'
        agentctl budget show many-1 -o json | jq -e '.[0] | .used == 3000'
        # What changes no set needs no room.
        DAY=50000 many_config 6
        agentctl reload
        agentctl budget show many-1 -o json | jq -e '.[0] | .limit == 50000 and .used == 3000'
        # And once more agents come than there is room for: by hand it is an error, from the file they are denied.
        for i in $(seq 11 16); do
                agentctl attach "more-$i" --cgroup "$(cgroup_make "more$i")" --policy many
        done
        run agentctl attach more-17 --cgroup "$(cgroup_make more17)" --policy many
        assert_equal "$status" 4
        file=$(DAY=50000 many_config 6)
        echo "  many-17: {cgroup: $(cgroup_make many17), policy: many}" >> "$file"
        agentctl reload
        until_true eval 'agentctl agents -o json | jq -e ".agents[] | select(.name == \"many-17\")
                | .state == \"broken\" and (.detail | test(\"everything is denied\"))"'
        AGENT_CGROUP=/$TEST_CGROUP/many17
        recorder_mark agent
        run send 10.20.0.7 1000
        assert_match "$output" 'Operation not permitted'
        refute_arrived 10.20.0.7 udp 9
        agentctl detach more-16
        until_true eval 'agentctl wait many-17 --timeout 1s'
        send 10.20.0.7 1000
        assert_arrived 10.20.0.7 udp 9
}

@test "look-ups have a rate of their own, for each agent, changed by a reload" {
        DNS_EXTRA='rate: {queries: 3, per: hour, burst: 3}'
        file=$(config daemon.yaml <<YAML
policies:
  web:
    egress:
      - {domain: www.example.test, ports: [80]}
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
  claude-2: {cgroup: $OTHER_CGROUP, policy: web}
YAML
        )
        start_daemon "$file"
        for _ in 1 2 3; do
                in_agent dig +short +tries=1 www.example.test | grep -q '^198\.51\.100\.10'
        done
        run in_agent dig +tries=1 www.example.test
        assert_match "$output" 'status: REFUSED'
        assert_match "$output" 'EDE: 18 \(Prohibited\)'
        wait_event '"reason":"rate_exceeded"'
        event '.type == "dns" and .reason == "rate_exceeded" and .agent == "claude-1" and .dst.name == "www.example.test"'
        until_true eval 'agentctl agents -o json | jq -e ".agents[] | select(.name == \"claude-1\") | .lookups.rate == 1"'
        # Another agent's look-ups are another agent's.
        in_cgroup "$OTHER_CGROUP" agent dig +short +tries=1 www.example.test | grep -q '^198\.51\.100\.10'
        sed -i 's/, rate: {queries: 3, per: hour, burst: 3}//' "$file"
        agentctl reload -o json | jq -e '.changes | any(.what == "setting" and .name == "dns")'
        in_agent dig +short +tries=1 www.example.test | grep -q '^198\.51\.100\.10'
        kill -0 "$DAEMON"
}

@test "a one-shot run tells its budgets in the end" {
        file=$(budget_config)
        run confined "$file" "$PYTHON" -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("10.20.0.7", 9))
s.send(b"x" * 972)'
        assert_equal "$status" 0
        assert_match "$output" 'budgets +bulk/week: 1000 B of 3\.9 KiB used|bulk/week: 1000 B of 3\.9 KiB used'
        [ ! -e "$TEST_DIR/state/agentd.db" ]
}
