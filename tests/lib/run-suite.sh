#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Runs one suite: run-suite.sh SUITE PROGRAM...
#
# A program is a cmocka binary, a .bats file or a libFuzzer binary (suite `fuzz`). Output of what fails is shown in full, the rest
# is one line a program. The status is non-zero when a test failed, when a program ended without telling its count, and,
# with CI=true, when a test was skipped that tests/lib/allowed-skips does not name. AGENTD_RESULTS, when set, is a file
# that gets one line "passed failed skipped". LANES, when set, is how many programs run side by side; each tells when it
# has ended.
set -u

top=$(cd "$(dirname "$0")/../.." && pwd)
cd "$top" || exit 1
suite=$1
shift

BUILD=${BUILD:-build}
export BUILD AGENTD_TEST_RUN=${AGENTD_TEST_RUN:-$$}
output=$(mktemp -d "${TMPDIR:-/tmp}/agentd-suite.XXXXXX")
trap 'rm -rf "$output"' EXIT
trap 'exit 130' INT TERM

# Counts of cmocka: "[  PASSED  ] 3 test(s)." and the like, summed over its groups.
count_cmocka() {
        sed -n "s/^\[  $1 *\] \([0-9][0-9]*\) test(s).*/\1/p" "$2" | awk '{ n += $1 } END { print n + 0 }'
}

skips_of() {
        sed -n -e 's/^ok [0-9]* \(.*\) # skip \{0,1\}\(.*\)/\1: \2/p' -e 's/^\[  SKIPPED \] \([^0-9].*\)/\1/p' "$1" | sort -u
}

forbidden_skips() {
        skips_of "$1" | while read -r skip; do
                allowed=
                while read -r pattern _; do
                        case $pattern in '' | '#'*) continue ;; esac
                        # shellcheck disable=SC2254
                        case $skip in $pattern*) allowed=yes ;; esac
                done < tests/lib/allowed-skips
                [ -n "$allowed" ] || echo "$skip"
        done
}

# One JSON line a test: suite, file, test, result.
json_of() {
        sed -n -e 's/^ok [0-9]* \(.*\) # skip.*/skipped \1/p' -e '/^ok .* # skip/d' -e 's/^ok [0-9]* \(.*\)/passed \1/p' \
                -e 's/^not ok [0-9]* \(.*\)/failed \1/p' -e 's/^\[ *OK \] \([^0-9].*\)/passed \1/p' \
                -e 's/^\[  SKIPPED \] \([^0-9].*\)/skipped \1/p' -e 's/^\[  FAILED  \] \([^0-9].*\)/failed \1/p' "$2" | sort -u |
                sed -e 's/[\\"]/\\&/g' -e "s|^\([a-z]*\) \(.*\)|{\"suite\":\"$suite\",\"file\":\"$1\",\"test\":\"\2\",\"result\":\"\1\"}|"
}

run_fuzzer() {
        local program=$1 name corpus
        name=$(basename "$program")
        corpus=tests/fuzz/corpus/${name%_fuzz}
        mkdir -p "$output/$name"
        # The corpus first: what was found once must not come back. Then a short search, bounded in time and memory.
        if [ -d "$corpus" ]; then
                "$program" -runs=0 -rss_limit_mb=1024 -artifact_prefix="$output/" "$corpus" || return
        fi
        "$program" -seed="${FUZZ_SEED:-1}" -max_total_time="${TIME:-10}" -rss_limit_mb=1024 -timeout=10 -print_final_stats=1 \
                -artifact_prefix="$output/" "$output/$name" ${corpus:+$( [ -d "$corpus" ] && echo "$corpus")}
}

