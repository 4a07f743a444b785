#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Address rules on real sockets, judged at the far end, and `policy test` held to the same tables.
#
# A refused ICMPv6 echo of a ping socket is "timeout": the kernel swallows the error of that path.

load ../lib/net
load ../lib/judge

setup_file() { net_up; }
teardown_file() { net_down; }
setup() { test_begin; }
teardown() { test_end; }

# both CONFIG [POLICY]: the table on standard input must hold in the kernel and in `policy test`.
both() {
        local table
        table=$(cat)
        judge_table confined "$1" <<< "$table"
        explain_table "$1" "${2:-main}" <<< "$table"
}

@test "denies everything when a policy has no egress" {
        file=$(config none.yaml <<< 'policies: {main: {}}')
        both "$file" <<'TABLE'
tcp/10.20.0.7/5432       denied
udp/10.20.0.7/8000       denied
tcp/2001:db8:1::7/80     denied
udp/2001:db8:1::7/8000   denied
icmp/192.0.2.7           denied
TABLE
}

@test "denies everything when egress is an empty list" {
        file=$(config empty.yaml <<< 'policies: {main: {egress: []}}')
        both "$file" <<'TABLE'
tcp/10.20.0.7/5432       denied
udp/2001:db8:1::7/8000   denied
TABLE
}

@test "allows an address range but what except takes out" {
        file=$(config except.yaml <<'YAML'
policies:
  main:
    egress:
      - cidr: 10.20.0.0/16
        except: [10.20.0.5/32, 10.20.128.0/17]
YAML
        )
        both "$file" <<'TABLE'
tcp/10.20.0.7/5432       ok
tcp/10.20.0.4/5432       ok
tcp/10.20.0.6/5432       ok
tcp/10.20.0.5/5432       denied
udp/10.20.0.5/8000       denied
tcp/10.20.127.255/80     ok
tcp/10.20.128.0/80       denied
tcp/10.20.255.255/80     denied
tcp/10.9.0.1/80          denied
tcp/203.0.113.9/80       denied
TABLE
}

@test "lets a narrower rule allow what a wider rule excepts" {
        file=$(config nested.yaml <<'YAML'
policies:
  main:
    egress:
      - cidr: 10.20.0.0/16
        except: [10.20.4.0/24]
        ports: [80]
      - cidr: 10.20.4.8/32
        ports: [443]
YAML
        )
        both "$file" <<'TABLE'
tcp/10.20.0.7/80         ok
tcp/10.20.4.7/80         denied
tcp/10.20.4.8/443        ok
tcp/10.20.4.8/80         denied
tcp/10.20.0.7/443        denied
TABLE
}

@test "matches ports, ranges and protocols" {
        file=$(config ports.yaml <<'YAML'
policies:
  main:
    egress:
      - cidr: 10.20.0.0/16
        ports: [5432, 8000-8001/udp, 443/tcp]
YAML
        )
        both "$file" <<'TABLE'
tcp/10.20.0.7/5432       ok
udp/10.20.0.7/5432       ok
udp/10.20.0.7/8000       ok
udp/10.20.0.7/8001       ok
udp/10.20.0.7/8002       denied
tcp/10.20.0.7/443        ok
udp/10.20.0.7/443        denied
tcp/10.20.0.7/80         denied
icmp/10.20.0.7           denied
TABLE
}

@test "a rule without ports means TCP and UDP, not ICMP" {
        file=$(config noports.yaml <<< 'policies: {main: {egress: [{cidr: 2001:db8:1::/48}, {cidr: 192.0.2.0/24}]}}')
        both "$file" <<'TABLE'
tcp/2001:db8:1::7/80     ok
tcp/2001:db8:1::7/9000   ok
udp/2001:db8:1::7/8003   ok
icmp/2001:db8:1::7       timeout
icmp/192.0.2.7           denied
tcp/2001:db8:2::7/80     denied
TABLE
}

