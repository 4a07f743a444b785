#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Real containers by a real runtime (runc), with the capabilities that Docker gives, started through `agentd oci-hook`
# and judged at the far end. What is denied must first arrive without agentd.

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
        containers_down
        daemon_stop
        "$AGENTD" uninstall || true
        for box in /run/netns/"$ID"-box*; do
                [ ! -e "$box" ] || ip netns del "$(basename "$box")"
        done
        test_end
}

containers_config() {
        config oci.yaml <<YAML
policies:
  web:
    egress:
      - {cidr: 10.20.0.0/16}
    ingress:
      - {cidr: 10.200.1.0/24, ports: [80]}
  closed: {}
  tiers:
    required: [device_guard]
    egress:
      - {cidr: 10.20.0.0/16}
  names:
    egress:
      - {domain: www.example.test, ports: [80]}
$1
YAML
}

containers_daemon() {
        start_daemon "$(containers_config "${1:-}")" router
}

# agent FILTER: of `agentctl status`.
agent() {
        agentctl status -o json | jq -ec ".agents[] | select($1)"
}

@test "the first instruction of a container is confined, and without the hook it is not" {
        containers_daemon
        for kind in udp frame; do
                bundle free box1 . /bin/first "$kind" 203.0.113.9 9001
                recorder_mark agent
                container_run free
                assert_arrived 203.0.113.9 udp 9001

                policed held box1 web . /bin/first "$kind" 203.0.113.9 9001
                recorder_mark agent
                run container_run held
                refute_arrived 203.0.113.9 udp 9001
                policed lets box1 web . /bin/first "$kind" 10.20.0.7 9002
                recorder_mark agent
                if ! container_run lets > "$TEST_DIR/lets/output"; then
                        assert_equal "$kind $(cat "$TEST_DIR/lets/output")" 'frame Operation not permitted'
                        agentctl status -o json | jq -e '.tiers[3].present'
                        continue
                fi
                assert_arrived 10.20.0.7 udp 9002
        done
        wait_event '"type":"deny".*203\.0\.113\.9.*"container"'
        event '.type == "deny" and .agent == "held" and .container.id == "held" and .dst.ip == "203.0.113.9"'
        # A packet socket is seen by the host end of the veth alone, or is not to be had: tier 4.
        event '.type == "deny" and .agent == "held" and (.hook == "device" or .hook == "socket_create")'
}

@test "a container whose policy requires the device guard starts behind it" {
        containers_daemon
        policed guarded box1 tiers . /bin/busybox tail -f /dev/null
        container_start guarded
        agent '.name == "guarded" and .state == "enforcing" and (.tiers["3"].devices | length) == 1
                and .container.id == "guarded" and .runtime == "linux"'
        # On the host's network there is no veth to guard: it does not start.
        policed bare host tiers . /bin/first udp 10.20.0.7 9003
        recorder_mark agent
        run container_run bare
        [ "$status" != 0 ]
        assert_match "$output" 'device_guard'
        refute_arrived 10.20.0.7 udp 9003
}

@test "a published port is an ingress rule's, names are answered, and no network is no trouble" {
        containers_daemon
        in_ns router nft -f - <<'NFT'
table ip published {
        chain in { type nat hook prerouting priority dstnat; iifname "eth0" tcp dport 8080 dnat to 10.88.0.2:80; }
}
NFT
        policed served box1 web . /bin/busybox httpd -f -p 80 -h /www
        container_start served
        in_ns outside curl -sS -m 5 --retry 20 --retry-connrefused --retry-delay 0 http://10.200.1.20:8080/ | grep 'served by a container'
        container_end served
        policed closed box1 closed . /bin/busybox httpd -f -p 80 -h /www
        container_start closed
        run in_ns outside curl -sS -m 2 http://10.200.1.20:8080/
        assert_match "$status" '^(7|28)$'
        in_ns router nft delete table ip published
        container_end closed

        policed named box1 names . /bin/resolve www.example.test 80
        container_run named

        policed alone none web . /bin/busybox tail -f /dev/null
        container_start alone
        agent '.name == "alone" and .state == "enforcing" and .tiers["3"].present'
        run runtime exec alone /bin/first udp 10.20.0.7 9004
        assert_match "$output" 'unreachable'
}

@test "on the host's network only the container is confined" {
        containers_daemon
        policed hosted host web . /bin/busybox tail -f /dev/null
        container_start hosted
        recorder_mark agent
        run runtime exec hosted /bin/first udp 203.0.113.9 9005
        [ "$status" != 0 ]
        runtime exec hosted /bin/first udp 10.20.0.7 9006
        refute_arrived 203.0.113.9 udp 9005
        assert_arrived 10.20.0.7 udp 9006
        in_ns router "$NET_DIR/rootfs/bin/first" udp 203.0.113.9 9007
        assert_arrived 203.0.113.9 udp 9007
        agent '.name == "hosted" and (.tiers["3"].present | not)'
}

