#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Configuration errors: each with its place, the key and what would be right; all at once; bounded whatever comes.

load ../lib/net

setup() { TEST_DIR=$BATS_TEST_TMPDIR; }

# check_fails LINE PATTERN [EXIT]: standard input is a file; `agentd check` must end with EXIT (2) and say at LINE what
# PATTERN matches.
check_fails() {
        local line=$1 pattern=$2 expected=${3:-2}
        cat > "$TEST_DIR/bad.yaml"
        run timeout 20 "$AGENTD" check --config "$TEST_DIR/bad.yaml"
        assert_equal "$status" "$expected"
        grep -q -E "^agentd: .*bad\.yaml:$line:[1-9][0-9]*: .*$pattern" <<< "$output" && return 0
        printf 'expected line %s and /%s/, got:\n%s\n' "$line" "$pattern" "$output" >&2
        return 1
}

@test "a good file passes, without root, and prints what would be enforced" {
        cat > "$TEST_DIR/good.yaml" <<'YAML'
version: 1
policies:
  main:
    egress:
      - {cidr: 10.20.0.0/16, ports: [443, 8000-8099/udp]}
      - {domain: API.Example.COM., ports: [443/tcp]}
YAML
        chmod 0755 "$BATS_RUN_TMPDIR" "$(dirname "$BATS_TEST_TMPDIR")" "$TEST_DIR"
        # A copy: the checkout may lie where others cannot look.
        cp "$AGENTD" "$TEST_DIR/agentd"
        run setpriv --reuid 65534 --regid 65534 --clear-groups "$TEST_DIR/agentd" check --config "$TEST_DIR/good.yaml"
        assert_equal "$status" 0
        assert_match "$output" '10\.20\.0\.0/16'
        assert_match "$output" 'api\.example\.com'
}

@test "unknown keys come with a suggestion" {
        check_fails 5 "unknown key 'domians'; did you mean 'domain'\?" <<'YAML'
version: 1
policies:
  main:
    egress:
      - domians: github.com
YAML
        check_fails 2 "unknown key 'policys'; did you mean 'policies'\?" <<'YAML'
version: 1
policys: {}
YAML
        check_fails 2 "unknown key 'upstrem'; did you mean 'upstream'\?" <<'YAML'
version: 1
dns: {upstrem: [system]}
YAML
        check_fails 4 "unknown key 'loopbak'; did you mean 'loopback'\?" <<'YAML'
version: 1
policies:
  main:
    loopbak: deny
YAML
}

@test "duplicate keys, wrong types and a missing version are errors" {
        check_fails 4 "(duplicate|twice).*'?main'?|'main'.*(duplicate|twice)" <<'YAML'
version: 1
policies:
  main: {}
  main: {}
YAML
        check_fails 4 'egress' <<'YAML'
version: 1
policies:
  main:
    egress: everything
YAML
        check_fails 2 '' <<'YAML'
version: 1
policies: []
YAML
        check_fails 1 'version' <<'YAML'
version: 2
YAML
        check_fails '[0-9]+' 'version' <<'YAML'
policies: {}
YAML
        check_fails 4 'mode' <<'YAML'
version: 1
policies:
  main:
    mode: enforced
YAML
        check_fails 4 'allow_private' <<'YAML'
version: 1
policies:
  main:
    allow_private: perhaps
YAML
}

@test "bad addresses, ports and protocols are errors" {
        check_fails 5 'host bits.*10\.20\.0\.0/16|10\.20\.0\.0/16' <<'YAML'
version: 1
policies:
  main:
    egress:
      - cidr: 10.20.3.4/16
YAML
        for cidr in 10.20.0.0/33 10.20.0/16 300.1.2.3 '2001:db8::/129' '2001:db8::1/64' '""' fe80::1%eth0; do
                check_fails 5 '' <<YAML
version: 1
policies:
  main:
    egress:
      - cidr: "${cidr//\"/}"
YAML
        done
        for port in 0 65536 443/sctp 90-80 http '""' -1 1-2-3 443/; do
                check_fails 5 '' <<YAML
version: 1
policies:
  main:
    egress:
      - {cidr: 10.0.0.1, ports: ["${port//\"/}"]}
YAML
        done
        check_fails 5 'protocol' <<'YAML'
version: 1
policies:
  main:
    egress:
      - {cidr: 10.0.0.1, protocol: gre}
YAML
        check_fails 5 '' <<'YAML'
version: 1
policies:
  main:
    egress:
      - {cidr: 10.20.0.0/16, except: [192.0.2.0/24]}
YAML
        check_fails 5 '' <<'YAML'
version: 1
policies:
  main:
    egress:
      - {cidr: 192.0.2.7, protocol: icmp, ports: [80]}
YAML
}

