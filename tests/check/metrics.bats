#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The rules and the dashboard in configs/ name what there is, and promtool agrees.

load ../lib/net

setup() { cd "$TESTS_TOP"; }

# The names that the daemon writes; a histogram's have suffixes.
written() {
        grep -oE '"agentd_[a-z_]+"' agentd/daemon_metrics.c | tr -d '"' | sort -u
}
named_in() {
        grep -oE 'agentd_[a-z_]+' "$@" | sed 's/_bucket$//' | sort -u
}

@test "every metric of the rules and of the dashboard is one that the daemon writes" {
        written > "$BATS_TEST_TMPDIR/written"
        [ "$(wc -l < "$BATS_TEST_TMPDIR/written")" -gt 15 ]
        jq -r '[.panels[].targets[].expr, .templating.list[].query] | .[]' configs/grafana/agentd.json > "$BATS_TEST_TMPDIR/queries"
        yq_exprs=$(sed -n 's/^ *expr: //p' configs/prometheus/agentd.rules.yml)
        echo "$yq_exprs" >> "$BATS_TEST_TMPDIR/queries"
        named_in -h "$BATS_TEST_TMPDIR/queries" > "$BATS_TEST_TMPDIR/named"
        assert_equal "$(comm -13 "$BATS_TEST_TMPDIR/written" "$BATS_TEST_TMPDIR/named")" ''
}

@test "every metric that the daemon writes is in docs/metrics.md" {
        named_in -h docs/metrics.md > "$BATS_TEST_TMPDIR/told"
        assert_equal "$(written | grep -vE '_(bucket|sum|count)$' | comm -23 - "$BATS_TEST_TMPDIR/told")" ''
}

@test "the dashboard's panels have titles, places of their own and queries" {
        jq -e '(.panels | map(.id) | unique | length) == (.panels | length)
                and (.panels | map(.gridPos | [.x, .y]) | unique | length) == (.panels | length)
                and (.panels | all(.title != "" and (.targets | length) > 0))' configs/grafana/agentd.json
}

@test "the alert rules are valid and fire when they must" {
        command -v promtool > /dev/null || skip "promtool is not here"
        promtool check rules configs/prometheus/agentd.rules.yml
        promtool test rules configs/prometheus/agentd.test.yml
        # Each alert has a test in which it fires, or one in which it must not.
        for alert in $(sed -n 's/^ *- alert: //p' configs/prometheus/agentd.rules.yml); do
                grep -q "alertname: $alert" configs/prometheus/agentd.test.yml || { echo "no test of $alert"; return 1; }
        done
}

@test "every query of the dashboard parses" {
        command -v promtool > /dev/null || skip "promtool is not here"
        {
                printf 'groups: [{name: dashboard, rules: [\n'
                jq -r '.panels[].targets[].expr' configs/grafana/agentd.json | sed 's/\$__rate_interval/5m/g; s/\$instance/.*/g; s/\$agent/.*/g' |
                        awk '{ gsub(/\\/, "\\\\"); gsub(/"/, "\\\""); printf "{record: \"r%d\", expr: \"%s\"},\n", NR, $0 }'
                printf ']}]\n'
        } > "$BATS_TEST_TMPDIR/rules.yml"
        promtool check rules "$BATS_TEST_TMPDIR/rules.yml"
}