# one PROGRAM LANE: runs it and tells.
one() {
        local program=$1 lane=$2 name log start status p f s planned elapsed not_allowed
        name=$(basename "$program")
        log=$output/$lane.log
        start=$(date +%s%N)
        if [ "$suite" = fuzz ]; then
                run_fuzzer "$program" >"$log" 2>&1 </dev/null
        elif [ "${program%.bats}" != "$program" ]; then
                timeout -k 10 "${SUITE_SECONDS:-600}" bats --tap "$program" >"$log" 2>&1 </dev/null
        else
                timeout -k 10 "${SUITE_SECONDS:-300}" "$program" >"$log" 2>&1 </dev/null
        fi
        status=$?
        if [ "$suite" = fuzz ]; then
                p=$((status == 0)) f=0 s=0
        elif [ "${program%.bats}" != "$program" ]; then
                s=$(grep -c '^ok .* # skip' "$log")
                p=$(($(grep -c '^ok ' "$log") - s))
                f=$(grep -c '^not ok ' "$log")
                planned=$(sed -n 's/^1\.\.\([0-9][0-9]*\).*/\1/p' "$log" | head -n 1)
                [ "$((p + f + s))" = "${planned:-none}" ] || [ "$f" -gt 0 ] || status=1
        else
                p=$(count_cmocka PASSED "$log")
                f=$(count_cmocka FAILED "$log")
                s=$(count_cmocka SKIPPED "$log")
                # A program that counts nothing has tested nothing.
                [ "$((p + f + s))" -gt 0 ] || status=1
        fi
        [ "$status" = 0 ] || [ "$f" -gt 0 ] || f=1
        elapsed=$((($(date +%s%N) - start) / 100000000))
        printf '%-8s %-44s %4d passed' "$suite" "$name" "$p"
        [ "$f" = 0 ] || printf ', %d FAILED' "$f"
        [ "$s" = 0 ] || printf ', %d skipped' "$s"
        printf '  (%d.%d s)\n' $((elapsed / 10)) $((elapsed % 10))
        if [ "$f" -gt 0 ]; then
                printf -- '--- %s, exit status %d:\n' "$program" "$status"
                # Passed tests of a bats file stay out of the way; everything else is shown.
                if [ "${program%.bats}" != "$program" ]; then grep -v '^ok ' "$log"; else cat "$log"; fi
                printf -- '--- end of %s\n' "$name"
                if [ "$suite" = fuzz ]; then
                        mkdir -p "$BUILD/fuzz/found" && find "$output" -maxdepth 1 -type f ! -name '*.log' ! -name '*.told' ! -name counts -exec cp {} "$BUILD/fuzz/found/" \;
                        echo "inputs are kept in $BUILD/fuzz/found"
                fi
        fi
        if [ -n "${AGENTD_TESTS:-}" ]; then
                json_of "$name" "$log" >> "$AGENTD_TESTS"
                # What ended without a word about it.
                [ "$f" = 0 ] || grep -q "^{\"suite\":\"$suite\",\"file\":\"$name\",.*\"failed\"}\$" "$AGENTD_TESTS" ||
                        echo "{\"suite\":\"$suite\",\"file\":\"$name\",\"test\":\"(the program itself, status $status)\",\"result\":\"failed\"}" >> "$AGENTD_TESTS"
        fi
        [ "$s" = 0 ] || skips_of "$log" | sed 's/^/         skipped: /'
        if [ "${CI:-}" = true ] && [ "$s" -gt 0 ]; then
                not_allowed=$(forbidden_skips "$log")
                if [ -n "$not_allowed" ]; then
                        echo "         skips that tests/lib/allowed-skips does not name fail in CI"
                        f=$((f + 1))
                fi
        fi
        echo "$p $f $s" >> "$output/counts"
}

: > "$output/counts"
lane=0
for program in "$@"; do
        lane=$((lane + 1))
        if [ "${LANES:-1}" -le 1 ]; then
                one "$program" "$lane"
                continue
        fi
        [ "$lane" -le "$LANES" ] || wait -n
        { one "$program" "$lane" > "$output/$lane.told" 2>&1; cat "$output/$lane.told"; } &
done
wait
read -r passed failed skipped < <(awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }' "$output/counts")

printf '%s: %d passed, %d failed, %d skipped\n' "$suite" "$passed" "$failed" "$skipped"
[ -z "${AGENTD_RESULTS:-}" ] || echo "$passed $failed $skipped" >> "$AGENTD_RESULTS"
[ "$failed" = 0 ]
