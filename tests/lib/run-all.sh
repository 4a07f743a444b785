#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Every suite, in order from the quickest to the slowest, then one line alone: N passed, N failed, N skipped.
# What a run leaves behind (namespaces, cgroups, mounts, processes, and with CI=true kernel programs) fails it.
set -u

cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}
export BUILD AGENTD_TEST_RUN=$$
AGENTD_RESULTS=$(mktemp "${TMPDIR:-/tmp}/agentd-results.XXXXXX")
export AGENTD_RESULTS
before=$(mktemp "${TMPDIR:-/tmp}/agentd-before.XXXXXX")
trap 'rm -f "$AGENTD_RESULTS" "$before"' EXIT

cgroup_root=$(awk '{ for (i = 1; i <= NF; i++) if ($i == "-" && $(i + 1) == "cgroup2") { print $5; exit } }' /proc/self/mountinfo)

# What exists on this host and is ours: by the name of this run. With CI=true, where no other agentd works, also by the
# names that agentd gives: its cgroup, and programs that are loaded.
inventory() {
        local mine="age2e-$AGENTD_TEST_RUN-"
        [ "${CI:-}" != true ] || mine="$mine|^cgroup $cgroup_root/agentd|^mount .*/(bats-run|agentd-demo)|^program .* name agentd_"
        {
                ip netns list 2>/dev/null | awk '{ print "namespace " $1 }'
                [ -z "$cgroup_root" ] || find "$cgroup_root" -mindepth 1 -type d 2>/dev/null | sed 's/^/cgroup /'
                awk '{ print "mount " $5 }' /proc/self/mountinfo
                [ "${CI:-}" != true ] || bpftool prog list 2>/dev/null | sed -n 's/^\([0-9]*: .*\)/program \1/p'
        } | grep -E -- "$mine" | LC_ALL=C sort
}

processes_of_this_run() {
        local file pid
        for file in $(grep -l -s -z -x -F "AGENTD_TEST_RUN=$AGENTD_TEST_RUN" /proc/[0-9]*/environ); do
                pid=${file#/proc/}
                pid=${pid%/environ}
                # grep and this shell are children of the run, too, but gone by now.
                [ -r "/proc/$pid/cmdline" ] && printf 'process %s %s\n' "$pid" "$(tr '\0' ' ' < "/proc/$pid/cmdline")"
        done
}

inventory > "$before"
failed_suites=
start=$SECONDS

suite() {
        local name=$1
        shift
        "$@" </dev/null || failed_suites="$failed_suites $name"
}

format() {
        local log
        if log=$(make --no-print-directory BUILD="$BUILD" check-format 2>&1); then
                echo "format   layout of C sources                             1 passed"
                echo "1 0 0" >> "$AGENTD_RESULTS"
        else
                echo "$log" | tail -n 40
                echo "format: make check-format failed; make format mends it"
                echo "0 1 0" >> "$AGENTD_RESULTS"
                return 1
        fi
}

suite format format
for name in check unit bpf e2e attacks fuzz vmtest; do
        suite "$name" make --no-print-directory BUILD="$BUILD" "test-$name"
done
# The same programs under ASan and UBSan, where they parse what others send.
# shellcheck disable=SC2046
suite sanitized env LANES=2 AGENTD_PROGRAM="$PWD/$BUILD/san/agentd" AGENTCTL_PROGRAM="$PWD/$BUILD/san/agentctl" \
        tests/lib/run-suite.sh sanitized $(grep -v "^#" tests/lib/sanitized)

left=$(inventory | LC_ALL=C comm -13 "$before" -; processes_of_this_run)
if [ -n "$left" ]; then
        echo "left behind:"
        echo "$left"
        echo "0 1 0" >> "$AGENTD_RESULTS"
        failed_suites="$failed_suites left-behind"
fi

[ -z "$failed_suites" ] || echo "failed:$failed_suites"
echo "$((SECONDS - start)) s"
awk '{ p += $1; f += $2; s += $3 } END { printf "%d passed, %d failed, %d skipped\n", p, f, s }' "$AGENTD_RESULTS"
[ -z "$failed_suites" ]
