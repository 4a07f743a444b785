#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# vmtest/run itself: whose status it gives, what it takes for a failure, and that it says so. One guest a test, emulated.

load ../lib/net

setup_file() {
        cd "$TESTS_TOP"
        # Where kernels cannot be fetched (no mirror, no root, no QEMU) nothing here can be shown.
        VMTEST_MISSING=$(timeout 300 vmtest/run --kernel 6.1 --fetch 2>&1 > /dev/null) || export VMTEST_MISSING
        command -v qemu-system-x86_64 > /dev/null || export VMTEST_MISSING="no qemu-system-x86_64"
}

setup() {
        cd "$TESTS_TOP"
        [ -z "${VMTEST_MISSING:-}" ] || skip "no kernel to boot: ${VMTEST_MISSING##*$'\n'}"
}

vmtest() { run timeout -k 10 240 vmtest/run "$@"; }

@test "the guest runs the kernel that was asked for, as root, with cgroup v2 alone, and its status is the command's" {
        vmtest --kernel 6.1 --results "$BATS_TEST_TMPDIR/results" -- sh -c '
                uname -r; id -u; grep -c cgroup /proc/mounts; ls /sys/class/net; echo told > "$VMTEST_RESULTS"; exit 7'
        echo "$output"
        assert_equal "$status" 7
        grep -q '^6\.1\.' <<< "$output"
        grep -q 'vmtest: Linux 6\.1\.[^ ]*, \(tcg\|kvm\)$' <<< "$output"
        assert_equal "$(grep -c -x 1 <<< "$output")" 1
        assert_equal "$(grep -c -x 0 <<< "$output")" 1
        # No way out: loopback is all there is.
        grep -q -x lo <<< "$output"
        run grep -E -x '(eth|en).*' <<< "$output"
        assert_equal "$status" 1
        assert_equal "$(cat "$BATS_TEST_TMPDIR/results")" told
}

@test "what root in the guest writes to the host's files is not there afterwards" {
        file=$TESTS_TOP/vmtest/.written-by-a-guest
        vmtest --kernel 6.1 -- sh -c "echo x > '$file' && cat '$file' && mount -o remount,rw /lower 2>&1; ls /proc/1/root/lower 2>&1 | head -n 1"
        assert_equal "$status" 0
        grep -q -x x <<< "$output"
        [ ! -e "$file" ]
}

@test "a panic, a warning of the kernel and a hang are failures, and the end of the log is shown" {
        vmtest --kernel 6.1 -- sh -c 'echo c > /proc/sysrq-trigger'
        assert_equal "$status" 125
        grep -q 'vmtest: Linux 6\.1\..*: the kernel complained: .*\(panic\|BUG\|Oops\)' <<< "$output"
        grep -q 'vmtest: | .*sysrq' <<< "$output"

        vmtest --kernel 6.1 -- sh -c 'echo "<4>WARNING: CPU: 0 PID: 1 at kernel/bpf/verifier.c:1 made up" > /dev/kmsg'
        assert_equal "$status" 125
        grep -q 'the kernel complained: .*made up (the command had ended with 0)' <<< "$output"

        vmtest --kernel 6.1 --timeout 20 -- sh -c 'echo waiting; read -r never < /dev/ttyS0'
        assert_equal "$status" 125
        grep -q -x waiting <<< "$output"
        grep -q 'vmtest: Linux 6\.1\..*: timed out after 20 s' <<< "$output"
}

@test "a kernel that nobody offers is one clear error" {
        vmtest --kernel 4.4 -- true
        assert_equal "$status" 125
        assert_equal "$(wc -l <<< "$output")" 1
        grep -q "vmtest: no kernel of series '4.4' can be had; there are: .*6\.1" <<< "$output"
        vmtest --kernel '6.1;x' -- true
        assert_equal "$status" 2
        vmtest --kernel 6.1
        assert_equal "$status" 2
}

@test "two guests side by side do not disturb each other" {
        timeout -k 10 240 vmtest/run --kernel 6.1 --results "$BATS_TEST_TMPDIR/one" -- \
                sh -c 'echo one > /tmp/who; mkdir /sys/fs/cgroup/same; cat /tmp/who > "$VMTEST_RESULTS"; exit 11' \
                > "$BATS_TEST_TMPDIR/output.one" 2>&1 3>&- &
        first=$!
        vmtest --kernel 6.1 --results "$BATS_TEST_TMPDIR/two" -- \
                sh -c 'echo two > /tmp/who; mkdir /sys/fs/cgroup/same; cat /tmp/who > "$VMTEST_RESULTS"; exit 12'
        assert_equal "$status" 12
        status=0
        wait "$first" || status=$?
        assert_equal "$status" 11
        assert_equal "$(cat "$BATS_TEST_TMPDIR/one" "$BATS_TEST_TMPDIR/two" | tr '\n' ' ')" 'one two '
}

@test "who ends vmtest/run ends its guest, and nothing of it stays" {
        TMPDIR=$BATS_TEST_TMPDIR vmtest/run --kernel 6.1 -- sh -c 'echo up; read -r never < /dev/ttyS0' > "$BATS_TEST_TMPDIR/output" 2>&1 3>&- &
        runner=$!
        WAIT_SECONDS=120 wait_for "$BATS_TEST_TMPDIR/output" '^up'
        guest=$(pgrep -f "qemu-system.*$BATS_TEST_TMPDIR" | tail -n 1)
        [ -n "$guest" ]
        kill "$runner"
        wait_gone "$guest"
        wait "$runner" || true
        assert_equal "$(find "$BATS_TEST_TMPDIR" -name 'agentd-vmtest.*')" ''
        run pgrep -f "virtiofsd.*$BATS_TEST_TMPDIR"
        assert_equal "$status" 1
}
