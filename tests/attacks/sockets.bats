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
        attack_net
}
teardown_file() { net_down; }
setup() { test_begin; }
teardown() { test_end; }

@test "no stream gets out: Fast Open, reconnect, multipath, mapped, repaired, accepted sockets and the like" {
        rounds streams
}

@test "no datagram gets out: changing peers, cork, segments, fragments, splice, broadcast and multicast" {
        rounds datagrams
}

@test "no option takes a packet elsewhere, forges its source or is data itself" {
        rounds options
}

@test "no join of a multicast group is reported: its address would be the message" {
        rounds joins
}

@test "no UDP-Lite, no ping socket and no other transport gets out, even where TCP and UDP may" {
        rounds transports
}

@test "io_uring is no way around: sockets, messages, worker threads, a polling thread" {
        rounds uring
}

@test "port 53 of a server is closed to every technique, allowed address or not" {
        rounds names
}

@test "no raw socket gets out, to a forbidden destination or an allowed one" {
        rounds raw
        event '.type == "deny" and .reason == "raw_socket"'
}