@test "bad domains are errors: empty, a bare star, an address, too long" {
        for domain in '' '*' '*.' 'a..b' '192.0.2.1' 'has space.test' "$(printf 'a%.0s' $(seq 64)).test" '**.test' 'http://x.test/'; do
                check_fails 5 '' <<YAML || { echo "domain: '$domain'"; return 1; }
version: 1
policies:
  main:
    egress:
      - domain: "$domain"
YAML
        done
        check_fails 5 '' <<'YAML'
version: 1
policies:
  main:
    egress:
      - {domain: x.test, cidr: 10.0.0.1}
YAML
        check_fails 5 '' <<'YAML'
version: 1
policies:
  main:
    egress:
      - {ports: [443]}
YAML
}

@test "references to nothing, cycles and overlapping names are errors" {
        check_fails 4 'nothing' <<'YAML'
version: 1
policies:
  main:
    extends: [nothing]
YAML
        check_fails '[3-8]' '(cycle|itself)' <<'YAML'
version: 1
policies:
  one:
    extends: [two]
  two:
    extends: [three]
  three:
    extends: [one]
YAML
        check_fails 4 'nothing' <<'YAML'
version: 1
policies: {main: {}}
agents:
  a: {cgroup: /a, policy: nothing}
YAML
        check_fails '[56]' '(same|twice|duplicate|already|overlap)' <<'YAML'
version: 1
policies: {main: {}}
agents:
  a: {cgroup: /same, policy: main}
  b: {cgroup: /same, policy: main}
YAML
        check_fails '[67]' '(same|twice|duplicate|already)' <<'YAML'
version: 1
policies:
  main:
    egress:
      - {name: x, cidr: 10.0.0.1}
      - {name: x, cidr: 10.0.0.2}
YAML
}

@test "settings of the daemon and of DNS are checked" {
        check_fails 2 'blocked' <<'YAML'
version: 1
dns: {blocked: maybe}
YAML
        for setting in 'upstream: [not-an-address]' 'upstream: [10.0.0.2@99999]' 'upstream: []' 'min_ttl: 5' 'min_ttl: -1s' \
                       'min_ttl: 2h' 'dnssec: perhaps' 'grace: forever'; do
                check_fails 2 '' <<YAML
version: 1
dns: {$setting}
YAML
        done
        check_fails 2 'metrics' <<'YAML'
version: 1
daemon: {metrics: everywhere}
YAML
}

@test "all errors of a file are reported, not the first" {
        check_fails 4 'loopbak' <<'YAML'
version: 1
policies:
  main:
    loopbak: deny
    egress:
      - {cidr: 10.1.2.3/8}
      - {domain: "*"}
      - {cidr: 10.0.0.1, ports: [70000]}
  other:
    extends: [nowhere]
agents:
  a: {cgroup: /a, policy: missing}
YAML
        for line in 4 6 7 8 10 12; do
                assert_match "$output" "bad\.yaml:$line:"
        done
}

@test "keys that this build does not enforce end with 4 and their place" {
        check_fails 4 'bandwidth' 4 <<'YAML'
version: 1
policies:
  main:
    bandwidth: 10Mbit
YAML
        check_fails 5 'bandwidth' 4 <<'YAML'
version: 1
policies:
  main:
    egress:
      - {cidr: 10.0.0.1, bandwidth: 10Mbit}
YAML
        # An error that is an error everywhere outranks it.
        check_fails 4 'bytes' 2 <<'YAML'
version: 1
policies:
  main:
    budget: [{bytes: 0, per: day}]
YAML
}

@test "a wildcard on a public suffix is a warning, not an error" {
        cat > "$TEST_DIR/wide.yaml" <<'YAML'
version: 1
policies:
  main:
    egress:
      - domain: "*.com"
      - domain: "*.co.uk"
      - domain: "*.github.io"
      - domain: "*.example.com"
YAML
        run "$AGENTD" check --config "$TEST_DIR/wide.yaml"
        assert_equal "$status" 0
        for line in 5 6 7; do
                assert_match "$output" "wide\.yaml:$line:[0-9]+: "
        done
        refute_match "$output" 'wide\.yaml:8:[0-9]+: '
}

