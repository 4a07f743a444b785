# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash
#
# Real containers: OCI bundles, a low-level runtime, and a host (namespace `router`, where the daemon and the runtime
# work) with a bridge, behind which the containers are:
#
#     box1, box2, ... --- br0 10.88.0.1 (router) --- outside (recorder, servers)
#
# Each box is a namespace with one veth, made before the container as engines do.

RUNC=${RUNC:-runc}

# Where the world has to be made by setup_file: net_up router; oci_net_up
oci_net_up() {
        ip -n "$ID-router" link add br0 type bridge mcast_snooping 0
        ip -n "$ID-router" link set br0 address 02:00:00:00:58:01
        ip -n "$ID-router" addr add 10.88.0.1/24 dev br0
        ip -n "$ID-router" link set br0 up
        in_ns router sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.br0.rp_filter=0 \
                net.ipv4.conf.eth0.rp_filter=0 net.ipv6.conf.br0.disable_ipv6=1
        ip -n "$ID-outside" route add 10.88.0.0/24 via 10.200.1.20
        # The markers' sender: never an agent.
        box_up agent 200
        mkdir -p "$NET_DIR/rootfs/bin" "$NET_DIR/rootfs/www" "$NET_DIR/rootfs/proc" "$NET_DIR/rootfs/dev" "$NET_DIR/rootfs/sys"
        cp "$(command -v busybox)" "$NET_DIR/rootfs/bin/busybox"
        echo "served by a container" > "$NET_DIR/rootfs/www/index.html"
        musl-gcc -static -O1 -o "$NET_DIR/rootfs/bin/first" "$TESTS_TOP/tests/e2e/first.c"
        musl-gcc -static -O1 -o "$NET_DIR/rootfs/bin/resolve" "$TESTS_TOP/tests/e2e/resolve.c"
        mkdir "$NET_DIR/rootfs/etc"
        echo 'nameserver 10.88.0.1' > "$NET_DIR/rootfs/etc/resolv.conf"
}

# The far end: a marker takes the way that the containers' packets take.
gateway_of() { echo 10.200.1.1; }

# box_up NAME N: namespace NAME at 10.88.0.N.
box_up() {
        ip netns add "$ID-$1"
        ip -n "$ID-$1" link set lo up
        ip -n "$ID-router" link add "v$1" type veth peer name eth0 netns "$ID-$1"
        in_ns "$1" sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1
        in_ns router sysctl -qw "net.ipv6.conf.v$1.disable_ipv6=1"
        ip -n "$ID-$1" addr add "10.88.0.$2/24" dev eth0
        ip -n "$ID-$1" link set eth0 up
        ip -n "$ID-router" link set "v$1" master br0 up
        ip -n "$ID-$1" route add default via 10.88.0.1
}

box_down() {
        ip netns del "$ID-$1"
}

# What Docker gives a container's root.
DOCKER_CAPABILITIES='["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FSETID","CAP_FOWNER","CAP_MKNOD","CAP_NET_RAW","CAP_SETGID","CAP_SETUID",
"CAP_SETFCAP","CAP_SETPCAP","CAP_NET_BIND_SERVICE","CAP_SYS_CHROOT","CAP_KILL","CAP_AUDIT_WRITE"]'

# bundle NAME NETWORK JQ COMMAND...: $TEST_DIR/NAME/config.json. NETWORK: a box, none (a namespace of its own) or host.
# JQ: more changes ("." for none).
bundle() {
        local name=$1 network=$2 filter=$3 namespaces
        shift 3
        case $network in
        host) namespaces='[{"type":"pid"},{"type":"mount"},{"type":"ipc"},{"type":"uts"}]' ;;
        none) namespaces='[{"type":"pid"},{"type":"mount"},{"type":"ipc"},{"type":"uts"},{"type":"network"}]' ;;
        *) namespaces='[{"type":"pid"},{"type":"mount"},{"type":"ipc"},{"type":"uts"},{"type":"network","path":"/run/netns/'$ID-$network'"}]' ;;
        esac
        mkdir -p "$TEST_DIR/$name"
        jq -n --argjson namespaces "$namespaces" --argjson capabilities "$DOCKER_CAPABILITIES" --arg rootfs "$NET_DIR/rootfs" \
                --arg cgroup "/$TEST_CGROUP/$name" '{
                ociVersion: "1.0.2",
                process: {user: {uid: 0, gid: 0}, cwd: "/", env: ["PATH=/bin"], args: $ARGS.positional,
                          capabilities: {bounding: $capabilities, effective: $capabilities, permitted: $capabilities}},
                root: {path: $rootfs, readonly: true},
                hostname: "box",
                mounts: [{destination: "/proc", type: "proc", source: "proc"},
                         {destination: "/dev", type: "tmpfs", source: "tmpfs", options: ["nosuid", "mode=755"]}],
                linux: {namespaces: $namespaces, cgroupsPath: $cgroup}} | '"$filter" \
                --args -- "$@" > "$TEST_DIR/$name/config.json"
}

# policed NAME NETWORK POLICY JQ COMMAND...: the same with the annotation and the hook as configs/oci has it.
policed() {
        local name=$1 network=$2 policy=$3 filter=$4
        shift 4
        bundle "$name" "$network" ".annotations[\"agentd.policy\"] = \"$policy\" | $filter" "$@"
        hook_add "$name"
}

# hook_add NAME [OPTION...]: into each stage that the file names.
hook_add() {
        local name=$1
        shift
        jq --slurpfile hook "$TESTS_TOP/configs/oci/agentd-hook.json" --arg agentd "$AGENTD" --arg socket "$AGENTD_SOCKET" \
                --argjson wait "$WAIT_SECONDS" '
                ($hook[0].hook | .path = $agentd | .args += ["--socket", $socket, "--timeout", "\($wait)s"] + $ARGS.positional
                        | .timeout = $wait + 20) as $entry
                | reduce $hook[0].stages[] as $stage (.; .hooks[$stage] += [$entry])' --args -- "$@" \
                < "$TEST_DIR/$name/config.json" > "$TEST_DIR/$name/config.hooked"
        mv "$TEST_DIR/$name/config.hooked" "$TEST_DIR/$name/config.json"
}

# runtime VERB...: on the host.
runtime() {
        in_ns router timeout $((WAIT_SECONDS * 6)) "$RUNC" --root "$TEST_DIR/runtime" "$@" 3>&- 4>&- </dev/null
}

# container_run NAME: to its end; its output on ours.
container_run() {
        runtime run --bundle "$TEST_DIR/$1" "$1"
}

# container_start NAME: left running, its output in $TEST_DIR/NAME/output.
container_start() {
        runtime run --detach --bundle "$TEST_DIR/$1" "$1" > "$TEST_DIR/$1/output" 2>&1 || { cat "$TEST_DIR/$1/output" >&2; return 1; }
}

container_end() {
        runtime delete --force "$1"
}

containers_down() {
        local state
        for state in "$TEST_DIR"/runtime/*; do
                [ ! -d "$state" ] || runtime delete --force "$(basename "$state")" || true
        done
}

# Where cgroup v1 is mounted as well, the runtime has made parents there.
oci_net_down() {
        local directory
        for directory in /sys/fs/cgroup/*/"$ID"; do
                case $directory in
                "$CGROUP_ROOT"/* | *'*'*) ;;
                *) find "$directory" -depth -type d -exec rmdir {} + ;;
                esac
        done
        net_down
}
