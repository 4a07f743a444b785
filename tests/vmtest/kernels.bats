#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Every kernel that CI names, booted: every object loads there, what is allowed flows, what is denied never arrives
# (vmtest/suite quick). More of it, on more kernels: make vmtest.

load ../lib/net

setup() {
        cd "$TESTS_TOP"
        # Where kernels cannot be fetched (no mirror, no root, no QEMU) nothing here can be shown.
        missing=$(timeout 300 vmtest/run --kernel 6.1 --fetch 2>&1 > /dev/null) || skip "no kernel to boot: ${missing##*$'\n'}"
        command -v qemu-system-x86_64 > /dev/null || skip "no kernel to boot: no qemu-system-x86_64"
        export VMTEST_SECONDS=${VMTEST_SECONDS:-500}
}

# holds KERNEL: one boot; and what it told is whole.
holds() {
        run vmtest/all quick "$1"
        echo "$output"
        assert_equal "$status" 0
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
        fetched=$(timeout 300 vmtest/run --kernel 5.10 --fetch 2>&1 > /dev/null) || skip "no kernel to boot: ${fetched##*$'\n'}"
        run vmtest/all quick floor
        echo "$output"
        assert_equal "$status" 0
        grep -q 'agentd serve: agentd: .*Linux 5\.10\..* 6\.1 or newer is needed' <<< "$output"
}
