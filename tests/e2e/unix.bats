#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Unix sockets of the host: what an agent may not talk to, as the kernel at hand can judge it.

load ../lib/net

setup_file() { net_up; }
teardown_file() { net_down; }
setup() {
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
        write_config '{deny: ["/run/helper/*"]}'
}
teardown() { test_end; }

write_config() {
        CONFIG=$(config unix.yaml <<YAML
policies:
  plain: {}
  web:
    unix: $1
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
YAML
        )
}

needs_connect_unix() {
        run agentctl doctor -o json
        jq -e '.checks[] | select(.name == "connect_unix") | .ok' <<< "$output" > /dev/null || skip "no connect_unix on this kernel"
}

# unix_connect PATH: prints "ok" or the errno's name.
unix_connect() {
        in_agent "$PYTHON" -c '
import errno, socket, sys
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
    print("ok")
except OSError as error:
    print(errno.errorcode[error.errno])
' "$1"
}

@test "denied sockets are EPERM, with an event that has the path and the process" {
        start_daemon "$CONFIG"
        needs_connect_unix
        assert_equal "$(unix_connect /run/helper/a)" EPERM
        assert_equal "$(unix_connect /run/docker.sock)" EPERM
        assert_equal "$(unix_connect /run/other/a)" ENOENT
        wait_event '"path":"/run/docker.sock"'
        event '.path == "/run/helper/a"' | jq -e '.type == "deny" and .reason == "unix_socket" and .hook == "connect_unix"
                and .family == "unix" and .agent == "claude-1" and .policy == "web" and .dst == null
                and (.process.comm | startswith("python3"))'
        run agentctl agents -o json
        jq -e '.agents[0].counters.denied.by_reason.unix_socket == 2' <<< "$output"
}

@test "a socket of the agent's own works, at any path that is not denied" {
        start_daemon "$CONFIG"
        # shellcheck disable=SC2016
        run in_agent "$PYTHON" -c '
import socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
socket.socket(socket.AF_UNIX).connect(sys.argv[1])
one, two = socket.socketpair()
one.send(b"x")
print("ok")
' "$TEST_DIR/own.sock"
        assert_equal "$output" ok
}

@test "a reload changes what is denied" {
        start_daemon "$CONFIG"
        needs_connect_unix
        write_config '{deny: [/run/other/a], defaults: off}'
        run agentctl reload
        assert_match "$output" web
        assert_equal "$(unix_connect /run/helper/a)" ENOENT
        assert_equal "$(unix_connect /run/docker.sock)" ENOENT
        assert_equal "$(unix_connect /run/other/a)" EPERM
        # An unchanged one is left alone.
        run agentctl reload
        refute_match "$output" web
        daemon_stop KILL
        assert_equal "$(unix_connect /run/other/a)" EPERM
        start_daemon "$CONFIG"
        assert_equal "$(unix_connect /run/other/a)" EPERM
        assert_equal "$(unix_connect /run/helper/a)" ENOENT
}

tier_4() {
        run agentctl status -o json
        jq -e '.tiers[] | select(.tier == 4) | .present' <<< "$output" > /dev/null
}

# make_socket FAMILY TYPE: "ok" or the errno's name.
make_socket() {
        in_agent "$PYTHON" -c '
import errno, socket, sys
try:
    socket.socket(int(sys.argv[1]), int(sys.argv[2]))
    print("ok")
except OSError as error:
    print(errno.errorcode[error.errno])
' "$@"
}

@test "packet sockets are refused at their creation, or it is said that they are not" {
        start_daemon "$CONFIG"
        if tier_4; then
                assert_equal "$(make_socket 17 3)" EPERM
                assert_equal "$(make_socket 40 1)" EPERM
                wait_event '"family":"vsock"'
                event '.reason == "packet_socket"' | jq -e '.hook == "socket_create" and .family == "packet" and .agent == "claude-1"
                        and .process.uid == 0 and (.process.comm | startswith("python3"))'
        else
                jq -e '.tiers[] | select(.tier == 4) | .detail | test("LSM")' <<< "$output"
                jq -e '.agents[0].tiers["4"] | (.present | not) and (.detail | test("LSM"))' <<< "$output"
                assert_equal "$(make_socket 17 3)" ok
        fi
}

@test "what this kernel cannot enforce is exit status 4, and changes nothing" {
        start_daemon "$CONFIG"
        write_config '{outside: deny}'
        if tier_4; then
                agentctl reload
                assert_equal "$(unix_connect "$TEST_DIR/agentd.sock")" EPERM
                wait_event '"path":"[^"]*agentd.sock"'
                return 0
        fi
        run agentctl reload
        assert_equal "$status" 4
        assert_match "$output" "outside: deny.*needs LSM programs"
        run agentctl status -o json
        jq -e '.agents[0].state == "enforcing"' <<< "$output"
        daemon_stop
        run in_ns host timeout 20 "$AGENTD" serve --config "$CONFIG"
        assert_equal "$status" 4
        run in_ns agent timeout 20 "$AGENTD" run --config "$CONFIG" --policy web -- true
        assert_equal "$status" 125
        run "$AGENTD" check --config "$CONFIG"
        assert_equal "$status" 0
}

@test "doctor tells what was tried" {
        start_daemon "$CONFIG"
        run agentctl doctor -o json
        jq -e '[.checks[] | select(.name == "lsm_cgroup" or .name == "connect_unix")] | length == 2' <<< "$output"
        jq -e '.checks[] | select(.name == "lsm_cgroup") | .ok or (.detail | test("refuses|not called"))' <<< "$output"
}