@test "opens ICMP by rule, to that address alone" {
        file=$(config icmp.yaml <<'YAML'
policies:
  main:
    egress:
      - cidr: 192.0.2.7
        protocol: icmp
      - cidr: 2001:db8:1::7
        protocol: icmp
      - cidr: 192.0.2.9
        protocol: any
      - cidr: 192.0.2.10
        protocol: udp
YAML
        )
        both "$file" <<'TABLE'
icmp/192.0.2.7           ok
icmp/2001:db8:1::7       ok
icmp/192.0.2.8           denied
icmp/2001:db8:1::8       timeout
tcp/192.0.2.7/80         denied
icmp/192.0.2.9           ok
tcp/192.0.2.9/80         ok
udp/192.0.2.9/8000       ok
udp/192.0.2.10/8000      ok
tcp/192.0.2.10/80        denied
icmp/192.0.2.10          denied
TABLE
}

@test "an IPv4-mapped address is its IPv4 address" {
        file=$(config mapped.yaml <<'YAML'
policies:
  main:
    egress:
      - cidr: 10.20.0.0/24
        ports: [80, 8000]
      - cidr: ::ffff:10.20.1.7
        ports: [80]
YAML
        )
        both "$file" <<'TABLE'
tcp/::ffff:10.20.0.7/80      ok      10.20.0.7
udp/::ffff:10.20.0.7/8000    ok      10.20.0.7
tcp/10.20.1.7/80             ok
tcp/::ffff:203.0.113.9/80    denied  203.0.113.9
udp/::ffff:203.0.113.9/8000  denied  203.0.113.9
TABLE
}

@test "deny wins over every allow, whatever its order or length" {
        file=$(config deny.yaml <<'YAML'
policies:
  main:
    egress:
      - cidr: 10.20.0.0/16
      - cidr: 10.20.1.9/32
      - cidr: 2001:db8::/32
    deny:
      - cidr: 10.20.1.0/24
      - cidr: 10.20.2.0/24
        ports: [80]
      - cidr: 2001:db8:bad::/48
YAML
        )
        both "$file" <<'TABLE'
tcp/10.20.0.7/80         ok
tcp/10.20.1.9/80         denied
udp/10.20.1.9/8000       denied
tcp/10.20.2.9/80         denied
tcp/10.20.2.9/443        ok
tcp/2001:db8:1::7/80     ok
tcp/2001:db8:bad::9/80   denied
TABLE
        confined "$file" curl -s -m 5 http://10.20.1.9/ || true
        event '.type == "deny" and .reason == "deny_rule" and .dst.ip == "10.20.1.9" and (.rule | type) == "string"'
}

@test "extends inherits rules, and an inherited deny holds" {
        file=$(config extends.yaml <<'YAML'
policies:
  base:
    egress:
      - cidr: 10.20.0.0/24
        ports: [80]
    deny:
      - cidr: 10.20.0.66
  more:
    egress:
      - cidr: 192.0.2.0/24
        ports: [443]
  main:
    extends: [base, more]
    egress:
      - cidr: 10.20.0.66
      - cidr: 2001:db8:1::/48
YAML
        )
        table='tcp/10.20.0.7/80    ok
tcp/192.0.2.7/443        ok
tcp/2001:db8:1::7/80     ok
tcp/10.20.0.66/80        denied
tcp/10.20.0.7/443        denied'
        judge_table agentd_run --config "$file" --policy main -- <<< "$table"
        explain_table "$file" main <<< "$table"
        judge_table agentd_run --config "$file" --policy base -- <<'TABLE'
tcp/10.20.0.7/80         ok
tcp/192.0.2.7/443        denied
TABLE
}

