#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Drift: a pin that somebody unlinks is noticed, reported and made again, so that the daemon's death still ends nothing.

load ../lib/net
load ../lib/judge

setup_file() { net_up; }
teardown_file() { net_down; }
setup() {
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
        CONFIG=$(config drift.yaml <<YAML
policies:
  web:
    egress:
      - {cidr: 10.20.0.0/16}
agents:
  claude-1:
    cgroup: $AGENT_CGROUP
    policy: web
YAML
        )
}
teardown() { test_end; }

@test "an unlinked pin is made again, and the daemon's death ends nothing" {
        start_daemon "$CONFIG"
        pins=$(find "$AGENTD_BPFFS"/agentd/v*/links -name 'egress' -o -path '*/links/*' -name 'connect4')
        [ "$(wc -l <<< "$pins")" -eq 2 ]
        # shellcheck disable=SC2086
        rm $pins
        wait_event '"type":"drift".*claude-1'
        for pin in $pins; do
                [ -e "$pin" ]
        done
        daemon_stop KILL
        judge_table in_agent <<'TABLE'
tcp/203.0.113.9/80       denied
udp/203.0.113.9/8000     denied
tcp/10.20.0.7/80         ok
TABLE
}
