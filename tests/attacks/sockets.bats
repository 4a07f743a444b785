#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Techniques of a process with sockets: as root with everything, as root in Docker's default set, as an ordinary user.

load ../lib/net
load attack

setup_file() {
        net_up
        attack_build
        # So that the first Fast Open already carries data.
        # Reports of the older protocols go to the group itself: each join is known by its address.
        in_ns agent sysctl -qw net.ipv4.tcp_fastopen=0x5 net.ipv4.conf.all.force_igmp_version=2 \
                net.ipv6.conf.all.force_mld_version=1 net.ipv6.conf.eth0.force_mld_version=1
}
teardown_file() { net_down; }
setup() { test_begin; }
teardown() { test_end; }

@test "no stream gets out: Fast Open, reconnect, multipath, mapped, repaired and the like" {
        attack_list 203.0.113 2001:db8:bad: 9000 > "$TEST_DIR/list" <<'LIST'
tcp tcp 4
tcp tcp 6
tcp tcp_nonblocking 4
tcp tcp_nonblocking 6
tcp tcp_fast_open 4
tcp tcp_fast_open 6
tcp tcp_fast_open_sendmsg 4
tcp tcp_fast_open_sendmsg 6
tcp tcp_fast_open_connect 4
tcp tcp_fast_open_connect 6
tcp tcp_reconnect 4
tcp tcp_reconnect 6
tcp tcp_reconnect_fast_open 4
tcp tcp_reconnect_fast_open 6
tcp tcp_multipath 4
tcp tcp_multipath 6
tcp tcp_mapped 4
tcp tcp_bound_to_device 4
tcp tcp_marked 6
tcp tcp_transparent 4
tcp tcp_repaired 4
tcp tcp_repaired 6
LIST
        rounds "$TEST_DIR/list"
}

@test "no datagram gets out: changing peers, cork, segments, fragments, splice, broadcast and multicast" {
        attack_list 203.0.113 2001:db8:bad: 9000 > "$TEST_DIR/list" <<'LIST'
udp udp 4
udp udp 6
udp udp_connected 4
udp udp_connected 6
udp udp_message 4
udp udp_message 6
udp udp_messages 4
udp udp_messages 6
udp udp_changing_peer 4
udp udp_changing_peer 6
udp udp_connected_elsewhere 4
udp udp_connected_elsewhere 6
udp udp_reconnected 4
udp udp_reconnected 6
udp udp_unspecified_family 4
udp udp_mapped 4
udp udp_corked 4
udp udp_corked 6
udp udp_segmented 4
udp udp_segmented 6
udp udp_fragmented 4
udp udp_fragmented 6
udp udp_zero_copy 4
udp udp_spliced 4
udp udp_sent_file 6
udp udp_broadcast 4 10.200.1.255
udp udp_broadcast 4 255.255.255.255
udp udp 4 239.1.2.3
udp udp 6 ff0e::1234
udp udp 6 64:ff9b::cb00:71fe
LIST
        rounds "$TEST_DIR/list"
}

@test "no option that routes takes a packet elsewhere" {
        attack_list 203.0.113 2001:db8:bad: 9000 > "$TEST_DIR/list" <<'LIST'
udp udp_option_route 4
udp udp_option_route_ancillary 4
udp udp_routing_header 6
LIST
        rounds "$TEST_DIR/list"
}

@test "no join of a multicast group is reported: its address would be the message" {
        attack_list 239.7.7 ff0e: 9000 > "$TEST_DIR/list" <<'LIST'
udp udp_join 4
udp udp_join_group 4
udp udp_join 6
udp udp_join_group 6
LIST
        rounds "$TEST_DIR/list"
}

@test "no UDP-Lite and no ping socket gets out" {
        attack_list 203.0.113 2001:db8:bad: 9000 > "$TEST_DIR/list" <<'LIST'
udp udplite 4
udp udplite 6
udp udplite_connected 4
udp udplite_connected 6
udp ping 4
udp ping 6
udp ping_connected 4
udp ping_connected 6
LIST
        rounds "$TEST_DIR/list"
}

@test "no raw socket gets out, to a forbidden destination or an allowed one" {
        for prefixes in '203.0.113 2001:db8:bad:' '10.20.5 2001:db8:1:'; do
                # shellcheck disable=SC2086
                attack_list $prefixes 9000 > "$TEST_DIR/list" <<'LIST'
raw raw_header 4
raw raw_spoofed 4
raw raw_header6 6
raw raw_icmp 4
raw raw_icmp 6
raw raw_udp 4
raw raw_udp 6
raw raw_tcp 4
raw raw_tcp 6
raw raw_experimental 4
raw raw_experimental 6
raw raw_encapsulated 4
LIST
                attack_round root "$TEST_DIR/list"
                attack_round docker "$TEST_DIR/list"
        done
        event '.type == "deny" and .reason == "raw_socket"'
}

@test "UDP-Lite and ping are not opened by a rule for TCP and UDP" {
        attack_list 10.20.6 2001:db8:1: 9000 > "$TEST_DIR/list" <<'LIST'
udp udplite 4
udp udplite 6
udp udplite_connected 4
udp ping 4
udp ping 6
LIST
        rounds "$TEST_DIR/list"
}

@test "io_uring is no way around: sockets, messages, worker threads, a polling thread" {
        attack_list 203.0.113 2001:db8:bad: 9000 > "$TEST_DIR/list" <<'LIST'
uring uring_stream 4
uring uring_stream 6
uring uring_polled 4
uring uring_message 4
uring uring_message 6
uring uring_worker 4
uring uring_fast_open 4
LIST
        rounds "$TEST_DIR/list"
}

@test "port 53 of a forbidden server is closed to every technique" {
        attack_list 203.0.113 2001:db8:bad: 53 > "$TEST_DIR/list" <<'LIST'
tcp tcp 4
tcp tcp 6
tcp tcp_fast_open 4
tcp tcp_fast_open 6
tcp tcp_reconnect 4
tcp tcp_multipath 4
tcp tcp_mapped 4
udp udp 4
udp udp 6
udp udp_connected 4
udp udp_changing_peer 4
udp udp_connected_elsewhere 6
udp udp_mapped 4
udp udp_corked 4
udp udp_fragmented 4
udp udp_segmented 4
udp udp_option_route 4
udp udp_routing_header 6
udp udplite 4
uring uring_message 4
uring uring_fast_open 4
LIST
        attack_round root "$TEST_DIR/list"
        attack_round user "$TEST_DIR/list" void
        # And of a server whose address the policy allows: names are agentd's, whoever is asked.
        attack_list 10.20.8 2001:db8:1: 53 > "$TEST_DIR/list" <<'LIST'
tcp tcp_fast_open 4
udp udp 4
udp udp 6
udp udp_fragmented 4
LIST
        attack_round root "$TEST_DIR/list"
}