@test "hostile files end with one clear error, quickly and in bounded memory" {
        bounded() {
                # 400 MiB of address space in all: what reads without bound fails here.
                (ulimit -v 400000; exec timeout 20 "$AGENTD" check --config "$1")
        }
        [[ $AGENTD != */san/* ]] || bounded() { timeout 60 "$AGENTD" check --config "$1"; }
        { printf 'version: 1\npolicies:\n  main: {}\n# '; head -c 104857600 /dev/zero | tr '\0' x; } > "$TEST_DIR/huge.yaml"
        printf 'version: 1\npolicies:\n  ma\0in: {}\n' > "$TEST_DIR/nul.yaml"
        printf 'version: 1\npolicies:\n  "ma\xff\xfein": {}\n' > "$TEST_DIR/latin.yaml"
        { printf 'version: 1\npolicies: '; printf '[%.0s' $(seq 20000); } > "$TEST_DIR/deep.yaml"
        { printf 'version: 1\npolicies: '; printf '{a: %.0s' $(seq 20000); } > "$TEST_DIR/deeper.yaml"
        {
                printf 'version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n'
                for n in $(seq 1 12); do
                        p=$((n - 1))
                        printf 'a%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n' $n $n $p $p $p $p $p $p $p $p $p
                done
        } > "$TEST_DIR/bomb.yaml"
        printf 'version: 1\npolicies: &self {main: *self}\n' > "$TEST_DIR/self.yaml"
        printf 'version: 1\n---\nversion: 1\n' > "$TEST_DIR/two.yaml"
        printf 'version: 1\npolicies: {main: {\n' > "$TEST_DIR/open.yaml"
        printf 'version: 1\n\tpolicies: {}\n' > "$TEST_DIR/tab.yaml"
        printf '%s\n' '- 1' > "$TEST_DIR/list.yaml"
        : > "$TEST_DIR/empty.yaml"
        mkdir "$TEST_DIR/directory.yaml"
        for name in huge nul latin deep deeper bomb self two open tab list empty directory missing; do
                run bounded "$TEST_DIR/$name.yaml"
                assert_match "$status" '^[12]$' || { echo "$name: $output"; return 1; }
                assert_match "$output" "agentd: .*$name\.yaml" || { echo "$name"; return 1; }
                [ "$(wc -c <<< "$output")" -lt 4000 ]
        done
        for name in nul latin deep bomb open; do
                run bounded "$TEST_DIR/$name.yaml"
                assert_equal "$status" 2
        done
        # A pipe is a file that never ends: it must not be waited for without bound either.
        run timeout 20 bash -c "yes 'a: b' | '$AGENTD' check --config /dev/stdin"
        assert_match "$status" '^[12]$'
}

@test "include reads the other files, and its errors name them" {
        mkdir -p "$TEST_DIR/conf.d"
        printf 'version: 1\ndaemon: {include: [conf.d/*.yaml]}\nagents: {a: {cgroup: /a, policy: added}}\n' > "$TEST_DIR/main.yaml"
        printf 'version: 1\npolicies:\n  added: {egress: [{cidr: 192.0.2.0/24}]}\n' > "$TEST_DIR/conf.d/added.yaml"
        run "$AGENTD" check --config "$TEST_DIR/main.yaml"
        assert_equal "$status" 0
        assert_match "$output" '192\.0\.2\.0/24'
        printf 'version: 1\npolicies:\n  wrong: {egres: []}\n' > "$TEST_DIR/conf.d/wrong.yaml"
        run "$AGENTD" check --config "$TEST_DIR/main.yaml"
        assert_equal "$status" 2
        assert_match "$output" 'conf\.d/wrong\.yaml:3:[0-9]+: '
        rm "$TEST_DIR/conf.d/wrong.yaml"
        printf 'version: 1\npolicies: {added: {}}\n' > "$TEST_DIR/conf.d/again.yaml"
        run "$AGENTD" check --config "$TEST_DIR/main.yaml"
        assert_equal "$status" 2
        assert_match "$output" 'added'
}

@test "agentctl policy validate says the same, without a daemon" {
        printf 'version: 1\npolicies:\n  main: {egres: []}\n' > "$TEST_DIR/bad.yaml"
        run env AGENTD_SOCKET="$TEST_DIR/none.sock" "$AGENTCTL" policy validate "$TEST_DIR/bad.yaml"
        assert_equal "$status" 2
        assert_match "$output" "bad\.yaml:3:[0-9]+: unknown key 'egres'; did you mean 'egress'\?"
        printf 'version: 1\npolicies:\n  main: {egress: []}\n' > "$TEST_DIR/good.yaml"
        run env AGENTD_SOCKET="$TEST_DIR/none.sock" "$AGENTCTL" policy validate "$TEST_DIR/good.yaml"
        assert_equal "$status" 0
}

@test "the configuration of the contract's example is refused for what is missing, and for nothing else" {
        # Everything of it but the keys that end with 4.
        run "$AGENTD" check --config "$TESTS_TOP/configs/agentd.yaml"
        assert_equal "$status" 0
}