@test "what is executed in a running container, and cgroups below it, are the same agent" {
        containers_daemon
        policed deep box1 web '.linux.cgroupsPath += "/scope"' /bin/busybox tail -f /dev/null
        container_start deep
        cgroup=$CGROUP_ROOT/$TEST_CGROUP/deep/scope
        mkdir "$cgroup/below" "$cgroup/below/that"
        recorder_mark agent
        run runtime exec deep /bin/first udp 203.0.113.9 9008
        [ "$status" != 0 ]
        runtime exec deep /bin/first udp 10.20.0.7 9009
        # One that goes into a child of the container's cgroup.
        # shellcheck disable=SC2016
        run bash -c 'echo $$ > "$1/below/that/cgroup.procs" && exec nsenter --net="$2" "$3" udp 203.0.113.9 9010' - \
                "$cgroup" "/run/netns/$ID-box1" "$NET_DIR/rootfs/bin/first"
        [ "$status" != 0 ]
        refute_arrived 203.0.113.9 udp
        assert_arrived 10.20.0.7 udp 9009
        [ "$(agentctl status -o json | jq '.agents | length')" = 1 ]
}

@test "a container that starts again under its name is confined again, also when it had crashed" {
        containers_daemon
        for round in 1 2 3; do
                policed again box1 web . /bin/busybox tail -f /dev/null
                container_start again
                agent '.name == "again" and .state == "enforcing"'
                recorder_mark agent
                run runtime exec again /bin/first udp 203.0.113.9 9011
                [ "$status" != 0 ]
                refute_arrived 203.0.113.9 udp 9011
                if [ "$round" = 2 ]; then # the runtime dies with its container: nothing tells of the end
                        echo 1 > "$CGROUP_ROOT/$TEST_CGROUP/again/cgroup.kill"
                        cgroup_empty "$CGROUP_ROOT/$TEST_CGROUP/again"
                        rm -rf "$TEST_DIR/runtime/again"
                else
                        container_end again
                        assert_equal "$(agentctl status -o json | jq '.agents | length')" 0
                fi
        done
}

@test "fifty containers at once are confined each before its first instruction" {
        local n
        containers_daemon
        for n in $(seq 50); do
                policed "many$n" host web . /bin/busybox sh -c "/bin/first udp 203.0.113.9 $((20000 + n)); /bin/first udp 10.20.0.7 $((20000 + n))"
        done
        recorder_mark agent
        for n in $(seq 50); do
                background runtime run --bundle "$TEST_DIR/many$n" "many$n" > "$TEST_DIR/many$n/output" 2>&1
                pids[n]=$!
        done
        for n in $(seq 50); do
                wait "${pids[n]}" || { cat "$TEST_DIR/many$n/output"; return 1; }
        done
        refute_arrived 203.0.113.9 udp
        assert_equal "$(recorded '^dst=10\.20\.0\.7 proto=udp dport=200' | sort -u | wc -l)" 50
        assert_equal "$(grep -l 'not permitted' "$TEST_DIR"/many*/output | wc -l)" 50
}

# refused NAME PATTERN: the runtime gives it up, the reason is told, and nothing of it has run.
refused() {
        recorder_mark agent
        run container_run "$1"
        [ "$status" != 0 ]
        assert_match "$output" "$2"
        refute_arrived 10.20.0.7 udp
}

@test "a container that cannot be enforced does not start" {
        policed early box1 web . /bin/first udp 10.20.0.7 9012
        refused early 'cannot reach the daemon at .*agentd\.sock'

        containers_daemon 'agents: {boss: {cgroup: /no/such/boss, policy: web}}'
        policed boss box1 web '.annotations["agentd.name"] = "boss"' /bin/first udp 10.20.0.7 9012
        refused boss "has an agent 'boss' with another cgroup"
        policed unknown box1 nothing . /bin/first udp 10.20.0.7 9012
        refused unknown "no policy 'nothing'"
        policed empty box1 web '.annotations["agentd.policy"] = ""' /bin/first udp 10.20.0.7 9012
        refused empty 'no policy'
        policed odd box1 web '.annotations["agentd.name"] = "a b"' /bin/first udp 10.20.0.7 9012
        refused odd 'agentd\.name'
        policed first box1 web '.annotations["agentd.name"] = "same"' /bin/busybox tail -f /dev/null
        container_start first
        policed second none web '.annotations["agentd.name"] = "same"' /bin/first udp 10.20.0.7 9012
        refused second "agent 'same' exists already"
        # A daemon that is stopped in its tracks answers nobody.
        policed hung none web . /bin/first udp 10.20.0.7 9012
        hook_add hung --timeout 500ms
        jq '.hooks.createRuntime |= [last]' "$TEST_DIR/hung/config.json" > "$TEST_DIR/hung/c" && mv "$TEST_DIR/hung/c" "$TEST_DIR/hung/config.json"
        kill -STOP "$DAEMON"
        refused hung 'has not answered in time'
        kill -CONT "$DAEMON"
}

