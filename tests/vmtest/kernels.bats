#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Every kernel that CI names, booted: every object loads there, what is allowed flows, what is denied never arrives
# (vmtest/suite quick). More of it, on more kernels: make vmtest.

load ../lib/net

# Two guests at a time where there are two CPUs; an emulated one keeps one busy.
setup_file() {
        cd "$TESTS_TOP"
        # Where kernels cannot be fetched (no mirror, no root, no QEMU) nothing here can be shown.
        VMTEST_MISSING=$(timeout 300 vmtest/run --kernel 6.1 --fetch 2>&1 > /dev/null) || export VMTEST_MISSING
        command -v qemu-system-x86_64 > /dev/null || export VMTEST_MISSING="no qemu-system-x86_64"
        [ -z "${VMTEST_MISSING:-}" ] || return 0
        export VMTEST_SECONDS=${VMTEST_SECONDS:-500}
        lane 6.1 floor 3>&- &
        first=$!
        [ "$(nproc)" -gt 1 ] || wait "$first"
        lane 6.12 7 3>&-
        wait "$first"
}

lane() {
        local kernel status
        for kernel; do
                status=0
                rm -f "$BUILD/vmtest/$kernel.json"
                timeout 900 vmtest/all quick "$kernel" > "$BATS_FILE_TMPDIR/$kernel.out" 2>&1 < /dev/null || status=$?
                echo "$status" > "$BATS_FILE_TMPDIR/$kernel.status"
        done
}

setup() {
        cd "$TESTS_TOP"
        [ -z "${VMTEST_MISSING:-}" ] || skip "no kernel to boot: ${VMTEST_MISSING##*$'\n'}"
}

# booted KERNEL: its boot ended well.
booted() {
        output=$(cat "$BATS_FILE_TMPDIR/$1.out")
        echo "$output"
        [[ $output != *"vmtest: no kernel of series"* ]] || skip "no kernel to boot: Debian has none of series $1 any more"
        assert_equal "$(cat "$BATS_FILE_TMPDIR/$1.status")" 0
}

# holds KERNEL TCX: and what it told is whole.
holds() {
        booted "$1"
        results=$BUILD/vmtest/$1.json
        jq -e -s '[.[] | select(.kind == "program" and .object == "agentd")] | length > 10 and all(.loaded and .verified > 0 and .verified < 1000000)' "$results"
        jq -e -s '[.[] | select(.test)] | length > 0 and all(.result == "passed")' "$results"
        jq -e -s '[.[] | select(.kind == "feature" and .name == "lsm_cgroup")] | length == 1 and .[0].ok == true' "$results"
        jq -e -s --argjson tcx "$2" '[.[] | select(.kind == "feature" and .name == "tcx")] | .[0].ok == $tcx' "$results"
}

@test "Linux 6.1, the floor: every object loads, the core holds; tier 3 by clsact" {
        holds 6.1 false
}

@test "Linux 6.12: every object loads, the core holds; tier 3 by tcx" {
        holds 6.12 true
}

@test "the newest Linux that Debian has: every object loads, the core holds; tier 3 by tcx" {
        holds 7 true
}

@test "Linux 5.10, below the floor: agentd refuses it with status 4 and one clear line" {
        booted floor
        grep -q 'agentd serve: agentd: .*Linux 5\.10\..* 6\.1 or newer is needed' <<< "$output"
}