@test "metadata addresses are denied even where a rule allows them" {
        file=$(config metadata.yaml <<'YAML'
policies:
  main:
    egress:
      - cidr: 0.0.0.0/0
      - cidr: ::/0
YAML
        )
        both "$file" <<'TABLE'
tcp/203.0.113.9/80           ok
tcp/2001:db8:1::7/80         ok
tcp/169.254.169.254/80       denied
udp/169.254.169.254/8000     denied
tcp/fd00:ec2::254/80         denied
tcp/::ffff:169.254.169.254/80 denied 169.254.169.254
tcp/64:ff9b::a9fe:a9fe/80    denied
TABLE
        confined "$file" curl -s -m 5 http://169.254.169.254/latest || true
        event '.type == "deny" and .reason == "metadata" and .dst.ip == "169.254.169.254"'
}

@test "metadata: allow needs a rule as well" {
        file=$(config metadata-allow.yaml <<'YAML'
policies:
  main:
    metadata: allow
    egress:
      - cidr: 169.254.169.254
        ports: [80]
YAML
        )
        both "$file" <<'TABLE'
tcp/169.254.169.254/80   ok
tcp/169.254.169.254/443  denied
tcp/fd00:ec2::254/80     denied
TABLE
}

@test "an address that embeds a denied IPv4 address is denied" {
        file=$(config embedded.yaml <<'YAML'
policies:
  main:
    egress:
      - cidr: 64:ff9b::/96
      - cidr: 2002::/16
    deny:
      - cidr: 203.0.113.0/24
YAML
        )
        both "$file" <<'TABLE'
tcp/64:ff9b::c633:640a/80      ok
tcp/64:ff9b::cb00:7109/80      denied
tcp/2002:c633:640a::1/80       ok
tcp/2002:cb00:7109::1/80       denied
TABLE
}

@test "loopback: allow reaches local servers, deny does not" {
        for mode in allow deny; do
                file=$(config "loopback-$mode.yaml" <<< "policies: {main: {loopback: $mode}}")
                # The server is the agent's own: it is born in the cgroup, and so is its client.
                # shellcheck disable=SC2016
                run confined "$file" "$PYTHON" -c '
import socket
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.3.2.1"), (socket.AF_INET6, "::1")):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        server = socket.socket(family, kind)
        server.bind((address, 0))
        client = socket.socket(family, kind)
        client.settimeout(2)
        try:
            if kind == socket.SOCK_STREAM:
                server.listen()
            client.connect(server.getsockname())
            client.send(b"x")
            print("ok")
        except PermissionError:
            print("denied")
'
                word=ok
                [ "$mode" = allow ] || word=denied
                assert_equal "$(grep -c -x "$word" <<< "$output")" 6
        done
        event '.type == "deny" and .reason == "loopback" and .dst.ip == "127.0.0.1"'
}

@test "a child cgroup is under the policy of its parent" {
        file=$(config child.yaml <<< 'policies: {main: {egress: [{cidr: 10.20.0.0/16}]}}')
        # shellcheck disable=SC2016
        judge_table confined "$file" bash -c '
                own=$1$(sed -n "s/^0:://p" /proc/self/cgroup)
                shift
                mkdir "$own/child" "$own/child/grandchild" && echo $$ > "$own/child/grandchild/cgroup.procs" && "$@"
                status=$?
                echo $$ > "$own/cgroup.procs" && rmdir "$own/child/grandchild" "$own/child"
                exit $status' - "$CGROUP_ROOT" <<'TABLE'
tcp/10.20.0.7/80         ok
tcp/203.0.113.9/80       denied
udp/203.0.113.9/8000     denied
TABLE
}

@test "private and documentation ranges are what a cidr rule says" {
        file=$(config private.yaml <<< 'policies: {main: {egress: [{cidr: 100.64.0.0/16}, {cidr: 172.16.5.0/24, ports: [80]}]}}')
        both "$file" <<'TABLE'
tcp/100.64.3.4/80        ok
tcp/172.16.5.9/80        ok
tcp/172.16.5.9/443       denied
tcp/198.18.0.1/80        denied
TABLE
}