@test "a container without the annotation is left alone, unless the hook requires one" {
        containers_daemon
        bundle plain box1 . /bin/first udp 203.0.113.9 9013
        hook_add plain
        recorder_mark agent
        container_run plain
        assert_arrived 203.0.113.9 udp 9013

        bundle strict box1 . /bin/first udp 10.20.0.7 9014
        hook_add strict --require
        refused strict 'has no annotation agentd\.policy'
        bundle given box1 . /bin/first udp 203.0.113.9 9015
        hook_add given --policy web
        recorder_mark agent
        run container_run given
        refute_arrived 203.0.113.9 udp 9015
        policed chosen box1 closed . /bin/first udp 10.20.0.7 9016
        jq '.hooks.createRuntime[0].args += ["--allow", "web"]' "$TEST_DIR/chosen/config.json" > "$TEST_DIR/chosen/c" && mv "$TEST_DIR/chosen/c" "$TEST_DIR/chosen/config.json"
        refused chosen "policy 'closed', which this hook does not --allow"
}

# hook_with PID [ID]: the hook by hand, with a process that is no container's.
hook_with() {
        jq -nc --argjson pid "$1" --arg bundle "$TEST_DIR" '{ociVersion: "1.0.2", id: "x", status: "creating", pid: $pid, bundle: $bundle,
                annotations: {"agentd.policy": "web"}}' | "$AGENTD" oci-hook
}

# hook_told STATUS JQ [OPTION...]: the hook by hand, told of a container that JQ makes odd.
hook_told() {
        local expected=$1 filter=$2
        shift 2
        jq -nc --arg bundle "$TEST_DIR/told" "{ociVersion: \"1.0.2\", id: \"x\", status: \"creating\", pid: 1, bundle: \$bundle} | $filter" > "$TEST_DIR/told.json"
        run "$AGENTD" oci-hook "$@" < "$TEST_DIR/told.json"
        assert_equal "$status:$output" "$expected:$output"
}

@test "what names a policy and is not understood, or not to be trusted, ends the start; it is not taken for none" {
        mkdir -p "$TEST_DIR/told" "$TEST_DIR/data/containers/x"
        echo '{}' > "$TEST_DIR/told/config.json"
        hook_told 0 .
        hook_told 1 '.annotations = {"agentd.policy": 7}'
        assert_match "$output" 'is no text'
        echo '{"annotations": {"agentd.policy": ["web"]}}' > "$TEST_DIR/told/config.json"
        hook_told 1 .
        # An image may bring the annotation; the policy that the host gives it is not for the image to replace.
        echo '{}' > "$TEST_DIR/told/config.json"
        hook_told 1 '.annotations = {"agentd.policy": "open"}' --policy web
        assert_match "$output" "policy 'open', which this hook does not --allow"
        # runc calls the hook like this while it restores a checkpoint.
        hook_told 1 '.status = "stopped" | .annotations = {"agentd.policy": "web"}'
        assert_match "$output" 'restored from a checkpoint'
        hook_told 0 '.status = "stopped"'
        # Docker with another data-root: its labels are beside what it mounts.
        jq -n --arg data "$TEST_DIR/data" '{mounts: [{destination: "/etc/hosts", source: ($data + "/containers/x/hosts")}]}' > "$TEST_DIR/told/config.json"
        echo '{"ID": "x", "Config": {"Labels": {"agentd.policy": "web"}}}' > "$TEST_DIR/data/containers/x/config.v2.json"
        hook_told 1 . --allow none
        assert_match "$output" "policy 'web', which this hook does not --allow"
        echo '{"ID": "y", "Config": {"Labels": {"agentd.policy": "web"}}}' > "$TEST_DIR/data/containers/x/config.v2.json"
        hook_told 0 . --allow none
}

