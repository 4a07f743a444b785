#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# What `policy test`, `explain` and `agentctl explain` say is what the kernel does.

load ../lib/net
load ../lib/judge

setup_file() { net_up; }
teardown_file() { net_down; }
setup() {
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
        CONFIG=$(config explain.yaml <<YAML
policies:
  base:
    egress:
      - {name: database, cidr: 10.20.0.0/16, except: [10.20.0.5], ports: [5432, 8000-8001/udp]}
      - {name: web, cidr: 2001:db8:1::/48, ports: [80]}
  main:
    extends: [base]
    egress:
      - {name: api, domain: api.example.test, ports: [443]}
      - {domain: "*.wild.test"}
      - {cidr: 192.0.2.7, protocol: icmp}
      - {cidr: 198.18.0.0/24}
    deny:
      - {name: never, cidr: 10.20.1.0/24}
      - {domain: secret.wild.test}
agents: {one: {cgroup: $AGENT_CGROUP, policy: main}}
YAML
        )
}
teardown() { test_end; }

@test "a hundred generated destinations: one answer from the kernel, the daemon and the file" {
        start_daemon "$CONFIG"
        # A fixed seed: the same table each time, and it is printed with what fails.
        "$PYTHON" - > "$TEST_DIR/specs" <<'PY'
import random
random.seed(20)
fixed = ["tcp/10.20.0.5/5432", "tcp/10.20.0.4/5432", "udp/10.20.0.5/8000", "tcp/10.20.1.0/5432", "tcp/10.20.1.255/5432",
         "tcp/10.20.2.0/5432", "tcp/10.19.255.255/80", "icmp/192.0.2.7", "icmp/192.0.2.8", "tcp/169.254.169.254/80",
         "tcp/fd00:ec2::254/80", "tcp/::ffff:10.20.0.7/5432", "udp/::ffff:10.20.1.7/8000", "tcp/64:ff9b::a14:107/80"]
four = ["10.20.0.7", "10.20.0.5", "10.20.1.7", "10.20.200.1", "192.0.2.7", "198.18.0.9", "198.18.1.9", "203.0.113.9"]
six = ["2001:db8:1::7", "2001:db8:2::7", "2001:db8:1:ffff::1"]
specs = dict.fromkeys(fixed)
while len(specs) < 100:
    kind = random.choice(["tcp", "tcp", "udp", "icmp"])
    address = random.choice(four * 2 + six)
    port = {"tcp": [22, 80, 443, 5432, 7000, 9000], "udp": [443, 5432, 7000, 8000, 8001, 8002]}.get(kind)
    specs[f"{kind}/{address}" + (f"/{random.choice(port)}" if port else "")] = None
print("\n".join(specs))
PY
        mapfile -t specs < "$TEST_DIR/specs"
        assert_equal "${#specs[@]}" 100
        PROBE_SECONDS=1 in_agent "$PYTHON" "$TESTS_TOP/tests/lib/probe.py" "${specs[@]}" > "$TEST_DIR/kernel"
        allowed=0 wrong=0
        while read -r spec result; do
                IFS=/ read -r protocol destination port <<< "$spec"
                case $destination in *:*) [ -z "$port" ] || destination="[$destination]" ;; esac
                destination=$destination${port:+:$port}/$protocol
                case $result in
                ok | refused | closed) expected=0 allowed=$((allowed + 1)) ;;
                denied | timeout) expected=1 ;;
                *) echo "$spec: $result"; wrong=$((wrong + 1)) ;;
                esac
                file=0 daemon=0
                "$AGENTCTL" policy test main "$destination" --config "$CONFIG" > "$TEST_DIR/file" 2>&1 || file=$?
                "$AGENTCTL" explain one "$destination" > "$TEST_DIR/daemon" 2>&1 || daemon=$?
                if [ "$file" != "$expected" ] || [ "$daemon" != "$expected" ]; then
                        echo "$spec: kernel '$result', policy test $file, explain $daemon: $(cat "$TEST_DIR/daemon")"
                        wrong=$((wrong + 1))
                fi
        done < "$TEST_DIR/kernel"
        assert_equal "$wrong" 0
        # A table of one colour would prove little.
        [ "$allowed" -ge 15 ] && [ "$allowed" -le 85 ]
}

@test "names: policy test answers by the policy, whatever was looked up" {
        while read -r destination expected; do
                code=0
                "$AGENTCTL" policy test main "$destination" --config "$CONFIG" > "$TEST_DIR/out" 2>&1 || code=$?
                assert_equal "$destination $code" "$destination $expected"
        done <<'TABLE'
api.example.test:443 0
API.Example.Test.:443/tcp 0
api.example.test:80 1
x.wild.test 0
x.y.wild.test:1/udp 0
wild.test 1
secret.wild.test 1
evil.example 1
TABLE
        # Of several, one that is not allowed is enough for 1.
        run "$AGENTCTL" policy test main api.example.test:443 evil.example --config "$CONFIG"
        assert_equal "$status" 1
        run "$AGENTCTL" policy test main api.example.test:443 10.20.0.7:5432 --config "$CONFIG"
        assert_equal "$status" 0
        for bad in 'not a destination' '10.20.0.7:99999' '10.20.0.7:80/gre' '300.1.2.3:80/tcp/x' ''; do
                run "$AGENTCTL" policy test main "$bad" --config "$CONFIG"
                assert_equal "$status" 2
        done
        run "$AGENTCTL" policy test no-such-policy 10.0.0.1 --config "$CONFIG"
        assert_equal "$status" 2
}

@test "explain without a daemon names the rule, its place and the rule that would allow" {
        line=$(grep -n 'name: database' "$CONFIG" | cut -d: -f1)
        run "$AGENTCTL" explain --policy main --config "$CONFIG" 10.20.0.7:5432
        assert_equal "$status" 0
        assert_match "$output" 'database'
        assert_match "$output" "explain\.yaml:$line"
        run "$AGENTCTL" explain --policy main --config "$CONFIG" 10.20.1.7:5432
        assert_equal "$status" 1
        assert_match "$output" 'deny_rule'
        assert_match "$output" 'never'
        run "$AGENTCTL" explain --policy main --config "$CONFIG" 203.0.113.9:443
        assert_equal "$status" 1
        assert_match "$output" 'no_rule'
        assert_match "$output" 'cidr: 203\.0\.113\.9'
        "$AGENTCTL" explain --policy main --config "$CONFIG" 10.20.0.7:5432 -o json | jq -e .
}

@test "explain needs no root" {
        chmod 0644 "$CONFIG"
        cp "$AGENTCTL" "$TEST_DIR/agentctl"
        run setpriv --reuid 65534 --regid 65534 --clear-groups "$TEST_DIR/agentctl" policy test main 10.20.0.7:5432 --config "$CONFIG"
        assert_equal "$status" 0
}
