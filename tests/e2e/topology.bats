#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The tests' own world: a recorder that misses nothing and a judge that can say no. Without these, "did not arrive"
# would prove nothing.

load ../lib/net

setup_file() { net_up; }
teardown_file() { net_down; }
setup() { test_begin; }
teardown() { test_end; }

@test "servers of both families answer from the address that was asked" {
        in_ns agent curl -sS -m 5 http://203.0.113.9/
        in_ns agent curl -sSk -m 5 'https://[2001:db8:1::7]:8443/'
        assert_equal "$(in_ns agent dig +time=2 "@$DNS_SERVER" www.example.test +short)" 198.51.100.10
        assert_equal "$(in_ns agent dig +time=2 @2001:db8:53::53 foo.wild.test aaaa +short)" 2001:db8:1::20
        assert_equal "$(in_ns agent dig +time=2 "@$DNS_SERVER" many.example.test +short | wc -l)" 150
        assert_equal "$(in_ns agent "$PYTHON" "$TESTS_TOP/tests/lib/probe.py" udp/10.20.0.5/8000 udp/2001:db8:1::7/8000 \
                tcp/10.20.0.5/22 icmp/192.0.2.7 icmp/fd00:ec2::254 | grep -c ' ok$')" 5
}

@test "what arrives is recorded by address, protocol, port and name" {
        in_ns agent "$PYTHON" "$TESTS_TOP/tests/lib/probe.py" tcp/203.0.113.9/80 udp/203.0.113.9/8000 icmp/203.0.113.9
        in_ns agent dig +time=2 "@$DNS_SERVER" evil.example +short
        assert_arrived 203.0.113.9 tcp 80
        assert_arrived 203.0.113.9 udp 8000
        assert_arrived 203.0.113.9 icmp
        assert_arrived "$DNS_SERVER" udp 53
        recorded 'name=evil\.example( |$)'
        # A prefix of an address, or another port, is another thing.
        refute_arrived 203.0.113.90
        refute_arrived 203.0.113.9 tcp 443
}

@test "the judge says leaked when it did arrive, and forgets what came before the mark" {
        in_ns agent curl -s -m 5 http://203.0.113.9/
        run refute_arrived 203.0.113.9
        assert_equal "$status" 1
        assert_match "$output" 'leaked'
        recorder_mark agent
        refute_arrived 203.0.113.9
}

@test "the judge fails when the recorder is gone" {
        recorder=$(head -n 1 "$NET_DIR/pids")
        kill -STOP "$recorder"
        WAIT_SECONDS=1 run refute_arrived 203.0.113.9
        kill -CONT "$recorder"
        assert_equal "$status" 1
}
