#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# docs/kernels.md claims what guests have shown, and nothing else.

load ../lib/net

@test "the tables of docs/kernels.md are those of the stored results, and nothing in them failed" {
        cd "$TESTS_TOP"
        vmtest/tables check
        for file in vmtest/results/*.json; do
                jq -e '(.refused == true) or ((.failed | length) == 0 and (.programs | length) > 10)' "$file" > /dev/null ||
                        { echo "$file:"; jq .failed "$file"; return 1; }
        done
}

@test "no guest test names a mirror: kernels come from where this system's own sources point" {
        cd "$TESTS_TOP"
        run grep -rnE '(deb|ftp|snapshot|archive|security)\.debian\.org|https?://' vmtest/run vmtest/kernel.bash vmtest/guest.bash vmtest/all vmtest/suite
        assert_equal "$output" ''
}
