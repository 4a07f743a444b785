#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Containers in gVisor (runsc): with the host's network stack, where the sandbox's own system calls are judged, and with
# a stack of its own, whose packets leave by a packet socket and are seen by the host end of the veth alone. What is
# denied must first arrive without agentd.

load ../lib/net
load ../lib/oci

setup_file() {
        net_up router
        oci_net_up
}
teardown_file() { oci_net_down; }

setup() {
        test_begin
        box_up box1 2
}

teardown() {
        local state
        for state in "$TEST_DIR"/gvisor/*.state; do
                [ ! -e "$state" ] || gvisor host delete --force "$(basename "${state%%_*}")" || true
        done
        containers_down
        daemon_stop
        "$AGENTD" uninstall || true
        [ ! -e "/run/netns/$ID-box1" ] || box_down box1
        test_end
}

# gvisor NETWORK VERB...: runsc in the caller's cgroup. It takes a namespace where /proc/sys/net/core/rmem_default is for
# the host's own and gives it no network; since Linux 6.12 it is in every namespace, so that it is hidden.
gvisor() {
        local network=$1
        shift
        # shellcheck disable=SC2016
        in_ns router timeout 60 unshare -m bash -c '
                address=$(cat /proc/sys/vm/mmap_min_addr)
                mount -t tmpfs none /proc/sys && mkdir /proc/sys/vm && echo "$address" > /proc/sys/vm/mmap_min_addr
                exec runsc --root="$0" --platform=ptrace --ignore-cgroups --network="$@"' "$TEST_DIR/gvisor" "$network" "$@" \
                3>&- 4>&- </dev/null
}

# gvisor_create NAME NETWORK COMMAND...: a sandbox that waits, in a cgroup of its own.
gvisor_create() {
        local name=$1 network=$2
        shift 2
        bundle "$name" box1 . "$@"
        cgroup_make "$name" > /dev/null
        # shellcheck disable=SC2016
        (echo "$BASHPID" > "$CGROUP_ROOT/$TEST_CGROUP/$name/cgroup.procs"
         gvisor "$network" create --bundle "$TEST_DIR/$name" "$name" > "$TEST_DIR/$name/output" 2>&1) ||
                { cat "$TEST_DIR/$name/output" >&2; return 1; }
}

# gvisor_end NAME NETWORK: started, and its processes waited for (`runsc wait` comes too late for what ends at once).
gvisor_end() {
        gvisor "$2" start "$1"
        cgroup_empty "$CGROUP_ROOT/$TEST_CGROUP/$1"
}

# gvisor_sends NAME FORBIDDEN ALLOWED: one datagram to each port, in this order, until the second arrives. Its own stack
# asks for the gateway first and keeps both meanwhile: a program that ends at once would take them with it.
gvisor_sends() {
        gvisor_create "$1" sandbox /bin/busybox sh -c \
                "/bin/first udp 203.0.113.9 $2; /bin/first udp 10.20.0.7 $3; exec /bin/busybox tail -f /dev/null"
}

gvisor_daemon() {
        start_daemon "$(config gvisor.yaml <<'YAML'
policies:
  web:
    egress:
      - {cidr: 10.20.0.0/16}
YAML
        )" router
}

attach() {
        agentctl attach "$1" --cgroup "/$TEST_CGROUP/$1" --policy web > /dev/null
}

agent() {
        agentctl status -o json | jq -ec ".agents[] | select($1)"
}

@test "gVisor with a network stack of its own is confined by tier 3, and doctor says so" {
        gvisor_sends free 9101 9111
        recorder_mark agent
        gvisor sandbox start free
        wait_for "$NET_DIR/packets" 'dst=10\.20\.0\.7 proto=udp dport=9111'
        assert_arrived 203.0.113.9 udp 9101
        gvisor sandbox delete --force free
        # It has taken the interface's address with it.
        box_down box1
        box_up box1 2

        gvisor_daemon
        gvisor_sends held 9102 9112
        attach held
        agent '.name == "held" and .runtime == "gvisor" and (.runtime_detail | test("own network stack.*tier 3 must"))
                and (.tiers["3"].devices | length) == 1'
        agentctl status | grep -E 'held .*runtime: gvisor, its own network stack'
        agentctl doctor | grep -E 'agent +held .*runtime: gvisor'
        recorder_mark agent
        gvisor sandbox start held
        wait_for "$NET_DIR/packets" 'dst=10\.20\.0\.7 proto=udp dport=9112'
        refute_arrived 203.0.113.9 udp 9102
        # The sandbox's own stack does not hear of it: the frame is lost on the way.
        assert_equal "$(cat "$TEST_DIR/held/output")" $'sent\nsent'
        wait_event '203\.0\.113\.9'
        event '.type == "deny" and .agent == "held" and .hook == "device" and .dst.ip == "203.0.113.9"'
}

@test "gVisor with the host's network stack is confined by tiers 1 and 2, beside a container of runc" {
        gvisor_daemon
        gvisor_create held host /bin/first udp 203.0.113.9 9104
        attach held
        agent '.name == "held" and .runtime == "gvisor" and (.runtime_detail | test("--network=host"))'
        policed plain host web . /bin/busybox tail -f /dev/null
        container_start plain
        agent '.name == "plain" and .runtime == "linux" and .runtime_detail == ""'
        recorder_mark agent
        gvisor_end held host
        run runtime exec plain /bin/first udp 203.0.113.9 9104
        [ "$status" != 0 ]
        refute_arrived 203.0.113.9 udp 9104
        grep -F 'not permitted' "$TEST_DIR/held/output"
        wait_event '"agent":"held".*203\.0\.113\.9'
        event '.type == "deny" and .agent == "held" and .dst.ip == "203.0.113.9" and .hook != "device"'
        event '.type == "deny" and .agent == "plain" and .dst.ip == "203.0.113.9"'
        agentctl detach held > /dev/null
        gvisor_create lets host /bin/first udp 10.20.0.7 9105
        attach lets
        gvisor_end lets host
        assert_arrived 10.20.0.7 udp 9105
}

@test "gVisor through the hook: in a cgroup v2 of its own it is enforced, without one it does not start" {
        gvisor_daemon
        policed hooked box1 web . /bin/first udp 203.0.113.9 9106
        recorder_mark agent
        cgroups=$(stat -f -c %T /sys/fs/cgroup)
        # shellcheck disable=SC2016
        run in_ns router timeout 60 unshare -m bash -c '
                address=$(cat /proc/sys/vm/mmap_min_addr)
                mount -t tmpfs none /proc/sys && mkdir /proc/sys/vm && echo "$address" > /proc/sys/vm/mmap_min_addr
                exec runsc --root="$1" --platform=ptrace --network=sandbox run --bundle "$2" hooked 3>&- 4>&- </dev/null' - \
                "$TEST_DIR/gvisor" "$TEST_DIR/hooked"
        if [ "$cgroups" = cgroup2fs ]; then
                assert_equal "$status" 0
                event '.type == "lifecycle" and .agent == "hooked"'
        else
                [ "$status" != 0 ]
                assert_match "$output" 'root cgroup, which is the whole host'
        fi
        refute_arrived 203.0.113.9 udp 9106
}