@test "the root cgroup and the runtime's own are refused" {
        containers_daemon
        # The process of a runtime without cgroups is where its caller is: here, in the root.
        background tail -f /dev/null
        process=$!
        echo "$process" > "$CGROUP_ROOT/cgroup.procs"
        run hook_with "$process"
        assert_equal "$status" 1
        assert_match "$output" 'root cgroup, which is the whole host'
        mkdir "$CGROUP_ROOT/$TEST_CGROUP/shared"
        export AGENTD TEST_DIR
        echo "$process" > "$CGROUP_ROOT/$TEST_CGROUP/shared/cgroup.procs"
        # shellcheck disable=SC2016
        run bash -c 'echo $BASHPID > "$1/cgroup.procs"; '"$(declare -f hook_with)"'; hook_with "$2"' - "$CGROUP_ROOT/$TEST_CGROUP/shared" "$process"
        assert_equal "$status" 1
        assert_match "$output" 'is not its own'
        kill "$process"
        run hook_with 4194304
        assert_equal "$status" 1
        assert_match "$output" 'cannot find the cgroup v2 of its process'
        assert_equal "$(agentctl status -o json | jq '.agents | length')" 0
}

@test "what is no state of a container is refused with a word, and so are wrong options" {
        for text in '' '[]' '{"id":"x"' '{"id":"../x","status":"creating","pid":1,"bundle":"/"}' \
                    '{"id":"x","status":"sleeping","pid":1,"bundle":"/"}' '{"id":"x","status":"creating","pid":-1,"bundle":"/"}' \
                    '{"id":"x","status":"creating","pid":1,"bundle":"here"}'; do
                run "$AGENTD" oci-hook <<< "$text"
                assert_equal "$status" 1
                assert_match "$output" '^agentd: oci-hook: standard input is no state of a container: '
        done
        run bash -c 'head -c 1100000 /dev/zero | tr "\0" " " | "$1" oci-hook' - "$AGENTD"
        assert_equal "$status" 1
        for options in --frob --timeout '--timeout soon' '--timeout 0s' unexpected; do
                # shellcheck disable=SC2086
                run "$AGENTD" oci-hook $options < /dev/null
                assert_equal "$status" 2
        done
        "$AGENTD" oci-hook --help | grep -q createRuntime
}

@test "the runtime wrapper for Docker adds the hook, once" {
        containers_daemon
        bundle wrapped box1 '.annotations["agentd.policy"] = "web"' /bin/first udp 203.0.113.9 9017
        recorder_mark agent
        for round in 1 2; do # a bundle that is started again has one hook, not two
                run env AGENTD="$AGENTD" AGENTD_HOOK_ARGS="--socket $AGENTD_SOCKET --require" AGENTD_RUNTIME="$RUNC" \
                        nsenter --net="/run/netns/$ID-router" "$TESTS_TOP/configs/oci/agentd-runtime" --root "$TEST_DIR/runtime" run --bundle "$TEST_DIR/wrapped" wrapped
                assert_match "$output" 'not permitted'
        done
        refute_arrived 203.0.113.9 udp 9017
        jq -e '.hooks | (.createRuntime | length) == 1 and (.poststop | length) == 1' "$TEST_DIR/wrapped/config.json"
        # Which command lines get the hook: those that start something, and what could be one.
        printf '#!/bin/sh\n' > "$TEST_DIR/fake"
        chmod 0755 "$TEST_DIR/fake"
        while read -r wanted line; do
                echo '{}' > "$TEST_DIR/wrapped/config.json"
                # shellcheck disable=SC2086
                (cd "$TEST_DIR/wrapped" && AGENTD_RUNTIME="$TEST_DIR/fake" "$TESTS_TOP/configs/oci/agentd-runtime" $line)
                assert_equal "$(jq 'has("hooks")' "$TEST_DIR/wrapped/config.json") $line" "$wanted $line"
        done <<'LINES'
true --root /run/x --log create --log-format json create --bundle . --pid-file p one
true run one
true --debug --systemd-cgroup restore one
true --platform state create one
true --platform=kvm run one
false --root run state one
false --debug exec one run
false exec -t one create
false kill one
false --version
LINES
        AGENTD="$AGENTD" AGENTD_RUNTIME="$RUNC" "$TESTS_TOP/configs/oci/agentd-runtime" --version
}

@test "a daemon that comes back knows its containers, and one that is gone lets none start" {
        containers_daemon
        policed kept box1 web '.annotations["org.opencontainers.image.ref.name"] = "docker.io/library/kept:1"' /bin/busybox tail -f /dev/null
        container_start kept
        agent '.container == {id: "kept", name: null, image: "docker.io/library/kept:1", engine: null}'
        daemon_stop KILL
        recorder_mark agent
        run runtime exec kept /bin/first udp 203.0.113.9 9018
        refute_arrived 203.0.113.9 udp 9018
        containers_daemon
        agent '.name == "kept" and .state == "enforcing" and .policy == "web"'
        daemon_stop
        policed late none web . /bin/first udp 10.20.0.7 9012
        refused late 'cannot reach the daemon'
}
