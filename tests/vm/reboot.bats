#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The same guest after a reboot (tests/vm/systemd.sh): what was used is remembered, policies and the guard are there before
# the first agent.

load ../lib/net
load world

export SYSTEMD_COLORS=0 SYSTEMD_URLIFY=0 SYSTEMD_PAGER=cat
WAIT_SECONDS=120

setup_file() { world_up; }
teardown_file() {
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

@test "the guard and the policies were there before the first agent of this boot" {
        assert_equal "$(unit_of agentd.service ActiveState)/$(unit_of agentd.service NRestarts)" active/0
        assert_match "$(head -n 1 /run/early/log)" '^EPERM forbidden'
        refute_match "$(cat /run/early/log)" 'sent forbidden'
        assert_equal "$(cat "$BATS_FILE_TMPDIR/before")" 1
        [ "$(unit_of agentd.service ActiveEnterTimestampMonotonic)" -lt "$(unit_of early.service ExecMainStartTimestampMonotonic)" ]
}

@test "a budget goes on where the last boot has left it, and ends where it ends" {
        # 40 datagrams of the last boot (tests/vm/systemd.bats), 1028 bytes each as they leave.
        before=$((40 * 1028))
        run agent counted.service "$PYTHON" "$TESTS_TOP/tests/vm/spend.py" 10.20.0.7 9 1000
        assert_equal "$output" $(((102400 - before) / 1028))
        assert_equal "$(arrived_from_guest 10.20.0.7 udp 9)" "$output"
}
